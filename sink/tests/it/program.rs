//! The program itself: what it prints, and how it exits.

use std::fs::File;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use crate::support::{PATIENCE, Place, message, page_view, until};

fn command(place: &Place, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sink"));
    command
        .args(arguments)
        .env("SINK_CLICKHOUSE_URL", &place.clickhouse_url)
        .env("SINK_CLICKHOUSE_DATABASE", &place.database)
        .env("SINK_KAFKA_BROKERS", place.stack.kafka_brokers())
        .env("SINK_TOPIC_PREFIX", &place.prefix)
        .env("SINK_METRICS_LISTEN", "127.0.0.1:0");
    command
}

/// What programs that were started wrote: into a file, as nobody reads a pipe while they run, and a full one would stop
/// them. Shown when the test fails.
struct Log(NamedTempFile);

impl Log {
    fn new() -> Self {
        Self(NamedTempFile::new().unwrap())
    }

    fn start(&self, place: &Place, arguments: &[&str]) -> Child {
        let log = || File::options().append(true).open(self.0.path()).unwrap();
        command(place, arguments).stdout(log()).stderr(log()).spawn().unwrap()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", std::fs::read_to_string(self.0.path()).unwrap_or_default());
        }
    }
}

/// Runs it to its end, which must come in time. It writes to files: what it prints may be more than a pipe holds.
fn sink(place: &Place, arguments: &[&str]) -> Output {
    let [out, problems] = [NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap()];
    let [to, to_problems] = [&out, &problems].map(|file| file.reopen().unwrap());
    let mut child = command(place, arguments).stdout(to).stderr(to_problems).spawn().unwrap();
    let read = |file: &NamedTempFile| std::fs::read(file.path()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Output { status, stdout: read(&out), stderr: read(&problems) };
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it still runs: {}", String::from_utf8_lossy(&read(&problems)));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn migrate_shows_applies_and_shows_again() {
    let Some(stack) = local::stack_or_skip("migrate_shows_applies_and_shows_again") else { return };
    let place = Place::new(stack, "program");
    assert!(printed(&sink(&place, &["migrate", "--status"])).contains("0001_hits pending"));
    let statements = printed(&sink(&place, &["migrate", "--dry-run", "--cluster=all"]));
    assert!(statements.contains(&format!("CREATE TABLE IF NOT EXISTS {}.hits ON CLUSTER all\n", place.database)));
    assert!(statements.contains("ENGINE = ReplicatedMergeTree\n") && !statements.contains("{engine}"), "{statements}");
    assert_eq!(place.query("SELECT count() FROM system.databases WHERE name = '{database}'"), "0");
    assert!(printed(&sink(&place, &["migrate"])).contains("0001_hits applied"));
    assert!(printed(&sink(&place, &["migrate"])).contains("nothing to do"));
    assert!(printed(&sink(&place, &["migrate", "--status"])).contains("0001_hits applied 20"));
}

#[test]
fn the_exit_code_tells_what_kind_of_change_is_needed() {
    let Some(stack) = local::stack_or_skip("the_exit_code_tells_what_kind_of_change_is_needed") else { return };
    let place = Place::new(stack, "exit_codes");
    let code = |arguments: &[&str]| sink(&place, arguments).status.code();
    assert_eq!(code(&["run", "--batch-rows=0"]), Some(2));
    assert_eq!(code(&["run", "--clickhouse-user=nobody"]), Some(3));
    assert_eq!(code(&["migrate", "--clickhouse-user=analyst"]), Some(3));
    assert_eq!(code(&["run"]), Some(4));
    assert_eq!(code(&["migrate"]), Some(0));
    assert_eq!(code(&["run", "--topic-setup=check"]), Some(5));
}

/// Killed in the middle, it loses nothing: whoever is next under the same name begins after what was committed. The end of
/// what it reads never fills a batch, so that it is always killed with hits in hand.
#[tokio::test(flavor = "multi_thread")]
async fn killed_it_loses_nothing() {
    let Some(stack) = local::stack_or_skip("killed_it_loses_nothing") else { return };
    let place = Place::migrated(stack, "killed").await;
    place.create_topics().await;
    let different = || place.query("SELECT uniqExact(kafka_offset) FROM {database}.hits").parse::<u32>().unwrap();
    let start = |log: &Log, delay: &str| {
        log.start(&place, &["run", "--group-instance-id=one", "--batch-rows=50", delay, "--longest-recovery=60"])
    };
    let log = Log::new();
    for round in 0..2 {
        let hits = (round * 5_010..(round + 1) * 5_010).map(|number| message(&page_view(number, "v", 0, "/")));
        place.produce(0, &hits.collect::<Vec<_>>());
        let before = different();
        let mut child = start(&log, "--batch-delay=600");
        until("it has stored some of them", || different() > before).await;
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(u128::from(different()) < (round + 1) * 5_010, "it was killed too late to show anything");
    }
    let mut child = start(&log, "--batch-delay=0.05");
    until("all are there", || different() == 10_020).await;
    child.kill().unwrap();
    child.wait().unwrap();
}

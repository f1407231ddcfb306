//! Each offset lands in the table once, whatever is killed, paused or reassigned, and wherever.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sink::intents::{self, MOST_RANGES, Range};

use crate::proxy::{Proxy, Trap};
use crate::support::{PATIENCE, Place, message, page_view, until};

/// Rows, and different places in the topic among them: the same number where nothing is there twice.
const COUNTS: &str = "SELECT count(), uniqExact(kafka_partition, kafka_offset) FROM {database}.hits";

fn hits(first: u128, count: u128) -> Vec<Vec<u8>> {
    (first..first + count).map(|number| message(&page_view(number, "v", number as i64, "/"))).collect()
}

/// The program, as a process that can be killed. It is killed when the test ends, too.
struct Program(Child);

impl Program {
    fn start(place: &Place, clickhouse_url: &str, more: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_sink"))
            .args(["run", "--batch-delay=0.1", "--longest-recovery=60", "--group", &place.prefix])
            .args(more)
            .env("SINK_CLICKHOUSE_URL", clickhouse_url)
            .env("SINK_CLICKHOUSE_DATABASE", &place.database)
            .env("SINK_KAFKA_BROKERS", place.stack.kafka_brokers())
            .env("SINK_TOPIC_PREFIX", &place.prefix)
            .env("SINK_METRICS_LISTEN", "127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.0.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A sink is killed while its inserts are where `trap` has them. The next one cuts by other limits.
async fn killed_while(name: &'static str, trap: Trap) {
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, name).await;
    place.create_topics().await;
    let proxy = Proxy::start(stack.clickhouse_url());
    proxy.set(trap);
    (0..2).for_each(|partition| place.produce(partition, &hits(1_000 * partition as u128, 250)));
    let one = ["--group-instance-id=one", "--batch-rows=100", "--concurrent-inserts=2"];
    let mut program = Program::start(&place, &proxy.url(), &one);
    until("inserts are on their way", || proxy.caught() >= 2).await;
    program.kill();
    let left: Vec<_> = (0..2).flat_map(|partition| place.listed(partition)).collect();
    assert!(left.len() >= 2, "{left:?}");
    let stored = place.query(COUNTS);
    if trap != Trap::Unanswered {
        assert_eq!(stored, "0\t0", "none was stored before it was killed");
        // What is late arrives in the middle of what the next one does, or after it.
        proxy.set(Trap::Open);
    } else {
        assert_ne!(stored, "0\t0", "some were stored before it was killed");
    }
    // It goes on after what was left, and that is more by now.
    place.produce(0, &hits(5_000, 50));
    let next = place.start(&["--group-instance-id=one", "--batch-rows=70"]);
    let expected = "550\t550";
    until("all rows are there", || place.query(COUNTS) == expected).await;
    let metrics = next.stop().await.metrics;
    assert_eq!(metrics.replayed_ranges.get(), left.len() as u64);
    assert_eq!(metrics.vanished_ranges.get(), 0);
    proxy.set(Trap::Open);
    assert_eq!(place.query(COUNTS), expected);
    let report = place.audit(&[]).await;
    assert!(report.is_clean(), "{report}");
    assert!((0..2).all(|partition| place.listed(partition).is_empty()));
    assert_eq!((place.committed(0), place.committed(1)), (Some(300), Some(250)));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_list_and_the_insert() {
    killed_while("killed_between_the_list_and_the_insert", Trap::Lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_the_insert() {
    killed_while("killed_in_the_middle_of_the_insert", Trap::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_insert_and_its_acknowledgement() {
    killed_while("killed_between_the_insert_and_its_acknowledgement", Trap::Unanswered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_its_inserts_arrive_later() {
    killed_while("killed_and_its_inserts_arrive_later", Trap::Late).await;
}

/// ClickHouse was killed as well, after it had written the tokens down and before the parts had names: it says of each to have
/// it. Of one offset somebody had the hit erased meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn killed_together_with_clickhouse_that_knows_tokens_of_what_it_has_not() {
    let name = "killed_together_with_clickhouse_that_knows_tokens_of_what_it_has_not";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, name).await;
    place.create_topics().await;
    let proxy = Proxy::start(stack.clickhouse_url());
    proxy.set(Trap::Unanswered);
    place.produce(0, &hits(0, 250));
    let one = ["--group-instance-id=one", "--batch-rows=100"];
    let mut program = Program::start(&place, &proxy.url(), &one);
    until("it is stored", || place.query(COUNTS) == "250\t250" && proxy.caught() >= 3).await;
    program.kill();
    place.query("ALTER TABLE {database}.hits DELETE WHERE kafka_offset < 200 SETTINGS mutations_sync = 2");
    place.query("INSERT INTO {database}.erased_offsets (kafka_partition, first_offset, last_offset) VALUES (0, 5, 5)");
    assert_eq!(place.query(COUNTS), "50\t50");
    let next = place.start(&["--group-instance-id=one"]);
    until("what was left is made again", || place.committed(0) == Some(250)).await;
    next.stop().await;
    assert_eq!(place.query(COUNTS), "249\t249");
    let report = place.audit(&[]).await;
    assert!(report.is_clean(), "{report}");
}

/// What the README says under "Loading again", step by step.
#[tokio::test(flavor = "multi_thread")]
async fn loaded_again_on_purpose_under_a_new_epoch() {
    let Some(stack) = local::stack_or_skip("loaded_again_on_purpose_under_a_new_epoch") else { return };
    let place = Place::migrated(stack, "epoch").await;
    place.create_topics().await;
    place.produce(0, &hits(0, 300));
    let load = async |epoch: &str, expected: &str| {
        let sink = place.start(&["--batch-rows=70", "--epoch", epoch]);
        until("they are loaded", || place.query(COUNTS) == expected && place.committed(0) == Some(300)).await;
        sink.stop().await;
    };
    load("0", "300\t300").await;
    place.query("ALTER TABLE {database}.hits DELETE WHERE kafka_partition = 0 AND kafka_offset >= 100 SETTINGS mutations_sync = 2");
    assert_eq!(place.query(COUNTS), "100\t100");
    let report = place.audit(&[]).await;
    assert_eq!(report.missing(), 200, "{report}");
    place.commit(0, 100, "");
    load("1", "300\t300").await;
    let report = place.audit(&[]).await;
    assert!(report.is_clean(), "{report}");
}

/// The same crash, and somebody takes the lists away: what is protected against is really there.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_list_the_same_crash_doubles() {
    let Some(stack) = local::stack_or_skip("without_the_list_the_same_crash_doubles") else { return };
    let place = Place::migrated(stack, "unlisted").await;
    place.create_topics().await;
    let proxy = Proxy::start(stack.clickhouse_url());
    proxy.set(Trap::Unanswered);
    place.produce(0, &hits(0, 100));
    let session = "--kafka-property=session.timeout.ms=6000";
    let mut program = Program::start(&place, &proxy.url(), &[session, "--batch-rows=100"]);
    until("it is stored", || place.query(COUNTS) == "100\t100" && proxy.caught() > 0).await;
    program.kill();
    // Refused until the group has noticed that its member is gone.
    until("the list is taken away", || place.try_commit(0, 0, "").is_ok()).await;
    let next = place.start(&["--batch-rows=70"]);
    until("it is stored again", || place.query(COUNTS) == "200\t100").await;
    next.stop().await;
    assert_eq!(place.audit(&[]).await.doubled(), 100);
}

/// Paused with inserts on their way until its partitions are another's, a sink wakes up, and its inserts arrive.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_was_paused_over_a_rebalance_doubles_nothing() {
    let name = "a_sink_that_was_paused_over_a_rebalance_doubles_nothing";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, "zombie").await;
    place.create_topics().await;
    let proxy = Proxy::start(stack.clickhouse_url());
    // Kafka takes no shorter one.
    let session = "--kafka-property=session.timeout.ms=6000";
    let zombie = Program::start(&place, &proxy.url(), &[session, "--batch-rows=100"]);
    place.produce(0, &hits(0, 150));
    until("the first are there", || place.query(COUNTS) == "150\t150").await;
    proxy.set(Trap::Late);
    (0..12).for_each(|partition| place.produce(partition, &hits(1_000 * (partition as u128 + 1), 150)));
    until("inserts are on their way", || proxy.caught() >= 2).await;
    zombie.signal("-STOP");
    let next = place.start(&[session, "--batch-rows=70"]);
    until("all rows are there", || place.query(COUNTS) == "1950\t1950").await;
    assert!(next.instruments.metrics.replayed_ranges.get() > 0);
    zombie.signal("-CONT");
    proxy.set(Trap::Open);
    (0..12).for_each(|partition| place.produce(partition, &hits(100_000 * (partition as u128 + 1), 150)));
    until("they share the partitions", || next.instruments.metrics.assigned_partitions.get() == 6).await;
    until("all rows are there", || place.query(COUNTS) == "3750\t3750").await;
    next.stop().await;
    assert_eq!(place.query(COUNTS), "3750\t3750");
    let report = place.audit(&[]).await;
    assert!(report.is_clean(), "{report}");
}

/// A partition that was not read, for want of memory, when it went to another sink is read again when it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_paused_when_it_went_is_read_when_it_comes_back() {
    let name = "what_was_paused_when_it_went_is_read_when_it_comes_back";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, "paused").await;
    place.create_topics().await;
    let proxy = Proxy::start(stack.clickhouse_url());
    proxy.set(Trap::Late);
    (0..12).for_each(|partition| place.produce(partition, &hits(1_000 * partition as u128, 500)));
    let small = ["--memory-limit=1MiB", "--batch-rows=100"];
    let first = place.start(&[small.as_slice(), &["--clickhouse-url", &proxy.url()]].concat());
    let assigned = |sink: &crate::support::Running| sink.instruments.metrics.assigned_partitions.get();
    until("all are paused", || first.instruments.metrics.paused_partitions.get() == 12).await;
    let second = place.start(&[]);
    until("they share the partitions", || assigned(&first) == 6 && assigned(&second) == 6).await;
    proxy.set(Trap::Open);
    until("all rows are there", || place.query(COUNTS) == "6000\t6000").await;
    second.stop().await;
    until("the first has all again", || assigned(&first) == 12).await;
    (0..12).for_each(|partition| place.produce(partition, &hits(100_000 + 1_000 * partition as u128, 50)));
    until("all rows are there", || place.query(COUNTS) == "6600\t6600").await;
    first.stop().await;
}

/// Sinks come, go and are killed while hits come.
#[tokio::test(flavor = "multi_thread")]
async fn sinks_that_come_and_go_under_load_double_nothing() {
    let name = "sinks_that_come_and_go_under_load_double_nothing";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, "load").await;
    place.create_topics().await;
    let url = stack.clickhouse_url();
    let produce = |round: u128| {
        for partition in 0..12_u128 {
            place.produce(partition as i32, &hits(round * 10_000 + partition * 100, 100));
        }
    };
    let rows = |rounds: u32| format!("{0}\t{0}", rounds * 1_200);
    let session = "--kafka-property=session.timeout.ms=6000";
    let first = place.start(&[session, "--batch-rows=30"]);
    let mut second = Program::start(&place, url, &[session, "--batch-rows=40"]);
    produce(0);
    until("the first round is there", || place.query(COUNTS) == rows(1)).await;
    (1..4).for_each(produce);
    second.kill();
    let third = place.start(&[session, "--batch-rows=50"]);
    (4..7).for_each(produce);
    first.stop().await;
    let mut fourth = Program::start(&place, url, &[session, "--batch-rows=60"]);
    (7..10).for_each(produce);
    until("the fourth has a share", || third.instruments.metrics.assigned_partitions.get() < 12).await;
    (10..12).for_each(produce);
    fourth.kill();
    let deadline = std::time::Instant::now() + PATIENCE;
    while place.query(COUNTS) != rows(12) {
        assert!(std::time::Instant::now() < deadline, "{} instead of {}", place.query(COUNTS), rows(12));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    third.stop().await;
    assert_eq!(place.query(COUNTS), rows(12));
    let report = place.audit(&[]).await;
    assert!(report.is_clean(), "{report}");
}

/// Where the topic goes on before the committed offset, ClickHouse would take new hits for old ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_made_anew_is_not_loaded_under_old_tokens() {
    let name = "a_topic_that_was_made_anew_is_not_loaded_under_old_tokens";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, "anew").await;
    place.create_topics().await;
    place.commit(0, 500, "");
    place.produce(0, &hits(0, 10));
    let error = place.start(&[]).end().await;
    assert!(error.to_string().contains("--epoch"), "{error}");
    assert_eq!(error.exit_code(), sink::error::ExitCode::Kafka);
    place.commit(0, 0, "hitmeter/7 something");
    let error = place.start(&[]).end().await;
    assert!(error.to_string().contains("hitmeter/7"), "{error}");
    assert_eq!(place.query(COUNTS), "0\t0");
}

/// Kafka forgets with a topic what a group has committed of it, and the one that is made anew counts from 0 again: the table
/// has hits under these offsets, and ClickHouse the tokens.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_deleted_and_made_anew_is_not_taken_for_the_old_one() {
    let name = "a_topic_that_was_deleted_and_made_anew_is_not_taken_for_the_old_one";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, "deleted").await;
    place.create_topics().await;
    let load = async |numbers: u128, epoch: &str| {
        place.produce(0, &hits(numbers, 10));
        let sink = place.start(&["--batch-delay=600", "--epoch", epoch]);
        until("they are read", || sink.instruments.metrics.received.get() == 10).await;
        sink.stop().await;
    };
    load(0, "0").await;
    assert_eq!(place.query(COUNTS), "10\t10");
    place.delete_topic().await;
    place.create_topics().await;
    let error = place.start(&[]).end().await;
    assert_eq!(error.exit_code(), sink::error::ExitCode::Kafka);
    let told = error.to_string();
    assert!(told.contains(&format!("{}/0", place.topic())) && told.contains("up to offset 9"), "{told}");
    assert!(told.contains("--epoch") && told.contains("offset 10"), "{told}");
    // What it says to do.
    place.commit(0, 0, "");
    load(1_000, "1").await;
    assert_eq!(place.query(COUNTS), "20\t10");
}

/// A sink may be killed when its list is as long as it may be. What it left needs no further room: the next one inserts it,
/// and then goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_full_is_made_again() {
    let Some(stack) = local::stack_or_skip("a_list_that_is_full_is_made_again") else { return };
    let place = Place::migrated(stack, "full_list").await;
    place.create_topics().await;
    let ranges: Vec<_> = (0..MOST_RANGES as i64).map(|first| Range { epoch: "0".into(), first, last: first }).collect();
    place.produce(0, &hits(0, 100));
    place.commit(0, 0, &intents::write(&ranges));
    let sink = place.start(&[]);
    until("all are there", || place.query(COUNTS) == "100\t100").await;
    let metrics = sink.stop().await.metrics;
    assert_eq!(metrics.replayed_ranges.get(), MOST_RANGES as u64);
    assert_eq!(place.committed(0), Some(100));
    let report = place.audit(&[]).await;
    assert!(report.is_clean(), "{report}");
}

/// A listed range of which the topic has no message any more is told, counted, and not waited for.
#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_vanished_is_told_and_not_waited_for() {
    let name = "a_range_that_vanished_is_told_and_not_waited_for";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, "vanished").await;
    place.create_topics().await;
    place.produce(0, &hits(0, 100));
    place.delete_before(0, 50).await;
    place.commit(0, 20, "hitmeter/1 epoch=0 20-29 30-59 60-69");
    let sink = place.start(&[]);
    until("the rest is there", || place.query(COUNTS) == "50\t50").await;
    let metrics = sink.stop().await.metrics;
    assert_eq!((metrics.replayed_ranges.get(), metrics.vanished_ranges.get()), (3, 1));
    assert_eq!(place.committed(0), Some(100));
}

/// A sink that stood still for longer than the topic keeps its messages has lost hits, and says so; what stands at offsets
/// that were never a message's is nothing lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_topic_dropped_before_it_was_read_is_counted() {
    let name = "what_the_topic_dropped_before_it_was_read_is_counted";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, "dropped").await;
    place.create_topics().await;
    (0..2).for_each(|partition| place.produce(partition, &hits(100 * partition as u128, 100)));
    place.delete_before(0, 50).await;
    place.commit(0, 20, "");
    place.commit(1, 20, "");
    let sink = place.start(&[]);
    until("the rest is there", || place.query(COUNTS) == "130\t130").await;
    assert_eq!(sink.stop().await.metrics.expired.get(), 30);
}

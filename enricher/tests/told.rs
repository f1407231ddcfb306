//! What operators read in the log.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::process::{Command, Stdio};
use std::time::Duration;

use common::bed::{Bed, message, raw_hit, without_files};
use schemas::topics::{HITS_DEAD, HITS_RAW};

/// A newer collector may write hits that none of this version's enrichers can read: thousands a second.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_hits_that_cant_be_read_few_lines_tell() {
    const HITS: usize = 3_000;
    let Some(stack) = local::stack_or_skip("of_many_hits_that_cant_be_read_few_lines_tell") else { return };
    let bed = Bed::new(stack, "told");
    bed.options(&without_files()).kafka.set_up_topics("enricher", &[HITS_RAW, HITS_DEAD]).await.unwrap();
    let unreadable = |number| (message(&raw_hit(1, number)).0, b"\xc3\x01unknown!body".to_vec());
    bed.send("hits.raw", &(0..HITS).map(unreadable).collect::<Vec<_>>());
    let log = tempfile::NamedTempFile::new().unwrap();
    let own = [format!("--group={}", bed.group()), "--metrics-listen=127.0.0.1:0".to_owned()];
    let mut enricher = Command::new(env!("CARGO_BIN_EXE_enricher"))
        .args(bed.kafka_words().into_iter().chain(without_files()).chain(own))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.reopen().unwrap())
        .spawn()
        .unwrap();
    bed.read("hits.dead", 3, HITS);
    // What is committed is told of a moment later.
    std::thread::sleep(Duration::from_secs(1));
    enricher.kill().unwrap();
    enricher.wait().unwrap();
    let text = std::fs::read_to_string(log.path()).unwrap();
    let told: Vec<_> = text.lines().filter(|line| line.contains("schema_unknown")).collect();
    assert!((1..=HITS / 20).contains(&told.len()), "{} lines of {HITS} hits", told.len());
    let hits = |line: &&str| line.split("hits=").nth(1).unwrap().split(' ').next().unwrap().parse::<usize>().unwrap();
    assert_eq!(told.iter().map(hits).sum::<usize>(), HITS, "{}", told[0]);
}

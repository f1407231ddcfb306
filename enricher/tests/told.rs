//! What operators read in the log.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::bed::{Bed, PARTITIONS, message, raw_hit, without_files};
use common::until;
use enricher::partners::file::{Format, parse};
use schemas::topics::{HITS_DEAD, HITS_ENRICHED, HITS_RAW, PARTNERS};
use schemas::{PartnerRecord, RecordKey, Writer};

/// Runs an enricher until `is_done` and its log tells of so many, for a reason. Holds that few lines do, and of each one once.
async fn assert_few_tell(bed: &Bed, more: &[&str], is_done: impl FnOnce(), (reason, what, many): (&str, &str, usize)) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let own = [format!("--group={}", bed.group()), "--metrics-listen=127.0.0.1:0".to_owned()];
    let mut enricher = Command::new(env!("CARGO_BIN_EXE_enricher"))
        .args(bed.kafka_words().into_iter().chain(without_files()).chain(own))
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.reopen().unwrap())
        .spawn()
        .unwrap();
    is_done();
    until("all are told of", || counts(log.path(), reason, what).iter().sum::<usize>() >= many).await;
    enricher.kill().unwrap();
    enricher.wait().unwrap();
    let counts = counts(log.path(), reason, what);
    assert!((1..=many / 20).contains(&counts.len()), "{} lines of {many} {what}", counts.len());
    assert_eq!(counts.iter().sum::<usize>(), many, "{counts:?}");
}

/// How many each line tells of that has this reason. The last line may not be whole yet.
fn counts(log: &Path, reason: &str, what: &str) -> Vec<usize> {
    let (text, reason, what) =
        (std::fs::read_to_string(log).unwrap(), format!("reason=\"{reason}\""), format!("{what}="));
    let told = text.split_inclusive('\n').filter(|line| line.ends_with('\n') && line.contains(&reason));
    told.map(|line| line.split(&what).nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()).collect()
}

/// A newer collector may write hits that none of this version's enrichers can read: thousands a second.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_hits_that_cant_be_read_few_lines_tell() {
    const HITS: usize = 3_000;
    let Some(stack) = local::stack_or_skip("of_many_hits_that_cant_be_read_few_lines_tell") else { return };
    let bed = Bed::new(stack, "told");
    bed.options(&without_files()).kafka.set_up_topics("enricher", &[HITS_RAW, HITS_DEAD]).await.unwrap();
    let unreadable = |number| (message(&raw_hit(1, number)).0, b"\xc3\x01unknown!body".to_vec());
    bed.send("hits.raw", &(0..HITS).map(unreadable).collect::<Vec<_>>());
    let is_done = || drop(bed.read("hits.dead", 3, HITS));
    assert_few_tell(&bed, &[], is_done, ("schema_unknown", "hits", HITS)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_partner_records_that_find_no_room_few_lines_tell() {
    const RECORDS: usize = 3_000;
    let Some(stack) = local::stack_or_skip("of_many_partner_records_that_find_no_room_few_lines_tell") else { return };
    let bed = Bed::new(stack, "full");
    bed.options(&without_files()).kafka.set_up_topics("enricher", &[HITS_RAW, HITS_ENRICHED, PARTNERS]).await.unwrap();
    let text: String =
        (0..RECORDS).map(|number| format!("acme,email_domain,example-{number}.com,measurement\n")).collect();
    let text = format!("partner,match_kind,match_value,permitted_uses\n{text}");
    let writer = Writer::single_object::<PartnerRecord<'_>>().unwrap();
    let messages = parse(&text, Format::Csv, 1).records.into_iter().map(|record| {
        let mut value = Vec::new();
        writer.write(&record, &mut value);
        (RecordKey::of(&record).to_bytes(), value)
    });
    bed.send("partners", &messages.collect::<Vec<_>>());
    bed.send("hits.raw", &[message(&raw_hit(1, 1))]);
    let is_done = || drop(bed.read("hits.enriched", PARTITIONS, 1));
    assert_few_tell(&bed, &["--partner-bytes=1"], is_done, ("full", "records", RECORDS)).await;
}

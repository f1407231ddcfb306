//! `sink audit` finds what was planted, and nothing else.

use std::process::Command;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use sink::audit::report::Span;

use crate::support::{PATIENCE, Place, message, page_view, until};

fn hits(first: u128, count: u128) -> Vec<Vec<u8>> {
    (first..first + count).map(|number| message(&page_view(number, "v", number as i64, "/"))).collect()
}

/// Puts messages into partition 2, each list in a transaction of its own, which is committed or not.
fn produce_in_transactions(place: &Place, transactions: &[(Vec<Vec<u8>>, bool)]) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", place.stack.kafka_brokers())
        .set("transactional.id", &place.prefix)
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let topic = place.topic();
    for (messages, is_committed) in transactions {
        producer.begin_transaction().unwrap();
        for message in messages {
            let record = BaseRecord::to(&topic).partition(2).key(b"key".as_slice()).payload(message);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        if *is_committed {
            producer.commit_transaction(PATIENCE).unwrap();
        } else {
            producer.abort_transaction(PATIENCE).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_twice_or_missing_is_named_and_all_else_explained() {
    let name = "what_is_twice_or_missing_is_named_and_all_else_explained";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, "audit").await;
    place.create_topics().await;
    let clean = place.audit(&[]).await;
    assert!(clean.is_clean(), "an empty table and an empty topic: {clean}");

    // Offsets 0-99, one of them unreadable; the marker of the commit is 100. Then 101-105 and the marker of the abort,
    // 106; then 107-116 and the marker 117.
    let mut first = hits(0, 100);
    first[40] = b"nothing".to_vec();
    produce_in_transactions(&place, &[(first, true), (hits(100, 5), false), (hits(200, 10), true)]);
    place.produce(5, &hits(1_000, 50));
    let sink = place.start(&[]);
    until("all are there", || place.query("SELECT count() FROM {database}.hits") == "159").await;
    sink.stop().await;
    let report = place.audit(&[]).await;
    assert!(report.is_clean(), "{report}");
    let of = |report: &sink::audit::report::Report| report.partitions[2].clone();
    // 117 is after the last acknowledged offset.
    assert_eq!((of(&report).rows, of(&report).checked, of(&report).dead), (109, 117, 1));
    assert_eq!(of(&report).gaps, [Span { first: 40, last: 40 }, Span { first: 100, last: 106 }]);
    let status_by = |group: &str, more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sink"))
            .args(["audit", "--group", group, "--topic-prefix", &place.prefix])
            .args(["--kafka-brokers", stack.kafka_brokers(), "--clickhouse-url", &place.clickhouse_url])
            .args(["--clickhouse-database", &place.database])
            .args(more)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let status = |more: &[&str]| status_by(&place.prefix, more);
    assert_eq!(status(&[]).0, Some(0));
    // Of a group that nobody has nothing is acknowledged, and so nothing could ever be missing.
    assert_eq!(status_by("nobodys", &[]), (Some(5), String::new()));

    place.query(
        "INSERT INTO {database}.hits SELECT * FROM {database}.hits WHERE kafka_partition = 2 AND kafka_offset IN (7, 8, 60)",
    );
    // The first, the last, and some in between.
    place.query(
        "ALTER TABLE {database}.hits DELETE WHERE kafka_partition = 2 AND kafka_offset IN (0, 30, 31, 116) \
         SETTINGS mutations_sync = 2",
    );
    place.query("ALTER TABLE {database}.hits DELETE WHERE kafka_partition = 5 SETTINGS mutations_sync = 2");
    let report = place.audit(&[]).await;
    let doubles: Vec<_> = of(&report).doubles.iter().map(|(span, _)| *span).collect();
    assert_eq!(doubles, [Span { first: 7, last: 8 }, Span { first: 60, last: 60 }]);
    assert_eq!(of(&report).missing, [0, 30, 31, 116]);
    assert_eq!(report.partitions[5].missing, (0..50).collect::<Vec<i64>>());
    assert_eq!((report.doubled(), report.missing()), (3, 54));
    let (code, told) = status(&[]);
    assert_eq!(code, Some(6), "{told}");
    assert!(told.contains("partition 2: DOUBLE: offsets 7-8 in the table more than once\n"), "{told}");
    assert!(told.contains("partition 2: MISSING: offsets 30-31 neither"), "{told}");
    // All came just now, so that before an hour ago there is nothing, and from then on there is all.
    assert_eq!(status(&["--to", "1h"]).0, Some(0));
    assert_eq!(status(&["--from", "1h"]).0, Some(6));

    // What is no longer in the topic can't be told; what is there twice still is.
    place.delete_before(2, 35).await;
    let report = place.audit(&[]).await;
    assert_eq!((of(&report).missing, of(&report).before_the_beginning), (vec![116], 3));
    assert_eq!(of(&report).doubles.len(), 2);
}

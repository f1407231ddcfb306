//! The spool behind the collector: hits are taken while the broker is away, and given to it in order when it is back.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod support;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::time::Duration;

use support::{Fixture, POST, connect, header, status_of};

fn with_spool(folder: &std::path::Path, more: &[&str]) -> Fixture {
    let spool = ["--spool", folder.to_str().unwrap()];
    Fixture::start(&[&spool[..], more].concat())
}

fn outcome(collector: &Fixture, visitor: &str, number: usize) -> (u16, String) {
    let response = collector.get(&format!("/p.gif?site=demo&visitor={visitor}&p.number={number}"), &[]);
    (response.status().as_u16(), header(&response, "x-hitmeter-outcome").unwrap().to_owned())
}

/// Numbers of each visitor's hits, in the order in which they were published, each hit id once.
fn published(collector: &Fixture) -> HashMap<String, Vec<usize>> {
    let mut numbers: HashMap<String, Vec<usize>> = HashMap::new();
    let mut known = std::collections::HashSet::new();
    collector.hits(|_, hit| {
        if known.insert(hit.hit_id) {
            let number = hit.properties.get("number").unwrap().parse().unwrap();
            numbers.entry(hit.visitor_id.into_owned()).or_default().push(number);
        }
    });
    numbers
}

#[test]
fn while_the_broker_is_away_hits_are_spooled_and_afterwards_published_in_order() {
    let folder = tempfile::tempdir().unwrap();
    // Long enough that a busy machine is not taken for a broker that is away.
    let collector = with_spool(folder.path(), &["--publish-deadline", "3000"]);
    assert_eq!(outcome(&collector, "a", 0), (200, "accepted".to_owned()));
    collector.broker.broker_down(1).unwrap();
    for number in 1..20 {
        for visitor in ["a", "b", "c"] {
            assert_eq!(outcome(&collector, visitor, number), (200, "spooled".to_owned()));
        }
    }
    assert_eq!(collector.get("/ready", &[]).status().as_u16(), 200, "it takes hits, so it is ready");
    assert!(collector.metrics.spool_bytes.get() > 0);

    collector.broker.broker_up(1).unwrap();
    let mut number = 20;
    collector.until("hits go to the broker again", || {
        number += 1;
        outcome(&collector, "a", number).1 == "accepted"
    });
    collector.until("the spool is published", || collector.metrics.spool_published.get() >= 57);
    collector.until("nothing of it stays on the disk", || collector.metrics.spool_bytes.get() == 0);
    let published = published(&collector);
    assert_eq!(published["b"], (1..20).collect::<Vec<_>>());
    assert_eq!(published["a"], (0..20).chain(21..=number).collect::<Vec<_>>());
    collector.assert_outcomes_add_up();
}

/// An answer that comes after the deadline is one all the same.
#[test]
fn what_kafka_acknowledges_late_is_not_published_again() {
    let folder = tempfile::tempdir().unwrap();
    let collector = with_spool(folder.path(), &[]);
    collector.broker.broker_round_trip_time(1, Duration::from_millis(1500)).unwrap();
    // At once, so that they are given to the client before it is known to be slow.
    let requests: Vec<_> = (0..8)
        .map(|visitor| {
            let (address, path) = (collector.address, format!("/p.gif?site=demo&visitor={visitor}&p.number=1"));
            std::thread::spawn(move || status_of(address, &path))
        })
        .collect();
    requests.into_iter().for_each(|request| assert_eq!(request.join().unwrap(), 200));
    assert_eq!(collector.outcomes(), HashMap::from([("spooled", 8)]));
    collector.until("they are passed over", || collector.metrics.spool_bytes.get() == 0);
    assert_eq!(collector.metrics.spool_published.get(), 8);
    collector.broker.broker_round_trip_time(1, Duration::ZERO).unwrap();
    assert_eq!(collector.hits(|_, _| ()), 8, "messages, not ids");
    collector.until("hits go to the broker again", || outcome(&collector, "0", 2).1 == "accepted");
    assert_eq!(published(&collector)["0"], [1, 2]);
    collector.assert_outcomes_add_up();
}

/// Neither where the answer comes at the end, while a client that never asks to the end is waited for.
#[test]
fn what_kafka_acknowledges_at_the_end_is_not_published_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = with_spool(folder.path(), &["--shutdown-deadline", "12"]);
    // Kafka's client needs several answers before it sends the first hit.
    collector.until("the broker takes hits", || outcome(&collector, "a", 0).1 == "accepted");
    collector.until("nothing is in the spool", || collector.metrics.spool_bytes.get() == 0);
    let before = collector.hits(|_, _| ());
    collector.broker.broker_round_trip_time(1, Duration::from_millis(2500)).unwrap();
    assert_eq!(outcome(&collector, "a", 1), (200, "spooled".to_owned()));
    let mut slow = connect(collector.address);
    slow.write_all(b"POST /v1/hits HTTP/1.1\r\nhost: x\r\ncontent-length: 15\r\nexpect: 100-continue\r\n\r\n").unwrap();
    slow.read_exact(&mut [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()]).unwrap();
    collector.shutdown.cancel();
    let task = collector.task.take().unwrap();
    collector.runtime.block_on(task).unwrap();
    collector.broker.broker_round_trip_time(1, Duration::ZERO).unwrap();
    assert_eq!(collector.hits(|_, _| ()), before + 1);
    drop(slow);
    let next = with_spool(folder.path(), &[]);
    next.until("nothing is in the spool", || next.metrics.spool_bytes.get() == 0);
    assert_eq!(next.metrics.spool_published.get(), 0);
}

#[test]
fn what_is_spooled_survives_the_process_and_another_configuration() {
    let folder = tempfile::tempdir().unwrap();
    {
        let mut collector = with_spool(folder.path(), &[]);
        collector.broker.broker_down(1).unwrap();
        assert_eq!(outcome(&collector, "a", 1).1, "spooled");
        assert_eq!(outcome(&collector, "a", 2).1, "spooled");
        collector.shutdown.cancel();
        let task = collector.task.take().unwrap();
        collector.runtime.block_on(task).unwrap();
    }
    // Another broker, and a spool that is smaller than what it holds.
    let collector = with_spool(folder.path(), &["--spool-bytes", "100"]);
    collector.until("it is published", || collector.metrics.spool_published.get() == 2);
    assert_eq!(published(&collector)["a"], [1, 2]);
}

#[test]
fn a_full_spool_says_so_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let collector = with_spool(folder.path(), &["--spool-bytes", "2000"]);
    collector.broker.broker_down(1).unwrap();
    let mut number = 0;
    collector.until("the spool is full", || {
        number += 1;
        outcome(&collector, "a", number) == (503, "failed_spool".to_owned())
    });
    let ready = collector.get("/ready", &[]);
    assert!(String::from_utf8_lossy(ready.body()).contains("spool"), "{:?}", ready.body());
    collector.broker.broker_up(1).unwrap();
    collector.until("it is ready again", || collector.get("/ready", &[]).status() == 200);
    collector.until("it takes hits", || outcome(&collector, "b", 1).0 == 200);
    collector.assert_outcomes_add_up();
}

#[test]
fn a_hit_whose_client_hung_up_is_spooled_all_the_same() {
    for request in [&b"GET /p.gif?site=demo&visitor=a&p.number=1 HTTP/1.1\r\nhost: x\r\n\r\n"[..], POST] {
        let folder = tempfile::tempdir().unwrap();
        let collector = with_spool(folder.path(), &[]);
        collector.broker.broker_down(1).unwrap();
        let mut stream = std::net::TcpStream::connect(collector.address).unwrap();
        stream.write_all(request).unwrap();
        collector.until("the hit is received", || collector.metrics.received.get() == 1);
        drop(stream);
        collector.until("it is in the spool", || collector.metrics.spool_bytes.get() > 0);
        collector.assert_outcomes_add_up();
    }
}

#[test]
fn what_is_too_old_is_counted_and_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let collector = with_spool(folder.path(), &["--spool-age", "0"]);
    collector.broker.broker_down(1).unwrap();
    assert_eq!(outcome(&collector, "a", 1).1, "spooled");
    collector.until("it has expired", || collector.metrics.spool_expired.get() == 1);
}

#[test]
fn a_spool_file_that_is_gone_is_counted_and_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    // A file of these holds a few hits; long enough that a busy machine is not taken for a broker that is away.
    let collector = with_spool(folder.path(), &["--spool-bytes", "8000", "--publish-deadline", "3000"]);
    collector.broker.broker_down(1).unwrap();
    let mut spooled = 0;
    let files = || {
        let entries = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "spool")).collect();
        files.sort();
        files
    };
    while files().len() < 3 {
        assert_eq!(outcome(&collector, &format!("visitor-{spooled}"), spooled), (200, "spooled".to_owned()));
        spooled += 1;
    }
    std::fs::remove_file(&files()[1]).unwrap();
    collector.broker.broker_up(1).unwrap();
    collector.until("the others are published", || collector.metrics.spool_bytes.get() == 0);
    let lost = collector.metrics.spool_lost.get();
    assert!(lost > 0 && collector.metrics.spool_published.get() == spooled as u64 - lost, "{lost} of {spooled}");
    let published = published(&collector);
    assert_eq!(published.len() as u64, spooled as u64 - lost);
    assert!(published.contains_key(&format!("visitor-{}", spooled - 1)), "what comes after it");
    let missing = (0..spooled).find(|number| !published.contains_key(&format!("visitor-{number}"))).unwrap();
    collector.until("its visitors' hits go to the broker again", || {
        outcome(&collector, &format!("visitor-{missing}"), spooled).1 == "accepted"
    });
    collector.assert_outcomes_add_up();
}

#[test]
fn a_folder_is_one_collectors_alone() {
    let folder = tempfile::tempdir().unwrap();
    let _first = with_spool(folder.path(), &[]);
    let second = std::panic::catch_unwind(|| with_spool(folder.path(), &[]));
    assert!(second.is_err());
}

#[test]
fn it_starts_while_the_broker_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = "127.0.0.1:1";
    let collector = with_spool(folder.path(), &["--kafka-property", &format!("bootstrap.servers={nowhere}")]);
    assert_eq!(outcome(&collector, "a", 1), (200, "spooled".to_owned()));
}

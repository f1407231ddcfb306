//! What happens when the broker does not answer, clients are slow or hang up, and at the end.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use support::{Fixture, header, status_of, try_status_of};

fn broker_down(collector: &Fixture) {
    collector.broker.broker_down(1).unwrap();
}

#[test]
fn without_the_broker_the_answer_is_503_and_readiness_false_and_both_recover() {
    let collector = Fixture::start(&["--publish-deadline", "500"]);
    broker_down(&collector);
    let pixel = collector.get("/p.gif?site=demo", &[]);
    assert_eq!((pixel.status().as_u16(), pixel.body().len()), (503, 43));
    assert_eq!(header(&pixel, "x-hitmeter-outcome"), Some("failed_broker"));
    let post = collector.post("/v1/hits", &[], r#"{"site":"demo"}"#);
    assert_eq!(post.status().as_u16(), 503);
    assert!(header(&post, "retry-after").is_some());
    collector.until("readiness is false", || collector.get("/ready", &[]).status() == 503);
    assert_eq!(collector.get("/health", &[]).status().as_u16(), 200);

    collector.broker.broker_up(1).unwrap();
    collector.until("readiness is true again", || collector.get("/ready", &[]).status() == 200);
    collector.until("hits are taken again", || collector.get("/p.gif?site=demo", &[]).status() == 200);
    collector.assert_outcomes_add_up();
}

#[test]
fn what_waits_for_the_broker_is_bounded_in_bytes() {
    let collector = Fixture::start(&["--publish-deadline", "20000", "--queue-bytes", "2000"]);
    broker_down(&collector);
    let address = collector.address;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..20).map(|_| scope.spawn(|| status_of(address, "/p.gif?site=demo&title=waiting"))).collect();
        collector.until("some are refused", || collector.outcomes().contains_key("failed_queue_full"));
        assert!(collector.metrics.queue_bytes.get() <= 2000);
        collector.until("readiness is false", || collector.get("/ready", &[]).status() == 503);
        collector.broker.broker_up(1).unwrap();
        waiting.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
    collector.assert_outcomes_add_up();
    assert_eq!(collector.metrics.queue_bytes.get(), 0);
    assert_eq!(collector.hits(|_, _| ()) as u64, collector.outcomes()["accepted"]);
}

#[test]
fn a_client_that_hangs_up_is_counted() {
    let collector = Fixture::start(&["--publish-deadline", "20000"]);
    broker_down(&collector);
    let mut stream = TcpStream::connect(collector.address).unwrap();
    stream.write_all(b"GET /p.gif?site=demo HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    collector.until("the hit is received", || collector.metrics.received.get() == 1);
    drop(stream);
    collector.until("it is counted as abandoned", || collector.outcomes().contains_key("abandoned"));
    collector.broker.broker_up(1).unwrap();
    collector.assert_outcomes_add_up();
}

/// The status line of the answer to raw bytes, or nothing when the connection is closed without one.
fn raw(collector: &Fixture, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(collector.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while !answer.contains(&b'\n') {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(bytes) => answer.extend_from_slice(&buffer[..bytes]),
        }
    }
    String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
}

#[test]
fn headers_are_bounded_and_slow_clients_are_let_go() {
    let collector = Fixture::start(&["--header-bytes", "8192", "--idle-timeout", "0.3", "--body-timeout", "0.3"]);
    let large = format!("GET /p.gif?site=demo&title={} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(9000));
    let status = raw(&collector, large.as_bytes());
    assert!(status.contains("431") || status.contains("414"), "{status:?}");
    let began = Instant::now();
    let status = raw(&collector, b"GET /p.gif?site=demo HTTP/1.1\r\nhost: x\r\n");
    assert!(status.is_empty() || status.contains("408"), "{status:?}");
    let status = raw(&collector, b"POST /v1/hits HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{");
    assert!(status.contains("408"), "{status:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_connection_beyond_the_bound_waits_for_a_place() {
    let collector = Fixture::start(&["--connections", "2", "--idle-timeout", "2"]);
    // The fixture's own connection is one; these fill up the rest.
    let held: Vec<_> = (0..3).map(|_| TcpStream::connect(collector.address).unwrap()).collect();
    collector.until("the places are taken", || collector.metrics.connections.get() == 2);
    drop(held);
    collector.until("a place is free", || raw(&collector, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").contains("200"));
}

#[test]
fn the_proxy_protocol_tells_the_address() {
    let collector = Fixture::start(&["--trusted-proxy", "127.0.0.0/8"]);
    let with_protocol = Fixture::start_unready(&["--trusted-proxy", "127.0.0.0/8", "--proxy-protocol"]);
    let request = b"PROXY TCP4 198.51.100.9 192.0.2.1 40000 80\r\nGET /p.gif?site=demo HTTP/1.1\r\nhost: x\r\n\r\n";
    with_protocol.until("it answers", || raw(&with_protocol, request).contains("200"));
    with_protocol.hits(|_, hit| assert_eq!(hit.ip, "198.51.100.9"));
    assert!(raw(&collector, request).contains("400"), "where it is not expected it is not HTTP");
}

#[test]
fn at_the_end_what_was_accepted_is_answered_and_stored() {
    let mut collector = Fixture::start(&["--publish-deadline", "20000"]);
    broker_down(&collector);
    let address = collector.address;
    let status = std::thread::scope(|scope| {
        let waiting = scope.spawn(move || status_of(address, "/p.gif?site=demo"));
        collector.until("a hit waits", || collector.metrics.queue_bytes.get() > 0);
        collector.shutdown.cancel();
        collector.until("nobody is let in", || TcpStream::connect(collector.address).is_err());
        collector.broker.broker_up(1).unwrap();
        waiting.join().unwrap()
    });
    assert_eq!(status, 200);
    let task = collector.task.take().unwrap();
    collector.runtime.block_on(task).unwrap();
    assert_eq!(collector.hits(|_, _| ()), 1);
    collector.assert_outcomes_add_up();
}

#[test]
fn restarts_under_load_lose_nothing() {
    let mut collector = Fixture::start(&[]);
    let (address, stop) = (collector.address, AtomicBool::new(false));
    let acknowledged: Vec<String> = std::thread::scope(|scope| {
        let client = |number: usize| {
            let mut known = Vec::new();
            for hit in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return known;
                }
                let name = format!("{number}-{hit}");
                if try_status_of(address, &format!("/p.gif?site=demo&p.name={name}")) == Some(200) {
                    known.push(name);
                }
            }
            known
        };
        let clients: Vec<_> = (0..4).map(|number| scope.spawn(move || client(number))).collect();
        for _ in 0..3 {
            collector.until("hits are taken", || collector.metrics.received.get() > 50);
            collector.restart();
        }
        collector.until("hits are taken at last", || collector.metrics.received.get() > 50);
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let mut published = std::collections::HashSet::new();
    collector.hits(|_, hit| {
        published.insert(hit.properties.get("name").unwrap().to_owned());
    });
    let lost: Vec<_> = acknowledged.iter().filter(|name| !published.contains(*name)).collect();
    assert!(
        acknowledged.len() > 200 && lost.is_empty(),
        "of {} acknowledged hits these are lost: {lost:?}",
        acknowledged.len()
    );
}

#[test]
fn sites_are_read_again_when_their_file_changes() {
    let collector = Fixture::start(&[]);
    let path = collector.folder.path().join("sites.toml");
    std::fs::write(&path, "[sites.fresh]\n").unwrap();
    let outcome = |site: &str| {
        header(&collector.get(&format!("/p.gif?site={site}"), &[]), "x-hitmeter-outcome").map(str::to_owned)
    };
    collector.until("the new site is known", || outcome("fresh").as_deref() == Some("accepted"));
    assert_eq!(outcome("demo").as_deref(), Some("dropped_unknown_site"));
    std::fs::write(&path, "[sites.fresh]\nnonsense = 1\n").unwrap();
    let metrics = || {
        let families = collector.metrics.registry.gather();
        let reloads = families.iter().find(|family| family.name() == "collector_site_reloads_total").unwrap().clone();
        reloads
            .get_metric()
            .iter()
            .map(|one| (one.get_label()[0].value().to_owned(), one.get_counter().get_value()))
            .collect::<Vec<_>>()
    };
    collector.until("the wrong file is noticed", || metrics().contains(&("refused".to_owned(), 1.0)));
    assert_eq!(outcome("fresh").as_deref(), Some("accepted"));
}

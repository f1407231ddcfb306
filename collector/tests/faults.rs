//! What happens when the broker does not answer, clients are slow or hang up, and at the end.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use support::{Fixture, POST, connect, header, read_answer, status_of, try_status_of};

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

/// Brokers that answer, but take no hit: where they do not permit it, or the topic takes none as large.
#[test]
fn brokers_that_refuse_every_hit_make_it_unready_and_the_reason_is_told() {
    let collector = Fixture::start(&["--publish-deadline", "500"]);
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    collector.broker.request_errors(RDKafkaApiKey::Produce, &[refused; 100]);
    assert_eq!(collector.get("/p.gif?site=demo", &[]).status(), 503);
    let ready = collector.get("/ready", &[]);
    let told = String::from_utf8_lossy(ready.body()).to_lowercase();
    assert!(ready.status() == 503 && told.contains("authorization"), "{} {told}", ready.status());
    // They answer all the time.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(collector.get("/ready", &[]).status(), 503);
    assert_eq!(collector.metrics.brokers_up.get(), 0);

    collector.broker.clear_request_errors(RDKafkaApiKey::Produce);
    collector.until("hits are taken again", || collector.get("/p.gif?site=demo", &[]).status() == 200);
    assert_eq!(collector.get("/ready", &[]).status(), 200);
    collector.assert_outcomes_add_up();
}

/// A topic that somebody deleted: the brokers answer, and there is nowhere to put a hit.
#[test]
fn without_the_topic_it_is_unready_and_says_so() {
    let collector = Fixture::start(&[]);
    collector.broker.topic_error("hits.raw", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    collector.until("readiness is false", || collector.get("/ready", &[]).status() == 503);
    let ready = collector.get("/ready", &[]);
    assert!(String::from_utf8_lossy(ready.body()).contains("hits.raw"), "{:?}", ready.body());
    collector.broker.topic_error("hits.raw", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    collector.until("readiness is true again", || collector.get("/ready", &[]).status() == 200);
}

/// A sequence number that the broker did not expect of the request in front is fatal to an idempotent producer.
#[test]
fn a_producer_that_met_a_fatal_error_is_replaced() {
    let spool = tempfile::tempdir().unwrap();
    for arguments in [&["--publish-deadline", "20000"][..], &["--spool", spool.path().to_str().unwrap()]] {
        let collector = Fixture::start(arguments);
        assert_eq!(collector.get("/p.gif?site=demo&p.number=1", &[]).status(), 200);
        let out_of_order = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        collector.broker.request_errors(RDKafkaApiKey::Produce, &[out_of_order]);
        let expected = if arguments[0] == "--spool" { 200 } else { 503 };
        assert_eq!(collector.get("/p.gif?site=demo&p.number=2", &[]).status(), expected);
        collector.until("it is replaced", || collector.metrics.producers_replaced.get() == 1);
        collector.until("hits go to Kafka again", || {
            header(&collector.get("/p.gif?site=demo&p.number=3", &[]), "x-hitmeter-outcome") == Some("accepted")
        });
        collector.until("the spool is empty", || collector.metrics.spool_bytes.get() == 0);
        let mut numbers = std::collections::HashSet::new();
        collector.hits(|_, hit| {
            numbers.insert(hit.properties.get("number").unwrap().to_owned());
        });
        assert_eq!(numbers.contains("2"), expected == 200, "{numbers:?}");
        assert!(numbers.contains("3"));
        collector.assert_outcomes_add_up();
    }
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
    let hang_up = |request: &[u8], received| {
        let mut stream = TcpStream::connect(collector.address).unwrap();
        stream.write_all(request).unwrap();
        collector.until("the hit is received", || collector.metrics.received.get() == received);
    };
    hang_up(POST, 1);
    collector.until("it is counted as abandoned", || collector.outcomes().contains_key("abandoned"));
    // What becomes of a pixel is waited for all the same.
    hang_up(b"GET /p.gif?site=demo HTTP/1.1\r\nhost: x\r\n\r\n", 2);
    collector.broker.broker_up(1).unwrap();
    collector.until("it is counted as accepted", || collector.outcomes().contains_key("accepted"));
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

const REQUEST: &[u8] = b"GET /p.gif?site=demo HTTP/1.1\r\nhost: x\r\n\r\n";

/// A header of version 2 (PROXY protocol specification, 2.2): command, family and transport, addresses.
fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command, family][..], &length, addresses].concat()
}

#[test]
fn the_proxy_protocol_tells_the_address() {
    let (source, target): (Ipv6Addr, Ipv6Addr) = ("2001:db8::9".parse().unwrap(), "2001:db8::1".parse().unwrap());
    let ports = [0x9c, 0x40, 0, 80];
    let over_ipv4 = [&[198, 51, 100, 9, 192, 0, 2, 1][..], &ports].concat();
    let over_ipv6 = [&source.octets()[..], &target.octets(), &ports].concat();
    for (name, header, expected) in [
        ("version 1", b"PROXY TCP4 198.51.100.9 192.0.2.1 40000 80\r\n".to_vec(), "198.51.100.9"),
        ("version 1, IPv6", b"PROXY TCP6 2001:db8::9 2001:db8::1 40000 80\r\n".to_vec(), "2001:db8::9"),
        ("version 1, unknown", b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        ("version 2", version_2(1, 0x11, &over_ipv4), "198.51.100.9"),
        ("version 2, IPv6", version_2(1, 0x21, &over_ipv6), "2001:db8::9"),
        // A proxy's own, to see whether the collector lives.
        ("version 2, local", version_2(0, 0, &[]), "127.0.0.1"),
    ] {
        let collector = Fixture::start_unready(&["--trusted-proxy", "127.0.0.0/8", "--proxy-protocol"]);
        let request = [header, REQUEST.to_vec()].concat();
        collector.until(name, || raw(&collector, &request).contains("200"));
        collector.hits(|_, hit| assert_eq!(hit.ip, expected, "{name}"));
    }
}

/// Behind a balancer that ends TLS, cookies have to reach other sites.
#[test]
fn the_proxy_protocol_leaves_https_to_be_told() {
    let over_ipv4 = [198, 51, 100, 9, 192, 0, 2, 1, 0x9c, 0x40, 0, 80];
    // PP2_TYPE_SSL: how the client came, and that its certificate was not verified.
    let with_ssl = |client: u8| version_2(1, 0x11, &[&over_ipv4[..], &[0x20, 0, 5, client, 0, 0, 0, 1]].concat());
    let (version_1, https) =
        (b"PROXY TCP4 198.51.100.9 192.0.2.1 40000 80\r\n".to_vec(), "x-forwarded-proto: https\r\n");
    let collector = Fixture::start_unready(&["--trusted-proxy", "127.0.0.0/8", "--proxy-protocol"]);
    collector.until("it is ready", || status_of(collector.metrics_address, "/ready") == 200);
    for (name, header, more, expected) in [
        ("version 2 with TLS", with_ssl(1), "", true),
        ("version 2 without TLS", with_ssl(0), https, false),
        ("version 2, the proxy's header", version_2(1, 0x11, &over_ipv4), https, true),
        ("version 2, nothing told", version_2(1, 0x11, &over_ipv4), "", false),
        ("version 1, the proxy's header", version_1.clone(), https, true),
        ("version 1, nothing told", version_1, "", false),
    ] {
        let mut connection = connect(collector.address);
        let request = format!("GET /p.gif?site=demo HTTP/1.1\r\nhost: x\r\n{more}\r\n");
        connection.write_all(&[header, request.into_bytes()].concat()).unwrap();
        let (head, _) = read_answer(&mut connection).unwrap();
        assert!(head.to_lowercase().contains("set-cookie"), "{name}");
        assert_eq!(head.contains("SameSite=None; Secure"), expected, "{name}");
    }
    // What is told of the client's address is told by the PROXY header alone: the other one may come from anybody.
    collector.hits(|_, hit| assert_eq!(hit.ip, "198.51.100.9"));
}

#[test]
fn where_the_proxy_protocol_is_expected_of_a_proxy_there_is_no_request_without_it() {
    let expecting = Fixture::start_unready(&["--trusted-proxy", "127.0.0.0/8", "--proxy-protocol"]);
    assert_eq!(raw(&expecting, REQUEST), "", "the connection is closed");
    expecting.until("it is closed", || expecting.metrics.connections.get() == 0);
    assert_eq!(expecting.metrics.received.get(), 0);
    let of_strangers = Fixture::start(&["--trusted-proxy", "10.0.0.0/8", "--proxy-protocol"]);
    assert!(raw(&of_strangers, REQUEST).contains("200"), "a stranger speaks HTTP");
    let header = b"PROXY TCP4 198.51.100.9 192.0.2.1 40000 80\r\n";
    let told = [&header[..], REQUEST].concat();
    for collector in [of_strangers, Fixture::start(&["--trusted-proxy", "127.0.0.0/8"])] {
        assert!(raw(&collector, &told).contains("400"), "where it is not expected it is not HTTP");
    }
}

/// Asks for more than the buffers of both ends hold, and reads nothing of it.
fn ask_and_never_read(collector: &Fixture) -> TcpStream {
    let mut connection = connect(collector.address);
    connection.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let script = b"GET /t.js HTTP/1.1\r\nhost: x\r\n\r\n";
    // What does not fit any more need not go.
    drop(connection.write_all(&script.repeat(4_000)));
    connection
}

#[test]
fn a_client_that_does_not_read_its_answers_is_let_go() {
    let collector = Fixture::start(&["--body-timeout", "1", "--idle-timeout", "1", "--connections", "1"]);
    let silent = ask_and_never_read(&collector);
    // There is one place, and somebody else gets it.
    assert!(raw(&collector, REQUEST).contains("200"));
    drop(silent);
}

/// Connects with next to no room for answers.
fn connect_narrowly(collector: &Fixture) -> TcpStream {
    let connected = collector.runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1024).unwrap();
        socket.connect(collector.address).await.unwrap().into_std().unwrap()
    });
    connected.set_nonblocking(false).unwrap();
    connected
}

/// Nor is one whose pixels come one by one, each when the last was answered.
#[test]
fn a_client_that_does_not_read_the_answers_of_pixels_is_let_go() {
    let collector = Fixture::start(&["--body-timeout", "1", "--idle-timeout", "60"]);
    let before = collector.metrics.connections.get();
    let mut silent = connect_narrowly(&collector);
    collector.until("it is connected", || collector.metrics.connections.get() > before);
    let (mut sent, mut is_over) = (0, false);
    // What no broker is waited for fills the buffers sooner.
    while !is_over {
        // The last one may come to a closed door.
        drop(silent.write_all(b"GET /p.gif?site=unknown HTTP/1.1\r\nhost: x\r\n\r\n"));
        sent += 1;
        let began = Instant::now();
        while collector.metrics.received.get() < sent && !is_over {
            is_over = collector.metrics.connections.get() == before;
            assert!(began.elapsed() < Duration::from_secs(30), "its {sent}th pixel is held up for ever");
            std::thread::yield_now();
        }
    }
    assert!(sent > 1, "some were answered");
}

/// Whoever does not read, or does not ask to the end, does not keep the collector from draining before its deadline.
#[test]
fn the_end_waits_for_no_client() {
    const DEADLINE: Duration = Duration::from_secs(4);
    let mut collector = Fixture::start(&["--body-timeout", "60", "--shutdown-deadline", "4"]);
    let before = collector.metrics.connections.get();
    let silent = ask_and_never_read(&collector);
    let mut slow = connect(collector.address);
    slow.write_all(&POST[..POST.len() - 1]).unwrap();
    collector.until("both are connected", || collector.metrics.connections.get() == before + 2);
    std::thread::sleep(Duration::from_millis(200));
    collector.shutdown.cancel();
    let began = Instant::now();
    let task = collector.task.take().unwrap();
    let ended = collector.runtime.block_on(async { tokio::time::timeout(DEADLINE, task).await });
    assert!(ended.is_ok(), "not within {:?}", began.elapsed());
    drop((silent, slow));
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

/// A collector of its own process without a broker, which may have so many files open.
struct Limited(Child);

impl Limited {
    fn start(files: usize, folder: &std::path::Path) -> (Self, SocketAddr) {
        let sites = folder.join("sites.toml");
        std::fs::write(&sites, "[sites.demo]\n").unwrap();
        let child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_collector")])
            .args(["--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--topic-setup=skip"])
            .args(["--kafka-brokers=127.0.0.1:1", "--sites", sites.to_str().unwrap()])
            .args(["--spool", folder.join("spool").to_str().unwrap()])
            .stderr(Stdio::piped())
            .spawn();
        let mut limited = Self(child.unwrap());
        let mut lines = BufReader::new(limited.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.find_map(|line| Some(line.split_once("collecting address=")?.1.split(' ').next()?.parse()));
        std::thread::spawn(move || lines.for_each(drop));
        (limited, address.unwrap().unwrap())
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// When the brokers are away many clients may wait, and their hits need the spool's files.
#[test]
fn connections_leave_the_spool_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let (_collector, address) = Limited::start(200, folder.path());
    let mut first = connect(address);
    let _others: Vec<_> = (0..220).map(|_| connect(address)).collect();
    for _ in 0..3 {
        first.write_all(REQUEST).unwrap();
        let (head, _) = read_answer(&mut first).unwrap();
        assert!(head.to_lowercase().contains("x-hitmeter-outcome: spooled"), "{head}");
    }
}

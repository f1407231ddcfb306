//! Random requests, well-formed and not: no panic, no hit without an outcome, and the collector answers afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use support::Fixture;

/// Well-formed requests, with anything in them.
const REQUESTS: usize = 95_000;
/// Sent down one connection before the next is opened.
const PIPELINED: usize = 50;
/// Requests that are not even HTTP, or hardly; each has its connection, which it ends.
const HOSTILE: usize = 5_000;

fn parameter() -> impl Strategy<Value = String> {
    let names = proptest::sample::select(vec![
        "site",
        "event",
        "hit",
        "url",
        "referrer",
        "title",
        "visitor",
        "session",
        "time",
        "sent",
        "screen",
        "language",
        "timezone",
        "duration",
        "target",
        "search",
        "name",
        "email",
        "p.k",
        "p.",
        "consent.measurement",
        "page_view",
        "x",
    ]);
    let values = proptest::prop_oneof![
        "demo|consent|drop|hash|page|heartbeat",
        "[a-zA-Z0-9!$'()*,./:;=?@_~-]{0,40}",
        "(%[0-9a-fA-F]{2}){0,20}",
        "-?[0-9]{0,25}(\\.[0-9]{1,3})?",
        "[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}",
    ];
    (names, values).prop_map(|(name, value)| format!("{name}={value}"))
}

fn query() -> impl Strategy<Value = String> {
    proptest::collection::vec(parameter(), 0..8).prop_map(|mut parameters| {
        parameters.push("site=demo".to_owned());
        parameters.join("&").replace([' ', '#'], "+")
    })
}

fn json() -> impl Strategy<Value = String> {
    let leaf = proptest::prop_oneof![
        "null|true|false|-?[0-9]{1,20}|1e999",
        "\"[ -!#-\\[\\]-~]{0,20}\"",
        "\"(\\\\u[0-9a-f]{4}){0,4}\"",
        "\"demo\""
    ];
    let value = leaf.prop_recursive(3, 16, 4, |inner| {
        let key =
            proptest::sample::select(vec!["site", "event", "contact", "consent", "properties", "time", "email", "x"]);
        let pair = (key, inner.clone()).prop_map(|(key, value)| format!("\"{key}\":{value}"));
        proptest::prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(pair, 0..6).prop_map(|pairs| format!("{{{}}}", pairs.join(","))),
        ]
    });
    let hit = value.prop_map(|value| format!("{{\"site\":\"demo\",\"properties\":{value}}}"));
    proptest::prop_oneof![hit, "[ -~]{0,60}", "[\\[{][ -~]{0,30}"]
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let headers = "(accept-language: [!-~]{0,20}\r\n)?(cookie: [!-~]{0,40}\r\n)?(dnt: 1\r\n)?(user-agent: [ -~]{0,80}\r\n)?(sec-ch-ua: [!-~]{0,20}\r\n)?";
    let pixel = (query(), headers)
        .prop_map(|(query, headers)| format!("GET /p.gif?{query} HTTP/1.1\r\nhost: x\r\n{headers}\r\n").into_bytes());
    let encoding = proptest::sample::select(vec![
        "",
        "content-encoding: gzip\r\n",
        "content-encoding: br\r\n",
        "content-encoding: zstd\r\n",
        "content-encoding: deflate\r\n",
    ]);
    let api = (json(), headers, encoding).prop_map(|(body, headers, encoding)| {
        format!("POST /v1/hits HTTP/1.1\r\nhost: x\r\n{headers}{encoding}content-length: {}\r\n\r\n{body}", body.len())
            .into_bytes()
    });
    let other = "/(t\\.js|opt-(in|out|status)|v1/sites/[a-z%.]{0,10}|health|ready|[a-z./]{0,20})"
        .prop_map(|path| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes());
    proptest::prop_oneof![12 => pixel, 5 => api, 2 => other]
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let bytes = proptest::collection::vec(proptest::num::u8::ANY, 0..200);
    let line = "(GET|POST|PUT|get|) /?[!-~]{0,60} HTTP/[0-9.]{1,3}\r\n([!-~]{0,20}: ?[ -~]{0,40}\r\n){0,4}\r\n"
        .prop_map(String::into_bytes);
    let lengths = "POST /v1/hits HTTP/1.1\r\nhost: x\r\n(content-length: -?[0-9]{1,20}\r\n|transfer-encoding: chunked\r\n){1,2}\r\n[0-9a-f]{0,9}\r\n[ -~]{0,40}"
        .prop_map(String::into_bytes);
    proptest::prop_oneof![bytes, line, lengths]
}

/// Panics anywhere in this process, which the collector runs in. A task that panics takes its connection along and is
/// otherwise not seen.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        before(panic);
    }));
}

/// Counts the whole answers in what came down a connection.
fn whole_answers(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while !bytes.is_empty() {
        let end =
            bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer breaks off in its head") + 4;
        let head = std::str::from_utf8(&bytes[..end]).unwrap().to_lowercase();
        assert!(head.starts_with("http/1."), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().unwrap());
        assert!(bytes.len() >= end + length, "an answer breaks off in its body");
        bytes = &bytes[end + length..];
        count += 1;
    }
    count
}

/// Sends bytes down one connection, and reads until the other side has closed it.
fn send(collector: &Fixture, requests: &[u8], end: Option<Shutdown>) -> Vec<u8> {
    let mut stream = TcpStream::connect(collector.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let answers = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // It may be reset, where garbage was left unread.
        let _ = reader.read_to_end(&mut bytes);
        bytes
    });
    // The other side may close after garbage, before all is sent.
    let _ = stream.write_all(requests);
    if let Some(end) = end {
        let _ = stream.shutdown(end);
    }
    answers.join().unwrap()
}

#[test]
fn a_hundred_thousand_random_requests_do_no_harm() {
    let seed: [u8; 32] = match std::env::var("SEED") {
        Ok(text) => std::array::from_fn(|index| text.as_bytes().get(index).copied().unwrap_or(0)),
        Err(_) => std::array::from_fn(|index| *uuid::Uuid::new_v4().to_string().as_bytes().get(index).unwrap()),
    };
    println!("SEED={}", String::from_utf8_lossy(&seed));
    count_panics();
    let collector = Fixture::start(&["--publish-linger", "0"]);
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let well_formed = request();
    for _ in 0..REQUESTS / PIPELINED {
        let mut requests: Vec<u8> =
            (0..PIPELINED).flat_map(|_| well_formed.new_tree(&mut runner).unwrap().current()).collect();
        requests.extend_from_slice(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert_eq!(whole_answers(&send(&collector, &requests, None)), PIPELINED + 1);
    }
    collector.assert_outcomes_add_up();
    assert_eq!(collector.outcomes().get("abandoned"), None, "no request of these was left without its outcome");
    let hostile = hostile();
    for _ in 0..HOSTILE {
        // HTTP has no way to find the next request after a malformed one: each ends its connection, answered or not.
        whole_answers(&send(&collector, &hostile.new_tree(&mut runner).unwrap().current(), Some(Shutdown::Write)));
    }
    collector.assert_outcomes_add_up();
    let outcomes = collector.outcomes();
    println!("{} hits received: {outcomes:?}", collector.metrics.received.get());
    // Some bodies are compressed in name only, and are no hits.
    assert!(collector.metrics.received.get() > REQUESTS as u64 / 2, "too few were read as hits for this to mean much");
    assert!(outcomes["accepted"] > REQUESTS as u64 / 4, "too few hits were accepted for this to mean much");
    assert_eq!(collector.get("/p.gif?site=demo", &[]).status().as_u16(), 200, "it still answers");
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "something panicked");
}

//! What a connection holds and where one request ends and the next begins.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;

use support::{Fixture, POST, connect, read_answer};

const REQUEST: &[u8] = b"GET /p.gif?site=demo HTTP/1.1\r\nhost: x\r\n\r\n";

/// The status line of one answer, or nothing where the connection ends instead.
fn answer(stream: &mut TcpStream) -> Option<String> {
    read_answer(stream).map(|(head, _)| head.lines().next().unwrap_or_default().to_lowercase())
}

#[test]
fn requests_may_come_in_any_pieces() {
    let collector = Fixture::start(&[]);
    let stream = [REQUEST, REQUEST, POST, REQUEST, POST].concat();
    let mut sent = 0;
    // Every length from nothing of the next request to all of it, and more than one at once.
    for piece in (1..stream.len()).step_by(7) {
        let mut connection = connect(collector.address);
        for part in stream.chunks(piece) {
            connection.write_all(part).unwrap();
            // Whatever is whole by now is answered before the next piece comes.
            sent += part.len();
            for _ in ends(&stream, sent - part.len(), sent) {
                assert_eq!(answer(&mut connection).unwrap(), "http/1.1 200 ok", "pieces of {piece}");
            }
        }
        sent = 0;
    }
    collector.assert_outcomes_add_up();

    fn ends(stream: &[u8], from: usize, to: usize) -> impl Iterator<Item = usize> {
        let starts: Vec<usize> = (1..=stream.len())
            .filter(|at| {
                *at == stream.len() || stream[*at..].starts_with(b"GET /") || stream[*at..].starts_with(b"POST")
            })
            .collect();
        starts.into_iter().filter(move |end| (from + 1..=to).contains(end))
    }
}

/// What is left of a request that was answered early is not the next request.
#[test]
fn the_rest_of_a_body_is_no_request() {
    let collector = Fixture::start(&["--body-bytes", "100"]);
    let smuggled = [&b"x".repeat(200)[..], REQUEST].concat();
    for path in ["/v1/hits", "/nothing", "/opt-status"] {
        let mut connection = connect(collector.address);
        let length = smuggled.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        connection.write_all(head.as_bytes()).unwrap();
        // Only a part, so that the answer can come before the rest: then the connection must end, not go on.
        connection.write_all(&smuggled[..150]).unwrap();
        assert!(answer(&mut connection).is_some(), "{path}");
        let rest = connection.write_all(&smuggled[150..]);
        let mut further = Vec::new();
        let ended = rest.and_then(|()| connection.read_to_end(&mut further));
        assert!(ended.is_err() || further.is_empty(), "{path}: {:?}", String::from_utf8_lossy(&further));
    }
    assert_eq!(collector.metrics.received.get(), 0);
}

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn a_connection_that_rests_holds_next_to_nothing() {
    const CONNECTIONS: usize = 400;
    let collector = Fixture::start(&[]);
    let ask = |connection: &mut TcpStream| {
        connection.write_all(REQUEST).unwrap();
        answer(connection).unwrap()
    };
    // So that all that is allocated once is there.
    (0..20).for_each(|_| drop(ask(&mut connect(collector.address))));
    let before = resident();
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| connect(collector.address)).collect();
    for _ in 0..2 {
        connections.iter_mut().for_each(|connection| drop(ask(connection)));
    }
    let each = resident().saturating_sub(before) / CONNECTIONS;
    assert!(each < 9_000, "{each} bytes a connection");
}

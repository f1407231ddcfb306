//! A pixel's request that is whole and plain is answered without hyper; with one more word in a header hyper answers it. Hit
//! and answer are the same.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod support;

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;

use support::{Fixture, connect, read_answer};
use uuid::Uuid;

const QUERIES: [&str; 4] =
    ["", "&title=a%20b+c&p.x=%C3%BC&url=https://www.example.com/?a=b", "&time=soon&duration=x", "&site=demo"];

const HEADERS: [&str; 8] = [
    "",
    "User-Agent: Mozilla/5.0 (X11)\r\nReferer: https://www.example.com/\u{fc}\r\nAccept-Language: de-CH, de;q=0.9\r\n",
    "X-Forwarded-For: 1.1.1.1, 203.0.113.9\r\nx-forwarded-for: 127.0.0.2\r\nX-Forwarded-Proto: https\r\n",
    "Sec-CH-UA: \"a\"\r\nsec-ch-ua-platform: \"L\"\r\nSEC-CH-UA: twice\r\nSec-CH-UA-Model: \u{fc}\r\n",
    "Cookie: hitmeter_visitor=w; hitmeter_session=0190b1e8-0000-7000-8000-000000000002\r\ncookie: x\r\n",
    "Cookie: a=b\r\nCOOKIE: hitmeter_opt_out=1\r\n",
    "Sec-GPC: 1\r\n",
    "DNT:  1 \r\n",
];

/// Ids of hits are counted up from here.
const FIRST_ID: u128 = 0x0190_b1e8_0000_7000_8000_0000_0000_0000;

/// The answer to a request, its headers sorted, without what tells the time.
fn answer(address: SocketAddr, request: &str) -> Vec<String> {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    let (head, picture) = read_answer(&mut stream).unwrap();
    assert_eq!(picture, collector::pixel::GIF);
    let (dates, mut rest): (Vec<_>, Vec<_>) =
        head.trim_end().lines().map(str::to_owned).partition(|line| line.starts_with("date: "));
    assert_eq!(dates.len(), 1, "{head}");
    rest.sort_unstable();
    rest
}

#[test]
fn with_hyper_and_without_a_hit_is_the_same() {
    let collector = Fixture::start(&["--trusted-proxy", "127.0.0.0/8"]);
    let requests: Vec<_> = QUERIES.into_iter().flat_map(|query| HEADERS.map(|headers| (query, headers))).collect();
    let send = |number: usize, connection: &str| {
        let ((query, headers), hit) = (requests[number / 2], Uuid::from_u128(FIRST_ID + number as u128));
        let given = "site=demo&visitor=v&session=0190b1e8-0000-7000-8000-000000000001";
        let start = format!("GET /p.gif?{given}&hit={hit}{query} HTTP/1.1\r\nhost: www.example.com:80\r\n");
        answer(collector.address, &format!("{start}connection: {connection}\r\n{headers}\r\n"))
    };
    for number in (0..requests.len() * 2).step_by(2) {
        assert_eq!(send(number, "keep-alive"), send(number + 1, "keep-alive, te"), "{:?}", requests[number / 2]);
    }
    let mut hits = HashMap::new();
    collector.hits(|key, hit| {
        let number = (hit.hit_id.as_u128() - FIRST_ID) as usize;
        let alike = schemas::RawHit { received_at: 0, hit_id: Uuid::nil(), page_view_id: None, ..hit };
        hits.insert(number, format!("{key:?} {alike:?}"));
    });
    assert_eq!(hits.len(), requests.len() * 2);
    for number in (0..requests.len() * 2).step_by(2) {
        assert_eq!(hits[&number], hits[&(number + 1)], "{:?}", requests[number / 2]);
    }
    collector.assert_outcomes_add_up();
}

//! The request that there is most of, without hyper: a pixel that comes in one piece, and its answer.
//!
//! A hit that comes alone costs what its request costs. hyper makes a map of the headers, with a copy of each name that it
//! does not know, three buffers of 8 KiB and a dozen small things, for whatever may come; of all that a pixel needs the query
//! and some values, which can be read where they lie.
//!
//! What is answered here is answered as by hyper, for these reasons:
//!
//! 1. The same parser reads it (httparse), with the same settings.
//! 2. A request is taken only where it is whole, nothing follows it, and nothing in it changes what is to be done:
//!    `GET` of [`PIXEL`] in HTTP/1.1, an address of characters that every reader of addresses takes as they are, and none
//!    of the headers that speak of a body or of the connection, but that it be kept.
//! 3. All else goes to hyper from its first byte, what is no HTTP too.
//! 4. Hit and answer are made by the same functions; only the answer's writing is here.

use std::cell::RefCell;
use std::fmt::Write;
use std::time::{Duration, SystemTime};

use httparse::{EMPTY_HEADER, Header, Request, Status};

use crate::pixel::GIF;
use crate::routes::{Answer, PIXEL};

/// Of a request with more headers hyper decides.
const HEADERS: usize = 64;
/// Long enough for nearly every answer: some headers, and two cookies.
const ANSWER: usize = 768;
/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
const DATE: usize = 29;

/// A pixel's request, where it was read to.
#[derive(Debug)]
pub(crate) struct PixelRequest<'b> {
    /// What follows the question mark.
    pub query: &'b str,
    /// As they were sent.
    pub headers: &'b [Header<'b>],
}

/// Calls `found` with the request where `bytes` are exactly one that hyper is not needed for.
pub(crate) fn read<T>(bytes: &[u8], found: impl FnOnce(&PixelRequest<'_>) -> T) -> Option<T> {
    let mut headers = [EMPTY_HEADER; HEADERS];
    let mut request = Request::new(&mut headers);
    let whole = request.parse(bytes) == Ok(Status::Complete(bytes.len()));
    if !whole || request.method != Some("GET") || request.version != Some(1) {
        return None;
    }
    let address = request.path?;
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let plain = path == PIXEL
        && query.bytes().all(|byte| STANDS_FOR_ITSELF[usize::from(byte)])
        && request.headers.iter().all(is_no_command);
    plain.then(|| found(&PixelRequest { query, headers: request.headers }))
}

/// What may stand in a query (RFC 3986, section 3.4), by byte.
const STANDS_FOR_ITSELF: [bool; 256] = {
    let (mut table, marks) = ([false; 256], b"-._~!$&'()*+,;=:@/?%");
    let mut at = 0;
    while at < table.len() {
        table[at] = (at as u8).is_ascii_alphanumeric();
        at += 1;
    }
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

/// True for a header that tells something and asks for nothing.
fn is_no_command(header: &Header<'_>) -> bool {
    const COMMANDS: [&str; 4] = ["content-length", "transfer-encoding", "expect", "upgrade"];
    let is = |name: &&str| header.name.eq_ignore_ascii_case(name);
    if is(&"connection") {
        return header.value.eq_ignore_ascii_case(b"keep-alive");
    }
    !COMMANDS.iter().any(is)
}

/// A pixel's answer as it is sent; `last` where the connection ends after it.
pub(crate) fn written(answer: &Answer, last: bool) -> Vec<u8> {
    let mut head = Vec::with_capacity(ANSWER);
    let status = answer.status();
    for part in ["HTTP/1.1 ", status.as_str(), " ", status.canonical_reason().unwrap_or_default(), "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    for (name, value) in answer.headers() {
        add(&mut head, name.as_str(), value.as_bytes());
    }
    add(&mut head, "content-length", const { LENGTH.as_bytes() });
    if last {
        add(&mut head, "connection", b"close");
    }
    with_date(|date| add(&mut head, "date", date));
    head.extend_from_slice(b"\r\n");
    head.extend_from_slice(GIF);
    head
}

/// Length of [`GIF`].
const LENGTH: &str = "43";
const _: () = assert!(GIF.len() == 43);

fn add(head: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        head.extend_from_slice(part);
    }
}

/// Lends the time as the Date header tells it; it is written once a second.
fn with_date(add: impl FnOnce(&[u8])) {
    thread_local! {
        static NOW: RefCell<(u64, String)> = RefCell::new((0, String::with_capacity(DATE)));
    }
    let second = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    NOW.with_borrow_mut(|(written, text)| {
        if *written != second {
            text.clear();
            // Writing into a text does not fail.
            let _ = write!(text, "{}", httpdate::HttpDate::from(SystemTime::UNIX_EPOCH + Duration::from_secs(second)));
            *written = second;
        }
        add(text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(request: &str) -> Option<String> {
        read(request.as_bytes(), |request| request.query.to_owned())
    }

    #[test]
    fn a_plain_request_is_taken() {
        for (target, query) in [("/p.gif", ""), ("/p.gif?", ""), ("/p.gif?site=a&x=?%20", "site=a&x=?%20")] {
            for headers in ["", "host: x\r\n", "Host: x\r\nConnection: Keep-Alive\r\nX: \u{fc}\r\n"] {
                let request = format!("GET {target} HTTP/1.1\r\n{headers}\r\n");
                assert_eq!(taken(&request).as_deref(), Some(query), "{request:?}");
            }
        }
    }

    #[test]
    fn all_else_is_left_to_hyper() {
        let whole = "GET /p.gif?site=a HTTP/1.1\r\nhost: x\r\n\r\n";
        assert!(taken(whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(taken(&whole[..end]), None, "its first {end} bytes");
        }
        for (what, with) in [
            ("GET", "HEAD"),
            ("GET", "POST"),
            ("GET", "get"),
            ("1.1", "1.0"),
            ("1.1", "2"),
            ("/p.gif", "/p.gif/"),
            ("/p.gif", "/t.js"),
            ("/p.gif", "http://x/p.gif"),
            ("site=a", "site=[a]"),
            ("site=a", "site=a#b"),
            ("site=a", "site=\u{fc}"),
            ("site=a", "site=a b"),
            ("host: x", "host: x\r\nconnection: close"),
            ("host: x", "host: x\r\nConnection: keep-alive, upgrade"),
            ("host: x", "host: x\r\nContent-Length: 0"),
            ("host: x", "host: x\r\ntransfer-encoding: chunked"),
            ("host: x", "host: x\r\nexpect: 100-continue"),
            ("host: x", "host: x\r\nupgrade: h2c"),
            ("host: x", "host : x"),
            ("host: x", "host: x\r\n folded"),
            ("\r\n\r\n", "\r\n\r\nG"),
            ("\r\n\r\n", "\r\n\r\n\r\n"),
        ] {
            let request = whole.replacen(what, with, 1);
            assert_ne!(request, whole);
            assert_eq!(taken(&request), None, "{request:?}");
        }
        let many = format!("GET /p.gif HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(HEADERS + 1));
        assert_eq!(taken(&many), None);
    }

    #[test]
    fn the_date_is_as_long_as_it_says() {
        with_date(|date| assert_eq!(date.len(), DATE));
    }
}

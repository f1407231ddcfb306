//! The load generator against a server that stalls.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use benches::load::{self, Endpoint, Load, Requests};

const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n";
const STALL: Duration = Duration::from_millis(500);
const RATE: f64 = 400.0;

#[test]
fn latency_counts_from_when_a_request_was_due_and_not_from_when_a_connection_was_free() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Dropped by the test's end: the threads end with their connections.
    std::thread::spawn(move || {
        // The first to reach its hundredth request stalls, and holds up the other.
        static STALLED: Mutex<bool> = Mutex::new(false);
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(&stream.unwrap(), &STALLED));
        }
    });
    let load = Load {
        address,
        rate: RATE,
        time: Duration::from_secs(2),
        warm_up: Duration::ZERO,
        connections: 2,
        patience: Duration::from_secs(10),
        seed: 1,
    };
    let mut requests = Requests::prepare(&address.to_string(), &["shop".to_owned()], Endpoint::Pixel, 1).unwrap();
    let measured = load::run(&load, &mut requests, || ()).unwrap();
    assert_eq!((measured.unanswered, measured.refused), (0, 0));
    assert_eq!(measured.latency.len(), measured.sent);
    // Two requests are held up on their connections. All others that were due meanwhile waited for these: of 200, half
    // waited for more than half of the time, and they are all in the figures.
    let waited = STALL.as_micros() as u64 / 2;
    let long = measured.latency.count_between(waited, measured.latency.max());
    assert!(long >= 50, "{long} of {} waited for {waited} us", measured.sent);
    // As many were sent late as waited for a connection: so much of it is not the server's own.
    assert!(measured.lateness.max() >= waited, "{}", measured.lateness.max());
}

/// Answers every request; the whole server stalls once.
fn serve(mut stream: &TcpStream, stalled: &Mutex<bool>) {
    let (mut unread, mut buffer, mut answered) = (Vec::new(), [0; 16_384], 0);
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        unread.extend_from_slice(&buffer[..read]);
        while let Some(end) = unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            unread.drain(..end + 4);
            answered += 1;
            {
                let Ok(mut stalled) = stalled.lock() else { return };
                if answered == 100 && !*stalled {
                    *stalled = true;
                    std::thread::sleep(STALL);
                }
            }
            if stream.write_all(ANSWER).is_err() {
                return;
            }
        }
    }
}

//! Stands between a sink and ClickHouse, and stops inserts where a test wants them stopped.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What is done to an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// Nothing.
    Open,
    /// It does not arrive, and never will.
    Lost,
    /// It arrives once the trap is opened.
    Late,
    /// Half of it arrives.
    Cut,
    /// It arrives, and its answer does not.
    Unanswered,
}

/// The proxy. It ends with the test's process.
pub struct Proxy {
    state: Arc<State>,
    port: u16,
}

struct State {
    trap: Mutex<Trap>,
    caught: AtomicUsize,
    target: String,
}

impl Proxy {
    /// Before the ClickHouse at this address.
    pub fn start(clickhouse_url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = clickhouse_url.strip_prefix("http://").unwrap().to_owned();
        let state = Arc::new(State { trap: Mutex::new(Trap::Open), caught: AtomicUsize::new(0), target });
        let serving = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, state) = (client.unwrap(), Arc::clone(&serving));
                std::thread::spawn(move || state.serve(client));
            }
        });
        Self { state, port }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on inserts are treated like this. Those that were caught go on when it is opened.
    pub fn set(&self, trap: Trap) {
        *self.state.trap.lock().unwrap() = trap;
    }

    /// Inserts that were caught so far.
    pub fn caught(&self) -> usize {
        self.state.caught.load(Ordering::SeqCst)
    }
}

impl State {
    fn trap(&self) -> Trap {
        *self.trap.lock().unwrap()
    }

    fn catch(&self) {
        self.caught.fetch_add(1, Ordering::SeqCst);
    }

    fn wait_until_open(&self) {
        while self.trap() != Trap::Open {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn serve(&self, client: TcpStream) {
        // Refused where ClickHouse is away: the client sees a closed connection.
        let Ok(server) = TcpStream::connect(&self.target) else { return };
        let is_swallowed = Arc::new(AtomicBool::new(false));
        let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let swallowing = Arc::clone(&is_swallowed);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut buffer = [0; 1 << 16];
                while let Ok(read @ 1..) = from.read(&mut buffer) {
                    if swallowing.load(Ordering::SeqCst) {
                        self.catch();
                    } else if to.write_all(&buffer[..read]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(Shutdown::Both);
            });
            self.forward(&client, &server, &is_swallowed);
        });
    }

    fn forward(&self, mut client: &TcpStream, mut server: &TcpStream, is_swallowed: &AtomicBool) {
        let mut buffer = [0; 1 << 16];
        while let Ok(read @ 1..) = client.read(&mut buffer) {
            let chunk = &buffer[..read];
            let is_insert = chunk.windows(26).any(|window| window == b"insert_deduplication_token");
            match self.trap() {
                trap @ (Trap::Lost | Trap::Cut) if is_insert => {
                    let arrives = if trap == Trap::Cut { read / 2 } else { 0 };
                    server.write_all(&chunk[..arrives]).unwrap();
                    self.catch();
                    self.wait_until_open();
                    let _ = server.shutdown(Shutdown::Both);
                    return;
                }
                Trap::Late if is_insert => {
                    self.catch();
                    self.wait_until_open();
                }
                Trap::Unanswered if is_insert => is_swallowed.store(true, Ordering::SeqCst),
                _ => {}
            }
            if server.write_all(chunk).is_err() {
                return;
            }
        }
        // What was sent is answered, though nobody listens.
        let _ = server.shutdown(Shutdown::Write);
    }
}

//! A small TCP proxy with a faulty cable.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the cable does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cable {
    /// Carries everything at once.
    Whole,
    /// Connections are reset, new ones closed at once.
    Cut,
    /// Each piece of data waits this long, milliseconds, in both directions.
    Slow(u64),
    /// Connections stay, and nothing moves: what was sent meanwhile arrives when it is healed.
    Stalled,
    /// What clients say arrives, and they hear nothing. In the end connections are reset: the answers are lost.
    Deaf,
}

struct Shared {
    cable: Mutex<Cable>,
    connections: Mutex<Vec<TcpStream>>,
}

/// A listener on loopback that passes everything on to another port of loopback.
pub struct Proxy {
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on `port` for as long as the process lives.
    pub fn start(port: u16, target: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let shared = Arc::new(Shared { cable: Mutex::new(Cable::Whole), connections: Mutex::default() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // The other end may be down: then the client sees its connection closed, as it would without us.
                let _ = accepting.connect(client, target);
            }
        });
        Ok(Self { shared })
    }

    /// Changes the cable, for the connections that there are and for new ones.
    pub fn set(&self, cable: Cable) {
        let before = std::mem::replace(&mut *self.shared.cable.lock().unwrap(), cable);
        if cable == Cable::Cut || (before == Cable::Deaf && cable != Cable::Deaf) {
            for connection in self.shared.connections.lock().unwrap().drain(..) {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Shared {
    fn cable(&self) -> Cable {
        *self.cable.lock().unwrap()
    }

    fn connect(self: &Arc<Self>, client: TcpStream, target: u16) -> std::io::Result<()> {
        if self.cable() == Cable::Cut {
            return client.shutdown(Shutdown::Both);
        }
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        {
            let mut connections = self.connections.lock().unwrap();
            // A connection that ended has no peer any more: forgotten, so that the list stays short.
            connections.retain(|connection| connection.peer_addr().is_ok());
            connections.extend([client.try_clone()?, server.try_clone()?]);
        }
        // Cut between the question above and the entry in the list: nobody else would end this one.
        if self.cable() == Cable::Cut {
            server.shutdown(Shutdown::Both)?;
            return client.shutdown(Shutdown::Both);
        }
        for (from, to, answers) in [(client.try_clone()?, server.try_clone()?, false), (server, client, true)] {
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.copy(from, to, answers));
        }
        Ok(())
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, answers: bool) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            match self.cable() {
                Cable::Slow(milliseconds) => std::thread::sleep(Duration::from_millis(milliseconds)),
                Cable::Stalled => {
                    while self.cable() == Cable::Stalled {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
                Cable::Deaf if answers => continue,
                Cable::Whole | Cable::Cut | Cable::Deaf => {}
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

#[test]
fn a_proxy_carries_stalls_loses_answers_and_cuts() {
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = local::free_port().unwrap();
    let proxy = Proxy::start(port, server.local_addr().unwrap().port()).unwrap();
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let (mut accepted, _) = server.accept().unwrap();
    let mut byte = [0];
    client.write_all(b"a").unwrap();
    accepted.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"a");

    proxy.set(Cable::Stalled);
    client.write_all(b"b").unwrap();
    accepted.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(accepted.read_exact(&mut byte).is_err(), "it moved through a stalled cable");
    proxy.set(Cable::Whole);
    accepted.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    accepted.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"b");

    proxy.set(Cable::Deaf);
    client.write_all(b"c").unwrap();
    accepted.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"c");
    accepted.write_all(b"an answer").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(client.read_exact(&mut byte).is_err(), "it heard something");
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    proxy.set(Cable::Whole);
    assert!(!matches!(client.read(&mut byte), Ok(1..)), "an answer that was lost came all the same");

    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let (mut accepted, _) = server.accept().unwrap();
    client.write_all(b"d").unwrap();
    accepted.read_exact(&mut byte).unwrap();
    proxy.set(Cable::Cut);
    assert!(!matches!(client.read(&mut byte), Ok(1..)), "data from a cut connection");
    let mut second = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    assert!(!matches!(second.read(&mut byte), Ok(1..)), "data through a cut cable");
}

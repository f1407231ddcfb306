//! Ports of the loopback interface.

use crate::LocalError;
use std::net::Ipv4Addr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use tokio::net::TcpSocket;

/// Below the ports that Linux gives to outgoing connections, 32768 and above.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A port of 127.0.0.1 that nobody listens on now. No connection gets it as its own end while the server that it is for is
/// not up yet, or is down: one that tries again and again to reach that server might, and would hold the server's port. No
/// port is given twice by a process. Another program may still take it before the caller does: servers started on such a
/// port are checked to be the ones that answer.
///
/// # Errors
/// When there is no port left.
pub fn free_port() -> std::io::Result<u16> {
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(..COUNT)));
    let mut ports = (0..COUNT).map(|_| FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT);
    ports.find(|port| is_free(*port)).ok_or_else(|| std::io::ErrorKind::AddrInUse.into())
}

/// Refuses a port that somebody listens on.
///
/// # Errors
/// [`LocalError::PortInUse`], naming `server`, which wanted it, and `variable`, which moves it.
pub fn require_free(port: u16, server: &str, variable: &'static str) -> Result<(), LocalError> {
    if is_free(port) { Ok(()) } else { Err(LocalError::PortInUse { port, server: server.to_owned(), variable }) }
}

/// Looks without listening. A program that another thread starts in that moment has our socket, too, until its own code
/// runs; one that listened would hold the port for so long, one that is only bound keeps no server from listening.
fn is_free(port: u16) -> bool {
    let bind = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, port).into())
    };
    bind().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::process::Command;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn free_ports_differ_and_are_no_connections() {
        let mut ports: Vec<u16> = (0..100).map(|_| free_port().unwrap()).collect();
        assert!(ports.iter().all(|port| (FIRST..FIRST + COUNT).contains(port)), "{ports:?}");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 100);
    }

    #[test]
    fn a_port_stays_free_though_programs_start_meanwhile() {
        let ended = AtomicBool::new(false);
        let refused = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    Command::new("true").status().unwrap();
                }
            });
            let listens = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
            let ports = (0..5_000).map(|_| free_port().unwrap());
            let refused = ports.filter(|port| !is_free(*port) || !listens(port)).count();
            ended.store(true, Ordering::Relaxed);
            refused
        });
        assert_eq!(refused, 0);
    }

    #[test]
    fn a_port_in_use_is_refused_by_name_and_a_free_one_is_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let refused = require_free(port, "the collector", "HITMETER_COLLECTOR_PORT").unwrap_err().to_string();
        assert!(refused.contains(&format!("port {port} ")), "{refused}");
        assert!(refused.contains("the collector") && refused.contains("HITMETER_COLLECTOR_PORT"), "{refused}");
        require_free(free_port().unwrap(), "the collector", "HITMETER_COLLECTOR_PORT").unwrap();
    }
}

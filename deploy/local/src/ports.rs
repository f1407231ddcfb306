//! Ports of the loopback interface.

use crate::LocalError;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

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
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.find(is_free).ok_or_else(|| std::io::ErrorKind::AddrInUse.into())
}

/// Refuses a port that somebody listens on.
///
/// # Errors
/// [`LocalError::PortInUse`], naming `server`, which wanted it, and `variable`, which moves it.
pub fn require_free(port: u16, server: &str, variable: &'static str) -> Result<(), LocalError> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(_) => Err(LocalError::PortInUse { port, server: server.to_owned(), variable }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_are_no_connections() {
        let mut ports: Vec<u16> = (0..100).map(|_| free_port().unwrap()).collect();
        assert!(ports.iter().all(|port| (FIRST..FIRST + COUNT).contains(port)), "{ports:?}");
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 100);
    }

    #[test]
    fn a_port_in_use_is_refused_by_name_and_a_free_one_is_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let refused = require_free(port, "the collector", "HITMETER_COLLECTOR_PORT").unwrap_err().to_string();
        assert!(refused.contains(&format!("port {port} ")), "{refused}");
        assert!(refused.contains("the collector") && refused.contains("HITMETER_COLLECTOR_PORT"), "{refused}");
        drop(listener);
        require_free(port, "the collector", "HITMETER_COLLECTOR_PORT").unwrap();
    }
}

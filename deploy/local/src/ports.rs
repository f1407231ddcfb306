//! Ports of the loopback interface.

use crate::LocalError;
use std::net::{Ipv4Addr, TcpListener};

/// A port of 127.0.0.1 that nobody listens on now. Another program may take it before the caller does: servers
/// started on such a port are checked to be the ones that answer.
///
/// # Errors
/// When the system has no port left.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
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

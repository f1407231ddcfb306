//! Open-loop HTTP load.
//!
//! Requests are due at times that are drawn before anything is known of the server: a Poisson process of a given rate,
//! as many independent visitors make it. A server that is slow gets them all the same, and latency counts from the
//! time a request was due, not from the time at which a connection was free for it. (A closed loop, which waits for
//! answers before it asks again, leaves out exactly the requests that would have waited: "coordinated omission".)
//!
//! One thread does it, with one `write` and one `read` a request. [`Requests`] are prepared before the run;
//! [`HitIds`] name each hit, so that the hits of a run can be looked up one by one where they should have arrived.

use std::net::SocketAddr;
use std::time::Duration;

mod answer;
mod connection;
mod hit_ids;
mod people;
mod requests;
mod run;

pub use hit_ids::{HitIds, HitSet};
pub use requests::{Endpoint, Requests};
pub use run::{Measured, run};

/// What to send, where to, how fast and for how long.
#[derive(Debug, Clone)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// Requests a second.
    pub rate: f64,
    /// How long requests are sent.
    pub time: Duration,
    /// At the start of it, so long nothing is measured.
    pub warm_up: Duration,
    /// Connections, all open from the start.
    pub connections: usize,
    /// How long the last answers are waited for.
    pub patience: Duration,
    /// What the times at which requests are due are drawn from.
    pub seed: u64,
}

/// Why a load can't be put on a server.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A connection can't be opened.
    #[error("can't connect to {address}: {cause}; does it listen, and does `ulimit -n` permit so many connections?")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        cause: std::io::Error,
    },
    /// The server says something that is no answer.
    #[error("the server does not speak HTTP/1.1 as expected: {0}")]
    Answer(String),
    /// The system refuses to tell of events.
    #[error("can't wait for answers: {0}")]
    Wait(rustix::io::Errno),
}

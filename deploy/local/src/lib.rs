//! The local stack: a real Kafka, a real ClickHouse, the three services and a demo site on one machine.
//!
//! `fetch.py` brings Kafka's jars, ClickHouse's engine and the enricher's data into `.local/`, see [`Paths`]. On those
//! stand, in this order:
//!
//! 1. [`Process`]: a child process that ends when the program that started it ends, with a log whose end is shown when
//!    something fails;
//! 2. [`Kafka`] and [`ClickHouse`]: one server each, in a directory and on ports of the caller's choice, started and
//!    waited for; [`MockKafka`] stands in for Kafka where there is no Java;
//! 3. [`TestStack`]: one pair of them for the integration tests of a process, got by [`stack_or_skip`].
//!
//! The program `hitmeter-local` builds the whole stack from the same pieces: see its `--help`.
//!
//! It never listens beyond 127.0.0.1, never fetches anything itself, and never lets a test that could not run pass in
//! silence. It is for one machine: nothing in it is meant for production.

pub mod clickhouse;
mod demo;
mod error;
pub mod kafka;
mod mock;
mod paths;
mod ports;
mod process;
mod stack;

pub use clickhouse::ClickHouse;
pub use demo::DemoSite;
pub use error::LocalError;
pub use kafka::Kafka;
pub use mock::MockKafka;
pub use paths::Paths;
pub use ports::{free_port, require_free};
pub use process::{Fate, Process, tail};
pub use stack::{TestStack, database_or_skip, not_run, servers_or_skip, stack_or_mock, stack_or_skip};

//! What can go wrong with the local servers.

use std::path::PathBuf;

/// Why a local server could not be started, used or stopped. Every message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Something the stack runs on was not fetched or installed.
    #[error("{what} is missing ({looked_at}); run deploy/local/install.sh, then deploy/local/fetch.py")]
    Missing {
        /// What is missing.
        what: &'static str,
        /// Where it was looked for.
        looked_at: String,
    },
    /// A port is taken.
    #[error(
        "port {port} of 127.0.0.1, wanted by {server}, is in use; stop the program that listens there or choose another port with {variable}"
    )]
    PortInUse {
        /// The port.
        port: u16,
        /// Who wanted it.
        server: String,
        /// What moves it.
        variable: &'static str,
    },
    /// A file or directory could not be written or read.
    #[error("can't {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program could not be run.
    #[error("can't run {program}: {source}; is it installed?")]
    Spawn {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A server ended although it should run.
    #[error("{server} ended ({status}); the end of its log {log}:\n{tail}")]
    Ended {
        /// Which server.
        server: String,
        /// How it ended.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A server runs but did not answer in time.
    #[error("{server} did not become ready within {seconds} s ({last}); the end of its log {log}:\n{tail}")]
    NotReady {
        /// Which server.
        server: String,
        /// How long it was waited for, seconds.
        seconds: u64,
        /// What the last attempt said.
        last: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// Kafka's client said no.
    #[error("Kafka on {brokers}: {source}")]
    Kafka {
        /// The brokers asked.
        brokers: String,
        /// What the client said.
        source: rdkafka::error::KafkaError,
    },
    /// ClickHouse refused a query or was not reached.
    #[error("ClickHouse on {url}: {message}")]
    ClickHouse {
        /// The address asked.
        url: String,
        /// What it said.
        message: String,
    },
}

impl LocalError {
    /// Turns an error of the file system into one that names the path: `.map_err(LocalError::file("write", &path))`.
    pub fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

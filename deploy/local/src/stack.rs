//! What integration tests run on: one real Kafka and one real ClickHouse for each test process. Where Java is missing, the
//! mock broker stands in for Kafka: what needs only ClickHouse runs as ever, a first look at the way of a hit runs on the mock
//! and says so, and all else is listed as not run.

use crate::clickhouse::{ClickHouse, Extras};
use crate::kafka::Kafka;
use crate::ports::free_port;
use crate::process::Fate;
use crate::{LocalError, MockKafka};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The pair of servers, shared by all tests of one process. Its tests keep out of each other's way by topic prefix and
/// database. The servers end, and their directories go, within seconds after the test process is gone.
#[derive(Debug)]
pub struct TestStack {
    brokers: String,
    clickhouse_url: String,
    /// What is missing for a real Kafka.
    missing: Option<String>,
    // Held for as long as the process lives: dropping them would stop the servers.
    _kafka: Broker,
    _clickhouse: ClickHouse,
}

#[derive(Debug)]
enum Broker {
    Real { _kafka: Kafka },
    Mock { _kafka: MockKafka },
}

impl Broker {
    /// Starts the real one, or the mock where something is missing: that, and its address.
    fn start(directory: &Path) -> Result<(Self, Option<String>, String), LocalError> {
        match Kafka::available() {
            Ok(_) => {
                let kafka = Kafka::start_with(directory, port()?, Fate::Remove)?;
                let brokers = kafka.brokers();
                Ok((Self::Real { _kafka: kafka }, None, brokers))
            }
            Err(missing @ LocalError::Missing { .. }) => {
                let kafka = MockKafka::start(&[])?;
                let brokers = kafka.brokers().to_owned();
                Ok((Self::Mock { _kafka: kafka }, Some(missing.to_string()), brokers))
            }
            Err(other) => Err(other),
        }
    }
}

impl TestStack {
    /// The pair of this process; the first caller starts it, which takes some seconds.
    ///
    /// # Errors
    /// When something is missing on this machine or a server does not start; the same answer for every caller.
    pub fn shared() -> Result<&'static Self, &'static LocalError> {
        static SHARED: OnceLock<Result<TestStack, LocalError>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    fn start() -> Result<Self, LocalError> {
        // Asked first, so that a machine without it does not wait for the other one.
        ClickHouse::available()?;
        let directory = temporary_directory();
        let clickhouse_directory = directory.join("clickhouse");
        let starting = std::thread::spawn(move || {
            let [http_port, tcp_port] = [port()?, port()?];
            ClickHouse::start_with(&clickhouse_directory, (http_port, tcp_port), Fate::Remove, Extras::default())
        });
        let broker = Broker::start(&directory.join("kafka"));
        let clickhouse = starting.join().unwrap_or_else(|_| {
            let message = "the thread that started it panicked".to_owned();
            Err(LocalError::ClickHouse { url: "127.0.0.1".to_owned(), message })
        });
        let ((kafka, missing, brokers), clickhouse) = (broker?, clickhouse?);
        Ok(Self { brokers, clickhouse_url: clickhouse.url(), missing, _kafka: kafka, _clickhouse: clickhouse })
    }

    /// Whether the mock broker stands in for Kafka. It has no settings of topics, and makes them of four partitions when they
    /// are first written to.
    #[must_use]
    pub fn is_mock(&self) -> bool {
        self.missing.is_some()
    }

    /// What clients take as `bootstrap.servers`.
    #[must_use]
    pub fn kafka_brokers(&self) -> &str {
        &self.brokers
    }

    /// The address of ClickHouse's HTTP interface, for users `default` and `analyst`, both without a password.
    #[must_use]
    pub fn clickhouse_url(&self) -> &str {
        &self.clickhouse_url
    }

    /// A prefix for a test's topics that no other call returns: `<test>-<number>.`.
    #[must_use]
    pub fn topic_prefix(&self, test_name: &str) -> String {
        format!("{test_name}-{}.", next_number())
    }

    /// A name for a test's database that no other call returns: `test_<test>_<number>`. The database is not created.
    #[must_use]
    pub fn database(&self, test_name: &str) -> String {
        let name: String = test_name
            .chars()
            .map(|character| if character.is_ascii_alphanumeric() { character } else { '_' })
            .collect();
        format!("test_{name}_{}", next_number())
    }

    /// Sends one query to ClickHouse as `default`.
    ///
    /// # Errors
    /// [`LocalError::ClickHouse`] with the server's own message.
    pub fn query(&self, sql: &str) -> Result<String, LocalError> {
        crate::clickhouse::query(&self.clickhouse_url, "default", sql)
    }
}

/// The servers for the test `test_name`, or nothing on a machine that lacks what they run on. The test must then
/// return at once; the test runner lists it as not run, by name and reason.
///
/// # Panics
/// When the servers are there but do not start, and with `CI=true` also when something is missing: there, a test that
/// did not run is a failure.
#[must_use]
pub fn stack_or_skip(test_name: &str) -> Option<&'static TestStack> {
    let stack = database_or_skip(test_name)?;
    match &stack.missing {
        None => Some(stack),
        Some(missing) => {
            not_run(test_name, missing);
            None
        }
    }
}

/// The same, for a test that asks ClickHouse only and needs no Kafka.
///
/// # Panics
/// As [`stack_or_skip`].
#[must_use]
pub fn database_or_skip(test_name: &str) -> Option<&'static TestStack> {
    match TestStack::shared() {
        Ok(stack) => Some(stack),
        Err(missing @ LocalError::Missing { .. }) => {
            not_run(test_name, &missing.to_string());
            None
        }
        Err(problem) => panic!("the servers for {test_name} did not start: {problem}"),
    }
}

/// The same, for a test that holds on the mock broker, too: there it says that it was no more than a first look.
///
/// # Panics
/// As [`stack_or_skip`], and with `CI=true` when it would have to be the mock.
#[must_use]
pub fn stack_or_mock(test_name: &str) -> Option<&'static TestStack> {
    let stack = database_or_skip(test_name)?;
    if let Some(missing) = &stack.missing {
        tell(&format!("{test_name}: ran on the mock broker only: {missing}"));
    }
    Some(stack)
}

/// True when this machine has what servers of a test's own need. Else the test must return at once; it is listed as not
/// run.
///
/// # Panics
/// With `CI=true` when something is missing.
#[must_use]
pub fn servers_or_skip(test_name: &str) -> bool {
    match Kafka::available().and_then(|_| ClickHouse::available()) {
        Ok(_) => true,
        Err(missing) => {
            not_run(test_name, &missing.to_string());
            false
        }
    }
}

/// Tells the test runner that a test did not run as it should. It writes past the capture of test output, which shows
/// nothing of a test that passes.
///
/// # Panics
/// With `CI=true`.
pub fn not_run(test_name: &str, reason: &str) {
    tell(&format!("NOT RUN: {test_name}: {reason}"));
}

fn tell(text: &str) {
    let line = text.replace('\n', " ");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{line}");
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn port() -> Result<u16, LocalError> {
    free_port().map_err(LocalError::file("find a free port on", Path::new("127.0.0.1")))
}

fn temporary_directory() -> PathBuf {
    std::env::temp_dir().join(format!("hitmeter-test-{}", uuid::Uuid::new_v4().simple()))
}

fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

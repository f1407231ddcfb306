//! One Kafka node (KRaft: broker and controller in one process) from the jars that fetch.py brings.

use crate::ports::{free_port, require_free};
use crate::process::{Fate, Process, tail};
use crate::{LocalError, Paths};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a node may take to answer. It takes about 2 s on an idle machine.
const READY_WITHIN: Duration = Duration::from_secs(90);

/// The variable that moves Kafka's port in the local stack.
pub const PORT_VARIABLE: &str = "HITMETER_KAFKA_PORT";

/// What a node has beyond the plain one: for tests that put a faulty network between it and its clients.
#[derive(Debug, Clone, Default)]
pub struct Extension {
    /// Further listeners, each on a port of its own that names another one as its address: that of a proxy before it.
    /// A client that starts from the proxy stays behind the proxy.
    pub proxied: Vec<Proxied>,
    /// Settings of the broker, as it names them.
    pub settings: Vec<(String, String)>,
}

/// A listener behind a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Proxied {
    /// Where the broker listens.
    pub listens: u16,
    /// Where it tells clients that it listens.
    pub advertised: u16,
}

/// A running Kafka on the loopback interface. Dropping it stops it and keeps its data.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    port: u16,
}

impl Kafka {
    /// Starts a node on 127.0.0.1:`port` with its data, settings and log in `directory`, and waits until it answers.
    /// What an earlier node left in `directory` is kept. Takes 2 to 5 s.
    ///
    /// # Errors
    /// When Java or the jars are missing, the port is in use, or the node does not come up (with the end of its log).
    pub fn start(directory: &Path, port: u16) -> Result<Self, LocalError> {
        Self::start_with(directory, port, Fate::Keep)
    }

    /// The same, with further listeners and settings. They may be others at each start.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn start_extended(directory: &Path, port: u16, extension: &Extension) -> Result<Self, LocalError> {
        Self::start_as(directory, port, extension, Fate::Keep)
    }

    pub(crate) fn start_with(directory: &Path, port: u16, fate: Fate) -> Result<Self, LocalError> {
        Self::start_as(directory, port, &Extension::default(), fate)
    }

    fn start_as(directory: &Path, port: u16, extension: &Extension, fate: Fate) -> Result<Self, LocalError> {
        let libraries = Self::available()?;
        require_free(port, "Kafka", PORT_VARIABLE)?;
        fs::create_dir_all(directory).map_err(LocalError::file("create", directory))?;
        let settings = directory.join("server.properties");
        let controller = free_port().map_err(LocalError::file("find a free port for", directory))?;
        let text = properties(directory, port, controller, extension);
        fs::write(&settings, text).map_err(LocalError::file("write", &settings))?;
        format(&libraries, directory, &settings)?;

        let mut command = java(&libraries);
        command.arg("kafka.Kafka").arg(&settings);
        let log = directory.join("kafka.log");
        let mut process = Process::start_on_lifeline("Kafka", &command, &log, fate, directory)?;
        process.wait_until(READY_WITHIN, || answers(port))?;
        Ok(Self { process, port })
    }

    /// Where the jars are, when all that a node needs is there.
    ///
    /// # Errors
    /// [`LocalError::Missing`] names what is not there.
    pub fn available() -> Result<PathBuf, LocalError> {
        Paths::program("java")?;
        Paths::require(Paths::new().kafka_libraries(), "Kafka (its jars)")
    }

    /// What clients take as `bootstrap.servers`.
    #[must_use]
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The server's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Stops it in order and keeps its data; true when it needed no killing.
    pub fn stop(mut self) -> bool {
        self.process.stop()
    }
}

/// Whether a broker with this port as its address answers.
///
/// # Errors
/// What the client said instead, in words.
pub(crate) fn answers(port: u16) -> Result<(), String> {
    let brokers = format!("127.0.0.1:{port}");
    // A refused connection is reported at once; the client itself would wait and log.
    std::net::TcpStream::connect(&brokers).map_err(|problem| problem.to_string())?;
    reach(&brokers, Duration::from_secs(5)).map_err(|problem| problem.to_string())
}

/// Asks `brokers` for their cluster.
///
/// # Errors
/// [`LocalError::Kafka`] when none of them answers in time.
pub fn reach(brokers: &str, within: Duration) -> Result<(), LocalError> {
    let ask = || -> Result<(), rdkafka::error::KafkaError> {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", brokers).set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        let client: BaseConsumer = settings.create()?;
        client.fetch_metadata(None, within).map(|_| ())
    };
    ask().map_err(|source| LocalError::Kafka { brokers: brokers.to_owned(), source })
}

/// A Java machine that starts fast and stays small: a laptop runs it beside everything else.
fn java(libraries: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
    command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]);
    command.arg("-cp").arg(libraries.join("*"));
    command
}

/// Prepares the data directory unless an earlier node did.
fn format(libraries: &Path, directory: &Path, settings: &Path) -> Result<(), LocalError> {
    if directory.join("data/meta.properties").exists() {
        return Ok(());
    }
    let log = directory.join("format.log");
    let output = fs::File::create(&log).map_err(LocalError::file("create", &log))?;
    let errors = output.try_clone().map_err(LocalError::file("create", &log))?;
    let status = java(libraries)
        .args(["kafka.tools.StorageTool", "format", "--cluster-id", &cluster_id(), "--config"])
        .arg(settings)
        .stdout(output)
        .stderr(errors)
        .status()
        .map_err(|source| LocalError::Spawn { program: "java".to_owned(), source })?;
    if status.success() {
        return Ok(());
    }
    let server = "Kafka's storage tool".to_owned();
    Err(LocalError::Ended { server, status: status.to_string(), tail: tail(&log), log })
}

/// 16 random bytes in URL-safe base64 without padding: 22 characters. Hexadecimal digits are base64 digits too, and
/// the last character, which carries only two bits, must be one of A, Q, g, w.
fn cluster_id() -> String {
    let digits = uuid::Uuid::new_v4().simple().to_string();
    format!("{}A", &digits[..21])
}

fn properties(directory: &Path, port: u16, controller: u16, extension: &Extension) -> String {
    let data = directory.join("data");
    let (mut listeners, mut advertised, mut protocols) = (String::new(), String::new(), String::new());
    for (number, proxied) in extension.proxied.iter().enumerate() {
        listeners += &format!(",PROXIED{number}://127.0.0.1:{}", proxied.listens);
        advertised += &format!(",PROXIED{number}://127.0.0.1:{}", proxied.advertised);
        protocols += &format!(",PROXIED{number}:PLAINTEXT");
    }
    let further: String = extension.settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
# One node: every internal topic has one copy, and few partitions.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# The services create their topics from the catalogue; a misspelt name must not become a topic.
auto.create.topics.enable=false
# Nobody else will join a group in the first three seconds.
group.initial.rebalance.delay.ms=0
# Smaller than the default of 128 MB, which would be a quarter of the heap.
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
{further}",
        data = data.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_is_22_characters_of_url_safe_base64() {
        let id = cluster_id();
        assert_eq!(id.len(), 22);
        assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
        assert_ne!(id, cluster_id());
    }

    #[test]
    fn nothing_listens_beyond_loopback() {
        let proxied = vec![Proxied { listens: 9094, advertised: 9095 }];
        let text = properties(Path::new("/somewhere"), 9092, 9093, &Extension { proxied, ..Extension::default() });
        assert!(text.contains("PROXIED0://127.0.0.1:9094") && text.contains("PROXIED0://127.0.0.1:9095"), "{text}");
        for line in text.lines().filter(|line| line.contains("://")) {
            assert_eq!(line.matches("://").count(), line.matches("://127.0.0.1:").count(), "{line}");
        }
    }
}

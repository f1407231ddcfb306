//! How the three services are called, and when one is ready.

use crate::settings::Settings;
use anyhow::bail;
use local::{Fate, LocalError, Paths, Process};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a service may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to drain; its own deadline is 25 s.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// Where the services find each other.
#[derive(Debug, Clone)]
pub struct Servers {
    /// Kafka's brokers.
    pub brokers: String,
    /// What the topics start with where that is the mock broker, which has no topic settings.
    pub mock_prefix: Option<String>,
    /// ClickHouse's HTTP interface.
    pub clickhouse: String,
    /// The sites file.
    pub sites: PathBuf,
    /// The keys by which people are known in the topic of privacy.
    pub privacy_keys: PathBuf,
}

/// One service to run.
pub struct Service {
    /// Its name, which is also its program's.
    pub name: &'static str,
    /// Where it listens, for people.
    pub address: String,
    /// Where it says whether it is ready.
    metrics_port: u16,
    arguments: Vec<String>,
}

/// The services in the order in which they start: the one that hands out work last.
pub fn services(settings: &Settings, servers: &Servers) -> Vec<Service> {
    let metrics = |port: u16| format!("http://127.0.0.1:{port}/metrics");
    let data = |path: PathBuf| path.display().to_string();
    let (paths, sites) = (Paths::new(), data(servers.sites.clone()));
    let run = || vec!["run".to_owned()];
    let privacy = options(&[("--privacy-keys", &data(servers.privacy_keys.clone()))]);
    let sink =
        [run(), privacy.clone(), clickhouse_options(settings, servers), kafka_options(servers), membership()].concat();
    let enricher_data = options(&[
        ("--sites", &sites),
        ("--geoip-city", &data(paths.city())),
        ("--geoip-network", &data(paths.network())),
        ("--user-agent-regexes", &data(paths.user_agent_expressions())),
        ("--referrers", &data(paths.referrers())),
    ]);
    let listen = format!("127.0.0.1:{}", settings.collector_port);
    let spool = data(settings.data("spool"));
    let collector = options(&[("--listen", &listen), ("--sites", &sites), ("--spool", &spool)]);
    // The mock broker's transactions are half a stand-in.
    let delivery = if servers.mock_prefix.is_some() { "at-least-once" } else { "exactly-once" };
    let delivery = options(&[("--delivery", delivery)]);
    vec![
        service("sink", metrics(settings.sink_metrics_port), settings.sink_metrics_port, sink),
        service(
            "enricher",
            metrics(settings.enricher_metrics_port),
            settings.enricher_metrics_port,
            [run(), enricher_data, privacy.clone(), delivery, kafka_options(servers), membership()].concat(),
        ),
        service(
            "collector",
            settings.collector_url(),
            settings.collector_metrics_port,
            [collector, privacy, kafka_options(servers)].concat(),
        ),
    ]
}

fn service(name: &'static str, address: String, metrics_port: u16, mut arguments: Vec<String>) -> Service {
    arguments.extend(options(&[("--metrics-listen", &format!("127.0.0.1:{metrics_port}"))]));
    Service { name, address, metrics_port, arguments }
}

fn options(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().flat_map(|(option, value)| [(*option).to_owned(), (*value).to_owned()]).collect()
}

/// A name in the consumer group: a service that was killed gets its partitions back at once when it starts again,
/// instead of waiting until the broker gives up on its predecessor (45 s).
fn membership() -> Vec<String> {
    options(&[("--group-instance-id", "local")])
}

fn kafka_options(servers: &Servers) -> Vec<String> {
    let mut words = options(&[("--kafka-brokers", &servers.brokers)]);
    if let Some(prefix) = &servers.mock_prefix {
        words.extend(options(&[("--topic-setup", "skip"), ("--topic-prefix", prefix)]));
    }
    words
}

fn clickhouse_options(settings: &Settings, servers: &Servers) -> Vec<String> {
    options(&[("--clickhouse-url", &servers.clickhouse), ("--clickhouse-user", &settings.clickhouse_user)])
}

/// Refuses to start half a stack.
pub fn require_built() -> anyhow::Result<()> {
    match ["sink", "enricher", "collector"].map(program).iter().find(|program| !program.is_file()) {
        None => Ok(()),
        Some(missing) => bail!("{} is not built; `make up` builds it", missing.display()),
    }
}

/// A program that was built beside this one.
fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().unwrap_or(Path::new("")).join(name)
}

/// A command for one of the programs. The password goes through the environment: command lines are for all to see.
fn command(name: &str, settings: &Settings) -> Command {
    let mut command = Command::new(program(name));
    if name == "sink" && !settings.clickhouse_password.is_empty() {
        command.env("SINK_CLICKHOUSE_PASSWORD", &settings.clickhouse_password);
    }
    command
}

/// Brings ClickHouse's tables up to date with the sink's migrations, and waits for the end of that.
pub fn migrate(settings: &Settings, servers: &Servers) -> Result<(), LocalError> {
    let mut command = command("sink", settings);
    command.arg("migrate").args(clickhouse_options(settings, servers));
    let log = settings.log("migrate");
    Process::start_on_lifeline("sink migrate", &command, &log, Fate::Keep, &settings.directory)?.finish(READY_WITHIN)
}

impl Service {
    /// Starts it and waits until it says that it is ready; `started` is told the process id in between.
    pub fn start(&self, settings: &Settings, started: impl FnOnce(u32)) -> Result<Process, LocalError> {
        let mut command = command(self.name, settings);
        command.args(&self.arguments);
        let log = settings.log(self.name);
        let process = Process::start_on_lifeline(self.name, &command, &log, Fate::Keep, &settings.directory)?;
        let mut process = process.stop_within(STOP_WITHIN);
        started(process.id());
        process.wait_until(READY_WITHIN, || ready(self.metrics_port))?;
        Ok(process)
    }
}

/// Asks a service's /ready; the error says what it still waits for.
pub fn ready(metrics_port: u16) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(5)))
        .build()
        .into();
    let answer = agent.get(format!("http://127.0.0.1:{metrics_port}/ready")).call();
    let mut answer = answer.map_err(|problem| problem.to_string())?;
    if answer.status().is_success() {
        return Ok(());
    }
    Err(answer.body_mut().read_to_string().unwrap_or_default().trim().replace('\n', "; "))
}

//! What is measured on: a Kafka, a ClickHouse, and the programs that were built beside this one.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use local::{ClickHouse, Fate, Kafka, Process, free_port};
use tempfile::TempDir;

use crate::usage::{self, Usage};

/// How long a program may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Sites that hits are for.
pub const SITES: [&str; 4] = ["shop", "works", "academy", "parts"];
/// The site of the hits whose way is watched one by one.
pub const PROBE_SITE: &str = "probe";

/// Where a program may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cores {
    /// On all processors.
    All,
    /// On one, by its number.
    Only(usize),
}

impl Cores {
    /// What is measured has the first processor for itself, as far as the machine is idle ...
    pub const MEASURED: Self = Self::Only(0);
    /// ... and what serves it, or asks it, has the second.
    pub const OTHERS: Self = Self::Only(1);

    /// A command that runs a program there.
    pub fn command(self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match self {
            Self::Only(core) if usage::processors() > 1 => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
            _ => Command::new(program),
        }
    }

    /// Moves this thread, and those that it starts from now on, there.
    pub fn enter(self) -> anyhow::Result<()> {
        let mut set = rustix::thread::CpuSet::new();
        for core in 0..usage::processors().max(2) {
            if self == Self::All || self == Self::Only(core) || usage::processors() == 1 {
                set.set(core);
            }
        }
        rustix::thread::sched_setaffinity(None, &set).context("can't choose a processor")
    }
}

/// The two servers, and a directory for everything; all of it is gone when this is dropped.
#[derive(Debug)]
pub struct Bed {
    pub kafka: Kafka,
    pub clickhouse: ClickHouse,
    pub directory: TempDir,
    kafka_group: u32,
    clickhouse_group: u32,
}

impl Bed {
    /// Starts both servers.
    pub fn start() -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("hitmeter-bench-").tempdir()?;
        let mut kafka = Kafka::start(&directory.path().join("kafka"), free_port()?)?;
        let mut clickhouse = ClickHouse::start(&directory.path().join("clickhouse"), free_port()?, free_port()?)?;
        let mut sites = String::new();
        for site in SITES.iter().chain([&PROBE_SITE]) {
            writeln!(sites, "[sites.{site}]\norigins = [\"https://www.example.com\"]")?;
        }
        std::fs::write(directory.path().join("sites.toml"), sites)?;
        let (kafka_group, clickhouse_group) = (kafka.process().id(), clickhouse.process().id());
        Ok(Self { kafka, clickhouse, directory, kafka_group, clickhouse_group })
    }

    /// A path in the bench's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Asks ClickHouse.
    pub fn query(&self, sql: &str) -> anyhow::Result<String> {
        local::clickhouse::query(&self.clickhouse.url(), "default", sql).with_context(|| sql.to_owned())
    }

    /// What Kafka has used so far.
    pub fn kafka_usage(&self) -> anyhow::Result<Usage> {
        usage::of_group(self.kafka_group)
    }

    /// What ClickHouse has used so far.
    pub fn clickhouse_usage(&self) -> anyhow::Result<Usage> {
        usage::of_group(self.clickhouse_group)
    }

    /// Brings a database to what the sink needs.
    pub fn migrate(&self, database: &str) -> anyhow::Result<()> {
        let mut command = Command::new(program("sink")?);
        command.args(["migrate", "--clickhouse-url", &self.clickhouse.url(), "--clickhouse-database", database]);
        let log = self.path("migrate.log");
        Ok(Process::start_on_lifeline("sink migrate", &command, &log, Fate::Keep, self.directory.path())?
            .finish(READY_WITHIN)?)
    }

    /// Starts a collector.
    pub fn collector(&self, prefix: &str, cores: Cores, more: &[&str]) -> anyhow::Result<Service> {
        let listen = format!("127.0.0.1:{}", free_port()?);
        let mut words = self.words(&[("--topic-prefix", prefix), ("--listen", &listen)]);
        words.extend(["--trusted-proxy".to_owned(), "127.0.0.1/32".to_owned()]);
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let mut service = Service::start(self, "collector", cores, &words)?;
        service.address = Some(listen.parse()?);
        Ok(service)
    }

    /// Starts an enricher with all its data.
    pub fn enricher(&self, prefix: &str, cores: Cores, more: &[&str]) -> anyhow::Result<Service> {
        let paths = local::Paths::new();
        let data = [
            ("--geoip-city", paths.city()),
            ("--geoip-network", paths.network()),
            ("--user-agent-regexes", paths.user_agent_expressions()),
            ("--referrers", paths.referrers()),
        ];
        let mut words = vec!["run".to_owned()];
        words.extend(self.words(&[("--topic-prefix", prefix), ("--group", &format!("{prefix}enricher"))]));
        words.extend(data.iter().flat_map(|(option, path)| [(*option).to_owned(), path.display().to_string()]));
        words.extend(more.iter().map(|word| (*word).to_owned()));
        Service::start(self, "enricher", cores, &words)
    }

    /// Starts a sink.
    pub fn sink(&self, prefix: &str, database: &str, cores: Cores) -> anyhow::Result<Service> {
        let mut words = vec!["run".to_owned()];
        words.extend(["--kafka-brokers".to_owned(), self.kafka.brokers(), "--topic-prefix".to_owned()]);
        words.extend([prefix.to_owned(), "--group".to_owned(), format!("{database}.sink")]);
        words.extend(["--clickhouse-url".to_owned(), self.clickhouse.url()]);
        words.extend(["--clickhouse-database".to_owned(), database.to_owned()]);
        Service::start(self, "sink", cores, &words)
    }

    fn words(&self, pairs: &[(&str, &str)]) -> Vec<String> {
        let sites = self.path("sites.toml").display().to_string();
        let brokers = self.kafka.brokers();
        let common = [("--kafka-brokers", brokers.as_str()), ("--sites", sites.as_str())];
        common.iter().chain(pairs).flat_map(|(option, value)| [(*option).to_owned(), (*value).to_owned()]).collect()
    }
}

/// A program that was built beside this one.
pub fn program(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.parent().unwrap_or(Path::new("")).join(name);
    if !path.is_file() {
        bail!("{} is not built; `make bench` builds it", path.display());
    }
    Ok(path)
}

/// A service that runs.
#[derive(Debug)]
pub struct Service {
    process: Process,
    metrics_port: u16,
    /// Where it takes requests, if it does.
    pub address: Option<SocketAddr>,
}

impl Service {
    fn start(bed: &Bed, name: &str, cores: Cores, words: &[String]) -> anyhow::Result<Self> {
        let metrics_port = free_port()?;
        let mut command = cores.command(program(name)?);
        command.args(words).args(["--metrics-listen", &format!("127.0.0.1:{metrics_port}")]);
        let log = bed.path(&format!("{name}.log"));
        let mut process = Process::start_on_lifeline(name, &command, &log, Fate::Keep, bed.directory.path())?;
        process.wait_until(READY_WITHIN, || get(metrics_port, "ready").map(|_| ()))?;
        Ok(Self { process, metrics_port, address: None })
    }

    /// What it has used so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        usage::of_group(self.process.id())
    }

    /// The numbers of its processes.
    pub fn processes(&self) -> anyhow::Result<Vec<u32>> {
        usage::processes_of_group(self.process.id())
    }

    /// The sum of a metric over all its labels that start with `labels`, such as `outcome="inserted"`.
    pub fn metric(&self, name: &str, labels: &str) -> anyhow::Result<f64> {
        let text = get(self.metrics_port, "metrics").map_err(anyhow::Error::msg)?;
        Ok(sum(&text, name, labels))
    }

    /// Stops it in order.
    pub fn stop(mut self) -> anyhow::Result<()> {
        if !self.process.stop() {
            bail!("{} had to be killed: its shutdown took too long", self.process.name());
        }
        Ok(())
    }
}

/// The sum of a metric in Prometheus' text format.
fn sum(text: &str, name: &str, labels: &str) -> f64 {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (found, value) = rest.rsplit_once(' ')?;
        let found = found.strip_prefix('{').unwrap_or(found);
        let is_it = rest.starts_with(['{', ' ']) && found.starts_with(labels);
        is_it.then(|| value.parse::<f64>().ok()).flatten()
    };
    text.lines().filter_map(value).sum()
}

fn get(port: u16, path: &str) -> Result<String, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(5)))
        .build()
        .into();
    let answer = agent.get(format!("http://127.0.0.1:{port}/{path}")).call();
    let mut answer = answer.map_err(|problem| problem.to_string())?;
    let text = answer.body_mut().read_to_string().map_err(|problem| problem.to_string())?;
    if answer.status().is_success() { Ok(text) } else { Err(text.trim().replace('\n', "; ")) }
}

/// Waits for a condition.
pub fn until(what: &str, within: Duration, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    while !holds()? {
        if Instant::now() > deadline {
            bail!("not within {} s: {what}", within.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let text = "# TYPE a counter\na{outcome=\"x\",p=\"1\"} 2\na{outcome=\"x\"} 3\na{outcome=\"y\"} 4\nab 5\nb 6\n";
        assert_eq!(sum(text, "a", "outcome=\"x\""), 5.0);
        assert_eq!(sum(text, "a", ""), 9.0);
        assert_eq!(sum(text, "b", ""), 6.0);
    }
}

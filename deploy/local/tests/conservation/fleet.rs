//! The three real programs, as many of each as a schedule wants, supervised as in production: one that ends by itself
//! is started again.

use crate::world::{Link, World};
use local::{Fate, Paths, Process};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// HTTP in, topic out.
    Collector,
    /// Topic in, topic out.
    Enricher,
    /// Topic in, ClickHouse out.
    Sink,
}

impl Kind {
    /// Name of its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::Collector => "collector",
            Self::Enricher => "enricher",
            Self::Sink => "sink",
        }
    }
}

/// How long a member of a group may be silent. Pauses are shorter or longer than this.
pub const SESSION: Duration = Duration::from_secs(3);
/// How long a service has for its shutdown; more, and it is killed.
const SHUTDOWN_SECONDS: u64 = 10;

/// What all members of a schedule have in common.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Folder of logs and of the spool.
    pub directory: PathBuf,
    /// The collector's spool, which may be on a small disk.
    pub spool: PathBuf,
    /// Most bytes in it.
    pub spool_bytes: u64,
    /// What topics start with.
    pub prefix: String,
    /// ClickHouse's database.
    pub database: String,
    /// Whether members keep their names over restarts.
    pub named: bool,
    /// Where hits are taken.
    pub collector_port: u16,
}

/// A program that runs, or ran and is to be started again.
pub struct Member {
    /// Its name, as `sink-1`.
    pub name: String,
    /// Which program.
    pub kind: Kind,
    /// Where it tells its metrics.
    pub metrics_port: u16,
    /// Whether it was killed or ended by itself in this schedule: then its counters started afresh.
    pub interrupted: bool,
    process: Option<Process>,
}

/// All members of a schedule.
pub struct Fleet {
    /// What they have in common.
    pub setup: Setup,
    /// Those that should run.
    pub members: Vec<Member>,
    /// What a reader of the report wants to know, in order.
    pub notes: Vec<String>,
    begun: Instant,
}

/// Where the programs are: built beside this test, or in a folder of the runner's choice.
pub fn programs() -> PathBuf {
    std::env::var_os("PROGRAMS")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_hitmeter-local")).parent().unwrap().to_owned(), PathBuf::from)
}

impl Fleet {
    /// No members yet.
    pub fn new(setup: Setup) -> Self {
        Self { setup, members: Vec::new(), notes: Vec::new(), begun: Instant::now() }
    }

    /// Writes something down, with the time since the schedule began.
    pub fn note(&mut self, text: impl std::fmt::Display) {
        self.notes.push(format!("{:7.3} {text}", self.begun.elapsed().as_secs_f64()));
    }

    /// Brings the database to what the sink needs.
    pub fn migrate(&self, world: &World) {
        let mut command = Command::new(programs().join("sink"));
        command.args(["migrate", "--clickhouse-url", &world.clickhouse_url()]);
        command.args(["--clickhouse-database", &self.setup.database]);
        let log = self.setup.directory.join("migrate.log");
        let process = Process::start_on_lifeline("migrate", &command, &log, Fate::Keep, &self.setup.directory);
        process
            .and_then(|process| process.finish(Duration::from_secs(60)))
            .unwrap_or_else(|problem| panic!("{problem}"));
    }

    /// Starts a further member.
    pub fn add(&mut self, world: &World, kind: Kind, name: &str) {
        let mut member = Member {
            name: name.to_owned(),
            kind,
            metrics_port: local::free_port().unwrap(),
            interrupted: false,
            process: None,
        };
        member.start(world, &self.setup);
        self.members.push(member);
    }

    /// Waits until all are ready.
    pub fn wait_ready(&mut self, within: Duration) -> Result<(), String> {
        let deadline = Instant::now() + within;
        for member in &mut self.members {
            let left = deadline.saturating_duration_since(Instant::now());
            let port = member.metrics_port;
            let Some(process) = &mut member.process else { return Err(format!("{} does not run", member.name)) };
            process.wait_until(left, || get(port, "ready").map(|_| ())).map_err(|problem| problem.to_string())?;
        }
        Ok(())
    }

    fn member(&mut self, name: &str) -> &mut Member {
        self.members.iter_mut().find(|member| member.name == name).unwrap_or_else(|| panic!("no member {name}"))
    }

    /// Kills a member (SIGKILL).
    pub fn kill(&mut self, name: &str) {
        let member = self.member(name);
        member.interrupted = true;
        if let Some(mut process) = member.process.take() {
            process.kill();
        }
    }

    /// Ends a member in order (SIGTERM). The end is noted when it was none.
    pub fn stop(&mut self, name: &str) {
        let member = self.member(name);
        member.interrupted = true;
        let Some(mut process) = member.process.take() else { return };
        let in_time = process.stop();
        let status = process.ended();
        if !in_time {
            self.note(format!("{name} had to be killed: its shutdown took too long"));
        } else if !status.is_some_and(|status| status.success()) {
            self.note(format!("{name} was asked to stop and ended with {status:?}"));
        }
    }

    /// Starts a member again.
    pub fn start(&mut self, world: &World, name: &str) {
        let setup = self.setup.clone();
        let member = self.member(name);
        if member.process.is_none() {
            member.start(world, &setup);
        }
    }

    /// Takes a member away for good.
    pub fn remove(&mut self, name: &str) {
        self.members.retain(|member| member.name != name);
    }

    /// Freezes a member, or thaws it.
    pub fn signal(&mut self, name: &str, signal: Signal) {
        let Some(process) = &self.member(name).process else { return };
        signal_group(process.id(), signal);
    }

    /// Starts again what ended by itself.
    pub fn supervise(&mut self, world: &World) {
        let setup = self.setup.clone();
        let mut notes = Vec::new();
        for member in &mut self.members {
            let Some(status) = member.process.as_mut().and_then(Process::ended) else { continue };
            notes.push(format!("{} ended by itself ({status}), started again", member.name));
            member.interrupted = true;
            member.process = None;
            member.start(world, &setup);
        }
        for note in notes {
            self.note(note);
        }
    }

    /// Ends all.
    pub fn stop_all(&mut self) {
        let names: Vec<_> = self.members.iter().map(|member| member.name.clone()).collect();
        for name in names {
            self.stop(&name);
        }
    }
}

/// Sends a signal to a process group.
pub fn signal_group(id: u32, signal: Signal) {
    let group = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    // It may have ended in this very moment.
    let _ = kill_process_group(group, signal);
}

impl Member {
    fn start(&mut self, world: &World, setup: &Setup) {
        let mut command = Command::new(programs().join(self.kind.program()));
        command.args(self.arguments(world, setup));
        let log = setup.directory.join(format!("{}.log", self.name));
        let process = Process::start_on_lifeline(&self.name, &command, &log, Fate::Keep, &setup.directory);
        let process = process.unwrap_or_else(|problem| panic!("{problem}"));
        self.process = Some(process.stop_within(Duration::from_secs(SHUTDOWN_SECONDS + 5)));
    }

    fn arguments(&self, world: &World, setup: &Setup) -> Vec<String> {
        let link = match self.kind {
            Kind::Collector => Link::CollectorKafka,
            Kind::Enricher => Link::EnricherKafka,
            Kind::Sink => Link::SinkKafka,
        };
        let mut words: Vec<String> = Vec::new();
        if self.kind != Kind::Collector {
            words.push("run".to_owned());
        }
        let mut option = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
        option("--kafka-brokers", &world.near_end(link));
        option("--topic-prefix", &setup.prefix);
        option("--metrics-listen", &format!("127.0.0.1:{}", self.metrics_port));
        option("--shutdown-deadline", &SHUTDOWN_SECONDS.to_string());
        let sites = Paths::new().deploy().join("sites.toml").display().to_string();
        match self.kind {
            Kind::Collector => {
                option("--listen", &format!("127.0.0.1:{}", setup.collector_port));
                option("--sites", &sites);
                option("--spool", &setup.spool.display().to_string());
                option("--spool-bytes", &setup.spool_bytes.to_string());
            }
            Kind::Enricher => {
                option("--sites", &sites);
                // What it knows about the world is not what is tested here, and takes seconds to load.
                option("--without", "geoip-city,geoip-network,user-agents,referrers");
                // A transaction of one that was killed ends early; a message may not wait for longer than it.
                option("--kafka-property", "transaction.timeout.ms=6000");
                option("--kafka-property", "delivery.timeout.ms=6000");
            }
            Kind::Sink => {
                option("--clickhouse-url", &format!("http://{}", world.near_end(Link::SinkClickHouse)));
                option("--clickhouse-database", &setup.database);
                option("--clickhouse-timeout", "5");
            }
        }
        if self.kind != Kind::Collector {
            option("--group", &format!("{}{}", setup.prefix, self.kind.program()));
            option("--kafka-property", &format!("session.timeout.ms={}", SESSION.as_millis()));
            option("--kafka-property", "heartbeat.interval.ms=500");
            if setup.named {
                option("--group-instance-id", &self.name);
            }
        }
        words
    }

    /// What it counts, by metric and labels as they stand there; nothing when it does not answer.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let text = get(self.metrics_port, "metrics").unwrap_or_default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect()
    }
}

fn get(port: u16, path: &str) -> Result<String, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(3)))
        .build()
        .into();
    let mut answer =
        agent.get(format!("http://127.0.0.1:{port}/{path}")).call().map_err(|problem| problem.to_string())?;
    let text = answer.body_mut().read_to_string().map_err(|problem| problem.to_string())?;
    if answer.status().is_success() { Ok(text) } else { Err(text.trim().replace('\n', "; ")) }
}

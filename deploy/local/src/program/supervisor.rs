//! The supervisor: starts the parts in order, watches them, and stops them in reverse.

use crate::services::{Servers, migrate, require_built, services};
use crate::settings::Settings;
use crate::state::{Part, Phase, State, lock};
use anyhow::{Context, bail};
use local::{ClickHouse, DemoSite, Kafka, LocalError, MockKafka, Paths, Process};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

/// How often the parts are looked at.
const WATCH: Duration = Duration::from_millis(200);
/// The port that the demo site has in the sites file.
const DEFAULT_SITE_PORT: &str = ":8000";

/// What runs. The order of the fields is not that of stopping: see [`Running::stop`].
#[derive(Default)]
struct Running {
    kafka: Option<Kafka>,
    mock: Option<MockKafka>,
    clickhouse: Option<ClickHouse>,
    services: Vec<Process>,
}

struct Supervisor {
    settings: Settings,
    state: State,
    running: Running,
    stop: Arc<AtomicBool>,
    runtime: tokio::runtime::Runtime,
}

/// Runs the stack until SIGTERM or SIGINT.
pub fn supervise(settings: Settings) -> anyhow::Result<()> {
    let Some(_lock) = take_lock(&settings)? else {
        bail!("another supervisor runs on {}", settings.directory.display())
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let stop = Arc::new(AtomicBool::new(false));
    watch_signals(&runtime, &stop)?;
    let mut supervisor = Supervisor { settings, state: State::new(), running: Running::default(), stop, runtime };
    supervisor.save();
    let outcome = supervisor.start();
    match &outcome {
        Ok(()) => {
            supervisor.set_phase(Phase::Ready);
            supervisor.watch();
            supervisor.set_phase(Phase::Stopping);
        }
        Err(problem) => {
            tracing::error!("{problem:#}");
            supervisor.state.problem = format!("{problem:#}");
            supervisor.set_phase(Phase::Failed);
        }
    }
    supervisor.running.stop();
    tracing::info!("everything is stopped");
    outcome
}

/// A client that asks whether a supervisor runs holds the lock for an instant: one refusal proves nothing.
fn take_lock(settings: &Settings) -> Result<Option<fs::File>, LocalError> {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        match lock(settings)? {
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            outcome => return Ok(outcome),
        }
    }
}

fn watch_signals(runtime: &tokio::runtime::Runtime, stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    let _inside = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, stop) = (signal(kind)?, Arc::clone(stop));
        runtime.spawn(async move {
            while signals.recv().await.is_some() {
                stop.store(true, Ordering::Relaxed);
            }
        });
    }
    // The terminal that started the stack may close: the stack stays.
    let mut hangups = signal(SignalKind::hangup())?;
    runtime.spawn(async move { while hangups.recv().await.is_some() {} });
    Ok(())
}

impl Supervisor {
    fn start(&mut self) -> anyhow::Result<()> {
        require_built()?;
        self.link_logs()?;
        let servers = self.start_servers()?;
        self.unless_stopped()?;
        tracing::info!("bringing the tables up to date");
        migrate(&self.settings, &servers)?;
        for service in services(&self.settings, &servers) {
            self.unless_stopped()?;
            let mut part = self.part(service.name, &service.address);
            part.log = Some(self.settings.log(service.name));
            let (state, settings) = (&mut self.state, &self.settings);
            let process = service.start(settings, |process_id| {
                part.process_id = Some(process_id);
                state.put(part.clone());
                let _ = state.write(settings);
            })?;
            self.running.services.push(process);
            self.ready(part);
        }
        self.start_site()
    }

    /// The servers write their logs beside their data; here they are with all the others.
    fn link_logs(&self) -> anyhow::Result<()> {
        let folder = self.settings.directory.join("logs");
        fs::create_dir_all(&folder).with_context(|| format!("can't create {}", folder.display()))?;
        for name in ["kafka", "clickhouse"] {
            let link = self.settings.log(name);
            let target = self.settings.data(name).join(format!("{name}.log"));
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(&target, &link).with_context(|| format!("can't create {}", link.display()))?;
        }
        Ok(())
    }

    fn unless_stopped(&self) -> anyhow::Result<()> {
        if self.stop.load(Ordering::Relaxed) { bail!("asked to stop while starting") } else { Ok(()) }
    }

    /// Kafka and ClickHouse, side by side.
    fn start_servers(&mut self) -> anyhow::Result<Servers> {
        let settings = self.settings.clone();
        let own_clickhouse = settings.clickhouse.is_none();
        let starting = own_clickhouse.then(|| {
            let settings = settings.clone();
            let start = move || {
                let data = settings.data("clickhouse");
                ClickHouse::start(&data, settings.clickhouse_http_port, settings.clickhouse_tcp_port)
            };
            std::thread::spawn(start)
        });
        let clickhouse_part = self.part("ClickHouse", &settings.clickhouse_url());
        let brokers = self.start_kafka();
        if let Some(starting) = starting {
            let started = starting.join().unwrap_or_else(|_| Err(local_panic("ClickHouse")));
            let clickhouse = self.running.clickhouse.insert(started?);
            let part = with_process(clickhouse_part, clickhouse.process());
            self.ready(part);
        } else {
            self.ready(Part { note: "not ours".to_owned(), ..clickhouse_part });
        }
        let (brokers, mock_prefix) = brokers?;
        let (sites, privacy_keys) = (self.sites_file()?, self.privacy_keys()?);
        Ok(Servers { brokers, mock_prefix, clickhouse: settings.clickhouse_url(), sites, privacy_keys })
    }

    /// The brokers, and where they are the mock, what the topics start with.
    fn start_kafka(&mut self) -> anyhow::Result<(String, Option<String>)> {
        if let Some(brokers) = self.settings.kafka.clone() {
            let part = self.part("Kafka", &brokers);
            local::kafka::reach(&brokers, Duration::from_secs(15))?;
            self.ready(Part { note: "not ours".to_owned(), ..part });
            return Ok((brokers, None));
        }
        if let Err(missing) = Kafka::available() {
            return self.start_mock(&missing.to_string());
        }
        let part = self.part("Kafka", &format!("127.0.0.1:{}", self.settings.kafka_port));
        let kafka = self.running.kafka.insert(Kafka::start(&self.settings.data("kafka"), self.settings.kafka_port)?);
        let brokers = kafka.brokers();
        let part = with_process(part, kafka.process());
        self.ready(part);
        Ok((brokers, None))
    }

    fn start_mock(&mut self, why: &str) -> anyhow::Result<(String, Option<String>)> {
        // Each mock broker counts its offsets from 0 again: in topics of the same name, ClickHouse would take new hits
        // for repetitions of those that it has from an earlier mock.
        let prefix = format!("mock-{}.", uuid::Uuid::now_v7().simple());
        let topic = |topic: &schemas::topics::Topic| (topic.full_name(&prefix), topic.partitions);
        let topics: Vec<_> = schemas::topics::CATALOGUE.iter().map(topic).collect();
        let mock = self.running.mock.insert(MockKafka::start(&topics)?);
        let brokers = mock.brokers().to_owned();
        let mut part = self.part("Kafka", &brokers);
        part.note = format!("MOCK BROKER inside the supervisor, forgets everything when it stops: {why}");
        tracing::warn!("{}", part.note);
        self.ready(part);
        Ok((brokers, Some(prefix)))
    }

    fn start_site(&mut self) -> anyhow::Result<()> {
        let part = self.part("demo site", &self.settings.site_url());
        let site = DemoSite::new(&Paths::new().deploy().join("demo"), &self.settings.collector_url());
        let port = self.settings.site_port;
        self.runtime.block_on(site.serve(port)).with_context(|| {
            format!("port {port}, wanted by the demo site, is in use; choose another one with HITMETER_SITE_PORT")
        })?;
        self.ready(part);
        Ok(())
    }

    /// The sites file: the repository's own, or where the demo site has another port, a copy that knows it.
    fn sites_file(&self) -> anyhow::Result<PathBuf> {
        let own = Paths::new().deploy().join("sites.toml");
        let port = format!(":{}", self.settings.site_port);
        if port == DEFAULT_SITE_PORT {
            return Ok(own);
        }
        let text = fs::read_to_string(&own).with_context(|| format!("can't read {}", own.display()))?;
        let copy = self.settings.run("sites.toml");
        fs::write(&copy, text.replace(DEFAULT_SITE_PORT, &port))
            .with_context(|| format!("can't write {}", copy.display()))?;
        Ok(copy)
    }

    /// The keys by which people are known in the topic of privacy: made once, and kept with the data.
    fn privacy_keys(&self) -> anyhow::Result<PathBuf> {
        let path = self.settings.data("privacy.keys");
        if !path.is_file() {
            let [first, second] = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::simple);
            let cannot = || format!("can't write {}", path.display());
            fs::create_dir_all(self.settings.data("")).with_context(cannot)?;
            fs::write(&path, format!("local {first}{second}\n")).with_context(cannot)?;
        }
        Ok(path)
    }

    /// Announces a part that starts now.
    fn part(&mut self, name: &str, address: &str) -> Part {
        let part = Part {
            name: name.to_owned(),
            phase: Phase::Starting,
            address: address.to_owned(),
            process_id: None,
            log: None,
            note: String::new(),
        };
        tracing::info!("{name} is starting");
        self.state.put(part.clone());
        self.save();
        part
    }

    fn ready(&mut self, part: Part) {
        tracing::info!("{} is ready on {}", part.name, part.address);
        self.state.put(Part { phase: Phase::Ready, ..part });
        self.save();
    }

    fn set_phase(&mut self, phase: Phase) {
        self.state.phase = phase;
        self.save();
    }

    /// Tells `up` and `status`; the stack itself does not depend on it.
    fn save(&self) {
        if let Err(problem) = self.state.write(&self.settings) {
            tracing::error!("{problem}");
        }
    }

    /// Waits for a signal, and notes which part ends before it. A part that ended is not started again: why it ended is
    /// what one wants to see on a developer's machine.
    fn watch(&mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            let ended: Vec<_> = self.running.processes().filter_map(ended).collect();
            for (name, note) in ended {
                let known = self.state.parts.iter_mut().find(|part| part.name == name && part.phase == Phase::Ready);
                if let Some(part) = known {
                    tracing::error!("{note}");
                    part.phase = Phase::Failed;
                    part.note = note;
                    self.save();
                }
            }
            std::thread::sleep(WATCH);
        }
    }
}

fn ended(process: &mut Process) -> Option<(String, String)> {
    process.ended()?;
    Some((process.name().to_owned(), process.ended_error().to_string()))
}

fn with_process(part: Part, process: &Process) -> Part {
    Part { process_id: Some(process.id()), log: Some(process.log().to_owned()), ..part }
}

fn local_panic(server: &str) -> LocalError {
    LocalError::ClickHouse { url: server.to_owned(), message: "the thread that started it panicked".to_owned() }
}

impl Running {
    fn processes(&mut self) -> impl Iterator<Item = &mut Process> {
        let servers = [self.kafka.as_mut().map(Kafka::process), self.clickhouse.as_mut().map(ClickHouse::process)];
        servers.into_iter().flatten().chain(self.services.iter_mut())
    }

    /// The collector first, so that nothing new comes in; then what works on hits; the servers last.
    fn stop(&mut self) {
        while let Some(mut service) = self.services.pop() {
            tell_stopped(service.name().to_owned(), service.stop());
        }
        if let Some(clickhouse) = self.clickhouse.take() {
            tell_stopped("ClickHouse".to_owned(), clickhouse.stop());
        }
        if let Some(kafka) = self.kafka.take() {
            tell_stopped("Kafka".to_owned(), kafka.stop());
        }
        self.mock = None;
    }
}

fn tell_stopped(name: String, in_order: bool) {
    if in_order {
        tracing::info!("{name} is stopped");
    } else {
        tracing::warn!("{name} did not stop in time and was killed");
    }
}

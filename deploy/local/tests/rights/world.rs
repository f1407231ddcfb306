//! One Kafka, one ClickHouse and the real programs on them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use local::kafka::Extension;
use local::{ClickHouse, Fate, Kafka, Process, free_port};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::people::SITES;

/// How long services may take to be ready on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long anything else may take.
pub const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(100);
/// What all topics start with.
pub const PREFIX: &str = "rights.";
/// Database of the sink that is killed.
pub const DATABASE: &str = "rights";
/// The group that loads it.
pub const GROUP: &str = "rights.sink";

/// Waits until something is so.
///
/// # Panics
/// With what was said last, when it takes too long.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(done) => return done,
            Err(last) => assert!(Instant::now() < deadline, "{what} does not come: {last}"),
        }
        std::thread::sleep(LOOK);
    }
}

/// The servers and the programs.
pub struct World {
    /// Where everything lies.
    pub directory: PathBuf,
    /// Where hits are taken.
    pub collector: String,
    kafka: Kafka,
    kafka_process: u32,
    clickhouse: ClickHouse,
    services: Mutex<Vec<Service>>,
    outputs: AtomicU32,
}

struct Service {
    name: &'static str,
    metrics: u16,
    process: Process,
}

/// Where the programs are: built beside this test, or in a folder of the runner's choice.
pub fn programs() -> PathBuf {
    std::env::var_os("PROGRAMS")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_hitmeter-local")).parent().unwrap().to_owned(), PathBuf::from)
}

fn sites() -> String {
    let site = |key: &str, drops: bool| {
        let (signals, ip) =
            (if drops { "drop" } else { "anonymous" }, if key == "docs" { "truncated" } else { "full" });
        format!("[sites.{key}]\nsignals = \"{signals}\"\nip = \"{ip}\"\nconsent = \"not_required\"\n")
    };
    SITES.iter().map(|each| site(each.key, each.drops_objectors)).collect()
}

impl World {
    /// Starts the servers in `directory`, and makes the database.
    pub fn start(directory: &Path) -> Self {
        std::fs::create_dir_all(directory.join("outputs")).unwrap();
        // A member that is dead is given up early.
        let settings = vec![("group.min.session.timeout.ms".to_owned(), "1000".to_owned())];
        let extension = Extension { settings, ..Extension::default() };
        let mut kafka = Kafka::start_extended(&directory.join("kafka"), free_port().unwrap(), &extension).unwrap();
        let [http, tcp] = [free_port().unwrap(), free_port().unwrap()];
        let clickhouse = ClickHouse::start_with_query_log(&directory.join("clickhouse"), http, tcp).unwrap();
        std::fs::write(directory.join("sites.toml"), sites()).unwrap();
        let keys = format!("second {}\nfirst {}\n", "5a".repeat(32), "a5".repeat(32));
        std::fs::write(directory.join("keys"), keys).unwrap();
        let world = Self {
            directory: directory.to_owned(),
            collector: format!("127.0.0.1:{}", free_port().unwrap()),
            kafka_process: kafka.process().id(),
            kafka,
            clickhouse,
            services: Mutex::default(),
            outputs: AtomicU32::new(0),
        };
        world.migrate(DATABASE);
        world
    }

    /// Makes a database.
    pub fn migrate(&self, database: &str) {
        self.sink(database, &["migrate"]);
        for site in &SITES {
            self.query(&format!(
                "INSERT INTO {database}.customer_sites (customer, site) VALUES ('customer-{}', '{}')",
                site.customer, site.key
            ));
        }
    }

    /// Kafka's address.
    pub fn brokers(&self) -> String {
        self.kafka.brokers()
    }

    /// Lets Kafka stand still for a while.
    pub fn freeze_kafka(&self, time: Duration) {
        let group = Pid::from_raw(i32::try_from(self.kafka_process).unwrap()).unwrap();
        kill_process_group(group, Signal::STOP).unwrap();
        std::thread::sleep(time);
        kill_process_group(group, Signal::CONT).unwrap();
    }

    /// ClickHouse's address.
    pub fn clickhouse_url(&self) -> String {
        self.clickhouse.url()
    }

    /// Asks ClickHouse, which keeps it in no log; `{db}` stands for the database.
    pub fn query(&self, sql: &str) -> String {
        let sql = sql.replace("{db}", DATABASE);
        local::clickhouse::query(&format!("{}/?log_queries=0", self.clickhouse_url()), "default", &sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// A number that ClickHouse tells.
    pub fn number(&self, sql: &str) -> usize {
        let answer = self.query(sql);
        answer.parse().unwrap_or_else(|error| panic!("{sql}: {answer:?}: {error}"))
    }

    /// Where the keys are.
    pub fn keys(&self) -> String {
        self.path("keys")
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Starts a service under a name, and waits until it is ready.
    pub fn run(&self, name: &'static str, program: &str, options: &[&str]) {
        let metrics = free_port().unwrap();
        let mut command = Command::new(programs().join(program));
        command.args((program != "collector").then_some("run"));
        command.args(["--kafka-brokers", &self.brokers(), "--topic-prefix", PREFIX, "--privacy-keys", &self.keys()]);
        command.args(["--metrics-listen", &format!("127.0.0.1:{metrics}"), "--log-filter", "debug"]);
        command.args(options);
        if program != "collector" {
            command.args(["--kafka-property", "session.timeout.ms=3000"]);
            command.args(["--kafka-property", "heartbeat.interval.ms=500"]);
        }
        let log = self.directory.join(format!("outputs/{name}.log"));
        let mut process = Process::start_on_lifeline(name, &command, &log, Fate::Keep, &self.directory).unwrap();
        let ready = || get(metrics, "ready").map(drop);
        process.wait_until(READY_WITHIN, ready).unwrap_or_else(|problem| panic!("{problem}"));
        self.services.lock().unwrap().push(Service { name, metrics, process });
    }

    /// Starts the three.
    pub fn run_all(&self) {
        self.run_sink();
        let sites = self.path("sites.toml");
        let without = "geoip-city,geoip-network,user-agents,referrers";
        self.run("enricher", "enricher", &["--sites", &sites, "--without", without, "--group", "rights.enricher"]);
        let spool = self.path("spool");
        let options = ["--listen", &self.collector, "--sites", &sites, "--spool", &spool];
        self.run("collector", "collector", &[&options[..], &["--trusted-proxy", "127.0.0.0/8"]].concat());
    }

    /// Starts the sink of the database.
    pub fn run_sink(&self) {
        let url = self.clickhouse_url();
        self.run("sink", "sink", &["--group", GROUP, "--clickhouse-url", &url, "--clickhouse-database", DATABASE]);
    }

    /// Kills a service (SIGKILL).
    pub fn kill(&self, name: &str) {
        let mut services = self.services.lock().unwrap();
        let place = services.iter().position(|service| service.name == name).unwrap();
        services.swap_remove(place).process.kill();
    }

    /// Ends all services in order, and writes down what they counted before they end.
    pub fn stop_all(&self) {
        for mut service in self.services.lock().unwrap().drain(..) {
            let counted = get(service.metrics, "metrics").unwrap();
            std::fs::write(self.directory.join(format!("outputs/{}.metrics", service.name)), counted).unwrap();
            assert!(service.process.stop(), "{} had to be killed", service.name);
        }
    }

    /// Starts a command; what it prints goes to a file whose path is given, too.
    pub fn spawn(&self, program: &str, words: &[&str]) -> (Child, PathBuf) {
        let number = self.outputs.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("outputs/{number}-{program}.txt"));
        let out = File::create(&path).unwrap();
        let mut command = Command::new(programs().join(program));
        command.args(words).stdin(Stdio::null()).stderr(out.try_clone().unwrap()).stdout(out);
        (command.spawn().unwrap(), path)
    }

    /// Runs a command of the sink on a database.
    pub fn sink(&self, database: &str, words: &[&str]) {
        let url = self.clickhouse_url();
        self.must("sink", &[words, &["--clickhouse-url", &url, "--clickhouse-database", database]].concat());
    }

    /// Runs a command that must succeed; gives what it printed.
    pub fn must(&self, program: &str, words: &[&str]) -> String {
        let (mut child, path) = self.spawn(program, words);
        let status = child.wait().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        assert!(status.success(), "{program} {:?}: {status}: {text}", words.first());
        text
    }
}

fn get(port: u16, path: &str) -> Result<String, String> {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(Duration::from_secs(5)));
    let agent: ureq::Agent = config.build().into();
    let mut answer =
        agent.get(format!("http://127.0.0.1:{port}/{path}")).call().map_err(|problem| problem.to_string())?;
    let text = answer.body_mut().read_to_string().map_err(|problem| problem.to_string())?;
    if answer.status().is_success() { Ok(text) } else { Err(text.trim().replace('\n', "; ")) }
}

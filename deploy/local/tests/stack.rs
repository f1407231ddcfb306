//! The whole stack as a person uses it: up, status, down, up again, and the end of a supervisor that was killed.

// The lint knows `#[test]` functions, but not the functions they share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use local::{clickhouse, free_port, not_run, servers_or_skip, stack_or_skip};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hitmeter-local");
const PATIENCE: Duration = Duration::from_secs(60);
/// E-mail address, name, telephone number and visitor id of somebody who is in no log.
const IDENTIFIERS: [&str; 4] =
    ["zweistein4711@example.org", "Adalbert Zweistein", "+4930471108155", "visitor-zweistein"];
const PORTS: [&str; 8] = [
    "KAFKA",
    "CLICKHOUSE_HTTP",
    "CLICKHOUSE_TCP",
    "COLLECTOR",
    "COLLECTOR_METRICS",
    "ENRICHER_METRICS",
    "SINK_METRICS",
    "SITE",
];

/// A stack in a folder and on ports of its own; brought down at the end, however the test ends.
struct Stack {
    directory: tempfile::TempDir,
    ports: BTreeMap<&'static str, u16>,
    /// Servers that exist already: variables `KAFKA` and `CLICKHOUSE`.
    existing: Vec<(&'static str, String)>,
}

impl Stack {
    fn new() -> Self {
        let ports = PORTS.map(|name| (name, free_port().unwrap()));
        Self { directory: tempfile::tempdir().unwrap(), ports: ports.into(), existing: Vec::new() }
    }

    fn run(&self, action: &str) -> Output {
        let mut command = Command::new(PROGRAM);
        command.arg(action).env("HITMETER_DIRECTORY", self.directory.path());
        command.env_remove("KAFKA").env_remove("CLICKHOUSE").envs(self.existing.iter().cloned());
        command.envs(["COLLECTOR", "ENRICHER", "SINK"].map(|service| (format!("{service}_LOG_FILTER"), "debug")));
        for (name, port) in &self.ports {
            command.env(format!("HITMETER_{name}_PORT"), port.to_string());
        }
        command.output().unwrap()
    }

    /// Runs an action that must succeed, and returns what it printed.
    fn must(&self, action: &str) -> String {
        let output = self.run(action);
        let text = text(&output);
        assert!(output.status.success(), "{action}: {text}");
        text
    }

    fn state(&self) -> serde_json::Value {
        let path = self.directory.path().join("run/state.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn part(&self, name: &str) -> Pid {
        let state = self.state();
        let part = state["parts"].as_array().unwrap().iter().find(|part| part["name"] == name).unwrap();
        pid(&part["process_id"])
    }

    /// Runs what `up` proposes to try, as the analyst that it proposes.
    fn try_queries(&self, up: &str) {
        let proposed = up.lines().filter_map(|line| line.split_once(" --data \"")?.1.strip_suffix('"'));
        let answers: Vec<_> = proposed.map(|sql| self.query(sql)).collect();
        assert_eq!(answers.len(), 3, "{up}");
        assert!(answers.iter().all(|answer| answer.contains("127.0.0.1")), "{answers:?}");
    }

    fn query(&self, sql: &str) -> String {
        clickhouse::query(&format!("http://127.0.0.1:{}", self.ports["CLICKHOUSE_HTTP"]), "analyst", sql).unwrap()
    }

    /// Sends hits of a person whose every identifier would be known again, some of them wrong in each way there is; waits
    /// until they are where they belong.
    fn send_a_persons_hits(&self) {
        let [email, name, phone, visitor] = IDENTIFIERS;
        let contact = format!(r#"{{"email":"{email}","name":"{name}","phone":"{phone}"}}"#);
        let hit = format!(r#"{{"site":"demo","event":"form","visitor":"{visitor}","contact":{contact}}}"#);
        let unknown_site = hit.replace("demo", "nobodys");
        let unreadable = hit.replace(r#""form""#, "{}");
        let wrong_values = hit.replace(r#""event""#, &format!(r#""time":"{email}","duration":"{phone}","event""#));
        let bodies = [&hit, &unknown_site, &unreadable, &wrong_values, &hit[..hit.len() - 1].to_owned()];
        let collector = format!("http://127.0.0.1:{}", self.ports["COLLECTOR"]);
        let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
        for body in bodies {
            agent.post(format!("{collector}/v1/hits")).send(body).unwrap();
        }
        for end in ["", "&title=%ff", "&time=now"] {
            let query = format!("site=demo&visitor={visitor}&email={email}&url=https://x.example/%3Fmail={email}{end}");
            agent.get(format!("{collector}/p.gif?{query}")).call().unwrap();
        }
        let rows = format!("SELECT count() FROM hitmeter.hits WHERE visitor_id = '{visitor}'");
        assert!(within(PATIENCE, || self.query(&rows) == "4"), "{}", self.query(&rows));
    }

    /// All that anybody may read without asking ClickHouse or Kafka for hits: logs and metrics.
    fn logs_and_metrics(&self) -> Vec<(String, String)> {
        let logs = std::fs::read_dir(self.directory.path().join("logs")).unwrap().map(|entry| entry.unwrap().path());
        let read = |path: PathBuf| (path.display().to_string(), std::fs::read_to_string(path).unwrap());
        let ports = PORTS.into_iter().filter(|name| name.ends_with("_METRICS"));
        let metrics = ports.map(|name| {
            let url = format!("http://127.0.0.1:{}/metrics", self.ports[name]);
            (url.clone(), ureq::get(url).call().unwrap().body_mut().read_to_string().unwrap())
        });
        logs.map(read).chain(metrics).collect()
    }

    /// Addresses, as the kernel writes them, on which anybody listens at the stack's ports (Linux, proc_net_tcp(5)).
    fn listening_addresses(&self) -> Vec<String> {
        let table = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let sockets = table("/proc/net/tcp") + &table("/proc/net/tcp6");
        let listener = |line: &str| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let (address, port) = columns.get(1)?.split_once(':')?;
            let port = u16::from_str_radix(port, 16).ok()?;
            let is_ours = self.ports.values().any(|own| *own == port) && columns.get(3) == Some(&"0A");
            is_ours.then(|| address.to_owned())
        };
        sockets.lines().filter_map(listener).collect()
    }

    fn listening(&self) -> Vec<&'static str> {
        let listens = |port: u16| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        self.ports.iter().filter(|(_, port)| listens(**port)).map(|(name, _)| *name).collect()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.run("down");
    }
}

fn pid(number: &serde_json::Value) -> Pid {
    Pid::from_raw(i32::try_from(number.as_i64().unwrap()).unwrap()).unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn within(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    true
}

fn missing_service() -> Option<PathBuf> {
    let folder = Path::new(PROGRAM).parent().unwrap();
    ["collector", "enricher", "sink"].map(|name| folder.join(name)).into_iter().find(|program| !program.is_file())
}

/// True when the test `name` can run here.
fn can_run(name: &str) -> bool {
    if let Some(missing) = missing_service() {
        not_run(name, &format!("{} is not built: cargo build --workspace --bins", missing.display()));
        return false;
    }
    servers_or_skip(name)
}

#[test]
fn servers_that_exist_already_are_used_and_left_alone() {
    const NAME: &str = "local::servers_that_exist_already";
    if !can_run(NAME) {
        return;
    }
    let Some(servers) = stack_or_skip(NAME) else { return };
    let mut stack = Stack::new();
    stack.existing =
        vec![("KAFKA", servers.kafka_brokers().to_owned()), ("CLICKHOUSE", servers.clickhouse_url().to_owned())];
    stack.must("up");
    let own = ["COLLECTOR", "COLLECTOR_METRICS", "ENRICHER_METRICS", "SINK_METRICS", "SITE"];
    assert_eq!(stack.listening(), own);
    stack.must("down");
    assert_eq!(servers.query("SELECT count() FROM hitmeter.hits").unwrap(), "1");
    local::kafka::reach(servers.kafka_brokers(), PATIENCE).unwrap();
}

#[test]
fn a_visit_arrives_data_outlives_a_restart_and_nothing_outlives_the_supervisor() {
    const NAME: &str = "local::a_visit_arrives";
    if !can_run(NAME) {
        return;
    }
    let stack = Stack::new();
    assert!(text(&stack.run("status")).contains("the stack is down"));

    let up = stack.must("up");
    assert!(up.contains("demo") && up.contains("Three queries to try"), "{up}");
    let all: Vec<_> = stack.ports.keys().copied().collect();
    let addresses = stack.listening_addresses();
    // 127.0.0.1, and the same within IPv6.
    let loopback = ["0100007F", "0000000000000000FFFF00000100007F"];
    assert!(
        addresses.len() >= all.len() && addresses.iter().all(|one| loopback.contains(&one.as_str())),
        "{addresses:?}"
    );
    assert_eq!(stack.listening(), all);
    assert_eq!(stack.query("SELECT count() FROM hitmeter.hits"), "1");
    stack.try_queries(&up);
    let again = stack.must("up");
    assert!(again.contains("up already"), "{again}");

    stack.send_a_persons_hits();
    let told = stack.logs_and_metrics();
    for part in ["collector.log", "enricher.log", "sink.log", "/metrics"] {
        assert!(told.iter().any(|(place, text)| place.ends_with(part) && !text.is_empty()), "{part}");
    }
    for (place, text) in told {
        let named = text.lines().find(|line| IDENTIFIERS.iter().any(|identifier| line.contains(identifier)));
        assert_eq!(named, None, "{place} names a person");
    }

    // A part that ends is noticed, named and not hidden by a restart.
    kill_process_group(stack.part("enricher"), Signal::KILL).unwrap();
    let mut status = String::new();
    let noticed = within(PATIENCE, || {
        let output = stack.run("status");
        status = text(&output);
        !output.status.success() && status.lines().any(|line| line.contains("ENDED") && line.contains("enricher"))
    });
    assert!(noticed, "{status}");

    stack.must("down");
    assert_eq!(stack.listening(), Vec::<&str>::new());
    stack.must("down");

    stack.must("up");
    assert_eq!(stack.query("SELECT count() FROM hitmeter.hits"), "6");

    // Killed, the supervisor can stop nothing: everything must notice by itself.
    kill_process(pid(&stack.state()["process_id"]), Signal::KILL).unwrap();
    let gone = within(PATIENCE, || stack.listening().is_empty());
    assert!(gone, "still listening: {:?}", stack.listening());
}

#[test]
fn a_port_in_use_stops_the_start_before_anything_runs() {
    let stack = Stack::new();
    let port = stack.ports["SITE"];
    let _taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let refused = stack.run("up");
    let text = text(&refused);
    assert!(!refused.status.success());
    assert!(text.contains(&port.to_string()) && text.contains("HITMETER_SITE_PORT"), "{text}");
    assert_eq!(stack.listening(), ["SITE"]);
}

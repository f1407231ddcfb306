//! The two servers as their users need them: Kafka keeps records, ClickHouse guards its data, both keep to the ports
//! they are given and neither outlives who started it.
// The lint knows `#[test]` functions, but not the functions they share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use local::{ClickHouse, Kafka, LocalError, clickhouse, free_port, servers_or_skip, stack_or_skip};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
const HELPER_DIRECTORY: &str = "LOCAL_TEST_HELPER_DIRECTORY";

/// Waits for a condition; false when it did not come true in time.
fn within(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn client(brokers: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers).set("group.id", "none").set("enable.auto.commit", "false");
    settings
}

fn create_topic(brokers: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create().unwrap();
    let wanted = [NewTopic::new(topic, 1, TopicReplication::Fixed(1))];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let outcome = runtime.block_on(admin.create_topics(&wanted, &options)).unwrap();
    assert_eq!(outcome, vec![Ok(topic.to_owned())]);
}

fn produce(brokers: &str, topic: &str, text: &str) {
    let producer: BaseProducer = client(brokers).set("acks", "all").create().unwrap();
    producer.send(BaseRecord::<(), str>::to(topic).payload(text)).unwrap();
    producer.flush(PATIENCE).unwrap();
}

fn first_record(brokers: &str, topic: &str) -> String {
    let consumer: BaseConsumer = client(brokers).create().unwrap();
    let mut position = TopicPartitionList::new();
    position.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&position).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) {
            return message.payload_view::<str>().unwrap().unwrap().to_owned();
        }
    }
    panic!("no record in {topic} within {PATIENCE:?}");
}

#[test]
fn kafka_keeps_a_record_over_a_restart_and_creates_no_topic_by_itself() {
    if !servers_or_skip("local::kafka_keeps_a_record_over_a_restart") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let kafka = Kafka::start(directory.path(), port).unwrap();
    assert_eq!(kafka.brokers(), format!("127.0.0.1:{port}"));
    create_topic(&kafka.brokers(), "kept");
    produce(&kafka.brokers(), "kept", "before the restart");
    assert!(kafka.stop(), "it had to be killed");
    assert!(!listens(port));

    let kafka = Kafka::start(directory.path(), port).unwrap();
    assert_eq!(first_record(&kafka.brokers(), "kept"), "before the restart");
    let consumer: BaseConsumer = client(&kafka.brokers()).create().unwrap();
    let asked = consumer.fetch_metadata(Some("misspelt"), PATIENCE).unwrap();
    assert!(asked.topics().iter().all(|topic| topic.error().is_some()), "the topic `misspelt` came into being");
}

#[test]
fn clickhouse_keeps_rows_over_a_restart_and_refuses_a_second_server_on_its_data() {
    if !servers_or_skip("local::clickhouse_keeps_rows_over_a_restart") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let [http_port, tcp_port] = [free_port().unwrap(), free_port().unwrap()];
    let first = ClickHouse::start(directory.path(), http_port, tcp_port).unwrap();
    assert!(listens(tcp_port));
    let run = |sql: &str| clickhouse::query(&format!("http://127.0.0.1:{http_port}"), "default", sql).unwrap();
    run("CREATE TABLE default.kept (n UInt32) ENGINE = MergeTree ORDER BY n");
    run("INSERT INTO default.kept VALUES (41), (42)");

    let refused = ClickHouse::start(directory.path(), free_port().unwrap(), free_port().unwrap()).unwrap_err();
    assert!(matches!(refused, LocalError::Ended { .. }), "{refused}");
    assert!(refused.to_string().contains("Another server instance"), "{refused}");

    let busy = ClickHouse::start(directory.path(), http_port, free_port().unwrap()).unwrap_err();
    assert!(busy.to_string().contains("HITMETER_CLICKHOUSE_HTTP_PORT"), "{busy}");

    assert!(first.stop(), "it had to be killed");
    let _second = ClickHouse::start(directory.path(), http_port, tcp_port).unwrap();
    assert_eq!(run("SELECT sum(n) FROM default.kept"), "83");
}

#[test]
fn an_analyst_reads_and_changes_nothing_and_keeps_within_limits() {
    let Some(stack) = stack_or_skip("local::an_analyst_reads_and_changes_nothing") else { return };
    let database = stack.database("analyst");
    stack.query(&format!("CREATE DATABASE {database}")).unwrap();
    stack.query(&format!("CREATE TABLE {database}.numbers (n UInt32) ENGINE = MergeTree ORDER BY n")).unwrap();
    stack.query(&format!("INSERT INTO {database}.numbers SELECT number FROM numbers(10)")).unwrap();

    let analyst = |sql: &str| clickhouse::query(stack.clickhouse_url(), "analyst", sql);
    assert_eq!(analyst(&format!("SELECT count() FROM {database}.numbers SETTINGS max_threads = 1")).unwrap(), "10");
    for (forbidden, code) in [
        (format!("INSERT INTO {database}.numbers VALUES (1)"), "Code: "),
        (format!("DROP TABLE {database}.numbers"), "Code: "),
        ("SELECT 1 SETTINGS max_execution_time = 100000".to_owned(), "SETTING_CONSTRAINT_VIOLATION"),
        ("SELECT 1 SETTINGS max_memory_usage = 0".to_owned(), "SETTING_CONSTRAINT_VIOLATION"),
        ("SELECT 1 SETTINGS max_rows_to_read = 0".to_owned(), "SETTING_CONSTRAINT_VIOLATION"),
        ("SELECT sum(number) FROM numbers(3000000000)".to_owned(), "TOO_MANY_ROWS"),
    ] {
        let refused = analyst(&forbidden).expect_err(&forbidden).to_string();
        assert!(refused.contains(code), "{forbidden}: {refused}");
    }
    assert_eq!(stack.query(&format!("SELECT count() FROM {database}.numbers")).unwrap(), "10");
}

/// Who closes a dashboard that takes long has not to wait for what it asked.
#[test]
fn a_question_ends_when_its_client_goes_away() {
    let Some(stack) = stack_or_skip("local::a_question_ends_when_its_client_goes_away") else { return };
    let runs = "SELECT count() FROM system.processes WHERE user = 'analyst' AND query LIKE '%of nobody%'";
    let until = |count: &str| {
        let end = Instant::now() + Duration::from_secs(30);
        while stack.query(runs).unwrap() != count {
            assert!(Instant::now() < end, "not {count} questions within 30 s");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let question = "SELECT 'of nobody', sleepEachRow(0.1) FROM numbers(590) SETTINGS max_block_size = 1";
    let (server, length) = (stack.clickhouse_url().strip_prefix("http://").unwrap(), question.len());
    let mut client = TcpStream::connect(server).unwrap();
    write!(client, "POST /?user=analyst HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{question}").unwrap();
    until("1");
    drop(client);
    until("0");
}

#[test]
fn prefixes_and_databases_are_never_given_twice() {
    let Some(stack) = stack_or_skip("local::prefixes_and_databases_are_never_given_twice") else { return };
    assert_ne!(stack.topic_prefix("same"), stack.topic_prefix("same"));
    let [first, second] = [stack.database("a-b::c"), stack.database("a-b::c")];
    assert_ne!(first, second);
    // A name that needs no quoting.
    assert!(first.starts_with("test_a_b__c_"), "{first}");
    stack.query(&format!("CREATE DATABASE {first}")).unwrap();
}

/// Not a test: the process that the test below kills.
#[test]
#[ignore = "started by servers_end_with_their_parent as a process of its own"]
fn helper_that_holds_servers() {
    let directory = PathBuf::from(std::env::var_os(HELPER_DIRECTORY).unwrap());
    let _kafka = Kafka::start(&directory.join("kafka"), free_port().unwrap()).unwrap();
    let [http_port, tcp_port] = [free_port().unwrap(), free_port().unwrap()];
    let _clickhouse = ClickHouse::start(&directory.join("clickhouse"), http_port, tcp_port).unwrap();
    std::fs::write(directory.join("ready"), http_port.to_string()).unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

/// Processes whose command line names `path`.
fn processes_naming(path: &Path) -> Vec<String> {
    let path = path.to_str().unwrap();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        .filter(|line| line.contains(path))
        .collect()
}

#[test]
fn servers_end_with_their_parent() {
    if !servers_or_skip("local::servers_end_with_their_parent") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_that_holds_servers", "--ignored"])
        .env(HELPER_DIRECTORY, directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let ready = directory.path().join("ready");
    let came_up = within(Duration::from_secs(120), || ready.exists() || parent.try_wait().unwrap().is_some());
    assert!(came_up && ready.exists(), "the helper did not start its servers");
    let http_port: u16 = std::fs::read_to_string(&ready).unwrap().parse().unwrap();
    assert!(listens(http_port));
    assert!(!processes_naming(directory.path()).is_empty());

    // SIGKILL: the parent has no chance to stop anything.
    parent.kill().unwrap();
    parent.wait().unwrap();
    let gone = within(PATIENCE, || processes_naming(directory.path()).is_empty());
    assert!(gone, "still running: {:?}", processes_naming(directory.path()));
    assert!(!listens(http_port));
}

#[test]
fn a_port_in_use_is_named_with_the_variable_that_moves_it() {
    if !servers_or_skip("local::a_port_in_use_is_named") {
        return;
    }
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let refused = Kafka::start(directory.path(), port).unwrap_err().to_string();
    assert!(refused.contains(&port.to_string()) && refused.contains("HITMETER_KAFKA_PORT"), "{refused}");
}

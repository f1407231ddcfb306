//! A collector in this process, on a broker that is mocked: what is tested here is the HTTP side, and what it does when
//! the broker does not answer. Durability is tested on a real one.

#![allow(dead_code, reason = "each test binary uses its part of it")]

use std::collections::HashMap;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::metrics::Metrics;
use collector::outcome::Outcome;
use collector::{Options, SERVICE};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{Offset, TopicPartitionList};
use schemas::Reader;
use schemas::codec::decode_all;
use tokio_util::sync::CancellationToken;
use ureq::http::Response;

pub const SITES: &str = r#"
[sites.demo]
origins = ["https://www.example.com"]
[sites.consent]
consent = "required"
[sites.drop]
signals = "drop"
[sites.european]
region = "eu"
origins = ["https://www.example.eu"]
[sites.hash]
cookieless = true
[sites.domain]
cookie_domain = "example.com"
session_minutes = 10
"#;

/// One hit, posted.
pub const POST: &[u8] = b"POST /v1/hits HTTP/1.1\r\nhost: x\r\ncontent-length: 15\r\n\r\n{\"site\":\"demo\"}";

/// Connects for requests that are written byte by byte.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Reads one answer with a known length: its head and its body; nothing where the connection ends instead.
pub fn read_answer(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap() == 0 {
            return None;
        }
        read.push(byte[0]);
    }
    let head = String::from_utf8(read).unwrap();
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Some((head, body))
}

pub struct Fixture {
    pub address: SocketAddr,
    pub metrics_address: SocketAddr,
    pub metrics: Arc<Metrics>,
    pub broker: MockCluster<'static, DefaultProducerContext>,
    pub shutdown: CancellationToken,
    pub task: Option<tokio::task::JoinHandle<()>>,
    pub folder: tempfile::TempDir,
    pub runtime: tokio::runtime::Runtime,
    agent: ureq::Agent,
    arguments: Vec<String>,
}

impl Drop for Fixture {
    /// The runtime waits for its threads, and they for this.
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Fixture {
    pub fn start(arguments: &[&str]) -> Self {
        let fixture = Self::start_unready(arguments);
        fixture.until("the collector is ready", || fixture.get("/ready", &[]).status() == 200);
        fixture
    }

    pub fn start_unready(arguments: &[&str]) -> Self {
        let broker = MockCluster::new(1).unwrap();
        for (topic, partitions) in [("hits.raw", 3), ("hits.dead", 1), ("privacy", 1), ("visitor.keys", 1)] {
            broker.create_topic(topic, partitions, 1).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let sites = folder.path().join("sites.toml");
        std::fs::write(&sites, SITES).unwrap();
        let brokers = broker.bootstrap_servers();
        let fixed = [
            "collector",
            "--listen=127.0.0.1:0",
            "--metrics-listen=127.0.0.1:0",
            "--topic-setup=skip",
            "--kafka-brokers",
            &brokers,
            "--sites",
            sites.to_str().unwrap(),
        ];
        let arguments: Vec<String> = [&fixed[..], arguments].concat().into_iter().map(str::to_owned).collect();
        let options = read(&arguments);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shutdown = CancellationToken::new();
        let running = runtime.block_on(collector::start(options, shutdown.clone())).unwrap();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .max_redirects(0);
        Self {
            address: running.address,
            metrics_address: running.metrics_address,
            metrics: running.metrics,
            broker,
            shutdown,
            task: Some(running.task),
            folder,
            runtime,
            agent: config.build().into(),
            arguments,
        }
    }

    /// Ends the collector in order, and starts another on the same address, broker and folder.
    pub fn restart(&mut self) {
        self.shutdown.cancel();
        self.runtime.block_on(self.task.take().unwrap()).unwrap();
        self.shutdown = CancellationToken::new();
        let options = Options { listen: self.address, ..read(&self.arguments) };
        let running = self.runtime.block_on(collector::start(options, self.shutdown.clone())).unwrap();
        (self.task, self.metrics) = (Some(running.task), running.metrics);
    }

    pub fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "not within 30 s: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response<Vec<u8>> {
        let request = self.agent.get(format!("http://{}{path}", self.address));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        whole(request.call().unwrap())
    }

    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Response<Vec<u8>> {
        let request = self.agent.post(format!("http://{}{path}", self.address));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        whole(request.send(body.as_ref()).unwrap())
    }

    pub fn options(&self, path: &str, headers: &[(&str, &str)]) -> Response<Vec<u8>> {
        let request = self.agent.options(format!("http://{}{path}", self.address));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        whole(request.call().unwrap())
    }

    /// All messages of a topic: key and value.
    pub fn messages(&self, topic: &str, partitions: i32) -> Vec<(Vec<u8>, Vec<u8>)> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.broker.bootstrap_servers())
            .set("group.id", "test")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions {
            all.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&all).unwrap();
        let (mut found, mut ended) = (Vec::new(), 0);
        let deadline = Instant::now() + Duration::from_secs(30);
        while ended < partitions {
            assert!(Instant::now() < deadline, "the end of {topic} was not reached within 30 s");
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    found.push((
                        message.key().unwrap_or_default().to_vec(),
                        message.payload().unwrap_or_default().to_vec(),
                    ));
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
        }
        found
    }

    /// All hits that were published, handed to `check` one by one in no order.
    pub fn hits(&self, mut check: impl FnMut(&[u8], schemas::RawHit<'_>)) -> usize {
        let reader = Reader::new::<schemas::RawHit>(None).unwrap();
        let messages = self.messages("hits.raw", 3);
        for (key, value) in &messages {
            check(key, decode_all(&reader.body(value).unwrap()).unwrap());
        }
        messages.len()
    }

    pub fn outcomes(&self) -> HashMap<&'static str, u64> {
        let counted = Outcome::ALL.iter().map(|outcome| (outcome.as_str(), self.metrics.outcome(*outcome)));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// Each hit that was received has one outcome.
    pub fn assert_outcomes_add_up(&self) {
        self.until("every hit has its outcome", || {
            self.metrics.received.get() == self.outcomes().values().sum::<u64>()
        });
    }
}

fn read(arguments: &[String]) -> Options {
    SERVICE.parse_from(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).unwrap()
}

/// The status of a request that is made on another thread; nothing where the connection fails.
pub fn try_status_of(address: SocketAddr, path: &str) -> Option<u16> {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    let agent: ureq::Agent = config.build().into();
    agent.get(format!("http://{address}{path}")).call().ok().map(|response| response.status().as_u16())
}

pub fn status_of(address: SocketAddr, path: &str) -> u16 {
    try_status_of(address, path).unwrap()
}

fn whole(response: Response<ureq::Body>) -> Response<Vec<u8>> {
    let (head, mut body) = response.into_parts();
    Response::from_parts(head, body.read_to_vec().unwrap())
}

pub fn json(response: &Response<Vec<u8>>) -> serde_json::Value {
    serde_json::from_slice(response.body())
        .unwrap_or_else(|_| panic!("not JSON: {:?}", String::from_utf8_lossy(response.body())))
}

pub fn header<'r>(response: &'r Response<Vec<u8>>, name: &str) -> Option<&'r str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

pub fn cookies(response: &Response<Vec<u8>>) -> Vec<String> {
    response.headers().get_all("set-cookie").iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

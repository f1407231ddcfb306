//! The servers below the services: one Kafka, one ClickHouse, and the faulty cables to them.

use crate::proxy::{Cable, Proxy};
use local::kafka::{Extension, Proxied};
use local::{ClickHouse, Kafka, free_port};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use schemas::topics::{CATALOGUE, HITS_ENRICHED, HITS_RAW};
use std::path::{Path, PathBuf};

/// A way that can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// Collector to Kafka.
    CollectorKafka,
    /// Enrichers to Kafka.
    EnricherKafka,
    /// Sinks to Kafka.
    SinkKafka,
    /// Sinks to ClickHouse.
    SinkClickHouse,
}

/// All of them. The first three have a listener of Kafka's each.
pub const LINKS: [Link; 4] = [Link::CollectorKafka, Link::EnricherKafka, Link::SinkKafka, Link::SinkClickHouse];

/// Fewer partitions than in production: each has traffic in the seconds that a schedule takes.
const PARTITIONS: i32 = 4;

/// The servers of a run. Schedules keep apart by topic prefix and database.
pub struct World {
    /// Where everything lies.
    pub directory: PathBuf,
    kafka: Option<Kafka>,
    clickhouse: Option<ClickHouse>,
    extension: Extension,
    ports: Ports,
    proxies: Vec<Proxy>,
}

struct Ports {
    kafka: u16,
    http: u16,
    tcp: u16,
    /// Of the proxies, by [`LINKS`].
    links: Vec<u16>,
}

impl World {
    /// Starts servers in `directory`.
    pub fn start(directory: &Path) -> Self {
        let links: Vec<u16> = LINKS.iter().map(|_| free_port().unwrap()).collect();
        let listens: Vec<u16> = (0..3).map(|_| free_port().unwrap()).collect();
        let ports = Ports { kafka: free_port().unwrap(), http: free_port().unwrap(), tcp: free_port().unwrap(), links };
        let proxied = listens.iter().zip(&ports.links);
        let proxied = proxied.map(|(listens, advertised)| Proxied { listens: *listens, advertised: *advertised });
        // Members that are dead are given up early, so that a schedule can see it. Transactions of the dead are looked for
        // as seldom as in production (10 s): a broker that does so while it starts up may take them for ended without
        // having told the partitions, and nobody can read what comes after them.
        let settings = [("group.min.session.timeout.ms", "1000")];
        let extension = Extension {
            proxied: proxied.collect(),
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        };
        let targets = listens.into_iter().chain([ports.http]);
        let proxies = ports.links.iter().zip(targets).map(|(port, target)| Proxy::start(*port, target).unwrap());
        let proxies = proxies.collect();
        let mut world =
            Self { directory: directory.to_owned(), kafka: None, clickhouse: None, extension, ports, proxies };
        world.start_kafka();
        world.start_clickhouse();
        world
    }

    /// Starts Kafka on its data, unless it runs.
    pub fn start_kafka(&mut self) {
        if self.kafka.is_none() {
            let directory = self.directory.join("kafka");
            let started = Kafka::start_extended(&directory, self.ports.kafka, &self.extension);
            self.kafka = Some(started.unwrap_or_else(|problem| panic!("{problem}")));
        }
    }

    /// Starts ClickHouse on its data, unless it runs.
    pub fn start_clickhouse(&mut self) {
        if self.clickhouse.is_none() {
            let started = ClickHouse::start(&self.directory.join("clickhouse"), self.ports.http, self.ports.tcp);
            self.clickhouse = Some(started.unwrap_or_else(|problem| panic!("{problem}")));
        }
    }

    /// Kills Kafka (SIGKILL).
    pub fn kill_kafka(&mut self) {
        if let Some(mut kafka) = self.kafka.take() {
            kafka.process().kill();
        }
    }

    /// Kills ClickHouse (SIGKILL).
    pub fn kill_clickhouse(&mut self) {
        if let Some(mut clickhouse) = self.clickhouse.take() {
            clickhouse.process().kill();
        }
    }

    /// Kafka's process group.
    pub fn kafka_process(&mut self) -> Option<u32> {
        self.kafka.as_mut().map(|kafka| kafka.process().id())
    }

    /// ClickHouse's process group.
    pub fn clickhouse_process(&mut self) -> Option<u32> {
        self.clickhouse.as_mut().map(|clickhouse| clickhouse.process().id())
    }

    /// Changes a cable.
    pub fn set(&self, link: Link, cable: Cable) {
        let number = LINKS.iter().position(|each| *each == link).unwrap();
        self.proxies[number].set(cable);
    }

    /// Kafka without a proxy, for the judge.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.ports.kafka)
    }

    /// What is at the near end of a cable: `host:port`.
    pub fn near_end(&self, link: Link) -> String {
        let number = LINKS.iter().position(|each| *each == link).unwrap();
        format!("127.0.0.1:{}", self.ports.links[number])
    }

    /// ClickHouse without a proxy.
    pub fn clickhouse_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.http)
    }

    /// Asks ClickHouse, without a proxy.
    pub fn query(&self, sql: &str) -> String {
        self.try_query(sql).unwrap_or_else(|problem| panic!("{sql}: {problem}"))
    }

    /// Asks ClickHouse, which may be away.
    pub fn try_query(&self, sql: &str) -> Result<String, local::LocalError> {
        local::clickhouse::query(&self.clickhouse_url(), "default", sql)
    }

    fn admin<T>(&self, task: impl AsyncFnOnce(&AdminClient<DefaultClientContext>) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", self.brokers()).create().unwrap();
        runtime.block_on(task(&admin))
    }

    /// Creates the topics of a schedule.
    pub fn create_topics(&self, prefix: &str) {
        let names: Vec<_> = CATALOGUE.iter().map(|topic| (topic.full_name(prefix), topic)).collect();
        let settings: Vec<_> = CATALOGUE.iter().map(schemas::topics::Topic::settings).collect();
        let new = names.iter().zip(&settings).map(|((name, topic), settings)| {
            let busy = **topic == HITS_RAW || **topic == HITS_ENRICHED;
            let partitions = if busy { PARTITIONS } else { 1 };
            settings
                .iter()
                .fold(NewTopic::new(name, partitions, TopicReplication::Fixed(1)), |topic, (setting, value)| {
                    topic.set(setting, value)
                })
        });
        let new: Vec<_> = new.collect();
        let created = self.admin(async |admin| admin.create_topics(&new, &AdminOptions::new()).await);
        for result in created.unwrap() {
            result.unwrap();
        }
    }

    /// Removes what a schedule left, for room.
    pub fn clean(&self, prefix: &str, database: &str) {
        let names: Vec<_> = CATALOGUE.iter().map(|topic| topic.full_name(prefix)).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let _ = self.admin(async |admin| admin.delete_topics(&names, &AdminOptions::new()).await);
        self.query(&format!("DROP DATABASE {database} SYNC"));
    }
}

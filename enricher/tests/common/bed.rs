//! One test's topics on a Kafka, an enricher on them, and hits for it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use enricher::options::RunOptions;
use enricher::{Running, start};
use local::TestStack;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::codec::decode_all;
use schemas::topics::visitor_key;
use schemas::{EnrichedHit, IpPolicy, Kind, Protocol, RawHit, Reader, VisitorIdSource, Writer};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::until;

/// 2023-11-14 22:13:20 UTC.
pub const RECEIVED: i64 = 1_700_000_000_000;
pub const PARTITIONS: i32 = 12;
/// How long brokers may take to answer.
const WAIT: Duration = Duration::from_secs(15);

/// One test's topics on the shared Kafka.
pub struct Bed {
    pub brokers: String,
    pub prefix: String,
}

impl Bed {
    pub fn new(stack: &TestStack, test: &str) -> Self {
        Self { brokers: stack.kafka_brokers().to_owned(), prefix: stack.topic_prefix(test) }
    }

    pub fn kafka_words(&self) -> Vec<String> {
        let (brokers, prefix) = (&self.brokers, &self.prefix);
        vec![
            format!("--kafka-brokers={brokers}"),
            format!("--topic-prefix={prefix}"),
            format!("--topic-partitions={PARTITIONS}"),
        ]
    }

    pub fn options(&self, more: &[String]) -> RunOptions {
        // Tests run at once: in one group they would wait for each other's members. What a test says itself goes before.
        let defaults = [("--group=", self.group()), ("--batch-delay=", "50".to_owned())];
        let unsaid = defaults.iter().filter(|(option, _)| !more.iter().any(|word| word.starts_with(option)));
        let own = unsaid.map(|(option, value)| format!("{option}{value}"));
        let own = own.chain(["--metrics-listen=127.0.0.1:0".to_owned()]);
        RunOptions::from_words(self.kafka_words().into_iter().chain(own).chain(more.iter().cloned())).unwrap()
    }

    pub fn group(&self) -> String {
        format!("{}enricher", self.prefix)
    }

    pub async fn start(&self, more: &[String]) -> (Running, CancellationToken) {
        let shutdown = CancellationToken::new();
        let running = start(self.options(more), shutdown.clone()).await.unwrap();
        let health = running.health.clone();
        until("it is ready", || health.obstacles().is_empty()).await;
        (running, shutdown)
    }

    pub fn send(&self, topic: &str, messages: &[(Vec<u8>, Vec<u8>)]) {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &self.brokers).set("linger.ms", "5").create().unwrap();
        let topic = format!("{}{topic}", self.prefix);
        for (key, value) in messages {
            producer.send(BaseRecord::to(&topic).key(key).payload(value)).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap()
    }

    /// Adds partitions to a topic until it has so many.
    pub async fn add_partitions(&self, topic: &str, partitions: usize) {
        let topic = format!("{}{topic}", self.prefix);
        let more = [NewPartitions::new(&topic, partitions)];
        self.admin().create_partitions(&more, &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    }

    /// On the mock broker, which has no other way: topics are there once a producer asked for them.
    pub fn create_on_mock(&self, topics: &[&str]) {
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &self.brokers).create().unwrap();
        for topic in topics {
            producer.client().fetch_metadata(Some(&format!("{}{topic}", self.prefix)), WAIT).unwrap();
        }
    }

    /// Deletes what a partition holds before an offset, as its retention would.
    pub async fn delete_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&format!("{}{topic}", self.prefix), partition, Offset::Offset(offset)).unwrap();
        self.admin().delete_records(&offsets, &AdminOptions::new()).await.unwrap();
    }

    /// From now on the brokers refuse larger batches of messages, bytes.
    pub async fn limit_messages(&self, topic: &str, bytes: &str) {
        let topic = format!("{}{topic}", self.prefix);
        let limit = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("max.message.bytes", bytes);
        self.admin().alter_configs(&[limit], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    }

    /// What a topic holds, once it holds so many messages.
    pub fn read(&self, topic: &str, partitions: i32, count: usize) -> Vec<OwnedMessage> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("group.id", "reader").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions {
            all.add_partition_offset(&format!("{}{topic}", self.prefix), partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&all).unwrap();
        let mut messages = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        while messages.len() < count {
            assert!(Instant::now() < deadline, "only {} of {count} messages in {topic} within 60 s", messages.len());
            if let Some(message) = consumer.poll(Duration::from_millis(200)) {
                messages.push(message.unwrap().detach());
            }
        }
        messages
    }

    /// True where no transaction is open in a topic.
    pub fn is_all_committed(&self, topic: &str, partitions: i32) -> bool {
        let topic = format!("{}{topic}", self.prefix);
        let ends = |isolation: &str| -> Vec<i64> {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &self.brokers).set("isolation.level", isolation);
            let client: BaseConsumer = config.create().unwrap();
            (0..partitions).map(|partition| client.fetch_watermarks(&topic, partition, WAIT).unwrap().1).collect()
        };
        ends("read_committed") == ends("read_uncommitted")
    }

    /// All that a topic holds now, as far as it is committed. Waits for the end of open transactions.
    pub fn read_all(&self, topic: &str, partitions: i32) -> Vec<OwnedMessage> {
        let topic = format!("{}{topic}", self.prefix);
        let client = |isolation: &str| -> BaseConsumer {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &self.brokers).set("group.id", "reader").set("isolation.level", isolation);
            config.set("enable.auto.commit", "false").set("enable.partition.eof", "true").create().unwrap()
        };
        let (committed, uncommitted) = (client("read_committed"), client("read_uncommitted"));
        let end = |client: &BaseConsumer, partition| client.fetch_watermarks(&topic, partition, WAIT).unwrap().1;
        let deadline = Instant::now() + 2 * WAIT;
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions {
            let everything = end(&uncommitted, partition);
            while end(&committed, partition) < everything {
                assert!(Instant::now() < deadline, "a transaction is open in partition {partition} of {topic}");
                std::thread::sleep(Duration::from_millis(20));
            }
            all.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
        }
        committed.assign(&all).unwrap();
        let (mut messages, mut ended) = (Vec::new(), HashSet::new());
        while ended.len() < partitions as usize {
            assert!(Instant::now() < deadline, "could not read {topic} to its end");
            match committed.poll(Duration::from_millis(200)) {
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
                Some(message) => messages.push(message.unwrap().detach()),
                None => {}
            }
        }
        messages
    }

    /// Messages of hits.raw that the group has not committed.
    pub fn uncommitted(&self) -> i64 {
        self.uncommitted_of(PARTITIONS)
    }

    /// The same where hits.raw has so many partitions.
    pub fn uncommitted_of(&self, partitions: i32) -> i64 {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("group.id", self.group());
        let consumer: BaseConsumer = config.create().unwrap();
        let topic = format!("{}hits.raw", self.prefix);
        let mut all = TopicPartitionList::new();
        for partition in 0..partitions {
            all.add_partition(&topic, partition);
        }
        let committed = consumer.committed_offsets(all, Duration::from_secs(15)).unwrap();
        let mut left = 0;
        for element in committed.elements() {
            let (_, end) = consumer.fetch_watermarks(&topic, element.partition(), Duration::from_secs(15)).unwrap();
            left += end - element.offset().to_raw().unwrap_or(0).max(0);
        }
        left
    }
}

pub fn without_files() -> Vec<String> {
    vec!["--without=geoip-city,geoip-network,user-agents,referrers".to_owned()]
}

pub fn raw_hit(visitor: usize, number: usize) -> RawHit<'static> {
    RawHit {
        hit_id: Uuid::now_v7(),
        site: "demo".into(),
        protocol: Protocol::Tag,
        kind: Kind::PageView,
        received_at: RECEIVED + number as i64,
        client_time: Some(RECEIVED + number as i64 - 60_000),
        sent_at: Some(RECEIVED + number as i64 - 59_000),
        visitor_id: format!("visitor-{visitor}").into(),
        visitor_id_source: VisitorIdSource::Cookie,
        page_url: "https://www.example.com/pumps?utm_medium=email".into(),
        referrer: "https://www.google.com/".into(),
        language: "sv-SE".into(),
        user_agent: "Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0".into(),
        ip: "89.160.20.112".into(),
        ip_policy: IpPolicy::Truncated,
        ..RawHit::default()
    }
}

pub fn message(hit: &RawHit<'_>) -> (Vec<u8>, Vec<u8>) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    visitor_key(&hit.site, &hit.visitor_id, &mut key);
    Writer::single_object::<RawHit<'_>>().unwrap().write(hit, &mut value);
    (key, value)
}

/// Reads enriched hits out of messages and hands each to `look`, with its message.
pub fn look(messages: &[OwnedMessage], mut look: impl FnMut(&EnrichedHit<'_>, &OwnedMessage)) {
    let reader = Reader::new::<EnrichedHit<'_>>(None).unwrap();
    for message in messages {
        let body = reader.body(message.payload().unwrap()).unwrap();
        look(&decode_all(&body).unwrap(), message);
    }
}

pub async fn end(running: Running, shutdown: CancellationToken) -> enricher::metrics::Metrics {
    shutdown.cancel();
    let metrics = running.metrics.clone();
    running.finished().await.unwrap();
    metrics
}

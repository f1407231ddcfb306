//! Reading a compacted topic from its beginning, as everybody does who wants to know what it holds.
//!
//! The reader belongs to no group: everybody reads all partitions for themselves, and commits nothing. Partitions that are
//! added later are read as well, once the client has heard of them (`topic.metadata.refresh.interval.ms`, five minutes).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::WireError;
use schemas::topics::Topic;

use crate::health::Health;
use crate::kafka::{log_client_error, passes};
use crate::options::KafkaOptions;

const METADATA_TIMEOUT: Duration = Duration::from_secs(15);

/// Why the topic can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The brokers do not answer, or refuse.
    #[error("cannot read topic {topic} at {brokers}: {cause}; are the brokers up, and is --kafka-brokers right?")]
    Kafka {
        /// Which.
        topic: String,
        /// Where.
        brokers: String,
        /// What the client says.
        cause: Box<KafkaError>,
    },
    /// A message can't be read.
    #[error("a message of topic {0} can't be read: {1}")]
    Wire(String, WireError),
}

/// Name of the condition that brokers answer.
pub const BROKER: &str = "broker";

/// What the reader is told by its client. It is the one client that always listens, whatever workers wait for, so it is
/// the one that tells whether brokers answer.
struct Listener {
    client: String,
    topic: String,
    health: Option<Health>,
    answered: AtomicBool,
    /// How many partitions the topic has.
    partitions: AtomicI32,
}

impl Listener {
    fn count_partitions(&self, statistics: &Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        // The client has one of its own beside them, -1.
        let last = topic.partitions.keys().max().copied().unwrap_or(-1);
        self.partitions.fetch_max(last + 1, Ordering::Relaxed);
    }
}

impl ClientContext for Listener {
    fn stats(&self, statistics: Statistics) {
        self.count_partitions(&statistics);
        let Some(health) = &self.health else { return };
        let answer = statistics.brokers.values().any(|broker| broker.state == "UP");
        if answer {
            health.met(BROKER);
        } else {
            health.unmet(BROKER, "no broker answers");
        }
        match (self.answered.swap(answer, Ordering::Relaxed), answer) {
            (true, false) => tracing::error!("no broker answers; hits wait in their topic"),
            (false, true) => tracing::info!("brokers answer"),
            _ => {}
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_client_error(&self.client, &error, reason);
    }
}

impl ConsumerContext for Listener {}

/// The topic, as far as it was read.
pub struct TopicReader {
    consumer: BaseConsumer<Listener>,
    topic: String,
    brokers: String,
    /// How many partitions are read.
    partitions: i32,
    /// Those whose end was not reached yet.
    unread: HashSet<i32>,
}

impl std::fmt::Debug for TopicReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TopicReader").field("unread", &self.unread).finish_non_exhaustive()
    }
}

impl TopicReader {
    /// Goes to the beginning of the topic. Blocks for as long as the brokers take to answer. From then on `health`,
    /// where there is one, is told whether they do, for as long as the reader is asked for messages.
    ///
    /// # Errors
    /// Where they don't answer, or the topic has no partitions.
    pub fn open(kafka: &KafkaOptions, client: &str, topic: &Topic, health: Option<Health>) -> Result<Self, ReadError> {
        let name = client;
        let (topic, brokers) = (kafka.topic(topic), kafka.kafka_brokers.clone());
        let failed = |cause| failed(&topic, &brokers, cause);
        let defaults = [
            // The client wants a name although no group is ever joined.
            ("group.id", name),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("queued.max.messages.kbytes", "8192"),
            ("statistics.interval.ms", "1000"),
        ];
        let listener = Listener {
            client: name.to_owned(),
            topic: topic.clone(),
            health,
            answered: AtomicBool::new(false),
            partitions: AtomicI32::new(0),
        };
        let client = kafka.client(name, &defaults);
        let consumer: BaseConsumer<Listener> = client.create_with_context(listener).map_err(failed)?;
        let metadata = consumer.fetch_metadata(Some(&topic), METADATA_TIMEOUT).map_err(failed)?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        if partitions == 0 {
            return Err(failed(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)));
        }
        let mut reader = Self { consumer, brokers, topic, partitions: 0, unread: HashSet::new() };
        reader.read_up_to(i32::try_from(partitions).unwrap_or(i32::MAX))?;
        Ok(reader)
    }

    /// Reads from their beginning those that are not read yet of so many partitions.
    fn read_up_to(&mut self, partitions: i32) -> Result<(), ReadError> {
        let failed = |cause| failed(&self.topic, &self.brokers, cause);
        let added = self.partitions..partitions;
        let mut beginning = TopicPartitionList::new();
        for partition in added.clone() {
            beginning.add_partition_offset(&self.topic, partition, Offset::Beginning).map_err(failed)?;
        }
        self.consumer.incremental_assign(&beginning).map_err(failed)?;
        self.unread.extend(added);
        self.partitions = partitions;
        Ok(())
    }

    /// True once every partition was read to its end, as it was at some time since the start, or since it was added.
    #[must_use]
    pub fn has_reached_end(&self) -> bool {
        self.unread.is_empty()
    }

    /// The next message, or nothing where none came within `wait`.
    ///
    /// # Errors
    /// What the client says; it goes on trying.
    pub fn next(&mut self, wait: Duration) -> Result<Option<BorrowedMessage<'_>>, ReadError> {
        let partitions = self.consumer.context().partitions.load(Ordering::Relaxed);
        if partitions > self.partitions {
            match self.read_up_to(partitions) {
                Ok(()) => tracing::info!(topic = self.topic, partitions, "partitions were added, and are read"),
                Err(error) => tracing::error!(%error, "partitions were added and can't be read yet"),
            }
        }
        match self.consumer.poll(wait) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.unread.remove(&partition);
                Ok(None)
            }
            // The client goes on trying.
            Some(Err(error)) if passes(&error) => Ok(None),
            Some(Err(cause)) => Err(failed(&self.topic, &self.brokers, cause)),
        }
    }
}

fn failed(topic: &str, brokers: &str, cause: KafkaError) -> ReadError {
    ReadError::Kafka { topic: topic.to_owned(), brokers: brokers.to_owned(), cause: Box::new(cause) }
}

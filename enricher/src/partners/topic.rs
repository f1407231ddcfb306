//! Reading the topic `partners` from its beginning, as everybody does who wants to know what it holds.
//!
//! The reader belongs to no group: every enricher reads all partitions for itself, and commits nothing.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::codec::{decode_all, owned};
use schemas::topics::PARTNERS;
use schemas::{Map, PartnerRecord, Reader, WireError};
use service::health::Health;
use service::options::KafkaOptions;

use crate::client_errors;

const METADATA_TIMEOUT: Duration = Duration::from_secs(15);

/// Why the topic can't be read.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
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
    health: Option<Health>,
    answered: AtomicBool,
}

impl ClientContext for Listener {
    fn stats(&self, statistics: Statistics) {
        let Some(health) = &self.health else { return };
        let answer = statistics.brokers.values().any(|broker| broker.state == "UP");
        if answer {
            health.met(BROKER);
        } else {
            health.unmet(BROKER, "no broker answers");
        }
        match (self.answered.swap(answer, Ordering::Relaxed), answer) {
            (true, false) => tracing::error!("no broker answers; hits wait in hits.raw"),
            (false, true) => tracing::info!("brokers answer"),
            _ => {}
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        client_errors::log("partners", &error, reason);
    }
}

impl ConsumerContext for Listener {}

/// The topic, as far as it was read.
pub struct TopicReader {
    consumer: BaseConsumer<Listener>,
    topic: String,
    brokers: String,
    /// Partitions whose end was not reached yet.
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
    pub fn open(kafka: &KafkaOptions, health: Option<Health>) -> Result<Self, TopicError> {
        let topic = kafka.topic(&PARTNERS);
        let failed = |cause| TopicError::Kafka {
            topic: topic.clone(),
            brokers: kafka.kafka_brokers.clone(),
            cause: Box::new(cause),
        };
        let defaults = [
            // The client wants a name although no group is ever joined.
            ("group.id", "enricher-partners"),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("queued.max.messages.kbytes", "8192"),
            ("statistics.interval.ms", "1000"),
        ];
        let client = kafka.client("enricher-partners", &defaults);
        let consumer: BaseConsumer<Listener> =
            client.create_with_context(Listener { health, answered: AtomicBool::new(false) }).map_err(failed)?;
        let metadata = consumer.fetch_metadata(Some(&topic), METADATA_TIMEOUT).map_err(failed)?;
        let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
        let unread: HashSet<i32> = partitions.iter().map(|partition| partition.id()).collect();
        if unread.is_empty() {
            return Err(failed(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)));
        }
        let mut beginning = TopicPartitionList::new();
        for partition in &unread {
            beginning.add_partition_offset(&topic, *partition, Offset::Beginning).map_err(failed)?;
        }
        consumer.assign(&beginning).map_err(failed)?;
        Ok(Self { consumer, brokers: kafka.kafka_brokers.clone(), topic, unread })
    }

    /// True once every partition was read to its end, as it was at some time since the start.
    #[must_use]
    pub fn has_reached_end(&self) -> bool {
        self.unread.is_empty()
    }

    /// The next message, or nothing where none came within `wait`.
    ///
    /// # Errors
    /// What the client says; it goes on trying.
    pub fn next(&mut self, wait: Duration) -> Result<Option<BorrowedMessage<'_>>, TopicError> {
        match self.consumer.poll(wait) {
            None => Ok(None),
            Some(Ok(message)) => Ok(Some(message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.unread.remove(&partition);
                Ok(None)
            }
            // The client goes on trying.
            Some(Err(error)) if client_errors::passes(&error) => Ok(None),
            Some(Err(cause)) => Err(TopicError::Kafka {
                topic: self.topic.clone(),
                brokers: self.brokers.clone(),
                cause: Box::new(cause),
            }),
        }
    }
}

/// The record in a message; nothing where the message removes one.
///
/// # Errors
/// Where the value is no such record.
pub fn record_of(reader: &Reader, message: &BorrowedMessage<'_>) -> Result<Option<PartnerRecord<'static>>, WireError> {
    let Some(value) = message.payload() else { return Ok(None) };
    let body = reader.body(value)?;
    let record: PartnerRecord<'_> = decode_all(&body)?;
    Ok(Some(into_owned(record)))
}

fn into_owned(record: PartnerRecord<'_>) -> PartnerRecord<'static> {
    PartnerRecord {
        partner: owned(record.partner),
        match_kind: record.match_kind,
        match_value: owned(record.match_value),
        site: owned(record.site),
        company_name: owned(record.company_name),
        company_domain: owned(record.company_domain),
        attributes: Map::into_owned(record.attributes),
        permitted_uses: record.permitted_uses.into_iter().map(owned).collect(),
        valid_until: record.valid_until,
        updated_at: record.updated_at,
    }
}

//! Reads the topic `hits.dead`, from a point in time or a place to where it ends.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use schemas::codec::decode_all;
use schemas::topics::HITS_DEAD;
use schemas::{DeadLetter, Reader, WireError};
use service::kafka::{TopicError, ask};
use service::options::KafkaOptions;

use crate::error::SinkError;

/// How long the brokers may say nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the brokers may take to tell of the topic.
const FIND: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(500);
/// A message may be this much earlier in the topic than its letter's own time says, milliseconds.
const CLOCKS_DIFFER: i64 = 3_600_000;

/// Where a letter is in the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Partition.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
}

/// A letter, as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Where.
    pub place: Place,
    /// The message's key; empty where it has none.
    pub key: &'a [u8],
    /// The letter.
    pub letter: &'a DeadLetter<'a>,
}

/// The topic `hits.dead` of an installation. Reading commits nothing and joins no group.
pub struct Archive {
    consumer: BaseConsumer,
    reader: Reader,
    topic: String,
    topic_prefix: String,
    partitions: Vec<i32>,
}

impl Archive {
    /// Finds the topic. Blocks.
    ///
    /// # Errors
    /// Where the brokers do not answer, or have no such topic.
    pub fn open(kafka: &KafkaOptions) -> Result<Self, SinkError> {
        let defaults = [
            // Named because librdkafka wants one; nothing joins it.
            ("group.id", "sink-deadletters"),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", "earliest"),
            ("queued.max.messages.kbytes", "16384"),
        ];
        let consumer: BaseConsumer = kafka.client("sink", &defaults).create()?;
        let topic = kafka.topic(&HITS_DEAD);
        let metadata = ask(FIND, || consumer.fetch_metadata(Some(&topic), FIND))?;
        let found = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let partitions: Vec<i32> = found.map(rdkafka::metadata::MetadataPartition::id).collect();
        if partitions.is_empty() {
            return Err(TopicError::Missing(topic).into());
        }
        let reader = Reader::new::<DeadLetter<'_>>(kafka.registry())?;
        Ok(Self { consumer, reader, topic, topic_prefix: kafka.topic_prefix.clone(), partitions })
    }

    /// Its full name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What the topics of this installation start with.
    #[must_use]
    pub fn topic_prefix(&self) -> &str {
        &self.topic_prefix
    }

    /// Reads all, or what may have died at `since` (Unix milliseconds) or later; gives how many messages are no dead
    /// letters. Blocks.
    ///
    /// # Errors
    /// Where the brokers fall silent, and what `visit` returns.
    pub fn read_since(
        &self,
        since: Option<i64>,
        visit: impl FnMut(Found<'_>) -> Result<ControlFlow<()>, SinkError>,
    ) -> Result<u64, SinkError> {
        let mut starts = TopicPartitionList::new();
        for partition in &self.partitions {
            let earliest = since.map_or(Offset::Beginning, |since| Offset::Offset((since - CLOCKS_DIFFER).max(0)));
            starts.add_partition_offset(&self.topic, *partition, earliest)?;
        }
        if since.is_some() {
            starts = ask(SILENCE, || self.consumer.offsets_for_times(starts.clone(), SILENCE))?;
        }
        self.read(&starts, visit)
    }

    /// Reads on from the first of `places` in each partition. Blocks.
    ///
    /// # Errors
    /// Where the brokers fall silent, and what `visit` returns.
    pub fn read_from(
        &self,
        places: &[Place],
        visit: impl FnMut(Found<'_>) -> Result<ControlFlow<()>, SinkError>,
    ) -> Result<u64, SinkError> {
        let mut first = BTreeMap::new();
        for place in places {
            let offset = first.entry(place.partition).or_insert(place.offset);
            *offset = place.offset.min(*offset);
        }
        let mut starts = TopicPartitionList::new();
        for (partition, offset) in first {
            starts.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        }
        self.read(&starts, visit)
    }

    fn read(
        &self,
        starts: &TopicPartitionList,
        mut visit: impl FnMut(Found<'_>) -> Result<ControlFlow<()>, SinkError>,
    ) -> Result<u64, SinkError> {
        self.consumer.assign(starts)?;
        let mut open: Vec<i32> = starts.elements().iter().map(|start| start.partition()).collect();
        let (mut unreadable, mut heard) = (0, Instant::now());
        while !open.is_empty() {
            let message = match self.consumer.poll(POLL) {
                None if heard.elapsed() < SILENCE => continue,
                None => return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut).into()),
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.retain(|other| *other != partition);
                    continue;
                }
                // The client connects again by itself.
                Some(Err(error)) if is_passing(&error) && heard.elapsed() < SILENCE => continue,
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(message)) => message,
            };
            heard = Instant::now();
            let place = Place { partition: message.partition(), offset: message.offset() };
            if !open.contains(&place.partition) {
                // It came after the end was reached: a busy topic must not be read for ever.
                continue;
            }
            match self.visit(&message, place, &mut visit)? {
                Some(ControlFlow::Continue(())) => {}
                Some(ControlFlow::Break(())) => break,
                None => unreadable += 1,
            }
        }
        self.consumer.unassign()?;
        Ok(unreadable)
    }

    /// None where the message is no dead letter.
    fn visit(
        &self,
        message: &BorrowedMessage<'_>,
        place: Place,
        visit: &mut impl FnMut(Found<'_>) -> Result<ControlFlow<()>, SinkError>,
    ) -> Result<Option<ControlFlow<()>>, SinkError> {
        let Some(payload) = message.payload() else { return Ok(None) };
        let body = match self.reader.body(payload) {
            Ok(body) => body,
            Err(error @ WireError::Registry(_)) if error.is_transient() => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let Ok(letter) = decode_all::<DeadLetter<'_>>(&body) else { return Ok(None) };
        visit(Found { place, key: message.key().unwrap_or_default(), letter: &letter }).map(Some)
    }
}

fn is_passing(error: &KafkaError) -> bool {
    let passing = [RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::AllBrokersDown];
    error.rdkafka_error_code().is_some_and(|code| passing.contains(&code))
}

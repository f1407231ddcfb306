//! What Kafka knows of the offsets that an audit asks about. Blocks its thread; joins no group and commits nothing.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset;
use schemas::Stage;
use schemas::topics::HITS_ENRICHED;
use service::kafka::{Told, TopicError, ask};
use service::options::KafkaOptions;

use crate::audit::report::Span;
use crate::deadletters::archive::Archive;
use crate::error::SinkError;

/// How long the brokers have to answer.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);
/// A gap so many offsets ahead is not reached by reading on: going there anew is faster.
const FAR: i64 = 20_000;

/// Which offsets of a partition are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// The partition.
    pub partition: i32,
    /// First offset that is looked at in the table.
    pub begin: i64,
    /// First offset that is looked at and in the topic.
    pub low: i64,
    /// After the last offset that must be in the table; not before `low`.
    pub acknowledged: i64,
    /// Whether the group has committed anything.
    pub is_committed: bool,
    /// After the last offset that is looked at in the table; none where all are.
    pub end: Option<i64>,
}

/// The topic.
pub struct Source {
    consumer: BaseConsumer<Told>,
    topic: String,
    partitions: Vec<i32>,
}

impl Source {
    /// Finds the topic.
    ///
    /// # Errors
    /// Where the brokers do not answer, or have no such topic.
    pub fn open(kafka: &KafkaOptions, group: &str) -> Result<Self, SinkError> {
        let settings = [
            // Whose offsets are asked for; nothing joins it.
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", "earliest"),
            ("queued.max.messages.kbytes", "16384"),
        ];
        let consumer: BaseConsumer<Told> = kafka.client("sink", &settings).create_with_context(Told("sink"))?;
        let topic = kafka.topic(&HITS_ENRICHED);
        let metadata = ask(PATIENCE, || consumer.fetch_metadata(Some(&topic), PATIENCE))?;
        let found = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let mut partitions: Vec<i32> = found.map(rdkafka::metadata::MetadataPartition::id).collect();
        partitions.sort_unstable();
        if partitions.is_empty() {
            return Err(TopicError::Missing(topic).into());
        }
        Ok(Self { consumer, topic, partitions })
    }

    /// Which offsets are looked at, between two times in Unix milliseconds.
    ///
    /// # Errors
    /// Where the brokers do not answer.
    pub fn extents(&self, from: Option<i64>, to: Option<i64>) -> Result<Vec<Extent>, SinkError> {
        let mut asked = TopicPartitionList::new();
        for partition in &self.partitions {
            asked.add_partition(&self.topic, *partition);
        }
        let committed = ask(PATIENCE, || self.consumer.committed_offsets(asked.clone(), PATIENCE))?;
        let (from, to) = (self.offsets_at(from)?, self.offsets_at(to)?);
        let extent = |partition: &i32| {
            let (low, high) = ask(PATIENCE, || self.consumer.fetch_watermarks(&self.topic, *partition, PATIENCE))?;
            let told = |offsets: &TopicPartitionList| {
                let found = offsets.find_partition(&self.topic, *partition)?;
                found.error().ok().and_then(|()| offset_of(found.offset()))
            };
            // No message so late: nothing from there on, all up to there.
            let begin = from.as_ref().map(|offsets| told(offsets).unwrap_or(high));
            let end = to.as_ref().and_then(told);
            let low = low.max(begin.unwrap_or(low));
            let committed = told(&committed);
            let acknowledged = committed.unwrap_or(low).min(end.unwrap_or(i64::MAX)).max(low);
            let is_committed = committed.is_some();
            Ok(Extent { partition: *partition, begin: begin.unwrap_or(0), low, acknowledged, is_committed, end })
        };
        self.partitions.iter().map(extent).collect()
    }

    /// After the last offset of each partition.
    ///
    /// # Errors
    /// Where the brokers do not answer.
    pub fn ends(&self) -> Result<Vec<(i32, i64)>, SinkError> {
        let end = |partition: &i32| {
            let (_, high) = ask(PATIENCE, || self.consumer.fetch_watermarks(&self.topic, *partition, PATIENCE))?;
            Ok((*partition, high))
        };
        self.partitions.iter().map(end).collect()
    }

    /// The first offsets at a time, where one is given.
    fn offsets_at(&self, time: Option<i64>) -> Result<Option<TopicPartitionList>, SinkError> {
        let Some(time) = time else { return Ok(None) };
        let mut asked = TopicPartitionList::new();
        for partition in &self.partitions {
            asked.add_partition_offset(&self.topic, *partition, Offset::Offset(time.max(0)))?;
        }
        Ok(Some(ask(PATIENCE, || self.consumer.offsets_for_times(asked.clone(), PATIENCE))?))
    }

    /// The offsets in these gaps, which are in order, at which a message can be read.
    ///
    /// # Errors
    /// Where the brokers fall silent.
    pub fn readable(&self, partition: i32, gaps: &[Span]) -> Result<Vec<i64>, SinkError> {
        let mut readable = Vec::new();
        let Some(first) = gaps.first() else { return Ok(readable) };
        self.go_to(partition, first.first)?;
        let (mut gaps, mut heard) = (gaps.iter().peekable(), Instant::now());
        loop {
            let offset = match self.consumer.poll(POLL) {
                Some(Ok(message)) => message.offset(),
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) if heard.elapsed() > PATIENCE => return Err(error.into()),
                None if heard.elapsed() > PATIENCE => {
                    return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut).into());
                }
                // The client connects again by itself.
                Some(Err(_)) | None => continue,
            };
            heard = Instant::now();
            while gaps.next_if(|gap| gap.last < offset).is_some() {}
            let Some(gap) = gaps.peek() else { break };
            if gap.first <= offset {
                readable.push(offset);
            } else if gap.first - offset > FAR {
                self.go_to(partition, gap.first)?;
            }
        }
        self.consumer.unassign()?;
        Ok(readable)
    }

    fn go_to(&self, partition: i32, offset: i64) -> Result<(), SinkError> {
        let mut start = TopicPartitionList::new();
        start.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        Ok(self.consumer.assign(&start)?)
    }
}

fn offset_of(offset: Offset) -> Option<i64> {
    match offset {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

/// Where the dead letters came from that the sink wrote for hits of this topic, as (partition, offset).
///
/// # Errors
/// Where the brokers fall silent.
pub fn dead_letters(kafka: &KafkaOptions, topic: &str) -> Result<HashSet<(i32, i64)>, SinkError> {
    let mut places = HashSet::new();
    Archive::open(kafka)?.read_since(None, |found| {
        let letter = found.letter;
        if letter.stage == Stage::Sink && letter.source_topic == topic {
            places.extend(letter.source_partition.zip(letter.source_offset));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(places)
}

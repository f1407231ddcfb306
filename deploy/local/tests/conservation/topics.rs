//! What lies on the topics, read without a proxy.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use schemas::codec::decode_all;
use schemas::wire::Reader;
use schemas::{DeadLetter, EnrichedHit, RawHit};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(10);

/// Partition and offset.
pub type Place = (i32, i64);

fn consumer(brokers: &str, group: &str) -> BaseConsumer {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", brokers).set("group.id", group).set("enable.auto.commit", "false");
    settings.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    settings.set("fetch.wait.max.ms", "50").set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
    settings.create().unwrap()
}

/// Whether `group` has read all of `topic`.
///
/// # Errors
/// What it has not read yet.
pub fn read_by(brokers: &str, group: &str, topic: &str) -> Result<(), String> {
    let consumer = consumer(brokers, group);
    let text = |problem: KafkaError| format!("{topic}: {problem}");
    let partitions = partitions(&consumer, topic).map_err(text)?;
    let mut asked = TopicPartitionList::new();
    for partition in 0..partitions {
        asked.add_partition(topic, partition);
    }
    let committed = consumer.committed_offsets(asked, PATIENCE).map_err(text)?;
    let mut unread = TopicPartitionList::new();
    for element in committed.elements() {
        let (low, high) = consumer.fetch_watermarks(topic, element.partition(), PATIENCE).map_err(text)?;
        let next = element.offset().to_raw().filter(|offset| *offset >= 0).unwrap_or(low);
        if next < high {
            unread.add_partition_offset(topic, element.partition(), Offset::Offset(next)).map_err(text)?;
        }
    }
    // What is left may be the marks of transactions, which nobody reads.
    match read(&consumer, &unread, Some(1)).map_err(text)?.first() {
        None => Ok(()),
        Some(message) => Err(format!("{group} has not read {topic} {}/{}", message.partition(), message.offset())),
    }
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<i32, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    Ok(metadata.topics().iter().map(|topic| i32::try_from(topic.partitions().len()).unwrap_or(0)).sum())
}

/// Reads from the places in `from` to the ends of their partitions as they are now, or the first `limit` messages.
fn read(
    consumer: &BaseConsumer,
    from: &TopicPartitionList,
    limit: Option<usize>,
) -> Result<Vec<OwnedMessage>, KafkaError> {
    let mut messages = Vec::new();
    let mut open = from.count();
    consumer.assign(from)?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while open > 0 && limit.is_none_or(|limit| messages.len() < limit) {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => messages.push(message.detach()),
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(problem)) => return Err(problem),
            None => assert!(Instant::now() < deadline, "the topic's end does not come"),
        }
    }
    Ok(messages)
}

/// Everything committed on a topic that is there still.
pub fn all(brokers: &str, topic: &str) -> Vec<OwnedMessage> {
    let consumer = consumer(brokers, "judge");
    let mut from = TopicPartitionList::new();
    for partition in 0..partitions(&consumer, topic).unwrap() {
        from.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    read(&consumer, &from, None).unwrap_or_else(|problem| panic!("{topic}: {problem}"))
}

/// Everything committed on the topics of a schedule.
pub struct Contents {
    /// Where each hit is on hits.raw.
    pub raw: HashMap<Uuid, Vec<Place>>,
    /// Where each hit is on hits.enriched.
    pub enriched: HashMap<Uuid, Vec<Place>>,
    /// Places on the two of what is no hit, with the bytes.
    pub unreadable: HashMap<&'static str, HashMap<Place, Vec<u8>>>,
    /// What was given up.
    pub dead: Vec<Dead>,
    /// What lies on hits.dead and is no dead letter.
    pub dead_unreadable: Vec<String>,
}

/// A dead letter.
#[derive(Debug, Clone)]
pub struct Dead {
    /// Its id.
    pub id: Uuid,
    /// Why, and what exactly was wrong.
    pub reason: String,
    /// Where it came from: topic without its prefix, and place.
    pub source: (String, Option<Place>),
    /// The original bytes.
    pub original: Vec<u8>,
}

impl Contents {
    /// Reads it all.
    pub fn read(brokers: &str, prefix: &str) -> Self {
        let all = |topic: &str| all(brokers, &format!("{prefix}{topic}"));
        let (mut raw, mut enriched) = (HashMap::<Uuid, Vec<Place>>::new(), HashMap::<Uuid, Vec<Place>>::new());
        let mut unreadable = HashMap::<&'static str, HashMap<Place, Vec<u8>>>::new();
        let reader = Reader::new::<RawHit<'_>>(None).unwrap();
        for message in all("hits.raw") {
            let (place, bytes) = (place(&message), message.payload().unwrap_or_default());
            let body = reader.body(bytes).ok();
            match body.as_ref().and_then(|body| decode_all::<RawHit<'_>>(body).ok()) {
                Some(hit) => raw.entry(hit.hit_id).or_default().push(place),
                None => drop(unreadable.entry("hits.raw").or_default().insert(place, bytes.to_vec())),
            }
        }
        let reader = Reader::new::<EnrichedHit<'_>>(None).unwrap();
        for message in all("hits.enriched") {
            let (place, bytes) = (place(&message), message.payload().unwrap_or_default());
            let body = reader.body(bytes).ok();
            match body.as_ref().and_then(|body| decode_all::<EnrichedHit<'_>>(body).ok()) {
                Some(hit) => enriched.entry(hit.hit.hit_id).or_default().push(place),
                None => drop(unreadable.entry("hits.enriched").or_default().insert(place, bytes.to_vec())),
            }
        }
        let reader = Reader::new::<DeadLetter<'_>>(None).unwrap();
        let (mut letters, mut dead_unreadable) = (Vec::new(), Vec::new());
        for message in all("hits.dead") {
            match dead(&reader, &message, prefix) {
                Ok(letter) => letters.push(letter),
                Err(problem) => dead_unreadable.push(format!("hits.dead {:?}: {problem}", place(&message))),
            }
        }
        Self { raw, enriched, unreadable, dead: letters, dead_unreadable }
    }
}

fn place(message: &OwnedMessage) -> Place {
    (message.partition(), message.offset())
}

fn dead(reader: &Reader, message: &OwnedMessage, prefix: &str) -> Result<Dead, schemas::WireError> {
    let body = reader.body(message.payload().unwrap_or_default())?;
    let letter: DeadLetter<'_> = decode_all(&body)?;
    let topic = letter.source_topic.to_string();
    Ok(Dead {
        id: letter.dead_letter_id,
        reason: format!("{}: {}", letter.reason, letter.detail),
        source: (
            topic.strip_prefix(prefix).unwrap_or(&topic).to_owned(),
            letter.source_partition.zip(letter.source_offset),
        ),
        original: letter.original.into_owned(),
    })
}

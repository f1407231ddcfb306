//! Publishes the originals of dead letters again, to the topics that they came from.
//!
//! The key is made anew from the hit where it can be decoded, so that the hit goes to its visitor's partition also when
//! its letter had another key; else it is the letter's. The hit keeps its id. A letter is
//! marked as replayed only after its original is acknowledged: who is stopped in between publishes it twice, never not
//! at all.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::ControlFlow;

use schemas::codec::decode_all;
use schemas::topics::{HITS_ENRICHED, HITS_RAW, visitor_key};
use schemas::{DeadLetter, EnrichedHit, RawHit, Reader, Stage};
use service::options::KafkaOptions;
use service::producer::{Parcel, Producer, Receipts};

use super::DeadLettersError;
use super::archive::{Archive, Found, Place};
use super::catalogue::Entry;
use super::marker::{Deed, Markers, deliver};
use crate::dead_letters::producer;
use crate::error::SinkError;

/// Messages on their way at the same time.
pub const AT_ONCE: usize = 64;
/// Bytes of originals on their way at the same time, beyond which no more are added.
const BYTES_AT_ONCE: usize = 8 << 20;

/// Why a letter can't be replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// It is a request that the collector could not read: no topic has had it.
    Request,
    /// There are no bytes in it.
    Empty,
    /// Its topic is none of those that hits go through in this installation.
    ForeignTopic,
    /// It was deleted while this ran.
    Gone,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Request => {
                "requests that the collector could not read; put them right, and send them to it again \
                 (`sink deadletters show ID --original` prints one)"
            }
            Self::Empty => "messages without a value",
            Self::ForeignTopic => "from a topic that is neither hits.raw nor hits.enriched of this installation",
            Self::Gone => "deleted by the topic's retention in the meantime",
        })
    }
}

/// What became of the letters.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Published, by topic.
    pub replayed: BTreeMap<String, usize>,
    /// Not published.
    pub left: BTreeMap<Obstacle, usize>,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (topic, count) in &self.replayed {
            writeln!(formatter, "{count} replayed to {topic}")?;
        }
        for (obstacle, count) in &self.left {
            writeln!(formatter, "{count} not replayed: {obstacle}")?;
        }
        if self.replayed.is_empty() && self.left.is_empty() {
            writeln!(formatter, "no dead letter fits, nothing is replayed")?;
        }
        Ok(())
    }
}

/// Replays letters of one topic.
pub struct Replay<'a> {
    archive: &'a Archive,
    producer: Producer<Receipts>,
    markers: Markers,
    raw: (String, Reader),
    enriched: (String, Reader),
}

impl<'a> Replay<'a> {
    /// Connects when it is first used. May ask the registry, and then blocks.
    ///
    /// # Errors
    /// Where a producer can't be made.
    pub fn new(archive: &'a Archive, kafka: &KafkaOptions) -> Result<Self, SinkError> {
        Ok(Self {
            archive,
            producer: producer(kafka)?,
            markers: Markers::new(archive.topic(), kafka)?,
            raw: (kafka.topic(&HITS_RAW), Reader::new::<RawHit<'_>>(kafka.registry())?),
            enriched: (kafka.topic(&HITS_ENRICHED), Reader::new::<EnrichedHit<'_>>(kafka.registry())?),
        })
    }

    fn obstacle(&self, entry: &Entry) -> Option<Obstacle> {
        let is_hits = [&self.raw.0, &self.enriched.0].contains(&&entry.source_topic);
        match entry {
            Entry { stage: Stage::Collector, .. } => Some(Obstacle::Request),
            Entry { source_topic, .. } if source_topic.is_empty() => Some(Obstacle::Request),
            Entry { original_bytes: 0, .. } => Some(Obstacle::Empty),
            _ => (!is_hits).then_some(Obstacle::ForeignTopic),
        }
    }

    /// Publishes what can be, in the order in which it lies in the topic, and marks it. Blocks.
    ///
    /// # Errors
    /// Where a message could not be delivered; those before it are published and marked.
    pub fn run(&self, entries: &[Entry]) -> Result<Report, SinkError> {
        let mut report = Report::default();
        let mut wanted = HashMap::new();
        for entry in entries {
            match self.obstacle(entry) {
                Some(obstacle) => *report.left.entry(obstacle).or_default() += 1,
                None => drop(wanted.insert(entry.place, entry)),
            }
        }
        let places: Vec<Place> = wanted.keys().copied().collect();
        let (mut load, mut load_bytes) = (Vec::new(), 0);
        self.archive.read_from(&places, |found| {
            let Some(entry) = wanted.remove(&found.place) else { return Ok(ControlFlow::Continue(())) };
            load_bytes += found.letter.original.len();
            load.push((entry, self.parcel(found)));
            if load.len() == AT_ONCE || load_bytes >= BYTES_AT_ONCE {
                self.publish(std::mem::take(&mut load), &mut report)?;
                load_bytes = 0;
            }
            Ok(if wanted.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        self.publish(load, &mut report)?;
        if !wanted.is_empty() {
            *report.left.entry(Obstacle::Gone).or_default() += wanted.len();
        }
        Ok(report)
    }

    fn publish(&self, load: Vec<(&Entry, Parcel<'_>)>, report: &mut Report) -> Result<(), SinkError> {
        let (entries, parcels): (Vec<&Entry>, Vec<Parcel<'_>>) = load.into_iter().unzip();
        let delivered = deliver(&self.producer, &parcels);
        let before: usize = report.replayed.values().sum();
        let arrived = entries.iter().zip(&delivered).filter(|(_, result)| result.is_ok()).map(|(entry, _)| *entry);
        self.markers.put(Deed::Replayed, arrived, before)?;
        for (parcel, result) in parcels.into_iter().zip(delivered) {
            match result {
                Ok(()) => *report.replayed.entry(parcel.topic.into_owned()).or_default() += 1,
                Err(cause) => {
                    let done = report.replayed.values().sum();
                    return Err(DeadLettersError::Undelivered { done, topic: parcel.topic.into_owned(), cause }.into());
                }
            }
        }
        Ok(())
    }

    fn parcel(&self, Found { key, letter, .. }: Found<'_>) -> Parcel<'static> {
        let (topic, value) = (letter.source_topic.to_string().into(), letter.original.to_vec().into());
        let key = self.key(letter).unwrap_or_else(|| key.to_vec()).into();
        Parcel { topic, partition: None, key, value }
    }

    /// Made anew from the hit; none where it can't be decoded.
    fn key(&self, letter: &DeadLetter<'_>) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        let add = |hit: &RawHit<'_>, key: &mut Vec<u8>| visitor_key(&hit.site, &hit.visitor_id, key);
        if letter.source_topic == self.raw.0 {
            let body = self.raw.1.body(&letter.original).ok()?;
            add(&decode_all::<RawHit<'_>>(&body).ok()?, &mut key);
        } else {
            let body = self.enriched.1.body(&letter.original).ok()?;
            add(&decode_all::<EnrichedHit<'_>>(&body).ok()?.hit, &mut key);
        }
        Some(key)
    }
}

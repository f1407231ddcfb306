//! Notes in the topic itself what was done about a dead letter.
//!
//! Kafka takes no single message out of a topic, so a letter is closed by another message: a dead letter of no stage,
//! with the same id, the reason `replayed` or `dropped`, no original, and the letter's place in `hits.dead` as its
//! source. It lies in the letter's partition and is kept as long as the letter at least. Readers that do not know
//! markers see a letter of the stage `unknown`.

use futures_util::future::join_all;
use schemas::{DeadLetter, Stage, Writer};
use service::options::KafkaOptions;
use service::producer::{Delivered, Parcel, Producer, Receipts};
use tokio::runtime::Handle;

use super::DeadLettersError;
use super::catalogue::Entry;
use super::options::now;
use crate::dead_letters::producer;
use crate::error::SinkError;

/// What is done about a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Its original was published again.
    Replayed,
    /// It was taken off the list.
    Dropped,
}

impl Deed {
    /// The name in markers and lists.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replayed => "replayed",
            Self::Dropped => "dropped",
        }
    }
}

/// That something was done about a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// What.
    pub deed: Deed,
    /// When, Unix milliseconds; never before the letter.
    pub at: i64,
}

impl Mark {
    /// The mark that a message of `topic` is; none where it is a letter.
    #[must_use]
    pub fn of(letter: &DeadLetter<'_>, topic: &str) -> Option<Self> {
        if letter.stage != Stage::Unknown || letter.source_topic != topic {
            return None;
        }
        let deed = [Deed::Replayed, Deed::Dropped].into_iter().find(|deed| deed.as_str() == letter.reason)?;
        Some(Self { deed, at: letter.dead_at })
    }
}

/// Delivers messages in their order and gives what became of each. Blocks; must be called from inside a runtime, on a
/// thread that may block.
pub fn deliver(producer: &Producer<Receipts>, parcels: &[Parcel<'_>]) -> Vec<Delivered> {
    // A full queue is not to be expected: all of the parcels together are small against it.
    let handed: Vec<_> = parcels.iter().map(|parcel| producer.hand_over(parcel)).collect();
    Handle::current().block_on(join_all(handed.into_iter().map(async |handed| handed?.await)))
}

/// Writes markers.
pub struct Markers {
    producer: Producer<Receipts>,
    writer: Writer,
    topic: String,
}

impl Markers {
    /// For `hits.dead`, by its full name. May ask the registry, and then blocks.
    ///
    /// # Errors
    /// Where the producer can't be made, or the registry refuses.
    pub fn new(topic: &str, kafka: &KafkaOptions) -> Result<Self, SinkError> {
        let writer = Writer::for_topic::<DeadLetter<'_>>(topic, kafka.registry().as_ref())?;
        Ok(Self { producer: producer(kafka)?, writer, topic: topic.to_owned() })
    }

    /// Marks letters; `done` were before them. Blocks.
    ///
    /// # Errors
    /// Where a marker could not be delivered.
    pub fn put<'a>(
        &self,
        deed: Deed,
        entries: impl IntoIterator<Item = &'a Entry>,
        done: usize,
    ) -> Result<(), SinkError> {
        let parcels: Vec<_> = entries.into_iter().map(|entry| self.parcel(deed, entry)).collect();
        let delivered = deliver(&self.producer, &parcels);
        let done = done + delivered.iter().take_while(|result| result.is_ok()).count();
        let undelivered = |cause| DeadLettersError::Undelivered { done, topic: self.topic.clone(), cause };
        Ok(delivered.into_iter().collect::<Result<(), _>>().map_err(undelivered)?)
    }

    fn parcel(&self, deed: Deed, entry: &Entry) -> Parcel<'static> {
        let marker = DeadLetter {
            dead_letter_id: entry.id,
            stage: Stage::Unknown,
            reason: deed.as_str().into(),
            // This machine's clock may be behind the one that wrote the letter.
            dead_at: now().max(entry.dead_at),
            site: entry.site.as_str().into(),
            source_topic: self.topic.as_str().into(),
            source_partition: Some(entry.place.partition),
            source_offset: Some(entry.place.offset),
            ..DeadLetter::default()
        };
        let mut value = Vec::new();
        self.writer.write(&marker, &mut value);
        Parcel {
            topic: self.topic.clone().into(),
            partition: Some(entry.place.partition),
            key: Vec::new().into(),
            value: value.into(),
        }
    }
}

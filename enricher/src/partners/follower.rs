//! Keeps the index as the topic is: from its beginning, for ever, on a thread of its own.
//!
//! The service is ready, and workers begin, only once the topic was read to its end: a hit that came before would go
//! without what its partners know, and nobody would ever see that it did.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::message::{BorrowedMessage, Message};
use schemas::{PartnerRecord, Reader, WireError};
use service::compacted::ReadError;
use service::health::Health;
use service::options::KafkaOptions;
use tokio_util::sync::CancellationToken;

use super::index::Refusal;
use super::topic::{self, record_of};
use crate::firsts::{First, Firsts};
use crate::hit::{Coordinates, Knowledge, without_quotes};
use crate::metrics::Metrics;

/// Name of the condition that the topic was read to its end.
pub const PARTNERS: &str = "partners";
const WAIT: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the topic.
#[derive(Debug)]
pub struct Follower {
    /// Brokers and topic.
    pub kafka: KafkaOptions,
    /// Where the index is.
    pub knowledge: Arc<Knowledge>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where it is said that the end was reached.
    pub health: Health,
    /// When to end.
    pub shutdown: CancellationToken,
}

/// Records that are not used: there may be a million at each start, as where there is no room for them.
#[derive(Debug, Default)]
struct Refused {
    firsts: Firsts<Refusal>,
    since: Option<Instant>,
}

impl Refused {
    fn add(&mut self, message: &BorrowedMessage<'_>, reason: Refusal, detail: &str) {
        let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
        self.firsts.add(reason, detail, Coordinates { topic, partition, offset });
        self.since.get_or_insert_with(Instant::now);
    }

    fn is_due(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= PAUSE)
    }

    fn tell(&mut self) {
        self.since = None;
        for First { reason, count: records, partition, offset, detail } in self.firsts.take() {
            let reason = reason.as_str();
            tracing::warn!(
                records,
                partition,
                offset,
                reason,
                detail,
                "partner records are not used, of which this is the first"
            );
        }
    }
}

impl Follower {
    /// Follows until shutdown. Blocks. Cancels `caught_up` when the end is reached for the first time.
    pub fn run(&self, caught_up: &CancellationToken) {
        while !self.shutdown.is_cancelled() {
            if let Err(error) = self.follow(caught_up) {
                tracing::error!(%error, "reading the partners topic again from its beginning");
                if !caught_up.is_cancelled() {
                    self.health.unmet(PARTNERS, error.to_string());
                }
                std::thread::sleep(PAUSE);
            }
        }
    }

    fn follow(&self, caught_up: &CancellationToken) -> Result<(), ReadError> {
        let registry = self.kafka.registry();
        let records = Reader::new::<PartnerRecord<'_>>(registry)
            .map_err(|error| ReadError::Wire(self.kafka.topic(&schemas::topics::PARTNERS), error))?;
        let mut topic = topic::open(&self.kafka, Some(self.health.clone()))?;
        let mut refused = Refused::default();
        while !self.shutdown.is_cancelled() {
            match topic.next(WAIT) {
                Ok(Some(message)) => self.take_in(&message, &records, &mut refused),
                Ok(None) => refused.tell(),
                Err(error) => tracing::warn!(%error, "waiting for the brokers"),
            }
            if refused.is_due() {
                refused.tell();
            }
            if topic.has_reached_end() && !caught_up.is_cancelled() {
                let records = self.knowledge.partners.read().unwrap_or_else(PoisonError::into_inner).len();
                tracing::info!(records, "partner records read");
                self.health.met(PARTNERS);
                caught_up.cancel();
            }
        }
        refused.tell();
        Ok(())
    }

    fn take_in(&self, message: &BorrowedMessage<'_>, records: &Reader, refused: &mut Refused) {
        let key = message.key().unwrap_or_default();
        let record = match self.decode(message, records) {
            Ok(record) => record,
            Err(error) => {
                // Whatever was under this key is not what the topic says any more.
                self.refuse(message, Refusal::Undecodable, &without_quotes(&error), refused);
                None
            }
        };
        let mut index = self.knowledge.partners.write().unwrap_or_else(PoisonError::into_inner);
        let result = index.apply(key, record);
        self.metrics.partner_records.set(i64::try_from(index.len()).unwrap_or(i64::MAX));
        self.metrics.partner_bytes.set(i64::try_from(index.bytes()).unwrap_or(i64::MAX));
        drop(index);
        if let Err(refusal) = result {
            self.refuse(message, refusal, "", refused);
        }
    }

    /// Waits for a registry that does not answer: skipping the record would lose it until the next start.
    fn decode(
        &self,
        message: &BorrowedMessage<'_>,
        records: &Reader,
    ) -> Result<Option<PartnerRecord<'static>>, WireError> {
        loop {
            match record_of(records, message) {
                Err(error) if error.is_transient() && !self.shutdown.is_cancelled() => {
                    tracing::warn!(%error, "waiting for the schema registry");
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }

    fn refuse(&self, message: &BorrowedMessage<'_>, refusal: Refusal, detail: &str, refused: &mut Refused) {
        refused.add(message, refusal, detail);
        self.metrics.partner_refusals.with_label_values(&[refusal.as_str()]).inc();
    }
}

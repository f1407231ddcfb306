//! Keeps the index as the topic is: from its beginning, for ever, on a thread of its own.
//!
//! The service is ready, and workers begin, only once the topic was read to its end: a hit that came before would go
//! without what its partners know, and nobody would ever see that it did.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rdkafka::message::Message;
use schemas::{PartnerRecord, Reader, WireError};
use service::compacted::ReadError;
use service::health::Health;
use service::options::KafkaOptions;
use tokio_util::sync::CancellationToken;

use super::index::Refusal;
use super::topic::{self, record_of};
use crate::hit::{Knowledge, without_quotes};
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
        while !self.shutdown.is_cancelled() {
            match topic.next(WAIT) {
                Ok(Some(message)) => self.take_in(&message, &records),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "waiting for the brokers"),
            }
            if topic.has_reached_end() && !caught_up.is_cancelled() {
                let records = self.knowledge.partners.read().unwrap_or_else(PoisonError::into_inner).len();
                tracing::info!(records, "partner records read");
                self.health.met(PARTNERS);
                caught_up.cancel();
            }
        }
        Ok(())
    }

    fn take_in(&self, message: &rdkafka::message::BorrowedMessage<'_>, records: &Reader) {
        let key = message.key().unwrap_or_default();
        let record = match self.decode(message, records) {
            Ok(record) => record,
            Err(error) => {
                // Whatever was under this key is not what the topic says any more.
                self.refuse(message.partition(), message.offset(), Refusal::Undecodable, &without_quotes(&error));
                None
            }
        };
        let mut index = self.knowledge.partners.write().unwrap_or_else(PoisonError::into_inner);
        let result = index.apply(key, record);
        self.metrics.partner_records.set(i64::try_from(index.len()).unwrap_or(i64::MAX));
        self.metrics.partner_bytes.set(i64::try_from(index.bytes()).unwrap_or(i64::MAX));
        drop(index);
        if let Err(refusal) = result {
            self.refuse(message.partition(), message.offset(), refusal, "");
        }
    }

    /// Waits for a registry that does not answer: skipping the record would lose it until the next start.
    fn decode(
        &self,
        message: &rdkafka::message::BorrowedMessage<'_>,
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

    fn refuse(&self, partition: i32, offset: i64, refusal: Refusal, detail: &str) {
        tracing::warn!(partition, offset, reason = refusal.as_str(), detail, "a partner record is not used");
        self.metrics.partner_refusals.with_label_values(&[refusal.as_str()]).inc();
    }
}

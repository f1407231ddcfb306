//! The way out: an idempotent producer that knows whether everything it was given is acknowledged by all replicas, and
//! which can put messages and the offsets of what they were made of into one transaction.
//!
//! What fails in a transaction is of one of three classes, as the client tells them apart. What is worth a retry is
//! retried here. What spoils the transaction is [`OutboxError::Spoilt`]: it is to be aborted, and the next one can go
//! well. Everything else ends the producer, as being fenced does: a new one under the same name
//! ([`Delivery::Transactions`]) first ends what this one left open, one way or the other.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use service::kafka::is_fenced;
use service::options::KafkaOptions;
use tokio_util::sync::CancellationToken;

use crate::client_errors;

/// Messages in the producer's queue, kilobytes: what a slow broker may cost in memory.
const QUEUE_KILOBYTES: &str = "32768";
/// How long a message is retried before its batch is given up and read again.
const DELIVERY_TIMEOUT_MS: &str = "120000";
/// After so long the brokers abort a transaction whose producer is gone. It is less than the 45 s after which they give
/// a dead worker's partitions to another one, whom an open transaction would hold up; messages of it are retried no
/// longer.
pub const TRANSACTION_TIMEOUT_MS: &str = "30000";
/// Between two looks whether messages are acknowledged, or the queue has room again: nobody tells.
const MOMENT: Duration = Duration::from_millis(1);
/// How long one call that ends a transaction may take before acknowledgements are looked at again.
const ONE_CALL: Duration = Duration::from_millis(500);
/// How long ending a transaction is tried: by then the brokers have aborted it.
const LAST_CALL: Duration = Duration::from_secs(60);
/// After a request to shut down, acknowledgements are waited for this much longer.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// Why messages did not get out.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The producer can't be made.
    #[error("cannot make a producer: {0}; is a --kafka-property wrong?")]
    Create(KafkaError),
    /// A message is larger than the producer, and so the broker, takes.
    #[error("a message is larger than message.max.bytes")]
    TooLarge,
    /// The producer refuses a message.
    #[error("cannot send to {topic}: {cause}; does the topic exist, and have its partitions changed?")]
    Send {
        /// Where to.
        topic: String,
        /// What the client says.
        cause: KafkaError,
    },
    /// The brokers did not take a message in time.
    #[error("a message was not acknowledged: {0}; are enough replicas in sync?")]
    Lost(KafkaError),
    /// The transaction can't be committed; aborted, its hits can be read again.
    #[error("the transaction is spoilt: {0}")]
    Spoilt(KafkaError),
    /// Another producer has taken over.
    #[error(
        "another worker took over as {name:?}: {cause}; either two enrichers run under one --group-instance-id, or this \
         one stood still for longer than a transaction may last"
    )]
    Fenced {
        /// The name they share.
        name: String,
        /// What the client says.
        cause: KafkaError,
    },
    /// Transactions don't work.
    #[error("cannot {what}: {cause}; do the brokers know transactions, and may this user write as {name:?}?")]
    Transaction {
        /// What was tried.
        what: &'static str,
        /// The name of the transactions.
        name: String,
        /// What the client says.
        cause: KafkaError,
    },
    /// The enricher is shutting down and the brokers do not answer.
    #[error("shutting down while {0} messages are not acknowledged")]
    ShuttingDown(usize),
}

/// How messages are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Each for itself.
    Single,
    /// In transactions, under a name that nobody else has while this producer lives, and which the one that takes its
    /// place has again.
    Transactions(String),
}

/// A message to send.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outgoing<'a> {
    /// Where to.
    pub topic: &'a str,
    /// Which partition; without one, its key decides.
    pub partition: Option<i32>,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; without one, it removes the key from a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Its time, Unix milliseconds; without one, it is now.
    pub time: Option<i64>,
}

/// What the producer tells of deliveries: only those that failed. That all others went well is known from their not being
/// on their way any more, and costs nothing for each.
#[derive(Debug, Default)]
struct Deliveries {
    lost: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        client_errors::log("producer", &error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.lost.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.clone());
        }
    }
}

/// A producer of one thread.
pub struct Outbox {
    producer: BaseProducer<Deliveries>,
    delivery: Delivery,
    /// Whether a transaction was begun and not ended.
    open: AtomicBool,
    shutdown: CancellationToken,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Outbox").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl Outbox {
    /// Makes the producer. Where it sends in transactions, what an earlier one of its name left open is ended then, and
    /// that one is fenced; otherwise brokers are asked only when something is sent.
    ///
    /// # Errors
    /// Where a property is wrong, or the brokers don't take it.
    pub fn open(kafka: &KafkaOptions, delivery: Delivery, shutdown: CancellationToken) -> Result<Self, OutboxError> {
        let mut defaults = vec![
            ("enable.idempotence", "true"),
            ("compression.type", "lz4"),
            ("delivery.report.only.error", "true"),
            // A batch is sent at its end at the latest; each request before that costs the same whatever is in it.
            ("linger.ms", "50"),
            ("queue.buffering.max.kbytes", QUEUE_KILOBYTES),
        ];
        match &delivery {
            Delivery::Single => defaults.push(("delivery.timeout.ms", DELIVERY_TIMEOUT_MS)),
            Delivery::Transactions(name) => defaults.extend([
                ("transactional.id", name.as_str()),
                ("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS),
                ("delivery.timeout.ms", TRANSACTION_TIMEOUT_MS),
            ]),
        }
        let producer = kafka
            .client("enricher", &defaults)
            .create_with_context::<_, BaseProducer<Deliveries>>(Deliveries::default())
            .map_err(OutboxError::Create)?;
        let outbox = Self { producer, delivery, open: AtomicBool::new(false), shutdown };
        if outbox.is_transactional() {
            outbox.insist("begin with transactions", || outbox.producer.init_transactions(ONE_CALL * 4))?;
        }
        Ok(outbox)
    }

    /// True where messages are sent in transactions.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        matches!(self.delivery, Delivery::Transactions(_))
    }

    /// True where a transaction was begun and not ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Begins a transaction unless one is open.
    fn begin(&self) -> Result<(), OutboxError> {
        if !self.is_transactional() || self.is_open() {
            return Ok(());
        }
        self.producer.begin_transaction().map_err(|cause| self.classed("begin a transaction", cause))?;
        self.open.store(true, Ordering::Release);
        Ok(())
    }

    /// Commits everything that was sent since the last commit, together with `offsets` of this member of a group. A
    /// member that the group has given up is refused.
    ///
    /// # Errors
    /// [`OutboxError::Spoilt`] where the transaction must be aborted; otherwise the producer is of no more use, and
    /// whether the transaction was committed will be known when the next one of its name is open.
    pub fn commit(&self, offsets: &TopicPartitionList, member: &ConsumerGroupMetadata) -> Result<(), OutboxError> {
        self.begin()?;
        self.settle().map_err(|error| match error {
            OutboxError::Lost(cause) => OutboxError::Spoilt(cause),
            other => other,
        })?;
        self.insist("put offsets into a transaction", || {
            self.producer.send_offsets_to_transaction(offsets, member, ONE_CALL * 4)
        })?;
        self.insist("commit a transaction", || self.producer.commit_transaction(ONE_CALL * 4))?;
        self.open.store(false, Ordering::Release);
        Ok(())
    }

    /// Aborts the transaction, if one is open: nobody who reads what is committed will see what was sent.
    ///
    /// # Errors
    /// Where the producer is of no more use.
    pub fn abort(&self) -> Result<(), OutboxError> {
        if !self.is_open() {
            return Ok(());
        }
        // What is thrown away must be told to someone who polls, or the call waits for that.
        self.insist("abort a transaction", || self.producer.abort_transaction(ONE_CALL / 5))?;
        while self.waiting() > 0 {
            self.wait_a_moment();
        }
        *self.producer.context().lost.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.open.store(false, Ordering::Release);
        Ok(())
    }

    /// Calls again while that is worth it.
    fn insist(&self, what: &'static str, call: impl Fn() -> Result<(), KafkaError>) -> Result<(), OutboxError> {
        let begun = Instant::now();
        loop {
            let Err(cause) = call() else { return Ok(()) };
            let patience = if self.shutdown.is_cancelled() { LAST_WAIT } else { LAST_CALL };
            if !is_worth_a_retry(&cause) || begun.elapsed() > patience {
                return Err(self.classed(what, cause));
            }
            tracing::debug!(what, %cause, "trying again");
            self.wait_a_moment();
        }
    }

    /// The class of what failed in a transaction.
    fn classed(&self, what: &'static str, cause: KafkaError) -> OutboxError {
        let name = match &self.delivery {
            Delivery::Transactions(name) => name.clone(),
            Delivery::Single => String::new(),
        };
        match &cause {
            KafkaError::Transaction(error) if error.txn_requires_abort() => OutboxError::Spoilt(cause),
            _ if is_fenced(&cause) => OutboxError::Fenced { name, cause },
            _ => OutboxError::Transaction { what, name, cause },
        }
    }

    /// Messages that are neither acknowledged nor told to be lost. The client counts them until then.
    fn waiting(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or_default()
    }

    fn lost(&self) -> Option<KafkaError> {
        self.producer.context().lost.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a message; waits while the queue is full. Where it is sent in a transaction, that is begun.
    ///
    /// # Errors
    /// Where the message is too large, or the brokers did not take earlier ones in time.
    pub fn send(&self, message: Outgoing<'_>) -> Result<(), OutboxError> {
        self.begin()?;
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(message.topic);
        (record.partition, record.timestamp) = (message.partition, message.time);
        (record.key, record.payload) = (message.key, message.value);
        while let Err((cause, returned)) = self.producer.send(record) {
            match cause.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) => record = returned,
                Some(RDKafkaErrorCode::MessageSizeTooLarge) => return Err(OutboxError::TooLarge),
                // A new producer knows the topic as it is now; this one may not for minutes.
                Some(RDKafkaErrorCode::UnknownPartition | RDKafkaErrorCode::UnknownTopic) => {
                    return Err(OutboxError::Send { topic: message.topic.to_owned(), cause });
                }
                // The client does not say here why it takes no more; aborting does.
                _ if self.is_transactional() => return Err(OutboxError::Spoilt(cause)),
                _ => return Err(OutboxError::Send { topic: message.topic.to_owned(), cause }),
            }
            self.wait_a_moment();
            if let Some(lost) = self.lost() {
                let class = if self.is_transactional() { OutboxError::Spoilt } else { OutboxError::Lost };
                return Err(class(lost));
            }
            if self.shutdown.is_cancelled() {
                return Err(OutboxError::ShuttingDown(self.waiting()));
            }
        }
        Ok(())
    }

    /// Takes in what the producer has to tell, of messages that are lost before all, without waiting.
    pub fn take_reports(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// The client would wait itself, but turns in circles for the last millisecond of it: with short waits for
    /// acknowledgements that was a third of a worker's processor time.
    fn wait_a_moment(&self) {
        self.take_reports();
        std::thread::sleep(MOMENT);
    }

    /// Waits until everything that was sent is acknowledged.
    ///
    /// # Errors
    /// Where a message was lost, or the brokers do not answer while shutting down.
    pub fn settle(&self) -> Result<(), OutboxError> {
        let mut give_up = None;
        while self.waiting() > 0 {
            self.wait_a_moment();
            // A transaction is spoilt by the first message that is lost; the others would wait for their time-out.
            if self.is_transactional() && self.lost().is_some() {
                break;
            }
            if self.shutdown.is_cancelled()
                && Instant::now() > *give_up.get_or_insert_with(|| Instant::now() + LAST_WAIT)
            {
                return Err(OutboxError::ShuttingDown(self.waiting()));
            }
        }
        self.lost().map_or(Ok(()), |lost| Err(OutboxError::Lost(lost)))
    }
}

/// True for what the client may do again in the same transaction.
fn is_worth_a_retry(cause: &KafkaError) -> bool {
    match cause {
        KafkaError::Transaction(error) => error.is_retriable() && !error.is_fatal() && !error.txn_requires_abort(),
        // Committing sends what is left first.
        KafkaError::Flush(code) => *code == RDKafkaErrorCode::OperationTimedOut,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use service::options::TopicSetup;

    use super::*;
    use crate::processor_time::ticks;

    #[test]
    fn waiting_takes_time_and_next_to_no_processor_time() {
        const MOMENTS: u32 = 400;
        let kafka = KafkaOptions {
            kafka_brokers: "127.0.0.1:1".to_owned(),
            kafka_property: Vec::new(),
            topic_prefix: String::new(),
            topic_replication: -1,
            topic_setup: TopicSetup::Create,
            topic_partitions: None,
            schema_registry: None,
        };
        let outbox = Outbox::open(&kafka, Delivery::Single, CancellationToken::new()).unwrap();
        let (begun, before) = (Instant::now(), ticks());
        (0..MOMENTS).for_each(|_| outbox.wait_a_moment());
        let (used, waited) = (ticks() - before, begun.elapsed());
        assert!(waited >= MOMENT * MOMENTS);
        assert!(u128::from(4 * used) <= waited.as_millis() / 10, "{used} hundredths of a second in {waited:?}");
    }
}

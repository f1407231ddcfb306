//! Delivers to `hits.dead` what can't be read or stored.

use std::borrow::Cow;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use schemas::topics::HITS_DEAD;
use schemas::{DeadLetter, Stage, Writer};
use service::options::KafkaOptions;
use service::producer::{Parcel, Producer, Receipts};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::outcome::Reason;

/// How much of an original is kept where the whole does not fit into a message, bytes.
const CUT_ORIGINAL_BYTES: usize = 512 * 1024;
/// How long a letter waits for room in Kafka's client.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something that goes to `hits.dead`.
#[derive(Debug, Clone)]
pub struct Letter<'a> {
    /// Key of the message, which is that of the source.
    pub key: Vec<u8>,
    /// Why.
    pub reason: Reason,
    /// What exactly is wrong; no personal data.
    pub detail: String,
    /// Key of the site, where it is known.
    pub site: String,
    /// The original bytes.
    pub original: &'a [u8],
    /// Partition it came from.
    pub partition: i32,
    /// Offset it came from.
    pub offset: i64,
}

/// Where dead letters go.
pub trait Graveyard: Send + Sync + 'static {
    /// Delivers one, for good: it is acknowledged when this returns.
    ///
    /// # Errors
    /// Where it could not be delivered; it may have been nevertheless.
    fn bury(&self, letter: &Letter<'_>) -> impl Future<Output = Result<(), KafkaError>> + Send;
}

/// The topic `hits.dead`.
pub struct DeadTopic {
    /// Made anew after a fatal error, from which it does not recover.
    producer: Mutex<Producer<Receipts>>,
    kafka: KafkaOptions,
    topic: String,
    source_topic: String,
    writer: Writer,
}

/// A producer for messages that must not be lost.
///
/// # Errors
/// Where a property is wrong.
pub fn producer(kafka: &KafkaOptions) -> Result<Producer<Receipts>, crate::error::SinkError> {
    let defaults = [
        ("enable.idempotence", "true"),
        ("linger.ms", "5"),
        ("compression.type", "lz4"),
        // The broker's limit decides, not this client's.
        ("message.max.bytes", "16777216"),
        ("message.timeout.ms", "30000"),
    ];
    Ok(Producer::start(&kafka.client("sink", &defaults), Receipts)?)
}

impl DeadTopic {
    /// For letters from `source_topic`. May ask the registry, and then blocks.
    ///
    /// # Errors
    /// Where the registry refuses, or the producer can't be made.
    pub fn new(kafka: &KafkaOptions, source_topic: &str) -> Result<Self, crate::error::SinkError> {
        let topic = kafka.topic(&HITS_DEAD);
        let producer = Mutex::new(producer(kafka)?);
        let writer = Writer::for_topic::<DeadLetter<'_>>(&topic, kafka.registry().as_ref())?;
        Ok(Self { producer, kafka: kafka.clone(), topic, source_topic: source_topic.to_owned(), writer })
    }

    fn message(&self, letter: &Letter<'_>, original: &[u8]) -> Vec<u8> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let detail = match letter.original.len() - original.len() {
            0 => Cow::Borrowed(letter.detail.as_str()),
            cut => Cow::Owned(format!("{}; the last {cut} bytes of the original did not fit", letter.detail)),
        };
        let record = DeadLetter {
            dead_letter_id: self.id(letter),
            stage: Stage::Sink,
            reason: letter.reason.as_str().into(),
            detail,
            dead_at: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            site: letter.site.as_str().into(),
            original: original.into(),
            source_topic: self.source_topic.as_str().into(),
            source_partition: Some(letter.partition),
            source_offset: Some(letter.offset),
        };
        let mut message = Vec::with_capacity(original.len() + 256);
        self.writer.write(&record, &mut message);
        message
    }

    /// Always the same for the same message, so that one that is delivered twice is known to be one.
    fn id(&self, letter: &Letter<'_>) -> Uuid {
        let source = format!("sink/{}/{}/{}", self.source_topic, letter.partition, letter.offset);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&Sha256::digest(source)[..16]);
        Builder::from_custom_bytes(bytes).into_uuid()
    }

    async fn send(&self, key: &[u8], message: &[u8]) -> Result<(), KafkaError> {
        let producer = self.producer().clone();
        let parcel = Parcel { topic: (&self.topic).into(), partition: None, key: key.into(), value: message.into() };
        let delivered = producer.deliver(&parcel, PATIENCE).await;
        delivered.map_err(|error| self.renew_if_fatal(&producer).unwrap_or(error))
    }

    fn producer(&self) -> MutexGuard<'_, Producer<Receipts>> {
        self.producer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the producer anew where it has failed for good, unless another letter has seen to that. Gives the error that
    /// it failed with: later ones say no more than that there was one.
    fn renew_if_fatal(&self, failed: &Producer<Receipts>) -> Option<KafkaError> {
        let (code, said) = failed.client().fatal_error()?;
        let mut current = self.producer();
        if current.client().fatal_error().is_some() {
            tracing::warn!(said, "the producer of dead letters has failed for good, and is made anew");
            match producer(&self.kafka) {
                Ok(new) => *current = new,
                Err(error) => tracing::warn!(%error, "the producer of dead letters can't be made anew"),
            }
        }
        Some(KafkaError::MessageProduction(code))
    }
}

/// Whether it helps only that somebody allows something.
#[must_use]
pub fn is_forbidden(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
        )
    )
}

impl Graveyard for DeadTopic {
    async fn bury(&self, letter: &Letter<'_>) -> Result<(), KafkaError> {
        match self.send(&letter.key, &self.message(letter, letter.original)).await {
            Err(error)
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
                    && letter.original.len() > CUT_ORIGINAL_BYTES =>
            {
                self.send(&letter.key, &self.message(letter, &letter.original[..CUT_ORIGINAL_BYTES])).await
            }
            result => result,
        }
    }
}

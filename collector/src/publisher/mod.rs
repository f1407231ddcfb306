//! Makes hits durable: in Kafka, or in the spool while Kafka does not take them.
//!
//! The producer is idempotent and waits for all in-sync replicas. The hits of one request share one [`Batch`], which
//! wakes its request once, when the last of them is acknowledged or failed. Bytes that wait are counted here and
//! bounded: what does not fit is refused at once, so that the request can say so.
//!
//! With a spool, a request goes there when the brokers are known not to take hits, when a hit of the same visitor is
//! still spooled, or when the acknowledgement is not there by the deadline. In the last case Kafka's client goes on
//! trying with the hit. It must go on: a later hit of the visitor that is already with the client would else overtake the
//! one that was spooled.
//!
//! Why such a hit is published once, however long Kafka is away:
//!
//! 1. The client gives no hit up that is not too old for the spool, too (`--spool-age`). It sends it again under the sequence number that it had first, and a
//!    broker that has it already says so instead of storing it again. Brokers keep these numbers with the partition, on
//!    each replica, for `producer.id.expiration.ms` after a producer's last message, a day by default.
//! 2. Its record in the spool is a copy for the case that the process ends. Replay comes to it only when the client has said
//!    what became of the hit ([`Handover`]), passes it over where it is stored, and publishes it where the client has failed.
//!    So there is never a copy on its way while the fate of another one is not known.
//! 3. The order stays: what the client holds it sends in order, and newer hits of the visitor are behind the copy in the
//!    spool until that is passed over.
//! 4. The client holds only what it was given until the first deadline passed, at most three quarters of `--queue-bytes`:
//!    the rest is for hits on their way to the spool, so that an outage which begins under load locks none of them out.
//!
//! An idempotent producer may meet a fatal error, after which it takes nothing more: it is then replaced by a new one. What
//! it held has failed, and is with its requests or in the spool. What of it had arrived, and what had arrived of a process that
//! ended before it was acknowledged, arrives twice, under one hit id: the enricher drops it within its window.
//!
//! One thread gives what is spooled back to Kafka, in order, by the same producer: so per partition it comes after all
//! that the client already holds. The first step that is acknowledged says that the brokers take hits again.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use schemas::topics::{HITS_DEAD, HITS_RAW, PRIVACY, Topic, VISITOR_KEYS};
use schemas::{DeadLetter, RawHit, Writer};
use service::health::Health;
use service::producer::Producer;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

mod batch;
mod brokers;
mod waiting;

use crate::metrics::Metrics;
use crate::spool::handed::Handover;
use crate::spool::{Spool, Step};
use crate::{Options, StartError};
pub use batch::{Batch, Messages};
use brokers::Brokers;
use waiting::Waiting;

/// The topics that a collector needs.
pub const TOPICS: &[Topic] = &[HITS_RAW, HITS_DEAD, PRIVACY, VISITOR_KEYS];

const PROBE_INTERVAL: Duration = Duration::from_secs(2);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Kafka's client gives a hit that a spool has as well up only so long after it is too old to be published.
const BEYOND_AGE: Duration = Duration::from_secs(1);
/// The longest time that it knows, milliseconds: 24 days.
const LONGEST: u128 = i32::MAX as u128;
/// How often replay looks for something to do.
const REPLAY_INTERVAL: Duration = Duration::from_millis(50);
/// How long replay waits, at most, until it gives the brokers again what they did not take.
const LONGEST_REPLAY_PAUSE: Duration = Duration::from_secs(1);
/// How often replay looks whether a step was acknowledged.
const ACKNOWLEDGEMENT_INTERVAL: Duration = Duration::from_millis(2);
/// What is on its way to the brokers at the end is in the spool as well; a moment of waiting saves most doubles.
const FLUSH_WITH_SPOOL: Duration = Duration::from_secs(1);

/// Where hits are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// All in-sync replicas have them.
    Kafka,
    /// They are on this collector's disk.
    Spool,
}

/// Why hits are not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The brokers did not acknowledge them in time.
    #[error("the brokers did not acknowledge the hits in time; send them again with the same hit ids")]
    Broker,
    /// Too many bytes wait already.
    #[error("too many hits wait for the brokers; send them again with the same hit ids")]
    QueueFull,
    /// The brokers do not take them, and the spool is full or its disk fails.
    #[error("neither the brokers nor the spool take the hits; send them again with the same hit ids")]
    Spool,
}

/// Hears of every message what became of it.
#[derive(Debug)]
struct Acknowledgements {
    waiting: Arc<Waiting>,
    brokers: Arc<Brokers>,
    /// The producer is at its end.
    fatal: Arc<Notify>,
}

impl ClientContext for Acknowledgements {
    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.brokers.fail("all brokers are down"),
            Some(RDKafkaErrorCode::Fatal) => self.fatal.notify_one(),
            _ => {}
        }
        tracing::warn!(%error, reason, "Kafka");
    }
}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = Arc<Batch>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Arc<Batch>) {
        let message = match result {
            Ok(message) => message,
            Err((_, message)) => message,
        };
        self.waiting.release(message.key_len() + message.payload_len());
        match result {
            Ok(_) => self.brokers.acknowledge(),
            Err((error, _)) => self.brokers.refuse(error),
        }
        batch.settle(result.is_ok());
    }
}

/// Hits that Kafka's client has and whose request still waits. When the request goes away they are spooled, unless they
/// are acknowledged by the deadline.
struct Unanswered {
    publisher: Arc<Publisher>,
    batch: Arc<Batch>,
    messages: Messages,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if self.messages.entries.is_empty() {
            return;
        }
        let (publisher, batch) = (Arc::clone(&self.publisher), Arc::clone(&self.batch));
        let messages = std::mem::take(&mut self.messages);
        tokio::spawn(async move {
            tokio::time::sleep(publisher.deadline).await;
            if let Some(spool) = publisher.spool.as_ref().filter(|_| !batch.is_stored())
                && publisher.to_spool(spool, &messages, Some(batch)).await.is_err()
            {
                tracing::warn!("hits whose client hung up are not durable: neither Kafka nor the spool takes them");
            }
        });
    }
}

/// Publishes raw hits and dead letters.
pub struct Publisher {
    producer: ArcSwap<Producer<Acknowledgements>>,
    client: ClientConfig,
    fatal: Arc<Notify>,
    topics: [String; 2],
    hit_writer: Writer,
    dead_letter_writer: Writer,
    waiting: Arc<Waiting>,
    deadline: Duration,
    metrics: Arc<Metrics>,
    brokers: Arc<Brokers>,
    spool: Option<Spool>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Publisher").field("topics", &self.topics).finish_non_exhaustive()
    }
}

impl Publisher {
    /// Starts the producer, and watches the brokers until `shutdown`.
    ///
    /// # Errors
    /// Where Kafka's client refuses its settings, or a registry its schemas.
    pub fn start(
        options: &Options,
        metrics: Arc<Metrics>,
        health: Health,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, StartError> {
        let topics = [options.kafka.topic(&HITS_RAW), options.kafka.topic(&HITS_DEAD)];
        let registry = options.kafka.registry();
        let waiting = Waiting::new(options.queue_bytes, options.spool.is_some(), Arc::clone(&metrics), health.clone());
        let spool =
            options.spool_settings().map(|settings| Spool::start(settings, Arc::clone(&metrics), health.clone()));
        let spool = spool.transpose()?;
        let brokers = Brokers::new(spool.is_none(), Arc::clone(&metrics), health);
        let (client, fatal) = (client(options), Arc::new(Notify::new()));
        let producer = Producer::start(
            &client,
            Acknowledgements {
                waiting: Arc::clone(&waiting),
                brokers: Arc::clone(&brokers),
                fatal: Arc::clone(&fatal),
            },
        )?;
        let publisher = Arc::new(Self {
            producer: ArcSwap::from_pointee(producer),
            client,
            fatal,
            hit_writer: Writer::for_topic::<RawHit>(&topics[0], registry.as_ref())?,
            dead_letter_writer: Writer::for_topic::<DeadLetter>(&topics[1], registry.as_ref())?,
            topics,
            waiting,
            deadline: options.publish_deadline(),
            metrics,
            brokers,
            spool,
        });
        if let Some(spool) = publisher.spool.clone() {
            let (replaying, shutdown) = (Arc::clone(&publisher), shutdown.clone());
            tokio::task::spawn_blocking(move || replaying.replay(&spool, &shutdown));
        }
        tokio::spawn(shutdown.run_until_cancelled_owned(watch(Arc::clone(&publisher))));
        Ok(publisher)
    }

    /// Adds a hit to what a request publishes.
    pub fn add_hit(&self, messages: &mut Messages, hit: &RawHit<'_>) {
        schemas::topics::visitor_key(&hit.site, &hit.visitor_id, &mut messages.buffer);
        let key_end = messages.buffer.len();
        self.hit_writer.write(hit, &mut messages.buffer);
        messages.entries.push((false, key_end, messages.buffer.len()));
    }

    /// Adds a dead letter to what a request publishes.
    pub fn add_dead_letter(&self, messages: &mut Messages, letter: &DeadLetter<'_>) {
        messages.buffer.extend_from_slice(letter.site.as_bytes());
        let key_end = messages.buffer.len();
        self.dead_letter_writer.write(letter, &mut messages.buffer);
        messages.entries.push((true, key_end, messages.buffer.len()));
    }

    /// Returns once all of it is durable, and where. With a spool it becomes durable also when this is dropped before,
    /// because the client hung up: browsers do when a page is left.
    ///
    /// # Errors
    /// Where it is not, or may not be: some of the messages may have been stored.
    pub async fn publish(self: &Arc<Self>, mut messages: Messages) -> Result<Durable, PublishError> {
        if messages.entries.is_empty() {
            return Ok(Durable::Kafka);
        }
        let Some(spool) = &self.spool else { return self.to_kafka(&messages).await };
        let mut handed = None;
        if self.brokers.take_hits() && !messages.iter().any(|(_, key, _)| spool.holds(key)) {
            let (batch, acknowledged) = Batch::of(messages.entries.len());
            handed = Some(Arc::clone(&batch));
            if self.hand_over(&messages, &batch).is_ok() {
                let mut unanswered = Unanswered { publisher: Arc::clone(self), batch, messages };
                let stored = self.is_acknowledged(&unanswered.batch, acknowledged).await;
                messages = std::mem::take(&mut unanswered.messages);
                if stored {
                    return Ok(Durable::Kafka);
                }
                self.brokers.fail("a hit was not acknowledged in time");
            }
        }
        self.to_spool(spool, &messages, handed).await
    }

    async fn to_kafka(&self, messages: &Messages) -> Result<Durable, PublishError> {
        let (batch, acknowledged) = Batch::of(messages.entries.len());
        self.hand_over(messages, &batch)?;
        let stored = self.is_acknowledged(&batch, acknowledged).await;
        if stored { Ok(Durable::Kafka) } else { Err(PublishError::Broker) }
    }

    /// True once all of a batch is acknowledged, false at the deadline or when some of it failed.
    async fn is_acknowledged(&self, batch: &Batch, acknowledged: oneshot::Receiver<()>) -> bool {
        let timer = self.metrics.publish_seconds.start_timer();
        let in_time = tokio::time::timeout(self.deadline, acknowledged).await.is_ok();
        timer.observe_duration();
        in_time && batch.succeeded()
    }

    /// Spools messages, which Kafka's client was given before where there is a batch of them.
    async fn to_spool(
        &self,
        spool: &Spool,
        messages: &Messages,
        handed: Option<Arc<Batch>>,
    ) -> Result<Durable, PublishError> {
        // Released also when the client hangs up and this is dropped.
        let _held = self.waiting.hold(messages.buffer.len())?;
        let handover = handed.map(|batch| batch as Arc<dyn Handover>);
        spool.append(messages.iter(), handover).await.map(|()| Durable::Spool).map_err(|_| PublishError::Spool)
    }

    /// Gives messages to Kafka's client. What it does not take has failed.
    fn hand_over(&self, messages: &Messages, batch: &Arc<Batch>) -> Result<(), PublishError> {
        let (mut left, mut bytes) = (messages.entries.len(), messages.buffer.len());
        let mut send_all = || {
            self.waiting.reserve_for_client(bytes)?;
            for (dead, key, value) in messages.iter() {
                if let Err(error) = self.send(batch, dead, key, value) {
                    self.waiting.release(bytes);
                    return Err(self.refused(&error));
                }
                (left, bytes) = (left - 1, bytes - key.len() - value.len());
            }
            Ok(())
        };
        let result = send_all();
        (0..left).for_each(|_| batch.settle(false));
        result
    }

    fn send(&self, batch: &Arc<Batch>, dead: bool, key: &[u8], value: &[u8]) -> Result<(), KafkaError> {
        let topic = &self.topics[usize::from(dead)];
        let record = BaseRecord::with_opaque_to(topic, Arc::clone(batch)).key(key).payload(value);
        self.producer.load().send(record).map_err(|(error, _)| error)
    }

    fn refused(&self, error: &KafkaError) -> PublishError {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
            self.waiting.full();
            return PublishError::QueueFull;
        }
        tracing::warn!(%error, "Kafka's client refuses a hit");
        PublishError::Broker
    }

    /// Waits until nothing is on its way any more, for `deadline` at most. Returns the bytes that are lost by ending now.
    #[must_use]
    pub fn flush(&self, deadline: Duration) -> usize {
        let deadline = if self.spool.is_some() { deadline.min(FLUSH_WITH_SPOOL) } else { deadline };
        // What is left is counted in bytes, and with a spool it is there.
        let _ = self.producer.load().flush(deadline);
        let Some(spool) = &self.spool else { return self.waiting.bytes() };
        spool.forget_stored();
        0
    }

    /// Gives what is spooled to Kafka until `shutdown`.
    fn replay(&self, spool: &Spool, shutdown: &CancellationToken) {
        let mut pause = REPLAY_INTERVAL;
        while !shutdown.is_cancelled() {
            match spool.next_step() {
                None => std::thread::sleep(REPLAY_INTERVAL),
                Some(step) if self.deliver(&step, shutdown) => {
                    if !step.messages.is_empty() || step.stored > 0 {
                        self.brokers.take();
                    }
                    spool.published(step);
                    pause = REPLAY_INTERVAL;
                }
                // What the brokers refuse at once they would be given twenty times a second.
                Some(_) => {
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(LONGEST_REPLAY_PAUSE);
                }
            }
        }
    }

    /// True once the brokers have acknowledged all of a step.
    fn deliver(&self, step: &Step, shutdown: &CancellationToken) -> bool {
        let (batch, mut acknowledged) = Batch::of(step.messages.len());
        for (dead, key, value) in &step.messages {
            let bytes = key.len() + value.len();
            self.waiting.add(bytes);
            while let Err(error) = self.send(&batch, *dead, key, value) {
                let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
                if !full || shutdown.is_cancelled() {
                    tracing::warn!(%error, "Kafka's client refuses a spooled hit");
                    self.waiting.release(bytes);
                    return false;
                }
                std::thread::sleep(REPLAY_INTERVAL);
            }
        }
        while !step.messages.is_empty() && acknowledged.try_recv().is_err() {
            if shutdown.is_cancelled() {
                return false;
            }
            std::thread::sleep(ACKNOWLEDGEMENT_INTERVAL);
        }
        batch.succeeded()
    }

    /// Puts a new producer in the place of one that met a fatal error.
    fn renew(&self) {
        let old = self.producer.load_full();
        let Some((code, reason)) = old.client().fatal_error() else { return };
        let acknowledgements = Acknowledgements {
            waiting: Arc::clone(&self.waiting),
            brokers: Arc::clone(&self.brokers),
            fatal: Arc::clone(&self.fatal),
        };
        match Producer::start(&self.client, acknowledgements) {
            Ok(new) => {
                tracing::error!(%code, reason, "Kafka's producer met a fatal error and is replaced by a new one");
                self.producer.store(Arc::new(new));
                self.metrics.producers_replaced.inc();
            }
            Err(error) => {
                tracing::error!(%error, reason, "Kafka's producer met a fatal error and can't be replaced yet")
            }
        }
    }

    fn probe(&self) {
        self.renew();
        let topic = &self.topics[0];
        let told = self.producer.load().client().fetch_metadata(Some(topic), PROBE_TIMEOUT);
        match told.map(|told| told.topics().iter().find_map(MetadataTopic::error)) {
            // While something is spooled, only its acknowledgement says that the brokers take hits.
            Ok(None) if self.spool.as_ref().is_none_or(Spool::is_empty) => self.brokers.answer(),
            Ok(None) => {}
            Ok(Some(error)) => {
                let error = RDKafkaErrorCode::from(error);
                self.brokers.fail(&format!("topic {topic}: {error}; a collector that is started again creates it"));
            }
            Err(error) => self.brokers.fail(&format!("the brokers do not answer: {error}")),
        }
        self.waiting.note_room();
    }
}

async fn watch(publisher: Arc<Publisher>) {
    loop {
        let probed = Arc::clone(&publisher);
        if let Err(error) = tokio::task::spawn_blocking(move || probed.probe()).await {
            tracing::error!(%error, "cannot look after the brokers");
        }
        // Sooner when the producer is at its end.
        let _ = tokio::time::timeout(PROBE_INTERVAL, publisher.fatal.notified()).await;
    }
}

fn client(options: &Options) -> ClientConfig {
    let deadline = options.publish_deadline();
    let spooled = options.spool_settings().map(|spool| spool.age.saturating_add(deadline).saturating_add(BEYOND_AGE));
    let patience = spooled.unwrap_or(deadline).as_millis().clamp(1, LONGEST).to_string();
    let linger = options.publish_linger.as_millis().to_string();
    let kilobytes = (options.queue_bytes / 1024 * 2).max(1024).to_string();
    options.kafka.client(
        "collector",
        &[
            ("enable.idempotence", "true"),
            ("acks", "all"),
            // Where Java clients would put the same key.
            ("partitioner", "murmur2_random"),
            ("compression.type", "lz4"),
            ("linger.ms", &linger),
            ("message.timeout.ms", &patience),
            // The bound is the publisher's own; the client's only has to be wider.
            ("queue.buffering.max.kbytes", &kilobytes),
            ("queue.buffering.max.messages", "10000000"),
            ("message.max.bytes", "2097152"),
        ],
    )
}

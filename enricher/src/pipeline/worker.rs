//! A worker: one thread, one consumer, one producer. Workers share nothing that changes but caches and metrics, so more
//! partitions and more workers are more throughput.
//!
//! A batch that can't be committed is aborted, its partitions are read again, and the worker goes on: that happens
//! whenever partitions move; when it happens again and again, more and more slowly. When something else fails, the worker leaves the group, waits, and starts afresh where it
//! last committed, with a new producer under the old name. That is slower than mending the one thing that failed, and it
//! is one way out for all of them. It is the way out for a fenced worker too, who may have been away just for a while:
//! stopping for good would cost an operator a restart after each pause of a machine. Where two enrichers really run under
//! one name, they take turns, more and more slowly, each saying so; no hit passes twice by that.
//!
//! While it is not known what all people asked of us, as after a request under a key that the file lacks, a worker is no member
//! of its group: it commits what it has, leaves its partitions to whoever knows, and comes back when it is known.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::topics::{HITS_DEAD, HITS_ENRICHED, HITS_RAW};
use schemas::{RawHit, WireError};
use service::health::Health;
use service::kafka::dropped;
use service::options::KafkaOptions;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::backoff::Backoff;
use super::batch::{Batch, BatchError, Committed, Limits, Taken};
use super::duplicates::{Identity, Remember};
use super::group::{Membership, WORKERS};
use super::outbox::{self, Outbox, OutboxError, Outgoing};
use super::recall::{Recall, RecallError};
use crate::client_errors;
use crate::hit::{Burial, Coordinates, DeadReason, Enriched, Enricher, Obstacle};
use crate::metrics::{Metrics, Outcome};
use crate::options::Delivery;
use crate::privacy::Visitor;

/// Waits between two starts grow from the first to the second.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// The longest wait after a batch was aborted. A first one costs no wait, since partitions move; what aborts batch after
/// batch is not mended by haste.
const LONGEST_WAIT_AFTER_ABORT: Duration = Duration::from_secs(5);
/// A session that lasted so long was no failed start.
const SOUND_SESSION: Duration = Duration::from_secs(60);
/// How often it is looked whether all directives are known.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// How long the last commit is tried.
const LAST_COMMIT: Duration = Duration::from_secs(5);
/// How long it is asked what is committed: a dead worker's transaction may be open for most of it.
const COMMITTED: Duration = Duration::from_secs(90);
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(200);
/// How long the client may take to turn back.
const TURN_BACK: Duration = Duration::from_secs(10);
/// What the producer tells is taken in at every so many hits, so that a batch which is lost ends soon.
const HITS_BETWEEN_REPORTS: u64 = 256;
/// What a dead letter keeps of a message that is too large to be sent on.
const LARGEST_ORIGINAL: usize = 512 * 1024;
/// How much the consumer reads ahead, kilobytes.
const READ_AHEAD_KILOBYTES: &str = "16384";

/// How a worker works.
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Brokers and topics.
    pub kafka: KafkaOptions,
    /// Consumer group.
    pub group: String,
    /// Name of this member, where it keeps its partitions over a restart.
    pub group_instance_id: Option<String>,
    /// When batches are cut.
    pub limits: Limits,
    /// Whether batches are transactions.
    pub delivery: Delivery,
    /// Which hits are remembered.
    pub remember: Remember,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("cannot make a consumer: {0}; is a --kafka-property wrong?")]
    Consumer(KafkaError),
    #[error("cannot read hits: {0}")]
    Read(KafkaError),
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    #[error(transparent)]
    Recall(#[from] RecallError),
    #[error("cannot learn where to begin: {0}")]
    Committed(KafkaError),
    #[error("cannot read hits again: {0}")]
    TurnBack(KafkaError),
    #[error("cannot read a hit now: {0}")]
    Later(WireError),
}

/// What a worker has while it is a member of its group.
struct Session {
    batch: Arc<Batch>,
    consumer: BaseConsumer<Membership>,
    recall: Recall,
    buffer: Vec<u8>,
}

/// One worker.
#[derive(Debug)]
pub struct Worker {
    options: WorkerOptions,
    enricher: Arc<Enricher>,
    metrics: Metrics,
    health: Health,
    shutdown: CancellationToken,
    enriched_topic: String,
    dead_topic: String,
    delivery: outbox::Delivery,
}

impl Worker {
    /// A worker that ends with `shutdown`.
    #[must_use]
    pub fn new(
        options: WorkerOptions,
        enricher: Arc<Enricher>,
        metrics: Metrics,
        health: Health,
        shutdown: CancellationToken,
    ) -> Self {
        let enriched_topic = options.kafka.topic(&HITS_ENRICHED);
        let dead_topic = options.kafka.topic(&HITS_DEAD);
        let delivery = match options.delivery {
            Delivery::AtLeastOnce => outbox::Delivery::Single,
            Delivery::ExactlyOnce => outbox::Delivery::Transactions(transactional_id(&options)),
        };
        Self { options, enricher, metrics, health, shutdown, enriched_topic, dead_topic, delivery }
    }

    /// Works until shutdown. Blocks.
    pub fn run(&self) {
        let mut starts = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        while !self.shutdown.is_cancelled() {
            if !self.enricher.knows_all_directives() {
                std::thread::sleep(BETWEEN_LOOKS);
                continue;
            }
            let began = Instant::now();
            let Err(error) = self.session() else { continue };
            tracing::error!(%error, "starting afresh from the last commit");
            self.metrics.restarts.inc();
            self.health.unmet(WORKERS, error.to_string());
            if began.elapsed() > SOUND_SESSION {
                starts.succeed();
            }
            self.pause(starts.fail());
        }
    }

    fn pause(&self, wait: Duration) {
        let end = Instant::now() + wait;
        while !self.shutdown.is_cancelled() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn session(&self) -> Result<(), SessionError> {
        let WorkerOptions { kafka, limits, remember, .. } = &self.options;
        let topic = kafka.topic(&HITS_RAW);
        // Before the group gives out offsets, what an earlier worker of this name left open must have ended.
        let outbox = Outbox::open(kafka, self.delivery.clone(), self.shutdown.clone())?;
        let recall = Recall::open(kafka, &topic, &self.enriched_topic, self.shutdown.clone())?;
        let batch = Arc::new(Batch::new(outbox, topic.clone(), *limits, *remember, self.metrics.clone()));
        let consumer = self.consumer(&batch).map_err(SessionError::Consumer)?;
        consumer.subscribe(&[&topic]).map_err(SessionError::Read)?;
        let mut session = Session { batch, consumer, recall, buffer: Vec::new() };
        let result = self.read(&mut session);
        if result.is_err() {
            session.batch.abandon();
            // A fenced producer can't, and the brokers do it themselves after a while.
            drop(session.batch.outbox.abort());
        }
        result
    }

    fn consumer(&self, batch: &Arc<Batch>) -> Result<BaseConsumer<Membership>, KafkaError> {
        let WorkerOptions { kafka, group, group_instance_id, .. } = &self.options;
        let mut defaults = vec![
            ("group.id", group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("isolation.level", "read_committed"),
            ("queued.max.messages.kbytes", READ_AHEAD_KILOBYTES),
            // Each fetch costs client and broker the same whatever is in it: one in 50 ms, or sooner where much is waiting.
            ("fetch.min.bytes", "262144"),
            ("fetch.wait.max.ms", "50"),
            ("statistics.interval.ms", "2000"),
        ];
        if let Some(name) = group_instance_id {
            defaults.push(("group.instance.id", name));
        }
        let membership = Membership {
            batch: Arc::clone(batch),
            metrics: self.metrics.clone(),
            health: self.health.clone(),
            failure: Mutex::default(),
        };
        kafka.client("enricher", &defaults).create_with_context(membership)
    }

    /// Reads until shutdown, or until there is something that people asked and that is not known.
    fn read(&self, session: &mut Session) -> Result<(), SessionError> {
        let Session { batch, consumer, recall, buffer } = session;
        let mut taken = 0u64;
        let mut aborts = Backoff::new(Duration::ZERO, LONGEST_WAIT_AFTER_ABORT);
        while !self.shutdown.is_cancelled() && self.enricher.knows_all_directives() {
            match consumer.poll(batch.patience()) {
                Some(Ok(message)) if !self.begins(&message, consumer, batch)? => {}
                Some(Ok(message)) => {
                    self.prepare(&message, consumer, batch, recall)?;
                    self.take(&message, batch, recall, buffer)?;
                    taken += 1;
                    if taken.is_multiple_of(HITS_BETWEEN_REPORTS) {
                        batch.outbox.take_reports();
                    }
                }
                Some(Err(error)) => self.note(error)?,
                None => {}
            }
            if let Some(failure) = consumer.context().take_failure() {
                return Err(failure.into());
            }
            if batch.is_due() && batch.commit(consumer)? == Committed::Now {
                aborts.succeed();
            }
            if batch.must_turn_back() {
                self.pause(aborts.fail());
                turn_back(consumer, batch)?;
            }
        }
        finish(consumer, batch)
    }

    /// True where a message is not one that was committed before. The client may begin a new partition at its front although
    /// offsets are committed, see [`super::batch`]: then it is sent to where they are.
    fn begins(
        &self,
        message: &BorrowedMessage<'_>,
        consumer: &BaseConsumer<Membership>,
        batch: &Batch,
    ) -> Result<bool, SessionError> {
        let partition = message.partition();
        if batch.has_begun(partition) {
            return Ok(true);
        }
        let committed = self.committed(message.topic(), partition, consumer)?;
        batch.begin(partition, committed.unwrap_or_default().max(message.offset()));
        if let Some(committed) = committed.filter(|committed| *committed < message.offset()) {
            self.note_gone(message, committed, consumer);
        }
        let Some(committed) = committed.filter(|committed| *committed > message.offset()) else { return Ok(true) };
        tracing::warn!(
            partition,
            offset = message.offset(),
            committed,
            "a partition was begun before its committed offset"
        );
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset(message.topic(), partition, Offset::Offset(committed))
            .map_err(SessionError::TurnBack)?;
        seek(consumer, offsets)?;
        Ok(false)
    }

    /// Tells of hits behind what is committed that the brokers have deleted meanwhile.
    fn note_gone(&self, message: &BorrowedMessage<'_>, committed: i64, consumer: &BaseConsumer<Membership>) {
        let (topic, partition) = (message.topic(), message.partition());
        let passed = committed..message.offset();
        let gone = dropped(consumer, (topic, partition), &passed, TURN_BACK).unwrap_or_default();
        let hits = (gone.end - gone.start).unsigned_abs();
        if hits > 0 {
            tracing::error!(topic, partition, hits, "hits are lost: they were deleted before they were read");
            self.metrics.expired.inc_by(hits);
        }
    }

    /// What the group has committed of a partition, once no transaction with offsets of it is open.
    fn committed(
        &self,
        topic: &str,
        partition: i32,
        consumer: &BaseConsumer<Membership>,
    ) -> Result<Option<i64>, SessionError> {
        let deadline = Instant::now() + COMMITTED;
        loop {
            let mut asked = TopicPartitionList::new();
            asked.add_partition(topic, partition);
            let answer = consumer.committed_offsets(asked, TURN_BACK);
            let answer = answer.and_then(|list| match list.elements().first() {
                Some(element) => element.error().map(|()| element.offset()),
                None => Ok(Offset::Invalid),
            });
            match answer {
                Ok(Offset::Offset(offset)) => return Ok(Some(offset)),
                Ok(_) => return Ok(None),
                Err(cause) if Instant::now() > deadline || self.shutdown.is_cancelled() => {
                    return Err(SessionError::Committed(cause));
                }
                Err(_) => std::thread::sleep(BETWEEN_QUESTIONS),
            }
        }
    }

    /// Sees to it that it is known what was written before from a message's partition.
    fn prepare(
        &self,
        message: &BorrowedMessage<'_>,
        consumer: &BaseConsumer<Membership>,
        batch: &Batch,
        recall: &Recall,
    ) -> Result<(), SessionError> {
        let partition = message.partition();
        recall.expect(partition)?;
        if batch.windows().is_prepared(partition) {
            return Ok(());
        }
        // Reading back waits for open transactions, which must not be this worker's own.
        batch.commit(consumer)?;
        let hits = recall.hits(&self.enricher, partition, time_of(message), &self.options.remember)?;
        batch.windows().prepare(partition, hits);
        Ok(())
    }

    fn take(
        &self,
        message: &BorrowedMessage<'_>,
        batch: &Batch,
        recall: &Recall,
        buffer: &mut Vec<u8>,
    ) -> Result<(), SessionError> {
        batch.receive();
        let coordinates =
            Coordinates { topic: message.topic(), partition: message.partition(), offset: message.offset() };
        let time = time_of(message);
        match self.send_on(message, coordinates, batch, recall, buffer) {
            Ok((outcome, identity)) => {
                let identity = identity.map(|identity| (identity, time));
                batch.add(&Taken { coordinates, outcome, bytes: buffer.len(), identity });
                Ok(())
            }
            Err(SessionError::Outbox(OutboxError::Spoilt(cause))) => {
                tracing::warn!(%cause, "a batch is aborted and read again");
                batch.give_back(coordinates);
                Ok(batch.abort()?)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a hit on; tells what became of it, and who it is where a later one could be its duplicate.
    fn send_on(
        &self,
        message: &BorrowedMessage<'_>,
        coordinates: Coordinates<'_>,
        batch: &Batch,
        recall: &Recall,
        buffer: &mut Vec<u8>,
    ) -> Result<(Outcome, Option<Identity>), SessionError> {
        let now = unix_milliseconds();
        let partition = coordinates.partition;
        buffer.clear();
        let (mut identity, mut other_key) = (None, None);
        let refuse = |hit: &RawHit<'_>, visitor: Visitor| {
            other_key = visitor.key_of(hit);
            identity = Identity::of(other_key.as_deref().or(message.key()), hit.hit_id, hit.received_at);
            identity.is_some_and(|identity| batch.windows().is_duplicate(partition, &identity))
        };
        let (reason, detail) = match self.enricher.enrich_unless(message.payload(), now, buffer, refuse) {
            Ok(Enriched::Refused) => return Ok((Outcome::Duplicate, None)),
            Ok(Enriched::Erased) => return Ok((Outcome::Erased, None)),
            Ok(Enriched::Written) => {
                match batch.outbox.send(self.enriched(message, other_key.as_deref(), recall, buffer)) {
                    Ok(()) => return Ok((Outcome::Enriched, identity)),
                    Err(OutboxError::TooLarge) => {
                        (DeadReason::TooLarge, format!("the enriched hit has {} bytes", buffer.len()))
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Err(Obstacle::Dead { reason, detail }) => (reason, detail),
            Err(Obstacle::Later(error)) => return Err(SessionError::Later(error)),
        };
        let (original, key) = (message.payload(), message.key());
        let burial = Burial { original, key, coordinates, reason, detail: &detail, now };
        buffer.clear();
        self.enricher.bury(&burial, LARGEST_ORIGINAL, buffer);
        let value = Some(buffer.as_slice());
        batch.outbox.send(Outgoing { topic: &self.dead_topic, key, value, ..Outgoing::default() })?;
        batch.bury(reason, &detail, coordinates);
        Ok((Outcome::Dead(reason), None))
    }

    /// Where an enriched hit goes: to the partition where a new owner of this one will look for it, under the time of
    /// its raw hit, by which it is found there.
    fn enriched<'a>(
        &'a self,
        message: &'a BorrowedMessage<'_>,
        other_key: Option<&'a [u8]>,
        recall: &Recall,
        value: &'a [u8],
    ) -> Outgoing<'a> {
        Outgoing {
            topic: &self.enriched_topic,
            partition: recall.has_same_partitions().then(|| message.partition()),
            key: other_key.or(message.key()),
            value: Some(value),
            time: message.timestamp().to_millis(),
        }
    }

    /// Errors while reading mend themselves, mostly: the client goes on trying.
    fn note(&self, error: KafkaError) -> Result<(), SessionError> {
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Err(SessionError::Read(error));
        }
        client_errors::log("consumer", &error, "reading hits");
        Ok(())
    }
}

/// Turns back to where an aborted batch began.
fn turn_back(consumer: &BaseConsumer<Membership>, batch: &Batch) -> Result<(), SessionError> {
    if consumer.assignment_lost() {
        // They are about to be revoked, and whoever gets them starts at the last commit.
        return Ok(());
    }
    seek(consumer, batch.take_rewind().map_err(SessionError::TurnBack)?)
}

fn seek(consumer: &BaseConsumer<Membership>, offsets: TopicPartitionList) -> Result<(), SessionError> {
    let sought: TopicPartitionList = consumer.seek_partitions(offsets, TURN_BACK).map_err(SessionError::TurnBack)?;
    for element in sought.elements() {
        element.error().map_err(SessionError::TurnBack)?;
    }
    Ok(())
}

/// The name of a worker's transactions. It must be nobody else's while the worker lives, and the same after a restart,
/// which then ends at once what was left open. Both is known only of a worker whose place in the group has a name.
/// Another one takes a name of its own: what it leaves open is ended by the brokers after a while. Nothing else depends
/// on the name: that a worker commits only for its own partitions is checked by its membership (KIP-447).
fn transactional_id(options: &WorkerOptions) -> String {
    let member = options.group_instance_id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
    format!("{}{}-{member}", options.kafka.topic_prefix, options.group)
}

/// When a raw hit's message was written, Unix milliseconds.
fn time_of(message: &BorrowedMessage<'_>) -> i64 {
    let now = unix_milliseconds();
    message.timestamp().to_millis().map_or(now, |time| time.min(now))
}

/// Commits the last batch. While partitions move it takes some polls until the group listens again; what those bring is
/// left to whoever comes next.
fn finish(consumer: &BaseConsumer<Membership>, batch: &Batch) -> Result<(), SessionError> {
    let deadline = Instant::now() + LAST_COMMIT;
    while batch.commit(consumer)? == Committed::Later && Instant::now() < deadline {
        drop(consumer.poll(Duration::from_millis(50)));
    }
    Ok(())
}

/// The clock, Unix milliseconds.
#[must_use]
pub fn unix_milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

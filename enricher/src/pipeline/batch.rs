//! What was read and is not yet committed.
//!
//! A batch begins with its first hit and ends with [`Batch::commit`]. **Exactly once**, it is a transaction: enriched hits,
//! dead letters and offsets are committed together, or none of them is. **At least once**, everything that was sent is
//! acknowledged, then the offsets are committed. Both ends are here and nowhere else.
//!
//! Why no hit passes twice or not at all, as long as transactions hold what Kafka promises of them:
//!
//! 1. Offsets are committed only in the transaction that holds what was made of the hits before them, so that whoever
//!    starts from committed offsets has all before them written, and nothing behind them.
//! 2. A worker whose partitions the group gave to another one can't commit any more: the transaction is told the
//!    member and its generation (KIP-447), and the broker refuses one that has passed. What it wrote is aborted.
//! 3. A new owner is told no offsets of a partition while a transaction with offsets of it is ending: consumers here
//!    read what is committed, which asks for stable offsets too.
//!    But a client that is told to wait for them may forget that it asked, when partitions move meanwhile, and begin at the
//!    topic's front (librdkafka up to 2.12 at least, `rd_kafka_assignment_apply_offsets`): so the first message of a
//!    partition is held against what is committed ([`super::worker`]).
//! 4. An aborted batch leaves nothing behind in this process: each partition that stays is read again from where the
//!    batch began ([`Batch::take_rewind`]), hits of it are no longer known as written ([`Windows::undo`]), and they are
//!    counted as retried.
//! 5. Whether a commit succeeded is never guessed: it is tried until the brokers say, or the producer is given up. The
//!    next one of its name waits until the brokers know how it ended, and only then does this worker join the group.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::duplicates::{Identity, Remember, Windows};
use super::outbox::{Outbox, OutboxError};
use super::tally::Tally;
use crate::client_errors;
use crate::hit::{Coordinates, DeadReason};
use crate::metrics::{Metrics, Outcome};

/// The longest wait for a hit, after which it is looked whether there is something else to do.
const LONGEST_PATIENCE: Duration = Duration::from_millis(200);

/// When a batch is cut.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Hits.
    pub hits: usize,
    /// Bytes of enriched hits.
    pub bytes: usize,
    /// Time since its first hit.
    pub delay: Duration,
}

/// Why a batch was not committed.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Its messages did not get out.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The group did not take its offsets.
    #[error("cannot commit offsets: {0}; the hits are read again")]
    Commit(KafkaError),
    /// There is no group to commit for.
    #[error("the consumer has no group")]
    NoGroup,
}

/// Whether offsets are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// They are.
    Now,
    /// With the next batch: partitions are moving, or brokers are starting.
    Later,
    /// Nothing of the batch is: its hits are read again, see [`Batch::take_rewind`].
    Aborted,
}

/// A hit that was sent on, or dropped.
#[derive(Debug)]
pub struct Taken<'a> {
    /// Where it was read.
    pub coordinates: Coordinates<'a>,
    /// What became of it.
    pub outcome: Outcome,
    /// What was sent, bytes.
    pub bytes: usize,
    /// Who it is, where a later one could be its duplicate, and the time of its message, Unix milliseconds.
    pub identity: Option<(Identity, i64)>,
}

#[derive(Debug, Default)]
struct Progress {
    began: Option<Instant>,
    hits: usize,
    bytes: usize,
    /// Where each partition goes on.
    next: BTreeMap<i32, i64>,
    /// Where each partition began.
    first: BTreeMap<i32, i64>,
}

/// The batch of one worker.
#[derive(Debug)]
pub struct Batch {
    /// Where its messages go.
    pub outbox: Outbox,
    topic: String,
    limits: Limits,
    metrics: Metrics,
    progress: Mutex<Progress>,
    tally: Mutex<Tally>,
    windows: Mutex<Windows>,
    /// Where partitions must be read again.
    rewind: Mutex<BTreeMap<i32, i64>>,
    /// The partitions of this worker, and behind which offset each goes on after what is committed. That is not known before
    /// the first hit of a partition, which is held against what the group committed.
    positions: Mutex<BTreeMap<i32, Option<i64>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Batch {
    /// An empty batch of hits of `topic`.
    #[must_use]
    pub fn new(outbox: Outbox, topic: String, limits: Limits, remember: Remember, metrics: Metrics) -> Self {
        let windows = Mutex::new(Windows::new(remember, &metrics));
        let tally = Mutex::new(Tally::new(metrics.clone()));
        Self {
            outbox,
            topic,
            limits,
            metrics,
            progress: Mutex::default(),
            tally,
            windows,
            rewind: Mutex::default(),
            positions: Mutex::default(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        locked(&self.progress)
    }

    /// What is known of hits that were written before.
    pub fn windows(&self) -> MutexGuard<'_, Windows> {
        locked(&self.windows)
    }

    /// Says that a hit was read. It counts as retried unless the batch says otherwise in the end.
    pub fn receive(&self) {
        locked(&self.tally).receive();
    }

    /// Says that a hit was sent on, or dropped.
    pub fn add(&self, taken: &Taken<'_>) {
        let Coordinates { partition, offset, .. } = taken.coordinates;
        let mut progress = self.progress();
        progress.began.get_or_insert_with(Instant::now);
        progress.hits += 1;
        progress.bytes += taken.bytes;
        progress.first.entry(partition).or_insert(offset);
        progress.next.insert(partition, offset + 1);
        locked(&self.tally).decide(taken.outcome);
        if let Some((identity, time)) = taken.identity {
            self.windows().add(partition, identity, time);
        }
    }

    /// Says why a hit goes to hits.dead.
    pub fn bury(&self, reason: DeadReason, detail: &str, coordinates: Coordinates<'_>) {
        locked(&self.tally).bury(reason, detail, coordinates);
    }

    /// Says that a hit was read and could not be sent on: when the batch is aborted, this one is read again too.
    pub fn give_back(&self, coordinates: Coordinates<'_>) {
        self.progress().first.entry(coordinates.partition).or_insert(coordinates.offset);
    }

    /// True where it is time to commit.
    #[must_use]
    pub fn is_due(&self) -> bool {
        let progress = self.progress();
        progress.hits >= self.limits.hits
            || progress.bytes >= self.limits.bytes
            || progress.began.is_some_and(|began| began.elapsed() >= self.limits.delay)
    }

    /// How long to wait for the next hit: until the batch is due, and never so long that a shutdown would not be seen.
    #[must_use]
    pub fn patience(&self) -> Duration {
        let passed = self.progress().began.map_or(Duration::ZERO, |began| began.elapsed());
        let left = self.limits.delay.saturating_sub(passed).min(LONGEST_PATIENCE);
        // The client turns in circles for what is left of a millisecond.
        Duration::from_millis(left.as_millis() as u64 + 1)
    }

    /// True where a partition is known to be read from where the group committed.
    #[must_use]
    pub fn has_begun(&self, partition: i32) -> bool {
        locked(&self.positions).get(&partition).is_some_and(Option::is_some)
    }

    /// Says that a partition is read from where the group committed, and where that is.
    pub fn begin(&self, partition: i32, offset: i64) {
        locked(&self.positions).insert(partition, Some(offset));
    }

    /// Says that this worker has more partitions now.
    pub fn hold(&self, partitions: &TopicPartitionList) {
        let mut positions = locked(&self.positions);
        for element in partitions.elements() {
            positions.entry(element.partition()).or_default();
        }
    }

    /// How many hits of a partition, which ends at `end`, are not committed; nothing where that is not this worker's. The
    /// client does not know it: it is not told of the offsets that a producer commits. `next` is what it reads next, which
    /// counts before it was given a hit.
    #[must_use]
    pub fn lag(&self, partition: i32, next: i64, end: i64) -> Option<i64> {
        let position = locked(&self.positions).get(&partition)?.unwrap_or(next);
        // Below zero: not known yet.
        (position >= 0 && end >= 0).then(|| (end - position).max(0))
    }

    /// Ends the batch: commits all that was sent, and its offsets.
    ///
    /// # Errors
    /// Where that can't be done with this producer and this consumer; the batch is to be abandoned then.
    pub fn commit<C: ConsumerContext>(&self, consumer: &impl Consumer<C>) -> Result<Committed, BatchError> {
        let offsets = self.offsets().map_err(BatchError::Commit)?;
        if offsets.count() == 0 {
            // Its partitions may all be gone: then nothing is due any more.
            self.progress().began = None;
            return Ok(Committed::Now);
        }
        if self.outbox.is_transactional() {
            self.commit_transaction(consumer, &offsets)
        } else {
            self.commit_offsets(consumer, &offsets)
        }
    }

    fn commit_transaction<C: ConsumerContext>(
        &self,
        consumer: &impl Consumer<C>,
        offsets: &TopicPartitionList,
    ) -> Result<Committed, BatchError> {
        let member = consumer.group_metadata().ok_or(BatchError::NoGroup)?;
        // Asked once the membership is read: that of a consumer that lost its place names no member and no generation,
        // and brokers take offsets with such a one from anybody.
        if consumer.assignment_lost() {
            tracing::warn!("the group has given this worker up; a batch is aborted and read again");
            self.abort()?;
            return Ok(Committed::Aborted);
        }
        match self.outbox.commit(offsets, &member) {
            Ok(()) => {
                locked(&self.tally).settle();
                self.windows().keep();
                self.end();
                Ok(Committed::Now)
            }
            Err(OutboxError::Spoilt(cause)) => {
                tracing::warn!(%cause, "a batch is aborted and read again");
                self.abort()?;
                Ok(Committed::Aborted)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Aborts the transaction of the batch, whose partitions are to be read again.
    ///
    /// # Errors
    /// Where the producer is of no more use.
    pub fn abort(&self) -> Result<(), BatchError> {
        if self.outbox.is_open() {
            self.metrics.aborts.inc();
        }
        self.windows().undo();
        let first = std::mem::take(&mut self.progress().first);
        locked(&self.rewind).extend(first);
        self.abandon();
        Ok(self.outbox.abort()?)
    }

    /// True where partitions are to be read again since a batch was aborted.
    #[must_use]
    pub fn must_turn_back(&self) -> bool {
        !locked(&self.rewind).is_empty()
    }

    /// Where partitions are to be read again since a batch was aborted.
    ///
    /// # Errors
    /// Where the client refuses an offset.
    pub fn take_rewind(&self) -> Result<TopicPartitionList, KafkaError> {
        self.listed(&std::mem::take(&mut *locked(&self.rewind)))
    }

    fn commit_offsets<C: ConsumerContext>(
        &self,
        consumer: &impl Consumer<C>,
        offsets: &TopicPartitionList,
    ) -> Result<Committed, BatchError> {
        self.outbox.settle()?;
        // What is acknowledged is written, whatever becomes of the offsets.
        locked(&self.tally).settle();
        self.windows().keep();
        match consumer.commit(offsets, CommitMode::Sync) {
            Ok(()) => {
                self.end();
                Ok(Committed::Now)
            }
            // While partitions move, members that keep theirs are told to come again, as all are while brokers start. A
            // member that was thrown out is told so by losing its partitions, not here.
            Err(error) if client_errors::passes(&error) => {
                tracing::debug!(%error, "offsets are committed with the next batch");
                let mut progress = self.progress();
                (progress.hits, progress.bytes, progress.began) = (0, 0, Some(Instant::now()));
                Ok(Committed::Later)
            }
            Err(error) => Err(BatchError::Commit(error)),
        }
    }

    fn offsets(&self) -> Result<TopicPartitionList, KafkaError> {
        self.listed(&self.progress().next)
    }

    fn listed(&self, offsets: &BTreeMap<i32, i64>) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))?;
        }
        Ok(list)
    }

    fn end(&self) {
        let progress = std::mem::take(&mut *self.progress());
        let mut positions = locked(&self.positions);
        for (partition, next) in progress.next {
            positions.insert(partition, Some(next));
        }
        if let Some(began) = progress.began {
            self.metrics.batch_duration.observe(began.elapsed().as_secs_f64());
        }
    }

    /// Forgets the offsets of partitions that another worker has now.
    pub fn forget(&self, partitions: &TopicPartitionList) {
        let mut progress = self.progress();
        for element in partitions.elements() {
            progress.next.remove(&element.partition());
            progress.first.remove(&element.partition());
            locked(&self.rewind).remove(&element.partition());
            locked(&self.positions).remove(&element.partition());
            self.windows().forget(element.partition());
        }
    }

    /// Forgets the batch, whose hits are read again.
    pub fn abandon(&self) {
        *self.progress() = Progress::default();
        locked(&self.tally).give_up();
    }
}

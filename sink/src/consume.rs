//! Reads the topic as a member of a consumer group: the thread that polls, and what the group tells it.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::statistics::{Partition, Statistics};
use rdkafka::topic_partition_list::{Offset, TopicPartitionListElem};
use rdkafka::{ClientContext, Message as _, TopicPartitionList};
use service::health::Health;
use service::kafka::dropped;
use tokio_util::sync::CancellationToken;

use crate::batch::Message;
use crate::board::{Assigned, Board};
use crate::dead_letters::Graveyard;
use crate::error::SinkError;
use crate::fault::Fault;
use crate::intents;
use crate::load::CLICKHOUSE;
use crate::metrics::Metrics;
use crate::options::RunOptions;
use crate::store::Store;

/// The condition of readiness that the group decides.
pub const KAFKA: &str = "kafka";

/// How long a poll waits for a message; how late at most a batch is cut, and an offset committed.
const POLL: Duration = Duration::from_millis(10);
/// How long a rebalance waits for what was read to be stored. The group waits with it.
const RELEASE: Duration = Duration::from_secs(10);
/// How long the broker has to tell what is committed, until it is asked again.
const ASK: Duration = Duration::from_secs(10);
/// The time in between, where it answers with an error.
const PAUSE: Duration = Duration::from_millis(200);
/// Offsets of a gap that markers of transactions may leave.
const SMALL: i64 = 1_000;
/// So often is asked, at most, about a gap of so few.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Settings of the consumer.
#[must_use]
pub fn consumer_settings(options: &RunOptions) -> ClientConfig {
    let mut config = options.kafka.client(
        "sink",
        &[
            ("group.id", &options.loading.group),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            // What librdkafka reads ahead is part of the memory that the sink takes.
            ("queued.max.messages.kbytes", "32768"),
            // It waits a second by default when it has read far enough ahead, which leaves the sink idle.
            ("fetch.queue.backoff.ms", "20"),
            // A partition that is read again waits for the fetch of the others to return, which takes so long at most.
            ("fetch.wait.max.ms", "100"),
            // Each fetch costs client and broker the same whatever is in it, and a batch has time.
            ("fetch.min.bytes", "1048576"),
            ("statistics.interval.ms", "2000"),
        ],
    );
    if let Some(name) = &options.loading.group_instance_id {
        config.set("group.instance.id", name);
    }
    config
}

/// What the group tells, and what librdkafka tells of itself.
pub struct Group<S, G> {
    board: Mutex<Board<S, G>>,
    metrics: Arc<Metrics>,
    health: Health,
    topic: String,
    /// The brokers say that there is no such topic.
    is_missing: AtomicBool,
    /// When they were asked last where a partition begins.
    asked_at: Mutex<Option<Instant>>,
    shutdown: CancellationToken,
}

/// Why a question has no answer.
enum NoAnswer {
    /// Not yet, which is this condition's, for this reason.
    Now(&'static str, String),
    /// Not before somebody changes something.
    Ever(SinkError),
}

impl From<KafkaError> for NoAnswer {
    fn from(error: KafkaError) -> Self {
        Self::Now(KAFKA, error.to_string())
    }
}

impl From<Fault> for NoAnswer {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Halt(code, message) => Self::Ever(SinkError::Halt { code, message }),
            other => Self::Now(CLICKHOUSE, other.message().to_owned()),
        }
    }
}

impl<S: Store, G: Graveyard> Group<S, G> {
    /// A group that has told nothing yet.
    #[must_use]
    pub fn new(
        board: Board<S, G>,
        metrics: Arc<Metrics>,
        health: Health,
        topic: String,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            board: Mutex::new(board),
            metrics,
            health,
            topic,
            is_missing: AtomicBool::default(),
            asked_at: Mutex::default(),
            shutdown,
        }
    }

    /// What the last owners of these partitions left. None where that is not known and no longer matters.
    fn left_by_the_last_owner(
        &self,
        consumer: &BaseConsumer<Self>,
        numbers: &[i32],
    ) -> Result<Option<Vec<Assigned>>, SinkError> {
        self.insist(consumer, || {
            let assigned = self.committed(consumer, numbers)?;
            let new = assigned.iter().filter(|assigned| assigned.offset.is_none());
            new.map(|assigned| assigned.partition).try_for_each(|partition| self.expect_new(consumer, partition))?;
            Ok(assigned)
        })
    }

    /// Asks until there is an answer. None where that no longer matters.
    fn insist<T>(
        &self,
        consumer: &BaseConsumer<Self>,
        question: impl Fn() -> Result<T, NoAnswer>,
    ) -> Result<Option<T>, SinkError> {
        while !self.shutdown.is_cancelled() && !consumer.assignment_lost() {
            match question() {
                Ok(answer) => return Ok(Some(answer)),
                Err(NoAnswer::Ever(error)) => return Err(error),
                Err(NoAnswer::Now(condition, said)) => {
                    tracing::warn!(said, "where to begin is not known, asking again");
                    self.health.unmet(condition, format!("where to begin is not known: {said}"));
                    std::thread::sleep(PAUSE);
                }
            }
        }
        Ok(None)
    }

    fn committed(&self, consumer: &BaseConsumer<Self>, numbers: &[i32]) -> Result<Vec<Assigned>, NoAnswer> {
        let mut asked = TopicPartitionList::new();
        for number in numbers {
            asked.add_partition(&self.topic, *number);
        }
        let told = consumer.committed_offsets(asked, ASK)?;
        told.elements().iter().try_for_each(|each| each.error())?;
        told.elements().iter().map(assigned).collect::<Result<_, _>>().map_err(NoAnswer::Ever)
    }

    /// A partition of which nothing is committed is new, or forgotten: Kafka forgets with a topic that is deleted, and days
    /// after the last member has gone.
    fn expect_new(&self, consumer: &BaseConsumer<Self>, partition: i32) -> Result<(), NoAnswer> {
        let (beginning, _) = consumer.fetch_watermarks(&self.topic, partition, ASK)?;
        match self.board().last_stored(partition, beginning)? {
            Some(last) => Err(NoAnswer::Ever(SinkError::Forgotten { topic: self.topic.clone(), partition, last })),
            None => Ok(()),
        }
    }

    /// Only the polling thread takes it, and never while it polls: the group's calls come from inside of a poll.
    fn board(&self) -> MutexGuard<'_, Board<S, G>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn numbers(partitions: &TopicPartitionList) -> Vec<i32> {
        partitions.elements().iter().map(TopicPartitionListElem::partition).collect()
    }
}

fn assigned(told: &TopicPartitionListElem<'_>) -> Result<Assigned, SinkError> {
    let offset = match told.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    Ok(Assigned { partition: told.partition(), offset, listed: intents::read(told.metadata())? })
}

impl<S: Store, G: Graveyard> ClientContext for Group<S, G> {
    fn stats(&self, statistics: Statistics) {
        let is_reachable = statistics.brokers.values().any(|broker| broker.state == "UP");
        let join_state = statistics.cgrp.as_ref().map_or("none", |group| group.join_state.as_str());
        match (is_reachable, join_state) {
            (false, _) => self.health.unmet(KAFKA, "no broker is reachable"),
            _ if self.is_missing.load(Ordering::Relaxed) => self.tell_missing(),
            (true, "steady") => self.health.met(KAFKA),
            (true, state) => self.health.unmet(KAFKA, format!("joining the group ({state})")),
        }
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        let board = self.board();
        for partition in topic.partitions.values().filter(|partition| board.has(partition.partition)) {
            if let Some(messages) = lag(partition) {
                self.metrics.set_lag(partition.partition, messages);
            }
        }
    }
}

/// Messages of a partition that are not done with. librdkafka tells it once something is committed; before, all that the
/// partition holds are.
fn lag(partition: &Partition) -> Option<i64> {
    let all = || (partition.hi_offset >= 0).then(|| partition.hi_offset - partition.lo_offset.max(0));
    if partition.consumer_lag >= 0 { Some(partition.consumer_lag) } else { all() }
}

impl<S: Store, G: Graveyard> ConsumerContext for Group<S, G> {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                let numbers = Self::numbers(partitions);
                tracing::info!(partitions = ?numbers, "assigned");
                self.is_missing.store(false, Ordering::Relaxed);
                if numbers.is_empty() {
                    return;
                }
                // Nothing is read before it is known which ranges have to be made again.
                match self.left_by_the_last_owner(consumer, &numbers) {
                    Ok(Some(assigned)) => {
                        self.board().assign(assigned);
                        self.health.met(KAFKA);
                    }
                    Ok(None) => {}
                    Err(error) => self.board().fail(error),
                }
            }
            Rebalance::Revoke(partitions) => {
                let numbers = Self::numbers(partitions);
                let is_lost = consumer.assignment_lost();
                tracing::info!(partitions = ?numbers, is_lost, "revoked");
                let paused = self.board().paused_among(&numbers);
                if is_lost {
                    self.board().forget(&numbers);
                } else {
                    self.board().release(consumer, &numbers, Instant::now() + RELEASE);
                }
                // librdkafka keeps a pause beyond the assignment: the partition would come back as one that is never read.
                if paused.count() > 0
                    && let Err(error) = consumer.resume(&paused)
                {
                    tracing::warn!(%error, "partitions could not be resumed");
                }
            }
            Rebalance::Error(error) => tracing::warn!(%error, "rebalance failed"),
        }
    }
}

/// Reads until told to stop, or until not all directives are known, then drains: all that was read is stored and committed, as
/// far as that can be done within `drain`. Blocks its thread.
///
/// # Errors
/// Where the group can't be used, or nothing can be stored until somebody changes something.
pub fn consume<S: Store, G: Graveyard>(
    config: &ClientConfig,
    group: Group<S, G>,
    drain: Duration,
    shutdown: &CancellationToken,
) -> Result<(), SinkError> {
    let topic = group.topic.clone();
    let consumer: BaseConsumer<Group<S, G>> = config.create_with_context(group)?;
    consumer.subscribe(&[&topic])?;
    let polled = poll_until(&consumer, shutdown);
    let group = consumer.context();
    group.health.unmet(KAFKA, "leaving the group");
    let mut board = group.board();
    if polled.is_ok() {
        board.drain(&consumer, Instant::now() + drain);
    }
    let failure = board.take_failure();
    // Also after a failure: what is on its way is given up, and leaving the group finds nothing to wait for.
    board.forget_all();
    drop(board);
    failure.map_or(polled, Err)
}

fn poll_until<S: Store, G: Graveyard>(
    consumer: &BaseConsumer<Group<S, G>>,
    shutdown: &CancellationToken,
) -> Result<(), SinkError> {
    let group = consumer.context();
    let mut next_tick = Instant::now();
    while !shutdown.is_cancelled() && group.board().knows_all_directives() {
        let polled = consumer.poll(POLL);
        let now = Instant::now();
        let is_due = match polled {
            Some(Ok(message)) => group.take(consumer, &message, now),
            Some(Err(error)) => {
                group.note(error)?;
                true
            }
            None => true,
        };
        if is_due || now >= next_tick {
            group.tick(consumer, now);
            next_tick = now + POLL;
            if group.board().has_failed() {
                return Ok(());
            }
        }
    }
    Ok(())
}

impl<S: Store, G: Graveyard> Group<S, G> {
    /// Most errors of a consumer pass by themselves.
    fn note(&self, error: KafkaError) -> Result<(), SinkError> {
        match error {
            KafkaError::MessageConsumptionFatal(_)
            | KafkaError::MessageConsumption(
                RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed,
            ) => Err(SinkError::Kafka(error)),
            KafkaError::MessageConsumption(RDKafkaErrorCode::UnknownTopicOrPartition) => {
                tracing::error!(topic = self.topic, "the topic does not exist, there is nothing to be read");
                self.is_missing.store(true, Ordering::Relaxed);
                self.tell_missing();
                Ok(())
            }
            other => {
                tracing::warn!(error = %other, "reading is disturbed");
                Ok(())
            }
        }
    }

    fn tell_missing(&self) {
        let topic = &self.topic;
        self.health.unmet(KAFKA, format!("topic {topic} does not exist; create it, or start again, which does"));
    }

    fn take(&self, consumer: &BaseConsumer<Self>, message: &BorrowedMessage<'_>, now: Instant) -> bool {
        let (partition, mut board) = (message.partition(), self.board());
        let taken =
            Message { offset: message.offset(), key: message.key().unwrap_or_default(), value: message.payload() };
        let is_due = board.take(partition, taken, now);
        if let Some(passed) = board.take_passed_over().filter(|passed| self.may_be_expired(passed)) {
            self.count_expired(consumer, partition, &passed);
        }
        is_due
    }

    /// Transactions of several enrichers that end side by side leave small gaps all the time, and to ask takes time in which nothing
    /// is read. What a topic drops is long, but for tests.
    fn may_be_expired(&self, passed: &Range<i64>) -> bool {
        let mut asked_at = self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = passed.end - passed.start > SMALL || asked_at.is_none_or(|at| at.elapsed() > ASK_AGAIN);
        if is_due {
            *asked_at = Some(Instant::now());
        }
        is_due
    }

    fn count_expired(&self, consumer: &BaseConsumer<Self>, partition: i32, passed: &Range<i64>) {
        match dropped(consumer, (&self.topic, partition), passed, ASK) {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => {
                self.metrics.expired.inc_by((gone.end - gone.start).unsigned_abs());
                tracing::error!(
                    partition,
                    first = gone.start,
                    last = gone.end - 1,
                    "the topic dropped these offsets before they were read: their hits are lost, as the sink stood still for \
                     longer than messages are kept"
                );
            }
            Err(error) => {
                let (first, next) = (passed.start, passed.end);
                tracing::warn!(%error, partition, first, next, "whether these offsets are still in the topic is not known");
            }
        }
    }

    fn tick(&self, consumer: &BaseConsumer<Self>, now: Instant) {
        self.board().tick(consumer, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_commit_all_that_the_partition_holds_is_left() {
        let told = |consumer_lag, lo_offset, hi_offset| {
            lag(&Partition { consumer_lag, lo_offset, hi_offset, ..Partition::default() })
        };
        assert_eq!(told(7, 100, 200), Some(7));
        assert_eq!(told(-1, 100, 200), Some(100));
        // -1001 stands for what is not known.
        assert_eq!(told(-1, -1001, 200), Some(200));
        assert_eq!(told(-1, -1001, -1001), None);
    }
}

//! Reading back from hits.enriched what the last owner of a partition wrote, to know duplicates of it.
//!
//! The group's offsets are given out once their transaction has ended, but the mark of that end may reach hits.enriched
//! later than it reached the offsets. Whoever read just what is committed by now could miss the batch right before its
//! first hit. So the end of the partition is asked for as it is with open transactions; then it is waited for that no
//! transaction before that end is open any more; and then everything up to there is read, as far as it is committed.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::WireError;
use service::options::KafkaOptions;
use tokio_util::sync::CancellationToken;

use super::duplicates::{Identity, Remember};
use super::worker::unix_milliseconds;
use crate::client_errors;
use crate::hit::{Enricher, without_quotes};

/// How long a broker may take to answer one question.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two attempts to read back.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(200);
/// How long reading back may take. A dead worker's transaction may be open for most of it, see
/// [`super::outbox::TRANSACTION_TIMEOUT_MS`].
const PATIENCE: Duration = Duration::from_secs(90);

/// Why it is not known what was written before.
#[derive(Debug, thiserror::Error)]
pub enum RecallError {
    /// The brokers do not answer, or refuse.
    #[error("cannot read back {topic}: {cause}; are the brokers up, and may this user read the topic?")]
    Kafka {
        /// Which.
        topic: String,
        /// What the client says.
        cause: KafkaError,
    },
    /// It took too long.
    #[error("could not read back partition {partition} of {topic} in {PATIENCE:?}; is a transaction open there?")]
    TooSlow {
        /// Which.
        topic: String,
        /// Its partition.
        partition: i32,
    },
    /// The topic that is read has more partitions than it had.
    #[error("partition {partition} was added while it ran; it looks at the topics afresh")]
    PartitionAdded {
        /// Which.
        partition: i32,
    },
    /// A hit can't be read now.
    #[error("cannot read back a hit: {0}")]
    Later(WireError),
    /// The enricher is shutting down.
    #[error("shutting down while hits are read back")]
    ShuttingDown,
}

/// Reads one worker's output back.
pub struct Recall {
    /// Reads what is committed.
    committed: BaseConsumer,
    /// Sees what is not.
    all: BaseConsumer,
    topic: String,
    partitions: Vec<i32>,
    /// True where a hit of partition n of hits.raw is in partition n of this topic.
    same_partition: bool,
    shutdown: CancellationToken,
}

impl std::fmt::Debug for Recall {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Recall").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// From when on something is read back.
#[derive(Debug, Clone, Copy)]
struct Since {
    time: i64,
    /// Of each partition, not more than about so many.
    hits: usize,
}

impl Recall {
    /// A reader of `written`, whose hits come from the topic `read`.
    ///
    /// # Errors
    /// Where the brokers do not answer.
    pub fn open(
        kafka: &KafkaOptions,
        read: &str,
        written: &str,
        shutdown: CancellationToken,
    ) -> Result<Self, RecallError> {
        let failed = |cause| RecallError::Kafka { topic: written.to_owned(), cause };
        let defaults = [
            // The client wants a name although no group is ever joined.
            ("group.id", "enricher-recall"),
            ("enable.auto.commit", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("queued.max.messages.kbytes", "4096"),
            ("fetch.wait.max.ms", "20"),
        ];
        let committed: BaseConsumer = kafka.client("enricher-recall", &defaults).create().map_err(failed)?;
        let mut all = kafka.client("enricher-recall", &defaults);
        let all: BaseConsumer = all.set("isolation.level", "read_uncommitted").create().map_err(failed)?;
        let partitions_of = |topic: &str| -> Result<Vec<i32>, RecallError> {
            let metadata = all.fetch_metadata(Some(topic), ANSWER).map_err(failed)?;
            let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
            Ok(partitions.iter().map(|partition| partition.id()).collect())
        };
        let (partitions, from) = (partitions_of(written)?, partitions_of(read)?);
        if partitions.is_empty() {
            return Err(failed(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)));
        }
        let same_partition = partitions.len() == from.len();
        if !same_partition {
            let (read_partitions, written_partitions) = (from.len(), partitions.len());
            tracing::warn!(
                read_partitions,
                written_partitions,
                "topics have different numbers of partitions: duplicates are looked for in all of {written}, which is slow"
            );
        }
        Ok(Self { committed, all, topic: written.to_owned(), partitions, same_partition, shutdown })
    }

    /// Holds that a partition of hits.raw was there when its number of partitions was looked at: where hits keep their
    /// partitions, one that came later may have none to be written to.
    ///
    /// # Errors
    /// Where it was not.
    pub fn expect(&self, partition: i32) -> Result<(), RecallError> {
        let is_known = !self.same_partition || usize::try_from(partition).is_ok_and(|id| id < self.partitions.len());
        if is_known { Ok(()) } else { Err(RecallError::PartitionAdded { partition }) }
    }

    /// True where a hit of partition n of hits.raw is to be written to partition n.
    #[must_use]
    pub fn has_same_partitions(&self) -> bool {
        self.same_partition
    }

    /// The hits that were written from a partition, in their order, and when their messages in hits.raw were; as far as
    /// they may have duplicates among messages that are not older than `time`, Unix milliseconds.
    ///
    /// # Errors
    /// Where they can't be read now.
    pub fn hits(
        &self,
        enricher: &Enricher,
        partition: i32,
        time: i64,
        remember: &Remember,
    ) -> Result<Vec<(Identity, i64)>, RecallError> {
        // Offsets count the ends of transactions too: one for each hit at worst.
        let since = Since {
            time: time.min(unix_milliseconds()).saturating_sub(remember.milliseconds()).max(0),
            hits: remember.hits.saturating_mul(2),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Brokers that restart refuse for a while in many ways. Whoever gave up would lose its place in the group.
            match self.all_hits(enricher, partition, since, deadline) {
                Err(RecallError::Kafka { cause, .. }) if Instant::now() < deadline => {
                    tracing::debug!(partition, %cause, "reading back again");
                    std::thread::sleep(BETWEEN_ATTEMPTS);
                }
                result => return result,
            }
            self.go_on(partition, deadline)?;
        }
    }

    fn all_hits(
        &self,
        enricher: &Enricher,
        partition: i32,
        since: Since,
        deadline: Instant,
    ) -> Result<Vec<(Identity, i64)>, RecallError> {
        let mut hits = Vec::new();
        let own = [partition];
        for partition in if self.same_partition { &own[..] } else { &self.partitions } {
            self.read(enricher, *partition, since, deadline, &mut hits)?;
        }
        tracing::debug!(partition, hits = hits.len(), "hits read back, to know their duplicates");
        Ok(hits)
    }

    fn read(
        &self,
        enricher: &Enricher,
        partition: i32,
        since: Since,
        deadline: Instant,
        hits: &mut Vec<(Identity, i64)>,
    ) -> Result<(), RecallError> {
        self.wait_for_transactions(partition, deadline)?;
        let Some(start) = self.start(partition, since)? else { return Ok(()) };
        self.assign(Some((partition, start)))?;
        loop {
            self.go_on(partition, deadline)?;
            match self.committed.poll(Duration::from_millis(100)) {
                None => {}
                Some(Ok(message)) => hits.extend(identity(enricher, &message).map_err(RecallError::Later)?),
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) if client_errors::passes(&error) => {}
                Some(Err(cause)) => return Err(self.failed(cause)),
            }
        }
        self.assign(None)
    }

    /// Waits until nothing is open of what is in the partition now.
    fn wait_for_transactions(&self, partition: i32, deadline: Instant) -> Result<(), RecallError> {
        let end = |consumer: &BaseConsumer| {
            let watermarks = consumer.fetch_watermarks(&self.topic, partition, ANSWER);
            watermarks.map(|(_, end)| end).map_err(|cause| self.failed(cause))
        };
        let all = end(&self.all)?;
        while end(&self.committed)? < all {
            self.go_on(partition, deadline)?;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The first offset to read, if there is any.
    fn start(&self, partition: i32, since: Since) -> Result<Option<i64>, RecallError> {
        let mut times = TopicPartitionList::new();
        let failed = |cause| self.failed(cause);
        times.add_partition_offset(&self.topic, partition, Offset::Offset(since.time)).map_err(failed)?;
        let found = self.committed.offsets_for_times(times, ANSWER).map_err(failed)?;
        let element = found.elements_for_topic(&self.topic).into_iter().next();
        let Some(Offset::Offset(first)) = element.map(|element| element.offset()) else { return Ok(None) };
        let (_, end) = self.committed.fetch_watermarks(&self.topic, partition, ANSWER).map_err(failed)?;
        Ok(Some(first.max(end.saturating_sub(i64::try_from(since.hits).unwrap_or(i64::MAX)))))
    }

    fn assign(&self, from: Option<(i32, i64)>) -> Result<(), RecallError> {
        let mut assignment = TopicPartitionList::new();
        if let Some((partition, offset)) = from {
            let added = assignment.add_partition_offset(&self.topic, partition, Offset::Offset(offset));
            added.map_err(|cause| self.failed(cause))?;
        }
        self.committed.assign(&assignment).map_err(|cause| self.failed(cause))
    }

    fn go_on(&self, partition: i32, deadline: Instant) -> Result<(), RecallError> {
        if self.shutdown.is_cancelled() {
            return Err(RecallError::ShuttingDown);
        }
        if Instant::now() > deadline {
            return Err(RecallError::TooSlow { topic: self.topic.clone(), partition });
        }
        Ok(())
    }

    fn failed(&self, cause: KafkaError) -> RecallError {
        RecallError::Kafka { topic: self.topic.clone(), cause }
    }
}

/// Who a written hit is, and when its message in hits.raw was. One that this version can't read is passed over: the
/// sink will say so, and all that is lost is that a duplicate of it would pass.
fn identity(enricher: &Enricher, message: &impl Message) -> Result<Option<(Identity, i64)>, WireError> {
    let (hit_id, received_at) = match enricher.recognise(message.payload().unwrap_or_default()) {
        Ok(found) => found,
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => {
            let error = without_quotes(&error);
            tracing::warn!(offset = message.offset(), error, "a written hit can't be read back");
            return Ok(None);
        }
    };
    let read_at = message.timestamp().to_millis().unwrap_or(received_at).min(unix_milliseconds());
    Ok(Identity::of(message.key(), hit_id, received_at).map(|identity| (identity, read_at)))
}

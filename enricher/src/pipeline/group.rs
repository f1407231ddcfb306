//! What a worker's consumer is told by its group.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::statistics::Statistics;
use rdkafka::{ClientContext, TopicPartitionList};
use service::health::Health;

use super::batch::{Batch, BatchError, Committed};
use crate::client_errors;
use crate::metrics::Metrics;

/// Name of the condition that workers have their place in the group.
pub const WORKERS: &str = "workers";

/// What the callbacks of a consumer need.
#[derive(Debug)]
pub struct Membership {
    /// The worker's batch, which is committed before partitions go to another worker.
    pub batch: Arc<Batch>,
    /// Where lag is shown.
    pub metrics: Metrics,
    /// Where it is shown that the worker has its place.
    pub health: Health,
    /// Why the last commit in a callback failed, for the worker to find.
    pub failure: Mutex<Option<BatchError>>,
}

impl Membership {
    /// What failed in a callback since it was last asked.
    #[must_use]
    pub fn take_failure(&self) -> Option<BatchError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fail(&self, error: BatchError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn forget_lag(&self, partitions: &TopicPartitionList) {
        for element in partitions.elements() {
            // It shows nothing where it never showed anything.
            let _ = self.metrics.lag.remove_label_values(&[&element.partition().to_string()]);
        }
    }
}

impl ClientContext for Membership {
    fn error(&self, error: KafkaError, reason: &str) {
        client_errors::log("consumer", &error, reason);
    }

    fn stats(&self, statistics: Statistics) {
        for topic in statistics.topics.values() {
            for partition in topic.partitions.values() {
                let number = partition.partition;
                if let Some(lag) = self.batch.lag(number, partition.next_offset, partition.ls_offset) {
                    self.metrics.lag.with_label_values(&[&number.to_string()]).set(lag);
                }
            }
        }
    }
}

impl ConsumerContext for Membership {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(partitions) = rebalance else { return };
        tracing::info!(partitions = partitions.count(), "giving up partitions");
        // Who gets them starts where this worker committed.
        let ended = if consumer.assignment_lost() {
            tracing::warn!("partitions were taken before their hits were committed; they are read again");
            self.batch.abort().map(|()| Committed::Aborted)
        } else {
            self.batch.commit(consumer)
        };
        match ended {
            Ok(Committed::Now | Committed::Aborted) => {}
            Ok(Committed::Later) => tracing::warn!("partitions go before their hits are committed"),
            Err(error) => {
                self.batch.abandon();
                self.fail(error);
            }
        }
        self.batch.forget(partitions);
        self.forget_lag(partitions);
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                tracing::info!(partitions = partitions.count(), "partitions assigned");
                self.batch.hold(partitions);
                self.health.met(WORKERS);
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "the group could not agree on partitions"),
        }
    }
}

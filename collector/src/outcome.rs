//! What became of a hit: exactly one outcome each.
//!
//! A hit is [`Received`] once it is told apart in a request. Whoever holds it says what became of it; a hit that is let
//! go of unsaid, because its client hung up while it waited, is counted as abandoned. What becomes of a pixel is waited for
//! all the same. So received = sum of outcomes.

use std::sync::Arc;

use crate::metrics::Metrics;
use crate::publisher::{Durable, PublishError};

/// All that can become of a hit here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Durable in Kafka.
    Accepted,
    /// Durable in the spool, from where it goes to Kafka.
    Spooled,
    /// Not wanted by the site, since the person objects.
    DroppedObjection,
    /// Names a site that is not configured.
    DroppedUnknownSite,
    /// Names a site of another region.
    DroppedRegion,
    /// Names no site.
    DroppedNoSite,
    /// Sent by a script of an origin that is not the site's.
    DroppedOrigin,
    /// Beyond the most hits of one body.
    DroppedBatchTooLarge,
    /// Meant as a hit but not readable; the raw bytes are durable in hits.dead.
    DeadLettered,
    /// Kafka did not acknowledge it in time: 503.
    FailedBroker,
    /// Too much waits for Kafka already: 503.
    FailedQueueFull,
    /// Neither Kafka nor the spool took it: 503.
    FailedSpool,
    /// The client hung up before it was acknowledged; it may be stored or not.
    Abandoned,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: &'static [Self] = &[
        Self::Accepted,
        Self::Spooled,
        Self::DroppedObjection,
        Self::DroppedUnknownSite,
        Self::DroppedRegion,
        Self::DroppedNoSite,
        Self::DroppedOrigin,
        Self::DroppedBatchTooLarge,
        Self::DeadLettered,
        Self::FailedBroker,
        Self::FailedQueueFull,
        Self::FailedSpool,
        Self::Abandoned,
    ];

    /// As in metrics and in the header `X-Hitmeter-Outcome`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Spooled => "spooled",
            Self::DroppedObjection => "dropped_objection",
            Self::DroppedUnknownSite => "dropped_unknown_site",
            Self::DroppedRegion => "dropped_region",
            Self::DroppedNoSite => "dropped_no_site",
            Self::DroppedOrigin => "dropped_origin",
            Self::DroppedBatchTooLarge => "dropped_batch_too_large",
            Self::DeadLettered => "dead_lettered",
            Self::FailedBroker => "failed_broker",
            Self::FailedQueueFull => "failed_queue_full",
            Self::FailedSpool => "failed_spool",
            Self::Abandoned => "abandoned",
        }
    }
}

impl Outcome {
    /// What becomes of a hit that was to have this outcome, by what came of publishing it.
    #[must_use]
    pub fn after(self, result: Result<Durable, PublishError>) -> Self {
        match result {
            Ok(Durable::Spool) if self == Self::Accepted => Self::Spooled,
            Ok(_) => self,
            Err(PublishError::Broker) => Self::FailedBroker,
            Err(PublishError::QueueFull) => Self::FailedQueueFull,
            Err(PublishError::Spool) => Self::FailedSpool,
        }
    }
}

/// A hit whose outcome is still open.
#[derive(Debug)]
pub struct Received {
    metrics: Arc<Metrics>,
    open: bool,
}

impl Received {
    /// Counts a hit in.
    #[must_use]
    pub fn count(metrics: &Arc<Metrics>) -> Self {
        metrics.received.inc();
        Self { metrics: Arc::clone(metrics), open: true }
    }

    /// Counts it out.
    pub fn close(mut self, outcome: Outcome) {
        self.open = false;
        self.metrics.count(outcome);
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if self.open {
            self.metrics.count(Outcome::Abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_let_go_of_unsaid_is_counted_as_abandoned() {
        let metrics = Arc::new(Metrics::new().unwrap());
        Received::count(&metrics).close(Outcome::Accepted);
        drop(Received::count(&metrics));
        assert_eq!(metrics.received.get(), 2);
        assert_eq!((metrics.outcome(Outcome::Accepted), metrics.outcome(Outcome::Abandoned)), (1, 1));
    }
}

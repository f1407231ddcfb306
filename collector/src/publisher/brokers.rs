//! Whether the brokers take hits, as far as is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use service::health::Health;

use crate::BROKER;
use crate::metrics::Metrics;

/// What is known of the brokers. Without a spool the collector is ready only while they answer; with one it always is.
#[derive(Debug)]
pub(super) struct Brokers {
    take_hits: AtomicBool,
    needed: bool,
    metrics: Arc<Metrics>,
    health: Health,
}

impl Brokers {
    /// They are taken to answer until they do not.
    pub(super) fn new(needed: bool, metrics: Arc<Metrics>, health: Health) -> Arc<Self> {
        if !needed {
            health.met(BROKER);
        }
        Arc::new(Self { take_hits: AtomicBool::new(true), needed, metrics, health })
    }

    /// False while they are known not to take hits.
    pub(super) fn take_hits(&self) -> bool {
        self.take_hits.load(Ordering::Acquire)
    }

    pub(super) fn answer(&self) {
        self.take_hits.store(true, Ordering::Release);
        self.metrics.brokers_up.set(1);
        self.health.met(BROKER);
    }

    pub(super) fn fail(&self, reason: &str) {
        self.take_hits.store(false, Ordering::Release);
        self.metrics.brokers_up.set(0);
        if self.needed {
            self.health.unmet(BROKER, reason);
        }
    }
}

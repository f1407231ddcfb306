//! Whether the brokers take hits, as far as is known.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use service::health::Health;

use crate::BROKER;
use crate::metrics::Metrics;

/// So long after brokers refused a hit it counts for nothing that they answer.
const DISTRUST: Duration = Duration::from_secs(10);

/// What is known of the brokers. Without a spool the collector is ready only while they answer; with one it always is.
#[derive(Debug)]
pub(super) struct Brokers {
    take_hits: AtomicBool,
    /// When they refused a hit last, unless they took one since.
    refused: Mutex<Option<Instant>>,
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
        Arc::new(Self { take_hits: AtomicBool::new(true), refused: Mutex::default(), needed, metrics, health })
    }

    /// False while they are known not to take hits.
    pub(super) fn take_hits(&self) -> bool {
        self.take_hits.load(Ordering::Acquire)
    }

    fn refused(&self) -> MutexGuard<'_, Option<Instant>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// They answer, which is not to say that they take hits.
    pub(super) fn answer(&self) {
        if self.refused().is_none_or(|at| at.elapsed() > DISTRUST) {
            self.take();
        }
    }

    /// A hit was acknowledged. Where there is a spool, one that waits there has to be.
    pub(super) fn acknowledge(&self) {
        if self.needed && !self.take_hits() {
            self.take();
        }
    }

    /// They take hits.
    pub(super) fn take(&self) {
        if self.refused().take().is_some() {
            tracing::info!("Kafka takes hits again");
        }
        self.take_hits.store(true, Ordering::Release);
        self.metrics.brokers_up.set(1);
        self.health.met(BROKER);
    }

    /// A hit was refused, or given up after all attempts. Said once, not for each.
    pub(super) fn refuse(&self, error: &KafkaError) {
        if self.refused().replace(Instant::now()).is_none_or(|at| at.elapsed() > DISTRUST) {
            tracing::error!(%error, "Kafka does not take hits");
        }
        self.fail(&format!("the brokers do not take hits: {error}"));
    }

    pub(super) fn fail(&self, reason: &str) {
        self.take_hits.store(false, Ordering::Release);
        self.metrics.brokers_up.set(0);
        if self.needed {
            self.health.unmet(BROKER, reason);
        }
    }
}

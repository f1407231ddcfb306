//! Bytes that wait to become durable: counted, and bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use service::health::Health;

use super::PublishError;
use crate::QUEUE;
use crate::metrics::Metrics;

/// The count. The collector is not ready while there is no room.
#[derive(Debug)]
pub(super) struct Waiting {
    bytes: AtomicUsize,
    most: usize,
    metrics: Arc<Metrics>,
    health: Health,
}

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(super) struct Reserved<'w> {
    waiting: &'w Waiting,
    bytes: usize,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.waiting.release(self.bytes);
    }
}

impl Waiting {
    pub(super) fn new(most: usize, metrics: Arc<Metrics>, health: Health) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), most, metrics, health })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Counts bytes in, however many there are.
    pub(super) fn add(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.metrics.queue_bytes.set((before + bytes) as i64);
    }

    /// Counts bytes in, unless they are too many.
    pub(super) fn reserve(&self, bytes: usize) -> Result<(), PublishError> {
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        if before + bytes > self.most {
            self.release(bytes);
            self.full();
            return Err(PublishError::QueueFull);
        }
        self.metrics.queue_bytes.set((before + bytes) as i64);
        Ok(())
    }

    /// Counts bytes in for as long as something lives, unless they are too many.
    pub(super) fn hold(&self, bytes: usize) -> Result<Reserved<'_>, PublishError> {
        self.reserve(bytes).map(|()| Reserved { waiting: self, bytes })
    }

    /// Counts bytes out.
    pub(super) fn release(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.metrics.queue_bytes.set((before - bytes) as i64);
    }

    /// Says that there is no room.
    pub(super) fn full(&self) {
        self.health.unmet(QUEUE, "too many hits wait to become durable");
    }

    /// Says that there is room, once a tenth of it is free.
    pub(super) fn note_room(&self) {
        if self.bytes() <= self.most / 10 * 9 {
            self.health.met(QUEUE);
        }
    }
}

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
    /// The part of it that Kafka's client may have.
    most_for_client: usize,
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
    pub(super) fn new(most: usize, has_spool: bool, metrics: Arc<Metrics>, health: Health) -> Arc<Self> {
        let most_for_client = if has_spool { most / 4 * 3 } else { most };
        Arc::new(Self { bytes: AtomicUsize::new(0), most, most_for_client, metrics, health })
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Counts bytes in, however many there are.
    pub(super) fn add(&self, bytes: usize) {
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.metrics.queue_bytes.set((before + bytes) as i64);
    }

    /// Counts bytes in that Kafka's client is given, unless they are too many for it.
    pub(super) fn reserve_for_client(&self, bytes: usize) -> Result<(), PublishError> {
        self.reserve(bytes, self.most_for_client)
    }

    /// Counts bytes in for as long as something lives, unless they are too many.
    pub(super) fn hold(&self, bytes: usize) -> Result<Reserved<'_>, PublishError> {
        self.reserve(bytes, self.most).map(|()| Reserved { waiting: self, bytes })
    }

    fn reserve(&self, bytes: usize, most: usize) -> Result<(), PublishError> {
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        if before + bytes > most {
            self.release(bytes);
            // Where the client has its part, the spool has the rest.
            if most == self.most {
                self.full();
            }
            return Err(PublishError::QueueFull);
        }
        self.metrics.queue_bytes.set((before + bytes) as i64);
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_holds_leaves_room_on_the_way_to_the_spool() {
        let health = Health::waiting_for(&[QUEUE]);
        health.met(QUEUE);
        let waiting = Waiting::new(1000, true, Arc::new(Metrics::new().unwrap()), health.clone());
        waiting.reserve_for_client(750).unwrap();
        waiting.reserve_for_client(1).unwrap_err();
        assert!(health.obstacles().is_empty(), "the spool takes it");
        let held = waiting.hold(250).unwrap();
        waiting.hold(1).unwrap_err();
        assert!(!health.obstacles().is_empty());
        drop(held);
        assert_eq!(waiting.bytes(), 750);
        let without = Waiting::new(1000, false, Arc::new(Metrics::new().unwrap()), health);
        without.reserve_for_client(1000).unwrap();
    }
}

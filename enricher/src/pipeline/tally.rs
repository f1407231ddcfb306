//! Hits that were received and whose outcome is not settled: the guard that counts each of them once.

use crate::firsts::{First, Firsts};
use crate::hit::{Coordinates, DeadReason};
use crate::metrics::{Metrics, Outcome};

/// Received hits of a batch. What is not settled when it is given up, or dropped for whatever reason, was read in vain
/// and is read again: it counts as retried, so that no hit is ever lost without being counted.
#[derive(Debug)]
pub struct Tally {
    metrics: Metrics,
    /// Hits without a settled outcome.
    open: u64,
    /// What becomes of them once their batch is committed.
    decided: Vec<(Outcome, u64)>,
    /// Those among them that go to hits.dead, as after a collector that is newer than this enricher.
    dead: Firsts<DeadReason>,
}

impl Tally {
    /// Of no hits.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics, open: 0, decided: Vec::new(), dead: Firsts::default() }
    }

    /// One more was received.
    pub fn receive(&mut self) {
        self.metrics.received.inc();
        self.open += 1;
    }

    /// One of them has this outcome once the batch is committed.
    pub fn decide(&mut self, outcome: Outcome) {
        match self.decided.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, hits)) => *hits += 1,
            None => self.decided.push((outcome, 1)),
        }
    }

    /// One of them goes to hits.dead, which is to be told.
    pub fn bury(&mut self, reason: DeadReason, detail: &str, coordinates: Coordinates<'_>) {
        self.dead.add(reason, detail, coordinates);
    }

    fn tell_of_dead(&mut self) {
        for First { reason, count: hits, partition, offset, detail } in self.dead.take() {
            let reason = reason.as_str();
            tracing::warn!(
                hits,
                partition,
                offset,
                reason,
                detail,
                "hits went to hits.dead, of which this is the first"
            );
        }
    }

    /// The batch is written: what was decided holds.
    pub fn settle(&mut self) {
        self.tell_of_dead();
        for (outcome, hits) in self.decided.drain(..) {
            let hits = hits.min(self.open);
            self.metrics.count(outcome, hits);
            self.open -= hits;
        }
    }

    /// The batch is not written, and its hits are read again.
    pub fn give_up(&mut self) {
        self.decided.clear();
        self.dead.take();
        self.metrics.count(Outcome::Retried, std::mem::take(&mut self.open));
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(metrics: &Metrics, outcome: Outcome) -> u64 {
        metrics.hits.with_label_values(&[outcome.as_str()]).get()
    }

    #[test]
    fn what_is_not_settled_when_it_is_dropped_was_read_in_vain() {
        let metrics = Metrics::new().unwrap();
        let mut tally = Tally::new(metrics.clone());
        (0..3).for_each(|_| tally.receive());
        tally.decide(Outcome::Enriched);
        tally.decide(Outcome::Duplicate);
        tally.settle();
        assert_eq!((count(&metrics, Outcome::Enriched), count(&metrics, Outcome::Duplicate)), (1, 1));
        tally.receive();
        tally.decide(Outcome::Enriched);
        drop(tally);
        assert_eq!((count(&metrics, Outcome::Enriched), count(&metrics, Outcome::Retried)), (1, 2));
        assert_eq!((metrics.received.get(), metrics.outcomes()), (4, 4));
    }

    #[test]
    fn a_batch_that_is_given_up_counts_as_retried_only() {
        let metrics = Metrics::new().unwrap();
        let mut tally = Tally::new(metrics.clone());
        tally.receive();
        tally.decide(Outcome::Enriched);
        tally.give_up();
        tally.settle();
        drop(tally);
        assert_eq!((count(&metrics, Outcome::Enriched), count(&metrics, Outcome::Retried)), (0, 1));
    }
}

//! What becomes of a hit: exactly one outcome each, counted in one place.

use std::sync::Arc;

use schemas::{DecodeError, WireError};

use crate::metrics::Metrics;

/// Why something is a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The message has no value.
    Empty,
    /// The message starts with no header that is known here.
    NoHeader,
    /// The message was written with a schema that is not known here.
    UnknownSchema,
    /// The message is not what its schema says.
    Undecodable,
    /// ClickHouse refuses the row.
    Refused,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Empty, Self::NoHeader, Self::UnknownSchema, Self::Undecodable, Self::Refused];

    /// The name in dead letters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::NoHeader => "no_header",
            Self::UnknownSchema => "unknown_schema",
            Self::Undecodable => "undecodable",
            Self::Refused => "refused",
        }
    }
}

impl From<&WireError> for Reason {
    fn from(error: &WireError) -> Self {
        match error {
            WireError::NoHeader => Self::NoHeader,
            WireError::UnknownFingerprint(..) | WireError::NoRegistry(_) | WireError::Registry(_) => {
                Self::UnknownSchema
            }
            WireError::Resolve(..) | WireError::Schema(..) | WireError::Canonical(_) | WireError::Decode(_) => {
                Self::Undecodable
            }
        }
    }
}

impl From<DecodeError> for Reason {
    fn from(_: DecodeError) -> Self {
        Self::Undecodable
    }
}

/// What became of a hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It is in the table.
    Inserted,
    /// It is not stored, as the person it is about had it erased.
    Erased,
    /// It is in `hits.dead`.
    Dead(Reason),
    /// It was given up unfinished, at a shutdown, a halt or when the partition went to another sink. Its offset was not
    /// committed: whoever has the partition next reads it again.
    Returned,
}

impl Outcome {
    /// Every outcome.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let dead = Reason::ALL.map(Self::Dead);
        [&[Self::Inserted, Self::Erased], &dead[..], &[Self::Returned]].concat()
    }

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inserted => "inserted",
            Self::Erased => "erased",
            Self::Dead(Reason::Empty) => "dead_empty",
            Self::Dead(Reason::NoHeader) => "dead_no_header",
            Self::Dead(Reason::UnknownSchema) => "dead_unknown_schema",
            Self::Dead(Reason::Undecodable) => "dead_undecodable",
            Self::Dead(Reason::Refused) => "dead_refused",
            Self::Returned => "returned",
        }
    }
}

/// Hits that were received and have no outcome yet. Dropped, it counts them as returned, so that none is ever lost
/// without being counted.
#[derive(Debug)]
pub struct Tally {
    metrics: Arc<Metrics>,
    open: u64,
}

impl Tally {
    /// Of no hits.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, open: 0 }
    }

    /// One more was received.
    pub fn receive(&mut self) {
        self.metrics.received.inc();
        self.open += 1;
    }

    /// So many of them have an outcome.
    pub fn settle(&mut self, outcome: Outcome, hits: usize) {
        let hits = (hits as u64).min(self.open);
        self.metrics.outcome(outcome).inc_by(hits);
        self.open -= hits;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.metrics.outcome(Outcome::Returned).inc_by(self.open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_outcome_when_it_is_dropped_was_returned() {
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let mut tally = Tally::new(Arc::clone(&metrics));
        (0..5).for_each(|_| tally.receive());
        tally.settle(Outcome::Inserted, 2);
        tally.settle(Outcome::Dead(Reason::Refused), 1);
        drop(tally);
        let count = |outcome| metrics.outcome(outcome).get();
        assert_eq!(metrics.received.get(), 5);
        assert_eq!((count(Outcome::Inserted), count(Outcome::Dead(Reason::Refused))), (2, 1));
        assert_eq!(count(Outcome::Returned), 2);
    }

    #[test]
    fn outcomes_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> = Outcome::all().into_iter().map(Outcome::as_str).collect();
        assert_eq!(names.len(), Reason::ALL.len() + 3);
    }
}

//! Which spooled records are with Kafka's client as well: it was given them first, and did not say in time what became of
//! them. Why none of them is published twice stands in [`crate::publisher`].

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use super::log::Position;

/// What became of messages that Kafka's client was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is still at it.
    Open,
    /// All of them are stored.
    Stored,
    /// Some of them may not be, and it does not try any more.
    Failed,
}

/// Messages that Kafka's client was given.
pub trait Handover: Debug + Send + Sync {
    /// What became of them. Open becomes stored or failed, and then stays so.
    fn fate(&self) -> Fate;
}

/// The records by their places, each run with where it ends. Only this process knows of them.
#[derive(Debug, Default)]
pub(super) struct Handed(BTreeMap<Position, (Position, Arc<dyn Handover>)>);

impl Handed {
    pub(super) fn add(&mut self, from: Position, to: Position, handover: Arc<dyn Handover>) {
        self.0.insert(from, (to, handover));
    }

    /// Where the first record stands of which is not known yet what became of it.
    pub(super) fn first_open(&self) -> Option<Position> {
        self.0.iter().find(|(_, (_, handover))| handover.fate() == Fate::Open).map(|(from, _)| *from)
    }

    /// True where the client has stored the record at this place.
    pub(super) fn is_stored(&self, at: Position) -> bool {
        let before = self.0.range(..=at).next_back();
        before.is_some_and(|(_, (to, handover))| at < *to && handover.fate() == Fate::Stored)
    }

    /// How far what the client has stored goes on from a place; nothing where none of it stands there.
    pub(super) fn stored_until(&self, at: Position) -> Option<Position> {
        let (_, (to, _)) = self.0.range(..=at).next_back().filter(|_| self.is_stored(at))?;
        Some(*to)
    }

    /// Forgets the records before a place.
    pub(super) fn forget(&mut self, before: Position) {
        self.0 = self.0.split_off(&before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Handover for Fate {
        fn fate(&self) -> Fate {
            *self
        }
    }

    #[test]
    fn a_record_is_stored_within_a_run_that_is() {
        let at = |segment, offset| Position { segment, offset };
        let mut handed = Handed::default();
        assert!(handed.first_open().is_none() && !handed.is_stored(at(0, 0)));
        handed.add(at(1, 100), at(1, 200), Arc::new(Fate::Stored));
        handed.add(at(1, 200), at(1, 300), Arc::new(Fate::Failed));
        handed.add(at(2, 0), at(2, 50), Arc::new(Fate::Open));
        let stored = [at(0, 150), at(1, 99), at(1, 100), at(1, 199), at(1, 200), at(1, 300), at(2, 0)];
        assert_eq!(stored.map(|at| handed.is_stored(at)), [false, false, true, true, false, false, false]);
        assert_eq!(handed.first_open(), Some(at(2, 0)));
        assert_eq!(handed.stored_until(at(1, 100)), Some(at(1, 200)));
        assert_eq!((handed.stored_until(at(1, 200)), handed.stored_until(at(0, 0))), (None, None));
        handed.forget(at(1, 200));
        assert!(!handed.is_stored(at(1, 100)) && handed.first_open().is_some());
        handed.forget(at(3, 0));
        assert!(handed.0.is_empty());
    }
}

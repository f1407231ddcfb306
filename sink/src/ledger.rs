//! What of a partition is acknowledged, and which ranges are listed as intents. Pure.
//!
//! Batches of a partition are stored at the same time and end in any order; the offset moves over those at the front
//! that are done. What is left stands here as a list of ranges: the one that is written into the metadata of the committed
//! offset before any of them is inserted. See [`intents`](crate::intents).

use std::collections::VecDeque;

use crate::intents::{MOST_RANGES, Range, write};

/// A range on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Pending {
    range: Range,
    /// The broker has it in its list.
    is_listed: bool,
    is_done: bool,
}

/// What is committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Commit {
    /// The first offset that is not acknowledged.
    pub offset: i64,
    /// The ranges from there on.
    pub metadata: String,
}

/// The ranges of one partition that are on their way, or are to be read again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Ledger {
    ranges: VecDeque<Pending>,
    /// The first offset that is not acknowledged, where that is known.
    position: Option<i64>,
    committed: Option<Commit>,
}

impl Ledger {
    /// As the broker has it: the committed offset, if there is one, and the ranges that it lists.
    #[must_use]
    pub fn resumed(position: Option<i64>, listed: Vec<Range>) -> Self {
        let committed = position.map(|offset| Commit { offset, metadata: write(&listed) });
        let listed = listed.into_iter().map(|range| Pending { range, is_listed: true, is_done: false });
        Self { ranges: listed.collect(), position, committed }
    }

    /// Ranges that are listed, or are to be.
    #[must_use]
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// Whether another range may be opened: the list has an end. One that is read again stands in it already.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.ranges() < MOST_RANGES
    }

    /// A batch is to be stored: it has to be listed first. One that is read again stands here already.
    pub fn open(&mut self, range: Range) {
        let place = self.ranges.partition_point(|pending| pending.range.first < range.first);
        if self.ranges.get(place).is_some_and(|pending| pending.range == range) {
            return;
        }
        debug_assert!(range.first <= range.last);
        self.ranges.insert(place, Pending { range, is_listed: false, is_done: false });
    }

    /// Whether the broker has this range in its list, so that it may be inserted.
    #[must_use]
    pub fn is_listed(&self, first: i64) -> bool {
        self.ranges.iter().any(|pending| pending.range.first == first && pending.is_listed)
    }

    /// A batch is stored, and all of its dead letters are delivered.
    pub fn done(&mut self, first: i64) {
        if let Some(pending) = self.ranges.iter_mut().find(|pending| pending.range.first == first) {
            pending.is_done = true;
        }
        while let Some(pending) = self.ranges.pop_front_if(|pending| pending.is_done) {
            self.position = Some(pending.range.last + 1);
        }
    }

    /// What has to be committed, where it differs from what is.
    #[must_use]
    pub fn to_commit(&self) -> Option<Commit> {
        let offset = self.position.or_else(|| Some(self.ranges.front()?.range.first))?;
        let commit = Commit { offset, metadata: write(self.ranges.iter().map(|pending| &pending.range)) };
        (self.committed.as_ref() != Some(&commit)).then_some(commit)
    }

    /// Whether a range waits to be listed.
    #[must_use]
    pub fn has_unlisted(&self) -> bool {
        self.ranges.iter().any(|pending| !pending.is_listed)
    }

    /// The broker has what [`Ledger::to_commit`] gave.
    pub fn commit_succeeded(&mut self, commit: Commit) {
        self.committed = Some(commit);
        self.ranges.iter_mut().for_each(|pending| pending.is_listed = true);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(first: i64, last: i64) -> Range {
        Range { epoch: "0".into(), first, last }
    }

    fn commit(ledger: &mut Ledger) -> Option<(i64, String)> {
        let commit = ledger.to_commit()?;
        ledger.commit_succeeded(commit.clone());
        Some((commit.offset, commit.metadata))
    }

    #[test]
    fn the_position_waits_for_the_first_one_and_the_list_names_the_rest() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.to_commit(), None);
        ledger.open(range(10, 19));
        ledger.open(range(20, 20));
        // Offsets 21 to 24 are a transaction's markers.
        ledger.open(range(25, 30));
        assert!(ledger.has_unlisted() && !ledger.is_listed(20));
        assert_eq!(commit(&mut ledger), Some((10, "hitmeter/1 epoch=0 10-19 20-20 25-30".to_owned())));
        assert!(!ledger.has_unlisted() && ledger.is_listed(20));
        ledger.done(20);
        assert_eq!(commit(&mut ledger), None, "a range that is done stays listed until those before it are");
        ledger.done(10);
        assert_eq!(commit(&mut ledger), Some((21, "hitmeter/1 epoch=0 25-30".to_owned())));
        ledger.done(25);
        assert_eq!(commit(&mut ledger), Some((31, "hitmeter/1".to_owned())));
    }

    #[test]
    fn what_is_read_again_is_listed_already_and_stays_so_until_it_is_done() {
        let mut ledger = Ledger::resumed(Some(10), vec![range(10, 19), range(20, 29)]);
        assert_eq!(commit(&mut ledger), None);
        ledger.open(range(10, 19));
        assert!(ledger.is_listed(10) && ledger.is_listed(20));
        ledger.open(range(30, 39));
        assert!(!ledger.is_listed(30));
        assert_eq!(commit(&mut ledger), Some((10, "hitmeter/1 epoch=0 10-19 20-29 30-39".to_owned())));
        ledger.done(10);
        assert_eq!(commit(&mut ledger), Some((20, "hitmeter/1 epoch=0 20-29 30-39".to_owned())));
    }

    #[test]
    fn the_list_has_an_end() {
        let mut ledger = Ledger::default();
        (0..MOST_RANGES as i64).for_each(|offset| ledger.open(range(offset, offset)));
        assert!(!ledger.has_room());
        ledger.done(0);
        assert!(ledger.has_room());
    }

    proptest! {
        /// In whatever order batches end, nothing that is not done lies before the position, and all that is not done
        /// is listed.
        #[test]
        fn nothing_unfinished_is_passed(lengths in prop::collection::vec(1i64..5, 1..20), order in any::<prop::sample::Index>()) {
            let mut ledger = Ledger::default();
            let mut ranges = Vec::new();
            let mut next = 0;
            for length in lengths {
                ledger.open(range(next, next + length - 1));
                ranges.push((next, next + length - 1));
                next += length;
            }
            let end = next;
            commit(&mut ledger);
            while !ranges.is_empty() {
                let (first, _) = ranges.remove(order.index(ranges.len()));
                ledger.done(first);
                commit(&mut ledger);
                let committed = ledger.committed.clone().unwrap();
                prop_assert_eq!(committed.offset, ranges.first().map_or(end, |(first, _)| *first));
                let listed = crate::intents::read(&committed.metadata).unwrap();
                prop_assert!(ranges.iter().all(|(first, last)| listed.contains(&range(*first, *last))));
            }
        }
    }
}

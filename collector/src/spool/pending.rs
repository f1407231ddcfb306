//! Which visitors have hits in the spool or on their way to it: their newer hits have to go behind those.

use std::collections::{BTreeMap, HashMap};

/// How many records there are of each key (its hash).
type Counts = HashMap<u64, u32>;

/// Records that are pending, altogether and by the segment that holds them: so that those of a segment that can't be
/// read, whose keys nobody can read either, do not keep their visitors waiting for ever.
#[derive(Debug, Default)]
pub(super) struct Pending {
    all: Counts,
    segments: BTreeMap<u64, Counts>,
}

impl Pending {
    pub(super) fn holds(&self, key: u64) -> bool {
        self.all.contains_key(&key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn visitors(&self) -> usize {
        self.all.len()
    }

    /// Records are on their way to the log.
    pub(super) fn enter(&mut self, keys: &[u64]) {
        keys.iter().for_each(|key| add(&mut self.all, *key));
    }

    /// Records that were on their way are in a segment.
    pub(super) fn written(&mut self, segment: u64, keys: &[u64]) {
        let counts = self.segments.entry(segment).or_default();
        keys.iter().for_each(|key| add(counts, *key));
    }

    /// Records that were on their way did not get there.
    pub(super) fn refused(&mut self, keys: &[u64]) {
        keys.iter().for_each(|key| subtract(&mut self.all, *key, 1));
        self.shrink();
    }

    /// Records of a segment are published.
    pub(super) fn published(&mut self, segment: u64, keys: &[u64]) {
        if let Some(counts) = self.segments.get_mut(&segment) {
            keys.iter().for_each(|key| subtract(counts, *key, 1));
            if counts.is_empty() {
                self.segments.remove(&segment);
            }
        }
        self.refused(keys);
    }

    /// A segment is given up. Says how many records of it were not published.
    pub(super) fn lost(&mut self, segment: u64) -> u64 {
        let mut lost = 0;
        for (key, count) in self.segments.remove(&segment).unwrap_or_default() {
            subtract(&mut self.all, key, count);
            lost += u64::from(count);
        }
        self.shrink();
        lost
    }

    /// All segments before one are done with. Says how many records of them were not published.
    pub(super) fn lost_before(&mut self, segment: u64) -> u64 {
        let mut lost = 0;
        while let Some(first) = self.segments.keys().next().copied().filter(|first| *first < segment) {
            lost += self.lost(first);
        }
        lost
    }

    /// A long outage must not leave its memory behind.
    fn shrink(&mut self) {
        if self.all.is_empty() {
            self.all.shrink_to_fit();
        }
    }
}

fn add(counts: &mut Counts, key: u64) {
    *counts.entry(key).or_insert(0) += 1;
}

fn subtract(counts: &mut Counts, key: u64, by: u32) {
    if let Some(count) = counts.get_mut(&key) {
        *count = count.saturating_sub(by);
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_with_a_segment_waits_no_more_and_the_rest_does() {
        let mut pending = Pending::default();
        pending.enter(&[1, 1, 2, 3]);
        pending.written(7, &[1, 2]);
        pending.written(8, &[1]);
        pending.published(7, &[2]);
        assert_eq!(pending.lost(7), 1);
        assert!(pending.holds(1) && !pending.holds(2) && pending.holds(3));
        pending.published(8, &[1]);
        pending.refused(&[3]);
        assert!(pending.is_empty() && pending.segments.is_empty());
        assert_eq!(pending.lost(8), 0);
    }
}

//! Which hits were enriched a short time before, so that a client's retry does not pass a second time.
//!
//! A hit is a duplicate of one that was written before when both have one hit id and one key, which is the visitor's,
//! were read from one partition, and arrived at the collectors no further apart than the window. What is known of a
//! partition depends only on what its transactions wrote, never on the clock at which it is asked: an aborted batch is
//! undone ([`Windows::undo`]), and what a new owner reads back from hits.enriched ([`super::recall`]) is what the old
//! one knew. Only written hits are remembered: a hit that went to hits.dead has no row that a second one could double.
//!
//! Hits are forgotten when a hit came that is a window younger, by the time of its message in hits.raw, or when there
//! are too many. A collector whose clock is ahead makes nobody forget: what comes from the future counts as now.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::time::Duration;

use hashbrown::HashTable;
use hashbrown::hash_table::{Entry, OccupiedEntry};
use prometheus::{IntCounter, IntGauge};
use uuid::Uuid;

use crate::metrics::Metrics;

/// How much is remembered.
#[derive(Debug, Clone, Copy)]
pub struct Remember {
    /// How far apart two hits may arrive to be the same; zero remembers nothing.
    pub window: Duration,
    /// Hits of a partition at most.
    pub hits: usize,
}

impl Remember {
    /// The window in milliseconds.
    #[must_use]
    pub fn milliseconds(&self) -> i64 {
        i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Two keyed hashes of 64 bits (SipHash), whose keys are this process's: what it knows is read back after a start. Clients
/// choose their ids, and can't choose them so that another one's hit is taken for theirs.
static DIGESTS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);

/// Of a key and a hit id together. Two numbers rather than one of 128 bits, which would be aligned to 16 bytes: of that
/// there are millions.
type Digest = [u64; 2];

/// Half of it: it is a hash already.
fn hash(digest: &Digest) -> u64 {
    digest[0]
}

/// A hit, as far as duplicates are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    digest: Digest,
    /// When the collector received it, Unix milliseconds.
    received_at: i64,
}

impl Identity {
    /// The hit with this id in a message with this key. A hit without an id, which no collector writes, is nobody's
    /// duplicate.
    #[must_use]
    pub fn of(key: Option<&[u8]>, hit_id: Uuid, received_at: i64) -> Option<Self> {
        if hit_id.is_nil() {
            return None;
        }
        let digest = DIGESTS.each_ref().map(|keyed| keyed.hash_one((hit_id.as_u128(), key.unwrap_or_default())));
        Some(Self { digest, received_at })
    }
}

#[derive(Debug)]
struct Remembered {
    identity: Identity,
    /// Time of its message in hits.raw, Unix milliseconds.
    read_at: i64,
}

/// Hits in the order in which they were written. Each has a number, one more than the hit before it, and keeps it while
/// others are forgotten; after the largest number comes zero.
#[derive(Debug, Default)]
struct Order {
    hits: VecDeque<Remembered>,
    first: u32,
}

impl Order {
    fn identity(&self, number: u32) -> &Identity {
        &self.hits[number.wrapping_sub(self.first) as usize].identity
    }

    /// The number that the next hit gets.
    fn next(&self) -> u32 {
        self.first.wrapping_add(self.hits.len() as u32)
    }

    fn forget_first(&mut self) {
        self.hits.pop_front();
        self.first = self.first.wrapping_add(1);
    }
}

/// What is known of one partition.
#[derive(Debug, Default)]
struct Window {
    order: Order,
    /// The number of the last hit of each digest, found by the digest: a table of the digests themselves would take
    /// several times as much.
    known: HashTable<u32>,
    /// The number that was known before each of the last hits of `order`, those of the batch that is not yet committed.
    open: Vec<Option<u32>>,
}

impl Window {
    fn knows(&self, identity: &Identity, window: i64) -> bool {
        let Identity { digest, received_at } = identity;
        let known = self.known.find(hash(digest), |known| self.order.identity(*known).digest == *digest);
        let known = known.map(|known| self.order.identity(*known));
        known.is_some_and(|known| known.received_at.abs_diff(*received_at) <= window.unsigned_abs())
    }

    fn add(&mut self, identity: Identity, read_at: i64) {
        let (order, number) = (&self.order, self.order.next());
        let digest_of = |known: &u32| &order.identity(*known).digest;
        let is_it = |known: &u32| *digest_of(known) == identity.digest;
        let before = match self.known.entry(hash(&identity.digest), is_it, |known| hash(digest_of(known))) {
            Entry::Occupied(mut known) => Some(std::mem::replace(known.get_mut(), number)),
            Entry::Vacant(unknown) => {
                unknown.insert(number);
                None
            }
        };
        self.open.push(before);
        self.order.hits.push_back(Remembered { identity, read_at });
    }

    /// The place in the table of a hit that no later one has taken it from.
    fn place(&mut self, digest: &Digest, number: u32) -> Option<OccupiedEntry<'_, u32>> {
        self.known.find_entry(hash(digest), |known| *known == number).ok()
    }

    fn undo(&mut self) {
        while let Some(before) = self.open.pop() {
            let Some(Remembered { identity, .. }) = self.order.hits.pop_back() else { break };
            // The number is free again, and it was this hit's.
            let Some(mut place) = self.place(&identity.digest, self.order.next()) else { continue };
            match before {
                Some(number) => *place.get_mut() = number,
                None => drop(place.remove()),
            }
        }
    }

    /// Forgets what is too old or too much; says how many were too much.
    fn keep(&mut self, remember: &Remember) -> u64 {
        self.open.clear();
        let Some(newest) = self.order.hits.back().map(|last| last.read_at) else { return 0 };
        let oldest = newest.saturating_sub(remember.milliseconds());
        let mut too_many = 0;
        while let Some(first) = self.order.hits.front() {
            let is_old = first.read_at < oldest;
            if !is_old && self.order.hits.len() <= remember.hits {
                break;
            }
            too_many += u64::from(!is_old);
            let (digest, number) = (first.identity.digest, self.order.first);
            // A later hit with the same id, which was no duplicate of this one, stays known.
            if let Some(place) = self.place(&digest, number) {
                place.remove();
            }
            self.order.forget_first();
        }
        too_many
    }
}

/// What is known of the partitions of one worker.
#[derive(Debug)]
pub struct Windows {
    remember: Remember,
    partitions: HashMap<i32, Window>,
    shown: i64,
    remembered: IntGauge,
    forgotten: IntCounter,
}

impl Windows {
    /// Nothing is known yet of any partition.
    #[must_use]
    pub fn new(remember: Remember, metrics: &Metrics) -> Self {
        let (remembered, forgotten) = (metrics.remembered.clone(), metrics.forgotten.clone());
        Self { remember, partitions: HashMap::new(), shown: 0, remembered, forgotten }
    }

    /// True where it is known what was written before from this partition.
    #[must_use]
    pub fn is_prepared(&self, partition: i32) -> bool {
        self.remember.window.is_zero() || self.partitions.contains_key(&partition)
    }

    /// Says that all is known of a partition that was written before: `hits`, in their order, and when their messages
    /// were.
    pub fn prepare(&mut self, partition: i32, hits: impl IntoIterator<Item = (Identity, i64)>) {
        let milliseconds = self.remember.milliseconds();
        let window = self.partitions.entry(partition).or_default();
        for (identity, read_at) in hits {
            if !window.knows(&identity, milliseconds) {
                window.add(identity, read_at);
            }
        }
        window.keep(&self.remember);
        self.show();
    }

    /// True where this hit was written before.
    #[must_use]
    pub fn is_duplicate(&self, partition: i32, identity: &Identity) -> bool {
        let window = self.partitions.get(&partition);
        window.is_some_and(|window| window.knows(identity, self.remember.milliseconds()))
    }

    /// Says that a hit is written in the batch that is open, and when its message was, Unix milliseconds.
    pub fn add(&mut self, partition: i32, identity: Identity, read_at: i64) {
        if let Some(window) = self.partitions.get_mut(&partition) {
            window.add(identity, read_at);
        }
    }

    /// Says that the open batch is committed.
    pub fn keep(&mut self) {
        for window in self.partitions.values_mut() {
            self.forgotten.inc_by(window.keep(&self.remember));
        }
        self.show();
    }

    /// Says that the open batch was never written.
    pub fn undo(&mut self) {
        self.partitions.values_mut().for_each(Window::undo);
    }

    /// Forgets a partition that another worker has now.
    pub fn forget(&mut self, partition: i32) {
        self.partitions.remove(&partition);
        self.show();
    }

    /// Adds the difference to what was shown last: workers share the gauge.
    fn show(&mut self) {
        let hits = self.partitions.values().map(|window| window.order.hits.len()).sum::<usize>();
        let hits = i64::try_from(hits).unwrap_or(i64::MAX);
        self.remembered.add(hits - self.shown);
        self.shown = hits;
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        self.remembered.sub(self.shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn windows(hits: usize) -> (Windows, Metrics) {
        let metrics = Metrics::new().unwrap();
        let remember = Remember { window: Duration::from_secs(600), hits };
        let mut windows = Windows::new(remember, &metrics);
        windows.prepare(0, []);
        (windows, metrics)
    }

    fn identity(number: u128, received_at: i64) -> Identity {
        Identity::of(Some(b"demo\0visitor"), Uuid::from_u128(number), received_at).unwrap()
    }

    /// The README says what a hit takes, of as many as are remembered by default: its places in the table and in the order.
    #[test]
    fn a_remembered_hit_takes_few_bytes() {
        const HITS: usize = 200_000;
        assert_eq!(size_of::<Remembered>(), 32);
        let (mut windows, _) = windows(HITS);
        for number in 1..=u128::try_from(HITS).unwrap() {
            windows.add(0, identity(number, 0), 0);
        }
        windows.keep();
        let window = &windows.partitions[&0];
        let bytes = window.known.allocation_size() + window.order.hits.capacity() * size_of::<Remembered>();
        assert!((45 * HITS..=49 * HITS).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn a_hit_is_its_id_and_its_visitor() {
        let id = Uuid::from_u128(7);
        let of = |key: &[u8]| Identity::of(Some(key), id, 0);
        assert_eq!(of(b"demo\0a"), of(b"demo\0a"));
        assert_ne!(of(b"demo\0a"), of(b"demo\0b"), "another visitor's hit under the same id is another hit");
        assert_eq!(Identity::of(Some(b"demo\0a"), Uuid::nil(), 0), None);
    }

    #[test]
    fn a_duplicate_arrives_within_the_window_before_or_after() {
        let (mut windows, _) = windows(100);
        windows.add(0, identity(1, 20 * MINUTE), 20 * MINUTE);
        windows.keep();
        for (received_at, duplicate) in
            [(20 * MINUTE, true), (30 * MINUTE, true), (30 * MINUTE + 1, false), (10 * MINUTE, true), (0, false)]
        {
            assert_eq!(windows.is_duplicate(0, &identity(1, received_at)), duplicate, "{received_at}");
        }
        assert!(!windows.is_duplicate(0, &identity(2, 20 * MINUTE)));
        assert!(!windows.is_duplicate(1, &identity(1, 20 * MINUTE)), "each partition has its own");
    }

    #[test]
    fn an_aborted_batch_leaves_nothing_and_takes_nothing() {
        let (mut windows, _) = windows(100);
        windows.add(0, identity(1, 0), 0);
        windows.keep();
        // Its second coming is no duplicate; both are undone to what was known before.
        windows.add(0, identity(1, 11 * MINUTE), 11 * MINUTE);
        windows.add(0, identity(2, 11 * MINUTE), 11 * MINUTE);
        assert!(windows.is_duplicate(0, &identity(2, 11 * MINUTE)), "also within a batch");
        windows.undo();
        assert!(!windows.is_duplicate(0, &identity(2, 11 * MINUTE)));
        assert!(!windows.is_duplicate(0, &identity(1, 11 * MINUTE)));
        assert!(windows.is_duplicate(0, &identity(1, 0)));
    }

    #[test]
    fn what_is_old_or_too_much_is_forgotten_and_counted() {
        let (mut windows, metrics) = windows(3);
        for number in 1..=5 {
            windows.add(0, identity(number, 0), 0);
        }
        windows.keep();
        let known =
            |windows: &Windows| (1..=6).filter(|n| windows.is_duplicate(0, &identity(*n, 0))).collect::<Vec<_>>();
        assert_eq!(known(&windows), [3, 4, 5]);
        assert_eq!((metrics.forgotten.get(), metrics.remembered.get()), (2, 3));
        windows.add(0, identity(6, 0), 10 * MINUTE + 1);
        windows.keep();
        assert_eq!(known(&windows), [6], "the others' messages are older than the window");
        assert_eq!((metrics.forgotten.get(), metrics.remembered.get()), (2, 1));
        drop(windows);
        assert_eq!(metrics.remembered.get(), 0);
    }

    /// The numbers of hits begin again after the largest, in the middle of a batch too.
    #[test]
    fn numbers_that_begin_again_are_nobody_elses() {
        let (mut windows, _) = windows(100);
        windows.partitions.get_mut(&0).unwrap().order.first = u32::MAX - 150;
        let add = |windows: &mut Windows, numbers: std::ops::Range<u128>| {
            numbers.for_each(|number| windows.add(0, identity(number, 0), 0));
        };
        let known = |windows: &Windows| {
            let known = (1..1000).filter(|number| windows.is_duplicate(0, &identity(*number, 0))).collect::<Vec<_>>();
            (known.len(), known.first().copied(), known.last().copied())
        };
        for batch in 0..30 {
            add(&mut windows, batch * 10 + 1..batch * 10 + 11);
            windows.keep();
            add(&mut windows, 900..930);
            windows.undo();
            let newest = batch * 10 + 10;
            let kept = newest.min(100);
            assert_eq!(known(&windows), (kept as usize, Some(newest + 1 - kept), Some(newest)));
        }
        assert!(windows.partitions[&0].order.first < 200, "they have begun again");
    }

    #[test]
    fn what_is_read_back_is_what_was_known() {
        let (mut windows, _) = windows(100);
        assert!(!windows.is_prepared(4));
        windows.prepare(4, [(identity(1, 0), 0), (identity(1, 1), 1), (identity(2, 5), 5)]);
        assert!(windows.is_prepared(4) && windows.is_duplicate(4, &identity(1, 0)));
        assert!(windows.is_duplicate(4, &identity(2, 0)));
        windows.undo();
        assert!(windows.is_duplicate(4, &identity(2, 0)), "it is no part of a batch");
        windows.forget(4);
        assert!(!windows.is_prepared(4) && !windows.is_duplicate(4, &identity(2, 0)));
    }
}

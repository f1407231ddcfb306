//! The log held against a model, on a disk that fails and forgets ([`super::faulty`]).
//!
//! The model is a list of obligations: each record that was acknowledged, in order, until it was advanced over, damaged, or its
//! segment taken away. After every crash the log must give all obligations, in order; between them only batches that were written and not
//! acknowledged may stand.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use proptest::prelude::*;

use super::faulty::{Fault, FaultyStorage};
use super::*;

#[derive(Debug, Clone)]
enum Deed {
    /// Appends a batch of records of these sizes.
    Append(Vec<usize>),
    /// Reads so many bytes, and advances over them.
    Replay(usize),
    /// The process ends, and another opens the log.
    Restart,
    /// The machine ends.
    Crash { kept: usize, damage: Option<usize> },
    /// The next operations on the disk go like this.
    Disk(Vec<Fault>),
    /// Somebody takes one of the segments away.
    Take(prop::sample::Index),
    /// The disk changes a byte of one of the segments.
    Damage(prop::sample::Index, prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Deed>> {
    let fault = prop_oneof![3 => Just(Fault::None), 1 => (0_usize..200).prop_map(Fault::Fails)];
    let step = prop_oneof![
        6 => prop::collection::vec(0_usize..60, 1..5).prop_map(Deed::Append),
        4 => (1_usize..400).prop_map(Deed::Replay),
        1 => Just(Deed::Restart),
        1 => (0_usize..300, prop::option::of(0_usize..100)).prop_map(|(kept, damage)| Deed::Crash { kept, damage }),
        2 => prop::collection::vec(fault, 1..6).prop_map(Deed::Disk),
        1 => any::<prop::sample::Index>().prop_map(Deed::Take),
        1 => any::<(prop::sample::Index, prop::sample::Index)>().prop_map(|(which, at)| Deed::Damage(which, at)),
    ];
    prop::collection::vec(step, 1..60)
}

/// The log, the disk under it, and what it owes.
struct Bench {
    storage: FaultyStorage,
    log: Log<FaultyStorage>,
    /// Numbers of acknowledged records that were not advanced over, in order.
    owed: Vec<u64>,
    /// Segment of each record that was acknowledged, and where in it.
    places: HashMap<u64, (u64, Range<usize>)>,
    /// Segments in which something may be damaged.
    damaged: HashSet<u64>,
    next: u64,
}

const BOUNDS: Bounds = Bounds { bytes: 4000, segment_bytes: 300 };

fn number(record: &Record<'_>) -> u64 {
    u64::from_le_bytes(record.key.try_into().unwrap())
}

impl Bench {
    fn new() -> Self {
        let storage = FaultyStorage::default();
        let log = Log::open(storage.clone(), BOUNDS, |_, _| ()).unwrap();
        Self { storage, log, owed: Vec::new(), places: HashMap::new(), damaged: HashSet::new(), next: 0 }
    }

    fn append(&mut self, sizes: &[usize]) {
        let (mut batch, mut ends, first) = (Vec::new(), vec![0], self.next);
        for size in sizes {
            let (key, value) = (self.next.to_le_bytes(), vec![7; *size]);
            Record { spooled_at: 1, dead: false, key: &key, value: &value }.write(&mut batch);
            ends.push(batch.len());
            self.next += 1;
        }
        if let Ok(Position { segment, offset }) = self.log.append(&batch) {
            let ranges = ends.windows(2).map(|ends| (segment, offset as usize + ends[0]..offset as usize + ends[1]));
            self.places.extend((first..self.next).zip(ranges));
            if self.storage.0.lock().unwrap().segments.contains_key(&segment) {
                self.owed.extend(first..self.next);
            }
            assert!(self.log.bytes() <= BOUNDS.bytes, "the log has outgrown its bound");
        }
    }

    /// False when there was nothing to replay.
    fn replay(&mut self, most: usize) -> bool {
        let mut read = Vec::new();
        let to = match self.log.peek(most, None, |_, record| read.push(number(record))) {
            Ok(to) => to,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let gone = self.log.forget_front().unwrap();
                assert!(!self.storage.0.lock().unwrap().segments.contains_key(&gone), "segment {gone} is there");
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                if let Ok(damage) = self.log.pass_damage() {
                    assert!(self.damaged.contains(&damage.unwrap().segment), "what is whole was taken for damaged");
                }
                return true;
            }
            Err(_) => return true,
        };
        let Some(to) = to else {
            assert!(read.is_empty() && self.owed.is_empty(), "the log says that it is empty and owes {:?}", self.owed);
            return false;
        };
        self.owes_at_front(&read);
        self.owed.retain(|number| !read.contains(number));
        // Where the disk fails, segments stay: they are read again after a restart, and then nothing is owed of them.
        let _ = self.log.advance(to);
        true
    }

    /// What was read has what is owed in order and without a gap; others may stand between.
    fn owes_at_front(&self, read: &[u64]) {
        let owed_among: Vec<u64> = read.iter().copied().filter(|number| self.owed.contains(number)).collect();
        assert_eq!(owed_among, self.owed[..owed_among.len()], "read {read:?}");
    }

    fn open(&mut self) {
        let mut seen = Vec::new();
        self.log = Log::open(self.storage.clone(), BOUNDS, |_, record| seen.push(number(record))).unwrap();
        let owed_among: Vec<u64> = seen.iter().copied().filter(|number| self.owed.contains(number)).collect();
        assert_eq!(owed_among, self.owed, "after opening");
    }

    fn run(&mut self, step: &Deed) {
        match step {
            Deed::Append(sizes) => self.append(sizes),
            Deed::Replay(most) => {
                self.replay(*most);
            }
            Deed::Restart => {
                self.storage.0.lock().unwrap().faults.clear();
                self.open();
            }
            Deed::Crash { kept, damage } => {
                let mut disk = self.storage.0.lock().unwrap();
                if damage.is_some() {
                    self.damaged.extend(disk.segments.keys());
                }
                disk.crash(*kept, *damage);
                drop(disk);
                self.open();
            }
            Deed::Disk(faults) => self.storage.0.lock().unwrap().faults.clone_from(faults),
            Deed::Take(which) => self.take(which),
            Deed::Damage(which, at) => self.damage(which, at),
        }
    }

    fn take(&mut self, which: &prop::sample::Index) {
        let mut disk = self.storage.0.lock().unwrap();
        let numbers: Vec<u64> = disk.segments.keys().copied().collect();
        if numbers.is_empty() {
            return;
        }
        let taken = *which.get(&numbers);
        disk.segments.remove(&taken);
        self.owed.retain(|number| self.places[number].0 != taken);
    }

    fn damage(&mut self, which: &prop::sample::Index, at: &prop::sample::Index) {
        let mut disk = self.storage.0.lock().unwrap();
        let written: Vec<(u64, usize)> =
            disk.segments.iter().map(|(number, content)| (*number, content.bytes.len())).collect();
        let written: Vec<_> = written.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
        if written.is_empty() {
            return;
        }
        let (segment, bytes) = *which.get(&written);
        let at = at.index(bytes);
        disk.damage(segment, at);
        self.damaged.insert(segment);
        self.owed.retain(|number| !(self.places[number].0 == segment && self.places[number].1.contains(&at)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_was_acknowledged_is_given_back_in_order_whatever_the_disk_does(steps in steps()) {
        let mut bench = Bench::new();
        for step in &steps {
            bench.run(step);
        }
        bench.storage.0.lock().unwrap().faults.clear();
        // Each step moves the front on, so this ends.
        while bench.replay(500) {}
        prop_assert!(bench.owed.is_empty(), "left: {:?}", bench.owed);
        // What was taken away takes up no room. A segment whose removal the disk refused goes with the next.
        bench.append(&[1]);
        while bench.replay(500) {}
        prop_assert_eq!(bench.log.bytes(), 0);
    }
}

/// The argument's second sentence, by hand: after a failed sync nothing is added to that segment.
#[test]
fn after_a_failed_sync_a_new_segment_is_begun() {
    let mut bench = Bench::new();
    bench.append(&[1]);
    // The append goes well, the sync does not: taken from the end.
    bench.storage.0.lock().unwrap().faults = vec![Fault::Fails(0), Fault::None];
    bench.append(&[2]);
    bench.append(&[3]);
    assert_eq!(bench.owed, [0, 2]);
    assert_eq!(bench.storage.list().unwrap(), [0, 1]);
    bench.storage.0.lock().unwrap().crash(0, None);
    bench.open();
}

/// A disk that stays full gathers no files.
#[test]
fn attempts_that_fail_leave_nothing_behind() {
    let mut bench = Bench::new();
    bench.append(&[1]);
    for _ in 0..10 {
        // Taken from the end: the creation fails, the clean-up does not.
        bench.storage.0.lock().unwrap().faults = vec![Fault::None, Fault::Fails(0)];
        bench.append(&[2]);
    }
    assert_eq!(bench.storage.list().unwrap(), [0]);
    bench.storage.0.lock().unwrap().faults.clear();
    bench.append(&[3]);
    assert_eq!(bench.owed.len(), 2);
}

/// The bound is of bytes on the disk, and room comes back when segments are replayed.
#[test]
fn a_full_log_refuses_and_takes_again_once_replayed() {
    let mut bench = Bench::new();
    let mut batch = Vec::new();
    Record { spooled_at: 1, dead: false, key: &[0; 8], value: &[7; 1000] }.write(&mut batch);
    let taken = (0..10).take_while(|_| bench.log.append(&batch).is_ok()).count();
    assert_eq!(taken, 3);
    let to = bench.log.peek(1, None, |_, _| ()).unwrap().unwrap();
    bench.log.advance(to).unwrap();
    assert!(bench.log.append(&batch).is_ok());
}

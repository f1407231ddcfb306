//! The log held against a model, on a disk that fails and forgets.
//!
//! The disk keeps for each segment what was written and how much of it is synced. It can be told to fail: an append
//! then leaves a part of its bytes, a sync leaves them unsynced and may drop them, a read gives nothing. A crash keeps what is synced and any
//! part of the rest, possibly with damage in it, and loses segments only that were not made durable. Somebody may take a
//! whole segment away, also one that is being written.
//!
//! The model is a list of obligations: each batch that was acknowledged, in order, until it was advanced over or its
//! segment was taken away. After every crash the log must give all obligations, in order; between them only batches that were written and not
//! acknowledged may stand.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::handed::Fate;
use super::storage::Segment;
use super::*;

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    synced: usize,
}

#[derive(Debug, Default)]
struct Disk {
    segments: BTreeMap<u64, Content>,
    position: Option<String>,
    /// How the next operations go: one is taken for each.
    faults: Vec<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The operation fails, an append after so many bytes.
    Fails(usize),
}

impl Disk {
    fn next(&mut self) -> Fault {
        self.faults.pop().unwrap_or(Fault::None)
    }

    fn fail(&mut self) -> io::Result<()> {
        match self.next() {
            Fault::None => Ok(()),
            Fault::Fails(_) => Err(io::Error::from(io::ErrorKind::StorageFull)),
        }
    }

    /// Keeps what is synced, and `kept` bytes of the rest, one of them damaged where there is room for it.
    fn crash(&mut self, kept: usize, damage: Option<usize>) {
        for content in self.segments.values_mut() {
            let unsynced = content.bytes.len() - content.synced;
            content.bytes.truncate(content.synced + kept.min(unsynced));
            if let Some(at) = damage.filter(|at| content.synced + at < content.bytes.len()) {
                content.bytes[content.synced + at] ^= 0x55;
            }
            content.synced = content.bytes.len();
        }
        self.faults.clear();
    }
}

#[derive(Debug, Clone, Default)]
struct FaultyStorage(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct FaultySegment(Arc<Mutex<Disk>>, u64);

impl Storage for FaultyStorage {
    type Segment = FaultySegment;

    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.0.lock().unwrap().segments.keys().copied().collect())
    }

    fn create(&self, number: u64) -> io::Result<FaultySegment> {
        let mut disk = self.0.lock().unwrap();
        // A failed creation may have made the file all the same.
        let made = disk.segments.insert(number, Content::default());
        assert!(made.is_none(), "segment {number} was there already");
        disk.fail()?;
        Ok(FaultySegment(Arc::clone(&self.0), number))
    }

    fn read(&self, number: u64, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let mut disk = self.0.lock().unwrap();
        disk.fail()?;
        let content = disk.segments.get(&number).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let bytes = &content.bytes[offset as usize..];
        Ok(bytes[..bytes.len().min(most)].to_vec())
    }

    fn remove(&self, number: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.fail()?;
        disk.segments.remove(&number).map(|_| ()).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn set_aside(&self, number: u64) -> io::Result<()> {
        self.remove(number)
    }

    fn keep_position(&self, position: &str) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.fail()?;
        disk.position = Some(position.to_owned());
        Ok(())
    }

    fn position(&self) -> Option<String> {
        self.0.lock().unwrap().position.clone()
    }
}

impl Segment for FaultySegment {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let fault = disk.next();
        // A file that has no name any more takes everything, and nobody will ever read it.
        let mut gone = Content::default();
        let content = &mut disk.segments.get_mut(&self.1).unwrap_or(&mut gone).bytes;
        match fault {
            Fault::None => content.extend_from_slice(bytes),
            Fault::Fails(after) => {
                content.extend_from_slice(&bytes[..after.min(bytes.len())]);
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let fault = disk.next();
        if fault != Fault::None {
            return Err(io::Error::other("lost write"));
        }
        if let Some(content) = disk.segments.get_mut(&self.1) {
            content.synced = content.bytes.len();
        }
        Ok(())
    }
}

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
    ];
    prop::collection::vec(step, 1..60)
}

/// The log, the disk under it, and what it owes.
struct Bench {
    storage: FaultyStorage,
    log: Log<FaultyStorage>,
    /// Numbers of acknowledged records that were not advanced over, in order.
    owed: Vec<u64>,
    /// Segment of each record that was acknowledged.
    segments: HashMap<u64, u64>,
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
        Self { storage, log, owed: Vec::new(), segments: HashMap::new(), next: 0 }
    }

    fn append(&mut self, sizes: &[usize]) {
        let (mut batch, first) = (Vec::new(), self.next);
        for size in sizes {
            let (key, value) = (self.next.to_le_bytes(), vec![7; *size]);
            Record { spooled_at: 1, dead: false, key: &key, value: &value }.write(&mut batch);
            self.next += 1;
        }
        if let Ok(Position { segment, .. }) = self.log.append(&batch) {
            self.segments.extend((first..self.next).map(|number| (number, segment)));
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
            Err(error) => {
                assert_ne!(error.kind(), io::ErrorKind::InvalidData, "what is whole was taken for damaged");
                return true;
            }
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
                self.storage.0.lock().unwrap().crash(*kept, *damage);
                self.open();
            }
            Deed::Disk(faults) => self.storage.0.lock().unwrap().faults.clone_from(faults),
            Deed::Take(which) => self.take(which),
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
        self.owed.retain(|number| self.segments[number] != taken);
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

fn spool() -> (Shared<FaultyStorage>, FaultyStorage) {
    let storage = FaultyStorage::default();
    let settings = Settings { path: PathBuf::new(), bytes: 4000, age: Duration::from_secs(3600) };
    let spool = Shared {
        log: Mutex::new(Log::open(storage.clone(), BOUNDS, |_, _| ()).unwrap()),
        pending: Mutex::default(),
        handed: Mutex::default(),
        unanswered: AtomicBool::new(false),
        hasher: RandomState::new(),
        settings,
        metrics: Arc::new(Metrics::new().unwrap()),
        health: Health::waiting_for(&[]),
    };
    (spool, storage)
}

fn put(spool: &Shared<FaultyStorage>, key: &[u8]) {
    put_handed(spool, key, None);
}

fn put_handed(spool: &Shared<FaultyStorage>, key: &[u8], handover: Option<Arc<dyn Handover>>) {
    let (mut bytes, keys) = (Vec::new(), vec![spool.hasher.hash_one(key)]);
    Record { spooled_at: 1000, dead: false, key, value: &[7; 300] }.write(&mut bytes);
    lock(&spool.pending).enter(&keys);
    let (done, _) = oneshot::channel();
    assert!(spool.commit(Append { bytes, keys, handover, done }, &channel().1));
}

/// As when descriptors run out: the segment is whole.
#[test]
fn a_disk_that_does_not_answer_sets_nothing_aside() {
    let (spool, storage) = spool();
    put(&spool, b"a");
    for _ in 0..3 {
        storage.0.lock().unwrap().faults = vec![Fault::Fails(0)];
        assert!(spool.next_step(1000).is_none());
    }
    assert_eq!(spool.metrics.spool_unreadable.get(), 0);
    let step = spool.next_step(1000).unwrap();
    assert_eq!(step.messages.len(), 1);
    spool.published(step);
    assert!(lock(&spool.pending).is_empty());
}

#[test]
fn a_damaged_segment_is_set_aside_and_its_visitors_wait_no_more() {
    let (spool, storage) = spool();
    // One segment each.
    for key in [b"a", b"b", b"c"] {
        put(&spool, key);
    }
    storage.0.lock().unwrap().segments.get_mut(&0).unwrap().bytes[20] ^= 1;
    // Renaming fails at first; that does not make the next segment the damaged one.
    storage.0.lock().unwrap().faults = vec![Fault::Fails(0), Fault::None];
    assert!(spool.next_step(1000).is_none());
    assert_eq!((spool.metrics.spool_unreadable.get(), storage.list().unwrap().len()), (0, 3));
    assert!(spool.next_step(1000).is_none());
    assert_eq!((spool.metrics.spool_unreadable.get(), storage.list().unwrap()), (1, vec![1, 2]));
    assert_eq!(spool.metrics.spool_lost.get(), 1);
    let waits = |key: &[u8]| lock(&spool.pending).holds(spool.hasher.hash_one(key));
    assert!(!waits(b"a") && waits(b"b") && waits(b"c"));
    for key in [b"b", b"c"] {
        let step = spool.next_step(1000).unwrap();
        assert_eq!(step.messages[0].1, key);
        spool.published(step);
    }
    assert!(lock(&spool.pending).is_empty() && spool.next_step(1000).is_none());
}

/// The others are published, and hits of its visitors go to Kafka again.
#[test]
fn a_segment_that_is_gone_is_lost_and_holds_nobody_up() {
    let (spool, storage) = spool();
    for key in [b"a", b"b", b"a", b"c"] {
        put(&spool, key);
    }
    assert_eq!(storage.list().unwrap(), [0, 1, 2, 3]);
    storage.remove(0).unwrap();
    assert!(spool.next_step(1000).is_none());
    let waits = |key: &[u8]| lock(&spool.pending).holds(spool.hasher.hash_one(key));
    assert!(waits(b"a") && waits(b"b") && waits(b"c"), "one of a's is left");
    let step = spool.next_step(1000).unwrap();
    assert_eq!(step.messages[0].1, b"b");
    // It goes while it is on its way.
    storage.remove(1).unwrap();
    spool.published(step);
    storage.remove(2).unwrap();
    assert!(spool.next_step(1000).is_none());
    assert!(!waits(b"a") && !waits(b"b"));
    // The one that is being written.
    storage.remove(3).unwrap();
    assert!(spool.next_step(1000).is_none());
    put(&spool, b"d");
    assert_eq!(storage.list().unwrap(), [4]);
    let step = spool.next_step(1000).unwrap();
    assert_eq!(step.messages[0].1, b"d");
    spool.published(step);
    let Metrics { spool_lost, spool_published, spool_unreadable, spool_bytes, .. } = &*spool.metrics;
    assert_eq!((spool_lost.get(), spool_published.get(), spool_unreadable.get()), (3, 2, 0));
    assert_eq!(spool_bytes.get(), 0);
    assert!(lock(&spool.pending).is_empty());
}

#[derive(Debug)]
struct Client(Mutex<Fate>);

impl Handover for Client {
    fn fate(&self) -> Fate {
        *self.0.lock().unwrap()
    }
}

/// Nothing of a record's visitor passes it, and what is behind it waits.
#[test]
fn what_kafkas_client_has_too_waits_for_its_fate_and_is_published_only_if_it_failed() {
    let (spool, _) = spool();
    let clients = [(); 3].map(|()| Arc::new(Client(Mutex::new(Fate::Open))));
    let tell = |client: usize, fate| *clients[client].0.lock().unwrap() = fate;
    put(&spool, b"a");
    for (key, client) in [b"b", b"c", b"d"].into_iter().zip(&clients) {
        put_handed(&spool, key, Some(Arc::<Client>::clone(client)));
    }
    put(&spool, b"e");
    let mut published = Vec::new();
    let mut replay = || {
        while let Some(step) = spool.next_step(1000) {
            published.extend(step.messages.iter().map(|(_, key, _)| key[0]));
            spool.published(step);
        }
        String::from_utf8(published.clone()).unwrap()
    };
    tell(1, Fate::Stored);
    assert_eq!(replay(), "a");
    let waits = |key: &[u8]| lock(&spool.pending).holds(spool.hasher.hash_one(key));
    assert!(!waits(b"a") && waits(b"b") && waits(b"c") && waits(b"e"));
    tell(0, Fate::Failed);
    assert_eq!(replay(), "ab");
    assert!(!waits(b"c") && waits(b"d"));
    tell(2, Fate::Stored);
    assert_eq!(replay(), "abe");
    assert_eq!(spool.metrics.spool_published.get(), 5);
    assert!(lock(&spool.pending).is_empty() && spool.metrics.spool_bytes.get() == 0);
}

/// Several records of one request, between those of others that were written with them.
#[test]
fn a_request_is_passed_over_whole_and_nothing_beside_it() {
    let (spool, _) = spool();
    let append = |keys: &[&[u8]], handover: Option<Arc<dyn Handover>>| {
        let mut bytes = Vec::new();
        for key in keys {
            Record { spooled_at: 1000, dead: false, key, value: b"a hit" }.write(&mut bytes);
        }
        let keys: Vec<u64> = keys.iter().map(|key| spool.hasher.hash_one(*key)).collect();
        lock(&spool.pending).enter(&keys);
        Append { bytes, keys, handover, done: oneshot::channel().0 }
    };
    let stored: Arc<dyn Handover> = Arc::new(Fate::Stored);
    let (waits, waiting) = channel();
    waits.send(append(&[b"b", b"c"], Some(Arc::clone(&stored)))).unwrap();
    waits.send(append(&[b"d", b"e"], None)).unwrap();
    waits.send(append(&[b"f"], Some(Arc::new(Fate::Failed)))).unwrap();
    waits.send(append(&[b"g"], Some(stored))).unwrap();
    assert!(spool.commit(append(&[b"a"], None), &waiting));
    let step = spool.next_step(1000).unwrap();
    let published: Vec<u8> = step.messages.iter().map(|(_, key, _)| key[0]).collect();
    assert_eq!((published.as_slice(), step.stored), (&b"adef"[..], 3));
    spool.published(step);
    assert!(lock(&spool.pending).is_empty() && spool.next_step(1000).is_none());
}

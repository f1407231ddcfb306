//! Replay from a disk that fails and forgets ([`super::faulty`]): what is published, passed over, given up, and who waits.

use super::faulty::{Fault, FaultyStorage};
use super::handed::Fate;
use super::*;

const BOUNDS: Bounds = Bounds { bytes: 4000, segment_bytes: 300 };

fn spool() -> (Shared<FaultyStorage>, FaultyStorage) {
    let storage = FaultyStorage::default();
    (spool_on(&storage), storage)
}

fn spool_on(storage: &FaultyStorage) -> Shared<FaultyStorage> {
    let settings = Settings { path: PathBuf::new(), bytes: 4000, age: Duration::from_secs(3600) };
    let (hasher, mut pending) = (RandomState::new(), Pending::default());
    let log = Log::open(storage.clone(), BOUNDS, |segment, record| enter(&mut pending, &hasher, segment, record));
    Shared {
        log: Mutex::new(log.unwrap()),
        pending: Mutex::new(pending),
        handed: Mutex::default(),
        unanswered: AtomicBool::new(false),
        hasher,
        settings,
        metrics: Arc::new(Metrics::new().unwrap()),
        health: Health::waiting_for(&[]),
    }
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

/// All records of this stand in one segment.
fn put_together(spool: &Shared<FaultyStorage>, all: &[&[u8]]) {
    let (mut bytes, mut keys) = (Vec::new(), Vec::new());
    for key in all {
        Record { spooled_at: 1000, dead: false, key, value: b"a hit" }.write(&mut bytes);
        keys.push(spool.hasher.hash_one(*key));
    }
    lock(&spool.pending).enter(&keys);
    let (done, _) = oneshot::channel();
    assert!(spool.commit(Append { bytes, keys, handover: None, done }, &channel().1));
}

/// Whether it happens while the process runs that wrote them, or is found at a start.
#[test]
fn what_is_whole_beside_damage_is_published_and_the_rest_is_counted_and_kept_aside() {
    for is_restarted in [false, true] {
        let (mut spool, storage) = spool();
        put_together(&spool, &[b"a", b"b", b"c", b"d", b"e"]);
        for damaged in [1, 3] {
            storage.0.lock().unwrap().damage(0, damaged * (8 + 13 + 1 + 5) + 20);
        }
        if is_restarted {
            spool = spool_on(&storage);
        }
        let mut published = Vec::new();
        while !storage.list().unwrap().is_empty() {
            if let Some(step) = spool.next_step(1000) {
                published.extend(step.messages.iter().map(|(_, key, _)| key[0]));
                spool.published(step);
            }
        }
        assert_eq!(published, b"ace");
        let Metrics { spool_lost, spool_published, spool_unreadable, spool_bytes, .. } = &*spool.metrics;
        assert_eq!((spool_lost.get(), spool_published.get(), spool_unreadable.get()), (2, 3, 1));
        assert_eq!((storage.0.lock().unwrap().aside.as_slice(), spool_bytes.get()), (&[0][..], 0));
        assert!(lock(&spool.pending).is_empty());
    }
}

/// A file system may leave zeros where much was synced.
#[test]
fn damage_may_be_long() {
    let (storage, bounds) = (FaultyStorage::default(), Bounds { bytes: 1 << 30, segment_bytes: 1 << 30 });
    let mut log = Log::open(storage.clone(), bounds, |_, _| ()).unwrap();
    for (key, size) in [(b"a", 1), (b"b", 700_000), (b"c", 700_000), (b"d", 1)] {
        let mut bytes = Vec::new();
        Record { spooled_at: 1, dead: false, key, value: &vec![7; size] }.write(&mut bytes);
        log.append(&bytes).unwrap();
    }
    let first = 8 + 13 + 1 + 1;
    storage.0.lock().unwrap().segments.get_mut(&0).unwrap().bytes[first..first + 1_400_000].fill(0);
    let mut seen = Vec::new();
    Log::open(storage, bounds, |_, record| seen.push(record.key[0])).unwrap();
    assert_eq!(seen, b"ad");
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

#[test]
fn what_kafkas_client_has_stored_at_the_end_is_not_published_by_the_next_process() {
    let (spool, storage) = spool();
    let stored = || Some(Arc::new(Fate::Stored) as Arc<dyn Handover>);
    for (key, handover) in
        [(b"a", stored()), (b"b", stored()), (b"c", Some(Arc::new(Fate::Open) as _)), (b"d", stored())]
    {
        put_handed(&spool, key, handover);
    }
    spool.forget_stored();
    let mut left = Vec::new();
    Log::open(storage.clone(), BOUNDS, |_, record| left.push(record.key.to_vec())).unwrap();
    // What is behind one whose fate is not known stays with it.
    assert_eq!(left, [b"c", b"d"]);
    assert_eq!(storage.list().unwrap(), [2, 3]);
    // Replay that was under way ends late, and does not turn back.
    let to = Position { segment: 0, offset: 1 };
    spool.published(Step { messages: Vec::new(), stored: 0, expired: 0, keys: Vec::new(), to });
    assert_eq!(lock(&spool.log).front(), Position { segment: 2, offset: 0 });
}

#[tokio::test]
async fn a_clock_that_is_put_ahead_expires_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { path: folder.path().to_owned(), bytes: 4000, age: Duration::from_secs(3600) };
    let spool = Spool::start(settings, Arc::new(Metrics::new().unwrap()), Health::waiting_for(&[])).unwrap();
    spool.append([(false, &b"a"[..], &b"a hit"[..])].into_iter(), None).await.unwrap();
    let step = spool.step_told(now_milliseconds() + 100 * 3_600_000).unwrap();
    assert_eq!((step.messages.len(), step.expired), (1, 0));
}

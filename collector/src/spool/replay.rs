//! Replay from a disk that fails and forgets ([`super::faulty`]): what is published, passed over, given up, and who waits.

use super::faulty::{Fault, FaultyStorage};
use super::handed::Fate;
use super::*;

const BOUNDS: Bounds = Bounds { bytes: 4000, segment_bytes: 300 };

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

//! The spool: takes hits while Kafka does not, on local disk, and gives them to Kafka in order when it is back.
//!
//! ```text
//! requests ── append ──> writer thread ── one write, one fsync for all that wait ──> segments ──> replay ──> Kafka
//! ```
//!
//! * [`record`] is one message on the disk, with its checksum; [`log`] appends, reads and forgets them, and says why
//!   nothing acknowledged is lost; [`storage`] is the folder they lie in.
//! * Requests that wait at the same time share one fsync (group commit), and are answered only after it.
//! * **Order**: all hits of a visitor that come while one of that visitor is still here are spooled behind it
//!   ([`Spool::holds`]); hits of other visitors go straight to Kafka meanwhile. So the spool empties even under load.
//! * **Once**: what Kafka's client was given before it was spooled waits here until the client says what became of it, and is
//!   then passed over or published ([`handed`]).
//! * **Bounds**: bytes on disk, and age: what is older when its turn comes is not published any more, but counted. A clock
//!   that is put ahead meanwhile makes nothing older (`clock`).
//! * **Full disk**: the requests get 503 and the collector is not ready; the writer tries the disk each second, and is
//!   ready again when it takes a record.

mod clock;
pub mod handed;
pub mod log;
mod pending;
pub mod record;
pub mod storage;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use service::health::Health;
use tokio::sync::oneshot;

use crate::SPOOL;
use crate::assemble::now_milliseconds;
use crate::metrics::Metrics;
use clock::Clock;
use handed::{Handed, Handover};
use log::{AppendError, Bounds, Damage, Log, Position};
use pending::Pending;
use record::Record;
use storage::{Folder, Storage};

/// Most bytes of one group commit.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// Bytes that are read for one step of replay.
const REPLAY_BYTES: usize = 1024 * 1024;
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Why the spool can't be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the spool in {}: {cause}; give a folder of this collector's own with --spool", path.display())]
pub struct SpoolError {
    /// The folder.
    pub path: PathBuf,
    /// What the disk says.
    pub cause: io::Error,
}

/// A batch was not taken: the spool is full, or its disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

/// How a spool is used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder.
    pub path: PathBuf,
    /// Most bytes in it.
    pub bytes: u64,
    /// What is older is not published any more.
    pub age: Duration,
}

struct Append {
    bytes: Vec<u8>,
    keys: Vec<u64>,
    handover: Option<Arc<dyn Handover>>,
    done: oneshot::Sender<Result<(), Refused>>,
}

/// A step of replay: records that were read, to be published in this order.
#[derive(Debug)]
pub struct Step {
    /// Whether it goes to hits.dead, its key and its value.
    pub messages: Vec<(bool, Vec<u8>, Vec<u8>)>,
    /// Records between them that Kafka's client has stored.
    pub stored: u64,
    /// Records that are too old.
    pub expired: u64,
    keys: Vec<u64>,
    to: Position,
}

/// What the writer, replay and requests share.
struct Shared<S: Storage> {
    log: Mutex<Log<S>>,
    /// Records that are in the log or on their way to it. Where both locks are held, the log's was taken first.
    pending: Mutex<Pending>,
    /// Records that are with Kafka's client as well. Where the log's lock is held too, that was taken first.
    handed: Mutex<Handed>,
    /// True while the disk does not answer: said once, not with each attempt.
    unanswered: AtomicBool,
    hasher: RandomState,
    settings: Settings,
    metrics: Arc<Metrics>,
    health: Health,
}

/// A spool. Cheap to clone; all clones are one. When the last is dropped, the writer ends.
#[derive(Clone)]
pub struct Spool {
    appends: Sender<Append>,
    clock: Clock,
    shared: Arc<Shared<Folder>>,
}

impl std::fmt::Debug for Spool {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Spool").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spool {
    /// Opens the spool, reads what an earlier process left in it, and starts the writer.
    ///
    /// # Errors
    /// Where the folder can't be read or written, or another process uses it.
    pub fn start(settings: Settings, metrics: Arc<Metrics>, health: Health) -> Result<Self, SpoolError> {
        let failed = |cause| SpoolError { path: settings.path.clone(), cause };
        let (hasher, mut pending) = (RandomState::new(), Pending::default());
        let bounds = Bounds { bytes: settings.bytes, segment_bytes: SEGMENT_BYTES.min(settings.bytes / 4).max(1) };
        let folder = Folder::open(&settings.path).map_err(failed)?;
        let log = Log::open(folder, bounds, |segment, record| enter(&mut pending, &hasher, segment, record));
        let log = log.map_err(failed)?;
        tracing::info!(bytes = log.bytes(), visitors = pending.visitors(), "spool opened");
        let (appends, waiting) = channel();
        metrics.spool_bytes.set(log.bytes() as i64);
        let shared = Arc::new(Shared {
            log: Mutex::new(log),
            pending: Mutex::new(pending),
            handed: Mutex::default(),
            unanswered: AtomicBool::new(false),
            hasher,
            settings,
            metrics,
            health,
        });
        let writing = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || writing.write(&waiting))
            .map_err(|cause| SpoolError { path: shared.settings.path.clone(), cause })?;
        shared.health.met(SPOOL);
        Ok(Self { appends, clock: Clock::start(now_milliseconds()), shared })
    }

    /// True where a hit under this key has to be spooled, since one before it still is.
    #[must_use]
    pub fn holds(&self, key: &[u8]) -> bool {
        let pending = lock(&self.shared.pending);
        !pending.is_empty() && pending.holds(self.shared.hasher.hash_one(key))
    }

    /// Appends messages (whether to hits.dead, key, value), and returns once they are on the disk. Where Kafka's client
    /// was given them before, `handover` tells what becomes of that.
    ///
    /// # Errors
    /// Where the spool is full or its disk fails: then they may be lost.
    pub async fn append<'m>(
        &self,
        messages: impl Iterator<Item = (bool, &'m [u8], &'m [u8])>,
        handover: Option<Arc<dyn Handover>>,
    ) -> Result<(), Refused> {
        let (mut bytes, mut keys) = (Vec::new(), Vec::new());
        let spooled_at = now_milliseconds();
        for (dead, key, value) in messages {
            Record { spooled_at, dead, key, value }.write(&mut bytes);
            keys.push(self.shared.hasher.hash_one(key));
        }
        lock(&self.shared.pending).enter(&keys);
        let (done, durable) = oneshot::channel();
        // The writer lives as long as this does; were it gone, the answer would not come either.
        let _ = self.appends.send(Append { bytes, keys, handover, done });
        durable.await.unwrap_or(Err(Refused))
    }

    /// True when everything is published.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        lock(&self.shared.pending).is_empty()
    }

    /// What is to be published next; nothing when the spool is empty.
    #[must_use]
    pub fn next_step(&self) -> Option<Step> {
        self.step_told(now_milliseconds())
    }

    /// That, where the machine's clock says so.
    fn step_told(&self, told: i64) -> Option<Step> {
        self.shared.next_step(self.clock.now(told))
    }

    /// Forgets what stands in front and is stored by Kafka's client: a later process, which does not know that, would publish
    /// it again. For the end, when nothing is spooled or published any more.
    pub fn forget_stored(&self) {
        self.shared.forget_stored();
    }

    /// Says that Kafka has acknowledged the messages of a step.
    pub fn published(&self, step: Step) {
        self.shared.published(step);
    }
}

/// A record that an earlier process left.
fn enter(pending: &mut Pending, hasher: &RandomState, segment: u64, record: &Record<'_>) {
    let key = [hasher.hash_one(record.key)];
    pending.enter(&key);
    pending.written(segment, &key);
}

impl<S: Storage> Shared<S> {
    fn write(&self, waiting: &Receiver<Append>) {
        let mut failing = false;
        loop {
            match waiting.recv_timeout(TRY_AGAIN) {
                Ok(first) => failing = !self.commit(first, waiting),
                Err(RecvTimeoutError::Timeout) if failing => failing = !self.probe(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Writes what waits, up to a bound, with one fsync. True when the disk took it.
    fn commit(&self, first: Append, waiting: &Receiver<Append>) -> bool {
        let (mut batch, mut group) = (Vec::new(), vec![first]);
        let mut bytes = group[0].bytes.len();
        while bytes < GROUP_BYTES
            && let Ok(next) = waiting.try_recv()
        {
            bytes += next.bytes.len();
            group.push(next);
        }
        group.iter().for_each(|append| batch.extend_from_slice(&append.bytes));
        let timer = self.metrics.spool_commit_seconds.start_timer();
        let result = self.append(&batch, &group);
        timer.observe_duration();
        for append in group {
            if result.is_err() {
                lock(&self.pending).refused(&append.keys);
            }
            // The request may have gone away.
            let _ = append.done.send(result);
        }
        result.is_ok()
    }

    fn append(&self, batch: &[u8], group: &[Append]) -> Result<(), Refused> {
        let mut log = lock(&self.log);
        let result = log.append(batch);
        if let Ok(at) = result {
            // Before replay may read them.
            self.note_written(at, group);
        }
        self.metrics.spool_bytes.set(log.bytes() as i64);
        drop(log);
        match result {
            Ok(_) => {
                self.health.met(SPOOL);
                Ok(())
            }
            Err(error) => {
                if let AppendError::Disk(cause) = &error {
                    tracing::error!(%cause, "the spool's disk fails");
                }
                self.health.unmet(SPOOL, error.to_string());
                Err(Refused)
            }
        }
    }

    fn note_written(&self, mut at: Position, group: &[Append]) {
        let (mut pending, mut handed) = (lock(&self.pending), lock(&self.handed));
        for append in group {
            pending.written(at.segment, &append.keys);
            let end = Position { offset: at.offset + append.bytes.len() as u64, ..at };
            if let Some(handover) = &append.handover {
                handed.add(at, end, Arc::clone(handover));
            }
            at = end;
        }
    }

    fn probe(&self) -> bool {
        let mut probe = Vec::new();
        record::write_probe(&mut probe);
        // A full spool that replay has not made room in stays full for hits as well.
        let room = lock(&self.log).bytes() <= self.settings.bytes / 10 * 9;
        room && self.append(&probe, &[]).is_ok()
    }

    fn next_step(&self, now: i64) -> Option<Step> {
        let oldest = now - i64::try_from(self.settings.age.as_millis()).unwrap_or(i64::MAX);
        let (mut messages, mut keys, mut stored, mut expired) = (Vec::new(), Vec::new(), 0, 0);
        let mut log = lock(&self.log);
        let handed = lock(&self.handed);
        let read = log.peek(REPLAY_BYTES, handed.first_open(), |at, record| {
            keys.push(self.hasher.hash_one(record.key));
            if handed.is_stored(at) {
                stored += 1;
            } else if record.spooled_at < oldest {
                expired += 1;
            } else {
                messages.push((record.dead, record.key.to_vec(), record.value.to_vec()));
            }
        });
        drop(handed);
        if let Err(error) = &read {
            self.cannot_read(&mut log, error);
        } else {
            self.unanswered.store(false, Ordering::Relaxed);
        }
        read.ok().flatten().map(|to| Step { messages, stored, expired, keys, to })
    }

    /// A segment that is gone, and bytes that are not what was written, will never be read and are given up; any other fault may
    /// pass.
    fn cannot_read(&self, log: &mut Log<S>, error: &io::Error) {
        let is_news = !self.unanswered.swap(true, Ordering::Relaxed);
        match error.kind() {
            io::ErrorKind::NotFound => {
                let Some(segment) = log.forget_front() else { return };
                let (file, hits) = (self.file(segment), self.give_up(log, segment));
                tracing::error!(%error, file, hits, "a spool file is gone, its hits are lost; if it was moved away, put it back and start the collector again");
            }
            io::ErrorKind::InvalidData => match log.pass_damage() {
                Ok(Some(damage)) => self.passed(log, damage),
                Ok(None) => {}
                Err(error) if is_news => {
                    tracing::error!(%error, "a damaged spool file can't be read or set aside; tried again")
                }
                Err(_) => {}
            },
            _ if is_news => tracing::error!(%error, "the spool's disk can't be read now; replay tries it again"),
            _ => {}
        }
    }

    fn passed(&self, log: &Log<S>, damage: Damage) {
        let file = self.file(damage.segment);
        self.metrics.spool_unreadable.inc_by(u64::from(damage.is_first));
        if damage.goes_on {
            lock(&self.handed).forget(log.front());
            self.unanswered.store(false, Ordering::Relaxed);
            // At least one.
            self.metrics.spool_lost.inc_by(u64::from(damage.is_inherited));
            tracing::error!(
                file,
                "hits in a spool file can't be read; those behind them are published, and it is kept as .damaged"
            );
        } else {
            let hits = self.give_up(log, damage.segment);
            tracing::error!(file, hits, "the rest of a spool file can't be read; it is set aside as .damaged");
        }
    }

    fn file(&self, segment: u64) -> String {
        self.settings.path.join(storage::file_name(segment)).display().to_string()
    }

    /// Counts what is lost with a segment of which nothing is published any more; says how many hits.
    fn give_up(&self, log: &Log<S>, segment: u64) -> u64 {
        let lost = lock(&self.pending).lost(segment);
        lock(&self.handed).forget(Position { segment: segment + 1, offset: 0 });
        self.metrics.spool_lost.inc_by(lost);
        self.metrics.spool_bytes.set(log.bytes() as i64);
        self.unanswered.store(false, Ordering::Relaxed);
        lost
    }

    fn forget_stored(&self) {
        let (mut log, handed) = (lock(&self.log), lock(&self.handed));
        while let Some(to) = handed.stored_until(log.front()) {
            if let Err(error) = log.advance(to) {
                tracing::warn!(%error, "cannot forget what is published from the spool; the next start publishes it again");
                return;
            }
        }
    }

    fn published(&self, step: Step) {
        let mut log = lock(&self.log);
        if let Err(error) = log.advance(step.to) {
            tracing::warn!(%error, "cannot forget what was published from the spool; a restart would publish it again");
        }
        self.metrics.spool_bytes.set(log.bytes() as i64);
        let front = log.front();
        drop(log);
        lock(&self.handed).forget(step.to);
        self.metrics.spool_published.inc_by(step.messages.len() as u64 + step.stored);
        self.metrics.spool_expired.inc_by(step.expired);
        let mut pending = lock(&self.pending);
        pending.published(step.to.segment, &step.keys);
        // What is left of segments that replay is through with was damaged and passed over.
        self.metrics.spool_lost.inc_by(pending.lost_before(front.segment));
    }
}

#[cfg(test)]
mod faulty;
#[cfg(test)]
mod model;
#[cfg(test)]
mod replay;

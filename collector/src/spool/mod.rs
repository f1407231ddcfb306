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
//! * **Bounds**: bytes on disk, and age: what is older when its turn comes is not published any more, but counted.
//! * **Full disk**: the requests get 503 and the collector is not ready; the writer tries the disk each second, and is
//!   ready again when it takes a record.

pub mod log;
pub mod record;
pub mod storage;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use service::health::Health;
use tokio::sync::oneshot;

use crate::SPOOL;
use crate::assemble::now_milliseconds;
use crate::metrics::Metrics;
use log::{AppendError, Bounds, Log, Position};
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
    done: oneshot::Sender<Result<(), Refused>>,
}

/// A step of replay: records that were read, to be published in this order.
#[derive(Debug)]
pub struct Step {
    /// Whether it goes to hits.dead, its key and its value.
    pub messages: Vec<(bool, Vec<u8>, Vec<u8>)>,
    /// Records that are too old.
    pub expired: u64,
    keys: Vec<u64>,
    to: Position,
}

/// What the writer, replay and requests share.
struct Shared<S: Storage> {
    log: Mutex<Log<S>>,
    /// Records of each key that are in the log or on their way to it.
    pending: Mutex<HashMap<u64, u32>>,
    hasher: RandomState,
    settings: Settings,
    metrics: Arc<Metrics>,
    health: Health,
}

/// A spool. Cheap to clone; all clones are one. When the last is dropped, the writer ends.
#[derive(Clone)]
pub struct Spool {
    appends: Sender<Append>,
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
        let (hasher, mut pending) = (RandomState::new(), HashMap::new());
        let bounds = Bounds { bytes: settings.bytes, segment_bytes: SEGMENT_BYTES.min(settings.bytes / 4).max(1) };
        let folder = Folder::open(&settings.path).map_err(failed)?;
        let log = Log::open(folder, bounds, |record| *pending.entry(hasher.hash_one(record.key)).or_insert(0) += 1)
            .map_err(failed)?;
        if !log.suspect().is_empty() {
            tracing::warn!(segments = ?log.suspect(), "spool segments hold bytes that can't be read; they are kept as .damaged");
        }
        tracing::info!(bytes = log.bytes(), visitors = pending.len(), "spool opened");
        let (appends, waiting) = channel();
        metrics.spool_bytes.set(log.bytes() as i64);
        let shared =
            Arc::new(Shared { log: Mutex::new(log), pending: Mutex::new(pending), hasher, settings, metrics, health });
        let writing = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("spool".to_owned())
            .spawn(move || writing.write(&waiting))
            .map_err(|cause| SpoolError { path: shared.settings.path.clone(), cause })?;
        shared.health.met(SPOOL);
        Ok(Self { appends, shared })
    }

    /// True where a hit under this key has to be spooled, since one before it still is.
    #[must_use]
    pub fn holds(&self, key: &[u8]) -> bool {
        let pending = lock(&self.shared.pending);
        !pending.is_empty() && pending.contains_key(&self.shared.hasher.hash_one(key))
    }

    /// Appends messages (whether to hits.dead, key, value), and returns once they are on the disk.
    ///
    /// # Errors
    /// Where the spool is full or its disk fails: then they may be lost.
    pub async fn append<'m>(&self, messages: impl Iterator<Item = (bool, &'m [u8], &'m [u8])>) -> Result<(), Refused> {
        let (mut bytes, mut keys) = (Vec::new(), Vec::new());
        let spooled_at = now_milliseconds();
        for (dead, key, value) in messages {
            Record { spooled_at, dead, key, value }.write(&mut bytes);
            keys.push(self.shared.hasher.hash_one(key));
        }
        self.shared.enter(&keys);
        let (done, durable) = oneshot::channel();
        // The writer lives as long as this does; were it gone, the answer would not come either.
        let _ = self.appends.send(Append { bytes, keys, done });
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
        self.shared.next_step(now_milliseconds())
    }

    /// Says that Kafka has acknowledged a step.
    pub fn published(&self, step: Step) {
        self.shared.published(step);
    }
}

impl<S: Storage> Shared<S> {
    fn enter(&self, keys: &[u64]) {
        let mut pending = lock(&self.pending);
        for key in keys {
            *pending.entry(*key).or_insert(0) += 1;
        }
    }

    fn leave(&self, keys: &[u64]) {
        let mut pending = lock(&self.pending);
        for key in keys {
            if let Some(count) = pending.get_mut(key) {
                *count -= 1;
                if *count == 0 {
                    pending.remove(key);
                }
            }
        }
        // A long outage must not leave its memory behind.
        if pending.is_empty() {
            pending.shrink_to_fit();
        }
    }

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
        let result = self.append(&batch);
        timer.observe_duration();
        for append in group {
            if result.is_err() {
                self.leave(&append.keys);
            }
            // The request may have gone away.
            let _ = append.done.send(result);
        }
        result.is_ok()
    }

    fn append(&self, batch: &[u8]) -> Result<(), Refused> {
        let mut log = lock(&self.log);
        let result = log.append(batch);
        self.metrics.spool_bytes.set(log.bytes() as i64);
        drop(log);
        match result {
            Ok(()) => {
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

    fn probe(&self) -> bool {
        let mut probe = Vec::new();
        record::write_probe(&mut probe);
        // A full spool that replay has not made room in stays full for hits as well.
        let room = lock(&self.log).bytes() <= self.settings.bytes / 10 * 9;
        room && self.append(&probe).is_ok()
    }

    fn next_step(&self, now: i64) -> Option<Step> {
        let oldest = now - i64::try_from(self.settings.age.as_millis()).unwrap_or(i64::MAX);
        let (mut messages, mut keys, mut expired) = (Vec::new(), Vec::new(), 0);
        let mut log = lock(&self.log);
        let read = log.peek(REPLAY_BYTES, |record| {
            keys.push(self.hasher.hash_one(record.key));
            if record.spooled_at < oldest {
                expired += 1;
            } else {
                messages.push((record.dead, record.key.to_vec(), record.value.to_vec()));
            }
        });
        match read {
            Ok(to) => to.map(|to| Step { messages, expired, keys, to }),
            Err(error) => {
                tracing::error!(%error, "a spool segment can't be read and is set aside as .damaged; its hits are not published");
                self.metrics.spool_unreadable.inc();
                if let Err(error) = log.set_front_aside() {
                    tracing::error!(%error, "nor can it be renamed");
                }
                None
            }
        }
    }

    fn published(&self, step: Step) {
        let mut log = lock(&self.log);
        if let Err(error) = log.advance(step.to) {
            tracing::warn!(%error, "cannot forget what was published from the spool; a restart would publish it again");
        }
        self.metrics.spool_bytes.set(log.bytes() as i64);
        drop(log);
        self.metrics.spool_published.inc_by(step.messages.len() as u64);
        self.metrics.spool_expired.inc_by(step.expired);
        self.leave(&step.keys);
    }
}

#[cfg(test)]
mod model;

//! What people asked of us: kept from being stored, erased from all tables, and noted beside rows that stay.
//!
//! * [`ingestion`]: judges each hit before it becomes a row, and writes down which offsets have none on purpose.
//! * [`notes`]: who objects, and what was corrected, beside the rows that stay.
//! * [`requests`]: the directives that are to be carried out, and the reports on them, as the topic has them.
//! * [`subjects`]: finds whom a hash is about, among those whom the tables know.
//! * [`tables`]: which table holds what of a person, and the statements that are made of that.
//! * [`erase`]: one pass over all tables, step by step.
//! * [`late`]: rows that were stored by a sink that had not heard of the request.
//!
//! One sink of the group erases, the one that reads the first partition. For a directive that nobody has carried out:
//!
//! 1. A pass: rows are counted, their offsets written down, and the rows deleted, so that no query sees them. Told as
//!    `hidden`.
//! 2. Once all hits are loaded that were in the topic by then, and [`MARGIN`] has passed, in which every sink learns of the
//!    directive, another pass finds what was on its way meanwhile.
//! 3. Parts are written anew without what was deleted, one at a time, until no part holds a deleted row. Told as `done`.
//!
//! Tables are made anew meanwhile (`sink views rebuild`): that brings nobody back, see [`filling`](crate::views::filling).
//!
//! An objection and a correction go the same way; a pass over them notes the names that the tables have, and deletes nothing.
//!
//! All of it is in the topic: whoever goes on after a crash reads there what is not `done`, and does it again. Each step does
//! nothing where it was done before.

pub mod erase;
pub mod ingestion;
pub mod late;
pub mod notes;
pub mod requests;
pub mod subjects;
pub mod tables;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::try_join_all;
use rdkafka::error::KafkaError;
use schemas::{StageState, WireError};
use service::compacted::ReadError;
use service::options::KafkaOptions;
use service::privacy::directives::Unusable;
use service::privacy::keys::{Keys, KeysError};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::audit::report::Span;
use crate::audit::topic::Source;
use crate::clickhouse::ClickHouse;
use crate::error::SinkError;
use crate::fault::Fault;
use crate::metrics::Metrics;
use erase::{Pass, Step};
use late::Late;
use requests::{Request, Requests};

/// How long after the first pass the second may begin: until then every sink of the group knows of the directive.
pub const MARGIN: Duration = Duration::from_secs(10);
/// How often the topic is looked at.
const ROUND: Duration = Duration::from_secs(2);
/// How long is waited after a round that failed.
const PAUSE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);
/// Rows may be of many months. What fails is not kept by ClickHouse with the names in it.
const STATEMENT: [(&str, &str); 2] = [("max_partitions_per_insert_block", "0"), ("log_queries", "0")];
/// Directives that are carried out together.
const AT_ONCE: usize = 1000;
/// Acknowledged offsets may be behind the end by so many without a message: a transaction leaves a marker.
const MARKERS: i64 = 10_000;

/// Why a round can't be finished. The next one tries again.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// ClickHouse can't be used.
    #[error("ClickHouse: {}", .0.message())]
    ClickHouse(Fault),
    /// The topic of hits can't be asked.
    #[error(transparent)]
    Source(#[from] SinkError),
    /// The topic of directives can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A directive can't be read.
    #[error("a directive can't be read: {0}")]
    Wire(#[from] WireError),
    /// A directive can't be carried out.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The file of the keys can't be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A report can't be written.
    #[error("a report on a directive can't be written: {0}")]
    Report(#[from] KafkaError),
    /// A directive was hashed with a key that is not in the file.
    #[error("a directive was hashed with key {0:?}, which is not in the file of --privacy-keys")]
    UnknownKey(String),
    /// Another sink emptied the list of whom to erase.
    #[error("another sink erases, too")]
    NotAlone,
    /// The settling of sessions does not come to an end.
    #[error(
        "what was erased comes back with each settling; are settle_sessions, settle_merges and settle_employers of this version?"
    )]
    Settling,
    /// A table becomes another one again and again.
    #[error(
        "table {0} is made anew time and again while people are erased; do `sink views rebuild` and an exchange of tables less often"
    )]
    Rebuilding(&'static str),
    /// The sink ends: whoever erases next goes on.
    #[error("the sink ends")]
    Shutdown,
    /// It was told to end.
    #[error("ended after the step {0:?}")]
    Ended(Step),
}

impl From<Fault> for ExecuteError {
    fn from(fault: Fault) -> Self {
        Self::ClickHouse(fault)
    }
}

/// When the first pass over a request ended, and what was in the topic of hits by then.
#[derive(Debug, Clone)]
struct Hidden {
    at: Instant,
    ends: Vec<(i32, i64)>,
}

/// Carries out the directives.
pub struct Executor {
    kafka: KafkaOptions,
    group: String,
    clickhouse: ClickHouse,
    keys: Keys,
    runtime: Handle,
    requests: Option<Requests>,
    hidden: HashMap<Uuid, Hidden>,
    ended: CancellationToken,
    late: Late,
    metrics: Arc<Metrics>,
    /// How long after the first pass the second may begin.
    pub margin: Duration,
    /// How long after a look at what was stored since the one before the next one is due.
    pub look_every: Duration,
    /// After which step it ends as if it were killed; none but tests ask for that.
    pub end_after: Option<Step>,
}

impl Executor {
    /// For the hits that a group loads. To be made on a runtime.
    #[must_use]
    pub fn new(kafka: KafkaOptions, group: String, clickhouse: ClickHouse, keys: Keys, metrics: Arc<Metrics>) -> Self {
        Self {
            kafka,
            group,
            clickhouse,
            keys,
            runtime: Handle::current(),
            requests: None,
            hidden: HashMap::new(),
            ended: CancellationToken::new(),
            late: Late::default(),
            metrics,
            margin: MARGIN,
            look_every: late::LOOK_EVERY,
            end_after: None,
        }
    }

    /// Round after round while this sink is the one that erases, until `ended`. Blocks its thread.
    pub fn run(mut self, is_first: &AtomicBool, ended: &CancellationToken) {
        while !ended.is_cancelled() {
            let mut wait = ROUND;
            if !is_first.load(Ordering::Relaxed) {
                // Who is first again begins from what the topic says then.
                (self.requests, self.hidden, self.late) = (None, HashMap::new(), Late::default());
                self.tell(&[]);
            } else if let Err(error) = self.round(ended)
                && !ended.is_cancelled()
            {
                tracing::warn!(%error, "erasing was disturbed, will be repeated");
                self.metrics.privacy_failures.inc();
                (self.requests, wait) = (None, PAUSE);
            }
            let next = Instant::now() + wait;
            while !ended.is_cancelled() && Instant::now() < next {
                std::thread::sleep(LOOK);
            }
        }
    }

    /// Goes on with all directives as far as can be done now. True where all are done. Blocks its thread, which must not be
    /// one of the runtime's.
    ///
    /// # Errors
    /// Where something does not answer; what was done stays, and the next round goes on.
    pub fn round(&mut self, ended: &CancellationToken) -> Result<bool, ExecuteError> {
        self.ended = ended.clone();
        let requests = match &mut self.requests {
            Some(requests) => requests,
            none => none.insert(Requests::open(&self.kafka, &self.keys)?),
        };
        requests.catch_up(ended)?;
        if let Some(keys) = requests.directives().keys() {
            self.keys.clone_from(keys);
        }
        let open = requests.open_ones();
        self.tell(&open);
        self.look_for_late_rows()?;
        if open.is_empty() {
            self.hidden.clear();
            return Ok(true);
        }
        let (fresh, hidden): (Vec<Request>, Vec<Request>) = open.into_iter().partition(|request| !request.is_hidden);
        for some in fresh.chunks(AT_ONCE) {
            self.hide(some)?;
        }
        let source = Source::open(&self.kafka, &self.group)?;
        // After a crash it is not known what was in the topic then: what is there now is no less.
        let unknown = hidden.iter().filter(|request| !self.hidden.contains_key(&request.id()));
        let unknown: Vec<Uuid> = unknown.map(Request::id).collect();
        self.note_hidden(&unknown, &source)?;
        let due: Vec<Request> = self.due(&source, hidden)?;
        for some in due.chunks(AT_ONCE) {
            self.finish(some)?;
        }
        Ok(false)
    }

    /// How much is to be done.
    fn tell(&self, open: &[Request]) {
        let ids: HashSet<Uuid> = open.iter().map(Request::id).collect();
        self.metrics.privacy_pending.set(i64::try_from(ids.len()).unwrap_or(i64::MAX));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now = i64::try_from(since).unwrap_or(i64::MAX);
        let oldest = open.iter().map(|request| now.saturating_sub(request.directive.issued_at)).max();
        self.metrics.privacy_oldest.set(oldest.unwrap_or_default().max(0) / 1000);
    }

    /// Erases again what a sink stored that had not heard of an erasure, and notes what it did not note.
    fn look_for_late_rows(&mut self) -> Result<(), ExecuteError> {
        let Some(requests) = self.requests.as_ref().filter(|_| self.late.is_due(self.look_every)) else {
            return Ok(());
        };
        let found = self.late.look(&self.clickhouse, requests.directives());
        let (now, found) = self.until_ended(found)?;
        let again = found.erasures(requests.done_erasures(), &self.keys)?;
        for some in again.chunks(AT_ONCE) {
            tracing::warn!(requests = some.len(), "rows of people who are erased were stored again, erasing them");
            self.finish(some)?;
        }
        self.late.looked(now);
        Ok(())
    }

    fn note_hidden(&mut self, requests: &[Uuid], source: &Source) -> Result<(), ExecuteError> {
        if !requests.is_empty() {
            let hidden = Hidden { ends: source.ends()?, at: Instant::now() };
            self.hidden.extend(requests.iter().map(|request| (*request, hidden.clone())));
        }
        Ok(())
    }

    /// The requests whose second pass may begin.
    fn due(&self, source: &Source, hidden: Vec<Request>) -> Result<Vec<Request>, ExecuteError> {
        let (mut due, mut known) = (Vec::new(), HashMap::new());
        for request in hidden {
            let Some(noted) = self.hidden.get(&request.id()).filter(|noted| noted.at.elapsed() >= self.margin) else {
                continue;
            };
            let is_loaded = match known.get(&noted.ends) {
                Some(is_loaded) => *is_loaded,
                None => *known.entry(noted.ends.clone()).or_insert(is_loaded(source, &noted.ends)?),
            };
            if is_loaded {
                due.push(request);
            }
        }
        Ok(due)
    }

    fn pass(&self, requests: &[Request], found: &'static str) -> Result<HashMap<Uuid, u64>, ExecuteError> {
        let (erasures, noted): (Vec<_>, Vec<_>) = requests.iter().cloned().partition(Request::is_erasure);
        let mut rows = HashMap::new();
        if let Some(requests) = self.requests.as_ref().filter(|_| !noted.is_empty()) {
            let known = notes::note_known(&self.clickhouse, requests.directives(), &noted);
            rows.extend(self.until_ended(known)?);
        }
        if !erasures.is_empty() {
            let pass = Pass {
                clickhouse: &self.clickhouse,
                keys: &self.keys,
                requests: &erasures,
                found,
                erased: &self.metrics.privacy_erased_rows,
                end_after: self.end_after,
            };
            rows.extend(self.until_ended(pass.run())?);
        }
        Ok(rows)
    }

    fn hide(&mut self, requests: &[Request]) -> Result<(), ExecuteError> {
        let rows = self.pass(requests, erase::FOUND)?;
        let source = Source::open(&self.kafka, &self.group)?;
        self.note_hidden(&requests.iter().map(Request::id).collect::<Vec<_>>(), &source)?;
        self.report(requests, StageState::Hidden, &rows)?;
        self.end_after(Step::Hidden)
    }

    fn finish(&mut self, requests: &[Request]) -> Result<(), ExecuteError> {
        let rows = self.pass(requests, erase::FOUND_AGAIN)?;
        if requests.iter().any(Request::is_erasure) {
            self.until_ended(erase::remove(&self.clickhouse, requests))?;
        }
        self.end_after(Step::Removed)?;
        self.report(requests, StageState::Done, &rows)?;
        requests.iter().for_each(|request| drop(self.hidden.remove(&request.id())));
        Ok(())
    }

    fn report(&self, on: &[Request], state: StageState, rows: &HashMap<Uuid, u64>) -> Result<(), ExecuteError> {
        let step = if state == StageState::Done { Step::Done } else { Step::Hidden };
        self.until_ended(async {
            erase::trail(&self.clickhouse, on, step.as_str(), |request| rows.get(&request.id()).copied()).await?;
            let Some(requests) = &self.requests else { return Ok(()) };
            let rows = |request: &Request| rows.get(&request.id()).copied().unwrap_or_default();
            try_join_all(on.iter().map(|request| requests.report(request, state, rows(request)))).await?;
            Ok(())
        })
    }

    /// Nothing holds up a shutdown: what is half done is done again.
    fn until_ended<T>(&self, work: impl Future<Output = Result<T, ExecuteError>>) -> Result<T, ExecuteError> {
        self.runtime.block_on(self.ended.run_until_cancelled(work)).unwrap_or(Err(ExecuteError::Shutdown))
    }

    fn end_after(&self, step: Step) -> Result<(), ExecuteError> {
        if self.end_after == Some(step) { Err(ExecuteError::Ended(step)) } else { Ok(()) }
    }
}

/// Whether all messages before these ends are acknowledged.
fn is_loaded(source: &Source, ends: &[(i32, i64)]) -> Result<bool, SinkError> {
    let extents = source.extents(None, None)?;
    for (partition, end) in ends {
        let Some(extent) = extents.iter().find(|extent| extent.partition == *partition) else { continue };
        let left = Span { first: extent.acknowledged, last: end - 1 };
        if left.length() > MARKERS || (left.length() > 0 && !source.readable(*partition, &[left])?.is_empty()) {
            return Ok(false);
        }
    }
    Ok(true)
}

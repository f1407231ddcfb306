//! Takes one batch to its end: every message of it is in the table or in `hits.dead` when [`Loader::load`] returns.
//!
//! 1. What could not be read is delivered to `hits.dead`.
//! 2. The rows are inserted as one block. A retry sends the very same bytes under the same token, for as long as it
//!    takes.
//! 3. Where ClickHouse may know the token without having the rows ([`Setting::tokens_come_first`]), and an attempt failed or
//!    the range is made again, the table is asked for them. Those that are neither there nor erased are inserted under a
//!    token with a number, `.../1`. Whoever makes the range again asks the same and comes to the same token.
//! 4. Where ClickHouse refuses a value, halves of the rows are inserted under tokens of their own, and halves of the
//!    half that is refused, until the rows are found. They go to `hits.dead`, the others are stored.
//!
//! An operator's mistake is never taken for a row's: where too many rows in a row are refused and none is stored, it
//! halts.

use std::collections::HashSet;
use std::future::Future;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use schemas::codec::decode_all;
use schemas::topics::visitor_key;
use schemas::{EnrichedHit, Reader};
use service::health::Health;
use tokio::sync::Semaphore;

use crate::batch::{Batch, Original, Unreadable};
use crate::dead_letters::{self, Graveyard, Letter};
use crate::error::{ExitCode, SinkError};
use crate::fault::Fault;
use crate::hits::Block;
use crate::metrics::Metrics;
use crate::outcome::{Outcome, Reason};
use crate::pace::{Backoff, Pace};
use crate::store::Store;

/// The condition of readiness that inserts decide.
pub const CLICKHOUSE: &str = "clickhouse";
/// The condition of readiness that dead letters decide: they are delivered.
pub const DEAD_LETTERS: &str = "dead letters";

/// So many refused rows without one that is stored are not the rows' fault.
const REFUSALS_IN_A_ROW: usize = 100;
/// How often rows are inserted again that ClickHouse says to have, and has not.
const AGAIN: usize = 3;
/// Dead letters on their way at the same time: each may be as large as a message may.
const LETTERS_AT_ONCE: usize = 32;

/// What loading needs besides a store and a graveyard.
#[derive(Debug, Clone)]
pub struct Setting {
    /// What all deduplication tokens begin with: the epoch and the topic.
    pub token_prefix: String,
    /// Reads messages again where rows have to be told apart.
    pub reader: Arc<Reader>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Tells whether ClickHouse takes what it is sent.
    pub health: Health,
    /// Inserts at the same time.
    pub concurrent_inserts: usize,
    /// Whether the store may know a token and not have the rows, as it was killed in between.
    pub tokens_come_first: bool,
}

/// Takes batches to their end.
pub struct Loader<S, G> {
    store: S,
    graveyard: G,
    setting: Setting,
    pace: Pace,
    slots: Semaphore,
    /// Inserts, and what has to be asked and written before them, that failed and were not yet repeated with success.
    failing: AtomicUsize,
    refusals: AtomicUsize,
    /// Dead letters that could not be delivered and were not yet repeated with success.
    undelivered: AtomicUsize,
}

/// A block is stored, or known by its token.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Whether an attempt before failed, and what became of it is not known.
    is_repeated: bool,
}

/// A value in a row is refused, with this code.
#[derive(Debug, Clone, Copy)]
struct Refusal(u32);

/// Marks an insert as failing until it is dropped.
struct Failing<'a>(&'a AtomicUsize);

impl<'a> Failing<'a> {
    fn mark(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says that a dead letter is not delivered, until it is dropped: also where the batch is given up meanwhile.
struct Undelivered<'a> {
    count: &'a AtomicUsize,
    health: &'a Health,
}

impl<'a> Undelivered<'a> {
    fn mark(count: &'a AtomicUsize, health: &'a Health) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self { count, health }
    }
}

impl Drop for Undelivered<'_> {
    fn drop(&mut self) {
        if self.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.health.met(DEAD_LETTERS);
        }
    }
}

impl<S: Store, G: Graveyard> Loader<S, G> {
    /// A loader.
    #[must_use]
    pub fn new(store: S, graveyard: G, setting: Setting) -> Self {
        let slots = Semaphore::new(setting.concurrent_inserts);
        Self {
            store,
            graveyard,
            setting,
            pace: Pace::default(),
            slots,
            failing: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
            undelivered: AtomicUsize::new(0),
        }
    }

    /// What it was made with.
    #[must_use]
    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    /// Whether an insert failed and was not yet repeated with success.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed) > 0
    }

    /// The last offset of a partition, from one on, that the table has.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn last_stored(&self, partition: i32, first: i64) -> Result<Option<i64>, Fault> {
        self.store.last_stored(partition, first).await
    }

    /// Takes a batch to its end, however long that takes.
    ///
    /// # Errors
    /// Where nothing can be stored until somebody changes something.
    pub async fn load(&self, mut batch: Batch) -> Result<(), SinkError> {
        self.bury_unreadable(&mut batch).await?;
        self.record_erased(&mut batch).await?;
        self.note(&batch).await?;
        self.leave_out_stored(&mut batch).await?;
        if batch.rows.is_empty() {
            return Ok(());
        }
        let received_at = batch.received_at().to_vec();
        let (batch, block) = in_background(move || {
            let block = batch.block();
            (batch, block)
        })
        .await?;
        let block = block.map_err(unforeseen)?;
        self.observe(&block);
        let token = batch.token(&self.setting.token_prefix, batch.first, batch.last);
        match self.insert_rows(&batch, 0..batch.rows.len(), &token, block.frames.into()).await? {
            Ok(()) => {
                self.settle_inserted(batch, &received_at);
                Ok(())
            }
            Err(refusal) => self.load_in_parts(batch, &received_at, refusal).await,
        }
    }

    /// Before anything of the batch is inserted, so that no gap in the table is ever unexplained.
    async fn record_erased(&self, batch: &mut Batch) -> Result<(), SinkError> {
        if batch.erased.is_empty() {
            return Ok(());
        }
        let token = format!("erased/{}", batch.token(&self.setting.token_prefix, batch.first, batch.last));
        self.until_done(&token, || self.store.record_erased(batch.partition, &batch.erased)).await?;
        batch.tally.settle(Outcome::Erased, batch.erased.len());
        Ok(())
    }

    /// Before anything of the batch is inserted, so that nobody ever sees a row without what is to be known of it.
    async fn note(&self, batch: &Batch) -> Result<(), SinkError> {
        if batch.notes.is_empty() {
            return Ok(());
        }
        let token = format!("notes/{}", batch.token(&self.setting.token_prefix, batch.first, batch.last));
        self.until_done(&token, || self.store.note(&batch.notes)).await
    }

    /// A range that is made again is known by its tokens, unless rows of it were erased meanwhile: what was refused then, and
    /// stored in halves, may be taken as a whole now, or be halved elsewhere. So the table is asked what it has.
    async fn leave_out_stored(&self, batch: &mut Batch) -> Result<(), SinkError> {
        if batch.replays.is_none() || batch.erased.is_empty() {
            return Ok(());
        }
        let stored = self.ask_stored(batch, batch.first..=batch.last, batch.received_at()).await?;
        batch.leave_out(&stored, &self.setting.reader);
        Ok(())
    }

    async fn until_done<F, T>(&self, token: &str, mut attempt: impl FnMut() -> F) -> Result<T, SinkError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let (mut backoff, mut failing) = (Backoff::default(), None);
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(Fault::Halt(code, message)) => return Err(SinkError::Halt { code, message }),
                Err(other) => self.report(token, other.message()),
            }
            failing.get_or_insert_with(|| Failing::mark(&self.failing));
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    fn observe(&self, block: &Block) {
        let metrics = &self.setting.metrics;
        metrics.batch_rows.observe(block.rows as f64);
        metrics.batch_bytes.observe(block.uncompressed_bytes as f64);
        metrics.batch_compressed_bytes.observe(block.frames.len() as f64);
    }

    fn settle_inserted(&self, mut batch: Batch, received_at: &[i64]) {
        batch.tally.settle(Outcome::Inserted, batch.rows.len());
        self.observe_ages(received_at);
    }

    fn observe_ages(&self, received_at: &[i64]) {
        let (now, ages) = (now_milliseconds(), self.setting.metrics.hit_age.local());
        for received_at in received_at {
            ages.observe(now.saturating_sub(*received_at).max(0) as f64 / 1000.0);
        }
        ages.flush();
    }

    /// Inserts a block of rows of a batch, until the table has them or a value in them is refused.
    async fn insert_rows(
        &self,
        batch: &Batch,
        rows: Range<usize>,
        token: &str,
        frames: Bytes,
    ) -> Result<Result<(), Refusal>, SinkError> {
        let taken = match self.insert(token, frames).await? {
            Ok(taken) => taken,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if self.setting.tokens_come_first && (taken.is_repeated || batch.replays.is_some()) {
            return self.insert_missing(batch, rows, token).await;
        }
        Ok(Ok(()))
    }

    /// Inserts again what the token was taken for and the table has not.
    async fn insert_missing(
        &self,
        batch: &Batch,
        rows: Range<usize>,
        token: &str,
    ) -> Result<Result<(), Refusal>, SinkError> {
        for number in 1..=AGAIN {
            let missing = self.missing(batch, rows.clone(), token).await?;
            let Some(Original { offset, .. }) = missing.first() else { return Ok(Ok(())) };
            let (token, count) = (format!("{token}/{number}"), missing.len());
            tracing::warn!(token, count, offset, "ClickHouse says to have hits and has not, they are inserted again");
            // So seldom that it may hold up the thread.
            let block = batch.part(&missing, &self.setting.reader).map_err(unforeseen)?;
            if let Err(refusal) = self.insert(&token, block.frames.into()).await? {
                return Ok(Err(refusal));
            }
        }
        if !self.missing(batch, rows, token).await?.is_empty() {
            tracing::error!(token, "ClickHouse says to have hits and has not; `sink audit` tells which");
        }
        Ok(Ok(()))
    }

    /// Rows that the table has not, though nobody had them erased. What is erased is written down before it is deleted: so that
    /// is asked last.
    async fn missing(&self, batch: &Batch, rows: Range<usize>, token: &str) -> Result<Vec<Original>, SinkError> {
        let (rows, received_at) = (&batch.rows[rows.clone()], &batch.received_at()[rows]);
        let (first, last) = (rows[0].offset, rows[rows.len() - 1].offset);
        let stored = self.ask_stored(batch, first..=last, received_at).await?;
        if rows.iter().all(|row| stored.contains(&row.offset)) {
            return Ok(Vec::new());
        }
        let erased = self.until_done(token, || self.store.erased(batch.partition, first..=last)).await?;
        let is_erased = |offset: i64| erased.iter().any(|span| (span.first..=span.last).contains(&offset));
        let is_missing = |row: &&Original| !stored.contains(&row.offset) && !is_erased(row.offset);
        Ok(rows.iter().filter(is_missing).cloned().collect())
    }

    /// Inserts a block and repeats it until ClickHouse has it or refuses it for a value in it.
    async fn insert(&self, token: &str, frames: Bytes) -> Result<Result<Taken, Refusal>, SinkError> {
        let started = Instant::now();
        let mut backoff = Backoff::default();
        let (mut failing, mut is_repeated) = (None, false);
        loop {
            self.pace.wait().await;
            let fault = match self.attempt(token, frames.clone()).await {
                Ok(()) => break,
                Err(fault) => fault,
            };
            self.setting.metrics.faults(fault.class()).inc();
            match fault {
                Fault::RejectRow(code, _) => return Ok(Err(Refusal(code))),
                Fault::Halt(code, message) => return Err(SinkError::Halt { code, message }),
                Fault::SlowDown(said) => {
                    self.pace.slow_down();
                    self.report(token, &said);
                }
                // The store knows which replica is next.
                Fault::RetrySame(said) | Fault::OtherReplica(said) => {
                    is_repeated = true;
                    self.report(token, &said);
                    failing.get_or_insert_with(|| Failing::mark(&self.failing));
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
            failing.get_or_insert_with(|| Failing::mark(&self.failing));
        }
        drop(failing);
        self.pace.speed_up();
        self.refusals.store(0, Ordering::Relaxed);
        self.setting.health.met(CLICKHOUSE);
        self.setting.metrics.insert_duration.observe(started.elapsed().as_secs_f64());
        Ok(Ok(Taken { is_repeated }))
    }

    async fn attempt(&self, token: &str, frames: Bytes) -> Result<(), Fault> {
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await;
        self.store.insert(token, frames).await
    }

    fn report(&self, token: &str, said: &str) {
        tracing::warn!(token, said, "insert failed, will be repeated");
        self.setting.health.unmet(CLICKHOUSE, said);
    }

    /// A value is refused: finds the rows that hold one.
    async fn load_in_parts(&self, batch: Batch, received_at: &[i64], refusal: Refusal) -> Result<(), SinkError> {
        let batch = Arc::new(batch);
        let (mut refused, mut stored) = (Vec::new(), 0);
        let mut open = vec![(0..batch.rows.len(), refusal)];
        while let Some((range, refusal)) = open.pop() {
            self.expect_not_stored(&batch, range.clone(), &received_at[range.clone()], refusal).await?;
            if range.len() == 1 {
                self.count_refusal(refusal)?;
                refused.push((range.start, refusal));
                continue;
            }
            let middle = range.start + range.len() / 2;
            for half in [middle..range.end, range.start..middle] {
                match self.insert_part(&batch, half.clone()).await? {
                    Ok(()) => {
                        stored += half.len();
                        self.observe_ages(&received_at[half]);
                    }
                    Err(refusal) => open.push((half, refusal)),
                }
            }
        }
        let Ok(mut batch) = Arc::try_unwrap(batch) else { return Err(SinkError::Ended("an encoder")) };
        batch.tally.settle(Outcome::Inserted, stored);
        self.bury_refused(&mut batch, &refused).await
    }

    /// Where a view on the table refuses a value, the table has taken the rows already: parts of them would be there twice, and
    /// there is no row to be set aside.
    async fn expect_not_stored(
        &self,
        batch: &Batch,
        rows: Range<usize>,
        received_at: &[i64],
        refusal: Refusal,
    ) -> Result<(), SinkError> {
        let offsets: Vec<i64> = batch.rows[rows].iter().map(|row| row.offset).collect();
        let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
        let stored = self.ask_stored(batch, first..=last, received_at).await?;
        if !offsets.iter().all(|offset| stored.contains(offset)) {
            return Ok(());
        }
        let message = format!(
            "a view on the table hits refuses a value with code {}, in what the table has taken already: offsets {first} to {last} \
             of partition {}; put the view right or drop it, and start again, which goes on with these",
            refusal.0, batch.partition
        );
        Err(SinkError::Halt { code: ExitCode::Unfit, message })
    }

    /// Which of these offsets the table has.
    async fn ask_stored(
        &self,
        batch: &Batch,
        offsets: RangeInclusive<i64>,
        received_at: &[i64],
    ) -> Result<HashSet<i64>, SinkError> {
        let (Some(earliest), Some(latest)) = (received_at.iter().min(), received_at.iter().max()) else {
            return Ok(HashSet::new());
        };
        let token = batch.token(&self.setting.token_prefix, *offsets.start(), *offsets.end());
        let ask = || self.store.stored(batch.partition, offsets.clone(), *earliest..=*latest);
        Ok(self.until_done(&token, ask).await?.into_iter().collect())
    }

    async fn insert_part(&self, batch: &Arc<Batch>, rows: Range<usize>) -> Result<Result<(), Refusal>, SinkError> {
        let (first, last) = (batch.rows[rows.start].offset, batch.rows[rows.end - 1].offset);
        let token = batch.token(&self.setting.token_prefix, first, last);
        let (encoded, reader, part) = (Arc::clone(batch), Arc::clone(&self.setting.reader), rows.clone());
        let block = in_background(move || encoded.part(&encoded.rows[part], &reader)).await?.map_err(unforeseen)?;
        self.observe(&block);
        self.insert_rows(batch, rows, &token, block.frames.into()).await
    }

    fn count_refusal(&self, refusal: Refusal) -> Result<(), SinkError> {
        if self.refusals.fetch_add(1, Ordering::Relaxed) < REFUSALS_IN_A_ROW {
            return Ok(());
        }
        // What ClickHouse said may quote the row, so that only the code is told.
        let message = format!(
            "more than {REFUSALS_IN_A_ROW} hits were refused with code {} and none was stored, so the table is at fault \
             rather than the hits; check its constraints and the views that hang off it",
            refusal.0
        );
        Err(SinkError::Halt { code: ExitCode::Unfit, message })
    }

    async fn bury_unreadable(&self, batch: &mut Batch) -> Result<(), SinkError> {
        let unreadable = std::mem::take(&mut batch.unreadable);
        let letter = |message: &Unreadable| Letter {
            key: message.key.clone(),
            reason: message.reason,
            detail: message.detail.clone(),
            site: String::new(),
            original: batch.original(&message.original),
            partition: batch.partition,
            offset: message.original.offset,
        };
        self.bury_all(unreadable.iter().map(letter).collect()).await?;
        unreadable.iter().for_each(|message| batch.tally.settle(Outcome::Dead(message.reason), 1));
        Ok(())
    }

    async fn bury_refused(&self, batch: &mut Batch, refused: &[(usize, Refusal)]) -> Result<(), SinkError> {
        let letter = |(row, refusal): &(usize, Refusal)| {
            let message = &batch.rows[*row];
            let (site, key) = self.site_and_key(batch, message);
            Letter {
                key,
                reason: Reason::Refused,
                // No more than the code, as ClickHouse's text may quote the row.
                detail: format!("ClickHouse refuses the row with code {}", refusal.0),
                site,
                original: batch.original(message),
                partition: batch.partition,
                offset: message.offset,
            }
        };
        self.bury_all(refused.iter().map(letter).collect()).await?;
        batch.tally.settle(Outcome::Dead(Reason::Refused), refused.len());
        Ok(())
    }

    async fn bury_all(&self, letters: Vec<Letter<'_>>) -> Result<(), SinkError> {
        if let Some(Letter { partition, offset, reason, detail, .. }) = letters.first() {
            let (count, reason) = (letters.len(), reason.as_str());
            tracing::warn!(count, partition, offset, reason, detail, "dead letters, of which this is the first");
        }
        let mut deliveries = FuturesUnordered::new();
        for letter in letters {
            if deliveries.len() >= LETTERS_AT_ONCE {
                deliveries.next().await.transpose()?;
            }
            deliveries.push(self.bury(letter));
        }
        while deliveries.next().await.transpose()?.is_some() {}
        Ok(())
    }

    fn site_and_key(&self, batch: &Batch, message: &Original) -> (String, Vec<u8>) {
        let mut key = Vec::new();
        let Ok(body) = self.setting.reader.body(batch.original(message)) else { return (String::new(), key) };
        let Ok(hit) = decode_all::<EnrichedHit<'_>>(&body) else { return (String::new(), key) };
        visitor_key(&hit.hit.site, &hit.hit.visitor_id, &mut key);
        (hit.hit.site.into_owned(), key)
    }

    /// Delivers one letter, however long that takes, unless somebody has to change something first.
    async fn bury(&self, letter: Letter<'_>) -> Result<(), SinkError> {
        let (partition, offset, reason) = (letter.partition, letter.offset, letter.reason.as_str());
        let (mut backoff, mut undelivered) = (Backoff::default(), None);
        while let Err(error) = self.graveyard.bury(&letter).await {
            if dead_letters::is_forbidden(&error) {
                return Err(SinkError::DeadTopic(error));
            }
            self.setting.metrics.dead_letter_retries.inc();
            tracing::warn!(%error, partition, offset, "a dead letter could not be delivered, will be repeated");
            undelivered.get_or_insert_with(|| Undelivered::mark(&self.undelivered, &self.setting.health));
            self.setting.health.unmet(DEAD_LETTERS, error.to_string());
            tokio::time::sleep(backoff.next_wait()).await;
        }
        tracing::debug!(partition, offset, reason, "dead letter");
        Ok(())
    }
}

fn now_milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn unforeseen(error: crate::native::compression::CompressError) -> SinkError {
    tracing::error!(%error, "this is a bug");
    SinkError::Ended("the compressor")
}

/// Encoding a block takes milliseconds, which would hold up everything else on the thread.
async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, SinkError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| SinkError::Ended("an encoder"))
}

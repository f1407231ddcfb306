//! Hits of one partition on their way into one block. Pure: no clock, no network, no disk.
//!
//! An [`Assembler`] takes one message after the other, appends the hit to the columns of its open batch, and cuts: by
//! rows, by bytes, by age, and where the next hit belongs to another month, so that a batch becomes one part of one
//! partition of the table. The original bytes stay with the batch until all is stored, for dead letters and for
//! finding a row that ClickHouse refuses.
//!
//! Ranges that an earlier owner of the partition announced are made again first: such a batch has exactly the range's
//! messages, and is cut at its end and for no other reason.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemas::codec::decode_all;
use schemas::{EnrichedHit, Reader, WireError};
use service::privacy::asked::Asked;
use service::privacy::directives::{Note, Verdict};

use crate::hits::{Block, Coordinates, FIXED_ROW_BYTES, HitColumns};
use crate::intents::Range as Intent;
use crate::metrics::Metrics;
use crate::month::Month;
use crate::native::compression::CompressError;
use crate::outcome::{Outcome, Reason, Tally};
use crate::privacy::ingestion;
use crate::privacy::notes::Notes;
use crate::rooms::{Lent, Rooms};

/// When a batch is cut.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Hits.
    pub rows: usize,
    /// Bytes of the block before compression.
    pub bytes: usize,
    /// Age of the first hit in it.
    pub delay: Duration,
}

/// No batch is larger than this, whatever is configured: places in a dictionary are counted in 32 bits.
pub const LARGEST_BATCH: usize = 1 << 30;

/// Why a batch was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It has as many hits as it may.
    Rows,
    /// It has as many bytes as it may.
    Bytes,
    /// It is as old as it may be.
    Delay,
    /// The next hit belongs to another month.
    Month,
    /// Memory is needed.
    Memory,
    /// The sink stops, or the partition goes to another one.
    End,
    /// A range that was announced earlier ends here.
    Replay,
}

impl Cut {
    /// The names in metrics.
    pub const NAMES: [&str; 7] = ["rows", "bytes", "delay", "month", "memory", "end", "replay"];

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// One message as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Where it stands in its partition.
    pub offset: i64,
    /// Its key.
    pub key: &'a [u8],
    /// Its value; none for a tombstone.
    pub value: Option<&'a [u8]>,
}

/// A message of a batch: where it stood, and where its value lies among the batch's originals.
#[derive(Debug, Clone)]
pub struct Original {
    /// Offset.
    pub offset: i64,
    /// Bytes of the value.
    pub span: Range<usize>,
}

/// A message that can't be read.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// Where its bytes are.
    pub original: Original,
    /// Its key.
    pub key: Vec<u8>,
    /// Why.
    pub reason: Reason,
    /// What exactly is wrong.
    pub detail: String,
}

/// Messages that follow each other in one partition.
#[derive(Debug)]
pub struct Batch {
    /// The partition.
    pub partition: i32,
    /// First offset.
    pub first: i64,
    /// Last offset.
    pub last: i64,
    /// Messages that are rows, in order.
    pub rows: Vec<Original>,
    /// Messages that can't be read.
    pub unreadable: Vec<Unreadable>,
    /// Offsets of hits that are not stored, as somebody had them erased; in order.
    pub erased: Vec<i64>,
    /// What is noted of people in it before they are stored.
    pub notes: Notes,
    /// What was done to rows before they were stored, by offset.
    changed: HashMap<i64, Verdict>,
    /// Counts what becomes of them.
    pub tally: Tally,
    /// The range that this batch makes again, where it does.
    pub replays: Option<Intent>,
    /// Has the values of all messages, and the columns of those that are rows.
    room: Lent,
    /// What was told of the memory that it takes.
    memory: usize,
    month: Option<Month>,
    opened: Instant,
}

impl Batch {
    fn open(partition: i32, first: i64, (metrics, room): (&Arc<Metrics>, Lent), now: Instant) -> Self {
        Self {
            partition,
            first,
            last: first,
            rows: Vec::new(),
            unreadable: Vec::new(),
            erased: Vec::new(),
            notes: Notes::new(),
            changed: HashMap::new(),
            tally: Tally::new(Arc::clone(metrics)),
            replays: None,
            room,
            memory: 0,
            month: None,
            opened: now,
        }
    }

    /// Named as the range that it makes again, whatever is left of that in the topic.
    fn replay(partition: i32, range: Intent, parts: (&Arc<Metrics>, Lent), now: Instant) -> Self {
        let (first, last) = (range.first, range.last);
        Self { last, replays: Some(range), ..Self::open(partition, first, parts, now) }
    }

    /// Size of the block before compression, about: a row's text is at most what its message has.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.room.originals.len() + self.rows.len() * FIXED_ROW_BYTES
    }

    /// Memory that the batch takes, about, until it is stored: its originals and its columns, or the whole of the room
    /// that they are in.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// By how much the memory grew since this was asked last.
    fn grown(&mut self) -> usize {
        self.room.note_use(memory_of(self.room.originals.len(), self.rows.len()));
        let memory = self.room.bytes();
        memory - std::mem::replace(&mut self.memory, memory)
    }

    /// When its hits were received, Unix milliseconds.
    #[must_use]
    pub fn received_at(&self) -> &[i64] {
        self.room.columns.received_at()
    }

    /// The original bytes of a message.
    #[must_use]
    pub fn original(&self, message: &Original) -> &[u8] {
        &self.room.originals[message.span.clone()]
    }

    /// Name of a range of offsets of this batch, by which ClickHouse knows it again. `source` is the epoch and the topic;
    /// what is made again keeps the epoch that it was announced under.
    #[must_use]
    pub fn token(&self, source: &str, first: i64, last: i64) -> String {
        match (&self.replays, source.split_once('/')) {
            (Some(range), Some((_, topic))) => format!("{}/{topic}/{}/{first}-{last}", range.epoch, self.partition),
            _ => format!("{source}/{}/{first}-{last}", self.partition),
        }
    }

    /// All rows as a block.
    ///
    /// # Errors
    /// Where the block can't be compressed, which would be a bug.
    pub fn block(&self) -> Result<Block, CompressError> {
        self.room.columns.block()
    }

    /// Some of its rows as a block, read again from their originals.
    ///
    /// # Errors
    /// Where the block can't be compressed. A message that can't be read again, which would be a bug, is left out.
    pub fn part(&self, rows: &[Original], reader: &Reader) -> Result<Block, CompressError> {
        self.columns_again(rows, reader).block()
    }

    fn columns_again(&self, rows: &[Original], reader: &Reader) -> HitColumns {
        let mut columns = HitColumns::default();
        for message in rows {
            let coordinates = Coordinates { partition: self.partition, offset: message.offset };
            match reader.body(self.original(message)) {
                Ok(body) => match decode_all::<EnrichedHit>(&body) {
                    Ok(mut hit) => {
                        self.changed
                            .get(&message.offset)
                            .into_iter()
                            .for_each(|verdict| ingestion::apply(verdict, &mut hit));
                        columns.push(&hit, coordinates);
                    }
                    Err(error) => tracing::error!(%error, ?coordinates, "a message that was read once can't be again"),
                },
                Err(error) => tracing::error!(%error, ?coordinates, "a message that was read once can't be again"),
            }
        }
        columns
    }

    /// Leaves out what is stored already: these are inserted, as their outcome says.
    pub fn leave_out(&mut self, stored: &HashSet<i64>, reader: &Reader) {
        let before = self.rows.len();
        self.rows.retain(|row| !stored.contains(&row.offset));
        let left_out = before - self.rows.len();
        if left_out > 0 {
            self.room.columns = self.columns_again(&self.rows, reader);
            self.tally.settle(Outcome::Inserted, left_out);
        }
    }

    fn keep(&mut self, message: &Message<'_>) -> Original {
        let start = self.room.originals.len();
        self.room.originals.extend_from_slice(message.value.unwrap_or_default());
        self.last = self.last.max(message.offset);
        self.tally.receive();
        Original { offset: message.offset, span: start..self.room.originals.len() }
    }

    fn push(&mut self, message: &Message<'_>, hit: &EnrichedHit<'_>, verdict: Verdict) {
        let original = self.keep(message);
        if verdict != Verdict::Keep {
            self.changed.insert(message.offset, verdict);
        }
        self.month.get_or_insert_with(|| Month::of(hit.hit.received_at));
        self.room.columns.push(hit, Coordinates { partition: self.partition, offset: message.offset });
        self.rows.push(original);
    }

    /// Nothing of the message is kept but its place.
    fn keep_out(&mut self, message: &Message<'_>) {
        self.last = self.last.max(message.offset);
        self.tally.receive();
        self.erased.push(message.offset);
    }
}

fn memory_of(original_bytes: usize, rows: usize) -> usize {
    2 * original_bytes + rows * (FIXED_ROW_BYTES + size_of::<Original>())
}

/// Makes batches of the messages of one partition.
#[derive(Debug)]
pub struct Assembler {
    partition: i32,
    limits: Limits,
    metrics: Arc<Metrics>,
    asked: Option<Arc<Asked>>,
    rooms: Arc<Rooms>,
    open: Option<Batch>,
    ready: VecDeque<Batch>,
    /// Ranges to make again, in order.
    replays: VecDeque<Intent>,
}

impl Assembler {
    /// With nothing in it.
    #[must_use]
    pub fn new(partition: i32, limits: Limits, metrics: Arc<Metrics>) -> Self {
        let limits = Limits { bytes: limits.bytes.min(LARGEST_BATCH), ..limits };
        Self {
            partition,
            limits,
            metrics,
            asked: None,
            rooms: Arc::default(),
            open: None,
            ready: VecDeque::new(),
            replays: VecDeque::new(),
        }
    }

    /// The same, with ranges that are made again before anything else.
    #[must_use]
    pub fn replaying(mut self, ranges: Vec<Intent>) -> Self {
        self.replays = ranges.into();
        self
    }

    /// The same, with what people asked of us.
    #[must_use]
    pub fn under(mut self, asked: Arc<Asked>) -> Self {
        self.asked = Some(asked);
        self
    }

    /// The same, building its batches in these rooms.
    #[must_use]
    pub fn in_rooms(mut self, rooms: Arc<Rooms>) -> Self {
        self.rooms = rooms;
        self
    }

    /// Makes of a hit what is to be stored of it, and says what that was, and what is to be noted of it.
    fn judge(&self, hit: &mut EnrichedHit<'_>) -> (Verdict, Vec<Note>) {
        let Some(asked) = &self.asked else { return (Verdict::Keep, Vec::new()) };
        let directives = asked.directives();
        let verdict = ingestion::judge(&directives, hit);
        if verdict == Verdict::Erase {
            return (verdict, Vec::new());
        }
        ingestion::apply(&verdict, hit);
        (verdict, ingestion::notes(&directives, hit))
    }

    /// Whether a range that is made again is not complete: it can't be cut, and has to be read on.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        self.open.as_ref().is_some_and(|batch| batch.replays.is_some())
    }

    /// Takes the next message. Gives by how much the memory of this partition grew.
    ///
    /// # Errors
    /// Where the message may be readable later (a registry does not answer); it was not taken.
    pub fn take(&mut self, message: Message<'_>, reader: &Reader, now: Instant) -> Result<usize, WireError> {
        let Some(value) = message.value.filter(|value| !value.is_empty()) else {
            return Ok(self.set_aside(&message, Reason::Empty, "the message has no value".to_owned(), now));
        };
        let body = match reader.body(value) {
            Ok(body) => body,
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => return Ok(self.set_aside(&message, Reason::from(&error), error.to_string(), now)),
        };
        match decode_all::<EnrichedHit<'_>>(&body) {
            Ok(mut hit) => {
                let judged = self.judge(&mut hit);
                Ok(self.append(&message, &hit, judged, now))
            }
            Err(error) => Ok(self.set_aside(&message, Reason::from(error), error.to_string(), now)),
        }
    }

    fn append(
        &mut self,
        message: &Message<'_>,
        hit: &EnrichedHit<'_>,
        (verdict, notes): (Verdict, Vec<Note>),
        now: Instant,
    ) -> usize {
        self.replay_at(message.offset, now);
        if verdict == Verdict::Erase {
            return self.grow(message.offset, now, |batch| batch.keep_out(message));
        }
        self.cut_where_the_month_changes(hit.hit.received_at);
        self.grow(message.offset, now, |batch| {
            batch.notes.extend(notes);
            batch.push(message, hit, verdict);
        })
    }

    fn set_aside(&mut self, message: &Message<'_>, reason: Reason, detail: String, now: Instant) -> usize {
        self.replay_at(message.offset, now);
        self.grow(message.offset, now, |batch| {
            let original = batch.keep(message);
            batch.unreadable.push(Unreadable { original, key: message.key.to_vec(), reason, detail });
        })
    }

    /// Puts the message at an offset into the open batch, and closes that where it has enough. By how much its memory grew.
    fn grow(&mut self, offset: i64, now: Instant, put: impl FnOnce(&mut Batch)) -> usize {
        let parts = || (&self.metrics, self.rooms.lend());
        let batch = self.open.get_or_insert_with(|| Batch::open(self.partition, offset, parts(), now));
        put(batch);
        let grown = batch.grown();
        let messages = batch.rows.len() + batch.unreadable.len() + batch.erased.len();
        let bytes = batch.block_bytes();
        if let Some(range) = &batch.replays {
            if range.last == offset {
                self.end_replay();
            }
        } else if messages >= self.limits.rows {
            self.cut(Cut::Rows);
        } else if bytes >= self.limits.bytes {
            self.cut(Cut::Bytes);
        }
        grown
    }

    /// Ranges that end before this offset are as complete as they will ever be: their last message is not in the topic.
    fn end_replays_before(&mut self, offset: i64, now: Instant) {
        while let Some(range) = self.replays.front().filter(|range| range.last < offset).cloned() {
            self.metrics.vanished_ranges.inc();
            let (partition, first, last) = (self.partition, range.first, range.last);
            tracing::error!(
                partition,
                first,
                last,
                "these offsets were announced but not acknowledged, and some or all of them are no longer in the topic: \
                 hits among them are lost unless they were stored before; `sink audit` tells"
            );
            if !self.is_replaying() {
                self.open_replay(range, now);
            }
            self.end_replay();
        }
    }

    /// Sees to ranges that have to be made again before the message at this offset is taken.
    fn replay_at(&mut self, offset: i64, now: Instant) {
        self.end_replays_before(offset, now);
        if !self.is_replaying()
            && let Some(range) = self.replays.front().filter(|range| range.first <= offset).cloned()
        {
            self.open_replay(range, now);
        }
    }

    fn open_replay(&mut self, range: Intent, now: Instant) {
        self.cut(Cut::End);
        self.open = Some(Batch::replay(self.partition, range, (&self.metrics, self.rooms.lend()), now));
    }

    fn end_replay(&mut self) {
        self.replays.pop_front();
        self.metrics.replayed_ranges.inc();
        self.close(Cut::Replay);
    }

    fn cut_where_the_month_changes(&mut self, received_at: i64) {
        let month = self.open.as_ref().and_then(|batch| batch.month.as_ref());
        if month.is_some_and(|month| !month.contains(received_at)) {
            self.cut(Cut::Month);
        }
    }

    /// Closes the open batch, if there is one that may be cut.
    pub fn cut(&mut self, why: Cut) {
        if !self.is_replaying() {
            self.close(why);
        }
    }

    fn close(&mut self, why: Cut) {
        if let Some(batch) = self.open.take() {
            self.metrics.batches(why).inc();
            self.ready.push_back(batch);
        }
    }

    /// Closes the open batch where it is as old as it may be.
    pub fn cut_if_old(&mut self, now: Instant) {
        let is_old = |batch: &Batch| now.saturating_duration_since(batch.opened) >= self.limits.delay;
        if self.open.as_ref().is_some_and(is_old) {
            self.cut(Cut::Delay);
        }
    }

    /// The next batch that is closed.
    pub fn next_ready(&mut self) -> Option<Batch> {
        self.ready.pop_front()
    }

    /// The next batch that is closed, where it makes a range again: that one has its place in the list.
    pub fn next_ready_replay(&mut self) -> Option<Batch> {
        self.ready.pop_front_if(|batch| batch.replays.is_some())
    }

    /// Whether a batch is closed.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

//! The spool's log: append at the end, read from the front, across segments.
//!
//! Why nothing acknowledged is lost, and nothing else is taken for a hit:
//!
//! 1. [`Log::append`] returns without error only after the whole batch is written to one segment and that is synced; so
//!    an acknowledged record is on the disk, whole.
//! 2. A segment is written by one run of one process only, and never again after an error: then a new segment is begun.
//!    So everything before the synced length of a segment is whole, and only bytes after it can be torn.
//! 3. Reading a segment stops at its synced length while it is being written, and behind the last whole record when it
//!    is found at a start. By 1 and 2 all acknowledged records of the segment stand before that place.
//! 4. A record that was not acknowledged may be found all the same, if it reached the disk before a crash. It is a hit
//!    that a client sent; its client sends it again under the same hit id, or never knew.
//! 5. A segment is removed only after everything in it was acknowledged by Kafka. The position within the first segment
//!    is kept without syncing: a crash may bring back an older one, and some is replayed twice, under the same hit ids.
//!
//! Where whole records stand after a broken one, a crash tore a batch that was never acknowledged, or the disk lost what
//! it had synced: nobody can tell. The next whole record is looked for byte by byte, and reading goes on there: each has its
//! own checksum, and by 4 it is a hit either way. The segment is set aside in the end and not removed. (Somebody may send a hit
//! whose text has the bytes of a record, and have the luck that it is damaged before them. What is then published is a message
//! of a stranger, as any message in a topic may be to those who read it.)
//!
//! Where a segment is gone, somebody took it away: no argument helps its records, and those of the others are given on.

use std::collections::{BTreeSet, VecDeque};
use std::io;

use super::record::{self, Front, Record};
use super::storage::{Segment, Storage};

/// Sizes that bound a log.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Most bytes in all segments together.
    pub bytes: u64,
    /// A segment is closed when it is larger.
    pub segment_bytes: u64,
}

/// A place between two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of the segment.
    pub segment: u64,
    /// Offset in it.
    pub offset: u64,
}

#[derive(Debug, Clone, Copy)]
struct Extent {
    number: u64,
    /// Bytes up to the end of the last whole, synced record.
    bytes: u64,
}

/// What was passed over because it can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// Number of the segment.
    pub segment: u64,
    /// True where a whole record stands behind it, and false where the rest of the segment was given up.
    pub goes_on: bool,
    /// True where nothing of this segment was passed over before.
    pub is_first: bool,
    /// True where an earlier process wrote it, so that nobody knows how many records it was.
    pub is_inherited: bool,
}

/// Why a batch was not appended. Nothing of it is acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The bound of the log is reached.
    #[error("the spool holds its {0} bytes; raise --spool-bytes, or let Kafka take some")]
    Full(u64),
    /// The disk does not take it.
    #[error("the spool's disk does not take more: {0}")]
    Disk(#[from] io::Error),
}

/// A log over a storage.
#[derive(Debug)]
pub struct Log<S: Storage> {
    storage: S,
    bounds: Bounds,
    /// All segments, oldest first; the last may be open.
    segments: VecDeque<Extent>,
    open: Option<S::Segment>,
    next_number: u64,
    /// Number of the first segment that this process may write.
    first_own: u64,
    front: Position,
    /// Segments of which something was passed over.
    suspect: BTreeSet<u64>,
}

impl<S: Storage> Log<S> {
    /// Opens a log, and reads all that is in it: `seen` hears of every record that is still to be replayed,
    /// and of its segment.
    ///
    /// # Errors
    /// Where the disk can't be read.
    pub fn open(storage: S, bounds: Bounds, mut seen: impl FnMut(u64, &Record<'_>)) -> io::Result<Self> {
        let numbers = storage.list()?;
        let kept = storage.position().and_then(|text| parse_position(&text));
        // A number is never used twice, not even when all segments are gone: the position that was kept speaks of one.
        let used = numbers.last().copied().max(kept.map(|kept| kept.segment));
        let next_number = used.map_or(0, |used| used + 1);
        let first = numbers.first().copied().unwrap_or(next_number);
        let front = kept.filter(|kept| kept.segment == first).unwrap_or(Position { segment: first, offset: 0 });
        let (segments, suspect) = (VecDeque::new(), BTreeSet::new());
        let first_own = next_number;
        let mut log = Self { storage, bounds, segments, open: None, next_number, first_own, front, suspect };
        for number in numbers {
            log.recover(number, &mut seen)?;
        }
        log.forget_replayed()?;
        Ok(log)
    }

    fn recover(&mut self, number: u64, seen: &mut impl FnMut(u64, &Record<'_>)) -> io::Result<()> {
        let bytes = self.storage.read(number, 0, usize::MAX)?;
        let front = self.front;
        let end = scan_past_damage(&bytes, |offset, record| {
            if (Position { segment: number, offset }) >= front {
                seen(number, record);
            }
        });
        self.segments.push_back(Extent { number, bytes: end as u64 });
        Ok(())
    }

    /// Appends a batch of records, in the form that [`Record::write`] gives them. When it returns, they are durable, one
    /// behind the other from the place on that it gives.
    ///
    /// # Errors
    /// Where the bound is reached or the disk fails; then the batch is not acknowledged.
    pub fn append(&mut self, batch: &[u8]) -> Result<Position, AppendError> {
        if self.bytes() + batch.len() as u64 > self.bounds.bytes {
            return Err(AppendError::Full(self.bounds.bytes));
        }
        let result = self.append_to_segment(batch);
        if result.is_err() {
            self.abandon_segment();
        }
        Ok(result?)
    }

    /// By argument 2, what is after the synced length of the open segment is nobody's. Where nothing was synced, the file
    /// goes: a full disk would else gather one for each attempt.
    fn abandon_segment(&mut self) {
        self.open = None;
        let newest = self.next_number.saturating_sub(1);
        match self.segments.back().copied() {
            Some(last) if last.number == newest && last.bytes > 0 => return,
            Some(last) if last.number == newest => drop(self.segments.pop_back()),
            _ => {}
        }
        // Where it can't be removed it is found at the next start, empty.
        let _ = self.storage.remove(newest);
    }

    fn append_to_segment(&mut self, batch: &[u8]) -> io::Result<Position> {
        let full = self.segments.back().is_some_and(|last| last.bytes >= self.bounds.segment_bytes);
        let segment = match &mut self.open {
            Some(segment) if !full => segment,
            open => {
                let number = self.next_number;
                // A creation that fails may have made the file: its number is used up.
                self.next_number += 1;
                let segment = self.storage.create(number)?;
                self.segments.push_back(Extent { number, bytes: 0 });
                open.insert(segment)
            }
        };
        segment.append(batch)?;
        segment.sync()?;
        let last = self.segments.back_mut().ok_or_else(|| io::Error::other("the segment is gone"))?;
        let at = Position { segment: last.number, offset: last.bytes };
        last.bytes += batch.len() as u64;
        Ok(at)
    }

    /// Records from the front on, `most` bytes or one record, and none from the place `until` on, where one begins: each
    /// handed to `each` with its place. Returns the place after the last, or nothing when there are none.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] where the record at the front is not what was written, [`io::ErrorKind::NotFound`] where
    /// its segment is gone: asking again gives the same. Any other where the disk does not answer now.
    pub fn peek(
        &self,
        most: usize,
        until: Option<Position>,
        mut each: impl FnMut(Position, &Record<'_>),
    ) -> io::Result<Option<Position>> {
        let mut from = self.front;
        for extent in &self.segments {
            if extent.number < from.segment {
                continue;
            }
            if extent.number > from.segment {
                from = Position { segment: extent.number, offset: 0 };
            }
            if from.offset >= extent.bytes {
                continue;
            }
            let end = match until {
                Some(until) if until <= from => return Ok(None),
                Some(until) if until.segment == from.segment => until.offset,
                _ => extent.bytes,
            };
            let left = (end - from.offset) as usize;
            let mut bytes = self.storage.read(extent.number, from.offset, left.min(most))?;
            let at = |offset| Position { offset: from.offset + offset, ..from };
            let mut taken = scan(&bytes, |offset, record| each(at(offset), record));
            if taken == 0 && bytes.len() < left {
                // The first record is larger than what was asked for.
                bytes = self.storage.read(extent.number, from.offset, left)?;
                if let Front::Whole(record, length) = record::read(&bytes) {
                    record.iter().for_each(|record| each(from, record));
                    taken = length;
                }
            }
            if taken == 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a record that was synced cannot be read"));
            }
            return Ok(Some(at(taken as u64)));
        }
        Ok(None)
    }

    /// The place of the next record.
    #[must_use]
    pub fn front(&self) -> Position {
        self.front
    }

    /// Moves the front on, to where everything before is acknowledged by Kafka; never back.
    ///
    /// # Errors
    /// Where a segment can't be removed; it will be replayed again after a restart.
    pub fn advance(&mut self, to: Position) -> io::Result<()> {
        self.front = self.front.max(to);
        self.forget_replayed()?;
        self.storage.keep_position(&format!("{} {}", self.front.segment, self.front.offset))
    }

    /// Goes on behind what is to be replayed next and can't be read: at the next whole record of its segment, which is set aside
    /// once the rest of it is replayed, or where there is none at the next segment. Nothing where nothing is left.
    ///
    /// # Errors
    /// Where the segment can't be read at all, or not be renamed.
    pub fn pass_damage(&mut self) -> io::Result<Option<Damage>> {
        let Some(at) = self.front_segment() else { return Ok(None) };
        let Extent { number: segment, bytes: end } = self.segments[at];
        let from = if self.front.segment == segment { self.front.offset } else { 0 };
        let left = self.storage.read(segment, from, (end - from) as usize)?;
        let (next, is_inherited) = (next_whole(&left, 0), segment < self.first_own);
        let is_first = !self.suspect.contains(&segment);
        if let Some(start) = next {
            self.suspect.insert(segment);
            self.front = Position { segment, offset: from + start as u64 };
        } else {
            self.storage.set_aside(segment)?;
            self.pass_over(at);
        }
        Ok(Some(Damage { segment, goes_on: next.is_some(), is_first, is_inherited }))
    }

    /// Forgets the segment that is to be replayed next, which is gone, and returns its number.
    pub fn forget_front(&mut self) -> Option<u64> {
        self.front_segment().map(|at| self.pass_over(at))
    }

    /// Which segment holds the next record. One that was begun and never written to holds none.
    fn front_segment(&self) -> Option<usize> {
        let front = self.front;
        self.segments.iter().position(|extent| {
            let read = if extent.number == front.segment { front.offset } else { 0 };
            extent.number >= front.segment && read < extent.bytes
        })
    }

    /// Goes on behind a segment as if it had never been, and returns its number.
    fn pass_over(&mut self, at: usize) -> u64 {
        let number = self.segments[at].number;
        self.segments.remove(at);
        if at == self.segments.len() {
            self.open = None;
        }
        self.front = Position { segment: number + 1, offset: 0 };
        number
    }

    fn forget_replayed(&mut self) -> io::Result<()> {
        while let Some(first) = self.segments.front().copied() {
            let replayed = self.front.segment > first.number || self.front.offset >= first.bytes;
            let is_open = self.segments.len() == 1 && self.open.is_some();
            // The open segment goes too: what was published holds full addresses, and must not stay.
            if !replayed || (is_open && first.bytes == 0) {
                return Ok(());
            }
            let gone = if self.suspect.contains(&first.number) {
                self.storage.set_aside(first.number)
            } else {
                self.storage.remove(first.number)
            };
            // One that somebody else took away is gone as well.
            gone.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
            self.segments.pop_front();
            if is_open {
                self.open = None;
            }
            let next = self.segments.front().map_or(self.next_number, |next| next.number);
            if self.front.segment < next {
                self.front = Position { segment: next, offset: 0 };
            }
        }
        Ok(())
    }

    /// Bytes in all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|extent| extent.bytes).sum()
    }
}

fn parse_position(text: &str) -> Option<Position> {
    let (segment, offset) = text.trim().split_once(' ')?;
    Some(Position { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
}

/// Hands on the whole records at the front of `bytes` with their offsets. Returns where the first broken one stands.
fn scan(bytes: &[u8], mut each: impl FnMut(u64, &Record<'_>)) -> usize {
    let mut offset = 0;
    while let Front::Whole(record, length) = record::read(&bytes[offset..]) {
        if let Some(record) = record {
            each(offset as u64, &record);
        }
        offset += length;
    }
    offset
}

/// Hands on the whole records of `bytes` with their offsets, also those behind broken ones. Returns where the last one ends.
fn scan_past_damage(bytes: &[u8], mut each: impl FnMut(u64, &Record<'_>)) -> usize {
    let mut end = scan(bytes, &mut each);
    while let Some(start) = next_whole(bytes, end) {
        end = start + scan(&bytes[start..], |offset, record| each(start as u64 + offset, record));
    }
    end
}

/// Where the next whole record stands after a broken one.
fn next_whole(bytes: &[u8], broken: usize) -> Option<usize> {
    (broken + 1..bytes.len()).find(|start| matches!(record::read(&bytes[*start..]), Front::Whole(..)))
}

//! The spool's log: append at the end, read from the front, across segments.
//!
//! Why nothing acknowledged is lost, and nothing else is taken for a hit:
//!
//! 1. [`Log::append`] returns without error only after the whole batch is written to one segment and that is synced; so
//!    an acknowledged record is on the disk, whole.
//! 2. A segment is written by one run of one process only, and never again after an error: then a new segment is begun.
//!    So everything before the synced length of a segment is whole, and only bytes after it can be torn.
//! 3. Reading a segment stops at its synced length while it is being written, and at the first broken record when it
//!    is found at a start. By 1 and 2 all acknowledged records of the segment stand before that place.
//! 4. A record that was not acknowledged may be found all the same, if it reached the disk before a crash. It is a hit
//!    that a client sent; its client sends it again under the same hit id, or never knew.
//! 5. A segment is removed only after everything in it was acknowledged by Kafka. The position within the first segment
//!    is kept without syncing: a crash may bring back an older one, and some is replayed twice, under the same hit ids.
//!
//! Where whole records stand after a broken one, a crash tore a batch that was never acknowledged, or the disk lost what
//! it had synced: nobody can tell. What stands before is replayed, and the segment is then set aside and not removed.
//!
//! Where a segment is gone, somebody took it away: no argument helps its records, and those of the others are given on.

use std::collections::VecDeque;
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
    /// Bytes that hold whole, synced records.
    bytes: u64,
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
    front: Position,
    suspect: Vec<u64>,
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
        let (segments, suspect) = (VecDeque::new(), Vec::new());
        let mut log = Self { storage, bounds, segments, open: None, next_number, front, suspect };
        for number in numbers {
            log.recover(number, &mut seen)?;
        }
        log.forget_replayed()?;
        Ok(log)
    }

    fn recover(&mut self, number: u64, seen: &mut impl FnMut(u64, &Record<'_>)) -> io::Result<()> {
        let bytes = self.storage.read(number, 0, usize::MAX)?;
        let whole = scan(&bytes, |offset, record| {
            if (Position { segment: number, offset }) >= self.front {
                seen(number, record);
            }
        });
        if has_record_after(&bytes[whole..]) {
            self.suspect.push(number);
        }
        self.segments.push_back(Extent { number, bytes: whole as u64 });
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
    /// [`io::ErrorKind::InvalidData`] where the front segment is not what was written, [`io::ErrorKind::NotFound`] where it
    /// is gone: asking again gives the same. Any other where the disk does not answer now.
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

    /// Gives up the segment that is to be replayed next, which can't be read, and returns its number.
    ///
    /// # Errors
    /// Where it can't be renamed.
    pub fn set_front_aside(&mut self) -> io::Result<Option<u64>> {
        let Some(at) = self.front_segment() else { return Ok(None) };
        self.storage.set_aside(self.segments[at].number)?;
        Ok(Some(self.pass_over(at)))
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

    /// Numbers of the segments in which whole records stand after a broken one.
    #[must_use]
    pub fn suspect(&self) -> &[u64] {
        &self.suspect
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

/// True where a whole record stands after a broken one, as far as is worth looking.
fn has_record_after(bytes: &[u8]) -> bool {
    const FAR_ENOUGH: usize = 1024 * 1024;
    (1..bytes.len().min(FAR_ENOUGH)).any(|start| matches!(record::read(&bytes[start..]), Front::Whole(..)))
}

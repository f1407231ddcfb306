//! A disk that fails and forgets as it is told.
//!
//! It keeps for each segment what was written and how much of it is synced. It can be told to fail: an append then leaves a
//! part of its bytes, a sync leaves them unsynced and may drop them, a read gives nothing. A crash keeps what is synced and
//! any part of the rest, possibly with damage in it, and loses segments only that were not made durable. Somebody may take
//! a whole segment away, also one that is being written.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::storage::{Segment, Storage};

#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    synced: usize,
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) segments: BTreeMap<u64, Content>,
    /// Segments that were set aside.
    pub(super) aside: Vec<u64>,
    position: Option<String>,
    /// How the next operations go: one is taken for each.
    pub(super) faults: Vec<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
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

    /// Changes a byte.
    pub(super) fn damage(&mut self, segment: u64, at: usize) {
        self.segments.get_mut(&segment).unwrap().bytes[at] ^= 0x55;
    }

    /// Keeps what is synced, and `kept` bytes of the rest, one of them damaged where there is room for it.
    pub(super) fn crash(&mut self, kept: usize, damage: Option<usize>) {
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
pub(super) struct FaultyStorage(pub(super) Arc<Mutex<Disk>>);

#[derive(Debug)]
pub(super) struct FaultySegment(Arc<Mutex<Disk>>, u64);

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
        self.remove(number)?;
        self.0.lock().unwrap().aside.push(number);
        Ok(())
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

//! Memory in which batches are built, used again by the next ones. New memory costs a fault for each of its pages, and a
//! copy each time that it grows: together a third of the processor time of a hit.
//!
//! A room stays as large as the largest batch that it held, and counts as that large, whatever is in it: what batches and
//! spare rooms take together is known. One of which a batch left most unused is given up, so that the partitions with
//! few hits do not keep the memory that those with many made.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::hits::HitColumns;

/// A room of which a batch used less than this part is given up.
const LEAST_USED: usize = 4;

/// What a batch is built in.
#[derive(Debug, Default)]
pub struct Room {
    /// Values of messages, one after the other.
    pub originals: Vec<u8>,
    /// The hits among them.
    pub columns: HitColumns,
    size: usize,
}

/// Rooms that no batch is in.
#[derive(Debug, Default)]
pub struct Rooms(Mutex<Vec<Room>>);

impl Rooms {
    fn spare(&self) -> MutexGuard<'_, Vec<Room>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty room: the one that was used last, or a new one.
    #[must_use]
    pub fn lend(self: &Arc<Self>) -> Lent {
        let room = self.spare().pop().unwrap_or_default();
        Lent { room, used: 0, rooms: Arc::clone(self) }
    }

    /// Gives up spare rooms until the others take no more than so many bytes.
    pub fn keep(&self, bytes: usize) {
        let mut spare = self.spare();
        let mut taken: usize = spare.iter().map(|room| room.size).sum();
        // Those that were used longest ago stand first.
        while taken > bytes && !spare.is_empty() {
            taken -= spare.remove(0).size;
        }
    }

    fn take_back(&self, mut room: Room, used: usize) {
        if used >= room.size / LEAST_USED {
            room.size = room.size.max(used);
            room.originals.clear();
            room.columns.clear();
            self.spare().push(room);
        }
    }
}

/// A room that comes back when it is dropped.
#[derive(Debug)]
pub struct Lent {
    room: Room,
    used: usize,
    rooms: Arc<Rooms>,
}

impl Lent {
    /// What is in it takes so many bytes, or did before.
    pub fn note_use(&mut self, bytes: usize) {
        self.used = self.used.max(bytes);
    }

    /// Bytes that it takes: those in use, or those that an earlier batch used.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.used.max(self.room.size)
    }
}

impl Deref for Lent {
    type Target = Room;

    fn deref(&self) -> &Room {
        &self.room
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Room {
        &mut self.room
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.rooms.take_back(std::mem::take(&mut self.room), self.used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn use_for(rooms: &Arc<Rooms>, bytes: usize) -> usize {
        let mut room = rooms.lend();
        let before = room.bytes();
        assert!(room.originals.is_empty() && room.columns.rows() == 0);
        room.originals.push(1);
        room.note_use(bytes);
        before
    }

    #[test]
    fn a_room_is_as_large_as_its_largest_batch_and_given_up_when_most_of_it_is_unused() {
        let rooms = Arc::default();
        let sizes: Vec<usize> = [100, 80, 25, 24, 10].map(|bytes| use_for(&rooms, bytes)).into();
        assert_eq!(sizes, [0, 100, 100, 100, 0]);
    }

    #[test]
    fn spare_rooms_take_no_more_than_they_may() {
        let rooms: Arc<Rooms> = Arc::default();
        let mut lent: Vec<Lent> = (0..5).map(|_| rooms.lend()).collect();
        lent.iter_mut().for_each(|room| room.note_use(100));
        drop(lent);
        rooms.keep(250);
        assert_eq!(rooms.spare().len(), 2);
        rooms.keep(0);
        assert!(rooms.spare().is_empty());
    }
}

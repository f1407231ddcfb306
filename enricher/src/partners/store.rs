//! Partner records in little memory: encoded, one behind the other, found by a hash of what they match.
//!
//! A record of a hundred bytes of text costs some fourteen bytes more. It is decoded when it is looked at, borrowing its
//! text from here, which happens only for hits that match. Whoever asks gets all records with one hash and compares.

use hashbrown::HashTable;
use schemas::PartnerRecord;
use schemas::codec::{Encode, decode_all};

/// Records are kept in blocks of so many bytes, so that growing copies nothing. No record is longer.
const BLOCK_BYTES: usize = 1 << 20;
/// Where a record stands is a number of 32 bits.
const MOST_BLOCKS: usize = 1 << 12;
/// What a record costs besides its bytes: its length, and its place in a table that is half empty after it grew.
pub(super) const ENTRY_BYTES: usize = LENGTH_BYTES + 18;
const LENGTH_BYTES: usize = size_of::<u32>();

/// Where a record is.
#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    place: u32,
}

impl Entry {
    /// The table wants all of 64 bits to differ, the highest too.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// The records.
#[derive(Debug, Default)]
pub(super) struct Store {
    blocks: Vec<Vec<u8>>,
    entries: HashTable<Entry>,
    /// Bytes of records that are in the table, and of those that no longer are.
    live: usize,
    dead: usize,
}

impl Store {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all records, with their places.
    pub fn bytes(&self) -> usize {
        self.live + self.entries.len() * ENTRY_BYTES
    }

    /// Adds a record under a hash, unless there would be more than `most_bytes` then.
    pub fn add(&mut self, hash: u32, record: &PartnerRecord<'_>, most_bytes: usize) -> bool {
        let mut encoded = Vec::new();
        record.encode(&mut encoded);
        let fits = self.bytes().saturating_add(encoded.len() + ENTRY_BYTES) <= most_bytes;
        if !fits || encoded.len() + LENGTH_BYTES > BLOCK_BYTES {
            return false;
        }
        let Some(place) = append(&mut self.blocks, &encoded) else { return false };
        self.live += encoded.len();
        self.entries.insert_unique(Entry::spread(hash), Entry { hash, place }, |entry| Entry::spread(entry.hash));
        true
    }

    /// The records under a hash; those of others may be among them.
    pub fn under(&self, hash: u32) -> impl Iterator<Item = PartnerRecord<'_>> {
        let found = self.entries.iter_hash(Entry::spread(hash)).filter(move |entry| entry.hash == hash);
        found.filter_map(|entry| decode_all(bytes_at(&self.blocks, entry.place)).ok())
    }

    /// Removes the record under a hash that is meant; true where there was one.
    pub fn remove(&mut self, hash: u32, is_meant: impl Fn(&PartnerRecord<'_>) -> bool) -> bool {
        let blocks = &self.blocks;
        let is_meant = |entry: &Entry| {
            entry.hash == hash && decode_all(bytes_at(blocks, entry.place)).is_ok_and(|record| is_meant(&record))
        };
        let Ok(found) = self.entries.find_entry(Entry::spread(hash), is_meant) else { return false };
        let (entry, _) = found.remove();
        let bytes = bytes_at(&self.blocks, entry.place).len();
        self.live -= bytes;
        self.dead += bytes;
        self.tidy();
        true
    }

    /// Writes the records anew once a quarter of the bytes are those of removed ones.
    fn tidy(&mut self) {
        if self.dead < BLOCK_BYTES || self.dead * 4 < self.live {
            return;
        }
        let mut blocks = Vec::new();
        for entry in &mut self.entries {
            // There were as many bytes before, so there is a place.
            if let Some(place) = append(&mut blocks, bytes_at(&self.blocks, entry.place)) {
                entry.place = place;
            }
        }
        self.blocks = blocks;
        self.dead = 0;
    }
}

/// Puts bytes behind the last ones; tells where, unless there is no more room at all.
fn append(blocks: &mut Vec<Vec<u8>>, bytes: &[u8]) -> Option<u32> {
    let needed = LENGTH_BYTES + bytes.len();
    if blocks.last().is_none_or(|block| block.len() + needed > BLOCK_BYTES) {
        if blocks.len() == MOST_BLOCKS {
            return None;
        }
        blocks.push(Vec::with_capacity(BLOCK_BYTES));
    }
    let number = blocks.len().checked_sub(1)?;
    let block = blocks.last_mut()?;
    let place = u32::try_from(number * BLOCK_BYTES + block.len()).ok()?;
    block.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
    block.extend_from_slice(bytes);
    Some(place)
}

fn bytes_at(blocks: &[Vec<u8>], place: u32) -> &[u8] {
    let (block, at) = (place as usize / BLOCK_BYTES, place as usize % BLOCK_BYTES);
    let rest = blocks.get(block).and_then(|block| block.get(at..)).unwrap_or_default();
    let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else { return &[] };
    rest.get(..u32::from_le_bytes(*length) as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u32) -> PartnerRecord<'static> {
        let company_name = format!("Example {number} {}", "of a long name ".repeat(10)).into();
        PartnerRecord { match_value: format!("{number}").into(), company_name, ..PartnerRecord::default() }
    }

    #[test]
    fn records_under_one_hash_are_kept_apart_and_found_after_many_were_replaced() {
        const RECORDS: u32 = 20_000;
        let mut store = Store::default();
        // Seven records share each hash; all are replaced several times, so that blocks are written anew.
        for _ in 0..4 {
            for number in 0..RECORDS {
                let new = record(number);
                store.remove(number / 7, |old| old.match_value == new.match_value);
                assert!(store.add(number / 7, &new, usize::MAX));
            }
        }
        assert_eq!(store.len(), RECORDS as usize);
        for number in 0..RECORDS {
            let found = store.under(number / 7).filter(|found| *found == record(number)).count();
            assert_eq!(found, 1, "{number}");
        }
        let held: usize = store.blocks.iter().map(Vec::capacity).sum();
        assert!(held < store.bytes() * 3 / 2 + 2 * BLOCK_BYTES, "{held} bytes are held for {}", store.bytes());
        for number in 0..RECORDS {
            assert!(store.remove(number / 7, |old| old.match_value == record(number).match_value));
        }
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_nothing() {
        let mut store = Store::default();
        assert!(!store.add(1, &record(1), ENTRY_BYTES));
        let endless = PartnerRecord { company_name: "a".repeat(BLOCK_BYTES).into(), ..PartnerRecord::default() };
        assert!(!store.add(1, &endless, usize::MAX));
        assert_eq!((store.len(), store.bytes(), store.under(1).count()), (0, 0, 0));
    }
}

//! Partner records in little memory: encoded, one behind the other, found by a hash of what they match.
//!
//! What a record shares with many others stands in its [shape](super::shapes). The rest is its own and costs some fourteen
//! bytes more than its text. It is decoded when it is looked at, borrowing its text from here, which happens only for hits
//! that match. Whoever asks gets all records with one hash and compares.

use hashbrown::HashTable;
use schemas::codec::{Decode, DecodeError, Encode, Input};
use schemas::{Map, MatchKind, PartnerRecord, Text};

use super::shapes::Shapes;

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
    shapes: Shapes,
    /// Bytes of records that are in the table, and of those that no longer are, with their shapes.
    live: usize,
    dead: usize,
}

impl Store {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all records, with their places.
    pub fn bytes(&self) -> usize {
        self.live + self.shapes.bytes() + self.entries.len() * ENTRY_BYTES
    }

    /// Adds a record under a hash, unless there would be more than `most_bytes` then.
    pub fn add(&mut self, hash: u32, record: &PartnerRecord<'_>, most_bytes: usize) -> bool {
        let Some(shape) = self.shapes.enter(record) else { return false };
        let encoded = encode(shape, record);
        let fits = self.bytes().saturating_add(encoded.len() + ENTRY_BYTES) <= most_bytes;
        let fits = fits && encoded.len() + LENGTH_BYTES <= BLOCK_BYTES;
        let Some(place) = fits.then(|| append(&mut self.blocks, &encoded)).flatten() else {
            self.dead += self.shapes.leave(shape);
            self.tidy();
            return false;
        };
        self.live += encoded.len();
        self.entries.insert_unique(Entry::spread(hash), Entry { hash, place }, |entry| Entry::spread(entry.hash));
        true
    }

    /// The records under a hash; those of others may be among them.
    pub fn under(&self, hash: u32) -> impl Iterator<Item = PartnerRecord<'_>> {
        let found = self.entries.iter_hash(Entry::spread(hash)).filter(move |entry| entry.hash == hash);
        found.filter_map(|entry| decode(&self.shapes, bytes_at(&self.blocks, entry.place)))
    }

    /// Removes the record under a hash that is meant; true where there was one.
    pub fn remove(&mut self, hash: u32, is_meant: impl Fn(&PartnerRecord<'_>) -> bool) -> bool {
        let (blocks, shapes) = (&self.blocks, &self.shapes);
        let is_meant = |entry: &Entry| {
            entry.hash == hash && decode(shapes, bytes_at(blocks, entry.place)).is_some_and(|record| is_meant(&record))
        };
        let Ok(found) = self.entries.find_entry(Entry::spread(hash), is_meant) else { return false };
        let (entry, _) = found.remove();
        let encoded = bytes_at(&self.blocks, entry.place);
        self.live -= encoded.len();
        self.dead += encoded.len() + shape_of(encoded).map_or(0, |shape| self.shapes.leave(shape));
        self.tidy();
        true
    }

    /// Writes the records anew once a quarter of the bytes are those of removed ones.
    fn tidy(&mut self) {
        if self.dead < BLOCK_BYTES || self.dead * 4 < self.live {
            return;
        }
        let (mut blocks, mut shapes, mut live) = (Vec::new(), Shapes::default(), 0);
        let mut move_on = |entry: &mut Entry| {
            let record = decode(&self.shapes, bytes_at(&self.blocks, entry.place))?;
            let encoded = encode(shapes.enter(&record)?, &record);
            entry.place = append(&mut blocks, &encoded)?;
            live += encoded.len();
            Some(())
        };
        // There were as many records and bytes before, so there is a place for each.
        self.entries.retain(|entry| move_on(entry).is_some());
        (self.blocks, self.shapes, self.live, self.dead) = (blocks, shapes, live, 0);
    }
}

/// What a record does not share with others, behind the number of its shape. A company is often known by its domain, so
/// that a domain which is what the record matches is not written twice.
fn encode(shape: u32, record: &PartnerRecord<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    i64::from(shape).encode(&mut out);
    record.match_kind.encode(&mut out);
    record.match_value.encode(&mut out);
    record.site.encode(&mut out);
    record.company_name.encode(&mut out);
    let has_own_domain = record.company_domain != record.match_value;
    has_own_domain.then(|| Text::Borrowed(&*record.company_domain)).encode(&mut out);
    record.attributes.0.iter().for_each(|(_, value)| value.encode(&mut out));
    record.valid_until.encode(&mut out);
    record.updated_at.encode(&mut out);
    out
}

/// The record that was encoded. Nothing where it is none, which would be a bug.
fn decode<'a>(shapes: &'a Shapes, bytes: &'a [u8]) -> Option<PartnerRecord<'a>> {
    let shape = shapes.get(shape_of(bytes)?)?;
    let read = |mut input: Input<'a>| -> Result<PartnerRecord<'a>, DecodeError> {
        let _number = i64::decode(&mut input)?;
        let match_kind = MatchKind::decode(&mut input)?;
        let match_value = Text::decode(&mut input)?;
        let (site, company_name) = (Text::decode(&mut input)?, Text::decode(&mut input)?);
        let company_domain = Option::decode(&mut input)?.unwrap_or_else(|| match_value.clone());
        let values = shape.attributes.into_iter().map(|name| Ok((name, Text::decode(&mut input)?)));
        let attributes = Map(values.collect::<Result<_, DecodeError>>()?);
        let (valid_until, updated_at) = (Option::decode(&mut input)?, i64::decode(&mut input)?);
        let (partner, permitted_uses) = (shape.partner, shape.permitted_uses);
        Ok(PartnerRecord {
            partner,
            match_kind,
            match_value,
            site,
            company_name,
            company_domain,
            attributes,
            permitted_uses,
            valid_until,
            updated_at,
        })
    };
    read(Input::new(bytes)).ok()
}

fn shape_of(encoded: &[u8]) -> Option<u32> {
    u32::try_from(i64::decode(&mut Input::new(encoded)).ok()?).ok()
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
    fn a_record_is_read_as_it_was_added() {
        let full = PartnerRecord {
            partner: "acme".into(),
            match_kind: MatchKind::EmailDomain,
            match_value: "example.com".into(),
            site: "shop".into(),
            company_name: "Example".into(),
            company_domain: "example.com".into(),
            attributes: Map(vec![("industry".into(), "pumps".into()), ("country".into(), "SE".into())]),
            permitted_uses: vec!["measurement".into(), "advertising".into()],
            valid_until: Some(7),
            updated_at: 5,
        };
        let elsewhere = PartnerRecord { company_domain: "example.org".into(), ..full.clone() };
        let mut store = Store::default();
        for (hash, record) in [(1, &full), (2, &elsewhere), (3, &PartnerRecord::default())] {
            assert!(store.add(hash, record, usize::MAX));
            assert_eq!(store.under(hash).collect::<Vec<_>>(), std::slice::from_ref(record));
        }
    }

    #[test]
    fn what_records_have_in_common_is_kept_once_and_not_for_ever() {
        let of = |number: u32, partner: String| {
            let permitted_uses = vec!["measurement and much more that they all permit ".repeat(10).into()];
            PartnerRecord { partner: partner.into(), permitted_uses, ..record(number) }
        };
        let mut store = Store::default();
        (0..1_000).for_each(|number| assert!(store.add(number, &of(number, "acme".to_owned()), usize::MAX)));
        assert!(store.bytes() < 1_000 * 250, "{}", store.bytes());
        let full = store.bytes();
        for number in 0..10_000 {
            assert!(!store.add(number, &of(number, format!("partner {number}")), full));
        }
        assert!(store.shapes.len() < 5_000, "{} shapes are held for one", store.shapes.len());
        assert_eq!(store.under(999).collect::<Vec<_>>(), [of(999, "acme".to_owned())]);
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

//! What many partner records have in common, kept once: who supplied them, what they permit, and how their attributes
//! are named. It is a third of a usual record, and a partner's records differ little in it.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use schemas::codec::{Decode, DecodeError, Encode, Input};
use schemas::{PartnerRecord, Text};

/// What a shape costs besides its bytes: its place in the list and in the table, and the allocation.
pub(super) const SHAPE_BYTES: usize = size_of::<Kept>() + 24;

/// What a record shares with others.
#[derive(Debug, PartialEq)]
pub(super) struct Shape<'a> {
    pub partner: Text<'a>,
    pub permitted_uses: Vec<Text<'a>>,
    pub attributes: Vec<Text<'a>>,
}

impl<'a> Shape<'a> {
    fn encoded(record: &PartnerRecord<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        record.partner.encode(&mut out);
        record.permitted_uses.encode(&mut out);
        let names: Vec<&Text<'_>> = record.attributes.0.iter().map(|(name, _)| name).collect();
        (names.len() as i64).encode(&mut out);
        names.into_iter().for_each(|name| name.encode(&mut out));
        out
    }

    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut input = Input::new(bytes);
        let (partner, permitted_uses) = (Text::decode(&mut input)?, Decode::decode(&mut input)?);
        let names = i64::decode(&mut input)?;
        let attributes = (0..names).map(|_| Text::decode(&mut input)).collect::<Result<_, _>>()?;
        Ok(Self { partner, permitted_uses, attributes })
    }
}

#[derive(Debug)]
struct Kept {
    bytes: Box<[u8]>,
    /// Records of this shape.
    records: usize,
}

impl Kept {
    fn cost(&self) -> usize {
        self.bytes.len() + SHAPE_BYTES
    }
}

/// All shapes, each under its number.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    kept: Vec<Kept>,
    numbers: HashTable<u32>,
    hashes: RandomState,
    /// Bytes of the shapes that some record has.
    live: usize,
}

impl Shapes {
    /// Bytes of the shapes that some record has.
    pub fn bytes(&self) -> usize {
        self.live
    }

    /// How many there are, with those that no record has.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    fn find(&self, bytes: &[u8]) -> Option<u32> {
        let is_it = |number: &u32| self.kept.get(*number as usize).is_some_and(|kept| *kept.bytes == *bytes);
        self.numbers.find(self.hashes.hash_one(bytes), is_it).copied()
    }

    /// The number of a record's shape, which from now on counts one record more; nothing where there is no number left.
    pub fn enter(&mut self, record: &PartnerRecord<'_>) -> Option<u32> {
        let bytes = Shape::encoded(record);
        let number = match self.find(&bytes) {
            Some(number) => number,
            None => self.add(bytes.into_boxed_slice())?,
        };
        let kept = self.kept.get_mut(number as usize)?;
        kept.records += 1;
        if kept.records == 1 {
            self.live += kept.cost();
        }
        Some(number)
    }

    fn add(&mut self, bytes: Box<[u8]>) -> Option<u32> {
        let number = u32::try_from(self.kept.len()).ok()?;
        let hash = self.hashes.hash_one(&*bytes);
        self.kept.push(Kept { bytes, records: 0 });
        let Self { kept, numbers, hashes, .. } = self;
        let hash_of = |number: &u32| kept.get(*number as usize).map_or(0, |kept| hashes.hash_one(&*kept.bytes));
        numbers.insert_unique(hash, number, hash_of);
        Some(number)
    }

    /// A record of this shape is gone. Gives the bytes that are held for nothing since.
    pub fn leave(&mut self, number: u32) -> usize {
        let Some(kept) = self.kept.get_mut(number as usize) else { return 0 };
        kept.records -= 1;
        let freed = if kept.records == 0 { kept.cost() } else { 0 };
        self.live -= freed;
        freed
    }

    /// What the records under a number have in common.
    pub fn get(&self, number: u32) -> Option<Shape<'_>> {
        self.kept.get(number as usize).and_then(|kept| Shape::read(&kept.bytes).ok())
    }
}

#[cfg(test)]
mod tests {
    use schemas::Map;

    use super::*;

    fn record(partner: &str, attribute: &str) -> PartnerRecord<'static> {
        PartnerRecord {
            partner: partner.to_owned().into(),
            permitted_uses: vec!["measurement".into(), "advertising".into()],
            attributes: Map(vec![(attribute.to_owned().into(), "anything".into())]),
            ..PartnerRecord::default()
        }
    }

    #[test]
    fn records_alike_have_one_shape_and_others_have_others() {
        let mut shapes = Shapes::default();
        let numbers: Vec<_> = [("acme", "industry"), ("acme", "industry"), ("acme", "country"), ("other", "industry")]
            .iter()
            .map(|(partner, attribute)| shapes.enter(&record(partner, attribute)).unwrap())
            .collect();
        assert_eq!(numbers, [0, 0, 1, 2]);
        let shape = shapes.get(1).unwrap();
        assert_eq!((&*shape.partner, &shape.attributes[..]), ("acme", &["country".into()][..]));
        assert_eq!(shape.permitted_uses, ["measurement", "advertising"]);
        assert_eq!(shapes.get(3), None);
    }

    #[test]
    fn a_shape_is_paid_for_while_a_record_has_it() {
        let mut shapes = Shapes::default();
        let record = record("acme", "industry");
        shapes.enter(&record).unwrap();
        let cost = shapes.bytes();
        assert!(cost > SHAPE_BYTES);
        shapes.enter(&record).unwrap();
        assert_eq!(shapes.bytes(), cost);
        assert_eq!((shapes.leave(0), shapes.bytes()), (0, cost));
        assert_eq!((shapes.leave(0), shapes.bytes()), (cost, 0));
        assert_eq!((shapes.enter(&record), shapes.bytes()), (Some(0), cost), "again, under its old number");
    }
}

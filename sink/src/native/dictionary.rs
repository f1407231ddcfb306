//! Text of few distinct values: a dictionary, and for each row where its text stands there.

use std::hash::BuildHasher;
use std::marker::PhantomData;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::columns::Column;

/// Version of the serialization: dictionaries are shared, with keys of the block's own.
const SHARED_DICTIONARIES_WITH_ADDITIONAL_KEYS: u64 = 1;
/// The block brings its own keys.
const HAS_ADDITIONAL_KEYS: u64 = 1 << 9;

/// A column of type `LowCardinality(String)`.
#[derive(Debug)]
pub struct Dictionary {
    /// Where in the dictionary each row's text stands.
    rows: Vec<u32>,
    /// The distinct texts, written out one after the other. The first is empty.
    written: Vec<u8>,
    /// Where each text lies in `written`, without its length.
    spans: Vec<(u32, u32)>,
    /// Finds a text's place by its hash. Keyed at random, as what visitors send goes in here.
    places: HashTable<u32>,
    hasher: RandomState,
    /// Place of the row before: hits that follow each other are often alike.
    previous: u32,
}

impl Default for Dictionary {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            written: vec![0],
            spans: vec![(1, 0)],
            places: HashTable::new(),
            hasher: RandomState::default(),
            previous: 0,
        }
    }
}

#[inline]
fn text_at<'written>(written: &'written [u8], spans: &[(u32, u32)], place: u32) -> &'written [u8] {
    let (start, length) = spans[place as usize];
    &written[start as usize..start as usize + length as usize]
}

impl Dictionary {
    #[inline]
    fn place_of(&mut self, text: &[u8]) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if text_at(&self.written, &self.spans, self.previous) == text {
            return self.previous;
        }
        let hash = self.hasher.hash_one(text);
        let found = self.places.find(hash, |place| text_at(&self.written, &self.spans, *place) == text).copied();
        self.previous = found.unwrap_or_else(|| self.add(text, hash));
        self.previous
    }

    /// Adds a text that is not there yet. A batch is bounded far below 4 GiB, so that its places and spans fit.
    fn add(&mut self, text: &[u8], hash: u64) -> u32 {
        let place = self.spans.len() as u32;
        super::write_length(text.len(), &mut self.written);
        self.spans.push((self.written.len() as u32, text.len() as u32));
        self.written.extend_from_slice(text);
        let Self { places, hasher, written, spans, .. } = self;
        places.insert_unique(hash, place, |place| hasher.hash_one(text_at(written, spans, *place)));
        place
    }

    /// Writes the places in the narrowest integers that hold them: 0 for one byte, 1 for two, 2 for four.
    fn write_places(&self, width: u64, out: &mut Vec<u8>) {
        match width {
            0 => out.extend(self.rows.iter().map(|place| *place as u8)),
            1 => self.rows.iter().for_each(|place| out.extend_from_slice(&(*place as u16).to_le_bytes())),
            _ => self.rows.iter().for_each(|place| out.extend_from_slice(&place.to_le_bytes())),
        }
    }
}

/// A type of few values, each of which has a text.
pub trait Symbol: Copy + 'static {
    /// All values, 256 at most, in the order of their places.
    const ALL: &'static [Self];

    /// The value's text.
    fn text(self) -> &'static str;

    /// Where it stands in [`Symbol::ALL`].
    fn place(self) -> u8;
}

/// A column of type `LowCardinality(String)` of which all texts are known beforehand: nothing has to be looked up.
#[derive(Debug)]
pub struct Symbols<S> {
    rows: Vec<u8>,
    values: PhantomData<S>,
}

impl<S> Default for Symbols<S> {
    fn default() -> Self {
        Self { rows: Vec::new(), values: PhantomData }
    }
}

impl<S: Symbol> Column for Symbols<S> {
    type Value<'value> = S;

    fn type_name() -> String {
        Dictionary::type_name()
    }

    #[inline]
    fn push(&mut self, value: S) {
        self.rows.push(value.place());
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn clear(&mut self) {
        self.rows.clear();
    }

    fn write_prefix(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&SHARED_DICTIONARIES_WITH_ADDITIONAL_KEYS.to_le_bytes());
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&HAS_ADDITIONAL_KEYS.to_le_bytes());
        out.extend_from_slice(&(S::ALL.len() as u64).to_le_bytes());
        S::ALL.iter().for_each(|value| super::write_text(value.text(), out));
        out.extend_from_slice(&(self.rows.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.rows);
    }
}

impl Column for Dictionary {
    type Value<'value> = &'value str;

    fn type_name() -> String {
        "LowCardinality(String)".to_owned()
    }

    #[inline]
    fn push(&mut self, value: &str) {
        let place = self.place_of(value.as_bytes());
        self.rows.push(place);
    }

    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn clear(&mut self) {
        self.rows.clear();
        // The empty text stays, as the first.
        self.written.truncate(1);
        self.spans.truncate(1);
        self.places.clear();
        self.previous = 0;
    }

    fn write_prefix(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&SHARED_DICTIONARIES_WITH_ADDITIONAL_KEYS.to_le_bytes());
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        let width = match self.spans.len() {
            0..=0x100 => 0,
            0x101..=0x1_0000 => 1,
            _ => 2,
        };
        out.extend_from_slice(&(width | HAS_ADDITIONAL_KEYS).to_le_bytes());
        out.extend_from_slice(&(self.spans.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.written);
        out.extend_from_slice(&(self.rows.len() as u64).to_le_bytes());
        self.write_places(width, out);
    }
}

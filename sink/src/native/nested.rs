//! Columns that hold several values a row: the number of values up to and with each row, then the values of all rows.

use std::borrow::Cow;

use super::columns::{Column, Texts};
use super::dictionary::Dictionary;

#[derive(Debug, Default)]
struct Ends(Vec<u64>);

impl Ends {
    #[inline]
    fn push(&mut self, end: usize) {
        self.0.push(end as u64);
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.0.iter().for_each(|end| out.extend_from_slice(&end.to_le_bytes()));
    }
}

/// A column of type `Array(LowCardinality(String))`.
#[derive(Debug, Default)]
pub struct Lists {
    ends: Ends,
    items: Dictionary,
}

impl Column for Lists {
    type Value<'value> = &'value [Cow<'value, str>];

    fn type_name() -> String {
        "Array(LowCardinality(String))".to_owned()
    }

    #[inline]
    fn push(&mut self, value: Self::Value<'_>) {
        value.iter().for_each(|item| self.items.push(item));
        self.ends.push(self.items.rows());
    }

    fn rows(&self) -> usize {
        self.ends.0.len()
    }

    fn clear(&mut self) {
        self.ends.0.clear();
        self.items.clear();
    }

    fn write_prefix(&self, out: &mut Vec<u8>) {
        self.items.write_prefix(out);
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        self.ends.write(out);
        // Where all lists are empty, nothing follows, not even an empty dictionary.
        if self.items.rows() > 0 {
            self.items.write_data(out);
        }
    }
}

/// A column of type `Map(LowCardinality(String), String)`.
#[derive(Debug, Default)]
pub struct Maps {
    ends: Ends,
    keys: Dictionary,
    values: Texts,
}

impl Column for Maps {
    type Value<'value> = &'value [(Cow<'value, str>, Cow<'value, str>)];

    fn type_name() -> String {
        "Map(LowCardinality(String), String)".to_owned()
    }

    #[inline]
    fn push(&mut self, value: Self::Value<'_>) {
        for (key, value) in value {
            self.keys.push(key);
            self.values.push(value);
        }
        self.ends.push(self.keys.rows());
    }

    fn rows(&self) -> usize {
        self.ends.0.len()
    }

    fn clear(&mut self) {
        self.ends.0.clear();
        self.keys.clear();
        self.values.clear();
    }

    fn write_prefix(&self, out: &mut Vec<u8>) {
        self.keys.write_prefix(out);
    }

    fn write_data(&self, out: &mut Vec<u8>) {
        self.ends.write(out);
        if self.keys.rows() > 0 {
            self.keys.write_data(out);
            self.values.write_data(out);
        }
    }
}

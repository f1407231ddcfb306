//! ClickHouse's Native format, as far as `hits` needs it: one block, built column by column.
//!
//! Written after the server's own description of the format ("Native", "LowCardinality" and "Compressed blocks" in
//! ClickHouse's documentation) for protocol revision 0, which is what HTTP speaks unless told otherwise: the number of
//! columns and of rows; then for each column its name, its type and its data.
//!
//! A value is appended to its column at once and never held as a row. Text of few distinct values goes into a
//! dictionary here, so that ClickHouse, which would otherwise build one from plain text, has a fifth of the work.

pub mod columns;
pub mod compression;
pub mod dictionary;
pub mod nested;

pub use columns::{Addresses, Column, Nullable, Numbers, Texts, Timestamps, Uuids};
pub use compression::Frames;
pub use dictionary::{Dictionary, Symbol, Symbols};
pub use nested::{Lists, Maps};

/// Appends a length as an unsigned LEB128 integer, as Native writes counts and the lengths of text.
#[inline]
pub(crate) fn write_length(mut length: usize, out: &mut Vec<u8>) {
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

/// Appends a text with its length before it.
#[inline]
pub(crate) fn write_text(text: &str, out: &mut Vec<u8>) {
    write_length(text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// Starts a block: how many columns, how many rows.
pub fn write_block_header(columns: usize, rows: usize, out: &mut Vec<u8>) {
    write_length(columns, out);
    write_length(rows, out);
}

/// Writes one column of a block: name, type, data. A block without rows has no data.
pub fn write_column<C: Column>(name: &str, column: &C, out: &mut Vec<u8>) {
    write_text(name, out);
    write_text(&C::type_name(), out);
    if column.rows() > 0 {
        column.write_prefix(out);
        column.write_data(out);
    }
}

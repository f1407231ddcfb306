//! The bytes of each type of column, worked out by hand from ClickHouse's description of the format.

use std::borrow::Cow;

use proptest::prelude::*;
use sink::native::{
    Addresses, Column, Dictionary, Frames, Lists, Maps, Nullable, Numbers, Texts, Timestamps, Uuids,
    write_block_header, write_column,
};
use uuid::Uuid;

fn data<C: Column>(column: &C) -> Vec<u8> {
    let mut out = Vec::new();
    column.write_data(&mut out);
    out
}

fn prefix<C: Column>(column: &C) -> Vec<u8> {
    let mut out = Vec::new();
    column.write_prefix(&mut out);
    out
}

fn of<'value, C: Column>(values: impl IntoIterator<Item = C::Value<'value>>) -> C {
    let mut column = C::default();
    for value in values {
        column.push(value);
    }
    column
}

#[test]
fn numbers_begin_with_their_lowest_byte() {
    assert_eq!(data(&of::<Numbers<u16>>([0x0102, 3])), [2, 1, 3, 0]);
    assert_eq!(data(&of::<Numbers<u32>>([0x0102_0304])), [4, 3, 2, 1]);
    assert_eq!(data(&of::<Numbers<i32>>([-2])), [0xfe, 0xff, 0xff, 0xff]);
    assert_eq!(data(&of::<Numbers<i64>>([-1])), [0xff; 8]);
    assert_eq!(data(&of::<Numbers<bool>>([true, false])), [1, 0]);
    // IEEE 754: 1.5 is 0x3ff8000000000000.
    assert_eq!(data(&of::<Numbers<f64>>([1.5])), [0, 0, 0, 0, 0, 0, 0xf8, 0x3f]);
}

#[test]
fn points_in_time_are_milliseconds_within_what_the_type_holds() {
    assert_eq!(data(&of::<Timestamps>([258])), [2, 1, 0, 0, 0, 0, 0, 0]);
    // 1900-01-01 is 25,567 days before 1970, and 2300-01-01 is 120,530 days after.
    let (earliest, latest) = (-25_567 * 86_400_000_i64, 120_530 * 86_400_000_i64 - 1);
    let expected = [earliest.to_le_bytes(), latest.to_le_bytes()].concat();
    assert_eq!(data(&of::<Timestamps>([i64::MIN, i64::MAX])), expected);
}

#[test]
fn a_uuid_is_two_halves_each_with_its_lowest_byte_first() {
    let uuid = Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff);
    let expected = [0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0x88];
    assert_eq!(data(&of::<Uuids>([uuid])), expected);
}

#[test]
fn an_address_is_sixteen_bytes_in_network_order() {
    let column = of::<Addresses>(["203.0.113.9", "2001:db8::7", "", "999.1.1.1"]);
    let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 9];
    expected.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    expected.extend([0; 32]);
    assert_eq!(data(&column), expected);
}

#[test]
fn a_text_has_its_length_before_it() {
    let long = "x".repeat(300);
    let column = of::<Texts>(["ab", "", &long]);
    // 300 = 0b10_0101100: the low seven bits first, with a mark that more follow.
    let expected = [&[2, b'a', b'b', 0, 0xac, 0x02], long.as_bytes()].concat();
    assert_eq!((data(&column), column.rows()), (expected, 3));
}

#[test]
fn nulls_stand_before_the_values() {
    assert_eq!(data(&of::<Nullable<Numbers<bool>>>([Some(true), None, Some(false)])), [0, 1, 0, 1, 0, 0]);
    assert_eq!(Nullable::<Numbers<f64>>::type_name(), "Nullable(Float64)");
}

#[test]
fn a_dictionary_is_its_texts_and_their_places() {
    let column = of::<Dictionary>(["a", "", "bc", "a", "a"]);
    assert_eq!(prefix(&column), 1_u64.to_le_bytes());
    let mut expected = 0x200_u64.to_le_bytes().to_vec();
    expected.extend(3_u64.to_le_bytes());
    expected.extend([0, 1, b'a', 2, b'b', b'c']);
    expected.extend(5_u64.to_le_bytes());
    expected.extend([1, 0, 2, 1, 1]);
    assert_eq!(data(&column), expected);
}

#[test]
fn places_are_as_wide_as_they_must_be() {
    for (distinct, kind, width) in [(255, 0_u64, 1), (256, 1, 2), (65_535, 1, 2), (65_536, 2, 4)] {
        let texts: Vec<String> = (0..distinct).map(|number| format!("{number:06}")).collect();
        let written = data(&of::<Dictionary>(texts.iter().map(String::as_str)));
        assert_eq!(written[..8], (0x200 | kind).to_le_bytes(), "{distinct}");
        // Flags, number of texts, the empty text, seven bytes for each other, number of rows, places.
        assert_eq!(written.len(), 8 + 8 + 1 + 7 * distinct + 8 + width * distinct, "{distinct}");
    }
}

#[test]
fn lists_and_maps_are_ends_and_then_items() {
    let (x, y) = (Cow::Borrowed("x"), Cow::Borrowed("y"));
    let lists = of::<Lists>([&[x.clone()][..], &[], &[x.clone(), y.clone()]]);
    let ends = [1_u64.to_le_bytes(), 1_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat();
    let items = data(&of::<Dictionary>(["x", "x", "y"]));
    assert_eq!(data(&lists), [ends.clone(), items.clone()].concat());
    assert_eq!(prefix(&lists), 1_u64.to_le_bytes());

    let maps = of::<Maps>([&[(x.clone(), y.clone())][..], &[], &[(x.clone(), x), (y.clone(), y)]]);
    assert_eq!(data(&maps), [ends, items, vec![1, b'y', 1, b'x', 1, b'y']].concat());
}

#[test]
fn a_list_column_without_items_is_its_ends_only() {
    assert_eq!(data(&of::<Lists>([&[][..], &[]])), [0; 16]);
    assert_eq!(data(&of::<Maps>([&[][..]])), [0; 8]);
}

#[test]
fn a_block_tells_its_columns_and_rows() {
    let mut out = Vec::new();
    write_block_header(1, 200, &mut out);
    write_column("n", &of::<Numbers<u16>>([7]), &mut out);
    assert_eq!(out, [&[1, 0xc8, 0x01, 1, b'n', 6], b"UInt16".as_slice(), &[7, 0]].concat());
}

/// Takes frames apart again, checking sizes and checksums.
fn uncompressed(mut frames: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while !frames.is_empty() {
        let size = u32::from_le_bytes(frames[17..21].try_into().unwrap()) as usize;
        let original = u32::from_le_bytes(frames[21..25].try_into().unwrap()) as usize;
        let (frame, rest) = frames.split_at(16 + size);
        let (high_and_low, checked) = frame.split_at(16);
        assert_eq!(checked[0], 0x82);
        let checksum = u128::from_le_bytes(high_and_low.try_into().unwrap());
        assert_eq!(checksum, cityhash_rs::cityhash_102_128(checked).rotate_right(64));
        parts.push(lz4_flex::block::decompress(&checked[9..], original).unwrap());
        frames = rest;
    }
    parts
}

#[test]
fn frames_hold_a_mebibyte_each() {
    let written: Vec<u8> = (0..2_500_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
    let mut frames = Frames::default();
    for part in written.chunks(300_001) {
        frames.buffer().extend_from_slice(part);
        frames.settle().unwrap();
    }
    assert_eq!(frames.uncompressed(), written.len());
    let parts = uncompressed(&frames.finish().unwrap());
    // Ten million bytes are nine mebibytes and a rest.
    assert_eq!(parts.len(), 10);
    assert!(parts[..9].iter().all(|part| part.len() == 1 << 20));
    assert!(parts.concat() == written);
}

/// Reads a text back, independently of how it was written.
fn read_text(input: &mut &[u8]) -> String {
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let byte = input[0];
        *input = &input[1..];
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    let (text, rest) = input.split_at(length);
    *input = rest;
    String::from_utf8(text.to_vec()).unwrap()
}

fn read_number(input: &mut &[u8]) -> u64 {
    let (number, rest) = input.split_first_chunk::<8>().unwrap();
    *input = rest;
    u64::from_le_bytes(*number)
}

fn read_dictionary(input: &mut &[u8]) -> Vec<String> {
    let width = 1 << (read_number(input) & 0xff);
    let texts: Vec<String> = (0..read_number(input)).map(|_| read_text(input)).collect();
    let rows = read_number(input) as usize;
    let (places, rest) = input.split_at(rows * width);
    *input = rest;
    let place = |bytes: &[u8]| bytes.iter().rev().fold(0, |place, byte| place << 8 | usize::from(*byte));
    places.chunks(width).map(|bytes| texts[place(bytes)].clone()).collect()
}

proptest! {
    #[test]
    fn a_dictionary_gives_back_what_was_put_in(texts in prop::collection::vec("[a-c]{0,2}|.{0,200}", 1..600)) {
        let written = data(&of::<Dictionary>(texts.iter().map(String::as_str)));
        let mut input = written.as_slice();
        prop_assert_eq!(read_dictionary(&mut input), texts);
        prop_assert!(input.is_empty());
    }

    #[test]
    fn maps_give_back_what_was_put_in(
        maps in prop::collection::vec(prop::collection::vec((".{0,10}", ".{0,150}"), 0..4), 1..50),
    ) {
        let borrowed: Vec<Vec<(Cow<'_, str>, Cow<'_, str>)>> = maps
            .iter()
            .map(|map| map.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect())
            .collect();
        let written = data(&of::<Maps>(borrowed.iter().map(Vec::as_slice)));
        let mut input = written.as_slice();
        let ends: Vec<usize> = maps.iter().map(|_| read_number(&mut input) as usize).collect();
        let total = *ends.last().unwrap();
        let keys = if total > 0 { read_dictionary(&mut input) } else { Vec::new() };
        let values: Vec<String> = (0..total).map(|_| read_text(&mut input)).collect();
        prop_assert!(input.is_empty());
        let flat: Vec<(String, String)> = keys.into_iter().zip(values).collect();
        let mut start = 0;
        for (end, map) in ends.into_iter().zip(maps) {
            prop_assert_eq!(&flat[start..end], map.as_slice());
            start = end;
        }
    }
}

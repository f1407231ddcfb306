//! When a batch is cut.

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sink::batch::{Assembler, Batch, Cut, Limits};
use sink::hits::FIXED_ROW_BYTES;
use sink::month::Month;
use sink::outcome::{Outcome, Reason};
use sink::rooms::Rooms;

use crate::messages::{NOON, UNLIMITED, message, metrics, reader, take};

fn ranges(assembler: &mut Assembler) -> Vec<(i64, i64, usize)> {
    std::iter::from_fn(|| assembler.next_ready()).map(|batch| (batch.first, batch.last, batch.rows.len())).collect()
}

#[test]
fn by_rows_where_unreadable_messages_count() {
    let metrics = metrics();
    let mut assembler = Assembler::new(0, Limits { rows: 3, ..UNLIMITED }, Arc::clone(&metrics));
    let reader = reader();
    for offset in 0..7 {
        let value = if offset == 1 { b"nothing".to_vec() } else { message(offset, NOON) };
        take(&mut assembler, &reader, offset, &value, Instant::now());
    }
    assert_eq!(ranges(&mut assembler), [(0, 2, 2), (3, 5, 3)]);
    assembler.cut(Cut::End);
    assert_eq!(ranges(&mut assembler), [(6, 6, 1)]);
    assert_eq!((metrics.batches(Cut::Rows).get(), metrics.batches(Cut::End).get()), (2, 1));
}

#[test]
fn by_bytes() {
    let value = message(1, NOON);
    // Two messages stay below, the third reaches it.
    let bytes = 3 * (value.len() + FIXED_ROW_BYTES);
    let mut assembler = Assembler::new(0, Limits { bytes, ..UNLIMITED }, metrics());
    let reader = reader();
    for offset in 0..6 {
        take(&mut assembler, &reader, offset, &value, Instant::now());
    }
    assert_eq!(ranges(&mut assembler), [(0, 2, 3), (3, 5, 3)]);
}

#[test]
fn by_the_age_of_its_first_message() {
    let delay = Duration::from_secs(1);
    let mut assembler = Assembler::new(0, Limits { delay, ..UNLIMITED }, metrics());
    let (reader, start) = (reader(), Instant::now());
    assembler.cut_if_old(start + delay);
    assert!(!assembler.has_ready(), "there is nothing to cut");
    take(&mut assembler, &reader, 0, &message(0, NOON), start);
    take(&mut assembler, &reader, 1, &message(1, NOON), start + delay / 2);
    assembler.cut_if_old(start + delay - Duration::from_millis(1));
    assert!(!assembler.has_ready());
    assembler.cut_if_old(start + delay);
    assert_eq!(ranges(&mut assembler), [(0, 1, 2)]);
}

#[test]
fn where_the_month_changes() {
    // 2026-04-01 00:00:00 UTC.
    let april = 1_775_001_600_000;
    let mut assembler = Assembler::new(0, UNLIMITED, metrics());
    let reader = reader();
    for (offset, received_at) in [april - 2, april - 1, april, april + 1, april - 1].into_iter().enumerate() {
        take(&mut assembler, &reader, offset as i64, &message(0, received_at), Instant::now());
    }
    assembler.cut(Cut::End);
    assert_eq!(ranges(&mut assembler), [(0, 1, 2), (2, 3, 2), (4, 4, 1)]);
}

#[test]
fn unreadable_messages_are_kept_with_their_reason() {
    let mut assembler = Assembler::new(0, UNLIMITED, metrics());
    let reader = reader();
    let mut unknown = message(0, NOON);
    unknown[2] ^= 1;
    let mut too_long = message(0, NOON);
    too_long.push(0);
    for (offset, value) in (0..).zip([b"no".as_slice(), &unknown, &too_long, b""]) {
        take(&mut assembler, &reader, offset, value, Instant::now());
    }
    assembler.cut(Cut::End);
    let batch = assembler.next_ready().unwrap();
    let reasons: Vec<_> = batch.unreadable.iter().map(|message| message.reason).collect();
    assert_eq!(reasons, [Reason::NoHeader, Reason::UnknownSchema, Reason::Undecodable, Reason::Empty]);
    assert_eq!(batch.original(&batch.unreadable[0].original), b"no");
    assert_eq!(batch.unreadable[0].key, b"key");
}

#[test]
fn the_same_hits_make_the_same_bytes_and_a_part_those_of_its_rows() {
    let messages: Vec<_> = (0..50).map(|number| message(number, NOON)).collect();
    let metrics = metrics();
    let make = || crate::messages::batch(&metrics, &messages);
    let (one, two) = (make(), make());
    let whole = one.block().unwrap();
    assert_eq!(whole.frames, two.block().unwrap().frames);
    assert_eq!(whole.frames, one.part(&one.rows[..50], &reader()).unwrap().frames);
    assert_eq!(one.part(&one.rows[10..30], &reader()).unwrap().rows, 20);
}

/// Whatever was in its memory before.
#[test]
fn a_batch_is_the_same_in_a_room_that_was_used() {
    let (reader, metrics, rooms) = (reader(), metrics(), Arc::default());
    let others: Vec<_> = (100..400).map(|number| message(number, NOON + number)).collect();
    let messages: Vec<_> = (0..200).map(|number| message(number, NOON)).collect();
    let make = |messages: &[Vec<u8>], rooms: &Arc<Rooms>| {
        let mut assembler = Assembler::new(3, UNLIMITED, Arc::clone(&metrics)).in_rooms(Arc::clone(rooms));
        let offsets = (0..).zip(messages);
        let grown: usize =
            offsets.map(|(offset, value)| take(&mut assembler, &reader, offset, value, Instant::now())).sum();
        assembler.cut(Cut::End);
        let batch = assembler.next_ready().unwrap();
        assert_eq!(batch.memory(), grown);
        batch
    };
    let first = make(&others, &rooms);
    let largest = first.memory();
    drop(first);
    let second = make(&messages, &rooms);
    assert_eq!(second.memory(), largest, "it takes the whole room");
    assert_eq!(second.block().unwrap().frames, make(&messages, &Arc::default()).block().unwrap().frames);
    assert_eq!(second.original(&second.rows[199]), messages[199]);
}

fn in_order(batches: &[Batch]) -> Vec<i64> {
    batches.iter().flat_map(|batch| batch.rows.iter().map(|row| row.offset)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However batches are cut, they hold every offset once and in order, each within one month, and every hit that was
    /// received gets an outcome.
    #[test]
    fn nothing_is_lost_between_batches(
        rows in 1usize..20,
        kilobytes in 1usize..20,
        hits in prop::collection::vec((0i64..100, 1i64..4), 1..200),
    ) {
        let metrics = metrics();
        let limits = Limits { rows, bytes: kilobytes * 1024, delay: Duration::MAX };
        let mut assembler = Assembler::new(0, limits, Arc::clone(&metrics));
        let reader = reader();
        let (mut offset, mut taken, mut memory) = (0, Vec::new(), 0);
        for (day, step) in &hits {
            memory += take(&mut assembler, &reader, offset, &message(offset, NOON + day * 86_400_000), Instant::now());
            taken.push(offset);
            offset += step;
        }
        assembler.cut(Cut::End);
        let batches: Vec<Batch> = std::iter::from_fn(|| assembler.next_ready()).collect();
        prop_assert_eq!(in_order(&batches), taken);
        prop_assert_eq!(batches.iter().map(Batch::memory).sum::<usize>(), memory);
        for batch in &batches {
            prop_assert!(batch.rows.len() <= rows);
            let month = Month::of(batch.received_at()[0]);
            prop_assert!(batch.received_at().iter().all(|received_at| month.contains(*received_at)));
        }
        drop(batches);
        prop_assert_eq!(metrics.received.get(), hits.len() as u64);
        prop_assert_eq!(metrics.outcome(Outcome::Returned).get(), hits.len() as u64);
    }
}

//! Messages with bytes changed: what still reads as a hit becomes a row, whatever it holds, and nothing panics.

use std::sync::Arc;
use std::time::Instant;

use sink::batch::{Assembler, Cut, Limits};

use crate::messages::{NOON, UNLIMITED, message, metrics, reader, take};

const INPUTS: i64 = 1_000_000;
/// Bytes of the header and the fingerprint: changed, they end it before anything is read.
const HEADER: usize = 10;

/// Changes a byte, takes a piece out, or doubles one, up to three times.
fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..=3) {
        let at = random.usize(HEADER..bytes.len());
        match random.u32(..4) {
            0 => bytes[at] ^= 1 << random.u32(..8),
            1 => bytes[at] = random.u8(..),
            2 if bytes.len() > HEADER + 1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, bytes[at]),
        }
    }
}

#[test]
fn mutated_hits_become_rows_or_are_unreadable() {
    let (metrics, reader) = (metrics(), reader());
    let mut assembler = Assembler::new(0, Limits { rows: 1_000, ..UNLIMITED }, Arc::clone(&metrics));
    let mut random = fastrand::Rng::with_seed(7);
    let whole = message(1, NOON);
    let (mut rows, mut unreadable) = (0, 0);
    for offset in 0..INPUTS {
        let mut bytes = whole.clone();
        mutate(&mut bytes, &mut random);
        take(&mut assembler, &reader, offset, &bytes, Instant::now());
        if offset == INPUTS - 1 {
            assembler.cut(Cut::End);
        }
        while let Some(batch) = assembler.next_ready() {
            let block = batch.block().unwrap();
            assert_eq!(block.rows, batch.rows.len());
            // Read again for a part, as where ClickHouse refuses a row, it is the same.
            assert_eq!(batch.part(&batch.rows, &reader).unwrap().frames, block.frames);
            rows += block.rows;
            unreadable += batch.unreadable.len();
        }
    }
    assert_eq!(rows + unreadable, INPUTS as usize);
    assert!(rows > 1_000 && unreadable > 1_000, "{rows} rows and {unreadable} unreadable show little");
}

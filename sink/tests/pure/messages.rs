//! Messages and batches for the tests.

use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use prometheus::Registry;
use schemas::{EnrichedHit, Reader, Writer};
use sink::batch::{Assembler, Batch, Cut, Limits, Message};
use sink::metrics::Metrics;
use uuid::Uuid;

/// Without limits.
pub const UNLIMITED: Limits = Limits { rows: usize::MAX, bytes: usize::MAX, delay: Duration::MAX };
/// 2026-03-10 12:00:00 UTC, Unix milliseconds.
pub const NOON: i64 = 1_773_144_000_000;

pub fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(&Registry::new()).unwrap())
}

pub fn reader() -> Arc<Reader> {
    Arc::new(Reader::new::<EnrichedHit<'_>>(None).unwrap())
}

/// A message as the enricher writes it.
pub fn message(number: i64, received_at: i64) -> Vec<u8> {
    let mut hit = EnrichedHit::default();
    hit.hit.hit_id = Uuid::from_u128(number as u128);
    hit.hit.site = "shop".into();
    hit.hit.visitor_id = format!("visitor {}", number % 7).into();
    hit.hit.page_url = "https://shop.example/".into();
    hit.hit.received_at = received_at;
    static WRITER: LazyLock<Writer> = LazyLock::new(|| Writer::single_object::<EnrichedHit<'_>>().unwrap());
    let mut out = Vec::new();
    WRITER.write(&hit, &mut out);
    out
}

pub fn take(assembler: &mut Assembler, reader: &Reader, offset: i64, value: &[u8], now: Instant) -> usize {
    assembler.take(Message { offset, key: b"key", value: Some(value) }, reader, now).unwrap()
}

/// A batch of messages, of which those that are none are unreadable.
pub fn batch(metrics: &Arc<Metrics>, messages: &[Vec<u8>]) -> Batch {
    let mut assembler = Assembler::new(3, UNLIMITED, Arc::clone(metrics));
    let reader = reader();
    for (offset, value) in (0..).zip(messages) {
        take(&mut assembler, &reader, offset, value, Instant::now());
    }
    assembler.cut(Cut::End);
    assembler.next_ready().unwrap()
}

/// Which of these offsets are in ranges that were stored.
pub fn among(stored: &[(i64, i64)], offsets: RangeInclusive<i64>) -> Vec<i64> {
    offsets.filter(|offset| stored.iter().any(|(first, last)| (first..=last).contains(&offset))).collect()
}

//! Hits through the sink, without its sockets: from messages of hits.enriched to one compressed block. Times are of
//! 1,000 hits, so milliseconds here are microseconds a hit.
#![allow(clippy::unwrap_used, reason = "a measurement that fails here has failed")]

use benches::traffic::{DAY, Settings, Traffic, World};
use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use schemas::codec::decode_all;
use schemas::{EnrichedHit, Reader, Writer};
use sink::hits::{Coordinates, HitColumns};
use sink::native::compression::Frames;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const HITS: usize = 1_000;
/// Blocks are larger in earnest, so that their dictionaries weigh less.
const BLOCK: usize = 50_000;

fn main() {
    divan::main();
}

/// Messages in the order in which they arrive.
fn messages(count: usize) -> Vec<Vec<u8>> {
    let world = World::new(Settings::new(1, 100_000, 1_790_000_000_000).lasting(DAY));
    let writer = Writer::single_object::<EnrichedHit<'_>>().unwrap();
    let message = |hit: EnrichedHit<'_>| {
        let mut out = Vec::new();
        writer.write(&hit, &mut out);
        out
    };
    Traffic::new(&world).take(count).map(message).collect()
}

fn columns(messages: &[Vec<u8>], reader: &Reader) -> HitColumns {
    let mut columns = HitColumns::default();
    for (offset, message) in (0..).zip(messages) {
        let body = reader.body(message).unwrap();
        let hit: EnrichedHit<'_> = decode_all(&body).unwrap();
        columns.push(&hit, Coordinates { partition: 0, offset });
    }
    columns
}

#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let (messages, reader) = (messages(HITS), Reader::new::<EnrichedHit<'_>>(None).unwrap());
    bencher.counter(ItemsCount::new(HITS)).counter(bytes(&messages)).bench_local(|| {
        for message in &messages {
            let body = reader.body(message).unwrap();
            black_box(decode_all::<EnrichedHit<'_>>(&body).unwrap());
        }
    });
}

#[divan::bench]
fn decode_into_columns(bencher: Bencher<'_, '_>) {
    let (messages, reader) = (messages(HITS), Reader::new::<EnrichedHit<'_>>(None).unwrap());
    let bencher = bencher.counter(ItemsCount::new(HITS)).counter(bytes(&messages));
    bencher.bench_local(|| columns(black_box(&messages), &reader));
}

/// Columns to Native format in LZ4 frames: divide by 50 for 1,000 hits.
#[divan::bench(sample_count = 20)]
fn block_of_50_000(bencher: Bencher<'_, '_>) {
    let columns = columns(&messages(BLOCK), &Reader::new::<EnrichedHit<'_>>(None).unwrap());
    bencher.counter(ItemsCount::new(columns.rows())).bench_local(|| black_box(&columns).block().unwrap().frames.len());
}

fn bytes(messages: &[Vec<u8>]) -> BytesCount {
    BytesCount::new(messages.iter().map(Vec::len).sum::<usize>())
}

/// The compression alone, of bytes as a block has them.
#[divan::bench]
fn compress_a_mebibyte(bencher: Bencher<'_, '_>) {
    let text = messages(5_000).concat();
    let part = &text[..1 << 20];
    bencher.counter(BytesCount::of_slice(part)).bench_local(|| {
        let mut frames = Frames::default();
        frames.buffer().extend_from_slice(black_box(part));
        frames.finish().unwrap().len()
    });
}

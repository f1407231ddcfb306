//! A raw hit to and from Avro: our codec against apache-avro, the authority.

#![allow(clippy::expect_used, reason = "a measurement that can't go on stops")]

use apache_avro::{Schema, from_avro_datum, to_avro_datum};
use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher, black_box};
use schemas::codec::{decode_all, owned};
use schemas::wire::parse_versions;
use schemas::{Consent, Encode, Kind, Map, Protocol, RawHit, VisitorIdSource};
use uuid::Uuid;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A page view as the tag sends it: some 700 bytes.
fn hit() -> RawHit<'static> {
    RawHit {
        hit_id: Uuid::from_u128(0x0190_d5a0_0000_7000_8000_0000_0000_0001),
        site: "demo".into(),
        protocol: Protocol::Tag,
        kind: Kind::PageView,
        received_at: 1_767_225_600_123,
        client_time: Some(1_767_225_599_000),
        sent_at: Some(1_767_225_599_900),
        visitor_id: "0190d5a0-0000-7000-8000-000000000002".into(),
        visitor_id_source: VisitorIdSource::Client,
        session_id: Some(Uuid::from_u128(3)),
        page_view_id: Some(Uuid::from_u128(1)),
        page_url: "https://www.example.com/products/centrifugal-pumps/series-4000?utm_source=letter&utm_medium=email".into(),
        page_title: "Centrifugal pumps, series 4000".into(),
        referrer: "https://www.google.com/".into(),
        duration_ms: Some(15_000),
        screen_width: Some(1920),
        screen_height: Some(1080),
        language: "de-CH".into(),
        time_zone: "Europe/Zurich".into(),
        user_agent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36".into(),
        client_hints: Map(vec![
            ("sec-ch-ua".into(), "\"Chromium\";v=\"126\", \"Google Chrome\";v=\"126\"".into()),
            ("sec-ch-ua-mobile".into(), "?0".into()),
            ("sec-ch-ua-platform".into(), "\"Windows\"".into()),
        ]),
        ip: owned("203.0.113.77".into()),
        consent: Some(Consent { measurement: Some(true), wording: "v2".into(), ..Consent::default() }),
        tag_version: "1".into(),
        ..RawHit::default()
    }
}

fn schema() -> Schema {
    parse_versions::<RawHit>().expect("the schemas are schemas").pop().expect("there is a version")
}

fn encoded() -> Vec<u8> {
    let mut bytes = Vec::new();
    hit().encode(&mut bytes);
    bytes
}

#[divan::bench]
fn encode_ours(bencher: Bencher) {
    let hit = hit();
    let mut out = Vec::with_capacity(2048);
    bencher.counter(BytesCount::new(encoded().len())).bench_local(|| {
        out.clear();
        black_box(&hit).encode(&mut out);
        out.len()
    });
}

#[divan::bench]
fn encode_apache_avro(bencher: Bencher) {
    let schema = schema();
    let value = from_avro_datum(&schema, &mut encoded().as_slice(), None).expect("our bytes are the schema's");
    bencher
        .counter(BytesCount::new(encoded().len()))
        .bench_local(|| to_avro_datum(&schema, black_box(&value).clone()).expect("it is the schema's").len());
}

#[divan::bench]
fn decode_ours(bencher: Bencher) {
    let bytes = encoded();
    bencher
        .counter(BytesCount::new(encoded().len()))
        .bench_local(|| decode_all::<RawHit>(black_box(&bytes)).expect("it is a hit").received_at);
}

#[divan::bench]
fn decode_apache_avro(bencher: Bencher) {
    let (schema, bytes) = (schema(), encoded());
    bencher
        .counter(BytesCount::new(encoded().len()))
        .bench_local(|| from_avro_datum(&schema, &mut black_box(bytes.as_slice()), None).expect("it is a hit"));
}

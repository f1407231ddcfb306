//! What a million partner records take beside both GeoIP databases.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails here has failed")]

mod common;

use std::time::Instant;

use common::Files;
use enricher::data::geoip::GeoIp;
use enricher::data::user_agents::UserAgents;
use enricher::options::RunOptions;
use enricher::partners::index::PartnerIndex;
use schemas::{Map, MatchKind, PartnerRecord, RecordKey};

const RECORDS: u32 = 1_000_000;
/// What one of them may take, so that the enricher stays below 250 MiB with all of them and both databases.
const RECORD_BYTES: usize = 120;
const NOW: i64 = 1_700_000_000_000;

/// A company by its network, or by its domain.
fn record(number: u32) -> PartnerRecord<'static> {
    let [_, a, b, c] = number.to_be_bytes();
    let (match_kind, match_value) = match number % 2 {
        0 => (MatchKind::IpRange, format!("{}.{b}.{c}.0/24", 20 + a)),
        _ => (MatchKind::EmailDomain, format!("example-{number}.com")),
    };
    let attributes = [("industry", "Centrifugal pumps"), ("employees", "50-249"), ("country", "SE")];
    PartnerRecord {
        partner: "acme".into(),
        match_kind,
        match_value: match_value.into(),
        company_name: format!("Example Manufacturing {number} AB").into(),
        company_domain: format!("example-{number}.com").into(),
        attributes: Map(attributes.map(|(name, value)| (name.into(), value.into())).into()),
        permitted_uses: vec!["measurement".into(), "personalisation".into()],
        updated_at: NOW,
        ..PartnerRecord::default()
    }
}

fn default_room() -> usize {
    RunOptions::from_words(["--metrics-listen=127.0.0.1:0"]).unwrap().partner_bytes
}

fn apply(index: &mut PartnerIndex, record: PartnerRecord<'static>) {
    let key = RecordKey::of(&record).to_bytes();
    index.apply(&key, Some(record)).expect("there is room for it");
}

#[test]
fn a_million_records_fit_into_what_partner_records_may_take_by_default() {
    const SAMPLE: u32 = 20_000;
    let mut index = PartnerIndex::default();
    (0..SAMPLE).for_each(|number| apply(&mut index, record(RECORDS - 1 - number)));
    let all = index.bytes() * (RECORDS / SAMPLE) as usize;
    assert!(all <= default_room(), "a million records take {all} bytes");
    assert!(all <= RECORD_BYTES * RECORDS as usize, "a record takes {} bytes", index.bytes() / SAMPLE as usize);
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

#[test]
#[ignore = "a measurement: cargo test -p enricher --test memory measure -- --ignored --nocapture"]
fn measure_a_million_records_beside_the_databases() {
    let Some(files) = Files::or_skip("measure_a_million_records_beside_the_databases") else { return };
    eprintln!("at start: {} MiB", resident());
    let geoip = GeoIp::open(Some(&files.city), Some(&files.network)).unwrap();
    eprintln!("with both GeoIP databases: {} MiB", resident());
    let user_agents = UserAgents::open(&files.expressions).unwrap();
    eprintln!("with the expressions for user agents: {} MiB", resident());
    let mut index = PartnerIndex::default();
    let begun = Instant::now();
    (0..RECORDS).for_each(|number| apply(&mut index, record(number)));
    let taken = index.bytes() / (1 << 20);
    eprintln!("with a million records, taken in in {:?}: {} MiB, {taken} of them counted", begun.elapsed(), resident());
    (0..RECORDS).for_each(|number| apply(&mut index, record(number)));
    eprintln!("with all of them replaced: {} MiB", resident());
    drop((geoip, user_agents));
}

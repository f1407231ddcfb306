//! One hit through the enricher: from the bytes of hits.raw to the bytes of hits.enriched, on the real files that
//! deploy/local/fetch.py brings. Times are of 1,000 hits, so milliseconds here are microseconds a hit.
#![allow(clippy::unwrap_used, reason = "a measurement that fails here has failed")]

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, RwLock};

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use enricher::data::geoip::GeoIp;
use enricher::data::referrers::Referrers;
use enricher::data::user_agents::UserAgents;
use enricher::hit::{Enricher, Formats, Knowledge};
use enricher::metrics::Metrics;
use enricher::partners::file::{Format, parse};
use enricher::partners::index::PartnerIndex;
use enricher::partners::key::RecordKey;
use schemas::{Contact, IpPolicy, Kind, Map, Protocol, RawHit, VisitorIdSource, Writer};
use uuid::Uuid;

const HITS: usize = 1_000;
const NOW: i64 = 1_700_000_000_000;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

fn data(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.local/data")).join(name)
}

fn user_agents() -> Vec<String> {
    std::fs::read_to_string(data("user-agents.txt")).unwrap().lines().map(str::to_owned).collect()
}

/// A thousand networks and a thousand companies that partners know.
fn partners() -> PartnerIndex {
    let mut text = "partner,match_kind,match_value,company_name,permitted_uses,attribute.industry\n".to_owned();
    for number in 0..1_000 {
        let (high, low) = (number / 250, number % 250);
        text += &format!("acme,ip_range,8{high}.{low}.0.0/16,Example {number},measurement,Pumps\n");
        text += &format!("acme,email_domain,example-{number}.com,Example {number},measurement,Pumps\n");
    }
    let mut index = PartnerIndex::default();
    for record in parse(&text, Format::Csv, NOW).records {
        let key = RecordKey::of(&record).to_bytes();
        index.apply(&key, Some(record)).unwrap();
    }
    index
}

static ENRICHER: LazyLock<Enricher> = LazyLock::new(|| {
    let knowledge = Knowledge {
        geoip: GeoIp::open(Some(&data("city.mmdb")), Some(&data("asn.mmdb"))).unwrap(),
        user_agents: UserAgents::open(&data("regexes.yaml")).unwrap(),
        referrers: Referrers::open(&data("referers.json")).unwrap(),
        sites: None,
        partners: RwLock::new(partners()),
        privacy: std::sync::Arc::default(),
    };
    Enricher::new(Arc::new(knowledge), Metrics::new().unwrap(), Formats::single_object().unwrap())
});

/// Addresses all over the net, the same for the same number.
fn address(number: usize) -> String {
    let spread = (number as u32).wrapping_mul(2_654_435_761);
    let [_, b, c, d] = spread.to_be_bytes();
    format!("{}.{b}.{c}.{d}", 20 + number % 180)
}

fn hit(number: usize, user_agent: &str) -> RawHit<'static> {
    let referrers = ["https://www.google.com/", "https://www.linkedin.com/feed/", "", "https://www.example.com/a"];
    let queries = ["", "?page=2", "", "?utm_source=news&utm_medium=email&utm_campaign=spring&gclid=abc123"];
    let mut hints = Map::default();
    if number.is_multiple_of(2) {
        hints.push("sec-ch-ua", r#""Chromium";v="124", "Google Chrome";v="124", "Not-A.Brand";v="99""#);
        hints.push("sec-ch-ua-mobile", "?0");
        hints.push("sec-ch-ua-platform", "\"Windows\"");
    }
    let email = format!("someone@example-{}.com", number % 1_500).into();
    RawHit {
        hit_id: Uuid::now_v7(),
        site: "demo".into(),
        protocol: Protocol::Tag,
        kind: Kind::PageView,
        received_at: NOW,
        client_time: Some(NOW - 4_000),
        sent_at: Some(NOW - 1_000),
        visitor_id: Uuid::now_v7().to_string().into(),
        visitor_id_source: VisitorIdSource::Cookie,
        session_id: Some(Uuid::now_v7()),
        page_url: format!("https://www.example.com/products/pumps/{number}{}", queries[number % 4]).into(),
        page_title: "Centrifugal pumps for process water".into(),
        referrer: referrers[number % 4].into(),
        screen_width: Some(1_920),
        screen_height: Some(1_080),
        language: "en-GB".into(),
        time_zone: "Europe/London".into(),
        user_agent: user_agent.to_owned().into(),
        client_hints: hints,
        ip: address(number).into(),
        ip_policy: IpPolicy::Truncated,
        contact: number.is_multiple_of(20).then(|| Contact { email, ..Contact::default() }),
        tag_version: "1".into(),
        ..RawHit::default()
    }
}

fn messages(from: usize, user_agent: impl Fn(usize) -> String) -> Vec<Vec<u8>> {
    let writer = Writer::single_object::<RawHit<'_>>().unwrap();
    let message = |number| {
        let mut out = Vec::new();
        writer.write(&hit(number, &user_agent(number)), &mut out);
        out
    };
    (from..from + HITS).map(message).collect()
}

fn run(messages: &[Vec<u8>], out: &mut Vec<u8>) {
    for message in messages {
        out.clear();
        ENRICHER.enrich(Some(message), NOW, out).unwrap();
        divan::black_box(&out);
    }
}

/// Visitors that were seen before.
#[divan::bench]
fn warm(bencher: Bencher<'_, '_>) {
    let list = user_agents();
    let messages = messages(0, |number| list[number % list.len()].clone());
    let mut out = Vec::new();
    run(&messages, &mut out);
    bencher.counter(ItemsCount::new(HITS)).bench_local(|| run(&messages, &mut out));
}

/// Addresses that were never seen, and one user agent in ten that wasn't.
#[divan::bench]
fn cold(bencher: Bencher<'_, '_>) {
    let list = user_agents();
    let mut from = HITS;
    let mut out = Vec::new();
    let fresh = || {
        from += HITS;
        messages(from, |number| {
            let known = &list[number % 50];
            if number.is_multiple_of(10) { format!("{known} Build/{number}") } else { known.clone() }
        })
    };
    bencher.counter(ItemsCount::new(HITS)).with_inputs(fresh).bench_local_refs(|messages| run(messages, &mut out));
}

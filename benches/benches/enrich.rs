//! One hit through the enricher: from the bytes of hits.raw to the bytes of hits.enriched, on the real files that
//! deploy/local/fetch.py brings. Times are of 1,000 hits, so milliseconds here are microseconds a hit.
#![allow(clippy::unwrap_used, reason = "a measurement that fails here has failed")]

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, RwLock};

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher};
use enricher::data::geoip::{AddressFacts, GeoIp};
use enricher::data::referrers::Referrers;
use enricher::data::user_agents::{UserAgentFacts, UserAgents};
use enricher::enrichments::{self, Context, STEPS};
use enricher::hit::{Enricher, Formats, Knowledge};
use enricher::metrics::Metrics;
use enricher::partners::file::{Format, parse};
use enricher::partners::index::PartnerIndex;
use enricher::pipeline::duplicates::{Identity, Remember, Windows};
use schemas::codec::{Decode, Input};
use schemas::{Contact, EnrichedHit, IpPolicy, Kind, Map, Protocol, RawHit, RecordKey, VisitorIdSource, Writer};
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

static KNOWLEDGE: LazyLock<Arc<Knowledge>> = LazyLock::new(|| {
    Arc::new(Knowledge {
        geoip: GeoIp::open(Some(&data("city.mmdb")), Some(&data("asn.mmdb"))).unwrap(),
        user_agents: UserAgents::open(&data("regexes.yaml")).unwrap(),
        referrers: Referrers::open(&data("referers.json")).unwrap(),
        sites: None,
        partners: RwLock::new(partners()),
        privacy: Arc::default(),
    })
});

static ENRICHER: LazyLock<Enricher> =
    LazyLock::new(|| Enricher::new(Arc::clone(&KNOWLEDGE), Metrics::new().unwrap(), Formats::single_object().unwrap()));

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
    let bytes: usize = messages.iter().map(Vec::len).sum();
    let bencher = bencher.counter(ItemsCount::new(HITS)).counter(BytesCount::new(bytes));
    bencher.bench_local(|| run(&messages, &mut out));
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

/// What was looked up for one hit.
type Looked = (Arc<UserAgentFacts>, Arc<AddressFacts>);

fn looked(hit: &RawHit<'_>) -> Looked {
    let address = KNOWLEDGE.geoip.current().look_up(&hit.ip).0;
    (KNOWLEDGE.user_agents.look_up(&hit.user_agent, &hit.client_hints).0, address)
}

fn context<'a>((user_agent, address): &'a Looked, partners: &'a PartnerIndex) -> Context<'a> {
    let referrers = &KNOWLEDGE.referrers;
    Context { now: NOW, user_agent, address, geoip_version: "City@1", referrers, site: None, partners }
}

fn known_messages() -> Vec<Vec<u8>> {
    let list = user_agents();
    messages(0, |number| list[number % list.len()].clone())
}

/// A hit as a worker decodes it, borrowing from its message. Behind the ten bytes of its header.
fn decoded(message: &[u8]) -> RawHit<'_> {
    RawHit::decode(&mut Input::new(&message[10..])).unwrap()
}

/// Each step alone, on hits that went through the steps before it; what dropping the hits costs is not in it.
#[divan::bench(args = STEPS.iter().map(|(name, _)| *name))]
fn step(bencher: Bencher<'_, '_>, name: &str) {
    let messages = known_messages();
    let partners = KNOWLEDGE.partners.read().unwrap();
    let looked: Vec<Looked> = messages.iter().map(|message| looked(&decoded(message))).collect();
    let at = STEPS.iter().position(|(known, _)| *known == name).unwrap();
    let before = || -> Vec<(EnrichedHit<'_>, Context<'_>)> {
        let hits = messages.iter().zip(&looked);
        hits.map(|(message, looked)| {
            let (hit, context) = (decoded(message), context(looked, &partners));
            let mut hit = EnrichedHit { hit, ..EnrichedHit::default() };
            STEPS[..at].iter().for_each(|(_, step)| step(&mut hit, &context));
            (hit, context)
        })
        .collect()
    };
    bencher.counter(ItemsCount::new(HITS)).with_inputs(before).bench_local_refs(|hits| {
        hits.iter_mut().for_each(|(hit, context)| STEPS[at].1(hit, context));
    });
}

/// Writing the enriched hit.
#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let messages = known_messages();
    let partners = KNOWLEDGE.partners.read().unwrap();
    let looked: Vec<Looked> = messages.iter().map(|message| looked(&decoded(message))).collect();
    let pairs = messages.iter().zip(&looked);
    let hits: Vec<_> =
        pairs.map(|(message, looked)| enrichments::enrich(decoded(message), &context(looked, &partners))).collect();
    let writer = Writer::single_object::<EnrichedHit<'_>>().unwrap();
    let mut out = Vec::new();
    hits.iter().for_each(|hit| writer.write(hit, &mut out));
    let bencher = bencher.counter(ItemsCount::new(HITS)).counter(BytesCount::new(out.len()));
    bencher.bench_local(|| {
        out.clear();
        hits.iter().for_each(|hit| writer.write(hit, &mut out));
    });
}

/// Addresses that no cache knows.
#[divan::bench]
fn address_miss(bencher: Bencher<'_, '_>) {
    let mut from = 50_000_000;
    let fresh = || {
        from += HITS;
        (from..from + HITS).map(address).collect::<Vec<_>>()
    };
    let databases = KNOWLEDGE.geoip.current();
    bencher.counter(ItemsCount::new(HITS)).with_inputs(fresh).bench_local_refs(|addresses| {
        addresses.iter().for_each(|address| drop(divan::black_box(databases.look_up(address))));
    });
}

/// User agents that no cache knows; a hundred at a time, so milliseconds here are ten microseconds each.
#[divan::bench(sample_count = 20)]
fn user_agent_miss(bencher: Bencher<'_, '_>) {
    const AGENTS: usize = 100;
    let list = user_agents();
    let mut from = 0;
    let fresh = || {
        from += AGENTS;
        (from..from + AGENTS).map(|number| format!("{} Own/{number}", list[number % list.len()])).collect::<Vec<_>>()
    };
    bencher.counter(ItemsCount::new(AGENTS)).with_inputs(fresh).bench_local_refs(|agents| {
        agents.iter().for_each(|agent| drop(divan::black_box(KNOWLEDGE.user_agents.look_up(agent, &Map::default()))));
    });
}

/// A thousand addresses, some of them known to a partner.
#[divan::bench]
fn partner_by_address(bencher: Bencher<'_, '_>) {
    let partners = KNOWLEDGE.partners.read().unwrap();
    let addresses: Vec<std::net::IpAddr> = (0..HITS).map(|number| address(number).parse().unwrap()).collect();
    bencher.counter(ItemsCount::new(HITS)).bench_local(|| {
        addresses.iter().filter(|address| partners.by_address(**address, 32, "demo", NOW).is_some()).count()
    });
}

/// A thousand domains, two thirds of them known to a partner.
#[divan::bench]
fn partner_by_domain(bencher: Bencher<'_, '_>) {
    let partners = KNOWLEDGE.partners.read().unwrap();
    let domains: Vec<String> = (0..HITS).map(|number| format!("example-{}.com", number * 3 / 2)).collect();
    bencher.counter(ItemsCount::new(HITS)).bench_local(|| {
        domains.iter().filter(|domain| partners.by_email_domain(domain, "demo", NOW).is_some()).count()
    });
}

/// A batch of hits through the window of a partition: who they are, whether they are known, and keeping them.
#[divan::bench]
fn duplicates(bencher: Bencher<'_, '_>) {
    let remember = Remember { window: std::time::Duration::from_secs(600), hits: 200_000 };
    let mut windows = Windows::new(remember, &Metrics::new().unwrap());
    windows.prepare(0, []);
    let key = b"demo\0visitor-018bcfe5-6800-7000-8000-0123456789ab";
    let mut number = 0;
    bencher.counter(ItemsCount::new(HITS)).bench_local(|| {
        for _ in 0..HITS {
            number += 1;
            let identity = Identity::of(Some(key), Uuid::from_u128(number), NOW).unwrap();
            if !windows.is_duplicate(0, &identity) {
                windows.add(0, identity, NOW);
            }
        }
        windows.keep();
    });
}

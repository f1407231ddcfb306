//! Whatever comes, nothing panics, and what is written can be read.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::sync::{Arc, RwLock};

use enricher::data::geoip::GeoIp;
use enricher::data::referrers::Referrers;
use enricher::data::user_agents::UserAgents;
use enricher::hit::{DeadReason, Enricher, Formats, Knowledge, Obstacle};
use enricher::metrics::Metrics;
use enricher::partners::file::{Format, parse};
use enricher::partners::index::PartnerIndex;
use proptest::prelude::*;
use proptest::test_runner::{FailurePersistence, FileFailurePersistence};
use schemas::codec::decode_all;
use schemas::{
    Consent, Contact, EnrichedHit, IpPolicy, Kind, Map, Protocol, RawHit, Reader, RecordKey, Signal, Text, Writer,
};

const REFERRERS: &str = r#"{"search": {"Google": {"domains": ["google.com", "google.com/imgres"], "parameters": ["q"]}},
    "chatbot": {"ChatGPT": {"domains": ["chatgpt.com"], "parameters": []}}}"#;

fn enricher() -> Enricher {
    let mut partners = PartnerIndex::default();
    let text = "partner,match_kind,match_value,permitted_uses\n\
        a,ip_range,0.0.0.0/1,measurement\na,ip_range,::/0,measurement\na,email_domain,example.com,measurement\n";
    for record in parse(text, Format::Csv, 1).records {
        partners.apply(&RecordKey::of(&record).to_bytes(), Some(record.clone())).unwrap();
    }
    assert_eq!(partners.len(), 3);
    let knowledge = Knowledge {
        geoip: GeoIp::open(None, None).unwrap(),
        user_agents: UserAgents::without_expressions(),
        referrers: Referrers::parse(REFERRERS).unwrap(),
        sites: None,
        partners: RwLock::new(partners),
        privacy: std::sync::Arc::default(),
    };
    Enricher::new(Arc::new(knowledge), Metrics::new().unwrap(), Formats::single_object().unwrap())
}

/// Texts as they come: nothing, addresses that are nearly right, and anything at all.
fn text() -> impl Strategy<Value = Text<'static>> {
    let piece = prop_oneof![
        Just("https://".to_owned()),
        Just("//".to_owned()),
        Just("google.com".to_owned()),
        Just("/imgres".to_owned()),
        Just("?utm_source=".to_owned()),
        Just("&gclid=".to_owned()),
        Just("#".to_owned()),
        Just("%ff%".to_owned()),
        Just("192.0.2.1".to_owned()),
        Just("::ffff:1.2.3.4".to_owned()),
        Just("someone@example.com".to_owned()),
        Just("\"Not,A;Brand\";v=\"99\", \"Brave\";v=\"".to_owned()),
        Just("Mozilla/5.0 (iPad; Mobile".to_owned()),
        any::<String>(),
    ];
    proptest::collection::vec(piece, 0..5).prop_map(|pieces| Text::Owned(pieces.concat()))
}

fn hint() -> impl Strategy<Value = (Text<'static>, Text<'static>)> {
    const NAMES: [&str; 7] = [
        "sec-ch-ua",
        "sec-ch-ua-platform",
        "sec-ch-ua-platform-version",
        "sec-ch-ua-model",
        "sec-ch-ua-mobile",
        "sec-ch-ua-full-version-list",
        "sec-ch-ua-form-factors",
    ];
    (proptest::sample::select(&NAMES[..]), text()).prop_map(|(name, value)| (Text::Borrowed(name), value))
}

prop_compose! {
    fn hit()(
        texts in proptest::collection::vec(text(), 8),
        times in (any::<i64>(), any::<Option<i64>>(), any::<Option<i64>>()),
        hints in proptest::collection::vec(hint(), 0..4),
        kind in proptest::sample::select(Kind::ALL),
        protocol in proptest::sample::select(Protocol::ALL),
        ip_policy in proptest::sample::select(IpPolicy::ALL),
        signal in proptest::sample::select(Signal::ALL),
        email in proptest::option::of(text()),
        partner_sharing in proptest::option::of(any::<Option<bool>>()),
    ) -> RawHit<'static> {
        let mut texts = texts.into_iter();
        let mut next = || texts.next().unwrap_or_default();
        RawHit {
            site: next(),
            visitor_id: next(),
            page_url: next(),
            referrer: next(),
            language: next(),
            user_agent: next(),
            ip: next(),
            page_title: next(),
            client_hints: Map(hints),
            received_at: times.0,
            client_time: times.1,
            sent_at: times.2,
            contact: email.map(|email| Contact { email, ..Contact::default() }),
            consent: partner_sharing.map(|partner_sharing| Consent { partner_sharing, ..Consent::default() }),
            kind,
            protocol,
            ip_policy,
            signal,
            ..RawHit::default()
        }
    }
}

/// Inputs that a test failed on once are tried first from then on: their seeds are kept in `corpus/`.
fn kept() -> ProptestConfig {
    const SEEDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/random.txt");
    let failure_persistence = Some(Box::new(FileFailurePersistence::Direct(SEEDS)) as Box<dyn FailurePersistence>);
    ProptestConfig { cases: 2_000, failure_persistence, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(kept())]

    #[test]
    fn any_hit_is_enriched_and_its_address_is_cut(hit in hit(), now in any::<i64>()) {
        thread_local!(static ENRICHER: Enricher = enricher());
        let mut message = Vec::new();
        Writer::single_object::<RawHit<'_>>().unwrap().write(&hit, &mut message);
        let mut out = Vec::new();
        ENRICHER.with(|enricher| enricher.enrich(Some(&message), now, &mut out)).unwrap();

        let reader = Reader::new::<EnrichedHit<'_>>(None).unwrap();
        let body = reader.body(&out).unwrap();
        let enriched: EnrichedHit<'_> = decode_all(&body).unwrap();
        // The hit itself passes as it was, but for the address.
        let kept = enriched.hit.ip.to_string();
        prop_assert_eq!(&RawHit { ip: hit.ip.clone(), ..enriched.hit.clone() }, &hit);
        match hit.ip_policy {
            IpPolicy::None => prop_assert_eq!(kept, ""),
            IpPolicy::Full | IpPolicy::Truncated => {
                prop_assert!(kept.is_empty() || kept.parse::<std::net::IpAddr>().is_ok());
                prop_assert!(hit.ip_policy == IpPolicy::Full || kept.is_empty() || kept.ends_with(".0") || kept.ends_with("::"));
            }
        }
        prop_assert!(enriched.occurred_at <= hit.received_at);
        prop_assert!(hit.signal == Signal::None || enriched.partner.is_none_or(|found| found.matched_by == "ip_range"));
    }

    #[test]
    fn any_bytes_are_enriched_or_dead(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), header in any::<bool>()) {
        thread_local!(static ENRICHER: Enricher = enricher());
        if header {
            let mut start = Vec::new();
            Writer::single_object::<RawHit<'_>>().unwrap().write(&RawHit::default(), &mut start);
            start.truncate(10);
            bytes.splice(0..0, start);
        }
        let mut out = Vec::new();
        match ENRICHER.with(|enricher| enricher.enrich(Some(&bytes), 0, &mut out)) {
            Ok(()) => {}
            Err(Obstacle::Dead { reason, .. }) => prop_assert_ne!(reason, DeadReason::EnrichmentFailed),
            Err(Obstacle::Later(error)) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn any_bytes_in_the_partners_topic_are_taken_in_or_refused(key in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut index = PartnerIndex::default();
        let _ = index.apply(&key, None);
        prop_assert!(index.is_empty());
    }

    #[test]
    fn any_file_of_partner_records_is_read_or_refused(text in ".{0,300}") {
        for format in [Format::Csv, Format::JsonLines] {
            let _ = parse(&text, format, 0);
        }
    }
}

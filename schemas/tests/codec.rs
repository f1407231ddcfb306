//! Holds the codec against apache-avro, and against bytes that are kept.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::borrow::Cow;

use apache_avro::types::Value;
use apache_avro::{from_avro_datum, to_avro_datum};
use proptest::prelude::*;
use schemas::codec::{Decode, Encode, decode_all};
use schemas::wire::parse_versions;
use schemas::{
    Campaign, Consent, Contact, DeadLetter, Device, DeviceKind, EnrichedHit, IpPolicy, Kind, Map, MatchKind, Network,
    PageAddress, PartnerMatch, PartnerRecord, Place, PrivacyAction, PrivacyDirective, Protocol, RawHit, Reader, Record,
    Signal, Source, SourceKind, Stage, StageReport, StageState, SubjectKind, Text, VisitorIdSource, WireError, Writer,
};
use uuid::Uuid;

fn encoded(record: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    record.encode(&mut out);
    out
}

fn text() -> impl Strategy<Value = Text<'static>> {
    proptest::string::string_regex("[a-zA-Zäßø€😀 /:.?&=-]{0,12}").unwrap().prop_map(Cow::Owned)
}

/// A map of one pair at the most: apache-avro's have no order, so more could not be compared byte by byte.
fn map() -> impl Strategy<Value = Map<'static>> {
    proptest::option::of((text(), text())).prop_map(|pair| Map(pair.into_iter().collect()))
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid::from_bytes)
}

fn one_of<T: Copy + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(all)
}

prop_compose! {
    fn contact()(name in text(), email in text(), phone in text(), job_title in text(), company in text(), address in text())
        -> Contact<'static> {
        Contact { name, email, phone, job_title, company, address }
    }
}

prop_compose! {
    fn consent()(permitted in any::<[Option<bool>; 4]>(), wording in text(), given_at in any::<Option<i64>>()) -> Consent<'static> {
        let [measurement, personalisation, advertising, partner_sharing] = permitted;
        Consent { measurement, personalisation, advertising, partner_sharing, wording, given_at }
    }
}

prop_compose! {
    fn raw_hit()(
        ids in (uuid(), proptest::option::of(uuid()), proptest::option::of(uuid())),
        enums in (one_of(Protocol::ALL), one_of(Kind::ALL), one_of(VisitorIdSource::ALL), one_of(IpPolicy::ALL), one_of(Signal::ALL)),
        received_at in any::<i64>(),
        longs in any::<[Option<i64>; 3]>(),
        screen in any::<[Option<i32>; 2]>(),
        texts in proptest::collection::vec(text(), 14),
        maps in (map(), map()),
        contact in proptest::option::of(contact()),
        consent in proptest::option::of(consent()),
    ) -> RawHit<'static> {
        let mut texts = texts.into_iter();
        let mut next = || texts.next().unwrap();
        RawHit {
            hit_id: ids.0, site: next(), protocol: enums.0, kind: enums.1, event_name: next(), received_at,
            client_time: longs[0], sent_at: longs[1], visitor_id: next(), visitor_id_source: enums.2, session_id: ids.1,
            page_view_id: ids.2, page_url: next(), page_title: next(), referrer: next(), target_url: next(),
            search_term: next(), duration_ms: longs[2], screen_width: screen[0], screen_height: screen[1],
            language: next(), time_zone: next(), user_agent: next(), client_hints: maps.0, ip: next(), ip_policy: enums.3,
            signal: enums.4, contact, consent, properties: maps.1, tag_version: next(),
        }
    }
}

prop_compose! {
    fn partner_match()(partner in text(), matched_by in text(), company_name in text(), company_domain in text(),
        attributes in map(), permitted_uses in proptest::collection::vec(text(), 0..4)) -> PartnerMatch<'static> {
        PartnerMatch { partner, matched_by, company_name, company_domain, attributes, permitted_uses }
    }
}

prop_compose! {
    fn enriched_hit()(
        hit in raw_hit(),
        longs in any::<(i64, i64, Option<i64>, Option<i64>)>(),
        coordinates in any::<[Option<i32>; 2]>(),
        enums in (one_of(SourceKind::ALL), one_of(DeviceKind::ALL), any::<bool>()),
        texts in proptest::collection::vec(text(), 30),
        partner in proptest::option::of(partner_match()),
        enrichment_errors in proptest::collection::vec(text(), 0..4),
    ) -> EnrichedHit<'static> {
        let mut texts = texts.into_iter();
        let mut next = || texts.next().unwrap();
        EnrichedHit {
            hit, occurred_at: longs.0, enriched_at: longs.1, clock_skew_ms: longs.2,
            page: PageAddress { host: next(), path: next(), query: next() },
            source: Source { kind: enums.0, name: next(), term: next(), referrer_host: next() },
            campaign: Campaign {
                source: next(), medium: next(), name: next(), term: next(), content: next(), id: next(),
                click_id_kind: next(), click_id: next(),
            },
            device: Device {
                kind: enums.1, brand: next(), model: next(), os: next(), os_version: next(), browser: next(),
                browser_version: next(),
            },
            is_bot: enums.2, bot_name: next(), language: next(),
            place: Place {
                country: next(), region: next(), city: next(), latitude: coordinates[0].map(f64::from),
                longitude: coordinates[1].map(f64::from), time_zone: next(),
            },
            network: Network { number: longs.3, organisation: next(), domain: next() },
            partner, geoip_version: next(), enrichment_errors,
        }
    }
}

/// apache-avro reads our bytes as the schema's, writes the same ones, and we read them as what we wrote.
fn agrees<'b, R>(record: &R, bytes: &'b [u8]) -> Result<(), TestCaseError>
where
    R: Record + Encode + Decode<'b> + PartialEq + std::fmt::Debug,
{
    let schema = parse_versions::<R>().unwrap().pop().unwrap();
    let mut rest = bytes;
    let value = from_avro_datum(&schema, &mut rest, None).map_err(|error| TestCaseError::fail(error.to_string()))?;
    prop_assert!(rest.is_empty(), "apache-avro leaves bytes over");
    prop_assert_eq!(to_avro_datum(&schema, value).unwrap(), bytes);
    prop_assert_eq!(&decode_all::<R>(bytes).unwrap(), record);
    Ok(())
}

proptest! {
    #[test]
    fn raw_hits_are_what_apache_avro_writes(record in raw_hit()) {
        agrees(&record, &encoded(&record))?;
    }

    #[test]
    fn enriched_hits_are_what_apache_avro_writes(record in enriched_hit()) {
        agrees(&record, &encoded(&record))?;
    }

    #[test]
    fn the_other_records_are_too(
        texts in proptest::collection::vec(text(), 4),
        number in any::<i64>(),
        long in any::<Option<i64>>(),
        int in any::<Option<i32>>(),
        id in uuid(),
        bytes in any::<Vec<u8>>(),
        map in map(),
        uses in proptest::collection::vec(text(), 0..4),
        enums in (one_of(Stage::ALL), one_of(MatchKind::ALL), one_of(SubjectKind::ALL), one_of(PrivacyAction::ALL)),
    ) {
        let [a, b, c, d] = texts.as_slice() else { unreachable!() };
        let letter = DeadLetter {
            dead_letter_id: id, stage: enums.0, reason: a.clone(), detail: b.clone(), dead_at: number, site: c.clone(),
            original: bytes.into(), source_topic: d.clone(), source_partition: int, source_offset: long,
        };
        agrees(&letter, &encoded(&letter))?;
        let partner = PartnerRecord {
            partner: a.clone(), match_kind: enums.1, match_value: b.clone(), site: c.clone(), company_name: d.clone(),
            company_domain: a.clone(), attributes: map.clone(), permitted_uses: uses, valid_until: long, updated_at: number,
        };
        agrees(&partner, &encoded(&partner))?;
        let directive = PrivacyDirective {
            directive_id: id, site: a.clone(), subject_kind: enums.2, subject: b.clone(), action: enums.3, issued_at: number,
            due_at: long, fields: map, purpose: c.clone(), partner: d.clone(), operator: a.clone(), key_name: b.clone(),
            wording: c.clone(), evidence: d.clone(),
            report: long.map(|rows| StageReport {
                stage: enums.0, state: StageState::Hidden, instance: a.clone(), rows, reported_at: number,
            }),
        };
        agrees(&directive, &encoded(&directive))?;
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_all::<EnrichedHit>(&bytes);
        let _ = decode_all::<RawHit>(&bytes);
    }

    #[test]
    fn a_cut_message_is_refused(record in raw_hit(), cut in 1_usize..50) {
        let bytes = encoded(&record);
        prop_assert!(decode_all::<RawHit>(&bytes[..bytes.len().saturating_sub(cut)]).is_err());
    }
}

/// Fixed values in many fields; the same bytes are read by another implementation in `fastavro_golden.py`.
fn golden_hit() -> RawHit<'static> {
    let id = |last: u8| Uuid::from_bytes([1, 0x90, 0xd5, 0xa0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, last]);
    RawHit {
        hit_id: id(1),
        site: "demo".into(),
        protocol: Protocol::Tag,
        kind: Kind::Form,
        received_at: 1_767_225_600_123,
        client_time: Some(1_767_225_599_000),
        visitor_id: "v-1".into(),
        visitor_id_source: VisitorIdSource::Client,
        session_id: Some(id(2)),
        page_url: "https://www.example.com/contact?a=ä".into(),
        page_title: "Contact".into(),
        referrer: "https://search.example/".into(),
        search_term: "pump".into(),
        duration_ms: Some(15_000),
        screen_width: Some(1920),
        screen_height: Some(1080),
        language: "de-CH".into(),
        time_zone: "Europe/Zurich".into(),
        user_agent: "Mozilla/5.0".into(),
        client_hints: Map(vec![("sec-ch-ua-mobile".into(), "?0".into())]),
        ip: "2001:db8::1".into(),
        ip_policy: IpPolicy::Truncated,
        contact: Some(Contact { name: "Ada".into(), email: "ada@example.com".into(), ..Contact::default() }),
        consent: Some(Consent {
            measurement: Some(true),
            advertising: Some(false),
            wording: "v2".into(),
            ..Consent::default()
        }),
        properties: Map(vec![("plan".into(), "pro".into())]),
        tag_version: "1".into(),
        ..RawHit::default()
    }
}

fn golden_enriched_hit() -> EnrichedHit<'static> {
    EnrichedHit {
        hit: golden_hit(),
        occurred_at: 1_767_225_599_500,
        enriched_at: 1_767_225_601_000,
        clock_skew_ms: Some(-500),
        source: Source { kind: SourceKind::Search, name: "Example".into(), ..Source::default() },
        place: Place { country: "CH".into(), latitude: Some(47.25), longitude: Some(-0.5), ..Place::default() },
        network: Network { number: Some(64_496), organisation: "Example AG".into(), ..Network::default() },
        partner: Some(PartnerMatch {
            partner: "p".into(),
            permitted_uses: vec!["measurement".into(), "advertising".into()],
            ..PartnerMatch::default()
        }),
        is_bot: true,
        enrichment_errors: vec!["page_url_unreadable".into()],
        ..EnrichedHit::default()
    }
}

fn golden_dead_letter() -> DeadLetter<'static> {
    DeadLetter {
        dead_letter_id: Uuid::from_u128(4),
        stage: Stage::Enricher,
        reason: "undecodable".into(),
        detail: "field 3".into(),
        dead_at: 1_767_225_600_123,
        site: "demo".into(),
        original: [0xc3, 1, 0xff][..].into(),
        source_topic: "hits.raw".into(),
        source_partition: Some(7),
        source_offset: Some(1 << 40),
    }
}

fn golden_partner_record() -> PartnerRecord<'static> {
    PartnerRecord {
        partner: "p".into(),
        match_kind: MatchKind::EmailDomain,
        match_value: "example.com".into(),
        company_name: "Example AG".into(),
        attributes: Map(vec![("industry".into(), "pumps".into())]),
        permitted_uses: vec!["measurement".into()],
        updated_at: 1_767_225_600_123,
        ..PartnerRecord::default()
    }
}

fn message<R: Record + Encode>(record: &R) -> Vec<u8> {
    let mut message = Vec::new();
    Writer::single_object::<R>().unwrap().write(record, &mut message);
    message
}

/// Compares with a file that is kept. `WRITE_GOLDEN=1` writes the file of a new version.
fn golden(name: &str, message: &[u8]) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        std::fs::write(&path, message).unwrap();
    }
    assert_eq!(std::fs::read(&path).unwrap(), message, "{}", path.display());
}

#[test]
fn the_bytes_on_the_wire_stay_as_they_are() {
    golden("raw_hit.v1.bin", &message(&golden_hit()));
    golden("enriched_hit.v1.bin", &message(&golden_enriched_hit()));
    golden("dead_letter.v1.bin", &message(&golden_dead_letter()));
    golden("partner_record.v1.bin", &message(&golden_partner_record()));
    let report = StageReport { stage: Stage::Sink, state: StageState::Done, rows: 7, ..StageReport::default() };
    let directive = PrivacyDirective { site: "demo".into(), report: Some(report), ..PrivacyDirective::default() };
    golden("privacy_directive.v1.bin", &message(&directive));
}

#[test]
fn a_reader_takes_its_own_version_as_it_lies() {
    let message = message(&golden_hit());
    let reader = Reader::new::<RawHit>(None).unwrap();
    let body = reader.body(&message).unwrap();
    assert!(matches!(body, Cow::Borrowed(_)));
    assert_eq!(decode_all::<RawHit>(&body).unwrap(), golden_hit());
}

#[test]
fn unknown_headers_are_named() {
    let reader = Reader::new::<RawHit>(None).unwrap();
    assert!(matches!(reader.body(b""), Err(WireError::NoHeader)));
    assert!(matches!(reader.body(b"{\"site\":1}"), Err(WireError::NoHeader)));
    let unknown = [0xc3, 1, 1, 0, 0, 0, 0, 0, 0, 0, 9];
    assert!(matches!(reader.body(&unknown), Err(WireError::UnknownFingerprint(1, "hitmeter.RawHit"))));
    assert!(matches!(reader.body(&[0, 0, 0, 0, 7, 1]), Err(WireError::NoRegistry(7))));
}

/// Field for field, so that two fields of one type can't have changed places.
#[test]
fn apache_avro_finds_each_value_under_its_name() {
    let schema = parse_versions::<RawHit>().unwrap().pop().unwrap();
    let bytes = encoded(&golden_hit());
    let Value::Record(fields) = from_avro_datum(&schema, &mut bytes.as_slice(), None).unwrap() else {
        panic!("not a record")
    };
    let value = |name: &str| fields.iter().find(|(field, _)| field == name).unwrap().1.clone();
    assert_eq!(value("page_title"), Value::String("Contact".into()));
    assert_eq!(value("referrer"), Value::String("https://search.example/".into()));
    assert_eq!(value("kind"), Value::Enum(4, "form".into()));
    assert_eq!(value("screen_height"), Value::Union(1, Box::new(Value::Int(1080))));
    assert_eq!(value("received_at"), Value::TimestampMillis(1_767_225_600_123));
}

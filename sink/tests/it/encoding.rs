//! What is pushed into the columns is what ClickHouse reads out.

use std::borrow::Cow;

use schemas::{
    Campaign, Consent, Contact, Device, DeviceKind, EnrichedHit, IpPolicy, Kind, Map, Network, PageAddress,
    PartnerMatch, Place, Protocol, RawHit, Signal, Source, SourceKind, VisitorIdSource,
};
use serde_json::{Value, json};
use sink::hits::HitColumns;
use uuid::Uuid;

use crate::support::{NOON, Place as TestPlace};

const EXTREME: &str = "ä\0\u{1f600}\"'\\\t\n;";

fn map(pairs: &[(&'static str, &'static str)]) -> Map<'static> {
    Map(pairs.iter().map(|(key, value)| (Cow::Borrowed(*key), Cow::Borrowed(*value))).collect())
}

fn text(name: &str) -> Cow<'static, str> {
    Cow::Owned(format!("{name} {EXTREME}"))
}

/// A hit with something in every field, numbers at their limits and beyond what the columns hold.
fn full() -> EnrichedHit<'static> {
    let contact = Contact {
        name: text("contact_name"),
        email: text("contact_email"),
        phone: text("contact_phone"),
        job_title: text("contact_job_title"),
        company: text("contact_company"),
        address: text("contact_address"),
    };
    let consent = Consent {
        measurement: Some(true),
        personalisation: Some(false),
        advertising: None,
        partner_sharing: Some(true),
        wording: text("consent_wording"),
        given_at: Some(i64::MAX),
    };
    let raw = RawHit {
        hit_id: Uuid::from_u128(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210),
        site: text("site"),
        protocol: Protocol::Tag,
        kind: Kind::Search,
        event_name: text("event_name"),
        received_at: NOON + 789,
        client_time: Some(-1),
        sent_at: Some(i64::MIN),
        visitor_id: text("visitor_id"),
        visitor_id_source: VisitorIdSource::DailyHash,
        session_id: Some(Uuid::max()),
        page_view_id: Some(Uuid::from_u128(1)),
        page_url: text("page_url"),
        page_title: text("page_title"),
        referrer: text("referrer"),
        target_url: text("target_url"),
        search_term: text("search_term"),
        duration_ms: Some(i64::MAX),
        screen_width: Some(i32::MAX),
        screen_height: Some(-1),
        language: text("language_tag"),
        time_zone: text("time_zone"),
        user_agent: text("user_agent"),
        client_hints: map(&[("sec-ch-ua", "\"Chromium\";v=\"149\""), ("sec-ch-ua-mobile", "?0")]),
        ip: "2001:db8::1".into(),
        ip_policy: IpPolicy::Full,
        signal: Signal::NoConsent,
        contact: Some(contact),
        consent: Some(consent),
        properties: map(&[("plan", "gold"), ("", "a key of nothing"), ("empty", "")]),
        tag_version: text("tag_version"),
    };
    EnrichedHit {
        hit: raw,
        occurred_at: i64::MAX,
        enriched_at: i64::MIN,
        clock_skew_ms: Some(i64::MIN),
        page: PageAddress { host: text("page_host"), path: text("page_path"), query: text("page_query") },
        source: Source {
            kind: SourceKind::Assistant,
            name: text("source_name"),
            term: text("source_term"),
            referrer_host: text("referrer_host"),
        },
        campaign: Campaign {
            source: text("campaign_source"),
            medium: text("campaign_medium"),
            name: text("campaign_name"),
            term: text("campaign_term"),
            content: text("campaign_content"),
            id: text("campaign_id"),
            click_id_kind: text("click_id_kind"),
            click_id: text("click_id"),
        },
        device: Device {
            kind: DeviceKind::Wearable,
            brand: text("device_brand"),
            model: text("device_model"),
            os: text("os"),
            os_version: text("os_version"),
            browser: text("browser"),
            browser_version: text("browser_version"),
        },
        is_bot: true,
        bot_name: text("bot_name"),
        language: text("language"),
        place: Place {
            country: text("country"),
            region: text("region"),
            city: text("city"),
            latitude: Some(-90.0),
            longitude: Some(179.999_999_999),
            time_zone: text("place_time_zone"),
        },
        network: Network {
            number: Some(4_294_967_295),
            organisation: text("network_organisation"),
            domain: text("network_domain"),
        },
        partner: Some(PartnerMatch {
            partner: text("partner"),
            matched_by: text("partner_matched_by"),
            company_name: text("company_name"),
            company_domain: text("company_domain"),
            attributes: map(&[("industry", "steel")]),
            permitted_uses: vec!["measurement".into(), "advertising".into()],
        }),
        geoip_version: text("geoip_version"),
        enrichment_errors: vec!["no_place".into()],
    }
}

/// The row of [`full`], by hand. Columns of text hold their own name and the extreme characters.
fn full_row() -> Value {
    let mut row = json!({
        "hit_id": "01234567-89ab-cdef-fedc-ba9876543210",
        "protocol": "tag",
        "kind": "search",
        "received_at": "2026-03-10 12:00:00.789",
        "occurred_at": "2299-12-31 23:59:59.999",
        "enriched_at": "1900-01-01 00:00:00.000",
        "client_time": "1969-12-31 23:59:59.999",
        "sent_at": "1900-01-01 00:00:00.000",
        "clock_skew_ms": "-9223372036854775808",
        "visitor_id_source": "daily_hash",
        "session_id": "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "page_view_id": "00000000-0000-0000-0000-000000000001",
        "duration_ms": 4_294_967_295_u32,
        "screen_width": 65535,
        "screen_height": 0,
        "client_hints": {"sec-ch-ua": "\"Chromium\";v=\"149\"", "sec-ch-ua-mobile": "?0"},
        "ip": "2001:db8::1",
        "ip_policy": "full",
        "signal": "no_consent",
        "source_kind": "assistant",
        "device_kind": "wearable",
        "is_bot": true,
        "latitude": -90,
        "longitude": 179.999_999_999,
        "network_number": 4_294_967_295_u32,
        "partner_attributes": {"industry": "steel"},
        "partner_permitted_uses": ["measurement", "advertising"],
        "consent_measurement": true,
        "consent_personalisation": false,
        "consent_advertising": null,
        "consent_partner_sharing": true,
        "consent_given_at": "2299-12-31 23:59:59.999",
        "properties": {"plan": "gold", "": "a key of nothing", "empty": ""},
        "enrichment_errors": ["no_place"],
        "kafka_partition": 2_147_483_647,
        "kafka_offset": "9223372036854775807",
    });
    for (name, kind) in HitColumns::names_and_types() {
        if matches!(kind.as_str(), "String" | "LowCardinality(String)") && row.get(name).is_none() {
            row[name] = json!(format!("{name} {EXTREME}"));
        }
    }
    row
}

/// The row of a hit of which nothing is known but its site and its time, by hand.
fn bare_row() -> Value {
    let zero = "00000000-0000-0000-0000-000000000000";
    let mut row = json!({
        "hit_id": zero, "site": "a", "protocol": "unknown", "kind": "event", "visitor_id_source": "none",
        "received_at": "2020-01-01 00:00:00.000",
        "occurred_at": "1970-01-01 00:00:00.000",
        "enriched_at": "1970-01-01 00:00:00.000",
        "client_time": null, "sent_at": null, "clock_skew_ms": null, "session_id": zero, "page_view_id": zero,
        "duration_ms": 0, "screen_width": 0, "screen_height": 0, "client_hints": {}, "ip": "::", "ip_policy": "none",
        "signal": "none", "source_kind": "unknown", "device_kind": "unknown", "is_bot": false, "latitude": null,
        "longitude": null, "network_number": 0, "partner_attributes": {}, "partner_permitted_uses": [],
        "consent_measurement": null, "consent_personalisation": null, "consent_advertising": null,
        "consent_partner_sharing": null, "consent_given_at": null, "properties": {}, "enrichment_errors": [],
        "kafka_partition": 0, "kafka_offset": "0",
    });
    for (name, _) in HitColumns::names_and_types() {
        if row.get(name).is_none() {
            row[name] = json!("");
        }
    }
    row
}

fn bare() -> EnrichedHit<'static> {
    let mut hit = EnrichedHit::default();
    hit.hit.site = "a".into();
    hit.hit.received_at = 1_577_836_800_000;
    hit
}

async fn rows_of(place: &TestPlace, columns: &HitColumns, token: &str) -> Vec<Value> {
    place.clickhouse().insert(token, columns.block().unwrap().frames.into()).await.unwrap();
    let select = "SELECT * EXCEPT inserted_at FROM {database}.hits ORDER BY received_at, kafka_offset \
                  SETTINGS output_format_json_quote_64bit_integers = 1 FORMAT JSONEachRow";
    place.query(select).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn push(columns: &mut HitColumns, hit: &EnrichedHit<'_>, partition: i32, offset: i64) {
    columns.push(hit, sink::hits::Coordinates { partition, offset });
}

#[tokio::test]
async fn every_column_is_read_out_as_it_was_put_in() {
    let Some(stack) = local::database_or_skip("every_column_is_read_out_as_it_was_put_in") else { return };
    let place = TestPlace::migrated(stack, "columns").await;
    let mut columns = HitColumns::default();
    push(&mut columns, &bare(), 0, 0);
    push(&mut columns, &full(), i32::MAX, i64::MAX);
    let rows = rows_of(&place, &columns, "two").await;
    assert_eq!(rows.len(), 2);
    for (row, expected) in rows.iter().zip([bare_row(), full_row()]) {
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&row[name], value, "{name}");
        }
        assert_eq!(row.as_object().unwrap().len(), expected.as_object().unwrap().len());
    }
}

#[tokio::test]
async fn a_block_where_no_map_and_no_list_has_anything_is_read() {
    let Some(stack) = local::database_or_skip("a_block_where_no_map_and_no_list_has_anything_is_read") else { return };
    let place = TestPlace::migrated(stack, "empty_maps").await;
    let mut columns = HitColumns::default();
    push(&mut columns, &bare(), 0, 0);
    let rows = rows_of(&place, &columns, "one").await;
    assert_eq!(rows, [bare_row()]);
}

/// Dictionaries of up to 256, up to 65,536 and more texts have places of one, two and four bytes.
#[tokio::test]
async fn dictionaries_of_every_width_are_read() {
    let Some(stack) = local::database_or_skip("dictionaries_of_every_width_are_read") else { return };
    for distinct in [255_usize, 256, 65_535, 65_536] {
        let place = TestPlace::migrated(stack, "widths").await;
        let mut columns = HitColumns::default();
        // The empty text is in every dictionary; the first text comes again at the end.
        for number in (0..distinct).chain([0]) {
            let mut hit = bare();
            hit.hit.page_title = format!("title {number}").into();
            hit.hit.target_url = hit.hit.page_title.clone();
            push(&mut columns, &hit, 0, number as i64);
        }
        place.clickhouse().insert("widths", columns.block().unwrap().frames.into()).await.unwrap();
        let found = place.query(
            "SELECT count(), uniqExact(page_title), countIf(page_title = target_url), \
             countIf(page_title = 'title 0') FROM {database}.hits",
        );
        assert_eq!(found, format!("{}\t{distinct}\t{}\t2", distinct + 1, distinct + 1));
    }
}

#[tokio::test]
async fn a_block_under_a_token_that_was_seen_is_dropped() {
    let Some(stack) = local::database_or_skip("a_block_under_a_token_that_was_seen_is_dropped") else { return };
    let place = TestPlace::migrated(stack, "tokens").await;
    let mut columns = HitColumns::default();
    push(&mut columns, &bare(), 0, 0);
    for _ in 0..3 {
        assert_eq!(rows_of(&place, &columns, "same").await.len(), 1);
    }
    assert_eq!(rows_of(&place, &columns, "another").await.len(), 2);
}

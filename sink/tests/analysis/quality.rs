//! Service quality, as far as the table can tell.

use schemas::{EnrichedHit, Kind, Protocol, Signal, VisitorIdSource};
use uuid::Uuid;

use crate::arrival::{Arrival, HOUR, MINUTE, arrived, lines};
use crate::support::{NOON, hit, page_view};

/// Five hits in the hour of noon: two of Anna, one late and with two problems; one of a visitor who objected; one of a robot.
/// One of Ben in the next hour, and one of Anna on another site.
fn hits() -> Vec<EnrichedHit<'static>> {
    let mut late = page_view(2, "anna", 2 * HOUR, "/");
    late.hit.received_at = NOON + MINUTE;
    late.occurred_at = NOON - 2 * HOUR;
    late.enriched_at = NOON + MINUTE + 500;
    late.enrichment_errors = vec!["client_time_clamped".into(), "no_user_agent".into()];
    let mut objected = page_view(3, "a hash of the day", 2 * MINUTE, "/");
    objected.hit.visitor_id_source = VisitorIdSource::DailyHash;
    objected.hit.signal = Signal::DoNotTrack;
    let mut robot = page_view(4, "robot", 3 * MINUTE, "/");
    robot.is_bot = true;
    robot.bot_name = "Examplebot".into();
    robot.enriched_at += 1_000;
    let mut elsewhere = page_view(6, "anna", 0, "/");
    elsewhere.hit.site = "blog".into();
    elsewhere.enrichment_errors = vec!["no_user_agent".into()];
    vec![
        page_view(1, "anna", 0, "/"),
        late,
        objected,
        robot,
        hit(Kind::Heartbeat, 7, "anna", 4 * MINUTE, "/"),
        page_view(5, "ben", HOUR, "/"),
        elsewhere,
    ]
}

#[tokio::test]
async fn hours_tell_load_ages_and_what_was_wrong() {
    let Some(stack) = local::database_or_skip("hours_tell_load_ages_and_what_was_wrong") else { return };
    for arrival in [Arrival::Plain, Arrival::Repeated] {
        let place = arrived(stack, "hours", arrival, hits()).await;
        let columns = "hour, hits, repeated_rows, robots, robot_share, anonymous, with_errors, late, visitors, \
                       to_collector_p50_ms, to_collector_p99_ms, to_enricher_p50_ms, to_enricher_p99_ms";
        let sql = format!("SELECT {columns} FROM {{database}}.quality_hours WHERE site = 'shop' ORDER BY hour");
        let (five, one) = if arrival == Arrival::Plain { (0, 0) } else { (15, 3) };
        let expected = [
            // 2 h 1 min late; the ages at the enricher are 0, 500, 0, 1000 and 0 ms.
            format!("2026-03-10 12:00:00\t5\t{five}\t1\t0.2\t1\t1\t1\t2\t0\t7260000\t0\t1000"),
            format!("2026-03-10 13:00:00\t1\t{one}\t0\t0\t0\t0\t0\t1\t0\t0\t0\t0"),
        ];
        assert_eq!(lines(&place, &sql), expected, "{arrival:?}");
        // inserted_at is ClickHouse's clock: only that it is told, and that the parts make the whole.
        let ages = "SELECT to_table_p50_ms > 0 AND in_all_p99_ms >= to_table_p99_ms FROM {database}.quality_hours";
        assert!(lines(&place, ages).iter().all(|line| line == "1"), "{arrival:?}");
    }
}

#[tokio::test]
async fn each_hit_has_one_outcome() {
    let Some(stack) = local::database_or_skip("each_hit_has_one_outcome") else { return };
    for arrival in [Arrival::Plain, Arrival::Repeated] {
        let place = arrived(stack, "outcomes", arrival, hits()).await;
        let sql = "SELECT site, day, outcome, reason, hits FROM {database}.hit_outcomes ORDER BY ALL";
        let expected = [
            "blog\t2026-03-10\tcounted\t\t1",
            "shop\t2026-03-10\tanonymous\tdo_not_track\t1",
            "shop\t2026-03-10\tcounted\t\t4",
            "shop\t2026-03-10\trobot\tExamplebot\t1",
        ];
        assert_eq!(lines(&place, sql), expected, "{arrival:?}");
        let all =
            "SELECT (SELECT sum(hits) FROM {database}.hit_outcomes) = (SELECT uniqExact(hit_id) FROM {database}.hits)";
        assert_eq!(place.query(all), "1");
        let problems = "SELECT site, problem, protocol, hits FROM {database}.hit_problems ORDER BY ALL";
        let expected = [
            "blog\tno_user_agent\tunknown\t1",
            "shop\tclient_time_clamped\tunknown\t1",
            "shop\tno_user_agent\tunknown\t1",
        ];
        assert_eq!(lines(&place, problems), expected, "{arrival:?}");
    }
}

/// A hit that is loaded again, by an enricher with a newer list of robots, is what that says.
#[tokio::test]
async fn a_hit_that_is_enriched_again_has_its_last_outcome() {
    let Some(stack) = local::database_or_skip("a_hit_that_is_enriched_again_has_its_last_outcome") else { return };
    let mut known = page_view(1, "crawler", 0, "/");
    known.is_bot = true;
    known.bot_name = "Examplebot".into();
    known.enriched_at += 10 * HOUR;
    let hits = vec![known, page_view(1, "crawler", 0, "/"), page_view(2, "anna", 0, "/")];
    for arrival in [Arrival::Plain, Arrival::Repeated] {
        let place = arrived(stack, "enriched_again", arrival, hits.clone()).await;
        let sql = "SELECT day, outcome, reason, hits FROM {database}.hit_outcomes ORDER BY ALL";
        assert_eq!(lines(&place, sql), ["2026-03-10\tcounted\t\t1", "2026-03-10\trobot\tExamplebot\t1"], "{arrival:?}");
    }
}

/// Of three page views of one version one was told no duration, one has no session, one comes from a clock that is two
/// days wrong. A pixel's page view is none of the tag's.
#[tokio::test]
async fn the_tag_is_judged_by_what_is_missing() {
    let Some(stack) = local::database_or_skip("the_tag_is_judged_by_what_is_missing") else { return };
    let by_tag = |mut hit: EnrichedHit<'static>, version: &'static str| {
        (hit.hit.protocol, hit.hit.tag_version) = (Protocol::Tag, version.into());
        hit.hit.session_id = Some(Uuid::from_u128(1));
        hit
    };
    let heartbeat = |number: u128, view: u128| {
        let mut beat = by_tag(hit(Kind::Heartbeat, number, "anna", MINUTE, "/"), "1.2");
        beat.hit.page_view_id = Some(Uuid::from_u128(view));
        beat.hit.duration_ms = Some(5_000);
        beat
    };
    let mut skewed = by_tag(page_view(2, "ben", 0, "/"), "1.2");
    skewed.clock_skew_ms = Some(-48 * HOUR);
    let mut no_session = by_tag(page_view(3, "cleo", 0, "/"), "1.2");
    no_session.hit.session_id = None;
    let hits = vec![
        by_tag(page_view(1, "anna", 0, "/"), "1.2"),
        heartbeat(11, 1),
        skewed,
        heartbeat(12, 2),
        no_session,
        by_tag(page_view(4, "dora", 0, "/"), "1.3"),
        page_view(5, "emil", 0, "/"),
    ];
    for arrival in [Arrival::Plain, Arrival::Repeated] {
        let place = arrived(stack, "tags", arrival, hits.clone()).await;
        let sql = "SELECT * FROM {database}.tag_quality WHERE site = 'shop' ORDER BY tag_version";
        let expected = ["shop\t2026-03-10\t1.2\t3\t1\t1\t1\t1", "shop\t2026-03-10\t1.3\t1\t1\t0\t0\t1"];
        assert_eq!(lines(&place, sql), expected, "{arrival:?}");
    }
}

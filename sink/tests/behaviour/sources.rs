//! Where visits came from, and what came of them.

use schemas::{EnrichedHit, Kind, SourceKind};

use crate::states::{DAY, HOUR, form, from_source, in_every_state, in_session, lines};
use crate::support::{hit, page_view};

/// Anna: found by a search, back by a campaign with a click id, back directly, when she asks for a quote. Ben: comes
/// directly, asks for two.
fn visits() -> Vec<EnrichedHit<'static>> {
    let mut clicked = from_source(page_view(2, "anna", DAY, "/"), SourceKind::Campaign, "google");
    clicked.campaign.name = "spring".into();
    clicked.campaign.medium = "cpc".into();
    clicked.campaign.click_id_kind = "gclid".into();
    vec![
        in_session(from_source(page_view(1, "anna", 0, "/"), SourceKind::Search, "Google"), 0xa1),
        in_session(clicked, 0xa2),
        in_session(from_source(page_view(3, "anna", 2 * DAY, "/"), SourceKind::Direct, ""), 0xa3),
        in_session(form(4, "anna", 2 * DAY + HOUR / 4, ["", "", "1"]), 0xa3),
        in_session(from_source(page_view(5, "ben", 2 * DAY, "/"), SourceKind::Direct, ""), 0xb1),
        in_session(form(6, "ben", 2 * DAY + HOUR / 4, ["", "", "1"]), 0xb1),
        in_session(form(7, "ben", 2 * DAY + HOUR / 2, ["", "", "1"]), 0xb1),
        in_session(hit(Kind::PageView, 8, "ben", 2 * DAY + HOUR / 2, "/prices"), 0xb1),
    ]
}

#[tokio::test]
async fn campaigns_and_click_ids_are_counted() {
    let Some(stack) = local::database_or_skip("campaigns_and_click_ids_are_counted") else { return };
    // What platforms put on each link that is followed from there.
    let mut marked = from_source(page_view(9, "cleo", 0, "/"), SourceKind::Social, "Facebook");
    marked.campaign.click_id_kind = "fbclid".into();
    let hits = [visits(), vec![in_session(marked, 0xc1)]].concat();
    in_every_state(stack, "campaigns", hits, |place, state| {
        let columns =
            "day, campaign_name, campaign_medium, click_id_kind, sessions, visitors, bounces, page_views, forms";
        let found = place.query(&format!("SELECT {columns} FROM {{database}}.campaigns"));
        assert_eq!(found, "2026-03-11\tspring\tcpc\tgclid\t1\t1\t1\t1\t0", "{state}");
        let direct =
            "SELECT day, sessions, visitors, forms, page_views FROM {database}.sources WHERE source_kind = 'direct'";
        assert_eq!(place.query(direct), "2026-03-12\t2\t2\t3\t3", "{state}");
    })
    .await;
}

#[tokio::test]
async fn conversions_are_credited_to_the_first_and_to_the_last_touch() {
    let name = "conversions_are_credited_to_the_first_and_to_the_last_touch";
    let Some(stack) = local::database_or_skip(name) else { return };
    in_every_state(stack, "conversions", visits(), |place, state| {
        place.query("INSERT INTO {database}.goals (site, goal, kind, pattern, value) VALUES ('shop', 'quote', 'form', '/contact%', 10), ('shop', 'prices', 'page_view', '/prices', 0), ('blog', 'all', 'form', '%', 1)");
        let reached = "SELECT goal, day, count(), sum(value) FROM {database}.conversions WHERE site = 'shop' GROUP BY goal, day ORDER BY goal";
        assert_eq!(lines(&place.query(reached)), ["prices\t2026-03-12\t1\t0", "quote\t2026-03-12\t3\t30"], "{state}");
        let credited = "SELECT source_kind, source_name, campaign_name, first_touch_conversions, last_touch_conversions, last_touch_value \
                        FROM {database}.conversion_sources(site = 'shop', first_day = '2026-03-12', last_day = '2026-03-12') \
                        WHERE goal = 'quote' ORDER BY source_kind";
        let expected = ["campaign\tgoogle\tspring\t0\t1\t10", "direct\t\t\t2\t2\t20", "search\tGoogle\t\t1\t0\t0"];
        assert_eq!(lines(&place.query(credited)), expected, "{state}");
    })
    .await;
}

#[tokio::test]
async fn a_goal_that_is_taken_back_is_reached_by_nobody() {
    let Some(stack) = local::database_or_skip("a_goal_that_is_taken_back_is_reached_by_nobody") else { return };
    in_every_state(stack, "goals", visits(), |place, state| {
        let goal = |active: bool| {
            place.query(&format!("INSERT INTO {{database}}.goals (site, goal, kind, is_active) VALUES ('shop', 'quote', 'form', {active})"));
            place.query("SELECT count() FROM {database}.conversions")
        };
        assert_eq!((goal(true).as_str(), goal(false).as_str()), ("3", "0"), "{state}");
    })
    .await;
}

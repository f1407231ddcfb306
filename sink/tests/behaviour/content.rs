//! Pages, files, links, searches.

use schemas::{EnrichedHit, Kind};

use crate::states::{DAY, HOUR, MINUTE, in_every_state, in_session, lines, visible};
use crate::support::{hit, page_view, unnamed};

fn about(kind: Kind, number: u128, visitor: &'static str, at: i64, what: &'static str) -> EnrichedHit<'static> {
    let mut hit = hit(kind, number, visitor, at, "/");
    match kind {
        Kind::Search => hit.hit.search_term = what.into(),
        _ => hit.hit.target_url = what.into(),
    }
    hit
}

/// Anna: / (20 s), /a, / again. Ben, the next day: /a (10 s), a file twice, a link, a mail, two searches. Nobody: /a for 5 s.
fn visits() -> Vec<EnrichedHit<'static>> {
    let mut titled = page_view(1, "anna", 0, "/");
    titled.hit.page_title = "Home".into();
    vec![
        in_session(titled, 0xa1),
        in_session(visible(2, "anna", 20_000, 1, 20_000), 0xa1),
        in_session(page_view(3, "anna", MINUTE, "/a"), 0xa1),
        in_session(page_view(4, "anna", 2 * MINUTE, "/"), 0xa1),
        in_session(page_view(5, "ben", DAY, "/a"), 0xb1),
        in_session(visible(6, "ben", DAY + 10_000, 5, 10_000), 0xb1),
        in_session(about(Kind::Download, 7, "ben", DAY + MINUTE, "https://shop.example/data.pdf"), 0xb1),
        in_session(about(Kind::Download, 13, "ben", DAY + MINUTE, "https://shop.example/data.pdf?signed=1"), 0xb1),
        in_session(
            about(Kind::Outlink, 8, "ben", DAY + MINUTE, "https://ben:secret@other.example/x?mail=ben@x.example#b"),
            0xb1,
        ),
        in_session(about(Kind::Outlink, 14, "ben", DAY + MINUTE, "MailTo:ada@shop.example"), 0xb1),
        in_session(about(Kind::Search, 9, "ben", DAY + MINUTE, " Pump "), 0xb1),
        in_session(about(Kind::Search, 10, "ben", DAY + MINUTE, "pump"), 0xb1),
        unnamed(page_view(11, "", DAY + HOUR, "/a")),
        unnamed(visible(12, "", DAY + HOUR + 5_000, 11, 5_000)),
    ]
}

#[tokio::test]
async fn pages_know_views_visitors_entries_exits_and_time() {
    let Some(stack) = local::database_or_skip("pages_know_views_visitors_entries_exits_and_time") else { return };
    in_every_state(stack, "pages", visits(), |place, state| {
        let columns = "page_path, page_title, views, visitors, sessions, entries, exits, average_visible_ms, total_visible_ms";
        let found = place.query(&format!("SELECT {columns} FROM {{database}}.pages WHERE site = 'shop' ORDER BY page_path"));
        // Of two views of / one told, 20 s; of three of /a two did, 10 s and 5 s.
        let expected = ["/\tHome\t2\t1\t1\t1\t1\t20000\t20000", "/a\t\t3\t2\t2\t1\t1\t7500\t15000"];
        assert_eq!(lines(&found), expected, "{state}");
        let of_a_day = format!("SELECT {columns} FROM {{database}}.pages_between(site = 'shop', first_day = '2026-03-11', last_day = '2026-03-11')");
        assert_eq!(place.query(&of_a_day), "/a\t\t2\t1\t1\t1\t1\t7500\t15000", "{state}");
        let days = "SELECT day, page_path, views, sessions, total_visible_ms FROM {database}.page_days ORDER BY day, page_path";
        let expected = ["2026-03-10\t/\t2\t1\t20000", "2026-03-10\t/a\t1\t1\t0", "2026-03-11\t/a\t2\t1\t15000"];
        assert_eq!(lines(&place.query(days)), expected, "{state}");
    })
    .await;
}

#[tokio::test]
async fn trends_are_by_hour_day_or_week() {
    let Some(stack) = local::database_or_skip("trends_are_by_hour_day_or_week") else { return };
    in_every_state(stack, "trends", visits(), |place, state| {
        let trend = |step: &str| {
            place.query(&format!(
                "SELECT toDateTime(time, 'UTC'), views, visitors, sessions, entries, exits, views_with_time, total_visible_ms FROM {{database}}.page_trend(site = 'shop', \
                 first_day = '2026-03-10', last_day = '2026-03-11', step = '{step}', page = 'shop.example/a') ORDER BY time"
            ))
        };
        let hours = [
            "2026-03-10 12:00:00\t1\t1\t1\t0\t0\t0\t0",
            "2026-03-11 12:00:00\t1\t1\t1\t1\t1\t1\t10000",
            "2026-03-11 13:00:00\t1\t0\t0\t0\t0\t1\t5000",
        ];
        assert_eq!(lines(&trend("hour")), hours, "{state}");
        let days = ["2026-03-10 00:00:00\t1\t1\t1\t0\t0\t0\t0", "2026-03-11 00:00:00\t2\t1\t1\t1\t1\t2\t15000"];
        assert_eq!(lines(&trend("day")), days, "{state}");
        // The Monday of that week.
        assert_eq!(trend("week"), "2026-03-09 00:00:00\t3\t2\t2\t1\t1\t2\t15000", "{state}");
    })
    .await;
}

/// A board in a hall shows a page for days: each day has its views, whichever day is asked for.
#[tokio::test]
async fn a_visit_of_days_is_in_the_trend_of_each() {
    let Some(stack) = local::database_or_skip("a_visit_of_days_is_in_the_trend_of_each") else { return };
    let views =
        (0..9).map(|number| in_session(page_view(number + 1, "board", number as i64 * 12 * HOUR, "/board"), 0xb1));
    in_every_state(stack, "board", views.collect(), |place, state| {
        let views_from = |first_day: &str| {
            place.query(&format!(
                "SELECT toDate(time), views, sessions, entries, exits FROM {{database}}.page_trend(site = 'shop', \
                 first_day = '{first_day}', last_day = '2026-03-20', step = 'day', page = '/board') ORDER BY time"
            ))
        };
        assert_eq!(lines(&views_from("2026-03-13")), ["2026-03-13\t2\t1\t0\t0", "2026-03-14\t2\t1\t0\t1"], "{state}");
        assert_eq!(lines(&views_from("1970-01-01")).len(), 5, "{state}");
    })
    .await;
}

/// Where somebody logs in, the page tells another visitor and the session goes on: that is a visit of each.
#[tokio::test]
async fn one_session_of_two_visitors_is_two_everywhere() {
    let Some(stack) = local::database_or_skip("one_session_of_two_visitors_is_two_everywhere") else { return };
    let of = |visitor, first| {
        let hits = [
            page_view(first, visitor, 0, "/s"),
            about(Kind::Download, first + 1, visitor, MINUTE, "https://shop.example/data.pdf"),
            about(Kind::Outlink, first + 2, visitor, MINUTE, "https://other.example/"),
            about(Kind::Search, first + 3, visitor, MINUTE, "pump"),
        ];
        hits.map(|hit| in_session(hit, 0x4d))
    };
    in_every_state(stack, "logged_in", [of("anna", 1), of("ben", 11)].concat(), |place, state| {
        let trend =
            "page_trend(site = 'shop', first_day = '2026-03-10', last_day = '2026-03-10', step = 'day', page = '/s')";
        let page = "pages WHERE page_path = '/s'";
        for counted in [page, trend, "downloads", "outlinks", "searches"] {
            let found = place.query(&format!("SELECT visitors, sessions FROM {{database}}.{counted}"));
            assert_eq!(found, "2\t2", "{counted}, {state}");
        }
        assert_eq!(place.query("SELECT count() FROM {database}.sessions"), "2", "{state}");
    })
    .await;
}

#[tokio::test]
async fn files_links_and_searches_are_counted() {
    let Some(stack) = local::database_or_skip("files_links_and_searches_are_counted") else { return };
    in_every_state(stack, "items", visits(), |place, state| {
        let files = place.query("SELECT file_name, downloads, visitors, sessions FROM {database}.downloads");
        assert_eq!(files, "data.pdf\t2\t1\t1", "{state}");
        let links = place.query("SELECT target_url, target_host, outlinks, visitors, sessions FROM {database}.outlinks ORDER BY 1");
        assert_eq!(lines(&links), ["MailTo:\t\t1\t1\t1", "https://other.example/x\tother.example\t1\t1\t1"], "{state}");
        let terms = place.query("SELECT term, searches, visitors, sessions FROM {database}.searches");
        assert_eq!(terms, "pump\t2\t1\t1", "{state}");
        let between = "SELECT item, times, visitors FROM {database}.content_between(site = 'shop', first_day = '2026-03-11', last_day = '2026-03-11', kind = 'search')";
        assert_eq!(place.query(between), "pump\t2\t1", "{state}");
        let trend = |step: &str, kind: &str| {
            place.query(&format!(
                "SELECT toDateTime(time, 'UTC'), item, times, visitors FROM {{database}}.content_trend(site = 'shop', \
                 first_day = '2026-03-10', last_day = '2026-03-11', step = '{step}', kind = '{kind}', item = '%p%') ORDER BY time"
            ))
        };
        assert_eq!(trend("hour", "search"), "2026-03-11 12:00:00\tpump\t2\t1", "{state}");
        assert_eq!(trend("week", "download"), "2026-03-09 00:00:00\thttps://shop.example/data.pdf\t2\t1", "{state}");
        let followed = "SELECT item FROM {database}.content_between(site = 'shop', first_day = '2026-03-11', last_day = '2026-03-11', kind = 'outlink') ORDER BY item";
        assert_eq!(lines(&place.query(followed)), ["MailTo:", "https://other.example/x"], "{state}");
        let before = "SELECT count() FROM {database}.content_between(site = 'shop', first_day = '2026-03-10', last_day = '2026-03-10', kind = 'search')";
        assert_eq!(place.query(before), "0", "{state}");
    })
    .await;
}

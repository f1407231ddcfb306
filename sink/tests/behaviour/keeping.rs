//! What is known for longer than its hits are kept.

use schemas::EnrichedHit;
use sink::views::rebuild::rebuild;

use crate::states::{DAY, HOUR, MINUTE, form, in_session, lines, on_site};
use crate::support::{Place, page_view};

/// Ben came on the 10th, and over the midnight after it; Anna on the 10th, with her address.
fn of_old() -> Vec<EnrichedHit<'static>> {
    vec![
        page_view(1, "ben", 0, "/"),
        page_view(2, "ben", MINUTE, "/a"),
        page_view(3, "ben", 12 * HOUR - MINUTE, "/b"),
        page_view(4, "ben", 12 * HOUR + MINUTE, "/c"),
        in_session(form(5, "anna", 0, ["Anna", "anna@x.example", "1"]), 0xa1),
        in_session(page_view(6, "anna", 12 * HOUR - MINUTE, "/b"), 0xa2),
        in_session(page_view(7, "anna", 12 * HOUR + MINUTE, "/c"), 0xa2),
    ]
}

const VISITS: &str =
    "SELECT visitor_id, started_at, page_views, forms FROM {database}.sessions ORDER BY visitor_id, started_at";

const OLD: [&str; 4] = [
    "anna\t2026-03-10 12:00:00.000\t0\t1",
    "anna\t2026-03-10 23:59:00.000\t2\t0",
    "ben\t2026-03-10 12:00:00.000\t2\t0",
    "ben\t2026-03-10 23:59:00.000\t2\t0",
];

/// The hits of the 10th and before are kept no more.
fn expire(place: &Place) {
    place.query(
        "ALTER TABLE {database}.hits DELETE WHERE toDate(received_at) <= '2026-03-10' SETTINGS mutations_sync = 1",
    );
}

/// Who comes back after the hits of earlier visits are gone has those visits all the same.
#[tokio::test]
async fn a_visitor_who_returns_keeps_what_the_hits_no_longer_tell() {
    let name = "a_visitor_who_returns_keeps_what_the_hits_no_longer_tell";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::migrated(stack, "returning").await;
    place.load(&of_old()).await;
    assert_eq!(lines(&place.query(VISITS)), OLD);
    expire(&place);
    assert_eq!(lines(&place.query(VISITS)), OLD);
    place.load(&[page_view(8, "ben", 3 * DAY, "/"), in_session(page_view(9, "anna", 3 * DAY, "/"), 0xa3)]).await;
    let returned =
        [OLD[0], OLD[1], "anna\t2026-03-13 12:00:00.000\t1\t0", OLD[2], OLD[3], "ben\t2026-03-13 12:00:00.000\t1\t0"];
    assert_eq!(lines(&place.query(VISITS)), returned);
    // As ever, a hit that comes late changes visits of which the hits are there.
    place.load(&[page_view(10, "ben", 3 * DAY - 10 * MINUTE, "/late")]).await;
    let ben = "SELECT started_at, page_views FROM {database}.sessions WHERE visitor_id = 'ben' AND day > '2026-03-11'";
    assert_eq!(place.query(ben), "2026-03-13 11:50:00.000\t2");
}

/// Made anew from hits, a table keeps what it has from before the oldest hit of each site.
#[tokio::test]
async fn a_table_that_is_made_anew_keeps_what_the_hits_no_longer_tell() {
    let name = "a_table_that_is_made_anew_keeps_what_the_hits_no_longer_tell";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::migrated(stack, "rebuilt_old").await;
    let mut hits = of_old();
    hits.iter_mut().for_each(|hit| hit.hit.page_title = "Home".into());
    // A site of which no hit is left, and one that was young then.
    hits.push(on_site(form(20, "zoe", 0, ["Zoe", "zoe@x.example", ""]), "closed"));
    hits.push(on_site(form(21, "yan", 2 * DAY, ["Yan", "yan@x.example", ""]), "young"));
    place.load(&hits).await;
    let known = || {
        [
            VISITS,
            "SELECT site, contact, name FROM {database}.contacts ORDER BY site, contact",
            "SELECT site, visitor_id, contact FROM {database}.contact_visitors ORDER BY site, visitor_id",
            "SELECT page_path, page_title, views FROM {database}.pages ORDER BY site, page_path",
        ]
        .map(|question| place.query(question))
    };
    let before = known();
    expire(&place);
    for table in ["settled_sessions", "contact_cards", "contact_links", "mail_opens", "page_titles", "unnamed_views"] {
        rebuild(place.clickhouse(), None, table, |_| ()).await.unwrap();
    }
    place.settle();
    assert_eq!(known(), before);
    // A row that no hit told and that is younger than they are is not kept.
    place.query(
        "INSERT INTO {database}.contact_cards (site, contact, source, name, submitted_at) \
         VALUES ('shop', 'x@x.example', 'form', 'X', '2026-03-12 00:00:00')",
    );
    rebuild(place.clickhouse(), None, "contact_cards", |_| ()).await.unwrap();
    assert_eq!(known(), before);
}

/// An operator keeps rows of one site for less time than the migrations say, and of all others for longer.
#[tokio::test]
async fn a_table_that_is_made_anew_keeps_rows_for_as_long_as_the_old_one() {
    let name = "a_table_that_is_made_anew_keeps_rows_for_as_long_as_the_old_one";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = Place::migrated(stack, "rebuilt_retention").await;
    let now = place.now();
    let visits = |number: u128, site: &'static str, days: i64| {
        let visitor: &'static str = format!("{days}").leak();
        on_site(in_session(form(number, visitor, now - days * DAY, ["Ann", "ann@x.example", ""]), number), site)
    };
    place.load(&[visits(1, "shop", 300), visits(2, "blog", 300), visits(3, "blog", 900), visits(4, "shop", 1)]).await;
    let tables = [
        ("settled_sessions", "day"),
        ("contact_cards", "toDate(submitted_at)"),
        ("contact_links", "toDate(linked_at)"),
        ("mail_opens", "toDate(received_at)"),
        ("page_titles", "month"),
        ("unnamed_views", "received_on"),
    ];
    let engine = |table: &str| {
        place.query(&format!(
            "SELECT engine_full FROM system.tables WHERE database = '{{database}}' AND name = '{table}'"
        ))
    };
    for (table, day) in tables {
        let alter = |change: &str| drop(place.query(&format!("ALTER TABLE {{database}}.{table} {change}")));
        // A setting of each kind: one that the migrations have otherwise, one that they do not have, and one of theirs taken back.
        alter("MODIFY SETTING min_age_to_force_merge_seconds = 7200, merge_with_ttl_timeout = 3600");
        alter("RESET SETTING ttl_only_drop_parts");
        alter(&format!("MODIFY TTL {day} + INTERVAL if(site = 'shop', 6, 60) MONTH"));
        let before = engine(table);
        rebuild(place.clickhouse(), None, table, |_| ()).await.unwrap();
        assert_eq!(engine(table), before, "{table}");
    }
    for (table, _) in &tables[..3] {
        place.query(&format!("OPTIMIZE TABLE {{database}}.{table} FINAL"));
        let kept = format!("SELECT site, visitor_id FROM {{database}}.{table} WHERE site != '' ORDER BY ALL");
        assert_eq!(lines(&place.query(&kept)), ["blog\t300", "blog\t900", "shop\t1"], "{table}");
    }
    // One that keeps its rows for good does so.
    place.query("ALTER TABLE {database}.contact_cards REMOVE TTL");
    rebuild(place.clickhouse(), None, "contact_cards", |_| ()).await.unwrap();
    assert!(!engine("contact_cards").contains(" TTL "), "{}", engine("contact_cards"));
}

/// Each table lets go of what is older than it says, for all sites or, as the README shows, for one.
#[tokio::test]
async fn retention_is_kept_per_table_and_per_site() {
    let Some(stack) = local::database_or_skip("retention_is_kept_per_table_and_per_site") else { return };
    let place = Place::migrated(stack, "retention").await;
    let now = place.now();
    let ago = |days: i64| now - days * DAY;
    let visits = |number: u128, site: &'static str, visitor: &'static str, days: i64| {
        on_site(in_session(form(number, visitor, ago(days), ["Ann", "ann@x.example", ""]), number), site)
    };
    place
        .load(&[
            visits(1, "shop", "old", 900),
            visits(2, "shop", "half", 300),
            visits(3, "blog", "half", 300),
            visits(4, "shop", "new", 1),
        ])
        .await;
    let kept = |table: &str| {
        place.query(&format!("OPTIMIZE TABLE {{database}}.{table} FINAL"));
        place.query(&format!(
            "SELECT arraySort(groupUniqArray((site, visitor_id))) FROM {{database}}.{table} WHERE site != ''"
        ))
    };
    let (all, of_two_years, of_six_months) = (
        "[('blog','half'),('shop','half'),('shop','new'),('shop','old')]",
        "[('blog','half'),('shop','half'),('shop','new')]",
        "[('blog','half'),('shop','new')]",
    );
    // The tests take the time limit of hits away.
    assert_eq!(kept("hits"), all);
    place.query("ALTER TABLE {database}.hits MODIFY TTL toDate(received_at) + INTERVAL 25 MONTH");
    for (table, day) in [
        ("hits", "toDate(received_at)"),
        ("settled_sessions", "day"),
        ("contact_cards", "toDate(submitted_at)"),
        ("contact_links", "toDate(linked_at)"),
    ] {
        assert_eq!(kept(table), of_two_years, "{table}");
        place.query(&format!("ALTER TABLE {{database}}.{table} MODIFY SETTING ttl_only_drop_parts = 0"));
        place.query(&format!(
            "ALTER TABLE {{database}}.{table} MODIFY TTL {day} + INTERVAL if(site = 'shop', 6, 25) MONTH"
        ));
        assert_eq!(kept(table), of_six_months, "{table}");
    }
}

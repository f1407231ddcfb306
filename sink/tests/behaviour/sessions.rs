//! Sessions and visitors: whatever order and however often hits come.

use schemas::{DeviceKind, EnrichedHit, Kind, PartnerMatch, SourceKind};

use crate::states::{
    DAY, HOUR, MINUTE, form, from_source, in_every_state, in_session, lines, on_site, under_id, visible,
};
use crate::support::{NOON, hit, page_view};

/// 2026-03-31 23:50, from noon of 10 March.
const BEFORE_THE_MONTH_ENDS: i64 = 21 * DAY + 11 * HOUR + 50 * MINUTE;

/// A visit with a session that goes on over the end of the month is one, and so is one without. Each belongs to the day
/// on which it began.
#[tokio::test]
async fn midnight_and_the_end_of_a_month_part_nothing() {
    let Some(stack) = local::database_or_skip("midnight_and_the_end_of_a_month_part_nothing") else { return };
    let start = BEFORE_THE_MONTH_ENDS;
    let hits = vec![
        in_session(page_view(1, "anna", start, "/"), 0xa1),
        in_session(visible(2, "anna", start + MINUTE, 1, 60_000), 0xa1),
        in_session(page_view(3, "anna", start + 15 * MINUTE, "/prices"), 0xa1),
        page_view(4, "ben", start, "/"),
        page_view(5, "ben", start + 30 * MINUTE, "/a"),
        page_view(6, "ben", start + 60 * MINUTE + 1, "/b"),
    ];
    in_every_state(stack, "month", hits, |place, state| {
        let columns = "visitor_id, session_id_source, day, started_at, ended_at, visible_duration_ms, page_views, entry_page, exit_page, viewed_at_ms, viewed_for_ms";
        let found = place.query(&format!("SELECT {columns} FROM {{database}}.sessions WHERE site = 'shop' ORDER BY started_at, visitor_id"));
        let expected = [
            "anna\tgiven\t2026-03-31\t2026-03-31 23:50:00.000\t2026-04-01 00:05:00.000\t60000\t2\tshop.example/\tshop.example/prices\t[0,900000]\t[60000,0]",
            "ben\tcomputed\t2026-03-31\t2026-03-31 23:50:00.000\t2026-04-01 00:20:00.000\t0\t2\tshop.example/\tshop.example/a\t[0,1800000]\t[0,0]",
            // One millisecond more than thirty minutes.
            "ben\tcomputed\t2026-04-01\t2026-04-01 00:50:00.001\t2026-04-01 00:50:00.001\t0\t1\tshop.example/b\tshop.example/b\t[0]\t[0]",
        ];
        assert_eq!(lines(&found), expected, "{state}");
    })
    .await;
}

/// Ben's hit at 12:25, which comes last, joins what were two sessions: those are gone, also from what was settled.
#[tokio::test]
async fn a_late_hit_joins_two_sessions() {
    let Some(stack) = local::database_or_skip("a_late_hit_joins_two_sessions") else { return };
    // Every second hit is late: 0, then 50 minutes are settled before 25 comes.
    let hits = vec![
        page_view(1, "ben", 0, "/"),
        page_view(2, "ben", 25 * MINUTE, "/b"),
        page_view(3, "ben", 50 * MINUTE, "/c"),
    ];
    in_every_state(stack, "joined", hits, |place, state| {
        let found = place.query("SELECT visitor_id, started_at, page_views, viewed_pages FROM {database}.sessions");
        let expected = "ben\t2026-03-10 12:00:00.000\t3\t['shop.example/','shop.example/b','shop.example/c']";
        assert_eq!(found, expected, "{state}");
    })
    .await;
}

/// A hit from before all others, which comes late, moves the beginning of the session to the day before.
#[tokio::test]
async fn a_late_hit_moves_a_session_to_another_day() {
    let Some(stack) = local::database_or_skip("a_late_hit_moves_a_session_to_another_day") else { return };
    let midnight = 12 * HOUR;
    let hits = vec![
        in_session(page_view(2, "anna", midnight + MINUTE, "/b"), 0xa1),
        in_session(page_view(1, "anna", midnight - MINUTE, "/a"), 0xa1),
    ];
    in_every_state(stack, "moved", hits, |place, state| {
        let question = "SELECT day, count(), sum(page_views), any(entry_page) FROM {database}.sessions GROUP BY day";
        assert_eq!(place.query(question), "2026-03-10\t1\t2\tshop.example/a", "{state}");
    })
    .await;
}

/// Two tabs are one visit, of which each tells its own time. The second came by a campaign: the visit is the first's.
#[tokio::test]
async fn two_tabs_are_one_visit() {
    let Some(stack) = local::database_or_skip("two_tabs_are_one_visit") else { return };
    let mut second = from_source(page_view(2, "anna", MINUTE, "/offer"), SourceKind::Campaign, "Newsletter");
    second.campaign.name = "spring".into();
    // Whatever happens in a tab tells again where its page came from.
    let of_first = |hit| in_session(from_source(hit, SourceKind::Search, "Google"), 0xa1);
    let hits = vec![
        of_first(page_view(1, "anna", 0, "/")),
        in_session(second, 0xa1),
        of_first(visible(3, "anna", 2 * MINUTE, 1, 50_000)),
        in_session(from_source(visible(4, "anna", 2 * MINUTE, 2, 70_000), SourceKind::Campaign, "Newsletter"), 0xa1),
        of_first(visible(5, "anna", 3 * MINUTE, 1, 65_000)),
        of_first(hit(Kind::Event, 6, "anna", 3 * MINUTE, "/")),
    ];
    in_every_state(stack, "tabs", hits, |place, state| {
        let columns = "visible_duration_ms, page_views, events, is_bounce, viewed_for_ms, source_name, last_source_name, last_campaign_name";
        let found = place.query(&format!("SELECT {columns} FROM {{database}}.sessions"));
        // 65 s of the first tab, the larger of its two, and 70 s of the second.
        assert_eq!(found, "135000\t2\t1\tfalse\t[65000,70000]\tGoogle\tNewsletter\tspring", "{state}");
        let visitor = place.query("SELECT sessions, first_source_name, last_source_name FROM {database}.visitors");
        assert_eq!(visitor, "1\tGoogle\tNewsletter", "{state}");
    })
    .await;
}

/// Without a page view, what there is tells the source. Where there are both, a page view does, though it came later; and
/// one that came from somewhere before one that came directly.
#[tokio::test]
async fn a_source_is_told_by_page_views_where_there_are_any() {
    let Some(stack) = local::database_or_skip("a_source_is_told_by_page_views_where_there_are_any") else { return };
    let of_old_tab = from_source(hit(Kind::Download, 1, "anna", 0, "/"), SourceKind::Search, "Google");
    let hits = vec![
        in_session(of_old_tab.clone(), 0xa1),
        in_session(from_source(page_view(2, "anna", MINUTE, "/offer"), SourceKind::Mail, "Gmail"), 0xa1),
        in_session(EnrichedHit { hit: hit(Kind::Download, 3, "ben", 0, "/").hit, ..of_old_tab }, 0xb1),
        // Directly, then by an advertisement, then directly again.
        in_session(from_source(page_view(4, "cleo", 0, "/"), SourceKind::Direct, ""), 0xc1),
        in_session(from_source(page_view(5, "cleo", MINUTE, "/"), SourceKind::Campaign, "Ads"), 0xc1),
        in_session(from_source(page_view(6, "cleo", 2 * MINUTE, "/"), SourceKind::Direct, ""), 0xc1),
        in_session(from_source(page_view(7, "dora", 0, "/"), SourceKind::Direct, ""), 0xd1),
    ];
    in_every_state(stack, "told_by_views", hits, |place, state| {
        let found = place
            .query("SELECT visitor_id, source_kind, source_name, last_source_name FROM {database}.sessions ORDER BY visitor_id");
        let expected =
            ["anna\tmail\tGmail\tGmail", "ben\tsearch\tGoogle\tGoogle", "cleo\tcampaign\tAds\tAds", "dora\tdirect\t\t"];
        assert_eq!(lines(&found), expected, "{state}");
    })
    .await;
}

/// To answer a banner is no action, nor is it when the page itself says who is there: such a visit is a bounce all the same.
#[tokio::test]
async fn an_answered_banner_and_a_name_end_no_bounce() {
    let Some(stack) = local::database_or_skip("an_answered_banner_and_a_name_end_no_bounce") else { return };
    let named = |mut hit: EnrichedHit<'static>, name: &'static str| {
        hit.hit.event_name = name.into();
        hit
    };
    let hits = vec![
        in_session(page_view(1, "anna", 0, "/"), 0xa1),
        in_session(named(hit(Kind::Event, 2, "anna", 1, "/"), "consent"), 0xa1),
        in_session(hit(Kind::Identify, 3, "anna", 2, "/"), 0xa1),
        in_session(page_view(4, "ben", 0, "/"), 0xb1),
        in_session(named(hit(Kind::Event, 5, "ben", 1, "/"), "video"), 0xb1),
    ];
    in_every_state(stack, "banner", hits, |place, state| {
        let found = place.query("SELECT visitor_id, events, is_bounce FROM {database}.sessions ORDER BY visitor_id");
        assert_eq!(lines(&found), ["anna\t0\ttrue", "ben\t1\tfalse"], "{state}");
    })
    .await;
}

/// The topic was read once more, and a partner knows better by now: what was enriched last counts, in whatever order it came.
#[tokio::test]
async fn a_hit_that_was_enriched_again_counts_as_it_was_last() {
    let Some(stack) = local::database_or_skip("a_hit_that_was_enriched_again_counts_as_it_was_last") else { return };
    let of_company = |number: u128, visitor: &'static str, name: &'static str, enriched_at: i64| {
        let mut hit = from_source(in_session(page_view(number, visitor, 0, "/"), number), SourceKind::Search, name);
        hit.network.organisation = name.into();
        hit.enriched_at = NOON + enriched_at;
        hit.partner = Some(PartnerMatch { company_name: name.into(), ..PartnerMatch::default() });
        hit
    };
    let hits = vec![
        of_company(1, "anna", "Steel", DAY),
        of_company(1, "anna", "Ironmongers", 0),
        of_company(2, "ben", "Ironmongers", 0),
        of_company(2, "ben", "Steel", DAY),
    ];
    in_every_state(stack, "enriched_again", hits, |place, state| {
        let columns = "company_name, network_organisation, source_name, last_source_name";
        let found =
            place.query(&format!("SELECT visitor_id, {columns} FROM {{database}}.sessions ORDER BY visitor_id"));
        assert_eq!(lines(&found), ["anna\tSteel\tSteel\tSteel\tSteel", "ben\tSteel\tSteel\tSteel\tSteel"], "{state}");
    })
    .await;
}

/// A hit counts where its corrected clock says, not where it arrived; one that is there twice under one id with another
/// time counts once.
#[tokio::test]
async fn a_view_that_is_there_at_two_times_is_one() {
    let Some(stack) = local::database_or_skip("a_view_that_is_there_at_two_times_is_one") else { return };
    let hits = vec![
        in_session(page_view(1, "anna", 0, "/"), 0xa1),
        in_session(page_view(2, "anna", MINUTE, "/b"), 0xa1),
        in_session(page_view(1, "anna", 4, "/"), 0xa1),
    ];
    in_every_state(stack, "twice", hits, |place, state| {
        let found = place.query("SELECT page_views, viewed_at_ms, exit_page FROM {database}.sessions");
        assert_eq!(found, "2\t[0,60000]\tshop.example/b", "{state}");
    })
    .await;
}

/// What is told in one batch without times happened at one moment: ids tell the order.
#[tokio::test]
async fn pages_of_one_moment_are_in_the_order_of_their_ids() {
    let Some(stack) = local::database_or_skip("pages_of_one_moment_are_in_the_order_of_their_ids") else { return };
    let view = |visitor, place, random, path| under_id(page_view(0, visitor, 0, path), place, random);
    let hits = vec![
        view("anna", 2, 7, "/second"),
        view("anna", 1, 9, "/first"),
        view("anna", 3, 5, "/third"),
        in_session(view("ben", 11, 19, "/first"), 0xb1),
        in_session(view("ben", 12, 18, "/second"), 0xb1),
    ];
    in_every_state(stack, "moment", hits, |place, state| {
        let columns = "visitor_id, viewed_pages, entry_page, exit_page";
        let found = place.query(&format!("SELECT {columns} FROM {{database}}.sessions ORDER BY visitor_id"));
        let expected = [
            "anna\t['shop.example/first','shop.example/second','shop.example/third']\tshop.example/first\tshop.example/third",
            "ben\t['shop.example/first','shop.example/second']\tshop.example/first\tshop.example/second",
        ];
        assert_eq!(lines(&found), expected, "{state}");
        let after = "SELECT page FROM {database}.paths(site = 'shop', first_day = '2026-03-10', last_day = '2026-03-10', \
                     page = '/second') WHERE position = 'before'";
        assert_eq!(place.query(after), "shop.example/first", "{state}");
    })
    .await;
}

/// So do the ids that the collector gives to the hits of one batch, which differ by a counter in the middle.
#[tokio::test]
async fn of_one_moment_the_first_source_and_the_last_name_count() {
    let Some(stack) = local::database_or_skip("of_one_moment_the_first_source_and_the_last_name_count") else { return };
    let visit = |(visitor, who): (u64, &'static str)| {
        let numbered = |hit, number: u64| {
            let counter = 1000 * visitor + number;
            under_id(in_session(hit, 0xa1), 7, (2 << 62) | (counter << 32) | (99 - number))
        };
        [
            numbered(from_source(page_view(0, who, 0, "/"), SourceKind::Search, "Google"), 1),
            numbered(from_source(page_view(0, who, 0, "/offer"), SourceKind::Campaign, "Ads"), 2),
            numbered(form(0, who, 0, ["Ann", "", ""]), 3),
            numbered(form(0, who, 0, ["Anna", "", ""]), 4),
        ]
    };
    let visitors = ["anna", "ben", "cleo", "dora", "emil", "fred"];
    let hits = (1..).zip(visitors).flat_map(visit).collect();
    in_every_state(stack, "first_and_last", hits, |place, state| {
        let columns = "source_name, last_source_name, contact_name";
        let found = place.query(&format!("SELECT {columns}, count() FROM {{database}}.sessions GROUP BY {columns}"));
        assert_eq!(found, "Google\tAds\tAnna\t6", "{state}");
    })
    .await;
}

/// A board in a hall loads its pages for months under one session: each is viewed when it was viewed.
#[tokio::test]
async fn a_visit_may_last_for_months() {
    let Some(stack) = local::database_or_skip("a_visit_may_last_for_months") else { return };
    let view = |day: i64| {
        let path: &'static str = format!("/{day}").leak();
        in_session(page_view(day as u128 + 1, "board", day * DAY, path), 0xb1)
    };
    in_every_state(stack, "months", (0..56).map(view).collect(), |place, state| {
        let found = place.query("SELECT started_at, ended_at, page_views, viewed_at_ms[51] FROM {database}.sessions");
        // 50 days, which are more milliseconds than 32 bits hold.
        assert_eq!(found, "2026-03-10 12:00:00.000\t2026-05-04 12:00:00.000\t56\t4320000000", "{state}");
        let viewed = "SELECT first_viewed_at, last_viewed_at FROM {database}.pages WHERE page_path = '/50'";
        assert_eq!(place.query(viewed), "2026-04-29 12:00:00.000\t2026-04-29 12:00:00.000", "{state}");
        let days = "first_day = '2026-03-10', last_day = '2026-05-04'";
        let trend = format!("SELECT uniqExact(time), max(views) FROM {{database}}.page_trend(site = 'shop', {days}, step = 'day', page = '%')");
        assert_eq!(place.query(&trend), "56\t1", "{state}");
        let came = format!("SELECT countIf(visitors = 1) FROM {{database}}.retention(site = 'shop', {days}, period = 'day')");
        assert_eq!(place.query(&came), "56", "{state}");
    })
    .await;
}

/// Anna is on two sites of one customer under one id; what is anonymous belongs to one site alone.
#[tokio::test]
async fn a_customer_knows_visitors_over_all_of_their_sites() {
    let Some(stack) = local::database_or_skip("a_customer_knows_visitors_over_all_of_their_sites") else { return };
    let mut anonymous = page_view(4, "hash", 0, "/");
    anonymous.hit.visitor_id_source = schemas::VisitorIdSource::DailyHash;
    let mut by_desk = from_source(page_view(1, "anna", 0, "/"), SourceKind::Search, "Google");
    by_desk.device.kind = DeviceKind::Desktop;
    let mut by_phone = from_source(page_view(2, "anna", HOUR, "/"), SourceKind::Social, "LinkedIn");
    by_phone.device.kind = DeviceKind::Mobile;
    let hits = vec![
        in_session(by_desk, 0xa1),
        on_site(in_session(by_phone, 0xa2), "blog"),
        // The visit goes on at the next site, under the cookie that both share.
        on_site(in_session(page_view(5, "anna", HOUR + MINUTE, "/"), 0xa1), "blog"),
        on_site(in_session(page_view(3, "anna", 2 * HOUR, "/"), 0xa3), "other"),
        anonymous,
    ];
    in_every_state(stack, "customer", hits, |place, state| {
        place.query("INSERT INTO {database}.customer_sites VALUES ('acme', 'shop'), ('acme', 'blog')");
        let question = "SELECT customer, visitor_id, sites, first_site, sessions, page_views, first_source_name, last_seen, \
                        first_seen, last_source_kind, last_source_name, devices FROM {database}.customer_visitors";
        let expected = "acme\tanna\t['blog','shop']\tshop\t2\t3\tGoogle\t2026-03-10 13:01:00.000\t\
                        2026-03-10 12:00:00.000\tsocial\tLinkedIn\t['desktop','mobile']";
        assert_eq!(place.query(question), expected, "{state}");
    })
    .await;
}

/// A mail that is opened is no visit, also where its pixel carries a session: neither one of its own, nor part of another.
#[tokio::test]
async fn a_mail_that_is_opened_makes_no_visit() {
    let Some(stack) = local::database_or_skip("a_mail_that_is_opened_makes_no_visit") else { return };
    let mut of_company = in_session(hit(Kind::MailOpen, 5, "cleo", HOUR, ""), 0xc1);
    of_company.network.organisation = "Steel Works".into();
    let hits = vec![
        in_session(hit(Kind::MailOpen, 1, "anna", 0, ""), 0xa1),
        in_session(page_view(2, "anna", MINUTE, "/"), 0xa1),
        in_session(hit(Kind::MailOpen, 3, "anna", 2 * MINUTE, ""), 0xa1),
        hit(Kind::MailOpen, 4, "ben", 0, ""),
        of_company,
    ];
    in_every_state(stack, "mails", hits, |place, state| {
        let found = place.query("SELECT visitor_id, started_at, ended_at, page_views, events FROM {database}.sessions");
        assert_eq!(found, "anna\t2026-03-10 12:01:00.000\t2026-03-10 12:01:00.000\t1\t0", "{state}");
        let none = "SELECT DISTINCT kind, session_id_source FROM {database}.session_hits ORDER BY kind";
        assert_eq!(lines(&place.query(none)), ["mail_open\tnone", "page_view\tgiven"], "{state}");
        let visitors = place.query("SELECT visitor_id, sessions, mail_opens FROM {database}.visitors ORDER BY 1");
        assert_eq!(lines(&visitors), ["anna\t1\t2", "ben\t0\t1", "cleo\t0\t1"], "{state}");
        let company = place.query("SELECT company, visitors, sessions FROM {database}.companies");
        assert_eq!(company, "steel works\t1\t0", "{state}");
    })
    .await;
}

/// A tab that slept tells all of its page's time again, 90 s of which 60 are told already: all of it is the page's, in the
/// visit in which it was viewed. The visit that begins when it wakes is what happens in it, and none where nothing does.
#[tokio::test]
async fn the_time_of_a_tab_that_slept_counts_once() {
    let Some(stack) = local::database_or_skip("the_time_of_a_tab_that_slept_counts_once") else { return };
    let hits = vec![
        page_view(1, "ben", 0, "/"),
        visible(2, "ben", MINUTE, 1, 60_000),
        visible(3, "ben", 2 * HOUR, 1, 90_000),
        page_view(4, "ben", 2 * HOUR + MINUTE, "/b"),
        in_session(page_view(11, "anna", 0, "/"), 0xa1),
        in_session(visible(12, "anna", MINUTE, 11, 60_000), 0xa1),
        in_session(visible(13, "anna", 2 * HOUR, 11, 90_000), 0xa2),
        // Time of a page view that never came stays in the first visit that tells it.
        visible(21, "cleo", 0, 20, 10_000),
        visible(22, "cleo", HOUR, 20, 30_000),
    ];
    in_every_state(stack, "slept", hits, |place, state| {
        let columns = "visitor_id, started_at, ended_at, visible_duration_ms, viewed_pages, viewed_for_ms";
        let found =
            place.query(&format!("SELECT {columns} FROM {{database}}.sessions ORDER BY visitor_id, started_at"));
        let expected = [
            "anna\t2026-03-10 12:00:00.000\t2026-03-10 12:01:00.000\t90000\t['shop.example/']\t[90000]",
            "ben\t2026-03-10 12:00:00.000\t2026-03-10 12:01:00.000\t90000\t['shop.example/']\t[90000]",
            "ben\t2026-03-10 14:01:00.000\t2026-03-10 14:01:00.000\t0\t['shop.example/b']\t[0]",
            "cleo\t2026-03-10 12:00:00.000\t2026-03-10 12:00:00.000\t30000\t[]\t[]",
        ];
        assert_eq!(lines(&found), expected, "{state}");
        let total = "SELECT sum(total_visible_ms) FROM {database}.pages WHERE page_path = '/'";
        assert_eq!(place.query(total), "180000", "{state}");
        let hits = "SELECT uniqExact(site, visitor_id, session_id) FROM {database}.session_hits";
        assert_eq!(place.query(hits), "4", "{state}");
    })
    .await;
}

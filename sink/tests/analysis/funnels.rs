//! Funnels, retention and paths.

use schemas::{EnrichedHit, Kind, VisitorIdSource};
use uuid::Uuid;

use crate::arrival::{ARRIVALS, Arrival, DAY, HOUR, MINUTE, arrived, lines};
use crate::support::{hit, page_view, unnamed};

const SHOP_FUNNEL: &str = "site = 'shop', first_day = '2026-03-10', last_day = '2026-03-12', \
                           steps = ['/', 'page_view:/prices%', 'form'], window_seconds = 86400";

fn form(number: u128, visitor: &'static str, at: i64) -> EnrichedHit<'static> {
    hit(Kind::Form, number, visitor, at, "/contact")
}

/// Anna takes all three steps, with another page in between. Ben sees the prices first. Cleo's form comes 25 hours after
/// her first step. Dora's is within a day of the second time that she begins. Emil takes the last step alone.
fn visits() -> Vec<EnrichedHit<'static>> {
    let mut robot = page_view(60, "robot", 0, "/");
    robot.is_bot = true;
    let mut elsewhere = page_view(62, "fred", 0, "/");
    elsewhere.hit.site = "blog".into();
    vec![
        page_view(1, "anna", 0, "/"),
        page_view(2, "anna", MINUTE, "/pumps"),
        page_view(3, "anna", 2 * MINUTE, "/prices"),
        form(4, "anna", 3 * MINUTE),
        page_view(11, "ben", 0, "/prices"),
        page_view(12, "ben", MINUTE, "/"),
        form(13, "ben", 2 * MINUTE),
        page_view(21, "cleo", 0, "/"),
        page_view(22, "cleo", HOUR, "/prices"),
        form(23, "cleo", 25 * HOUR),
        page_view(31, "dora", 0, "/"),
        page_view(32, "dora", MINUTE, "/prices/steel"),
        page_view(33, "dora", 23 * HOUR, "/"),
        page_view(34, "dora", 23 * HOUR + MINUTE, "/prices/steel"),
        form(35, "dora", 30 * HOUR),
        form(41, "emil", 0),
        robot,
        unnamed(page_view(61, "", 0, "/")),
        elsewhere,
        // A day before, and a day after what is asked for.
        page_view(51, "gina", -DAY, "/"),
        page_view(52, "hugo", 3 * DAY, "/"),
    ]
}

#[tokio::test]
async fn a_funnel_counts_who_took_the_steps_in_order_and_in_time() {
    let name = "a_funnel_counts_who_took_the_steps_in_order_and_in_time";
    let Some(stack) = local::database_or_skip(name) else { return };
    for arrival in ARRIVALS {
        let place = arrived(stack, "funnel", arrival, visits()).await;
        let found =
            lines(&place, &format!("SELECT * FROM {{database}}.funnel({SHOP_FUNNEL}, strict = 0) ORDER BY step"));
        let expected = ["1\t/\t4\t1\t1", "2\tpage_view:/prices%\t3\t0.75\t0.75", "3\tform\t2\t0.5\t0.6666666666666666"];
        assert_eq!(found, expected, "{arrival:?}");
        let who = format!(
            "SELECT visitor_id, steps_taken FROM {{database}}.funnel_visitors({SHOP_FUNNEL}, strict = 0) ORDER BY 1"
        );
        assert_eq!(lines(&place, &who), ["anna\t3", "ben\t1", "cleo\t2", "dora\t3"], "{arrival:?}");
    }
}

#[tokio::test]
async fn a_strict_funnel_allows_no_other_step_in_between() {
    let Some(stack) = local::database_or_skip("a_strict_funnel_allows_no_other_step_in_between") else { return };
    let hits = vec![
        // The form comes between the two first steps; another page is none of the funnel's, a repeated step is no other.
        page_view(1, "anna", 0, "/"),
        form(2, "anna", MINUTE),
        page_view(3, "anna", 2 * MINUTE, "/prices"),
        form(4, "anna", 3 * MINUTE),
        page_view(11, "ben", 0, "/"),
        page_view(12, "ben", MINUTE, "/pumps"),
        page_view(13, "ben", 2 * MINUTE, "/prices"),
        page_view(14, "ben", 3 * MINUTE, "/prices/steel"),
        form(15, "ben", 4 * MINUTE),
    ];
    for arrival in ARRIVALS {
        let place = arrived(stack, "strict", arrival, hits.clone()).await;
        let steps = |strict: u8| {
            let funnel = format!("{SHOP_FUNNEL}, strict = {strict}");
            lines(
                &place,
                &format!("SELECT visitor_id, steps_taken FROM {{database}}.funnel_visitors({funnel}) ORDER BY 1"),
            )
        };
        assert_eq!(steps(0), ["anna\t3", "ben\t3"], "{arrival:?}");
        assert_eq!(steps(1), ["anna\t1", "ben\t3"], "{arrival:?}");
    }
}

/// One view of a page is one step, even where two steps ask for it and its row is there twice.
#[tokio::test]
async fn one_hit_takes_one_step() {
    let Some(stack) = local::database_or_skip("one_hit_takes_one_step") else { return };
    let hits = vec![page_view(1, "anna", 0, "/"), page_view(2, "ben", 0, "/"), page_view(3, "ben", 0, "/")];
    for arrival in [Arrival::Plain, Arrival::Repeated] {
        let place = arrived(stack, "steps", arrival, hits.clone()).await;
        let sql = "SELECT visitor_id, steps_taken FROM {database}.funnel_visitors(site = 'shop', \
                   first_day = '2026-03-10', last_day = '2026-03-10', steps = ['page_view', 'page_view:shop.example/', '/'], \
                   window_seconds = 60, strict = 0) ORDER BY 1";
        assert_eq!(lines(&place, sql), ["anna\t1", "ben\t2"], "{arrival:?}");
    }
}

/// A page of results is viewed and searched in the same moment, under ids that may be the other way round. Where a batch tells
/// no times, ids tell the order.
#[tokio::test]
async fn steps_of_one_moment_are_in_their_order() {
    let Some(stack) = local::database_or_skip("steps_of_one_moment_are_in_their_order") else { return };
    let under = |mut hit: EnrichedHit<'static>, time, random| {
        hit.hit.hit_id = Uuid::from_u64_pair(time, random);
        hit
    };
    let searched = |visitor| hit(Kind::Search, 0, visitor, 0, "/search");
    let hits = vec![
        under(page_view(0, "anna", 0, "/search"), 11, 20),
        under(searched("anna"), 12, 10),
        under(page_view(0, "ben", 0, "/search"), 22, 10),
        under(searched("ben"), 21, 20),
        under(form(0, "cleo", 0), 31, 40),
        under(page_view(0, "cleo", 0, "/thanks"), 32, 30),
        under(page_view(0, "cleo", 0, "/search"), 33, 20),
        under(searched("cleo"), 34, 10),
    ];
    for arrival in ARRIVALS {
        let place = arrived(stack, "moment", arrival, hits.clone()).await;
        let taken = |steps: &str| {
            let parameters =
                "site = 'shop', first_day = '2026-03-10', last_day = '2026-03-10', window_seconds = 60, strict = 0";
            let sql = "SELECT visitor_id, steps_taken FROM {database}.funnel_visitors";
            lines(&place, &format!("{sql}({parameters}, steps = {steps}) ORDER BY 1"))
        };
        assert_eq!(taken("['/search', 'search']"), ["anna\t2", "ben\t2", "cleo\t2"], "{arrival:?}");
        assert_eq!(taken("['search', '/search']"), ["anna\t1", "ben\t1", "cleo\t1"], "{arrival:?}");
        assert_eq!(taken("['form', '/thanks', '/search', 'search']"), ["cleo\t4"], "{arrival:?}");
    }
}

/// Each kind is matched by what it is about.
#[tokio::test]
async fn steps_are_about_names_targets_terms_and_pages() {
    let Some(stack) = local::database_or_skip("steps_are_about_names_targets_terms_and_pages") else { return };
    let mut event = hit(Kind::Event, 1, "anna", 0, "/");
    event.hit.event_name = "signup".into();
    let mut download = hit(Kind::Download, 2, "anna", MINUTE, "/pumps");
    download.hit.target_url = "https://shop.example/files/sheet.pdf".into();
    let mut search = hit(Kind::Search, 3, "anna", 2 * MINUTE, "/search");
    search.hit.search_term = "steel pump".into();
    let place =
        arrived(stack, "about", Arrival::Plain, vec![event, download, search, form(4, "anna", 3 * MINUTE)]).await;
    let taken = |steps: &str| {
        place.query(&format!(
            "SELECT max(steps_taken) FROM {{database}}.funnel_visitors(site = 'shop', first_day = '2026-03-10', \
             last_day = '2026-03-10', steps = {steps}, window_seconds = 600, strict = 1)"
        ))
    };
    assert_eq!(taken("['event:sign%', 'download:%.pdf', 'search:%pump', 'form:/contact']"), "4");
    assert_eq!(taken("['event', 'form:shop.example/contact']"), "2");
    assert_eq!(taken("['event:/', 'form']"), "0");
    assert_eq!(taken("['event:it''s', 'form']"), "0");
    place.query("INSERT INTO {database}.goals (site, goal, kind, pattern) VALUES ('shop', 'Sheet', 'download', '%.pdf'), ('shop', 'Contact', 'form', '/contact')");
    assert_eq!(taken("['event', 'goal:Sheet', 'goal:Contact']"), "3");
    assert_eq!(taken("['event', 'goal:Nothing']"), "1");
}

/// A goal is matched as conversions match it: its pattern is for the path, whatever it begins with, and never for the host.
#[tokio::test]
async fn a_goal_is_the_same_in_funnels_as_in_conversions() {
    let Some(stack) = local::database_or_skip("a_goal_is_the_same_in_funnels_as_in_conversions") else { return };
    let at_checkout = |number, visitor, path| {
        let mut hit = page_view(number, visitor, 0, path);
        hit.page.host = "checkout.shop.example".into();
        hit
    };
    let mut file = hit(Kind::Download, 4, "dora", 0, "/");
    file.hit.target_url = "https://shop.example/get?file=pumps.pdf".into();
    let hits = vec![
        at_checkout(1, "anna", "/"),
        at_checkout(2, "ben", "/checkout/paid"),
        page_view(3, "cleo", 0, "/checkout"),
        file,
        hit(Kind::Search, 5, "emil", 0, "/checkout"),
    ];
    let place = arrived(stack, "goals", Arrival::Plain, hits).await;
    for (pattern, kind, expected) in [
        ("%checkout%", "page_view", "ben cleo"),
        ("checkout.shop.example%", "page_view", ""),
        ("/checkout", "page_view", "cleo"),
        ("%", "page_view", "anna ben cleo"),
        ("%file=pumps%", "download", "dora"),
        ("", "search", "emil"),
    ] {
        let goal = "INSERT INTO {database}.goals (site, goal, kind, pattern, changed_at) VALUES ('shop', 'Paid', 'KIND', 'PATTERN', now64(3))";
        place.query(&goal.replace("KIND", kind).replace("PATTERN", pattern));
        let reached = "SELECT arrayStringConcat(arraySort(groupUniqArray(visitor_id)), ' ') FROM {database}.";
        let conversions = place.query(&format!("{reached}conversions"));
        let asked = "site = 'shop', first_day = '2026-03-10', last_day = '2026-03-10', steps = ['goal:Paid'], window_seconds = 600, strict = 0";
        let funnel = place.query(&format!("{reached}funnel_visitors({asked})"));
        assert_eq!((funnel.as_str(), conversions.as_str()), (expected, expected), "{kind} {pattern}");
    }
}

#[tokio::test]
async fn an_empty_funnel_has_all_steps() {
    let Some(stack) = local::database_or_skip("an_empty_funnel_has_all_steps") else { return };
    let place = arrived(stack, "empty", Arrival::Plain, vec![]).await;
    let found = lines(&place, &format!("SELECT * FROM {{database}}.funnel({SHOP_FUNNEL}, strict = 0) ORDER BY step"));
    assert_eq!(found, ["1\t/\t0\t0\t0", "2\tpage_view:/prices%\t0\t0\t0", "3\tform\t0\t0\t0"]);
}

/// 2026-03-10 is a Tuesday. Anna comes in the first and second week, Ben in the first, Dora in the second. Cleo's first visit
/// is before the first cohort; a heartbeat or an opened mail is no visit; who is anonymous can't come back.
#[tokio::test]
async fn retention_tells_who_comes_back() {
    let Some(stack) = local::database_or_skip("retention_tells_who_comes_back") else { return };
    let mut anonymous = page_view(41, "a hash of the day", 0, "/");
    anonymous.hit.visitor_id_source = VisitorIdSource::DailyHash;
    let hits = vec![
        page_view(1, "anna", 0, "/"),
        page_view(2, "anna", 7 * DAY, "/"),
        page_view(3, "anna", 8 * DAY, "/"),
        page_view(11, "ben", 5 * DAY, "/"),
        hit(Kind::Heartbeat, 12, "ben", 7 * DAY, "/"),
        hit(Kind::MailOpen, 13, "ben", 7 * DAY, ""),
        page_view(21, "cleo", -20 * DAY, "/"),
        page_view(22, "cleo", 0, "/"),
        page_view(31, "dora", 7 * DAY, "/"),
        anonymous,
    ];
    for arrival in ARRIVALS {
        let place = arrived(stack, "retention", arrival, hits.clone()).await;
        let by = |period: &str| {
            let asked =
                format!("site = 'shop', first_day = '2026-03-09', last_day = '2026-03-29', period = '{period}'");
            lines(&place, &format!("SELECT * FROM {{database}}.retention({asked}) ORDER BY cohort, period"))
        };
        let weeks = [
            "2026-03-09\t0\t2\t2\t1",
            "2026-03-09\t1\t1\t2\t0.5",
            "2026-03-09\t2\t0\t2\t0",
            "2026-03-16\t0\t1\t1\t1",
            "2026-03-16\t1\t0\t1\t0",
        ];
        assert_eq!(by("week"), weeks, "{arrival:?}");
        assert_eq!(by("month"), ["2026-03-01\t0\t3\t3\t1"], "{arrival:?}");
        let days = by("day");
        // Cohorts of the 10th, 15th and 17th, each to the 29th.
        assert_eq!(days.len(), 20 + 15 + 13, "{arrival:?}");
        assert!(days.contains(&"2026-03-10\t7\t1\t1\t1".to_owned()), "{arrival:?}: {days:?}");
        // Who came before the oldest hit that is kept is no newcomer.
        place.query("DELETE FROM {database}.hits WHERE occurred_at < '2026-03-01'");
        assert_eq!(by("week"), weeks, "{arrival:?}");
    }
}

/// Anna's visit goes on over midnight; Ben leaves his page open over the next one, and only heartbeats tell of that. Cleo's
/// page view was lost, and her form is a visit all the same.
#[tokio::test]
async fn visitors_came_on_each_day_on_which_they_did_something() {
    let name = "visitors_came_on_each_day_on_which_they_did_something";
    let Some(stack) = local::database_or_skip(name) else { return };
    let in_session = |session: u128, mut hit: EnrichedHit<'static>| {
        hit.hit.session_id = Some(Uuid::from_u128(session));
        hit
    };
    let mut awake = hit(Kind::Heartbeat, 12, "ben", 12 * HOUR + MINUTE, "/");
    awake.hit.page_view_id = Some(Uuid::from_u128(11));
    let hits = vec![
        in_session(1, page_view(1, "anna", 12 * HOUR - MINUTE, "/")),
        in_session(1, page_view(2, "anna", 12 * HOUR + MINUTE, "/prices")),
        in_session(2, page_view(11, "ben", 12 * HOUR - MINUTE, "/")),
        in_session(2, awake),
        in_session(3, hit(Kind::Heartbeat, 20, "cleo", 12 * HOUR + MINUTE, "/contact")),
        in_session(3, form(21, "cleo", 12 * HOUR + 2 * MINUTE)),
        // Of the last day that is asked for, and of the one after.
        in_session(4, page_view(31, "dora", 36 * HOUR - MINUTE, "/")),
        in_session(4, page_view(32, "dora", 36 * HOUR + MINUTE, "/")),
    ];
    for arrival in ARRIVALS {
        let place = arrived(stack, "midnight", arrival, hits.clone()).await;
        let asked = "site = 'shop', first_day = '2026-03-10', last_day = '2026-03-11', period = 'day'";
        let found = lines(
            &place,
            &format!("SELECT cohort, period, visitors FROM {{database}}.retention({asked}) ORDER BY ALL"),
        );
        assert_eq!(found, ["2026-03-10\t0\t2", "2026-03-10\t1\t1", "2026-03-11\t0\t2"], "{arrival:?}");
    }
}

/// Anna: /, /pumps, /prices in a session. Ben: /pumps alone. Cleo without session ids: /a, /pumps, /pumps.
#[tokio::test]
async fn paths_tell_what_came_before_and_after_a_page() {
    let Some(stack) = local::database_or_skip("paths_tell_what_came_before_and_after_a_page") else { return };
    let in_session = |session: u128, mut hit: EnrichedHit<'static>| {
        hit.hit.session_id = Some(Uuid::from_u128(session));
        hit
    };
    let hits = vec![
        in_session(1, page_view(1, "anna", 0, "/")),
        in_session(1, page_view(2, "anna", MINUTE, "/pumps")),
        in_session(1, hit(Kind::Heartbeat, 4, "anna", MINUTE + 1, "/pumps")),
        in_session(1, page_view(3, "anna", 2 * MINUTE, "/prices")),
        in_session(2, page_view(11, "ben", 0, "/pumps")),
        in_session(2, form(12, "ben", MINUTE)),
        page_view(21, "cleo", 0, "/a"),
        page_view(22, "cleo", MINUTE, "/pumps"),
        page_view(23, "cleo", 2 * MINUTE, "/pumps"),
        page_view(24, "cleo", 2 * HOUR, "/b"),
    ];
    for arrival in ARRIVALS {
        let place = arrived(stack, "paths", arrival, hits.clone()).await;
        let of = |page: &str| {
            let asked = format!("site = 'shop', first_day = '2026-03-10', last_day = '2026-03-10', page = '{page}'");
            lines(&place, &format!("SELECT * FROM {{database}}.paths({asked}) ORDER BY position DESC, page"))
        };
        let expected = [
            "before\t(entry)\t1\t0.25",
            "before\tshop.example/\t1\t0.25",
            "before\tshop.example/a\t1\t0.25",
            "before\tshop.example/pumps\t1\t0.25",
            "after\t(exit)\t2\t0.5",
            "after\tshop.example/prices\t1\t0.25",
            "after\tshop.example/pumps\t1\t0.25",
        ];
        assert_eq!(of("/pumps"), expected, "{arrival:?}");
        assert_eq!(of("shop.%/pumps"), expected, "{arrival:?}");
        assert!(of("/nowhere").is_empty(), "{arrival:?}");
    }
}

/// A visit over midnight is whole on the day on which it began, and in no other; one session id that two visitors send is
/// two visits.
#[tokio::test]
async fn paths_are_of_whole_visits_of_one_visitor() {
    let Some(stack) = local::database_or_skip("paths_are_of_whole_visits_of_one_visitor") else { return };
    let in_session = |mut hit: EnrichedHit<'static>| {
        hit.hit.session_id = Some(Uuid::from_u128(1));
        hit
    };
    let hits = vec![
        in_session(page_view(1, "anna", 12 * HOUR - MINUTE, "/a")),
        in_session(page_view(2, "anna", 12 * HOUR + MINUTE, "/pumps")),
        in_session(page_view(3, "anna", 12 * HOUR + 2 * MINUTE, "/b")),
        in_session(page_view(4, "ben", 12 * HOUR - 2 * MINUTE, "/pumps")),
    ];
    for arrival in ARRIVALS {
        let place = arrived(stack, "whole_paths", arrival, hits.clone()).await;
        let of = |day: &str| {
            let asked = format!("site = 'shop', first_day = '{day}', last_day = '{day}', page = '/pumps'");
            lines(
                &place,
                &format!("SELECT position, page FROM {{database}}.paths({asked}) ORDER BY position DESC, page"),
            )
        };
        let expected = ["before\t(entry)", "before\tshop.example/a", "after\t(exit)", "after\tshop.example/b"];
        assert_eq!(of("2026-03-10"), expected, "{arrival:?}");
        assert!(of("2026-03-11").is_empty(), "{arrival:?}");
    }
}

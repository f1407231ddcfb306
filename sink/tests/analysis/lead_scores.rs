//! Lead scores: what they are made of, their history, and thresholds.

use schemas::{EnrichedHit, Kind, Map};

use crate::arrival::{ARRIVALS, Arrival, DAY, arrived, lines, today};
use crate::support::{Place, hit, page_view};

const RULES: &str = "INSERT INTO {database}.score_rules \
    (site, rule, kind, event_name, url_pattern, property, property_value, points, half_life_days, cap) VALUES \
    ('shop', 'prices', 'page_view', '', '/prices%', '', '', 10, 10, 15), \
    ('shop', 'sheets', 'download', '', '%.pdf', '', '', 5, 0, 0), \
    ('shop', 'careers', 'page_view', '', '/careers', '', '', -3, 0, 6), \
    ('shop', 'gold', '', '', '', 'plan', 'gold%', 7, 0, 0), \
    ('shop', 'signup', 'event', 'sign%', '', '', '', 20, 5, 0), \
    ('blog', 'all', '', '', '', '', '', 1000, 0, 0)";
const THRESHOLDS: &str =
    "INSERT INTO {database}.score_thresholds (site, threshold, score) VALUES ('shop', 'warm', 12), ('shop', 'hot', 21)";

/// Anna: the prices twice ten days ago and once today, a data sheet three days ago, the careers page three times today, an
/// event about the gold plan five days ago. Ben: one sign-up ten days ago.
fn deeds(noon: i64) -> Vec<EnrichedHit<'static>> {
    let mut sheet = hit(Kind::Download, 3, "anna", noon - 3 * DAY, "/pumps");
    sheet.hit.target_url = "https://shop.example/sheet.pdf".into();
    let mut gold = hit(Kind::Event, 7, "anna", noon - 5 * DAY, "/");
    gold.hit.event_name = "compare".into();
    gold.hit.properties = Map(vec![("plan".into(), "gold-yearly".into())]);
    let mut signup = hit(Kind::Event, 11, "ben", noon - 10 * DAY, "/");
    signup.hit.event_name = "signup".into();
    signup.hit.properties = Map(vec![("plan".into(), "silver".into())]);
    let mut robot = page_view(60, "robot", noon, "/prices");
    robot.is_bot = true;
    vec![
        page_view(1, "anna", noon - 10 * DAY, "/prices"),
        page_view(2, "anna", noon - 10 * DAY, "/prices/steel"),
        sheet,
        page_view(4, "anna", noon, "/careers"),
        page_view(5, "anna", noon, "/careers"),
        page_view(6, "anna", noon, "/careers"),
        gold,
        page_view(8, "anna", noon, "/prices"),
        hit(Kind::Heartbeat, 9, "anna", noon, "/prices"),
        signup,
        robot,
    ]
}

async fn scored(stack: &'static local::TestStack, arrival: Arrival, noon: i64) -> Place {
    let place = arrived(stack, "scores", arrival, deeds(noon)).await;
    place.query(RULES);
    place.query(THRESHOLDS);
    place
}

/// Anna: prices 10 + 20/2 = 20, capped at 15; sheet 5; careers -9, capped at -6; gold 7: together 21.
/// Ben: 20, two half-lives ago.
#[tokio::test]
async fn a_score_is_what_the_rules_add_after_decay_and_cap() {
    let Some(stack) = local::database_or_skip("a_score_is_what_the_rules_add_after_decay_and_cap") else { return };
    for arrival in ARRIVALS {
        let (scores, parts) = loop {
            let noon = today(stack);
            let place = scored(stack, arrival, noon).await;
            let scores = lines(
                &place,
                "SELECT visitor_id, round(score, 6), arrayMap(part -> (part.1, round(part.2, 6)), parts), thresholds, \
                 dateDiff('day', last_day, today()) FROM {database}.lead_scores WHERE site = 'shop' ORDER BY 1",
            );
            let parts = lines(
                &place,
                "SELECT rule, hits, points, round(score, 6), dateDiff('day', first_day, last_day) \
                 FROM {database}.lead_score_parts WHERE site = 'shop' AND visitor_id = 'anna' ORDER BY rule",
            );
            if today(stack) == noon {
                break (scores, parts);
            }
        };
        let expected = [
            "anna\t21\t[('prices',15),('gold',7),('sheets',5),('careers',-6)]\t['hot','warm']\t0",
            "ben\t5\t[('signup',5)]\t[]\t10",
        ];
        assert_eq!(scores, expected, "{arrival:?}");
        assert_eq!(parts, ["careers\t3\t-9\t-6\t0", "gold\t1\t7\t7\t0", "prices\t3\t30\t15\t10", "sheets\t1\t5\t5\t0"]);
    }
}

/// The same deeds, ending on 2026-03-10. Anna: 15 on February 28th (20, capped), which falls to 20 / sqrt(2) = 14.142136 five
/// days later, when gold adds 7; at the end 21. Ben: 20 on that first day, 10 after five more, 5 after ten.
#[tokio::test]
async fn the_history_has_the_score_of_each_day() {
    let Some(stack) = local::database_or_skip("the_history_has_the_score_of_each_day") else { return };
    for arrival in ARRIVALS {
        let place = scored(stack, arrival, 0).await;
        let history = |condition: &str| {
            let asked = "site = 'shop', first_day = '2026-02-27', last_day = '2026-03-11'";
            lines(
                &place,
                &format!(
                    "SELECT visitor_id, day, round(score, 6) FROM {{database}}.lead_score_history({asked}) \
                     WHERE {condition} ORDER BY visitor_id, day"
                ),
            )
        };
        let anna = history("visitor_id = 'anna' AND day IN ('2026-02-27', '2026-02-28', '2026-03-05', '2026-03-10')");
        assert_eq!(
            anna,
            ["anna\t2026-02-28\t15", "anna\t2026-03-05\t21.142136", "anna\t2026-03-10\t21"],
            "{arrival:?}"
        );
        let ben = history("visitor_id = 'ben' AND day IN ('2026-02-28', '2026-03-05', '2026-03-10')");
        assert_eq!(ben, ["ben\t2026-02-28\t20", "ben\t2026-03-05\t10", "ben\t2026-03-10\t5"], "{arrival:?}");
        // Ten days and the first and the next, for each.
        assert_eq!(history("1").len(), 24, "{arrival:?}");
        let now = "SELECT visitor_id, day FROM {database}.lead_score_history(site = 'shop', first_day = '2026-03-11', last_day = '2026-03-10')";
        assert!(lines(&place, now).is_empty(), "{arrival:?}");
    }
}

/// Anna, by day from February 28th: 15 and falling by 2^(-1/10) each day from 20 (so at 15, capped, for four days more:
/// 20 x 2^-0.4 = 15.157), 14.142136 + 7 = 21.142136 on March 5th, then 13.195 + 7 = 20.195, ... , sheet on the 7th:
/// 12.311 + 7 + 5 = 24.311, then 23.487 and 22.718, and 21 on the 10th, where the prices are capped again.
/// Ben: 20 on the first day, then 17.41, 15.16, 13.20, 11.49.
#[tokio::test]
async fn crossings_are_the_days_on_which_a_threshold_was_passed() {
    let Some(stack) = local::database_or_skip("crossings_are_the_days_on_which_a_threshold_was_passed") else { return };
    for arrival in ARRIVALS {
        let place = scored(stack, arrival, 0).await;
        let crossings = |first: &str| {
            let asked = format!("site = 'shop', first_day = '{first}', last_day = '2026-03-12'");
            let columns = "visitor_id, day, threshold, direction, round(score_before, 3), round(score, 3)";
            lines(
                &place,
                &format!(
                    "SELECT {columns} FROM {{database}}.lead_score_crossings({asked}) ORDER BY visitor_id, day, threshold"
                ),
            )
        };
        let expected = [
            "anna\t2026-02-28\twarm\tup\t0\t15",
            "anna\t2026-03-05\thot\tup\t15\t21.142",
            "anna\t2026-03-06\thot\tdown\t21.142\t20.195",
            "anna\t2026-03-07\thot\tup\t20.195\t24.311",
            "ben\t2026-02-28\twarm\tup\t0\t20",
            "ben\t2026-03-04\twarm\tdown\t13.195\t11.487",
        ];
        let found = crossings("2026-02-01");
        assert_eq!(found, expected, "{arrival:?}");
        // What was reached before the period is no crossing in it.
        assert_eq!(crossings("2026-03-04"), [&expected[1..4], &expected[5..]].concat(), "{arrival:?}");
    }
}

#[tokio::test]
async fn a_rule_that_makes_no_sense_is_refused() {
    let Some(stack) = local::database_or_skip("a_rule_that_makes_no_sense_is_refused") else { return };
    let place = Place::migrated(stack, "rules").await;
    for values in [
        "('', 'a', '', 1, 0)",
        "('shop', '', '', 1, 0)",
        "('shop', 'a', 'pageview', 1, 0)",
        "('shop', 'a', '', nan, 0)",
        "('shop', 'a', '', 1, -1)",
    ] {
        let sql = format!(
            "INSERT INTO {}.score_rules (site, rule, kind, points, half_life_days) VALUES {values}",
            place.database
        );
        assert!(stack.query(&sql).is_err(), "{values}");
    }
}

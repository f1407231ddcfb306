//! Content groups and interests.

use schemas::EnrichedHit;

use crate::arrival::{ARRIVALS, Arrival, DAY, arrived, lines, today};
use crate::support::{Place, page_view};

const GROUPS: &str = "INSERT INTO {database}.content_groups (site, content_group, url_patterns, weight, half_life_days) VALUES \
                      ('shop', 'Pumps', ['/pumps%', '/pump-finder'], 1, 10), ('shop', 'All', ['shop.example/%'], 2, 0), \
                      ('blog', 'Pumps', ['/%'], 100, 0)";

fn visits(noon: i64) -> Vec<EnrichedHit<'static>> {
    let mut robot = page_view(60, "robot", noon, "/pumps");
    robot.is_bot = true;
    vec![
        page_view(1, "anna", noon, "/pumps"),
        page_view(2, "anna", noon - 10 * DAY, "/pumps/steel"),
        page_view(3, "anna", noon - 10 * DAY, "/pump-finder"),
        page_view(4, "anna", noon - 20 * DAY, "/prices"),
        page_view(11, "ben", noon - 20 * DAY, "/pumps"),
        robot,
    ]
}

/// Anna and the pumps: 1 today and 2 one half-life ago are 1 + 2/2. All pages count 2, for ever: 4 x 2 for her.
/// Ben and the pumps: 1 two half-lives ago is 1/4, and 2 in the other group.
#[tokio::test]
async fn interests_decay_by_half_lives() {
    let Some(stack) = local::database_or_skip("interests_decay_by_half_lives") else { return };
    for arrival in ARRIVALS {
        // Not when the day changes in between.
        let found = loop {
            let noon = today(stack);
            let place = arrived(stack, "interests", arrival, visits(noon)).await;
            place.query(GROUPS);
            let columns = "visitor_id, content_group, round(score, 6), round(share, 6), page_views, \
                           dateDiff('day', first_day, today()), dateDiff('day', last_day, today())";
            let found = lines(
                &place,
                &format!("SELECT {columns} FROM {{database}}.interests WHERE site = 'shop' ORDER BY 1, 2"),
            );
            if today(stack) == noon {
                break found;
            }
        };
        let expected = [
            "anna\tAll\t8\t0.8\t4\t20\t0",
            "anna\tPumps\t2\t0.2\t3\t10\t0",
            "ben\tAll\t2\t0.888889\t1\t20\t20",
            "ben\tPumps\t0.25\t0.111111\t1\t20\t20",
        ];
        assert_eq!(found, expected, "{arrival:?}");
    }
}

/// The newest row of a group counts, for hits from before it too.
#[tokio::test]
async fn a_group_is_changed_and_taken_away_by_inserting_it_again() {
    let name = "a_group_is_changed_and_taken_away_by_inserting_it_again";
    let Some(stack) = local::database_or_skip(name) else { return };
    let place = arrived(stack, "groups", Arrival::Plain, visits(0)).await;
    place.query(GROUPS);
    let pages = |place: &Place| {
        place.query("SELECT arraySort(groupArray(page_path)) FROM {database}.content_group_pages WHERE content_group = 'Pumps' AND site = 'shop'")
    };
    assert_eq!(pages(&place), "['/pump-finder','/pumps','/pumps/steel']");
    place.query("INSERT INTO {database}.content_groups (site, content_group, url_patterns, changed_at) VALUES ('shop', 'Pumps', ['/prices'], now64(3) + 1)");
    assert_eq!(pages(&place), "['/prices']");
    place.query("INSERT INTO {database}.content_groups (site, content_group, is_active, changed_at) VALUES ('shop', 'Pumps', false, now64(3) + 2)");
    assert_eq!(pages(&place), "[]");
    let groups = "SELECT DISTINCT content_group FROM {database}.interests WHERE site = 'shop'";
    assert_eq!(place.query(groups), "All");
}

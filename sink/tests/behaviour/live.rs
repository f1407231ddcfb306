//! Who is here now.

use crate::states::{MINUTE, form};
use crate::support::{NOON, Place, page_view};

#[tokio::test]
async fn companies_are_seen_on_the_page_that_they_are_on() {
    let Some(stack) = local::stack_or_skip("companies_are_seen_on_the_page_that_they_are_on") else { return };
    let place = Place::migrated(stack, "live_companies").await;
    let now: i64 = place.query("SELECT toUnixTimestamp64Milli(now64(3))").parse().unwrap();
    let ago = |milliseconds: i64| now - NOON - milliseconds;
    let mut hits = vec![
        form(1, "anna", ago(60 * MINUTE), ["", "Anna@Steel.Example", ""]),
        page_view(2, "anna", ago(2 * MINUTE), "/"),
        page_view(3, "anna", ago(MINUTE), "/prices"),
        page_view(4, "ben", ago(MINUTE), "/prices"),
        page_view(5, "gone", ago(6 * MINUTE), "/prices"),
    ];
    hits.iter_mut().for_each(|hit| hit.network.organisation = "Steel Works".into());
    place.insert(&hits).await;
    let began = std::time::Instant::now();
    let found = place
        .query("SELECT company, current_page, visitors, contacts FROM {database}.live_companies WHERE site = 'shop'");
    assert_eq!(found, "Steel Works\tshop.example/prices\t2\t['anna@steel.example']");
    // A hit is seen at once: nothing has to be refreshed before.
    assert!(began.elapsed() < crate::support::PATIENCE);
}

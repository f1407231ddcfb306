//! What the sink tells of views that ClickHouse refreshes.

use std::sync::Arc;

use prometheus::{Registry, TextEncoder};
use sink::fault::exception_code;
use sink::metrics::Metrics;
use sink::refreshes::{Refreshed, ask, watch};
use tokio::runtime::Handle;

use crate::support::{Place, until};

fn told(place: &Place, view: &str) -> Refreshed {
    let clickhouse = place.clickhouse();
    let views = tokio::task::block_in_place(|| Handle::current().block_on(ask(&clickhouse))).unwrap();
    views.into_iter().find(|told| told.view == view).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_cant_be_refreshed_grows_old() {
    let Some(stack) = local::database_or_skip("a_view_that_cant_be_refreshed_grows_old") else { return };
    let place = Place::migrated(stack, "refreshes").await;
    for (view, value) in [("works", "number"), ("fails", "throwIf(number = 0)")] {
        place.query(&format!(
            "CREATE MATERIALIZED VIEW {{database}}.{view} REFRESH EVERY 1 SECOND APPEND ENGINE = Memory \
             AS SELECT {value} AS value FROM numbers(1)"
        ));
    }
    until("one grows old, the other does not", || told(&place, "fails").age > told(&place, "works").age + 3).await;
    assert_eq!(exception_code(&told(&place, "fails").exception), Some(395));
    assert_eq!(told(&place, "works").exception, "");

    place.query("SYSTEM STOP VIEW {database}.works");
    until("so does one that is stopped", || told(&place, "works").age > 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ages_of_what_is_settled_are_shown() {
    let Some(stack) = local::database_or_skip("ages_of_what_is_settled_are_shown") else { return };
    let place = Place::migrated(stack, "ages").await;
    let registry = Registry::new();
    let metrics = Arc::new(Metrics::new(&registry).unwrap());
    let watching = tokio::spawn(watch(place.clickhouse(), metrics));
    for view in ["settle_sessions", "settle_employers", "settle_merges"] {
        let line = format!("sink_refresh_age_seconds{{view=\"{view}\"}}");
        until(view, || TextEncoder::new().encode_to_string(&registry.gather()).unwrap().contains(&line)).await;
    }
    watching.abort();
}

//! How long ago each view that ClickHouse refreshes by itself was refreshed. Of one that fails, is stopped or hangs, nobody else
//! tells.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clickhouse::Row;
use serde::Deserialize;

use crate::clickhouse::ClickHouse;
use crate::fault::{Fault, exception_code};
use crate::metrics::Metrics;

/// How often ClickHouse is asked: views are refreshed each minute.
const LOOK: Duration = Duration::from_secs(20);

/// What ClickHouse tells of a view's refreshing.
#[derive(Debug, Clone, Row, Deserialize)]
pub struct Refreshed {
    /// The view.
    pub view: String,
    /// Seconds since the last refresh that came to its end began; where none did, since ClickHouse was started or the view made.
    pub age: i64,
    /// What the last attempt failed by, or `cancelled`; empty where it did not.
    pub exception: String,
}

/// All views of the database that are refreshed.
///
/// # Errors
/// The class of the failure.
pub async fn ask(clickhouse: &ClickHouse) -> Result<Vec<Refreshed>, Fault> {
    let database = clickhouse.database();
    let query = format!(
        "SELECT view, toInt64(dateDiff('second', \
            ifNull(last_success_time, greatest(now() - toIntervalSecond(uptime()), made_at)), now())) AS age, exception \
         FROM system.view_refreshes AS r \
         INNER JOIN (SELECT name, metadata_modification_time AS made_at FROM system.tables WHERE database = '{database}') AS t \
         ON t.name = r.view WHERE r.database = '{database}'"
    );
    clickhouse.rows(&query).await
}

/// Keeps the metric right, for as long as it is polled.
pub async fn watch(clickhouse: ClickHouse, metrics: Arc<Metrics>) {
    let mut failing = HashMap::new();
    loop {
        let answer = ask(&clickhouse).await;
        metrics.forget_refresh_ages();
        match answer {
            Ok(views) => {
                views.iter().for_each(|view| metrics.set_refresh_age(&view.view, view.age));
                failing = failures(views, &failing);
            }
            Err(fault @ Fault::Halt(..)) => {
                tracing::warn!(said = fault.message(), "sink_refresh_age_seconds is not shown");
                return;
            }
            // Readiness tells of it.
            Err(_) => {}
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The views whose last attempt failed, with ClickHouse's code; one that was stopped has none. Those that were not among them
/// before are told of, without what ClickHouse says: a value may be in it.
fn failures(views: Vec<Refreshed>, before: &HashMap<String, u32>) -> HashMap<String, u32> {
    let failed = views.into_iter().filter_map(|told| Some((told.view, exception_code(&told.exception)?)));
    let failed: HashMap<_, _> = failed.collect();
    for (view, code) in failed.iter().filter(|(view, _)| !before.contains_key(*view)) {
        tracing::warn!(view, code, "a view could not be refreshed; system.view_refreshes of ClickHouse says why");
    }
    failed
}

//! Settles all sessions, merges and employers that there are, by refreshing what ClickHouse refreshes by itself each minute.

use std::time::{Duration, Instant};

use clickhouse::Row;
use serde::Deserialize;

use super::ViewsError;
use crate::clickhouse::ClickHouse;

/// How often is asked whether a refresh has ended.
const LOOK: Duration = Duration::from_millis(100);

/// How long is tried to start what was stopped, and how often.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(1);

/// What settles sessions.
pub(crate) const SESSIONS: &str = "settle_sessions";
/// That, and what finds out that it did, in this order.
const JOBS: [&str; 2] = [SESSIONS, "confirm_settlements"];
/// What finds where merges of contacts lead.
pub(crate) const MERGES: &str = "settle_merges";
/// What finds what people tell of their company, by what merges lead to.
pub(crate) const EMPLOYERS: &str = "settle_employers";

#[derive(Row, Deserialize)]
struct Waiting {
    hits: u64,
}

#[derive(Row, Deserialize)]
struct Refresh {
    status: String,
    exception: String,
}

/// Settles all that was inserted before; of more than half a million hits since the mark, what was inserted two minutes before
/// or earlier.
///
/// # Errors
/// Where ClickHouse can't be used, or can't settle.
pub async fn settle(clickhouse: &ClickHouse, tell: impl Fn(&str)) -> Result<(), ViewsError> {
    // A rebuilding that was stopped half-way has left them standing, or somebody has.
    for job in [MERGES, EMPLOYERS].into_iter().chain(JOBS) {
        system(clickhouse, "START", job).await?;
    }
    refresh(clickhouse, MERGES).await?;
    let asking = ask_for_all_employers(clickhouse.database());
    clickhouse.execute(&asking).await.map_err(ViewsError::during("settling"))?;
    refresh(clickhouse, EMPLOYERS).await?;
    let mut before = None;
    loop {
        for job in JOBS {
            refresh(clickhouse, job).await?;
        }
        let waiting = waiting(clickhouse).await?;
        tell(&format!("{waiting} hits are not settled\n"));
        if waiting == 0 {
            return Ok(());
        }
        // Hits come while it works, but less than it settles; where it moves on by nothing, it can't.
        if before == Some(waiting) {
            return Err(ViewsError::Unsettled(format!("{waiting} hits are left and remain")));
        }
        before = Some(waiting);
    }
}

/// Has what everybody tells of their company settled next, not only what those tell of whom something came.
pub(crate) fn ask_for_all_employers(database: &str) -> String {
    format!("INSERT INTO {database}.settled_employers (site, contact, settled_at) VALUES ('', 'asked', now64(3))")
}

/// Stops what settles sessions, also where it is at work.
pub(super) async fn stop(clickhouse: &ClickHouse) -> Result<(), ViewsError> {
    for job in JOBS {
        system(clickhouse, "STOP", job).await?;
    }
    for job in JOBS {
        wait(clickhouse, job).await?;
    }
    Ok(())
}

/// Starts it again, and tries so for some seconds: for as long as it is stopped, sessions stand still for everybody.
pub(super) async fn start(clickhouse: &ClickHouse) -> Result<(), ViewsError> {
    let end = Instant::now() + PATIENCE;
    for job in JOBS {
        while let Err(error) = system(clickhouse, "START", job).await {
            if Instant::now() > end {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

async fn system(clickhouse: &ClickHouse, word: &str, job: &str) -> Result<(), ViewsError> {
    let statement = format!("SYSTEM {word} VIEW {}.{job}", clickhouse.database());
    clickhouse.execute(&statement).await.map_err(ViewsError::during("settling"))
}

async fn refresh(clickhouse: &ClickHouse, job: &str) -> Result<(), ViewsError> {
    // One that is at work may have begun before what is to be settled was there, and its end would pass for that of ours.
    wait(clickhouse, job).await?;
    system(clickhouse, "REFRESH", job).await?;
    let exception = wait(clickhouse, job).await?;
    if exception.is_empty() { Ok(()) } else { Err(ViewsError::Unsettled(exception)) }
}

/// Waits until a job is not at work, and gives what went wrong in it the last time.
pub(crate) async fn wait(clickhouse: &ClickHouse, job: &str) -> Result<String, ViewsError> {
    let query = format!(
        "SELECT toString(status) AS status, exception FROM system.view_refreshes \
         WHERE database = '{}' AND view = '{job}'",
        clickhouse.database()
    );
    loop {
        let found: Vec<Refresh> = clickhouse.rows(&query).await.map_err(ViewsError::during("settling"))?;
        match found.into_iter().next() {
            Some(refresh) if matches!(refresh.status.as_str(), "Running" | "Scheduling") => {}
            Some(refresh) => return Ok(refresh.exception),
            None => return Err(ViewsError::Unsettled(format!("there is no view {job}; run `sink migrate`"))),
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn waiting(clickhouse: &ClickHouse) -> Result<u64, ViewsError> {
    let database = clickhouse.database();
    let query = format!(
        "SELECT count() AS hits FROM {database}.hits WHERE inserted_at <= now64(3, 'UTC') - INTERVAL 3 MINUTE \
         AND inserted_at > (SELECT argMax(until, confirmed_at) FROM {database}.settlements)"
    );
    let rows: Vec<Waiting> = clickhouse.rows(&query).await.map_err(ViewsError::during("settling"))?;
    Ok(rows.first().map_or(0, |row| row.hits))
}

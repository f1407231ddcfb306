//! Who fits now, and who came in and went out since the last time.
//!
//! The question is asked under limits and with `readonly = 1`, under which ClickHouse writes nothing and lets no query change
//! a setting. Only what differs from the state that `audience_changes` tells comes back, and is inserted there, unless
//! somebody has said something else of the audience meanwhile than what is known here.

use clickhouse::Row;
use serde::Deserialize;

use super::AudienceError;
use super::catalogue::Definition;
use super::condition::{Condition, quote};
use crate::clickhouse::ClickHouse;
use crate::error::ExitCode;
use crate::fault::Fault;

/// Most memory that one condition may take, bytes.
const MEMORY: &str = "2000000000";
/// Longest that one condition may take, seconds.
const SECONDS: &str = "60";
/// Changes in one insert.
const AT_ONCE: usize = 20_000;

/// What a condition is evaluated under. Days are UTC, as those of visits are, wherever the server stands.
pub const SETTINGS: [(&str, &str); 4] =
    [("max_memory_usage", MEMORY), ("max_execution_time", SECONDS), ("session_timezone", "UTC"), ("readonly", "1")];

/// What a refresh of one audience found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Members who came in.
    pub entered: usize,
    /// Members who went out.
    pub left: usize,
}

#[derive(Debug, Row, Deserialize)]
struct Count {
    count: u64,
}

#[derive(Debug, Row, Deserialize)]
struct Change {
    member: String,
    is_member: bool,
}

/// Who fits, as SQL.
fn fitting(database: &str, definition: &Definition, condition: &Condition) -> Result<String, AudienceError> {
    let members = definition.members_are()?;
    let (view, key, site) = (members.view(), members.key(), quote(&definition.site));
    let permitting = members.permitting(database, &site, definition.purpose()?);
    let (always, condition) = (members.always(database, &site), &condition.sql);
    Ok(format!(
        "SELECT DISTINCT `{key}` AS member FROM {database}.{view} \
         WHERE `site` = {site} AND {always} AND {permitting} AND {condition}"
    ))
}

/// Who is in by what was found before, as SQL.
fn inside(database: &str, definition: &Definition) -> String {
    let (site, audience) = (quote(&definition.site), quote(&definition.audience));
    format!(
        "SELECT member FROM {database}.audience_changes WHERE site = {site} AND audience = {audience} \
         GROUP BY member HAVING argMax(is_member, changed_at)"
    )
}

/// How many fit now. Nothing is written.
///
/// # Errors
/// Where ClickHouse does not take the condition, as one of wrong types, or can't be used.
pub async fn count(
    clickhouse: &ClickHouse,
    definition: &Definition,
    condition: &Condition,
) -> Result<u64, AudienceError> {
    let fitting = fitting(clickhouse.database(), definition, condition)?;
    let query = format!("SELECT count() AS count FROM ({fitting})");
    let counted: Vec<Count> =
        clickhouse.rows_with(&query, &SETTINGS).await.map_err(|fault| untaken(definition, fault))?;
    Ok(counted.first().map_or(0, |row| row.count))
}

/// Finds out who came in and who went out, and writes it down.
///
/// # Errors
/// As [`count`].
pub async fn refresh(
    clickhouse: &ClickHouse,
    definition: &Definition,
    condition: &Condition,
) -> Result<Refreshed, AudienceError> {
    let fitting = fitting(clickhouse.database(), definition, condition)?;
    change(clickhouse, definition, &fitting).await
}

/// Lets all members of one that was dropped leave.
///
/// # Errors
/// Where ClickHouse can't be used.
pub async fn clear(clickhouse: &ClickHouse, definition: &Definition) -> Result<Refreshed, AudienceError> {
    change(clickhouse, definition, "SELECT '' AS member WHERE false").await
}

async fn change(clickhouse: &ClickHouse, definition: &Definition, wanted: &str) -> Result<Refreshed, AudienceError> {
    let inside = inside(clickhouse.database(), definition);
    let query = format!(
        "SELECT member, toBool(max(is_wanted)) AS is_member FROM \
         (SELECT member, 1 AS is_wanted, 0 AS is_inside FROM ({wanted}) \
         UNION ALL SELECT member, 0 AS is_wanted, 1 AS is_inside FROM ({inside})) \
         GROUP BY member HAVING max(is_wanted) != max(is_inside)"
    );
    let changes: Vec<Change> =
        clickhouse.rows_with(&query, &SETTINGS).await.map_err(|fault| untaken(definition, fault))?;
    // The question may have taken a minute.
    if !definition.is_newest(clickhouse).await? {
        return Ok(Refreshed::default());
    }
    for some in changes.chunks(AT_ONCE) {
        write(clickhouse, definition, some).await?;
    }
    let entered = changes.iter().filter(|change| change.is_member).count();
    Ok(Refreshed { entered, left: changes.len() - entered })
}

/// One block: what was written stays where a later one fails, and the next refresh finds the rest.
async fn write(clickhouse: &ClickHouse, definition: &Definition, changes: &[Change]) -> Result<(), Fault> {
    let (site, audience) = (quote(&definition.site), quote(&definition.audience));
    let row =
        |change: &Change| format!("({site}, {audience}, {}, now64(3), {})", quote(&change.member), change.is_member);
    let rows = changes.iter().map(row).collect::<Vec<_>>().join(", ");
    let statement = format!(
        "INSERT INTO {}.audience_changes (site, audience, member, changed_at, is_member) SETTINGS async_insert = 0 VALUES {rows}",
        clickhouse.database()
    );
    clickhouse.execute(&statement).await
}

/// What does not fit the tables is the condition's fault, as the rest of the query is written here.
fn untaken(definition: &Definition, fault: Fault) -> AudienceError {
    match fault {
        Fault::Halt(ExitCode::Unfit, message) | Fault::RejectRow(_, message) => {
            AudienceError::Untaken(definition.audience.clone(), message)
        }
        fault => AudienceError::ClickHouse(fault),
    }
}

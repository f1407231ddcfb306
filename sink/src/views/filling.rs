//! Writes rows into a table that is made anew, never while somebody is being erased.
//!
//! Whoever is erased meanwhile stays erased, although the new table is filled from hits and from the old table for a long time.
//! A pass of [erasing](crate::privacy::erase) writes its names into the table `erasing` before it deletes anything, and empties
//! that when it is over. Each statement here asks, as ClickHouse begins to run it, whether that table is empty, and fails where
//! it is not, to be given again later. So for each statement and each pass one of two holds:
//! * It asked before the names were there. Then it was among the processes of ClickHouse before they were, and the pass waits
//!   until it is not (`wait_for_fillings`) before it deletes.
//! * It began when the pass was over, and reads from tables that hold nothing of these people any more.
//!
//! So nothing is copied from table to table while a pass works, and it has but to delete from all of them: also from the one
//! that is made anew, wherever there is one, in which sessions are told anew as well. Making, exchanging and dropping tables is
//! held up by nothing. Where one of that comes in between, a name is that of another table than before, as the tables' UUIDs
//! tell: then the pass does the step again with the tables that there are now. A table that it found missing is made later, and
//! empty; nothing fills it before the pass is over. A pass that was killed leaves its names: what is filled waits for the sink
//! that goes on with it. Inserted hits, which fill both tables as well, are judged one by one before they are inserted.

use std::time::{Duration, Instant};

use clickhouse::Row;
use serde::Deserialize;

use super::turn::{Turn, names};
use crate::clickhouse::ClickHouse;
use crate::fault::Fault;

/// Stands in the condition of each statement for that nobody is being erased.
pub(super) const NOBODY_ERASED: &str = "{nobody_erased}";
/// Rows may be of many weeks, and what does not fit into memory goes to the disk. In joins, what is on the right is held: with
/// the question in the condition ClickHouse knows of no side how large it is, and a share of sessions took six times as long
/// where it took the hits for the smaller one.
const SETTINGS: [(&str, &str); 4] = [
    ("max_partitions_per_insert_block", "0"),
    ("max_bytes_before_external_sort", "1000000000"),
    ("max_bytes_before_external_group_by", "1000000000"),
    ("query_plan_join_swap_table", "false"),
];
/// FUNCTION_THROW_IF_VALUE_IS_NON_ZERO: what ClickHouse says where somebody is.
const REFUSED: u32 = 395;
/// How long an erasure is waited for: a pass over large tables takes minutes, and one that was killed until a sink goes on.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How long after a statement was refused it is given again.
const PAUSE: Duration = Duration::from_secs(1);
/// How often is asked whether inserts have ended.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Row, Deserialize)]
struct Count {
    count: u64,
}

/// Runs a statement that writes rows and has [`NOBODY_ERASED`] in its condition, once nobody is being erased.
///
/// # Errors
/// The class of the failure; also where somebody is being erased for longer than anybody waits.
pub(super) async fn fill(
    clickhouse: &ClickHouse,
    turn: &Turn,
    statement: &str,
    tell: impl Fn(&str),
) -> Result<(), Fault> {
    let question = format!(
        "(SELECT throwIf(count() > 0, 'people are being erased, as table erasing says, until a sink with --privacy-keys is done') \
         FROM {}.erasing) = 0",
        clickhouse.database()
    );
    let (statement, end) = (statement.replace(NOBODY_ERASED, &question), Instant::now() + PATIENCE);
    let mut is_told = false;
    loop {
        let name = turn.name();
        let settings: Vec<_> = SETTINGS.into_iter().chain([("query_id", name.as_str())]).collect();
        match clickhouse.execute_with(&statement, &settings).await {
            Err(Fault::RejectRow(REFUSED, _)) if Instant::now() < end => {}
            answer => return answer,
        }
        if !std::mem::replace(&mut is_told, true) {
            tell("people are being erased, waiting for the end of that\n");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for the end of statements that fill a table which is made anew, and began before.
///
/// # Errors
/// The class of the failure.
pub(crate) async fn wait_for_fillings(clickhouse: &ClickHouse, since: Instant) -> Result<(), Fault> {
    let which = format!("startsWith(query_id, '{}')", names(clickhouse.database()));
    wait_for_inserts(clickhouse, &which, since).await
}

/// Waits for the end of those inserts that began before.
///
/// # Errors
/// The class of the failure.
pub(super) async fn wait_for_inserts(clickhouse: &ClickHouse, which: &str, since: Instant) -> Result<(), Fault> {
    loop {
        let query = format!(
            "SELECT count() AS count FROM system.processes WHERE query_kind IN ('Insert', 'AsyncInsertFlush') AND {which} AND elapsed > {}",
            since.elapsed().as_secs_f64()
        );
        let rows: Vec<Count> = clickhouse.rows(&query).await?;
        if rows.first().is_none_or(|row| row.count == 0) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

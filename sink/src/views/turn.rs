//! One command at a time makes a table anew.
//!
//! For as long as it works, a command has statements in ClickHouse that are named after the table: those that it gives, and
//! between them one that does nothing, each begun before the last has ended. It first shows itself so, and then looks for
//! others; of two that begin at once, one or both see the other, and end. Nothing is left by one that was killed but what
//! ClickHouse still runs of it, and that may still write: so for the end of that is waited, or it is told.
//!
//! One that stood still, as a suspended machine does, may be taken for killed. So it looks whether the tables and the view that
//! fills them are those that it knows before it exchanges them, and before it drops anything.

use std::time::{Duration, Instant};

use clickhouse::Row;
use serde::Deserialize;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::ViewsError;
use crate::clickhouse::ClickHouse;
use crate::fault::Fault;

const LOOKING: &str = "looking for others that do the same";
/// What shows that a command is at work; it takes a second.
const SHOWS: &str = "SELECT sleep(1) FORMAT Null";
/// How long after one of these the next one is begun.
const BEAT: Duration = Duration::from_millis(500);
/// How often is looked for others.
const LOOK: Duration = Duration::from_millis(100);
/// For how long no other may be seen.
const QUIET: Duration = Duration::from_millis(500);
/// How long is waited for what is left of one that was killed.
const PATIENCE: Duration = Duration::from_secs(3);

/// How the names of all statements begin that make tables of a database anew.
#[must_use]
pub(crate) fn names(database: &str) -> String {
    format!("rebuild-{database}-")
}

/// A command's turn, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    /// How the names of its statements begin.
    names: String,
    shows: JoinHandle<()>,
}

/// Statements that make a table anew.
#[derive(Default, Row, Deserialize)]
struct Seen {
    own: u64,
    others: u64,
}

impl Seen {
    /// Others see this command, and there are none.
    fn is_alone(&self) -> bool {
        self.own > 0 && self.others == 0
    }
}

impl Turn {
    /// Waits until no other command makes this table anew.
    ///
    /// # Errors
    /// Where one does for longer than what is left of a killed one may take, or ClickHouse can't be used.
    pub(super) async fn begin(clickhouse: &ClickHouse, table: &str) -> Result<Self, ViewsError> {
        let of_table = format!("{}{table}-", names(clickhouse.database()));
        let names = format!("{of_table}{}-", Uuid::now_v7().simple());
        let turn = Self { shows: tokio::spawn(show(clickhouse.clone(), names.clone())), names };
        let (mut quiet_since, end) = (None, Instant::now() + PATIENCE);
        loop {
            let seen = turn.look(clickhouse, &of_table).await?;
            if seen.is_alone() {
                if quiet_since.get_or_insert_with(Instant::now).elapsed() >= QUIET {
                    return Ok(turn);
                }
            } else if Instant::now() < end {
                quiet_since = None;
            } else {
                return Err(refused(clickhouse, table, of_table, &seen));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self, clickhouse: &ClickHouse, of_table: &str) -> Result<Seen, ViewsError> {
        let own = format!("startsWith(query_id, '{}')", self.names);
        let query = format!(
            "SELECT countIf({own}) AS own, countIf(NOT {own}) AS others FROM system.processes \
             WHERE startsWith(query_id, '{of_table}')"
        );
        let seen: Vec<Seen> = clickhouse.rows(&query).await.map_err(ViewsError::during(LOOKING))?;
        Ok(seen.into_iter().next().unwrap_or_default())
    }

    /// A name for a statement.
    #[must_use]
    pub(super) fn name(&self) -> String {
        name(&self.names)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shows.abort();
    }
}

fn name(names: &str) -> String {
    format!("{names}{}", Uuid::now_v7().simple())
}

fn refused(clickhouse: &ClickHouse, table: &str, names: String, seen: &Seen) -> ViewsError {
    if seen.others > 0 {
        return ViewsError::Busy { table: table.to_owned(), database: clickhouse.database().to_owned(), names };
    }
    let unseen = "system.processes does not show the statements of this command; may its user run SELECT sleep(1)?";
    ViewsError::during(LOOKING)(Fault::RetrySame(unseen.to_owned()))
}

/// Where one fails, the next one shows it.
async fn show(clickhouse: ClickHouse, names: String) {
    loop {
        let (clickhouse, name) = (clickhouse.clone(), name(&names));
        tokio::spawn(async move { clickhouse.execute_with(SHOWS, &[("query_id", &name)]).await });
        tokio::time::sleep(BEAT).await;
    }
}

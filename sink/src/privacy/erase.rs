//! One pass over all tables, step by step; and the physical removal. Each step does nothing where it was done before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use clickhouse::Row;
use prometheus::IntCounter;
use serde::Deserialize;
use service::privacy::keys::Keys;
use uuid::Uuid;

use super::requests::Request;
use super::subjects::{Found, Wanted};
use super::tables::{EMPLOYERS, HITS, Holding, MERGES, OTHERS, SESSIONS, Scope, counted, holdings};
use super::{ExecuteError, STATEMENT};
use crate::audiences::condition::quote;
use crate::clickhouse::ClickHouse;
use crate::error::SinkError;
use crate::fault::Fault;
use crate::views::{filling, settle};

/// What the trail calls the rows that the first pass found.
pub const FOUND: &str = "found";
/// What it calls those that the second pass found.
pub const FOUND_AGAIN: &str = "found_again";

/// A delete is over when it answers, on all replicas. Its subqueries are about rows that nobody changes meanwhile.
const DELETING: [(&str, &str); 2] = [("lightweight_deletes_sync", "2"), ("allow_nondeterministic_mutations", "1")];
const LOOK: Duration = Duration::from_millis(200);
/// How long a mutation may take until it is told.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often what was deleted may come back, each time from a settling that began before.
const SETTLINGS: usize = 5;
/// How often the tables may be made anew, exchanged or dropped in one step, or in one pass.
const EXCHANGES: usize = 5;
/// Names in one insert.
const NAMES_AT_ONCE: usize = 5_000;

/// What is done, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Rows were counted.
    Found,
    /// The places of hits were written down.
    Recorded,
    /// Hits were deleted.
    Hits,
    /// What is left of sessions was told anew, beside what was told before.
    ToldAnew,
    /// Sessions were deleted that were told before.
    Sessions,
    /// All the rest was deleted.
    Others,
    /// Told as hidden.
    Hidden,
    /// No part holds a deleted row.
    Removed,
    /// Told as done.
    Done,
}

impl Step {
    /// All of them but the last, after which nothing is left to be resumed.
    pub const RESUMED: [Self; 8] = [
        Self::Found,
        Self::Recorded,
        Self::Hits,
        Self::ToldAnew,
        Self::Sessions,
        Self::Others,
        Self::Hidden,
        Self::Removed,
    ];

    /// The name in the trail, which has those that the whole pass has done.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Found => FOUND,
            Self::Recorded => "recorded",
            Self::Hits => "hits",
            Self::ToldAnew => "told_anew",
            Self::Sessions => "sessions",
            Self::Others => "others",
            Self::Hidden => "hidden",
            Self::Removed => "removed",
            Self::Done => "done",
        }
    }
}

#[derive(Row, Deserialize)]
struct Counted {
    value: String,
    rows: u64,
}

#[derive(Row, Deserialize)]
struct Number {
    number: u64,
}

#[derive(Row, Deserialize)]
struct Trailed {
    id: String,
    rows: u64,
}

/// A name, and the table that has it at this moment.
#[derive(PartialEq, Eq, Row, Deserialize)]
struct Table {
    name: String,
    uuid: String,
}

#[derive(Row, Deserialize)]
struct Text {
    text: String,
}

/// One pass.
pub struct Pass<'a> {
    /// Where.
    pub clickhouse: &'a ClickHouse,
    /// What the subjects were hashed with.
    pub keys: &'a Keys,
    /// Whose rows.
    pub requests: &'a [Request],
    /// What the trail calls the rows that are found.
    pub found: &'static str,
    /// Counts rows that go.
    pub erased: &'a IntCounter,
    /// After which step it ends as if it were killed.
    pub end_after: Option<Step>,
}

impl Pass<'_> {
    /// Does all steps, site by site. Gives how many rows each request was about, in this pass and in those before. Does them again
    /// where a table that is made anew came or went meanwhile, so that ClickHouse may have been asked of one that is not there.
    ///
    /// # Errors
    /// Where ClickHouse does not do one of them.
    pub async fn run(&self) -> Result<HashMap<Uuid, u64>, ExecuteError> {
        let mut more = 1..EXCHANGES;
        loop {
            let holdings = present(self.clickhouse).await?;
            let done = self.go_over(&holdings).await;
            let failed = matches!(done, Err(ExecuteError::ClickHouse(_)));
            let is_same = !failed || tables_of(&present(self.clickhouse).await?) == tables_of(&holdings);
            if is_same || more.next().is_none() {
                return done;
            }
        }
    }

    async fn go_over(&self, holdings: &[Holding]) -> Result<HashMap<Uuid, u64>, ExecuteError> {
        let mut sites: BTreeMap<&str, Vec<&Request>> = BTreeMap::new();
        self.requests.iter().for_each(|request| sites.entry(request.site()).or_default().push(request));
        let database = self.clickhouse.database();
        for (site, requests) in sites {
            let wanted = Wanted::new(&requests, self.keys)?;
            let kinds = wanted.kinds();
            let scope = Scope { database, site, pass: Uuid::now_v7(), kinds: &kinds, holdings };
            let found = wanted.find(self.clickhouse, &scope).await?;
            if !found.is_empty() {
                self.erase(&scope, &requests, &found).await?;
            }
        }
        // One that asked before all deletes had ended may have passed this pass by, and read what was there before them.
        filling::wait_for_fillings(self.clickhouse, Instant::now()).await?;
        // Also what one that was killed has left.
        self.execute(&format!("TRUNCATE TABLE {database}.erasing")).await?;
        self.rows_so_far().await
    }

    async fn erase(&self, scope: &Scope<'_>, requests: &[&Request], found: &[Found]) -> Result<(), ExecuteError> {
        self.list(scope, found).await?;
        // From here on nothing of a table that is made anew is filled.
        filling::wait_for_fillings(self.clickhouse, Instant::now()).await?;
        let rows = self.count(scope, requests, found).await?;
        self.erased.inc_by(rows.values().sum());
        let told = |request: &Request| {
            let rows = rows.get(&request.id()).copied().filter(|rows| *rows > 0);
            rows.filter(|_| request.site() == scope.site)
        };
        trail(self.clickhouse, self.requests, self.found, told).await?;
        self.end_after(Step::Found)?;
        for statement in [scope.touch(), scope.record()].into_iter().flatten() {
            self.execute(&statement).await?;
        }
        self.done(scope, Step::Recorded, &rows).await?;
        self.delete(scope, &HITS).await?;
        self.done(scope, Step::Hits, &rows).await?;
        self.tell_sessions_anew(scope).await?;
        self.check_alone(scope, found).await?;
        self.done(scope, Step::Sessions, &rows).await?;
        for holding in OTHERS {
            self.delete(scope, &holding).await?;
        }
        self.delete_settled(scope, &MERGES, scope.condition(&MERGES), settle::MERGES).await?;
        self.delete_settled(scope, &EMPLOYERS, Some(scope.employers()), settle::EMPLOYERS).await?;
        // Touched visitors may still tell one, without anything that came.
        self.execute(&settle::ask_for_all_employers(scope.database)).await?;
        self.check_alone(scope, found).await?;
        self.done(scope, Step::Others, &rows).await
    }

    async fn execute(&self, statement: &str) -> Result<(), ExecuteError> {
        Ok(self.clickhouse.execute_with(statement, &STATEMENT).await?)
    }

    async fn done(&self, scope: &Scope<'_>, step: Step, rows: &HashMap<Uuid, u64>) -> Result<(), ExecuteError> {
        let told = |request: &Request| rows.get(&request.id()).copied().filter(|_| request.site() == scope.site);
        trail(self.clickhouse, self.requests, step.as_str(), told).await?;
        self.end_after(step)
    }

    fn end_after(&self, step: Step) -> Result<(), ExecuteError> {
        if self.end_after == Some(step) { Err(ExecuteError::Ended(step)) } else { Ok(()) }
    }

    /// Names are in a table for as long as the pass takes, and in no statement: ClickHouse keeps those.
    async fn list(&self, scope: &Scope<'_>, found: &[Found]) -> Result<(), ExecuteError> {
        let Scope { database, site, pass, .. } = scope;
        let site = quote(site);
        let row = |found: &Found| {
            format!("('{pass}', {site}, '{}', {}, {})", found.kind.as_str(), quote(&found.value), found.until)
        };
        for some in found.chunks(NAMES_AT_ONCE) {
            let rows = some.iter().map(row).collect::<Vec<_>>().join(", ");
            self.execute(&format!(
                "INSERT INTO {database}.erasing (pass, site, kind, value, until) SETTINGS async_insert = 0 VALUES {rows}"
            ))
            .await?;
        }
        Ok(())
    }

    async fn count(
        &self,
        scope: &Scope<'_>,
        requests: &[&Request],
        found: &[Found],
    ) -> Result<HashMap<Uuid, u64>, ExecuteError> {
        let places: HashMap<_, _> =
            found.iter().map(|found| ((found.kind, found.value.as_str()), &found.requests)).collect();
        let mut rows: HashMap<Uuid, u64> = requests.iter().map(|request| (request.id(), 0)).collect();
        for holding in counted() {
            for (kind, column) in holding.names.iter().filter(|(kind, _)| scope.kinds.contains(kind)) {
                let counted: Vec<Counted> = self.clickhouse.rows(&scope.counts(&holding, *kind, column)).await?;
                for Counted { value, rows: number } in counted {
                    for place in places.get(&(*kind, value.as_str())).into_iter().copied().flatten() {
                        *rows.entry(requests[*place].id()).or_default() += number;
                    }
                }
            }
        }
        Ok(rows)
    }

    async fn delete(&self, scope: &Scope<'_>, holding: &Holding) -> Result<(), ExecuteError> {
        match scope.condition(holding) {
            Some(condition) => self.delete_where(holding, &condition).await,
            None => Ok(()),
        }
    }

    async fn delete_where(&self, holding: &Holding, condition: &str) -> Result<(), ExecuteError> {
        in_each(self.clickhouse, holding, async |table| self.delete_from(table, condition).await).await
    }

    async fn delete_from(&self, table: &str, condition: &str) -> Result<(), ExecuteError> {
        wait_for_mutations(self.clickhouse, table).await?;
        // A mutation writes all parts anew that it is about, so that none is begun for nothing.
        if self.count_where(table, condition).await? > 0 {
            let delete = format!("DELETE FROM {}.{table} WHERE {condition}", self.clickhouse.database());
            self.clickhouse.execute_with(&delete, &DELETING).await?;
        }
        Ok(())
    }

    async fn count_where(&self, table: &str, condition: &str) -> Result<u64, ExecuteError> {
        let database = self.clickhouse.database();
        self.number(&format!("SELECT count() AS number FROM {database}.{table} WHERE {condition}")).await
    }

    async fn number(&self, query: &str) -> Result<u64, ExecuteError> {
        let rows: Vec<Number> = self.clickhouse.rows(query).await?;
        Ok(rows.first().map_or(0, |row| row.number))
    }

    /// A settling that began before the hits were gone may write sessions after they were: so each is waited for. What was told
    /// before goes last: by that a pass finds the visitors again where this one is stopped in between.
    async fn tell_sessions_anew(&self, scope: &Scope<'_>) -> Result<(), ExecuteError> {
        self.until_gone(scope, &SESSIONS, async || {
            self.wait_for(settle::SESSIONS).await?;
            let now = self.clickhouse.now().await?;
            in_each(self.clickhouse, &SESSIONS, async |table| self.execute(&scope.tell_anew(table)).await).await?;
            self.end_after(Step::ToldAnew)?;
            self.delete_where(&SESSIONS, &scope.told_before(now)).await
        })
        .await
    }

    /// A settling that began before may write what rows told that are gone now: so it is waited for, too. One that begins later tells
    /// what is left.
    async fn delete_settled(
        &self,
        scope: &Scope<'_>,
        holding: &Holding,
        condition: Option<String>,
        job: &str,
    ) -> Result<(), ExecuteError> {
        self.until_gone(scope, holding, async || {
            if let Some(condition) = &condition {
                self.delete_where(holding, condition).await?;
            }
            self.wait_for(job).await
        })
        .await
    }

    /// Does something until no row that has to go has come back meanwhile.
    async fn until_gone(
        &self,
        scope: &Scope<'_>,
        holding: &Holding,
        step: impl AsyncFn() -> Result<(), ExecuteError>,
    ) -> Result<(), ExecuteError> {
        let Some(condition) = scope.condition(holding) else { return step().await };
        for _ in 0..SETTLINGS {
            step().await?;
            if self.count_where(holding.table, &condition).await? == 0 {
                return Ok(());
            }
        }
        Err(ExecuteError::Settling)
    }

    async fn wait_for(&self, job: &str) -> Result<(), ExecuteError> {
        settle::wait(self.clickhouse, job).await.map(drop).map_err(SinkError::from).map_err(Into::into)
    }

    /// At a handover two sinks may erase at once, and the one that is done empties the list of the other.
    async fn check_alone(&self, scope: &Scope<'_>, found: &[Found]) -> Result<(), ExecuteError> {
        let Scope { database, pass, .. } = scope;
        let listed =
            format!("SELECT count() AS number FROM {database}.erasing WHERE pass = '{pass}' AND kind != 'touched'");
        if self.number(&listed).await? == found.len() as u64 { Ok(()) } else { Err(ExecuteError::NotAlone) }
    }

    /// The rows of all passes that came to their end. One that was killed half-way counted all rows of a site, and its
    /// repetition those that were left.
    async fn rows_so_far(&self) -> Result<HashMap<Uuid, u64>, ExecuteError> {
        let ids: Vec<_> = self.requests.iter().map(|request| format!("'{}'", request.id())).collect();
        let end = Step::Others.as_str();
        let query = format!(
            "SELECT toString(directive_id) AS id, sum(most) AS rows FROM (SELECT directive_id, maxIf(rows, stage != '{end}') AS most \
             FROM (SELECT directive_id, site, stage, rows, countIf(stage = '{end}') \
             OVER (PARTITION BY directive_id, site ORDER BY at ROWS UNBOUNDED PRECEDING) AS ended FROM {}.privacy_trail \
             WHERE stage IN ('{FOUND}', '{FOUND_AGAIN}', '{end}') AND directive_id IN ({})) \
             GROUP BY directive_id, site, ended) GROUP BY directive_id",
            self.clickhouse.database(),
            ids.join(", ")
        );
        let rows: Vec<Trailed> = self.clickhouse.rows(&query).await?;
        Ok(rows.into_iter().filter_map(|row| Some((row.id.parse().ok()?, row.rows))).collect())
    }
}

/// Writes down a step, for those requests that rows are told of.
///
/// # Errors
/// Where ClickHouse does not take it.
pub async fn trail(
    clickhouse: &ClickHouse,
    requests: &[Request],
    stage: &str,
    rows: impl Fn(&Request) -> Option<u64>,
) -> Result<(), Fault> {
    let row = |request: &Request| {
        let (operator, site) = (quote(&request.directive.operator), quote(request.site()));
        let (action, id, rows) = (request.directive.action.as_str(), request.id(), rows(request)?);
        Some(format!("({operator}, '{action}', {site}, '{id}', {rows}, '{stage}')"))
    };
    // A request is about several names, and one of its rows tells of all.
    let rows: BTreeSet<_> = requests.iter().filter_map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let statement = format!(
        "INSERT INTO {}.privacy_trail (operator, action, site, directive_id, rows, stage) SETTINGS async_insert = 0 VALUES {}",
        clickhouse.database(),
        rows.into_iter().collect::<Vec<_>>().join(", ")
    );
    clickhouse.execute(&statement).await
}

/// Writes parts anew without what was deleted, one at a time, until there is none with a deleted row.
///
/// # Errors
/// Where ClickHouse does not do it.
pub async fn remove(clickhouse: &ClickHouse, requests: &[Request]) -> Result<(), ExecuteError> {
    for holding in holdings() {
        in_each(clickhouse, &holding, async |table| remove_from(clickhouse, table).await).await?;
    }
    Ok(trail(clickhouse, requests, Step::Removed.as_str(), |_| Some(0)).await?)
}

async fn remove_from(clickhouse: &ClickHouse, table: &str) -> Result<(), ExecuteError> {
    let (database, end) = (clickhouse.database(), Instant::now() + PATIENCE);
    loop {
        wait_for_mutations(clickhouse, table).await?;
        let masked = format!(
            "SELECT partition_id AS text FROM system.parts WHERE database = '{database}' AND table = '{table}' \
             AND active AND has_lightweight_delete LIMIT 1"
        );
        let found: Vec<Text> = clickhouse.rows(&masked).await?;
        let Some(Text { text: partition }) = found.into_iter().next() else { return Ok(()) };
        if Instant::now() > end {
            return Err(unended(table));
        }
        let statement = format!("ALTER TABLE {database}.{table} APPLY DELETED MASK IN PARTITION ID '{partition}'");
        clickhouse.execute(&statement).await?;
    }
}

/// Does something in a table, and in the one that is made anew beside it where there is one; again where they were not the same
/// tables after as before, also where it failed, as what is done in a table ends when that is dropped.
async fn in_each(
    clickhouse: &ClickHouse,
    holding: &Holding,
    step: impl AsyncFn(&str) -> Result<(), ExecuteError>,
) -> Result<(), ExecuteError> {
    let Some(beside) = holding.beside else { return step(holding.table).await };
    let names = [holding.table, beside];
    for _ in 0..EXCHANGES {
        let before = tables(clickhouse, &names).await?;
        let done = in_all(&before, &step).await;
        if tables(clickhouse, &names).await? == before {
            return done;
        }
    }
    Err(ExecuteError::Rebuilding(holding.table))
}

async fn in_all(tables: &[Table], step: &impl AsyncFn(&str) -> Result<(), ExecuteError>) -> Result<(), ExecuteError> {
    for Table { name, .. } in tables {
        step(name).await?;
    }
    Ok(())
}

fn tables_of(holdings: &[Holding]) -> Vec<&'static str> {
    holdings.iter().map(|holding| holding.table).collect()
}

/// All tables with rows about people that there are at this moment.
async fn present(clickhouse: &ClickHouse) -> Result<Vec<Holding>, ExecuteError> {
    let next: Vec<Holding> = holdings().filter_map(Holding::next).collect();
    let names: Vec<&str> = next.iter().map(|holding| holding.table).collect();
    let found = tables(clickhouse, &names).await?;
    let is_there = |holding: &Holding| found.iter().any(|table| table.name == holding.table);
    Ok(holdings().chain(next.into_iter().filter(is_there)).collect())
}

/// Those of these tables that there are.
async fn tables(clickhouse: &ClickHouse, names: &[&str]) -> Result<Vec<Table>, Fault> {
    let query = format!(
        "SELECT name, toString(uuid) AS uuid FROM system.tables WHERE database = '{}' AND name IN ('{}') ORDER BY name",
        clickhouse.database(),
        names.join("', '")
    );
    clickhouse.rows(&query).await
}

async fn wait_for_mutations(clickhouse: &ClickHouse, table: &str) -> Result<(), ExecuteError> {
    let query = format!(
        "SELECT count() AS number FROM system.mutations WHERE database = '{}' AND table = '{table}' AND NOT is_done",
        clickhouse.database()
    );
    let end = Instant::now() + PATIENCE;
    loop {
        let rows: Vec<Number> = clickhouse.rows(&query).await?;
        if rows.first().is_none_or(|row| row.number == 0) {
            return Ok(());
        }
        if Instant::now() > end {
            return Err(unended(table));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn unended(table: &str) -> ExecuteError {
    Fault::RetrySame(format!("a mutation of {table} does not end; system.mutations says why")).into()
}

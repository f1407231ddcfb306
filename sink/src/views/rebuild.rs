//! Makes a state table anew from hits, as this version defines it, and exchanges it for the old one.
//!
//! A table that a materialized view fills:
//! 1. A table is made beside it, and a view that fills that, too: from here on each insert fills both. Inserts that began
//!    before are waited for.
//! 2. The hits are read day by day, and make what they make. States are idempotent, so a hit that the view has brought as
//!    well changes nothing.
//! 3. What hits can't tell is copied: what people wrote, and what is from before the oldest hit that is kept of its site.
//! 4. The old view is given the new query, and the tables are exchanged.
//! 5. What people wrote meanwhile is copied, too: at once, and again when all inserts have ended that began before the exchange,
//!    as these write into the old table. An insert of hits finds the table of one view after that of the other: where the
//!    exchange comes in between, it fills the same table twice. So the hits that were inserted around the exchange are read
//!    once more. Then what was made beside is dropped.
//!
//! The new table keeps its rows for as long as the old one, and has its settings, before any row is in it: both may be an
//! operator's. What ClickHouse lets nobody change later, as `index_granularity`, is as this version defines it, and so is a TTL of
//! a single column.
//!
//! One command at a time makes a table anew: `turn` says how that is known.
//!
//! Whoever is erased meanwhile stays erased: [`filling`] says why.
//!
//! All is done on one host. What fills a table may take a day, whatever time requests have otherwise, and is not begun again
//! on another host, where it would write the same once more.
//!
//! A command that was killed may be given again. Until the exchange, the table in its place holds all that hits can't tell. After
//! it, the old table beside has what people wrote at that moment: the view that filled the new one says in its comment which
//! table that is, and where it is in its place already, step 5 is done before anything is dropped.
//!
//! Settled sessions need no view of their own. The table beside is filled, a share of all visitors at a time, and then once
//! more of those who had hits meanwhile; settling stops, its mark is put back to before the filling began, and the tables are
//! exchanged; settling goes on then, also where one of that fails. Whoever has hits from then on is settled at once, and so is
//! whatever these changed of what was filled before.

use std::time::{Duration, Instant};

use clickhouse::Row;
use serde::Deserialize;

use super::definition::{Filled, State, query_where};
use super::filling::{self, NOBODY_ERASED};
use super::turn::Turn;
use super::{ViewsError, settle};
use crate::clickhouse::{ClickHouse, time};
use crate::engine;
use crate::migrate::{MIGRATIONS, Migrator};

/// How long a statement that changes something may take: given up, ClickHouse would go on with it all the same.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Hits whose sessions are told at a time, on the average. All hits are looked at for each share, so these are large, and
/// what does not fit into memory goes to the disk.
const SHARE: u64 = 10_000_000;

/// What people write into state tables, or have corrected in them, as a condition.
const WRITTEN_BY_HAND: [(&str, &str); 2] = [
    ("contact_cards", "source IN ('import', 'correction')"),
    ("contact_links", "hit_id = toUUID('00000000-0000-0000-0000-000000000000')"),
];

/// When the rows of state tables are from; those of a whole month or day may be in part from before the oldest hit.
const FROM: [(&str, &str); 6] = [
    ("contact_cards", "submitted_at"),
    ("contact_links", "linked_at"),
    ("mail_opens", "occurred_at"),
    ("page_titles", "toDateTime64(month, 3, 'UTC')"),
    ("settled_sessions", "started_at"),
    ("unnamed_views", "toDateTime64(received_on, 3, 'UTC')"),
];

/// Names of the tables that can be made anew.
#[must_use]
pub fn tables() -> [&'static str; FROM.len()] {
    FROM.map(|(table, _)| table)
}

#[derive(Row, Deserialize)]
struct Count {
    count: u64,
}

#[derive(Row, Deserialize)]
struct Text {
    text: String,
}

/// Makes a state table anew.
///
/// # Errors
/// Where there is no such table, another command makes it anew, or ClickHouse can't be used. Whichever table is in its place then
/// is whole, but for what was inserted in the moment of an exchange, which the command makes good when it is given again;
/// settling was started again, or the error says that it was not.
pub async fn rebuild(
    clickhouse: ClickHouse,
    cluster: Option<String>,
    table: &str,
    tell: impl Fn(&str),
) -> Result<(), ViewsError> {
    let state = State::find(MIGRATIONS, table)?;
    let clickhouse = clickhouse.on_one_host().await.map_err(ViewsError::during("looking for a host"))?;
    let turn = Turn::begin(&clickhouse, table).await?;
    let (migrator, patient) = (Migrator::new(clickhouse.clone(), cluster), clickhouse.clone().with_timeout(LONGEST));
    let work = Rebuilding { clickhouse, patient, migrator, state, turn, tell };
    work.clear().await?;
    let tables = work.make_table().await?;
    match &work.state.filled {
        Filled::ByInserts { writer, query } => work.by_inserts(&tables, writer, query).await?,
        Filled::BySettling => work.by_settling(&tables).await?,
    }
    let during = "dropping what was replaced";
    work.expect_beside(during, &tables.old).await?;
    work.execute(during, "DROP TABLE {database}.{next}{on_cluster}").await
}

/// The UUIDs of the table that is replaced, and of the one that was made.
struct Tables {
    old: String,
    new: String,
}

struct Rebuilding<Tell> {
    /// For questions.
    clickhouse: ClickHouse,
    /// For what changes something.
    patient: ClickHouse,
    migrator: Migrator,
    state: State,
    turn: Turn,
    tell: Tell,
}

impl<Tell: Fn(&str)> Rebuilding<Tell> {
    fn render(&self, text: &str) -> String {
        self.migrator.render(&text.replace("{table}", &self.state.name).replace("{next}", &self.state.next()))
    }

    async fn execute(&self, during: &'static str, statement: &str) -> Result<(), ViewsError> {
        self.patient.execute(&self.render(statement)).await.map_err(ViewsError::during(during))
    }

    /// Writes rows, once nobody is being erased.
    async fn fill(&self, during: &'static str, statement: &str) -> Result<(), ViewsError> {
        let filled = filling::fill(&self.patient, &self.turn, &self.render(statement), &self.tell).await;
        filled.map_err(ViewsError::during(during))
    }

    async fn rows<R>(&self, during: &'static str, query: &str) -> Result<Vec<R>, ViewsError>
    where
        R: clickhouse::RowOwned + clickhouse::RowRead,
    {
        self.clickhouse.rows(&self.render(query)).await.map_err(ViewsError::during(during))
    }

    async fn count(&self, during: &'static str, query: &str) -> Result<u64, ViewsError> {
        Ok(self.rows::<Count>(during, query).await?.first().map_or(0, |row| row.count))
    }

    /// Drops what an earlier attempt left. One that was killed after the exchange has left the old table beside, and in it what
    /// people wrote at that moment.
    async fn clear(&self) -> Result<(), ViewsError> {
        let during = "dropping what an earlier attempt left";
        if let Filled::ByInserts { writer, .. } = &self.state.filled {
            let fills = self.of_table(during, "comment", &format!("{writer}_next")).await?;
            if fills == self.uuid(during, "{table}").await? {
                self.wait_for_inserts().await?;
                self.copy_what_people_wrote("{next}", "{table}").await?;
            }
            self.execute(during, &format!("DROP TABLE IF EXISTS {{database}}.{writer}_next{{on_cluster}}")).await?;
        }
        self.execute(during, "DROP TABLE IF EXISTS {database}.{next}{on_cluster}").await
    }

    async fn make_table(&self) -> Result<Tables, ViewsError> {
        let during = "making the table";
        self.execute(during, &self.state.table_beside()).await?;
        self.keep_ttl_and_settings().await?;
        Ok(Tables { old: self.uuid(during, "{table}").await?, new: self.uuid(during, "{next}").await? })
    }

    /// Whether the table beside is this one still.
    async fn expect_beside(&self, during: &'static str, uuid: &str) -> Result<(), ViewsError> {
        self.expect(during, "{next}", "toString(uuid)", uuid).await
    }

    /// Whether the view that fills the table that was made is there still: without it what was inserted meanwhile is missing.
    async fn expect_view(&self, tables: &Tables, writer: &str) -> Result<(), ViewsError> {
        self.expect("exchanging the tables", &format!("{writer}_next"), "comment", &tables.new).await
    }

    async fn expect(&self, during: &'static str, table: &str, what: &str, known: &str) -> Result<(), ViewsError> {
        if self.of_table(during, what, table).await? == known {
            return Ok(());
        }
        Err(ViewsError::Overtaken { during, table: self.render(&format!("{{database}}.{table}")) })
    }

    /// Has the table beside keep rows for as long as the old one does and remember as many tokens: an operator may have given it
    /// other rules than the migrations. What is decided when a table is made is as this version defines it.
    async fn keep_ttl_and_settings(&self) -> Result<(), ViewsError> {
        let during = "giving the new table the TTL and the settings of the old one";
        let fixed: Vec<Text> =
            self.rows(during, "SELECT name AS text FROM system.merge_tree_settings WHERE readonly").await?;
        let is_fixed = |name: &str| fixed.iter().any(|setting| setting.text == name);
        let (new, old) = (self.engine(during, "{next}").await?, self.engine(during, "{table}").await?);
        for change in engine::changes(&new, &old, is_fixed) {
            self.execute(during, &format!("ALTER TABLE {{database}}.{{next}}{{on_cluster}} {change}")).await?;
        }
        Ok(())
    }

    async fn engine(&self, during: &'static str, table: &str) -> Result<String, ViewsError> {
        self.of_table(during, "engine_full", table).await
    }

    /// Which table has a name at this moment.
    async fn uuid(&self, during: &'static str, table: &str) -> Result<String, ViewsError> {
        self.of_table(during, "toString(uuid)", table).await
    }

    /// What ClickHouse says of a table; empty where there is none.
    async fn of_table(&self, during: &'static str, what: &str, table: &str) -> Result<String, ViewsError> {
        let query =
            format!("SELECT {what} AS text FROM system.tables WHERE database = '{{database}}' AND name = '{table}'");
        Ok(self.rows::<Text>(during, &query).await?.pop().map(|row| row.text).unwrap_or_default())
    }

    async fn by_inserts(&self, tables: &Tables, writer: &str, query: &str) -> Result<(), ViewsError> {
        // The comment says which table it is that was made, whatever its name is later.
        let view = format!(
            "CREATE MATERIALIZED VIEW {{database}}.{writer}_next{{on_cluster}} TO {{database}}.{{next}} AS {query} COMMENT '{}'",
            tables.new
        );
        self.execute("making the view", &view).await?;
        self.wait_for_inserts().await?;
        self.fill_by_days(query).await?;
        self.copy_what_people_wrote("{table}", "{next}").await?;
        self.copy_what_is_older().await?;
        let changed = format!("ALTER TABLE {{database}}.{writer}{{on_cluster}} MODIFY QUERY {query}");
        self.execute("changing the view", &changed).await?;
        // Somebody may have changed them meanwhile.
        self.keep_ttl_and_settings().await?;
        self.expect_view(tables, writer).await?;
        self.exchange_while_inserts_go_on(tables, query).await?;
        self.expect_beside("dropping the view", &tables.old).await?;
        self.execute("dropping the view", &format!("DROP TABLE {{database}}.{writer}_next{{on_cluster}}")).await?;
        // Those that still fill the table that is about to go.
        self.wait_for_inserts().await
    }

    async fn fill_by_days(&self, query: &str) -> Result<(), ViewsError> {
        let days = "SELECT DISTINCT toString(toDate(received_at)) AS text FROM {database}.hits ORDER BY text";
        for Text { text: day } in self.rows("listing the days", days).await? {
            self.fill_from_hits("{next}", query, &format!("toDate(received_at) = '{day}'")).await?;
            (self.tell)(&format!("{day}\n"));
        }
        Ok(())
    }

    async fn fill_from_hits(&self, table: &str, query: &str, which: &str) -> Result<(), ViewsError> {
        let rows = query_where(query, &format!("{which} AND {NOBODY_ERASED}"));
        self.fill("filling the table", &format!("INSERT INTO {{database}}.{table} {rows}")).await
    }

    async fn exchange_while_inserts_go_on(&self, tables: &Tables, query: &str) -> Result<(), ViewsError> {
        let before = self.two_minutes_ago("exchanging the tables").await?;
        self.exchange(tables).await?;
        (self.tell)("exchanged\n");
        self.copy_what_people_wrote("{next}", "{table}").await?;
        // Those that began before the exchange write into the old table.
        self.wait_for_inserts().await?;
        self.copy_what_people_wrote("{next}", "{table}").await?;
        self.fill_from_hits("{table}", query, &format!("inserted_at > {before}")).await
    }

    async fn exchange(&self, tables: &Tables) -> Result<(), ViewsError> {
        let during = "exchanging the tables";
        self.expect_beside(during, &tables.new).await?;
        self.execute(during, "EXCHANGE TABLES {database}.{table} AND {database}.{next}{on_cluster}").await
    }

    /// Waits for inserts that began before, and so do not know what was done since.
    async fn wait_for_inserts(&self) -> Result<(), ViewsError> {
        let ended = filling::wait_for_inserts(&self.clickhouse, "true", Instant::now()).await;
        ended.map_err(ViewsError::during("waiting for inserts"))
    }

    async fn copy_what_people_wrote(&self, from: &str, to: &str) -> Result<(), ViewsError> {
        let Some((_, condition)) = WRITTEN_BY_HAND.iter().find(|(table, _)| *table == self.state.name) else {
            return Ok(());
        };
        let during = "copying what people wrote";
        let names = self.common_columns(during).await?;
        let copy = format!(
            "INSERT INTO {{database}}.{to} ({names}) SELECT {names} FROM {{database}}.{from} WHERE {condition} \
             AND ({names}) NOT IN (SELECT {names} FROM {{database}}.{to} WHERE {condition}) AND {NOBODY_ERASED}"
        );
        self.fill(during, &copy).await
    }

    /// What is from before the oldest hit of its site, of which the hits are kept no more.
    async fn copy_what_is_older(&self) -> Result<(), ViewsError> {
        let during = "copying what is older than the hits";
        let (names, older) = (self.common_columns(during).await?, self.is_older());
        // Of two rows of one session the one that was settled last counts.
        let values = names.replace("settled_at", "now64(3, 'UTC')");
        let copy = format!(
            "INSERT INTO {{database}}.{{next}} ({names}) SELECT {values} FROM {{database}}.{{table}} FINAL WHERE {older} \
             AND {NOBODY_ERASED}"
        );
        self.fill(during, &copy).await
    }

    /// The condition for what is from before the oldest hit of its site; of a site without hits, all.
    fn is_older(&self) -> String {
        let time = FROM.iter().find(|(table, _)| *table == self.state.name).map_or("", |(_, time)| time);
        format!(
            "site != '' AND (site NOT IN (SELECT DISTINCT site FROM {{database}}.hits) OR {time} < \
             (SELECT mapFromArrays(groupArray(toString(site)), groupArray(oldest)) FROM \
             (SELECT site, min(received_at) AS oldest FROM {{database}}.hits GROUP BY site))[toString(site)])"
        )
    }

    /// The columns that both tables have, but for those that ClickHouse makes of others.
    async fn common_columns(&self, during: &'static str) -> Result<String, ViewsError> {
        let both = "SELECT arrayStringConcat(groupArray(name), ', ') AS text FROM (SELECT name FROM system.columns \
                    WHERE database = '{database}' AND table IN ('{table}', '{next}') AND default_kind != 'MATERIALIZED' \
                    GROUP BY name HAVING count() = 2)";
        Ok(self.rows::<Text>(during, both).await?.pop().map(|row| row.text).unwrap_or_default())
    }

    /// Takes back what the hits that are left tell of a session that is copied, where they tell it as another.
    async fn take_back_rests(&self, names: &str) -> Result<(), ViewsError> {
        let older = self.is_older();
        let statement = format!(
            "INSERT INTO {{database}}.{{next}} ({names}, is_gone, settled_at, settled_until, settled_rows) \
             SELECT {names}, true, now64(3, 'UTC'), now64(3, 'UTC'), 0 FROM {{database}}.{{next}} AS rest FINAL \
             INNER JOIN (SELECT site AS of_site, visitor_id AS who, session_id AS id, session_id_source AS id_source, \
             started_at AS start, ended_at AS end FROM {{database}}.{{table}} FINAL WHERE NOT is_gone AND {older}) AS old \
             ON rest.site = old.of_site AND rest.visitor_id = old.who \
             WHERE {NOBODY_ERASED} AND NOT is_gone AND started_at > start AND (session_id = id AND day > toDate(start) \
             OR session_id != id AND session_id_source = 'computed' AND id_source = 'computed' AND started_at <= end)"
        );
        self.fill("taking back what is left of older sessions", &statement).await
    }

    /// As an expression. Hits that are being inserted are stamped with a later time, as an insert has 100 s.
    async fn two_minutes_ago(&self, during: &'static str) -> Result<String, ViewsError> {
        let now = self.clickhouse.now().await.map_err(ViewsError::during(during))?;
        Ok(time(now - 120_000))
    }

    async fn by_settling(&self, tables: &Tables) -> Result<(), ViewsError> {
        let during = "filling the table";
        let until = self.two_minutes_ago(during).await?;
        let shares = self.count(during, "SELECT count() AS count FROM {database}.hits").await? / SHARE + 1;
        let names = "SELECT arrayStringConcat(groupArray(name), ', ') AS text FROM (SELECT name FROM system.columns \
                     WHERE database = '{database}' AND table = 'sessions_of_hits' ORDER BY position)";
        let names = self.rows::<Text>(during, names).await?.pop().map(|row| row.text).unwrap_or_default();
        let fill = |whose: String| {
            format!(
                "INSERT INTO {{database}}.{{next}} ({names}, is_gone, settled_at, settled_until, settled_rows) \
                 SELECT {names}, false, now64(3, 'UTC'), {until}, 0 FROM {{database}}.sessions_of_hits WHERE {whose} \
                 AND {NOBODY_ERASED}"
            )
        };
        for share in 0..shares {
            self.fill(during, &fill(format!("cityHash64(site, visitor_id) % {shares} = {share}"))).await?;
            (self.tell)(&format!("{} of {shares}\n", share + 1));
        }
        let meanwhile = format!("SELECT site, visitor_id FROM {{database}}.hits WHERE inserted_at > {until}");
        self.fill(during, &fill(format!("(site, visitor_id) IN ({meanwhile})"))).await?;
        self.copy_what_is_older().await?;
        self.take_back_rests(&names).await?;
        self.keep_ttl_and_settings().await?;
        self.exchange_while_nothing_settles(tables, &until).await?;
        settle::settle(&self.clickhouse, &self.tell).await
    }

    /// Whatever becomes of it, settling goes on afterwards: with the new table, or with the old one.
    async fn exchange_while_nothing_settles(&self, tables: &Tables, until: &str) -> Result<(), ViewsError> {
        let exchanged = async {
            settle::stop(&self.clickhouse).await?;
            let mark =
                format!("INSERT INTO {{database}}.settlements (until, confirmed_at) VALUES ({until}, now64(3, 'UTC'))");
            self.execute("putting back the mark", &mark).await?;
            self.exchange(tables).await
        }
        .await;
        match settle::start(&self.clickhouse).await {
            Ok(()) => exchanged,
            Err(error) => Err(ViewsError::Stopped(Box::new(exchanged.err().unwrap_or(error)))),
        }
    }
}

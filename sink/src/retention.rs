//! Whether tables keep what they hold on people for no longer than the sites declare.
//!
//! What a site promises stands in the file of the sites (`retention_months`), what is done in the TTL of each table, which an
//! operator may change. Where a table keeps rows of a site for longer, the sink refuses to start. The rule is not understood
//! here but evaluated, by ClickHouse, for a row of each site. A rule that names a site holds only where rows are deleted one
//! by one: a part has rows of all sites, and where whole parts are deleted, each stays until the last of its rows may go. That
//! topics keep nothing for longer than their catalogue says is checked with the topics themselves.

use clickhouse::Row;
use serde::Deserialize;
use service::sites::Sites;

use crate::audiences::condition::quote;
use crate::clickhouse::ClickHouse;
use crate::engine;
use crate::error::{ExitCode, SinkError};
use crate::fault::Fault;
use crate::migrate::MigrateError;

/// The setting by which whole parts are deleted only.
const WHOLE_PARTS: &str = "ttl_only_drop_parts";
/// Tables with rows about people and page views that expire, and how many months more than hits they may keep. Merges of contacts, which
/// are decisions, stay until they are removed; what people tell of their company goes after the cards and links that tell it.
const TABLES: [(&str, u32); 8] = [
    ("hits", 0),
    ("settled_sessions", 0),
    ("contact_cards", 0),
    ("contact_links", 0),
    ("mail_opens", 0),
    ("unnamed_views", 0),
    ("audience_changes", 0),
    ("objections", 1),
];
/// Columns that rules are about; a row of the same day and time in all of them is looked at.
const DAYS: [&str; 2] = ["day", "received_on"];
/// Those that tell the time, too.
const TIMES: [&str; 6] = ["received_at", "started_at", "submitted_at", "linked_at", "changed_at", "objected_at"];

/// Why tables are not as the sites declare.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// Rows of a site are kept for longer.
    #[error(
        "table {table} keeps rows of site {site:?} for more than {months} months, which the file of the sites declares; give the \
         table a shorter TTL by ALTER TABLE ... MODIFY TTL, or declare another retention_months"
    )]
    Longer {
        /// The table.
        table: &'static str,
        /// Key of the site.
        site: String,
        /// What is declared for this table.
        months: u32,
    },
    /// Rows of a site are kept until those of all sites may go.
    #[error(
        "the TTL of table {table} names a site, but deletes whole parts, which have rows of all sites, so that each row stays as \
         long as those of the site that keeps them longest; ALTER TABLE {table} MODIFY SETTING {WHOLE_PARTS} = 0 has rows \
         deleted one by one"
    )]
    Mixed {
        /// The table.
        table: &'static str,
    },
    /// The rule can't be evaluated.
    #[error("the TTL of table {table} can't be evaluated for a site: {said}")]
    Rule {
        /// The table.
        table: &'static str,
        /// What ClickHouse says.
        said: String,
    },
    /// ClickHouse can't be used.
    #[error("ClickHouse: {}", .0.message())]
    ClickHouse(Fault),
}

impl From<RetentionError> for SinkError {
    fn from(error: RetentionError) -> Self {
        match error {
            RetentionError::ClickHouse(Fault::Halt(code, message)) => Self::Halt { code, message },
            // That passes by itself.
            RetentionError::ClickHouse(fault) => Self::Migrate(MigrateError::Query { fault }),
            other => Self::Halt { code: ExitCode::Unfit, message: other.to_string() },
        }
    }
}

#[derive(Row, Deserialize)]
struct Engine {
    name: String,
    engine: String,
    /// Whether whole parts are deleted where the engine does not say.
    default: String,
}

impl Engine {
    fn deletes_whole_parts(&self) -> bool {
        !["0", "false"].contains(&engine::setting(&self.engine, WHOLE_PARTS).unwrap_or(&self.default))
    }
}

#[derive(Row, Deserialize)]
struct Site {
    site: String,
    months: u32,
}

/// Holds the TTL of each table against what the sites declare.
///
/// # Errors
/// The first table and site for which rows are kept for longer.
pub async fn check(clickhouse: &ClickHouse, sites: &Sites) -> Result<(), RetentionError> {
    let engines = engines(clickhouse).await.map_err(RetentionError::ClickHouse)?;
    let declared: Vec<(&str, u32)> = sites.iter().map(|(key, site)| (key, u32::from(site.retention_months))).collect();
    for (table, more) in TABLES {
        let Some(found) = engines.iter().find(|engine| engine.name == table) else { continue };
        let rules = rules(&found.engine);
        let longer = match (&declared[..], &rules[..]) {
            ([], _) => None,
            ([(site, months), ..], []) => Some(Site { site: (*site).to_owned(), months: months + more }),
            _ => longer(clickhouse, table, &rules, &declared, more).await?,
        };
        if let Some(Site { site, months }) = longer {
            return Err(RetentionError::Longer { table, site, months });
        }
        if !declared.is_empty() && rules.iter().any(|rule| names_site(rule)) && found.deletes_whole_parts() {
            return Err(RetentionError::Mixed { table });
        }
    }
    Ok(())
}

async fn engines(clickhouse: &ClickHouse) -> Result<Vec<Engine>, Fault> {
    let default = |settings: &str| format!("(SELECT any(value) FROM system.{settings} WHERE name = '{WHOLE_PARTS}')");
    let query = format!(
        "SELECT name, engine_full AS engine, ifNull(if(engine LIKE 'Replicated%', {}, {}), '') AS default \
         FROM system.tables WHERE database = '{}'",
        default("replicated_merge_tree_settings"),
        default("merge_tree_settings"),
        clickhouse.database()
    );
    clickhouse.rows(&query).await
}

async fn longer(
    clickhouse: &ClickHouse,
    table: &'static str,
    rules: &[&str],
    declared: &[(&str, u32)],
    more: u32,
) -> Result<Option<Site>, RetentionError> {
    let sites: Vec<String> =
        declared.iter().map(|(site, months)| format!("({}, toUInt32({}))", quote(site), months + more)).collect();
    let days = DAYS.map(|day| format!("toDate(base) AS {day}")).join(", ");
    let times = TIMES.map(|time| format!("base AS {time}")).join(", ");
    let ends: Vec<String> = rules.iter().map(|rule| format!("toDate32({rule})")).collect();
    let query = format!(
        "SELECT site, months FROM (SELECT each.1 AS site, each.2 AS months, toDateTime64('2025-01-31 12:00:00', 3, 'UTC') AS base, \
         {days}, {times} FROM (SELECT arrayJoin([{}]) AS each)) \
         WHERE arrayMin([{}]) > toDate32(base) + toIntervalMonth(months) ORDER BY site LIMIT 1",
        sites.join(", "),
        ends.join(", ")
    );
    match clickhouse.rows(&query).await {
        Ok(found) => Ok(found.into_iter().next()),
        Err(fault @ (Fault::RetrySame(_) | Fault::OtherReplica(_) | Fault::SlowDown(_))) => {
            Err(RetentionError::ClickHouse(fault))
        }
        Err(fault) => Err(RetentionError::Rule { table, said: fault.message().to_owned() }),
    }
}

/// The rules by which rows are deleted whatever else they hold, in an engine as ClickHouse writes it.
fn rules(engine: &str) -> Vec<&str> {
    let is_deletion = |rule: &&str| {
        ![" TO DISK ", " TO VOLUME ", " RECOMPRESS ", " WHERE ", " GROUP BY "].iter().any(|word| rule.contains(word))
    };
    let rules = engine::ttl(engine).map(engine::elements).unwrap_or_default();
    rules.into_iter().filter(is_deletion).map(|rule| rule.trim_end_matches(" DELETE")).collect()
}

fn names_site(rule: &str) -> bool {
    rule.split(|character: char| !character.is_alphanumeric() && character != '_').any(|word| word == "site")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_the_column_and_not_a_word_that_has_it_in_it() {
        assert!(names_site("day + toIntervalMonth(if(site = 'shop', 6, 25))"));
        assert!(names_site("day + toIntervalMonth(if(`site` IN ('shop'), 6, 25))"));
        assert!(!names_site("day + toIntervalMonth(if(website = 'shop', 6, 25))"));
    }

    #[test]
    fn nobody_has_to_change_anything_where_it_passes_by_itself() {
        let ended = |fault| SinkError::from(RetentionError::ClickHouse(fault)).exit_code();
        for fault in [Fault::SlowDown, Fault::OtherReplica, Fault::RetrySame].map(|class| class("said".to_owned())) {
            assert_eq!(ended(fault), ExitCode::Failed);
        }
        assert_eq!(ended(Fault::Halt(ExitCode::Refused, "said".to_owned())), ExitCode::Refused);
        let mixed = RetentionError::Mixed { table: "hits" };
        assert_eq!(SinkError::from(mixed).exit_code(), ExitCode::Unfit);
    }

    #[test]
    fn only_rules_that_delete_are_looked_at() {
        let of = |rule: &'static str| rules(rule).join(" | ");
        assert_eq!(of("MergeTree ORDER BY x SETTINGS y = 1"), "");
        assert_eq!(
            of("MergeTree ORDER BY x TTL toDate(a) + toIntervalMonth(25) SETTINGS y = 1"),
            "toDate(a) + toIntervalMonth(25)"
        );
        assert_eq!(
            of(
                "MergeTree ORDER BY x TTL a + toIntervalDay(1) TO DISK 'cold', a + toIntervalMonth(if(site = 'b', 1, 2)) DELETE"
            ),
            "a + toIntervalMonth(if(site = 'b', 1, 2))"
        );
        assert_eq!(of("MergeTree ORDER BY x TTL a + toIntervalDay(1) WHERE b"), "");
    }
}

//! How long things are kept, as the tables and topics say themselves.

use std::collections::BTreeMap;

use schemas::topics::{CATALOGUE, Cleanup};
use serde_json::json;

use crate::database::{Database, Row, text};
use crate::error::PrivacyError;

/// Where a table says nothing.
pub const FOR_EVER: &str = "until it is removed on request";

/// How long each table keeps its rows, by its name.
///
/// # Errors
/// Where ClickHouse does not answer.
pub async fn of(database: &Database) -> Result<BTreeMap<String, String>, PrivacyError> {
    let query = "SELECT name, engine_full FROM system.tables WHERE database = '{database}'";
    let rows = database.rows("asking for retention", query).await?;
    let kept = |row: &Row| Some((text(row, "name").to_owned(), words(text(row, "engine_full"))?));
    Ok(rows.iter().filter_map(kept).collect())
}

/// The retention in an engine as ClickHouse writes it; nothing where there is none.
fn words(engine: &str) -> Option<String> {
    let rule = engine.split_once(" TTL ")?.1;
    let rule = rule.split(" SETTINGS ").next()?.trim();
    let known = || {
        let (column, rest) = rule.split_once(" + toInterval")?;
        let (unit, number) = rest.strip_suffix(')')?.split_once('(')?;
        let column = column.trim_start_matches("toDate(").trim_end_matches(')');
        Some(format!("{number} {}s after {column}", unit.to_lowercase()))
    };
    Some(known().unwrap_or_else(|| rule.to_owned()))
}

/// How long each topic keeps its messages.
#[must_use]
pub fn topics() -> Vec<Row> {
    let row = |topic: &schemas::topics::Topic| {
        let kept = match topic.cleanup {
            Cleanup::Compact => FOR_EVER.to_owned(),
            Cleanup::DeleteAfter(milliseconds) => format!("{} hours", milliseconds / 3_600_000),
        };
        let row = json!({"topic": topic.name, "kept": kept});
        row.as_object().cloned().unwrap_or_default()
    };
    CATALOGUE.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retention_is_told_in_words_and_an_odd_rule_as_it_is() {
        let of = |rule: &str| words(&format!("MergeTree PARTITION BY x ORDER BY y{rule} SETTINGS z = 1"));
        assert_eq!(
            of(" TTL toDate(received_at) + toIntervalMonth(25)").as_deref(),
            Some("25 months after received_at")
        );
        assert_eq!(of(" TTL day + toIntervalDay(3)").as_deref(), Some("3 days after day"));
        assert_eq!(of(" TTL d + toIntervalDay(3) WHERE x").as_deref(), Some("d + toIntervalDay(3) WHERE x"));
        assert_eq!(of(""), None);
    }

    #[test]
    fn topics_say_how_long() {
        let raw = topics().into_iter().find(|row| text(row, "topic") == "hits.raw").unwrap();
        assert_eq!(text(&raw, "kept"), "72 hours");
    }
}

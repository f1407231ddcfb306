//! How this version defines a state table and what fills it, taken from the migrations. Pure.

use super::ViewsError;
use crate::migrate::Migration;
use crate::statements;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS {database}.";
const VIEW: &str = "CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.";
const SOURCE: &str = "FROM {database}.hits";

/// A table that keeps what was made of hits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Its name.
    pub name: String,
    /// The statement that makes it, with placeholders.
    table: String,
    /// What fills it.
    pub filled: Filled,
}

/// What fills a state table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filled {
    /// A materialized view that hangs off hits: its name, and its query with placeholders.
    ByInserts {
        /// Name of the view.
        writer: String,
        /// Its query.
        query: String,
    },
    /// A view that is refreshed from time to time.
    BySettling,
}

impl State {
    /// The table of this name, as the last of the migrations that makes it does.
    ///
    /// # Errors
    /// Where no table of this name is filled from hits.
    pub fn find(migrations: &[Migration], name: &str) -> Result<Self, ViewsError> {
        let statements: Vec<String> = migrations.iter().flat_map(|file| statements::split(file.text)).collect();
        let unknown = || ViewsError::Unknown(name.to_owned());
        let named = |statement: &&String| created(statement, TABLE) == Some(name);
        let table = statements.iter().rev().find(named).ok_or_else(unknown)?.clone();
        let filled = statements.iter().rev().find_map(|statement| filled(statement, name)).ok_or_else(unknown)?;
        Ok(Self { name: name.to_owned(), table, filled })
    }

    /// Name of the table that is made beside it.
    #[must_use]
    pub fn next(&self) -> String {
        format!("{}_next", self.name)
    }

    /// The statement that makes the table beside it, with placeholders.
    #[must_use]
    pub fn table_beside(&self) -> String {
        self.table.replacen(&format!("{TABLE}{}", self.name), &format!("{TABLE}{}", self.next()), 1)
    }
}

/// The query of a view that hangs off hits, asked of the hits that fit a condition.
#[must_use]
pub fn query_where(query: &str, condition: &str) -> String {
    query.replacen(SOURCE, &format!("FROM (SELECT * FROM {{database}}.hits WHERE {condition}) AS hits"), 1)
}

/// What a statement creates, where it begins like this.
fn created<'a>(statement: &'a str, beginning: &str) -> Option<&'a str> {
    statement.strip_prefix(beginning)?.split(['{', ' ', '\n']).next()
}

fn filled(statement: &str, table: &str) -> Option<Filled> {
    let view = created(statement, VIEW)?;
    let (head, query) = statement.split_once("\nAS")?;
    let target = head.rsplit_once("TO {database}.")?.1.trim();
    if target != table {
        return None;
    }
    if head.contains("REFRESH") {
        return query.contains(SOURCE).then_some(Filled::BySettling);
    }
    let (query, _) = query.rsplit_once("\nCOMMENT ")?;
    Some(Filled::ByInserts { writer: view.to_owned(), query: query.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::MIGRATIONS;

    #[test]
    fn the_last_definition_counts() {
        let first = "CREATE TABLE IF NOT EXISTS {database}.a{on_cluster}\n(x Int8)\nENGINE = Memory;\n\
                     CREATE MATERIALIZED VIEW IF NOT EXISTS {database}.write_a{on_cluster} TO {database}.a\nAS SELECT 1 AS x\nFROM {database}.hits\nCOMMENT 'c';";
        let second = "CREATE TABLE IF NOT EXISTS {database}.a{on_cluster}\n(y Int8)\nENGINE = Memory;\n\
                      CREATE TABLE IF NOT EXISTS {database}.ab{on_cluster}\n(z Int8)\nENGINE = Memory;";
        let file = |version, text| Migration { version, name: "m", text };
        let state = State::find(&[file(1, first), file(2, second)], "a").unwrap();
        assert_eq!(
            state.table_beside(),
            "CREATE TABLE IF NOT EXISTS {database}.a_next{on_cluster}\n(y Int8)\nENGINE = Memory"
        );
        let query = "SELECT 1 AS x\nFROM {database}.hits".to_owned();
        assert_eq!(state.filled, Filled::ByInserts { writer: "write_a".to_owned(), query: query.clone() });
        assert_eq!(
            query_where(&query, "day = 1"),
            "SELECT 1 AS x\nFROM (SELECT * FROM {database}.hits WHERE day = 1) AS hits"
        );
    }

    #[test]
    fn every_state_table_is_found_and_nothing_else() {
        let filled = |name| State::find(MIGRATIONS, name).map(|state| state.filled);
        for table in ["contact_cards", "contact_links", "mail_opens", "page_titles", "unnamed_views"] {
            let Ok(Filled::ByInserts { writer, query }) = filled(table) else { panic!("{table}") };
            assert_eq!(writer, format!("write_{table}"));
            assert!(query.contains(SOURCE), "{query}");
        }
        assert_eq!(filled("settled_sessions").unwrap(), Filled::BySettling);
        for other in ["hits", "goals", "sessions", "settled_merges", "schema_migrations", ""] {
            assert!(matches!(filled(other), Err(ViewsError::Unknown(_))), "{other}");
        }
    }
}

//! Brings the database to what this version needs: numbered files of SQL, each applied once and recorded.
//!
//! 1. [`Migrator::plan`] reads what is recorded in `schema_migrations` and holds it against the files in this program: a
//!    file that was edited after it was applied, or that would have to be applied before one that already is, is
//!    refused before anything is changed.
//! 2. [`Migrator::apply`] runs the statements of each file in order and records the file when all have run.
//!
//! ClickHouse has no transactions around such statements, so each is written to do nothing where it was done before
//! (`IF NOT EXISTS`): a file that failed half-way is run again from its start. The same makes two migrators at once
//! harmless; the record is inserted under a token, so that it stands there once.

use clickhouse::Row;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::clickhouse::{ClickHouse, TABLE};
use crate::error::ExitCode;
use crate::fault::Fault;
use crate::hits::HitColumns;
use crate::options::MigrateOptions;
use crate::statements;
use crate::window::{self, Need};

/// Expressions that several tables or views have, and the placeholders that stand for them: ClickHouse keeps functions for all
/// databases only. A change of one is a change of all files that have it, as their checksums tell.
const EXPRESSIONS: [(&str, &str); 4] = [
    // What tells the company of a hit or visit, in one text: what a partner knows of it, and its network. One column with few
    // values is read and grouped by sooner than seven.
    (
        "{origin}",
        "arrayStringConcat(arrayMap(part -> replaceAll(part, '\\0', ' '), [toString(company_domain), toString(company_name), \
         toString(partner_matched_by), toString(network_organisation), toString(network_domain), toString(partner), \
         if(empty(partner_attributes), '', toJSONString(partner_attributes))]), '\\0')",
    ),
    // That, of encounters `e` with one origin, and its parts again.
    (
        "{told}",
        "splitByChar('\\0', any(e.origin)) AS told, told[1] AS company_domain, told[2] AS company_name, \
         told[3] AS partner_matched_by, told[4] AS network_organisation, told[5] AS network_domain, \
         told[6] AS partner_name, told[7] AS attributes",
    ),
    // Whether a network is an internet provider's, by network_rules: `rules`, `organisation` and `organisation_domain` in lower case.
    (
        "{of_provider}",
        "(NOT has(rules.companies, organisation) AND NOT has(rules.companies, organisation_domain) \
         AND (has(rules.providers, organisation) OR has(rules.providers, organisation_domain) OR match(organisation, rules.words)))",
    ),
    // What of `h.target_url` is known to be harmless: the address of a page without query, fragment and log-in, of all others
    // the scheme alone.
    (
        "{shown_target}",
        r"replaceRegexpOne(h.target_url, '(?is)^\\s*(?:(https?://)(?:[^/?#@]*@)?([^?#]*)|([a-z][a-z0-9+.-]*:)|([^?#]*)).*$', '\\1\\2\\3\\4')",
    ),
];

/// One file of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its number: files are applied in this order.
    pub version: u32,
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal $file:literal),* $(,)?) => {
        /// The files, in order. A test holds the list against the folder.
        pub const MIGRATIONS: &[Migration] = &[
            $(Migration { version: $version, name: $name, text: include_str!(concat!("../migrations/", $file)) }),*
        ];
    };
}

migrations! {
    1 "hits" "0001_hits.sql",
    2 "views" "0002_views.sql",
    3 "sessions" "0003_sessions.sql",
    4 "contacts" "0004_contacts.sql",
    5 "companies" "0005_companies.sql",
    6 "content" "0006_content.sql",
    7 "sources" "0007_sources.sql",
    8 "live" "0008_live.sql",
    9 "objections" "0009_objections.sql",
    10 "funnels" "0010_funnels.sql",
    11 "interests" "0011_interests.sql",
    12 "lead_scores" "0012_lead_scores.sql",
    13 "quality" "0013_quality.sql",
    14 "audiences" "0014_audiences.sql",
    15 "people" "0015_people.sql",
    16 "privacy" "0016_privacy.sql",
    17 "permissions" "0017_permissions.sql",
    18 "consents" "0018_consents.sql",
}

impl Migration {
    /// SHA-256 of the file with its expressions, lower-case hex.
    #[must_use]
    pub fn checksum(&self) -> String {
        hex::encode(Sha256::digest(with_expressions(self.text)))
    }
}

fn with_expressions(text: &str) -> String {
    EXPRESSIONS.iter().fold(text.to_owned(), |text, (name, expression)| text.replace(name, expression))
}

/// Why the database can't be brought, or is not, where it has to be.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// ClickHouse can't be used.
    #[error("migration {during} failed: {}; nothing is lost, run `sink migrate` again once that is put right", fault.message())]
    ClickHouse {
        /// What was being done.
        during: String,
        /// What went wrong.
        fault: Fault,
    },
    /// A file was edited after it was applied.
    #[error(
        "migration {0:04}_{1} was edited after it was applied; put the file back and write the change into a new one"
    )]
    Edited(u32, String),
    /// A file would have to be applied before one that already is.
    #[error("migration {0:04}_{1} is not applied but {2:04} is; give it a number above {2:04}")]
    OutOfOrder(u32, String, u32),
    /// The database has a migration that this program does not know.
    #[error("the database has migration {0:04}_{1}, which this version does not know; use the version that brought it")]
    Newer(u32, String),
    /// The database lacks migrations.
    #[error("migration {0:04}_{1} is not applied; run `sink migrate`")]
    Pending(u32, String),
    /// A question was not answered.
    #[error("ClickHouse does not answer what was asked: {}; nothing was changed", fault.message())]
    Query {
        /// What went wrong.
        fault: Fault,
    },
    /// A table forgets tokens too early.
    #[error("table {table} would take again what it has: {difference}")]
    Forgetful {
        /// Which.
        table: String,
        /// How.
        difference: String,
    },
    /// The table is not what the sink writes.
    #[error("table {table} does not fit this version: {difference}; run `sink migrate`, and undo changes made by hand")]
    Unfit {
        /// Which.
        table: String,
        /// How.
        difference: String,
    },
}

impl MigrateError {
    /// The exit code of a process that ends for this.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::ClickHouse { fault: Fault::Halt(code, _), .. } | Self::Query { fault: Fault::Halt(code, _) } => *code,
            Self::ClickHouse { .. } | Self::Query { .. } => ExitCode::Failed,
            _ => ExitCode::Unfit,
        }
    }
}

/// A migration as the database has it.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
pub struct Applied {
    /// Number.
    pub version: u32,
    /// Name.
    pub name: String,
    /// [`Migration::checksum`] of the file.
    pub checksum: String,
    /// When it was applied, UTC.
    pub applied_at: String,
}

/// What has been applied and what is still to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In order of version.
    pub applied: Vec<Applied>,
    /// In order of version.
    pub pending: Vec<Migration>,
}

/// Holds what is recorded against the files.
///
/// # Errors
/// Where a file was edited, is out of order, or is not known here.
pub fn plan(files: &[Migration], applied: Vec<Applied>) -> Result<Plan, MigrateError> {
    for record in &applied {
        match files.iter().find(|file| file.version == record.version) {
            Some(file) if file.checksum() == record.checksum => {}
            Some(file) => return Err(MigrateError::Edited(file.version, file.name.to_owned())),
            None => return Err(MigrateError::Newer(record.version, record.name.clone())),
        }
    }
    let is_applied = |file: &&Migration| applied.iter().any(|record| record.version == file.version);
    let pending: Vec<Migration> = files.iter().filter(|file| !is_applied(file)).copied().collect();
    let highest = applied.iter().map(|record| record.version).max();
    if let (Some(highest), Some(first)) = (highest, pending.first())
        && first.version < highest
    {
        return Err(MigrateError::OutOfOrder(first.version, first.name.to_owned(), highest));
    }
    Ok(Plan { applied, pending })
}

/// Applies migrations to one database.
#[derive(Clone)]
pub struct Migrator {
    clickhouse: ClickHouse,
    cluster: Option<String>,
}

const RECORDS: &str = "\
CREATE TABLE IF NOT EXISTS {database}.schema_migrations{on_cluster}
(
    version UInt32 COMMENT 'Number of the file.',
    name String COMMENT 'Name of the file.',
    checksum String COMMENT 'SHA-256 of the file''s text, with the expressions that files share filled in.',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it was applied.'
)
ENGINE = {engine}MergeTree
ORDER BY version
SETTINGS non_replicated_deduplication_window = 1000, replicated_deduplication_window = 1000
COMMENT 'Which files of sink/migrations have been applied.'";

impl Migrator {
    /// For one database, on one node or on a cluster.
    #[must_use]
    pub fn new(clickhouse: ClickHouse, cluster: Option<String>) -> Self {
        Self { clickhouse, cluster }
    }

    fn database(&self) -> &str {
        self.clickhouse.database()
    }

    /// A text with its placeholders filled in.
    pub(crate) fn render(&self, text: &str) -> String {
        let (engine, on_cluster) = match &self.cluster {
            Some(name) => ("Replicated", format!(" ON CLUSTER {name}")),
            None => ("", String::new()),
        };
        let text = with_expressions(text).replace("{database}", self.database());
        text.replace("{engine}", engine).replace("{on_cluster}", &on_cluster)
    }

    /// The statements of a file, as ClickHouse gets them.
    #[must_use]
    pub fn statements(&self, migration: &Migration) -> Vec<String> {
        statements::split(&self.render(migration.text))
    }

    /// What has been applied and what is still to be.
    ///
    /// # Errors
    /// Where ClickHouse can't be used, or the database and the files contradict each other.
    pub async fn plan(&self) -> Result<Plan, MigrateError> {
        plan(MIGRATIONS, self.applied().await?)
    }

    async fn applied(&self) -> Result<Vec<Applied>, MigrateError> {
        let failed = |fault| MigrateError::ClickHouse { during: "status".to_owned(), fault };
        if self.clickhouse.columns("schema_migrations").await.map_err(failed)?.is_empty() {
            return Ok(Vec::new());
        }
        let query = format!(
            "SELECT version, name, checksum, toString(min(applied_at)) AS applied_at \
             FROM {}.schema_migrations GROUP BY version, name, checksum ORDER BY version",
            self.database()
        );
        self.clickhouse.rows(&query).await.map_err(failed)
    }

    /// Applies what is pending and gives it.
    ///
    /// # Errors
    /// As [`Migrator::plan`]; and where a statement fails. What was recorded until then stays.
    pub async fn apply(&self) -> Result<Vec<Migration>, MigrateError> {
        let pending = self.plan().await?.pending;
        if pending.is_empty() {
            return Ok(pending);
        }
        let database = "CREATE DATABASE IF NOT EXISTS {database}{on_cluster}";
        for statement in [database, RECORDS] {
            self.execute("record", &self.render(statement)).await?;
        }
        for migration in &pending {
            let during = format!("{:04}_{}", migration.version, migration.name);
            for statement in self.statements(migration) {
                self.execute(&during, &statement).await?;
            }
            self.record(&during, migration).await?;
        }
        Ok(pending)
    }

    async fn execute(&self, during: &str, statement: &str) -> Result<(), MigrateError> {
        let failed = |fault| MigrateError::ClickHouse { during: during.to_owned(), fault };
        self.clickhouse.execute(statement).await.map_err(failed)
    }

    async fn record(&self, during: &str, migration: &Migration) -> Result<(), MigrateError> {
        let (version, name, checksum) = (migration.version, migration.name, migration.checksum());
        let statement = format!(
            "INSERT INTO {}.schema_migrations (version, name, checksum) VALUES ({version}, '{name}', '{checksum}')",
            self.database()
        );
        let token = format!("{version}/{checksum}");
        let failed = |fault| MigrateError::ClickHouse { during: during.to_owned(), fault };
        self.clickhouse.execute_once(&statement, &token).await.map_err(failed)
    }

    /// Checks that `run` can work: all migrations are applied, and the table has the columns that are written, of the
    /// types that are written. A database that is already ahead, as in a rolling upgrade, is fine while the table is.
    ///
    /// # Errors
    /// Where one of that is not so, or ClickHouse can't be used.
    pub async fn check(&self) -> Result<(), MigrateError> {
        let newest = MIGRATIONS.iter().map(|file| file.version).max().unwrap_or_default();
        let mut applied = self.applied().await?;
        applied.retain(|record| record.version <= newest);
        if let Some(missing) = plan(MIGRATIONS, applied)?.pending.first() {
            return Err(MigrateError::Pending(missing.version, missing.name.to_owned()));
        }
        self.check_table().await
    }

    /// Windows that are smaller than this many blocks or [`window::WIDE_SECONDS`], as the statements that widen them.
    ///
    /// # Errors
    /// Where ClickHouse can't be used.
    pub async fn widenings(&self, blocks: u64) -> Result<Vec<String>, MigrateError> {
        let failed = |fault| MigrateError::ClickHouse { during: "check of the windows".to_owned(), fault };
        let on_cluster = self.render("{on_cluster}");
        let windows = window::windows(&self.clickhouse).await.map_err(failed)?;
        Ok(windows.iter().filter_map(|window| window::widening(window, blocks, &on_cluster)).collect())
    }

    /// Whether the table `hits` may know a token and not have its rows, see [`window::tokens_come_first`].
    ///
    /// # Errors
    /// Where ClickHouse can't be used.
    pub async fn tokens_come_first(&self) -> Result<bool, MigrateError> {
        let failed = |fault| MigrateError::ClickHouse { during: "check of the table".to_owned(), fault };
        window::tokens_come_first(&self.clickhouse).await.map_err(failed)
    }

    /// Widens the windows that are smaller than that, and gives the statements that did it.
    ///
    /// # Errors
    /// Where ClickHouse can't be used.
    pub async fn widen(&self, blocks: u64) -> Result<Vec<String>, MigrateError> {
        let statements = self.widenings(blocks).await?;
        for statement in &statements {
            self.execute("of a window", statement).await?;
        }
        Ok(statements)
    }

    /// Checks that ClickHouse remembers tokens for as long as is needed, in the table and in the targets of the views
    /// that hang off it.
    ///
    /// # Errors
    /// Where it does not, or can't be used.
    pub async fn check_windows(&self, need: &Need) -> Result<(), MigrateError> {
        let failed = |fault| MigrateError::ClickHouse { during: "check of the windows".to_owned(), fault };
        let windows = window::windows(&self.clickhouse).await.map_err(failed)?;
        match window::too_small(&windows, need) {
            None => Ok(()),
            Some((table, difference)) => Err(MigrateError::Forgetful { table, difference }),
        }
    }

    async fn check_table(&self) -> Result<(), MigrateError> {
        let failed = |fault| MigrateError::ClickHouse { during: "check of the table".to_owned(), fault };
        let columns = self.clickhouse.columns(TABLE).await.map_err(failed)?;
        let actual =
            |name: &str| columns.iter().find(|column| column.name == name).map(|column| column.r#type.as_str());
        let differs = HitColumns::names_and_types().into_iter().find_map(|(name, wanted)| match actual(name) {
            Some(found) if found == wanted => None,
            Some(found) => Some(format!("column {name} is {found}, must be {wanted}")),
            None => Some(format!("column {name} is missing")),
        });
        match differs {
            None => Ok(()),
            Some(difference) => Err(MigrateError::Unfit { table: format!("{}.{TABLE}", self.database()), difference }),
        }
    }
}

/// Does what `sink migrate` was asked for, and tells it in lines for a person.
///
/// # Errors
/// As [`Migrator::apply`].
pub async fn report(migrator: &Migrator, options: &MigrateOptions) -> Result<Vec<String>, MigrateError> {
    if options.status {
        let plan = migrator.plan().await?;
        let applied = plan.applied.iter();
        let applied = applied.map(|file| format!("{:04}_{} applied {}", file.version, file.name, file.applied_at));
        let pending = plan.pending.iter().map(|file| format!("{:04}_{} pending", file.version, file.name));
        return Ok(applied.chain(pending).collect());
    }
    if options.dry_run {
        let pending = migrator.plan().await?.pending;
        let statements = pending.iter().flat_map(|file| migrator.statements(file));
        let statements = statements.chain(migrator.widenings(options.deduplication_window).await?);
        return Ok(statements.map(|statement| format!("{statement};\n")).collect());
    }
    let applied = migrator.apply().await?;
    let widened = migrator.widen(options.deduplication_window).await?;
    if applied.is_empty() && widened.is_empty() {
        return Ok(vec!["nothing to do, all migrations are applied".to_owned()]);
    }
    let applied = applied.iter().map(|file| format!("{:04}_{} applied", file.version, file.name));
    Ok(applied.chain(widened).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Migration = Migration { version: 1, name: "first", text: "SELECT 1;" };
    const SECOND: Migration = Migration { version: 2, name: "second", text: "SELECT 2;" };

    fn applied(migration: &Migration) -> Applied {
        Applied {
            version: migration.version,
            name: migration.name.to_owned(),
            checksum: migration.checksum(),
            applied_at: String::new(),
        }
    }

    #[test]
    fn what_is_not_recorded_is_pending() {
        let found = plan(&[FIRST, SECOND], vec![applied(&FIRST)]).unwrap();
        assert_eq!((found.applied, found.pending), (vec![applied(&FIRST)], vec![SECOND]));
    }

    #[test]
    fn an_edited_file_is_refused() {
        let edited = Migration { text: "SELECT 3;", ..FIRST };
        assert!(matches!(plan(&[edited, SECOND], vec![applied(&FIRST)]), Err(MigrateError::Edited(1, _))));
    }

    #[test]
    fn a_file_before_one_that_is_applied_is_refused() {
        assert!(matches!(plan(&[FIRST, SECOND], vec![applied(&SECOND)]), Err(MigrateError::OutOfOrder(1, _, 2))));
    }

    #[test]
    fn a_database_that_is_ahead_is_told() {
        assert!(matches!(plan(&[FIRST], vec![applied(&FIRST), applied(&SECOND)]), Err(MigrateError::Newer(2, _))));
    }

    #[test]
    fn the_list_is_the_folder() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let listed: Vec<_> = MIGRATIONS.iter().map(|file| format!("{:04}_{}.sql", file.version, file.name)).collect();
        assert_eq!(files, listed);
        for (file, migration) in files.iter().zip(MIGRATIONS) {
            assert_eq!(std::fs::read_to_string(format!("{folder}/{file}")).unwrap(), migration.text);
        }
    }

    /// Parameters of views have a type after a colon.
    #[test]
    fn every_placeholder_is_known() {
        for migration in MIGRATIONS {
            let text = with_expressions(migration.text);
            let names = text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
            let known = |name: &str| ["database", "engine", "on_cluster"].contains(&name) || name.contains(':');
            assert_eq!(names.filter(|name| !known(name)).collect::<Vec<_>>(), [""; 0], "{}", migration.name);
        }
    }

    #[test]
    fn an_edited_expression_is_an_edited_file() {
        let file = Migration { text: "SELECT {shown_target};", ..FIRST };
        assert_eq!(file.checksum(), Migration { text: with_expressions(file.text).leak(), ..FIRST }.checksum());
        assert_ne!(file.checksum(), hex::encode(Sha256::digest(file.text)));
    }

    #[test]
    fn every_statement_may_be_run_twice() {
        for statement in MIGRATIONS.iter().flat_map(|file| statements::split(file.text)) {
            let repeatable = [
                "CREATE DATABASE IF NOT EXISTS",
                "CREATE TABLE IF NOT EXISTS",
                "CREATE MATERIALIZED VIEW IF NOT EXISTS",
                "CREATE OR REPLACE VIEW",
            ];
            assert!(repeatable.iter().any(|start| statement.starts_with(start)), "{statement}");
        }
    }
}

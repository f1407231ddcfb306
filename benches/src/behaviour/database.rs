//! A database with the sink's tables and views.

use std::time::{Duration, Instant};

use serde::Deserialize;
use sink::clickhouse::ClickHouse;
use sink::fault::Fault;
use sink::migrate::{MigrateError, Migrator};
use sink::options::{Command, MigrateOptions, Options, SERVICE};
use sink::window::WIDE;

/// Longer than any question takes.
const PATIENCE: Duration = Duration::from_secs(1_800);

/// Longest time that settling may take.
const LONGEST_SETTLING: Duration = Duration::from_secs(4 * 3_600);
/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(500);
/// From how many on hits have to wait for two minutes until they are settled.
const MANY: u32 = 500_000;
/// By how much insertions are backdated, seconds: a second more than settling leaves alone.
const BACK: u32 = 121;

/// Why something could not be measured or checked.
#[derive(Debug, thiserror::Error)]
pub enum BehaviourError {
    /// The address or name of the database is none.
    #[error("this is no database: {0}")]
    Options(String),
    /// The database could not be migrated.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// A block was not taken.
    #[error("block {token} was not inserted: {}", fault.message())]
    Insert {
        /// Its token.
        token: String,
        /// What ClickHouse said.
        fault: Fault,
    },
    /// A block was not made.
    #[error("a block could not be made: {0}")]
    Block(String),
    /// A question was not answered.
    #[error("{question}: {said}")]
    Question {
        /// What was asked.
        question: String,
        /// What was answered.
        said: String,
    },
}

/// An answer, and what it cost.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The answer, without its last line break.
    pub text: String,
    /// Time from asking to the last byte of the answer.
    pub took: Duration,
    /// Rows that ClickHouse read for it.
    pub rows_read: u64,
    /// Bytes that ClickHouse read for it, before compression.
    pub bytes_read: u64,
}

/// What ClickHouse tells of a query in the header `X-ClickHouse-Summary`; numbers come as text.
#[derive(Deserialize)]
struct Summary {
    read_rows: String,
    read_bytes: String,
}

/// A database on a server.
#[derive(Clone)]
pub struct Database {
    url: String,
    name: String,
    clickhouse: ClickHouse,
    agent: ureq::Agent,
}

impl Database {
    /// A database that need not exist yet.
    ///
    /// # Errors
    /// Where the name is none.
    pub fn new(url: &str, name: &str) -> Result<Self, BehaviourError> {
        let words =
            ["sink", "migrate", "--clickhouse-timeout=600", "--clickhouse-url", url, "--clickhouse-database", name];
        let options = SERVICE.parse_from::<Options>(&words).map_err(|no| BehaviourError::Options(no.to_string()))?;
        let Command::Migrate(MigrateOptions { clickhouse, .. }) = options.command else {
            return Err(BehaviourError::Options(format!("{url} {name}")));
        };
        let agent =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into();
        Ok(Self { url: url.to_owned(), name: name.to_owned(), clickhouse: ClickHouse::new(&clickhouse), agent })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its server is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The sink's own client.
    #[must_use]
    pub fn clickhouse(&self) -> &ClickHouse {
        &self.clickhouse
    }

    /// Brings it to what this version needs.
    ///
    /// # Errors
    /// Where ClickHouse does not.
    pub async fn migrate(&self) -> Result<(), BehaviourError> {
        let migrator = Migrator::new(self.clickhouse.clone(), None);
        migrator.apply().await?;
        migrator.widen(WIDE).await?;
        Ok(())
    }

    /// Asks, with `{database}` standing for the name. Nothing is taken from caches of answers.
    ///
    /// # Errors
    /// Where ClickHouse does not answer, with what it said.
    pub fn ask(&self, question: &str) -> Result<Answer, BehaviourError> {
        let question = question.replace("{database}", &self.name);
        let failed = |said: String| BehaviourError::Question { question: question.clone(), said };
        let began = Instant::now();
        // Only an answer that is complete before it is sent has the whole truth in its headers.
        let url = format!("{}/?wait_end_of_query=1", self.url);
        let mut response = self.agent.post(&url).send(&question).map_err(|problem| failed(problem.to_string()))?;
        let read = response.body_mut().with_config().limit(u64::MAX).read_to_string();
        let text = read.map_err(|problem| failed(problem.to_string()))?;
        let took = began.elapsed();
        if !response.status().is_success() {
            return Err(failed(text));
        }
        let header = response.headers().get("X-ClickHouse-Summary").and_then(|header| header.to_str().ok());
        let summary = header.and_then(|header| serde_json::from_str::<Summary>(header).ok());
        let number = |text: &str| text.parse().unwrap_or_default();
        let (rows_read, bytes_read) =
            summary.map_or((0, 0), |summary| (number(&summary.read_rows), number(&summary.read_bytes)));
        Ok(Answer { text: text.trim_end_matches('\n').to_owned(), took, rows_read, bytes_read })
    }

    /// The lines of an answer.
    ///
    /// # Errors
    /// As [`Database::ask`].
    pub fn lines(&self, question: &str) -> Result<Vec<String>, BehaviourError> {
        Ok(self.ask(question)?.text.lines().map(str::to_owned).collect())
    }

    /// Keeps views from being made anew by themselves, until [`Database::settle`].
    ///
    /// # Errors
    /// As [`Database::ask`].
    pub fn stop_views(&self) -> Result<(), BehaviourError> {
        self.refreshed_views()?.iter().try_for_each(|view| self.ask(&format!("SYSTEM STOP VIEW {view}")).map(drop))
    }

    /// Stamps what is inserted from now on as if it had been inserted two minutes ago: many hits are settled only when they
    /// are that old, so that nobody has to wait. Views have to be stopped meanwhile.
    ///
    /// # Errors
    /// As [`Database::ask`].
    pub fn backdate(&self) -> Result<(), BehaviourError> {
        // What is stamped before the last settling would count as settled.
        let is_late_enough = format!(
            "SELECT now64(3, 'UTC') - INTERVAL {BACK} SECOND > (SELECT max(until) FROM {{database}}.settlements)"
        );
        while self.ask(&is_late_enough)?.text == "0" {
            std::thread::sleep(LOOK);
        }
        self.stamp(&format!("now64(3, 'UTC') - INTERVAL {BACK} SECOND"))
    }

    /// Stamps what is inserted from now on with the time.
    ///
    /// # Errors
    /// As [`Database::ask`].
    pub fn end_backdating(&self) -> Result<(), BehaviourError> {
        self.stamp("now64(3, 'UTC')")
    }

    fn stamp(&self, value: &str) -> Result<(), BehaviourError> {
        self.ask(&format!("ALTER TABLE {{database}}.hits MODIFY COLUMN inserted_at DEFAULT {value}")).map(drop)
    }

    /// Waits until all that is inserted is old enough to be settled for good.
    ///
    /// # Errors
    /// As [`Database::ask`].
    pub fn wait_until_settleable(&self) -> Result<(), BehaviourError> {
        let newest =
            format!("SELECT max(inserted_at) < now64(3, 'UTC') - INTERVAL {BACK} SECOND FROM {{database}}.hits");
        while self.ask(&newest)?.text == "0" {
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Lets views be made anew, again and again until sessions are made of all hits.
    ///
    /// # Errors
    /// As [`Database::ask`], and where it takes longer than four hours.
    pub fn settle(&self) -> Result<(), BehaviourError> {
        let deadline = Instant::now() + LONGEST_SETTLING;
        let views = self.refreshed_views()?;
        views.iter().try_for_each(|view| self.ask(&format!("SYSTEM START VIEW {view}")).map(drop))?;
        let waiting = format!(
            "SELECT count() >= {MANY} FROM {{database}}.hits \
             WHERE inserted_at > (SELECT argMax(until, confirmed_at) FROM {{database}}.settlements)"
        );
        loop {
            let is_last = self.ask(&waiting)?.text == "0";
            for view in &views {
                self.ask(&format!("SYSTEM REFRESH VIEW {view}"))?;
                self.ask(&format!("SYSTEM WAIT VIEW {view}"))?;
            }
            if is_last {
                return Ok(());
            }
            if Instant::now() > deadline {
                let said = "hits still wait".to_owned();
                return Err(BehaviourError::Question { question: "settling".to_owned(), said });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Views that are made anew from time to time: settling first, its confirmation after it.
    fn refreshed_views(&self) -> Result<Vec<String>, BehaviourError> {
        self.lines(
            "SELECT concat(database, '.', view) FROM system.view_refreshes WHERE database = '{database}' ORDER BY view DESC",
        )
    }
}

//! Requests to ClickHouse, over HTTP.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clickhouse::error::Error as ClientError;
use clickhouse::{Client, Compression, Row, RowOwned, RowRead};
use serde::Deserialize;

use crate::fault::Fault;
use crate::hits::HitColumns;
use crate::hosts::Hosts;
use crate::options::ClickHouseOptions;

/// The table that hits go to.
pub const TABLE: &str = "hits";

/// How long a host that failed before may take to say that it is there.
const TRIAL: Duration = Duration::from_secs(2);
/// How long an insert may take in the server, which goes on with one that we gave up. Its rows are stamped at its beginning,
/// and sessions are settled of what was stamped two minutes ago: what could be seen only later would be left out.
const LONGEST_INSERT: Duration = Duration::from_secs(100);

/// One ClickHouse, or several replicas of one. Cheap to clone.
#[derive(Clone)]
pub struct ClickHouse {
    servers: Arc<[Server]>,
    hosts: Arc<Hosts>,
    statement: String,
    database: String,
    timeout: Duration,
}

/// One host.
#[derive(Clone)]
struct Server {
    /// For logs: its address without what may be secret in it.
    name: String,
    queries: Client,
    inserts: Client,
}

impl Server {
    fn new(url: &str, options: &ClickHouseOptions) -> Self {
        let queries = Client::default()
            .with_url(url)
            .with_user(&options.clickhouse_user)
            .with_password(&options.clickhouse_password.0)
            .with_product_info("hitmeter-sink", env!("CARGO_PKG_VERSION"));
        // Blocks are compressed here, once, however often they are sent.
        let inserts = queries.clone().with_compression(Compression::None).with_setting("decompress", "1");
        let inserts = inserts
            // The queue of asynchronous inserts knows no tokens.
            .with_setting("async_insert", "0")
            .with_setting("insert_deduplicate", "1")
            // A retry is dropped not only by the table but also by each view that hangs off it.
            .with_setting("deduplicate_blocks_in_dependent_materialized_views", "1");
        let address = url.rsplit(['@', '/']).find(|part| !part.is_empty()).unwrap_or_default();
        let name = address.split('?').next().unwrap_or_default().to_owned();
        Self { name, queries, inserts }
    }
}

/// Columns of a table.
#[derive(Debug, Clone, PartialEq, Eq, Row, Deserialize)]
pub struct ColumnInfo {
    /// Name.
    pub name: String,
    /// Type, as ClickHouse writes it.
    pub r#type: String,
}

impl ClickHouse {
    /// Connects when it is first used.
    #[must_use]
    pub fn new(options: &ClickHouseOptions) -> Self {
        let database = options.clickhouse_database.clone();
        let servers: Arc<[Server]> = options.clickhouse_url.iter().map(|url| Server::new(url, options)).collect();
        let hosts = Arc::new(Hosts::new(servers.len()));
        let statement = HitColumns::insert_statement(&format!("{database}.{TABLE}"));
        Self { servers, hosts, statement, database, timeout: options.clickhouse_timeout }
    }

    /// The first of the hosts that answers, alone: for statements that must not be begun on another one while the first may
    /// still be at them, and that read what others before have written.
    ///
    /// # Errors
    /// The class of the last failure, where none answers.
    pub async fn on_one_host(&self) -> Result<Self, Fault> {
        let mut last = Fault::RetrySame("no host is given".to_owned());
        for host in self.hosts.in_order() {
            let server = &self.servers[host];
            match in_time(self.timeout, server.queries.query_raw("SELECT 1 FORMAT Null").execute()).await {
                Ok(()) => {
                    let servers = Arc::from([server.clone()]);
                    return Ok(Self { servers, hosts: Arc::new(Hosts::new(1)), ..self.clone() });
                }
                Err(fault) => {
                    self.note_failure(host, &fault);
                    last = fault;
                }
            }
        }
        Err(last)
    }

    /// Whether no other one is asked or written to.
    #[must_use]
    pub fn is_one_host(&self) -> bool {
        self.servers.len() == 1
    }

    /// The same with another time after which a request is given up.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The database that hits go to.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Inserts a block of `hits` into one of the replicas. ClickHouse drops it when it has had one under the same token.
    /// Called again after a failure, it sends the block to another replica where there is one.
    ///
    /// # Errors
    /// The class of the failure; the block may have been stored nevertheless.
    pub async fn insert(&self, token: &str, frames: Bytes) -> Result<(), Fault> {
        let host = self.host_for_insert().await;
        let result = self.insert_into(&self.servers[host], token, frames).await;
        match &result {
            Ok(()) | Err(Fault::RejectRow(..)) => self.note_success(host),
            Err(fault) => self.note_failure(host, fault),
        }
        result
    }

    /// A host that failed before is asked something harmless first, so that an insert does not wait for one that never
    /// answers.
    async fn host_for_insert(&self) -> usize {
        loop {
            let choice = self.hosts.choose();
            if !choice.is_trial {
                return choice.host;
            }
            let asked = self.servers[choice.host].queries.query_raw("SELECT 1 FORMAT Null").execute();
            match in_time(TRIAL.min(self.timeout), asked).await {
                Ok(()) => return choice.host,
                Err(fault) => self.note_failure(choice.host, &fault),
            }
        }
    }

    async fn insert_into(&self, server: &Server, token: &str, frames: Bytes) -> Result<(), Fault> {
        let timeout = Some(self.timeout);
        let longest = self.timeout.min(LONGEST_INSERT).as_secs_f64();
        let client = server.inserts.clone().with_setting("insert_deduplication_token", token);
        let client = client.with_setting("max_execution_time", longest.to_string());
        let mut insert = client.insert_formatted_with(&self.statement).with_timeouts(timeout, timeout);
        // A server that answers before it has read everything closes the channel: the answer says why.
        let sent = insert.send(frames).await;
        let ended = insert.end().await;
        sent.and(ended).map_err(|error| Fault::of(&error))
    }

    fn note_success(&self, host: usize) {
        if self.hosts.succeed(host) {
            tracing::info!(host = self.servers[host].name, "ClickHouse takes inserts again");
        }
    }

    /// One that is busy, or that an operator has to see to, is not any worse than the others.
    fn note_failure(&self, host: usize, fault: &Fault) {
        if self.servers.len() > 1 && matches!(fault, Fault::OtherReplica(_) | Fault::RetrySame(_)) {
            let seconds = self.hosts.fail(host).as_secs();
            let (host, said) = (&self.servers[host].name, fault.message());
            tracing::warn!(host, said, seconds, "ClickHouse failed, others are asked meanwhile");
        }
    }

    /// Runs a statement that gives no rows.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn execute(&self, statement: &str) -> Result<(), Fault> {
        self.ask(|client| client.query_raw(statement).execute()).await
    }

    /// Runs a statement with a deduplication token: repeated under the same token, it inserts nothing.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn execute_once(&self, statement: &str, token: &str) -> Result<(), Fault> {
        self.execute_with(statement, &[("insert_deduplication_token", token), ("async_insert", "0")]).await
    }

    /// Runs a statement that gives no rows, under settings of its own, of which `query_id` is a name by which
    /// `system.processes` tells it.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn execute_with(&self, statement: &str, settings: &[(&str, &str)]) -> Result<(), Fault> {
        self.ask(|client| {
            let query = client.query_raw(statement);
            settings.iter().fold(query, |query, (name, value)| query.with_setting(*name, *value)).execute()
        })
        .await
    }

    /// Its clock, Unix milliseconds.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn now(&self) -> Result<i64, Fault> {
        let clock: Vec<i64> = self.rows("SELECT toUnixTimestamp64Milli(now64(3))").await?;
        Ok(clock.first().copied().unwrap_or_default())
    }

    /// Those rows of a query that are wanted; the others are never held together.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn rows_where<R: RowOwned + RowRead>(
        &self,
        query: &str,
        is_wanted: impl Fn(&R) -> bool,
    ) -> Result<Vec<R>, Fault> {
        let is_wanted = &is_wanted;
        self.ask(|client| {
            let cursor = client.query_raw(query).fetch::<R>();
            async move {
                let (mut cursor, mut wanted) = (cursor?, Vec::new());
                while let Some(row) = cursor.next().await? {
                    wanted.extend(Some(row).filter(|row| is_wanted(row)));
                }
                Ok(wanted)
            }
        })
        .await
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn rows<R: RowOwned + RowRead>(&self, query: &str) -> Result<Vec<R>, Fault> {
        self.ask(|client| client.query_raw(query).fetch_all::<R>()).await
    }

    /// All rows of a query that is run under settings of its own.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn rows_with<R: RowOwned + RowRead>(
        &self,
        query: &str,
        settings: &[(&'static str, &'static str)],
    ) -> Result<Vec<R>, Fault> {
        self.ask(|client| {
            let query = client.query_raw(query);
            settings.iter().fold(query, |query, (name, value)| query.with_setting(*name, *value)).fetch_all::<R>()
        })
        .await
    }

    /// Columns of a table of the database, in order; none where it does not exist.
    ///
    /// # Errors
    /// The class of the failure.
    pub async fn columns(&self, table: &str) -> Result<Vec<ColumnInfo>, Fault> {
        let database = &self.database;
        let query = format!(
            "SELECT name, type FROM system.columns WHERE database = '{database}' AND table = '{table}' ORDER BY position"
        );
        self.rows(&query).await
    }

    /// Asks the first of the hosts that can answer.
    async fn ask<T, Request>(&self, request: impl Fn(&Client) -> Request) -> Result<T, Fault>
    where
        Request: Future<Output = Result<T, ClientError>>,
    {
        let mut last = Fault::RetrySame("no host is given".to_owned());
        for host in self.hosts.in_order() {
            last = match in_time(self.timeout, request(&self.servers[host].queries)).await {
                Err(fault @ Fault::OtherReplica(_)) => fault,
                answer => return answer,
            };
            self.note_failure(host, &last);
        }
        Err(last)
    }
}

async fn in_time<T>(timeout: Duration, request: impl Future<Output = Result<T, ClientError>>) -> Result<T, Fault> {
    match tokio::time::timeout(timeout, request).await {
        Ok(answer) => answer.map_err(|error| Fault::of(&error)),
        Err(_) => Err(Fault::of(&ClientError::TimedOut)),
    }
}
/// A time of Unix milliseconds, as an expression.
#[must_use]
pub fn time(milliseconds: i64) -> String {
    format!("fromUnixTimestamp64Milli({milliseconds}, 'UTC')")
}

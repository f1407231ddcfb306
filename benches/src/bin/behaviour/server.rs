//! A ClickHouse of the bench's own.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use benches::behaviour::Database;
use local::{ClickHouse, free_port};
use tempfile::TempDir;

use crate::options::Options;

/// The kernel counts processor time in hundredths of a second (USER_HZ in proc(5)).
const TICK: Duration = Duration::from_millis(10);
/// Longest time that merges may take after a load.
const PATIENCE: Duration = Duration::from_secs(4 * 3_600);
/// How often it is looked whether they have ended.
const LOOK: Duration = Duration::from_secs(2);

/// A running server.
pub struct Server {
    clickhouse: ClickHouse,
    id: u32,
    _temporary: Option<TempDir>,
}

impl Server {
    /// Starts one on free ports.
    pub fn start(options: &Options) -> anyhow::Result<Self> {
        let (directory, temporary) = match &options.directory {
            Some(directory) => (std::path::absolute(directory)?, None),
            None => {
                let temporary = tempfile::Builder::new().prefix("hitmeter-behaviour-").tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        ensure!(!directory.join("data").exists(), "{} holds a database already", directory.display());
        let mut clickhouse = ClickHouse::start(&directory, free_port()?, free_port()?)?;
        let id = clickhouse.process().id();
        Ok(Self { clickhouse, id, _temporary: temporary })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.clickhouse.url()
    }

    /// Processor time that it has used, user and system.
    pub fn processor_time(&self) -> anyhow::Result<Duration> {
        let path = format!("/proc/{}/stat", self.id);
        let stat = std::fs::read_to_string(&path).with_context(|| format!("can't read {path}"))?;
        // After the name, which stands in parentheses: state is the first, user time the 12th, system time the 13th.
        let (_, fields) = stat.rsplit_once(") ").context("an unknown form of /proc/PID/stat")?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
        Ok(ticks * TICK)
    }

    /// Ends it.
    pub fn stop(self) {
        self.clickhouse.stop();
    }
}

/// Merges those tables that elsewhere are merged an hour later, and waits for all merges, but not for ever. True where nothing
/// was left to merge.
pub fn merge(database: &Database, deadline: Instant) -> anyhow::Result<bool> {
    let partitions = "SELECT DISTINCT concat(database, '.', table, ' PARTITION ID \\'', partition_id, '\\'') AS each \
                      FROM system.parts WHERE active AND database = '{database}' AND table IN (SELECT name FROM system.tables \
                      WHERE database = '{database}' AND engine_full LIKE '%min_age_to_force_merge_seconds%') \
                      ORDER BY each DESC FORMAT TSVRaw";
    for partition in database.lines(partitions)? {
        if Instant::now() < deadline {
            database.ask(&format!("OPTIMIZE TABLE {partition} FINAL"))?;
        }
    }
    quiet_by(database, deadline)
}

/// Waits until nothing is merged any more.
pub fn rest(database: &Database) -> anyhow::Result<()> {
    ensure!(quiet_by(database, Instant::now() + PATIENCE)?, "merges do not end in time");
    Ok(())
}

/// Whether merges end before the deadline.
fn quiet_by(database: &Database, deadline: Instant) -> anyhow::Result<bool> {
    let merging = "SELECT count() FROM system.merges WHERE database = '{database}'";
    // Between two merges there may be none for a moment.
    let mut quiet = 0;
    while quiet < 3 && Instant::now() < deadline {
        quiet = if database.ask(merging)?.text == "0" { quiet + 1 } else { 0 };
        std::thread::sleep(LOOK);
    }
    Ok(quiet == 3)
}

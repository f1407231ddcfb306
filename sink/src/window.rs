//! Whether ClickHouse remembers tokens for long enough.
//!
//! A table remembers the tokens of its last `non_replicated_deduplication_window` blocks, and so does the target of each
//! materialized view that hangs off it, by a window of its own. A range that is inserted again after a recovery is dropped
//! only where its token is still among them, in every one of these tables: so each window must be at least as large as
//! the number of blocks that may be inserted during the longest recovery.
//!
//! That number: a partition's batch is cut when it is `--batch-delay` old, so there is one each delay, as long as fewer
//! than `--batch-rows` hits and `--batch-bytes` come within it (with the defaults 50,000 hits/s or 32 MiB/s a partition);
//! and what is on its way when the recovery begins comes on top. For each partition:
//! `--longest-recovery` / `--batch-delay` + [`MOST_RANGES`].
//!
//! What it does not count: a batch that is cut early, as hits of two months come mixed (around the turn of a month, one cut
//! more each time that the month changes from a hit to the next), and halves of a batch in which rows are refused (up to
//! twice the logarithm of its rows for each refused one). Both bring blocks beyond those of the delay; the default window is
//! more than twice what the defaults need, and that much is there for them.
//!
//! Nor does it look at time: replicated tables forget tokens that are older than `replicated_deduplication_window_seconds`,
//! too, however few there are. It is the operator's to keep that at `--longest-recovery` or more.
//!
//! `sink migrate` widens, `sink run` refuses to start where a window is too small.

use std::time::Duration;

use clickhouse::Row;
use serde::Deserialize;

use crate::clickhouse::{ClickHouse, TABLE};
use crate::fault::Fault;
use crate::intents::MOST_RANGES;

/// What `sink migrate` widens windows to, blocks: twice what the defaults need for twelve partitions.
pub const WIDE: u64 = 100_000;

/// What decides how many blocks come.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// Partitions of the topic.
    pub partitions: usize,
    /// Age at which a batch is cut.
    pub batch_delay: Duration,
    /// Longest time between a crash and the moment when all that it left is inserted again.
    pub longest_recovery: Duration,
}

impl Need {
    /// Blocks that may be inserted while a range waits to be inserted again.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        let cuts = self.longest_recovery.as_millis().div_ceil(self.batch_delay.as_millis().max(1));
        let partitions = self.partitions as u64;
        partitions.saturating_mul(u64::try_from(cuts).unwrap_or(u64::MAX).saturating_add(MOST_RANGES as u64))
    }
}

/// A table that has to drop what comes twice, and how many tokens it remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Database and table, quoted.
    pub table: String,
    /// Blocks.
    pub blocks: u64,
    /// The setting that decides.
    pub setting: &'static str,
}

#[derive(Row, Deserialize)]
struct Dependents {
    views: Vec<(String, String)>,
}

#[derive(Row, Deserialize)]
struct Table {
    engine: String,
    engine_full: String,
    create_table_query: String,
    uuid: String,
}

#[derive(Row, Deserialize)]
struct Setting {
    value: String,
}

/// The windows of the table `hits` and of the targets of all materialized views that hang off it.
///
/// # Errors
/// The class of the failure.
pub async fn windows(clickhouse: &ClickHouse) -> Result<Vec<Window>, Fault> {
    let mut windows = Vec::new();
    let hits = (clickhouse.database().to_owned(), TABLE.to_owned());
    windows.extend(window(clickhouse, &hits).await?);
    let query = format!(
        "SELECT arrayZip(dependencies_database, dependencies_table) AS views FROM system.tables WHERE {}",
        condition(&hits)
    );
    let dependents: Vec<Dependents> = clickhouse.rows(&query).await?;
    for view in dependents.into_iter().flat_map(|dependents| dependents.views) {
        if let Some(target) = target(clickhouse, &view).await? {
            windows.extend(window(clickhouse, &target).await?);
        }
    }
    Ok(windows)
}

/// Where a view keeps what it makes of inserted rows. None for a view that keeps nothing, or that reads at its own times.
async fn target(clickhouse: &ClickHouse, view: &(String, String)) -> Result<Option<(String, String)>, Fault> {
    let Some(found) = table(clickhouse, view).await? else { return Ok(None) };
    if found.engine != "MaterializedView" {
        return Ok(None);
    }
    let head = found.create_table_query.split(" AS ").next().unwrap_or_default();
    let words: Vec<&str> = head.split_whitespace().collect();
    if words.contains(&"REFRESH") {
        return Ok(None);
    }
    if let Some(name) = words.iter().position(|word| *word == "TO").and_then(|place| words.get(place + 1)) {
        let plain = name.replace('`', "");
        let (database, name) = plain.split_once('.').unwrap_or((&view.0, &plain));
        return Ok(Some((database.to_owned(), name.to_owned())));
    }
    let by_id = (view.0.clone(), format!(".inner_id.{}", found.uuid));
    let by_name = (view.0.clone(), format!(".inner.{}", view.1));
    Ok(Some(if table(clickhouse, &by_id).await?.is_some() { by_id } else { by_name }))
}

/// None for a table that does not exist or remembers no tokens by its nature, as one without parts.
async fn window(clickhouse: &ClickHouse, name: &(String, String)) -> Result<Option<Window>, Fault> {
    let Some(found) = table(clickhouse, name).await? else { return Ok(None) };
    if !found.engine.ends_with("MergeTree") {
        return Ok(None);
    }
    let setting = if found.engine.starts_with("Replicated") {
        "replicated_deduplication_window"
    } else {
        "non_replicated_deduplication_window"
    };
    let blocks = match setting_of(&found.engine_full, setting) {
        Some(blocks) => blocks,
        None => {
            let query = format!("SELECT value FROM system.merge_tree_settings WHERE name = '{setting}'");
            let defaults: Vec<Setting> = clickhouse.rows(&query).await?;
            defaults.first().and_then(|default| default.value.parse().ok()).unwrap_or(0)
        }
    };
    Ok(Some(Window { table: format!("`{}`.`{}`", name.0, name.1), blocks, setting }))
}

async fn table(clickhouse: &ClickHouse, name: &(String, String)) -> Result<Option<Table>, Fault> {
    let query = format!(
        "SELECT engine, engine_full, create_table_query, toString(uuid) AS uuid FROM system.tables WHERE {}",
        condition(name)
    );
    Ok(clickhouse.rows(&query).await?.pop())
}

fn condition((database, table): &(String, String)) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("database = '{}' AND name = '{}'", quoted(database), quoted(table))
}

/// The value of a setting in an engine's description.
fn setting_of(engine: &str, setting: &str) -> Option<u64> {
    let (_, settings) = engine.rsplit_once(" SETTINGS ")?;
    let mut pairs = settings.split(", ").filter_map(|pair| pair.split_once(" = "));
    pairs.find(|(name, _)| *name == setting)?.1.parse().ok()
}

/// The first window that is smaller than what is needed, told to a person.
#[must_use]
pub fn too_small(windows: &[Window], need: &Need) -> Option<(String, String)> {
    let blocks = need.blocks();
    let narrow = windows.iter().find(|window| window.blocks < blocks)?;
    let difference = format!(
        "its {} is {}, must be {blocks} or more, as {} partitions with a batch each {} s may bring so many blocks during a \
         recovery of {} s, after which ClickHouse has to know again what it has; `sink migrate --deduplication-window \
         {blocks}` widens it, a larger --batch-delay or a smaller --longest-recovery needs less",
        narrow.setting,
        narrow.blocks,
        need.partitions,
        need.batch_delay.as_secs_f64(),
        need.longest_recovery.as_secs()
    );
    Some((narrow.table.clone(), difference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_each_delay_and_what_is_on_its_way() {
        let need = |partitions, delay, recovery| Need {
            partitions,
            batch_delay: Duration::from_millis(delay),
            longest_recovery: Duration::from_secs(recovery),
        };
        // 12 x (3,600 + 32)
        assert_eq!(need(12, 1_000, 3_600).blocks(), 43_584);
        // 1 x (10 / 0.3, upwards, + 32)
        assert_eq!(need(1, 300, 10).blocks(), 66);
        assert!(need(12, 1_000, 3_600).blocks() * 2 < WIDE);
        assert!(need(usize::MAX, 0, u64::MAX).blocks() == u64::MAX);
    }

    #[test]
    fn settings_are_read_from_the_engine() {
        let engine = "MergeTree PARTITION BY a ORDER BY b SETTINGS index_granularity = 8192, non_replicated_deduplication_window = 77";
        assert_eq!(setting_of(engine, "non_replicated_deduplication_window"), Some(77));
        assert_eq!(setting_of(engine, "replicated_deduplication_window"), None);
        assert_eq!(setting_of("Memory", "index_granularity"), None);
    }
}

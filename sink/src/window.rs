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
//! Replicated tables have a second window, of time: they also forget tokens that are older than
//! `replicated_deduplication_window_seconds`, however few there are. It must be `--longest-recovery` at least. Tables that are
//! not replicated have none such.
//!
//! `sink migrate` widens, `sink run` refuses to start where a window is too small.

use std::time::Duration;

use clickhouse::Row;
use serde::Deserialize;

use crate::clickhouse::{ClickHouse, TABLE};
use crate::engine;
use crate::fault::Fault;
use crate::intents::MOST_RANGES;

/// What `sink migrate` widens windows to, blocks: twice what the defaults need for twelve partitions.
pub const WIDE: u64 = 100_000;
/// What `sink migrate` widens windows of time to, seconds: for as long as hits.enriched is kept. What is older can't be read,
/// and so not be inserted, again.
pub const WIDE_SECONDS: u64 = 7 * 24 * 3600;

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

    /// Seconds for which a token has to be remembered.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.longest_recovery.as_secs() + u64::from(self.longest_recovery.subsec_nanos() > 0)
    }
}

/// What a window counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Blocks that came after a token's.
    Blocks,
    /// Seconds that passed since.
    Seconds,
}

/// A window of a table that has to drop what comes twice. A token is remembered while it is in all windows of its table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Database and table, quoted.
    pub table: String,
    /// The setting that decides.
    pub setting: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// How many of these.
    pub width: u64,
}

/// The settings of a plain table, and of a replicated one.
const PLAIN: &[(&str, Unit)] = &[("non_replicated_deduplication_window", Unit::Blocks)];
const REPLICATED: &[(&str, Unit)] =
    &[("replicated_deduplication_window", Unit::Blocks), ("replicated_deduplication_window_seconds", Unit::Seconds)];

/// The settings that decide for how long a table of this engine remembers tokens, and where the server has their defaults.
/// None for an engine that remembers none by its nature, as one without parts.
#[must_use]
pub fn settings(engine: &str) -> (&'static [(&'static str, Unit)], &'static str) {
    match engine {
        _ if !engine.ends_with("MergeTree") => (&[], ""),
        _ if engine.starts_with("Replicated") => (REPLICATED, "system.replicated_merge_tree_settings"),
        _ => (PLAIN, "system.merge_tree_settings"),
    }
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
struct ServerSetting {
    name: String,
    value: String,
}

/// The windows of the table `hits` and of the targets of all materialized views that hang off it.
///
/// # Errors
/// The class of the failure.
pub async fn windows(clickhouse: &ClickHouse) -> Result<Vec<Window>, Fault> {
    let mut windows = Vec::new();
    let hits = (clickhouse.database().to_owned(), TABLE.to_owned());
    windows.extend(windows_of(clickhouse, &hits).await?);
    let query = format!(
        "SELECT arrayZip(dependencies_database, dependencies_table) AS views FROM system.tables WHERE {}",
        condition(&hits)
    );
    let dependents: Vec<Dependents> = clickhouse.rows(&query).await?;
    for view in dependents.into_iter().flat_map(|dependents| dependents.views) {
        if let Some(target) = target(clickhouse, &view).await? {
            windows.extend(windows_of(clickhouse, &target).await?);
        }
    }
    Ok(windows)
}

/// Whether the table `hits` writes a token down before it has the rows: that of one server does, others have both from Keeper.
///
/// # Errors
/// The class of the failure.
pub async fn tokens_come_first(clickhouse: &ClickHouse) -> Result<bool, Fault> {
    let hits = (clickhouse.database().to_owned(), TABLE.to_owned());
    let found = table(clickhouse, &hits).await?;
    Ok(clickhouse.is_one_host() && found.is_some_and(|found| found.engine == "MergeTree"))
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

/// None for a table that does not exist or remembers no tokens by its nature.
async fn windows_of(clickhouse: &ClickHouse, name: &(String, String)) -> Result<Vec<Window>, Fault> {
    let Some(found) = table(clickhouse, name).await? else { return Ok(Vec::new()) };
    let (settings, server) = settings(&found.engine);
    if settings.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<_> = settings.iter().map(|(name, _)| format!("'{name}'")).collect();
    let query = format!("SELECT name, value FROM {server} WHERE name IN ({})", names.join(", "));
    let defaults: Vec<ServerSetting> = clickhouse.rows(&query).await?;
    let window = |(setting, unit): &(&'static str, Unit)| {
        let default = || defaults.iter().find(|default| default.name == *setting)?.value.parse().ok();
        let told = engine::setting(&found.engine_full, setting).and_then(|value| value.parse().ok());
        let width = told.or_else(default).unwrap_or(0);
        Window { table: format!("`{}`.`{}`", name.0, name.1), setting, unit: *unit, width }
    };
    Ok(settings.iter().map(window).collect())
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

/// The statement that makes a window so many blocks wide, or [`WIDE_SECONDS`]. None for one that is as wide already.
#[must_use]
pub fn widening(window: &Window, blocks: u64, on_cluster: &str) -> Option<String> {
    let wide = match window.unit {
        Unit::Blocks => blocks,
        Unit::Seconds => WIDE_SECONDS,
    };
    let Window { table, setting, width, .. } = window;
    (*width < wide).then(|| format!("ALTER TABLE {table}{on_cluster} MODIFY SETTING {setting} = {wide}"))
}

/// The first window that is smaller than what is needed, told to a person: its table, and what is wrong.
#[must_use]
pub fn too_small(windows: &[Window], need: &Need) -> Option<(String, String)> {
    let (blocks, seconds) = (need.blocks(), need.seconds());
    let narrow = windows.iter().find(|window| match window.unit {
        Unit::Blocks => window.width < blocks,
        Unit::Seconds => window.width < seconds,
    })?;
    let Window { table, setting, unit, width } = narrow;
    let difference = match unit {
        Unit::Blocks => format!(
            "its {setting} is {width}, must be {blocks} or more, as {} partitions with a batch each {} s may bring so many \
             blocks during a recovery of {seconds} s, after which ClickHouse has to know again what it has; `sink migrate \
             --deduplication-window {blocks}` widens it, a larger --batch-delay or a smaller --longest-recovery needs less",
            need.partitions,
            need.batch_delay.as_secs_f64(),
        ),
        Unit::Seconds => format!(
            "its {setting} is {width}, must be {seconds} or more, as ClickHouse has to know again what it has after a \
             recovery of {seconds} s; `sink migrate` makes it {WIDE_SECONDS}, a smaller --longest-recovery needs less"
        ),
    };
    Some((table.clone(), difference))
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
    fn replicated_tables_forget_by_time_too() {
        assert_eq!(settings("ReplicatedAggregatingMergeTree").0, REPLICATED);
        assert_eq!(settings("SummingMergeTree").0, PLAIN);
        assert!(settings("Memory").0.is_empty());
        let window = |(setting, unit): &(&'static str, Unit), width| Window {
            table: "`hitmeter`.`hits`".to_owned(),
            setting,
            unit: *unit,
            width,
        };
        let need = Need {
            partitions: 1,
            batch_delay: Duration::from_secs(1),
            longest_recovery: Duration::from_millis(3_599_500),
        };
        let blocks = window(&REPLICATED[0], need.blocks());
        let enough = [blocks.clone(), window(&REPLICATED[1], 3_600)];
        assert_eq!(too_small(&enough, &need), None);
        let short = [blocks.clone(), window(&REPLICATED[1], 3_599)];
        let (table, told) = too_small(&short, &need).unwrap();
        assert_eq!(table, "`hitmeter`.`hits`");
        assert!(
            told.starts_with("its replicated_deduplication_window_seconds is 3599, must be 3600 or more"),
            "{told}"
        );
        let few = [window(&REPLICATED[0], need.blocks() - 1), window(&REPLICATED[1], 3_600)];
        assert!(
            too_small(&few, &need).unwrap().1.starts_with("its replicated_deduplication_window is 3631, must be 3632")
        );

        let widened = enough.iter().filter_map(|window| widening(window, need.blocks(), " ON CLUSTER c"));
        let expected = "ALTER TABLE `hitmeter`.`hits` ON CLUSTER c MODIFY SETTING replicated_deduplication_window_seconds = 604800";
        assert_eq!(widened.collect::<Vec<_>>(), [expected]);
        assert_eq!(widening(&window(&REPLICATED[1], WIDE_SECONDS), 1, ""), None);
    }
}

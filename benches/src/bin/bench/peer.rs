//! The usual way of loading a topic into ClickHouse, beside ours: ClickHouse's own Kafka engine, which reads JSON and hands it
//! to a materialized view. Same hits, same table without views, by turns.
//!
//! It delivers at least once, keeps nothing of what it can't read but a message in its log, and its rows don't tell which
//! message they are from; ours is read from Avro and exactly once.

use anyhow::{Context, bail};
use schemas::topics::HITS_ENRICHED;
use serde::{Deserialize, Serialize};

use crate::bed::{Bed, Cores, Service, until};
use crate::pump::{self, Message};
use crate::stages::{self, PATIENCE};

const PREFIX: &str = "peer.";
/// Hits of each run: as JSON each has all names of all columns.
const HITS: usize = 100_000;
/// Rows that the peer inserts at once: what a batch of the sink has at most.
const ROWS: usize = 50_000;

/// What one way of loading took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Loaded {
    /// Processor time of everything that loads, ClickHouse and its merges included, microseconds a hit.
    pub microseconds: f64,
    /// Kafka's.
    pub kafka: f64,
}

/// Both ways.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Peer {
    pub hits: usize,
    /// Bytes of a hit as JSON, and as Avro.
    pub json_bytes: f64,
    pub avro_bytes: f64,
    pub engine: Vec<Loaded>,
    pub ours: Vec<Loaded>,
}

/// Measures both with hits that are enriched, and in a table as the sink stored them.
pub fn measure(bed: &Bed, enriched: &[Message], stored: &str, rounds: usize) -> anyhow::Result<Peer> {
    let enriched = &enriched[..enriched.len().min(HITS)];
    let json = as_json(bed, stored, enriched.len())?;
    for (kind, messages) in [("json.", json.as_slice()), ("avro.", enriched)] {
        let prefix = format!("{PREFIX}{kind}");
        pump::create(bed, &prefix)?;
        pump::write(bed, &prefix, &HITS_ENRICHED, messages)?;
    }
    let (mut engine, mut ours) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        engine.push(by_engine(bed, stored, enriched.len(), round)?);
        ours.push(by_sink(bed, enriched.len(), round)?);
    }
    let (json_bytes, avro_bytes) = (pump::bytes(&json), pump::bytes(enriched));
    Ok(Peer { hits: enriched.len(), json_bytes, avro_bytes, engine, ours })
}

fn as_json(bed: &Bed, stored: &str, count: usize) -> anyhow::Result<Vec<Message>> {
    let rows = bed.query(&format!(
        "SELECT * EXCEPT inserted_at FROM {stored}.hits ORDER BY kafka_offset LIMIT {count} FORMAT JSONEachRow"
    ))?;
    let message = |line: &str| Message { key: Vec::new(), value: line.as_bytes().to_vec() };
    Ok(rows.lines().map(message).collect())
}

fn by_engine(bed: &Bed, stored: &str, hits: usize, round: usize) -> anyhow::Result<Loaded> {
    let database = format!("peer_engine_{round}");
    bed.query(&format!("CREATE DATABASE {database}"))?;
    bed.query(&format!("CREATE TABLE {database}.hits AS {stored}.hits"))?;
    let columns = bed.query(&format!(
        "SELECT arrayStringConcat(groupArray(concat(name, ' ', type)), ', ') FROM (SELECT name, type FROM system.columns \
         WHERE database = '{stored}' AND table = 'hits' AND name != 'inserted_at' ORDER BY position) FORMAT TSVRaw"
    ))?;
    bed.query(&format!(
        "CREATE TABLE {database}.queue ({columns}) ENGINE = Kafka SETTINGS kafka_broker_list = '{}', \
         kafka_topic_list = '{}', kafka_group_name = '{database}', kafka_format = 'JSONEachRow', \
         kafka_max_block_size = {ROWS}, kafka_poll_max_batch_size = {ROWS}",
        bed.kafka.brokers(),
        HITS_ENRICHED.full_name(&format!("{PREFIX}json.")),
    ))?;
    let loaded = watch(bed, &database, hits, || {
        bed.query(&format!(
            "CREATE MATERIALIZED VIEW {database}.load TO {database}.hits AS SELECT * FROM {database}.queue"
        ))?;
        Ok(None)
    })?;
    bed.query(&format!("DROP DATABASE {database} SYNC"))?;
    Ok(loaded)
}

fn by_sink(bed: &Bed, hits: usize, round: usize) -> anyhow::Result<Loaded> {
    let database = format!("peer_sink_{round}");
    bed.migrate(&database)?;
    // What an insert writes besides, and the peer does not.
    let views = bed.query(&format!(
        "SELECT name FROM system.tables WHERE database = '{database}' AND engine = 'MaterializedView' \
         AND create_table_query NOT LIKE '% REFRESH %'"
    ))?;
    for view in views.lines() {
        bed.query(&format!("DROP VIEW {database}.{view} SYNC"))?;
    }
    let loaded =
        watch(bed, &database, hits, || Ok(Some(bed.sink(&format!("{PREFIX}avro."), &database, Cores::MEASURED)?)))?;
    bed.query(&format!("DROP DATABASE {database} SYNC"))?;
    Ok(loaded)
}

/// Starts one of them, and looks until all hits are there and merged as far as they are.
fn watch(
    bed: &Bed,
    database: &str,
    hits: usize,
    start: impl FnOnce() -> anyhow::Result<Option<Service>>,
) -> anyhow::Result<Loaded> {
    stages::idle(bed)?;
    let (clickhouse, kafka) = (bed.clickhouse_usage()?, bed.kafka_usage()?);
    let service = start()?;
    let rows = || -> anyhow::Result<usize> {
        let count = bed.query(&format!("SELECT count() FROM {database}.hits"))?;
        count.parse().with_context(|| count.clone())
    };
    let mut there = 0;
    until("all hits are loaded", PATIENCE, || {
        there = rows()?;
        Ok(there >= hits)
    })?;
    if there != hits {
        bail!("{there} rows of {hits} hits are in {database}.hits");
    }
    let own = service.as_ref().map(|service| service.usage()).transpose()?;
    stages::idle(bed)?;
    let used = (bed.clickhouse_usage()? - clickhouse).cpu_seconds + own.map_or(0.0, |own| own.cpu_seconds);
    let kafka = (bed.kafka_usage()? - kafka).cpu_seconds;
    service.map(Service::stop).transpose()?;
    let each = |seconds: f64| seconds * 1e6 / hits.max(1) as f64;
    Ok(Loaded { microseconds: each(used), kafka: each(kafka) })
}

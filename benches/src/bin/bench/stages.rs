//! Enricher and sink, each alone: given a topic full of hits, how fast it empties it and what that takes.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use schemas::codec::decode_all;
use schemas::topics::{HITS_ENRICHED, HITS_RAW};
use schemas::{EnrichedHit, RawHit, Reader, Writer};
use sink::hits::{Block, Coordinates, HitColumns};

use serde::{Deserialize, Serialize};

use crate::bed::{Bed, Cores, Service, until};
use crate::memory::{self, Partners};
use crate::numbers::median;
use crate::pace::{self, Latency};
use crate::peer::{self, Peer};
use crate::plan::Plan;
use crate::pump::{self, Cost, Message};
use crate::usage::Usage;

/// How long a stage may take to empty its topic.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// Rows of a prepared block: as many as a batch of the sink has.
const BLOCK_ROWS: usize = 50_000;
/// The share of a stage's highest rate at which its latency is measured: busy, and not full.
const PACED_AT: f64 = 0.6;
/// Processor time a second that an idle ClickHouse uses at most, seconds.
const IDLE: f64 = 0.2;

/// How a stage went through its hits.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Stage {
    pub hits_per_second: f64,
    /// Its own processor time for one hit, microseconds.
    pub microseconds: f64,
    /// Kafka's.
    pub kafka: f64,
    /// ClickHouse's, its merges meanwhile included.
    pub clickhouse: f64,
    /// Most memory it had, bytes.
    pub peak_bytes: u64,
}

/// What was measured of enricher, sink and the floors under them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// Hits of each run.
    pub hits: usize,
    /// Bytes of a raw hit's message, on average, and of an enriched one's.
    pub raw_bytes: f64,
    pub enriched_bytes: f64,
    /// By turns.
    pub exactly_once: Vec<Stage>,
    pub at_least_once: Vec<Stage>,
    pub sink: Vec<Stage>,
    /// librdkafka alone.
    pub produce: Vec<Cost>,
    pub consume: Vec<Cost>,
    /// A raw hit to and from Avro, microseconds.
    pub encode: Vec<f64>,
    pub decode: Vec<f64>,
    pub floor: Vec<Floor>,
    /// At a share of the highest rate.
    pub enricher_latency: Latency,
    pub sink_latency: Latency,
    pub partners: Partners,
    #[serde(default)]
    pub peer: Option<Peer>,
}

/// Blocks that were prepared before, inserted into a table without views.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Floor {
    pub rows: usize,
    /// From message to compressed block, microseconds of processor time a row.
    pub encode: f64,
    /// Bytes of a row as sent.
    pub sent_bytes: f64,
    /// ClickHouse's processor time for the insert of a row, microseconds, without merges.
    pub insert: f64,
    /// ... and for one merge of all of them.
    pub merge: f64,
    /// Bytes of a row on disk after it.
    pub disk_bytes: f64,
}

/// Measures all of it with the hits that a collector left under a prefix. Each floor is measured in the same rounds as
/// what stands on it, by turns.
pub fn measure(bed: &Bed, source: &str, plan: &Plan) -> anyhow::Result<Results> {
    Cores::OTHERS.enter()?;
    let (raw, _) = pump::read(bed, source, &HITS_RAW, plan.hits)?;
    let (mut exactly_once, mut at_least_once, mut produce) = (Vec::new(), Vec::new(), Vec::new());
    let (mut consume, mut encode, mut decode) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        for (delivery, stages) in [("exactly-once", &mut exactly_once), ("at-least-once", &mut at_least_once)] {
            let prefix = format!("{delivery}-{round}.");
            pump::create(bed, &prefix)?;
            produce.push(pump::write(bed, &prefix, &HITS_RAW, &raw)?);
            stages.push(enrich(bed, &prefix, delivery, raw.len()).context(prefix)?);
        }
        consume.push(pump::read(bed, source, &HITS_RAW, plan.hits)?.1);
        let (encoding, decoding) = codec(&raw)?;
        encode.push(encoding);
        decode.push(decoding);
    }
    let enriched_prefix = "exactly-once-0.";
    let (enriched, _) = pump::read(bed, enriched_prefix, &HITS_ENRICHED, plan.hits)?;
    if enriched.len() != raw.len() {
        bail!("the enricher made {} hits of {}", enriched.len(), raw.len());
    }
    let (mut sink, mut floors) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        sink.push(load(bed, enriched_prefix, &format!("stage_{round}"), raw.len())?);
        floors.push(floor(bed, &enriched, round)?);
    }
    let paced_at = |stages: &[Stage]| median_of(stages, |stage| stage.hits_per_second) * PACED_AT;
    let time = Duration::from_secs(plan.paced);
    let results = Results {
        hits: raw.len(),
        raw_bytes: pump::bytes(&raw),
        enriched_bytes: pump::bytes(&enriched),
        enricher_latency: enricher_latency(bed, &raw, (paced_at(&exactly_once), time))?,
        sink_latency: sink_latency(bed, &enriched, (paced_at(&sink), time))?,
        partners: memory::with_partners(bed, plan.partners, &raw)?,
        peer: Some(peer::measure(bed, &enriched, "stage_0", plan.rounds)?),
        exactly_once,
        at_least_once,
        sink,
        produce,
        consume,
        encode,
        decode,
        floor: floors,
    };
    Cores::All.enter()?;
    Ok(results)
}

/// From a message's stamp to the reader of what the transaction left, both on this machine.
fn enricher_latency(bed: &Bed, raw: &[Message], pace: (f64, Duration)) -> anyhow::Result<Latency> {
    let prefix = "paced.";
    pump::create(bed, prefix)?;
    let service = bed.enricher(prefix, Cores::MEASURED, &[])?;
    let (reader, writer) = (Reader::new::<RawHit<'_>>(None)?, Writer::single_object::<RawHit<'_>>()?);
    let sent = std::sync::OnceLock::new();
    let seen = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            pace::read_enriched(bed, &HITS_ENRICHED.full_name(prefix), &HITS_ENRICHED, || sent.get().copied())
        });
        let count = pace::write(bed, &HITS_RAW.full_name(prefix), raw, pace, |message, out| {
            pace::received_now(&reader, &writer, message, out)
        });
        // Without hits the reader has read them all.
        let _ = sent.set(*count.as_ref().unwrap_or(&0));
        let seen = reading.join().map_err(|_| anyhow::anyhow!("the reader of enriched hits panicked"))?;
        count.and(seen)
    })?;
    service.stop()?;
    pace::latency(pace.0, &seen)
}

/// From a message's stamp to ClickHouse's own for the row.
fn sink_latency(bed: &Bed, enriched: &[Message], pace: (f64, Duration)) -> anyhow::Result<Latency> {
    let (prefix, database) = ("paced-sink.", "paced");
    pump::create(bed, prefix)?;
    bed.migrate(database)?;
    let service = bed.sink(prefix, database, Cores::MEASURED)?;
    let (reader, writer) = (Reader::new::<EnrichedHit<'_>>(None)?, Writer::single_object::<EnrichedHit<'_>>()?);
    let sent = pace::write(bed, &HITS_ENRICHED.full_name(prefix), enriched, pace, |message, out| {
        pace::enriched_now(&reader, &writer, message, out)
    })?;
    let inserted = || service.metric("sink_hits_total", "outcome=\"inserted\"");
    until("all paced hits are loaded", PATIENCE, || Ok(inserted()? >= sent as f64))?;
    service.stop()?;
    let rows = bed.query(&format!(
        "SELECT toUnixTimestamp64Milli(enriched_at), greatest(dateDiff('millisecond', enriched_at, inserted_at), 0) \
         FROM {database}.hits"
    ))?;
    let row = |line: &str| {
        let (stamp, milliseconds) = line.split_once('\t').context("two columns")?;
        anyhow::Ok((stamp.parse()?, milliseconds.parse()?))
    };
    pace::latency(pace.0, &rows.lines().map(row).collect::<anyhow::Result<Vec<_>>>()?)
}

/// Raw hits from Avro and back, microseconds of processor time for one.
fn codec(messages: &[Message]) -> anyhow::Result<(f64, f64)> {
    let (reader, writer) = (Reader::new::<RawHit<'_>>(None)?, Writer::single_object::<RawHit<'_>>()?);
    let (mut encode, mut decode, mut out) = (0.0, 0.0, Vec::new());
    for some in messages.chunks(1_000) {
        let begun = thread_seconds();
        let bodies = some.iter().map(|message| reader.body(&message.value)).collect::<Result<Vec<_>, _>>()?;
        let hits = bodies.iter().map(|body| decode_all(body)).collect::<Result<Vec<RawHit<'_>>, _>>()?;
        let decoded = thread_seconds();
        for hit in &hits {
            out.clear();
            writer.write(std::hint::black_box(hit), &mut out);
        }
        encode += thread_seconds() - decoded;
        decode += decoded - begun;
    }
    let each = 1e6 / messages.len().max(1) as f64;
    Ok((encode * each, decode * each))
}

fn enrich(bed: &Bed, prefix: &str, delivery: &str, hits: usize) -> anyhow::Result<Stage> {
    let service = bed.enricher(prefix, Cores::MEASURED, &["--delivery", delivery])?;
    let stage = watch(bed, &service, ("enricher_hits_total", "outcome=\"enriched\""), hits)?;
    service.stop()?;
    Ok(stage)
}

fn load(bed: &Bed, prefix: &str, database: &str, hits: usize) -> anyhow::Result<Stage> {
    bed.migrate(database)?;
    let service = bed.sink(prefix, database, Cores::MEASURED)?;
    let stage = watch(bed, &service, ("sink_hits_total", "outcome=\"inserted\""), hits)?;
    service.stop()?;
    let rows = bed.query(&format!("SELECT count() FROM {database}.hits"))?;
    if rows != hits.to_string() {
        bail!("{rows} rows of {hits} hits are in {database}.hits");
    }
    Ok(stage)
}

/// What everybody has used at one time.
struct Look {
    at: Instant,
    hits: f64,
    own: Usage,
    kafka: Usage,
    clickhouse: Usage,
}

/// Looks at a service until its counter shows all hits.
fn watch(bed: &Bed, service: &Service, counter: (&str, &str), hits: usize) -> anyhow::Result<Stage> {
    let look = || -> anyhow::Result<Look> {
        Ok(Look {
            at: Instant::now(),
            hits: service.metric(counter.0, counter.1)?,
            own: service.usage()?,
            kafka: bed.kafka_usage()?,
            clickhouse: bed.clickhouse_usage()?,
        })
    };
    let ready = look()?;
    let mut begun = None;
    loop {
        let now = look()?;
        if now.hits >= hits as f64 {
            return Ok(stage(&ready, begun.as_ref().unwrap_or(&ready), &now));
        }
        if begun.is_none() && now.hits > 0.0 {
            begun = Some(now);
        } else if now.at - ready.at > PATIENCE {
            bail!("{} of {hits} hits within {} s", now.hits, PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What was used counts from when it was ready: hits are read long before they are done. How fast it was counts from
/// the first hits that were done: the group takes its time to give out the partitions.
fn stage(ready: &Look, begun: &Look, end: &Look) -> Stage {
    let hits = (end.hits - ready.hits).max(1.0);
    let each = |last: Usage, first: Usage| (last - first).cpu_seconds * 1e6 / hits;
    Stage {
        hits_per_second: (end.hits - begun.hits) / (end.at - begun.at).as_secs_f64().max(1e-9),
        microseconds: each(end.own, ready.own),
        kafka: each(end.kafka, ready.kafka),
        clickhouse: each(end.clickhouse, ready.clickhouse),
        peak_bytes: end.own.peak_bytes,
    }
}

/// The median of a figure.
pub fn median_of(stages: &[Stage], figure: impl Fn(&Stage) -> f64) -> f64 {
    median(stages.iter().map(figure).collect())
}

/// The median of a figure of the floor.
pub fn floor_of(floors: &[Floor], figure: impl Fn(&Floor) -> f64) -> f64 {
    median(floors.iter().map(figure).collect())
}

/// Prepared blocks into a table without views. Nothing else is merged meanwhile: what the sink's rounds left to merge
/// would be charged to the floor.
fn floor(bed: &Bed, messages: &[Message], round: usize) -> anyhow::Result<Floor> {
    let begun = thread_seconds();
    // Short runs have less than one block.
    let rows_of_block = BLOCK_ROWS.min(messages.len().max(1));
    let blocks = messages.chunks_exact(rows_of_block).map(block).collect::<anyhow::Result<Vec<Block>>>()?;
    let encode_seconds = thread_seconds() - begun;
    let rows: usize = blocks.iter().map(|block| block.rows).sum();
    let each = |seconds: f64| seconds * 1e6 / rows.max(1) as f64;
    let database = format!("floor_{round}");
    bed.query(&format!("CREATE DATABASE {database}"))?;
    bed.query(&format!("CREATE TABLE {database}.hits AS stage_{round}.hits"))?;
    bed.query("SYSTEM STOP MERGES")?;
    idle(bed)?;
    let before = bed.clickhouse_usage()?;
    for (number, block) in blocks.iter().enumerate() {
        insert(bed, &database, number, &block.frames)?;
    }
    let inserted = bed.clickhouse_usage()?;
    bed.query(&format!("SYSTEM START MERGES {database}.hits"))?;
    bed.query(&format!("OPTIMIZE TABLE {database}.hits FINAL"))?;
    let merged = bed.clickhouse_usage()?;
    bed.query("SYSTEM START MERGES")?;
    let disk = bed.query(&format!(
        "SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts \
         WHERE database = '{database}' AND table = 'hits' AND active"
    ))?;
    let sent: usize = blocks.iter().map(|block| block.frames.len()).sum();
    Ok(Floor {
        rows,
        encode: each(encode_seconds),
        sent_bytes: sent as f64 / rows.max(1) as f64,
        insert: each((inserted - before).cpu_seconds),
        merge: each((merged - inserted).cpu_seconds),
        disk_bytes: disk.parse().with_context(|| disk.clone())?,
    })
}

/// Waits until ClickHouse does nothing: no merges, and next to no processor time.
pub fn idle(bed: &Bed) -> anyhow::Result<()> {
    let mut last = bed.clickhouse_usage()?;
    until("ClickHouse is idle", PATIENCE, || {
        std::thread::sleep(Duration::from_secs(1));
        let now = bed.clickhouse_usage()?;
        let used = (now - last).cpu_seconds;
        last = now;
        Ok(used < IDLE && bed.query("SELECT count() FROM system.merges")? == "0")
    })
}

fn block(messages: &[Message]) -> anyhow::Result<Block> {
    let reader = Reader::new::<EnrichedHit<'_>>(None)?;
    let mut columns = HitColumns::default();
    for (offset, message) in (0..).zip(messages) {
        let body = reader.body(&message.value)?;
        let hit: EnrichedHit<'_> = decode_all(&body)?;
        columns.push(&hit, Coordinates { partition: 0, offset });
    }
    Ok(columns.block()?)
}

fn insert(bed: &Bed, database: &str, number: usize, frames: &[u8]) -> anyhow::Result<()> {
    let mut answer = ureq::post(bed.clickhouse.url())
        .query("query", HitColumns::insert_statement(&format!("{database}.hits")))
        .query("decompress", "1")
        .query("async_insert", "0")
        .query("insert_deduplication_token", number.to_string())
        .config()
        .http_status_as_error(false)
        .build()
        .send(frames)?;
    if !answer.status().is_success() {
        bail!("ClickHouse refuses a block: {}", answer.body_mut().read_to_string()?);
    }
    Ok(())
}

fn thread_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

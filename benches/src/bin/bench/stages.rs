//! Enricher and sink, each alone: given a topic full of hits, how fast it empties it and what that takes.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use schemas::codec::decode_all;
use schemas::topics::{HITS_ENRICHED, HITS_RAW};
use schemas::{EnrichedHit, RawHit, Reader, Writer};
use sink::hits::{Block, Coordinates, HitColumns};

use crate::bed::{Bed, Cores, Service};
use crate::numbers::median;
use crate::pump::{self, Cost, Message};
use crate::usage::Usage;

/// How long a stage may take to empty its topic.
const PATIENCE: Duration = Duration::from_secs(240);
/// Rows of a prepared block: as many as a batch of the sink has.
const BLOCK_ROWS: usize = 50_000;

/// How a stage went through its hits.
#[derive(Debug, Clone, Copy)]
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
#[derive(Debug)]
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
    pub consume: Cost,
    /// A raw hit to and from Avro, microseconds.
    pub encode: f64,
    pub decode: f64,
    pub floor: Floor,
}

/// Blocks that were prepared before, inserted into a table without views.
#[derive(Debug, Clone, Copy)]
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

/// Measures all of it with the hits that a collector left under a prefix.
pub fn measure(bed: &Bed, source: &str, most: usize, rounds: usize) -> anyhow::Result<Results> {
    Cores::OTHERS.enter()?;
    let (raw, consume) = pump::read(bed, source, &HITS_RAW, most)?;
    let (mut exactly_once, mut at_least_once, mut sink, mut produce) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        for (delivery, stages) in [("exactly-once", &mut exactly_once), ("at-least-once", &mut at_least_once)] {
            let prefix = format!("{delivery}-{round}.");
            pump::create(bed, &prefix)?;
            produce.push(pump::write(bed, &prefix, &HITS_RAW, &raw)?);
            stages.push(enrich(bed, &prefix, delivery, raw.len()).context(prefix)?);
        }
    }
    let enriched_prefix = "exactly-once-0.";
    let (enriched, _) = pump::read(bed, enriched_prefix, &HITS_ENRICHED, most)?;
    if enriched.len() != raw.len() {
        bail!("the enricher made {} hits of {}", enriched.len(), raw.len());
    }
    for round in 0..rounds {
        sink.push(load(bed, enriched_prefix, &format!("stage_{round}"), raw.len())?);
    }
    let bytes = |messages: &[Message]| {
        messages.iter().map(|message| message.value.len()).sum::<usize>() as f64 / messages.len().max(1) as f64
    };
    let (encode, decode) = codec(&raw)?;
    let results = Results {
        hits: raw.len(),
        raw_bytes: bytes(&raw),
        enriched_bytes: bytes(&enriched),
        exactly_once,
        at_least_once,
        sink,
        produce,
        consume,
        encode,
        decode,
        floor: floor(bed, &enriched)?,
    };
    Cores::All.enter()?;
    Ok(results)
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

fn floor(bed: &Bed, messages: &[Message]) -> anyhow::Result<Floor> {
    let begun = thread_seconds();
    let blocks = messages.chunks_exact(BLOCK_ROWS).map(block).collect::<anyhow::Result<Vec<Block>>>()?;
    let encode_seconds = thread_seconds() - begun;
    let rows: usize = blocks.iter().map(|block| block.rows).sum();
    let each = |seconds: f64| seconds * 1e6 / rows.max(1) as f64;
    bed.query("CREATE DATABASE floor")?;
    bed.query("CREATE TABLE floor.hits AS stage_0.hits")?;
    bed.query("SYSTEM STOP MERGES floor.hits")?;
    let before = bed.clickhouse_usage()?;
    for (number, block) in blocks.iter().enumerate() {
        insert(bed, number, &block.frames)?;
    }
    let inserted = bed.clickhouse_usage()?;
    bed.query("SYSTEM START MERGES floor.hits")?;
    bed.query("OPTIMIZE TABLE floor.hits FINAL")?;
    let merged = bed.clickhouse_usage()?;
    let disk = bed.query(
        "SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts WHERE database = 'floor' AND table = 'hits' AND active",
    )?;
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

fn insert(bed: &Bed, number: usize, frames: &[u8]) -> anyhow::Result<()> {
    let mut answer = ureq::post(bed.clickhouse.url())
        .query("query", HitColumns::insert_statement("floor.hits"))
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

//! The whole path on one machine: how many hits a second it holds, and how soon each can be asked for.

use std::io::{BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use benches::load::{self, Endpoint, HitIds, HitSet, Load, Measured, Requests};

use crate::bed::{Bed, Cores, SITES, Service, until};
use crate::probe;
use crate::usage::Usage;

/// What begins the topics' names, and the database.
const PREFIX: &str = "path.";
pub const DATABASE: &str = "path";
/// A rate does not hold when one hit in a hundred can be asked for only after this, milliseconds.
const OLD: f64 = 2_000.0;
/// Hits that are not yet loaded when the load ends, as seconds of load: more, and the lag grows.
const LAG: f64 = 2.0;
/// How long what is on its way may take to arrive after the load.
const DRAINED_WITHIN: Duration = Duration::from_secs(120);
/// Sites of the hits are many visitors', so is their number of connections.
const CONNECTIONS: usize = 512;

/// The three services on the bed's servers.
#[derive(Debug)]
pub struct Path<'a> {
    bed: &'a Bed,
    collector: Service,
    enricher: Service,
    sink: Service,
    acknowledged: u64,
}

/// One load on the whole path.
#[derive(Debug)]
pub struct Step {
    pub asked: f64,
    pub seconds: f64,
    /// Hits sent, answered 2xx, in the table, there more than once, and answered but not there.
    pub sent: u64,
    pub acknowledged: u64,
    pub rows: u64,
    pub doubled: u64,
    pub missing: u64,
    /// Hits a second that were acknowledged.
    pub rate: f64,
    /// Latency of the answers, milliseconds: 50 and 99 of 100 are below.
    pub answers: [f64; 2],
    /// From received to enriched, from there to inserted, and all of it, milliseconds, by the rows' own stamps.
    pub enriched: [f64; 2],
    pub inserted: [f64; 2],
    pub age: [f64; 2],
    /// From sending a hit to finding it by asking ClickHouse, milliseconds.
    pub probes: [f64; 2],
    pub probe_count: usize,
    /// Hits on their way when the load ended.
    pub lag: f64,
    pub programs: Vec<Program>,
}

/// What a program used under a load.
#[derive(Debug, Clone)]
pub struct Program {
    pub name: &'static str,
    /// Processor time for one hit, microseconds.
    pub microseconds: f64,
    /// Most memory so far, bytes.
    pub peak_bytes: u64,
}

impl Step {
    /// Whether the rate was held: everything arrived once, soon, and nothing piled up.
    pub fn holds(&self) -> bool {
        self.is_exact() && self.rate > self.asked * 0.97 && self.age[1] < OLD && self.lag < self.asked * LAG
    }

    /// Sent = acknowledged = rows.
    pub fn is_exact(&self) -> bool {
        self.sent == self.acknowledged && self.rows == self.acknowledged && self.doubled == 0 && self.missing == 0
    }
}

impl<'a> Path<'a> {
    /// Starts it, as `make up` does, the collector with further options.
    pub fn start(bed: &'a Bed, collector_options: &[&str]) -> anyhow::Result<Self> {
        bed.migrate(DATABASE)?;
        let sink = bed.sink(PREFIX, DATABASE, Cores::All)?;
        let enricher = bed.enricher(PREFIX, Cores::All, &[])?;
        let spool = bed.path("spool").display().to_string();
        let collector = bed.collector(PREFIX, Cores::All, &[&["--spool", &spool], collector_options].concat())?;
        Ok(Self { bed, collector, enricher, sink, acknowledged: 0 })
    }

    /// Stops it in order.
    pub fn stop(self) -> anyhow::Result<()> {
        self.collector.stop()?;
        self.enricher.stop()?;
        self.sink.stop()
    }

    /// Puts a load of pixels on it and waits until all has arrived.
    pub fn step(&mut self, rate: f64, seconds: u64) -> anyhow::Result<Step> {
        let address = self.collector.address.context("a collector listens")?;
        let load = Load {
            address,
            rate,
            time: Duration::from_secs(seconds + 2),
            warm_up: Duration::from_secs(2),
            connections: CONNECTIONS,
            patience: Duration::from_secs(10),
            seed: fastrand::u64(..),
        };
        let mut requests =
            Requests::prepare(&address.to_string(), &SITES.map(str::to_owned), Endpoint::Pixel, load.seed)?;
        let begun = now_milliseconds();
        let over = AtomicBool::new(false);
        let probes = Mutex::new(Vec::new());
        let (begin, has_begun) = mpsc::channel();
        let services: &Self = self;
        let (measured, before, probed) = std::thread::scope(|scope| {
            let before =
                scope.spawn(move || has_begun.recv().context("the load did not begin").and_then(|()| services.usage()));
            let probing = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let seen = probe::send(services.bed, address, DATABASE)?;
                    probes.lock().unwrap_or_else(PoisonError::into_inner).push(seen.as_secs_f64() * 1e3);
                }
                anyhow::Ok(())
            });
            let measured = load::run(&load, &mut requests, move || {
                // Whoever listens may have failed, and says so itself.
                let _ = begin.send(());
            });
            let after = services.usage();
            let lag = services.lag();
            over.store(true, Ordering::Relaxed);
            (measured.map(|measured| (measured, after, lag)), before.join(), probing.join())
        });
        let (measured, after, lag) = measured?;
        let panicked = |_| anyhow::anyhow!("a thread that looks on panicked");
        let before = before.map_err(panicked)??;
        probed.map_err(panicked)??;
        let probes = probes.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.acknowledged += measured.acknowledged.count() + probes.len() as u64;
        self.drain(measured.unanswered)?;
        let programs = programs(&before, &after?, &measured);
        self.judge(Facts { load, ids: requests.hit_ids(), begun, measured, probes, lag: lag?, programs })
    }

    /// What each program has used so far.
    fn usage(&self) -> anyhow::Result<[(&'static str, Usage); 5]> {
        Ok([
            ("collector", self.collector.usage()?),
            ("enricher", self.enricher.usage()?),
            ("sink", self.sink.usage()?),
            ("Kafka", self.bed.kafka_usage()?),
            ("ClickHouse", self.bed.clickhouse_usage()?),
        ])
    }

    /// Hits between the collector and the table.
    fn lag(&self) -> anyhow::Result<f64> {
        Ok(self.enricher.metric("enricher_consumer_lag", "")? + self.sink.metric("sink_consumer_lag_messages", "")?)
    }

    /// Waits until all hits that were acknowledged are loaded. One whose answer was lost may be there too.
    fn drain(&self, unanswered: u64) -> anyhow::Result<()> {
        let wanted = self.acknowledged as f64;
        let loaded = || self.sink.metric("sink_hits_total", "outcome=\"inserted\"");
        until("all hits are loaded", DRAINED_WITHIN, || Ok(loaded()? >= wanted))
            .with_context(|| format!("{wanted} hits were acknowledged, {unanswered} were not answered"))
    }

    fn judge(&self, facts: Facts) -> anyhow::Result<Step> {
        let Facts { load, ids, begun, measured, mut probes, lag, programs } = facts;
        let arrived = self.arrived(ids, begun)?;
        let missing = measured.acknowledged.iter().filter(|hit| !arrived.hits.contains(*hit)).count() as u64;
        let at = |quantile| measured.latency.value_at_quantile(quantile) as f64 / 1e3;
        let from = begun + load.warm_up.as_millis() as i64;
        probes.sort_by(f64::total_cmp);
        let probe = |quantile: f64| probes.get((probes.len() as f64 * quantile) as usize).copied().unwrap_or_default();
        Ok(Step {
            asked: load.rate,
            seconds: measured.seconds,
            sent: measured.sent,
            acknowledged: measured.acknowledged.count(),
            rows: arrived.rows,
            doubled: arrived.rows - arrived.hits.count(),
            missing,
            rate: measured.rate(),
            answers: [at(0.5), at(0.99)],
            enriched: self.quantiles("received_at", "enriched_at", from)?,
            inserted: self.quantiles("enriched_at", "inserted_at", from)?,
            age: self.quantiles("received_at", "inserted_at", from)?,
            probes: [probe(0.5), probe(0.99)],
            probe_count: probes.len(),
            lag,
            programs,
        })
    }

    /// Half of the hits, and 99 of 100, took at most so long from one stamp to another, milliseconds.
    fn quantiles(&self, first: &str, last: &str, from: i64) -> anyhow::Result<[f64; 2]> {
        let text = self.bed.query(&format!(
            "SELECT arrayStringConcat(quantiles(0.5, 0.99)(dateDiff('millisecond', {first}, {last})), ' ') \
             FROM {DATABASE}.hits WHERE received_at >= fromUnixTimestamp64Milli({from}, 'UTC')"
        ))?;
        let (half, most) = text.split_once(' ').with_context(|| format!("no quantiles: {text}"))?;
        Ok([half.parse()?, most.parse()?])
    }

    /// The hits of a load that are in the table, read one by one.
    fn arrived(&self, ids: HitIds, from: i64) -> anyhow::Result<Arrived> {
        let sql = format!(
            "SELECT hit_id FROM {DATABASE}.hits WHERE received_at >= fromUnixTimestamp64Milli({from}, 'UTC') FORMAT RowBinary"
        );
        let answer = ureq::post(self.bed.clickhouse.url()).send(sql)?;
        let mut reader = BufReader::with_capacity(1 << 20, answer.into_body().into_reader());
        let (mut arrived, mut bytes) = (Arrived::default(), [0; 16]);
        loop {
            match reader.read_exact(&mut bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(arrived),
                Err(error) => bail!("can't read the hit ids: {error}"),
            }
            // RowBinary: two numbers of 64 bits, each little-endian, the first of them the upper half.
            bytes[..8].reverse();
            bytes[8..].reverse();
            // Probes are no hits of the load.
            if let Some(sequence) = ids.sequence(uuid::Uuid::from_bytes(bytes)) {
                arrived.rows += 1;
                arrived.hits.insert(sequence);
            }
        }
    }
}

/// What is known once all has arrived.
struct Facts {
    load: Load,
    ids: HitIds,
    begun: i64,
    measured: Measured,
    probes: Vec<f64>,
    lag: f64,
    programs: Vec<Program>,
}

#[derive(Default)]
struct Arrived {
    rows: u64,
    hits: HitSet,
}

fn programs(before: &[(&'static str, Usage)], after: &[(&'static str, Usage)], measured: &Measured) -> Vec<Program> {
    let hits = measured.measured.max(1) as f64;
    let mut programs: Vec<Program> = (before.iter().zip(after))
        .map(|((name, before), (_, after))| Program {
            name,
            microseconds: (*after - *before).cpu_seconds * 1e6 / hits,
            peak_bytes: after.peak_bytes,
        })
        .collect();
    programs.push(Program { name: "the load itself", microseconds: measured.own_microseconds(), peak_bytes: 0 });
    programs
}

fn now_milliseconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// Rates from the first on, each half as much again, until one does not hold; then between the last that held and that
/// one. The steps in order; the highest that held is the answer.
pub fn search(path: &mut Path<'_>, first: f64, seconds: u64) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let (mut held, mut failed, mut rate) = (0.0, f64::INFINITY, first);
    while failed / held > 1.1 && steps.len() < 12 {
        let step = path.step(rate, seconds)?;
        let holds = step.holds();
        eprintln!(
            "  {rate:>7.0}/s: age p50 {:.0} ms, p99 {:.0} ms, lag {:.0}: {}",
            step.age[0],
            step.age[1],
            step.lag,
            if holds { "held" } else { "not held" }
        );
        steps.push(step);
        if holds {
            held = rate
        } else {
            failed = rate
        }
        if held == 0.0 && rate < 500.0 {
            break;
        }
        rate = match (held, failed) {
            (0.0, failed) => failed / 2.0,
            (held, f64::INFINITY) => held * 1.5,
            (held, failed) => f64::midpoint(held, failed),
        };
    }
    Ok(steps)
}

//! The whole path on one machine: how many hits a second it holds, and how soon each can be asked for.

use std::io::{BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use benches::load::{self, Endpoint, HitIds, HitSet, Load, Measured, Requests};

use serde::{Deserialize, Serialize};

use crate::bed::{Bed, Cores, SITES, Service, until};
use crate::numbers::trend;
use crate::probe::{self, Seen};
use crate::usage::Usage;

/// What begins the topics' names, and the database.
const PREFIX: &str = "path.";
pub const DATABASE: &str = "path";
/// A rate does not hold when one hit in a hundred can be asked for only after this, milliseconds.
const OLD: f64 = 2_000.0;
/// Hits that are not yet loaded when the load ends, as seconds of load: more, and the lag grows.
const LAG: f64 = 2.0;
/// The lag's trend over the whole load, as seconds of load: more, and a longer load would pile up hits.
const GROWTH: f64 = 1.0;
/// Between two looks at the lag under load.
const LAG_LOOK: Duration = Duration::from_millis(500);
/// How long what is on its way may take to arrive after the load.
const DRAINED_WITHIN: Duration = Duration::from_secs(120);
/// Lag that is none: the ends of transactions count as messages, and nobody reads them.
const MARKERS: f64 = 100.0;
/// Between two looks for hits that were acknowledged and are not there: all ids are read each time.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// A rate that did not hold for long is tried again at this share of it, ...
const STEP_DOWN: f64 = 0.9;
/// ... so often.
const LONG_RUNS: usize = 4;
/// Sites of the hits are many visitors', so is their number of connections.
const CONNECTIONS: usize = 512;

/// The three services on the bed's servers.
#[derive(Debug)]
pub struct Path<'a> {
    bed: &'a Bed,
    collector: Service,
    enricher: Service,
    sink: Service,
}

/// One load on the whole path.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    /// Probes that were refused, or were not found while they were looked for.
    pub probes_lost: usize,
    /// Hits on their way when the load ended.
    pub lag: f64,
    /// How many of them became more with each second, by the trend of all looks.
    pub lag_growth: f64,
    /// Whether nothing was on its way any more, in time after the load.
    pub drained: bool,
    pub programs: Vec<Program>,
}

/// What a program used under a load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Program {
    pub name: String,
    /// Processor time for one hit, microseconds.
    pub microseconds: f64,
    /// Most memory so far, bytes.
    pub peak_bytes: u64,
}

impl Step {
    /// Whether the rate was held: everything arrived once, soon, and nothing piled up.
    pub fn holds(&self) -> bool {
        self.failures().is_empty()
    }

    /// What the rate was not held by.
    pub fn failures(&self) -> Vec<&'static str> {
        [
            (!self.is_exact(), "count"),
            (self.rate <= self.asked * 0.97, "answers"),
            (self.age[1] >= OLD, "age"),
            (self.probes[1] >= OLD || self.probes_lost > 0, "probes"),
            (self.lag >= self.asked * LAG, "lag"),
            (self.lag_growth * self.seconds >= self.asked * GROWTH, "growing lag"),
            (!self.drained, "not drained"),
        ]
        .into_iter()
        .filter_map(|(failed, name)| failed.then_some(name))
        .collect()
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
        Ok(Self { bed, collector, enricher, sink })
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
        let (begin, has_begun) = mpsc::channel();
        let services: &Self = self;
        let (measured, before, lags, seen) = std::thread::scope(|scope| {
            let over = &over;
            let looking = scope.spawn(move || {
                has_begun.recv().context("the load did not begin")?;
                anyhow::Ok((services.usage()?, services.watch_lag(over)?))
            });
            let probing = scope.spawn(move || probe::until(services.bed, address, DATABASE, over));
            let measured = load::run(&load, &mut requests, move || {
                // Whoever listens may have failed, and says so itself.
                let _ = begin.send(());
            });
            let after = services.usage();
            let lag = services.lag();
            over.store(true, Ordering::Relaxed);
            let panicked = |_| anyhow::anyhow!("a thread that looks on panicked");
            let (before, lags) = looking.join().map_err(panicked)??;
            let seen = probing.join().map_err(panicked)?;
            anyhow::Ok(((measured?, after?, lag?), before, lags, seen))
        })?;
        let (measured, after, lag) = measured;
        let (drained, arrived) = self.drain(requests.hit_ids(), begun, &measured.acknowledged)?;
        let programs = programs(&before, &after, &measured);
        self.judge(Facts { load, begun, measured, seen, lag, lag_growth: trend(&lags), drained, arrived, programs })
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

    /// Looks at the lag until the load is over: seconds, and hits.
    fn watch_lag(&self, over: &AtomicBool) -> anyhow::Result<Vec<(f64, f64)>> {
        let (begun, mut lags) = (Instant::now(), Vec::new());
        while !over.load(Ordering::Relaxed) {
            lags.push((begun.elapsed().as_secs_f64(), self.lag()?));
            std::thread::sleep(LAG_LOOK);
        }
        Ok(lags)
    }

    /// Waits until nothing is on its way and each hit that was acknowledged is in the table. Whether that was in time,
    /// and what is there. Numbers of hits would not do: one whose answer was lost may be there too.
    fn drain(&self, ids: HitIds, from: i64, acknowledged: &HitSet) -> anyhow::Result<(bool, Arrived)> {
        let deadline = Instant::now() + DRAINED_WITHIN;
        loop {
            let is_empty = self.lag()? <= MARKERS;
            if is_empty || Instant::now() >= deadline {
                let arrived = self.arrived(ids, from)?;
                let drained = is_empty && arrived.missing(acknowledged) == 0;
                if drained || Instant::now() >= deadline {
                    return Ok((drained, arrived));
                }
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits, long after a load that was too much, until the next one finds nothing before it.
    fn recover(&self) -> anyhow::Result<()> {
        until("nothing is on its way", DRAINED_WITHIN * 4, || Ok(self.lag()? <= MARKERS))
    }

    fn judge(&self, facts: Facts) -> anyhow::Result<Step> {
        let Facts { load, begun, measured, seen, lag, lag_growth, drained, arrived, programs } = facts;
        let at = |quantile| measured.latency.value_at_quantile(quantile) as f64 / 1e3;
        let from = begun + load.warm_up.as_millis() as i64;
        let mut probes: Vec<f64> = seen.iter().filter_map(Seen::milliseconds).collect();
        probes.sort_by(f64::total_cmp);
        let probe = |quantile: f64| probes.get((probes.len() as f64 * quantile) as usize).copied().unwrap_or_default();
        Ok(Step {
            asked: load.rate,
            seconds: measured.seconds,
            sent: measured.sent,
            acknowledged: measured.acknowledged.count(),
            rows: arrived.rows,
            doubled: arrived.rows - arrived.hits.count(),
            missing: arrived.missing(&measured.acknowledged),
            rate: measured.rate(),
            answers: [at(0.5), at(0.99)],
            enriched: self.quantiles("received_at", "enriched_at", from)?,
            inserted: self.quantiles("enriched_at", "inserted_at", from)?,
            age: self.quantiles("received_at", "inserted_at", from)?,
            probes: [probe(0.5), probe(0.99)],
            probe_count: probes.len(),
            probes_lost: seen.len() - probes.len(),
            lag,
            lag_growth,
            drained,
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
    begun: i64,
    measured: Measured,
    seen: Vec<Seen>,
    lag: f64,
    lag_growth: f64,
    drained: bool,
    arrived: Arrived,
    programs: Vec<Program>,
}

#[derive(Default)]
struct Arrived {
    rows: u64,
    hits: HitSet,
}

impl Arrived {
    /// How many of the hits that were acknowledged are not there.
    fn missing(&self, acknowledged: &HitSet) -> u64 {
        acknowledged.iter().filter(|hit| !self.hits.contains(*hit)).count() as u64
    }
}

fn programs(before: &[(&'static str, Usage)], after: &[(&'static str, Usage)], measured: &Measured) -> Vec<Program> {
    let hits = measured.measured.max(1) as f64;
    let mut programs: Vec<Program> = (before.iter().zip(after))
        .map(|((name, before), (_, after))| Program {
            name: (*name).to_owned(),
            microseconds: (*after - *before).cpu_seconds * 1e6 / hits,
            peak_bytes: after.peak_bytes,
        })
        .collect();
    programs.push(Program {
        name: "the load itself".to_owned(),
        microseconds: measured.own_microseconds(),
        peak_bytes: 0,
    });
    programs
}

fn now_milliseconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// Rates from the first on, each half as much again, until one does not hold; then between the last that held and that
/// one. Each step is told as soon as it is done; the highest that held is the answer, if one did.
pub fn search(
    path: &mut Path<'_>,
    first: f64,
    seconds: u64,
    mut tell: impl FnMut(Step) -> anyhow::Result<()>,
) -> anyhow::Result<Option<f64>> {
    let mut rates = Search::from(first);
    while let Some(rate) = rates.next() {
        let step = path.step(rate, seconds)?;
        say(&step);
        rates.note(step.holds());
        let drained = step.drained;
        tell(step)?;
        if !drained {
            path.recover()?;
        }
    }
    Ok(rates.best())
}

/// The same rate for long. Where it was found by short steps and does not hold for long, lower ones are tried.
pub fn hold(
    path: &mut Path<'_>,
    rate: f64,
    seconds: u64,
    steps_down: bool,
    mut tell: impl FnMut(Step) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut rate = rate;
    for _ in 0..if steps_down { LONG_RUNS } else { 1 } {
        let step = path.step(rate, seconds)?;
        say(&step);
        let (holds, drained) = (step.holds(), step.drained);
        tell(step)?;
        if holds {
            break;
        }
        if !drained {
            path.recover()?;
        }
        rate *= STEP_DOWN;
    }
    Ok(())
}

fn say(step: &Step) {
    let failures = step.failures();
    let verdict = if failures.is_empty() { "held".to_owned() } else { format!("not held: {}", failures.join(", ")) };
    eprintln!(
        "  {:>7.0}/s for {:.0} s: age p50 {:.0} ms, p99 {:.0} ms, lag {:.0}: {verdict}",
        step.asked, step.seconds, step.age[0], step.age[1], step.lag
    );
}

/// Which rate to try next.
#[derive(Debug)]
struct Search {
    held: f64,
    failed: f64,
    rate: f64,
    tried: usize,
}

impl Search {
    /// Between a rate that holds and one that does not, no more than this is left open.
    const CLOSE: f64 = 1.1;
    /// Rates that are tried at most.
    const MOST: usize = 12;
    /// Rates below are not worth asking for.
    const LEAST: f64 = 500.0;

    fn from(rate: f64) -> Self {
        Self { held: 0.0, failed: f64::INFINITY, rate, tried: 0 }
    }

    fn next(&self) -> Option<f64> {
        let is_open = self.failed / self.held > Self::CLOSE && self.tried < Self::MOST;
        (is_open && self.rate >= Self::LEAST).then_some(self.rate)
    }

    fn note(&mut self, holds: bool) {
        self.tried += 1;
        if holds {
            self.held = self.rate;
        } else {
            self.failed = self.rate;
        }
        self.rate = match (self.held, self.failed) {
            (0.0, failed) => failed / 2.0,
            (held, f64::INFINITY) => held * 1.5,
            (held, failed) => f64::midpoint(held, failed),
        };
    }

    fn best(&self) -> Option<f64> {
        (self.held > 0.0).then_some(self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that a step must show to hold.
    fn good() -> Step {
        let (sent, acknowledged, rows) = (15_000, 15_000, 15_000);
        Step {
            asked: 1_000.0,
            rate: 1_000.0,
            seconds: 15.0,
            sent,
            acknowledged,
            rows,
            drained: true,
            ..Step::default()
        }
    }

    #[test]
    fn a_rate_is_held_only_when_nothing_speaks_against_it() {
        assert!(good().holds());
        for (worse, named) in [
            (Step { rows: 14_999, missing: 1, ..good() }, "count"),
            (Step { rate: 900.0, ..good() }, "answers"),
            (Step { age: [500.0, 2_100.0], ..good() }, "age"),
            (Step { probes: [500.0, 2_100.0], ..good() }, "probes"),
            (Step { probes_lost: 1, ..good() }, "probes"),
            (Step { lag: 2_100.0, ..good() }, "lag"),
            (Step { lag_growth: 80.0, ..good() }, "growing lag"),
            (Step { drained: false, ..good() }, "not drained"),
        ] {
            assert_eq!(worse.failures(), [named]);
        }
    }

    #[test]
    fn the_search_comes_close_to_the_highest_rate_that_holds() {
        for most in [700.0, 4_100.0, 21_000.0, 90_000.0] {
            let mut search = Search::from(4_000.0);
            while let Some(rate) = search.next() {
                search.note(rate <= most);
            }
            let best = search.best().unwrap();
            assert!(best <= most && best > most / 1.11, "{best} of {most}");
        }
        let mut search = Search::from(4_000.0);
        while search.next().is_some() {
            search.note(false);
        }
        assert_eq!(search.best(), None);
    }
}

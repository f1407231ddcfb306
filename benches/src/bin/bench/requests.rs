//! Servers that answer requests: nginx and the collector, under the same load.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use benches::load::{self, Endpoint, Load, Measured, Requests};
use serde::{Deserialize, Serialize};

use crate::bed::{Bed, Cores, SITES, Service};
use crate::nginx::Nginx;
use crate::numbers::median;
use crate::usage::Usage;

/// A server does not hold a rate when it answers less than this share of it ...
const HELD: f64 = 0.97;
/// ... or when one answer in a hundred takes longer than this, milliseconds.
const SLOW: f64 = 250.0;
/// Rates of the sweep, requests a second.
const SWEEP: [f64; 12] = [
    1_000.0, 2_500.0, 5_000.0, 10_000.0, 15_000.0, 20_000.0, 25_000.0, 30_000.0, 40_000.0, 50_000.0, 60_000.0, 80_000.0,
];
/// Requests a second at which two servers are held against each other: far from what either can take.
pub const COMPARED_AT: f64 = 10_000.0;
/// Hits a second of the batches.
pub const BATCH_RATE: f64 = 30_000.0;
/// Hits of one batch.
pub const BATCH_HITS: u32 = 100;
/// Connections of the memory test.
pub const MANY_CONNECTIONS: usize = 10_000;

/// What a server did under a load.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Point {
    /// Requests a second that were sent.
    pub asked: f64,
    /// Requests a second that were answered 2xx.
    pub rate: f64,
    /// Latency, milliseconds: half, 99 of 100 and 999 of 1,000 are below.
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    /// The server's processor time for one request, microseconds.
    pub microseconds: f64,
    /// Kafka's.
    pub kafka: f64,
    /// The load's own.
    pub own_microseconds: f64,
    /// Most memory of the server so far, bytes.
    pub peak_bytes: u64,
}

impl Point {
    /// Whether the server kept up.
    pub fn holds(&self) -> bool {
        self.rate >= self.asked * HELD && self.p99 < SLOW
    }
}

/// How long the parts take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// Rounds of A and B.
    pub rounds: usize,
    /// Seconds of one of them.
    pub round: u64,
    /// Seconds of one rate of a sweep.
    pub step: u64,
}

/// What was measured of the servers that answer requests.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// nginx, where it is installed, and the collector: by turns, at one rate.
    pub nginx: Vec<Point>,
    pub collector: Vec<Point>,
    /// By rate.
    pub nginx_sweep: Vec<Point>,
    pub collector_sweep: Vec<Point>,
    /// The collector's batches; its figures are for one hit.
    pub batch: Point,
    /// A collector with many connections.
    pub many: Point,
    /// Hits that the load sent to the collector's topic, and how many of them were acknowledged.
    pub sent: u64,
    pub acknowledged: u64,
}

/// The topics start so in which the pixels' hits are. Enricher and sink are measured with them: of many people, each
/// with headers of their own, so that the enricher's caches miss as often as they do in earnest. (All hits of a batch
/// have the headers of one sender.)
pub const PREFIX: &str = "pixel.";

/// Measures all of it, and leaves `fill` hits of pixels at least in the topic. The collector is started with further
/// options.
pub fn measure(bed: &Bed, times: Times, fill: u64, collector_options: &[&str]) -> anyhow::Result<Results> {
    Cores::OTHERS.enter()?;
    let nginx = Nginx::start(bed, Cores::MEASURED)?;
    let collector = bed.collector(PREFIX, Cores::MEASURED, collector_options)?;
    let address = collector.address.context("a collector listens")?;
    let (mut nginx_rounds, mut collector_rounds) = (Vec::new(), Vec::new());
    let mut count = Count::default();
    for _ in 0..times.rounds {
        if let Some(nginx) = &nginx {
            let load = load_of(nginx.address, COMPARED_AT, times.round);
            nginx_rounds.push(put(&load, Endpoint::Pixel, || Ok([nginx.usage()?, bed.kafka_usage()?]))?.0);
        }
        let load = load_of(address, COMPARED_AT, times.round);
        collector_rounds.push(count.put(bed, &load, Endpoint::Pixel, &collector)?);
    }
    let mut nginx_sweep = Vec::new();
    if let Some(nginx) = &nginx {
        nginx_sweep = sweep(|rate| {
            Ok(put(&load_of(nginx.address, rate, times.step), Endpoint::Pixel, || {
                Ok([nginx.usage()?, bed.kafka_usage()?])
            })?
            .0)
        })?;
    }
    let collector_sweep =
        sweep(|rate| count.put(bed, &load_of(address, rate, times.step), Endpoint::Pixel, &collector))?;
    let lacking = fill.saturating_sub(count.acknowledged) as f64;
    if lacking > 0.0 {
        let load = load_of(address, COMPARED_AT, (lacking * 1.05 / COMPARED_AT).ceil() as u64);
        count.put(bed, &load, Endpoint::Pixel, &collector)?;
    }
    collector.stop()?;

    let collector = bed.collector("batch.", Cores::MEASURED, collector_options)?;
    let address = collector.address.context("a collector listens")?;
    let load = load_of(address, BATCH_RATE / f64::from(BATCH_HITS), times.round * 2);
    let batch = per_hit(count.put(bed, &load, Endpoint::Batch(BATCH_HITS), &collector)?, f64::from(BATCH_HITS));
    collector.stop()?;

    let collector = bed.collector("many.", Cores::MEASURED, collector_options)?;
    let address = collector.address.context("a collector listens")?;
    let load = Load { connections: MANY_CONNECTIONS, ..load_of(address, COMPARED_AT / 2.0, times.round.max(5)) };
    let many = count.put(bed, &load, Endpoint::Pixel, &collector)?;
    collector.stop()?;
    Cores::All.enter()?;
    Ok(Results {
        nginx: nginx_rounds,
        collector: collector_rounds,
        nginx_sweep,
        collector_sweep,
        batch,
        many,
        sent: count.sent,
        acknowledged: count.acknowledged,
    })
}

/// Hits sent and acknowledged.
#[derive(Debug, Default)]
struct Count {
    sent: u64,
    acknowledged: u64,
}

impl Count {
    fn put(&mut self, bed: &Bed, load: &Load, endpoint: Endpoint, collector: &Service) -> anyhow::Result<Point> {
        let (point, measured) = put(load, endpoint, || Ok([collector.usage()?, bed.kafka_usage()?]))?;
        self.sent += measured.hits;
        self.acknowledged += measured.acknowledged.count();
        Ok(point)
    }
}

/// A pixel load of some seconds, the first of which is not measured.
pub fn load_of(address: SocketAddr, rate: f64, seconds: u64) -> Load {
    Load {
        address,
        rate,
        time: Duration::from_secs(seconds + 1),
        warm_up: Duration::from_secs(1),
        connections: 256,
        patience: Duration::from_secs(5),
        seed: fastrand::u64(..),
    }
}

/// Puts a load on a server and looks at what the server used for it, and Kafka.
pub fn put(
    load: &Load,
    endpoint: Endpoint,
    usage: impl Fn() -> anyhow::Result<[Usage; 2]> + Sync,
) -> anyhow::Result<(Point, Measured)> {
    let sites = SITES.map(str::to_owned);
    let mut requests = Requests::prepare(&load.address.to_string(), &sites, endpoint, load.seed)?;
    let (begin, begun) = mpsc::channel();
    let usage = &usage;
    // Looked at by another thread, so that no request is late for it.
    let (measured, before) = std::thread::scope(|scope| {
        let before = scope.spawn(move || begun.recv().context("the load did not begin").and_then(|()| usage()));
        let measured = load::run(load, &mut requests, move || {
            // Whoever listens may have failed, and says so itself.
            let _ = begin.send(());
        });
        (measured, before.join())
    });
    let measured = measured?;
    let before = before.map_err(|_| anyhow::anyhow!("looking at the server panicked"))??;
    let after = usage()?;
    Ok((point(load, &measured, [after[0] - before[0], after[1] - before[1]]), measured))
}

fn point(load: &Load, measured: &Measured, [used, kafka]: [Usage; 2]) -> Point {
    let at = |quantile| measured.latency.value_at_quantile(quantile) as f64 / 1e3;
    Point {
        asked: load.rate,
        rate: measured.rate(),
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        microseconds: used.cpu_seconds * 1e6 / measured.measured.max(1) as f64,
        kafka: kafka.cpu_seconds * 1e6 / measured.measured.max(1) as f64,
        own_microseconds: measured.own_microseconds(),
        peak_bytes: used.peak_bytes,
    }
}

/// Rises the rate until it is not held.
fn sweep(mut put: impl FnMut(f64) -> anyhow::Result<Point>) -> anyhow::Result<Vec<Point>> {
    let mut points = Vec::new();
    for rate in SWEEP {
        let point = put(rate)?;
        eprintln!("  {:>7.0}/s: p50 {:.2} ms, p99 {:.2} ms, {:.1} us", rate, point.p50, point.p99, point.microseconds);
        points.push(point);
        if !point.holds() {
            break;
        }
    }
    Ok(points)
}

fn per_hit(point: Point, hits: f64) -> Point {
    Point {
        asked: point.asked * hits,
        rate: point.rate * hits,
        microseconds: point.microseconds / hits,
        kafka: point.kafka / hits,
        own_microseconds: point.own_microseconds / hits,
        ..point
    }
}

/// The median of a figure.
pub fn median_of(points: &[Point], figure: impl Fn(&Point) -> f64) -> f64 {
    median(points.iter().map(figure).collect())
}

/// The highest rate that was held, requests a second.
pub fn most(points: &[Point]) -> f64 {
    points.iter().filter(|point| point.holds()).map(|point| point.rate).fold(0.0, f64::max)
}

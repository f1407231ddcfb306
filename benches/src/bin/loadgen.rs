//! Puts an open-loop load of realistic hits on a collector, and says how it answered.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use benches::load::{self, Endpoint, Load, Measured, Requests};
use clap::Parser;

/// Puts an open-loop load on a collector: requests are sent when they are due, whether or not the last ones are
/// answered, and latency counts from when they were due.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version)]
struct Options {
    /// Where the collector listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    address: SocketAddr,
    /// Hits a second
    #[arg(long, value_name = "HITS", default_value = "1000")]
    rate: f64,
    /// How long, seconds
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    seconds: f64,
    /// At the start of it, so many seconds are not measured
    #[arg(long, value_name = "SECONDS", default_value = "1")]
    warm_up: f64,
    /// Connections
    #[arg(long, value_name = "COUNT", default_value = "256")]
    connections: usize,
    /// Hits of one request: 1 is sent as a pixel, more as JSON
    #[arg(long, value_name = "COUNT", default_value = "1")]
    batch: u32,
    /// Keys of the sites that the hits are for, which the collector must know
    #[arg(long, value_name = "KEY", value_delimiter = ',', default_value = "demo")]
    site: Vec<String>,
    /// What the load is drawn from; the same seed sends the same hits under the same ids
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// File for the ids of the hits that were acknowledged, one a line
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let endpoint = if options.batch > 1 { Endpoint::Batch(options.batch) } else { Endpoint::Pixel };
    let mut requests = Requests::prepare(&options.address.to_string(), &options.site, endpoint, seed)
        .context("can't read the user agents; run deploy/local/fetch.py")?;
    let load = Load {
        address: options.address,
        rate: options.rate / endpoint.hits() as f64,
        time: Duration::try_from_secs_f64(options.seconds).context("--seconds")?,
        warm_up: Duration::try_from_secs_f64(options.warm_up).context("--warm-up")?,
        connections: options.connections,
        patience: Duration::from_secs(10),
        seed,
    };
    let measured = load::run(&load, &mut requests, || ())?;
    print(&measured, endpoint, seed);
    if let Some(path) = options.ids {
        write_ids(&path, &requests, &measured).with_context(|| format!("can't write {}", path.display()))?;
    }
    Ok(())
}

fn print(measured: &Measured, endpoint: Endpoint, seed: u64) {
    let Measured { sent, hits, acknowledged, refused, unanswered, latency, lateness, .. } = measured;
    println!("seed {seed}: {sent} requests sent with {hits} hits");
    println!("{} hits acknowledged, {refused} requests refused, {unanswered} unanswered", acknowledged.count());
    println!("{:.0} hits/s acknowledged", measured.rate() * endpoint.hits() as f64);
    for (name, histogram) in [("latency", latency), ("lateness", lateness)] {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        let (half, most, nearly_all) = (at(0.5), at(0.99), at(0.999));
        println!("{name} ms: p50 {half:.2}, p99 {most:.2}, p99.9 {nearly_all:.2}, max {:.2}", at(1.0));
    }
    println!("{:.2} us of processor time a request for the load itself", measured.own_microseconds());
}

fn write_ids(path: &std::path::Path, requests: &Requests, measured: &Measured) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let ids = requests.hit_ids();
    for sequence in measured.acknowledged.iter() {
        writeln!(file, "{}", ids.id(sequence))?;
    }
    file.flush()
}

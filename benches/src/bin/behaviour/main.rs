//! What analysts' questions cost on traffic of months: loads it, waits until ClickHouse is at rest, asks, and prints
//! Markdown with the targets beside.

mod cost;
mod options;
mod questions;
mod report;
mod server;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use benches::behaviour::{Database, Place, load};
use benches::traffic::{Settings, Traffic, World};
use clap::Parser;
use tokio::runtime::Runtime;

use crate::options::Options;
use crate::questions::{Measured, Subjects};
use crate::report::Report;
use crate::server::Server;

/// How long visitors count as live.
const LIVE: i64 = 4 * 60_000;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let runtime = Runtime::new()?;
    let server = Server::start(&options)?;
    let mut report = Report::new(&options);
    if options.cost_hits > 0 {
        report.cost(&cost::measure(&options, &runtime, &server)?);
    }
    let database = Database::new(&server.url(), "behaviour")?;
    runtime.block_on(database.migrate())?;
    report.made(&generate(&options, now()?));
    let world = World::new(Settings::new(options.seed, options.hits, now()?));
    report.loaded(&fill(&runtime, &server, &database, &world)?);
    report.disk(&database)?;
    report.settled(&load_live(&options, &runtime, &server, &database)?);
    let subjects = Subjects::find(&database, world.settings.end)?;
    report.questions(&ask(&options, &database, &subjects)?);
    report.write(&options)?;
    server.stop();
    Ok(())
}

fn now() -> anyhow::Result<i64> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    Ok(i64::try_from(since_epoch.as_millis())?)
}

/// How long traffic takes to make, without anything else: hits and time.
fn generate(options: &Options, end: i64) -> (u64, Duration) {
    let world = World::new(Settings::new(options.seed, options.hits.min(1_000_000), end));
    let began = Instant::now();
    let hits = Traffic::new(&world).map(std::hint::black_box).count();
    (hits as u64, began.elapsed())
}

/// How loading went.
struct Filled {
    hits: u64,
    loading: Duration,
    settling: Duration,
    loading_processor: Duration,
    processor: Duration,
}

fn fill(runtime: &Runtime, server: &Server, database: &Database, world: &World) -> anyhow::Result<Filled> {
    let (began, processor) = (Instant::now(), server.processor_time()?);
    let place = Place { epoch: "bench", partition: 0 };
    database.stop_views()?;
    database.backdate()?;
    let loaded = load(runtime.handle(), database, &place, Traffic::new(world))?;
    database.end_backdating()?;
    let loading = began.elapsed();
    eprintln!("{} hits in {loading:?}", loaded.rows);
    let loading_processor = server.processor_time()? - processor;
    database.settle()?;
    let settling = began.elapsed() - loading;
    eprintln!("settled after {settling:?} more");
    server::rest(database)?;
    let processor = server.processor_time()? - processor;
    Ok(Filled { hits: loaded.rows, loading, settling, loading_processor, processor })
}

/// The last minutes again, by other visitors: those of the load are gone by now. Settling them is what settling costs from
/// day to day.
fn load_live(options: &Options, runtime: &Runtime, server: &Server, database: &Database) -> anyhow::Result<Settling> {
    let days = Settings::new(0, 1, 0);
    let hits = options.hits as i64 * LIVE / (days.end - days.start);
    let settings = Settings::new(options.seed + 1, hits.max(100) as u64, now()?).lasting(LIVE);
    let world = World::new(Settings { companies: 200, ..settings });
    database.stop_views()?;
    database.backdate()?;
    let loaded = load(runtime.handle(), database, &Place { epoch: "live", partition: 1 }, Traffic::new(&world))?;
    database.end_backdating()?;
    let (began, processor) = (Instant::now(), server.processor_time()?);
    database.settle()?;
    Ok(Settling { hits: loaded.rows, took: began.elapsed(), processor: server.processor_time()? - processor })
}

/// What it took to settle some minutes of traffic.
struct Settling {
    hits: u64,
    took: Duration,
    processor: Duration,
}

fn ask(options: &Options, database: &Database, subjects: &Subjects) -> anyhow::Result<Vec<Measured>> {
    let questions = questions::questions(subjects);
    questions
        .into_iter()
        .map(|question| {
            let measured = Measured::of(question, database, options.rounds);
            eprintln!("{}: {:?}", measured.question.about, measured.answer);
            Ok(measured)
        })
        .collect()
}

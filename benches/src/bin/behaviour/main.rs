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
use sink::views::rebuild::rebuild;
use tokio::runtime::Runtime;

use crate::options::Options;
use crate::questions::{Measured, Subjects};
use crate::report::Report;
use crate::server::Server;

/// How long visitors count as live.
const LIVE: i64 = 4 * 60_000;

/// Share of the time for loading that is spent on it: sessions take a third of that, and merging as much again.
const LOADING: f64 = 0.55;
/// Time at the end: for the questions, and for the two minutes that hits are left before they are settled.
const ASKING: Duration = Duration::from_secs(170);
/// How often it is told how far loading is.
const TELL: Duration = Duration::from_secs(15);

fn main() -> anyhow::Result<()> {
    let (options, began) = (Options::parse(), Instant::now());
    let runtime = Runtime::new()?;
    let server = Server::start(&options)?;
    let mut report = Report::new(&options);
    if options.cost_hits > 0 {
        report.cost(&cost::measure(&options, &runtime, &server)?);
        eprintln!("what views cost is measured after {:.0?}", began.elapsed());
    }
    let database = Database::new(&server.url(), "behaviour")?;
    runtime.block_on(database.migrate())?;
    report.made(&generate(&options, now()?));
    let world = World::new(Settings::new(options.seed, options.hits, now()?));
    let merged_by = began + options.budget().saturating_sub(ASKING);
    let deadline = Instant::now() + loading_time(&options, merged_by);
    let filled = fill(&runtime, &server, &database, &world, deadline)?;
    report.loaded(&filled);
    report.merged(server::merge(&database, merged_by)?);
    report.disk(&database)?;
    let subjects = Subjects::find(&database, filled.end)?;
    let waiting = load_live(&options, &runtime, &database)?;
    report.questions(&ask(&options, &database, &subjects)?, waiting);
    report.settled(&settle_live(&server, &database, waiting)?);
    report.write(&options)?;
    server.stop();
    Ok(())
}

/// How long may be loaded; where no time is left, a tenth of all, as questions need something to be asked of.
fn loading_time(options: &Options, merged_by: Instant) -> Duration {
    merged_by.saturating_duration_since(Instant::now()).mul_f64(LOADING).max(options.budget() / 10)
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
    /// When the last hit arrived that was loaded, Unix milliseconds.
    end: i64,
    loading: Duration,
    settling: Duration,
    loading_processor: Duration,
    settling_processor: Duration,
}

/// Loads until the deadline, and then makes all sessions at once, as after any load of a history.
fn fill(
    runtime: &Runtime,
    server: &Server,
    database: &Database,
    world: &World,
    deadline: Instant,
) -> anyhow::Result<Filled> {
    let (began, processor) = (Instant::now(), server.processor_time()?);
    database.stop_views()?;
    database.backdate()?;
    let (mut hits, mut end, mut told) = (0_u64, 0, began);
    let in_time = Traffic::new(world).take_while(|_| Instant::now() < deadline).inspect(|hit| {
        (hits, end) = (hits + 1, hit.hit.received_at);
        if told.elapsed() > TELL {
            told = Instant::now();
            eprintln!("{hits} hits after {:.0?}", began.elapsed());
        }
    });
    let loaded = load(runtime.handle(), database, &Place { epoch: "bench", partition: 0 }, in_time)?;
    database.end_backdating()?;
    let (loading, loading_processor) = (began.elapsed(), server.processor_time()? - processor);
    eprintln!("{} hits in {loading:.0?}", loaded.rows);
    runtime.block_on(rebuild(database.clickhouse().clone(), None, "settled_sessions", |share| {
        eprint!("sessions: {share}")
    }))?;
    database.settle()?;
    database.stop_views()?;
    let (settling, all) = (began.elapsed() - loading, server.processor_time()? - processor);
    eprintln!("settled after {settling:.0?} more");
    let settling_processor = all - loading_processor;
    Ok(Filled { hits: loaded.rows, end, loading, settling, loading_processor, settling_processor })
}

/// The last minutes again, by other visitors: those of the load are gone by now. They wait to be settled, as hits of the
/// last minutes always do when a question is asked.
fn load_live(options: &Options, runtime: &Runtime, database: &Database) -> anyhow::Result<u64> {
    let days = Settings::new(0, 1, 0);
    let hits = options.hits as i64 * LIVE / (days.end - days.start);
    let settings = Settings::new(options.seed + 1, hits.max(100) as u64, now()?).lasting(LIVE);
    let world = World::new(Settings { companies: 200, ..settings });
    let loaded = load(runtime.handle(), database, &Place { epoch: "live", partition: 1 }, Traffic::new(&world))?;
    Ok(loaded.rows)
}

/// What settling costs from day to day.
fn settle_live(server: &Server, database: &Database, hits: u64) -> anyhow::Result<Settling> {
    database.wait_until_settleable()?;
    let (began, processor) = (Instant::now(), server.processor_time()?);
    database.settle()?;
    Ok(Settling { hits, took: began.elapsed(), processor: server.processor_time()? - processor })
}

/// What it took to settle some minutes of traffic.
struct Settling {
    hits: u64,
    took: Duration,
    processor: Duration,
}

fn ask(options: &Options, database: &Database, subjects: &Subjects) -> anyhow::Result<Asked> {
    let before = questions::yardstick(database, options.rounds)?;
    let asked = questions::questions(subjects).into_iter().map(|question| {
        let measured = Measured::of(question, database, options.rounds);
        eprintln!("{}: {:?}", measured.question.about, measured.answer);
        measured
    });
    let measured = asked.collect();
    let after = questions::yardstick(database, options.rounds)?;
    Ok(Asked { measured, yardsticks: [before, after] })
}

/// All that was asked.
struct Asked {
    measured: Vec<Measured>,
    /// What the yardstick took before and after.
    yardsticks: [Duration; 2],
}

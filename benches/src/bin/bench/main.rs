//! Measures the services, each alone and all together, and writes a report.

mod bed;
mod flame;
mod memory;
mod nginx;
mod numbers;
mod pace;
mod path;
mod peer;
mod plan;
mod plot;
mod probe;
mod profile;
mod pump;
mod record;
mod report;
mod requests;
mod stages;
mod usage;

use std::path::PathBuf;

use anyhow::Context;
use bed::Bed;
use clap::{Args, Parser, Subcommand};
use plan::Plan;
use record::Record;

/// Measures the services on a Kafka and a ClickHouse that it starts, and writes a report.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
struct Options {
    #[command(subcommand)]
    command: Command,
    /// Folder for the report
    #[arg(long, value_name = "FOLDER", default_value = "target/bench", global = true)]
    output: PathBuf,
    /// A further option of the collector, to see what it does: --collector-option=--publish-linger=10
    #[arg(long, value_name = "OPTION", global = true, allow_hyphen_values = true)]
    collector_option: Vec<String>,
    /// Hits that wait for enricher and sink
    #[arg(long, value_name = "COUNT", global = true)]
    hits: Option<usize>,
    /// Short runs, to see that all of it works; the figures mean little
    #[arg(long, global = true)]
    quick: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Collector, enricher and sink, each alone, beside nginx, librdkafka and prepared blocks
    Stages,
    /// The collector alone, beside nginx
    Requests,
    /// All together
    Path(PathOptions),
    /// All of it
    All(AllOptions),
    /// Where each service's processor time goes: flame graphs, by perf
    Profile,
}

#[derive(Debug, Args)]
struct PathOptions {
    /// Hits a second; the highest rate that holds is searched for where it is not given
    #[arg(long, value_name = "HITS")]
    rate: Option<f64>,
    /// How long the whole path is under load in the end
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    seconds: u64,
}

#[derive(Debug, Args)]
struct AllOptions {
    #[command(flatten)]
    path: PathOptions,
    /// What `cargo bench` printed, to be part of the report
    #[arg(long, value_name = "FILE")]
    micro: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let plan = Plan::new(&options);
    eprint!("{}", plan.told(&options.command));
    let bed = Bed::start()?;
    let mut record = Record::open(&options.output, bed.query("SELECT version()")?)?;
    match &options.command {
        Command::Requests => measure_requests(&bed, &plan, &mut record)?,
        Command::Stages => measure_stages(&bed, &plan, &mut record)?,
        Command::Path(path) => measure_path(&bed, &plan, &mut record, path)?,
        Command::Profile => measure_profile(&bed, &plan, &mut record)?,
        Command::All(all) => {
            if let Some(file) = &all.micro {
                let micro = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
                record.write("micro", |report| report.micro = micro)?;
            }
            measure_stages(&bed, &plan, &mut record)?;
            measure_path(&bed, &plan, &mut record, &all.path)?;
            measure_profile(&bed, &plan, &mut record)?;
        }
    }
    println!("The report is {}.", record.file().display());
    Ok(())
}

fn measure_requests(bed: &Bed, plan: &Plan, record: &mut Record) -> anyhow::Result<()> {
    eprintln!("nginx and the collector");
    let results = requests::measure(bed, plan.times, plan.hits as u64, &plan.collector_options())?;
    record.write("requests", |report| report.requests = Some(results))
}

fn measure_stages(bed: &Bed, plan: &Plan, record: &mut Record) -> anyhow::Result<()> {
    measure_requests(bed, plan, record)?;
    eprintln!("enricher and sink");
    let results = stages::measure(bed, requests::PREFIX, plan)?;
    record.write("stages", |report| report.stages = Some(results))
}

/// The search, and then long at the highest rate that held; or at the rate that was asked for.
fn measure_path(bed: &Bed, plan: &Plan, record: &mut Record, options: &PathOptions) -> anyhow::Result<()> {
    eprintln!("the whole path");
    let mut path = path::Path::start(bed, &plan.collector_options())?;
    let rate = match options.rate {
        Some(rate) => Some(rate),
        None => {
            record.write("search", |report| report.search.clear())?;
            path::search(&mut path, plan.first_rate, plan.step, |step| {
                record.write("search", |report| report.search.push(step))
            })?
        }
    };
    if let Some(rate) = rate {
        record.write("long run", |report| report.runs.clear())?;
        let seconds = if plan.quick { options.seconds.min(plan.step) } else { options.seconds };
        path::hold(&mut path, rate, seconds, options.rate.is_none(), |step| {
            record.write("long run", |report| report.runs.push(step))
        })?;
    }
    path.stop()
}

fn measure_profile(bed: &Bed, plan: &Plan, record: &mut Record) -> anyhow::Result<()> {
    eprintln!("profiles");
    let profiles = profile::measure(bed, plan, record.folder())?;
    record.write("profiles", |report| report.profiles = profiles)
}

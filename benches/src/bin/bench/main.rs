//! Measures the services, each alone and all together, and writes a report.

mod bed;
mod nginx;
mod numbers;
mod path;
mod plot;
mod probe;
mod pump;
mod report;
mod requests;
mod stages;
mod usage;

use std::path::PathBuf;

use anyhow::Context;
use bed::Bed;
use clap::{Args, Parser, Subcommand};
use report::Report;
use requests::Times;

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
}

#[derive(Debug, Args)]
struct PathOptions {
    /// Hits a second; the highest rate that holds is searched for where it is not given
    #[arg(long, value_name = "HITS")]
    rate: Option<f64>,
    /// How long
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    seconds: u64,
}

#[derive(Debug, Args)]
struct AllOptions {
    /// How long the whole path is under load in the end
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    seconds: u64,
    /// What `cargo bench` printed, to be part of the report
    #[arg(long, value_name = "FILE")]
    micro: Option<PathBuf>,
}

/// How long everything takes, and what is tried.
struct Plan {
    collector: Vec<String>,
    times: Times,
    hits: usize,
    rounds: usize,
    first_rate: f64,
    step: u64,
}

impl Plan {
    fn new(Options { quick, collector_option, .. }: &Options) -> Self {
        let collector = collector_option.clone();
        if *quick {
            let times = Times { rounds: 1, round: 2, step: 2 };
            return Self { collector, times, hits: 120_000, rounds: 1, first_rate: 2_000.0, step: 4 };
        }
        let times = Times { rounds: 5, round: 6, step: 4 };
        Self { collector, times, hits: 1_000_000, rounds: 3, first_rate: 4_000.0, step: 15 }
    }
}

impl Plan {
    fn collector_options(&self) -> Vec<&str> {
        self.collector.iter().map(String::as_str).collect()
    }
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let plan = Plan::new(&options);
    let bed = Bed::start()?;
    let mut report = Report { clickhouse: bed.query("SELECT version()")?, ..Report::default() };
    match &options.command {
        Command::Requests => measure_requests(&bed, &plan, &mut report)?,
        Command::Stages => measure_stages(&bed, &plan, &mut report)?,
        Command::Path(path) => measure_path(&bed, &plan, &mut report, path)?,
        Command::All(all) => {
            if let Some(file) = &all.micro {
                report.micro = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            }
            measure_stages(&bed, &plan, &mut report)?;
            measure_path(&bed, &plan, &mut report, &PathOptions { rate: None, seconds: all.seconds })?;
        }
    }
    write(&options.output, &report)
}

fn measure_requests(bed: &Bed, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    eprintln!("nginx and the collector");
    report.requests = Some(requests::measure(bed, plan.times, plan.hits as u64, &plan.collector_options())?);
    Ok(())
}

fn measure_stages(bed: &Bed, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    measure_requests(bed, plan, report)?;
    eprintln!("enricher and sink");
    report.stages = Some(stages::measure(bed, requests::PREFIX, plan.hits, plan.rounds)?);
    Ok(())
}

fn measure_path(bed: &Bed, plan: &Plan, report: &mut Report, options: &PathOptions) -> anyhow::Result<()> {
    eprintln!("the whole path");
    let mut path = path::Path::start(bed, &plan.collector_options())?;
    let rate = match options.rate {
        Some(rate) => rate,
        None => {
            report.search = path::search(&mut path, plan.first_rate, plan.step)?;
            report.search.iter().filter(|step| step.holds()).map(|step| step.asked).fold(500.0, f64::max)
        }
    };
    eprintln!("  {rate:.0}/s for {} s", options.seconds);
    report.run = Some(path.step(rate, options.seconds)?);
    path.stop()
}

fn write(folder: &std::path::Path, report: &Report) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    if let Some(plot) = report.plot() {
        std::fs::write(folder.join("latency.svg"), plot)?;
    }
    let file = folder.join("RESULTS.md");
    let text = report.markdown("latency.svg");
    std::fs::write(&file, &text)?;
    println!("{text}\nThis is in {}.", file.display());
    Ok(())
}

//! Where the services' processor time goes, as flame graphs. `perf` samples by the clock where the machine has no
//! hardware counters, as in most virtual machines.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use benches::load::{self, Endpoint, Requests};
use schemas::topics::{HITS_ENRICHED, HITS_RAW};
use serde::{Deserialize, Serialize};

use crate::bed::{Bed, Cores, SITES, Service, until};
use crate::plan::Plan;
use crate::{flame, pump, requests};

/// Samples a second.
const FREQUENCY: &str = "199";
/// Bytes of the stack that are kept with each sample, to be unwound later.
const STACK: &str = "dwarf,16384";
/// How long a stage may take with all hits.
const PATIENCE: Duration = Duration::from_secs(240);

/// The flame graph of a service, or why there is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Profile {
    pub service: String,
    /// A file beside the report.
    pub file: Option<String>,
    pub samples: u64,
    pub problem: String,
}

/// Samples each service at its work.
pub fn measure(bed: &Bed, plan: &Plan, folder: &Path) -> anyhow::Result<Vec<Profile>> {
    let prefix = "profile.";
    Cores::OTHERS.enter()?;
    let seconds = if plan.quick { 3 } else { 15 };
    let mut profiles = Vec::new();
    let collector = bed.collector(prefix, Cores::MEASURED, &plan.collector_options())?;
    let address = collector.address.context("a collector listens")?;
    let load = requests::load_of(address, requests::COMPARED_AT, seconds);
    let mut pixels = Requests::prepare(&address.to_string(), &SITES.map(str::to_owned), Endpoint::Pixel, load.seed)?;
    profiles.push(watch("collector", &collector, folder, bed, || {
        load::run(&load, &mut pixels, || ())?;
        Ok(())
    })?);
    collector.stop()?;

    let (raw, _) = pump::read(bed, prefix, &HITS_RAW, plan.hits)?;
    let enricher = bed.enricher(prefix, Cores::MEASURED, &[])?;
    profiles.push(watch("enricher", &enricher, folder, bed, || {
        done(&enricher, ("enricher_hits_total", "outcome=\"enriched\""), raw.len())
    })?);
    enricher.stop()?;

    let (enriched, _) = pump::read(bed, prefix, &HITS_ENRICHED, plan.hits)?;
    bed.migrate("profile")?;
    let sink = bed.sink(prefix, "profile", Cores::MEASURED)?;
    profiles.push(watch("sink", &sink, folder, bed, || {
        done(&sink, ("sink_hits_total", "outcome=\"inserted\""), enriched.len())
    })?);
    sink.stop()?;
    Cores::All.enter()?;
    Ok(profiles)
}

fn done(service: &Service, counter: (&str, &str), hits: usize) -> anyhow::Result<()> {
    until("all hits are through", PATIENCE, || Ok(service.metric(counter.0, counter.1)? >= hits as f64))
}

/// Samples a service while some work is done. A machine without `perf` has no graph and says so.
fn watch(
    name: &str,
    service: &Service,
    folder: &Path,
    bed: &Bed,
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Profile> {
    let data = bed.path(&format!("{name}.perf"));
    let processes: Vec<String> = service.processes()?.iter().map(u32::to_string).collect();
    let recording = Command::new("perf")
        .args(["record", "-e", "cpu-clock", "-F", FREQUENCY, "--call-graph", STACK, "-p", &processes.join(",")])
        .arg("-o")
        .arg(&data)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    work()?;
    let graph =
        recording.context("perf can't be run; it is in Debian's package linux-perf").and_then(|mut recording| {
            let process = rustix::process::Pid::from_child(&recording);
            rustix::process::kill_process(process, rustix::process::Signal::INT)?;
            recording.wait()?;
            graph(name, &data, folder)
        });
    let (service, file) = (name.to_owned(), Some(format!("{name}.svg")));
    Ok(match graph {
        Ok(samples) => Profile { service, file, samples, problem: String::new() },
        Err(problem) => Profile { service, file: None, samples: 0, problem: format!("{problem:#}") },
    })
}

/// Draws what was recorded; how many samples there are.
fn graph(name: &str, data: &Path, folder: &Path) -> anyhow::Result<u64> {
    let script = Command::new("perf")
        .args(["script", "--no-inline", "-F", "comm,ip,sym", "-i"])
        .arg(data)
        .stderr(Stdio::null())
        .output()?;
    let root = flame::fold(&String::from_utf8_lossy(&script.stdout));
    if root.samples == 0 {
        bail!("perf took no samples; does /proc/sys/kernel/perf_event_paranoid permit it?");
    }
    std::fs::write(folder.join(format!("{name}.svg")), flame::draw(&format!("{name}: processor time"), &root))?;
    Ok(root.samples)
}

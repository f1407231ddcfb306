//! The report: what was measured, on what, beside what was aimed at.

mod tables;
mod targets;

use std::collections::BTreeMap;
use std::fmt::Write;

use benches::results::told;
use serde::{Deserialize, Serialize};

use crate::nginx::Nginx;
use crate::numbers::mebibytes;
use crate::path::Step;
use crate::plot::{self, Line};
use crate::profile::Profile;
use crate::requests::{self, Point};
use crate::stages;

/// All that was measured; what was not asked for is nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub clickhouse: String,
    /// When, and of which commit, each part was measured.
    pub origins: BTreeMap<String, String>,
    pub requests: Option<requests::Results>,
    pub stages: Option<stages::Results>,
    /// The search for the highest rate, and the long runs.
    pub search: Vec<Step>,
    pub runs: Vec<Step>,
    pub profiles: Vec<Profile>,
    /// What the program `behaviour` found: its section, as it stands.
    #[serde(default)]
    pub behaviour: String,
    /// What `cargo bench` printed.
    pub micro: String,
}

impl Report {
    /// The whole text; `plot` is where the plot is, from where the text will be.
    pub fn markdown(&self, plot: &str) -> String {
        let mut text = String::from("# Results\n\n");
        text.push_str(
            "Written by `make bench`; [README.md](README.md) says what each figure is and how to repeat it.\n\n",
        );
        text.push_str(&self.machine());
        self.write_targets(&mut text);
        tables::requests(&mut text, self.requests.as_ref(), plot);
        tables::stages(&mut text, self.stages.as_ref());
        tables::path(&mut text, &self.search, &self.runs);
        tables::profiles(&mut text, &self.profiles);
        if !self.behaviour.is_empty() {
            let _ = writeln!(text, "\n{}", self.behaviour.trim());
        }
        if !self.micro.is_empty() {
            let _ = writeln!(text, "\n## Step by step\n\n```text\n{}\n```", self.micro.trim());
        }
        text
    }

    /// Latency against rate.
    pub fn plot(&self) -> Option<String> {
        let results = self.requests.as_ref()?;
        let mut lines = Vec::new();
        for (server, points) in [("nginx empty_gif", &results.nginx_sweep), ("collector", &results.collector_sweep)] {
            for (name, figure) in [("p50", (|point| point.p50) as fn(&Point) -> f64), ("p99", |point| point.p99)] {
                let points = points.iter().map(|point| (point.rate, figure(point))).collect();
                lines.push(Line { name: format!("{server} {name}"), points });
            }
        }
        for (name, place) in [("path: age p50", 0), ("path: age p99", 1)] {
            let mut points: Vec<_> = self.search.iter().map(|step| (step.rate, step.age[place])).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            lines.push(Line { name: name.to_owned(), points });
        }
        lines.retain(|line| !line.points.is_empty());
        Some(plot::draw("Latency against rate", &lines))
    }

    fn machine(&self) -> String {
        let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
            line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = field(&file("/proc/meminfo"), "MemTotal");
        let kilobytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        let rows = [
            (
                "processor",
                format!("{}, {} of them", field(&file("/proc/cpuinfo"), "model name"), crate::usage::processors()),
            ),
            ("memory", mebibytes(kilobytes * 1024)),
            ("kernel", file("/proc/sys/kernel/osrelease").trim().to_owned()),
            ("load average when this was written", file("/proc/loadavg").trim().to_owned()),
            ("compiler", told("rustc", &["--version"])),
            ("Kafka", kafka_version()),
            ("ClickHouse", self.clickhouse.clone()),
            ("nginx", Nginx::version().unwrap_or_else(|_| "not installed".to_owned())),
            ("librdkafka", rdkafka::util::get_rdkafka_version().1),
        ];
        let mut text = String::from("| | |\n|---|---|\n");
        let origins = self.origins.iter().map(|(part, origin)| (part.as_str(), origin.clone()));
        for (name, value) in rows.into_iter().chain(origins) {
            let _ = writeln!(text, "| {name} | {value} |");
        }
        text
    }
}

/// From the name of its jar.
fn kafka_version() -> String {
    let jars = std::fs::read_dir(local::Paths::new().kafka_libraries()).into_iter().flatten().flatten();
    let name = |jar: std::fs::DirEntry| {
        Some(jar.file_name().to_str()?.strip_prefix("kafka-clients-")?.strip_suffix(".jar")?.to_owned())
    };
    jars.filter_map(name).next().unwrap_or_default()
}

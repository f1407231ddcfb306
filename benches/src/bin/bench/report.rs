//! The report: what was measured, on what, beside what was aimed at.

use std::fmt::Write;
use std::process::Command;

use crate::nginx::Nginx;
use crate::numbers::{mebibytes, median, thousands};
use crate::path::Step;
use crate::plot::{self, Line};
use crate::requests::{self, BATCH_HITS, COMPARED_AT, MANY_CONNECTIONS, Point};
use crate::stages::{self, Stage};

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// All that was measured; what was not asked for is nothing.
#[derive(Debug, Default)]
pub struct Report {
    pub clickhouse: String,
    pub requests: Option<requests::Results>,
    pub stages: Option<stages::Results>,
    /// The search for the highest rate, and the long run.
    pub search: Vec<Step>,
    pub run: Option<Step>,
    /// What `cargo bench` printed.
    pub micro: String,
}

/// A line of the table of targets.
struct Target {
    step: &'static str,
    target: String,
    measured: String,
    is_met: bool,
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
        if let Some(results) = &self.requests {
            write_requests(&mut text, results, plot);
        }
        if let Some(results) = &self.stages {
            write_stages(&mut text, results);
        }
        self.write_path(&mut text);
        if !self.micro.is_empty() {
            let _ = writeln!(text, "## Step by step\n\n```text\n{}\n```", self.micro.trim());
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
        let changed = if told("git", &["status", "--porcelain"]).is_empty() {
            ""
        } else {
            ", with changes that are not committed"
        };
        let rows = [
            ("date", told("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
            ("commit", format!("{}{changed}", told("git", &["rev-parse", "--short=12", "HEAD"]))),
            (
                "processor",
                format!("{}, {} of them", field(&file("/proc/cpuinfo"), "model name"), crate::usage::processors()),
            ),
            ("memory", mebibytes(kilobytes * 1024)),
            ("kernel", file("/proc/sys/kernel/osrelease").trim().to_owned()),
            ("load before", file("/proc/loadavg").trim().to_owned()),
            ("compiler", told("rustc", &["--version"])),
            ("Kafka", kafka_version()),
            ("ClickHouse", self.clickhouse.clone()),
            ("nginx", Nginx::version().unwrap_or_else(|_| "not installed".to_owned())),
            ("librdkafka", rdkafka::util::get_rdkafka_version().1),
        ];
        let mut text = String::from("| | |\n|---|---|\n");
        for (name, value) in rows {
            let _ = writeln!(text, "| {name} | {value} |");
        }
        text
    }

    fn write_targets(&self, text: &mut String) {
        let targets: Vec<Target> = [self.request_targets(), self.stage_targets(), self.path_targets()].concat_all();
        if targets.is_empty() {
            return;
        }
        text.push_str("\n## Targets\n\n| step | target | measured | |\n|---|---|---|---|\n");
        for Target { step, target, measured, is_met } in targets {
            let verdict = if is_met { "met" } else { "**missed**" };
            let _ = writeln!(text, "| {step} | {target} | {measured} | {verdict} |");
        }
    }

    fn request_targets(&self) -> Vec<Target> {
        let Some(results) = &self.requests else { return Vec::new() };
        let mut targets = Vec::new();
        let own = requests::median_of(&results.collector, |point| point.microseconds);
        if !results.nginx.is_empty() {
            let floor = requests::median_of(&results.nginx, |point| point.microseconds);
            targets.push(Target {
                step: "pixel request to acknowledged Kafka message",
                target: "<= 1.6 x nginx empty_gif of the same run".to_owned(),
                measured: format!("{own:.1} us, {:.2} x {floor:.1} us", own / floor),
                is_met: own <= floor * 1.6,
            });
        }
        let batch = results.batch;
        targets.push(limit("batch POST of 100 hits, per hit", batch.microseconds, 5.0));
        targets.push(memory("collector at 10,000 connections", results.many.peak_bytes, 60));
        let load = requests::median_of(&results.collector, |point| point.own_microseconds);
        targets.push(limit("the load generator itself, a request", load, 8.0));
        targets
    }

    fn stage_targets(&self) -> Vec<Target> {
        let Some(results) = &self.stages else { return Vec::new() };
        let median_of = |stages: &[Stage]| stages::median_of(stages, |stage| stage.microseconds);
        let speed = |stages: &[Stage]| stages::median_of(stages, |stage| stage.hits_per_second);
        let share = speed(&results.exactly_once) / speed(&results.at_least_once) * 100.0;
        let peak = |stages: &[Stage]| stages.iter().map(|stage| stage.peak_bytes).max().unwrap_or_default();
        vec![
            limit("Avro encode of a hit", results.encode, 1.0),
            limit("Avro decode of a hit", results.decode, 0.9),
            limit("enricher, message in to message out, transactions on", median_of(&results.exactly_once), 7.0),
            Target {
                step: "exactly once against at least once, throughput",
                target: ">= 80 %".to_owned(),
                measured: format!("{share:.0} %"),
                is_met: share >= 80.0,
            },
            limit("sink, message in to compressed Native on the socket", median_of(&results.sink), 3.5),
            limit("ClickHouse, a row, no views, no merges", results.floor.insert, 2.2),
            memory("enricher with city and network databases", peak(&results.exactly_once), 250),
            memory("sink at full rate", peak(&results.sink), 300),
        ]
    }

    fn path_targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        if let Some(run) = &self.run {
            let Step { rate, seconds, age, .. } = run;
            targets.push(Target {
                step: "whole path on this machine",
                target: "25,000 hits/s for 600 s, age p99 < 2 s, nothing lost or doubled".to_owned(),
                measured: format!(
                    "{} hits/s for {seconds:.0} s, age p99 {:.1} s, {} missing, {} doubled",
                    thousands(*rate),
                    age[1] / 1e3,
                    run.missing,
                    run.doubled
                ),
                is_met: run.holds() && *rate >= 24_900.0 && *seconds >= 599.0,
            });
        }
        targets
    }

    fn write_path(&self, text: &mut String) {
        if self.search.is_empty() && self.run.is_none() {
            return;
        }
        text.push_str("\n## The whole path\n\n");
        let most = self.search.iter().filter(|step| step.holds()).map(|step| step.rate).fold(0.0, f64::max);
        if !self.search.is_empty() {
            let _ = writeln!(
                text,
                "**{} hits a second** is the highest rate that held: **{} hits a day**. All of it, with Kafka, ClickHouse and the load, on this machine.\n",
                thousands(most),
                thousands(most * DAY)
            );
            text.push_str(
                "| hits/s asked | held | answered p50, p99 ms | enriched after p50, p99 ms | inserted after that | age in the table | a probe found after | lag at the end |\n|---|---|---|---|---|---|---|---|\n",
            );
            for step in self.search.iter().chain(&self.run) {
                let [answers, enriched, inserted, age, probes] =
                    [step.answers, step.enriched, step.inserted, step.age, step.probes]
                        .map(|[half, most]| format!("{half:.0}, {most:.0}"));
                let held = if step.holds() { "yes" } else { "no" };
                let _ = writeln!(
                    text,
                    "| {} for {:.0} s | {held} | {answers} | {enriched} | {inserted} | {age} | {probes} ({}) | {} |",
                    thousands(step.asked),
                    step.seconds,
                    step.probe_count,
                    thousands(step.lag)
                );
            }
        }
        text.push_str(
            "\n| hits/s asked | sent | acknowledged | rows | missing | doubled |\n|---|---|---|---|---|---|\n",
        );
        for step in self.search.iter().chain(&self.run) {
            let numbers = [step.asked, step.sent as f64, step.acknowledged as f64, step.rows as f64].map(thousands);
            let _ = writeln!(text, "| {} | {} | {} |", numbers.join(" | "), step.missing, step.doubled);
        }
        let best = self.run.as_ref().or_else(|| self.search.iter().rfind(|step| step.holds()));
        if let Some(step) = best {
            let _ = writeln!(text, "\nAt {} hits/s:\n", thousands(step.rate));
            text.push_str("| program | us a hit | memory, most |\n|---|---|---|\n");
            for program in &step.programs {
                let memory = if program.peak_bytes == 0 { String::new() } else { mebibytes(program.peak_bytes) };
                let _ = writeln!(text, "| {} | {:.1} | {memory} |", program.name, program.microseconds);
            }
            let all: f64 = step.programs.iter().map(|program| program.microseconds).sum();
            let _ = writeln!(text, "| all | {all:.1} | |");
        }
    }
}

/// Puts lists one after the other.
trait ConcatAll<T> {
    fn concat_all(self) -> Vec<T>;
}

impl<T, const N: usize> ConcatAll<T> for [Vec<T>; N] {
    fn concat_all(self) -> Vec<T> {
        self.into_iter().flatten().collect()
    }
}

fn limit(step: &'static str, microseconds: f64, most: f64) -> Target {
    let (target, measured) = (format!("<= {most} us"), format!("{microseconds:.2} us"));
    Target { step, target, measured, is_met: microseconds <= most }
}

fn memory(step: &'static str, bytes: u64, most: u64) -> Target {
    Target { step, target: format!("< {most} MiB"), measured: mebibytes(bytes), is_met: bytes < most << 20 }
}

fn write_requests(text: &mut String, results: &requests::Results, plot: &str) {
    let _ = writeln!(text, "\n## Requests\n\n![latency against rate]({plot})\n");
    let _ = writeln!(
        text,
        "One core for the server, the other for the load and Kafka. {} requests/s, by turns (A B A B), medians:\n",
        thousands(COMPARED_AT)
    );
    text.push_str(
        "| | us a request | each round | Kafka's us | p50 ms | p99 ms | p99.9 ms |\n|---|---|---|---|---|---|---|\n",
    );
    for (name, points) in
        [("nginx empty_gif", &results.nginx), ("collector, acknowledged by Kafka", &results.collector)]
    {
        let of = |figure: fn(&Point) -> f64| requests::median_of(points, figure);
        let rounds: Vec<String> = points.iter().map(|point| format!("{:.1}", point.microseconds)).collect();
        let _ = writeln!(
            text,
            "| {name} | {:.1} | {} | {:.1} | {:.2} | {:.2} | {:.2} |",
            of(|point| point.microseconds),
            rounds.join(", "),
            of(|point| point.kafka),
            of(|point| point.p50),
            of(|point| point.p99),
            of(|point| point.p999)
        );
    }
    let most = |points| thousands(requests::most(points));
    let (nginx, collector) = (most(&results.nginx_sweep), most(&results.collector_sweep));
    let _ = writeln!(text, "\nHighest rate held: nginx {nginx}/s, collector {collector}/s.\n");
    text.push_str("| server | asked/s | answered/s | us a request | Kafka's us | p50 ms | p99 ms | p99.9 ms | load's own us |\n|---|---|---|---|---|---|---|---|---|\n");
    for (name, points) in [("nginx", &results.nginx_sweep), ("collector", &results.collector_sweep)] {
        points.iter().for_each(|point| write_point(text, name, point));
    }
    write_point(text, &format!("collector, batches of {BATCH_HITS}, per hit"), &results.batch);
    write_point(text, &format!("collector, {} connections", thousands(MANY_CONNECTIONS as f64)), &results.many);
    let _ = writeln!(
        text,
        "\n{} hits were sent to the collector in all of this, {} were acknowledged. Memory, most: {} with batches, {} with {} connections.",
        thousands(results.sent as f64),
        thousands(results.acknowledged as f64),
        mebibytes(results.batch.peak_bytes),
        mebibytes(results.many.peak_bytes),
        thousands(MANY_CONNECTIONS as f64)
    );
}

fn write_point(text: &mut String, name: &str, point: &Point) {
    let [asked, rate] = [point.asked, point.rate].map(thousands);
    let Point { microseconds, kafka, p50, p99, p999, own_microseconds, .. } = point;
    let _ = writeln!(
        text,
        "| {name} | {asked} | {rate} | {microseconds:.1} | {kafka:.1} | {p50:.2} | {p99:.2} | {p999:.2} | {own_microseconds:.1} |"
    );
}

fn write_stages(text: &mut String, results: &stages::Results) {
    let _ = writeln!(
        text,
        "\n## Stages\n\n{} hits wait in the topic ({:.0} bytes each raw, {:.0} enriched); the stage has one core, Kafka and ClickHouse the other. Medians:\n",
        thousands(results.hits as f64),
        results.raw_bytes,
        results.enriched_bytes
    );
    text.push_str("| stage | hits/s | us a hit | each round | Kafka's us | ClickHouse's us | memory, most |\n|---|---|---|---|---|---|---|\n");
    for (name, stages) in [
        ("enricher, exactly once", &results.exactly_once),
        ("enricher, at least once", &results.at_least_once),
        ("sink", &results.sink),
    ] {
        let of = |figure: fn(&Stage) -> f64| stages::median_of(stages, figure);
        let rounds: Vec<String> = stages.iter().map(|stage| format!("{:.1}", stage.microseconds)).collect();
        let _ = writeln!(
            text,
            "| {name} | {} | {:.1} | {} | {:.1} | {:.1} | {} |",
            thousands(of(|stage| stage.hits_per_second)),
            of(|stage| stage.microseconds),
            rounds.join(", "),
            of(|stage| stage.kafka),
            of(|stage| stage.clickhouse),
            mebibytes(stages.iter().map(|stage| stage.peak_bytes).max().unwrap_or_default())
        );
    }
    let floor = results.floor;
    let produce = |figure: fn(&crate::pump::Cost) -> f64| median(results.produce.iter().map(figure).collect());
    text.push_str("\nFloors, with the same hits:\n\n| | us a hit | |\n|---|---|---|\n");
    let _ = writeln!(
        text,
        "| librdkafka, produce | {:.1} | {}/s |",
        produce(|cost| cost.microseconds),
        thousands(produce(|cost| cost.rate))
    );
    let _ = writeln!(
        text,
        "| librdkafka, consume | {:.1} | {}/s |",
        results.consume.microseconds,
        thousands(results.consume.rate)
    );
    let _ = writeln!(text, "| Avro, encode a raw hit | {:.2} | |", results.encode);
    let _ = writeln!(text, "| Avro, decode a raw hit | {:.2} | |", results.decode);
    let _ = writeln!(
        text,
        "| enriched message to compressed Native block | {:.1} | {:.0} bytes as sent |",
        floor.encode, floor.sent_bytes
    );
    let _ = writeln!(
        text,
        "| ClickHouse, prepared blocks into a table without views | {:.1} | {} rows |",
        floor.insert,
        thousands(floor.rows as f64)
    );
    let _ = writeln!(
        text,
        "| ClickHouse, one merge of all of them | {:.1} | {:.0} bytes on disk |",
        floor.merge, floor.disk_bytes
    );
}

/// The first line that a program prints, or nothing.
fn told(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// From the name of its jar.
fn kafka_version() -> String {
    let jars = std::fs::read_dir(local::Paths::new().kafka_libraries()).into_iter().flatten().flatten();
    let name = |jar: std::fs::DirEntry| {
        Some(jar.file_name().to_str()?.strip_prefix("kafka-clients-")?.strip_suffix(".jar")?.to_owned())
    };
    jars.filter_map(name).next().unwrap_or_default()
}

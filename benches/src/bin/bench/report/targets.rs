//! What was aimed at, and whether it was reached.

use std::fmt::Write;

use super::Report;
use crate::numbers::{mebibytes, median, thousands};
use crate::path::Step;
use crate::requests;
use crate::stages::{self, Stage};

/// The graph of no service.
const NONE: &str = "";

/// A line of the table of targets.
struct Target {
    step: &'static str,
    target: String,
    measured: String,
    /// Unknown where it was not measured.
    is_met: Option<bool>,
    /// Whose profile tells what stands between.
    service: &'static str,
}

impl Report {
    pub(super) fn write_targets(&self, text: &mut String) {
        let targets = [self.request_targets(), self.stage_targets(), self.path_targets()];
        let targets: Vec<Target> = targets.into_iter().flatten().collect();
        if targets.is_empty() {
            return;
        }
        text.push_str("\n## Targets\n\n| step | target | measured | |\n|---|---|---|---|\n");
        for Target { step, target, measured, is_met, service } in targets {
            let verdict = match is_met {
                Some(true) => "met".to_owned(),
                Some(false) => format!("**missed**{}", self.graph(service)),
                None => String::new(),
            };
            let _ = writeln!(text, "| {step} | {target} | {measured} | {verdict} |");
        }
    }

    /// Where it is seen what a service's time was spent on.
    fn graph(&self, service: &str) -> String {
        let graphs = || self.profiles.iter().filter_map(|profile| Some((&profile.service, profile.file.as_ref()?)));
        graphs()
            .filter(|(name, _)| *name == service)
            .map(|(name, file)| format!(", [where {name}'s time goes]({file})"))
            .collect()
    }

    fn request_targets(&self) -> Vec<Target> {
        let Some(results) = &self.requests else { return Vec::new() };
        let mut targets = Vec::new();
        let own = requests::median_of(&results.collector, |point| point.microseconds);
        let floor = requests::median_of(&results.nginx, |point| point.microseconds);
        let has_floor = !results.nginx.is_empty();
        targets.push(Target {
            step: "pixel request to acknowledged Kafka message",
            target: "<= 1.6 x nginx empty_gif of the same run".to_owned(),
            measured: if has_floor {
                format!("{own:.1} us, {:.2} x {floor:.1} us", own / floor)
            } else {
                format!("{own:.1} us; nginx not measured: it is not installed")
            },
            is_met: has_floor.then_some(own <= floor * 1.6),
            service: "collector",
        });
        let batch = results.batch;
        targets.push(limit("batch POST of 100 hits, per hit", batch.microseconds, 5.0, "collector"));
        targets.push(memory("collector at 10,000 connections", results.many.peak_bytes, 60));
        let load = requests::median_of(&results.collector, |point| point.own_microseconds);
        targets.push(limit("the load generator itself, a request", load, 8.0, NONE));
        targets
    }

    fn stage_targets(&self) -> Vec<Target> {
        let Some(results) = &self.stages else { return Vec::new() };
        let median_of = |stages: &[Stage]| stages::median_of(stages, |stage| stage.microseconds);
        let speed = |stages: &[Stage]| stages::median_of(stages, |stage| stage.hits_per_second);
        let share = speed(&results.exactly_once) / speed(&results.at_least_once) * 100.0;
        let peak = |stages: &[Stage]| stages.iter().map(|stage| stage.peak_bytes).max().unwrap_or_default();
        let partners = &results.partners;
        let all_held = partners.held >= partners.published as f64;
        vec![
            limit("Avro encode of a hit", median(results.encode.clone()), 1.0, NONE),
            limit("Avro decode of a hit", median(results.decode.clone()), 0.9, NONE),
            limit(
                "enricher, message in to message out, transactions on",
                median_of(&results.exactly_once),
                7.0,
                "enricher",
            ),
            Target {
                step: "exactly once against at least once, throughput",
                target: ">= 80 %".to_owned(),
                measured: format!("{share:.0} %"),
                is_met: Some(share >= 80.0),
                service: "enricher",
            },
            limit("sink, message in to compressed Native on the socket", median_of(&results.sink), 3.5, "sink"),
            limit(
                "ClickHouse, a row, no views, no merges",
                stages::floor_of(&results.floor, |floor| floor.insert),
                2.2,
                NONE,
            ),
            Target {
                step: "enricher with city and network databases and 1,000,000 partner records",
                target: "< 250 MiB".to_owned(),
                measured: format!(
                    "{}, {} of {} records held in {}",
                    mebibytes(partners.peak_bytes),
                    thousands(partners.held),
                    thousands(partners.published as f64),
                    mebibytes(partners.record_bytes as u64)
                ),
                is_met: (partners.published >= 1_000_000).then_some(all_held && partners.peak_bytes < 250 << 20),
                service: NONE,
            },
            memory("sink at full rate", peak(&results.sink), 300),
        ]
    }

    /// Of the long runs the first that held; else the last one tells by what it was missed.
    fn path_targets(&self) -> Vec<Target> {
        let Some(run) = self.runs.iter().find(|run| run.holds()).or(self.runs.last()) else { return Vec::new() };
        let Step { rate, seconds, age, .. } = run;
        let verdict = match run.failures()[..] {
            [] => "held".to_owned(),
            ref failures => format!("not held ({})", failures.join(", ")),
        };
        vec![Target {
            step: "whole path on this machine",
            target: "25,000 hits/s for 600 s, age p99 < 2 s, nothing lost or doubled".to_owned(),
            measured: format!(
                "{} hits/s for {seconds:.0} s {verdict}, age p99 {:.1} s, {} missing, {} doubled",
                thousands(*rate),
                age[1] / 1e3,
                run.missing,
                run.doubled
            ),
            is_met: Some(run.holds() && *rate >= 24_900.0 && *seconds >= 599.0),
            service: NONE,
        }]
    }
}

fn limit(step: &'static str, microseconds: f64, most: f64, service: &'static str) -> Target {
    let (target, measured) = (format!("<= {most} us"), format!("{microseconds:.2} us"));
    Target { step, target, measured, is_met: Some(microseconds <= most), service }
}

fn memory(step: &'static str, bytes: u64, most: u64) -> Target {
    let (target, measured) = (format!("< {most} MiB"), mebibytes(bytes));
    Target { step, target, measured, is_met: Some(bytes < most << 20), service: NONE }
}

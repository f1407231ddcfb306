//! The README lists what there is, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use collector::metrics::Metrics;
use collector::outcome::Outcome;
use collector::{Options, SERVICE};
use service::documentation::{check_metrics, check_options};

const README: &str = include_str!("../README.md");

#[test]
fn the_readme_lists_every_option_and_no_other() {
    check_options(README, &SERVICE.command::<Options>()).unwrap();
}

#[test]
fn the_readme_lists_every_metric_and_no_other() {
    check_metrics(README, &Metrics::new().unwrap().registry, "collector_").unwrap();
}

#[test]
fn the_readme_lists_every_outcome() {
    let row = README.lines().find(|line| line.starts_with("| `collector_hits_total`")).unwrap();
    for outcome in Outcome::ALL {
        assert!(row.contains(outcome.as_str()), "{} is missing", outcome.as_str());
    }
}

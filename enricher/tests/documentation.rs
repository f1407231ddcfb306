//! The README lists what there is.

use enricher::metrics::Metrics;
use enricher::options::command;
use service::documentation::{check_metrics, check_options};

const README: &str = include_str!("../README.md");

#[test]
fn every_option_is_in_the_readme() {
    check_options(README, &command()).unwrap();
}

#[test]
fn every_metric_is_in_the_readme() {
    let metrics = Metrics::new().unwrap();
    // These have a label for what is only known later.
    metrics.lag.with_label_values(&["0"]).set(0);
    metrics.geoip_built.with_label_values(&["city"]).set(0);
    check_metrics(README, &metrics.registry, "enricher_").unwrap();
}

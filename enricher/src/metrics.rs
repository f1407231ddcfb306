//! What is counted. The README's table of metrics is held against this file by a test.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, exponential_buckets,
};

use crate::data::geoip::DatabaseKind;
use crate::enrichments::Problem;
use crate::hit::DeadReason;
use crate::partners::index::Refusal;

/// What becomes of a hit: each one that was read has exactly one of these in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Written to hits.enriched.
    Enriched,
    /// Written to hits.dead, for this reason.
    Dead(DeadReason),
    /// The same hit of the same visitor was enriched a short time before. It is dropped.
    Duplicate,
    /// The person it is about had it erased. It is dropped.
    Erased,
    /// Its batch failed, and it is read again: by then it is another reading with an outcome of its own.
    Retried,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 10] = [
        Self::Enriched,
        Self::Dead(DeadReason::Empty),
        Self::Dead(DeadReason::HeaderMissing),
        Self::Dead(DeadReason::SchemaUnknown),
        Self::Dead(DeadReason::Undecodable),
        Self::Dead(DeadReason::EnrichmentFailed),
        Self::Dead(DeadReason::TooLarge),
        Self::Duplicate,
        Self::Erased,
        Self::Retried,
    ];

    /// Its name in the metric.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enriched => "enriched",
            Self::Dead(DeadReason::Empty) => "dead_empty",
            Self::Dead(DeadReason::HeaderMissing) => "dead_header_missing",
            Self::Dead(DeadReason::SchemaUnknown) => "dead_schema_unknown",
            Self::Dead(DeadReason::Undecodable) => "dead_undecodable",
            Self::Dead(DeadReason::EnrichmentFailed) => "dead_enrichment_failed",
            Self::Dead(DeadReason::TooLarge) => "dead_too_large",
            Self::Duplicate => "duplicate",
            Self::Erased => "erased",
            Self::Retried => "retried",
        }
    }
}

/// All metrics of the enricher.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Where they are gathered from.
    pub registry: Registry,
    /// Hits read.
    pub received: IntCounter,
    /// Their outcomes.
    pub hits: IntCounterVec,
    /// From arrival at the collector to the end of enriching, seconds.
    pub age: Histogram,
    /// Problems noted on hits.
    pub problems: IntCounterVec,
    /// Hits not yet committed, by partition of hits.raw.
    pub lag: IntGaugeVec,
    /// Hits that were deleted from hits.raw before they were read.
    pub expired: IntCounter,
    /// From a batch's first hit to its commit, seconds.
    pub batch_duration: Histogram,
    /// Transactions that were aborted, whose hits are read again.
    pub aborts: IntCounter,
    /// Hits that are remembered, so that they do not pass twice.
    pub remembered: IntGauge,
    /// Hits that were forgotten before the window passed, since there were too many.
    pub forgotten: IntCounter,
    /// Times that a worker had to start afresh.
    pub restarts: IntCounter,
    /// Look-ups, by cache and whether it knew.
    pub cache: IntCounterVec,
    /// Build times of the GeoIP databases, Unix seconds.
    pub geoip_built: IntGaugeVec,
    /// Attempts to replace a GeoIP database.
    pub geoip_reloads: IntCounterVec,
    /// Attempts to read the sites file again.
    pub sites_reloads: IntCounterVec,
    /// Partner records in memory.
    pub partner_records: IntGauge,
    /// About how many bytes they take.
    pub partner_bytes: IntGauge,
    /// Messages of the partners topic that were not used.
    pub partner_refusals: IntCounterVec,
}

/// Buckets from `start` seconds, each `factor` times the one before.
fn buckets(start: f64, factor: f64, count: usize) -> prometheus::Result<Vec<f64>> {
    exponential_buckets(start, factor, count)
}

fn added<Metric: Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<Metric>,
) -> prometheus::Result<Metric> {
    let metric = metric?;
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

impl Metrics {
    /// Metrics that all show zero.
    ///
    /// # Errors
    /// Where two have one name, which a test would show first.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| added(&registry, IntCounter::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            added(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name: &str, help: &str| added(&registry, IntGauge::new(name, help));
        let gauges =
            |name: &str, help: &str, label: &str| added(&registry, IntGaugeVec::new(Opts::new(name, help), &[label]));
        let histogram = |name: &str, help: &str, buckets: prometheus::Result<Vec<f64>>| {
            added(&registry, Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets?)))
        };
        let metrics = Self {
            received: counter("enricher_hits_received_total", "Hits read from hits.raw")?,
            hits: counters("enricher_hits_total", "What became of them", &["outcome"])?,
            age: histogram("enricher_hit_age_seconds", "From arrival at the collector", buckets(0.005, 2.5, 14))?,
            problems: counters("enricher_enrichment_errors_total", "Problems noted on hits", &["error"])?,
            lag: gauges("enricher_consumer_lag", "Hits of hits.raw not yet committed", "partition")?,
            expired: counter("enricher_expired_hits_total", "Hits deleted from hits.raw before they were read")?,
            batch_duration: histogram(
                "enricher_batch_duration_seconds",
                "From a batch's first hit to its commit",
                buckets(0.005, 2.0, 12),
            )?,
            aborts: counter("enricher_transactions_aborted_total", "Transactions whose hits are read again")?,
            remembered: gauge("enricher_duplicate_window_hits", "Hits remembered, to drop their duplicates")?,
            forgotten: counter("enricher_duplicate_window_overflows_total", "Hits forgotten before the window passed")?,
            restarts: counter("enricher_worker_restarts_total", "Times that a worker had to start afresh")?,
            cache: counters("enricher_cache_lookups_total", "Look-ups by cache and result", &["cache", "result"])?,
            geoip_built: gauges("enricher_geoip_build_timestamp_seconds", "When databases were built", "database")?,
            geoip_reloads: counters("enricher_geoip_reloads_total", "Replacements", &["database", "result"])?,
            sites_reloads: counters("enricher_sites_reloads_total", "Readings of a changed sites file", &["result"])?,
            partner_records: gauge("enricher_partner_records", "Partner records in memory")?,
            partner_bytes: gauge("enricher_partner_bytes", "About how many bytes they take")?,
            partner_refusals: counters("enricher_partner_refusals_total", "Partner records not used", &["reason"])?,
            registry,
        };
        metrics.show_all();
        Ok(metrics)
    }

    /// A counter with labels shows only once it has a value, and an alert on one that does not show never fires.
    fn show_all(&self) {
        for outcome in Outcome::ALL {
            self.hits.with_label_values(&[outcome.as_str()]);
        }
        for problem in Problem::ALL {
            self.problems.with_label_values(&[problem.as_str()]);
        }
        for cache in ["address", "user_agent"] {
            for result in ["hit", "miss"] {
                self.cache.with_label_values(&[cache, result]);
            }
        }
        for result in ["succeeded", "failed"] {
            self.sites_reloads.with_label_values(&[result]);
            for kind in DatabaseKind::ALL {
                self.geoip_reloads.with_label_values(&[kind.as_str(), result]);
            }
        }
        for refusal in Refusal::ALL {
            self.partner_refusals.with_label_values(&[refusal.as_str()]);
        }
    }

    /// Counts an outcome.
    pub fn count(&self, outcome: Outcome, hits: u64) {
        self.hits.with_label_values(&[outcome.as_str()]).inc_by(hits);
    }

    /// Sum of all outcomes.
    #[must_use]
    pub fn outcomes(&self) -> u64 {
        Outcome::ALL.iter().map(|outcome| self.hits.with_label_values(&[outcome.as_str()]).get()).sum()
    }
}

/// How an attempt ended, for metrics.
#[must_use]
pub fn result_name(succeeded: bool) -> &'static str {
    if succeeded { "succeeded" } else { "failed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
        assert_eq!(names.len(), 4 + DeadReason::ALL.len());
        for reason in DeadReason::ALL {
            assert_eq!(Outcome::Dead(*reason).as_str(), format!("dead_{}", reason.as_str()));
        }
    }
}

//! The sink's metrics. The README lists them, held against this by a test.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, exponential_buckets,
};

use crate::batch::Cut;
use crate::fault;
use crate::outcome::Outcome;

/// All metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Hits read from the topic.
    pub received: IntCounter,
    hits: IntCounterVec,
    /// Age of hits when they are stored, from `received_at`, seconds.
    pub hit_age: Histogram,
    batches: IntCounterVec,
    /// Hits of an inserted block.
    pub batch_rows: Histogram,
    /// Size of an inserted block before compression.
    pub batch_bytes: Histogram,
    /// Size of an inserted block as it is sent.
    pub batch_compressed_bytes: Histogram,
    /// How long an insert took, with all its retries, seconds.
    pub insert_duration: Histogram,
    faults: IntCounterVec,
    /// Times that dead letters could not be delivered.
    pub dead_letter_retries: IntCounter,
    /// Times that an offset could not be committed.
    pub commit_failures: IntCounter,
    /// Ranges that an earlier owner of the partition announced, and that were made again.
    pub replayed_ranges: IntCounter,
    /// Ranges among them of which the topic no longer has all messages.
    pub vanished_ranges: IntCounter,
    /// Offsets that the topic no longer had when their turn came.
    pub expired: IntCounter,
    /// Memory of hits that were read and are not yet stored.
    pub waiting_bytes: IntGauge,
    /// Partitions that are read by this sink.
    pub assigned_partitions: IntGauge,
    /// Partitions among them that are not read at the moment, as there is too much waiting.
    pub paused_partitions: IntGauge,
    /// Requests of people that this sink has to carry out and has not.
    pub privacy_pending: IntGauge,
    /// Age of the oldest of them, seconds.
    pub privacy_oldest: IntGauge,
    /// Rows that were erased.
    pub privacy_erased_rows: IntCounter,
    /// Times that carrying out requests was disturbed.
    pub privacy_failures: IntCounter,
    lag: IntGaugeVec,
    refresh_age: IntGaugeVec,
}

struct Maker<'registry>(&'registry Registry);

impl Maker<'_> {
    fn keep<C: prometheus::core::Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.keep(IntCounter::new(name, help)?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
        // Shown from the start, so that a rate can be taken of the first one.
        values.iter().for_each(|value| drop(counters.with_label_values(&[value])));
        self.keep(counters)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.keep(IntGauge::new(name, help)?)
    }

    fn histogram(&self, name: &str, help: &str, buckets: Vec<f64>) -> Result<Histogram, prometheus::Error> {
        self.keep(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?)
    }
}

impl Metrics {
    /// Registers all metrics.
    ///
    /// # Errors
    /// Where the registry has metrics of these names already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let make = Maker(registry);
        let outcomes: Vec<_> = Outcome::all().into_iter().map(Outcome::as_str).collect();
        let seconds = || exponential_buckets(0.005, 2.0, 16);
        let bytes = || exponential_buckets(1024.0, 4.0, 10);
        Ok(Self {
            received: make.counter("sink_received_hits_total", "Hits read from the topic")?,
            hits: make.counters("sink_hits_total", "Hits by what became of them", "outcome", &outcomes)?,
            hit_age: make.histogram(
                "sink_hit_age_seconds",
                "Time from a hit's arrival at the collector until it is stored",
                exponential_buckets(0.05, 2.0, 20)?,
            )?,
            batches: make.counters("sink_batches_total", "Batches by why they were cut", "cut", &Cut::NAMES)?,
            batch_rows: make.histogram(
                "sink_batch_hits",
                "Hits of an inserted block",
                exponential_buckets(1.0, 4.0, 10)?,
            )?,
            batch_bytes: make.histogram(
                "sink_batch_bytes",
                "Size of an inserted block before compression",
                bytes()?,
            )?,
            batch_compressed_bytes: make.histogram(
                "sink_batch_compressed_bytes",
                "Size of an inserted block as it is sent",
                bytes()?,
            )?,
            insert_duration: make.histogram(
                "sink_insert_duration_seconds",
                "How long an insert took, with all its retries",
                seconds()?,
            )?,
            faults: make.counters("sink_insert_faults_total", "Failed inserts by class", "class", &fault::CLASSES)?,
            dead_letter_retries: make
                .counter("sink_dead_letter_retries_total", "Times that dead letters could not be delivered")?,
            commit_failures: make
                .counter("sink_commit_failures_total", "Times that an offset could not be committed")?,
            replayed_ranges: make.counter(
                "sink_replayed_ranges_total",
                "Ranges that were announced before a crash or a handover, and inserted again under their tokens",
            )?,
            vanished_ranges: make.counter(
                "sink_vanished_ranges_total",
                "Ranges that were to be inserted again but are no longer whole in the topic",
            )?,
            expired: make.counter(
                "sink_expired_messages_total",
                "Offsets that the topic no longer had when their turn came: hits that are lost",
            )?,
            waiting_bytes: make.gauge("sink_waiting_bytes", "Memory of hits that were read and are not yet stored")?,
            assigned_partitions: make.gauge("sink_assigned_partitions", "Partitions that this sink reads")?,
            paused_partitions: make
                .gauge("sink_paused_partitions", "Partitions that are not read, as too much is waiting")?,
            privacy_pending: make.gauge(
                "sink_privacy_pending_requests",
                "Requests of people that this sink has to carry out and has not",
            )?,
            privacy_oldest: make.gauge("sink_privacy_oldest_request_seconds", "Age of the oldest of them")?,
            privacy_erased_rows: make.counter("sink_privacy_erased_rows_total", "Rows that were erased on request")?,
            privacy_failures: make.counter(
                "sink_privacy_failures_total",
                "Times that carrying out requests was disturbed, to be tried again",
            )?,
            lag: make.keep(IntGaugeVec::new(
                Opts::new("sink_consumer_lag_messages", "Messages after the committed offset"),
                &["partition"],
            )?)?,
            refresh_age: make.keep(IntGaugeVec::new(
                Opts::new(
                    "sink_refresh_age_seconds",
                    "Time since the last refresh of a view that came to its end began",
                ),
                &["view"],
            )?)?,
        })
    }

    /// Counts hits with this outcome.
    #[must_use]
    pub fn outcome(&self, outcome: Outcome) -> IntCounter {
        self.hits.with_label_values(&[outcome.as_str()])
    }

    /// Counts batches that were cut for this.
    #[must_use]
    pub fn batches(&self, cut: Cut) -> IntCounter {
        self.batches.with_label_values(&[cut.as_str()])
    }

    /// Counts failed inserts of this class.
    #[must_use]
    pub fn faults(&self, class: &str) -> IntCounter {
        self.faults.with_label_values(&[class])
    }

    /// Messages of a partition after the committed offset.
    pub fn set_lag(&self, partition: i32, messages: i64) {
        self.lag.with_label_values(&[partition.to_string()]).set(messages);
    }

    /// What is known of how old views are is true no longer.
    pub fn forget_refresh_ages(&self) {
        self.refresh_age.reset();
    }

    /// Seconds since the last refresh of a view that came to its end began.
    pub fn set_refresh_age(&self, view: &str, seconds: i64) {
        self.refresh_age.with_label_values(&[view]).set(seconds);
    }

    /// The partition is another sink's now.
    pub fn forget_lag(&self, partition: i32) {
        // It may never have been told.
        let _ = self.lag.remove_label_values(&[&partition.to_string()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_lists_exactly_these() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        metrics.set_lag(0, 0);
        metrics.set_refresh_age("settle_sessions", 0);
        let readme = include_str!("../README.md");
        service::documentation::check_metrics(readme, &registry, "sink_").unwrap();
    }
}

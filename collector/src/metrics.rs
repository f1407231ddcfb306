//! The collector's metrics. The README has a table of them.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets};

use crate::outcome::Outcome;

/// All metrics of a collector.
#[derive(Debug)]
pub struct Metrics {
    /// What they are shown from.
    pub registry: Registry,
    /// Hits told apart in requests.
    pub received: IntCounter,
    outcomes: Vec<IntCounter>,
    /// Requests by status class, from 2xx to 5xx.
    requests: [IntCounter; 4],
    /// From the first byte of a request's body to its answer.
    pub request_seconds: Histogram,
    /// From handing hits to Kafka's client to the acknowledgement of all.
    pub publish_seconds: Histogram,
    /// Parameters with names that mean nothing.
    pub unknown_parameters: IntCounter,
    /// Parameters whose values can't be used.
    pub invalid_parameters: IntCounterVec,
    /// Bytes of hits that wait for Kafka.
    pub queue_bytes: IntGauge,
    /// Open connections.
    pub connections: IntGauge,
    /// 1 while the brokers take hits, 0 while they are known not to.
    pub brokers_up: IntGauge,
    /// Times Kafka's producer met a fatal error and was replaced.
    pub producers_replaced: IntCounter,
    /// Bytes in the spool.
    pub spool_bytes: IntGauge,
    /// Time of one write and fsync of the spool.
    pub spool_commit_seconds: Histogram,
    /// Spooled hits that Kafka has acknowledged.
    pub spool_published: IntCounter,
    /// Spooled hits that were too old when their turn came.
    pub spool_expired: IntCounter,
    /// Segments of the spool in which something could not be read.
    pub spool_unreadable: IntCounter,
    /// Spooled hits that could not be read or whose segment was gone.
    pub spool_lost: IntCounter,
    site_reloads: IntCounterVec,
}

impl Metrics {
    /// All of them at zero.
    ///
    /// # Errors
    /// Where a name is used twice.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let counters = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone())).map(|()| counters)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let histogram = |name: &str, help: &str| {
            let buckets = exponential_buckets(0.0001, 2.0, 18)?;
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone())).map(|()| histogram)
        };
        let by_outcome = counters("collector_hits_total", "Hits by what became of them", "outcome")?;
        let outcomes = Outcome::ALL.iter().map(|outcome| by_outcome.with_label_values(&[outcome.as_str()])).collect();
        let by_status = counters("collector_requests_total", "Requests by the class of their status", "status")?;
        let requests = ["2xx", "3xx", "4xx", "5xx"].map(|class| by_status.with_label_values(&[class]));
        let site_reloads = counters("collector_site_reloads_total", "Times the sites file was read again", "result")?;
        for result in ["ok", "refused"] {
            site_reloads.with_label_values(&[result]);
        }
        let invalid_parameters =
            counters("collector_invalid_parameters_total", "Parameters whose value was not usable", "parameter")?;
        for parameter in crate::assemble::CHECKED_PARAMETERS {
            invalid_parameters.with_label_values(&[parameter]);
        }
        Ok(Self {
            received: counter("collector_hits_received_total", "Hits told apart in requests")?,
            outcomes,
            requests,
            request_seconds: histogram("collector_request_seconds", "Time to answer a request")?,
            publish_seconds: histogram("collector_publish_seconds", "Time until Kafka acknowledged a request's hits")?,
            unknown_parameters: counter("collector_unknown_parameters_total", "Parameters with unknown names")?,
            invalid_parameters,
            queue_bytes: gauge("collector_queue_bytes", "Bytes of hits that wait for Kafka")?,
            connections: gauge("collector_connections", "Open connections")?,
            brokers_up: gauge("collector_brokers_up", "1 while the brokers take hits")?,
            producers_replaced: counter(
                "collector_producers_replaced_total",
                "Times Kafka's producer met a fatal error and was replaced",
            )?,
            spool_bytes: gauge("collector_spool_bytes", "Bytes in the spool")?,
            spool_commit_seconds: histogram(
                "collector_spool_commit_seconds",
                "Time of one write and fsync of the spool",
            )?,
            spool_published: counter("collector_spool_published_total", "Spooled hits that Kafka has acknowledged")?,
            spool_expired: counter("collector_spool_expired_total", "Spooled hits too old when their turn came")?,
            spool_unreadable: counter(
                "collector_spool_unreadable_segments_total",
                "Spool segments that could not be read",
            )?,
            spool_lost: counter(
                "collector_spool_lost_total",
                "Spooled hits that are unreadable or whose segment is gone",
            )?,
            site_reloads,
            registry,
        })
    }

    /// Counts what became of a hit.
    pub fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].inc();
    }

    /// Counts hits in and out that nobody looks at one by one.
    pub fn count_at_once(&self, outcome: Outcome, hits: u64) {
        self.received.inc_by(hits);
        self.outcomes[outcome as usize].inc_by(hits);
    }

    /// Hits that had this outcome so far.
    #[must_use]
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize].get()
    }

    /// Counts a request that was answered.
    pub fn request(&self, status: hyper::StatusCode) {
        let class = match status.as_u16() / 100 {
            2 => 0,
            3 => 1,
            4 => 2,
            _ => 3,
        };
        self.requests[class].inc();
    }

    /// Counts an attempt to read the sites file again.
    pub fn site_reload(&self, succeeded: bool) {
        self.site_reloads.with_label_values(&[if succeeded { "ok" } else { "refused" }]).inc();
    }
}

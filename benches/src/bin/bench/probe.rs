//! Single hits, followed from the request to the answer of a query.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bed::{Bed, PROBE_SITE};

/// Between two questions whether the hit is there: rarely enough that the asking is no load on ClickHouse. What is told
/// is too long by half of it on average.
const POLL: Duration = Duration::from_millis(100);
/// After this the hit is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two probes: a probe must not be a load.
const PAUSE: Duration = Duration::from_millis(300);

/// What became of a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Seen {
    /// It was found so long after it was sent.
    After(Duration),
    /// It was refused, or not found in time.
    Never,
}

impl Seen {
    /// How long it took.
    pub fn milliseconds(&self) -> Option<f64> {
        match self {
            Self::After(time) => Some(time.as_secs_f64() * 1e3),
            Self::Never => None,
        }
    }
}

/// One probe after the other, until the load is over.
pub fn until(bed: &Bed, collector: SocketAddr, database: &str, over: &AtomicBool) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !over.load(Ordering::Relaxed) {
        seen.push(send(bed, collector, database));
        std::thread::sleep(PAUSE);
    }
    seen
}

/// Sends a hit and asks for it until it is there.
fn send(bed: &Bed, collector: SocketAddr, database: &str) -> Seen {
    let hit = uuid::Uuid::now_v7();
    let begun = Instant::now();
    // A collector that refuses it, or answers nothing, is overloaded: that is a finding and no reason to stop.
    let answer = ureq::get(format!("http://{collector}/p.gif?site={PROBE_SITE}&hit={hit}&visitor=probe"))
        .config()
        .timeout_global(Some(PATIENCE))
        .build()
        .header("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0")
        .call();
    if answer.is_err() {
        return Seen::Never;
    }
    // The table is ordered by site: few rows are read.
    let sql = format!("SELECT count() FROM {database}.hits WHERE site = '{PROBE_SITE}' AND hit_id = '{hit}'");
    while begun.elapsed() < PATIENCE {
        if bed.query(&sql).is_ok_and(|count| count == "1") {
            return Seen::After(begun.elapsed());
        }
        std::thread::sleep(POLL);
    }
    Seen::Never
}

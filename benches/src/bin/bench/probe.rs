//! One hit, followed from the request to the answer of a query.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::bed::{Bed, PROBE_SITE};

/// Between two questions whether the hit is there.
const POLL: Duration = Duration::from_millis(20);
/// After this the hit is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two probes: a probe must not be a load.
const PAUSE: Duration = Duration::from_millis(300);

/// Sends a hit and asks for it until it is there; how long that took, from sending on.
pub fn send(bed: &Bed, collector: SocketAddr, database: &str) -> anyhow::Result<Duration> {
    let hit = uuid::Uuid::now_v7();
    let begun = Instant::now();
    ureq::get(format!("http://{collector}/p.gif?site={PROBE_SITE}&hit={hit}&visitor=probe"))
        .header("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0")
        .call()?;
    // The table is ordered by site: few rows are read.
    let sql = format!("SELECT count() FROM {database}.hits WHERE site = '{PROBE_SITE}' AND hit_id = '{hit}'");
    while bed.query(&sql)? != "1" {
        if begun.elapsed() > PATIENCE {
            bail!("the hit {hit} is not in {database}.hits after {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(POLL);
    }
    let seen = begun.elapsed();
    std::thread::sleep(PAUSE);
    Ok(seen)
}

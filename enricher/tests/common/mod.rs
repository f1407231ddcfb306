//! What several tests need.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod bed;
pub mod mmdb;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use local::Paths;

/// The real files, or nothing on a machine that did not fetch them: the test must then return at once, and is listed
/// as not run.
pub struct Files {
    pub city: PathBuf,
    pub network: PathBuf,
    pub expressions: PathBuf,
    pub referrers: PathBuf,
    pub user_agents: PathBuf,
}

impl Files {
    pub fn or_skip(test: &str) -> Option<Self> {
        let paths = Paths::new();
        let all = || {
            Ok::<_, local::LocalError>(Self {
                city: Paths::require(paths.city(), "the GeoIP city database")?,
                network: Paths::require(paths.network(), "the GeoIP network database")?,
                expressions: Paths::require(paths.user_agent_expressions(), "the user-agent expressions")?,
                referrers: Paths::require(paths.referrers(), "the database of referrers")?,
                user_agents: Paths::require(paths.user_agents(), "the list of user agents")?,
            })
        };
        match all() {
            Ok(files) => Some(files),
            Err(missing) => {
                local::not_run(test, &missing.to_string());
                None
            }
        }
    }
}

/// Waits for a condition, half a minute at most.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

//! Where everything fetched and everything written lies.

use crate::LocalError;
use std::path::{Path, PathBuf};

/// The places below `.local` in the repository. All paths are absolute.
#[derive(Debug, Clone)]
pub struct Paths {
    root: PathBuf,
}

impl Paths {
    /// The places of the repository that this program was built from.
    #[must_use]
    pub fn new() -> Self {
        let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = crate_directory.ancestors().nth(2).unwrap_or(crate_directory).to_owned();
        Self { root }
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Path {
        &self.root
    }

    /// This crate's own folder: `deploy/local`.
    #[must_use]
    pub fn deploy(&self) -> PathBuf {
        self.root.join("deploy/local")
    }

    /// A path below `.local`.
    #[must_use]
    pub fn local(&self, inside: &str) -> PathBuf {
        self.root.join(".local").join(inside)
    }

    /// Kafka's jars.
    #[must_use]
    pub fn kafka_libraries(&self) -> PathBuf {
        self.local("kafka/libs")
    }

    /// ClickHouse's engine.
    #[must_use]
    pub fn clickhouse_engine(&self) -> PathBuf {
        self.local("clickhouse/python")
    }

    /// GeoLite2-City, MaxMind's format.
    #[must_use]
    pub fn city(&self) -> PathBuf {
        self.local("data/city.mmdb")
    }

    /// GeoLite2-ASN, MaxMind's format.
    #[must_use]
    pub fn network(&self) -> PathBuf {
        self.local("data/asn.mmdb")
    }

    /// uap-core's regular expressions, YAML.
    #[must_use]
    pub fn user_agent_expressions(&self) -> PathBuf {
        self.local("data/regexes.yaml")
    }

    /// Known referrers, JSON: medium, then source, then `domains` and `parameters`.
    #[must_use]
    pub fn referrers(&self) -> PathBuf {
        self.local("data/referers.json")
    }

    /// Real user agents, one a line, the most used first.
    #[must_use]
    pub fn user_agents(&self) -> PathBuf {
        self.local("data/user-agents.txt")
    }

    /// The path when it exists.
    ///
    /// # Errors
    /// [`LocalError::Missing`] names `what` and says how to get it.
    pub fn require(path: PathBuf, what: &'static str) -> Result<PathBuf, LocalError> {
        if path.exists() { Ok(path) } else { Err(LocalError::Missing { what, looked_at: path.display().to_string() }) }
    }

    /// A program on `PATH`.
    ///
    /// # Errors
    /// [`LocalError::Missing`] when no directory of `PATH` holds it.
    pub fn program(name: &'static str) -> Result<PathBuf, LocalError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|directory| directory.join(name))
            .find(|candidate| candidate.is_file())
            .ok_or(LocalError::Missing { what: name, looked_at: "PATH".to_owned() })
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self::new()
    }
}

//! What is known beforehand, from files: GeoIP databases, user-agent expressions, referrers.

mod client_hints;
mod device_kind;
pub mod geoip;
mod geoip_records;
pub mod referrers;
pub mod user_agents;

use std::path::PathBuf;

/// Why a file of data can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// It can't be read.
    #[error("cannot read {what} {}: {cause}; give its path with {option}", path.display())]
    Read {
        /// What it should be.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Option that names it.
        option: &'static str,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{} is not {what}: {reason}; give another file with {option}", path.display())]
    Wrong {
        /// What it should be.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Option that names it.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// No host is longer, bytes: RFC 1035, section 2.3.4, as text. Hosts are looked up by each of their ends, so what a longer text
/// costs grows with its square.
pub(crate) const LONGEST_HOST: usize = 253;

/// A file of data: what it is, and which option names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    pub what: &'static str,
    pub option: &'static str,
}

impl Source {
    pub fn read(self, path: &std::path::Path) -> Result<Vec<u8>, DataError> {
        let Self { what, option } = self;
        std::fs::read(path).map_err(|cause| DataError::Read { what, path: path.to_owned(), option, cause })
    }

    pub fn wrong(self, path: &std::path::Path, reason: impl std::fmt::Display) -> DataError {
        let Self { what, option } = self;
        DataError::Wrong { what, path: path.to_owned(), option, reason: reason.to_string() }
    }
}

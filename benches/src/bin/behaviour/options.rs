//! The command line.

use std::path::PathBuf;
use std::time::Duration;

/// Measures what analysts' questions cost.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "behaviour", version)]
pub struct Options {
    /// Hits of ninety days
    #[arg(long, value_name = "COUNT", default_value = "10000000")]
    pub hits: u64,
    /// How long all of it may take: loading ends where that is needed, and the questions are asked of what is there then
    #[arg(long, value_name = "MINUTES", default_value = "30")]
    pub minutes: u64,
    /// Decides the traffic
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub seed: u64,
    /// How often each question is asked
    #[arg(long, value_name = "COUNT", default_value = "7")]
    pub rounds: usize,
    /// Hits that are inserted with views and without, twice each by turns, to tell what views cost; 0 to leave that out
    #[arg(long, value_name = "COUNT", default_value = "1000000")]
    pub cost_hits: u64,
    /// Where the database goes, which is kept; a temporary folder otherwise
    #[arg(long, value_name = "FOLDER")]
    pub directory: Option<PathBuf>,
    /// Folder whose RESULTS.md and results.json get the report as a section, besides the terminal
    #[arg(long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
}

impl Options {
    /// How long all of it may take.
    pub fn budget(&self) -> Duration {
        Duration::from_secs(60 * self.minutes)
    }
}

//! The command line.

use std::path::PathBuf;

/// Measures what analysts' questions cost.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "behaviour", version)]
pub struct Options {
    /// Hits of ninety days
    #[arg(long, value_name = "COUNT", default_value = "10000000")]
    pub hits: u64,
    /// Decides the traffic
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub seed: u64,
    /// How often each question is asked
    #[arg(long, value_name = "COUNT", default_value = "7")]
    pub rounds: usize,
    /// Hits that are inserted with views and without, to tell what views cost; 0 to leave that out
    #[arg(long, value_name = "COUNT", default_value = "1000000")]
    pub cost_hits: u64,
    /// Where the database goes, which is kept; a temporary folder otherwise
    #[arg(long, value_name = "FOLDER")]
    pub directory: Option<PathBuf>,
    /// Where the report goes, besides the terminal
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

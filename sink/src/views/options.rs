//! The command line of `sink views`.

use clap::{Args, Subcommand};

use super::rebuild::tables;
use crate::options::{ClickHouseOptions, identifier};

/// Options of `sink views`.
#[derive(Debug, Clone, Args)]
pub struct ViewsOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with what views keep.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Make a state table anew from hits, as this version defines it, while loading goes on
    Rebuild(RebuildOptions),
    /// Settle all sessions that there are now, as after loading much at once
    Settle(SettleOptions),
}

/// Options of `sink views rebuild`.
#[derive(Debug, Clone, Args)]
pub struct RebuildOptions {
    /// Where the tables are.
    #[command(flatten)]
    pub clickhouse: ClickHouseOptions,
    /// Name of a ClickHouse cluster, as it was given to `sink migrate`
    #[arg(long, value_name = "NAME", value_parser = identifier)]
    pub cluster: Option<String>,
    /// Name of the table that is made anew
    #[arg(value_name = "TABLE", value_parser = identifier, help = format!("Name of the table: one of {}", tables().join(", ")))]
    pub table: String,
}

/// Options of `sink views settle`.
#[derive(Debug, Clone, Args)]
pub struct SettleOptions {
    /// Where the tables are.
    #[command(flatten)]
    pub clickhouse: ClickHouseOptions,
}

//! The command line of `sink audiences`.

use std::time::Duration;

use clap::{Args, Subcommand};
use service::options::seconds;

use super::catalogue::{Members, Purpose};
use crate::options::ClickHouseOptions;

/// Options of `sink audiences`.
#[derive(Debug, Clone, Args)]
pub struct AudiencesOptions {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with audiences.
#[derive(Debug, Clone, Subcommand)]
pub enum Action {
    /// Check a condition, and define an audience by it or change one
    Define(DefineOptions),
    /// List audiences, their conditions and how many are in them
    List(ListOptions),
    /// Take an audience away; its members leave it, its history stays
    Drop(DropOptions),
    /// Find out who came into audiences and who went out
    Refresh(RefreshOptions),
}

/// Options of `sink audiences define`.
#[derive(Debug, Clone, Args)]
pub struct DefineOptions {
    /// Where the tables are.
    #[command(flatten)]
    pub clickhouse: ClickHouseOptions,
    /// Name of the audience
    #[arg(value_name = "NAME", value_parser = name)]
    pub audience: String,
    /// Key of the site
    #[arg(long, value_name = "SITE", value_parser = name)]
    pub site: String,
    /// Who its members are, which is also the view whose columns the condition may name
    #[arg(long, value_name = "VIEW", default_value = "visitors")]
    pub members: Members,
    /// Who belongs to it, such as: sessions >= 3 AND last_seen > now() - INTERVAL 30 DAY
    #[arg(long, value_name = "CONDITION")]
    pub condition: String,
    /// Purpose that it serves: only visitors who permit it are in it; not given where it is used for analysis alone
    #[arg(long, value_name = "PURPOSE")]
    pub purpose: Option<Purpose>,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub description: String,
}

/// Options of `sink audiences list`.
#[derive(Debug, Clone, Args)]
pub struct ListOptions {
    /// Where the tables are.
    #[command(flatten)]
    pub clickhouse: ClickHouseOptions,
    /// Key of the site; all of them otherwise
    #[arg(long, value_name = "SITE", value_parser = name)]
    pub site: Option<String>,
}

/// Options of `sink audiences drop`.
#[derive(Debug, Clone, Args)]
pub struct DropOptions {
    /// Where the tables are.
    #[command(flatten)]
    pub clickhouse: ClickHouseOptions,
    /// Name of the audience
    #[arg(value_name = "NAME", value_parser = name)]
    pub audience: String,
    /// Key of the site
    #[arg(long, value_name = "SITE", value_parser = name)]
    pub site: String,
}

/// Options of `sink audiences refresh`.
#[derive(Debug, Clone, Args)]
pub struct RefreshOptions {
    /// Where the tables are.
    #[command(flatten)]
    pub clickhouse: ClickHouseOptions,
    /// Key of the site; all of them otherwise
    #[arg(long, value_name = "SITE", value_parser = name)]
    pub site: Option<String>,
    /// Go on until told to stop, with this long between two rounds; otherwise one round
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub every: Option<Duration>,
}

/// Longest name, characters.
const LONGEST_NAME: usize = 100;

fn name(text: &str) -> Result<String, String> {
    let is_plain = !text.is_empty() && text.chars().count() <= LONGEST_NAME && !text.chars().any(char::is_control);
    is_plain.then(|| text.to_owned()).ok_or_else(|| {
        format!("{text:?} is not a name of 1 to {LONGEST_NAME} characters, none of them a control character")
    })
}

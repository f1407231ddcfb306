//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::audiences::options::AudiencesOptions;
use crate::audit::AuditOptions;
use crate::deadletters::options::DeadLettersOptions;
use crate::intents::LONGEST_EPOCH;
use crate::views::options::ViewsOptions;
use crate::window::WIDE;
use clap::{Args, Parser, Subcommand};
use service::options::{CommonOptions, KafkaOptions, Service, seconds};

/// The sink among the services.
pub const SERVICE: Service = Service { name: "sink", metrics_listen: "127.0.0.1:9103" };

/// Loads enriched hits into ClickHouse.
#[derive(Debug, Clone, Parser)]
#[command(name = "sink", version)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the sink can do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Load hits until told to stop
    Run(Box<RunOptions>),
    /// Bring the database to what this version needs
    Migrate(MigrateOptions),
    /// List, show, replay and drop what could not be read or stored
    #[command(name = "deadletters")]
    DeadLetters(Box<DeadLettersOptions>),
    /// Name every offset that is in the table twice, and every one that is missing
    Audit(Box<AuditOptions>),
    /// Define audiences, and keep up who is in them
    Audiences(Box<AudiencesOptions>),
    /// Make anew what views keep, and settle sessions
    Views(Box<ViewsOptions>),
}

/// Options of `sink run`.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// Options of every service.
    #[command(flatten)]
    pub common: CommonOptions,
    /// Where the hits come from.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// Where they go.
    #[command(flatten)]
    pub clickhouse: ClickHouseOptions,
    /// How they are read and batched.
    #[command(flatten)]
    pub loading: LoadingOptions,
    /// File with the keys that hash whom the directives of the topic privacy are about: a name and 64 hex digits a line, the
    /// newest first; needed as soon as there is a directive
    #[arg(long, value_name = "FILE")]
    pub privacy_keys: Option<PathBuf>,
    /// The file of the sites, as the collector has it: no table may keep what it holds on people for longer than a site declares
    /// there; not checked where it is not given
    #[arg(long, value_name = "FILE")]
    pub sites: Option<PathBuf>,
}

/// How hits are read and batched.
#[derive(Debug, Clone, Args)]
pub struct LoadingOptions {
    /// Consumer group; sinks of one group share the partitions
    #[arg(long, value_name = "GROUP", default_value = "sink")]
    pub group: String,
    /// Name of this member of the group, kept over restarts, so that a restart moves no partitions (KIP-345)
    #[arg(long, value_name = "NAME")]
    pub group_instance_id: Option<String>,
    /// First part of every deduplication token; give another one to load offsets again that ClickHouse has seen before,
    /// as after a topic was made anew
    #[arg(long, value_name = "EPOCH", default_value = "0", value_parser = epoch)]
    pub epoch: String,
    /// Hits after which a batch is inserted
    #[arg(long, value_name = "COUNT", default_value = "50000", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_rows: u32,
    /// Size, before compression, at which a batch is inserted; KiB, MiB and GiB may follow the number
    #[arg(long, value_name = "BYTES", default_value = "32MiB")]
    pub batch_bytes: ByteSize,
    /// Age at which a batch is inserted
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub batch_delay: Duration,
    /// Most that hits read and not yet stored may take in memory, with what is kept for the next ones; beyond it nothing
    /// more is read
    #[arg(long, value_name = "BYTES", default_value = "128MiB")]
    pub memory_limit: ByteSize,
    /// Longest time between a crash and the moment when all it left is inserted again; ClickHouse has to remember the
    /// tokens of what is inserted meanwhile
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    pub longest_recovery: Duration,
    /// Batches that are inserted at the same time
    #[arg(long, value_name = "COUNT", default_value = "4", value_parser = clap::value_parser!(u32).range(1..))]
    pub concurrent_inserts: u32,
}

/// How to reach ClickHouse.
#[derive(Debug, Clone, Args)]
pub struct ClickHouseOptions {
    /// ClickHouse's HTTP interface; several replicas of the same tables are separated by commas
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8123", value_delimiter = ',', value_parser = url)]
    pub clickhouse_url: Vec<String>,
    /// User
    #[arg(long, value_name = "USER", default_value = "default")]
    pub clickhouse_user: String,
    /// Password; better given in the environment than on the command line
    #[arg(long, value_name = "PASSWORD", default_value = "", hide_env_values = true, hide_default_value = true)]
    pub clickhouse_password: Secret,
    /// Database
    #[arg(long, value_name = "NAME", default_value = "hitmeter", value_parser = identifier)]
    pub clickhouse_database: String,
    /// How long a request may take before it is given up and sent again; an insert of hits 100 s at most
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub clickhouse_timeout: Duration,
}

/// Options of `sink migrate`.
#[derive(Debug, Clone, Args)]
pub struct MigrateOptions {
    /// Where the database is.
    #[command(flatten)]
    pub clickhouse: ClickHouseOptions,
    /// Name of a ClickHouse cluster: tables are then replicated, and made on all of its nodes
    #[arg(long, value_name = "NAME", value_parser = identifier)]
    pub cluster: Option<String>,
    /// Blocks whose tokens each table remembers at least; tables that remember fewer are altered
    #[arg(long, value_name = "BLOCKS", default_value_t = WIDE, value_parser = clap::value_parser!(u64).range(1..))]
    pub deduplication_window: u64,
    /// Show which migrations are applied and which are not, and change nothing
    #[arg(long, conflicts_with = "dry_run")]
    pub status: bool,
    /// Show the statements that would be run, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// A text that is not shown in logs.
#[derive(Clone, Default)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(hidden)")
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub usize);

/// No batch and no memory limit is larger: places in dictionaries are counted in 32 bits.
const LARGEST_SIZE: usize = 1 << 40;

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, unit) = match text.find(|character: char| !character.is_ascii_digit()) {
            Some(end) => (&text[..end], text[end..].trim()),
            None => (text, ""),
        };
        let factor = match unit {
            "" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            other => return Err(format!("{other:?} is no unit; write KiB, MiB, GiB, or nothing for bytes")),
        };
        let number: usize = digits.parse().map_err(|_| format!("{text:?} is not a number of bytes"))?;
        match number.checked_mul(factor) {
            Some(bytes) if (1..=LARGEST_SIZE).contains(&bytes) => Ok(Self(bytes)),
            _ => Err(format!("{text:?} is not between one byte and 1024 GiB")),
        }
    }
}

fn url(text: &str) -> Result<String, String> {
    let is_url = text.starts_with("http://") || text.starts_with("https://");
    is_url.then(|| text.to_owned()).ok_or_else(|| format!("{text:?} is not a URL such as http://127.0.0.1:8123"))
}

/// A name that stands in statements as it is.
pub(crate) fn identifier(text: &str) -> Result<String, String> {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let starts_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if starts_well && text.chars().all(is_word) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a name of letters, digits and underscores that starts with no digit"))
}

/// A name that stands in tokens, and in the metadata of offsets.
fn epoch(text: &str) -> Result<String, String> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.');
    if (1..=LONGEST_EPOCH).contains(&text.len()) && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a name of at most {LONGEST_EPOCH} letters, digits, dots, dashes and underscores"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Result<RunOptions, clap::Error> {
        match SERVICE.parse_from::<Options>(&[&["sink", "run"], arguments].concat())?.command {
            Command::Run(options) => Ok(*options),
            _ => panic!("run was asked for"),
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_readme() {
        let options = run(&[]).unwrap();
        assert_eq!(options.common.metrics_listen.port(), 9103);
        assert_eq!((options.loading.batch_rows, options.loading.batch_bytes), (50_000, ByteSize(32 << 20)));
        assert_eq!(options.loading.batch_delay, Duration::from_secs(1));
        assert_eq!(options.clickhouse.clickhouse_database, "hitmeter");
    }

    #[test]
    fn several_hosts_are_separated_by_commas() {
        let options = run(&["--clickhouse-url", "http://one:8123,http://two:8123"]).unwrap();
        assert_eq!(options.clickhouse.clickhouse_url, ["http://one:8123", "http://two:8123"]);
        assert!(run(&["--clickhouse-url", "http://one:8123,"]).is_err());
        assert!(run(&["--clickhouse-url", "one:8123"]).is_err());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!("5".parse(), Ok(ByteSize(5)));
        assert_eq!("3KiB".parse(), Ok(ByteSize(3072)));
        for wrong in ["", "0", "MiB", "5 MB", "-1", "99999999999GiB"] {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_database_that_is_no_name_is_refused() {
        assert!(run(&["--clickhouse-database", "hits; DROP"]).is_err());
        assert!(run(&["--clickhouse-database", "9lives"]).is_err());
    }

    #[test]
    fn the_password_is_shown_nowhere() {
        let options = run(&["--clickhouse-password", "open-sesame"]).unwrap();
        assert!(!format!("{options:?}").contains("sesame"));
    }
}

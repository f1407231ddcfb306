//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, FromArgMatches, Parser, Subcommand, ValueEnum};
use schemas::MatchKind;
use service::logs::LogFormat;
use service::options::{CommonOptions, KafkaOptions, Service, milliseconds, seconds};

/// Its name, and where it shows its metrics by default.
pub const SERVICE: Service = Service { name: "enricher", metrics_listen: "127.0.0.1:9102" };

/// Adds what the networks, registries and partners know about a hit
#[derive(Debug, Parser)]
#[command(name = "enricher", version)]
pub struct EnricherOptions {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrich hits; what is done when nothing else is said
    Run(Box<RunOptions>),
    /// Publish, show or remove what partners know
    Partners {
        /// What to do with partner records.
        #[command(subcommand)]
        command: Box<PartnersCommand>,
    },
}

/// What to do with partner records.
#[derive(Debug, Subcommand)]
pub enum PartnersCommand {
    /// Publish the records of a file: all of them, or none if a line is wrong
    Import(ImportOptions),
    /// Print records as JSON lines, which import reads
    List(ListOptions),
    /// Remove the records that match
    Remove(RemoveOptions),
}

/// Data that the enricher can be told to do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Without {
    /// Places.
    GeoipCity,
    /// Networks.
    GeoipNetwork,
    /// Browsers and devices; client hints and robots are still read.
    UserAgents,
    /// Names and classes of referrers.
    Referrers,
}

/// What is promised about a hit that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Delivery {
    /// Its enriched hit is there once, and its offset is committed in the same transaction.
    ExactlyOnce,
    /// Its enriched hit is there; after a failure it may be there again. For brokers without transactions.
    AtLeastOnce,
}

/// Options of `enricher run`.
#[derive(Debug, Clone, Args)]
pub struct RunOptions {
    /// Options of every service.
    #[command(flatten)]
    pub common: CommonOptions,
    /// Brokers and topics.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// Consumer group of hits.raw
    #[arg(long, value_name = "NAME", default_value = "enricher")]
    pub group: String,
    /// Name of this process in the group: it keeps its partitions over a restart; worker n is NAME-n
    #[arg(long, value_name = "NAME")]
    pub group_instance_id: Option<String>,
    /// Threads that enrich, each with a consumer and a producer
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// Hits of one batch at most
    #[arg(long, value_name = "COUNT", default_value = "5000", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_hits: u32,
    /// Bytes of one batch's enriched hits at most
    #[arg(long, value_name = "BYTES", default_value = "16777216", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_bytes: u32,
    /// How long a batch's first hit waits for the last, milliseconds
    #[arg(long, value_name = "MILLISECONDS", default_value = "100", value_parser = milliseconds)]
    pub batch_delay: Duration,
    /// Whether batches are Kafka transactions
    #[arg(long, value_enum, value_name = "DELIVERY", default_value = "exactly-once")]
    pub delivery: Delivery,
    /// How far apart two hits of one visitor with one hit id may arrive to be the same hit, seconds; 0 drops none
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
    pub duplicate_window: Duration,
    /// Hits of a partition that are remembered at most, to find duplicates among the next
    #[arg(long, value_name = "COUNT", default_value = "200000", value_parser = clap::value_parser!(u32).range(1..))]
    pub duplicate_hits: u32,
    /// Keys by which people are known in the topic privacy, the newest first
    #[arg(long, value_name = "PATH")]
    pub privacy_keys: Option<PathBuf>,
    /// File of sites, for the hosts that are a site's own; read again when it changes
    #[arg(long, value_name = "PATH")]
    pub sites: Option<PathBuf>,
    /// City database in MaxMind's format; read again when it changes
    #[arg(long, value_name = "PATH")]
    pub geoip_city: Option<PathBuf>,
    /// Network (AS) database in MaxMind's format; read again when it changes
    #[arg(long, value_name = "PATH")]
    pub geoip_network: Option<PathBuf>,
    /// uap-core's regexes.yaml
    #[arg(long, value_name = "PATH")]
    pub user_agent_regexes: Option<PathBuf>,
    /// Known referrers: JSON in the layout of Snowplow's referer-parser database
    #[arg(long, value_name = "PATH")]
    pub referrers: Option<PathBuf>,
    /// Runs without this data, whose fields stay empty; may be given more than once
    #[arg(long, value_enum, value_name = "DATA", value_delimiter = ',')]
    pub without: Vec<Without>,
    /// Bytes that partner records may take in memory
    #[arg(long, value_name = "BYTES", default_value = "201326592")]
    pub partner_bytes: usize,
}

/// What both kinds of `partners` commands log.
#[derive(Debug, Clone, Args)]
pub struct LogOptions {
    /// Which log lines are written, as `level` or `target=level,...`
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    pub log_filter: String,
    /// How log lines are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Options of `enricher partners import`.
#[derive(Debug, Clone, Args)]
pub struct ImportOptions {
    /// The file: .csv with a header, or .jsonl
    pub file: PathBuf,
    /// Publishes the lines that are right, although others are wrong
    #[arg(long)]
    pub skip_invalid: bool,
    /// Brokers and topics.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// Logging.
    #[command(flatten)]
    pub log: LogOptions,
}

/// Which records.
#[derive(Debug, Clone, Args)]
pub struct Filter {
    /// Only records that match in this way
    #[arg(long, value_name = "KIND", value_parser = match_kind)]
    pub kind: Option<MatchKind>,
    /// Only the record for this range, hash, domain or visitor id
    #[arg(long, value_name = "VALUE")]
    pub value: Option<String>,
    /// Only records for this site; an empty text for those for all sites
    #[arg(long, value_name = "KEY")]
    pub site: Option<String>,
    /// Only records of this partner
    #[arg(long, value_name = "NAME")]
    pub partner: Option<String>,
}

/// Options of `enricher partners list`.
#[derive(Debug, Clone, Args)]
pub struct ListOptions {
    /// Which records.
    #[command(flatten)]
    pub filter: Filter,
    /// Brokers and topics.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// Logging.
    #[command(flatten)]
    pub log: LogOptions,
}

/// Options of `enricher partners remove`.
#[derive(Debug, Clone, Args)]
pub struct RemoveOptions {
    /// Which records.
    #[command(flatten)]
    pub filter: Filter,
    /// Brokers and topics.
    #[command(flatten)]
    pub kafka: KafkaOptions,
    /// Logging.
    #[command(flatten)]
    pub log: LogOptions,
}

fn match_kind(text: &str) -> Result<MatchKind, String> {
    let kinds = MatchKind::ALL.iter().skip(1);
    let names: Vec<&str> = kinds.map(|kind| kind.as_str()).collect();
    MatchKind::from_symbol(text)
        .filter(|kind| *kind != MatchKind::Unknown)
        .ok_or_else(|| format!("{text:?} is none of {}", names.join(", ")))
}

/// The enricher's command, with its own defaults and the names of environment variables in it.
#[must_use]
pub fn command() -> clap::Command {
    // A filter in the environment would narrow, or widen, what a later command removes.
    let shown = |partners: clap::Command| {
        ["list", "remove"].into_iter().fold(partners, |partners, name| {
            partners.mut_subcommand(name, |command| {
                ["kind", "value", "site", "partner"]
                    .into_iter()
                    .fold(command, |command, argument| command.mut_arg(argument, |argument| argument.env(None::<&str>)))
            })
        })
    };
    SERVICE.command::<EnricherOptions>().mut_subcommand("partners", shown)
}

/// Reads a command line, of which the first word is the program. Without a subcommand it is `run`.
///
/// # Errors
/// Where the command line is wrong, or help is asked for.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<EnricherOptions, clap::Error> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    let first = arguments.get(1).and_then(|argument| argument.to_str());
    let is_option = first.is_none_or(|first| first.starts_with('-'));
    let asks = matches!(first, Some("-h" | "--help" | "-V" | "--version"));
    if is_option && !asks {
        arguments.insert(1.min(arguments.len()), "run".into());
    }
    EnricherOptions::from_arg_matches(&command().try_get_matches_from(arguments)?)
}

impl RunOptions {
    /// Reads the options of `enricher run` from words such as `--workers=2`, for those who run it in their process.
    ///
    /// # Errors
    /// Where a word is wrong.
    pub fn from_words<Word: Into<OsString>>(words: impl IntoIterator<Item = Word>) -> Result<Self, clap::Error> {
        let start = ["enricher".into(), "run".into()];
        match read(start.into_iter().chain(words.into_iter().map(Into::into)))?.command {
            Command::Run(options) => Ok(*options),
            Command::Partners { .. } => Err(clap::Error::new(clap::error::ErrorKind::InvalidSubcommand)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn run_is_what_is_done_by_default_and_listens_on_its_own_port() {
        for line in ["enricher", "enricher run", "enricher --workers 2"] {
            let Command::Run(options) = read(words(line)).unwrap().command else { panic!("{line}") };
            assert_eq!(options.common.metrics_listen.to_string(), SERVICE.metrics_listen);
        }
    }

    #[test]
    fn partners_commands_are_read() {
        let line = "enricher partners remove --kind ip_range --value 192.0.2.0/24 --kafka-brokers b:1";
        let Command::Partners { command } = read(words(line)).unwrap().command else { panic!("not partners") };
        let PartnersCommand::Remove(options) = *command else { panic!("not remove") };
        assert_eq!((options.filter.kind, options.kafka.kafka_brokers.as_str()), (Some(MatchKind::IpRange), "b:1"));
        let error = read(words("enricher partners list --kind shoe")).unwrap_err().to_string();
        assert!(error.contains("\"shoe\" is none of ip_range"), "{error}");
    }

    #[test]
    fn the_command_is_sound_and_every_option_has_its_variable() {
        command().debug_assert();
        let command = command();
        let run = command.get_subcommands().find(|command| command.get_name() == "run").unwrap();
        let variable = |id: &str| {
            let argument = run.get_arguments().find(|argument| argument.get_id() == id).unwrap();
            argument.get_env().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(variable("geoip_city"), "ENRICHER_GEOIP_CITY");
        assert_eq!(variable("batch_delay"), "ENRICHER_BATCH_DELAY");
    }
}

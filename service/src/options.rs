//! The command line that all services have in common.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches};

/// Options of every service.
#[derive(Debug, Clone, Args)]
pub struct CommonOptions {
    /// Address of the listener for /metrics, /health and /ready
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub metrics_listen: SocketAddr,
    /// Which log lines are written, as `level` or `target=level,...`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log_filter: String,
    /// How log lines are written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub log_format: crate::logs::LogFormat,
    /// How long a shutdown may take before what is left is given up
    #[arg(long, value_name = "SECONDS", default_value = "25", value_parser = seconds)]
    pub shutdown_deadline: Duration,
}

/// Options of everything that talks to Kafka.
#[derive(Debug, Clone, Args)]
pub struct KafkaOptions {
    /// Brokers to start from, host:port separated by commas
    #[arg(long, value_name = "BROKERS", default_value = "127.0.0.1:9092")]
    pub kafka_brokers: String,
    /// Any property of librdkafka, for producers and consumers alike; may be given more than once, or several separated by
    /// commas
    #[arg(long, value_name = "KEY=VALUE", value_parser = properties, hide_env_values = true)]
    pub kafka_property: Vec<Properties>,
    /// What all topic names of this installation start with
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub topic_prefix: String,
    /// Partitions of hits.raw and of hits.enriched where they are created here [default: the catalogue's, 2]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(i32).range(1..))]
    pub topic_partitions: Option<i32>,
    /// Replicas of the topics that are created here
    #[arg(long, value_name = "COUNT", default_value = "-1", allow_hyphen_values = true)]
    pub topic_replication: i32,
    /// Whether missing topics are created, and settings held against the catalogue
    #[arg(long, value_enum, value_name = "SETUP", default_value = "create")]
    pub topic_setup: TopicSetup,
    /// A schema registry; messages are then written in Confluent's format, else in Avro's single-object encoding
    #[arg(long, value_name = "URL")]
    pub schema_registry: Option<String>,
}

/// Properties of librdkafka, as they are given at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties(pub Vec<(String, String)>);

/// What a service does about topics when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TopicSetup {
    /// Create those that are missing, then check all.
    Create,
    /// Check all, and refuse to run when one is missing.
    Check,
    /// Trust that they are there: for brokers without an administrative interface.
    Skip,
}

/// What tells one service's command line from another's.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Its name; in capitals, what its environment variables start with.
    pub name: &'static str,
    /// Where it shows its metrics unless told otherwise.
    pub metrics_listen: &'static str,
}

impl Service {
    /// Reads the command line, each option of which may also stand in the environment as `SERVICE_OPTION`. Ends the
    /// process with a message where the command line is wrong, or help is asked for.
    #[must_use]
    pub fn parse<Options: CommandFactory + FromArgMatches>(self) -> Options {
        let matches = self.command::<Options>().get_matches();
        Options::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The same, from given words, the first of which is the program's name.
    ///
    /// # Errors
    /// Where the command line is wrong.
    pub fn parse_from<Options: CommandFactory + FromArgMatches>(self, words: &[&str]) -> Result<Options, clap::Error> {
        Options::from_arg_matches(&self.command::<Options>().try_get_matches_from(words)?)
    }

    /// The command, with the names of the environment variables in it.
    #[must_use]
    pub fn command<Options: CommandFactory>(self) -> clap::Command {
        self.complete(Options::command())
    }

    fn complete(self, command: clap::Command) -> clap::Command {
        let own = command.mut_args(|argument| {
            let id = argument.get_id().as_str().to_owned();
            let argument = if id == "metrics_listen" { argument.default_value(self.metrics_listen) } else { argument };
            match argument.get_long() {
                Some(_) => argument.env(format!("{}_{id}", self.name).to_uppercase()),
                None => argument,
            }
        });
        own.mut_subcommands(|subcommand| self.complete(subcommand))
    }
}

/// Reads a number of seconds, which may have a fraction.
///
/// # Errors
/// Where the text is not such a number.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(number).map_err(|error| format!("{text:?} seconds: {error}"))
}

/// Reads a number of milliseconds.
///
/// # Errors
/// Where the text is not such a number.
pub fn milliseconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_millis).map_err(|_| format!("{text:?} is not a whole number of milliseconds"))
}

/// A comma belongs to the value, as of a password, unless a property follows it.
fn properties(text: &str) -> Result<Properties, String> {
    let is_name =
        |key: &str| !key.is_empty() && key.bytes().all(|each| each.is_ascii_lowercase() || b"._".contains(&each));
    let mut all: Vec<(String, String)> = Vec::new();
    for part in text.split(',') {
        let property = part.split_once('=').map(|(key, value)| (key.trim(), value)).filter(|(key, _)| is_name(key));
        match (property, all.last_mut()) {
            (Some((key, value)), _) => all.push((key.to_owned(), value.to_owned())),
            (None, Some((_, value))) => *value += &format!(",{part}"),
            (None, None) => return Err(format!("{part:?} is not of the form key=value")),
        }
    }
    all.iter_mut().for_each(|(_, value)| *value = value.trim().to_owned());
    Ok(Properties(all))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Example {
        #[command(flatten)]
        common: CommonOptions,
        #[command(flatten)]
        kafka: KafkaOptions,
    }

    const SERVICE: Service = Service { name: "example", metrics_listen: "127.0.0.1:9999" };

    fn read(arguments: &[&str]) -> Result<Example, clap::Error> {
        SERVICE.parse_from(&[&["example"], arguments].concat())
    }

    #[test]
    fn every_option_has_its_variable() {
        let command = SERVICE.command::<Example>();
        let variable = |id: &str| {
            let argument = command.get_arguments().find(|argument| argument.get_id() == id).unwrap();
            argument.get_env().unwrap().to_str().unwrap().to_owned()
        };
        assert_eq!(variable("kafka_brokers"), "EXAMPLE_KAFKA_BROKERS");
        assert_eq!(variable("metrics_listen"), "EXAMPLE_METRICS_LISTEN");
    }

    fn given(example: &Example) -> Vec<(&str, &str)> {
        let all = example.kafka.kafka_property.iter().flat_map(|properties| &properties.0);
        all.map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    #[test]
    fn a_value_may_have_commas_and_is_not_shown() {
        let several = "sasl.username=ada, sasl.password = Pa,ss,W=rd ,debug=broker,topic";
        let example = read(&["--kafka-property", several, "--kafka-property=ssl.cipher.suites=a,b"]).unwrap();
        let expected = [
            ("sasl.username", "ada"),
            ("sasl.password", "Pa,ss,W=rd"),
            ("debug", "broker,topic"),
            ("ssl.cipher.suites", "a,b"),
        ];
        assert_eq!(given(&example), expected);
        let command = SERVICE.command::<Example>();
        let property = command.get_arguments().find(|argument| argument.get_id() == "kafka_property").unwrap();
        assert!(property.is_hide_env_values_set());
    }

    #[test]
    fn properties_may_be_given_more_than_once() {
        let example = read(&["--kafka-property", "linger.ms=5", "--kafka-property=acks=all"]).unwrap();
        assert_eq!(given(&example), [("linger.ms", "5"), ("acks", "all")]);
        assert_eq!(example.common.metrics_listen.port(), 9999);
        assert_eq!(example.common.shutdown_deadline, Duration::from_secs(25));
    }

    #[test]
    fn a_property_without_a_value_is_refused_by_name() {
        let error = read(&["--kafka-property", "acks"]).err().unwrap().to_string();
        assert!(error.contains("--kafka-property") && error.contains("\"acks\""), "{error}");
    }
}

//! The command line: what the stack is made of and where it listens.

use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use local::Paths;
use std::path::PathBuf;

/// A whole hitmeter on this machine: Kafka, ClickHouse, the three services and a demo site
#[derive(Debug, Parser)]
#[command(name = "hitmeter-local", version)]
pub struct CommandLine {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
    /// What the stack is made of
    #[command(flatten)]
    pub settings: Settings,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Action {
    /// Start everything in the background, send one visit, show its row, and return
    Up,
    /// Stop everything and keep the data
    Down,
    /// Show what runs
    Status,
    /// Start everything and stay in the foreground until SIGTERM or SIGINT (what `up` starts in the background)
    Supervise,
}

/// Ports, folders and servers.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// A Kafka that exists already, host:port; then none is started
    #[arg(long, env = "KAFKA", value_name = "BROKERS", global = true)]
    pub kafka: Option<String>,
    /// A ClickHouse that exists already, http://host:port; then none is started
    #[arg(long, env = "CLICKHOUSE", value_name = "URL", global = true)]
    pub clickhouse: Option<String>,
    /// The user for that ClickHouse
    #[arg(long, env = "CLICKHOUSE_USER", value_name = "USER", default_value = "default", global = true)]
    pub clickhouse_user: String,
    /// Its password
    #[arg(long, env = "CLICKHOUSE_PASSWORD", value_name = "PASSWORD", default_value = "", global = true)]
    #[arg(hide_env_values = true)]
    pub clickhouse_password: String,
    /// Port of Kafka
    #[arg(long, env = "HITMETER_KAFKA_PORT", value_name = "PORT", default_value_t = 9092, global = true)]
    pub kafka_port: u16,
    /// Port of ClickHouse's HTTP interface
    #[arg(long, env = "HITMETER_CLICKHOUSE_HTTP_PORT", value_name = "PORT", default_value_t = 8123, global = true)]
    pub clickhouse_http_port: u16,
    /// Port of ClickHouse's native protocol
    #[arg(long, env = "HITMETER_CLICKHOUSE_TCP_PORT", value_name = "PORT", default_value_t = 9000, global = true)]
    pub clickhouse_tcp_port: u16,
    /// Port of the collector
    #[arg(long, env = "HITMETER_COLLECTOR_PORT", value_name = "PORT", default_value_t = 8080, global = true)]
    pub collector_port: u16,
    /// Port of the collector's metrics
    #[arg(long, env = "HITMETER_COLLECTOR_METRICS_PORT", value_name = "PORT", default_value_t = 9101, global = true)]
    pub collector_metrics_port: u16,
    /// Port of the enricher's metrics
    #[arg(long, env = "HITMETER_ENRICHER_METRICS_PORT", value_name = "PORT", default_value_t = 9102, global = true)]
    pub enricher_metrics_port: u16,
    /// Port of the sink's metrics
    #[arg(long, env = "HITMETER_SINK_METRICS_PORT", value_name = "PORT", default_value_t = 9103, global = true)]
    pub sink_metrics_port: u16,
    /// Port of the demo site
    #[arg(long, env = "HITMETER_SITE_PORT", value_name = "PORT", default_value_t = 8000, global = true)]
    pub site_port: u16,
    /// Where data, logs and the state of the stack are kept; a second stack needs another folder and other ports
    #[arg(long, env = "HITMETER_DIRECTORY", value_name = "FOLDER", global = true)]
    // The servers run in folders of their own, where a relative path would lead elsewhere.
    #[arg(default_value_os_t = Paths::new().local(""), value_parser = PathBufValueParser::new().try_map(std::path::absolute))]
    pub directory: PathBuf,
}

impl Settings {
    /// The log file of a part of the stack.
    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{name}.log"))
    }

    /// Where servers keep their data.
    pub fn data(&self, name: &str) -> PathBuf {
        self.directory.join("state").join(name)
    }

    /// A file that tells about the running stack.
    pub fn run(&self, name: &str) -> PathBuf {
        self.directory.join("run").join(name)
    }

    /// Address of the collector.
    pub fn collector_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.collector_port)
    }

    /// Address of the demo site.
    pub fn site_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.site_port)
    }

    /// Address of ClickHouse's HTTP interface.
    pub fn clickhouse_url(&self) -> String {
        let own = || format!("http://127.0.0.1:{}", self.clickhouse_http_port);
        self.clickhouse.as_deref().map_or_else(own, |url| url.trim_end_matches('/').to_owned())
    }

    /// The ports that this stack listens on: (who, port, the variable that moves it).
    pub fn ports(&self) -> Vec<(&'static str, u16, &'static str)> {
        let mut ports = Vec::new();
        if self.kafka.is_none() {
            ports.push(("Kafka", self.kafka_port, local::kafka::PORT_VARIABLE));
        }
        if self.clickhouse.is_none() {
            ports.push(("ClickHouse", self.clickhouse_http_port, local::clickhouse::HTTP_PORT_VARIABLE));
            ports.push(("ClickHouse", self.clickhouse_tcp_port, local::clickhouse::TCP_PORT_VARIABLE));
        }
        ports.extend([
            ("the sink's metrics", self.sink_metrics_port, "HITMETER_SINK_METRICS_PORT"),
            ("the enricher's metrics", self.enricher_metrics_port, "HITMETER_ENRICHER_METRICS_PORT"),
            ("the collector's metrics", self.collector_metrics_port, "HITMETER_COLLECTOR_METRICS_PORT"),
            ("the collector", self.collector_port, "HITMETER_COLLECTOR_PORT"),
            ("the demo site", self.site_port, "HITMETER_SITE_PORT"),
        ]);
        ports
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_help_names_every_variable() {
        let mut command = CommandLine::command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        let settings = CommandLine::parse_from(["hitmeter-local", "up"]).settings;
        for (_, _, variable) in settings.ports() {
            assert!(help.contains(variable), "{variable} is not in --help");
        }
        assert!(help.contains("KAFKA") && help.contains("CLICKHOUSE"));
    }

    #[test]
    fn a_folder_is_the_same_wherever_a_server_runs() {
        let settings = CommandLine::parse_from(["hitmeter-local", "up", "--directory", "second stack"]).settings;
        assert_eq!(settings.directory, std::env::current_dir().unwrap().join("second stack"));
    }

    #[test]
    fn servers_that_exist_already_take_no_port_here() {
        let line = ["hitmeter-local", "up", "--kafka", "kafka:9092", "--clickhouse", "http://there:8123/"];
        let settings = CommandLine::parse_from(line).settings;
        assert_eq!(settings.clickhouse_url(), "http://there:8123");
        assert!(settings.ports().iter().all(|(who, _, _)| *who != "Kafka" && *who != "ClickHouse"));
    }
}

//! The collector's command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ipnet::IpNet;
use service::options::{CommonOptions, KafkaOptions, Service, milliseconds, seconds};

use crate::spool::Settings;

/// The collector among the services.
pub const SERVICE: Service = Service { name: "collector", metrics_listen: "127.0.0.1:9101" };

/// Takes hits over HTTP and publishes them to Kafka.
#[derive(Debug, Clone, Parser)]
#[command(name = "collector", version)]
pub struct Options {
    /// Address on which hits are taken
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// The file of the sites, read again when it changes
    #[arg(long, value_name = "FILE", default_value = "sites.toml")]
    pub sites: PathBuf,
    /// Keys by which people are known in the topic privacy, the newest first; without them, only browsers object
    #[arg(long, value_name = "FILE")]
    pub privacy_keys: Option<PathBuf>,
    /// Region of this collector and its brokers; hits of sites that belong to another are refused
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// Networks of proxies whose forwarding headers count, such as 10.0.0.0/8; may be given more than once
    #[arg(long, value_name = "NETWORK", value_delimiter = ',')]
    pub trusted_proxy: Vec<IpNet>,
    /// The header in which those proxies tell the client's address; the other one is ignored
    #[arg(long, value_enum, value_name = "HEADER", default_value = "x-forwarded-for")]
    pub forwarding_header: ForwardingHeader,
    /// Expect the PROXY protocol (v1 or v2) at the start of each connection from a trusted proxy
    #[arg(long)]
    pub proxy_protocol: bool,
    /// How long a hit may wait for Kafka's acknowledgement before it is spooled, or without a spool the answer is 503
    /// [default: 250 with a spool, 3000 without]
    #[arg(long, value_name = "MILLISECONDS", value_parser = milliseconds)]
    pub publish_deadline: Option<Duration>,
    /// A folder on local disk that takes hits while Kafka does not; this collector's alone
    #[arg(long, value_name = "FOLDER")]
    pub spool: Option<PathBuf>,
    /// Most bytes in the spool; beyond, the answer is 503
    #[arg(long, value_name = "BYTES", default_value = "4294967296")]
    pub spool_bytes: u64,
    /// Spooled hits that are older are not published any more
    #[arg(long, value_name = "SECONDS", default_value = "259200", value_parser = seconds)]
    pub spool_age: Duration,
    /// How long Kafka's client waits for more hits before it sends a batch; so much longer an answer takes
    #[arg(long, value_name = "MILLISECONDS", default_value = "10", value_parser = milliseconds)]
    pub publish_linger: Duration,
    /// Bytes of hits that may wait for Kafka; beyond, the answer is 503
    #[arg(long, value_name = "BYTES", default_value = "67108864")]
    pub queue_bytes: usize,
    /// Largest body, as sent and decompressed
    #[arg(long, value_name = "BYTES", default_value = "1048576")]
    pub body_bytes: usize,
    /// Most hits in one body
    #[arg(long, value_name = "COUNT", default_value = "1000")]
    pub batch_hits: usize,
    /// Largest request line and headers together, 8192 at least
    #[arg(long, value_name = "BYTES", default_value = "32768", value_parser = header_bytes)]
    pub header_bytes: usize,
    /// How long a connection may be idle, or take to send a request's headers; longer than the balancer's own
    #[arg(long, value_name = "SECONDS", default_value = "75", value_parser = seconds)]
    pub idle_timeout: Duration,
    /// How long a client may take to send a body, and to take an answer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub body_timeout: Duration,
    /// Most connections at once, as far as the limit of open files permits; further ones wait
    #[arg(long, value_name = "COUNT", default_value = "20000")]
    pub connections: usize,
    /// What all services have in common
    #[command(flatten)]
    pub common: CommonOptions,
    /// Kafka
    #[command(flatten)]
    pub kafka: KafkaOptions,
}

impl Options {
    /// How long a hit may wait for Kafka's acknowledgement.
    #[must_use]
    pub fn publish_deadline(&self) -> Duration {
        let default = if self.spool.is_some() { 250 } else { 3000 };
        self.publish_deadline.unwrap_or(Duration::from_millis(default))
    }

    /// The spool, where there is one.
    #[must_use]
    pub fn spool_settings(&self) -> Option<Settings> {
        let settings = |path: &PathBuf| Settings { path: path.clone(), bytes: self.spool_bytes, age: self.spool_age };
        self.spool.as_ref().map(settings)
    }
}

/// A header in which proxies tell whom they forward for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ForwardingHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

fn header_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| format!("{text:?} is not a number of bytes"))?;
    if bytes < 8192 { Err("must be 8192 at least".to_owned()) } else { Ok(bytes) }
}

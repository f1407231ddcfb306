//! The collector: HTTP in, topic out.
//!
//! The way of a hit, in the order of the modules:
//!
//! 1. [`server`] accepts connections within limits, [`connection`] takes their requests: a pixel that comes in one piece is
//!    read and answered where it lies (`pixel_request`), all else by hyper. [`client`] finds the client's address behind
//!    proxies that are trusted, and reads its [`headers`].
//! 2. [`routes`] picks what is asked for. Hits come by [`pixel`] (a GIF) or [`api`] (JSON bodies, which [`body`]
//!    decompresses within a cap); both yield [`fields`], the names that all protocols share.
//! 3. [`policy`] decides from signals, opt-out, consent and [`objections`] that came by another way whether the hit is kept, made anonymous or dropped: before
//!    anything is stored. What was meant as a hit and can't be read goes through it too, in [`unreadable`].
//! 4. [`identity`] finds visitor and session: [`cookies`], the client's own ids, or a hash with a key of the day that
//!    all collectors share through a topic ([`daily_keys`]) and then forget.
//! 5. [`assemble`] makes the `RawHit`; [`publisher`] writes it to Kafka and waits for the acknowledgement of all
//!    replicas. What Kafka does not take in time goes to the [`spool`] on local disk, which is synced, and from there to
//!    Kafka later. Only then is the answer 2xx.
//! 6. [`outcome`] counts what became of each hit: exactly one outcome each, so that received = sum of outcomes.
//!
//! [`opt_out`] has the pages by which a person objects, [`tag`] serves the JavaScript tag.
//!
//! But for the spool, the collector keeps no state of its own, and it looks nothing up: any number of them may stand behind a balancer. It
//! never answers 2xx for a hit that is not durable, never stores more than the site's policy permits, and never logs
//! a person's data.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use service::endpoint::Endpoint;
use service::health::Health;
use service::kafka::TopicError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub mod api;
pub mod assemble;
pub mod body;
pub mod client;
pub mod connection;
pub mod cookies;
pub mod daily_keys;
pub mod descriptors;
pub mod fields;
pub mod headers;
pub mod identity;
pub mod metrics;
pub mod objections;
pub mod opt_out;
pub mod options;
pub mod outcome;
pub mod pixel;
mod pixel_request;
pub mod policy;
pub mod publisher;
pub mod routes;
pub mod server;
pub mod spool;
pub mod tag;
pub mod unreadable;

pub use options::{Options, SERVICE};

use daily_keys::DailyKeys;
use metrics::Metrics;
use objections::Objections;
use publisher::Publisher;
use routes::Collector;
use service::sites::SitesFile;

/// Readiness: the brokers answer.
const BROKER: &str = "broker";
/// Readiness: there is room for hits that wait for the brokers.
const QUEUE: &str = "queue";
/// Readiness: the spool takes hits.
const SPOOL: &str = "spool";
/// Readiness: the key of the day's visitor hashes is known.
const DAILY_KEY: &str = "daily key";
/// Readiness: not shutting down.
const ACCEPTING: &str = "accepting";

/// Why a collector does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The sites file is missing or wrong.
    #[error(transparent)]
    Sites(#[from] service::sites::SitesError),
    /// The privacy keys are missing or wrong.
    #[error(transparent)]
    PrivacyKeys(#[from] service::privacy::keys::KeysError),
    /// A topic is missing or wrong.
    #[error(transparent)]
    Topics(#[from] service::kafka::TopicError),
    /// Kafka's client refuses its settings.
    #[error("Kafka's client refuses its settings: {0}; check --kafka-property")]
    Client(#[from] rdkafka::error::KafkaError),
    /// The schemas can't be written.
    #[error(transparent)]
    Schema(#[from] schemas::WireError),
    /// The metrics listener can't be opened.
    #[error(transparent)]
    MetricsListener(#[from] service::endpoint::ListenError),
    /// The listener can't be opened.
    #[error("cannot listen on {address}: {cause}; choose another address with --listen")]
    Listener {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// The spool can't be used.
    #[error(transparent)]
    Spool(#[from] spool::SpoolError),
    /// A metric is registered twice.
    #[error("metrics cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// A collector that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it takes hits.
    pub address: SocketAddr,
    /// Where it shows metrics and health.
    pub metrics_address: SocketAddr,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    /// Ends when everything accepted is answered and acknowledged, after `shutdown`.
    pub task: JoinHandle<()>,
}

/// Starts a collector, which runs until `shutdown`.
///
/// # Errors
/// Where anything it needs is missing or wrong.
pub async fn start(options: Options, shutdown: CancellationToken) -> Result<Running, StartError> {
    let sites = SitesFile::open(&options.sites)?;
    set_up_topics(&options, &shutdown).await?;
    let metrics = Arc::new(Metrics::new()?);
    let health = Health::waiting_for(match options.spool {
        None => &[ACCEPTING, BROKER, DAILY_KEY, QUEUE],
        Some(_) => &[ACCEPTING, QUEUE, SPOOL],
    });
    let endpoint = Endpoint { registry: metrics.registry.clone(), health: health.clone() };
    let metrics_address = endpoint.clone().serve(options.common.metrics_listen, shutdown.clone()).await?;

    let watched = Arc::clone(&metrics);
    sites.watch(shutdown.clone(), move |succeeded| watched.site_reload(succeeded));
    let publisher = Publisher::start(&options, Arc::clone(&metrics), health.clone(), shutdown.clone())?;
    let daily_keys = DailyKeys::start(&options, &health, &shutdown)?;
    let objections = Objections::start(&options, &shutdown)?;
    let metrics_of = Arc::clone(&metrics);
    let collector =
        Arc::new(Collector { sites, publisher, daily_keys, objections, metrics: metrics_of, endpoint, options });

    let (address, task) = server::start(collector, health, shutdown).await?;
    Ok(Running { address, metrics_address, metrics, task })
}

/// Sets up the topics. With a spool the collector starts without the brokers too, and does it when they answer.
async fn set_up_topics(options: &Options, shutdown: &CancellationToken) -> Result<(), TopicError> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let kafka = options.kafka.clone();
    if options.spool.is_none() {
        return kafka.set_up_topics(SERVICE.name, publisher::TOPICS).await;
    }
    match tokio::time::timeout(PATIENCE, kafka.set_up_topics(SERVICE.name, publisher::TOPICS)).await {
        Ok(Err(TopicError::Brokers { .. })) | Err(_) => {}
        Ok(result) => return result,
    }
    tracing::warn!(brokers = kafka.kafka_brokers, "the brokers do not answer; hits are spooled, topics set up later");
    let again = async move {
        while let Err(error) = kafka.set_up_topics(SERVICE.name, publisher::TOPICS).await {
            tracing::warn!(%error, "topics are not set up");
            tokio::time::sleep(PATIENCE).await;
        }
    };
    tokio::spawn(shutdown.clone().run_until_cancelled_owned(again));
    Ok(())
}

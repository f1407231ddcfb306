//! `sink run`: puts the parts together.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use prometheus::Registry;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use schemas::topics::{HITS_DEAD, HITS_ENRICHED, PRIVACY as PRIVACY_TOPIC};
use schemas::{EnrichedHit, Reader};
use service::compacted::BROKER;
use service::endpoint::Endpoint;
use service::health::Health;
use service::kafka::TopicError;
use service::options::TopicSetup;
use service::privacy::asked::Asked;
use service::privacy::directives::Directives;
use service::privacy::follower::{Follower, PRIVACY};
use service::privacy::keys::Keys;
use service::sites::SitesFile;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::batch::Limits;
use crate::board::{self, Board};
use crate::clickhouse::ClickHouse;
use crate::consume::{Group, KAFKA, consume, consumer_settings};
use crate::dead_letters::DeadTopic;
use crate::error::SinkError;
use crate::fault::Fault;
use crate::load::{self, CLICKHOUSE, Loader};
use crate::metrics::Metrics;
use crate::migrate::{MigrateError, Migrator};
use crate::options::RunOptions;
use crate::pace::Backoff;
use crate::privacy::Executor;
use crate::window::Need;
use crate::{refreshes, retention};

/// How often ClickHouse is asked whether it is there.
const PING: Duration = Duration::from_secs(5);
/// How long the brokers have to tell of a topic.
const METADATA: Duration = Duration::from_secs(10);
/// What is left of the deadline of a shutdown for leaving the group.
const LEAVE: Duration = Duration::from_secs(3);

/// What a running sink shows of itself.
#[derive(Debug, Clone)]
pub struct Instruments {
    /// Where the metrics are registered.
    pub registry: Registry,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether it is ready.
    pub health: Health,
}

impl Instruments {
    /// Of a sink that is about to run.
    ///
    /// # Errors
    /// Never, unless two metrics have one name.
    pub fn new() -> Result<Self, SinkError> {
        let registry = Registry::new();
        let metrics = Arc::new(Metrics::new(&registry)?);
        Ok(Self { registry, metrics, health: Health::waiting_for(&[BROKER, KAFKA, CLICKHOUSE, PRIVACY]) })
    }
}

/// Loads hits until `shutdown`, then drains.
///
/// # Errors
/// Where Kafka or ClickHouse can't be used until somebody changes something. That one of them does not answer is no
/// error: the sink waits for it.
pub async fn run(options: RunOptions, instruments: Instruments, shutdown: CancellationToken) -> Result<(), SinkError> {
    let ended = CancellationToken::new();
    let _ends_what_runs_beside = ended.clone().drop_guard();
    let keys = options.privacy_keys.as_deref().map(Keys::open).transpose()?;
    let sites = options.sites.as_deref().map(SitesFile::open).transpose()?;
    let endpoint = Endpoint { registry: instruments.registry.clone(), health: instruments.health.clone() };
    let listening = endpoint.serve(options.common.metrics_listen, ended.clone()).await?;
    tracing::info!(%listening, "metrics");

    let clickhouse = ClickHouse::new(&options.clickhouse);
    let prepared = async {
        wait_for_clickhouse(&clickhouse, &instruments.health).await?;
        if let Some(sites) = &sites {
            retention::check(&clickhouse, &sites.current()).await?;
        }
        wait_for_topics(&options, &instruments.health).await?;
        check_windows(&options, &clickhouse, &instruments.health).await
    };
    match shutdown.run_until_cancelled(prepared).await {
        Some(result) => result?,
        None => return Ok(()),
    }
    let followed = follow(&options, keys.clone(), &instruments.health, &ended);
    let loader = Arc::new(make_loader(&options, &instruments, clickhouse.clone()).await?);
    let execution = keys.map(|keys| {
        let (kafka, group) = (options.kafka.clone(), options.loading.group.clone());
        let executor = Executor::new(kafka, group, clickhouse.clone(), keys, Arc::clone(&instruments.metrics));
        let (is_first, ended) = (Arc::clone(&followed.is_first), ended.clone());
        tokio::task::spawn_blocking(move || executor.run(&is_first, &ended))
    });
    let metrics = Arc::clone(&instruments.metrics);
    tokio::spawn(ended.clone().run_until_cancelled_owned(refreshes::watch(clickhouse.clone(), metrics)));
    tokio::spawn(ended.clone().run_until_cancelled_owned(watch(
        clickhouse,
        Arc::clone(&loader),
        instruments.health.clone(),
    )));
    let loading = Loading { options, instruments, loader, followed };
    let loaded = loading.run(&shutdown).await;
    ended.cancel();
    if let Some(execution) = execution {
        execution.await.map_err(|_| SinkError::Ended("erasing"))?;
    }
    loaded
}

/// What people asked of us, as the topic has it.
struct Followed {
    asked: Arc<Asked>,
    is_first: Arc<AtomicBool>,
}

fn follow(options: &RunOptions, keys: Option<Keys>, health: &Health, ended: &CancellationToken) -> Followed {
    let asked = Arc::new(Asked::new(Directives::new(keys).with_corrections()));
    let follower = Follower {
        kafka: options.kafka.clone(),
        client: "sink",
        asked: Arc::clone(&asked),
        health: health.clone(),
        brokers: Some(health.clone()),
        shutdown: ended.clone(),
    };
    tokio::task::spawn_blocking(move || follower.run());
    Followed { asked, is_first: Arc::default() }
}

type SinkLoader = Loader<ClickHouse, DeadTopic>;

async fn make_loader(
    options: &RunOptions,
    instruments: &Instruments,
    clickhouse: ClickHouse,
) -> Result<SinkLoader, SinkError> {
    let kafka = options.kafka.clone();
    let topic = kafka.topic(&HITS_ENRICHED);
    // Both may ask the registry, and then block.
    let made = tokio::task::spawn_blocking(move || {
        let reader = Reader::new::<EnrichedHit<'_>>(kafka.registry())?;
        let graveyard = DeadTopic::new(&kafka, &topic)?;
        Ok::<_, SinkError>((topic, reader, graveyard))
    });
    let (topic, reader, graveyard) = made.await.map_err(|_| SinkError::Ended("the start"))??;
    let setting = load::Setting {
        token_prefix: format!("{}/{topic}", options.loading.epoch),
        reader: Arc::new(reader),
        metrics: Arc::clone(&instruments.metrics),
        health: instruments.health.clone(),
        concurrent_inserts: options.loading.concurrent_inserts as usize,
        tokens_come_first: Migrator::new(clickhouse.clone(), None).tokens_come_first().await?,
    };
    Ok(Loader::new(clickhouse, graveyard, setting))
}

/// What loads hits.
struct Loading {
    options: RunOptions,
    instruments: Instruments,
    loader: Arc<SinkLoader>,
    followed: Followed,
}

impl Loading {
    /// Loads until `shutdown`, while all directives are known: a hit that passes meanwhile would be stored although somebody
    /// had it erased. While they are not, the sink is no member of the group.
    async fn run(&self, shutdown: &CancellationToken) -> Result<(), SinkError> {
        while shutdown.run_until_cancelled(self.followed.asked.until_all_is_known()).await.is_some() {
            self.load(shutdown.clone()).await?;
        }
        Ok(())
    }

    /// Loads until `shutdown` or a directive that is not known, by when all that was read is stored and committed.
    async fn load(&self, shutdown: CancellationToken) -> Result<(), SinkError> {
        let Instruments { metrics, health, .. } = self.instruments.clone();
        let (topic, tasks) = (self.options.kafka.topic(&HITS_ENRICHED), TaskTracker::new());
        let loading = &self.options.loading;
        let board = Board::new(board::Setting {
            topic: topic.clone(),
            epoch: loading.epoch.as_str().into(),
            limits: Limits {
                rows: loading.batch_rows as usize,
                bytes: loading.batch_bytes.0,
                delay: loading.batch_delay,
            },
            memory_limit: loading.memory_limit.0,
            reader: Arc::clone(&self.loader.setting().reader),
            loader: Arc::clone(&self.loader),
            metrics: Arc::clone(&metrics),
            tasks: tasks.clone(),
            runtime: tokio::runtime::Handle::current(),
            // A broker that is no real one forgets everything, and its topics have names of their own each time.
            expects_new: self.options.kafka.topic_setup != TopicSetup::Skip,
            asked: Arc::clone(&self.followed.asked),
            is_first: Arc::clone(&self.followed.is_first),
        });
        let group = Group::new(board, metrics, health, topic, shutdown.clone());
        let drain = self.options.common.shutdown_deadline.saturating_sub(LEAVE);
        let config = consumer_settings(&self.options);
        let consumed = tokio::task::spawn_blocking(move || consume(&config, group, drain, &shutdown)).await;
        tasks.close();
        tasks.wait().await;
        consumed.map_err(|_| SinkError::Ended("the consumer"))?
    }
}

/// Waits until ClickHouse answers, then checks that the table is what will be written.
async fn wait_for_clickhouse(clickhouse: &ClickHouse, health: &Health) -> Result<(), SinkError> {
    let migrator = Migrator::new(clickhouse.clone(), None);
    let mut backoff = Backoff::default();
    loop {
        match migrator.check().await {
            Ok(()) => {
                health.met(CLICKHOUSE);
                return Ok(());
            }
            Err(MigrateError::ClickHouse { fault: Fault::Halt(code, message), .. }) => {
                return Err(SinkError::Halt { code, message });
            }
            Err(MigrateError::ClickHouse { fault, .. }) => {
                tracing::warn!(said = fault.message(), "ClickHouse does not answer, waiting for it");
                health.unmet(CLICKHOUSE, fault.message());
                tokio::time::sleep(backoff.next_wait()).await;
            }
            Err(other) => return Err(other.into()),
        }
    }
}

/// Waits until the brokers answer, then sees to the topics.
async fn wait_for_topics(options: &RunOptions, health: &Health) -> Result<(), SinkError> {
    let mut backoff = Backoff::default();
    loop {
        match options.kafka.set_up_topics("sink", &[HITS_ENRICHED, HITS_DEAD, PRIVACY_TOPIC]).await {
            Ok(()) => return Ok(()),
            Err(error @ TopicError::Brokers { .. }) => {
                tracing::warn!(%error, "the brokers do not answer, waiting for them");
                health.unmet(KAFKA, error.to_string());
                tokio::time::sleep(backoff.next_wait()).await;
            }
            Err(other) => return Err(other.into()),
        }
    }
}

/// Checks that ClickHouse knows again what it has for as long as a recovery may take.
async fn check_windows(options: &RunOptions, clickhouse: &ClickHouse, health: &Health) -> Result<(), SinkError> {
    let (config, topic) = (consumer_settings(options), options.kafka.topic(&HITS_ENRICHED));
    let mut backoff = Backoff::default();
    loop {
        let (config, topic) = (config.clone(), topic.clone());
        let counted = tokio::task::spawn_blocking(move || partitions(&config, &topic)).await;
        let error = match counted.map_err(|_| SinkError::Ended("the start"))? {
            Ok(partitions) => {
                let loading = &options.loading;
                let (batch_delay, longest_recovery) = (loading.batch_delay, loading.longest_recovery);
                let need = Need { partitions, batch_delay, longest_recovery };
                return Ok(Migrator::new(clickhouse.clone(), None).check_windows(&need).await?);
            }
            Err(error) => error,
        };
        tracing::warn!(%error, "the topic's partitions are not known, waiting for the brokers");
        health.unmet(KAFKA, error.to_string());
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

fn partitions(config: &ClientConfig, topic: &str) -> Result<usize, KafkaError> {
    let client: BaseConsumer = config.create()?;
    let metadata = client.fetch_metadata(Some(topic), METADATA)?;
    Ok(metadata.topics().iter().map(|topic| topic.partitions().len()).sum())
}

/// Keeps readiness right while nothing is inserted.
async fn watch(clickhouse: ClickHouse, loader: Arc<SinkLoader>, health: Health) {
    loop {
        tokio::time::sleep(PING).await;
        match clickhouse.execute("SELECT 1 FORMAT Null").await {
            Ok(()) if !loader.is_failing() => health.met(CLICKHOUSE),
            Ok(()) => {}
            Err(fault) => health.unmet(CLICKHOUSE, fault.message()),
        }
    }
}

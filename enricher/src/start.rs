//! Starting everything in its order, and ending it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use schemas::topics::{self, HITS_DEAD, HITS_ENRICHED, HITS_RAW, PARTNERS};
use schemas::{DeadLetter, EnrichedHit, RawHit, Reader, WireError, Writer};
use service::compacted::BROKER;
use service::endpoint::{Endpoint, ListenError};
use service::health::Health;
use service::kafka::TopicError;
use service::options::KafkaOptions;
use service::privacy::asked::Asked;
use service::privacy::directives::Directives;
use service::privacy::follower::{Follower as PrivacyFollower, PRIVACY};
use service::privacy::keys::{Keys, KeysError};
use service::sites::{SitesError, SitesFile};
use tokio_util::sync::CancellationToken;

use crate::data::DataError;
use crate::data::geoip::{DatabaseKind, GeoIp};
use crate::data::referrers::Referrers;
use crate::data::user_agents::UserAgents;
use crate::hit::{Enricher, Formats, Knowledge};
use crate::metrics::{Metrics, result_name};
use crate::options::{RunOptions, Without};
use crate::partners::follower::{self, Follower};
use crate::partners::index::PartnerIndex;
use crate::pipeline::batch::Limits;
use crate::pipeline::duplicates::Remember;
use crate::pipeline::group::WORKERS;
use crate::pipeline::worker::{Worker, WorkerOptions};

/// How often GeoIP files are looked at.
const GEOIP_POLL: Duration = Duration::from_secs(2);

/// Why the enricher does not run.
#[derive(Debug, thiserror::Error)]
pub enum EnricherError {
    /// An option is missing. Half configured, the enricher would write hits that look enriched and are not.
    #[error("{option} is missing; give the file, or say --without {without} to leave its fields empty")]
    HalfConfigured {
        /// Which option.
        option: &'static str,
        /// What to do without.
        without: &'static str,
    },
    /// A file can't be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The sites file can't be used.
    #[error(transparent)]
    Sites(#[from] SitesError),
    /// The privacy keys can't be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The topics can't be used.
    #[error(transparent)]
    Topics(#[from] TopicError),
    /// A schema, or the registry, can't be used.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The metrics address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Metrics contradict each other.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A thread can't be started, or ended in a panic.
    #[error("a thread of the enricher {0}; the log says more")]
    Thread(String),
}

/// An enricher that runs.
#[derive(Debug)]
pub struct Running {
    /// Where metrics and health are shown.
    pub metrics_address: SocketAddr,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether it is ready.
    pub health: Health,
    shutdown: CancellationToken,
    workers: Vec<JoinHandle<()>>,
}

/// Runs the enricher until `shutdown`, by which time everything that was read is written and committed.
///
/// # Errors
/// Where it can't start, or a thread panicked.
pub async fn run(options: RunOptions, shutdown: CancellationToken) -> Result<(), EnricherError> {
    start(options, shutdown).await?.finished().await
}

/// Starts the enricher: files, topics, metrics, partner records, and when those are read, workers.
///
/// # Errors
/// Where something of this can't be used.
pub async fn start(options: RunOptions, shutdown: CancellationToken) -> Result<Running, EnricherError> {
    let metrics = Metrics::new()?;
    let health = Health::waiting_for(&[BROKER, follower::PARTNERS, PRIVACY, WORKERS]);
    let endpoint = Endpoint { registry: metrics.registry.clone(), health: health.clone() };
    let metrics_address = endpoint.serve(options.common.metrics_listen, shutdown.clone()).await?;
    let knowledge = Arc::new(
        in_background({
            let options = options.clone();
            move || read_files(&options)
        })
        .await?,
    );
    watch(&knowledge, &metrics, &shutdown);
    options.kafka.set_up_topics("enricher", &[HITS_RAW, HITS_ENRICHED, HITS_DEAD, PARTNERS, topics::PRIVACY]).await?;
    let formats = in_background({
        let kafka = options.kafka.clone();
        move || Ok(formats(&kafka)?)
    })
    .await?;
    let enricher = Arc::new(Enricher::new(Arc::clone(&knowledge), metrics.clone(), formats));
    let directives = PrivacyFollower {
        kafka: options.kafka.clone(),
        client: "enricher-privacy",
        asked: Arc::clone(&knowledge.privacy),
        health: health.clone(),
        brokers: None,
        shutdown: shutdown.clone(),
    };
    let follower = Follower {
        kafka: options.kafka.clone(),
        knowledge,
        metrics: metrics.clone(),
        health: health.clone(),
        shutdown: shutdown.clone(),
    };
    let workers = start_workers(&options, &enricher, &metrics, &health, &shutdown);
    let workers = start_threads(follower, directives, workers, &shutdown)?;
    Ok(Running { metrics_address, metrics, health, shutdown, workers })
}

impl Running {
    /// Waits until shutdown and the end of all threads.
    ///
    /// # Errors
    /// Where a thread panicked.
    pub async fn finished(self) -> Result<(), EnricherError> {
        let shutdown = self.shutdown.clone();
        let workers = self.workers;
        let ended = in_background(move || {
            let mut panicked = false;
            for worker in workers {
                panicked |= worker.join().is_err();
            }
            if panicked { Err(EnricherError::Thread("panicked".to_owned())) } else { Ok(()) }
        })
        .await;
        shutdown.cancel();
        ended
    }
}

/// Runs what blocks where blocking hinders nobody.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EnricherError> + Send + 'static,
) -> Result<T, EnricherError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(EnricherError::Thread(error.to_string())),
    }
}

/// A file that must be given unless the enricher is told to do without.
fn given(
    options: &RunOptions,
    path: &Option<PathBuf>,
    option: &'static str,
    (data, without): (Without, &'static str),
) -> Result<Option<PathBuf>, EnricherError> {
    match path {
        _ if options.without.contains(&data) => Ok(None),
        Some(path) => Ok(Some(path.clone())),
        None => Err(EnricherError::HalfConfigured { option, without }),
    }
}

fn read_files(options: &RunOptions) -> Result<Knowledge, EnricherError> {
    let without = |data, name| (data, name);
    let city = given(options, &options.geoip_city, "--geoip-city", without(Without::GeoipCity, "geoip-city"))?;
    let network =
        given(options, &options.geoip_network, "--geoip-network", without(Without::GeoipNetwork, "geoip-network"))?;
    let expressions = without(Without::UserAgents, "user-agents");
    let expressions = given(options, &options.user_agent_regexes, "--user-agent-regexes", expressions)?;
    let referrers = given(options, &options.referrers, "--referrers", without(Without::Referrers, "referrers"))?;
    Ok(Knowledge {
        sites: options.sites.as_deref().map(SitesFile::open).transpose()?,
        referrers: referrers.map_or_else(|| Ok(Referrers::default()), |path| Referrers::open(&path))?,
        user_agents: expressions
            .map_or_else(|| Ok(UserAgents::without_expressions()), |path| UserAgents::open(&path))?,
        geoip: GeoIp::open(city.as_deref(), network.as_deref())?,
        partners: RwLock::new(PartnerIndex::with_room_for(options.partner_bytes)),
        privacy: Arc::new(Asked::new(Directives::new(options.privacy_keys.as_deref().map(Keys::open).transpose()?))),
    })
}

fn formats(kafka: &KafkaOptions) -> Result<Formats, WireError> {
    let registry = kafka.registry();
    Ok(Formats {
        raw: Reader::new::<RawHit<'_>>(registry.clone())?,
        written: Reader::new::<EnrichedHit<'_>>(registry.clone())?,
        enriched: Writer::for_topic::<EnrichedHit<'_>>(&kafka.topic(&HITS_ENRICHED), registry.as_ref())?,
        dead: Writer::for_topic::<DeadLetter<'_>>(&kafka.topic(&HITS_DEAD), registry.as_ref())?,
    })
}

fn watch(knowledge: &Arc<Knowledge>, metrics: &Metrics, shutdown: &CancellationToken) {
    if let Some(sites) = &knowledge.sites {
        let counted = metrics.sites_reloads.clone();
        sites.watch(shutdown.clone(), move |succeeded| {
            counted.with_label_values(&[result_name(succeeded)]).inc();
        });
    }
    show_builds(knowledge, metrics);
    let (knowledge, metrics) = (Arc::clone(knowledge), metrics.clone());
    tokio::spawn(shutdown.clone().run_until_cancelled_owned(async move {
        loop {
            tokio::time::sleep(GEOIP_POLL).await;
            let (knowledge, metrics) = (Arc::clone(&knowledge), metrics.clone());
            // It reads and verifies a large file, once in a while.
            let looked = tokio::task::spawn_blocking(move || look_at_geoip(&knowledge, &metrics)).await;
            if let Err(error) = looked {
                tracing::error!(%error, "looking at the GeoIP files");
            }
        }
    }));
}

fn look_at_geoip(knowledge: &Knowledge, metrics: &Metrics) {
    for reload in knowledge.geoip.look() {
        let database = reload.kind.as_str();
        match &reload.result {
            Ok(version) => tracing::info!(database, version, "GeoIP database replaced"),
            Err(error) => tracing::error!(database, %error, "keeping the GeoIP database as it was"),
        }
        metrics.geoip_reloads.with_label_values(&[database, result_name(reload.result.is_ok())]).inc();
        show_builds(knowledge, metrics);
    }
}

fn show_builds(knowledge: &Knowledge, metrics: &Metrics) {
    let databases = knowledge.geoip.current();
    for kind in DatabaseKind::ALL {
        if let Some(database) = databases.database(kind) {
            let built = i64::try_from(database.build_epoch()).unwrap_or(i64::MAX);
            metrics.geoip_built.with_label_values(&[kind.as_str()]).set(built);
        }
    }
}

fn start_workers(
    options: &RunOptions,
    enricher: &Arc<Enricher>,
    metrics: &Metrics,
    health: &Health,
    shutdown: &CancellationToken,
) -> Vec<Worker> {
    let limits =
        Limits { hits: options.batch_hits as usize, bytes: options.batch_bytes as usize, delay: options.batch_delay };
    let remember = Remember { window: options.duplicate_window, hits: options.duplicate_hits as usize };
    let worker = |number: u16| {
        let worker = WorkerOptions {
            kafka: options.kafka.clone(),
            group: options.group.clone(),
            group_instance_id: options.group_instance_id.as_ref().map(|name| format!("{name}-{number}")),
            limits,
            delivery: options.delivery,
            remember,
        };
        Worker::new(worker, Arc::clone(enricher), metrics.clone(), health.clone(), shutdown.clone())
    };
    (1..=options.workers).map(worker).collect()
}

/// Starts the threads of both followers at once, and those of the workers, which begin when the partners' is at the end; for
/// the directives they wait themselves.
fn start_threads(
    follower: Follower,
    directives: PrivacyFollower,
    workers: Vec<Worker>,
    shutdown: &CancellationToken,
) -> Result<Vec<JoinHandle<()>>, EnricherError> {
    let partners_known = CancellationToken::new();
    let mut threads = Vec::new();
    threads.push(thread("partners", shutdown, {
        let known = partners_known.clone();
        move || follower.run(&known)
    })?);
    threads.push(thread("privacy", shutdown, move || directives.run())?);
    for worker in workers {
        let (partners_known, ending) = (partners_known.clone(), shutdown.clone());
        threads.push(thread("worker", shutdown, move || {
            while !partners_known.is_cancelled() && !ending.is_cancelled() {
                std::thread::sleep(Duration::from_millis(20));
            }
            worker.run();
        })?);
    }
    Ok(threads)
}

/// A thread whose panic ends the enricher, instead of leaving it running with one thread less.
fn thread(
    name: &str,
    shutdown: &CancellationToken,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, EnricherError> {
    let guard = shutdown.clone().drop_guard();
    let work = move || {
        let _ends_all_with_it = guard;
        work();
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| EnricherError::Thread(format!("can't be started: {error}")))
}

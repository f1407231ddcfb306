//! What the tests share: a database and topics of their own, hits, and a sink that runs in this process.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use local::TestStack;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::Offset;
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, TopicPartitionList};
use schemas::codec::decode_all;
use schemas::{DeadLetter, EnrichedHit, Kind, RawHit, Reader, VisitorIdSource, Writer};
use sink::audit::audit;
use sink::audit::report::Report;
use sink::clickhouse::ClickHouse;
use sink::error::SinkError;
use sink::migrate::Migrator;
use sink::options::{Command, Options, RunOptions, SERVICE};
use sink::run::{Instruments, run};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(150);
/// What settles sessions, and what finds out that it did.
const SETTLING: [&str; 4] = ["settle_merges", "settle_employers", "settle_sessions", "confirm_settlements"];

/// A place of a test's own.
pub struct Place {
    pub stack: &'static TestStack,
    pub prefix: String,
    pub database: String,
    pub clickhouse_url: String,
}

impl Place {
    pub fn new(stack: &'static TestStack, test: &str) -> Self {
        Self::elsewhere(stack, test, stack.clickhouse_url())
    }

    /// The same, on another ClickHouse.
    pub fn elsewhere(stack: &'static TestStack, test: &str, clickhouse_url: &str) -> Self {
        let (prefix, database) = (stack.topic_prefix(test), stack.database(test));
        Self { stack, prefix, database, clickhouse_url: clickhouse_url.to_owned() }
    }

    /// The same, with the database migrated.
    pub async fn migrated(stack: &'static TestStack, test: &str) -> Self {
        let place = Self::new(stack, test);
        place.migrator().apply().await.unwrap();
        place.migrator().widen(sink::window::WIDE).await.unwrap();
        // The hits of the tests have fixed times, which are too old some day.
        place.query("ALTER TABLE {database}.hits REMOVE TTL");
        place
    }

    pub fn options(&self, more: &[&str]) -> RunOptions {
        let (brokers, url) = (self.stack.kafka_brokers(), &self.clickhouse_url);
        let mut words = vec!["sink", "run", "--metrics-listen=127.0.0.1:0"];
        words.extend([
            "--topic-partitions=12",
            "--topic-replication=1",
            "--kafka-brokers",
            brokers,
            "--topic-prefix",
            &self.prefix,
        ]);
        words.extend(["--clickhouse-url", url, "--clickhouse-database", &self.database]);
        if !more.iter().any(|word| word.starts_with("--group=")) {
            words.extend(["--group", &self.prefix]);
        }
        if !more.iter().any(|word| word.starts_with("--batch-delay")) {
            words.push("--batch-delay=0.1");
        }
        if !more.iter().any(|word| word.starts_with("--longest-recovery")) {
            words.push("--longest-recovery=60");
        }
        words.extend(more);
        match SERVICE.parse_from::<Options>(&words).unwrap().command {
            Command::Run(options) => *options,
            _ => unreachable!("run was asked for"),
        }
    }

    pub fn clickhouse(&self) -> ClickHouse {
        ClickHouse::new(&self.options(&[]).clickhouse)
    }

    pub fn migrator(&self) -> Migrator {
        Migrator::new(self.clickhouse(), None)
    }

    pub fn query(&self, sql: &str) -> String {
        let sql = sql.replace("{database}", &self.database);
        local::clickhouse::query(&self.clickhouse_url, "default", &sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The offset that the group has committed.
    pub fn committed(&self, partition: i32) -> Option<i64> {
        self.committed_with_metadata(partition).0
    }

    /// The ranges that are listed with it.
    pub fn listed(&self, partition: i32) -> Vec<sink::intents::Range> {
        sink::intents::read(&self.committed_with_metadata(partition).1).unwrap()
    }

    /// What `sink audit` finds.
    pub async fn audit(&self, more: &[&str]) -> Report {
        let (brokers, url) = (self.stack.kafka_brokers(), &self.clickhouse_url);
        let mut words = vec!["sink", "audit", "--kafka-brokers", brokers, "--topic-prefix", &self.prefix];
        words.extend(["--clickhouse-url", url, "--clickhouse-database", &self.database, "--group", &self.prefix]);
        words.extend(more);
        match SERVICE.parse_from::<Options>(&words).unwrap().command {
            Command::Audit(options) => audit(*options).await.unwrap(),
            _ => unreachable!("an audit was asked for"),
        }
    }

    fn member_of_the_group(&self) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", self.stack.kafka_brokers())
            .set("group.id", self.options(&[]).loading.group)
            .create()
            .unwrap()
    }

    fn committed_with_metadata(&self, partition: i32) -> (Option<i64>, String) {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic(), partition);
        let told = self.member_of_the_group().committed_offsets(asked, PATIENCE).unwrap();
        let element = &told.elements()[0];
        (element.offset().to_raw(), element.metadata().to_owned())
    }

    /// Commits as a tool would, while no sink runs.
    pub fn commit(&self, partition: i32, offset: i64, metadata: &str) {
        self.try_commit(partition, offset, metadata).unwrap();
    }

    /// The same, which the broker refuses while the group has members.
    pub fn try_commit(&self, partition: i32, offset: i64, metadata: &str) -> KafkaResult<()> {
        let mut offsets = TopicPartitionList::new();
        let topic = self.topic();
        let mut element = offsets.add_partition(&topic, partition);
        element.set_offset(Offset::Offset(offset)).unwrap();
        element.set_metadata(metadata);
        self.member_of_the_group().commit(&offsets, CommitMode::Sync)
    }

    /// Deletes the messages before an offset, as retention does.
    pub async fn delete_before(&self, partition: i32, offset: i64) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", self.stack.kafka_brokers()).create().unwrap();
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&self.topic(), partition, Offset::Offset(offset)).unwrap();
        admin.delete_records(&offsets, &AdminOptions::new()).await.unwrap();
    }

    /// Deletes the topic, and with it what the group has committed of it.
    pub async fn delete_topic(&self) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", self.stack.kafka_brokers()).create().unwrap();
        admin.delete_topics(&[&self.topic()], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
        let nothing = Offset::Invalid.to_raw();
        until("what was committed is forgotten", || self.committed(0) == nothing).await;
    }

    pub fn topic(&self) -> String {
        format!("{}hits.enriched", self.prefix)
    }

    pub async fn create_topics(&self) {
        let topics = [schemas::topics::HITS_ENRICHED, schemas::topics::HITS_DEAD];
        self.options(&[]).kafka.set_up_topics("test", &topics).await.unwrap();
    }

    /// On the mock broker, which has no other way: topics are there once a producer asked for them.
    pub fn create_topics_on_mock(&self) {
        let producer: ThreadedProducer<DefaultProducerContext> =
            ClientConfig::new().set("bootstrap.servers", self.stack.kafka_brokers()).create().unwrap();
        for topic in ["hits.enriched", "hits.dead", "privacy"] {
            producer.client().fetch_metadata(Some(&format!("{}{topic}", self.prefix)), PATIENCE).unwrap();
        }
    }

    /// Inserts hits straight into the table, as the sink would.
    pub async fn insert(&self, hits: &[EnrichedHit<'_>]) {
        static OFFSET: AtomicI64 = AtomicI64::new(0);
        let first = OFFSET.fetch_add(hits.len() as i64, Ordering::Relaxed);
        self.clickhouse().insert(&format!("test/0/{first}"), block(first, hits)).await.unwrap();
    }

    /// Settles the sessions of all hits that are inserted, instead of within a minute.
    pub fn settle(&self) {
        // One that is at work may have begun before they were.
        self.stop_settling();
        SETTLING.iter().for_each(|job| self.refresh(job));
    }

    /// Keeps sessions as they are settled, until they are settled again.
    pub fn stop_settling(&self) {
        SETTLING.iter().for_each(|job| self.system(&["STOP", "WAIT"], job));
    }

    /// Has a view made anew that stands still.
    pub fn refresh(&self, view: &str) {
        self.system(&["START", "REFRESH", "WAIT"], view);
    }

    fn system(&self, words: &[&str], view: &str) {
        words.iter().for_each(|word| drop(self.query(&format!("SYSTEM {word} VIEW {{database}}.{view}"))));
    }

    /// Milliseconds from the noon of the tests to now, by ClickHouse's clock.
    pub fn now(&self) -> i64 {
        self.query("SELECT toUnixTimestamp64Milli(now64(3))").parse::<i64>().unwrap() - NOON
    }

    /// Inserts hits, and settles their sessions.
    pub async fn load(&self, hits: &[EnrichedHit<'_>]) {
        self.insert(hits).await;
        self.settle();
    }

    pub fn start(&self, more: &[&str]) -> Running {
        Running::new(self.options(more))
    }

    /// Puts messages into a partition of the topic.
    pub fn produce(&self, partition: i32, messages: &[Vec<u8>]) {
        let producer: ThreadedProducer<DefaultProducerContext> =
            ClientConfig::new().set("bootstrap.servers", self.stack.kafka_brokers()).create().unwrap();
        let topic = self.topic();
        for message in messages {
            let record = BaseRecord::to(&topic).partition(partition).key(b"key".as_slice()).payload(message);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Timeout::After(PATIENCE)).unwrap();
    }

    /// All dead letters, once there are so many.
    pub fn dead_letters(&self, count: usize) -> Vec<DeadLetter<'static>> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.stack.kafka_brokers())
            .set("group.id", format!("{}-dead", self.prefix))
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        let topic = format!("{}hits.dead", self.prefix);
        consumer.subscribe(&[&topic]).unwrap();
        let reader = Reader::new::<DeadLetter<'_>>(None).unwrap();
        let (mut letters, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        while letters.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} dead letters came", letters.len());
            let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
            let message = message.unwrap();
            let payload: &'static [u8] = message.payload().unwrap().to_vec().leak();
            let body: &'static [u8] = reader.body(payload).unwrap().into_owned().leak();
            letters.push(decode_all(body).unwrap());
        }
        letters.sort_by_key(|letter: &DeadLetter<'_>| (letter.source_partition, letter.source_offset));
        letters
    }
}

/// A database settles its sessions every minute for as long as it is there: those of all the tests before would keep
/// the machine from the next.
impl Drop for Place {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {}", self.database);
        // Its server may be one that the test has stopped.
        let _ = local::clickhouse::query(&self.clickhouse_url, "default", &sql);
    }
}

/// A sink that runs in this process.
pub struct Running {
    pub instruments: Instruments,
    task: JoinHandle<Result<(), SinkError>>,
    /// A test that fails must stop it, too: its threads would keep the runtime from ending, and the test from failing.
    stops: DropGuard,
}

impl Running {
    pub fn new(options: RunOptions) -> Self {
        let (instruments, shutdown) = (Instruments::new().unwrap(), CancellationToken::new());
        let task = tokio::spawn(run(options, instruments.clone(), shutdown.clone()));
        Self { instruments, task, stops: shutdown.drop_guard() }
    }

    pub async fn stop(self) -> Instruments {
        self.stops.disarm().cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops in time").unwrap().unwrap();
        self.instruments
    }

    pub async fn end(self) -> SinkError {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends in time").unwrap().unwrap_err()
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Hits as the sink sends them, from an offset on.
pub fn block(first: i64, hits: &[EnrichedHit<'_>]) -> bytes::Bytes {
    let mut columns = sink::hits::HitColumns::default();
    for (offset, hit) in (first..).zip(hits) {
        columns.push(hit, sink::hits::Coordinates { partition: 0, offset });
    }
    columns.block().unwrap().frames.into()
}

/// A message as the enricher writes it.
pub fn message(hit: &EnrichedHit<'_>) -> Vec<u8> {
    static WRITER: LazyLock<Writer> = LazyLock::new(|| Writer::single_object::<EnrichedHit<'_>>().unwrap());
    let mut out = Vec::new();
    WRITER.write(hit, &mut out);
    out
}

/// 2026-03-10 12:00:00 UTC, Unix milliseconds.
pub const NOON: i64 = 1_773_144_000_000;

/// The same of somebody of whom nothing may be kept; the hit has no visitor.
pub fn unnamed(mut hit: EnrichedHit<'static>) -> EnrichedHit<'static> {
    hit.hit.visitor_id_source = VisitorIdSource::None;
    hit
}

/// A page view of a visitor, `at` milliseconds after noon.
pub fn page_view(number: u128, visitor: &'static str, at: i64, path: &'static str) -> EnrichedHit<'static> {
    hit(Kind::PageView, number, visitor, at, path)
}

/// A hit of any kind.
pub fn hit(kind: Kind, number: u128, visitor: &'static str, at: i64, path: &'static str) -> EnrichedHit<'static> {
    let raw = RawHit {
        hit_id: Uuid::from_u128(number),
        site: "shop".into(),
        kind,
        received_at: NOON + at,
        visitor_id: visitor.into(),
        visitor_id_source: VisitorIdSource::Cookie,
        page_url: format!("https://shop.example{path}").into(),
        ..RawHit::default()
    };
    let mut hit = EnrichedHit { hit: raw, occurred_at: NOON + at, enriched_at: NOON + at, ..EnrichedHit::default() };
    hit.page.host = "shop.example".into();
    hit.page.path = path.into();
    hit
}

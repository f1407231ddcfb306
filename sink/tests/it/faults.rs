//! What a fault of a real ClickHouse does, class by class.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use sink::clickhouse::ClickHouse;
use sink::error::ExitCode;
use sink::metrics::Metrics;
use sink::outcome::Outcome;

use crate::support::{PATIENCE, Place, Running, block, message, page_view, until};

const COUNT: &str = "SELECT count() FROM {database}.hits";

fn hits(first: u128, count: u128) -> Vec<Vec<u8>> {
    (first..first + count).map(|number| message(&page_view(number, "v", number as i64, "/"))).collect()
}

fn dead(metrics: &Metrics) -> u64 {
    let is_dead = |outcome: &Outcome| matches!(outcome, Outcome::Dead(_));
    Outcome::all().into_iter().filter(is_dead).map(|outcome| metrics.outcome(outcome).get()).sum()
}

/// Two servers whose tables know nothing of each other, so that it shows which of them has a row.
struct Pair {
    _directory: tempfile::TempDir,
    second: Option<local::ClickHouse>,
    places: [Place; 2],
}

impl Pair {
    async fn start(name: &str) -> Option<Self> {
        let stack = local::stack_or_skip(name)?;
        let directory = tempfile::tempdir().unwrap();
        let ports = [local::free_port().unwrap(), local::free_port().unwrap()];
        let second = local::ClickHouse::start(directory.path(), ports[0], ports[1]).unwrap();
        let first = Place::migrated(stack, name).await;
        let mut other = Place::elsewhere(stack, name, &second.url());
        (other.prefix, other.database) = (first.prefix.clone(), first.database.clone());
        other.migrator().apply().await.unwrap();
        other.query("ALTER TABLE {database}.hits REMOVE TTL");
        first.create_topics().await;
        Some(Self { _directory: directory, second: Some(second), places: [first, other] })
    }

    fn sink(&self) -> Running {
        self.places[0].start(&["--clickhouse-url", &self.places[1].clickhouse_url])
    }

    fn counts(&self) -> [u64; 2] {
        [0, 1].map(|place| self.places[place].query(COUNT).parse().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_does_not_take_another_does() {
    let Some(mut pair) = Pair::start("what_one_replica_does_not_take_another_does").await else { return };
    let sink = pair.sink();
    let metrics = sink.instruments.metrics.clone();
    let mut sent: u128 = 0;
    let mut send = |count: u128| {
        pair.places[0].produce((sent % 12) as i32, &hits(sent, count));
        sent += count;
        sent as u64
    };
    for _ in 0..4 {
        let all = send(25);
        until("they arrive", || pair.counts().iter().sum::<u64>() == all).await;
    }
    assert!(pair.counts().iter().all(|count| *count > 0), "they take turns: {:?}", pair.counts());

    // One can't write, and says so with the code of a replica without its Keeper.
    pair.places[0].query("ALTER TABLE {database}.hits MODIFY SETTING table_readonly = 1");
    let before = pair.counts();
    for _ in 0..3 {
        let all = send(25);
        until("they arrive at the other", || pair.counts().iter().sum::<u64>() == all).await;
    }
    assert_eq!(pair.counts(), [before[0], before[1] + 75]);
    assert!(metrics.faults("other_replica").get() >= 1);

    // It is tried again after a while.
    pair.places[0].query("ALTER TABLE {database}.hits MODIFY SETTING table_readonly = 0");
    let deadline = Instant::now() + PATIENCE;
    while pair.counts()[0] == before[0] {
        assert!(Instant::now() < deadline, "it is not tried again: {:?}", pair.counts());
        let all = send(1);
        until("they arrive", || pair.counts().iter().sum::<u64>() == all).await;
    }

    // The other is killed.
    let before = pair.counts();
    if let Some(mut second) = pair.second.take() {
        second.process().kill();
    }
    let (mut last, mut expected) = (0, before[0]);
    for _ in 0..3 {
        last = send(25);
        expected += 25;
        until("they arrive at the first", || pair.places[0].query(COUNT) == expected.to_string()).await;
    }
    until("it is ready", || sink.instruments.health.obstacles().is_empty()).await;
    let metrics = sink.stop().await.metrics;
    assert_eq!((metrics.outcome(Outcome::Inserted).get(), metrics.received.get(), dead(&metrics)), (last, last, 0));
}

/// At the start, too: the first of the list is an address where nobody listens.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_address_in_the_list_costs_nothing() {
    let Some(stack) = local::stack_or_skip("a_dead_address_in_the_list_costs_nothing") else { return };
    let place = Place::migrated(stack, "dead_address").await;
    place.create_topics().await;
    let mut options = place.options(&[]);
    options.clickhouse.clickhouse_url.insert(0, "http://127.0.0.1:1".to_owned());
    let sink = Running::new(options);
    for round in 0..5 {
        place.produce(round as i32, &hits(round * 100, 100));
        until("they arrive", || place.query(COUNT) == ((round + 1) * 100).to_string()).await;
    }
    let metrics = sink.stop().await.metrics;
    assert_eq!((metrics.outcome(Outcome::Inserted).get(), dead(&metrics)), (500, 0));
    // The check at the start has met it already; inserts meet it again only when its rest is over, and then ask first.
    assert!(metrics.faults("other_replica").get() <= 1, "{}", metrics.faults("other_replica").get());
}

/// Mistakes of operators that show while it runs: it ends, says what to do, and gives up no hit.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_has_to_put_right_halts_it() {
    let Some(stack) = local::stack_or_skip("what_an_operator_has_to_put_right_halts_it") else { return };
    let cases = [
        ("no_column", Some("ALTER TABLE {database}.hits DROP COLUMN bot_name"), "", ExitCode::Unfit, "sink migrate"),
        ("no_database", Some("DROP DATABASE {database}"), "", ExitCode::Unfit, "--clickhouse-database"),
        // May read, and so starts, but not insert.
        ("may_not", None, "--clickhouse-user=analyst", ExitCode::Refused, "--clickhouse-user"),
    ];
    for (name, mistake, option, code, advice) in cases {
        let place = Place::migrated(stack, name).await;
        place.create_topics().await;
        let options: &[&str] = if option.is_empty() { &[] } else { &[option] };
        let sink = place.start(options);
        let instruments = sink.instruments.clone();
        if let Some(mistake) = mistake {
            place.produce(0, &hits(0, 10));
            // Rows are seen before views have them and the sink is told.
            until("the first are there", || instruments.metrics.outcome(Outcome::Inserted).get() == 10).await;
            place.query(mistake);
        }
        place.produce(0, &hits(10, 10));
        let error = sink.end().await;
        assert_eq!(error.exit_code(), code, "{name}: {error}");
        assert!(error.to_string().contains(advice), "{name}: {error}");
        let metrics = &instruments.metrics;
        assert_eq!((metrics.outcome(Outcome::Returned).get(), dead(metrics)), (10, 0), "{name}");
    }
}

/// A table with too many parts is given time, and what comes meanwhile becomes one large batch rather than many small.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_parts_make_batches_grow() {
    let Some(stack) = local::stack_or_skip("too_many_parts_make_batches_grow") else { return };
    let place = Place::migrated(stack, "parts").await;
    place.create_topics().await;
    let sink = place.start(&["--batch-delay=0.05"]);
    for round in 0..10u128 {
        place.produce(0, &hits(10 * round, 10));
        until("they arrive", || place.query(COUNT) == (10 * (round + 1)).to_string()).await;
    }
    let largest = || -> u64 {
        let sql = "SELECT max(rows) FROM (SELECT count() AS rows FROM {database}.hits GROUP BY inserted_at)";
        place.query(sql).parse().unwrap()
    };
    let before = largest();
    assert!(before <= 10, "{before}");
    place.query("SYSTEM STOP MERGES {database}.hits");
    place.query("ALTER TABLE {database}.hits MODIFY SETTING parts_to_throw_insert = 1, parts_to_delay_insert = 1");
    for round in 10..60u128 {
        place.produce(0, &hits(10 * round, 10));
    }
    let metrics = &sink.instruments.metrics;
    until("it is told to slow down", || metrics.faults("slow_down").get() > 0).await;
    until("all is read", || metrics.received.get() == 600).await;
    assert!(!sink.instruments.health.obstacles().is_empty());
    place.query("ALTER TABLE {database}.hits RESET SETTING parts_to_throw_insert, parts_to_delay_insert");
    place.query("SYSTEM START MERGES {database}.hits");
    until("all arrive", || place.query(COUNT) == "600").await;
    // Four may be on their way; what is read while they wait is one.
    assert!(largest() >= 10 * before, "{before} rows at most before, then {}", largest());
    let metrics = sink.stop().await.metrics;
    assert_eq!((metrics.outcome(Outcome::Inserted).get(), dead(&metrics)), (600, 0));
}

/// What the sink gave up goes on in no server: its rows would be seen long after the time that they are stamped with.
#[tokio::test(flavor = "multi_thread")]
async fn an_insert_that_is_given_up_ends_in_the_server_too() {
    let Some(stack) = local::stack_or_skip("an_insert_that_is_given_up_ends_in_the_server_too") else { return };
    let place = Place::migrated(stack, "given_up").await;
    place.query("CREATE TABLE {database}.slowly (hit_id UUID) ENGINE = MergeTree ORDER BY hit_id");
    place.query(
        "CREATE MATERIALIZED VIEW {database}.write_slowly TO {database}.slowly \
         AS SELECT hit_id FROM {database}.hits WHERE sleepEachRow(0.5) = 0",
    );
    let impatient = ClickHouse::new(&place.options(&["--clickhouse-timeout=1"]).clickhouse);
    let hits: Vec<_> = (0..5).map(|number| page_view(number, "v", 0, "/")).collect();
    let block = block(0, &hits);
    assert!(impatient.insert("given/up/0", block.clone()).await.is_err());
    let at_work = "SELECT count() FROM system.processes WHERE query LIKE 'INSERT INTO {database}.hits%'";
    until("no server is at it", || place.query(at_work) == "0").await;
    assert_eq!(place.query("SELECT count() FROM {database}.slowly"), "0");
    // Sent again to one with time, it is there, and once.
    place.clickhouse().insert("given/up/0", block).await.unwrap();
    let found = place.query("SELECT (SELECT count() FROM {database}.slowly), (SELECT count() FROM {database}.hits)");
    assert_eq!(found, "5\t5");
}

/// A topic that is deleted while it is read leaves nothing to be read, which looks like a site that nobody visits.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_gone_makes_it_unready() {
    let Some(stack) = local::stack_or_skip("a_topic_that_is_gone_makes_it_unready") else { return };
    let place = Place::migrated(stack, "gone").await;
    place.create_topics().await;
    // How often the client looks for a topic: else it would be five minutes until it finds that it is there again.
    let sink = place.start(&["--kafka-property=topic.metadata.refresh.interval.ms=1000"]);
    let (metrics, health) = (sink.instruments.metrics.clone(), sink.instruments.health.clone());
    until("it is ready", || metrics.assigned_partitions.get() == 12 && health.obstacles().is_empty()).await;
    place.delete_topic().await;
    until("it says so", || health.obstacles().iter().any(|told| told.contains("does not exist"))).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!health.obstacles().is_empty(), "it is ready again although there is nothing to be read");
    place.create_topics().await;
    until("it is ready again", || metrics.assigned_partitions.get() == 12 && health.obstacles().is_empty()).await;
    sink.stop().await;
}

/// Brokers go away while hits come, when offsets are being committed and the thread that polls waits for an answer.
#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_go_away_under_load_make_it_unready_soon() {
    let Some(stack) = local::stack_or_skip("brokers_that_go_away_under_load_make_it_unready_soon") else { return };
    let directory = tempfile::tempdir().unwrap();
    let port = local::free_port().unwrap();
    let mut kafka = local::Kafka::start(directory.path(), port).unwrap();
    let place = Place::migrated(stack, "away").await;
    let mut options = place.options(&[]);
    options.kafka.kafka_brokers = kafka.brokers();
    let sink = Running::new(options);
    let (metrics, health) = (sink.instruments.metrics.clone(), sink.instruments.health.clone());
    until("it is ready", || health.obstacles().is_empty()).await;
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap();
    let (topic, hit) = (place.topic(), hits(0, 1).remove(0));
    until("hits come and are stored", || {
        (0..20).for_each(|_| drop(producer.send(BaseRecord::<(), _>::to(&topic).payload(&hit))));
        metrics.outcome(Outcome::Inserted).get() > 1_000
    })
    .await;
    kafka.process().kill();
    let gone = Instant::now();
    until("it says so", || !health.obstacles().is_empty()).await;
    let elapsed = gone.elapsed();
    drop(kafka);
    let _kafka = local::Kafka::start(directory.path(), port).unwrap();
    until("it is ready again", || health.obstacles().is_empty()).await;
    sink.stop().await;
    assert!(elapsed < Duration::from_secs(15), "it said so after {elapsed:?}");
}

//! From the topic into the table.

use schemas::EnrichedHit;
use sink::error::ExitCode;
use sink::load::CLICKHOUSE;
use sink::metrics::Metrics;
use sink::outcome::{Outcome, Reason};

use crate::support::{NOON, Place, message, page_view, until};

const COUNT: &str = "SELECT count() FROM {database}.hits";
/// Rows, and different places in the topic among them: the same number where nothing is there twice.
const COUNTS: &str = "SELECT count(), uniqExact(kafka_partition, kafka_offset) FROM {database}.hits";

fn hits(first: u128, count: u128) -> Vec<Vec<u8>> {
    (first..first + count).map(|number| message(&page_view(number, "v", number as i64, "/"))).collect()
}

fn sum_of_outcomes(metrics: &Metrics) -> u64 {
    Outcome::all().into_iter().map(|outcome| metrics.outcome(outcome).get()).sum()
}

/// A hit with a time that the table's constraint refuses.
fn refused(number: u128) -> EnrichedHit<'static> {
    page_view(number, "v", 1_546_300_800_000 - NOON, "/")
}

/// A first look that needs no Java.
#[tokio::test(flavor = "multi_thread")]
async fn hits_become_rows_on_either_broker() {
    let Some(stack) = local::stack_or_mock("hits_become_rows_on_either_broker") else { return };
    let place = Place::migrated(stack, "either").await;
    let mut more = Vec::new();
    if stack.is_mock() {
        place.create_topics_on_mock();
        more.push("--topic-setup=skip");
    } else {
        place.create_topics().await;
    }
    place.produce(3, &hits(0, 100));
    let sink = place.start(&more);
    until("all rows are there", || place.query(COUNTS) == "100\t100").await;
    let metrics = sink.stop().await.metrics;
    assert_eq!((metrics.received.get(), sum_of_outcomes(&metrics)), (100, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_become_rows_and_what_is_none_a_dead_letter() {
    let Some(stack) = local::stack_or_skip("hits_become_rows_and_what_is_none_a_dead_letter") else { return };
    let place = Place::migrated(stack, "loading").await;
    place.create_topics().await;
    let mut messages = hits(0, 100);
    messages.insert(50, b"no header".to_vec());
    messages.insert(20, Vec::new());
    let cut = messages[10][..messages[10].len() - 3].to_vec();
    messages.push(cut.clone());
    place.produce(3, &messages);

    let sink = place.start(&[]);
    until("all rows are there", || place.query(COUNT) == "100").await;
    let letters = place.dead_letters(3);
    let told: Vec<_> = letters
        .iter()
        .map(|letter| (letter.reason.as_ref(), letter.source_partition, letter.source_offset, letter.original.as_ref()))
        .collect();
    let expected = [
        ("empty", Some(3), Some(20), b"".as_slice()),
        ("no_header", Some(3), Some(51), b"no header"),
        ("undecodable", Some(3), Some(102), &cut),
    ];
    assert_eq!(told, expected);
    until("it is ready", || sink.instruments.health.obstacles().is_empty()).await;
    let shown = || prometheus::TextEncoder::new().encode_to_string(&sink.instruments.registry.gather()).unwrap();
    until("nothing is left", || shown().contains("sink_consumer_lag_messages{partition=\"3\"} 0\n")).await;
    assert!(shown().contains("sink_hit_age_seconds_count 100\n"), "{}", shown());

    let metrics = sink.stop().await.metrics;
    let count = |outcome| metrics.outcome(outcome).get();
    assert_eq!(metrics.received.get(), 103);
    assert_eq!((count(Outcome::Inserted), count(Outcome::Dead(Reason::Empty))), (100, 1));
    assert_eq!(sum_of_outcomes(&metrics), 103);
    let coordinates = "SELECT uniqExact(kafka_offset), min(kafka_offset), max(kafka_offset), any(kafka_partition) FROM {database}.hits";
    assert_eq!(place.query(coordinates), "100\t0\t101\t3");
    assert_eq!(place.committed(3), Some(103));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_row_is_set_aside_and_the_others_are_stored() {
    let Some(stack) = local::stack_or_skip("a_refused_row_is_set_aside_and_the_others_are_stored") else { return };
    let place = Place::migrated(stack, "refused").await;
    place.create_topics().await;
    // A batch holds hits of one month, so those of 2019 go together, and both of these are refused.
    let mut off_earth = page_view(1_000, "v", 0, "/");
    off_earth.place.latitude = Some(90.5);
    let mut messages = hits(0, 200);
    messages.insert(150, message(&off_earth));
    messages.push(message(&refused(1_001)));
    messages.push(message(&refused(1_002)));
    place.produce(0, &messages);

    let sink = place.start(&[]);
    let letters = place.dead_letters(3);
    let offsets: Vec<_> = letters.iter().map(|letter| letter.source_offset).collect();
    assert_eq!(offsets, [Some(150), Some(201), Some(202)]);
    assert!(letters.iter().all(|letter| letter.reason == "refused" && letter.site == "shop"), "{letters:?}");
    assert!(letters.iter().all(|letter| letter.detail.contains("469")), "{letters:?}");
    assert_eq!(letters[0].original, messages[150]);
    until("all others are there", || place.query(COUNTS) == "200\t200").await;
    let metrics = sink.stop().await.metrics;
    assert_eq!(metrics.outcome(Outcome::Dead(Reason::Refused)).get(), 3);
    assert_eq!((metrics.received.get(), sum_of_outcomes(&metrics)), (203, 203));
    assert_eq!(place.committed(0), Some(203));
}

/// It is no row's fault: the table has them all. Once the view is put right, the sink goes on, and each is there once.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_refuses_a_value_stops_the_sink_and_doubles_nothing() {
    let name = "a_view_that_refuses_a_value_stops_the_sink_and_doubles_nothing";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, "strict").await;
    place.create_topics().await;
    place.query("CREATE TABLE {database}.numbers (number UInt32) ENGINE = MergeTree ORDER BY number SETTINGS non_replicated_deduplication_window = 10000");
    place.query(
        "CREATE MATERIALIZED VIEW {database}.write_numbers TO {database}.numbers AS \
         SELECT toUInt32(splitByChar('/', page_path)[2]) AS number FROM {database}.hits",
    );
    let numbered = |number: u128, path: &'static str| message(&page_view(number, "v", 0, path));
    let mut messages: Vec<_> = (0..7).map(|number| numbered(number, "/7")).collect();
    messages.push(numbered(7, "/none"));
    place.produce(0, &messages);
    let error = place.start(&[]).end().await;
    assert_eq!(error.exit_code(), ExitCode::Unfit, "{error}");
    assert!(error.to_string().contains("view") && error.to_string().contains("offsets 0 to 7"), "{error}");
    assert_eq!(place.query(COUNTS), "8\t8");

    place.query("DROP VIEW {database}.write_numbers");
    place.produce(0, &[numbered(8, "/8")]);
    let sink = place.start(&[]);
    until("the next is there", || place.query(COUNTS) == "9\t9").await;
    assert_eq!(sink.stop().await.metrics.outcome(Outcome::Dead(Reason::Refused)).get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_stores_and_commits_what_was_read() {
    let Some(stack) = local::stack_or_skip("stopping_stores_and_commits_what_was_read") else { return };
    let place = Place::migrated(stack, "stopping").await;
    place.create_topics().await;
    place.produce(1, &hits(0, 500));
    let sink = place.start(&["--batch-delay=600"]);
    until("all are read", || sink.instruments.metrics.received.get() == 500).await;
    assert_eq!(place.query(COUNT), "0", "nothing cuts the batch yet");
    let metrics = sink.stop().await.metrics;
    assert_eq!(metrics.outcome(Outcome::Inserted).get(), 500);
    assert_eq!(place.query(COUNTS), "500\t500");
    assert_eq!(place.committed(1), Some(500));

    // The next one begins where this one ended.
    place.produce(1, &hits(500, 20));
    let sink = place.start(&[]);
    until("the others are there", || place.query(COUNTS) == "520\t520").await;
    assert_eq!(sink.stop().await.metrics.received.get(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn sinks_share_the_partitions_and_hand_them_over_without_a_gap_or_a_double() {
    let name = "sinks_share_the_partitions_and_hand_them_over_without_a_gap_or_a_double";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let place = Place::migrated(stack, "sharing").await;
    place.create_topics().await;
    let first = place.start(&["--group-instance-id=first"]);
    until("the first has all partitions", || first.instruments.metrics.assigned_partitions.get() == 12).await;
    let produce = |round: u128| {
        for partition in 0..12_u128 {
            place.produce(partition as i32, &hits(round * 10_000 + partition * 100, 100));
        }
    };
    produce(0);
    let second = place.start(&["--group-instance-id=second"]);
    produce(1);
    let shared = |sink: &crate::support::Running| sink.instruments.metrics.assigned_partitions.get();
    until("they share them", || shared(&first) == 6 && shared(&second) == 6).await;
    produce(2);
    until("all rows are there", || place.query(COUNTS) == "3600\t3600").await;
    let (first, second) = (first.stop().await.metrics, second.stop().await.metrics);
    assert!(second.received.get() > 0);
    assert_eq!(sum_of_outcomes(&first), first.received.get());
    assert_eq!(sum_of_outcomes(&second), second.received.get());
    assert_eq!(place.query(COUNTS), "3600\t3600");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_halts_and_no_hit_is_lost() {
    let Some(stack) = local::stack_or_skip("a_missing_table_halts_and_no_hit_is_lost") else { return };
    let place = Place::migrated(stack, "halting").await;
    place.create_topics().await;
    place.produce(0, &hits(0, 10));
    let sink = place.start(&[]);
    until("the first are there", || place.query(COUNT) == "10").await;
    place.query("RENAME TABLE {database}.hits TO {database}.hidden");
    place.produce(0, &hits(10, 10));
    let instruments = sink.instruments.clone();
    let error = sink.end().await;
    assert_eq!(error.exit_code(), ExitCode::Unfit, "{error}");
    assert!(error.to_string().contains("sink migrate"), "{error}");
    assert_eq!(instruments.metrics.outcome(Outcome::Returned).get(), 10);

    place.query("RENAME TABLE {database}.hidden TO {database}.hits");
    let sink = place.start(&[]);
    until("all are there", || place.query(COUNTS) == "20\t20").await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_to_start_where_it_could_not_work() {
    let Some(stack) = local::stack_or_skip("it_refuses_to_start_where_it_could_not_work") else { return };
    let place = Place::new(stack, "starting");
    let error = place.start(&[]).end().await;
    assert_eq!(error.exit_code(), ExitCode::Unfit, "{error}");
    assert!(error.to_string().contains("run `sink migrate`"), "{error}");
    let error = place.start(&["--clickhouse-user=nobody"]).end().await;
    assert_eq!(error.exit_code(), ExitCode::Refused, "{error}");
    place.migrator().apply().await.unwrap();
    let error = place.start(&["--longest-recovery=3600"]).end().await;
    assert_eq!(error.exit_code(), ExitCode::Unfit, "{error}");
    assert!(error.to_string().contains("non_replicated_deduplication_window is 10000, must be 432384"), "{error}");
    place.query("ALTER TABLE {database}.hits DROP COLUMN bot_name SETTINGS alter_sync = 1");
    let error = place.start(&[]).end().await;
    assert!(error.to_string().contains("column bot_name is missing"), "{error}");
}

/// ClickHouse goes away and comes back, more is waiting than may be held, and nothing is lost or doubled.
#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_clickhouse_with_bounded_memory() {
    let name = "it_waits_for_clickhouse_with_bounded_memory";
    let Some(stack) = local::stack_or_skip(name) else { return };
    let directory = tempfile::tempdir().unwrap();
    let ports = [local::free_port().unwrap(), local::free_port().unwrap()];
    let start_clickhouse = || local::ClickHouse::start(directory.path(), ports[0], ports[1]).unwrap();
    let url = format!("http://127.0.0.1:{}", ports[0]);
    let place = Place::elsewhere(stack, name, &url);
    place.create_topics().await;

    // It is not there yet, and the sink can be stopped while it waits.
    let limit = 1 << 20;
    let options = ["--memory-limit=1MiB", "--batch-rows=200"];
    let sink = place.start(&options);
    let has_tried = || sink.instruments.health.obstacles().iter().any(|told| told.contains("network error"));
    until("it says that it waits", has_tried).await;
    sink.stop().await;

    let clickhouse = start_clickhouse();
    place.migrator().apply().await.unwrap();
    place.query("ALTER TABLE {database}.hits REMOVE TTL");
    let sink = place.start(&options);
    let (metrics, health) = (sink.instruments.metrics.clone(), sink.instruments.health.clone());
    place.produce(0, &hits(0, 100));
    until("the first are there", || place.query(COUNT) == "100").await;

    // It goes away while more comes than may be held.
    clickhouse.stop();
    for partition in 0..4 {
        place.produce(partition, &hits(1_000 * (partition as u128 + 1), 1_000));
    }
    until("it holds what it may", || metrics.paused_partitions.get() == 12).await;
    let waiting = metrics.waiting_bytes.get();
    assert!((limit..limit + limit / 4).contains(&waiting), "{waiting}");
    until("it says so", || health.obstacles().iter().any(|obstacle| obstacle.starts_with(CLICKHOUSE))).await;

    let clickhouse = start_clickhouse();
    until("all rows are there", || place.query(COUNTS) == "4100\t4100").await;
    until("it is ready again", || health.obstacles().is_empty()).await;
    let metrics = sink.stop().await.metrics;
    assert_eq!((metrics.received.get(), sum_of_outcomes(&metrics)), (4_100, 4_100));
    assert_eq!(place.query(COUNTS), "4100\t4100");
    clickhouse.stop();
}

/// The same offsets again are known to ClickHouse, and under another epoch they are not.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_loaded_again_under_another_epoch_only() {
    let Some(stack) = local::stack_or_skip("offsets_are_loaded_again_under_another_epoch_only") else { return };
    let place = Place::migrated(stack, "epochs").await;
    place.create_topics().await;
    place.produce(0, &hits(0, 10));
    // One batch of all ten, under one token.
    let load = async |epoch: &str| {
        place.commit(0, 0, "");
        let sink = place.start(&["--batch-delay=600", epoch]);
        until("all are read", || sink.instruments.metrics.received.get() == 10).await;
        sink.stop().await;
        place.query(COUNTS)
    };
    assert_eq!(load("--epoch=0").await, "10\t10");
    assert_eq!(load("--epoch=0").await, "10\t10");
    assert_eq!(load("--epoch=1").await, "20\t10");
}

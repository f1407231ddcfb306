//! `sink deadletters` on a real Kafka.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::util::Timeout;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use schemas::topics::{HITS_DEAD, HITS_ENRICHED, HITS_RAW};
use schemas::{DeadLetter, RawHit, Stage, Writer};
use sink::deadletters::options::Action;
use sink::error::ExitCode;
use sink::options::{Command, Options, SERVICE};
use uuid::Uuid;

use crate::support::{NOON, PATIENCE, Place, message, page_view, until};

const COUNTS: &str = "SELECT count(), uniqExact(hit_id) FROM {database}.hits";
const VISITOR: &[u8] = b"shop\0v";

/// A place with all topics that hits go through.
async fn place(test: &str) -> Option<Place> {
    let place = Place::new(local::stack_or_skip(test)?, test);
    let topics = [HITS_RAW, HITS_ENRICHED, HITS_DEAD];
    place.options(&[]).kafka.set_up_topics("test", &topics).await.unwrap();
    Some(place)
}

/// Runs `sink deadletters`; gives what it prints.
async fn run(place: &Place, arguments: &[&str]) -> Result<String, sink::error::SinkError> {
    let mut words = vec!["sink", "deadletters", arguments[0]];
    words.extend(["--kafka-brokers", place.stack.kafka_brokers(), "--topic-prefix", &place.prefix]);
    words.extend(&arguments[1..]);
    let Command::DeadLetters(options) = SERVICE.parse_from::<Options>(&words).unwrap().command else { unreachable!() };
    sink::deadletters::run(*options).await.map(|printed| String::from_utf8(printed).unwrap())
}

async fn done(place: &Place, arguments: &[&str]) -> String {
    run(place, arguments).await.unwrap()
}

/// Ids of the letters that are listed, in their order.
async fn listed(place: &Place, arguments: &[&str]) -> Vec<Uuid> {
    let printed = done(place, &[&["list"], arguments].concat()).await;
    printed.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
}

fn send(place: &Place, topic: &str, messages: &[(Vec<u8>, Vec<u8>)]) {
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", place.stack.kafka_brokers()).create().unwrap();
    let topic = format!("{}{topic}", place.prefix);
    for (key, payload) in messages {
        producer.send(BaseRecord::to(&topic).key(key).payload(payload)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Timeout::After(PATIENCE)).unwrap();
}

/// All keys and values that are in a topic.
fn read(place: &Place, topic: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", place.stack.kafka_brokers())
        .set("group.id", "reads-all")
        .create()
        .unwrap();
    let topic = format!("{}{topic}", place.prefix);
    let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE).unwrap();
    let (mut starts, mut left) = (TopicPartitionList::new(), 0);
    for partition in metadata.topics()[0].partitions() {
        starts.add_partition_offset(&topic, partition.id(), Offset::Beginning).unwrap();
        left += consumer.fetch_watermarks(&topic, partition.id(), PATIENCE).unwrap().1;
    }
    consumer.assign(&starts).unwrap();
    let mut found = Vec::new();
    while left > 0 {
        let message = consumer.poll(PATIENCE).expect("all of it can be read").unwrap();
        found.push((message.key().unwrap_or_default().to_vec(), message.payload().unwrap().to_vec()));
        left -= 1;
    }
    found
}

fn raw_hit(number: u128) -> Vec<u8> {
    let hit = RawHit {
        hit_id: Uuid::from_u128(number),
        site: "shop".into(),
        visitor_id: "v".into(),
        received_at: NOON,
        ..RawHit::default()
    };
    let mut out = Vec::new();
    Writer::single_object::<RawHit<'_>>().unwrap().write(&hit, &mut out);
    out
}

/// A dead letter of a number, which is its id, its minute after noon, and its source's offset.
fn letter<'a>(place: &Place, number: u8, stage: Stage, topic: &str, original: &'a [u8]) -> DeadLetter<'a> {
    DeadLetter {
        dead_letter_id: Uuid::from_u128(u128::from(number)),
        stage,
        reason: "undecodable".into(),
        detail: "the message has 3 bytes too many".into(),
        dead_at: NOON + i64::from(number) * 60_000,
        site: "shop".into(),
        original: original.into(),
        source_topic: if topic.is_empty() { "".into() } else { format!("{}{topic}", place.prefix).into() },
        source_partition: (!topic.is_empty()).then_some(1),
        source_offset: (!topic.is_empty()).then_some(i64::from(number)),
    }
}

fn bury(place: &Place, letters: &[DeadLetter<'_>]) {
    let writer = Writer::single_object::<DeadLetter<'_>>().unwrap();
    let messages = letters.iter().map(|letter| {
        let mut out = Vec::new();
        writer.write(letter, &mut out);
        (b"key of the source".to_vec(), out)
    });
    send(place, "hits.dead", &messages.collect::<Vec<_>>());
}

fn id(number: u8) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_by_filter_without_what_was_in_them() {
    let Some(place) = place("letters_are_listed_by_filter_without_what_was_in_them").await else { return };
    assert!(done(&place, &["list"]).await.contains("\n0 dead letters\n"));
    let personal = b"anna@shop.example\x1b[2J";
    let mut other_site = letter(&place, 4, Stage::Sink, "hits.enriched", personal);
    (other_site.site, other_site.reason) = ("blog".into(), "refused".into());
    bury(
        &place,
        &[
            letter(&place, 1, Stage::Collector, "", personal),
            letter(&place, 3, Stage::Sink, "hits.enriched", personal),
            letter(&place, 2, Stage::Enricher, "hits.raw", personal),
            other_site,
            // Delivered twice, it is one.
            letter(&place, 3, Stage::Sink, "hits.enriched", personal),
        ],
    );
    send(&place, "hits.dead", &[(Vec::new(), b"no letter".to_vec())]);

    let printed = done(&place, &["list"]).await;
    assert!(!printed.contains("anna") && !printed.contains('\u{1b}'), "{printed}");
    assert!(printed.contains("\n4 dead letters\n") && printed.contains("  1 sink refused\n"), "{printed}");
    assert!(printed.contains("1 messages of the topic are no dead letters"), "{printed}");
    let source = format!("{}hits.raw/1/2 ", place.prefix);
    assert!(printed.contains(&source) && printed.contains("2026-03-10T12:02:00.000Z"), "{printed}");

    assert_eq!(listed(&place, &[]).await, [1, 2, 3, 4].map(id));
    assert_eq!(listed(&place, &["--limit=2"]).await, [1, 2].map(id));
    assert_eq!(listed(&place, &["--stage=sink"]).await, [3, 4].map(id));
    assert_eq!(listed(&place, &["--stage=sink", "--site=shop"]).await, [3].map(id));
    assert_eq!(listed(&place, &["--reason=refused"]).await, [4].map(id));
    assert_eq!(listed(&place, &["--source-topic=hits.raw"]).await, [2].map(id));
    assert_eq!(listed(&place, &["--since=2026-03-10T12:02", "--until=2026-03-10T12:04"]).await, [2, 3].map(id));
    assert_eq!(listed(&place, &["--since=1h"]).await, [0; 0].map(id));
    let (second, fourth) = (format!("--id={}", id(2)), format!("--id={}", id(4)));
    assert_eq!(listed(&place, &[&second, &fourth]).await, [2, 4].map(id));

    // One that is asked for by its id is shown with its bytes, as what a terminal takes for text or as they are.
    let second = id(2).to_string();
    let printed = done(&place, &["show", &second]).await;
    assert!(printed.ends_with("\nanna@shop.example\\x1b[2J\n") && printed.contains("site: shop\n"), "{printed}");
    assert_eq!(done(&place, &["show", &second, "--original"]).await.as_bytes(), personal);
    let error = run(&place, &["show", &id(9).to_string()]).await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("no dead letter {}", id(9))), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_letters_are_messages_of_their_source_again() {
    let Some(place) = place("replayed_letters_are_messages_of_their_source_again").await else { return };
    let (raw, enriched) = (raw_hit(7), message(&page_view(8, "v", 0, "/")));
    let mut foreign = letter(&place, 6, Stage::Sink, "", &raw);
    foreign.source_topic = "somebody.elses.topic".into();
    bury(
        &place,
        &[
            letter(&place, 1, Stage::Enricher, "hits.raw", &raw),
            letter(&place, 2, Stage::Enricher, "hits.raw", b"broken"),
            letter(&place, 3, Stage::Sink, "hits.enriched", &enriched),
            letter(&place, 4, Stage::Sink, "hits.enriched", b""),
            letter(&place, 5, Stage::Collector, "", b"{\"site\":"),
            foreign,
            letter(&place, 7, Stage::Enricher, "partners", &raw),
        ],
    );
    let error = run(&place, &["replay"]).await.unwrap_err();
    assert!(error.to_string().contains("--all"), "{error}");
    assert!(read(&place, "hits.raw").is_empty());

    let printed = done(&place, &["replay", "--all"]).await;
    for line in [
        format!("2 replayed to {}hits.raw\n", place.prefix),
        format!("1 replayed to {}hits.enriched\n", place.prefix),
        "1 not replayed: requests that the collector could not read".to_owned(),
        "1 not replayed: messages without a value\n".to_owned(),
        "2 not replayed: from a topic that is neither".to_owned(),
    ] {
        assert!(printed.contains(&line), "{printed}");
    }
    // The key is the visitor's where the hit tells it, else that of the letter.
    let mut in_raw = read(&place, "hits.raw");
    in_raw.sort();
    assert_eq!(in_raw, [(b"key of the source".to_vec(), b"broken".to_vec()), (VISITOR.to_vec(), raw.clone())]);
    assert_eq!(read(&place, "hits.enriched"), [(VISITOR.to_vec(), enriched)]);

    // What is done is not done again unless it is asked for.
    assert_eq!(listed(&place, &[]).await, [4, 5, 6, 7].map(id));
    assert_eq!(listed(&place, &["--closed"]).await, [1, 2, 3, 4, 5, 6, 7].map(id));
    let printed = done(&place, &["replay", "--source-topic=hits.raw"]).await;
    assert_eq!(printed, "no dead letter fits, nothing is replayed\n");
    let first = format!("--id={}", id(1));
    assert!(done(&place, &["replay", "--closed", &first]).await.starts_with("1 replayed to "));
    assert_eq!(read(&place, "hits.raw").iter().filter(|(_, value)| *value == raw).count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_letters_are_off_the_list_and_still_in_the_topic() {
    let Some(place) = place("dropped_letters_are_off_the_list_and_still_in_the_topic").await else { return };
    let letters = (0..200).map(|number| letter(&place, number, Stage::Enricher, "hits.raw", b"broken"));
    bury(&place, &letters.collect::<Vec<_>>());
    assert!(run(&place, &["drop"]).await.is_err());
    let printed = done(&place, &["drop", "--since=2026-03-10T12:50"]).await;
    assert!(printed.starts_with("150 dropped"), "{printed}");
    assert_eq!(listed(&place, &[]).await, (0..50).map(id).collect::<Vec<_>>());
    let printed = done(&place, &["list", "--closed"]).await;
    assert!(printed.contains("\n200 dead letters\n") && printed.contains(" dropped "), "{printed}");
    assert_eq!(done(&place, &["show", &id(180).to_string(), "--original"]).await, "broken");
    // Only the open ones are replayed; more than are on their way at the same time.
    assert!(done(&place, &["replay", "--stage=enricher", "--limit=20"]).await.starts_with("20 replayed"));
    assert!(done(&place, &["replay", "--closed", "--since=2026-03-10T12:20"]).await.starts_with("180 replayed"));
    assert_eq!(listed(&place, &[]).await, [0; 0].map(id));
    assert_eq!(read(&place, "hits.raw").len(), 200);
    assert_eq!(read(&place, "hits.dead").len(), 200 + 150 + 200);
}

/// From the table's refusal to the row that is there after all; replayed twice, there are two rows of one hit.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_hit_is_stored_when_it_is_replayed_under_its_own_id() {
    let Some(place) = place("a_refused_hit_is_stored_when_it_is_replayed_under_its_own_id").await else { return };
    place.migrator().apply().await.unwrap();
    place.query("ALTER TABLE {database}.hits REMOVE TTL");
    let mut off_earth = page_view(1, "v", 0, "/");
    off_earth.place.latitude = Some(90.5);
    place.produce(0, &[message(&off_earth), message(&page_view(2, "v", 1, "/"))]);
    let sink = place.start(&[]);
    place.dead_letters(1);
    until("the other is there", || place.query(COUNTS) == "1\t1").await;
    assert_eq!(listed(&place, &["--stage=sink", "--reason=refused", "--site=shop"]).await.len(), 1);

    let constraints = place.query("SHOW CREATE TABLE {database}.hits");
    let named = constraints.split("CONSTRAINT ").skip(1).find(|rest| rest.contains("latitude")).unwrap();
    let name = named.split(' ').next().unwrap();
    place.query(&format!("ALTER TABLE {{database}}.hits DROP CONSTRAINT {name}"));
    assert!(done(&place, &["replay", "--reason=refused"]).await.starts_with("1 replayed"));
    until("it is there too", || place.query(COUNTS) == "2\t2").await;
    assert!(done(&place, &["replay", "--reason=refused", "--closed"]).await.starts_with("1 replayed"));
    until("it is there twice", || place.query(COUNTS) == "3\t2").await;
    place.settle();
    assert_eq!(place.query("SELECT sum(views) FROM {database}.pages"), "2");
    assert_eq!(listed(&place, &[]).await.len(), 0);
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_and_brokers_that_are_away_are_told() {
    let Some(stack) = local::stack_or_skip("a_missing_topic_and_brokers_that_are_away_are_told") else { return };
    let place = Place::new(stack, "nothing_there");
    let error = run(&place, &["list"]).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Kafka);
    assert!(error.to_string().contains("hits.dead does not exist"), "{error}");
    let words = ["sink", "deadletters", "list", "--kafka-brokers=127.0.0.1:1"];
    let Command::DeadLetters(options) = SERVICE.parse_from::<Options>(&words).unwrap().command else { unreachable!() };
    assert!(matches!(options.action, Action::List(_)));
    let asked = tokio::time::timeout(PATIENCE + Duration::from_secs(30), sink::deadletters::run(*options)).await;
    assert_eq!(asked.unwrap().unwrap_err().exit_code(), ExitCode::Kafka);
}

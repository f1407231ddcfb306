//! What is promised about each hit, held against a real Kafka: workers die, stand still and share, and clients repeat.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails here has failed")]

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::bed::{Bed, PARTITIONS, RECEIVED, end, look, message, raw_hit, without_files};
use common::until;
use enricher::metrics::Outcome;
use enricher::pipeline::outbox::{Delivery, Outbox, OutboxError, Outgoing};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use schemas::{EnrichedHit, RawHit, Writer};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const WAIT: Duration = Duration::from_secs(15);

/// Holds that each of these hits is in hits.enriched once, and nothing else is.
fn assert_each_once(bed: &Bed, hits: &[RawHit<'_>]) {
    let mut times: HashMap<Uuid, usize> = hits.iter().map(|hit| (hit.hit_id, 0)).collect();
    look(&bed.read_all("hits.enriched", PARTITIONS), |hit, _| {
        *times.get_mut(&hit.hit.hit_id).expect("nobody sent this hit") += 1;
    });
    let wrong: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    assert!(wrong.is_empty(), "{} of {} hits are not there once: {wrong:?}", wrong.len(), hits.len());
}

fn words(more: &[&str]) -> Vec<String> {
    without_files().into_iter().chain(more.iter().map(ToString::to_string)).collect()
}

/// A member of the group that does by hand what a worker does, and can be left in the middle of it.
struct ByHand {
    consumer: BaseConsumer,
    producer: BaseProducer,
    /// What it read and wrote, and where it is then.
    next: HashMap<i32, i64>,
    topic: String,
}

impl ByHand {
    /// Joins under these names, and reads and writes so many hits and a dead letter without committing any of it.
    fn in_the_middle(bed: &Bed, member: Option<&str>, transactional_id: &str, hits: usize) -> Self {
        let client = |more: &[(&str, &str)]| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &bed.brokers);
            for (key, value) in more {
                config.set(*key, *value);
            }
            config
        };
        let producer: BaseProducer = client(&[("transactional.id", transactional_id)]).create().unwrap();
        producer.init_transactions(WAIT).unwrap();
        producer.begin_transaction().unwrap();
        let group = bed.group();
        let mut consumer = client(&[
            ("group.id", &group),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", "6000"),
        ]);
        if let Some(member) = member {
            consumer.set("group.instance.id", member);
        }
        let consumer: BaseConsumer = consumer.create().unwrap();
        let topic = format!("{}hits.raw", bed.prefix);
        consumer.subscribe(&[&topic]).unwrap();
        let mut by_hand = Self { consumer, producer, next: HashMap::new(), topic };
        by_hand.write(bed, hits);
        by_hand
    }

    fn write(&mut self, bed: &Bed, hits: usize) {
        let (enriched, dead) = (format!("{}hits.enriched", bed.prefix), format!("{}hits.dead", bed.prefix));
        let (deadline, mut written) = (Instant::now() + 2 * WAIT, 0);
        while written < hits {
            assert!(Instant::now() < deadline, "only {written} of {hits} hits were read");
            let Some(read) = self.consumer.poll(Duration::from_millis(100)) else { continue };
            let read = read.unwrap();
            let mut value = Vec::new();
            Writer::single_object::<EnrichedHit<'_>>().unwrap().write(&EnrichedHit::default(), &mut value);
            let record = BaseRecord::to(&enriched).partition(read.partition()).key(read.key().unwrap()).payload(&value);
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
            self.next.insert(read.partition(), read.offset() + 1);
            written += 1;
        }
        let letter = BaseRecord::to(&dead).key("demo\0visitor-1").payload("a letter that nobody may read");
        self.producer.send(letter).map_err(|(error, _)| error).unwrap();
        self.producer.flush(WAIT).unwrap();
    }

    /// Tries to commit what it wrote.
    fn commit(&self) -> Result<(), rdkafka::error::KafkaError> {
        self.offer()?;
        self.producer.commit_transaction(WAIT)
    }

    /// Puts its offsets into the transaction, which stays open.
    fn offer(&self) -> Result<(), rdkafka::error::KafkaError> {
        let mut offsets = TopicPartitionList::new();
        for (partition, next) in &self.next {
            offsets.add_partition_offset(&self.topic, *partition, Offset::Offset(*next)).unwrap();
        }
        let member = self.consumer.group_metadata().unwrap();
        self.producer.send_offsets_to_transaction(&offsets, &member, WAIT)
    }

    /// Ends it as a crash does: nothing is committed, aborted or said to anyone.
    fn crash(self) {
        std::mem::forget(self);
    }
}

async fn topics_of(bed: &Bed) {
    let (running, shutdown) = bed.start(&words(&[])).await;
    end(running, shutdown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_in_a_transaction_leaves_nothing_and_its_successor_fences_it() {
    let Some(stack) = local::stack_or_skip("a_worker_that_dies_in_a_transaction_leaves_nothing") else { return };
    let bed = Bed::new(stack, "dies");
    topics_of(&bed).await;
    let hits: Vec<RawHit<'_>> = (0..300).map(|number| raw_hit(number % 40, number)).collect();
    bed.send("hits.raw", &hits.iter().map(message).collect::<Vec<_>>());
    // As worker 1 of an enricher that is named "one" calls itself.
    let id = format!("{}{}-one-1", bed.prefix, bed.group());
    let dead = ByHand::in_the_middle(&bed, Some("one-1"), &id, 300);
    assert_eq!(bed.uncommitted(), 300, "offsets are in the transaction too");

    let (running, shutdown) = bed.start(&words(&["--group-instance-id=one"])).await;
    until("all is committed", || bed.uncommitted() == 0).await;
    assert_each_once(&bed, &hits);
    assert!(bed.read_all("hits.dead", 3).is_empty(), "a dead letter of an aborted transaction is not there");
    let refused = dead.commit().expect_err("it is fenced");
    eprintln!("the one that was thought dead is told: {refused}");
    dead.crash();
    let metrics = end(running, shutdown).await;
    assert_eq!((metrics.received.get(), metrics.outcomes()), (300, 300));
    assert_each_once(&bed, &hits);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stood_still_while_its_partitions_went_commits_nothing() {
    let Some(stack) = local::stack_or_skip("a_worker_that_stood_still_while_its_partitions_went") else { return };
    let bed = Bed::new(stack, "still");
    topics_of(&bed).await;
    let hits: Vec<RawHit<'_>> = (0..200).map(|number| raw_hit(number % 40, number)).collect();
    bed.send("hits.raw", &hits.iter().map(message).collect::<Vec<_>>());
    // Another transactional id than the enricher's: it is the group that refuses, not the fence.
    let zombie = ByHand::in_the_middle(&bed, Some("two-1"), &format!("{}zombie", bed.prefix), 200);
    let (running, shutdown) = bed.start(&words(&["--group-instance-id=two"])).await;
    let refused = zombie.commit().expect_err("its place in the group is another's");
    eprintln!("the zombie is told: {refused}");
    zombie.producer.abort_transaction(WAIT).unwrap();
    zombie.crash();
    until("all is committed", || bed.uncommitted() == 0).await;
    assert_each_once(&bed, &hits);
    assert!(bed.read_all("hits.dead", 3).is_empty());
    end(running, shutdown).await;
}

/// The client waits until it is known what was committed; where partitions move meanwhile it forgets that, and would begin
/// at the front of those that it keeps. Nobody remembers hits here who could drop them.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_move_while_it_is_not_known_where_they_begin() {
    let Some(stack) = local::stack_or_skip("partitions_move_while_it_is_not_known_where_they_begin") else { return };
    let bed = Bed::new(stack, "unstable");
    let hits: Vec<RawHit<'_>> = (0..400).map(|number| raw_hit(number % 40, number)).collect();
    let messages: Vec<_> = hits.iter().map(message).collect();
    let start = |name: &'static str| words(&["--duplicate-window=0", "--workers=1", name]);
    let (running, shutdown) = bed.start(&start("--batch-hits=100")).await;
    bed.send("hits.raw", &messages[..200]);
    until("the first are committed", || bed.uncommitted() == 0).await;
    end(running, shutdown).await;

    bed.send("hits.raw", &messages[200..]);
    let dead = ByHand::in_the_middle(&bed, Some("one-1"), &format!("{}dead", bed.prefix), 200);
    dead.offer().unwrap();
    let (first, first_shutdown) = bed.start(&start("--group-instance-id=one")).await;
    let (second, second_shutdown) = bed.start(&start("--group-instance-id=two")).await;
    // Time for partitions to move, and for a hit to be read that must not be.
    let patience = Instant::now() + Duration::from_secs(8);
    while Instant::now() < patience && first.metrics.received.get() + second.metrics.received.get() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    dead.producer.abort_transaction(WAIT).unwrap();
    dead.crash();
    until("all is committed", || bed.uncommitted() == 0).await;
    assert_each_once(&bed, &hits);
    for (running, shutdown) in [(first, first_shutdown), (second, second_shutdown)] {
        let metrics = end(running, shutdown).await;
        assert_eq!(metrics.received.get(), metrics.outcomes(), "every hit read has one outcome");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_lasted_too_long_is_read_again() {
    let Some(stack) = local::stack_or_skip("a_transaction_that_lasted_too_long_is_read_again") else { return };
    let bed = Bed::new(stack, "long");
    let hits: Vec<RawHit<'_>> = (0..200).map(|number| raw_hit(1, number)).collect();
    // One visitor's: a partition that is new to the worker would end the batch.
    let mut messages: Vec<_> = hits.iter().map(message).collect();
    messages[0].1.truncate(20);
    let property = |text: &str| format!("--kafka-property={text}");
    let short = [property("transaction.timeout.ms=1000"), property("delivery.timeout.ms=1000")];
    let own = ["--batch-hits=100".to_owned(), "--batch-delay=3000000".to_owned()];
    let (running, shutdown) = bed.start(&[words(&[]), short.to_vec(), own.to_vec()].concat()).await;
    // A batch that waits for more, as a worker does that stands still: after a second the brokers may abort it.
    bed.send("hits.raw", &messages[..50]);
    let metrics = running.metrics.clone();
    until("half a batch is read", || metrics.received.get() == 50).await;
    until("it is written", || !bed.is_all_committed("hits.enriched", PARTITIONS)).await;
    assert!(bed.read_all("hits.enriched", PARTITIONS).is_empty(), "once nothing is open any more, nothing is there");
    bed.send("hits.raw", &messages[50..]);
    until("all is committed", || bed.uncommitted() == 0).await;
    assert_each_once(&bed, &hits[1..]);
    assert_eq!(bed.read_all("hits.dead", 3).len(), 1);
    let metrics = end(running, shutdown).await;
    let retried = metrics.hits.with_label_values(&[Outcome::Retried.as_str()]).get();
    eprintln!("{retried} hits retried, {} aborts, {} restarts", metrics.aborts.get(), metrics.restarts.get());
    assert!(retried >= 50 && metrics.hits.with_label_values(&["duplicate"]).get() == 0);
    assert_eq!(metrics.received.get(), metrics.outcomes(), "every hit read has one outcome");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_brokers_refuse_is_aborted_and_read_again_by_the_same_worker() {
    let Some(stack) = local::stack_or_skip("what_the_brokers_refuse_is_aborted_and_read_again") else { return };
    let bed = Bed::new(stack, "refused");
    let hits: Vec<RawHit<'_>> = (0..400).map(|number| raw_hit(number % 40, number)).collect();
    let messages: Vec<_> = hits.iter().map(message).collect();
    let (running, shutdown) = bed.start(&words(&[])).await;
    bed.send("hits.raw", &messages[..200]);
    until("the first are committed", || bed.uncommitted() == 0).await;
    bed.limit_messages("hits.enriched", "100").await;
    bed.send("hits.raw", &messages[200..]);
    let metrics = running.metrics.clone();
    until("a batch is aborted, and again", || metrics.aborts.get() >= 2).await;
    assert!(bed.uncommitted() > 0);
    bed.limit_messages("hits.enriched", "1048588").await;
    until("all is committed", || bed.uncommitted() == 0).await;
    assert_each_once(&bed, &hits);
    let metrics = end(running, shutdown).await;
    assert_eq!(metrics.restarts.get(), 0, "it turned back, and did not start afresh");
    assert_eq!(metrics.received.get(), metrics.outcomes(), "every hit read has one outcome");
    assert!(metrics.hits.with_label_values(&[Outcome::Retried.as_str()]).get() >= 2);
    assert_eq!(metrics.hits.with_label_values(&[Outcome::Duplicate.as_str()]).get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_fenced_under_load_starts_afresh() {
    let Some(stack) = local::stack_or_skip("a_worker_that_is_fenced_under_load_starts_afresh") else { return };
    let bed = Bed::new(stack, "fenced");
    let hits: Vec<RawHit<'_>> = (0..4_000).map(|number| raw_hit(number % 40, number)).collect();
    let messages: Vec<_> = hits.iter().map(message).collect();
    let (running, shutdown) = bed.start(&words(&["--group-instance-id=one", "--batch-hits=100"])).await;
    bed.send("hits.raw", &messages[..2_000]);
    let metrics = running.metrics.clone();
    until("it works", || metrics.received.get() > 0).await;
    let id = format!("{}{}-one-1", bed.prefix, bed.group());
    let intruder: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", &bed.brokers).set("transactional.id", &id).create().unwrap();
    intruder.init_transactions(WAIT).unwrap();
    bed.send("hits.raw", &messages[2_000..]);
    until("all is committed", || bed.uncommitted() == 0).await;
    assert_each_once(&bed, &hits);
    let metrics = end(running, shutdown).await;
    assert_eq!(metrics.received.get(), metrics.outcomes(), "every hit read has one outcome");
    assert_eq!((metrics.restarts.get(), metrics.hits.with_label_values(&["duplicate"]).get()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_producer_of_one_name_fences_the_first_which_says_so() {
    let Some(stack) = local::stack_or_skip("a_second_producer_of_one_name_fences_the_first") else { return };
    let bed = Bed::new(stack, "fence");
    topics_of(&bed).await;
    let kafka = bed.options(&words(&[])).kafka;
    let open = || {
        let name = format!("{}fenced", bed.prefix);
        Outbox::open(&kafka, Delivery::Transactions(name), CancellationToken::new()).unwrap()
    };
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &bed.brokers).set("group.id", "fence").create().unwrap();
    let member = consumer.group_metadata().unwrap();
    let topic = format!("{}hits.dead", bed.prefix);
    let letter = |text: &'static str| Outgoing { topic: &topic, value: Some(text.as_bytes()), ..Outgoing::default() };
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&format!("{}hits.raw", bed.prefix), 0, Offset::Offset(0)).unwrap();

    let first = open();
    first.send(letter("of the first")).unwrap();
    let second = open();
    second.send(letter("of the second")).unwrap();
    second.commit(&offsets, &member).unwrap();
    let error = match first.commit(&offsets, &member) {
        // The client may notice at a message of the transaction first; aborting tells it the rest.
        Err(OutboxError::Spoilt(_)) => first.abort().unwrap_err(),
        other => other.unwrap_err(),
    };
    assert!(matches!(error, OutboxError::Fenced { .. }), "{error:?}");
    assert!(error.to_string().contains("--group-instance-id"), "{error}");
    let third = open();
    third.send(letter("aborted")).unwrap();
    third.abort().unwrap();
    third.send(letter("of the third")).unwrap();
    third.commit(&offsets, &member).unwrap();
    let mut letters: Vec<String> = bed
        .read_all("hits.dead", 3)
        .iter()
        .map(|message| String::from_utf8(message.payload().unwrap().to_vec()).unwrap())
        .collect();
    letters.sort();
    assert_eq!(letters, ["of the second", "of the third"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hits_pass_once_while_partitions_move_under_load() {
    const HITS: usize = 12_000;
    let Some(stack) = local::stack_or_skip("hits_pass_once_while_partitions_move_under_load") else { return };
    let bed = Bed::new(stack, "moves");
    let few = ["--batch-hits=200"];
    let (first, first_shutdown) = bed.start(&words(&few)).await;
    let mut hits: Vec<RawHit<'_>> = (0..HITS).map(|number| raw_hit(number % 60, number)).collect();
    let mut messages: Vec<_> = hits.iter().map(message).collect();
    // Dead letters move with them.
    for at in (0..HITS).step_by(1_000) {
        messages[at].1.truncate(20);
    }
    let dead = HITS / 1_000;
    let mut number = 0;
    hits.retain(|_| {
        number += 1;
        (number - 1) % 1_000 != 0
    });
    let sent = std::thread::spawn({
        let sender = Bed { brokers: bed.brokers.clone(), prefix: bed.prefix.clone() };
        move || messages.chunks(200).for_each(|chunk| sender.send("hits.raw", chunk))
    });
    let (second, second_shutdown) = bed.start(&words(&["--batch-hits=200", "--workers=2"])).await;
    let metrics = second.metrics.clone();
    until("the second works", || metrics.received.get() > 0).await;
    let first = end(first, first_shutdown).await;
    let (third, third_shutdown) = bed.start(&words(&few)).await;
    until("all was sent", || sent.is_finished()).await;
    sent.join().unwrap();
    until("all is committed", || bed.uncommitted() == 0).await;
    let (second, third) = (end(second, second_shutdown).await, end(third, third_shutdown).await);
    assert_each_once(&bed, &hits);
    assert_eq!(bed.read_all("hits.dead", 3).len(), dead);
    let of = |outcome: Outcome| -> u64 {
        [&first, &second, &third].iter().map(|metrics| metrics.hits.with_label_values(&[outcome.as_str()]).get()).sum()
    };
    assert_eq!(of(Outcome::Enriched), hits.len() as u64);
    for metrics in [&first, &second, &third] {
        assert_eq!(metrics.received.get(), metrics.outcomes(), "every hit read has one outcome");
    }
    eprintln!("{} hits were read again, {} were dropped", of(Outcome::Retried), of(Outcome::Duplicate));
    assert_eq!(of(Outcome::Duplicate), 0, "no hit that was sent once needs to be dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn repetitions_are_dropped_within_the_window_also_after_a_restart() {
    let Some(stack) = local::stack_or_skip("repetitions_are_dropped_within_the_window") else { return };
    let bed = Bed::new(stack, "repeats");
    let dropped = |metrics: &enricher::metrics::Metrics| metrics.hits.with_label_values(&["duplicate"]).get();
    let at = |hit: &RawHit<'static>, after: i64| RawHit { received_at: hit.received_at + after, ..hit.clone() };
    let hits: Vec<RawHit<'_>> = (0..60).map(|number| raw_hit(number % 20, number)).collect();
    let mut all: Vec<_> = hits.iter().map(message).collect();
    all.extend(hits.iter().take(10).map(|hit| message(&at(hit, 1_000))));
    // The same id from another visitor is another hit.
    let other = RawHit { visitor_id: "another".into(), ..hits[0].clone() };
    all.push(message(&other));
    let (running, shutdown) = bed.start(&words(&[])).await;
    bed.send("hits.raw", &all);
    until("all is committed", || bed.uncommitted() == 0).await;
    let metrics = end(running, shutdown).await;
    assert_eq!((dropped(&metrics), metrics.received.get(), metrics.outcomes()), (10, 71, 71));
    assert_eq!(bed.read_all("hits.enriched", PARTITIONS).len(), 61);

    // While it is down, clients repeat: some within the window, some after it.
    let late = 10 * 60_000 + 1;
    let again: Vec<_> = hits.iter().take(30).map(|hit| message(&at(hit, 599_000))).collect();
    let after: Vec<_> = hits[30..40].iter().map(|hit| message(&at(hit, late))).collect();
    bed.send("hits.raw", &[again, after].concat());
    let (running, shutdown) = bed.start(&words(&[])).await;
    until("all is committed", || bed.uncommitted() == 0).await;
    let metrics = end(running, shutdown).await;
    assert_eq!((dropped(&metrics), metrics.received.get(), metrics.outcomes()), (30, 40, 40));
    let mut late_ones = 0;
    look(&bed.read_all("hits.enriched", PARTITIONS), |hit, _| {
        late_ones += usize::from(hit.hit.received_at >= RECEIVED + late);
    });
    assert_eq!(late_ones, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hit_keeps_its_partition_and_time_and_without_transactions_passes_at_least_once() {
    let test = "a_hit_keeps_its_partition_and_time_and_without_transactions_passes_at_least_once";
    let Some(stack) = local::stack_or_skip(test) else { return };
    let bed = Bed::new(stack, "single");
    let (running, shutdown) = bed.start(&words(&["--delivery=at-least-once"])).await;
    let hits: Vec<RawHit<'_>> = (0..100).map(|number| raw_hit(number, number)).collect();
    bed.send("hits.raw", &hits.iter().chain(&hits[..5]).map(message).collect::<Vec<_>>());
    until("all is committed", || bed.uncommitted() == 0).await;
    let metrics = end(running, shutdown).await;
    assert_eq!((metrics.received.get(), metrics.outcomes(), metrics.aborts.get()), (105, 105, 0));
    assert_each_once(&bed, &hits);
    let raw = bed.read_all("hits.raw", PARTITIONS);
    let places = raw.iter().map(|message| (message.key().unwrap(), (message.partition(), message.timestamp())));
    let places: HashMap<_, _> = places.collect();
    for message in bed.read_all("hits.enriched", PARTITIONS) {
        let (partition, _) = places[message.key().unwrap()];
        assert_eq!(message.partition(), partition);
    }
    let times: Vec<_> = raw.iter().map(Message::timestamp).collect();
    assert!(bed.read_all("hits.enriched", PARTITIONS).iter().all(|message| times.contains(&message.timestamp())));
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_to_hits_raw_cost_one_start_afresh() {
    const MORE: i32 = PARTITIONS + 6;
    let Some(stack) = local::stack_or_skip("partitions_that_are_added_to_hits_raw_cost_one_start_afresh") else {
        return;
    };
    for window in ["0", "600"] {
        let bed = Bed::new(stack, &format!("added-{window}"));
        let window = format!("--duplicate-window={window}");
        // How often clients look whether there are more partitions.
        let own = [window.as_str(), "--kafka-property=topic.metadata.refresh.interval.ms=500"];
        let (running, shutdown) = bed.start(&words(&own)).await;
        let hits: Vec<RawHit<'_>> = (0..400).map(|number| raw_hit(number, number)).collect();
        let messages: Vec<_> = hits.iter().map(message).collect();
        bed.send("hits.raw", &messages[..100]);
        until("the first are committed", || bed.uncommitted() == 0).await;
        bed.add_partitions("hits.raw", MORE as usize).await;
        bed.send("hits.raw", &messages[100..]);
        until("all is committed", || bed.uncommitted_of(MORE) == 0).await;
        assert!(bed.read_all("hits.raw", MORE).iter().any(|message| message.partition() >= PARTITIONS));
        assert_each_once(&bed, &hits);
        let metrics = end(running, shutdown).await;
        assert_eq!(metrics.received.get(), metrics.outcomes(), "every hit read has one outcome");
        assert_eq!(metrics.restarts.get(), 1, "{window}");
    }
}

//! A worker that the group has given up, in the moment before it hears of it: it has hits in hand, and may not commit them.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

mod common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::bed::{Bed, PARTITIONS, message, raw_hit, without_files};
use common::until;
use enricher::hit::Coordinates;
use enricher::metrics::{Metrics, Outcome};
use enricher::pipeline::batch::{Batch, Committed, Limits, Taken};
use enricher::pipeline::duplicates::Remember;
use enricher::pipeline::outbox::{Delivery, Outbox, Outgoing};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tokio_util::sync::CancellationToken;

const WAIT: Duration = Duration::from_secs(15);

/// The batch of a worker that has read a hit and written it, and not committed it.
struct InTheMiddle {
    batch: Batch,
    consumer: BaseConsumer,
    metrics: Metrics,
}

impl InTheMiddle {
    fn of(bed: &Bed) -> Self {
        bed.send("hits.raw", &[message(&raw_hit(1, 1))]);
        let kafka = bed.options(&without_files()).kafka;
        let name = format!("{}middle", bed.prefix);
        let outbox = Outbox::open(&kafka, Delivery::Transactions(name), CancellationToken::new()).unwrap();
        let metrics = Metrics::new().unwrap();
        let limits = Limits { hits: 1, bytes: 1, delay: WAIT };
        let remember = Remember { window: Duration::ZERO, hits: 1 };
        let topic = format!("{}hits.raw", bed.prefix);
        let batch = Batch::new(outbox, topic.clone(), limits, remember, metrics.clone());
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &bed.brokers).set("group.id", bed.group()).set("enable.auto.commit", "false");
        config.set("auto.offset.reset", "earliest").set("partition.assignment.strategy", "cooperative-sticky");
        config.set("heartbeat.interval.ms", "300");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&[&topic]).unwrap();
        let deadline = Instant::now() + 2 * WAIT;
        let (partition, offset) = loop {
            assert!(Instant::now() < deadline, "the hit was not read");
            if let Some(read) = consumer.poll(Duration::from_millis(100)) {
                let read = read.unwrap();
                break (read.partition(), read.offset());
            }
        };
        batch.receive();
        let written = format!("{}hits.enriched", bed.prefix);
        batch.outbox.send(Outgoing { topic: &written, value: Some(b"a hit"), ..Outgoing::default() }).unwrap();
        let coordinates = Coordinates { topic: &topic, partition, offset };
        batch.add(&Taken { coordinates, outcome: Outcome::Enriched, bytes: 5, identity: None });
        Self { batch, consumer, metrics }
    }

    /// Holds that it commits nothing, and says so.
    async fn assert_commits_nothing(&self) {
        until("it has lost its partitions", || self.consumer.assignment_lost()).await;
        assert_eq!(self.batch.commit(&self.consumer).unwrap(), Committed::Aborted);
        let retried = self.metrics.hits.with_label_values(&[Outcome::Retried.as_str()]).get();
        assert_eq!((self.metrics.aborts.get(), retried), (1, 1));
    }
}

/// Takes the only member out of the test's group, as its coordinator does with one that it no longer hears: a LeaveGroup
/// request, version 2 (<https://kafka.apache.org/protocol.html>).
fn expel(bed: &Bed, consumer: &BaseConsumer) {
    let group = bed.group();
    let groups = consumer.fetch_group_list(Some(&group), WAIT).unwrap();
    let member = groups.groups()[0].members()[0].id().to_owned();
    let text = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let head = [0, 13, 0, 2, 0, 0, 0, 1];
    let request = [&head[..], &text("expel"), &text(&group), &text(&member)].concat();
    let mut broker = std::net::TcpStream::connect(&bed.brokers).unwrap();
    broker.set_read_timeout(Some(WAIT)).unwrap();
    broker.write_all(&(request.len() as u32).to_be_bytes()).unwrap();
    broker.write_all(&request).unwrap();
    // Length, correlation, throttling, and no error.
    let mut answer = [0; 14];
    broker.read_exact(&mut answer).unwrap();
    assert_eq!(answer[12..], [0, 0], "{answer:?}");
}

/// What the brokers refuse too, as its client still names the generation that it was in.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_lost_its_partitions_commits_nothing() {
    let Some(stack) = local::stack_or_skip("a_worker_that_lost_its_partitions_commits_nothing") else { return };
    let bed = Bed::new(stack, "lost");
    let kafka = bed.options(&without_files()).kafka;
    kafka.set_up_topics("enricher", &[schemas::topics::HITS_RAW, schemas::topics::HITS_ENRICHED]).await.unwrap();
    let worker = InTheMiddle::of(&bed);
    expel(&bed, &worker.consumer);
    worker.assert_commits_nothing().await;
    assert_eq!(bed.uncommitted(), 1);
    assert!(bed.read_all("hits.enriched", PARTITIONS).is_empty());
}

/// A client that heard that its generation has passed names none. Offsets in a transaction that come in nobody's name are
/// taken from anybody, as by the mock broker here: so the worker must not even ask.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_a_generation_does_not_ask_whether_it_may_commit() {
    let mock = MockCluster::new(1).unwrap();
    for topic in ["hits.raw", "hits.enriched"] {
        mock.create_topic(topic, 1, 1).unwrap();
    }
    let bed = Bed { brokers: mock.bootstrap_servers(), prefix: String::new() };
    let worker = InTheMiddle::of(&bed);
    mock.request_errors(RDKafkaApiKey::Heartbeat, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION]);
    worker.assert_commits_nothing().await;
    assert_eq!(bed.uncommitted_of(1), 1);
}

//! The producer of dead letters, against brokers that fail as told.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use sink::dead_letters::{DeadTopic, Graveyard, Letter, is_forbidden};
use sink::options::{Command, Options, SERVICE};
use sink::outcome::Reason;

const LETTER: Letter<'static> = Letter {
    key: Vec::new(),
    reason: Reason::NoHeader,
    detail: String::new(),
    site: String::new(),
    original: b"nothing",
    partition: 3,
    offset: 7,
};

fn brokers() -> MockCluster<'static, DefaultProducerContext> {
    let brokers = MockCluster::new(1).unwrap();
    brokers.create_topic("hits.dead", 1, 1).unwrap();
    brokers
}

fn topic(brokers: &MockCluster<'_, DefaultProducerContext>) -> DeadTopic {
    let words = ["sink", "run", "--kafka-brokers", &brokers.bootstrap_servers()];
    let Command::Run(options) = SERVICE.parse_from::<Options>(&words).unwrap().command else {
        panic!("run was asked for")
    };
    DeadTopic::new(&options.kafka, "hits.enriched").unwrap()
}

/// An idempotent producer that has failed for good refuses everything from then on.
#[tokio::test]
async fn a_producer_that_has_failed_for_good_is_made_anew() {
    let brokers = brokers();
    let failure = RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH;
    brokers.request_errors(RDKafkaApiKey::InitProducerId, &[failure]);
    let topic = topic(&brokers);
    let error = topic.bury(&LETTER).await.unwrap_err();
    assert!(!is_forbidden(&error), "{error}");
    topic.bury(&LETTER).await.unwrap();
}

#[tokio::test]
async fn what_is_forbidden_is_told_apart_from_what_passes() {
    let brokers = brokers();
    let topic = topic(&brokers);
    brokers.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let error = topic.bury(&LETTER).await.unwrap_err();
    assert!(is_forbidden(&error), "{error}");
    assert!(!is_forbidden(&KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)));
}

/// The right to be an idempotent producer is the cluster's to give.
#[tokio::test]
async fn a_producer_that_may_not_be_one_is_forbidden() {
    let brokers = brokers();
    let failure = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    brokers.request_errors(RDKafkaApiKey::InitProducerId, &[failure]);
    let error = topic(&brokers).bury(&LETTER).await.unwrap_err();
    assert!(is_forbidden(&error), "{error}");
}

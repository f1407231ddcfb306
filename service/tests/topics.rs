//! Topics on a real Kafka: what contradicts the catalogue is refused by name, in what a service would run on.

#![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

use clap::Parser;
use local::{TestStack, stack_or_skip};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use schemas::topics::{HITS_RAW, PARTNERS, PRIVACY, Topic, VISITOR_KEYS};
use service::kafka::TopicError;
use service::options::KafkaOptions;

#[derive(Parser)]
struct Example {
    #[command(flatten)]
    kafka: KafkaOptions,
}

fn options(stack: &TestStack, prefix: &str, setup: &str) -> KafkaOptions {
    let words = ["example", "--kafka-brokers", stack.kafka_brokers(), "--topic-prefix", prefix, "--topic-setup", setup];
    Example::parse_from(words).kafka
}

/// Creates a topic with the settings of the catalogue but for one.
async fn create(stack: &TestStack, name: &str, topic: &Topic, other: (&str, &str)) {
    let brokers = ("bootstrap.servers", stack.kafka_brokers());
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set(brokers.0, brokers.1).create().unwrap();
    let settings = topic.settings();
    let kept = settings.iter().filter(|(key, _)| *key != other.0).map(|(key, value)| (*key, value.as_str()));
    let new = NewTopic::new(name, topic.partitions, TopicReplication::Fixed(1));
    let new = kept.chain([other]).fold(new, |new, (key, value)| new.set(key, value));
    let created = admin.create_topics(&[new], &AdminOptions::new()).await.unwrap();
    assert_eq!(created, [Ok(name.to_owned())]);
}

#[tokio::test]
async fn a_topic_that_contradicts_the_catalogue_is_refused_by_name() {
    let Some(stack) = stack_or_skip("service::a_topic_that_contradicts_the_catalogue_is_refused_by_name") else {
        return;
    };
    for (topic, other, complaint) in [
        (HITS_RAW, ("retention.ms", "604800000"), "retention.ms is 604800000, must be 259200000 or less"),
        (HITS_RAW, ("retention.ms", "-1"), "retention.ms is -1, must be 259200000 or less"),
        (VISITOR_KEYS, ("segment.ms", "604800000"), "segment.ms is 604800000, must be 14400000 or less"),
        (HITS_RAW, ("cleanup.policy", "compact"), "cleanup.policy is compact, must be delete"),
        (PARTNERS, ("cleanup.policy", "delete"), "cleanup.policy is delete, must be compact"),
        (
            PRIVACY,
            ("max.compaction.lag.ms", "172800000"),
            "max.compaction.lag.ms is 172800000, must be 86400000 or less",
        ),
    ] {
        let prefix = stack.topic_prefix("topics");
        let name = topic.full_name(&prefix);
        create(stack, &name, &topic, other).await;
        for setup in ["create", "check"] {
            let refused = options(stack, &prefix, setup).set_up_topics("example", &[topic]).await.unwrap_err();
            assert!(matches!(&refused, TopicError::Contradiction { topic, .. } if *topic == name), "{refused}");
            let message = refused.to_string();
            assert!(message.contains(&name) && message.contains(complaint), "{message}");
        }
    }
}

#[tokio::test]
async fn topics_that_are_missing_are_created_and_then_in_order() {
    let Some(stack) = stack_or_skip("service::topics_that_are_missing_are_created_and_then_in_order") else { return };
    let prefix = stack.topic_prefix("topics");
    let topics = [HITS_RAW, PARTNERS];
    let missing = options(stack, &prefix, "check").set_up_topics("example", &topics).await.unwrap_err();
    assert!(matches!(missing, TopicError::Missing(name) if name == HITS_RAW.full_name(&prefix)));
    for setup in ["create", "create", "check"] {
        options(stack, &prefix, setup).set_up_topics("example", &topics).await.unwrap();
    }
}

//! Kafka: client settings, and topics as the catalogue says.

use std::ops::Range;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};
use schemas::registry::Registry;
use schemas::topics::{HITS_ENRICHED, HITS_RAW, Topic};

use crate::options::{KafkaOptions, TopicSetup};

const ADMIN_TIMEOUT: Duration = Duration::from_secs(15);
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// Why topics can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The brokers do not answer, or refuse.
    #[error("cannot set up topics at {brokers}: {cause}; are the brokers up, and is --kafka-brokers right?")]
    Brokers {
        /// Where it was tried.
        brokers: String,
        /// What the client says.
        cause: KafkaError,
    },
    /// A topic can't be created.
    #[error("cannot create topic {topic}: {cause}; create it by hand and use --topic-setup check")]
    Create {
        /// Which.
        topic: String,
        /// What the broker says.
        cause: RDKafkaErrorCode,
    },
    /// A topic is missing.
    #[error("topic {0} does not exist; create it, or use --topic-setup create")]
    Missing(String),
    /// A topic is kept otherwise than the catalogue says.
    #[error("topic {topic} contradicts the catalogue: {contradiction}; alter the topic")]
    Contradiction {
        /// Which.
        topic: String,
        /// What is wrong.
        contradiction: String,
    },
}

/// Properties that librdkafka knows by a second name. It takes them in no certain order, so that a default under the one
/// name and an operator's value under the other would win by turns.
const SECOND_NAMES: &[(&str, &str)] = &[
    ("compression.type", "compression.codec"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("request.required.acks", "acks"),
    ("retries", "message.send.max.retries"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("sasl.mechanism", "sasl.mechanisms"),
];

fn first_name(property: &str) -> &str {
    SECOND_NAMES.iter().find(|(second, _)| *second == property).map_or(property, |(_, first)| first)
}

/// True for an error that passes by itself once the brokers are well again, or have found their leaders.
#[must_use]
pub fn passes(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::AllBrokersDown
                | Code::BrokerNotAvailable
                | Code::BrokerTransportFailure
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::LeaderNotAvailable
                | Code::NetworkException
                | Code::NotController
                | Code::NotCoordinator
                | Code::NotLeaderForPartition
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::WaitingForCoordinator
        )
    )
}

/// Logs an error of a client that goes on by itself. It repeats many times a second that brokers are away; operators want to
/// read that once, when it begins and when it ends, which readers of topics see to ([`crate::compacted`]).
pub fn log_client_error(client: &str, error: &KafkaError, reason: &str) {
    match error.rdkafka_error_code() {
        // Reaching an end is what the reader of a topic waits for.
        Some(RDKafkaErrorCode::PartitionEOF) => {}
        Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure) => {
            tracing::debug!(client, %error, reason, "no connection to a broker");
        }
        _ => tracing::warn!(client, %error, reason, "Kafka's client"),
    }
}

/// What a consumer is told by its client, and operators by [`log_client_error`].
#[derive(Debug)]
pub struct Told(pub &'static str);

impl ClientContext for Told {
    fn error(&self, error: KafkaError, reason: &str) {
        log_client_error(self.0, &error, reason);
    }
}

impl ConsumerContext for Told {}

/// What a partition has dropped of the offsets that were passed over: those before its beginning; the rest of a gap is what
/// nobody committed. Blocks.
///
/// # Errors
/// Where the brokers do not answer within `patience`.
pub fn dropped<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    (topic, partition): (&str, i32),
    passed: &Range<i64>,
    patience: Duration,
) -> KafkaResult<Range<i64>> {
    let (beginning, _) = consumer.fetch_watermarks(topic, partition, patience)?;
    Ok(passed.start..beginning.clamp(passed.start, passed.end))
}

/// Asks the brokers, and again while their answer is an error that passes, for at most `patience`. Blocks.
///
/// # Errors
/// The last one.
pub fn ask<T>(patience: Duration, question: impl Fn() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let begun = Instant::now();
    loop {
        match question() {
            Err(error) if passes(&error) && begun.elapsed() < patience => std::thread::sleep(ASK_AGAIN),
            answer => return answer,
        }
    }
}

/// Whether a transactional producer may write no more, as another one has begun under its name.
#[must_use]
pub fn is_fenced(cause: &KafkaError) -> bool {
    matches!(
        cause.rdkafka_error_code(),
        Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch)
    )
}

impl KafkaOptions {
    /// Settings of every client of a service: `defaults` of its own, which the operator's properties override.
    #[must_use]
    pub fn client(&self, service: &str, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.kafka_brokers).set("client.id", service);
        config.set_log_level(RDKafkaLogLevel::Warning);
        for (key, value) in defaults {
            config.set(first_name(key), *value);
        }
        for (key, value) in self.kafka_property.iter().flat_map(|properties| &properties.0) {
            config.set(first_name(key), value);
        }
        config
    }

    /// Full name of a topic in this installation.
    #[must_use]
    pub fn topic(&self, topic: &Topic) -> String {
        topic.full_name(&self.topic_prefix)
    }

    /// Partitions of a topic where it is created here.
    fn partitions(&self, topic: &Topic) -> i32 {
        let asked = self.topic_partitions.filter(|_| [HITS_RAW, HITS_ENRICHED].contains(topic));
        asked.unwrap_or(topic.partitions)
    }

    /// The schema registry, where one is configured.
    #[must_use]
    pub fn registry(&self) -> Option<Registry> {
        self.schema_registry.as_deref().map(Registry::new)
    }

    /// Creates the topics that are missing and holds all against the catalogue, as `--topic-setup` says.
    ///
    /// # Errors
    /// Where the brokers do not answer, or a topic is missing or contradicts the catalogue.
    pub async fn set_up_topics(&self, service: &str, topics: &[Topic]) -> Result<(), TopicError> {
        if self.topic_setup == TopicSetup::Skip {
            return Ok(());
        }
        let brokers = |cause| TopicError::Brokers { brokers: self.kafka_brokers.clone(), cause };
        let mut config = self.client(service, &[]);
        // Properties that only producers or consumers know would be warned of here.
        config.set_log_level(RDKafkaLogLevel::Error);
        let admin: AdminClient<DefaultClientContext> = config.create().map_err(brokers)?;
        if self.topic_setup == TopicSetup::Create {
            self.create_missing(&admin, topics).await?;
        }
        for topic in topics {
            self.check(&admin, topic).await?;
        }
        Ok(())
    }

    async fn create_missing(
        &self,
        admin: &AdminClient<DefaultClientContext>,
        topics: &[Topic],
    ) -> Result<(), TopicError> {
        let named: Vec<_> =
            topics.iter().map(|topic| (self.topic(topic), topic.settings(), self.partitions(topic))).collect();
        let wanted: Vec<_> = named
            .iter()
            .map(|(name, settings, partitions)| {
                let new = NewTopic::new(name, *partitions, TopicReplication::Fixed(self.topic_replication));
                settings.iter().fold(new, |new, (key, value)| new.set(key, value))
            })
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(ADMIN_TIMEOUT)).request_timeout(Some(ADMIN_TIMEOUT));
        let brokers = |cause| TopicError::Brokers { brokers: self.kafka_brokers.clone(), cause };
        let results = admin.create_topics(&wanted, &options).await.map_err(brokers)?;
        for result in results {
            match result {
                Ok(topic) => tracing::info!(topic, "created topic"),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) if passes(&KafkaError::Global(code)) => return Err(brokers(KafkaError::AdminOp(code))),
                Err((topic, cause)) => return Err(TopicError::Create { topic, cause }),
            }
        }
        Ok(())
    }

    /// A topic that was just created is not known to all brokers at once: there, none is not yet an answer.
    async fn count_partitions(
        &self,
        admin: &AdminClient<DefaultClientContext>,
        name: &str,
    ) -> Result<usize, KafkaError> {
        let deadline = Instant::now() + ADMIN_TIMEOUT;
        loop {
            let metadata = admin.inner().fetch_metadata(Some(name), ADMIN_TIMEOUT)?;
            let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
            if partitions > 0 || self.topic_setup != TopicSetup::Create || Instant::now() >= deadline {
                return Ok(partitions);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn check(&self, admin: &AdminClient<DefaultClientContext>, topic: &Topic) -> Result<(), TopicError> {
        let name = self.topic(topic);
        let brokers = |cause| TopicError::Brokers { brokers: self.kafka_brokers.clone(), cause };
        // First: the settings of a topic that the brokers do not know, or not yet, are described without an error, as none.
        let partitions = self.count_partitions(admin, &name).await.map_err(brokers)?;
        if partitions == 0 {
            return Err(TopicError::Missing(name));
        }
        let options = AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT));
        let described = admin.describe_configs(&[ResourceSpecifier::Topic(&name)], &options).await.map_err(brokers)?;
        let settings: ConfigResource = match described.into_iter().next() {
            Some(Ok(settings)) => settings,
            Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) | None => {
                return Err(TopicError::Missing(name));
            }
            Some(Err(code)) => return Err(brokers(KafkaError::AdminOp(code))),
        };
        let setting = |key: &str| settings.get(key).and_then(|entry| entry.value.clone());
        match topic.contradiction(partitions, setting) {
            Some(contradiction) => Err(TopicError::Contradiction { topic: name, contradiction }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Example {
        #[command(flatten)]
        kafka: KafkaOptions,
    }

    #[test]
    fn an_operators_property_wins_under_either_of_its_names() {
        let words = ["example", "--kafka-property=message.timeout.ms=7,linger.ms=3"];
        let Example { kafka } = Example::parse_from(words);
        let config = kafka.client("example", &[("delivery.timeout.ms", "30000"), ("queue.buffering.max.ms", "5")]);
        assert_eq!(config.get("message.timeout.ms"), Some("7"));
        assert_eq!(config.get("delivery.timeout.ms"), None);
        assert_eq!(config.get("queue.buffering.max.ms"), Some("3"));
        assert_eq!(config.get("bootstrap.servers"), Some("127.0.0.1:9092"));
    }

    #[test]
    fn only_the_topics_of_hits_have_as_many_partitions_as_asked() {
        let of = |words: &[&str], topic: &Topic| Example::parse_from(words).kafka.partitions(topic);
        for topic in schemas::topics::CATALOGUE {
            assert_eq!(of(&["example"], topic), topic.partitions);
            let is_of_hits = [HITS_RAW, HITS_ENRICHED].contains(topic);
            let expected = if is_of_hits { 24 } else { topic.partitions };
            assert_eq!(of(&["example", "--topic-partitions=24"], topic), expected, "{}", topic.name);
        }
        assert!(Example::try_parse_from(["example", "--topic-partitions=0"]).is_err());
    }

    #[test]
    fn librdkafka_takes_every_name() {
        let is_known = |name: &str| match ClientConfig::new().set(name, "1").create_native_config() {
            Ok(_) => true,
            Err(error) => !error.to_string().contains("No such configuration property"),
        };
        assert!(!is_known("no.such.property"));
        for name in SECOND_NAMES.iter().flat_map(|(second, first)| [first, second]) {
            assert!(is_known(name), "{name}");
        }
    }
}

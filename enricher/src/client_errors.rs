//! What Kafka's client reports beside what it answers.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

pub(crate) use service::kafka::log_client_error as log;

/// True for an error that passes by itself when the brokers are well again and the group has settled.
pub(crate) fn passes(error: &KafkaError) -> bool {
    let group = [RDKafkaErrorCode::RebalanceInProgress, RDKafkaErrorCode::IllegalGeneration];
    service::kafka::passes(error) || error.rdkafka_error_code().is_some_and(|code| group.contains(&code))
}

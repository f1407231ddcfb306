//! What Kafka's client reports beside what it answers. It repeats many times a second that brokers are away; operators
//! want to read that once, when it begins and when it ends, which [`crate::partners::topic`] sees to.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Logs an error of a client that goes on by itself.
pub(crate) fn log(client: &str, error: &KafkaError, reason: &str) {
    match error.rdkafka_error_code() {
        // Reaching an end is what the reader of a topic waits for.
        Some(RDKafkaErrorCode::PartitionEOF) => {}
        Some(RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure) => {
            tracing::debug!(client, %error, reason, "no connection to a broker");
        }
        _ => tracing::warn!(client, %error, reason, "Kafka's client"),
    }
}

/// True for an error that passes by itself when the brokers are well again and the group has settled.
pub(crate) fn passes(error: &KafkaError) -> bool {
    let group = [RDKafkaErrorCode::RebalanceInProgress, RDKafkaErrorCode::IllegalGeneration];
    service::kafka::passes(error) || error.rdkafka_error_code().is_some_and(|code| group.contains(&code))
}

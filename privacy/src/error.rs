//! What can go wrong.

use std::path::PathBuf;

use rdkafka::error::KafkaError;
use schemas::WireError;
use service::compacted::ReadError;
use service::kafka::TopicError;
use service::privacy::keys::KeysError;

/// Why a command failed. No message repeats what names a person.
#[derive(Debug, thiserror::Error)]
pub enum PrivacyError {
    /// Nothing says who it is about.
    #[error("say who it is about: --email, --phone or --visitor, with more than spaces in it")]
    NoSubject,
    /// A field can't be corrected or given away.
    #[error("{0:?} is no field of a contact; there are {known}", known = crate::subject::FIELDS.join(", "))]
    UnknownField(String),
    /// A field is given twice, or none is.
    #[error("each field is named once, and at least one is")]
    Fields,
    /// A field is to be corrected to nothing.
    #[error("{0} is to be corrected to nothing, which no correction can do; give its right value")]
    NoValue(String),
    /// ClickHouse refuses, or does not answer.
    #[error("ClickHouse, {doing}: {cause}; check --clickhouse-url and the user, and run `sink migrate`")]
    ClickHouse {
        /// What was asked of it.
        doing: &'static str,
        /// What the client says.
        cause: String,
    },
    /// An answer of ClickHouse is not what it should be.
    #[error("ClickHouse's answer, {doing}, can't be read: {cause}")]
    Answer {
        /// What was asked of it.
        doing: &'static str,
        /// What is wrong with it.
        cause: serde_json::Error,
    },
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The topic is missing, or the brokers are.
    #[error(transparent)]
    SetUp(#[from] TopicError),
    /// The topic can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The topic says nothing.
    #[error("the brokers did not answer for {0:?}; are they up, and is --kafka-brokers right?")]
    Silent(std::time::Duration),
    /// The registry, or a message.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The brokers do not take it.
    #[error(
        "the brokers did not confirm it, so that all of it was published or nothing: {0}; the command may be repeated"
    )]
    Publish(#[from] KafkaError),
    /// A file can't be written.
    #[error("cannot write {}: {cause}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// A task ended.
    #[error("the work was ended before it was done")]
    Ended,
    /// No such request.
    #[error("there is no request {0} at site {1}; `privacy list` shows all that are")]
    NoSuchRequest(uuid::Uuid, String),
}

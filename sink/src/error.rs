//! Why the sink ends, and with which exit code.

use service::kafka::TopicError;
use service::privacy::keys::KeysError;
use service::sites::SitesError;

use crate::audiences::AudienceError;
use crate::deadletters::DeadLettersError;
use crate::intents::IntentError;
use crate::migrate::MigrateError;
use crate::views::ViewsError;

/// What a supervisor or an operator can tell from the exit code. 2 is the command line's, as everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Something unforeseen; starting again may help.
    Failed = 1,
    /// ClickHouse does not let the sink in, or not do what it has to.
    Refused = 3,
    /// The database or a table is missing, or not as this version needs it; a migration is pending.
    Unfit = 4,
    /// Kafka's topics or the consumer group can't be used.
    Kafka = 5,
    /// An audit found offsets that are in the table twice, or nowhere.
    NotClean = 6,
}

/// Why the sink ends other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// ClickHouse can't be used until somebody changes something. No hit was given up for it.
    #[error("halting, as ClickHouse can't be used: {message}")]
    Halt {
        /// What kind of change is needed.
        code: ExitCode,
        /// What ClickHouse said, and what to do.
        message: String,
    },
    /// Topics can't be used.
    #[error(transparent)]
    Topics(#[from] TopicError),
    /// The consumer or the producer can't be made, or can't go on.
    #[error("Kafka: {0}; check --kafka-brokers, --kafka-property, --group and --group-instance-id")]
    Kafka(#[from] rdkafka::error::KafkaError),
    /// Messages can't be read or written.
    #[error(transparent)]
    Wire(#[from] schemas::WireError),
    /// The metrics listener can't be opened.
    #[error(transparent)]
    Listen(#[from] service::endpoint::ListenError),
    /// Metrics can't be made.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The database is not as it must be.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// What the last owner of a partition left can't be read.
    #[error(transparent)]
    Intents(#[from] IntentError),
    /// Dead letters can't be written until somebody changes something. No hit was given up for it.
    #[error(
        "halting, as hits.dead can't be written: {0}; let the user of --kafka-property write to that topic, and be an \
         idempotent producer"
    )]
    DeadTopic(rdkafka::error::KafkaError),
    /// The broker's limit is too small for what the sink commits.
    #[error("the broker refuses the metadata of offsets; set its offset.metadata.max.bytes to 4096 or more")]
    Metadata,
    /// A topic has begun anew, or was cut.
    #[error(
        "{topic}/{partition} goes on at offset {offset}, while {next} was to come: the topic was made anew or has lost its \
         end. ClickHouse would take its hits for those that had these offsets before; give another \
         --epoch, and reset the group's offsets (README, \"Loading again\")"
    )]
    WentBack {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Where it was to go on.
        next: i64,
        /// Where it does.
        offset: i64,
    },
    /// Nothing is committed of a partition whose hits the table has.
    #[error(
        "the group has nothing committed of {topic}/{partition}, but the table has hits of partition {partition} up to offset \
         {last}: the topic was deleted and made anew, the group's offsets are lost, or --group is not what it was. ClickHouse \
         would take hits for those that had their offsets before, or have them twice. If the topic is the same, reset the \
         group's offset of this partition to offset {next}; if it was made anew, to its beginning, and give another --epoch \
         (README, \"Loading again\")", next = last + 1
    )]
    Forgotten {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The last offset that the table has.
        last: i64,
    },
    /// The keys of the directives can't be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The file of the sites can't be used.
    #[error(transparent)]
    Sites(#[from] SitesError),
    /// A command about dead letters can't be done.
    #[error(transparent)]
    DeadLetters(#[from] DeadLettersError),
    /// A command about audiences can't be done.
    #[error(transparent)]
    Audiences(#[from] AudienceError),
    /// A command about what views keep can't be done.
    #[error(transparent)]
    Views(#[from] ViewsError),
    /// An audit has nothing to hold the table against.
    #[error(
        "group {group:?} has committed nothing, so that nothing could be missing, but the table has rows; give the --group of \
         the sinks that load them"
    )]
    Unacknowledged {
        /// The group.
        group: String,
    },
    /// An audit found something.
    #[error("the table is not what the topic says: {doubled} offsets are there twice, {missing} are missing")]
    NotClean {
        /// Offsets that are there twice.
        doubled: i64,
        /// Offsets that are nowhere.
        missing: usize,
    },
    /// A part of the sink ended unexpectedly.
    #[error("{0} ended unexpectedly; this is a bug")]
    Ended(&'static str),
}

impl SinkError {
    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Halt { code, .. } => *code,
            Self::Topics(_)
            | Self::Kafka(_)
            | Self::DeadTopic(_)
            | Self::Intents(_)
            | Self::Metadata
            | Self::Unacknowledged { .. }
            | Self::WentBack { .. }
            | Self::Forgotten { .. } => ExitCode::Kafka,
            Self::Migrate(error) => error.exit_code(),
            Self::Audiences(error) => error.exit_code(),
            Self::Views(error) => error.exit_code(),
            Self::NotClean { .. } => ExitCode::NotClean,
            Self::DeadLetters(DeadLettersError::Undelivered { .. }) => ExitCode::Kafka,
            Self::Keys(_)
            | Self::Sites(_)
            | Self::DeadLetters(_)
            | Self::Wire(_)
            | Self::Listen(_)
            | Self::Metrics(_)
            | Self::Ended(_) => ExitCode::Failed,
        }
    }
}

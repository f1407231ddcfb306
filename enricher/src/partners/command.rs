//! `enricher partners import|list|remove`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Message};
use schemas::topics::PARTNERS;
use schemas::{MatchKind, PartnerRecord, Reader, RecordKey, WireError, Writer};
use service::compacted::ReadError;
use service::options::KafkaOptions;
use tokio_util::sync::CancellationToken;

use super::file::{self, Format, LineError};
use super::key;
use super::topic::{self, record_of};
use crate::options::{Filter, ImportOptions, ListOptions, RemoveOptions};
use crate::pipeline::outbox::{Delivery, Outbox, OutboxError, Outgoing};
use crate::pipeline::worker::unix_milliseconds;

/// So many wrong lines are shown; the rest is counted.
const SHOWN_ERRORS: usize = 50;
/// A topic that says nothing for so long is not going to.
const SILENCE: Duration = Duration::from_secs(30);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The file can't be read.
    #[error("cannot read {}: {cause}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        cause: std::io::Error,
    },
    /// The file's name does not tell how it is written.
    #[error("{} ends neither in .csv nor in .jsonl", .0.display())]
    Format(PathBuf),
    /// Lines are wrong.
    #[error("{}{} wrong; nothing was published. Mend the file, or leave them out with --skip-invalid",
        shown(.0), if .0.len() == 1 { "1 line is".to_owned() } else { format!("{} lines are", .0.len()) })]
    Lines(Vec<LineError>),
    /// A filter's value can't be what is looked for.
    #[error("--value: {0}")]
    Value(String),
    /// A filter that names nothing would remove everything.
    #[error("say what to remove: at least one of --kind, --value, --site and --partner")]
    EmptyFilter,
    /// The topic is missing, or the brokers are.
    #[error(transparent)]
    SetUp(#[from] service::kafka::TopicError),
    /// The topic can't be read.
    #[error(transparent)]
    Topic(#[from] ReadError),
    /// The topic says nothing.
    #[error("the brokers did not answer for {0:?}; are they up, and is --kafka-brokers right?")]
    Silent(Duration),
    /// Records can't be read, as where a later version wrote them.
    #[error("{count} of the records can't be read, and are not listed; of the first: {cause}")]
    Unreadable {
        /// How many.
        count: usize,
        /// Why the first of them can't.
        cause: WireError,
    },
    /// The registry, where there is one, does not take the schema.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The brokers do not take the records.
    #[error("{0}; what was published before stays published, and the command may be repeated")]
    Outbox(#[from] OutboxError),
    /// The output can't be written.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

fn shown(errors: &[LineError]) -> String {
    let mut text: String = errors.iter().take(SHOWN_ERRORS).map(|error| format!("{error}\n")).collect();
    if errors.len() > SHOWN_ERRORS {
        text += &format!("... and {} more\n", errors.len() - SHOWN_ERRORS);
    }
    text
}

/// Publishes the records of a file, all or none of them, and says how many.
///
/// # Errors
/// Where a line is wrong, or the records can't be published.
pub async fn import(options: ImportOptions, output: &mut impl Write) -> Result<(), CommandError> {
    let parsed = read_file(&options.file)?;
    if !parsed.errors.is_empty() && !options.skip_invalid {
        return Err(CommandError::Lines(parsed.errors));
    }
    options.kafka.set_up_topics("enricher-partners", &[PARTNERS]).await?;
    let (published, skipped) = (parsed.records.len(), parsed.errors.len());
    let kafka = options.kafka;
    let records = parsed.records;
    blocking(move || publish(&kafka, records.iter().map(|record| (RecordKey::of(record).to_bytes(), Some(record)))))
        .await?;
    write!(output, "{}", shown(&parsed.errors))?;
    writeln!(output, "{published} records published, {skipped} lines skipped")?;
    Ok(())
}

fn read_file(path: &Path) -> Result<file::Parsed, CommandError> {
    let format = Format::of(path).ok_or_else(|| CommandError::Format(path.to_owned()))?;
    let text = std::fs::read_to_string(path).map_err(|cause| CommandError::Read { path: path.to_owned(), cause })?;
    // Spreadsheets begin their files with a byte order mark.
    Ok(file::parse(text.trim_start_matches('\u{feff}'), format, unix_milliseconds()))
}

/// Prints the records that match a filter, one JSON object a line, as `import` reads them.
///
/// # Errors
/// Where the topic can't be read, or records in it can't; the others are printed then.
pub async fn list(options: ListOptions, output: &mut impl Write) -> Result<(), CommandError> {
    let filter = Wanted::of(&options.filter)?;
    let kafka = options.kafka;
    let records = blocking(move || {
        let reader = Reader::new::<PartnerRecord<'_>>(kafka.registry())?;
        read_all(&kafka, &filter, |message| match record_of(&reader, message) {
            Err(error) if error.is_transient() => Err(error.into()),
            record => Ok(record.transpose()),
        })
    })
    .await?;
    let (mut count, mut first) = (0, None);
    for record in records.into_values() {
        match record {
            Ok(record) => writeln!(output, "{}", file::to_json(&record))?,
            Err(cause) => {
                count += 1;
                first.get_or_insert(cause);
            }
        }
    }
    first.map_or(Ok(()), |cause| Err(CommandError::Unreadable { count, cause }))
}

/// Removes the records that match a filter, and says how many.
///
/// # Errors
/// Where the filter is empty, or the topic can't be read or written.
pub async fn remove(options: RemoveOptions, output: &mut impl Write) -> Result<(), CommandError> {
    let Filter { kind, value, site, partner } = &options.filter;
    if kind.is_none() && value.is_none() && site.is_none() && partner.is_none() {
        return Err(CommandError::EmptyFilter);
    }
    let filter = Wanted::of(&options.filter)?;
    let kafka = options.kafka;
    let removed = blocking(move || {
        // What can't be read can still be removed.
        let keys = read_all(&kafka, &filter, |message| Ok(message.payload().map(|_| ())))?;
        let count = keys.len();
        publish(&kafka, keys.into_keys().map(|key| (key, None)))?;
        Ok::<_, CommandError>(count)
    })
    .await?;
    writeln!(output, "{removed} records removed")?;
    Ok(())
}

/// Runs what waits for brokers where waiting hinders nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, CommandError> + Send + 'static,
) -> Result<T, CommandError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(CommandError::Output(std::io::Error::other(error))),
    }
}

fn publish<'a>(
    kafka: &KafkaOptions,
    messages: impl Iterator<Item = (Vec<u8>, Option<&'a PartnerRecord<'static>>)>,
) -> Result<(), CommandError> {
    let topic = kafka.topic(&PARTNERS);
    let writer = Writer::for_topic::<PartnerRecord<'_>>(&topic, kafka.registry().as_ref())?;
    let outbox = Outbox::open(kafka, Delivery::Single, CancellationToken::new())?;
    let mut value = Vec::new();
    for (key, record) in messages {
        value.clear();
        if let Some(record) = record {
            writer.write(record, &mut value);
        }
        let value = record.map(|_| value.as_slice());
        outbox.send(Outgoing { topic: &topic, key: Some(&key), value, ..Outgoing::default() })?;
        outbox.take_reports();
    }
    Ok(outbox.settle()?)
}

/// A filter with its value in the one way in which values are written.
struct Wanted {
    kind: Option<MatchKind>,
    value: Option<String>,
    site: Option<String>,
    partner: Option<String>,
}

impl Wanted {
    fn of(filter: &Filter) -> Result<Self, CommandError> {
        let value = match (filter.kind, &filter.value) {
            (Some(kind), Some(value)) => Some(key::normalise(kind, value).map_err(CommandError::Value)?),
            (None, value) => value.clone(),
            (Some(_), None) => None,
        };
        Ok(Self { kind: filter.kind, value, site: filter.site.clone(), partner: filter.partner.clone() })
    }

    fn takes(&self, key: &RecordKey<'_>) -> bool {
        self.kind.is_none_or(|kind| kind == key.kind)
            && self.value.as_deref().is_none_or(|value| value == key.value)
            && self.site.as_deref().is_none_or(|site| site == key.site)
            && self.partner.as_deref().is_none_or(|partner| partner == key.partner)
    }
}

/// What is in the topic now of the records that match, by key; `value_of` a message is nothing where it removes one.
fn read_all<Value>(
    kafka: &KafkaOptions,
    wanted: &Wanted,
    value_of: impl Fn(&BorrowedMessage<'_>) -> Result<Option<Value>, CommandError>,
) -> Result<BTreeMap<Vec<u8>, Value>, CommandError> {
    let mut topic = topic::open(kafka, None)?;
    let mut records = BTreeMap::new();
    let mut heard = std::time::Instant::now();
    while !topic.has_reached_end() {
        if let Some(message) = topic.next(Duration::from_millis(200))? {
            heard = std::time::Instant::now();
            let key = message.key().unwrap_or_default();
            if RecordKey::read(key).is_some_and(|key| wanted.takes(&key)) {
                match value_of(&message)? {
                    Some(value) => records.insert(key.to_vec(), value),
                    None => records.remove(key),
                };
            }
        }
        if heard.elapsed() > SILENCE {
            return Err(CommandError::Silent(SILENCE));
        }
    }
    Ok(records)
}

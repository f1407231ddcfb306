//! `sink deadletters`: what operators do with the topic `hits.dead`.
//!
//! In the order in which a command goes through it:
//!
//! 1. [`options`]: the command line, and the filter that is made of it.
//! 2. [`archive`]: reads the topic from the start, or from `--since`, to where it ended when the command began.
//! 3. [`catalogue`]: keeps of each letter that the filter lets through what may be listed, never the original, and
//!    what was done about it before.
//! 4. [`table`]: shows that. [`replay`]: reads the originals of the chosen letters, publishes them again to the topics
//!    that they came from. [`marker`]: notes what was done about a letter, in the topic itself.
//!
//! Memory grows with the number of letters that are listed, not with what is in them. Nothing is ever deleted from the
//! topic before its retention does it, no original is printed unless one letter is asked for by its id, and a message
//! never decides which topic it is published to: only `hits.raw` and `hits.enriched` of this installation are.

pub mod archive;
pub mod catalogue;
pub mod marker;
pub mod options;
pub mod replay;
pub mod table;

use std::ops::ControlFlow;

use uuid::Uuid;

use crate::error::SinkError;
use archive::Archive;
use catalogue::{Catalogue, Entry};
use marker::{Deed, Markers};
use options::{Action, ChangeOptions, DeadLettersOptions, Filter, ListOptions, ShowOptions};

/// How many letters are listed unless `--limit` says otherwise.
pub const LISTED: usize = 100;

/// Why a command about dead letters can't be done.
#[derive(Debug, thiserror::Error)]
pub enum DeadLettersError {
    /// No letter has this id.
    #[error("no dead letter {0} is in {1}; `sink deadletters list --closed` shows all that are")]
    NoSuchLetter(Uuid, String),
    /// Neither a filter nor `--all` was given.
    #[error(
        "no filter is given; say which letters by --id, --stage, --reason, --site, --since, --until or --source-topic, or give --all"
    )]
    NoFilter,
    /// A message could not be delivered.
    #[error(
        "{done} letters are done, then a message to {topic} could not be delivered: {cause}; the same command goes on from there"
    )]
    Undelivered {
        /// Letters that were done before.
        done: usize,
        /// Where to.
        topic: String,
        /// What the client says.
        cause: rdkafka::error::KafkaError,
    },
}

/// Does what the command line says. Gives what is to be printed.
///
/// # Errors
/// Where the brokers do not answer or the topic is missing; see also [`DeadLettersError`].
pub async fn run(options: DeadLettersOptions) -> Result<Vec<u8>, SinkError> {
    // Reading blocks, and so may the schema registry.
    let done = tokio::task::spawn_blocking(move || match options.action {
        Action::List(options) => list(&options).map(String::into_bytes),
        Action::Show(options) => show(&options),
        Action::Replay(options) => replay(&options).map(String::into_bytes),
        Action::Drop(options) => drop_letters(&options).map(String::into_bytes),
    });
    done.await.map_err(|_| SinkError::Ended("reading the dead letters"))?
}

fn list(options: &ListOptions) -> Result<String, SinkError> {
    let catalogue = Catalogue::read(&Archive::open(&options.kafka)?, &options.filter)?;
    let shown = options.filter.limit.unwrap_or(LISTED);
    Ok(table::list(&catalogue, shown))
}

fn show(options: &ShowOptions) -> Result<Vec<u8>, SinkError> {
    let archive = Archive::open(&options.kafka)?;
    let filter = Filter { id: vec![options.dead_letter], closed: true, ..Filter::default() };
    let catalogue = Catalogue::read(&archive, &filter)?;
    let missing = || DeadLettersError::NoSuchLetter(options.dead_letter, archive.topic().to_owned());
    let entry = catalogue.entries.last().ok_or_else(missing)?;
    let mut printed = None;
    archive.read_from(&[entry.place], |found| {
        if found.place != entry.place {
            return Ok(ControlFlow::Continue(()));
        }
        printed = Some(if options.original {
            found.letter.original.to_vec()
        } else {
            table::whole(entry, found.letter).into_bytes()
        });
        Ok(ControlFlow::Break(()))
    })?;
    Ok(printed.ok_or_else(missing)?)
}

/// The letters that a command which changes something is about.
fn chosen(archive: &Archive, options: &ChangeOptions) -> Result<Vec<Entry>, SinkError> {
    if options.filter.lets_all_through() && !options.all {
        return Err(DeadLettersError::NoFilter.into());
    }
    let mut entries = Catalogue::read(archive, &options.filter)?.entries;
    entries.truncate(options.filter.limit.unwrap_or(usize::MAX));
    Ok(entries)
}

fn replay(options: &ChangeOptions) -> Result<String, SinkError> {
    let archive = Archive::open(&options.kafka)?;
    let entries = chosen(&archive, options)?;
    Ok(replay::Replay::new(&archive, &options.kafka)?.run(&entries)?.to_string())
}

fn drop_letters(options: &ChangeOptions) -> Result<String, SinkError> {
    let archive = Archive::open(&options.kafka)?;
    let entries = chosen(&archive, options)?;
    let markers = Markers::new(archive.topic(), &options.kafka)?;
    let mut done = 0;
    for some in entries.chunks(replay::AT_ONCE) {
        markers.put(Deed::Dropped, some, done)?;
        done += some.len();
    }
    Ok(format!(
        "{done} dropped: they are no longer listed; {} keeps their bytes until its retention ends\n",
        archive.topic()
    ))
}

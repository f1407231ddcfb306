//! The rights of the people behind the hits, as commands.
//!
//! In the order in which a request goes through it:
//!
//! 1. [`options`]: the command line.
//! 2. [`resolve`]: from what is given to all that names the same person ([`subject`]), across the sites of one customer.
//! 3. [`holdings`]: what is held on a person, table by table, asked of the [`database`].
//! 4. [`request`]: erase, forget, object and rectify: hashes each identifier, and publishes one directive each ([`topic`]);
//!    what [`partners`] know of the person is removed with them, in the same transaction.
//! 5. [`status`]: what became of requests, as the stages report it.
//! 6. [`access`]: everything held on a person, as files.
//! 7. [`sharing`]: permissions, what is given to partners under them, and whom partners have to be told of.
//!
//! It carries out nothing by itself: the stages do, each where it has the data. It keeps no state but the topic, and prints
//! nothing that names a person unless it is asked to.

pub mod access;
pub mod database;
pub mod error;
pub mod holdings;
pub mod options;
pub mod partners;
pub mod request;
pub mod resolve;
pub mod sharing;
pub mod status;
pub mod subject;
pub mod topic;

use std::time::{SystemTime, UNIX_EPOCH};

use error::PrivacyError;
use options::Command;

/// Does what the command line says; gives what is to be printed.
///
/// # Errors
/// What is wrong with the command, or what does not answer.
pub async fn run(command: Command) -> Result<String, PrivacyError> {
    match command {
        Command::Erase(options) => request::exercise(request::Right::Erase, *options).await,
        Command::Forget(options) => request::exercise(request::Right::Forget, *options).await,
        Command::Object(options) => request::exercise(request::Right::Object, *options).await,
        Command::Rectify(options) => request::rectify(*options).await,
        Command::Status(options) => status::run(*options, true).await,
        Command::List(options) => status::run(options.into(), false).await,
        Command::Access(options) => access::run(*options).await,
        Command::Permit(options) => sharing::permit(*options).await,
        Command::Withdraw(options) => sharing::withdraw(*options).await,
        Command::Share(options) => sharing::share(*options).await,
        Command::Notices(options) => sharing::notices(options).await,
    }
}

/// Now, Unix milliseconds.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time as people read it, UTC.
#[must_use]
pub fn readable(milliseconds: i64) -> String {
    jiff::Timestamp::from_millisecond(milliseconds)
        .map_or_else(|_| milliseconds.to_string(), |time| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

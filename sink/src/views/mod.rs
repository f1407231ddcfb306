//! `sink views`: what operators do with the tables that views fill.
//!
//! 1. [`options`]: the command line.
//! 2. [`definition`]: how this version defines a state table, and what fills it. Pure.
//! 3. [`rebuild`](mod@rebuild): makes one anew beside the old, lets it catch up, and exchanges the two.
//! 4. `turn`: keeps two commands from making the same one anew at once.
//! 5. [`filling`]: the statements that write rows into it, none of which may undo an erasure.
//! 6. [`settle`](mod@settle): settles all sessions that there are.
//!
//! Loading goes on meanwhile, and readers see either table whole. A command that ended half-way may be given again.

pub mod definition;
pub mod filling;
pub mod options;
pub mod rebuild;
pub mod settle;
mod turn;

use crate::clickhouse::ClickHouse;
use crate::error::ExitCode;
use crate::fault::Fault;
use options::Action;

/// Why a command about views can't be done.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    /// There is no such table.
    #[error("{0} is no table that is made from hits; there are {all}", all = rebuild::tables().join(", "))]
    Unknown(String),
    /// ClickHouse can't be used, or does not take a statement.
    #[error("{during}: {}; the table in its place is whole, give the command again once that is put right", fault.message())]
    ClickHouse {
        /// What was being done.
        during: &'static str,
        /// What went wrong.
        fault: Fault,
    },
    /// Another command does the same.
    #[error(
        "{table} of database {database} is being made anew by another command, whose statements are named {names}... in \
         system.processes; give this one again once that has ended, or was ended by \
         `KILL QUERY WHERE startsWith(query_id, '{names}')`"
    )]
    Busy {
        /// The table.
        table: String,
        /// Its database.
        database: String,
        /// How the names of the other command's statements begin.
        names: String,
    },
    /// Another command took this one for killed, or somebody changed tables by hand.
    #[error(
        "{during}: {table} is no more the table that this command knows, as another command began to do the same or somebody \
         exchanged or dropped tables; it stops there, give the command again once no other runs"
    )]
    Overtaken {
        /// What was about to be done.
        during: &'static str,
        /// Database and table.
        table: String,
    },
    /// Settling was stopped for an exchange, and could not be started.
    #[error("{0}; the settling of sessions is stopped and could not be started, `sink views settle` starts it")]
    Stopped(Box<Self>),
    /// ClickHouse could not settle.
    #[error("sessions can't be settled: {0}; the views say what they said before")]
    Unsettled(String),
}

impl ViewsError {
    /// The exit code of a process that ends for this.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::ClickHouse { fault: Fault::Halt(code, _), .. } => *code,
            Self::Stopped(cause) => cause.exit_code(),
            _ => ExitCode::Failed,
        }
    }

    fn during(during: &'static str) -> impl Fn(Fault) -> Self {
        move |fault| Self::ClickHouse { during, fault }
    }
}

/// Does what was asked for, and tells it in lines for a person.
///
/// # Errors
/// Where it can't be done.
pub async fn run(action: Action, tell: impl Fn(&str)) -> Result<(), ViewsError> {
    match action {
        Action::Rebuild(options) => {
            let clickhouse = ClickHouse::new(&options.clickhouse);
            rebuild::rebuild(clickhouse, options.cluster, &options.table, tell).await
        }
        Action::Settle(options) => settle::settle(&ClickHouse::new(&options.clickhouse), tell).await,
    }
}

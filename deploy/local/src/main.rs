//! The program behind `make up`, `make down` and `make status`.

#[path = "program/client.rs"]
mod client;
#[path = "program/services.rs"]
mod services;
#[path = "program/settings.rs"]
mod settings;
#[path = "program/state.rs"]
mod state;
#[path = "program/supervisor.rs"]
mod supervisor;
#[path = "program/visit.rs"]
mod visit;

use clap::Parser;
use settings::{Action, CommandLine};
use std::process::ExitCode;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let outcome = match line.action {
        Action::Up => client::up(&line.settings),
        Action::Down => client::down(&line.settings),
        Action::Status => client::status(&line.settings),
        Action::Supervise => {
            tracing_subscriber::fmt().with_ansi(false).init();
            supervisor::supervise(line.settings)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // The message alone: it says what to do, and no backtrace helps with a port in use.
        Err(problem) => {
            eprintln!("hitmeter-local: {problem:#}");
            ExitCode::FAILURE
        }
    }
}

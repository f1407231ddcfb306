//! The enricher's command.

use std::io::Write;

use enricher::options::{Command, EnricherOptions, LogOptions, PartnersCommand, RunOptions, read};
use enricher::partners::command;

fn main() -> anyhow::Result<()> {
    let options = read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(obey(options))
}

async fn obey(options: EnricherOptions) -> anyhow::Result<()> {
    match options.command {
        Command::Run(options) => run(*options).await,
        Command::Partners { command } => partners(*command).await,
    }
}

async fn run(options: RunOptions) -> anyhow::Result<()> {
    service::logs::start(&options.common.log_filter, options.common.log_format)?;
    let shutdown = service::shutdown::on_signal()?;
    service::shutdown::enforce_deadline(shutdown.clone(), options.common.shutdown_deadline);
    Ok(enricher::run(options, shutdown).await?)
}

async fn partners(command: PartnersCommand) -> anyhow::Result<()> {
    let start = |log: &LogOptions| service::logs::start(&log.log_filter, log.log_format);
    let mut output = std::io::stdout();
    match command {
        PartnersCommand::Import(options) => {
            start(&options.log)?;
            command::import(options, &mut output).await?;
        }
        PartnersCommand::List(options) => {
            start(&options.log)?;
            command::list(options, &mut output).await?;
        }
        PartnersCommand::Remove(options) => {
            start(&options.log)?;
            command::remove(options, &mut output).await?;
        }
    }
    Ok(output.flush()?)
}

//! The program `sink`.

use std::io::Write;
use std::process::ExitCode;

use sink::audiences::options::AudiencesOptions;
use sink::audit::AuditOptions;
use sink::clickhouse::ClickHouse;
use sink::deadletters::options::DeadLettersOptions;
use sink::error::SinkError;
use sink::migrate::Migrator;
use sink::options::{Command, MigrateOptions, Options, RunOptions, SERVICE};
use sink::run::{Instruments, run};
use sink::views::options::ViewsOptions;

#[tokio::main]
async fn main() -> ExitCode {
    let result = match SERVICE.parse::<Options>().command {
        Command::Run(options) => run_service(*options).await,
        Command::Migrate(options) => migrate(options).await,
        Command::Audit(options) => audit(*options).await,
        Command::DeadLetters(options) => dead_letters(*options).await,
        Command::Audiences(options) => audiences(*options).await,
        Command::Views(options) => views(*options).await,
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("sink: {error}");
    let code = error.downcast_ref::<SinkError>().map_or(sink::error::ExitCode::Failed, SinkError::exit_code);
    ExitCode::from(code as u8)
}

async fn run_service(options: RunOptions) -> anyhow::Result<()> {
    service::logs::start(&options.common.log_filter, options.common.log_format)?;
    let shutdown = service::shutdown::on_signal()?;
    service::shutdown::enforce_deadline(shutdown.clone(), options.common.shutdown_deadline);
    Ok(run(options, Instruments::new()?, shutdown).await?)
}

async fn migrate(options: MigrateOptions) -> anyhow::Result<()> {
    let migrator = Migrator::new(ClickHouse::new(&options.clickhouse), options.cluster.clone());
    let lines = sink::migrate::report(&migrator, &options).await.map_err(SinkError::from)?;
    lines.iter().for_each(|line| println!("{line}"));
    Ok(())
}

async fn audit(options: AuditOptions) -> anyhow::Result<()> {
    let report = sink::audit::audit(options).await?;
    print!("{report}");
    if report.is_clean() {
        return Ok(());
    }
    Err(SinkError::NotClean { doubled: report.doubled(), missing: report.missing() }.into())
}

async fn dead_letters(options: DeadLettersOptions) -> anyhow::Result<()> {
    let printed = sink::deadletters::run(options).await?;
    Ok(std::io::stdout().write_all(&printed)?)
}

async fn audiences(options: AudiencesOptions) -> anyhow::Result<()> {
    let shutdown = service::shutdown::on_signal()?;
    let print = |text: &str| print!("{text}");
    Ok(sink::audiences::run(options.action, shutdown, print).await?)
}

async fn views(options: ViewsOptions) -> anyhow::Result<()> {
    Ok(sink::views::run(options.action, |text| print!("{text}")).await.map_err(SinkError::from)?)
}

//! The program `privacy`.

use std::io::Write;

use privacy::options::{Options, SERVICE};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = SERVICE.parse::<Options>();
    service::logs::start("warn", service::logs::LogFormat::Text)?;
    let printed = privacy::run(options.command).await?;
    Ok(std::io::stdout().write_all(printed.as_bytes())?)
}

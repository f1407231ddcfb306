//! The collector's process.

use anyhow::Context;
use collector::{Options, SERVICE};
use service::shutdown;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options: Options = SERVICE.parse();
    service::logs::start(&options.common.log_filter, options.common.log_format)?;
    let token = shutdown::on_signal().context("cannot handle signals")?;
    shutdown::enforce_deadline(token.clone(), options.common.shutdown_deadline);
    let running = collector::start(options, token).await?;
    tracing::info!(address = %running.address, metrics = %running.metrics_address, "collecting");
    running.task.await.context("the listener failed")?;
    tracing::info!("everything accepted is stored");
    Ok(())
}

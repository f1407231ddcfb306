//! Connections: accepted within a bound, each with limits on headers and time, ended in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use service::health::Health;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::Connection;
use crate::descriptors;
use crate::routes::Collector;
use crate::{ACCEPTING, StartError};

/// Accepting fails when descriptors run out; so long until some are free again.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);
/// Quarters of the shutdown's time in which connections may end. The rest is for the last hits, whatever clients do.
const QUARTERS_FOR_CONNECTIONS: u32 = 3;
/// Left of the shutdown's time when the last hits are waited for.
const MARGIN: Duration = Duration::from_secs(1);

/// Opens the listener and takes requests until `shutdown`. The task ends when all that was accepted is answered and
/// acknowledged, or the time for that is over.
///
/// # Errors
/// Where the address is not to be had.
pub async fn start(
    collector: Arc<Collector>,
    health: Health,
    shutdown: CancellationToken,
) -> Result<(SocketAddr, JoinHandle<()>), StartError> {
    let address = collector.options.listen;
    let failed = |cause| StartError::Listener { address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    health.met(ACCEPTING);
    let task = tokio::spawn(async move {
        let connections = TaskTracker::new();
        accept(&collector, listener, &connections, &shutdown).await;
        let began = Instant::now();
        health.unmet(ACCEPTING, "shutting down");
        let deadline = collector.options.common.shutdown_deadline;
        end(&connections, deadline.saturating_mul(QUARTERS_FOR_CONNECTIONS) / 4).await;
        drain(collector, deadline.saturating_sub(began.elapsed() + MARGIN)).await;
    });
    Ok((bound, task))
}

async fn accept(
    collector: &Arc<Collector>,
    listener: TcpListener,
    connections: &TaskTracker,
    shutdown: &CancellationToken,
) {
    let room = Arc::new(Semaphore::new(descriptors::connections(collector.options.connections)));
    loop {
        let accepted = shutdown.run_until_cancelled(async {
            // The semaphore is never closed.
            let place = Arc::clone(&room).acquire_owned().await.ok();
            (place, listener.accept().await)
        });
        match accepted.await {
            None => return,
            Some((Some(place), Ok((stream, peer)))) => {
                let connection = Connection { collector: Arc::clone(collector), peer, _place: place };
                connections.spawn(connection.take(stream, shutdown.clone()));
            }
            Some((_, Err(error))) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            Some((None, _)) => return,
        }
    }
}

/// Waits for connections to end. Whose client neither asks to the end nor takes its answer is left.
async fn end(connections: &TaskTracker, patience: Duration) {
    connections.close();
    if tokio::time::timeout(patience, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "clients are left that keep the collector from ending");
    }
}

/// Waits for what is still on its way to the brokers.
async fn drain(collector: Arc<Collector>, deadline: Duration) {
    let publisher = Arc::clone(&collector.publisher);
    match tokio::task::spawn_blocking(move || publisher.flush(deadline)).await {
        Ok(0) => {}
        Ok(bytes) => tracing::error!(bytes, "hits are left that were never acknowledged; their clients know"),
        Err(error) => tracing::error!(%error, "cannot wait for the last hits"),
    }
}

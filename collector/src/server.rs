//! Connections: accepted within a bound, each with limits on headers and time, ended in order.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use proxy_header::ParseConfig;
use proxy_header::io::ProxiedStream;
use service::health::Health;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::Forwarding;
use crate::routes::Collector;
use crate::{ACCEPTING, StartError};

/// Accepting fails when descriptors run out; so long until some are free again.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(50);
/// Left of the shutdown's time when the last hits are waited for.
const MARGIN: Duration = Duration::from_secs(1);

/// Opens the listener and takes requests until `shutdown`. The task ends when all that was accepted is answered and
/// acknowledged.
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
        let connections = GracefulShutdown::new();
        accept(&collector, listener, &connections, &shutdown).await;
        let began = Instant::now();
        health.unmet(ACCEPTING, "shutting down");
        connections.shutdown().await;
        let left = collector.options.common.shutdown_deadline.saturating_sub(began.elapsed() + MARGIN);
        drain(collector, left).await;
    });
    Ok((bound, task))
}

async fn accept(
    collector: &Arc<Collector>,
    listener: TcpListener,
    connections: &GracefulShutdown,
    shutdown: &CancellationToken,
) {
    let room = Arc::new(Semaphore::new(collector.options.connections));
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
                tokio::spawn(connection.take(stream, connections.watcher()));
            }
            Some((_, Err(error))) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
            Some((None, _)) => return,
        }
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

struct Connection {
    collector: Arc<Collector>,
    peer: SocketAddr,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn take(self, stream: TcpStream, watcher: Watcher) {
        // An answer is one small packet, and it is all there is to send.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot send without delay");
        }
        let gauge = self.collector.metrics.connections.clone();
        gauge.inc();
        let options = &self.collector.options;
        let forwarding = Forwarding { trusted: &options.trusted_proxy, header: options.forwarding_header };
        let peer = self.peer.ip().to_canonical();
        if options.proxy_protocol && forwarding.trusts(peer) {
            let header = ProxiedStream::create_from_tokio(stream, ParseConfig::default());
            match tokio::time::timeout(options.body_timeout, header).await {
                Ok(Ok(stream)) => {
                    let told = stream.proxy_header().proxied_address().map(|address| address.source.ip());
                    self.serve(stream, told.unwrap_or(peer), watcher).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "no PROXY header from a trusted proxy"),
                Err(_) => tracing::debug!("no PROXY header from a trusted proxy in time"),
            }
        } else {
            self.serve(stream, peer, watcher).await;
        }
        gauge.dec();
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: IpAddr, watcher: Watcher) {
        let answer =
            service_fn(|request| async move { Ok::<_, Infallible>(self.collector.answer(peer, request).await) });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.collector.options.idle_timeout)
            .max_buf_size(self.collector.options.header_bytes)
            .serve_connection(TokioIo::new(stream), answer);
        // Clients hang up as they like; what became of their hits is counted where they are.
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

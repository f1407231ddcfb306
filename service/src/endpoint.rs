//! `/metrics` (Prometheus text format), `/health` (alive) and `/ready` (all conditions met), on a listener of their own.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// Why the listener can't be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for metrics: {cause}; choose another address with --metrics-listen")]
pub struct ListenError {
    /// Where it should have listened.
    pub address: SocketAddr,
    /// What the operating system says.
    pub cause: std::io::Error,
}

/// What the endpoint answers from.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The metrics of the service.
    pub registry: Registry,
    /// Whether it is ready.
    pub health: Health,
}

impl Endpoint {
    /// Opens the listener and answers in the background until `shutdown`. Returns the address, whose port was chosen
    /// by the operating system where 0 was asked for.
    ///
    /// # Errors
    /// Where the address is not to be had.
    pub async fn serve(self, address: SocketAddr, shutdown: CancellationToken) -> Result<SocketAddr, ListenError> {
        let failed = |cause| ListenError { address, cause };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        tokio::spawn(shutdown.run_until_cancelled_owned(self.accept(listener)));
        Ok(bound)
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let endpoint = self.clone();
                    let answer = service_fn(move |request| {
                        let response = endpoint.answer(&request);
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let mut http = hyper::server::conn::http1::Builder::new();
                    http.timer(TokioTimer::new());
                    tokio::spawn(http.serve_connection(TokioIo::new(stream), answer));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection for metrics");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Answers a request; also for services that show these paths on their main listener.
    pub fn answer<Body>(&self, request: &Request<Body>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        }
        match request.uri().path() {
            "/health" => text(StatusCode::OK, "alive\n".to_owned()),
            "/ready" => self.ready(),
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, "here are /metrics, /health and /ready\n".to_owned()),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let obstacles = self.health.obstacles();
        if obstacles.is_empty() {
            return text(StatusCode::OK, "ready\n".to_owned());
        }
        text(StatusCode::SERVICE_UNAVAILABLE, obstacles.join("\n") + "\n")
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match TextEncoder::new().encode_to_string(&self.registry.gather()) {
            Ok(metrics) => text(StatusCode::OK, metrics),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

//! One connection: hyper's while a request is on its way, and nearly nothing in between.
//!
//! A resting connection's next bytes are read into a buffer that its thread has. Where they are a whole pixel's request,
//! which is most of all, it is answered without hyper ([`pixel_request`]); all else is hyper's from its first byte.
//!
//! hyper keeps two buffers of 8 KiB for each connection, and the room that answering takes, also while nothing is asked.
//! Of many connections nearly all are idle at any moment, so that all of it is given back after each answer: a connection
//! that rests holds its socket and some hundred bytes. hyper has its own way to end: where the next request could begin and
//! none has come yet, [`Lent`] shows it the end of the stream, and takes the socket back.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use proxy_header::io::ProxiedStream;
use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use crate::client::Peer;
use crate::pixel_request;
use crate::routes::{Collector, PixelHit};

/// A connection that was accepted.
pub struct Connection {
    /// Answers its requests.
    pub(crate) collector: Arc<Collector>,
    /// The socket's other end.
    pub(crate) peer: SocketAddr,
    /// Its place among the most that are permitted.
    pub(crate) _place: OwnedSemaphorePermit,
}

type Socket = ProxiedStream<TcpStream>;

thread_local! {
    /// Where a resting connection's next bytes are read to. No connection keeps anything in it.
    static READ: RefCell<Box<[u8; 8192]>> = RefCell::new(Box::new([0; 8192]));
}

/// What came on a connection that was resting.
enum Next {
    /// A pixel's request, all of it.
    Pixel(PixelHit),
    /// Something else, or the beginning of it.
    Other(Bytes),
}

impl Connection {
    /// Answers requests until the client goes or is too slow; after `shutdown` only the one that is on its way.
    pub(crate) async fn take(self, stream: TcpStream, shutdown: CancellationToken) {
        // An answer is one small packet, and it is all there is to send.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot send without delay");
        }
        let gauge = self.collector.metrics.connections.clone();
        gauge.inc();
        let options = &self.collector.options;
        let peer = Peer::from(self.peer.ip());
        if options.proxy_protocol && self.collector.forwarding().trusts(peer.socket) {
            let header = ProxiedStream::create_from_tokio(stream, ParseConfig::default());
            match tokio::time::timeout(options.body_timeout, header).await {
                Ok(Ok(socket)) => {
                    let peer = told(peer, socket.proxy_header());
                    self.serve(socket, peer, &shutdown).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, "no PROXY header from a trusted proxy"),
                Err(_) => tracing::debug!("no PROXY header from a trusted proxy in time"),
            }
        } else {
            self.serve(ProxiedStream::unproxied(stream), peer, &shutdown).await;
        }
        gauge.dec();
    }

    /// Rests, and answers what comes, by turns.
    async fn serve(&self, mut socket: Socket, peer: Peer, shutdown: &CancellationToken) {
        loop {
            let mut unread = match self.next(&mut socket, peer, shutdown).await {
                None => return,
                Some(Next::Pixel(hit)) => {
                    // In a box, as a turn is, so that what answering takes is given back when it is over.
                    if Box::pin(self.answer_pixel(&mut socket, hit, shutdown)).await.is_err() {
                        return;
                    }
                    continue;
                }
                Some(Next::Other(read)) => read,
            };
            while !unread.is_empty() {
                let Some(resting) = Box::pin(self.turn(socket, unread, peer, shutdown)).await else { return };
                (socket, unread) = resting;
            }
        }
    }

    /// What comes next; nothing when nothing came in time, the client is gone, or nothing is taken any more.
    async fn next(&self, socket: &mut Socket, peer: Peer, shutdown: &CancellationToken) -> Option<Next> {
        let read = poll_fn(|context| {
            READ.with_borrow_mut(|bytes| {
                let mut buffer = ReadBuf::new(&mut bytes[..]);
                let read = ready!(Pin::new(&mut *socket).poll_read(context, &mut buffer));
                Poll::Ready(read.is_ok().then(|| self.begin(peer, buffer.filled())).flatten())
            })
        });
        let in_time = tokio::time::timeout(self.collector.options.idle_timeout, read);
        shutdown.run_until_cancelled(in_time).await?.ok()?
    }

    fn begin(&self, peer: Peer, read: &[u8]) -> Option<Next> {
        if read.is_empty() {
            return None;
        }
        let hit = pixel_request::read(read, |request| self.collector.receive_pixel(peer, request));
        Some(hit.map_or_else(|| Next::Other(Bytes::copy_from_slice(read)), Next::Pixel))
    }

    async fn answer_pixel(&self, socket: &mut Socket, hit: PixelHit, shutdown: &CancellationToken) -> io::Result<()> {
        let answer = self.collector.answer_pixel(hit).await;
        let answer = pixel_request::written(&answer, shutdown.is_cancelled());
        let (mut patience, mut sent) = (self.patience(), pin!(socket.write_all(&answer)));
        poll_fn(|context| {
            let polled = sent.as_mut().poll(context);
            patience.bound(context, polled)
        })
        .await
    }

    fn patience(&self) -> Patience {
        Patience { limit: self.collector.options.body_timeout, end: None }
    }

    /// Answers what comes until nothing more does. Returns the socket, and what was read of a further request, unless
    /// the connection is over.
    async fn turn(
        &self,
        socket: Socket,
        unread: Bytes,
        peer: Peer,
        shutdown: &CancellationToken,
    ) -> Option<(Socket, Bytes)> {
        let turn = Turn::default();
        let answer = service_fn(|request: Request<Incoming>| {
            turn.begin(request.body().is_end_stream());
            let request = request.map(|body| Watched { body, turn: &turn });
            let answer = self.collector.answer(peer, request);
            let turn = &turn;
            async move {
                let answer = answer.await;
                turn.answered();
                Ok::<_, Infallible>(answer)
            }
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.collector.options.idle_timeout)
            .max_buf_size(self.collector.options.header_bytes)
            .serve_connection(TokioIo::new(Lent { socket, unread, turn: &turn, patience: self.patience() }), answer);
        let ended = match shutdown.run_until_cancelled(&mut connection).await {
            Some(ended) => ended,
            None => {
                Pin::new(&mut connection).graceful_shutdown();
                (&mut connection).await
            }
        };
        if turn.is(Stage::Resting) {
            let parts = connection.into_parts();
            // Even where nothing is in it, it holds all that hyper had allocated.
            let unread = if parts.read_buf.is_empty() { Bytes::new() } else { parts.read_buf };
            return Some((parts.io.into_inner().socket, unread));
        }
        // Clients hang up as they like; what became of their hits is counted where they are.
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
        None
    }
}

/// A trusted proxy, and what its PROXY header tells of whom it is for.
fn told(peer: Peer, header: &ProxyHeader<'_>) -> Peer {
    let told = header.proxied_address().map(|address| address.source.ip().to_canonical());
    Peer { told, tls: header.ssl().map(|ssl| ssl.client_ssl()), ..peer }
}

/// How far a connection is with the requests of one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// Nothing was read yet.
    Begun,
    /// A request has begun.
    Asked,
    /// A request is being answered, and some of its body was not read yet.
    Reading,
    /// A request is being answered, and all of it was read.
    Answering,
    /// Its answer is there, and is being sent.
    Sending,
    /// Its answer was sent.
    Sent,
    /// Nothing more came: the socket is taken back.
    Resting,
}

/// What the two ends of hyper, the socket below and the service above, tell each other.
#[derive(Debug)]
struct Turn(AtomicU8);

impl Default for Turn {
    fn default() -> Self {
        Self(AtomicU8::new(Stage::Begun as u8))
    }
}

// One task does all of it; the atomic is there since tasks move between threads.
impl Turn {
    fn is(&self, stage: Stage) -> bool {
        self.0.load(Ordering::Relaxed) == stage as u8
    }

    fn step(&self, from: Stage, to: Stage) {
        if self.is(from) {
            self.0.store(to as u8, Ordering::Relaxed);
        }
    }

    fn asked(&self) {
        self.step(Stage::Begun, Stage::Asked);
    }

    fn begin(&self, has_no_body: bool) {
        self.0.store(if has_no_body { Stage::Answering } else { Stage::Reading } as u8, Ordering::Relaxed);
    }

    fn read(&self) {
        self.step(Stage::Reading, Stage::Answering);
    }

    /// After an answer to a request that was not read to its end the connection does not rest: the rest of that request
    /// would be taken for the next one. hyper ends it.
    fn answered(&self) {
        self.step(Stage::Answering, Stage::Sending);
    }

    fn sent(&self) {
        self.step(Stage::Sending, Stage::Sent);
    }

    /// True where the connection may rest now, and then it does.
    fn rests(&self) -> bool {
        self.step(Stage::Sent, Stage::Resting);
        self.is(Stage::Resting)
    }
}

/// A body that tells when all of it was read.
struct Watched<'t> {
    body: Incoming,
    turn: &'t Turn,
}

impl Body for Watched<'_> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None)) {
            self.turn.read();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long it is waited for a client to take what is sent. Where all of it fits at once, as nearly always, no clock is asked.
struct Patience {
    limit: Duration,
    /// Since something did not fit.
    end: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    /// What became of writing; an error when it can't go on for too long.
    fn bound<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            return polled;
        }
        let end = self.end.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limit)));
        end.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// All was taken.
    fn renew(&mut self) {
        self.end = None;
    }
}

/// A socket that hyper has for a turn, after what was read of a request before it.
struct Lent<'t> {
    socket: Socket,
    unread: Bytes,
    turn: &'t Turn,
    patience: Patience,
}

impl AsyncRead for Lent<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unread.has_remaining() {
            let fitting = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread.split_to(fitting));
            self.turn.asked();
            return Poll::Ready(Ok(()));
        }
        let filled = buffer.filled().len();
        match Pin::new(&mut self.socket).poll_read(context, buffer) {
            // Nothing read: for hyper, the end of the stream.
            Poll::Pending if self.turn.rests() => Poll::Ready(Ok(())),
            polled => {
                if buffer.filled().len() > filled {
                    self.turn.asked();
                }
                polled
            }
        }
    }
}

impl AsyncWrite for Lent<'_> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.patience.bound(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.patience.bound(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// hyper flushes once it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.patience.renew();
            self.turn.sent();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.turn.is(Stage::Resting) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

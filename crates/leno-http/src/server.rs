//! The server side of a connection: one call serves it, HTTP/1 or HTTP/2, until it closes or drains.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use leno_net::Stream;

use crate::body::{Body, BodyLength};
use crate::error::Result;
use crate::fields::Fields;
use crate::limits::{Limits, Malformed, Strikes};
use crate::message::{RequestHead, ResponseHead};
use crate::timer::Timer;
use crate::tunnel::Tunnel;
use crate::{buffer, h1, h2};

/// What answers requests. Shared by all connections of a listener; runs on the connection's thread.
pub trait Handler: 'static {
    /// Answers one request. The body need not be read, and `reply` may be dropped, which closes or resets.
    fn handle(&self, head: RequestHead, body: Body, reply: Reply) -> impl Future<Output = ()>;
}

/// How tasks are started: each stream of an HTTP/2 connection is one.
pub trait Spawn {
    /// Runs the future on this thread until it ends.
    fn spawn(&self, task: &'static str, future: Pin<Box<dyn Future<Output = ()>>>);
}

/// [`Spawn`] by `tokio::task::spawn_local`: unnamed and not drained.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpawnLocal;

/// What a listener serves its connections with.
pub struct ServerOptions {
    /// The limits.
    pub limits: Limits,
    /// Where refused messages are counted.
    pub strikes: Arc<Strikes>,
    /// How streams of HTTP/2 are started.
    pub spawn: Rc<dyn Spawn>,
    /// Serve HTTP/1.
    pub http1: bool,
    /// Serve HTTP/2 with prior knowledge.
    pub http2: bool,
    /// HTTP/2: PING after so long, and end the connection when no answer comes for as long again. For connections on
    /// which silence is normal.
    pub keepalive: Option<Duration>,
    /// Told about every refused message before its answer is written; may add to the answer (and log, sparingly).
    pub on_refused: Option<OnRefused>,
}

/// Told about a refused message and the head of its answer.
pub type OnRefused = Rc<dyn Fn(Malformed, &mut ResponseHead)>;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// Closed by the peer between requests, or after `Connection: close`.
    Closed,
    /// Nothing came for the idle time.
    Idle,
    /// Drained.
    Drained,
    /// A request was refused.
    Refused(Malformed),
    /// The connection broke, or was broken off, in the middle of an exchange.
    Broken,
    /// It became a tunnel.
    Tunnel,
}

/// The right to answer one request, once.
pub struct Reply {
    inner: ReplyInner,
}

enum ReplyInner {
    H1(h1::server::H1Reply),
    H2(Box<h2::server::H2Reply>),
}

/// The body of an answer, being written.
///
/// `data` may keep small pieces back to write them in one go with what follows; `flush` and `end` write everything.
/// Dropped before `end`, the message is cut off so that the peer sees that it is incomplete.
pub struct ReplyBody {
    inner: ReplyBodyInner,
}

enum ReplyBodyInner {
    H1(h1::server::H1ReplyBody),
    H2(Box<h2::server::H2ReplyBody>),
}

/// Serves a connection until it closes. `first` is what was read from it already.
///
/// `drain` ends when the connection shall finish: HTTP/1 answers with `Connection: close`, HTTP/2 sends GOAWAY; an idle
/// connection closes at once.
pub async fn serve_connection<H: Handler>(
    stream: Stream,
    first: Bytes,
    options: &Rc<ServerOptions>,
    handler: Rc<H>,
    drain: impl Future<Output = ()>,
) -> Served {
    let mut drain = pin!(drain);
    let mut first = BytesMut::from(first);
    let http2 = match (options.http1, options.http2) {
        (true, true) => match detect(&stream, &mut first, &options.limits, drain.as_mut()).await {
            Ok(http2) => http2,
            Err(served) => return served,
        },
        (_, http2) => http2,
    };
    let options = options.clone();
    if http2 {
        // Boxed, so that an idle HTTP/1 connection is not as large as an HTTP/2 one.
        Box::pin(h2::server::serve(stream, first, options, handler, drain)).await
    } else {
        h1::server::serve(stream, first, options, handler, drain).await
    }
}

/// Reads until it is clear whether the client sends the preface of HTTP/2.
async fn detect(
    stream: &Stream,
    first: &mut BytesMut,
    limits: &Limits,
    mut drain: Pin<&mut impl Future<Output = ()>>,
) -> Result<bool, Served> {
    let mut timer = Timer::default();
    poll_fn(|cx| {
        loop {
            let known = first.len().min(h2::server::PREFACE.len());
            if first[..known] != h2::server::PREFACE[..known] {
                return Poll::Ready(Ok(false));
            }
            if known == h2::server::PREFACE.len() {
                return Poll::Ready(Ok(true));
            }
            if let Poll::Ready(ready) = stream.poll_read_ready(cx) {
                buffer::take_inbound(first);
                match ready.and_then(|()| stream.try_read(first)) {
                    Ok(0) => return Poll::Ready(Err(Served::Closed)),
                    Ok(_) => {
                        timer.done();
                        continue;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        if first.is_empty() {
                            buffer::give_inbound(first);
                        }
                        continue;
                    }
                    Err(_) => return Poll::Ready(Err(Served::Broken)),
                }
            }
            if first.is_empty() && drain.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Served::Drained));
            }
            let wait = if first.is_empty() { limits.idle_timeout } else { limits.head_timeout };
            return timer.poll(cx, wait).map(|()| Err(Served::Idle));
        }
    })
    .await
}

// === impl SpawnLocal, ServerOptions ===

impl Spawn for SpawnLocal {
    fn spawn(&self, _task: &'static str, future: Pin<Box<dyn Future<Output = ()>>>) {
        tokio::task::spawn_local(future);
    }
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            limits: Limits::default(),
            strikes: Arc::default(),
            spawn: Rc::new(SpawnLocal),
            http1: true,
            http2: true,
            keepalive: None,
            on_refused: None,
        }
    }
}

// === impl Reply ===

impl Reply {
    pub(crate) fn h1(reply: h1::server::H1Reply) -> Reply {
        Reply { inner: ReplyInner::H1(reply) }
    }

    pub(crate) fn h2(reply: h2::server::H2Reply) -> Reply {
        Reply { inner: ReplyInner::H2(Box::new(reply)) }
    }

    /// Starts the answer. What `length` says decides the framing; `Content-Length`, `Transfer-Encoding`, `Connection` and
    /// `Keep-Alive` in the fields are written anew (but `Content-Length` stays in answers to HEAD and in 304).
    pub async fn send(self, head: ResponseHead, length: BodyLength) -> Result<ReplyBody> {
        let inner = match self.inner {
            ReplyInner::H1(reply) => ReplyBodyInner::H1(reply.send(&head, length)?),
            ReplyInner::H2(reply) => ReplyBodyInner::H2(Box::new(reply.send(&head, length)?)),
        };
        Ok(ReplyBody { inner })
    }

    /// Sends a 1xx before the answer; 100 is dropped, because reading the body sends it.
    pub async fn informational(&mut self, head: &ResponseHead) -> Result<()> {
        match &mut self.inner {
            ReplyInner::H1(reply) => reply.informational(head).await,
            ReplyInner::H2(reply) => reply.informational(head),
        }
    }

    /// The whole answer.
    pub async fn respond(self, head: ResponseHead, body: Bytes) -> Result<()> {
        let length = if body.is_empty() { BodyLength::Empty } else { BodyLength::Known(body.len() as u64) };
        let mut sink = self.send(head, length).await?;
        if !body.is_empty() {
            sink.data(body).await?;
        }
        sink.end().await
    }

    /// Turns the connection into a tunnel: 101 for `Upgrade` over HTTP/1, 2xx for CONNECT.
    pub async fn upgrade(self, head: ResponseHead) -> Result<Tunnel> {
        match self.inner {
            ReplyInner::H1(reply) => reply.upgrade(&head).await,
            ReplyInner::H2(reply) => reply.upgrade(&head),
        }
    }
}

// === impl ReplyBody ===

impl ReplyBody {
    /// Writes a piece; waits while the peer does not take it.
    pub async fn data(&mut self, data: Bytes) -> Result<()> {
        match &mut self.inner {
            ReplyBodyInner::H1(body) => body.data(data).await,
            ReplyBodyInner::H2(body) => body.data(data).await,
        }
    }

    /// Ends the body with trailers; where the version has none, they are dropped.
    pub async fn trailers(mut self, trailers: Fields) -> Result<()> {
        self.finish(Some(&trailers)).await
    }

    /// Ends the body.
    pub async fn end(mut self) -> Result<()> {
        self.finish(None).await
    }

    async fn finish(&mut self, trailers: Option<&Fields>) -> Result<()> {
        match &mut self.inner {
            ReplyBodyInner::H1(body) => body.end(trailers).await,
            ReplyBodyInner::H2(body) => body.end(trailers).await,
        }
    }

    /// Writes what was kept back.
    pub async fn flush(&mut self) -> Result<()> {
        match &mut self.inner {
            ReplyBodyInner::H1(body) => body.flush().await,
            ReplyBodyInner::H2(body) => body.flush().await,
        }
    }

    /// Cuts the message off: a reset.
    pub fn abort(self) {
        drop(self);
    }
}

//! The server side of a connection: one call serves it, HTTP/1 or HTTP/2, until it closes or drains.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use leno_net::Stream;

use crate::body::{Body, BodyLength};
use crate::error::Result;
use crate::fields::Fields;
use crate::h1::server::{Next, Protocol};
use crate::limits::{Limits, Malformed, Strikes};
use crate::message::{RequestHead, ResponseHead};
use crate::tunnel::Tunnel;
use crate::{h1, h2};

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
    H2(h2::server::H2Reply),
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
    H2(h2::server::H2ReplyBody),
}

/// Serves a connection until it closes. `first` is what was read from it already.
///
/// `drain` ends when the connection shall finish: HTTP/1 answers with `Connection: close`, HTTP/2 sends GOAWAY; an idle
/// connection closes at once.
pub fn serve_connection<H: Handler, D: Future<Output = ()>>(
    stream: Stream,
    first: Bytes,
    options: &Rc<ServerOptions>,
    handler: Rc<H>,
    drain: D,
) -> impl Future<Output = Served> + use<H, D> {
    // Made here, because an argument of an async function has a place in its future for as long as that lives.
    serve(h1::server::Conn::new(stream, first.into(), options.clone()), handler, drain)
}

/// The life of a connection. What is rare is boxed, so that one that waits is small.
async fn serve<H: Handler>(conn: Rc<h1::server::Conn>, handler: Rc<H>, drain: impl Future<Output = ()>) -> Served {
    let mut drain = pin!(drain);
    match poll_fn(|cx| conn.poll_protocol(cx, drain.as_mut())).await {
        Ok(Protocol::Http1) => {}
        Ok(Protocol::Http2) => return Box::pin(h2::server::serve(conn.take(), handler, drain)).await,
        Err(served) => return served,
    }
    loop {
        // From its parser to its handler a request goes within one poll, so that it has no place in this future.
        let next = poll_fn(|cx| {
            let next = conn.poll_next(cx, drain.as_mut());
            next.map(|next| {
                next.map(|request| {
                    let (head, body, reply) = conn.begin(request);
                    Box::pin(handler.handle(head, body, reply))
                })
            })
        });
        let mut exchange = match next.await {
            Next::Request(exchange) => exchange,
            Next::Refused(what) => return Box::pin(conn.refused(what)).await,
            Next::End(served) => return served,
        };
        if let Err(served) = poll_fn(|cx| conn.poll_exchange(exchange.as_mut(), drain.as_mut(), cx)).await {
            return served;
        }
        drop(exchange);
        if !conn.is_ready()
            && let Some(served) = Box::pin(conn.finish()).await
        {
            return served;
        }
    }
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
        Reply { inner: ReplyInner::H2(reply) }
    }

    /// Starts the answer. What `length` says decides the framing; `Content-Length`, `Transfer-Encoding`, `Connection` and
    /// `Keep-Alive` in the fields are written anew (but `Content-Length` stays in answers to HEAD and in 304).
    pub async fn send(self, head: ResponseHead, length: BodyLength) -> Result<ReplyBody> {
        self.begin(&head, length)
    }

    /// As [`Reply::send`], without a future: the head waits in the connection's buffer for what follows it.
    pub fn begin(self, head: &ResponseHead, length: BodyLength) -> Result<ReplyBody> {
        let inner = match self.inner {
            ReplyInner::H1(reply) => ReplyBodyInner::H1(reply.send(head, length)?),
            ReplyInner::H2(reply) => ReplyBodyInner::H2(reply.send(head, length)?),
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

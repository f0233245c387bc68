//! The client side of a connection.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use leno_net::Stream;
use tokio::time::Instant;

use crate::body::{Body, BodyLength};
use crate::error::Result;
use crate::fields::Fields;
use crate::limits::{Limits, Strikes};
use crate::message::{RequestHead, ResponseHead, Version};
use crate::tunnel::Tunnel;
use crate::{h1, h2};

/// What client connections are made with.
#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// The limits.
    pub limits: Limits,
    /// Where refused messages are counted.
    pub strikes: Arc<Strikes>,
    /// HTTP/2: PING after so long, and end the connection when no answer comes for as long again. Not towards servers
    /// that one does not know: many take it for an attack.
    pub keepalive: Option<Duration>,
}

/// A connection to a server.
///
/// An HTTP/1 connection takes one request at a time and belongs to its exchange until both bodies are through; a clone
/// is the same connection. Connections of a [`crate::pool::Pool`] go back there by themselves.
#[derive(Clone)]
pub struct Connection {
    inner: Kind,
}

#[derive(Clone)]
pub(crate) enum Kind {
    H1(Rc<h1::client::Conn>),
    H2(Rc<h2::client::Conn>),
    /// With a turn of its own to open a stream.
    Turn(Rc<h2::client::Turn>),
}

/// The body of a request, being written; the verbs are those of [`crate::server::ReplyBody`].
pub struct RequestBody {
    inner: BodyInner,
}

enum BodyInner {
    H1(h1::client::Outgoing),
    H2(h2::client::H2Outgoing),
}

/// The answer to come. Dropped before it came, the exchange is given up: a reset, or the connection is closed.
pub struct ResponseFuture {
    inner: FutureInner,
}

enum FutureInner {
    H1(h1::client::Awaited),
    H2(Box<h2::client::Awaited>),
}

/// What came.
pub enum Answer {
    /// A 1xx; the final one is still to come.
    Informational(ResponseHead),
    /// The final response.
    Final(Response),
}

/// A response.
#[derive(Debug)]
pub struct Response {
    /// Status and fields.
    pub head: ResponseHead,
    /// The body.
    pub body: Body,
    /// The 1xx that came before (but 100), when they were not asked for one by one.
    pub informationals: Vec<ResponseHead>,
    /// The tunnel: after 101, and after a 2xx to CONNECT.
    pub tunnel: Option<Tunnel>,
}

// === impl Connection ===

impl Connection {
    /// HTTP/1 over this stream.
    pub fn h1(stream: Stream, options: &Rc<ClientOptions>) -> Connection {
        Connection { inner: Kind::H1(h1::client::Conn::new(stream, options.clone())) }
    }

    /// HTTP/2 over this stream, and the future that drives it, to be spawned; it ends with the connection.
    pub async fn h2(
        stream: Stream,
        options: &Rc<ClientOptions>,
    ) -> Result<(Connection, impl Future<Output = ()> + use<>)> {
        let (conn, driver) = h2::client::connect(stream, options).await?;
        Ok((Connection { inner: Kind::H2(conn) }, driver))
    }

    /// Sends a request. The head is written with the first piece of the body, or at once when there is none.
    ///
    /// The framing follows `length`; `Upgrade` is sent as the fields say.
    pub async fn send(&self, head: &RequestHead, length: BodyLength) -> Result<(RequestBody, ResponseFuture)> {
        match &self.inner {
            Kind::H1(conn) => {
                let (body, response) = conn.send(head, length).await?;
                Ok((RequestBody { inner: BodyInner::H1(body) }, ResponseFuture { inner: FutureInner::H1(response) }))
            }
            Kind::H2(conn) => {
                let (body, response) = match conn.send(head, length) {
                    Some(sent) => sent?,
                    // Boxed, so that the future of an exchange is not as large for what hardly ever happens.
                    None => {
                        let later = async { h2::client::Turn::wait(conn.clone()).await?.send(head, length).await };
                        Box::pin(later).await?
                    }
                };
                let inner = FutureInner::H2(Box::new(response));
                Ok((RequestBody { inner: BodyInner::H2(body) }, ResponseFuture { inner }))
            }
            Kind::Turn(turn) => {
                let (body, response) = Box::pin(turn.send(head, length)).await?;
                let inner = FutureInner::H2(Box::new(response));
                Ok((RequestBody { inner: BodyInner::H2(body) }, ResponseFuture { inner }))
            }
        }
    }

    /// Waits for the turn to open a stream where the server allows no more, in order of coming; the connection that comes of
    /// it has that turn, for one request.
    pub async fn in_turn(self) -> Result<Connection> {
        let Kind::H2(conn) = self.inner else { return Ok(self) };
        let turn = h2::client::Turn::wait(conn).await?;
        Ok(Connection { inner: Kind::Turn(Rc::new(turn)) })
    }

    pub(crate) fn of(inner: Kind) -> Connection {
        Connection { inner }
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.inner
    }

    /// The version it speaks.
    pub fn version(&self) -> Version {
        match &self.inner {
            Kind::H1(_) => Version::Http11,
            Kind::H2(_) | Kind::Turn(_) => Version::Http2,
        }
    }

    /// Whether it takes a further request now.
    pub fn is_open(&self) -> bool {
        match &self.inner {
            Kind::H1(conn) => conn.is_usable(),
            Kind::H2(conn) => conn.is_usable(),
            Kind::Turn(turn) => turn.conn.is_usable(),
        }
    }
}

// === impl RequestBody ===

impl RequestBody {
    /// Writes a piece; waits while the peer does not take it.
    pub async fn data(&mut self, data: Bytes) -> Result<()> {
        match &mut self.inner {
            BodyInner::H1(body) => body.data(data).await,
            BodyInner::H2(body) => body.data(data).await,
        }
    }

    /// Ends the body with trailers.
    pub async fn trailers(mut self, trailers: Fields) -> Result<()> {
        self.finish(Some(&trailers)).await
    }

    /// Ends the body.
    pub async fn end(mut self) -> Result<()> {
        self.finish(None).await
    }

    async fn finish(&mut self, trailers: Option<&Fields>) -> Result<()> {
        match &mut self.inner {
            BodyInner::H1(body) => body.end(trailers).await,
            BodyInner::H2(body) => body.end(trailers).await,
        }
    }

    /// Writes what was kept back.
    pub async fn flush(&mut self) -> Result<()> {
        match &mut self.inner {
            BodyInner::H1(body) => body.flush().await,
            BodyInner::H2(body) => body.flush().await,
        }
    }

    /// Gives the request up: a reset.
    pub fn abort(self) {
        drop(self);
    }
}

// === impl ResponseFuture ===

impl ResponseFuture {
    /// Fails with a timeout when the final head has not come by then. Costs no timer of its own on HTTP/1.
    pub fn set_deadline(&mut self, deadline: Instant) {
        match &mut self.inner {
            FutureInner::H1(response) => response.set_deadline(deadline),
            FutureInner::H2(response) => response.set_deadline(deadline),
        }
    }

    /// The next head, informational or final.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer>> {
        match &mut self.inner {
            FutureInner::H1(response) => response.poll_answer(cx),
            FutureInner::H2(response) => response.poll_answer(cx),
        }
    }

    /// The next head, informational or final.
    pub async fn answer(&mut self) -> Result<Answer> {
        std::future::poll_fn(|cx| self.poll_answer(cx)).await
    }

    /// The final response, with the informationals that came before it (but 100).
    pub async fn response(mut self) -> Result<Response> {
        let mut informationals = Vec::new();
        loop {
            match self.answer().await? {
                Answer::Informational(head) if head.status == 100 => {}
                Answer::Informational(head) => informationals.push(head),
                Answer::Final(response) => return Ok(Response { informationals, ..response }),
            }
        }
    }
}

impl IntoFuture for ResponseFuture {
    type Output = Result<Response>;
    type IntoFuture = std::pin::Pin<Box<dyn Future<Output = Result<Response>>>>;

    /// As [`ResponseFuture::response`], boxed.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.response())
    }
}

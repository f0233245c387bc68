//! The client side of a connection.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use leno_net::Stream;
use tokio::time::Instant;

use crate::body::{Body, BodyLength};
use crate::error::Result;
use crate::fields::Fields;
use crate::limits::{Limits, Strikes};
use crate::message::{RequestHead, ResponseHead, Version};
use crate::tunnel::Tunnel;

/// What client connections are made with.
#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// The limits.
    pub limits: Limits,
    /// Where refused messages are counted.
    pub strikes: Arc<Strikes>,
}

/// A connection to a server.
///
/// An HTTP/1 connection takes one request at a time and belongs to its exchange until both bodies are through; a clone
/// is the same connection. Connections of a [`crate::pool::Pool`] go back there by themselves.
#[derive(Clone)]
pub struct Connection {
    inner: Inner,
}

#[derive(Clone)]
enum Inner {}

/// The body of a request, being written; the verbs are those of [`crate::server::ReplyBody`].
pub struct RequestBody {
    inner: BodyInner,
}

enum BodyInner {}

/// The answer to come. Dropped before it came, the exchange is given up: a reset, or the connection is closed.
pub struct ResponseFuture {
    inner: FutureInner,
}

enum FutureInner {}

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
    pub fn h1(stream: Stream, options: &ClientOptions) -> Connection {
        let _ = (stream, options);
        unimplemented!()
    }

    /// HTTP/2 over this stream, and the future that drives it, to be spawned.
    pub async fn h2(stream: Stream, options: &ClientOptions) -> Result<(Connection, impl Future<Output = ()> + use<>)> {
        let _ = (stream, options);
        if true { unimplemented!() }
        Ok((unimplemented!(), async {}))
    }

    /// Sends a request. The head is written with the first piece of the body, or at once when there is none.
    ///
    /// The framing follows `length`; `Upgrade` is sent as the fields say.
    pub async fn send(&self, head: &RequestHead, length: BodyLength) -> Result<(RequestBody, ResponseFuture)> {
        let _ = (head, length);
        match self.inner {}
    }

    /// The version it speaks.
    pub fn version(&self) -> Version {
        match self.inner {}
    }

    /// Whether it takes a further request now.
    pub fn is_open(&self) -> bool {
        match self.inner {}
    }
}

// === impl RequestBody ===

impl RequestBody {
    /// Writes a piece; waits while the peer does not take it.
    pub async fn data(&mut self, data: Bytes) -> Result<()> {
        let _ = data;
        match self.inner {}
    }

    /// Ends the body with trailers.
    pub async fn trailers(self, trailers: Fields) -> Result<()> {
        let _ = trailers;
        match self.inner {}
    }

    /// Ends the body.
    pub async fn end(self) -> Result<()> {
        match self.inner {}
    }

    /// Writes what was kept back.
    pub async fn flush(&mut self) -> Result<()> {
        match self.inner {}
    }

    /// Gives the request up: a reset.
    pub fn abort(self) {
        match self.inner {}
    }
}

// === impl ResponseFuture ===

impl ResponseFuture {
    /// Fails with a timeout when the final head has not come by then. Costs no timer of its own on HTTP/1.
    pub fn set_deadline(&mut self, deadline: Instant) {
        let _ = deadline;
        match self.inner {}
    }

    /// The next head, informational or final.
    pub fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer>> {
        let _ = cx;
        match self.inner {}
    }

    /// The next head, informational or final.
    pub async fn answer(&mut self) -> Result<Answer> {
        std::future::poll_fn(|cx| self.poll_answer(cx)).await
    }

    /// The final response, with the informationals that came before it.
    pub async fn response(mut self) -> Result<Response> {
        let mut informationals = Vec::new();
        loop {
            match self.answer().await? {
                Answer::Informational(head) => informationals.push(head),
                Answer::Final(response) => return Ok(Response { informationals, ..response }),
            }
        }
    }
}

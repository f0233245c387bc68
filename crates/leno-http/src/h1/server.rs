//! The server side of an HTTP/1 connection: one request after another, each answered before the next is looked at.
//!
//! ```text
//! head ─► refuse (answer, linger, close)
//!   └───► handler(head, body, reply) ─► finish: drain what was left of the body ─► next head | close
//! ```
//!
//! One task does it all; body and reply share the connection with it through an `Rc`. While it waits for the next head
//! the connection holds no buffer, and no future of the handler's.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use leno_net::Stream;

use super::decode::Decoder;
use super::encode::{self, Encoder, Persistence};
use super::head::{Expected, Framing, MethodKind, Request};
use super::wire::{Wire, WireError};
use crate::body::{Body, BodyLength, Frame};
use crate::buffer;
use crate::error::{Error, Part, Result, Side};
use crate::fields::Fields;
use crate::h2::server::PREFACE;
use crate::limits::Malformed;
use crate::message::{RequestHead, ResponseHead, Version};
use crate::pace::{self, Pace};
use crate::server::{Reply, Served, ServerOptions};
use crate::tunnel::Tunnel;

/// What task, body and reply share.
pub(crate) struct Conn {
    wire: Wire,
    options: Rc<ServerOptions>,
    draining: Cell<bool>,
    /// Of the exchange that is on.
    reply: Cell<ReplyState>,
    body: Cell<BodyState>,
    /// `100 Continue` is due when the body is first read.
    continue_due: Cell<bool>,
    keep: Cell<bool>,
    method: Cell<MethodKind>,
    version: Cell<Version>,
    /// The fault found in the body.
    malformed: Cell<Option<Malformed>>,
    /// The task, while it waits for body or reply to be dropped.
    released: RefCell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplyState {
    /// Not begun.
    Waiting,
    /// The head was handed over.
    Begun,
    /// All was written.
    Done,
    /// Cut off.
    Broken,
    Tunnel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyState {
    /// Nobody has read to its end.
    Unread,
    Read,
    Broken,
}

/// What a client speaks.
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// The body of a request.
pub(crate) struct Incoming {
    conn: Rc<Conn>,
}

/// The answer, not begun.
pub(crate) struct H1Reply {
    conn: Option<Rc<Conn>>,
}

/// The answer, begun.
pub(crate) struct H1ReplyBody {
    conn: Option<Rc<Conn>>,
}

/// What comes next on a connection.
pub(crate) enum Next<R> {
    Request(R),
    Refused(Malformed),
    End(Served),
}

// === impl Conn ===

impl Conn {
    pub(crate) fn new(stream: Stream, first: BytesMut, options: Rc<ServerOptions>) -> Rc<Conn> {
        Rc::new(Conn {
            wire: Wire::new(stream, first),
            options,
            draining: Cell::new(false),
            reply: Cell::new(ReplyState::Waiting),
            body: Cell::new(BodyState::Read),
            continue_due: Cell::new(false),
            keep: Cell::new(true),
            method: Cell::new(MethodKind::Other),
            version: Cell::new(Version::Http11),
            malformed: Cell::new(None),
            released: RefCell::new(None),
        })
    }

    /// The socket and what was read from it, for another protocol.
    pub(crate) fn take(&self) -> Option<(Stream, Bytes, Rc<ServerOptions>)> {
        self.wire.take().map(|(stream, first)| (stream, first, self.options.clone()))
    }

    /// Reads until it is clear whether the client sends the preface of HTTP/2.
    pub(crate) fn poll_protocol(
        &self,
        cx: &mut Context<'_>,
        drain: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Result<Protocol, Served>> {
        let limits = &self.options.limits;
        match (self.options.http1, self.options.http2) {
            (true, true) => {}
            (_, true) => return Poll::Ready(Ok(Protocol::Http2)),
            (_, false) => return Poll::Ready(Ok(Protocol::Http1)),
        }
        let mut inbound = self.wire.inbound.borrow_mut();
        let inbound = &mut *inbound;
        loop {
            let known = inbound.buffer.len().min(PREFACE.len());
            if inbound.buffer[..known] != PREFACE[..known] {
                return Poll::Ready(Ok(Protocol::Http1));
            }
            if known == PREFACE.len() {
                return Poll::Ready(Ok(Protocol::Http2));
            }
            match self.wire.poll_fill(inbound, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Served::Closed)),
                Poll::Ready(Ok(_)) => inbound.timer.done(),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Served::Broken)),
                Poll::Pending => {
                    let idle = inbound.buffer.is_empty();
                    if idle && drain.poll(cx).is_ready() {
                        return Poll::Ready(Err(Served::Drained));
                    }
                    let wait = if idle { limits.idle_timeout } else { limits.head_timeout };
                    return inbound.timer.poll(cx, wait).map(|()| Err(Served::Idle));
                }
            }
        }
    }

    /// The next request, or why there is none.
    pub(crate) fn poll_next(
        &self,
        cx: &mut Context<'_>,
        drain: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Next<Request>> {
        let limits = &self.options.limits;
        let next = match self.wire.poll_head(cx, Expected::Request, limits, limits.idle_timeout, None) {
            Poll::Ready(Ok(Some(length))) => match self.take_request(length) {
                Ok(request) => Next::Request(request),
                Err(what) => Next::Refused(what),
            },
            Poll::Ready(Ok(None)) => Next::End(Served::Closed),
            Poll::Ready(Err(WireError::Malformed(what))) => Next::Refused(what),
            Poll::Ready(Err(WireError::Timeout)) if self.wire.inbound.borrow().buffer.is_empty() => {
                Next::End(Served::Idle)
            }
            Poll::Ready(Err(WireError::Timeout)) => Next::Refused(Malformed::HeadTimeout),
            Poll::Ready(Err(_)) => Next::End(Served::Broken),
            Poll::Pending => {
                let idle = self.wire.inbound.borrow().buffer.is_empty();
                if idle && (self.draining.get() || drain.poll(cx).is_ready()) {
                    self.draining.set(true);
                    return Poll::Ready(Next::End(Served::Drained));
                }
                return Poll::Pending;
            }
        };
        Poll::Ready(next)
    }

    fn take_request(&self, length: usize) -> Result<Request, Malformed> {
        let mut inbound = self.wire.inbound.borrow_mut();
        let parser = std::mem::take(&mut inbound.parser);
        let request = parser.into_request(&mut inbound.buffer, length)?;
        // Of a body that is here already no byte shall be seen by anybody before its fault is.
        Decoder::check(request.framing, &inbound.buffer, &self.options.limits)?;
        inbound.decoder = Decoder::new(request.framing);
        let here = inbound.buffer.len();
        let awaited = matches!(request.framing, Framing::Length(length) if length > here as u64);
        let paced = awaited && self.options.limits.body_rate_min > 0;
        inbound.pace = paced.then(|| Box::new(Pace::new(here)));
        Ok(request)
    }

    /// Sets the state of a new exchange and makes its parts.
    pub(crate) fn begin(self: &Rc<Self>, request: Request) -> (RequestHead, Body, Reply) {
        let has_body = request.framing != Framing::None;
        self.reply.set(ReplyState::Waiting);
        self.body.set(if has_body { BodyState::Unread } else { BodyState::Read });
        self.continue_due.set(request.expects_continue);
        self.keep.set(request.keep);
        self.version.set(request.head.version);
        self.malformed.set(None);
        self.method.set(MethodKind::of(&request.head.method));
        let body = if has_body { Body::h1_server(Incoming { conn: self.clone() }) } else { Body::empty() };
        (request.head, body, Reply::h1(H1Reply { conn: Some(self.clone()) }))
    }

    /// Runs the handler, watching for the drain signal and for a client that goes away while the answer is made.
    pub(crate) fn poll_exchange(
        &self,
        exchange: Pin<&mut impl Future<Output = ()>>,
        drain: Pin<&mut impl Future<Output = ()>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Served>> {
        if !self.draining.get() && drain.poll(cx).is_ready() {
            self.draining.set(true);
        }
        if exchange.poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if self.body.get() == BodyState::Read
            && self.reply.get() != ReplyState::Tunnel
            && self.wire.inbound.borrow().buffer.is_empty()
            && self.wire.poll_gone(cx) == Poll::Ready(true)
        {
            return Poll::Ready(Err(Served::Broken));
        }
        Poll::Pending
    }

    /// Whether the usual end of an exchange is reached: everything read and written, and another request may come.
    pub(crate) fn is_ready(self: &Rc<Self>) -> bool {
        let ready = Rc::strong_count(self) == 1
            && self.reply.get() == ReplyState::Done
            && self.body.get() == BodyState::Read
            && self.keep.get();
        if ready {
            self.wire.rest();
        }
        ready
    }

    /// After the handler: `None` when the connection is ready for the next request.
    pub(crate) async fn finish(self: &Rc<Self>) -> Option<Served> {
        poll_fn(|cx| self.poll_released(cx)).await;
        match self.reply.get() {
            ReplyState::Done => {}
            ReplyState::Tunnel => return Some(Served::Tunnel),
            ReplyState::Waiting if let Some(what) = self.malformed.get() => {
                self.refuse(what).await;
                return Some(Served::Refused(what));
            }
            ReplyState::Waiting | ReplyState::Begun | ReplyState::Broken => {
                self.wire.close(true);
                return Some(Served::Broken);
            }
        }
        let clean = self.body.get() == BodyState::Read || self.drain_body().await;
        if clean && self.keep.get() {
            self.wire.rest();
            return None;
        }
        let served = match self.malformed.get() {
            Some(what) => Served::Refused(what),
            None if self.draining.get() => Served::Drained,
            None => Served::Closed,
        };
        if !clean || !self.wire.inbound.borrow().buffer.is_empty() {
            self.wire.linger(&self.options.limits).await;
        }
        Some(served)
    }

    /// Waits until body and reply are dropped, should the handler have given them to another task.
    fn poll_released(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        if Rc::strong_count(self) == 1 {
            return Poll::Ready(());
        }
        *self.released.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Reads and throws away a little of what the handler left. False: too much is left, or it is broken.
    async fn drain_body(&self) -> bool {
        if self.body.get() == BodyState::Unread && !self.continue_due.get() && self.keep.get() {
            let limits = &self.options.limits;
            let mut left = limits.drain_bytes;
            let drained = async {
                loop {
                    match poll_fn(|cx| self.wire.poll_frame(cx, limits)).await {
                        Ok(Some(Frame::Data(data))) if data.len() <= left => left -= data.len(),
                        Ok(Some(Frame::Trailers(_)) | None) => return true,
                        Ok(Some(Frame::Data(_))) => return false,
                        Err(error) => {
                            self.note(&error);
                            return false;
                        }
                    }
                }
            };
            if tokio::time::timeout(limits.linger_timeout, Box::pin(drained)).await.unwrap_or(false) {
                self.body.set(BodyState::Read);
            }
        }
        self.body.get() == BodyState::Read
    }

    /// Counts and answers a request of which nothing was given to the handler.
    pub(crate) async fn refused(&self, what: Malformed) -> Served {
        self.options.strikes.count(what);
        self.refuse(what).await;
        Served::Refused(what)
    }

    /// Answers a request that was refused, as the last thing on this connection.
    async fn refuse(&self, what: Malformed) {
        let mut head = ResponseHead::new(what.status()).with("content-type", "text/plain; charset=utf-8");
        if let Some(on_refused) = &self.options.on_refused {
            on_refused(what, &mut head);
        }
        let body = encode::refusal_body(what);
        {
            let mut outbound = self.wire.outbound.borrow_mut();
            let outbound = &mut *outbound;
            buffer::take_outbound(&mut outbound.out);
            let framing = Framing::Length(body.len() as u64);
            encode::response(&mut outbound.out, &head, framing, Version::Http11, Persistence::Close, false);
            outbound.encoder = Encoder::Length(0);
            outbound.out.extend_from_slice(&body);
        }
        if self.wire.flush(&self.options.limits).await.is_ok() {
            self.wire.linger(&self.options.limits).await;
        }
    }

    fn note(&self, error: &WireError) {
        self.body.set(BodyState::Broken);
        self.keep.set(false);
        if let WireError::Malformed(what) = error {
            self.options.strikes.count(*what);
            self.malformed.set(Some(*what));
        }
    }

    /// Writes the head of the answer into the buffer.
    fn begin_reply(&self, head: &ResponseHead, length: BodyLength) {
        let (framing, encoder, keep_length) = self.reply_framing(head, length);
        if framing == Framing::Close {
            self.keep.set(false);
        }
        if self.draining.get() || self.body.get() == BodyState::Broken || !self.is_body_within_reach() {
            self.keep.set(false);
        }
        let persistence = match (self.keep.get(), self.version.get()) {
            (true, Version::Http10) => Persistence::KeepAlive,
            (true, _) => Persistence::Implied,
            (false, _) => Persistence::Close,
        };
        let mut outbound = self.wire.outbound.borrow_mut();
        let outbound = &mut *outbound;
        buffer::take_outbound(&mut outbound.out);
        encode::response(&mut outbound.out, head, framing, Version::Http11, persistence, keep_length);
        outbound.encoder = encoder;
        // What has a length is no stream of events or calls, and needs no look.
        let at_leisure = length == BodyLength::Unknown && pace::is_read_at_leisure(&head.fields);
        let hurried = self.options.limits.response_rate_min > 0 && !at_leisure;
        self.wire.hurried.set(hurried);
        outbound.uptake = None;
        self.reply.set(ReplyState::Begun);
    }

    /// Framing of the answer, what its body is encoded with, and whether the length in the fields stands.
    fn reply_framing(&self, head: &ResponseHead, length: BodyLength) -> (Framing, Encoder, bool) {
        let framing = match length {
            BodyLength::Empty => Framing::None,
            BodyLength::Known(length) => Framing::Length(length),
            BodyLength::Unknown if self.version.get() == Version::Http10 => Framing::Close,
            BodyLength::Unknown => Framing::Chunked,
        };
        match (self.method.get(), head.status) {
            (_, 100..200 | 204) => (Framing::None, Encoder::Dropped, false),
            (MethodKind::Connect, 200..300) => (Framing::None, Encoder::Dropped, true),
            (MethodKind::Head, _) | (_, 304) => {
                let keep = matches!(framing, Framing::None) || head.status == 304;
                (if framing == Framing::Close { Framing::None } else { framing }, Encoder::Dropped, keep)
            }
            _ => (framing, Encoder::new(framing), false),
        }
    }

    /// Whether what is left of the request's body is little enough to be read for the sake of the connection.
    fn is_body_within_reach(&self) -> bool {
        if self.body.get() == BodyState::Read {
            return true;
        }
        let inbound = self.wire.inbound.borrow();
        match inbound.decoder.remaining() {
            Some(0) => true,
            Some(left) => !self.continue_due.get() && left <= self.options.limits.drain_bytes as u64,
            None => !self.continue_due.get() && !inbound.buffer.is_empty(),
        }
    }

    /// Sends 100 if it is due.
    async fn send_continue(&self) -> Result<(), WireError> {
        self.continue_due.set(false);
        if self.reply.get() != ReplyState::Waiting {
            return Ok(());
        }
        {
            let mut outbound = self.wire.outbound.borrow_mut();
            buffer::take_outbound(&mut outbound.out);
            outbound.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        self.wire.flush(&self.options.limits).await
    }

    fn error(&self, error: WireError, part: Part) -> Error {
        if let WireError::Malformed(Malformed::ResponseRate) = error {
            self.options.strikes.count(Malformed::ResponseRate);
        }
        error.at(part, Side::Downstream)
    }

    fn release(conn: Rc<Conn>) {
        let waker = conn.released.borrow_mut().take();
        drop(conn);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

// === impl Next ===

impl<R> Next<R> {
    pub(crate) fn map<T>(self, change: impl FnOnce(R) -> T) -> Next<T> {
        match self {
            Next::Request(request) => Next::Request(change(request)),
            Next::Refused(what) => Next::Refused(what),
            Next::End(served) => Next::End(served),
        }
    }
}

// === impl Incoming ===

impl Incoming {
    pub(crate) fn length(&self) -> BodyLength {
        match self.conn.wire.inbound.borrow().decoder.remaining() {
            Some(0) => BodyLength::Empty,
            Some(length) => BodyLength::Known(length),
            None => BodyLength::Unknown,
        }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let conn = &self.conn;
        match conn.body.get() {
            BodyState::Unread => {}
            BodyState::Read => return Poll::Ready(None),
            BodyState::Broken => {
                return Poll::Ready(Some(Err(conn.error(WireError::Closed, Part::RequestBody))));
            }
        }
        if conn.continue_due.get() {
            // Fits the socket's buffer, which is empty: it never waits.
            let mut sent = std::pin::pin!(conn.send_continue());
            if let Poll::Ready(Err(error)) = sent.as_mut().poll(cx) {
                conn.note(&error);
                return Poll::Ready(Some(Err(conn.error(error, Part::RequestBody))));
            }
        }
        match std::task::ready!(conn.wire.poll_frame(cx, &conn.options.limits)) {
            Ok(Some(frame)) => {
                if matches!(frame, Frame::Trailers(_)) || conn.wire.inbound.borrow().decoder.is_done() {
                    conn.body.set(BodyState::Read);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Ok(None) => {
                conn.body.set(BodyState::Read);
                Poll::Ready(None)
            }
            Err(error) => {
                conn.note(&error);
                Poll::Ready(Some(Err(conn.error(error, Part::RequestBody))))
            }
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        wake_released(&self.conn);
    }
}

/// Called while the last reference but the task's own is about to go.
fn wake_released(conn: &Rc<Conn>) {
    if let Some(waker) = conn.released.borrow_mut().take() {
        waker.wake();
    }
}

// === impl H1Reply ===

impl H1Reply {
    pub(crate) fn send(mut self, head: &ResponseHead, length: BodyLength) -> Result<H1ReplyBody> {
        let conn = self.conn.take().ok_or_else(|| Error::misuse("answered twice"))?;
        conn.begin_reply(head, length);
        Ok(H1ReplyBody { conn: Some(conn) })
    }

    pub(crate) async fn informational(&mut self, head: &ResponseHead) -> Result<()> {
        let Some(conn) = &self.conn else { return Err(Error::misuse("answered already")) };
        if conn.version.get() == Version::Http10 || !head.is_informational() || matches!(head.status, 100 | 101) {
            return Ok(());
        }
        {
            let mut outbound = conn.wire.outbound.borrow_mut();
            buffer::take_outbound(&mut outbound.out);
            encode::response(&mut outbound.out, head, Framing::None, Version::Http11, Persistence::Implied, false);
        }
        conn.wire.flush(&conn.options.limits).await.map_err(|e| conn.error(e, Part::ResponseHead))
    }

    pub(crate) async fn upgrade(mut self, head: &ResponseHead) -> Result<Tunnel> {
        let conn = self.conn.take().ok_or_else(|| Error::misuse("answered twice"))?;
        let connect = conn.method.get() == MethodKind::Connect;
        let fits = if connect { (200..300).contains(&head.status) } else { head.status == 101 };
        if !fits {
            return Err(Error::misuse("a tunnel begins with 101, or with 2xx after CONNECT"));
        }
        if conn.body.get() != BodyState::Read {
            return Err(Error::misuse("a tunnel begins after the request's body"));
        }
        {
            let mut outbound = conn.wire.outbound.borrow_mut();
            let outbound = &mut *outbound;
            buffer::take_outbound(&mut outbound.out);
            encode::response(&mut outbound.out, head, Framing::None, Version::Http11, Persistence::Implied, connect);
        }
        conn.reply.set(ReplyState::Tunnel);
        let flushed = conn.wire.flush(&conn.options.limits).await;
        buffer::give_outbound(&mut conn.wire.outbound.borrow_mut().out);
        let taken = conn.wire.take();
        let (stream, first) = match (flushed, taken) {
            (Ok(()), Some(taken)) => taken,
            (Err(error), _) => return Err(conn.error(error, Part::ResponseHead)),
            (Ok(()), None) => return Err(Error::misuse("the connection is gone")),
        };
        let timeout = conn.options.limits.stream_idle_timeout;
        Conn::release(conn);
        Ok(Tunnel::h1(stream, first, Side::Downstream, timeout))
    }
}

impl Drop for H1Reply {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            Conn::release(conn);
        }
    }
}

// === impl H1ReplyBody ===

impl H1ReplyBody {
    fn conn(&self) -> Result<&Rc<Conn>> {
        self.conn.as_ref().ok_or_else(|| Error::misuse("the answer is over"))
    }

    pub(crate) async fn data(&mut self, data: Bytes) -> Result<()> {
        let conn = self.conn()?;
        conn.wire.write_data(data, &conn.options.limits).await.map_err(|e| conn.error(e, Part::ResponseBody))
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        let conn = self.conn()?;
        conn.wire.flush(&conn.options.limits).await.map_err(|e| conn.error(e, Part::ResponseBody))
    }

    pub(crate) async fn end(&mut self, trailers: Option<&Fields>) -> Result<()> {
        let conn = self.conn()?;
        let written = conn.wire.write_end(trailers, &conn.options.limits).await;
        written.map_err(|e| conn.error(e, Part::ResponseBody))?;
        conn.reply.set(ReplyState::Done);
        if let Some(conn) = self.conn.take() {
            Conn::release(conn);
        }
        Ok(())
    }
}

impl Drop for H1ReplyBody {
    /// Dropped before its end: the answer is cut off.
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            conn.reply.set(ReplyState::Broken);
            Conn::release(conn);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The allocator hands out 448 bytes, and then 512: one more would be 64 more for every open connection.
    #[test]
    fn a_connection_with_its_counts_has_448_bytes_at_most() {
        let size = size_of::<Conn>() + 2 * size_of::<usize>();
        assert!(size <= 448, "{size} bytes");
    }
}

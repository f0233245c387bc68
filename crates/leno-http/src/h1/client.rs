//! The client side of an HTTP/1 connection: one exchange at a time, and back to its pool when both bodies are through.
//!
//! The connection is used again only when the request was written to its end before the response began, the response
//! read to its end, nothing follows it, and neither side said `close`. Whatever else happens closes it.
//!
//! Some programs answer without reading the body and take what is left of it for the next request (CL.0): one caller's
//! body would become another's request. No answer tells, so a body of a method that usually has none (GET, HEAD, …) goes
//! with `Connection: close`, on a connection that is not used again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use leno_net::Stream;
use tokio::time::Instant;

use super::decode::{Decoded, Decoder};
use super::encode::{self, Encoder};
use super::head::{Expected, Framing, MethodKind, Response as Parsed};
use super::wire::{Wire, WireError};
use crate::body::{Body, BodyLength, Frame};
use crate::buffer;
use crate::client::{Answer, ClientOptions, Response};
use crate::error::{Error, ErrorKind, Part, Result, Side};
use crate::fields::{Fields, Known, elements};
use crate::limits::Malformed;
use crate::message::RequestHead;
use crate::tunnel::Tunnel;

/// One connection; shared by the parts of its exchange, or by nobody while it waits in a pool.
pub(crate) struct Conn {
    wire: Wire,
    options: Rc<ClientOptions>,
    state: Cell<State>,
    request: Cell<Half>,
    response: Cell<Half>,
    keep: Cell<bool>,
    /// Exchanges begun.
    used: Cell<u64>,
    /// It was looked at a moment ago, for the next exchange.
    looked_at: Cell<bool>,
    method: Cell<MethodKind>,
    /// The tokens of `Upgrade` that were sent.
    upgrade: RefCell<Option<Box<[u8]>>>,
    keep_timeout: Cell<Option<Duration>>,
    home: RefCell<Option<Home>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Busy,
    Closed,
}

/// Progress of one direction of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Open,
    Done,
}

/// Where a connection goes when it is idle again.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) pool: std::rc::Weak<dyn Return>,
    pub(crate) slot: u64,
}

/// What takes idle connections back.
pub(crate) trait Return {
    fn take_back(&self, slot: u64, conn: Rc<Conn>);
}

/// The request being written.
pub(crate) struct Outgoing {
    conn: Option<Rc<Conn>>,
}

/// The response that is awaited.
pub(crate) struct Awaited {
    conn: Option<Rc<Conn>>,
    deadline: Option<Instant>,
    informationals: usize,
}

/// The body of the response.
pub(crate) struct Incoming {
    conn: Option<Rc<Conn>>,
    ended: bool,
}

// === impl Conn ===

impl Conn {
    pub(crate) fn new(stream: Stream, options: Rc<ClientOptions>) -> Rc<Conn> {
        Rc::new(Conn {
            wire: Wire::new(stream, BytesMut::new()),
            options,
            state: Cell::new(State::Idle),
            request: Cell::new(Half::Done),
            response: Cell::new(Half::Done),
            keep: Cell::new(true),
            used: Cell::new(0),
            looked_at: Cell::new(false),
            method: Cell::new(MethodKind::Other),
            upgrade: RefCell::new(None),
            keep_timeout: Cell::new(None),
            home: RefCell::new(None),
        })
    }

    pub(crate) fn set_home(&self, home: Home) {
        *self.home.borrow_mut() = Some(home);
    }

    /// Whether it waits for a request and its server has not closed it, as far as is known without asking the kernel.
    pub(crate) fn is_usable(&self) -> bool {
        self.state.get() == State::Idle && !self.wire.is_stale()
    }

    /// As [`Conn::is_usable`], by whoever sends a request at once.
    pub(crate) fn is_ready_to_send(&self) -> bool {
        let usable = self.is_usable();
        self.looked_at.set(usable);
        usable
    }

    /// How long the server said it keeps an idle connection.
    pub(crate) fn keep_timeout(&self) -> Option<Duration> {
        self.keep_timeout.get()
    }

    pub(crate) async fn send(self: &Rc<Self>, head: &RequestHead, length: BodyLength) -> Result<(Outgoing, Awaited)> {
        if self.state.get() != State::Idle {
            return Err(Error::new(ErrorKind::Busy, Side::Upstream).unprocessed());
        }
        if !head.is_well_formed() {
            return Err(Error::misuse("the head of the request is not well-formed"));
        }
        if self.used.get() > 0 && !self.looked_at.take() && self.wire.is_stale() {
            self.close(false);
            return Err(Error::new(ErrorKind::Closed(Part::RequestHead), Side::Upstream).stale());
        }
        self.begin(head, length);
        let mut outgoing = Outgoing { conn: Some(self.clone()) };
        let awaited = Awaited { conn: Some(self.clone()), deadline: None, informationals: 0 };
        if length == BodyLength::Empty {
            outgoing.finish(None).await?;
        }
        Ok((outgoing, awaited))
    }

    fn begin(&self, head: &RequestHead, length: BodyLength) {
        let framing = match length {
            BodyLength::Empty | BodyLength::Known(0) => Framing::None,
            BodyLength::Known(length) => Framing::Length(length),
            BodyLength::Unknown => Framing::Chunked,
        };
        self.state.set(State::Busy);
        self.request.set(Half::Open);
        self.response.set(Half::Open);
        let close = framing != Framing::None && !head.method.has_usual_body();
        self.keep.set(!close);
        self.used.set(self.used.get() + 1);
        self.method.set(MethodKind::of(&head.method));
        let upgrade = head.fields.has_known(Known::Upgrade).then(|| head.fields.upgrade_tokens()).flatten();
        self.upgrade.replace(upgrade.map(Vec::into_boxed_slice));
        let mut outbound = self.wire.outbound.borrow_mut();
        let outbound = &mut *outbound;
        buffer::take_outbound(&mut outbound.out);
        encode::request(&mut outbound.out, head, framing, close);
        outbound.encoder = Encoder::new(framing);
    }

    /// Closes it: the exchange failed or was given up.
    fn close(&self, reset: bool) {
        self.state.set(State::Closed);
        self.wire.close(reset);
    }

    fn error(&self, error: WireError, part: Part) -> Error {
        if let WireError::Malformed(what) = error {
            self.options.strikes.count(what);
        }
        error.at(part, Side::Upstream)
    }

    /// The response was read to its end.
    fn finish(self: Rc<Self>) {
        self.response.set(Half::Done);
        let clean = self.keep.get()
            && self.request.get() == Half::Done
            && !self.wire.is_torn()
            && self.wire.inbound.borrow().buffer.is_empty();
        if !clean || self.state.get() != State::Busy {
            return self.close(false);
        }
        self.state.set(State::Idle);
        self.wire.rest();
        let home = self.home.borrow();
        let Some(home) = home.as_ref() else { return };
        // A connection whose pool is gone, or has forgotten it, ends here.
        if let Some(pool) = home.pool.upgrade() {
            pool.take_back(home.slot, self.clone());
        }
    }

    /// The head of the response, taken off the buffer.
    fn take_response(&self, length: usize) -> Result<Parsed, Malformed> {
        let mut inbound = self.wire.inbound.borrow_mut();
        let parser = std::mem::take(&mut inbound.parser);
        let parsed = parser.into_response(&mut inbound.buffer, length, self.method.get())?;
        inbound.decoder = Decoder::new(parsed.framing);
        Ok(parsed)
    }

    /// Whether the server upgraded to something it was asked for.
    fn is_asked_upgrade(&self, fields: &Fields) -> bool {
        let asked = self.upgrade.borrow();
        let Some(asked) = asked.as_deref() else { return false };
        let mut answered = fields.values_known(Known::Upgrade).flat_map(elements).peekable();
        answered.peek().is_some() && answered.all(|a| elements(asked).any(|b| a.eq_ignore_ascii_case(b)))
    }

    fn into_tunnel(self: Rc<Self>) -> Option<Tunnel> {
        self.state.set(State::Closed);
        let (stream, first) = self.wire.take()?;
        Some(Tunnel::h1(stream, first, Side::Upstream, self.options.limits.stream_idle_timeout))
    }
}

// === impl Outgoing ===

impl Outgoing {
    fn conn(&self) -> Result<&Rc<Conn>> {
        self.conn.as_ref().ok_or_else(|| Error::misuse("the request is over"))
    }

    pub(crate) async fn data(&mut self, data: Bytes) -> Result<()> {
        let conn = self.conn()?;
        let written = conn.wire.write_data(data, &conn.options.limits).await;
        written.map_err(|error| self.broken(error))
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        let Some(conn) = &self.conn else { return Ok(()) };
        let written = conn.wire.flush(&conn.options.limits).await;
        written.map_err(|error| self.broken(error))
    }

    /// The server takes no more of the request. What it answered may still be read; the connection is of no further use.
    fn broken(&mut self, error: WireError) -> Error {
        match self.conn.take() {
            Some(conn) => conn.error(error, Part::RequestBody),
            None => Error::misuse("the request is over"),
        }
    }

    pub(crate) async fn end(&mut self, trailers: Option<&Fields>) -> Result<()> {
        // The body of a request without one was ended when it was sent.
        if self.conn.is_none() { Ok(()) } else { self.finish(trailers).await }
    }

    async fn finish(&mut self, trailers: Option<&Fields>) -> Result<()> {
        let conn = self.conn()?;
        let written = conn.wire.write_end(trailers, &conn.options.limits).await;
        if written.is_ok() {
            conn.request.set(Half::Done);
            self.conn = None;
        }
        written.map_err(|error| self.broken(error))
    }
}

impl Drop for Outgoing {
    /// Dropped before its end: the request is cut off, and the exchange with it.
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take()
            && conn.state.get() == State::Busy
        {
            conn.close(true);
        }
    }
}

// === impl Awaited ===

impl Awaited {
    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    pub(crate) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer>> {
        let Some(conn) = &self.conn else { return Poll::Ready(Err(Error::misuse("the response came already"))) };
        let limits = &conn.options.limits;
        let deadline = self.deadline;
        let head =
            match ready!(conn.wire.poll_head(cx, Expected::Response, limits, limits.stream_idle_timeout, deadline)) {
                Ok(Some(length)) => conn.take_response(length).map_err(WireError::from),
                Ok(None) => Err(WireError::Closed),
                Err(error) => Err(error),
            };
        let result = head.and_then(|parsed| self.answer(parsed));
        Poll::Ready(result.map_err(|error| {
            let Some(conn) = self.conn.take() else { return Error::misuse("the response came already") };
            let closed = matches!(error, WireError::Closed | WireError::Io(_));
            let reused = conn.used.get() > 1;
            conn.close(!closed);
            let error = conn.error(error, Part::ResponseHead);
            if closed && !reused { error.on_fresh_connection() } else { error }
        }))
    }

    fn answer(&mut self, parsed: Parsed) -> Result<Answer, WireError> {
        let conn = self.conn.as_ref().ok_or(WireError::Gone)?;
        let Parsed { head, framing, keep, keep_timeout } = parsed;
        if head.status == 101 {
            if !conn.is_asked_upgrade(&head.fields) || conn.request.get() != Half::Done {
                return Err(Malformed::Upgrade.into());
            }
            return self.tunnel(head);
        }
        if head.is_informational() {
            self.informationals += 1;
            if self.informationals > conn.options.limits.informationals {
                return Err(Malformed::Informationals.into());
            }
            return Ok(Answer::Informational(head));
        }
        if conn.method.get() == MethodKind::Connect && (200..300).contains(&head.status) {
            return self.tunnel(head);
        }
        // Who answers before the end of the request may not read the rest of it.
        conn.keep.set(conn.keep.get() && keep && conn.request.get() == Half::Done);
        conn.keep_timeout.set(keep_timeout.map(Duration::from_secs));
        let conn = self.conn.take().ok_or(WireError::Gone)?;
        let body = if framing == Framing::None {
            conn.finish();
            Body::empty()
        } else {
            Body::h1_client(Incoming { conn: Some(conn), ended: false })
        };
        Ok(Answer::Final(Response { head, body, informationals: Vec::new(), tunnel: None }))
    }

    fn tunnel(&mut self, head: crate::message::ResponseHead) -> Result<Answer, WireError> {
        let tunnel = self.conn.take().and_then(Conn::into_tunnel).ok_or(WireError::Gone)?;
        Ok(Answer::Final(Response { head, body: Body::empty(), informationals: Vec::new(), tunnel: Some(tunnel) }))
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            conn.close(true);
        }
    }
}

// === impl Incoming ===

impl Incoming {
    pub(crate) fn length(&self) -> BodyLength {
        let Some(conn) = &self.conn else { return BodyLength::Empty };
        match conn.wire.inbound.borrow().decoder.remaining() {
            Some(0) => BodyLength::Empty,
            Some(length) => BodyLength::Known(length),
            None => BodyLength::Unknown,
        }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        let Some(conn) = &self.conn else {
            return Poll::Ready(if self.ended {
                None
            } else {
                Some(Err(Error::new(ErrorKind::Closed(Part::ResponseBody), Side::Upstream)))
            });
        };
        match ready!(conn.wire.poll_frame(cx, &conn.options.limits)) {
            Ok(Some(frame)) => {
                let last = matches!(frame, Frame::Trailers(_)) || conn.wire.inbound.borrow().decoder.is_done();
                if last {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Ok(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Err(error) => {
                let error = conn.error(error, Part::ResponseBody);
                conn.close(true);
                self.conn = None;
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn finish(&mut self) {
        self.ended = true;
        if let Some(conn) = self.conn.take() {
            conn.finish();
        }
    }
}

impl Drop for Incoming {
    /// Dropped before its end: if the rest is here already the connection is kept, else it is closed.
    fn drop(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        loop {
            let decoded = {
                let mut inbound = conn.wire.inbound.borrow_mut();
                let inbound = &mut *inbound;
                inbound.decoder.decode(&mut inbound.buffer, &conn.options.limits)
            };
            match decoded {
                Ok(Decoded::Frame(Frame::Data(_))) => continue,
                Ok(Decoded::End | Decoded::Frame(Frame::Trailers(_))) => return conn.finish(),
                Ok(Decoded::More) | Err(_) => return conn.close(true),
            }
        }
    }
}

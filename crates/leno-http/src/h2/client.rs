//! The client side of an HTTP/2 connection, shared by as many exchanges as the server allows.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use ::h2::client::{ResponseFuture, SendRequest};
use ::h2::{Reason, RecvStream, SendStream};
use bytes::Bytes;
use leno_net::Stream;
use tokio::time::Instant;

use super::convert;
use super::keepalive::Keepalive;
use super::meter::{Meter, Shared, Verdict};
use super::stream::{Incoming, Outgoing};
use crate::body::{Body, BodyLength};
use crate::client::{Answer, ClientOptions, Response};
use crate::error::{Error, ErrorKind, Part, Result, Side};
use crate::fields::Fields;
use crate::limits::{Limits, Malformed};
use crate::message::{Method, RequestHead};
use crate::timer::{Alarm, Alarms, Pulse};
use crate::tunnel::Tunnel;

/// One connection.
pub(crate) struct Conn {
    sender: RefCell<SendRequest<Bytes>>,
    options: Rc<ClientOptions>,
    open: Rc<Cell<usize>>,
    closed: Cell<bool>,
    alarms: Rc<Alarms>,
    /// Exchanges begun.
    sent: Cell<u64>,
    /// When [`Conn::idle_since`] first found it without streams, and how many exchanges had been begun then.
    idle: Cell<Option<(Instant, u64)>>,
}

/// Counts a stream as long as any part of it lives.
pub(crate) struct Open(Rc<Cell<usize>>);

/// The request being written.
pub(crate) struct H2Outgoing {
    /// Boxed, so that the future of an exchange over HTTP/1 is not as large; absent where there is no body.
    body: Option<Box<Writing>>,
}

struct Writing {
    stream: SendStream<Bytes>,
    outgoing: Outgoing,
    options: Rc<ClientOptions>,
}

/// The response that is awaited.
pub(crate) struct Awaited {
    response: ResponseFuture,
    options: Rc<ClientOptions>,
    open: Option<Open>,
    /// Of CONNECT: what is sent through the tunnel.
    tunnel: Option<SendStream<Bytes>>,
    deadline: Option<Instant>,
    alarm: Alarm,
    alarms: Rc<Alarms>,
    pulse: Pulse,
    informationals: usize,
}

/// Opens the connection; the future drives it and has to be spawned.
pub(crate) async fn connect(
    stream: Stream,
    options: &Rc<ClientOptions>,
) -> Result<(Rc<Conn>, impl Future<Output = ()> + use<>)> {
    let limits = &options.limits;
    let stream: Shared = Rc::new(RefCell::new(stream));
    let (meter, verdict) = Meter::new(stream, Bytes::new(), 0, limits);
    let handshake = builder(limits).handshake(meter);
    let (sender, mut engine) = match tokio::time::timeout(limits.head_timeout, handshake).await {
        Ok(Ok(pair)) => pair,
        Ok(Err(error)) => return Err(super::error(error, Part::Connect, Side::Upstream).unprocessed()),
        Err(_) => return Err(Error::new(ErrorKind::Timeout(Part::Connect), Side::Upstream).unprocessed()),
    };
    let keepalive = Keepalive::new(engine.ping_pong(), options.keepalive);
    let alarms: Rc<Alarms> = Rc::default();
    let conn = Rc::new(Conn {
        sender: RefCell::new(sender),
        options: options.clone(),
        open: Rc::default(),
        closed: Cell::new(false),
        alarms: alarms.clone(),
        sent: Cell::new(0),
        idle: Cell::new(None),
    });
    let driver = drive(engine, keepalive, verdict, alarms, Rc::downgrade(&conn));
    Ok((conn, driver))
}

/// Ends with the connection; it does not keep it open, whose last holder's drop ends it when its streams are done.
async fn drive(
    engine: ::h2::client::Connection<Meter, Bytes>,
    mut keepalive: Option<Keepalive>,
    verdict: Rc<Verdict>,
    alarms: Rc<Alarms>,
    conn: Weak<Conn>,
) {
    let mut engine = Box::pin(engine);
    poll_fn(|cx| match watched(&verdict, &alarms, cx) {
        Some(flood) => {
            if let Some(conn) = conn.upgrade() {
                conn.options.strikes.count(flood);
            }
            Poll::Ready(())
        }
        None if engine.as_mut().poll(cx).is_ready() => Poll::Ready(()),
        None => {
            if let Some(conn) = conn.upgrade() {
                conn.note_end();
            }
            keepalive.as_mut().map_or(Poll::Pending, |keepalive| keepalive.poll(cx))
        }
    })
    .await;
    if let Some(conn) = conn.upgrade() {
        conn.closed.set(true);
    }
}

fn watched(verdict: &Verdict, alarms: &Alarms, cx: &mut Context<'_>) -> Option<Malformed> {
    alarms.poll(cx);
    verdict.poll(cx)
}

fn builder(limits: &Limits) -> ::h2::client::Builder {
    let mut builder = ::h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(limits.h2_stream_window)
        .initial_connection_window_size(limits.h2_connection_window)
        .initial_max_send_streams(limits.h2_streams as usize)
        .max_header_list_size(limits.h2_field_list_bytes)
        .max_local_error_reset_streams(Some(limits.h2_error_resets))
        .max_send_buffer_size(limits.buffer_bytes.max(64 * 1024));
    builder
}

// === impl Conn ===

impl Conn {
    /// Sends the head; `None` when the server has no stream free at the moment ([`Conn::send_later`]).
    pub(crate) fn send(&self, head: &RequestHead, length: BodyLength) -> Option<Result<(H2Outgoing, Awaited)>> {
        let mut sender = self.sender.borrow_mut();
        match sender.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Some(self.send_on(&mut sender, head, length)),
            Poll::Ready(Err(error)) => Some(Err(self.refused(error))),
            Poll::Pending => None,
        }
    }

    /// As [`Conn::send`], and waits in the engine until there is a stream.
    pub(crate) async fn send_later(&self, head: &RequestHead, length: BodyLength) -> Result<(H2Outgoing, Awaited)> {
        // A clone has its own place in the queue.
        let mut sender = self.sender.borrow().clone();
        poll_fn(|cx| sender.poll_ready(cx)).await.map_err(|e| self.refused(e))?;
        self.send_on(&mut sender, head, length)
    }

    fn send_on(
        &self,
        sender: &mut SendRequest<Bytes>,
        head: &RequestHead,
        length: BodyLength,
    ) -> Result<(H2Outgoing, Awaited)> {
        let connect = head.method == Method::Connect;
        let end = !connect && matches!(length, BodyLength::Empty | BodyLength::Known(0));
        let request = convert::to_request(head, length)?;
        let (response, stream) = sender.send_request(request, end).map_err(|e| self.refused(e))?;
        let (stream, tunnel) = if connect { (None, Some(stream)) } else { ((!end).then_some(stream), None) };
        let (options, pulse) = (self.options.clone(), (!end).then(Rc::default));
        self.open.set(self.open.get() + 1);
        self.sent.set(self.sent.get() + 1);
        let awaited = Awaited {
            response,
            options: options.clone(),
            open: Some(Open(self.open.clone())),
            tunnel,
            deadline: None,
            alarm: Alarm::new(&self.alarms),
            alarms: self.alarms.clone(),
            pulse: pulse.clone(),
            informationals: 0,
        };
        let body = stream.map(|stream| {
            Box::new(Writing {
                stream,
                outgoing: Outgoing::new(length, &self.alarms, pulse, Part::RequestBody),
                options,
            })
        });
        Ok((H2Outgoing { body }, awaited))
    }

    fn refused(&self, error: ::h2::Error) -> Error {
        self.closed.set(true);
        super::error(error, Part::RequestHead, Side::Upstream).unprocessed()
    }

    /// Whether it takes requests at all, as far as its driver has seen.
    pub(crate) fn is_usable(&self) -> bool {
        !self.closed.get()
    }

    /// Notes that the server said GOAWAY or the connection broke.
    fn note_end(&self) {
        let ready = self.sender.borrow_mut().poll_ready(&mut Context::from_waker(Waker::noop()));
        if matches!(ready, Poll::Ready(Err(_))) {
            self.closed.set(true);
        }
    }

    /// Whether fewer than this share (in percent) of the streams that the server allows are open.
    pub(crate) fn has_room(&self, percent: u32) -> bool {
        let most = self.sender.borrow().current_max_send_streams().min(u32::MAX as usize) as u64;
        (self.open.get() as u64) * 100 < most * u64::from(percent)
    }

    /// Since when it has had no streams, as often as one asks.
    pub(crate) fn idle_since(&self, now: Instant) -> Option<Instant> {
        let idle = match self.idle.get() {
            _ if self.open.get() > 0 => None,
            Some((since, sent)) if sent == self.sent.get() => Some((since, sent)),
            _ => Some((now, self.sent.get())),
        };
        self.idle.set(idle);
        idle.map(|(since, _)| since)
    }

    pub(crate) fn open_streams(&self) -> usize {
        self.open.get()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

// === impl H2Outgoing ===

impl H2Outgoing {
    pub(crate) async fn data(&mut self, data: Bytes) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let Some(body) = &mut self.body else { return Err(Error::misuse("the request is over")) };
        body.write(false).await?;
        body.outgoing.hold(data).map_err(|kind| Error::new(kind, Side::Us))
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        match &mut self.body {
            Some(body) => body.write(false).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn end(&mut self, trailers: Option<&Fields>) -> Result<()> {
        let Some(body) = &mut self.body else { return Ok(()) };
        if !body.outgoing.is_complete() {
            return Err(Error::new(ErrorKind::LengthMismatch, Side::Us));
        }
        body.write(trailers.is_none()).await?;
        if let (Some(trailers), Some(mut body)) = (trailers, self.body.take()) {
            body.stream
                .send_trailers(convert::to_trailers(trailers))
                .map_err(|e| super::error(e, Part::RequestBody, Side::Upstream))?;
        }
        self.body = None;
        Ok(())
    }
}

impl Drop for H2Outgoing {
    /// Dropped before its end: the request is cut off.
    fn drop(&mut self) {
        if let Some(mut body) = self.body.take() {
            body.stream.send_reset(Reason::CANCEL);
        }
    }
}

impl Writing {
    async fn write(&mut self, end: bool) -> Result<()> {
        let idle = self.options.limits.stream_idle_timeout;
        poll_fn(|cx| self.outgoing.poll_flush(&mut self.stream, cx, idle, end))
            .await
            .map_err(|kind| Error::new(kind, Side::Upstream))
    }
}

// === impl Awaited ===

impl Awaited {
    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    pub(crate) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer>> {
        if let Poll::Ready(Some(informational)) = self.response.poll_informational(cx) {
            return Poll::Ready(self.informational(informational));
        }
        match Pin::new(&mut self.response).poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(self.answer(response)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.broken(error))),
            Poll::Pending => {
                match self.deadline {
                    Some(deadline) => ready!(self.alarm.poll_until(cx, deadline)),
                    None => ready!(self.alarm.poll(cx, self.options.limits.stream_idle_timeout, self.pulse.as_deref())),
                }
                Poll::Ready(Err(Error::new(ErrorKind::Timeout(Part::ResponseHead), Side::Upstream)))
            }
        }
    }

    fn informational(&mut self, head: Result<http::Response<()>, ::h2::Error>) -> Result<Answer> {
        let head = head.map_err(|e| self.broken(e))?;
        self.informationals += 1;
        if self.informationals > self.options.limits.informationals {
            return Err(self.malformed(Malformed::Informationals));
        }
        let head = convert::response_head(head.into_parts().0).map_err(|what| self.malformed(what))?;
        Ok(Answer::Informational(head))
    }

    fn answer(&mut self, response: http::Response<RecvStream>) -> Result<Answer> {
        let (parts, receive) = response.into_parts();
        let head = convert::response_head(parts).map_err(|what| self.malformed(what))?;
        let (open, idle) = (self.open.take(), self.options.limits.stream_idle_timeout);
        let (body, tunnel) = match self.tunnel.take() {
            Some(send) if (200..300).contains(&head.status) => {
                (Body::empty(), Some(Tunnel::h2(send, receive, open, Side::Upstream, idle)))
            }
            _ if receive.is_end_stream() => (Body::empty(), None),
            _ => (
                Body::h2(Incoming::new(
                    receive,
                    &head.fields,
                    Side::Upstream,
                    idle,
                    &self.alarms,
                    self.pulse.clone(),
                    open,
                )),
                None,
            ),
        };
        Ok(Answer::Final(Response { head, body, informationals: Vec::new(), tunnel }))
    }

    fn malformed(&self, what: Malformed) -> Error {
        self.options.strikes.count(what);
        Error::new(what, Side::Upstream)
    }

    fn broken(&self, error: ::h2::Error) -> Error {
        super::error(error, Part::ResponseHead, Side::Upstream)
    }
}

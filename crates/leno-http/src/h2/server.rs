//! The server side of an HTTP/2 connection: one task drives it, and each stream's handler has its own.
//!
//! A stream that the client resets ends its handler at once, so that no work outlives the interest in it; its place among
//! the concurrent streams is free only then (CVE-2025-8671, CVE-2023-44487).

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use ::h2::server::SendResponse;
use ::h2::{Reason, RecvStream, SendStream};
use bytes::{Bytes, BytesMut};
use leno_net::Stream;

use super::convert;
use super::keepalive::Keepalive;
use super::meter::{Meter, Shared, Verdict};
use super::stream::{Incoming, Outgoing};
use crate::body::{Body, BodyLength};
use crate::error::{Error, ErrorKind, Part, Result, Side};
use crate::fields::Fields;
use crate::limits::{Limits, Malformed};
use crate::message::{Method, ResponseHead};
use crate::server::{Handler, Reply, Served, ServerOptions};
use crate::timer::{Pulse, Timer};
use crate::tunnel::Tunnel;

type Engine = ::h2::server::Connection<Meter, Bytes>;

/// What client and server send first: `PRI * HTTP/2.0 …`.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The sending half of a stream, shared by the answer and by the task that watches for a reset.
struct Sending {
    half: RefCell<Half>,
    pulse: Pulse,
    options: Rc<ServerOptions>,
}

enum Half {
    /// No head yet.
    Response(SendResponse<Bytes>),
    Body(SendStream<Bytes>),
    /// Ended, or handed over to a tunnel.
    Done,
}

/// The answer, not begun.
pub(crate) struct H2Reply {
    sending: Option<Rc<Sending>>,
    method: Method,
    /// Of CONNECT: what the client sends.
    tunnel: Option<RecvStream>,
}

/// The answer, begun.
pub(crate) struct H2ReplyBody {
    sending: Option<Rc<Sending>>,
    outgoing: Outgoing,
    /// Data is given for a response that has none (HEAD).
    dropped: bool,
}

/// Serves the connection. `first` is what was read from it already, from the preface on.
pub(crate) async fn serve<H: Handler>(
    stream: Stream,
    first: Bytes,
    options: Rc<ServerOptions>,
    handler: Rc<H>,
    mut drain: Pin<&mut impl Future<Output = ()>>,
) -> Served {
    let stream: Shared = Rc::new(RefCell::new(stream));
    let (meter, verdict) = Meter::new(stream.clone(), first, PREFACE.len(), &options.limits);
    let handshake = builder(&options.limits).handshake(meter);
    let Ok(Ok(mut engine)) = tokio::time::timeout(options.limits.head_timeout, handshake).await else {
        return Served::Broken;
    };
    let mut keepalive = Keepalive::new(engine.ping_pong(), options.keepalive);
    let mut draining = false;
    let mut timer = Timer::default();
    let served = loop {
        let next = poll_fn(|cx| {
            if !draining && drain.as_mut().poll(cx).is_ready() {
                draining = true;
                engine.graceful_shutdown();
            }
            let next = poll_next(&mut engine, &verdict, &mut timer, &options.limits, cx);
            match &mut keepalive {
                Some(keepalive) if next.is_pending() => keepalive.poll(cx).map(|()| Next::Gone),
                _ => next,
            }
        });
        match next.await {
            Next::Stream(request, respond) => begin(request, respond, &options, &handler),
            Next::Idle => {
                draining = true;
                engine.graceful_shutdown();
            }
            Next::Flood(what) => {
                options.strikes.count(what);
                engine.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                let closed = poll_fn(|cx| engine.poll_closed(cx));
                let _ = tokio::time::timeout(options.limits.linger_timeout, closed).await;
                break Served::Refused(what);
            }
            Next::Gone => break Served::Broken,
            Next::Closed(Ok(())) if draining => break Served::Drained,
            Next::Closed(Ok(())) => break Served::Closed,
            Next::Closed(Err(error)) if error.is_library() => {
                options.strikes.count(Malformed::H2Protocol);
                break Served::Refused(Malformed::H2Protocol);
            }
            Next::Closed(Err(_)) => break Served::Broken,
        }
    };
    drop(engine);
    if let Served::Refused(_) = served {
        linger(&stream, &options.limits).await;
    }
    served
}

#[allow(clippy::large_enum_variant)] // The large one is the usual one.
enum Next {
    Stream(http::Request<RecvStream>, SendResponse<Bytes>),
    Idle,
    Flood(Malformed),
    /// The client does not answer any more.
    Gone,
    Closed(Result<(), ::h2::Error>),
}

fn builder(limits: &Limits) -> ::h2::server::Builder {
    let mut builder = ::h2::server::Builder::new();
    builder
        .initial_window_size(limits.h2_stream_window)
        .initial_connection_window_size(limits.h2_connection_window)
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(limits.h2_field_list_bytes)
        .max_pending_accept_reset_streams(limits.h2_pending_resets)
        .max_local_error_reset_streams(Some(limits.h2_error_resets))
        .max_send_buffer_size(limits.buffer_bytes.max(64 * 1024))
        .reset_stream_duration(std::time::Duration::from_secs(1));
    builder
}

fn poll_next(
    engine: &mut Engine,
    verdict: &Verdict,
    timer: &mut Timer,
    limits: &Limits,
    cx: &mut Context<'_>,
) -> Poll<Next> {
    if let Some(flood) = verdict.poll(cx) {
        return Poll::Ready(Next::Flood(flood));
    }
    match engine.poll_accept(cx) {
        Poll::Ready(Some(Ok((request, respond)))) => {
            timer.done();
            Poll::Ready(Next::Stream(request, respond))
        }
        Poll::Ready(Some(Err(error))) => Poll::Ready(Next::Closed(Err(error))),
        Poll::Ready(None) => Poll::Ready(Next::Closed(Ok(()))),
        Poll::Pending if engine.has_streams() => {
            timer.done();
            Poll::Pending
        }
        Poll::Pending => timer.poll(cx, limits.idle_timeout).map(|()| {
            timer.done();
            Next::Idle
        }),
    }
}

/// Starts the task of one stream.
fn begin<H: Handler>(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    options: &Rc<ServerOptions>,
    handler: &Rc<H>,
) {
    let (parts, stream) = request.into_parts();
    let expects_continue = parts.headers.contains_key(http::header::EXPECT) && !stream.is_end_stream();
    // `h2` keeps what `:protocol` said in the extensions; extended CONNECT was not offered.
    let extended = parts.extensions.get::<::h2::ext::Protocol>().is_some();
    let head = match convert::request_head(parts) {
        Ok(head) if !extended => head,
        refused => {
            options.strikes.count(refused.err().unwrap_or(Malformed::H2Protocol));
            return respond.send_reset(Reason::PROTOCOL_ERROR);
        }
    };
    if expects_continue {
        let mut head = http::Response::new(());
        *head.status_mut() = http::StatusCode::CONTINUE;
        let _ = respond.send_informational(head);
    }
    let idle = options.limits.stream_idle_timeout;
    let pulse = Pulse::default();
    let (body, tunnel) = match head.method {
        Method::Connect => (Body::empty(), Some(stream)),
        _ if stream.is_end_stream() => (Body::empty(), None),
        _ => (Body::h2(Incoming::new(stream, &head.fields, Side::Downstream, idle, pulse.clone(), None)), None),
    };
    let half = RefCell::new(Half::Response(respond));
    let sending = Rc::new(Sending { half, pulse, options: options.clone() });
    let reply = Reply::h2(H2Reply { sending: Some(sending.clone()), method: head.method.clone(), tunnel });
    let handler = handler.clone();
    let task = async move {
        let mut exchange = std::pin::pin!(handler.handle(head, body, reply));
        poll_fn(|cx| match exchange.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => sending.poll_reset(cx),
        })
        .await;
    };
    options.spawn.spawn("http2-stream", Box::pin(task));
}

/// Reads and throws away what a refused client still sends, until it closes.
async fn linger(stream: &Shared, limits: &Limits) {
    let _ = stream.borrow().shutdown_write();
    let mut buffer = BytesMut::with_capacity(crate::buffer::SIZE);
    let mut left: usize = 1024 * 1024;
    let drained = poll_fn(|cx| {
        loop {
            buffer.clear();
            match std::task::ready!(stream.borrow().poll_read(cx, &mut buffer)) {
                Ok(read) if read > 0 && read < left => left -= read,
                _ => return Poll::Ready(()),
            }
        }
    });
    let _ = tokio::time::timeout(limits.linger_timeout, drained).await;
}

// === impl Sending ===

impl Sending {
    /// Ready when the client has reset the stream, or the connection is gone.
    fn poll_reset(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.half.borrow_mut() {
            Half::Response(respond) => respond.poll_reset(cx).map(|_| ()),
            Half::Body(stream) => stream.poll_reset(cx).map(|_| ()),
            Half::Done => Poll::Pending,
        }
    }

    fn reset(&self, reason: Reason) {
        match std::mem::replace(&mut *self.half.borrow_mut(), Half::Done) {
            Half::Response(mut respond) => respond.send_reset(reason),
            Half::Body(mut stream) => stream.send_reset(reason),
            Half::Done => {}
        }
    }

    fn error(&self, kind: ErrorKind) -> Error {
        Error::new(kind, Side::Downstream)
    }
}

// === impl H2Reply ===

impl H2Reply {
    pub(crate) fn send(mut self, head: &ResponseHead, length: BodyLength) -> Result<H2ReplyBody> {
        let sending = self.sending.take().ok_or_else(|| Error::misuse("answered twice"))?;
        let bodiless = self.method == Method::Head || matches!(head.status, 204 | 304);
        let keep_length = bodiless && !matches!(length, BodyLength::Known(_)) || head.status == 304;
        let response = convert::to_response(head, length, keep_length);
        let end = bodiless || matches!(length, BodyLength::Empty | BodyLength::Known(0));
        {
            let mut half = sending.half.borrow_mut();
            let Half::Response(respond) = &mut *half else { return Err(Error::misuse("answered twice")) };
            let stream = respond
                .send_response(response, end)
                .map_err(|e| super::error(e, Part::ResponseHead, Side::Downstream))?;
            *half = if end { Half::Done } else { Half::Body(stream) };
        }
        let outgoing = Outgoing::new(length, sending.pulse.clone(), Part::ResponseBody);
        Ok(H2ReplyBody { sending: (!end).then_some(sending), outgoing, dropped: bodiless })
    }

    pub(crate) fn informational(&mut self, head: &ResponseHead) -> Result<()> {
        let Some(sending) = &self.sending else { return Err(Error::misuse("answered already")) };
        if !head.is_informational() || matches!(head.status, 100 | 101) {
            return Ok(());
        }
        match &mut *sending.half.borrow_mut() {
            Half::Response(respond) => respond
                .send_informational(convert::to_response(head, BodyLength::Empty, false))
                .map_err(|e| super::error(e, Part::ResponseHead, Side::Downstream)),
            _ => Err(Error::misuse("answered already")),
        }
    }

    pub(crate) fn upgrade(mut self, head: &ResponseHead) -> Result<Tunnel> {
        let sending = self.sending.take().ok_or_else(|| Error::misuse("answered twice"))?;
        let Some(receive) = self.tunnel.take().filter(|_| (200..300).contains(&head.status)) else {
            sending.reset(Reason::INTERNAL_ERROR);
            return Err(Error::misuse("a tunnel over HTTP/2 begins with 2xx after CONNECT"));
        };
        let response = convert::to_response(head, BodyLength::Unknown, false);
        let Half::Response(mut respond) = std::mem::replace(&mut *sending.half.borrow_mut(), Half::Done) else {
            return Err(Error::misuse("answered twice"));
        };
        let send = respond
            .send_response(response, false)
            .map_err(|e| super::error(e, Part::ResponseHead, Side::Downstream))?;
        Ok(Tunnel::h2(send, receive, None, Side::Downstream, sending.options.limits.stream_idle_timeout))
    }
}

impl Drop for H2Reply {
    fn drop(&mut self) {
        if let Some(sending) = self.sending.take() {
            sending.reset(Reason::INTERNAL_ERROR);
        }
    }
}

// === impl H2ReplyBody ===

impl H2ReplyBody {
    pub(crate) async fn data(&mut self, data: Bytes) -> Result<()> {
        if self.dropped || data.is_empty() {
            return Ok(());
        }
        self.write(false).await?;
        self.outgoing.hold(data).map_err(|kind| Error::new(kind, Side::Us))
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        if self.dropped { Ok(()) } else { self.write(false).await }
    }

    pub(crate) async fn end(&mut self, trailers: Option<&Fields>) -> Result<()> {
        if self.sending.is_none() {
            return if self.dropped || self.outgoing.is_complete() {
                Ok(())
            } else {
                Err(Error::misuse("answer is over"))
            };
        }
        if !self.outgoing.is_complete() {
            return Err(Error::new(ErrorKind::LengthMismatch, Side::Us));
        }
        self.write(trailers.is_none()).await?;
        let Some(sending) = self.sending.take() else { return Ok(()) };
        let half = std::mem::replace(&mut *sending.half.borrow_mut(), Half::Done);
        if let (Some(trailers), Half::Body(mut stream)) = (trailers, half) {
            stream
                .send_trailers(convert::to_trailers(trailers))
                .map_err(|e| super::error(e, Part::ResponseBody, Side::Downstream))?;
        }
        Ok(())
    }

    async fn write(&mut self, end: bool) -> Result<()> {
        let Some(sending) = &self.sending else { return Err(Error::misuse("the answer is over")) };
        let outgoing = &mut self.outgoing;
        let idle = sending.options.limits.stream_idle_timeout;
        poll_fn(|cx| match &mut *sending.half.borrow_mut() {
            Half::Body(stream) => outgoing.poll_flush(stream, cx, idle, end),
            _ => Poll::Ready(Err(ErrorKind::Dropped)),
        })
        .await
        .map_err(|kind| sending.error(kind))
    }
}

impl Drop for H2ReplyBody {
    /// Dropped before its end: a reset.
    fn drop(&mut self) {
        if let Some(sending) = self.sending.take() {
            sending.reset(Reason::INTERNAL_ERROR);
        }
    }
}

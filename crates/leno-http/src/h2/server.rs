//! The server side of an HTTP/2 connection: one task drives it, and each stream's handler has its own.
//!
//! A stream that the client resets ends its handler at once, so that no work outlives the interest in it; its place among
//! the concurrent streams is free only then (CVE-2025-8671, CVE-2023-44487).

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};

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
use crate::timer::{Alarms, Pulse, Timer};
use crate::tunnel::Tunnel;

type Engine = ::h2::server::Connection<Meter, Bytes>;

/// What client and server send first: `PRI * HTTP/2.0 …`.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The sending half of a stream, shared by the answer and by the task that watches for a reset.
struct Sending {
    half: RefCell<Half>,
    outgoing: RefCell<Option<Outgoing>>,
    /// Of CONNECT: what the client sends.
    tunnel: Cell<Option<RecvStream>>,
    is_head: bool,
    pulse: Pulse,
    shared: Rc<Context>,
}

/// What the streams of a connection share.
struct Context {
    options: Rc<ServerOptions>,
    alarms: Rc<Alarms>,
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
}

/// The answer, begun; without a stream when it has no body.
pub(crate) struct H2ReplyBody {
    sending: Option<Rc<Sending>>,
}

/// Serves the connection. `taken` has what was read from it already, from the preface on.
pub(crate) async fn serve<H: Handler>(
    taken: Option<(Stream, Bytes, Rc<ServerOptions>)>,
    handler: Rc<H>,
    mut drain: Pin<&mut impl Future<Output = ()>>,
) -> Served {
    let Some((stream, first, options)) = taken else { return Served::Broken };
    let stream: Shared = Rc::new(RefCell::new(stream));
    let (meter, verdict) = Meter::new(stream.clone(), first, PREFACE.len(), &options.limits);
    let handshake = builder(&options.limits).handshake(meter);
    let Ok(Ok(mut engine)) = tokio::time::timeout(options.limits.head_timeout, handshake).await else {
        return Served::Broken;
    };
    let mut keepalive = Keepalive::new(engine.ping_pong(), options.keepalive);
    let context = Rc::new(Context { options, alarms: Rc::default() });
    let options = &context.options;
    let mut draining = false;
    let mut timer = Timer::default();
    let served = loop {
        let next = poll_fn(|cx| {
            if !draining && drain.as_mut().poll(cx).is_ready() {
                draining = true;
                engine.graceful_shutdown();
            }
            context.alarms.poll(cx);
            let next = poll_next(&mut engine, &verdict, &mut timer, &options.limits, cx);
            match &mut keepalive {
                Some(keepalive) if next.is_pending() => keepalive.poll(cx).map(|()| Next::Gone),
                _ => next,
            }
        });
        match next.await {
            Next::Stream(request, respond) => begin(request, respond, &context, &handler),
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
    cx: &mut task::Context<'_>,
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
    context: &Rc<Context>,
    handler: &Rc<H>,
) {
    let options = &context.options;
    let (parts, stream) = request.into_parts();
    let has_body = !stream.is_end_stream();
    let expects_continue = has_body && parts.headers.contains_key(http::header::EXPECT);
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
    let pulse: Pulse = has_body.then(Rc::default);
    let (body, tunnel) = match head.method {
        Method::Connect => (Body::empty(), Some(stream)),
        _ if !has_body => (Body::empty(), None),
        _ => {
            let idle = options.limits.stream_idle_timeout;
            let side = Side::Downstream;
            let incoming = Incoming::new(stream, &head.fields, side, idle, &context.alarms, pulse.clone(), None);
            (Body::h2(incoming), None)
        }
    };
    let sending = Rc::new(Sending {
        half: RefCell::new(Half::Response(respond)),
        outgoing: RefCell::new(None),
        tunnel: Cell::new(tunnel),
        is_head: head.method == Method::Head,
        pulse,
        shared: context.clone(),
    });
    let reply = Reply::h2(H2Reply { sending: Some(sending.clone()) });
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
    fn poll_reset(&self, cx: &mut task::Context<'_>) -> Poll<()> {
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

    /// Writes what is held, and the end of the stream.
    async fn write(&self, end: bool) -> Result<()> {
        let idle = self.shared.options.limits.stream_idle_timeout;
        poll_fn(|cx| match (&mut *self.half.borrow_mut(), &mut *self.outgoing.borrow_mut()) {
            (Half::Body(stream), Some(outgoing)) => outgoing.poll_flush(stream, cx, idle, end),
            _ => Poll::Ready(Err(ErrorKind::Dropped)),
        })
        .await
        .map_err(|kind| Error::new(kind, Side::Downstream))
    }

    fn hold(&self, data: Bytes) -> Result<()> {
        match &mut *self.outgoing.borrow_mut() {
            Some(outgoing) => outgoing.hold(data).map_err(|kind| Error::new(kind, Side::Us)),
            None => Err(Error::misuse("the answer is over")),
        }
    }
}

// === impl H2Reply ===

impl H2Reply {
    pub(crate) fn send(mut self, head: &ResponseHead, length: BodyLength) -> Result<H2ReplyBody> {
        let sending = self.sending.take().ok_or_else(|| Error::misuse("answered twice"))?;
        let bodiless = sending.is_head || matches!(head.status, 204 | 304);
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
        if end {
            return Ok(H2ReplyBody { sending: None });
        }
        let outgoing = Outgoing::new(length, &sending.shared.alarms, sending.pulse.clone(), Part::ResponseBody);
        *sending.outgoing.borrow_mut() = Some(outgoing);
        Ok(H2ReplyBody { sending: Some(sending) })
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
        let Some(receive) = sending.tunnel.take().filter(|_| (200..300).contains(&head.status)) else {
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
        let idle = sending.shared.options.limits.stream_idle_timeout;
        Ok(Tunnel::h2(send, receive, None, Side::Downstream, idle))
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
        match &self.sending {
            Some(sending) if !data.is_empty() => {
                sending.write(false).await?;
                sending.hold(data)
            }
            // There is none (HEAD), whatever the handler says.
            _ => Ok(()),
        }
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        match &self.sending {
            Some(sending) => sending.write(false).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn end(&mut self, trailers: Option<&Fields>) -> Result<()> {
        let Some(sending) = &self.sending else { return Ok(()) };
        if !sending.outgoing.borrow().as_ref().is_some_and(Outgoing::is_complete) {
            return Err(Error::new(ErrorKind::LengthMismatch, Side::Us));
        }
        sending.write(trailers.is_none()).await?;
        let half = std::mem::replace(&mut *sending.half.borrow_mut(), Half::Done);
        self.sending = None;
        if let (Some(trailers), Half::Body(mut stream)) = (trailers, half) {
            stream
                .send_trailers(convert::to_trailers(trailers))
                .map_err(|e| super::error(e, Part::ResponseBody, Side::Downstream))?;
        }
        Ok(())
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

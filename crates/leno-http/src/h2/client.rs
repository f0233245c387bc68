//! The client side of an HTTP/2 connection, shared by as many exchanges as the server allows.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use leno_net::Stream;
use tokio::time::Instant;

use super::core::Role;
use super::frame::code;
use super::head::{self, Received};
use super::shared::{Driver, Shared, Stop, StreamRef};
use super::stream::{Incoming, Outgoing, Pipe, error};
use super::streams::End;
use crate::body::{Body, BodyLength};
use crate::client::{Answer, ClientOptions, Response};
use crate::error::{Error, ErrorKind, Part, Result, Side};
use crate::fields::Fields;
use crate::limits::Malformed;
use crate::message::{Method, RequestHead};
use crate::timer::{Alarm, Timer};
use crate::tunnel::Tunnel;

/// One connection.
pub(crate) struct Conn {
    shared: Rc<Shared>,
    options: Rc<ClientOptions>,
    /// Exchanges begun.
    sent: Cell<u64>,
    /// When [`Conn::idle_since`] first found it without streams, and how many exchanges had been begun then.
    idle: Cell<Option<(Instant, u64)>>,
}

/// A place among those who wait for a stream, until it is dropped.
pub(crate) struct Turn {
    pub(crate) conn: Rc<Conn>,
    /// None once it was made use of.
    ticket: Cell<Option<u64>>,
}

/// The request being written.
pub(crate) struct H2Outgoing {
    /// Boxed, so that the future of an exchange over HTTP/1 is not as large; absent where there is no body.
    body: Option<Box<Outgoing>>,
}

/// The response that is awaited.
pub(crate) struct Awaited {
    stream: StreamRef,
    options: Rc<ClientOptions>,
    is_connect: bool,
    /// A body is being sent, and its pieces count as life.
    sends: bool,
    deadline: Option<Instant>,
    alarm: Alarm,
    informationals: usize,
}

/// Opens the connection; the future drives it and has to be spawned.
pub(crate) async fn connect(
    stream: Stream,
    options: &Rc<ClientOptions>,
) -> Result<(Rc<Conn>, impl Future<Output = ()> + use<>)> {
    let shared = Shared::new(Role::Client, stream, &options.limits, &options.strikes);
    let driver = Driver::new(shared.clone(), BytesMut::new(), options.keepalive);
    let conn = Conn { shared, options: options.clone(), sent: Cell::new(0), idle: Cell::new(None) };
    Ok((Rc::new(conn), drive(driver, options.clone())))
}

/// Ends with the connection; it does not keep it open, whose last holder's drop ends it when its streams are done.
async fn drive(mut driver: Driver, options: Rc<ClientOptions>) {
    let wait = options.limits.linger_timeout;
    let mut leaving = Timer::default();
    let stop = poll_fn(|cx| poll_drive(&mut driver, &mut leaving, wait, cx)).await;
    let Some(stop) = stop else { return };
    driver.finish(stop);
    if let Stop::Fatal(fatal) = stop {
        options.strikes.count(fatal.what);
        driver.flush(wait).await;
    }
}

/// One turn: read, write. Ready with the reason, or with none when everything is done.
fn poll_drive(driver: &mut Driver, leaving: &mut Timer, wait: Duration, cx: &mut Context<'_>) -> Poll<Option<Stop>> {
    driver.begin(cx);
    if let Poll::Ready(stop) = driver.poll_read(cx, |_| {}) {
        return Poll::Ready(Some(stop));
    }
    if let Poll::Ready(stop) = driver.poll_keepalive(cx) {
        return Poll::Ready(Some(stop));
    }
    let done = driver.shared.with(|core| {
        let done = core.is_done();
        if done {
            core.leave_now();
        }
        done
    });
    if let Poll::Ready(Err(error)) = driver.poll_write(cx) {
        return Poll::Ready(Some(Stop::Io(error.kind())));
    }
    let written = driver.shared.with(|core| core.output.is_empty());
    // A server that reads nothing does not keep us from going.
    if done && (written || leaving.poll(cx, wait).is_ready()) { Poll::Ready(None) } else { Poll::Pending }
}

// === impl Conn ===

impl Conn {
    /// Sends the head; `None` when the server has no stream free at the moment ([`Turn::wait`]).
    pub(crate) fn send(&self, head: &RequestHead, length: BodyLength) -> Option<Result<(H2Outgoing, Awaited)>> {
        match self.shared.with(|core| core.can_open_at_once()) {
            Ok(true) => Some(self.open(head, length)),
            Ok(false) => None,
            Err(end) => Some(Err(refused(end))),
        }
    }

    fn open(&self, head: &RequestHead, length: BodyLength) -> Result<(H2Outgoing, Awaited)> {
        head::check_request(head)?;
        let is_connect = head.method == Method::Connect;
        let end = !is_connect && matches!(length, BodyLength::Empty | BodyLength::Known(0));
        let key = self.shared.with(|core| core.open(head, length, end));
        let stream = self.shared.hold(key);
        self.sent.set(self.sent.get() + 1);
        let sends = !end && !is_connect;
        let body = sends.then(|| Box::new(Outgoing::new(stream.clone(), length, Side::Upstream)));
        let awaited = Awaited {
            alarm: Alarm::new(stream.alarms()),
            stream,
            options: self.options.clone(),
            is_connect,
            sends,
            deadline: None,
            informationals: 0,
        };
        Ok((H2Outgoing { body }, awaited))
    }

    /// Whether it takes requests at all, as far as its driver has seen.
    pub(crate) fn is_usable(&self) -> bool {
        self.shared.with(|core| core.can_open().is_ok())
    }

    /// Whether it takes a request now, and nobody waits for that.
    pub(crate) fn is_free(&self) -> bool {
        self.shared.with(|core| core.can_open_at_once()).is_ok_and(|can| can)
    }

    /// Whether fewer than this share (in percent) of the streams that the server allows are open.
    pub(crate) fn has_room(&self, percent: u32) -> bool {
        let (open, most) = self.shared.with(|core| (core.streams.open, core.peer.streams));
        u64::from(open) * 100 < u64::from(most) * u64::from(percent)
    }

    /// Since when it has had no streams, as often as one asks.
    pub(crate) fn idle_since(&self, now: Instant) -> Option<Instant> {
        let idle = match self.idle.get() {
            _ if self.open_streams() > 0 => None,
            Some((since, sent)) if sent == self.sent.get() => Some((since, sent)),
            _ => Some((now, self.sent.get())),
        };
        self.idle.set(idle);
        idle.map(|(since, _)| since)
    }

    pub(crate) fn open_streams(&self) -> usize {
        self.shared.with(|core| core.streams.len())
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.shared.with(|core| {
            core.abandoned = true;
            core.kick();
        });
    }
}

// === impl Turn ===

impl Turn {
    /// Waits until there is a stream.
    pub(crate) async fn wait(conn: Rc<Conn>) -> Result<Turn> {
        let turn = Turn { conn, ticket: Cell::new(None) };
        turn.come().await?;
        Ok(turn)
    }

    /// As [`Conn::send`]; once it was made use of, it waits for another one first.
    pub(crate) async fn send(&self, head: &RequestHead, length: BodyLength) -> Result<(H2Outgoing, Awaited)> {
        self.come().await?;
        let sent = self.conn.open(head, length);
        self.give_back();
        sent
    }

    async fn come(&self) -> Result<()> {
        let shared = &self.conn.shared;
        let ticket = self.ticket.get().unwrap_or_else(|| shared.with(|core| core.wait()));
        self.ticket.set(Some(ticket));
        poll_fn(|cx| shared.with(|core| core.poll_turn(ticket, cx))).await.map_err(refused)
    }

    fn give_back(&self) {
        if let Some(ticket) = self.ticket.take() {
            self.conn.shared.with(|core| core.stop_waiting(ticket));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Nothing of the request was sent.
fn refused(end: End) -> Error {
    error(end, Part::RequestHead, Side::Upstream).unprocessed()
}

// === impl H2Outgoing ===

impl H2Outgoing {
    pub(crate) async fn data(&mut self, data: Bytes) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let Some(body) = &mut self.body else { return Err(Error::misuse("the request is over")) };
        body.write(false).await?;
        body.hold(data)
    }

    pub(crate) async fn flush(&mut self) -> Result<()> {
        match &mut self.body {
            Some(body) => body.write(false).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn end(&mut self, trailers: Option<&Fields>) -> Result<()> {
        let Some(body) = &mut self.body else { return Ok(()) };
        body.end(trailers).await?;
        self.body = None;
        Ok(())
    }
}

impl Drop for H2Outgoing {
    /// Dropped before its end: the request is cut off.
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            body.reset(code::CANCEL);
        }
    }
}

// === impl Awaited ===

impl Awaited {
    pub(crate) fn set_deadline(&mut self, deadline: Instant) {
        self.deadline = Some(deadline);
    }

    pub(crate) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer>> {
        match self.stream.with(|core, key| core.poll_head(key, cx)) {
            Poll::Ready(Ok(received)) => Poll::Ready(self.answer(*received)),
            Poll::Ready(Err(end)) => Poll::Ready(Err(error(end, Part::ResponseHead, Side::Upstream))),
            Poll::Pending => {
                match self.deadline {
                    Some(deadline) => ready!(self.alarm.poll_until(cx, deadline)),
                    None => {
                        let beats = self.sends.then(|| Cell::new(self.stream.beats()));
                        ready!(self.alarm.poll(cx, self.options.limits.stream_idle_timeout, beats.as_ref()));
                    }
                }
                Poll::Ready(Err(Error::new(ErrorKind::Timeout(Part::ResponseHead), Side::Upstream)))
            }
        }
    }

    fn answer(&mut self, received: Received) -> Result<Answer> {
        let Received { head, length } = received;
        if head.is_informational() {
            self.informationals += 1;
            if self.informationals > self.options.limits.informationals {
                self.options.strikes.count(Malformed::Informationals);
                return Err(Error::new(Malformed::Informationals, Side::Upstream));
            }
            return Ok(Answer::Informational(head));
        }
        let idle = self.options.limits.stream_idle_timeout;
        let tunnel = (self.is_connect && (200..300).contains(&head.status))
            .then(|| Tunnel::h2(Pipe::new(self.stream.clone(), Side::Upstream), Side::Upstream, idle));
        let body = match tunnel {
            Some(_) => Body::empty(),
            None => Incoming::response(self.stream.clone(), length),
        };
        Ok(Answer::Final(Response { head, body, informationals: Vec::new(), tunnel }))
    }
}

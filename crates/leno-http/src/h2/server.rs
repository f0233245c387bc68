//! The server side of an HTTP/2 connection: one task drives it, and each stream's handler has its own.
//!
//! A stream that the client resets ends its handler at once, so that no work outlives the interest in it; its place among
//! the streams is free only then (CVE-2025-8671, CVE-2023-44487).

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use leno_net::{Stream, queue};
use tokio::time::Instant;

use super::core::{Core, Leaving, Role};
use super::frame::code;
use super::head::Request;
use super::receive::Accepted;
use super::shared::{Driver, Shared, Stop, StreamRef};
use super::stream::{Incoming, Outgoing, Pipe, error};
use super::streams::{End, register};
use crate::body::{Body, BodyLength};
use crate::error::{Error, Part, Result, Side};
use crate::fields::Fields;
use crate::grpc;
use crate::limits::{Limits, Malformed};
use crate::message::{Method, RequestHead, ResponseHead};
use crate::pace;
use crate::server::{Handler, Reply, Served, ServerOptions};
use crate::timer::Timer;
use crate::tunnel::Tunnel;

pub(crate) use super::frame::PREFACE;

/// The answer, not begun.
pub(crate) struct H2Reply {
    stream: Option<StreamRef>,
    /// The request was HEAD.
    is_head: bool,
    is_connect: bool,
}

/// The answer, begun; nothing when it has no body.
pub(crate) struct H2ReplyBody {
    body: Option<Outgoing>,
}

/// Serves the connection. `taken` has what was read from it already, from the preface on.
pub(crate) async fn serve<H: Handler>(
    taken: Option<(Stream, Bytes, Rc<ServerOptions>)>,
    handler: Rc<H>,
    drain: Pin<&mut impl Future<Output = ()>>,
) -> Served {
    let Some((stream, first, options)) = taken else { return Served::Broken };
    let shared = Shared::new(Role::Server, stream, &options.limits, &options.strikes);
    let first = first.try_into_mut().unwrap_or_else(|first| BytesMut::from(&first[..]));
    let driver = Driver::new(shared, first, options.keepalive);
    let mut connection = Connection {
        driver,
        options,
        idle: Timer::default(),
        partial: Timer::default(),
        leaving: Timer::default(),
        look: Timer::default(),
    };
    let mut drain = Some(drain);
    let end = poll_fn(|cx| {
        if drain.as_mut().is_some_and(|drain| drain.as_mut().poll(cx).is_ready()) {
            drain = None;
            connection.driver.shared.with(|core| core.leave());
        }
        connection.poll(cx, &handler)
    });
    let end = end.await;
    connection.close(end).await
}

/// How it ended.
enum Ended {
    Stopped(Stop),
    /// The head of a request did not come to its end.
    Slow,
    /// Everything that was begun is done.
    Done,
}

struct Connection {
    driver: Driver,
    options: Rc<ServerOptions>,
    idle: Timer,
    partial: Timer,
    leaving: Timer,
    /// At how fast the client takes what waits for it.
    look: Timer,
}

// === impl Connection ===

impl Connection {
    /// One turn: read, start what was asked for, write.
    fn poll<H: Handler>(&mut self, cx: &mut Context<'_>, handler: &Rc<H>) -> Poll<Ended> {
        self.driver.begin(cx);
        let (shared, options) = (self.driver.shared.clone(), self.options.clone());
        let stop = self.driver.poll_read(cx, |accepted| begin(&shared, accepted, &options, handler));
        if let Poll::Ready(stop) = stop {
            return Poll::Ready(Ended::Stopped(stop));
        }
        if let Poll::Ready(ended) = self.poll_time(cx) {
            return Poll::Ready(ended);
        }
        match self.driver.poll_write(cx) {
            Poll::Ready(Err(error)) => return Poll::Ready(Ended::Stopped(Stop::Io(error.kind()))),
            Poll::Ready(Ok(())) if shared.with(|core| core.is_done()) => return Poll::Ready(Ended::Done),
            Poll::Ready(Ok(())) => {}
            Poll::Pending => shared.with(Core::socket_is_full),
        }
        self.poll_readers(cx).map(Ended::Stopped)
    }

    /// Looks now and then, while something waits for the client, at how fast it takes it.
    fn poll_readers(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        let shared = &self.driver.shared;
        while let Some(every) = shared.with(|core| core.readers.due.then(|| core.look_every())) {
            ready!(self.look.poll(cx, every));
            self.look.done();
            let queued = queue::unacknowledged(&shared.stream).unwrap_or(0);
            if let Err(fatal) = shared.with(|core| core.look(Instant::now(), queued)) {
                return Poll::Ready(Stop::Fatal(fatal));
            }
        }
        self.look.done();
        Poll::Pending
    }

    /// What has a deadline.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let limits = &self.options.limits;
        if self.driver.is_partial() {
            if self.partial.poll(cx, limits.head_timeout).is_ready() {
                return Poll::Ready(Ended::Slow);
            }
        } else {
            self.partial.done();
        }
        // Each change of state arms the deadline of the next.
        loop {
            let (leaving, streams) = self.driver.shared.with(|core| (core.leaving, core.streams.len()));
            match leaving {
                Leaving::No if streams > 0 => self.idle.done(),
                Leaving::No => {
                    if self.idle.poll(cx, limits.idle_timeout).is_ready() {
                        self.driver.shared.with(|core| core.leave());
                        continue;
                    }
                }
                // A client that does not answer the PING has had its time to read the GOAWAY before it.
                Leaving::Announced => {
                    if self.leaving.poll(cx, limits.linger_timeout).is_ready() {
                        self.driver.shared.with(|core| core.leave_now());
                        self.leaving.done();
                        continue;
                    }
                }
                // Everything is done, but for the last bytes, which the client does not read.
                Leaving::Final(_) if streams == 0 => {
                    if self.leaving.poll(cx, limits.linger_timeout).is_ready() {
                        return Poll::Ready(Ended::Done);
                    }
                }
                Leaving::Final(_) => self.leaving.done(),
            }
            break;
        }
        self.driver.poll_keepalive(cx).map(Ended::Stopped)
    }

    async fn close(mut self, ended: Ended) -> Served {
        let limits = &self.options.limits;
        let shared = self.driver.shared.clone();
        let (streams, leaving) = shared.with(|core| (core.streams.len(), core.leaving != Leaving::No));
        let is_done = matches!(ended, Ended::Done);
        let served = match ended {
            Ended::Done if leaving => Served::Drained,
            Ended::Done => Served::Closed,
            Ended::Slow => {
                self.options.strikes.count(Malformed::HeadTimeout);
                shared.with(|core| core.condemn(code::NO_ERROR, Malformed::HeadTimeout));
                Served::Refused(Malformed::HeadTimeout)
            }
            Ended::Stopped(stop) => {
                self.driver.finish(stop);
                match stop {
                    // Nothing would arrive any more, and what the kernel has of it is not to be kept.
                    Stop::Fatal(fatal) if fatal.what == Malformed::ResponseRate => {
                        self.options.strikes.count(fatal.what);
                        shared.stream.reset_on_close();
                        Served::Broken
                    }
                    Stop::Fatal(fatal) => {
                        self.options.strikes.count(fatal.what);
                        Served::Refused(fatal.what)
                    }
                    Stop::Closed if leaving => Served::Drained,
                    Stop::Closed if streams == 0 => Served::Closed,
                    Stop::Closed | Stop::Io(_) | Stop::Silent => Served::Broken,
                }
            }
        };
        match served {
            Served::Refused(_) => {
                self.driver.flush(limits.linger_timeout).await;
                linger(&shared.stream, limits).await;
            }
            // What is on its way is lost when a socket is closed that the client still writes to.
            Served::Drained | Served::Closed if is_done => linger(&shared.stream, limits).await,
            Served::Drained | Served::Closed => {
                let _ = shared.stream.shutdown_write();
            }
            _ => {}
        }
        served
    }
}

/// Starts the task of one stream.
fn begin<H: Handler>(shared: &Rc<Shared>, accepted: Accepted, options: &Rc<ServerOptions>, handler: &Rc<H>) {
    let Accepted { key, request, has_body } = accepted;
    let stream = shared.hold(key);
    let handler = handler.clone();
    // Made where it stays, because a future of this size is dear to move.
    let task = Box::write(Box::new_uninit(), async move {
        if stream.with(|core, key| core.streams.get(key).end.is_some()) {
            // It was reset before anybody looked at it.
            return;
        }
        let (head, body, reply) = hand_over(&stream, request, has_body);
        let mut exchange = pin!(handler.handle(head, body, reply));
        poll_fn(|cx| match exchange.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => stream.with(|core, key| {
                let slot = core.streams.get(key);
                match slot.end {
                    // What our side gave up, it gave up knowing what else it has to do.
                    Some(End::GivenUp) => Poll::Pending,
                    Some(_) => Poll::Ready(()),
                    None => {
                        register(&mut slot.reset_waker, cx);
                        Poll::Pending
                    }
                }
            }),
        })
        .await;
    });
    options.spawn.spawn("http2-stream", Box::into_pin(task));
}

/// What a handler gets. Called when its task runs, which is after everything that came with the head is read: a body that
/// is there already is one of known length, and one that ended before it began is none.
fn hand_over(stream: &StreamRef, request: Request, has_body: bool) -> (RequestHead, Body, Reply) {
    let Request { head, length, expects } = request;
    let (is_head, is_connect) = (head.method == Method::Head, head.method == Method::Connect);
    let body = match has_body && !is_connect {
        true => Incoming::request(stream, length, grpc::is_grpc(&head.fields)),
        false => Body::empty(),
    };
    if expects && !body.is_there() {
        let goes_on = ResponseHead::new(100);
        let _ = stream.with(|core, key| core.respond(key, &goes_on, BodyLength::Empty, false, false));
    }
    let reply = Reply::h2(H2Reply { stream: Some(stream.clone()), is_head, is_connect });
    (head, body, reply)
}

/// Reads and throws away what a refused client still sends, until it closes.
async fn linger(stream: &Stream, limits: &Limits) {
    let _ = stream.shutdown_write();
    let mut buffer = BytesMut::with_capacity(crate::buffer::SIZE);
    let mut left: usize = 1024 * 1024;
    let drained = poll_fn(|cx| {
        loop {
            buffer.clear();
            match std::task::ready!(stream.poll_read(cx, &mut buffer)) {
                Ok(read) if read > 0 && read < left => left -= read,
                _ => return Poll::Ready(()),
            }
        }
    });
    let _ = tokio::time::timeout(limits.linger_timeout, drained).await;
}

// === impl H2Reply ===

impl H2Reply {
    pub(crate) fn send(mut self, head: &ResponseHead, length: BodyLength) -> Result<H2ReplyBody> {
        let stream = self.stream.take().ok_or_else(|| Error::misuse("answered twice"))?;
        let bodiless = self.is_head || matches!(head.status, 204 | 304);
        let keep_length = bodiless && !matches!(length, BodyLength::Known(_)) || head.status == 304;
        let end = bodiless || matches!(length, BodyLength::Empty | BodyLength::Known(0));
        stream
            .with(|core, key| {
                if !end {
                    core.pace_reader(key, || pace::is_read_at_leisure(&head.fields));
                }
                core.respond(key, head, length, keep_length, end)
            })
            .map_err(|end| error(end, Part::ResponseHead, Side::Downstream))?;
        let body = (!end).then(|| Outgoing::new(stream, length, Side::Downstream));
        Ok(H2ReplyBody { body })
    }

    pub(crate) fn informational(&mut self, head: &ResponseHead) -> Result<()> {
        let Some(stream) = &self.stream else { return Err(Error::misuse("answered already")) };
        if !head.is_informational() || matches!(head.status, 100 | 101) {
            return Ok(());
        }
        stream
            .with(|core, key| core.respond(key, head, BodyLength::Empty, false, false))
            .map_err(|end| error(end, Part::ResponseHead, Side::Downstream))
    }

    pub(crate) fn upgrade(mut self, head: &ResponseHead) -> Result<Tunnel> {
        let stream = self.stream.take().ok_or_else(|| Error::misuse("answered twice"))?;
        if !self.is_connect || !(200..300).contains(&head.status) {
            stream.reset(code::INTERNAL_ERROR);
            return Err(Error::misuse("a tunnel over HTTP/2 begins with 2xx after CONNECT"));
        }
        stream
            .with(|core, key| {
                core.pace_reader(key, || true);
                core.respond(key, head, BodyLength::Unknown, false, false)
            })
            .map_err(|end| error(end, Part::ResponseHead, Side::Downstream))?;
        let idle = stream.idle();
        Ok(Tunnel::h2(Pipe::new(stream, Side::Downstream), Side::Downstream, idle))
    }
}

impl Drop for H2Reply {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.reset(code::INTERNAL_ERROR);
        }
    }
}

// === impl H2ReplyBody ===

impl H2ReplyBody {
    pub(crate) async fn data(&mut self, data: Bytes) -> Result<()> {
        match &mut self.body {
            Some(body) if !data.is_empty() => {
                body.write(false).await?;
                body.hold(data)
            }
            // There is none (HEAD), whatever the handler says.
            _ => Ok(()),
        }
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

impl Drop for H2ReplyBody {
    /// Dropped before its end: a reset.
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            body.reset(code::INTERNAL_ERROR);
        }
    }
}

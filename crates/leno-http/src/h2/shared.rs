//! What the task of a connection and the holders of its streams share.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use leno_net::Stream;

use super::core::{Core, PING_ALIVE, Role};
use super::frame;
use super::receive::{Accepted, Fatal, Feed};
use super::streams::End;
use crate::buffer;
use crate::limits::{Limits, Strikes};
use crate::timer::{Alarms, Timer};

/// A connection: its state, its socket, and the deadlines of its streams.
pub(crate) struct Shared {
    core: RefCell<Core>,
    pub(super) stream: Stream,
    pub(super) alarms: Rc<Alarms>,
}

/// A stream, held: by whoever reads or writes it, or waits for its end. With the last holder it is given up.
pub(crate) struct StreamRef {
    shared: Rc<Shared>,
    key: u32,
}

/// The half of a connection that only its task has.
pub(super) struct Driver {
    pub(super) shared: Rc<Shared>,
    feed: Feed,
    /// What the next read asks for: more after a read that filled its buffer.
    read_size: usize,
    keepalive: Option<Keepalive>,
    /// Since when there are no streams.
    rest: Timer,
    rests: bool,
}

/// Why the task of a connection stops reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The peer broke the protocol.
    Fatal(Fatal),
    /// The peer closed.
    Closed,
    Io(io::ErrorKind),
    /// The peer does not answer any more.
    Silent,
}

/// Asks a silent peer whether it is still there; it has until the next time to answer.
struct Keepalive {
    every: Duration,
    timer: Timer,
    awaited: bool,
}

/// Reads between two looks at the rest of the thread.
const READS: usize = 16;
const READ_MAX: usize = 64 * 1024;
/// After so long without streams a connection is taken to rest.
const REST: Duration = Duration::from_secs(1);

// === impl Shared ===

impl Shared {
    pub(super) fn new(role: Role, stream: Stream, limits: &Limits, strikes: &Arc<Strikes>) -> Rc<Shared> {
        Rc::new(Shared { core: RefCell::new(Core::new(role, limits, strikes)), stream, alarms: Rc::default() })
    }

    /// Does something with the state, and wakes whom that concerns afterwards: a waker may end a task, which may hold
    /// streams.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.core.borrow_mut();
        let result = act(&mut core);
        if core.wakers.is_empty() {
            return result;
        }
        let mut wakers = std::mem::take(&mut core.wakers);
        drop(core);
        wakers.drain(..).for_each(Waker::wake);
        let mut core = self.core.borrow_mut();
        if core.wakers.capacity() == 0 && wakers.capacity() <= 128 {
            core.wakers = wakers;
        }
        result
    }

    /// Takes hold of a stream.
    pub(super) fn hold(self: &Rc<Shared>, key: u32) -> StreamRef {
        self.core.borrow_mut().streams.get(key).holders += 1;
        StreamRef { shared: self.clone(), key }
    }
}

// === impl StreamRef ===

impl StreamRef {
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Core, u32) -> T) -> T {
        self.shared.with(|core| act(core, self.key))
    }

    pub(super) fn alarms(&self) -> &Rc<Alarms> {
        &self.shared.alarms
    }

    /// Ends it before its time.
    pub(super) fn reset(&self, code: u32) {
        self.with(|core, key| core.reset(key, code));
    }

    /// How often a piece was written.
    pub(super) fn beats(&self) -> u32 {
        self.with(|core, key| core.streams.get(key).send.beats)
    }

    /// How long at most nothing may move.
    pub(super) fn idle(&self) -> Duration {
        self.shared.core.borrow().limits.stream_idle_timeout
    }
}

impl Clone for StreamRef {
    fn clone(&self) -> StreamRef {
        self.shared.hold(self.key)
    }
}

impl Drop for StreamRef {
    fn drop(&mut self) {
        self.with(Core::drop_holder);
    }
}

// === impl Driver ===

impl Driver {
    pub(super) fn new(shared: Rc<Shared>, first: bytes::BytesMut, keepalive: Option<Duration>) -> Driver {
        let keepalive = keepalive.map(|every| Keepalive { every, timer: Timer::default(), awaited: false });
        Driver {
            shared,
            feed: Feed::new(first),
            read_size: buffer::SIZE,
            keepalive,
            rest: Timer::default(),
            rests: false,
        }
    }

    /// To be called first in every turn.
    pub(super) fn begin(&mut self, cx: &mut Context<'_>) {
        self.shared.with(|core| {
            core.kicked = false;
            super::streams::register(&mut core.driver, cx);
        });
        self.shared.alarms.poll(cx);
    }

    /// Reads what is there. Ready when nothing more will come.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, mut accept: impl FnMut(Accepted)) -> Poll<Stop> {
        for _ in 0..READS {
            while let Some(accepted) = {
                let feed = &mut self.feed;
                match self.shared.with(|core| core.receive(feed)) {
                    Ok(accepted) => accepted,
                    Err(fatal) => return Poll::Ready(Stop::Fatal(fatal)),
                }
            } {
                accept(accepted);
            }
            if self.shared.with(|core| core.is_choked()) {
                // Whatever is written next wakes the task.
                return Poll::Pending;
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(Stop::Closed),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Stop::Io(error.kind())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let feed = &mut self.feed;
        feed.forget_read();
        let mut ready = self.shared.stream.poll_read_ready(cx)?;
        loop {
            if ready.is_pending() {
                self.read_size = buffer::SIZE;
                if feed.bytes.is_empty() {
                    buffer::give_inbound(&mut feed.bytes);
                }
                return Poll::Pending;
            }
            feed.take_buffer();
            let (room, whole) = (feed.bytes.capacity() - feed.bytes.len(), feed.bytes.capacity());
            if room < buffer::SIZE / 4 || whole < self.read_size {
                feed.make_room(self.read_size);
            }
            let room = feed.bytes.capacity() - feed.bytes.len();
            match self.shared.stream.try_read(&mut feed.bytes) {
                Ok(read) => {
                    if read == room {
                        self.read_size = (self.read_size * 2).min(READ_MAX);
                    }
                    return Poll::Ready(Ok(read));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready = self.shared.stream.poll_read_ready(cx)?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes what waits, and what streams may add to it. Ready when everything is written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &self.shared.stream;
        self.shared.with(|core| {
            loop {
                core.pump();
                if core.output.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                let choked = core.is_choked();
                let written = ready!(core.output.poll_write(stream, cx))?;
                core.meter.wrote(written);
                if choked && !core.is_choked() {
                    // Reading had stopped.
                    cx.waker().wake_by_ref();
                }
            }
        })
    }

    /// Whether the peer is in the middle of something that is not the body of a message.
    pub(super) fn is_partial(&self) -> bool {
        self.shared.with(|core| core.inbound.is_partial(&self.feed))
    }

    /// Gives back what a connection without streams needs no more, once it has had none for a while.
    fn poll_rest(&mut self, cx: &mut Context<'_>) {
        if self.shared.with(|core| core.streams.len() > 0) {
            self.rest.done();
            self.rests = false;
        } else if !self.rests && self.rest.poll(cx, REST).is_ready() {
            self.rests = true;
            self.shared.with(|core| core.streams.shrink());
        }
    }

    /// Asks the peer for a sign of life now and then. Ready when none came.
    pub(super) fn poll_keepalive(&mut self, cx: &mut Context<'_>) -> Poll<Stop> {
        self.poll_rest(cx);
        let Some(keepalive) = &mut self.keepalive else { return Poll::Pending };
        while keepalive.timer.poll(cx, keepalive.every).is_ready() {
            keepalive.timer.done();
            let ponged = self.shared.with(|core| std::mem::take(&mut core.ponged));
            if keepalive.awaited && !ponged {
                return Poll::Ready(Stop::Silent);
            }
            keepalive.awaited = true;
            self.shared.with(|core| frame::ping(core.output.frames(), 0, PING_ALIVE));
        }
        Poll::Pending
    }

    /// Ends the streams that are left.
    pub(super) fn finish(&mut self, stop: Stop) {
        self.shared.with(|core| match stop {
            Stop::Fatal(fatal) => core.condemn(fatal.code, fatal.what),
            Stop::Closed => core.finish(End::Closed),
            Stop::Io(kind) => core.finish(End::Io(kind)),
            Stop::Silent => core.finish(End::Gone),
        });
    }

    /// Waits until everything is written, but not for long.
    pub(super) async fn flush(&mut self, wait: Duration) {
        let flushed = std::future::poll_fn(|cx| self.poll_write(cx));
        let _ = tokio::time::timeout(wait, flushed).await;
    }
}

impl Drop for Driver {
    /// The task may be dropped in the middle: nobody reads or writes for its streams any more.
    fn drop(&mut self) {
        self.shared.with(|core| {
            core.finish(End::Gone);
            core.driver = None;
            core.output.clear();
        });
    }
}

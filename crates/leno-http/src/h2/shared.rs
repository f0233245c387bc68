//! What the task of a connection and the holders of its streams share.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use leno_net::Stream;

use super::core::{Core, PING_ALIVE, Role};
use super::feed::Feed;
use super::frame;
use super::receive::{Accepted, Fatal};
use super::streams::End;
use crate::buffer;
use crate::hold::{self, Turn};
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
    /// Of a client: it may have to wait before it reads.
    turn: Option<Turn>,
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

/// A turn of the connection's task is over after so many streams or bytes, however much is ready, and the thread's other
/// tasks have theirs: who opens fifty streams at once is not served all of them before others are looked at.
const TURN_STREAMS: u32 = 16;
const TURN_BYTES: usize = 256 * 1024;
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
        let turn = shared.with(|core| core.role == Role::Client).then(Turn::default);
        Driver {
            shared,
            turn,
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
            core.inbound.openings = TURN_STREAMS;
            super::streams::register(&mut core.driver, cx);
        });
        self.shared.alarms.poll(cx);
    }

    /// Reads what is there. Ready when nothing more will come.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, mut accept: impl FnMut(Accepted)) -> Poll<Stop> {
        let mut read = 0;
        while read < TURN_BYTES {
            while let Some(accepted) = {
                let feed = &mut self.feed;
                match self.shared.with(|core| core.receive(feed)) {
                    Ok(accepted) => accepted,
                    Err(fatal) => return Poll::Ready(Stop::Fatal(fatal)),
                }
            } {
                accept(accepted);
            }
            let (choked, opened_enough) = self.shared.with(|core| (core.is_choked(), core.inbound.openings == 0));
            if choked {
                // Whatever is written next wakes the task.
                return Poll::Pending;
            }
            if opened_enough {
                break;
            }
            match ready!(self.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(Stop::Closed),
                Ok(more) => read += more,
                Err(error) => return Poll::Ready(Stop::Io(error.kind())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let feed = &mut self.feed;
        feed.forget_read();
        if let Some(turn) = &mut self.turn {
            ready!(hold::poll_may_read(cx, turn));
        }
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
            let mut turn = 0;
            loop {
                core.pump();
                if core.output.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                if turn >= TURN_BYTES {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                let choked = core.is_choked();
                let written = ready!(core.output.poll_write(stream, cx))?;
                turn += written;
                core.meter.wrote(written);
                core.readers.wrote(written);
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use bytes::{Bytes, BytesMut};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use super::super::frame::{DATA, END_HEADERS, HEADERS, PREFACE};
    use super::*;
    use crate::body::BodyLength;
    use crate::message::ResponseHead;

    /// More than a turn, and less than what two sockets hold.
    const MUCH: usize = 2 * TURN_BYTES;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A server's connection and its client's socket, both with room for as much as the kernel gives.
    async fn pair() -> (Driver, TcpStream) {
        let listener = TcpSocket::new_v4().unwrap();
        listener.set_recv_buffer_size(1 << 22).unwrap();
        listener.set_send_buffer_size(1 << 22).unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener: TcpListener = listener.listen(1).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1 << 22).unwrap();
        socket.set_send_buffer_size(1 << 22).unwrap();
        let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let windows = 1 << 24;
        let limits = Limits { h2_stream_window: windows, h2_connection_window: windows, ..Limits::default() };
        let shared = Shared::new(Role::Server, Stream::from(server), &limits, &Arc::default());
        (Driver::new(shared, BytesMut::new(), None), client)
    }

    /// What a client says first, and that it takes everything.
    fn hello() -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        frame::settings(&mut bytes, &[(frame::setting::INITIAL_WINDOW_SIZE, 1 << 30)]);
        frame::window_update(&mut bytes, 0, 1 << 30);
        // The settings of the server arrived: its windows are those of the limits.
        frame::settings_ack(&mut bytes);
        frame::header(&mut bytes, 6, HEADERS, END_HEADERS, 1);
        bytes.extend_from_slice(&[0x83, 0x86, 0x84, 0x01, 0x01, b'x']);
        bytes
    }

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn no_turn_reads_or_writes_more_than_its_share_and_what_is_left_has_another() {
        run(async {
            let (mut driver, client) = pair().await;
            let mut bytes = hello();
            for _ in 0..MUCH / frame::PAYLOAD_MAX {
                frame::header(&mut bytes, frame::PAYLOAD_MAX, DATA, 0, 1);
                bytes.resize(bytes.len() + frame::PAYLOAD_MAX, 7);
            }
            client.writable().await.unwrap();
            let mut sent = 0;
            while let Ok(more) = client.try_write(&bytes[sent..])
                && sent < bytes.len()
            {
                sent += more;
            }
            std::future::poll_fn(|cx| driver.shared.stream.poll_read_ready(cx)).await.unwrap();
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(woken.clone());
            let cx = &mut Context::from_waker(&waker);
            let mut key = None;
            driver.begin(cx);
            assert!(driver.poll_read(cx, |accepted| key = Some(accepted.key)).is_pending());
            let key = key.unwrap();
            let stream = driver.shared.hold(key);
            let read = stream.with(|core, _| (1 << 24) - core.receive_window as usize);
            println!("a turn read {read} of {sent} bytes");
            assert!(sent > TURN_BYTES + READ_MAX && read <= TURN_BYTES + READ_MAX);
            assert_eq!(woken.0.swap(0, Ordering::Relaxed), 1, "there is more to read");

            stream.with(|core, key| {
                core.respond(key, &ResponseHead::new(200), BodyLength::Unknown, false, false).unwrap();
                core.submit(key, Bytes::from(vec![7; 1 << 24]), false).unwrap();
            });
            woken.0.store(0, Ordering::Relaxed);
            assert!(driver.poll_write(cx).is_pending());
            let left = stream.with(|core, key| core.streams.get(key).send.pending.len() + core.output.len());
            let written = (1 << 24) - left;
            println!("a turn wrote {written} bytes");
            assert!((TURN_BYTES - 1024..TURN_BYTES + 2 * READ_MAX).contains(&written));
            assert!(woken.0.load(Ordering::Relaxed) > 0, "there is more to write");
        });
    }
}

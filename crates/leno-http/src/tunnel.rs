//! Bytes in both directions after an upgrade or CONNECT.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use leno_net::Stream;

use crate::buffer;
use crate::error::{Error, ErrorKind, Part, Result, Side};
use crate::h2::stream::Pipe;
use crate::timer::Timer;

/// A connection, or a stream of one, that carries bytes and no messages any more.
pub struct Tunnel {
    /// Boxed, because every response has room for one.
    parts: Box<Parts>,
}

struct Parts {
    inner: Inner,
    side: Side,
    idle: Duration,
    read_timer: Timer,
    write_timer: Timer,
}

enum Inner {
    Stream { stream: Stream, first: Bytes, buffer: BytesMut },
    H2(Pipe),
}

/// What a pair of joined tunnels carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Joined {
    /// Bytes from the first to the second.
    pub a_to_b: u64,
    /// Bytes from the second to the first.
    pub b_to_a: u64,
}

impl Tunnel {
    /// A tunnel over a plain stream; `first` was read from it already. Reads and writes that wait for `idle` end it.
    pub fn from_stream(stream: Stream, first: Bytes, side: Side, idle: Duration) -> Tunnel {
        Tunnel::h1(stream, first, side, idle)
    }

    fn of(inner: Inner, side: Side, idle: Duration) -> Tunnel {
        let (read_timer, write_timer) = (Timer::default(), Timer::default());
        Tunnel { parts: Box::new(Parts { inner, side, idle, read_timer, write_timer }) }
    }

    pub(crate) fn h1(stream: Stream, first: Bytes, side: Side, idle: Duration) -> Tunnel {
        let inner = Inner::Stream { stream, first, buffer: BytesMut::new() };
        Tunnel::of(inner, side, idle)
    }

    pub(crate) fn h2(pipe: Pipe, side: Side, idle: Duration) -> Tunnel {
        Tunnel::of(Inner::H2(pipe), side, idle)
    }

    /// The stream itself and what was read from it already, where nobody else uses it (HTTP/1).
    pub fn into_stream(self) -> Result<(Stream, Bytes), Tunnel> {
        match *self.parts {
            Parts { inner: Inner::Stream { stream, first, .. }, .. } => Ok((stream, first)),
            parts => Err(Tunnel { parts: Box::new(parts) }),
        }
    }

    /// The next bytes; `None` after the peer's last.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        if let Poll::Ready(read) = self.poll_read_untimed(cx) {
            self.parts.read_timer.done();
            return Poll::Ready(read);
        }
        ready!(self.parts.read_timer.poll(cx, self.parts.idle));
        Poll::Ready(Some(Err(self.timeout())))
    }

    fn poll_read_untimed(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let side = self.parts.side;
        match &mut self.parts.inner {
            Inner::Stream { first, .. } if !first.is_empty() => Poll::Ready(Some(Ok(std::mem::take(first)))),
            Inner::Stream { stream, buffer, .. } => {
                let read = ready!(poll_stream(stream, buffer, cx));
                Poll::Ready(read.map(|r| r.map_err(|e| io_error(e, side))))
            }
            Inner::H2(pipe) => pipe.poll_read(cx),
        }
    }

    /// The next bytes; `None` after the peer's last.
    pub async fn read(&mut self) -> Option<Result<Bytes>> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    /// Writes some of `bytes`, which are taken off it; ready when all of them are written.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<Result<()>> {
        let before = bytes.len();
        let polled = self.poll_write_untimed(cx, bytes);
        if polled.is_ready() || bytes.len() < before {
            self.parts.write_timer.done();
        }
        if polled.is_pending() {
            ready!(self.parts.write_timer.poll(cx, self.parts.idle));
            return Poll::Ready(Err(self.timeout()));
        }
        polled
    }

    fn poll_write_untimed(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<Result<()>> {
        let side = self.parts.side;
        while !bytes.is_empty() {
            let written = match &mut self.parts.inner {
                Inner::Stream { stream, .. } => ready!(stream.poll_write(cx, bytes)).map_err(|e| io_error(e, side))?,
                Inner::H2(pipe) => {
                    ready!(pipe.poll_write(cx, bytes))?;
                    0
                }
            };
            bytes.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all of them.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<()> {
        poll_fn(|cx| self.poll_write(cx, &mut bytes)).await
    }

    /// Says that nothing more will be written.
    pub fn shutdown_write(&mut self) -> Result<()> {
        let side = self.parts.side;
        match &mut self.parts.inner {
            Inner::Stream { stream, .. } => stream.shutdown_write().map_err(|e| io_error(e, side)),
            Inner::H2(pipe) => pipe.shutdown_write(),
        }
    }

    /// Ends it so that the other end knows that it was cut off.
    pub fn reset(self) {
        match self.parts.inner {
            Inner::Stream { stream, .. } => stream.reset_on_close(),
            Inner::H2(pipe) => pipe.reset(),
        }
    }

    fn timeout(&self) -> Error {
        Error::new(ErrorKind::Timeout(Part::Tunnel), self.parts.side)
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tunnel")
    }
}

fn io_error(error: std::io::Error, side: Side) -> Error {
    Error::new(ErrorKind::Io(Part::Tunnel, error), side)
}

/// Reads into a buffer that is only taken while there is something to read.
fn poll_stream(stream: &Stream, buffer: &mut BytesMut, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Bytes>>> {
    loop {
        if let Err(error) = ready!(stream.poll_read_ready(cx)) {
            return Poll::Ready(Some(Err(error)));
        }
        buffer::take_inbound(buffer);
        if buffer.capacity() < buffer::SIZE / 4 {
            buffer.reserve(buffer::SIZE);
        }
        match stream.try_read(buffer) {
            Ok(0) => return Poll::Ready(None),
            Ok(_) => return Poll::Ready(Some(Ok(buffer.split().freeze()))),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => buffer::give_inbound(buffer),
            Err(error) => return Poll::Ready(Some(Err(error))),
        }
    }
}

/// Carries bytes both ways until both ends are done, half-close passed on, or nothing moved in either direction for the
/// idle time of the first.
pub async fn join(mut a: Tunnel, mut b: Tunnel) -> (Joined, Result<()>) {
    let mut joined = Joined::default();
    let (mut forth, mut back) = (Direction::default(), Direction::default());
    let mut timer = Timer::default();
    let result = poll_fn(|cx| {
        let before = joined;
        let first = forth.poll(cx, &mut a, &mut b, &mut joined.a_to_b);
        let second = back.poll(cx, &mut b, &mut a, &mut joined.b_to_a);
        match (first, second) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => return Poll::Ready(Err(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            _ => {}
        }
        if joined != before {
            timer.done();
        }
        ready!(timer.poll(cx, a.parts.idle));
        Poll::Ready(Err(a.timeout()))
    })
    .await;
    if result.is_err() {
        a.reset();
        b.reset();
    }
    (joined, result)
}

/// One direction of a pair of tunnels.
#[derive(Default)]
struct Direction {
    bytes: Bytes,
    ended: bool,
}

impl Direction {
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Tunnel, to: &mut Tunnel, moved: &mut u64) -> Poll<Result<()>> {
        while !self.ended {
            let waiting = self.bytes.len();
            let written = to.poll_write_untimed(cx, &mut self.bytes);
            *moved += (waiting - self.bytes.len()) as u64;
            ready!(written)?;
            self.bytes = Bytes::new();
            match ready!(from.poll_read_untimed(cx)) {
                Some(bytes) => self.bytes = bytes?,
                None => {
                    to.shutdown_write()?;
                    self.ended = true;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

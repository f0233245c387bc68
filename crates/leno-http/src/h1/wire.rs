//! One socket of HTTP/1 with its two directions: what was read and not understood yet, what is to be written, and the
//! deadlines of both. Server and client connections are built on it.
//!
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use leno_net::Stream;
use tokio::time::Instant;

use super::decode::{Decoded, Decoder};
use super::encode::{COPY_MAX, Encoder};
use super::head::{Expected, Framing, HeadParser};
use crate::body::Frame;
use crate::buffer;
use crate::error::{Error, ErrorKind, Part, Side};
use crate::fields::Fields;
use crate::limits::{Limits, Malformed};
use crate::pace::{Pace, Uptake};
use crate::timer::{Timer, beat};

/// The socket and both directions.
pub(crate) struct Wire {
    stream: RefCell<Option<Stream>>,
    pub(crate) inbound: RefCell<Inbound>,
    pub(crate) outbound: RefCell<Outbound>,
    /// A write was begun and not finished: what was written is cut off somewhere.
    torn: Cell<bool>,
    /// Whether the response that is being written has to be read at a rate.
    pub(crate) hurried: Cell<bool>,
    /// Beats with every write.
    pulse: Cell<u32>,
}

/// The direction that is read.
pub(crate) struct Inbound {
    pub(crate) buffer: BytesMut,
    pub(crate) parser: HeadParser,
    pub(crate) decoder: Decoder,
    pub(crate) timer: Timer,
    /// How much to make room for: grows while a body fills what it is given.
    room: usize,
    ended: bool,
    /// Of the body that is being read; absent when it may be as slow as it likes. Boxed, because a connection that waits
    /// for a request has none.
    pub(crate) pace: Option<Box<Pace>>,
}

/// The direction that is written.
pub(crate) struct Outbound {
    pub(crate) out: Vec<u8>,
    /// So many bytes of `out` are written.
    at: usize,
    pub(crate) encoder: Encoder,
    timer: Timer,
    /// Of the response that is being written, if it is hurried, since it had to wait for the first time; which few do, so
    /// it is boxed.
    pub(crate) uptake: Option<Box<Uptake>>,
}

/// What ends a read or write.
#[derive(Debug)]
pub(crate) enum WireError {
    Malformed(Malformed),
    Closed,
    Timeout,
    Io(io::Error),
    /// Data and announced length differ.
    Length,
    /// The socket was taken away (tunnel) or given up.
    Gone,
}

/// Kept back for what follows, until there is so much of it.
const KEEP_BACK: usize = 16 * 1024;

impl WireError {
    pub(crate) fn at(self, part: Part, side: Side) -> Error {
        match self {
            WireError::Malformed(what) => Error::new(what, side),
            WireError::Closed => Error::new(ErrorKind::Closed(part), side),
            WireError::Timeout => Error::new(ErrorKind::Timeout(part), side),
            WireError::Io(error) => Error::new(ErrorKind::Io(part, error), side),
            WireError::Length => Error::new(ErrorKind::LengthMismatch, Side::Us),
            WireError::Gone => Error::new(ErrorKind::Dropped, side),
        }
    }
}

impl From<Malformed> for WireError {
    fn from(what: Malformed) -> WireError {
        WireError::Malformed(what)
    }
}

// === impl Wire ===

impl Wire {
    pub(crate) fn new(stream: Stream, first: BytesMut) -> Wire {
        Wire {
            stream: RefCell::new(Some(stream)),
            inbound: RefCell::new(Inbound {
                buffer: first,
                parser: HeadParser::default(),
                decoder: Decoder::new(Framing::None),
                timer: Timer::default(),
                room: buffer::SIZE,
                ended: false,
                pace: None,
            }),
            outbound: RefCell::new(Outbound {
                out: Vec::new(),
                at: 0,
                encoder: Encoder::None,
                timer: Timer::default(),
                uptake: None,
            }),
            torn: Cell::new(false),
            hurried: Cell::new(false),
            pulse: Cell::new(0),
        }
    }

    /// The socket, and what was read from it and not used.
    pub(crate) fn take(&self) -> Option<(Stream, Bytes)> {
        let stream = self.stream.borrow_mut().take()?;
        Some((stream, std::mem::take(&mut self.inbound.borrow_mut().buffer).freeze()))
    }

    /// Closes the socket; with `reset`, so that the peer knows that what it got is not complete.
    pub(crate) fn close(&self, reset: bool) {
        if let Some(stream) = self.stream.borrow_mut().take()
            && reset
        {
            stream.reset_on_close();
        }
    }

    /// Whether a peer that has nothing to say closed the connection, or spoke. Asks the kernel only when something
    /// happened to the socket.
    pub(crate) fn is_stale(&self) -> bool {
        let stream = self.stream.borrow();
        let Some(stream) = stream.as_ref() else { return true };
        match stream.poll_read_ready(&mut Context::from_waker(std::task::Waker::noop())) {
            Poll::Pending => false,
            Poll::Ready(_) => stream.is_stale(),
        }
    }

    /// While only an answer is on its way: ready when the peer has closed. Bytes (the next request) are left alone.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let stream = self.stream.borrow();
        let Some(stream) = stream.as_ref() else { return Poll::Ready(false) };
        loop {
            ready!(stream.poll_read_ready(cx)).ok();
            let mut inbound = self.inbound.borrow_mut();
            buffer::take_inbound(&mut inbound.buffer);
            // A read rather than a peek: a peek leaves readiness set, and this would spin.
            match stream.try_read(&mut inbound.buffer) {
                Ok(0) => {
                    inbound.ended = true;
                    return Poll::Ready(true);
                }
                Ok(_) => return Poll::Ready(false),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(true),
            }
        }
    }

    /// Reads what is there. `Ok(0)` is the end.
    pub(crate) fn poll_fill(&self, inbound: &mut Inbound, cx: &mut Context<'_>) -> Poll<Result<usize, WireError>> {
        if inbound.ended {
            return Poll::Ready(Ok(0));
        }
        let stream = self.stream.borrow();
        let Some(stream) = stream.as_ref() else { return Poll::Ready(Err(WireError::Gone)) };
        // Readiness first, so that a connection that waits has not taken a buffer for it.
        ready!(stream.poll_read_ready(cx)).map_err(WireError::Io)?;
        loop {
            buffer::take_inbound(&mut inbound.buffer);
            let spare = inbound.buffer.capacity() - inbound.buffer.len();
            if spare < inbound.room.min(buffer::SIZE) / 4 || inbound.room > buffer::SIZE {
                let room = inbound.room;
                inbound.buffer.reserve(room);
            }
            match stream.try_read(&mut inbound.buffer) {
                Ok(read) => {
                    inbound.ended = read == 0;
                    return Poll::Ready(Ok(read));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if inbound.buffer.is_empty() {
                        buffer::give_inbound(&mut inbound.buffer);
                    }
                    ready!(stream.poll_read_ready(cx)).map_err(WireError::Io)?;
                }
                Err(error) if is_disconnect(&error) => {
                    inbound.ended = true;
                    return Poll::Ready(Err(WireError::Io(error)));
                }
                Err(error) => return Poll::Ready(Err(WireError::Io(error))),
            }
        }
    }

    /// Reads until a head is complete. Answers its length, or `None` when the connection ended before its first byte.
    /// `idle` is how long the first byte may take; `deadline`, if there is one, is the end of the whole wait.
    pub(crate) fn poll_head(
        &self,
        cx: &mut Context<'_>,
        expected: Expected,
        limits: &Limits,
        idle: Duration,
        deadline: Option<Instant>,
    ) -> Poll<Result<Option<usize>, WireError>> {
        let mut inbound = self.inbound.borrow_mut();
        let inbound = &mut *inbound;
        loop {
            if !inbound.buffer.is_empty()
                && let Some(length) = inbound.parser.advance(&inbound.buffer, expected, limits)?
            {
                inbound.timer.done();
                return Poll::Ready(Ok(Some(length)));
            }
            let begun = !inbound.buffer.is_empty();
            match self.poll_fill(inbound, cx) {
                Poll::Ready(Ok(0)) if begun => return Poll::Ready(Err(WireError::Closed)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(_)) if !begun => inbound.timer.done(),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(match deadline {
                        Some(deadline) => inbound.timer.poll_until(cx, deadline),
                        None if begun => inbound.timer.poll(cx, limits.head_timeout),
                        None => inbound.timer.poll_pulsed(cx, idle, &self.pulse),
                    });
                    return Poll::Ready(Err(WireError::Timeout));
                }
            }
        }
    }

    /// The next frame of the body that `inbound.decoder` stands before; `None` at its end.
    pub(crate) fn poll_frame(&self, cx: &mut Context<'_>, limits: &Limits) -> Poll<Result<Option<Frame>, WireError>> {
        let mut inbound = self.inbound.borrow_mut();
        let inbound = &mut *inbound;
        loop {
            match inbound.decoder.decode(&mut inbound.buffer, limits)? {
                Decoded::Frame(frame) => return Poll::Ready(Ok(Some(frame))),
                Decoded::End => {
                    inbound.room = buffer::SIZE;
                    return Poll::Ready(Ok(None));
                }
                Decoded::More => {}
            }
            match self.poll_fill(inbound, cx) {
                Poll::Ready(Ok(0)) if inbound.decoder.ends_with_connection() => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(WireError::Closed)),
                Poll::Ready(Ok(read)) => {
                    inbound.timer.done();
                    if let Some(pace) = &mut inbound.pace {
                        pace.received(read, Instant::now);
                    }
                    // Who fills what he is given gets more, for fewer and larger writes.
                    if read >= inbound.room.min(buffer::SIZE) {
                        inbound.room = limits.buffer_bytes;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    let Some(pace) = &mut inbound.pace else {
                        ready!(inbound.timer.poll_pulsed(cx, limits.stream_idle_timeout, &self.pulse));
                        return Poll::Ready(Err(WireError::Timeout));
                    };
                    let until = pace.wait_until(limits, Instant::now);
                    ready!(inbound.timer.poll_until(cx, until));
                    return Poll::Ready(Err(WireError::Malformed(Malformed::BodyRate)));
                }
            }
        }
    }

    /// Writes everything that waits in `out`, and `data` behind it.
    fn poll_write(
        &self,
        outbound: &mut Outbound,
        cx: &mut Context<'_>,
        data: &mut Bytes,
        limits: &Limits,
    ) -> Poll<Result<(), WireError>> {
        let stream = self.stream.borrow();
        let Some(stream) = stream.as_ref() else { return Poll::Ready(Err(WireError::Gone)) };
        loop {
            let waiting = outbound.out.len() - outbound.at;
            let result = match (waiting, data.is_empty()) {
                (0, true) => {
                    outbound.out.clear();
                    outbound.at = 0;
                    if let Some(uptake) = &mut outbound.uptake {
                        uptake.rests(limits, || (Instant::now(), queued(stream)));
                    }
                    return Poll::Ready(Ok(()));
                }
                (_, true) => stream.poll_write(cx, &outbound.out[outbound.at..]),
                (0, false) => stream.poll_write(cx, data),
                (_, false) => {
                    let slices = [IoSlice::new(&outbound.out[outbound.at..]), IoSlice::new(data)];
                    stream.poll_write_vectored(cx, &slices)
                }
            };
            match result {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(WireError::Closed)),
                Poll::Ready(Ok(written)) => {
                    outbound.timer.done();
                    beat(&self.pulse);
                    outbound.uptake.iter_mut().for_each(|uptake| uptake.wrote(written));
                    outbound.at += written.min(waiting);
                    data.advance(written.saturating_sub(waiting));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(WireError::Io(error))),
                Poll::Pending => {
                    if !self.hurried.get() {
                        ready!(outbound.timer.poll(cx, limits.stream_idle_timeout));
                        return Poll::Ready(Err(WireError::Timeout));
                    }
                    let begin = || Box::new(Uptake::new(limits, Duration::ZERO));
                    let uptake = outbound.uptake.get_or_insert_with(begin);
                    loop {
                        let until = uptake.waits(limits, || (Instant::now(), queued(stream)));
                        ready!(outbound.timer.poll_until(cx, until));
                        if uptake.is_used_up(limits, Instant::now(), queued(stream)) {
                            return Poll::Ready(Err(WireError::Malformed(Malformed::ResponseRate)));
                        }
                    }
                }
            }
        }
    }

    /// Writes a piece of the body, or keeps it back if it is small.
    pub(crate) async fn write_data(&self, mut data: Bytes, limits: &Limits) -> Result<(), WireError> {
        {
            let mut outbound = self.outbound.borrow_mut();
            let outbound = &mut *outbound;
            if data.is_empty() || outbound.encoder == Encoder::Dropped {
                return Ok(());
            }
            buffer::take_outbound(&mut outbound.out);
            if !outbound.encoder.before_data(&mut outbound.out, data.len()) {
                return Err(WireError::Length);
            }
            if data.len() <= COPY_MAX {
                outbound.out.extend_from_slice(&data);
                outbound.encoder.after_data(&mut outbound.out);
                if outbound.out.len() - outbound.at < KEEP_BACK {
                    return Ok(());
                }
                data = Bytes::new();
            }
        }
        let after = !data.is_empty();
        self.torn.set(true);
        poll_fn(|cx| self.poll_write(&mut self.outbound.borrow_mut(), cx, &mut data, limits)).await?;
        self.torn.set(false);
        if after {
            let mut outbound = self.outbound.borrow_mut();
            let outbound = &mut *outbound;
            outbound.encoder.after_data(&mut outbound.out);
        }
        Ok(())
    }

    /// Writes the end of the body and everything before it.
    pub(crate) async fn write_end(&self, trailers: Option<&Fields>, limits: &Limits) -> Result<(), WireError> {
        {
            let mut outbound = self.outbound.borrow_mut();
            let outbound = &mut *outbound;
            buffer::take_outbound(&mut outbound.out);
            if !outbound.encoder.end(&mut outbound.out, trailers) {
                return Err(WireError::Length);
            }
        }
        self.flush(limits).await?;
        buffer::give_outbound(&mut self.outbound.borrow_mut().out);
        Ok(())
    }

    /// Writes what was kept back.
    pub(crate) async fn flush(&self, limits: &Limits) -> Result<(), WireError> {
        self.torn.set(true);
        poll_fn(|cx| self.poll_write(&mut self.outbound.borrow_mut(), cx, &mut Bytes::new(), limits)).await?;
        self.torn.set(false);
        Ok(())
    }

    /// Whether everything handed over so far was written whole.
    pub(crate) fn is_torn(&self) -> bool {
        self.torn.get()
    }

    /// After the last answer: nothing more is written, and what the peer still sends is thrown away until it closes, so
    /// that a reset does not overtake the answer. At most for so long.
    pub(crate) async fn linger(&self, limits: &Limits) {
        if let Some(stream) = self.stream.borrow().as_ref() {
            let _ = stream.shutdown_write();
        }
        let mut left = LINGER_BYTES;
        self.inbound.borrow_mut().timer.done();
        poll_fn(|cx| {
            let mut inbound = self.inbound.borrow_mut();
            let inbound = &mut *inbound;
            loop {
                inbound.buffer.clear();
                match self.poll_fill(inbound, cx) {
                    Poll::Ready(Ok(read)) if read > 0 && read < left => left -= read,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return inbound.timer.poll(cx, limits.linger_timeout),
                }
            }
        })
        .await;
        self.close(false);
    }

    /// Gives buffers back before a wait for the next message.
    pub(crate) fn rest(&self) {
        let mut inbound = self.inbound.borrow_mut();
        inbound.parser = HeadParser::default();
        if inbound.buffer.is_empty() {
            buffer::give_inbound(&mut inbound.buffer);
        }
    }
}

fn queued(stream: &Stream) -> u64 {
    leno_net::queue::unacknowledged(stream).unwrap_or(0)
}

/// How much is read and thrown away by [`Wire::linger`].
const LINGER_BYTES: usize = 1024 * 1024;

fn is_disconnect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted
    )
}

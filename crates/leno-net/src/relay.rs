//! Copying bytes between two streams, both ways, until both have ended.
//!
//! The end of one direction is passed on as such (half-close) and the other goes on; a reset of one side resets the
//! other. A relay that waits holds no buffer: bytes are read into one that the thread's relays share, and only what the
//! other side does not take at once is kept, at most 32 KiB for each direction, during which its source is not read.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::time::Instant;

use crate::stream::Stream;

/// The most that one direction holds.
pub const BUFFER_MAX: usize = 32 * 1024;

/// What a relay did.
#[derive(Debug)]
pub struct Relayed {
    /// Bytes that reached `b`.
    pub a_to_b: u64,
    /// Bytes that reached `a`.
    pub b_to_a: u64,
    /// Why it ended.
    pub end: RelayEnd,
}

/// Why a relay ended.
#[derive(Debug)]
pub enum RelayEnd {
    /// Both sides ended their direction.
    Closed,
    /// Nothing moved for the time allowed.
    Idle,
    /// This side broke; the other was reset.
    Broken(RelaySide, io::Error),
}

/// One of the two streams of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelaySide {
    /// The first stream, usually the downstream one.
    A,
    /// The second stream, usually the upstream one.
    B,
}

/// Counts of a relay that can be read while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes that reached `b`.
    pub a_to_b: Cell<u64>,
    /// Bytes that reached `a`.
    pub b_to_a: Cell<u64>,
}

/// Relays between `a` and `b`; `first_to_b` was read from `a` earlier and goes first. Ends after `idle` without a byte
/// in either direction.
pub async fn relay(a: Stream, b: Stream, first_to_b: Bytes, idle: Duration) -> Relayed {
    relay_counted(a, b, first_to_b, idle, &Progress::default()).await
}

/// [`relay`] whose counts can be watched from elsewhere on the thread.
pub async fn relay_counted(a: Stream, b: Stream, first_to_b: Bytes, idle: Duration, progress: &Progress) -> Relayed {
    let mut to_b = Direction { reads: RelaySide::A, held: first_to_b, state: State::Open };
    let mut to_a = Direction { reads: RelaySide::B, held: Bytes::new(), state: State::Open };
    let mut moved_before = 0;
    let mut moved_at = Instant::now();
    let timer = tokio::time::sleep(idle);
    tokio::pin!(timer);

    let end = poll_fn(|cx| {
        let result = to_b.poll(cx, &a, &b, &progress.a_to_b).and_then(|()| to_a.poll(cx, &b, &a, &progress.b_to_a));
        if let Err((side, error)) = result {
            return Poll::Ready(RelayEnd::Broken(side, error));
        }
        if to_b.state == State::Ended && to_a.state == State::Ended {
            return Poll::Ready(RelayEnd::Closed);
        }
        let moved = progress.a_to_b.get() + progress.b_to_a.get();
        if moved != moved_before {
            (moved_before, moved_at) = (moved, Instant::now());
        }
        // The timer is moved only when it fires: moving it for each batch of bytes would cost more than the bytes.
        while timer.as_mut().poll(cx).is_ready() {
            let deadline = moved_at + idle;
            if deadline <= Instant::now() {
                return Poll::Ready(RelayEnd::Idle);
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    })
    .await;

    if !matches!(end, RelayEnd::Closed) {
        a.reset_on_close();
        b.reset_on_close();
    }
    Relayed { a_to_b: progress.a_to_b.get(), b_to_a: progress.b_to_a.get(), end }
}

/// One way through a relay.
struct Direction {
    reads: RelaySide,
    /// What was read and not yet taken; the source is not read meanwhile.
    held: Bytes,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Bytes may come.
    Open,
    /// The source has ended; what is held goes first, then the end is passed on.
    Ending,
    /// The end was passed on.
    Ended,
}

thread_local! {
    /// What the relays of this thread read into; empty between polls.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(BUFFER_MAX));
}

// === impl Direction ===

impl Direction {
    /// Moves what can be moved now. Ends when it must wait; tokio's budget makes it wait now and then.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &Stream,
        to: &Stream,
        moved: &Cell<u64>,
    ) -> Result<(), (RelaySide, io::Error)> {
        loop {
            while !self.held.is_empty() {
                match to.poll_write(cx, &self.held) {
                    Poll::Ready(Ok(written)) => {
                        self.held.advance(written);
                        moved.set(moved.get() + written as u64);
                    }
                    Poll::Ready(Err(error)) => return Err((self.reads.other(), error)),
                    Poll::Pending => return Ok(()),
                }
            }
            // Gives the memory back, which an empty slice of it would keep.
            self.held = Bytes::new();
            match self.state {
                State::Open => {}
                State::Ending => {
                    self.state = State::Ended;
                    return to.shutdown_write().map_err(|error| (self.reads.other(), error));
                }
                State::Ended => return Ok(()),
            }
            match from.poll_read_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err((self.reads, error)),
                Poll::Pending => return Ok(()),
            }
            SCRATCH.with_borrow_mut(|scratch| self.read_and_pass(scratch, from, to, moved))?;
        }
    }

    fn read_and_pass(
        &mut self,
        scratch: &mut BytesMut,
        from: &Stream,
        to: &Stream,
        moved: &Cell<u64>,
    ) -> Result<(), (RelaySide, io::Error)> {
        scratch.clear();
        match from.try_read(scratch) {
            Ok(0) => {
                self.state = State::Ending;
                return Ok(());
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err((self.reads, error)),
        }
        let written = match to.try_write(scratch) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err((self.reads.other(), error)),
        };
        moved.set(moved.get() + written as u64);
        self.held = Bytes::copy_from_slice(&scratch[written..]);
        Ok(())
    }
}

// === impl RelaySide ===

impl RelaySide {
    /// The side across.
    pub fn other(self) -> Self {
        match self {
            RelaySide::A => RelaySide::B,
            RelaySide::B => RelaySide::A,
        }
    }
}

#[cfg(test)]
#[path = "relay/tests.rs"]
mod tests;

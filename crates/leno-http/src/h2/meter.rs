//! Counts what a peer sends besides requests and bodies, on the byte stream below the engine, and ends floods.
//!
//! The engine answers PING and SETTINGS, and swallows PRIORITY, WINDOW_UPDATE and unknown frames, for as long as they come;
//! a peer can keep a core busy with them. Here the nine bytes before each frame are looked at as they pass. What is
//! allowed in ten seconds grows with what is written (whoever downloads a lot has windows to update), so that only
//! those who cost more than they use are stopped. The clock is asked only when a count reaches its limit.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use leno_net::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::limits::{Limits, Malformed};

/// A stream whose frames are counted.
pub(crate) struct Meter {
    stream: Shared,
    /// Read already, to be given out first.
    first: Bytes,
    frames: Frames,
    verdict: Rc<Verdict>,
}

/// The socket, which outlives the engine's connection, so that a reset does not overtake its last word.
pub(crate) type Shared = Rc<RefCell<Stream>>;

/// What the meter found; shared with the connection's task, which acts upon it.
#[derive(Default)]
pub(crate) struct Verdict {
    flood: Cell<Option<Malformed>>,
    waker: Cell<Option<Waker>>,
}

/// Finds the frames in the bytes that pass, and counts them.
struct Frames {
    /// Bytes until the next header: the rest of a payload, or of the client's preface.
    skip: usize,
    header: [u8; 9],
    filled: usize,
    control_max: u32,
    resets_max: u32,
    window: Window,
}

#[derive(Default)]
struct Window {
    began: Option<Instant>,
    control: u32,
    resets: u32,
    streams: u32,
    written: u64,
}

/// Length of a window.
const WINDOW: Duration = Duration::from_secs(10);
/// For so many bytes written, one more control frame is allowed.
const BYTES_PER_FRAME: u64 = 512;

// === impl Meter ===

impl Meter {
    /// `preface` is the number of bytes before the peer's first frame.
    pub(crate) fn new(stream: Shared, first: Bytes, preface: usize, limits: &Limits) -> (Meter, Rc<Verdict>) {
        let frames = Frames {
            skip: preface,
            header: [0; 9],
            filled: 0,
            control_max: limits.h2_control_frames,
            resets_max: limits.h2_resets,
            window: Window::default(),
        };
        let verdict = Rc::new(Verdict::default());
        (Meter { stream, first, frames, verdict: verdict.clone() }, verdict)
    }

    fn count(&mut self, bytes: &[u8]) {
        if let Some(flood) = self.frames.pass(bytes) {
            self.verdict.reached(flood);
        }
    }
}

impl AsyncRead for Meter {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.verdict.flood.get().is_some() {
            // Nothing more of it is read; the connection's task sends GOAWAY and closes.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if this.first.is_empty() {
            ready!(Pin::new(&mut *this.stream.borrow_mut()).poll_read(cx, buffer))?;
        } else {
            let length = this.first.len().min(buffer.remaining());
            buffer.put_slice(&this.first[..length]);
            this.first.advance(length);
        }
        this.count(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Meter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(self.stream.borrow().poll_write(cx, bytes))?;
        self.frames.window.written += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.stream.borrow().poll_write_vectored(cx, slices))?;
        self.frames.window.written += written as u64;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.borrow().shutdown_write())
    }
}

// === impl Verdict ===

impl Verdict {
    fn reached(&self, flood: Malformed) {
        self.flood.set(Some(flood));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The flood that was found; else the task is woken when one is.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Option<Malformed> {
        let found = self.flood.get();
        if found.is_none() {
            let waker = self.waker.take().filter(|w| w.will_wake(cx.waker()));
            self.waker.set(Some(waker.unwrap_or_else(|| cx.waker().clone())));
        }
        found
    }
}

// === impl Frames ===

impl Frames {
    fn pass(&mut self, mut bytes: &[u8]) -> Option<Malformed> {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (9 - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled < 9 {
                return None;
            }
            self.filled = 0;
            let [a, b, c, kind, flags, ..] = self.header;
            self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if let Some(flood) = self.frame(kind, flags) {
                return Some(flood);
            }
        }
    }

    fn frame(&mut self, kind: u8, flags: u8) -> Option<Malformed> {
        const ACK: u8 = 1;
        let window = &mut self.window;
        match kind {
            0 | 9 => return None, // DATA and CONTINUATION have limits in the engine
            1 => {
                window.streams += 1;
                return None;
            }
            3 => {
                window.resets += 1;
                let allowed = self.resets_max.saturating_add(window.streams / 5);
                return window.exceeds(window.resets > allowed).then_some(Malformed::ResetFlood);
            }
            4 | 6 if flags & ACK != 0 => return None,
            _ => window.control += 1,
        }
        let more = u64::from(window.streams) * 2 + window.written / BYTES_PER_FRAME;
        let over = u64::from(window.control) > u64::from(self.control_max) + more;
        window.exceeds(over).then_some(Malformed::ControlFlood)
    }
}

// === impl Window ===

impl Window {
    /// Whether a count over its limit is over it within the window; if the window is over, another one begins.
    fn exceeds(&mut self, over: bool) -> bool {
        let began = self.began.get_or_insert_with(Instant::now);
        if !over {
            return false;
        }
        if began.elapsed() < WINDOW {
            return true;
        }
        *self = Window { began: Some(Instant::now()), ..Window::default() };
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Frames {
        Frames { skip: 3, header: [0; 9], filled: 0, control_max: 5, resets_max: 2, window: Window::default() }
    }

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let mut bytes = vec![0, 0, payload as u8, kind, 0, 0, 0, 0, 1];
        bytes.extend(vec![3; payload]);
        bytes
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = b"PRI".to_vec();
        for _ in 0..5 {
            bytes.extend(frame(6, 8));
            bytes.extend(frame(0, 20));
        }
        for cut in 1..bytes.len() {
            let mut frames = frames();
            assert!(bytes.chunks(cut).all(|piece| frames.pass(piece).is_none()));
            assert_eq!((frames.window.control, frames.skip), (5, 0), "cut every {cut} bytes");
            assert_eq!(frames.pass(&frame(6, 8)), Some(Malformed::ControlFlood));
        }
    }

    #[test]
    fn resets_are_allowed_for_a_fifth_of_the_streams() {
        let mut frames = frames();
        frames.skip = 0;
        for _ in 0..10 {
            assert_eq!(frames.pass(&frame(1, 4)), None);
        }
        for _ in 0..4 {
            assert_eq!(frames.pass(&frame(3, 4)), None);
        }
        assert_eq!(frames.pass(&frame(3, 4)), Some(Malformed::ResetFlood));
    }

    #[test]
    fn whoever_downloads_may_update_windows() {
        let mut frames = frames();
        frames.skip = 0;
        frames.window.written = 100 * BYTES_PER_FRAME;
        assert!((0..100).all(|_| frames.pass(&frame(8, 4)).is_none()));
    }
}

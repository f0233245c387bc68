//! The bodies of one stream, of either side, and the stream as a tunnel.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::time::Instant;

use super::core::Core;
use super::frame::code;
use super::shared::StreamRef;
use super::streams::End;
use crate::body::{Body, BodyLength, Frame};
use crate::error::{Error, ErrorKind, Part, Result, Side};
use crate::fields::Fields;
use crate::limits::Malformed;
use crate::pace::Pace;
use crate::timer::Alarm;

/// A body being read.
pub(crate) struct Incoming {
    stream: StreamRef,
    length: BodyLength,
    /// Given out, and to be given back to the peer's window when more is asked for.
    unreleased: usize,
    ended: bool,
    side: Side,
    alarm: Alarm,
    /// Of a request that has announced its length.
    pace: Option<Pace>,
}

/// A body being written.
pub(super) struct Outgoing {
    stream: StreamRef,
    /// The last piece, kept back so that the end of the stream can go with it.
    held: Bytes,
    /// Bytes announced and not written.
    left: Option<u64>,
    /// The end is on its way.
    ended: bool,
    alarm: Alarm,
    side: Side,
}

/// A stream that carries bytes of a tunnel.
pub(crate) struct Pipe {
    stream: StreamRef,
    unreleased: usize,
    side: Side,
}

// === impl Incoming ===

impl Incoming {
    /// The body of a request. If it is there already, as a whole and not large, nothing of the stream is held, and its
    /// length is known; but nothing is said of the length of a call (gRPC) that its client did not say.
    pub(super) fn request(stream: &StreamRef, length: Option<u64>, is_call: bool) -> Body {
        if let Some(whole) = take_whole(stream, length.is_some() || !is_call) {
            return Body::full(whole);
        }
        let is_paced = stream.with(|core, _| core.limits.body_rate_min > 0) && length.is_some() && !is_call;
        Incoming::held(stream.clone(), length, Side::Downstream, is_paced.then(|| Pace::new(0)))
    }

    /// The body of a response, likewise; one of no announced length is not made one that has it.
    pub(super) fn response(stream: StreamRef, length: Option<u64>) -> Body {
        match take_whole(&stream, length.is_some()) {
            Some(whole) => Body::full(whole),
            None => Incoming::held(stream, length, Side::Upstream, None),
        }
    }

    fn held(stream: StreamRef, length: Option<u64>, side: Side, pace: Option<Pace>) -> Body {
        let length = length.map_or(BodyLength::Unknown, BodyLength::Known);
        let alarm = Alarm::new(stream.alarms());
        Body::h2(Incoming { stream, length, unreleased: 0, ended: false, side, alarm, pace })
    }

    pub(crate) fn length(&self) -> BodyLength {
        if self.ended { BodyLength::Empty } else { self.length }
    }

    fn part(&self) -> Part {
        if self.side == Side::Downstream { Part::RequestBody } else { Part::ResponseBody }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let unreleased = std::mem::take(&mut self.unreleased);
        let polled = self.stream.with(|core, key| {
            if unreleased > 0 {
                // Only now has the reader done with it: that is the back-pressure.
                core.release(key, unreleased);
            }
            core.poll_body(key, cx)
        });
        let Poll::Ready(polled) = polled else {
            let kind = ready!(self.poll_too_late(cx));
            self.ended = true;
            return Poll::Ready(Some(Err(Error::new(kind, self.side))));
        };
        self.alarm.done();
        match &polled {
            Some(Ok(Frame::Data(data))) => {
                self.unreleased = data.len();
                if let Some(pace) = &mut self.pace {
                    pace.received(data.len(), Instant::now);
                }
                if let BodyLength::Known(left) = &mut self.length {
                    *left = left.saturating_sub(data.len() as u64);
                }
            }
            _ => self.ended = true,
        }
        Poll::Ready(polled.map(|frame| frame.map_err(|end| error(end, self.part(), self.side))))
    }

    /// Ready when the peer has been waited for long enough; what that is called.
    fn poll_too_late(&mut self, cx: &mut Context<'_>) -> Poll<ErrorKind> {
        if let Some(pace) = &mut self.pace {
            let until = self.stream.with(|core, _| pace.wait_until(&core.limits, Instant::now));
            ready!(self.alarm.poll_until(cx, until));
            self.stream.with(|core, _| core.strikes.count(Malformed::BodyRate));
            return Poll::Ready(Malformed::BodyRate.into());
        }
        let (beats, idle) = (Cell::new(self.stream.beats()), self.stream.idle());
        ready!(self.alarm.poll(cx, idle, Some(&beats)));
        Poll::Ready(ErrorKind::Timeout(self.part()))
    }
}

/// The whole body, if it is there and not large; one that is not empty only if its length may be known.
fn take_whole(stream: &StreamRef, length_is_known: bool) -> Option<Bytes> {
    const SMALL: usize = 8 * 1024;
    stream.with(|core, key| {
        let receive = &mut core.streams.get(key).receive;
        if receive.ended && receive.trailers.is_none() && !receive.has_data() {
            return Some(Bytes::new());
        }
        if length_is_known { receive.pop_whole(SMALL) } else { None }
    })
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.stream.with(Core::unwanted);
    }
}

// === impl Outgoing ===

impl Outgoing {
    pub(super) fn new(stream: StreamRef, length: BodyLength, side: Side) -> Outgoing {
        let left = match length {
            BodyLength::Empty => Some(0),
            BodyLength::Known(length) => Some(length),
            BodyLength::Unknown => None,
        };
        let alarm = Alarm::new(stream.alarms());
        Outgoing { stream, held: Bytes::new(), left, ended: false, alarm, side }
    }

    /// Takes a piece, which is written with the next one, with [`Outgoing::poll_flush`], or with the end. What was held
    /// before must be written first.
    pub(super) fn hold(&mut self, data: Bytes) -> Result<()> {
        debug_assert!(self.held.is_empty());
        if let Some(left) = &mut self.left {
            let rest = left.checked_sub(data.len() as u64);
            *left = rest.ok_or_else(|| Error::new(ErrorKind::LengthMismatch, Side::Us))?;
        }
        self.held = data;
        Ok(())
    }

    /// Writes what is held, and the end of the stream if this is the end; ready when the peer's window has allowed all
    /// of it.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, end: bool) -> Poll<Result<()>> {
        let polled = self.stream.with(|core, key| {
            if !self.held.is_empty() || (end && !self.ended) {
                ready!(core.poll_sent(key, cx))?;
                self.ended = end;
                core.submit(key, std::mem::take(&mut self.held), end)?;
            }
            core.poll_sent(key, cx)
        });
        if let Poll::Ready(done) = polled {
            self.alarm.done();
            return Poll::Ready(done.map_err(|end| self.error(end)));
        }
        let (beats, idle) = (Cell::new(self.stream.beats()), self.stream.idle());
        ready!(self.alarm.poll(cx, idle, Some(&beats)));
        Poll::Ready(Err(Error::new(ErrorKind::Timeout(self.part()), self.side)))
    }

    /// As [`Outgoing::poll_flush`], and waits.
    pub(super) async fn write(&mut self, end: bool) -> Result<()> {
        poll_fn(|cx| self.poll_flush(cx, end)).await
    }

    /// Writes what is held and the end of the stream, with trailers or without.
    pub(super) async fn end(&mut self, trailers: Option<&Fields>) -> Result<()> {
        if self.left.is_some_and(|left| left > 0) {
            return Err(Error::new(ErrorKind::LengthMismatch, Side::Us));
        }
        self.write(trailers.is_none()).await?;
        let Some(trailers) = trailers else { return Ok(()) };
        self.stream.with(|core, key| core.send_trailers(key, trailers)).map_err(|end| self.error(end))
    }

    fn part(&self) -> Part {
        if self.side == Side::Downstream { Part::ResponseBody } else { Part::RequestBody }
    }

    fn error(&self, end: End) -> Error {
        error(end, self.part(), self.side)
    }

    /// Cuts it off.
    pub(super) fn reset(&self, code: u32) {
        self.stream.reset(code);
    }
}

// === impl Pipe ===

impl Pipe {
    pub(super) fn new(stream: StreamRef, side: Side) -> Pipe {
        Pipe { stream, unreleased: 0, side }
    }

    /// The next bytes; `None` after the peer's last.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let unreleased = std::mem::take(&mut self.unreleased);
        let polled = self.stream.with(|core, key| {
            if unreleased > 0 {
                core.release(key, unreleased);
            }
            core.poll_body(key, cx)
        });
        Poll::Ready(match ready!(polled) {
            Some(Ok(Frame::Data(data))) => {
                self.unreleased = data.len();
                Some(Ok(data))
            }
            Some(Err(end)) => Some(Err(error(end, Part::Tunnel, self.side))),
            // Trailers end a tunnel as well as anything.
            Some(Ok(Frame::Trailers(_))) | None => None,
        })
    }

    /// Writes some of `bytes`, which are taken off it.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &mut Bytes) -> Poll<Result<()>> {
        let written = ready!(self.stream.with(|core, key| core.poll_submit_some(key, bytes, cx)));
        Poll::Ready(written.map_err(|end| error(end, Part::Tunnel, self.side)))
    }

    /// Says that nothing more will be written.
    pub(crate) fn shutdown_write(&mut self) -> Result<()> {
        let ended = self.stream.with(|core, key| match core.streams.get(key).send.ended {
            true => Ok(()),
            false => core.submit(key, Bytes::new(), true),
        });
        ended.map_err(|end| error(end, Part::Tunnel, self.side))
    }

    /// Ends it so that the other end knows that it was cut off.
    pub(crate) fn reset(&self) {
        self.stream.reset(code::CANCEL);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.stream.with(Core::unwanted);
    }
}

/// What the end of a stream before its time means.
pub(super) fn error(end: End, part: Part, side: Side) -> Error {
    let ours = |kind: ErrorKind| Error::new(kind, side);
    match end {
        End::Reset(code::REFUSED_STREAM) if side == Side::Upstream => {
            ours(ErrorKind::Reset(code::REFUSED_STREAM)).unprocessed()
        }
        End::Reset(code) => ours(ErrorKind::Reset(code)),
        End::Unprocessed(code) if side == Side::Upstream => ours(ErrorKind::GoAway(code)).unprocessed(),
        End::Unprocessed(code) => ours(ErrorKind::GoAway(code)),
        End::Malformed(what) => ours(what.into()),
        End::Io(kind) if kind != std::io::ErrorKind::BrokenPipe => ours(ErrorKind::Io(part, kind.into())),
        End::Closed | End::Gone | End::Io(_) => ours(ErrorKind::Closed(part)),
        End::GivenUp => ours(ErrorKind::Dropped),
    }
}

//! The bodies of one stream, of either side.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::h2::{Reason, RecvStream, SendStream};
use bytes::Bytes;

use super::convert;
use crate::body::{BodyLength, Frame};
use crate::error::{Error, ErrorKind, Part, Result, Side};
use crate::fields::Fields;
use crate::timer::{Alarm, Alarms, Pulse, beat};

/// A body being read.
pub(crate) struct Incoming {
    stream: RecvStream,
    length: BodyLength,
    /// Given out, and to be given back to the peer's window when more is asked for.
    unreleased: usize,
    ended: bool,
    side: Side,
    alarm: Alarm,
    idle: Duration,
    pulse: Pulse,
    /// Keeps the connection's count of streams.
    _open: Option<super::client::Open>,
}

/// A body being written, over a stream that the caller holds.
pub(crate) struct Outgoing {
    /// The last piece, kept back so that the end of the stream can go with it.
    held: Bytes,
    /// Bytes announced and not written.
    left: Option<u64>,
    alarm: Alarm,
    /// Beats with every piece written.
    pulse: Pulse,
    part: Part,
}

// === impl Incoming ===

impl Incoming {
    pub(crate) fn new(
        stream: RecvStream,
        fields: &Fields,
        side: Side,
        idle: Duration,
        alarms: &Rc<Alarms>,
        pulse: Pulse,
        open: Option<super::client::Open>,
    ) -> Incoming {
        let length = convert::announced_length(fields).map_or(BodyLength::Unknown, BodyLength::Known);
        Incoming {
            stream,
            length,
            unreleased: 0,
            ended: false,
            side,
            alarm: Alarm::new(alarms),
            idle,
            pulse,
            _open: open,
        }
    }

    pub(crate) fn length(&self) -> BodyLength {
        if self.ended || self.stream.is_end_stream() { BodyLength::Empty } else { self.length }
    }

    fn part(&self) -> Part {
        if self.side == Side::Downstream { Part::RequestBody } else { Part::ResponseBody }
    }

    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.unreleased > 0 {
            // Only now has the reader done with it: that is the back-pressure.
            let _ = self.stream.flow_control().release_capacity(std::mem::take(&mut self.unreleased));
        }
        let Poll::Ready(polled) = self.poll_engine(cx) else {
            ready!(self.alarm.poll(cx, self.idle, self.pulse.as_deref()));
            self.ended = true;
            return Poll::Ready(Some(Err(Error::new(ErrorKind::Timeout(self.part()), self.side))));
        };
        self.alarm.done();
        let frame = polled.map_err(|e| super::error(e, self.part(), self.side));
        match &frame {
            Ok(Some(Frame::Data(data))) => {
                self.unreleased = data.len();
                if let BodyLength::Known(left) = &mut self.length {
                    *left = left.saturating_sub(data.len() as u64);
                }
            }
            _ => self.ended = true,
        }
        Poll::Ready(frame.transpose())
    }

    fn poll_engine(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, ::h2::Error>> {
        loop {
            return Poll::Ready(match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => continue,
                Some(Ok(data)) => Ok(Some(Frame::Data(data))),
                // The peer needed no more of the request than it has: that is an end, not an error.
                Some(Err(error)) => Err(error),
                None => ready!(self.stream.poll_trailers(cx)).map(|map| {
                    let trailers = map.map(|map| convert::trailers(&map))?;
                    (!trailers.is_empty()).then_some(Frame::Trailers(trailers))
                }),
            });
        }
    }
}

// === impl Outgoing ===

impl Outgoing {
    pub(crate) fn new(length: BodyLength, alarms: &Rc<Alarms>, pulse: Pulse, part: Part) -> Outgoing {
        let left = match length {
            BodyLength::Empty => Some(0),
            BodyLength::Known(length) => Some(length),
            BodyLength::Unknown => None,
        };
        Outgoing { held: Bytes::new(), left, alarm: Alarm::new(alarms), pulse, part }
    }

    /// Takes a piece, which is written with the next one, with `flush`, or with the end. What was held before must be
    /// written first ([`Outgoing::poll_flush`]).
    pub(crate) fn hold(&mut self, data: Bytes) -> Result<(), ErrorKind> {
        debug_assert!(self.held.is_empty());
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(data.len() as u64).ok_or(ErrorKind::LengthMismatch)?;
        }
        self.held = data;
        Ok(())
    }

    /// Writes what is held as the peer's window allows.
    pub(crate) fn poll_flush(
        &mut self,
        stream: &mut SendStream<Bytes>,
        cx: &mut Context<'_>,
        idle: Duration,
        end: bool,
    ) -> Poll<Result<(), ErrorKind>> {
        while !self.held.is_empty() {
            stream.reserve_capacity(self.held.len());
            let available = stream.capacity();
            let capacity = if available > 0 {
                available
            } else {
                match stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(capacity))) => capacity,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(reset_kind(error.reason()))),
                    Poll::Ready(None) => {
                        // The stream is gone; the reset says why, if there was one.
                        return Poll::Ready(Err(match stream.poll_reset(cx) {
                            Poll::Ready(Ok(reason)) => ErrorKind::Reset(reason.into()),
                            _ => ErrorKind::Dropped,
                        }));
                    }
                    Poll::Pending => {
                        ready!(self.alarm.poll(cx, idle, None));
                        return Poll::Ready(Err(ErrorKind::Timeout(self.part)));
                    }
                }
            };
            self.alarm.done();
            if let Some(pulse) = &self.pulse {
                beat(pulse);
            }
            let piece = self.held.split_to(capacity.min(self.held.len()));
            let last = end && self.held.is_empty();
            if let Err(error) = stream.send_data(piece, last) {
                return Poll::Ready(Err(reset_kind(error.reason())));
            }
            if last {
                return Poll::Ready(Ok(()));
            }
        }
        if end && let Err(error) = stream.send_data(Bytes::new(), true) {
            return Poll::Ready(Err(reset_kind(error.reason())));
        }
        Poll::Ready(Ok(()))
    }

    /// Whether everything announced was written.
    pub(crate) fn is_complete(&self) -> bool {
        self.left.is_none_or(|left| left == 0)
    }
}

fn reset_kind(reason: Option<Reason>) -> ErrorKind {
    reason.map_or(ErrorKind::Dropped, |reason| ErrorKind::Reset(reason.into()))
}

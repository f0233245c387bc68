//! DATA: bodies, within their windows and the length that was announced.
//!
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

use super::super::core::{Core, Role};
use super::super::feed::Feed;
use super::super::frame::{self, Header, code};
use super::super::streams::{Ended, Piece};
use super::{Fatal, Outcome, State};
use crate::limits::Malformed;

impl Core {
    pub(super) fn data(&mut self, header: Header, padding: Option<u8>) -> Outcome {
        let id = header.stream;
        let padded = padding.map_or(0, |padding| usize::from(padding) + 1);
        if id == 0 || padded > header.length || (header.has(frame::PADDED) && padding.is_none()) || self.is_idle(id) {
            return Err(Fatal::protocol());
        }
        self.receive_window -= header.length as i64;
        if self.receive_window < 0 {
            return Err(Fatal::new(code::FLOW_CONTROL_ERROR));
        }
        let payload = header.length - padded;
        let padding = padded.saturating_sub(1);
        let end = header.has(frame::END_STREAM);
        if let Err(fault) = self.admit(id, header.length, payload, end) {
            self.release_connection(header.length);
            self.inbound.state = State::Skip(payload + padding);
            return match fault {
                Some((code, what)) => self.fault(id, code, what),
                // The windows bound it, as they bound what is welcome.
                None => Ok(()),
            };
        }
        if padded > 0
            && let Some(key) = self.streams.find(id)
        {
            self.release_connection(padded);
            self.release(key, padded);
        }
        self.inbound.state = State::Data { id, left: payload, padding, end };
        Ok(())
    }

    /// Whether a frame of DATA is welcome; else the fault, or `None` where it is dropped without a word.
    fn admit(&mut self, id: u32, length: usize, payload: usize, end: bool) -> Result<(), Option<(u32, Malformed)>> {
        let closed = Some((code::STREAM_CLOSED, Malformed::H2Protocol));
        let Some(key) = self.streams.find(id) else {
            // What ended long ago may have been ended by us.
            let by_them = self.role == Role::Server && self.streams.ended(id) == Ended::ByThem;
            return Err(if by_them { closed } else { None });
        };
        let slot = self.streams.get(key);
        let receive = &mut slot.receive;
        match slot.end {
            Some(_) if slot.reset_by_them => return Err(closed),
            Some(_) => return Err(None),
            None if receive.ended => return Err(closed),
            None if !receive.has_head => return Err(Some((code::PROTOCOL_ERROR, Malformed::H2Protocol))),
            None => {}
        }
        receive.window -= length as i64;
        if receive.window < 0 {
            return Err(Some((code::FLOW_CONTROL_ERROR, Malformed::H2Protocol)));
        }
        if let Some(left) = &mut receive.left {
            match left.checked_sub(payload as u64) {
                Some(rest) if rest == 0 || !end => *left = rest,
                _ => return Err(Some((code::PROTOCOL_ERROR, Malformed::BodyLength))),
            }
        }
        Ok(())
    }

    /// Hands on so many bytes of a payload.
    pub(super) fn deliver(&mut self, id: u32, feed: &mut Feed, length: usize) {
        let wanted = self.streams.find(id).filter(|key| {
            let slot = self.streams.get(*key);
            slot.end.is_none() && !slot.receive.unwanted
        });
        let Some(key) = wanted else {
            feed.consume(length);
            return self.release_connection(length);
        };
        let receive = &mut self.streams.get(key).receive;
        if Piece::is_copied(length, feed.size) {
            receive.push(Piece::Borrowed(&feed.rest()[..length]));
            feed.consume(length);
        } else {
            receive.push(Piece::Shared(feed.share(length)));
        }
        let waker = receive.waker.take();
        self.wakers.extend(waker);
        // At once: whoever reads slowly holds up its own stream, not everybody's.
        self.release_connection(length);
    }

    pub(super) fn body_ended(&mut self, id: u32) {
        if let Some(key) = self.streams.find(id) {
            let receive = &mut self.streams.get(key).receive;
            receive.ended = true;
            let waker = receive.waker.take();
            self.wakers.extend(waker);
            self.settle(key);
        }
    }
}

//! What arrives: frames found in the bytes, checked, and acted upon (RFC 9113 sections 4 to 6).
//!
//! A frame is read whole, but for DATA, whose payload is handed on as it comes. A fault of a stream is answered with a
//! reset and counted; a fault of the connection comes back as [`Fatal`]. What each kind of frame does stands in
//! [`blocks`], [`control`] and [`data`].
//!
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

mod blocks;
mod control;
mod data;

use self::blocks::Block;
use super::core::{Core, Role};
use super::feed::Feed;
use super::frame::{self, Header, code};
use super::head::Request;
use super::streams::End;
use crate::limits::Malformed;

/// Where in the stream of bytes the reader is.
pub(super) struct Inbound {
    state: State,
    /// A block whose end has not come.
    block: Option<Block>,
    /// Streams that the peer may still open before it is others' turn.
    pub(super) openings: u32,
}

enum State {
    /// So many bytes of the preface are missing.
    Preface(usize),
    /// The first frame, which must be SETTINGS.
    First,
    Frame,
    Data {
        id: u32,
        left: usize,
        padding: usize,
        end: bool,
    },
    Skip(usize),
}

/// The connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fatal {
    pub(super) code: u32,
    pub(super) what: Malformed,
}

/// A stream that the client opened.
pub(super) struct Accepted {
    pub(super) key: u32,
    pub(super) request: Request,
    pub(super) has_body: bool,
}

type Outcome<T = ()> = Result<T, Fatal>;

// === impl Inbound ===

impl Inbound {
    pub(super) fn new(role: Role) -> Inbound {
        let state = match role {
            Role::Server => State::Preface(frame::PREFACE.len()),
            Role::Client => State::First,
        };
        Inbound { state, block: None, openings: u32::MAX }
    }

    /// Whether it is in the middle of something that is not the body of a message.
    pub(super) fn is_partial(&self, feed: &Feed) -> bool {
        self.block.is_some() || !matches!(self.state, State::Data { .. } | State::Frame) || !feed.rest().is_empty()
    }
}

// === impl Fatal ===

impl Fatal {
    pub(super) fn new(code: u32) -> Fatal {
        Fatal { code, what: Malformed::H2Protocol }
    }

    fn protocol() -> Fatal {
        Fatal::new(code::PROTOCOL_ERROR)
    }

    fn flood(what: Malformed) -> Fatal {
        Fatal { code: code::ENHANCE_YOUR_CALM, what }
    }
}

fn calm(flood: Option<Malformed>) -> Outcome {
    flood.map_or(Ok(()), |what| Err(Fatal::flood(what)))
}

// === impl Core ===

impl Core {
    /// Reads until a stream is opened, or everything that is there is read, or another stream would be opened than
    /// [`Inbound::openings`] allow.
    pub(super) fn receive(&mut self, feed: &mut Feed) -> Outcome<Option<Accepted>> {
        loop {
            match self.inbound.state {
                State::Preface(missing) => {
                    let from = frame::PREFACE.len() - missing;
                    let length = missing.min(feed.rest().len());
                    if feed.rest()[..length] != frame::PREFACE[from..from + length] {
                        return Err(Fatal::protocol());
                    }
                    feed.consume(length);
                    if length < missing {
                        self.inbound.state = State::Preface(missing - length);
                        return Ok(None);
                    }
                    self.inbound.state = State::First;
                }
                State::Skip(left) => {
                    let length = left.min(feed.rest().len());
                    feed.consume(length);
                    if length < left {
                        self.inbound.state = State::Skip(left - length);
                        return Ok(None);
                    }
                    self.inbound.state = State::Frame;
                }
                State::Data { id, left, padding, end } => {
                    let length = left.min(feed.rest().len());
                    if length > 0 {
                        self.deliver(id, feed, length);
                    }
                    if length < left {
                        self.inbound.state = State::Data { id, left: left - length, padding, end };
                        return Ok(None);
                    }
                    self.inbound.state = if padding > 0 { State::Skip(padding) } else { State::Frame };
                    if end {
                        self.body_ended(id);
                    }
                }
                State::First | State::Frame => {
                    let Some(bytes) = feed.rest().first_chunk() else {
                        feed.expect(frame::HEADER);
                        return Ok(None);
                    };
                    let header = Header::read(bytes);
                    let first = matches!(self.inbound.state, State::First);
                    if first && (header.kind != frame::SETTINGS || header.has(frame::ACK)) {
                        return Err(Fatal::protocol());
                    }
                    if header.length > frame::PAYLOAD_MAX {
                        return Err(Fatal::new(code::FRAME_SIZE_ERROR));
                    }
                    let whole = match header.kind {
                        frame::DATA => usize::from(header.has(frame::PADDED)).min(header.length),
                        _ => header.length,
                    };
                    if feed.rest().len() < frame::HEADER + whole {
                        feed.expect(frame::HEADER + whole);
                        return Ok(None);
                    }
                    if header.kind == frame::HEADERS && header.stream > self.last_id && self.role == Role::Server {
                        match self.inbound.openings.checked_sub(1) {
                            Some(left) => self.inbound.openings = left,
                            None => return Ok(None),
                        }
                    }
                    self.inbound.state = State::Frame;
                    calm(self.meter.frame(header))?;
                    if let Some(accepted) = self.frame(header, feed)? {
                        return Ok(Some(accepted));
                    }
                }
            }
        }
    }

    /// One frame; of DATA the payload stays in the feed.
    fn frame(&mut self, header: Header, feed: &mut Feed) -> Outcome<Option<Accepted>> {
        if self.inbound.block.as_ref().is_some_and(|b| header.kind != frame::CONTINUATION || header.stream != b.id) {
            return Err(Fatal::protocol());
        }
        if header.kind == frame::DATA {
            let padding = feed.rest().get(frame::HEADER).copied().filter(|_| header.has(frame::PADDED));
            feed.consume(frame::HEADER + usize::from(padding.is_some()));
            return self.data(header, padding).map(|()| None);
        }
        let total = frame::HEADER + header.length;
        // The payload is read where it lies; what it changes is elsewhere.
        let bytes = std::mem::take(&mut feed.bytes);
        let payload = &bytes[feed.at + frame::HEADER..feed.at + total];
        let outcome = match header.kind {
            frame::HEADERS => self.headers(header, payload),
            frame::CONTINUATION => self.continuation(header, payload),
            _ => self.control(header, payload).map(|()| None),
        };
        feed.bytes = bytes;
        feed.consume(total);
        outcome
    }

    // --- faults ---

    /// Resets a stream because the peer broke the protocol.
    fn fault(&mut self, id: u32, code: u32, what: Malformed) -> Outcome {
        self.strikes.count(what);
        frame::reset(self.output.frames(), id, code);
        match self.streams.find(id) {
            Some(key) => {
                let slot = self.streams.get(key);
                if !slot.is_over() {
                    slot.end(End::Malformed(what), &mut self.wakers);
                }
                self.settle(key);
            }
            None => self.streams.remember(id, true),
        }
        calm(self.meter.error())
    }

    /// Whether nobody has opened the stream yet.
    fn is_idle(&self, id: u32) -> bool {
        id.is_multiple_of(2)
            || match self.role {
                Role::Server => id > self.last_id,
                Role::Client => id >= self.next_id,
            }
    }
}

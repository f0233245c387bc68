//! What arrives: frames found in the bytes, checked, and acted upon (RFC 9113 sections 4 to 6).
//!
//! A frame is read whole, but for DATA, whose payload is handed on as it comes. A fault of a stream is answered with a
//! reset and counted; a fault of the connection comes back as [`Fatal`].
//!
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

use bytes::{Buf, Bytes, BytesMut};

use super::core::{Core, Leaving, PING_ALIVE, PING_LEAVING, Role};
use super::frame::{self, Header, code, setting};
use super::head::{Collect, Kind, Received, Request};
use super::hpack::Sink;
use super::streams::{End, Ended, Piece};
use crate::body::BodyLength;
use crate::buffer;
use crate::limits::Malformed;
use crate::message::{Method, ResponseHead};

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

struct Block {
    id: u32,
    end: bool,
    frames: u32,
    /// The stream depends on itself.
    loops: bool,
    bytes: Vec<u8>,
}

/// Bytes that were read off the socket.
#[derive(Default)]
pub(super) struct Feed {
    pub(super) bytes: BytesMut,
    at: usize,
    /// Size of the buffer that the bytes lie in: what a piece of them keeps.
    size: usize,
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

/// CONTINUATION frames of a block; what a list may have fits in half as many.
const CONTINUATIONS: u32 = 8;

type Outcome<T = ()> = Result<T, Fatal>;

// === impl Feed ===

impl Feed {
    pub(super) fn new(bytes: BytesMut) -> Feed {
        Feed { size: bytes.capacity(), bytes, at: 0 }
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
        if self.at == self.bytes.len() {
            self.at = 0;
            self.bytes.clear();
        }
    }

    /// Lets go of what was consumed, so that more fits in its place.
    pub(super) fn forget_read(&mut self) {
        self.bytes.advance(std::mem::take(&mut self.at));
    }

    fn share(&mut self, bytes: usize) -> Bytes {
        self.forget_read();
        self.bytes.split_to(bytes).freeze()
    }

    /// Makes room for the rest of a frame.
    fn expect(&mut self, bytes: usize) {
        if self.bytes.capacity() - self.at < bytes {
            self.forget_read();
            self.make_room(bytes - self.bytes.len());
        }
    }

    /// Makes room for so many bytes more.
    pub(super) fn make_room(&mut self, bytes: usize) {
        let before = self.bytes.capacity();
        self.bytes.reserve(bytes);
        if self.bytes.capacity() > before {
            self.size = self.bytes.capacity();
        }
    }

    /// Takes a buffer, if there is none.
    pub(super) fn take_buffer(&mut self) {
        if self.bytes.capacity() == 0 {
            buffer::take_inbound(&mut self.bytes);
            self.size = self.bytes.capacity();
        }
    }
}

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

fn is_tunnel(request: &Request) -> bool {
    request.head.method == Method::Connect
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

    fn control(&mut self, header: Header, payload: &[u8]) -> Outcome {
        match header.kind {
            frame::PRIORITY => self.priority(header, payload),
            frame::RST_STREAM => self.rst_stream(header, payload),
            frame::SETTINGS => self.settings(header, payload),
            frame::PING => self.ping(header, payload),
            frame::GOAWAY => self.goaway(header, payload),
            frame::WINDOW_UPDATE => self.window_update(header, payload),
            // Nobody was allowed to push.
            frame::PUSH_PROMISE => Err(Fatal::protocol()),
            _ => Ok(()),
        }
    }

    // --- DATA ---

    fn data(&mut self, header: Header, padding: Option<u8>) -> Outcome {
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
    fn deliver(&mut self, id: u32, feed: &mut Feed, length: usize) {
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

    fn body_ended(&mut self, id: u32) {
        if let Some(key) = self.streams.find(id) {
            let receive = &mut self.streams.get(key).receive;
            receive.ended = true;
            let waker = receive.waker.take();
            self.wakers.extend(waker);
            self.settle(key);
        }
    }

    // --- HEADERS and CONTINUATION ---

    fn headers(&mut self, header: Header, payload: &[u8]) -> Outcome<Option<Accepted>> {
        if header.stream == 0 || header.stream.is_multiple_of(2) {
            return Err(Fatal::protocol());
        }
        let mut fragment = frame::unpadded(header, payload).ok_or(Fatal::protocol())?;
        let mut loops = false;
        if header.has(frame::HAS_PRIORITY) {
            let (priority, rest) = fragment.split_at_checked(5).ok_or(Fatal::new(code::FRAME_SIZE_ERROR))?;
            loops = frame::number(priority) & frame::MAX == header.stream;
            fragment = rest;
        }
        let end = header.has(frame::END_STREAM);
        if header.has(frame::END_HEADERS) {
            return self.block(header.stream, end, loops, fragment);
        }
        let bytes = fragment.to_vec();
        self.inbound.block = Some(Block { id: header.stream, end, frames: 0, loops, bytes });
        Ok(None)
    }

    fn continuation(&mut self, header: Header, payload: &[u8]) -> Outcome<Option<Accepted>> {
        let most = self.limits.h2_field_list_bytes as usize + frame::PAYLOAD_MAX;
        let block = self.inbound.block.as_mut().ok_or(Fatal::protocol())?;
        block.frames += 1;
        if block.frames > CONTINUATIONS || block.bytes.len() + payload.len() > most {
            return Err(Fatal::flood(Malformed::HeadTooLarge));
        }
        block.bytes.extend_from_slice(payload);
        if !header.has(frame::END_HEADERS) {
            return Ok(None);
        }
        let Some(block) = self.inbound.block.take() else { return Ok(None) };
        self.block(block.id, block.end, block.loops, &block.bytes)
    }

    /// A whole block. It is decoded whatever becomes of it, so that the tables of both ends stay the same.
    fn block(&mut self, id: u32, end: bool, loops: bool, block: &[u8]) -> Outcome<Option<Accepted>> {
        let key = self.streams.find(id);
        let kind = match (key, self.role) {
            (Some(key), _) if self.streams.get(key).receive.has_head => Kind::Trailers,
            (_, Role::Server) => Kind::Request,
            (_, Role::Client) => Kind::Response,
        };
        let mut collect = Collect::new(kind, &self.limits);
        self.decoder.decode(block, &mut collect).map_err(|_| match collect.is_hopeless() {
            true => Fatal::flood(Malformed::HeadTooLarge),
            false => Fatal::new(code::COMPRESSION_ERROR),
        })?;
        let Some(key) = key else { return self.block_without_stream(id, end, loops, collect) };
        let slot = self.streams.get(key);
        match slot.end {
            Some(_) if slot.reset_by_them => return Err(Fatal::new(code::STREAM_CLOSED)),
            Some(_) => return calm(self.meter.swallowed()).map(|()| None),
            None if slot.receive.ended => {
                return self.fault(id, code::STREAM_CLOSED, Malformed::H2Protocol).map(|()| None);
            }
            None => {}
        }
        let outcome = match kind {
            _ if loops => Err(Malformed::H2Protocol),
            Kind::Trailers => self.trailers(key, end, collect),
            Kind::Response | Kind::Request => match collect.response() {
                Ok(received) => self.response(key, end, received),
                Err(what) => Err(what),
            },
        };
        match outcome {
            Ok(()) => Ok(None),
            Err(what) => self.fault(id, code::PROTOCOL_ERROR, what).map(|()| None),
        }
    }

    fn block_without_stream(&mut self, id: u32, end: bool, loops: bool, collect: Collect) -> Outcome<Option<Accepted>> {
        if self.role == Role::Client {
            // An answer that nobody waits for any more.
            return if self.is_idle(id) { Err(Fatal::protocol()) } else { calm(self.meter.swallowed()).map(|()| None) };
        }
        if id <= self.last_id {
            return match self.streams.ended(id) {
                Ended::ByUs | Ended::Forgotten => calm(self.meter.swallowed()).map(|()| None),
                Ended::ByThem => Err(Fatal::new(code::STREAM_CLOSED)),
                Ended::Never => Err(Fatal::protocol()),
            };
        }
        self.last_id = id;
        if matches!(self.leaving, Leaving::Final(_)) {
            self.streams.remember(id, true);
            return Ok(None);
        }
        let most = self.limits.h2_streams as usize;
        // Those that a reset ended count until their handlers are gone.
        if self.streams.open as usize >= most || self.streams.len() >= 2 * most + self.limits.h2_pending_resets {
            self.streams.remember(id, true);
            frame::reset(self.output.frames(), id, code::REFUSED_STREAM);
            return calm(self.meter.swallowed()).map(|()| None);
        }
        let request = match collect.request() {
            _ if loops => Err(Malformed::H2Protocol),
            Ok(request) if end && request.length.is_some_and(|length| length > 0) && !is_tunnel(&request) => {
                Err(Malformed::BodyLength)
            }
            collected => collected,
        };
        let request = match request {
            Ok(request) => request,
            Err(what @ (Malformed::HeadTooLarge | Malformed::TooManyFields)) => {
                return self.too_large(id, end, what).map(|()| None);
            }
            Err(what) => return self.fault(id, code::PROTOCOL_ERROR, what).map(|()| None),
        };
        let key = self.streams.open(id, self.stream_window, self.peer.stream_window);
        let receive = &mut self.streams.get(key).receive;
        receive.has_head = true;
        receive.ended = end;
        // What goes through a tunnel is no content (RFC 9110 section 9.3.6).
        receive.left = request.length.filter(|_| !is_tunnel(&request));
        Ok(Some(Accepted { key, request, has_body: !end }))
    }

    /// The one fault of a request that has an answer of its own.
    fn too_large(&mut self, id: u32, end: bool, what: Malformed) -> Outcome {
        self.strikes.count(what);
        self.streams.remember(id, true);
        let head = ResponseHead::new(what.status());
        frame::headers(self.output.frames(), id, true, &mut self.encoder, |encoder, out| {
            super::head::write_response(encoder, out, &head, BodyLength::Empty, false);
        });
        if !end {
            frame::reset(self.output.frames(), id, code::NO_ERROR);
        }
        calm(self.meter.error())
    }

    fn trailers(&mut self, key: u32, end: bool, collect: Collect) -> Result<(), Malformed> {
        if !end {
            return Err(Malformed::Trailers);
        }
        let trailers = collect.trailers()?;
        let receive = &mut self.streams.get(key).receive;
        if receive.left.is_some_and(|left| left > 0) {
            return Err(Malformed::BodyLength);
        }
        if !trailers.is_empty() && !receive.unwanted {
            receive.trailers = Some(trailers);
        }
        receive.ended = true;
        let waker = receive.waker.take();
        self.wakers.extend(waker);
        self.settle(key);
        Ok(())
    }

    fn response(&mut self, key: u32, end: bool, received: Received) -> Result<(), Malformed> {
        let most = self.limits.informationals;
        let receive = &mut self.streams.get(key).receive;
        let status = received.head.status;
        if received.head.is_informational() {
            if end {
                return Err(Malformed::H2Protocol);
            }
            if receive.informationals.len() >= most {
                return Err(Malformed::Informationals);
            }
            receive.informationals.push_back(received.head);
        } else {
            let bodiless = receive.bodiless || matches!(status, 204 | 304);
            let tunnel = receive.connect && matches!(status, 200..300);
            if end && !tunnel && !bodiless && received.length.unwrap_or(0) > 0 {
                return Err(Malformed::BodyLength);
            }
            receive.has_head = true;
            receive.ended = end;
            receive.left = match (tunnel, bodiless) {
                (true, _) => None,
                (false, true) => Some(0),
                (false, false) => received.length,
            };
            receive.head = Some(Box::new(received));
        }
        let waker = receive.waker.take();
        self.wakers.extend(waker);
        if end {
            self.settle(key);
        }
        Ok(())
    }

    // --- the other frames ---

    fn priority(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if header.stream == 0 {
            return Err(Fatal::protocol());
        }
        if payload.len() != 5 {
            return Err(Fatal::new(code::FRAME_SIZE_ERROR));
        }
        if frame::number(payload) & frame::MAX == header.stream {
            return Err(Fatal::protocol());
        }
        Ok(())
    }

    fn rst_stream(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if payload.len() != 4 {
            return Err(Fatal::new(code::FRAME_SIZE_ERROR));
        }
        if header.stream == 0 || self.is_idle(header.stream) {
            return Err(Fatal::protocol());
        }
        let Some(key) = self.streams.find(header.stream) else {
            self.streams.reset_by_both(header.stream);
            return Ok(());
        };
        let slot = self.streams.get(key);
        if !slot.is_over() {
            slot.end(End::Reset(frame::number(payload)), &mut self.wakers);
        }
        slot.reset_by_them = true;
        self.settle(key);
        Ok(())
    }

    fn settings(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if header.stream != 0 {
            return Err(Fatal::protocol());
        }
        if header.has(frame::ACK) {
            if !payload.is_empty() {
                return Err(Fatal::new(code::FRAME_SIZE_ERROR));
            }
            self.settings_acknowledged();
            return Ok(());
        }
        let (entries, []) = payload.as_chunks::<6>() else { return Err(Fatal::new(code::FRAME_SIZE_ERROR)) };
        // A server that does not say how many streams it takes takes any number; what is kept here has a limit.
        let mut streams = if self.peer.settled { self.peer.streams } else { STREAMS_MAX };
        let mut window = None;
        for [a, b, value @ ..] in entries {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                setting::HEADER_TABLE_SIZE => self.encoder.set_size_max(value),
                setting::ENABLE_PUSH if value > u32::from(self.role == Role::Server) => return Err(Fatal::protocol()),
                setting::MAX_CONCURRENT_STREAMS => streams = value.min(STREAMS_MAX),
                setting::INITIAL_WINDOW_SIZE if value > frame::MAX => {
                    return Err(Fatal::new(code::FLOW_CONTROL_ERROR));
                }
                setting::INITIAL_WINDOW_SIZE => window = Some(value),
                setting::MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => return Err(Fatal::protocol()),
                _ => {}
            }
        }
        // Once, however often a frame says it: it touches every stream.
        if let Some(window) = window {
            self.initial_window(window)?;
        }
        self.peer.streams = streams;
        self.peer.settled = true;
        self.wake_waiting();
        frame::settings_ack(self.output.frames());
        Ok(())
    }

    fn initial_window(&mut self, value: u32) -> Outcome {
        let by = i64::from(value) - self.peer.stream_window;
        self.peer.stream_window = i64::from(value);
        for key in self.streams.keys() {
            let window = &mut self.streams.get(key).send.window;
            *window += by;
            if *window > i64::from(frame::MAX) {
                return Err(Fatal::new(code::FLOW_CONTROL_ERROR));
            }
            self.unblock(key);
        }
        Ok(())
    }

    /// The peer has our window now; ours of open streams change as its do.
    fn settings_acknowledged(&mut self) {
        let window = i64::from(self.limits.h2_stream_window.min(frame::MAX));
        let by = window - self.stream_window;
        if by != 0 {
            self.stream_window = window;
            for key in self.streams.keys() {
                self.streams.get(key).receive.window += by;
            }
        }
    }

    fn ping(&mut self, header: Header, payload: &[u8]) -> Outcome {
        let payload: [u8; 8] = payload.try_into().map_err(|_| Fatal::new(code::FRAME_SIZE_ERROR))?;
        if header.stream != 0 {
            return Err(Fatal::protocol());
        }
        match (header.has(frame::ACK), payload) {
            (false, payload) => frame::ping(self.output.frames(), frame::ACK, payload),
            (true, PING_LEAVING) if self.leaving == Leaving::Announced => self.leave_now(),
            (true, PING_ALIVE) => self.ponged = true,
            (true, _) => {}
        }
        Ok(())
    }

    fn goaway(&mut self, header: Header, payload: &[u8]) -> Outcome {
        let (Some(last), Some(code)) = (payload.first_chunk(), payload.get(4..8)) else {
            return Err(Fatal::new(code::FRAME_SIZE_ERROR));
        };
        if header.stream != 0 {
            return Err(Fatal::protocol());
        }
        let (last, code) = (u32::from_be_bytes(*last) & frame::MAX, frame::number(code));
        self.peer.leaves = true;
        self.wake_waiting();
        if self.role == Role::Client {
            for key in self.streams.keys() {
                let slot = self.streams.get(key);
                if slot.id > last && !slot.is_over() {
                    slot.end(End::Unprocessed(code), &mut self.wakers);
                    self.settle(key);
                }
            }
        }
        Ok(())
    }

    fn window_update(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if payload.len() != 4 {
            return Err(Fatal::new(code::FRAME_SIZE_ERROR));
        }
        let by = i64::from(frame::number(payload) & frame::MAX);
        let most = i64::from(frame::MAX);
        if header.stream == 0 {
            self.send_window += by;
            return match by {
                0 => Err(Fatal::protocol()),
                _ if self.send_window > most => Err(Fatal::new(code::FLOW_CONTROL_ERROR)),
                _ => Ok(()),
            };
        }
        if self.is_idle(header.stream) {
            return Err(Fatal::protocol());
        }
        if by == 0 {
            return self.fault(header.stream, code::PROTOCOL_ERROR, Malformed::H2Protocol);
        }
        let Some(key) = self.streams.find(header.stream) else { return Ok(()) };
        let slot = self.streams.get(key);
        if slot.is_over() {
            return Ok(());
        }
        slot.send.window += by;
        if slot.send.window > most {
            return self.fault(header.stream, code::FLOW_CONTROL_ERROR, Malformed::H2Protocol);
        }
        self.unblock(key);
        Ok(())
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

/// Streams that this end opens on one connection at most.
const STREAMS_MAX: u32 = 10_000;

//! HEADERS and CONTINUATION: heads and trailers, and the streams that they open.
//!
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

use super::super::core::{Core, Leaving, Role};
use super::super::frame::{self, Header, code};
use super::super::head::{self, Collect, Kind, Received, Request};
use super::super::hpack::Sink;
use super::super::streams::Ended;
use super::{Accepted, Fatal, Outcome, calm};
use crate::body::BodyLength;
use crate::limits::Malformed;
use crate::message::{Method, ResponseHead};

/// A block whose end has not come.
pub(super) struct Block {
    pub(super) id: u32,
    end: bool,
    frames: u32,
    /// The stream depends on itself.
    loops: bool,
    bytes: Vec<u8>,
}

/// CONTINUATION frames of a block; what a list may have fits in half as many.
const CONTINUATIONS: u32 = 8;

impl Core {
    pub(super) fn headers(&mut self, header: Header, payload: &[u8]) -> Outcome<Option<Accepted>> {
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

    pub(super) fn continuation(&mut self, header: Header, payload: &[u8]) -> Outcome<Option<Accepted>> {
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
            head::write_response(encoder, out, &head, BodyLength::Empty, false);
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
}

fn is_tunnel(request: &Request) -> bool {
    request.head.method == Method::Connect
}

//! The state of one connection, of either role, without its socket: bytes in, events and bytes out.
//!
//! What arrives is read in [`super::receive`]; here is what the holders of streams do, and what both halves share. Nothing
//! here waits: who must is registered and found in `wakers`, which the caller wakes once the state is no longer borrowed.
//!
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::frame::{self, code, setting};
use super::head::{self, Received};
use super::hpack::{Decoder, Encoder};
use super::meter::Meter;
use super::output::Output;
use super::readers::Readers;
use super::receive::Inbound;
use super::streams::{End, Streams, register};
use crate::body::{BodyLength, Frame};
use crate::error::Result;
use crate::fields::Fields;
use crate::limits::{Limits, Malformed, Strikes};
use crate::message::{Method, RequestHead, ResponseHead};

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

/// A connection.
pub(super) struct Core {
    pub(super) role: Role,
    pub(super) limits: Limits,
    pub(super) strikes: Arc<Strikes>,
    pub(super) streams: Streams,
    pub(super) inbound: Inbound,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) output: Output,
    pub(super) meter: Meter,
    pub(super) readers: Readers,
    /// What the peer takes of DATA.
    pub(super) send_window: i64,
    /// What the peer may send of DATA.
    pub(super) receive_window: i64,
    /// Read, and to be given back to the peer's window.
    credit: u32,
    /// The window of new streams as the peer sees it: ours once it has acknowledged the settings.
    pub(super) stream_window: i64,
    pub(super) peer: Peer,
    /// The last stream that the peer opened.
    pub(super) last_id: u32,
    /// The next stream that we open.
    pub(super) next_id: u32,
    pub(super) leaving: Leaving,
    /// The connection is over.
    pub(super) end: Option<End>,
    /// To be woken by whoever borrowed the state.
    pub(super) wakers: Vec<Waker>,
    /// Those who wait until the peer takes another stream, in the order in which they came.
    waiting: VecDeque<(u64, Option<Waker>)>,
    tickets: u64,
    /// The connection's task has something to write.
    pub(super) kicked: bool,
    pub(super) driver: Option<Waker>,
    /// Nobody holds the client's connection any more.
    pub(super) abandoned: bool,
    /// The answer to the last keepalive came.
    pub(super) ponged: bool,
}

/// What the peer has said.
pub(super) struct Peer {
    pub(super) stream_window: i64,
    pub(super) streams: u32,
    /// Its settings came.
    pub(super) settled: bool,
    /// It said GOAWAY.
    pub(super) leaves: bool,
}

/// How far this end is with leaving (RFC 9113 section 6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// GOAWAY was sent that still allows every stream, and a PING whose answer says that it arrived.
    Announced,
    /// Streams after this one are not served any more.
    Final(u32),
}

/// As much may wait to be written before streams have to wait.
const OUTPUT_MAX: usize = 64 * 1024;
/// With more waiting nothing is read any more: whoever does not read answers gets no further ones.
const ANSWERS_MAX: usize = 4 * OUTPUT_MAX;
/// Payloads of our PINGs.
pub(super) const PING_LEAVING: [u8; 8] = *b"leaving?";
pub(super) const PING_ALIVE: [u8; 8] = *b"alive?\0\0";

// === impl Core ===

impl Core {
    /// A connection whose first bytes are waiting to be written.
    pub(super) fn new(role: Role, limits: &Limits, strikes: &Arc<Strikes>) -> Core {
        let mut core = Core {
            role,
            limits: limits.clone(),
            strikes: strikes.clone(),
            streams: Streams::default(),
            inbound: Inbound::new(role),
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            output: Output::default(),
            meter: Meter::new(role, limits),
            readers: Readers::new(limits),
            send_window: i64::from(frame::WINDOW),
            receive_window: i64::from(frame::WINDOW),
            credit: 0,
            stream_window: i64::from(frame::WINDOW),
            peer: Peer {
                stream_window: i64::from(frame::WINDOW),
                streams: if role == Role::Client { limits.h2_streams } else { 0 },
                settled: false,
                leaves: false,
            },
            last_id: 0,
            next_id: 1,
            leaving: Leaving::No,
            end: None,
            wakers: Vec::new(),
            waiting: VecDeque::new(),
            tickets: 0,
            kicked: false,
            driver: None,
            abandoned: false,
            ponged: false,
        };
        core.greet();
        core
    }

    fn greet(&mut self) {
        let limits = &self.limits;
        let frames = self.output.frames();
        let own = match self.role {
            Role::Server => (setting::MAX_CONCURRENT_STREAMS, limits.h2_streams),
            Role::Client => (setting::ENABLE_PUSH, 0),
        };
        if self.role == Role::Client {
            frames.extend_from_slice(frame::PREFACE);
        }
        let window = (setting::INITIAL_WINDOW_SIZE, limits.h2_stream_window.min(frame::MAX));
        let list = (setting::MAX_HEADER_LIST_SIZE, limits.h2_field_list_bytes);
        frame::settings(frames, &[own, window, list]);
        let more = limits.h2_connection_window.min(frame::MAX).saturating_sub(frame::WINDOW);
        if more > 0 {
            frame::window_update(frames, 0, more);
            self.receive_window += i64::from(more);
        }
    }

    /// Tells the connection's task that there is something to write.
    pub(super) fn kick(&mut self) {
        if !self.kicked {
            self.kicked = true;
            if let Some(driver) = &self.driver {
                driver.wake_by_ref();
            }
        }
    }

    /// Whether so much waits to be written that nothing more is read.
    pub(super) fn is_choked(&self) -> bool {
        self.output.len() > ANSWERS_MAX
    }

    /// Ends every stream and the connection.
    pub(super) fn finish(&mut self, end: End) {
        self.end.get_or_insert(end);
        for key in self.streams.keys() {
            let slot = self.streams.get(key);
            if !slot.is_over() {
                slot.end(end, &mut self.wakers);
            }
            self.settle(key);
        }
        self.wake_waiting();
    }

    // --- leaving ---

    /// Says that no further streams shall come; those on their way are served.
    pub(super) fn leave(&mut self) {
        if self.leaving != Leaving::No {
            return;
        }
        self.leaving = Leaving::Announced;
        let frames = self.output.frames();
        frame::goaway(frames, frame::MAX, code::NO_ERROR, "");
        frame::ping(frames, 0, PING_LEAVING);
    }

    /// Says which stream is the last.
    pub(super) fn leave_now(&mut self) {
        if !matches!(self.leaving, Leaving::Final(_)) {
            self.leaving = Leaving::Final(self.last_id);
            frame::goaway(self.output.frames(), self.last_id, code::NO_ERROR, "");
        }
    }

    /// Ends the connection because the peer broke the protocol.
    pub(super) fn condemn(&mut self, code: u32, what: Malformed) {
        // What was said before stands: the id never rises (RFC 9113 section 6.8).
        let last = if let Leaving::Final(last) = self.leaving { last } else { self.last_id };
        self.leaving = Leaving::Final(last);
        frame::goaway(self.output.frames(), last, code, what.reason());
        self.finish(End::Malformed(what));
    }

    /// Whether everything that was begun is done, by this end's will or by the peer's.
    pub(super) fn is_done(&self) -> bool {
        let over = matches!(self.leaving, Leaving::Final(_)) || self.peer.leaves || self.abandoned;
        over && self.streams.len() == 0
    }

    // --- sending ---

    /// Whether the client may open a stream.
    pub(super) fn can_open(&self) -> Result<bool, End> {
        if let Some(end) = self.end {
            return Err(end);
        }
        if self.peer.leaves || self.leaving != Leaving::No || self.next_id > frame::MAX {
            return Err(End::Unprocessed(code::NO_ERROR));
        }
        Ok(self.streams.open < self.peer.streams)
    }

    /// Whether the client may open a stream now, and nobody else waits for one.
    pub(super) fn can_open_at_once(&self) -> Result<bool, End> {
        self.can_open().map(|can| can && self.waiting.is_empty())
    }

    /// A place among those who wait for a stream; to be given back with [`Core::stop_waiting`].
    pub(super) fn wait(&mut self) -> u64 {
        self.tickets += 1;
        self.waiting.push_back((self.tickets, None));
        self.tickets
    }

    /// Ready when it is this one's turn to open a stream.
    pub(super) fn poll_turn(&mut self, ticket: u64, cx: &Context<'_>) -> Poll<Result<(), End>> {
        if let Err(end) = self.can_open() {
            return Poll::Ready(Err(end));
        }
        let free = self.peer.streams.saturating_sub(self.streams.open) as usize;
        match self.waiting.iter_mut().position(|(waiting, _)| *waiting == ticket) {
            Some(place) if place >= free => {
                register(&mut self.waiting[place].1, cx);
                Poll::Pending
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn stop_waiting(&mut self, ticket: u64) {
        self.waiting.retain(|(waiting, _)| *waiting != ticket);
        self.wake_waiting();
    }

    /// Wakes as many as may open a stream; all of them when none ever may.
    pub(super) fn wake_waiting(&mut self) {
        let free = match self.can_open() {
            Ok(_) => self.peer.streams.saturating_sub(self.streams.open) as usize,
            Err(_) => usize::MAX,
        };
        self.wakers.extend(self.waiting.iter_mut().take(free).filter_map(|(_, waker)| waker.take()));
    }

    /// Opens a stream with this request, which passed [`head::check_request`].
    pub(super) fn open(&mut self, request: &RequestHead, length: BodyLength, end: bool) -> u32 {
        let id = self.next_id;
        self.next_id += 2;
        let key = self.streams.open(id, self.stream_window, self.peer.stream_window);
        let slot = self.streams.get(key);
        slot.receive.bodiless = request.method == Method::Head;
        slot.receive.connect = request.method == Method::Connect;
        slot.send.ended = end;
        frame::headers(self.output.frames(), id, end, &mut self.encoder, |encoder, out| {
            head::write_request(encoder, out, request, length);
        });
        self.kick();
        key
    }

    /// Sends the head of a response, informational or final.
    pub(super) fn respond(
        &mut self,
        key: u32,
        head: &ResponseHead,
        length: BodyLength,
        keep_length: bool,
        end: bool,
    ) -> Result<(), End> {
        self.send_headers(key, end, |encoder, out| head::write_response(encoder, out, head, length, keep_length))
    }

    /// Sends trailers, which end the stream. Everything before them is sent.
    pub(super) fn send_trailers(&mut self, key: u32, trailers: &Fields) -> Result<(), End> {
        self.send_headers(key, true, |encoder, out| head::write_trailers(encoder, out, trailers))
    }

    fn send_headers(&mut self, key: u32, end: bool, write: impl FnOnce(&mut Encoder, &mut Vec<u8>)) -> Result<(), End> {
        let slot = self.streams.get(key);
        if let Some(end) = slot.end.or(slot.send.ended.then_some(End::GivenUp)) {
            return Err(end);
        }
        debug_assert!(slot.send.pending.is_empty());
        slot.send.ended = end;
        slot.send.beats = slot.send.beats.wrapping_add(1);
        frame::headers(self.output.frames(), slot.id, end, &mut self.encoder, write);
        self.kick();
        if end {
            self.settle(key);
        }
        Ok(())
    }

    /// Takes a piece of the body, or its end, or both, and sends as much as is allowed; the rest is sent when it is. What
    /// was taken before must be sent ([`Core::poll_sent`]).
    pub(super) fn submit(&mut self, key: u32, data: Bytes, end: bool) -> Result<(), End> {
        let slot = self.streams.get(key);
        if let Some(end) = slot.end.or(slot.send.ended.then_some(End::GivenUp)) {
            return Err(end);
        }
        debug_assert!(slot.send.pending.is_empty() || data.is_empty());
        if !data.is_empty() {
            slot.send.pending = data;
        }
        slot.send.end = end;
        while self.send_frame(key) {}
        let slot = self.streams.get(key);
        if !slot.send.pending.is_empty() {
            self.readers.due |= slot.send.uptake.is_some();
            if slot.send.window > 0 && !slot.send.queued {
                slot.send.queued = true;
                self.streams.queue.push_back(key);
            }
        }
        self.kick();
        Ok(())
    }

    /// Takes as much of `data` as may leave now; when nothing may, the task is woken when something does.
    pub(super) fn poll_submit_some(&mut self, key: u32, data: &mut Bytes, cx: &Context<'_>) -> Poll<Result<(), End>> {
        let room = self.room();
        let slot = self.streams.get(key);
        if let Some(end) = slot.end.or(slot.send.ended.then_some(End::GivenUp)) {
            return Poll::Ready(Err(end));
        }
        // One frame at most, so that nothing of it stays behind.
        let allowed = slot.send.window.min(self.send_window).min(room as i64).min(frame::PAYLOAD_MAX as i64);
        if allowed <= 0 || !slot.send.pending.is_empty() {
            register(&mut slot.send.waker, cx);
            if slot.send.window > 0 && !slot.send.queued {
                slot.send.queued = true;
                self.streams.queue.push_back(key);
                self.kick();
            }
            return Poll::Pending;
        }
        let piece = data.split_to(data.len().min(allowed as usize));
        Poll::Ready(self.submit(key, piece, false))
    }

    /// Ready when everything that was taken is on its way.
    pub(super) fn poll_sent(&mut self, key: u32, cx: &Context<'_>) -> Poll<Result<(), End>> {
        let slot = self.streams.get(key);
        match slot.end {
            Some(end) => Poll::Ready(Err(end)),
            None if slot.send.pending.is_empty() => Poll::Ready(Ok(())),
            None => {
                register(&mut slot.send.waker, cx);
                Poll::Pending
            }
        }
    }

    fn room(&self) -> usize {
        OUTPUT_MAX.saturating_sub(self.output.len())
    }

    /// Sends one frame of what is pending, or the end of the stream; says whether there is more that may leave.
    fn send_frame(&mut self, key: u32) -> bool {
        let room = self.room();
        let slot = self.streams.get(key);
        let send = &mut slot.send;
        let allowed = send.window.min(self.send_window).min(room as i64).min(frame::PAYLOAD_MAX as i64).max(0) as usize;
        let length = send.pending.len().min(allowed);
        let last = length == send.pending.len();
        if length == 0 && !(last && send.end) {
            return false;
        }
        let payload = if last { std::mem::take(&mut send.pending) } else { send.pending.split_to(length) };
        send.window -= length as i64;
        self.send_window -= length as i64;
        send.beats = send.beats.wrapping_add(1);
        self.meter.sent_data();
        self.readers.sent(send, length);
        let end = last && std::mem::take(&mut send.end);
        send.ended |= end;
        self.output.data(slot.id, payload, end);
        if end {
            self.settle(key);
        }
        !last
    }

    /// Sends for the streams that are blocked, a frame for each in turn, as windows and room allow; wakes the writers of
    /// those that are through. Says whether something was sent.
    pub(super) fn pump(&mut self) -> bool {
        let mut sent = false;
        while self.send_window > 0
            && self.room() > 0
            && let Some(key) = self.streams.queue.pop_front()
        {
            let slot = self.streams.get(key);
            slot.send.queued = false;
            if slot.end.is_some() {
                continue;
            }
            if slot.send.pending.is_empty() {
                // It waits for room only ([`Core::poll_submit_some`]).
                self.wakers.extend(slot.send.waker.take());
                continue;
            }
            sent = true;
            let more = self.send_frame(key);
            let slot = self.streams.get(key);
            if !more {
                self.wakers.extend(slot.send.waker.take());
            } else if slot.send.window > 0 {
                slot.send.queued = true;
                self.streams.queue.push_back(key);
            }
        }
        sent
    }

    /// The peer takes more of a stream.
    pub(super) fn unblock(&mut self, key: u32) {
        let slot = self.streams.get(key);
        if slot.send.window <= 0 || slot.send.queued {
            return;
        }
        if slot.send.pending.is_empty() {
            self.wakers.extend(slot.send.waker.take());
        } else {
            slot.send.queued = true;
            self.streams.queue.push_back(key);
        }
    }

    /// Ends a stream before its time, of our own will.
    pub(super) fn reset(&mut self, key: u32, code: u32) {
        let slot = self.streams.get(key);
        if slot.is_over() {
            return;
        }
        let id = slot.id;
        slot.end(End::GivenUp, &mut self.wakers);
        slot.receive.clear();
        frame::reset(self.output.frames(), id, code);
        self.kick();
        self.settle(key);
    }

    // --- receiving ---

    /// The next head of a response.
    pub(super) fn poll_head(&mut self, key: u32, cx: &Context<'_>) -> Poll<Result<Box<Received>, End>> {
        let slot = self.streams.get(key);
        if let Some(head) = slot.receive.informationals.pop_front() {
            return Poll::Ready(Ok(Box::new(Received { head, length: None })));
        }
        if let Some(head) = slot.receive.head.take() {
            return Poll::Ready(Ok(head));
        }
        match slot.end {
            Some(end) => Poll::Ready(Err(end)),
            None => {
                register(&mut slot.receive.waker, cx);
                Poll::Pending
            }
        }
    }

    /// The next frame of a body. What it has of data is to be given back ([`Core::release`]).
    pub(super) fn poll_body(&mut self, key: u32, cx: &Context<'_>) -> Poll<Option<Result<Frame, End>>> {
        let slot = self.streams.get(key);
        let receive = &mut slot.receive;
        if let Some(data) = receive.pop() {
            return Poll::Ready(Some(Ok(Frame::Data(data))));
        }
        if let Some(trailers) = receive.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
        }
        if receive.ended {
            return Poll::Ready(None);
        }
        match slot.end {
            Some(end) => Poll::Ready(Some(Err(end))),
            None => {
                register(&mut receive.waker, cx);
                Poll::Pending
            }
        }
    }

    /// Gives so many bytes back to the peer's window of the stream; to that of the connection they went when they came.
    pub(super) fn release(&mut self, key: u32, bytes: usize) {
        let window = self.limits.h2_stream_window;
        let slot = self.streams.get(key);
        if !slot.receive.ended && slot.end.is_none() {
            slot.receive.credit += bytes as u32;
            if slot.receive.credit >= (window / 2).max(1) {
                let credit = std::mem::take(&mut slot.receive.credit);
                slot.receive.window += i64::from(credit);
                frame::window_update(self.output.frames(), slot.id, credit);
                self.kick();
            }
        }
    }

    /// Gives so many bytes back to the peer's window of the connection.
    pub(super) fn release_connection(&mut self, bytes: usize) {
        self.credit += bytes as u32;
        if self.credit >= (self.limits.h2_connection_window.max(frame::WINDOW) / 2).max(1) {
            let credit = std::mem::take(&mut self.credit);
            self.receive_window += i64::from(credit);
            frame::window_update(self.output.frames(), 0, credit);
            self.kick();
        }
    }

    /// Nobody will read the rest of a body.
    pub(super) fn unwanted(&mut self, key: u32) {
        let receive = &mut self.streams.get(key).receive;
        receive.unwanted = true;
        receive.clear();
    }

    // --- holders ---

    /// One holder less; with the last, a stream that is not over is reset.
    pub(super) fn drop_holder(&mut self, key: u32) {
        let slot = self.streams.get(key);
        slot.holders -= 1;
        if slot.holders > 0 {
            return;
        }
        if slot.is_over() {
            slot.receive.clear();
            self.settle(key);
        } else {
            // The server has answered and needs no more of the request (RFC 9113 section 8.1).
            let answered = self.role == Role::Server && slot.send.ended;
            self.reset(key, if answered { code::NO_ERROR } else { code::CANCEL });
        }
    }

    /// To be called whenever a stream may be over.
    pub(super) fn settle(&mut self, key: u32) {
        if self.streams.settle(key) && !self.waiting.is_empty() {
            self.wake_waiting();
        }
        if self.streams.len() == 0 {
            // The connection's task may have waited for that.
            self.kick();
        }
    }
}

#[cfg(test)]
mod tests;

//! HTTP/2 connections without sockets, and HPACK, for `fuzz/`: bytes become frames and deeds of those who hold the streams.
//!
//! What must hold: no panic; places, windows and what waits to be written stay within what the limits say; and when the
//! connection is over nothing of it is left.

use std::task::{Context, Poll, Waker};

use super::core::{Core, Role};
use super::feed::Feed;
use super::frame::{self, Header};
use super::hpack::{Decoder, Encoder, Sink};
use super::streams::End;
use crate::body::{BodyLength, Frame};
use crate::fields::Known;
use crate::fuzzing::owned;
use crate::limits::Limits;
use crate::message::{Method, RequestHead, ResponseHead};

/// Deeds of one input.
const STEPS_MAX: usize = 2_000;
/// Streams that the client under test opens.
const OPENED_MAX: usize = 50;

/// A server under test, and a client that does whatever the bytes say.
pub fn http2_server(bytes: &[u8]) {
    let mut start = frame::PREFACE.to_vec();
    frame::settings(&mut start, &[]);
    Test::new(Role::Server, bytes).run(&start);
}

/// A client under test, and a server that does whatever the bytes say.
pub fn http2_client(bytes: &[u8]) {
    let mut start = Vec::new();
    frame::settings(&mut start, &[]);
    Test::new(Role::Client, bytes).run(&start);
}

/// Blocks of heads, each a length and so many bytes: what is read of one is read again after it was written.
pub fn hpack(mut bytes: &[u8]) {
    let (mut decoder, mut encoder, mut again) = (Decoder::new(), Encoder::new(), Decoder::new());
    while let Some((length, rest)) = bytes.split_first() {
        let (block, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        bytes = rest;
        let mut list = List::default();
        if decoder.decode(block, &mut list).is_err() {
            return; // The connection is over.
        }
        let mut out = Vec::new();
        encoder.begin(&mut out);
        list.0.iter().for_each(|(name, value, known)| encoder.field(&mut out, name, value, *known));
        let mut read = List::default();
        assert!(again.decode(&out, &mut read).is_ok(), "what was written is refused");
        assert_eq!(list, read, "a block changed when it was written");
    }
}

#[derive(Default, PartialEq, Debug)]
struct List(Vec<(Vec<u8>, Vec<u8>, Known)>);

// === impl List ===

impl Sink for List {
    fn field(&mut self, name: &[u8], value: &[u8], known: Known, _valid: bool) {
        assert_eq!(known, Known::of(name));
        self.0.push((name.to_vec(), value.to_vec(), known));
    }
}

/// One end of a connection, and the bytes that say what the other does.
struct Test<'b> {
    core: Core,
    feed: Feed,
    bytes: &'b [u8],
    /// Of the other end.
    encoder: Encoder,
    held: Vec<Held>,
    opened: usize,
}

/// A stream that somebody holds, and how far the message to the other end is.
struct Held {
    key: u32,
    begun: bool,
    ended: bool,
}

// === impl Test ===

impl<'b> Test<'b> {
    fn new(role: Role, bytes: &'b [u8]) -> Test<'b> {
        let limits = Limits { h2_streams: 8, h2_stream_window: 4096, ..Limits::default() };
        let core = Core::new(role, &limits, &Default::default());
        Test { core, feed: Feed::default(), bytes, encoder: Encoder::new(), held: Vec::new(), opened: 0 }
    }

    fn run(mut self, start: &[u8]) {
        let mut over = !self.receive(start);
        for _ in 0..STEPS_MAX {
            let Some(deed) = self.byte() else { break };
            if over {
                break;
            }
            let mut out = Vec::new();
            if deed < 0x80 {
                self.frame(deed, &mut out);
            } else {
                self.act(deed);
            }
            over = !self.receive(&out);
            self.write();
            let streams = self.core.streams.len();
            assert!(streams <= 2 * 8 + 20 + self.opened, "{streams} streams have a place");
            assert!(self.core.receive_window <= i64::from(frame::MAX), "{}", self.core.receive_window);
        }
        self.core.finish(End::Closed);
        std::mem::take(&mut self.held).into_iter().for_each(|held| self.core.drop_holder(held.key));
        assert_eq!((self.core.streams.len(), self.core.streams.open), (0, 0), "something is left");
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn small(&mut self) -> usize {
        self.byte().unwrap_or_default().into()
    }

    fn take(&mut self, length: usize) -> &'b [u8] {
        let (taken, rest) = self.bytes.split_at(length.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    /// A frame of the other end.
    fn frame(&mut self, deed: u8, out: &mut Vec<u8>) {
        let stream = (self.small() % 24) as u32;
        match deed % 16 {
            // Well-formed heads, since nobody guesses HPACK.
            0 | 1 => {
                let (variant, end) = (self.small(), deed & 0x20 != 0);
                let value = self.take(variant % 32);
                let role = self.core.role;
                frame::headers(out, stream, end, &mut self.encoder, |encoder, out| {
                    head(encoder, out, role, variant, value);
                });
            }
            2 => {
                let length = self.small();
                let length = if length > 200 { length * 64 } else { length };
                let flags = self.small() as u8 & (frame::END_STREAM | frame::PADDED);
                frame::header(out, length, frame::DATA, flags, stream);
                out.resize(out.len() + length, deed);
            }
            3 => frame::reset(out, stream, deed.into()),
            4 => {
                let (id, value) = (self.small() as u16 % 8, self.small() as u32);
                frame::settings(out, &[(id, value << (deed >> 4 & 7) << 8)]);
            }
            5 => frame::ping(out, deed >> 4 & 1, [deed; 8]),
            6 => frame::window_update(out, stream, (self.small() as u32) << (deed >> 4)),
            7 => frame::goaway(out, stream, deed.into(), "why"),
            8 => frame::settings_ack(out),
            // Bytes as they are, and frames of any kind.
            9 => out.extend_from_slice(self.take(usize::from(deed >> 4) * 3)),
            _ => {
                let (kind, flags, length) = (self.small() as u8 % 12, self.small() as u8, self.small() % 64);
                let payload = self.take(length);
                frame::header(out, payload.len(), kind, flags, stream);
                out.extend_from_slice(payload);
            }
        }
    }

    /// What a holder of a stream does, or the owner of the connection.
    fn act(&mut self, deed: u8) {
        let cx = &Context::from_waker(Waker::noop());
        if deed & 0x70 == 0x70 {
            self.core.leave();
            return;
        }
        if self.core.role == Role::Client && deed & 0x40 != 0 {
            if self.opened < OPENED_MAX && self.core.can_open() == Ok(true) {
                let head = RequestHead::new(Method::Post, "a", "/");
                let key = self.core.open(&head, BodyLength::Unknown, deed & 1 != 0);
                self.hold(key, true, deed & 1 != 0);
                self.opened += 1;
            }
            return;
        }
        if self.held.is_empty() {
            return;
        }
        let place = self.small() % self.held.len();
        let Held { key, begun, ended } = self.held[place];
        let end = deed & 8 != 0;
        match deed % 6 {
            0 => {
                if let Poll::Ready(Some(Ok(Frame::Data(data)))) = self.core.poll_body(key, cx) {
                    self.core.release(key, data.len());
                }
            }
            1 if !begun => {
                let _over = self.core.respond(key, &ResponseHead::new(200), BodyLength::Unknown, end, false);
                (self.held[place].begun, self.held[place].ended) = (true, end);
            }
            1 if self.core.role == Role::Client => {
                let _head = self.core.poll_head(key, cx);
            }
            2 if begun && !ended && self.core.poll_sent(key, cx).is_ready() => {
                let _over = self.core.submit(key, owned(&[7; 300]), end);
                self.held[place].ended = end;
            }
            3 => self.core.reset(key, u32::from(deed)),
            4 => {
                self.core.drop_holder(key);
                self.held.swap_remove(place);
            }
            _ => {}
        }
    }

    fn hold(&mut self, key: u32, begun: bool, ended: bool) {
        self.core.streams.get(key).holders += 1;
        self.held.push(Held { key, begun, ended });
    }

    /// Whether the connection goes on.
    fn receive(&mut self, bytes: &[u8]) -> bool {
        self.feed.bytes.extend_from_slice(bytes);
        loop {
            match self.core.receive(&mut self.feed) {
                Ok(Some(accepted)) => self.hold(accepted.key, false, false),
                Ok(None) => break,
                Err(fatal) => {
                    self.core.condemn(fatal.code, fatal.what);
                    return false;
                }
            }
        }
        self.core.wakers.clear();
        true
    }

    /// Takes what is written, and looks at its frames.
    fn write(&mut self) {
        let mut taken = Vec::new();
        while self.core.pump() || !self.core.output.is_empty() {
            taken.extend(self.core.output.take());
        }
        let mut written = taken.strip_prefix(frame::PREFACE).unwrap_or(&taken);
        while let Some(header) = written.first_chunk() {
            let length = frame::HEADER + Header::read(header).length;
            assert!(length <= written.len(), "a frame that is cut off was written");
            written = &written[length..];
        }
        assert!(written.is_empty(), "a frame that is cut off was written");
    }
}

/// The fields of a head that the other end sends: of a request to a server, of a response to a client, or of neither.
fn head(encoder: &mut Encoder, out: &mut Vec<u8>, role: Role, variant: usize, value: &[u8]) {
    let mut field = |name: &[u8], value: &[u8]| encoder.field(out, name, value, Known::of(name));
    match role {
        Role::Server if variant % 8 < 6 => {
            field(b":method", if variant.is_multiple_of(5) { b"HEAD" } else { b"POST" });
            field(b":scheme", b"http");
            field(b":authority", b"a");
            field(b":path", b"/");
        }
        Role::Client if variant % 8 < 6 => field(b":status", [b"200", b"100", b"204", b"304"][variant % 4]),
        _ => {}
    }
    match variant >> 5 {
        0 => field(b"content-length", value),
        1 => field(b"x-name", value),
        2 => field(b"te", value),
        3 => field(value, b"x"),
        _ => {}
    }
}

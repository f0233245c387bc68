//! What a peer may do at the edges of the protocol, frame by frame.

use super::super::super::frame::{ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM};
use super::*;

/// A server that has had the preface, and what the client writes next.
pub(super) fn server() -> (Side, Encoder) {
    let mut server = Side::new(Role::Server, &Limits::default());
    server.wire.extend_from_slice(frame::PREFACE);
    let mut settings = Vec::new();
    frame::settings(&mut settings, &[]);
    frame::header(&mut settings, 0, frame::SETTINGS, ACK, 0);
    server.wire.extend_from_slice(&settings);
    take(&mut server).unwrap();
    written(&mut server);
    (server, Encoder::new())
}

/// Reads all that is on its way.
pub(super) fn take(side: &mut Side) -> Result<(), Fatal> {
    let noise = &mut Noise(1);
    while !side.wire.is_empty() {
        side.receive(noise)?;
    }
    Ok(())
}

pub(super) fn request(side: &mut Side, encoder: &mut Encoder, id: u32, end: bool) -> Result<(), Fatal> {
    send(side, encoder, id, end, &RequestHead::new(Method::Post, "a", "/"), BodyLength::Unknown)
}

fn send(
    side: &mut Side,
    encoder: &mut Encoder,
    id: u32,
    end: bool,
    head: &RequestHead,
    length: BodyLength,
) -> Result<(), Fatal> {
    let mut frames = Vec::new();
    frame::headers(&mut frames, id, end, encoder, |encoder, out| head::write_request(encoder, out, head, length));
    side.wire.extend_from_slice(&frames);
    take(side)
}

fn data(side: &mut Side, id: u32, bytes: usize, end: bool) -> Result<(), Fatal> {
    let mut frames = Vec::new();
    for piece in vec![7; bytes].chunks(frame::PAYLOAD_MAX) {
        frame::header(&mut frames, piece.len(), DATA, 0, id);
        frames.extend_from_slice(piece);
    }
    if end {
        frame::header(&mut frames, 0, DATA, END_STREAM, id);
    }
    side.wire.extend_from_slice(&frames);
    take(side)
}

/// Trailers that end a stream.
fn trailers(side: &mut Side, encoder: &mut Encoder, id: u32) -> Result<(), Fatal> {
    let mut frames = Vec::new();
    let fields = [("x-sum", "1")].into_iter().collect();
    frame::headers(&mut frames, id, true, encoder, |encoder, out| head::write_trailers(encoder, out, &fields));
    side.wire.extend_from_slice(&frames);
    take(side)
}

/// Everything that it wrote.
fn written(side: &mut Side) -> Vec<u8> {
    let mut bytes = Vec::new();
    side.core.pump();
    while !side.core.output.is_empty() {
        bytes.extend(side.core.output.take());
    }
    bytes
}

/// The last stream and the code of each GOAWAY among frames.
fn goaways(bytes: &[u8]) -> Vec<(u32, u32)> {
    let (mut at, mut found) = (0, Vec::new());
    while let Some(first) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let header = frame::Header::read(first);
        let payload = &bytes[at + frame::HEADER..];
        if header.kind == GOAWAY {
            found.push((frame::number(payload), frame::number(&payload[4..])));
        }
        at += frame::HEADER + header.length;
    }
    found
}

#[test]
fn a_small_piece_of_a_body_does_not_keep_the_buffer_it_was_read_into() {
    for (length, kept) in [(3_000, false), (16_000, true)] {
        let (mut server, mut encoder) = server();
        request(&mut server, &mut encoder, 1, false).unwrap();
        let mut bytes = BytesMut::with_capacity(64 * 1024);
        let mut frame = Vec::new();
        frame::header(&mut frame, length, DATA, 0, 1);
        frame.resize(frame::HEADER + length, 7);
        bytes.extend_from_slice(&frame);
        let mut feed = Feed::new(bytes);
        assert!(server.core.receive(&mut feed).unwrap().is_none());
        assert_eq!(!feed.bytes.try_reclaim(64 * 1024), kept, "a piece of {length} bytes");
    }
}

#[test]
fn a_stream_that_ends_while_it_waits_to_write_waits_no_more() {
    let (mut server, mut encoder) = server();
    for n in 0..1_000 {
        let id = 2 * n + 1;
        request(&mut server, &mut encoder, id, true).unwrap();
        let key = server.accepted.pop().unwrap();
        server.core.respond(key, &ResponseHead::new(200), BodyLength::Unknown, false, false).unwrap();
        // The window of the connection is used up by the first ones.
        server.core.submit(key, Bytes::from(vec![7; 60_000]), false).unwrap();
        server.core.reset(key, code::CANCEL);
        server.core.drop_holder(key);
        written(&mut server);
        assert!(server.core.streams.queue.is_empty(), "after {n} streams");
    }
}

#[test]
fn the_last_stream_of_goaway_never_rises() {
    let (mut server, mut encoder) = server();
    request(&mut server, &mut encoder, 1, false).unwrap();
    server.core.leave();
    server.core.leave_now();
    request(&mut server, &mut encoder, 3, false).unwrap();
    assert_eq!(server.accepted.len(), 1, "what comes after the last stream is not served");
    server.core.condemn(code::PROTOCOL_ERROR, Malformed::H2Protocol);
    assert_eq!(goaways(&written(&mut server)), [(frame::MAX, 0), (1, 0), (1, code::PROTOCOL_ERROR)]);
    server.core.drop_holder(server.accepted[0]);
}

#[test]
fn what_goes_through_a_tunnel_is_not_held_against_a_length() {
    let cx = &Context::from_waker(Waker::noop());
    let (mut server, mut encoder) = server();
    let head = RequestHead::new(Method::Connect, "a:443", "");
    send(&mut server, &mut encoder, 1, false, &head, BodyLength::Known(3)).unwrap();
    data(&mut server, 1, 100, false).unwrap();
    let key = server.accepted[0];
    assert!(matches!(server.core.poll_body(key, cx), Poll::Ready(Some(Ok(Frame::Data(data)))) if data.len() == 100));
    server.core.drop_holder(key);

    let mut client = Side::new(Role::Client, &Limits::default());
    let key = client.core.open(&head, BodyLength::Unknown, false);
    client.core.streams.get(key).holders += 1;
    let mut frames = Vec::new();
    frame::settings(&mut frames, &[]);
    frame::headers(&mut frames, 1, false, &mut Encoder::new(), |encoder, out| {
        head::write_response(encoder, out, &ResponseHead::new(200), BodyLength::Known(3), false);
    });
    client.wire.extend_from_slice(&frames);
    data(&mut client, 1, 100, false).unwrap();
    assert!(client.core.poll_head(key, cx).is_ready());
    assert!(matches!(client.core.poll_body(key, cx), Poll::Ready(Some(Ok(Frame::Data(data)))) if data.len() == 100));
    client.core.drop_holder(key);
}

#[test]
fn late_trailers_of_a_stream_that_was_reset_long_ago_are_ignored() {
    let (mut server, mut encoder) = server();
    for id in (1..1_200).step_by(2) {
        request(&mut server, &mut encoder, id, false).unwrap();
        let key = server.accepted.pop().unwrap();
        server.core.reset(key, code::CANCEL);
        server.core.drop_holder(key);
    }
    for id in [1, 101, 1_199] {
        assert_eq!(trailers(&mut server, &mut encoder, id), Ok(()), "stream {id}");
        assert_eq!(data(&mut server, id, 100, true), Ok(()), "stream {id}");
    }
}

#[test]
fn a_stream_below_one_that_was_opened_cannot_be_opened_later() {
    let (mut server, mut encoder) = server();
    request(&mut server, &mut encoder, 5, false).unwrap();
    let refused = request(&mut server, &mut encoder, 3, false);
    assert_eq!(refused.map_err(|fatal| fatal.code), Err(code::PROTOCOL_ERROR));
    server.core.condemn(code::PROTOCOL_ERROR, Malformed::H2Protocol);
    server.core.drop_holder(server.accepted[0]);
}

#[test]
fn stalled_uploads_hold_up_no_other_stream() {
    let cx = &Context::from_waker(Waker::noop());
    let (mut server, mut encoder) = server();
    let most = Limits::default().h2_stream_window as usize;
    for id in (1..199).step_by(2) {
        request(&mut server, &mut encoder, id, false).unwrap();
        data(&mut server, id, most, false).unwrap();
    }
    request(&mut server, &mut encoder, 199, false).unwrap();
    let key = *server.accepted.last().unwrap();
    for _ in 0..100 {
        data(&mut server, 199, most / 2, false).unwrap();
        let mut read = 0;
        while let Poll::Ready(Some(Ok(Frame::Data(data)))) = server.core.poll_body(key, cx) {
            server.core.release(key, data.len());
            read += data.len();
        }
        assert_eq!(read, most / 2);
    }
    std::mem::take(&mut server.accepted).into_iter().for_each(|key| server.core.drop_holder(key));
}

#[test]
fn who_has_reset_a_stream_sends_nothing_more_on_it_though_it_was_over_before() {
    let cancel = code::CANCEL.to_be_bytes();
    for (knows, is_held) in [(false, false), (true, false), (false, true), (true, true)] {
        let (mut server, mut encoder) = server();
        request(&mut server, &mut encoder, 1, false).unwrap();
        let key = server.accepted.pop().unwrap();
        server.core.reset(key, code::NO_ERROR);
        if !is_held {
            server.core.drop_holder(key);
        }
        if knows {
            let mut frames = Vec::new();
            frame::header(&mut frames, cancel.len(), RST_STREAM, 0, 1);
            frames.extend_from_slice(&cancel);
            server.wire.extend_from_slice(&frames);
        }
        let late = request(&mut server, &mut encoder, 1, true);
        let expected = if knows { Err(Fatal::new(code::STREAM_CLOSED)) } else { Ok(()) };
        assert_eq!(late, expected, "knows: {knows}, held: {is_held}");
    }
}

#[test]
fn a_list_beyond_all_reason_ends_the_connection_before_it_is_read() {
    let (mut server, _) = server();
    let mut block = vec![0x83, 0x86, 0x84, 0x01, 1, b'a', 0x40, 1, b'x', 0x7f, 0xa1, 0x1e];
    block.resize(block.len() + 4_000, b'v');
    block.resize(16_000, 0x80 | 62);
    // The block is cut off; nobody gets as far as this.
    block.push(0xff);
    let mut frames = Vec::new();
    frame::header(&mut frames, block.len(), HEADERS, END_HEADERS | END_STREAM, 1);
    frames.extend_from_slice(&block);
    server.wire.extend_from_slice(&frames);
    let flood = Fatal { code: code::ENHANCE_YOUR_CALM, what: Malformed::HeadTooLarge };
    assert_eq!(take(&mut server), Err(flood));
}

#[test]
fn what_came_as_never_indexed_leaves_so() {
    const NEVER: u8 = 0x10;
    let (mut server, _) = server();
    // `:method: POST`, `:scheme: http`, `:path: /`, `:authority: a`, and an own field.
    let mut block = vec![0x83, 0x86, 0x84, 0x01, 1, b'a'];
    block.extend_from_slice(&[NEVER, 3, b'x', b'-', b'k', 6]);
    block.extend_from_slice(b"secret");
    let mut frames = Vec::new();
    frame::header(&mut frames, block.len(), HEADERS, END_HEADERS | END_STREAM, 1);
    frames.extend_from_slice(&block);
    let mut feed = Feed::new(BytesMut::from(&frames[..]));
    let accepted = server.core.receive(&mut feed).unwrap().unwrap();
    let head = accepted.request.head;
    assert_eq!(head.fields.get("x-k"), Some(&b"secret"[..]));
    let mut encoder = Encoder::new();
    for _ in 0..3 {
        let mut out = Vec::new();
        head::write_request(&mut encoder, &mut out, &head, BodyLength::Empty);
        let field = [&[NEVER, 3], &b"x-k"[..], &[6], b"secret"].concat();
        assert!(out.ends_with(&field), "{out:02x?}");
    }
}

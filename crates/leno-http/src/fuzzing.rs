//! What the targets of `fuzz/` drive, with the feature `fuzzing`: parsers that nothing outside this crate reaches alone.
//!
//! Each function takes whatever bytes come and states what must hold of them; a panic is a finding. Heads and bodies have
//! one reading however they are cut, and the same one after they were written anew.

use bytes::{Bytes, BytesMut};

use crate::body::Frame;
use crate::fields::{self, Fields, Known, Upgrades};
use crate::grpc::{Status, format_timeout, parse_timeout};
use crate::h1::decode::{Decoded, Decoder};
use crate::h1::encode::{self, Encoder, Persistence};
use crate::h1::head::{self, Expected, Framing, HeadParser, MethodKind, Request, Response};
use crate::limits::{Limits, Malformed};
use crate::message::{TargetForm, Version};

pub use crate::grpc::fuzzing::grpc_frame;
pub use crate::h2::fuzzing::{hpack, http2_client, http2_server};

/// Messages that one input may hold.
const MESSAGES_MAX: usize = 64;
/// Names by which messages are framed.
const KNOWN: &[(Known, &str)] = &[
    (Known::Host, "host"),
    (Known::Connection, "connection"),
    (Known::ContentLength, "content-length"),
    (Known::TransferEncoding, "transfer-encoding"),
];

/// The head of a request.
pub fn request_head(bytes: &[u8]) {
    let limits = &Limits::default();
    let whole = parse_request(bytes, usize::MAX, limits);
    for piece in [1, 7] {
        let cut = parse_request(bytes, piece, limits);
        assert_eq!(whole.as_ref().map(show_request), cut.as_ref().map(show_request), "cut into pieces of {piece}");
    }
    let Some(request) = whole else { return };
    let Some((written, framing)) = write_request(request) else { return };
    let again = parse_request(&written, usize::MAX, &wider()).expect("what was written is not read");
    assert_eq!(again.framing, framing, "framing changed when it was written");
    let Some((twice, _)) = write_request(again) else { panic!("what was written cannot be written") };
    assert_eq!(lines(&written), lines(&twice), "it is written in two ways");
}

/// The head of a response; the first byte says to which method.
pub fn response_head(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let method = [MethodKind::Other, MethodKind::Head, MethodKind::Connect][usize::from(*first) % 3];
    let limits = &Limits::default();
    let whole = parse_response(bytes, usize::MAX, method, limits);
    for piece in [1, 7] {
        let cut = parse_response(bytes, piece, method, limits);
        assert_eq!(whole.as_ref().map(show_response), cut.as_ref().map(show_response), "cut into pieces of {piece}");
    }
    let Some(response) = whole else { return };
    let status = response.head.status;
    let framing = if response.framing == Framing::Close { Framing::Chunked } else { response.framing };
    let Some(written) = write_response(response, framing) else { return };
    let again = parse_response(&written, usize::MAX, method, &wider()).expect("what was written is not read");
    assert_eq!((again.head.status, again.framing), (status, framing), "it changed when it was written");
    let twice = write_response(again, framing).expect("what was written cannot be written");
    assert_eq!(lines(&written), lines(&twice), "it is written in two ways");
}

/// A chunked body, its extensions and its trailers; the first byte says how it is cut.
pub fn chunked_body(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let whole = decode(bytes, usize::MAX);
    let cut = decode(bytes, usize::from(*first).max(1));
    assert_eq!(whole, cut, "cut into pieces of {first}");
    let limits = Limits::default();
    if Decoder::check(Framing::Chunked, bytes, &limits).is_err() {
        assert!(whole.is_err(), "refused beforehand and read nevertheless");
    }
    let Ok((data, trailers, true)) = whole else { return };
    let (mut out, mut encoder) = (Vec::new(), Encoder::new(Framing::Chunked));
    for piece in data.chunks(usize::from(*first).max(1)) {
        assert!(encoder.before_data(&mut out, piece.len()));
        out.extend_from_slice(piece);
        encoder.after_data(&mut out);
    }
    let fields: Fields = trailers.iter().map(|(name, value)| (String::from_utf8_lossy(name), value)).collect();
    assert!(encoder.end(&mut out, Some(&fields)));
    assert_eq!(decode(&out, usize::MAX), Ok((data, trailers, true)), "it changed when it was written");
}

/// A stream of requests with their bodies: read, written anew, read again.
pub fn round_trip(bytes: &[u8]) {
    let read = read_stream(bytes, &Limits::default());
    let mut out = Vec::new();
    let mut shown = Vec::new();
    for (request, body) in read {
        let line = format!("{} {} {}", request.head.method, request.head.path, request.head.host());
        let framing = if body.is_empty() { Framing::None } else { request.framing };
        let framing = if let Framing::Length(_) = framing { Framing::Length(body.len() as u64) } else { framing };
        let Some((written, _)) = write_request(Request { framing, ..request }) else { break };
        out.extend_from_slice(&written);
        let mut encoder = Encoder::new(framing);
        if !body.is_empty() {
            assert!(encoder.before_data(&mut out, body.len()));
            out.extend_from_slice(&body);
            encoder.after_data(&mut out);
        }
        assert!(encoder.end(&mut out, None));
        shown.push((line, body));
    }
    let again: Vec<_> = read_stream(&out, &wider())
        .into_iter()
        .map(|(request, body)| (format!("{} {} {}", request.head.method, request.head.path, request.head.host()), body))
        .collect();
    assert_eq!(shown, again, "{:?} is read in another way", String::from_utf8_lossy(&out));
}

/// The grammars of single fields: names, values, lists, lengths, timeouts, statuses. A line is a name, a colon, a value.
pub fn field_grammars(bytes: &[u8]) {
    let mut all = Fields::new();
    for line in bytes.split(|b| *b == b'\n').take(MESSAGES_MAX) {
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default());
        assert_eq!(fields::valid_value(value), value.iter().all(|b| fields::is_value_byte(*b)));
        assert!(fields::elements(value).all(|e| !e.is_empty() && !e.contains(&b',')));
        if let Ok(length) = head::parse_length(value) {
            let digits = std::str::from_utf8(value).expect("digits are text");
            assert_eq!(digits.parse(), Ok(length), "a length has one reading");
        }
        if let Some(timeout) = parse_timeout(value) {
            assert!(parse_timeout(format_timeout(timeout).as_bytes()).is_some_and(|again| again >= timeout));
        }
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let before = all.len();
        let added = all.append(name, value);
        assert_eq!(added, fields::valid_name(name.as_bytes()), "{name:?}");
        assert_eq!(all.len(), before + usize::from(added));
        // Of a name that is no token it may say anything.
        for (known, other) in KNOWN.iter().filter(|_| added) {
            let same = name.eq_ignore_ascii_case(other);
            assert_eq!(Known::of(name.as_bytes()) == *known, same, "{name:?} and {other}");
        }
    }
    for (name, value) in all.iter() {
        assert!(fields::valid_name(name) && fields::valid_value(value) && value.trim_ascii() == value);
    }
    if let Some(status) = Status::from_fields(&all) {
        let again = Status::from_fields(&status.trailers()).expect("a status that was written");
        assert_eq!((again.code, &again.message), (status.code, &status.message), "a status has one reading");
    }
    if all.strip_hop_by_hop(Upgrades::Drop).is_ok() {
        let left = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings"];
        assert!(left.iter().all(|name| !all.contains(name)), "{all:?}");
    }
    let first = all.iter().next().map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.to_vec()));
    if let Some((name, value)) = first {
        assert!(all.set(&name, &value) && all.get_all(&name).eq([&value[..]]));
        assert!(all.remove(&name) && !all.contains(&name));
    }
}

// --- reading ---

/// Of what was written: a field may have come on the way.
fn wider() -> Limits {
    let limits = Limits::default();
    Limits { head_fields: limits.head_fields + 4, head_bytes: limits.head_bytes + 1024, ..limits }
}

fn parse<T>(
    bytes: &[u8],
    piece: usize,
    expected: Expected,
    limits: &Limits,
    finish: impl FnOnce(HeadParser, &mut BytesMut, usize) -> Result<T, Malformed>,
) -> Option<T> {
    let (mut buffer, mut parser) = (BytesMut::new(), HeadParser::default());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        if let Some(length) = parser.advance(&buffer, expected, limits).ok()? {
            return finish(parser, &mut buffer, length).ok();
        }
    }
    None
}

fn parse_request(bytes: &[u8], piece: usize, limits: &Limits) -> Option<Request> {
    parse(bytes, piece, Expected::Request, limits, HeadParser::into_request)
}

fn parse_response(bytes: &[u8], piece: usize, method: MethodKind, limits: &Limits) -> Option<Response> {
    parse(bytes, piece, Expected::Response, limits, |parser, buffer, length| {
        parser.into_response(buffer, length, method)
    })
}

fn show_request(request: &Request) -> String {
    let Request { head, framing, keep, expects_continue } = request;
    format!("{head:?} {framing:?} {keep} {expects_continue}")
}

fn show_response(response: &Response) -> String {
    let Response { head, framing, keep, keep_timeout } = response;
    format!("{head:?} {framing:?} {keep} {keep_timeout:?}")
}

type Trailers = Vec<(Vec<u8>, Vec<u8>)>;

/// Data, trailers, and whether the end came.
fn decode(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Trailers, bool), Malformed> {
    let limits = Limits::default();
    let (mut decoder, mut buffer) = (Decoder::new(Framing::Chunked), BytesMut::new());
    let (mut data, mut trailers) = (Vec::new(), Trailers::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer, &limits)? {
                Decoded::More => break,
                Decoded::Frame(Frame::Data(piece)) => data.extend_from_slice(&piece),
                Decoded::Frame(Frame::Trailers(fields)) => {
                    trailers.extend(fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())));
                    return Ok((data, trailers, true));
                }
                Decoded::End => return Ok((data, trailers, true)),
            }
        }
    }
    Ok((data, trailers, false))
}

/// The requests of a connection whose bodies came to their end.
fn read_stream(bytes: &[u8], limits: &Limits) -> Vec<(Request, Vec<u8>)> {
    let (mut buffer, mut read) = (BytesMut::from(bytes), Vec::new());
    while read.len() < MESSAGES_MAX {
        let mut parser = HeadParser::default();
        let Ok(Some(length)) = parser.advance(&buffer, Expected::Request, limits) else { break };
        let Ok(request) = parser.into_request(&mut buffer, length) else { break };
        let (mut decoder, mut body) = (Decoder::new(request.framing), Vec::new());
        let ended = loop {
            match decoder.decode(&mut buffer, limits) {
                Ok(Decoded::Frame(Frame::Data(data))) => body.extend_from_slice(&data),
                Ok(Decoded::End | Decoded::Frame(Frame::Trailers(_))) => break true,
                Ok(Decoded::More) | Err(_) => break false,
            }
        };
        if !ended {
            break;
        }
        let keep = request.keep;
        read.push((request, body));
        if !keep {
            break;
        }
    }
    read
}

// --- writing ---

/// The head as it goes to an upstream, and its framing; `None` for what is not passed on in this form.
fn write_request(mut request: Request) -> Option<(Vec<u8>, Framing)> {
    let head = &mut request.head;
    if head.authority.is_none() || head.form == TargetForm::Authority {
        return None;
    }
    head.form = if head.path.as_bytes() == b"*" { TargetForm::Asterisk } else { TargetForm::Origin };
    assert!(head.is_well_formed(), "it was read and cannot be written: {head:?}");
    head.fields.strip_hop_by_hop(Upgrades::Drop).expect("the reader refuses fields that name protected ones");
    let mut out = Vec::new();
    encode::request(&mut out, head, request.framing, false);
    Some((out, request.framing))
}

fn write_response(mut response: Response, framing: Framing) -> Option<Vec<u8>> {
    response.head.fields.strip_hop_by_hop(Upgrades::Drop).ok()?;
    let mut out = Vec::new();
    encode::response(&mut out, &response.head, framing, Version::Http11, Persistence::Implied, false);
    Some(out)
}

/// The lines of a head, the fields in the order of their bytes: one that is added on the way may stand elsewhere.
fn lines(head: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = head.split(|b| *b == b'\n').map(|line| line.escape_ascii().to_string()).collect();
    lines[1..].sort();
    lines
}

/// Bytes that share nothing with the input.
pub(crate) fn owned(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

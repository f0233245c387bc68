//! Whole streams of requests, good and mutated, through head and body: what smuggling needs is two readings, and there
//! is one, however the bytes are cut and after they were written anew.

use bytes::BytesMut;
use proptest::prelude::*;

use super::decode::{Decoded, Decoder};
use super::encode::{self, Encoder};
use super::head::{Expected, Framing, HeadParser, Request};
use crate::body::Frame;
use crate::limits::{Limits, Malformed};

/// How a stream of requests ends.
#[derive(Debug, Clone, PartialEq)]
enum End {
    /// With the bytes, between or within requests.
    Bytes {
        within: bool,
    },
    Refused(Malformed),
    /// After a request that closes.
    Close,
}

/// Method, target and host, and the body.
type Read = (String, Vec<u8>);

/// Reads as a connection does: head, body, next head. Bodies are only counted when they are complete.
fn read(bytes: &[u8], pieces: &[usize]) -> (Vec<Read>, End) {
    let (mut all, mut reader) = (Vec::new(), Reader::new(bytes, pieces));
    let end = loop {
        match reader.request() {
            Ok(Some((request, body))) => {
                let head = &request.head;
                all.push((format!("{} {} {}", head.method, head.path, head.host()), body));
                if !request.keep {
                    break End::Close;
                }
            }
            Ok(None) => break End::Bytes { within: reader.within },
            Err(what) => break End::Refused(what),
        }
    };
    (all, end)
}

struct Reader<'a> {
    bytes: &'a [u8],
    pieces: std::iter::Cycle<std::slice::Iter<'a, usize>>,
    buffer: BytesMut,
    within: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], pieces: &'a [usize]) -> Reader<'a> {
        Reader { bytes, pieces: pieces.iter().cycle(), buffer: BytesMut::new(), within: false }
    }

    fn more(&mut self) -> bool {
        let length = (*self.pieces.next().unwrap()).clamp(1, self.bytes.len().max(1)).min(self.bytes.len());
        let (piece, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        self.buffer.extend_from_slice(piece);
        length > 0
    }

    fn request(&mut self) -> Result<Option<(Request, Vec<u8>)>, Malformed> {
        let limits = Limits::default();
        let mut parser = HeadParser::default();
        let length = loop {
            self.within = !self.buffer.is_empty();
            if let Some(length) = parser.advance(&self.buffer, Expected::Request, &limits)? {
                break length;
            }
            if !self.more() {
                return Ok(None);
            }
        };
        self.within = true;
        let request = parser.into_request(&mut self.buffer, length)?;
        let (mut decoder, mut body) = (Decoder::new(request.framing), Vec::new());
        loop {
            match decoder.decode(&mut self.buffer, &limits)? {
                Decoded::Frame(Frame::Data(data)) => body.extend_from_slice(&data),
                Decoded::End | Decoded::Frame(Frame::Trailers(_)) => return Ok(Some((request, body))),
                Decoded::More if !self.more() => return Ok(None),
                Decoded::More => {}
            }
        }
    }
}

/// A request with what smugglers like to play with.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let framing = prop_oneof![
        Just(""),
        Just("Content-Length: 5\r\n"),
        Just("Transfer-Encoding: chunked\r\n"),
        Just("Content-Length: 0\r\n"),
        Just("Connection: close\r\n"),
        Just("Transfer-Encoding:\tchunked \r\n"),
    ];
    let body = prop_oneof![
        Just(&b""[..]),
        Just(&b"hello"[..]),
        Just(&b"5\r\nhello\r\n0\r\n\r\n"[..]),
        Just(&b"1;a=b\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n"[..]),
        Just(&b"GET /inner HTTP/1.1\r\nHost: h\r\n\r\n"[..]),
        Just(&b"0\r\n\r\n"[..]),
    ];
    (framing, body, "[a-z]{1,5}").prop_map(|(framing, body, path)| {
        let mut bytes = format!("POST /{path} HTTP/1.1\r\nHost: h\r\n{framing}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    })
}

/// Where, and what happens to the byte there.
fn mutation() -> impl Strategy<Value = (prop::sample::Index, Option<u8>)> {
    let byte = prop::sample::select(b"\r\n :;,0159aT-\0\t\x0b\xff".to_vec());
    (any::<prop::sample::Index>(), prop::option::of(byte))
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(request(), 1..4), prop::collection::vec(mutation(), 0..3)).prop_map(
        |(requests, mutations)| {
            let mut bytes = requests.concat();
            for (index, change) in mutations {
                let at = index.index(bytes.len());
                match change {
                    Some(byte) if at % 2 == 0 => bytes[at] = byte,
                    Some(byte) => bytes.insert(at, byte),
                    None => drop(bytes.remove(at)),
                }
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_stream_has_one_reading_however_it_is_cut(
        bytes in mutated(),
        pieces in prop::collection::vec(1usize..40, 1..5),
    ) {
        prop_assert_eq!(read(&bytes, &pieces), read(&bytes, &[usize::MAX]));
    }

    #[test]
    fn what_is_read_and_written_anew_reads_the_same(bytes in mutated(), chunked in any::<bool>()) {
        let mut out = Vec::new();
        let mut reader = Reader::new(&bytes, &[usize::MAX]);
        let mut reads = Vec::new();
        while let Ok(Some((mut request, body))) = reader.request() {
            if request.head.authority.is_none() {
                break; // HTTP/1.0 without a host is written with an empty one, which we do not accept ourselves.
            }
            reads.push((format!("{} {} {}", request.head.method, request.head.path, request.head.host()), body.clone()));
            request.head.fields.strip_hop_by_hop(crate::Upgrades::Drop).unwrap();
            let framing = match body.len() as u64 {
                0 => Framing::None,
                _ if chunked => Framing::Chunked,
                length => Framing::Length(length),
            };
            encode::request(&mut out, &request.head, framing, false);
            let mut encoder = Encoder::new(framing);
            prop_assert!(encoder.before_data(&mut out, body.len()) || body.is_empty());
            if !body.is_empty() {
                out.extend_from_slice(&body);
                encoder.after_data(&mut out);
            }
            prop_assert!(encoder.end(&mut out, None));
            if !request.keep {
                break;
            }
        }
        let (again, end) = read(&out, &[usize::MAX]);
        prop_assert_eq!((again, end), (reads, End::Bytes { within: false }));
    }
}

//! Frames (RFC 9113 section 4 and 6): the nine bytes before each, the payloads that have a shape, and how they are written.

use super::hpack::Encoder;

/// What client and server send first: `PRI * HTTP/2.0 …`.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before the payload.
pub(super) const HEADER: usize = 9;
/// The largest payload that either side of ours sends or takes; nobody is asked for more.
pub(super) const PAYLOAD_MAX: usize = 16_384;
/// A window before anybody has said otherwise.
pub(super) const WINDOW: u32 = 65_535;
/// The largest window, and the largest id of a stream.
pub(super) const MAX: u32 = (1 << 31) - 1;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const HAS_PRIORITY: u8 = 0x20;

/// Codes of errors (RFC 9113 section 7).
pub(super) mod code {
    pub(crate) const NO_ERROR: u32 = 0;
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
    pub(crate) const INTERNAL_ERROR: u32 = 2;
    pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
    pub(crate) const STREAM_CLOSED: u32 = 5;
    pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
    pub(crate) const REFUSED_STREAM: u32 = 7;
    pub(crate) const CANCEL: u32 = 8;
    pub(crate) const COMPRESSION_ERROR: u32 = 9;
    pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
}

/// Identifiers of settings.
pub(super) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Header {
    pub(super) fn read(bytes: &[u8; HEADER]) -> Header {
        let [a, b, c, kind, flags, d, e, f, g] = *bytes;
        Header {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([d, e, f, g]) & MAX,
        }
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The first four bytes as a number.
pub(super) fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// Splits padding off a payload that may have some; `None` when there is more of it than payload.
pub(super) fn unpadded(header: Header, payload: &[u8]) -> Option<&[u8]> {
    if !header.has(PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

pub(super) fn header(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let [_, a, b, c] = (length as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, d, e, f, g]);
}

pub(super) fn settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    header(out, settings.len() * 6, SETTINGS, 0, 0);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn settings_ack(out: &mut Vec<u8>) {
    header(out, 0, SETTINGS, ACK, 0);
}

pub(super) fn ping(out: &mut Vec<u8>, flags: u8, payload: [u8; 8]) {
    header(out, 8, PING, flags, 0);
    out.extend_from_slice(&payload);
}

pub(super) fn window_update(out: &mut Vec<u8>, stream: u32, by: u32) {
    header(out, 4, WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&by.to_be_bytes());
}

pub(super) fn reset(out: &mut Vec<u8>, stream: u32, code: u32) {
    header(out, 4, RST_STREAM, 0, stream);
    out.extend_from_slice(&code.to_be_bytes());
}

pub(super) fn goaway(out: &mut Vec<u8>, last: u32, code: u32, why: &str) {
    header(out, 8 + why.len(), GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(why.as_bytes());
}

/// HEADERS with the block that `write` makes, and CONTINUATION for what does not fit.
pub(super) fn headers(
    out: &mut Vec<u8>,
    stream: u32,
    end: bool,
    encoder: &mut Encoder,
    write: impl FnOnce(&mut Encoder, &mut Vec<u8>),
) {
    let at = out.len();
    let flags = if end { END_STREAM } else { 0 };
    header(out, 0, HEADERS, flags | END_HEADERS, stream);
    write(encoder, out);
    let length = out.len() - at - HEADER;
    if length <= PAYLOAD_MAX {
        out[at + 1..at + 3].copy_from_slice(&(length as u16).to_be_bytes());
        return;
    }
    let block = out.split_off(at + HEADER);
    out.truncate(at);
    let mut pieces = block.chunks(PAYLOAD_MAX).peekable();
    let (mut kind, mut flags) = (HEADERS, flags);
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        header(out, piece.len(), kind, flags | last, stream);
        out.extend_from_slice(piece);
        (kind, flags) = (CONTINUATION, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Known;

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let mut out = Vec::new();
        header(&mut out, 0x01_02_03, 9, 0xff, 0x7fff_fffe);
        let read = Header::read(out.first_chunk().unwrap());
        assert_eq!(read, Header { length: 0x01_02_03, kind: 9, flags: 0xff, stream: 0x7fff_fffe });
        out[5] |= 0x80;
        assert_eq!(Header::read(out.first_chunk().unwrap()), read, "the reserved bit is ignored");
    }

    #[test]
    fn padding_that_leaves_nothing_of_the_frame_is_refused() {
        let header = Header { length: 3, kind: DATA, flags: PADDED, stream: 1 };
        assert_eq!(unpadded(header, &[1, 7, 0]), Some(&[7][..]));
        assert_eq!(unpadded(header, &[2, 0, 0]), Some(&[][..]));
        assert_eq!(unpadded(header, &[3, 0, 0]), None);
        assert_eq!(unpadded(header, &[]), None);
    }

    #[test]
    fn a_long_head_goes_on_in_continuations() {
        let (mut out, mut encoder) = (Vec::new(), Encoder::new());
        let value = vec![b'x'; 40_000];
        headers(&mut out, 3, true, &mut encoder, |encoder, out| encoder.field(out, b"a", &value, Known::Other));
        let (mut at, mut seen) = (0, Vec::new());
        while at < out.len() {
            let header = Header::read(out[at..].first_chunk().unwrap());
            seen.push((header.kind, header.flags, header.length));
            at += HEADER + header.length;
        }
        assert_eq!(seen[0], (HEADERS, END_STREAM, PAYLOAD_MAX));
        assert_eq!((seen[1].0, seen[1].1, seen[2].0, seen[2].1), (CONTINUATION, 0, CONTINUATION, END_HEADERS));
        assert_eq!((at, seen.len()), (out.len(), 3));
    }
}

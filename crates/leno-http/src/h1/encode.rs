//! Messages of HTTP/1 onto the wire, always from their parsed form.
//!
//! The fields that frame the message are written from what the writer was told about the body, in the place and
//! spelling that the fields had for them, and whatever else the fields say about framing or the connection is left out.

use bytes::Bytes;

use super::head::Framing;
use crate::fields::{Fields, Known};
use crate::message::{RequestHead, ResponseHead, TargetForm, Version};

/// What remains to be written of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoder {
    /// Nothing may be written.
    None,
    /// The response has no body although data is given (HEAD): it is dropped.
    Dropped,
    /// Exactly so many bytes.
    Length(u64),
    Chunked,
    /// Until the connection is closed.
    Close,
}

/// What a message says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// What the version implies.
    Implied,
    Close,
    KeepAlive,
}

/// Data of up to so many bytes is copied behind what waits to be written; longer data is written from where it is.
pub(crate) const COPY_MAX: usize = 4096;

impl Encoder {
    pub(crate) fn new(framing: Framing) -> Encoder {
        match framing {
            Framing::None => Encoder::None,
            Framing::Length(length) => Encoder::Length(length),
            Framing::Chunked => Encoder::Chunked,
            Framing::Close => Encoder::Close,
        }
    }

    /// Writes what comes before a piece of data of this length. False: the data does not fit the announced length.
    pub(crate) fn before_data(&mut self, out: &mut Vec<u8>, length: usize) -> bool {
        match self {
            Encoder::None => return length == 0,
            Encoder::Length(left) => match left.checked_sub(length as u64) {
                Some(rest) => *left = rest,
                None => return false,
            },
            Encoder::Chunked => hex_line(out, length),
            Encoder::Close | Encoder::Dropped => {}
        }
        true
    }

    /// Writes what comes after a piece of data.
    pub(crate) fn after_data(&self, out: &mut Vec<u8>) {
        if *self == Encoder::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Writes the end. False: data is missing.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>, trailers: Option<&Fields>) -> bool {
        let complete = !matches!(self, Encoder::Length(1..));
        if *self == Encoder::Chunked {
            out.extend_from_slice(b"0\r\n");
            for e in trailers.iter().flat_map(|t| t.entries().iter().map(|e| (t.name(e), t.value(e), e))) {
                if e.2.known == Known::Other {
                    line(out, e.0, e.1);
                }
            }
            out.extend_from_slice(b"\r\n");
        }
        complete
    }
}

/// Writes a request. `framing` is that of its body; with `close`, the server is told to close after its answer.
pub(crate) fn request(out: &mut Vec<u8>, head: &RequestHead, framing: Framing, close: bool) {
    out.reserve(head.fields.size() + head.path.len() + 128);
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    match head.form {
        TargetForm::Authority => out.extend_from_slice(head.host().as_bytes()),
        TargetForm::Absolute => {
            out.extend_from_slice(head.scheme.as_str().as_bytes());
            out.extend_from_slice(b"://");
            out.extend_from_slice(head.host().as_bytes());
            out.extend_from_slice(head.path.as_bytes());
        }
        TargetForm::Origin | TargetForm::Asterisk => out.extend_from_slice(head.path.as_bytes()),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !head.fields.has_known(Known::Host) {
        line(out, b"Host", head.host().as_bytes());
    }
    let upgrade = head.fields.has_known(Known::Upgrade);
    let mut framing_left = Some(match framing {
        // Servers ask for a length where a body is usual (RFC 9110 section 8.6).
        Framing::None if head.method.has_usual_body() => Framing::Length(0),
        framing => framing,
    });
    for e in head.fields.entries() {
        let (name, value) = (head.fields.name(e), head.fields.value(e));
        match e.known {
            Known::Other | Known::Te => line(out, name, value),
            Known::Host => match &head.authority {
                Some(authority) => line(out, name, authority.as_bytes()),
                None => line(out, name, value),
            },
            Known::ContentLength | Known::TransferEncoding => framing_line(out, name, e.known, &mut framing_left),
            Known::Connection | Known::Upgrade if upgrade => line(out, name, value),
            Known::Cookie | Known::Expect | Known::Trailer => line(out, name, value),
            _ => {}
        }
    }
    framing_end(out, framing_left);
    if close && !upgrade {
        line(out, b"connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a response in `version`. With `keep_length`, the `Content-Length` of the fields stands (HEAD, 304).
pub(crate) fn response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    framing: Framing,
    version: Version,
    persistence: Persistence,
    keep_length: bool,
) {
    out.reserve(head.fields.size() + 128);
    out.extend_from_slice(if version == Version::Http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(digits.format(head.status.clamp(100, 999)).as_bytes());
    out.push(b' ');
    out.extend(head.reason_phrase().bytes().filter(|b| crate::fields::is_value_byte(*b)));
    out.extend_from_slice(b"\r\n");
    let upgrade = head.status == 101;
    let mut framing_left = (!keep_length && !head.is_informational() && head.status != 204).then_some(match framing {
        Framing::None => Framing::Length(0),
        framing => framing,
    });
    for e in head.fields.entries() {
        let (name, value) = (head.fields.name(e), head.fields.value(e));
        match e.known {
            Known::Other | Known::Cookie | Known::Expect | Known::Host | Known::Te | Known::Trailer => {
                line(out, name, value);
            }
            Known::ContentLength if keep_length => line(out, name, value),
            Known::ContentLength | Known::TransferEncoding => framing_line(out, name, e.known, &mut framing_left),
            Known::Connection | Known::Upgrade if upgrade => line(out, name, value),
            // 426 says what to upgrade to (RFC 9110 section 15.5.22).
            Known::Upgrade if head.status == 426 => line(out, name, value),
            _ => {}
        }
    }
    framing_end(out, framing_left);
    match persistence {
        Persistence::Implied => {}
        Persistence::Close => out.extend_from_slice(b"connection: close\r\n"),
        Persistence::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes the field that frames the body where the original one stood.
fn framing_line(out: &mut Vec<u8>, name: &[u8], known: Known, left: &mut Option<Framing>) {
    match (known, *left) {
        (Known::ContentLength, Some(Framing::Length(length))) => {
            line(out, name, itoa::Buffer::new().format(length).as_bytes());
            *left = None;
        }
        (Known::TransferEncoding, Some(Framing::Chunked)) => {
            line(out, name, b"chunked");
            *left = None;
        }
        _ => {}
    }
}

fn framing_end(out: &mut Vec<u8>, left: Option<Framing>) {
    match left {
        Some(Framing::Length(length)) => line(out, b"content-length", itoa::Buffer::new().format(length).as_bytes()),
        Some(Framing::Chunked) => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Some(Framing::None | Framing::Close) | None => {}
    }
}

fn hex_line(out: &mut Vec<u8>, length: usize) {
    let mut shift = (usize::BITS - length.leading_zeros()).saturating_sub(1) / 4 * 4;
    loop {
        out.push(b"0123456789abcdef"[length >> shift & 0xf]);
        if shift == 0 {
            break;
        }
        shift -= 4;
    }
    out.extend_from_slice(b"\r\n");
}

/// The answer to a request that was refused.
pub(crate) fn refusal_body(what: crate::limits::Malformed) -> Bytes {
    Bytes::from(format!("bad request: {what} ({})\n", what.reason()))
}

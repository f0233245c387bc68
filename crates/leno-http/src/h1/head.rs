//! Heads and trailers: lines into positions, positions into messages.
//!
//! The parser takes the buffer as it grows and looks at every byte once: each line is parsed when it is complete, into
//! positions rather than slices, so that nothing is lost or repeated when the rest arrives later. What a line means for
//! the message (framing, host, connection) is decided when the head is complete.
//!
//! In: the bytes read so far. Out: a head and its [`Framing`], or the reason to refuse it (RFC 9112 sections 2 to 6).
//! Invariant: a head that is given out has exactly one reading.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::buffer;
use crate::fields::{Entry, Fields, Known, elements, is_protected, is_token_byte, valid_name, valid_value};
use crate::limits::{Limits, Malformed};
use crate::message::{
    Method, RequestHead, ResponseHead, Scheme, TargetForm, Text, Version, port_of, valid_authority, valid_target,
};

/// Parses one head, or the trailers of one body.
#[derive(Default)]
pub(crate) struct HeadParser {
    /// Everything before was searched for the end of a line.
    scanned: usize,
    /// Where the line that is not complete yet begins.
    line_at: usize,
    start: StartLine,
    list: Vec<Entry>,
}

#[derive(Default, Clone)]
enum StartLine {
    #[default]
    None,
    Request {
        method: Range<u32>,
        target: Range<u32>,
        version: Version,
    },
    Response {
        status: u16,
        reason: Range<u32>,
        version: Version,
    },
}

/// What the first line must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Request,
    Response,
    Trailers,
}

/// What the method of a request says about its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MethodKind {
    /// The answer has no body.
    Head,
    /// A good answer is a tunnel.
    Connect,
    Other,
}

/// How the end of a body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

/// A request as parsed.
pub(crate) struct Request {
    pub(crate) head: RequestHead,
    pub(crate) framing: Framing,
    /// The client wants the connection kept.
    pub(crate) keep: bool,
    /// `Expect: 100-continue`
    pub(crate) expects_continue: bool,
}

/// A response as parsed.
pub(crate) struct Response {
    pub(crate) head: ResponseHead,
    pub(crate) framing: Framing,
    pub(crate) keep: bool,
    /// `Keep-Alive: timeout=…`, in seconds
    pub(crate) keep_timeout: Option<u64>,
}

/// What fields say about their message.
#[derive(Default)]
struct Facts {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    keep_timeout: Option<u64>,
    /// `Expect` is there; of HTTP/1.0 it asks nothing.
    expects: bool,
    expects_continue: bool,
    host: Option<Range<usize>>,
}

// === impl MethodKind ===

impl MethodKind {
    pub(crate) fn of(method: &Method) -> MethodKind {
        match method {
            Method::Head => MethodKind::Head,
            Method::Connect => MethodKind::Connect,
            _ => MethodKind::Other,
        }
    }
}

// === impl HeadParser ===

impl HeadParser {
    /// Parses the lines that `bytes`, which is the buffer from its first byte, has by now. Answers the length of the
    /// head once it is complete.
    pub(crate) fn advance(
        &mut self,
        bytes: &[u8],
        expected: Expected,
        limits: &Limits,
    ) -> Result<Option<usize>, Malformed> {
        let limit = if expected == Expected::Trailers { limits.trailer_bytes } else { limits.head_bytes };
        while let Some(found) = memchr::memchr(b'\n', &bytes[self.scanned..]) {
            let lf = self.scanned + found;
            let line_at = self.line_at;
            self.scanned = lf + 1;
            self.line_at = lf + 1;
            if lf >= limit {
                return Err(Malformed::HeadTooLarge);
            }
            let line = match bytes[line_at..lf].strip_suffix(b"\r") {
                Some(line) => line,
                None if limits.lenient_lf && expected != Expected::Trailers => &bytes[line_at..lf],
                None => return Err(Malformed::BareLf),
            };
            if matches!(self.start, StartLine::None) && expected != Expected::Trailers {
                if line.is_empty() && line_at == 0 && expected == Expected::Request {
                    continue; // One empty line before a request is tolerated (RFC 9112 section 2.2).
                }
                self.start_line(line, line_at, expected, limits)?;
            } else if line.is_empty() {
                return Ok(Some(lf + 1));
            } else {
                self.field_line(line, line_at, limits)?;
            }
        }
        self.scanned = bytes.len();
        if bytes.len() >= limit {
            return Err(Malformed::HeadTooLarge);
        }
        if matches!(self.start, StartLine::None)
            && expected != Expected::Trailers
            && bytes.len() - self.line_at > limits.start_line_bytes + 1
        {
            return Err(Malformed::StartLineTooLong);
        }
        Ok(None)
    }

    fn start_line(&mut self, line: &[u8], at: usize, expected: Expected, limits: &Limits) -> Result<(), Malformed> {
        if line.len() > limits.start_line_bytes {
            return Err(Malformed::StartLineTooLong);
        }
        self.start = if expected == Expected::Request { request_line(line, at)? } else { status_line(line, at)? };
        Ok(())
    }

    fn field_line(&mut self, line: &[u8], at: usize, limits: &Limits) -> Result<(), Malformed> {
        let Some(colon) = line.iter().position(|b| !is_token_byte(*b)) else { return Err(Malformed::FieldName) };
        if colon == 0 && matches!(line[0], b' ' | b'\t') {
            return Err(Malformed::Folded);
        }
        if colon == 0 || line[colon] != b':' || colon > u16::MAX as usize {
            return Err(Malformed::FieldName);
        }
        let raw = &line[colon + 1..];
        if !valid_value(raw) {
            return Err(if raw.contains(&b'\r') { Malformed::BareCr } else { Malformed::FieldValue });
        }
        let value = trim(raw);
        if self.list.len() >= limits.head_fields {
            return Err(Malformed::TooManyFields);
        }
        buffer::take_list(&mut self.list);
        let start = at + colon + 1 + (value.as_ptr() as usize - raw.as_ptr() as usize);
        self.list.push(Entry::in_block(at..at + colon, start..start + value.len(), Known::of(&line[..colon])));
        Ok(())
    }

    /// The fields of trailers, of which those are dropped that have no business there.
    pub(crate) fn into_trailers(self, block: Bytes) -> Fields {
        let mut fields = Fields::from_block(self.list, block);
        fields.strip_trailers();
        fields
    }

    /// The request whose head is the first `length` bytes of the buffer, which are taken off it.
    pub(crate) fn into_request(self, buffer: &mut BytesMut, length: usize) -> Result<Request, Malformed> {
        let block = buffer.split_to(length).freeze();
        let StartLine::Request { method, target, version } = self.start else { return Err(Malformed::StartLine) };
        let facts = Facts::of(&self.list, &block, version)?;
        let method = {
            let method = &block[range(&method)];
            Method::known(method).map_or_else(|| Method::parse(method).ok_or(Malformed::StartLine), Ok)?
        };
        let target = parse_target(&block, range(&target), &method)?;
        let authority = match (target.authority, facts.host.clone()) {
            (_, None) if version != Version::Http10 => return Err(Malformed::HostMissing),
            (Some(authority), _) => Some(authority),
            (None, Some(host)) if host.is_empty() && version == Version::Http10 => None,
            (None, Some(host)) => {
                if !valid_authority(&block[host.clone()]) {
                    return Err(Malformed::Host);
                }
                Some(Text::from_utf8(block.slice(host)).ok_or(Malformed::Host)?)
            }
            (None, None) => None,
        };
        let framing = match facts.length {
            _ if facts.chunked => Framing::Chunked,
            Some(length) if length > 0 => Framing::Length(length),
            _ => Framing::None,
        };
        if method == Method::Connect && framing != Framing::None {
            return Err(Malformed::UnexpectedBody);
        }
        let mut fields = Fields::from_block(self.list, block);
        if facts.expects {
            fields.remove_known(Known::Expect);
        }
        Ok(Request {
            framing,
            keep: facts.keeps(version),
            expects_continue: facts.expects_continue && framing != Framing::None,
            head: RequestHead {
                method,
                scheme: target.scheme,
                authority,
                path: target.path,
                version,
                fields,
                form: target.form,
            },
        })
    }

    /// The response, to a request of `method`, whose head is the first `length` bytes of the buffer, which are taken off.
    pub(crate) fn into_response(
        self,
        buffer: &mut BytesMut,
        length: usize,
        method: MethodKind,
    ) -> Result<Response, Malformed> {
        let block = buffer.split_to(length).freeze();
        let StartLine::Response { status, reason, version } = self.start else { return Err(Malformed::StartLine) };
        let facts = Facts::of(&self.list, &block, version)?;
        let framing = match (status, facts.length) {
            (100..200 | 204, length) if facts.chunked || length.is_some_and(|n| n > 0) => {
                return Err(Malformed::UnexpectedBody);
            }
            (100..200 | 204 | 304, _) => Framing::None,
            _ if method == MethodKind::Head => Framing::None,
            (200..300, _) if method == MethodKind::Connect => Framing::None,
            _ if facts.chunked => Framing::Chunked,
            (_, Some(0)) => Framing::None,
            (_, Some(length)) => Framing::Length(length),
            (_, None) => Framing::Close,
        };
        let reason = Text::from_utf8(block.slice(range(&reason))).unwrap_or_default();
        Ok(Response {
            framing,
            keep: framing != Framing::Close && facts.keeps(version),
            keep_timeout: facts.keep_timeout,
            head: ResponseHead { status, reason, version, fields: Fields::from_block(self.list, block) },
        })
    }
}

fn range(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

fn positions(at: usize, range: Range<usize>) -> Range<u32> {
    (at + range.start) as u32..(at + range.end) as u32
}

/// Without the space and tabs around it.
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

// --- start lines ---

fn request_line(line: &[u8], at: usize) -> Result<StartLine, Malformed> {
    let method_end = memchr::memchr(b' ', line).ok_or(Malformed::StartLine)?;
    let target_end = memchr::memrchr(b' ', line).ok_or(Malformed::StartLine)?;
    if target_end <= method_end + 1 || !valid_name(&line[..method_end]) {
        return Err(Malformed::StartLine);
    }
    let target = &line[method_end + 1..target_end];
    if !valid_target(target) {
        return Err(Malformed::Target);
    }
    let version = parse_version(&line[target_end + 1..])?;
    Ok(StartLine::Request {
        method: positions(at, 0..method_end),
        target: positions(at, method_end + 1..target_end),
        version,
    })
}

fn status_line(line: &[u8], at: usize) -> Result<StartLine, Malformed> {
    let (version, rest) = line.split_at_checked(8).ok_or(Malformed::StartLine)?;
    let version = parse_version(version)?;
    let [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', reason @ ..] = rest else {
        return Err(Malformed::Status);
    };
    let status = u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0');
    match reason {
        [] => {}
        [b' ', text @ ..] if valid_value(text) => {}
        _ => return Err(Malformed::StartLine),
    }
    Ok(StartLine::Response { status, reason: positions(at, (8 + 4 + 1).min(line.len())..line.len()), version })
}

fn parse_version(bytes: &[u8]) -> Result<Version, Malformed> {
    match bytes {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        // A higher minor version is served as the highest that is known (RFC 9110 section 2.5).
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Malformed::Version)
        }
        _ => Err(Malformed::StartLine),
    }
}

// --- target and host ---

struct Target {
    form: TargetForm,
    scheme: Scheme,
    authority: Option<Text>,
    path: Text,
}

fn parse_target(block: &Bytes, at: Range<usize>, method: &Method) -> Result<Target, Malformed> {
    let text = |range: Range<usize>| Text::from_utf8(block.slice(range)).ok_or(Malformed::Target);
    let bytes = &block[at.clone()];
    let plain = |form, path| Target { form, scheme: Scheme::Http, authority: None, path };
    if *method == Method::Connect {
        if !valid_authority(bytes) || port_of(bytes).is_none() {
            return Err(Malformed::Target);
        }
        return Ok(Target { authority: Some(text(at)?), ..plain(TargetForm::Authority, Text::default()) });
    }
    match bytes {
        [b'/', ..] => Ok(plain(TargetForm::Origin, text(at)?)),
        b"*" if *method == Method::Options => Ok(plain(TargetForm::Asterisk, Text::from_static("*"))),
        _ => {
            let (scheme, skip) = match bytes {
                _ if starts_with(bytes, b"http://") => (Scheme::Http, 7),
                _ if starts_with(bytes, b"https://") => (Scheme::Https, 8),
                _ => return Err(Malformed::Target),
            };
            let rest = &bytes[skip..];
            let end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
            if !valid_authority(&rest[..end]) {
                return Err(Malformed::Target);
            }
            let authority = Some(text(at.start + skip..at.start + skip + end)?);
            let path = match rest.get(end) {
                None if *method == Method::Options => Text::from_static("*"),
                None => Text::from_static("/"),
                Some(b'/') => text(at.start + skip + end..at.end)?,
                Some(_) => Text::from(format!("/{}", text(at.start + skip + end..at.end)?)),
            };
            Ok(Target { form: TargetForm::Absolute, scheme, authority, path })
        }
    }
}

fn starts_with(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.len() >= prefix.len() && bytes[..prefix.len()].eq_ignore_ascii_case(prefix)
}

// === impl Facts ===

impl Facts {
    fn of(list: &[Entry], block: &Bytes, version: Version) -> Result<Facts, Malformed> {
        let mut facts = Facts::default();
        let mut encodings = 0;
        let mut unknown_encoding = false;
        for e in list {
            if e.known == Known::Other {
                continue;
            }
            let at = e.value_range();
            let value = &block[at.clone()];
            match e.known {
                Known::ContentLength => {
                    if facts.length.is_some() {
                        return Err(Malformed::ContentLength);
                    }
                    facts.length = Some(parse_length(value)?);
                }
                Known::TransferEncoding => {
                    encodings += 1;
                    if value.eq_ignore_ascii_case(b"chunked") {
                        facts.chunked = true;
                    } else if is_unknown_encoding(value) {
                        unknown_encoding = true;
                    } else {
                        return Err(Malformed::TransferEncoding);
                    }
                }
                Known::Connection => facts.connection(value)?,
                Known::KeepAlive => facts.keep_timeout = keep_alive_timeout(value),
                Known::Host if facts.host.is_some() => return Err(Malformed::HostTwice),
                Known::Host => facts.host = Some(at),
                Known::Expect => {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(Malformed::Expectation);
                    }
                    facts.expects = true;
                    facts.expects_continue = version != Version::Http10;
                }
                _ => {}
            }
        }
        match encodings {
            0 => {}
            _ if facts.length.is_some() => return Err(Malformed::LengthAndEncoding),
            _ if version == Version::Http10 => return Err(Malformed::EncodingIn10),
            1 if unknown_encoding => return Err(Malformed::UnknownEncoding),
            1 => {}
            _ => return Err(Malformed::TransferEncoding),
        }
        Ok(facts)
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Malformed> {
        for option in elements(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if is_protected(option) {
                return Err(Malformed::Nominated);
            }
        }
        Ok(())
    }

    fn keeps(&self, version: Version) -> bool {
        !self.close && (version != Version::Http10 || self.keep_alive)
    }
}

/// The value of `Content-Length`: digits, and no more of them than fit.
pub(crate) fn parse_length(value: &[u8]) -> Result<u64, Malformed> {
    if value.is_empty() || value.len() > 19 {
        return Err(Malformed::ContentLength);
    }
    value.iter().try_fold(0u64, |sum, b| {
        if b.is_ascii_digit() { Ok(sum * 10 + u64::from(b - b'0')) } else { Err(Malformed::ContentLength) }
    })
}

/// Codings that are well-formed, of which `chunked` may be the last, and which are not spoken here.
fn is_unknown_encoding(value: &[u8]) -> bool {
    let mut codings = value.split(|b| *b == b',').map(trim).peekable();
    while let Some(coding) = codings.next() {
        let chunked = coding.eq_ignore_ascii_case(b"chunked");
        if !valid_name(coding) || coding.eq_ignore_ascii_case(b"identity") || (chunked && codings.peek().is_some()) {
            return false;
        }
    }
    true
}

fn keep_alive_timeout(value: &[u8]) -> Option<u64> {
    elements(value).find_map(|e| {
        let seconds =
            std::str::from_utf8(e).ok()?.split_once('=').filter(|(k, _)| k.eq_ignore_ascii_case("timeout"))?;
        seconds.1.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests;

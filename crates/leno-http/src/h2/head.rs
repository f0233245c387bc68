//! Heads and trailers between our messages and the blocks of HTTP/2.
//!
//! From HTTP/2 ([`Collect`]): what RFC 9113 section 8 calls malformed is found while the block is read, crumbs of cookies
//! are joined, and names, values and pseudo-fields lie in one block of bytes. Towards HTTP/2: names in lower case, fields
//! of one connection dropped, `te` only as `trailers`, `Host` as `:authority`.

use bytes::Bytes;

use super::hpack::{Encoder, Sink};
use crate::body::BodyLength;
use crate::error::{Error, Result};
use crate::fields::{Entry, Fields, Known, valid_name, valid_value};
use crate::h1::head::parse_length;
use crate::limits::{Limits, Malformed};
use crate::message::{
    Method, RequestHead, ResponseHead, Scheme, TargetForm, Text, Version, valid_authority, valid_target,
};

/// What a block is the head of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
    Trailers,
}

/// Takes the fields of one block, and makes a head of them.
pub(super) struct Collect {
    kind: Kind,
    block: Vec<u8>,
    list: Vec<Entry>,
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Range>,
    path: Option<Range>,
    host: Option<Range>,
    status: u16,
    /// Where `Cookie` is in the list, and the crumbs when there is more than one.
    cookie: Option<(usize, Vec<u8>)>,
    length: Option<u64>,
    expects: bool,
    /// A field that is no pseudo-field came.
    fields: bool,
    size: usize,
    size_max: usize,
    fields_max: usize,
    fault: Option<Malformed>,
}

type Range = (u32, u32);

/// A request, and what its stream has to know of it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: RequestHead,
    pub(super) length: Option<u64>,
    /// `Expect: 100-continue` stood among the fields.
    pub(super) expects: bool,
}

/// A response, and the length it announces.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) head: ResponseHead,
    pub(super) length: Option<u64>,
}

/// Bytes that the block of a usual head takes.
const USUAL: usize = 512;
/// A list that has so many times the size that any may have is no mistake, and ends the connection.
const HOPELESS: usize = 16;
/// Fields that a usual head has.
const USUAL_FIELDS: usize = 12;

// === impl Collect ===

impl Collect {
    pub(super) fn new(kind: Kind, limits: &Limits) -> Collect {
        let small = if kind == Kind::Trailers { 4 } else { 1 };
        Collect {
            kind,
            block: Vec::with_capacity(USUAL / small),
            list: Vec::with_capacity(USUAL_FIELDS / small),
            method: None,
            scheme: None,
            authority: None,
            path: None,
            host: None,
            status: 0,
            cookie: None,
            length: None,
            expects: false,
            fields: false,
            size: 0,
            size_max: limits.h2_field_list_bytes as usize,
            fields_max: limits.head_fields,
            fault: None,
        }
    }

    fn fault(&mut self, what: Malformed) {
        self.fault.get_or_insert(what);
    }

    fn put(&mut self, bytes: &[u8]) -> Range {
        let at = self.block.len() as u32;
        self.block.extend_from_slice(bytes);
        (at, self.block.len() as u32)
    }

    fn pseudo(&mut self, name: &[u8], value: &[u8]) {
        if self.fields || self.kind == Kind::Trailers {
            return self.fault(Malformed::H2Protocol);
        }
        let request = self.kind == Kind::Request;
        let twice = match name {
            b":method" if request => match Method::parse(value) {
                Some(method) => self.method.replace(method).is_some(),
                None => return self.fault(Malformed::StartLine),
            },
            b":scheme" if request => {
                let scheme = if value.eq_ignore_ascii_case(b"https") { Scheme::Https } else { Scheme::Http };
                if !is_scheme(value) {
                    self.fault(Malformed::Target);
                }
                self.scheme.replace(scheme).is_some()
            }
            b":authority" if request => {
                let range = self.put(value);
                self.authority.replace(range).is_some()
            }
            b":path" if request => {
                let range = self.put(value);
                self.path.replace(range).is_some()
            }
            b":status" if !request => {
                let twice = self.status != 0;
                match parse_status(value) {
                    Some(status) => self.status = status,
                    None => return self.fault(Malformed::Status),
                }
                twice
            }
            // `:protocol` among them: extended CONNECT was not offered.
            _ => true,
        };
        if twice {
            self.fault(Malformed::H2Protocol);
        }
    }

    fn regular(&mut self, name: &[u8], value: &[u8], known: Known) {
        self.fields = true;
        match known {
            Known::Other | Known::Trailer | Known::Http2Settings => {}
            Known::Te if value.eq_ignore_ascii_case(b"trailers") => {}
            Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::TransferEncoding
            | Known::Upgrade => return self.fault(Malformed::H2Protocol),
            Known::Cookie => return self.crumb(name, value),
            Known::ContentLength => match parse_length(value) {
                Ok(length) if self.length.is_none() => self.length = Some(length),
                _ => return self.fault(Malformed::ContentLength),
            },
            Known::Host if self.kind == Kind::Request => {
                if self.host.is_some() {
                    return self.fault(Malformed::HostTwice);
                }
                self.host = Some(self.put(value));
                return;
            }
            Known::Expect if self.kind == Kind::Request => {
                self.expects = true;
                return;
            }
            Known::Host | Known::Expect => {}
        }
        if self.kind == Kind::Trailers && known != Known::Other {
            return;
        }
        self.push(name, value, known);
    }

    fn push(&mut self, name: &[u8], value: &[u8], known: Known) {
        let at = self.block.len();
        self.block.extend_from_slice(name);
        let value_at = self.block.len();
        self.block.extend_from_slice(value);
        self.list.push(Entry::in_block(at..value_at, value_at..self.block.len(), known));
    }

    /// One of the pieces into which HTTP/2 may cut `Cookie` (RFC 9113 section 8.2.3).
    fn crumb(&mut self, name: &[u8], value: &[u8]) {
        let Some((index, crumbs)) = &mut self.cookie else {
            self.cookie = Some((self.list.len(), Vec::new()));
            return self.push(name, value, Known::Cookie);
        };
        if crumbs.is_empty() {
            crumbs.extend_from_slice(&self.block[self.list[*index].value_range()]);
        }
        crumbs.extend_from_slice(b"; ");
        crumbs.extend_from_slice(value);
    }

    /// The block of bytes and the list, for whoever asked for no pseudo-fields.
    fn into_fields(mut self) -> (Bytes, Vec<Entry>) {
        if let Some((index, crumbs)) = self.cookie.take().filter(|(_, crumbs)| !crumbs.is_empty()) {
            let at = self.block.len();
            self.block.extend_from_slice(b"cookie");
            let value_at = self.block.len();
            self.block.extend_from_slice(&crumbs);
            let mut joined = Entry::in_block(at..value_at, value_at..self.block.len(), Known::Cookie);
            joined.never_indexed = self.list[index].never_indexed;
            self.list[index] = joined;
        }
        (Bytes::from(self.block), self.list)
    }

    fn slice(&self, range: Range) -> &[u8] {
        &self.block[range.0 as usize..range.1 as usize]
    }

    /// The request, after all fields.
    pub(super) fn request(mut self) -> Result<Request, Malformed> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let method = self.method.take().ok_or(Malformed::H2Protocol)?;
        let authority = match (self.authority, self.host) {
            (Some(authority), Some(host)) if !self.slice(authority).eq_ignore_ascii_case(self.slice(host)) => {
                return Err(Malformed::HostTwice);
            }
            (Some(authority), _) => authority,
            (None, Some(host)) if method != Method::Connect => host,
            (None, _) => return Err(Malformed::HostMissing),
        };
        if !valid_authority(self.slice(authority)) {
            return Err(Malformed::Host);
        }
        let (path, form) = if method == Method::Connect {
            if self.scheme.is_some() || self.path.is_some() {
                return Err(Malformed::H2Protocol);
            }
            ((0, 0), TargetForm::Authority)
        } else {
            let path = self.path.filter(|_| self.scheme.is_some()).ok_or(Malformed::H2Protocol)?;
            (path, form_of(&method, self.slice(path))?)
        };
        let (scheme, length, expects) = (self.scheme.unwrap_or_default(), self.length, self.expects);
        let (block, list) = self.into_fields();
        let part = |(from, to): Range| Text::from_utf8(block.slice(from as usize..to as usize));
        let head = RequestHead {
            method,
            scheme,
            authority: Some(part(authority).ok_or(Malformed::Host)?),
            path: if path.1 == path.0 { Text::default() } else { part(path).ok_or(Malformed::Target)? },
            version: Version::Http2,
            fields: Fields::from_block(list, block),
            form,
        };
        Ok(Request { head, length, expects })
    }

    /// The response, after all fields.
    pub(super) fn response(self) -> Result<Received, Malformed> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        // 101 is not of HTTP/2 (RFC 9113 section 8.6).
        if matches!(self.status, 0 | 101) {
            return Err(Malformed::Status);
        }
        let (status, length) = (self.status, self.length);
        let (block, list) = self.into_fields();
        let fields = Fields::from_block(list, block);
        let head = ResponseHead { status, reason: Text::default(), version: Version::Http2, fields };
        Ok(Received { head, length })
    }

    /// The trailers, after all fields.
    pub(super) fn trailers(self) -> Result<Fields, Malformed> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let (block, list) = self.into_fields();
        let mut fields = Fields::from_block(list, block);
        fields.strip_trailers();
        Ok(fields)
    }
}

impl Sink for Collect {
    fn field(&mut self, name: &[u8], value: &[u8], known: Known, valid: bool) {
        self.size += name.len() + value.len() + 32;
        if self.fault.is_some() {
            return;
        }
        if self.size > self.size_max || name.len() > usize::from(u16::MAX) {
            return self.fault(Malformed::HeadTooLarge);
        }
        if !valid {
            return self.fault(if valid_value(value) { Malformed::FieldName } else { Malformed::FieldValue });
        }
        if name.first() == Some(&b':') {
            return self.pseudo(name, value);
        }
        if matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']) {
            return self.fault(Malformed::FieldValue);
        }
        if self.list.len() >= self.fields_max {
            return self.fault(Malformed::TooManyFields);
        }
        self.regular(name, value, known);
    }

    fn never_indexed(&mut self, name: &[u8], value: &[u8], known: Known, valid: bool) {
        let before = self.list.len();
        self.field(name, value, known, valid);
        let crumb = self.cookie.as_ref().filter(|_| known == Known::Cookie).map(|(index, _)| *index);
        if let Some(entry) = self.list.get_mut(crumb.unwrap_or(before)) {
            entry.never_indexed = true;
        }
    }

    fn is_hopeless(&self) -> bool {
        self.size > HOPELESS * self.size_max
    }
}

fn form_of(method: &Method, path: &[u8]) -> Result<TargetForm, Malformed> {
    match path {
        b"*" if *method == Method::Options => Ok(TargetForm::Asterisk),
        [b'/', ..] if valid_target(path) => Ok(TargetForm::Origin),
        _ => Err(Malformed::Target),
    }
}

fn is_scheme(value: &[u8]) -> bool {
    value.first().is_some_and(u8::is_ascii_alphabetic)
        && value.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

fn parse_status(value: &[u8]) -> Option<u16> {
    match value {
        [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
            Some(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
        }
        _ => None,
    }
}

// === Writing ===

/// What becomes of `Content-Length`.
#[derive(Clone, Copy)]
enum Length {
    Keep,
    Drop,
    Set(u64),
}

/// Whether the request can be sent over HTTP/2 at all; to be asked before [`write_request`].
pub(super) fn check_request(head: &RequestHead) -> Result<()> {
    if let Method::Other(token) = &head.method
        && !valid_name(token.as_bytes())
    {
        return Err(Error::misuse("the method cannot be sent over HTTP/2"));
    }
    if !valid_authority(authority_of(head)) {
        return Err(Error::misuse("the authority cannot be sent over HTTP/2"));
    }
    let path = head.path.as_bytes();
    if head.method != Method::Connect && !(matches!(path, b"" | b"*" | [b'/', ..]) && valid_target(path)) {
        return Err(Error::misuse("the target cannot be sent over HTTP/2"));
    }
    Ok(())
}

/// Writes the block of a request.
pub(super) fn write_request(encoder: &mut Encoder, out: &mut Vec<u8>, head: &RequestHead, length: BodyLength) {
    encoder.begin(out);
    match &head.method {
        Method::Get => encoder.indexed(out, 2),
        Method::Post => encoder.indexed(out, 3),
        other => encoder.pseudo(out, 2, ":method", other.as_str().as_bytes()),
    }
    if head.method != Method::Connect {
        encoder.indexed(out, if head.scheme == Scheme::Https { 7 } else { 6 });
        match head.path.as_bytes() {
            b"" | b"/" => encoder.indexed(out, 4),
            path => encoder.pseudo(out, 4, ":path", path),
        }
    }
    encoder.pseudo(out, 1, ":authority", authority_of(head));
    write_fields(encoder, out, &head.fields, known_length(length, false));
}

/// Writes the block of a response. With `keep_length`, the `Content-Length` of the fields stands (HEAD, 304).
pub(super) fn write_response(
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
    head: &ResponseHead,
    length: BodyLength,
    keep_length: bool,
) {
    encoder.begin(out);
    let status = if (100..1000).contains(&head.status) { head.status } else { 500 };
    match status {
        200 => encoder.indexed(out, 8),
        204 => encoder.indexed(out, 9),
        206 => encoder.indexed(out, 10),
        304 => encoder.indexed(out, 11),
        400 => encoder.indexed(out, 12),
        404 => encoder.indexed(out, 13),
        500 => encoder.indexed(out, 14),
        _ => {
            let digit = |by: u16| b'0' + (status / by % 10) as u8;
            encoder.pseudo(out, 8, ":status", &[digit(100), digit(10), digit(1)]);
        }
    }
    let length = if matches!(status, 100..200 | 204) { Length::Drop } else { known_length(length, keep_length) };
    write_fields(encoder, out, &head.fields, length);
}

/// Writes the block of trailers.
pub(super) fn write_trailers(encoder: &mut Encoder, out: &mut Vec<u8>, fields: &Fields) {
    encoder.begin(out);
    write_fields(encoder, out, fields, Length::Drop);
}

fn authority_of(head: &RequestHead) -> &[u8] {
    match &head.authority {
        Some(authority) => authority.as_bytes(),
        None => head.fields.get_known(Known::Host).map(|e| head.fields.value(e)).unwrap_or_default(),
    }
}

fn known_length(length: BodyLength, keep: bool) -> Length {
    match length {
        _ if keep => Length::Keep,
        BodyLength::Known(length) => Length::Set(length),
        BodyLength::Empty | BodyLength::Unknown => Length::Drop,
    }
}

fn write_fields(encoder: &mut Encoder, out: &mut Vec<u8>, fields: &Fields, length: Length) {
    let mut lowered = Vec::new();
    for e in fields.entries() {
        let value = fields.value(e);
        match e.known {
            Known::Other | Known::Cookie | Known::Expect => {}
            Known::ContentLength if matches!(length, Length::Keep) => {}
            Known::Te if value.eq_ignore_ascii_case(b"trailers") => {}
            _ => continue,
        }
        let mut name = fields.name(e);
        if name.iter().any(u8::is_ascii_uppercase) {
            lowered.clear();
            lowered.extend(name.iter().map(u8::to_ascii_lowercase));
            name = &lowered;
        }
        if e.never_indexed {
            encoder.never_indexed(out, name, value);
        } else {
            encoder.field(out, name, value, e.known);
        }
    }
    if let Length::Set(length) = length {
        const CONTENT_LENGTH: u8 = 28;
        encoder.literal(out, CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes());
    }
}

#[cfg(test)]
#[path = "head/tests.rs"]
mod tests;

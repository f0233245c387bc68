//! What a message is before and after the wire: method, target, version, fields.
//!
//! HTTP/1 and HTTP/2 are read into the same types and written from them, so that whatever stands between the two sides
//! of a proxy never knows which one it talks to. Text that came off the wire is a slice of the buffer it was read into.

use std::fmt;

use bytes::Bytes;

use crate::fields::Fields;

/// UTF-8 text that shares the buffer it was read into.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text(Bytes);

/// A request method; case matters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Method {
    /// `GET`
    #[default]
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `CONNECT`
    Connect,
    /// `OPTIONS`
    Options,
    /// `TRACE`
    Trace,
    /// `PATCH`
    Patch,
    /// Any other token.
    Other(Text),
}

/// The version a message was read in or is to be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
}

/// What the target of a request said about its scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Scheme {
    /// `http`, also where nothing was said
    #[default]
    Http,
    /// `https`
    Https,
}

/// The four forms of a request target (RFC 9112 section 3.2). HTTP/2 requests are `Origin`, `Asterisk` or `Authority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path`, as sent to an HTTP proxy
    Absolute,
    /// `host:port`, of CONNECT
    Authority,
    /// `*`, of OPTIONS
    Asterisk,
}

/// Everything of a request but its body.
///
/// `authority` is the truth about the host: it comes from an absolute target, else from `Host`, or from `:authority`,
/// and is what is written as `Host` (in place and spelling of the `host` field if there is one) or `:authority`.
#[derive(Debug, Clone, Default)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The scheme the target named.
    pub scheme: Scheme,
    /// Host and port; `None` only where HTTP/1.0 left it out.
    pub authority: Option<Text>,
    /// Path and query, `*` in asterisk form, empty in authority form.
    pub path: Text,
    /// The version it came in.
    pub version: Version,
    /// The fields, in order and spelt as sent.
    pub fields: Fields,
    /// How the target was written.
    pub form: TargetForm,
}

/// Everything of a response but its body.
#[derive(Debug, Clone, Default)]
pub struct ResponseHead {
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase as sent; empty: the usual one of the status is written.
    pub reason: Text,
    /// The version it came in.
    pub version: Version,
    /// The fields, in order and spelt as sent.
    pub fields: Fields,
}

// === impl Text ===

impl Text {
    /// The text of `bytes`, unless they are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Option<Text> {
        std::str::from_utf8(&bytes).is_ok().then_some(Text(bytes))
    }

    /// Text that lives as long as the program.
    pub const fn from_static(text: &'static str) -> Text {
        Text(Bytes::from_static(text.as_bytes()))
    }

    /// As a string slice.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a Text is only made from valid UTF-8")
    }

    /// As bytes, without a look at them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The shared bytes.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::ops::Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(Bytes::from(text))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Method ===

impl Method {
    /// The method spelt so; `None` when it is not a token.
    pub fn parse(bytes: &[u8]) -> Option<Method> {
        Method::known(bytes)
            .or_else(|| crate::fields::valid_name(bytes).then(|| Method::Other(Text(Bytes::copy_from_slice(bytes)))))
    }

    /// One of the nine, or `None`.
    pub(crate) fn known(bytes: &[u8]) -> Option<Method> {
        Some(match bytes {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            b"PUT" => Method::Put,
            b"DELETE" => Method::Delete,
            b"CONNECT" => Method::Connect,
            b"OPTIONS" => Method::Options,
            b"TRACE" => Method::Trace,
            b"PATCH" => Method::Patch,
            _ => return None,
        })
    }

    /// As written on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Connect => "CONNECT",
            Method::Options => "OPTIONS",
            Method::Trace => "TRACE",
            Method::Patch => "PATCH",
            Method::Other(text) => text.as_str(),
        }
    }

    /// Whether doing it twice is doing it once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        matches!(self, Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace)
    }

    /// Whether every server reads the body of such a request (RFC 9110 section 9.3). Of a GET many leave it unread.
    pub(crate) fn has_usual_body(&self) -> bool {
        matches!(self, Method::Post | Method::Put | Method::Patch)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Version, Scheme ===

impl Version {
    /// `1.0`, `1.1` or `2`, as access logs write it after `HTTP/`.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "1.0",
            Version::Http11 => "1.1",
            Version::Http2 => "2",
        }
    }
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

// === impl RequestHead ===

impl RequestHead {
    /// A request in origin form.
    pub fn new(method: Method, authority: impl Into<Text>, path: impl Into<Text>) -> RequestHead {
        RequestHead { method, authority: Some(authority.into()), path: path.into(), ..RequestHead::default() }
    }

    /// Whether it can be written without being read as something else: its method is a token, its target has no space
    /// or control character and no fragment, its authority is a host and perhaps a port.
    pub fn is_well_formed(&self) -> bool {
        let method = match &self.method {
            Method::Other(token) => crate::fields::valid_name(token.as_bytes()),
            _ => true,
        };
        let path = match self.form {
            TargetForm::Authority => self.path.is_empty(),
            TargetForm::Asterisk => self.path.as_bytes() == b"*",
            TargetForm::Origin | TargetForm::Absolute => self.path.as_bytes().first() == Some(&b'/'),
        };
        method
            && path
            && valid_target(self.path.as_bytes())
            && self.authority.as_ref().is_none_or(|a| valid_authority(a.as_bytes()))
    }

    /// The path, and the query without its question mark.
    pub fn path_and_query(&self) -> (&str, Option<&str>) {
        let path = self.path.as_str();
        path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)))
    }

    /// The path without the query.
    pub fn path_only(&self) -> &str {
        self.path_and_query().0
    }

    /// The query, without its question mark.
    pub fn query(&self) -> Option<&str> {
        self.path_and_query().1
    }

    /// Host and port as written; empty where there is none.
    pub fn host(&self) -> &str {
        self.authority.as_deref().unwrap_or("")
    }
}

/// Whether every byte may stand in a request target: visible ASCII, and no fragment.
pub(crate) fn valid_target(target: &[u8]) -> bool {
    !target.iter().fold(false, |bad, b| bad | (*b <= b' ') | (*b >= 0x7f) | (*b == b'#'))
}

/// Whether it is a host and perhaps a port, and nothing else: no user, no list, no path.
pub(crate) fn valid_authority(bytes: &[u8]) -> bool {
    let (host, port) = split_port(bytes);
    let host_ok = match host {
        [] => false,
        [b'[', inner @ .., b']'] => std::str::from_utf8(inner).is_ok_and(|a| a.parse::<std::net::Ipv6Addr>().is_ok()),
        _ => host.iter().all(|b| is_host_byte(*b)) && !has_empty_label(host),
    };
    host_ok && port.is_none_or(|port| port.is_empty() || parse_port(port).is_some())
}

/// Whether a name has a label without a letter, other than the one behind a last dot: `.`, `.a`, `a..b`. Without their last
/// dot such names are empty, or others, and not everybody takes that off.
fn has_empty_label(host: &[u8]) -> bool {
    host.first() == Some(&b'.') || host.windows(2).any(|two| two == b"..")
}

/// Unreserved characters, and the delimiters but for the comma, which would make two hosts of one. No escapes: no name
/// of DNS has any, and not everybody would decode them.
fn is_host_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(b, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=')
}

/// The port, if one is given.
pub(crate) fn port_of(authority: &[u8]) -> Option<u16> {
    split_port(authority).1.and_then(parse_port)
}

fn split_port(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memrchr(b':', bytes) {
        Some(colon) if !bytes[colon..].contains(&b']') => (&bytes[..colon], Some(&bytes[colon + 1..])),
        _ => (bytes, None),
    }
}

fn parse_port(bytes: &[u8]) -> Option<u16> {
    (bytes.len() <= 5 && !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit))
        .then(|| std::str::from_utf8(bytes).ok()?.parse().ok())
        .flatten()
}

// === impl ResponseHead ===

impl ResponseHead {
    /// A response with this status and no fields.
    pub fn new(status: u16) -> ResponseHead {
        ResponseHead { status, ..ResponseHead::default() }
    }

    /// Adds a field; for building answers in one expression.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> ResponseHead {
        self.fields.append(name, value);
        self
    }

    /// Whether it is one of the 1xx that come before the answer.
    pub fn is_informational(&self) -> bool {
        (100..200).contains(&self.status)
    }

    /// The reason phrase to write: the one that was sent, else the usual one.
    pub fn reason_phrase(&self) -> &str {
        if self.reason.is_empty() {
            http::StatusCode::from_u16(self.status).ok().and_then(|s| s.canonical_reason()).unwrap_or("")
        } else {
            self.reason.as_str()
        }
    }
}

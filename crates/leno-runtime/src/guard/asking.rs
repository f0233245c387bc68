//! What of a request the guard looks at, from whichever HTTP types it comes.

use leno_http::RequestHead;

use super::{Refusal, host};

/// A request, as far as the guard is concerned. A field that is sent but is no text reads as U+FFFD.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asking<'a> {
    /// `GET`
    pub method: &'a str,
    /// The path without the query.
    pub path: &'a str,
    /// The query without its question mark.
    pub query: Option<&'a str>,
    /// The authority.
    pub host: Option<&'a str>,
    /// `Authorization`
    pub authorization: Option<&'a str>,
    /// `Cookie`
    pub cookie: Option<&'a str>,
    /// `Origin`
    pub origin: Option<&'a str>,
    /// `Sec-Fetch-Site`
    pub fetch_site: Option<&'a str>,
    /// `Sec-Fetch-Mode`
    pub fetch_mode: Option<&'a str>,
    /// `Content-Type`
    pub content_type: Option<&'a str>,
    /// Whether it has a body.
    pub has_body: bool,
}

/// Stands for a value that is not UTF-8, which nothing here accepts.
const NO_TEXT: &str = "\u{fffd}";

/// Types of bodies that a page of another site cannot send without asking first.
const BODY_TYPES: [&str; 4] = ["application/json", "application/merge-patch+json", "application/yaml", "text/yaml"];

// === impl Asking ===

impl<'a> Asking<'a> {
    /// Of a request as leno's own server gives it.
    pub fn of_head(head: &'a RequestHead, has_body: bool) -> Self {
        let text = |name| head.fields.get(name).map(|value| std::str::from_utf8(value).unwrap_or(NO_TEXT));
        Asking {
            method: head.method.as_str(),
            path: head.path_only(),
            query: head.query(),
            host: head.authority.as_ref().map(|authority| authority.as_str()),
            has_body,
            ..Self::of_fields(text)
        }
    }

    /// Of a request in the types of the crate `http`.
    pub fn of_parts(parts: &'a http::request::Parts, has_body: bool) -> Self {
        let text = |name| parts.headers.get(name).map(|value| value.to_str().unwrap_or(NO_TEXT));
        Asking {
            method: parts.method.as_str(),
            path: parts.uri.path(),
            query: parts.uri.query(),
            host: parts.uri.authority().map(|authority| authority.as_str()).or_else(|| text("host")),
            has_body,
            ..Self::of_fields(text)
        }
    }

    fn of_fields(text: impl Fn(&'static str) -> Option<&'a str>) -> Self {
        Asking {
            authorization: text("authorization"),
            cookie: text("cookie"),
            origin: text("origin"),
            fetch_site: text("sec-fetch-site"),
            fetch_mode: text("sec-fetch-mode"),
            content_type: text("content-type"),
            ..Asking::default()
        }
    }

    /// Refuses what a page of another site asks for. Following a link from there to a public page is no such thing.
    pub(super) fn refuse_cross_site(&self, public: bool) -> Result<(), Refusal> {
        let follows_a_link = public && self.method == "GET" && self.fetch_mode == Some("navigate");
        match self.fetch_site {
            None | Some("same-origin" | "none") => {}
            Some(_) if follows_a_link => {}
            Some(site) => return Err(Refusal::cross_site(&format!("sec-fetch-site: {site}"))),
        }
        let host = self.host.unwrap_or_default();
        let is_own = |origin: &str| {
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        };
        match self.origin {
            Some(origin) if !is_own(origin) => Err(Refusal::cross_site(&format!("origin: {origin}"))),
            _ => Ok(()),
        }
    }

    /// Refuses a body that a page of another site can send without asking first: in a POST, of a type that a plain HTML
    /// form has. PUT, PATCH and DELETE it cannot send at all, whatever is in them.
    pub(super) fn refuse_other_bodies(&self) -> Result<(), Refusal> {
        if matches!(self.method, "PUT" | "PATCH" | "DELETE") {
            return Ok(());
        }
        let found = self.content_type.map(|found| found.split(';').next().unwrap_or(found).trim());
        let is_taken = |found: &str| BODY_TYPES.iter().any(|taken| taken.eq_ignore_ascii_case(found));
        match self.has_body && !found.is_some_and(is_taken) {
            true => Err(Refusal::content_type(self.content_type)),
            false => Ok(()),
        }
    }

    /// The name of the session's cookie. Cookies know no ports, so two servers on one machine need two names.
    pub(super) fn session_cookie(&self) -> String {
        match self.host.and_then(host::port_of) {
            Some(port) => format!("leno_session_{port}"),
            None => "leno_session".to_owned(),
        }
    }

    /// The value of a cookie.
    pub(super) fn cookie_value(&self, name: &str) -> Option<&'a str> {
        let mut pairs = self.cookie?.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

//! What may be kept of answers, and for how long it is good: RFC 9111 for a cache that several share, with RFC 5861.
//!
//! ```text
//! request, response ─► Terms::of ─► Terms ── verdict(request, age) ──► fresh, stale, to be validated
//! ```
//!
//! Pure; who keeps answers brings the time. Nothing is guessed: what does not say how long it is good (no `max-age`, no
//! `Expires`) is good for no time at all, whatever its `Last-Modified` is (section 4.2.2 would allow a guess). What says which
//! fields a directive is for (`private="x"`) is read as if it had said it of the whole answer, which section 5.2.2 allows.

mod date;

use std::time::Duration;

use crate::fields::Fields;
use crate::message::{Method, RequestHead, ResponseHead};

pub use date::parse as parse_date;

/// More seconds than this are this many (RFC 9111, section 1.2.2).
const SECONDS_MAX: u64 = 1 << 31;
/// Statuses that are kept. Of the others none is asked for twice, or nobody knows what it means.
const STATUSES: [u16; 7] = [200, 203, 204, 301, 308, 404, 410];

/// What `Cache-Control` says in a request or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // As RFC 9111, section 5.2, and RFC 5861 name them; times in seconds.
pub struct CacheControl {
    pub no_store: bool,
    pub no_cache: bool,
    pub no_transform: bool,
    pub only_if_cached: bool,
    pub public: bool,
    pub private: bool,
    /// Or `proxy-revalidate`, which means the same to a cache that several share.
    pub must_revalidate: bool,
    pub max_age: Option<u64>,
    pub s_maxage: Option<u64>,
    pub min_fresh: Option<u64>,
    /// Without a number any age.
    pub max_stale: Option<u64>,
    pub stale_while_revalidate: Option<u64>,
    pub stale_if_error: Option<u64>,
}

/// On which terms an answer is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long it is good, from when it was made.
    pub lifetime: Duration,
    /// How old it was when it came.
    pub age: Duration,
    /// How long after that it is given while somebody asks anew.
    pub while_revalidate: Duration,
    /// How long after that it is given where nobody answers well.
    pub if_error: Duration,
    /// It is never given without being validated.
    pub no_cache: bool,
    /// It is never given when it is no longer good.
    pub must_revalidate: bool,
    /// It says that it is for anybody, whoever asked for it.
    pub is_for_all: bool,
}

/// How a kept answer stands to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may be given.
    Fresh,
    /// It is no longer good, since so long; whether it may be given all the same depends on why.
    Stale(Duration),
    /// It has to be validated.
    Validate,
}

// === impl CacheControl ===

impl CacheControl {
    /// What these fields say.
    pub fn of(fields: &Fields) -> Self {
        let mut control = Self::default();
        for value in fields.get_all("cache-control") {
            directives(value, |name, argument| control.take(name, argument));
        }
        control
    }

    /// What a request says; `Pragma: no-cache` alone is what HTTP/1.0 has of it (section 5.4).
    pub fn of_request(fields: &Fields) -> Self {
        let mut control = Self::of(fields);
        control.no_cache |= !fields.contains("cache-control") && fields.has_token("pragma", "no-cache");
        control
    }

    fn take(&mut self, name: &[u8], argument: Option<&[u8]>) {
        let is = |own: &str| name.eq_ignore_ascii_case(own.as_bytes());
        // Of a directive that stands twice, the stricter one counts (section 4.2.1).
        let least = |known: &mut Option<u64>| *known = Some(seconds(argument).min(known.unwrap_or(u64::MAX)));
        match () {
            () if is("no-store") => self.no_store = true,
            () if is("no-cache") => self.no_cache = true,
            () if is("no-transform") => self.no_transform = true,
            () if is("only-if-cached") => self.only_if_cached = true,
            () if is("public") => self.public = true,
            () if is("private") => self.private = true,
            () if is("must-revalidate") || is("proxy-revalidate") => self.must_revalidate = true,
            () if is("max-age") => least(&mut self.max_age),
            () if is("s-maxage") => least(&mut self.s_maxage),
            () if is("min-fresh") => self.min_fresh = Some(seconds(argument)),
            () if is("max-stale") => self.max_stale = Some(argument.map_or(SECONDS_MAX, |_| seconds(argument))),
            () if is("stale-while-revalidate") => least(&mut self.stale_while_revalidate),
            () if is("stale-if-error") => least(&mut self.stale_if_error),
            () => {}
        }
    }
}

// === impl Terms ===

impl Terms {
    /// On which terms an answer to a GET may be kept, if it may (section 3); `now` is in milliseconds since 1970, `took` how
    /// long the answer was on its way. What neither says how long it is good nor can be validated is kept too: who has no use
    /// for it knows by [`Terms::is_of_use`].
    pub fn of(request: &RequestHead, response: &ResponseHead, now: u64, took: Duration) -> Option<Self> {
        let (asked, told) = (CacheControl::of_request(&request.fields), CacheControl::of(&response.fields));
        let fields = &response.fields;
        //= rfc9111#section-3
        let is_kept = request.method == Method::Get && STATUSES.contains(&response.status);
        if !is_kept || asked.no_store || told.no_store || told.private {
            return None;
        }
        // One cookie for everybody is a session for everybody.
        if fields.contains("set-cookie") || fields.contains("content-range") || fields.has_token("vary", "*") {
            return None;
        }
        //= rfc9111#section-3.5
        let may_be_shared = told.public || told.s_maxage.is_some() || told.must_revalidate;
        if request.fields.contains("authorization") && !may_be_shared {
            return None;
        }
        let date = fields.get("date").and_then(parse_date);
        let s = Duration::from_secs;
        Some(Self {
            lifetime: lifetime(&told, fields, date.unwrap_or(now)),
            age: age(fields, date, now, took),
            while_revalidate: s(told.stale_while_revalidate.unwrap_or(0)),
            if_error: s(told.stale_if_error.unwrap_or(0)),
            no_cache: told.no_cache,
            //= rfc9111#section-5.2.2.10
            must_revalidate: told.must_revalidate || told.s_maxage.is_some(),
            is_for_all: told.public || told.s_maxage.is_some(),
        })
    }

    /// Whether a cache has a use for such an answer.
    pub fn is_of_use(&self, fields: &Fields) -> bool {
        let lasts = [self.lifetime, self.while_revalidate, self.if_error].iter().any(|time| !time.is_zero());
        lasts || fields.contains("etag") || fields.contains("last-modified")
    }

    /// How it stands to a request, after so long (sections 4.2 and 5.2.1).
    pub fn verdict(&self, asked: &CacheControl, kept: Duration) -> Verdict {
        let age = self.age + kept;
        let s = Duration::from_secs;
        if self.no_cache || asked.no_cache || asked.max_age.is_some_and(|most| age > s(most)) {
            return Verdict::Validate;
        }
        if self.lifetime > age {
            let left = self.lifetime - age;
            return if asked.min_fresh.is_some_and(|least| left < s(least)) {
                Verdict::Validate
            } else {
                Verdict::Fresh
            };
        }
        let stale = age - self.lifetime;
        match asked.max_stale {
            _ if self.must_revalidate => Verdict::Validate,
            Some(most) if stale <= s(most) => Verdict::Fresh,
            _ => Verdict::Stale(stale),
        }
    }

    /// Whether it may be given where nobody answers well, after so long, when that may be for `most` beyond its time.
    pub fn stands_in(&self, kept: Duration, most: Duration) -> bool {
        let stale = (self.age + kept).saturating_sub(self.lifetime);
        let is_fresh = self.age + kept < self.lifetime;
        !self.no_cache && (is_fresh || !self.must_revalidate && stale <= most)
    }
}

/// How long an answer is good (section 4.2.1).
fn lifetime(told: &CacheControl, fields: &Fields, date: u64) -> Duration {
    match told.s_maxage.or(told.max_age) {
        Some(seconds) => Duration::from_secs(seconds),
        None => {
            let expires = fields.get("expires").and_then(parse_date);
            Duration::from_millis(expires.map_or(0, |expires| expires.saturating_sub(date)))
                .min(Duration::from_secs(SECONDS_MAX))
        }
    }
}

/// How old an answer is when it comes (section 4.2.3).
fn age(fields: &Fields, date: Option<u64>, now: u64, took: Duration) -> Duration {
    let apparent = Duration::from_millis(date.map_or(0, |date| now.saturating_sub(date)));
    let said = fields.get("age").map_or(0, |value| seconds(Some(value)));
    apparent.max(Duration::from_secs(said) + took)
}

/// A number of seconds; what is none is 0, which is stricter (section 4.2.1).
fn seconds(argument: Option<&[u8]>) -> u64 {
    let Some(digits) = argument.filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)) else {
        return 0;
    };
    let number = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')).min(SECONDS_MAX);
    digits.iter().fold(0, number)
}

/// Calls `take` with each directive of a value and what stands behind its `=`, without quotes. A comma in quotes ends nothing.
fn directives(value: &[u8], mut take: impl FnMut(&[u8], Option<&[u8]>)) {
    let mut rest = value;
    while !rest.is_empty() {
        let (mut is_quoted, mut is_escaped) = (false, false);
        let end = rest.iter().position(|byte| {
            let ends = *byte == b',' && !is_quoted;
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if is_quoted => is_escaped = true,
                b'"' => is_quoted = !is_quoted,
                _ => {}
            }
            ends
        });
        let directive = rest[..end.unwrap_or(rest.len())].trim_ascii();
        rest = end.map_or(&[][..], |end| &rest[end + 1..]);
        let (name, argument) = match directive.iter().position(|byte| *byte == b'=') {
            Some(at) => (directive[..at].trim_ascii(), Some(directive[at + 1..].trim_ascii())),
            None => (directive, None),
        };
        let unquoted = |argument: &'_ [u8]| {
            argument.strip_prefix(b"\"").and_then(|inner| inner.strip_suffix(b"\"")).map(<[u8]>::len)
        };
        let argument = argument.map(|argument| match unquoted(argument) {
            Some(len) => &argument[1..=len],
            None => argument,
        });
        if !name.is_empty() {
            take(name, argument);
        }
    }
}

/// Whether a request that names entity tags (`If-None-Match`) or a date (`If-Modified-Since`) has what is kept (section 4.3.2).
pub fn is_not_modified(request: &Fields, kept: &Fields) -> bool {
    if request.contains("if-none-match") {
        let own = kept.get("etag").map(opaque);
        let mut named = request.get_all("if-none-match").flat_map(crate::fields::elements);
        return named.any(|tag| tag == b"*" || own.is_some_and(|own| opaque(tag) == own));
    }
    let date = |fields: &Fields, name: &str| fields.get(name).and_then(parse_date);
    match (date(request, "if-modified-since"), date(kept, "last-modified").or_else(|| date(kept, "date"))) {
        (Some(since), Some(modified)) => modified <= since,
        _ => false,
    }
}

/// An entity tag without the mark of a weak one: here they are compared weakly (RFC 9110, section 8.8.3.2).
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests;

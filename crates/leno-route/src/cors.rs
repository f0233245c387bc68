//! Cross-origin resource sharing (Fetch standard, section 3.2) as the Gateway API's `CORS` filter wants it.
//!
//! A preflight is answered here with 204 and never reaches an upstream. From an origin that is not allowed it gets 204
//! without any field, upon which the browser refuses the request itself. Other requests are forwarded, whatever their
//! origin, and the answer gets the fields that the origin deserves. A `*` is answered as `*` only without credentials;
//! with them, what the request named is given back. Field names compare without case, methods with.

use leno_model::snapshot::{Cors, Name};

use crate::change::FieldsMut;

/// The fields that this module answers with; an upstream's own are replaced by ours.
mod field {
    pub(super) const ALLOW_ORIGIN: &str = "access-control-allow-origin";
    pub(super) const ALLOW_METHODS: &str = "access-control-allow-methods";
    pub(super) const ALLOW_HEADERS: &str = "access-control-allow-headers";
    pub(super) const ALLOW_CREDENTIALS: &str = "access-control-allow-credentials";
    pub(super) const EXPOSE_HEADERS: &str = "access-control-expose-headers";
    pub(super) const MAX_AGE: &str = "access-control-max-age";
    pub(super) const VARY: &str = "vary";
}

/// What CORS needs to know of a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct CorsRequest<'a> {
    /// The method.
    pub method: &'a str,
    /// The field `origin`.
    pub origin: Option<&'a str>,
    /// The field `access-control-request-method`.
    pub request_method: Option<&'a str>,
    /// The field `access-control-request-headers`.
    pub request_headers: Option<&'a str>,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsVerdict {
    /// Forward it; the answer stays as it is.
    Forward,
    /// Forward it; these fields go onto the answer.
    Decorate(CorsFields),
    /// Answer at once with 204 and these fields.
    Answer(CorsFields),
}

/// Fields for an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CorsFields(Vec<(&'static str, String)>);

/// Decides about a request.
pub fn decide(cors: &Cors, request: &CorsRequest<'_>) -> CorsVerdict {
    let Some(origin) = request.origin else { return CorsVerdict::Forward };
    let allowed = cors.allow_origins.iter().any(|pattern| origin_matches(pattern, origin));
    let preflight = request.method == "OPTIONS" && request.request_method.is_some();
    match (preflight, allowed) {
        (false, false) => CorsVerdict::Forward,
        (false, true) => CorsVerdict::Decorate(CorsFields(origin_fields(cors, origin))),
        (true, false) => CorsVerdict::Answer(CorsFields::default()),
        (true, true) => CorsVerdict::Answer(preflight_fields(cors, origin, request)),
    }
}

// === impl CorsFields ===

impl CorsFields {
    /// Puts them onto an answer in place of what an upstream said about the same; `vary` is added to.
    pub fn apply(&self, fields: &mut impl FieldsMut) {
        for (name, value) in &self.0 {
            if *name == field::VARY {
                fields.append(name, value);
            } else {
                fields.set(name, value);
            }
        }
    }

    /// Names (lower case) and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }
}

fn preflight_fields(cors: &Cors, origin: &str, request: &CorsRequest<'_>) -> CorsFields {
    let mut fields = origin_fields(cors, origin);
    if let Some(methods) = allowed_list(&cors.allow_methods, cors.allow_credentials, request.request_method) {
        fields.push((field::ALLOW_METHODS, methods));
    }
    if let Some(headers) = allowed_list(&cors.allow_headers, cors.allow_credentials, request.request_headers) {
        fields.push((field::ALLOW_HEADERS, headers));
    }
    fields.push((field::MAX_AGE, cors.max_age.as_secs().to_string()));
    CorsFields(fields)
}

/// What both a preflight and an actual request are told. (Browsers ignore `expose` on preflights; the Gateway API's
/// conformance suite wants it there.)
fn origin_fields(cors: &Cors, origin: &str) -> Vec<(&'static str, String)> {
    let everyone = has_star(&cors.allow_origins) && !cors.allow_credentials;
    let mut fields = Vec::with_capacity(8);
    fields.push((field::ALLOW_ORIGIN, if everyone { "*".to_owned() } else { origin.to_owned() }));
    if cors.allow_credentials {
        fields.push((field::ALLOW_CREDENTIALS, "true".to_owned()));
    }
    if !everyone {
        fields.push((field::VARY, "Origin".to_owned()));
    }
    // With credentials a `*` would mean a field of that name: nothing can be said.
    let unsayable = cors.allow_credentials && has_star(&cors.expose_headers);
    if !cors.expose_headers.is_empty() && !unsayable {
        fields.push((field::EXPOSE_HEADERS, cors.expose_headers.join(", ")));
    }
    fields
}

/// The value of a list: as configured, or for `*` with credentials what was asked for.
fn allowed_list(allowed: &[Name], credentials: bool, asked: Option<&str>) -> Option<String> {
    match (allowed.is_empty(), credentials && has_star(allowed)) {
        (true, _) => None,
        (false, true) => asked.map(str::to_owned),
        (false, false) => Some(allowed.join(", ")),
    }
}

fn has_star(names: &[Name]) -> bool {
    names.iter().any(|name| **name == *"*")
}

/// Whether an origin is meant by `*`, `scheme://host[:port]` or `scheme://*.host[:port]`.
fn origin_matches(pattern: &str, origin: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let (Some(pattern), Some(origin)) = (split_origin(pattern), split_origin(origin)) else { return false };
    pattern.0.eq_ignore_ascii_case(origin.0) && pattern.2 == origin.2 && origin_host_matches(pattern.1, origin.1)
}

fn origin_host_matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => {
            host.len() > end.len() && host.as_bytes()[host.len() - end.len()..].eq_ignore_ascii_case(end.as_bytes())
        }
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// Scheme, host and port, which defaults to the scheme's.
fn split_origin(origin: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = origin.split_once("://")?;
    let default = if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" };
    Some(match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (scheme, host, port),
        _ => (scheme, rest, default),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn cors(origins: &[&str]) -> Cors {
        Cors {
            allow_origins: origins.iter().map(|origin| Name::from(*origin)).collect(),
            max_age: Duration::from_secs(5),
            ..Cors::default()
        }
    }

    fn preflight(cors: &Cors, origin: &str) -> Vec<(&'static str, String)> {
        let request = CorsRequest {
            method: "OPTIONS",
            origin: Some(origin),
            request_method: Some("PUT"),
            request_headers: Some("x-a, x-b"),
        };
        match decide(cors, &request) {
            CorsVerdict::Answer(CorsFields(fields)) => fields,
            other => panic!("{other:?}"),
        }
    }

    fn actual(cors: &Cors, origin: Option<&str>) -> CorsVerdict {
        decide(cors, &CorsRequest { method: "GET", origin, ..CorsRequest::default() })
    }

    #[test]
    fn a_preflight_is_answered_with_what_is_allowed() {
        let mut cors = cors(&["https://a.com"]);
        cors.allow_methods = vec!["GET".into(), "PUT".into()];
        cors.allow_headers = vec!["x-a".into()];
        cors.allow_credentials = true;
        cors.expose_headers = vec!["x-c".into(), "x-d".into()];
        let wanted = [
            ("access-control-allow-origin", "https://a.com"),
            ("access-control-allow-credentials", "true"),
            ("vary", "Origin"),
            ("access-control-expose-headers", "x-c, x-d"),
            ("access-control-allow-methods", "GET, PUT"),
            ("access-control-allow-headers", "x-a"),
            ("access-control-max-age", "5"),
        ];
        assert_eq!(preflight(&cors, "https://a.com"), wanted.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn a_preflight_from_elsewhere_is_answered_without_fields() {
        assert_eq!(preflight(&cors(&["https://a.com"]), "https://b.com"), []);
        assert_eq!(preflight(&cors(&[]), "https://b.com"), []);
    }

    #[test]
    fn stars_are_answered_as_stars_without_credentials_and_as_asked_with_them() {
        let star: Vec<Name> = vec!["*".into()];
        let mut cors = Cors {
            allow_origins: star.clone(),
            allow_methods: star.clone(),
            allow_headers: star.clone(),
            expose_headers: star,
            ..Cors::default()
        };
        let values = |cors: &Cors| {
            let fields = preflight(cors, "https://a.com").into_iter();
            fields.filter(|(name, _)| name.contains("allow")).map(|(_, value)| value).collect::<Vec<_>>()
        };
        assert_eq!(values(&cors), ["*", "*", "*"]);
        let CorsVerdict::Decorate(fields) = actual(&cors, Some("https://a.com")) else { panic!() };
        assert!(fields.iter().any(|field| field == ("access-control-expose-headers", "*")));

        cors.allow_credentials = true;
        assert_eq!(values(&cors), ["https://a.com", "true", "PUT", "x-a, x-b"]);
        let CorsVerdict::Decorate(fields) = actual(&cors, Some("https://a.com")) else { panic!() };
        assert!(fields.iter().all(|(name, _)| name != "access-control-expose-headers"));
    }

    #[test]
    fn an_actual_request_is_forwarded_whatever_its_origin() {
        let cors = cors(&["https://a.com"]);
        assert_eq!(actual(&cors, None), CorsVerdict::Forward);
        assert_eq!(actual(&cors, Some("https://b.com")), CorsVerdict::Forward);
        assert!(matches!(actual(&cors, Some("https://a.com")), CorsVerdict::Decorate(_)));
    }

    #[test]
    fn options_without_a_request_method_are_no_preflight() {
        let request = CorsRequest { method: "OPTIONS", origin: Some("https://a.com"), ..CorsRequest::default() };
        assert!(matches!(decide(&cors(&["*"]), &request), CorsVerdict::Decorate(_)));
    }

    #[test]
    fn origins_compare_by_scheme_host_and_port() {
        for (pattern, origin, wanted) in [
            ("https://a.com", "https://A.com", true),
            ("https://a.com", "https://a.com:443", true),
            ("http://a.com:80", "http://a.com", true),
            ("https://a.com", "http://a.com", false),
            ("https://a.com", "https://a.com:8443", false),
            ("https://*.a.com", "https://x.y.a.com", true),
            ("https://*.a.com", "https://a.com", false),
            ("https://*.a.com", "https://evila.com", false),
            ("https://*", "https://anything:443", true),
            ("http://*:8080", "http://x:8080", true),
            ("http://[::1]:80", "http://[::1]", true),
            ("*", "null", true),
            ("https://*", "null", false),
        ] {
            assert_eq!(origin_matches(pattern, origin), wanted, "{pattern} {origin}");
        }
    }
}

//! Changes to a request before it leaves and to an answer before it returns, as a rule's filters say.
//!
//! ORDER, for requests: CORS first (a preflight goes no further), then field changes and rewrites as they are written in
//! the rule and after them those of the chosen backend, then leno's own fields. For answers: field changes as written,
//! then CORS, so that a filter cannot widen what CORS allows. Mirrors are in `mirror.rs`.

use leno_http::fields::is_usual_trailer;
use leno_http::{Fields, RequestHead, ResponseHead, Text};
use leno_model::snapshot::{Rewrite, RouteFilter};
use leno_route::change;
use leno_route::cors::{CorsFields, CorsRequest, CorsVerdict, decide};
use leno_route::rewrite_path;

/// Fields whose names begin so are leno's own: never taken from outside, never given to applications.
pub(crate) const OWN_PREFIX: &[u8] = b"x-leno-";
/// The caller's service, from its proxy to the next one.
pub(crate) const SOURCE_FIELD: &str = "x-leno-source";
/// How many proxies the request has passed.
pub(crate) const HOPS_FIELD: &str = "x-leno-hops";

/// Lets a filter change the fields of `leno-http`.
pub(crate) struct Changed<'a>(pub(crate) &'a mut Fields);

impl change::FieldsMut for Changed<'_> {
    fn set(&mut self, name: &str, value: &str) {
        self.0.set(name, value);
    }

    fn append(&mut self, name: &str, value: &str) {
        self.0.append(name, value);
    }

    fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

/// Changes a request by `filters`; `prefix_len` is what the rule's prefix matched.
pub(crate) fn change_request(filters: &[RouteFilter], head: &mut RequestHead, prefix_len: usize) {
    for filter in filters {
        match filter {
            RouteFilter::RequestHeaders(headers) => change::apply(headers, &mut Changed(&mut head.fields)),
            RouteFilter::Rewrite(rewrite) => rewrite_request(rewrite, head, prefix_len),
            RouteFilter::ResponseHeaders(_) | RouteFilter::Mirror(_) | RouteFilter::Cors(_) => {}
        }
    }
}

fn rewrite_request(rewrite: &Rewrite, head: &mut RequestHead, prefix_len: usize) {
    if let Some(hostname) = &rewrite.hostname {
        head.authority = Some(Text::from(&**hostname));
    }
    if let Some(path) = &rewrite.path {
        head.path = Text::from(rewrite_path(path, head.path.as_str(), prefix_len));
    }
}

/// Changes an answer by `filters`.
pub(crate) fn change_response(filters: &[RouteFilter], head: &mut ResponseHead) {
    for filter in filters {
        if let RouteFilter::ResponseHeaders(headers) = filter {
            change::apply(headers, &mut Changed(&mut head.fields));
        }
    }
}

/// Leaves of trailers what may stand there whatever the message is; with `all`, as for gRPC, what its parties agreed upon.
pub(crate) fn change_trailers(trailers: &mut Fields, all: bool) {
    if !all {
        trailers.retain(|name, _| is_usual_trailer(name));
    }
}

/// What CORS says about a request; `Forward` where no filter asks.
pub(crate) fn cors(filters: &[RouteFilter], head: &RequestHead) -> CorsVerdict {
    let cors = filters.iter().find_map(|filter| match filter {
        RouteFilter::Cors(cors) => Some(cors),
        _ => None,
    });
    let Some(cors) = cors else { return CorsVerdict::Forward };
    let request = CorsRequest {
        method: head.method.as_str(),
        origin: head.fields.get_str("origin"),
        request_method: head.fields.get_str("access-control-request-method"),
        request_headers: head.fields.get_str("access-control-request-headers"),
    };
    decide(cors, &request)
}

/// Puts the fields of CORS onto an answer.
pub(crate) fn apply_cors(fields: &CorsFields, head: &mut ResponseHead) {
    fields.apply(&mut Changed(&mut head.fields));
}

/// Removes leno's own fields; whether there were any.
pub(crate) fn strip_own(fields: &mut Fields) {
    let is_own =
        |name: &[u8]| name.len() > OWN_PREFIX.len() && name[..OWN_PREFIX.len()].eq_ignore_ascii_case(OWN_PREFIX);
    if fields.iter().any(|(name, _)| is_own(name)) {
        fields.retain(|name, _| !is_own(name));
    }
}

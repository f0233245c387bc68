//! Filters of routes: their bodies, and which may stand together.

use super::{Check, reference, text};
use crate::fault::FaultClass;
use crate::resource::filter::*;
use crate::resource::reference::ParentRef;

const FILTERS_MAX: usize = 16;

/// Headers that belong to one connection or to its framing; changing them breaks the message.
const CONNECTION_HEADERS: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Where a list of filters stands.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// On a rule.
    Rule {
        /// Whether every match of the rule is on a path prefix.
        prefix: bool,
        /// Whether the rule has backends.
        backends: bool,
    },
    /// On a backend of a rule.
    Backend {
        /// As above.
        prefix: bool,
    },
}

/// The filters of an HTTPRoute's rule or backend at `path`.
pub(super) fn http(check: &mut Check<'_, '_>, path: &str, filters: &[HttpFilter], place: Place, parents: &[ParentRef]) {
    check.count(path, "filters", filters.len(), 0, FILTERS_MAX);
    for (i, filter) in filters.iter().enumerate() {
        let at = format!("{path}[{i}]");
        let bodies = [
            (HttpFilterType::RequestHeaderModifier, "requestHeaderModifier", filter.request_header_modifier.is_some()),
            (
                HttpFilterType::ResponseHeaderModifier,
                "responseHeaderModifier",
                filter.response_header_modifier.is_some(),
            ),
            (HttpFilterType::RequestMirror, "requestMirror", filter.request_mirror.is_some()),
            (HttpFilterType::RequestRedirect, "requestRedirect", filter.request_redirect.is_some()),
            (HttpFilterType::UrlRewrite, "urlRewrite", filter.url_rewrite.is_some()),
            (HttpFilterType::Cors, "cors", filter.cors.is_some()),
        ];
        body_of(check, &at, filter.r#type, &bodies);
        if filter.r#type != HttpFilterType::RequestMirror {
            once(check, &at, filters[..i].iter().any(|other| other.r#type == filter.r#type));
        }
        headers(check, &format!("{at}.requestHeaderModifier"), filter.request_header_modifier.as_ref());
        headers(check, &format!("{at}.responseHeaderModifier"), filter.response_header_modifier.as_ref());
        mirror(check, &format!("{at}.requestMirror"), filter.request_mirror.as_ref(), parents);
        redirect(check, &format!("{at}.requestRedirect"), filter.request_redirect.as_ref(), place);
        rewrite(check, &format!("{at}.urlRewrite"), filter.url_rewrite.as_ref(), place);
        cors(check, &format!("{at}.cors"), filter.cors.as_ref());
    }
    together(check, path, filters, place);
}

/// The filters of a GRPCRoute's rule or backend at `path`.
pub(super) fn grpc(check: &mut Check<'_, '_>, path: &str, filters: &[GrpcFilter], parents: &[ParentRef]) {
    check.count(path, "filters", filters.len(), 0, FILTERS_MAX);
    for (i, filter) in filters.iter().enumerate() {
        let at = format!("{path}[{i}]");
        let bodies = [
            (GrpcFilterType::RequestHeaderModifier, "requestHeaderModifier", filter.request_header_modifier.is_some()),
            (
                GrpcFilterType::ResponseHeaderModifier,
                "responseHeaderModifier",
                filter.response_header_modifier.is_some(),
            ),
            (GrpcFilterType::RequestMirror, "requestMirror", filter.request_mirror.is_some()),
        ];
        body_of(check, &at, filter.r#type, &bodies);
        if filter.r#type != GrpcFilterType::RequestMirror {
            once(check, &at, filters[..i].iter().any(|other| other.r#type == filter.r#type));
        }
        headers(check, &format!("{at}.requestHeaderModifier"), filter.request_header_modifier.as_ref());
        headers(check, &format!("{at}.responseHeaderModifier"), filter.response_header_modifier.as_ref());
        mirror(check, &format!("{at}.requestMirror"), filter.request_mirror.as_ref(), parents);
    }
}

/// A filter has the body of its type and no other.
fn body_of<T: PartialEq + Copy>(check: &mut Check<'_, '_>, at: &str, r#type: T, bodies: &[(T, &str, bool)]) {
    for (of, field, present) in bodies {
        if *of == r#type && !present {
            let message = format!("the filter has no `{field}`");
            check.error(FaultClass::FilterMismatch, at, message, format!("add `{field}:`, or change `type`"));
        } else if *of != r#type && *present {
            let message = format!("`{field}` does not belong to this `type`");
            check.error(FaultClass::FilterMismatch, &format!("{at}.{field}"), message, "make it a filter of its own");
        }
    }
}

fn once(check: &mut Check<'_, '_>, at: &str, repeated: bool) {
    if repeated {
        let message = "a filter of this type stands before it";
        check.error(FaultClass::RepeatedFilter, &format!("{at}.type"), message, "put both into one filter");
    }
}

/// Filters that cannot stand together, or not in this place.
fn together(check: &mut Check<'_, '_>, path: &str, filters: &[HttpFilter], place: Place) {
    let find = |wanted| filters.iter().position(|filter| filter.r#type == wanted);
    let redirect = find(HttpFilterType::RequestRedirect);
    if let (Some(_), Some(rewrite)) = (redirect, find(HttpFilterType::UrlRewrite)) {
        let message = "a redirect and a rewrite in one rule: the rewrite would never happen";
        let fix = "keep one; a redirect has `hostname` and `path` itself";
        check.error(FaultClass::RedirectWithRewrite, &format!("{path}[{rewrite}]"), message, fix);
    }
    match place {
        Place::Rule { backends: true, .. } if redirect.is_some() => {
            let at = path.replace(".filters", ".backendRefs");
            let fix = "remove the backends, or make the redirect a rule of its own";
            check.error(
                FaultClass::RedirectWithBackends,
                &at,
                "a redirect answers by itself: backends are never asked",
                fix,
            );
        }
        Place::Backend { .. } => {
            for wanted in [HttpFilterType::RequestRedirect, HttpFilterType::Cors] {
                if let Some(i) = find(wanted) {
                    let fix = "move it to the rule's `filters`";
                    let message = "this filter answers before a backend is chosen and cannot stand on one";
                    check.error(FaultClass::UnsupportedFilter, &format!("{path}[{i}].type"), message, fix);
                }
            }
        }
        Place::Rule { .. } => {}
    }
}

fn headers(check: &mut Check<'_, '_>, path: &str, modifier: Option<&HeaderModifier>) {
    let Some(modifier) = modifier else { return };
    let mut seen: Vec<String> = Vec::new();
    let written = |list: &str, headers: &[Header]| -> Vec<(String, String, Option<String>)> {
        let at = |i: usize| format!("{path}.{list}[{i}]");
        let entry = |(i, header): (usize, &Header)| (at(i), header.name.clone(), Some(header.value.clone()));
        headers.iter().enumerate().map(entry).collect()
    };
    let mut entries = written("set", &modifier.set);
    entries.extend(written("add", &modifier.add));
    let removed = modifier.remove.iter().enumerate();
    entries.extend(removed.map(|(i, name)| (format!("{path}.remove[{i}]"), name.clone(), None)));
    for (list, count) in [("set", modifier.set.len()), ("add", modifier.add.len()), ("remove", modifier.remove.len())] {
        check.count(&format!("{path}.{list}"), "headers", count, 0, 16);
    }
    if entries.is_empty() {
        check.error(FaultClass::Empty, path, "no change to any header", "add `set`, `add` or `remove`");
    }
    for (at, name, value) in entries {
        let name_path = if value.is_some() { format!("{at}.name") } else { at.clone() };
        text::header_name(check, &name_path, &name);
        let lower = name.to_ascii_lowercase();
        reserved(check, &name_path, &lower);
        if let Some(value) = value {
            text::header_value(check, &format!("{at}.value"), &value);
        }
        if seen.contains(&lower) {
            let fix = "keep one entry for each name; a value may hold commas";
            check.error(FaultClass::RepeatedHeader, &name_path, format!("header `{name}` is named twice"), fix);
        }
        seen.push(lower);
    }
}

pub(super) fn reserved(check: &mut Check<'_, '_>, path: &str, lower: &str) {
    if CONNECTION_HEADERS.contains(&lower) {
        let fix = if lower == "host" { "use a URLRewrite filter with `hostname`" } else { "leave it to the proxy" };
        check.error(FaultClass::ReservedHeader, path, format!("`{lower}` belongs to the connection"), fix);
    } else if lower.starts_with("x-leno-") {
        check.error(FaultClass::ReservedHeader, path, format!("`{lower}` belongs to leno"), "choose another name");
    }
}

fn mirror(check: &mut Check<'_, '_>, path: &str, mirror: Option<&RequestMirror>, parents: &[ParentRef]) {
    let Some(mirror) = mirror else { return };
    reference::backend(check, &format!("{path}.backendRef"), (&mirror.backend_ref).into(), parents);
    let Some(fraction) = &mirror.fraction else { return };
    let at = format!("{path}.fraction");
    if mirror.percent.is_some() {
        check.error(
            FaultClass::InvalidShare,
            &at,
            "`percent` and `fraction` both say the share",
            "keep one of the two",
        );
    }
    if fraction.denominator == 0 || fraction.numerator > fraction.denominator {
        let message = format!("{} of {} is no share", fraction.numerator, fraction.denominator);
        check.error(
            FaultClass::InvalidShare,
            &at,
            message,
            "make the numerator 0 up to the denominator, which is at least 1",
        );
    }
}

fn redirect(check: &mut Check<'_, '_>, path: &str, redirect: Option<&RequestRedirect>, place: Place) {
    let Some(redirect) = redirect else { return };
    if let Some(host) = &redirect.hostname {
        text::hostname(check, &format!("{path}.hostname"), host, false);
    }
    path_modifier(check, &format!("{path}.path"), redirect.path.as_ref(), place);
    if let Some(status) = redirect.status_code.filter(|status| ![301, 302, 303, 307, 308].contains(status)) {
        let message = format!("{status} is not the status of a redirect");
        check.error(FaultClass::InvalidStatus, &format!("{path}.statusCode"), message, "use 301, 302, 303, 307 or 308");
    }
}

fn rewrite(check: &mut Check<'_, '_>, path: &str, rewrite: Option<&UrlRewrite>, place: Place) {
    let Some(rewrite) = rewrite else { return };
    if let Some(host) = &rewrite.hostname {
        text::hostname(check, &format!("{path}.hostname"), host, false);
    }
    if rewrite.hostname.is_none() && rewrite.path.is_none() {
        check.error(FaultClass::Empty, path, "a rewrite of nothing", "add `hostname` or `path`");
    }
    path_modifier(check, &format!("{path}.path"), rewrite.path.as_ref(), place);
}

fn path_modifier(check: &mut Check<'_, '_>, path: &str, modifier: Option<&PathModifier>, place: Place) {
    let Some(modifier) = modifier else { return };
    let bodies = [
        (PathModifierType::ReplaceFullPath, "replaceFullPath", modifier.replace_full_path.is_some()),
        (PathModifierType::ReplacePrefixMatch, "replacePrefixMatch", modifier.replace_prefix_match.is_some()),
    ];
    body_of(check, path, modifier.r#type, &bodies);
    let texts =
        [("replaceFullPath", &modifier.replace_full_path), ("replacePrefixMatch", &modifier.replace_prefix_match)];
    for (field, value) in texts {
        // An empty replacement of a prefix takes it away.
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            text::path(check, &format!("{path}.{field}"), value);
        }
    }
    let (Place::Rule { prefix, .. } | Place::Backend { prefix }) = place;
    if modifier.r#type == PathModifierType::ReplacePrefixMatch && !prefix {
        let message = "the rule does not match by one path prefix that could be replaced";
        let fix = "give every match `path: {type: PathPrefix}`, or use ReplaceFullPath";
        check.error(FaultClass::PrefixWithoutMatch, &format!("{path}.type"), message, fix);
    }
}

fn cors(check: &mut Check<'_, '_>, path: &str, cors: Option<&Cors>) {
    let Some(cors) = cors else { return };
    for (i, origin) in cors.allow_origins.iter().enumerate() {
        text::origin(check, &format!("{path}.allowOrigins[{i}]"), origin);
    }
    for (i, method) in cors.allow_methods.iter().enumerate().filter(|(_, method)| *method != "*") {
        text::method(check, &format!("{path}.allowMethods[{i}]"), method);
    }
    for (list, names) in [("allowHeaders", &cors.allow_headers), ("exposeHeaders", &cors.expose_headers)] {
        for (i, name) in names.iter().enumerate().filter(|(_, name)| *name != "*") {
            text::header_name(check, &format!("{path}.{list}[{i}]"), name);
        }
    }
}

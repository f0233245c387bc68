//! Routes: rules, matches, destinations, timeouts and retries.

use super::filter::{self, Place};
use super::{Check, reference, text};
use crate::fault::FaultClass;
use crate::resource::grpc_route::{GrpcMatch, GrpcRouteSpec};
use crate::resource::http_route::*;
use crate::resource::l4_route::{L4Rule, TlsRouteSpec, UdpRouteSpec};
use crate::resource::number::RetryCode;
use crate::resource::reference::{BackendView, ParentRef};

const RULES_MAX: usize = 16;
const MATCHES_MAX: usize = 64;
const CONDITIONS_MAX: usize = 16;
const BACKENDS_MAX: usize = 16;

pub(super) fn http(check: &mut Check<'_, '_>, spec: &HttpRouteSpec) {
    reference::parents(check, &spec.parent_refs, &spec.hostnames);
    check.count("spec.rules", "rules", spec.rules.len(), 1, RULES_MAX);
    rule_names(check, spec.rules.iter().map(|rule| rule.name.as_deref()));
    for (i, rule) in spec.rules.iter().enumerate() {
        let at = format!("spec.rules[{i}]");
        check.count(&format!("{at}.matches"), "matches", rule.matches.len(), 0, MATCHES_MAX);
        for (m, matches) in rule.matches.iter().enumerate() {
            http_match(check, &format!("{at}.matches[{m}]"), matches);
        }
        let is_prefix = |m: &HttpMatch| m.path.as_ref().is_none_or(|path| path.r#type == PathMatchType::PathPrefix);
        let prefix = rule.matches.iter().all(is_prefix);
        let place = Place::Rule { prefix, backends: !rule.backend_refs.is_empty() };
        filter::http(check, &format!("{at}.filters"), &rule.filters, place, &spec.parent_refs);
        backends(check, &at, rule.backend_refs.iter().map(BackendView::from), &spec.parent_refs);
        for (b, backend) in rule.backend_refs.iter().enumerate() {
            let path = format!("{at}.backendRefs[{b}].filters");
            filter::http(check, &path, &backend.filters, Place::Backend { prefix }, &spec.parent_refs);
        }
        if let Some(timeouts) = &rule.timeouts {
            timeouts_of(check, &format!("{at}.timeouts"), timeouts);
        }
        if let Some(rule_retry) = &rule.retry {
            retry_codes(check, &format!("{at}.retry"), &rule_retry.codes);
        }
    }
}

pub(super) fn http_match(check: &mut Check<'_, '_>, at: &str, matches: &HttpMatch) {
    if let Some(path) = &matches.path {
        let value = format!("{at}.path.value");
        match path.r#type {
            PathMatchType::RegularExpression => text::regex(check, &value, &path.value),
            PathMatchType::Exact | PathMatchType::PathPrefix => text::path(check, &value, &path.value),
        }
    }
    if let Some(method) = &matches.method {
        text::method(check, &format!("{at}.method"), method);
    }
    header_matches(check, at, &matches.headers);
    check.count(&format!("{at}.queryParams"), "conditions on the query", matches.query_params.len(), 0, CONDITIONS_MAX);
    for (i, query) in matches.query_params.iter().enumerate() {
        let path = format!("{at}.queryParams[{i}]");
        if query.name.is_empty() || query.name.len() > 256 {
            let fix = "write the name of the parameter, 1 to 256 characters";
            check.error(FaultClass::InvalidQueryName, &format!("{path}.name"), "a query parameter needs a name", fix);
        }
        if matches.query_params[..i].iter().any(|other| other.name == query.name) {
            let message = format!("parameter `{}` is named twice", query.name);
            check.error(
                FaultClass::RepeatedQuery,
                &format!("{path}.name"),
                message,
                "keep one; use a regular expression",
            );
        }
        value_match(check, &format!("{path}.value"), query.r#type, &query.value);
    }
}

fn header_matches(check: &mut Check<'_, '_>, at: &str, headers: &[HeaderMatch]) {
    check.count(&format!("{at}.headers"), "conditions on headers", headers.len(), 0, CONDITIONS_MAX);
    for (i, header) in headers.iter().enumerate() {
        let path = format!("{at}.headers[{i}]");
        text::header_name(check, &format!("{path}.name"), &header.name);
        if headers[..i].iter().any(|other| other.name.eq_ignore_ascii_case(&header.name)) {
            let message = format!("header `{}` is named twice", header.name);
            check.error(
                FaultClass::RepeatedHeader,
                &format!("{path}.name"),
                message,
                "keep one; use a regular expression",
            );
        }
        value_match(check, &format!("{path}.value"), header.r#type, &header.value);
    }
}

fn value_match(check: &mut Check<'_, '_>, path: &str, r#type: ValueMatchType, value: &str) {
    match r#type {
        ValueMatchType::RegularExpression => text::regex(check, path, value),
        ValueMatchType::Exact => text::header_value(check, path, value),
    }
}

fn timeouts_of(check: &mut Check<'_, '_>, at: &str, timeouts: &HttpTimeouts) {
    if let (Some(request), Some(each)) = (timeouts.request, timeouts.backend_request)
        && !request.0.is_zero()
        && each > request
    {
        let message = format!("one try may take {each}, the whole request only {request}");
        let fix = format!("make `backendRequest` at most {request}");
        check.error(FaultClass::TimeoutOrder, &format!("{at}.backendRequest"), message, fix);
    }
}

pub(super) fn retry_codes(check: &mut Check<'_, '_>, at: &str, codes: &[RetryCode]) {
    check.count(&format!("{at}.codes"), "statuses", codes.len(), 0, 32);
    for (i, code) in codes.iter().enumerate() {
        if codes[..i].contains(code) {
            let message = format!("{code} stands twice");
            check.error(FaultClass::InvalidStatus, &format!("{at}.codes[{i}]"), message, "remove one of the two");
        }
    }
}

pub(super) fn grpc(check: &mut Check<'_, '_>, spec: &GrpcRouteSpec) {
    reference::parents(check, &spec.parent_refs, &spec.hostnames);
    check.count("spec.rules", "rules", spec.rules.len(), 1, RULES_MAX);
    rule_names(check, spec.rules.iter().map(|rule| rule.name.as_deref()));
    for (i, rule) in spec.rules.iter().enumerate() {
        let at = format!("spec.rules[{i}]");
        check.count(&format!("{at}.matches"), "matches", rule.matches.len(), 0, MATCHES_MAX);
        for (m, matches) in rule.matches.iter().enumerate() {
            grpc_match(check, &format!("{at}.matches[{m}]"), matches);
        }
        filter::grpc(check, &format!("{at}.filters"), &rule.filters, &spec.parent_refs);
        backends(check, &at, rule.backend_refs.iter().map(BackendView::from), &spec.parent_refs);
        for (b, backend) in rule.backend_refs.iter().enumerate() {
            filter::grpc(check, &format!("{at}.backendRefs[{b}].filters"), &backend.filters, &spec.parent_refs);
        }
    }
}

fn grpc_match(check: &mut Check<'_, '_>, at: &str, matches: &GrpcMatch) {
    header_matches(check, at, &matches.headers);
    let Some(method) = &matches.method else { return };
    let path = format!("{at}.method");
    if method.service.is_none() && method.method.is_none() {
        let message = "a condition on a method that names neither service nor method";
        check.error(FaultClass::Empty, &path, message, "add `service` or `method`");
    }
    for (field, value, dots) in [("service", &method.service, true), ("method", &method.method, false)] {
        let Some(value) = value else { continue };
        let at = format!("{path}.{field}");
        match method.r#type {
            ValueMatchType::RegularExpression => text::regex(check, &at, value),
            ValueMatchType::Exact => text::grpc_name(check, &at, value, dots),
        }
    }
}

pub(super) fn tls(check: &mut Check<'_, '_>, spec: &TlsRouteSpec) {
    reference::parents(check, &spec.parent_refs, &spec.hostnames);
    l4_rules(check, &spec.parent_refs, &spec.rules);
}

pub(super) fn l4(check: &mut Check<'_, '_>, parents: &[ParentRef], rules: &[L4Rule]) {
    reference::parents(check, parents, &[]);
    l4_rules(check, parents, rules);
}

pub(super) fn udp(check: &mut Check<'_, '_>, spec: &UdpRouteSpec) {
    for (i, parent) in spec.parent_refs.iter().enumerate().filter(|(_, parent)| parent.is_service()) {
        let message = format!("leno carries UDP from gateways alone: service {} is reached without it", parent.name);
        let path = format!("spec.parentRefs[{i}].kind");
        check.warn(FaultClass::NotServed, &path, message, "use a Gateway with a listener of `protocol: UDP`");
    }
    l4(check, &spec.parent_refs, &spec.rules);
}

fn l4_rules(check: &mut Check<'_, '_>, parents: &[ParentRef], rules: &[L4Rule]) {
    check.count("spec.rules", "rules", rules.len(), 1, 1);
    for (i, rule) in rules.iter().enumerate() {
        let at = format!("spec.rules[{i}]");
        check.count(&format!("{at}.backendRefs"), "backends", rule.backend_refs.len(), 1, BACKENDS_MAX);
        backends(check, &at, rule.backend_refs.iter().map(BackendView::from), parents);
    }
    rule_names(check, rules.iter().map(|rule| rule.name.as_deref()));
}

/// Names of rules, each unique and a DNS name.
fn rule_names<'a>(check: &mut Check<'_, '_>, names: impl Iterator<Item = Option<&'a str>>) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, name) in names.enumerate() {
        let Some(name) = name else { continue };
        let path = format!("spec.rules[{i}].name");
        text::subdomain(check, &path, name);
        if seen.contains(&name) {
            let message = format!("another rule is named `{name}`");
            check.error(FaultClass::DuplicateName, &path, message, "choose another name");
        }
        seen.push(name);
    }
}

/// The destinations of the rule at `at`.
fn backends<'a>(
    check: &mut Check<'_, '_>,
    at: &str,
    backends: impl Iterator<Item = BackendView<'a>>,
    parents: &[ParentRef],
) {
    let (mut count, mut sum) = (0_usize, 0_u64);
    for (i, backend) in backends.enumerate() {
        count += 1;
        sum += u64::from(backend.weight);
        reference::backend(check, &format!("{at}.backendRefs[{i}]"), backend, parents);
    }
    let path = format!("{at}.backendRefs");
    check.count(&path, "backends", count, 0, BACKENDS_MAX);
    if count > 0 && sum == 0 {
        let message = "all weights are 0: no backend takes anything";
        check.error(FaultClass::ZeroWeights, &path, message, "give at least one backend a weight above 0");
    }
}

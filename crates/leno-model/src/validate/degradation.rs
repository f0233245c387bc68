//! What stands in for answers: there is something, it is of use, and it leads to no circle.

use std::time::Duration;

use super::traffic_policy::range;
use super::{Check, reference, reply, retry, route};
use crate::fault::FaultClass;
use crate::name::ServiceName;
use crate::resource::degradation::{Cache, Fallback};
use crate::resource::kind::{Kind, ResourceKey};
use crate::resource::reference::BackendView;
use crate::resource::traffic_policy::TrafficPolicySpec;
use crate::snapshot::FallbackOn;

/// Followed no further: what is longer has its circle found at another of its members.
const STEPS_MAX: usize = 32;

pub(super) fn check(check: &mut Check<'_, '_>, spec: &TrafficPolicySpec) {
    if let Some(fallback) = &spec.fallback {
        self::fallback(check, spec, fallback);
        if let Some(last) = &fallback.last_good {
            let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
            range(check, "spec.fallback.lastGood.maxAge", Some(last.max_age), second, day);
        }
    }
    if let Some(collapse) = &spec.collapse {
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(60));
        range(check, "spec.collapse.maxWait", collapse.max_wait, least, most);
    }
    if let Some(Cache { max_mib: Some(all), max_body_kib: Some(body), .. }) = &spec.cache
        && body.get() > all.get() * 1024 / 8
    {
        let message =
            format!("{body} KiB are more than an eighth of {all} MiB: no answer of that length would be kept");
        let fix = format!("write {} or less, or raise `maxMib`", all.get() * 1024 / 8);
        check.error(FaultClass::OutOfRange, "spec.cache.maxBodyKib", message, fix);
    }
}

fn fallback(check: &mut Check<'_, '_>, spec: &TrafficPolicySpec, fallback: &Fallback) {
    const AT: &str = "spec.fallback";
    if fallback.service.is_none() && fallback.last_good.is_none() && fallback.reply.is_none() {
        let fix = "add `reply`, `lastGood` or `service`";
        check.error(FaultClass::MissingField, AT, "nothing stands in for an answer", fix);
    }
    if let Some(on) = &fallback.on {
        check.count(&format!("{AT}.on"), "conditions", on.len(), 1, FallbackOn::ALL.len());
        retry::twice(check, &format!("{AT}.on"), on, |on| on.as_str().to_owned());
        let says_what = [(fallback.failures.is_some(), "failures"), (!fallback.codes.is_empty(), "codes")];
        for (_, field) in says_what.into_iter().filter(|(is_there, _)| *is_there && !on.contains(&FallbackOn::Failed)) {
            let message = "it says what has failed, and nothing stands in for that";
            check.error(
                FaultClass::UnusedField,
                &format!("{AT}.{field}"),
                message,
                "add `failed` to `on`, or remove it",
            );
        }
    }
    if let Some(failures) = &fallback.failures {
        check.count(&format!("{AT}.failures"), "conditions", failures.len(), 1, 16);
        retry::twice(check, &format!("{AT}.failures"), failures, |on| on.as_str().to_owned());
    }
    route::retry_codes(check, AT, &fallback.codes);
    if let Some(reply) = &fallback.reply {
        reply::check(check, &format!("{AT}.reply"), reply);
    }
    if let (Some(_), None) = (fallback.grpc_status, &fallback.reply) {
        let message = "it is what calls of gRPC hear in place of `reply`, and there is none";
        check.error(FaultClass::UnusedField, &format!("{AT}.grpcStatus"), message, "add `reply`, or remove it");
    }
    let Some(service) = &fallback.service else { return };
    if spec.target_refs.iter().any(|target| target.name == service.name) {
        let message = format!("{} would stand in for itself", service.name);
        let fix = "name another service, or answer with `reply`";
        return check.error(FaultClass::Circle, &format!("{AT}.service.name"), message, fix);
    }
    let backend = BackendView {
        group: "",
        kind: "Service",
        name: &service.name,
        namespace: None,
        port: service.port.map(|port| port.get()),
        weight: 1,
    };
    reference::backend(check, &format!("{AT}.service"), backend, &[]);
    let ports = check.index.service(check.namespace(), &service.name).and_then(|known| known.declared);
    if let Some(ports) = ports.filter(|ports| ports.len() > 1 && service.port.is_none()) {
        let numbers: Vec<String> = ports.iter().map(|known| known.number.to_string()).collect();
        let message = format!("service {} has {} ports, and none is named", service.name, ports.len());
        let fix = format!("add `port:` with one of {}", numbers.join(", "));
        check.error(FaultClass::MissingPort, &format!("{AT}.service"), message, fix);
    }
    circle(check, spec, &service.name);
}

/// Refuses what comes back to a service that it is for, by the fallbacks of others.
fn circle(check: &mut Check<'_, '_>, spec: &TrafficPolicySpec, first: &str) {
    let namespace = check.namespace().to_owned();
    let mut way = vec![first.to_owned()];
    while let Some((policy, next)) = way.last().and_then(|name| check.index.fallback_of(&namespace, name)) {
        let is_back = spec.target_refs.iter().any(|target| target.name == next);
        way.push(next);
        if is_back {
            let message = format!("{} stand in for each other: {policy} closes the circle", way.join(" and "));
            let fix = "have one of them answer with `reply` alone";
            return check.error(FaultClass::Circle, "spec.fallback.service.name", message, fix);
        }
        if way.len() > STEPS_MAX {
            return;
        }
    }
}

/// What a policy says stands in for a service.
pub(super) fn stands_in(key: &ResourceKey, spec: &TrafficPolicySpec, service: &ServiceName) -> Option<String> {
    let is_for = key.kind == Kind::TrafficPolicy
        && *key.namespace == *service.namespace
        && spec.target_refs.iter().any(|target| *target.name == *service.name);
    spec.fallback.as_ref()?.service.as_ref().filter(|_| is_for).map(|other| other.name.clone())
}

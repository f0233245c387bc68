//! Fault policies: something that goes wrong, for requests that there can be.

use std::time::Duration;

use super::traffic_policy::range;
use super::{Check, reference, route, text};
use crate::fault::FaultClass;
use crate::resource::fault_policy::{FaultPolicySpec, InjectedFault};

const FAULTS_MAX: usize = 16;
const MATCHES_MAX: usize = 16;

pub(super) fn check(check: &mut Check<'_, '_>, spec: &FaultPolicySpec) {
    reference::targets(check, &spec.target_refs);
    check.count("spec.faults", "faults", spec.faults.len(), 1, FAULTS_MAX);
    for (i, fault) in spec.faults.iter().enumerate() {
        let at = format!("spec.faults[{i}]");
        text::label(check, FaultClass::InvalidName, &format!("{at}.name"), &fault.name);
        if spec.faults[..i].iter().any(|other| other.name == fault.name) {
            let message = format!("`{}` is the name of two faults", fault.name);
            check.error(FaultClass::DuplicateName, &format!("{at}.name"), message, "give it another name");
        }
        check.count(&format!("{at}.matches"), "matches", fault.matches.len(), 0, MATCHES_MAX);
        for (m, matches) in fault.matches.iter().enumerate() {
            route::http_match(check, &format!("{at}.matches[{m}]"), matches);
        }
        if let Some(before) = spec.faults[..i].iter().find(|before| before.matches.is_empty()) {
            let message =
                format!("no request comes as far as this fault: `{}` before it is for all of them", before.name);
            check.error(FaultClass::UnusedField, &at, message, "give that one `matches`, or write this one before it");
        }
        what(check, &at, fault);
    }
}

fn what(check: &mut Check<'_, '_>, at: &str, fault: &InjectedFault) {
    if fault.delay.is_none() && fault.abort.is_none() && fault.bandwidth.is_none() {
        let fix = "write `delay: {time: 2s}`, `abort: {status: 503}` or `bandwidth: {kibPerSecond: 64}`";
        check.error(FaultClass::MissingField, at, "a fault in which nothing goes wrong", fix);
    }
    if let Some(delay) = &fault.delay {
        let time = Some(delay.time);
        range(check, &format!("{at}.delay.time"), time, Duration::from_millis(1), Duration::from_secs(600));
    }
    let Some(abort) = &fault.abort else { return };
    let path = format!("{at}.abort");
    match (abort.status, abort.grpc_status) {
        (None, None) => {
            let fix = "write `status: 503` or `grpcStatus: UNAVAILABLE`";
            check.error(FaultClass::MissingField, &path, "an answer without a status", fix);
        }
        (Some(_), Some(_)) => {
            let fix = "keep one: each kind of request hears what says the same";
            check.error(FaultClass::TooMany, &path, "an answer with two statuses", fix);
        }
        _ => {}
    }
}

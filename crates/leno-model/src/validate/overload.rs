//! Priorities and shedding: rules that can be reached, numbers that leave room.

use std::time::Duration;

use super::traffic_policy::range;
use super::{Check, route};
use crate::fault::FaultClass;
use crate::resource::overload::Overload;
use crate::resource::traffic_policy::TrafficPolicySpec;

const RULES_MAX: usize = 16;
const MATCHES_MAX: usize = 16;

pub(super) fn check(check: &mut Check<'_, '_>, spec: &TrafficPolicySpec) {
    check.count("spec.priorities", "priorities", spec.priorities.len(), 0, RULES_MAX);
    for (i, rule) in spec.priorities.iter().enumerate() {
        let at = format!("spec.priorities[{i}]");
        check.count(&format!("{at}.matches"), "matches", rule.matches.len(), 0, MATCHES_MAX);
        for (m, matches) in rule.matches.iter().enumerate() {
            route::http_match(check, &format!("{at}.matches[{m}]"), matches);
        }
        if rule.matches.is_empty() && i + 1 < spec.priorities.len() {
            let message = "it is for every request, so that none comes to those behind it";
            check.error(FaultClass::UnusedField, &at, message, "write it last, or give it `matches`");
        }
    }
    if let Some(admission) = &spec.admission {
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(600));
        range(check, "spec.admission.window", admission.window, min, max);
    }
    if let Some(overload) = &spec.overload {
        numbers(check, overload);
    }
}

fn numbers(check: &mut Check<'_, '_>, overload: &Overload) {
    let (ms, second) = (Duration::from_millis(1), Duration::from_secs(1));
    range(check, "spec.overload.maxWait", overload.max_wait, ms, second);
    if let (Some(min), Some(max)) = (overload.min_requests, overload.max_requests)
        && min > max
    {
        let message = format!("fewer requests are let in at most, {max}, than in any case, {min}");
        let fix = format!("write {min} or more");
        check.error(FaultClass::OutOfRange, "spec.overload.maxRequests", message, fix);
    }
}

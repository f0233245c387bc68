//! Limits, ejection and breakers: what can never strike, and what contradicts itself.

use std::time::Duration;

use super::Check;
use super::traffic_policy::range;
use crate::fault::FaultClass;
use crate::resource::resilience::{Breaker, BreakerPreset, Ejection, Limits};
use crate::resource::traffic_policy::TrafficPolicySpec;

pub(super) fn check(check: &mut Check<'_, '_>, spec: &TrafficPolicySpec) {
    if let Some(limits) = &spec.limits {
        check_limits(check, limits);
    }
    if let Some(ejection) = &spec.ejection {
        check_ejection(check, ejection);
    }
    if let Some(breaker) = &spec.breaker {
        check_breaker(check, breaker);
    }
}

fn check_limits(check: &mut Check<'_, '_>, limits: &Limits) {
    if limits.pending.is_some() && limits.connections.is_none() {
        let message = "it says how many wait for a connection, and the number of connections has no limit";
        let fix = "add `connections` beside `pending`, or remove it";
        check.error(FaultClass::MissingField, "spec.limits.pending", message, fix);
    }
    let Some(queue) = &limits.queue else { return };
    range(check, "spec.limits.queue.timeout", queue.timeout, Duration::from_millis(1), Duration::from_secs(60));
    if limits.requests.is_none() {
        let message = "a queue that nothing ever waits in: the number of open requests has no limit";
        check.error(
            FaultClass::MissingField,
            "spec.limits.queue",
            message,
            "add `requests` beside `queue`, or remove it",
        );
    }
}

fn check_ejection(check: &mut Check<'_, '_>, ejection: &Ejection) {
    let s = Duration::from_secs;
    let times = [
        ("slowAfter", ejection.slow_after, Duration::from_millis(1), s(600)),
        ("window", ejection.window, s(1), s(3600)),
        ("baseTime", ejection.base_time, s(1), s(3600)),
        ("maxTime", ejection.max_time, s(1), s(86_400)),
    ];
    for (field, time, min, max) in times {
        range(check, &format!("spec.ejection.{field}"), time, min, max);
    }
    if let (Some(base), Some(max)) = (ejection.base_time, ejection.max_time)
        && max < base
    {
        let message = format!("no ejection lasts longer than {max}, and the first one {base}");
        check.error(FaultClass::OutOfRange, "spec.ejection.maxTime", message, format!("write {base} or longer"));
    }
    if ejection.slow_after.is_some() && ejection.slow_ratio.is_none() {
        let message = "it says what slow is, and not how many slow answers are too many";
        let fix = "add `slowRatio` beside `slowAfter`, or remove it";
        check.error(FaultClass::MissingField, "spec.ejection.slowAfter", message, fix);
    }
    if ejection.min_requests.is_some() && ejection.failure_ratio.or(ejection.slow_ratio).is_none() {
        let message = "it says how many answers a ratio needs, and there is none";
        let fix = "add `failureRatio` or `slowRatio` beside `minRequests`, or remove it";
        check.error(FaultClass::MissingField, "spec.ejection.minRequests", message, fix);
    }
}

fn check_breaker(check: &mut Check<'_, '_>, breaker: &Breaker) {
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    let times = [
        ("slowAfter", breaker.slow_after, ms(1), s(600)),
        ("window", breaker.window, ms(100), s(3600)),
        ("openTime", breaker.open_time, ms(100), s(3600)),
    ];
    for (field, time, min, max) in times {
        range(check, &format!("spec.breaker.{field}"), time, min, max);
    }
    if breaker.slow_after.is_some() && breaker.slow_ratio.is_none() {
        let message = "it says what slow is, and not how many slow answers are too many";
        let fix = "add `slowRatio` beside `slowAfter`, or remove it";
        check.error(FaultClass::MissingField, "spec.breaker.slowAfter", message, fix);
    }
    let counts = breaker.failure_ratio.or(breaker.slow_ratio).is_some() || breaker.failures.is_some();
    let opens = counts || breaker.consecutive_errors.is_some();
    for (field, is_there) in [("window", breaker.window.is_some()), ("minRequests", breaker.min_requests.is_some())] {
        if is_there && opens && !counts {
            let message = "it is of ratios and numbers, and failures in a row are counted without it";
            let fix = format!("add `failureRatio`, `slowRatio` or `failures` beside `{field}`, or remove it");
            check.error(FaultClass::UnusedField, &format!("spec.breaker.{field}"), message, fix);
        }
    }
    if breaker.preset == BreakerPreset::Sentinel && !opens && breaker.forced.is_none() {
        let message = "nothing opens it: Sentinel has no default for that";
        let fix = "add `failureRatio`, `slowRatio`, `failures` or `consecutiveErrors`";
        check.error(FaultClass::MissingField, "spec.breaker", message, fix);
    }
}

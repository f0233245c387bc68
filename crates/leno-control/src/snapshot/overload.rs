//! What matters most when there is more to do than can be done, as a policy says it, with defaults.

use std::time::Duration;

use leno_model::resource::overload as written;
use leno_model::resource::traffic_policy::TrafficPolicySpec;
use leno_model::snapshot::{Admission, Overload, PriorityRule, Shedding};

use super::route;

/// As with Envoy's `max_concurrency_limit`.
const MAX: u32 = 1000;
const MIN: u32 = 4;
/// As with Envoy's buffer.
const TOLERANCE: u32 = 25;
/// CoDel's target.
const WAIT: Duration = Duration::from_millis(5);

/// As with Google.
const FACTOR: u32 = 200;
const WINDOW: Duration = Duration::from_secs(120);
const REQUESTS_MIN: u32 = 20;

/// What the proxy beside an instance does; the priorities alone are for callers.
pub(super) fn of(spec: &TrafficPolicySpec) -> Overload {
    Overload { priorities: priorities(spec), shedding: spec.overload.as_ref().map(shedding) }
}

pub(super) fn priorities(spec: &TrafficPolicySpec) -> Vec<PriorityRule> {
    let rule = |rule: &written::PriorityRule| PriorityRule {
        priority: rule.priority,
        when: rule.matches.iter().map(route::http_match).collect(),
    };
    spec.priorities.iter().map(rule).collect()
}

pub(super) fn admission(written: &written::Admission) -> Admission {
    Admission {
        factor: written.factor.map_or(FACTOR, |factor| factor.get()),
        window: written.window.map_or(WINDOW, |window| window.0),
        requests_min: written.min_requests.map_or(REQUESTS_MIN, |volume| volume.get()),
    }
}

fn shedding(written: &written::Overload) -> Shedding {
    let min = written.min_requests.map_or(MIN, |min| min.get());
    let max = written.max_requests.map_or(MAX.max(min), |max| max.get());
    Shedding {
        min: min.min(max),
        max,
        tolerance: written.tolerance.map_or(TOLERANCE, |tolerance| tolerance.get()),
        wait: written.max_wait.map_or(WAIT, |wait| wait.0),
    }
}

//! What keeps trouble from spreading, as a policy says it, with defaults.

use std::time::Duration;

use leno_model::resource::duration::GatewayDuration;
use leno_model::resource::resilience::{self, BreakerPreset};
use leno_model::resource::traffic_policy::TrafficPolicySpec;
use leno_model::snapshot::{Breaker, Ejection, Limits, Queue, Resilience};

use super::{degradation, overload, retry};

const QUEUE_TIMEOUT: Duration = Duration::from_secs(1);
/// As in Envoy.
const PENDING: u32 = 1024;
const CONSECUTIVE_ERRORS: u32 = 5;
const SLOW_AFTER: Duration = Duration::from_secs(1);
const WINDOW: Duration = Duration::from_secs(10);
const REQUESTS_MIN: u32 = 50;
const BASE_TIME: Duration = Duration::from_secs(30);
const TIME_MAX: Duration = Duration::from_secs(300);
const SHARE_MAX: u32 = 10;

pub(super) fn of(spec: &TrafficPolicySpec) -> Resilience {
    Resilience {
        limits: spec.limits.as_ref().map(limits).unwrap_or_default(),
        ejection: spec.ejection.as_ref().map(ejection),
        breaker: spec.breaker.as_ref().map(breaker),
        breaker_forced: spec.breaker.as_ref().and_then(|breaker| breaker.forced),
        retry_budget: spec.retry_budget.as_ref().map(retry::budget),
        priorities: overload::priorities(spec),
        admission: spec.admission.as_ref().map(overload::admission),
        // Where it leads is for those who know of services.
        stand_in: None,
        answers: degradation::answers(spec).map(Box::new),
    }
}

fn limits(written: &resilience::Limits) -> Limits {
    let queue = |queue: &resilience::Queue| Queue {
        size: queue.size.get(),
        timeout: queue.timeout.map_or(QUEUE_TIMEOUT, |timeout| timeout.0),
    };
    Limits {
        requests: written.requests.map(|requests| requests.get()),
        queue: written.queue.as_ref().map(queue),
        retries: written.retries.map(|retries| retries.get()),
        connections: written.connections.map(|connections| connections.get()),
        pending: written.connections.map(|_| written.pending.map_or(PENDING, |pending| pending.get())),
    }
}

fn ejection(written: &resilience::Ejection) -> Ejection {
    let base_time = time(written.base_time, written.max_time.map_or(BASE_TIME, |max| max.0.min(BASE_TIME)));
    let ejection = Ejection {
        consecutive_errors: written.consecutive_errors.map(|run| run.get()),
        consecutive_gateway_errors: written.consecutive_gateway_errors.map(|run| run.get()),
        consecutive_local_errors: written.consecutive_local_errors.map(|run| run.get()),
        failure_ratio: written.failure_ratio.map(|share| share.get()),
        slow_ratio: written.slow_ratio.map(|share| share.get()),
        slow_after: time(written.slow_after, SLOW_AFTER),
        window: time(written.window, WINDOW),
        requests_min: written.min_requests.map_or(REQUESTS_MIN, |volume| volume.get()),
        base_time,
        time_max: time(written.max_time, TIME_MAX.max(base_time)),
        share_max: written.max_share.map_or(SHARE_MAX, |share| share.get()),
    };
    let runs = [ejection.consecutive_errors, ejection.consecutive_gateway_errors, ejection.consecutive_local_errors];
    let says_when = runs.into_iter().chain([ejection.failure_ratio, ejection.slow_ratio]).any(|when| when.is_some());
    Ejection {
        consecutive_errors: ejection.consecutive_errors.or((!says_when).then_some(CONSECUTIVE_ERRORS)),
        ..ejection
    }
}

/// Whose constants: <https://github.com/Netflix/Hystrix/wiki/Configuration>, Sentinel's `DegradeRule`, Resilience4j's
/// `CircuitBreakerConfig`.
fn constants(preset: BreakerPreset) -> Breaker {
    let s = Duration::from_secs;
    let hystrix = Breaker {
        failure_ratio: Some(50),
        slow_ratio: None,
        slow_after: s(1),
        consecutive: None,
        failures: None,
        window: s(10),
        // Snapshots of half a second.
        buckets: 20,
        requests_min: 20,
        open: s(5),
        probes: 1,
        above: false,
    };
    match preset {
        BreakerPreset::Hystrix => hystrix,
        BreakerPreset::Sentinel => Breaker {
            failure_ratio: None,
            window: s(1),
            buckets: 1,
            requests_min: 5,
            open: s(10),
            above: true,
            ..hystrix
        },
        BreakerPreset::Resilience4j => Breaker {
            slow_after: s(60),
            window: s(100),
            buckets: 10,
            requests_min: 100,
            open: s(60),
            probes: 10,
            ..hystrix
        },
    }
}

fn breaker(written: &resilience::Breaker) -> Breaker {
    let preset = constants(written.preset);
    let (failure_ratio, slow_ratio) = (written.failure_ratio.map(|s| s.get()), written.slow_ratio.map(|s| s.get()));
    let (consecutive, failures) = (written.consecutive_errors.map(|n| n.get()), written.failures.map(|n| n.get()));
    let opens = [failure_ratio, slow_ratio, consecutive, failures].iter().any(Option::is_some);
    Breaker {
        failure_ratio: if opens { failure_ratio } else { preset.failure_ratio },
        slow_ratio,
        slow_after: time(written.slow_after, preset.slow_after),
        consecutive,
        failures,
        window: time(written.window, preset.window),
        requests_min: written.min_requests.map_or(preset.requests_min, |volume| volume.get()),
        open: time(written.open_time, preset.open),
        probes: written.probes.map_or(preset.probes, |probes| probes.get()),
        ..preset
    }
}

fn time(written: Option<GatewayDuration>, default: Duration) -> Duration {
    written.map_or(default, |time| time.0)
}

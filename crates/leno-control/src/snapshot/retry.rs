//! What is sent more than once, as a policy or a route says it, with defaults.

use std::time::Duration;

use leno_model::resource::http_route::HttpRetry;
use leno_model::resource::number::{Attempts, RetryCode};
use leno_model::resource::retry;
use leno_model::resource::traffic_policy::TrafficPolicySpec;
use leno_model::snapshot::{Hedge, IDEMPOTENT, Retry, RetryBudget, SAFE};

const BACKOFF: Duration = Duration::from_millis(25);
/// The longest wait is as many times the shortest one, as in Envoy.
const BACKOFF_FACTOR: u32 = 10;
/// The longest wait where a route says how to try again, which has no word for it.
const ROUTE_BACKOFF_MAX: Duration = Duration::from_secs(10);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);
const BUDGET: RetryBudget = RetryBudget { percent: 20, min_per_second: 3, window: Duration::from_secs(10) };

/// What a policy says of it.
pub(super) fn of_policy(spec: &TrafficPolicySpec) -> Option<Retry> {
    with_hedge(spec.retry.as_ref().filter(|retry| retry.names_something()).map(of), spec.hedge.as_ref().map(hedge))
}

/// What a route says comes in place of the policy's retries; a route has no word for hedges.
pub(super) fn of_rule(written: Option<&HttpRetry>, policy: Option<Retry>) -> Option<Retry> {
    match written {
        Some(written) => with_hedge(Some(of_route(written)), policy.and_then(|policy| policy.hedge)),
        None => policy,
    }
}

/// A hedge without retries has nothing tried again.
fn with_hedge(retry: Option<Retry>, hedge: Option<Hedge>) -> Option<Retry> {
    let alone = || hedge.is_some().then(|| Retry { attempts: 0, ..Retry::default() });
    retry.or_else(alone).map(|retry| Retry { hedge, ..retry })
}

fn hedge(written: &retry::Hedge) -> Hedge {
    let methods = match &written.methods {
        Some(methods) => methods.iter().map(|method| method.as_str().into()).collect(),
        None => SAFE.map(Into::into).to_vec(),
    };
    Hedge { delay: written.delay.0, attempts: written.attempts.map_or(1, |attempts| attempts.get()), methods }
}

/// As a policy has it: never what is unsafe unless its method is named.
fn of(written: &retry::Retry) -> Retry {
    let least = || written.max_backoff.map_or(BACKOFF, |longest| longest.0.min(BACKOFF));
    let backoff = written.backoff.map_or_else(least, |backoff| backoff.0);
    let longest = || if backoff.is_zero() { BACKOFF * BACKOFF_FACTOR } else { backoff * BACKOFF_FACTOR };
    let mut on = written.on.clone();
    on.sort_unstable();
    let methods = match &written.methods {
        Some(methods) => methods.iter().map(|method| method.as_str().into()).collect(),
        None => IDEMPOTENT.map(Into::into).to_vec(),
    };
    Retry {
        attempts: attempts(written.attempts),
        codes: codes(&written.codes),
        on,
        methods: Some(methods),
        backoff,
        backoff_max: written.max_backoff.map_or_else(longest, |longest| longest.0).max(backoff),
        retry_after_max: written.max_retry_after.map_or(RETRY_AFTER_MAX, |longest| longest.0),
        hedge: None,
    }
}

/// As a route has it: the Gateway API asks for answers of these statuses, whatever the method, which the rule can match.
fn of_route(written: &HttpRetry) -> Retry {
    Retry {
        attempts: attempts(written.attempts),
        codes: codes(&written.codes),
        on: Vec::new(),
        methods: None,
        backoff: written.backoff.map_or(BACKOFF, |backoff| backoff.0),
        backoff_max: ROUTE_BACKOFF_MAX,
        retry_after_max: RETRY_AFTER_MAX,
        hedge: None,
    }
}

pub(super) fn budget(written: &retry::RetryBudget) -> RetryBudget {
    RetryBudget {
        percent: written.percent.map_or(BUDGET.percent, |percent| percent.get()),
        min_per_second: written.min_per_second.map_or(BUDGET.min_per_second, |least| least.get()),
        window: written.window.map_or(BUDGET.window, |window| window.0),
    }
}

fn attempts(written: Option<Attempts>) -> u32 {
    written.map_or(1, |attempts| attempts.get())
}

fn codes(written: &[RetryCode]) -> Vec<u16> {
    written.iter().copied().map(RetryCode::get).collect()
}

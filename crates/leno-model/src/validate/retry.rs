//! Retries, hedges and their budget: what contradicts itself, and what nothing ever comes of.

use std::time::Duration;

use super::traffic_policy::range;
use super::{Check, route, text};
use crate::fault::FaultClass;
use crate::resource::duration::GatewayDuration;
use crate::resource::retry::{Retry, RetryBudget};
use crate::resource::traffic_policy::TrafficPolicySpec;

pub(super) fn check(check: &mut Check<'_, '_>, spec: &TrafficPolicySpec) {
    if let Some(retry) = &spec.retry {
        check_retry(check, retry);
        check_try_timeout(check, retry, spec.request_timeout);
    }
    if let Some(hedge) = &spec.hedge {
        let (ms, s) = (Duration::from_millis, Duration::from_secs);
        range(check, "spec.hedge.delay", Some(hedge.delay), ms(1), s(60));
        if let Some(methods) = &hedge.methods {
            self::methods(check, "spec.hedge.methods", methods);
        }
        check_delay(check, spec, hedge.delay);
    }
    if let Some(budget) = &spec.retry_budget {
        check_budget(check, budget);
    }
}

fn check_retry(check: &mut Check<'_, '_>, retry: &Retry) {
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    route::retry_codes(check, "spec.retry", &retry.codes);
    check.count("spec.retry.on", "conditions", retry.on.len(), 0, 16);
    twice(check, "spec.retry.on", &retry.on, |on| on.as_str().to_owned());
    if let Some(methods) = &retry.methods {
        self::methods(check, "spec.retry.methods", methods);
    }
    let (methods, attempts) = (retry.methods.is_some(), retry.attempts.is_some());
    for (field, what) in
        [(methods, ("methods", "which methods are")), (attempts, ("attempts", "how often something is"))]
            .into_iter()
            .filter_map(|(is_there, words)| (is_there && !retry.names_something()).then_some(words))
    {
        let message = format!("it says {what} tried again, and not after what");
        let fix = format!("add `on` or `codes` beside `{field}`, or remove it");
        check.error(FaultClass::UnusedField, &format!("spec.retry.{field}"), message, fix);
    }
    range(check, "spec.retry.backoff", retry.backoff, ms(0), s(10));
    range(check, "spec.retry.maxBackoff", retry.max_backoff, ms(0), s(60));
    range(check, "spec.retry.maxRetryAfter", retry.max_retry_after, ms(0), s(300));
    if let (Some(longest), Some(shortest)) = (retry.max_backoff, retry.backoff)
        && longest < shortest
    {
        let message = format!("no wait is longer than {longest}, and none shorter than {shortest}");
        let fix = format!("write {shortest} or longer");
        check.error(FaultClass::OutOfRange, "spec.retry.maxBackoff", message, fix);
    }
}

fn check_try_timeout(check: &mut Check<'_, '_>, retry: &Retry, whole: Option<GatewayDuration>) {
    range(check, "spec.retry.tryTimeout", retry.try_timeout, Duration::from_millis(1), Duration::from_secs(600));
    if let (Some(one), Some(whole)) = (retry.try_timeout, whole.filter(|whole| !whole.0.is_zero()))
        && one >= whole
    {
        let message = format!("a try may take {one}, and the request with all its tries {whole}");
        let fix = format!("write less than {whole}, or raise `requestTimeout`");
        check.error(FaultClass::OutOfRange, "spec.retry.tryTimeout", message, fix);
    }
}

/// Whether it is ever waited for so long.
fn check_delay(check: &mut Check<'_, '_>, spec: &TrafficPolicySpec, delay: GatewayDuration) {
    let one = spec.retry.as_ref().and_then(|retry| retry.try_timeout).map(|limit| (limit, "retry.tryTimeout"));
    let whole = spec.request_timeout.filter(|whole| !whole.0.is_zero()).map(|limit| (limit, "requestTimeout"));
    if let Some((limit, field)) = one.into_iter().chain(whole).min_by_key(|(limit, _)| *limit)
        && delay >= limit
    {
        let message = format!("nothing is ever waited for {delay}: `{field}` is {limit}");
        check.error(FaultClass::OutOfRange, "spec.hedge.delay", message, format!("write less than {limit}"));
    }
}

fn check_budget(check: &mut Check<'_, '_>, budget: &RetryBudget) {
    let at = "spec.retryBudget.window";
    range(check, at, budget.window, Duration::from_secs(1), Duration::from_secs(60));
    if let Some(window) = budget.window.filter(|window| window.0.subsec_millis() > 0) {
        let message = format!("{window} is no whole number of seconds, and the budget counts by seconds");
        let fix = format!("write {}s", window.0.as_secs() + 1);
        check.error(FaultClass::OutOfRange, at, message, fix);
    }
}

/// A list of methods.
pub(super) fn methods(check: &mut Check<'_, '_>, at: &str, methods: &[String]) {
    check.count(at, "methods", methods.len(), 1, 16);
    for (i, method) in methods.iter().enumerate() {
        text::method(check, &format!("{at}[{i}]"), method);
    }
    twice(check, at, methods, Clone::clone);
}

pub(super) fn twice<T: PartialEq>(check: &mut Check<'_, '_>, at: &str, list: &[T], word: impl Fn(&T) -> String) {
    for (i, entry) in list.iter().enumerate() {
        if list[..i].contains(entry) {
            let message = format!("{} stands twice", word(entry));
            check.error(FaultClass::DuplicateName, &format!("{at}[{i}]"), message, "remove one of the two");
        }
    }
}

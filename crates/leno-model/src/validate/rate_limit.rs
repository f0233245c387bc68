//! Limits on requests: one way to count, times that can be kept, keys that requests can have.

use std::time::Duration;

use super::traffic_policy::range;
use super::{Check, filter, route, text};
use crate::fault::FaultClass;
use crate::resource::duration::GatewayDuration;
use crate::resource::rate_limit::{LimitAt, LimitKey, RateLimit, WarmUp};

const LIMITS_MAX: usize = 16;
const MATCHES_MAX: usize = 16;
const KEY_MAX: usize = 4;
const NAME_MAX: usize = 256;

pub(super) fn check(check: &mut Check<'_, '_>, limits: &[RateLimit]) {
    check.count("spec.rateLimits", "limits", limits.len(), 0, LIMITS_MAX);
    for (i, limit) in limits.iter().enumerate() {
        let at = format!("spec.rateLimits[{i}]");
        text::label(check, FaultClass::InvalidName, &format!("{at}.name"), &limit.name);
        if limits[..i].iter().any(|other| other.name == limit.name) {
            let message = format!("`{}` is the name of two limits", limit.name);
            check.error(FaultClass::DuplicateName, &format!("{at}.name"), message, "give it another name");
        }
        check.count(&format!("{at}.matches"), "matches", limit.matches.len(), 0, MATCHES_MAX);
        for (m, matches) in limit.matches.iter().enumerate() {
            route::http_match(check, &format!("{at}.matches[{m}]"), matches);
        }
        form(check, &at, limit);
        key(check, &at, limit);
        shared(check, &at, limit);
    }
}

/// What proxies count together: a rate, and one of which each second has something to allot.
fn shared(check: &mut Check<'_, '_>, at: &str, limit: &RateLimit) {
    if limit.shared.is_none() {
        return;
    }
    let path = format!("{at}.shared");
    if !limit.key.is_empty() {
        let message = "what proxies count together they count for all callers together";
        check.error(FaultClass::UnusedField, &path, message, "remove `key` or `shared`");
    }
    let Some(bucket) = &limit.limit else {
        let fix = "write it as `limit: {requests: 100, per: 1s}`, or remove `shared`";
        check.error(FaultClass::UnusedField, &path, "proxies count only a `limit` together", fix);
        return;
    };
    if bucket.warm_up.is_some() {
        let message = "each proxy warms up by itself";
        check.error(FaultClass::UnusedField, &path, message, "remove `warmUp` or `shared`");
    }
    if u128::from(bucket.requests.get()) * 1_000 < bucket.per.0.as_millis() {
        let message = "less than one request a second is too little to be divided among proxies";
        let fix = "write at least as many `requests` as `per` has seconds, or remove `shared`";
        check.error(FaultClass::OutOfRange, &format!("{at}.limit.requests"), message, fix);
    }
}

/// How it counts: in one way, and in one that lets somebody through.
fn form(check: &mut Check<'_, '_>, at: &str, limit: &RateLimit) {
    let forms = [
        limit.limit.is_some(),
        limit.window.is_some(),
        limit.queue.is_some(),
        limit.concurrency.is_some(),
        limit.quota.is_some(),
    ];
    match forms.iter().filter(|is_there| **is_there).count() {
        1 => {}
        0 => {
            let fix = "write one of `limit: {requests: 100, per: 1s}`, `window`, `queue`, `concurrency` and `quota`";
            check.error(FaultClass::MissingField, at, "a limit that does not say how much", fix);
        }
        _ => {
            let message = "a limit that counts in more than one way";
            check.error(FaultClass::TooMany, at, message, "write each as a limit of its own");
        }
    }
    if let Some(bucket) = &limit.limit {
        per(check, &format!("{at}.limit"), bucket.per);
        warm_up(check, &format!("{at}.limit.warmUp"), bucket.warm_up.as_ref(), bucket.requests.get(), bucket.per);
    }
    if let Some(window) = &limit.window {
        per(check, &format!("{at}.window"), window.per);
    }
    let Some(queue) = &limit.queue else { return };
    let at = format!("{at}.queue");
    per(check, &at, queue.per);
    warm_up(check, &format!("{at}.warmUp"), queue.warm_up.as_ref(), queue.requests.get(), queue.per);
    range(check, &format!("{at}.timeout"), queue.timeout, Duration::from_millis(1), Duration::from_secs(60));
}

fn per(check: &mut Check<'_, '_>, at: &str, per: GatewayDuration) {
    range(check, &format!("{at}.per"), Some(per), Duration::from_millis(1), Duration::from_secs(86_400));
}

fn warm_up(check: &mut Check<'_, '_>, at: &str, warm_up: Option<&WarmUp>, requests: u32, per: GatewayDuration) {
    let Some(warm_up) = warm_up else { return };
    let path = format!("{at}.period");
    range(check, &path, Some(warm_up.period), Duration::from_secs(1), Duration::from_secs(3600));
    let distance = per.0 / requests.max(1);
    if warm_up.period.0 < distance * warm_up.cold_factor() {
        let message = format!("it warms up before it has let anybody through: one is let through every {distance:?}");
        check.error(FaultClass::OutOfRange, &path, message, "write a longer `period`, or remove `warmUp`");
    }
}

fn key(check: &mut Check<'_, '_>, at: &str, limit: &RateLimit) {
    let path = format!("{at}.key");
    check.count(&path, "parts of a key", limit.key.len(), 0, KEY_MAX);
    if limit.keys.is_some() && limit.key.is_empty() {
        let message = "it says how many keys are told apart, and there is none";
        check.error(FaultClass::UnusedField, &format!("{at}.keys"), message, "add `key`, or remove `keys`");
    }
    if limit.key.is_empty() {
        return;
    }
    if limit.window.is_some() || limit.concurrency.is_some() || limit.quota.is_some() {
        let fix = "write it as `limit: {requests: 100, per: 1s, burst: 10}`, or remove `key`";
        let message = "windows, open requests and quotas are counted for all callers together";
        check.error(FaultClass::UnusedField, &path, message, fix);
    }
    let warm = limit.limit.as_ref().is_some_and(|bucket| bucket.warm_up.is_some())
        || limit.queue.as_ref().is_some_and(|queue| queue.warm_up.is_some());
    if warm {
        let message = "what warms up is the service, for all callers together";
        check.error(FaultClass::UnusedField, &path, message, "remove `key` or `warmUp`");
    }
    for (i, part) in limit.key.iter().enumerate() {
        let path = format!("{path}[{i}]");
        if part_of_key(check, &path, part) && limit.key[..i].iter().any(|other| is_same(other, part)) {
            check.error(FaultClass::DuplicateName, &path, "the same part stands twice", "keep one of the two");
        }
        if part.caller == Some(true) && limit.at == LimitAt::Caller {
            let fix = "write `at: service`, or remove the entry";
            let message = "beside a caller there is one caller only";
            check.error(FaultClass::UnusedField, &format!("{path}.caller"), message, fix);
        }
    }
}

/// Whether it is one part.
fn part_of_key(check: &mut Check<'_, '_>, at: &str, part: &LimitKey) -> bool {
    let words = [("caller", part.caller), ("path", part.path), ("sourceAddress", part.source_address)];
    let names = [part.header.is_some(), part.cookie.is_some(), part.query.is_some()];
    let count = words.iter().filter(|(_, word)| word.is_some()).count() + names.iter().filter(|name| **name).count();
    if count == 0 {
        let fix = "write one of `caller: true`, `header`, `cookie`, `query`, `path: true` and `sourceAddress: true`";
        check.error(FaultClass::MissingField, at, "a part of a key without a source", fix);
    } else if count > 1 {
        check.error(FaultClass::TooMany, at, "one part of several sources", "write each as an entry of its own");
    }
    for (word, _) in words.iter().filter(|(_, word)| *word == Some(false)) {
        let fix = format!("write `{word}: true`, or remove the entry");
        check.error(FaultClass::UnknownValue, &format!("{at}.{word}"), "false is no part of a key", fix);
    }
    if let Some(name) = &part.header {
        let path = format!("{at}.header");
        text::header_name(check, &path, name);
        filter::reserved(check, &path, &name.to_ascii_lowercase());
    }
    if let Some(name) = part.cookie.as_ref().filter(|name| !text::is_token(name) || name.len() > NAME_MAX) {
        let message = format!("{name:?} is not the name of a cookie");
        let fix = format!("use 1 to {NAME_MAX} letters, digits and hyphens, as `session`");
        check.error(FaultClass::InvalidCookie, &format!("{at}.cookie"), message, fix);
    }
    if part.query.as_ref().is_some_and(|name| name.is_empty() || name.len() > NAME_MAX) {
        let fix = format!("write the name of the parameter, 1 to {NAME_MAX} characters");
        check.error(FaultClass::InvalidQueryName, &format!("{at}.query"), "a query parameter needs a name", fix);
    }
    count == 1
}

fn is_same(a: &LimitKey, b: &LimitKey) -> bool {
    let of = |key: &LimitKey| LimitKey { header: key.header.as_deref().map(str::to_ascii_lowercase), ..key.clone() };
    of(a) == of(b)
}

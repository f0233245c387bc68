//! Balancing: a hash and the policy that uses it belong together, and a key is something that requests can have.

use std::time::Duration;

use super::traffic_policy::range;
use super::{Check, filter, locality, text};
use crate::expression::Expression;
use crate::fault::FaultClass;
use crate::resource::duration::GatewayDuration;
use crate::resource::load_balancer::{
    ExpressionSpec, HashCookieSpec, HashKeySpec, LoadBalancer, LoadReportsSpec, SessionSpec, SubsetFallback, SubsetSpec,
};
use crate::resource::number::{TableSize, is_prime};
use crate::snapshot::BalancePolicy;

const KEYS_MAX: usize = 8;
const COOKIE_NAME_MAX: usize = 128;
const COOKIE_PATH_MAX: usize = 256;
const QUERY_NAME_MAX: usize = 256;
const LABEL_MAX: usize = 128;
const SECURE_PREFIXES: [&str; 2] = ["__Host-", "__Secure-"];

/// Browsers keep no cookie for longer than 400 days.
const TTL_MAX: Duration = Duration::from_secs(400 * 86_400);

pub(super) fn check(check: &mut Check<'_, '_>, at: &str, balancer: &LoadBalancer) {
    let path = format!("{at}.hash");
    let hashes = matches!(balancer.policy, BalancePolicy::RingHash | BalancePolicy::Maglev);
    if hashes && balancer.hash.is_empty() {
        let message = "a policy that hashes needs something to hash";
        let fix = "add `hash`, for example `hash: [{header: x-user}]` or `hash: [{cookie: {name: session, ttl: 1h}}]`";
        check.error(FaultClass::MissingField, &format!("{at}.policy"), message, fix);
    }
    if !hashes && !balancer.hash.is_empty() {
        let fix = "write `policy: ringHash` or `policy: maglev`, or remove `hash`";
        check.error(FaultClass::UnusedField, &path, "the policy looks at no key", fix);
    }
    check.count(&path, "keys", balancer.hash.len(), 0, KEYS_MAX);
    for (i, key) in balancer.hash.iter().enumerate() {
        let at = format!("{path}[{i}]");
        hash_key(check, &at, key);
        if balancer.hash[..i].iter().any(|other| is_same(other, key)) {
            check.error(FaultClass::DuplicateName, &at, "the same key stands twice", "keep one of the two");
        }
        let is_made = |key: &HashKeySpec| key.cookie.as_ref().is_some_and(|cookie| cookie.ttl.is_some());
        if is_made(key) && balancer.hash[..i].iter().any(is_made) {
            let fix = "keep one `ttl`: one cookie is enough to find an endpoint again";
            check.error(FaultClass::TooMany, &format!("{at}.cookie.ttl"), "two cookies would be made", fix);
        }
    }
    if let Some(session) = &balancer.session {
        self::session(check, &format!("{at}.session"), session, &balancer.hash);
    }
    if let Some(slow_start) = &balancer.slow_start {
        let window = Some(slow_start.window);
        range(check, &format!("{at}.slowStart.window"), window, Duration::from_secs(1), Duration::from_secs(3600));
    }
    if let Some(locality) = &balancer.locality {
        locality::check(check, &format!("{at}.locality"), locality);
    }
    if let Some(subset) = &balancer.subset {
        self::subset(check, &format!("{at}.subset"), subset);
    }
    if let Some(size) = balancer.table_size {
        table_size(check, &format!("{at}.tableSize"), balancer.policy, size.get());
    }
    let heeds_reports = expression(check, at, balancer);
    if let Some(reports) = &balancer.load_reports {
        load_reports(check, &format!("{at}.loadReports"), heeds_reports, reports);
    }
}

/// Whether the policy looks at reports of load.
fn expression(check: &mut Check<'_, '_>, at: &str, balancer: &LoadBalancer) -> bool {
    let path = format!("{at}.expression");
    match (&balancer.expression, balancer.policy) {
        (None, BalancePolicy::Expression) => {
            let fix = "add `expression: {cost: 'latencyMs * occupancy'}`, or with another cost or `weight`";
            check.error(FaultClass::MissingField, &format!("{at}.policy"), "there is no expression to go by", fix);
        }
        (Some(_), policy) if policy != BalancePolicy::Expression => {
            let fix = "write `policy: expression`, or remove `expression`";
            check.error(FaultClass::UnusedField, &path, "the policy looks at no expression", fix);
        }
        _ => {}
    }
    let Some(ExpressionSpec { cost, among, weight }) = &balancer.expression else {
        return balancer.policy == BalancePolicy::WeightedRoundRobin;
    };
    match (cost, weight) {
        (None, None) => {
            check.error(FaultClass::MissingField, &path, "it says nothing", "write one of `cost` and `weight`");
        }
        (Some(_), Some(_)) => {
            let message = "an endpoint is chosen by one of the two";
            check.error(FaultClass::TooMany, &path, message, "keep `cost` or `weight`");
        }
        (None, Some(_)) if among.is_some() => {
            let message = "by weight nobody is compared with others";
            check.error(FaultClass::UnusedField, &format!("{path}.among"), message, "remove it, or write `cost`");
        }
        _ => {}
    }
    let mut heeds_reports = false;
    for (field, text) in [("cost", cost), ("weight", weight)] {
        let Some(text) = text else { continue };
        match Expression::read(text) {
            Ok(expression) => heeds_reports |= expression.heeds_reports(),
            Err(error) => {
                let message = format!("{} (column {} of the expression)", error.message, error.column);
                check.error(FaultClass::InvalidExpression, &format!("{path}.{field}"), message, error.fix);
                // What is wrong with it is said once.
                heeds_reports = true;
            }
        }
    }
    heeds_reports
}

fn load_reports(check: &mut Check<'_, '_>, at: &str, heeds_reports: bool, reports: &LoadReportsSpec) {
    if !heeds_reports {
        let fix = "write `policy: weightedRoundRobin`, or remove `loadReports`";
        check.error(FaultClass::UnusedField, at, "the policy looks at no reports", fix);
    }
    let (ms, s) = (Duration::from_millis, Duration::from_secs);
    range(check, &format!("{at}.blackout"), reports.blackout, Duration::ZERO, s(3600));
    range(check, &format!("{at}.expiration"), reports.expiration, s(1), s(86_400));
    range(check, &format!("{at}.update"), reports.update, ms(100), s(60));
}

fn subset(check: &mut Check<'_, '_>, at: &str, subset: &SubsetSpec) {
    let is_label =
        |text: &str| !text.is_empty() && text.len() <= LABEL_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    if !is_label(&subset.label) {
        let fix = format!("write the name of a label, 1 to {LABEL_MAX} characters, or `version`");
        let message = format!("{:?} is not the name of a label", subset.label);
        check.error(FaultClass::InvalidName, &format!("{at}.label"), message, fix);
    }
    let path = format!("{at}.header");
    text::header_name(check, &path, &subset.header);
    filter::reserved(check, &path, &subset.header.to_ascii_lowercase());
    match (subset.fallback, &subset.default) {
        (SubsetFallback::Default, None) => {
            let fix = "add `default`, the value of the label of those who take them";
            check.error(FaultClass::MissingField, &format!("{at}.fallback"), "it does not say to whom", fix);
        }
        (SubsetFallback::Any | SubsetFallback::None, Some(_)) => {
            let fix = "write `fallback: default`, or remove `default`";
            check.error(FaultClass::UnusedField, &format!("{at}.default"), "nobody falls back to it", fix);
        }
        _ => {}
    }
}

fn table_size(check: &mut Check<'_, '_>, at: &str, policy: BalancePolicy, size: u32) {
    if policy != BalancePolicy::Maglev {
        let fix = "write `policy: maglev`, or remove `tableSize`";
        check.error(FaultClass::UnusedField, at, "the policy has no table", fix);
    }
    if !is_prime(size) {
        // The greatest size that may be written is a prime.
        let next = (size..=TableSize::MAX).find(|size| is_prime(*size)).unwrap_or(TableSize::MAX);
        let message = format!("{size} is no prime, and only with one each instance can have every place");
        check.error(FaultClass::OutOfRange, at, message, format!("write {next}"));
    }
}

fn session(check: &mut Check<'_, '_>, at: &str, session: &SessionSpec, hash: &[HashKeySpec]) {
    match (&session.cookie, &session.header) {
        (None, None) => {
            let fix = "write `cookie: {name: session}` or `header: x-session`";
            check.error(FaultClass::MissingField, at, "a session that no request can name", fix);
        }
        (Some(_), Some(_)) => {
            check.error(FaultClass::TooMany, at, "a session is named in one place", "keep `cookie` or `header`");
        }
        _ => {}
    }
    if let Some(cookie) = &session.cookie {
        let at = format!("{at}.cookie");
        cookie_of(check, &at, &cookie.name, cookie.ttl, cookie.path.as_deref());
        made(check, &at, &cookie.name);
        if hash.iter().filter_map(|key| key.cookie.as_ref()).any(|other| other.name == cookie.name) {
            let message = "the same cookie is a key of `hash`";
            check.error(FaultClass::DuplicateName, &format!("{at}.name"), message, "give it another name");
        }
    }
    if let Some(name) = &session.header {
        let at = format!("{at}.header");
        text::header_name(check, &at, name);
        filter::reserved(check, &at, &name.to_ascii_lowercase());
    }
}

fn hash_key(check: &mut Check<'_, '_>, at: &str, key: &HashKeySpec) {
    let sources = [key.header.is_some(), key.cookie.is_some(), key.query.is_some(), key.source_address.is_some()];
    match sources.iter().filter(|is_there| **is_there).count() {
        1 => {}
        0 => {
            let fix = "write one of `header`, `cookie`, `query` and `sourceAddress: true`";
            check.error(FaultClass::MissingField, at, "a key without a source", fix);
        }
        _ => {
            check.error(FaultClass::TooMany, at, "one key of several sources", "write each as an entry of its own");
        }
    }
    if let Some(name) = &key.header {
        let path = format!("{at}.header");
        text::header_name(check, &path, name);
        filter::reserved(check, &path, &name.to_ascii_lowercase());
    }
    if let Some(cookie) = &key.cookie {
        hash_cookie(check, &format!("{at}.cookie"), cookie);
    }
    if let Some(name) = &key.query
        && (name.is_empty() || name.len() > QUERY_NAME_MAX)
    {
        let fix = format!("write the name of the parameter, 1 to {QUERY_NAME_MAX} characters");
        check.error(FaultClass::InvalidQueryName, &format!("{at}.query"), "a query parameter needs a name", fix);
    }
    if key.source_address == Some(false) {
        let fix = "write `sourceAddress: true`, or remove the entry";
        check.error(FaultClass::UnknownValue, &format!("{at}.sourceAddress"), "false is no source of a key", fix);
    }
}

fn hash_cookie(check: &mut Check<'_, '_>, at: &str, cookie: &HashCookieSpec) {
    cookie_of(check, at, &cookie.name, cookie.ttl, cookie.path.as_deref());
    if cookie.ttl.is_some() {
        made(check, at, &cookie.name);
    }
    if cookie.path.is_some() && cookie.ttl.is_none() {
        let fix = "add `ttl`, with which the proxy makes the cookie, or remove `path`";
        let message = "a path of a cookie that the proxy does not make";
        check.error(FaultClass::UnusedField, &format!("{at}.path"), message, fix);
    }
}

/// The name of a cookie that the proxy makes: browsers keep none of these names without attributes that it does not write.
fn made(check: &mut Check<'_, '_>, at: &str, name: &str) {
    let begins = |prefix: &&str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if let Some(prefix) = SECURE_PREFIXES.into_iter().find(begins) {
        let message = format!("browsers keep a cookie whose name begins with `{prefix}` only if it is `Secure`");
        let fix = "use another name: the cookie that the proxy makes is for HTTP too";
        check.error(FaultClass::InvalidCookie, &format!("{at}.name"), message, fix);
    }
}

fn cookie_of(check: &mut Check<'_, '_>, at: &str, name: &str, ttl: Option<GatewayDuration>, path: Option<&str>) {
    if !text::is_token(name) || name.len() > COOKIE_NAME_MAX {
        let message = format!("{name:?} is not the name of a cookie");
        let fix = format!("use 1 to {COOKIE_NAME_MAX} letters, digits and hyphens, as `session`");
        check.error(FaultClass::InvalidCookie, &format!("{at}.name"), message, fix);
    }
    if let Some(ttl) = ttl
        && !ttl.0.is_zero()
        && !(Duration::from_secs(1)..=TTL_MAX).contains(&ttl.0)
    {
        let message = format!("{ttl} is out of range");
        let fix = format!(
            "write a duration from 1s to {}, or `0s` for as long as the browser is open",
            GatewayDuration(TTL_MAX)
        );
        check.error(FaultClass::OutOfRange, &format!("{at}.ttl"), message, fix);
    }
    let Some(path) = path else { return };
    let at = format!("{at}.path");
    let ok = path.starts_with('/') && path.bytes().all(|b| (0x21..0x7f).contains(&b) && b != b';');
    if !ok || path.len() > COOKIE_PATH_MAX {
        let message = format!("{path:?} is not the path of a cookie");
        let fix = format!("begin it with `/`, without spaces and semicolons, up to {COOKIE_PATH_MAX} characters");
        check.error(FaultClass::InvalidCookie, &at, message, fix);
    }
}

fn is_same(a: &HashKeySpec, b: &HashKeySpec) -> bool {
    let header = |key: &HashKeySpec| key.header.as_deref().map(str::to_ascii_lowercase);
    let cookie = |key: &HashKeySpec| key.cookie.as_ref().map(|cookie| cookie.name.clone());
    let sources = |key: &HashKeySpec| (header(key), cookie(key), key.query.clone(), key.source_address);
    sources(a) == sources(b) && sources(a) != (None, None, None, None)
}

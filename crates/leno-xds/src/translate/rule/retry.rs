//! How long and how often a rule tries: `timeout` and `retry_policy`.
//!
//! What leno's proxies try again without being asked is said to Envoy, which asks first. Which methods are tried again stands
//! in `retriable_request_headers`, which Envoy looks at whatever went wrong: a POST loses the safe retries with the others.
//! A call of gRPC is one, and is let in where the policy names conditions of gRPC and none that is unsafe for a POST.

use std::time::Duration;

use leno_model::snapshot::{Hedge, KeyMatch, Name, Retry, RetryOn, Rule, SAFE, ValueMatch};

use super::Tries;
use crate::messages::core::{MatchPattern, RegexMatcher, StringMatcher};
use crate::messages::route::{
    Action as EnvoyAction, HeaderMatchSpecifier, HeaderMatcher, HedgePolicy, RateLimitedRetryBackOff, ResetHeader,
    RetryBackOff, RetryHostPredicate, RetryPolicy, Route,
};
use crate::messages::urls;
use crate::messages::wkt::Any;
use crate::translate::{Dialect, TranslateError, duration_of, unusable};

/// What Envoy's own default is where a route says nothing.
const ENVOY_TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy's shortest wait between two tries where a policy says nothing, and how much longer the longest is.
const ENVOY_BACKOFF: Duration = Duration::from_millis(25);
const ENVOY_BACKOFF_FACTOR: u32 = 10;
/// The longest wait that an answer may ask for where a policy does not say it.
const ENVOY_RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// What leno's proxies try again without being asked, in Envoy's words, and how often.
const SAFE_RETRIES: [&str; 3] = ["connect-failure", "refused-stream", "reset-before-request"];
const SAFE_RETRIES_MAX: u32 = 2;
/// How often Envoy chooses anew when it chose a host that was tried.
const HOST_SELECTIONS_MAX: i64 = 5;
const PREVIOUS_HOSTS: &str = "envoy.retry_host_predicates.previous_hosts";
const CODES: &str = "retriable-status-codes";
const RETRY_AFTER: &str = "Retry-After";

pub(super) fn retry_to(rule: &Rule, dialect: Dialect) -> Option<RetryPolicy> {
    let retry = rule.retry.as_ref();
    let mut policy = RetryPolicy { per_try_timeout: rule.try_timeout.map(Into::into), ..RetryPolicy::default() };
    if let Some(retry) = retry {
        say(retry, &mut policy);
    }
    match dialect {
        Dialect::Leno => policy.retry_on = retry.map(|retry| conditions(retry, &[])).unwrap_or_default(),
        Dialect::Envoy { .. } => {
            if let Some(hedge) = retry.and_then(|retry| retry.hedge.as_ref()) {
                policy.per_try_timeout = Some(hedge.delay.into());
                policy.num_retries = policy.num_retries.max(Some(hedge.attempts));
            }
            policy.retry_on = match retry {
                Some(retry) => conditions(retry, &SAFE_RETRIES),
                None => SAFE_RETRIES.join(","),
            };
            policy.num_retries.get_or_insert(SAFE_RETRIES_MAX);
            policy.retry_host_predicate = vec![RetryHostPredicate {
                name: PREVIOUS_HOSTS.to_owned(),
                typed_config: Some(Any { type_url: urls::PREVIOUS_HOSTS.to_owned(), value: Default::default() }),
            }];
            policy.host_selection_retry_max_attempts = HOST_SELECTIONS_MAX;
        }
        Dialect::Grpc => policy = grpc(retry?)?,
    }
    (policy != RetryPolicy::default()).then_some(policy)
}

/// Envoy hedges where a try takes too long, whatever the method: so a rule that hedges some methods stands twice for it, for
/// those and for the others.
pub(super) fn by_method(rule: &Rule) -> Vec<Rule> {
    let Some(hedge) = rule.retry.as_ref().and_then(|retry| retry.hedge.as_ref()) else { return vec![rule.clone()] };
    let unhedged = || {
        let retry = rule.retry.clone().map(|retry| Retry { hedge: None, ..retry });
        // Without a hedge and without a word on retries it is a rule that says nothing of them.
        Rule { retry: retry.filter(|retry| retry.attempts > 0), ..rule.clone() }
    };
    match &rule.when.method {
        Some(method) if hedge.methods.contains(method) => vec![rule.clone()],
        Some(_) => vec![unhedged()],
        None => {
            let mut hedged = rule.clone();
            let methods: Vec<String> = hedge.methods.iter().map(|method| literally(method)).collect();
            let value = ValueMatch::Regex(methods.join("|").into());
            hedged.when.headers.push(KeyMatch { name: ":method".into(), value });
            vec![hedged, unhedged()]
        }
    }
}

pub(super) fn hedge_to(rule: &Rule, dialect: Dialect) -> Option<HedgePolicy> {
    let is_hedged = rule.retry.as_ref().is_some_and(|retry| retry.hedge.is_some());
    let to_envoy = matches!(dialect, Dialect::Envoy { .. });
    (is_hedged && to_envoy).then_some(HedgePolicy { hedge_on_per_try_timeout: true })
}

pub(super) fn tries_from(route: &Route) -> Result<Tries, TranslateError> {
    let Some(EnvoyAction::Route(action)) = &route.action else {
        return Ok(Tries { request_timeout: None, try_timeout: None, retry: None });
    };
    let timeout = action.timeout.map(|timeout| duration_of("timeout", timeout)).transpose()?;
    let policy = action.retry_policy.as_ref();
    let per_try = policy.and_then(|policy| policy.per_try_timeout);
    let per_try = per_try.map(|timeout| duration_of("per_try_timeout", timeout)).transpose()?;
    let mut retry = policy.map(retry_from).transpose()?.flatten();
    let is_hedged = action.hedge_policy.is_some_and(|hedge| hedge.hedge_on_per_try_timeout);
    let delay = per_try.filter(|_| is_hedged && retry.is_some());
    if let (Some(retry), Some(delay)) = (&mut retry, delay) {
        // As anywhere: what is unsafe is not sent twice unless its method is named.
        let methods = retry.methods.clone().unwrap_or_else(|| SAFE.map(Into::into).to_vec());
        retry.hedge = Some(Hedge { delay, attempts: retry.attempts, methods });
    }
    Ok(Tries {
        request_timeout: Some(timeout.unwrap_or(ENVOY_TIMEOUT)).filter(|timeout| !timeout.is_zero()),
        try_timeout: per_try.filter(|_| delay.is_none()),
        retry,
    })
}

/// All but the conditions.
fn say(retry: &Retry, policy: &mut RetryPolicy) {
    policy.num_retries = Some(retry.attempts);
    policy.retriable_status_codes = retry.codes.iter().map(|code| u32::from(*code)).collect();
    policy.retry_back_off = backoff_to(retry);
    policy.retriable_request_headers = retry.methods.as_ref().map(|methods| heads(retry, methods)).unwrap_or_default();
    policy.rate_limited_retry_back_off = (!retry.retry_after_max.is_zero()).then(|| RateLimitedRetryBackOff {
        reset_headers: vec![ResetHeader { name: RETRY_AFTER.to_owned(), format: 0 }],
        max_interval: Some(retry.retry_after_max.into()),
    });
}

/// Names of conditions: `first`, those that are asked for, and the one that has statuses looked at.
fn conditions(retry: &Retry, first: &[&'static str]) -> String {
    let asked = retry.on.iter().map(|on| on.as_str()).filter(|name| !first.contains(name));
    let mut names: Vec<&str> = first.iter().copied().chain(asked).collect();
    if !retry.codes.is_empty() || names.is_empty() {
        names.push(CODES);
    }
    names.join(",")
}

fn backoff_to(retry: &Retry) -> Option<RetryBackOff> {
    let longest = retry.backoff_max.max(retry.backoff);
    (!retry.backoff.is_zero()).then(|| RetryBackOff {
        base_interval: Some(retry.backoff.into()),
        max_interval: (longest != retry.backoff.saturating_mul(ENVOY_BACKOFF_FACTOR)).then(|| longest.into()),
    })
}

/// The requests that are tried again, by what stands in their heads.
fn heads(retry: &Retry, methods: &[Name]) -> Vec<HeaderMatcher> {
    let regex = RegexMatcher { regex: methods.iter().map(|method| literally(method)).collect::<Vec<_>>().join("|") };
    let method = head(":method", MatchPattern::SafeRegex(regex));
    let calls = || head("content-type", MatchPattern::Prefix("application/grpc".to_owned()));
    let of_grpc = |on: &RetryOn| on.grpc_status().is_some();
    let safe = |on: &RetryOn| of_grpc(on) || matches!(on, RetryOn::ConnectFailure | RetryOn::RefusedStream);
    let let_in = retry.codes.is_empty() && retry.on.iter().any(of_grpc) && retry.on.iter().all(safe);
    std::iter::once(method).chain(let_in.then(calls)).collect()
}

/// A method as a regular expression; most characters of tokens mean something there.
fn literally(method: &str) -> String {
    method.chars().flat_map(|c| (!c.is_ascii_alphanumeric()).then_some('\\').into_iter().chain([c])).collect()
}

fn head(name: &str, pattern: MatchPattern) -> HeaderMatcher {
    let matcher = StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() };
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::String(matcher)),
        invert_match: false,
    }
}

/// gRPC tries again by status, and refuses a policy without tries or with words that it does not know.
fn grpc(retry: &Retry) -> Option<RetryPolicy> {
    let answered_503 = retry.codes.contains(&503) || retry.on.iter().any(|on| on.names_status(503));
    let posts = answered_503 && retry.repeats("POST", true);
    let on = |on: &RetryOn| on.grpc_status().is_some() || posts && *on == RetryOn::Unavailable;
    let mut names: Vec<&str> = retry.on.iter().filter(|condition| on(condition)).map(|on| on.as_str()).collect();
    if posts && !names.contains(&RetryOn::Unavailable.as_str()) {
        names.push(RetryOn::Unavailable.as_str());
    }
    (retry.attempts > 0 && !names.is_empty()).then(|| RetryPolicy {
        retry_on: names.join(","),
        num_retries: Some(retry.attempts),
        retry_back_off: backoff_to(retry),
        ..RetryPolicy::default()
    })
}

/// The retries that a policy asks for.
fn retry_from(policy: &RetryPolicy) -> Result<Option<Retry>, TranslateError> {
    let words = || policy.retry_on.split(',').map(str::trim);
    let on: Vec<RetryOn> = RetryOn::ALL.into_iter().filter(|on| words().any(|word| word == on.as_str())).collect();
    let by_code = words().any(|word| word == CODES);
    if on.is_empty() && !by_code {
        return Ok(None);
    }
    let listed = policy.retriable_status_codes.iter().filter(|_| by_code).map(|code| u16::try_from(*code));
    let codes = listed.collect::<Result<Vec<_>, _>>().map_err(|_| unusable("retry_policy", "has no status"))?;
    let time = |time: Option<_>| time.map(|time| duration_of("retry_back_off", time)).transpose();
    let backoff = time(policy.retry_back_off.and_then(|of| of.base_interval))?.unwrap_or(ENVOY_BACKOFF);
    let backoff_max = time(policy.retry_back_off.and_then(|of| of.max_interval))?;
    Ok(Some(Retry {
        attempts: policy.num_retries.unwrap_or(1),
        codes,
        on,
        methods: methods_from(&policy.retriable_request_headers),
        backoff,
        backoff_max: backoff_max.unwrap_or(backoff.saturating_mul(ENVOY_BACKOFF_FACTOR)),
        retry_after_max: retry_after_from(policy.rate_limited_retry_back_off.as_ref())?,
        hedge: None,
    }))
}

fn retry_after_from(backoff: Option<&RateLimitedRetryBackOff>) -> Result<Duration, TranslateError> {
    let is_ours = |header: &ResetHeader| header.name.eq_ignore_ascii_case(RETRY_AFTER) && header.format == 0;
    match backoff.filter(|backoff| backoff.reset_headers.iter().any(is_ours)) {
        None => Ok(Duration::ZERO),
        Some(RateLimitedRetryBackOff { max_interval: None, .. }) => Ok(ENVOY_RETRY_AFTER_MAX),
        Some(RateLimitedRetryBackOff { max_interval: Some(longest), .. }) => {
            duration_of("rate_limited_retry_back_off", *longest)
        }
    }
}

/// The methods that are listed, if any are.
fn methods_from(heads: &[HeaderMatcher]) -> Option<Vec<Name>> {
    let listed = |regex: &str| Some(regex.split('|').map(Into::into).collect());
    let method = heads.iter().find(|head| head.name == ":method" && !head.invert_match)?;
    match method.header_match_specifier.as_ref()? {
        HeaderMatchSpecifier::String(matcher) => match matcher.match_pattern.as_ref()? {
            MatchPattern::Exact(method) => listed(method),
            MatchPattern::SafeRegex(regex) => listed(&regex.regex),
            _ => None,
        },
        HeaderMatchSpecifier::Exact(method) => listed(method),
        HeaderMatchSpecifier::SafeRegex(regex) => listed(&regex.regex),
        HeaderMatchSpecifier::Present(_) => None,
    }
}

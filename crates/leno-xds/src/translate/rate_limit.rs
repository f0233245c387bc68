//! Limits on requests that a caller holds. Envoy has one token bucket for a route, which is that route's own: of a service's
//! limits a route gets the lowest of those that are for all requests alike. The rest stands in leno's note.

use std::time::Duration;

use leno_model::name::ServiceName;
use leno_model::snapshot::{Rate, RateForm, RateLimit, RateLimits, RateTell, WeightedCluster};

use super::{TranslateError, duration_of, unusable};
use crate::messages::core::{DenominatorType, FractionalPercent, RuntimeFractionalPercent};
use crate::messages::rate_limit::{LocalRateLimit, TokenBucket, XRateLimitHeaders};
use crate::messages::route::Route;
use crate::messages::urls;
use crate::messages::wkt::Any;

/// The filter of limits, and the key of its configuration among a route's.
pub(super) const FILTER: &str = "envoy.filters.http.local_ratelimit";
/// Envoy refuses to fill a bucket more often.
const FILL_MIN: Duration = Duration::from_millis(50);

/// Where the filter stands; what it does stands with routes.
pub(super) fn place() -> Any {
    let nothing = LocalRateLimit { stat_prefix: "leno".to_owned(), ..LocalRateLimit::default() };
    Any::pack(urls::LOCAL_RATE_LIMIT, &nothing)
}

/// Says it in a route, where all its destinations have the same limits.
pub(super) fn write(clusters: &[WeightedCluster], route: &mut Route) {
    let Some(first) = clusters.first().map(|cluster| &cluster.rate_limits) else { return };
    if clusters.iter().any(|cluster| cluster.rate_limits != *first) {
        return;
    }
    let plain = first.limits.iter().filter_map(|limit| bucket(limit).map(|bucket| (limit, bucket)));
    let per_second = |rate: Rate| f64::from(rate.requests) / rate.per.as_secs_f64();
    let lowest = plain.min_by(|(_, (a, _)), (_, (b, _))| per_second(*a).total_cmp(&per_second(*b)));
    let Some((limit, (rate, burst))) = lowest else { return };
    let times = if rate.per < FILL_MIN { FILL_MIN.as_nanos().div_ceil(rate.per.as_nanos().max(1)) as u32 } else { 1 };
    let headers = match limit.tell {
        RateTell::XRateLimit => XRateLimitHeaders::DraftVersion03,
        RateTell::RateLimit | RateTell::Nothing => XRateLimitHeaders::Off,
    };
    let message = LocalRateLimit {
        stat_prefix: format!("{}/{}", first.service, limit.name),
        token_bucket: Some(TokenBucket {
            max_tokens: burst,
            tokens_per_fill: Some(rate.requests.saturating_mul(times)),
            fill_interval: Some((rate.per * times).into()),
        }),
        filter_enabled: Some(always()),
        filter_enforced: Some(always()),
        enable_x_ratelimit_headers: headers.into(),
        rate_limited_as_resource_exhausted: true,
    };
    route.typed_per_filter_config.insert(FILTER.to_owned(), Any::pack(urls::LOCAL_RATE_LIMIT, &message));
}

/// What a route says to whoever does not read notes.
pub(super) fn read(route: &Route, own: &str) -> Result<RateLimits, TranslateError> {
    let Some(any) = route.typed_per_filter_config.get(FILTER) else { return Ok(RateLimits::default()) };
    let Some(message) = any.unpack::<LocalRateLimit>(urls::LOCAL_RATE_LIMIT) else { return Ok(RateLimits::default()) };
    let message = message?;
    let at = |what: &str| format!("typed_per_filter_config[{FILTER}].{what}");
    // A share of those that are limited is none or all here; absent it is none.
    let holds = |share: &Option<RuntimeFractionalPercent>| {
        share.as_ref().and_then(|share| share.default_value).is_some_and(|share| share.numerator > 0)
    };
    let (true, Some(bucket)) =
        (holds(&message.filter_enabled) && holds(&message.filter_enforced), message.token_bucket)
    else {
        return Ok(RateLimits::default());
    };
    let interval = bucket.fill_interval.ok_or_else(|| unusable(at("token_bucket.fill_interval"), "is missing"))?;
    let per = duration_of(&at("token_bucket.fill_interval"), interval)?;
    let requests = bucket.tokens_per_fill.unwrap_or(1);
    if per < FILL_MIN {
        return Err(unusable(at("token_bucket.fill_interval"), format!("is shorter than {FILL_MIN:?}")));
    }
    if bucket.max_tokens == 0 || requests == 0 {
        return Err(unusable(at("token_bucket"), "lets nothing through"));
    }
    let (service, name) = identity(&message.stat_prefix, own);
    let limit = RateLimit {
        name: name.into(),
        when: Vec::new(),
        key: Vec::new(),
        keys: 0,
        form: RateForm::Bucket { rate: Rate { requests, per }, burst: bucket.max_tokens, warm_up: None },
        shared: None,
        tell: match XRateLimitHeaders::try_from(message.enable_x_ratelimit_headers) {
            Ok(XRateLimitHeaders::DraftVersion03) => RateTell::XRateLimit,
            Ok(XRateLimitHeaders::Off) | Err(_) => RateTell::Nothing,
        },
    };
    Ok(RateLimits { service, limits: vec![limit] })
}

/// Service and name of a limit. Where the prefix is not one of ours, it is the route's `own`, as it is to Envoy: many routes
/// may have one prefix.
fn identity<'m>(prefix: &'m str, own: &str) -> (String, &'m str) {
    match prefix.rsplit_once('/').filter(|(service, _)| service.parse::<ServiceName>().is_ok()) {
        Some((service, name)) => (service.to_owned(), name),
        None => (format!("xds/{own}"), prefix),
    }
}

/// The bucket of a limit that is one, for all requests alike.
fn bucket(limit: &RateLimit) -> Option<(Rate, u32)> {
    match limit.form {
        // What proxies count together no Envoy can hold alone.
        RateForm::Bucket { rate, burst, warm_up: None }
            if limit.key.is_empty() && limit.when.is_empty() && limit.shared.is_none() =>
        {
            (rate.requests > 0 && burst > 0 && !rate.per.is_zero()).then_some((rate, burst))
        }
        _ => None,
    }
}

pub(super) fn always() -> RuntimeFractionalPercent {
    let all = FractionalPercent { numerator: 100, denominator: DenominatorType::Hundred.into() };
    RuntimeFractionalPercent { default_value: Some(all) }
}

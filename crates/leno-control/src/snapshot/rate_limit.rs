//! How many requests a service takes, as a policy says it, with defaults: what the proxies beside its instances hold, and
//! what its callers do.

use leno_model::name::ServiceName;
use leno_model::resource::duration::GatewayDuration;
use leno_model::resource::rate_limit::{
    self as written, LimitAt, LimitFallback, LimitHeaders, LimitKey, LimitThreshold, QuotaPeriod, SharedLimit,
};
use leno_model::resource::traffic_policy::TrafficPolicySpec;
use leno_model::snapshot::{
    KeySource, Listener, Period, Rate, RateFallback, RateForm, RateLimit, RateLimits, RateShared, RateTell, WarmUp,
};

use super::{View, route};

const KEYS: u32 = 16_384;

/// What the proxy beside an instance of a service holds; nothing where nothing is limited.
pub(super) fn inbound(view: &View<'_>, name: &str, service: &ServiceName) -> Option<Listener> {
    let policy = view.policy_of(service);
    let (rate_limits, overload) = (policy.rate_limits_at_service.of(service), policy.overload);
    let is_some = !rate_limits.is_none() || overload.shedding.is_some();
    is_some.then(|| Listener { service: Some(service.clone()), rate_limits, overload, ..Listener::named(name) })
}

/// Limits of a policy that are held in one place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Held(Vec<RateLimit>);

// === impl Held ===

impl Held {
    pub(super) fn at(spec: Option<&TrafficPolicySpec>, at: LimitAt) -> Self {
        let limits = spec.into_iter().flat_map(|spec| &spec.rate_limits);
        Self(limits.filter(|limit| limit.at == at).filter_map(limit).collect())
    }

    /// Of a service that the policy is for.
    pub(super) fn of(self, service: &ServiceName) -> RateLimits {
        match self.0.is_empty() {
            true => RateLimits::default(),
            false => RateLimits { service: service.to_string(), limits: self.0 },
        }
    }
}

/// None of what validation refuses.
fn limit(limit: &written::RateLimit) -> Option<RateLimit> {
    let key: Vec<KeySource> = limit.key.iter().filter_map(key_source).collect();
    let keys = if key.is_empty() { 0 } else { limit.keys.map_or(KEYS, |keys| keys.get()) };
    Some(RateLimit {
        name: limit.name.as_str().into(),
        when: limit.matches.iter().map(route::http_match).collect(),
        key,
        keys,
        form: form(limit)?,
        shared: limit.shared.as_ref().map(shared),
        tell: match limit.headers {
            LimitHeaders::None => RateTell::Nothing,
            LimitHeaders::RateLimit => RateTell::RateLimit,
            LimitHeaders::XRateLimit => RateTell::XRateLimit,
        },
    })
}

fn form(limit: &written::RateLimit) -> Option<RateForm> {
    let rate = |requests: u32, per: GatewayDuration| Rate { requests, per: per.0 };
    Some(match limit {
        written::RateLimit { limit: Some(bucket), .. } => RateForm::Bucket {
            rate: rate(bucket.requests.get(), bucket.per),
            burst: limit.burst(bucket),
            warm_up: bucket.warm_up.as_ref().map(warm_up),
        },
        written::RateLimit { window: Some(window), .. } => RateForm::Window(rate(window.requests.get(), window.per)),
        written::RateLimit { queue: Some(queue), .. } => RateForm::Queue {
            rate: rate(queue.requests.get(), queue.per),
            timeout: queue.timeout(),
            warm_up: queue.warm_up.as_ref().map(warm_up),
        },
        written::RateLimit { concurrency: Some(open), .. } => RateForm::Concurrency(open.requests.get()),
        written::RateLimit { quota: Some(quota), .. } => RateForm::Quota {
            requests: quota.requests.get(),
            per: match quota.per {
                QuotaPeriod::Day => Period::Day,
                QuotaPeriod::Month => Period::Month,
            },
        },
        _ => return None,
    })
}

fn shared(written: &SharedLimit) -> RateShared {
    RateShared {
        per_proxy: written.threshold == LimitThreshold::PerProxy,
        fallback: match written.fallback {
            LimitFallback::Share => RateFallback::Share,
            LimitFallback::Local => RateFallback::Local,
            LimitFallback::Allow => RateFallback::Allow,
            LimitFallback::Deny => RateFallback::Deny,
        },
    }
}

fn warm_up(written: &written::WarmUp) -> WarmUp {
    WarmUp { period: written.period.0, cold_factor: written.cold_factor() }
}

fn key_source(written: &LimitKey) -> Option<KeySource> {
    Some(match written {
        LimitKey { caller: Some(true), .. } => KeySource::Caller,
        LimitKey { header: Some(name), .. } => KeySource::Header(name.to_ascii_lowercase().into()),
        LimitKey { cookie: Some(name), .. } => KeySource::Cookie(name.as_str().into()),
        LimitKey { query: Some(name), .. } => KeySource::Query(name.as_str().into()),
        LimitKey { path: Some(true), .. } => KeySource::Path,
        LimitKey { source_address: Some(true), .. } => KeySource::SourceAddress,
        _ => return None,
    })
}

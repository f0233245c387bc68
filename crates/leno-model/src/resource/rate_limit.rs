//! Part of a TrafficPolicy: how many requests a service takes in a time, and of whom.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::GatewayDuration;
use super::http_route::HttpMatch;
use super::number::{ColdFactor, Count, Keys, QuotaCount, WindowCount};

/// A limit on requests, which each proxy that holds it counts for itself, unless it is `shared`. It says how it counts in one of `limit`,
/// `window`, `queue`, `concurrency` and `quota`. What is over it is answered with 429, the reason `rate_limited` and `retry-after`
/// in seconds; a call of gRPC with `RESOURCE_EXHAUSTED`, which clients do not repeat by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RateLimit {
    /// Its name in metrics, at the admin listener and in answers, a DNS label; unique in the policy. One that keeps its name
    /// and its numbers keeps its state when the policy changes.
    pub name: String,
    /// Who holds it. Default `service`.
    #[serde(default)]
    pub at: LimitAt,
    /// For which requests it is, any one of these. Default: every request. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// What tells requests apart that are counted apart: 1 to 4 entries, put together. A request that has no value there is
    /// counted with all others that have none. Only for `limit` and `queue`. Default: all are counted together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<LimitKey>,
    /// How many keys are told apart at once, 64 to 1,048,576, rounded up to a power of two; each takes 16 bytes, from the
    /// start. A key that has been idle long enough to have all its requests back makes room. Where no key is idle, one that
    /// comes anew takes over the count of the one that has used the least: nobody gets more than the limit, whoever sends how
    /// many keys, and somebody new may get less. Default 16,384, which is 256 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<Keys>,
    /// So many in a time, with bursts: a token bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<TokenBucket>,
    /// Never more than so many in any stretch of time of that length: a sliding window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<SlidingWindow>,
    /// One after the other at equal distances; those that come too early wait for their turn: a leaky bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<LeakyQueue>,
    /// So many open at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// So many in a day or a month, of all proxies together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// All proxies that hold it count together: the server allots to each what it may let through, by what it is asked for,
    /// and anew every tenth of a second. Only for a `limit` of one request a second or more, without `key` and `warmUp`.
    /// Default: each counts for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedLimit>,
    /// In which fields answers, good ones and refusals, say what is left. Default `none`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub headers: LimitHeaders,
}

/// Who holds a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LimitAt {
    /// The proxy beside each instance of the service, for what comes to that instance, whoever calls. An instance without a
    /// proxy is not protected by it.
    #[default]
    Service,
    /// The proxy of each caller, gateways too, for what it sends to the service, before it is sent.
    Caller,
}

/// A part of a limit's key: one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LimitKey {
    /// The service that calls, as its proxy says. Until proxies have identities, whoever reaches an inbound port directly can
    /// say what it likes. Only for limits `at: service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<bool>,
    /// The value of a header; of all its values, where it stands more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The value of a cookie; the first of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<String>,
    /// The value of a parameter of the query; the first of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The path without its query; of gRPC, service and method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<bool>,
    /// The address that calls, without its port: at a gateway the client's, of IPv6 its first 64 bits, which is what one
    /// client has; beside an instance the machine of the calling proxy; beside a caller that caller's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<bool>,
}

/// `requests` in each `per`, and no more than `burst` at once: in any stretch of time at most `burst` and what comes back in
/// it. Envoy's `local_ratelimit`, Bucket4j's bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TokenBucket {
    /// How many come back in `per`, 1 to 1,000,000.
    pub requests: Count,
    /// The time, 1ms to 24h.
    pub per: GatewayDuration,
    /// How many may come at once after a pause, 1 to 1,000,000. Default: `requests`; of a shared limit a twentieth of it, 1 at
    /// least, so that in no stretch of time as long as `per` a tenth too many pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Count>,
    /// Takes less while it is cold. Default: it does not. Not together with `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<WarmUp>,
}

/// Never more than `requests` in any stretch of time as long as `per`, wherever it begins. Takes 8 bytes for each of
/// `requests`. Resilience4j's and Sentinel's windows, without their edges.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SlidingWindow {
    /// How many, 1 to 100,000.
    pub requests: WindowCount,
    /// In which time, 1ms to 24h.
    pub per: GatewayDuration,
}

/// One request each `per` divided by `requests`; who comes earlier waits, in order, and who would wait for longer than
/// `timeout` is refused at once. So `timeout` bounds how many wait. Sentinel's `RateLimiter` behaviour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LeakyQueue {
    /// How many in `per`, 1 to 1,000,000.
    pub requests: Count,
    /// The time, 1ms to 24h.
    pub per: GatewayDuration,
    /// How long one waits at most, 1ms to 1m, and never longer than its own time. Where it is shorter than the distance of two
    /// turns, who comes so much before the next turn waits, and who comes earlier is refused. Default 500ms, as with Sentinel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GatewayDuration>,
    /// Lets fewer through while it is cold. Default: it does not. Not together with `key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up: Option<WarmUp>,
}

/// A limit that begins low and rises while it is used, and is low again after a pause, so that caches and pools fill first:
/// Sentinel's `WarmUp` behaviour, Guava's `SmoothWarmingUp`. It is cold when the proxy starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WarmUp {
    /// How long it takes under full use until the whole limit is open, 1s to 1h.
    pub period: GatewayDuration,
    /// How many times fewer it takes when it is cold, 2 to 100. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_factor: Option<ColdFactor>,
}

/// So many requests open at once; one is open until its answer is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Concurrency {
    /// How many, 1 to 1,000,000.
    pub requests: Count,
}

/// So many requests in a day or a month by UTC, of all proxies that hold it together. The server counts, on its disk: a
/// proxy has some at hand, for what comes to it in two seconds and a hundredth of the quota or ten at most, which are counted
/// before it gets them. So never more pass than `requests`, whoever is started anew, and what a proxy has at hand when it ends is
/// lost. Without a server it lets through what it has at hand. Who is refused hears in `retry-after` when the next period
/// begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Quota {
    /// How many, 1 to 1,000,000,000.
    pub requests: QuotaCount,
    /// In which time.
    pub per: QuotaPeriod,
}

/// How long a quota lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum QuotaPeriod {
    /// From midnight to midnight, UTC.
    Day,
    /// From the first of a month to that of the next, UTC.
    Month,
}

/// How proxies count together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SharedLimit {
    /// Of what `requests` and `burst` are. Default `global`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub threshold: LimitThreshold,
    /// What a proxy does from a second after it has lost the server until it has found one again. Default `share`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fallback: LimitFallback,
}

/// Of what the numbers of a shared limit are: Sentinel's `thresholdType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LimitThreshold {
    /// Of all proxies together.
    #[default]
    Global,
    /// Of each proxy: together they have as many times more as there are proxies, and one gets what another does not need.
    PerProxy,
}

/// What a proxy does with a shared limit while no server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LimitFallback {
    /// It holds its part: the limit divided by the proxies that the server last knew; the whole where it knows of none.
    #[default]
    Share,
    /// It holds the whole limit by itself, as Sentinel does with `fallbackToLocalWhenFail`.
    Local,
    /// It lets everything through.
    Allow,
    /// It lets nothing through.
    Deny,
}

/// In which fields answers say what is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LimitHeaders {
    /// In none.
    #[default]
    None,
    /// `RateLimit-Policy` and `RateLimit`, as draft-ietf-httpapi-ratelimit-headers-10 has them; one item for each limit.
    RateLimit,
    /// `x-ratelimit-limit`, `-remaining` and `-reset`, as Envoy has them (draft 3), of the limit that has the least left.
    XRateLimit,
}

// === impl LeakyQueue ===

impl LeakyQueue {
    /// How long one waits at most where nothing is written.
    pub const TIMEOUT: Duration = Duration::from_millis(500);

    /// How long one waits at most.
    pub fn timeout(&self) -> Duration {
        self.timeout.map_or(Self::TIMEOUT, |timeout| timeout.0)
    }
}

// === impl WarmUp ===

impl WarmUp {
    /// How many times fewer it takes when it is cold, where nothing is written.
    pub const COLD_FACTOR: u32 = 3;

    /// How many times fewer it takes when it is cold.
    pub fn cold_factor(&self) -> u32 {
        self.cold_factor.map_or(Self::COLD_FACTOR, ColdFactor::get)
    }
}

// === impl RateLimit ===

impl RateLimit {
    /// How many may come at once after a pause, of a token bucket.
    pub fn burst(&self, bucket: &TokenBucket) -> u32 {
        let requests = bucket.requests.get();
        let default = if self.shared.is_some() { (requests / 20).max(1) } else { requests };
        bucket.burst.map_or(default, Count::get)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

//! Parts of a TrafficPolicy that say what matters most when there is more to do than can be done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::GatewayDuration;
use super::http_route::HttpMatch;
use super::number::{Count, Share, Times, Volume};

/// How much a request matters; what matters least is shed first. The words are those of Google's criticality, and stand so in
/// the field `x-request-priority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    /// Nothing matters more: what people pay for. It waits for room where the others are refused.
    CriticalPlus,
    /// As any request of which nothing is said.
    #[default]
    Critical,
    /// Nobody is hurt when it fails for minutes: it is asked again.
    SheddablePlus,
    /// Nobody is hurt when it fails for an hour.
    Sheddable,
}

/// Which requests have a priority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PriorityRule {
    /// The priority.
    pub priority: Priority,
    /// Which requests, any one of these. Default: every request. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
}

/// What a caller's proxy does not even send, because the service would refuse it or fail: Google's adaptive throttling, Envoy's
/// `admission_control`. As long as the service does one in `factor` of the requests of `window`, all are sent; where it does
/// fewer, as many are held back, by chance, that about `factor` times what it does is sent, and a fifth of them at least. What is held back is answered with
/// 503 and the reason `held_back`, a call of gRPC with `UNAVAILABLE`. A request is done unless it fails, as for `breaker`, or
/// is shed. Requests of each priority are counted for themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Admission {
    /// How many requests are sent for each one that is done, in percent, 100 to 1,000. Default 200, as with Google.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<Times>,
    /// The time whose requests count, 1s to 10m. Default 2m, as with Google.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<GatewayDuration>,
    /// The requests in a window below which nothing is held back, 1 to 10,000. Default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<Volume>,
}

/// How the proxy beside each instance sheds what the instance cannot do. It finds out by itself how many requests may be open
/// at once, as Envoy's `adaptive_concurrency` and Netflix's `concurrency-limits` do: as many as are answered in little more
/// than the time that one needs when none waits. What is beyond that is answered with 503, the reason `overloaded` and
/// `retry-after: 1`, a call of gRPC with `RESOURCE_EXHAUSTED` and a pushback, lowest priority first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Overload {
    /// How many may be open at once in any case, 1 to 1,000,000. Default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<Count>,
    /// How many may be at most, 1 to 1,000,000. Default 1,000, as with Envoy, or `minRequests` where that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<Count>,
    /// How much longer than the shortest time an answer may take before fewer are let in, in percent, 1 to 100. Default 25,
    /// as with Envoy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Share>,
    /// How long a request waits for room before it is shed, 1ms to 1s, and never longer than its own time; one of the highest
    /// priority waits up to a second where that is more. Default 5ms, CoDel's target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<GatewayDuration>,
}

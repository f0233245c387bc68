//! Parts of a TrafficPolicy that keep trouble from spreading: how much of a destination is used at once, when an
//! instance is left out for a while, and when the whole destination is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::GatewayDuration;
use super::number::{Count, Pending, Probes, QueueSize, Run, Share, Volume};
use crate::snapshot::ForcedState;

/// How much of a service (of each of its ports and versions) one proxy uses at once. What is over a limit is answered at
/// once with 503 and the reason `request_overflow`, a call of gRPC with `UNAVAILABLE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Limits {
    /// Requests that are open at once, 1 to 1,000,000; one is open until its answer is complete, its retries included.
    /// Default: without limit. Envoy's `max_requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Count>,
    /// Requests that wait, first come, first served, while `requests` are open. Default: none waits. Only leno's proxies
    /// have it; others refuse at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// Retries that are open at once, 1 to 1,000,000, beside what the budget allows. Default: without limit. Envoy's
    /// `max_retries`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Count>,
    /// Connections that are open at once, busy or kept for the next request, to all instances, 1 to 1,000,000; a byte stream
    /// is one, and is refused where there is none left. Default: without limit. Envoy's `max_connections`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Count>,
    /// Requests that wait for one of the `connections`, each no longer than `connectTimeout` and its own time, 0 to 10,000;
    /// what finds no place is refused. Default 1,024 where `connections` are limited. Envoy's `max_pending_requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Pending>,
}

/// Requests that wait for others to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Queue {
    /// How many wait at most, 1 to 10,000.
    pub size: QueueSize,
    /// How long one waits at most, 1ms to 1m, and never longer than its own time; then it is answered with 503 and the
    /// reason `queue_timeout`. Default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GatewayDuration>,
}

/// When an instance gets no requests for a while because of how it answered, and how it comes back: its time over, it gets
/// one request a second until one is answered well. What is written of `consecutiveErrors`, `consecutiveGatewayErrors`,
/// `consecutiveLocalErrors`, `failureRatio` and `slowRatio` counts, each for itself; where nothing is, it is
/// `consecutiveErrors: 5`. A failure is 5xx, no answer, or a status of gRPC that says the same: `UNKNOWN`,
/// `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`. Envoy's `outlier_detection`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Ejection {
    /// After so many failures in a row, 1 to 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_errors: Option<Run>,
    /// After so many failures in a row that are 502, 503, 504, `UNAVAILABLE`, `DEADLINE_EXCEEDED` or no answer, 1 to 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_gateway_errors: Option<Run>,
    /// After so many failures in a row in which no answer came (no connection, a reset, a timeout), 1 to 1,000. Those count
    /// for no other run then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_local_errors: Option<Run>,
    /// When this percentage of the answers of a window failed, 1 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<Share>,
    /// When this percentage of the answers of a window took `slowAfter` or longer, 1 to 100. Only leno's proxies have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_ratio: Option<Share>,
    /// From when on an answer is slow, to its head, 1ms to 10m. Default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_after: Option<GatewayDuration>,
    /// The time of which ratios are taken, 1s to 1h; each that passes without an ejection makes the next one shorter by
    /// `baseTime`. Default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<GatewayDuration>,
    /// The answers in a window that a ratio needs, 1 to 10,000. Default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<Volume>,
    /// How long the first ejection lasts, and how much longer each further one is, 1s to 1h. Default 30s, or
    /// `maxTime` where that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_time: Option<GatewayDuration>,
    /// How long one lasts at most, 1s to 24h. Default 5m, or `baseTime` where that is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_time: Option<GatewayDuration>,
    /// The percentage of instances that are ejected at most, 1 to 100. One of several may always be; the last one is only
    /// with 100. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_share: Option<Share>,
}

/// When a service (each of its ports and versions) is not asked for a while: closed, then open, then half open, until probes
/// decide. While it is open, requests are answered at once with 503 and the reason `breaker_open`, calls of gRPC with
/// `UNAVAILABLE`. A request counts once, with all its retries: as a failure when it is answered with 5xx, not at all, or
/// with a status of gRPC that says the same (as for `ejection`). Only leno's proxies have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Breaker {
    /// Whose constants the fields below have as defaults. Default `hystrix`.
    #[serde(default)]
    pub preset: BreakerPreset,
    /// Opens when this percentage of the requests of a window failed, 1 to 100. Default 50 with `hystrix` and
    /// `resilience4j`, where nothing else is written that opens it; none with `sentinel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<Share>,
    /// Opens when this percentage of the requests of a window took `slowAfter` or longer, 1 to 100. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_ratio: Option<Share>,
    /// From when on a request is slow, to the head of its answer, 1ms to 10m. Default 1s; with `resilience4j` 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_after: Option<GatewayDuration>,
    /// Opens after so many failures in a row, 1 to 1,000. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_errors: Option<Run>,
    /// Opens after so many failures in a window, 1 to 10,000. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<Volume>,
    /// The time of which ratios and numbers are taken, 100ms to 1h. Default 10s; with `sentinel` 1s, with `resilience4j`
    /// 100s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<GatewayDuration>,
    /// The requests in a window that a ratio or number needs, 1 to 10,000. Default 20; with `sentinel` 5, with
    /// `resilience4j` 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<Volume>,
    /// How long it is open before probes are let through, 100ms to 1h. Default 5s; with `sentinel` 10s, with `resilience4j`
    /// 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_time: Option<GatewayDuration>,
    /// How many probes decide whether it closes or opens anew, 1 to 1,000. Default 1; with `resilience4j` 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// Holds it in one state, whatever answers come: `open` has all requests refused, also by Envoys and gRPC clients without
    /// a proxy; `closed` lets all through and counts none. What it had counted before is there when this is taken away.
    /// Hystrix's `forceOpen` and `forceClosed`. Default: it is held in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced: Option<ForcedState>,
}

/// Whose constants a breaker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BreakerPreset {
    /// Hystrix's: the window rolls in twenty steps, and ratios are reached at their value.
    #[default]
    Hystrix,
    /// Sentinel's: the window is emptied at its end, and ratios and numbers have to be exceeded.
    Sentinel,
    /// Resilience4j's, with a window of time.
    Resilience4j,
}

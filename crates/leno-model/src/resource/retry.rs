//! Parts of a TrafficPolicy that send a request more than once: what is tried again, and how much of that there may be.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::GatewayDuration;
use super::number::{Attempts, Hedges, PerSecond, Percent, RetryCode};
use crate::snapshot::RetryOn;

/// What is tried again. A request goes to an instance that it has not met first; its body is sent again as long as it has
/// 64 KiB or less. What an instance has not processed for certain is tried again up to twice without being asked for, where
/// the budget allows; `attempts` are beside those.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Retry {
    /// Kinds of failures that are tried again, by Envoy's names. Default none. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<RetryOn>,
    /// Statuses of answers that are tried again, 400 to 599; 504 is also a try that took too long. Default none. At most 32.
    /// Envoy's `retriable-status-codes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<RetryCode>,
    /// Methods whose requests are tried again after an answer, and where an instance may have seen something of them.
    /// Default `[GET, HEAD, OPTIONS, TRACE, PUT, DELETE]`, of which RFC 9110 says that twice is as once. What no instance
    /// has seen (`connect-failure`, `refused-stream`) and what conditions of gRPC name is tried again whatever its method.
    /// 1 to 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Tries after the first, 0 to 10: as many as the budget has left. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Attempts>,
    /// Time for one try until the head of its answer, where its route says nothing (`backendRequest`), 1ms to 10m. A try
    /// that takes longer is given up and answered with 504 unless it is tried again. Default: without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub try_timeout: Option<GatewayDuration>,
    /// The shortest wait between two tries, 0s to 10s. The longest is twice that, doubled with each try; between the two it
    /// is drawn. Default 25ms, or `maxBackoff` where that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<GatewayDuration>,
    /// The longest wait between two tries, `backoff` to 1m. Default 10 times `backoff`, and 250ms where that is `0s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<GatewayDuration>,
    /// The longest `Retry-After` (in seconds) of an answer that is waited for, 0s to 5m; half as much again may come to it by
    /// chance. An answer that asks for more is not tried again but passed on. `0s` looks at none. Default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retry_after: Option<GatewayDuration>,
}

/// How many of all requests to a service (to each of its ports and versions) one proxy sends again, of whatever kind: a
/// share, so that retries never multiply an outage. What is over it is not tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RetryBudget {
    /// Retries for each hundred requests of a window, 0 to 100. Default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// Retries in a second that are allowed in any case, so that a quiet caller may retry at all, 0 to 10,000. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_per_second: Option<PerSecond>,
    /// The time of which the share is taken, in whole seconds, 1s to 1m. Default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<GatewayDuration>,
}

/// Has a request that waits for its answer sent to another instance too; the first answer wins, and the others are given up.
/// That cuts off the slowest answers at the price of some requests more, which come out of the retry budget. An answer that
/// `retry` names (`on`, `codes`), or a try that fails, does not win while another try is under way, and has the next one
/// begin at once. Not hedged are requests whose body has not come whole or has more than 64 KiB, upgrades, and what a
/// session binds to an instance. Envoy's `hedge_on_per_try_timeout`, gRPC's `hedgingPolicy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Hedge {
    /// How long a try is waited for before the next one is sent beside it, 1ms to 1m. About the time that 95 of 100 answers
    /// need.
    pub delay: GatewayDuration,
    /// Tries beside the first, 1 to 4: as many as the budget has left and as there are instances. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Hedges>,
    /// Methods whose requests are hedged. Default `[GET, HEAD, OPTIONS, TRACE]`, which RFC 9110 calls safe: two instances may
    /// act upon a request. Calls of gRPC are POSTs. 1 to 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
}

// === impl Retry ===

impl Retry {
    /// Whether there is anything after which it has a request tried again.
    pub fn names_something(&self) -> bool {
        !self.on.is_empty() || !self.codes.is_empty()
    }
}

//! TrafficPolicy: how traffic to a service is balanced, bounded in time and retried.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::degradation::{Cache, Collapse, Fallback};
use super::duration::GatewayDuration;
use super::load_balancer::LoadBalancer;
use super::overload::{Admission, Overload, PriorityRule};
use super::rate_limit::RateLimit;
use super::reference::TargetRef;
use super::resilience::{Breaker, Ejection, Limits};
use super::retry::{Hedge, Retry, RetryBudget};

/// How traffic to a service is balanced, bounded in time and retried. What a route says for itself comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TrafficPolicySpec {
    /// The services it is for, in its own namespace. 1 to 16.
    #[serde(default)]
    pub target_refs: Vec<TargetRef>,
    /// How an endpoint is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
    /// Time for a connection to be made, 1ms to 10m. Default 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<GatewayDuration>,
    /// How long an unused connection is kept, and a byte stream or a session of datagrams may stand still, 1s to 24h.
    /// Default 1h, for datagrams 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<GatewayDuration>,
    /// Time for a whole request with all tries, where its route says nothing; `0s` is without limit. Default: without
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_timeout: Option<GatewayDuration>,
    /// What is tried again beyond what is always safe, where the route says nothing. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// When a request is sent to another instance too while it waits for its answer. Default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
    /// How much is tried again at most, whatever asks for it. Default: a fifth of the requests of 10s, and three in a second
    /// in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
    /// How much of the service one proxy uses at once. Default: without limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// When an instance gets no requests for a while. Default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejection: Option<Ejection>,
    /// When the service is not asked for a while. Default never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// How many requests the service takes in a time. All that are for a request must let it through. Those of open requests
    /// are asked first, then those with a `key`, then the others, each as they stand; what one has let through is counted
    /// there though another refuses it. Default: without limit. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rate_limits: Vec<RateLimit>,
    /// Which requests matter more than others, the first entry that is for a request. It is looked at where a request enters:
    /// at a gateway, which believes no client, and at a caller's proxy where the request comes without a priority. From there
    /// it travels in the field `x-request-priority`, to the application too, which passes it on with calls of its own as it
    /// does with trace fields. Default: all are `critical`. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<PriorityRule>,
    /// Whether callers hold requests back that the service would not do. Default: they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    /// Whether the proxy beside each instance sheds what the instance cannot do. Default: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overload: Option<Overload>,
    /// What callers hear where the service gives no answer that is any good. Default: that it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,
    /// Whether answers are kept and given again. Default: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// Whether requests that ask for the same at once share one. Default: they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapse: Option<Collapse>,
}

//! How an endpoint is chosen, as a TrafficPolicy says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::GatewayDuration;
use super::locality::LocalitySpec;
use super::number::{Aggression, Penalty, Percent, Share, TableSize};
use crate::snapshot::BalancePolicy;

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LoadBalancer {
    /// `peakEwma`, `leastRequest`, `bestAvailable`, `roundRobin`, `weightedRoundRobin`, `weightedResponseTime` or `random`; or, for requests of one key to meet one endpoint, `ringHash`,
    /// where an endpoint that goes moves no other keys than its own, or `maglev`, whose shares are more even; or
    /// `expression`, by one of your own. All honour weights, but `weightedRoundRobin` not those of endpoints that report
    /// their load. Default `peakEwma`.
    #[serde(default)]
    pub policy: BalancePolicy,
    /// What of a request is its key, of `ringHash` and `maglev`, which need it: 1 to 8 entries, put together in order. A
    /// request that has none of them goes to an endpoint at random. Of byte streams and datagrams only `sourceAddress`
    /// counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hash: Vec<HashKeySpec>,
    /// Binds the requests of a session to the endpoint that took the first of them, as long as that takes requests, whatever
    /// other endpoints come and go, and whatever the policy is, which chooses for the first. Default: nothing binds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionSpec>,
    /// Percentage of the instances that must be able to take requests. Where fewer are, because their probes fail or they
    /// were ejected, all of them get requests again: the few that are left would not stand the load of all, and what looks
    /// ill may be well. Instances that drain or have the weight 0 count nowhere. 0 is never: where no instance is able,
    /// requests are refused with `no_healthy_endpoint`. No more than 71 has an effect, because up to 28 of 100 may be out
    /// before it is asked (as with Envoy, whose default is 50). Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic_threshold: Option<Percent>,
    /// Gives instances that are new, and those whose probe passes again, a small share of requests first and the whole of
    /// it in the end. Instances that are there when a proxy first asks for the service have theirs at once. Default: all
    /// have theirs at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStartSpec>,
    /// Has requests stay near: instances of the caller's zone and region, or with a label of its own, come first, and others
    /// take what those cannot. So long as 72 of 100 of them can take requests they get all; with fewer, what is over goes on
    /// to the next. Default: where an instance is does not matter, so that all have the same load wherever their callers are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<LocalitySpec>,
    /// Places in the table of `maglev`: a prime, 101 to 655357. More places make shares more even, and take 2 bytes each.
    /// Default 65537.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_size: Option<TableSize>,
    /// Has a header of a request say which instances are for it: those with that value of a label. What binds a session comes
    /// before. Of byte streams and datagrams all instances are. Envoy's `lb_subset_config`; gRPC without a proxy has none of
    /// it. Default: all instances are for all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<SubsetSpec>,
    /// How what instances report of their load becomes weights, of `weightedRoundRobin`. Default: as its fields say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_reports: Option<LoadReportsSpec>,
    /// What an endpoint is chosen by, of `expression`, which needs it. Only leno's proxies have it: Envoy and gRPC without a
    /// proxy take least request for a cost, and round robin for a weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<ExpressionSpec>,
}

/// An expression of CEL that gives a number for each endpoint: one of `cost` and `weight`, up to 1024 characters and 100
/// operations. It knows of an endpoint its `weight`, `openRequests`, `occupancy` (those and one more, for its weight beside the
/// mean), `latencyMs`, what it reported (`reported.utilization`, `reported.requestsPerSecond`, `reported.errorsPerSecond`, and
/// `has(reported.utilization)`), `zone`, `region`, `version` and `labels.NAME`; of the caller `caller.zone`, `caller.region`,
/// `caller.version` and `caller.labels.NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExpressionSpec {
    /// What a request costs there: the least is chosen, found anew for each request. What is no number is dearer than
    /// everything else, and numbers below 0 are as cheap as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<String>,
    /// Among how many `cost` is the least. Default `two`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub among: Option<Among>,
    /// Its share of requests beside the others', in turn, found anew every second. What is no number, and what is not above 0,
    /// is no share; where one is infinite, the others have none; where nobody has one, all go by their weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<String>,
}

/// Among how many endpoints the best is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Among {
    /// Two that are drawn by weight: the second where it costs less by a fifth or more, else the first. They bring nearly all
    /// that more do, and no herd, as there is where all callers look at all at once and send to the same one.
    #[default]
    Two,
    /// All of them: for few endpoints and long requests, as a choice evaluates the expression for each.
    All,
}

/// How what instances report of their load becomes weights. An instance reports with its answers, in the field
/// `endpoint-load-metrics` or `endpoint-load-metrics-bin` of head or trailers (ORCA), how many requests it serves in a second
/// and how busy it is; its weight is the one divided by the other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LoadReportsSpec {
    /// An instance has to report for so long before its reports count, 0s to 1h; before, it has the mean of the others.
    /// Default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blackout: Option<GatewayDuration>,
    /// After so long without a report an instance counts as one that does not report, 1s to 24h. Default 3m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<GatewayDuration>,
    /// How often weights are found anew, 100ms to 1m. Default 1s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<GatewayDuration>,
    /// How much errors count, 0 to 100: an instance of whose requests all fail counts as this much busier, where 1 is all
    /// that it has. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_penalty: Option<Penalty>,
}

/// Which instances are for a request, by a label of theirs and a header of its own. At most 64 values of the label are told
/// apart, the first of them in the order of the alphabet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SubsetSpec {
    /// The label: an entry of the instance's metadata (`--label`), or `version` for its version.
    pub label: String,
    /// The header.
    pub header: String,
    /// Who takes a request that lacks the header, or whose value no instance has. Default `any`.
    #[serde(default)]
    pub fallback: SubsetFallback,
    /// The value of the label of those who do, with `fallback: default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
}

/// Who takes a request that no subset is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SubsetFallback {
    /// Any instance. Envoy's `ANY_ENDPOINT`.
    #[default]
    Any,
    /// Those with the value that is written in `default`. Envoy's `DEFAULT_SUBSET`.
    Default,
    /// Nobody: it is refused with 503 and the reason `no_healthy_endpoint`. Envoy's `NO_FALLBACK`.
    None,
}

/// How instances that are new come to their share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SlowStartSpec {
    /// How long it takes, 1s to 1h.
    pub window: GatewayDuration,
    /// How fast the share grows, 0.1 to 10: it is the part of the window that is over to the power of 1 / this. 1 is evenly;
    /// more is faster in the beginning, less is slower. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggression: Option<Aggression>,
    /// Percentage of its share that an instance begins with, 1 to 100. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_weight_share: Option<Share>,
}

/// Where requests name the endpoint of their session: one of `cookie` and `header`. What stands there is a number made from
/// the id of the instance, not its address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SessionSpec {
    /// In a cookie, which answers set when the endpoint is a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<SessionCookieSpec>,
    /// In a header of this name, which answers have when the endpoint is a new one, for clients to send back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

/// A cookie that names the endpoint of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct SessionCookieSpec {
    /// Its name.
    pub name: String,
    /// How long it lasts from when it was set: 1s to 9600h, or `0s` for as long as the browser is open. Default `0s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<GatewayDuration>,
    /// The path for which clients send it back. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A part of the key of a request: one of `header`, `cookie`, `query` and `sourceAddress`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HashKeySpec {
    /// The value of a header; of all its values, where it stands more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The value of a cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<HashCookieSpec>,
    /// The value of a parameter of the query; the first one of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The address of the caller, without its port: at a gateway the client's, beside a workload that workload's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<bool>,
    /// Whether the entries behind this one are left aside when the request has a key after this one. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
}

/// A cookie that is a part of the key of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HashCookieSpec {
    /// Its name.
    pub name: String,
    /// Where a request lacks it, the proxy makes one with a random value, chooses the endpoint by that value and gives it to
    /// the client for so long, `HttpOnly`: 1s to 9600h, or `0s` for as long as the browser is open. Default: nobody makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<GatewayDuration>,
    /// The path for which clients send back the cookie that was made. Default `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

//! Parts of a TrafficPolicy that answer where the service does not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::GatewayDuration;
use super::fault_policy::GrpcStatus;
use super::number::{Count, Kibibytes, Mebibytes, Port, RetryCode};
use super::reply::StaticReply;
use crate::snapshot::{FallbackOn, RetryOn};

/// What callers hear where the service gives no answer that is any good, after its retries. `service` is asked first; then
/// comes `lastGood`, then `reply`. At least one of the three. The request still counts as failed for
/// `breaker`, `ejection` and `admission`; the answer says in `x-leno-fallback` where it came from, the access log says what
/// had gone wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Fallback {
    /// After what. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Vec<FallbackOn>>,
    /// What `failed` is, by the words of `retry.on`; the end of the whole time of a request is a `reset`. Of a call of gRPC
    /// that is a status before any message. Default `[5xx, deadline-exceeded, internal, unavailable]`. At most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<Vec<RetryOn>>,
    /// Statuses of answers that are `failed` too, 400 to 599. Default none. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<RetryCode>,
    /// Another service, which is asked once, without retries, and whose own fallback is not used. A body is sent there as long
    /// as it has 64 KiB or less, or nobody was sent any of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<FallbackService>,
    /// What the service itself answered before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<LastGood>,
    /// This answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<StaticReply>,
    /// What a call of gRPC hears in place of `reply`, whose body is its message. Default `UNAVAILABLE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<GrpcStatus>,
}

/// The service that is asked instead, in the policy's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FallbackService {
    /// Its name: none of those that the policy is for.
    pub name: String,
    /// Its port, 1 to 65535. Default: its only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
}

/// What the service answered to the same request of GET before, with 200, each proxy by itself. Kept are answers that do not
/// forbid it (`no-store`, `private`, `no-cache`, `Set-Cookie`; to requests with `Authorization` those alone that say that they
/// are for all), within the limits of `cache`. Given to requests that have the same `Cookie` and the same values of what `Vary`
/// names, never where `must-revalidate` or `s-maxage` forbid it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LastGood {
    /// How long after it was no longer good it may be given, 1s to 24h; what does not say how long it is good never was.
    pub max_age: GatewayDuration,
}

/// Answers that proxies of callers keep and give again as long as they are good, by RFC 9111 and RFC 5861, each proxy by
/// itself. What does not say how long it is good is not kept. When it is full, what was not given for longest goes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Cache {
    /// How much is kept of the service in one proxy, in MiB, 1 to 4,096. Default 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_mib: Option<Mebibytes>,
    /// What is longer is not kept, in KiB, 1 to 65,536, and at most an eighth of `maxMib`. Default 1,024, or that eighth where
    /// it is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body_kib: Option<Kibibytes>,
    /// How many paths are kept at most, of each at most eight answers that vary by what requests have, 1 to 1,000,000. Default
    /// 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_entries: Option<Count>,
}

/// Has requests of GET and HEAD that ask for the same at once share one: the first is sent, the others wait for its answer. The
/// same have one caller's proxy, the same rule, host and path, the same `Authorization` and `Cookie`, `Accept`,
/// `Accept-Encoding` and `Accept-Language`, and of what the answer's `Vary` names. An answer that is for nobody else (`private`,
/// `no-store`, `no-cache`, `Set-Cookie`), is longer than `cache.maxBodyKib`, or does not come leaves each of those who waited
/// to ask for itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Collapse {
    /// How many wait for one answer at most, 1 to 1,000,000; those beyond ask for themselves. Default 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_waiting: Option<Count>,
    /// How long one waits at most before it asks for itself, 10ms to 1m. Default 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<GatewayDuration>,
}

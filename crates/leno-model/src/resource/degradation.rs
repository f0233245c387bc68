//! Parts of a TrafficPolicy that answer where the service does not.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault_policy::GrpcStatus;
use super::number::{Port, RetryCode};
use super::reply::StaticReply;
use crate::snapshot::{FallbackOn, RetryOn};

/// What callers hear where the service gives no answer that is any good, after its retries. `service` is asked first; where
/// that does not help either, `reply` is the answer. At least one of the two. The request still counts as failed for
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

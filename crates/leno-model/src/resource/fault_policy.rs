//! FaultPolicy: what goes wrong on purpose with requests to a service, so that it is seen how its callers stand it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration::GatewayDuration;
use super::http_route::HttpMatch;
use super::number::{AbortStatus, Count, KibPerSecond, Portion};
use super::reference::TargetRef;

/// What goes wrong on purpose with requests to a service: it is done by the proxy of each caller, gateways too, before
/// anything is sent to an instance, and counts against none. Byte streams and datagrams are left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FaultPolicySpec {
    /// The services it is for, in its own namespace. 1 to 16.
    #[serde(default)]
    pub target_refs: Vec<TargetRef>,
    /// What goes wrong, 1 to 16. The first whose `matches` hold for a request counts, and no other. Envoy's
    /// `envoy.filters.http.fault`.
    #[serde(default)]
    pub faults: Vec<InjectedFault>,
    /// Requests to a service that one proxy delays, and answers that it slows down, at once, 1 to 1,000,000. What comes beyond
    /// that is left alone. Default 1000. Envoy's `max_active_faults`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_active: Option<Count>,
}

/// What goes wrong with requests: at least one of `delay`, `abort` and `bandwidth`, each drawn for itself. What is delayed may
/// be aborted after that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct InjectedFault {
    /// Its name, for metrics and answers: a DNS label, once in the policy.
    pub name: String,
    /// The requests that it is for, any of these. Default every request. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpMatch>,
    /// Has requests wait before they are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<FaultDelay>,
    /// Answers requests in place of an instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<FaultAbort>,
    /// Has the bodies of answers come slowly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<FaultBandwidth>,
}

/// Has requests wait before they are sent. The wait is a part of their time: who has less gets 504 when that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FaultDelay {
    /// How long, 1ms to 10m.
    pub time: GatewayDuration,
    /// The percentage of requests, 0.0001 to 100. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Portion>,
}

/// Answers requests in place of an instance, with one of `status` and `grpcStatus`, the reason `fault_abort` and the flag
/// `FI`. Calls of gRPC hear the status of gRPC that says the same as `status`, other requests the status of HTTP that says the
/// same as `grpcStatus`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FaultAbort {
    /// A status of HTTP, 400 to 599.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<AbortStatus>,
    /// A status of gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<GrpcStatus>,
    /// The percentage of requests, 0.0001 to 100. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Portion>,
}

/// Has the bodies of answers come slowly, each for itself; upgraded connections are left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FaultBandwidth {
    /// How much of a body goes on in a second, in KiB, 1 to 1,048,576.
    pub kib_per_second: KibPerSecond,
    /// The percentage of requests, 0.0001 to 100. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Portion>,
}

/// How a call of gRPC failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u8)]
#[allow(missing_docs)] // As https://grpc.io/docs/guides/status-codes/ has them.
pub enum GrpcStatus {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

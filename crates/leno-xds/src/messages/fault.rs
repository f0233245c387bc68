//! `envoy.extensions.filters.http.fault.v3`, and what of `envoy.extensions.filters.common.fault.v3` it uses.

use super::core::{Empty, FractionalPercent};
use super::route::HeaderMatcher;
use super::wkt::Duration;

/// What goes wrong on purpose with the requests of a route, or where it says nothing the place of the filter.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpFault {
    #[prost(message, optional, tag = "1")]
    pub delay: Option<FaultDelay>,
    #[prost(message, optional, tag = "2")]
    pub abort: Option<FaultAbort>,
    #[prost(string, tag = "3")]
    pub upstream_cluster: String,
    #[prost(message, repeated, tag = "4")]
    pub headers: Vec<HeaderMatcher>,
    #[prost(string, repeated, tag = "5")]
    pub downstream_nodes: Vec<String>,
    #[prost(message, optional, tag = "6")]
    pub max_active_faults: Option<u32>,
    #[prost(message, optional, tag = "7")]
    pub response_rate_limit: Option<FaultRateLimit>,
}

/// A wait before a request is sent.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct FaultDelay {
    #[prost(oneof = "FaultDelaySpecifier", tags = "3, 5")]
    pub specifier: Option<FaultDelaySpecifier>,
    #[prost(message, optional, tag = "4")]
    pub percentage: Option<FractionalPercent>,
}

/// How long it is.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum FaultDelaySpecifier {
    #[prost(message, tag = "3")]
    FixedDelay(Duration),
    /// As the request says.
    #[prost(message, tag = "5")]
    HeaderDelay(Empty),
}

/// An answer in place of an endpoint's.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct FaultAbort {
    #[prost(oneof = "FaultAbortError", tags = "2, 4, 5")]
    pub error: Option<FaultAbortError>,
    #[prost(message, optional, tag = "3")]
    pub percentage: Option<FractionalPercent>,
}

/// Its status.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum FaultAbortError {
    #[prost(uint32, tag = "2")]
    HttpStatus(u32),
    /// As the request says.
    #[prost(message, tag = "4")]
    HeaderAbort(Empty),
    #[prost(uint32, tag = "5")]
    GrpcStatus(u32),
}

/// How slowly the body of an answer comes.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct FaultRateLimit {
    #[prost(oneof = "FaultRate", tags = "1, 3")]
    pub limit: Option<FaultRate>,
    #[prost(message, optional, tag = "2")]
    pub percentage: Option<FractionalPercent>,
}

/// By how much.
#[derive(Clone, Copy, PartialEq, prost::Oneof)]
pub enum FaultRate {
    #[prost(message, tag = "1")]
    Fixed(FixedLimit),
    /// As the request says.
    #[prost(message, tag = "3")]
    Header(Empty),
}

/// A number of KiB in a second.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct FixedLimit {
    #[prost(uint64, tag = "1")]
    pub limit_kbps: u64,
}

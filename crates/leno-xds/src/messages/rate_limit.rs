//! `envoy.extensions.filters.http.local_ratelimit.v3`.

use super::core::RuntimeFractionalPercent;
use super::wkt::Duration;

/// A token bucket for a route, or where it says nothing the place of the filter.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LocalRateLimit {
    #[prost(string, tag = "1")]
    pub stat_prefix: String,
    #[prost(message, optional, tag = "3")]
    pub token_bucket: Option<TokenBucket>,
    #[prost(message, optional, tag = "4")]
    pub filter_enabled: Option<RuntimeFractionalPercent>,
    #[prost(message, optional, tag = "5")]
    pub filter_enforced: Option<RuntimeFractionalPercent>,
    #[prost(enumeration = "XRateLimitHeaders", tag = "12")]
    pub enable_x_ratelimit_headers: i32,
    #[prost(bool, tag = "15")]
    pub rate_limited_as_resource_exhausted: bool,
}

/// `envoy.type.v3.TokenBucket`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct TokenBucket {
    #[prost(uint32, tag = "1")]
    pub max_tokens: u32,
    #[prost(message, optional, tag = "2")]
    pub tokens_per_fill: Option<u32>,
    #[prost(message, optional, tag = "3")]
    pub fill_interval: Option<Duration>,
}

/// Whether answers tell what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum XRateLimitHeaders {
    Off = 0,
    DraftVersion03 = 1,
}

//! `envoy.config.cluster.v3` and the upstream options in use.

use std::collections::BTreeMap;

use super::core::{ConfigSource, Empty, Metadata, Percent, RuntimeDouble, TypedExtensionConfig};
use super::wkt::{Any, Duration, Struct};

/// A cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Cluster {
    #[prost(string, tag = "1")]
    pub name: String,
    /// 3 is EDS.
    #[prost(oneof = "ClusterDiscoveryType", tags = "2")]
    pub cluster_discovery_type: Option<ClusterDiscoveryType>,
    #[prost(message, optional, tag = "3")]
    pub eds_cluster_config: Option<EdsClusterConfig>,
    #[prost(message, optional, tag = "4")]
    pub connect_timeout: Option<Duration>,
    #[prost(enumeration = "LbPolicy", tag = "6")]
    pub lb_policy: i32,
    #[prost(message, optional, tag = "10")]
    pub circuit_breakers: Option<CircuitBreakers>,
    #[prost(message, optional, tag = "19")]
    pub outlier_detection: Option<OutlierDetection>,
    #[prost(message, optional, tag = "22")]
    pub lb_subset_config: Option<LbSubsetConfig>,
    #[prost(message, optional, tag = "25")]
    pub metadata: Option<Metadata>,
    #[prost(message, optional, tag = "27")]
    pub common_lb_config: Option<CommonLbConfig>,
    #[prost(btree_map = "string, message", tag = "36")]
    pub typed_extension_protocol_options: BTreeMap<String, Any>,
    #[prost(oneof = "LbConfig", tags = "37, 52, 56")]
    pub lb_config: Option<LbConfig>,
    #[prost(message, optional, tag = "41")]
    pub load_balancing_policy: Option<LoadBalancingPolicy>,
}

/// Which endpoints are for a request, by what their metadata says under `envoy.lb`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LbSubsetConfig {
    #[prost(enumeration = "LbSubsetFallbackPolicy", tag = "1")]
    pub fallback_policy: i32,
    #[prost(message, optional, tag = "2")]
    pub default_subset: Option<Struct>,
    #[prost(message, repeated, tag = "3")]
    pub subset_selectors: Vec<LbSubsetSelector>,
}

/// What keys tell subsets apart.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LbSubsetSelector {
    #[prost(string, repeated, tag = "1")]
    pub keys: Vec<String>,
}

/// Who takes what no subset is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum LbSubsetFallbackPolicy {
    NoFallback = 0,
    AnyEndpoint = 1,
    DefaultSubset = 2,
}

/// Where a cluster's endpoints come from.
#[derive(Clone, Copy, PartialEq, Eq, prost::Oneof)]
pub enum ClusterDiscoveryType {
    #[prost(enumeration = "DiscoveryType", tag = "2")]
    Type(i32),
}

/// The sources of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum DiscoveryType {
    Static = 0,
    StrictDns = 1,
    LogicalDns = 2,
    Eds = 3,
    OriginalDst = 4,
}

/// The balancing policies that have a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum LbPolicy {
    RoundRobin = 0,
    LeastRequest = 1,
    RingHash = 2,
    Random = 3,
    Maglev = 5,
    ClusterProvided = 6,
    LoadBalancingPolicyConfig = 7,
}

/// Endpoints by EDS.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EdsClusterConfig {
    #[prost(message, optional, tag = "1")]
    pub eds_config: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    pub service_name: String,
}

/// How much of a cluster is used at once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CircuitBreakers {
    #[prost(message, repeated, tag = "1")]
    pub thresholds: Vec<Thresholds>,
}

/// Limits for one priority; absent ones are Envoy's defaults, of 1024 and of 3 retries.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Thresholds {
    /// 0 is the default priority.
    #[prost(int32, tag = "1")]
    pub priority: i32,
    #[prost(message, optional, tag = "2")]
    pub max_connections: Option<u32>,
    #[prost(message, optional, tag = "3")]
    pub max_pending_requests: Option<u32>,
    #[prost(message, optional, tag = "4")]
    pub max_requests: Option<u32>,
    #[prost(message, optional, tag = "5")]
    pub max_retries: Option<u32>,
    #[prost(message, optional, tag = "8")]
    pub retry_budget: Option<RetryBudget>,
}

/// Retries as a share of requests, in place of their number.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct RetryBudget {
    #[prost(message, optional, tag = "1")]
    pub budget_percent: Option<Percent>,
    #[prost(message, optional, tag = "2")]
    pub min_retry_concurrency: Option<u32>,
    #[prost(message, optional, tag = "3")]
    pub budget_interval: Option<Duration>,
}

/// When an endpoint is left out. Absent ones are Envoy's defaults.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct OutlierDetection {
    #[prost(message, optional, tag = "1")]
    pub consecutive_5xx: Option<u32>,
    #[prost(message, optional, tag = "2")]
    pub interval: Option<Duration>,
    #[prost(message, optional, tag = "3")]
    pub base_ejection_time: Option<Duration>,
    #[prost(message, optional, tag = "4")]
    pub max_ejection_percent: Option<u32>,
    #[prost(message, optional, tag = "5")]
    pub enforcing_consecutive_5xx: Option<u32>,
    #[prost(message, optional, tag = "6")]
    pub enforcing_success_rate: Option<u32>,
    #[prost(message, optional, tag = "10")]
    pub consecutive_gateway_failure: Option<u32>,
    #[prost(message, optional, tag = "11")]
    pub enforcing_consecutive_gateway_failure: Option<u32>,
    #[prost(bool, tag = "12")]
    pub split_external_local_origin_errors: bool,
    #[prost(message, optional, tag = "13")]
    pub consecutive_local_origin_failure: Option<u32>,
    #[prost(message, optional, tag = "14")]
    pub enforcing_consecutive_local_origin_failure: Option<u32>,
    #[prost(message, optional, tag = "15")]
    pub enforcing_local_origin_success_rate: Option<u32>,
    #[prost(message, optional, tag = "16")]
    pub failure_percentage_threshold: Option<u32>,
    #[prost(message, optional, tag = "17")]
    pub enforcing_failure_percentage: Option<u32>,
    #[prost(message, optional, tag = "18")]
    pub enforcing_failure_percentage_local_origin: Option<u32>,
    #[prost(message, optional, tag = "19")]
    pub failure_percentage_minimum_hosts: Option<u32>,
    #[prost(message, optional, tag = "20")]
    pub failure_percentage_request_volume: Option<u32>,
    #[prost(message, optional, tag = "21")]
    pub max_ejection_time: Option<Duration>,
    #[prost(message, optional, tag = "25")]
    pub always_eject_one_host: Option<bool>,
}

/// What all balancing policies share.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CommonLbConfig {
    #[prost(message, optional, tag = "1")]
    pub healthy_panic_threshold: Option<Percent>,
    /// Localities have shares, by their weights.
    #[prost(message, optional, tag = "3")]
    pub locality_weighted_lb_config: Option<Empty>,
}

/// Options of the policy that has a number.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum LbConfig {
    #[prost(message, tag = "37")]
    LeastRequest(LeastRequestLbConfig),
    #[prost(message, tag = "52")]
    Maglev(MaglevLbConfig),
    #[prost(message, tag = "56")]
    RoundRobin(RoundRobinLbConfig),
}

/// Options of least request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeastRequestLbConfig {
    #[prost(message, optional, tag = "3")]
    pub slow_start_config: Option<SlowStartConfig>,
}

/// Options of round robin.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RoundRobinLbConfig {
    #[prost(message, optional, tag = "1")]
    pub slow_start_config: Option<SlowStartConfig>,
}

/// Options of Maglev.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct MaglevLbConfig {
    #[prost(message, optional, tag = "1")]
    pub table_size: Option<u64>,
}

/// How endpoints that are new come to their share; the same message under `config.cluster` and `load_balancing_policies`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SlowStartConfig {
    #[prost(message, optional, tag = "1")]
    pub slow_start_window: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    pub aggression: Option<RuntimeDouble>,
    #[prost(message, optional, tag = "3")]
    pub min_weight_percent: Option<Percent>,
}

/// `envoy.extensions.load_balancing_policies.common.v3.LocalityLbConfig`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct LocalityLbConfig {
    /// Localities have shares, by their weights.
    #[prost(message, optional, tag = "2")]
    pub locality_weighted_lb_config: Option<Empty>,
}

/// `envoy.extensions.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ClientSideWeightedRoundRobin {
    #[prost(message, optional, tag = "3")]
    pub blackout_period: Option<Duration>,
    #[prost(message, optional, tag = "4")]
    pub weight_expiration_period: Option<Duration>,
    #[prost(message, optional, tag = "5")]
    pub weight_update_period: Option<Duration>,
    #[prost(message, optional, tag = "6")]
    pub error_utilization_penalty: Option<f32>,
}

/// `envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeastRequest {
    #[prost(message, optional, tag = "3")]
    pub slow_start_config: Option<SlowStartConfig>,
    #[prost(message, optional, tag = "4")]
    pub locality_lb_config: Option<LocalityLbConfig>,
}

/// Balancing policies in order of preference: the first that the receiver knows is used.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LoadBalancingPolicy {
    #[prost(message, repeated, tag = "1")]
    pub policies: Vec<Policy>,
}

/// A balancing policy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Policy {
    #[prost(message, optional, tag = "4")]
    pub typed_extension_config: Option<TypedExtensionConfig>,
}

/// `envoy.extensions.load_balancing_policies.wrr_locality.v3.WrrLocality`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WrrLocality {
    #[prost(message, optional, tag = "1")]
    pub endpoint_picking_policy: Option<LoadBalancingPolicy>,
}

/// `envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RingHash {
    /// 1 is XXH64, without which gRPC refuses it.
    #[prost(int32, tag = "1")]
    pub hash_function: i32,
}

/// `envoy.extensions.upstreams.http.v3.HttpProtocolOptions`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpProtocolOptions {
    #[prost(message, optional, tag = "1")]
    pub common_http_protocol_options: Option<CommonHttpProtocolOptions>,
    #[prost(oneof = "UpstreamProtocolOptions", tags = "3, 4")]
    pub upstream_protocol_options: Option<UpstreamProtocolOptions>,
}

/// `envoy.config.core.v3.HttpProtocolOptions`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct CommonHttpProtocolOptions {
    #[prost(message, optional, tag = "1")]
    pub idle_timeout: Option<Duration>,
}

/// Which version of HTTP is spoken.
#[derive(Clone, Copy, PartialEq, Eq, prost::Oneof)]
pub enum UpstreamProtocolOptions {
    #[prost(message, tag = "3")]
    Explicit(ExplicitHttpConfig),
    #[prost(message, tag = "4")]
    UseDownstream(UseDownstreamHttpConfig),
}

/// Always this version.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ExplicitHttpConfig {
    #[prost(oneof = "ProtocolConfig", tags = "1, 2")]
    pub protocol_config: Option<ProtocolConfig>,
}

/// A version of HTTP.
#[derive(Clone, Copy, PartialEq, Eq, prost::Oneof)]
pub enum ProtocolConfig {
    #[prost(message, tag = "1")]
    Http1(Empty),
    #[prost(message, tag = "2")]
    Http2(Empty),
}

/// The version that the caller spoke.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct UseDownstreamHttpConfig {
    #[prost(message, optional, tag = "1")]
    pub http_protocol_options: Option<Empty>,
    #[prost(message, optional, tag = "2")]
    pub http2_protocol_options: Option<Empty>,
}

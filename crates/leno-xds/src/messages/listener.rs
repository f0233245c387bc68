//! `envoy.config.listener.v3` and the network filters in use.

use super::core::{Address, ConfigSource, Empty, Metadata};
use super::wkt::{Any, Duration};

/// A listener.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Listener {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub address: Option<Address>,
    #[prost(message, repeated, tag = "3")]
    pub filter_chains: Vec<FilterChain>,
    #[prost(message, optional, tag = "6")]
    pub metadata: Option<Metadata>,
    #[prost(message, repeated, tag = "9")]
    pub listener_filters: Vec<ListenerFilter>,
    #[prost(message, optional, tag = "15")]
    pub listener_filters_timeout: Option<Duration>,
    #[prost(bool, tag = "17")]
    pub continue_on_listener_filters_timeout: bool,
    #[prost(message, optional, tag = "19")]
    pub api_listener: Option<ApiListener>,
    #[prost(message, optional, tag = "25")]
    pub default_filter_chain: Option<FilterChain>,
    #[prost(message, optional, tag = "26")]
    pub bind_to_port: Option<bool>,
}

/// A listener without a socket, as gRPC uses it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ApiListener {
    #[prost(message, optional, tag = "1")]
    pub api_listener: Option<Any>,
}

/// What happens with the connections that match.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FilterChain {
    #[prost(message, optional, tag = "1")]
    pub filter_chain_match: Option<FilterChainMatch>,
    #[prost(message, repeated, tag = "3")]
    pub filters: Vec<Filter>,
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<Metadata>,
    #[prost(string, tag = "7")]
    pub name: String,
}

/// Which connections match.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FilterChainMatch {
    #[prost(message, optional, tag = "8")]
    pub destination_port: Option<u32>,
    #[prost(string, tag = "9")]
    pub transport_protocol: String,
    #[prost(string, repeated, tag = "10")]
    pub application_protocols: Vec<String>,
    #[prost(string, repeated, tag = "11")]
    pub server_names: Vec<String>,
}

/// A network filter.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Filter {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "4")]
    pub typed_config: Option<Any>,
}

/// A filter that looks at a connection before its filter chain is chosen.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ListenerFilter {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub typed_config: Option<Any>,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpConnectionManager {
    /// 0 finds out.
    #[prost(int32, tag = "1")]
    pub codec_type: i32,
    #[prost(string, tag = "2")]
    pub stat_prefix: String,
    #[prost(oneof = "RouteSpecifier", tags = "3, 4")]
    pub route_specifier: Option<RouteSpecifier>,
    #[prost(message, repeated, tag = "5")]
    pub http_filters: Vec<HttpFilter>,
    #[prost(message, optional, tag = "14")]
    pub use_remote_address: Option<bool>,
    #[prost(message, repeated, tag = "23")]
    pub upgrade_configs: Vec<UpgradeConfig>,
    #[prost(message, optional, tag = "24")]
    pub stream_idle_timeout: Option<Duration>,
}

/// Where routes come from.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum RouteSpecifier {
    #[prost(message, tag = "3")]
    Rds(Rds),
    #[prost(message, tag = "4")]
    RouteConfig(super::route::RouteConfiguration),
}

/// Routes by name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rds {
    #[prost(message, optional, tag = "1")]
    pub config_source: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    pub route_config_name: String,
}

/// An HTTP filter.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HttpFilter {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "4")]
    pub typed_config: Option<Any>,
    #[prost(bool, tag = "6")]
    pub is_optional: bool,
}

/// An upgrade that is let through.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpgradeConfig {
    #[prost(string, tag = "1")]
    pub upgrade_type: String,
}

/// `envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TcpProxy {
    #[prost(string, tag = "1")]
    pub stat_prefix: String,
    #[prost(oneof = "TcpClusterSpecifier", tags = "2, 10")]
    pub cluster_specifier: Option<TcpClusterSpecifier>,
    #[prost(message, optional, tag = "8")]
    pub idle_timeout: Option<Duration>,
    /// At most one.
    #[prost(message, repeated, tag = "11")]
    pub hash_policy: Vec<TcpHashPolicy>,
}

/// `envoy.type.v3.HashPolicy`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct TcpHashPolicy {
    #[prost(oneof = "TcpHashSource", tags = "1")]
    pub policy_specifier: Option<TcpHashSource>,
}

/// What of a connection is hashed.
#[derive(Clone, Copy, PartialEq, Eq, prost::Oneof)]
pub enum TcpHashSource {
    #[prost(message, tag = "1")]
    SourceIp(Empty),
}

/// Where bytes go.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum TcpClusterSpecifier {
    #[prost(string, tag = "2")]
    Cluster(String),
    #[prost(message, tag = "10")]
    WeightedClusters(TcpWeightedCluster),
}

/// `TcpProxy.WeightedCluster`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TcpWeightedCluster {
    #[prost(message, repeated, tag = "1")]
    pub clusters: Vec<TcpClusterWeight>,
}

/// `TcpProxy.WeightedCluster.ClusterWeight`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TcpClusterWeight {
    #[prost(string, tag = "1")]
    pub name: String,
    /// At least 1.
    #[prost(uint32, tag = "2")]
    pub weight: u32,
}

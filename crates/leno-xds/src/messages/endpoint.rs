//! `envoy.config.endpoint.v3`.

use super::core::{Address, Locality, Metadata};

/// The endpoints of a cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ClusterLoadAssignment {
    #[prost(string, tag = "1")]
    pub cluster_name: String,
    #[prost(message, repeated, tag = "2")]
    pub endpoints: Vec<LocalityLbEndpoints>,
}

/// The endpoints of a cluster in one place.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LocalityLbEndpoints {
    #[prost(message, optional, tag = "1")]
    pub locality: Option<Locality>,
    #[prost(message, repeated, tag = "2")]
    pub lb_endpoints: Vec<LbEndpoint>,
    #[prost(message, optional, tag = "3")]
    pub load_balancing_weight: Option<u32>,
    #[prost(uint32, tag = "5")]
    pub priority: u32,
}

/// An endpoint as the balancer sees it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LbEndpoint {
    #[prost(oneof = "HostIdentifier", tags = "1")]
    pub host_identifier: Option<HostIdentifier>,
    #[prost(enumeration = "HealthStatus", tag = "2")]
    pub health_status: i32,
    #[prost(message, optional, tag = "3")]
    pub metadata: Option<Metadata>,
    #[prost(message, optional, tag = "4")]
    pub load_balancing_weight: Option<u32>,
}

/// Which endpoint.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum HostIdentifier {
    #[prost(message, tag = "1")]
    Endpoint(Endpoint),
}

/// An endpoint.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Endpoint {
    #[prost(message, optional, tag = "1")]
    pub address: Option<Address>,
}

/// Whether an endpoint takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum HealthStatus {
    Unknown = 0,
    Healthy = 1,
    Unhealthy = 2,
    Draining = 3,
    Timeout = 4,
    Degraded = 5,
}

//! The messages of `leno.mesh.v1.Registry`. Fields are numbered for ever; a meaning that changes gets a new number.

use std::collections::BTreeMap;

/// Registers an instance, or what has become of it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegisterRequest {
    /// The instance.
    #[prost(message, optional, tag = "1")]
    pub instance: Option<Instance>,
}

/// The instance is registered.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RegisterResponse {
    /// The revision of its last change.
    #[prost(uint64, tag = "1")]
    pub revision: u64,
}

/// Begins leases anew.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RenewRequest {
    /// Whose.
    #[prost(message, repeated, tag = "1")]
    pub instances: Vec<InstanceKey>,
}

/// The leases of all others begin anew.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RenewResponse {
    /// Positions in the request, in order, of instances that are not registered: register them again.
    #[prost(uint32, repeated, tag = "1")]
    pub unknown: Vec<u32>,
}

/// Removes an instance.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DeregisterRequest {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub instance: Option<InstanceKey>,
}

/// The instance is gone.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct DeregisterResponse {}

/// Says whether an instance takes traffic.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SetStatusRequest {
    /// Which.
    #[prost(message, optional, tag = "1")]
    pub instance: Option<InstanceKey>,
    /// Whether it takes traffic from now on.
    #[prost(enumeration = "Status", tag = "2")]
    pub status: i32,
}

/// The instance has the status.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct SetStatusResponse {
    /// The revision of its last change.
    #[prost(uint64, tag = "1")]
    pub revision: u64,
}

/// The name of an instance.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct InstanceKey {
    /// Its namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// Its service.
    #[prost(string, tag = "2")]
    pub service: String,
    /// Its id.
    #[prost(string, tag = "3")]
    pub id: String,
}

/// One running copy of a service; see [`leno_model::instance::Instance`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Instance {
    /// Its name.
    #[prost(message, optional, tag = "1")]
    pub key: Option<InstanceKey>,
    /// Where the application listens: an IP address.
    #[prost(string, tag = "2")]
    pub address: String,
    /// Its ports.
    #[prost(message, repeated, tag = "3")]
    pub ports: Vec<Port>,
    /// Where its proxy listens, if elsewhere.
    #[prost(string, tag = "4")]
    pub proxy_address: String,
    /// Its share of traffic; 100 when absent.
    #[prost(uint32, optional, tag = "5")]
    pub weight: Option<u32>,
    /// Its version; none when empty.
    #[prost(string, tag = "6")]
    pub version: String,
    /// Its zone; none when empty.
    #[prost(string, tag = "7")]
    pub zone: String,
    /// Its region; none when empty.
    #[prost(string, tag = "8")]
    pub region: String,
    /// Whether it takes traffic.
    #[prost(enumeration = "Status", tag = "9")]
    pub status: i32,
    /// Who sees it.
    #[prost(message, optional, tag = "10")]
    pub visibility: Option<Visibility>,
    /// Free text.
    #[prost(btree_map = "string, string", tag = "11")]
    pub metadata: BTreeMap<String, String>,
    /// How it is probed.
    #[prost(message, optional, tag = "12")]
    pub health_check: Option<HealthCheck>,
    /// How long it stays without a renewal, in milliseconds; 0 for a persistent one.
    #[prost(uint64, tag = "13")]
    pub lease_ms: u64,
    /// Who registers it; `run` when empty.
    #[prost(string, tag = "14")]
    pub source: String,
}

/// A port.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Port {
    /// The application's port.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// Its name; none when empty.
    #[prost(string, tag = "2")]
    pub name: String,
    /// What it speaks.
    #[prost(enumeration = "Protocol", tag = "3")]
    pub protocol: i32,
    /// The proxy's port that leads to it; none when 0.
    #[prost(uint32, tag = "4")]
    pub proxy_port: u32,
}

/// Who sees an instance: everybody, unless something is said.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Visibility {
    /// Gateways only.
    #[prost(bool, tag = "1")]
    pub gateway: bool,
    /// Callers in these namespaces.
    #[prost(string, repeated, tag = "2")]
    pub namespaces: Vec<String>,
}

/// How an instance is probed.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct HealthCheck {
    /// What is sent.
    #[prost(oneof = "Probe", tags = "1, 2, 3")]
    pub probe: Option<Probe>,
    /// Which port; the first when 0.
    #[prost(uint32, tag = "4")]
    pub port: u32,
    /// Time between two probes, in milliseconds; 10 s when 0.
    #[prost(uint64, tag = "5")]
    pub interval_ms: u64,
    /// Time after which one has failed, in milliseconds; 1 s when 0.
    #[prost(uint64, tag = "6")]
    pub timeout_ms: u64,
    /// Failures in a row until the instance is unhealthy; 3 when 0.
    #[prost(uint32, tag = "7")]
    pub unhealthy_threshold: u32,
    /// Successes in a row until it is healthy again; 1 when 0.
    #[prost(uint32, tag = "8")]
    pub healthy_threshold: u32,
}

/// What a probe sends.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum Probe {
    /// `GET` of this path.
    #[prost(string, tag = "1")]
    HttpPath(String),
    /// Nothing: connecting is enough.
    #[prost(bool, tag = "2")]
    Tcp(bool),
    /// `grpc.health.v1.Health/Check` for this service.
    #[prost(string, tag = "3")]
    GrpcService(String),
}

/// Whether an instance takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Status {
    /// It does.
    Up = 0,
    /// Not ready yet.
    Starting = 1,
    /// It ends soon.
    Draining = 2,
    /// An operator took it out.
    Out = 3,
}

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Protocol {
    /// Found out per connection.
    Detect = 0,
    /// HTTP/1.1.
    Http = 1,
    /// HTTP/2 with prior knowledge.
    Http2 = 2,
    /// gRPC.
    Grpc = 3,
    /// Bytes.
    Tcp = 4,
    /// TLS that passes through.
    Tls = 5,
}

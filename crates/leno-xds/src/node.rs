//! Who subscribes: what a proxy says of itself in its first message. A hint, never a proof of identity.

use std::fmt;

use leno_model::name::ServiceName;

/// What kind of program holds a subscription; it decides the dialect in which resources are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProxyKind {
    /// leno's own proxy.
    Leno,
    /// Envoy, or one that says nothing of itself: it is answered as Envoy is.
    Envoy,
    /// A gRPC library that needs no proxy.
    Grpc,
}

/// What a leno proxy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ProxyRole {
    /// Beside one workload.
    #[default]
    Sidecar,
    /// At the edge.
    Gateway,
}

/// A subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Unique among proxies, as `cart.shop/cart-1`.
    pub id: String,
    /// Envoy's `--service-cluster`; free text.
    pub cluster: String,
    /// The kind of program.
    pub proxy: ProxyKind,
    /// What it is for.
    pub role: ProxyRole,
    /// The namespace in which bare names are looked up and for which visibility is decided.
    pub namespace: String,
    /// The service of the workload beside it, if it has one.
    pub service: Option<ServiceName>,
    /// The gateway whose listeners it opens, as `namespace/name`, for gateways.
    pub gateway: Option<String>,
    /// Where it runs.
    pub region: Option<String>,
    /// Where it runs.
    pub zone: Option<String>,
    /// The program's name and version, for people.
    pub version: String,
}

// === impl ProxyKind ===

impl fmt::Display for ProxyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProxyKind::Leno => "leno",
            ProxyKind::Envoy => "envoy",
            ProxyKind::Grpc => "grpc",
        })
    }
}

//! The kinds of resources, the versions under which each may be written, and the key that tells resources apart.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The group of the Gateway API's kinds.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// The group of leno's own kinds.
pub const LENO_GROUP: &str = "leno.mesh";

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Ports that a gateway opens.
    Gateway,
    /// Routing of HTTP requests.
    HttpRoute,
    /// Routing of gRPC calls.
    GrpcRoute,
    /// Where TCP connections go.
    TcpRoute,
    /// Where TLS connections go by server name, unopened.
    TlsRoute,
    /// Where datagrams (UDP) go.
    UdpRoute,
    /// Who may send traffic to services of another namespace.
    ReferenceGrant,
    /// TLS towards the instances of a service.
    BackendTlsPolicy,
    /// A declared or external service.
    Service,
    /// How traffic to a service is balanced, bounded in time and retried.
    TrafficPolicy,
    /// Routes that are degraded at once, and brought back.
    Switch,
    /// Whether a switch is on.
    SwitchState,
    /// What goes wrong on purpose with requests to a service.
    FaultPolicy,
    /// Versions of services that tagged requests stay in.
    Lane,
}

/// What tells one resource from every other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// The kind.
    pub kind: Kind,
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

/// Text that is not a resource key or kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No kind of that name.
    #[error("{0:?} is no kind of resource: use one of {list}", list = Kind::list())]
    UnknownKind(String),
    /// Not `kind/namespace/name`.
    #[error("{0:?} is not a resource: write kind/namespace/name, as httproute/shop/cart")]
    NotAKey(String),
}

// === impl Kind ===

impl Kind {
    /// Every kind, in the order of the reference.
    pub const ALL: [Kind; 14] = [
        Kind::Gateway,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::TcpRoute,
        Kind::TlsRoute,
        Kind::UdpRoute,
        Kind::ReferenceGrant,
        Kind::BackendTlsPolicy,
        Kind::Service,
        Kind::TrafficPolicy,
        Kind::Switch,
        Kind::SwitchState,
        Kind::FaultPolicy,
        Kind::Lane,
    ];

    /// As it is written in `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Gateway => "Gateway",
            Kind::HttpRoute => "HTTPRoute",
            Kind::GrpcRoute => "GRPCRoute",
            Kind::TcpRoute => "TCPRoute",
            Kind::TlsRoute => "TLSRoute",
            Kind::UdpRoute => "UDPRoute",
            Kind::ReferenceGrant => "ReferenceGrant",
            Kind::BackendTlsPolicy => "BackendTLSPolicy",
            Kind::Service => "Service",
            Kind::TrafficPolicy => "TrafficPolicy",
            Kind::Switch => "Switch",
            Kind::SwitchState => "SwitchState",
            Kind::FaultPolicy => "FaultPolicy",
            Kind::Lane => "Lane",
        }
    }

    /// As it stands in keys and on the command line.
    pub fn lower(self) -> &'static str {
        match self {
            Kind::Gateway => "gateway",
            Kind::HttpRoute => "httproute",
            Kind::GrpcRoute => "grpcroute",
            Kind::TcpRoute => "tcproute",
            Kind::TlsRoute => "tlsroute",
            Kind::UdpRoute => "udproute",
            Kind::ReferenceGrant => "referencegrant",
            Kind::BackendTlsPolicy => "backendtlspolicy",
            Kind::Service => "service",
            Kind::TrafficPolicy => "trafficpolicy",
            Kind::Switch => "switch",
            Kind::SwitchState => "switchstate",
            Kind::FaultPolicy => "faultpolicy",
            Kind::Lane => "lane",
        }
    }

    /// The API group.
    pub fn group(self) -> &'static str {
        match self {
            Kind::Service | Kind::TrafficPolicy | Kind::Switch | Kind::SwitchState | Kind::Lane | Kind::FaultPolicy => {
                LENO_GROUP
            }
            _ => GATEWAY_GROUP,
        }
    }

    /// The versions under which it may be written, the preferred one first.
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Kind::Gateway | Kind::HttpRoute => &["v1", "v1beta1", "v1alpha2"],
            Kind::GrpcRoute | Kind::TcpRoute | Kind::UdpRoute => &["v1", "v1alpha2"],
            Kind::TlsRoute => &["v1", "v1alpha3", "v1alpha2"],
            Kind::ReferenceGrant => &["v1", "v1beta1"],
            Kind::BackendTlsPolicy => &["v1", "v1alpha3"],
            Kind::Service | Kind::TrafficPolicy | Kind::Switch | Kind::SwitchState | Kind::Lane | Kind::FaultPolicy => {
                &["v1"]
            }
        }
    }

    /// The preferred `apiVersion`: `gateway.networking.k8s.io/v1`.
    pub fn api_version(self) -> String {
        format!("{}/{}", self.group(), self.versions()[0])
    }

    /// Whether this kind may be written under `api_version`.
    pub fn accepts(self, api_version: &str) -> bool {
        api_version
            .split_once('/')
            .is_some_and(|(group, version)| group == self.group() && self.versions().contains(&version))
    }

    /// Whether this is one of the route kinds.
    pub fn is_route(self) -> bool {
        matches!(self, Kind::HttpRoute | Kind::GrpcRoute | Kind::TcpRoute | Kind::TlsRoute | Kind::UdpRoute)
    }

    /// The kind written exactly so in a file.
    pub fn written(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    fn list() -> String {
        Kind::ALL.map(Kind::as_str).join(", ")
    }
}

impl FromStr for Kind {
    type Err = KeyError;

    /// Reads a kind as people type it: any case, singular or plural.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let lower = text.to_ascii_lowercase();
        let is = |kind: &Kind| {
            let (one, plural) = (kind.lower(), lower.as_str());
            plural == one
                || plural.strip_suffix('s') == Some(one)
                || plural.strip_suffix("es") == Some(one)
                || plural.strip_suffix("ies").is_some_and(|stem| one.strip_suffix('y') == Some(stem))
        };
        Kind::ALL.into_iter().find(is).ok_or_else(|| KeyError::UnknownKind(text.to_owned()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

// === impl ResourceKey ===

impl ResourceKey {
    /// A key of its three parts.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind.lower(), self.namespace, self.name)
    }
}

impl FromStr for ResourceKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(kind), Some(namespace), Some(name), None) if !namespace.is_empty() && !name.is_empty() => {
                Ok(Self::new(kind.parse()?, namespace, name))
            }
            _ => Err(KeyError::NotAKey(text.to_owned())),
        }
    }
}

impl Serialize for ResourceKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ResourceKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_read_as_people_type_it() {
        for text in ["HTTPRoute", "httproute", "HttpRoutes", "httproutes"] {
            assert_eq!(text.parse(), Ok(Kind::HttpRoute), "{text}");
        }
        assert_eq!("trafficpolicies".parse(), Ok(Kind::TrafficPolicy));
        assert!("virtualservice".parse::<Kind>().is_err());
    }

    #[test]
    fn a_key_prints_as_it_is_read() {
        let key: ResourceKey = "httproute/shop/cart".parse().unwrap();
        assert_eq!(key, ResourceKey::new(Kind::HttpRoute, "shop", "cart"));
        assert_eq!(key.to_string(), "httproute/shop/cart");
        assert!("httproute/cart".parse::<ResourceKey>().is_err());
    }
}

//! Service: a service that is declared rather than only registered: its ports, who sees it, and, for programs outside
//! the mesh, its endpoints.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::number::{EndpointWeight, Port};
use crate::instance::{Protocol, Visibility};
use crate::snapshot::ProxyProtocol;

/// A declared or external service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceSpec {
    /// The ports by which callers ask for it. 1 to 64.
    #[serde(default)]
    pub ports: Vec<ServicePort>,
    /// What the ports speak that do not say it themselves: `detect`, `http`, `http2`, `grpc`, `tcp` or `tls`. Default
    /// `detect`: found out per connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Addresses outside the mesh, beside the instances that register themselves. Default none; at most 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<ServiceEndpoint>,
    /// Who sees it: `all`, `gateway`, or `namespaces: [shop]`. Default `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
}

/// One port by which callers ask for a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServicePort {
    /// A name, unique in the service; routes refer to it by `sectionName`. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port that callers use, 1 to 65535.
    pub port: Port,
    /// The port of the instances: a number, or the name under which they registered it. Default: the same number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<TargetPort>,
    /// What it speaks. Default: as the service, or as the instances registered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The PROXY header with which its instances want to be told whose connection it is: `v1` or `v2`. Only where `tcp` or
    /// `tls` is declared; of routes only TCPRoutes and TLSRoutes lead to such a port. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// A port of instances, by number or by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum TargetPort {
    /// By number.
    Number(Port),
    /// By name.
    Name(String),
}

/// An address outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServiceEndpoint {
    /// An IPv4 or IPv6 address.
    pub address: IpAddr,
    /// Its port, 1 to 65535; only where the service has one port. Default: the target port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// Its share of traffic relative to the others, 0 to 10,000; 0 takes none. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<EndpointWeight>,
    /// Its version, the `v2` of `cart@v2`. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The zone it runs in. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The region it runs in. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

// === impl TargetPort ===

impl<'de> Deserialize<'de> for TargetPort {
    /// By hand, because serde's `untagged` loses what was wrong and where.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = TargetPort;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a port number or the name of a port")
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<TargetPort, E> {
                let port = u16::try_from(value).ok().and_then(Port::new);
                port.map(TargetPort::Number)
                    .ok_or_else(|| E::custom(format_args!("out of range: {value} (a port is 1 to 65535)")))
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<TargetPort, E> {
                Err(E::custom(format_args!("out of range: {value} (a port is 1 to 65535)")))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<TargetPort, E> {
                Ok(TargetPort::Name(text.to_owned()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

//! TCPRoute, TLSRoute and UDPRoute: where bytes go that leno does not read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::reference::{BackendRef, ParentRef};

/// Where TCP connections go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpRouteSpec {
    /// What the route belongs to. 1 to 32.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// Exactly one rule.
    #[serde(default)]
    pub rules: Vec<L4Rule>,
}

/// Where TLS connections go by the server name that the client asks for, unopened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsRouteSpec {
    /// What the route belongs to. 1 to 32.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// Server names (SNI), exact or `*.example.com`. Default: every name. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Exactly one rule.
    #[serde(default)]
    pub rules: Vec<L4Rule>,
}

/// Where datagrams go that come to a UDP listener of a gateway. Each source (address and port) has a session with one
/// endpoint, until the endpoint is gone, fails, or nothing was sent for a minute (`idleTimeout` of a TrafficPolicy for the
/// one service that the route leads to); a proxy has at most `--udp-sessions-max` of them. Datagrams go to endpoints
/// without their proxies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct UdpRouteSpec {
    /// What the route belongs to. 1 to 32.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// Exactly one rule.
    #[serde(default)]
    pub rules: Vec<L4Rule>,
}

/// Where connections go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct L4Rule {
    /// A name; a proxy's table in force shows it. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Destinations, by weight. 1 to 16.
    #[serde(default)]
    pub backend_refs: Vec<BackendRef>,
}

//! Gateway: the ports that a proxy with `--role gateway` opens for traffic from outside.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kind::Kind;
use super::number::Port;

/// Ports that a gateway opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GatewaySpec {
    /// The class; leno serves every Gateway that it is given, so it may be left out. Default `leno`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_class_name: Option<String>,
    /// The ports. 1 to 64.
    #[serde(default)]
    pub listeners: Vec<GatewayListener>,
    /// What holds for TLS on every listener. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<GatewayTlsConfig>,
}

/// What holds for TLS on every listener.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GatewayTlsConfig {
    /// Towards clients. Default: they are not asked for certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontend: Option<FrontendTls>,
}

/// Who clients must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FrontendTls {
    /// On every port that `perPort` does not name.
    pub default: ClientTls,
    /// On single ports. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per_port: Vec<PortTls>,
}

/// Who clients of one port must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PortTls {
    /// The port, 1 to 65535.
    pub port: Port,
    /// Who they must be.
    pub tls: ClientTls,
}

/// Whether clients are asked for certificates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientTls {
    /// How their certificates are verified. Default: they are not asked for any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<ClientValidation>,
}

/// How certificates of clients are verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientValidation {
    /// Bundles of roots that are believed, of kind `ConfigMap` or `Secret`: `NAME.ca.crt` or `NAME/ca.crt` in the gateway's
    /// directory of certificates. 1 to 8.
    #[serde(default)]
    pub ca_certificate_refs: Vec<CertificateRef>,
    /// What happens to clients without a certificate, or with one that cannot be verified. Default `AllowValidOnly`.
    #[serde(default)]
    pub mode: ClientMode,
}

/// What happens to clients whose certificate cannot be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum ClientMode {
    /// They are refused in the handshake.
    #[default]
    AllowValidOnly,
    /// They are served.
    AllowInsecureFallback,
}

/// One port with what it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GatewayListener {
    /// The name, unique in the gateway; routes refer to it by `sectionName`.
    pub name: String,
    /// Host names that are taken here, exact or `*.example.com`. Default: all. Not for TCP and UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The port, 1 to 65535.
    pub port: Port,
    /// What clients speak here.
    pub protocol: GatewayProtocol,
    /// For `TLS` and `HTTPS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<GatewayTls>,
    /// Which routes may belong to this listener. Default: of the Gateway's own namespace, of every kind that fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_routes: Option<AllowedRoutes>,
}

/// What clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum GatewayProtocol {
    /// HTTP/1.1 and HTTP/2 with prior knowledge, in clear.
    Http,
    /// HTTP/1.1 and HTTP/2 over TLS that ends at the gateway.
    Https,
    /// TLS, passed through or ended here, as `tls.mode` says.
    Tls,
    /// Bytes.
    Tcp,
    /// Datagrams.
    Udp,
}

/// How TLS is handled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GatewayTls {
    /// `Passthrough` leaves it to the destination; `Terminate` ends it at the gateway. Default `Terminate`.
    #[serde(default)]
    pub mode: TlsMode,
    /// Certificates for `Terminate`, among which the server name chooses; the first is for names that none has. 1 to 64. Each
    /// is a pair in the gateway's directory of certificates (`leno proxy --certificates`): `NAME.crt` and `NAME.key`, or
    /// `tls.crt` and `tls.key` in a folder `NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificate_refs: Vec<CertificateRef>,
    /// Further options, none of which leno has. Default none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Where TLS ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// At the gateway.
    #[default]
    Terminate,
    /// At the destination.
    Passthrough,
}

/// A certificate, or a bundle of roots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct CertificateRef {
    /// The group. Default `""`.
    #[serde(default)]
    pub group: String,
    /// The kind. Default `Secret`.
    #[serde(default = "secret_kind")]
    pub kind: String,
    /// The name.
    pub name: String,
    /// The namespace. Default: the Gateway's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Which routes may belong to a listener.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AllowedRoutes {
    /// From which namespaces. Default: the Gateway's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<RouteNamespaces>,
    /// Of which kinds. Default: every kind that fits the protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<RouteKind>,
}

/// Namespaces from which routes are taken.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RouteNamespaces {
    /// `Same`, `All` or `Selector`. Default `Same`.
    #[serde(default)]
    pub from: FromNamespaces,
    /// For `Selector`: labels of the namespace. A namespace of leno has one label, `kubernetes.io/metadata.name`, its own
    /// name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
}

/// The choices of namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum FromNamespaces {
    /// The Gateway's own.
    #[default]
    Same,
    /// Every one.
    All,
    /// Those whose labels match.
    Selector,
}

/// Labels of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Labels that must all be equal. Default none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// A kind of route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RouteKind {
    /// The group. Default `gateway.networking.k8s.io`.
    #[serde(default = "gateway_group")]
    pub group: String,
    /// The kind, as `HTTPRoute`.
    pub kind: String,
}

fn secret_kind() -> String {
    "Secret".to_owned()
}
fn gateway_group() -> String {
    super::kind::GATEWAY_GROUP.to_owned()
}

/// The label under which a namespace has its own name, as in Kubernetes.
pub const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

// === impl GatewayListener ===

impl GatewayListener {
    /// Whether routes of `kind` may belong to it, by its protocol and by what it allows.
    pub fn takes_kind(&self, kind: Kind) -> bool {
        let kinds = self.allowed_routes.as_ref().map(|allowed| allowed.kinds.as_slice()).unwrap_or_default();
        self.carries(kind) && (kinds.is_empty() || kinds.iter().any(|allowed| allowed.kind == kind.as_str()))
    }

    /// Whether its protocol is one for routes of `kind`.
    pub fn carries(&self, kind: Kind) -> bool {
        match self.protocol {
            GatewayProtocol::Http | GatewayProtocol::Https => matches!(kind, Kind::HttpRoute | Kind::GrpcRoute),
            GatewayProtocol::Tls => kind == Kind::TlsRoute || (kind == Kind::TcpRoute && self.ends_tls()),
            GatewayProtocol::Tcp => kind == Kind::TcpRoute,
            GatewayProtocol::Udp => kind == Kind::UdpRoute,
        }
    }

    /// The kinds of routes that it allows and its protocol cannot carry.
    pub fn kinds_in_vain(&self) -> impl Iterator<Item = Kind> {
        let allowed = self.allowed_routes.iter().flat_map(|allowed| &allowed.kinds);
        allowed.filter_map(|allowed| Kind::written(&allowed.kind)).filter(|kind| !self.carries(*kind))
    }

    /// Whether routes of namespace `route` may belong to it, if its gateway is in namespace `own`.
    pub fn takes_namespace(&self, own: &str, route: &str) -> bool {
        match self.allowed_routes.as_ref().and_then(|allowed| allowed.namespaces.as_ref()) {
            None => own == route,
            Some(namespaces) => match namespaces.from {
                FromNamespaces::Same => own == route,
                FromNamespaces::All => true,
                FromNamespaces::Selector => namespaces.selector.as_ref().is_some_and(|selector| {
                    selector.match_labels.iter().all(|(label, value)| label == NAMESPACE_LABEL && value == route)
                }),
            },
        }
    }

    /// Whether it takes datagrams, which have ports of their own.
    pub fn is_udp(&self) -> bool {
        self.protocol == GatewayProtocol::Udp
    }

    /// Whether TLS ends here.
    pub fn ends_tls(&self) -> bool {
        let passes = || self.tls.as_ref().is_some_and(|tls| tls.mode == TlsMode::Passthrough);
        matches!(self.protocol, GatewayProtocol::Https | GatewayProtocol::Tls) && !passes()
    }
}

// === impl GatewaySpec ===

impl GatewaySpec {
    /// How clients of a port are verified, if they are asked for certificates.
    pub fn client_validation(&self, port: Port) -> Option<&ClientValidation> {
        let frontend = self.tls.as_ref()?.frontend.as_ref()?;
        let of_port = frontend.per_port.iter().find(|one| one.port == port);
        of_port.map_or(&frontend.default, |one| &one.tls).validation.as_ref()
    }
}

/// Whether some host is taken by both `a` and `b`, each exact or `*.example.com`.
pub fn hosts_meet(a: &str, b: &str) -> bool {
    match (a.strip_prefix("*."), b.strip_prefix("*.")) {
        (None, None) => a == b,
        (Some(suffix), None) => is_below(b, suffix),
        (None, Some(suffix)) => is_below(a, suffix),
        (Some(a), Some(b)) => a == b || is_below(a, b) || is_below(b, a),
    }
}

fn is_below(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

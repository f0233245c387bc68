//! References between resources: to the parent of a route, to where its traffic goes, to what a policy is for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::{GrpcFilter, HttpFilter};
use super::gateway::GatewayListener;
use super::kind::{GATEWAY_GROUP, LENO_GROUP};
use super::number::{Port, Weight};

/// To what a route belongs: a `Service` for traffic inside the mesh, a `Gateway` for traffic from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ParentRef {
    /// The group of the parent's kind: `""` for a Service, `gateway.networking.k8s.io` for a Gateway. Default
    /// `gateway.networking.k8s.io`.
    #[serde(default = "gateway_group", skip_serializing_if = "is_gateway_group")]
    pub group: String,
    /// The parent's kind, `Gateway` or `Service`. Default `Gateway`.
    #[serde(default = "gateway_kind", skip_serializing_if = "is_gateway_kind")]
    pub kind: String,
    /// The parent's namespace. Default: the route's own. A route whose Service is in another namespace holds only for
    /// callers in the route's namespace (a consumer route).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The parent's name.
    pub name: String,
    /// The name of one listener of the Gateway, or of one port of the Service. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// One port of the Gateway or Service, 1 to 65535. Default: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
}

/// Where traffic goes: a service, or one version of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BackendObject {
    /// The group: `""` for a Service, `leno.mesh` for a ServiceVersion. Default `""`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// `Service`, or `ServiceVersion` for the instances of one version. Default `Service`.
    #[serde(default = "service_kind", skip_serializing_if = "is_service_kind")]
    pub kind: String,
    /// The name: `reviews`; of a version `reviews@v2`.
    pub name: String,
    /// The namespace. Default: the route's own. In another one a ReferenceGrant must permit it, unless it is the
    /// parent Service that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The service's port, 1 to 65535. Default: the parent Service's port that was asked for, if the backend is of the
    /// same service or has that port, else the backend's only port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
}

/// A destination of an HTTPRoute with its share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpBackendRef {
    /// As in a plain reference: the group. Default `""`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// `Service` or `ServiceVersion`. Default `Service`.
    #[serde(default = "service_kind", skip_serializing_if = "is_service_kind")]
    pub kind: String,
    /// The name: `reviews`; of a version `reviews@v2`.
    pub name: String,
    /// The namespace. Default: the route's own. In another one a ReferenceGrant must permit it, unless it is the
    /// parent Service that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The service's port, 1 to 65535. Default: the parent's port if the backend has it, else the backend's only port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// The share of requests, relative to the sum of all: 0 to 1,000,000; 0 takes none. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// Changes for this destination only. Default none; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpFilter>,
}

/// A destination of a GRPCRoute with its share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GrpcBackendRef {
    /// The group. Default `""`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// `Service` or `ServiceVersion`. Default `Service`.
    #[serde(default = "service_kind", skip_serializing_if = "is_service_kind")]
    pub kind: String,
    /// The name: `reviews`; of a version `reviews@v2`.
    pub name: String,
    /// The namespace. Default: the route's own. In another one a ReferenceGrant must permit it, unless it is the
    /// parent Service that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The service's port, 1 to 65535. Default: the parent's port if the backend has it, else the backend's only port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// The share of calls, relative to the sum of all: 0 to 1,000,000; 0 takes none. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
    /// Changes for this destination only. Default none; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<GrpcFilter>,
}

/// A destination of a TCPRoute, TLSRoute or UDPRoute with its share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BackendRef {
    /// The group. Default `""`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// `Service` or `ServiceVersion`. Default `Service`.
    #[serde(default = "service_kind", skip_serializing_if = "is_service_kind")]
    pub kind: String,
    /// The name: `reviews`; of a version `reviews@v2`.
    pub name: String,
    /// The namespace. Default: the route's own. In another one a ReferenceGrant must permit it, unless it is the
    /// parent Service that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The service's port, 1 to 65535. Default: the parent's port if the backend has it, else the backend's only port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    /// The share of connections, relative to the sum of all: 0 to 1,000,000; 0 takes none. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
}

/// What a policy is for, in the policy's own namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TargetRef {
    /// The group of the target's kind: `""` or `leno.mesh`. Default `""`.
    #[serde(default)]
    pub group: String,
    /// The target's kind: `Service`. Default `Service`.
    #[serde(default = "service_kind")]
    pub kind: String,
    /// The target's name.
    pub name: String,
}

/// What all backend references have in common.
#[derive(Debug, Clone, Copy)]
pub struct BackendView<'a> {
    /// The group.
    pub group: &'a str,
    /// The kind.
    pub kind: &'a str,
    /// The name.
    pub name: &'a str,
    /// The namespace, if written.
    pub namespace: Option<&'a str>,
    /// The port, if written.
    pub port: Option<u16>,
    /// The share.
    pub weight: u32,
}

macro_rules! view {
    ($($type:ty => |$it:ident| $weight:expr;)*) => {
        $(impl<'a> From<&'a $type> for BackendView<'a> {
            fn from($it: &'a $type) -> Self {
                BackendView {
                    group: &$it.group,
                    kind: &$it.kind,
                    name: &$it.name,
                    namespace: $it.namespace.as_deref(),
                    port: $it.port.map(Port::get),
                    weight: $weight,
                }
            }
        })*
    };
}

view! {
    BackendObject => |it| 1;
    HttpBackendRef => |it| it.weight.map_or(1, Weight::get);
    GrpcBackendRef => |it| it.weight.map_or(1, Weight::get);
    BackendRef => |it| it.weight.map_or(1, Weight::get);
}

// === impl ParentRef ===

impl ParentRef {
    /// Whether the parent is a service of the mesh.
    pub fn is_service(&self) -> bool {
        self.kind == "Service" && (self.group.is_empty() || self.group == LENO_GROUP)
    }

    /// Whether the parent is a gateway.
    pub fn is_gateway(&self) -> bool {
        self.kind == "Gateway" && self.group == GATEWAY_GROUP
    }

    /// Whether it means this listener of its gateway.
    pub fn selects(&self, listener: &GatewayListener) -> bool {
        let named = self.section_name.as_ref().is_none_or(|section| *section == listener.name);
        named && self.port.is_none_or(|port| port == listener.port)
    }
}

// === impl BackendView ===

impl<'a> BackendView<'a> {
    /// The service and, for a `ServiceVersion`, the version: `reviews@v2` is `("reviews", Some("v2"))`. `None` where the
    /// kind is neither or the name is not written so.
    pub fn service(&self) -> Option<(&'a str, Option<&'a str>)> {
        match (self.group, self.kind) {
            ("" | LENO_GROUP, "Service") => Some((self.name, None)),
            (LENO_GROUP, "ServiceVersion") => {
                let (service, version) = self.name.split_once('@')?;
                (!service.is_empty() && !version.is_empty()).then_some((service, Some(version)))
            }
            _ => None,
        }
    }
}

fn gateway_group() -> String {
    GATEWAY_GROUP.to_owned()
}
fn is_gateway_group(group: &str) -> bool {
    group == GATEWAY_GROUP
}
fn gateway_kind() -> String {
    "Gateway".to_owned()
}
fn is_gateway_kind(kind: &str) -> bool {
    kind == "Gateway"
}
fn service_kind() -> String {
    "Service".to_owned()
}
fn is_service_kind(kind: &str) -> bool {
    kind == "Service"
}

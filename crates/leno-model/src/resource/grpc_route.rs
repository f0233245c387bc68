//! GRPCRoute: routing of gRPC calls by host, service, method and header.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::GrpcFilter;
use super::http_route::{HeaderMatch, ValueMatchType};
use super::reference::{GrpcBackendRef, ParentRef};

/// Routing of gRPC calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GrpcRouteSpec {
    /// What the route belongs to: Services for traffic inside the mesh, Gateways for traffic from outside. 1 to 32.
    #[serde(default)]
    pub parent_refs: Vec<ParentRef>,
    /// Host names of calls, exact or `*.example.com`; only for Gateway parents. Default: every name that the listener
    /// takes. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// The rules, 1 to 16.
    #[serde(default)]
    pub rules: Vec<GrpcRule>,
}

/// When it applies and what happens then.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GrpcRule {
    /// A name, unique in the route; a proxy's table in force shows it. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Any one of these. Default: every call. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<GrpcMatch>,
    /// Changes to calls and answers. Default none; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<GrpcFilter>,
    /// Where calls go, by weight. A rule without backends answers UNAVAILABLE. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<GrpcBackendRef>,
}

/// Conditions on a call, all of which must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GrpcMatch {
    /// On service and method. Default: every call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<GrpcMethodMatch>,
    /// On metadata. Default none; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
}

/// A condition on service and method; at least one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GrpcMethodMatch {
    /// How both are compared. Default `Exact`.
    #[serde(default)]
    pub r#type: ValueMatchType,
    /// The service with its package: `shop.v1.Cart`. Default: every service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The method: `AddItem`. Default: every method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

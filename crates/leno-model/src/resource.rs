//! Resources as they are written: one file per kind, with the doc comments from which the reference and the JSON
//! Schemas are made.
//!
//! The Gateway API's kinds stand here with the fields that leno serves; an unknown field is a fault, never silence.
//! A resource keeps the JSON that was written, so that `get` gives back what somebody wrote and not what leno made of
//! it, beside the typed spec. Reading text is the work of [`crate::document`], checking of [`crate::validate`].

pub mod backend_tls_policy;
pub mod degradation;
pub mod duration;
pub mod fault_policy;
pub mod filter;
pub mod gateway;
pub mod grpc_route;
pub mod http_route;
pub mod kind;
pub mod l4_route;
pub mod lane;
pub mod load_balancer;
pub mod locality;
pub mod metadata;
pub mod moment;
pub mod number;
pub mod overload;
pub mod rate_limit;
pub mod reference;
pub mod reference_grant;
pub mod reply;
pub mod resilience;
pub mod retry;
pub mod service;
pub mod switch;
pub mod traffic_policy;

use schemars::Schema;
use serde_json::{Value, json};

use self::backend_tls_policy::BackendTlsPolicySpec;
use self::fault_policy::FaultPolicySpec;
use self::gateway::GatewaySpec;
use self::grpc_route::GrpcRouteSpec;
use self::http_route::HttpRouteSpec;
use self::kind::{Kind, ResourceKey};
use self::l4_route::{TcpRouteSpec, TlsRouteSpec, UdpRouteSpec};
use self::lane::LaneSpec;
use self::metadata::Metadata;
use self::reference::ParentRef;
use self::reference_grant::ReferenceGrantSpec;
use self::service::ServiceSpec;
use self::switch::{SwitchSpec, SwitchStateSpec};
use self::traffic_policy::TrafficPolicySpec;

/// One resource: what it is, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// What tells it from every other.
    pub key: ResourceKey,
    /// The `apiVersion` as written.
    pub api_version: String,
    /// What it says about itself.
    pub metadata: Metadata,
    /// What it says.
    pub spec: Spec,
}

/// What a resource says, by kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// Ports that a gateway opens.
    Gateway(GatewaySpec),
    /// Routing of HTTP requests.
    HttpRoute(HttpRouteSpec),
    /// Routing of gRPC calls.
    GrpcRoute(GrpcRouteSpec),
    /// Where TCP connections go.
    TcpRoute(TcpRouteSpec),
    /// Where TLS connections go.
    TlsRoute(TlsRouteSpec),
    /// Where datagrams (UDP) go.
    UdpRoute(UdpRouteSpec),
    /// Who may send traffic to services of another namespace.
    ReferenceGrant(ReferenceGrantSpec),
    /// TLS towards the instances of a service.
    BackendTlsPolicy(BackendTlsPolicySpec),
    /// A declared or external service.
    Service(ServiceSpec),
    /// How traffic to a service is treated; boxed, because it has by far the most fields.
    TrafficPolicy(Box<TrafficPolicySpec>),
    /// Routes that are degraded at once.
    Switch(SwitchSpec),
    /// Whether a switch is on.
    SwitchState(SwitchStateSpec),
    /// What goes wrong on purpose with requests to a service.
    FaultPolicy(FaultPolicySpec),
    /// Versions of services that tagged requests stay in.
    Lane(LaneSpec),
}

/// The JSON Schema of a whole resource of `kind`, as an editor wants it.
pub fn schema(kind: Kind) -> Value {
    let (metadata, spec) = (schemars::schema_for!(Metadata), spec_schema(kind));
    let api_versions: Vec<String> = kind.versions().iter().map(|v| format!("{}/{v}", kind.group())).collect();
    let (mut metadata, mut spec) = (metadata.to_value(), spec.to_value());
    let mut definitions = serde_json::Map::new();
    for part in [&mut metadata, &mut spec] {
        if let Some(object) = part.as_object_mut() {
            object.remove("$schema");
            object.remove("title");
            if let Some(Value::Object(of_part)) = object.remove("$defs") {
                definitions.extend(of_part);
            }
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.as_str(),
        "type": "object",
        "additionalProperties": false,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": { "enum": api_versions },
            "kind": { "const": kind.as_str() },
            "metadata": metadata,
            "spec": spec,
        },
        "$defs": definitions,
    })
}

fn spec_schema(kind: Kind) -> Schema {
    match kind {
        Kind::Gateway => schemars::schema_for!(GatewaySpec),
        Kind::HttpRoute => schemars::schema_for!(HttpRouteSpec),
        Kind::GrpcRoute => schemars::schema_for!(GrpcRouteSpec),
        Kind::TcpRoute => schemars::schema_for!(TcpRouteSpec),
        Kind::TlsRoute => schemars::schema_for!(TlsRouteSpec),
        Kind::UdpRoute => schemars::schema_for!(UdpRouteSpec),
        Kind::ReferenceGrant => schemars::schema_for!(ReferenceGrantSpec),
        Kind::BackendTlsPolicy => schemars::schema_for!(BackendTlsPolicySpec),
        Kind::Service => schemars::schema_for!(ServiceSpec),
        Kind::TrafficPolicy => schemars::schema_for!(TrafficPolicySpec),
        Kind::Switch => schemars::schema_for!(SwitchSpec),
        Kind::SwitchState => schemars::schema_for!(SwitchStateSpec),
        Kind::FaultPolicy => schemars::schema_for!(FaultPolicySpec),
        Kind::Lane => schemars::schema_for!(LaneSpec),
    }
}

// === impl Spec ===

impl Spec {
    /// The parents, where the kind has them.
    pub fn parents(&self) -> &[ParentRef] {
        match self {
            Spec::HttpRoute(route) => &route.parent_refs,
            Spec::GrpcRoute(route) => &route.parent_refs,
            Spec::TcpRoute(route) => &route.parent_refs,
            Spec::TlsRoute(route) => &route.parent_refs,
            Spec::UdpRoute(route) => &route.parent_refs,
            Spec::Gateway(_)
            | Spec::ReferenceGrant(_)
            | Spec::BackendTlsPolicy(_)
            | Spec::Service(_)
            | Spec::TrafficPolicy(_)
            | Spec::Switch(_)
            | Spec::SwitchState(_)
            | Spec::FaultPolicy(_)
            | Spec::Lane(_) => &[],
        }
    }

    /// The names of its rules, where the kind has them and they have names.
    pub fn rule_names(&self) -> Vec<&str> {
        match self {
            Spec::HttpRoute(route) => route.rules.iter().filter_map(|rule| rule.name.as_deref()).collect(),
            Spec::GrpcRoute(route) => route.rules.iter().filter_map(|rule| rule.name.as_deref()).collect(),
            _ => Vec::new(),
        }
    }

    /// The host names, where the kind has them.
    pub fn hostnames(&self) -> &[String] {
        match self {
            Spec::HttpRoute(route) => &route.hostnames,
            Spec::GrpcRoute(route) => &route.hostnames,
            Spec::TlsRoute(route) => &route.hostnames,
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_every_kind_has_a_description() {
        fn walk(value: &Value, at: &str, missing: &mut Vec<String>) {
            if let Some(properties) = value.get("properties").and_then(Value::as_object) {
                for (name, property) in properties {
                    let field = format!("{at}.{name}");
                    if property.get("description").is_none() && !at.is_empty() {
                        missing.push(field.clone());
                    }
                    walk(property, &field, missing);
                }
            }
            for (name, definition) in value.get("$defs").and_then(Value::as_object).into_iter().flatten() {
                walk(definition, name, missing);
            }
        }
        for kind in Kind::ALL {
            let mut missing = Vec::new();
            walk(&schema(kind), "", &mut missing);
            assert!(missing.is_empty(), "{kind}: {missing:?}");
        }
    }
}

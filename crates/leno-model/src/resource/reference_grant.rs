//! ReferenceGrant: which routes of other namespaces may send traffic to services of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kind::{GATEWAY_GROUP, Kind};
use super::reference::BackendView;

/// Which routes of other namespaces may send traffic to services of this one. It stands where the services are: who owns
/// them decides. Grants add up; without one, a route that refers to another namespace gets nothing there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReferenceGrantSpec {
    /// Who may refer here. 1 to 16.
    #[serde(default)]
    pub from: Vec<GrantFrom>,
    /// To what. 1 to 16.
    #[serde(default)]
    pub to: Vec<GrantTo>,
}

/// Routes of one kind in one namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GrantFrom {
    /// The group of the kind: `gateway.networking.k8s.io`.
    pub group: String,
    /// The kind: `HTTPRoute`, `GRPCRoute`, `TCPRoute`, `TLSRoute` or `UDPRoute`. Others have no effect.
    pub kind: String,
    /// The namespace of the routes.
    pub namespace: String,
}

/// Services of the grant's namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GrantTo {
    /// The group of the kind: `""` for a Service, `leno.mesh` for a ServiceVersion.
    pub group: String,
    /// `Service`, with all its versions, or `ServiceVersion`. Others have no effect.
    pub kind: String,
    /// The name of one: `reviews`; of a version `reviews@v2`. Default: all of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

// === impl ReferenceGrantSpec ===

impl ReferenceGrantSpec {
    /// Whether a route of this kind and namespace may refer to this backend in the grant's namespace.
    pub fn permits(&self, kind: Kind, namespace: &str, backend: &BackendView<'_>) -> bool {
        self.from.iter().any(|from| from.route() == Some(kind) && from.namespace == namespace)
            && self.to.iter().any(|to| to.covers(backend))
    }
}

// === impl GrantFrom ===

impl GrantFrom {
    /// The kind of route, unless it is none.
    pub fn route(&self) -> Option<Kind> {
        let kind = Kind::written(&self.kind).filter(|kind| kind.is_route())?;
        (self.group == GATEWAY_GROUP).then_some(kind)
    }
}

// === impl GrantTo ===

impl GrantTo {
    /// Whether it means services or versions of them.
    pub fn is_service(&self) -> bool {
        let backend = BackendView { name: "any@any", ..self.as_backend() };
        backend.service().is_some()
    }

    fn covers(&self, backend: &BackendView<'_>) -> bool {
        let Some((service, version)) = backend.service() else { return false };
        let named = |name: &str| self.name.as_deref().is_none_or(|own| own == name);
        match (self.is_service(), self.kind.as_str()) {
            (true, "Service") => named(service),
            (true, _) => version.is_some() && named(backend.name),
            (false, _) => false,
        }
    }

    fn as_backend(&self) -> BackendView<'_> {
        let name = self.name.as_deref().unwrap_or_default();
        BackendView { group: &self.group, kind: &self.kind, name, namespace: None, port: None, weight: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(from: (&str, &str), to: (&str, &str, Option<&str>)) -> ReferenceGrantSpec {
        let from = GrantFrom { group: from.0.into(), kind: from.1.into(), namespace: "shop".into() };
        let to = GrantTo { group: to.0.into(), kind: to.1.into(), name: to.2.map(Into::into) };
        ReferenceGrantSpec { from: vec![from], to: vec![to] }
    }

    fn backend<'a>(group: &'a str, kind: &'a str, name: &'a str) -> BackendView<'a> {
        BackendView { group, kind, name, namespace: Some("web"), port: None, weight: 1 }
    }

    #[test]
    fn a_grant_holds_for_its_kind_its_namespace_and_its_service_alone() {
        let one = grant((GATEWAY_GROUP, "HTTPRoute"), ("", "Service", Some("web")));
        let web = backend("", "Service", "web");
        assert!(one.permits(Kind::HttpRoute, "shop", &web));
        assert!(!one.permits(Kind::GrpcRoute, "shop", &web));
        assert!(!one.permits(Kind::HttpRoute, "other", &web));
        assert!(!one.permits(Kind::HttpRoute, "shop", &backend("", "Service", "api")));
        assert!(!grant(("", "HTTPRoute"), ("", "Service", None)).permits(Kind::HttpRoute, "shop", &web));
        assert!(!grant((GATEWAY_GROUP, "Gateway"), ("", "Service", None)).permits(Kind::Gateway, "shop", &web));
        assert!(!grant((GATEWAY_GROUP, "HTTPRoute"), ("", "Secret", None)).permits(Kind::HttpRoute, "shop", &web));
    }

    #[test]
    fn a_grant_to_a_service_holds_for_its_versions_and_one_to_a_version_for_that_alone() {
        let (v1, v2) =
            (backend("leno.mesh", "ServiceVersion", "web@v1"), backend("leno.mesh", "ServiceVersion", "web@v2"));
        let (service, all) = (grant((GATEWAY_GROUP, "HTTPRoute"), ("", "Service", Some("web"))), Kind::HttpRoute);
        assert!(service.permits(all, "shop", &v1) && service.permits(all, "shop", &v2));
        let version = grant((GATEWAY_GROUP, "HTTPRoute"), ("leno.mesh", "ServiceVersion", Some("web@v2")));
        assert!(version.permits(all, "shop", &v2));
        assert!(!version.permits(all, "shop", &v1));
        assert!(!version.permits(all, "shop", &backend("", "Service", "web")));
    }
}

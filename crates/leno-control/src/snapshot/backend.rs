//! From a backend reference to the cluster it leads to, or why it leads nowhere.

use leno_model::name::ServiceName;
use leno_model::resource::kind::{Kind, ResourceKey};
use leno_model::resource::reference::BackendView;
use leno_model::snapshot::Name;

use super::name::ClusterName;
use super::{Caller, View};

/// From where a reference is followed.
pub(crate) struct Context<'a> {
    /// The route.
    pub(crate) route: &'a ResourceKey,
    /// The service and port that are asked for, where the parent is a service.
    pub(crate) parent: Option<(&'a ServiceName, u16)>,
}

/// Why a reference leads nowhere: the Gateway API's reason, and words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unresolved {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The cluster that a reference leads to.
pub(crate) fn resolve(view: &View<'_>, context: &Context<'_>, backend: BackendView<'_>) -> Result<Name, Unresolved> {
    let fault = |reason, message| Err(Unresolved { reason, message });
    let Some((service, version)) = backend.service() else {
        return fault("InvalidKind", format!("{} {} cannot be a backend", backend.kind, backend.name));
    };
    let namespace = backend.namespace.unwrap_or(&context.route.namespace);
    // Back to the service that was asked for needs nobody's leave: that is where the request was going.
    let is_parent =
        context.parent.is_some_and(|(parent, _)| *parent.name == *service && *parent.namespace == *namespace);
    let is_foreign = *namespace != *context.route.namespace && !is_parent;
    if is_foreign && !view.permits(namespace, context.route, &backend) {
        let message = format!("no ReferenceGrant in namespace {namespace} permits {service} to this route");
        return fault("RefNotPermitted", message);
    }
    let Ok(name) = ServiceName::new(namespace, service) else {
        return fault("BackendNotFound", format!("{service:?} is not the name of a service"));
    };
    let found = view.service(&name);
    if !found.exists() {
        return fault("BackendNotFound", format!("service {namespace}/{service} is neither declared nor registered"));
    }
    let caller = Caller { namespace: context.route.namespace.clone(), is_gateway: context.parent.is_none() };
    if !found.is_visible_to(&caller) {
        return fault("RefNotPermitted", format!("service {namespace}/{service} is not visible from here"));
    }
    let port = match backend.port {
        Some(number) => found.port(Some(number)),
        None => context.parent.and_then(|(_, asked)| found.port(Some(asked))).or_else(|| found.only_port()),
    };
    let kind = context.route.kind;
    match (port, backend.port) {
        (Some(port), _) if port.proxy_protocol.is_some() && !matches!(kind, Kind::TcpRoute | Kind::TlsRoute) => fault(
            "UnsupportedProtocol",
            format!(
                "port {} of service {namespace}/{service} takes a PROXY header, which only TCPRoutes and TLSRoutes can send, not an {kind}",
                port.number
            ),
        ),
        (Some(port), _) => {
            Ok(ClusterName { service: name, port: port.number, version: version.map(Into::into) }.render())
        }
        (None, Some(number)) => fault("BackendNotFound", format!("service {namespace}/{service} has no port {number}")),
        (None, None) => fault(
            "BackendNotFound",
            format!("service {namespace}/{service} has several ports and the reference names none"),
        ),
    }
}

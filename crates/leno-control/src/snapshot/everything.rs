//! What a proxy gets that does not ask by name, as Envoy: one outbound listener with a virtual host for each service
//! that its namespace sees, on the service's default port.

use std::collections::BTreeSet;

use leno_model::instance::Protocol;
use leno_model::snapshot::{HostPattern, Listener, Name, RouteConfig, VirtualHost};

use super::name::{self, ClusterName};
use super::service::ServiceView;
use super::{Caller, View, gateway, route};

pub(super) fn listener(name: &str, caller: &Caller) -> Listener {
    Listener {
        port: name::OUTBOUND_PORT,
        bind: true,
        protocol: Protocol::Http,
        http: Some(name::outbound_routes(caller)),
        ..Listener::named(name)
    }
}

pub(super) fn route_config(view: &View<'_>, name: &str, caller: &Caller) -> RouteConfig {
    let visible = visible(view, caller);
    RouteConfig { name: name.into(), hosts: visible.iter().filter_map(|service| host(view, service, caller)).collect() }
}

/// The clusters that those virtual hosts lead to, and those of services that speak no HTTP.
pub(super) fn clusters(view: &View<'_>, caller: &Caller) -> Vec<Name> {
    let mut clusters: BTreeSet<Name> = BTreeSet::new();
    for service in visible(view, caller) {
        let own = |number| ClusterName { service: service.name.clone(), port: number, version: None }.render();
        clusters.extend(service.ports().into_iter().map(|port| own(port.number)));
        let host = host(view, &service, caller);
        clusters.extend(host.iter().flat_map(|host| &host.rules).flat_map(gateway::clusters_of));
    }
    clusters.into_iter().collect()
}

fn visible<'a>(view: &View<'a>, caller: &Caller) -> Vec<ServiceView<'a>> {
    let services = view.services().into_iter().map(|name| view.service(&name));
    services.filter(|service| service.exists() && service.is_visible_to(caller)).collect()
}

fn host(view: &View<'_>, service: &ServiceView<'_>, caller: &Caller) -> Option<VirtualHost> {
    let port = service.port(None)?;
    if matches!(port.protocol, Protocol::Tcp | Protocol::Tls) {
        return None;
    }
    let (name, namespace) = (&service.name.name, &service.name.namespace);
    let is_own = **namespace == *caller.namespace;
    let mut hostnames: Vec<Name> = vec![service.name.host().into(), format!("{name}.{namespace}").into()];
    hostnames.extend(is_own.then(|| name.clone()));
    let own_routes =
        !is_own && !route::request_routes(route::attached(view, service, &port, Some(&caller.namespace))).is_empty();
    let consumer = own_routes.then_some(&*caller.namespace);
    Some(VirtualHost {
        hostnames: hostnames.into_iter().map(HostPattern::Exact).collect(),
        rules: route::rules_of_service(view, service, &port, consumer),
    })
}

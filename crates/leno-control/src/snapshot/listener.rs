//! Listeners of services: what stands behind a name that a caller uses.

use std::sync::Arc;
use std::time::Duration;

use leno_model::instance::Protocol;
use leno_model::name::ServiceName;
use leno_model::resource::Spec;
use leno_model::resource::l4_route::L4Rule;
use leno_model::resource::reference::BackendView;
use leno_model::snapshot::{HostPattern, Listener, Name, TlsRule, WeightedCluster};

use super::name::ClusterName;
use super::route::{self, Attached};
use super::service::{PortView, ServiceView};
use super::{Caller, Context, View};
use crate::merge::Entry;

pub(super) fn of_service(
    view: &View<'_>,
    name: &str,
    service: &ServiceName,
    asked: Option<u16>,
    caller: &Caller,
) -> Option<Listener> {
    let found = view.service(service);
    if !found.exists() || !found.is_visible_to(caller) {
        return None;
    }
    let port = found.port(asked)?;
    let parent = Some((service, port.number));
    let routes = byte_routes(view, &found, &port, caller);
    let protocol = port.protocol;
    let speaks_http = !matches!(protocol, Protocol::Tcp | Protocol::Tls);
    let speaks_bytes = matches!(protocol, Protocol::Detect | Protocol::Tcp | Protocol::Tls);
    Some(Listener {
        service: Some(service.clone()),
        port: port.number,
        protocol,
        http: speaks_http.then(|| route::config_name(view, &found, &port, &caller.namespace)),
        tcp: if speaks_bytes { tcp(view, &found, &port, &routes, parent) } else { Vec::new() },
        tls: tls_rules(view, &routes, parent),
        idle_timeout: view.policy_of(service).idle_timeout,
        ..Listener::named(name)
    })
}

/// The TCPRoutes and TLSRoutes that hold for a caller: its own namespace's if there are any, else the producer's.
fn byte_routes<'a>(view: &View<'a>, service: &ServiceView<'_>, port: &PortView, caller: &Caller) -> Vec<Attached<'a>> {
    let is_bytes = |(entry, _): &Attached<'_>| matches!(entry.resource.spec, Spec::TcpRoute(_) | Spec::TlsRoute(_));
    let of = |consumer| {
        let mut routes = route::attached(view, service, port, consumer);
        routes.retain(is_bytes);
        routes
    };
    let own = if caller.namespace != service.name.namespace { of(Some(&*caller.namespace)) } else { Vec::new() };
    if own.is_empty() { of(None) } else { own }
}

/// Where bytes go: as the oldest TCPRoute says, else to the service itself.
fn tcp(
    view: &View<'_>,
    service: &ServiceView<'_>,
    port: &PortView,
    routes: &[Attached<'_>],
    parent: Option<(&ServiceName, u16)>,
) -> Vec<WeightedCluster> {
    match tcp_clusters(view, routes, parent) {
        Some(clusters) => clusters,
        None => {
            let cluster = ClusterName { service: service.name.clone(), port: port.number, version: None }.render();
            let affinity = view.policy_of(&service.name).affinity.of_bytes();
            vec![WeightedCluster {
                cluster: Some(cluster),
                weight: 1,
                filters: Vec::new(),
                affinity,
                rate_limits: Default::default(),
                injections: Default::default(),
            }]
        }
    }
}

/// The destinations of the oldest TCPRoute.
pub(super) fn tcp_clusters(
    view: &View<'_>,
    routes: &[Attached<'_>],
    parent: Option<(&ServiceName, u16)>,
) -> Option<Vec<WeightedCluster>> {
    routes.iter().find_map(|(entry, _)| match &entry.resource.spec {
        Spec::TcpRoute(route) => route.rules.first().map(|rule| clusters(view, entry, rule, parent)),
        _ => None,
    })
}

/// The destinations of the oldest UDPRoute.
pub(super) fn udp_clusters(view: &View<'_>, routes: &[Attached<'_>]) -> Option<Vec<WeightedCluster>> {
    udp_rule(routes).map(|(entry, rule)| clusters(view, entry, rule, None))
}

/// How long sessions of the oldest UDPRoute may stand still, as the policy of the one service says to which it leads.
pub(super) fn udp_idle_timeout(view: &View<'_>, routes: &[Attached<'_>]) -> Option<Duration> {
    let (entry, rule) = udp_rule(routes)?;
    let context = Context { route: &entry.resource.key, parent: None };
    let backends = rule.backend_refs.iter().map(BackendView::from);
    route::service_of(&context, backends).and_then(|service| view.policy_of(&service).idle_timeout_written)
}

fn udp_rule<'a>(routes: &[Attached<'a>]) -> Option<(&'a Arc<Entry>, &'a L4Rule)> {
    routes.iter().find_map(|(entry, _)| match &entry.resource.spec {
        Spec::UdpRoute(route) => route.rules.first().map(|rule| (*entry, rule)),
        _ => None,
    })
}

/// The rules of TLSRoutes: exact names before wildcards, longer before shorter, older before younger.
pub(super) fn tls_rules(view: &View<'_>, routes: &[Attached<'_>], parent: Option<(&ServiceName, u16)>) -> Vec<TlsRule> {
    let mut rules: Vec<(HostPattern, TlsRule)> = Vec::new();
    for (entry, _) in routes {
        let Spec::TlsRoute(spec) = &entry.resource.spec else { continue };
        let Some(rule) = spec.rules.first() else { continue };
        let made = TlsRule {
            hostnames: Vec::new(),
            clusters: clusters(view, entry, rule, parent),
            origin: route::origin(entry, 0, rule.name.as_deref()),
        };
        if spec.hostnames.is_empty() {
            rules.push((HostPattern::Any, made.clone()));
        }
        for host in &spec.hostnames {
            let pattern = pattern(host);
            rules.push((pattern.clone(), TlsRule { hostnames: vec![pattern], ..made.clone() }));
        }
    }
    // Stable, so that among equals the older stays first.
    rules.sort_by_key(|(pattern, _)| match pattern {
        HostPattern::Exact(name) => (0, usize::MAX - name.len()),
        HostPattern::Suffix(name) => (1, usize::MAX - name.len()),
        HostPattern::Any => (2, 0),
    });
    rules.into_iter().map(|(_, rule)| rule).collect()
}

fn clusters(
    view: &View<'_>,
    entry: &Arc<Entry>,
    rule: &L4Rule,
    parent: Option<(&ServiceName, u16)>,
) -> Vec<WeightedCluster> {
    let context = Context { route: &entry.resource.key, parent };
    let weighted = |backend| {
        let weighted = route::weighted(view, &context, backend, Vec::new());
        // Limits are on requests, and with requests alone something goes wrong.
        WeightedCluster {
            affinity: weighted.affinity.of_bytes(),
            rate_limits: Default::default(),
            injections: Default::default(),
            ..weighted
        }
    };
    rule.backend_refs.iter().map(|backend| weighted(backend.into())).collect()
}

/// A host name as written, as a pattern.
pub(super) fn pattern(host: &str) -> HostPattern {
    let lower = host.to_ascii_lowercase();
    match lower.strip_prefix("*.") {
        Some(suffix) => HostPattern::Suffix(Name::from(suffix)),
        None => HostPattern::Exact(Name::from(lower)),
    }
}

//! The ports of a gateway: one bound listener for each, from all listeners of the Gateway on it and their routes.

use std::collections::BTreeSet;

use leno_model::instance::Protocol;
use leno_model::resource::Spec;
use leno_model::resource::gateway::{ClientMode, GatewayListener, GatewayProtocol, GatewaySpec, hosts_meet};
use leno_model::snapshot::{
    Action, ClientCertificates, HostPattern, Listener, Match, Name, Origin, RouteConfig, RouteFilter, Rule, TlsRule,
    TlsTerms, TlsThen, VirtualHost, WeightedCluster,
};
use leno_route::precedence::{Key, Placed, arrange_listeners};

use super::route::{self, Attached};
use super::{View, listener as service_listener, name};
use crate::merge::Topic;

const UDP_IDLE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

/// The names of the ports that a gateway opens.
pub(super) fn listeners(view: &View<'_>, namespace: &str, gateway: &str) -> Vec<Name> {
    let Some(spec) = view.gateway_spec(namespace, gateway) else { return Vec::new() };
    let ports: BTreeSet<(u16, bool)> = spec.listeners.iter().map(|l| (l.port.get(), l.is_udp())).collect();
    let name = |(port, udp)| match udp {
        false => name::gateway(namespace, gateway, port),
        true => name::gateway_udp(namespace, gateway, port),
    };
    ports.into_iter().map(name).collect()
}

pub(super) fn listener(view: &View<'_>, namespace: &str, gateway: &str, port: u16) -> Option<Listener> {
    let listeners = on_port(view, namespace, gateway, port)?;
    let spec = view.gateway_spec(namespace, gateway)?;
    let first = listeners.first()?.protocol;
    let routes = |protocol: GatewayProtocol| -> Vec<Attached<'_>> {
        let of_protocol = listeners.iter().filter(|listener| listener.protocol == protocol);
        of_protocol.flat_map(|listener| routes_of(view, namespace, gateway, listener)).collect()
    };
    let tls = listeners.iter().filter(|listener| listener.protocol == GatewayProtocol::Tls);
    let tls = tls.map(|listener| (host_of(listener), placed_tls(view, namespace, gateway, listener)));
    let tls = tls_rules(arrange_listeners(tls.collect()));
    let name = name::gateway(namespace, gateway, port);
    let is_http = listeners.iter().any(|listener| speaks_http(listener));
    let bytes = if first == GatewayProtocol::Tcp { GatewayProtocol::Tcp } else { GatewayProtocol::Tls };
    let terms = match listeners.iter().any(|listener| listener.ends_tls()) {
        true => listeners.iter().map(|listener| terms(spec, listener)).collect(),
        false => Vec::new(),
    };
    Some(Listener {
        http: is_http.then(|| name.clone()),
        port,
        bind: true,
        protocol: match first {
            _ if is_http => Protocol::Http,
            GatewayProtocol::Tls => Protocol::Tls,
            _ => Protocol::Tcp,
        },
        tcp: tcp(view, &routes(bytes)),
        tls,
        terms,
        ..Listener::named(name)
    })
}

/// A port of UDP: datagrams go as the oldest UDPRoute says.
pub(super) fn udp_listener(view: &View<'_>, namespace: &str, gateway: &str, port: u16) -> Option<Listener> {
    let spec = view.gateway_spec(namespace, gateway)?;
    let listener = spec.listeners.iter().find(|listener| listener.is_udp() && listener.port.get() == port)?;
    let routes = routes_of(view, namespace, gateway, listener);
    Some(Listener {
        port,
        bind: true,
        protocol: Protocol::Tcp,
        tcp: service_listener::udp_clusters(view, &routes).unwrap_or_default(),
        udp: true,
        idle_timeout: service_listener::udp_idle_timeout(view, &routes).unwrap_or(UDP_IDLE_TIMEOUT),
        ..Listener::named(name::gateway_udp(namespace, gateway, port))
    })
}

pub(super) fn route_config(
    view: &View<'_>,
    config: &str,
    namespace: &str,
    gateway: &str,
    port: u16,
) -> Option<RouteConfig> {
    let listeners = on_port(view, namespace, gateway, port)?;
    let http = listeners.into_iter().filter(|listener| speaks_http(listener));
    let placed = http.map(|listener| (host_of(listener), placed_rules(view, namespace, gateway, listener)));
    let placed: Vec<(HostPattern, Vec<Placed<Rule>>)> = placed.collect();
    if placed.is_empty() {
        return None;
    }
    let hosts = arrange_listeners(placed);
    let hosts = hosts.into_iter().map(|(host, rules)| VirtualHost { hostnames: vec![host], rules });
    Some(RouteConfig { name: config.into(), hosts: hosts.collect() })
}

/// Every cluster that the routes of a gateway lead to.
pub(super) fn clusters(view: &View<'_>, namespace: &str, gateway: &str) -> Vec<Name> {
    let mut found: BTreeSet<Name> = BTreeSet::new();
    let Some(spec) = view.gateway_spec(namespace, gateway) else { return Vec::new() };
    for listener in &spec.listeners {
        for (_, _, rule) in placed_rules(view, namespace, gateway, listener) {
            found.extend(clusters_of(&rule));
        }
        let routes = routes_of(view, namespace, gateway, listener);
        let tls = service_listener::tls_rules(view, &routes, None).into_iter().flat_map(|rule| rule.clusters);
        let udp = service_listener::udp_clusters(view, &routes).unwrap_or_default();
        found.extend(tls.chain(tcp(view, &routes)).chain(udp).filter_map(|weighted| weighted.cluster));
    }
    found.into_iter().collect()
}

/// Every cluster that a rule leads to.
pub(super) fn clusters_of(rule: &Rule) -> Vec<Name> {
    let mirrors = |filters: &[RouteFilter]| -> Vec<Name> {
        let mirror = |filter: &RouteFilter| match filter {
            RouteFilter::Mirror(mirror) => Some(mirror.cluster.clone()),
            _ => None,
        };
        filters.iter().filter_map(mirror).collect()
    };
    let mut clusters = mirrors(&rule.filters);
    if let Action::Forward(backends) = &rule.action {
        for backend in backends {
            clusters.extend(backend.cluster.clone());
            clusters.extend(mirrors(&backend.filters));
        }
    }
    clusters
}

fn on_port<'a>(view: &View<'a>, namespace: &str, gateway: &str, port: u16) -> Option<Vec<&'a GatewayListener>> {
    let spec = view.gateway_spec(namespace, gateway)?;
    let on_port = |listener: &&GatewayListener| listener.port.get() == port && !listener.is_udp();
    let listeners: Vec<&GatewayListener> = spec.listeners.iter().filter(on_port).collect();
    (!listeners.is_empty()).then_some(listeners)
}

/// The routes that a listener takes, the oldest first.
pub(crate) fn routes_of<'a>(
    view: &View<'a>,
    namespace: &str,
    gateway: &str,
    listener: &GatewayListener,
) -> Vec<Attached<'a>> {
    let mut routes = view.routes_of(&Topic::Gateway(namespace.into(), gateway.into()));
    routes.retain(|(entry, parents)| {
        let key = &entry.resource.key;
        let hostnames = entry.resource.spec.hostnames();
        let meet = |host: &String| listener.hostname.as_ref().is_none_or(|own| hosts_meet(own, host));
        parents.iter().any(|parent| parent.selects(listener))
            && listener.takes_kind(key.kind)
            && listener.takes_namespace(namespace, &key.namespace)
            && (hostnames.is_empty() || hostnames.iter().any(meet))
    });
    routes
}

fn placed_rules(view: &View<'_>, namespace: &str, gateway: &str, listener: &GatewayListener) -> Vec<Placed<Rule>> {
    let mut placed = Vec::new();
    for (entry, _) in route::request_routes(routes_of(view, namespace, gateway, listener)) {
        let hostnames = entry.resource.spec.hostnames();
        let patterns: Vec<HostPattern> = if hostnames.is_empty() {
            vec![HostPattern::Any]
        } else {
            hostnames.iter().map(|host| service_listener::pattern(host)).collect()
        };
        for (key, rule) in route::rules_of(view, entry, None) {
            placed.extend(patterns.iter().map(|pattern| (pattern.clone(), key.clone(), rule.clone())));
        }
    }
    placed
}

fn speaks_http(listener: &GatewayListener) -> bool {
    matches!(listener.protocol, GatewayProtocol::Http | GatewayProtocol::Https)
}

/// What becomes of the TLS of a listener's names.
fn terms(spec: &GatewaySpec, listener: &GatewayListener) -> TlsTerms {
    let names = |refs: &[leno_model::resource::gateway::CertificateRef]| -> Vec<Name> {
        refs.iter().map(|one| one.name.as_str().into()).collect()
    };
    let then = match listener.protocol {
        GatewayProtocol::Https => TlsThen::Http,
        _ if listener.ends_tls() => TlsThen::Bytes,
        _ => TlsThen::Pass,
    };
    let client = match spec.client_validation(listener.port).filter(|_| listener.ends_tls()) {
        None => ClientCertificates::Unasked,
        Some(validation) => match validation.mode {
            ClientMode::AllowValidOnly => ClientCertificates::Required(names(&validation.ca_certificate_refs)),
            ClientMode::AllowInsecureFallback => ClientCertificates::Optional(names(&validation.ca_certificate_refs)),
        },
    };
    let certificates = listener.tls.as_ref().map(|tls| names(&tls.certificate_refs)).unwrap_or_default();
    TlsTerms { host: host_of(listener), then, certificates, client }
}

fn host_of(listener: &GatewayListener) -> HostPattern {
    listener.hostname.as_deref().map_or(HostPattern::Any, service_listener::pattern)
}

fn placed_tls(view: &View<'_>, namespace: &str, gateway: &str, listener: &GatewayListener) -> Vec<Placed<TlsRule>> {
    let mut placed = Vec::new();
    for route in routes_of(view, namespace, gateway, listener) {
        let key = Key::http(&Match::default(), route::age(route.0, 0, 0));
        let rules = service_listener::tls_rules(view, &[route], None);
        for rule in rules {
            let pattern = rule.hostnames.first().cloned().unwrap_or(HostPattern::Any);
            placed.push((pattern, key.clone(), rule));
        }
    }
    placed
}

/// For each name the one rule that holds; names of a listener without a route lead nowhere, and not to a wider listener.
fn tls_rules(mut arranged: Vec<(HostPattern, Vec<TlsRule>)>) -> Vec<TlsRule> {
    arranged.sort_by_key(|(pattern, _)| match pattern {
        HostPattern::Exact(name) => (0, usize::MAX - name.len()),
        HostPattern::Suffix(name) => (1, usize::MAX - name.len()),
        HostPattern::Any => (2, 0),
    });
    let nowhere = || TlsRule {
        hostnames: Vec::new(),
        clusters: Vec::new(),
        origin: Origin { resource: "default".into(), rule: 0, name: None },
    };
    let one = |(pattern, rules): (HostPattern, Vec<TlsRule>)| {
        let rule = rules.into_iter().next().unwrap_or_else(nowhere);
        let hostnames = if pattern == HostPattern::Any { Vec::new() } else { vec![pattern] };
        TlsRule { hostnames, ..rule }
    };
    arranged.into_iter().map(one).collect()
}

fn tcp(view: &View<'_>, routes: &[Attached<'_>]) -> Vec<WeightedCluster> {
    let is_tcp = |(entry, _): &&Attached<'_>| matches!(entry.resource.spec, Spec::TcpRoute(_));
    let routes: Vec<Attached<'_>> = routes.iter().filter(is_tcp).cloned().collect();
    service_listener::tcp_clusters(view, &routes, None).unwrap_or_default()
}

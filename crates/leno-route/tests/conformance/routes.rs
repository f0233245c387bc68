//! Resources to rules, as far as these cases need it: which routes belong to which port, and what their rules say.
//! Control does this for proxies, with statuses, defaults and limits; here it is done once more, by the specification
//! alone, so that the matcher can be tested by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use leno_model::resource::filter::{HeaderModifier, HttpFilter, HttpFilterType, PathModifier};
use leno_model::resource::gateway::{FromNamespaces, GatewayListener, GatewayProtocol};
use leno_model::resource::grpc_route::{GrpcMatch, GrpcRouteSpec};
use leno_model::resource::http_route::{HeaderMatch, HttpMatch, HttpRouteSpec, PathMatchType, ValueMatchType};
use leno_model::resource::reference::{BackendRef, BackendView, HttpBackendRef, ParentRef};
use leno_model::resource::reference_grant::ReferenceGrantSpec;
use leno_model::resource::{Resource, Spec};
use leno_model::snapshot::*;
use leno_route::precedence::{Age, Key, Placed};

/// A gateway and one of its ports.
type Port = (String, u16);

/// What belongs to a gateway's port, by the host of the listener.
type Listeners<T> = BTreeMap<HostPattern, Vec<Placed<T>>>;

/// A rule with the namespace of its route and the only port of the service that it is for.
type MeshRule = (String, Option<u16>, Placed<Rule>);

/// The gateways: their namespaces and listeners.
type Gateways<'a> = BTreeMap<String, (&'a str, &'a [GatewayListener])>;

/// Rules by the port to which they belong.
#[derive(Default)]
pub(crate) struct Ports {
    /// HTTP and gRPC on gateways: by gateway and port, per listener.
    pub(crate) gateways: BTreeMap<Port, Listeners<Rule>>,
    /// TLS, TCP and UDP on gateways, alike; TCP and UDP have no names.
    pub(crate) streams: BTreeMap<Port, Listeners<Name>>,
    /// HTTP and gRPC in the mesh: routes by `namespace/service`, each with its own namespace and port.
    pub(crate) services: BTreeMap<String, Vec<MeshRule>>,
    /// Routes that belong to something, as `Kind/namespace/name`.
    pub(crate) accepted: Vec<String>,
    /// The first port of each gateway.
    pub(crate) first_port: BTreeMap<String, u16>,
}

/// What backends may be: services that exist, and what grants permit of those in other namespaces.
struct Known<'a> {
    services: &'a BTreeMap<String, String>,
    /// With the namespace of each.
    grants: Vec<(&'a str, &'a ReferenceGrantSpec)>,
}

/// What a route needs to be attached.
struct Route<'a> {
    resource: &'a Resource,
    kind: &'static str,
    created: u64,
}

// === impl Ports ===

impl Ports {
    /// The resources with the number of the set in which they were applied, and the services that exist with who answers
    /// for them.
    pub(crate) fn new(resources: &[(u64, &Resource)], services: &BTreeMap<String, String>) -> Self {
        let mut ports = Self::default();
        let grants = resources.iter().filter_map(|(_, resource)| grant(resource)).collect();
        let known = &Known { services, grants };
        let gateways: Gateways<'_> = resources.iter().filter_map(|(_, resource)| gateway(resource)).collect();
        for (name, (_, listeners)) in &gateways {
            ports.first_port.insert(name.clone(), listeners[0].port.get());
            for listener in *listeners {
                let port = (name.clone(), listener.port.get());
                if speaks_http(listener.protocol) {
                    ports.gateways.entry(port).or_default().entry(host_of(listener)).or_default();
                } else {
                    ports.streams.entry(port).or_default().entry(host_of(listener)).or_default();
                }
            }
        }
        for (created, resource) in resources {
            let kind = resource.key.kind.as_str();
            let route = Route { resource, kind, created: *created };
            match &resource.spec {
                Spec::HttpRoute(spec) => ports.attach(&route, &gateways, |age| http_rules(spec, age, &route, known)),
                Spec::GrpcRoute(spec) => ports.attach(&route, &gateways, |age| grpc_rules(spec, age, &route, known)),
                Spec::TlsRoute(spec) => ports.attach_stream(&route, &gateways, &spec.rules[0].backend_refs, known),
                Spec::TcpRoute(spec) => ports.attach_stream(&route, &gateways, &spec.rules[0].backend_refs, known),
                Spec::UdpRoute(spec) => ports.attach_stream(&route, &gateways, &spec.rules[0].backend_refs, known),
                _ => {}
            }
        }
        ports
    }

    fn attach(
        &mut self,
        route: &Route<'_>,
        gateways: &Gateways<'_>,
        rules: impl Fn(&dyn Fn(u32, u32) -> Age) -> Vec<(Key, Rule)>,
    ) {
        let rules = rules(&|rule, alternative| route.age(rule, alternative));
        for parent in route.resource.spec.parents() {
            if parent.is_service() {
                let service = format!("{}/{}", parent_namespace(route, parent), parent.name);
                let port = parent.port.map(|port| port.get());
                let own = rules.iter().map(|(key, rule)| {
                    (route.namespace().to_owned(), port, (HostPattern::Any, key.clone(), rule.clone()))
                });
                self.services.entry(service).or_default().extend(own);
                self.accepted.push(route.words());
            }
            for (port, listener, hosts) in route.listeners(parent, gateways, speaks_http) {
                let placed =
                    hosts.iter().flat_map(|host| rules.iter().map(|(k, r)| (host.clone(), k.clone(), r.clone())));
                self.gateways.entry(port).or_default().entry(listener).or_default().extend(placed);
                self.accepted.push(route.words());
            }
        }
    }

    fn attach_stream(
        &mut self,
        route: &Route<'_>,
        gateways: &Gateways<'_>,
        backends: &[BackendRef],
        known: &Known<'_>,
    ) {
        let wanted = match route.kind {
            "TLSRoute" => GatewayProtocol::Tls,
            "UDPRoute" => GatewayProtocol::Udp,
            _ => GatewayProtocol::Tcp,
        };
        for parent in route.resource.spec.parents() {
            for (port, listener, hosts) in route.listeners(parent, gateways, |protocol| protocol == wanted) {
                self.accepted.push(route.words());
                for (number, backend) in backends.iter().enumerate() {
                    let known = known.name(route, &backend.into()).unwrap_or_default();
                    let key = Key::http(&Match::default(), route.age(0, number as u32));
                    let share: Name = format!("{known}={}", backend.weight.map_or(1, |w| w.get())).into();
                    let placed = hosts.iter().map(|host| (host.clone(), key.clone(), share.clone()));
                    self.streams.entry(port.clone()).or_default().entry(listener.clone()).or_default().extend(placed);
                }
            }
        }
    }
}

// === impl Known ===

impl Known<'_> {
    /// Who answers for the service, as `namespace/name`, if the route may refer to it and it exists.
    fn name(&self, route: &Route<'_>, backend: &BackendView<'_>) -> Option<String> {
        let namespace = backend.namespace.unwrap_or(route.namespace());
        let is_service = backend.kind == "Service" && backend.group.is_empty();
        // A consumer's route leads back to the service that it is for without a grant.
        let is_near = namespace == route.namespace() || namespace == "conformance";
        let kind = route.resource.key.kind;
        let permits = |(of, grant): &(&str, &ReferenceGrantSpec)| {
            *of == namespace && grant.permits(kind, route.namespace(), backend)
        };
        let name = format!("{namespace}/{}", backend.name);
        let is_permitted = is_service && (is_near || self.grants.iter().any(permits));
        self.services.get(&name).filter(|_| is_permitted).cloned()
    }
}

// === impl Route ===

impl Route<'_> {
    fn namespace(&self) -> &str {
        &self.resource.key.namespace
    }

    fn words(&self) -> String {
        format!("{}/{}/{}", self.kind, self.namespace(), self.resource.key.name)
    }

    fn age(&self, rule: u32, alternative: u32) -> Age {
        let key = &self.resource.key;
        Age { created: self.created, namespace: key.namespace.clone(), name: key.name.clone(), rule, alternative }
    }

    /// The listeners to which the route belongs: port, the listener's host, and the route's hosts.
    fn listeners(
        &self,
        parent: &ParentRef,
        gateways: &Gateways<'_>,
        speaks: impl Fn(GatewayProtocol) -> bool,
    ) -> Vec<(Port, HostPattern, Vec<HostPattern>)> {
        let Some((namespace, listeners)) = gateways.get(&parent.name).filter(|_| parent.is_gateway()) else {
            return vec![];
        };
        let written: Vec<HostPattern> = match self.resource.spec.hostnames() {
            [] => vec![HostPattern::Any],
            names => names.iter().map(|name| pattern(name)).collect(),
        };
        let chosen = listeners.iter().filter(|listener| {
            parent.section_name.as_ref().is_none_or(|name| *name == listener.name)
                && parent.port.is_none_or(|port| port == listener.port)
                && speaks(listener.protocol)
                && self.is_allowed(listener, namespace)
        });
        chosen
            .filter_map(|listener| {
                let host = host_of(listener);
                let meets = |written: &&HostPattern| leno_route::host::both(&host, written).is_some();
                let hosts: Vec<HostPattern> = written.iter().filter(meets).cloned().collect();
                (!hosts.is_empty()).then(|| ((parent.name.clone(), listener.port.get()), host, hosts))
            })
            .collect()
    }

    fn is_allowed(&self, listener: &GatewayListener, gateway_namespace: &str) -> bool {
        let allowed = listener.allowed_routes.clone().unwrap_or_default();
        let namespaces = allowed.namespaces.unwrap_or_default();
        let from = match namespaces.from {
            FromNamespaces::Same => self.namespace() == gateway_namespace,
            FromNamespaces::All => true,
            FromNamespaces::Selector => namespaces.selector.is_some_and(|selector| {
                selector.match_labels.get("kubernetes.io/metadata.name").is_some_and(|name| name == self.namespace())
            }),
        };
        from && (allowed.kinds.is_empty() || allowed.kinds.iter().any(|kind| kind.kind == self.kind))
    }
}

fn speaks_http(protocol: GatewayProtocol) -> bool {
    matches!(protocol, GatewayProtocol::Http | GatewayProtocol::Https)
}

fn gateway(resource: &Resource) -> Option<(String, (&str, &[GatewayListener]))> {
    let Spec::Gateway(spec) = &resource.spec else { return None };
    Some((resource.key.name.to_string(), (&*resource.key.namespace, spec.listeners.as_slice())))
}

fn grant(resource: &Resource) -> Option<(&str, &ReferenceGrantSpec)> {
    let Spec::ReferenceGrant(spec) = &resource.spec else { return None };
    Some((&*resource.key.namespace, spec))
}

fn parent_namespace<'a>(route: &'a Route<'_>, parent: &'a ParentRef) -> &'a str {
    parent.namespace.as_deref().unwrap_or(route.namespace())
}

fn host_of(listener: &GatewayListener) -> HostPattern {
    listener.hostname.as_deref().map_or(HostPattern::Any, pattern)
}

fn pattern(text: &str) -> HostPattern {
    text.strip_prefix("*.").map_or_else(|| HostPattern::Exact(text.into()), |suffix| HostPattern::Suffix(suffix.into()))
}

// === rules ===

fn http_rules(
    spec: &HttpRouteSpec,
    age: &dyn Fn(u32, u32) -> Age,
    route: &Route<'_>,
    known: &Known<'_>,
) -> Vec<(Key, Rule)> {
    let mut out = Vec::new();
    for (number, rule) in spec.rules.iter().enumerate() {
        let every = [HttpMatch::default()];
        let matches = if rule.matches.is_empty() { &every[..] } else { &rule.matches };
        for (alternative, written) in matches.iter().enumerate() {
            let when = http_match(written);
            let key = Key::http(&when, age(number as u32, alternative as u32));
            let backends = rule.backend_refs.iter().map(|backend| weighted(backend, route, known)).collect();
            out.push((key, finish(when, &rule.filters, backends, route)));
        }
    }
    out
}

fn grpc_rules(
    spec: &GrpcRouteSpec,
    age: &dyn Fn(u32, u32) -> Age,
    route: &Route<'_>,
    known: &Known<'_>,
) -> Vec<(Key, Rule)> {
    let mut out = Vec::new();
    for (number, rule) in spec.rules.iter().enumerate() {
        let every = [GrpcMatch::default()];
        let matches = if rule.matches.is_empty() { &every[..] } else { &rule.matches };
        // The filters and backends of both kinds of route are written alike.
        let filters: Vec<HttpFilter> = reread(&rule.filters);
        let backends: Vec<HttpBackendRef> = reread(&rule.backend_refs);
        for (alternative, written) in matches.iter().enumerate() {
            let method = written.method.clone().unwrap_or_default();
            let (service, call) = (method.service.as_deref(), method.method.as_deref());
            let path = match (service, call) {
                (Some(service), Some(call)) => PathMatch::Exact(format!("/{service}/{call}").into()),
                (Some(service), None) => PathMatch::Prefix(format!("/{service}").into()),
                (None, Some(call)) => PathMatch::Regex(format!("/[^/]+/{call}").into()),
                (None, None) => PathMatch::default(),
            };
            let headers: Vec<KeyMatch> = written.headers.iter().map(header_match).collect();
            let key = Key::grpc(service, call, headers.len(), age(number as u32, alternative as u32));
            let clusters = backends.iter().map(|backend| weighted(backend, route, known)).collect();
            out.push((key, finish(Match { path, headers, ..Match::default() }, &filters, clusters, route)));
        }
    }
    out
}

fn finish(when: Match, filters: &[HttpFilter], backends: Vec<WeightedCluster>, route: &Route<'_>) -> Rule {
    let redirect = filters.iter().find_map(|filter| filter.request_redirect.as_ref());
    let action = match redirect {
        Some(to) => Action::Redirect(Redirect {
            scheme: to.scheme.map(|scheme| format!("{scheme:?}").to_lowercase().into()),
            hostname: to.hostname.as_deref().map(Into::into),
            path: to.path.as_ref().map(path_rewrite),
            port: to.port.map(|port| port.get()),
            status: to.status_code.unwrap_or(302),
        }),
        None if backends.is_empty() => Action::Refuse { status: 500, reason: "no backend".into() },
        None => Action::Forward(backends),
    };
    let origin = Origin { resource: route.words().into(), rule: 0, name: None };
    let filters = filters.iter().filter_map(|filter| route_filter(filter, route)).collect();
    Rule { origin, when, filters, action, request_timeout: None, try_timeout: None, retry: None }
}

fn weighted(backend: &HttpBackendRef, route: &Route<'_>, known: &Known<'_>) -> WeightedCluster {
    WeightedCluster {
        cluster: known.name(route, &backend.into()).map(Into::into),
        weight: backend.weight.map_or(1, |weight| weight.get()),
        filters: backend.filters.iter().filter_map(|filter| route_filter(filter, route)).collect(),
        affinity: Default::default(),
        rate_limits: Default::default(),
        injections: Default::default(),
    }
}

fn route_filter(filter: &HttpFilter, route: &Route<'_>) -> Option<RouteFilter> {
    Some(match filter.r#type {
        HttpFilterType::RequestHeaderModifier => {
            RouteFilter::RequestHeaders(change(filter.request_header_modifier.as_ref()?))
        }
        HttpFilterType::ResponseHeaderModifier => {
            RouteFilter::ResponseHeaders(change(filter.response_header_modifier.as_ref()?))
        }
        HttpFilterType::RequestMirror => {
            let mirror = filter.request_mirror.as_ref()?;
            let percent = mirror.percent.map_or(100, |percent| percent.get());
            let share = mirror.fraction.as_ref().map_or((percent, 100), |share| (share.numerator, share.denominator));
            let cluster = format!("{}/{}", route.namespace(), mirror.backend_ref.name).into();
            RouteFilter::Mirror(Mirror { cluster, numerator: share.0, denominator: share.1 })
        }
        HttpFilterType::UrlRewrite => {
            let written = filter.url_rewrite.as_ref()?;
            RouteFilter::Rewrite(Rewrite {
                hostname: written.hostname.as_deref().map(Into::into),
                path: written.path.as_ref().map(path_rewrite),
            })
        }
        HttpFilterType::Cors => {
            let written = filter.cors.as_ref()?;
            RouteFilter::Cors(Cors {
                allow_origins: names(&written.allow_origins),
                allow_methods: names(&written.allow_methods),
                allow_headers: names(&written.allow_headers),
                expose_headers: names(&written.expose_headers),
                allow_credentials: written.allow_credentials.unwrap_or(false),
                max_age: Duration::from_secs(written.max_age.map_or(5, |age| u64::from(age.get()))),
            })
        }
        HttpFilterType::RequestRedirect => return None,
    })
}

fn http_match(written: &HttpMatch) -> Match {
    let path = written.path.as_ref().map_or_else(PathMatch::default, |path| match path.r#type {
        PathMatchType::Exact => PathMatch::Exact(path.value.as_str().into()),
        PathMatchType::PathPrefix => PathMatch::Prefix(path.value.as_str().into()),
        PathMatchType::RegularExpression => PathMatch::Regex(path.value.as_str().into()),
    });
    let query = written.query_params.iter();
    Match {
        path,
        method: written.method.as_deref().map(Into::into),
        headers: written.headers.iter().map(header_match).collect(),
        query: query.map(|key| key_match(key.name.clone(), key.r#type, &key.value)).collect(),
    }
}

fn header_match(written: &HeaderMatch) -> KeyMatch {
    key_match(written.name.to_lowercase(), written.r#type, &written.value)
}

fn key_match(name: String, kind: ValueMatchType, value: &str) -> KeyMatch {
    let value = match kind {
        ValueMatchType::Exact => ValueMatch::Exact(value.into()),
        ValueMatchType::RegularExpression => ValueMatch::Regex(value.into()),
    };
    KeyMatch { name: name.into(), value }
}

fn change(written: &HeaderModifier) -> HeaderChange {
    let pairs = |list: &[leno_model::resource::filter::Header]| {
        list.iter().map(|header| (Name::from(header.name.as_str()), Name::from(header.value.as_str()))).collect()
    };
    HeaderChange { set: pairs(&written.set), add: pairs(&written.add), remove: names(&written.remove) }
}

fn path_rewrite(written: &PathModifier) -> PathRewrite {
    match (&written.replace_full_path, &written.replace_prefix_match) {
        (Some(full), _) => PathRewrite::Full(full.as_str().into()),
        (None, prefix) => PathRewrite::Prefix(prefix.as_deref().unwrap_or_default().into()),
    }
}

fn names(texts: &[String]) -> Vec<Name> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

fn reread<T: serde::de::DeserializeOwned>(written: &impl serde::Serialize) -> T {
    serde_json::from_value(serde_json::to_value(written).unwrap()).unwrap()
}

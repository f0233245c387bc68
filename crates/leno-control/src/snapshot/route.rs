//! Route configurations: the rules of all routes of one parent, in the order in which they are tried.
//!
//! Without a route, everything goes to the service itself (`default`). As soon as one HTTPRoute or GRPCRoute belongs to
//! the service, what no rule matches is refused with 404, as the Gateway API has it for meshes. A route whose service is
//! in another namespace is a consumer route: it holds for callers of its own namespace, in place of the producer's.

use std::sync::Arc;
use std::time::Duration;

use leno_model::name::ServiceName;
use leno_model::resource::Spec;
use leno_model::resource::duration::GatewayDuration;
use leno_model::resource::grpc_route::{GrpcMatch, GrpcMethodMatch, GrpcRule};
use leno_model::resource::http_route::{
    HeaderMatch, HttpMatch, HttpRule, HttpTimeouts, PathMatchType, QueryMatch, ValueMatchType,
};
use leno_model::resource::kind::Kind;
use leno_model::resource::reference::{BackendView, ParentRef};
use leno_model::snapshot::{
    Action, HostPattern, KeyMatch, Match, Name, Origin, PathMatch, RouteConfig, Rule, ValueMatch, VirtualHost,
    WeightedCluster,
};
use leno_route::precedence::{Age, Key};

use super::name::{self, ClusterName};
use super::service::{Policy, PortView, ServiceView};
use super::{Context, View, filter, lane, resolve, retry, switch};
use crate::merge::{Entry, Topic};

/// A rule with its place among others.
pub(crate) type Sorted = (Key, Rule);

/// A route that belongs to a parent.
pub(crate) type Attached<'a> = (&'a Arc<Entry>, Vec<&'a ParentRef>);

pub(super) fn of_service(
    view: &View<'_>,
    name: &str,
    service: &ServiceName,
    number: u16,
    consumer: Option<&str>,
) -> Option<RouteConfig> {
    let found = view.service(service);
    let port = found.port(Some(number)).filter(|port| port.number == number)?;
    let rules = rules_of_service(view, &found, &port, consumer);
    Some(RouteConfig { name: name.into(), hosts: vec![VirtualHost { hostnames: vec![HostPattern::Any], rules }] })
}

/// The rules for one port of a service, in order.
pub(super) fn rules_of_service(
    view: &View<'_>,
    service: &ServiceView<'_>,
    port: &PortView,
    consumer: Option<&str>,
) -> Vec<Rule> {
    let routes = request_routes(attached(view, service, port, consumer));
    if routes.is_empty() {
        return in_lanes(view, default_rule(view, service, port)).collect();
    }
    let parent = Some((&service.name, port.number));
    let mut rules: Vec<Sorted> = routes.into_iter().flat_map(|(entry, _)| rules_of(view, entry, parent)).collect();
    rules.sort_by(|(a, _), (b, _)| a.cmp(b));
    rules.into_iter().map(|(_, rule)| rule).collect()
}

/// The routes of one port of a service for callers in namespace `consumer`, if that has routes of its own for it, else
/// the producer's.
pub(crate) fn attached<'a>(
    view: &View<'a>,
    service: &ServiceView<'_>,
    port: &PortView,
    consumer: Option<&str>,
) -> Vec<Attached<'a>> {
    let namespace = consumer.unwrap_or(&service.name.namespace);
    let mut routes = view.routes_of(&Topic::Service(service.name.clone()));
    routes.retain_mut(|(entry, parents)| {
        parents.retain(|parent| service.is_meant(parent, port));
        &*entry.resource.key.namespace == namespace && !parents.is_empty()
    });
    routes
}

/// Those that route requests.
pub(super) fn request_routes(mut routes: Vec<Attached<'_>>) -> Vec<Attached<'_>> {
    routes.retain(|(entry, _)| matches!(entry.resource.key.kind, Kind::HttpRoute | Kind::GrpcRoute));
    routes
}

/// The rule, and before it those for requests of lanes. They have its place among others.
fn in_lanes(view: &View<'_>, rule: Rule) -> impl Iterator<Item = Rule> + use<> {
    lane::rules(view, &rule).into_iter().chain(std::iter::once(rule))
}

/// What leno does without a route: everything goes to the service.
fn default_rule(view: &View<'_>, service: &ServiceView<'_>, port: &PortView) -> Rule {
    let policy = view.policy_of(&service.name);
    let cluster = ClusterName { service: service.name.clone(), port: port.number, version: None }.render();
    let mut rule = Rule {
        origin: Origin { resource: "default".into(), rule: 0, name: None },
        when: Match::default(),
        filters: Vec::new(),
        action: Action::Forward(vec![WeightedCluster {
            cluster: Some(cluster),
            weight: 1,
            filters: Vec::new(),
            affinity: policy.affinity,
            rate_limits: policy.rate_limits_at_caller.of(&service.name),
            injections: view.injections_of(&service.name),
        }]),
        request_timeout: policy.request_timeout,
        try_timeout: policy.try_timeout,
        retry: policy.retry,
    };
    switch::degrade(view, &mut rule, None, Some(&service.name));
    rule
}

/// The rules of one HTTPRoute or GRPCRoute: one for each match of each rule.
pub(crate) fn rules_of(view: &View<'_>, entry: &Arc<Entry>, parent: Option<(&ServiceName, u16)>) -> Vec<Sorted> {
    let context = Context { route: &entry.resource.key, parent };
    match &entry.resource.spec {
        Spec::HttpRoute(route) => {
            route.rules.iter().enumerate().flat_map(|(i, rule)| http_rule(view, &context, entry, i, rule)).collect()
        }
        Spec::GrpcRoute(route) => {
            route.rules.iter().enumerate().flat_map(|(i, rule)| grpc_rule(view, &context, entry, i, rule)).collect()
        }
        _ => Vec::new(),
    }
}

fn http_rule(view: &View<'_>, context: &Context<'_>, entry: &Entry, index: usize, written: &HttpRule) -> Vec<Sorted> {
    let backends: Vec<WeightedCluster> = written
        .backend_refs
        .iter()
        .map(|backend| weighted(view, context, backend.into(), filter::http(view, context, &backend.filters)))
        .collect();
    let service = service_of(context, written.backend_refs.iter().map(BackendView::from));
    let policy = service.as_ref().map(|service| view.policy_of(service));
    let action = match filter::redirect(&written.filters) {
        Some(redirect) => Action::Redirect(redirect),
        None => forward(backends),
    };
    let timeouts = written.timeouts.clone().unwrap_or_default();
    let mut rule = Rule {
        origin: origin(entry, index, written.name.as_deref()),
        when: Match::default(),
        filters: filter::http(view, context, &written.filters),
        action,
        request_timeout: request_timeout(&timeouts, policy.as_ref()),
        try_timeout: try_timeout(&timeouts, policy.as_ref()),
        retry: retry::of_rule(written.retry.as_ref(), policy.and_then(|policy| policy.retry)),
    };
    switch::degrade(view, &mut rule, Some(entry), service.as_ref());
    let matches = if written.matches.is_empty() { &[HttpMatch::default()][..] } else { &written.matches };
    let sorted = matches.iter().enumerate().flat_map(|(alternative, written)| {
        let when = http_match(written);
        let key = Key::http(&when, age(entry, index, alternative));
        in_lanes(view, Rule { when, ..rule.clone() }).map(move |rule| (key.clone(), rule))
    });
    sorted.collect()
}

fn grpc_rule(view: &View<'_>, context: &Context<'_>, entry: &Entry, index: usize, written: &GrpcRule) -> Vec<Sorted> {
    let backends: Vec<WeightedCluster> = written
        .backend_refs
        .iter()
        .map(|backend| weighted(view, context, backend.into(), filter::grpc(view, context, &backend.filters)))
        .collect();
    let service = service_of(context, written.backend_refs.iter().map(BackendView::from));
    let policy = service.as_ref().map(|service| view.policy_of(service));
    let mut rule = Rule {
        origin: origin(entry, index, written.name.as_deref()),
        when: Match::default(),
        filters: filter::grpc(view, context, &written.filters),
        action: forward(backends),
        request_timeout: policy.as_ref().and_then(|policy| policy.request_timeout),
        try_timeout: policy.as_ref().and_then(|policy| policy.try_timeout),
        retry: policy.and_then(|policy| policy.retry),
    };
    switch::degrade(view, &mut rule, Some(entry), service.as_ref());
    let matches = if written.matches.is_empty() { &[GrpcMatch::default()][..] } else { &written.matches };
    let sorted = matches.iter().enumerate().flat_map(|(alternative, written)| {
        let (service, method) = match &written.method {
            Some(method) => (method.service.as_deref(), method.method.as_deref()),
            None => (None, None),
        };
        let key = Key::grpc(service, method, written.headers.len(), age(entry, index, alternative));
        let rule = Rule { when: grpc_match(written), ..rule.clone() };
        in_lanes(view, rule).map(move |rule| (key.clone(), rule))
    });
    sorted.collect()
}

/// A destination with its share; one that cannot be resolved keeps its share, which is answered with 500.
pub(super) fn weighted(
    view: &View<'_>,
    context: &Context<'_>,
    backend: BackendView<'_>,
    filters: Vec<leno_model::snapshot::RouteFilter>,
) -> WeightedCluster {
    let weight = backend.weight;
    let cluster = resolve(view, context, backend).ok();
    let service = cluster.as_deref().and_then(ClusterName::parse).map(|name| name.service);
    let of_policy = service.map(|service| {
        let policy = view.policy_of(&service);
        (policy.affinity, policy.rate_limits_at_caller.of(&service), view.injections_of(&service))
    });
    let (affinity, rate_limits, injections) = of_policy.unwrap_or_default();
    WeightedCluster { cluster, weight, filters, affinity, rate_limits, injections }
}

fn forward(backends: Vec<WeightedCluster>) -> Action {
    if backends.is_empty() {
        return Action::Refuse { status: 500, reason: "the rule has no backend".into() };
    }
    if backends.iter().all(|backend| backend.cluster.is_none()) {
        return Action::Refuse { status: 500, reason: "no backend of the rule exists".into() };
    }
    Action::Forward(backends)
}

/// The service that the request was for: the parent, or at a gateway the one service behind the rule.
pub(super) fn service_of<'b>(
    context: &Context<'_>,
    backends: impl Iterator<Item = BackendView<'b>>,
) -> Option<ServiceName> {
    if let Some((service, _)) = context.parent {
        return Some(service.clone());
    }
    let own = &*context.route.namespace;
    let named = |backend: BackendView<'b>| Some((backend.namespace, backend.service()?.0));
    let mut services: Vec<(Option<&str>, &str)> = backends.filter_map(named).collect();
    services.dedup();
    match services[..] {
        [(namespace, only)] => ServiceName::new(namespace.unwrap_or(own), only).ok(),
        _ => None,
    }
}

fn request_timeout(timeouts: &HttpTimeouts, policy: Option<&Policy>) -> Option<Duration> {
    match timeouts.request {
        Some(_) => limit(timeouts.request),
        None => policy.and_then(|policy| policy.request_timeout),
    }
}

fn try_timeout(timeouts: &HttpTimeouts, policy: Option<&Policy>) -> Option<Duration> {
    match timeouts.backend_request {
        Some(_) => limit(timeouts.backend_request),
        None => policy.and_then(|policy| policy.try_timeout),
    }
}

/// A time as a limit: zero is without one.
fn limit(time: Option<GatewayDuration>) -> Option<Duration> {
    time.map(|time| time.0).filter(|time| !time.is_zero())
}

pub(super) fn origin(entry: &Entry, index: usize, name: Option<&str>) -> Origin {
    Origin { resource: entry.resource.key.to_string().into(), rule: index as u32, name: name.map(Into::into) }
}

pub(super) fn age(entry: &Entry, rule: usize, alternative: usize) -> Age {
    Age {
        created: entry.created,
        namespace: entry.resource.key.namespace.clone(),
        name: entry.resource.key.name.clone(),
        rule: rule as u32,
        alternative: alternative as u32,
    }
}

pub(super) fn http_match(written: &HttpMatch) -> Match {
    let path = match &written.path {
        None => PathMatch::default(),
        Some(path) => match path.r#type {
            PathMatchType::Exact => PathMatch::Exact(path.value.as_str().into()),
            PathMatchType::PathPrefix => PathMatch::Prefix(path.value.as_str().into()),
            PathMatchType::RegularExpression => PathMatch::Regex(path.value.as_str().into()),
        },
    };
    let query = |query: &QueryMatch| KeyMatch {
        name: query.name.as_str().into(),
        value: value_match(query.r#type, &query.value),
    };
    Match {
        path,
        method: written.method.as_deref().map(Into::into),
        headers: written.headers.iter().map(header_match).collect(),
        query: written.query_params.iter().map(query).collect(),
    }
}

fn grpc_match(written: &GrpcMatch) -> Match {
    Match {
        path: written.method.as_ref().map(grpc_path).unwrap_or_default(),
        method: None,
        headers: written.headers.iter().map(header_match).collect(),
        query: Vec::new(),
    }
}

/// Service and method as a condition on the path `/service/method`.
fn grpc_path(written: &GrpcMethodMatch) -> PathMatch {
    let (service, method) = (written.service.as_deref(), written.method.as_deref());
    match (written.r#type, service, method) {
        (_, None, None) => PathMatch::default(),
        (ValueMatchType::Exact, Some(service), Some(method)) => PathMatch::Exact(format!("/{service}/{method}").into()),
        (ValueMatchType::Exact, Some(service), None) => PathMatch::Prefix(format!("/{service}").into()),
        // Names of gRPC methods have no character that means anything in an expression.
        (ValueMatchType::Exact, None, Some(method)) => PathMatch::Regex(format!("/[^/]+/{method}").into()),
        (ValueMatchType::RegularExpression, service, method) => {
            let group = |part: Option<&str>| part.map_or_else(|| "[^/]+".to_owned(), |part| format!("(?:{part})"));
            PathMatch::Regex(format!("/{}/{}", group(service), group(method)).into())
        }
    }
}

fn header_match(header: &HeaderMatch) -> KeyMatch {
    KeyMatch { name: header.name.to_ascii_lowercase().into(), value: value_match(header.r#type, &header.value) }
}

fn value_match(r#type: ValueMatchType, value: &str) -> ValueMatch {
    match r#type {
        ValueMatchType::Exact => ValueMatch::Exact(value.into()),
        ValueMatchType::RegularExpression => ValueMatch::Regex(value.into()),
    }
}

/// The name of the route configuration for a caller, who may have routes of their own.
pub(super) fn config_name(view: &View<'_>, service: &ServiceView<'_>, port: &PortView, caller: &str) -> Name {
    let foreign = caller != &*service.name.namespace;
    let own = foreign && !request_routes(attached(view, service, port, Some(caller))).is_empty();
    name::routes(&service.name, port.number, own.then_some(caller))
}

//! What each resource came to: accepted by its parents or not, its references resolved or not, hidden by an older one.
//!
//! Computed when somebody asks, from the same functions that build snapshots, so that the two cannot disagree. Reasons are
//! the Gateway API's where it has one.

use std::sync::Arc;

use leno_model::name::ServiceName;
use leno_model::resource::Spec;
use leno_model::resource::backend_tls_policy::{BackendTlsPolicySpec, PortTargetRef};
use leno_model::resource::gateway::{ClientMode, GatewayListener, GatewaySpec, hosts_meet};
use leno_model::resource::kind::{Kind, ResourceKey};
use leno_model::resource::lane::{LaneSpec, LaneVersion};
use leno_model::resource::number::Port;
use leno_model::resource::reference::{BackendView, ParentRef, TargetRef};
use leno_model::resource::switch::SwitchSpec;
use leno_model::snapshot::Match;
use serde::Serialize;

use crate::Directory;
use crate::merge::{Entry, Merged, Topic, age, parent_topic};
use crate::snapshot::{Attached, Context, ServiceView, Unresolved, View, attached, lane_condition, resolve, rules_of};

/// The condition that says whether a switch is on, which is neither good nor bad.
const ON: &str = "On";

/// What a resource came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResourceStatus {
    /// The resource.
    pub resource: ResourceKey,
    /// What it came to as a whole.
    pub conditions: Vec<Condition>,
    /// What it came to with each parent, target or listener.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<ParentStatus>,
}

/// What a resource came to with one parent, target or listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParentStatus {
    /// Which: `service shop/cart`, `gateway shop/edge (web)`, `listener web`.
    pub parent: String,
    /// What it came to.
    pub conditions: Vec<Condition>,
}

/// One statement about a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// What it is about: `Accepted`, `ResolvedRefs`, `Conflicted`, `Programmed`, `InsecureFrontendValidationMode`, `On`.
    pub r#type: &'static str,
    /// Whether it holds.
    pub status: bool,
    /// One word.
    pub reason: &'static str,
    /// More words; empty where there is nothing to add.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// What `entry` came to.
pub(crate) fn of(merged: &Merged, directory: &dyn Directory, entry: &Arc<Entry>) -> ResourceStatus {
    let view = View::new(merged, directory);
    let parents: Vec<ParentStatus> = match &entry.resource.spec {
        Spec::ReferenceGrant(_) | Spec::Service(_) | Spec::SwitchState(_) => Vec::new(),
        Spec::Lane(spec) => lane(merged, &view, entry, spec),
        Spec::Gateway(spec) => gateway(&view, entry, spec),
        Spec::TrafficPolicy(spec) => policy(&view, entry, &spec.target_refs, |service| {
            merged.policies_of(service).first().map(|(first, _)| first.resource.key.clone())
        }),
        Spec::FaultPolicy(spec) => policy(&view, entry, &spec.target_refs, |service| {
            merged.fault_policies_of(service).first().map(|(first, _)| first.resource.key.clone())
        }),
        Spec::Switch(spec) => switch(merged, &view, entry, spec),
        Spec::BackendTlsPolicy(spec) => tls_policy(merged, &view, entry, spec),
        spec => spec.parents().iter().map(|parent| route(&view, entry, parent)).collect(),
    };
    let mut conditions = whole(&parents);
    if let Spec::Gateway(spec) = &entry.resource.spec {
        conditions.extend(insecure_clients(spec));
    }
    if let Spec::Switch(_) = &entry.resource.spec {
        conditions.push(turned(merged, &entry.resource.key));
    }
    ResourceStatus { resource: entry.resource.key.clone(), conditions, parents }
}

// === impl ResourceStatus ===

impl ResourceStatus {
    /// Whether it does all that it says.
    pub fn is_good(&self) -> bool {
        let is_good =
            |condition: &Condition| condition.r#type == ON || condition.status != (condition.r#type == "Conflicted");
        self.conditions.iter().all(is_good)
    }
}

/// The conditions of a resource from those of its parents: it is accepted if all of them accept it.
fn whole(parents: &[ParentStatus]) -> Vec<Condition> {
    let mut conditions = vec![good("Accepted", "Accepted")];
    for parent in parents {
        for condition in &parent.conditions {
            let is_bad = condition.status == (condition.r#type == "Conflicted");
            let message = format!("{}: {}", parent.parent, condition.message);
            match conditions.iter_mut().find(|known| known.r#type == condition.r#type) {
                Some(known) if is_bad && known.status != (known.r#type == "Conflicted") => {
                    *known = Condition { message, ..condition.clone() };
                }
                Some(_) => {}
                None if is_bad => conditions.push(Condition { message, ..condition.clone() }),
                None => conditions.push(Condition { message: String::new(), ..condition.clone() }),
            }
        }
    }
    conditions
}

fn good(r#type: &'static str, reason: &'static str) -> Condition {
    Condition { r#type, status: true, reason, message: String::new() }
}

fn bad(r#type: &'static str, reason: &'static str, message: impl Into<String>) -> Condition {
    Condition { r#type, status: false, reason, message: message.into() }
}

fn conflicted(message: String) -> Condition {
    Condition { r#type: "Conflicted", status: true, reason: "OlderTakesPrecedence", message }
}

// === routes ===

fn route(view: &View<'_>, entry: &Arc<Entry>, parent: &ParentRef) -> ParentStatus {
    let namespace = parent.namespace.as_deref().unwrap_or(&entry.resource.key.namespace);
    let section = parent.section_name.as_deref().map(|section| format!(" ({section})")).unwrap_or_default();
    let port = parent.port.map(|port| format!(":{port}")).unwrap_or_default();
    let name = format!("{} {namespace}/{}{port}{section}", parent.kind.to_lowercase(), parent.name);
    let conditions = match parent_topic(&entry.resource.key.namespace, parent) {
        Some(Topic::Service(_)) if entry.resource.key.kind == Kind::UdpRoute => {
            vec![bad("Accepted", "UnsupportedProtocol", "leno carries UDP from gateways alone")]
        }
        Some(Topic::Service(service)) => with_service(view, entry, parent, &service),
        Some(Topic::Gateway(namespace, gateway)) => with_gateway(view, entry, parent, &namespace, &gateway),
        _ => vec![bad("Accepted", "InvalidKind", "cannot be a parent")],
    };
    ParentStatus { parent: name, conditions }
}

fn with_service(view: &View<'_>, entry: &Arc<Entry>, parent: &ParentRef, name: &ServiceName) -> Vec<Condition> {
    let service = view.service(name);
    if !service.exists() {
        return vec![bad("Accepted", "NoMatchingParent", "the service is neither declared nor registered")];
    }
    let candidates = match parent.port {
        Some(port) => service.port(Some(port.get())).into_iter().collect(),
        None => service.ports(),
    };
    let ports: Vec<_> = candidates.into_iter().filter(|port| service.is_meant(parent, port)).collect();
    if ports.is_empty() {
        return vec![bad("Accepted", "NoMatchingParent", "the service has no such port")];
    }
    let own = &entry.resource.key.namespace;
    let consumer = (*own != name.namespace).then_some(&**own);
    let mut conditions = vec![good("Accepted", "Accepted")];
    let unresolved = ports.iter().find_map(|port| unresolved(view, entry, Some((name, port.number))));
    conditions.push(resolved(unresolved));
    let hidden = ports.iter().find_map(|port| {
        let others = attached(view, &service, port, consumer);
        hidden_by(view, entry, &others, Some((name, port.number)))
    });
    conditions.extend(hidden.map(conflicted));
    conditions
}

fn with_gateway(
    view: &View<'_>,
    entry: &Arc<Entry>,
    parent: &ParentRef,
    namespace: &str,
    name: &str,
) -> Vec<Condition> {
    let key = &entry.resource.key;
    let Some(spec) = view.gateway_spec(namespace, name) else {
        return vec![bad("Accepted", "NoMatchingParent", "there is no such gateway")];
    };
    let refused = |reason, message| vec![bad("Accepted", reason, message)];
    let mut listeners: Vec<&GatewayListener> = spec.listeners.iter().filter(|l| parent.selects(l)).collect();
    if listeners.is_empty() {
        return refused("NoMatchingParent", "the gateway has no such listener");
    }
    listeners.retain(|listener| listener.takes_kind(key.kind) && listener.takes_namespace(namespace, &key.namespace));
    if listeners.is_empty() {
        return refused("NotAllowedByListeners", "no listener takes routes of this kind and namespace");
    }
    let hostnames = entry.resource.spec.hostnames();
    let meets = |own: &String| hostnames.is_empty() || hostnames.iter().any(|host| hosts_meet(own, host));
    listeners.retain(|listener| listener.hostname.as_ref().is_none_or(meets));
    if listeners.is_empty() {
        return refused("NoMatchingListenerHostname", "no listener takes any of its host names");
    }
    let mut conditions = vec![good("Accepted", "Accepted"), resolved(unresolved(view, entry, None))];
    let hidden = listeners.iter().find_map(|listener| {
        let others = crate::snapshot::gateway_routes(view, namespace, name, listener);
        hidden_by(view, entry, &others, None)
    });
    conditions.extend(hidden.map(conflicted));
    conditions
}

fn resolved(unresolved: Option<Unresolved>) -> Condition {
    match unresolved {
        Some(Unresolved { reason, message }) => bad("ResolvedRefs", reason, message),
        None => good("ResolvedRefs", "ResolvedRefs"),
    }
}

/// The first backend that leads nowhere.
fn unresolved(view: &View<'_>, entry: &Entry, parent: Option<(&ServiceName, u16)>) -> Option<Unresolved> {
    let context = Context { route: &entry.resource.key, parent };
    backends(&entry.resource.spec).into_iter().find_map(|backend| resolve(view, &context, backend).err())
}

fn backends(spec: &Spec) -> Vec<BackendView<'_>> {
    match spec {
        Spec::HttpRoute(route) => {
            let forwarded = route.rules.iter().flat_map(|rule| &rule.backend_refs).map(BackendView::from);
            let filters = route.rules.iter().flat_map(|rule| &rule.filters);
            forwarded
                .chain(filters.filter_map(|f| f.request_mirror.as_ref()).map(|m| (&m.backend_ref).into()))
                .collect()
        }
        Spec::GrpcRoute(route) => {
            let forwarded = route.rules.iter().flat_map(|rule| &rule.backend_refs).map(BackendView::from);
            let filters = route.rules.iter().flat_map(|rule| &rule.filters);
            forwarded
                .chain(filters.filter_map(|f| f.request_mirror.as_ref()).map(|m| (&m.backend_ref).into()))
                .collect()
        }
        Spec::TcpRoute(route) => route.rules.iter().flat_map(|rule| &rule.backend_refs).map(Into::into).collect(),
        Spec::TlsRoute(route) => route.rules.iter().flat_map(|rule| &rule.backend_refs).map(Into::into).collect(),
        Spec::UdpRoute(route) => route.rules.iter().flat_map(|rule| &rule.backend_refs).map(Into::into).collect(),
        Spec::Gateway(_)
        | Spec::ReferenceGrant(_)
        | Spec::BackendTlsPolicy(_)
        | Spec::Service(_)
        | Spec::TrafficPolicy(_)
        | Spec::FaultPolicy(_)
        | Spec::Switch(_)
        | Spec::SwitchState(_)
        | Spec::Lane(_) => Vec::new(),
    }
}

/// Which older route of the same parent takes what a rule of this one would match.
fn hidden_by(
    view: &View<'_>,
    entry: &Arc<Entry>,
    others: &[Attached<'_>],
    parent: Option<(&ServiceName, u16)>,
) -> Option<String> {
    let older = others
        .iter()
        .map(|(other, _)| *other)
        .filter(|other| age(other) < age(entry) && other.resource.key != entry.resource.key);
    match &entry.resource.spec {
        Spec::HttpRoute(_) | Spec::GrpcRoute(_) => {
            let own: Vec<Match> = rules_of(view, entry, parent).into_iter().map(|(_, rule)| rule.when).collect();
            older.filter(|other| share_hosts(entry, other, parent.is_some())).find_map(|other| {
                let theirs = rules_of(view, other, parent);
                let hidden = own.iter().find(|when| theirs.iter().any(|(_, rule)| rule.when == **when))?;
                let path = match &hidden.path {
                    leno_model::snapshot::PathMatch::Exact(path)
                    | leno_model::snapshot::PathMatch::Prefix(path)
                    | leno_model::snapshot::PathMatch::Regex(path) => path.clone(),
                };
                Some(format!("{} is older and takes the same requests (path {path})", other.resource.key))
            })
        }
        Spec::TcpRoute(_) | Spec::TlsRoute(_) | Spec::UdpRoute(_) => older
            .filter(|other| other.resource.key.kind == entry.resource.key.kind)
            .find(|other| share_hosts(entry, other, false))
            .map(|other| format!("{} is older and takes the same connections", other.resource.key)),
        _ => None,
    }
}

fn share_hosts(a: &Entry, b: &Entry, ignored: bool) -> bool {
    let (a, b) = (a.resource.spec.hostnames(), b.resource.spec.hostnames());
    ignored || (a.is_empty() && b.is_empty()) || a.iter().any(|host| b.contains(host))
}

// === gateways and policies ===

fn gateway(view: &View<'_>, entry: &Arc<Entry>, spec: &GatewaySpec) -> Vec<ParentStatus> {
    let key = &entry.resource.key;
    let listener = |listener: &GatewayListener| {
        let routes = crate::snapshot::gateway_routes(view, &key.namespace, &key.name, listener).len();
        let programmed = Condition { message: format!("{routes} routes"), ..good("Programmed", "Programmed") };
        let in_vain: Vec<&str> = listener.kinds_in_vain().map(Kind::as_str).collect();
        let message = || format!("the protocol carries no routes of kind {}", in_vain.join(", "));
        let invalid = (!in_vain.is_empty()).then(|| bad("ResolvedRefs", "InvalidRouteKinds", message()));
        ParentStatus {
            parent: format!("listener {} (port {})", listener.name, Port::get(listener.port)),
            conditions: [programmed].into_iter().chain(invalid).collect(),
        }
    };
    spec.listeners.iter().map(listener).collect()
}

/// Whether clients without a valid certificate are served where they are asked for one.
fn insecure_clients(spec: &GatewaySpec) -> Option<Condition> {
    let mode = |listener: &&GatewayListener| spec.client_validation(listener.port).map(|validation| validation.mode);
    let insecure = |listener: &&GatewayListener| mode(listener) == Some(ClientMode::AllowInsecureFallback);
    let ends_tls = spec.listeners.iter().filter(|listener| listener.ends_tls());
    let names: Vec<&str> = ends_tls.filter(insecure).map(|listener| listener.name.as_str()).collect();
    let message = || format!("listeners {} serve clients without a valid certificate", names.join(", "));
    let said = good("InsecureFrontendValidationMode", "ConfigurationChanged");
    (!names.is_empty()).then(|| Condition { message: message(), ..said })
}

fn tls_policy(merged: &Merged, view: &View<'_>, entry: &Arc<Entry>, spec: &BackendTlsPolicySpec) -> Vec<ParentStatus> {
    let namespace = &entry.resource.key.namespace;
    let target = |reference: &PortTargetRef| {
        let service = ServiceName { namespace: namespace.clone(), name: reference.name.as_str().into() };
        let mut conditions = vec![if view.service(&service).exists() {
            good("Accepted", "Accepted")
        } else {
            bad("Accepted", "TargetNotFound", "the service is neither declared nor registered")
        }];
        let section = reference.section_name.as_deref();
        let first = merged.tls_policy_of(&service, section).map(|(first, _)| first.resource.key.clone());
        let other = first.filter(|first| *first != entry.resource.key);
        conditions.extend(other.map(|first| conflicted(format!("{first} comes before it and is in force"))));
        let port = section.map(|section| format!(" (port {section})")).unwrap_or_default();
        ParentStatus { parent: format!("service {namespace}/{}{port}", reference.name), conditions }
    };
    spec.target_refs.iter().map(target).collect()
}

/// Of a policy for services, of which the one that is `in_force` holds for each.
fn policy(
    view: &View<'_>,
    entry: &Arc<Entry>,
    targets: &[TargetRef],
    in_force: impl Fn(&ServiceName) -> Option<ResourceKey>,
) -> Vec<ParentStatus> {
    let namespace = &entry.resource.key.namespace;
    let target = |name: &str| {
        let service = ServiceName { namespace: namespace.clone(), name: name.into() };
        let found: ServiceView<'_> = view.service(&service);
        let mut conditions = vec![if found.exists() {
            good("Accepted", "Accepted")
        } else {
            bad("Accepted", "TargetNotFound", "the service is neither declared nor registered")
        }];
        let older = in_force(&service).filter(|first| *first != entry.resource.key);
        conditions.extend(older.map(|first| conflicted(format!("{first} is older and in force"))));
        ParentStatus { parent: format!("service {namespace}/{name}"), conditions }
    };
    targets.iter().map(|reference| target(&reference.name)).collect()
}

// === lanes and switches ===

fn lane(merged: &Merged, view: &View<'_>, entry: &Arc<Entry>, spec: &LaneSpec) -> Vec<ParentStatus> {
    let namespace = &entry.resource.key.namespace;
    let of_version = |LaneVersion { name, version }: &LaneVersion| {
        let service = ServiceName { namespace: namespace.clone(), name: name.as_str().into() };
        let found = view.service(&service);
        let condition = if !found.exists() {
            bad("Accepted", "TargetNotFound", "the service is neither declared nor registered")
        } else if !found.ports().iter().any(|port| found.takes_requests(version, port)) {
            bad(
                "Accepted",
                "NoInstance",
                "no instance of this version takes requests: the others of the service get those of the lane",
            )
        } else {
            good("Accepted", "Accepted")
        };
        let same_tag = |other: &&(&Arc<Entry>, &LaneSpec)| {
            age(other.0) < age(entry) && lane_condition(&other.1.tag) == lane_condition(&spec.tag)
        };
        let older = merged.lanes_of(&service).iter().find(same_tag).map(|(older, _)| older.resource.key.clone());
        let hidden = older.map(|older| conflicted(format!("{older} is older and has the same tag for this service")));
        let conditions = std::iter::once(condition).chain(hidden).collect();
        ParentStatus { parent: format!("service {namespace}/{name}@{version}"), conditions }
    };
    spec.versions.iter().map(of_version).collect()
}

fn switch(merged: &Merged, view: &View<'_>, entry: &Arc<Entry>, spec: &SwitchSpec) -> Vec<ParentStatus> {
    let target = |key: ResourceKey, section: Option<&str>| {
        let found = merged.get(&key);
        let service = ServiceName { namespace: key.namespace.clone(), name: key.name.clone() };
        let condition = match found {
            Some(found) if found.resource.metadata.is_protected() => bad("Accepted", "Protected", "it is protected"),
            Some(found) if section.is_some_and(|section| !found.resource.spec.rule_names().contains(&section)) => {
                bad("Accepted", "UnknownSection", "the route has no rule of this name")
            }
            Some(_) => good("Accepted", "Accepted"),
            None if key.kind == Kind::Service && view.service(&service).exists() => good("Accepted", "Accepted"),
            None => bad("Accepted", "TargetNotFound", "there is no such resource"),
        };
        let section = section.map(|section| format!(" ({section})")).unwrap_or_default();
        let parent = format!("{} {}/{}{section}", key.kind.lower(), key.namespace, key.name);
        ParentStatus { parent, conditions: vec![condition] }
    };
    spec.target_refs
        .iter()
        .map(|reference| target(reference.key(&entry.resource.key.namespace), reference.section_name.as_deref()))
        .collect()
}

/// Whether a switch is on, who turned it, and when it turns next.
fn turned(merged: &Merged, key: &ResourceKey) -> Condition {
    let Some((state, spec, on)) = merged.switch_state(key) else {
        return Condition { r#type: ON, status: false, reason: "NeverTurned", message: String::new() };
    };
    let mut message = format!("by {} at {}", state.author, state.updated.rfc3339());
    for (word, moment) in [("from", spec.from), ("until", spec.until)] {
        if let Some(moment) = moment {
            message.push_str(&format!(", {word} {moment}"));
        }
    }
    let reason = if spec.from.is_some() || spec.until.is_some() { "Scheduled" } else { "Turned" };
    Condition { r#type: ON, status: on, reason, message }
}

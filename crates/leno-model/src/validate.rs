//! Whether resources make sense: each for itself, together as a set, and with what exists beside the set.
//!
//! Everything is checked and reported together, so that one round mends all of it. What only the world outside decides
//! (a service that nobody registered yet) is a warning and becomes the resource's status; what can never work is an
//! error and refuses the set. Pure: what exists comes in through [`Known`].

mod backend_tls_policy;
mod conflict;
mod degradation;
mod fault_policy;
mod filter;
mod gateway;
mod lane;
mod load_balancer;
mod locality;
mod metadata;
mod overload;
mod rate_limit;
mod reference;
mod reference_grant;
mod reply;
mod resilience;
mod retry;
mod route;
mod service;
mod switch;
mod text;
mod traffic_policy;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::document::Written;
use crate::fault::{self, Fault, FaultClass};
use crate::name::ServiceName;
use crate::resource::gateway::GatewaySpec;
use crate::resource::kind::ResourceKey;
use crate::resource::number::Port;
use crate::resource::reference::BackendView;
use crate::resource::reference_grant::ReferenceGrantSpec;
use crate::resource::service::ServiceSpec;
use crate::resource::traffic_policy::TrafficPolicySpec;
use crate::resource::{Resource, Spec};

/// What exists beside the set: resources of other sets, and what the registry knows.
pub trait Known {
    /// A service, declared or registered.
    fn service(&self, name: &ServiceName) -> Option<KnownService>;
    /// A gateway.
    fn gateway(&self, namespace: &str, name: &str) -> Option<GatewaySpec>;
    /// The grants of a namespace, by name.
    fn grants(&self, namespace: &str) -> Vec<(Arc<str>, ReferenceGrantSpec)>;
    /// A resource.
    fn resource(&self, key: &ResourceKey) -> Option<Resource>;
    /// The switches that name a resource.
    fn switches_of(&self, target: &ResourceKey) -> Vec<ResourceKey>;
    /// The traffic policies of a service, the one in force first.
    fn policies_of(&self, service: &ServiceName) -> Vec<(ResourceKey, TrafficPolicySpec)>;
}

/// Nothing exists beside the set: for `check` without a server.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nothing;

/// A service as references see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownService {
    /// Its ports, if it is declared; none for one that is only registered, which answers on any port of its instances.
    pub declared: Option<Vec<KnownPort>>,
}

/// A port of a declared service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPort {
    /// The number.
    pub number: u16,
    /// The name, if it has one.
    pub name: Option<Arc<str>>,
}

/// All faults of a set, in the order of reading.
pub fn validate(set: &[Written], known: &dyn Known) -> Vec<Fault> {
    let index = Index::of(set, known);
    let mut faults = Vec::new();
    for written in set {
        let mut check = Check { written, index: &index, faults: &mut faults };
        metadata::check(&mut check);
        switch::protection(&mut check);
        match &written.resource.spec {
            Spec::Gateway(spec) => gateway::check(&mut check, spec),
            Spec::HttpRoute(spec) => route::http(&mut check, spec),
            Spec::GrpcRoute(spec) => route::grpc(&mut check, spec),
            Spec::TcpRoute(spec) => route::l4(&mut check, &spec.parent_refs, &spec.rules),
            Spec::TlsRoute(spec) => route::tls(&mut check, spec),
            Spec::UdpRoute(spec) => route::udp(&mut check, spec),
            Spec::ReferenceGrant(spec) => reference_grant::check(&mut check, spec),
            Spec::BackendTlsPolicy(spec) => backend_tls_policy::check(&mut check, spec),
            Spec::Service(spec) => service::check(&mut check, spec),
            Spec::TrafficPolicy(spec) => traffic_policy::check(&mut check, spec),
            Spec::Switch(spec) => switch::check(&mut check, spec),
            Spec::SwitchState(spec) => switch::state(&mut check, spec),
            Spec::FaultPolicy(spec) => fault_policy::check(&mut check, spec),
            Spec::Lane(spec) => lane::check(&mut check, spec),
        }
    }
    conflict::check(set, &mut faults);
    fault::sort(&mut faults);
    faults
}

/// What the set itself declares, and what is known beside it.
struct Index<'a> {
    services: BTreeMap<(&'a str, &'a str), &'a ServiceSpec>,
    gateways: BTreeMap<(&'a str, &'a str), &'a GatewaySpec>,
    grants: BTreeMap<(&'a str, &'a str), &'a ReferenceGrantSpec>,
    resources: BTreeMap<&'a ResourceKey, &'a Resource>,
    known: &'a dyn Known,
}

/// One resource under examination.
struct Check<'a, 'f> {
    written: &'a Written,
    index: &'a Index<'a>,
    faults: &'f mut Vec<Fault>,
}

// === impl Index ===

impl<'a> Index<'a> {
    fn of(set: &'a [Written], known: &'a dyn Known) -> Self {
        let (services, gateways, grants, resources) = Default::default();
        let mut index = Index { services, gateways, grants, resources, known };
        for written in set {
            index.resources.insert(&written.resource.key, &written.resource);
            let key = (&*written.resource.key.namespace, &*written.resource.key.name);
            match &written.resource.spec {
                Spec::Service(spec) => drop(index.services.insert(key, spec)),
                Spec::Gateway(spec) => drop(index.gateways.insert(key, spec)),
                Spec::ReferenceGrant(spec) => drop(index.grants.insert(key, spec)),
                _ => {}
            }
        }
        index
    }

    fn service(&self, namespace: &str, name: &str) -> Option<KnownService> {
        match self.services.get(&(namespace, name)) {
            Some(spec) => Some(KnownService::declared(spec)),
            None => self.known.service(&ServiceName::new(namespace, name).ok()?),
        }
    }

    fn resource(&self, key: &ResourceKey) -> Option<Resource> {
        match self.resources.get(key) {
            Some(resource) => Some((*resource).clone()),
            None => self.known.resource(key),
        }
    }

    /// The switches that will name a resource: those of the set, and known ones that the set does not replace.
    fn switches_of(&self, target: &ResourceKey) -> Vec<ResourceKey> {
        let names = |resource: &Resource| match &resource.spec {
            Spec::Switch(spec) => spec.target_refs.iter().any(|one| one.key(&resource.key.namespace) == *target),
            _ => false,
        };
        let own = self.resources.values().filter(|resource| names(resource)).map(|resource| resource.key.clone());
        let known = self.known.switches_of(target).into_iter().filter(|key| !self.resources.contains_key(key));
        own.chain(known).collect()
    }

    /// Which service stands in for another one, and the policy that says so: one of the set, or a known one that the set
    /// does not replace.
    fn fallback_of(&self, namespace: &str, name: &str) -> Option<(ResourceKey, String)> {
        let service = ServiceName::new(namespace, name).ok()?;
        let stands_in = |key: &ResourceKey, spec: &TrafficPolicySpec| {
            degradation::stands_in(key, spec, &service).map(|other| (key.clone(), other))
        };
        let own = self.resources.values().find_map(|resource| match &resource.spec {
            Spec::TrafficPolicy(spec) => stands_in(&resource.key, spec),
            _ => None,
        });
        let known =
            || self.known.policies_of(&service).into_iter().filter(|(key, _)| !self.resources.contains_key(key));
        own.or_else(|| known().find_map(|(key, spec)| stands_in(&key, &spec)))
    }

    fn gateway(&self, namespace: &str, name: &str) -> Option<GatewaySpec> {
        match self.gateways.get(&(namespace, name)) {
            Some(spec) => Some((*spec).clone()),
            None => self.known.gateway(namespace, name),
        }
    }

    /// Whether a grant in `target` lets a route there: one of the set, or a known one that the set does not replace.
    fn permits(&self, target: &str, route: &ResourceKey, backend: &BackendView<'_>) -> bool {
        let permits = |grant: &ReferenceGrantSpec| grant.permits(route.kind, &route.namespace, backend);
        let own = self.grants.iter().any(|((namespace, _), grant)| *namespace == target && permits(grant));
        let known = || self.known.grants(target).into_iter();
        own || known().any(|(name, grant)| !self.grants.contains_key(&(target, &*name)) && permits(&grant))
    }
}

// === impl Check ===

impl Check<'_, '_> {
    fn namespace(&self) -> &str {
        &self.written.resource.key.namespace
    }

    fn error(&mut self, class: FaultClass, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.faults.push(self.written.fault(class, path, message, fix));
    }

    fn warn(&mut self, class: FaultClass, path: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.faults.push(self.written.warning(class, path, message, fix));
    }

    /// Refuses a list of more than `max` entries, and one of none where `min` is 1.
    fn count(&mut self, path: &str, what: &str, count: usize, min: usize, max: usize) {
        if count < min {
            let field = path.rsplit_once('.').map_or(path, |(_, field)| field).to_owned();
            self.error(FaultClass::Empty, path, format!("no {what}"), format!("add at least one entry to `{field}`"));
        }
        if count > max {
            let message = format!("{count} {what}, at most {max} are allowed");
            self.error(FaultClass::TooMany, path, message, "split the resource");
        }
    }
}

// === impl Nothing ===

impl Known for Nothing {
    fn service(&self, _: &ServiceName) -> Option<KnownService> {
        None
    }
    fn gateway(&self, _: &str, _: &str) -> Option<GatewaySpec> {
        None
    }
    fn grants(&self, _: &str) -> Vec<(Arc<str>, ReferenceGrantSpec)> {
        Vec::new()
    }
    fn resource(&self, _: &ResourceKey) -> Option<Resource> {
        None
    }
    fn switches_of(&self, _: &ResourceKey) -> Vec<ResourceKey> {
        Vec::new()
    }
    fn policies_of(&self, _: &ServiceName) -> Vec<(ResourceKey, TrafficPolicySpec)> {
        Vec::new()
    }
}

// === impl KnownService ===

impl KnownService {
    /// As a `Service` resource declares it.
    pub fn declared(spec: &ServiceSpec) -> Self {
        let port = |p: &crate::resource::service::ServicePort| KnownPort {
            number: Port::get(p.port),
            name: p.name.as_deref().map(Into::into),
        };
        Self { declared: Some(spec.ports.iter().map(port).collect()) }
    }
}

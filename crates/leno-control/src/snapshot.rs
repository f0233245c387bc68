//! From merged resources and the registry's view to what one proxy is told: one file per kind of the snapshot.
//!
//! ```text
//! a name somebody asked for ─ name ─► Listener ─► RouteConfig ─► Cluster ─► Endpoints
//!                                        └ service (ports, visibility), route (rules, backends), gateway
//! ```
//!
//! Everything is built for one name, when it is asked for; nothing here walks over all services but the view of a foreign
//! proxy that subscribes to everything. A [`View`] notes every service, gateway and namespace of grants that it read, so that the caller
//! knows when to build again. Pure.

mod affinity;
mod backend;
mod balancing;
mod cluster;
mod degradation;
mod endpoint;
mod everything;
mod filter;
mod gateway;
mod injection;
mod lane;
mod listener;
mod locality;
pub mod name;
mod overload;
mod rate_limit;
mod reply;
mod resilience;
mod retry;
mod route;
mod service;
mod switch;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use leno_model::name::ServiceName;
use leno_model::resource::backend_tls_policy::WellKnown;
use leno_model::resource::kind::ResourceKey;
use leno_model::resource::locality::LocalitySpec;
use leno_model::resource::reference::{BackendView, ParentRef};
use leno_model::snapshot::{Cluster, Endpoints, Injections, Listener, Name, Roots, RouteConfig, StandIn, UpstreamTls};

use crate::Directory;
use crate::merge::{Entry, Merged, Topic};

pub(crate) use self::backend::{Context, Unresolved, resolve};
pub(crate) use self::gateway::routes_of as gateway_routes;
pub(crate) use self::lane::condition as lane_condition;
pub(crate) use self::locality::{Arranged, Standpoint};
pub(crate) use self::route::{Attached, attached, rules_of};
pub(crate) use self::service::ServiceView;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller {
    /// The namespace in which bare names are looked up and for which visibility is decided.
    pub namespace: Arc<str>,
    /// Whether it is a gateway, which also sees what is meant for gateways.
    pub is_gateway: bool,
}

/// Resources and instances at one moment, and a note of what was read of them.
pub struct View<'a> {
    merged: &'a Merged,
    directory: &'a dyn Directory,
    read: RefCell<BTreeSet<Topic>>,
}

// === impl View ===

impl<'a> View<'a> {
    /// A view that has read nothing yet.
    pub fn new(merged: &'a Merged, directory: &'a dyn Directory) -> Self {
        Self { merged, directory, read: RefCell::default() }
    }

    /// What was read since it was made.
    pub fn into_read(self) -> BTreeSet<Topic> {
        self.read.into_inner()
    }

    /// The listener of this name, as `caller` spells it.
    pub fn listener(&self, name: &str, caller: &Caller) -> Option<Listener> {
        match name::Asked::listener(name, caller)? {
            name::Asked::Service { service, port } => listener::of_service(self, name, &service, port, caller),
            name::Asked::Gateway { namespace, name: gateway, port, udp: false } => {
                gateway::listener(self, &namespace, &gateway, port)
            }
            name::Asked::Gateway { namespace, name: gateway, port, udp: true } => {
                gateway::udp_listener(self, &namespace, &gateway, port)
            }
            name::Asked::Inbound { service } => rate_limit::inbound(self, name, &service),
            name::Asked::Everything => Some(everything::listener(name, caller)),
        }
    }

    /// The route configuration of this canonical name.
    pub fn route_config(&self, name: &str) -> Option<RouteConfig> {
        match name::Routes::parse(name)? {
            name::Routes::Service { service, port, consumer } => {
                route::of_service(self, name, &service, port, consumer.as_deref())
            }
            name::Routes::Gateway { namespace, name: gateway, port } => {
                gateway::route_config(self, name, &namespace, &gateway, port)
            }
            name::Routes::Everything { caller } => Some(everything::route_config(self, name, &caller)),
        }
    }

    /// The cluster of this canonical name.
    pub fn cluster(&self, name: &str) -> Option<Cluster> {
        cluster::build(self, &name::ClusterName::parse(name)?)
    }

    /// The endpoints of the cluster of this name, as somebody is to use them who stands there; of nobody in particular, as
    /// those do for whom it does not matter.
    pub(crate) fn endpoints(&self, name: &str, own: Option<&Standpoint>) -> Option<Endpoints> {
        endpoint::build(self, &name::ClusterName::parse(name)?, own)
    }

    /// What the endpoints of a cluster are arranged by, if it matters where a caller is.
    pub(crate) fn arranged(&self, name: &str) -> Option<Arranged> {
        let name = name::ClusterName::parse(name)?;
        let policy = self.locality_of(&name.service)?;
        Some(Arranged::of(policy, &self.service(&name.service)))
    }

    /// The names of the listeners that a gateway opens.
    pub fn gateway_listeners(&self, namespace: &str, name: &str) -> Vec<Name> {
        gateway::listeners(self, namespace, name)
    }

    /// The clusters that a subscriber to everything gets.
    pub fn all_clusters(&self, caller: &Caller) -> Vec<Name> {
        everything::clusters(self, caller)
    }

    /// The clusters that the routes of a gateway lead to.
    pub fn gateway_clusters(&self, namespace: &str, name: &str) -> Vec<Name> {
        gateway::clusters(self, namespace, name)
    }

    /// Every service that is declared or registered.
    pub(crate) fn services(&self) -> BTreeSet<ServiceName> {
        self.note(Topic::Everything);
        self.merged.services().chain(self.directory.services()).collect()
    }

    pub(crate) fn service(&self, name: &ServiceName) -> ServiceView<'a> {
        self.note(Topic::Service(name.clone()));
        ServiceView::new(name.clone(), self.merged.service(name), self.directory.instances(name))
    }

    /// The routes whose parent is `parent`, the oldest first, with the references that name it.
    pub(crate) fn routes_of(&self, parent: &Topic) -> Vec<(&'a Arc<Entry>, Vec<&'a ParentRef>)> {
        self.note(parent.clone());
        let merged: &'a Merged = self.merged;
        let routes = merged.routes_of(parent).into_iter();
        let with_parents = routes.map(|entry| {
            let names_it = |reference: &&ParentRef| {
                crate::merge::parent_topic(&entry.resource.key.namespace, reference).as_ref() == Some(parent)
            };
            (entry, entry.resource.spec.parents().iter().filter(names_it).collect())
        });
        with_parents.collect()
    }

    /// TLS towards the instances behind a port of a service.
    pub(crate) fn tls_of(&self, service: &ServiceName, port: Option<&str>) -> Option<UpstreamTls> {
        let (_, policy) = self.merged.tls_policy_of(service, port)?;
        let validation = &policy.validation;
        let roots = match validation.well_known_ca_certificates {
            Some(WellKnown::System) => Roots::System,
            None => Roots::Bundles(validation.ca_certificate_refs.iter().map(|one| one.name.as_str().into()).collect()),
        };
        Some(UpstreamTls {
            server_name: validation.hostname.as_str().into(),
            names: validation.subject_alt_names.iter().filter_map(|name| name.value()).map(Into::into).collect(),
            roots,
        })
    }

    pub(crate) fn policy_of(&self, service: &ServiceName) -> service::Policy {
        self.note(Topic::Service(service.clone()));
        service::Policy::of(self.merged.policies_of(service).first().map(|(_, spec)| *spec))
    }

    /// What stands in for the answers of a service.
    pub(crate) fn stand_in_of(&self, service: &ServiceName) -> Option<StandIn> {
        self.note(Topic::Service(service.clone()));
        let policies = self.merged.policies_of(service);
        let fallback = policies.first()?.1.fallback.as_ref()?;
        Some(degradation::stand_in(self, service, fallback))
    }

    /// What goes wrong on purpose with requests to a service.
    pub(crate) fn injections_of(&self, service: &ServiceName) -> Injections {
        self.note(Topic::Service(service.clone()));
        injection::of(self.merged.fault_policies_of(service).first().map(|(_, spec)| *spec), service)
    }

    pub(crate) fn locality_of(&self, service: &ServiceName) -> Option<&'a LocalitySpec> {
        self.note(Topic::Service(service.clone()));
        let merged: &'a Merged = self.merged;
        merged.policies_of(service).first().and_then(|(_, spec)| spec.load_balancer.as_ref()?.locality.as_ref())
    }

    pub(crate) fn gateway_spec(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<&'a leno_model::resource::gateway::GatewaySpec> {
        self.note(Topic::Gateway(namespace.into(), name.into()));
        let merged: &'a Merged = self.merged;
        merged.gateway(namespace, name).map(|(_, spec)| spec)
    }

    /// Whether a grant in `namespace` lets `route` refer to this backend there.
    pub(crate) fn permits(&self, namespace: &str, route: &ResourceKey, backend: &BackendView<'_>) -> bool {
        self.note(Topic::Grants(namespace.into()));
        let mut grants = self.merged.grants_of(namespace);
        grants.any(|(_, grant)| grant.permits(route.kind, &route.namespace, backend))
    }

    fn note(&self, topic: Topic) {
        self.read.borrow_mut().insert(topic);
    }
}

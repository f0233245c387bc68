//! All resources of all sets, and who concerns whom: the routes of a parent, the policy of a service.
//!
//! Conflicts between sets are settled here and in the order of rules: the oldest wins (first applied, then namespace and
//! name), as the Gateway API says; [`crate::status`] shows the loser. Kept up to date change by change; each change
//! answers what it touched, so that only that is built anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leno_model::name::ServiceName;
use leno_model::resource::backend_tls_policy::BackendTlsPolicySpec;
use leno_model::resource::fault_policy::FaultPolicySpec;
use leno_model::resource::gateway::GatewaySpec;
use leno_model::resource::kind::{Kind, ResourceKey};
use leno_model::resource::lane::LaneSpec;
use leno_model::resource::reference::ParentRef;
use leno_model::resource::reference_grant::ReferenceGrantSpec;
use leno_model::resource::service::ServiceSpec;
use leno_model::resource::switch::{SwitchSpec, SwitchStateSpec};
use leno_model::resource::traffic_policy::TrafficPolicySpec;
use leno_model::resource::{Resource, Spec};
use leno_model::seam::Timestamp;
use leno_model::validate::{Known, KnownService};
use serde_json::Value;

/// A resource that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it says.
    pub resource: Resource,
    /// The same as it was written.
    pub value: Value,
    /// The set it belongs to: `api`, or `file:` and the watched directory.
    pub set: Arc<str>,
    /// The file it stands in, as whoever applied it named it.
    pub file: Arc<str>,
    /// The line in the file.
    pub line: u32,
    /// The revision that first applied it: its age.
    pub created: u64,
    /// The revision that last changed it.
    pub revision: u64,
    /// Who last changed it.
    pub author: Arc<str>,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// What somebody can depend on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// A service: its declaration, its instances, the routes and policies for it.
    Service(ServiceName),
    /// A gateway and its routes, by namespace and name.
    Gateway(Arc<str>, Arc<str>),
    /// Who may refer to services of a namespace from others.
    Grants(Arc<str>),
    /// Which services there are at all.
    Everything,
}

/// All resources in force.
#[derive(Debug, Default)]
pub struct Merged {
    entries: BTreeMap<ResourceKey, Arc<Entry>>,
    routes: BTreeMap<Topic, BTreeSet<ResourceKey>>,
    policies: BTreeMap<ServiceName, BTreeSet<ResourceKey>>,
    grants: BTreeMap<Arc<str>, BTreeSet<ResourceKey>>,
    /// The switches that name a route or service.
    switches: BTreeMap<ResourceKey, BTreeSet<ResourceKey>>,
    /// The lanes that a version of a service is in.
    lanes: BTreeMap<ServiceName, BTreeSet<ResourceKey>>,
    /// The time of day by which switches turn.
    now: Timestamp,
}

// === impl Merged ===

impl Merged {
    /// Puts a resource in force, in the place of the one with its key; answers what that touches.
    pub fn insert(&mut self, entry: Arc<Entry>) -> BTreeSet<Topic> {
        let key = entry.resource.key.clone();
        let mut touched = self.remove(&key);
        touched.extend(self.topics(&entry.resource));
        for topic in route_topics(&entry.resource) {
            self.routes.entry(topic).or_default().insert(key.clone());
        }
        for service in policy_targets(&entry.resource) {
            self.policies.entry(service).or_default().insert(key.clone());
        }
        if key.kind == Kind::ReferenceGrant {
            self.grants.entry(key.namespace.clone()).or_default().insert(key.clone());
        }
        for target in switch_targets(&entry.resource) {
            self.switches.entry(target).or_default().insert(key.clone());
        }
        for service in lane_services(&entry.resource) {
            self.lanes.entry(service).or_default().insert(key.clone());
        }
        self.entries.insert(key, entry);
        touched
    }

    /// Takes a resource out of force; answers what that touches.
    pub fn remove(&mut self, key: &ResourceKey) -> BTreeSet<Topic> {
        let Some(entry) = self.entries.remove(key) else { return BTreeSet::new() };
        for topic in route_topics(&entry.resource) {
            forget(&mut self.routes, &topic, key);
        }
        for service in policy_targets(&entry.resource) {
            forget(&mut self.policies, &service, key);
        }
        if key.kind == Kind::ReferenceGrant {
            forget(&mut self.grants, &key.namespace, key);
        }
        for target in switch_targets(&entry.resource) {
            forget(&mut self.switches, &target, key);
        }
        for service in lane_services(&entry.resource) {
            forget(&mut self.lanes, &service, key);
        }
        self.topics(&entry.resource)
    }

    /// One resource.
    pub fn get(&self, key: &ResourceKey) -> Option<&Arc<Entry>> {
        self.entries.get(key)
    }

    /// Every resource, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// How many resources there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The declaration of a service.
    pub fn service(&self, name: &ServiceName) -> Option<(&Arc<Entry>, &ServiceSpec)> {
        let entry = self.entries.get(&ResourceKey::new(Kind::Service, &name.namespace, &name.name))?;
        match &entry.resource.spec {
            Spec::Service(spec) => Some((entry, spec)),
            _ => None,
        }
    }

    /// Every declared service.
    pub fn services(&self) -> impl Iterator<Item = ServiceName> {
        let of_kind = |key: &&ResourceKey| key.kind == Kind::Service;
        self.entries
            .keys()
            .filter(of_kind)
            .map(|key| ServiceName { namespace: key.namespace.clone(), name: key.name.clone() })
    }

    /// A gateway.
    pub fn gateway(&self, namespace: &str, name: &str) -> Option<(&Arc<Entry>, &GatewaySpec)> {
        let entry = self.entries.get(&ResourceKey::new(Kind::Gateway, namespace, name))?;
        match &entry.resource.spec {
            Spec::Gateway(spec) => Some((entry, spec)),
            _ => None,
        }
    }

    /// The routes that name a parent, the oldest first.
    pub fn routes_of(&self, parent: &Topic) -> Vec<&Arc<Entry>> {
        let keys = self.routes.get(parent).into_iter().flatten();
        let mut routes: Vec<&Arc<Entry>> = keys.filter_map(|key| self.entries.get(key)).collect();
        routes.sort_by_key(|entry| age(entry));
        routes
    }

    /// The grants of a namespace.
    pub fn grants_of(&self, namespace: &str) -> impl Iterator<Item = (&Arc<Entry>, &ReferenceGrantSpec)> {
        let keys = self.grants.get(namespace).into_iter().flatten();
        keys.filter_map(|key| self.entries.get(key)).filter_map(|entry| match &entry.resource.spec {
            Spec::ReferenceGrant(spec) => Some((entry, spec)),
            _ => None,
        })
    }

    /// The policies for a service, the oldest, which is the one in force, first.
    pub fn policies_of(&self, service: &ServiceName) -> Vec<(&Arc<Entry>, &TrafficPolicySpec)> {
        self.targeting(service, |spec| match spec {
            Spec::TrafficPolicy(spec) => Some(spec.as_ref()),
            _ => None,
        })
    }

    /// What goes wrong on purpose with a service, the oldest, which is the one in force, first.
    pub fn fault_policies_of(&self, service: &ServiceName) -> Vec<(&Arc<Entry>, &FaultPolicySpec)> {
        self.targeting(service, |spec| match spec {
            Spec::FaultPolicy(spec) => Some(spec),
            _ => None,
        })
    }

    fn targeting<'a, T>(
        &'a self,
        service: &ServiceName,
        of_kind: impl Fn(&'a Spec) -> Option<&'a T>,
    ) -> Vec<(&'a Arc<Entry>, &'a T)> {
        let keys = self.policies.get(service).into_iter().flatten();
        let entries = keys.filter_map(|key| self.entries.get(key));
        let mut policies: Vec<_> = entries.filter_map(|entry| Some((entry, of_kind(&entry.resource.spec)?))).collect();
        policies.sort_by_key(|(entry, _)| age(entry));
        policies
    }

    /// The policy of TLS that is in force for a port of a service: of those for this very port, else of those for all, the
    /// oldest.
    pub fn tls_policy_of(
        &self,
        service: &ServiceName,
        port: Option<&str>,
    ) -> Option<(&Arc<Entry>, &BackendTlsPolicySpec)> {
        let keys = self.policies.get(service).into_iter().flatten();
        let found = keys.filter_map(|key| self.entries.get(key)).filter_map(|entry| match &entry.resource.spec {
            Spec::BackendTlsPolicy(spec) => Some((entry, spec)),
            _ => None,
        });
        let ranked = found.filter_map(|(entry, spec)| {
            let targets = spec.target_refs.iter().filter(|target| *target.name == *service.name);
            let sections = targets.map(|target| target.section_name.as_deref());
            let fits = sections.filter(|section| section.is_none() || *section == port);
            let exact = fits.map(|section| section.is_some()).max()?;
            Some(((!exact, age(entry)), (entry, spec)))
        });
        ranked.min_by(|a, b| a.0.cmp(&b.0)).map(|(_, found)| found)
    }

    /// The switches that name a route or service, the oldest first.
    pub fn switches_of(&self, target: &ResourceKey) -> Vec<(&Arc<Entry>, &SwitchSpec)> {
        let keys = self.switches.get(target).into_iter().flatten();
        let found = keys.filter_map(|key| self.entries.get(key)).filter_map(|entry| match &entry.resource.spec {
            Spec::Switch(spec) => Some((entry, spec)),
            _ => None,
        });
        let mut switches: Vec<_> = found.collect();
        switches.sort_by_key(|(entry, _)| age(entry));
        switches
    }

    /// The lanes that a version of a service is in, the oldest first.
    pub fn lanes_of(&self, service: &ServiceName) -> Vec<(&Arc<Entry>, &LaneSpec)> {
        let keys = self.lanes.get(service).into_iter().flatten();
        let found = keys.filter_map(|key| self.entries.get(key)).filter_map(|entry| match &entry.resource.spec {
            Spec::Lane(spec) => Some((entry, spec)),
            _ => None,
        });
        let mut lanes: Vec<_> = found.collect();
        lanes.sort_by_key(|(entry, _)| age(entry));
        lanes
    }

    /// What says whether a switch is on, and whether it is; none where nobody has turned it.
    pub fn switch_state(&self, switch: &ResourceKey) -> Option<(&Arc<Entry>, &SwitchStateSpec, bool)> {
        let entry = self.entries.get(&ResourceKey::new(Kind::SwitchState, &switch.namespace, &switch.name))?;
        match &entry.resource.spec {
            Spec::SwitchState(spec) => Some((entry, spec, spec.is_on(self.now))),
            _ => None,
        }
    }

    /// Has it be `now`; answers the states of those switches that turn by that.
    pub fn pass_time(&mut self, now: Timestamp) -> Vec<Arc<Entry>> {
        let before = std::mem::replace(&mut self.now, now);
        let turned = self.switch_states().filter(|(_, spec)| spec.is_on(before) != spec.is_on(now));
        turned.map(|(entry, _)| entry.clone()).collect()
    }

    /// When a switch turns next by its time.
    pub fn turns_next(&self) -> Option<Timestamp> {
        self.switch_states().filter_map(|(_, spec)| spec.turns_after(self.now)).min()
    }

    fn switch_states(&self) -> impl Iterator<Item = (&Arc<Entry>, &SwitchStateSpec)> {
        let from = ResourceKey::new(Kind::SwitchState, "", "");
        self.entries.range(from..).filter_map(|(_, entry)| match &entry.resource.spec {
            Spec::SwitchState(spec) => Some((entry, spec)),
            _ => None,
        })
    }

    /// What a resource concerns.
    pub(crate) fn topics(&self, resource: &Resource) -> BTreeSet<Topic> {
        let key = &resource.key;
        match &resource.spec {
            Spec::Service(_) => {
                let service = ServiceName { namespace: key.namespace.clone(), name: key.name.clone() };
                BTreeSet::from([Topic::Service(service), Topic::Everything])
            }
            Spec::Gateway(_) => BTreeSet::from([Topic::Gateway(key.namespace.clone(), key.name.clone())]),
            Spec::ReferenceGrant(_) => BTreeSet::from([Topic::Grants(key.namespace.clone())]),
            Spec::TrafficPolicy(_) | Spec::FaultPolicy(_) | Spec::BackendTlsPolicy(_) => {
                policy_targets(resource).into_iter().map(Topic::Service).collect()
            }
            Spec::Lane(_) => lane_services(resource).map(Topic::Service).collect(),
            Spec::Switch(_) => switch_targets(resource).flat_map(|target| self.topics_of_target(&target)).collect(),
            Spec::SwitchState(_) => {
                let switch = self.entries.get(&ResourceKey::new(Kind::Switch, &key.namespace, &key.name));
                switch.map(|entry| self.topics(&entry.resource)).unwrap_or_default()
            }
            _ => route_topics(resource),
        }
    }

    fn topics_of_target(&self, target: &ResourceKey) -> BTreeSet<Topic> {
        if target.kind == Kind::Service {
            let service = ServiceName { namespace: target.namespace.clone(), name: target.name.clone() };
            return BTreeSet::from([Topic::Service(service)]);
        }
        self.entries.get(target).map(|entry| route_topics(&entry.resource)).unwrap_or_default()
    }
}

fn forget<K: Ord>(index: &mut BTreeMap<K, BTreeSet<ResourceKey>>, at: &K, key: &ResourceKey) {
    if let Some(keys) = index.get_mut(at) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(at);
        }
    }
}

/// Who wins between two resources that cannot both hold: the smaller.
pub(crate) fn age(entry: &Entry) -> (u64, Arc<str>, Arc<str>) {
    (entry.created, entry.resource.key.namespace.clone(), entry.resource.key.name.clone())
}

/// What a parent reference of a resource in `namespace` names.
pub(crate) fn parent_topic(namespace: &str, parent: &ParentRef) -> Option<Topic> {
    let namespace = parent.namespace.as_deref().unwrap_or(namespace);
    if parent.is_service() {
        Some(Topic::Service(ServiceName { namespace: namespace.into(), name: parent.name.as_str().into() }))
    } else {
        parent.is_gateway().then(|| Topic::Gateway(namespace.into(), parent.name.as_str().into()))
    }
}

fn route_topics(resource: &Resource) -> BTreeSet<Topic> {
    resource.spec.parents().iter().filter_map(|parent| parent_topic(&resource.key.namespace, parent)).collect()
}

fn policy_targets(resource: &Resource) -> Vec<ServiceName> {
    let service = |name: &str| ServiceName { namespace: resource.key.namespace.clone(), name: name.into() };
    match &resource.spec {
        Spec::TrafficPolicy(policy) => policy.target_refs.iter().map(|target| service(&target.name)).collect(),
        Spec::FaultPolicy(policy) => policy.target_refs.iter().map(|target| service(&target.name)).collect(),
        Spec::BackendTlsPolicy(policy) => policy.target_refs.iter().map(|target| service(&target.name)).collect(),
        _ => Vec::new(),
    }
}

/// The services of which a version is in a lane.
fn lane_services(resource: &Resource) -> impl Iterator<Item = ServiceName> {
    let versions = match &resource.spec {
        Spec::Lane(spec) => &spec.versions[..],
        _ => &[],
    };
    let namespace = &resource.key.namespace;
    versions.iter().map(|version| ServiceName { namespace: namespace.clone(), name: version.name.as_str().into() })
}

/// The routes and services that a switch names.
fn switch_targets(resource: &Resource) -> impl Iterator<Item = ResourceKey> {
    let targets = match &resource.spec {
        Spec::Switch(spec) => &spec.target_refs[..],
        _ => &[],
    };
    targets.iter().map(|target| target.key(&resource.key.namespace))
}

/// What exists, as validation asks: resources of all sets, and services of the registry.
pub(crate) struct KnownWorld<'a> {
    pub(crate) merged: &'a Merged,
    pub(crate) directory: &'a dyn crate::Directory,
    /// The set of which only what is written stays.
    pub(crate) pruned: Option<&'a Arc<str>>,
}

impl Known for KnownWorld<'_> {
    fn service(&self, name: &ServiceName) -> Option<KnownService> {
        match self.merged.service(name) {
            Some((_, spec)) => Some(KnownService::declared(spec)),
            None => (!self.directory.instances(name).is_empty()).then(KnownService::default),
        }
    }

    fn gateway(&self, namespace: &str, name: &str) -> Option<GatewaySpec> {
        self.merged.gateway(namespace, name).map(|(_, spec)| spec.clone())
    }

    fn resource(&self, key: &ResourceKey) -> Option<Resource> {
        self.merged.get(key).map(|entry| entry.resource.clone())
    }

    fn policies_of(&self, service: &ServiceName) -> Vec<(ResourceKey, TrafficPolicySpec)> {
        let policies = self.merged.policies_of(service).into_iter();
        let staying = policies.filter(|(entry, _)| self.pruned != Some(&entry.set));
        staying.map(|(entry, spec)| (entry.resource.key.clone(), spec.clone())).collect()
    }

    fn switches_of(&self, target: &ResourceKey) -> Vec<ResourceKey> {
        let switches = self.merged.switches_of(target).into_iter();
        let staying = switches.filter(|(entry, _)| self.pruned != Some(&entry.set));
        staying.map(|(entry, _)| entry.resource.key.clone()).collect()
    }

    fn grants(&self, namespace: &str) -> Vec<(Arc<str>, ReferenceGrantSpec)> {
        let grants = self.merged.grants_of(namespace);
        grants.map(|(entry, spec)| (entry.resource.key.name.clone(), spec.clone())).collect()
    }
}

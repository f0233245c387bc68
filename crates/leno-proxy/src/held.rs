//! What the server has sent, by kind and name: the raw material of the table, and what is kept on disk.
//!
//! update → held → which names are needed next (a listener needs its routes, routes need clusters, clusters need
//! endpoints). Pure. Invariant: holds nothing that no wanted listener leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leno_model::snapshot::{Action, Cluster, Endpoints, Listener, Name, RouteConfig, RouteFilter, WeightedCluster};
use leno_xds::client::{Received, Update};
use leno_xds::kind::Kind;
use leno_xds::version::Version;

/// Received resources.
#[derive(Debug, Clone, Default)]
pub struct Held {
    /// Listeners by the name they were asked for.
    pub listeners: BTreeMap<Name, Received<Listener>>,
    /// Route configurations.
    pub routes: BTreeMap<Name, Received<RouteConfig>>,
    /// Clusters.
    pub clusters: BTreeMap<Name, Received<Cluster>>,
    /// Endpoints by cluster.
    pub endpoints: BTreeMap<Name, Received<Endpoints>>,
}

// === impl Held ===

impl Held {
    /// Takes over what an update brought and forgets what it removed.
    pub fn apply(&mut self, update: &Update) {
        for received in &update.listeners {
            self.listeners.insert(received.resource.name.clone(), received.clone());
        }
        for received in &update.routes {
            self.routes.insert(received.resource.name.clone(), received.clone());
        }
        for received in &update.clusters {
            self.clusters.insert(received.resource.name.clone(), received.clone());
        }
        for received in &update.endpoints {
            self.endpoints.insert(received.resource.cluster.clone(), received.clone());
        }
        for (kind, name) in &update.removed {
            self.forget(*kind, name);
        }
    }

    fn forget(&mut self, kind: Kind, name: &Name) {
        match kind {
            Kind::Listener => drop(self.listeners.remove(name)),
            Kind::Route => drop(self.routes.remove(name)),
            Kind::Cluster => drop(self.clusters.remove(name)),
            Kind::Endpoints => drop(self.endpoints.remove(name)),
        }
    }

    /// Everything that `listeners` lead to by what is known so far, themselves included.
    pub fn needs<'a>(&self, listeners: impl IntoIterator<Item = &'a Name>) -> BTreeSet<(Kind, Name)> {
        let mut needs = BTreeSet::new();
        for name in listeners {
            needs.insert((Kind::Listener, name.clone()));
            let Some(listener) = self.listeners.get(name) else { continue };
            self.listener_needs(&listener.resource, &mut needs);
        }
        needs
    }

    fn listener_needs(&self, listener: &Listener, needs: &mut BTreeSet<(Kind, Name)>) {
        let tls = listener.tls.iter().flat_map(|rule| &rule.clusters);
        for cluster in listener.tcp.iter().chain(tls).filter_map(|weighted| weighted.cluster.as_ref()) {
            self.cluster_needs(cluster, needs);
        }
        let Some(routes) = &listener.http else { return };
        needs.insert((Kind::Route, routes.clone()));
        if let Some(config) = self.routes.get(routes) {
            route_clusters(&config.resource, |cluster| self.cluster_needs(cluster, needs));
        }
    }

    /// A cluster, and the one that is asked where that gives no answer; nobody is asked in place of that one.
    fn cluster_needs(&self, cluster: &Name, needs: &mut BTreeSet<(Kind, Name)>) {
        cluster_needs(cluster, needs);
        let stand_in = self.clusters.get(cluster).and_then(|held| held.resource.resilience.stand_in.as_ref());
        if let Some(instead) = stand_in.and_then(|stand_in| stand_in.cluster.as_ref()) {
            cluster_needs(instead, needs);
        }
    }

    /// Forgets all that is not in `needs`.
    pub fn retain(&mut self, needs: &BTreeSet<(Kind, Name)>) {
        let needed = |kind: Kind, name: &Name| needs.contains(&(kind, name.clone()));
        self.listeners.retain(|name, _| needed(Kind::Listener, name));
        self.routes.retain(|name, _| needed(Kind::Route, name));
        self.clusters.retain(|name, _| needed(Kind::Cluster, name));
        self.endpoints.retain(|name, _| needed(Kind::Endpoints, name));
    }

    /// Names and versions, for a server to compare with.
    pub fn versions(&self) -> Vec<(Kind, Name, Version)> {
        fn of<T>(kind: Kind, map: &BTreeMap<Name, Received<T>>) -> impl Iterator<Item = (Kind, Name, Version)> + '_ {
            map.iter().map(move |(name, received)| (kind, name.clone(), received.version.clone()))
        }
        of(Kind::Listener, &self.listeners)
            .chain(of(Kind::Route, &self.routes))
            .chain(of(Kind::Cluster, &self.clusters))
            .chain(of(Kind::Endpoints, &self.endpoints))
            .collect()
    }

    /// Whether everything that `listener` leads to has arrived, so that a table may use it.
    pub fn is_complete(&self, listener: &Listener) -> bool {
        let mut needs = BTreeSet::new();
        self.listener_needs(listener, &mut needs);
        needs.iter().all(|(kind, name)| match kind {
            Kind::Listener => self.listeners.contains_key(name),
            Kind::Route => self.routes.contains_key(name),
            Kind::Cluster => self.clusters.contains_key(name),
            Kind::Endpoints => self.endpoints.contains_key(name),
        })
    }
}

fn cluster_needs(cluster: &Name, needs: &mut BTreeSet<(Kind, Name)>) {
    needs.insert((Kind::Cluster, cluster.clone()));
    needs.insert((Kind::Endpoints, cluster.clone()));
}

/// Calls `visit` with every cluster that a route configuration names, mirrors included.
fn route_clusters(config: &Arc<RouteConfig>, mut visit: impl FnMut(&Name)) {
    let mirrors = |filters: &[RouteFilter], visit: &mut dyn FnMut(&Name)| {
        for filter in filters {
            if let RouteFilter::Mirror(mirror) = filter {
                visit(&mirror.cluster);
            }
        }
    };
    for rule in config.hosts.iter().flat_map(|host| &host.rules) {
        mirrors(&rule.filters, &mut visit);
        let Action::Forward(targets) = &rule.action else { continue };
        for WeightedCluster { cluster, filters, .. } in targets {
            mirrors(filters, &mut visit);
            cluster.iter().for_each(&mut visit);
        }
    }
}

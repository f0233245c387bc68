//! A cluster as the request path uses it: endpoints with their load, a picker, a retry budget.
//!
//! Built by the control thread, immutable, shared by all workers. An endpoint outlives the tables it appears in: as
//! long as its address and way stay, its load, its connections (by [`EndpointKey`]) and its numbers stay with it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leno_model::expression::Program;
use leno_model::seam::Random;
use leno_model::snapshot::{self, EndpointHealth, Fallback};
use leno_net::Address;
use leno_telemetry::edge::EdgeProtocol;
use leno_telemetry::{Edge, EdgeKey, Registry};
use leno_tls::ClientTerms;
use leno_traffic::balance::{Ask, Seen};
use leno_traffic::bulkhead::Entered;
use leno_traffic::ejection::Crowd;
use leno_traffic::hash;
use leno_traffic::{Load, Member, Picker, RetryBudget};

use crate::balancing;
use crate::load_report;
use crate::overload::Priorities;
use crate::resilience::{self, Resilience, State};
use crate::table::Table;

/// The most values of a label that are told apart.
const SUBSETS_MAX: usize = 64;

/// Names an endpoint in the pools of the workers; never used again for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointKey(pub u64);

/// What stays the same about an endpoint from table to table.
#[derive(Debug)]
pub struct EndpointState {
    /// Its name in the pools.
    pub key: EndpointKey,
    /// Where connections go: to the instance's proxy, else to the application.
    pub address: Address,
    /// Whether that is a proxy of the mesh.
    pub via_proxy: bool,
    /// Whether it is the application, in a network namespace of its own if it was captured.
    pub is_application: bool,
    /// Open requests and latency.
    pub load: Arc<Load>,
}

/// What makes two appearances the same endpoint: the application's address and the way through a proxy.
pub type EndpointIdentity = (SocketAddr, Option<SocketAddr>);

/// A member of a cluster.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// What control said of it.
    pub spec: snapshot::Endpoint,
    /// What was learnt of it.
    pub state: Arc<EndpointState>,
    /// Since when it is new, where that matters.
    pub since: Option<Duration>,
    /// What the cluster's expression comes to for it, where it has one.
    pub program: Option<Arc<Program>>,
}

/// The edges on which a cluster's traffic is counted, by what was spoken.
#[derive(Debug, Clone)]
pub struct Edges {
    /// HTTP/1 and HTTP/2.
    pub http: Arc<Edge>,
    /// gRPC.
    pub grpc: Arc<Edge>,
    /// Byte streams.
    pub tcp: Arc<Edge>,
}

/// A cluster in use.
#[derive(Debug)]
pub struct Cluster {
    /// What control said of it.
    pub spec: Arc<snapshot::Cluster>,
    /// Its members, in the order of the picker.
    pub endpoints: Box<[Endpoint]>,
    /// Kept from table to table.
    pub budget: Arc<RetryBudget>,
    /// Where its traffic is counted.
    pub edges: Edges,
    /// TLS towards its endpoints.
    pub tls: Option<Arc<ClientTerms>>,
    pub(crate) resilience: Resilience,
    /// The priorities of requests that come without one.
    pub(crate) priorities: Option<Priorities>,
    /// Hashes of ids and indexes of endpoints, sorted.
    by_id_hash: Box<[(u64, u32)]>,
    picker: Picker,
    subsets: Option<Box<Subsets>>,
}

/// The endpoints of a cluster by their label.
#[derive(Debug)]
struct Subsets {
    by_value: HashMap<snapshot::Name, Picker>,
    nobody: Picker,
    fallback: Fallback,
}

// === impl EndpointKey ===

impl EndpointKey {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

// === impl EndpointState ===

impl EndpointState {
    /// An endpoint that was not seen before.
    pub fn new(address: Address, via_proxy: bool) -> Self {
        Self { key: EndpointKey::next(), address, via_proxy, is_application: false, load: Arc::new(Load::new()) }
    }

    /// The application beside the proxy.
    pub fn application(address: Address) -> Self {
        Self { is_application: true, ..Self::new(address, false) }
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// What it is known by to policies that hash and in sessions of clients.
    pub fn id_hash(&self) -> u64 {
        hash::of(self.spec.id.as_bytes())
    }
}

// === impl Edges ===

impl Edges {
    /// The edges of `key` for each protocol.
    pub fn new(metrics: &Registry, key: &EdgeKey) -> Self {
        let of = |protocol| metrics.edge(&EdgeKey { protocol, ..key.clone() });
        Self { http: of(EdgeProtocol::Http), grpc: of(EdgeProtocol::Grpc), tcp: of(EdgeProtocol::Tcp) }
    }
}

// === impl Cluster ===

impl Cluster {
    /// Prepares a cluster for use; `seed` keeps proxies from starting with the same endpoint, `state` is what was learnt of
    /// it before.
    pub fn new(
        spec: Arc<snapshot::Cluster>,
        endpoints: Vec<Endpoint>,
        budget: Arc<RetryBudget>,
        edges: Edges,
        seed: u64,
        state: Arc<State>,
    ) -> Self {
        let localities = balancing::localities(&spec, &endpoints);
        let members: Vec<Member> = endpoints
            .iter()
            .zip(localities)
            .map(|(endpoint, locality)| Member {
                // By its id, which is the same for every proxy; addresses of applications in namespaces of their own are not.
                key: endpoint.id_hash(),
                weight: endpoint.spec.weight,
                eligible: endpoint.spec.health == EndpointHealth::Healthy,
                standby: endpoint.spec.health == EndpointHealth::Unhealthy,
                since: endpoint.since,
                priority: endpoint.spec.priority,
                locality,
                load: endpoint.state.load.clone(),
                program: endpoint.program.clone(),
            })
            .collect();
        let picker = Picker::tuned(spec.balance, &spec.balancing, &members, seed);
        let picker = picker.watched(spec.resilience.ejection.is_some());
        let subsets = spec.balancing.subsets.as_ref().map(|terms| {
            let by_value = subsets(&spec, terms, &endpoints, &members, seed);
            let nobody = Picker::tuned(spec.balance, &spec.balancing, &[], seed);
            Box::new(Subsets { by_value, nobody, fallback: terms.fallback.clone() })
        });
        let mut by_id_hash: Vec<(u64, u32)> =
            members.iter().zip(0..).map(|(member, index)| (member.key, index)).collect();
        by_id_hash.sort_unstable();
        let resilience = Resilience::new(&spec.resilience, &endpoints, state);
        let priorities = Priorities::new(&spec.name, &spec.resilience.priorities);
        Self {
            spec,
            endpoints: endpoints.into(),
            budget,
            edges,
            tls: None,
            resilience,
            priorities,
            by_id_hash: by_id_hash.into(),
            picker,
            subsets,
        }
    }

    /// With TLS towards its endpoints.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<ClientTerms>>) -> Self {
        Self { tls, ..self }
    }

    /// The index of an endpoint that takes requests and is not among `tried`; the one of `hash`, where the policy looks at
    /// that.
    pub fn pick(&self, now: Duration, random: &mut dyn Random, hash: Option<u64>, tried: &[usize]) -> Option<usize> {
        self.picker.pick(&mut Ask { now, random, hash, excluded: tried })
    }

    /// The index of an endpoint as by [`Self::pick`], of these alone.
    pub(crate) fn pick_among(
        &self,
        among: Option<&Picker>,
        now: Duration,
        random: &mut dyn Random,
        hash: Option<u64>,
        tried: &[usize],
    ) -> Option<usize> {
        among.unwrap_or(&self.picker).pick(&mut Ask { now, random, hash, excluded: tried })
    }

    /// The endpoints that are for a request with this value, if not all are.
    pub(crate) fn among(&self, value: Option<&str>) -> Option<&Picker> {
        let subsets = self.subsets.as_ref()?;
        let of = |value: &str| subsets.by_value.get(value);
        value.and_then(of).or_else(|| match &subsets.fallback {
            Fallback::Any => None,
            Fallback::Nobody => Some(&subsets.nobody),
            Fallback::To(value) => Some(of(value).unwrap_or(&subsets.nobody)),
        })
    }

    /// Takes a retry out of the budget and of the limit, if both have one left; `held` is this request's share of the limit.
    pub(crate) fn try_retry<'c>(&'c self, now: Duration, held: &mut Option<Entered<'c>>) -> bool {
        let had = held.is_some();
        let may = self.resilience.may_retry(held) && self.budget.try_retry(now);
        if !may && !had {
            // Its share is for those that are sent.
            *held = None;
        }
        may
    }

    /// The index of the endpoint whose id has this hash, if it takes requests now.
    pub fn named(&self, id_hash: u64, now: Duration) -> Option<usize> {
        let at = self.by_id_hash.binary_search_by_key(&id_hash, |(hash, _)| *hash).ok()?;
        let index = self.by_id_hash[at].1 as usize;
        self.picker.can_take(index, now).then_some(index)
    }

    /// Picks an endpoint that was named.
    pub(crate) fn take(&self, index: usize, now: Duration) -> &Endpoint {
        self.picker.take(index, now);
        &self.endpoints[index]
    }

    /// How each priority of its endpoints stands.
    pub(crate) fn seen(&self, now: Duration) -> impl Iterator<Item = Seen> {
        self.picker.seen(now)
    }

    /// Endpoints that take requests where nobody is ejected, and how many of them are.
    pub(crate) fn crowd(&self) -> Crowd {
        self.picker.crowd()
    }

    /// How many endpoints take requests.
    pub fn eligible(&self) -> usize {
        self.picker.eligible()
    }

    /// How many of those among which a request chooses take requests.
    pub(crate) fn eligible_among(&self, among: Option<&Picker>) -> usize {
        among.unwrap_or(&self.picker).eligible()
    }
}

/// A picker for each value of the label, of which those that have another one are no part; indexes stay.
fn subsets(
    spec: &snapshot::Cluster,
    terms: &snapshot::Subsets,
    endpoints: &[Endpoint],
    members: &[Member],
    seed: u64,
) -> HashMap<snapshot::Name, Picker> {
    let value_of = |endpoint: &Endpoint| {
        let of_label = endpoint.spec.subset.clone().filter(|(label, _)| *label == terms.label);
        of_label.map(|(_, value)| value)
    };
    let values: BTreeSet<snapshot::Name> = endpoints.iter().filter_map(value_of).collect();
    if values.len() > SUBSETS_MAX {
        tracing::warn!(cluster = %spec.name, label = %terms.label, values = values.len(), "more subsets than are told apart");
    }
    let picker = |value: snapshot::Name| {
        let of_it = |(member, endpoint): (&Member, &Endpoint)| {
            let weight = if value_of(endpoint).as_ref() == Some(&value) { member.weight } else { 0 };
            Member { weight, ..member.clone() }
        };
        let members: Vec<Member> = members.iter().zip(endpoints).map(of_it).collect();
        let picker = Picker::tuned(spec.balance, &spec.balancing, &members, seed);
        (value, picker.watched(spec.resilience.ejection.is_some()))
    };
    values.into_iter().take(SUBSETS_MAX).map(picker).collect()
}

/// The clusters of a table, each once.
pub(crate) fn by_name(table: &Table) -> BTreeMap<&str, &Cluster> {
    let clusters = table.destinations().flat_map(|destination| destination.clusters());
    clusters.map(|cluster| (&*cluster.spec.name, &**cluster)).collect()
}

/// Every endpoint of the table with its load, as the admin listener shows it.
pub fn describe(table: &Table, now: Duration) -> serde_json::Value {
    let clusters = by_name(table);
    let endpoint = |cluster: &Cluster, at: usize, endpoint: &Endpoint| {
        let latency = endpoint.state.load.latency(now).map(|latency| latency.as_secs_f64() * 1000.0);
        serde_json::json!({
            "id": endpoint.spec.id,
            "address": endpoint.spec.address,
            "proxy": endpoint.spec.proxy,
            "weight": endpoint.spec.weight,
            "health": endpoint.spec.health,
            "version": endpoint.spec.version,
            "region": endpoint.spec.region,
            "zone": endpoint.spec.zone,
            "priority": endpoint.spec.priority,
            "subset": endpoint.spec.subset.as_ref().map(|(_, value)| value),
            "openRequests": endpoint.state.load.open_requests(),
            "latencyMs": latency,
            "meanMs": endpoint.state.load.mean().map(|mean| mean.as_secs_f64() * 1000.0),
            "newForMs": balancing::describe_endpoint(cluster, endpoint, now),
            "reported": load_report::describe(cluster, endpoint, now),
            "expression": cluster.picker.value(at, now),
            "ejection": resilience::describe_endpoint(cluster, at, now),
        })
    };
    let described = clusters.into_values().map(|cluster| {
        let numbered = cluster.endpoints.iter().enumerate();
        let endpoints: Vec<serde_json::Value> = numbered.map(|(at, of)| endpoint(cluster, at, of)).collect();
        let (name, balance, resilience) =
            (&cluster.spec.name, cluster.spec.balance, resilience::describe(cluster, now));
        serde_json::json!({
            "cluster": name,
            "balance": balance,
            "expression": balancing::describe_expression(cluster),
            "priorities": balancing::describe(cluster, now),
            "resilience": resilience,
            "endpoints": endpoints,
        })
    });
    serde_json::Value::Array(described.collect())
}

#[cfg(test)]
mod tests {
    use leno_traffic::budget::BudgetTerms;

    use super::*;

    #[test]
    fn a_retry_that_the_budget_refuses_keeps_no_place_of_the_limit() {
        let mut spec = snapshot::Cluster {
            name: "cart".into(),
            service: "cart.shop".parse().unwrap(),
            port: 80,
            protocol: Default::default(),
            balance: Default::default(),
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            tls: None,
            proxy_protocol: None,
            resilience: Default::default(),
            balancing: Default::default(),
        };
        spec.resilience.limits.retries = Some(1);
        let none = RetryBudget::new(BudgetTerms { percent: 0, min_per_second: 0, window_seconds: 1 });
        let edges = Edges::new(&Registry::new(1, Default::default()), &EdgeKey::default());
        let cluster = Cluster::new(Arc::new(spec), Vec::new(), Arc::new(none), edges, 0, Arc::default());
        let mut held = None;
        assert!(!cluster.try_retry(Duration::ZERO, &mut held));
        assert!(held.is_none() && cluster.resilience.may_retry(&mut held), "another request's retry finds it");
    }
}

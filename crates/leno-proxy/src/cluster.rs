//! A cluster as the request path uses it: endpoints with their load, a picker, a retry budget.
//!
//! Built by the control thread, immutable, shared by all workers. An endpoint outlives the tables it appears in: as
//! long as its address and way stay, its load, its connections (by [`EndpointKey`]) and its numbers stay with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leno_model::seam::Random;
use leno_model::snapshot::{self, EndpointHealth};
use leno_net::Address;
use leno_telemetry::edge::EdgeProtocol;
use leno_telemetry::{Edge, EdgeKey, Registry};
use leno_tls::ClientTerms;
use leno_traffic::balance::Ask;
use leno_traffic::{Load, Member, Picker, RetryBudget};

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
    picker: Picker,
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
    /// Prepares a cluster for use; `seed` keeps proxies from starting with the same endpoint.
    pub fn new(
        spec: Arc<snapshot::Cluster>,
        endpoints: Vec<Endpoint>,
        budget: Arc<RetryBudget>,
        edges: Edges,
        seed: u64,
    ) -> Self {
        let members: Vec<Member> = endpoints
            .iter()
            .map(|endpoint| Member {
                weight: endpoint.spec.weight,
                eligible: endpoint.spec.health == EndpointHealth::Healthy,
                load: endpoint.state.load.clone(),
            })
            .collect();
        let picker = Picker::new(spec.balance, &members, seed);
        Self { spec, endpoints: endpoints.into(), budget, edges, tls: None, picker }
    }

    /// With TLS towards its endpoints.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<ClientTerms>>) -> Self {
        Self { tls, ..self }
    }

    /// The index of an endpoint that takes requests and is not among `tried`.
    pub fn pick(&self, now: Duration, random: &mut dyn Random, tried: &[usize]) -> Option<usize> {
        self.picker.pick(&mut Ask { now, random, excluded: tried })
    }

    /// How many endpoints take requests.
    pub fn eligible(&self) -> usize {
        self.picker.eligible()
    }
}

/// Every endpoint of the table with its load, as the admin listener shows it.
pub fn describe(table: &crate::table::Table, now: Duration) -> serde_json::Value {
    let mut clusters: std::collections::BTreeMap<&str, &Cluster> = Default::default();
    for destination in table.destinations() {
        clusters.extend(destination.clusters().map(|cluster| (&*cluster.spec.name, &**cluster)));
    }
    let endpoint = |endpoint: &Endpoint| {
        let latency = endpoint.state.load.latency(now).map(|latency| latency.as_secs_f64() * 1000.0);
        serde_json::json!({
            "id": endpoint.spec.id,
            "address": endpoint.spec.address,
            "proxy": endpoint.spec.proxy,
            "weight": endpoint.spec.weight,
            "health": endpoint.spec.health,
            "version": endpoint.spec.version,
            "openRequests": endpoint.state.load.open_requests(),
            "latencyMs": latency,
        })
    };
    let described = clusters.into_values().map(|cluster| {
        let endpoints: Vec<serde_json::Value> = cluster.endpoints.iter().map(endpoint).collect();
        serde_json::json!({"cluster": cluster.spec.name, "balance": cluster.spec.balance, "endpoints": endpoints})
    });
    serde_json::Value::Array(described.collect())
}

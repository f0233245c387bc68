//! What one worker thread has for itself: its pool, its randomness, its cache of names; and what all of them share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use leno_http::client::ClientOptions;
use leno_http::{Limits, Pool, PoolOptions, PoolSize, ServerOptions, Strikes, Text};
use leno_model::name::ServiceName;
use leno_model::seam::{Clock, Random};
use leno_model::snapshot::Name;
use leno_net::dial::Dial;
use leno_net::places::Places;
use leno_runtime::serve::NamedTasks;
use leno_runtime::{DrainWatch, SystemRandom, task};
use leno_telemetry::{AccessLog, Edge, EdgeKey, Registry};
use leno_traffic::hash;

use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::lookup::{Found, Lookup, WAIT_MAX};
use crate::outside::{self, LookUp, OutsideNames};
use crate::pressure::Strain;
use crate::proxy_protocol::InFront;
use crate::rate_limit::Inbound;
use crate::table::Destination;
use crate::upstream::PoolKey;

/// Authorities whose destination a worker remembers until the next table.
const NAMES_MAX: usize = 1024;

/// Destinations outside the mesh that a worker remembers.
const OUTSIDE_MAX: usize = 256;

/// Callers whose traffic an inbound worker tells apart.
const SOURCES_MAX: usize = 1024;

/// What becomes of a destination that the mesh does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutboundDefault {
    /// It is reached as if there were no proxy; counted as `passthrough`.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

/// What all workers share.
pub struct Shared {
    /// The table.
    pub lookup: Lookup,
    /// What the table lets in to the application.
    pub inbound: Arc<Inbound>,
    /// The namespace of the workload, in which bare names are looked up.
    pub namespace: Arc<str>,
    /// `cart.shop`, or `unknown`: what the next proxy is told.
    pub source_name: String,
    /// Its name among all proxies.
    pub node: String,
    /// What becomes of destinations outside the mesh.
    pub outbound_default: OutboundDefault,
    /// Whether this is a gateway.
    pub gateway: bool,
    /// Limits of connections.
    pub limits: Limits,
    /// Where strikes against limits are counted.
    pub strikes: Arc<Strikes>,
    /// The places that connections take, upstream ones too.
    pub places: Places,
    /// How short it is of memory.
    pub strain: Arc<Strain>,
    /// The proxies in front that say for whom they come, if there are any.
    pub in_front: Option<InFront>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where lines go, if anywhere.
    pub access: Option<AccessLog>,
    /// Where edges are counted.
    pub metrics: Arc<Registry>,
    /// Counts requests that found no destination.
    pub unrouted: Arc<Edge>,
    /// Counts what goes outside the mesh.
    pub passthrough: Arc<Edge>,
    /// Turns virtual addresses of captured connections back into names.
    pub virtual_names: Option<Arc<dyn VirtualNames>>,
    /// Ends when the proxy shall finish.
    pub drain: DrainWatch,
}

/// The names behind virtual addresses, as DNS gave them out.
pub trait VirtualNames: Send + Sync {
    /// The host name for which this address was given out.
    fn name_of(&self, address: std::net::IpAddr) -> Option<String>;
    /// Whether an address is of the virtual ranges.
    fn is_virtual(&self, address: std::net::IpAddr) -> bool;
}

/// One worker.
pub struct Worker {
    /// What it shares.
    pub shared: Arc<Shared>,
    pub(crate) pool: Pool<PoolKey>,
    pub(crate) dial: Rc<dyn Dial>,
    pub(crate) application_dial: Rc<dyn Dial>,
    pub(crate) client_options: Rc<ClientOptions>,
    pub(crate) server_options: Rc<ServerOptions>,
    /// Where TLS has agreed on HTTP/1, and on HTTP/2: nothing else is spoken then.
    pub(crate) agreed_options: [Rc<ServerOptions>; 2],
    /// Handshakes in progress.
    pub(crate) handshakes: Rc<leno_tls::Handshakes>,
    /// Copies for mirrors on their way.
    pub(crate) mirrors: Cell<usize>,
    names: RefCell<Names>,
    sources: RefCell<HashMap<Text, Vec<Arc<Edge>>>>,
    outside: RefCell<HashMap<Text, (Duration, Arc<Destination>)>>,
    pub(crate) outside_names: OutsideNames,
    this: Weak<Worker>,
}

/// Destinations by authority as it was spelt, valid for one table.
#[derive(Default)]
struct Names {
    table: Cell<u64>,
    known: HashMap<Text, Arc<Destination>>,
}

// === impl Worker ===

impl Worker {
    /// A worker that dials with `dial`, and the application with one of its own: it may live in another network.
    pub fn new(shared: Arc<Shared>, dial: Rc<dyn Dial>, application_dial: Rc<dyn Dial>) -> Rc<Self> {
        Self::looking_up(shared, dial, application_dial, Arc::new(outside::of_host))
    }

    /// As [`Worker::new`], with a way of its own to look up names outside the mesh.
    pub fn looking_up(
        shared: Arc<Shared>,
        dial: Rc<dyn Dial>,
        application_dial: Rc<dyn Dial>,
        look_up: LookUp,
    ) -> Rc<Self> {
        let options = PoolOptions { idle_timeout: Duration::from_secs(3600), ..PoolOptions::default() };
        Rc::new_cyclic(|this| Self {
            pool: Pool::new(options),
            dial,
            application_dial,
            client_options: Rc::new(ClientOptions {
                limits: shared.limits.clone(),
                strikes: shared.strikes.clone(),
                ..ClientOptions::default()
            }),
            server_options: server_options(&shared, true, true),
            agreed_options: [server_options(&shared, true, false), server_options(&shared, false, true)],
            handshakes: Rc::new(leno_tls::Handshakes::new(shared.limits.handshake_timeout)),
            mirrors: Cell::new(0),
            names: RefCell::default(),
            sources: RefCell::default(),
            outside: RefCell::default(),
            outside_names: OutsideNames::new(look_up, shared.clock.clone()),
            this: this.clone(),
            shared,
        })
    }

    /// Time since some fixed moment of the process.
    pub fn now(&self) -> Duration {
        self.shared.clock.monotonic()
    }

    /// The connections to endpoints that it holds.
    pub fn connections(&self) -> PoolSize {
        self.pool.size()
    }

    pub(crate) fn random_bits(&self) -> u64 {
        SystemRandom.next_u64()
    }

    /// The index of an endpoint for what has this hash, if it has one.
    pub(crate) fn pick(&self, cluster: &Cluster, hash: Option<u64>, tried: &[usize]) -> Option<usize> {
        cluster.pick(self.now(), &mut SystemRandom, hash, tried)
    }

    /// The hash of who asks, by address. Beside a workload that is the workload, whatever address of its own machine it asks
    /// from: those are the same on all machines, and all callers of the mesh would count as one.
    pub(crate) fn caller(&self, address: Option<IpAddr>) -> Option<u64> {
        if !self.shared.gateway {
            return Some(hash::of(self.shared.node.as_bytes()));
        }
        Some(match address?.to_canonical() {
            IpAddr::V4(address) => hash::of(&address.octets()),
            IpAddr::V6(address) => hash::of(&address.octets()),
        })
    }

    pub(crate) fn handle(&self) -> Rc<Worker> {
        self.this.upgrade().expect("a worker is only made in an Rc")
    }

    pub(crate) fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        task::spawn(name, future);
    }

    /// The destination that an authority names: a service of the mesh, or `None` for the world outside.
    pub(crate) async fn destination(&self, authority: &Text) -> Result<Option<Arc<Destination>>, Failure> {
        if let Some(known) = self.remembered(authority) {
            return Ok(Some(known));
        }
        let Some(asked) = MeshName::of(authority, &self.shared.namespace) else { return Ok(None) };
        // Of this table or a later one; by the version of a later one an earlier destination would be kept for good.
        let version = self.shared.lookup.table().version;
        match self.shared.lookup.find(&asked.listener, || self.now()).await {
            Found::Destination(destination) => {
                self.remember(authority, &destination, version);
                Ok(Some(destination))
            }
            Found::Absent if asked.certainly_mesh => Err(Failure::NoService(asked.listener.to_string())),
            Found::Absent => Ok(None),
            Found::Unknown if asked.certainly_mesh => {
                Err(Failure::NotSynced { name: asked.listener.to_string(), waited: WAIT_MAX })
            }
            Found::Unknown => Ok(None),
        }
    }

    /// The destination of an authority that was asked for before, under the same table.
    pub(crate) fn remembered(&self, authority: &Text) -> Option<Arc<Destination>> {
        let names = self.names.borrow();
        if names.table.get() != self.shared.lookup.table().version {
            return None;
        }
        names.known.get(authority).cloned()
    }

    fn remember(&self, authority: &Text, destination: &Arc<Destination>, version: u64) {
        let mut names = self.names.borrow_mut();
        if names.table.replace(version) != version || names.known.len() >= NAMES_MAX {
            names.known.clear();
        }
        names.known.insert(authority.clone(), destination.clone());
    }

    /// The edge from a calling service, as its proxy names it, to the application.
    pub(crate) fn inbound_edge(&self, source: &Text, cluster: &Cluster, is_grpc: bool) -> Arc<Edge> {
        let own = if is_grpc { &cluster.edges.grpc } else { &cluster.edges.http };
        let mut sources = self.sources.borrow_mut();
        if let Some(known) = sources.get(source).and_then(|edges| {
            edges.iter().find(|edge| {
                edge.key().protocol == own.key().protocol && edge.key().destination == own.key().destination
            })
        }) {
            return known.clone();
        }
        let (Ok(service), true) = (source.parse::<ServiceName>(), sources.len() < SOURCES_MAX) else {
            return own.clone();
        };
        let edge = self.shared.metrics.edge(&EdgeKey { source: service.into(), ..own.key().clone() });
        sources.entry(source.clone()).or_default().push(edge.clone());
        edge
    }

    /// A destination outside the mesh whose addresses still hold.
    pub(crate) fn outside(&self, authority: &Text) -> Option<Arc<Destination>> {
        let outside = self.outside.borrow();
        outside.get(authority).filter(|(until, _)| self.now() < *until).map(|(_, destination)| destination.clone())
    }

    pub(crate) fn remember_outside(&self, authority: &Text, destination: &Arc<Destination>, until: Duration) {
        let now = self.now();
        let mut outside = self.outside.borrow_mut();
        if outside.len() >= OUTSIDE_MAX {
            outside.retain(|_, (until, _)| now < *until);
        }
        if outside.len() < OUTSIDE_MAX {
            outside.insert(authority.clone(), (until, destination.clone()));
        }
    }

    /// Closes the connections to endpoints on which nothing is asked.
    pub(crate) fn close_idle(&self) {
        self.pool.close_idle(|_| true);
    }

    /// Closes what idled too long and forgets endpoints that no table leads to. To be called about once a second.
    pub fn sweep(&self, extra: &[PoolOwner]) {
        self.pool.sweep();
        let table = self.shared.lookup.table();
        let mut live: std::collections::HashSet<_> = extra.iter().map(|owner| owner.0).collect();
        for destination in table.destinations() {
            live.extend(destination.clusters().flat_map(|c| c.endpoints.iter().map(|e| e.state.key)));
        }
        let clusters = || table.destinations().flat_map(|destination| destination.clusters());
        let now = self.now();
        for short in clusters().filter(|cluster| cluster.resilience.is_short_of_connections(now)) {
            // Somebody else needs the room of what nobody needs here.
            self.pool.close_idle(|key| short.endpoints.iter().any(|own| own.state.key == key.endpoint));
        }
        self.outside_names.sweep();
        self.outside.borrow_mut().retain(|_, (until, _)| now < *until);
        for (_, destination) in self.outside.borrow().values() {
            live.extend(destination.clusters().flat_map(|c| c.endpoints.iter().map(|e| e.state.key)));
        }
        self.pool.retain(|key| live.contains(&key.endpoint));
    }
}

/// An endpoint outside the table, whose connections a sweep keeps: the application beside the proxy.
#[derive(Debug, Clone, Copy)]
pub struct PoolOwner(pub crate::cluster::EndpointKey);

/// The listener that an authority asks for.
struct MeshName {
    listener: Name,
    /// `cart` and `cart.shop.mesh` can only be of the mesh; `cart.shop` may be a name of the world outside.
    certainly_mesh: bool,
}

/// How connections are served that speak these versions.
fn server_options(shared: &Shared, http1: bool, http2: bool) -> Rc<ServerOptions> {
    let (limits, strikes) = (shared.limits.clone(), shared.strikes.clone());
    let spawn = Rc::new(NamedTasks);
    Rc::new(ServerOptions { limits, strikes, spawn, http1, http2, ..ServerOptions::default() })
}

// === impl MeshName ===

impl MeshName {
    fn of(authority: &str, namespace: &str) -> Option<Self> {
        let (host, port) = split_port(authority);
        if host.eq_ignore_ascii_case("localhost") {
            return None;
        }
        let service = ServiceName::from_host(host, namespace)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        let suffix = format!(".{}", leno_model::name::MESH_SUFFIX);
        let ends_in_suffix =
            host.len() > suffix.len() && host[host.len() - suffix.len()..].eq_ignore_ascii_case(&suffix);
        let certainly_mesh = !host.contains('.') || ends_in_suffix;
        let listener = match port {
            Some(port) => format!("{}:{port}", service.host()),
            None => service.host(),
        };
        Some(Self { listener: listener.into(), certainly_mesh })
    }
}

/// Host and port of an authority; a port that is none stays with the host, which then is no name.
pub(crate) fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => match port.parse() {
            Ok(port) => (host, Some(port)),
            Err(_) => (authority, None),
        },
        _ => (authority, None),
    }
}

/// The client's address, where it has one.
pub(crate) fn downstream(stream: &leno_net::Stream) -> Option<SocketAddr> {
    stream.peer_addr().tcp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(authority: &str) -> Option<(String, bool)> {
        MeshName::of(authority, "shop").map(|name| (name.listener.to_string(), name.certainly_mesh))
    }

    #[test]
    fn an_authority_asks_for_a_listener_by_its_full_name() {
        assert_eq!(listener("cart"), Some(("cart.shop.mesh".into(), true)));
        assert_eq!(listener("cart:8080"), Some(("cart.shop.mesh:8080".into(), true)));
        assert_eq!(listener("cart.other"), Some(("cart.other.mesh".into(), false)));
        assert_eq!(listener("Cart.Other.Mesh:80"), Some(("cart.other.mesh:80".into(), true)));
    }

    #[test]
    fn addresses_and_outside_names_ask_for_nothing() {
        for authority in ["10.0.0.1:80", "[::1]:80", "www.example.com", "localhost:3000", "cart:http", ""] {
            assert_eq!(listener(authority), None, "{authority}");
        }
    }
}

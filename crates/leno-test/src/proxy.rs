//! A whole proxy of one worker, told its table by hand.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use leno_model::instance::Protocol;
use leno_model::name::ServiceName;
use leno_model::snapshot::{
    Action, BalancePolicy, Cluster, Endpoint, Endpoints, HostPattern, Listener, Match, Origin, Retry, RouteConfig,
    Rule, VirtualHost, WeightedCluster,
};
use leno_net::dial::HostDial;
use leno_net::{Address, Network};
use leno_proxy::held::Held;
use leno_proxy::listener::{self, Commands, Key, Purpose};
use leno_proxy::lookup::{self, Tables};
use leno_proxy::outside::LookUp;
use leno_proxy::table::Builder as TableBuilder;
use leno_proxy::worker::{OutboundDefault, Shared, Worker};
use leno_proxy::{Application, InFront, inbound};
use leno_runtime::{Drain, SystemClock, task};
use leno_telemetry::edge::Peer;
use leno_telemetry::{EdgeKey, Registry};
use leno_xds::client::Received;

use crate::server::Server;

/// A change to what a service gets by default.
type Change<T> = Box<dyn Fn(&mut T)>;

/// A proxy that is being told what to do.
pub struct Builder {
    held: Held,
    change_rule: Option<Change<Rule>>,
    change_listener: Option<Change<Listener>>,
    change_cluster: Option<Change<Cluster>>,
    through_proxies: bool,
    inbound: Option<Application>,
    outbound_default: OutboundDefault,
    in_front: Option<Vec<Network>>,
    look_up: Option<LookUp>,
}

/// A running proxy.
pub struct Proxy {
    /// The outbound port.
    pub outbound: SocketAddr,
    /// The inbound port, if there is an application.
    pub inbound: Option<SocketAddr>,
    /// What it counts.
    pub metrics: Arc<Registry>,
    /// Its life.
    pub drain: Drain,
    /// Its only worker.
    pub worker: Rc<Worker>,
    tables: Tables,
    builder: TableBuilder,
    held: Held,
    commands: Commands,
    _running: task::AbortOnDrop<()>,
}

/// A sidecar without an application, in namespace `default`.
pub fn proxy() -> Builder {
    Builder {
        held: Held::default(),
        change_rule: None,
        change_listener: None,
        change_cluster: None,
        through_proxies: false,
        inbound: None,
        outbound_default: OutboundDefault::Allow,
        in_front: None,
        look_up: None,
    }
}

// === impl Builder ===

impl Builder {
    /// The service `name` of namespace `default`, with these servers as its instances, spoken to in whatever the
    /// client speaks.
    #[must_use]
    pub fn outbound_to<'s>(self, name: &str, servers: impl IntoIterator<Item = &'s Server>) -> Self {
        self.outbound_at(name, Protocol::Detect, servers.into_iter().map(|server| server.address))
    }

    /// As `outbound_to`, by addresses.
    #[must_use]
    pub fn outbound_at(
        mut self,
        name: &str,
        protocol: Protocol,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Self {
        let service: ServiceName = name.parse().expect("a test names a service");
        let cluster: Arc<str> = service.host().into();
        let mut held = std::mem::take(&mut self.held);
        let mut listener = listener_of(&service, &cluster, protocol);
        self.change_listener.iter().for_each(|change| change(&mut listener));
        let mut clustered = cluster_of(&service, &cluster, protocol);
        self.change_cluster.iter().for_each(|change| change(&mut clustered));
        let mut endpoints = endpoints_of(&cluster, addresses);
        if self.through_proxies {
            endpoints.endpoints.iter_mut().for_each(|endpoint| endpoint.proxy = Some(endpoint.address));
        }
        let with_port: Arc<str> = format!("{cluster}:80").into();
        put(&mut held.listeners, &with_port, Listener { name: with_port.clone(), ..listener.clone() });
        put(&mut held.listeners, &cluster, listener);
        put(&mut held.routes, &cluster, route_of(&cluster, self.change_rule.as_deref()));
        put(&mut held.clusters, &cluster, clustered);
        put(&mut held.endpoints, &cluster, endpoints);
        self.held = held;
        self
    }

    /// Has the rules of services that are named after this changed.
    #[must_use]
    pub fn with_rule(mut self, change: impl Fn(&mut Rule) + 'static) -> Self {
        self.change_rule = Some(Box::new(change));
        self
    }

    /// Has the listeners of services that are named after this changed.
    #[must_use]
    pub fn with_listener(mut self, change: impl Fn(&mut Listener) + 'static) -> Self {
        self.change_listener = Some(Box::new(change));
        self
    }

    /// Has the clusters of services that are named after this changed.
    #[must_use]
    pub fn with_cluster(mut self, change: impl Fn(&mut Cluster) + 'static) -> Self {
        self.change_cluster = Some(Box::new(change));
        self
    }

    /// The addresses of services that are named after this are those of inbound proxies.
    #[must_use]
    pub fn through_proxies(mut self) -> Self {
        self.through_proxies = true;
        self
    }

    /// A rule that tries again on 503.
    #[must_use]
    pub fn retrying(self) -> Self {
        self.with_rule(|rule| {
            rule.retry =
                Some(Retry { attempts: 2, codes: vec![503], backoff: Duration::from_millis(1), ..Retry::default() });
        })
    }

    /// An application behind the proxy.
    #[must_use]
    pub fn inbound_to(mut self, server: &Server, protocol: Protocol) -> Self {
        let address = Address::Tcp(server.address);
        self.inbound = Some(Application { service: None, port: server.address.port(), address, protocol });
        self
    }

    /// What becomes of destinations outside the mesh.
    #[must_use]
    pub fn outbound_default(mut self, outbound_default: OutboundDefault) -> Self {
        self.outbound_default = outbound_default;
        self
    }

    /// Proxies of this network begin connections to the inbound port with PROXY headers.
    #[must_use]
    pub fn in_front(mut self, network: &str) -> Self {
        self.in_front.get_or_insert_default().push(network.parse().expect("a test names a network"));
        self
    }

    /// Who knows the addresses of names outside the mesh; it may block.
    #[must_use]
    pub fn looking_up(mut self, look_up: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static) -> Self {
        self.look_up = Some(Arc::new(look_up));
        self
    }

    /// Starts it on free ports of loopback.
    pub async fn start(self) -> Proxy {
        let metrics = Arc::new(Registry::new(1, Default::default()));
        let (lookup, tables) = lookup::tables();
        let drain = Drain::new();
        let passthrough = EdgeKey { destination: Peer::Passthrough, ..EdgeKey::default() };
        let shared = Arc::new(Shared {
            lookup,
            inbound: Default::default(),
            namespace: "default".into(),
            source_name: "test.default".to_owned(),
            node: "test.default/1".to_owned(),
            outbound_default: self.outbound_default,
            gateway: false,
            limits: Default::default(),
            strikes: Default::default(),
            places: Default::default(),
            strain: Default::default(),
            in_front: self.in_front.map(|networks| InFront::new(networks, &metrics)),
            clock: Arc::new(SystemClock),
            access: None,
            metrics: metrics.clone(),
            unrouted: metrics.edge(&EdgeKey::default()),
            passthrough: metrics.edge(&passthrough),
            virtual_names: None,
            drain: drain.watch(),
        });
        let (commands, mut commanded) = Commands::new(1);
        let (dial, application_dial) = (Rc::new(HostDial), Rc::new(HostDial));
        let worker = match self.look_up {
            None => Worker::new(shared, dial, application_dial),
            Some(look_up) => Worker::looking_up(shared, dial, application_dial, look_up),
        };
        let commanded = commanded.remove(0);
        let running = task::spawn("test-worker", listener::run(worker.clone(), commanded)).abort_on_drop();
        let mut builder = TableBuilder::new(EdgeKey::default(), 1, metrics.clone());
        let (table, refusals) = builder.build(&self.held, Default::default());
        assert!(refusals.is_empty(), "{refusals:?}");
        tables.swap(table);
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let outbound = commands.listen(Key::Outbound, Purpose::Outbound, free).await.expect("loopback has free ports");
        let inbound = match &self.inbound {
            None => None,
            Some(application) => Some(listen_inbound(&commands, application, &metrics).await),
        };
        Proxy {
            outbound,
            inbound,
            metrics,
            drain,
            tables,
            builder,
            held: self.held,
            worker,
            commands,
            _running: running,
        }
    }
}

async fn listen_inbound(commands: &Commands, application: &inbound::Application, metrics: &Registry) -> SocketAddr {
    let purpose = Purpose::Inbound(Arc::new(application.destination(metrics)));
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    commands.listen(Key::Inbound(application.port), purpose, free).await.expect("loopback has free ports")
}

// === impl Proxy ===

impl Proxy {
    /// Gives a service other instances.
    pub fn set_endpoints(&mut self, name: &str, addresses: impl IntoIterator<Item = SocketAddr>) {
        let service: ServiceName = name.parse().expect("a test names a service");
        let cluster: Arc<str> = service.host().into();
        put(&mut self.held.endpoints, &cluster, endpoints_of(&cluster, addresses));
        self.swap(HashMap::new());
    }

    /// Takes a service out of the mesh; it is known for a minute that it is gone.
    pub fn remove(&mut self, name: &str) {
        let service: ServiceName = name.parse().expect("a test names a service");
        let name: Arc<str> = service.host().into();
        let with_port: Arc<str> = format!("{name}:80").into();
        self.held.listeners.retain(|listener, _| *listener != name && *listener != with_port);
        let until = self.worker.now() + Duration::from_secs(60);
        self.swap(HashMap::from([(name, until), (with_port, until)]));
    }

    /// A port that leads to one service.
    pub async fn port_to(&self, name: &str) -> SocketAddr {
        let service: ServiceName = name.parse().expect("a test names a service");
        let purpose = Purpose::To(service.host().into());
        self.listen(Key::To(name.to_owned()), purpose).await
    }

    /// A port for the world outside that leads to one service.
    pub async fn gateway_to(&self, name: &str) -> SocketAddr {
        let service: ServiceName = name.parse().expect("a test names a service");
        let name: Arc<str> = service.host().into();
        let destination = self.tables.current().destination(&name).expect("the service is named first").clone();
        self.listen(Key::Gateway(name), Purpose::Gateway(destination)).await
    }

    async fn listen(&self, key: Key, purpose: Purpose) -> SocketAddr {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        self.commands.listen(key, purpose, free).await.expect("loopback has free ports")
    }

    fn swap(&mut self, absent: HashMap<Arc<str>, Duration>) {
        let (table, refusals) = self.builder.build(&self.held, absent);
        assert!(refusals.is_empty(), "{refusals:?}");
        self.tables.swap(table);
    }
}

fn put<T>(map: &mut std::collections::BTreeMap<Arc<str>, Received<T>>, name: &Arc<str>, resource: T) {
    map.insert(name.clone(), Received { version: "1".into(), resource: Arc::new(resource) });
}

fn listener_of(service: &ServiceName, cluster: &Arc<str>, protocol: Protocol) -> Listener {
    Listener {
        service: Some(service.clone()),
        port: 80,
        protocol,
        http: Some(cluster.clone()),
        tcp: vec![WeightedCluster {
            cluster: Some(cluster.clone()),
            weight: 1,
            filters: Vec::new(),
            affinity: Default::default(),
            rate_limits: Default::default(),
            injections: Default::default(),
        }],
        ..Listener::named(cluster.clone())
    }
}

fn route_of(cluster: &Arc<str>, change: Option<&dyn Fn(&mut Rule)>) -> RouteConfig {
    let target = WeightedCluster {
        cluster: Some(cluster.clone()),
        weight: 1,
        filters: Vec::new(),
        affinity: Default::default(),
        rate_limits: Default::default(),
        injections: Default::default(),
    };
    let mut rule = Rule {
        origin: Origin { resource: "default".into(), rule: 0, name: None },
        when: Match::default(),
        filters: Vec::new(),
        action: Action::Forward(vec![target]),
        request_timeout: None,
        try_timeout: None,
        retry: None,
    };
    change.iter().for_each(|change| change(&mut rule));
    let host = VirtualHost { hostnames: vec![HostPattern::Any], rules: vec![rule] };
    RouteConfig { name: cluster.clone(), hosts: vec![host] }
}

fn cluster_of(service: &ServiceName, cluster: &Arc<str>, protocol: Protocol) -> Cluster {
    Cluster {
        name: cluster.clone(),
        service: service.clone(),
        port: 80,
        protocol,
        balance: BalancePolicy::RoundRobin,
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        tls: None,
        proxy_protocol: None,
        resilience: Default::default(),
        balancing: Default::default(),
    }
}

fn endpoints_of(cluster: &Arc<str>, addresses: impl IntoIterator<Item = SocketAddr>) -> Endpoints {
    let endpoint = |address: SocketAddr| Endpoint::at(address.to_string(), address);
    Endpoints { cluster: cluster.clone(), endpoints: addresses.into_iter().map(endpoint).collect() }
}

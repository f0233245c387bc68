//! A whole proxy of one worker, told its table by hand.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use leno_model::instance::Protocol;
use leno_model::name::ServiceName;
use leno_model::snapshot::{
    Action, BalancePolicy, Cluster, Endpoint, EndpointHealth, Endpoints, HostPattern, Listener, Match, Origin, Retry,
    RouteConfig, Rule, VirtualHost, WeightedCluster,
};
use leno_net::Address;
use leno_net::dial::HostDial;
use leno_proxy::held::Held;
use leno_proxy::listener::{self, Commands, Key, Purpose};
use leno_proxy::lookup::{self, Tables};
use leno_proxy::table::Builder as TableBuilder;
use leno_proxy::worker::{OutboundDefault, Shared, Worker};
use leno_proxy::{Application, inbound};
use leno_runtime::{Drain, SystemClock, task};
use leno_telemetry::edge::Peer;
use leno_telemetry::{EdgeKey, Registry};
use leno_xds::client::Received;

use crate::server::Server;

/// A proxy that is being told what to do.
pub struct Builder {
    held: Held,
    default_rule: Option<fn(&mut Rule)>,
    inbound: Option<Application>,
    outbound_default: OutboundDefault,
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
    tables: Tables,
    builder: TableBuilder,
    held: Held,
    _commands: Commands,
    _worker: task::AbortOnDrop<()>,
}

/// A sidecar without an application, in namespace `default`.
pub fn proxy() -> Builder {
    Builder { held: Held::default(), default_rule: None, inbound: None, outbound_default: OutboundDefault::Allow }
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
        put(&mut held.listeners, &cluster, listener_of(&service, &cluster, protocol));
        put(&mut held.routes, &cluster, route_of(&cluster, self.default_rule));
        put(&mut held.clusters, &cluster, cluster_of(&service, &cluster, protocol));
        put(&mut held.endpoints, &cluster, endpoints_of(&cluster, addresses));
        self.held = held;
        self
    }

    /// Has the rules of services that are named after this changed.
    #[must_use]
    pub fn with_rule(mut self, change: fn(&mut Rule)) -> Self {
        self.default_rule = Some(change);
        self
    }

    /// A rule that tries again on 503.
    #[must_use]
    pub fn retrying(self) -> Self {
        self.with_rule(|rule| {
            rule.retry = Some(Retry { attempts: 2, codes: vec![503], backoff: Duration::from_millis(1) });
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

    /// Starts it on free ports of loopback.
    pub async fn start(self) -> Proxy {
        let metrics = Arc::new(Registry::new(1, Default::default()));
        let (lookup, tables) = lookup::tables();
        let drain = Drain::new();
        let passthrough = EdgeKey { destination: Peer::Passthrough, ..EdgeKey::default() };
        let shared = Arc::new(Shared {
            lookup,
            namespace: "default".into(),
            source_name: "test.default".to_owned(),
            outbound_default: self.outbound_default,
            gateway: false,
            limits: Default::default(),
            strikes: Default::default(),
            clock: Arc::new(SystemClock),
            access: None,
            metrics: metrics.clone(),
            unrouted: metrics.edge(&EdgeKey::default()),
            passthrough: metrics.edge(&passthrough),
            virtual_names: None,
            drain: drain.watch(),
        });
        let (commands, mut commanded) = Commands::new(1);
        let worker = Worker::new(shared, Rc::new(HostDial), Rc::new(HostDial));
        let commanded = commanded.remove(0);
        let worker = task::spawn("test-worker", listener::run(worker, commanded)).abort_on_drop();
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
            _commands: commands,
            _worker: worker,
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
        let (table, refusals) = self.builder.build(&self.held, Default::default());
        assert!(refusals.is_empty(), "{refusals:?}");
        self.tables.swap(table);
    }
}

fn put<T>(map: &mut std::collections::BTreeMap<Arc<str>, Received<T>>, name: &Arc<str>, resource: T) {
    map.insert(name.clone(), Received { version: "1".into(), resource: Arc::new(resource) });
}

fn listener_of(service: &ServiceName, cluster: &Arc<str>, protocol: Protocol) -> Listener {
    Listener {
        name: cluster.clone(),
        service: Some(service.clone()),
        port: 80,
        bind: false,
        protocol,
        http: Some(cluster.clone()),
        tcp: vec![WeightedCluster { cluster: Some(cluster.clone()), weight: 1, filters: Vec::new() }],
        tls: Vec::new(),
        idle_timeout: Duration::from_secs(3600),
    }
}

fn route_of(cluster: &Arc<str>, change: Option<fn(&mut Rule)>) -> RouteConfig {
    let target = WeightedCluster { cluster: Some(cluster.clone()), weight: 1, filters: Vec::new() };
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
    }
}

fn endpoints_of(cluster: &Arc<str>, addresses: impl IntoIterator<Item = SocketAddr>) -> Endpoints {
    let endpoint = |address: SocketAddr| Endpoint {
        id: address.to_string().into(),
        address,
        proxy: None,
        weight: 100,
        health: EndpointHealth::Healthy,
        version: None,
        zone: None,
        region: None,
    };
    Endpoints { cluster: cluster.clone(), endpoints: addresses.into_iter().map(endpoint).collect() }
}

//! Servers and proxies for tests: real sockets, one thread.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use leno_http::grpc::Router;
use leno_http::{ServerOptions as HttpOptions, SpawnLocal, Strikes, serve_connection};
use leno_model::seam::{Clock, Random, Timestamp};
use leno_model::snapshot::Name;
use leno_net::dial::HostDial;
use leno_xds::client::{ClientOptions, Event, Subscriptions, Update, client};
use leno_xds::kind::Kind;
use leno_xds::node::NodeInfo;
use leno_xds::provide::Provide;
use leno_xds::server::{Server, ServerOptions};
use leno_xds::status::{Rejection, StatusTable};
use leno_xds::transport::{GrpcServers, limits};
use leno_xds::version::Version;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::world::World;

pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let test = async { tokio::time::timeout(Duration::from_secs(100), test).await.expect("the test hangs") };
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

/// Time since the test began.
struct TestClock(Instant);

impl Clock for TestClock {
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.0.elapsed().as_millis() as u64)
    }
}

struct TestRandom;

impl Random for TestRandom {
    fn next_u64(&mut self) -> u64 {
        0
    }
}

/// Servers of one world.
pub(crate) struct Servers {
    pub(crate) world: Rc<World>,
    pub(crate) status: StatusTable,
    pub(crate) servers: Vec<Rc<Server>>,
    addresses: Vec<SocketAddr>,
    tasks: HashMap<String, AbortHandle>,
}

impl Servers {
    pub(crate) async fn start(count: usize) -> Self {
        let world = Rc::new(World::new());
        let mut all = Self {
            world,
            status: StatusTable::new(),
            servers: Vec::new(),
            addresses: Vec::new(),
            tasks: HashMap::new(),
        };
        for _ in 0..count {
            let clock = Arc::new(TestClock(Instant::now()));
            let options = ServerOptions::default();
            let server = Server::new(all.world.clone(), all.status.clone(), clock, options);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let task = tokio::task::spawn_local(accept(listener, server.clone()));
            all.tasks.insert(address.to_string(), task.abort_handle());
            all.addresses.push(address);
            all.servers.push(server);
        }
        all
    }

    /// Ends a server with all its connections.
    pub(crate) fn kill(&mut self, server: &str) {
        self.tasks[server].abort();
    }

    pub(crate) fn revision(&self) -> u64 {
        self.world.revision()
    }

    /// The first refusal that anybody says.
    pub(crate) async fn rejection(&self, kind: Kind) -> Rejection {
        loop {
            let rows = self.status.list();
            if let Some(rejection) = rows.into_iter().find_map(|row| row.kinds[kind.index()].rejection.clone()) {
                return rejection;
            }
            self.status.changes().changed().await.unwrap();
        }
    }

    /// Waits until a node has all in effect that it asked for.
    pub(crate) async fn in_effect(&self, id: &str) {
        let is_in_effect = || {
            let rows = self.status.list();
            rows.iter().any(|row| row.node.id == id && row.kinds.iter().all(|kind| kind.in_effect))
        };
        while !is_in_effect() {
            self.status.changes().changed().await.unwrap();
        }
    }
}

async fn accept(listener: TcpListener, server: Rc<Server>) {
    let options = Rc::new(HttpOptions {
        limits: limits(),
        strikes: Arc::new(Strikes::default()),
        spawn: Rc::new(SpawnLocal),
        http1: false,
        http2: true,
        on_refused: None,
        keepalive: None,
    });
    let mut connections = JoinSet::new();
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        let router = Rc::new(server.routes(Router::new(), Some(peer.to_string())));
        let options = options.clone();
        connections.spawn_local(async move {
            serve_connection(stream.into(), Default::default(), &options, router, std::future::pending()).await;
        });
    }
}

/// A client with its consumer.
pub(crate) struct Proxy {
    pub(crate) subscriptions: Subscriptions,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) connected_to: String,
}

impl Proxy {
    pub(crate) fn start(id: &str, servers: &Servers) -> Self {
        Self::start_with(id, servers, Vec::new())
    }

    pub(crate) fn start_with(id: &str, servers: &Servers, held: Vec<(Kind, Name, Version)>) -> Self {
        let addresses = servers.addresses.iter().map(|address| (*address).into()).collect();
        let connect = GrpcServers::new(addresses, Rc::new(HostDial), Rc::new(SpawnLocal));
        let options = ClientOptions { held, ..ClientOptions::new(NodeInfo::new(id)) };
        let (subscriptions, events, driver) = client(options, connect, TestRandom);
        tokio::task::spawn_local(driver);
        Self { subscriptions, events, connected_to: String::new() }
    }

    /// The next update, whatever else happens.
    pub(crate) async fn update(&mut self) -> Update {
        loop {
            match self.events.recv().await.unwrap() {
                Event::Update(update) => return update,
                Event::Connected { server } => self.connected_to = server,
                Event::Disconnected { .. } => {}
            }
        }
    }
}

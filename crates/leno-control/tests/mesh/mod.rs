//! A control plane over a memory store and a directory that the test writes: `Mesh`.

#![allow(dead_code, clippy::unwrap_used, reason = "each test file uses a part of it, and a test may unwrap")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_core::stream::BoxStream;
use leno_control::directory::{Changed, Directory};
use leno_control::{Applied, Apply, Control, Driver, Error, Options};
use leno_model::document;
use leno_model::identity::{Principal, Role};
use leno_model::instance::{Instance, InstancePort, InstanceStatus, ProbeResult, Protocol, Visibility};
use leno_model::name::ServiceName;
use leno_model::seam::{Clock, Timestamp};
use leno_model::snapshot::{Cluster, Endpoints, Listener, RouteConfig};
use leno_registry::{LeaseState, Origin, Registered};
use leno_store::{Answer, Error as StoreError, LeaseId, MemoryStore, Range, Revision, Store, Txn, TxnResult, Watch};
use leno_xds::kind::Kind;
use leno_xds::node::{NodeInfo, ProxyKind, ProxyRole};
use leno_xds::provide::{Provide, Resource};
use leno_xds::status::StatusTable;
use leno_xds::translate;
use tokio::sync::watch;

/// A clock that goes on by a second with each look at it.
#[derive(Default)]
pub(crate) struct Ticks(AtomicU64);

impl Clock for Ticks {
    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed))
    }
    fn wall(&self) -> Timestamp {
        Timestamp(1_795_225_211_000 + 1000 * self.0.fetch_add(1, Ordering::Relaxed))
    }
}

impl Ticks {
    /// Goes on by so many seconds at once.
    pub(crate) fn jump(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

/// A store that counts transactions and does with them what a test says.
pub(crate) struct ToldStore {
    inner: MemoryStore,
    /// Transactions that it was asked for.
    pub(crate) txns: AtomicU64,
    /// Refuses every one.
    pub(crate) fails: AtomicBool,
    /// Commits at once, and answers when it is told that it may.
    pub(crate) late: AtomicBool,
}

type ById = BTreeMap<Arc<str>, Arc<Registered>>;

/// Instances that a test writes down.
pub(crate) struct Instances {
    services: Mutex<BTreeMap<ServiceName, ById>>,
    dirty: Mutex<BTreeSet<ServiceName>>,
    changed: watch::Sender<u64>,
}

pub(crate) struct Mesh {
    pub(crate) control: Control,
    pub(crate) driver: Option<Driver>,
    pub(crate) instances: Arc<Instances>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<Ticks>,
}

impl Default for ToldStore {
    fn default() -> Self {
        let inner = MemoryStore::new(Arc::new(Ticks::default()));
        Self { inner, txns: AtomicU64::default(), fails: AtomicBool::default(), late: AtomicBool::default() }
    }
}

impl Store for ToldStore {
    fn txn(&self, txn: Txn) -> Answer<'_, TxnResult> {
        self.txns.fetch_add(1, Ordering::Relaxed);
        if self.fails.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::Closed) });
        }
        let done = self.inner.txn(txn);
        Box::pin(async move {
            let done = done.await;
            while self.late.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
            done
        })
    }

    fn range<'a>(&'a self, prefix: &'a str, at: Option<Revision>) -> Answer<'a, Range> {
        self.inner.range(prefix, at)
    }
    fn get<'a>(&'a self, key: &'a str) -> Answer<'a, Option<leno_store::KeyValue>> {
        self.inner.get(key)
    }
    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> Answer<'a, Watch> {
        self.inner.watch(prefix, from)
    }
    fn compact(&self, revision: Revision) -> Answer<'_, ()> {
        self.inner.compact(revision)
    }
    fn lease_grant(&self, ttl: Duration) -> Answer<'_, LeaseId> {
        self.inner.lease_grant(ttl)
    }
    fn lease_keep_alive(&self, lease: LeaseId) -> Answer<'_, Duration> {
        self.inner.lease_keep_alive(lease)
    }
    fn lease_revoke(&self, lease: LeaseId) -> Answer<'_, ()> {
        self.inner.lease_revoke(lease)
    }
    fn lease_expire(&self) -> Answer<'_, Duration> {
        self.inner.lease_expire()
    }
}

impl Default for Instances {
    fn default() -> Self {
        Self { services: Mutex::default(), dirty: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Instances {
    pub(crate) fn put(&self, instance: Instance, probe: ProbeResult) {
        let registered = Registered {
            origin: Origin::Local,
            lease: LeaseState::Valid,
            probe,
            since: Timestamp(0),
            revision: 0,
            registration: 0,
            instance,
        };
        let service = registered.instance.service.clone();
        let id = registered.instance.id.clone();
        self.services.lock().unwrap().entry(service.clone()).or_default().insert(id, Arc::new(registered));
        self.tell(service);
    }

    pub(crate) fn remove(&self, service: &ServiceName, id: &str) {
        let mut services = self.services.lock().unwrap();
        if let Some(instances) = services.get_mut(service) {
            instances.remove(id);
        }
        services.retain(|_, instances| !instances.is_empty());
        drop(services);
        self.tell(service.clone());
    }

    fn tell(&self, service: ServiceName) {
        self.dirty.lock().unwrap().insert(service);
        self.changed.send_modify(|count| *count += 1);
    }
}

/// The directory of one control plane.
pub(crate) struct Shared(pub(crate) Arc<Instances>);

impl Directory for Shared {
    fn services(&self) -> Vec<ServiceName> {
        self.0.services.lock().unwrap().keys().cloned().collect()
    }

    fn instances(&self, service: &ServiceName) -> Vec<Arc<Registered>> {
        self.0.services.lock().unwrap().get(service).into_iter().flat_map(|all| all.values().cloned()).collect()
    }

    fn watch(&self) -> BoxStream<'static, Changed> {
        let instances = self.0.clone();
        let changes = instances.changed.subscribe();
        Box::pin(futures_util::stream::unfold((instances, changes), |(instances, mut changes)| async move {
            changes.changed().await.ok()?;
            let services = std::mem::take(&mut *instances.dirty.lock().unwrap());
            Some((Changed { services, complete: false }, (instances, changes)))
        }))
    }
}

pub(crate) fn principal(name: &str) -> Principal {
    Principal { name: name.to_owned(), role: Role::Operator }
}

pub(crate) fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

/// An instance of `service` at 10.0.0.`host` with these ports.
pub(crate) fn instance(service_name: &str, id: &str, host: u8, ports: &[u16]) -> Instance {
    let port =
        |number: &u16| InstancePort { number: *number, name: None, protocol: Protocol::Detect, proxy_port: None };
    Instance {
        id: id.into(),
        service: service(service_name),
        address: [10, 0, 0, host].into(),
        ports: ports.iter().map(port).collect(),
        proxy_address: None,
        weight: 100,
        version: None,
        zone: None,
        region: None,
        status: InstanceStatus::Up,
        visibility: Visibility::All,
        metadata: BTreeMap::new(),
        health_check: None,
        lease: None,
        source: "api".into(),
    }
}

pub(crate) fn node(namespace: &str) -> NodeInfo {
    NodeInfo {
        id: format!("proxy.{namespace}"),
        cluster: String::new(),
        proxy: ProxyKind::Leno,
        role: ProxyRole::Sidecar,
        namespace: namespace.to_owned(),
        service: None,
        gateway: None,
        region: None,
        zone: None,
        labels: BTreeMap::new(),
        version: String::new(),
        bind: [127, 0, 0, 1].into(),
    }
}

pub(crate) fn envoy(namespace: &str) -> NodeInfo {
    NodeInfo { proxy: ProxyKind::Envoy, ..node(namespace) }
}

pub(crate) fn gateway(namespace: &str, name: &str) -> NodeInfo {
    NodeInfo { role: ProxyRole::Gateway, gateway: Some(format!("{namespace}/{name}")), ..node(namespace) }
}

pub(crate) fn apply(set: &str, text: &str) -> Apply {
    Apply {
        from: None,
        principal: principal("ann"),
        set: set.into(),
        parsed: document::parse("t.yaml", text),
        prune: false,
        dry_run: false,
        expected: None,
        summary: None,
    }
}

impl Mesh {
    pub(crate) async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new(Arc::new(Ticks::default())))).await
    }

    /// One more control plane over a store.
    pub(crate) async fn over(store: Arc<dyn Store>) -> Self {
        let (instances, clock) = (Arc::new(Instances::default()), Arc::new(Ticks::default()));
        let options = Options {
            store: store.clone(),
            directory: Arc::new(Shared(instances.clone())),
            clock: clock.clone(),
            subscribers: StatusTable::new(),
        };
        let (control, driver) = Control::open(options).await.unwrap();
        Self { control, driver: Some(driver), instances, store, clock }
    }

    pub(crate) fn instance(&self, service: &str, id: &str, host: u8, ports: &[u16]) {
        self.instances.put(instance(service, id, host, ports), ProbeResult::Unknown);
    }

    pub(crate) async fn apply(&self, text: &str) -> Result<Applied, Error> {
        self.control.apply(apply("api", text)).await
    }

    /// Runs `test` beside the driver.
    pub(crate) async fn driven<T>(&mut self, test: impl Future<Output = T>) -> T {
        let driver = self.driver.take().unwrap();
        tokio::select! {
            result = test => result,
            () = driver.run() => panic!("the driver ended"),
        }
    }

    pub(crate) fn resource(&self, node: &NodeInfo, kind: Kind, name: &str) -> Option<Resource> {
        self.control.resource(node, kind, name)
    }

    pub(crate) fn listener(&self, node: &NodeInfo, name: &str) -> Option<Listener> {
        self.resource(node, Kind::Listener, name).map(|r| translate::listener::decode(&r.body).unwrap())
    }

    pub(crate) fn routes(&self, node: &NodeInfo, name: &str) -> Option<RouteConfig> {
        self.resource(node, Kind::Route, name).map(|r| translate::route::decode(&r.body).unwrap())
    }

    pub(crate) fn cluster(&self, node: &NodeInfo, name: &str) -> Option<Cluster> {
        self.resource(node, Kind::Cluster, name).map(|r| translate::cluster::decode(&r.body).unwrap())
    }

    pub(crate) fn endpoints(&self, node: &NodeInfo, name: &str) -> Option<Endpoints> {
        self.resource(node, Kind::Endpoints, name).map(|r| translate::endpoints::decode(&r.body).unwrap())
    }
}

//! What a server tells the pages: documents, and the trait that the binary implements over its parts.
//!
//! Field names are the pages' contract (`assets/`); fields may be added, not renamed. Everything is text and numbers:
//! the pages show what is in here and decide nothing.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use leno_collector::query::Traffic;
use leno_collector::{Collector, EdgeView, Point, PolicyCounts, ServicePolicies, ServiceView, VersionView};
use leno_model::name::ServiceName;
use serde::Serialize;

/// An answer on its way.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, ViewError>> + Send + 'a>>;

/// Where the pages' data comes from.
pub trait View: Send + Sync + 'static {
    /// The state of the mesh with the traffic of the last `window`. Called at most once a second for each window.
    fn live(&self, window: Duration) -> Live;

    /// Whether the server is about to stop; streams of documents end then, within a second.
    fn is_leaving(&self) -> bool;

    /// The traffic of a service over the last `window`, oldest first.
    fn series(&self, service: &ServiceName, window: Duration, step: Duration) -> Vec<Point>;

    /// How the policies of a service stand. Called at most once a second for each service that somebody looks at.
    fn policies(&self, service: &ServiceName) -> Policies;

    /// The newest revisions below `before`, newest first, at most `limit` of them.
    fn changes(&self, before: Option<u64>, limit: usize) -> Answer<'_, Vec<ChangeRow>>;

    /// One revision with its difference to the one before; none when it does not exist.
    fn change(&self, revision: u64) -> Answer<'_, Option<Change>>;
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewError {
    /// For a person.
    pub message: String,
}

/// The document that is sent each second.
#[derive(Debug, Clone, Serialize)]
pub struct Live {
    /// The server's wall time, RFC 3339.
    pub time: String,
    /// The server's version.
    pub version: String,
    /// Seconds since the server's start.
    pub uptime: u64,
    /// The window of all rates, in seconds.
    pub window: u64,
    /// The newest revision.
    pub revision: u64,
    /// How many there are of what.
    pub counts: Counts,
    /// What runs between services.
    pub edges: Vec<EdgeView>,
    /// Services, known by traffic or by registration; sorted by name.
    pub services: Vec<ServiceRow>,
    /// Proxies; those that are not in sync first.
    pub proxies: Vec<ProxyRow>,
}

/// Totals, also of what was left out of a long document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Services.
    pub services: usize,
    /// Registered instances.
    pub instances: usize,
    /// Instances that take traffic.
    pub instances_up: usize,
    /// Proxies that are connected or report.
    pub proxies: usize,
    /// Of them, not in sync.
    pub not_synced: usize,
    /// Of them, with something that they refused.
    pub rejected: usize,
}

/// A service.
#[derive(Debug, Clone, Serialize)]
pub struct ServiceRow {
    /// `cart.shop`.
    pub service: String,
    /// Its traffic.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// The same by version.
    pub versions: Vec<VersionView>,
    /// Who calls it.
    pub callers: Vec<String>,
    /// Whom it calls.
    pub callees: Vec<String>,
    /// Its instances, sorted by id.
    pub instances: Vec<InstanceRow>,
    /// What of its policies is not at rest; none where all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<PolicyCounts>,
}

/// How the policies of a service stand, and what is in force for it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Policies {
    /// `cart.shop`.
    pub service: String,
    /// The server's wall time, RFC 3339.
    pub time: String,
    /// How policies stand at proxies.
    #[serde(flatten)]
    pub stand: ServicePolicies,
    /// Resources that say so, the one in force of each kind first: `trafficpolicy/shop/cart`.
    pub resources: Vec<String>,
    /// Switches that name the service or a route of it.
    pub switches: Vec<SwitchRow>,
    /// Lanes that one of its versions is in.
    pub lanes: Vec<LaneRow>,
}

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SwitchRow {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Whether it is on.
    pub on: bool,
    /// What it degrades: `service shop/cart`.
    pub targets: Vec<String>,
    /// Who turned it; none where nobody ever has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// From when what was turned holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Until when it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneRow {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What its requests have: `x-lane: checkout-2`.
    pub tag: String,
    /// The version of the service that is in it.
    pub version: String,
    /// Versions of other services that are in it: `payment v2`.
    pub others: Vec<String>,
}

/// A registered instance.
#[derive(Debug, Clone, Default, Serialize)]
pub struct InstanceRow {
    /// Its id.
    pub id: String,
    /// Where its application listens: `10.0.0.7`.
    pub address: String,
    /// Its ports.
    pub ports: Vec<PortRow>,
    /// Its share.
    pub weight: u32,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// `up`, `starting`, `draining` or `out`, as it was registered.
    pub status: String,
    /// `unknown`, `passing` or `failing`.
    pub probe: String,
    /// Whether it takes traffic.
    pub takes_traffic: bool,
    /// If not, why: `its probe fails: connection refused`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it was registered: `run`, `api`, `file` or a door.
    pub source: String,
    /// What whoever registered it said about it.
    pub metadata: BTreeMap<String, String>,
}

/// A port of an instance.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PortRow {
    /// The application's port.
    pub number: u16,
    /// What it speaks.
    pub protocol: String,
    /// The port of the proxy in front of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<u16>,
}

/// Whether a proxy has what it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncState {
    /// It refused something and runs with what it had before.
    Rejected,
    /// Something is on its way for longer than a moment.
    Behind,
    /// It reports and has no configuration stream to this server.
    Disconnected,
    /// It has everything.
    #[default]
    Synced,
}

/// What the configuration stream of a proxy says.
#[derive(Debug, Clone, Default)]
pub struct SyncRow {
    /// The proxy's id.
    pub proxy: String,
    /// Its state.
    pub state: SyncState,
    /// Seconds for which it is behind.
    pub behind: f64,
    /// Resources that it is subscribed to.
    pub resources: usize,
    /// What it refused.
    pub rejections: Vec<Rejection>,
    /// Seconds since its stream began.
    pub connected: f64,
    /// Its address.
    pub address: String,
    /// `leno`, `envoy` or `grpc`, with its version.
    pub agent: String,
}

/// A resource that a proxy refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// Which: `RouteConfiguration cart.shop.mesh:8080`.
    pub resource: String,
    /// Why, in its words.
    pub reason: String,
}

/// A proxy.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ProxyRow {
    /// Its id.
    pub id: String,
    /// The service beside it.
    pub service: String,
    /// The instance beside it.
    pub instance: String,
    /// `sidecar`, `gateway` or what the agent says.
    pub role: String,
    /// Its version.
    pub version: String,
    /// Its address.
    pub address: String,
    /// Whether it has what it should have.
    pub state: SyncState,
    /// Seconds for which it is behind.
    pub behind: f64,
    /// Resources that it is subscribed to.
    pub resources: usize,
    /// What it refused.
    pub rejections: Vec<Rejection>,
    /// Seconds since its last report; none if it sends none.
    pub age: Option<f64>,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Processors in use.
    pub cpu: f64,
    /// Open descriptors.
    pub fds: u64,
    /// Open requests.
    pub open: u64,
}

/// A revision in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChangeRow {
    /// Its number.
    pub revision: u64,
    /// Who made it.
    pub author: String,
    /// When, RFC 3339.
    pub time: String,
    /// What was done: `apply`, `delete` or `rollback`; empty where it is not known.
    pub action: String,
    /// Why, in a few words.
    pub summary: String,
    /// What changed: `httproute/shop/cart`.
    pub resources: Vec<String>,
    /// The set that it belongs to, as a file name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<String>,
}

/// A revision with its difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The revision.
    #[serde(flatten)]
    pub row: ChangeRow,
    /// A unified diff of YAML.
    pub diff: String,
}

/// What the registry and the configuration streams know at this moment, for [`Live::assemble`].
#[derive(Debug, Default)]
pub struct Known {
    /// Instances by service.
    pub instances: BTreeMap<ServiceName, Vec<InstanceRow>>,
    /// Proxies with a configuration stream.
    pub syncs: Vec<SyncRow>,
    /// The newest revision.
    pub revision: u64,
    /// The server's wall time, RFC 3339.
    pub time: String,
    /// The server's version.
    pub version: String,
    /// Since the server's start.
    pub uptime: Duration,
}

/// Edges, services and proxies in one document, at most of each: a browser shows no more.
pub const ROWS_MAX: usize = 2_000;

// === impl Live ===

impl Live {
    /// Puts together what the collector counted, the registry knows and the streams say.
    pub fn assemble(collector: &Collector, now: Duration, window: Duration, known: Known) -> Self {
        let mut counts = Counts::default();
        let mut services = services(collector.services(now, window), known.instances, &mut counts);
        let mut stand = collector.policy_counts(now);
        for row in &mut services {
            row.policies = row.service.parse().ok().and_then(|service: ServiceName| stand.remove(&service));
        }
        let mut proxies = proxies(collector, now, known.syncs, &mut counts);
        let mut edges = collector.edges(now, window);
        if edges.len() > ROWS_MAX {
            edges.sort_by(|a, b| b.traffic.rate.total_cmp(&a.traffic.rate));
            edges.truncate(ROWS_MAX);
        }
        if services.len() > ROWS_MAX {
            services.sort_by(|a, b| b.traffic.rate.total_cmp(&a.traffic.rate));
            services.truncate(ROWS_MAX);
            services.sort_by(|a, b| a.service.cmp(&b.service));
        }
        proxies.truncate(ROWS_MAX);
        Self {
            time: known.time,
            version: known.version,
            uptime: known.uptime.as_secs(),
            window: window.as_secs(),
            revision: known.revision,
            counts,
            edges,
            services,
            proxies,
        }
    }
}

/// Services by traffic and by registration.
fn services(
    seen: Vec<ServiceView>,
    instances: BTreeMap<ServiceName, Vec<InstanceRow>>,
    counts: &mut Counts,
) -> Vec<ServiceRow> {
    let mut rows: BTreeMap<String, ServiceRow> =
        seen.into_iter().map(|view| (view.service.clone(), view.into())).collect();
    for (service, mut instances) in instances {
        let service = service.to_string();
        counts.instances += instances.len();
        counts.instances_up += instances.iter().filter(|instance| instance.takes_traffic).count();
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        rows.entry(service.clone()).or_insert_with(|| ServiceRow::named(service)).instances = instances;
    }
    counts.services = rows.len();
    rows.into_values().collect()
}

/// Proxies by report and by stream, those that need a look first.
fn proxies(collector: &Collector, now: Duration, syncs: Vec<SyncRow>, counts: &mut Counts) -> Vec<ProxyRow> {
    let mut syncs: HashMap<String, SyncRow> = syncs.into_iter().map(|sync| (sync.proxy.clone(), sync)).collect();
    let reported = collector.proxy_views(now).into_iter().map(|view| {
        let sync = syncs.remove(&view.id);
        let mut row = ProxyRow {
            id: view.id,
            service: view.service,
            instance: view.instance,
            role: view.role,
            version: view.version,
            state: SyncState::Disconnected,
            age: Some(view.age),
            rss_bytes: view.rss_bytes,
            cpu: view.cpu,
            fds: view.fds,
            open: view.open,
            ..ProxyRow::default()
        };
        if let Some(sync) = sync {
            row.sync(sync);
        }
        row
    });
    let mut rows: Vec<ProxyRow> = reported.collect();
    rows.extend(syncs.into_values().map(|sync| {
        let mut row = ProxyRow { id: sync.proxy.clone(), version: sync.agent.clone(), ..ProxyRow::default() };
        row.sync(sync);
        row
    }));
    rows.sort_by(|a, b| a.state.cmp(&b.state).then_with(|| a.id.cmp(&b.id)));
    counts.proxies = rows.len();
    counts.not_synced = rows.iter().filter(|row| row.state != SyncState::Synced).count();
    counts.rejected = rows.iter().filter(|row| row.state == SyncState::Rejected).count();
    rows
}

// === impl ServiceRow, ProxyRow ===

impl ServiceRow {
    fn named(service: String) -> Self {
        Self {
            service,
            traffic: Traffic::default(),
            versions: Vec::new(),
            callers: Vec::new(),
            callees: Vec::new(),
            instances: Vec::new(),
            policies: None,
        }
    }
}

impl From<ServiceView> for ServiceRow {
    fn from(view: ServiceView) -> Self {
        Self {
            service: view.service,
            traffic: view.traffic,
            versions: view.versions,
            callers: view.callers,
            callees: view.callees,
            instances: Vec::new(),
            policies: None,
        }
    }
}

impl ProxyRow {
    fn sync(&mut self, sync: SyncRow) {
        self.state = sync.state;
        self.behind = sync.behind;
        self.resources = sync.resources;
        self.rejections = sync.rejections;
        self.address = sync.address;
        if self.version.is_empty() {
            self.version = sync.agent;
        }
    }
}

impl<T: View + ?Sized> View for Arc<T> {
    fn live(&self, window: Duration) -> Live {
        (**self).live(window)
    }

    fn is_leaving(&self) -> bool {
        (**self).is_leaving()
    }

    fn series(&self, service: &ServiceName, window: Duration, step: Duration) -> Vec<Point> {
        (**self).series(service, window, step)
    }

    fn policies(&self, service: &ServiceName) -> Policies {
        (**self).policies(service)
    }

    fn changes(&self, before: Option<u64>, limit: usize) -> Answer<'_, Vec<ChangeRow>> {
        (**self).changes(before, limit)
    }

    fn change(&self, revision: u64) -> Answer<'_, Option<Change>> {
        (**self).change(revision)
    }
}

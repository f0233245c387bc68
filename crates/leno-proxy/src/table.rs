//! The table: everything that a request needs to know, made for look-up.
//!
//! [`Held`] → [`Builder`] → [`Table`]. The control thread builds a whole new table for every update and swaps it in; a
//! request takes one and keeps it. What costs (compiled routes) or must not be lost (load, budgets) is carried over. A
//! destination whose parts have not all arrived is left out, or stays as it was in the table before.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use leno_model::expression::Facts;
use leno_model::seam::{Clock, Random};
use leno_model::snapshot::{
    Action, Affinity, HashSource, HostPattern, Listener, Match, Mirror, Name, Origin, RouteConfig, RouteFilter, Rule,
    StandIn, TlsTerms, UpstreamTls, VirtualHost, WeightedCluster,
};
use leno_net::Address;
use leno_route::host::HostMap;
use leno_route::{Router, RuleIndex};
use leno_runtime::{SystemClock, SystemRandom};
use leno_telemetry::edge::Peer;
use leno_telemetry::{EdgeKey, Registry};
use leno_tls::{ClientTerms, Holder, ServerTerms};
use leno_traffic::RetryBudget;
use leno_xds::client::Refusal;
use leno_xds::kind::Kind;

use crate::balancing;
use crate::cluster::{Cluster, Edges, Endpoint, EndpointIdentity, EndpointKey, EndpointState};
use crate::held::Held;
use crate::injection::{Injections, Injectors};
use crate::overload::{Gates, Overload};
use crate::rate_limit::{Limiters, RateLimits, SharedLimits, Side};
use crate::resilience::{self, State};
use crate::worker::Worker;

/// Everything a request needs to know.
#[derive(Debug, Default)]
pub struct Table {
    /// Grows with every table.
    pub version: u64,
    destinations: HashMap<Name, Arc<Destination>>,
    /// Names that do not exist, and until when that is believed (time of the process).
    absent: HashMap<Name, Duration>,
}

/// Where a name or a port leads.
#[derive(Debug)]
pub struct Destination {
    /// What control said of it.
    pub listener: Arc<Listener>,
    /// Its routes, if it may be HTTP.
    pub http: Option<Routes>,
    /// Where byte streams go.
    pub tcp: Box<[Target]>,
    /// Where TLS goes by its server name.
    pub tls: HostMap<Box<[Target]>>,
    /// What becomes of TLS by its server name, where it may end.
    pub terms: HostMap<Arc<ServerTerms>>,
    /// Where the certificates of `terms` are.
    pub certificates: Option<Arc<Holder>>,
    /// Outside the mesh: it is asked as if there were no proxy, for what was sent.
    pub outside: bool,
    /// Limits on what comes to the application, of what a proxy holds beside an instance.
    pub rate_limits: Option<Arc<RateLimits>>,
    /// What is done where there is too much for the application, likewise.
    pub overload: Option<Arc<Overload>>,
    learnt: Arc<Learnt>,
}

/// What is learnt of a destination while it is in use, and stays from table to table.
#[derive(Debug, Default)]
struct Learnt {
    /// When it was last used (whole seconds of the process).
    used: AtomicU64,
    /// Its servers speak first.
    server_first: AtomicBool,
}

/// Compiled routes with what each rule leads to.
#[derive(Debug)]
pub struct Routes {
    /// Finds the rule.
    pub router: Arc<Router>,
    config: Arc<RouteConfig>,
    rules: Box<[RuleTargets]>,
}

/// A rule and its clusters.
#[derive(Debug, Clone, Copy)]
pub struct RuleRef<'a> {
    /// What control said.
    pub rule: &'a Rule,
    /// Its clusters, in the order of the rule's action.
    pub targets: &'a [Target],
    /// Its mirrors.
    pub mirrors: &'a [(Mirror, Arc<Cluster>)],
}

#[derive(Debug)]
struct RuleTargets {
    /// Host and rule in the configuration.
    at: (u32, u32),
    targets: Box<[Target]>,
    mirrors: Box<[(Mirror, Arc<Cluster>)]>,
}

/// A cluster with its share.
#[derive(Debug, Clone)]
pub struct Target {
    /// None where the reference could not be resolved.
    pub cluster: Option<Arc<Cluster>>,
    /// Its share.
    pub weight: u32,
    /// Filters for this cluster only.
    pub filters: Box<[RouteFilter]>,
    /// Mirrors for this cluster only.
    pub mirrors: Box<[(Mirror, Arc<Cluster>)]>,
    /// What binds requests to endpoints of the cluster, if anything does.
    pub affinity: Option<Box<Affinity>>,
    /// Limits on what goes there, if there are any.
    pub rate_limits: Option<Arc<RateLimits>>,
    /// What goes wrong on purpose with what goes there, if anything does.
    pub injections: Option<Arc<Injections>>,
    /// The cluster that is asked instead, where it gives no answer that is any good.
    pub instead: Option<Arc<Cluster>>,
}

/// Builds tables and remembers what has to outlive them.
pub struct Builder {
    metrics: Arc<Registry>,
    /// The `source` of this proxy's edges.
    source: EdgeKey,
    seed: u64,
    version: u64,
    routers: HashMap<Name, (Arc<RouteConfig>, Arc<Router>)>,
    endpoints: HashMap<EndpointIdentity, Arc<EndpointState>>,
    budgets: HashMap<Name, Arc<RetryBudget>>,
    states: HashMap<Name, Arc<State>>,
    /// Borrowed for as long as one is made.
    limiters: RefCell<Limiters>,
    /// The same.
    injectors: RefCell<Injectors>,
    /// The same.
    gates: RefCell<Gates>,
    clusters: HashMap<Name, BuiltCluster>,
    destinations: HashMap<Name, Arc<Destination>>,
    certificates: Arc<Holder>,
    clock: Arc<dyn Clock>,
    /// Kept as long as they are in use, so that tickets are good for the next table too.
    terms: HashMap<TlsTerms, Arc<ServerTerms>>,
    upstream_terms: HashMap<UpstreamTls, Arc<ClientTerms>>,
    caller: Facts,
}

/// A cluster and what it was made from, so that it is made anew only when that changed.
struct BuiltCluster {
    spec: Arc<leno_model::snapshot::Cluster>,
    endpoints: Arc<leno_model::snapshot::Endpoints>,
    cluster: Arc<Cluster>,
}

// === impl Table ===

impl Table {
    /// The destination of this name.
    pub fn destination(&self, name: &str) -> Option<&Arc<Destination>> {
        self.destinations.get(name)
    }

    /// Every destination.
    pub fn destinations(&self) -> impl Iterator<Item = &Arc<Destination>> {
        self.destinations.values()
    }

    /// Whether the server said that there is no such name, not long ago.
    pub fn is_absent(&self, name: &str, now: Duration) -> bool {
        self.absent.get(name).is_some_and(|until| now < *until)
    }
}

// === impl Destination ===

impl Destination {
    /// Notes that it is in use.
    pub fn touch(&self, now: Duration) {
        let now = now.as_secs();
        if self.learnt.used.load(Relaxed) != now {
            self.learnt.used.store(now, Relaxed);
        }
    }

    /// When it was last used.
    pub fn last_used(&self) -> Duration {
        Duration::from_secs(self.learnt.used.load(Relaxed))
    }

    /// Whether the first to speak on a connection was the server.
    pub fn is_server_first(&self) -> bool {
        self.learnt.server_first.load(Relaxed)
    }

    /// Remembers who spoke first.
    pub fn set_server_first(&self, server_first: bool) {
        self.learnt.server_first.store(server_first, Relaxed);
    }

    /// Everything that it leads to over HTTP or by `tcp`.
    pub(crate) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.http.iter().flat_map(|routes| &routes.rules).flat_map(|rule| &rule.targets).chain(&self.tcp)
    }

    /// Every cluster that it leads to over HTTP or by `tcp`, mirrors included.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        let rules = || self.http.iter().flat_map(|routes| &routes.rules);
        let targets = || self.targets();
        let mirrors = rules().flat_map(|rule| &rule.mirrors).chain(targets().flat_map(|target| &target.mirrors));
        targets().filter_map(|target| target.cluster.as_ref()).chain(mirrors.map(|(_, cluster)| cluster))
    }
}

// === impl Routes ===

impl Routes {
    /// The rule of an index that this router gave.
    pub fn rule(&self, index: RuleIndex) -> RuleRef<'_> {
        let found = &self.rules[index.index()];
        let (host, rule) = (found.at.0 as usize, found.at.1 as usize);
        RuleRef { rule: &self.config.hosts[host].rules[rule], targets: &found.targets, mirrors: &found.mirrors }
    }
}

/// A destination of one endpoint and no routes but the default one: the application beside the proxy, or a host outside
/// the mesh. Made without the control plane.
pub fn single(cluster: Cluster, listener: Listener) -> Destination {
    let target = Target {
        cluster: Some(Arc::new(cluster)),
        weight: 1,
        filters: Box::default(),
        mirrors: Box::default(),
        affinity: None,
        rate_limits: None,
        injections: None,
        instead: None,
    };
    let rule = Rule {
        origin: Origin { resource: "default".into(), rule: 0, name: None },
        when: Match::default(),
        filters: Vec::new(),
        action: Action::Forward(Vec::new()),
        request_timeout: None,
        try_timeout: None,
        retry: None,
    };
    let hosts = vec![VirtualHost { hostnames: vec![HostPattern::Any], rules: vec![rule] }];
    let config = Arc::new(RouteConfig { name: listener.name.clone(), hosts });
    let router = Arc::new(Router::compile(&config).expect("a rule without conditions compiles"));
    let rules = [RuleTargets { at: (0, 0), targets: Box::new([target.clone()]), mirrors: Box::default() }];
    Destination {
        listener: Arc::new(listener),
        http: Some(Routes { router, config, rules: Box::new(rules) }),
        tcp: Box::new([target]),
        tls: HostMap::new(),
        terms: HostMap::new(),
        certificates: None,
        outside: false,
        rate_limits: None,
        overload: None,
        learnt: Arc::default(),
    }
}

// === impl Target ===

impl Target {
    /// The cluster, and what stands in for its answers, if anything does.
    pub(crate) fn stand_in(&self) -> Option<(&Cluster, &StandIn)> {
        let cluster = self.cluster.as_deref()?;
        Some((cluster, cluster.spec.resilience.stand_in.as_deref()?))
    }

    /// The hash that binds what has nothing but its caller: a connection, a session of datagrams.
    pub(crate) fn hash_of_caller(&self, worker: &Worker, client: Option<SocketAddr>) -> Option<u64> {
        let affinity = self.affinity.as_ref()?;
        let by_caller = affinity.hash.iter().any(|key| key.source == HashSource::SourceAddress);
        by_caller.then(|| worker.caller(client.map(|client| client.ip())))?
    }
}

// === impl Builder ===

impl Builder {
    /// Nothing built yet. The edges of a cluster are those of `source` completed with its service.
    pub fn new(source: EdgeKey, seed: u64, metrics: Arc<Registry>) -> Self {
        Self {
            metrics,
            source,
            seed,
            version: 0,
            routers: HashMap::new(),
            endpoints: HashMap::new(),
            budgets: HashMap::new(),
            states: HashMap::new(),
            limiters: RefCell::new(Limiters::new(SystemRandom.next_u64())),
            injectors: RefCell::default(),
            gates: RefCell::new(Gates::new(SystemRandom.next_u64())),
            clusters: HashMap::new(),
            destinations: HashMap::new(),
            certificates: Holder::new(None),
            clock: Arc::new(SystemClock),
            terms: HashMap::new(),
            upstream_terms: HashMap::new(),
            caller: Facts::default(),
        }
    }

    /// Has expressions know where the caller is and what its labels are.
    #[must_use]
    pub fn with_caller(self, caller: Facts) -> Self {
        Self { caller, ..self }
    }

    /// Has TLS end with the certificates of `holder`.
    #[must_use]
    pub fn with_certificates(self, certificates: Arc<Holder>, clock: Arc<dyn Clock>) -> Self {
        Self { certificates, clock, ..self }
    }

    /// The limits of its tables that all proxies count together.
    pub fn shared_limits(&self) -> Arc<SharedLimits> {
        self.limiters.borrow().shared().clone()
    }

    /// A table of everything in `held` that is complete, and what cannot be used of it.
    pub fn build(&mut self, held: &Held, absent: HashMap<Name, Duration>) -> (Table, Vec<Refusal>) {
        let refusals = self.compile(held);
        self.build_clusters(held);
        let mut destinations = HashMap::with_capacity(held.listeners.len());
        for (name, received) in &held.listeners {
            let built = if held.is_complete(&received.resource) {
                Some(self.destination(name, &received.resource))
            } else {
                self.destinations.get(name).cloned()
            };
            destinations.extend(built.map(|destination| (name.clone(), destination)));
        }
        self.destinations = destinations.clone();
        self.forget_unused(held);
        self.version += 1;
        (Table { version: self.version, destinations, absent }, refusals)
    }

    /// Compiles route configurations that are new; one that cannot be compiled leaves its predecessor in force.
    fn compile(&mut self, held: &Held) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        for (name, received) in &held.routes {
            let known = self.routers.get(name);
            if known.is_some_and(|(config, _)| Arc::ptr_eq(config, &received.resource)) {
                continue;
            }
            match Router::compile(&received.resource) {
                Ok(router) => {
                    self.routers.insert(name.clone(), (received.resource.clone(), Arc::new(router)));
                }
                Err(error) => {
                    refusals.push(Refusal { kind: Kind::Route, name: name.clone(), detail: error.to_string() })
                }
            }
        }
        refusals
    }

    fn build_clusters(&mut self, held: &Held) {
        for (name, received) in &held.clusters {
            let Some(endpoints) = held.endpoints.get(name) else { continue };
            let unchanged = self.clusters.get(name).is_some_and(|built| {
                Arc::ptr_eq(&built.spec, &received.resource) && Arc::ptr_eq(&built.endpoints, &endpoints.resource)
            });
            if unchanged {
                continue;
            }
            let cluster = Arc::new(self.cluster(&received.resource, &endpoints.resource));
            let (spec, endpoints) = (received.resource.clone(), endpoints.resource.clone());
            self.clusters.insert(name.clone(), BuiltCluster { spec, endpoints, cluster });
        }
    }

    fn cluster(
        &mut self,
        spec: &Arc<leno_model::snapshot::Cluster>,
        members: &leno_model::snapshot::Endpoints,
    ) -> Cluster {
        let mut endpoints: Vec<Endpoint> = members.endpoints.iter().map(|endpoint| self.endpoint(endpoint)).collect();
        let terms = resilience::budget_terms(spec.resilience.retry_budget.as_ref());
        let budget = self.budgets.entry(spec.name.clone()).or_insert_with(|| Arc::new(RetryBudget::new(terms)));
        if budget.terms() != terms {
            *budget = Arc::new(RetryBudget::new(terms));
        }
        let budget = budget.clone();
        let state = self.states.entry(spec.name.clone()).or_default().clone();
        state.newcomers.mark(spec.balancing.slow_start.as_ref(), &mut endpoints, self.clock.monotonic());
        balancing::resolve(spec, &mut endpoints, &self.caller);
        let version = spec.name.split_once('@').map(|(_, version)| version.into());
        let key = EdgeKey {
            destination: Peer::Service(spec.service.clone()),
            destination_version: version,
            ..self.source.clone()
        };
        let tls = spec.tls.as_ref().map(|tls| self.upstream_terms(tls));
        let edges = Edges::new(&self.metrics, &key);
        Cluster::new(spec.clone(), endpoints, budget, edges, self.seed, state).with_tls(tls)
    }

    fn endpoint(&mut self, spec: &leno_model::snapshot::Endpoint) -> Endpoint {
        let state = self.endpoints.entry((spec.address, spec.proxy)).or_insert_with(|| {
            Arc::new(EndpointState::new(Address::Tcp(spec.proxy.unwrap_or(spec.address)), spec.proxy.is_some()))
        });
        Endpoint { spec: spec.clone(), state: state.clone(), since: None, program: None }
    }

    fn destination(&mut self, name: &Name, listener: &Arc<Listener>) -> Arc<Destination> {
        let learnt = self.destinations.get(name).map(|before| before.learnt.clone()).unwrap_or_default();
        let mut tls = HostMap::new();
        for rule in &listener.tls {
            let targets = self.targets(&rule.clusters);
            if rule.hostnames.is_empty() {
                tls.insert(&HostPattern::Any, targets.clone());
            }
            for hostname in &rule.hostnames {
                tls.insert(hostname, targets.clone());
            }
        }
        let mut terms = HostMap::new();
        for spec in &listener.terms {
            terms.insert(&spec.host, self.terms(spec));
        }
        Arc::new(Destination {
            listener: listener.clone(),
            http: listener.http.as_ref().and_then(|name| self.routes(name)),
            tcp: self.targets(&listener.tcp),
            tls,
            certificates: (!listener.terms.is_empty()).then(|| self.certificates.clone()),
            terms,
            outside: false,
            rate_limits: self.limiters.borrow_mut().of(&listener.rate_limits, Side::Service),
            overload: self.overload_of(listener),
            learnt,
        })
    }

    fn overload_of(&self, listener: &Listener) -> Option<Arc<Overload>> {
        let service = listener.service.as_ref()?.to_string();
        self.gates.borrow_mut().of(&service, &listener.overload)
    }

    fn terms(&mut self, spec: &TlsTerms) -> Arc<ServerTerms> {
        let make = || Arc::new(ServerTerms::new(spec.clone(), &self.certificates, self.clock.wall()));
        self.terms.entry(spec.clone()).or_insert_with(make).clone()
    }

    fn upstream_terms(&mut self, spec: &UpstreamTls) -> Arc<ClientTerms> {
        let make = || Arc::new(ClientTerms::new(spec.clone(), &self.certificates, self.clock.wall()));
        self.upstream_terms.entry(spec.clone()).or_insert_with(make).clone()
    }

    fn routes(&self, name: &Name) -> Option<Routes> {
        let (config, router) = self.routers.get(name)?;
        let mut rules = Vec::new();
        for (host_at, host) in config.hosts.iter().enumerate() {
            for (rule_at, rule) in host.rules.iter().enumerate() {
                let targets = match &rule.action {
                    Action::Forward(clusters) => self.targets(clusters),
                    Action::Redirect(_) | Action::Reply(_) | Action::Refuse { .. } => Box::default(),
                };
                let at = (host_at as u32, rule_at as u32);
                rules.push(RuleTargets { at, targets, mirrors: self.mirrors(&rule.filters) });
            }
        }
        Some(Routes { router: router.clone(), config: config.clone(), rules: rules.into() })
    }

    fn targets(&self, clusters: &[WeightedCluster]) -> Box<[Target]> {
        let target = |weighted: &WeightedCluster| Target {
            cluster: weighted.cluster.as_ref().and_then(|name| self.built(name)),
            weight: weighted.weight,
            filters: weighted.filters.clone().into(),
            mirrors: self.mirrors(&weighted.filters),
            affinity: (!weighted.affinity.is_none()).then(|| Box::new(weighted.affinity.clone())),
            rate_limits: self.limiters.borrow_mut().of(&weighted.rate_limits, Side::Caller),
            injections: self.injectors.borrow_mut().of(&weighted.injections),
            instead: weighted.cluster.as_ref().and_then(|name| self.instead(name)),
        };
        clusters.iter().map(target).collect()
    }

    fn instead(&self, name: &Name) -> Option<Arc<Cluster>> {
        let terms = self.clusters.get(name)?.spec.resilience.stand_in.as_ref()?;
        self.built(terms.cluster.as_ref()?)
    }

    fn mirrors(&self, filters: &[RouteFilter]) -> Box<[(Mirror, Arc<Cluster>)]> {
        let mirror = |filter: &RouteFilter| match filter {
            RouteFilter::Mirror(mirror) => Some((mirror.clone(), self.built(&mirror.cluster)?)),
            _ => None,
        };
        filters.iter().filter_map(mirror).collect()
    }

    fn built(&self, name: &Name) -> Option<Arc<Cluster>> {
        self.clusters.get(name).map(|built| built.cluster.clone())
    }

    /// Drops what no table of this builder can lead to any more.
    fn forget_unused(&mut self, held: &Held) {
        self.routers.retain(|name, _| held.routes.contains_key(name));
        self.clusters.retain(|name, _| held.clusters.contains_key(name));
        self.budgets.retain(|name, _| held.clusters.contains_key(name));
        self.states.retain(|name, _| held.clusters.contains_key(name));
        self.limiters.borrow_mut().forget_unused();
        self.injectors.borrow_mut().forget_unused();
        self.gates.borrow_mut().forget_unused();
        let clusters = &self.clusters;
        let in_use: std::collections::HashSet<EndpointKey> =
            clusters.values().flat_map(|built| &built.cluster.endpoints).map(|endpoint| endpoint.state.key).collect();
        self.endpoints.retain(|_, state| in_use.contains(&state.key));
        let listeners = || self.destinations.values().flat_map(|destination| &destination.listener.terms);
        let terms: std::collections::HashSet<&TlsTerms> = listeners().collect();
        self.terms.retain(|spec, _| terms.contains(spec));
        let pair = |name: &str| terms.iter().any(|spec| spec.certificates.iter().any(|own| **own == *name));
        let upstream: std::collections::HashSet<&UpstreamTls> =
            self.clusters.values().filter_map(|built| built.spec.tls.as_ref()).collect();
        self.upstream_terms.retain(|spec, _| upstream.contains(spec));
        let bundles = || {
            let of_clients = terms.iter().flat_map(|spec| spec.client.bundles());
            of_clients.chain(upstream.iter().flat_map(|spec| spec.roots.bundles()))
        };
        let bundle = |name: &str| bundles().any(|own| **own == *name);
        self.certificates.retain(&pair, &bundle);
    }
}

/// The table as the admin listener shows it.
pub fn describe(table: &Table) -> serde_json::Value {
    let mut destinations: Vec<&Arc<Destination>> = table.destinations().collect();
    destinations.sort_by(|a, b| a.listener.name.cmp(&b.listener.name));
    let described = destinations.into_iter().map(|destination| {
        serde_json::json!({
            "name": destination.listener.name,
            "protocol": destination.listener.protocol,
            "rules": destination.http.as_ref().map(|routes| &routes.config.hosts),
            "tcp": destination.listener.tcp,
            "tls": destination.listener.tls,
            "terms": destination.listener.terms,
            "clusters": destination.clusters().map(|cluster| cluster.spec.name.clone()).collect::<Vec<_>>(),
        })
    });
    serde_json::json!({"version": table.version, "destinations": described.collect::<Vec<_>>()})
}

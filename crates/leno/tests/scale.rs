//! What size costs: how fast a change reaches a thousand subscribers and twenty proxies, and what a mesh of ten thousand
//! services weighs on a proxy that uses ten. Each test prints what it measured.
//!
//! A thousand subscribers in a debug build would be measured themselves:
//! `cargo test --profile quick-release -p leno --test scale`, as `cargo xtask test` does.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kit::load::{Kind, Load};
use kit::mesh::{Mesh, Process, get, get_path, wait_until};
use kit::{application, figures, free_address};
use leno_model::snapshot::{Endpoints, Name};
use leno_net::Address;
use leno_net::dial::HostDial;
use leno_proxy::held::Held;
use leno_runtime::SystemRandom;
use leno_runtime::serve::NamedTasks;
use leno_runtime::threads::control;
use leno_xds::client::{ClientOptions, Event, Update, client};
use leno_xds::node::NodeInfo;
use leno_xds::transport::GrpcServers;

const SECOND: Duration = Duration::from_secs(1);
/// Services that each proxy uses.
const USED: usize = 10;

// === a change reaches everybody ===

/// Subscribers of the test, each with a connection of its own, that speak as leno's proxies do.
const SUBSCRIBERS: usize = 1_000;
const PROXIES: usize = 20;
/// Changes that are made one after the other, each once the last is everywhere.
const SINGLE: usize = 40;
/// Rounds in which every service changes at once.
const BURSTS: usize = 3;
/// The 99th percentile of the time from the call to being in effect.
const IN_EFFECT: Duration = Duration::from_millis(300);
/// The same for changes of all services at once, each of which reaches everybody.
const ALL_IN_EFFECT: Duration = SECOND;
/// Ports that stand for changes begin here; nothing listens there.
const CHANGE_PORT: u16 = 20_000;
const BURST_PORT: u16 = 21_000;

#[test]
#[cfg_attr(debug_assertions, ignore = "needs --profile quick-release")]
fn an_endpoint_change_is_in_effect_on_a_thousand_subscribers_and_twenty_proxies_in_time() {
    leno_net::limits::raise_descriptors().unwrap();
    let mesh = Mesh::new();
    let _server = mesh.server();
    for service in 0..USED {
        Change { service, port: CHANGE_PORT - 1 - service as u16, present: true }.make(&mesh);
    }
    let proxies: Vec<(Process, SocketAddr)> = (0..PROXIES).map(|_| proxy_of_all(&mesh)).collect();
    let watch = Arc::new(Watch::default());
    let to: SocketAddr = mesh.grpc.parse().unwrap();
    let watching = watch.clone();
    std::thread::spawn(move || control(subscribe_all(to, &watching)).unwrap());
    let subscribed = wait_until(60 * SECOND, || watch.state.lock().unwrap().complete == SUBSCRIBERS);
    assert!(subscribed.is_some(), "{} of {SUBSCRIBERS} subscribed", watch.state.lock().unwrap().complete);
    for (_, admin) in &proxies {
        assert!(wait_until(10 * SECOND, || shows(*admin, CHANGE_PORT - 1)).is_some());
    }

    let measure = |changes: &[Change]| {
        let sent = changes.iter().map(|change| (*change, watch.make(*change, &mesh))).collect();
        let real = until_shown(&proxies, sent);
        [watch.took(changes.len() * SUBSCRIBERS), real]
    };
    let single = (0..SINGLE).map(|index| {
        let port = CHANGE_PORT + (index - index % 2) as u16;
        measure(&[Change { service: index / 2 % USED, port, present: index % 2 == 0 }])
    });
    let single = Spread::of_each(single);
    let bursts = (0..BURSTS).map(|burst| {
        let change = |service| Change { service, port: BURST_PORT + service as u16, present: burst % 2 == 0 };
        measure(&(0..USED).map(change).collect::<Vec<_>>())
    });
    let bursts = Spread::of_each(bursts);
    for (what, changes, limit, [subscribers, proxies]) in
        [("one change", SINGLE, IN_EFFECT, single), ("ten at once", BURSTS * USED, ALL_IN_EFFECT, bursts)]
    {
        figures(format_args!("{what}: {SUBSCRIBERS} subscribers {subscribers}; {PROXIES} proxies {proxies}"));
        let arrived = (subscribers.count, proxies.count);
        assert_eq!(arrived, (changes * SUBSCRIBERS, changes * PROXIES), "{what} did not arrive everywhere");
        assert!(subscribers.p99 <= limit && proxies.p99 <= limit, "{what}, later than {limit:?}");
    }
}

/// An instance that comes or goes, known by its port.
#[derive(Debug, Clone, Copy)]
struct Change {
    service: usize,
    port: u16,
    present: bool,
}

/// What is waited for, and who has it.
#[derive(Default)]
struct Watch {
    state: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    /// Subscribers that have everything they asked for.
    complete: usize,
    /// Changes and when they were sent.
    expected: Vec<(Change, Instant)>,
    took: Vec<Duration>,
}

/// How long something took, over many.
#[derive(Debug)]
struct Spread {
    count: usize,
    p50: Duration,
    p99: Duration,
    most: Duration,
}

/// A proxy with a way to each service, and where its tables are seen.
fn proxy_of_all(mesh: &Mesh) -> (Process, SocketAddr) {
    let admin = free_address();
    let listen = admin.to_string();
    let mut arguments: Vec<String> =
        ["--service", "front.shop", "--outbound-listen", "off", "--inbound-listen", "off", "--admin-listen", &listen]
            .map(str::to_owned)
            .into();
    arguments.extend((0..USED).flat_map(|service| ["--to".to_owned(), format!("{}=127.0.0.1:0", name(service))]));
    let proxy = mesh.proxy(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    proxy.wait_for("ready");
    (proxy, admin)
}

fn name(service: usize) -> String {
    format!("service-{service}")
}

/// Keeps all subscribers on this thread.
async fn subscribe_all(server: SocketAddr, watch: &Arc<Watch>) {
    let all: Vec<_> =
        (0..SUBSCRIBERS).map(|index| tokio::task::spawn_local(subscribe(server, index, watch.clone()))).collect();
    for one in all {
        one.await.unwrap();
    }
}

/// One subscriber: asks for its services by name and for what they lead to, as a proxy does.
async fn subscribe(server: SocketAddr, index: usize, watch: Arc<Watch>) {
    let node = NodeInfo { namespace: "shop".to_owned(), ..NodeInfo::new(format!("front.shop/simulated-{index}")) };
    let connect = GrpcServers::new(vec![Address::Tcp(server)], Rc::new(HostDial), Rc::new(NamedTasks));
    let options = ClientOptions { connect_timeout: 20 * SECOND, ..ClientOptions::new(node) };
    let (subscriptions, mut events, driver) = client(options, connect, SystemRandom);
    tokio::task::spawn_local(driver);
    let wanted: Vec<Name> = (0..USED).map(|service| format!("{}.shop.mesh", name(service)).into()).collect();
    let (mut held, mut asked) = (Held::default(), BTreeSet::new());
    let mut follow = |held: &Held| {
        for need in held.needs(&wanted) {
            if asked.insert(need.clone()) {
                subscriptions.subscribe(need.0, &need.1);
            }
        }
    };
    follow(&held);
    let (mut complete, mut done) = (false, BTreeSet::new());
    while let Some(event) = events.recv().await {
        let Event::Update(update) = event else { continue };
        held.apply(&update);
        follow(&held);
        let changed: Vec<Arc<Endpoints>> = update.endpoints.iter().map(|received| received.resource.clone()).collect();
        Update::accept(update);
        changed.iter().for_each(|endpoints| watch.saw(endpoints, &mut done));
        if !complete && held.endpoints.len() == USED && held.listeners.len() == USED {
            complete = true;
            watch.state.lock().unwrap().complete += 1;
        }
    }
}

/// Whether a proxy has an endpoint with this port in force.
fn shows(admin: SocketAddr, port: u16) -> bool {
    get_path(admin, "localhost", "/endpoints").is_some_and(|(_, body)| body.contains(&format!(":{port}\"")))
}

/// Looks at all proxies until each has each change in force; how long each took at most.
fn until_shown(proxies: &[(Process, SocketAddr)], changes: Vec<(Change, Instant)>) -> Vec<Duration> {
    let mut waiting: Vec<(SocketAddr, Change, Instant)> = changes
        .into_iter()
        .flat_map(|(change, sent)| proxies.iter().map(move |(_, admin)| (*admin, change, sent)))
        .collect();
    let mut took = Vec::new();
    wait_until(5 * SECOND, || {
        waiting.retain(|(admin, change, sent)| {
            let is_there = shows(*admin, change.port) == change.present;
            if is_there {
                took.push(sent.elapsed());
            }
            !is_there
        });
        waiting.is_empty()
    });
    took
}

// === impl Change ===

impl Change {
    /// Registers the instance, or takes it out.
    fn make(&self, mesh: &Mesh) {
        let Change { service, port, present } = *self;
        let path = format!("/api/v1/services/shop/{}/instances", name(service));
        let answer = if present {
            let instance = serde_json::json!({
                "id": format!("instance-{port}"),
                "address": "127.0.0.1",
                "ports": [{ "number": port, "protocol": "http" }],
                "lease": 600_000,
            });
            mesh.api().call("POST", &path, &instance.to_string())
        } else {
            mesh.api().call("DELETE", &format!("{path}/instance-{port}"), "")
        };
        assert!(answer.as_ref().is_some_and(|(status, _)| *status < 300), "{self:?}: {answer:?}");
    }

    /// Whether it stands in these endpoints.
    fn is_in(&self, endpoints: &Endpoints) -> bool {
        endpoints.endpoints.iter().any(|endpoint| endpoint.address.port() == self.port) == self.present
    }

    fn is_about(&self, endpoints: &Endpoints) -> bool {
        let (of, cluster) = (name(self.service), &endpoints.cluster);
        cluster.split(|letter: char| letter != '-' && !letter.is_ascii_alphanumeric()).any(|part| part == of)
    }
}

// === impl Watch ===

impl Watch {
    /// Makes a change that is waited for from now on; when that was.
    fn make(&self, change: Change, mesh: &Mesh) -> Instant {
        let sent = Instant::now();
        self.state.lock().unwrap().expected.push((change, sent));
        change.make(mesh);
        sent
    }

    /// A subscriber has these endpoints in force; `done` is what it has had before.
    fn saw(&self, endpoints: &Endpoints, done: &mut BTreeSet<Instant>) {
        let mut state = self.state.lock().unwrap();
        let Watched { expected, took, .. } = &mut *state;
        for (change, sent) in expected.iter().filter(|(change, _)| change.is_about(endpoints)) {
            // Endpoints may come twice with the change in them; it counts once.
            if change.is_in(endpoints) && done.insert(*sent) {
                took.push(sent.elapsed());
            }
        }
    }

    /// Waits until so many have what is expected, and gives how long each took.
    fn took(&self, wanted: usize) -> Vec<Duration> {
        wait_until(5 * SECOND, || self.state.lock().unwrap().took.len() >= wanted);
        let mut state = self.state.lock().unwrap();
        state.expected.clear();
        std::mem::take(&mut state.took)
    }
}

// === impl Spread ===

impl Spread {
    /// Of subscribers and of proxies, over all that was measured.
    fn of_each(measured: impl Iterator<Item = [Vec<Duration>; 2]>) -> [Self; 2] {
        let (subscribers, proxies): (Vec<_>, Vec<_>) =
            measured.map(|[subscribers, proxies]| (subscribers, proxies)).unzip();
        [Self::of(subscribers.concat()), Self::of(proxies.concat())]
    }

    fn of(mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let at = |share: usize| took.get((took.len() * share / 100).min(took.len().saturating_sub(1)));
        let or_none = |found: Option<&Duration>| found.copied().unwrap_or_default();
        Self { count: took.len(), p50: or_none(at(50)), p99: or_none(at(99)), most: or_none(took.last()) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, p50, p99, most } = self;
        write!(
            f,
            "p50 {} ms, p99 {} ms, at most {} ms, {count} times",
            p50.as_millis(),
            p99.as_millis(),
            most.as_millis()
        )
    }
}

// === what a large mesh weighs ===

const FEW: usize = USED;
const MANY: usize = 10_000;
const AT_ONCE: usize = 2_000;
/// More memory of a proxy that uses as many services of a large mesh as of a small one.
const HEAVIER_MB: f64 = 2.0;
/// Proxies that are weighed; the middle one counts.
const WEIGHED: usize = 3;

#[test]
#[cfg_attr(debug_assertions, ignore = "needs --profile quick-release")]
fn a_proxy_that_uses_ten_services_weighs_the_same_in_a_mesh_of_ten_and_of_ten_thousand() {
    let few = Weighed::in_mesh_of(FEW);
    let many = Weighed::in_mesh_of(MANY);
    figures(format_args!(
        "a proxy that uses {USED} services: {:.1} MB in a mesh of {FEW}, {:.1} MB in a mesh of {MANY} (its server {:.0} MB, \
         resources in force after {:.1} s)",
        few.proxy_mb,
        many.proxy_mb,
        many.server_mb,
        many.applied_in.as_secs_f64(),
    ));
    assert!(many.proxy_mb <= few.proxy_mb + HEAVIER_MB, "{few:?}, {many:?}");
}

#[derive(Debug)]
struct Weighed {
    proxy_mb: f64,
    server_mb: f64,
    applied_in: Duration,
}

// === impl Weighed ===

impl Weighed {
    /// Weighs proxies that have served the first services of a mesh with so many.
    fn in_mesh_of(services: usize) -> Self {
        let mesh = Mesh::new();
        let server = mesh.server();
        let application = application::within("application", Duration::ZERO);
        let started = Instant::now();
        apply(&mesh, services, application);
        let applied_in = started.elapsed();
        let mut weights: Vec<f64> = (0..WEIGHED).map(|index| weigh(&mesh, index)).collect();
        weights.sort_by(f64::total_cmp);
        Self { proxy_mb: weights[WEIGHED / 2], server_mb: server.memory_mb(), applied_in }
    }
}

/// Starts a proxy, has it serve each service it uses, and weighs it.
fn weigh(mesh: &Mesh, index: usize) -> f64 {
    let outbound = free_address();
    let proxy = mesh.caller(outbound, &format!("front-{index}"));
    for service in 0..USED {
        let answers = || get(outbound, &name(service)).is_some_and(|(status, _)| status == 200);
        assert!(wait_until(10 * SECOND, answers).is_some(), "{} does not answer", name(service));
        let load = Load::start(outbound, &name(service), &Kind::ALL, 500);
        load.go_on_for(100);
        assert_eq!(load.end().failed().count(), 0);
    }
    proxy.memory_mb()
}

/// Puts services in force that all lead to one application, as many at once as are taken.
fn apply(mesh: &Mesh, count: usize, application: SocketAddr) {
    for first in (0..count).step_by(AT_ONCE) {
        mesh.apply("services.yaml", &resources(first..count.min(first + AT_ONCE), application));
    }
}

fn resources(services: Range<usize>, application: SocketAddr) -> String {
    let mut text = String::new();
    for service in services {
        let (name, port) = (name(service), application.port());
        writeln!(
            text,
            "---\napiVersion: leno.mesh/v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
             ports: [{{port: 80, targetPort: {port}, protocol: http}}]\n  endpoints: [{{address: 127.0.0.1}}]"
        )
        .unwrap();
    }
    text
}

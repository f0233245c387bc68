//! Random worlds, clients and connections, by seed: clients end up with what there is, are sent nothing twice, and
//! never hold a route to a cluster that they cannot use.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use leno_model::snapshot::Name;
use leno_xds::delta::DeltaSession;
use leno_xds::kind::Kind;
use leno_xds::messages::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use leno_xds::messages::wkt::Status;
use leno_xds::node::{NodeInfo, ProxyKind};
use leno_xds::provide::{Dirty, Provide, Resource};
use leno_xds::sotw::SotwSession;
use leno_xds::version::of_bytes;
use leno_xds::{Bounds, Now};
use tokio::sync::watch;
use world::{World, node};

const CLUSTERS: [&str; 4] = ["a", "b", "c", "d"];
const ROUTES: [&str; 3] = ["r", "s", "t"];
const STEPS: usize = 400;

/// What a client holds: text by kind and name, and the clusters of whose endpoints it has heard.
#[derive(Default)]
struct Held {
    text: BTreeMap<(Kind, String), String>,
    known: BTreeSet<String>,
}

impl Held {
    /// Whether it has routes, or clusters that it can use.
    fn is_started(&self) -> bool {
        let mut clusters = self.text.keys().filter(|(kind, _)| *kind == Kind::Cluster).peekable();
        let has_routes = self.text.keys().any(|(kind, _)| *kind == Kind::Route);
        has_routes || clusters.peek().is_some() && clusters.all(|(_, name)| self.known.contains(name))
    }
}

/// Says which seed it was.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

/// Whether a body is refused by its receivers.
fn is_bad(body: &str) -> bool {
    body.starts_with("bad")
}

fn leads_to(body: &str) -> impl Iterator<Item = String> {
    body.split(' ').skip(1).map(str::to_owned)
}

fn now(ms: u64) -> Now {
    Now { monotonic: Duration::from_millis(ms), ..Now::default() }
}

fn text_of(world: &World, kind: Kind, name: &str) -> Option<String> {
    world.get(kind, name).map(|resource| String::from_utf8(resource.body.to_vec()).unwrap())
}

/// One random change. Routes lead to clusters that exist, and clusters go when no route leads to them.
fn change(world: &World, rng: &mut Rng) {
    let number = rng.u32(..);
    let cluster = CLUSTERS[rng.usize(..CLUSTERS.len())];
    let route = ROUTES[rng.usize(..ROUTES.len())];
    let used = || {
        ROUTES.iter().filter_map(|route| text_of(world, Kind::Route, route)).any(|b| leads_to(&b).any(|c| c == cluster))
    };
    match rng.u32(..10) {
        0 => {
            world.set(Kind::Endpoints, cluster, &number.to_string());
            world.set(Kind::Cluster, cluster, &format!("{}", number % 3));
        }
        1 if cluster != "a" && !used() && world.get(Kind::Cluster, cluster).is_some() => {
            world.remove(Kind::Cluster, cluster);
            world.remove(Kind::Endpoints, cluster);
        }
        2..=4 if world.get(Kind::Cluster, cluster).is_some() => {
            world.set(Kind::Endpoints, cluster, &number.to_string());
        }
        5 => world.set(Kind::Listener, route, &number.to_string()),
        6 => world.remove(Kind::Listener, route),
        7 if world.get(Kind::Cluster, cluster).is_some() => {
            world.set(Kind::Endpoints, cluster, &format!("bad{number}"));
        }
        _ => {
            let clusters: Vec<_> = CLUSTERS.iter().filter(|c| world.get(Kind::Cluster, c).is_some()).copied().collect();
            let body = clusters.iter().filter(|_| rng.bool()).fold(number.to_string(), |body, c| body + " " + c);
            world.set(Kind::Route, route, &body);
        }
    }
}

/// A client with its end of a stream, and the server's end of it.
trait Peer {
    fn reconnect(&mut self, held: &mut Held);
    /// Something arrives at one of the two ends, if anything is on its way. False if not.
    fn deliver(&mut self, to_server: bool, at: u64, world: &World, held: &mut Held) -> bool;
    fn tick(&mut self, at: u64, world: &World);
    fn wake_at(&self) -> Option<Duration>;
}

/// Applies one resource, or keeps the last good one. False if it is refused.
fn apply(kind: Kind, name: &str, body: String, held: &mut Held, takes_all: bool) -> bool {
    if kind == Kind::Endpoints {
        held.known.insert(name.to_owned());
    }
    if is_bad(&body) {
        return false;
    }
    if kind == Kind::Route && takes_all {
        for cluster in leads_to(&body) {
            let exists = held.text.contains_key(&(Kind::Cluster, cluster.clone()));
            assert!(exists, "route {name} leads to unknown {cluster}");
            assert!(held.known.contains(&cluster), "route {name} leads to {cluster}, whose endpoints are unknown");
        }
    }
    held.text.insert((kind, name.to_owned()), body);
    true
}

fn remove(kind: Kind, name: &str, held: &mut Held, takes_all: bool) {
    if kind == Kind::Endpoints {
        held.known.insert(name.to_owned());
    }
    if kind == Kind::Cluster && takes_all {
        let routes = held.text.iter().filter(|((kind, _), _)| *kind == Kind::Route);
        for ((_, route), body) in routes {
            assert!(!leads_to(body).any(|cluster| cluster == name), "{name} went while route {route} led to it");
        }
        held.text.remove(&(Kind::Endpoints, name.to_owned()));
        held.known.remove(name);
    }
    held.text.remove(&(kind, name.to_owned()));
}

/// The names of a kind that a client asks for: an Envoy asks for the endpoints of the clusters that it has.
fn wanted(kind: Kind, takes_all: bool, held: &Held) -> BTreeSet<String> {
    let names: Vec<String> = match kind {
        Kind::Endpoints if takes_all => {
            held.text.keys().filter(|(kind, _)| *kind == Kind::Cluster).map(|(_, name)| name.clone()).collect()
        }
        // Its first routes come after its first clusters.
        Kind::Route if takes_all && !held.is_started() => Vec::new(),
        Kind::Cluster | Kind::Listener if takes_all => Vec::new(),
        Kind::Cluster | Kind::Endpoints => CLUSTERS.map(str::to_owned).to_vec(),
        Kind::Listener | Kind::Route => ROUTES.map(str::to_owned).to_vec(),
    };
    names.into_iter().collect()
}

fn simulate(seed: u64, peer: &mut impl Peer) {
    let _seed = Seed(seed);
    let mut rng = Rng::with_seed(seed);
    let (world, mut held, mut at) = (World::new(), Held::default(), 0);
    for cluster in CLUSTERS {
        world.set(Kind::Cluster, cluster, "0");
        world.set(Kind::Endpoints, cluster, "0");
    }
    peer.reconnect(&mut held);
    for _ in 0..STEPS {
        at += rng.u64(..3);
        match rng.u32(..12) {
            0..=2 => change(&world, &mut rng),
            3 if rng.u32(..12) == 0 => peer.reconnect(&mut held),
            4 => world.forgets.set(rng.bool()),
            5 | 6 => peer.tick(at, &world),
            direction => drop(peer.deliver(direction % 2 == 0, at, &world, &mut held)),
        }
    }
    settle(peer, &mut at, &world, &mut held);
    // Whatever was refused is replaced by something good, and all is well.
    for cluster in CLUSTERS.iter().filter(|cluster| world.get(Kind::Cluster, cluster).is_some()) {
        world.set(Kind::Endpoints, cluster, "good");
    }
    settle(peer, &mut at, &world, &mut held);
    for kind in Kind::ALL {
        for name in CLUSTERS.iter().chain(&ROUTES) {
            let has = held.text.get(&(kind, name.to_string()));
            // State of the world cannot say that routes and endpoints went.
            let is = text_of(&world, kind, name).filter(|body| !is_bad(body));
            if is.is_some() || kind.has_wildcard() {
                assert_eq!(has, is.as_ref(), "seed {seed}: {kind} {name}");
            }
        }
    }
}

/// Lets everything arrive until nothing is on its way.
fn settle(peer: &mut impl Peer, at: &mut u64, world: &World, held: &mut Held) {
    for _ in 0..2000 {
        *at += 1;
        peer.tick(*at, world);
        let moved = peer.deliver(true, *at, world, held) | peer.deliver(false, *at, world, held);
        if !moved {
            match peer.wake_at() {
                Some(wake) => *at = (*at).max(wake.as_millis() as u64),
                None => return,
            }
        }
    }
    panic!("the two never come to rest");
}

// === Delta ===

struct Delta {
    proxy: ProxyKind,
    session: DeltaSession,
    to_server: VecDeque<DeltaDiscoveryRequest>,
    to_client: VecDeque<DeltaDiscoveryResponse>,
    opened: bool,
    asked: BTreeMap<Kind, BTreeSet<String>>,
}

impl Delta {
    fn new(proxy: ProxyKind) -> Self {
        let session = DeltaSession::new(node(proxy), Bounds::default());
        let (to_server, to_client) = (VecDeque::new(), VecDeque::new());
        Self { proxy, session, to_server, to_client, opened: false, asked: BTreeMap::new() }
    }

    fn takes_all(&self) -> bool {
        self.proxy == ProxyKind::Envoy
    }

    fn ask(&mut self, held: &Held) {
        for kind in Kind::ALL {
            let names = wanted(kind, self.takes_all(), held);
            let asked = self.asked.entry(kind).or_default();
            if self.opened && *asked == names {
                continue;
            }
            let mut request = DeltaDiscoveryRequest { type_url: kind.type_url().into(), ..Default::default() };
            request.resource_names_subscribe = names.difference(asked).cloned().collect();
            request.resource_names_unsubscribe = asked.difference(&names).cloned().collect();
            if !self.opened {
                let mine = held.text.iter().filter(|((k, _), _)| *k == kind);
                request.initial_resource_versions =
                    mine.map(|((_, name), body)| (name.clone(), of_bytes(body.as_bytes()).to_string())).collect();
            }
            *asked = names;
            self.to_server.push_back(request);
        }
        self.opened = true;
    }

    fn receive(&mut self, response: DeltaDiscoveryResponse, held: &mut Held) {
        let kind = Kind::from_type_url(&response.type_url).unwrap();
        let takes_all = self.takes_all();
        let mut good = true;
        for resource in response.resources {
            let body = String::from_utf8(resource.resource.unwrap().value.to_vec()).unwrap();
            let again = held.text.get(&(kind, resource.name.clone())) == Some(&body);
            assert!(takes_all || !again, "{kind} {} was sent twice", resource.name);
            if takes_all && kind == Kind::Endpoints && !held.text.contains_key(&(Kind::Cluster, resource.name.clone()))
            {
                continue;
            }
            good &= apply(kind, &resource.name, body, held, takes_all);
        }
        response.removed_resources.iter().for_each(|name| remove(kind, name, held, takes_all));
        let error_detail = (!good).then(|| Status { code: 3, message: "bad".into(), details: Vec::new() });
        let type_url = response.type_url;
        let answer =
            DeltaDiscoveryRequest { type_url, response_nonce: response.nonce, error_detail, ..Default::default() };
        self.to_server.push_back(answer);
        self.ask(held);
    }
}

impl Peer for Delta {
    fn reconnect(&mut self, _: &mut Held) {
        *self = Self::new(self.proxy);
    }

    fn deliver(&mut self, to_server: bool, at: u64, world: &World, held: &mut Held) -> bool {
        if !self.opened {
            self.ask(held);
        }
        if to_server {
            let Some(request) = self.to_server.pop_front() else { return false };
            self.to_client.extend(self.session.step(now(at), Some(request), world));
        } else {
            let Some(response) = self.to_client.pop_front() else { return false };
            self.receive(response, held);
        }
        true
    }

    fn tick(&mut self, at: u64, world: &World) {
        self.to_client.extend(self.session.step(now(at), None, world));
    }

    fn wake_at(&self) -> Option<Duration> {
        self.session.wake_at()
    }
}

// === State of the world ===

struct Sotw {
    proxy: ProxyKind,
    session: SotwSession,
    to_server: VecDeque<DiscoveryRequest>,
    to_client: VecDeque<DiscoveryResponse>,
    opened: bool,
    /// The last accepted version and the last nonce.
    last: BTreeMap<Kind, (String, String)>,
    asked: BTreeMap<Kind, BTreeSet<String>>,
}

impl Sotw {
    fn new(proxy: ProxyKind) -> Self {
        let session = SotwSession::new(node(proxy), Bounds::default());
        let (to_server, to_client) = (VecDeque::new(), VecDeque::new());
        let (last, asked) = (BTreeMap::new(), BTreeMap::new());
        Self { proxy, session, to_server, to_client, opened: false, last, asked }
    }

    fn takes_all(&self) -> bool {
        self.proxy == ProxyKind::Envoy
    }

    fn request(&mut self, kind: Kind, held: &Held) -> DiscoveryRequest {
        let names = wanted(kind, self.takes_all(), held);
        self.asked.insert(kind, names.clone());
        let (version_info, response_nonce) = self.last.get(&kind).cloned().unwrap_or_default();
        DiscoveryRequest {
            type_url: kind.type_url().into(),
            resource_names: names.into_iter().collect(),
            version_info,
            response_nonce,
            ..Default::default()
        }
    }

    fn ask(&mut self, held: &Held) {
        for kind in Kind::ALL {
            if !self.opened || self.asked.get(&kind) != Some(&wanted(kind, self.takes_all(), held)) {
                let request = self.request(kind, held);
                self.to_server.push_back(request);
            }
        }
        self.opened = true;
    }

    fn receive(&mut self, response: DiscoveryResponse, held: &mut Held) {
        let kind = Kind::from_type_url(&response.type_url).unwrap();
        let takes_all = self.takes_all();
        let mut names = BTreeSet::new();
        let mut good = true;
        for any in response.resources {
            let body = String::from_utf8(any.value.to_vec()).unwrap();
            let (name, body) = body.split_once('=').map(|(name, body)| (name.to_owned(), body.to_owned())).unwrap();
            names.insert(name.clone());
            if takes_all && kind == Kind::Endpoints && !held.text.contains_key(&(Kind::Cluster, name.clone())) {
                continue;
            }
            good &= apply(kind, &name, body, held, takes_all);
        }
        if kind.has_wildcard() {
            let mine: Vec<String> =
                held.text.keys().filter(|(k, _)| *k == kind).map(|(_, name)| name.clone()).collect();
            mine.iter().filter(|name| !names.contains(*name)).for_each(|name| remove(kind, name, held, takes_all));
        }
        let accepted = self.last.get(&kind).map(|(version, _)| version.clone()).unwrap_or_default();
        let version = if good { response.version_info } else { accepted };
        self.last.insert(kind, (version, response.nonce));
        let mut answer = self.request(kind, held);
        answer.error_detail = (!good).then(|| Status { code: 3, message: "bad".into(), details: Vec::new() });
        self.to_server.push_back(answer);
        self.ask(held);
    }
}

/// State of the world does not name its resources: bodies begin with the name.
struct Named<'a>(&'a World);

impl Provide for Named<'_> {
    fn revision(&self) -> u64 {
        self.0.revision()
    }

    fn resource(&self, node: &NodeInfo, kind: Kind, name: &str) -> Option<Resource> {
        let inner = self.0.resource(node, kind, name)?;
        Some(Resource::new(inner.name, [name.as_bytes(), b"=", &inner.body].concat().into()))
    }

    fn names(&self, node: &NodeInfo, kind: Kind) -> Vec<Name> {
        self.0.names(node, kind)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }

    fn dirty_since(&self, revision: u64) -> Dirty {
        self.0.dirty_since(revision)
    }
}

impl Peer for Sotw {
    fn reconnect(&mut self, held: &mut Held) {
        if self.takes_all() {
            // It starts anew: a server cannot know what it had, and so cannot keep what its routes lead to.
            *held = Held::default();
            *self = Self::new(self.proxy);
            return;
        }
        // The version is remembered, nonces are the stream's.
        let last = std::mem::take(&mut self.last);
        let last = last.into_iter().map(|(kind, (version, _))| (kind, (version, String::new()))).collect();
        *self = Self { last, ..Self::new(self.proxy) };
    }

    fn deliver(&mut self, to_server: bool, at: u64, world: &World, held: &mut Held) -> bool {
        if !self.opened {
            self.ask(held);
        }
        if to_server {
            let Some(request) = self.to_server.pop_front() else { return false };
            self.to_client.extend(self.session.step(now(at), Some(request), &Named(world)));
        } else {
            let Some(response) = self.to_client.pop_front() else { return false };
            self.receive(response, held);
        }
        true
    }

    fn tick(&mut self, at: u64, world: &World) {
        self.to_client.extend(self.session.step(now(at), None, &Named(world)));
    }

    fn wake_at(&self) -> Option<Duration> {
        self.session.wake_at()
    }
}

#[test]
fn delta_by_name_converges() {
    (0..100).for_each(|seed| simulate(seed, &mut Delta::new(ProxyKind::Leno)));
}

#[test]
fn delta_for_all_converges_and_makes_before_it_breaks() {
    (0..100).for_each(|seed| simulate(seed, &mut Delta::new(ProxyKind::Envoy)));
}

#[test]
fn state_of_the_world_by_name_converges() {
    (0..100).for_each(|seed| simulate(seed, &mut Sotw::new(ProxyKind::Grpc)));
}

#[test]
fn state_of_the_world_for_all_converges_and_makes_before_it_breaks() {
    (0..100).for_each(|seed| simulate(seed, &mut Sotw::new(ProxyKind::Envoy)));
}

//! The client's core against the server's session, by seed: whatever is lost, refused or unreadable on the way, the
//! consumer ends with what there is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use leno_model::name::ServiceName;
use leno_model::snapshot::{BalancePolicy, Cluster, Name};

use super::Refusal;
use super::core::{Brought, Core};
use crate::delta::DeltaSession;
use crate::kind::Kind;
use crate::messages::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::node::NodeInfo;
use crate::provide::Resource;
use crate::session::{Bounds, Now};
use crate::translate::{Dialect, cluster};
use world::World;

#[path = "../../tests/world/mod.rs"]
mod world;

/// The port that the consumer does not like.
const REFUSED: u16 = 0;

struct Sim {
    rng: Rng,
    world: World,
    at: u64,
    session: DeltaSession,
    core: Core,
    wanted: BTreeSet<(Kind, Name)>,
    dropped: BTreeSet<(Kind, Name)>,
    to_server: VecDeque<DeltaDiscoveryRequest>,
    to_client: VecDeque<DeltaDiscoveryResponse>,
    /// Updates that the consumer has not answered.
    open: Vec<Brought>,
    in_use: BTreeMap<Name, u16>,
}

fn a_name(rng: &mut Rng) -> Name {
    format!("c{}", rng.u32(..5)).into()
}

fn put(world: &World, name: &Name, port: u16) {
    let cluster = Cluster {
        name: name.clone(),
        service: ServiceName::new("shop", "cart").unwrap(),
        port,
        protocol: Default::default(),
        balance: BalancePolicy::Random,
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(3600),
        tls: None,
        proxy_protocol: None,
        resilience: Default::default(),
        balancing: Default::default(),
    };
    world.put(cluster::encode(&cluster, Dialect::Leno), Kind::Cluster);
}

impl Sim {
    fn new(seed: u64) -> Self {
        let node = NodeInfo::new("p");
        let mut sim = Self {
            rng: Rng::with_seed(seed),
            world: World::new(),
            at: 0,
            session: DeltaSession::new(node.clone(), Bounds::default()),
            core: Core::new(node, Vec::new()),
            wanted: BTreeSet::new(),
            dropped: BTreeSet::new(),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            open: Vec::new(),
            in_use: BTreeMap::new(),
        };
        sim.reconnect();
        sim
    }

    fn reconnect(&mut self) {
        self.to_server.clear();
        self.to_client.clear();
        self.session = DeltaSession::new(NodeInfo::new("p"), Bounds::default());
        self.core.connected();
        self.ask();
    }

    fn ask(&mut self) {
        self.to_server.extend(self.core.ask(&self.wanted, &std::mem::take(&mut self.dropped)));
    }

    fn now(&self) -> Now {
        Now { monotonic: Duration::from_millis(self.at), ..Now::default() }
    }

    fn change(&mut self) {
        let name = a_name(&mut self.rng);
        match self.rng.u32(..6) {
            0 => self.world.remove(Kind::Cluster, &name),
            1 => self.world.put(Resource::new(name, vec![0xff, self.rng.u8(..)].into()), Kind::Cluster),
            _ => put(&self.world, &name, self.rng.u16(..4)),
        }
    }

    fn resubscribe(&mut self) {
        let key = (Kind::Cluster, a_name(&mut self.rng));
        if self.wanted.remove(&key) {
            self.in_use.remove(&key.1);
            self.dropped.insert(key);
        } else {
            self.wanted.insert(key);
        }
        if self.rng.bool() {
            self.ask();
        }
    }

    fn deliver(&mut self) -> bool {
        let now = self.now();
        if let Some(request) = self.to_server.pop_front() {
            self.to_client.extend(self.session.step(now, Some(request), &self.world));
        } else if let Some(response) = self.to_client.pop_front() {
            let brought = self.core.read(response);
            self.open.push(brought);
        } else if !self.open.is_empty() {
            let brought = self.open.remove(0);
            self.consume(brought);
        } else {
            return false;
        }
        true
    }

    fn consume(&mut self, brought: Brought) {
        let mut refusals = Vec::new();
        for received in brought.clusters {
            let name = received.resource.name.clone();
            if !self.wanted.contains(&(Kind::Cluster, name.clone())) {
                continue;
            }
            if received.resource.port == REFUSED {
                refusals.push(Refusal { kind: Kind::Cluster, name, detail: "0".into() });
            } else {
                self.in_use.insert(name, received.resource.port);
            }
        }
        for (_, name) in &brought.removed {
            self.in_use.remove(name);
        }
        self.core.forget(&brought.removed);
        self.to_server.extend(self.core.answer(brought.receipt, refusals));
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            self.at += 1;
            let sent = self.session.step(self.now(), None, &self.world);
            self.to_client.extend(sent);
            if !self.deliver() {
                match self.session.wake_at() {
                    Some(wake) => self.at = self.at.max(wake.as_millis() as u64),
                    None => return,
                }
            }
        }
        panic!("the two never come to rest");
    }
}

#[test]
fn the_consumer_ends_with_what_there_is() {
    for seed in 0..200 {
        let mut sim = Sim::new(seed);
        for _ in 0..300 {
            sim.at += sim.rng.u64(..4);
            match sim.rng.u32(..10) {
                0 | 1 => sim.change(),
                2 => sim.resubscribe(),
                3 if sim.rng.u32(..8) == 0 => sim.reconnect(),
                _ => drop(sim.deliver()),
            }
        }
        // Good content for whatever was refused, then quiet.
        (0..5).for_each(|i| put(&sim.world, &format!("c{i}").into(), 7));
        sim.ask();
        sim.settle();
        let names: Vec<Name> = sim.wanted.iter().map(|(_, name)| name.clone()).collect();
        let in_use: Vec<Name> = sim.in_use.keys().cloned().collect();
        assert_eq!(in_use, names, "seed {seed}");
        assert!(sim.in_use.values().all(|port| *port == 7), "seed {seed}");
    }
}

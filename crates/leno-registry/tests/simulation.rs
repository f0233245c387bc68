//! The registry under random operations, steps of the clock, restarts and crashes, from a seed.
//!
//! After each step: whoever renewed in time is there, and routable by the four-way rule; nobody is there without a
//! reason; revisions rise; a watcher that reads what it is told to read knows the whole state. After a restart nothing
//! routable is gone; after a crash nothing acknowledged as persistent is, and nothing leased that is older than the
//! last write.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use leno_model::instance::{
    HealthCheck, Instance, InstancePort, InstanceStatus, Probe, ProbeResult, Protocol, Visibility,
};
use leno_model::name::ServiceName;
use leno_model::seam::Clock;
use leno_registry::{InstanceKey, LeaseState, Options, Origin, Registered, Registry, Watch};
use leno_store::suite::TurnedClock;
use leno_store::{MemoryStore, Store};

const SEEDS: u64 = 200;
const STEPS: usize = 300;

/// What must be true of an instance, from what was done to it.
#[derive(Debug, Clone)]
struct Expected {
    instance: Instance,
    renewed: Duration,
    probe: ProbeResult,
    /// Whether it is on disk for certain, as it is now.
    kept: bool,
}

struct World {
    seed: u64,
    random: fastrand::Rng,
    clock: Arc<TurnedClock>,
    store: MemoryStore,
    registry: Registry,
    driver: Pin<Box<dyn Future<Output = ()>>>,
    watch: Watch,
    told: BTreeMap<ServiceName, Vec<Arc<Registered>>>,
    seen: u64,
    expected: BTreeMap<InstanceKey, Expected>,
}

#[test]
fn random_operations_restarts_and_crashes_keep_every_promise() {
    for seed in 0..SEEDS {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut world = World::new(seed).await;
            for step in 0..STEPS {
                let done = world.step().await;
                world.check(&format!("seed {seed}, step {step}: {done}")).await;
            }
        });
    }
}

impl World {
    async fn new(seed: u64) -> Self {
        let clock = Arc::new(TurnedClock::default());
        let store = MemoryStore::new(clock.clone());
        let (registry, driver) = open(&store, &clock).await;
        let watch = registry.watch(None);
        let random = fastrand::Rng::with_seed(seed);
        let (told, expected) = (BTreeMap::new(), BTreeMap::new());
        Self { seed, random, clock, store, registry, driver, watch, told, seen: 0, expected }
    }

    async fn step(&mut self) -> String {
        // Time never stands still, so that the revisions of two lives do not meet.
        self.clock.turn(Duration::from_millis(1));
        match self.random.u32(..100) {
            0..30 => self.register().await,
            30..60 => self.renew(),
            60..65 => self.deregister().await,
            65..72 => self.set_status().await,
            72..82 => self.set_probe(),
            82..92 => self.turn(),
            92..95 => self.save().await,
            95..98 => self.restart().await,
            _ => self.crash().await,
        }
    }

    async fn register(&mut self) -> String {
        let key = self.any_key();
        let instance = self.instance(&key);
        let registry = self.registry.clone();
        let result = self.beside(registry.register(instance.clone(), Origin::Remote)).await;
        let now = self.clock.monotonic();
        let before = self.expected.get(&key).cloned();
        if let Some(before) = &before
            && before.instance.source != instance.source
        {
            // It may have been evicted meanwhile: then its name is free.
            if result.is_err() {
                return format!("refuse {key:?}");
            }
        }
        let registered = result.unwrap();
        let kept = instance.lease.is_none() || before.is_some_and(|before| before.instance.lease.is_none());
        let expected = Expected { instance: registered.instance.clone(), renewed: now, probe: registered.probe, kept };
        self.expected.insert(key.clone(), expected);
        format!("register {key:?}")
    }

    fn renew(&mut self) -> String {
        let keys: Vec<InstanceKey> = self.expected.keys().filter(|_| self.random.u8(..3) > 0).cloned().collect();
        for (key, there) in keys.iter().zip(self.registry.renew_many(&keys)) {
            if there {
                self.expected.get_mut(key).unwrap().renewed = self.clock.monotonic();
            }
        }
        format!("renew {}", keys.len())
    }

    async fn deregister(&mut self) -> String {
        let key = self.any_key();
        let registry = self.registry.clone();
        let done = self.beside(registry.deregister(&key.service, &key.id)).await;
        self.expected.remove(&key);
        format!("deregister {key:?}: {done:?}")
    }

    async fn set_status(&mut self) -> String {
        let key = self.any_key();
        let all = [InstanceStatus::Up, InstanceStatus::Starting, InstanceStatus::Draining, InstanceStatus::Out];
        let status = all[self.random.usize(..4)];
        let registry = self.registry.clone();
        let done = self.beside(registry.set_status(&key.service, &key.id, status)).await;
        if done.is_ok() {
            let expected = self.expected.get_mut(&key).unwrap();
            expected.instance.status = status;
            expected.kept &= expected.instance.lease.is_none();
        }
        format!("set {key:?} {status:?}")
    }

    fn set_probe(&mut self) -> String {
        let key = self.any_key();
        let Some(registered) = self.registry.instance(&key.service, &key.id) else { return "probe nobody".to_owned() };
        let result = [ProbeResult::Passing, ProbeResult::Passing, ProbeResult::Failing][self.random.usize(..3)];
        self.registry.set_probe(&key, registered.registration, result);
        if self.registry.instance(&key.service, &key.id).is_some() {
            self.expected.get_mut(&key).unwrap().probe = result;
        } else {
            // Its lease was over: only the probe had kept it.
            assert!(registered.lease == LeaseState::Expired && result == ProbeResult::Failing, "seed {}", self.seed);
            self.expected.remove(&key);
        }
        format!("probe {key:?} {result:?}")
    }

    fn turn(&mut self) -> String {
        let by = Duration::from_secs(self.random.u64(1..20));
        self.clock.turn(by);
        self.registry.tick();
        format!("turn {by:?}")
    }

    async fn save(&mut self) -> String {
        let registry = self.registry.clone();
        self.beside(registry.save()).await.unwrap();
        self.expected.values_mut().for_each(|expected| expected.kept = true);
        "save".to_owned()
    }

    async fn restart(&mut self) -> String {
        self.registry.tick();
        let before = self.all();
        self.save().await;
        self.open_again().await;
        for (key, was) in &before {
            let is = self.registry.instance(&key.service, &key.id);
            let is = is.unwrap_or_else(|| panic!("seed {}: {key:?} was lost", self.seed));
            assert!(is.routable() == was.routable() || !was.routable().is_yes(), "seed {}: {key:?}", self.seed);
        }
        assert_eq!(self.all().len(), before.len(), "seed {}", self.seed);
        "restart".to_owned()
    }

    async fn crash(&mut self) -> String {
        self.registry.tick();
        self.forget_what_is_over();
        self.open_again().await;
        for (key, expected) in self.expected.iter().filter(|(_, expected)| expected.kept) {
            assert!(self.registry.instance(&key.service, &key.id).is_some(), "seed {}: {expected:?}", self.seed);
        }
        // What was not written may be there as it was before, or not: the registry says.
        let all = self.all();
        let now = self.clock.monotonic();
        let take = |registered: &Arc<Registered>| Expected {
            instance: registered.instance.clone(),
            renewed: now,
            probe: registered.probe,
            kept: true,
        };
        self.expected = all.iter().map(|(key, registered)| (key.clone(), take(registered))).collect();
        "crash".to_owned()
    }

    async fn open_again(&mut self) {
        self.clock.turn(Duration::from_secs(1));
        let seen = self.watch_position();
        let (registry, driver) = open(&self.store, &self.clock).await;
        (self.registry, self.driver) = (registry, driver);
        // A watcher that comes back with what it knew.
        self.watch = self.registry.watch(Some(seen));
        let now = self.clock.monotonic();
        self.expected.values_mut().for_each(|expected| expected.renewed = now);
    }

    async fn check(&mut self, step: &str) {
        self.registry.tick();
        let now = self.clock.monotonic();
        let there = self.all();
        for (key, expected) in &self.expected {
            let lease = expected.instance.lease;
            if lease.is_some_and(|lease| expected.renewed + lease <= now) {
                continue;
            }
            let registered = there.get(key).unwrap_or_else(|| panic!("{step}: {key:?} is missing, {expected:?}"));
            let up = expected.instance.status == InstanceStatus::Up;
            let routable = up && expected.probe != ProbeResult::Failing;
            assert_eq!(registered.routable().is_yes(), routable, "{step}: {registered:?}");
            let state = if lease.is_none() { LeaseState::Persistent } else { LeaseState::Valid };
            assert_eq!((registered.lease, registered.probe), (state, expected.probe), "{step}: {key:?}");
        }
        for (key, registered) in &there {
            let expected = self.expected.get(key).unwrap_or_else(|| panic!("{step}: {key:?} came from nowhere"));
            match registered.lease {
                LeaseState::Persistent => assert_eq!(expected.instance.lease, None, "{step}"),
                LeaseState::Valid => assert!(expected.renewed + expected.instance.lease.unwrap() > now, "{step}"),
                LeaseState::Expired => assert_eq!(registered.probe, ProbeResult::Passing, "{step}: {key:?}"),
                LeaseState::Unrenewed => {
                    let of_source = |other: &&Arc<Registered>| {
                        other.instance.source == registered.instance.source && other.instance.lease.is_some()
                    };
                    assert!(there.values().filter(of_source).count() >= 10, "{step}: {key:?}");
                    assert!(self.registry.preserved().contains(&registered.instance.source), "{step}: {key:?}");
                }
            }
        }
        for service in self.registry.services() {
            let instances = self.registry.instances(&service.name);
            let routable = instances.iter().filter(|registered| registered.routable().is_yes()).count();
            assert_eq!((service.instances, service.routable), (instances.len(), routable), "{step}: {}", service.name);
        }
        self.forget_what_is_over();
        self.check_watch(step, &there).await;
    }

    /// What is gone by itself is expected no more.
    fn forget_what_is_over(&mut self) {
        let registry = &self.registry;
        let now = self.clock.monotonic();
        self.expected.retain(|key, expected| {
            let over = expected.instance.lease.is_some_and(|lease| expected.renewed + lease <= now);
            !over || registry.instance(&key.service, &key.id).is_some()
        });
    }

    async fn check_watch(&mut self, step: &str, there: &BTreeMap<InstanceKey, Arc<Registered>>) {
        while self.seen != self.registry.revision() {
            let dirty = self.watch.next().await.unwrap();
            assert!(dirty.revision > self.seen, "{step}: revision {} after {}", dirty.revision, self.seen);
            self.seen = dirty.revision;
            if dirty.complete {
                self.told.clear();
            }
            for service in dirty.services {
                let instances = self.registry.instances(&service);
                self.told.insert(service, instances);
            }
        }
        let told: Vec<&Arc<Registered>> = self.told.values().flatten().collect();
        assert_eq!(told, there.values().collect::<Vec<_>>(), "{step}: a watcher knows another state");
    }

    fn watch_position(&self) -> u64 {
        self.seen
    }

    /// Runs an operation while the driver runs.
    async fn beside<T>(&mut self, operation: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            result = operation => result,
            () = &mut self.driver => panic!("the driver ends last"),
        }
    }

    fn all(&self) -> BTreeMap<InstanceKey, Arc<Registered>> {
        let services = self.registry.services();
        let instances = services.iter().flat_map(|service| self.registry.instances(&service.name));
        instances.map(|r| (InstanceKey::new(&r.instance.service, &r.instance.id), r)).collect()
    }

    fn any_key(&mut self) -> InstanceKey {
        let service = ServiceName::new("shop", ["cart", "pay", "ship"][self.random.usize(..3)]).unwrap();
        InstanceKey::new(&service, &self.random.u8(..12).to_string())
    }

    fn instance(&mut self, key: &InstanceKey) -> Instance {
        let lease = match self.random.u8(..5) {
            0 => None,
            1 => Some(Duration::from_secs(5)),
            _ => Some(Duration::from_secs(30)),
        };
        let port = InstancePort { number: 8080, name: None, protocol: Protocol::Http, proxy_port: None };
        let health_check = HealthCheck {
            probe: Probe::Tcp,
            port: None,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            unhealthy_threshold: 3,
            healthy_threshold: 1,
        };
        Instance {
            id: key.id.clone(),
            service: key.service.clone(),
            address: [10, 0, 0, self.random.u8(1..3)].into(),
            ports: vec![port],
            proxy_address: None,
            weight: self.random.u32(1..4),
            version: None,
            zone: None,
            region: None,
            status: InstanceStatus::Up,
            visibility: Visibility::All,
            metadata: BTreeMap::new(),
            health_check: Some(health_check),
            lease,
            source: if self.random.u8(..8) == 0 { "api" } else { "run" }.into(),
        }
    }
}

async fn open(store: &MemoryStore, clock: &Arc<TurnedClock>) -> (Registry, Pin<Box<dyn Future<Output = ()>>>) {
    let store: Arc<dyn Store> = Arc::new(store.clone());
    let (registry, driver) = Registry::open(store, clock.clone(), Options::default()).await.unwrap();
    (registry, Box::pin(driver.run()))
}

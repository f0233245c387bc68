#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};

use leno_store::MemoryStore;
use leno_store::suite::TurnedClock;

use super::*;
use crate::Routable;
use crate::catalogue::tests::{instance, name};

const SECOND: Duration = Duration::from_secs(1);

async fn open(store: &MemoryStore, clock: &Arc<TurnedClock>) -> (Registry, Driver) {
    Registry::open(Arc::new(store.clone()), clock.clone(), Options::default()).await.unwrap()
}

fn stores() -> (MemoryStore, Arc<TurnedClock>) {
    let clock = Arc::new(TurnedClock::default());
    (MemoryStore::new(clock.clone()), clock)
}

/// Runs a body beside the driver.
async fn beside<T>(driver: Driver, body: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        result = body => result,
        () = driver.run() => panic!("the driver ends last"),
        () = tokio::time::sleep(3600 * SECOND) => panic!("no end after an hour of paused time"),
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_all_is_there_and_every_lease_begins_anew() {
    let (store, clock) = stores();
    let (registry, driver) = open(&store, &clock).await;
    beside(driver, async {
        registry.register(instance("cart", "leased"), Origin::Local).await.unwrap();
        let persistent = Instance { lease: None, ..instance("cart", "persistent") };
        registry.register(persistent, Origin::Remote).await.unwrap();
        registry.set_status(&name("cart"), "persistent", InstanceStatus::Out).await.unwrap();
        registry.save().await.unwrap();
    })
    .await;
    let before = registry.instances(&name("cart"));
    drop(registry);
    clock.turn(1000 * SECOND);
    let (registry, _driver) = open(&store, &clock).await;
    let after = registry.instances(&name("cart"));
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.instance, before.origin, before.since), (&after.instance, after.origin, after.since));
        assert_eq!(before.routable(), after.routable());
    }
    assert_eq!(after.len(), 2);
    assert!(registry.is_warming() && registry.revision() > before[1].revision);
    clock.turn(29 * SECOND);
    registry.tick();
    assert_eq!(registry.counts(), (1, 2));
    clock.turn(SECOND);
    registry.tick();
    assert_eq!(registry.counts(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_leased_instance_is_written_behind() {
    let (store, clock) = stores();
    let (registry, driver) = open(&store, &clock).await;
    beside(driver, async {
        registry.register(instance("cart", "a"), Origin::Local).await.unwrap();
        assert_eq!(store.range("registry/", None).await.unwrap().items.len(), 0);
        let mut watch = store.watch("registry/", 1).await.unwrap();
        watch.next().await.unwrap().unwrap();
        registry.deregister(&name("cart"), "a").await.unwrap();
        watch.next().await.unwrap().unwrap();
        assert_eq!(store.range("registry/", None).await.unwrap().items.len(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn renewals_are_not_written() {
    let (store, clock) = stores();
    let (registry, _driver) = open(&store, &clock).await;
    registry.register(instance("cart", "a"), Origin::Local).await.unwrap();
    registry.save().await.unwrap();
    let before = store.range("", None).await.unwrap().revision;
    for _ in 0..10 {
        clock.turn(SECOND);
        registry.renew(&name("cart"), "a").unwrap();
        registry.register(instance("cart", "a"), Origin::Local).await.unwrap();
    }
    registry.save().await.unwrap();
    assert_eq!(store.range("", None).await.unwrap().revision, before);
}

#[tokio::test(start_paused = true)]
async fn a_persistent_instance_is_answered_when_it_is_on_disk() {
    let (store, clock) = stores();
    let (registry, driver) = open(&store, &clock).await;
    beside(driver, async {
        let persistent = |id: &str| Instance { lease: None, ..instance("cart", id) };
        let ids: Vec<String> = (0..50).map(|i| i.to_string()).collect();
        let all = ids.iter().map(|id| registry.register(persistent(id), Origin::Local));
        assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
        let range = store.range("registry/", None).await.unwrap();
        assert_eq!(range.items.len(), 50);
        assert!(range.revision < 10, "they share transactions: {}", range.revision);
        registry.set_weight(&name("cart"), "7", 5).await.unwrap();
        let kept = store.get("registry/instance/shop/cart/7").await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&kept.value).contains("\"weight\":5"));
        registry.deregister(&name("cart"), "7").await.unwrap();
        assert_eq!(store.get("registry/instance/shop/cart/7").await, Ok(None));
        let unknown = registry.deregister(&name("cart"), "7").await;
        assert!(matches!(unknown, Err(Error::Unknown { .. })));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_persistent_instance_that_cannot_be_written_is_not_there() {
    let (_, clock) = stores();
    let store = Arc::new(FullStore { inner: MemoryStore::new(clock.clone()), full: true.into() });
    let (registry, driver) = Registry::open(store.clone(), clock, Options::default()).await.unwrap();
    beside(driver, async {
        let persistent = Instance { lease: None, ..instance("cart", "a") };
        let refused = registry.register(persistent, Origin::Local).await.unwrap_err();
        assert_eq!(refused.code(), "disk_full");
        assert_eq!(registry.counts(), (0, 0));
        // One with a lease is available first.
        registry.register(instance("cart", "b"), Origin::Local).await.unwrap();
        assert!(registry.save().await.is_err());
        assert_eq!(registry.counts(), (1, 1));
        // And is written when there is room again.
        store.full.store(false, Ordering::Relaxed);
        registry.save().await.unwrap();
        assert!(store.get("registry/instance/shop/cart/b").await.unwrap().is_some());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_watcher_is_told_at_once_and_then_in_sets() {
    let (store, clock) = stores();
    let (registry, _driver) = open(&store, &clock).await;
    let mut watch = registry.watch(None);
    let first = watch.next().await.unwrap();
    assert!(first.complete && first.services.is_empty());
    let begin = tokio::time::Instant::now();
    let change = async {
        for i in 0..100 {
            registry.register(instance("cart", &i.to_string()), Origin::Local).await.unwrap();
            registry.register(instance("pay", &i.to_string()), Origin::Local).await.unwrap();
        }
    };
    let (dirty, ()) = tokio::join!(watch.next(), change);
    let dirty = dirty.unwrap();
    assert_eq!(dirty.services, [name("cart"), name("pay")].into());
    assert_eq!((dirty.revision, dirty.complete), (registry.revision(), false));
    assert!(begin.elapsed() <= crate::watch::PAUSE);
    let mut resumed = registry.watch(Some(dirty.revision - 1));
    assert_eq!(resumed.next().await.unwrap().services, [name("pay")].into());
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_ends_the_driver_which_writes_the_rest_and_ends_the_watches() {
    let (store, clock) = stores();
    let (registry, driver) = open(&store, &clock).await;
    registry.register(instance("cart", "a"), Origin::Local).await.unwrap();
    let mut watch = registry.watch(Some(registry.revision()));
    drop(registry);
    driver.run().await;
    assert_eq!(store.range("registry/", None).await.unwrap().items.len(), 1);
    assert_eq!(watch.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn many_renewals_say_who_must_register_again() {
    let (store, clock) = stores();
    let (registry, _driver) = open(&store, &clock).await;
    registry.register(instance("cart", "a"), Origin::Local).await.unwrap();
    let keys = [InstanceKey::new(&name("cart"), "a"), InstanceKey::new(&name("cart"), "b")];
    assert_eq!(registry.renew_many(&keys), [true, false]);
    assert_eq!(registry.instances(&name("cart"))[0].routable(), Routable::Yes);
}

/// A store on a disk that is full for some time.
struct FullStore {
    inner: MemoryStore,
    full: AtomicBool,
}

impl Store for FullStore {
    fn range<'a>(&'a self, prefix: &'a str, at: Option<u64>) -> leno_store::Answer<'a, leno_store::Range> {
        self.inner.range(prefix, at)
    }
    fn get<'a>(&'a self, key: &'a str) -> leno_store::Answer<'a, Option<leno_store::KeyValue>> {
        self.inner.get(key)
    }
    fn txn(&self, txn: leno_store::Txn) -> leno_store::Answer<'_, leno_store::TxnResult> {
        if self.full.load(Ordering::Relaxed) {
            return Box::pin(async { Err(leno_store::Error::DiskFull { path: "state.db".into() }) });
        }
        self.inner.txn(txn)
    }
    fn watch<'a>(&'a self, prefix: &'a str, from: u64) -> leno_store::Answer<'a, leno_store::Watch> {
        self.inner.watch(prefix, from)
    }
    fn compact(&self, revision: u64) -> leno_store::Answer<'_, ()> {
        self.inner.compact(revision)
    }
    fn lease_grant(&self, ttl: Duration) -> leno_store::Answer<'_, leno_store::LeaseId> {
        self.inner.lease_grant(ttl)
    }
    fn lease_keep_alive(&self, lease: leno_store::LeaseId) -> leno_store::Answer<'_, Duration> {
        self.inner.lease_keep_alive(lease)
    }
    fn lease_revoke(&self, lease: leno_store::LeaseId) -> leno_store::Answer<'_, ()> {
        self.inner.lease_revoke(lease)
    }
    fn lease_expire(&self) -> leno_store::Answer<'_, Duration> {
        self.inner.lease_expire()
    }
}

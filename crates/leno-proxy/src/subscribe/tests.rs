use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use leno_model::seam::Timestamp;
use leno_net::dial::HostDial;
use leno_runtime::SystemRandom;
use leno_telemetry::{EdgeKey, Registry};
use leno_xds::client::{ClientOptions, client};
use leno_xds::node::{NodeInfo, ProxyKind, ProxyRole};
use leno_xds::transport::GrpcServers;

use super::*;
use crate::lookup::{Lookup, tables};

/// A clock that a test turns, in seconds.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Relaxed))
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.0.load(Relaxed) * 1000)
    }
}

/// A subscriber whose server never answers, with its lookup and its clock.
fn subscriber() -> (Subscriber, Lookup, Arc<Hand>) {
    let node = NodeInfo {
        id: "test".into(),
        cluster: "test".into(),
        proxy: ProxyKind::Leno,
        role: ProxyRole::default(),
        namespace: "shop".into(),
        service: None,
        gateway: None,
        region: None,
        labels: Default::default(),
        zone: None,
        bind: std::net::Ipv4Addr::LOCALHOST.into(),
        version: String::new(),
    };
    let nobody = GrpcServers::new(Vec::new(), Rc::new(HostDial), Rc::new(leno_http::SpawnLocal));
    let (subscriptions, _, _) = client(ClientOptions::new(node), nobody, SystemRandom);
    let (lookup, tables) = tables();
    let clock = Arc::new(Hand::default());
    let options = Options {
        pinned: vec!["pinned.shop.mesh".into()],
        inbound: None,
        gateway: false,
        file: None,
        clock: clock.clone(),
    };
    let builder = Builder::new(EdgeKey::default(), 1, Arc::new(Registry::new(1, Default::default())));
    (Subscriber::new(options, subscriptions, tables, builder, Held::default()), lookup, clock)
}

fn random_names(count: usize) -> impl Iterator<Item = Name> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    (0..count).map(|_| format!("name-{}.shop.mesh", NEXT.fetch_add(1, Relaxed)).into())
}

#[test]
fn random_names_are_subscribed_to_at_fifty_a_second_and_a_thousand_in_all() {
    let (mut subscriber, _, clock) = subscriber();
    random_names(200).for_each(|name| subscriber.want(name));
    assert_eq!(subscriber.wanted.len(), 1 + NEW_PER_SECOND as usize);
    for _ in 0..40 {
        clock.0.fetch_add(1, Relaxed);
        subscriber.each_second();
        random_names(200).for_each(|name| subscriber.want(name));
    }
    assert_eq!(subscriber.wanted.len(), NAMES_MAX);
    assert_eq!(subscriber.subscribed.len(), NAMES_MAX);
}

#[test]
fn names_that_nobody_uses_are_unsubscribed_from_and_pinned_ones_stay() {
    let (mut subscriber, _, clock) = subscriber();
    random_names(10).for_each(|name| subscriber.want(name));
    clock.0.fetch_add(IDLE.as_secs(), Relaxed);
    subscriber.each_second();
    assert_eq!(subscriber.wanted.keys().map(|name| &**name).collect::<Vec<_>>(), ["pinned.shop.mesh"]);
    assert_eq!(subscriber.subscribed.len(), 1);
}

#[test]
fn that_a_name_does_not_exist_is_believed_for_its_time_only() {
    let (mut subscriber, lookup, clock) = subscriber();
    let name: Name = "gone.shop.mesh".into();
    let found = || format!("{:?}", lookup.get("gone.shop.mesh", || clock.monotonic()));
    subscriber.want(name.clone());
    assert_eq!(found(), "Unknown");
    subscriber.absent.insert(name.clone(), clock.monotonic() + ABSENT_TTL);
    subscriber.swap();
    assert_eq!(found(), "Absent");
    subscriber.want(name.clone());
    clock.0.fetch_add(ABSENT_TTL.as_secs(), Relaxed);
    assert_eq!(found(), "Unknown");
    subscriber.each_second();
    assert!(!subscriber.wanted.contains_key(&name) && subscriber.absent.is_empty());
}

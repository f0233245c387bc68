//! The client against the server, over sockets on the loopback.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod peers;
mod world;

use std::time::Duration;

use leno_model::name::ServiceName;
use leno_model::snapshot::{BalancePolicy, Cluster, Endpoint, Endpoints};
use leno_xds::client::{Event, Refusal, Update};
use leno_xds::kind::Kind;
use leno_xds::provide::Resource;
use leno_xds::translate::{Dialect, cluster, endpoints};
use peers::{Proxy, Servers, run};
use world::World;

const SOON: Duration = Duration::from_secs(5);

fn a_cluster(name: &str, port: u16) -> Cluster {
    Cluster {
        name: name.into(),
        service: ServiceName::new("shop", "cart").unwrap(),
        port,
        protocol: Default::default(),
        balance: BalancePolicy::PeakEwma,
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(3600),
        tls: None,
        proxy_protocol: None,
        resilience: Default::default(),
        balancing: Default::default(),
    }
}

fn put_cluster(world: &World, name: &str, port: u16) {
    world.put(cluster::encode(&a_cluster(name, port), Dialect::Leno), Kind::Cluster);
}

fn put_endpoints(world: &World, name: &str, port: u16) {
    let at = Endpoint::at("cart-1", ([127, 0, 0, 1], port).into());
    let endpoint = Endpoint { version: Some("v1".into()), ..at };
    let model = Endpoints { cluster: name.into(), endpoints: vec![endpoint] };
    world.put(endpoints::encode(&model, Dialect::Leno), Kind::Endpoints);
}

fn put_rubbish(world: &World, name: &str) {
    world.put(Resource::new(name.into(), vec![0xff; 8].into()), Kind::Cluster);
}

/// The ports of the clusters in an update, which is accepted.
fn accepted_ports(update: Update) -> Vec<u16> {
    let ports = update.clusters.iter().map(|cluster| cluster.resource.port).collect();
    update.accept();
    ports
}

#[test]
fn what_is_subscribed_arrives_and_follows_changes() {
    run(async {
        let servers = Servers::start(1).await;
        put_cluster(&servers.world, "c", 80);
        let mut proxy = Proxy::start("p", &servers);
        proxy.subscriptions.subscribe(Kind::Cluster, &"c".into());
        assert_eq!(accepted_ports(proxy.update().await), [80]);
        put_cluster(&servers.world, "c", 81);
        assert_eq!(accepted_ports(proxy.update().await), [81]);
        servers.world.remove(Kind::Cluster, "c");
        let update = proxy.update().await;
        assert_eq!(update.removed, [(Kind::Cluster, "c".into())]);
    });
}

#[test]
fn a_revision_is_in_effect_when_every_subscriber_accepted_it() {
    run(async {
        let servers = Servers::start(1).await;
        put_endpoints(&servers.world, "c", 1);
        let mut proxies = [Proxy::start("p", &servers), Proxy::start("q", &servers), Proxy::start("r", &servers)];
        for proxy in &mut proxies[..2] {
            proxy.subscriptions.subscribe(Kind::Endpoints, &"c".into());
            proxy.update().await.accept();
        }
        let [p, q, _] = &mut proxies;
        put_endpoints(&servers.world, "c", 2);
        let revision = servers.revision();
        p.update().await.accept();
        let update = q.update().await;
        let early = servers.status.wait(revision, Duration::from_millis(50)).await;
        assert_eq!((early.subscribed, early.in_effect, early.pending), (2, 1, vec!["q".into()]));
        update.accept();
        let late = servers.status.wait(revision, SOON).await;
        assert_eq!((late.subscribed, late.in_effect, late.pending.len()), (2, 2, 0));
    });
}

#[test]
fn what_does_not_decode_is_refused_and_what_came_with_it_is_used() {
    run(async {
        let servers = Servers::start(1).await;
        put_cluster(&servers.world, "good", 80);
        put_rubbish(&servers.world, "rubbish");
        let mut proxy = Proxy::start("p", &servers);
        for name in ["good", "rubbish"] {
            proxy.subscriptions.subscribe(Kind::Cluster, &name.into());
        }
        assert_eq!(accepted_ports(proxy.update().await), [80]);
        let rejection = servers.rejection(Kind::Cluster).await;
        assert_eq!(rejection.resources, ["rubbish".into()]);
        assert!(rejection.detail.starts_with("cluster rubbish: not a valid message"), "{}", rejection.detail);
        put_cluster(&servers.world, "rubbish", 81);
        assert_eq!(accepted_ports(proxy.update().await), [81]);
        servers.in_effect("p").await;
    });
}

#[test]
fn what_the_consumer_refuses_is_reported_in_its_words() {
    run(async {
        let servers = Servers::start(1).await;
        put_cluster(&servers.world, "c", 80);
        let mut proxy = Proxy::start("p", &servers);
        proxy.subscriptions.subscribe(Kind::Cluster, &"c".into());
        let detail = "no such thing".to_owned();
        proxy.update().await.refuse(vec![Refusal { kind: Kind::Cluster, name: "c".into(), detail }]);
        assert_eq!(&*servers.rejection(Kind::Cluster).await.detail, "cluster c: no such thing");
    });
}

#[test]
fn an_update_that_is_dropped_is_refused() {
    run(async {
        let servers = Servers::start(1).await;
        put_cluster(&servers.world, "c", 80);
        let mut proxy = Proxy::start("p", &servers);
        proxy.subscriptions.subscribe(Kind::Cluster, &"c".into());
        drop(proxy.update().await);
        assert_eq!(&*servers.rejection(Kind::Cluster).await.detail, "cluster c: the proxy dropped it");
    });
}

#[test]
fn a_client_that_moves_to_another_server_refetches_nothing() {
    run(async {
        let mut servers = Servers::start(2).await;
        put_cluster(&servers.world, "same", 80);
        put_cluster(&servers.world, "other", 80);
        let mut proxy = Proxy::start("p", &servers);
        for name in ["same", "other"] {
            proxy.subscriptions.subscribe(Kind::Cluster, &name.into());
        }
        assert_eq!(accepted_ports(proxy.update().await).len(), 2);
        servers.in_effect("p").await;
        let first = proxy.connected_to.clone();
        servers.kill(&first);
        put_cluster(&servers.world, "other", 81);
        assert_eq!(accepted_ports(proxy.update().await), [81]);
        assert_ne!(proxy.connected_to, first);
    });
}

#[test]
fn a_client_that_starts_anew_with_what_it_held_is_sent_only_what_differs() {
    run(async {
        let servers = Servers::start(1).await;
        put_cluster(&servers.world, "same", 80);
        put_cluster(&servers.world, "other", 81);
        let version = servers.world.get(Kind::Cluster, "same").unwrap().version;
        let held = vec![(Kind::Cluster, "same".into(), version), (Kind::Cluster, "other".into(), "old".into())];
        let mut proxy = Proxy::start_with("p", &servers, held);
        for name in ["same", "other"] {
            proxy.subscriptions.subscribe(Kind::Cluster, &name.into());
        }
        assert_eq!(accepted_ports(proxy.update().await), [81]);
    });
}

#[test]
fn a_server_that_stops_ends_its_streams() {
    run(async {
        let servers = Servers::start(1).await;
        let mut proxy = Proxy::start("p", &servers);
        proxy.subscriptions.subscribe(Kind::Cluster, &"c".into());
        proxy.update().await.accept();
        servers.servers[0].stop();
        let reason = loop {
            match proxy.events.recv().await.unwrap() {
                Event::Disconnected { reason, .. } => break reason,
                Event::Connected { .. } | Event::Update(_) => {}
            }
        };
        assert!(reason.contains("the server is stopping"), "{reason}");
    });
}

#[test]
fn a_thousand_proxies_have_a_change_in_effect_soon() {
    run(async {
        let servers = Servers::start(1).await;
        put_endpoints(&servers.world, "c", 1);
        let _ = leno_net::limits::raise_descriptors();
        let proxies: Vec<Proxy> = (0..1000).map(|i| Proxy::start(&format!("p{i}"), &servers)).collect();
        for mut proxy in proxies {
            proxy.subscriptions.subscribe(Kind::Endpoints, &"c".into());
            tokio::task::spawn_local(async move {
                loop {
                    proxy.update().await.accept();
                }
            });
        }
        while servers.status.list().iter().filter(|row| row.kinds[Kind::Endpoints.index()].in_effect).count() < 1000 {
            servers.status.changes().changed().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let since = tokio::time::Instant::now();
        put_endpoints(&servers.world, "c", 2);
        let progress = servers.status.wait(servers.revision(), Duration::from_secs(60)).await;
        assert_eq!((progress.subscribed, progress.in_effect), (1000, 1000));
        println!("in effect on 1,000 of 1,000 after {} ms", since.elapsed().as_millis());
    });
}

#[test]
fn what_is_dropped_and_wanted_again_at_once_arrives_again() {
    run(async {
        let servers = Servers::start(1).await;
        put_cluster(&servers.world, "c", 80);
        let mut proxy = Proxy::start("p", &servers);
        proxy.subscriptions.subscribe(Kind::Cluster, &"c".into());
        assert_eq!(accepted_ports(proxy.update().await), [80]);
        proxy.subscriptions.unsubscribe(Kind::Cluster, &"c".into());
        proxy.subscriptions.subscribe(Kind::Cluster, &"c".into());
        assert_eq!(accepted_ports(proxy.update().await), [80]);
    });
}

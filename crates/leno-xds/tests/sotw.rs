//! State-of-the-world ADS, message by message.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod world;

use std::time::Duration;

use leno_xds::kind::Kind;
use leno_xds::messages::discovery::{DiscoveryRequest, DiscoveryResponse};
use leno_xds::messages::wkt::Status;
use leno_xds::node::ProxyKind;
use leno_xds::sotw::SotwSession;
use leno_xds::{Bounds, Now};
use world::{World, node};

fn at(ms: u64) -> Now {
    Now { monotonic: Duration::from_millis(ms), ..Now::default() }
}

fn ask(kind: Kind, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names: names.iter().map(|name| name.to_string()).collect(),
        ..Default::default()
    }
}

fn ack(response: &DiscoveryResponse, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: response.type_url.clone(),
        version_info: response.version_info.clone(),
        response_nonce: response.nonce.clone(),
        resource_names: names.iter().map(|name| name.to_string()).collect(),
        ..Default::default()
    }
}

fn session(proxy: ProxyKind) -> SotwSession {
    SotwSession::new(node(proxy), Bounds::default())
}

fn bodies(responses: &[DiscoveryResponse]) -> Vec<String> {
    let text = |any: &leno_xds::messages::wkt::Any| String::from_utf8(any.value.to_vec()).unwrap();
    responses.iter().flat_map(|response| response.resources.iter().map(text)).collect()
}

#[test]
fn all_clusters_are_listed_whenever_one_changes() {
    let world = World::new();
    world.set(Kind::Cluster, "a", "a1");
    world.set(Kind::Cluster, "b", "b1");
    let mut session = session(ProxyKind::Envoy);
    let first = session.step(at(0), Some(ask(Kind::Cluster, &[])), &world);
    assert_eq!(bodies(&first), ["a1", "b1"]);
    session.step(at(1), Some(ack(&first[0], &[])), &world);
    world.set(Kind::Cluster, "b", "b2");
    let second = session.step(at(2), None, &world);
    assert_eq!(bodies(&second), ["a1", "b2"]);
    assert_ne!(first[0].version_info, second[0].version_info);
}

#[test]
fn only_the_endpoints_that_changed_are_sent() {
    let world = World::new();
    world.set(Kind::Endpoints, "a", "a1");
    world.set(Kind::Endpoints, "b", "b1");
    let mut session = session(ProxyKind::Grpc);
    let first = session.step(at(0), Some(ask(Kind::Endpoints, &["a", "b"])), &world);
    session.step(at(1), Some(ack(&first[0], &["a", "b"])), &world);
    world.set(Kind::Endpoints, "b", "b2");
    assert_eq!(bodies(&session.step(at(2), None, &world)), ["b2"]);
}

#[test]
fn an_unknown_listener_is_answered_by_a_list_without_it() {
    let world = World::new();
    let mut session = session(ProxyKind::Grpc);
    let sent = session.step(at(0), Some(ask(Kind::Listener, &["nobody"])), &world);
    assert_eq!((sent.len(), sent[0].resources.len()), (1, 0));
    assert!(session.step(at(1), Some(ack(&sent[0], &["nobody"])), &world).is_empty());
}

#[test]
fn a_name_may_be_added_by_repeating_the_last_nonce() {
    let world = World::new();
    world.set(Kind::Listener, "a", "a1");
    world.set(Kind::Listener, "b", "b1");
    let mut session = session(ProxyKind::Grpc);
    let first = session.step(at(0), Some(ask(Kind::Listener, &["a"])), &world);
    assert!(session.step(at(1), Some(ack(&first[0], &["a"])), &world).is_empty());
    let second = session.step(at(2), Some(ack(&first[0], &["a", "b"])), &world);
    assert_eq!(bodies(&second), ["a1", "b1"]);
}

#[test]
fn the_names_of_a_request_with_an_old_nonce_are_not_taken() {
    let world = World::new();
    world.set(Kind::Route, "a", "a1");
    world.set(Kind::Route, "b", "b1");
    let mut session = session(ProxyKind::Grpc);
    let first = session.step(at(0), Some(ask(Kind::Route, &["a"])), &world);
    let second = session.step(at(1), Some(ask(Kind::Route, &["a", "b"])), &world);
    assert_eq!(bodies(&second), ["b1"]);
    assert!(session.step(at(2), Some(ack(&first[0], &["a"])), &world).is_empty());
    session.step(at(3), Some(ack(&second[0], &["a", "b"])), &world);
    world.set(Kind::Route, "b", "b2");
    assert_eq!(bodies(&session.step(at(20), None, &world)), ["b2"]);
}

#[test]
fn a_client_that_comes_back_with_the_version_of_the_set_is_sent_nothing() {
    let world = World::new();
    world.set(Kind::Cluster, "a", "a1");
    world.set(Kind::Endpoints, "a", "e1");
    for (kind, names) in [(Kind::Cluster, &[][..]), (Kind::Endpoints, &["a"][..])] {
        let sent = session(ProxyKind::Envoy).step(at(0), Some(ask(kind, names)), &world);
        let mut again = session(ProxyKind::Envoy);
        let request = DiscoveryRequest { version_info: sent[0].version_info.clone(), ..ask(kind, names) };
        assert!(again.step(at(0), Some(request.clone()), &world).is_empty());
        let request = DiscoveryRequest { version_info: "other".into(), ..request };
        assert_eq!(session(ProxyKind::Envoy).step(at(0), Some(request), &world).len(), 1);
    }
}

#[test]
fn a_refused_version_is_not_sent_again_until_the_content_changes() {
    let world = World::new();
    world.set(Kind::Listener, "l", "bad");
    let mut session = session(ProxyKind::Envoy);
    let first = session.step(at(0), Some(ask(Kind::Listener, &[])), &world);
    let status = Status { code: 3, message: "no good".into(), details: Vec::new() };
    let refusal = DiscoveryRequest { error_detail: Some(status), version_info: String::new(), ..ack(&first[0], &[]) };
    assert!(session.step(at(1), Some(refusal), &world).is_empty());
    assert!(session.step(at(100), None, &world).is_empty());
    world.set(Kind::Listener, "l", "good");
    assert_eq!(bodies(&session.step(at(200), None, &world)), ["good"]);
}

#[test]
fn no_names_after_some_mean_none() {
    let world = World::new();
    world.set(Kind::Listener, "l", "1");
    let mut session = session(ProxyKind::Grpc);
    let first = session.step(at(0), Some(ask(Kind::Listener, &["l"])), &world);
    assert!(session.step(at(1), Some(ack(&first[0], &[])), &world).is_empty());
    world.set(Kind::Listener, "l", "2");
    assert!(session.step(at(20), None, &world).is_empty());
}

#[test]
fn a_cluster_that_goes_stays_listed_until_the_routes_have_left_it() {
    let world = World::new();
    let mut session = session(ProxyKind::Envoy);
    for (kind, name) in [(Kind::Cluster, ""), (Kind::Endpoints, "old"), (Kind::Route, "r")] {
        world.set(kind, if name.is_empty() { "old" } else { name }, "old");
        let names = if name.is_empty() { &[][..] } else { &[name][..] };
        let sent = session.step(at(0), Some(ask(kind, names)), &world);
        session.step(at(0), Some(ack(&sent[0], names)), &world);
    }

    world.remove(Kind::Cluster, "old");
    world.set(Kind::Cluster, "new", "new");
    world.set(Kind::Endpoints, "new", "e");
    world.set(Kind::Route, "r", "new");
    let sent = session.step(at(20), None, &world);
    assert_eq!(bodies(&sent), ["new", "old"]);
    session.step(at(21), Some(ack(&sent[0], &[])), &world);
    let endpoints = session.step(at(22), Some(ask(Kind::Endpoints, &["new", "old"])), &world);
    let routes = session.step(at(40), Some(ack(&endpoints[0], &["new", "old"])), &world);
    assert_eq!(bodies(&routes), ["new"]);
    assert_eq!(bodies(&session.step(at(60), Some(ack(&routes[0], &["r"])), &world)), ["new"]);
}

#[test]
fn endpoints_follow_a_changed_cluster_for_clients_that_wait_for_them() {
    let world = World::new();
    world.set(Kind::Cluster, "c", "1");
    world.set(Kind::Endpoints, "c", "e");
    let mut session = session(ProxyKind::Envoy);
    let clusters = session.step(at(0), Some(ask(Kind::Cluster, &[])), &world);
    session.step(at(0), Some(ack(&clusters[0], &[])), &world);
    let endpoints = session.step(at(0), Some(ask(Kind::Endpoints, &["c"])), &world);
    session.step(at(0), Some(ack(&endpoints[0], &["c"])), &world);
    world.set(Kind::Cluster, "c", "2");
    assert_eq!(bodies(&session.step(at(20), None, &world)), ["2", "e"]);
}

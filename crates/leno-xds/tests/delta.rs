//! Delta ADS, message by message.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod world;

use std::time::Duration;

use leno_xds::delta::DeltaSession;
use leno_xds::kind::Kind;
use leno_xds::messages::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use leno_xds::messages::wkt::Status;
use leno_xds::node::ProxyKind;
use leno_xds::{Bounds, Now};
use world::{World, node};

fn at(ms: u64) -> Now {
    Now { monotonic: Duration::from_millis(ms), ..Now::default() }
}

fn ask(kind: Kind, names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: names.iter().map(|name| name.to_string()).collect(),
        ..Default::default()
    }
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..Default::default()
    }
}

fn nack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    let status = Status { code: 3, message: "no good".into(), details: Vec::new() };
    DeltaDiscoveryRequest { error_detail: Some(status), ..ack(response) }
}

fn session(proxy: ProxyKind) -> DeltaSession {
    DeltaSession::new(node(proxy), Bounds::default())
}

/// `+name` for what was sent and `-name` for what was removed.
fn said(responses: &[DeltaDiscoveryResponse]) -> Vec<String> {
    let mut words = Vec::new();
    for response in responses {
        words.extend(response.resources.iter().map(|resource| format!("+{}", resource.name)));
        words.extend(response.removed_resources.iter().map(|name| format!("-{name}")));
    }
    words
}

#[test]
fn names_are_answered_at_once_and_unknown_ones_as_removed() {
    let world = World::new();
    world.set(Kind::Listener, "cart", "1");
    let mut session = session(ProxyKind::Leno);
    let sent = session.step(at(0), Some(ask(Kind::Listener, &["cart", "nobody"])), &world);
    assert_eq!(said(&sent), ["+cart", "-nobody"]);
    assert_eq!(sent[0].resources[0].version, &*world.get(Kind::Listener, "cart").unwrap().version);
}

#[test]
fn a_name_that_did_not_exist_is_sent_when_it_appears() {
    let world = World::new();
    let mut session = session(ProxyKind::Leno);
    let first = session.step(at(0), Some(ask(Kind::Route, &["r"])), &world);
    session.step(at(1), Some(ack(&first[0])), &world);
    world.set(Kind::Route, "r", "1");
    assert_eq!(said(&session.step(at(2), None, &world)), ["+r"]);
}

#[test]
fn only_what_is_subscribed_is_pushed() {
    let world = World::new();
    world.set(Kind::Listener, "cart", "1");
    let mut session = session(ProxyKind::Leno);
    let first = session.step(at(0), Some(ask(Kind::Listener, &["cart"])), &world);
    session.step(at(1), Some(ack(&first[0])), &world);
    world.set(Kind::Listener, "other", "1");
    assert!(session.step(at(2), None, &world).is_empty());
    world.set(Kind::Listener, "cart", "2");
    assert_eq!(said(&session.step(at(3), None, &world)), ["+cart"]);
}

#[test]
fn the_first_change_goes_at_once_and_later_ones_together() {
    let world = World::new();
    let mut session = session(ProxyKind::Leno);
    let mut sent = session.step(at(100), Some(ask(Kind::Endpoints, &["a", "b"])), &world);
    for (ms, name) in [(100, "a"), (101, "b"), (102, "a")] {
        sent.iter().for_each(|message| assert!(session.step(at(ms), Some(ack(message)), &world).is_empty()));
        world.set(Kind::Endpoints, name, &ms.to_string());
        sent = session.step(at(ms), None, &world);
        assert_eq!(sent.is_empty(), ms > 100);
    }
    assert_eq!(session.wake_at(), Some(Duration::from_millis(110)));
    assert_eq!(said(&session.step(at(110), None, &world)), ["+a", "+b"]);
}

#[test]
fn a_slow_client_skips_states() {
    let world = World::new();
    world.set(Kind::Endpoints, "a", "0");
    let mut session = session(ProxyKind::Leno);
    let first = session.step(at(0), Some(ask(Kind::Endpoints, &["a"])), &world);
    for ms in 1..100 {
        world.set(Kind::Endpoints, "a", &ms.to_string());
        assert!(session.step(at(ms), None, &world).is_empty(), "the first message has no answer yet");
    }
    let sent = session.step(at(200), Some(ack(&first[0])), &world);
    assert_eq!((said(&sent), sent[0].resources[0].resource.clone().unwrap().value), (vec!["+a".into()], "99".into()));
}

#[test]
fn a_refused_version_is_not_sent_again_until_the_content_changes() {
    let world = World::new();
    world.set(Kind::Route, "r", "bad");
    let mut session = session(ProxyKind::Leno);
    let first = session.step(at(0), Some(ask(Kind::Route, &["r"])), &world);
    assert!(session.step(at(1), Some(nack(&first[0])), &world).is_empty());
    world.set(Kind::Route, "r", "bad");
    assert!(session.step(at(20), None, &world).is_empty());
    world.set(Kind::Route, "r", "good");
    assert_eq!(said(&session.step(at(40), None, &world)), ["+r"]);
}

#[test]
fn a_client_that_comes_back_is_sent_only_what_it_lacks() {
    let world = World::new();
    ["same", "changed", "new"].iter().for_each(|name| world.set(Kind::Listener, name, "2"));
    let versions = [("same", world.get(Kind::Listener, "same").unwrap().version), ("changed", "old".into())];
    let mut request = ask(Kind::Listener, &["same", "changed", "new", "gone"]);
    request.initial_resource_versions =
        versions.iter().map(|(name, version)| (name.to_string(), version.to_string())).collect();
    request.initial_resource_versions.insert("gone".into(), "1".into());
    let sent = session(ProxyKind::Leno).step(at(0), Some(request), &world);
    assert_eq!(said(&sent), ["+changed", "+new", "-gone"]);
}

#[test]
fn a_name_that_is_asked_for_again_is_sent_again() {
    let world = World::new();
    world.set(Kind::Endpoints, "a", "1");
    let mut session = session(ProxyKind::Envoy);
    let first = session.step(at(0), Some(ask(Kind::Endpoints, &["a"])), &world);
    session.step(at(1), Some(ack(&first[0])), &world);
    assert_eq!(said(&session.step(at(2), Some(ask(Kind::Endpoints, &["a"])), &world)), ["+a"]);
}

#[test]
fn what_is_unsubscribed_is_pushed_no_more() {
    let world = World::new();
    world.set(Kind::Listener, "cart", "1");
    let mut session = session(ProxyKind::Leno);
    let first = session.step(at(0), Some(ask(Kind::Listener, &["cart"])), &world);
    let mut request = ack(&first[0]);
    request.resource_names_unsubscribe = vec!["cart".into()];
    assert!(session.step(at(1), Some(request), &world).is_empty());
    world.set(Kind::Listener, "cart", "2");
    assert!(session.step(at(50), None, &world).is_empty());
}

#[test]
fn a_first_request_without_names_asks_for_all_and_is_answered_even_if_there_is_nothing() {
    let world = World::new();
    let mut session = session(ProxyKind::Envoy);
    let first = session.step(at(0), Some(ask(Kind::Cluster, &[])), &world);
    assert_eq!((first.len(), said(&first).len()), (1, 0));
    session.step(at(1), Some(ack(&first[0])), &world);
    world.set(Kind::Cluster, "c", "1");
    let second = session.step(at(2), None, &world);
    assert_eq!(said(&second), ["+c"]);
    session.step(at(3), Some(ack(&second[0])), &world);
    world.remove(Kind::Cluster, "c");
    assert_eq!(said(&session.step(at(2000), None, &world)), ["-c"]);
}

#[test]
fn the_star_can_be_taken_back() {
    let world = World::new();
    world.set(Kind::Cluster, "c", "1");
    let mut session = session(ProxyKind::Envoy);
    let first = session.step(at(0), Some(ask(Kind::Cluster, &["*"])), &world);
    let mut request = ack(&first[0]);
    request.resource_names_unsubscribe = vec!["*".into()];
    session.step(at(1), Some(request), &world);
    world.set(Kind::Cluster, "c", "2");
    assert!(session.step(at(50), None, &world).is_empty());
}

#[test]
fn an_envoy_gets_routes_to_a_new_cluster_after_it_accepted_its_endpoints() {
    let world = World::new();
    world.set(Kind::Route, "r", "1");
    let mut session = session(ProxyKind::Envoy);
    let clusters = session.step(at(0), Some(ask(Kind::Cluster, &[])), &world);
    session.step(at(0), Some(ack(&clusters[0])), &world);
    let routes = session.step(at(0), Some(ask(Kind::Route, &["r"])), &world);
    session.step(at(0), Some(ack(&routes[0])), &world);

    world.set(Kind::Endpoints, "c", "1");
    world.set(Kind::Cluster, "c", "1");
    world.set(Kind::Route, "r", "c");
    let sent = session.step(at(20), None, &world);
    assert_eq!(said(&sent), ["+c"]);
    assert!(session.step(at(30), Some(ack(&sent[0])), &world).is_empty(), "the endpoints are not asked for yet");
    let sent = session.step(at(31), Some(ask(Kind::Endpoints, &["c"])), &world);
    assert_eq!(said(&sent), ["+c"]);
    assert_eq!(said(&session.step(at(32), Some(ack(&sent[0])), &world)), ["+r"]);
}

#[test]
fn a_cluster_goes_after_the_routes_that_led_to_it() {
    let world = World::new();
    world.set(Kind::Cluster, "c", "1");
    world.set(Kind::Route, "r", "c");
    let mut session = session(ProxyKind::Leno);
    for (kind, name) in [(Kind::Cluster, "c"), (Kind::Route, "r")] {
        let first = session.step(at(0), Some(ask(kind, &[name])), &world);
        session.step(at(0), Some(ack(&first[0])), &world);
    }
    world.remove(Kind::Cluster, "c");
    world.set(Kind::Route, "r", "elsewhere");
    let sent = session.step(at(20), None, &world);
    assert_eq!(said(&sent), ["+r"]);
    assert_eq!(said(&session.step(at(40), Some(ack(&sent[0])), &world)), ["-c"]);
}

#[test]
fn a_client_that_answers_nothing_is_not_waited_for_longer_than_the_bound() {
    let world = World::new();
    world.set(Kind::Cluster, "c", "1");
    world.set(Kind::Route, "r", "1");
    let mut session = session(ProxyKind::Leno);
    let first = session.step(at(0), Some(ask(Kind::Route, &["r"])), &world);
    session.step(at(0), Some(ack(&first[0])), &world);
    session.step(at(0), Some(ask(Kind::Cluster, &["c"])), &world);
    world.set(Kind::Route, "r", "2");
    assert!(session.step(at(20), None, &world).is_empty());
    assert_eq!(session.wake_at(), Some(Duration::from_millis(2020)));
    assert_eq!(said(&session.step(at(2020), None, &world)), ["+r"]);
}

#[test]
fn a_server_that_has_just_started_takes_away_what_it_does_not_know_only_when_it_is_warm() {
    let world = World::new();
    world.warming.set(true);
    let mut request = ask(Kind::Endpoints, &["c", "never"]);
    request.initial_resource_versions.insert("c".into(), "1".into());
    let mut session = session(ProxyKind::Leno);
    let sent = session.step(at(0), Some(request), &world);
    assert_eq!(said(&sent), ["-never"]);
    session.step(at(0), Some(ask(Kind::Route, &[])), &world);
    assert!(session.step(at(500), Some(ack(&sent[0])), &world).is_empty());
    assert_eq!(session.wake_at(), Some(Duration::from_millis(1500)));
    world.forgets.set(true);
    world.set(Kind::Endpoints, "other", "1");
    assert!(session.step(at(1500), None, &world).is_empty(), "not even when all may have changed");
    world.warming.set(false);
    let wake = session.wake_at().expect("it looks again");
    assert_eq!(said(&session.step(at(wake.as_millis() as u64), None, &world)), ["-c"]);
}

#[test]
fn what_a_revision_takes_away_is_gone_even_if_the_server_has_just_started() {
    let world = World::new();
    world.warming.set(true);
    world.set(Kind::Listener, "http", "1");
    world.set(Kind::Listener, "https", "1");
    let mut session = session(ProxyKind::Leno);
    let sent = session.step(at(0), Some(ask(Kind::Listener, &["*"])), &world);
    assert_eq!(said(&sent), ["+http", "+https"]);
    session.step(at(0), Some(ack(&sent[0])), &world);
    world.remove(Kind::Listener, "https");
    assert_eq!(said(&session.step(at(20), None, &world)), ["-https"]);
}

#[test]
fn too_many_names_are_answered_as_absent_and_not_remembered() {
    let world = World::new();
    let names: Vec<String> = (0..1030).map(|i| format!("n{i}")).collect();
    names.iter().for_each(|name| world.set(Kind::Listener, name, "1"));
    let mut session = session(ProxyKind::Leno);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sent = session.step(at(0), Some(ask(Kind::Listener, &names)), &world);
    let said = said(&sent);
    assert_eq!(said.iter().filter(|word| word.starts_with('+')).count(), 1024);
    assert_eq!(said.iter().filter(|word| word.starts_with('-')).count(), 6);
}

#[test]
fn new_destinations_are_let_in_at_a_pace() {
    let world = World::new();
    let mut session = session(ProxyKind::Leno);
    session.step(at(0), Some(ask(Kind::Listener, &["first"])), &world);
    let names: Vec<String> = (0..100).map(|i| format!("n{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let at_once = said(&session.step(at(0), Some(ask(Kind::Listener, &names)), &world)).len();
    assert_eq!(at_once, 50);
    assert_eq!(session.wake_at(), Some(Duration::from_millis(20)));
    assert_eq!(said(&session.step(at(500), None, &world)).len(), 25);
    assert_eq!(said(&session.step(at(1000), None, &world)).len(), 25);
    assert_eq!(session.wake_at(), None);
}

#[test]
fn large_answers_are_cut_into_messages_that_clients_take() {
    let world = World::new();
    let body = "x".repeat(1 << 20);
    let names: Vec<String> = (0..5).map(|i| format!("c{i}")).collect();
    names.iter().for_each(|name| world.set(Kind::Endpoints, name, &body));
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let sent = session(ProxyKind::Leno).step(at(0), Some(ask(Kind::Endpoints, &names)), &world);
    assert_eq!(said(&sent).len(), 5);
    assert!(sent.iter().all(|message| prost::Message::encoded_len(message) < 3 << 20));
}

#[test]
fn other_kinds_are_not_answered() {
    let request = DeltaDiscoveryRequest { type_url: "type.googleapis.com/x.Secret".into(), ..Default::default() };
    assert!(session(ProxyKind::Envoy).step(at(0), Some(request), &World::new()).is_empty());
}

#[test]
fn endpoints_follow_a_cluster_that_changed_while_the_client_was_away_though_it_has_them() {
    let world = World::new();
    world.set(Kind::Cluster, "c", "2");
    world.set(Kind::Endpoints, "c", "1");
    let mut session = session(ProxyKind::Envoy);
    let mut clusters = ask(Kind::Cluster, &[]);
    clusters.initial_resource_versions.insert("c".into(), "old".into());
    assert_eq!(said(&session.step(at(0), Some(clusters), &world)), ["+c"]);
    let mut endpoints = ask(Kind::Endpoints, &["c"]);
    let version = world.get(Kind::Endpoints, "c").unwrap().version.to_string();
    endpoints.initial_resource_versions.insert("c".into(), version);
    assert_eq!(said(&session.step(at(1), Some(endpoints), &world)), ["+c"]);
}

#[test]
fn a_message_without_an_answer_holds_changes_back_for_a_while_only() {
    let world = World::new();
    world.set(Kind::Cluster, "c", "1");
    let mut session = session(ProxyKind::Envoy);
    session.step(at(0), Some(ask(Kind::Cluster, &[])), &world);
    world.set(Kind::Cluster, "c", "2");
    assert!(session.step(at(100), None, &world).is_empty());
    assert_eq!(session.wake_at(), Some(Duration::from_millis(2000)));
    assert_eq!(said(&session.step(at(2000), None, &world)), ["+c"]);
}

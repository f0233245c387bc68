//! Switches: what becomes of the rules of routes while one is on, for callers inside and at gateways, by hand and by time.

#![allow(clippy::unwrap_used, reason = "a test may; clippy's own exemption covers only functions marked #[test]")]

mod mesh;

use std::sync::Arc;

use leno_control::merge::Entry;
use leno_control::{Apply, Error};
use leno_model::fault::FaultClass;
use leno_model::resource::kind::{Kind, ResourceKey};
use leno_model::seam::{Clock, Timestamp};
use leno_model::snapshot::{Action, Rule};

use leno_xds::provide::Provide;

use mesh::{Mesh, apply, gateway, node};

const SHOP: &str = "apiVersion: leno.mesh/v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {ports: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {listeners: [{name: web, port: 8000, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: inside, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: cart}]
  rules:
  - {name: list, matches: [{path: {value: /list}}], backendRefs: [{name: cart}]}
  - {name: pay, matches: [{path: {value: /pay}}], backendRefs: [{name: cart}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: outside, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules: [{backendRefs: [{name: cart, port: 80}]}]
";

fn switch(name: &str, targets: &str) -> String {
    format!(
        "apiVersion: leno.mesh/v1\nkind: Switch\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  targetRefs: [{targets}]\n  reply: {{status: 200, contentType: application/json, body: '[]'}}\n"
    )
}

fn state(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: leno.mesh/v1\nkind: SwitchState\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n"
    )
}

impl Mesh {
    async fn turn(&self, name: &str, spec: &str) {
        self.control.apply(apply("switches", &state(name, spec))).await.unwrap();
    }

    /// The path and the origin of the rules that a switch answers, for callers inside and at the gateway.
    fn degraded(&self) -> Vec<String> {
        let inside = self.routes(&node("shop"), "cart.shop.mesh:80").unwrap();
        let edge = gateway("shop", "edge");
        let outside = self.routes(&edge, "gateway/shop/edge:8000").unwrap();
        let rules = inside.hosts.into_iter().chain(outside.hosts).flat_map(|host| host.rules);
        let is_degraded = |rule: &Rule| match &rule.action {
            Action::Reply(reply) => {
                assert_eq!((reply.status, &*reply.content_type, &*reply.body), (200, "application/json", "[]"));
                true
            }
            _ => false,
        };
        rules.filter(is_degraded).map(|rule| format!("{:?} {}", rule.when.path, rule.origin.resource)).collect()
    }
}

#[tokio::test]
async fn a_switch_degrades_what_it_names_until_it_is_off() {
    let mesh = Mesh::new().await;
    mesh.apply(SHOP).await.unwrap();
    mesh.apply(&switch("rule", "{name: inside, sectionName: list}")).await.unwrap();
    mesh.apply(&switch("route", "{name: outside}")).await.unwrap();
    mesh.apply(&switch("service", "{kind: Service, name: cart}")).await.unwrap();
    assert_eq!(mesh.degraded(), [""; 0]);
    for (name, expected) in [
        ("rule", &["Prefix(\"/list\") switch/shop/rule"][..]),
        ("route", &["Prefix(\"/\") switch/shop/route"]),
        (
            "service",
            &[
                "Prefix(\"/list\") switch/shop/service",
                "Prefix(\"/pay\") switch/shop/service",
                "Prefix(\"/\") switch/shop/service",
            ],
        ),
    ] {
        mesh.turn(name, "on: true").await;
        assert_eq!(mesh.degraded(), expected);
        mesh.turn(name, "on: false").await;
        assert_eq!(mesh.degraded(), [""; 0]);
    }
}

#[tokio::test]
async fn a_service_is_told_of_the_policies_switches_and_lanes_that_concern_it() {
    let mesh = Mesh::new().await;
    mesh.apply(SHOP).await.unwrap();
    for (name, targets) in [
        ("rule", "{name: inside, sectionName: list}"),
        ("edge", "{name: outside}"),
        ("service", "{kind: Service, name: cart}"),
    ] {
        mesh.apply(&switch(name, targets)).await.unwrap();
    }
    for (kind, spec) in [
        ("TrafficPolicy", "{targetRefs: [{name: cart}], limits: {requests: 5}}"),
        ("Lane", "{tag: {header: x-lane, value: a}, versions: [{name: cart, version: v2}]}"),
    ] {
        let resource =
            format!("apiVersion: leno.mesh/v1\nkind: {kind}\nmetadata: {{name: a, namespace: shop}}\nspec: {spec}\n");
        mesh.apply(&resource).await.unwrap();
    }
    mesh.turn("service", "on: true").await;
    let concerning = mesh.control.concerning(&"cart.shop".parse().unwrap());
    let told = |entry: &Arc<Entry>| entry.resource.key.to_string();
    assert_eq!(concerning.policies.iter().map(told).collect::<Vec<_>>(), ["trafficpolicy/shop/a"]);
    assert_eq!(concerning.lanes.iter().map(told).collect::<Vec<_>>(), ["lane/shop/a"]);
    let switches = concerning.switches.iter();
    let switches: Vec<_> = switches.map(|of| (told(&of.switch), of.is_on, of.state.is_some())).collect();
    let [on, off] = [("switch/shop/service".into(), true, true), ("switch/shop/rule".into(), false, false)];
    assert_eq!(switches, [off, on], "a route at a gateway is the gateway's");
    let other = mesh.control.concerning(&"pay.shop".parse().unwrap());
    assert_eq!((other.policies.len(), other.switches.len(), other.lanes.len()), (0, 0, 0));
}

#[tokio::test]
async fn a_switch_for_a_rule_that_is_gone_says_so() {
    let mesh = Mesh::new().await;
    mesh.apply(SHOP).await.unwrap();
    mesh.apply(&switch("rule", "{name: inside, sectionName: list}")).await.unwrap();
    let status = || mesh.control.status_of(&ResourceKey::new(Kind::Switch, "shop", "rule")).unwrap();
    assert!(status().is_good());
    mesh.apply(&SHOP.replace("{name: list,", "{name: all,")).await.unwrap();
    let status = status();
    assert_eq!(status.parents[0].parent, "httproute shop/inside (list)");
    assert_eq!(status.parents[0].conditions[0].reason, "UnknownSection");
}

#[tokio::test]
async fn a_set_may_take_a_switch_away_and_protect_its_target_in_one_go() {
    let mesh = Mesh::new().await;
    let set = |text: &str| Apply { prune: true, ..apply("shop", text) };
    mesh.control.apply(set(&format!("{SHOP}---\n{}", switch("route", "{name: outside}")))).await.unwrap();
    let protected = SHOP.replace("name: outside,", "name: outside, labels: {leno.mesh/protected: 'true'},");
    mesh.control.apply(set(&protected)).await.unwrap();
}

#[tokio::test]
async fn requests_without_a_route_are_degraded_with_their_service() {
    let mesh = Mesh::new().await;
    let declared = SHOP.split("---").next().unwrap();
    mesh.apply(declared).await.unwrap();
    mesh.apply(&switch("service", "{kind: Service, name: cart}")).await.unwrap();
    mesh.turn("service", "on: true").await;
    let routes = mesh.routes(&node("shop"), "cart.shop.mesh:80").unwrap();
    assert!(matches!(routes.hosts[0].rules[..], [Rule { action: Action::Reply(_), .. }]));
}

#[tokio::test]
async fn what_is_protected_is_not_degraded_and_keeps_its_label_from_switches() {
    let mesh = Mesh::new().await;
    mesh.apply(SHOP).await.unwrap();
    mesh.apply(&switch("service", "{kind: Service, name: cart}")).await.unwrap();
    mesh.turn("service", "on: true").await;
    let label = |text: &str| text.replace("name: inside,", "name: inside, labels: {leno.mesh/protected: 'true'},");
    mesh.apply(&label(SHOP)).await.unwrap();
    assert_eq!(mesh.degraded(), ["Prefix(\"/\") switch/shop/service"], "a protected route of a service that is off");
    let refused = mesh.apply(&switch("route", "{name: inside}")).await;
    assert!(matches!(refused, Err(Error::Faults(faults)) if faults[0].class == FaultClass::Protected));
    mesh.apply(&switch("other", "{name: outside}")).await.unwrap();
    let refused =
        mesh.apply(&SHOP.replace("name: outside,", "name: outside, labels: {leno.mesh/protected: 'true'},")).await;
    let Err(Error::Faults(faults)) = refused else { panic!("not refused") };
    assert!(faults[0].fix.contains("switch/shop/other"), "{}", faults[0]);
}

#[tokio::test]
async fn a_switch_turns_on_and_off_at_its_time() {
    let mut mesh = Mesh::new().await;
    mesh.apply(SHOP).await.unwrap();
    mesh.apply(&switch("route", "{name: outside}")).await.unwrap();
    let now = mesh.clock.wall().0;
    let at = |seconds: u64| Timestamp(now + seconds * 1000).rfc3339();
    mesh.turn("route", &format!("on: true, from: '{}', until: '{}'", at(10_000), at(20_000))).await;
    let driver = mesh.driver.take().unwrap();
    let test = async {
        for expected in [&[][..], &["Prefix(\"/\") switch/shop/route"], &[]] {
            let mut changes = mesh.control.changes();
            while mesh.degraded() != expected {
                changes.changed().await.unwrap();
            }
            let switch = ResourceKey::new(Kind::Switch, "shop", "route");
            let status = mesh.control.status_of(&switch).unwrap();
            let on = status.conditions.iter().find(|condition| condition.r#type == "On").unwrap();
            assert_eq!((on.status, on.reason, status.is_good()), (!expected.is_empty(), "Scheduled", true));
            mesh.clock.jump(10_000);
        }
    };
    tokio::select! {
        () = test => {}
        () = driver.run() => panic!("the driver ended"),
    }
}

//! What proxies are served, and what a change makes of it.

#![allow(clippy::unwrap_used, reason = "a test may; clippy's own exemption covers only functions marked #[test]")]

mod mesh;

use std::collections::BTreeSet;
use std::time::Duration;

use leno_model::instance::{Instance, InstanceStatus, ProbeResult, Protocol, Visibility};
use leno_model::snapshot::{
    Abort, AbortWith, Action, BalancePolicy, Delay, EndpointHealth, Injections, Limits, Queue, Rule,
};
use leno_xds::kind::Kind;
use leno_xds::node::NodeInfo;
use leno_xds::provide::{Dirty, Provide};

use mesh::{Mesh, apply, envoy, gateway, instance, node, service};

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\n";
const LENO: &str = "apiVersion: leno.mesh/v1\n";

/// The clusters of each rule of a service's routes for callers in `namespace`.
fn destinations(mesh: &Mesh, namespace: &str, name: &str) -> Vec<Vec<String>> {
    let node = node(namespace);
    let listener = mesh.listener(&node, name).unwrap();
    let config = mesh.routes(&node, listener.http.as_ref().unwrap()).unwrap();
    config.hosts[0].rules.iter().map(clusters).collect()
}

fn clusters(rule: &Rule) -> Vec<String> {
    match &rule.action {
        Action::Forward(all) => all.iter().map(|w| w.cluster.as_deref().unwrap_or("nowhere").to_owned()).collect(),
        other => vec![format!("{other:?}")],
    }
}

fn dirty(mesh: &Mesh, since: u64) -> Vec<(Kind, String)> {
    match mesh.control.dirty_since(since) {
        Dirty::All => panic!("everything is dirty"),
        Dirty::Names(names) => names.into_iter().map(|(kind, name)| (kind, name.to_string())).collect(),
    }
}

/// Waits until the driver has taken over what instances changed.
async fn after_change(mesh: &mut Mesh, change: impl FnOnce(&Mesh)) {
    let mut changes = mesh.control.changes();
    changes.mark_unchanged();
    change(mesh);
    let told = async move { changes.changed().await.unwrap() };
    let driver = mesh.driver.take().unwrap();
    let run = driver.run();
    tokio::pin!(run);
    tokio::select! {
        () = told => {}
        () = &mut run => panic!("the driver ended"),
    }
}

#[tokio::test]
async fn a_service_with_a_single_port_answers_on_any_port() {
    let mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[8080]);
    mesh.instance("cart.shop", "two", 2, &[9090]);
    for (name, port) in [("cart", 80), ("cart.shop", 80), ("cart.shop.mesh:5555", 5555), ("CART.shop.mesh:80", 80)] {
        let listener = mesh.listener(&node("shop"), name).unwrap();
        assert_eq!((&*listener.name, listener.port), (name, port));
        let cluster = format!("cart.shop.mesh:{port}");
        assert_eq!(destinations(&mesh, "shop", name), [[cluster.as_str()]]);
        let endpoints = mesh.endpoints(&node("shop"), &cluster).unwrap().endpoints;
        let addresses: Vec<String> = endpoints.iter().map(|e| e.address.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.1:8080", "10.0.0.2:9090"]);
    }
}

#[tokio::test]
async fn a_service_with_several_ports_is_asked_by_port() {
    let mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[8080, 9090]);
    assert_eq!(mesh.listener(&node("shop"), "cart:9090").unwrap().port, 9090);
    assert_eq!(mesh.listener(&node("shop"), "cart:80"), None);
    assert_eq!(mesh.listener(&node("shop"), "cart").unwrap().port, 8080);
}

#[tokio::test]
async fn a_declared_service_has_its_own_ports_with_targets_by_number_and_name() {
    let mesh = Mesh::new().await;
    let mut one = instance("cart.shop", "one", 1, &[8080, 9090]);
    one.ports[1].name = Some("rpc".into());
    mesh.instances.put(one, ProbeResult::Unknown);
    let text = format!(
        "{LENO}kind: Service\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  ports:\n  - {{port: 80, targetPort: 8080, protocol: http}}\n  - {{port: 90, targetPort: rpc, protocol: grpc}}\n"
    );
    mesh.apply(&text).await.unwrap();
    for (port, address, protocol) in [(80, "10.0.0.1:8080", Protocol::Http), (90, "10.0.0.1:9090", Protocol::Grpc)] {
        let listener = mesh.listener(&node("shop"), &format!("cart:{port}")).unwrap();
        assert_eq!((listener.protocol, listener.tcp.len()), (protocol, 0));
        let endpoints = mesh.endpoints(&node("shop"), &format!("cart.shop.mesh:{port}")).unwrap();
        assert_eq!(endpoints.endpoints[0].address.to_string(), address);
    }
    assert_eq!(mesh.listener(&node("shop"), "cart:8080"), None);
}

#[tokio::test]
async fn an_external_service_has_the_endpoints_that_are_written_down() {
    let mesh = Mesh::new().await;
    let text = format!(
        "{LENO}kind: Service\nmetadata: {{name: db}}\nspec:\n  ports: [{{port: 5432, protocol: tcp}}]\n  endpoints: [{{address: 192.0.2.1}}, {{address: '2001:db8::1', version: v2, weight: 5}}]\n"
    );
    mesh.apply(&text).await.unwrap();
    let listener = mesh.listener(&node("default"), "db").unwrap();
    assert_eq!((listener.http, &*listener.tcp[0].cluster.clone().unwrap()), (None, "db.default.mesh:5432"));
    let all = mesh.endpoints(&node("default"), "db.default.mesh:5432").unwrap().endpoints;
    assert_eq!(all.len(), 2);
    let v2 = mesh.endpoints(&node("default"), "db.default.mesh:5432@v2").unwrap().endpoints;
    assert_eq!((v2.len(), v2[0].address.to_string().as_str(), v2[0].weight), (1, "[2001:db8::1]:5432", 5));
}

#[tokio::test]
async fn endpoints_follow_the_four_way_rule() {
    let mesh = Mesh::new().await;
    for (id, status, probe) in [
        ("a-up", InstanceStatus::Up, ProbeResult::Unknown),
        ("b-failing", InstanceStatus::Up, ProbeResult::Failing),
        ("c-draining", InstanceStatus::Draining, ProbeResult::Passing),
        ("d-starting", InstanceStatus::Starting, ProbeResult::Unknown),
        ("e-out", InstanceStatus::Out, ProbeResult::Passing),
    ] {
        let mut one = instance("cart.shop", id, 1, &[80]);
        one.status = status;
        one.ports[0].proxy_port = Some(15006);
        mesh.instances.put(one, probe);
    }
    let endpoints = mesh.endpoints(&node("shop"), "cart.shop.mesh:80").unwrap().endpoints;
    let told: Vec<(&str, EndpointHealth)> = endpoints.iter().map(|e| (&*e.id, e.health)).collect();
    assert_eq!(
        told,
        [
            ("a-up", EndpointHealth::Healthy),
            ("b-failing", EndpointHealth::Unhealthy),
            ("c-draining", EndpointHealth::Draining)
        ]
    );
    assert_eq!(endpoints[0].proxy.unwrap().to_string(), "10.0.0.1:15006");
}

#[tokio::test]
async fn a_canary_sends_its_share_to_a_version() {
    let mesh = Mesh::new().await;
    mesh.instance("reviews.shop", "one", 1, &[9080]);
    let text = format!(
        "{ROUTE}metadata: {{name: reviews, namespace: shop}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: reviews}}]\n  rules:\n  \
         - name: testers\n    matches: [{{headers: [{{name: X-Canary, value: '1'}}]}}]\n    backendRefs: [{{group: leno.mesh, kind: ServiceVersion, name: reviews@v2}}]\n  \
         - name: split\n    backendRefs:\n    - {{group: leno.mesh, kind: ServiceVersion, name: reviews@v1, weight: 95}}\n    - {{group: leno.mesh, kind: ServiceVersion, name: reviews@v2, weight: 5}}\n    \
         timeouts: {{request: 2s, backendRequest: 500ms}}\n    retry: {{attempts: 2, codes: [503]}}\n"
    );
    mesh.apply(&text).await.unwrap();
    let (v1, v2) = ("reviews.shop.mesh:9080@v1".to_owned(), "reviews.shop.mesh:9080@v2".to_owned());
    assert_eq!(destinations(&mesh, "shop", "reviews:9080"), [vec![v2.clone()], vec![v1, v2]]);
    let rules = &mesh.routes(&node("shop"), "reviews.shop.mesh:9080").unwrap().hosts[0].rules;
    assert_eq!(
        (rules[1].origin.name.as_deref(), &*rules[1].origin.resource),
        (Some("split"), "httproute/shop/reviews")
    );
    assert_eq!(rules[1].retry.as_ref().unwrap().backoff.as_millis(), 25);
}

#[tokio::test]
async fn a_consumer_route_holds_for_its_own_namespace_only() {
    let mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[80]);
    let text = format!(
        "{ROUTE}metadata: {{name: mine, namespace: web}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: cart, namespace: shop}}]\n  rules:\n  \
         - backendRefs: [{{group: leno.mesh, kind: ServiceVersion, name: cart@v2, namespace: shop}}]\n"
    );
    mesh.apply(&text).await.unwrap();
    assert_eq!(destinations(&mesh, "web", "cart.shop"), [["cart.shop.mesh:80@v2"]]);
    assert_eq!(destinations(&mesh, "shop", "cart"), [["cart.shop.mesh:80"]]);
}

#[tokio::test]
async fn who_does_not_see_a_service_is_told_that_there_is_none() {
    let mesh = Mesh::new().await;
    let mut one = instance("secret.shop", "one", 1, &[80]);
    one.visibility = Visibility::Namespaces(vec!["shop".into()]);
    mesh.instances.put(one, ProbeResult::Unknown);
    assert!(mesh.listener(&node("shop"), "secret").is_some());
    assert_eq!(mesh.listener(&node("web"), "secret.shop"), None);
    let mut edge = instance("edge.shop", "one", 1, &[80]);
    edge.visibility = Visibility::Gateway;
    mesh.instances.put(edge, ProbeResult::Unknown);
    assert_eq!(mesh.listener(&node("shop"), "edge"), None);
    assert!(mesh.listener(&gateway("shop", "g"), "edge").is_some());
}

#[tokio::test]
async fn between_sets_the_oldest_route_wins_and_status_shows_the_loser() {
    let mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[80]);
    let route = |name: &str, version: &str| {
        format!(
            "{ROUTE}metadata: {{name: {name}, namespace: shop}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: cart}}]\n  rules:\n  \
             - backendRefs: [{{group: leno.mesh, kind: ServiceVersion, name: cart@{version}}}]\n"
        )
    };
    mesh.control.apply(apply("one", &route("z-older", "v1"))).await.unwrap();
    mesh.control.apply(apply("two", &route("a-younger", "v2"))).await.unwrap();
    assert_eq!(destinations(&mesh, "shop", "cart")[0], ["cart.shop.mesh:80@v1"]);
    let statuses = mesh.control.statuses();
    let words: Vec<String> =
        statuses[0].conditions.iter().map(|c| format!("{} {}: {}", c.r#type, c.status, c.message)).collect();
    assert_eq!(
        words[2],
        "Conflicted true: service shop/cart: httproute/shop/z-older is older and takes the same requests (path /)"
    );
    assert!(!statuses[0].is_good() && statuses[1].is_good());
}

#[tokio::test]
async fn a_policy_says_how_a_service_is_used() {
    let mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[80]);
    let text = format!(
        "{LENO}kind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  targetRefs: [{{name: cart}}]\n  loadBalancer: {{policy: roundRobin}}\n  \
         connectTimeout: 250ms\n  idleTimeout: 2m\n  requestTimeout: 3s\n  retry: {{codes: [502], attempts: 3}}\n  \
         limits: {{requests: 64, queue: {{size: 8}}, retries: 3}}\n"
    );
    mesh.apply(&text).await.unwrap();
    let cluster = mesh.cluster(&node("shop"), "cart.shop.mesh:80").unwrap();
    let queue = Some(Queue { size: 8, timeout: Duration::from_secs(1) });
    assert_eq!(cluster.resilience.limits, Limits { requests: Some(64), queue, retries: Some(3), ..Limits::default() });
    assert_eq!(
        (cluster.balance, cluster.connect_timeout.as_millis(), cluster.idle_timeout.as_secs()),
        (BalancePolicy::RoundRobin, 250, 120)
    );
    let rule = &mesh.routes(&node("shop"), "cart.shop.mesh:80").unwrap().hosts[0].rules[0];
    assert_eq!((rule.request_timeout.unwrap().as_secs(), rule.retry.as_ref().unwrap().attempts), (3, 3));
}

#[tokio::test]
async fn a_bound_that_is_below_a_default_bounds_it_too() {
    let mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[80]);
    let text = format!(
        "{LENO}kind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  targetRefs: [{{name: cart}}]\n  \
         ejection: {{maxTime: 5s}}\n  retry: {{on: [reset], maxBackoff: 10ms}}\n"
    );
    mesh.apply(&text).await.unwrap();
    let ejection = mesh.cluster(&node("shop"), "cart.shop.mesh:80").unwrap().resilience.ejection.unwrap();
    assert_eq!((ejection.base_time.as_secs(), ejection.time_max.as_secs()), (5, 5));
    let rule = &mesh.routes(&node("shop"), "cart.shop.mesh:80").unwrap().hosts[0].rules[0];
    let retry = rule.retry.as_ref().unwrap();
    assert_eq!((retry.backoff.as_millis(), retry.backoff_max.as_millis()), (10, 10));
}

#[tokio::test]
async fn retries_that_name_nothing_are_none() {
    let mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[80]);
    let text = format!(
        "{LENO}kind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  targetRefs: [{{name: cart}}]\n  \
         retry: {{tryTimeout: 5s}}\n"
    );
    mesh.apply(&text).await.unwrap();
    let rule = &mesh.routes(&node("shop"), "cart.shop.mesh:80").unwrap().hosts[0].rules[0];
    assert_eq!((rule.retry.as_ref(), rule.try_timeout.map(|limit| limit.as_secs())), (None, Some(5)));
}

#[tokio::test]
async fn a_fault_policy_is_told_with_the_routes_and_the_oldest_is_in_force() {
    let mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[80]);
    let policy = |name: &str, faults: &str| {
        format!(
            "{LENO}kind: FaultPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  targetRefs: [{{name: cart}}]\n  \
             faults: [{faults}]\n"
        )
    };
    let told = |mesh: &Mesh| {
        let rule = mesh.routes(&node("shop"), "cart.shop.mesh:80").unwrap().hosts.remove(0).rules.remove(0);
        let Action::Forward(mut clusters) = rule.action else { panic!("it forwards") };
        clusters.remove(0).injections
    };
    assert_eq!(told(&mesh), Injections::default());
    let before = mesh.control.revision();
    mesh.apply(&policy("first", "{name: slow, delay: {time: 2s, percent: 0.5}, abort: {grpcStatus: ABORTED}}"))
        .await
        .unwrap();
    assert_eq!(dirty(&mesh, before), [(Kind::Route, "cart.shop.mesh:80".to_owned())]);
    let injections = told(&mesh);
    assert_eq!((&*injections.service, injections.active_max), ("cart.shop", 1000));
    let fault = &injections.faults[0];
    assert_eq!(fault.delay.unwrap(), Delay { time: Duration::from_secs(2), of_million: 5_000 });
    assert_eq!(fault.abort.unwrap(), Abort { with: AbortWith::Grpc(10), of_million: 1_000_000 });
    mesh.control.apply(apply("other", &policy("second", "{name: fast, abort: {status: 500}}"))).await.unwrap();
    assert_eq!(&*told(&mesh).faults[0].name, "slow");
}

#[tokio::test]
async fn a_changed_endpoint_touches_one_resource() {
    let mut mesh = Mesh::new().await;
    for n in 0..100 {
        mesh.instance(&format!("s{n}.shop"), "one", 1, &[80]);
    }
    for n in 0..100 {
        for (kind, name) in [
            (Kind::Listener, format!("s{n}")),
            (Kind::Route, format!("s{n}.shop.mesh:80")),
            (Kind::Cluster, format!("s{n}.shop.mesh:80")),
            (Kind::Endpoints, format!("s{n}.shop.mesh:80")),
        ] {
            assert!(mesh.resource(&node("shop"), kind, &name).is_some());
        }
    }
    let before = mesh.control.revision();
    after_change(&mut mesh, |mesh| mesh.instance("s7.shop", "two", 2, &[80])).await;
    assert_eq!(dirty(&mesh, before), [(Kind::Endpoints, "s7.shop.mesh:80".to_owned())]);
    assert_eq!(mesh.endpoints(&node("shop"), "s7.shop.mesh:80").unwrap().endpoints.len(), 2);
}

#[tokio::test]
async fn a_name_that_led_nowhere_is_dirty_when_it_appears() {
    let mut mesh = Mesh::new().await;
    assert_eq!(mesh.listener(&node("shop"), "later"), None);
    assert_eq!(mesh.listener(&node("shop"), "later.shop.mesh:81"), None);
    let before = mesh.control.revision();
    after_change(&mut mesh, |mesh| mesh.instance("later.shop", "one", 1, &[80])).await;
    let names: BTreeSet<String> = dirty(&mesh, before).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, BTreeSet::from(["later".to_owned(), "later.shop.mesh:81".to_owned()]));
}

#[tokio::test]
async fn a_route_is_dirty_when_a_backend_of_it_appears() {
    let mut mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[80]);
    let text = format!(
        "{ROUTE}metadata: {{name: cart, namespace: shop}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: cart}}]\n  rules:\n  \
         - backendRefs: [{{name: cart, weight: 1}}, {{name: other, port: 80, weight: 1}}]\n"
    );
    let warnings = mesh.apply(&text).await.unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert_eq!(destinations(&mesh, "shop", "cart"), [["cart.shop.mesh:80", "nowhere"]]);
    let before = mesh.control.revision();
    after_change(&mut mesh, |mesh| mesh.instance("other.shop", "one", 1, &[80])).await;
    assert_eq!(dirty(&mesh, before), [(Kind::Route, "cart.shop.mesh:80".to_owned())]);
    assert_eq!(destinations(&mesh, "shop", "cart"), [["cart.shop.mesh:80", "other.shop.mesh:80"]]);
}

#[tokio::test]
async fn an_applied_resource_is_served_from_the_revision_that_it_answers() {
    let mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[80]);
    destinations(&mesh, "shop", "cart");
    let before = mesh.control.revision();
    let text = format!(
        "{LENO}kind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\nspec: {{targetRefs: [{{name: cart}}], requestTimeout: 1s}}\n"
    );
    let applied = mesh.apply(&text).await.unwrap();
    assert_eq!((applied.snapshot, mesh.control.revision()), (before + 1, before + 1));
    assert_eq!(dirty(&mesh, before), [(Kind::Route, "cart.shop.mesh:80".to_owned())]);
}

#[tokio::test]
async fn an_envoy_gets_every_service_that_it_sees() {
    let mut mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[8080]);
    mesh.instance("web.front", "one", 2, &[8080]);
    let node = envoy("shop");
    assert_eq!(mesh.control.names(&node, Kind::Listener), ["outbound".into()]);
    let listener = mesh.listener(&node, "outbound").unwrap();
    let config = mesh.routes(&node, listener.http.as_ref().unwrap()).unwrap();
    assert_eq!((config.hosts.len(), config.hosts[0].hostnames.len(), config.hosts[1].hostnames.len()), (2, 2, 3));
    let names = mesh.control.names(&node, Kind::Cluster);
    assert_eq!(names, ["cart.shop.mesh:80".into(), "web.front.mesh:80".into()]);
    let before = mesh.control.revision();
    after_change(&mut mesh, |mesh| mesh.instance("new.shop", "one", 3, &[80])).await;
    let changed = dirty(&mesh, before);
    assert_eq!(changed, [(Kind::Cluster, "new.shop.mesh:80".to_owned()), (Kind::Route, "outbound/shop".to_owned())]);
}

#[tokio::test]
async fn a_gateway_opens_the_ports_that_are_served() {
    let mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[8080]);
    let text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: shop}}\nspec:\n  listeners:\n  \
         - {{name: web, port: 80, protocol: HTTP}}\n  - {{name: secure, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{{name: shop}}]}}}}\n  - {{name: raw, port: 90, protocol: TCP}}\n---\n\
         {ROUTE}metadata: {{name: cart, namespace: shop}}\nspec:\n  parentRefs: [{{name: edge}}]\n  hostnames: [shop.example.com]\n  rules: [{{backendRefs: [{{name: cart}}]}}]\n"
    );
    mesh.apply(&text).await.unwrap();
    let node = gateway("shop", "edge");
    let names = mesh.control.names(&node, Kind::Listener);
    let [plain, secure, raw] = [80, 443, 90].map(|port| format!("gateway/shop/edge:{port}"));
    assert_eq!(names, [secure.as_str().into(), plain.as_str().into(), raw.into()]);
    let listener = mesh.listener(&node, &plain).unwrap();
    assert!(listener.bind && listener.http.is_some() && listener.terms.is_empty());
    let listener = mesh.listener(&node, &secure).unwrap();
    assert!(listener.http.is_some());
    assert_eq!(listener.terms[0].certificates, ["shop".into()]);
    assert_eq!(mesh.control.names(&node, Kind::Cluster), ["cart.shop.mesh:80".into()]);
    assert!(mesh.cluster(&node, "cart.shop.mesh:80").is_some() && mesh.endpoints(&node, "cart.shop.mesh:80").is_some());
}

#[tokio::test]
async fn a_service_that_is_gone_is_gone_for_everybody() {
    let mut mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[80]);
    destinations(&mesh, "shop", "cart");
    let before = mesh.control.revision();
    after_change(&mut mesh, |mesh| mesh.instances.remove(&service("cart.shop"), "one")).await;
    assert_eq!(mesh.listener(&node("shop"), "cart"), None);
    assert_eq!(dirty(&mesh, before).len(), 2);
}

#[tokio::test]
async fn validation_refuses_the_expressions_that_a_proxy_cannot_compile() {
    let mesh = Mesh::new().await;
    mesh.instance("cart.shop", "one", 1, &[80]);
    let long = "a".repeat(5000);
    for text in
        ["/a/[0-9]+", "a)(b", "(?=a)", r"\\d+", r"\\p{L}", "(a{1000}){1000}", "[äö]", "ä", "(?i)a", long.as_str()]
    {
        let route = format!(
            "{ROUTE}metadata: {{name: cart, namespace: shop}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: cart}}]\n  rules:\n  \
             - matches: [{{headers: [{{type: RegularExpression, name: a, value: \"{text}\"}}]}}]\n    backendRefs: [{{name: cart}}]\n"
        );
        let pattern = text.replace("\\\\", "\\");
        let applies = mesh.apply(&route).await.is_ok();
        assert_eq!(applies, leno_route::check_pattern(&pattern).is_ok(), "{pattern}");
    }
}

/// A policy for `cart`.
fn locality(text: &str) -> String {
    format!(
        "{LENO}kind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  targetRefs: [{{name: cart}}]\n  loadBalancer: {text}\n"
    )
}

/// Priorities by id, of the endpoints of `cart` for a proxy in a zone.
fn priorities(mesh: &Mesh, zone: &str) -> Vec<(String, u32)> {
    let near = NodeInfo { zone: Some(zone.to_owned()), labels: [("rack".into(), "7".into())].into(), ..node("shop") };
    let endpoints = mesh.endpoints(&near, "cart.shop.mesh:80").unwrap().endpoints;
    endpoints.into_iter().map(|endpoint| (endpoint.id.to_string(), endpoint.priority)).collect()
}

#[tokio::test]
async fn proxies_of_different_zones_are_served_the_same_endpoints_in_another_order() {
    let mut mesh = Mesh::new().await;
    for (n, zone) in [(1, "a"), (2, "b")] {
        let instance = Instance { zone: Some(zone.into()), ..instance("cart.shop", &format!("in-{zone}"), n, &[80]) };
        mesh.instances.put(instance, ProbeResult::Unknown);
    }
    let as_one = [("in-a".to_owned(), 0), ("in-b".to_owned(), 0)];
    assert_eq!(priorities(&mesh, "a"), as_one);
    let before = mesh.control.revision();
    mesh.apply(&locality("{locality: {}}")).await.unwrap();
    assert!(dirty(&mesh, before).contains(&(Kind::Endpoints, "cart.shop.mesh:80".to_owned())));
    let [mut a, mut b] = [as_one.clone(), as_one.clone()];
    (a[1].1, b[0].1) = (1, 1);
    assert_eq!((priorities(&mesh, "a"), priorities(&mesh, "b")), (a.to_vec(), b.to_vec()));
    assert_eq!(priorities(&mesh, "c"), as_one);
    let before = mesh.control.revision();
    mesh.apply(&locality("{locality: {failoverPriority: [rack]}}")).await.unwrap();
    assert!(dirty(&mesh, before).contains(&(Kind::Endpoints, "cart.shop.mesh:80".to_owned())));
    assert_eq!(priorities(&mesh, "a"), as_one);
    let before = mesh.control.revision();
    after_change(&mut mesh, |mesh| {
        let metadata = [("rack".to_owned(), "7".to_owned())].into();
        let labelled = Instance { zone: Some("b".into()), metadata, ..instance("cart.shop", "in-b", 2, &[80]) };
        mesh.instances.put(labelled, ProbeResult::Unknown);
    })
    .await;
    assert_eq!(
        dirty(&mesh, before),
        [(Kind::Endpoints, "cart.shop.mesh:80".to_owned())],
        "labels do not show, and count"
    );
    assert_eq!(priorities(&mesh, "a"), [("in-a".to_owned(), 1), ("in-b".to_owned(), 0)]);
    let before = mesh.control.revision();
    mesh.apply(&locality("{policy: random}")).await.unwrap();
    assert!(dirty(&mesh, before).contains(&(Kind::Endpoints, "cart.shop.mesh:80".to_owned())));
    assert_eq!(priorities(&mesh, "a"), as_one);
}

#[tokio::test]
async fn an_envoy_is_served_priorities_and_weights_of_its_own_place() {
    let mesh = Mesh::new().await;
    for (n, zone) in [(1, "a"), (2, "b"), (3, "c")] {
        let instance = Instance { zone: Some(zone.into()), ..instance("cart.shop", &format!("in-{zone}"), n, &[80]) };
        mesh.instances.put(instance, ProbeResult::Unknown);
    }
    let to = "[{place: '*/a', share: 70}, {place: '*/b', share: 30}]";
    mesh.apply(&locality(&format!("{{locality: {{distribute: [{{from: '*/a', to: {to}}}]}}}}"))).await.unwrap();
    let near = NodeInfo { zone: Some("a".to_owned()), ..envoy("shop") };
    let endpoints = mesh.endpoints(&near, "cart.shop.mesh:80").unwrap().endpoints;
    let seen: Vec<(u32, Option<u32>)> = endpoints.iter().map(|of| (of.priority, of.locality_weight)).collect();
    assert_eq!(seen, [(0, Some(700_000)), (0, Some(300_000)), (1, Some(100))]);
}

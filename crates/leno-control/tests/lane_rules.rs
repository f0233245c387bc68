//! Lanes: where requests with and without a tag go, with and without routes, and what becomes of a lane without instances.

#![allow(clippy::unwrap_used, reason = "a test may; clippy's own exemption covers only functions marked #[test]")]

mod mesh;

use leno_model::instance::{InstanceStatus, ProbeResult};
use leno_model::resource::kind::{Kind, ResourceKey};
use leno_model::snapshot::Action;
use leno_route::{FieldLookup, RequestView, Router};

use mesh::{Mesh, instance, node};

const CART: &str = "cart.shop.mesh:80";

struct Fields<'a>(&'a [(&'a str, &'a str)]);

impl FieldLookup for Fields<'_> {
    fn each_value<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.0.iter().filter(|(n, _)| *n == name).for_each(|(_, value)| visit(value.as_bytes()));
    }
}

fn lane(name: &str, tag: &str, versions: &str) -> String {
    format!(
        "apiVersion: leno.mesh/v1\nkind: Lane\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{tag: {{{tag}}}, versions: [{versions}]}}\n---\n"
    )
}

fn route(rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: cart, namespace: shop}}\n\
         spec: {{parentRefs: [{{group: '', kind: Service, name: cart}}], rules: [{rules}]}}\n"
    )
}

impl Mesh {
    fn version(&self, service: &str, version: &str, host: u8) {
        let mut one = instance(service, version, host, &[80]);
        one.version = Some(version.into());
        self.instances.put(one, ProbeResult::Unknown);
    }

    fn take_out(&self, service: &str, version: &str, host: u8) {
        let mut one = instance(service, version, host, &[80]);
        (one.version, one.status) = (Some(version.into()), InstanceStatus::Draining);
        self.instances.put(one, ProbeResult::Unknown);
    }

    /// The clusters to which a request for `cart` goes.
    fn ways(&self, path: &str, fields: &[(&str, &str)]) -> Vec<String> {
        let config = self.routes(&node("shop"), CART).unwrap();
        let fields = Fields(fields);
        let view = RequestView { host: "cart", method: "GET", path, query: "", fields: &fields };
        let matched = Router::compile(&config).unwrap().route(&view).unwrap();
        match &config.hosts[0].rules[matched.rule.index()].action {
            Action::Forward(clusters) => {
                clusters.iter().map(|one| one.cluster.as_deref().unwrap().to_owned()).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn served(&self, cluster: &str) -> Vec<String> {
        let endpoints = self.endpoints(&node("shop"), cluster).unwrap().endpoints;
        endpoints.iter().map(|endpoint| endpoint.version.as_deref().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn tagged_requests_go_to_the_version_of_their_lane_and_no_others_do() {
    let mesh = Mesh::new().await;
    mesh.version("cart.shop", "v1", 1);
    mesh.version("cart.shop", "v2", 2);
    mesh.apply(&lane("blue", "header: X-Lane, value: blue", "{name: cart, version: v2}")).await.unwrap();
    assert_eq!(mesh.ways("/", &[("x-lane", "blue")]), ["cart.shop.mesh:80@v2"]);
    for other in [&[][..], &[("x-lane", "green")], &[("x-lane", "blue2")]] {
        assert_eq!(mesh.ways("/", other), [CART], "{other:?}");
    }
    assert_eq!(mesh.served("cart.shop.mesh:80@v2"), ["v2"]);
    assert_eq!(mesh.served(CART), ["v1"], "a version in a lane gets nothing else");
}

#[tokio::test]
async fn a_tag_is_read_from_baggage_among_others() {
    let mesh = Mesh::new().await;
    mesh.version("cart.shop", "v1", 1);
    mesh.version("cart.shop", "v2", 2);
    mesh.apply(&lane("blue", "baggage: the.lane, value: b.1", "{name: cart, version: v2}")).await.unwrap();
    for text in ["the.lane=b.1", "a=b, the.lane=b.1", "a=b,the.lane = b.1 ;p=q,c=d", "the.lane=b.1,x=y"] {
        assert_eq!(mesh.ways("/", &[("baggage", text)]), ["cart.shop.mesh:80@v2"], "{text}");
    }
    for text in ["", "the.lane=b.12", "in.the.lane=b.1", "thexlane=b.1", "the.lane=bx1", "a=the.lane=b.1"] {
        assert_eq!(mesh.ways("/", &[("baggage", text)]), [CART], "{text}");
    }
}

#[tokio::test]
async fn the_rules_of_routes_hold_in_a_lane_too() {
    let mesh = Mesh::new().await;
    for (service, host) in [("cart.shop", 1), ("list.shop", 3)] {
        mesh.version(service, "v1", host);
        mesh.version(service, "v2", host + 1);
    }
    let both = "{name: cart, version: v2}, {name: list, version: v2}";
    mesh.apply(&lane("blue", "header: x-lane, value: blue", both)).await.unwrap();
    let split = "{backendRefs: [{group: leno.mesh, kind: ServiceVersion, name: cart@v1, weight: 9}, {name: list}]}";
    mesh.apply(&route(&format!("{{matches: [{{path: {{value: /list}}}}], backendRefs: [{{name: list}}]}}, {split}")))
        .await
        .unwrap();
    assert_eq!(mesh.ways("/list", &[("x-lane", "blue")]), ["list.shop.mesh:80@v2"]);
    assert_eq!(mesh.ways("/list", &[]), ["list.shop.mesh:80"]);
    assert_eq!(mesh.ways("/", &[("x-lane", "blue")]), ["cart.shop.mesh:80@v2", "list.shop.mesh:80@v2"]);
    assert_eq!(mesh.ways("/", &[]), ["cart.shop.mesh:80@v1", "list.shop.mesh:80"]);
}

#[tokio::test]
async fn a_rule_that_takes_the_tag_out_lets_nobody_into_the_lane() {
    let mesh = Mesh::new().await;
    mesh.version("cart.shop", "v1", 1);
    mesh.version("cart.shop", "v2", 2);
    mesh.apply(&lane("blue", "header: x-lane, value: blue", "{name: cart, version: v2}")).await.unwrap();
    let filter = "{type: RequestHeaderModifier, requestHeaderModifier: {remove: [X-Lane]}}";
    mesh.apply(&route(&format!("{{filters: [{filter}], backendRefs: [{{name: cart}}]}}"))).await.unwrap();
    assert_eq!(mesh.ways("/", &[("x-lane", "blue")]), [CART]);
}

#[tokio::test]
async fn of_two_lanes_with_one_tag_the_older_holds_and_the_other_says_so() {
    let mesh = Mesh::new().await;
    mesh.version("cart.shop", "v1", 1);
    mesh.version("cart.shop", "v2", 2);
    mesh.version("cart.shop", "v3", 3);
    for (name, version) in [("first", "v2"), ("second", "v3")] {
        let versions = format!("{{name: cart, version: {version}}}");
        mesh.apply(&lane(name, "header: x-lane, value: blue", &versions)).await.unwrap();
    }
    assert_eq!(mesh.ways("/", &[("x-lane", "blue")]), ["cart.shop.mesh:80@v2"]);
    let is_good = |name: &str| mesh.control.status_of(&ResourceKey::new(Kind::Lane, "shop", name)).unwrap().is_good();
    assert!(is_good("first") && !is_good("second"));
}

#[tokio::test]
async fn a_lane_falls_back_to_the_others_where_its_version_takes_no_requests() {
    let mut mesh = Mesh::new().await;
    mesh.version("cart.shop", "v1", 1);
    mesh.apply(&lane("blue", "header: x-lane, value: blue", "{name: cart, version: v2}")).await.unwrap();
    let driver = mesh.driver.take().unwrap();
    let test = async {
        let tagged = [("x-lane", "blue")];
        let comes_to = async |expected: &str| {
            let mut changes = leno_xds::provide::Provide::changes(&mesh.control);
            while mesh.ways("/", &tagged) != [expected] {
                changes.changed().await.unwrap();
            }
        };
        comes_to(CART).await;
        mesh.version("cart.shop", "v2", 2);
        comes_to("cart.shop.mesh:80@v2").await;
        mesh.take_out("cart.shop", "v2", 2);
        comes_to(CART).await;
        // Who drains or removes the others without removing the lane takes no traffic down.
        mesh.version("cart.shop", "v2", 2);
        comes_to("cart.shop.mesh:80@v2").await;
        let serves = async |expected: &[&str]| {
            let mut changes = leno_xds::provide::Provide::changes(&mesh.control);
            while mesh.served(CART) != expected {
                changes.changed().await.unwrap();
            }
        };
        serves(&["v1"]).await;
        mesh.take_out("cart.shop", "v1", 1);
        serves(&["v1", "v2"]).await;
        mesh.instances.remove(&mesh::service("cart.shop"), "v1");
        serves(&["v2"]).await;
        comes_to("cart.shop.mesh:80@v2").await;
        // A lane that is moved on before its instances are there.
        mesh.apply(&lane("blue", "header: x-lane, value: blue", "{name: cart, version: v3}")).await.unwrap();
        comes_to(CART).await;
        mesh.version("cart.shop", "v3", 3);
        comes_to("cart.shop.mesh:80@v3").await;
    };
    tokio::select! {
        () = test => {}
        () = driver.run() => panic!("the driver ended"),
    }
}

//! Switches on live proxies: what they name is degraded across the mesh at once and brought back, over HTTP/1, HTTP/2 and
//! gRPC; what is protected is not; files that are applied again turn nothing.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kit::mesh::{Mesh, Process, get_path, wait_until};
use kit::steered::{Call, Came, Steered, tally};
use kit::{figures, free_address};

const ROUTES: usize = 20;
const PROXIES: usize = 10;
const FIVE_SECONDS: Duration = Duration::from_secs(5);

/// Twenty routes of a service that a switch names, one that is protected, and proxies that use them.
struct Shop {
    mesh: Mesh,
    fronts: Vec<SocketAddr>,
    _cart: Steered,
    _processes: Vec<Process>,
}

impl Shop {
    fn open(proxies: usize) -> Self {
        let (mesh, cart) = (Mesh::new(), Steered::start());
        let mut processes = vec![mesh.server()];
        mesh.apply("shop.yaml", &resources());
        processes.push(mesh.sidecar("cart.shop", cart.address));
        let mut fronts = Vec::new();
        for at in 0..proxies {
            let outbound = free_address();
            processes.push(mesh.caller(outbound, &format!("front{at}")));
            fronts.push(outbound);
        }
        let shop = Self { mesh, fronts, _cart: cart, _processes: processes };
        assert!(wait_until(FIVE_SECONDS, || shop.open_everywhere() == proxies * ROUTES).is_some(), "all are served");
        shop
    }

    /// How many of the routes the application answers, over all proxies.
    fn open_everywhere(&self) -> usize {
        let asked = self.fronts.iter().flat_map(|front| (0..ROUTES).map(move |route| (*front, format!("/r{route}"))));
        asked.filter(|(front, path)| get_path(*front, "cart", path) == Some((200, "steered".to_owned()))).count()
    }

    /// How many of the routes the switch answers, over all proxies.
    fn degraded_everywhere(&self) -> usize {
        let asked = self.fronts.iter().flat_map(|front| (0..ROUTES).map(move |route| (*front, format!("/r{route}"))));
        asked.filter(|(front, path)| get_path(*front, "cart", path) == Some((503, "later\n".to_owned()))).count()
    }

    fn turn(&self, arguments: &[&str]) -> String {
        self.mesh.done(&[&["switch", "sale", "-n", "shop"], arguments].concat())
    }
}

fn route(name: &str, path: &str, labels: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop{labels}}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: cart}}]\n  rules:\n  \
         - matches: [{{path: {{value: {path}}}}}]\n    backendRefs: [{{name: cart}}]\n---\n"
    )
}

fn resources() -> String {
    let mut text = route("pay", "/pay", ", labels: {leno.mesh/protected: 'true'}");
    text += &route("calls", "/shop.Cart", "");
    let mut targets = "{name: calls}".to_owned();
    for at in 0..ROUTES {
        text += &route(&format!("r{at}"), &format!("/r{at}"), "");
        write!(targets, ", {{name: r{at}}}").unwrap();
    }
    text + &format!(
        "apiVersion: leno.mesh/v1\nkind: Switch\nmetadata: {{name: sale, namespace: shop}}\n\
         spec:\n  targetRefs: [{targets}]\n  reply: {{body: \"later\\n\"}}\n"
    )
}

#[test]
fn a_switch_degrades_twenty_routes_on_ten_proxies_within_a_second_and_brings_them_back() {
    let shop = Shop::open(PROXIES);
    for round in 0..2 {
        let began = Instant::now();
        let said = shop.turn(&["on", "--wait"]);
        let on = began.elapsed();
        assert_eq!(shop.degraded_everywhere(), PROXIES * ROUTES, "{said}");
        assert!(said.contains("switch shop/sale is on: 21 targets (by admin at "), "{said}");
        assert!(said.contains("in effect on 10 of 10 proxies"), "{said}");
        for front in &shop.fronts {
            assert_eq!(get_path(*front, "cart", "/pay"), Some((200, "steered".to_owned())), "protected");
        }
        let began = Instant::now();
        shop.turn(&["off", "--wait"]);
        let off = began.elapsed();
        assert_eq!(shop.open_everywhere(), PROXIES * ROUTES);
        figures(format_args!(
            "switch, round {round}: {ROUTES} routes on {PROXIES} proxies degraded in {on:.0?}, back in {off:.0?}"
        ));
        assert!(on.max(off) < Duration::from_secs(1), "{on:?} {off:?}");
    }
}

#[test]
fn what_is_degraded_is_answered_by_the_proxy_in_every_protocol() {
    let shop = Shop::open(1);
    shop.turn(&["on", "--wait"]);
    for call in Call::ALL {
        let came = call.many(shop.fronts[0], "cart", 5);
        assert_eq!(tally(call, &came, "direct_reply"), (0, 5), "{came:?}");
    }
    shop.turn(&["off", "--wait"]);
    for call in Call::ALL {
        assert!(call.many(shop.fronts[0], "cart", 5).iter().all(Came::is_good));
    }
}

#[test]
fn a_switch_turns_at_its_time_and_not_when_its_file_is_applied_again() {
    let shop = Shop::open(1);
    shop.turn(&["on", "--wait"]);
    shop.mesh.apply("again.yaml", &resources());
    assert_eq!(shop.degraded_everywhere(), ROUTES);
    let began = Instant::now();
    let said = shop.turn(&["on", "--for", "2s", "--wait"]);
    assert!(said.contains(" is on: ") && said.contains(", until "), "{said}");
    assert_eq!(shop.degraded_everywhere(), ROUTES);
    let back = wait_until(FIVE_SECONDS, || shop.open_everywhere() == ROUTES);
    assert!(back.is_some() && began.elapsed() > Duration::from_millis(1900), "{:?}", began.elapsed());
    let listed = shop.mesh.done(&["switch"]);
    assert!(listed.lines().any(|line| line.starts_with("shop") && line.contains(" off ")), "{listed}");
}

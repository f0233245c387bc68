//! Localities on live proxies: requests stay near, go on when those who are near cannot take them, and are shared among
//! places as a policy says, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::net::SocketAddr;
use std::time::Duration;

use kit::mesh::{Mesh, Process, get_path, wait_until};
use kit::steered::{Call, Came, Steered};
use kit::{figures, free_address};

const SOON: Duration = Duration::from_secs(10);
const EJECTION: &str = "ejection: {consecutiveGatewayErrors: 2, baseTime: 10m, maxTime: 10m, maxShare: 100}";

/// Where instances are: two beside the caller, one in another zone of its region, one in another region.
const PLACES: [&[&str]; 4] = [
    &["--region", "eu", "--zone", "a"],
    &["--region", "eu", "--zone", "a"],
    &["--region", "eu", "--zone", "b", "--label", "rack=7"],
    &["--region", "us", "--zone", "a"],
];

/// A server, an instance in each place, and a caller in the first.
struct World {
    mesh: Mesh,
    carts: [Steered; 4],
    sidecars: Vec<Option<Process>>,
    outbound: SocketAddr,
    admin: SocketAddr,
    _others: [Process; 2],
}

impl World {
    fn start(balancer: &str) -> Self {
        let (mesh, carts) = (Mesh::new(), PLACES.map(|_| Steered::start()));
        let server = mesh.server();
        let (outbound, admin) = (free_address(), free_address());
        let sidecar = |(cart, place): (&Steered, &&[&str])| mesh.sidecar_with("cart.shop", cart.address, place);
        let sidecars = carts.iter().zip(&PLACES).map(|pair| Some(sidecar(pair))).collect();
        let admin_text = admin.to_string();
        let own = [PLACES[0], &["--label", "rack=7", "--admin-listen", &admin_text]].concat();
        let front = mesh.caller_with(outbound, "front", &own);
        let world = Self { mesh, carts, sidecars, outbound, admin, _others: [server, front] };
        world.apply(balancer);
        world
    }

    /// Has a policy in force, and the caller know of all four.
    fn apply(&self, balancer: &str) {
        let policy = format!(
            "apiVersion: leno.mesh/v1\nkind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\n\
             spec:\n  targetRefs: [{{name: cart}}]\n  loadBalancer: {balancer}\n  {EJECTION}\n"
        );
        std::fs::write(self.mesh.leno.path("policy.yaml"), policy).unwrap();
        Call::Http1.one(self.outbound, "cart");
        self.mesh.done(&["apply", "-f", "policy.yaml", "--wait=20s"]);
    }

    fn shown(&self) -> serde_json::Value {
        let (_, body) = get_path(self.admin, "localhost", "/endpoints").unwrap();
        let clusters: serde_json::Value = serde_json::from_str(&body).unwrap();
        clusters[0].clone()
    }

    /// Priorities as the caller's proxy shows them: of each its endpoints, and those that are able.
    fn priorities(&self) -> Vec<(u64, u64)> {
        let shown = self.shown()["priorities"].as_array().cloned().unwrap_or_default();
        let counts = |of: &serde_json::Value| (of["endpoints"].as_u64().unwrap(), of["able"].as_u64().unwrap());
        shown.iter().map(counts).collect()
    }

    /// Waits until priorities stand like this, calling meanwhile.
    fn until(&self, priorities: &[(u64, u64)]) {
        let done = wait_until(SOON, || {
            Call::Http1.many(self.outbound, "cart", 4);
            self.priorities() == priorities
        });
        assert!(done.is_some(), "{priorities:?}: {}", self.shown());
    }

    /// How many of so many calls each instance gets.
    fn shares(&self, call: Call, calls: usize) -> [u64; 4] {
        let before = self.carts.each_ref().map(Steered::came);
        for _ in 0..calls / 10 {
            let came = call.many(self.outbound, "cart", 10);
            assert!(came.iter().all(Came::is_good), "{call:?}: {came:?}");
        }
        [0, 1, 2, 3].map(|cart| self.carts[cart].came() - before[cart])
    }
}

#[test]
fn requests_stay_near_and_go_on_as_far_as_those_who_are_near_cannot_take_them() {
    let world = World::start("{policy: roundRobin, locality: {}}");
    world.until(&[(2, 2), (1, 1), (1, 1)]);
    for call in Call::ALL {
        assert_eq!(world.shares(call, 60), [30, 30, 0, 0], "{call:?}: only those of the caller's zone");
    }
    world.carts[0].fail(true);
    world.until(&[(2, 1), (1, 1), (1, 1)]);
    let spilled = world.shares(Call::Http2, 600);
    figures(format_args!("locality: {spilled:?} of 600 with one of two out"));
    // Half of them carry 70 of 100; the rest goes to the next zone, and nothing abroad.
    assert!(spilled[0] == 0 && spilled[3] == 0 && (120..=240).contains(&spilled[2]), "{spilled:?}");
    world.carts[1].fail(true);
    world.until(&[(2, 0), (1, 1), (1, 1)]);
    for call in Call::ALL {
        assert_eq!(world.shares(call, 30), [0, 0, 30, 0], "{call:?}: the other zone of the region");
    }
    world.carts[2].fail(true);
    world.until(&[(2, 0), (1, 0), (1, 1)]);
    for call in Call::ALL {
        assert_eq!(world.shares(call, 30), [0, 0, 0, 30], "{call:?}: the other region");
    }
}

#[test]
fn places_share_as_they_are_to_labels_count_and_who_is_not_named_stands_by() {
    let to = "[{place: eu/a, share: 20}, {place: us, share: 80}]";
    let mut world =
        World::start(&format!("{{policy: leastRequest, locality: {{distribute: [{{from: eu/*, to: {to}}}]}}}}"));
    world.until(&[(3, 3), (1, 1)]);
    for call in Call::ALL {
        let shares = world.shares(call, 300);
        figures(format_args!("locality by {call:?}: {shares:?} of 300, to be 30, 30, 0, 240"));
        assert!(shares[2] == 0 && (210..=270).contains(&shares[3]), "{call:?}: {shares:?}");
    }
    for cart in [0, 1, 3] {
        assert_eq!(world.sidecars[cart].take().unwrap().terminate(), 0);
    }
    world.until(&[]);
    assert_eq!(world.shares(Call::Grpc, 30), [0, 0, 30, 0], "who is not named stands by");
    world.sidecars[0] = Some(world.mesh.sidecar_with("cart.shop", world.carts[0].address, PLACES[0]));
    world.apply("{policy: random, locality: {failoverPriority: [rack, zone]}}");
    world.until(&[(1, 1), (1, 1)]);
    assert_eq!(world.shares(Call::Http1, 30), [0, 0, 30, 0], "a label that the caller has too");
    world.apply("{policy: roundRobin}");
    world.until(&[]);
    assert_eq!(world.shares(Call::Http1, 30), [15, 0, 15, 0], "without a policy it does not matter where they are");
}

//! A balancing policy of one's own on live proxies: an expression over zones, labels, weights and open requests decides, over
//! HTTP/1, HTTP/2 and gRPC, and is another one when the policy is.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::net::SocketAddr;
use std::time::Duration;

use kit::mesh::{Mesh, Process, get_path, wait_until};
use kit::steered::{Call, Came, Steered};
use kit::{free_address, leno};

const SOON: Duration = Duration::from_secs(10);

/// Two instances beside the caller, of which one is large, and a large one elsewhere.
const PLACES: [&[&str]; 3] = [
    &["--zone", "a", "--label", "size=small"],
    &["--zone", "a", "--label", "size=large"],
    &["--zone", "b", "--label", "size=large"],
];

struct World {
    mesh: Mesh,
    carts: [Steered; 3],
    outbound: SocketAddr,
    admin: SocketAddr,
    _processes: Vec<Process>,
}

impl World {
    fn start() -> Self {
        let (mesh, outbound, admin) = (Mesh::new(), free_address(), free_address());
        let carts = PLACES.map(|_| Steered::start());
        let mut processes = vec![mesh.server()];
        let sidecar = |(cart, place): (&Steered, &&[&str])| mesh.sidecar_with("cart.shop", cart.address, place);
        processes.extend(carts.iter().zip(&PLACES).map(sidecar));
        let own = ["--zone", "a", "--label", "wants=large", "--admin-listen", &admin.to_string()];
        processes.push(mesh.caller_with(outbound, "front", &own));
        let world = Self { mesh, carts, outbound, admin, _processes: processes };
        let knows_all = || {
            Call::Http1.many(world.outbound, "cart", 3);
            world.carts.iter().all(|cart| cart.came() > 0)
        };
        assert!(wait_until(SOON, knows_all).is_some());
        world
    }

    fn apply(&self, expression: &str) {
        let policy = format!(
            "apiVersion: leno.mesh/v1\nkind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\n\
             spec:\n  targetRefs: [{{name: cart}}]\n  loadBalancer: {{policy: expression, expression: {expression}}}\n"
        );
        std::fs::write(self.mesh.leno.path("policy.yaml"), policy).unwrap();
        self.mesh.done(&["apply", "-f", "policy.yaml", "--wait=20s"]);
    }

    fn came(&self) -> [u64; 3] {
        std::array::from_fn(|at| self.carts[at].came())
    }

    /// How many of so many calls came where.
    fn call(&self, call: Call, count: usize) -> [u64; 3] {
        let before = self.came();
        assert!(call.many(self.outbound, "cart", count).iter().all(Came::is_good), "{call:?}");
        let after = self.came();
        std::array::from_fn(|at| after[at] - before[at])
    }
}

#[test]
fn an_expression_chooses_by_zone_labels_and_weight_and_by_what_is_open() {
    let world = World::start();
    world.apply("{cost: \"zone == caller.zone && labels.size == caller.labels.wants ? 1 : 2\", among: all}");
    let (_, shown) = get_path(world.admin, "localhost", "/endpoints").unwrap();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown[0]["balance"], &shown[0]["expression"]["gives"]), (&"expression".into(), &"costOfAll".into()));
    let costs = shown[0]["endpoints"].as_array().unwrap().iter().map(|of| of["expression"].as_f64().unwrap());
    assert_eq!(costs.sum::<f64>(), 5.0, "{shown}");
    for call in Call::ALL {
        assert_eq!(world.call(call, 20), [0, 20, 0], "near and large, by {call:?}");
    }
    world.apply("{weight: \"(labels.size == 'large' ? 3 : 1) * weight * (zone == 'b' ? 2 : 1)\"}");
    for call in Call::ALL {
        let came = world.call(call, 100);
        let wanted = [10_u64, 30, 60];
        assert!(came.iter().zip(wanted).all(|(came, wanted)| came.abs_diff(wanted) <= 4), "{call:?}: {came:?}");
    }
    // Whoever is asked holds what it gets, so that all have the same open, until somebody may have twice as many.
    world.carts.iter().for_each(|cart| cart.hold(Duration::from_millis(300)));
    world.apply("{cost: \"openRequests / (labels['size'] == 'large' ? 1.0 : 2.0)\", among: all}");
    for call in Call::ALL {
        let _ = world.carts.each_ref().map(Steered::open_max);
        let calls: Vec<_> = (0..40)
            .map(|_| {
                let outbound = world.outbound;
                std::thread::spawn(move || call.one(outbound, "cart").is_good())
            })
            .collect();
        assert!(calls.into_iter().all(|call| call.join().unwrap()), "{call:?}");
        let open = world.carts.each_ref().map(Steered::open_max);
        assert!(open[0] > open[1] && open[0] > open[2] && open[1].abs_diff(open[2]) <= 6, "{call:?}: {open:?}");
    }
}

#[test]
fn an_expression_that_cannot_be_used_is_refused_with_its_place_and_the_fix() {
    let policy = |cost: &str| {
        format!(
            "apiVersion: leno.mesh/v1\nkind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\n\
             spec:\n  targetRefs: [{{name: cart}}]\n  loadBalancer:\n    policy: expression\n    expression:\n      cost: {cost}\n"
        )
    };
    let of_cart = "apiVersion: leno.mesh/v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec:\n  ports: [{port: 80}]\n";
    let text = format!("{}---\n{of_cart}", policy("2 * latency"));
    let refused = leno().file("policy.yaml", &text).run(&["check", "-f", "policy.yaml"]);
    let said = format!("{}{}", refused.out, refused.err);
    assert_eq!(refused.status, 1, "{said}");
    assert!(said.contains("policy.yaml:9:13") && said.contains("spec.loadBalancer.expression.cost"), "{said}");
    assert!(
        said.contains("`latency` is not known here (column 5 of the expression)") && said.contains("`latencyMs`"),
        "{said}"
    );
}

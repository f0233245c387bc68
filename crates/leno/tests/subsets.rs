//! Subsets of instances by a label, on a live proxy: the header of a request chooses its value, and who has none goes where the
//! policy says, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::net::SocketAddr;

use kit::free_address;
use kit::mesh::{Mesh, Process, wait_until};
use kit::scripted::{Ask, Scripted, Told};
use kit::steered::Call;

const STAGES: [&str; 3] = ["stage=blue", "stage=blue", "stage=green"];

/// Three instances of two stages, and a caller's proxy.
struct Staged {
    mesh: Mesh,
    carts: Vec<Scripted>,
    outbound: SocketAddr,
    _processes: Vec<Process>,
}

impl Staged {
    fn start() -> Self {
        let (mesh, outbound) = (Mesh::new(), free_address());
        let carts: Vec<Scripted> = STAGES.iter().map(|_| Scripted::start(|_| Told::ok())).collect();
        let mut processes = vec![mesh.server()];
        let sidecar =
            |(cart, stage): (&Scripted, &&str)| mesh.sidecar_with("cart.shop", cart.address, &["--label", stage]);
        processes.extend(carts.iter().zip(&STAGES).map(sidecar));
        processes.push(mesh.caller(outbound, "front"));
        let staged = Self { mesh, carts, outbound, _processes: processes };
        let all_are_used = || {
            staged.ask(Call::Http1, "", 3);
            staged.carts.iter().all(|cart| !cart.asked().is_empty())
        };
        assert!(wait_until(std::time::Duration::from_secs(10), all_are_used).is_some());
        staged
    }

    /// Has these subsets in force.
    fn apply(&self, subset: &str) {
        let policy = format!(
            "apiVersion: leno.mesh/v1\nkind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\n\
             spec:\n  targetRefs: [{{name: cart}}]\n  loadBalancer: {{policy: roundRobin, subset: {subset}}}\n"
        );
        std::fs::write(self.mesh.leno.path("policy.yaml"), policy).unwrap();
        self.mesh.done(&["apply", "-f", "policy.yaml", "--wait=20s"]);
    }

    /// How many were asked of each instance and how many nobody, of so many requests for a stage.
    fn ask(&self, call: Call, stage: &str, count: usize) -> ([usize; 3], usize) {
        let before: Vec<usize> = self.carts.iter().map(|cart| cart.asked().len()).collect();
        let ask = Ask::get(call, "/");
        let ask = if stage.is_empty() { ask } else { ask.with("x-stage", stage) };
        let got = ask.many(self.outbound, count);
        let nobody = got.iter().filter(|got| !got.is_good()).count();
        ([0, 1, 2].map(|cart| self.carts[cart].asked().len() - before[cart]), nobody)
    }
}

#[test]
fn a_header_chooses_among_instances_by_a_label_and_who_has_none_goes_where_the_policy_says() {
    let staged = Staged::start();
    staged.apply("{label: stage, header: X-Stage}");
    for call in Call::ALL {
        assert_eq!(staged.ask(call, "blue", 20), ([10, 10, 0], 0), "{call:?}");
        assert_eq!(staged.ask(call, "green", 10), ([0, 0, 10], 0), "{call:?}");
        let ([first, second, third], nobody) = staged.ask(call, "red", 30);
        assert_eq!((first + second + third, nobody), (30, 0), "{call:?}");
        assert!(first > 0 && second > 0 && third > 0, "{call:?}: any of them");
    }
    staged.apply("{label: stage, header: x-stage, fallback: default, default: green}");
    for call in Call::ALL {
        assert_eq!(staged.ask(call, "red", 10), ([0, 0, 10], 0), "{call:?}");
        assert_eq!(staged.ask(call, "", 10), ([0, 0, 10], 0), "{call:?}: without a header");
        assert_eq!(staged.ask(call, "blue", 10), ([5, 5, 0], 0), "{call:?}");
    }
    staged.apply("{label: stage, header: x-stage, fallback: none}");
    for call in Call::ALL {
        assert_eq!(staged.ask(call, "red", 10), ([0, 0, 0], 10), "{call:?}: nobody");
        assert_eq!(staged.ask(call, "green", 10), ([0, 0, 10], 0), "{call:?}");
    }
}

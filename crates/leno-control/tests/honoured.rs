//! What `leno_xds::honour` says of Envoy and gRPC, beside what they are served: a field that they are said to honour changes it,
//! and one that Envoy is said not to changes nothing. Of gRPC more may be said than it looks at.

#![allow(clippy::unwrap_used, reason = "a test may; clippy's own exemption covers only functions marked #[test]")]

mod mesh;

use leno_model::instance::ProbeResult;
use leno_model::resource::kind::Kind as ResourceKind;
use leno_xds::honour::{Honour, ROWS, Row};
use leno_xds::kind::Kind;
use leno_xds::node::{NodeInfo, ProxyKind};

use mesh::{Mesh, instance, node};

const CART: &str =
    "apiVersion: leno.mesh/v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{port: 80}]}\n";

/// Of each row, a policy without the field or with another value of it, and one with it.
const EXAMPLES: &[(&str, &str, &str)] = &[
    ("loadBalancer.policy=peakEwma", "loadBalancer: {policy: random}", "loadBalancer: {policy: peakEwma}"),
    ("loadBalancer.policy=leastRequest", "loadBalancer: {policy: random}", "loadBalancer: {policy: leastRequest}"),
    ("loadBalancer.policy=bestAvailable", "loadBalancer: {policy: random}", "loadBalancer: {policy: bestAvailable}"),
    ("loadBalancer.policy=roundRobin", "loadBalancer: {policy: leastRequest}", "loadBalancer: {policy: roundRobin}"),
    (
        "loadBalancer.policy=weightedRoundRobin",
        "loadBalancer: {policy: random}",
        "loadBalancer: {policy: weightedRoundRobin}",
    ),
    (
        "loadBalancer.policy=weightedResponseTime",
        "loadBalancer: {policy: random}",
        "loadBalancer: {policy: weightedResponseTime}",
    ),
    ("loadBalancer.policy=random", "loadBalancer: {policy: roundRobin}", "loadBalancer: {policy: random}"),
    (
        "loadBalancer.policy=ringHash",
        "loadBalancer: {policy: random}",
        "loadBalancer: {policy: ringHash, hash: [{header: a}]}",
    ),
    (
        "loadBalancer.policy=maglev",
        "loadBalancer: {policy: random}",
        "loadBalancer: {policy: maglev, hash: [{header: a}]}",
    ),
    (
        "loadBalancer.policy=expression",
        "loadBalancer: {policy: random}",
        "loadBalancer: {policy: expression, expression: {cost: latencyMs}}",
    ),
    (
        "loadBalancer.expression",
        "loadBalancer: {policy: expression, expression: {cost: latencyMs}}",
        "loadBalancer: {policy: expression, expression: {cost: openRequests}}",
    ),
    (
        "loadBalancer.hash.header",
        "loadBalancer: {policy: ringHash, hash: [{sourceAddress: true}]}",
        "loadBalancer: {policy: ringHash, hash: [{sourceAddress: true}, {header: a}]}",
    ),
    (
        "loadBalancer.hash.cookie",
        "loadBalancer: {policy: ringHash, hash: [{header: a}]}",
        "loadBalancer: {policy: ringHash, hash: [{header: a}, {cookie: {name: c, ttl: 1h}}]}",
    ),
    (
        "loadBalancer.hash.query",
        "loadBalancer: {policy: ringHash, hash: [{header: a}]}",
        "loadBalancer: {policy: ringHash, hash: [{header: a}, {query: q}]}",
    ),
    (
        "loadBalancer.hash.sourceAddress",
        "loadBalancer: {policy: ringHash, hash: [{header: a}]}",
        "loadBalancer: {policy: ringHash, hash: [{header: a}, {sourceAddress: true}]}",
    ),
    (
        "loadBalancer.hash",
        "loadBalancer: {policy: ringHash, hash: [{header: a}, {header: b}]}",
        "loadBalancer: {policy: ringHash, hash: [{header: a, terminal: true}, {header: b}]}",
    ),
    ("loadBalancer.session", "", "loadBalancer: {session: {cookie: {name: s}}}"),
    ("loadBalancer.panicThreshold", "", "loadBalancer: {panicThreshold: 50}"),
    (
        "loadBalancer.slowStart",
        "loadBalancer: {policy: roundRobin}",
        "loadBalancer: {policy: roundRobin, slowStart: {window: 1m}}",
    ),
    ("loadBalancer.locality", "", "loadBalancer: {locality: {}}"),
    (
        "loadBalancer.tableSize",
        "loadBalancer: {policy: maglev, hash: [{header: a}]}",
        "loadBalancer: {policy: maglev, hash: [{header: a}], tableSize: 101}",
    ),
    ("loadBalancer.subset", "", "loadBalancer: {subset: {label: version, header: x-version}}"),
    (
        "loadBalancer.loadReports",
        "loadBalancer: {policy: weightedRoundRobin}",
        "loadBalancer: {policy: weightedRoundRobin, loadReports: {update: 2s}}",
    ),
    ("connectTimeout", "", "connectTimeout: 3s"),
    ("requestTimeout", "", "requestTimeout: 3s"),
    ("idleTimeout", "", "idleTimeout: 1m"),
    ("limits.requests", "", "limits: {requests: 10}"),
    ("limits.queue", "limits: {requests: 10}", "limits: {requests: 10, queue: {size: 5, timeout: 1s}}"),
    ("limits.retries", "", "limits: {retries: 5}"),
    ("limits.connections", "", "limits: {connections: 5}"),
    ("limits.pending", "limits: {connections: 5}", "limits: {connections: 5, pending: 7}"),
    (
        "ejection.consecutiveErrors",
        "ejection: {failureRatio: 50}",
        "ejection: {failureRatio: 50, consecutiveErrors: 9}",
    ),
    (
        "ejection.consecutiveGatewayErrors",
        "ejection: {failureRatio: 50}",
        "ejection: {failureRatio: 50, consecutiveGatewayErrors: 9}",
    ),
    (
        "ejection.consecutiveLocalErrors",
        "ejection: {failureRatio: 50}",
        "ejection: {failureRatio: 50, consecutiveLocalErrors: 9}",
    ),
    (
        "ejection.slowRatio",
        "ejection: {failureRatio: 50}",
        "ejection: {failureRatio: 50, slowRatio: 50, slowAfter: 1s}",
    ),
    (
        "ejection.slowAfter",
        "ejection: {failureRatio: 50, slowRatio: 50, slowAfter: 1s}",
        "ejection: {failureRatio: 50, slowRatio: 50, slowAfter: 2s}",
    ),
    ("ejection", "ejection: {failureRatio: 50}", "ejection: {failureRatio: 50, baseTime: 1m}"),
    ("breaker.forced=open", "", "breaker: {forced: open}"),
    ("breaker", "", "breaker: {preset: hystrix}"),
    ("fallback", "", "fallback: {reply: {status: 200}}"),
    ("cache", "", "cache: {}"),
    ("collapse", "", "collapse: {}"),
    ("retry.on", "retry: {on: [unavailable]}", "retry: {on: [unavailable, connect-failure, cancelled]}"),
    ("retry.methods", "retry: {on: [5xx]}", "retry: {on: [5xx], methods: [GET, POST]}"),
    ("retry.maxRetryAfter", "retry: {on: [5xx]}", "retry: {on: [5xx], maxRetryAfter: 5s}"),
    ("retry.tryTimeout", "retry: {on: [5xx]}", "retry: {on: [5xx], tryTimeout: 1s}"),
    ("retry.codes", "retry: {on: [5xx]}", "retry: {on: [5xx], codes: [429]}"),
    ("retry", "retry: {on: [unavailable], attempts: 1}", "retry: {on: [unavailable], attempts: 3}"),
    ("retryBudget", "", "retryBudget: {percent: 30}"),
    ("hedge", "", "hedge: {delay: 50ms}"),
    ("priorities", "", "priorities: [{priority: sheddable}]"),
    ("overload", "", "overload: {}"),
    ("admission", "", "admission: {}"),
    ("rateLimits", "", "rateLimits: [{name: a, at: caller, limit: {requests: 10, per: 1s}}]"),
    (
        "faults.bandwidth",
        "faults: [{name: a, delay: {time: 1s}}]",
        "faults: [{name: a, delay: {time: 1s}, bandwidth: {kibPerSecond: 8}}]",
    ),
    (
        "faults.matches",
        "faults: [{name: a, delay: {time: 1s}}]",
        "faults: [{name: a, delay: {time: 1s}, matches: [{headers: [{name: x, value: y}]}]}]",
    ),
    ("faults", "faults: [{name: a, delay: {time: 1s}}]", "faults: [{name: a, delay: {time: 2s}}]"),
    ("maxActive", "faults: [{name: a, delay: {time: 1s}}]", "maxActive: 7\n  faults: [{name: a, delay: {time: 1s}}]"),
];

/// Everything that somebody in zone `a` is served of the service, under this policy.
async fn served(mesh: &Mesh, kind: ResourceKind, fields: &str) -> [Vec<Vec<u8>>; 2] {
    // What is the default anyway.
    let fields = if fields.is_empty() { "connectTimeout: 5s" } else { fields };
    let policy = format!(
        "---\napiVersion: leno.mesh/v1\nkind: {kind}\nmetadata: {{name: p, namespace: shop}}\nspec:\n  targetRefs: [{{name: cart}}]\n  {fields}\n"
    );
    mesh.apply(&format!("{CART}{policy}")).await.unwrap_or_else(|error| panic!("{fields}: {error:?}"));
    [ProxyKind::Envoy, ProxyKind::Grpc].map(|proxy| {
        let node = NodeInfo { proxy, zone: Some("a".to_owned()), ..node("shop") };
        let bodies = Kind::ALL.into_iter().filter_map(|kind| mesh.resource(&node, kind, "cart.shop.mesh:80"));
        bodies.map(|resource| resource.body.to_vec()).collect()
    })
}

fn name_of(row: &Row) -> String {
    row.value.map_or(row.path.to_owned(), |value| format!("{}={value}", row.path))
}

#[tokio::test]
async fn what_envoy_and_grpc_are_said_to_honour_changes_what_they_are_served() {
    let mut mesh = Mesh::new().await;
    for (id, host, zone) in [("cart-1", 1, "a"), ("cart-2", 2, "b")] {
        let own = leno_model::instance::Instance { zone: Some(zone.into()), ..instance("cart.shop", id, host, &[80]) };
        mesh.instances.put(own, ProbeResult::Passing);
    }
    let mut wrong = Vec::new();
    let shared = &mut mesh;
    for row in ROWS {
        let name = name_of(row);
        let example = EXAMPLES.iter().find(|(path, ..)| *path == name);
        let (_, without, with) = example.unwrap_or_else(|| panic!("{name} wants an example"));
        let before = served(shared, row.kind, without).await;
        let after = served(shared, row.kind, with).await;
        let [envoy, grpc] = std::array::from_fn(|at| before[at] != after[at]);
        let envoy_should = matches!(row.envoy, Honour::Whole | Honour::Nearly(_));
        if envoy != envoy_should {
            wrong.push(format!("{name}: Envoy is {} of it", if envoy { "told" } else { "not told" }));
        }
        if row.grpc == Honour::Whole && !grpc {
            wrong.push(format!("{name}: gRPC is not told of it"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

//! Limits of a destination on a live proxy: how many requests are open, who waits and for how long, who is refused and how
//! fast, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::net::SocketAddr;
use std::time::Duration;

use kit::mesh::{Mesh, Process, get_path, wait_until};
use kit::steered::{Call, Came, Steered, tally};
use kit::{figures, free_address};

const FIVE_SECONDS: Duration = Duration::from_secs(5);

/// One instance behind a caller's proxy, with a policy.
struct Limited {
    cart: Steered,
    outbound: SocketAddr,
    admin: SocketAddr,
    mesh: Mesh,
    _processes: [Process; 3],
}

impl Limited {
    fn by(limits: &str) -> Self {
        let (mesh, cart) = (Mesh::new(), Steered::start());
        let server = mesh.server();
        mesh.apply("policy.yaml", &policy(limits));
        let sidecar = mesh.sidecar("cart.shop", cart.address);
        let (outbound, admin) = (free_address(), free_address());
        let front = mesh.caller_with(outbound, "front", &["--admin-listen", &admin.to_string()]);
        let limited = Self { cart, outbound, admin, mesh, _processes: [server, sidecar, front] };
        assert!(wait_until(FIVE_SECONDS, || limited.call(Call::Http1, 1)[0].is_good()).is_some());
        limited.cart.open_max();
        limited
    }

    fn call(&self, call: Call, count: usize) -> Vec<Came> {
        call.many(self.outbound, "cart", count)
    }

    /// What the admin listener says of the limit on requests.
    fn shown(&self) -> serde_json::Value {
        let (_, body) = get_path(self.admin, "localhost", "/endpoints").unwrap();
        let clusters: serde_json::Value = serde_json::from_str(&body).unwrap();
        clusters[0]["resilience"]["limits"]["requests"].clone()
    }

    /// The value of a metric for the limit on requests.
    fn metric(&self, name: &str) -> f64 {
        let (_, metrics) = get_path(self.admin, "localhost", "/metrics").unwrap();
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains("\"requests\""));
        line.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap()
    }
}

fn policy(limits: &str) -> String {
    format!(
        "apiVersion: leno.mesh/v1
kind: TrafficPolicy
metadata: {{name: cart, namespace: shop}}
spec:
  targetRefs: [{{name: cart}}]
  limits: {limits}
"
    )
}

#[test]
fn what_is_over_the_limit_is_refused_at_once() {
    let limited = Limited::by("{requests: 4}");
    limited.cart.hold(Duration::from_millis(400));
    for call in Call::ALL {
        let came = limited.call(call, 20);
        let (good, refused) = tally(call, &came, "request_overflow");
        let slowest = came.iter().filter(|came| !came.is_good()).map(|came| came.took).max().unwrap();
        let open = limited.cart.open_max();
        figures(format_args!(
            "bulkhead of 4, 20 at once by {call:?}: {good} good, {refused} refused within {slowest:.1?}, {open} open at once"
        ));
        assert_eq!((good, refused, open), (4, 16, 4), "{came:?}");
        assert!(slowest < Duration::from_millis(300), "a refusal waits for nothing: {slowest:?}");
    }
    assert_eq!(limited.metric("leno_limit_refused_total"), 48.0);
    assert_eq!((&limited.shown()["max"], &limited.shown()["refused"]), (&4.into(), &48.into()));
    assert!(wait_until(FIVE_SECONDS, || limited.shown()["open"] == 0).is_some(), "all have left");
}

#[test]
fn who_finds_a_place_in_the_queue_waits_and_is_served() {
    let limited = Limited::by("{requests: 2, queue: {size: 4, timeout: 5s}}");
    limited.cart.hold(Duration::from_millis(200));
    for call in Call::ALL {
        let came = limited.call(call, 10);
        let (good, refused) = tally(call, &came, "request_overflow");
        let open = limited.cart.open_max();
        figures(format_args!(
            "bulkhead of 2 and 4 that wait, 10 at once by {call:?}: {good} good, {refused} refused, {open} open"
        ));
        assert_eq!((good, refused, open), (6, 4, 2), "{came:?}");
    }
}

#[test]
fn who_waits_too_long_is_refused_in_time_and_a_higher_limit_is_in_force_at_once() {
    let limited = Limited::by("{requests: 1, queue: {size: 10, timeout: 100ms}}");
    limited.cart.hold(Duration::from_millis(900));
    for call in Call::ALL {
        let came = limited.call(call, 3);
        assert_eq!(tally(call, &came, "queue_timeout"), (1, 2), "{came:?}");
        let late = came.iter().filter(|came| !came.is_good()).map(|came| came.took);
        let (first, last) = (late.clone().min().unwrap(), late.max().unwrap());
        figures(format_args!("bulkhead: refused by {call:?} after waiting {first:.0?} to {last:.0?} of 100 ms"));
        assert!(first >= Duration::from_millis(100) && last < Duration::from_millis(700), "{first:?} to {last:?}");
    }
    assert_eq!(limited.metric("leno_limit_late_total"), 6.0);
    limited.mesh.apply("policy.yaml", &policy("{requests: 7}"));
    assert!(wait_until(FIVE_SECONDS, || limited.shown()["max"] == 7).is_some());
    limited.cart.hold(Duration::from_millis(300));
    let came = limited.call(Call::Http2, 9);
    assert_eq!(tally(Call::Http2, &came, "request_overflow"), (7, 2), "{came:?}");
}

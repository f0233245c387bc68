//! Ejection of instances on a live proxy: one that fails or is slow gets no more requests, no more are out than may be, and
//! it comes back by probes when it is well, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::steered::{Call, Came, Front, Steered};

/// Three instances behind a caller's proxy that ejects.
struct Watched {
    carts: [Steered; 3],
    front: Front,
}

impl Watched {
    fn by(ejection: &str) -> Self {
        let carts = [(); 3].map(|()| Steered::start());
        let front = Front::before(&carts, &format!("loadBalancer: {{policy: roundRobin}}\n  ejection: {ejection}"));
        Self { carts, front }
    }

    /// Calls one after the other until so many instances are out; how many of the calls failed.
    fn call_until(&self, call: Call, out: u64) -> usize {
        let mut failed = 0;
        let done = wait_until(Duration::from_secs(5), || {
            failed += self.front.call(call, 1).iter().filter(|came| !came.is_good()).count();
            self.front.shown()["resilience"]["ejection"]["out"] == out
        });
        assert!(done.is_some(), "{out} are out: {}", self.front.shown());
        failed
    }

    /// The endpoints that are not in.
    fn out(&self) -> Vec<serde_json::Value> {
        let endpoints = self.front.shown()["endpoints"].as_array().unwrap().clone();
        endpoints.into_iter().filter(|endpoint| endpoint["ejection"]["state"] != "in").collect()
    }
}

#[test]
fn an_instance_that_fails_is_left_out_and_comes_back_by_a_probe() {
    let watched = Watched::by("{consecutiveGatewayErrors: 3, baseTime: 1s, maxTime: 1s, maxShare: 34}");
    for call in Call::ALL {
        watched.carts[0].fail(true);
        let failed = watched.call_until(call, 1);
        assert!(failed >= 3, "{failed} failures in a row");
        let before = watched.carts[0].came();
        let good = watched.front.call(call, 60).iter().filter(|came| came.is_good()).count();
        // Its time may be over before all are answered: then one of them was a probe.
        let probes = watched.carts[0].came() - before;
        assert!(good as u64 + probes >= 60 && probes <= 1, "{call:?}: {good} good, {probes} probes");
        watched.carts[0].fail(false);
        let failed_after = watched.call_until(call, 0);
        figures(format_args!(
            "ejection by {call:?}: out after {failed} failures, {good} of 60 good while it was, back after {failed_after} failures"
        ));
        assert_eq!(failed_after, 0, "{call:?}");
    }
    assert!(watched.front.metric("leno_ejections_total{cluster=\"cart.shop.mesh:80\",cause=\"consecutive\"}") >= 3.0);
}

#[test]
fn an_instance_that_is_slow_is_left_out_and_the_admin_listener_says_since_when() {
    let watched =
        Watched::by("{slowRatio: 60, slowAfter: 150ms, minRequests: 5, window: 5s, baseTime: 30s, maxShare: 34}");
    watched.carts[1].hold(Duration::from_millis(200));
    watched.call_until(Call::Http2, 1);
    let out = watched.out();
    assert_eq!(
        (out.len(), &out[0]["ejection"]["state"], &out[0]["ejection"]["times"]),
        (1, &"ejected".into(), &1.into())
    );
    let (since, left) =
        (out[0]["ejection"]["sinceMs"].as_u64().unwrap(), out[0]["ejection"]["leftMs"].as_u64().unwrap());
    assert!((29_900..=30_001).contains(&(since + left)), "{since} and {left}");
    let before = watched.carts[1].came();
    for call in Call::ALL {
        let slowest = watched.front.call(call, 30).iter().map(|came| came.took).max().unwrap();
        figures(format_args!("slow instance out: slowest of 30 calls by {call:?} {slowest:.0?}"));
        assert_eq!(watched.carts[1].came(), before, "{call:?}: it is out");
    }
    assert_eq!(watched.front.metric("leno_endpoints_ejected{"), 1.0);
    assert_eq!(watched.front.metric("leno_ejections_total{cluster=\"cart.shop.mesh:80\",cause=\"slow_ratio\"}"), 1.0);
}

#[test]
fn no_more_are_left_out_than_may_be() {
    let watched = Watched::by("{consecutiveErrors: 2, baseTime: 30s, maxShare: 34}");
    watched.carts.iter().for_each(|cart| cart.fail(true));
    let came = watched.front.call(Call::Http1, 60);
    assert!(came.iter().all(|came| came.status == 503 && came.reason.is_empty()), "{came:?}");
    assert_eq!(watched.out().len(), 1, "one of three");
    watched.carts.iter().for_each(|cart| cart.fail(false));
    assert!(watched.front.call(Call::Http2, 30).iter().all(Came::is_good));
}

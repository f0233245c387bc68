//! Slow start on a live proxy: an instance that joins gets a part of its share until its window is over, over HTTP/1,
//! HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::steered::{Call, Came, Front, Steered};

const SOON: Duration = Duration::from_secs(10);
const CALLS: u64 = 300;

fn balancer(policy: &str, window: &str) -> String {
    format!("loadBalancer: {{policy: {policy}, slowStart: {{window: {window}}}}}")
}

/// Endpoints, and those of them that are new.
fn endpoints(front: &Front) -> (usize, usize) {
    let endpoints = front.shown()["endpoints"].as_array().unwrap().clone();
    (endpoints.len(), endpoints.iter().filter(|endpoint| endpoint["newForMs"].is_u64()).count())
}

/// How many of the calls each instance gets.
fn shares(front: &Front, call: Call, carts: &[Steered]) -> Vec<u64> {
    let before: Vec<u64> = carts.iter().map(Steered::came).collect();
    for _ in 0..CALLS / 10 {
        assert!(front.call(call, 10).iter().all(Came::is_good), "{call:?}");
    }
    carts.iter().zip(before).map(|(cart, before)| cart.came() - before).collect()
}

#[test]
fn an_instance_that_joins_gets_a_tenth_of_its_share_first_and_all_of_it_in_the_end() {
    let mut carts: Vec<Steered> = (0..2).map(|_| Steered::start()).collect();
    // The window is far longer than the test, and ends when the policy says so.
    let mut front = Front::before(&carts, &balancer("roundRobin", "1h"));
    assert_eq!(endpoints(&front), (2, 0), "those that are there are not new");
    carts.push(Steered::start());
    front.join(&carts[2]);
    assert!(wait_until(SOON, || endpoints(&front) == (3, 1)).is_some(), "{}", front.shown());
    for call in Call::ALL {
        let came = shares(&front, call, &carts);
        figures(format_args!("slow start by {call:?}: {came:?} of {CALLS} at the beginning"));
        // A tenth beside two whole ones is 14.
        assert!((1..=36).contains(&came[2]) && came[0] > 110 && came[1] > 110, "{call:?}: {came:?}");
    }
    for policy in ["peakEwma", "leastRequest", "random"] {
        front.apply(&balancer(policy, "1h"));
        assert!(wait_until(SOON, || front.shown()["balance"] == policy).is_some());
        assert_eq!(endpoints(&front), (3, 1), "it stays new with another policy");
        let came = shares(&front, Call::Http1, &carts);
        figures(format_args!("slow start with {policy}: {came:?} of {CALLS} at the beginning"));
        assert!(came[2] <= 60, "{policy}: {came:?}");
    }
    front.apply(&balancer("roundRobin", "1s"));
    assert!(wait_until(SOON, || endpoints(&front) == (3, 0)).is_some(), "{}", front.shown());
    let came = shares(&front, Call::Http2, &carts);
    figures(format_args!("slow start: {came:?} of {CALLS} in the end"));
    assert!(came.iter().all(|came| (90..=110).contains(came)), "{came:?}");
}

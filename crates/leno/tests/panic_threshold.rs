//! Panic on a live proxy: with too many instances out, all of them get requests again where the policy says so, and none
//! where it does not, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::steered::{Call, Came, Front, Steered, tally};

const EJECTION: &str = "ejection: {consecutiveGatewayErrors: 2, baseTime: 10m, maxTime: 10m, maxShare: 100}";
const SOON: Duration = Duration::from_secs(10);

fn policy(threshold: u32) -> String {
    format!("loadBalancer: {{policy: roundRobin, panicThreshold: {threshold}}}\n  {EJECTION}")
}

/// Calls until so many instances are out.
fn call_until_out(front: &Front, out: u64) {
    let done = wait_until(SOON, || {
        front.call(Call::Http1, 3);
        front.shown()["resilience"]["ejection"]["out"] == out
    });
    assert!(done.is_some(), "{}", front.shown());
}

#[test]
fn below_the_threshold_all_get_requests_again_and_above_it_those_that_are_able() {
    let carts = [(); 3].map(|()| Steered::start());
    let front = Front::before(&carts, &policy(50));
    carts[0].fail(true);
    call_until_out(&front, 1);
    let before = carts[0].came();
    assert!(front.call(Call::Http1, 30).iter().all(Came::is_good), "two of three are able: no panic");
    assert_eq!((carts[0].came() - before, &front.shown()["priorities"][0]["panics"]), (0, &false.into()));
    carts[1].fail(true);
    call_until_out(&front, 2);
    let before = carts[0].came();
    let panics = wait_until(SOON, || {
        front.call(Call::Http1, 3);
        carts[0].came() > before
    });
    assert!(panics.is_some(), "{}", front.shown());
    for call in Call::ALL {
        let before = carts.each_ref().map(Steered::came);
        let good = front.call(call, 60).iter().filter(|came| came.is_good()).count();
        let came = [0, 1, 2].map(|cart| carts[cart].came() - before[cart]);
        figures(format_args!("panic by {call:?}: {came:?} of 60 requests, {good} good"));
        assert!(came.iter().all(|came| (10..=40).contains(came)), "{call:?}: {came:?}");
    }
    let shown = &front.shown()["priorities"][0];
    assert_eq!((&shown["panics"], &shown["able"], &shown["endpoints"]), (&true.into(), &1.into(), &3.into()));
    assert_eq!(front.metric("leno_balancer_panic{"), 1.0);
}

#[test]
fn without_a_threshold_nobody_is_asked_when_all_are_out_and_with_one_all_are() {
    let carts = [(); 2].map(|()| Steered::start());
    let front = Front::before(&carts, &policy(0));
    carts.iter().for_each(|cart| cart.fail(true));
    call_until_out(&front, 2);
    carts.iter().for_each(|cart| cart.fail(false));
    for call in Call::ALL {
        let came = front.call(call, 10);
        assert_eq!(tally(call, &came, "no_healthy_endpoint"), (0, 10), "{call:?}: {came:?}");
    }
    front.apply(&policy(1));
    let panics = wait_until(SOON, || front.call(Call::Http2, 1)[0].is_good());
    assert!(panics.is_some(), "{}", front.shown());
    for call in Call::ALL {
        assert!(front.call(call, 20).iter().all(Came::is_good), "{call:?}");
    }
}

//! Weighted response time on a live proxy: who takes three times as long gets a third of the other's share, over HTTP/1, HTTP/2
//! and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::steered::{Call, Came, Front, Steered};

const SOON: Duration = Duration::from_secs(10);
const CALLS: u64 = 100;

/// Has shares found anew, as they are every half minute: with another policy, which is there once it has priorities to show, or
/// none.
fn find_anew(front: &Front, has_threshold: bool) {
    let threshold = if has_threshold { ", panicThreshold: 1" } else { "" };
    front.apply(&format!("loadBalancer: {{policy: weightedResponseTime{threshold}}}"));
    let is_there = || front.shown()["priorities"].is_array() == has_threshold;
    assert!(wait_until(SOON, is_there).is_some(), "{}", front.shown());
}

/// What the slower one takes on average, and the other.
fn means(front: &Front) -> (f64, f64) {
    let mean = |at: usize| front.shown()["endpoints"][at]["meanMs"].as_f64().unwrap();
    let (a, b) = (mean(0), mean(1));
    (a.max(b), a.min(b))
}

#[test]
fn who_takes_three_times_as_long_gets_a_third_of_the_others_share() {
    let carts: Vec<Steered> = (0..2).map(|_| Steered::start()).collect();
    carts.iter().zip([90, 30]).for_each(|(cart, ms)| cart.hold(Duration::from_millis(ms)));
    let front = Front::before(&carts, "loadBalancer: {policy: weightedResponseTime}");
    assert_eq!(front.shown()["balance"], "weightedResponseTime");
    for (call, has_threshold) in Call::ALL.into_iter().zip([true, false, true]) {
        find_anew(&front, has_threshold);
        let (slow, fast) = means(&front);
        let before = carts[0].came();
        for _ in 0..CALLS / 10 {
            assert!(front.call(call, 10).iter().all(Came::is_good), "{call:?}");
        }
        let came = carts[0].came() - before;
        // What both take together, less its own.
        let wanted = fast / (slow + fast) * CALLS as f64;
        figures(format_args!(
            "weighted response time by {call:?}: {came} of {CALLS}, {slow:.1} ms beside {fast:.1} ms"
        ));
        assert!(slow > 1.2 * fast, "{call:?}: {slow} ms and {fast} ms");
        assert!((came as f64 - wanted).abs() <= 5.0, "{call:?}: {came} of {CALLS} where {wanted:.1} is its share");
    }
}

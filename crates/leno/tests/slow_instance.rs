//! One slow instance of ten, over HTTP/1, HTTP/2 and gRPC: by peak EWMA callers hardly notice it, in turn a tenth of them do.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::steered::{Call, Came, Front, Steered};

const HEALTHY: usize = 9;
const TAKES: Duration = Duration::from_millis(40);
const SLOW_TAKES: Duration = Duration::from_millis(400);
/// Calls at once.
const AT_ONCE: usize = 9;
const FIVE_SECONDS: Duration = Duration::from_secs(5);

/// What all but one in a hundred of so many calls took at most.
fn p99(front: &Front, call: Call, count: usize) -> Duration {
    let mut took = Vec::new();
    while took.len() < count {
        let came = front.call(call, AT_ONCE);
        assert!(came.iter().all(Came::is_good), "{call:?}: {came:?}");
        took.extend(came.into_iter().map(|came| came.took));
    }
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

#[test]
fn by_peak_ewma_one_slow_instance_of_ten_is_hardly_noticed() {
    let healthy: Vec<Steered> = (0..HEALTHY).map(|_| Steered::start()).collect();
    healthy.iter().for_each(|cart| cart.hold(TAKES));
    let mut front = Front::before(&healthy, "loadBalancer: {policy: roundRobin}");
    // What the machine does beside it makes them slower, never faster.
    let alone = Call::ALL.map(|call| p99(&front, call, 270)).into_iter().min().unwrap();
    let slow = Steered::start();
    slow.hold(SLOW_TAKES);
    front.join(&slow);
    let met = wait_until(FIVE_SECONDS, || {
        front.call(Call::Http1, AT_ONCE);
        slow.came() > 0
    });
    assert!(met.is_some(), "the slow one is one of them");
    let in_turn = p99(&front, Call::Http1, 90);
    front.apply("loadBalancer: {policy: peakEwma}");
    // Until it is known to be slow.
    let known = wait_until(FIVE_SECONDS, || p99(&front, Call::Http1, AT_ONCE * 4) < SLOW_TAKES);
    assert!(known.is_some(), "{}", front.shown());
    assert!(in_turn > alone.mul_f64(1.5), "{in_turn:?} beside {alone:?}");
    for call in Call::ALL {
        let mut by_ewma = p99(&front, call, 540);
        // A machine that stands still for a moment is not what is looked at.
        for _ in 0..2 {
            if by_ewma > alone.mul_f64(1.5) {
                by_ewma = p99(&front, call, 540);
            }
        }
        figures(format_args!(
            "one slow instance of ten by {call:?}: p99 {alone:.0?} without it, {by_ewma:.0?} by peak EWMA, {in_turn:.0?} in turn"
        ));
        assert!(by_ewma <= alone.mul_f64(1.5), "{call:?}: {by_ewma:?} beside {alone:?}");
    }
}

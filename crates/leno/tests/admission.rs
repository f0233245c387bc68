//! Admission at callers on a live proxy: a service that does nothing is asked by few, and used whole when it is back, over
//! HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::steered::{Call, Came, Front, Steered, tally};

#[test]
fn a_service_that_does_nothing_is_asked_by_few_and_used_whole_when_it_is_back() {
    let cart = Steered::start();
    let front = Front::before(std::slice::from_ref(&cart), "admission: {window: 3s, minRequests: 10}");
    for call in Call::ALL {
        cart.fail(true);
        let before = cart.came();
        let (mut offered, mut held_back) = (0, 0);
        let is_held_back = wait_until(Duration::from_secs(10), || {
            let came = front.call(call, 50);
            offered += came.len();
            let of_these = tally(call, &came, "held_back").1;
            held_back += of_these;
            of_these >= 30
        });
        let reached = (cart.came() - before) as usize;
        figures(format_args!(
            "admission by {call:?}: of {offered} offered to a service that fails {reached} reached it"
        ));
        assert!(is_held_back.is_some() && reached + held_back == offered, "{reached} {held_back} of {offered}");
        assert!(front.shown()["resilience"]["admission"]["sharePercent"].as_u64().unwrap() >= 40, "{}", front.shown());
        cart.fail(false);
        let is_back = wait_until(Duration::from_secs(20), || front.call(call, 20).iter().all(Came::is_good));
        assert!(is_back.is_some(), "{}", front.shown());
        // All of that is forgotten before the next one.
        let is_forgotten = || front.shown()["resilience"]["admission"]["sharePercent"] == 0;
        assert!(wait_until(Duration::from_secs(10), is_forgotten).is_some(), "{}", front.shown());
    }
    assert!(
        front.metric("leno_admission_held_back_total{cluster=\"cart.shop.mesh:80\",priority=\"critical\"}") >= 100.0
    );
}

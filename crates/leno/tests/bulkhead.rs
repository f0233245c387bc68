//! Limits of a destination on a live proxy: how many requests are open, who waits and for how long, who is refused and how
//! fast, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::steered::{Call, Front, Steered, tally};

const FIVE_SECONDS: Duration = Duration::from_secs(5);

/// One instance behind a caller's proxy with limits.
struct Limited {
    cart: Steered,
    front: Front,
}

impl Limited {
    fn by(limits: &str) -> Self {
        let cart = Steered::start();
        let front = Front::before(std::slice::from_ref(&cart), &format!("limits: {limits}"));
        cart.open_max();
        Self { cart, front }
    }

    /// What the admin listener says of the limit on requests.
    fn shown(&self) -> serde_json::Value {
        self.front.shown()["resilience"]["limits"]["requests"].clone()
    }

    /// The value of a metric for the limit on requests.
    fn metric(&self, name: &str) -> f64 {
        self.front.metric(&format!("{name}{{cluster=\"cart.shop.mesh:80\",limit=\"requests\"}}"))
    }
}

#[test]
fn what_is_over_the_limit_is_refused_at_once() {
    let limited = Limited::by("{requests: 4}");
    limited.cart.hold(Duration::from_millis(1_500));
    for call in Call::ALL {
        let came = limited.front.call(call, 20);
        let (good, refused) = tally(call, &came, "request_overflow");
        let slowest = came.iter().filter(|came| !came.is_good()).map(|came| came.took).max().unwrap();
        let open = limited.cart.open_max();
        figures(format_args!(
            "bulkhead of 4, 20 at once by {call:?}: {good} good, {refused} refused within {slowest:.1?}, {open} open at once"
        ));
        assert_eq!((good, refused, open), (4, 16, 4), "{came:?}");
        assert!(slowest < Duration::from_secs(1), "a refusal waits for nothing: {slowest:?}");
    }
    assert_eq!(limited.metric("leno_limit_refused_total"), 48.0);
    assert_eq!((&limited.shown()["max"], &limited.shown()["refused"]), (&4.into(), &48.into()));
    assert!(wait_until(FIVE_SECONDS, || limited.shown()["open"] == 0).is_some(), "all have left");
}

#[test]
fn who_finds_a_place_in_the_queue_waits_and_is_served() {
    let limited = Limited::by("{requests: 2, queue: {size: 4, timeout: 5s}}");
    limited.cart.hold(Duration::from_millis(600));
    for call in Call::ALL {
        let came = limited.front.call(call, 10);
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
    limited.cart.hold(Duration::from_millis(1_500));
    for call in Call::ALL {
        let came = limited.front.call(call, 3);
        assert_eq!(tally(call, &came, "queue_timeout"), (1, 2), "{came:?}");
        let late = came.iter().filter(|came| !came.is_good()).map(|came| came.took);
        let (first, last) = (late.clone().min().unwrap(), late.max().unwrap());
        figures(format_args!("bulkhead: refused by {call:?} after waiting {first:.0?} to {last:.0?} of 100 ms"));
        assert!(first >= Duration::from_millis(100) && last < Duration::from_secs(1), "{first:?} to {last:?}");
    }
    assert_eq!(limited.metric("leno_limit_late_total"), 6.0);
    limited.front.apply("limits: {requests: 7}");
    assert!(wait_until(FIVE_SECONDS, || limited.shown()["max"] == 7).is_some());
    limited.cart.hold(Duration::from_millis(600));
    let came = limited.front.call(Call::Http2, 9);
    assert_eq!(tally(Call::Http2, &came, "request_overflow"), (7, 2), "{came:?}");
}

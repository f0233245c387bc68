//! Breakers on a live proxy: a service that fails or is slow is not asked for a while, its callers hear so at once, and
//! probes close it again, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::steered::{Call, Came, Front, Steered, tally};

const FIVE_SECONDS: Duration = Duration::from_secs(5);

/// One instance behind a caller's proxy with a breaker.
struct Guarded {
    cart: Steered,
    front: Front,
}

impl Guarded {
    fn by(breaker: &str) -> Self {
        let cart = Steered::start();
        let front = Front::before(std::slice::from_ref(&cart), &format!("breaker: {breaker}"));
        Self { cart, front }
    }

    /// What the admin listener says of the breaker.
    fn shown(&self) -> serde_json::Value {
        self.front.shown()["resilience"]["breaker"].clone()
    }

    /// Calls until it is open; how many came through before.
    fn open(&self, call: Call) -> usize {
        let mut asked = 0;
        let opened = wait_until(FIVE_SECONDS, || {
            asked += self.front.call(call, 1).iter().filter(|came| came.reason.is_empty()).count();
            self.shown()["state"] == "open"
        });
        assert!(opened.is_some(), "{}", self.shown());
        asked
    }
}

#[test]
fn a_service_that_fails_is_not_asked_and_a_probe_closes_its_breaker() {
    let guarded = Guarded::by("{preset: hystrix, window: 5s, openTime: 2s}");
    for call in Call::ALL {
        guarded.cart.fail(true);
        let asked = guarded.open(call);
        let before = guarded.cart.came();
        let came = guarded.front.call(call, 40);
        let (refused, reached) = (tally(call, &came, "breaker_open").1, guarded.cart.came() - before);
        let slowest = came.iter().filter(|came| !came.reason.is_empty()).map(|came| came.took).max().unwrap();
        // Its time may be over before all are refused: then one of them was a probe.
        assert!(refused as u64 + reached == 40 && reached <= 1, "{call:?}: {refused} refused, {reached} reached it");
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        guarded.cart.fail(false);
        let closed = wait_until(FIVE_SECONDS, || {
            guarded.front.call(call, 1)[0].is_good()
                && wait_until(Duration::from_secs(1), || guarded.shown()["state"] == "closed").is_some()
        });
        figures(format_args!(
            "breaker by {call:?}: open after {asked} requests, {refused} of 40 refused within {slowest:.1?}, closed {:.0?} later",
            closed.unwrap()
        ));
        assert!(guarded.front.call(call, 10).iter().all(Came::is_good));
    }
    assert!(guarded.front.metric("leno_breaker_opened_total{") >= 3.0);
    assert!(guarded.front.metric("leno_breaker_refused_total{") >= 117.0);
    assert_eq!(guarded.front.metric("leno_breaker_state{cluster=\"cart.shop.mesh:80\",state=\"closed\"}"), 1.0);
}

#[test]
fn a_service_that_is_slow_is_not_asked_and_a_slow_probe_leaves_its_breaker_open() {
    let guarded = Guarded::by("{preset: sentinel, slowRatio: 50, slowAfter: 300ms, window: 10s, openTime: 2s}");
    guarded.cart.hold(Duration::from_millis(400));
    guarded.open(Call::Grpc);
    let since = guarded.shown()["sinceMs"].as_u64().unwrap();
    assert!(since < 2_000, "{since} ms");
    let opened_anew = wait_until(FIVE_SECONDS, || {
        guarded.front.call(Call::Http2, 1);
        guarded.shown()["opened"] == 2
    });
    assert!(opened_anew.is_some(), "{}", guarded.shown());
    guarded.cart.hold(Duration::ZERO);
    assert!(wait_until(FIVE_SECONDS, || guarded.front.call(Call::Http1, 1)[0].is_good()).is_some());
    assert!(wait_until(FIVE_SECONDS, || guarded.shown()["state"] == "closed").is_some());
}

#[test]
fn a_breaker_that_is_held_open_refuses_all_and_one_that_is_held_closed_none() {
    let guarded = Guarded::by("{consecutiveErrors: 1, openTime: 1h}");
    let hold = |forced: &str, expected: serde_json::Value| {
        guarded.front.apply(&format!("breaker: {{consecutiveErrors: 1, openTime: 1h, {forced}}}"));
        let is_held = || {
            guarded.front.call(Call::Http1, 1);
            guarded.front.shown()["resilience"]["breaker"]["forced"] == expected
        };
        assert!(wait_until(Duration::from_secs(5), is_held).is_some(), "{}", guarded.front.shown());
    };
    hold("forced: open", "open".into());
    let before = guarded.cart.came();
    for call in Call::ALL {
        let came = guarded.front.call(call, 5);
        assert!(came.iter().all(|came| came.is_refused(call, "breaker_open")), "{call:?}: {came:?}");
    }
    assert_eq!(guarded.cart.came(), before, "nothing was sent");
    assert_eq!(guarded.front.metric("leno_breaker_state{cluster=\"cart.shop.mesh:80\",state=\"open\"}"), 1.0);
    hold("forced: closed", "closed".into());
    guarded.cart.fail(true);
    for call in Call::ALL {
        let came = guarded.front.call(call, 5);
        assert!(came.iter().all(|came| !came.is_good() && came.reason.is_empty()), "{call:?}: {came:?}");
    }
    guarded.cart.fail(false);
    assert!(guarded.front.call(Call::Grpc, 5).iter().all(Came::is_good), "no failure was counted");
}

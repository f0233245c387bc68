//! How policies stand at live proxies, as the server tells it: what reports carry, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::steered::{Call, Front, Steered};
use serde_json::Value;

const TEN_SECONDS: Duration = Duration::from_secs(10);

/// What the server says of the policies of `cart.shop`.
fn told(front: &Front) -> Value {
    front.api().call("GET", "/api/v1/dashboard/services/cart.shop/policies", "").unwrap().1
}

/// The first of its rows that is of this kind, or of this name.
fn row(front: &Front, of: &str) -> Value {
    let told = told(front);
    let mut rows = told["rows"].as_array().unwrap().iter();
    rows.find(|row| row["kind"] == of || row["name"] == of).cloned().unwrap_or_default()
}

#[test]
fn the_server_tells_who_holds_a_breaker_open_and_that_it_closed() {
    let cart = Steered::start();
    let front = Front::before(std::slice::from_ref(&cart), "breaker: {consecutiveErrors: 3, openTime: 3s}");
    for call in Call::ALL {
        cart.fail(true);
        let open = wait_until(TEN_SECONDS, || {
            front.call(call, 2);
            row(&front, "breaker")["states"]["open"] == 1
        });
        let told_open = row(&front, "breaker");
        let holder = &told_open["holders"][0];
        assert!(open.is_some(), "{call:?}: {}", told(&front));
        assert_eq!((&holder["service"], &told_open["at"]), (&"front.shop".into(), &"caller".into()), "{told_open}");
        assert!(holder["since"].as_f64().is_some_and(|since| since < 15.0), "{told_open}");
        cart.fail(false);
        let closed = wait_until(TEN_SECONDS, || {
            front.call(call, 1);
            row(&front, "breaker")["states"]["closed"] == 1
        });
        figures(format_args!(
            "breaker by {call:?}: told open after {:.0?}, closed after {:.0?}",
            open.unwrap(),
            closed.unwrap()
        ));
    }
    let told = told(&front);
    assert_eq!((&told["resources"][0], &told["left_out"]), (&"trafficpolicy/shop/cart".into(), &0.into()));
}

#[test]
fn the_server_tells_of_instances_that_are_out_of_limits_that_refuse_and_of_both_sides() {
    let carts = [Steered::start(), Steered::start()];
    let policy = "loadBalancer: {policy: roundRobin}\n  ejection: {consecutiveErrors: 2, baseTime: 1m}\n  limits: {requests: 500}\n  \
                  rateLimits: [{name: own, at: caller, limit: {requests: 5, per: 1s}}, {name: each, limit: {requests: 10000, per: 1s}}]";
    let front = Front::before(&carts, policy);
    carts[0].fail(true);
    let is_told = || {
        front.call(Call::Http2, 3);
        row(&front, "ejection")["states"]["ejected"] == 1 && row(&front, "own")["rates"]["refused"].as_f64() > Some(0.0)
    };
    assert!(wait_until(TEN_SECONDS, is_told).is_some(), "{}", told(&front));
    let ejected = row(&front, "ejection");
    let holder = &ejected["holders"][0];
    assert_eq!(holder["reason"], "consecutive", "{ejected}");
    assert!(holder["left"].as_f64().is_some_and(|left| (1.0..=60.0).contains(&left)), "{ejected}");
    let (own, each, requests) = (row(&front, "own"), row(&front, "each"), row(&front, "requests"));
    assert_eq!((&own["at"], &own["holders"][0]["max"]), (&"caller".into(), &5.into()));
    assert_eq!((&each["at"], &each["proxies"]), (&"service".into(), &2.into()));
    assert_eq!((&requests["kind"], &requests["holders"][0]["max"]), (&"limit".into(), &500.into()));
}

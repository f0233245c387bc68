//! Limits on connections to a destination on a live proxy: how many are open, who waits for one, who is refused, and that none
//! is kept where another is needed, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::steered::{Call, Front, Steered, tally};

const FIVE_SECONDS: Duration = Duration::from_secs(5);
/// A lone connection of HTTP/1 carries one request at a time, one of HTTP/2 all of them.
const SHARED: [Call; 2] = [Call::Http2, Call::Grpc];

fn shown(front: &Front) -> serde_json::Value {
    front.shown()["resilience"]["limits"]["connections"].clone()
}

#[test]
fn requests_wait_for_one_of_few_connections_and_those_without_a_place_are_refused() {
    let cart = Steered::start();
    let front = Front::before(std::slice::from_ref(&cart), "limits: {connections: 2, pending: 3}");
    cart.hold(Duration::from_millis(400));
    cart.open_max();
    let came = front.call(Call::Http1, 12);
    let (good, refused) = tally(Call::Http1, &came, "request_overflow");
    let open = cart.open_max();
    figures(format_args!(
        "2 connections, 3 that wait, 12 at once: {good} good, {refused} refused, {open} open at once"
    ));
    assert_eq!((good, refused, open), (5, 7, 2), "{came:?}");
    assert_eq!((&shown(&front)["max"], &shown(&front)["refused"]), (&2.into(), &7.into()));
    front.apply("limits: {connections: 2}");
    assert!(wait_until(FIVE_SECONDS, || shown(&front)["waitingMax"] == 1024).is_some());
    cart.hold(Duration::from_millis(100));
    let came = front.call(Call::Http1, 12);
    assert!(came.iter().all(|came| came.is_good()) && cart.open_max() <= 2, "{came:?}");
}

#[test]
fn one_connection_of_http_2_carries_what_is_asked_at_once() {
    let cart = Steered::start();
    let front = Front::before(std::slice::from_ref(&cart), "limits: {connections: 1, pending: 0}");
    cart.hold(Duration::from_millis(300));
    for call in SHARED {
        cart.open_max();
        // What was asked over HTTP/1 before may hold the room until it is closed.
        let all_are_good = || front.call(call, 8).iter().all(|came| came.is_good());
        assert!(wait_until(FIVE_SECONDS, all_are_good).is_some(), "{}", front.shown());
        assert_eq!((cart.open_max(), &shown(&front)["open"]), (8, &1.into()));
    }
}

#[test]
fn an_idle_connection_gives_way_to_one_that_is_needed() {
    let carts = [Steered::start(), Steered::start()];
    let front = Front::before(&carts, "limits: {connections: 1}\n  loadBalancer: {policy: roundRobin}");
    let before: Vec<u64> = carts.iter().map(Steered::came).collect();
    for call in [Call::Http1, Call::Http2, Call::Http1, Call::Grpc] {
        let came: Vec<_> = (0..4).flat_map(|_| front.call(call, 1)).collect();
        assert!(came.iter().all(|came| came.is_good()), "{call:?}: {came:?} {}", front.shown());
        assert_eq!(shown(&front)["open"], 1, "{call:?}: {}", front.shown());
    }
    let met: Vec<u64> = carts.iter().zip(before).map(|(cart, before)| cart.came() - before).collect();
    figures(format_args!("1 connection for two instances: {met:?} calls met them"));
    assert!(met.iter().all(|met| *met >= 4), "{met:?}");
}

//! Deadlines on live proxies: what is left reaches whoever is asked next, shrinks on the way, ends what nobody waits for,
//! and has nothing sent on that would come too late, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::scripted::{Ask, Asked, Scripted, Told, front};
use kit::steered::Call;

const TEN_SECONDS: Duration = Duration::from_secs(10);
const LEFT: &str = "x-envoy-expected-rq-timeout-ms";

/// What the application was told that is left, in milliseconds: by the field of HTTP, and to a call of gRPC by its own.
fn left(asked: &Asked) -> (Option<u64>, Option<u64>) {
    let of_grpc = asked.field("grpc-timeout").and_then(|value| leno_http::grpc::parse_timeout(value.as_bytes()));
    (asked.field(LEFT).map(|value| value.parse().unwrap()), of_grpc.map(|left| left.as_millis() as u64))
}

/// What a caller says.
fn within(ask: Ask, ms: u64) -> Ask {
    match ask.call {
        Call::Grpc => ask.with("grpc-timeout", &format!("{ms}m")),
        _ => ask.with(LEFT, &ms.to_string()),
    }
}

#[test]
fn what_is_left_reaches_the_application_and_shrinks_with_each_try() {
    let cart = Scripted::start(|asked| match asked.before {
        0 if asked.path != "/" => Told::unavailable().after(Duration::from_millis(300)),
        _ => Told::ok(),
    });
    let policy = "requestTimeout: 5s\n  retry: {on: [gateway-error, unavailable]}\n  retryBudget: {percent: 100}";
    let front = front(std::slice::from_ref(&cart), policy);
    for call in Call::ALL {
        let path = format!("/shop.Cart/{call:?}");
        assert!(Ask::get(call, &path).one(front.outbound()).is_good());
        let told: Vec<_> = cart.asked_for(&path).iter().map(left).collect();
        figures(format_args!("5 s for a request by {call:?}, two tries: its application hears {told:?} ms"));
        let [(Some(first), first_grpc), (Some(second), second_grpc)] = told[..] else { panic!("{told:?}") };
        assert!(first > 2_000 && first <= 5_000 && second + 300 <= first, "{told:?}");
        let by_grpc = first_grpc.zip(second_grpc).map(|(first, second)| first <= 5_000 && second + 300 <= first);
        assert_eq!(by_grpc, (call == Call::Grpc).then_some(true), "{told:?}");
    }
}

#[test]
fn a_callers_deadline_counts_where_it_is_the_earlier_one() {
    let cart = Scripted::start(|_| Told::ok());
    let front = front(std::slice::from_ref(&cart), "requestTimeout: 30s");
    for call in Call::ALL {
        // What an application says that passes on what it was told, or has a deadline of its own.
        for (said, most) in [(9_000, 9_000), (90_000, 30_000)] {
            let ask = within(Ask::get(call, &format!("/{call:?}/{said}")), said);
            assert!(ask.one(front.outbound()).is_good());
            let heard = left(&cart.asked_for(&ask.path)[0]).0.unwrap();
            assert!(heard <= most && heard + 5_000 > most, "{heard} of {most} ms are left");
        }
    }
}

#[test]
fn what_came_too_late_is_not_sent_on() {
    let cart = Scripted::start(|_| Told::ok());
    let front = front(std::slice::from_ref(&cart), "requestTimeout: 30s");
    for call in Call::ALL {
        let late = within(Ask::get(call, "/late"), 0).one(front.outbound());
        assert!(late.is_late(call, "request_timeout"), "{late:?}");
    }
    assert_eq!(cart.count("/late"), 0);
}

#[test]
fn an_application_is_left_when_nobody_waits_for_it_any_more() {
    let cart = Scripted::start(|asked| match asked.path.as_str() {
        "/" => Told::ok(),
        _ => Told::ok().after(TEN_SECONDS),
    });
    let front = front(std::slice::from_ref(&cart), "connectTimeout: 5s");
    for call in Call::ALL {
        let ask = within(Ask::get(call, &format!("/slow/{call:?}")), 400);
        let late = ask.one(front.outbound());
        assert!(late.is_late(call, "request_timeout"), "{late:?}");
        assert!(late.took >= Duration::from_millis(400) && late.took < Duration::from_secs(4), "{late:?}");
        let is_left = || cart.asked_for(&ask.path)[0].was_left;
        let after = wait_until(Duration::from_secs(5), is_left);
        figures(format_args!(
            "400 ms for a request by {call:?}: its caller heard after {:.0?}, its application was left {after:?} later",
            late.took
        ));
        assert!(after.is_some(), "the application works on");
    }
}

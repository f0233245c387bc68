//! Fallbacks on live proxies: a written answer or another service stands in where a service gives no answer that is any
//! good, and the service stays as bad as it is, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::mesh::wait_until;
use kit::scripted::{Ask, Got, Scripted, Told, front};
use kit::steered::{Call, Front};
use leno_http::grpc::Code;

const TEN_SECONDS: Duration = Duration::from_secs(10);
const REPLY: &str = "reply: {status: 200, contentType: application/json, headers: [{name: x-kept, value: 'yes'}], \
                     body: '[]'}, grpcStatus: RESOURCE_EXHAUSTED";

fn path(call: Call, what: &str) -> String {
    format!("/shop.Cart/{call:?}{what}")
}

/// Whether the written answer came, for this reason.
fn is_reply(call: Call, got: &Got, reason: &str) -> bool {
    let told = (got.field("x-leno-fallback"), got.field("x-kept"), got.reason.as_str());
    let (status, body) = match call {
        Call::Grpc => (Some(Code::ResourceExhausted as u8), &b""[..]),
        Call::Http1 | Call::Http2 => (None, &b"[]"[..]),
    };
    (got.status, got.grpc_status, &*got.body) == (200, status, body) && told == (Some("reply"), Some("yes"), reason)
}

/// Answers as the path says.
fn cart() -> Scripted {
    Scripted::start(|asked| match asked.path.rsplit_once('-').map(|(_, what)| what) {
        Some("bad") => Told::unavailable(),
        Some("lost") => Told { status: 404, ..Told::grpc(Code::NotFound) },
        Some("late") => Told { message: true, ..Told::grpc(Code::Unavailable) },
        Some("slow") => Told::ok().after(Duration::from_secs(10)),
        _ => Told::ok(),
    })
}

fn count(front: &Front, by: &str) -> f64 {
    front.metric(&format!("leno_fallback_answers_total{{cluster=\"cart.shop.mesh:80\",by=\"{by}\"}}"))
}

#[test]
fn a_written_answer_stands_in_for_what_failed_and_for_nothing_else() {
    let cart = cart();
    let front = front(std::slice::from_ref(&cart), &format!("requestTimeout: 3s\n  fallback: {{{REPLY}}}"));
    for call in Call::ALL {
        let ask = |what: &str| Ask::get(call, &path(call, what)).one(front.outbound());
        let (bad, slow) = (ask("-bad"), ask("-slow"));
        assert!(is_reply(call, &bad, "answer_unwanted"), "{call:?}: {bad:?}");
        // The proxy beside the instance knows how much time is left, too, and may be the first to say that it is over.
        let is_late = ["request_timeout", "answer_unwanted"].iter().any(|reason| is_reply(call, &slow, reason));
        assert!(is_late, "{call:?}: {slow:?}");
        let (good, lost, late) = (ask("-good"), ask("-lost"), ask("-late"));
        assert!(good.is_good() && good.field("x-leno-fallback").is_none(), "{call:?}: {good:?}");
        let expected = if call == Call::Grpc { (200, Some(Code::NotFound as u8)) } else { (404, None) };
        assert_eq!((lost.status, lost.grpc_status), expected, "{call:?}: what is not there has not failed");
        assert!(late.field("x-leno-fallback").is_none(), "{call:?}: its answer had begun");
    }
    assert_eq!((count(&front, "reply"), count(&front, "nothing")), (6.0, 0.0));
    assert_eq!(front.shown()["resilience"]["fallback"]["reply"], 6);
}

#[test]
fn a_service_whose_answers_are_replaced_opens_its_breaker_all_the_same() {
    let cart = cart();
    let policy = format!("breaker: {{consecutiveErrors: 3, openTime: 1h}}\n  fallback: {{{REPLY}}}");
    let front = front(std::slice::from_ref(&cart), &policy);
    let bad = Ask::get(Call::Http1, "/-bad");
    for _ in 0..3 {
        assert!(is_reply(Call::Http1, &bad.one(front.outbound()), "answer_unwanted"));
    }
    let is_open = || is_reply(Call::Http1, &bad.one(front.outbound()), "breaker_open");
    assert!(wait_until(TEN_SECONDS, is_open).is_some(), "{}", front.shown());
    let asked = cart.asked().len();
    for call in Call::ALL {
        let got = Ask::post(call, &path(call, "-open")).many(front.outbound(), 10);
        assert!(got.iter().all(|got| is_reply(call, got, "breaker_open")), "{call:?}: {got:?}");
    }
    assert_eq!(cart.asked().len(), asked, "nobody was asked");
}

#[test]
fn what_is_refused_hears_the_written_answer_and_what_has_failed_does_not_where_the_policy_says_so() {
    let cart = cart();
    let refused = format!("fallback: {{on: [refused], {REPLY}}}");
    for (limit, reason) in [
        (
            "rateLimits: [{name: none, at: caller, matches: [{path: {value: /shop.Cart}}], limit: {requests: 1, per: 1h}}]",
            "rate_limited",
        ),
        (
            "rateLimits: [{name: none, at: service, matches: [{path: {value: /shop.Cart}}], limit: {requests: 1, per: 1h}}]",
            "answer_unwanted",
        ),
    ] {
        let front = front(std::slice::from_ref(&cart), &format!("{limit}\n  {refused}"));
        let first = Ask::get(Call::Http1, &path(Call::Http1, "-first"));
        let is_used_up = || is_reply(Call::Http1, &first.one(front.outbound()), reason);
        assert!(wait_until(TEN_SECONDS, is_used_up).is_some(), "{reason}");
        for call in Call::ALL {
            let got = Ask::get(call, &path(call, "-refused")).one(front.outbound());
            assert!(is_reply(call, &got, reason), "{call:?}: {got:?}");
        }
        let failed = Ask::get(Call::Http1, "/-bad").one(front.outbound());
        assert_eq!((failed.status, failed.field("x-leno-fallback")), (503, None), "{failed:?}");
    }
}

#[test]
fn another_service_is_asked_once_with_the_whole_request_and_then_the_written_answer_stands_in() {
    let cart = cart();
    let retried = "retry: {on: [5xx, unavailable], attempts: 2, methods: [POST], backoff: 0s}\n  \
                   retryBudget: {percent: 100, minPerSecond: 1000}";
    let mut front =
        front(std::slice::from_ref(&cart), &format!("{retried}\n  fallback: {{service: {{name: spare}}, {REPLY}}}"));
    let spare = Scripted::start(|asked| if asked.path.contains("both") { Told::unavailable() } else { Told::ok() });
    front.beside("spare.shop", spare.address);
    let is_known = || {
        let got = Ask::post(Call::Http1, "/known-bad").one(front.outbound());
        got.is_good() && got.field("x-leno-fallback") == Some("service")
    };
    assert!(wait_until(TEN_SECONDS, is_known).is_some(), "{}", front.shown());
    for call in Call::ALL {
        let (bad, both) = (path(call, "-bad"), path(call, "both-bad"));
        let got = Ask::post(call, &bad).one(front.outbound());
        assert!(got.is_good() && got.field("x-leno-fallback") == Some("service"), "{call:?}: {got:?}");
        assert_eq!((cart.count(&bad), spare.count(&bad)), (3, 1), "{call:?}: retries first, and one fallback");
        let length = spare.asked_for(&bad)[0].field("content-length").map(str::to_owned);
        assert!(length.is_none_or(|length| length == "5"), "{call:?}: its body came too");
        let got = Ask::post(call, &both).one(front.outbound());
        assert!(is_reply(call, &got, "answer_unwanted"), "{call:?}: {got:?}");
        assert_eq!(spare.count(&both), 1, "{call:?}: no retries of a fallback");
    }
    assert!(count(&front, "service") >= 4.0 && count(&front, "reply") >= 3.0, "{}", front.shown());
}

#[test]
fn a_fallback_without_an_answer_leaves_what_had_gone_wrong() {
    let cart = cart();
    let front = front(std::slice::from_ref(&cart), "fallback: {service: {name: nobody}}");
    for call in Call::ALL {
        let got = Ask::post(call, &path(call, "-bad")).one(front.outbound());
        let expected = if call == Call::Grpc { (200, Some(Code::Unavailable as u8)) } else { (503, None) };
        assert_eq!((got.status, got.grpc_status), expected, "{got:?}");
        assert_eq!(got.field("x-leno-fallback"), None);
    }
    assert_eq!(count(&front, "nothing"), 3.0);
}

//! Retries on live proxies: after what, of which methods, where to, how long after, and how many at most, over HTTP/1,
//! HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::scripted::{Ask, Scripted, Told, front};
use kit::steered::{Call, Front};
use leno_http::grpc::Code;

const HTTP: [Call; 2] = [Call::Http1, Call::Http2];
const TEN_SECONDS: Duration = Duration::from_secs(10);
/// Each request may be tried again.
const WIDE: &str = "retryBudget: {percent: 100, minPerSecond: 1000}";

/// Asks a path of its own, and says whether the answer was good and how often the application was asked.
fn asked(front: &Front, cart: &Scripted, ask: &Ask) -> (bool, usize) {
    let got = ask.one(front.outbound());
    (got.is_good(), cart.count(&ask.path))
}

/// Answers the first request of a path so, and every other one well.
fn first(told: impl Fn(&str) -> Told + Send + 'static) -> Scripted {
    Scripted::start(move |asked| if asked.before == 0 && asked.path != "/" { told(&asked.path) } else { Told::ok() })
}

#[test]
fn what_is_safe_is_tried_again_and_a_post_only_where_the_policy_names_it() {
    let cart = first(|_| Told::status(503));
    let front = front(std::slice::from_ref(&cart), &format!("retry: {{on: [gateway-error]}}\n  {WIDE}"));
    for call in HTTP {
        assert_eq!(asked(&front, &cart, &Ask::get(call, &format!("/get/{call:?}"))), (true, 2));
        assert_eq!(asked(&front, &cart, &Ask::post(call, &format!("/post/{call:?}"))), (false, 1));
    }
    front.apply(&format!("retry: {{on: [gateway-error], methods: [POST]}}\n  {WIDE}"));
    let is_in_force = || asked(&front, &cart, &Ask::post(Call::Http1, &fresh("/post"))) == (true, 2);
    assert!(wait_until(TEN_SECONDS, is_in_force).is_some());
    assert_eq!(asked(&front, &cart, &Ask::post(Call::Http2, "/post/again")), (true, 2));
    assert_eq!(asked(&front, &cart, &Ask::get(Call::Http2, "/get/again")), (false, 1), "only those that are named");
}

#[test]
fn a_call_of_grpc_is_tried_again_after_the_statuses_that_are_named() {
    let cart = first(|path| match path {
        "/shop.Cart/Exhausted" => Told::grpc(Code::ResourceExhausted),
        "/shop.Cart/Unavailable" => Told::grpc(Code::Unavailable),
        "/shop.Cart/Internal" => Told::grpc(Code::Internal),
        _ => Told { message: true, ..Told::grpc(Code::Unavailable) },
    });
    let policy = format!("retry: {{on: [unavailable, resource-exhausted]}}\n  {WIDE}");
    let front = front(std::slice::from_ref(&cart), &policy);
    let call = |method: &str| asked(&front, &cart, &Ask::get(Call::Grpc, &format!("/shop.Cart/{method}")));
    assert_eq!(call("Exhausted"), (true, 2));
    assert_eq!(call("Unavailable"), (true, 2));
    assert_eq!(call("Internal"), (false, 1), "it is not named");
    assert_eq!(call("Begun"), (false, 1), "it has got a message");
}

#[test]
fn a_try_that_takes_too_long_is_given_up_and_goes_to_another_instance() {
    let slow = Scripted::start(|asked| match asked.path.as_str() {
        "/" => Told::ok(),
        _ => Told::ok().after(TEN_SECONDS),
    });
    let carts = [slow, Scripted::start(|_| Told::ok())];
    let policy = format!(
        "loadBalancer: {{policy: roundRobin}}\n  retry: {{on: [reset, deadline-exceeded], tryTimeout: 300ms}}\n  {WIDE}"
    );
    let front = front(&carts, &policy);
    for call in Call::ALL {
        let path = format!("/{call:?}");
        let got = Ask::get(call, &path).many(front.outbound(), 8);
        let slowest = got.iter().map(|got| got.took).max().unwrap();
        let met = carts.each_ref().map(|cart| cart.count(&path));
        figures(format_args!(
            "tries of 300 ms by {call:?}: 8 calls, {met:?} tries of a slow and a fast instance, {slowest:.0?} at most"
        ));
        assert!(got.iter().all(|got| got.is_good()), "{got:?}");
        assert!(met[0] > 0 && met[1] == 8, "{met:?}");
        assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    }
    let late = Ask::post(Call::Http2, "/unsafe").many(front.outbound(), 8);
    let late = late.iter().filter(|got| got.is_late(Call::Http2, "try_timeout")).count();
    assert!(late > 0 && late == carts[0].count("/unsafe"), "a POST is not sent again: {late}");
}

#[test]
fn an_answer_that_says_when_to_come_again_is_asked_then_and_one_that_asks_for_too_much_is_passed_on() {
    let cart = first(|path| {
        let after = if path.starts_with("/soon") { "1" } else { "60" };
        Told::unavailable().with("retry-after", after)
    });
    let policy = format!("retry: {{on: [gateway-error, unavailable], maxRetryAfter: 2s}}\n  {WIDE}");
    let front = front(std::slice::from_ref(&cart), &policy);
    for call in Call::ALL {
        let soon = Ask::get(call, &format!("/soon/{call:?}"));
        assert_eq!(asked(&front, &cart, &soon), (true, 2));
        let came: Vec<_> = cart.asked_for(&soon.path).iter().map(|asked| asked.at).collect();
        let waited = came[1] - came[0];
        figures(format_args!("Retry-After of 1 s by {call:?}: asked again after {waited:.2?}"));
        assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&waited), "{waited:?}");
        assert_eq!(asked(&front, &cart, &Ask::get(call, &format!("/late/{call:?}"))), (false, 1));
    }
}

#[test]
fn a_retry_goes_to_another_instance_as_far_as_the_budget_that_is_set_has_it() {
    let bad = Scripted::start(|asked| if asked.path == "/" { Told::ok() } else { Told::unavailable() });
    let carts = [bad, Scripted::start(|_| Told::ok())];
    let policy = |budget| {
        let retry = "retry: {on: [gateway-error, unavailable], backoff: 0s}";
        format!("loadBalancer: {{policy: roundRobin}}\n  {retry}\n  retryBudget: {budget}")
    };
    let front = front(&carts, &policy("{percent: 100}"));
    for call in Call::ALL {
        let got = Ask::get(call, &format!("/all/{call:?}")).many(front.outbound(), 20);
        assert!(got.iter().all(|got| got.is_good()), "{got:?}");
    }
    assert!(carts[0].asked().len() > 20, "half of them met it first");
    front.apply(&policy("{percent: 0, minPerSecond: 0}"));
    let shown = || front.shown()["resilience"]["retryBudget"].clone();
    assert!(wait_until(TEN_SECONDS, || shown()["percent"] == 0).is_some(), "{}", shown());
    for call in Call::ALL {
        let got = Ask::get(call, &format!("/none/{call:?}")).many(front.outbound(), 20);
        assert_eq!(got.iter().filter(|got| got.is_good()).count(), 10, "{got:?}");
    }
    assert_eq!((&shown()["left"], &shown()["refused"]), (&0.into(), &30.into()));
    assert_eq!(front.metric("leno_retry_budget_refused_total{cluster=\"cart.shop.mesh:80\"}"), 30.0);
}

#[test]
fn no_more_retries_are_open_than_the_limit_says() {
    let bad = Scripted::start(|asked| if asked.path == "/" { Told::ok() } else { Told::unavailable() });
    let retry = "retry: {on: [gateway-error, unavailable], attempts: 1, backoff: 2s, maxBackoff: 2s}";
    let front = front(std::slice::from_ref(&bad), &format!("limits: {{retries: 2}}\n  {retry}\n  {WIDE}"));
    for (round, call) in Call::ALL.into_iter().enumerate() {
        let path = format!("/{call:?}");
        let got = Ask::get(call, &path).many(front.outbound(), 10);
        assert!(got.iter().all(|got| !got.is_good() && got.reason.is_empty()), "{got:?}");
        assert_eq!(bad.count(&path), 12, "{call:?}: two of ten wait at a time");
        let refused = &front.shown()["resilience"]["limits"]["retries"]["refused"];
        assert_eq!(*refused, 8 * (round + 1), "{call:?}: the others are not tried again");
    }
}

#[test]
fn with_every_instance_failing_load_is_at_most_a_fifth_above_what_is_offered() {
    let failing = || Scripted::start(|asked| if asked.path == "/" { Told::ok() } else { Told::unavailable() });
    let carts = [failing(), failing(), failing()];
    let front = front(&carts, "retry: {on: [gateway-error, unavailable], attempts: 5, backoff: 10ms}");
    // A warm budget: what was offered while all was well counts for ten seconds, and is not to be spent below.
    front.apply("retry: {on: [gateway-error, unavailable], attempts: 5, backoff: 10ms}\n  retryBudget: {window: 9s}");
    let shown = || front.shown()["resilience"]["retryBudget"].clone();
    assert!(wait_until(TEN_SECONDS, || shown()["windowSeconds"] == 9).is_some());
    let (to, each, pace) = (front.outbound(), 300, Duration::from_millis(12));
    let got: Vec<_> = std::thread::scope(|scope| {
        let offer = |call| scope.spawn(move || Ask::get(call, "/fails").paced(to, each, pace));
        let running: Vec<_> = Call::ALL.into_iter().map(offer).collect();
        running.into_iter().flat_map(|running| running.join().unwrap()).collect()
    });
    assert!(got.iter().all(|got| !got.is_good() && got.reason.is_empty()), "{got:?}");
    let (offered, came) = (got.len(), carts.iter().map(|cart| cart.count("/fails")).sum::<usize>());
    let shown = shown();
    figures(format_args!(
        "every instance fails, up to 5 retries asked for: {offered} offered, {came} came, {:.3} times; {shown}",
        came as f64 / offered as f64
    ));
    assert!(came * 10 >= offered * 11, "there are retries: {came} of {offered}");
    // Two workers may find the last of the share at once.
    assert!(came <= offered * 6 / 5 + 2, "{came} of {offered}: {shown}");
}

/// A path that nobody has asked for.
fn fresh(start: &str) -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{start}/{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

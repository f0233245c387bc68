//! Hedging on live proxies: who waits too long is answered by another instance, the loser is let go, unsafe requests are sent
//! once, and hedges stay within the budget, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::scripted::{Ask, Scripted, Told, front};
use kit::steered::Call;

const TEN_SECONDS: Duration = Duration::from_secs(10);
/// Each request may be hedged.
const WIDE: &str = "retryBudget: {percent: 100, minPerSecond: 1000}\n  loadBalancer: {policy: roundRobin}";

/// Answers well, after so long where it is not asked for `/`.
fn holding(hold: Duration) -> Scripted {
    Scripted::start(move |asked| if asked.path == "/" { Told::ok() } else { Told::ok().after(hold) })
}

#[test]
fn another_instance_answers_for_a_slow_one_which_is_let_go() {
    let carts = [holding(TEN_SECONDS), holding(Duration::ZERO)];
    let front = front(&carts, &format!("hedge: {{delay: 200ms, methods: [GET, POST]}}\n  {WIDE}"));
    for call in Call::ALL {
        let path = format!("/{call:?}");
        for ask in [Ask::get(call, &path), Ask::post(call, &path)] {
            let got = ask.many(front.outbound(), 6);
            assert!(got.iter().all(|got| got.is_good()), "{got:?}");
            let slowest = got.iter().map(|got| got.took).max().unwrap();
            assert!(slowest < Duration::from_secs(3), "{slowest:?}");
        }
        let slow = || carts[0].asked_for(&path);
        let all_left = wait_until(Duration::from_secs(5), || slow().iter().all(|asked| asked.was_left));
        let (met, answered) = (slow().len(), carts[1].count(&path));
        figures(format_args!(
            "hedged after 200 ms by {call:?}: 12 calls, {met} met the slow instance, which was left {all_left:.0?} later"
        ));
        assert!(all_left.is_some() && met > 0, "{:?}", slow());
        assert_eq!(answered, 12);
    }
    let (sent, first) = (front.metric("leno_hedges_total"), front.metric("leno_hedges_answered_total"));
    assert!(first > 0.0 && first <= sent, "{first} of {sent}");
    let shown = front.shown()["resilience"]["hedges"].clone();
    assert_eq!((shown["sent"].as_f64(), shown["answered"].as_f64()), (Some(sent), Some(first)));
}

#[test]
fn what_is_unsafe_is_sent_once_unless_its_method_is_named() {
    let carts = [holding(Duration::from_millis(600)), holding(Duration::from_millis(600))];
    let front = front(&carts, &format!("hedge: {{delay: 50ms}}\n  {WIDE}"));
    let count = |path: &str| carts.iter().map(|cart| cart.count(path)).sum::<usize>();
    for call in Call::ALL {
        let path = format!("/once/{call:?}");
        assert!(Ask::post(call, &path).many(front.outbound(), 3).iter().all(|got| got.is_good()));
        assert_eq!(count(&path), 3, "{call:?}");
    }
    assert!(Ask::get(Call::Http2, "/twice").many(front.outbound(), 3).iter().all(|got| got.is_good()));
    assert_eq!(count("/twice"), 6);
}

#[test]
fn a_failure_does_not_win_and_has_the_next_instance_asked_at_once() {
    let bad = Scripted::start(|asked| if asked.path == "/" { Told::ok() } else { Told::unavailable() });
    let carts = [bad, holding(Duration::ZERO)];
    let retry = "retry: {on: [gateway-error, unavailable], attempts: 0}";
    let front = front(&carts, &format!("hedge: {{delay: 20s, methods: [GET, POST]}}\n  {retry}\n  {WIDE}"));
    for call in Call::ALL {
        let got = Ask::get(call, &format!("/{call:?}")).many(front.outbound(), 6);
        let slowest = got.iter().map(|got| got.took).max().unwrap();
        assert!(got.iter().all(|got| got.is_good()) && slowest < TEN_SECONDS, "{got:?}");
        assert!(carts[0].count(&format!("/{call:?}")) > 0, "nobody met it");
    }
}

#[test]
fn when_every_instance_is_slow_hedges_are_a_fifth_of_what_is_offered_at_most() {
    let carts = [holding(Duration::from_millis(300)), holding(Duration::from_millis(300))];
    let front = front(&carts, "hedge: {delay: 30ms, attempts: 4, methods: [GET, POST]}\n  retryBudget: {window: 9s}");
    let (to, each, pace) = (front.outbound(), 200, Duration::from_millis(15));
    let got: Vec<_> = std::thread::scope(|scope| {
        let offer = |call| scope.spawn(move || Ask::get(call, "/slow").paced(to, each, pace));
        let running: Vec<_> = Call::ALL.into_iter().map(offer).collect();
        running.into_iter().flat_map(|running| running.join().unwrap()).collect()
    });
    assert!(got.iter().all(|got| got.is_good()), "{got:?}");
    let (offered, came) = (got.len(), carts.iter().map(|cart| cart.count("/slow")).sum::<usize>());
    figures(format_args!(
        "every instance is slow, hedged: {offered} offered, {came} came, {:.3} times",
        came as f64 / offered as f64
    ));
    assert!(came * 10 >= offered * 11, "there are hedges: {came} of {offered}");
    // Two that asked while the proxy became warm, and two workers that find the last of the share at once.
    assert!(came <= offered * 6 / 5 + 4, "{came} of {offered}: {}", front.shown());
}

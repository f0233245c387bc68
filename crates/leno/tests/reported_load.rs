//! Weighted round robin on a live proxy: instances that say how busy they are get requests accordingly, over HTTP/1, HTTP/2 and
//! gRPC, until they say it no more.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use kit::figures;
use kit::mesh::wait_until;
use kit::scripted::{Ask, Asked, Got, Scripted, Told, front};
use kit::steered::{Call, Front};

const SOON: Duration = Duration::from_secs(20);
const CALLS: usize = 90;
const POLICY: &str =
    "loadBalancer: {policy: weightedRoundRobin, loadReports: {blackout: 0s, expiration: 2s, update: 100ms}}";

/// `{cpu_utilization: 0.8, rps_fractional: 100}` and the same with 0.4, as gRPC's libraries say it in trailers.
const BINARY: [&str; 2] = ["CZqZmZmZmek/MQAAAAAAAFlA", "CZqZmZmZmdk/MQAAAAAAAFlA"];

/// An instance that serves 100 requests a second, as it says, and is so busy; 0 says nothing.
fn cart(percent: Arc<AtomicU32>) -> Scripted {
    Scripted::start(move |asked: &Asked| {
        let percent = percent.load(SeqCst);
        let utilization = f64::from(percent) / 100.0;
        match (&*asked.path, percent) {
            (_, 0) => Told::ok(),
            ("/grpc", _) => Told::ok().with_trailer("endpoint-load-metrics-bin", BINARY[usize::from(percent < 80)]),
            ("/json", _) => {
                let json = format!("JSON {{\"cpu_utilization\": {utilization}, \"rps_fractional\": 100}}");
                Told::ok().with("endpoint-load-metrics", &json)
            }
            _ => {
                let text = format!("TEXT cpu_utilization={utilization}, rps_fractional=100, named_metrics.a=1");
                Told::ok().with("endpoint-load-metrics", &text)
            }
        }
    })
}

fn ask(call: Call) -> Ask {
    let path = match call {
        Call::Http1 => "/text",
        Call::Http2 => "/json",
        Call::Grpc => "/grpc",
    };
    Ask::get(call, path)
}

/// How many of the calls the first instance gets.
fn share(front: &Front, call: Call, carts: &[Scripted]) -> usize {
    let ask = ask(call);
    let before = carts[0].count(&ask.path);
    for _ in 0..CALLS / 10 {
        assert!(ask.many(front.outbound(), 10).iter().all(Got::is_good), "{call:?}");
    }
    carts[0].count(&ask.path) - before
}

#[test]
fn who_says_it_is_twice_as_busy_gets_half_the_requests_until_nobody_says_anything() {
    let busy = [80, 40].map(|percent| Arc::new(AtomicU32::new(percent)));
    let carts: Vec<Scripted> = busy.iter().map(|busy| cart(busy.clone())).collect();
    let front = front(&carts, POLICY);
    assert_eq!(front.shown()["balance"], "weightedRoundRobin");
    let mut heeded = 0.0;
    for call in Call::ALL {
        [80, 40].iter().zip(&busy).for_each(|(percent, busy)| busy.store(*percent, SeqCst));
        let mut got = 0;
        let is_a_third = || {
            got = share(&front, call, &carts);
            got.abs_diff(CALLS / 3) <= 3
        };
        assert!(wait_until(SOON, is_a_third).is_some(), "{call:?}: {got} of {CALLS}: {}", front.shown());
        let heeded_now = front.metric("leno_load_reports_total{cluster=\"cart.shop.mesh:80\",result=\"heeded\"}");
        assert!(heeded_now > heeded, "{call:?}: reports come by this call too");
        heeded = heeded_now;
        let reported = front.shown()["endpoints"].clone();
        let mut weights: Vec<u64> =
            (0..2).map(|at| reported[at]["reported"]["weight"].as_f64().unwrap().round() as u64).collect();
        weights.sort_unstable();
        assert_eq!(weights, [125, 250], "{call:?}: {reported}");
        busy.iter().for_each(|busy| busy.store(0, SeqCst));
        let mut equal = 0;
        let is_half = || {
            equal = share(&front, call, &carts);
            equal.abs_diff(CALLS / 2) <= 3
        };
        let took = wait_until(SOON, is_half);
        assert!(took.is_some(), "{call:?}: {equal} of {CALLS}: {}", front.shown());
        figures(format_args!("reported load by {call:?}: {got} of {CALLS}, {equal} when none was said for {took:?}"));
    }
}

#[test]
fn what_is_no_report_is_counted_and_changes_nothing() {
    let busy = Arc::new(AtomicU32::new(40));
    let says = |said: &'static str| Scripted::start(move |_| Told::ok().with("endpoint-load-metrics", said));
    let carts = [cart(busy), says("TEXT cpu_utilization=a lot"), says("TEXT cpu_utilization=-1, rps_fractional=1e400")];
    let front = front(&carts, POLICY);
    let ignored = "leno_load_reports_total{cluster=\"cart.shop.mesh:80\",result=\"ignored\"}";
    assert!(wait_until(SOON, || front.metric(ignored) >= 2.0).is_some(), "{}", front.shown());
    for call in Call::ALL {
        let got = share(&front, call, &carts);
        assert!(got.abs_diff(CALLS / 3) <= 3, "{call:?}: one that reports is the mean: {got} of {CALLS}");
    }
}

//! What goes wrong on purpose on live proxies: who waits, who is answered by the proxy, whose answer comes slowly, how many at
//! once, and that it counts against nobody, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use kit::mesh::wait_until;
use kit::steered::{Call, Came, Front, Steered};
use kit::{figures, shared};

/// Whoever fails once is left out, and a service that fails once is not asked.
const STRICT: &str = "ejection: {consecutiveErrors: 1, maxShare: 100}\n  breaker: {consecutiveErrors: 1}";

/// A service of one instance behind a caller's proxy. Tests take it in turn.
struct Drilled {
    cart: Steered,
    front: Front,
}

static DRILLED: Mutex<Weak<Mutex<Drilled>>> = Mutex::new(Weak::new());

// === impl Drilled ===

impl Drilled {
    fn start() -> Self {
        let cart = Steered::start();
        let front = Front::before(std::slice::from_ref(&cart), STRICT);
        Self { cart, front }
    }

    /// Has this go wrong, and nothing else, before the test goes on; the name tells it from what did before.
    fn inject(&self, name: &str, fault: &str, more: &str) {
        let policy = format!(
            "apiVersion: leno.mesh/v1\nkind: FaultPolicy\nmetadata: {{name: drill, namespace: shop}}\n\
             spec:\n  targetRefs: [{{name: cart}}]\n  faults: [{{name: {name}, {fault}}}]\n{more}"
        );
        self.front.put("faults.yaml", &policy);
        let is_there = || self.shown()["fault"] == name;
        assert!(wait_until(Duration::from_secs(5), is_there).is_some(), "{}", self.shown());
    }

    /// Requests that ended with a flag.
    fn flagged(&self, flag: &str) -> f64 {
        let (label, metrics) = (format!("response_flags=\"{flag}\""), self.front.metrics());
        let lines = metrics.lines().filter(|line| line.starts_with("istio_requests_total{") && line.contains(&label));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// What the admin listener says of the fault.
    fn shown(&self) -> serde_json::Value {
        self.front.shown_at("/faults")[0].clone()
    }
}

/// Runs a test on the mesh that all share, with an application that answers at once.
fn drill(test: impl FnOnce(&Drilled)) {
    let shared = shared(&DRILLED, || Mutex::new(Drilled::start()));
    // A test that failed has left nothing that the next one would not replace.
    let drilled = shared.lock().unwrap_or_else(PoisonError::into_inner);
    drilled.front.apply(STRICT);
    test(&drilled);
}

#[test]
fn an_abort_is_answered_in_place_of_the_instance_and_counts_against_nobody() {
    drill(|mesh| {
        for (name, abort) in [("by-http", "status: 503"), ("by-grpc", "grpcStatus: UNAVAILABLE")] {
            mesh.inject(name, &format!("abort: {{{abort}}}"), "");
            let before = mesh.cart.came();
            for call in Call::ALL {
                let came = mesh.front.call(call, 10);
                assert!(came.iter().all(|came| came.is_refused(call, "fault_abort")), "{call:?}: {came:?}");
            }
            assert_eq!(mesh.cart.came(), before, "nothing was sent");
            assert_eq!(mesh.shown()["aborted"], 30);
        }
        mesh.inject("never", "matches: [{path: {value: /nowhere}}], abort: {status: 500}", "");
        for call in Call::ALL {
            let came = mesh.front.call(call, 3);
            assert!(came.iter().all(Came::is_good), "neither out nor open: {call:?}: {came:?} {}", mesh.front.shown());
        }
        let resilience = &mesh.front.shown()["resilience"];
        assert_eq!((&resilience["ejection"]["out"], &resilience["breaker"]["state"]), (&0.into(), &"closed".into()));
        assert!(mesh.flagged("FI") >= 60.0, "{}", mesh.front.metrics());
    });
}

#[test]
fn a_delay_holds_those_that_match_and_the_others_go_on() {
    drill(|mesh| {
        for (round, call) in Call::ALL.into_iter().enumerate() {
            let matches = "matches: [{path: {type: Exact, value: /shop.Cart/Get}, method: POST}]";
            mesh.inject(&format!("slow-{round}"), &format!("{matches}, delay: {{time: 400ms}}"), "");
            let came = mesh.front.call(call, 5);
            assert!(came.iter().all(|came| came.is_good() && came.took.as_millis() >= 400), "{call:?}: {came:?}");
            assert_eq!(mesh.front.get("/other").unwrap().0, 200);
            assert_eq!(mesh.shown()["delayed"], 5, "a GET of another path is none of them");
        }
        assert!(mesh.flagged("DI") >= 15.0, "{}", mesh.front.metrics());
    });
}

#[test]
fn a_share_of_requests_suffers_and_the_rest_does_not() {
    drill(|mesh| {
        mesh.inject("share", "abort: {status: 500, percent: 30}", "");
        let came: Vec<Came> = (0..4).flat_map(|_| mesh.front.call(Call::Http2, 100)).collect();
        let good = came.iter().filter(|came| came.is_good()).count();
        let aborted = came.iter().filter(|came| came.status == 500 && came.reason == "fault_abort").count();
        figures(format_args!("30 percent of 400 aborted: {aborted}"));
        assert_eq!(good + aborted, 400);
        // Seven times the deviation that chance gives: one run in a million millions is outside.
        assert!((56..=184).contains(&aborted), "{aborted} of 400");
    });
}

#[test]
fn no_more_wait_at_once_than_may() {
    drill(|mesh| {
        mesh.inject("bounded", "delay: {time: 2s}", "  maxActive: 2\n");
        let came = mesh.front.call(Call::Http1, 12);
        assert!(came.iter().all(Came::is_good), "{came:?}");
        let shown = mesh.shown();
        assert_eq!((&shown["delayed"], &shown["skipped"], &shown["active"]), (&2.into(), &10.into(), &0.into()));
        assert_eq!(mesh.front.metric("leno_fault_skipped_total{service=\"cart.shop\",fault=\"bounded\"}"), 10.0);
    });
}

#[test]
fn a_delay_is_a_part_of_the_requests_time_and_an_abort_comes_after_it() {
    drill(|mesh| {
        mesh.front.apply(&format!("requestTimeout: 300ms\n  {STRICT}"));
        mesh.inject("late", "delay: {time: 30s}", "");
        let before = mesh.cart.came();
        let is_late = |came: &Came| (came.status, came.reason.as_str()) == (504, "request_timeout");
        // The timeout may come after the fault: who waited for longer than that is none of ours.
        let came = wait_until(Duration::from_secs(9), || mesh.front.call(Call::Http1, 1).iter().all(is_late));
        assert!(came.is_some());
        assert_eq!(mesh.cart.came(), before, "it was never sent");
        mesh.inject("after", "delay: {time: 100ms}, abort: {grpcStatus: RESOURCE_EXHAUSTED}", "");
        for call in Call::ALL {
            let came = call.one(mesh.front.outbound(), "cart");
            let expected = if call == Call::Grpc { (200, Some(8)) } else { (429, None) };
            assert_eq!((came.status, came.grpc_status), expected, "{came:?}");
            assert!(came.took.as_millis() >= 100, "{came:?}");
        }
        assert!(mesh.front.shown()["resilience"]["breaker"]["state"] == "closed", "{}", mesh.front.shown());
    });
}

#[test]
fn a_body_comes_as_slowly_as_a_fault_says() {
    drill(|mesh| {
        mesh.inject("thin", "bandwidth: {kibPerSecond: 64}", "");
        mesh.cart.answer_with(48 * 1024);
        for call in Call::ALL {
            let came = mesh.front.call(call, 2);
            // The first of sixteen pieces a second does not wait.
            assert!(came.iter().all(|came| came.is_good() && came.took.as_millis() >= 680), "{call:?}: {came:?}");
        }
        mesh.cart.answer_with(0);
        let shown = mesh.shown();
        assert_eq!((&shown["slowed"], &shown["active"]), (&6.into(), &0.into()));
    });
}

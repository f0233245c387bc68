//! Who is blamed for a request that went wrong, and who is not: instances, their service, or nobody.

use std::time::Duration;

use leno_http::Method;
use leno_model::instance::Protocol;
use leno_model::snapshot::{
    Action, BalancePolicy, Breaker, Cookie, Ejection, HashKey, HashSource, Hedge, Limits, Priority, PriorityRule,
    Queue, Resilience, Retry,
};
use leno_test::{client, proxy, server};

use crate::{both, until};

const LONG: Duration = Duration::from_secs(50);
const MINUTE: Duration = Duration::from_secs(60);
const PRIORITY: &str = "x-request-priority";
const LEFT: &str = "x-envoy-expected-rq-timeout-ms";

/// One failure opens it.
const BREAKER: Breaker = Breaker {
    failure_ratio: None,
    slow_ratio: None,
    slow_after: Duration::ZERO,
    consecutive: Some(1),
    failures: None,
    window: MINUTE,
    buckets: 10,
    requests_min: 1,
    open: MINUTE,
    probes: 1,
    above: false,
};

/// One failure ejects.
const EJECTION: Ejection = Ejection {
    consecutive_errors: Some(1),
    consecutive_gateway_errors: None,
    consecutive_local_errors: None,
    failure_ratio: None,
    slow_ratio: None,
    slow_after: MINUTE,
    window: MINUTE,
    requests_min: 1,
    base_time: MINUTE,
    time_max: MINUTE,
    share_max: 100,
};

fn touchy() -> Resilience {
    Resilience { breaker: Some(BREAKER), ejection: Some(EJECTION), ..Resilience::default() }
}

#[test]
fn a_callers_own_deadline_says_nothing_about_who_is_asked() {
    leno_test::run(async {
        let answers = server::http().respond("/", 200).respond("/slow", 200).after("/slow", LONG).respond("/late", 504);
        let cart = answers.start().await;
        let proxy = proxy().with_cluster(|cluster| cluster.resilience = touchy());
        let proxy = proxy.outbound_to("cart", [&cart]).start().await;
        let stranger = client::to(proxy.gateway_to("cart").await, true);
        for _ in 0..3 {
            let call = stranger.request(Method::Post, "shop.example", "/slow").with("content-type", "application/grpc");
            let answer = call.with("te", "trailers").with("grpc-timeout", "20m").send().await;
            assert_eq!(answer.field("grpc-status"), Some("4"), "{answer:?}");
        }
        for http2 in [false, true] {
            let caller = client::to(proxy.outbound, http2);
            for (path, left) in [("/slow", "20"), ("/late", "5000")] {
                let answer = caller.request(Method::Get, "cart", path).with(LEFT, left).send().await;
                assert_eq!(answer.status(), 504, "{path}");
            }
            assert_eq!(caller.get("cart", "/").await.status(), 200);
        }
        // Whoever gives no less time than the rule has it counted.
        assert_eq!(client::h1(&proxy).get("cart", "/late").await.status(), 504);
        assert_eq!(client::h1(&proxy).get("cart", "/").await.field("x-leno-reason"), Some("breaker_open"));
    });
}

#[test]
fn the_time_that_the_rule_gives_is_counted_when_it_is_over() {
    both(async |client| {
        let cart = server::http().respond("/slow", 200).after("/slow", LONG).start().await;
        let proxy = proxy().with_rule(|rule| rule.request_timeout = Some(Duration::from_millis(50)));
        let proxy = proxy.with_cluster(|cluster| cluster.resilience = touchy());
        let proxy = proxy.outbound_to("cart", [&cart]).start().await;
        assert_eq!(client(&proxy).get("cart", "/slow").await.field("x-leno-reason"), Some("request_timeout"));
        assert_eq!(client(&proxy).get("cart", "/slow").await.field("x-leno-reason"), Some("breaker_open"));
    });
}

#[test]
fn of_a_hedged_request_whose_time_is_over_who_was_asked_first_is_blamed() {
    both(async |client| {
        let slow = || server::http().respond("/", 200).respond("/slow", 200).after("/slow", LONG);
        let carts = [slow().start().await, slow().start().await];
        let hedge = Hedge { delay: Duration::from_millis(400), attempts: 1, methods: vec!["GET".into()] };
        let retry = Retry { attempts: 0, codes: Vec::new(), hedge: Some(hedge), ..Retry::default() };
        let proxy = proxy().with_rule(move |rule| {
            rule.retry = Some(retry.clone());
            rule.request_timeout = Some(Duration::from_millis(600));
        });
        let ejecting = Resilience { ejection: Some(EJECTION), ..Resilience::default() };
        let proxy = proxy.with_cluster(move |cluster| cluster.resilience = ejecting.clone());
        let proxy = proxy.outbound_to("cart", &carts).start().await;
        let first = async {
            until(|| carts.iter().any(|cart| cart.count() == 1)).await;
            carts.iter().position(|cart| cart.count() == 1)
        };
        let asking = client(&proxy);
        let (answer, first) = tokio::join!(asking.get("cart", "/slow"), first);
        assert_eq!((answer.status(), carts.each_ref().map(|cart| cart.count())), (504, [1, 1]));
        for _ in 0..4 {
            assert_eq!(asking.get("cart", "/").await.status(), 200);
        }
        assert_eq!(carts[first.unwrap()].count(), 1, "it is out, and the other one is in");
    });
}

#[test]
fn an_answer_that_was_shed_does_not_win_over_one_that_is_waited_for() {
    both(async |client| {
        let slow = server::http().respond("/", 200).after("/", Duration::from_millis(200)).start().await;
        let full = server::http().respond("/", 503).with("/", "x-leno-reason", "overloaded").start().await;
        let hedge = Hedge { delay: Duration::from_millis(20), attempts: 1, methods: vec!["GET".into()] };
        let retry = Retry { attempts: 0, codes: Vec::new(), hedge: Some(hedge), ..Retry::default() };
        let proxy = proxy().with_rule(move |rule| rule.retry = Some(retry.clone()));
        let proxy = proxy.with_cluster(|cluster| cluster.balance = BalancePolicy::RoundRobin);
        let proxy = proxy.outbound_to("cart", [&slow, &full]).start().await;
        for _ in 0..6 {
            let (slow_before, full_before) = (slow.count(), full.count());
            let answer = client(&proxy).get("cart", "/").await;
            let expected = if slow.count() > slow_before { 200 } else { 503 };
            assert_eq!(answer.status(), expected, "{answer:?}");
            assert!(slow.count() > slow_before || full.count() == full_before + 1, "asked once more");
        }
        assert!(slow.count() > 0 && full.count() > 0);
    });
}

#[test]
fn the_wait_for_a_place_at_the_caller_is_no_slowness_of_who_is_asked() {
    both(async |client| {
        let cart = server::http().respond("/", 200).after("/", Duration::from_millis(200)).start().await;
        let of_slow = Ejection {
            consecutive_errors: None,
            slow_ratio: Some(1),
            slow_after: Duration::from_millis(900),
            ..EJECTION
        };
        let proxy = proxy().with_cluster(move |cluster| {
            let queue = Some(Queue { size: 9, timeout: MINUTE });
            cluster.resilience.limits = Limits { requests: Some(1), queue, ..Limits::default() };
            cluster.resilience.ejection = Some(of_slow);
        });
        let proxy = proxy.outbound_to("cart", [&cart]).start().await;
        let clients: Vec<_> = (0..7).map(|_| client(&proxy)).collect();
        let began = tokio::time::Instant::now();
        let answers = futures_util::future::join_all(clients.iter().map(|client| client.get("cart", "/"))).await;
        assert!(answers.iter().all(|answer| answer.status() == 200), "{answers:?}");
        assert!(began.elapsed() > Duration::from_millis(1_100), "one after the other");
        assert_eq!(client(&proxy).get("cart", "/").await.status(), 200, "it was ejected for the wait");
    });
}

#[test]
fn streams_beyond_those_of_the_only_connection_wait_for_one() {
    leno_test::run(async {
        let cart = server::http().respond("/", 200).after("/", Duration::from_millis(200)).start().await;
        let proxy = proxy().with_cluster(|cluster| {
            cluster.resilience.limits = Limits { connections: Some(1), pending: Some(1024), ..Limits::default() };
        });
        let proxy = proxy.outbound_at("cart", Protocol::Http2, [cart.address]).start().await;
        let client = client::h1(&proxy);
        let answers = futures_util::future::join_all((0..150).map(|_| client.get("cart", "/"))).await;
        let good = answers.iter().filter(|answer| answer.status() == 200).count();
        assert_eq!(good, 150, "{:?}", answers.iter().find(|answer| answer.status() != 200));
    });
}

#[test]
fn each_cookie_that_a_request_lacks_is_made_once() {
    both(async |client| {
        let carts = [server::http().start().await, server::http().start().await, server::http().start().await];
        let cookie = |name: &str| HashKey {
            source: HashSource::Cookie(Cookie { name: name.into(), ttl: Some(MINUTE), path: None }),
            terminal: false,
        };
        let hash = vec![cookie("one"), cookie("two")];
        let proxy = proxy().with_cluster(|cluster| cluster.balance = BalancePolicy::RingHash);
        let proxy = proxy.with_rule(move |rule| {
            if let Action::Forward(targets) = &mut rule.action {
                targets[0].affinity.hash = hash.clone();
            }
        });
        let proxy = proxy.outbound_to("cart", &carts).start().await;
        for _ in 0..8 {
            let counts = || carts.each_ref().map(|cart| cart.count());
            let before = counts();
            let answer = client(&proxy).get("cart", "/").await;
            let made: Vec<&[u8]> = answer.head.fields.get_all("set-cookie").collect();
            let pairs =
                made.iter().map(|made| String::from_utf8_lossy(made.split(|byte| *byte == b';').next().unwrap()));
            let cookies = pairs.collect::<Vec<_>>().join("; ");
            assert!(cookies.contains("one=") && cookies.contains("two="), "{cookies}");
            let asking = client(&proxy);
            let again = asking.request(Method::Get, "cart", "/").with("cookie", &cookies).send().await;
            assert_eq!(again.field("set-cookie"), None);
            let met: Vec<usize> = counts().iter().zip(before).map(|(now, before)| now - before).collect();
            assert!(met.contains(&2), "another instance: {met:?}");
        }
    });
}

#[test]
fn a_client_outside_does_not_say_how_much_it_matters() {
    for http2 in [false, true] {
        leno_test::run(async {
            let cart = server::http().start().await;
            let rule = PriorityRule { priority: Priority::Sheddable, when: Vec::new() };
            let ruled = proxy().with_cluster(move |cluster| cluster.resilience.priorities = vec![rule.clone()]);
            let (plain, ruled) = (proxy().outbound_to("cart", [&cart]), ruled.outbound_to("cart", [&cart]));
            for (proxy, expected) in [(plain, None), (ruled, Some("sheddable"))] {
                let proxy = proxy.start().await;
                let stranger = client::to(proxy.gateway_to("cart").await, http2);
                let asked = stranger.request(Method::Get, "shop.example", "/").with(PRIORITY, "critical-plus");
                assert_eq!(asked.send().await.status(), 200);
                assert_eq!(cart.seen().last().unwrap().head.fields.get_str(PRIORITY), expected);
            }
        });
    }
}

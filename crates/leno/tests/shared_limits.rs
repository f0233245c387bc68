//! Limits that proxies count together, on a live mesh: three proxies of callers and a server that holds them together, over
//! HTTP/1, HTTP/2 and gRPC; what each does while the server is gone; and what the server answers to whom it should not trust.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kit::application::{self, ANY_PORT};
use kit::figures;
use kit::free_address;
use kit::mesh::{Mesh, Process, exchange_whole, get_path, wait_until};
use kit::steered::{Call, Came, connect};
use leno_control::allot::messages::{AllotRequest, AllotResponse, Ask};
use leno_http::grpc::{self, Code, Status};
use leno_http::{Body, Handler, Reply, RequestHead, ResponseHead};
use leno_runtime::task;

const SECOND: Duration = Duration::from_secs(1);
const TEN_SECONDS: Duration = Duration::from_secs(10);
/// Of all proxies together in a second, and a tenth more.
const LIMIT: usize = 300;
const MOST: usize = LIMIT + LIMIT / 10;
/// Connections over which a proxy is asked.
const CONNECTIONS: u32 = 10;
/// Whoever waits for longer saw a machine that stood still, and says nothing about when it was let through.
const STOOD_STILL: Duration = Duration::from_millis(25);

/// An application that remembers when requests came.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Vec<Instant>>>);

/// A call that the application answered: when it was sent and when its answer was there. In between it was let through.
#[derive(Debug, Clone, Copy)]
struct Good {
    sent: Instant,
    ended: Instant,
}

/// What came of a load on a proxy.
#[derive(Debug, Default)]
struct Tally {
    good: Vec<Good>,
    refused: usize,
    other: Vec<Came>,
    /// The moments at which a call took long.
    slow: Vec<(Instant, Instant)>,
}

/// The proxy of callers.
struct Front {
    outbound: SocketAddr,
    admin: SocketAddr,
    _process: Process,
}

impl Handler for Noting {
    async fn handle(&self, head: RequestHead, body: Body, reply: Reply) {
        self.0.lock().unwrap().push(Instant::now());
        if body.collect(64 * 1024).await.is_err() {
            return;
        }
        // Nobody may be there any more to hear it.
        if grpc::is_grpc(&head.fields) {
            let head = ResponseHead::new(200).with("content-type", "application/grpc");
            let Ok(mut answer) = reply.send(head, leno_http::BodyLength::Unknown).await else { return };
            if answer.data(Bytes::from_static(&[0; 5])).await.is_ok() {
                let _ = answer.trailers(Status::new(Code::Ok, "").trailers()).await;
            }
        } else {
            let _ = reply.respond(ResponseHead::new(200), Bytes::from_static(b"noted")).await;
        }
    }
}

// === impl Front ===

impl Front {
    fn start(mesh: &Mesh, name: &str) -> Self {
        let (outbound, admin) = (free_address(), free_address());
        let process = mesh.caller_with(outbound, name, &["--admin-listen", &admin.to_string()]);
        Self { outbound, admin, _process: process }
    }

    /// What the admin listener says of the only limit; nothing while there is none.
    fn shared(&self) -> serde_json::Value {
        let (_, body) = get_path(self.admin, "localhost", "/rate-limits").unwrap();
        let mut shown: serde_json::Value = serde_json::from_str(&body).unwrap();
        shown[0]["shared"].take()
    }

    fn metric(&self, name: &str) -> f64 {
        let (_, metrics) = get_path(self.admin, "localhost", "/metrics").unwrap();
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name}{{")));
        line.unwrap_or_else(|| panic!("{name}\n{metrics}")).rsplit(' ').next().unwrap().parse().unwrap()
    }
}

/// Calls so many times a second, for so long, over some connections, whether earlier calls were let through or not.
fn load(call: Call, to: SocketAddr, per_second: u32, time: Duration) -> Tally {
    let calls = async move {
        let every = SECOND * CONNECTIONS / per_second;
        let mut running = Vec::new();
        for at in 0..CONNECTIONS {
            running.push(task::spawn("caller", async move {
                let (began, mut came, mut turn) = (Instant::now() + every * at / CONNECTIONS, Tally::default(), 0);
                let mut connection = connect(to, call != Call::Http1).await;
                while began.elapsed() < time {
                    let due = began + every * turn;
                    tokio::time::sleep(due.saturating_duration_since(Instant::now())).await;
                    let sent = Instant::now();
                    let one = call.once(connection.clone(), "cart").await;
                    came.add(call, sent, one);
                    if call == Call::Http1 && connection.as_ref().is_none_or(|connection| !connection.is_open()) {
                        connection = connect(to, false).await;
                    }
                    // Who is late leaves turns out.
                    turn = (turn + 1).max((began.elapsed().as_secs_f64() / every.as_secs_f64()) as u32);
                }
                came
            }));
        }
        let mut all = Tally::default();
        for caller in running {
            all.take_in(caller.await.unwrap());
        }
        all
    };
    leno_runtime::threads::control(calls).unwrap()
}

/// Loads several proxies at once, each by calls of its kind.
fn load_all(fronts: &[Front], rates: [u32; 3], time: Duration) -> [Tally; 3] {
    std::thread::scope(|scope| {
        let running = [0, 1, 2].map(|at| {
            let (call, to, rate) = (Call::ALL[at], fronts[at].outbound, rates[at]);
            scope.spawn(move || if rate > 0 { load(call, to, rate, time) } else { Tally::default() })
        });
        running.map(|one| one.join().unwrap())
    })
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, call: Call, sent: Instant, came: Came) {
        let ended = sent + came.took;
        let refused = if call == Call::Grpc { (200, Some(8)) } else { (429, None) };
        if came.took > STOOD_STILL {
            self.slow.push((sent, ended));
        }
        if came.is_good() {
            self.good.push(Good { sent, ended });
        } else if (came.status, came.grpc_status) == refused && came.reason == "rate_limited" {
            self.refused += 1;
        } else {
            self.other.push(came);
        }
    }

    fn take_in(&mut self, other: Self) {
        self.good.extend(other.good);
        self.refused += other.refused;
        self.other.extend(other.other);
        self.slow.extend(other.slow);
    }

    /// Calls that were let through in a second, of those that were sent since.
    fn rate_since(&self, since: Instant, time: Duration) -> f64 {
        self.good.iter().filter(|good| good.sent >= since).count() as f64 / time.as_secs_f64()
    }
}

/// The most that were let through in any second, whatever the machine did: what was sent and answered within it.
fn most_in_a_second(all: &mut [Good]) -> usize {
    all.sort_by_key(|good| good.ended);
    let mut most = 0;
    for from in all.iter().map(|good| good.sent) {
        let first = all.partition_point(|good| good.ended < from);
        let until = all.partition_point(|good| good.ended <= from + SECOND);
        most = most.max(all[first..until].iter().filter(|good| good.sent >= from).count());
    }
    most
}

/// The most that came to the application in any second in which the machine did not stand still; and how many such seconds
/// began with a request.
fn most_that_came(came: &mut [Instant], slow: &[(Instant, Instant)]) -> (usize, usize) {
    came.sort();
    let (mut most, mut seconds) = (0, 0);
    for (at, from) in came.iter().enumerate() {
        let until = *from + SECOND;
        if slow.iter().any(|(began, ended)| *began < until && *ended > *from) {
            continue;
        }
        seconds += 1;
        most = most.max(came.partition_point(|moment| *moment < until) - at);
    }
    (most, seconds)
}

fn policy(limit: &str) -> String {
    format!(
        "apiVersion: leno.mesh/v1\nkind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\n\
         spec:\n  targetRefs: [{{name: cart}}]\n  rateLimits: [{limit}]\n"
    )
}

#[test]
fn three_proxies_and_the_server_hold_a_limit_together_and_without_the_server_each_holds_its_part() {
    let (cart, mesh) = (Noting::default(), Mesh::new());
    let mut server = mesh.server();
    mesh.apply("policy.yaml", &policy("{name: all, at: caller, limit: {requests: 300, per: 1s}, shared: {}}"));
    let _beside = mesh.sidecar("cart.shop", application::start(ANY_PORT, cart.clone()));
    let fronts = ["front-1", "front-2", "front-3"].map(|name| Front::start(&mesh, name));
    let all_stand = |standing: &str, proxies: u64| {
        let stands = |front: &Front| {
            let shared = front.shared();
            shared["standing"] == standing && shared["proxies"] == proxies
        };
        let stand = wait_until(TEN_SECONDS, || {
            fronts.iter().for_each(|front| drop(get_path(front.outbound, "cart", "/")));
            fronts.iter().all(stands)
        });
        assert!(stand.is_some(), "{standing}: {:?}", fronts.each_ref().map(Front::shared));
    };
    all_stand("allotted", 3);
    cart.0.lock().unwrap().clear();
    let (mut let_through, mut slow, mut other) = (Vec::new(), Vec::new(), Vec::new());
    let mut phase = |name: &str, rates: [u32; 3], time: Duration| {
        let began = Instant::now();
        let came = load_all(&fronts, rates, time);
        // What comes first is not looked at: a part takes a moment to move.
        let each = came.each_ref().map(|came| came.rate_since(began + SECOND, time - SECOND));
        let refused = came.each_ref().map(|came| came.refused);
        figures(format_args!("{name}: {rates:?} a second came, {each:.0?} were let through, {refused:?} refused"));
        for came in came {
            let_through.extend(came.good);
            slow.extend(came.slow);
            other.extend(came.other);
        }
        each
    };
    let sum = |each: [f64; 3]| each.iter().sum::<f64>();
    let even = phase("three want more than there is", [200; 3], SECOND * 4);
    assert!(sum(even) >= 250.0 && even.iter().all(|rate| *rate >= 70.0), "{even:?}");
    let alone = phase("one wants all", [450, 0, 0], SECOND * 4);
    assert!(sum(alone) >= 250.0, "{alone:?}");
    let elsewhere = phase("then another", [0, 0, 450], SECOND * 4);
    assert!(sum(elsewhere) >= 250.0, "{elsewhere:?}");

    server.kill();
    let gone = Instant::now();
    let falling = phase("the server is gone", [200, 450, 200], SECOND * 4);
    assert!(
        fronts.iter().all(|front| front.shared()["standing"] == "away"),
        "{:?}",
        fronts.each_ref().map(Front::shared)
    );
    assert!(fronts.iter().all(|front| front.metric("leno_rate_limit_away") == 1.0));
    assert!(sum(falling) <= 330.0, "{falling:?}");
    let away = phase("each holds its part", [200, 450, 200], Duration::from_secs(30).saturating_sub(gone.elapsed()));
    assert!(away.iter().all(|rate| (85.0..=110.0).contains(rate)), "a hundred each: {away:?}");

    let _again = mesh.server();
    all_stand("allotted", 3);
    let back = phase("the server is back", [0, 450, 0], SECOND * 4);
    assert!(sum(back) >= 250.0, "{back:?}");
    assert_eq!(fronts[1].metric("leno_rate_limit_away"), 0.0);

    assert!(other.is_empty(), "{:?}", &other[..other.len().min(10)]);
    let surely = most_in_a_second(&mut let_through);
    let (came, seconds) = most_that_came(&mut cart.0.lock().unwrap(), &slow);
    figures(format_args!(
        "limit of {LIMIT}: at most {surely} in a second were let through; {came} came, of {seconds} seconds"
    ));
    assert!(surely <= MOST && came <= MOST, "{surely} were let through, {came} came");
}

#[test]
fn instances_of_a_service_hold_a_limit_together_for_whoever_calls() {
    let (carts, mesh) = ([Noting::default(), Noting::default()], Mesh::new());
    let _server = mesh.server();
    mesh.apply("policy.yaml", &policy("{name: all, limit: {requests: 100, per: 1s}, shared: {fallback: local}}"));
    let admins = [free_address(), free_address()];
    let beside = [0, 1].map(|at| {
        let application = application::start(ANY_PORT, carts[at].clone());
        mesh.sidecar_with("cart.shop", application, &["--admin-listen", &admins[at].to_string()])
    });
    let front = Front::start(&mesh, "front");
    let shares = |admin: &SocketAddr| {
        let (_, body) = get_path(*admin, "localhost", "/rate-limits").unwrap();
        let shown: serde_json::Value = serde_json::from_str(&body).unwrap();
        shown[0]["shared"]["standing"] == "allotted" && shown[0]["shared"]["proxies"] == 2
    };
    assert!(wait_until(TEN_SECONDS, || admins.iter().all(shares)).is_some());
    for call in Call::ALL {
        let came = load(call, front.outbound, 300, SECOND * 2);
        let mut good = came.good.clone();
        let most = most_in_a_second(&mut good);
        let rate = came.rate_since(Instant::now() - SECOND * 10, SECOND * 2);
        figures(format_args!("two instances, 100 a second, by {call:?}: {rate:.0} a second, at most {most} in one"));
        assert!(most <= 110, "{call:?}: {most}");
        assert!(rate >= 70.0 && came.refused > 100 && came.other.is_empty(), "{call:?}: {rate}, {:?}", came.other);
    }
    drop(beside);
}

#[test]
fn a_quota_of_a_month_is_of_all_proxies_and_a_server_that_is_killed_gives_nothing_twice() {
    const QUOTA: usize = 60;
    let (cart, mesh) = (Noting::default(), Mesh::new());
    let mut server = mesh.server();
    mesh.apply("policy.yaml", &policy("{name: month, at: caller, quota: {requests: 60, per: month}}"));
    let _beside = mesh.sidecar("cart.shop", application::start(ANY_PORT, cart.clone()));
    let fronts = ["front-1", "front-2"].map(|name| Front::start(&mesh, name));
    let passed = || cart.0.lock().unwrap().len();
    let mut calls = [0, 1, 2].iter().cycle().zip([0, 1].iter().cycle());
    let mut call = || {
        let (kind, front) = calls.next().unwrap();
        let (call, came) = (Call::ALL[*kind], Call::ALL[*kind].one(fronts[*front].outbound, "cart"));
        let mut seen = Tally::default();
        seen.add(call, Instant::now(), came);
        assert!(seen.other.is_empty(), "let through or over the limit, and nothing else: {:?}", seen.other);
        passed()
    };
    assert!(wait_until(TEN_SECONDS, || call() >= QUOTA / 2).is_some(), "{}", passed());

    server.kill();
    let at_hand = passed() + 20;
    for _ in 0..60 {
        call();
    }
    assert!(passed() <= at_hand, "without a server what is at hand is let through: {} of {at_hand}", passed());
    let _again = mesh.server();
    let used = || mesh.api().call("GET", "/api/v1/quotas", "").unwrap().1["items"][0].clone();
    let is_used_up = || {
        call();
        let refused_for_long = |front: &Front| {
            let request = "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n";
            let (status, _, head) = exchange_whole(front.outbound, request).unwrap();
            let after = head.lines().find_map(|line| line.strip_prefix("retry-after: "));
            status == 429 && after.is_some_and(|after| after.parse::<u32>().unwrap() > 1)
        };
        fronts.iter().all(refused_for_long)
    };
    assert!(wait_until(TEN_SECONDS, is_used_up).is_some(), "{} {}", passed(), used());
    let (passed, used) = (passed(), used());
    figures(format_args!("quota of {QUOTA} a month: {passed} were let through, with a server killed between; {used}"));
    assert!((QUOTA - 20..=QUOTA).contains(&passed), "{passed}");
    let shown = ["service", "limit", "requests", "per", "used", "left"].map(|name| used[name].to_string());
    assert_eq!(shown, ["\"cart.shop\"", "\"month\"", "60", "\"month\"", "60", "0"]);
}

#[test]
fn a_server_answers_what_it_is_asked_wrongly_with_why_and_gives_a_liar_no_more_than_its_part() {
    let mesh = Mesh::new();
    let _server = mesh.server();
    let limits =
        "{name: all, limit: {requests: 300, per: 1s}, shared: {}}, {name: own, limit: {requests: 300, per: 1s}}";
    mesh.apply("policy.yaml", &policy(limits));
    let to: SocketAddr = mesh.grpc.parse().unwrap();
    let asked = async move {
        let connection = connect(to, true).await.unwrap();
        let calls = grpc::Client::new(Rc::unwrap_or_clone(connection), "localhost").with_timeout(TEN_SECONDS);
        let ask = |proxy: &str, asks: Vec<Ask>| {
            let request = AllotRequest { proxy: proxy.to_owned(), incarnation: 1, asks };
            let calls = calls.clone();
            async move { calls.unary::<_, AllotResponse>("/leno.mesh.v1.Limits/Allot", &request).await }
        };
        let of = |service: &str, limit: &str, wanted: f64, holding: f64| Ask {
            service: service.to_owned(),
            limit: limit.to_owned(),
            wanted,
            holding,
        };
        // Whole messages that say what no proxy says.
        let bad = [
            ("", vec![of("cart.shop", "all", 1.0, 0.0)], "give the name of the proxy"),
            (&*"p".repeat(257), vec![], "257 bytes"),
            ("p", vec![of("cart.shop", "all", f64::NAN, 0.0)], "asks[0]: wants NaN"),
            ("p", vec![of("cart.shop", "all", 1.0, -1.0)], "holds -1"),
            ("p", vec![of("cart.shop", "all", f64::INFINITY, 0.0)], "wants inf"),
            ("p", vec![of("cart.shop", "all", 1.0, 0.0); 1_025], "at most 1024"),
        ];
        for (proxy, asks, why) in bad {
            let refused = ask(proxy, asks).await.unwrap_err();
            assert!(refused.code == Code::InvalidArgument && refused.message.contains(why), "{refused:?}");
        }
        // What is wrong with one limit keeps no other from being answered.
        let mixed = vec![
            of("Cart Shop", "all", 1.0, 0.0),
            of("cart.shop", "own", 1.0, 0.0),
            of("cart.shop", "none", 1.0, 0.0),
            of("cart.shop", "all", 1.0, 0.0),
        ];
        let answer = ask("p", mixed).await.unwrap();
        let why: Vec<&str> = answer.allotments.iter().map(|allotment| &*allotment.refused).collect();
        assert!(why[0].contains("write `cart.shop`"), "{why:?}");
        assert!(why[1].contains("write `shared: {}`") && why[2].contains("no limit \"none\""), "{why:?}");
        assert_eq!((why[3], answer.every_ms), ("", 100));
        // Two that say what they need and one that says that it needs everything.
        let (mut given, until) = ([0.0; 3], Instant::now() + SECOND * 4);
        while Instant::now() < until && given.iter().any(|rate| !(90.0..=110.0).contains(rate)) {
            for (at, proxy) in ["a", "b", "liar"].into_iter().enumerate() {
                let (wanted, holding) = if proxy == "liar" { (1e300, 1e300) } else { (200.0, given[at]) };
                given[at] = ask(proxy, vec![of("cart.shop", "all", wanted, holding)]).await.unwrap().allotments[0].rate;
            }
            assert!(given.iter().sum::<f64>() <= 300.1, "{given:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(given.iter().all(|rate| (90.0..=110.0).contains(rate)), "{given:?}");
    };
    leno_runtime::threads::control(asked).unwrap();
    let metrics = mesh.done(&["get", "trafficpolicies", "-n", "shop"]);
    assert!(metrics.contains("cart"), "the server is as it was: {metrics}");
}

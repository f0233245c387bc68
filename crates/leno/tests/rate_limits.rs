//! Limits on requests on live proxies, beside the service that is called and beside its callers: how many pass, who waits,
//! what who is refused hears, and by what requests are counted apart, over HTTP/1, HTTP/2 and gRPC.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use kit::mesh::{Mesh, Process, exchange_whole, get_path, wait_until};
use kit::steered::{Call, Came, Steered};
use kit::{figures, free_address, shared};

const FIVE_SECONDS: Duration = Duration::from_secs(5);
/// So long that nothing comes back while a test lasts.
const AN_HOUR: &str = "1h";

/// A service of one instance, its proxy, and a proxy of its callers. Tests take it in turn.
struct Limited {
    cart: Steered,
    mesh: Mesh,
    /// Where callers ask, and where their proxy and that of the service show what they hold.
    outbound: SocketAddr,
    at_caller: SocketAddr,
    at_service: SocketAddr,
    beside: Process,
    _others: Vec<Process>,
}

static LIMITED: Mutex<Weak<Mutex<Limited>>> = Mutex::new(Weak::new());

// === impl Limited ===

impl Limited {
    fn start() -> Self {
        let (cart, mesh) = (Steered::start(), Mesh::new());
        let server = mesh.server();
        let [outbound, at_caller, at_service] = [free_address(), free_address(), free_address()];
        let beside = mesh.sidecar_with("cart.shop", cart.address, &["--admin-listen", &at_service.to_string()]);
        let caller = mesh.caller_with(outbound, "front", &["--admin-listen", &at_caller.to_string()]);
        Self { cart, mesh, outbound, at_caller, at_service, beside, _others: vec![server, caller] }
    }

    /// Has these limits in force, at the proxy whose admin listener that is and at no other, before the test goes on.
    fn hold(&self, admin: SocketAddr, limits: &str) {
        let policy = format!(
            "apiVersion: leno.mesh/v1\nkind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\n\
             spec:\n  targetRefs: [{{name: cart}}]\n  rateLimits: [{limits}]\n"
        );
        self.mesh.apply("policy.yaml", &policy);
        let names: Vec<&str> = limits.split("name: ").skip(1).filter_map(|rest| rest.split(',').next()).collect();
        let other = if admin == self.at_caller { self.at_service } else { self.at_caller };
        let they_alone_are_there = || {
            // The caller's proxy knows of nothing that nobody asks for.
            if admin == self.at_caller {
                get_path(self.outbound, "cart", "/not-counted");
            }
            let shown = self.shown(admin);
            let are_all_there = names.iter().all(|name| shown.iter().any(|limit| limit["limit"] == **name));
            names.len() == shown.len() && are_all_there && self.shown(other).is_empty()
        };
        let held = wait_until(FIVE_SECONDS, they_alone_are_there);
        assert!(held.is_some(), "{:?}, elsewhere {:?}", self.shown(admin), self.shown(other));
    }

    /// What the admin listener says of all limits.
    fn shown(&self, admin: SocketAddr) -> Vec<serde_json::Value> {
        let (_, body) = get_path(admin, "localhost", "/rate-limits").unwrap();
        serde_json::from_str(&body).unwrap()
    }

    /// The value of a metric of a limit.
    fn metric(&self, admin: SocketAddr, name: &str, limit: &str, at: &str) -> f64 {
        let (_, metrics) = get_path(admin, "localhost", "/metrics").unwrap();
        let start = format!("{name}{{service=\"cart.shop\",limit=\"{limit}\",at=\"{at}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&start));
        line.unwrap_or_else(|| panic!("{start}\n{metrics}")).parse().unwrap()
    }

    fn call(&self, call: Call, count: usize) -> Vec<Came> {
        call.many(self.outbound, "cart", count)
    }

    /// Asks with a header; status and head.
    fn ask(&self, path: &str, header: &str) -> (u16, String) {
        let line = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        let request = format!("GET {path} HTTP/1.1\r\nHost: cart\r\n{line}Connection: close\r\n\r\n");
        let (status, _, head) = exchange_whole(self.outbound, &request).unwrap();
        (status, head)
    }
}

/// Runs a test on the mesh that all share, with an application that answers at once.
fn on_mesh(test: impl FnOnce(&Limited)) {
    let shared = shared(&LIMITED, || Mutex::new(Limited::start()));
    // A test that failed has left nothing that the next one would not replace.
    let limited = shared.lock().unwrap_or_else(PoisonError::into_inner);
    limited.cart.hold(Duration::ZERO);
    test(&limited);
}

/// How many were answered well, and how many as who is over a limit is.
fn tally(call: Call, came: &[Came]) -> (usize, usize) {
    let refused = if call == Call::Grpc { (200, Some(8)) } else { (429, None) };
    let is_refused = |came: &&Came| (came.status, came.grpc_status) == refused && came.reason == "rate_limited";
    (came.iter().filter(|came| came.is_good()).count(), came.iter().filter(is_refused).count())
}

#[test]
fn a_service_takes_its_limit_and_refuses_what_is_over_it_whoever_calls() {
    on_mesh(|mesh| {
        let service = mesh.at_service;
        for (round, call) in Call::ALL.into_iter().enumerate() {
            mesh.hold(service, &format!("{{name: all-{round}, limit: {{requests: 5, per: {AN_HOUR}}}}}"));
            let before = mesh.cart.came();
            let came = mesh.call(call, 20);
            assert_eq!(tally(call, &came), (5, 15), "{call:?}: {came:?}");
            assert_eq!(mesh.cart.came() - before, 5, "nothing else reached it");
            let slowest = came.iter().filter(|came| !came.is_good()).map(|came| came.took).max().unwrap();
            figures(format_args!("limit of 5 at the service, 20 at once by {call:?}: 15 refused within {slowest:.1?}"));
        }
        let (status, head) = mesh.ask("/", "");
        assert_eq!(status, 429);
        let after = head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
        assert!((700..=720).contains(&after.parse::<u32>().unwrap()), "a fifth of an hour: {after}");
        assert_eq!(mesh.metric(service, "leno_rate_limit_passed_total", "all-2", "service"), 5.0);
        assert_eq!(mesh.metric(service, "leno_rate_limit_refused_total", "all-2", "service"), 16.0);
        assert_eq!(mesh.metric(service, "leno_rate_limit_used", "all-2", "service"), 5.0);
    });
}

#[test]
fn a_caller_keeps_a_limit_of_its_own_and_sends_nothing_over_it() {
    on_mesh(|mesh| {
        let caller = mesh.at_caller;
        for (round, call) in Call::ALL.into_iter().enumerate() {
            // The path of the calls alone, so that the test can ask for others.
            let limit = format!("limit: {{requests: 3, per: {AN_HOUR}, burst: 4}}");
            let matches = "matches: [{path: {type: Exact, value: /shop.Cart/Get}, method: POST}]";
            mesh.hold(caller, &format!("{{name: own-{round}, at: caller, {matches}, {limit}}}"));
            let before = mesh.cart.came();
            let came = mesh.call(call, 10);
            assert_eq!(tally(call, &came), (4, 6), "{call:?}: {came:?}");
            assert_eq!(mesh.cart.came() - before, 4, "nothing else was sent");
            assert_eq!(mesh.ask("/shop.Cart/Other", "").0, 200, "what does not match is not counted");
        }
        assert_eq!(mesh.metric(caller, "leno_rate_limit_refused_total", "own-2", "caller"), 6.0);
        assert_eq!(mesh.shown(mesh.at_service), [] as [serde_json::Value; 0]);
    });
}

#[test]
fn what_is_used_up_comes_back_at_its_rate_and_never_faster() {
    on_mesh(|mesh| {
        mesh.hold(mesh.at_service, "{name: rate, limit: {requests: 20, per: 1s, burst: 2}}");
        let (began, mut good) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_millis(1_500) {
            good += tally(Call::Http1, &mesh.call(Call::Http1, 2)).0;
        }
        let most = 2.0 + began.elapsed().as_secs_f64() * 20.0;
        figures(format_args!("limit of 20 a second, burst of 2: {good} in {:.2?}, at most {most:.1}", began.elapsed()));
        assert!(good as f64 <= most, "{good} of {most}");
        assert!(good as f64 >= most / 2.0, "it was asked for more all the time: {good} of {most}");
    });
}

#[test]
fn a_window_has_no_edge_through_which_twice_as_many_pass() {
    on_mesh(|mesh| {
        mesh.hold(mesh.at_service, "{name: window, window: {requests: 6, per: 1s}}");
        let mut good: Vec<Instant> = Vec::new();
        let until = Instant::now() + Duration::from_millis(2_500);
        while Instant::now() < until {
            // Counted when the answer is there, which is later than when it was let through.
            let began = Instant::now();
            good.extend(mesh.call(Call::Http2, 1).iter().filter(|came| came.is_good()).map(|_| began));
        }
        assert!(good.len() >= 12, "{}", good.len());
        // Each began before it was let through, and the next one after it.
        let shortest = good.windows(8).map(|eight| eight[7] - eight[0]).min().unwrap();
        assert!(shortest >= Duration::from_secs(1), "7 of them within {shortest:?}");
    });
}

#[test]
fn a_queue_sends_one_after_the_other_and_who_would_wait_too_long_is_refused() {
    on_mesh(|mesh| {
        for (round, call) in Call::ALL.into_iter().enumerate() {
            let queue = "queue: {requests: 10, per: 1s, timeout: 350ms}";
            mesh.hold(mesh.at_service, &format!("{{name: queue-{round}, {queue}}}"));
            let mut came = mesh.call(call, 10);
            let (good, refused) = tally(call, &came);
            came.sort_by_key(|came| came.took);
            let waited: Vec<_> = came.iter().filter(|came| came.is_good()).map(|came| came.took).collect();
            figures(format_args!("queue of 10 a second by {call:?}: {good} after {waited:.0?}, {refused} refused"));
            // On a slow machine the last come so late that a turn has passed.
            assert!((4..=6).contains(&good) && good + refused == 10, "{came:?}");
            assert!(waited[3] >= Duration::from_millis(280), "the fourth waits for three turns: {waited:?}");
        }
        assert!(mesh.metric(mesh.at_service, "leno_rate_limit_waited_total", "queue-2", "service") >= 3.0);
    });
}

#[test]
fn a_cold_service_takes_a_third() {
    on_mesh(|mesh| {
        let warm_up = "limit: {requests: 3000, per: 1h, burst: 30, warmUp: {period: 1h}}";
        mesh.hold(mesh.at_service, &format!("{{name: cold, {warm_up}}}"));
        let came = mesh.call(Call::Http2, 30);
        let (good, refused) = tally(Call::Http2, &came);
        assert!((10..=12).contains(&good) && good + refused == 30, "{good} good, {refused} refused");
    });
}

#[test]
fn open_requests_are_limited_at_the_service_too() {
    on_mesh(|mesh| {
        mesh.hold(mesh.at_service, "{name: open, concurrency: {requests: 3}}");
        mesh.cart.open_max();
        mesh.cart.hold(Duration::from_millis(400));
        for call in Call::ALL {
            let came = mesh.call(call, 9);
            assert_eq!((tally(call, &came), mesh.cart.open_max()), ((3, 6), 3), "{call:?}: {came:?}");
        }
        let none_open = || mesh.shown(mesh.at_service)[0]["used"] == 0;
        assert!(wait_until(FIVE_SECONDS, none_open).is_some(), "all have left");
    });
}

#[test]
fn requests_are_counted_apart_by_what_they_have() {
    on_mesh(|mesh| {
        let keyed = |name: &str, key: &str| {
            mesh.hold(
                mesh.at_service,
                &format!("{{name: {name}, key: [{key}], limit: {{requests: 2, per: {AN_HOUR}}}}}"),
            );
        };
        let three = |path: &str, header: &str| [0; 3].map(|_| mesh.ask(path, header).0);
        let used_up = [200, 200, 429];
        keyed("header", "{header: x-user}");
        for header in ["x-user: ann", "X-User: ben", ""] {
            assert_eq!(three("/", header), used_up, "{header:?}: whoever has no value shares one");
        }
        keyed("cookie", "{cookie: user}");
        for header in ["cookie: a=b; user=ann", "cookie: user=ben"] {
            assert_eq!(three("/", header), used_up, "{header}");
        }
        keyed("query", "{query: user}");
        for path in ["/?user=ann", "/?a=b&user=ben"] {
            assert_eq!(three(path, ""), used_up, "{path}");
        }
        keyed("path", "{path: true}");
        for path in ["/a", "/b?x=1"] {
            assert_eq!(three(path, ""), used_up, "{path}");
        }
        keyed("both", "{header: x-user}, {path: true}");
        assert_eq!([three("/a", "x-user: ann"), three("/b", "x-user: ann")], [used_up, used_up]);
        keyed("address", "{sourceAddress: true}");
        assert_eq!([three("/", "x-user: ann"), three("/", "x-user: ben")], [used_up, [429; 3]]);
    });
}

#[test]
fn each_calling_service_has_its_own() {
    on_mesh(|mesh| {
        let other = free_address();
        let arguments = ["--service", "back.shop", "--outbound-listen", &other.to_string(), "--data-dir", "back"];
        let back = mesh.mesh.proxy(&arguments);
        back.wait_for("ready");
        mesh.hold(
            mesh.at_service,
            &format!("{{name: caller, key: [{{caller: true}}], limit: {{requests: 2, per: {AN_HOUR}}}}}"),
        );
        for call in [Call::Http1, Call::Grpc] {
            let spent = if call == Call::Http1 { (2, 3) } else { (0, 5) };
            assert_eq!(tally(call, &mesh.call(call, 5)), spent, "front by {call:?}");
            assert_eq!(tally(call, &call.many(other, "cart", 5)), spent, "back by {call:?}");
        }
        let keys = &mesh.shown(mesh.at_service)[0]["keys"];
        assert_eq!((&keys["used"], &keys["max"]), (&2.into(), &16_384.into()));
    });
}

#[test]
fn answers_tell_what_is_left_where_that_is_asked_for() {
    on_mesh(|mesh| {
        let limits = "{name: short, headers: rateLimit, limit: {requests: 2, per: 1h}}, \
                      {name: long, headers: rateLimit, window: {requests: 9, per: 2h}}";
        mesh.hold(mesh.at_service, limits);
        let (status, head) = mesh.ask("/", "");
        assert_eq!(status, 200);
        assert!(head.contains("ratelimit-policy: \"short\";q=2;w=3600, \"long\";q=9;w=7200"), "{head}");
        assert!(head.contains("ratelimit: \"short\";r=1;t=1800, \"long\";r=8;t=7200"), "{head}");
        mesh.ask("/", "");
        let (status, head) = mesh.ask("/", "");
        assert_eq!(status, 429);
        assert!(head.contains("ratelimit: \"short\";r=0;t=36") || head.contains("\"short\";r=0;t=35"), "{head}");
        mesh.hold(mesh.at_service, "{name: x, headers: xRateLimit, limit: {requests: 2, per: 1h}}");
        let (_, head) = mesh.ask("/", "");
        for line in ["x-ratelimit-limit: 2", "x-ratelimit-remaining: 1", "x-ratelimit-reset: 1800"] {
            assert!(head.contains(line), "{line}: {head}");
        }
    });
}

#[test]
fn a_limit_that_is_changed_is_in_force_at_once_and_one_that_stays_keeps_its_state() {
    on_mesh(|mesh| {
        let stays = format!("{{name: stays, limit: {{requests: 3, per: {AN_HOUR}}}}}");
        mesh.hold(mesh.at_service, &stays);
        assert_eq!(tally(Call::Http1, &mesh.call(Call::Http1, 3)), (3, 0));
        mesh.hold(mesh.at_service, &format!("{stays}, {{name: other, concurrency: {{requests: 100}}}}"));
        assert_eq!(tally(Call::Http1, &mesh.call(Call::Http1, 3)), (0, 3));
        mesh.hold(mesh.at_service, &format!("{{name: stays-not, limit: {{requests: 4, per: {AN_HOUR}}}}}"));
        assert_eq!(tally(Call::Http1, &mesh.call(Call::Http1, 9)), (4, 5));
        mesh.hold(mesh.at_service, "");
        assert_eq!(tally(Call::Http1, &mesh.call(Call::Http1, 20)), (20, 0));
    });
}

#[test]
fn a_hundred_thousand_values_of_a_header_take_the_memory_that_is_stated() {
    const VALUES: usize = 100_000;
    on_mesh(|mesh| {
        mesh.hold(
            mesh.at_service,
            &format!("{{name: users, key: [{{header: x-user}}], limit: {{requests: 1, per: {AN_HOUR}}}}}"),
        );
        let (status, inbound) = (mesh.shown(mesh.at_service), inbound_of(mesh));
        let stated = status[0]["bytes"].as_u64().unwrap();
        assert!(stated <= 16_384 * 16 + 1_024, "{stated}");
        // Once, so that what connections need is there before.
        many_values(inbound, 0..1_000);
        let (before, began) = (mesh.beside.memory_mb(), Instant::now());
        many_values(inbound, 1_000..VALUES);
        let grown = mesh.beside.memory_mb() - before;
        let shown = mesh.shown(mesh.at_service).remove(0);
        figures(format_args!(
            "limit by header: {VALUES} values in {:.1?}, {stated} bytes stated, the process grew by {grown:.1} MB; {}",
            began.elapsed(),
            shown["keys"]
        ));
        assert_eq!(shown["bytes"].as_u64().unwrap(), stated);
        assert_eq!(shown["passed"].as_u64().unwrap() + shown["refused"].as_u64().unwrap(), VALUES as u64);
        assert!(shown["keys"]["crowded"].as_u64().unwrap() > 0, "{shown}");
        assert!(grown < 2.0, "{grown} MB");
    });
}

/// The inbound port of the service's proxy.
fn inbound_of(mesh: &Limited) -> SocketAddr {
    let (_, body) = get_path(mesh.at_caller, "localhost", "/endpoints").unwrap();
    let clusters: serde_json::Value = serde_json::from_str(&body).unwrap();
    clusters[0]["endpoints"][0]["proxy"].as_str().unwrap().parse().unwrap()
}

/// Asks with each of these values, many in flight on one connection.
fn many_values(to: SocketAddr, values: std::ops::Range<usize>) {
    const IN_FLIGHT: usize = 200;
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let values: Vec<usize> = values.collect();
    for values in values.chunks(IN_FLIGHT) {
        let mut requests = String::new();
        for value in values {
            write!(requests, "GET / HTTP/1.1\r\nHost: cart\r\nX-User: user-{value}\r\n\r\n").unwrap();
        }
        stream.write_all(requests.as_bytes()).unwrap();
        let (mut answers, mut buffer, mut kept) = (0, [0; 64 * 1024], 0);
        while answers < values.len() {
            let read = stream.read(&mut buffer[kept..]).unwrap();
            assert!(read > 0, "it closed after {answers} of {}", values.len());
            let text = String::from_utf8_lossy(&buffer[..kept + read]);
            answers += text.matches("HTTP/1.1 ").count();
            // What may be the beginning of another answer is looked at again.
            let rest =
                text.rfind('H').filter(|at| "HTTP/1.1 ".starts_with(&text[*at..])).map_or(0, |at| text.len() - at);
            buffer.copy_within(kept + read - rest..kept + read, 0);
            kept = rest;
        }
    }
}

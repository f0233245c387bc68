//! Priorities and shedding on live proxies: an instance that can do 25 things at once is asked for five times as much, and does
//! what matters most; priorities are set where requests enter and travel; callers take refusals for what they are.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kit::application::{self, ANY_PORT};
use kit::mesh::{Mesh, Process, exchange_whole, get_path, wait_until};
use kit::scripted::{Ask, Got, Scripted, Told};
use kit::steered::Call;
use kit::{figures, free_address};
use leno_http::grpc::{self, Code, Status};
use leno_http::{Body, Handler, Reply, RequestHead, ResponseHead};
use tokio::sync::Semaphore;

const TEN_SECONDS: Duration = Duration::from_secs(10);
const FIELD: &str = "x-request-priority";
/// What it can do, and how long each takes: 500 requests a second.
const SLOTS: usize = 25;
const TAKES: Duration = Duration::from_millis(50);
const CAPACITY: f64 = 500.0;
/// How fast it says no, and how often that is looked at.
const FAST: Duration = Duration::from_millis(15);
const ATTEMPTS: usize = 3;

/// An application that does [`SLOTS`] things at once; the others wait inside.
struct Slotted {
    address: SocketAddr,
    done: Arc<AtomicU64>,
}

struct Answering {
    slots: Semaphore,
    done: Arc<AtomicU64>,
}

/// A service, its proxy, and a proxy of its callers.
struct Shop {
    mesh: Mesh,
    outbound: SocketAddr,
    /// Where the proxy beside the instance listens and shows what it does.
    inbound: SocketAddr,
    admin: SocketAddr,
    at_caller: SocketAddr,
    _processes: Vec<Process>,
}

// === impl Slotted ===

impl Slotted {
    fn start() -> Self {
        let done = Arc::<AtomicU64>::default();
        let answering = Answering { slots: Semaphore::new(SLOTS), done: done.clone() };
        Self { address: application::start(ANY_PORT, answering), done }
    }
}

impl Handler for Answering {
    async fn handle(&self, head: RequestHead, _: Body, reply: Reply) {
        let slot = self.slots.acquire().await.unwrap();
        tokio::time::sleep(TAKES).await;
        drop(slot);
        self.done.fetch_add(1, SeqCst);
        let is_grpc = grpc::is_grpc(&head.fields);
        let answer = if is_grpc { Status::new(Code::Ok, "").response() } else { ResponseHead::new(200) };
        // Nobody may be there any more to hear it.
        let _ = reply.respond(answer, Bytes::new()).await;
    }
}

// === impl Shop ===

impl Shop {
    fn before(application: SocketAddr, policy: &str) -> Self {
        let mesh = Mesh::new();
        let mut processes = vec![mesh.server()];
        let text = format!(
            "apiVersion: leno.mesh/v1\nkind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\n\
             spec:\n  targetRefs: [{{name: cart}}]\n  {policy}\n"
        );
        mesh.apply("policy.yaml", &text);
        let [outbound, admin, at_caller] = [(); 3].map(|()| free_address());
        processes.push(mesh.sidecar_with("cart.shop", application, &["--admin-listen", &admin.to_string()]));
        processes.push(mesh.caller_with(outbound, "front", &["--admin-listen", &at_caller.to_string()]));
        let mut shop = Self { mesh, outbound, inbound: outbound, admin, at_caller, _processes: processes };
        let is_there = || get_path(shop.outbound, "cart", "/").is_some_and(|(status, _)| status == 200);
        assert!(wait_until(TEN_SECONDS, is_there).is_some(), "{}", shop.mesh.done(&["status"]));
        shop.inbound = shop.cluster()["endpoints"][0]["proxy"].as_str().unwrap().parse().unwrap();
        if policy.contains("overload") {
            let is_gated = || shop.shown()["service"] == "cart.shop";
            assert!(wait_until(TEN_SECONDS, is_gated).is_some(), "{}", shop.shown());
        }
        shop
    }

    /// What the admin listener beside the caller says of the service.
    fn cluster(&self) -> serde_json::Value {
        let (_, body) = get_path(self.at_caller, "localhost", "/endpoints").unwrap();
        serde_json::from_str::<serde_json::Value>(&body).unwrap()[0].clone()
    }

    /// What the admin listener beside the instance says of the gate.
    fn shown(&self) -> serde_json::Value {
        let (_, body) = get_path(self.admin, "localhost", "/overload").unwrap();
        serde_json::from_str::<serde_json::Value>(&body).unwrap()[0].clone()
    }
}

/// Offers so many a second of a priority for so long, over connections of its own.
fn offer(to: SocketAddr, call: Call, priority: &str, per_second: u32, lasts: Duration) -> Vec<Got> {
    let count = (lasts.as_secs_f64() * f64::from(per_second)) as usize;
    Ask::get(call, "/").with(FIELD, priority).paced(to, count, lasts / count.max(1) as u32)
}

fn is_shed(got: &Got, call: Call) -> bool {
    let expected = if call == Call::Grpc { (200, Some(8)) } else { (503, None) };
    (got.status, got.grpc_status) == expected && got.reason == "overloaded"
}

fn quantile(mut times: Vec<Duration>, share: f64) -> Duration {
    times.sort_unstable();
    let at = (times.len() as f64 * share) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[test]
fn at_five_times_its_capacity_an_instance_does_what_it_can_and_first_what_matters_most() {
    let cart = Slotted::start();
    let shop = Shop::before(cart.address, "overload: {}");
    // What it does at its best, and time to find out how much that is.
    offer(shop.inbound, Call::Http2, "critical", 700, Duration::from_secs(3));
    // Of a machine that does other things, too, not every second is as good: how fast refusals are has to be seen once.
    assert!((0..ATTEMPTS).any(|_| press(&cart, &shop) <= FAST));
}

/// Five times the capacity for some seconds; how long refusals took at p99.
fn press(cart: &Slotted, shop: &Shop) -> Duration {
    let (began, before) = (Instant::now(), cart.done.load(SeqCst));
    let lasts = Duration::from_secs(4);
    let (to, mix) = (shop.inbound, [("critical-plus", 300), ("critical", 700), ("sheddable", 1500)]);
    let came: Vec<Vec<Got>> = std::thread::scope(|scope| {
        let running = mix.map(|(priority, rate)| scope.spawn(move || offer(to, Call::Http2, priority, rate, lasts)));
        running.map(|running| running.join().unwrap()).into()
    });
    let took = began.elapsed().as_secs_f64();
    let goodput = (cart.done.load(SeqCst) - before) as f64 / took;
    let refusals: Vec<Duration> =
        came.iter().flatten().filter(|got| is_shed(got, Call::Http2)).map(|got| got.took).collect();
    let good: Vec<usize> = came.iter().map(|came| came.iter().filter(|got| got.is_good()).count()).collect();
    let highest = came[0].iter().filter(|got| !got.is_good()).count();
    let (refused, p99) = (refusals.len(), quantile(refusals, 0.99));
    figures(format_args!(
        "25 slots of 50 ms, 2,500 a second offered for {took:.1} s: {goodput:.0} a second done, {good:?} good by priority, \
         {highest} of the highest not, {refused} refused within {p99:.1?} at p99; {}",
        shop.shown()
    ));
    assert!(goodput >= 0.8 * CAPACITY, "{goodput}");
    assert_eq!(highest, 0, "{:?}", came[0].iter().find(|got| !got.is_good()));
    assert!(refused > 1000, "{refused}");
    // Nearly all others are of the middle one.
    assert!(good[1] > 2 * good[2], "{good:?}");
    p99
}

#[test]
fn a_refusal_says_when_to_come_again_and_callers_neither_repeat_it_nor_take_it_for_a_fault() {
    let cart = Slotted::start();
    let retry = "retry: {on: [5xx, resource-exhausted], codes: [503], attempts: 3}\n  retryBudget: {percent: 100}";
    let guarded = "breaker: {preset: hystrix}\n  ejection: {consecutiveErrors: 3, maxShare: 100}";
    let shop = Shop::before(cart.address, &format!("overload: {{maxRequests: 4}}\n  {retry}\n  {guarded}"));
    let shed_so_far = || shop.shown()["shed"]["critical"].as_u64().unwrap();
    for call in Call::ALL {
        let before = shed_so_far();
        let came = Ask::post(call, "/").many(shop.outbound, 40);
        let (good, refused) =
            (came.iter().filter(|got| got.is_good()).count(), came.iter().filter(|got| is_shed(got, call)).count());
        figures(format_args!("overload by {call:?}: 40 at once where 4 may be: {good} good, {refused} refused"));
        // None is repeated: as many were shed as callers heard of.
        assert_eq!((good + refused, shed_so_far() - before), (40, refused as u64), "{came:?}");
        assert!(refused >= 30 && good >= 4, "{came:?}");
        assert_eq!(shop.cluster()["resilience"]["ejection"]["out"], 0, "{}", shop.cluster());
    }
    let request = "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n";
    let mut heard = Vec::new();
    let told = std::thread::scope(|scope| {
        let running = scope.spawn(|| Ask::get(Call::Http2, "/").paced(shop.outbound, 400, Duration::from_millis(5)));
        let asked = wait_until(TEN_SECONDS, || {
            heard.extend(exchange_whole(shop.outbound, request));
            let is_told = |head: &str| head.lines().any(|line| line == "retry-after: 1");
            heard.last().is_some_and(|(status, _, head)| *status == 503 && is_told(head))
        });
        running.join().unwrap();
        asked
    });
    assert!(told.is_some(), "{} {heard:?}", shop.cluster());
    let cluster = shop.cluster();
    assert_eq!(cluster["resilience"]["breaker"]["state"], "closed", "{cluster}");
    assert!(Ask::get(Call::Http1, "/").one(shop.outbound).is_good(), "and nobody is ejected: {cluster}");
}

#[test]
fn a_priority_is_given_where_a_request_enters_and_travels_to_the_application() {
    let cart = Scripted::start(|_| Told::ok());
    let matches = |path: &str| format!("matches: [{{path: {{type: PathPrefix, value: {path}}}}}]");
    let rules = format!(
        "priorities:\n  - {{priority: critical-plus, {}}}\n  - {{priority: sheddable, {}}}",
        matches("/checkout"),
        matches("/suggest")
    );
    let shop = Shop::before(cart.address, &rules);
    let heard = |ask: &Ask| {
        assert!(ask.one(shop.outbound).is_good());
        cart.asked_for(&ask.path).last().unwrap().field(FIELD).map(str::to_owned)
    };
    for call in Call::ALL {
        let of = |path: &str| Ask::get(call, &format!("{path}/{call:?}"));
        assert_eq!(heard(&of("/checkout")).as_deref(), Some("critical-plus"));
        assert_eq!(heard(&of("/suggest")).as_deref(), Some("sheddable"));
        assert_eq!(heard(&of("/other")), None);
        // An application that passes on what it was told.
        assert_eq!(heard(&of("/checkout").with(FIELD, "sheddable-plus")).as_deref(), Some("sheddable-plus"));
        assert_eq!(heard(&of("/suggest").with(FIELD, "the-most-important")).as_deref(), Some("sheddable"));
    }
}

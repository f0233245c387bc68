//! What a mesh under load survives: its server killed, an instance killed, a proxy killed, everything changed all the
//! time. Each test prints what it measured.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kit::application::{self, Application};
use kit::load::{CHANGE_FIELD, Kind, Load};
use kit::mesh::{Mesh, Process, exchange_whole, get, get_path, proxy_of, wait_until};
use kit::{figures, free_address};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Requests a second.
const RATE: u32 = 500;

// === the server is killed ===

/// How long the server is away.
const OUTAGE: Duration = Duration::from_secs(60);
/// How often instances renew; a proxy renews every third of its lease.
const RENEW_EVERY: Duration = Duration::from_secs(30);
const PROXY_LEASE: &str = "90s";
/// The lease of the instance that renews by hand: it is over before the server is back.
const LEASE: Duration = Duration::from_secs(60);
/// Within this everything is as it should be after the server is back.
const CONVERGED: Duration = Duration::from_secs(5);

#[test]
fn nothing_fails_and_nothing_is_lost_while_the_server_is_killed_for_a_minute() {
    let port = free_address().port();
    let mesh = Mesh { port, ..Mesh::new() };
    let mut server = mesh.server();
    let _carts: Vec<Process> = ["cart-1", "cart-2", "cart-3"]
        .map(|name| {
            let lease = ["--lease", PROXY_LEASE, "--instance", name];
            mesh.sidecar_with("cart.shop", application::within(name, 2 * MS), &lease)
        })
        .into();
    let renewing = Renewing::start(&mesh, beside(2, port, "cart-4"));
    let (outbound, admin, other) = (free_address(), free_address(), free_address());
    let _front = mesh.caller_with(outbound, "front", &["--admin-listen", &admin.to_string()]);
    let mut restarted = mesh.caller(other, "other");
    for proxy in [outbound, other] {
        assert!(wait_until(5 * SECOND, || get(proxy, "cart").is_some_and(|(status, _)| status == 200)).is_some());
    }
    assert!(wait_until(5 * SECOND, || endpoints(admin) == 4).is_some(), "{} endpoints", endpoints(admin));
    let kept = mesh.leno.path("other/proxy-snapshot.json");
    let is_kept = || std::fs::read_to_string(&kept).is_ok_and(|text| text.matches("cart-").count() >= 4);
    assert!(wait_until(10 * SECOND, is_kept).is_some(), "no snapshot was written");

    let started = Instant::now();
    let load = Load::start(outbound, "cart", &Kind::ALL, RATE);
    let watched = Watched::start(admin);
    load.go_on_for(u64::from(RATE));
    server.kill();
    let killed = Instant::now();
    load.go_on_for(u64::from(RATE));
    restarted.kill();
    let (restarted, from_disk) = first_answer(&mesh, other);
    let load_goes_on = || assert_eq!(load.failed(), 0, "during the outage");
    while killed.elapsed() < OUTAGE {
        load.go_on_for(u64::from(RATE));
        load_goes_on();
    }

    let _server = mesh.server();
    let back = Instant::now();
    let _late = mesh.sidecar("late.shop", application::within("late", Duration::ZERO));
    mesh.apply("cart.yaml", &route(port, 1));
    let in_effect = |proxy| {
        let late = get(proxy, "late").is_some_and(|(status, _)| status == 200);
        late && change_of(proxy, "cart") == Some(1)
    };
    let everybody = || [outbound, other].into_iter().all(in_effect) && synced(&mesh) == 6;
    let converged = wait_until(4 * CONVERGED, everybody).map(|_| back.elapsed());
    while back.elapsed() < LEASE + 2 * SECOND {
        load.go_on_for(u64::from(RATE));
    }
    let fewest = watched.end();
    let tally = load.end();
    let (failed, (worst, p99)) = (tally.failed().count(), tally.latency_ms());
    figures(format_args!(
        "server away 60 s: {} requests, {failed} failed, worst {worst} ms, p99 {p99} ms, fewest endpoints {fewest} of 4, \
         from disk after {} ms, converged after {} ms, {} renewals of which {} refused",
        tally.asked.len(),
        from_disk.as_millis(),
        converged.map_or("more than 20000".to_owned(), |time| time.as_millis().to_string()),
        renewing.done.load(Ordering::Relaxed),
        renewing.refused.load(Ordering::Relaxed),
    ));
    assert_eq!(failed, 0, "of {} requests:{}", tally.asked.len(), tally.failures(started));
    assert!(tally.asked.len() as u64 >= 120 * u64::from(RATE), "{} requests are no steady load", tally.asked.len());
    assert_eq!(fewest, 4, "endpoints were lost");
    assert_eq!(renewing.refused.load(Ordering::Relaxed), 0, "a registration was lost");
    assert!(from_disk <= SECOND, "served from disk after {from_disk:?}");
    assert!(converged.is_some_and(|time| time <= CONVERGED), "converged after {converged:?}");
    assert_eq!(registered(&mesh, "cart"), 4);
    drop(restarted);
}

/// Starts a caller's proxy and asks it until it answers; how long that took from its start.
fn first_answer(mesh: &Mesh, outbound: SocketAddr) -> (Process, Duration) {
    let listen = outbound.to_string();
    let started = Instant::now();
    let proxy = mesh.proxy(&["--service", "front.shop", "--outbound-listen", &listen, "--data-dir", "other"]);
    let answered = || get(outbound, "cart").is_some_and(|(status, _)| status == 200);
    let took = wait_until(20 * SECOND, answered).map(|_| started.elapsed());
    (proxy, took.expect("the proxy serves from its disk"))
}

/// An application at an address of its own, and a port that all instances of the service have.
fn beside(last: u8, port: u16, name: &str) -> SocketAddr {
    application::within_at(SocketAddr::from(([127, 0, 0, last], port)), name, 2 * MS)
}

/// The change that the route in effect at a proxy came with.
fn change_of(proxy: SocketAddr, host: &str) -> Option<u64> {
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let (_, _, head) = exchange_whole(proxy, &request)?;
    let (_, value) = head.split_once(&format!("{CHANGE_FIELD}: "))?;
    value.lines().next()?.trim().parse().ok()
}

/// How many endpoints of `cart` a proxy uses.
fn endpoints(admin: SocketAddr) -> usize {
    let Some((200, body)) = get_path(admin, "localhost", "/endpoints") else { return 0 };
    let clusters: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    let of_cart = |cluster: &&serde_json::Value| cluster["cluster"].as_str().is_some_and(|name| name.contains("cart"));
    let healthy = |cluster: &serde_json::Value| {
        let endpoints = cluster["endpoints"].as_array().cloned().unwrap_or_default();
        endpoints.iter().filter(|endpoint| endpoint["health"] == "healthy").count()
    };
    clusters.as_array().into_iter().flatten().find(of_cart).map_or(0, healthy)
}

/// How many proxies the server has that have everything in effect.
fn synced(mesh: &Mesh) -> usize {
    let Some((200, status)) = mesh.api().call("GET", "/api/v1/status", "") else { return 0 };
    let proxies = status["proxies"].as_array().cloned().unwrap_or_default();
    let is_synced = |proxy: &&serde_json::Value| {
        proxy["kinds"].as_object().is_some_and(|kinds| kinds.values().all(|kind| kind["inEffect"] != false))
    };
    proxies.iter().filter(is_synced).count()
}

/// How many instances of a service the server routes to.
fn registered(mesh: &Mesh, service: &str) -> usize {
    let (_, shown) = mesh.api().call("GET", &format!("/api/v1/services/shop/{service}"), "").unwrap();
    let instances = shown["instances"].as_array().cloned().unwrap_or_default();
    instances.iter().filter(|instance| instance["routable"] == "yes").count()
}

/// Looks all the time how many endpoints a proxy uses.
struct Watched {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<usize>,
}

// === impl Watched ===

impl Watched {
    fn start(admin: SocketAddr) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut fewest = usize::MAX;
            while !stopped.load(Ordering::Relaxed) {
                fewest = fewest.min(endpoints(admin));
                std::thread::sleep(100 * MS);
            }
            fewest
        });
        Self { stop, thread }
    }

    /// The fewest that were seen.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// An instance without a proxy of leno that renews its lease over the API every 30 s, whether the server is there or not.
struct Renewing {
    done: Arc<AtomicUsize>,
    /// Renewals that a server answered with no.
    refused: Arc<AtomicUsize>,
}

// === impl Renewing ===

impl Renewing {
    fn start(mesh: &Mesh, application: SocketAddr) -> Self {
        let instance = serde_json::json!({
            "id": "cart-4",
            "address": application.ip(),
            "ports": [{ "number": application.port(), "protocol": "detect" }],
            "lease": LEASE.as_millis() as u64,
        });
        let registered =
            mesh.api().call("POST", "/api/v1/services/shop/cart/instances", &instance.to_string()).unwrap();
        assert!(registered.0 < 300, "{registered:?}");
        let renewing = Self { done: Arc::default(), refused: Arc::default() };
        let (done, refused) = (renewing.done.clone(), renewing.refused.clone());
        let caller = mesh.api();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(RENEW_EVERY);
                match caller.call("PUT", "/api/v1/services/shop/cart/instances/cart-4/renew", "") {
                    Some((200..300, _)) => done.fetch_add(1, Ordering::Relaxed),
                    Some(_) => refused.fetch_add(1, Ordering::Relaxed),
                    // The server is away.
                    None => 0,
                };
            }
        });
        renewing
    }
}

// === an instance is killed ===

const ENTRY: &str = "an_application_says_who_it_is_over_both_versions_of_http";
/// Long enough for some requests to be open at any time.
const HOLD: Duration = Duration::from_millis(15);
/// Requests a second while an instance is killed.
const KILL_RATE: u32 = 200;

#[test]
fn an_application_says_who_it_is_over_both_versions_of_http() {
    application::become_one();
    let address = application::within("cart", Duration::ZERO);
    let load = Load::start(address, "cart", &Kind::ALL, 200);
    load.go_on_for(100);
    let tally = load.end();
    assert_eq!(tally.failed().count(), 0, "{}", tally.failures(Instant::now()));
    assert!(tally.asked.iter().all(|asked| asked.came.as_deref() == Ok("cart")));
}

#[test]
fn a_killed_application_loses_only_the_requests_that_were_open_in_it() {
    kill_instances(false);
}

#[test]
fn an_application_killed_with_its_proxy_loses_only_the_requests_that_were_open_in_it() {
    kill_instances(true);
}

/// Kills one of two instances, for each method over each version of HTTP.
fn kill_instances(with_proxy: bool) {
    let mesh = Mesh::new();
    let _server = mesh.server();
    let outbound = free_address();
    let _front = mesh.caller(outbound, "front");
    let lost: Vec<String> = Kind::ALL.map(|kind| kill_instance(&mesh, outbound, kind, with_proxy)).into();
    let killed = if with_proxy { "application and proxy" } else { "application" };
    figures(format_args!("{killed} killed: {}", lost.join("; ")));
}

fn kill_instance(mesh: &Mesh, outbound: SocketAddr, kind: Kind, with_proxy: bool) -> String {
    let service = format!("cart-{}", kind as u8);
    let (mut dying, staying) = (Application::start(ENTRY, "dying", HOLD), Application::start(ENTRY, "staying", HOLD));
    let name = format!("{service}.shop");
    let (mut proxy, _other) = (mesh.sidecar(&name, dying.address), mesh.sidecar(&name, staying.address));
    assert!(wait_until(5 * SECOND, || get(outbound, &service).is_some_and(|(status, _)| status == 200)).is_some());
    let load = Load::start(outbound, &service, &[kind], KILL_RATE);
    load.go_on_for(200);

    let killed_from = Instant::now();
    if with_proxy {
        // First the proxy, so that the application's last words do not save what was open on the instance.
        proxy.kill();
    }
    let open_inside = dying.kill();
    let killed_until = Instant::now();
    load.go_on_for(600);
    let tally = load.end();

    let elsewhere = staying.log().came;
    let was_open = |asked: &&kit::load::Asked| asked.sent <= killed_until && asked.ended >= killed_from;
    let open: BTreeSet<u64> = tally.asked.iter().filter(was_open).map(|asked| asked.id).collect();
    let open_on_it = open.difference(&elsewhere).count().max(open_inside.len());
    let failed: BTreeSet<u64> = tally.failed().map(|asked| asked.id).collect();
    let survived = |id: &&u64| elsewhere.contains(id);
    let tried_again = open_inside.iter().filter(survived).count();
    let what = format!(
        "{} {} of {} failed, {open_on_it} open on it, {tried_again} of {} inside it answered elsewhere, worst {} ms",
        kind.name(),
        failed.len(),
        tally.asked.len(),
        open_inside.len(),
        tally.latency_ms().0
    );
    let said = tally.failures(killed_from);
    assert!(failed.is_subset(&open), "requests failed that were not open when it was killed: {what}{said}");
    assert!(failed.len() <= open_on_it, "{what}{said}");
    // What may be repeated is, unless the rule says otherwise.
    assert!(kind.is_post() || failed.is_empty(), "{what}{said}");
    let late = tally.asked.iter().filter(|asked| asked.sent > killed_until);
    assert!(late.clone().all(|asked| asked.came.as_deref() == Ok("staying")), "{what}");
    assert!(!dying.log().answered.is_empty(), "the instance that was killed had no traffic");
    what
}

// === the proxy of a program is killed ===

/// A program that answers with its process id, asks another service when told to, and repeats what it reads.
const PROGRAM: &str = r#"
import http.server, os, sys, threading, urllib.request

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(os.getpid())
        if self.path == "/out":
            body = urllib.request.urlopen("http://stock/", timeout=5).read().decode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments):
        pass

def repeat():
    for line in sys.stdin:
        print("read", line.strip(), flush=True)

threading.Thread(target=repeat, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"#;

#[test]
fn a_killed_proxy_is_back_within_a_second_and_the_program_does_not_notice() {
    const NAME: &str = "a_killed_proxy_is_back_within_a_second_and_the_program_does_not_notice";
    if kit::cannot_capture(NAME, &["python3"]) {
        return;
    }
    let mesh = Mesh::new();
    let _server = mesh.server();
    let outbound = free_address();
    let _front = mesh.caller(outbound, "front");
    let _stock = mesh.sidecar("stock.shop", application::within("stock", Duration::ZERO));
    let arguments = ["run", "--server", &mesh.grpc, "--service", "cart.shop", "--", "python3", "-c", PROGRAM];
    let mut command = mesh.leno.command_under_load(&arguments);
    command.env("PATH", std::env::var("PATH").unwrap());
    let mut run = Process::of(command);
    let (mut input, output) = (run.child.stdin.take().unwrap(), run.child.stdout.take().unwrap());
    let mut output = BufReader::new(output).lines();
    let mut repeats = |line: &str| {
        writeln!(input, "{line}").unwrap();
        output.next().unwrap().unwrap() == format!("read {line}")
    };
    let asked =
        |path: &str| get_path(outbound, "cart", path).filter(|(status, _)| *status == 200).map(|(_, body)| body);
    assert!(wait_until(20 * SECOND, || asked("/").is_some()).is_some(), "the program never answered");
    let pid = asked("/").unwrap();
    assert!(repeats("before") && asked("/out").is_some_and(|body| body.starts_with("stock")));

    let mut back = Vec::new();
    for round in 0..3 {
        let proxy = proxy_of(run.child.id());
        let killed = Instant::now();
        rustix::process::kill_process(proxy, rustix::process::Signal::KILL).unwrap();
        let inbound = wait_until(10 * SECOND, || asked("/").is_some()).map(|_| killed.elapsed());
        let both = wait_until(10 * SECOND, || asked("/out").is_some()).map(|_| killed.elapsed());
        assert_eq!(asked("/").as_deref(), Some(&*pid), "another program answers");
        assert!(repeats(&format!("after {round}")));
        back.push((inbound.expect("it is back"), both.expect("the program is asked and asks again")));
    }
    let shown: Vec<String> = back
        .iter()
        .map(|(inbound, both)| format!("{} ms ({} ms both ways)", inbound.as_millis(), both.as_millis()))
        .collect();
    figures(format_args!(
        "proxy killed under run: back after {}; the program is still process {pid}",
        shown.join(", ")
    ));
    assert!(back.iter().all(|(_, both)| *both <= SECOND), "{shown:?}");
    assert_eq!(registered(&mesh, "cart"), 1, "each proxy registered an instance of its own");
    let supervisor = rustix::process::Pid::from_child(&run.child);
    rustix::process::kill_process(supervisor, rustix::process::Signal::TERM).unwrap();
    run.child.wait().unwrap();
}

// === everything changes ===

const CHANGES: u64 = 200;
const CHANGES_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn two_hundred_changes_of_routes_and_endpoints_in_a_minute_fail_nothing() {
    let port = free_address().port();
    let mesh = Mesh { port, ..Mesh::new() };
    let _server = mesh.server();
    let mut carts: Vec<Process> =
        ["cart-1", "cart-2"].map(|name| mesh.sidecar("cart.shop", application::within(name, 2 * MS))).into();
    let spare: Vec<SocketAddr> =
        [(3, "cart-3"), (4, "cart-4"), (5, "cart-5")].map(|(last, name)| beside(last, port, name)).into();
    let outbound = free_address();
    let _front = mesh.caller(outbound, "front");
    mesh.apply("cart.yaml", &route(port, 0));
    assert!(wait_until(5 * SECOND, || change_of(outbound, "cart") == Some(0)).is_some());
    let started = Instant::now();
    let load = Load::start(outbound, "cart", &Kind::ALL, RATE);
    load.go_on_for(u64::from(RATE));

    let changing = Instant::now();
    for change in 1..=CHANGES {
        let due = changing + CHANGES_WITHIN * u32::try_from(change).unwrap() / CHANGES as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let application = spare[(change / 4) as usize % spare.len()];
        match change % 4 {
            0 | 2 => mesh.apply("cart.yaml", &route(port, change)),
            1 => drop(mesh.done(&["service", "register", "cart.shop", &format!("{application}=detect")])),
            _ if change % 20 == 3 => {
                // An instance with its proxy comes, and another goes as a roll-out would have it go.
                carts.push(mesh.sidecar("cart.shop", application::within("cart-new", 2 * MS)));
                assert_eq!(carts.remove(0).terminate(), 0);
            }
            _ => drop(mesh.done(&["service", "deregister", "cart.shop", &application.to_string()])),
        }
    }
    let changed = changing.elapsed();
    let last = wait_until(5 * SECOND, || change_of(outbound, "cart") == Some(CHANGES));
    load.go_on_for(u64::from(RATE));
    let tally = load.end();
    let (failed, (worst, p99)) = (tally.failed().count(), tally.latency_ms());
    let seen: BTreeSet<u64> = tally.asked.iter().map(|asked| asked.change).collect();
    let who: BTreeSet<&str> = tally.asked.iter().filter_map(|asked| asked.came.as_deref().ok()).collect();
    figures(format_args!(
        "{CHANGES} changes in {:.1} s: {} requests, {failed} failed, worst {worst} ms, p99 {p99} ms, {} routes seen in effect, {} applications answered",
        changed.as_secs_f32(),
        tally.asked.len(),
        seen.len(),
        who.len()
    ));
    assert_eq!(failed, 0, "of {} requests:{}", tally.asked.len(), tally.failures(started));
    assert!(changed < CHANGES_WITHIN + 2 * SECOND, "the changes took {changed:?}");
    assert!(last.is_some(), "the last change is not in effect");
    assert!(seen.len() as u64 >= CHANGES * 2 / 5, "only {} of {} routes were ever in effect", seen.len(), CHANGES / 2);
    assert!(who.len() == 6, "{who:?}");
}

/// A route that says which change it is; each has another shape than the one before.
fn route(port: u16, change: u64) -> String {
    let matches = match change % 3 {
        0 => "",
        1 => "\n    matches: [{path: {type: PathPrefix, value: /}}]",
        _ => "\n    matches: [{method: GET}, {method: POST}]",
    };
    let filter = format!("{{set: [{{name: {CHANGE_FIELD}, value: \"{change}\"}}]}}");
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: cart, namespace: shop}}
spec:
  parentRefs: [{{group: \"\", kind: Service, name: cart}}]
  rules:
  - filters: [{{type: ResponseHeaderModifier, responseHeaderModifier: {filter}}}]
    backendRefs: [{{name: cart, port: {port}, weight: {}}}]{matches}
",
        change % 7 + 1
    )
}

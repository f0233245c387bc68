//! Whole meshes: the built binary as server, proxies and supervisor, real sockets, and what happens when parts die.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use kit::application::within;
use kit::load::{Kind, Load};
use kit::mesh::{Mesh, Process, get, get_path, get_until, proxy_of, wait_until};
use kit::{figures, free_address};
use rustix::process::{Pid, Signal, kill_process};

/// What applications answer to a request without number and body.
const CART: &str = "cart 0 0";
const LATE: &str = "late 0 0";
/// Requests a second of a load.
const RATE: u32 = 200;
/// A program that never answers; it says its process when it is asked.
const HOLDING: &str = "import http.server, os, time\nclass H(http.server.BaseHTTPRequestHandler):\n def do_GET(self):\n  print(os.getpid(), flush=True); time.sleep(60)\nhttp.server.ThreadingHTTPServer(('127.0.0.1',8080),H).serve_forever()";

fn application(name: &str) -> SocketAddr {
    within(name, Duration::ZERO)
}

/// Nothing failed.
fn assert_none_failed(load: Load) {
    let (ended, tally) = (Instant::now(), load.end());
    assert_eq!(tally.failed().count(), 0, "of {} requests: {}", tally.asked.len(), tally.failures(ended));
}

#[test]
fn a_service_is_found_and_reached_through_two_proxies() {
    let mesh = Mesh::new();
    let _server = mesh.server();
    let _cart = mesh.sidecar("cart.shop", application("cart"));
    let outbound = free_address();
    let _front = mesh.caller(outbound, "front");
    get_until(outbound, "cart", (200, CART), Duration::from_secs(5));
    assert_eq!(get(outbound, "cart.shop.mesh").unwrap().0, 200);
    assert_eq!(get(outbound, "nobody.shop.mesh").unwrap().0, 404);
}

#[test]
fn traffic_goes_on_while_the_server_is_gone_and_everything_is_there_when_it_is_back() {
    let mesh = Mesh::new();
    let mut server = mesh.server();
    let _cart = mesh.sidecar("cart.shop", application("cart"));
    let outbound = free_address();
    let mut front = mesh.caller(outbound, "front");
    get_until(outbound, "cart", (200, CART), Duration::from_secs(5));
    // The state is written behind; a restart from disk needs it there.
    let snapshot = mesh.leno.path("front/proxy-snapshot.json");
    let until = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(&snapshot).is_ok_and(|text| text.contains("\"address\"")) {
        assert!(Instant::now() < until, "no snapshot was written");
        std::thread::sleep(Duration::from_millis(20));
    }

    let other = free_address();
    let _other = mesh.caller(other, "other");
    get_until(other, "cart", (200, CART), Duration::from_secs(5));
    let load = Load::start(other, "cart", &Kind::ALL, RATE);
    server.kill();
    front.kill();
    let front = mesh.caller(outbound, "front");
    get_until(outbound, "cart", (200, CART), Duration::from_secs(1));
    load.go_on_for(200);
    let _server = mesh.server();
    load.go_on_for(200);
    let _late = mesh.sidecar("late.shop", application("late"));
    get_until(outbound, "late", (200, LATE), Duration::from_secs(5));
    get_until(other, "late", (200, LATE), Duration::from_secs(5));
    assert_none_failed(load);
    drop(front);
}

#[test]
fn a_draining_instance_fails_no_request() {
    let mesh = Mesh::new();
    let _server = mesh.server();
    let leaving = mesh.sidecar("cart.shop", application("cart"));
    let _staying = mesh.sidecar("cart.shop", application("cart"));
    let outbound = free_address();
    let _front = mesh.caller(outbound, "front");
    get_until(outbound, "cart", (200, CART), Duration::from_secs(5));
    let load = Load::start(outbound, "cart", &Kind::ALL, RATE);
    load.go_on_for(50);
    assert_eq!(leaving.terminate(), 0);
    load.go_on_for(100);
    assert_none_failed(load);
}

#[test]
fn a_draining_instance_waits_until_its_callers_know() {
    let mesh = Mesh::new();
    let _server = mesh.server();
    let carts = [(), (), ()].map(|()| mesh.sidecar("cart.shop", application("cart")));
    let outbound = free_address();
    let front = mesh.caller(outbound, "front");
    get_until(outbound, "cart", (200, CART), Duration::from_secs(5));
    let [first, second, _third] = carts;
    let leave = |instance: Process| {
        let started = Instant::now();
        assert_eq!(instance.terminate(), 0);
        started.elapsed()
    };
    let told = leave(first);
    let caller = Pid::from_child(&front.child);
    kill_process(caller, Signal::STOP).unwrap();
    let untold = leave(second);
    kill_process(caller, Signal::CONT).unwrap();
    // A caller that does not answer holds up nobody for more than five seconds.
    assert!(told < Duration::from_secs(2), "{told:?} though its caller knew");
    assert!(untold > Duration::from_secs(3) && untold < Duration::from_secs(7), "{untold:?} though its caller slept");
}

#[test]
fn an_instance_that_is_killed_loses_no_request_that_was_not_open_on_it() {
    let mesh = Mesh::new();
    let _server = mesh.server();
    let mut dying = mesh.sidecar("cart.shop", application("cart"));
    let _staying = mesh.sidecar("cart.shop", application("cart"));
    let outbound = free_address();
    let _front = mesh.caller(outbound, "front");
    get_until(outbound, "cart", (200, CART), Duration::from_secs(5));
    // What may be asked twice.
    let load = Load::start(outbound, "cart", &[Kind::GetHttp1, Kind::GetHttp2], RATE);
    load.go_on_for(50);
    dying.kill();
    let killed = Instant::now();
    load.go_on_for(200);
    let tally = load.end();
    let later = tally.failed().filter(|asked| asked.sent > killed).count();
    assert_eq!(later, 0, "requests sent after it was killed: {}", tally.failures(killed));
}

#[test]
fn a_gateway_opens_its_listeners_and_follows_their_routes() {
    let mesh = Mesh::new();
    let server = mesh.server();
    let _cart = mesh.sidecar("cart.shop", application("cart"));
    let port = free_address().port();
    let edge = format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: shop}}
spec:
  gatewayClassName: leno
  listeners: [{{name: web, port: {port}, protocol: HTTP}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: shop, namespace: shop}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: /}}}}]
    backendRefs: [{{name: cart, port: 8080}}]
"
    );
    std::fs::write(mesh.leno.path("edge.yaml"), edge).unwrap();
    let api = format!("http://{}", mesh.http);
    let applied = mesh.leno.run(&["apply", "-f", "edge.yaml", "--api", &api, "--data-dir", "state"]);
    assert_eq!(applied.status, 0, "{applied:?}");
    let _gateway = mesh.proxy(&["--role", "gateway", "--gateway", "edge.shop", "--outbound-listen", "off"]);
    let public = SocketAddr::from(([127, 0, 0, 1], port));
    get_until(public, "shop.example.com", (200, CART), Duration::from_secs(5));
    drop(server);
}

#[test]
fn a_captured_program_reaches_the_mesh_by_name_and_its_exit_status_is_kept() {
    if kit::cannot_capture("a_captured_program_reaches_the_mesh_by_name_and_its_exit_status_is_kept", &["curl"]) {
        return;
    }
    let mesh = Mesh::new();
    let _server = mesh.server();
    let _cart = mesh.sidecar("cart.shop", application("cart"));
    let run = |command: &[&str]| {
        let mut arguments = vec!["run", "--server", &mesh.grpc, "--service", "front.shop", "--"];
        arguments.extend(command);
        let path = std::env::var("PATH").unwrap();
        mesh.leno.command_under_load(&arguments).env("PATH", path).output().unwrap()
    };
    let asked = run(&["curl", "-s", "--max-time", "10", "http://cart/"]);
    assert_eq!(String::from_utf8_lossy(&asked.stdout), CART, "{}", String::from_utf8_lossy(&asked.stderr));
    assert_eq!(run(&["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(run(&["no-such-program"]).status.code(), Some(127));
}

#[test]
fn a_proxy_that_dies_under_run_is_replaced_and_the_program_goes_on() {
    if kit::cannot_capture("a_proxy_that_dies_under_run_is_replaced_and_the_program_goes_on", &["python3"]) {
        return;
    }
    let mesh = Mesh::new();
    let _server = mesh.server();
    let outbound = free_address();
    let _front = mesh.caller(outbound, "front");
    let python = "import http.server\nclass H(http.server.BaseHTTPRequestHandler):\n def do_GET(self):\n  self.send_response(200); self.send_header('Content-Length','4'); self.end_headers(); self.wfile.write(b'cart')\n def log_message(self,*a): pass\nhttp.server.ThreadingHTTPServer(('127.0.0.1',8080),H).serve_forever()";
    let mut command = mesh.leno.command_under_load(&[
        "run",
        "--server",
        &mesh.grpc,
        "--service",
        "cart.shop",
        "--",
        "python3",
        "-c",
        python,
    ]);
    command.env("PATH", std::env::var("PATH").unwrap()).stdin(std::process::Stdio::null());
    let mut run = command.spawn().unwrap();
    get_until(outbound, "cart", (200, "cart"), Duration::from_secs(20));
    let proxy = proxy_of(run.id());
    kill_process(proxy, Signal::KILL).unwrap();
    get_until(outbound, "cart", (200, "cart"), Duration::from_secs(1));
    assert!(run.try_wait().unwrap().is_none(), "the supervisor lives as long as the program");
    let supervisor = Pid::from_child(&run);
    kill_process(supervisor, Signal::TERM).unwrap();
    run.wait().unwrap();
}

/// Runs [`HOLDING`] until it has a request open; its supervisor, and its process.
fn holding(mesh: &Mesh, outbound: SocketAddr) -> (Process, Pid) {
    let arguments = ["run", "--server", &mesh.grpc, "--service", "cart.shop", "--", "python3", "-c", HOLDING];
    let mut command = mesh.leno.command_under_load(&arguments);
    command.env("PATH", std::env::var("PATH").unwrap()).stdin(std::process::Stdio::null());
    let mut run = Process::of(command);
    // Asked until the program has one open; the name is known a moment later than the program listens.
    std::thread::spawn(move || while get(outbound, "cart").is_some_and(|(status, _)| status != 200) {});
    let said = BufReader::new(run.child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    (run, Pid::from_raw(said.parse().unwrap()).unwrap())
}

/// What the server says about the instances of the only service.
fn instances(mesh: &Mesh) -> String {
    let (_, shown) = mesh.api().call("GET", "/api/v1/services/shop/cart", "").unwrap();
    shown["instances"].to_string()
}

/// Ends the supervisor, and waits until the registry knows.
fn end_and_wait_for_the_drain(mesh: &Mesh, run: &Process) {
    kill_process(Pid::from_child(&run.child), Signal::TERM).unwrap();
    let drains = wait_until(Duration::from_secs(10), || instances(mesh).contains("draining"));
    assert!(drains.is_some(), "it does not drain: {}", instances(mesh));
}

#[test]
fn a_second_signal_does_not_wait_for_open_requests() {
    if kit::cannot_capture("a_second_signal_does_not_wait_for_open_requests", &["python3"]) {
        return;
    }
    let mesh = Mesh::new();
    let _server = mesh.server();
    let outbound = free_address();
    let _front = mesh.caller(outbound, "front");
    let (mut run, _) = holding(&mesh, outbound);
    let asked = Instant::now();
    end_and_wait_for_the_drain(&mesh, &run);
    assert!(run.child.try_wait().unwrap().is_none(), "it waits for the open request");
    kill_process(Pid::from_child(&run.child), Signal::TERM).unwrap();
    let status = run.child.wait().unwrap();
    assert_eq!(status.code(), Some(128 + 15), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[test]
fn a_program_that_ends_during_the_drain_keeps_its_status_and_is_taken_out() {
    if kit::cannot_capture("a_program_that_ends_during_the_drain_keeps_its_status_and_is_taken_out", &["python3"]) {
        return;
    }
    let mesh = Mesh::new();
    let _server = mesh.server();
    let outbound = free_address();
    let _front = mesh.caller(outbound, "front");
    let (mut run, program) = holding(&mesh, outbound);
    end_and_wait_for_the_drain(&mesh, &run);
    kill_process(program, Signal::TERM).unwrap();
    let status = run.child.wait().unwrap();
    assert_eq!(status.code(), Some(128 + 15), "{status}");
    assert!(!instances(&mesh).contains("draining"), "it is still registered: {}", instances(&mesh));
}

#[test]
fn a_server_stops_at_once_although_proxies_and_a_dashboard_are_connected() {
    let mesh = Mesh::new();
    let server = mesh.server();
    let proxies: Vec<Process> = (0..5).map(|index| mesh.caller(free_address(), &format!("front-{index}"))).collect();
    let token = std::fs::read_to_string(mesh.leno.path("state/admin.token")).unwrap();
    let mut watching = TcpStream::connect(&mesh.http).unwrap();
    let request =
        format!("GET /api/v1/live HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n", mesh.http, token.trim());
    watching.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(watching).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("data: ")), "no document came");
    let asked = Instant::now();
    assert_eq!(server.terminate(), 0);
    assert!(asked.elapsed() < Duration::from_secs(3), "it took {:?}", asked.elapsed());
    drop(proxies);
}

/// Names asked for at once, how many times at least, and at most until memory has settled.
const NAMES_AT_ONCE: usize = 1000;
const ROUNDS_OF_NAMES: std::ops::RangeInclusive<usize> = 10..=40;

/// By how many megabytes memory may grow in five rounds: a name that cost 200 bytes for good would be twice that.
const SETTLED_MB: f64 = 0.5;

#[test]
fn ten_thousand_names_that_do_not_exist_grow_nothing() {
    let mesh = Mesh::new();
    let _server = mesh.server();
    let _cart = mesh.sidecar("cart.shop", application("cart"));
    let (outbound, admin) = (free_address(), free_address());
    let front = mesh.caller_with(outbound, "front", &["--admin-listen", &admin.to_string()]);
    get_until(outbound, "cart", (200, CART), Duration::from_secs(10));
    let lines = || get_path(admin, &admin.to_string(), "/metrics").unwrap().1.lines().count();

    // The first rounds take what so many connections need, which the allocator comes to by steps.
    let mut seen: Vec<(f64, usize)> = Vec::new();
    let growth = |seen: &[(f64, usize)]| seen[seen.len() - 1].0 - seen[seen.len() - 6].0;
    for round in 0..*ROUNDS_OF_NAMES.end() {
        let mut asking: Vec<TcpStream> = (0..NAMES_AT_ONCE)
            .map(|number| {
                let mut stream = TcpStream::connect(outbound).unwrap();
                let name = format!("unknown-{round}-{number}.shop.mesh");
                write!(stream, "GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n").unwrap();
                stream
            })
            .collect();
        assert_eq!(
            get(outbound, "cart"),
            Some((200, CART.to_owned())),
            "a name that exists waits for those that do not"
        );
        for stream in &mut asking {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 404 ") || answer.starts_with("HTTP/1.1 503 "), "{answer}");
        }
        seen.push((front.memory_mb(), lines()));
        if seen.len() >= *ROUNDS_OF_NAMES.start() && growth(&seen) < SETTLED_MB {
            break;
        }
    }
    let (names, growth, (memory, lines_after)) = (seen.len() * NAMES_AT_ONCE, growth(&seen), seen[seen.len() - 1]);
    figures(format_args!(
        "{names} unknown names: memory {memory:.1} MB, {growth:.2} MB of it in the last five rounds; {lines_after} lines \
         of metrics"
    ));
    assert!(growth < SETTLED_MB && lines_after == seen[0].1, "{seen:?}");
    let (_, services) = mesh.api().call("GET", "/api/v1/services", "").unwrap();
    assert!(!services.to_string().contains("unknown-"), "{services}");
}

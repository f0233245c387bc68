//! Whole meshes: the built binary as server, proxies and supervisor, real sockets, and what happens when parts die.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kit::{Leno, free_address, leno};

/// A process of leno that says what it does as JSON; killed when it is dropped.
struct Process {
    child: Child,
    said: std::sync::mpsc::Receiver<serde_json::Value>,
}

impl Process {
    fn start(leno: &Leno, arguments: &[&str]) -> Self {
        let mut child = leno.command(&[&["--log-format", "json"], arguments].concat()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (say, said) = std::sync::mpsc::sync_channel(10_000);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|_| serde_json::json!({ "message": line }));
                let _ = say.try_send(event);
            }
        });
        Self { child, said }
    }

    /// Waits until it says this, and gives the event.
    fn wait_for(&self, message: &str) -> serde_json::Value {
        let until = Instant::now() + Duration::from_secs(30);
        let mut heard = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.said.recv_timeout(left) {
                Ok(event) if event["message"].as_str().is_some_and(|said| said.contains(message)) => return event,
                Ok(event) => heard.push(event.to_string()),
                Err(_) => panic!("{message:?} was not said, but:\n{}", heard.join("\n")),
            }
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn terminate(mut self) -> i32 {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An application that answers every request with its name; ends with the test's process.
fn application(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, name));
        }
    });
    address
}

fn answer(mut stream: TcpStream, name: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
        if line == "\r\n" && write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len()).is_err()
        {
            return;
        }
        line.clear();
    }
}

/// Asks through a proxy; status and body.
fn get(proxy: SocketAddr, host: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(proxy).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.split_once("\r\n\r\n")?.1.to_owned()))
}

/// Asks until it is answered so, or the time is over.
fn get_until(proxy: SocketAddr, host: &str, expected: (u16, &str), within: Duration) {
    let until = Instant::now() + within;
    let mut last = None;
    while Instant::now() < until {
        last = get(proxy, host);
        if last.as_ref().is_some_and(|(status, body)| (*status, body.as_str()) == expected) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{host} answered {last:?} instead of {expected:?} for {within:?}");
}

struct Mesh {
    leno: Leno,
    http: String,
    grpc: String,
}

impl Mesh {
    fn new() -> Self {
        Self { leno: leno(), http: free_address().to_string(), grpc: free_address().to_string() }
    }

    fn server(&self) -> Process {
        let arguments = ["server", "--data-dir", "state", "--http-listen", &self.http, "--grpc-listen", &self.grpc];
        let server = Process::start(&self.leno, &arguments);
        server.wait_for("server ready");
        server
    }

    fn proxy(&self, arguments: &[&str]) -> Process {
        let common = ["proxy", "--server", &self.grpc, "--admin-listen", "off", "--metrics-listen", "off"];
        Process::start(&self.leno, &[&common[..], arguments].concat())
    }

    /// The proxy of an application, registered.
    fn sidecar(&self, service: &str, application: SocketAddr) -> Process {
        let port = format!("8080=detect@{application}");
        let arguments =
            ["--service", service, "--port", &port, "--inbound-listen", "127.0.0.1:0", "--outbound-listen", "off"];
        let proxy = self.proxy(&arguments);
        proxy.wait_for("registered");
        proxy
    }

    /// A proxy that only asks.
    fn caller(&self, outbound: SocketAddr, data_dir: &str) -> Process {
        let outbound = outbound.to_string();
        let proxy = self.proxy(&["--service", "front.shop", "--outbound-listen", &outbound, "--data-dir", data_dir]);
        proxy.wait_for("ready");
        proxy
    }
}

/// Asks without a pause until it is dropped, on two threads.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(proxy: SocketAddr, host: &'static str) -> Self {
        let (stop, asked, failed) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let ask = |_| {
            let (stop, asked, failed) = (stop.clone(), asked.clone(), failed.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let answered = get(proxy, host).is_some_and(|(status, _)| status == 200);
                    asked.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(u64::from(!answered), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(4));
                }
            })
        };
        let threads = (0..2).map(ask).collect();
        Self { stop, asked, failed, threads }
    }

    /// Waits until so many more requests were answered.
    fn go_on_for(&self, requests: u64) {
        let until = self.asked.load(Ordering::Relaxed) + requests;
        while self.asked.load(Ordering::Relaxed) < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Requests and failures.
    fn end(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        (self.asked.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

#[test]
fn a_service_is_found_and_reached_through_two_proxies() {
    let mesh = Mesh::new();
    let _server = mesh.server();
    let _cart = mesh.sidecar("cart.shop", application("cart"));
    let outbound = free_address();
    let _front = mesh.caller(outbound, "front");
    get_until(outbound, "cart", (200, "cart"), Duration::from_secs(5));
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
    get_until(outbound, "cart", (200, "cart"), Duration::from_secs(5));
    // The state is written behind; a restart from disk needs it there.
    let snapshot = mesh.leno.path("front/proxy-snapshot.json");
    let until = Instant::now() + Duration::from_secs(10);
    while !std::fs::read_to_string(&snapshot).is_ok_and(|text| text.contains("\"address\"")) {
        assert!(Instant::now() < until, "no snapshot was written");
        std::thread::sleep(Duration::from_millis(20));
    }

    let other = free_address();
    let _other = mesh.caller(other, "other");
    get_until(other, "cart", (200, "cart"), Duration::from_secs(5));
    let load = Load::start(other, "cart");
    server.kill();
    front.kill();
    let front = mesh.caller(outbound, "front");
    get_until(outbound, "cart", (200, "cart"), Duration::from_secs(1));
    load.go_on_for(200);
    let _server = mesh.server();
    load.go_on_for(200);
    let _late = mesh.sidecar("late.shop", application("late"));
    get_until(outbound, "late", (200, "late"), Duration::from_secs(5));
    get_until(other, "late", (200, "late"), Duration::from_secs(5));
    let (asked, failed) = load.end();
    assert_eq!(failed, 0, "of {asked} requests");
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
    get_until(outbound, "cart", (200, "cart"), Duration::from_secs(5));
    let load = Load::start(outbound, "cart");
    load.go_on_for(50);
    assert_eq!(leaving.terminate(), 0);
    load.go_on_for(100);
    let (asked, failed) = load.end();
    assert_eq!(failed, 0, "of {asked} requests");
}

#[test]
fn an_instance_that_is_killed_loses_no_request_that_was_not_open_on_it() {
    let mesh = Mesh::new();
    let _server = mesh.server();
    let mut dying = mesh.sidecar("cart.shop", application("cart"));
    let _staying = mesh.sidecar("cart.shop", application("cart"));
    let outbound = free_address();
    let _front = mesh.caller(outbound, "front");
    get_until(outbound, "cart", (200, "cart"), Duration::from_secs(5));
    let load = Load::start(outbound, "cart");
    load.go_on_for(50);
    dying.kill();
    load.go_on_for(200);
    let (asked, failed) = load.end();
    // Two threads ask, so at most two requests were open on it.
    assert!(failed <= 2, "{failed} of {asked} requests failed");
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
    get_until(public, "shop.example.com", (200, "cart"), Duration::from_secs(5));
    drop(server);
}

/// Whether this machine allows `leno run`; said aloud where it does not.
fn can_capture() -> bool {
    let nft = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].iter().any(|path| std::path::Path::new(path).exists());
    if !nft {
        eprintln!("SKIPPED: capture needs nft (Debian's nftables)");
    }
    nft
}

#[test]
fn a_captured_program_reaches_the_mesh_by_name_and_its_exit_status_is_kept() {
    if !can_capture() {
        return;
    }
    let mesh = Mesh::new();
    let _server = mesh.server();
    let _cart = mesh.sidecar("cart.shop", application("cart"));
    let run = |command: &[&str]| {
        let mut arguments = vec!["run", "--server", &mesh.grpc, "--service", "front.shop", "--"];
        arguments.extend(command);
        let path = std::env::var("PATH").unwrap();
        mesh.leno.command(&arguments).env("PATH", path).output().unwrap()
    };
    let asked = run(&["curl", "-s", "--max-time", "10", "http://cart/"]);
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "cart", "{}", String::from_utf8_lossy(&asked.stderr));
    assert_eq!(run(&["sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(run(&["no-such-program"]).status.code(), Some(127));
}

#[test]
fn a_proxy_that_dies_under_run_is_replaced_and_the_program_goes_on() {
    if !can_capture() {
        return;
    }
    let mesh = Mesh::new();
    let _server = mesh.server();
    let outbound = free_address();
    let _front = mesh.caller(outbound, "front");
    let python = "import http.server\nclass H(http.server.BaseHTTPRequestHandler):\n def do_GET(self):\n  self.send_response(200); self.send_header('Content-Length','4'); self.end_headers(); self.wfile.write(b'cart')\n def log_message(self,*a): pass\nhttp.server.ThreadingHTTPServer(('127.0.0.1',8080),H).serve_forever()";
    let mut command =
        mesh.leno.command(&["run", "--server", &mesh.grpc, "--service", "cart.shop", "--", "python3", "-c", python]);
    command.env("PATH", std::env::var("PATH").unwrap()).stdin(std::process::Stdio::null());
    let mut run = command.spawn().unwrap();
    get_until(outbound, "cart", (200, "cart"), Duration::from_secs(20));
    let proxy = child_proxy(run.id());
    rustix::process::kill_process(proxy, rustix::process::Signal::KILL).unwrap();
    get_until(outbound, "cart", (200, "cart"), Duration::from_secs(2));
    assert!(run.try_wait().unwrap().is_none(), "the supervisor lives as long as the program");
    let supervisor = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(supervisor, rustix::process::Signal::TERM).unwrap();
    run.wait().unwrap();
}

/// The proxy among the children of a supervisor.
fn child_proxy(supervisor: u32) -> rustix::process::Pid {
    let children = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
    let is_proxy = |pid: &&str| {
        let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split('\0').any(|argument| argument == "proxy")
    };
    let pid = children.split_whitespace().find(is_proxy).expect("a supervisor has a proxy");
    rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap()
}

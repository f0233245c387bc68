//! Meshes of processes: a server, proxies, what they say, and how they die.

// Real processes are waited for in real time.
#![allow(clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::{Leno, free_address, leno};

/// How long a process may take to say what is waited for.
const SAY_TIMEOUT: Duration = Duration::from_secs(30);

/// A process of leno that says what it does as JSON; killed when it is dropped.
pub struct Process {
    pub child: Child,
    said: std::sync::mpsc::Receiver<serde_json::Value>,
}

/// Where a mesh runs: one server, as many proxies as are started.
pub struct Mesh {
    pub leno: Leno,
    pub http: String,
    pub grpc: String,
    /// The port by which applications are known.
    pub port: u16,
}

/// The way to the server's API.
#[derive(Clone)]
pub struct Api {
    to: SocketAddr,
    token_file: PathBuf,
}

// === impl Process ===

impl Process {
    /// Starts leno with these arguments.
    pub fn start(leno: &Leno, arguments: &[&str]) -> Self {
        Self::of(leno.command_under_load(&[&["--log-format", "json"], arguments].concat()))
    }

    /// Starts a command whose standard error is a log in JSON.
    pub fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
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
    pub fn wait_for(&self, message: &str) -> serde_json::Value {
        let until = Instant::now() + SAY_TIMEOUT;
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

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its resident memory in MB.
    pub fn memory_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// `kill`, and its status.
    pub fn terminate(mut self) -> i32 {
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

// === impl Mesh ===

impl Mesh {
    pub fn new() -> Self {
        let [http, grpc] = [free_address().to_string(), free_address().to_string()];
        Self { leno: leno(), http, grpc, port: 8080 }
    }

    /// Starts the server, or starts it again, and waits until it is ready.
    pub fn server(&self) -> Process {
        let arguments = ["server", "--data-dir", "state", "--http-listen", &self.http, "--grpc-listen", &self.grpc];
        let server = Process::start(&self.leno, &arguments);
        server.wait_for("server ready");
        server
    }

    /// A proxy with further arguments.
    pub fn proxy(&self, arguments: &[&str]) -> Process {
        let common = ["proxy", "--server", &self.grpc, "--metrics-listen", "off"];
        let admin = if arguments.contains(&"--admin-listen") { &[][..] } else { &["--admin-listen", "off"] };
        Process::start(&self.leno, &[&common[..], admin, arguments].concat())
    }

    /// The proxy of an application, registered.
    pub fn sidecar(&self, service: &str, application: SocketAddr) -> Process {
        self.sidecar_with(service, application, &[])
    }

    /// The proxy of an application with further arguments, registered.
    pub fn sidecar_with(&self, service: &str, application: SocketAddr, arguments: &[&str]) -> Process {
        let port = format!("{}=detect@{application}", self.port);
        let common =
            ["--service", service, "--port", &port, "--inbound-listen", "127.0.0.1:0", "--outbound-listen", "off"];
        let proxy = self.proxy(&[&common[..], arguments].concat());
        proxy.wait_for("registered");
        proxy
    }

    /// A proxy that only asks.
    pub fn caller(&self, outbound: SocketAddr, data_dir: &str) -> Process {
        self.caller_with(outbound, data_dir, &[])
    }

    /// A proxy that only asks, with further arguments.
    pub fn caller_with(&self, outbound: SocketAddr, data_dir: &str, arguments: &[&str]) -> Process {
        let outbound = outbound.to_string();
        let common = ["--service", "front.shop", "--outbound-listen", &outbound, "--data-dir", data_dir];
        let proxy = self.proxy(&[&common[..], arguments].concat());
        proxy.wait_for("ready");
        proxy
    }

    /// Runs a verb against the server that must succeed, and gives what it printed.
    pub fn done(&self, arguments: &[&str]) -> String {
        let api = format!("http://{}", self.http);
        let output = self
            .leno
            .command_under_load(&[arguments, &["--api", &api, "--data-dir", "state"]].concat())
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {}\n{out}\n{err}", output.status);
        out.into_owned()
    }

    /// Puts the resources of a text in force.
    pub fn apply(&self, name: &str, resources: &str) {
        std::fs::write(self.leno.path(name), resources).unwrap();
        self.done(&["apply", "-f", name]);
    }

    /// The way to the server's API.
    pub fn api(&self) -> Api {
        Api { to: self.http.parse().unwrap(), token_file: self.leno.path("state/admin.token") }
    }
}

// === impl Api ===

impl Api {
    /// Calls the API; status and body. None when it does not answer.
    pub fn call(&self, method: &str, path: &str, body: &str) -> Option<(u16, serde_json::Value)> {
        let token = std::fs::read_to_string(&self.token_file).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.to,
            token.trim(),
            body.len()
        );
        let (status, body) = exchange(self.to, &head)?;
        Some((status, serde_json::from_str(&body).unwrap_or_default()))
    }
}

/// Asks through a proxy; status and body.
pub fn get(proxy: SocketAddr, host: &str) -> Option<(u16, String)> {
    get_path(proxy, host, "/")
}

/// Asks for a path; status and body.
pub fn get_path(proxy: SocketAddr, host: &str, path: &str) -> Option<(u16, String)> {
    exchange(proxy, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

fn exchange(to: SocketAddr, request: &str) -> Option<(u16, String)> {
    let (status, body, _) = exchange_whole(to, request)?;
    Some((status, body))
}

/// Status, body, and the head as it came.
pub fn exchange_whole(to: SocketAddr, request: &str) -> Option<(u16, String, String)> {
    let mut stream = TcpStream::connect(to).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((status, body.to_owned(), head.to_ascii_lowercase()))
}

/// Asks until it is answered so, or the time is over; how long it took.
pub fn get_until(proxy: SocketAddr, host: &str, expected: (u16, &str), within: Duration) -> Duration {
    let mut last = None;
    let took = wait_until(within, || {
        last = get(proxy, host);
        last.as_ref().is_some_and(|(status, body)| (*status, body.as_str()) == expected)
    });
    took.unwrap_or_else(|| panic!("{host} answered {last:?} instead of {expected:?} for {within:?}"))
}

/// Looks until it holds; how long it took, or nothing when it did not hold in time.
pub fn wait_until(within: Duration, mut holds: impl FnMut() -> bool) -> Option<Duration> {
    let started = Instant::now();
    loop {
        if holds() {
            return Some(started.elapsed());
        }
        if started.elapsed() >= within {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The proxy that a supervisor keeps, once there is one.
pub fn proxy_of(supervisor: u32) -> rustix::process::Pid {
    let is_proxy = |pid: &&str| {
        let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split('\0').any(|argument| argument == "proxy")
    };
    let mut found = None;
    let there = wait_until(Duration::from_secs(5), || {
        let children = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).unwrap();
        found = children.split_whitespace().find(is_proxy).and_then(|pid| pid.parse().ok());
        found.is_some()
    });
    assert!(there.is_some(), "a supervisor has a proxy");
    rustix::process::Pid::from_raw(found.unwrap()).unwrap()
}

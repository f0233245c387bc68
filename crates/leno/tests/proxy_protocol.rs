//! PROXY headers between leno and HAProxy, both ways: in front of a gateway it says who the client is, and behind one it is
//! told; and what becomes of those who say nothing, or something else. Each test prints what it measured.
//!
//! One gateway serves the tests. Clients are told apart by their addresses of loopback: 127.0.0.2 is the listed proxy.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "edge_tls/certificates.rs"]
#[allow(dead_code)]
mod certificates;
mod kit;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use certificates::Authority;
use kit::mesh::{Process, exchange_whole, wait_until};
use kit::{Leno, figures, free_address, leno, skip};

const SOON: Duration = Duration::from_secs(10);
/// When a connection of the listed proxy is ended that has said nothing, and the slack of a machine that does other things.
const DEADLINE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(3);
const LISTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const UNLISTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n";

/// A gateway, what is in front of it and what is behind it.
struct Edge {
    http: SocketAddr,
    https: SocketAddr,
    /// Bytes to the application as they are.
    bytes: SocketAddr,
    /// Bytes to HAProxy, begun with a header of version 1, of version 2, and with that before TLS.
    told_v1: SocketAddr,
    told_v2: SocketAddr,
    told_tls: SocketAddr,
    /// Where that HAProxy listens, without and with TLS.
    seen: SocketAddr,
    seen_tls: SocketAddr,
    metrics: SocketAddr,
    log: PathBuf,
    application: Application,
    process: Mutex<Process>,
    leno: Leno,
}

/// Answers each connection with the head of its request.
struct Application {
    address: SocketAddr,
    /// Bytes that it was sent.
    heard: Arc<AtomicUsize>,
}

/// A running HAProxy; ended when it is dropped.
struct Haproxy(Child);

// === HAProxy in front ===

#[test]
fn haproxy_in_front_of_a_gateway_says_who_the_client_is() {
    if let Some(program) = kit::missing(&["haproxy", "curl"]) {
        return skip("haproxy_in_front_of_a_gateway_says_who_the_client_is", &format!("no {program}"));
    }
    let edge = edge();
    let cases = [
        ("http v1", "http", edge.http, "send-proxy"),
        ("http v2", "http", edge.http, "send-proxy-v2 proxy-v2-options crc32c"),
        ("https v1", "https", edge.https, "send-proxy"),
        ("https v2", "https", edge.https, "send-proxy-v2"),
    ];
    let fronts: Vec<SocketAddr> = cases.iter().map(|_| free_address()).collect();
    let sections: String = cases.iter().zip(&fronts).map(|(case, at)| front(*at, case.2, case.3)).collect();
    let _haproxy = edge.haproxy("front.cfg", &sections, &fronts);
    let mut said = Vec::new();
    for (at, ((name, scheme, _, _), front)) in cases.iter().zip(&fronts).enumerate() {
        let client = Ipv4Addr::new(127, 0, 0, 70 + at as u8);
        let seen = curl(client, scheme, *front);
        assert!(seen.contains(&format!("x-forwarded-for: {client}\r\n")), "{name}: {seen}");
        assert!(seen.contains(&format!("x-forwarded-proto: {scheme}\r\n")), "{name}: {seen}");
        let logged = format!("\"downstream_remote_address\":\"{client}:");
        assert!(edge.logs(&logged), "{name}: {logged} is not in the log");
        said.push(*name);
    }
    assert!(edge.metric("leno_proxy_headers_total{kind=\"client\"}") >= said.len() as f64);
    figures(format_args!("proxy headers: HAProxy in front says who the client is over {}", said.join(", ")));
}

// === HAProxy behind ===

#[test]
fn haproxy_behind_a_gateway_is_told_who_the_client_is_and_where_it_went() {
    if let Some(program) = kit::missing(&["haproxy", "curl"]) {
        return skip("haproxy_behind_a_gateway_is_told_who_the_client_is_and_where_it_went", &format!("no {program}"));
    }
    let edge = edge();
    // From a client itself, and from one behind a HAProxy in front of the gateway.
    let cases =
        [("tcp v1", "http", edge.told_v1), ("tcp v2", "http", edge.told_v2), ("tls v2", "https", edge.told_tls)];
    let fronts: Vec<SocketAddr> = cases.iter().map(|_| free_address()).collect();
    let sends = ["send-proxy-v2", "send-proxy", "send-proxy-v2"];
    let sections = cases.iter().zip(&fronts).zip(sends).map(|((case, at), send)| front(*at, case.2, send));
    let sections: String = sections.chain([edge.behind()]).collect();
    let listening = [&fronts[..], &[edge.seen, edge.seen_tls]].concat();
    let _haproxy = edge.haproxy("behind.cfg", &sections, &listening);
    for (at, ((name, scheme, direct), front)) in cases.iter().zip(&fronts).enumerate() {
        for (way, to) in [("itself", *direct), ("through HAProxy", *front)] {
            let client = Ipv4Addr::new(127, 0, 0, 80 + at as u8);
            let seen = curl(client, scheme, to);
            assert!(
                seen.starts_with(&format!("from {client}:")) && seen.ends_with(&format!("to {to}")),
                "{name} {way}: {seen}"
            );
        }
    }
    figures(format_args!(
        "proxy headers: HAProxy behind is told the client and where it went over tcp v1, tcp v2, tls v2"
    ));
}

// === those who do not say what they have to ===

#[test]
fn from_others_than_listed_proxies_no_header_is_read() {
    let edge = edge();
    let line = format!("PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n{REQUEST}");
    let answer = ask(UNLISTED, edge.http, line.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 400 ") && !answer.contains("192.0.2.7"), "{answer}");
    // Bytes are whatever they are.
    let answer = ask(UNLISTED, edge.bytes, line.as_bytes());
    assert!(answer.contains("PROXY TCP4 192.0.2.7"), "{answer}");
    let answer = ask(UNLISTED, edge.http, REQUEST.as_bytes());
    assert!(answer.contains(&format!("x-forwarded-for: {UNLISTED}\r\n")), "{answer}");
    let (_, header) = hostile().into_iter().find(|(name, _)| *name == "signature alone").unwrap();
    let answer = ask(UNLISTED, edge.https, &[&header[..], REQUEST.as_bytes()].concat());
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[test]
fn a_request_is_not_sent_where_a_header_is_wanted() {
    let edge = edge();
    let answer = ask(UNLISTED, edge.http, b"GET /told HTTP/1.1\r\nHost: edge.test\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("x-leno-reason: unresolved_reference"), "{answer}");
}

#[test]
fn hostile_headers_end_the_connection_and_reach_nobody() {
    // Nobody else speaks to it, so that everything that is counted comes from here.
    let edge = Edge::start();
    let good = format!("PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n{REQUEST}");
    for port in [edge.http, edge.bytes] {
        let answer = ask(LISTED, port, good.as_bytes());
        assert!(answer.contains("200 OK"), "{answer}");
    }
    let own = ask(LISTED, edge.http, format!("PROXY UNKNOWN\r\n{REQUEST}").as_bytes());
    assert!(own.contains(&format!("x-forwarded-for: {LISTED}\r\n")), "{own}");
    let (heard, hostile) = (edge.application.heard.load(Ordering::SeqCst), hostile());
    for (name, header) in &hostile {
        for port in [edge.http, edge.bytes, edge.https] {
            let mut stream = connect(LISTED, port);
            let _ = stream.write_all(&[&header[..], REQUEST.as_bytes()].concat());
            let _ = stream.shutdown(Shutdown::Write);
            assert_eq!(read_all(stream), "", "{name}");
        }
    }
    let refused: f64 =
        ["absent", "malformed", "too_long", "checksum", "closed"].map(|reason| edge.refused(reason)).iter().sum();
    let inputs = hostile.len();
    figures(format_args!(
        "proxy headers: {inputs} hostile ones at 3 listeners, {refused} connections refused, 0 bytes passed on"
    ));
    assert_eq!(edge.application.heard.load(Ordering::SeqCst), heard, "an application was sent something");
    assert_eq!(refused, 3.0 * inputs as f64);
    edge.process.lock().unwrap().wait_for("connections of proxies in front refused");
}

#[test]
fn a_listed_proxy_that_says_nothing_is_ended_at_the_deadline() {
    let edge = edge();
    let silent = [&b""[..], b"PROXY TCP4 192.0.2.7 ", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0"];
    let started = Instant::now();
    let waiting: Vec<_> = silent
        .into_iter()
        .map(|sent| {
            let mut stream = connect(LISTED, edge.http);
            stream.write_all(sent).unwrap();
            std::thread::spawn(move || (stream.read(&mut [0; 1]).unwrap_or(0), started.elapsed()))
        })
        .collect();
    let ended: Vec<(usize, Duration)> = waiting.into_iter().map(|waiting| waiting.join().unwrap()).collect();
    figures(format_args!("proxy headers: silent connections of a listed proxy ended after {ended:.1?}"));
    let in_time = |after: &Duration| *after + Duration::from_millis(500) > DEADLINE && *after < DEADLINE + SLACK;
    assert!(ended.iter().all(|(read, after)| *read == 0 && in_time(after)), "{ended:?}");
    assert!(wait_until(SOON, || edge.refused("deadline") >= silent.len() as f64).is_some());
}

/// Headers that are none, with what is wrong.
fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let lines = [
        ("nothing at all", ""),
        ("bare LF", "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\n"),
        ("two lines", "PROXY TCP4 192.0.2.7 192.0.2.8 1\r\n2\r\n"),
        ("lower case", "proxy tcp4 192.0.2.7 192.0.2.8 1 2\r\n"),
        ("UDP", "PROXY UDP4 192.0.2.7 192.0.2.8 1 2\r\n"),
        ("two spaces", "PROXY TCP4  192.0.2.7 192.0.2.8 1 2\r\n"),
        ("another family", "PROXY TCP4 ::1 ::1 1 2\r\n"),
        ("a zero in front", "PROXY TCP4 192.0.2.07 192.0.2.8 1 2\r\n"),
        ("no port", "PROXY TCP4 192.0.2.7 192.0.2.8 1 65536\r\n"),
        ("a name", "PROXY TCP4 localhost localhost 1 2\r\n"),
        ("a field more", "PROXY TCP4 192.0.2.7 192.0.2.8 1 2 3\r\n"),
        ("NUL", "PROXY UNKNOWN \0\r\n"),
        ("CR alone", "PROXY UNKNOWN \r"),
    ];
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
    let block = |rest: &[u8]| [SIGNATURE, rest].concat();
    let v4 = [&[0x21, 0x11, 0, 12][..], &[192, 0, 2, 7, 192, 0, 2, 8, 0, 1, 0, 2]].concat();
    let with_tlv = |tlv: &[u8]| {
        let mut whole = [&v4[..], tlv].concat();
        whole[3] += tlv.len() as u8;
        block(&whole)
    };
    let mut all: Vec<(&str, Vec<u8>)> =
        lines.into_iter().map(|(name, line)| (name, line.as_bytes().to_vec())).collect();
    all.extend([
        ("too long a line", long.into_bytes()),
        ("signature alone", block(b"")),
        ("version 1 as a block", block(&[&[0x11][..], &v4[1..]].concat())),
        ("no such command", block(&[&[0x22][..], &v4[1..]].concat())),
        ("no such family", block(&[&[0x21, 0x41][..], &v4[2..]].concat())),
        ("shorter than its addresses", block(&[&[0x21, 0x11, 0, 11][..], &v4[4..]].concat())),
        ("longer than it may be", block(&[&[0x21, 0x11, 0xff, 0xff][..], &v4[4..]].concat())),
        ("longer than what was sent", block(&[&[0x21, 0x11, 0x0f, 0x00][..], &v4[4..]].concat())),
        ("a TLV beyond the end", with_tlv(&[4, 0, 200, 1])),
        ("a wrong checksum", with_tlv(&[3, 0, 4, 1, 2, 3, 4])),
        ("signature twice", block(SIGNATURE)),
    ]);
    all
}

// === impl Edge ===

/// The gateway of the tests that run at the moment.
fn edge() -> Arc<Edge> {
    static EDGE: Mutex<Weak<Edge>> = Mutex::new(Weak::new());
    kit::shared(&EDGE, Edge::start)
}

impl Edge {
    fn start() -> Self {
        let [http, https, bytes, told_v1, told_v2, told_tls] = [(); 6].map(|()| free_address());
        let [metrics, seen, seen_tls] = [(); 3].map(|()| free_address());
        let (application, leno) = (Application::start(), leno());
        let (directory, log) = (leno.path("certificates"), leno.path("access.log"));
        Authority::new("edge").issue(&["edge.test"]).write(&directory, "edge");
        let services = [("application", application.address), ("seen", seen), ("seen-tls", seen_tls)];
        let leno = leno.file("edge.yaml", &resources([http, https, bytes, told_v1, told_v2, told_tls], services));
        let (listen, listed) = (metrics.to_string(), format!("192.0.2.0/24,{LISTED}"));
        let (certificates, access) = (directory.display().to_string(), log.display().to_string());
        let process = Process::start(
            &leno,
            &[
                &["proxy", "--role", "gateway", "--gateway", "edge", "--resources", "edge.yaml"][..],
                &["--metrics-listen", &listen, "--admin-listen", "off", "--outbound-listen", "off"],
                &["--certificates", &certificates, "--access-log", "json", "--access-log-file", &access],
                &["--proxy-protocol-from", &listed],
            ]
            .concat(),
        );
        process.wait_for("ready");
        for port in [http, https, bytes, told_v1, told_v2, told_tls] {
            assert!(wait_until(SOON, || TcpStream::connect(port).is_ok()).is_some(), "a listener is not open");
        }
        let process = Mutex::new(process);
        Self {
            http,
            https,
            bytes,
            told_v1,
            told_v2,
            told_tls,
            seen,
            seen_tls,
            metrics,
            log,
            application,
            process,
            leno,
        }
    }

    fn metric(&self, series: &str) -> f64 {
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let (_, page, _) = exchange_whole(self.metrics, request).unwrap();
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("{series} is not in\n{page}"))
    }

    fn refused(&self, reason: &str) -> f64 {
        self.metric(&format!("leno_proxy_headers_refused_total{{reason=\"{reason}\"}}"))
    }

    /// Whether the access log comes to have this.
    fn logs(&self, text: &str) -> bool {
        wait_until(SOON, || std::fs::read_to_string(&self.log).is_ok_and(|log| log.contains(text))).is_some()
    }

    /// HAProxy with these sections, which listens there.
    fn haproxy(&self, name: &str, sections: &str, listening: &[SocketAddr]) -> Haproxy {
        let config = self.leno.path(name);
        let common =
            "global\n  nbthread 1\ndefaults\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n";
        std::fs::write(&config, format!("{common}{sections}")).unwrap();
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap());
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(&config).env("PATH", path).stdin(Stdio::null());
        let haproxy = Haproxy(command.spawn().unwrap());
        for at in listening {
            assert!(wait_until(SOON, || TcpStream::connect(at).is_ok()).is_some(), "HAProxy does not listen at {at}");
        }
        haproxy
    }

    /// The HAProxy behind the gateway, which answers with what it was told.
    fn behind(&self) -> String {
        let pem = self.leno.path("edge.pem");
        let parts =
            ["crt", "key"].map(|end| std::fs::read(self.leno.path(&format!("certificates/edge.{end}"))).unwrap());
        std::fs::write(&pem, parts.concat()).unwrap();
        format!(
            "frontend seen\n  mode http\n  bind {} accept-proxy\n  bind {} accept-proxy ssl crt {}\n  http-request return \
             status 200 content-type text/plain lf-string \"from %[src]:%[src_port] to %[dst]:%[dst_port]\"\n",
            self.seen,
            self.seen_tls,
            pem.display()
        )
    }
}

/// The listeners of the gateway in the order of its fields, and where its services are.
fn resources(ports: [SocketAddr; 6], services: [(&str, SocketAddr); 3]) -> String {
    let [http, https, bytes, told_v1, told_v2, told_tls] = ports.map(|address| address.port());
    let gateway_api = "apiVersion: gateway.networking.k8s.io/v1\n";
    let gateway = format!(
        "{gateway_api}kind: Gateway\nmetadata: {{name: edge}}\nspec:\n  listeners:\n  \
         - {{name: http, port: {http}, protocol: HTTP}}\n  \
         - {{name: https, port: {https}, protocol: HTTPS, tls: {{certificateRefs: [{{name: edge}}]}}}}\n  \
         - {{name: bytes, port: {bytes}, protocol: TCP}}\n  \
         - {{name: told-v1, port: {told_v1}, protocol: TCP}}\n  \
         - {{name: told-v2, port: {told_v2}, protocol: TCP}}\n  \
         - {{name: told-tls, port: {told_tls}, protocol: TLS, tls: {{mode: Passthrough}}}}\n"
    );
    let route = |kind: &str, name: &str, listener: &str, service: &str, port: u16| {
        let hosts = if kind == "TLSRoute" { "  hostnames: [edge.test]\n" } else { "" };
        format!(
            "---\n{gateway_api}kind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: [{listener}]\n{hosts}  \
             rules: [{{backendRefs: [{{name: {service}, port: {port}}}]}}]\n"
        )
    };
    let refused = format!(
        "---\n{gateway_api}kind: HTTPRoute\nmetadata: {{name: told}}\nspec:\n  parentRefs: [{{name: edge, sectionName: http}}]\n  \
         rules: [{{matches: [{{path: {{value: /told}}}}], backendRefs: [{{name: seen, port: 80}}]}}]\n"
    );
    let routes = [
        route(
            "HTTPRoute",
            "http",
            "{name: edge, sectionName: http}, {name: edge, sectionName: https}",
            "application",
            80,
        ),
        route("TCPRoute", "bytes", "{name: edge, sectionName: bytes}", "application", 81),
        route("TCPRoute", "told-v1", "{name: edge, sectionName: told-v1}", "seen", 80),
        route("TCPRoute", "told-v2", "{name: edge, sectionName: told-v2}", "seen", 81),
        route("TLSRoute", "told-tls", "{name: edge, sectionName: told-tls}", "seen-tls", 80),
    ];
    let service = |(name, at): (&str, SocketAddr)| {
        let (target, ports) = (
            at.port(),
            match name {
                "application" => ["protocol: http", "protocol: tcp"],
                "seen" => ["protocol: tcp, proxyProtocol: v1", "protocol: tcp, proxyProtocol: v2"],
                _ => ["protocol: tls, proxyProtocol: v2", "protocol: tls"],
            },
        );
        format!(
            "---\napiVersion: leno.mesh/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports: [{{port: 80, \
             targetPort: {target}, {}}}, {{port: 81, targetPort: {target}, {}}}]\n  endpoints: [{{address: {}}}]\n",
            ports[0],
            ports[1],
            at.ip()
        )
    };
    gateway + &refused + &routes.concat() + &services.map(service).concat()
}

/// HAProxy in front of the gateway: the listed proxy.
fn front(at: SocketAddr, to: SocketAddr, send: &str) -> String {
    format!("listen front-{}\n  mode tcp\n  bind {at}\n  server edge {to} {send} source {LISTED}\n", at.port())
}

// === impl Application, Haproxy ===

impl Application {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counted = counted.clone();
                std::thread::spawn(move || answer(stream, &counted));
            }
        });
        Self { address, heard }
    }
}

/// Answers with everything to the end of the request's head.
fn answer(mut stream: TcpStream, counted: &AtomicUsize) -> Option<()> {
    let (mut head, mut bytes) = (Vec::new(), [0; 4096]);
    while !head.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut bytes).ok().filter(|read| *read > 0)?;
        counted.fetch_add(read, Ordering::SeqCst);
        head.extend_from_slice(&bytes[..read]);
    }
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", head.len()).ok()?;
    stream.write_all(&head).ok()
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// === clients ===

/// What curl gets that comes from this address.
fn curl(from: Ipv4Addr, scheme: &str, to: SocketAddr) -> String {
    let (ip, port) = (to.ip(), to.port());
    let mut command = Command::new("curl");
    command.args(["-sSk", "--noproxy", "*", "--max-time", "10", "--interface", &from.to_string()]);
    command.args(["--resolve", &format!("edge.test:{port}:{ip}"), &format!("{scheme}://edge.test:{port}/")]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{scheme} {to}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Sends this from an address, and gives what comes back until the end.
fn ask(from: Ipv4Addr, to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(from, to);
    let _ = stream.write_all(bytes);
    read_all(stream)
}

fn read_all(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset may be behind what was answered.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn connect(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        socket.connect(to).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(DEADLINE + SLACK)).unwrap();
    stream
}

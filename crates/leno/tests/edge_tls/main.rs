//! TLS at a gateway of the built binary, asked by a client that keeps to no manners where a test says so.
//!
//! One gateway serves the tests; each has names, and where it changes something a certificate, of its own.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod certificates;
mod client;
#[path = "../kit/mod.rs"]
mod kit;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use certificates::{Authority, Pair};
use client::Client;
use kit::mesh::Process;
use kit::{Leno, figures, free_address, leno};

/// A handshake is cut off then, and the slack of a machine that does other things.
const HANDSHAKE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(2);
/// How long a change may take to hold.
const CHANGE: Duration = Duration::from_secs(10);

/// The end of a connection over TLS at a service.
type Secured<'s> = rustls::StreamOwned<rustls::ServerConnection, &'s TcpStream>;

/// A gateway with all that it serves.
struct Edge {
    /// Listeners for names: `a.test`, `*.w.test`, `x.w.test`, `hot.test`.
    https: SocketAddr,
    /// Clients must show a certificate.
    required: SocketAddr,
    /// They may.
    optional: SocketAddr,
    /// TLS ends and bytes go on for `bytes.test`; `pass.test` passes through.
    bytes: SocketAddr,
    /// Bytes come in clear and go on over TLS: to who has the name, and to who has another.
    tcp: [SocketAddr; 2],
    admin: SocketAddr,
    authority: Authority,
    clients: Authority,
    directory: PathBuf,
    log: PathBuf,
    /// What `a.test` has.
    a: Pair,
    _process: Mutex<Process>,
    _leno: Leno,
}

/// The gateway of the tests that run at the moment.
fn edge() -> Arc<Edge> {
    static EDGE: Mutex<Weak<Edge>> = Mutex::new(Weak::new());
    kit::shared(&EDGE, Edge::start)
}

impl Edge {
    fn start() -> Self {
        let (authority, clients) = (Authority::new("servers"), Authority::new("clients"));
        let leno = leno();
        let directory = leno.path("certificates");
        let a = authority.issue(&["a.test"]);
        a.write(&directory, "a");
        authority.issue(&["*.w.test"]).write(&directory, "wild");
        authority.issue(&["x.w.test"]).write(&directory, "x");
        authority.issue(&["hot.test"]).write(&directory, "hot");
        authority.issue(&["m.test", "a.test", "bytes.test"]).write(&directory, "m");
        clients.write(&directory, "clients");
        let [https, required, optional, bytes, admin, good_tcp, bad_tcp] = [(); 7].map(|()| free_address());
        let (http, echo) = (upstream(), echo());
        authority.write(&directory, "servers");
        let good = upstream_over_tls(&authority.issue(&["good.test"]));
        let good_echo = echo_over_tls(&authority.issue(&["good.test"]));
        let misnamed = upstream_over_tls(&authority.issue(&["other.test"]));
        let foreign = upstream_over_tls(&clients.issue(&["good.test"]));
        let plain = resources([https, required, optional, bytes, good_tcp, bad_tcp], http, echo);
        let others = [("misnamed", misnamed), ("foreign", foreign), ("itself", https)];
        let secured = secured(&[&[("good", good), ("good-echo", good_echo)][..], &others].concat());
        let leno = leno.file("resources.yaml", &(plain + &secured));
        let log = leno.path("access.log");
        let (at, certificates) = (admin.to_string(), directory.display().to_string());
        let process = Process::start(
            &leno,
            &[
                &["proxy", "--role", "gateway", "--gateway", "edge", "--resources", "resources.yaml"][..],
                &["--certificates", &certificates, "--admin-listen", &at],
                &["--metrics-listen", "off", "--outbound-listen", "off"],
                &["--access-log", "json", "--access-log-file", &log.display().to_string()],
            ]
            .concat(),
        );
        process.wait_for("ready");
        for port in [https, required, optional, bytes, good_tcp, bad_tcp] {
            until("every listener is open", || TcpStream::connect(port).is_ok());
        }
        Self {
            https,
            required,
            optional,
            bytes,
            tcp: [good_tcp, bad_tcp],
            admin,
            authority,
            clients,
            directory,
            log,
            a,
            _process: Mutex::new(process),
            _leno: leno,
        }
    }

    fn client(&self) -> Client {
        Client::of(&self.authority)
    }

    /// A page of the admin listener.
    fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    fn metric(&self, line: &str) -> u64 {
        let page = self.page("/metrics");
        let found = page.lines().find_map(|other| other.strip_prefix(line)).unwrap_or_else(|| panic!("{line}: {page}"));
        found.trim().parse::<f64>().unwrap() as u64
    }
}

/// Services that speak TLS themselves: one as it should, one under another's name, one of another authority; and the
/// gateway's own port, where HTTP/2 is agreed.
const SECURED: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: secured}
spec:
  parentRefs: [{name: edge}]
  hostnames: [a.test]
  rules:
  - {matches: [{path: {value: /good}}], backendRefs: [{name: good, port: 443}]}
  - {matches: [{path: {value: /misnamed}}], backendRefs: [{name: misnamed, port: 443}]}
  - {matches: [{path: {value: /foreign}}], backendRefs: [{name: foreign, port: 443}]}
  - matches: [{path: {value: /again}}]
    filters: [{type: URLRewrite, urlRewrite: {hostname: a.test, path: {type: ReplaceFullPath, replaceFullPath: /good}}}]
    backendRefs: [{name: itself, port: 443}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: good}
spec:
  parentRefs: [{name: edge, sectionName: good-tcp}]
  rules: [{backendRefs: [{name: good-echo, port: 443}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: bad}
spec:
  parentRefs: [{name: edge, sectionName: bad-tcp}]
  rules: [{backendRefs: [{name: misnamed, port: 443}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: secured}
spec:
  targetRefs: [{kind: Service, name: good}, {kind: Service, name: good-echo}, {kind: Service, name: misnamed}, {kind: Service, name: foreign}]
  validation: {hostname: good.test, caCertificateRefs: [{kind: ConfigMap, name: servers}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: itself}
spec:
  targetRefs: [{kind: Service, name: itself, sectionName: tls}]
  validation: {hostname: a.test, caCertificateRefs: [{kind: ConfigMap, name: servers}]}
";

fn secured(ports: &[(&str, SocketAddr)]) -> String {
    let service = |(name, at): &(&str, SocketAddr)| {
        let protocol = match *name {
            "itself" => "http2",
            "good-echo" => "tcp",
            _ => "http",
        };
        format!(
            "---\napiVersion: leno.mesh/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports: [{{port: 443, name: \
             tls, targetPort: {}, protocol: {protocol}}}]\n  endpoints: [{{address: 127.0.0.1}}]\n",
            at.port()
        )
    };
    SECURED.to_owned() + &ports.iter().map(service).collect::<String>()
}

fn resources(ports: [SocketAddr; 6], http: SocketAddr, echo: SocketAddr) -> String {
    let [https, required, optional, bytes, good_tcp, bad_tcp] = ports.map(|address| address.port());
    let listener = |name: &str, port: u16, host: &str, certificate: &str| {
        format!(
            "  - {{name: {name}, port: {port}, protocol: HTTPS, hostname: \"{host}\", tls: {{certificateRefs: [{{name: \
             {certificate}}}]}}}}\n"
        )
    };
    let listeners = [
        listener("a", https, "a.test", "a"),
        listener("wild", https, "*.w.test", "wild"),
        listener("x", https, "x.w.test", "x"),
        listener("hot", https, "hot.test", "hot"),
        listener("absent", https, "absent.test", "absent"),
        listener("m", required, "m.test", "m"),
        listener("required-a", required, "a.test", "m"),
        listener("optional", optional, "m.test", "m"),
        format!(
            "  - {{name: bytes, port: {bytes}, protocol: TLS, hostname: bytes.test, tls: {{certificateRefs: [{{name: \
             m}}]}}}}\n"
        ),
        format!("  - {{name: pass, port: {bytes}, protocol: TLS, hostname: pass.test, tls: {{mode: Passthrough}}}}\n"),
        format!("  - {{name: good-tcp, port: {good_tcp}, protocol: TCP}}\n"),
        format!("  - {{name: bad-tcp, port: {bad_tcp}, protocol: TCP}}\n"),
    ];
    let validation = |mode: &str| {
        format!("{{validation: {{mode: {mode}, caCertificateRefs: [{{kind: ConfigMap, name: clients}}]}}}}")
    };
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  tls:\n    frontend:\n      \
         default: {{}}\n      perPort:\n      - {{port: {required}, tls: {}}}\n      - {{port: {optional}, tls: {}}}\n  \
         listeners:\n{}---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: \
         all}}\nspec:\n  parentRefs: [{{name: edge}}]\n  rules:\n  - matches: [{{path: {{value: /moved}}}}]\n    filters: \
         [{{type: RequestRedirect, requestRedirect: {{hostname: new.test}}}}]\n  - backendRefs: [{{name: app, port: \
         80}}]\n---\napiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\nmetadata: {{name: bytes}}\nspec:\n  \
         parentRefs: [{{name: edge}}]\n  hostnames: [bytes.test, pass.test]\n  rules: [{{backendRefs: [{{name: echo, port: \
         7}}]}}]\n---\napiVersion: leno.mesh/v1\nkind: Service\nmetadata: {{name: app}}\nspec:\n  ports: [{{port: 80, \
         targetPort: {}, protocol: http}}]\n  endpoints: [{{address: 127.0.0.1}}]\n---\napiVersion: leno.mesh/v1\nkind: \
         Service\nmetadata: {{name: echo}}\nspec:\n  ports: [{{port: 7, targetPort: {}, protocol: tcp}}]\n  endpoints: \
         [{{address: 127.0.0.1}}]\n",
        validation("AllowValidOnly"),
        validation("AllowInsecureFallback"),
        listeners.concat(),
        http.port(),
        echo.port()
    )
}

/// Answers each request with its head.
fn upstream() -> SocketAddr {
    served(|stream| {
        let (mut reader, mut writer) = (BufReader::new(stream), stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).ok().filter(|read| *read > 0)?;
            }
            write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len()).ok()?;
        }
    })
}

/// As [`upstream`], over TLS.
fn upstream_over_tls(pair: &Pair) -> SocketAddr {
    served_over_tls(pair, |stream| {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).ok()?;
                head.push(byte[0]);
            }
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", head.len()).ok()?;
            stream.write_all(&head).ok()?;
            stream.flush().ok()?;
        }
    })
}

/// As [`echo`], over TLS.
fn echo_over_tls(pair: &Pair) -> SocketAddr {
    served_over_tls(pair, |stream| say_back(stream))
}

fn served_over_tls(pair: &Pair, serve: fn(&mut Secured<'_>) -> Option<()>) -> SocketAddr {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = vec![pair.certificate.clone()];
    let config = Arc::new(builder.with_no_client_auth().with_single_cert(chain, pair.private_key()).unwrap());
    served(move |stream| {
        let connection = rustls::ServerConnection::new(config.clone()).unwrap();
        serve(&mut rustls::StreamOwned::new(connection, stream))
    })
}

/// Says back what it hears.
fn echo() -> SocketAddr {
    served(|mut stream| say_back(&mut stream))
}

fn say_back(stream: &mut (impl Read + Write)) -> Option<()> {
    let mut bytes = [0; 4096];
    loop {
        let read = stream.read(&mut bytes).ok().filter(|read| *read > 0)?;
        stream.write_all(&bytes[..read]).ok()?;
        stream.flush().ok()?;
    }
}

fn served(serve: impl Fn(&TcpStream) -> Option<()> + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(&stream));
        }
    });
    address
}

/// Waits until something holds.
fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < CHANGE, "not within {CHANGE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

// === protocols and names ===

#[test]
fn both_versions_of_http_are_agreed_by_alpn_and_another_protocol_is_refused() {
    let edge = edge();
    let both = edge.client().offering(&["h2", "http/1.1"]);
    let mut connected = both.connect(edge.https, "a.test").unwrap();
    assert_eq!(connected.agreed_protocol(), Some("h2"));
    assert_eq!(connected.get_h2("a.test"), Some(0x88), "200");
    assert_eq!(connected.key_exchange(), rustls::NamedGroup::X25519MLKEM768);

    let mut connected = edge.client().connect(edge.https, "a.test").unwrap();
    assert_eq!(connected.agreed_protocol(), Some("http/1.1"));
    assert_eq!(connected.get("a.test", "/").unwrap().status, 200);

    let refused = edge.client().offering(&["smtp"]).connect(edge.https, "a.test").err().unwrap();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
}

#[test]
fn the_name_chooses_the_certificate_and_an_exact_one_wins_over_a_wildcard() {
    let edge = edge();
    for (name, names) in [("a.test", "a.test"), ("x.w.test", "x.w.test"), ("y.w.test", "*.w.test")] {
        let connected = edge.client().connect(edge.https, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let shown = String::from_utf8_lossy(&connected.certificate()).into_owned();
        assert!(shown.contains(names), "{name} got another certificate than that of {names}");
    }
    let refused = edge.client().connect(edge.https, "other.test").err().unwrap();
    assert!(refused.contains("UnrecognisedName"), "{refused}");
    let refused = edge.client().connect(edge.https, "absent.test").err().unwrap();
    assert!(refused.contains("InternalError"), "{refused}");
    assert!(edge.page("/certificates").contains("\"name\":\"absent\""), "the page shows what is not there");
}

#[test]
fn what_stands_behind_and_what_moves_away_is_told_of_https() {
    let edge = edge();
    let answer = edge.client().get(edge.https, "a.test", "/").unwrap();
    assert!(answer.body.to_ascii_lowercase().contains("x-forwarded-proto: https\r\n"), "{}", answer.body);
    let answer = edge.client().get(edge.https, "a.test", "/moved").unwrap();
    assert_eq!(answer.status, 302);
    assert!(answer.head.contains("location: https://new.test"), "{}", answer.head);
}

#[test]
fn a_host_of_other_terms_is_misdirected_and_one_of_no_listener_is_not_found() {
    let edge = edge();
    let mut connected = edge.client().connect(edge.https, "a.test").unwrap();
    for (host, status) in
        [("a.test", 200), ("x.w.test", 421), ("a.test:443", 200), ("nobody.test", 404), ("A.Test", 200)]
    {
        assert_eq!(connected.get(host, "/").unwrap().status, status, "{host}");
    }
}

#[test]
fn bytes_go_on_where_tls_ends_and_where_it_passes_through() {
    let edge = edge();
    let mut connected = edge.client().offering(&[]).connect(edge.bytes, "bytes.test").unwrap();
    connected.say(b"hello, inside");
    assert_eq!(connected.hear(13), b"hello, inside");
    // Passed through, the hello itself comes back, which no client takes for a server's.
    let refused = edge.client().connect(edge.bytes, "pass.test").err().unwrap();
    assert!(refused.contains("ClientHello") || refused.contains("InappropriateHandshake"), "{refused}");
}

// === TLS behind the gateway ===

#[test]
fn an_application_is_spoken_to_over_tls_if_it_is_who_it_should_be() {
    let edge = edge();
    for (path, status) in [("/good", 200), ("/good", 200), ("/misnamed", 503), ("/foreign", 503)] {
        let answer = edge.client().get(edge.https, "a.test", path).unwrap();
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    let log = |path: &str| {
        std::fs::read_to_string(&edge.log)
            .unwrap_or_default()
            .lines()
            .find(|line| line.contains(path))
            .map(str::to_owned)
    };
    until("the reason is logged", || log("\"/misnamed\"").is_some_and(|line| line.contains("good.test")));
}

#[test]
fn bytes_reach_an_application_over_tls_or_not_at_all() {
    let edge = edge();
    let [mut good, mut bad] = edge.tcp.map(|port| TcpStream::connect(port).unwrap());
    for stream in [&good, &bad] {
        stream.set_read_timeout(Some(CHANGE)).unwrap();
    }
    let mut heard = [0; 13];
    good.write_all(b"hello, inside").unwrap();
    good.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello, inside");
    // Reset, for there are no words for it; perhaps before anything is written.
    let _ = bad.write_all(b"hello, inside");
    let refused = bad.read(&mut heard);
    assert!(
        matches!(&refused, Ok(0)) || refused.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
        "{refused:?}"
    );
}

#[test]
fn who_agreed_on_a_version_of_http_speaks_no_other() {
    let edge = edge();
    let mut agreed = edge.client().offering(&["h2"]).connect(edge.https, "a.test").unwrap();
    agreed.say(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    // Frames, be it the one that says good-bye; no status line.
    assert_ne!(agreed.hear_first(), Some(b'H'));
    let mut agreed = edge.client().connect(edge.https, "a.test").unwrap();
    agreed.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    assert_eq!(agreed.hear_first(), Some(b'H'));
}

#[test]
fn http2_is_agreed_with_an_application_and_logged_with_name_and_version() {
    let edge = edge();
    assert_eq!(edge.client().get(edge.https, "a.test", "/again").unwrap().status, 200);
    // The gateway asked itself: the second request came over a connection of its own.
    until("both requests are logged", || {
        let log = std::fs::read_to_string(&edge.log).unwrap_or_default();
        let of_h2 = |line: &&str| line.contains("\"protocol\":\"HTTP/2\"") && line.contains("\"path\":\"/good\"");
        let wanted = ["\"requested_server_name\":\"a.test\"", "\"downstream_tls_version\":\"TLSv1.3\""];
        log.lines().filter(of_h2).any(|line| wanted.iter().all(|part| line.contains(part)))
    });
}

// === certificates of clients ===

#[test]
fn where_clients_must_show_a_certificate_only_a_valid_one_is_served() {
    let edge = edge();
    let (known, foreign) = (Arc::new(edge.clients.issue(&["me"])), Arc::new(edge.authority.issue(&["me"])));
    assert_eq!(edge.client().showing(&known).get(edge.required, "m.test", "/").unwrap().status, 200);
    let refused = edge.client().get(edge.required, "m.test", "/").unwrap_err();
    assert!(refused.contains("CertificateRequired"), "{refused}");
    let refused = edge.client().showing(&foreign).get(edge.required, "m.test", "/").unwrap_err();
    assert!(refused.contains("UnknownCA") || refused.contains("alert"), "{refused}");
    assert!(edge.metric("leno_tls_handshake_failures_total{reason=\"client_certificate\"}") >= 2);
}

#[test]
fn where_clients_may_show_a_certificate_they_are_served_with_and_without() {
    let edge = edge();
    let known = Arc::new(edge.clients.issue(&["me"]));
    assert_eq!(edge.client().showing(&known).get(edge.optional, "m.test", "/").unwrap().status, 200);
    assert_eq!(edge.client().get(edge.optional, "m.test", "/").unwrap().status, 200);
}

// === sessions ===

#[test]
fn a_ticket_is_good_for_its_name_and_for_no_other_name_or_client_policy() {
    let edge = edge();
    let visit = |client: &Client, to, name: &str| {
        let mut connected = client.connect(to, name).unwrap();
        connected.get(name, "/").map(|answer| (connected.is_resumed(), answer.status))
    };
    // Each offers what it got for `a.test`, where nobody is asked for a certificate.
    let with_tickets = || {
        let client = edge.client().resuming_anywhere();
        assert_eq!(visit(&client, edge.https, "a.test"), Ok((false, 200)));
        client
    };
    assert_eq!(visit(&with_tickets(), edge.https, "a.test"), Ok((true, 200)), "its own name");
    assert_eq!(visit(&with_tickets(), edge.https, "x.w.test"), Ok((false, 200)), "another name");
    let refused = visit(&with_tickets(), edge.required, "a.test").unwrap_err();
    assert!(refused.contains("CertificateRequired"), "the same name where a certificate is asked for: {refused}");
}

// === changes ===

#[test]
fn a_new_pair_holds_without_a_failed_request_and_a_bad_one_leaves_it() {
    let edge = edge();
    let (over, asked, failed) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let client = edge.client();
    let load: Vec<_> = (0..2)
        .map(|_| {
            let (over, asked, failed, client) = (over.clone(), asked.clone(), failed.clone(), client.clone());
            let to = edge.https;
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    if client.get(to, "hot.test", "/").is_ok_and(|answer| answer.status == 200) {
                        continue;
                    }
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let shown = || edge.client().connect(edge.https, "hot.test").unwrap().certificate();
    let started = Instant::now();
    for _ in 0..3 {
        let new = edge.authority.issue(&["hot.test"]);
        new.write(&edge.directory, "hot");
        until("the new pair is shown", || shown() == new.certificate);
    }
    let changed = started.elapsed() / 3;

    let last = shown();
    std::fs::write(edge.directory.join("hot.crt"), "no certificate").unwrap();
    until("the bad pair is counted", || {
        edge.metric("leno_certificate_rejected{certificate=\"hot\",kind=\"pair\"}") == 1
    });
    assert_eq!(shown(), last);
    assert!(edge.page("/certificates").contains("has no certificate in PEM"));
    over.store(true, Ordering::Relaxed);
    load.into_iter().for_each(|thread| thread.join().unwrap());
    let (asked, failed) = (asked.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    figures(format_args!(
        "edge tls: 3 pairs in force after {} ms each, {asked} connections meanwhile, {failed} failed",
        changed.as_millis()
    ));
    assert_eq!(failed, 0);
    assert!(asked > 50);
}

#[test]
fn what_a_page_a_metric_and_a_table_show_is_no_secret() {
    let edge = edge();
    edge.client().get(edge.https, "a.test", "/").unwrap();
    let key = edge.a.key.serialize_pem();
    let secret = key.lines().nth(1).unwrap();
    for path in ["/certificates", "/metrics", "/table", "/settings"] {
        let page = edge.page(path);
        assert!(!page.contains(secret) && !page.contains("PRIVATE KEY"), "{path}");
    }
    assert!(edge.metric("leno_certificate_not_after_seconds{certificate=\"a\"}") > 1_700_000_000);
}

// === those who hold up ===

#[test]
fn a_handshake_that_takes_too_long_is_cut_off() {
    let edge = edge();
    let started = Instant::now();
    let mut silent = TcpStream::connect(edge.https).unwrap();
    let mut slow = TcpStream::connect(edge.https).unwrap();
    let mut dribble = slow.try_clone().unwrap();
    // A record that promises more than comes, a byte a second.
    std::thread::spawn(move || {
        for byte in [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3].into_iter().cycle().take(30) {
            if dribble.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let ended = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(HANDSHAKE * 2)).unwrap();
        let read = stream.read(&mut [0; 64]);
        assert!(!matches!(&read, Ok(1..)), "{read:?}");
        started.elapsed()
    };
    let took = [ended(&mut silent), ended(&mut slow)];
    figures(format_args!(
        "edge tls: slow handshakes ended after {} and {} ms",
        took[0].as_millis(),
        took[1].as_millis()
    ));
    for took in took {
        assert!(took >= HANDSHAKE - Duration::from_millis(100) && took < HANDSHAKE + SLACK, "{took:?}");
    }
    assert!(edge.metric("leno_tls_handshake_failures_total{reason=\"deadline\"}") >= 2);
}

//! Datagrams through a gateway: sources keep their endpoints, endpoints come and go, sessions end, and a DNS server answers.
//! Each test prints what it measured.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kit::mesh::{Mesh, Process, wait_until};
use kit::{figures, free_address};
use leno_dns::address::{VirtualAddresses, is_virtual};
use leno_dns::message;
use leno_dns::resolver::{Answer, Names, Options, Resolver, Verdict};
use leno_dns::upstream::{ResolvConf, Upstream};
use leno_model::name::ServiceName;
use leno_runtime::SystemRandom;

/// How long an answer may take before it counts as lost.
const ANSWER: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_secs(10);
const CLIENTS: usize = 24;

/// A service that answers each datagram with its name; it ends when it is dropped.
struct Echo {
    name: usize,
    address: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// A server, and a gateway with one port of UDP.
struct Edge {
    mesh: Mesh,
    udp: SocketAddr,
    metrics: SocketAddr,
    gateway: Process,
    _server: Process,
}

struct Client {
    socket: UdpSocket,
    to: SocketAddr,
}

#[test]
fn a_source_keeps_its_endpoint_until_that_is_gone_or_does_not_answer() {
    let mut echoes: Vec<Echo> = (0..3).map(Echo::start).collect();
    let edge = Edge::start(&[]);
    edge.lead_to(&echoes, "");
    edge.gateway.wait_for("gateway listener open");
    let clients: Vec<Client> = (0..CLIENTS).map(|_| Client::to(edge.udp)).collect();
    let first = all(&clients);
    for _ in 0..8 {
        assert_eq!(all(&clients), first, "a source changes its endpoint");
    }
    let used: BTreeSet<usize> = first.iter().flatten().copied().collect();
    assert_eq!(used.len(), 3, "{first:?}");
    // Taken away: its sources go elsewhere with their next datagram, and the others stay.
    let gone = echoes.remove(0);
    edge.lead_to(&echoes, "");
    let second = all(&clients);
    assert!(second.iter().all(|name| name.is_some_and(|name| name != gone.name)), "{second:?}");
    assert!(first.iter().zip(&second).all(|(a, b)| a == b || *a == Some(gone.name)), "{first:?} {second:?}");
    // It dies without a word: the kernel says so, and the next datagram goes to the one that is left.
    let dead = echoes.remove(0);
    let name = dead.name;
    drop(dead);
    let orphan = second.iter().position(|at| *at == Some(name)).unwrap();
    let took = wait_until(SOON, || clients[orphan].ask("still there?").is_some_and(|at| at != name));
    let received = edge.value("leno_udp_datagrams_total{direction=\"received\"}");
    let (opened, open) = (edge.value("leno_udp_sessions_total"), edge.value("leno_udp_sessions"));
    figures(format_args!(
        "udp: {CLIENTS} sources over {} endpoints, {received} datagrams in {opened} sessions of which {open} are open; another endpoint {took:.0?} after one died",
        used.len()
    ));
    assert!(took.is_some());
    assert!(open >= 1.0 && open <= CLIENTS as f64 && opened > CLIENTS as f64, "{opened} {open}");
}

#[test]
fn sessions_end_when_nothing_is_sent_and_there_are_only_so_many() {
    let echoes = [Echo::start(7)];
    let mut edge = Edge::start(&["--udp-sessions-max", "2", "--access-log", "json"]);
    let log = edge.gateway.child.stdout.take().unwrap();
    let (say, said) = std::sync::mpsc::sync_channel(100);
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let _ = say.try_send(line);
        }
    });
    edge.lead_to(&echoes, "idleTimeout: 4s");
    edge.gateway.wait_for("gateway listener open");
    let clients: Vec<Client> = (0..3).map(|_| Client::to(edge.udp)).collect();
    assert_eq!(all(&clients), [Some(7), Some(7), None], "one more than there may be");
    let refused = edge.value("leno_udp_datagrams_dropped_total{reason=\"sessions_max\"}");
    let took = wait_until(SOON, || edge.value("leno_udp_sessions") == 0.0);
    assert_eq!(clients[2].ask("now?"), Some(7), "room again");
    let line = said.recv_timeout(SOON).unwrap();
    let record: serde_json::Value = serde_json::from_str(&line).unwrap();
    figures(format_args!("udp: {refused} datagrams beyond 2 sessions dropped, sessions of 4 s gone after {took:.0?}"));
    assert!(refused >= 1.0 && took.is_some_and(|took| took >= Duration::from_millis(500)));
    assert_eq!(
        (&record["protocol"], &record["bytes_received"]),
        (&"UDP".into(), &"who is there?".len().into()),
        "{line}"
    );
}

#[test]
fn a_dns_server_answers_through_a_route_of_udp() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || leno_runtime::threads::control(answer_names(server)));
    let edge = Edge::start(&[]);
    edge.lead_to_addresses(&[address], "");
    edge.gateway.wait_for("gateway listener open");
    let client = Client::to(edge.udp);
    let mut answered = 0;
    for id in 1..=50_u16 {
        let reply = client.exchange(&query(id, "cart.shop.mesh")).expect("the server answers");
        assert_eq!(reply[..2], id.to_be_bytes());
        let addresses = message::addresses(&reply).unwrap();
        answered += usize::from(addresses.iter().any(|address| is_virtual(*address)));
    }
    figures(format_args!("udp: {answered} of 50 DNS queries answered through a UDPRoute"));
    assert_eq!(answered, 50);
}

/// Who answers each of them.
fn all(clients: &[Client]) -> Vec<Option<usize>> {
    clients.iter().map(|client| client.ask("who is there?")).collect()
}

/// A query for the address of a name.
fn query(id: u16, name: &str) -> Vec<u8> {
    let mut query = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    query
}

/// The DNS server of the mesh, for which every name is one.
async fn answer_names(socket: UdpSocket) {
    struct Every;
    impl Names for Every {
        fn exists(&self, _: &ServiceName) -> Answer {
            Answer::Mesh
        }
        fn wait<'a>(&'a self, _: &'a ServiceName) -> Verdict<'a> {
            Box::pin(async { Answer::Mesh })
        }
    }
    socket.set_nonblocking(true).unwrap();
    let upstream = Upstream::new(ResolvConf::parse(""), Box::new(SystemRandom));
    let metrics = leno_telemetry::Registry::new(0, Default::default());
    let resolver = Resolver::new(Options::default(), Every, Arc::new(VirtualAddresses::new()), upstream, &metrics);
    leno_dns::server::serve_udp(tokio::net::UdpSocket::from_std(socket).unwrap(), &resolver).await;
}

// === impl Echo ===

impl Echo {
    fn start(name: usize) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (address, ends) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let end = ends.clone();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !end.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let answer = [name.to_string().as_bytes(), b" ", &buffer[..length]].concat();
                let _ = socket.send_to(&answer, from);
            }
        });
        Self { name, address, ends, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
}

// === impl Edge ===

impl Edge {
    fn start(arguments: &[&str]) -> Self {
        let (mesh, metrics) = (Mesh::new(), free_address());
        let server = mesh.server();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let listen = metrics.to_string();
        let common = ["proxy", "--server", &mesh.grpc, "--role", "gateway", "--gateway", "edge.shop"];
        let listens = ["--outbound-listen", "off", "--inbound-listen", "off", "--admin-listen", "off"];
        let shown = ["--metrics-listen", &listen];
        let gateway = Process::start(&mesh.leno, &[&common[..], &listens, &shown, arguments].concat());
        Self { mesh, udp, metrics, gateway, _server: server }
    }

    fn lead_to(&self, echoes: &[Echo], policy: &str) {
        let addresses: Vec<SocketAddr> = echoes.iter().map(|echo| echo.address).collect();
        self.lead_to_addresses(&addresses, policy);
    }

    /// Has the gateway's port lead to these, which is in force when this returns.
    fn lead_to_addresses(&self, addresses: &[SocketAddr], policy: &str) {
        let endpoint = |at: &SocketAddr| format!("{{address: {}, port: {}}}", at.ip(), at.port());
        let endpoints: Vec<String> = addresses.iter().map(endpoint).collect();
        let gateway_api = "apiVersion: gateway.networking.k8s.io/v1";
        let mut resources = format!(
            "{gateway_api}\nkind: Gateway\nmetadata: {{name: edge, namespace: shop}}\nspec:\n  listeners: [{{name: udp, port: {}, protocol: UDP}}]\n---\n\
             {gateway_api}\nkind: UDPRoute\nmetadata: {{name: echo, namespace: shop}}\nspec:\n  parentRefs: [{{name: edge}}]\n  rules: [{{backendRefs: [{{name: echo, port: 53}}]}}]\n---\n\
             apiVersion: leno.mesh/v1\nkind: Service\nmetadata: {{name: echo, namespace: shop}}\nspec:\n  ports: [{{port: 53}}]\n  endpoints: [{}]\n",
            self.udp.port(),
            endpoints.join(", ")
        );
        if !policy.is_empty() {
            resources += &format!(
                "---\napiVersion: leno.mesh/v1\nkind: TrafficPolicy\nmetadata: {{name: echo, namespace: shop}}\nspec:\n  targetRefs: [{{name: echo}}]\n  {policy}\n"
            );
        }
        std::fs::write(self.mesh.leno.path("edge.yaml"), resources).unwrap();
        let api = format!("http://{}", self.mesh.http);
        let arguments = ["apply", "-f", "edge.yaml", "--api", &api, "--data-dir", "state", "--wait=20s"];
        let ran = self.mesh.leno.run(&arguments);
        assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
    }

    fn value(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: metrics\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("{name} is not among\n{text}"))
    }
}

// === impl Client ===

impl Client {
    fn to(to: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(ANSWER)).unwrap();
        Self { socket, to }
    }

    /// Who answers.
    fn ask(&self, text: &str) -> Option<usize> {
        let answer = String::from_utf8(self.exchange(text.as_bytes())?).unwrap();
        let (name, back) = answer.split_once(' ').unwrap();
        assert_eq!(back, text);
        name.parse().ok()
    }

    fn exchange(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        self.socket.send_to(datagram, self.to).ok()?;
        let mut buffer = [0; 2048];
        let (length, from) = self.socket.recv_from(&mut buffer).ok()?;
        assert_eq!(from, self.to);
        Some(buffer[..length].to_vec())
    }
}

//! Requests of one key meet one instance: three real instances, a gateway and a sidecar before them, HTTP/1, HTTP/2, gRPC and
//! bytes. Each test prints what it measured.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use kit::application::within;
use kit::mesh::{Mesh, Process, get, wait_until};
use kit::{figures, free_address};
use leno_http::{BodyLength, Connection, Method, RequestHead};
use leno_net::Stream;
use leno_runtime::task;

const INSTANCES: [&str; 3] = ["one", "two", "three"];
const KEYS: usize = 60;
const SOON: Duration = Duration::from_secs(10);
const HOST: &str = "cart.shop.mesh";

/// A server, three instances of `cart`, a gateway that leads to them by HTTP and by bytes, and a sidecar that asks.
struct Shop {
    mesh: Mesh,
    http: SocketAddr,
    tcp: SocketAddr,
    outbound: SocketAddr,
    instances: BTreeMap<&'static str, Process>,
    /// Server, gateway, and the sidecar that asks.
    others: [Process; 3],
}

/// How something is asked.
#[derive(Clone, Copy)]
struct Way {
    to: SocketAddr,
    from: Ipv4Addr,
    http2: bool,
    grpc: bool,
}

/// Who answered, and the cookie that it gave.
struct Answer {
    who: String,
    cookie: Option<String>,
}

#[test]
fn a_key_meets_the_same_instance_by_every_way_and_moves_only_when_its_own_goes() {
    let mut shop = Shop::start("{policy: ringHash, hash: [{header: x-user, terminal: true}, {query: user}]}");
    let first = run(all_keys(Way::to(shop.http)));
    let used: BTreeSet<&String> = first.iter().collect();
    assert_eq!(used.len(), 3, "{first:?}");
    let [http, outbound] = [Way::to(shop.http), Way::to(shop.outbound)];
    let ways = [Way { http2: true, ..http }, Way { grpc: true, http2: true, ..http }, outbound];
    for way in ways {
        let mut met = Vec::new();
        let same = wait_until(SOON, || {
            met = run(all_keys(way));
            met == first
        });
        assert!(same.is_some(), "another way, the same instances: {first:?} {met:?}");
    }
    for (key, who) in first.iter().enumerate().take(10) {
        let path = format!("/?a=b&user=user-{key}");
        assert_eq!(run(ask(http, &path, &[])).who, *who, "as a parameter of the query");
        let both = run(ask(http, "/?user=nobody", &[("x-user", &format!("user-{key}"))])).who;
        assert_eq!(both, *who, "the header is enough");
    }
    let gone = shop.instances.remove("two").unwrap();
    assert_eq!(gone.terminate(), 0);
    let second = settled(http, |now| !now.iter().any(|who| who == "two"));
    let moved = first.iter().zip(&second).filter(|(was, is)| was != is).count();
    let own = first.iter().filter(|who| *who == "two").count();
    shop.start_instance("two");
    let back = settled(http, |now| now.iter().any(|who| who == "two"));
    figures(format_args!("sticky: of {KEYS} keys {own} were of the instance that went, {moved} moved, all are back"));
    assert_eq!(moved, own, "{first:?} {second:?}");
    assert_eq!(back, first);
}

#[test]
fn a_cookie_that_a_request_lacks_is_made_and_leads_back() {
    let shop = Shop::start("{policy: maglev, hash: [{cookie: {name: session, ttl: 1h}}]}");
    let (http1, http2) = (Way::to(shop.http), Way { http2: true, ..Way::to(shop.http) });
    let mut used = BTreeSet::new();
    let mut values = BTreeSet::new();
    for client in 0..KEYS {
        let first = run(ask(if client % 2 == 0 { http1 } else { http2 }, "/a/b", &[]));
        let cookie = first.cookie.expect("a client without a cookie gets one");
        let (pair, terms) = cookie.split_once("; ").unwrap();
        assert_eq!(terms, "Max-Age=3600; Path=/; HttpOnly");
        for way in [http1, http2, Way { grpc: true, ..http2 }] {
            let again = run(ask(way, "/c", &[("cookie", &format!("theme=dark; {pair}"))]));
            assert_eq!((again.who.as_str(), again.cookie), (first.who.as_str(), None));
        }
        used.insert(first.who);
        values.insert(pair.to_owned());
    }
    figures(format_args!("sticky: {} cookies made, over {} instances", values.len(), used.len()));
    assert_eq!((values.len(), used.len()), (KEYS, 3));
    assert!(values.iter().all(|pair| pair.starts_with("session=") && !pair.contains("127.0.0.1")), "{values:?}");
    let own = [("cookie", "session=what-the-client-says")];
    let said: BTreeSet<String> = (0..5).map(|_| run(ask(http1, "/", &own)).who).collect();
    assert_eq!(said.len(), 1, "a value that the proxy did not make is one too");
}

#[test]
fn the_address_of_a_client_decides_for_requests_and_for_bytes() {
    let shop = Shop::start("{policy: maglev, hash: [{sourceAddress: true}]}");
    let (mut used, mut asked) = (BTreeSet::new(), 0);
    for last in 2..32 {
        let http1 = Way { from: Ipv4Addr::new(127, 0, 0, last), ..Way::to(shop.http) };
        let ways = [http1, Way { http2: true, ..http1 }, Way { to: shop.tcp, ..http1 }, http1];
        let met: BTreeSet<String> = ways.iter().map(|way| run(ask(*way, "/", &[])).who).collect();
        assert_eq!(met.len(), 1, "{last}: {met:?}");
        asked += ways.len();
        used.extend(met);
    }
    // All callers of a sidecar are the workload beside it.
    let beside = |last| Way { from: Ipv4Addr::new(127, 0, 0, last), ..Way::to(shop.outbound) };
    let met: BTreeSet<String> = (2..12).map(|last| run(ask(beside(last), "/", &[])).who).collect();
    figures(format_args!("sticky: {asked} requests of 30 addresses, over {} instances", used.len()));
    assert_eq!((used.len(), met.len()), (3, 1), "{used:?} {met:?}");
}

#[test]
fn a_session_keeps_its_instance_until_that_goes_whoever_else_comes_and_shows_no_address() {
    let mut shop = Shop::start("{policy: random, session: {cookie: {name: who, ttl: 10m, path: /shop}}}");
    let (http1, http2) = (Way::to(shop.http), Way { http2: true, ..Way::to(shop.http) });
    let mut sessions = Vec::new();
    for _ in 0..KEYS {
        let first = run(ask(http1, "/", &[]));
        let cookie = first.cookie.expect("an answer names its instance");
        let (pair, terms) = cookie.split_once("; ").unwrap();
        assert_eq!(terms, "Max-Age=600; Path=/shop; HttpOnly");
        sessions.push((first.who, pair.to_owned()));
    }
    let keep = |sessions: &[(String, String)], gone: &str| {
        let mut moved = 0;
        for (who, pair) in sessions {
            let ways = [http1, http2, Way { grpc: true, ..http2 }];
            let answers = ways.map(|way| run(ask(way, "/", &[("cookie", pair)])));
            if who == gone {
                assert!(answers.iter().all(|answer| answer.who != gone && answer.cookie.is_some()), "named anew");
                moved += 1;
            } else {
                assert!(answers.iter().all(|answer| answer.who == *who && answer.cookie.is_none()), "{who} {pair}");
            }
        }
        moved
    };
    assert_eq!(keep(&sessions, ""), 0);
    shop.start_instance("four");
    let fresh = wait_until(SOON, || run(ask(http1, "/", &[])).who == "four");
    assert!(fresh.is_some() && keep(&sessions, "") == 0, "one more instance moves nobody");
    assert_eq!(shop.instances.remove("one").unwrap().terminate(), 0);
    let left = wait_until(SOON, || (0..20).all(|_| run(ask(http1, "/", &[])).who != "one"));
    let of_one: Vec<&str> = sessions.iter().filter(|(who, _)| who == "one").map(|(_, pair)| pair.as_str()).collect();
    let heard = wait_until(SOON, || run(ask(http1, "/", &[("cookie", of_one[0])])).who != "one");
    assert!(left.is_some() && heard.is_some());
    let moved = keep(&sessions, "one");
    let pairs: BTreeSet<&String> = sessions.iter().map(|(_, pair)| pair).collect();
    figures(format_args!("sticky: {KEYS} sessions on {} instances, {moved} moved when theirs went", pairs.len()));
    assert_eq!((pairs.len(), moved), (3, of_one.len()), "{pairs:?}");
}

/// Who answers each key.
async fn all_keys(way: Way) -> Vec<String> {
    let mut met = Vec::with_capacity(KEYS);
    for key in 0..KEYS {
        met.push(ask(way, "/", &[("x-user", &format!("user-{key}"))]).await.who);
    }
    met
}

/// Who answers each key once it is as wanted.
fn settled(way: Way, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
    let mut met = Vec::new();
    let took = wait_until(SOON, || {
        met = run(all_keys(way));
        wanted(&met) && run(all_keys(way)) == met
    });
    assert!(took.is_some(), "{met:?}");
    met
}

fn get_until(to: SocketAddr, host: &str, status: u16) {
    let took = wait_until(SOON, || get(to, host).is_some_and(|(got, _)| got == status));
    assert!(took.is_some(), "{host} at {to}");
}

fn run<T>(asking: impl Future<Output = T>) -> T {
    leno_runtime::threads::control(asking).unwrap()
}

async fn ask(way: Way, path: &str, fields: &[(&str, &str)]) -> Answer {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((way.from, 0))).unwrap();
    let stream = Stream::from(socket.connect(way.to).await.unwrap());
    let options = Rc::default();
    let connection = if way.http2 {
        let (connection, driver) = Connection::h2(stream, &options).await.unwrap();
        drop(task::spawn("client", driver));
        connection
    } else {
        Connection::h1(stream, &options)
    };
    let mut head = RequestHead::new(if way.grpc { Method::Post } else { Method::Get }, HOST, path);
    for (name, value) in fields {
        head.fields.append(name, value);
    }
    let length = if way.grpc { BodyLength::Known(5) } else { BodyLength::Empty };
    if way.grpc {
        head.fields.append("content-type", "application/grpc");
        head.fields.append("te", "trailers");
    }
    let (mut request, answer) = connection.send(&head, length).await.unwrap();
    if way.grpc {
        // A message of no bytes.
        request.data(Bytes::from_static(&[0; 5])).await.unwrap();
    }
    request.end().await.unwrap();
    let response = answer.response().await.unwrap();
    let cookie = response.head.fields.get_str("set-cookie").map(str::to_owned);
    let status = response.head.status;
    let body = response.body.collect(64 * 1024).await.unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    assert_eq!(status, 200, "{text}");
    Answer { who: text.split(' ').next().unwrap().to_owned(), cookie }
}

// === impl Way ===

impl Way {
    fn to(to: SocketAddr) -> Self {
        Self { to, from: Ipv4Addr::LOCALHOST, http2: false, grpc: false }
    }
}

// === impl Shop ===

impl Shop {
    fn start(balancer: &str) -> Self {
        let mesh = Mesh::new();
        let server = mesh.server();
        let [http, tcp, outbound] = [(); 3].map(|()| free_address());
        let edge = ["proxy", "--server", &mesh.grpc, "--role", "gateway", "--gateway", "edge.shop"];
        let off = ["outbound", "inbound", "admin", "metrics"].map(|name| format!("--{name}-listen=off"));
        let off: Vec<&str> = off.iter().map(String::as_str).collect();
        let gateway = Process::start(&mesh.leno, &[&edge[..], &off].concat());
        let front = mesh.caller(outbound, "front");
        let mut shop = Self { mesh, http, tcp, outbound, instances: BTreeMap::new(), others: [server, gateway, front] };
        INSTANCES.iter().for_each(|name| shop.start_instance(name));
        shop.apply(balancer);
        let [_, gateway, _] = &shop.others;
        (0..2).for_each(|_| drop(gateway.wait_for("gateway listener open")));
        get_until(shop.outbound, HOST, 200);
        get_until(shop.http, HOST, 200);
        let all = wait_until(SOON, || {
            let from = |last| Way { from: Ipv4Addr::new(127, 0, 1, last), ..Way::to(shop.http) };
            let asks = (2..42).map(|last| run(ask(from(last), "/", &[("x-user", &format!("user-{last}"))])).who);
            asks.collect::<BTreeSet<String>>().len() == INSTANCES.len()
        });
        assert!(all.is_some(), "the gateway does not lead to all three");
        shop
    }

    fn start_instance(&mut self, name: &'static str) {
        let application = within(name, Duration::ZERO);
        let sidecar = self.mesh.sidecar_with("cart.shop", application, &["--instance", name]);
        self.instances.insert(name, sidecar);
    }

    /// Has the gateway lead to the instances, which is in force when this returns.
    fn apply(&self, balancer: &str) {
        let gateway_api = "apiVersion: gateway.networking.k8s.io/v1";
        let (http, tcp, port) = (self.http.port(), self.tcp.port(), self.mesh.port);
        let to = format!("rules: [{{backendRefs: [{{group: leno.mesh, kind: Service, name: cart, port: {port}}}]}}]");
        let resources = format!(
            "{gateway_api}\nkind: Gateway\nmetadata: {{name: edge, namespace: shop}}\nspec:\n  listeners:\n  - {{name: http, port: {http}, protocol: HTTP}}\n  - {{name: tcp, port: {tcp}, protocol: TCP}}\n---\n\
             {gateway_api}\nkind: HTTPRoute\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  parentRefs: [{{name: edge, sectionName: http}}]\n  {to}\n---\n\
             apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  parentRefs: [{{name: edge, sectionName: tcp}}]\n  {to}\n---\n\
             apiVersion: leno.mesh/v1\nkind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\nspec:\n  targetRefs: [{{name: cart}}]\n  loadBalancer: {balancer}\n"
        );
        std::fs::write(self.mesh.leno.path("shop.yaml"), resources).unwrap();
        self.mesh.done(&["apply", "-f", "shop.yaml", "--wait=20s"]);
    }
}

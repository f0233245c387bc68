//! Applications that answer as a test says at the moment, over HTTP/1, HTTP/2 and gRPC, and calls of them by kind.

// Real processes are waited for in real time.
#![allow(clippy::disallowed_methods)]

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use leno_http::client::ClientOptions;
use leno_http::grpc::{self, Code, Status};
use leno_http::{Body, BodyLength, Connection, Handler, Method, Reply, RequestHead, ResponseHead};
use leno_net::Address;
use leno_net::dial::{Dial, HostDial};
use leno_runtime::task;

use super::application::{self, ANY_PORT};
use super::free_address;
use super::mesh::{Api, Mesh, Process, get_path, wait_until};

const BODY_MAX: usize = 64 * 1024;
/// A call without an answer after this time has failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// An empty message of gRPC.
const MESSAGE: &[u8] = &[0; 5];

/// An application in this process.
pub struct Steered {
    pub address: SocketAddr,
    how: Arc<How>,
}

/// How it answers, and what it saw.
#[derive(Default)]
struct How {
    failing: AtomicBool,
    hold_ms: AtomicU64,
    body_bytes: AtomicU64,
    came: AtomicU64,
    open: AtomicU64,
    open_max: AtomicU64,
}

struct Answering(Arc<How>);

/// A caller's proxy, and behind it instances of `cart.shop` under a policy.
pub struct Front {
    outbound: SocketAddr,
    admin: SocketAddr,
    mesh: Mesh,
    processes: Vec<Process>,
}

/// What is called: a version of HTTP, or gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    Http1,
    Http2,
    Grpc,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Came {
    /// 0 when no answer came.
    pub status: u16,
    pub grpc_status: Option<u8>,
    /// `x-leno-reason`.
    pub reason: String,
    pub took: Duration,
}

// === impl Steered ===

impl Steered {
    pub fn start() -> Self {
        let how = Arc::<How>::default();
        Self { address: application::start(ANY_PORT, Answering(how.clone())), how }
    }

    /// Has it answer 503, a call of gRPC with UNAVAILABLE in trailers, or well again.
    pub fn fail(&self, failing: bool) {
        self.how.failing.store(failing, SeqCst);
    }

    /// Has it take so long.
    pub fn hold(&self, hold: Duration) {
        self.how.hold_ms.store(hold.as_millis() as u64, SeqCst);
    }

    /// Has it answer with a body of so many bytes; 0 is a short one.
    pub fn answer_with(&self, bytes: u64) {
        self.how.body_bytes.store(bytes, SeqCst);
    }

    /// Requests that came so far.
    pub fn came(&self) -> u64 {
        self.how.came.load(SeqCst)
    }

    /// Requests that were open at once, at most; counted anew from now on.
    pub fn open_max(&self) -> u64 {
        self.how.open_max.swap(self.how.open.load(SeqCst), SeqCst)
    }
}

impl Handler for Answering {
    async fn handle(&self, head: RequestHead, body: Body, reply: Reply) {
        let how = &self.0;
        how.came.fetch_add(1, SeqCst);
        how.open_max.fetch_max(how.open.fetch_add(1, SeqCst) + 1, SeqCst);
        // A body that breaks off is a client that is gone.
        let read = body.collect(BODY_MAX).await;
        let hold = how.hold_ms.load(SeqCst);
        if hold > 0 {
            tokio::time::sleep(Duration::from_millis(hold)).await;
        }
        how.open.fetch_sub(1, SeqCst);
        if read.is_err() {
            return;
        }
        let failing = how.failing.load(SeqCst);
        let long = vec![0; how.body_bytes.load(SeqCst) as usize];
        // Nobody may be there any more to hear it.
        if grpc::is_grpc(&head.fields) {
            let code = if failing { Code::Unavailable } else { Code::Ok };
            let head = ResponseHead::new(200).with("content-type", "application/grpc");
            let Ok(mut answer) = reply.send(head, BodyLength::Unknown).await else { return };
            let message = [&[0][..], &(long.len() as u32).to_be_bytes(), &long].concat();
            if answer.data(message.into()).await.is_ok() {
                let _ = answer.trailers(Status::new(code, "").trailers()).await;
            }
        } else {
            let status = if failing { 503 } else { 200 };
            let body = if long.is_empty() { Bytes::from_static(b"steered") } else { long.into() };
            let _ = reply.respond(ResponseHead::new(status), body).await;
        }
    }
}

// === impl Front ===

impl Front {
    /// Begins with these instances; `policy` is the rest of the TrafficPolicy's `spec`.
    pub fn before(carts: &[Steered], policy: &str) -> Self {
        let front = Self::at(carts.iter().map(|cart| cart.address), policy);
        let all_are_used = || {
            front.call(Call::Http1, carts.len());
            carts.iter().all(|cart| cart.came() > 0)
        };
        assert!(wait_until(Duration::from_secs(5), all_are_used).is_some(), "{}", front.shown());
        front
    }

    /// Begins with instances at these addresses, which are not all known yet.
    pub fn at(carts: impl IntoIterator<Item = SocketAddr>, policy: &str) -> Self {
        let mesh = Mesh::new();
        let mut processes = vec![mesh.server()];
        mesh.apply("policy.yaml", &resource(policy));
        let (outbound, admin) = (free_address(), free_address());
        processes.extend(carts.into_iter().map(|cart| mesh.sidecar("cart.shop", cart)));
        processes.push(mesh.caller_with(outbound, "front", &["--admin-listen", &admin.to_string()]));
        Self { outbound, admin, mesh, processes }
    }

    /// Where its callers ask.
    pub fn outbound(&self) -> SocketAddr {
        self.outbound
    }

    /// Has one more instance.
    pub fn join(&mut self, cart: &Steered) {
        self.processes.push(self.mesh.sidecar("cart.shop", cart.address));
    }

    /// Has an instance of another service.
    pub fn beside(&mut self, service: &str, application: SocketAddr) {
        self.processes.push(self.mesh.sidecar(service, application));
    }

    /// Has another policy in force.
    pub fn apply(&self, policy: &str) {
        self.mesh.apply("policy.yaml", &resource(policy));
    }

    /// Puts other resources in force too.
    pub fn put(&self, name: &str, resources: &str) {
        self.mesh.apply(name, resources);
    }

    /// Asks for a path of the service by GET.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        get_path(self.outbound, "cart", path)
    }

    /// The way to the server's API.
    pub fn api(&self) -> Api {
        self.mesh.api()
    }

    /// Calls so many times at once.
    pub fn call(&self, call: Call, count: usize) -> Vec<Came> {
        call.many(self.outbound, "cart", count)
    }

    /// What the admin listener says of the cluster.
    pub fn shown(&self) -> serde_json::Value {
        self.shown_at("/endpoints")[0].clone()
    }

    /// What the admin listener says there.
    pub fn shown_at(&self, path: &str) -> serde_json::Value {
        let (_, body) = get_path(self.admin, "localhost", path).unwrap();
        serde_json::from_str(&body).unwrap()
    }

    /// The metrics of the caller's proxy.
    pub fn metrics(&self) -> String {
        get_path(self.admin, "localhost", "/metrics").unwrap().1
    }

    /// The value of the first metric whose line begins so.
    pub fn metric(&self, start: &str) -> f64 {
        let metrics = self.metrics();
        let line = metrics.lines().find(|line| line.starts_with(start));
        line.and_then(|line| line.rsplit(' ').next()).unwrap().parse().unwrap()
    }
}

fn resource(policy: &str) -> String {
    format!(
        "apiVersion: leno.mesh/v1\nkind: TrafficPolicy\nmetadata: {{name: cart, namespace: shop}}\n\
         spec:\n  targetRefs: [{{name: cart}}]\n  {policy}\n"
    )
}

// === impl Call ===

impl Call {
    pub const ALL: [Call; 3] = [Call::Http1, Call::Http2, Call::Grpc];

    /// Calls `host` through the outbound port of a proxy, so many times at once.
    pub fn many(self, to: SocketAddr, host: &str, count: usize) -> Vec<Came> {
        let host = host.to_owned();
        let calls = async move {
            let shared = if self == Self::Http1 { None } else { connect(to, true).await };
            let mut running = Vec::new();
            for _ in 0..count {
                let (host, shared) = (host.clone(), shared.clone());
                running.push(task::spawn("call", async move {
                    let connection = match shared {
                        Some(connection) => Some(connection),
                        None => connect(to, self != Self::Http1).await,
                    };
                    self.once(connection, &host).await
                }));
            }
            let mut came = Vec::new();
            for call in running {
                came.push(call.await.unwrap());
            }
            came
        };
        leno_runtime::threads::control(calls).unwrap()
    }

    /// Calls once.
    pub fn one(self, to: SocketAddr, host: &str) -> Came {
        self.many(to, host, 1).remove(0)
    }

    /// Calls once over a connection that there is.
    pub async fn once(self, connection: Option<Rc<Connection>>, host: &str) -> Came {
        let began = Instant::now();
        let answer = async {
            let connection =
                connection.ok_or_else(|| leno_http::Error::connect(std::io::ErrorKind::NotFound.into()))?;
            let mut head = RequestHead::new(Method::Post, host, "/shop.Cart/Get");
            if self == Self::Grpc {
                head.fields.append("content-type", "application/grpc");
                head.fields.append("te", "trailers");
            }
            let (mut request, answer) = connection.send(&head, BodyLength::Known(MESSAGE.len() as u64)).await?;
            request.data(Bytes::from_static(MESSAGE)).await?;
            request.end().await?;
            let mut response = answer.response().await?;
            let mut status = response.head.fields.get("grpc-status").map(Code::parse);
            while let Some(frame) = response.body.frame().await {
                if let leno_http::Frame::Trailers(trailers) = frame? {
                    status = trailers.get("grpc-status").map(Code::parse);
                }
            }
            let reason = response.head.fields.get_str("x-leno-reason").unwrap_or_default().to_owned();
            Ok::<_, leno_http::Error>((response.head.status, status, reason))
        };
        let (status, grpc_status, reason) = match tokio::time::timeout(TIMEOUT, answer).await {
            Ok(Ok((status, code, reason))) => (status, code.map(|code| code as u8), reason),
            Ok(Err(error)) => (0, None, error.to_string()),
            Err(_) => (0, None, "no answer".to_owned()),
        };
        Came { status, grpc_status, reason, took: began.elapsed() }
    }
}

pub async fn connect(to: SocketAddr, http2: bool) -> Option<Rc<Connection>> {
    let (stream, options) =
        (HostDial.connect(&Address::Tcp(to), TIMEOUT).await.ok()?, Rc::new(ClientOptions::default()));
    if !http2 {
        return Some(Rc::new(Connection::h1(stream, &options)));
    }
    let (connection, driver) = Connection::h2(stream, &options).await.ok()?;
    drop(task::spawn("call-connection", driver));
    Some(Rc::new(connection))
}

// === impl Came ===

impl Came {
    /// Whether the application answered well.
    pub fn is_good(&self) -> bool {
        self.status == 200 && matches!(self.grpc_status, None | Some(0))
    }

    /// Whether leno answered, for this reason, as it answers what it does not let through.
    pub fn is_refused(&self, call: Call, reason: &str) -> bool {
        let expected = if call == Call::Grpc { (200, Some(Code::Unavailable as u8)) } else { (503, None) };
        (self.status, self.grpc_status) == expected && self.reason == reason
    }
}

/// How many of these calls were answered well, and how many were refused for this reason.
pub fn tally(call: Call, came: &[Came], reason: &str) -> (usize, usize) {
    let good = came.iter().filter(|came| came.is_good()).count();
    (good, came.iter().filter(|came| came.is_refused(call, reason)).count())
}

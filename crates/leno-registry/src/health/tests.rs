#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::sync::Arc;

use leno_model::instance::{Instance, Probe, ProbeResult};
use leno_net::Address;
use leno_net::dial::{Dialling, HostDial};
use leno_store::MemoryStore;
use leno_store::suite::TurnedClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use leno_http::grpc::{Call, Router};
use leno_http::{ServerOptions, serve_connection};
use leno_net::Stream;

use super::probe::{HealthRequest, HealthResponse};
use super::*;
use crate::catalogue::tests::{instance, name};
use crate::{Options, Origin};

struct Seeded(fastrand::Rng);

impl Random for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }
}

fn seeded() -> Box<dyn Random> {
    Box::new(Seeded(fastrand::Rng::with_seed(3)))
}

async fn registry() -> Registry {
    let clock = Arc::new(TurnedClock::default());
    let store = Arc::new(MemoryStore::new(clock.clone()));
    Registry::open(store, clock, Options::default()).await.unwrap().0
}

/// An instance on loopback that is asked every second.
fn probed(probe: Probe, port: u16) -> Instance {
    let mut instance = instance("cart", "a");
    instance.address = [127, 0, 0, 1].into();
    instance.ports[0].number = port;
    let check = instance.health_check.as_mut().unwrap();
    check.probe = probe;
    check.interval = Duration::from_secs(1);
    check.unhealthy_threshold = 1;
    instance
}

/// Probes until the instance's result is this one.
async fn becomes(registry: &Registry, wanted: ProbeResult) {
    let prober = Prober::new(registry.clone(), Rc::new(HostDial), seeded());
    let seen = async {
        let mut watch = registry.watch(None);
        while registry.instance(&name("cart"), "a").unwrap().probe != wanted {
            watch.next().await.unwrap();
        }
    };
    tokio::select! {
        () = seen => {}
        () = prober.run() => panic!("the prober ends last"),
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("not {wanted:?} after 20 s"),
    }
}

/// A server that answers each connection with this and keeps what it was asked.
async fn answering(answer: &'static str) -> (u16, Rc<RefCell<Vec<String>>>, impl Future<Output = ()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Rc::new(RefCell::new(Vec::new()));
    let heard = asked.clone();
    let serve = async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            heard.borrow_mut().push(String::from_utf8_lossy(&request[..length]).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    (port, asked, serve)
}

async fn http_becomes(answer: &'static str, wanted: ProbeResult) -> Vec<String> {
    let registry = registry().await;
    let (port, asked, serve) = answering(answer).await;
    let probe = Probe::Http { path: "/healthz".to_owned() };
    registry.register(probed(probe, port), Origin::Local).await.unwrap();
    tokio::select! {
        () = becomes(&registry, wanted) => {}
        () = serve => {}
    }
    asked.take()
}

#[tokio::test]
async fn an_http_probe_passes_for_200_to_399_and_follows_no_redirect() {
    let asked = http_becomes("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ProbeResult::Passing).await;
    assert!(asked[0].starts_with("GET /healthz HTTP/1.1\r\n"), "{asked:?}");
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n";
    let asked = http_becomes(moved, ProbeResult::Passing).await;
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn an_http_probe_fails_for_503_and_for_what_is_not_http() {
    http_becomes("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", ProbeResult::Failing).await;
    http_becomes("220 mail.example ESMTP\r\n", ProbeResult::Failing).await;
}

#[tokio::test]
async fn a_tcp_probe_follows_the_listener() {
    let registry = registry().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    registry.register(probed(Probe::Tcp, port), Origin::Local).await.unwrap();
    becomes(&registry, ProbeResult::Passing).await;
    drop(listener);
    becomes(&registry, ProbeResult::Failing).await;
}

/// A gRPC server that says this of itself.
async fn grpc_becomes(status: i32, wanted: ProbeResult) {
    let registry = registry().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    registry.register(probed(Probe::Grpc { service: "shop.Cart".to_owned() }, port), Origin::Local).await.unwrap();
    let serve = async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let check = async move |_: Call, request: HealthRequest| {
                assert_eq!(request.service, "shop.Cart");
                Ok(HealthResponse { status })
            };
            let router = Rc::new(Router::new().unary("/grpc.health.v1.Health/Check", check));
            let options = Rc::new(ServerOptions::default());
            let forever = std::future::pending();
            let _ = serve_connection(Stream::from(stream), Default::default(), &options, router, forever).await;
        }
    };
    tokio::select! {
        () = becomes(&registry, wanted) => {}
        () = serve => {}
    }
}

#[tokio::test(flavor = "local")]
async fn a_grpc_probe_passes_for_serving_only() {
    grpc_becomes(1, ProbeResult::Passing).await;
    grpc_becomes(2, ProbeResult::Failing).await;
}

/// Connects nowhere and counts.
struct Nowhere(Rc<RefCell<(usize, usize)>>);

impl Dial for Nowhere {
    fn connect<'a>(&'a self, _: &'a Address, timeout: Duration) -> Dialling<'a> {
        Box::pin(async move {
            {
                let mut counts = self.0.borrow_mut();
                counts.0 += 1;
                counts.1 = counts.1.max(counts.0);
            }
            tokio::time::sleep(timeout / 2).await;
            self.0.borrow_mut().0 -= 1;
            Err(std::io::ErrorKind::ConnectionRefused.into())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_probes_run_at_once_than_may() {
    let registry = registry().await;
    for i in 0..1000 {
        let mut instance = instance("cart", &i.to_string());
        instance.health_check.as_mut().unwrap().interval = Duration::from_secs(1);
        instance.health_check.as_mut().unwrap().timeout = Duration::from_secs(1);
        registry.register(instance, Origin::Remote).await.unwrap();
    }
    let counts = Rc::new(RefCell::new((0, 0)));
    let prober = Prober::new(registry, Rc::new(Nowhere(counts.clone())), seeded());
    let _ = tokio::time::timeout(Duration::from_secs(10), prober.run()).await;
    assert_eq!(counts.borrow().1, PROBES_MAX);
}

use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use leno_http::client::ClientOptions;
use leno_http::{Connection, ServerOptions, serve_connection};
use leno_model::seam::Timestamp;
use leno_net::Stream;
use tokio::net::UnixStream;
use tokio::task::LocalSet;

use super::*;
use crate::Limits;
use crate::ingest::tests::{Fake, at, request};

/// Seconds that a test sets.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn monotonic(&self) -> Duration {
        at(self.0.load(Relaxed))
    }

    fn wall(&self) -> Timestamp {
        Timestamp(self.0.load(Relaxed) * 1000)
    }
}

/// A connection to a server with this collector, which refuses reports of `p9`.
async fn connect(collector: &Shared, clock: &Arc<Hand>) -> Client {
    let (near, far) = UnixStream::pair().unwrap();
    let admit = |_: &Call, report: &Report| match report.proxy.as_str() {
        "p9" => Err(Status::new(leno_http::grpc::Code::PermissionDenied, "another proxy")),
        _ => Ok(()),
    };
    let router = Rc::new(serve(Router::new(), collector.clone(), clock.clone(), admit));
    tokio::task::spawn_local(async move {
        let options = Rc::new(ServerOptions::default());
        serve_connection(Stream::from(far), Default::default(), &options, router, std::future::pending()).await
    });
    let (connection, driver) = Connection::h2(Stream::from(near), &Rc::new(ClientOptions::default())).await.unwrap();
    tokio::task::spawn_local(driver);
    Client::new(connection, "server")
}

fn rate(collector: &Shared, clock: &Hand) -> Option<f64> {
    let edges = collector.lock().unwrap().edges(clock.monotonic(), at(60));
    edges.first().map(|edge| edge.traffic.rate)
}

#[tokio::test]
async fn a_report_reaches_the_collector() {
    let test = async {
        let (collector, clock) =
            (Shared::new(Mutex::new(Collector::new(Limits::default()))), Arc::new(Hand::default()));
        let client = connect(&collector, &clock).await;
        let mut proxy = Fake::new("p1", 1);
        (0..10).for_each(|_| request(&proxy.cart(), 200, 1));
        let due = report(&client, &mut proxy.reporter, &proxy.registry, &*clock).await.unwrap();
        assert_eq!((due, rate(&collector, &clock)), (EVERY, Some(10.0)));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_server_that_lost_its_memory_asks_for_everything() {
    let test = async {
        let (collector, clock) =
            (Shared::new(Mutex::new(Collector::new(Limits::default()))), Arc::new(Hand::default()));
        let client = connect(&collector, &clock).await;
        let mut proxy = Fake::new("p1", 1);
        let cart = proxy.cart();
        request(&cart, 200, 1);
        // Taken by a server before this one.
        proxy.report();
        report(&client, &mut proxy.reporter, &proxy.registry, &*clock).await.unwrap();
        report(&client, &mut proxy.reporter, &proxy.registry, &*clock).await.unwrap();
        assert_eq!(rate(&collector, &clock), Some(0.0));
        (0..10).for_each(|_| request(&cart, 200, 1));
        report(&client, &mut proxy.reporter, &proxy.registry, &*clock).await.unwrap();
        assert_eq!(rate(&collector, &clock), Some(10.0));
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_report_in_the_name_of_another_is_refused_and_sent_whole_the_next_time() {
    let test = async {
        let (collector, clock) =
            (Shared::new(Mutex::new(Collector::new(Limits::default()))), Arc::new(Hand::default()));
        let client = connect(&collector, &clock).await;
        let mut proxy = Fake::new("p9", 1);
        request(&proxy.cart(), 200, 1);
        let refused = report_until_lost(&client, &mut proxy.reporter, &proxy.registry, &*clock).await;
        assert!(refused.to_string().contains("another proxy"), "{refused}");
        assert_eq!((proxy.report().full, collector.lock().unwrap().proxies_known()), (true, 0));
    };
    LocalSet::new().run_until(test).await;
}

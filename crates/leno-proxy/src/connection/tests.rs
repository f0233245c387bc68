use leno_net::dial::HostDial;
use leno_runtime::{Drain, SystemClock};
use leno_telemetry::{EdgeKey, Registry};

use super::*;
use crate::lookup::tables;
use crate::worker::{OutboundDefault, Shared};

fn worker() -> Rc<Worker> {
    let metrics = Arc::new(Registry::new(1, Default::default()));
    let shared = Shared {
        lookup: tables().0,
        inbound: Default::default(),
        namespace: "shop".into(),
        source_name: "unknown".into(),
        node: String::new(),
        outbound_default: OutboundDefault::Deny,
        gateway: false,
        limits: Default::default(),
        strikes: Default::default(),
        places: Default::default(),
        strain: Default::default(),
        in_front: None,
        clock: Arc::new(SystemClock),
        access: None,
        unrouted: metrics.edge(&EdgeKey::default()),
        passthrough: metrics.edge(&EdgeKey::default()),
        metrics,
        virtual_names: None,
        drain: Drain::new().watch(),
    };
    Worker::new(Arc::new(shared), Rc::new(HostDial), Rc::new(HostDial))
}

async fn stream() -> Stream {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    Stream::from(tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap())
}

/// The size of what a function of a request returns.
fn returned<F>(_: impl Fn(&'static Http, RequestHead, Body, Reply) -> F) -> usize {
    size_of::<F>()
}

/// What each open connection and each request costs. A window, so that a future that shrank lowers the limit too.
#[tokio::test]
async fn the_futures_of_connections_and_requests_stay_small() {
    let worker = worker();
    let connection = size_of_val(&serve(outbound::receive(worker, stream().await)));
    let request = returned(<Http as leno_http::Handler>::handle);
    let sizes = [("connection", connection, 512), ("request", request, 2688)];
    for (name, size, limit) in sizes {
        assert!((limit / 2..=limit).contains(&size), "{name}: {size} bytes: {sizes:?}");
    }
}

#[tokio::test]
async fn another_address_of_a_name_outside_is_tried_when_one_takes_no_connection() {
    let worker = worker();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let live = listener.local_addr().unwrap();
    let dead = ([127, 0, 0, 2], live.port()).into();
    for addresses in [[dead, live], [live, dead]] {
        let destination = outbound::passthrough(&worker, &"world".into(), live.port(), &addresses);
        for _ in 0..4 {
            let dialled = opaque::dial(&worker, &destination, &destination.tcp, None, false).await;
            assert_eq!(dialled.map(|dialled| dialled.endpoint.spec.address).ok(), Some(live));
        }
    }
}

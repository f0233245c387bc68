use leno_net::dial::HostDial;
use leno_runtime::{Drain, SystemClock};
use leno_telemetry::{EdgeKey, Registry};

use super::*;
use crate::inbound;
use crate::lookup::tables;
use crate::worker::{OutboundDefault, Shared};

fn worker() -> Rc<Worker> {
    let metrics = Arc::new(Registry::new(1, Default::default()));
    let shared = Shared {
        lookup: tables().0,
        namespace: "shop".into(),
        source_name: "unknown".into(),
        outbound_default: OutboundDefault::Deny,
        gateway: false,
        limits: Default::default(),
        strikes: Default::default(),
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

/// What each open connection costs. A window, so that a future that shrank lowers the limit too.
#[tokio::test]
async fn the_futures_of_connections_stay_small() {
    let worker = worker();
    let application = crate::Application {
        service: None,
        port: 80,
        address: leno_net::Address::Tcp(([127, 0, 0, 1], 80).into()),
        protocol: Protocol::Detect,
    };
    let destination = Arc::new(application.destination(&worker.shared.metrics));
    let inbound = size_of_val(&inbound::serve(worker.clone(), destination.clone(), stream().await));
    let outbound = size_of_val(&outbound::serve(worker.clone(), stream().await));
    let to = Where::Fixed(destination);
    let http = size_of_val(&serve_http(&worker, Direction::Inbound, to, stream().await, Bytes::new()));
    let sizes = [("inbound", inbound, 1280), ("outbound", outbound, 1664), ("http", http, 768)];
    for (name, size, limit) in sizes {
        assert!((limit / 2..=limit).contains(&size), "{name}: {size} bytes: {sizes:?}");
    }
}

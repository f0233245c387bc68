//! Byte streams: who speaks first, half-close, TLS by its server name.

use std::time::Duration;

use leno_model::instance::Protocol;
use leno_model::snapshot::{HostPattern, Origin, TlsRule, WeightedCluster};
use leno_test::proxy::Proxy;
use leno_test::server::{self, Server};
use leno_test::{client, proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn connect(proxy: &Proxy, service: &str) -> TcpStream {
    TcpStream::connect(proxy.port_to(service).await).await.unwrap()
}

/// Says what it is called, reads to the end, and says how many bytes came.
async fn named(name: &'static str) -> Server {
    server::raw(move |mut stream| async move {
        let mut received = Vec::new();
        stream.write_all(name.as_bytes()).await.unwrap();
        stream.read_to_end(&mut received).await.unwrap();
        let _ = stream.write_all(format!(" {}", received.len()).as_bytes()).await;
    })
    .await
}

/// Reads to the end and gives back what came.
async fn listening() -> Server {
    server::raw(async |mut stream: TcpStream| {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        stream.write_all(&received).await.unwrap();
    })
    .await
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once() {
    leno_test::run(async {
        let database = named("hello").await;
        let proxy = proxy().outbound_to("database", [&database]).start().await;
        // The second time it is known who speaks first.
        for _ in 0..2 {
            let mut stream = connect(&proxy, "database").await;
            let mut greeting = [0; 5];
            let read = tokio::time::timeout(Duration::from_secs(2), stream.read_exact(&mut greeting));
            read.await.expect("nobody waits for the client").unwrap();
            assert_eq!(&greeting, b"hello");
        }
    });
}

#[test]
fn a_client_that_speaks_first_in_an_unknown_protocol_is_passed_through_and_may_close_its_half() {
    for protocol in [Protocol::Detect, Protocol::Tcp] {
        leno_test::run(async {
            let cache = listening().await;
            let inbound = proxy().inbound_to(&cache, protocol).start().await;
            let proxy = proxy().outbound_at("cache", protocol, inbound.inbound).start().await;
            let mut stream = connect(&proxy, "cache").await;
            stream.write_all(b"\x01\x02\xff binary").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"\x01\x02\xff binary");
        });
    }
}

#[test]
fn a_slow_client_of_a_port_that_speaks_anything_is_still_recognised() {
    leno_test::run(async {
        let cart = server::http().respond("/", 200).start().await;
        let proxy = proxy().outbound_to("cart", [&cart]).start().await;
        let mut stream = connect(&proxy, "cart").await;
        let accepted = || proxy.worker.connections();
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(accepted().idle, 1);
    });
}

/// A ClientHello that names `host`.
fn hello(host: &str) -> Vec<u8> {
    let vector16 = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let name = [&[0][..], &vector16(host.as_bytes())].concat();
    let extension = [&[0, 0][..], &vector16(&vector16(&name))].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &vector16(&[0x13, 1]), &[1, 0], &vector16(&extension)].concat();
    let handshake = [&[1, 0][..], &vector16(&body)].concat();
    [&[0x16, 3, 1][..], &vector16(&handshake)].concat()
}

#[test]
fn tls_goes_where_its_server_name_says_unopened() {
    for protocol in [Protocol::Tls, Protocol::Detect] {
        leno_test::run(async move {
            let (shop, any) = (named("shop").await, named("any").await);
            let proxy = proxy().outbound_to("shop", [&shop]).with_listener(|listener| {
                let cluster = Some("shop.default.mesh".into());
                listener.tls = vec![TlsRule {
                    hostnames: vec![HostPattern::Suffix("shop.example".into())],
                    clusters: vec![WeightedCluster {
                        cluster,
                        weight: 1,
                        filters: Vec::new(),
                        affinity: Default::default(),
                        rate_limits: Default::default(),
                        injections: Default::default(),
                    }],
                    origin: Origin { resource: "tlsroute/default/shop".into(), rule: 0, name: None },
                }];
            });
            let proxy = proxy.outbound_at("edge", protocol, [any.address]).start().await;
            for (host, expected) in [("a.shop.example", "shop"), ("b.example", "any")] {
                let mut stream = connect(&proxy, "edge").await;
                let hello = hello(host);
                // In two pieces: a hello may span packets.
                stream.write_all(&hello[..20]).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
                stream.write_all(&hello[20..]).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                assert_eq!(answer, format!("{expected} {}", hello.len()), "{host}");
            }
        });
    }
}

#[test]
fn a_byte_stream_without_an_endpoint_is_reset() {
    leno_test::run(async {
        let gone = server::http().start().await.stop();
        let proxy = proxy().outbound_at("cache", Protocol::Tcp, [gone]).start().await;
        let mut stream = connect(&proxy, "cache").await;
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        // The proxy goes on.
        assert_eq!(client::h1(&proxy).get("nobody.default.mesh:1", "/").await.status(), 503);
    });
}

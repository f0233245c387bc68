//! PROXY headers: from proxies in front, and to endpoints that take them.

use std::time::Duration;

use leno_model::instance::Protocol;
use leno_model::snapshot::ProxyProtocol;
use leno_test::{client, proxy, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SOON: Duration = Duration::from_secs(5);

/// Sends these to the inbound port of a proxy to which everybody is a proxy in front; what comes back until the end.
async fn sent(bytes: &[u8]) -> String {
    let cart = server::http().respond("/", 200).start().await;
    let proxy = proxy().inbound_to(&cart, Protocol::Detect).in_front("127.0.0.0/8").start().await;
    let mut stream = TcpStream::connect(proxy.inbound.unwrap()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("it ends");
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_proxy_in_front_has_to_begin_with_a_header() {
    leno_test::run(async {
        let request = "GET / HTTP/1.1\r\nHost: cart\r\nConnection: close\r\n\r\n";
        let answer = sent(format!("PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n{request}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(sent(request.as_bytes()).await, "");
    });
}

#[test]
fn an_endpoint_gets_its_header_before_anybody_speaks() {
    for (form, protocol) in [
        (ProxyProtocol::V1, Protocol::Tcp),
        (ProxyProtocol::V1, Protocol::Detect),
        (ProxyProtocol::V2, Protocol::Tcp),
        (ProxyProtocol::V2, Protocol::Detect),
    ] {
        leno_test::run(async move {
            // It greets with what it was told.
            let mail = server::raw(async |mut stream: TcpStream| {
                let mut told = [0; 256];
                let read = stream.read(&mut told).await.unwrap();
                let _ = stream.write_all(&told[..read]).await;
            })
            .await;
            let proxy = proxy().with_cluster(move |cluster| cluster.proxy_protocol = Some(form));
            let proxy = proxy.outbound_at("mail", protocol, [mail.address]).start().await;
            let to = proxy.port_to("mail").await;
            let mut stream = TcpStream::connect(to).await.unwrap();
            let from = stream.local_addr().unwrap();
            let mut greeting = Vec::new();
            let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut greeting))
                .await
                .expect("nobody waits for the client");
            let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", from.port(), to.port());
            let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
            let block = [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01"[..], &ports].concat();
            let expected = if form == ProxyProtocol::V1 { line.as_bytes() } else { &block[..] };
            assert_eq!(greeting, expected, "{form:?} {protocol:?}: {}", greeting.escape_ascii());
        });
    }
}

#[test]
fn no_request_goes_to_an_endpoint_that_takes_a_header() {
    leno_test::run(async {
        let mail = server::http().respond("/", 200).start().await;
        let proxy = proxy().with_cluster(|cluster| cluster.proxy_protocol = Some(ProxyProtocol::V1));
        let proxy = proxy.outbound_at("mail", Protocol::Http, [mail.address]).start().await;
        let answer = client::h1(&proxy).get("mail", "/").await;
        assert_eq!((answer.status(), mail.count()), (503, 0));
    });
}

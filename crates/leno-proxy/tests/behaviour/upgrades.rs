//! Connections that stop being HTTP: upgrades and CONNECT.

use leno_http::{Body, BodyLength, Connection, Method, RequestHead, TargetForm, Tunnel};
use leno_model::instance::Protocol;
use leno_net::Stream;
use leno_runtime::task;
use leno_test::proxy::Proxy;
use leno_test::{proxy, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Reads a head and answers with the one given; then gives back every byte.
async fn switching(answer: &'static str) -> server::Server {
    server::raw(move |mut stream: TcpStream| async move {
        read_head(&mut stream).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.shutdown().await;
    })
    .await
}

/// Reads byte by byte, so that what follows stays.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn assert_echo(stream: &mut TcpStream) {
    let mut back = [0; 5];
    stream.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"hello");
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut back).await.unwrap(), 0);
}

#[test]
fn a_web_socket_passes_outbound_and_inbound_proxies() {
    leno_test::run(async {
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        let chat = switching(answer).await;
        let inbound = proxy().inbound_to(&chat, Protocol::Detect).start().await;
        let proxy = proxy().through_proxies().outbound_at("chat", Protocol::Detect, inbound.inbound).start().await;
        let mut stream = TcpStream::connect(proxy.outbound).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: chat\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: websocket"), "{head}");
        assert_echo(&mut stream).await;
    });
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    leno_test::run(async {
        let chat = server::http().respond("/", 426).start().await;
        let proxy = proxy().outbound_to("chat", [&chat]).start().await;
        let mut stream = TcpStream::connect(proxy.outbound).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: chat\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        stream.write_all(request).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 426"));
    });
}

async fn connect(proxy: &Proxy, authority: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.outbound).await.unwrap();
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    stream
}

#[test]
fn requests_in_a_tunnel_to_a_service_are_balanced_one_by_one() {
    leno_test::run(async {
        let (one, two) = (server::http().start().await, server::http().start().await);
        let proxy = proxy().outbound_to("cart", [&one, &two]).start().await;
        let mut stream = connect(&proxy, "cart:80").await;
        for _ in 0..4 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: cart\r\n\r\n").await.unwrap();
            assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
        }
        assert_eq!((one.count(), two.count()), (2, 2));
    });
}

#[test]
fn a_tunnel_to_a_service_of_bytes_carries_bytes() {
    leno_test::run(async {
        let cache = switching("\0").await;
        let proxy = proxy().outbound_at("cache", Protocol::Tcp, [cache.address]).start().await;
        let mut stream = connect(&proxy, "cache:80").await;
        stream.write_all(b"x\r\n\r\n").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 0);
        assert_echo(&mut stream).await;
    });
}

#[test]
fn a_tunnel_over_http_2_carries_bytes() {
    leno_test::run(async {
        let cache = switching("\0").await;
        let proxy = proxy().outbound_at("cache", Protocol::Tcp, [cache.address]).start().await;
        let stream = Stream::from(TcpStream::connect(proxy.outbound).await.unwrap());
        let (connection, driver) = Connection::h2(stream, &Default::default()).await.unwrap();
        task::spawn("test-client", driver);
        let mut head = RequestHead::new(Method::Connect, "cache:80", "");
        head.form = TargetForm::Authority;
        let (request, answer) = connection.send(&head, BodyLength::Unknown).await.unwrap();
        let response = answer.response().await.unwrap();
        assert_eq!(response.head.status, 200);
        let mut tunnel: Tunnel = response.tunnel.expect("CONNECT opens a tunnel");
        tunnel.write("x\r\n\r\nhello".into()).await.unwrap();
        tunnel.shutdown_write().unwrap();
        let mut back = Vec::new();
        while let Some(bytes) = tunnel.read().await {
            back.extend_from_slice(&bytes.unwrap());
        }
        assert_eq!(back, b"\0hello");
        drop((request, Body::empty()));
    });
}

#[test]
fn a_tunnel_to_nowhere_is_refused() {
    leno_test::run(async {
        let proxy = proxy().outbound_default(leno_proxy::OutboundDefault::Deny).start().await;
        let mut stream = TcpStream::connect(proxy.outbound).await.unwrap();
        stream.write_all(b"CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n").await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 403"));
    });
}

//! A proxy that leaves: what is open goes on, and ends with an answer that says so.

use std::time::Duration;

use leno_model::instance::Protocol;
use leno_test::{proxy, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: cart\r\n\r\n";

/// The head of an answer without a body, in lower case.
async fn answer(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

#[test]
fn a_connection_on_which_nothing_is_asked_is_told_with_its_next_answer_and_closed_then() {
    leno_test::run(async {
        let cart = server::http().respond("/", 204).start().await;
        let proxy = proxy().outbound_to("cart", [&cart]).start().await;
        let mut stream = TcpStream::connect(proxy.outbound).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        assert!(!answer(&mut stream).await.contains("connection: close"));
        let asking = async {
            proxy.drain.watch().leaving().await;
            let idle = tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await;
            assert!(idle.is_err(), "it was closed");
            stream.write_all(REQUEST).await.unwrap();
            assert!(answer(&mut stream).await.contains("connection: close"));
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        };
        let (left, ()) = tokio::join!(proxy.drain.leave(Duration::from_secs(10)), asking);
        assert_eq!(left, 0);
    });
}

#[test]
fn a_tunnel_goes_on_until_the_deadline() {
    leno_test::run(async {
        let echo = server::raw(async |mut stream: TcpStream| {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let echo = echo.await;
        let proxy = proxy().outbound_at("echo", Protocol::Tcp, [echo.address]).start().await;
        let mut stream = TcpStream::connect(proxy.port_to("echo").await).await.unwrap();
        stream.write_all(b"1").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'1');
        let talking = async {
            proxy.drain.watch().leaving().await;
            stream.write_all(b"2").await.unwrap();
            stream.read_u8().await.unwrap()
        };
        assert_eq!(tokio::join!(proxy.drain.leave(Duration::from_millis(200)), talking), (1, b'2'));
    });
}

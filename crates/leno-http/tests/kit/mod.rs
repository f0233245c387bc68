//! What the tests of this crate share: a thread with a local runtime, servers on free ports, raw sockets.
#![allow(dead_code, unreachable_pub)]

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use leno_http::{Handler, Served, ServerOptions, serve_connection};
use leno_net::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Runs a test on a local runtime; nothing takes longer than this.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs");
    });
}

/// Options with deadlines that a test does not reach by chance.
pub fn options() -> Rc<ServerOptions> {
    Rc::new(ServerOptions::default())
}

/// Serves every connection with the handler, for as long as the runtime lives.
pub async fn serve(handler: impl Handler, options: &Rc<ServerOptions>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (handler, options) = (Rc::new(handler), options.clone());
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (handler, options) = (handler.clone(), options.clone());
            tokio::task::spawn_local(async move {
                serve_connection(Stream::from(stream), Bytes::new(), &options, handler, std::future::pending()).await
            });
        }
    });
    address
}

/// Serves one connection and says how it ended.
pub async fn serve_once(
    handler: impl Handler,
    options: &Rc<ServerOptions>,
    drain: impl Future<Output = ()> + 'static,
) -> (SocketAddr, tokio::task::JoinHandle<Served>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let options = options.clone();
    let task = tokio::task::spawn_local(async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop(listener);
        serve_connection(Stream::from(stream), Bytes::new(), &options, Rc::new(handler), drain).await
    });
    (address, task)
}

/// A server that reads one head and answers these bytes, then closes if told so; what it read comes back.
pub async fn scripted(answers: Vec<&'static [u8]>, close: bool) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::task::spawn_local(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        for answer in answers {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                    return seen;
                }
            }
            seen.extend_from_slice(&head);
            stream.write_all(answer).await.unwrap();
        }
        if !close {
            let _ = stream.read_to_end(&mut seen).await;
        }
        seen
    });
    (address, task)
}

/// Sends bytes and reads until the server closes.
pub async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until the bytes end with this.
pub async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        if stream.read_buf(&mut bytes).await.unwrap() == 0 {
            panic!("closed after {:?}", String::from_utf8_lossy(&bytes));
        }
    }
    bytes
}

pub async fn connect(address: SocketAddr) -> Stream {
    Stream::from(TcpStream::connect(address).await.unwrap())
}

/// A client connection of this version; an HTTP/2 one is driven by a task.
pub async fn client(address: SocketAddr, version: leno_http::Version) -> leno_http::Connection {
    let options = Rc::new(leno_http::client::ClientOptions::default());
    let stream = connect(address).await;
    if version != leno_http::Version::Http2 {
        return leno_http::Connection::h1(stream, &options);
    }
    let (connection, driver) = leno_http::Connection::h2(stream, &options).await.unwrap();
    tokio::task::spawn_local(driver);
    connection
}

/// Runs a test once for HTTP/1 and once for HTTP/2.
pub fn both<F: Future<Output = ()>>(test: impl Fn(leno_http::Version) -> F) {
    run(test(leno_http::Version::Http11));
    run(test(leno_http::Version::Http2));
}

/// A frame of HTTP/2.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Kind, stream and payload of the next frame.
pub async fn next_frame(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

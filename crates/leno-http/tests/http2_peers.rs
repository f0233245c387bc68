//! The own HTTP/2 against the crate `h2`, which knows nothing of it: client against server both ways, with large bodies,
//! many streams, narrow windows, trailers, resets and tunnels.

#![allow(clippy::unwrap_used)] // Handlers and helpers of tests are tests.

mod kit;

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use leno_http::*;
use tokio::net::{TcpListener, TcpStream};

/// Sends back what comes, with trailers; opens tunnels that do the same; resets what asks for it.
struct Echo;

impl Handler for Echo {
    async fn handle(&self, head: RequestHead, mut body: Body, reply: Reply) {
        if head.method == Method::Connect {
            let mut tunnel = reply.upgrade(ResponseHead::new(200)).await.unwrap();
            while let Some(Ok(bytes)) = tunnel.read().await {
                tunnel.write(bytes).await.unwrap();
            }
            return tunnel.shutdown_write().unwrap();
        }
        if head.path_only() == "/reset" {
            return;
        }
        let answer = ResponseHead::new(200).with("x-path", head.path.as_bytes());
        let sink = reply.send(answer, body.length()).await.unwrap();
        let _ = pump(&mut body, sink).await;
    }
}

/// A connection of the crate's client to our server.
async fn crate_client(address: SocketAddr, window: u32) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (sender, connection) = builder.initial_window_size(window).handshake::<_, Bytes>(stream).await.unwrap();
    tokio::task::spawn_local(connection);
    sender.ready().await.unwrap()
}

async fn send_all(stream: &mut SendStream<Bytes>, mut data: Bytes, end: bool) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
        let piece = data.split_to(capacity.min(data.len()));
        let last = end && data.is_empty();
        stream.send_data(piece, last).unwrap();
    }
}

async fn read_all(body: &mut RecvStream) -> (usize, u64) {
    let (mut length, mut sum) = (0, 0u64);
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        length += data.len();
        sum = data.iter().fold(sum, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(*b)));
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    (length, sum)
}

fn sample(length: usize, seed: usize) -> (Bytes, u64) {
    let bytes: Vec<u8> = (0..length).map(|n| (n * 31 + seed) as u8).collect();
    let sum = bytes.iter().fold(0u64, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(*b)));
    (bytes.into(), sum)
}

fn post(path: &str) -> http::Request<()> {
    http::Request::post(format!("http://cart.test{path}")).header("x-some", "field").body(()).unwrap()
}

async fn echo_through_crate_client(sender: &h2::client::SendRequest<Bytes>, length: usize, seed: usize) {
    let mut sender = sender.clone().ready().await.unwrap();
    let (response, mut stream) = sender.send_request(post(&format!("/{seed}")), length == 0).unwrap();
    let (data, sum) = sample(length, seed);
    let sent = async {
        if length > 0 {
            send_all(&mut stream, data, false).await;
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-sum", "1".parse().unwrap());
            stream.send_trailers(trailers).unwrap();
        }
    };
    let received = async {
        let response = response.await.unwrap();
        assert_eq!(response.headers()["x-path"], format!("/{seed}"));
        let mut body = response.into_body();
        assert_eq!(read_all(&mut body).await, (length, sum), "stream {seed}");
        let trailers = body.trailers().await.unwrap();
        assert_eq!(trailers.is_some(), length > 0);
    };
    tokio::join!(sent, received);
}

#[test]
fn our_server_serves_a_foreign_client() {
    for window in [65_535, 1_000_000, 17] {
        kit::run(async move {
            let address = kit::serve(Echo, &kit::options()).await;
            let sender = crate_client(address, window).await;
            let tasks: Vec<_> = (0..80)
                .map(|n| {
                    let length = if window == 17 { n * 2 } else { n * n * 30 };
                    let sender = sender.clone();
                    tokio::task::spawn_local(async move { echo_through_crate_client(&sender, length, n).await })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            if window > 17 {
                echo_through_crate_client(&sender, 10_000_000, 1).await;
            }
        });
    }
}

#[test]
fn a_foreign_client_sees_resets_and_goes_on() {
    kit::run(async {
        let address = kit::serve(Echo, &kit::options()).await;
        let mut sender = crate_client(address, 65_535).await;
        for round in 0..10 {
            let (response, _stream) = sender.send_request(post("/reset"), false).unwrap();
            assert_eq!(response.await.unwrap_err().reason(), Some(h2::Reason::INTERNAL_ERROR));
            sender = sender.ready().await.unwrap();
            let (response, mut stream) = sender.send_request(post("/cut"), false).unwrap();
            send_all(&mut stream, Bytes::from(vec![1; 100]), false).await;
            let mut body = response.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap().len(), 100);
            stream.send_reset(h2::Reason::CANCEL);
            assert!(body.data().await.is_none_or(|data| data.is_err()));
            sender = sender.ready().await.unwrap();
            echo_through_crate_client(&sender, 1000, round).await;
        }
    });
}

#[test]
fn a_foreign_client_gets_a_tunnel() {
    kit::run(async {
        let address = kit::serve(Echo, &kit::options()).await;
        let mut sender = crate_client(address, 65_535).await;
        let request = http::Request::connect("cart.test:80").body(()).unwrap();
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        let mut body = response.await.unwrap().into_body();
        let (data, sum) = sample(1_000_000, 3);
        let (_, received) = tokio::join!(send_all(&mut stream, data, true), read_all(&mut body));
        assert_eq!(received, (1_000_000, sum));
    });
}

/// The crate's server: sends back what comes, with trailers; resets what asks for it.
async fn crate_server(window: u32, streams: u32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(window).max_concurrent_streams(streams).enable_connect_protocol();
        let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
        while let Some(accepted) = connection.accept().await {
            let Ok((request, mut respond)) = accepted else { return };
            tokio::task::spawn_local(async move {
                if request.uri().path() == "/reset" {
                    return respond.send_reset(h2::Reason::REFUSED_STREAM);
                }
                let has_body = !request.body().is_end_stream();
                let mut body = request.into_body();
                let mut stream = respond.send_response(http::Response::new(()), !has_body).unwrap();
                while let Some(data) = body.data().await {
                    let Ok(data) = data else { return };
                    let length = data.len();
                    send_all(&mut stream, data, false).await;
                    let _ = body.flow_control().release_capacity(length);
                }
                match body.trailers().await {
                    Ok(Some(trailers)) => stream.send_trailers(trailers).unwrap(),
                    _ if has_body => stream.send_data(Bytes::new(), true).unwrap(),
                    _ => {}
                }
            });
        }
    });
    address
}

async fn echo_through_ours(connection: &Connection, length: usize, seed: usize) {
    let head = RequestHead::new(Method::Post, "cart.test", format!("/{seed}"));
    let kind = if length == 0 { BodyLength::Empty } else { BodyLength::Known(length as u64) };
    let (mut body, response) = connection.send(&head, kind).await.unwrap();
    let (data, _) = sample(length, seed);
    let sent = async {
        for piece in data.chunks(100_000) {
            body.data(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        match length {
            0 => body.end().await.unwrap(),
            _ => body.trailers([("x-sum", "1")].into_iter().collect()).await.unwrap(),
        }
    };
    let received = async {
        let mut body = response.response().await.unwrap().body;
        let (mut all, mut trailers) = (Vec::new(), false);
        while let Some(frame) = body.frame().await {
            match frame.unwrap() {
                Frame::Data(data) => all.extend_from_slice(&data),
                Frame::Trailers(_) => trailers = true,
            }
        }
        assert!(all == data, "stream {seed}");
        assert_eq!(trailers, length > 0);
    };
    tokio::join!(sent, received);
}

#[test]
fn our_client_speaks_to_a_foreign_server() {
    for (window, streams) in [(65_535, 200), (1_000_000, 7), (17, 50)] {
        kit::run(async move {
            let connection = kit::client(crate_server(window, streams).await, Version::Http2).await;
            // Until the server has said how many streams it takes it may refuse some.
            echo_through_ours(&connection, 10, 0).await;
            let tasks: Vec<_> = (0..120)
                .map(|n| {
                    let length = if window == 17 { n * 2 } else { n * n * 20 };
                    let connection = connection.clone();
                    tokio::task::spawn_local(async move { echo_through_ours(&connection, length, n).await })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            if window > 17 {
                echo_through_ours(&connection, 10_000_000, 1).await;
            }
        });
    }
}

#[test]
fn our_client_may_try_again_what_a_foreign_server_refused() {
    kit::run(async {
        let connection = kit::client(crate_server(65_535, 100).await, Version::Http2).await;
        let head = RequestHead::new(Method::Get, "cart.test", "/reset");
        let (_body, response) = connection.send(&head, BodyLength::Empty).await.unwrap();
        let error = response.response().await.unwrap_err();
        assert_eq!((error.processed(), error.retry()), (Processed::No, Retry::Other));
        echo_through_ours(&connection, 1000, 1).await;
        let head = RequestHead::new(Method::Post, "cart.test", "/dropped");
        let (mut body, response) = connection.send(&head, BodyLength::Unknown).await.unwrap();
        body.data(Bytes::from_static(b"half")).await.unwrap();
        body.flush().await.unwrap();
        drop((body, response));
        echo_through_ours(&connection, 1000, 2).await;
    });
}

#[test]
fn our_client_gets_a_tunnel_from_a_foreign_server() {
    kit::run(async {
        let connection = kit::client(crate_server(65_535, 100).await, Version::Http2).await;
        let head = RequestHead::new(Method::Connect, "cart.test:80", "");
        let (_body, response) = connection.send(&head, BodyLength::Unknown).await.unwrap();
        let mut tunnel = response.response().await.unwrap().tunnel.unwrap();
        for n in 0..50 {
            tunnel.write(Bytes::from(vec![n; 1000])).await.unwrap();
            let mut received = 0;
            while received < 1000 {
                let bytes = tunnel.read().await.unwrap().unwrap();
                assert!(bytes.iter().all(|b| *b == n));
                received += bytes.len();
            }
        }
        tunnel.shutdown_write().unwrap();
        assert!(tunnel.read().await.is_none());
    });
}

#[test]
fn a_connection_that_nobody_holds_ends_when_its_streams_are_done() {
    kit::run(async {
        let address = kit::serve(Echo, &Rc::new(ServerOptions::default())).await;
        let stream = kit::connect(address).await;
        let (connection, driver) = Connection::h2(stream, &Rc::default()).await.unwrap();
        let driver = tokio::task::spawn_local(driver);
        let head = RequestHead::new(Method::Post, "x", "/");
        let (mut body, response) = connection.send(&head, BodyLength::Known(5)).await.unwrap();
        drop(connection);
        body.data(Bytes::from_static(b"whole")).await.unwrap();
        body.end().await.unwrap();
        assert_eq!(response.response().await.unwrap().body.collect(10).await.unwrap(), "whole");
        driver.await.unwrap();
    });
}

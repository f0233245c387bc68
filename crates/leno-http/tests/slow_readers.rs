//! Responses that their clients read too slowly, and those that may be read at leisure.

#![allow(clippy::unwrap_used)] // Handlers and helpers of tests are tests.

mod kit;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use leno_http::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

/// More than the kernel holds for anybody.
const LARGE: usize = 24 << 20;
const GRACE: Duration = Duration::from_millis(200);

/// Answers with so much, of a length that is said or as a stream of this type.
struct Large(Option<&'static str>);

impl Handler for Large {
    async fn handle(&self, _: RequestHead, _: Body, reply: Reply) {
        let (head, length) = match self.0 {
            Some(kind) => (ResponseHead::new(200).with("Content-Type", kind), BodyLength::Unknown),
            None => (ResponseHead::new(200), BodyLength::Known(LARGE as u64)),
        };
        let mut sink = reply.send(head, length).await.unwrap();
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        for _ in 0..LARGE >> 20 {
            if sink.data(piece.clone()).await.is_err() {
                return;
            }
        }
        let _ = sink.end().await;
    }
}

fn options(response_rate_min: u32) -> Rc<ServerOptions> {
    let mut options = ServerOptions::default();
    (options.limits.response_rate_min, options.limits.response_grace) = (response_rate_min, GRACE);
    Rc::new(options)
}

/// Asks, with a window so small that the server sees what is read.
async fn ask(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    stream
}

/// Reads so many bytes each few milliseconds; how many came.
async fn read(stream: &mut TcpStream, bytes: usize) -> usize {
    let (mut piece, mut all) = (vec![0; bytes], 0);
    while let Ok(read @ 1..) = stream.read(&mut piece).await {
        all += read;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    all
}

#[test]
fn who_reads_nothing_or_next_to_nothing_is_cut_off() {
    for bytes in [0, 1024] {
        kit::run(async move {
            // A hundred times what is read.
            let options = options(20 * 1024 * 1024);
            let (address, served) = kit::serve_once(Large(None), &options, std::future::pending()).await;
            let mut stream = ask(address).await;
            let began = Instant::now();
            let reading = async move {
                if bytes > 0 {
                    read(&mut stream, bytes).await;
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                served = served => assert_eq!(served.unwrap(), Served::Broken),
                () = reading => {}
            }
            assert_eq!(options.strikes.get(Malformed::ResponseRate), 1);
            assert!(began.elapsed() >= GRACE && began.elapsed() < 20 * GRACE, "{:?}", began.elapsed());
        });
    }
}

#[test]
fn who_reads_fast_enough_gets_everything_however_long_it_takes() {
    kit::run(async {
        let options = options(1024 * 1024);
        let address = kit::serve(Large(None), &options).await;
        let began = Instant::now();
        assert!(read(&mut ask(address).await, 64 * 1024).await > LARGE);
        assert!(began.elapsed() > 2 * GRACE, "{:?}", began.elapsed());
        assert_eq!(options.strikes.get(Malformed::ResponseRate), 0);
    });
}

#[test]
fn events_and_calls_may_be_read_at_leisure() {
    for kind in ["text/event-stream", "application/grpc"] {
        kit::run(async move {
            let options = options(240);
            let address = kit::serve(Large(Some(kind)), &options).await;
            let mut stream = ask(address).await;
            tokio::time::sleep(3 * GRACE).await;
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            assert!(all.ends_with(b"\r\n0\r\n\r\n"));
        });
    }
}

// === HTTP/2 ===

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;

/// Asks for stream 1, whose window is as large as this, on a connection whose own is not the limit.
async fn ask_http2(address: SocketAddr, window: u32) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
    // `GET /`, and `x` as the host.
    let head = kit::frame(HEADERS, 5, 1, &[0x82, 0x86, 0x84, 0x01, 0x01, b'x']);
    let updates = kit::frame(WINDOW_UPDATE, 0, 0, &0x7000_0000u32.to_be_bytes());
    let all = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &kit::frame(4, 0, 0, &setting)[..], &updates, &head].concat();
    stream.write_all(&all).await.unwrap();
    stream
}

/// Reads until stream 1 is reset, giving so many bytes back after each few milliseconds.
async fn reset_of(stream: TcpStream, bytes: u32) -> u32 {
    let (mut reader, mut writer) = stream.into_split();
    let giving = async {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if bytes > 0 {
                let _ = writer.write_all(&kit::frame(WINDOW_UPDATE, 0, 1, &bytes.to_be_bytes())).await;
            }
        }
    };
    let reading = async {
        loop {
            let (kind, _, payload) = kit::next_frame(&mut reader).await.expect("the connection stays");
            if kind == RST_STREAM {
                return u32::from_be_bytes(payload.try_into().unwrap());
            }
        }
    };
    tokio::select! {
        code = reading => code,
        () = giving => unreachable!("it never ends"),
    }
}

#[test]
fn a_stream_whose_window_stays_shut_or_nearly_is_reset_and_its_connection_goes_on() {
    for bytes in [0, 1_000] {
        kit::run(async move {
            // A hundred times what is taken.
            let options = options(20 * 1024 * 1024);
            let address = kit::serve(Large(None), &options).await;
            let stream = ask_http2(address, 1_000).await;
            let began = Instant::now();
            assert_eq!(reset_of(stream, bytes).await, 11, "ENHANCE_YOUR_CALM");
            assert!(began.elapsed() >= GRACE && began.elapsed() < 20 * GRACE, "{:?}", began.elapsed());
            assert_eq!(options.strikes.get(Malformed::ResponseRate), 1);
        });
    }
}

#[test]
fn a_connection_that_reads_nothing_is_ended() {
    kit::run(async {
        let options = options(20 * 1024 * 1024);
        let (address, served) = kit::serve_once(Large(None), &options, std::future::pending()).await;
        let began = Instant::now();
        let _unread = ask_http2(address, 0x7000_0000).await;
        assert_eq!(served.await.unwrap(), Served::Broken);
        assert!(began.elapsed() >= GRACE && began.elapsed() < 20 * GRACE, "{:?}", began.elapsed());
        assert_eq!(options.strikes.get(Malformed::ResponseRate), 1);
    });
}

#[test]
fn events_and_calls_over_http2_may_be_read_at_leisure() {
    for kind in ["text/event-stream", "application/grpc"] {
        kit::run(async move {
            let options = options(20 * 1024 * 1024);
            let address = kit::serve(Large(Some(kind)), &options).await;
            let shut = ask_http2(address, 0).await;
            let unread = ask_http2(address, 0x7000_0000).await;
            let waited = tokio::time::timeout(4 * GRACE, reset_of(shut, 0)).await;
            assert!(waited.is_err(), "{kind} was reset");
            let (mut reader, _writer) = unread.into_split();
            let mut came = 0;
            while came < LARGE {
                let (frame, _, payload) = kit::next_frame(&mut reader).await.expect("the connection stays");
                came += if frame == 0 { payload.len() } else { 0 };
            }
            assert_eq!(options.strikes.get(Malformed::ResponseRate), 0);
        });
    }
}

#[test]
fn an_announced_body_that_does_not_come_is_given_up_over_http2_and_that_of_a_call_is_not() {
    struct Reads;
    impl Handler for Reads {
        async fn handle(&self, _: RequestHead, body: Body, reply: Reply) {
            let error = body.collect(LARGE).await.unwrap_err();
            let status = if error.malformed() == Some(Malformed::BodyRate) { 408 } else { 500 };
            let _ = reply.respond(ResponseHead::new(status), Bytes::new()).await;
        }
    }
    kit::run(async {
        let mut options = ServerOptions::default();
        (options.limits.body_grace, options.limits.stream_idle_timeout) = (GRACE, 5 * GRACE);
        let options = Rc::new(options);
        let connection = kit::client(kit::serve(Reads, &options).await, Version::Http2).await;
        for (kind, status, struck) in [("text/plain", 408, 1), ("application/grpc", 500, 1)] {
            let mut head = RequestHead::new(Method::Post, "x", "/");
            head.fields.append("content-type", kind);
            let (mut body, response) = connection.send(&head, BodyLength::Known(1_000)).await.unwrap();
            body.flush().await.unwrap();
            let began = Instant::now();
            assert_eq!(response.response().await.unwrap().head.status, status, "{kind}");
            assert!(began.elapsed() >= GRACE / 2, "{:?}", began.elapsed());
            assert_eq!(options.strikes.get(Malformed::BodyRate), struck, "{kind}");
        }
    });
}

#[test]
fn inside_the_mesh_nobody_is_hurried() {
    assert_eq!((Limits::mesh().response_rate_min, Limits::default().response_rate_min), (0, 240));
}

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

#[test]
fn inside_the_mesh_nobody_is_hurried() {
    assert_eq!((Limits::mesh().response_rate_min, Limits::default().response_rate_min), (0, 240));
}

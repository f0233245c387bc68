//! HTTP/2 frame by frame: floods and faults end the connection with GOAWAY or the stream with a reset.

#![allow(clippy::unwrap_used)] // Handlers and helpers of tests are tests.

mod kit;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use kit::{frame, next_frame};
use leno_http::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Ok200;

impl Handler for Ok200 {
    async fn handle(&self, _: RequestHead, _: Body, reply: Reply) {
        let _ = reply.respond(ResponseHead::new(200), Bytes::from_static(b"ok")).await;
    }
}

/// `:method GET`, `:scheme http`, `:path /`, and `:authority x`, as the static table has them; then these bytes.
fn headers(stream: u32, end: bool, more: &[u8]) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x84, 0x01, 0x01, b'x'];
    block.extend_from_slice(more);
    frame(1, 4 | u8::from(end), stream, &block)
}

/// A literal field without indexing.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0, name.len() as u8];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(value.len() as u8);
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

async fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    stream
}

/// Sends these bytes again and again, reading the answers, until the server ends the connection; the code of its
/// GOAWAY.
async fn flood(address: SocketAddr, mut bytes: impl FnMut(u32) -> Vec<u8>, times: u32) -> Option<u32> {
    let (mut reader, mut writer) = open(address).await.into_split();
    let sender = async {
        for n in 0..times {
            if writer.write_all(&bytes(n)).await.is_err() {
                break;
            }
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    let receiver = async {
        let mut all = Vec::new();
        let _ = reader.read_to_end(&mut all).await;
        let (mut at, mut code) = (0, None);
        while all.len() >= at + 9 {
            let length = u32::from_be_bytes([0, all[at], all[at + 1], all[at + 2]]) as usize;
            if all[at + 3] == 7 && all.len() >= at + 17 {
                code = Some(u32::from_be_bytes(all[at + 13..at + 17].try_into().unwrap()));
            }
            at += 9 + length;
        }
        code
    };
    tokio::select! {
        code = receiver => code,
        () = sender => None,
    }
}

const ENHANCE_YOUR_CALM: Option<u32> = Some(11);

#[test]
fn floods_of_frames_that_carry_nothing_end_with_goaway() {
    let kinds: [(&str, Vec<u8>); 5] = [
        ("PING", frame(6, 0, 0, &[0; 8])),
        ("SETTINGS", frame(4, 0, 0, &[])),
        ("PRIORITY", frame(2, 0, 1, &[0, 0, 0, 0, 1])),
        ("WINDOW_UPDATE", frame(8, 0, 0, &[0, 0, 0, 1])),
        ("unknown", frame(0x42, 0, 0, &[])),
    ];
    for (name, bytes) in kinds {
        kit::run(async {
            let options = kit::options();
            let address = kit::serve(Ok200, &options).await;
            assert_eq!(flood(address, |_| bytes.clone(), 20_000).await, ENHANCE_YOUR_CALM, "{name}");
            assert_eq!(options.strikes.get(Malformed::ControlFlood), 1, "{name}");
        });
    }
}

#[test]
fn rapid_resets_end_with_goaway() {
    kit::run(async {
        let address = kit::serve(Ok200, &kit::options()).await;
        let pair = |n: u32| {
            let stream = n * 2 + 1;
            let mut bytes = headers(stream, true, &[]);
            bytes.extend(frame(3, 0, stream, &8u32.to_be_bytes()));
            bytes
        };
        assert_eq!(flood(address, pair, 20_000).await, ENHANCE_YOUR_CALM);
    });
}

#[test]
fn empty_data_and_endless_continuations_end_with_goaway() {
    kit::run(async {
        let address = kit::serve(Ok200, &kit::options()).await;
        let data = |n| if n == 0 { headers(1, false, &[]) } else { frame(0, 0, 1, &[]) };
        assert!(flood(address, data, 20_000).await.is_some());
        let continuation = |n| if n == 0 { frame(1, 0, 1, &[0x82]) } else { frame(9, 0, 1, &field("x", "y")) };
        assert!(flood(address, continuation, 20_000).await.is_some());
    });
}

#[test]
fn malformed_requests_are_reset_and_reach_no_handler() {
    struct Never;
    impl Handler for Never {
        async fn handle(&self, head: RequestHead, _: Body, _: Reply) {
            panic!("{head:?} reached the handler");
        }
    }
    let cases: &[(&str, Vec<u8>)] = &[
        ("connection", field("connection", "close")),
        ("upper case", field("X-Up", "1")),
        ("te", field("te", "gzip")),
        ("line break", field("x", "a\r\nb")),
        ("NUL", field("x", "a\0b")),
        ("empty name", field("", "a")),
        ("two methods", vec![0x82]),
        ("other host", field("host", "y")),
        ("two lengths", [field("content-length", "1"), field("content-length", "2")].concat()),
        ("bad length", field("content-length", "+1")),
        ("transfer-encoding", field("transfer-encoding", "chunked")),
        ("bad host", field("host", "a@b")),
    ];
    for (name, fields) in cases {
        kit::run(async {
            let address = kit::serve(Never, &kit::options()).await;
            let mut stream = open(address).await;
            stream.write_all(&headers(1, false, fields)).await.unwrap();
            loop {
                match next_frame(&mut stream).await {
                    Some((3, 1, code)) => break assert_eq!(code, 1u32.to_be_bytes(), "{name}"),
                    Some((7, 0, _)) | None => break,
                    Some(_) => {}
                }
            }
        });
    }
}

#[test]
fn a_body_of_another_length_than_announced_is_an_error() {
    struct Reads;
    impl Handler for Reads {
        async fn handle(&self, _: RequestHead, body: Body, _: Reply) {
            assert!(body.collect(100).await.is_err());
        }
    }
    kit::run(async {
        let address = kit::serve(Reads, &kit::options()).await;
        let mut stream = open(address).await;
        stream.write_all(&headers(1, false, &field("content-length", "5"))).await.unwrap();
        stream.write_all(&frame(0, 1, 1, b"abc")).await.unwrap();
        while let Some((kind, id, _)) = next_frame(&mut stream).await {
            if kind == 3 {
                return assert_eq!(id, 1);
            }
        }
    });
}

#[test]
fn many_streams_share_one_connection() {
    kit::run(async {
        let address = kit::serve(Ok200, &kit::options()).await;
        let connection = kit::client(address, Version::Http2).await;
        let mut all = Vec::new();
        for _ in 0..300 {
            let connection = connection.clone();
            all.push(tokio::task::spawn_local(async move {
                let (_, response) =
                    connection.send(&RequestHead::new(Method::Get, "x", "/"), BodyLength::Empty).await.unwrap();
                response.response().await.unwrap().body.collect(10).await.unwrap()
            }));
        }
        for task in all {
            assert_eq!(task.await.unwrap(), "ok");
        }
    });
}

#[test]
fn an_idle_connection_is_told_to_go() {
    kit::run(async {
        let mut options = ServerOptions::default();
        options.limits.idle_timeout = Duration::from_millis(20);
        let address = kit::serve(Ok200, &std::rc::Rc::new(options)).await;
        let mut stream = open(address).await;
        while let Some((kind, _, _)) = next_frame(&mut stream).await {
            if kind == 7 {
                return;
            }
        }
        panic!("closed without GOAWAY");
    });
}

#[test]
fn an_idle_client_that_answers_no_ping_is_gone_too() {
    kit::run(async {
        let mut options = ServerOptions::default();
        // Longer than the driver's own rest, whose end would look at the deadlines by chance.
        options.limits.idle_timeout = Duration::from_millis(1_500);
        options.limits.linger_timeout = Duration::from_millis(100);
        let (address, served) = kit::serve_once(Ok200, &std::rc::Rc::new(options), std::future::pending()).await;
        let _silent = open(address).await;
        let ended = tokio::time::timeout(Duration::from_secs(10), served).await;
        assert_eq!(ended.expect("the connection stays").unwrap(), Served::Drained);
    });
}

#[test]
fn a_client_that_answers_no_ping_is_gone() {
    kit::run(async {
        let options = ServerOptions { keepalive: Some(Duration::from_millis(20)), ..ServerOptions::default() };
        let (address, served) = kit::serve_once(Ok200, &std::rc::Rc::new(options), std::future::pending()).await;
        let _silent = open(address).await;
        assert_eq!(served.await.unwrap(), Served::Broken);
    });
}

#[test]
fn a_server_that_answers_no_ping_is_gone() {
    kit::run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let silent = tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
            std::future::pending::<()>().await;
        });
        let options = client::ClientOptions { keepalive: Some(Duration::from_millis(20)), ..Default::default() };
        let (connection, driver) =
            Connection::h2(kit::connect(address).await, &std::rc::Rc::new(options)).await.unwrap();
        tokio::task::spawn_local(driver);
        let (_, response) = connection.send(&RequestHead::new(Method::Get, "x", "/"), BodyLength::Empty).await.unwrap();
        assert_eq!(response.response().await.unwrap_err().side(), Side::Upstream);
        assert!(!connection.is_open());
        silent.abort();
    });
}

#[test]
fn waiting_in_one_direction_is_not_idling_while_the_other_moves() {
    struct Events;
    impl Handler for Events {
        async fn handle(&self, _: RequestHead, mut body: Body, reply: Reply) {
            let mut sink = reply.send(ResponseHead::new(200), BodyLength::Unknown).await.unwrap();
            let events = async {
                for _ in 0..10 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    sink.data(Bytes::from_static(b"event")).await.unwrap();
                    sink.flush().await.unwrap();
                }
            };
            let (frame, ()) = tokio::join!(body.frame(), events);
            assert!(frame.unwrap().unwrap_err().is_timeout());
            sink.end().await.unwrap();
        }
    }
    kit::both(async |version| {
        let mut options = ServerOptions::default();
        options.limits.stream_idle_timeout = Duration::from_millis(60);
        let connection = kit::client(kit::serve(Events, &std::rc::Rc::new(options)).await, version).await;
        let head = RequestHead::new(Method::Post, "x", "/");
        let (mut body, response) = connection.send(&head, BodyLength::Unknown).await.unwrap();
        body.flush().await.unwrap();
        let answer = response.response().await.unwrap().body.collect(1000).await.unwrap();
        assert_eq!(answer.len(), 50);
    });
}

#[test]
fn faults_that_cost_a_reset_each_end_with_goaway() {
    type Fault = fn(u32) -> Vec<u8>;
    let faults: [(&str, Fault); 3] = [
        ("window update of nothing", |stream| frame(8, 0, stream, &[0; 4])),
        ("window overflow", |stream| frame(8, 0, stream, &[0x7f, 0xff, 0xff, 0xff])),
        ("DATA after the end", |stream| frame(0, 1, stream, b"x")),
    ];
    for (name, fault) in faults {
        kit::run(async move {
            let address = kit::serve(Ok200, &kit::options()).await;
            let pair = |n: u32| [headers(n * 2 + 1, false, &[]), fault(n * 2 + 1), fault(n * 2 + 1)].concat();
            assert_eq!(flood(address, pair, 20_000).await, ENHANCE_YOUR_CALM, "{name}");
        });
    }
}

#[test]
fn a_goaway_says_why() {
    kit::run(async {
        let address = kit::serve(Ok200, &kit::options()).await;
        let mut stream = open(address).await;
        stream.write_all(&frame(6, 0, 1, &[0; 8])).await.unwrap();
        while let Some((kind, _, payload)) = next_frame(&mut stream).await {
            if kind == 7 {
                assert_eq!(payload[4..8], 1u32.to_be_bytes());
                return assert_eq!(&payload[8..], b"h2-protocol");
            }
        }
        panic!("closed without GOAWAY");
    });
}

/// A field of 3,000 bytes in the table, and thirty times its number.
#[test]
fn a_bomb_of_references_is_answered_431_and_the_connection_goes_on() {
    kit::run(async {
        let options = kit::options();
        let mut stream = open(kit::serve(Ok200, &options).await).await;
        let mut bomb = vec![0x40, 1, b'x', 0x7f, 0xb9, 0x16];
        bomb.extend(vec![b'v'; 3000]);
        bomb.extend([0xbe; 30]);
        stream.write_all(&headers(1, true, &bomb)).await.unwrap();
        stream.write_all(&headers(3, true, &[])).await.unwrap();
        let mut answers = Vec::new();
        while answers.len() < 2 {
            let (kind, id, payload) = next_frame(&mut stream).await.unwrap();
            assert!(kind != 7, "the connection ended");
            if kind == 1 {
                answers.push((id, payload));
            }
        }
        assert_eq!((answers[0].0, answers[1].0), (1, 3));
        assert!(answers[0].1.ends_with(b"431"));
        assert_eq!(options.strikes.get(Malformed::HeadTooLarge), 1);
    });
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    kit::run(async {
        let mut options = ServerOptions::default();
        options.limits.head_timeout = Duration::from_millis(50);
        let (address, served) = kit::serve_once(Ok200, &std::rc::Rc::new(options), std::future::pending()).await;
        let mut stream = open(address).await;
        stream.write_all(&frame(1, 0, 1, &[0x82])).await.unwrap();
        while next_frame(&mut stream).await.is_some() {}
        drop(stream);
        assert_eq!(served.await.unwrap(), Served::Refused(Malformed::HeadTimeout));
    });
}

#[test]
fn draining_says_so_twice_and_serves_what_is_on_its_way() {
    kit::run(async {
        let (drain, drained) = tokio::sync::oneshot::channel::<()>();
        let drained = async {
            let _ = drained.await;
        };
        let (address, served) = kit::serve_once(Ok200, &kit::options(), drained).await;
        let mut stream = open(address).await;
        drain.send(()).unwrap();
        let mut seen = Vec::new();
        while let Some((kind, id, payload)) = next_frame(&mut stream).await {
            match kind {
                6 => {
                    // The request was sent before the GOAWAY was seen.
                    stream.write_all(&headers(1, true, &[])).await.unwrap();
                    stream.write_all(&frame(6, 1, 0, &payload)).await.unwrap();
                }
                7 => seen.push(u32::from_be_bytes(payload[..4].try_into().unwrap())),
                1 => assert_eq!(id, 1),
                _ => {}
            }
        }
        assert_eq!(seen, [0x7fff_ffff, 1]);
        assert_eq!(served.await.unwrap(), Served::Drained);
    });
}

//! HTTP/1 as clients and servers see it on the wire.

#![allow(clippy::unwrap_used)] // Handlers and helpers of tests are tests.

mod kit;

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use leno_http::client::ClientOptions;
use leno_http::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Answers with method, path and body of the request.
struct Echo;

impl Handler for Echo {
    async fn handle(&self, head: RequestHead, body: Body, reply: Reply) {
        if head.path_only() == "/unread" {
            let _ = reply.respond(ResponseHead::new(200), Bytes::from_static(b"unread")).await;
            return;
        }
        let Ok(body) = body.collect(1 << 20).await else { return };
        let mut text = format!("{} {} ", head.method, head.path).into_bytes();
        text.extend_from_slice(&body);
        let _ = reply.respond(ResponseHead::new(200).with("X-Case", "Kept"), text.into()).await;
    }
}

/// Streams the body back as it comes.
struct Stream1;

impl Handler for Stream1 {
    async fn handle(&self, _: RequestHead, mut body: Body, reply: Reply) {
        let sink = reply.send(ResponseHead::new(200), body.length()).await.unwrap();
        let _ = pump(&mut body, sink).await;
    }
}

#[test]
fn a_request_is_answered_and_the_connection_kept() {
    kit::run(async {
        let address = kit::serve(Echo, &kit::options()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        for _ in 0..3 {
            stream.write_all(b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
            let answer = kit::read_until(&mut stream, b"hi").await;
            assert_eq!(
                String::from_utf8_lossy(&answer),
                "HTTP/1.1 200 OK\r\nX-Case: Kept\r\ncontent-length: 12\r\n\r\nPOST /a?b hi"
            );
        }
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    kit::run(async {
        let address = kit::serve(Echo, &kit::options()).await;
        let answer = kit::talk(
            address,
            b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
              3\r\nabc\r\n0\r\n\r\nGET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        let at = |text| answer.find(text).unwrap_or_else(|| panic!("{text} in {answer}"));
        assert!(at("GET /1 ") < at("POST /2 abc") && at("POST /2 abc") < at("GET /3 "));
        assert!(answer.contains("connection: close"));
    });
}

#[test]
fn a_request_that_comes_byte_by_byte_is_the_same_request() {
    kit::run(async {
        let address = kit::serve(Echo, &kit::options()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in
            b"POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: 1\r\n\r\n"
        {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        kit::read_until(&mut stream, b"POST /slow abc").await;
    });
}

#[test]
fn http_1_0_gets_its_framing() {
    kit::run(async {
        let address = kit::serve(Stream1, &kit::options()).await;
        let answer = kit::talk(address, b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc").await;
        assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc");
        let address = kit::serve(Echo, &kit::options()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await.unwrap();
        let answer = kit::read_until(&mut stream, b"GET / ").await;
        assert!(String::from_utf8_lossy(&answer).contains("connection: keep-alive"));
    });
}

#[test]
fn continue_is_sent_when_the_body_is_read_and_only_then() {
    kit::run(async {
        let address = kit::serve(Echo, &kit::options()).await;
        let head = "POST {} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(head.replace("{}", "/read").as_bytes()).await.unwrap();
        kit::read_until(&mut stream, b"HTTP/1.1 100 Continue\r\n\r\n").await;
        stream.write_all(b"hi").await.unwrap();
        kit::read_until(&mut stream, b"POST /read hi").await;
        let answer = kit::talk(address, head.replace("{}", "/unread").as_bytes()).await;
        assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nunread");
    });
}

#[test]
fn a_small_body_that_was_left_is_drained_and_a_large_one_closes() {
    kit::run(async {
        let address = kit::serve(Echo, &kit::options()).await;
        let answer = kit::talk(
            address,
            b"POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert!(answer.ends_with("GET /next "), "{answer}");
        let large = format!("POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 1 << 20);
        let answer = kit::talk(address, large.as_bytes()).await;
        assert!(answer.contains("connection: close"), "{answer}");
    });
}

#[test]
fn head_has_the_length_and_no_body() {
    kit::run(async {
        let address = kit::serve(Echo, &kit::options()).await;
        let answer = kit::talk(address, b"HEAD /h HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(answer.contains("content-length: 8\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    });
}

#[test]
fn a_handler_that_does_not_answer_closes_the_connection() {
    struct Silent;
    impl Handler for Silent {
        async fn handle(&self, _: RequestHead, _: Body, _: Reply) {}
    }
    kit::run(async {
        let (address, served) = kit::serve_once(Silent, &kit::options(), std::future::pending()).await;
        assert_eq!(kit::talk(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await, "");
        assert_eq!(served.await.unwrap(), server::Served::Broken);
    });
}

#[test]
fn the_handler_stops_when_its_client_goes_away() {
    struct Forever(Rc<Cell<bool>>);
    struct Flag(Rc<Cell<bool>>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    impl Handler for Forever {
        async fn handle(&self, _: RequestHead, _: Body, _reply: Reply) {
            let _flag = Flag(self.0.clone());
            std::future::pending::<()>().await;
        }
    }
    kit::run(async {
        let stopped = Rc::new(Cell::new(false));
        let (address, served) =
            kit::serve_once(Forever(stopped.clone()), &kit::options(), std::future::pending()).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        drop(stream);
        assert_eq!(served.await.unwrap(), server::Served::Broken);
        assert!(stopped.get());
    });
}

#[test]
fn a_drained_connection_closes_when_idle_and_says_close_when_not() {
    kit::run(async {
        let (drain, drained) = tokio::sync::oneshot::channel::<()>();
        let (address, served) = kit::serve_once(Echo, &kit::options(), async { drop(drained.await) }).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n").await.unwrap();
        tokio::task::yield_now().await;
        drain.send(()).unwrap();
        tokio::task::yield_now().await;
        stream.write_all(b"hi").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(served.await.unwrap(), server::Served::Drained);
        let (address, served) = kit::serve_once(Echo, &kit::options(), std::future::ready(())).await;
        assert_eq!(kit::talk(address, b"").await, "");
        assert_eq!(served.await.unwrap(), server::Served::Drained);
    });
}

fn client(stream: leno_net::Stream) -> Connection {
    Connection::h1(stream, &Rc::new(ClientOptions::default()))
}

#[test]
fn a_client_sends_and_receives_over_one_connection() {
    kit::run(async {
        let address = kit::serve(Echo, &kit::options()).await;
        let connection = client(kit::connect(address).await);
        for n in 0..3 {
            let head = RequestHead::new(Method::Post, "cart", format!("/{n}"));
            let (mut body, response) = connection.send(&head, BodyLength::Known(3)).await.unwrap();
            body.data(Bytes::from_static(b"abc")).await.unwrap();
            body.end().await.unwrap();
            let response = response.response().await.unwrap();
            assert_eq!(response.head.status, 200);
            assert_eq!(response.head.fields.get("x-case"), Some(&b"Kept"[..]));
            assert_eq!(response.body.collect(100).await.unwrap(), format!("POST /{n} abc"));
            assert!(connection.is_open());
        }
    });
}

#[test]
fn large_bodies_stream_both_ways() {
    kit::run(async {
        let address = kit::serve(Stream1, &kit::options()).await;
        for length in [BodyLength::Known(10_000_000), BodyLength::Unknown] {
            let connection = client(kit::connect(address).await);
            let head = RequestHead::new(Method::Post, "cart", "/");
            let (mut body, response) = connection.send(&head, length).await.unwrap();
            let sender = async {
                for _ in 0..100 {
                    body.data(Bytes::from(vec![7; 100_000])).await.unwrap();
                }
                body.end().await.unwrap();
            };
            let receiver = async {
                let mut body = response.response().await.unwrap().body;
                let mut total = 0;
                while let Some(frame) = body.frame().await {
                    let Frame::Data(data) = frame.unwrap() else { panic!("trailers") };
                    assert!(data.iter().all(|b| *b == 7));
                    total += data.len();
                }
                total
            };
            assert_eq!(tokio::join!(sender, receiver).1, 10_000_000);
        }
    });
}

#[test]
fn trailers_go_through_without_protected_names() {
    kit::run(async {
        let address = kit::serve(Stream1, &kit::options()).await;
        let answer = kit::talk(
            address,
            b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\
              Content-Length: 50\r\nX-Sum: 1\r\nHost: y\r\nAuthorization: z\r\n\r\n",
        )
        .await;
        assert!(answer.ends_with("1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"), "{answer}");
    });
}

#[test]
fn responses_that_break_the_protocol_are_errors() {
    let cases: [&'static [u8]; 16] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        b"HTTP/1.1 200 OK\nContent-Length: 1\n\na",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"",
    ];
    kit::run(async {
        for case in cases {
            let (address, _server) = kit::scripted(vec![case], true).await;
            let connection = client(kit::connect(address).await);
            let (_, response) =
                connection.send(&RequestHead::new(Method::Get, "x", "/"), BodyLength::Empty).await.unwrap();
            let error = response.response().await.map(|r| r.head).unwrap_err();
            assert_eq!(error.side(), Side::Upstream, "{error} for {}", String::from_utf8_lossy(case));
            assert!(!connection.is_open());
        }
    });
}

#[test]
fn informational_responses_are_passed_on_and_counted() {
    kit::run(async {
        let (address, _server) = kit::scripted(
            vec![
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\nrest",
            ],
            true,
        )
        .await;
        let connection = client(kit::connect(address).await);
        let (_, response) = connection.send(&RequestHead::new(Method::Get, "x", "/"), BodyLength::Empty).await.unwrap();
        let response = response.response().await.unwrap();
        assert_eq!(response.informationals.iter().map(|h| h.status).collect::<Vec<_>>(), [103]);
        assert_eq!(response.body.collect(10).await.unwrap(), "rest");
        assert!(!connection.is_open(), "a body that the connection ends leaves none to use");
    });
}

#[test]
fn bytes_that_nobody_asked_for_end_a_connection() {
    kit::run(async {
        let two: &'static [u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
        let (address, _server) = kit::scripted(vec![two], false).await;
        let connection = client(kit::connect(address).await);
        let (_, response) = connection.send(&RequestHead::new(Method::Get, "x", "/"), BodyLength::Empty).await.unwrap();
        response.response().await.unwrap();
        assert!(!connection.is_open());
    });
}

#[test]
fn a_response_before_the_request_is_sent_leaves_no_connection_to_use() {
    kit::run(async {
        let (address, _server) =
            kit::scripted(vec![b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"], false).await;
        let connection = client(kit::connect(address).await);
        let head = RequestHead::new(Method::Post, "x", "/");
        let (mut body, response) = connection.send(&head, BodyLength::Known(10)).await.unwrap();
        body.flush().await.unwrap();
        assert_eq!(response.response().await.unwrap().head.status, 413);
        assert!(!connection.is_open());
    });
}

#[test]
fn an_upgrade_becomes_a_tunnel_on_both_sides() {
    struct Upgrade;
    impl Handler for Upgrade {
        async fn handle(&self, head: RequestHead, _: Body, reply: Reply) {
            let answer = if head.method == Method::Connect {
                ResponseHead::new(200)
            } else {
                ResponseHead::new(101).with("Connection", "Upgrade").with("Upgrade", "echo")
            };
            let mut tunnel = reply.upgrade(answer).await.unwrap();
            while let Some(Ok(bytes)) = tunnel.read().await {
                tunnel.write(bytes).await.unwrap();
            }
        }
    }
    kit::run(async {
        let address = kit::serve(Upgrade, &kit::options()).await;
        let mut upgrade = RequestHead::new(Method::Get, "x", "/");
        upgrade.fields.append("Connection", "Upgrade");
        upgrade.fields.append("Upgrade", "echo");
        let mut connect = RequestHead::new(Method::Connect, "x:1", "");
        connect.form = TargetForm::Authority;
        for head in [upgrade, connect] {
            let connection = client(kit::connect(address).await);
            let (_, response) = connection.send(&head, BodyLength::Empty).await.unwrap();
            let mut tunnel = response.response().await.unwrap().tunnel.expect("a tunnel");
            tunnel.write(Bytes::from_static(b"ping")).await.unwrap();
            assert_eq!(tunnel.read().await.unwrap().unwrap(), "ping");
            tunnel.shutdown_write().unwrap();
            assert!(tunnel.read().await.is_none());
            assert!(!connection.is_open());
        }
    });
}

#[test]
fn a_request_that_could_be_read_as_something_else_is_not_written() {
    kit::run(async {
        let address = kit::serve(Echo, &kit::options()).await;
        let connection = client(kit::connect(address).await);
        let bad_method = RequestHead {
            method: Method::Other("GET / HTTP/1.1\r\n".into()),
            ..RequestHead::new(Method::Get, "x", "/")
        };
        let heads = [
            RequestHead::new(Method::Get, "x", "/ HTTP/1.1\r\nEvil: 1"),
            RequestHead::new(Method::Get, "x", "no-slash"),
            RequestHead::new(Method::Get, "x\r\nEvil: 1", "/"),
            RequestHead::new(Method::Get, "x,y", "/"),
            bad_method,
        ];
        for head in heads {
            let error = connection.send(&head, BodyLength::Empty).await.err().unwrap();
            assert_eq!(error.side(), Side::Us, "{head:?}");
        }
        assert!(connection.is_open());
    });
}

#[test]
fn an_answer_is_read_although_the_server_takes_no_more_of_the_request() {
    kit::run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1000]).await;
            stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        });
        let connection = client(kit::connect(address).await);
        let head = RequestHead::new(Method::Post, "x", "/");
        let (mut body, response) = connection.send(&head, BodyLength::Unknown).await.unwrap();
        let written = async {
            body.flush().await?;
            loop {
                body.data(Bytes::from(vec![0; 100_000])).await?;
            }
        };
        let written: Result<()> = written.await;
        assert_eq!(written.unwrap_err().side(), Side::Upstream);
        // The server's reset may have overtaken its answer; what must not happen is that we drop it ourselves.
        if let Ok(response) = response.response().await {
            assert_eq!(response.head.status, 413);
        }
    });
}

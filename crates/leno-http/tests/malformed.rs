//! Requests that are refused: each with its status, a closed connection, and no byte of it seen by a handler.

#![allow(clippy::unwrap_used)] // Handlers and helpers of tests are tests.

mod kit;

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use leno_http::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Counts its calls.
struct Count(Rc<Cell<usize>>);

impl Handler for Count {
    async fn handle(&self, _: RequestHead, body: Body, reply: Reply) {
        self.0.set(self.0.get() + 1);
        if body.collect(1 << 20).await.is_ok() {
            let _ = reply.respond(ResponseHead::new(200), Bytes::new()).await;
        }
    }
}

/// Sends the bytes, checks the refusal and that nothing reached the handler, and answers the reason given.
async fn refused(bytes: &[u8], status: u16) -> String {
    let calls = Rc::new(Cell::new(0));
    let options = kit::options();
    let address = kit::serve(Count(calls.clone()), &options).await;
    let mut bytes = bytes.to_vec();
    // Whatever is smuggled behind it must not be answered either.
    bytes.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = kit::talk(address, &bytes).await;
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?} was answered {answer:?}");
    assert!(answer.contains("connection: close\r\n"), "{shown:?} was answered {answer:?}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{shown:?} was answered {answer:?}");
    assert_eq!(calls.get(), 0, "{shown:?} reached the handler");
    let counted: u64 = options.strikes.iter().map(|(_, n)| n).sum();
    assert_eq!(counted, 1, "{shown:?} was not counted once");
    answer.rsplit_once('(').map(|(_, reason)| reason.trim_end_matches(")\n").to_owned()).unwrap_or_default()
}

/// The start and the one field that every request here has, then what is wrong with it.
fn post(rest: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: x\r\n{rest}").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    post(&format!("Transfer-Encoding: chunked\r\n\r\n{body}"))
}

#[test]
fn length_and_encoding_are_read_in_one_way_only() {
    let cases: &[(&str, u16, &str)] = &[
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "length-and-encoding"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400, "length-and-encoding"),
        ("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", 400, "length-and-encoding"),
        ("Content-Length: 3\r\nContent-Length: 5\r\n\r\nhello", 400, "content-length"),
        ("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, "content-length"),
        ("Content-Length: 5, 5\r\n\r\nhello", 400, "content-length"),
        ("Content-Length: +5\r\n\r\nhello", 400, "content-length"),
        ("Content-Length: -5\r\n\r\nhello", 400, "content-length"),
        ("Content-Length: 0x5\r\n\r\nhello", 400, "content-length"),
        ("Content-Length: 5_0\r\n\r\nhello", 400, "content-length"),
        ("Content-Length: 5 0\r\n\r\nhello", 400, "content-length"),
        ("Content-Length:\r\n\r\nhello", 400, "content-length"),
        ("Content-Length: 18446744073709551621\r\n\r\nhello", 400, "content-length"),
        ("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501, "unknown-encoding"),
        ("Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400, "transfer-encoding"),
        ("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400, "field-value"),
        ("Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", 400, "transfer-encoding"),
        ("Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", 400, "transfer-encoding"),
        ("Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400, "transfer-encoding"),
        ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "unknown-encoding"),
        ("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, "transfer-encoding"),
        ("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400, "transfer-encoding"),
        ("Transfer-Encoding:\r\n\r\n0\r\n\r\n", 400, "transfer-encoding"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "transfer-encoding"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400, "transfer-encoding"),
        ("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, "field-name"),
        ("Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n\r\nhello", 400, "folded"),
    ];
    kit::run(async {
        for (rest, status, reason) in cases {
            assert_eq!(refused(&post(rest), *status).await, *reason, "{rest:?}");
        }
        let in_10 = b"POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(refused(in_10, 400).await, "encoding-in-1.0");
    });
}

#[test]
fn fields_are_lines_of_name_colon_value() {
    let cases: &[(&str, &str)] = &[
        ("X-A: b\r\n c\r\n\r\n", "folded"),
        ("X-A: b\r\n\tc\r\n\r\n", "folded"),
        (": x\r\n\r\n", "field-name"),
        ("Foo\r\n\r\n", "field-name"),
        ("Foo : x\r\n\r\n", "field-name"),
        ("F\x01oo: x\r\n\r\n", "field-name"),
        ("F(oo): x\r\n\r\n", "field-name"),
        ("X: a\0b\r\n\r\n", "field-value"),
        ("X: a\x01b\r\n\r\n", "field-value"),
        ("X: a\x7fb\r\n\r\n", "field-value"),
        ("X: a\rX-B: b\r\n\r\n", "bare-cr"),
        ("X: a\nX-B: b\r\n\r\n", "bare-lf"),
        ("X: a\r\n\n", "bare-lf"),
        ("Connection: close, X-Forwarded-For\r\nX-Forwarded-For: 1\r\n\r\n", "nominated"),
        ("Connection: Host\r\n\r\n", "nominated"),
        ("Connection: Authorization\r\nAuthorization: a\r\n\r\n", "nominated"),
        ("Connection: traceparent\r\n\r\n", "nominated"),
        ("Connection: x-leno-source\r\n\r\n", "nominated"),
    ];
    kit::run(async {
        for (rest, reason) in cases {
            assert_eq!(refused(&post(rest), 400).await, *reason, "{rest:?}");
        }
        assert_eq!(refused(b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400).await, "folded");
        assert_eq!(refused(b"GET / HTTP/1.1\nHost: x\n\n", 400).await, "bare-lf");
    });
}

#[test]
fn chunks_are_as_long_as_they_say() {
    let long = format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(300));
    let cases: &[(&str, &str)] = &[
        ("5\nhello\r\n0\r\n\r\n", "chunk-size"),
        ("5;a\nhello\r\n0\r\n\r\n", "chunk-extension"),
        ("5\r\nhello\n0\r\n\r\n", "chunk-end"),
        ("5;a\rb\r\nhello\r\n0\r\n\r\n", "chunk-size"),
        ("10000000000000005\r\nhello\r\n0\r\n\r\n", "chunk-size"),
        ("ffffffffffffffff\r\nhello\r\n0\r\n\r\n", "chunk-size"),
        ("+5\r\nhello\r\n0\r\n\r\n", "chunk-size"),
        ("0x5\r\nhello\r\n0\r\n\r\n", "chunk-size"),
        (" 5\r\nhello\r\n0\r\n\r\n", "chunk-size"),
        ("5 \r\nhello\r\n0\r\n\r\n", "chunk-size"),
        ("\r\nhello\r\n0\r\n\r\n", "chunk-size"),
        (";a\r\nhello\r\n0\r\n\r\n", "chunk-size"),
        ("5\r\nhelloX\r\n0\r\n\r\n", "chunk-end"),
        ("5\r\nhello0\r\n\r\n", "chunk-end"),
        ("0\r\nX: a\n\r\n", "trailers"),
        ("0\r\nX: a\r\n b\r\n\r\n", "trailers"),
        ("0\r\nX\r\n\r\n", "trailers"),
        (&long, "chunk-extension"),
    ];
    kit::run(async {
        for (body, reason) in cases {
            assert_eq!(refused(&chunked(body), 400).await, *reason, "{body:?}");
        }
    });
}

#[test]
fn a_fault_further_on_in_a_body_ends_the_exchange() {
    kit::run(async {
        let calls = Rc::new(Cell::new(0));
        let options = kit::options();
        let address = kit::serve(Count(calls.clone()), &options).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&chunked("5\r\nhel")).await.unwrap();
        while calls.get() == 0 {
            tokio::task::yield_now().await;
        }
        stream.write_all(b"loX\r\n0\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("(chunk-end)"), "{answer}");
        assert_eq!(options.strikes.get(Malformed::ChunkEnd), 1);
    });
}

#[test]
fn start_lines_targets_and_hosts_have_one_form() {
    let cases: &[(&str, u16, &str)] = &[
        ("GET\t/\tHTTP/1.1\r\nHost: x\r\n\r\n", 400, "start-line"),
        ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "target"),
        ("GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400, "target"),
        (" GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "start-line"),
        ("GET /\r\nHost: x\r\n\r\n", 400, "start-line"),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "version"),
        ("GET / HTTP/3.1\r\nHost: x\r\n\r\n", 505, "version"),
        ("GET / http/1.1\r\nHost: x\r\n\r\n", 400, "start-line"),
        ("GET / HTTP/1.1x\r\nHost: x\r\n\r\n", 400, "start-line"),
        ("GET / HTTP/01.1\r\nHost: x\r\n\r\n", 400, "start-line"),
        ("G=\":<>(e) / HTTP/1.1\r\nHost: x\r\n\r\n", 400, "start-line"),
        ("GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n", 400, "target"),
        ("GET /a\rb HTTP/1.1\r\nHost: x\r\n\r\n", 400, "target"),
        ("GET /a#frag HTTP/1.1\r\nHost: x\r\n\r\n", 400, "target"),
        ("GET a HTTP/1.1\r\nHost: x\r\n\r\n", 400, "target"),
        ("GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400, "target"),
        ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
        ("GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
        ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
        ("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", 400, "target"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 400, "unexpected-body"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "host-missing"),
        ("GET http://a/ HTTP/1.1\r\n\r\n", 400, "host-missing"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "host-twice"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "host-twice"),
        ("GET / HTTP/1.1\r\nHost: x@a.test\r\n\r\n", 400, "host"),
        ("GET / HTTP/1.1\r\nHost: a.test:99999\r\n\r\n", 400, "host"),
        ("GET / HTTP/1.1\r\nHost: a.test:8x\r\n\r\n", 400, "host"),
        ("GET / HTTP/1.1\r\nHost: a.test,b.test\r\n\r\n", 400, "host"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "host"),
        ("GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n", 400, "host"),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, "host"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, "host"),
        ("GET / HTTP/1.1\r\nHost: x\r\nExpect: 200-maybe\r\n\r\n", 417, "expectation"),
    ];
    kit::run(async {
        for (request, status, reason) in cases {
            assert_eq!(refused(request.as_bytes(), *status).await, *reason, "{request:?}");
        }
        assert_eq!(refused(b"GET /\xc0\xaf HTTP/1.1\r\nHost: x\r\n\r\n", 400).await, "target");
        assert_eq!(refused("GET /\u{fc} HTTP/1.1\r\nHost: x\r\n\r\n".as_bytes(), 400).await, "target");
    });
}

#[test]
fn heads_are_not_larger_than_the_limits() {
    kit::run(async {
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9000));
        assert_eq!(refused(long.as_bytes(), 414).await, "start-line-too-long");
        let many = format!("{}\r\n", "X: a\r\n".repeat(100));
        assert_eq!(refused(&post(&many), 431).await, "too-many-fields");
        let large = format!("X: {}\r\n\r\n", "a".repeat(70_000));
        assert_eq!(refused(&post(&large), 431).await, "head-too-large");
    });
}

#[test]
fn a_head_has_to_arrive_in_time() {
    kit::run(async {
        let mut options = ServerOptions::default();
        options.limits.head_timeout = std::time::Duration::from_millis(20);
        let address = kit::serve(Count(Rc::default()), &Rc::new(options)).await;
        let answer = kit::talk(address, b"GET / HTTP/1.1\r\nHo").await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    });
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    kit::run(async {
        let mut options = ServerOptions::default();
        options.limits.idle_timeout = std::time::Duration::from_millis(20);
        let (address, served) = kit::serve_once(Count(Rc::default()), &Rc::new(options), std::future::pending()).await;
        assert_eq!(kit::talk(address, b"").await, "");
        assert_eq!(served.await.unwrap(), Served::Idle);
    });
}

#[test]
fn a_request_behind_an_unanswered_upgrade_is_a_request() {
    kit::run(async {
        let calls = Rc::new(Cell::new(0));
        let address = kit::serve(Count(calls.clone()), &kit::options()).await;
        let answer = kit::talk(
            address,
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n\
              GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await;
        assert_eq!((calls.get(), answer.matches("HTTP/1.1 200").count()), (2, 2));
    });
}

#[test]
fn an_absolute_target_outranks_the_host_field() {
    struct Host;
    impl Handler for Host {
        async fn handle(&self, head: RequestHead, _: Body, reply: Reply) {
            let _ = reply.respond(ResponseHead::new(200), format!("<{}>", head.host()).into()).await;
        }
    }
    kit::run(async {
        let address = kit::serve(Host, &kit::options()).await;
        let answer =
            kit::talk(address, b"GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").await;
        assert!(answer.ends_with("<b.test>"), "{answer}");
    });
}

#[test]
fn a_body_that_crawls_is_refused_and_one_that_pauses_is_not() {
    kit::run(async {
        let mut options = ServerOptions::default();
        options.limits.body_grace = std::time::Duration::from_millis(50);
        let options = Rc::new(options);
        let calls = Rc::new(Cell::new(0));
        let address = kit::serve(Count(calls.clone()), &options).await;
        let answer = kit::talk(address, &post("Content-Length: 100\r\n\r\nabc")).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("(body-rate)"), "{answer}");
        let mut stream = TcpStream::connect(address).await.unwrap();
        let body = "x".repeat(250);
        stream.write_all(&post(&format!("Content-Length: 251\r\nConnection: close\r\n\r\n{body}"))).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        stream.write_all(b"x").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    });
}

//! Timeouts, retries, and what clients hear when it does not work.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use leno_http::Method;
use leno_model::instance::Protocol;
use leno_model::snapshot::Retry;
use leno_telemetry::Flag;
use leno_test::{client, proxy, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{both, flagged, until};

const LONG: Duration = Duration::from_secs(50);

#[test]
fn a_request_that_takes_too_long_is_answered_504() {
    both(async |client| {
        let cart = server::http().respond("/", 200).after("/", LONG).start().await;
        let short = proxy().with_rule(|rule| rule.request_timeout = Some(Duration::from_millis(50)));
        let proxy = short.outbound_to("cart", [&cart]).start().await;
        let answer = client(&proxy).get("cart", "/").await;
        assert_eq!((answer.status(), answer.field("x-leno-reason")), (504, Some("request_timeout")));
        assert_eq!(flagged(&proxy, Flag::RequestTimeout), 1);
    });
}

#[test]
fn a_try_that_takes_too_long_is_answered_504() {
    both(async |client| {
        let cart = server::http().respond("/", 200).after("/", LONG).start().await;
        let short = proxy().with_rule(|rule| rule.try_timeout = Some(Duration::from_millis(50)));
        let proxy = short.outbound_to("cart", [&cart]).start().await;
        let answer = client(&proxy).get("cart", "/").await;
        assert_eq!((answer.status(), answer.field("x-leno-reason")), (504, Some("try_timeout")));
    });
}

#[test]
fn the_budget_ends_retries() {
    both(async |client| {
        let cart = server::http().respond("/", 503).start().await;
        let asking = proxy().with_rule(|rule| {
            rule.retry =
                Some(Retry { attempts: 9, codes: vec![503], backoff: Duration::from_millis(1), ..Retry::default() });
        });
        let proxy = asking.outbound_to("cart", [&cart]).start().await;
        for _ in 0..40 {
            assert_eq!(client(&proxy).get("cart", "/").await.status(), 503);
        }
        // A fifth, and three for each second that this took at most.
        let retries = cart.count() - 40;
        assert!((3..60).contains(&retries), "{retries}");
    });
}

#[test]
fn an_answer_that_could_be_retried_only_after_the_deadline_is_passed_on() {
    both(async |client| {
        let cart = server::http().respond("/", 503).start().await;
        let asking = proxy().with_rule(|rule| {
            // A wait is cut to ten seconds.
            rule.request_timeout = Some(Duration::from_secs(5));
            rule.retry = Some(Retry { attempts: 9, codes: vec![503], backoff: LONG, ..Retry::default() });
        });
        let proxy = asking.outbound_to("cart", [&cart]).start().await;
        assert_eq!(client(&proxy).get("cart", "/").await.status(), 503);
        assert_eq!(cart.count(), 1);
    });
}

/// Reads the head and some of the body of a request and closes; how often that happened is counted.
async fn cutting_off() -> (server::Server, Rc<Cell<u32>>) {
    let count = Rc::new(Cell::new(0));
    let counted = count.clone();
    let server = server::raw(move |mut stream: TcpStream| {
        let count = counted.clone();
        async move {
            let mut some = [0; 1024];
            if stream.read(&mut some).await.is_ok_and(|read| read > 0) {
                count.set(count.get() + 1);
            }
        }
    });
    (server.await, count)
}

#[test]
fn a_post_that_was_cut_off_is_not_sent_again() {
    both(async |client| {
        let (cart, count) = cutting_off().await;
        let proxy = proxy().retrying().outbound_at("cart", Protocol::Http, [cart.address]).start().await;
        let answer = client(&proxy).post("cart", "/", "x").await;
        assert_eq!((answer.status(), count.get()), (502, 1));
    });
}

#[test]
fn a_post_that_no_application_has_seen_goes_elsewhere_with_its_body() {
    both(async |client| {
        let unseen = server::http().respond("/", 503).with("/", "x-leno-reason", "connect_failure").start().await;
        let cart = server::echo().start().await;
        let proxy = proxy().through_proxies().outbound_to("cart", [&unseen, &cart]).start().await;
        let body = "x".repeat(40_000);
        while unseen.count() == 0 {
            let answer = client(&proxy).post("cart", "/", body.clone()).await;
            assert_eq!((answer.status(), answer.body.len()), (200, body.len()));
        }
    });
}

#[test]
fn what_an_application_broke_off_goes_elsewhere_only_where_that_is_safe() {
    both(async |client| {
        let broke = server::http().respond("/", 502).with("/", "x-leno-reason", "upstream_closed").start().await;
        let cart = server::http().respond("/", 200).start().await;
        let proxy = proxy().through_proxies().outbound_to("cart", [&broke, &cart]).start().await;
        while broke.count() == 0 {
            assert_eq!(client(&proxy).get("cart", "/").await.status(), 200);
        }
        let twice = leno_test::proxy().through_proxies().outbound_to("cart", [&broke, &broke]).start().await;
        let seen = broke.count();
        assert_eq!((client(&twice).post("cart", "/", "x").await.status(), broke.count()), (502, seen + 1));
    });
}

#[test]
fn an_endpoint_that_does_not_accept_is_answered_503_in_time() {
    both(async |client| {
        // A backlog that is full drops what else wants to connect.
        let listener = tokio::net::TcpSocket::new_v4().unwrap();
        listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listener.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut filled = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await {
            filled.push(stream);
        }
        let hasty = proxy().with_cluster(|cluster| cluster.connect_timeout = Duration::from_millis(50));
        let proxy = hasty.outbound_at("cart", Protocol::Detect, [address]).start().await;
        let answer = client(&proxy).get("cart", "/").await;
        assert_eq!((answer.status(), answer.field("x-leno-reason")), (503, Some("connect_timeout")));
    });
}

#[test]
fn grpc_clients_hear_of_it_in_their_own_terms() {
    leno_test::run(async {
        let proxy = proxy().outbound_at("cart", Protocol::Grpc, []).start().await;
        let client = client::h2(&proxy);
        let request = client.request(Method::Post, "cart", "/a.B/C").with("content-type", "application/grpc");
        let answer = request.with("te", "trailers").body("\0\0\0\0\0").send().await;
        assert_eq!((answer.status(), answer.field("grpc-status")), (200, Some("14")));
        assert!(answer.field("grpc-message").is_some_and(|message| message.contains("cart.default.mesh")));
    });
}

#[test]
fn the_timeout_of_a_grpc_client_is_honoured() {
    leno_test::run(async {
        let cart = server::http().respond("/a.B/C", 200).after("/a.B/C", LONG).start().await;
        let proxy = proxy().outbound_at("cart", Protocol::Grpc, [cart.address]).start().await;
        let client = client::h2(&proxy);
        let request = client.request(Method::Post, "cart", "/a.B/C").with("content-type", "application/grpc");
        let answer = request.with("grpc-timeout", "50m").body("\0\0\0\0\0").send().await;
        assert_eq!((answer.status(), answer.field("grpc-status")), (200, Some("4")));
    });
}

#[test]
fn an_answer_of_grpc_without_a_status_gets_one() {
    leno_test::run(async {
        // A message that claims four gigabytes is passed on as it came.
        for (message, in_trailers) in [("", false), ("\0\u{7f}\u{7f}\u{7f}\u{7f}", true)] {
            let cart = server::http().respond("/a.B/C", 200).body("/a.B/C", message);
            let cart = cart.with("/a.B/C", "content-type", "application/grpc").start().await;
            let proxy = proxy().outbound_at("cart", Protocol::Grpc, [cart.address]).start().await;
            let client = client::h2(&proxy);
            let request = client.request(Method::Post, "cart", "/a.B/C").with("content-type", "application/grpc");
            let answer = request.body("\0\u{7f}\u{7f}\u{7f}\u{7f}").send().await;
            let status = if in_trailers { answer.trailers.get_str("grpc-status") } else { answer.field("grpc-status") };
            assert_eq!((answer.status(), status), (200, Some("13")), "{:?}", answer.trailers);
            assert_eq!(answer.body, message);
            assert_eq!(cart.seen()[0].body, "\0\u{7f}\u{7f}\u{7f}\u{7f}");
        }
    });
}

/// A server of HTTP/2 that answers with a head of gRPC and half a message, then says this and closes.
async fn breaking_off(then: &'static [u8]) -> server::Server {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    // `:status: 200`, and the content type as the static table numbers it.
    let head = [&[0x88, 0x0f, 0x10, 16][..], b"application/grpc"].concat();
    let answer = [frame(4, 0, 0, &[]), frame(1, 4, 1, &head), frame(0, 0, 1, b"\0\0\0\0\x09half")].concat();
    let answer = if then.is_empty() { answer } else { [answer, frame(3, 0, 1, then)].concat() };
    server::raw(move |mut stream: TcpStream| {
        let answer = answer.clone();
        async move {
            let mut request = Vec::new();
            // The body of the request, which is its last frame.
            while !request.ends_with(b"asked") {
                if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.unwrap();
            let _ = stream.read_to_end(&mut request).await;
        }
    })
    .await
}

#[test]
fn an_answer_of_grpc_that_breaks_off_ends_with_the_status_that_its_client_would_give_it() {
    leno_test::run(async {
        let cases = [("closed", &[][..], "14"), ("cancelled", &[0, 0, 0, 8], "1"), ("an error", &[0, 0, 0, 2], "13")];
        for (name, then, status) in cases {
            let cart = breaking_off(then).await;
            let proxy = proxy().outbound_at("cart", Protocol::Grpc, [cart.address]).start().await;
            let client = client::h2(&proxy);
            let request = client.request(Method::Post, "cart", "/a.B/C").with("content-type", "application/grpc");
            let answer = request.body("asked").send().await;
            assert_eq!((answer.status(), answer.trailers.get_str("grpc-status")), (200, Some(status)), "{name}");
            assert_eq!(answer.body, "\0\0\0\0\x09half", "{name}");
        }
    });
}

#[test]
fn absurd_timeouts_of_grpc_clients_do_no_harm() {
    leno_test::run(async {
        let cart = server::http().respond("/a.B/C", 200).start().await;
        let proxy = proxy().outbound_at("cart", Protocol::Grpc, [cart.address]).start().await;
        let client = client::h2(&proxy);
        for timeout in ["99999999H", "-1S", "123456789m", "1", "x"] {
            let request = client.request(Method::Post, "cart", "/a.B/C").with("content-type", "application/grpc");
            let answer = request.with("grpc-timeout", timeout).body("\0\0\0\0\0").send().await;
            assert_eq!((answer.status(), answer.field("grpc-status")), (200, None), "{timeout}");
        }
    });
}

#[test]
fn a_client_that_leaves_early_is_recorded() {
    both(async |client| {
        let cart = server::http().respond("/", 200).after("/", LONG).start().await;
        let proxy = proxy().outbound_to("cart", [&cart]).start().await;
        let client = client(&proxy);
        tokio::select! {
            answer = client.request(Method::Get, "cart", "/").try_send() => panic!("it is answered: {answer:?}"),
            () = until(|| cart.count() == 1) => {}
        }
        until(|| flagged(&proxy, Flag::DownstreamClosed) == 1).await;
    });
}

#[test]
fn a_gateway_tells_no_address_of_an_instance() {
    for http2 in [false, true] {
        leno_test::run(async {
            let gone = server::http().start().await.stop();
            let (cutting, _) = cutting_off().await;
            for address in [gone, cutting.address] {
                let proxy = proxy().outbound_at("cart", Protocol::Http, [address]).start().await;
                let gateway = client::to(proxy.gateway_to("cart").await, http2);
                let answer = gateway.post("shop.example", "/", "x").await;
                let body = String::from_utf8_lossy(&answer.body);
                assert!(answer.status() >= 500 && body.starts_with("leno: "), "{body}");
                assert!(!body.contains("127.0.0.1") && !body.contains(&address.port().to_string()), "{body}");
            }
        });
    }
}

#[test]
fn a_malformed_body_is_answered_400() {
    leno_test::run(async {
        let cart = server::http().start().await;
        let proxy = proxy().outbound_to("cart", [&cart]).start().await;
        let mut stream = TcpStream::connect(proxy.outbound).await.unwrap();
        let request = b"POST / HTTP/1.1\r\nHost: cart\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    });
}

#[test]
fn a_circle_through_a_gateway_is_stopped() {
    leno_test::run(async {
        let mut proxy = proxy().outbound_at("cart", Protocol::Detect, []).start().await;
        let gateway = proxy.gateway_to("cart").await;
        proxy.set_endpoints("cart", [gateway]);
        assert_eq!(client::to(gateway, false).get("shop.example", "/").await.status(), 508);
    });
}

#[test]
fn an_idempotent_request_on_a_connection_that_was_closed_meanwhile_is_sent_again() {
    leno_test::run(async {
        // Answers once per connection and closes when the next request comes.
        let cart = server::raw(async |mut stream: TcpStream| {
            let mut some = [0; 1024];
            let _ = stream.read(&mut some).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            let _ = stream.read(&mut some).await;
        });
        let cart = cart.await;
        let proxy = proxy().outbound_at("cart", Protocol::Http, [cart.address]).start().await;
        let client = client::h1(&proxy);
        assert_eq!(client.get("cart", "/").await.status(), 200);
        assert_eq!(client.get("cart", "/").await.status(), 200);
        // Whether a POST was processed nobody knows.
        assert_eq!(client.post("cart", "/", "x").await.status(), 502);
    });
}

#[test]
fn a_stranger_cannot_say_at_a_gateway_how_much_time_is_left() {
    for http2 in [false, true] {
        leno_test::run(async {
            let cart = server::http().respond("/", 200).start().await;
            let proxy = proxy().outbound_to("cart", [&cart]).start().await;
            let late = ("x-envoy-expected-rq-timeout-ms", "0");
            let stranger = client::to(proxy.gateway_to("cart").await, http2);
            let outside = stranger.request(Method::Get, "shop.example", "/").with(late.0, late.1).send().await;
            assert_eq!(outside.status(), 200);
            let caller = client::to(proxy.outbound, http2);
            let inside = caller.request(Method::Get, "cart", "/").with(late.0, late.1).send().await;
            assert_eq!((inside.status(), inside.field("x-leno-reason")), (504, Some("request_timeout")));
        });
    }
}

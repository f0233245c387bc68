//! Names, endpoints, bodies and fields.

use leno_http::Method;
use leno_model::instance::Protocol;
use leno_test::{proxy, server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::both;

#[test]
fn a_service_is_reached_by_each_of_its_names() {
    both(async |client| {
        let cart = server::http().respond("/", 200).body("/", "cart").start().await;
        let proxy = proxy().outbound_to("cart", [&cart]).start().await;
        for host in ["cart", "cart.default", "cart.default.mesh", "CART"] {
            let answer = client(&proxy).get(host, "/").await;
            assert_eq!((answer.status(), &answer.body[..]), (200, &b"cart"[..]), "{host}");
        }
    });
}

#[test]
fn an_unknown_service_is_answered_by_the_proxy_with_its_reason() {
    both(async |client| {
        let cart = server::http().start().await;
        let proxy = proxy().outbound_to("cart", [&cart]).start().await;
        let answer = client(&proxy).get("nobody.shop.mesh", "/").await;
        assert_eq!((answer.status(), answer.field("x-leno-reason")), (503, Some("not_synced")));
        assert!(answer.body.starts_with(b"leno: "));
    });
}

#[test]
fn a_rule_that_retries_hides_a_503() {
    both(async |client| {
        let cart = server::http().respond("/", 503).then("/", 200).start().await;
        let proxy = proxy().retrying().outbound_to("cart", [&cart]).start().await;
        assert_eq!(client(&proxy).get("cart", "/").await.status(), 200);
        assert_eq!(cart.count(), 2);
    });
}

#[test]
fn a_refused_connection_goes_to_another_endpoint() {
    both(async |client| {
        let cart = server::http().start().await;
        // Bound, so that nobody else gets its port, and not listening.
        let gone = tokio::net::TcpSocket::new_v4().unwrap();
        gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let refusing = gone.local_addr().unwrap();
        let proxy = proxy().outbound_at("cart", Protocol::Detect, [refusing, cart.address]).start().await;
        for _ in 0..4 {
            assert_eq!(client(&proxy).post("cart", "/", "x").await.status(), 200);
        }
        assert_eq!(cart.count(), 4);
    });
}

#[test]
fn bodies_stream_both_ways() {
    both(async |client| {
        let echo = server::echo().start().await;
        let proxy = proxy().outbound_to("echo", [&echo]).start().await;
        let sent = vec![b'x'; 4 * 1024 * 1024];
        let answer = client(&proxy).post("echo", "/", sent.clone()).await;
        assert_eq!(answer.body.len(), sent.len());
    });
}

#[test]
fn the_application_never_sees_fields_of_leno() {
    both(async |client| {
        let cart = server::http().start().await;
        let inbound = proxy().inbound_to(&cart, Protocol::Detect).start().await;
        let outbound = proxy().outbound_at("cart", Protocol::Detect, inbound.inbound).start().await;
        let request = client(&outbound);
        let request = request.request(Method::Get, "cart", "/").with("x-leno-source", "forged");
        assert_eq!(request.send().await.status(), 200);
        let seen = &cart.seen()[0];
        assert!(!seen.head.fields.iter().any(|(name, _)| name.to_ascii_lowercase().starts_with(b"x-leno-")));
    });
}

#[test]
fn a_change_of_endpoints_is_in_force_for_the_next_request() {
    both(async |client| {
        let (one, two) = (server::http().start().await, server::http().start().await);
        let mut proxy = proxy().outbound_to("cart", [&one]).start().await;
        client(&proxy).get("cart", "/").await;
        proxy.set_endpoints("cart", [two.address]);
        client(&proxy).get("cart", "/").await;
        assert_eq!((one.count(), two.count()), (1, 1));
    });
}

#[test]
fn who_calls_is_told_to_proxies_and_to_nobody_else() {
    both(async |client| {
        let (direct, inbound) = (server::http().start().await, server::http().start().await);
        let builder = proxy().outbound_to("direct", [&direct]).through_proxies();
        let proxy = builder.outbound_to("inbound", [&inbound]).start().await;
        client(&proxy).get("direct", "/").await;
        client(&proxy).get("inbound", "/").await;
        assert_eq!(direct.seen()[0].head.fields.get_str("x-leno-source"), None);
        assert_eq!(inbound.seen()[0].head.fields.get_str("x-leno-source"), Some("test.default"));
    });
}

#[test]
fn fields_are_spelt_on_http_1_as_they_were_sent() {
    leno_test::run(async {
        let cart = server::http().respond("/", 200).with("/", "X-AnSwer", "a").start().await;
        let inbound = proxy().inbound_to(&cart, Protocol::Http).start().await;
        let proxy = proxy().outbound_at("cart", Protocol::Http, inbound.inbound).start().await;
        let mut stream = TcpStream::connect(proxy.outbound).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhOst: cart\r\nX-WeiRd: q\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("X-AnSwer: a"), "{answer}");
        let seen = &cart.seen()[0].head.fields;
        let spelt: Vec<&[u8]> = seen.iter().map(|(name, _)| name).collect();
        assert!(spelt.contains(&&b"hOst"[..]) && spelt.contains(&&b"X-WeiRd"[..]), "{seen:?}");
    });
}

#[test]
fn trailers_pass_both_ways() {
    both(async |client| {
        let echo = server::echo().start().await;
        let proxy = proxy().outbound_to("echo", [&echo]).start().await;
        let client = client(&proxy);
        let request = client.request(Method::Post, "echo", "/").with("te", "trailers").body("x");
        let answer = request.trailer("content-digest", "abc").send().await;
        assert_eq!((&answer.body[..], answer.trailers.get_str("content-digest")), (&b"x"[..], Some("abc")));
    });
}

#[test]
fn a_removed_service_is_not_found() {
    both(async |client| {
        let cart = server::http().start().await;
        let mut proxy = proxy().outbound_to("cart", [&cart]).start().await;
        assert_eq!(client(&proxy).get("cart", "/").await.status(), 200);
        proxy.remove("cart");
        let answer = client(&proxy).get("cart", "/").await;
        assert_eq!((answer.status(), answer.field("x-leno-reason")), (404, Some("no_cluster")));
    });
}

#[test]
fn a_removed_service_is_not_found_on_a_connection_to_its_own_port_either() {
    leno_test::run(async {
        let cart = server::http().start().await;
        let mut proxy = proxy().outbound_at("cart", Protocol::Http, [cart.address]).start().await;
        let mut stream = TcpStream::connect(proxy.port_to("cart").await).await.unwrap();
        let mut status = async || {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: cart\r\n\r\n").await.unwrap();
            let mut answer = [0; 4096];
            let read = stream.read(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer[9..read])[..3].to_owned()
        };
        assert_eq!(status().await, "200");
        proxy.remove("cart");
        assert_eq!(status().await, "404");
    });
}

#[test]
fn connections_to_endpoints_that_left_are_closed_by_a_sweep() {
    both(async |client| {
        let (one, two) = (server::http().start().await, server::http().start().await);
        let mut proxy = proxy().outbound_to("cart", [&one]).start().await;
        client(&proxy).get("cart", "/").await;
        proxy.worker.sweep(&[]);
        let connections = proxy.worker.connections();
        assert_eq!(connections.idle + connections.h2, 1);
        proxy.set_endpoints("cart", [two.address]);
        proxy.worker.sweep(&[]);
        assert_eq!(proxy.worker.connections().keys, 0);
    });
}

#[test]
fn a_request_that_goes_round_in_a_circle_is_stopped() {
    both(async |client| {
        let mut proxy = proxy().outbound_at("cart", Protocol::Detect, []).start().await;
        proxy.set_endpoints("cart", [proxy.outbound]);
        let answer = client(&proxy).get("cart", "/").await;
        assert_eq!((answer.status(), answer.field("x-leno-reason")), (508, Some("loop_detected")));
    });
}

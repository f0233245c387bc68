//! Requests through a whole proxy, over HTTP/1 and HTTP/2.

use leno_model::instance::Protocol;
use leno_test::client::{self, Client};
use leno_test::{proxy, server};

/// Runs a body for both versions of HTTP.
fn both(test: impl AsyncFn(fn(&leno_test::proxy::Proxy) -> Client)) {
    leno_test::run(async {
        test(client::h1).await;
        test(client::h2).await;
    });
}

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
        let (gone, cart) = (server::http().start().await.stop(), server::http().start().await);
        let proxy = proxy().outbound_at("cart", Protocol::Detect, [gone, cart.address]).start().await;
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
        let request = request.request(leno_http::Method::Get, "cart", "/").with("x-leno-source", "forged");
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

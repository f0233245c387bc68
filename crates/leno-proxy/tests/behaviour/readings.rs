//! Requests that programs read in different ways: one reading is left, or none.

use leno_http::Method;
use leno_model::snapshot::{BalancePolicy, Cluster, PathMatch};
use leno_test::{proxy, server};

use crate::both;

#[test]
fn the_path_that_is_matched_is_the_one_that_is_forwarded() {
    both(async |client| {
        let cart = server::http().start().await;
        let below_admin = proxy().with_rule(|rule| rule.when.path = PathMatch::Prefix("/admin".into()));
        let proxy = below_admin.outbound_to("cart", [&cart]).start().await;
        let client = client(&proxy);
        for path in ["/pub/../admin/x?q=/../y", "//admin\\x?q=/../y", "/pub;v=1/%2e%2e/%61dmin/./x?q=/../y"] {
            assert_eq!(client.get("cart", path).await.status(), 200, "{path}");
        }
        assert_eq!(client.get("cart", "/;v=1/admin;w/x").await.status(), 200);
        assert_eq!(client.get("cart", "/admin/../pub").await.status(), 404);
        let seen: Vec<String> = cart.seen().iter().map(|seen| seen.head.path.to_string()).collect();
        assert_eq!(seen[..3], ["/admin/x?q=/../y"; 3]);
        assert_eq!(seen[3..], ["/;v=1/admin;w/x"]);
    });
}

#[test]
fn a_path_without_one_reading_is_refused() {
    both(async |client| {
        let cart = server::http().start().await;
        let proxy = proxy().outbound_to("cart", [&cart]).start().await;
        for path in ["/a%2fb", "/a%5Cb", "/a%00b", "/a%zz", "/%c0%af", "/../a", "/a/..;x/b", "/a{b}"] {
            let answer = client(&proxy).get("cart", path).await;
            assert_eq!((answer.status(), answer.field("x-leno-reason")), (400, Some("bad_request")), "{path}");
        }
        assert_eq!(cart.count(), 0);
    });
}

#[test]
fn what_is_outside_the_mesh_is_asked_for_what_was_sent() {
    both(async |client| {
        let server = server::echo().start().await;
        let proxy = proxy().start().await;
        let (client, path) = (client(&proxy), "/@scope%2fname//x/../y");
        let request = client.request(Method::Post, &server.address.to_string(), path).with("api_key", "k").body("x");
        let answer = request.trailer("checksum", "abc").send().await;
        assert_eq!((answer.status(), answer.trailers.get_str("checksum")), (200, Some("abc")));
        let seen = &server.seen()[0].head;
        assert_eq!((seen.path.as_str(), seen.fields.get_str("api_key")), (path, Some("k")));
    });
}

#[test]
fn names_with_underscores_are_dropped() {
    both(async |client| {
        let cart = server::http().start().await;
        let proxy = proxy().outbound_to("cart", [&cart]).start().await;
        let client = client(&proxy);
        let request = client.request(Method::Get, "cart", "/a_b").with("X_User_Id", "admin").with("X-User-Id", "me_2");
        assert_eq!(request.send().await.status(), 200);
        let seen = &cart.seen()[0].head;
        assert_eq!((seen.fields.get_str("x_user_id"), seen.fields.get_str("x-user-id")), (None, Some("me_2")));
    });
}

#[test]
fn of_trailers_only_those_pass_that_may_stand_in_any_message() {
    both(async |client| {
        let echo = server::echo().start().await;
        let proxy = proxy().outbound_to("echo", [&echo]).start().await;
        let client = client(&proxy);
        let request = client.request(Method::Post, "echo", "/").body("x");
        let answer = request.trailer("x-role", "admin").trailer("etag", "\"1\"").send().await;
        assert_eq!((answer.trailers.get_str("x-role"), answer.trailers.get_str("etag")), (None, Some("\"1\"")));
        let request = client.request(Method::Post, "echo", "/").with("content-type", "application/grpc").body("x");
        let answer = request.trailer("x-own", "1").send().await;
        assert_eq!(answer.trailers.get_str("x-own"), Some("1"));
    });
}

#[test]
fn a_gateway_says_who_the_client_is_and_makes_no_tunnels() {
    leno_test::run(async {
        let cart = server::http().start().await;
        let proxy = proxy().outbound_to("cart", [&cart]).start().await;
        let client = leno_test::client::to(proxy.gateway_to("cart").await, false);
        let forged = client.request(Method::Get, "cart", "/").with("Forwarded", "for=1.2.3.4");
        forged.with("X-Forwarded-For", "1.2.3.4").with("X-Forwarded-Host", "x").send().await;
        let seen = &cart.seen()[0].head.fields;
        let said = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"].map(|n| seen.get_str(n));
        assert_eq!(said, [None, Some("127.0.0.1"), None, Some("http")]);
        let mut head = leno_http::RequestHead::new(Method::Connect, "cart:80", "");
        head.form = leno_http::TargetForm::Authority;
        let stream = tokio::net::TcpStream::connect(proxy.gateway_to("cart").await).await.unwrap();
        let connection = leno_http::Connection::h1(stream.into(), &std::rc::Rc::default());
        let (_, answer) = connection.send(&head, leno_http::BodyLength::Empty).await.unwrap();
        assert_eq!((answer.response().await.unwrap().head.status, cart.count()), (501, 1));
    });
}

#[test]
fn how_busy_an_instance_is_stays_within_the_mesh() {
    for http2 in [false, true] {
        leno_test::run(async {
            let (name, report) = ("endpoint-load-metrics", "TEXT cpu_utilization=0.5, rps_fractional=10");
            let cart = server::http().respond("/", 200).with("/", name, report).start().await;
            let by_reports = |cluster: &mut Cluster| cluster.balance = BalancePolicy::WeightedRoundRobin;
            let proxy = proxy().with_cluster(by_reports).outbound_to("cart", [&cart]).start().await;
            let stranger = leno_test::client::to(proxy.gateway_to("cart").await, http2).get("shop.example", "/").await;
            assert_eq!((stranger.status(), stranger.field(name)), (200, None));
            let caller = leno_test::client::to(proxy.outbound, http2).get("cart", "/").await;
            assert_eq!((caller.status(), caller.field(name)), (200, Some(report)));
        });
    }
}

//! What rules say: shares, changes, redirects, CORS, mirrors.

use leno_http::Method;
use leno_model::snapshot::{
    Action, Cors, HeaderChange, Mirror, PathRewrite, Redirect, Rewrite, RouteFilter, WeightedCluster,
};
use leno_test::{client, proxy, server};

use crate::{both, until};

fn share(service: &str, weight: u32) -> WeightedCluster {
    WeightedCluster {
        cluster: Some(format!("{service}.default.mesh").into()),
        weight,
        filters: Vec::new(),
        affinity: Default::default(),
        rate_limits: Default::default(),
        injections: Default::default(),
    }
}

#[test]
fn two_targets_get_their_shares() {
    leno_test::run(async {
        let (v1, v2) = (server::http().start().await, server::http().start().await);
        let proxy = proxy().outbound_to("v1", [&v1]).outbound_to("v2", [&v2]);
        let proxy = proxy.with_rule(|rule| rule.action = Action::Forward(vec![share("v1", 9), share("v2", 1)]));
        let proxy = proxy.outbound_to("cart", []).start().await;
        let client = client::h2(&proxy);
        for _ in 0..1000 {
            assert_eq!(client.get("cart", "/").await.status(), 200);
        }
        // Six standard deviations of a tenth of a thousand.
        assert_eq!(v1.count() + v2.count(), 1000);
        assert!((43..=157).contains(&v2.count()), "{}", v2.count());
    });
}

#[test]
fn the_share_of_a_backend_that_does_not_exist_is_answered_500() {
    both(async |client| {
        let proxy = proxy().with_rule(|rule| {
            rule.action = Action::Forward(vec![WeightedCluster {
                cluster: None,
                weight: 1,
                filters: Vec::new(),
                affinity: Default::default(),
                rate_limits: Default::default(),
                injections: Default::default(),
            }]);
        });
        let proxy = proxy.outbound_to("cart", []).start().await;
        assert_eq!(client(&proxy).get("cart", "/").await.status(), 500);
    });
}

#[test]
fn fields_are_changed_as_the_rule_says() {
    both(async |client| {
        let cart = server::http().respond("/", 200).with("/", "server", "x").with("/", "kept", "1").start().await;
        let proxy = proxy().with_rule(|rule| {
            let change = |name: &str| HeaderChange {
                set: vec![(name.into(), "set".into())],
                add: vec![("added".into(), "2".into())],
                remove: vec!["server".into(), "cookie".into()],
            };
            let changes = [RouteFilter::RequestHeaders(change("up")), RouteFilter::ResponseHeaders(change("down"))];
            rule.filters = changes.to_vec();
        });
        let proxy = proxy.outbound_to("cart", [&cart]).start().await;
        let client = client(&proxy);
        let request =
            client.request(Method::Get, "cart", "/").with("up", "sent").with("cookie", "c").with("added", "1");
        let answer = request.send().await;
        let fields = [answer.field("down"), answer.field("added"), answer.field("server"), answer.field("kept")];
        assert_eq!(fields, [Some("set"), Some("2"), None, Some("1")]);
        let seen = &cart.seen()[0].head.fields;
        assert_eq!((seen.get_str("up"), seen.get_str("cookie")), (Some("set"), None));
        assert_eq!(seen.get_all("added").collect::<Vec<_>>(), [b"1", b"2"]);
    });
}

#[test]
fn host_and_path_are_rewritten() {
    both(async |client| {
        let cart = server::http().start().await;
        let proxy = proxy().with_rule(|rule| {
            rule.when.path = leno_model::snapshot::PathMatch::Prefix("/old".into());
            let path = Some(PathRewrite::Prefix("/new".into()));
            rule.filters = vec![RouteFilter::Rewrite(Rewrite { hostname: Some("inner.example".into()), path })];
        });
        let proxy = proxy.outbound_to("cart", [&cart]).start().await;
        assert_eq!(client(&proxy).get("cart", "/old/a?q=1").await.status(), 200);
        assert_eq!(client(&proxy).get("cart", "/older").await.status(), 404);
        let head = &cart.seen()[0].head;
        assert_eq!((head.host(), head.path.as_str()), ("inner.example", "/new/a?q=1"));
    });
}

#[test]
fn a_redirect_is_answered_by_the_proxy() {
    both(async |client| {
        let cart = server::http().start().await;
        let proxy = proxy().with_rule(|rule| {
            let (hostname, path) = (Some("shop.example".into()), Some(PathRewrite::Full("/there".into())));
            let scheme = Some("https".into());
            rule.action = Action::Redirect(Redirect { scheme, hostname, path, port: None, status: 308 });
        });
        let proxy = proxy.outbound_to("cart", [&cart]).start().await;
        let answer = client(&proxy).get("cart", "/here").await;
        assert_eq!((answer.status(), answer.field("location")), (308, Some("https://shop.example/there")));
        assert_eq!(cart.count(), 0);
    });
}

#[test]
fn a_preflight_is_answered_by_the_proxy_and_answers_get_cors_fields() {
    both(async |client| {
        let cart = server::http().start().await;
        let proxy = proxy().with_rule(|rule| {
            let (allow_origins, allow_methods) = (vec!["https://a.example".into()], vec!["PUT".into()]);
            rule.filters = vec![RouteFilter::Cors(Cors { allow_origins, allow_methods, ..Cors::default() })];
        });
        let proxy = proxy.outbound_to("cart", [&cart]).start().await;
        let client = client(&proxy);
        let preflight = client.request(Method::Options, "cart", "/").with("origin", "https://a.example");
        let answer = preflight.with("access-control-request-method", "PUT").send().await;
        let allowed = answer.field("access-control-allow-origin");
        assert_eq!((answer.status(), allowed), (204, Some("https://a.example")));
        assert_eq!(cart.count(), 0);
        let answer = client.request(Method::Put, "cart", "/").with("origin", "https://a.example").send().await;
        assert_eq!(answer.field("access-control-allow-origin"), Some("https://a.example"));
        let answer = client.request(Method::Put, "cart", "/").with("origin", "https://b.example").send().await;
        assert_eq!(answer.field("access-control-allow-origin"), None);
    });
}

fn mirrored_to(name: &'static str) -> impl Fn(&mut leno_model::snapshot::Rule) {
    move |rule| {
        let mirror = Mirror { cluster: format!("{name}.default.mesh").into(), numerator: 1, denominator: 1 };
        rule.filters = vec![RouteFilter::Mirror(mirror)];
    }
}

#[test]
fn a_mirror_gets_a_copy_with_its_body() {
    both(async |client| {
        let (cart, copy) = (server::http().start().await, server::http().respond("/", 500).start().await);
        let proxy = proxy().outbound_to("copy", [&copy]).with_rule(mirrored_to("copy"));
        let proxy = proxy.outbound_to("cart", [&cart]).start().await;
        let body = vec![b'x'; 300_000];
        assert_eq!(client(&proxy).post("cart", "/", body.clone()).await.status(), 200);
        until(|| copy.count() == 1).await;
        assert_eq!((copy.seen()[0].body.len(), cart.seen()[0].body.len()), (body.len(), body.len()));
    });
}

#[test]
fn mirrors_that_are_dead_or_never_answer_disturb_nobody() {
    both(async |client| {
        let cart = server::http().start().await;
        let dead = server::http().start().await.stop();
        let silent = server::raw(hold).await;
        for mirror in [dead, silent.address] {
            let proxy = proxy().outbound_at("copy", leno_model::instance::Protocol::Http, [mirror]);
            let proxy = proxy.with_rule(mirrored_to("copy")).outbound_to("cart", [&cart]).start().await;
            let answer = client(&proxy).post("cart", "/", vec![b'x'; 4_000_000]).await;
            assert_eq!((answer.status(), cart.seen().last().unwrap().body.len()), (200, 4_000_000));
        }
    });
}

/// Neither reads nor answers.
async fn hold(stream: tokio::net::TcpStream) {
    std::future::pending::<()>().await;
    drop(stream);
}

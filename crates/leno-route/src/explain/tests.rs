//! The words of explanations.

use leno_model::snapshot::{Match, PathMatch};

use super::*;
use crate::router::tests::{Pairs, config, exact_host, key, path};

fn explain(hosts: Vec<(Vec<HostPattern>, Vec<Match>)>, host: &str, target: &str) -> Explanation {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let fields = Pairs(vec![("x-user", "eve"), ("x-user", "bob")]);
    let request = RequestView { host, method: "POST", path, query, fields: &fields };
    Router::compile(&config(hosts)).unwrap().explain(&request)
}

fn reasons(explanation: &Explanation, rule: usize) -> Vec<String> {
    match &explanation.rules[rule].verdict {
        Verdict::Missed(misses) => misses.iter().map(Miss::to_string).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_taken_rule_and_later_ones_are_told_apart() {
    let hosts = vec![(vec![HostPattern::Any], vec![Match::default(), Match::default()])];
    let explanation = explain(hosts, "cart", "/");
    assert_eq!(explanation.matched.unwrap().rule.index(), 0);
    assert_eq!(explanation.rules[0].verdict, Verdict::Taken);
    assert_eq!(explanation.rules[1].verdict, Verdict::Later);
}

#[test]
fn every_condition_that_does_not_hold_is_named() {
    let when = Match {
        path: PathMatch::Prefix("/cart/".into()),
        method: Some("GET".into()),
        headers: vec![key("x-user", "bob"), key("x-beta", "~(on|yes)")],
        query: vec![key("page", "2"), key("size", "~[0-9]+")],
    };
    let explanation = explain(vec![(vec![HostPattern::Any], vec![when])], "cart", "/shop?size=a%20b");
    assert_eq!(
        reasons(&explanation, 0),
        [
            "the path is /shop, not /cart or below",
            "the method is POST, not GET",
            "the header x-user is \"eve,bob\", not \"bob\"",
            "the header x-beta is absent, wanted is like (on|yes)",
            "the query parameter page is absent, wanted is \"2\"",
            "the query parameter size is \"a b\", not like [0-9]+",
        ]
    );
}

#[test]
fn hosts_say_which_one_was_taken() {
    let hosts = vec![
        (vec![HostPattern::Suffix("shop.mesh".into())], vec![Match::default()]),
        (vec![exact_host("cart.shop.mesh")], vec![path(PathMatch::Exact("/x".into()))]),
        (vec![exact_host("a.com"), HostPattern::Suffix("b.com".into())], vec![Match::default()]),
    ];
    let explanation = explain(hosts, "cart.shop.mesh", "/");
    assert_eq!(explanation.host.as_deref(), Some("cart.shop.mesh"));
    assert_eq!(explanation.matched, None);
    assert_eq!(
        reasons(&explanation, 0),
        ["the host cart.shop.mesh belongs to the more specific pattern cart.shop.mesh"]
    );
    assert_eq!(reasons(&explanation, 1), ["the path is /, not exactly /x"]);
    assert_eq!(reasons(&explanation, 2), ["the host is cart.shop.mesh, not a.com or *.b.com"]);
}

//! What a request takes, by the loop and by the index.

use leno_model::snapshot::{Action, HostPattern, KeyMatch, PathMatch, Rule, ValueMatch, VirtualHost};

use super::*;

/// Fields as pairs; also used by the tests of `explain`.
pub(crate) struct Pairs(pub(crate) Vec<(&'static str, &'static str)>);

impl FieldLookup for Pairs {
    fn each_value<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).for_each(|(_, value)| visit(value.as_bytes()));
    }
}

pub(crate) fn rule(when: Match) -> Rule {
    Rule {
        origin: Origin { resource: "httproute/shop/cart".into(), rule: 0, name: None },
        when,
        filters: vec![],
        action: Action::Forward(vec![]),
        request_timeout: None,
        try_timeout: None,
        retry: None,
    }
}

pub(crate) fn config(hosts: Vec<(Vec<HostPattern>, Vec<Match>)>) -> RouteConfig {
    let hosts = hosts
        .into_iter()
        .map(|(hostnames, rules)| VirtualHost { hostnames, rules: rules.into_iter().map(rule).collect() });
    RouteConfig { name: "cart.shop.mesh:80".into(), hosts: hosts.collect() }
}

pub(crate) fn exact_host(name: &str) -> HostPattern {
    HostPattern::Exact(name.into())
}

pub(crate) fn path(path: PathMatch) -> Match {
    Match { path, ..Match::default() }
}

pub(crate) fn key(name: &str, value: &str) -> KeyMatch {
    let value = match value.strip_prefix('~') {
        Some(regex) => ValueMatch::Regex(regex.into()),
        None => ValueMatch::Exact(value.into()),
    };
    KeyMatch { name: name.into(), value }
}

fn any_host(rules: Vec<Match>) -> Router {
    Router::compile(&config(vec![(vec![HostPattern::Any], rules)])).unwrap()
}

fn taken(
    router: &Router,
    method: &str,
    path: &str,
    query: &str,
    fields: &[(&'static str, &'static str)],
) -> Option<usize> {
    let fields = Pairs(fields.to_vec());
    let request = RequestView { host: "cart", method, path, query, fields: &fields };
    router.route(&request).map(|matched| matched.rule.index())
}

#[test]
fn the_first_rule_that_matches_decides() {
    let prefix = |p: &str| path(PathMatch::Prefix(p.into()));
    let router = any_host(vec![path(PathMatch::Exact("/a/b".into())), prefix("/a"), prefix("/a/b"), prefix("/c")]);
    let get = |path| taken(&router, "GET", path, "", &[]);
    assert_eq!([get("/a/b"), get("/a/b/c"), get("/c/"), get("/d")], [Some(0), Some(1), Some(3), None]);
}

#[test]
fn parameters_decide_nothing_unless_the_rule_has_them() {
    let prefix = |p: &str| path(PathMatch::Prefix(p.into()));
    let rules = [
        path(PathMatch::Exact("/login".into())),
        prefix("/a;v=1/b"),
        prefix("/admin"),
        path(PathMatch::Regex("/x/[a-z]+".into())),
    ];
    let few = any_host(rules.to_vec());
    let many = any_host(rules.into_iter().chain(std::iter::repeat_n(prefix("/no"), INDEX_MIN)).collect());
    for router in [few, many] {
        let get = |path| taken(&router, "GET", path, "", &[]);
        assert_eq!([get("/login;jsessionid=1"), get("/admin;x/y"), get("/;x/admin")], [Some(0), Some(2), Some(2)]);
        assert_eq!([get("/a;v=1/b/c"), get("/a;v=2/b"), get("/x/a;y"), get("/x/a")], [Some(1), None, Some(3), Some(3)]);
        let request =
            RequestView { host: "x", method: "GET", path: "/;x/admin;y/z", query: "", fields: &Pairs(vec![]) };
        assert_eq!(router.route(&request).map(|matched| matched.prefix_len), Some("/;x/admin".len()));
    }
}

#[test]
fn rules_are_numbered_over_all_hosts() {
    let one = vec![Match::default()];
    let router = Router::compile(&config(vec![
        (vec![exact_host("a.com"), exact_host("b.com")], vec![path(PathMatch::Exact("/x".into())), Match::default()]),
        (vec![HostPattern::Suffix("com".into())], one),
    ]));
    let router = router.unwrap();
    let at = |host| {
        let request = RequestView { host, method: "GET", path: "/", query: "", fields: &Pairs(vec![]) };
        router.route(&request).map(|matched| matched.rule.index())
    };
    assert_eq!([at("a.com"), at("b.com"), at("c.com"), at("c.org")], [Some(1), Some(1), Some(2), None]);
    assert_eq!(router.rule_count(), 3);
}

#[test]
fn only_the_rules_of_the_most_specific_host_are_tried() {
    let config = config(vec![
        (vec![exact_host("cart")], vec![path(PathMatch::Exact("/only".into()))]),
        (vec![HostPattern::Any], vec![Match::default()]),
    ]);
    assert_eq!(taken(&Router::compile(&config).unwrap(), "GET", "/other", "", &[]), None);
}

#[test]
fn methods_compare_with_case() {
    let router = any_host(vec![Match { method: Some("GET".into()), ..Match::default() }]);
    assert_eq!(taken(&router, "GET", "/", "", &[]), Some(0));
    assert_eq!(taken(&router, "get", "/", "", &[]), None);
    assert_eq!(taken(&router, "POST", "/", "", &[]), None);
}

#[test]
fn all_headers_must_match_and_repeated_ones_are_joined() {
    let headers = vec![key("version", "one,two"), key("color", "~(blue|green)")];
    let router = any_host(vec![Match { headers, ..Match::default() }]);
    let with = |fields: &[(&'static str, &'static str)]| taken(&router, "GET", "/", "", fields);
    assert_eq!(with(&[("Version", "one"), ("VERSION", "two"), ("Color", "green")]), Some(0));
    assert_eq!(with(&[("version", "one,two"), ("color", "blue")]), Some(0));
    assert_eq!(with(&[("version", "one"), ("color", "blue")]), None);
    assert_eq!(with(&[("version", "one,two"), ("color", "blue"), ("color", "green")]), None);
    assert_eq!(with(&[("version", "one,two")]), None);
}

#[test]
fn all_query_parameters_must_match() {
    let query = vec![key("animal", "a whale"), key("n", "~[0-9]+")];
    let router = any_host(vec![Match { query, ..Match::default() }]);
    let with = |query| taken(&router, "GET", "/", query, &[]);
    assert_eq!(with("n=12&animal=a%20whale"), Some(0));
    assert_eq!(with("n=x&animal=a+whale"), None);
    assert_eq!(with("animal=a+whale"), None);
    assert_eq!(with("Animal=a+whale&n=1"), None);
}

#[test]
fn a_bad_expression_says_where_it_stands() {
    let headers = vec![key("x-user", "~(")];
    let bad = config(vec![(vec![HostPattern::Any], vec![Match { headers, ..Match::default() }])]);
    let message = Router::compile(&bad).unwrap_err().to_string();
    assert_eq!(
        message,
        "route configuration cart.shop.mesh:80, httproute/shop/cart rule 0, header x-user: \
         \"(\" is not a regular expression (RE2 syntax): unclosed group"
    );
}

#[test]
fn a_path_of_many_segments_costs_no_more_than_the_deepest_prefix() {
    let mut rules: Vec<Match> = (0..40).map(|n| path(PathMatch::Prefix(format!("/a/{n}").into()))).collect();
    rules.push(path(PathMatch::Prefix("/".into())));
    let router = any_host(rules);
    let long = "/a".repeat(30_000);
    assert_eq!(taken(&router, "GET", &long, "", &[]), Some(40));
    assert_eq!(router.groups[0].index.as_ref().unwrap().depth, 2);
}

/// The index finds what the loop finds, for random rules and requests from a small alphabet.
#[test]
fn the_index_agrees_with_the_loop() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rules = (0..rng.usize(INDEX_MIN..80)).map(|_| random_match(&mut rng)).collect();
        let router = any_host(rules);
        assert!(router.groups[0].index.is_some());
        for _ in 0..50 {
            let path = random_path(&mut rng);
            let method = *rng.choice(&["GET", "PUT"]).unwrap();
            let request = RequestView { host: "x", method, path: &path, query: "", fields: &Pairs(vec![]) };
            let bare = without_parameters(&path);
            let asked = RequestView { path: bare.as_deref().unwrap_or(&path), ..request };
            let by_loop = router.first_of(0..router.rules.len() as u32, &asked, &path);
            let rule = |matched: Option<Matched>| matched.map(|matched| matched.rule);
            assert_eq!(rule(router.route(&request)), rule(by_loop), "seed {seed}, {method} {path}");
        }
    }
}

fn random_match(rng: &mut fastrand::Rng) -> Match {
    let text = random_path(rng);
    let path = match rng.u8(..3) {
        0 => PathMatch::Exact(text.into()),
        1 => PathMatch::Prefix(text.into()),
        _ => PathMatch::Regex(format!("{}.?", text.replace('*', "x")).into()),
    };
    Match { path, method: rng.bool().then(|| "PUT".into()), ..Match::default() }
}

fn random_path(rng: &mut fastrand::Rng) -> String {
    if rng.u8(..20) == 0 {
        return (*rng.choice(&["", "*", "a", "//"]).unwrap()).to_owned();
    }
    let segments = (0..rng.usize(..5)).map(|_| *rng.choice(&["/a", "/b", "/ab", "/a;x", "/"]).unwrap());
    format!("{}/", segments.collect::<String>()).trim_end_matches(if rng.bool() { '/' } else { '!' }).to_owned()
}

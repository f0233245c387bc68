//! The order in which rules are tried, as the Gateway API says. Control sorts by [`Key`] when it makes a
//! `RouteConfig`; the proxy then tries rules in the order given.
//!
//! HTTPRoute: exact path, longest prefix, method, most headers, most query parameters. GRPCRoute: most characters of
//! the service, of the method, most headers. Ties: the older route, then `namespace/name`, then the order written.
//!
//! What the Gateway API leaves open, decided here: a regular expression stands just before a prefix as long as its
//! literal beginning, so that `/users/[0-9]+` is tried before `/users` and before `/`, and `/.*` after `/users`. Where
//! both kinds of route meet on one host, rules of GRPCRoutes, the more specific protocol, are tried first.
//!
//! The host comes before all of that and is not part of the key: a `RouteConfig` has a list of rules per host, and only
//! the most specific host is looked at. Rules for `*.example.com` hold for `abc.example.com` as well when none of its
//! own matches, so [`arrange`] repeats them there, behind.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use leno_model::snapshot::{HostPattern, Match, Name, PathMatch};

use crate::host;
use crate::path::trim_prefix;

/// Where a rule stands among its like: the smaller is tried first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    kind: Kind,
    age: Age,
}

/// Who wins when two conditions are equally specific. The first field that differs decides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age {
    /// When the route was first applied, in any unit: revision or time. The smaller wins.
    pub created: u64,
    /// The route's namespace.
    pub namespace: Name,
    /// The route's name.
    pub name: Name,
    /// The rule in the route.
    pub rule: u32,
    /// The match in the rule.
    pub alternative: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Grpc {
        service: Reverse<usize>,
        method: Reverse<usize>,
        headers: Reverse<usize>,
    },
    Http {
        exact: Reverse<bool>,
        path: Reverse<usize>,
        pattern: Reverse<bool>,
        method: Reverse<bool>,
        headers: Reverse<usize>,
        query: Reverse<usize>,
    },
}

/// Rules for one host pattern before they are arranged: the pattern as the route wrote it, the key, and the rule.
pub type Placed<T> = (HostPattern, Key, T);

/// The rules of each host in the order in which they are tried: those written for the most specific pattern first,
/// among these by their keys, and behind them those of wider patterns. A rule for several patterns is given once for
/// each. For services; gateways have [`arrange_listeners`].
pub fn arrange<T: Clone>(rules: Vec<Placed<T>>) -> Vec<(HostPattern, Vec<T>)> {
    arrange_listeners(vec![(HostPattern::Any, rules)])
}

/// As [`arrange`], for the listeners of one gateway port, each with its host pattern. A host belongs to the most
/// specific listener alone, even if that one has no rule for it (the Gateway API's listener isolation). A route's
/// pattern is narrowed to its listener's; precedence goes by the pattern as written.
pub fn arrange_listeners<T: Clone>(listeners: Vec<(HostPattern, Vec<Placed<T>>)>) -> Vec<(HostPattern, Vec<T>)> {
    let mut by_listener: BTreeMap<HostPattern, Vec<Placed<T>>> = BTreeMap::new();
    for (listener, rules) in listeners {
        by_listener.entry(listener).or_default().extend(rules);
    }
    let hidden = |listener: &HostPattern, pattern: &HostPattern| {
        let narrower = |other: &HostPattern| other != listener && host::covers(listener, other);
        by_listener.keys().any(|other| narrower(other) && host::covers(other, pattern))
    };
    let mut arranged = Vec::new();
    for (listener, rules) in &by_listener {
        let of_listener = arrange_listener(listener, rules);
        arranged.extend(of_listener.into_iter().filter(|(pattern, _)| !hidden(listener, pattern)));
    }
    arranged
}

fn arrange_listener<T: Clone>(listener: &HostPattern, rules: &[Placed<T>]) -> Vec<(HostPattern, Vec<T>)> {
    let mut sorted: Vec<&Placed<T>> = rules.iter().collect();
    sorted.sort_by_key(|(written, key, _)| (Reverse(specificity(written)), key));
    let mut narrowed: BTreeMap<HostPattern, Vec<T>> = BTreeMap::from([(listener.clone(), Vec::new())]);
    for (written, ..) in rules {
        narrowed.extend(host::both(listener, written).map(|pattern| (pattern, Vec::new())));
    }
    // Exact names cover nothing but themselves: only the others, of which there are few, are tried for every host.
    let (exact, wide): (Vec<&Placed<T>>, Vec<&Placed<T>>) =
        sorted.into_iter().partition(|(written, ..)| matches!(written, HostPattern::Exact(_)));
    for (written, _, rule) in exact {
        if let Some(own) = host::both(listener, written).and_then(|pattern| narrowed.get_mut(&pattern)) {
            own.push(rule.clone());
        }
    }
    for (pattern, own) in &mut narrowed {
        own.extend(wide.iter().filter(|(written, ..)| host::covers(written, pattern)).map(|(.., rule)| rule.clone()));
    }
    narrowed.into_iter().collect()
}

/// The more specific pattern is greater.
fn specificity(pattern: &HostPattern) -> (u8, usize) {
    match pattern {
        HostPattern::Any => (0, 0),
        HostPattern::Suffix(name) => (1, name.len()),
        HostPattern::Exact(name) => (2, name.len()),
    }
}

// === impl Key ===

impl Key {
    /// For a match of an HTTPRoute.
    pub fn http(when: &Match, age: Age) -> Self {
        let (exact, path, pattern) = match &when.path {
            PathMatch::Exact(path) => (true, path.len(), false),
            PathMatch::Prefix(prefix) => (false, trim_prefix(prefix).len(), false),
            PathMatch::Regex(text) => (false, trim_prefix(literal_beginning(text)).len(), true),
        };
        let kind = Kind::Http {
            exact: Reverse(exact),
            path: Reverse(path),
            pattern: Reverse(pattern),
            method: Reverse(when.method.is_some()),
            headers: Reverse(when.headers.len()),
            query: Reverse(when.query.len()),
        };
        Self { kind, age }
    }

    /// For a match of a GRPCRoute: its service and method as written, and how many headers it asks for.
    pub fn grpc(service: Option<&str>, method: Option<&str>, headers: usize, age: Age) -> Self {
        let chars = |text: Option<&str>| Reverse(text.map_or(0, |text| text.chars().count()));
        Self { kind: Kind::Grpc { service: chars(service), method: chars(method), headers: Reverse(headers) }, age }
    }
}

/// The part of an expression before the first character that means something else than itself.
fn literal_beginning(text: &str) -> &str {
    let text = text.strip_prefix('^').unwrap_or(text);
    if text.contains('|') {
        return "";
    }
    let special = text.find(['\\', '.', '[', '(', '*', '+', '?', '{', '^', '$']).unwrap_or(text.len());
    // `b*`, `b?` and `b{0,1}` need no b: what is repeated is not literal.
    let repeated = text[special..].starts_with(['*', '?', '{']);
    let end = if repeated { text[..special].char_indices().next_back().map_or(0, |(at, _)| at) } else { special };
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use leno_model::snapshot::{KeyMatch, ValueMatch};

    fn age(created: u64, name: &str, rule: u32) -> Age {
        Age { created, namespace: "shop".into(), name: name.into(), rule, alternative: 0 }
    }

    fn keys(count: usize) -> Vec<KeyMatch> {
        vec![KeyMatch { name: "k".into(), value: ValueMatch::Exact("v".into()) }; count]
    }

    fn when(path: PathMatch, method: bool, headers: usize, query: usize) -> Match {
        Match { path, method: method.then(|| "GET".into()), headers: keys(headers), query: keys(query) }
    }

    fn prefix(path: &str) -> PathMatch {
        PathMatch::Prefix(path.into())
    }

    #[test]
    fn http_rules_stand_in_the_order_of_the_gateway_api() {
        let in_order = [
            when(PathMatch::Exact("/a/b".into()), false, 0, 0),
            when(prefix("/a/b/c"), false, 0, 0),
            when(prefix("/a/b"), true, 0, 0),
            when(prefix("/a/b/"), false, 2, 0),
            when(prefix("/a/b"), false, 1, 3),
            when(prefix("/a/b"), false, 1, 0),
            when(prefix("/a/b"), false, 0, 1),
            when(prefix("/a/b"), false, 0, 0),
            when(prefix("/"), true, 0, 0),
            when(prefix("/"), false, 0, 0),
        ];
        // All ages are against the order, so that they decide nothing.
        let keys: Vec<Key> =
            in_order.iter().zip((0..).map(|n| 100 - n)).map(|(m, n)| Key::http(m, age(n, "x", 0))).collect();
        assert!(keys.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn an_expression_stands_before_a_prefix_as_long_as_its_literal_beginning() {
        let in_order = [
            PathMatch::Regex("/users/[0-9]+".into()),
            prefix("/users"),
            PathMatch::Regex("/use?rs".into()),
            PathMatch::Regex("/.*".into()),
            prefix("/"),
        ];
        let keys: Vec<Key> =
            in_order.into_iter().map(|path| Key::http(&when(path, false, 0, 0), age(0, "x", 0))).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:#?}");
    }

    #[test]
    fn ties_go_to_the_older_then_the_name_then_the_order_written() {
        let key = |age| Key::http(&Match::default(), age);
        let in_order = [age(1, "z", 9), age(2, "a", 1), age(2, "a", 2), age(2, "b", 0)].map(key);
        assert!(in_order.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn grpc_rules_stand_by_service_then_method_then_headers() {
        let in_order = [
            Key::grpc(Some("shop.Cart"), Some("AddItem"), 0, age(9, "x", 0)),
            Key::grpc(Some("shop.Cart"), Some("Add"), 5, age(8, "x", 0)),
            Key::grpc(Some("shop.Cart"), None, 0, age(7, "x", 0)),
            Key::grpc(None, Some("AddItem"), 9, age(6, "x", 0)),
            Key::grpc(None, None, 1, age(5, "x", 0)),
            Key::grpc(None, None, 0, age(4, "x", 0)),
            Key::http(&when(PathMatch::Exact("/".into()), true, 9, 9), age(0, "x", 0)),
        ];
        assert!(in_order.is_sorted_by(|a, b| a < b));
    }

    fn host(text: &str) -> HostPattern {
        match text.strip_prefix("*.") {
            Some(suffix) => HostPattern::Suffix(suffix.into()),
            None if text == "*" => HostPattern::Any,
            None => HostPattern::Exact(text.into()),
        }
    }

    fn placed(pattern: &str, path: &str) -> Placed<String> {
        let key = Key::http(&when(prefix(path), false, 0, 0), age(0, "x", 0));
        (host(pattern), key, format!("{pattern}{path}"))
    }

    #[test]
    fn a_host_has_its_own_rules_and_behind_them_those_of_the_patterns_that_cover_it() {
        let arranged: BTreeMap<_, _> = arrange(vec![
            placed("*", "/any"),
            placed("*.com", "/com"),
            placed("a.b.com", "/"),
            placed("a.b.com", "/first"),
            placed("*.b.com", "/b"),
            placed("b.com", "/apex"),
        ])
        .into_iter()
        .collect();
        assert_eq!(arranged[&host("a.b.com")], ["a.b.com/first", "a.b.com/", "*.b.com/b", "*.com/com", "*/any"]);
        assert_eq!(arranged[&host("*.b.com")], ["*.b.com/b", "*.com/com", "*/any"]);
        assert_eq!(arranged[&host("b.com")], ["b.com/apex", "*.com/com", "*/any"]);
        assert_eq!(arranged[&host("*")], ["*/any"]);
    }

    #[test]
    fn patterns_narrowed_to_one_host_keep_the_precedence_of_what_was_written() {
        let rules = vec![placed("*.com", "/longer/path"), placed("*.b.com", "/path"), placed("a.b.com", "/")];
        let arranged = arrange_listeners(vec![(host("a.b.com"), rules)]);
        assert_eq!(arranged.len(), 1);
        assert_eq!(arranged[0].1, ["a.b.com/", "*.b.com/path", "*.com/longer/path"]);
    }

    #[test]
    fn a_host_belongs_to_the_most_specific_listener_alone() {
        let everywhere = |path| ["*", "*.com", "*.b.com", "a.b.com"].map(|pattern| placed(pattern, path)).to_vec();
        let arranged: BTreeMap<_, _> = arrange_listeners(vec![
            (HostPattern::Any, everywhere("/any")),
            (host("*.com"), everywhere("/com")),
            (host("*.b.com"), vec![]),
        ])
        .into_iter()
        .collect();
        assert_eq!(arranged[&host("*")], ["*/any"]);
        assert_eq!(arranged[&host("*.com")], ["*.com/com", "*/com"]);
        assert_eq!(arranged[&host("*.b.com")], [""; 0]);
        assert!(!arranged.contains_key(&host("a.b.com")));
    }
}

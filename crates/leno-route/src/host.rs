//! Host names to values: exact before suffix, the longest suffix first, then any. For virtual hosts and for SNI.
//!
//! A look-up walks the labels of the name from the left, one hash look-up each, and allocates nothing: the name is
//! lowered into a buffer on the stack. A name longer than DNS allows can only be matched by [`HostPattern::Any`], which
//! bounds the walk. The hasher has fixed keys: only configuration is ever inserted, so nobody outside can make it
//! collide. RFC 1123, RFC 6066 section 3.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use leno_model::snapshot::{HostPattern, Name};

/// The longest host name of DNS in text, without the final dot.
const HOST_MAX: usize = 253;

type Names<T> = HashMap<Name, T, BuildHasherDefault<DefaultHasher>>;

/// A map from host patterns to values; a look-up takes the most specific pattern.
#[derive(Debug, Clone)]
pub struct HostMap<T> {
    exact: Names<T>,
    suffix: Names<T>,
    any: Option<T>,
}

/// What a look-up found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found<'a, T> {
    /// How specific the pattern was that matched.
    pub by: FoundBy<'a>,
    /// Its value.
    pub value: &'a T,
}

/// The pattern by which a name was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy<'a> {
    /// The name itself.
    Exact(&'a str),
    /// `*.` and this.
    Suffix(&'a str),
    /// Every name.
    Any,
}

// === impl HostMap ===

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self { exact: Names::default(), suffix: Names::default(), any: None }
    }
}

impl<T> HostMap<T> {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a pattern unless it is there already: the first of two equal patterns stays. Says whether it was added.
    pub fn insert(&mut self, pattern: &HostPattern, value: T) -> bool {
        use std::collections::hash_map::Entry;
        let (names, name) = match pattern {
            HostPattern::Any => {
                let added = self.any.is_none();
                self.any.get_or_insert(value);
                return added;
            }
            HostPattern::Exact(name) => (&mut self.exact, name),
            HostPattern::Suffix(name) => (&mut self.suffix, name),
        };
        match names.entry(lowered(name)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(value);
                true
            }
        }
    }

    /// The value of the most specific pattern that matches `host`, in any case, with or without port and final dot.
    pub fn get(&self, host: &str) -> Option<&T> {
        self.find(host).map(|found| found.value)
    }

    /// As [`HostMap::get`], and by which pattern.
    pub fn find(&self, host: &str) -> Option<Found<'_, T>> {
        self.find_named(host).or_else(|| self.any.as_ref().map(|value| Found { by: FoundBy::Any, value }))
    }

    /// Whether nothing was inserted.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.suffix.is_empty() && self.any.is_none()
    }

    fn find_named(&self, host: &str) -> Option<Found<'_, T>> {
        let host = bare_host(host);
        if host.is_empty() || host.len() > HOST_MAX {
            return None;
        }
        let mut buffer = [0; HOST_MAX];
        let buffer = &mut buffer[..host.len()];
        buffer.copy_from_slice(host.as_bytes());
        buffer.make_ascii_lowercase();
        let host = std::str::from_utf8(buffer).ok()?;
        if let Some((name, value)) = self.exact.get_key_value(host) {
            return Some(Found { by: FoundBy::Exact(name), value });
        }
        if self.suffix.is_empty() {
            return None;
        }
        // A suffix needs one label before it, hence the dot at 0 does not count.
        host.match_indices('.').filter(|(at, _)| *at > 0).find_map(|(at, _)| {
            let (name, value) = self.suffix.get_key_value(&host[at + 1..])?;
            Some(Found { by: FoundBy::Suffix(name), value })
        })
    }
}

/// The host of an authority: without port and without final dot. An IPv6 address keeps its brackets.
pub fn bare_host(authority: &str) -> &str {
    let end_of_address = authority.rfind(']').map_or(0, |at| at + 1);
    let host = match authority[end_of_address..].find(':') {
        Some(colon) => &authority[..end_of_address + colon],
        None => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether `pattern` matches `host`, as a look-up in a [`HostMap`] would.
pub fn matches(pattern: &HostPattern, host: &str) -> bool {
    let host = bare_host(host);
    match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(name) => name.eq_ignore_ascii_case(host),
        HostPattern::Suffix(name) => {
            let Some(label_end) = host.len().checked_sub(name.len() + 1) else { return false };
            label_end > 0
                && host.as_bytes()[label_end] == b'.'
                && host.as_bytes()[label_end + 1..].eq_ignore_ascii_case(name.as_bytes())
        }
    }
}

/// Whether every host that `narrower` matches is matched by `wider` too; a pattern covers itself.
pub fn covers(wider: &HostPattern, narrower: &HostPattern) -> bool {
    match narrower {
        HostPattern::Any => *wider == HostPattern::Any,
        HostPattern::Exact(name) => matches(wider, name),
        HostPattern::Suffix(name) => match wider {
            HostPattern::Exact(_) => false,
            HostPattern::Suffix(suffix) => suffix.eq_ignore_ascii_case(name) || matches(wider, name),
            HostPattern::Any => true,
        },
    }
}

/// What both patterns match: the narrower of the two, if one covers the other.
pub fn both(a: &HostPattern, b: &HostPattern) -> Option<HostPattern> {
    let narrower = if covers(a, b) { b } else { a };
    (covers(a, b) || covers(b, a)).then(|| narrower.clone())
}

fn lowered(name: &Name) -> Name {
    if name.bytes().any(|b| b.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        match text.strip_prefix("*.") {
            Some(suffix) => HostPattern::Suffix(suffix.into()),
            None if text == "*" => HostPattern::Any,
            None => HostPattern::Exact(text.into()),
        }
    }

    fn map(patterns: &[&'static str]) -> HostMap<&'static str> {
        let mut map = HostMap::new();
        for text in patterns {
            assert!(map.insert(&pattern(text), *text), "{text}");
        }
        map
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let map = map(&["*", "*.com", "*.example.com", "www.example.com"]);
        for (host, wanted) in [
            ("www.example.com", "www.example.com"),
            ("a.example.com", "*.example.com"),
            ("a.b.example.com", "*.example.com"),
            ("example.com", "*.com"),
            ("com", "*"),
            ("www.example.org", "*"),
            ("", "*"),
        ] {
            assert_eq!(map.get(host), Some(&wanted), "{host}");
        }
    }

    #[test]
    fn case_port_and_final_dot_do_not_matter() {
        let map = map(&["cart.shop.mesh", "*.Example.com", "[::1]"]);
        for host in ["CART.shop.Mesh", "cart.shop.mesh:8080", "cart.shop.mesh.", "Cart.shop.mesh.:80"] {
            assert_eq!(map.get(host), Some(&"cart.shop.mesh"), "{host}");
        }
        assert_eq!(map.get("A.EXAMPLE.com:1"), Some(&"*.Example.com"));
        assert_eq!(map.get("[::1]:8080"), Some(&"[::1]"));
    }

    #[test]
    fn a_suffix_needs_a_label_before_it() {
        let map = map(&["*.example.com"]);
        for host in ["example.com", ".example.com", "notexample.com", "example.com.evil"] {
            assert_eq!(map.get(host), None, "{host}");
        }
    }

    #[test]
    fn the_first_of_two_equal_patterns_stays() {
        let mut map = map(&["a.b", "*.b", "*"]);
        for text in ["A.B", "*.B", "*"] {
            assert!(!map.insert(&pattern(text), "later"));
        }
        assert_eq!((map.get("a.b"), map.get("x.b"), map.get("x")), (Some(&"a.b"), Some(&"*.b"), Some(&"*")));
    }

    #[test]
    fn a_name_longer_than_dns_allows_matches_only_any() {
        let long = format!("{}example.com", "a.".repeat(4000));
        assert_eq!(map(&["*.example.com"]).get(&long), None);
        assert_eq!(map(&["*.example.com", "*"]).get(&long), Some(&"*"));
    }

    #[test]
    fn both_of_two_patterns_is_the_narrower_when_it_is_covered() {
        for (a, b, wanted) in [
            ("*", "*.b", Some("*.b")),
            ("*.b", "a.b", Some("a.b")),
            ("*.b", "*.a.b", Some("*.a.b")),
            ("*.b", "*.B", Some("*.B")),
            ("*.b", "b", None),
            ("*.a.b", "*.c.b", None),
            ("a.b", "c.b", None),
        ] {
            let wanted = wanted.map(pattern);
            assert_eq!(both(&pattern(a), &pattern(b)), wanted, "{a} {b}");
            assert_eq!(both(&pattern(b), &pattern(a)).is_some(), wanted.is_some(), "{b} {a}");
        }
    }

    #[test]
    fn matching_one_pattern_agrees_with_the_map() {
        for host in ["a.b", "A.B.", "x.a.b:80", "b", ".b", "c.b", "a.b.c", "", "[::1]"] {
            for text in ["*", "*.b", "a.b", "*.a.b", "[::1]"] {
                let mut map = HostMap::new();
                map.insert(&pattern(text), ());
                assert_eq!(matches(&pattern(text), host), map.get(host).is_some(), "{text} {host}");
            }
        }
    }
}

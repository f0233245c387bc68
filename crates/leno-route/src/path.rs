//! Conditions on paths and changes of paths, as the Gateway API defines them.
//!
//! A prefix is of whole segments and its final slash does not count: `/a` and `/a/` both match `/a`, `/a/` and `/a/b`,
//! not `/ab`. Paths are compared in their canonical spelling (`leno_model::path`), to which what a rule says is brought
//! too, and without their parameters, since some programs do not see those. In: the path without its query.

use std::borrow::Cow;

use leno_model::path::{EscapedSlashes, canonical};
use leno_model::snapshot::{Name, PathMatch, PathRewrite};

use crate::pattern::{Pattern, PatternError};

/// A compiled [`PathMatch`].
#[derive(Debug, Clone)]
pub(crate) enum PathCondition {
    Exact(Name),
    /// Without its final slash; empty matches every path.
    Prefix(Box<str>),
    Pattern(Pattern),
}

/// The path and query that the destination is asked for: `target` with its path replaced in full, or its first
/// `prefix_len` bytes (see [`crate::Matched`]) replaced by another prefix. The query is kept.
pub fn rewrite_path(rewrite: &PathRewrite, target: &str, prefix_len: usize) -> String {
    let (path, query) = match target.find('?') {
        Some(at) => target.split_at(at),
        None => (target, ""),
    };
    let (start, rest) = match rewrite {
        PathRewrite::Full(full) => (&**full, ""),
        PathRewrite::Prefix(prefix) => (trim_prefix(prefix), path.get(prefix_len..).unwrap_or("")),
    };
    let mut out = String::with_capacity(1 + start.len() + rest.len() + query.len());
    let rooted = if start.is_empty() { rest } else { start }.starts_with('/');
    if !rooted {
        out.push('/');
    }
    out.push_str(start);
    out.push_str(rest);
    out.push_str(query);
    out
}

// === impl PathCondition ===

impl PathCondition {
    pub(crate) fn compile(written: &PathMatch) -> Result<Self, PatternError> {
        Ok(match written {
            PathMatch::Exact(path) => Self::Exact(respelt(path).into_owned().into()),
            PathMatch::Prefix(prefix) => Self::Prefix(trim_prefix(&respelt(prefix)).into()),
            PathMatch::Regex(text) => Self::Pattern(Pattern::compile(text)?),
        })
    }

    /// Whether it speaks of parameters, and so has to see them.
    pub(crate) fn has_parameters(&self) -> bool {
        match self {
            Self::Exact(path) => path.contains(';'),
            Self::Prefix(prefix) => prefix.contains(';'),
            Self::Pattern(pattern) => pattern.text().contains(';'),
        }
    }

    /// How many bytes of the path matched; none when it does not.
    pub(crate) fn matches(&self, path: &str) -> Option<usize> {
        match self {
            Self::Exact(exact) => (**exact == *path).then_some(path.len()),
            Self::Prefix(prefix) => {
                let rest = path.strip_prefix(&**prefix)?;
                let whole_segments = prefix.is_empty() || rest.is_empty() || rest.starts_with('/');
                whole_segments.then_some(prefix.len())
            }
            Self::Pattern(pattern) => pattern.matches(path.as_bytes()).then_some(path.len()),
        }
    }
}

/// A path of a rule as requests spell theirs. One that no request can have stays as it is, and matches nothing.
fn respelt(path: &str) -> Cow<'_, str> {
    match canonical(path.as_bytes(), EscapedSlashes::Keep) {
        Ok(Some(respelt)) => respelt.into(),
        _ => path.into(),
    }
}

/// A prefix without its final slash, which does not count.
pub(crate) fn trim_prefix(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(condition: PathMatch, path: &str) -> Option<usize> {
        PathCondition::compile(&condition).unwrap().matches(path)
    }

    #[test]
    fn a_prefix_is_of_whole_segments() {
        for prefix in ["/abc", "/abc/"] {
            for (path, len) in [
                ("/abc", Some(4)),
                ("/abc/", Some(4)),
                ("/abc/d", Some(4)),
                ("/abcd", None),
                ("/ab", None),
                ("/ABC", None),
            ] {
                assert_eq!(matched(PathMatch::Prefix(prefix.into()), path), len, "{prefix} {path}");
            }
        }
    }

    #[test]
    fn what_a_rule_says_is_brought_to_the_canonical_spelling() {
        assert_eq!(matched(PathMatch::Exact("/caf%c3%a9".into()), "/caf%C3%A9"), Some(10));
        assert_eq!(matched(PathMatch::Prefix("/%61//b/".into()), "/a/b/c"), Some(4));
        assert_eq!(matched(PathMatch::Prefix("/a/../..".into()), "/"), None);
    }

    #[test]
    fn the_prefix_of_one_slash_matches_every_path() {
        for path in ["/", "/a/b", "*", ""] {
            assert_eq!(matched(PathMatch::Prefix("/".into()), path), Some(0), "{path}");
        }
    }

    #[test]
    fn an_exact_path_is_nothing_else() {
        assert_eq!(matched(PathMatch::Exact("/a".into()), "/a"), Some(2));
        assert_eq!(matched(PathMatch::Exact("/a".into()), "/a/"), None);
        assert_eq!(matched(PathMatch::Exact("/a/".into()), "/a"), None);
    }

    // The table of HTTPPathModifier.replacePrefixMatch, and below it what the table leaves open.
    #[test]
    fn a_prefix_is_replaced_as_the_gateway_api_says() {
        for (path, prefix, replacement, wanted) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo/bar?x=/foo", "/foo", "/", "/bar?x=/foo"),
            ("/foo?x=1", "/foo", "/", "/?x=1"),
            ("/foo", "/foo", "/xyz/", "/xyz"),
            ("/a/b", "/", "/xyz", "/xyz/a/b"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "xyz", "/xyz/bar"),
        ] {
            let bare = path.split('?').next().unwrap();
            let len = matched(PathMatch::Prefix(prefix.into()), bare).unwrap();
            let new = rewrite_path(&PathRewrite::Prefix(replacement.into()), path, len);
            assert_eq!(new, wanted, "{path}: {prefix} to {replacement}");
        }
    }

    #[test]
    fn a_full_path_is_replaced_and_the_query_is_kept() {
        let full = |value: &str, target| rewrite_path(&PathRewrite::Full(value.into()), target, 0);
        assert_eq!(full("/new", "/old/x?a=1?b"), "/new?a=1?b");
        assert_eq!(full("", "/old?"), "/?");
        assert_eq!(full("new", "/old"), "/new");
    }
}

//! Conditions on paths and changes of paths, as the Gateway API defines them.
//!
//! A prefix is of whole segments and its final slash does not count: `/a` and `/a/` both match `/a`, `/a/` and `/a/b`,
//! not `/ab`. Paths are compared as sent: with case, without decoding. In: the path without its query.

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
    if !start.starts_with('/') && !(start.is_empty() && rest.starts_with('/')) {
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
            PathMatch::Exact(path) => Self::Exact(path.clone()),
            PathMatch::Prefix(prefix) => Self::Prefix(trim_prefix(prefix).into()),
            PathMatch::Regex(text) => Self::Pattern(Pattern::compile(text)?),
        })
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

/// A prefix without its final slash, which does not count.
pub(crate) fn trim_prefix(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

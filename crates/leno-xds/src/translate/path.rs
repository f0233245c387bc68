//! Paths: what matches them and what they are rewritten to.
//!
//! The model follows the Gateway API, where a prefix is whole segments and a trailing slash means nothing. Envoy
//! replaces the characters that matched: rewriting `/a` to `/` would give `//b`. Those cases become expressions that
//! give what the model means, and are recognised on the way back.

use leno_model::snapshot::{PathMatch, PathRewrite};

use super::{Dialect, TranslateError, unusable};
use crate::messages::core::{MatchPattern, RegexMatchAndSubstitute, RegexMatcher, StringMatcher};
use crate::messages::route::PathSpecifier;

/// Matches every path that can be rewritten.
const WHOLE_PATH: &str = "^/.*$";

/// What Envoy does with a path.
#[derive(Debug, PartialEq)]
pub(super) enum Replace {
    /// Replaces the prefix that matched.
    Prefix(String),
    /// Replaces by expression.
    Regex(RegexMatchAndSubstitute),
}

/// The text as an expression that matches only it.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

/// The expression of a matcher.
pub(super) fn regex(text: impl Into<String>) -> RegexMatcher {
    RegexMatcher { regex: text.into() }
}

/// An expression that matches what `matcher` matches.
pub(super) fn regex_of(matcher: &StringMatcher) -> Result<String, TranslateError> {
    let text = match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) => quote(text),
        Some(MatchPattern::Prefix(text)) => format!("{}.*", quote(text)),
        Some(MatchPattern::Suffix(text)) => format!(".*{}", quote(text)),
        Some(MatchPattern::Contains(text)) => format!(".*{}.*", quote(text)),
        Some(MatchPattern::SafeRegex(regex)) => regex.regex.clone(),
        None => return Err(unusable("string_match", "a kind of match that leno does not have")),
    };
    Ok(if matcher.ignore_case { format!("(?i){text}") } else { text })
}

pub(super) fn match_to(path: &PathMatch, dialect: Dialect) -> PathSpecifier {
    match path {
        PathMatch::Exact(path) => PathSpecifier::Path(path.to_string()),
        PathMatch::Regex(text) => PathSpecifier::SafeRegex(regex(&**text)),
        PathMatch::Prefix(prefix) => match prefix.trim_end_matches('/') {
            "" => PathSpecifier::Prefix("/".to_owned()),
            // Every gRPC path is `/service/method`, and gRPC clients refuse the separated form.
            prefix if dialect == Dialect::Grpc => PathSpecifier::Prefix(format!("{prefix}/")),
            // Envoy refuses these characters in a separated prefix, and one that is a single character.
            prefix if prefix.contains(['?', '#']) || prefix.len() < 2 => {
                PathSpecifier::SafeRegex(regex(format!("{}(/.*)?", quote(prefix))))
            }
            prefix => PathSpecifier::PathSeparatedPrefix(prefix.to_owned()),
        },
    }
}

pub(super) fn match_from(path: Option<PathSpecifier>, case_sensitive: bool) -> Result<PathMatch, TranslateError> {
    let path = path.ok_or_else(|| unusable("match", "a kind of path match that leno does not have"))?;
    let any_case = |text: String| PathMatch::Regex(format!("(?i){text}").into());
    Ok(match path {
        PathSpecifier::Prefix(prefix) if prefix.is_empty() || prefix == "/" => PathMatch::default(),
        PathSpecifier::SafeRegex(regex) => PathMatch::Regex(regex.regex.into()),
        PathSpecifier::Path(path) if !case_sensitive => any_case(quote(&path)),
        PathSpecifier::PathSeparatedPrefix(prefix) if !case_sensitive => any_case(format!("{}(/.*)?", quote(&prefix))),
        PathSpecifier::Prefix(prefix) if !case_sensitive => any_case(format!("{}.*", quote(&prefix))),
        PathSpecifier::Path(path) => PathMatch::Exact(path.into()),
        PathSpecifier::PathSeparatedPrefix(prefix) => PathMatch::Prefix(prefix.into()),
        // A prefix of characters, which the model has no word for.
        PathSpecifier::Prefix(prefix) => PathMatch::Regex(format!("{}.*", quote(&prefix)).into()),
    })
}

pub(super) fn rewrite_to(when: &PathMatch, rewrite: &PathRewrite) -> Replace {
    let replace = |pattern: String, substitution: String| {
        Replace::Regex(RegexMatchAndSubstitute { pattern: Some(regex(pattern)), substitution })
    };
    match (rewrite, when) {
        (PathRewrite::Full(path), _) => replace(WHOLE_PATH.to_owned(), path.replace('\\', r"\\")),
        (PathRewrite::Prefix(to), PathMatch::Prefix(from)) => {
            match (from.trim_end_matches('/'), to.trim_end_matches('/')) {
                ("", to) => Replace::Prefix(format!("{to}/")),
                (from, "") => replace(format!("^{}/?", quote(from)), "/".to_owned()),
                (_, to) => Replace::Prefix(to.to_owned()),
            }
        }
        (PathRewrite::Prefix(to), _) => Replace::Prefix(to.to_string()),
    }
}

pub(super) fn rewrite_from(when: &PathMatch, replace: Replace) -> Result<PathRewrite, TranslateError> {
    let from = match when {
        PathMatch::Prefix(prefix) => Some(prefix.trim_end_matches('/')),
        PathMatch::Exact(_) | PathMatch::Regex(_) => None,
    };
    let regex = match replace {
        Replace::Prefix(to) if from == Some("") && to.len() > 1 => {
            return Ok(PathRewrite::Prefix(to.trim_end_matches('/').into()));
        }
        Replace::Prefix(to) => return Ok(PathRewrite::Prefix(to.into())),
        Replace::Regex(regex) => regex,
    };
    let pattern = regex.pattern.map(|pattern| pattern.regex).unwrap_or_default();
    if pattern == WHOLE_PATH {
        Ok(PathRewrite::Full(regex.substitution.replace(r"\\", r"\").into()))
    } else if regex.substitution == "/" && from.is_some_and(|from| pattern == format!("^{}/?", quote(from))) {
        Ok(PathRewrite::Prefix("/".into()))
    } else {
        Err(unusable("regex_rewrite", "leno rewrites whole paths and prefixes, not by expression"))
    }
}

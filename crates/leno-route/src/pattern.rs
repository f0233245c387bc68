//! Regular expressions of routes: RE2 semantics, matching the whole value, compiled once, small.
//!
//! RE2's classes `\d \s \w \b` are of ASCII, so the expressions are compiled without Unicode and on bytes: what is on
//! the wire need not be UTF-8. `\p{…}` and non-ASCII characters in `[…]` are refused therefore. No backtracking: the
//! time to match is linear in the value.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};

/// The most memory that one compiled expression may take, in bytes.
const COMPILED_MAX: usize = 64 * 1024;

/// The longest expression as text, in bytes.
const TEXT_MAX: usize = 4096;

/// Why an expression was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is longer than any route needs.
    #[error("the regular expression has {0} bytes, at most {TEXT_MAX} are allowed: use several rules")]
    TooLong(usize),
    /// It compiles to an automaton that is too large.
    #[error(
        "the regular expression {0:?} needs more than {COMPILED_MAX} bytes when compiled: use smaller repetitions than {{n,m}}"
    )]
    TooLarge(String),
    /// It is no regular expression of RE2 syntax.
    #[error("{text:?} is not a regular expression (RE2 syntax): {reason}")]
    Syntax {
        /// As written.
        text: String,
        /// What is wrong with it, in one line.
        reason: String,
    },
}

/// A compiled expression that matches a whole value.
#[derive(Clone)]
pub(crate) struct Pattern {
    text: Box<str>,
    regex: Regex,
}

/// Checks that an expression can be compiled, as [`crate::Router::compile`] will.
pub fn check_pattern(text: &str) -> Result<(), PatternError> {
    Pattern::compile(text).map(drop)
}

// === impl Pattern ===

impl Pattern {
    pub(crate) fn compile(text: &str) -> Result<Self, PatternError> {
        if text.len() > TEXT_MAX {
            return Err(PatternError::TooLong(text.len()));
        }
        // First alone, so that `a)(b` is refused and not completed by the parentheses around it.
        build(text, text)?;
        let regex = build(&format!(r"\A(?:{text})\z"), text)?;
        Ok(Self { text: text.into(), regex })
    }

    pub(crate) fn matches(&self, value: &[u8]) -> bool {
        self.regex.is_match(value)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "~{}", self.text)
    }
}

fn build(anchored: &str, text: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(anchored).unicode(false).size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX).build().map_err(
        |error| match error {
            regex::Error::CompiledTooBig(_) => PatternError::TooLarge(text.to_owned()),
            other => {
                let all = other.to_string();
                let last = all.lines().last().unwrap_or_default();
                PatternError::Syntax { text: text.to_owned(), reason: last.trim_start_matches("error: ").to_owned() }
            }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(text: &str, value: &str) -> bool {
        Pattern::compile(text).unwrap().matches(value.as_bytes())
    }

    #[test]
    fn the_whole_value_must_match() {
        assert!(matches("/users/[0-9]+", "/users/42"));
        assert!(!matches("/users/[0-9]+", "/users/42/x"));
        assert!(!matches("/users/[0-9]+", "x/users/42"));
        assert!(matches("a|b", "b"));
        assert!(!matches("a|b", "ab"));
        assert!(!matches("a", "a\n"));
    }

    #[test]
    fn classes_are_of_ascii_and_values_are_bytes() {
        assert!(matches(r"\w+", "abc_1"));
        assert!(!matches(r"\w+", "é"));
        assert!(Pattern::compile("a.*").unwrap().matches(b"a\xff\xfe"));
        assert!(matches("caf(é|e)", "café"));
    }

    #[test]
    fn an_expression_that_only_the_anchors_would_complete_is_refused() {
        assert!(matches!(check_pattern("a)(b"), Err(PatternError::Syntax { .. })));
    }

    #[test]
    fn what_re2_cannot_do_is_refused_with_its_reason() {
        let error = check_pattern("(?=a)").unwrap_err().to_string();
        assert_eq!(
            error,
            "\"(?=a)\" is not a regular expression (RE2 syntax): \
             look-around, including look-ahead and look-behind, is not supported"
        );
    }

    #[test]
    fn an_expression_has_limits_of_text_and_memory() {
        assert_eq!(check_pattern(&"a".repeat(4097)), Err(PatternError::TooLong(4097)));
        assert!(matches!(check_pattern("(a{100}){100}{100}"), Err(PatternError::TooLarge(_))));
        for common in
            [r"[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})*", r"/api/v[0-9]+/.*", r"(?i)^bearer \S+$", r"/\d{4}-\d{2}-\d{2}"]
        {
            assert_eq!(check_pattern(common), Ok(()), "{common}");
        }
    }
}

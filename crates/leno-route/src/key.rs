//! Conditions on fields and query parameters.
//!
//! A field that was sent several times is compared as its values joined by `,`, as Envoy does (the Gateway API leaves
//! it open). Of a query parameter the first counts. Name and value of a parameter are decoded before they are compared
//! (`%20` and `+` are spaces; a `%` that starts no escape stands for itself). Nothing is allocated for values of up to
//! 256 bytes.

use leno_model::snapshot::{KeyMatch, Name, ValueMatch};
use smallvec::SmallVec;

use crate::pattern::{Pattern, PatternError};
use crate::router::FieldLookup;

type Buffer = SmallVec<[u8; 256]>;

/// A compiled [`KeyMatch`].
#[derive(Debug, Clone)]
pub(crate) struct KeyCondition {
    pub(crate) name: Name,
    pub(crate) value: ValueCondition,
}

/// A compiled [`ValueMatch`].
#[derive(Debug, Clone)]
pub(crate) enum ValueCondition {
    Exact(Name),
    Pattern(Pattern),
}

// === impl KeyCondition ===

impl KeyCondition {
    pub(crate) fn compile(written: &KeyMatch) -> Result<Self, PatternError> {
        let value = match &written.value {
            ValueMatch::Exact(value) => ValueCondition::Exact(value.clone()),
            ValueMatch::Regex(text) => ValueCondition::Pattern(Pattern::compile(text)?),
        };
        Ok(Self { name: written.name.clone(), value })
    }

    pub(crate) fn matches_field(&self, fields: &dyn FieldLookup) -> bool {
        with_field(fields, &self.name, |value| value.is_some_and(|value| self.value.matches(value)))
    }

    pub(crate) fn matches_query(&self, query: &str) -> bool {
        with_parameter(query, &self.name, |value| value.is_some_and(|value| self.value.matches(value)))
    }
}

// === impl ValueCondition ===

impl ValueCondition {
    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Pattern(pattern) => pattern.matches(value),
        }
    }
}

/// Calls `use_value` with the value of a field, joined when there are several.
pub(crate) fn with_field<R>(fields: &dyn FieldLookup, name: &str, use_value: impl FnOnce(Option<&[u8]>) -> R) -> R {
    let mut first: Option<&[u8]> = None;
    let mut joined: Option<Buffer> = None;
    fields.each_value(name, &mut |value| match (first, &mut joined) {
        (None, _) => first = Some(value),
        (Some(_), Some(joined)) => {
            joined.push(b',');
            joined.extend_from_slice(value);
        }
        (Some(first), none) => {
            let mut buffer = Buffer::from_slice(first);
            buffer.push(b',');
            buffer.extend_from_slice(value);
            *none = Some(buffer);
        }
    });
    use_value(joined.as_deref().or(first))
}

/// Calls `use_value` with the decoded value of the first parameter of a name. One without `=` has an empty value.
pub fn with_parameter<R>(query: &str, name: &str, use_value: impl FnOnce(Option<&[u8]>) -> R) -> R {
    let found = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| if is_plain(key) { *key == name } else { decoded(key).as_slice() == name.as_bytes() });
    match found {
        None => use_value(None),
        Some((_, value)) if is_plain(value) => use_value(Some(value.as_bytes())),
        Some((_, value)) => use_value(Some(&decoded(value))),
    }
}

fn is_plain(text: &str) -> bool {
    !text.bytes().any(|b| b == b'%' || b == b'+')
}

fn decoded(text: &str) -> Buffer {
    let hex = |at: usize| text.as_bytes().get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut out = Buffer::new();
    let mut at = 0;
    while let Some(&byte) = text.as_bytes().get(at) {
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameter(query: &str, name: &str) -> Option<String> {
        with_parameter(query, name, |value| value.map(|value| String::from_utf8_lossy(value).into_owned()))
    }

    #[test]
    fn the_first_parameter_of_a_name_counts() {
        assert_eq!(parameter("a=1&b=2&a=3", "a").as_deref(), Some("1"));
        assert_eq!(parameter("&&b=2", "b").as_deref(), Some("2"));
        assert_eq!(parameter("a=1=2", "a").as_deref(), Some("1=2"));
        assert_eq!(parameter("a&b", "b").as_deref(), Some(""));
        assert_eq!(parameter("ab=1", "a"), None);
        assert_eq!(parameter("", ""), None);
    }

    #[test]
    fn names_and_values_are_decoded() {
        assert_eq!(parameter("a=b%20c+d", "a").as_deref(), Some("b c d"));
        assert_eq!(parameter("%61%2B=x", "a+").as_deref(), Some("x"));
        assert_eq!(parameter("a=%zz%4", "a").as_deref(), Some("%zz%4"));
        assert_eq!(parameter("a=%C3%A9%", "a").as_deref(), Some("é%"));
        assert_eq!(parameter("a=%é", "a").as_deref(), Some("%é"));
    }
}

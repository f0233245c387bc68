//! Keys, values and their limits.
//!
//! A key is UTF-8 text like a path (`resource/shop/httproute/cart`): people read it in backups and messages. Order
//! is by bytes, as in SQLite and etcd.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Error, LeaseId};

/// The count of changes to the whole store. 0 is the empty one before its first change.
pub type Revision = u64;

/// A key.
pub type Key = Arc<str>;

/// The longest key, in bytes.
pub const KEY_MAX: usize = 1024;

/// The largest value, in bytes: 1.25 MiB.
pub const VALUE_MAX: usize = 1280 * 1024;

/// A key with its value and its past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Key,
    /// The value; empty in the event of a deletion.
    pub value: Bytes,
    /// The revision at which the key appeared, since it was last deleted.
    pub create_revision: Revision,
    /// The revision of the last change.
    pub mod_revision: Revision,
    /// How often it was written since it appeared, from 1 on; 0 in the event of a deletion.
    pub version: u64,
    /// The lease with which it ends.
    pub lease: Option<LeaseId>,
}

/// What stood under a prefix at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The revision at which this was so.
    pub revision: Revision,
    /// The keys, in order.
    pub items: Vec<KeyValue>,
}

pub(crate) fn check_key(key: &str) -> Result<(), Error> {
    match key.len() {
        0 => Err(Error::KeyEmpty),
        1..=KEY_MAX => Ok(()),
        length => Err(Error::KeyTooLong { start: key.chars().take(40).collect(), length }),
    }
}

/// A prefix may also be empty: then it is everybody's.
pub(crate) fn check_prefix(prefix: &str) -> Result<(), Error> {
    if prefix.is_empty() { Ok(()) } else { check_key(prefix) }
}

pub(crate) fn check_value(key: &str, value: &Bytes) -> Result<(), Error> {
    if value.len() > VALUE_MAX {
        return Err(Error::ValueTooLarge { key: key.to_owned(), length: value.len() });
    }
    Ok(())
}

/// The smallest text that is greater than every text with this prefix; none when there is no such text.
///
/// Raising the last character keeps it UTF-8 where raising the last byte would not.
pub(crate) fn prefix_end(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        let next = match u32::from(last) + 1 {
            0xD800 => Some('\u{E000}'),
            code => char::from_u32(code),
        };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_above_all_that_start_with_it() {
        assert_eq!(prefix_end("a/"), Some("a0".to_owned()));
        assert_eq!(prefix_end("a\u{10FFFF}"), Some("b".to_owned()));
        assert_eq!(prefix_end("\u{D7FF}"), Some("\u{E000}".to_owned()));
        assert_eq!(prefix_end(""), None);
        assert_eq!(prefix_end("\u{10FFFF}"), None);
    }

    #[test]
    fn a_key_has_1_to_1024_bytes() {
        assert_eq!(check_key(""), Err(Error::KeyEmpty));
        assert_eq!(check_key(&"k".repeat(KEY_MAX)), Ok(()));
        assert!(matches!(check_key(&"k".repeat(KEY_MAX + 1)), Err(Error::KeyTooLong { length: 1025, .. })));
    }
}

//! Versions are hashes of content: two servers that hold the same resource give it the same version, so a proxy that
//! moves from one to the other is sent nothing that it has.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// A version. Leno's own are 16 hexadecimal digits; those of other servers are any text.
pub type Version = Arc<str>;

/// The version of an encoded resource: the first 64 bits of its SHA-256.
///
/// Not a proof against someone who crafts collisions: whoever could, writes the resource anyway.
pub fn of_bytes(bytes: &[u8]) -> Version {
    format!("{:016x}", first_64_bits(Sha256::new_with_prefix(bytes))).into()
}

/// The version of a set of resources, as state-of-the-world answers carry it: a sum over the members, so that it
/// follows one change without a look at the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetVersion(u64);

// === impl SetVersion ===

impl SetVersion {
    /// The set with one more member.
    pub fn insert(&mut self, name: &str, version: &str) {
        self.0 = self.0.wrapping_add(member(name, version));
    }

    /// The set without a member that was in it.
    pub fn remove(&mut self, name: &str, version: &str) {
        self.0 = self.0.wrapping_sub(member(name, version));
    }
}

impl fmt::Display for SetVersion {
    /// 16 hexadecimal digits; never nothing, which would mean "nothing received yet".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

fn member(name: &str, version: &str) -> u64 {
    let mut digest = Sha256::new();
    for part in [name, version] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    first_64_bits(digest)
}

fn first_64_bits(digest: Sha256) -> u64 {
    let bytes = digest.finalize();
    bytes.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_follow_content() {
        assert_eq!(&*of_bytes(b""), "e3b0c44298fc1c14");
        assert_ne!(of_bytes(b"a"), of_bytes(b"b"));
    }

    #[test]
    fn the_version_of_a_set_depends_on_its_members_and_not_on_how_they_came() {
        let (mut one, mut other) = (SetVersion::default(), SetVersion::default());
        one.insert("a", "1");
        one.insert("b", "2");
        other.insert("b", "2");
        other.insert("c", "3");
        other.insert("a", "1");
        assert_ne!(one, other);
        other.remove("c", "3");
        assert_eq!(one.to_string(), other.to_string());
    }
}

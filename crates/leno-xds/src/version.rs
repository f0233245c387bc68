//! Versions are hashes of content: two servers that hold the same resource give it the same version, so a proxy that
//! moves from one to the other is sent nothing that it has.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest, Sha256};

/// A version. Leno's own are 16 hexadecimal digits; those of other servers are any text.
pub type Version = Arc<str>;

/// The version of an encoded resource: the first 64 bits of its SHA-256.
///
/// Not a proof against someone who crafts collisions: whoever could, writes the resource anyway.
pub fn of_bytes(bytes: &[u8]) -> Version {
    hex(&Sha256::digest(bytes))
}

/// The version of a set of resources, as state-of-the-world answers carry it. The order of `resources` matters.
pub fn of_set<'a>(resources: impl Iterator<Item = (&'a str, &'a str)>) -> Version {
    let mut digest = Sha256::new();
    for (name, version) in resources {
        for part in [name, version] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
    }
    hex(&digest.finalize())
}

fn hex(digest: &[u8]) -> Version {
    let mut text = String::with_capacity(16);
    for byte in &digest[..8] {
        write!(text, "{byte:02x}").expect("writing to a String does not fail");
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_follow_content() {
        assert_eq!(&*of_bytes(b""), "e3b0c44298fc1c14");
        assert_ne!(of_bytes(b"a"), of_bytes(b"b"));
        let one = of_set([("a", "1"), ("b", "2")].into_iter());
        assert_eq!(one, of_set([("a", "1"), ("b", "2")].into_iter()));
        assert_ne!(one, of_set([("a", "1b"), ("", "2")].into_iter()));
    }
}

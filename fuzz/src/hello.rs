//! The first bytes of a connection: which protocol they are of, and the name in a ClientHello.

use leno_proxy::protocol::{HELLO_MAX, ServerName, Sniffed, server_name, sniff};

/// Looks at what has come so far, longer and longer.
///
/// What was said of a beginning stays: more bytes may answer a question that was open, and change nothing else. A name is
/// one that may be looked up.
pub(crate) fn first_bytes(bytes: &[u8]) {
    let (mut sniffed, mut named) = (Sniffed::NeedMore, ServerName::NeedMore);
    // Every length at first, then fewer, as sockets give them.
    let lengths = (0..bytes.len().min(300)).chain((300..bytes.len()).step_by(97)).chain([bytes.len()]);
    for length in lengths {
        let so_far = &bytes[..length];
        let (now_sniffed, now_named) = (sniff(so_far), server_name(so_far));
        assert!(
            sniffed == Sniffed::NeedMore || sniffed == now_sniffed,
            "{sniffed:?}, then {now_sniffed:?} at {length}"
        );
        assert!(named == ServerName::NeedMore || named == now_named, "{named:?}, then {now_named:?} at {length}");
        (sniffed, named) = (now_sniffed, now_named);
    }
    if let ServerName::Name(name) = &named {
        assert!(name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()), "{name:?}");
    }
    assert!(bytes.len() <= 2 * HELLO_MAX || named != ServerName::NeedMore, "it waits for more than it reads");
}

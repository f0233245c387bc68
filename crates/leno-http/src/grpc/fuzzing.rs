//! Frames of gRPC out of whatever bytes come, for `fuzz/`.

use super::message::{self, MESSAGE_MAX};

/// The messages of a body; the first byte says how it is cut.
pub fn grpc_frame(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let whole = message::split(bytes, usize::MAX, MESSAGE_MAX);
    assert_eq!(whole, message::split(bytes, usize::from(*first).max(1), MESSAGE_MAX), "cut into pieces of {first}");
    for message in &whole.0 {
        let frame = message::encode(message).expect("a message that was read is not too long");
        assert_eq!(message::split(&frame, usize::MAX, MESSAGE_MAX), (vec![message.clone()], None));
    }
}

//! HTTP/2 (RFC 9113) on the `h2` crate, with limits set, a meter against floods, and our own messages on either side.
//!
//! ```text
//! Stream ─► meter ─► ::h2 ─► convert ─► RequestHead, Incoming ─► handler (a task for each stream)
//!                       ◄─── convert ◄─ ResponseHead, Outgoing ◄─┘
//! ```
//!
//! `h2` frames, compresses, keeps windows and refuses what RFC 9113 calls malformed; nothing outside this folder sees its
//! types. An own implementation was put off: the protocol's cost is in windows and compression, which `h2` does well.

pub(crate) mod client;
pub(crate) mod convert;
pub(crate) mod keepalive;
pub(crate) mod meter;
pub(crate) mod server;
pub(crate) mod stream;

use crate::error::{Error, ErrorKind, Part, Side};
use crate::limits::Malformed;

/// What the engine's error means.
pub(crate) fn error(error: ::h2::Error, part: Part, side: Side) -> Error {
    use ::h2::Reason;
    let reason = error.reason();
    if let Some(reason) = reason {
        let refused = reason == Reason::REFUSED_STREAM || (error.is_go_away() && reason == Reason::NO_ERROR);
        if error.is_library() && matches!(reason, Reason::PROTOCOL_ERROR | Reason::ENHANCE_YOUR_CALM) {
            return Error::new(Malformed::H2Protocol, side);
        }
        let kind = if error.is_go_away() { ErrorKind::GoAway(reason.into()) } else { ErrorKind::Reset(reason.into()) };
        let ours = Error::new(kind, side);
        return if refused && error.is_remote() && side == Side::Upstream { ours.unprocessed() } else { ours };
    }
    match error.into_io() {
        Some(io) if io.kind() == std::io::ErrorKind::BrokenPipe => Error::new(ErrorKind::Closed(part), side),
        Some(io) => Error::new(ErrorKind::Io(part, io), side),
        None => Error::new(ErrorKind::Dropped, side),
    }
}

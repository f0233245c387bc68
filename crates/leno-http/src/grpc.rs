//! gRPC over HTTP/2: messages with five bytes before them, a status in the trailers, typed clients and servers.
//!
//! ```text
//! Client::unary, Client::open ─► Connection ─► … ─► Router ─► a function for each path
//!      prost messages              length-prefixed frames           status in trailers
//! ```
//!
//! What leno itself speaks (xDS, enrolment, reports) is served and called with this; `tonic` was left out because it
//! brings its own connections, and the data plane only needs [`Status`] and the deadline anyway. No compression:
//! a compressed message is refused as not implemented, and none is announced.

mod client;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod message;
mod server;
mod status;
mod timeout;

pub use client::Client;
pub use message::{MESSAGE_MAX, Sender, Streaming};
pub use server::{Call, Router};
pub use status::{Code, Status};
pub use timeout::{format_timeout, parse_timeout};

/// Whether a message is one of gRPC, by its content type.
pub fn is_grpc(fields: &crate::Fields) -> bool {
    fields.get("content-type").is_some_and(is_content_type)
}

pub(crate) fn is_content_type(value: &[u8]) -> bool {
    value.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

//! HTTP/1.0 and 1.1 (RFC 9112): an own codec without IO, and the connections that drive it.
//!
//! ```text
//! bytes ─► head ─► RequestHead | ResponseHead     decode ─► Data | Trailers | End
//! bytes ◄─ encode ◄─ head, data, trailers         wire: one socket, its buffers and deadlines
//!          server: request after request          client: one exchange after another
//! ```
//!
//! Stricter than the RFC asks where leniency has been a way to smuggle: no bare LF, no folding, one `Content-Length`,
//! `chunked` alone, one `Host`. Field names keep case and order.
//!
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

pub(crate) mod client;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod head;
pub(crate) mod server;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

//! HTTP/2 (RFC 9113), an own implementation: heads are read straight into our messages, and what the streams of a
//! connection write leaves together.
//!
//! ```text
//! Stream ─► receive ─► hpack ─► head ─► RequestHead, Incoming ─► handler (a task for each stream)
//!   ▲          │ core: streams, windows, queue                      │
//!   └─ output ◄┴──────────────── hpack ◄─ head ◄─ ResponseHead, Outgoing
//! ```
//!
//! `core` and everything that it has know no socket and never wait; `shared` drives them. Read in the order of the `mod`
//! lines. The crate `h2` was used before and is what the tests compare with: `docs/decisions/0011-own-http2-engine.md`.

pub(crate) mod client;
mod core;
mod feed;
mod frame;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod head;
mod hpack;
mod meter;
mod output;
mod readers;
mod receive;
pub(crate) mod server;
mod shared;
pub(crate) mod stream;
mod streams;

//! Both ends of xDS v3, the one contract between the control plane and proxies, and the only crate that knows
//! Envoy's messages.
//!
//! ```text
//! leno-control ─ Provide ─► server ─ session (delta | sotw) ─► stream ⇢ client ─ Update (model types) ─► the proxy
//!                             └─ StatusTable ◄── ACK, NACK ───────────────┘
//! ```
//!
//! Invariants: what was encoded once is shared by every subscriber; a version is a hash of content, so that a proxy
//! which moves to another server refetches nothing; a refused version is not sent again until the content changes;
//! a refused update never unseats the last good one.

#![warn(missing_docs)]

// The provider of the tests is shared by those inside and those beside the crate.
#[cfg(test)]
extern crate self as leno_xds;

pub mod honour;
pub mod kind;
pub mod node;
pub mod version;

pub mod messages;

pub mod translate;

pub mod provide;

pub mod status;

mod session;

pub mod delta;
pub mod sotw;

pub mod transport;

pub mod orca;

pub mod server;

pub mod client;

pub use session::{Bounds, Now};

//! The mechanisms below every protocol: sockets and how they are listened on, dialled, relayed, captured and passed on.
//!
//! ```text
//! listen ─► Stream (accepted) ─► origdst: where did it want to go? ─► … leno-http, leno-proxy … ─► dial ─► Stream ─► relay
//!    ▲                                                                                               │
//!    └── namespace: listeners made where a captured program lives ── fds ── sockets made there ◄─────┘
//! ```
//!
//! Read in the order of the `mod` lines. Invariants: this is the only crate of leno with `unsafe`, each use says why it
//! is sound; a descriptor is close-on-exec from birth; nothing waits without a limit that its caller gave; nothing here
//! knows a protocol above TCP but the header with which proxies say whose connection they carry on.

#![warn(missing_docs)]

pub mod address;
pub mod network;
pub mod places;
pub mod queue;
pub mod stream;

mod congestion;
pub mod listen;
pub mod origdst;
pub mod proxy_protocol;

pub mod dial;
pub mod relay;

pub mod fds;
pub mod limits;
pub mod sockets;
pub mod text;

pub mod namespace;

pub use address::{Address, Peer};
pub use network::Network;
pub use stream::Stream;

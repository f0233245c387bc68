//! The request path: from an accepted connection to an endpoint and back.
//!
//! ```text
//! listener ─► connection (protocol) ─► inbound | outbound ─► exchange: route ─► filter ─► pick ─► upstream ─► reply
//!                                                    └──────► opaque: pick ─► upstream ─► relay        │
//!                                                                                              record ◄┘
//! control plane ⇢ subscribe ─► held ─► table ─ lookup ─► (every request)
//! ```
//!
//! Read in the order of the `mod` lines: the path, then the table it reads. Threads: each worker owns its connections,
//! its pool and its listeners' sockets; the control thread builds tables. Only `Arc<Table>` crosses, by swap; a request
//! takes one table and keeps it. Absent on purpose: anything that decides (precedence, defaults, conflicts), which the
//! control plane has done before a table is built.

pub mod listener;
mod connection;
pub mod protocol;
pub mod inbound;
mod outbound;
mod exchange;
mod filter;
mod mirror;
mod opaque;
mod upstream;
mod reply;
mod failure;
mod record;
pub mod worker;

pub mod lookup;
pub mod table;
pub mod cluster;
pub mod held;
pub mod subscribe;
pub mod snapshot_file;

pub use inbound::Application;
pub use listener::{Commands, Key, Purpose};
pub use lookup::{Lookup, tables};
pub use worker::{OutboundDefault, Shared, VirtualNames, Worker};

//! The request path: from an accepted connection to an endpoint and back.
//!
//! ```text
//! listener ─► connection (protocol) ─► inbound | outbound ─► exchange: route ─► filter ─► pick ─► upstream ─► reply
//! udp (datagrams): session ─► pick ─► socket              └──────► opaque: pick ─► upstream ─► relay        │
//!                                                                                              record ◄┘
//! control plane ⇢ subscribe ─► held ─► table ─ lookup ─► (every request)
//! ```
//!
//! Read in the order of the `mod` lines: the path, then the table it reads. Threads: each worker owns its connections,
//! its pool and its listeners' sockets; the control thread builds tables. Only `Arc<Table>` crosses, by swap; a request
//! takes one table and keeps it. Absent on purpose: anything that decides (precedence, defaults, conflicts), which the
//! control plane has done before a table is built.

mod connection;
mod exchange;
mod failure;
mod filter;
pub mod inbound;
pub mod listener;
mod mirror;
mod opaque;
mod outbound;
pub mod outside;
mod payload;
pub mod protocol;
mod proxy_protocol;
mod record;
mod reply;
mod secure;
mod sockets;
mod spread;
pub mod udp;
mod upstream;
pub mod worker;

pub mod answers;
pub mod balancing;
pub mod cluster;
pub mod held;
pub mod injection;
mod load_report;
pub mod lookup;
pub mod overload;
pub mod pressure;
pub mod rate_limit;
pub mod report;
pub mod resilience;
pub mod snapshot_file;
pub mod subscribe;
pub mod table;

pub use inbound::Application;
pub use listener::{Commands, Key, Purpose};
pub use lookup::{Lookup, measure, tables};
pub use proxy_protocol::InFront;
pub use worker::{OutboundDefault, Shared, VirtualNames, Worker};

//! DNS for captured programs: a virtual address for each mesh name, everything else from the upstream resolvers.
//!
//! ```text
//! query ─ server (UDP, TCP) ─ message::parse ─ resolver ─┬─ a mesh name: VirtualAddresses ─► A, AAAA, PTR
//!                                                        └─ any other:   Upstream ─ checked ─► passed on as it came
//! captured connection to 240.1.2.3 ─ VirtualAddresses::name ─► cart.shop
//! ```
//!
//! Modules in reading order: [`message`] reads queries and writes answers, [`address`] gives names their addresses,
//! [`upstream`] asks others and trusts nothing they say, [`resolver`] decides, [`server`] moves packets.
//!
//! Invariants: no packet makes it panic, and an answer is never answered; a name below `mesh` never leaves the
//! machine; an answer from outside that holds a virtual address is refused, so nobody outside can lead a program into
//! the mesh; an UDP answer has at most 1,232 bytes.
//!
//! Absent on purpose: recursion, a cache (the resolvers behind have one), zones, DNSSEC validation (passed through).

#![warn(missing_docs)]

pub mod message;

pub mod address;
pub mod upstream;

pub mod resolver;

pub mod server;

pub use address::VirtualAddresses;
pub use resolver::{Answer, Names, Options, Resolver};
pub use upstream::{ResolvConf, Upstream};

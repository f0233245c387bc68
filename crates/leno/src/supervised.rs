//! What the supervisor of `leno run` and its proxy tell each other, over the proxy's standard input.
//!
//! The supervisor keeps a duplicate of every descriptor, so that a proxy that dies is replaced without a connection being
//! refused.
//!
//! ```text
//! supervisor ─ take [names] ─────► proxy      listeners made in the program's namespace, the channel for sockets there
//!            ◄───── started ─────             accepts what the program sends
//!            ─ ports [port] ─────►            the program listens: accept for it, register it
//!            ◄── ready | waiting ─            registered, or why not yet
//!            ─ drain ────────────►            no new requests; the registry knows
//!            ◄───── drained ─────             open requests are done, or their time is over
//! ```

use std::net::SocketAddr;

use leno_model::instance::Protocol;
use serde::{Deserialize, Serialize};

use crate::line::Spoken;

/// What the two tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Message {
    /// Descriptors, in this order.
    Take(Vec<Handed>),
    /// The program listens here; each comes with the socket at which the proxy accepts for it.
    Ports(Vec<ProgramPort>),
    /// Finish.
    Drain,
    /// The proxy accepts what the program sends.
    Started,
    /// The instance is registered, or there is nothing to register.
    Ready,
    /// It is not registered yet, and why.
    Waiting(String),
    /// Everything is finished.
    Drained,
}

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Handed {
    /// Accepts redirected connections.
    Outbound,
    /// Receives DNS queries.
    DnsUdp,
    /// Accepts DNS queries.
    DnsTcp,
    /// Makes sockets in the namespace.
    Sockets,
}

/// A port of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramPort {
    /// The port that the service is known by.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where the program listens.
    pub address: SocketAddr,
}

// === impl Message ===

impl Spoken for Message {
    fn descriptors(&self) -> usize {
        match self {
            Self::Take(handed) => handed.len(),
            Self::Ports(ports) => ports.len(),
            _ => 0,
        }
    }
}

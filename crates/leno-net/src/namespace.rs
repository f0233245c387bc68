//! Capture without root: a program runs in a network namespace of its own, whose every TCP connection and DNS query
//! arrives at listeners that leno holds.
//!
//! ```text
//! supervisor (host's network)                    │ inside (own user and network namespace)
//!   start() ── /proc/self/exe __inside … ───────►│ inside(): enter ─► loopback, routes ─► nft ─► listeners
//!   Captured { outbound, dns, host_ports } ◄─────│   descriptors
//!   Program::go() ──────────────────────────────►│   start CMD in a process group of its own
//!   Program::{signal, wait} ◄────────────────────│   wait for CMD; forward signals; job control of the terminal
//!   NamespaceDial ◄──────────────────────────────│   socket agent: makes sockets here on demand
//! ```
//!
//! The inside part is a process of its own, the same program executed again, because a user namespace can only be
//! entered by a process with one thread. The proxy stays in the host's network and reaches the world as always. There is
//! no veth, no address plan and nothing to clean up: the rules die with the namespace.
//!
//! The user is mapped to itself, not to root (PostgreSQL refuses root); the capability to set rules is made ambient only
//! while `nft` runs. A real root needs no user namespace and gets none, so that its programs can still change users.
//! IPv4 and IPv6 are redirected alike; connections to loopback stay inside, except the host ports that were asked for,
//! which lead to the host's loopback through a listener inside. The program sees the host's addresses as its own. UDP other than DNS reaches nothing. Sockets made by the
//! agent carry a mark that exempts them from the rules.
//!
//! Rejected: proxy variables (Node and Java ignore them), LD_PRELOAD (static programs ignore it), a veth pair (needs root
//! outside), `ip` (a few netlink messages do the same without another program).

use std::ffi::OsString;
use std::io;

mod agent;
mod check;
mod enter;
mod host;
mod inside;
mod netlink;
mod outside;
mod rules;
pub(crate) mod wire;

pub use check::{Why, check};
pub use inside::inside;
pub use outside::{Captured, HostPort, LocalFuture, Program, forward_host_port, start};

/// Host ports that one program can be given.
pub const HOST_PORTS_MAX: usize = 64;

/// How a program is captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// Where every redirected TCP connection arrives inside.
    pub outbound_port: u16,
    /// Where every redirected DNS query arrives inside.
    pub dns_port: u16,
    /// Ports of the host's loopback that the program reaches at its own.
    pub host_ports: Vec<u16>,
}

/// The program to run, as it was written on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Looked up in PATH when it has no slash.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// The process that watched it is gone, and how it ended is not known.
    Lost,
}

/// What went wrong inside, told outside.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The machine forbids it; [`Why`] has the fix.
    #[error(transparent)]
    Impossible(#[from] Why),
    /// One step did not work.
    #[error("capture: {step}: {source}")]
    Step {
        /// What was being done.
        step: String,
        /// What came of it.
        source: io::Error,
    },
    /// The program could not be executed.
    #[error("execute {program}: {source}")]
    Execute {
        /// The program's name as given.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The process inside went away without a word.
    #[error("the capturing process ended while {0}")]
    Gone(&'static str),
    /// The process inside did not answer in time.
    #[error("the capturing process did not answer within {0} s while {1}")]
    Silent(u64, &'static str),
}

// === impl Capture ===

impl Default for Capture {
    fn default() -> Self {
        Capture { outbound_port: 15001, dns_port: 15053, host_ports: Vec::new() }
    }
}

// === impl Ended ===

impl Ended {
    /// The status that a shell shows: the program's own, or 128 and the signal's number.
    pub fn status(self) -> i32 {
        match self {
            Ended::Exited(status) => status,
            Ended::Killed(signal) => 128 + signal,
            Ended::Lost => 125,
        }
    }
}

// === impl CaptureError ===

impl CaptureError {
    /// The exit status for it under `leno run`, as `env` and `timeout` have it: 127 when the program was not found, 126
    /// when it could not be executed, 125 for everything of leno's own.
    pub fn status(&self) -> i32 {
        match self {
            CaptureError::Execute { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            CaptureError::Execute { .. } => 126,
            _ => 125,
        }
    }

    pub(crate) fn step(step: impl Into<String>, source: impl Into<io::Error>) -> Self {
        CaptureError::Step { step: step.into(), source: source.into() }
    }
}

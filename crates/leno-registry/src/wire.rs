//! Enrolment over gRPC: the service `leno.mesh.v1.Registry`, by which proxies register what runs beside them.
//!
//! ```text
//! proxy ─ Register ─► server      an instance, or what has become of it
//!       ─ Renew ────►             many ids in one call; the answer names those that must register again
//!       ─ SetStatus ►             starting, up, draining
//!       ─ Deregister►
//! ```
//!
//! One call renews all instances of a proxy, and a whole node's where one process keeps them: a renewal costs some
//! bytes, not a request. [`messages`] are written by hand and equal to this:
//!
//! ```proto
//! service Registry {
//!   rpc Register(RegisterRequest) returns (RegisterResponse);
//!   rpc Renew(RenewRequest) returns (RenewResponse);
//!   rpc Deregister(DeregisterRequest) returns (DeregisterResponse);
//!   rpc SetStatus(SetStatusRequest) returns (SetStatusResponse);
//! }
//! ```

pub mod messages;

mod convert;

pub mod server;

use crate::Error;

/// The full name of the service.
pub const SERVICE: &str = "leno.mesh.v1.Registry";

/// The most instances that one call renews.
pub const RENEW_MAX: usize = 10_000;

/// The source of what is registered here, unless it names its own.
pub const SOURCE: &str = "run";

/// Why a call was refused: what a gRPC status says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The code, as gRPC numbers them.
    pub code: Code,
    /// What is wrong and what to do.
    pub message: String,
}

/// The codes of gRPC that this service answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// A field breaks a rule.
    InvalidArgument = 3,
    /// No such instance: register it.
    NotFound = 5,
    /// The id belongs to another source.
    AlreadyExists = 6,
    /// A limit is reached.
    ResourceExhausted = 8,
    /// Try again.
    Unavailable = 14,
}

// === impl Refused ===

impl Refused {
    pub(crate) fn invalid(field: &str, problem: impl std::fmt::Display, fix: &str) -> Self {
        Self { code: Code::InvalidArgument, message: format!("{field}: {problem} ({fix})") }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let code = match error.code() {
            "invalid" => Code::InvalidArgument,
            "not_found" => Code::NotFound,
            "conflict" => Code::AlreadyExists,
            "limit" | "disk_full" => Code::ResourceExhausted,
            _ => Code::Unavailable,
        };
        Self { code, message: format!("{error} ({})", error.fix()) }
    }
}

#[cfg(test)]
mod tests;

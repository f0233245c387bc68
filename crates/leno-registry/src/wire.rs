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

pub mod client;
pub mod server;

pub use client::Client;
use leno_http::grpc::{Code, Status};

use crate::Error;

/// The full name of the service.
pub const SERVICE: &str = "leno.mesh.v1.Registry";

/// The most instances that one call renews.
pub const RENEW_MAX: usize = 10_000;

/// The source of what is registered here, unless it names its own.
pub const SOURCE: &str = "run";

const REGISTER: &str = "/leno.mesh.v1.Registry/Register";
const RENEW: &str = "/leno.mesh.v1.Registry/Renew";
const DEREGISTER: &str = "/leno.mesh.v1.Registry/Deregister";
const SET_STATUS: &str = "/leno.mesh.v1.Registry/SetStatus";

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = match error.code() {
            "invalid" => Code::InvalidArgument,
            "not_found" => Code::NotFound,
            "conflict" => Code::AlreadyExists,
            "limit" | "disk_full" => Code::ResourceExhausted,
            _ => Code::Unavailable,
        };
        Status::new(code, format!("{error} ({})", error.fix()))
    }
}

/// The refusal of a field that says what it cannot.
fn invalid(field: &str, problem: impl std::fmt::Display, fix: &str) -> Status {
    Status::new(Code::InvalidArgument, format!("{field}: {problem} ({fix})"))
}

#[cfg(test)]
mod tests;

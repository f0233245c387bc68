//! What goes wrong on purpose with requests to a destination.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Match, Name};

/// What goes wrong with requests to a service; nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Injections {
    /// The service, `cart.shop`: with it a fault's name is unique.
    #[serde(default)]
    pub service: String,
    /// The first that is for a request counts.
    #[serde(default)]
    pub faults: Vec<Injection>,
    /// How many requests are delayed and answers slowed down at once.
    #[serde(default)]
    pub active_max: u32,
}

/// What goes wrong with some requests, each part drawn for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injection {
    /// Its name in its service.
    pub name: Name,
    /// For which requests it is, any of these; every request where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Match>,
    /// They wait before they are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// They are answered in place of an endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,
    /// The bodies of their answers come slowly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
}

/// A wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// How long.
    pub time: Duration,
    /// Of a million requests, how many.
    pub of_million: u32,
}

/// An answer in place of an endpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// Its status.
    pub with: AbortWith,
    /// Of a million requests, how many.
    pub of_million: u32,
}

/// The status of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AbortWith {
    /// Of HTTP, 400 to 599.
    Http(u16),
    /// Of gRPC, 1 to 16.
    Grpc(u8),
}

/// How slowly a body comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// KiB in a second, at least 1.
    pub kib_per_second: u32,
    /// Of a million requests, how many.
    pub of_million: u32,
}

// === impl Injections ===

impl Injections {
    /// Whether nothing goes wrong.
    pub fn is_none(&self) -> bool {
        self.faults.is_empty()
    }
}

// === impl AbortWith ===

impl AbortWith {
    /// The status of HTTP that it is, or that says the same as its status of gRPC (as Envoy has it).
    pub fn http(self) -> u16 {
        let status = match self {
            Self::Http(status) => return status,
            Self::Grpc(status) => status,
        };
        match status {
            1 => 499,
            3 | 9 | 11 => 400,
            4 => 504,
            5 => 404,
            6 | 10 => 409,
            7 => 403,
            8 => 429,
            12 => 501,
            14 => 503,
            16 => 401,
            _ => 500,
        }
    }
}

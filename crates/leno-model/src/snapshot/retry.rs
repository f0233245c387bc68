//! What is sent more than once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Name;

/// Retries asked for by policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Tries after the first.
    pub attempts: u32,
    /// Statuses that are tried again.
    pub codes: Vec<u16>,
    /// Kinds of failures that are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<RetryOn>,
    /// The methods of requests that may be sent again though somebody may have acted upon them. None is every method where
    /// an answer came, and those that are idempotent where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<Name>>,
    /// The shortest wait between two tries; doubled each time, with jitter.
    pub backoff: Duration,
    /// The longest.
    #[serde(default = "backoff_max")]
    pub backoff_max: Duration,
    /// The longest wait that an answer may ask for; zero has none asked.
    #[serde(default)]
    pub retry_after_max: Duration,
    /// What is sent beside a try that is waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
}

/// Tries beside one that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hedge {
    /// After so long.
    pub delay: Duration,
    /// So many at most.
    pub attempts: u32,
    /// Of requests of these methods.
    pub methods: Vec<Name>,
}

/// A kind of failure that is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetryOn {
    /// An answer of 500 to 599, or none (no connection, a reset, a try that took too long).
    #[serde(rename = "5xx")]
    ServerError,
    /// An answer of 502, 503 or 504, or none.
    GatewayError,
    /// No connection.
    ConnectFailure,
    /// A refused stream of HTTP/2, or whatever else says that nothing of the request was processed.
    RefusedStream,
    /// A connection or stream that ended, or a try that took too long, before an answer.
    Reset,
    /// An answer of 409.
    #[serde(rename = "retriable-4xx")]
    Retriable4xx,
    /// A call of gRPC that ends with `CANCELLED` and without a message.
    Cancelled,
    /// A call of gRPC that ends with `DEADLINE_EXCEEDED` and without a message, or a try of one that took too long.
    DeadlineExceeded,
    /// A call of gRPC that ends with `INTERNAL` and without a message.
    Internal,
    /// A call of gRPC that ends with `RESOURCE_EXHAUSTED` and without a message.
    ResourceExhausted,
    /// A call of gRPC that ends with `UNAVAILABLE` and without a message, or gets no answer.
    Unavailable,
}

/// How many retries a cluster may get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RetryBudget {
    /// For each hundred requests.
    pub percent: u32,
    /// In a second in any case.
    pub min_per_second: u32,
    /// The time of which the share is taken, in whole seconds.
    pub window: Duration,
}

// === impl Retry ===

impl Retry {
    /// Whether a request of this method may be sent again though somebody may have acted upon it.
    pub fn repeats(&self, method: &str, answered: bool) -> bool {
        match &self.methods {
            Some(methods) => methods.iter().any(|own| **own == *method),
            None => answered || IDEMPOTENT.contains(&method),
        }
    }
}

impl Default for Retry {
    /// One try after the first, of nothing.
    fn default() -> Self {
        Self {
            attempts: 1,
            codes: Vec::new(),
            on: Vec::new(),
            methods: None,
            backoff: Duration::from_millis(25),
            backoff_max: backoff_max(),
            retry_after_max: Duration::ZERO,
            hedge: None,
        }
    }
}

fn backoff_max() -> Duration {
    Duration::from_secs(10)
}

/// Methods that RFC 9110, section 9.2.1, calls safe.
pub const SAFE: [&str; 4] = ["GET", "HEAD", "OPTIONS", "TRACE"];
/// Methods of which RFC 9110, section 9.2.2, says that twice is as once.
pub const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];

// === impl RetryOn ===

impl RetryOn {
    /// All of them, in their order.
    pub const ALL: [Self; 11] = [
        Self::ServerError,
        Self::GatewayError,
        Self::ConnectFailure,
        Self::RefusedStream,
        Self::Reset,
        Self::Retriable4xx,
        Self::Cancelled,
        Self::DeadlineExceeded,
        Self::Internal,
        Self::ResourceExhausted,
        Self::Unavailable,
    ];

    /// Envoy's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerError => "5xx",
            Self::GatewayError => "gateway-error",
            Self::ConnectFailure => "connect-failure",
            Self::RefusedStream => "refused-stream",
            Self::Reset => "reset",
            Self::Retriable4xx => "retriable-4xx",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Internal => "internal",
            Self::ResourceExhausted => "resource-exhausted",
            Self::Unavailable => "unavailable",
        }
    }

    /// The status of gRPC that it names.
    pub fn grpc_status(self) -> Option<u8> {
        match self {
            Self::Cancelled => Some(1),
            Self::DeadlineExceeded => Some(4),
            Self::ResourceExhausted => Some(8),
            Self::Internal => Some(13),
            Self::Unavailable => Some(14),
            _ => None,
        }
    }

    /// Whether it names an answer of this status.
    pub fn names_status(self, status: u16) -> bool {
        match self {
            Self::ServerError => (500..600).contains(&status),
            Self::GatewayError => (502..=504).contains(&status),
            Self::Retriable4xx => status == 409,
            _ => false,
        }
    }
}

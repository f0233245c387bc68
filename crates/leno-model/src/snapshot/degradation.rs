//! What is answered where a cluster does not.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{DirectReply, Name, RetryOn};

/// When something stands in for an answer, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandIn {
    /// After what.
    pub on: Vec<FallbackOn>,
    /// What has failed.
    pub failures: Vec<RetryOn>,
    /// Statuses of answers that have failed too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<u16>,
    /// The cluster that is asked once instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Name>,
    /// How long beyond its time what it answered before may be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<Duration>,
    /// What is answered where that does not help, or there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<DirectReply>,
}

/// Which answers are kept or shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// They are given again as long as they are good.
    pub cache: bool,
    /// How long beyond their time they are kept, for when nothing better comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<Duration>,
    /// Bytes of all that is kept.
    pub bytes_max: u64,
    /// Bytes of one body.
    pub body_max: u64,
    /// Keys under which something is kept.
    pub entries_max: u32,
    /// Those that ask for the same at once share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapse: Option<Collapse>,
}

/// Requests that share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collapse {
    /// How many wait for one answer.
    pub waiting_max: u32,
    /// How long one waits.
    pub wait_max: Duration,
}

/// Why a service gave no answer that is any good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FallbackOn {
    /// The request was refused: by a limit of the caller or of the service, by a bulkhead, by `admission`, by an instance
    /// that sheds.
    Refused,
    /// Nobody was asked: a breaker is open, or no instance takes requests.
    Open,
    /// Somebody was asked, and it failed.
    Failed,
}

// === impl FallbackOn ===

impl FallbackOn {
    /// All of them, in their order.
    pub const ALL: [Self; 3] = [Self::Refused, Self::Open, Self::Failed];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Open => "open",
            Self::Failed => "failed",
        }
    }
}

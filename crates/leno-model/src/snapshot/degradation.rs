//! What is answered where a cluster does not.

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
    /// What is answered where that does not help, or there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<DirectReply>,
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

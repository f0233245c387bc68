//! What matters most when there is more to do than can be done.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Match;
pub use crate::resource::overload::Priority;

/// Which requests have a priority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorityRule {
    /// The priority.
    pub priority: Priority,
    /// Any of these; every request where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Match>,
}

/// How the proxy beside an instance sheds what that cannot do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shedding {
    /// How many requests may be open in any case.
    pub min: u32,
    /// How many at most.
    pub max: u32,
    /// How much longer than the shortest time an answer may take, in percent.
    pub tolerance: u32,
    /// How long a request waits for room.
    pub wait: Duration,
}

/// What a caller does not even send. Shares are percentages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// How many are sent for each one that is done.
    pub factor: u32,
    /// The time whose requests count.
    pub window: Duration,
    /// The requests in it below which nothing is held back.
    pub requests_min: u32,
}

/// What the proxy beside an instance does where there is too much for it; nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Overload {
    /// The priorities of requests that come without one, the first that is for a request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<PriorityRule>,
    /// How it sheds. Default not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shedding: Option<Shedding>,
}

// === impl Overload ===

impl Overload {
    /// Whether it does nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

// === impl Priority ===

impl Priority {
    /// Every one, the highest first.
    pub const ALL: [Self; 4] = [Self::CriticalPlus, Self::Critical, Self::SheddablePlus, Self::Sheddable];

    /// As it stands in a field.
    pub fn text(self) -> &'static str {
        match self {
            Self::CriticalPlus => "critical-plus",
            Self::Critical => "critical",
            Self::SheddablePlus => "sheddable-plus",
            Self::Sheddable => "sheddable",
        }
    }

    /// What a field says, if it says one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.text().as_bytes() == text)
    }
}

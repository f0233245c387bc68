//! What keeps trouble with a cluster from spreading.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Admission, Answers, PriorityRule, RetryBudget, StandIn};

/// What keeps trouble with a cluster from spreading; nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Resilience {
    /// How much of it one proxy uses at once.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// When an endpoint is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejection: Option<Ejection>,
    /// When it is not asked at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
    /// The state in which its breaker is held. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker_forced: Option<ForcedState>,
    /// How many retries it may get. Default: a fifth of its requests, and three in a second in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_budget: Option<RetryBudget>,
    /// The priorities of requests that come without one, the first that is for a request. Default that of all requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<PriorityRule>,
    /// What is not even sent to it. Default nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<Admission>,
    /// What is answered where it does not. Default nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stand_in: Option<Box<StandIn>>,
    /// Which of its answers are kept or shared. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Box<Answers>>,
}

/// How much of a cluster one proxy uses at once; without limit by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits {
    /// Requests that are open at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
    /// Requests that wait while so many are open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// Retries that are open at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Connections that are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Requests that wait for one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<u32>,
}

/// Requests that wait for others to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// How many wait at most.
    pub size: u32,
    /// How long one waits at most.
    pub timeout: Duration,
}

/// When an endpoint is left out, and for how long. Shares are percentages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ejection {
    /// After so many failures in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_errors: Option<u32>,
    /// After so many failures of a gateway's in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_gateway_errors: Option<u32>,
    /// After so many failures in a row in which no answer came; those count for themselves then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_local_errors: Option<u32>,
    /// When this share of answers failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<u32>,
    /// When this share of answers was slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_ratio: Option<u32>,
    /// What slow is.
    pub slow_after: Duration,
    /// The time of which shares are taken, and for which one ejection is remembered.
    pub window: Duration,
    /// The answers in a window below which there is no share.
    pub requests_min: u32,
    /// How long the first ejection lasts; each further one is longer by as much.
    pub base_time: Duration,
    /// How long one lasts at most.
    pub time_max: Duration,
    /// The share of endpoints that are out at most; one of several may always be, the last one only with 100.
    pub share_max: u32,
}

/// When a cluster is not asked at all, and for how long. Shares are percentages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// When this share of requests failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_ratio: Option<u32>,
    /// When this share of requests was slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_ratio: Option<u32>,
    /// What slow is.
    pub slow_after: Duration,
    /// After so many failures in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive: Option<u32>,
    /// After so many failures in a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// The time of which shares are taken.
    pub window: Duration,
    /// The steps in which it rolls; with one it is emptied at its end.
    pub buckets: u32,
    /// The requests in a window below which there is no share.
    pub requests_min: u32,
    /// How long it is open before it is tried.
    pub open: Duration,
    /// The probes that decide.
    pub probes: u32,
    /// Shares and numbers have to be exceeded, and not only reached.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub above: bool,
}

/// A state in which a breaker is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ForcedState {
    /// Nothing passes.
    Open,
    /// Everything does, and nothing is counted.
    Closed,
}

// === impl Resilience ===

impl Resilience {
    /// Whether there is nothing of it.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

// === impl Limits ===

impl Limits {
    /// Whether there is no limit.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

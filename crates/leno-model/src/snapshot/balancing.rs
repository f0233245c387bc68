//! What a cluster's balancing does beside choosing by its policy.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Name;

/// What balancing does beside choosing by its policy; nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Balancing {
    /// Percentage of endpoints: when fewer can take requests, all get some. 0 is never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub panic_threshold: u32,
    /// How endpoints that are new come to their share. Default at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<SlowStart>,
    /// Whether localities have shares, by their weights, before endpoints have theirs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub weighted_localities: bool,
    /// Places in the table of Maglev, a prime. Default 65,537.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_size: Option<u32>,
    /// Which endpoints are for a request that says so. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsets: Option<Subsets>,
    /// How reports of load become weights, of weighted round robin. Default [`LoadReports::DEFAULT`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_reports: Option<LoadReports>,
    /// What an endpoint is chosen by, where the policy is an expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<Expression>,
}

/// A number for each endpoint, as somebody wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expression {
    /// What the number is.
    pub gives: Gives,
    /// As [`crate::expression`] reads it.
    pub text: Name,
}

/// What an expression gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Gives {
    /// A share of requests.
    Weight,
    /// A cost: the lesser of two drawn by weight is chosen.
    Cost,
    /// A cost: the least of all is chosen.
    CostOfAll,
}

/// How what endpoints report of their load becomes weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadReports {
    /// An endpoint has to report for so long before its reports count.
    pub blackout: Duration,
    /// One that has not reported for so long counts as one that does not.
    pub expiration: Duration,
    /// How often weights are found anew.
    pub update: Duration,
    /// In hundredths: a share of errors counts as so much utilization.
    pub error_penalty: u32,
}

/// Which endpoints are for a request, by a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subsets {
    /// The label.
    pub label: Name,
    /// Who takes what no subset is for.
    pub fallback: Fallback,
}

/// Who takes a request that no subset is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fallback {
    /// Any endpoint.
    Any,
    /// None.
    Nobody,
    /// Those with this value of the label.
    To(Name),
}

/// How endpoints that are new come to their share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowStart {
    /// How long it takes.
    pub window: Duration,
    /// In hundredths: the part of the share is the part of the window to the power of 1 / this.
    pub aggression: u32,
    /// Percentage of the share that an endpoint begins with.
    pub share_min: u32,
}

// === impl LoadReports ===

impl LoadReports {
    /// gRPC's and Envoy's defaults.
    pub const DEFAULT: Self = Self {
        blackout: Duration::from_secs(10),
        expiration: Duration::from_secs(180),
        update: Duration::from_secs(1),
        error_penalty: 100,
    };
}

// === impl Balancing ===

impl Balancing {
    /// Whether it does nothing.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

//! What a cluster's balancing does beside choosing by its policy.

use std::time::Duration;

use serde::{Deserialize, Serialize};

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

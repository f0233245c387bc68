//! How many requests are taken in a time, and of whom.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Match, Name};

/// The limits of a service that one proxy holds; none by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RateLimits {
    /// The service, `cart.shop`: with it a limit's name is unique.
    #[serde(default)]
    pub service: String,
    /// The limits, as written.
    #[serde(default)]
    pub limits: Vec<RateLimit>,
}

/// A limit on requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Its name in its service.
    pub name: Name,
    /// For which requests it is, any of these; every request where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Match>,
    /// What tells requests apart that are counted apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<KeySource>,
    /// How many keys are told apart.
    #[serde(default)]
    pub keys: u32,
    /// How it counts.
    pub form: RateForm,
    /// How proxies count together; each for itself where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<RateShared>,
    /// How answers tell what is left.
    #[serde(default)]
    pub tell: RateTell,
}

/// How proxies count a limit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateShared {
    /// The numbers are of each proxy.
    #[serde(default)]
    pub per_proxy: bool,
    /// What a proxy does while no server answers.
    #[serde(default)]
    pub fallback: RateFallback,
}

/// What a proxy does while no server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RateFallback {
    /// It holds its part.
    #[default]
    Share,
    /// It holds the whole.
    Local,
    /// It lets everything through.
    Allow,
    /// It lets nothing through.
    Deny,
}

/// A part of what tells requests apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeySource {
    /// The service that calls.
    Caller,
    /// All values of a field; lower case.
    Header(Name),
    /// The first cookie of this name.
    Cookie(Name),
    /// The first parameter of this name in the query.
    Query(Name),
    /// The path without its query.
    Path,
    /// The caller's address, without its port.
    SourceAddress,
}

/// How requests are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RateForm {
    /// A token bucket.
    Bucket {
        /// How many come back in a time.
        rate: Rate,
        /// How many there are at most.
        burst: u32,
        /// How it takes fewer while it is cold.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warm_up: Option<WarmUp>,
    },
    /// A sliding window.
    Window(Rate),
    /// A queue out of which one goes at equal distances.
    Queue {
        /// How many go in a time.
        rate: Rate,
        /// How long one waits at most.
        timeout: Duration,
        /// How fewer go while it is cold.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warm_up: Option<WarmUp>,
    },
    /// So many open at once.
    Concurrency(u32),
    /// So many in a period, which the server counts.
    Quota {
        /// How many.
        requests: u32,
        /// In which time.
        per: Period,
    },
}

/// How long a quota lasts, by UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Period {
    /// A day.
    Day,
    /// A month.
    Month,
}

/// So many in a time; neither is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many.
    pub requests: u32,
    /// In which time.
    pub per: Duration,
}

/// How a limit rises while it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmUp {
    /// How long that takes under full use.
    pub period: Duration,
    /// How many times fewer are taken when it is cold.
    pub cold_factor: u32,
}

/// How answers tell what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RateTell {
    /// They do not.
    #[default]
    Nothing,
    /// `RateLimit-Policy` and `RateLimit`.
    RateLimit,
    /// `x-ratelimit-*`.
    XRateLimit,
}

// === impl RateLimits ===

impl RateLimits {
    /// Whether there is no limit.
    pub fn is_none(&self) -> bool {
        self.limits.is_empty()
    }
}

// === impl Rate ===

impl Rate {
    /// The time from one to the next, at equal distances.
    pub fn distance(&self) -> Duration {
        self.per / self.requests.max(1)
    }
}

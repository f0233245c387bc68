//! The collector: what all proxies counted, together, for the last hour.
//!
//! ```text
//! proxy ─ Report (cumulative) ─► ingest: the difference to the last one ─► store: tallies by edge, 5 s each, 1 h
//!                                                                             │
//! dashboard ◄── query: edges, services, series, proxies, for a window ◄───────┘
//! ```
//!
//! Modules in reading order: [`ingest`] takes reports and finds restarts, [`store`] keeps tallies, [`query`] adds them up,
//! [`policy`] keeps how policies stand, [`wire`] carries reports from proxies to the server.
//!
//! All but [`wire`] is pure: time comes in with each call, nothing waits, locks or does IO. Invariants: a report that arrives twice,
//! late or after a restart of either side never counts anything twice; memory is bounded by [`Limits`] whatever
//! proxies send; what exceeds a limit is counted into one edge called `overflow`.
//!
//! Absent on purpose: longer history (that is Prometheus' work), alerts, and traces (they come with their own store).

#![warn(missing_docs)]

pub mod ingest;

pub mod store;

pub mod query;

pub mod policy;

pub mod wire;

pub use ingest::{Collector, Taken};
pub use policy::{PolicyCounts, PolicyView, ServicePolicies};
pub use query::{EdgeView, Latency, Outcomes, Point, ProxyView, ServiceView, VersionView};

use std::time::Duration;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Edges with tallies. Default 5,000; an edge that is busy for the whole hour costs about 100 kB.
    pub edges: usize,
    /// Edges that one proxy reports. Default 2,000, as many as a proxy counts.
    pub edges_per_proxy: usize,
    /// Proxies. Default 50,000.
    pub proxies: usize,
    /// States of policies, of all proxies. Default 20,000, which cost at most 50 MB; most proxies have a few.
    pub policies: usize,
    /// How long tallies are kept. Default 1 h.
    pub keep: Duration,
    /// How long a proxy that reports no more is shown. Default 10 min.
    pub proxy_shown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            edges: 5_000,
            edges_per_proxy: 2_000,
            proxies: 50_000,
            policies: 20_000,
            keep: Duration::from_secs(3_600),
            proxy_shown: Duration::from_secs(600),
        }
    }
}

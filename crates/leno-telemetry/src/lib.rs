//! Recording: what happened to requests and connections, as numbers and as lines.
//!
//! ```text
//! configuration ─ Registry ─► handles (Edge, Counter, Gauge, Histogram)        resolved once, kept in the table
//! request       ─ handle.record(…)                ─► this worker's shard       no lock, no look-up
//! read          ─ Registry::render, report::build ─► all shards added up       /metrics, and a Report to the server
//! request       ─ AccessLog::record(&AccessEvent) ─► bounded queue ─► writer thread ─► file or pipe
//! ```
//!
//! Modules in reading order: [`flag`] names what went wrong, [`metric`] counts, [`edge`] counts what runs between two
//! services, [`istio`] prints that as Istio's standard metrics, [`report`] packs it for the server, [`process`] adds
//! what the process costs, [`lines`] carries lines to a slow disk, [`access`] and [`log`] write them.
//!
//! Invariants: recording never blocks, never allocates after a series' first use (an access line is one allocation),
//! and never fails; every map and queue has a limit, and what exceeds it is counted. Names and label values are
//! escaped on the way out: nobody can forge a line or a sample.
//!
//! Absent on purpose: a global registry, look-up by name while a request runs, and a metrics macro.

#![warn(missing_docs)]

pub mod flag;
pub mod metric;

pub mod edge;
pub mod istio;
pub mod report;

pub mod process;

pub mod lines;

pub mod access;
pub mod log;

pub use access::{AccessEvent, AccessLog};
pub use edge::{Edge, EdgeKey, RequestRecord};
pub use flag::Flag;
pub use metric::{Counter, Gauge, Histogram, Registry};
pub use report::Report;

//! The words of leno: what a service, an instance, a route, a cluster and an endpoint are, and when they are valid.
//!
//! ```text
//! YAML text ─ document ─► resource (as written) ─ validate ─► resource (valid) ─ (leno-control) ─► snapshot ─ (leno-xds) ─► the proxy's table
//!                                                             instance (registry) ───────────────────┘
//! ```
//!
//! Pure: no IO, no clock, no async. Every other crate may depend on this one, and this one on none of them.

#![warn(missing_docs)]

pub mod document;
pub mod expression;
pub mod fault;
pub mod identity;
pub mod instance;
pub mod name;
pub mod path;
pub mod resource;
pub mod seam;
pub mod snapshot;
pub mod validate;

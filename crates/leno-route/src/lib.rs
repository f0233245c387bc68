//! Which rule a request takes, and what the rule makes of it: matching, precedence, rewrites, redirects, CORS, weights.
//!
//! ```text
//! RouteConfig ─ Router::compile ─► Router ─ route(RequestView) ─► Matched ─► rewrite, redirect, cors, change, weighted
//!      ▲                             └──── explain(RequestView) ─► why each rule did not match
//! precedence (control sorts the rules before)
//! ```
//!
//! Pure: no IO, no clock, no randomness of its own. The proxy routes with it, control checks with it and `leno explain`
//! explains with it, so that all three say the same. Absent on purpose: normalising of paths (`leno_model::path`, before
//! anybody asks) and anything that needs a cluster or an endpoint.

#![warn(missing_docs)]

pub mod host;
mod key;
mod path;
mod pattern;

mod router;

pub mod explain;
pub mod precedence;

pub mod change;
pub mod cors;
mod redirect;
pub mod weighted;

pub use change::FieldsMut;
pub use key::with_parameter;
pub use path::rewrite_path;
pub use pattern::{PatternError, check_pattern};
pub use redirect::{Redirected, redirect_location};
pub use router::{CompileError, FieldLookup, Matched, RULES_MAX, RequestView, Router, RuleIndex};

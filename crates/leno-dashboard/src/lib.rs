//! The dashboard: pages in the binary, and the API that feeds them.
//!
//! ```text
//! browser ─ GET /dashboard/…          ─► asset   files embedded at build time, with a strict content security policy
//!         ─ GET /api/v1/live (SSE)    ─► live    one document a second, made once for all browsers; on the page of a service
//!                                                its policies too
//!         ─ GET /api/v1/dashboard/…   ─► api     a service's series and policies, the list of changes, one change with its diff
//!                                         │
//!                                         └─ View: what the server knows (the binary connects it to its parts)
//! ```
//!
//! Modules in reading order: [`view`] says what a server tells the pages, [`asset`] holds the pages, [`live`] shares the
//! documents, [`api`] routes.
//!
//! Invariants: whoever takes in [`api::routes`] has authenticated the caller (viewer or more); nothing here changes
//! anything; a name or value that others control reaches the page as JSON and becomes text, never markup.
//!
//! Absent on purpose: a build step, libraries from a network, and writing from the browser.

pub mod view;

pub mod asset;

pub mod live;

pub mod api;

pub use api::routes;
pub use view::View;

//! The change path: what somebody writes becomes what every proxy is told.
//!
//! ```text
//! source (file, api) ─► revision (validate, own, commit) ─► Store ─► merge ─┐
//!                                                     registry ─► directory ┴─► snapshot ─► serve ─► leno-xds
//! status ◄── what each resource came to, what each proxy has            api: the same over HTTP; audit: who did what
//! ```
//!
//! [`Control`] holds it together and lives on the control thread; its handle may be cloned into HTTP handlers.
//!
//! Invariants: a set applies whole or not at all; every change is a revision with its author and full content; a resource
//! belongs to one set; a snapshot is a pure function of the merged resources and the registry's view; a change costs in
//! proportion to what was asked for and depends on it, never to the size of the mesh.

#![warn(missing_docs)]

pub mod source;

pub mod merge;

pub mod revision;

pub mod audit;

pub mod directory;

pub mod snapshot;

pub mod serve;

pub mod allot;

pub mod status;

mod control;
mod error;

pub mod api;

pub use control::{Applied, Apply, Changed, Concerning, Control, Delete, Driver, Options, Rollback, Turned};
pub use directory::Directory;
pub use error::Error;

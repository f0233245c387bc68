//! How a role lives: its threads and tasks, when it is ready, how it drains and stops.
//!
//! ```text
//! signal ─► Drain ─► workers, listeners, tasks (guards) ─► deadline ─► stop
//! threads: control (everything but requests) + N workers (requests), each a LocalRuntime watched by the watchdog
//! ready: named gates ─► /ready
//! request to a control API ─► guard ─► Principal ─► handler
//! ```
//!
//! Read in the order of the `mod` lines. Invariants: a task has a name; a panic ends one task and is counted; nothing
//! waits for a drain longer than its deadline; nothing here knows what a role does.

#![warn(missing_docs)]

pub mod threads;
pub mod watchdog;

pub mod task;

pub mod drain;
pub mod manager;
pub mod ready;
pub mod signal;

pub mod clock;
pub mod random;

mod groups;
pub mod memory;
pub mod processors;

pub mod serve;

pub mod guard;

pub mod admin;

pub use admin::Admin;
pub use clock::SystemClock;
pub use drain::{Drain, DrainGuard, DrainWatch};
pub use guard::Guard;
pub use random::SystemRandom;
pub use ready::Ready;
pub use serve::Serve;
pub use signal::{Shutdown, Signals, Told};
pub use threads::{WorkerIndex, Workers};

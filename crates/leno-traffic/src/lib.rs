//! The arithmetic of traffic: which endpoint takes a request, whether it may go on at all, whether a retry is allowed, how
//! long to wait before it.
//!
//! ```text
//! endpoints ─ subset ─► members ─ balance::Picker (per table) ─ pick ─► index ─► load::Open (per request) ─ finish ─► Load
//!                                                      budget, backoff ◄─ failed
//! ```
//!
//! Pure: `now` (time since some fixed moment of the process) and randomness come in as arguments, so that everything is
//! simulated with seeds. What workers share is atomics, relaxed where each number stands for itself and a lost sample costs
//! less than an ordered one.

#![warn(missing_docs)]

pub mod admission;
pub mod allot;
pub mod backoff;
pub mod balance;
pub mod breaker;
pub mod budget;
pub mod bulkhead;
pub mod busy;
pub mod ejection;
pub mod hash;
pub mod load;
pub mod overload;
pub mod pressure;
pub mod priority;
pub mod rate;
pub mod reported;
pub mod subset;
pub mod window;

mod alias;

pub use admission::Admission;
pub use backoff::Backoff;
pub use balance::{Balance, Member, Picker};
pub use breaker::Breaker;
pub use budget::RetryBudget;
pub use bulkhead::Bulkhead;
pub use ejection::{Conduct, Mark};
pub use load::{Load, Open, Outcome};
pub use overload::Gate;
pub use pressure::{Pressure, Reaction};
pub use rate::Limiter;

//! Answers that are kept for others: those of a cluster that its policy has cached, given again when nothing better comes, or
//! shared among requests that ask for the same at once.
//!
//! ```text
//! request ─ key ─► Shelf (what came before) ─► fresh: given │ stale: validated, or given where nobody answers
//!                └► Flights (who asks now) ──► the first asks, the others wait for its answer
//! ```
//!
//! One for each cluster, shared by the workers and kept from table to table as long as its terms stay. A lock is held for a
//! look-up, never while anything is waited for. All of it is bounded: the shelf by bytes and entries, flights by the
//! requests that are open, those who wait for one by number.

mod flights;
mod kept;
mod shelf;
mod show;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use leno_model::snapshot;

pub(crate) use flights::{Flights, Joined, Lead, Outcome};
pub(crate) use kept::{Kept, Varied, fields_to_keep, who};
pub(crate) use shelf::Shelf;
pub(crate) use show::describe;
pub use show::measure;

/// The answers of a cluster that are kept.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) terms: snapshot::Answers,
    pub(crate) shelf: Shelf,
    pub(crate) flights: Flights,
    given: [AtomicU64; Given::ALL.len()],
}

/// How a request was answered whose answer may be kept or shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    /// By what was kept, and is good.
    Hit,
    /// By what was kept, while another request asks whether it is still good.
    Stale,
    /// By what was kept, which was asked for and is still good.
    Validated,
    /// By what another request was answered with that asked at the same time.
    Shared,
    /// By what was kept, because nothing better came.
    LastGood,
    /// By the service.
    Miss,
}

// === impl Answers ===

impl Answers {
    pub(crate) fn new(terms: snapshot::Answers) -> Self {
        let shelf = Shelf::new(terms.bytes_max, terms.entries_max);
        Self { terms, shelf, flights: Flights::default(), given: Default::default() }
    }

    /// Whether anything is kept for later.
    pub(crate) fn keeps(&self) -> bool {
        self.terms.cache || self.terms.last_good.is_some()
    }

    pub(crate) fn count(&self, given: Given) {
        self.given[given as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn given(&self) -> impl Iterator<Item = (Given, u64)> {
        Given::ALL.into_iter().zip(self.given.iter().map(|count| count.load(Relaxed)))
    }
}

// === impl Given ===

impl Given {
    pub(crate) const ALL: [Self; 6] =
        [Self::Hit, Self::Stale, Self::Validated, Self::Shared, Self::LastGood, Self::Miss];

    /// In a word.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Validated => "validated",
            Self::Shared => "shared",
            Self::LastGood => "last_good",
            Self::Miss => "miss",
        }
    }

    /// In the words of RFC 9211.
    pub(crate) fn status(self) -> &'static str {
        match self {
            Self::Hit | Self::Stale => "leno; hit",
            Self::Validated => "leno; hit; fwd=stale; fwd-status=304",
            Self::Shared => "leno; fwd=miss; collapsed",
            Self::LastGood => "leno; hit; fwd=stale; detail=last-good",
            Self::Miss => "leno; fwd=miss",
        }
    }
}

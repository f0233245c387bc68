//! Requests that ask for the same at once: the first one asks, the others wait for what it is answered with.
//!
//! A [`Flight`] is open from the first request until its answer is there whole, or it is known that it is for nobody else.
//! Who waits and leaves takes nothing from the others; when the one leaves that asks, one of those who wait asks in its place.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leno_model::snapshot::Collapse;
use tokio::sync::watch;

use super::{Answers, Kept};

/// Those that are under way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    open: Mutex<HashMap<Arc<[u8]>, Arc<Flight>>>,
}

#[derive(Debug)]
pub(crate) struct Flight {
    outcome: watch::Sender<Outcome>,
    waiting: AtomicU32,
    /// In the time of the process.
    began: Duration,
}

/// What came of one.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// Nothing yet.
    Open,
    /// This.
    Came(Arc<Kept>),
    /// Nothing for others: each asks for itself.
    Alone,
    /// Who asked has left.
    Left,
}

/// What a request does.
pub(crate) enum Joined {
    /// It asks for all.
    Leads(Lead),
    /// It waits.
    Waits(Waiting),
    /// As many wait as may: it asks for itself.
    Full,
}

/// The one that asks. Dropped without an outcome, it has left.
#[derive(Debug)]
pub(crate) struct Lead {
    answers: Arc<Answers>,
    key: Arc<[u8]>,
    flight: Arc<Flight>,
    has_landed: bool,
}

/// One that waits.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<Flight>);

// === impl Flights ===

impl Flights {
    /// Joins those who ask for the same. Whom nobody would wait for any longer, nobody finds.
    pub(crate) fn join(answers: &Arc<Answers>, key: &Arc<[u8]>, terms: &Collapse, now: Duration) -> Joined {
        let mut open = answers.flights.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = open.get(&**key).filter(|flight| now < flight.began + terms.wait_max) {
            // Counted under the lock, so that no more wait than may.
            if flight.waiting.load(Relaxed) >= terms.waiting_max {
                return Joined::Full;
            }
            flight.waiting.fetch_add(1, Relaxed);
            return Joined::Waits(Waiting(flight.clone()));
        }
        let (outcome, waiting) = (watch::Sender::new(Outcome::Open), AtomicU32::new(0));
        let flight = Arc::new(Flight { outcome, waiting, began: now });
        open.insert(key.clone(), flight.clone());
        Joined::Leads(Lead { answers: answers.clone(), key: key.clone(), flight, has_landed: false })
    }

    /// How many are under way, and how many wait for them.
    pub(crate) fn fill(&self) -> (usize, u64) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        (open.len(), open.values().map(|flight| u64::from(flight.waiting.load(Relaxed))).sum())
    }
}

// === impl Lead ===

impl Lead {
    /// Tells those who wait.
    pub(crate) fn land(mut self, outcome: Outcome) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Outcome) {
        self.has_landed = true;
        // First no longer to be found: who comes now asks anew.
        let mut open = self.answers.flights.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(&self.key).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            open.remove(&self.key);
        }
        drop(open);
        self.flight.outcome.send_replace(outcome);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.has_landed {
            self.tell(Outcome::Left);
        }
    }
}

// === impl Waiting ===

impl Waiting {
    /// What came of it.
    pub(crate) async fn outcome(&self) -> Outcome {
        let mut told = self.0.outcome.subscribe();
        let outcome = told.wait_for(|outcome| !matches!(outcome, Outcome::Open)).await;
        outcome.map_or(Outcome::Left, |outcome| outcome.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

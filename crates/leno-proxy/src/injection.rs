//! What goes wrong on purpose, as the request path asks for it: which fault is for a request, and what of it is drawn.
//!
//! Built by the control thread with the table and shared by all workers; what was counted stays from table to table as long as
//! a fault keeps its name. How many requests are delayed or slowed down at once is bounded; what comes beyond is left alone.
//! Where nothing goes wrong, a request pays a branch.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use leno_model::snapshot::{self, AbortWith};
use leno_route::Router;

use crate::rate_limit::compile;

mod report;
mod show;

pub(crate) use report::report;
pub use show::{describe, measure};

const MILLION: u128 = 1_000_000;

/// What goes wrong with requests to one service.
#[derive(Debug)]
pub struct Injections {
    /// `cart.shop`.
    pub(crate) service: Box<str>,
    pub(crate) faults: Box<[Injection]>,
    active_max: u32,
    /// Requests that are delayed and answers that are slowed down now.
    active: Arc<AtomicU32>,
}

/// What goes wrong with some of them.
#[derive(Debug)]
pub(crate) struct Injection {
    pub(crate) terms: snapshot::Injection,
    /// What it is for; none where it is for everything.
    pub(crate) when: Option<Router>,
    counts: Arc<Counts>,
}

/// How often it did.
#[derive(Debug, Default)]
struct Counts {
    delayed: AtomicU64,
    aborted: AtomicU64,
    slowed: AtomicU64,
    /// Left alone, because enough was going wrong.
    skipped: AtomicU64,
}

/// What goes wrong with one request.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) delay: Option<Duration>,
    pub(crate) abort: Option<AbortWith>,
    pub(crate) kib_per_second: Option<u32>,
    /// Counted as long as it is kept.
    pub(crate) active: Option<Active>,
}

/// A request that is delayed, or an answer that is slowed down; over when it is dropped.
#[derive(Debug)]
pub(crate) struct Active(Arc<AtomicU32>);

/// Makes them and remembers what has to outlive tables.
#[derive(Debug, Default)]
pub(crate) struct Injectors {
    built: HashMap<String, (snapshot::Injections, Arc<Injections>)>,
}

// === impl Injectors ===

impl Injectors {
    /// What these terms ask for; none where nothing goes wrong.
    pub(crate) fn of(&mut self, terms: &snapshot::Injections) -> Option<Arc<Injections>> {
        if terms.is_none() {
            return None;
        }
        let before = self.built.get(&terms.service);
        if let Some((_, built)) = before.filter(|(of, _)| of == terms) {
            return Some(built.clone());
        }
        let built = Arc::new(Injections::new(terms, before.map(|(_, built)| &**built)));
        self.built.insert(terms.service.clone(), (terms.clone(), built.clone()));
        Some(built)
    }

    /// Drops what no table leads to any more.
    pub(crate) fn forget_unused(&mut self) {
        self.built.retain(|_, (_, built)| Arc::strong_count(built) > 1);
    }
}

// === impl Injections ===

impl Injections {
    fn new(terms: &snapshot::Injections, before: Option<&Self>) -> Self {
        let fault = |fault: &snapshot::Injection| {
            let known = before.and_then(|before| before.faults.iter().find(|known| known.terms.name == fault.name));
            let counts = known.map(|known| known.counts.clone()).unwrap_or_default();
            match compile(&fault.when) {
                Ok(when) => Some(Injection { terms: fault.clone(), when, counts }),
                Err(error) => {
                    tracing::warn!(service = terms.service, fault = %fault.name, %error, "fault left out");
                    None
                }
            }
        };
        Self {
            service: terms.service.as_str().into(),
            faults: terms.faults.iter().filter_map(fault).collect(),
            active_max: terms.active_max,
            active: before.map(|before| before.active.clone()).unwrap_or_default(),
        }
    }

    /// What goes wrong with a request that `fault` is for, if anything does; `random` gives bits anew each time.
    pub(crate) fn draw(&self, fault: &Injection, mut random: impl FnMut() -> u64) -> Option<Drawn> {
        // A number below a million, each as likely as any other.
        let mut hits = |of_million: u32| (u128::from(random()) * MILLION) >> 64 < u128::from(of_million);
        let terms = &fault.terms;
        let delay = terms.delay.filter(|delay| hits(delay.of_million)).map(|delay| delay.time);
        let abort = terms.abort.filter(|abort| hits(abort.of_million)).map(|abort| abort.with);
        let slow = terms.bandwidth.filter(|bandwidth| hits(bandwidth.of_million));
        // The answer that an abort makes has nothing to slow down.
        let kib_per_second = slow.filter(|_| abort.is_none()).map(|bandwidth| bandwidth.kib_per_second);
        if delay.is_none() && abort.is_none() && kib_per_second.is_none() {
            return None;
        }
        let lasts = delay.is_some() || kib_per_second.is_some();
        let active = if lasts { Active::begin(&self.active, self.active_max) } else { None };
        if lasts && active.is_none() {
            fault.counts.skipped.fetch_add(1, Relaxed);
            return None;
        }
        let counts = &fault.counts;
        for (counted, happens) in [
            (&counts.delayed, delay.is_some()),
            (&counts.aborted, abort.is_some()),
            (&counts.slowed, kib_per_second.is_some()),
        ] {
            counted.fetch_add(happens.into(), Relaxed);
        }
        Some(Drawn { delay, abort, kib_per_second, active })
    }
}

// === impl Active ===

impl Active {
    fn begin(active: &Arc<AtomicU32>, max: u32) -> Option<Self> {
        let more = active.fetch_update(Relaxed, Relaxed, |active| (active < max).then_some(active + 1));
        more.is_ok().then(|| Self(active.clone()))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use leno_model::snapshot::{Abort, Bandwidth, Delay};

    use super::*;

    fn injections(delay: u32, abort: u32, slow: u32, active_max: u32) -> Injections {
        let fault = snapshot::Injection {
            name: "f".into(),
            when: Vec::new(),
            delay: Some(Delay { time: Duration::from_secs(1), of_million: delay }),
            abort: Some(Abort { with: AbortWith::Http(503), of_million: abort }),
            bandwidth: Some(Bandwidth { kib_per_second: 1, of_million: slow }),
        };
        let terms = snapshot::Injections { service: "cart.shop".into(), faults: vec![fault], active_max };
        Injections::new(&terms, None)
    }

    #[test]
    fn each_part_has_its_own_share() {
        let injections = injections(250_000, 500_000, 1_000_000, 1);
        let mut state = 7_u64;
        let mut random = || {
            // Numerical Recipes' generator: its upper bits are even enough.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state
        };
        let (mut delayed, mut aborted, mut slowed) = (0, 0, 0);
        for _ in 0..10_000 {
            let drawn = injections.draw(&injections.faults[0], &mut random).unwrap();
            delayed += i32::from(drawn.delay.is_some());
            aborted += i32::from(drawn.abort.is_some());
            slowed += i32::from(drawn.kib_per_second.is_some());
        }
        assert!((2_300..2_700).contains(&delayed), "{delayed}");
        assert!((4_800..5_200).contains(&aborted), "{aborted}");
        assert_eq!(slowed, 10_000 - aborted, "what is aborted has nothing to slow down");
    }

    #[test]
    fn what_comes_while_as_many_are_active_as_may_be_is_left_alone() {
        let injections = injections(1_000_000, 0, 0, 2);
        let draw = || injections.draw(&injections.faults[0], || 0);
        let (first, second) = (draw(), draw());
        assert!(first.is_some() && second.is_some());
        assert!(draw().is_none());
        assert_eq!(injections.faults[0].counts.skipped.load(Relaxed), 1);
        drop(first);
        assert!(draw().is_some());
    }

    #[test]
    fn what_is_counted_outlives_a_change_of_the_terms() {
        let first = injections(1_000_000, 0, 0, 2);
        let drawn = first.draw(&first.faults[0], || 0);
        let mut terms = snapshot::Injections { service: "cart.shop".into(), faults: Vec::new(), active_max: 1 };
        terms.faults.push(snapshot::Injection { abort: None, ..first.faults[0].terms.clone() });
        let second = Injections::new(&terms, Some(&first));
        assert_eq!(second.faults[0].counts.delayed.load(Relaxed), 1);
        assert!(second.draw(&second.faults[0], || 0).is_none(), "the one before is active yet");
        drop(drawn);
        assert!(second.draw(&second.faults[0], || 0).is_some());
    }
}

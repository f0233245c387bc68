//! Limits and quotas that all proxies count together: which of them this proxy holds, what it asks the server for, and when.
//!
//! The control thread keeps one [`Holding`] for each and asks for all that are due in one message; whoever talks to the server
//! drives this. Workers say that something is wanted by a flag, once for many requests, so that nobody waits until the
//! next round to be heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use leno_model::seam::Clock;
use leno_model::snapshot::{self, Name, RateForm};
use leno_traffic::Limiter;
use leno_traffic::allot::{Answer, Ask, Due, Holding, QuotaHolding, Whole};
use leno_traffic::rate::Grant;
use tokio::sync::{Notify, watch};

use super::RateLimits;

/// Limits that are shared, as far as this proxy holds them.
#[derive(Debug, Default)]
pub struct SharedLimits {
    held: watch::Sender<Vec<SharedLimit>>,
    wake: Notify,
    /// Somebody has called and was not heard yet.
    called: AtomicBool,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct SharedLimit {
    /// `cart.shop`.
    pub service: Arc<str>,
    /// Its name in the service's policy.
    pub name: Name,
    kind: Kind,
    limiter: Arc<Limiter>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Rate(Whole),
    Quota,
}

/// One of either, between the proxy and the server.
#[derive(Debug)]
enum Keeping {
    Rate(Holding),
    Quota(QuotaHolding),
}

/// What is to be asked of a limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The service.
    pub service: Arc<str>,
    /// The limit.
    pub name: Name,
    /// What.
    pub ask: Ask,
}

/// Keeps parts of limits.
pub struct Holder {
    shared: Arc<SharedLimits>,
    held: watch::Receiver<Vec<SharedLimit>>,
    holdings: Vec<(SharedLimit, Keeping)>,
    /// Of the question that is on its way: when it was asked, and of which.
    asked: (Duration, Vec<usize>),
    clock: Arc<dyn Clock>,
}

// === impl SharedLimits ===

impl SharedLimits {
    /// These are held from now on.
    pub(super) fn hold<'l>(&self, all: impl Iterator<Item = &'l RateLimits>) {
        let mut held: Vec<SharedLimit> = Vec::new();
        for limits in all {
            for limit in &limits.limits {
                let is_there = |other: &SharedLimit| Arc::ptr_eq(&other.limiter, &limit.limiter);
                if let Some(kind) = Kind::of(&limit.terms).filter(|_| !held.iter().any(is_there)) {
                    let (service, limiter) = ((*limits.service).into(), limit.limiter.clone());
                    held.push(SharedLimit { service, name: limit.terms.name.clone(), kind, limiter });
                }
            }
        }
        held.sort_by(|a, b| (&a.service, &a.name).cmp(&(&b.service, &b.name)));
        self.held.send_if_modified(|before| {
            let is_same = before.len() == held.len() && before.iter().zip(&held).all(|(a, b)| a.is_same(b));
            if !is_same {
                *before = held;
            }
            !is_same
        });
    }

    /// A request met one of which little is left.
    pub(crate) fn call(&self) {
        if !self.called.load(Relaxed) && !self.called.swap(true, Relaxed) {
            self.wake.notify_one();
        }
    }
}

// === impl SharedLimit ===

impl SharedLimit {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.limiter, &other.limiter) && self.name == other.name && self.kind == other.kind
    }
}

// === impl Kind ===

impl Kind {
    fn of(terms: &snapshot::RateLimit) -> Option<Self> {
        match terms.form {
            RateForm::Quota { .. } => Some(Self::Quota),
            _ => Whole::of(terms).map(Self::Rate),
        }
    }
}

// === impl Keeping ===

impl Keeping {
    fn new(now: Duration, limit: &SharedLimit) -> Self {
        match limit.kind {
            Kind::Rate(whole) => Self::Rate(Holding::new(now, whole, &limit.limiter)),
            Kind::Quota => Self::Quota(QuotaHolding::new(now, &limit.limiter)),
        }
    }

    fn look(&mut self, now: Duration, limiter: &Limiter) {
        match self {
            Self::Rate(holding) => holding.look(now, limiter),
            Self::Quota(holding) => holding.look(now, limiter),
        }
    }

    fn due(&self, now: Duration, limiter: &Limiter) -> Due {
        match self {
            Self::Rate(holding) => holding.due(limiter),
            Self::Quota(holding) => holding.due(now, limiter),
        }
    }

    fn wakes(&self) -> Option<Duration> {
        match self {
            Self::Rate(holding) => holding.wakes(),
            Self::Quota(_) => None,
        }
    }

    fn ask(&mut self, now: Duration, limiter: &Limiter) -> Ask {
        match self {
            Self::Rate(holding) => holding.ask(now, limiter),
            Self::Quota(holding) => holding.ask(now, limiter),
        }
    }

    fn unanswered(&mut self, now: Duration, after: Duration) {
        match self {
            Self::Rate(holding) => holding.unanswered(now, after),
            Self::Quota(holding) => holding.unanswered(now, after),
        }
    }
}

// === impl Holder ===

impl Holder {
    /// Keeps what is shared, as it changes.
    pub fn new(shared: Arc<SharedLimits>, clock: Arc<dyn Clock>) -> Self {
        let held = shared.held.subscribe();
        Self { shared, held, holdings: Vec::new(), asked: (Duration::ZERO, Vec::new()), clock }
    }

    /// Whether there is nothing to ask a server for.
    pub fn is_empty(&self) -> bool {
        self.holdings.is_empty()
    }

    /// Waits until there is something to ask a server for.
    pub async fn needed(&mut self) {
        while self.held.borrow_and_update().is_empty() {
            self.holdings.clear();
            if self.held.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
        self.take_over();
    }

    /// Waits until a question is due, and says what it is; nothing when no limit is held any more.
    pub async fn question(&mut self) -> Vec<Asked> {
        loop {
            self.take_over();
            self.look();
            if self.holdings.is_empty() {
                return Vec::new();
            }
            let now = self.clock.monotonic();
            self.shared.called.store(false, Relaxed);
            let due =
                |(_, (limit, kept)): &(usize, &mut (SharedLimit, Keeping))| kept.due(now, &limit.limiter) <= Due(now);
            let asks = self.holdings.iter_mut().enumerate().filter(due).map(|(at, (limit, holding))| {
                let ask = holding.ask(now, &limit.limiter);
                (at, Asked { service: limit.service.clone(), name: limit.name.clone(), ask })
            });
            let (which, asks): (Vec<usize>, Vec<Asked>) = asks.unzip();
            if !asks.is_empty() {
                self.asked = (now, which);
                return asks;
            }
            self.pause().await;
        }
    }

    /// Does without a server for as long as this is awaited.
    pub async fn without_a_server(&mut self) {
        loop {
            self.take_over();
            self.look();
            let wakes = self.holdings.iter().filter_map(|(_, holding)| holding.wakes()).min();
            let wait = wakes.map_or(Duration::from_secs(1), |at| at.saturating_sub(self.clock.monotonic()));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = self.held.changed() => if changed.is_err() { return std::future::pending().await },
            }
        }
    }

    /// What the server answered to the last question, in its order; none for a limit that it does not know.
    pub fn answered(&mut self, answers: impl IntoIterator<Item = Option<Answer>>, every: Duration) {
        const UNKNOWN_AGAIN: Duration = Duration::from_millis(500);
        let now = self.clock.monotonic();
        let (asked, which) = std::mem::take(&mut self.asked);
        let mut answers = answers.into_iter();
        for at in which {
            let Some((limit, holding)) = self.holdings.get_mut(at) else { continue };
            match (holding, answers.next().flatten()) {
                (Keeping::Rate(holding), Some(Answer::Part(part))) => {
                    holding.answered(now, asked, &part, every, &limit.limiter);
                }
                (Keeping::Quota(holding), Some(Answer::Quota { requests, period, ends_in, left })) => {
                    holding.answered(&Grant { period, requests, ends: asked + ends_in, left }, &limit.limiter);
                }
                (holding, _) => holding.unanswered(now, UNKNOWN_AGAIN),
            }
        }
    }

    /// No server answers.
    pub fn lost(&mut self) {
        let now = self.clock.monotonic();
        self.asked.1.clear();
        self.holdings.iter_mut().for_each(|(_, holding)| holding.unanswered(now, Duration::ZERO));
    }

    fn look(&mut self) {
        let now = self.clock.monotonic();
        self.holdings.iter_mut().for_each(|(limit, holding)| holding.look(now, &limit.limiter));
    }

    /// Until the next question is due, somebody calls, or there are other limits.
    async fn pause(&mut self) {
        let now = self.clock.monotonic();
        let dues = self.holdings.iter().map(|(limit, holding)| holding.due(now, &limit.limiter).0);
        let next = dues.chain(self.holdings.iter().filter_map(|(_, holding)| holding.wakes())).min();
        let wait = next.map_or(Duration::from_secs(1), |at| at.saturating_sub(self.clock.monotonic()));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.shared.wake.notified() => {}
            changed = self.held.changed() => if changed.is_err() { std::future::pending().await },
        }
    }

    /// Goes on with those that are still there, and begins with those that are new.
    fn take_over(&mut self) {
        let held = self.held.borrow_and_update();
        let is_same = held.len() == self.holdings.len()
            && held.iter().zip(&self.holdings).all(|(limit, (known, _))| limit.is_same(known));
        if is_same {
            return;
        }
        let now = self.clock.monotonic();
        let mut before = std::mem::take(&mut self.holdings);
        for limit in held.iter() {
            let known = before.iter().position(|(known, _)| known.is_same(limit));
            self.holdings.push(match known {
                Some(at) => before.swap_remove(at),
                None => (limit.clone(), Keeping::new(now, limit)),
            });
        }
        self.asked.1.clear();
    }
}

/// Whether these terms are shared, by whoever asks the server for them.
pub(super) fn is_shared(terms: &snapshot::RateLimit) -> bool {
    Kind::of(terms).is_some()
}

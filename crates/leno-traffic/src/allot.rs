//! A limit that proxies count together, at the server and at each proxy: who may let through how much, for the next second.
//!
//! ```text
//! proxy: Holding ─ Ask{wanted, holding} ─► Ledger (server) ─ Allotment{rate, burst, valid, proxies} ─► Holding ─► Limiter
//! ```
//!
//! The server divides a *rate*, not requests: what it costs does not grow with traffic, and a proxy that has a part spends it
//! without asking. Each gets what it wants where that fits, and an equal part where it does not (max-min fairness), so that
//! who asks for more than it needs takes nothing from those who ask for less than their part. What nobody wants lies
//! ready, most of it with those that are busy.
//!
//! **Invariant: what proxies may use at a moment is never more than the limit.** Whoever is to get less may use what it had
//! until it says that it knows, or until that has ended; only then is it given to others. A proxy counts the end from before
//! it asked and the server from after, so no clocks are compared. A server that has just started gives nobody more than it
//! holds, until all that another has given has ended. The price is up to two rounds until a part has moved.
//!
//! Rejected: tokens that are bought in packets, which either cost a message every few milliseconds or are found at the wrong
//! proxy; and rates that all proxies compute alike from what all others report, which overshoot whenever a report is late.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

mod holding;
mod quota;

pub use holding::{Due, Holding, Whole};
pub use quota::{Count, QuotaHolding};

/// How long an allotment holds, where there are few proxies.
pub const VALID: Duration = Duration::from_secs(1);
/// Time between two questions of a proxy that lets requests through, where there are few.
pub const EVERY: Duration = Duration::from_millis(100);
/// Questions a second that a server answers at most; with more proxies each asks less often.
const ASKS_A_SECOND: u32 = 5_000;
/// A proxy that has not asked for so long holds the limit no more.
pub const FORGOTTEN: Duration = Duration::from_secs(5);
/// Proxies that hold limits: each once for each limit that it holds.
pub const HOLDERS_MAX: usize = 100_000;
/// Proxies that hold one limit.
pub const HOLDERS_OF_ONE_MAX: usize = 10_000;
/// What a proxy is given, as a share of what it wants, so that it can grow until it asks again; and between which shares
/// what it has is not changed, so that not every question moves something.
const HEADROOM: f64 = 1.2;
const KEPT: (f64, f64) = (1.1, 1.3);
/// With more proxies, what is fair is computed anew this often at most.
const SETTLE_EVERY: Duration = Duration::from_millis(20);
const FEW: usize = 32;

/// A limit's numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// Requests a second.
    pub rate: f64,
    /// Requests at once.
    pub burst: f64,
    /// Both are of each proxy.
    pub per_proxy: bool,
}

/// What a proxy says of a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ask {
    /// Requests a second that come to it.
    pub wanted: f64,
    /// Requests a second that it may let through at the moment.
    pub holding: f64,
}

/// What a proxy may let through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allotment {
    /// Requests a second.
    pub rate: f64,
    /// Requests at once, 1 at least.
    pub burst: f64,
    /// How long, from before it asked.
    pub valid: Duration,
    /// How many proxies hold the limit.
    pub proxies: u32,
}

/// What a server answers to what is asked of a limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    /// A part of its rate.
    Part(Allotment),
    /// So many of a quota, in a period that ends so long after the question; and so many are left.
    Quota {
        /// How many.
        requests: u32,
        /// Which period; later ones have higher numbers.
        period: u64,
        /// When that ends.
        ends_in: Duration,
        /// How many nobody has been given yet.
        left: u32,
    },
}

/// Too many proxies hold limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many proxies hold limits as may, {HOLDERS_OF_ONE_MAX} of one and {HOLDERS_MAX} of all")]
pub struct Full;

/// What the server knows of limits `L` and who holds them. Bounded by [`HOLDERS_MAX`] and [`HOLDERS_OF_ONE_MAX`]; who comes then is refused and does
/// what its limit says for a server that is away.
#[derive(Debug)]
pub struct Ledger<L> {
    started: Duration,
    accounts: HashMap<L, Account>,
    holders: usize,
}

/// A limit, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen<L> {
    /// Which.
    pub limit: L,
    /// What all may let through in a second.
    pub rate: f64,
    /// What they want to.
    pub wanted: f64,
    /// What is allotted.
    pub allotted: f64,
    /// How many hold it.
    pub proxies: usize,
}

#[derive(Debug)]
struct Account {
    terms: Terms,
    holders: HashMap<Arc<str>, Holder>,
    settled: Option<Duration>,
    /// What nobody gets more of than others, where there is too little.
    level: f64,
    /// What each that wants something gets beyond that, where there is enough.
    spare: f64,
}

#[derive(Debug, Clone, Copy)]
struct Holder {
    wanted: f64,
    /// What it was given last, and until when it may use that.
    granted: (f64, Duration),
    /// What it said that it uses then, and until when it may, whatever it says.
    before: (f64, Duration),
    seen: Duration,
}

// === impl Ledger ===

impl<L: Hash + Eq + Clone> Ledger<L> {
    /// Of a server that starts now.
    pub fn new(now: Duration) -> Self {
        Self { started: now, accounts: HashMap::new(), holders: 0 }
    }

    /// What `proxy` may let through of a limit from now on.
    pub fn ask(&mut self, now: Duration, limit: &L, terms: Terms, proxy: &str, ask: Ask) -> Result<Allotment, Full> {
        let (every, learns) = (self.every(), now < self.started + VALID);
        if !self.accounts.contains_key(limit) {
            self.accounts.insert(limit.clone(), Account::new(terms));
        }
        let account = self.accounts.get_mut(limit).expect("it was put there");
        if !account.holders.contains_key(proxy) {
            if self.holders >= HOLDERS_MAX || account.holders.len() >= HOLDERS_OF_ONE_MAX {
                return Err(Full);
            }
            self.holders += 1;
        }
        let valid = VALID.max(every * 4);
        Ok(account.ask(now, terms, proxy, ask, Round { valid, learns }))
    }

    /// Time after which a proxy that lets requests through is to ask again.
    pub fn every(&self) -> Duration {
        // Whoever holds several asks for all of them at once, so this is the slowest that may be needed.
        let seconds = self.holders as f64 / f64::from(ASKS_A_SECOND);
        EVERY.max(Duration::from_secs_f64(seconds))
    }

    /// Forgets proxies that ask no more, and limits that nobody holds.
    pub fn sweep(&mut self, now: Duration) {
        let forgotten = FORGOTTEN.max(self.every() * 8);
        for account in self.accounts.values_mut() {
            let before = account.holders.len();
            account.holders.retain(|_, holder| now < holder.seen + forgotten);
            if account.holders.len() != before {
                account.settled = None;
            }
        }
        self.accounts.retain(|_, account| !account.holders.is_empty());
        self.holders = self.accounts.values().map(|account| account.holders.len()).sum();
    }

    /// How many limits are held, and by how many proxies, each counted once for each limit.
    pub fn counts(&self) -> (usize, usize) {
        (self.accounts.len(), self.holders)
    }

    /// Every limit that is held.
    pub fn seen(&self, now: Duration) -> impl Iterator<Item = Seen<L>> {
        self.accounts.iter().map(move |(limit, account)| Seen {
            limit: limit.clone(),
            rate: account.whole().0,
            wanted: account.holders.values().map(|holder| holder.wanted).sum(),
            allotted: account.holders.values().map(|holder| holder.usable_at(now)).sum(),
            proxies: account.holders.len(),
        })
    }
}

/// What is the same for all who ask at a moment.
#[derive(Debug, Clone, Copy)]
struct Round {
    valid: Duration,
    /// The server has just started, and does not know yet what another has given.
    learns: bool,
}

// === impl Account ===

impl Account {
    fn new(terms: Terms) -> Self {
        Self { terms, holders: HashMap::new(), settled: None, level: 0.0, spare: 0.0 }
    }

    fn ask(&mut self, now: Duration, terms: Terms, proxy: &str, ask: Ask, round: Round) -> Allotment {
        if self.terms != terms {
            (self.terms, self.settled) = (terms, None);
        }
        let before = self.holders.get(proxy).copied();
        let key = match self.holders.get_key_value(proxy) {
            Some((key, _)) => key.clone(),
            None => {
                self.settled = None;
                proxy.into()
            }
        };
        // What it says that it holds frees what it had before; nobody gets more by saying so, but of a server that has
        // forgotten.
        let known = before.map_or(if round.learns { f64::MAX } else { 0.0 }, |before| before.usable_at(now));
        let nothing = (0.0, now);
        let mine = Holder { wanted: ask.wanted, granted: nothing, before: nothing, seen: now };
        self.holders.insert(key, mine);
        let (rate, burst) = self.whole();
        let holding = ask.holding.min(known).min(rate);
        let held_until = before.map_or(now + round.valid, |before| before.until(holding));
        self.settle(now, rate);
        let fair = match round.learns {
            true => holding,
            false => self.fair(ask.wanted, holding),
        };
        let others = self.holders.values().map(|holder| holder.usable_at(now)).sum::<f64>();
        let granted = fair.min(rate - others).max(0.0);
        let proxies = self.holders.len();
        if let Some(holder) = self.holders.get_mut(proxy) {
            (holder.granted, holder.before) = ((granted, now + round.valid), (holding, held_until));
        }
        let share = 0.5 / proxies as f64 + 0.5 * granted / rate;
        Allotment {
            rate: granted,
            burst: (burst * share).max(1.0),
            valid: round.valid,
            proxies: u32::try_from(proxies).unwrap_or(u32::MAX),
        }
    }

    /// Rate and burst of all together.
    fn whole(&self) -> (f64, f64) {
        let times = if self.terms.per_proxy { self.holders.len().max(1) as f64 } else { 1.0 };
        (self.terms.rate * times, self.terms.burst * times)
    }

    /// Computes what is fair.
    fn settle(&mut self, now: Duration, rate: f64) {
        let is_fresh = |at: Duration| self.holders.len() > FEW && now < at + SETTLE_EVERY;
        if self.settled.is_some_and(is_fresh) {
            return;
        }
        self.settled = Some(now);
        let mut wanted: Vec<f64> =
            self.holders.values().map(|holder| holder.wanted * HEADROOM).filter(|wanted| *wanted > 0.0).collect();
        wanted.sort_by(f64::total_cmp);
        (self.level, self.spare) = (f64::MAX, 0.0);
        let mut left = rate;
        for (at, wants) in wanted.iter().enumerate() {
            let equal = left / (wanted.len() - at) as f64;
            if *wants > equal {
                self.level = equal;
                return;
            }
            left -= wants;
        }
        // One part stays for whoever comes next.
        self.spare = left / (wanted.len() + 1) as f64;
    }

    fn fair(&self, wanted: f64, holding: f64) -> f64 {
        if wanted <= 0.0 {
            return 0.0;
        }
        let (least, most) = (wanted * KEPT.0 + self.spare, wanted * KEPT.1 + self.spare);
        holding.clamp(least, most).min(self.level)
    }
}

// === impl Holder ===

impl Holder {
    fn usable_at(&self, now: Duration) -> f64 {
        [self.granted, self.before]
            .into_iter()
            .filter(|(_, until)| now < *until)
            .fold(0.0, |most, (rate, _)| rate.max(most))
    }

    /// Until when it may use so much.
    fn until(&self, rate: f64) -> Duration {
        if rate <= self.granted.0 { self.granted.1 } else { self.before.1 }
    }
}

#[cfg(test)]
mod tests;

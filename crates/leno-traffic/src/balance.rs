//! Which endpoint takes a request.
//!
//! A [`Picker`] is built with the table, from the members of one cluster; whatever can be prepared is prepared then
//! (who is eligible, the alias table for drawing by weight, the round). A pick allocates nothing and takes no lock.
//! All policies honour weights; members of weight 0 and those that are not eligible take nothing, and when no others
//! are left the answer is none: sending to the unhealthy is a decision for a policy, not for arithmetic.
//!
//! A policy is one file in `balance/` that implements [`Balance`], one line in [`POLICIES`], and passes `suite`.

use std::sync::Arc;
use std::time::Duration;

use leno_model::expression::Program;
use leno_model::seam::Random as RandomBits;
use leno_model::snapshot::{BalancePolicy, Balancing, Gives, LoadReports};

use crate::alias::Alias;
use crate::load::Load;

mod best_available;
mod expression;
mod least_request;
mod maglev;
mod peak_ewma;
mod picker;
mod random;
mod ring_hash;
mod round_robin;
mod strides;
#[cfg(test)]
mod suite;
mod warming;
mod weighted_response_time;
mod weighted_round_robin;

pub use best_available::BestAvailable;
pub use expression::Expression;
pub use least_request::LeastRequest;
pub use maglev::Maglev;
pub use peak_ewma::PeakEwma;
pub use picker::{Picker, Seen};
pub use random::Random;
pub use ring_hash::RingHash;
pub use round_robin::RoundRobin;
pub use weighted_response_time::WeightedResponseTime;
pub use weighted_round_robin::WeightedRoundRobin;

use warming::Warming;

/// How often a draw is repeated that fell on an excluded member, before a walk looks for one that is not.
const DRAWS_MAX: usize = 8;

/// How a policy is made for a set; the number is random bits.
pub type Make = fn(&Set, u64) -> Box<dyn Balance>;

/// Every policy: its name in the model and how it is made.
pub const POLICIES: &[(BalancePolicy, Make)] = &[
    // The default: sees slow endpoints before health checks do.
    (BalancePolicy::PeakEwma, |_, _| Box::new(PeakEwma)),
    // For requests whose length says nothing about the endpoint.
    (BalancePolicy::LeastRequest, |_, _| Box::new(LeastRequest)),
    // The same by looking at all of them, where they are few and requests are long.
    (BalancePolicy::BestAvailable, |_, _| Box::new(BestAvailable)),
    // For even counts.
    (BalancePolicy::RoundRobin, |set, seed| Box::new(RoundRobin::new(set, seed))),
    // For shares by what endpoints say they can do.
    (BalancePolicy::WeightedRoundRobin, |set, seed| Box::new(WeightedRoundRobin::new(set, seed))),
    // For shares by how long they take on average, as Ribbon has it.
    (BalancePolicy::WeightedResponseTime, |set, seed| Box::new(WeightedResponseTime::new(set, seed))),
    // For comparison, and where nothing is known of the load.
    (BalancePolicy::Random, |_, _| Box::new(Random)),
    // For a key that always meets the same endpoint, and keeps it whoever else comes or goes.
    (BalancePolicy::RingHash, |set, _| Box::new(RingHash::new(set))),
    // The same with shares that are even.
    (BalancePolicy::Maglev, |set, _| Box::new(Maglev::new(set))),
    // For whoever knows better.
    (BalancePolicy::Expression, |set, seed| Box::new(Expression::new(set, seed))),
];

/// A policy. Returns the number of a [`Slot`]; [`Picker`] turns it into the member's index.
pub trait Balance: Send + Sync {
    /// Picks a slot that is not excluded; none only when all are.
    fn pick(&self, set: &Set, ask: &mut Ask<'_>) -> Option<usize>;
}

/// An endpoint as a balancer sees it.
#[derive(Debug, Clone)]
pub struct Member {
    /// What it is known by from table to table, for policies that hash. Any bits; the same for the same endpoint, and in
    /// every proxy.
    pub key: u64,
    /// Its share; 0 takes nothing.
    pub weight: u32,
    /// Whether it takes new requests at all.
    pub eligible: bool,
    /// Whether it takes some in panic, where it is not eligible.
    pub standby: bool,
    /// Since when it is new; none where it is not.
    pub since: Option<Duration>,
    /// Whom it comes after: members of a greater number take what those of a lesser one cannot.
    pub priority: u32,
    /// Its locality, where those have shares.
    pub locality: Option<Locality>,
    /// Its load, kept from table to table.
    pub load: Arc<Load>,
    /// What the expression comes to for it, for a policy that has one.
    pub program: Option<Arc<Program>>,
}

/// A locality, by a number, and its share beside the others of the same priority; 0 takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Locality {
    /// Which one.
    pub id: u32,
    /// Its share.
    pub weight: u32,
}

/// One question to a balancer.
pub struct Ask<'a> {
    /// Time since some fixed moment of the process.
    pub now: Duration,
    /// Randomness.
    pub random: &'a mut dyn RandomBits,
    /// What the request has that decides, for policies that hash; without it they draw.
    pub hash: Option<u64>,
    /// Members (their indexes) that were tried already.
    pub excluded: &'a [usize],
}

/// The members that can be picked.
#[derive(Debug)]
pub struct Set {
    slots: Box<[Slot]>,
    alias: Alias,
    /// The average weight, by which open requests are put into proportion.
    mean_weight: f32,
    /// Whether members may be left out for a while.
    is_watched: bool,
    /// Members that are new, if there are any.
    warming: Option<Warming>,
    /// Places in a table, for a policy that has one.
    table_size: Option<u32>,
    /// How what endpoints report becomes weights, for a policy that looks at it.
    load_reports: LoadReports,
    /// What an expression gives, for a policy that has one, and whether any looks at reports.
    gives: Option<Gives>,
    heeds_reports: bool,
}

/// A member that can be picked.
#[derive(Debug)]
pub struct Slot {
    member: usize,
    key: u64,
    weight: u32,
    since: Option<Duration>,
    load: Arc<Load>,
    program: Option<Arc<Program>>,
}

// === impl Member ===

impl Member {
    /// One that takes requests, and of which nothing else is said.
    pub fn new(key: u64, weight: u32) -> Self {
        let load = Arc::new(Load::new());
        let (since, locality, program) = (None, None, None);
        Self { key, weight, eligible: true, standby: false, since, priority: 0, locality, load, program }
    }

    /// Whether it is one of those that somebody may pick at some time.
    fn counts(&self) -> bool {
        let weight = self.locality.map_or(1, |locality| locality.weight);
        self.weight > 0 && weight > 0 && (self.eligible || self.standby)
    }
}

// === impl Set ===

impl Set {
    /// Of members with their indexes, which grow.
    fn of<'m>(members: impl Iterator<Item = (usize, &'m Member)>, balancing: &Balancing) -> Self {
        let slot = |(member, of): (usize, &Member)| {
            let (key, weight, since) = (of.key, of.weight, of.since);
            Slot { member, key, weight, since, load: Arc::clone(&of.load), program: of.program.clone() }
        };
        let slots: Box<[Slot]> = members.map(slot).collect();
        let weights: Vec<u32> = slots.iter().map(|slot| slot.weight).collect();
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let mean_weight = (sum / weights.len().max(1) as f64) as f32;
        Self {
            alias: Alias::new(&weights),
            mean_weight,
            is_watched: false,
            warming: Warming::of(balancing.slow_start, &slots),
            table_size: balancing.table_size,
            load_reports: balancing.load_reports.unwrap_or(LoadReports::DEFAULT),
            gives: balancing.expression.as_ref().map(|expression| expression.gives),
            heeds_reports: slots.iter().any(|slot| slot.program.as_ref().is_some_and(|of| of.heeds_reports())),
            slots,
        }
    }

    /// The slot of a member; slots stand in the order of their members.
    fn slot_of(&self, member: usize) -> Option<&Slot> {
        self.slots.binary_search_by_key(&member, |slot| slot.member).ok().map(|slot| &self.slots[slot])
    }

    /// Whether a member can be picked at this time.
    fn has(&self, member: usize, now: Duration) -> bool {
        self.slot_of(member).is_some_and(|slot| !(self.is_watched && slot.load.is_out(now)))
    }

    /// Draws a slot by weight that is not excluded and not `other`.
    fn draw(&self, ask: &mut Ask<'_>, other: Option<usize>) -> Option<usize> {
        for _ in 0..self.draws_max(ask.now) {
            let slot = self.alias.draw(ask.random.next_u64());
            if Some(slot) != other && self.takes(slot, ask) {
                return Some(slot);
            }
        }
        self.walk(ask, other)
    }

    /// The next slot from a random place on, or from one of the key, that is not excluded: after many draws in vain, when few are left.
    fn walk(&self, ask: &mut Ask<'_>, other: Option<usize>) -> Option<usize> {
        let count = self.slots.len() as u64;
        let start = ask.hash.map_or_else(|| ask.random.below(count), |hash| mix(hash, count) % count) as usize;
        let mut slots = (start..self.slots.len()).chain(0..start);
        slots.find(|slot| Some(*slot) != other && !self.is_excluded(*slot, ask))
    }

    /// The better of two draws by a cost; the first, unless the second is cheaper by more than `margin` (0 to 1).
    fn better_of_two(
        &self,
        ask: &mut Ask<'_>,
        margin: f32,
        cost: impl Fn(&Self, &Slot, Duration) -> f32,
    ) -> Option<usize> {
        let first = self.draw(ask, None)?;
        if self.slots.len() == 1 {
            return Some(first);
        }
        let Some(second) = self.draw(ask, Some(first)) else { return Some(first) };
        let now = ask.now;
        let (first_cost, second_cost) = (cost(self, &self.slots[first], now), cost(self, &self.slots[second], now));
        Some(if second_cost < first_cost * (1.0 - margin) { second } else { first })
    }

    /// Whether all that can be picked are excluded. With fewer excluded than there are, some are left.
    fn is_used_up(&self, ask: &Ask<'_>) -> bool {
        (self.is_watched || self.slots.len() <= ask.excluded.len())
            && (0..self.slots.len()).all(|slot| self.is_excluded(slot, ask))
    }

    fn is_excluded(&self, slot: usize, ask: &Ask<'_>) -> bool {
        let slot = &self.slots[slot];
        self.is_watched && slot.load.is_out(ask.now) || !ask.excluded.is_empty() && ask.excluded.contains(&slot.member)
    }

    /// Whether a slot that was chosen is neither excluded nor passed over because it is new.
    fn takes(&self, slot: usize, ask: &mut Ask<'_>) -> bool {
        !self.is_excluded(slot, ask)
            && self.warming.as_ref().is_none_or(|warming| warming.takes(&self.slots[slot], ask))
    }

    /// How often a choice is repeated that fell on somebody who does not take it.
    fn draws_max(&self, now: Duration) -> usize {
        let is_warming = self.warming.as_ref().is_some_and(|warming| warming.is_on(now));
        if is_warming { warming::DRAWS_MAX } else { DRAWS_MAX }
    }

    /// Open requests in proportion to the weight, plus one for the request that asks. The one does not depend on the
    /// weight: idle members cost the same, and the draw by weight decides.
    fn occupancy(&self, slot: &Slot, now: Duration) -> f32 {
        let part = self.warming.as_ref().map_or(1.0, |warming| warming.part(slot.since, now) as f32);
        slot.load.open_requests() as f32 * self.mean_weight / (slot.weight as f32 * part) + 1.0
    }
}

/// Spreads a key and a number over 64 bits (the finalizer of SplitMix64, twice).
fn mix(key: u64, n: u64) -> u64 {
    let scramble = |word: u64| {
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    };
    scramble(scramble(key).wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

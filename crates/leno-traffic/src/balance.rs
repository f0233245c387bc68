//! Which endpoint takes a request.
//!
//! A [`Picker`] is built with the table, from the members of one cluster; whatever can be prepared is prepared then
//! (who is eligible, the alias table for drawing by weight, the round). A pick allocates nothing and takes no lock.
//! All policies honour weights; members of weight 0 and those that are not eligible take nothing, and when no others
//! are left the answer is none: sending to the unhealthy is a decision for a policy, not for arithmetic.
//!
//! A policy is one file in `balance/` that implements [`Balance`], one line in [`POLICIES`], and passes `suite`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use leno_model::seam::Random as RandomBits;
use leno_model::snapshot::BalancePolicy;

use crate::alias::Alias;
use crate::load::{Load, millis};

mod least_request;
mod maglev;
mod peak_ewma;
mod random;
mod ring_hash;
mod round_robin;
#[cfg(test)]
mod suite;

pub use least_request::LeastRequest;
pub use maglev::Maglev;
pub use peak_ewma::PeakEwma;
pub use random::Random;
pub use ring_hash::RingHash;
pub use round_robin::RoundRobin;

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
    // For even counts.
    (BalancePolicy::RoundRobin, |set, seed| Box::new(RoundRobin::new(set, seed))),
    // For comparison, and where nothing is known of the load.
    (BalancePolicy::Random, |_, _| Box::new(Random)),
    // For a key that always meets the same endpoint, and keeps it whoever else comes or goes.
    (BalancePolicy::RingHash, |set, _| Box::new(RingHash::new(set))),
    // The same with shares that are even.
    (BalancePolicy::Maglev, |set, _| Box::new(Maglev::new(set))),
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
    /// Its load, kept from table to table.
    pub load: Arc<Load>,
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
}

/// A member that can be picked.
#[derive(Debug)]
pub struct Slot {
    member: usize,
    key: u64,
    weight: u32,
    load: Arc<Load>,
}

/// A policy with the members of one cluster.
pub struct Picker {
    set: Set,
    balance: Box<dyn Balance>,
}

// === impl Picker ===

impl Picker {
    /// Prepares picks among `members`. The seed (any random bits) keeps proxies from starting with the same endpoint.
    pub fn new(policy: BalancePolicy, members: &[Member], seed: u64) -> Self {
        let set = Set::new(members);
        let make = POLICIES.iter().find(|(name, _)| *name == policy).map(|(_, make)| make);
        let balance = make.map_or_else(|| Box::new(PeakEwma) as Box<dyn Balance>, |make| make(&set, seed));
        Self { set, balance }
    }

    /// Leaves those out for a while that were ejected.
    #[must_use]
    pub fn watched(mut self, is_watched: bool) -> Self {
        self.set.is_watched = is_watched;
        self
    }

    /// The index of a member; none when no member is eligible, or all that are were excluded.
    pub fn pick(&self, ask: &mut Ask<'_>) -> Option<usize> {
        if self.set.slots.is_empty() || self.set.is_used_up(ask) {
            return None;
        }
        let slot = &self.set.slots[self.balance.pick(&self.set, ask)?];
        if self.set.is_watched {
            slot.load.picked(ask.now);
        }
        Some(slot.member)
    }

    /// Whether this member can be picked now, whatever the policy would pick.
    pub fn can_take(&self, member: usize, now: Duration) -> bool {
        self.set.slot_of(member).is_some_and(|slot| !(self.set.is_watched && slot.load.is_out(now)))
    }

    /// Picks this member, which can be picked now.
    pub fn take(&self, member: usize, now: Duration) {
        if self.set.is_watched
            && let Some(slot) = self.set.slot_of(member)
        {
            slot.load.picked(now);
        }
    }

    /// How many members can be picked.
    pub fn eligible(&self) -> usize {
        self.set.slots.len()
    }
}

impl fmt::Debug for Picker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picker").field("eligible", &self.eligible()).finish_non_exhaustive()
    }
}

// === impl Set ===

impl Set {
    fn new(members: &[Member]) -> Self {
        let eligible = members.iter().enumerate().filter(|(_, member)| member.eligible && member.weight > 0);
        let slots: Box<[Slot]> = eligible
            .map(|(member, of)| Slot { member, key: of.key, weight: of.weight, load: Arc::clone(&of.load) })
            .collect();
        let weights: Vec<u32> = slots.iter().map(|slot| slot.weight).collect();
        let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let mean_weight = (sum / weights.len().max(1) as f64) as f32;
        Self { slots, alias: Alias::new(&weights), mean_weight, is_watched: false }
    }

    /// The slot of a member; slots stand in the order of their members.
    fn slot_of(&self, member: usize) -> Option<&Slot> {
        self.slots.binary_search_by_key(&member, |slot| slot.member).ok().map(|slot| &self.slots[slot])
    }

    /// Draws a slot by weight that is not excluded and not `other`.
    fn draw(&self, ask: &mut Ask<'_>, other: Option<usize>) -> Option<usize> {
        for _ in 0..DRAWS_MAX {
            let slot = self.alias.draw(ask.random.next_u64());
            if Some(slot) != other && !self.is_excluded(slot, ask) {
                return Some(slot);
            }
        }
        self.walk(ask, other)
    }

    /// The next slot from a random place on that is not excluded: after many draws in vain, when few are left.
    fn walk(&self, ask: &mut Ask<'_>, other: Option<usize>) -> Option<usize> {
        let start = ask.random.below(self.slots.len() as u64) as usize;
        let mut slots = (start..self.slots.len()).chain(0..start);
        slots.find(|slot| Some(*slot) != other && !self.is_excluded(*slot, ask))
    }

    /// The better of two draws by a cost; the first, unless the second is cheaper by more than `margin` (0 to 1).
    fn better_of_two(&self, ask: &mut Ask<'_>, margin: f32, cost: impl Fn(&Self, &Slot, u32) -> f32) -> Option<usize> {
        let first = self.draw(ask, None)?;
        if self.slots.len() == 1 {
            return Some(first);
        }
        let Some(second) = self.draw(ask, Some(first)) else { return Some(first) };
        let now = millis(ask.now);
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

    /// Open requests in proportion to the weight, plus one for the request that asks. The one does not depend on the
    /// weight: idle members cost the same, and the draw by weight decides.
    fn occupancy(&self, slot: &Slot) -> f32 {
        slot.load.open_requests() as f32 * self.mean_weight / slot.weight as f32 + 1.0
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

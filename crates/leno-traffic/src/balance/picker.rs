//! The members of a cluster in groups, one of which a request is for: by priority, and among those who are in panic.
//!
//! ```text
//! members ─ priorities ─┬─ able ones, by their locality where those have shares ─► policy
//!                       └─ all of them, in panic ───────────────────────────────► policy
//! ```
//!
//! Where members cannot be left out for a while, who is able is known when the table is built, and a pick finds its group
//! by one comparison. Where they can, shares of priorities are found anew by whoever picks when they are older than
//! [`JUDGED_EVERY`]: a walk over the members, too dear for each pick, and soon enough. In between, a pick that finds nobody
//! in its priority goes to the next one that has somebody.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use leno_model::snapshot::{BalancePolicy, Balancing};

use super::{Ask, Balance, Member, POLICIES, PeakEwma, Set, Slot, expression, mix};
use crate::alias::Alias;
use crate::ejection::Crowd;
use crate::load::Standing;
use crate::priority::{Crew, PRIORITIES_MAX, Split};
use crate::window::millis;

/// How long it is believed who is able.
const JUDGED_EVERY: u64 = 10;

/// Set the choice of a priority and that of a locality apart from the one of a member, where one key decides all.
const PRIORITY_OF_KEY: u64 = 0x7072_696f;
const LOCALITY_OF_KEY: u64 = 0x6c6f_6361;

/// How often a locality is drawn, before it is the first of them whatever that can carry, or the next after it that has
/// somebody.
const LOCALITIES_MAX: u64 = 16;

/// A policy with the members of one cluster.
pub struct Picker {
    /// The first comes first; at least one.
    priorities: Box<[Priority]>,
    panic_threshold: u32,
    /// By what was known when it was made.
    split: Split,
    /// How many members can be picked, by that.
    eligible: usize,
    /// Whether members may be left out for a while.
    is_watched: bool,
    /// Then, where there are shares to know.
    judged: Option<Judged>,
}

/// Members that are used together.
struct Priority {
    /// Those that are able, by locality where those have shares; at least one group.
    able: Box<[Group]>,
    /// Draws one of them.
    localities: Alias,
    /// All members; where there is a panic threshold.
    all: Option<Box<[Group]>>,
}

/// A policy with members.
struct Group {
    /// Those of `set`, and those that are not able.
    members: u32,
    set: Set,
    balance: Box<dyn Balance>,
    /// Percentage of its locality's share that they can carry.
    availability: AtomicU8,
}

/// How requests are shared among priorities, and since when that is known.
#[derive(Default)]
struct Judged {
    /// In milliseconds, and one more.
    at: AtomicU64,
    split: AtomicU64,
}

/// A priority as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its share of requests, in percent.
    pub share: u8,
    /// Members, and those that are able.
    pub crew: Crew,
    /// Whether all its members are used, able or not.
    pub panics: bool,
}

// === impl Picker ===

impl Picker {
    /// Prepares picks among `members`. The seed (any random bits) keeps proxies from starting with the same endpoint.
    pub fn new(policy: BalancePolicy, members: &[Member], seed: u64) -> Self {
        Self::tuned(policy, &Balancing::default(), members, seed)
    }

    /// Prepares picks among `members` as `balancing` says.
    pub fn tuned(policy: BalancePolicy, balancing: &Balancing, members: &[Member], seed: u64) -> Self {
        let mut by_priority: BTreeMap<u32, Vec<(usize, &Member)>> = BTreeMap::new();
        for (index, member) in members.iter().enumerate().filter(|(_, member)| member.counts()) {
            by_priority.entry(member.priority).or_default().push((index, member));
        }
        let mut groups: Vec<Vec<(usize, &Member)>> = by_priority.into_values().collect();
        if groups.len() > PRIORITIES_MAX {
            let last = groups.split_off(PRIORITIES_MAX - 1);
            groups.push(last.into_iter().flatten().collect());
        }
        groups.resize_with(groups.len().max(1), Vec::new);
        let priorities = groups.into_iter().map(|group| Priority::new(policy, balancing, &group, seed));
        let mut picker = Self {
            priorities: priorities.collect(),
            panic_threshold: balancing.panic_threshold,
            split: Split::FIRST,
            eligible: 0,
            is_watched: false,
            judged: None,
        };
        picker.split = picker.judge(|priority| priority.crew(None));
        let priorities = picker.priorities.iter().enumerate();
        let groups = priorities.flat_map(|(at, priority)| priority.groups(picker.split.panics(at)));
        picker.eligible = groups.map(|group| group.set.slots.len()).sum();
        picker
    }

    /// Leaves those out for a while that were ejected.
    #[must_use]
    pub fn watched(mut self, is_watched: bool) -> Self {
        self.is_watched = is_watched;
        let mut able = self.priorities.iter_mut().flat_map(|priority| &mut priority.able);
        able.by_ref().for_each(|group| group.set.is_watched = is_watched);
        let has_localities = self.priorities.iter().any(|priority| priority.able.len() > 1);
        let is_split = self.priorities.len() > 1 || self.panic_threshold > 0 || has_localities;
        self.judged = (is_watched && is_split).then(Judged::default);
        self
    }

    /// The index of a member; none when no member is eligible, or all that are were excluded.
    pub fn pick(&self, ask: &mut Ask<'_>) -> Option<usize> {
        let split = self.split(ask.now);
        let (hash, random) = (ask.hash, &mut ask.random);
        let first = split.draw(|| hash.map_or_else(|| random.next_u64(), |hash| mix(hash, PRIORITY_OF_KEY)));
        let pick = |at: usize, ask: &mut Ask<'_>| self.priorities.get(at)?.pick(ask, split.panics(at));
        let slot = pick(first, ask).or_else(|| {
            let mut others = (0..self.priorities.len()).filter(|at| *at != first);
            others.find_map(|at| pick(at, ask))
        })?;
        if self.is_watched {
            slot.load.picked(ask.now);
        }
        Some(slot.member)
    }

    /// Whether this member can be picked now, whatever the policy would pick.
    pub fn can_take(&self, member: usize, now: Duration) -> bool {
        let split = self.split(now);
        let mut groups = self.priorities.iter().enumerate().flat_map(|(at, of)| of.groups(split.panics(at)));
        groups.any(|group| group.set.has(member, now))
    }

    /// Picks this member, which can be picked now.
    pub fn take(&self, member: usize, now: Duration) {
        let mut groups = self.priorities.iter().flat_map(|priority| &priority.able);
        if self.is_watched
            && let Some(slot) = groups.find_map(|group| group.set.slot_of(member))
        {
            slot.load.picked(now);
        }
    }

    /// What the expression of the policy says of this member now, where it has one.
    pub fn value(&self, member: usize, now: Duration) -> Option<f64> {
        let mut groups = self.priorities.iter().flat_map(|priority| &priority.able);
        let (set, slot) = groups.find_map(|group| Some((&group.set, group.set.slot_of(member)?)))?;
        slot.program.as_ref().map(|_| expression::value(set, slot, now))
    }

    /// How many members can be picked.
    pub fn eligible(&self) -> usize {
        self.eligible
    }

    /// Those that take requests where nobody is ejected, and how many of them are.
    pub fn crowd(&self) -> Crowd {
        let slots = || self.priorities.iter().flat_map(|priority| &priority.able).flat_map(|group| &group.set.slots);
        let is_out = |slot: &&Slot| slot.load.standing() != Standing::In;
        Crowd { members: slots().count(), out: slots().filter(is_out).count() }
    }

    /// Each priority as it is.
    pub fn seen(&self, now: Duration) -> impl Iterator<Item = Seen> {
        let split = self.judge(|priority| priority.crew(Some(now)));
        let seen = move |(at, priority): (usize, &Priority)| Seen {
            share: split.share(at),
            crew: priority.crew(Some(now)),
            panics: split.panics(at),
        };
        self.priorities.iter().enumerate().map(seen)
    }

    fn split(&self, now: Duration) -> Split {
        let Some(judged) = &self.judged else { return self.split };
        let (now_ms, at) = (millis(now) + 1, judged.at.load(Relaxed));
        if at != 0 && now_ms.saturating_sub(at) < JUDGED_EVERY {
            return Split::unpack(judged.split.load(Relaxed));
        }
        let split = self.judge(|priority| priority.crew(Some(now)));
        judged.split.store(split.pack(), Relaxed);
        judged.at.store(now_ms, Relaxed);
        split
    }

    fn judge(&self, crew: impl Fn(&Priority) -> Crew) -> Split {
        let mut crews = [Crew::default(); PRIORITIES_MAX];
        crews.iter_mut().zip(&self.priorities).for_each(|(of, priority)| *of = crew(priority));
        Split::new(&crews[..self.priorities.len().min(PRIORITIES_MAX)], self.panic_threshold)
    }
}

impl fmt::Debug for Picker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picker").field("eligible", &self.eligible()).finish_non_exhaustive()
    }
}

// === impl Priority ===

impl Priority {
    fn new(policy: BalancePolicy, balancing: &Balancing, members: &[(usize, &Member)], seed: u64) -> Self {
        let mut by_locality: BTreeMap<Option<u32>, Vec<(usize, &Member)>> = BTreeMap::new();
        for (index, member) in members {
            by_locality.entry(member.locality.map(|locality| locality.id)).or_default().push((*index, member));
        }
        by_locality.entry(None).or_default();
        if by_locality.len() > 1 {
            // Without a locality is nobody, where some have one.
            by_locality.retain(|_, members| !members.is_empty());
        }
        let weight = |members: &Vec<(usize, &Member)>| {
            members.first().and_then(|(_, member)| member.locality).map_or(1, |locality| locality.weight)
        };
        let weights: Vec<u32> = by_locality.values().map(weight).collect();
        let able = by_locality.into_values().map(|members| Group::able(policy, balancing, &members, seed)).collect();
        let all = || Box::new([Group::new(policy, balancing, members, members.len(), seed)]) as Box<[Group]>;
        let all = (balancing.panic_threshold > 0).then(all);
        Self { able, localities: Alias::new(&weights), all }
    }

    fn groups(&self, panics: bool) -> &[Group] {
        self.all.as_deref().filter(|_| panics).unwrap_or(&self.able)
    }

    fn pick(&self, ask: &mut Ask<'_>, panics: bool) -> Option<&Slot> {
        let groups = self.groups(panics);
        if let [only] = groups {
            return only.pick(ask);
        }
        let mut first = None;
        for draw in 0..LOCALITIES_MAX {
            let bits = ask.hash.map_or_else(|| ask.random.next_u64(), |hash| mix(hash, LOCALITY_OF_KEY + draw));
            let at = self.localities.draw(bits);
            first.get_or_insert(at);
            let group = &groups[at];
            let is_drawn = mix(bits, LOCALITY_OF_KEY) % 100 < u64::from(group.availability.load(Relaxed));
            if let Some(slot) = is_drawn.then(|| group.pick(ask)).flatten() {
                return Some(slot);
            }
        }
        let (before, from) = groups.split_at(first.unwrap_or_default());
        from.iter().chain(before).find_map(|group| group.pick(ask))
    }

    /// Who there is; with a time, those that are out then are not able. Localities are told what they can carry.
    fn crew(&self, now: Option<Duration>) -> Crew {
        let mut all = Crew::default();
        for group in &self.able {
            let crew = group.crew(now);
            if self.able.len() > 1 {
                group.availability.store(crew.availability(), Relaxed);
            }
            all = Crew { members: all.members + crew.members, able: all.able + crew.able };
        }
        all
    }
}

// === impl Group ===

impl Group {
    /// Those that are able.
    fn able(policy: BalancePolicy, balancing: &Balancing, members: &[(usize, &Member)], seed: u64) -> Self {
        let able: Vec<(usize, &Member)> = members.iter().filter(|(_, member)| member.eligible).copied().collect();
        Self::new(policy, balancing, &able, members.len(), seed)
    }

    fn new(
        policy: BalancePolicy,
        balancing: &Balancing,
        members: &[(usize, &Member)],
        count: usize,
        seed: u64,
    ) -> Self {
        let set = Set::of(members.iter().copied(), balancing);
        let make = POLICIES.iter().find(|(name, _)| *name == policy).map(|(_, make)| make);
        let balance = make.map_or_else(|| Box::new(PeakEwma) as Box<dyn Balance>, |make| make(&set, seed));
        Self { members: count as u32, set, balance, availability: AtomicU8::new(100) }
    }

    fn crew(&self, now: Option<Duration>) -> Crew {
        let able = match now.filter(|_| self.set.is_watched) {
            Some(now) => self.set.slots.iter().filter(|slot| !slot.load.is_out(now)).count(),
            None => self.set.slots.len(),
        };
        Crew { members: self.members, able: able as u32 }
    }

    fn pick(&self, ask: &mut Ask<'_>) -> Option<&Slot> {
        if self.set.slots.is_empty() || self.set.is_used_up(ask) {
            return None;
        }
        self.balance.pick(&self.set, ask).map(|slot| &self.set.slots[slot])
    }
}

//! Leases of instances, and when many that end at once are not believed.
//!
//! The pure core. Each lease has two moments: *late*, when a renewal that was to be expected did not come, and *over*.
//! A renewal only notes the time; the timer learns of it when it next comes up, so that renewing costs a look-up.
//!
//! Self-preservation: when more than 15 % of the leases of one source are late, and it has at least 10, the fault is
//! more likely on the way between us and them than in all of them, and none of them is ended. Counting the late ones
//! and not the ones that are over notices this before the first is lost: renewals of a fleet are spread over a lease,
//! and so are their ends. When a lease is late follows from how its holder renewed so far: after one and a half of its
//! intervals, or two thirds of the lease where nothing is known yet.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// From so many leases of one source on, it is preserved.
pub const PRESERVED_LEASES_MIN: u32 = 10;

/// If more than so many in a hundred are late.
pub const PRESERVED_LATE_PERCENT: u32 = 15;

/// How long a lease is preserved at most.
pub const PRESERVED_MAX: Duration = Duration::from_secs(24 * 3600);

/// The most leases that one step looks at.
const STEP_MAX: usize = 10_000;

/// Where an instance lies in the catalogue.
pub(crate) type Slot = u32;

/// One lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    duration: Duration,
    renewed: Duration,
    /// The time between its renewals, as far as known.
    interval: Option<Duration>,
    stage: Stage,
    /// Which entry in the timer is this lease's.
    turn: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is amiss.
    Fresh,
    /// A renewal is missing.
    Late,
    /// It is over and preserved.
    Held,
    /// It is over; a passing probe speaks for the instance.
    Expired,
}

/// What a moment in time does to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is over.
    Over(Slot),
    /// It is over and preserved, from now on.
    Held(Slot),
}

/// Where the leases are kept: with their instances.
pub(crate) trait Holders {
    /// The lease in a slot and the source of its instance.
    fn lease(&mut self, slot: Slot) -> Option<(&mut Lease, &Arc<str>)>;
}

/// All leases of a catalogue.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    timer: BinaryHeap<Reverse<(Duration, Slot, u32)>>,
    /// What came up and is over, until it is decided about.
    over: VecDeque<(Slot, u32)>,
    sources: BTreeMap<Arc<str>, Account>,
    turn: u32,
}

/// The leases of one source.
#[derive(Debug, Default)]
struct Account {
    leases: u32,
    late: u32,
    held: BTreeSet<Slot>,
}

// === impl Lease ===

impl Lease {
    /// When it is noticed that a renewal is missing.
    fn late_at(&self) -> Duration {
        let (half, nearly) = (self.duration / 2, self.duration * 19 / 20);
        let after = match self.interval {
            Some(interval) => (interval * 3 / 2).clamp(half, nearly),
            None => self.duration * 2 / 3,
        };
        self.renewed + after
    }

    fn over_at(&self) -> Duration {
        self.renewed + self.duration
    }

    fn next(&self) -> Option<Duration> {
        match self.stage {
            Stage::Fresh => Some(self.late_at()),
            Stage::Late => Some(self.over_at()),
            Stage::Held => Some(self.over_at() + PRESERVED_MAX),
            Stage::Expired => None,
        }
    }
}

// === impl Leases ===

impl Leases {
    /// A new lease that begins now.
    pub(crate) fn begin(&mut self, slot: Slot, source: &Arc<str>, duration: Duration, now: Duration) -> Lease {
        self.sources.entry(source.clone()).or_default().leases += 1;
        let mut lease = Lease { duration, renewed: now, interval: None, stage: Stage::Fresh, turn: 0 };
        self.schedule(slot, &mut lease);
        lease
    }

    /// Forgets a lease, because it is over or its instance is gone.
    pub(crate) fn end(&mut self, slot: Slot, source: &Arc<str>, lease: &Lease) {
        let Some(account) = self.sources.get_mut(source) else { return };
        account.leases -= 1;
        account.late -= u32::from(lease.stage != Stage::Fresh);
        account.held.remove(&slot);
        if account.leases == 0 {
            self.sources.remove(source);
        }
        // Its entry in the timer is passed over when it comes up: no later than a lease takes.
    }

    /// Begins the lease anew. Whether it had been over.
    pub(crate) fn renew(&mut self, slot: Slot, source: &Arc<str>, lease: &mut Lease, now: Duration) -> bool {
        let gap = now.saturating_sub(lease.renewed);
        let was = std::mem::replace(&mut lease.stage, Stage::Fresh);
        lease.renewed = now;
        if was == Stage::Fresh || was == Stage::Late {
            // The longest of the recent gaps, so that one renewal sent twice does not make the next one look late.
            let before = lease.interval.unwrap_or(Duration::ZERO);
            lease.interval = Some(gap.max(before - before / 4));
        }
        if was != Stage::Fresh {
            self.schedule(slot, lease);
            if let Some(account) = self.sources.get_mut(source) {
                account.late -= 1;
                account.held.remove(&slot);
            }
        }
        was == Stage::Held || was == Stage::Expired
    }

    /// Notes that the instance of a lease that is over stays, because its probe passes.
    pub(crate) fn expire(&mut self, slot: Slot, source: &Arc<str>, lease: &mut Lease) {
        lease.stage = Stage::Expired;
        lease.turn = 0;
        if let Some(account) = self.sources.get_mut(source) {
            account.held.remove(&slot);
        }
    }

    /// Lets time come to `now`, in steps of [`STEP_MAX`] leases, so that nobody else waits for long when very many come
    /// up at once. [`Leases::next`] says whether there is more to do.
    ///
    /// Only when all that is late by now is counted, is it decided about what is over.
    pub(crate) fn advance(&mut self, now: Duration, holders: &mut impl Holders) -> Vec<Verdict> {
        let mut left = STEP_MAX;
        self.count_late(now, holders, &mut left);
        let mut verdicts = Vec::new();
        while left > 0
            && let Some((slot, turn)) = self.over.pop_front()
        {
            left -= 1;
            verdicts.extend(self.decide(slot, turn, holders));
        }
        if left > 0 {
            self.release(&mut verdicts, left);
        }
        verdicts
    }

    /// Takes what is due from the timer: counts what is late, and puts what is over aside.
    fn count_late(&mut self, now: Duration, holders: &mut impl Holders, left: &mut usize) {
        while let Some(Reverse((due, slot, turn))) = self.timer.peek().copied()
            && due <= now
        {
            if *left == 0 {
                return;
            }
            *left -= 1;
            self.timer.pop();
            let Some((lease, source)) = holders.lease(slot).filter(|(lease, _)| lease.turn == turn) else { continue };
            if lease.stage == Stage::Fresh && lease.late_at() <= now {
                lease.stage = Stage::Late;
                self.sources.entry(source.clone()).or_default().late += 1;
            }
            match lease.next() {
                Some(next) if next > now => self.timer.push(Reverse((next, slot, turn))),
                _ => self.over.push_back((slot, turn)),
            }
        }
    }

    /// What becomes of a lease that is over; nothing if it was renewed meanwhile.
    fn decide(&mut self, slot: Slot, turn: u32, holders: &mut impl Holders) -> Option<Verdict> {
        let (lease, source) = holders.lease(slot).filter(|(lease, _)| lease.turn == turn)?;
        let account = self.sources.entry(source.clone()).or_default();
        if lease.stage != Stage::Late || !account.is_preserved() {
            return Some(Verdict::Over(slot));
        }
        lease.stage = Stage::Held;
        account.held.insert(slot);
        self.timer.push(Reverse((lease.over_at() + PRESERVED_MAX, slot, turn)));
        Some(Verdict::Held(slot))
    }

    /// What is held of a source that need not be preserved any more is over; at most so many at once.
    fn release(&mut self, verdicts: &mut Vec<Verdict>, mut left: usize) {
        for account in self.sources.values_mut().filter(|account| !account.is_preserved()) {
            while left > 0
                && let Some(slot) = account.held.pop_first()
            {
                left -= 1;
                verdicts.push(Verdict::Over(slot));
            }
        }
    }

    /// When the next lease may be late or over, if none is renewed.
    pub(crate) fn next(&self) -> Option<Duration> {
        let waits = !self.over.is_empty() || self.sources.values().any(Account::is_to_be_released);
        if waits { Some(Duration::ZERO) } else { self.timer.peek().map(|Reverse((due, ..))| *due) }
    }

    /// The sources whose leases are preserved now.
    pub(crate) fn preserved(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sources.iter().filter(|(_, account)| account.is_preserved()).map(|(source, _)| source)
    }

    /// Drops the entries that would be passed over, when leases come and go faster than they end.
    pub(crate) fn tidy(&mut self, holders: &mut impl Holders) {
        let leases: usize = self.sources.values().map(|account| account.leases as usize).sum();
        if self.timer.len() > 2 * leases + 1024 {
            self.timer
                .retain(|Reverse((_, slot, turn))| holders.lease(*slot).is_some_and(|(lease, _)| lease.turn == *turn));
        }
    }

    fn schedule(&mut self, slot: Slot, lease: &mut Lease) {
        self.turn = self.turn.wrapping_add(1).max(1);
        lease.turn = self.turn;
        if let Some(next) = lease.next() {
            self.timer.push(Reverse((next, slot, lease.turn)));
        }
    }
}

// === impl Account ===

impl Account {
    fn is_to_be_released(&self) -> bool {
        !self.held.is_empty() && !self.is_preserved()
    }

    fn is_preserved(&self) -> bool {
        self.leases >= PRESERVED_LEASES_MIN && self.late * 100 > self.leases * PRESERVED_LATE_PERCENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Leases of one source, by slot.
    struct Fleet {
        source: Arc<str>,
        leases: Leases,
        held: BTreeMap<Slot, Lease>,
    }

    struct Held<'a>(&'a mut BTreeMap<Slot, Lease>, &'a Arc<str>);

    impl Holders for Held<'_> {
        fn lease(&mut self, slot: Slot) -> Option<(&mut Lease, &Arc<str>)> {
            self.0.get_mut(&slot).map(|lease| (lease, self.1))
        }
    }

    impl Fleet {
        fn new(count: u32) -> Self {
            let mut fleet = Self { source: "run".into(), leases: Leases::default(), held: BTreeMap::new() };
            for slot in 0..count {
                let lease = fleet.leases.begin(slot, &fleet.source, 30 * SECOND, Duration::ZERO);
                fleet.held.insert(slot, lease);
            }
            fleet
        }

        fn renew(&mut self, slots: impl Iterator<Item = Slot>, now: Duration) {
            for slot in slots {
                let lease = self.held.get_mut(&slot).unwrap();
                self.leases.renew(slot, &self.source, lease, now);
            }
        }

        /// Advances and ends what is over; how many were ended and how many held.
        fn advance(&mut self, now: Duration) -> (usize, usize) {
            let verdicts = self.leases.advance(now, &mut Held(&mut self.held, &self.source));
            let (mut over, mut held) = (0, 0);
            for verdict in verdicts {
                match verdict {
                    Verdict::Held(_) => held += 1,
                    Verdict::Over(slot) => {
                        let lease = self.held.remove(&slot).unwrap();
                        self.leases.end(slot, &self.source, &lease);
                        over += 1;
                    }
                }
            }
            (over, held)
        }
    }

    #[test]
    fn a_lease_is_over_when_its_duration_has_passed_and_not_before() {
        let mut fleet = Fleet::new(1);
        assert_eq!(fleet.advance(Duration::from_millis(29_999)), (0, 0));
        fleet.renew(0..1, 29 * SECOND);
        assert_eq!(fleet.advance(58 * SECOND), (0, 0));
        assert_eq!(fleet.advance(59 * SECOND), (1, 0));
    }

    #[test]
    fn a_few_of_many_that_end_are_believed() {
        let mut fleet = Fleet::new(100);
        for round in 1..=3 {
            fleet.renew(15..100, round * 10 * SECOND);
            fleet.advance(round * 10 * SECOND);
        }
        assert_eq!(fleet.held.len(), 85);
    }

    #[test]
    fn many_of_many_that_end_are_not_believed() {
        let mut fleet = Fleet::new(100);
        let mut ended = (0, 0);
        for round in 1..=3 {
            fleet.renew(16..100, round * 10 * SECOND);
            let (over, held) = fleet.advance(round * 10 * SECOND);
            ended = (ended.0 + over, ended.1 + held);
        }
        assert_eq!(ended, (0, 16));
        assert_eq!(fleet.leases.preserved().count(), 1);
    }

    #[test]
    fn a_partition_ends_no_lease_though_renewals_are_spread() {
        let mut fleet = Fleet::new(100);
        // Each renews every 10 s, a hundred of them evenly spread, until the partition at 40 s.
        for tenth in 1..400_u32 {
            let now = SECOND * tenth / 10;
            fleet.renew((0..100).filter(|slot| slot % 100 == tenth % 100), now);
            fleet.advance(now);
        }
        for tenth in 400..3000_u32 {
            assert_eq!(fleet.advance(SECOND * tenth / 10).0, 0, "at {tenth} tenths");
        }
        assert_eq!(fleet.held.len(), 100);
        // They come back: nothing is preserved any more, and whoever stays away is ended.
        fleet.renew(1..100, 300 * SECOND);
        fleet.advance(301 * SECOND);
        assert_eq!((fleet.held.len(), fleet.leases.preserved().count()), (99, 0));
    }

    #[test]
    fn nine_of_nine_that_end_are_believed() {
        let mut fleet = Fleet::new(9);
        assert_eq!(fleet.advance(30 * SECOND), (9, 0));
    }

    #[test]
    fn a_lease_is_not_preserved_for_ever() {
        let mut fleet = Fleet::new(20);
        assert_eq!(fleet.advance(30 * SECOND), (0, 20));
        assert_eq!(fleet.advance(29 * SECOND + PRESERVED_MAX), (0, 0));
        assert_eq!(fleet.advance(30 * SECOND + PRESERVED_MAX), (20, 0));
    }

    #[test]
    fn very_many_that_come_up_at_once_are_counted_before_any_is_ended() {
        let mut fleet = Fleet::new(5 * STEP_MAX as u32);
        // As after a machine was asleep: late and over at the same moment.
        let (mut over, mut held, mut steps) = (0, 0, 0);
        while fleet.leases.next().is_some_and(|next| next <= 60 * SECOND) {
            let step = fleet.advance(60 * SECOND);
            (over, held, steps) = (over + step.0, held + step.1, steps + 1);
        }
        assert_eq!((over, held), (0, 5 * STEP_MAX));
        assert!(steps >= 10);
    }

    #[test]
    fn the_timer_forgets_leases_that_were_ended_early() {
        let mut fleet = Fleet::new(0);
        for _ in 0..10_000 {
            let lease = fleet.leases.begin(7, &fleet.source, 30 * SECOND, Duration::ZERO);
            fleet.leases.end(7, &fleet.source, &lease);
            fleet.leases.tidy(&mut Held(&mut fleet.held, &fleet.source));
        }
        assert!(fleet.leases.timer.len() <= 1025);
    }
}

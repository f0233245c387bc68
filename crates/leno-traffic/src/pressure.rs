//! What a process does when it gets short of something that it cannot do without: reactions, mildest first, each from a
//! threshold of its own on.
//!
//! They are those of Envoy's overload manager, in its order: what nobody uses is closed, then who reads slowest is given
//! up and less is read for them, then requests are refused, what matters least first, and at the very last nothing more is accepted. A reaction ends
//! a few percent below where it began, so that none flickers. (Rejected: Envoy's scaled triggers, by which a share of all
//! requests is refused by chance: priorities say better which.)
//!
//! `step(fill) → Pressure`: one word, which is all that a request looks at.

use leno_model::snapshot::Priority;

/// A reaction ends so many permille below its threshold.
const RELEASE: u16 = 50;
/// Of those who read slowly, at least so many permille are given up at a time.
const SHARE_MIN: u16 = 50;
const WHOLE: u16 = 1000;
const REFUSES: u32 = Reaction::RefuseSheddable.bit()
    | Reaction::RefuseSheddablePlus.bit()
    | Reaction::RefuseCritical.bit()
    | Reaction::RefuseCriticalPlus.bit();
const SHARE_AT: u32 = 16;
/// Some requests are left out because there is too much to do.
const BUSY: u32 = 1 << 15;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reaction {
    /// Connections on which nothing is asked are closed, and each other one after its answer.
    CloseIdle,
    /// Answers whose readers take nothing are given up, slowest first.
    ResetSlow,
    /// What endpoints send ahead is read slowly.
    ReadLess,
    /// Requests of `sheddable` are refused.
    RefuseSheddable,
    /// Those of `sheddable-plus` too.
    RefuseSheddablePlus,
    /// Those of `critical` too.
    RefuseCritical,
    /// All are.
    RefuseCriticalPlus,
    /// No connection is accepted.
    StopAccepting,
}

/// Which reactions there are at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressure(u32);

/// From what fill on each reaction is taken, in percent; those without a number never are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds([Option<u8>; Reaction::ALL.len()]);

/// The reactions of a process, one look after the other.
#[derive(Debug, Clone)]
pub struct Reactions {
    thresholds: Thresholds,
    now: Pressure,
}

// === impl Reaction ===

impl Reaction {
    /// Every one, the mildest first.
    pub const ALL: [Self; 8] = [
        Self::CloseIdle,
        Self::ResetSlow,
        Self::ReadLess,
        Self::RefuseSheddable,
        Self::RefuseSheddablePlus,
        Self::RefuseCritical,
        Self::RefuseCriticalPlus,
        Self::StopAccepting,
    ];

    /// Its name in settings, metrics and logs.
    pub fn text(self) -> &'static str {
        match self {
            Self::CloseIdle => "close-idle",
            Self::ResetSlow => "reset-slow",
            Self::ReadLess => "read-less",
            Self::RefuseSheddable => "refuse-sheddable",
            Self::RefuseSheddablePlus => "refuse-sheddable-plus",
            Self::RefuseCritical => "refuse-critical",
            Self::RefuseCriticalPlus => "refuse-critical-plus",
            Self::StopAccepting => "stop-accepting",
        }
    }

    /// The one of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reaction| reaction.text() == text)
    }

    const fn bit(self) -> u32 {
        1 << self as u8
    }
}

impl From<Priority> for Reaction {
    /// The one that refuses requests of this priority.
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::Sheddable => Self::RefuseSheddable,
            Priority::SheddablePlus => Self::RefuseSheddablePlus,
            Priority::Critical => Self::RefuseCritical,
            Priority::CriticalPlus => Self::RefuseCriticalPlus,
        }
    }
}

// === impl Pressure ===

impl Pressure {
    /// As one number, to be passed between threads.
    pub fn word(self) -> u32 {
        self.0
    }

    /// Of such a number.
    pub fn of_word(word: u32) -> Self {
        Self(word)
    }

    /// Whether nothing is done about being short of anything.
    pub fn is_calm(self) -> bool {
        self.0 & !BUSY == 0
    }

    /// The same, where some requests are left out because there is too much to do, or none.
    pub fn busy(self, is_busy: bool) -> Self {
        Self(self.0 & !BUSY | if is_busy { BUSY } else { 0 })
    }

    /// Whether some requests are.
    pub fn is_busy(self) -> bool {
        self.0 & BUSY != 0
    }

    /// Whether this is done.
    pub fn is(self, reaction: Reaction) -> bool {
        self.0 & reaction.bit() != 0
    }

    /// Whether any request is refused, for whatever reason.
    pub fn refuses_some(self) -> bool {
        self.0 & (REFUSES | BUSY) != 0
    }

    /// The share of those who read slowly that is given up at a time, in permille.
    pub fn share(self) -> u16 {
        (self.0 >> SHARE_AT) as u16
    }

    /// What is done.
    pub fn reactions(self) -> impl Iterator<Item = Reaction> {
        Reaction::ALL.into_iter().filter(move |reaction| self.is(*reaction))
    }
}

// === impl Thresholds ===

impl Default for Thresholds {
    fn default() -> Self {
        Self([75, 80, 82, 85, 88, 91, 94, 97].map(Some))
    }
}

impl Thresholds {
    /// From what percentage on a reaction is taken.
    pub fn get(&self, reaction: Reaction) -> Option<u8> {
        self.0[reaction as usize]
    }

    /// Changes it.
    pub fn set(&mut self, reaction: Reaction, percent: Option<u8>) {
        self.0[reaction as usize] = percent;
    }

    fn permille(&self, reaction: Reaction) -> Option<u16> {
        self.get(reaction).map(|percent| u16::from(percent) * 10)
    }
}

// === impl Reactions ===

impl Reactions {
    /// None yet.
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, now: Pressure::default() }
    }

    /// What is done from now on, where so many permille are full.
    pub fn step(&mut self, fill: u16) -> Pressure {
        let mut word = 0;
        for reaction in Reaction::ALL {
            let Some(from) = self.thresholds.permille(reaction) else { continue };
            let from = if self.now.is(reaction) { from.saturating_sub(RELEASE) } else { from };
            if fill >= from {
                word |= reaction.bit();
            }
        }
        let slow = Reaction::ResetSlow;
        if let (true, Some(from)) = (Pressure(word).is(slow), self.thresholds.permille(slow)) {
            // From a twentieth at the threshold to all where nothing is left.
            let way = u32::from(fill.min(WHOLE).saturating_sub(from)) * u32::from(WHOLE);
            let share = way / u32::from(WHOLE.saturating_sub(from).max(1));
            word |= share.clamp(SHARE_MIN.into(), WHOLE.into()) << SHARE_AT;
        }
        self.now = Pressure(word);
        self.now
    }
}

#[cfg(test)]
mod tests;

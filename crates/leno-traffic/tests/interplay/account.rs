//! What happened, in numbers.

use std::fmt;

use leno_model::snapshot::Priority;

use crate::plan::{END, FROM, MS, Micros, Plan, SECOND, TO};

/// The step in which retries are counted, to see whether they come together; that for everything else.
pub(crate) const FINE: Micros = 2 * MS;
pub(crate) const COARSE: Micros = 100 * MS;

/// After the last request, until the last answer.
const TAIL: Micros = 10 * SECOND;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// In steps of [`COARSE`]: requests that came, those answered well, tries that reached an instance.
    pub(crate) offered: Vec<u32>,
    pub(crate) good: Vec<u32>,
    pub(crate) tries: Vec<u32>,
    /// In steps of [`FINE`].
    pub(crate) retries: Vec<u32>,
    /// Of each instance, in steps of [`COARSE`].
    pub(crate) by_instance: Vec<Vec<u32>>,
    /// Of each priority, in the time of the fault but its first second: requests, and those answered well.
    pub(crate) by_priority: [(u32, u32); Priority::ALL.len()],
    /// Requests that an instance turned away.
    pub(crate) shed: u32,
    /// Of each caller, in the time of the fault: requests, and those answered well.
    pub(crate) by_caller: Vec<(u32, u32)>,
    /// Of each caller, while everything fails: since when its breaker was open, and how many requests it let through then.
    pub(crate) through_open: Vec<(Option<Micros>, u32)>,
    /// Who was ejected when.
    pub(crate) ejected: Vec<(Micros, usize, usize)>,
    /// How often the breaker of each caller opened.
    pub(crate) opened: Vec<u64>,
    /// At the end: requests that are open somewhere, breakers that are not closed, endpoints that are out.
    pub(crate) left_open: usize,
    pub(crate) breakers_open: usize,
    pub(crate) endpoints_out: usize,
}

// === impl Account ===

impl Account {
    pub(crate) fn new(plan: &Plan) -> Self {
        let steps = ((END + TAIL) / COARSE) as usize;
        Self {
            offered: vec![0; steps],
            good: vec![0; steps],
            tries: vec![0; steps],
            retries: vec![0; ((END + TAIL) / FINE) as usize],
            by_instance: vec![vec![0; steps]; plan.instances],
            by_priority: Default::default(),
            shed: 0,
            by_caller: vec![(0, 0); plan.callers],
            through_open: vec![(None, 0); plan.callers],
            ejected: Vec::new(),
            opened: vec![0; plan.callers],
            left_open: 0,
            breakers_open: 0,
            endpoints_out: 0,
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.offered.iter().map(|count| u64::from(*count)).sum()
    }

    pub(crate) fn offer(&mut self, now: Micros, caller: usize, priority: Priority) {
        self.offered[step(now)] += 1;
        if is_judged(now) {
            self.by_priority[priority as usize].0 += 1;
        }
        if (FROM..TO).contains(&now) {
            self.by_caller[caller].0 += 1;
        }
    }

    /// A request that came then was answered well.
    pub(crate) fn answer(&mut self, came: Micros, caller: usize, priority: Priority) {
        self.good[step(came)] += 1;
        if is_judged(came) {
            self.by_priority[priority as usize].1 += 1;
        }
        if (FROM..TO).contains(&came) {
            self.by_caller[caller].1 += 1;
        }
    }

    pub(crate) fn attempt(&mut self, now: Micros, instance: usize, is_retry: bool) {
        self.tries[step(now)] += 1;
        self.by_instance[instance][step(now)] += 1;
        if is_retry {
            let fine = ((now / FINE) as usize).min(self.retries.len() - 1);
            self.retries[fine] += 1;
        }
    }

    /// The sum of some steps.
    pub(crate) fn sum(counts: &[u32], from: Micros, to: Micros) -> u32 {
        counts[step(from)..step(to)].iter().sum()
    }
}

/// Whether what comes then is judged by how much it matters: those who shed have to find out first what they can do.
fn is_judged(came: Micros) -> bool {
    (FROM + SECOND..TO).contains(&came)
}

fn step(now: Micros) -> usize {
    ((now / COARSE) as usize).min(((END + TAIL) / COARSE) as usize - 1)
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "second offered   good  tries ejected")?;
        for second in 0..END / SECOND + 2 {
            let (from, to) = (second * SECOND, (second + 1) * SECOND);
            let [offered, good, tries] = [&self.offered, &self.good, &self.tries].map(|of| Self::sum(of, from, to));
            let ejected = self.ejected.iter().filter(|(at, ..)| (from..to).contains(at)).count();
            writeln!(f, "{second:6} {offered:7} {good:6} {tries:6} {ejected:7}")?;
        }
        writeln!(f, "in the fault, by priority: {:?}; {} turned away", self.by_priority, self.shed)?;
        let opened: u64 = self.opened.iter().sum();
        let (open, out) = (self.breakers_open, self.endpoints_out);
        write!(f, "breakers opened {opened} times; at the end {open} are open, and endpoints are out {out} times")
    }
}

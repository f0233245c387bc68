//! What must hold whatever the seed. Bounds are as tight as chance lets them be: means and six standard deviations.

use std::collections::BTreeMap;
use std::fmt;

use leno_model::snapshot::Priority;

use crate::account::{Account, COARSE, FINE};
use crate::plan::{END, FROM, Fault, MS, Micros, Plan, SECOND, TO};

/// What is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// Retries multiply no outage: within any ten seconds at most a fifth of what is offered.
    RetryStorm,
    /// Those who failed together do not come back together, and when all is whole again not much more comes than is offered.
    Herd,
    /// A breaker that is not closed lets its probes through and nothing else.
    ProbeStorm,
    /// Instances that are equal get equal shares; no caller goes without what the others get.
    Fairness,
    /// Nothing swings: no ejections of who is well, no breakers that open and close, no instance that gets everything at once.
    Oscillation,
    /// What is well is answered well, before and after.
    Recovery,
    /// Whoever gets more than it can do does what it can.
    Goodput,
    /// Of what matters most nothing is refused that fits.
    Priority,
    /// In the end nothing is open.
    Leak,
}

#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) rule: Rule,
    what: String,
}

/// After the fault: until breakers are closed, probes are made, and what was learned is forgotten.
const SETTLED: Micros = TO + 3 * SECOND;
const TEN_SECONDS: Micros = 10 * SECOND;

struct Judge<'a> {
    plan: &'a Plan,
    account: &'a Account,
    findings: Vec<Finding>,
}

pub(crate) fn judge(plan: &Plan, account: &Account) -> Vec<Finding> {
    let mut judge = Judge { plan, account, findings: Vec::new() };
    judge.retry_storm();
    judge.retries_in_step();
    judge.surge();
    judge.probe_storm();
    judge.instances(MS * 500, FROM, "before");
    judge.instances(SETTLED, END, "after");
    judge.callers();
    judge.swings();
    judge.ejections();
    judge.breakers();
    judge.answers();
    judge.flood();
    judge.leaks();
    judge.findings
}

/// So many at most where so many are expected.
fn chance(mean: f64) -> f64 {
    6.0 * mean.sqrt() + 8.0
}

// === impl Judge ===

impl Judge<'_> {
    fn find(&mut self, rule: Rule, what: String) {
        // One of a kind says enough.
        if !self.findings.iter().any(|finding| finding.rule == rule) {
            self.findings.push(Finding { rule, what });
        }
    }

    fn retry_storm(&mut self) {
        let callers = self.plan.callers as f64;
        for from in (0..=END - TEN_SECONDS + SECOND).step_by(SECOND as usize) {
            let to = from + TEN_SECONDS;
            let offered = f64::from(Account::sum(&self.account.offered, from, to));
            let fine = (from / FINE) as usize..(to / FINE) as usize;
            let retries = f64::from(self.account.retries[fine].iter().sum::<u32>());
            let budget = &self.plan.budget;
            // One that is begun when the last of a share is left.
            let most = offered * f64::from(budget.percent) / 100.0 * 1.02 + callers;
            let most = most + callers * f64::from(budget.min_per_second) * (TO - FROM + SECOND) as f64 / SECOND as f64;
            if retries > most {
                let of = format!("{retries} retries of {offered} requests in ten seconds");
                self.find(Rule::RetryStorm, format!("{of} from second {} on, {most:.0} at most", from / SECOND));
            }
        }
    }

    fn retries_in_step(&mut self) {
        let retries = &self.account.retries;
        for (step, count) in retries.iter().enumerate().filter(|(_, count)| **count >= 25) {
            let around: u32 = retries[step.saturating_sub(12)..(step + 13).min(retries.len())].iter().sum();
            if f64::from(*count) > 0.4 * f64::from(around) {
                let at = step as u64 * FINE / MS;
                return self.find(Rule::Herd, format!("{count} of {around} retries within 2 ms, after {at} ms"));
            }
        }
    }

    fn surge(&mut self) {
        let mean = f64::from(Account::sum(&self.account.offered, 0, END)) / (END / COARSE) as f64;
        for from in (TO..TO + 2 * SECOND).step_by(COARSE as usize) {
            let tries = f64::from(Account::sum(&self.account.tries, from, from + COARSE));
            // A budget that was not spent may be, at once.
            let most = 2.0 * mean + chance(mean);
            if tries > most {
                let at = (from - TO) / MS;
                self.find(Rule::Herd, format!("{tries} tries in 100 ms, {at} ms after the end; {most:.0} at most"));
            }
        }
    }

    fn probe_storm(&mut self) {
        let Some(breaker) = &self.plan.breaker else { return };
        for (caller, (since, through)) in self.account.through_open.iter().enumerate() {
            let Some(since) = since else { continue };
            let times = (TO - since) / (breaker.open.as_micros() as Micros) + 2;
            if u64::from(*through) > u64::from(breaker.probes) * times {
                let what = format!("caller {caller} sent {through} requests through its breaker in {times} times open");
                return self.find(Rule::ProbeStorm, what);
            }
        }
    }

    /// Shares of those that were well all the time.
    fn instances(&mut self, from: Micros, to: Micros, when: &str) {
        let is_meant = |instance: &usize| when == "before" || !self.plan.breaks(*instance);
        let of = |instance: usize| {
            let count = Account::sum(&self.account.by_instance[instance], from, to);
            (instance, f64::from(count) / f64::from(self.plan.weights[instance]))
        };
        let shares: Vec<(usize, f64)> = (0..self.plan.instances).filter(is_meant).map(of).collect();
        let mean = shares.iter().map(|(_, share)| share).sum::<f64>() / shares.len().max(1) as f64;
        let off = shares.into_iter().find(|(_, share)| (share - mean).abs() > 0.3 * mean + chance(mean));
        if let Some((instance, share)) = off {
            let what = format!("{when}, instance {instance} got {share:.0} for its weight, {mean:.0} on average");
            self.find(Rule::Fairness, what);
        }
    }

    fn callers(&mut self) {
        let (came, good) = self.account.by_caller.iter().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        let mean = f64::from(good) / f64::from(came.max(1));
        // A breaker may open by chance where a third of the instances is gone.
        let is_meant = |(caller, (came, _)): &(usize, &(u32, u32))| *came >= 20 && self.account.opened[*caller] == 0;
        let worst = self.account.by_caller.iter().enumerate().filter(is_meant);
        let worst = worst.map(|(caller, (came, good))| (caller, f64::from(*good) / f64::from(*came)));
        if let Some((caller, share)) = worst.min_by(|a, b| a.1.total_cmp(&b.1))
            && mean > 0.95
            && share < 0.5
        {
            self.find(
                Rule::Fairness,
                format!("caller {caller} was answered {share:.2} of its requests, {mean:.2} all"),
            );
        }
    }

    /// No instance that is well gets in a moment what several should.
    fn swings(&mut self) {
        let of_all = f64::from(Account::sum(&self.account.offered, 0, END)) / (END / COARSE) as f64;
        let weight = |is_meant: &dyn Fn(usize) -> bool| -> f64 {
            (0..self.plan.instances).filter(|n| is_meant(*n)).map(|n| f64::from(self.plan.weights[n])).sum()
        };
        let (all, well) = (weight(&|_| true), weight(&|n| !self.plan.breaks(n)));
        for instance in 0..self.plan.instances {
            for from in (0..END).step_by(COARSE as usize) {
                if matches!(self.plan.fault, Fault::Flood(_)) && (FROM..SETTLED).contains(&from) {
                    continue;
                }
                let is_fault = (FROM..SETTLED).contains(&from) && !matches!(self.plan.fault, Fault::Nothing);
                if is_fault && self.plan.breaks(instance) {
                    continue;
                }
                let share = f64::from(self.plan.weights[instance]) / if is_fault { well } else { all };
                let count = f64::from(Account::sum(&self.account.by_instance[instance], from, from + COARSE));
                if count > 2.5 * of_all * share + chance(of_all * share) {
                    let what =
                        format!("{count} tries in 100 ms at {} ms, {:.1} is its share", from / MS, of_all * share);
                    return self.find(Rule::Oscillation, format!("instance {instance} got {what}"));
                }
            }
        }
    }

    fn ejections(&mut self) {
        let Some(terms) = &self.plan.ejection else { return };
        let calm = |at: Micros| !(FROM..SETTLED).contains(&at);
        if let Some((at, caller, instance)) =
            self.account.ejected.iter().find(|(at, _, instance)| calm(*at) && !self.plan.breaks(*instance))
        {
            self.find(
                Rule::Oscillation,
                format!("caller {caller} ejected {instance}, which was well, at {} ms", at / MS),
            );
        }
        // Each time longer than the one before.
        let (mut most, mut out) = (1, 0);
        while out < TO - FROM {
            out += terms.base_time.saturating_mul(most).min(terms.time_max).as_micros() as Micros;
            most += 1;
        }
        let mut times: BTreeMap<(usize, usize), u32> = BTreeMap::new();
        for (_, caller, instance) in &self.account.ejected {
            *times.entry((*caller, *instance)).or_default() += 1;
        }
        if let Some(((caller, instance), times)) = times.iter().find(|(_, times)| **times > most) {
            let what = format!("caller {caller} ejected {instance} {times} times, {most} at most");
            self.find(Rule::Oscillation, what);
        }
    }

    fn breakers(&mut self) {
        let Some(breaker) = &self.plan.breaker else { return };
        let most = match self.plan.fault {
            Fault::Nothing => 0,
            _ => (TO - FROM) / (breaker.open.as_micros() as Micros) + 3,
        };
        if let Some((caller, opened)) = self.account.opened.iter().enumerate().find(|(_, opened)| **opened > most) {
            let what = format!("the breaker of caller {caller} opened {opened} times, {most} at most");
            self.find(Rule::Oscillation, what);
        }
    }

    fn answers(&mut self) {
        // Who holds back what was in vain tries a little more each time.
        let (settled, least) = match self.plan.admission {
            Some(_) => (END - SECOND, 0.9),
            None => (SETTLED, 0.99),
        };
        for (from, to, when, least) in [(0, FROM - SECOND, "before", 0.99), (settled, END, "after", least)] {
            let [offered, good] =
                [&self.account.offered, &self.account.good].map(|of| f64::from(Account::sum(of, from, to)));
            if good < least * offered {
                self.find(Rule::Recovery, format!("{when}, {good} of {offered} requests were answered well"));
            }
        }
        if self.account.breakers_open > 0 {
            self.find(Rule::Recovery, format!("{} breakers are open long after", self.account.breakers_open));
        }
    }

    fn flood(&mut self) {
        if !matches!(self.plan.fault, Fault::Flood(_)) {
            return;
        }
        let seconds = (TO - FROM - SECOND) as f64 / SECOND as f64;
        let good: u32 = self.account.by_priority.iter().map(|(_, good)| good).sum();
        let able = self.plan.capacity() * seconds;
        let came: u32 = self.account.by_priority.iter().map(|(came, _)| came).sum();
        let able = able.min(f64::from(came));
        if f64::from(good) < 0.8 * able {
            self.find(Rule::Goodput, format!("{good} requests were answered well, {able:.0} could be"));
        }
        let (came, good) = self.account.by_priority[Priority::CriticalPlus as usize];
        if f64::from(good) < 0.95 * f64::from(came) {
            self.find(Rule::Priority, format!("{good} of {came} that matter most were answered well"));
        }
    }

    fn leaks(&mut self) {
        if self.account.left_open > 0 {
            self.find(Rule::Leak, format!("{} requests are open when all have ended", self.account.left_open));
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

//! What is called: so many slots, a queue before them, and days on which it is not well.

use std::collections::VecDeque;

use leno_traffic::reported::Report;

use crate::plan::{How, Micros, Plan, SECOND};

/// Waiting for a slot of an instance: more than so many times its slots are refused.
const QUEUE_FACTOR: usize = 20;

pub(crate) struct Instance {
    slots: u32,
    /// Tries at work, by number.
    pub(crate) busy: Vec<u64>,
    pub(crate) queue: VecDeque<u64>,
    pub(crate) how: Option<How>,
    /// It takes so many times as long.
    pub(crate) slowness: u32,
    service: Micros,
    /// What was done in the last second: when, and how long it took.
    recent: VecDeque<(Micros, Micros)>,
}

/// What becomes of a try that arrives.
pub(crate) enum Taken {
    /// It is done after so long.
    Working(Micros),
    Waiting,
    /// An error at once, or a connection that is not made.
    Failed,
    Broken,
    /// Nothing, ever.
    Swallowed,
}

// === impl Instance ===

impl Instance {
    pub(crate) fn new(plan: &Plan, weight: u32) -> Self {
        Self {
            slots: plan.slots * weight,
            busy: Vec::new(),
            queue: VecDeque::new(),
            how: None,
            slowness: 1,
            service: plan.service,
            recent: VecDeque::new(),
        }
    }

    pub(crate) fn take(&mut self, a_try: u64, random: &mut fastrand::Rng) -> Taken {
        match self.how {
            Some(How::Refuses) => Taken::Broken,
            Some(How::Fails) => Taken::Failed,
            Some(How::Hangs) => Taken::Swallowed,
            None if (self.busy.len() as u32) < self.slots => {
                self.busy.push(a_try);
                Taken::Working(self.time(random))
            }
            None if self.queue.len() < self.slots as usize * QUEUE_FACTOR => {
                self.queue.push_back(a_try);
                Taken::Waiting
            }
            None => Taken::Failed,
        }
    }

    /// A try is done; what takes its slot, and for how long.
    pub(crate) fn done(&mut self, a_try: u64, random: &mut fastrand::Rng) -> Option<(u64, Micros)> {
        self.busy.retain(|busy| *busy != a_try);
        if self.busy.len() as u32 >= self.slots {
            return None;
        }
        let next = self.queue.pop_front()?;
        self.busy.push(next);
        Some((next, self.time(random)))
    }

    /// Notes what was done, and says how busy it is.
    pub(crate) fn report(&mut self, now: Micros, took: Micros) -> Report {
        self.recent.push_back((now, took));
        while self.recent.front().is_some_and(|(at, _)| now - at > SECOND) {
            self.recent.pop_front();
        }
        let busy: Micros = self.recent.iter().map(|(_, took)| took).sum();
        let utilization = busy as f32 / (SECOND * u64::from(self.slots)) as f32;
        Report { rate: self.recent.len() as f32, errors: 0.0, utilization }
    }

    /// Half to one and a half times the service time.
    fn time(&self, random: &mut fastrand::Rng) -> Micros {
        (self.service * u64::from(self.slowness)) * (500 + random.u64(..1_000)) / 1_000
    }
}

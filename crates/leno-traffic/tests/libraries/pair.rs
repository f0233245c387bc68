//! A breaker of leno's and one of a library's, taking the same steps.

use std::time::Duration;

use leno_traffic::breaker::{Breaker, Passed, State};
use leno_traffic::ejection::Mark;
use leno_traffic::window::Counts;

use crate::cases::{Case, Library};
use crate::jvm::Jvm;

/// Where leno differs by choice. `docs/resilience.md` has a sentence for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Choice {
    /// A good answer, or that good ones grow old, opens no breaker of leno's; the libraries look at their windows then too.
    OnlyBadAnswersOpen,
    /// An answer to what was asked before it opened says nothing about now; the libraries have it decide.
    LateAnswersDoNotCount,
    /// A probe that never ends makes room for another; Sentinel and Resilience4j wait for it.
    LostProbesMakeRoom,
    /// A probe that was lost and then ends does not count any more; Hystrix counts it as any other.
    LostProbesDoNotCount,
    /// A probe whose caller leaves is given back; Hystrix waits for its time to be over once more.
    ProbesAreGivenBack,
    /// The time for which it is open begins with the probe's failure; Hystrix's with the probe.
    OpenFromTheFailureOn,
}

/// What a sequence came to.
#[derive(Default)]
pub(crate) struct Ran {
    pub(crate) compared: usize,
    pub(crate) opened: usize,
    pub(crate) choices: Vec<Choice>,
}

pub(crate) struct Pair<'j> {
    jvm: &'j mut Jvm,
    case: &'j Case,
    random: fastrand::Rng,
    now: u64,
    next_call: u32,
    /// How likely an answer is bad or slow, in percent; drawn anew now and then.
    bad: u32,
    slow: u32,
    of: String,
    steps: Vec<String>,
    ran: Ran,
}

/// One breaker of leno's with what is open at it.
struct Ours<'b> {
    breaker: &'b Breaker,
    calls: Vec<Call<'b>>,
    /// When the last probe was let through.
    probed: u64,
    /// That probe's caller left.
    is_given_back: bool,
}

struct Call<'b> {
    number: u32,
    began: u64,
    is_probe: bool,
    passed: Passed<'b>,
}

/// Both are where they should be, or not by choice.
type Stood = Result<(), Choice>;

/// A multiple of every window, so that windows begin where they would at the beginning of time.
const BEGINNING: u64 = 1_200_000_000;
const CALLS_MAX: usize = 14;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

// === impl Pair ===

impl<'j> Pair<'j> {
    pub(crate) fn new(jvm: &'j mut Jvm, case: &'j Case, seed: u64, of: String) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self {
            jvm,
            case,
            random,
            now: BEGINNING,
            next_call: 0,
            bad: 50,
            slow: 20,
            of,
            steps: Vec::new(),
            ran: Ran::default(),
        }
    }

    /// So many steps, some of which are several calls.
    pub(crate) fn run(&mut self, steps: usize) -> Ran {
        let mut left = steps;
        while left > 0 {
            let breaker = Breaker::new(&self.case.ours);
            self.steps.clear();
            let library = format!("{:?}", self.case.library).to_lowercase();
            self.ask(&format!("new {library} {} {}", self.now, self.case.theirs));
            let mut ours = Ours { breaker: &breaker, calls: Vec::new(), probed: 0, is_given_back: false };
            let choice = self.live(&mut ours, &mut left);
            self.ran.choices.extend(choice);
            self.ran.opened += breaker.seen(ms(self.now)).opened as usize;
            // Not on the raster of a snapshot that began before.
            self.now = (self.now / BEGINNING + 1) * BEGINNING;
        }
        std::mem::take(&mut self.ran)
    }

    /// Until the steps are over, or they part by choice.
    fn live(&mut self, ours: &mut Ours<'_>, left: &mut usize) -> Option<Choice> {
        while *left > 0 {
            *left -= 1;
            if let Err(choice) = self.step(ours) {
                return Some(choice);
            }
        }
        None
    }

    fn step(&mut self, ours: &mut Ours<'_>) -> Stood {
        if self.random.u32(..12) == 0 {
            self.bad = [0, 30, 50, 60, 100][self.random.usize(..5)];
            self.slow = [0, 0, 40, 90][self.random.usize(..4)];
        }
        match self.random.u32(..100) {
            0..25 => self.wait(ours),
            25..45 => self.begin(ours),
            45..70 => self.end(ours, None),
            70..75 => self.leave(ours),
            75..85 => {
                let calls = self.random.u32(2..=self.case.ours.requests_min + 4);
                (0..calls).try_for_each(|_| self.call(ours))
            }
            _ => self.call(ours),
        }
    }

    /// One call, answered before anything else happens.
    fn call(&mut self, ours: &mut Ours<'_>) -> Stood {
        let before = ours.calls.len();
        self.begin(ours)?;
        match ours.calls.len() > before {
            true => self.end(ours, Some(before)),
            false => Ok(()),
        }
    }

    fn begin(&mut self, ours: &mut Ours<'_>) -> Stood {
        if ours.calls.len() >= CALLS_MAX {
            return Ok(());
        }
        self.next_call += 1;
        let (number, now) = (self.next_call, self.now);
        let before = ours.state();
        let passed = ours.breaker.pass(ms(now));
        let (answer, state) = self.ask(&format!("begin {now} {number}"));
        let passes = answer == "passed";
        if passes != passed.is_ok() {
            let sleep = self.case.ours.open.as_millis() as u64 - 2;
            let is_hystrix = self.case.library == Library::Hystrix;
            let is_pending = ours.calls.iter().any(|call| call.is_probe);
            return Err(match (before, passes) {
                (State::Open, true) if is_hystrix && now > ours.probed + sleep => Choice::OpenFromTheFailureOn,
                (State::HalfOpen, false) if is_hystrix && ours.is_given_back && now <= ours.probed + sleep => {
                    Choice::ProbesAreGivenBack
                }
                (State::HalfOpen, false) if !is_hystrix && is_pending => Choice::LostProbesMakeRoom,
                _ => self.fail(ours, &format!("leno lets it pass: {}, the library: {passes}", passed.is_ok())),
            });
        }
        if let Ok(passed) = passed {
            let is_probe = ours.state() == State::HalfOpen;
            if is_probe {
                (ours.probed, ours.is_given_back) = (now, false);
            }
            ours.calls.push(Call { number, began: now, is_probe, passed });
        }
        self.compare(ours, &state)
    }

    /// Ends a call: this one, or any.
    fn end(&mut self, ours: &mut Ours<'_>, index: Option<usize>) -> Stood {
        if ours.calls.is_empty() {
            return Ok(());
        }
        let index = index.unwrap_or_else(|| self.random.usize(..ours.calls.len()));
        let call = ours.calls.swap_remove(index);
        let mut bad = self.random.u32(..100) < self.bad;
        if self.random.u32(..100) < self.slow && self.case.library != Library::Hystrix && self.looks_at_slow_ones() {
            // As long as is not slow yet, and a millisecond longer.
            let slow_after = self.case.ours.slow_after.as_millis() as u64;
            self.now = self.now.max(call.began + slow_after - self.random.u64(..2));
        }
        let (is_hystrix, snapshot) = (self.case.library == Library::Hystrix, self.case.snapshot);
        if is_hystrix && !(call.is_probe && ours.state() == State::HalfOpen) {
            self.now += snapshot - 1;
        }
        let (now, before, took) = (self.now, ours.state(), ms(self.now - call.began));
        // What failed is not slow for leno, and is for the libraries: where it were both, it did not fail.
        bad &= !(self.looks_at_slow_ones() && took >= self.case.ours.slow_after && self.looks_at_failures());
        let late = if call.is_probe { before != State::HalfOpen } else { before != State::Closed };
        // A breaker that looks at slow answers alone counts one that failed as any other: leno's as one that was fast.
        let mark = if bad && self.looks_at_failures() { Mark::Error } else { Mark::Good };
        call.passed.settle(ms(now), mark, took);
        let word = if bad { "bad" } else { "good" };
        let (_, mut state) = self.ask(&format!("end {now} {} {word}", call.number));
        if is_hystrix {
            self.now = (now / snapshot + 1) * snapshot;
            state = self.look();
        }
        if late {
            return self.after_a_late_answer(ours, &call, bad, &state);
        }
        if before == State::HalfOpen && ours.state() == State::Closed && self.case.library == Library::Hystrix {
            // Hystrix counts the probe that closed it, in a step before those of the window that begins then.
            ours.breaker.pass(ms(now - 1)).unwrap().settle(ms(now - 1), Mark::Good, took);
        }
        self.compare_after_looking(ours, now, &state)
    }

    /// An answer to what was asked before it opened, or to a probe of before.
    fn after_a_late_answer(&mut self, ours: &Ours<'_>, call: &Call<'_>, bad: bool, state: &str) -> Stood {
        if call.is_probe && ours.state() == State::Closed {
            return Err(Choice::LostProbesDoNotCount);
        }
        let decides = match (self.case.library, ours.state()) {
            // Whatever is good closes it.
            (Library::Hystrix, _) if !bad => Some("closed"),
            (Library::Hystrix, _) | (_, State::Open | State::Closed) => None,
            (Library::Sentinel, State::HalfOpen) => {
                let took = self.now - call.began;
                let slow = self.looks_at_slow_ones() && took >= self.case.ours.slow_after.as_millis() as u64;
                Some(if slow || bad && self.looks_at_failures() { "open" } else { "closed" })
            }
            // It is one of those that decide together.
            (Library::Resilience4j, State::HalfOpen) => return Err(Choice::LateAnswersDoNotCount),
        };
        match decides {
            None => self.compare(ours, state),
            Some(decided) if state == decided => Err(Choice::LateAnswersDoNotCount),
            Some(_) => self.fail(ours, &format!("a late answer leaves the library {state}")),
        }
    }

    fn leave(&mut self, ours: &mut Ours<'_>) -> Stood {
        if ours.calls.is_empty() || self.case.library == Library::Sentinel {
            return Ok(());
        }
        let index = self.random.usize(..ours.calls.len());
        let call = ours.calls.swap_remove(index);
        let before = ours.state();
        let (_, state) = self.ask(&format!("leave {} {}", self.now, call.number));
        ours.is_given_back |= call.is_probe && before == State::HalfOpen;
        let is_probe = call.is_probe;
        drop(call);
        if !is_probe && before == State::HalfOpen && self.case.library == Library::Resilience4j {
            // It gives back a permission that it did not have.
            return Err(Choice::LateAnswersDoNotCount);
        }
        self.compare(ours, &state)
    }

    /// Time passes: a little, to an edge, or long.
    fn wait(&mut self, ours: &Ours<'_>) -> Stood {
        let terms = &self.case.ours;
        let bucket = (terms.window / terms.buckets).as_millis() as u64;
        let to = match self.random.u32(..8) {
            0 => self.now + self.random.u64(..50),
            1 => self.now + self.random.u64(..bucket),
            2 => (self.now / bucket + 1) * bucket,
            3 => (self.now / bucket + 1) * bucket - 1,
            // As far as the window reaches back, from the edge of a step.
            4 => (self.now / bucket + u64::from(terms.buckets)) * bucket - self.random.u64(..2),
            5 if self.random.bool() => self.now + terms.window.as_millis() as u64 * 2,
            _ if ours.state() == State::Closed => self.now + self.random.u64(..bucket),
            _ => {
                let over = ours.breaker.seen(ms(self.now)).since + terms.open;
                (over.as_millis() as u64 + self.random.u64(..4)).saturating_sub(2)
            }
        };
        self.now = to.max(self.now);
        if self.case.snapshot > 0 {
            self.now = self.now.div_ceil(self.case.snapshot) * self.case.snapshot;
        }
        let state = self.look();
        self.compare_after_looking(ours, self.now.saturating_sub(1), &state)
    }

    // === what they stand for ===

    /// The library may have looked where leno does not.
    fn compare_after_looking(&mut self, ours: &Ours<'_>, now: u64, state: &str) -> Stood {
        let counts = ours.breaker.seen(ms(now)).counts;
        let by_time_alone = self.case.library == Library::Hystrix;
        let has_looked = by_time_alone || self.steps.last().is_some_and(|step| step.starts_with("end "));
        if ours.state() == State::Closed && state == "open" && has_looked && self.is_too_much(counts) {
            return Err(Choice::OnlyBadAnswersOpen);
        }
        if ours.state() == State::Closed && has_looked && self.is_too_much(counts) {
            self.fail(ours, &format!("with {counts:?} the library is {state}"));
        }
        self.compare(ours, state)
    }

    fn compare(&mut self, ours: &Ours<'_>, state: &str) -> Stood {
        let stands = match (ours.state(), self.case.library) {
            (State::Closed, _) => "closed",
            // Hystrix knows two states.
            (State::Open, _) | (State::HalfOpen, Library::Hystrix) => "open",
            (State::HalfOpen, _) => "half_open",
        };
        if state != stands {
            self.fail(ours, &format!("leno is {stands}, the library {state}"));
        }
        self.ran.compared += 1;
        Ok(())
    }

    fn is_too_much(&self, counts: Counts) -> bool {
        let terms = &self.case.ours;
        let reaches = |part: u32, percent: u32| match terms.above && percent < 100 {
            true => part * 100 > counts.total * percent,
            false => part * 100 >= counts.total * percent,
        };
        let failures = terms.failures.is_some_and(|most| counts.failed > most - u32::from(!terms.above));
        let failed = terms.failure_ratio.is_some_and(|percent| reaches(counts.failed, percent));
        let slow = terms.slow_ratio.is_some_and(|percent| reaches(counts.slow, percent));
        counts.total >= terms.requests_min && (failures || failed || slow)
    }

    fn looks_at_failures(&self) -> bool {
        self.case.ours.failure_ratio.is_some() || self.case.ours.failures.is_some()
    }

    fn looks_at_slow_ones(&self) -> bool {
        self.case.ours.slow_ratio.is_some()
    }

    fn look(&mut self) -> String {
        self.ask(&format!("look {}", self.now)).1
    }

    fn ask(&mut self, step: &str) -> (String, String) {
        self.steps.push(step.to_owned());
        let (answer, state) = self.jvm.step(step);
        if let Some(step) = self.steps.last_mut() {
            step.push_str(&format!("  -> {answer} {state}"));
        }
        (answer, state)
    }

    fn fail(&self, ours: &Ours<'_>, what: &str) -> ! {
        let seen = ours.breaker.seen(ms(self.now));
        panic!("{}: {what}; leno: {seen:?}; the steps:\n{}", self.of, self.steps.join("\n"));
    }
}

// === impl Ours ===

impl Ours<'_> {
    fn state(&self) -> State {
        self.breaker.seen(Duration::ZERO).state
    }
}

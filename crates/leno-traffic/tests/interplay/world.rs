//! Time, and what happens in it, in order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use leno_model::snapshot::{Priority, Shedding};
use leno_traffic::Gate;
use leno_traffic::admission::Let;
use leno_traffic::breaker::{Passed, State};
use leno_traffic::bulkhead::{Entered, Waiting};
use leno_traffic::ejection::Mark;
use leno_traffic::load::{self, Open};
use leno_traffic::overload::{In, Shed};
use leno_traffic::reported::Report;

use crate::account::Account;
use crate::caller::{Caller, Pass};
use crate::instance::{Instance, Taken};
use crate::plan::{Bug, END, FROM, Fault, How, MS, Micros, Plan, SECOND, TO, priority};

/// One way between a caller and an instance.
const WAY: Micros = MS / 5;

/// What happens next. Numbers are those of callers, requests and tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Break,
    Mend,
    Come(usize),
    /// A request has waited for its limit as long as it may.
    Late(usize),
    /// A request is tried once more.
    Again(usize),
    Arrive(usize),
    Done(usize),
    Answer(usize, Outcome),
    TimeOut(usize),
    /// It has waited for room as long as it may.
    GaveUp(usize),
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Error,
    Broken,
    Shed,
}

struct Request<'a> {
    caller: usize,
    priority: Priority,
    came: Micros,
    retries: u32,
    tried: Vec<usize>,
    /// It passed a breaker that was not closed.
    is_probe: bool,
    passed: Option<Passed<'a>>,
    let_go: Option<Let<'a>>,
    waiting: Option<Waiting<'a>>,
    entered: Option<Entered<'a>>,
    retrying: Option<Entered<'a>>,
}

struct Try<'a> {
    request: usize,
    instance: usize,
    began: Micros,
    /// Until it is over for its caller.
    open: Option<Open>,
    /// It waits before the instance, or is in, since when.
    waiting: Option<Waiting<'a>>,
    inside: Option<(In, Micros)>,
    /// When the instance began to work on it.
    worked: Micros,
}

struct World<'a> {
    plan: &'a Plan,
    /// The time of day at the beginning, in whole seconds, so that budgets count the seconds that the judge counts.
    epoch: Duration,
    now: Micros,
    callers: &'a [Caller<'a>],
    instances: Vec<Instance>,
    /// Of each instance, where there are any, and the tries that wait there.
    gates: &'a [Arc<Gate>],
    lobbies: Vec<Vec<usize>>,
    requests: Vec<Request<'a>>,
    tries: Vec<Try<'a>>,
    /// Of each caller: requests that wait for its limit.
    queues: Vec<VecDeque<usize>>,
    events: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    scheduled: u64,
    random: fastrand::Rng,
    account: Account,
}

/// From the first request to the last answer.
pub(crate) fn run(plan: &Plan) -> Account {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let callers: Vec<Caller<'_>> = (0..plan.callers).map(|_| Caller::new(plan, random.u64(..))).collect();
    let mut gate = |terms: Shedding, weight: u32| {
        let min = match plan.bug {
            Some(Bug::OpenGate) => terms.max,
            _ if matches!(plan.fault, Fault::Flood(_)) => plan.slots * weight,
            // Twice what it does at once, so that chance alone fills no room while all is well.
            _ => 2 * plan.slots * weight,
        };
        Arc::new(Gate::new(Shedding { min, max: terms.max.max(min), ..terms }, random.u64(..)))
    };
    let gates: Vec<Arc<Gate>> = match plan.shedding {
        Some(terms) => plan.weights.iter().map(|weight| gate(terms, *weight)).collect(),
        None => Vec::new(),
    };
    let mut world = World {
        plan,
        epoch: Duration::from_secs(random.u64(1..10_000_000)),
        now: 0,
        callers: &callers,
        instances: plan.weights.iter().map(|weight| Instance::new(plan, *weight)).collect(),
        gates: &gates,
        lobbies: vec![Vec::new(); plan.instances],
        requests: Vec::new(),
        tries: Vec::new(),
        queues: vec![VecDeque::new(); plan.callers],
        events: BinaryHeap::new(),
        scheduled: 0,
        random,
        account: Account::new(plan),
    };
    world.live();
    world.account
}

// === impl World ===

impl<'a> World<'a> {
    fn live(&mut self) {
        for caller in 0..self.plan.callers {
            let first = self.random.u64(..self.plan.gap);
            self.after(first, Event::Come(caller));
        }
        self.after(FROM, Event::Break);
        self.after(TO, Event::Mend);
        self.after(END, Event::Close);
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            self.now = now;
            self.happen(event);
        }
        self.account.left_open = self.callers.iter().map(Caller::open).sum();
        self.account.opened = self.callers.iter().map(Caller::opened).collect();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Break => self.break_down(),
            Event::Mend => self.mend(),
            Event::Come(caller) => self.come(caller),
            Event::Late(request) => self.late(request),
            Event::Again(request) => self.attempt(request),
            Event::Arrive(number) => self.arrive(number),
            Event::Done(number) => self.done(number),
            Event::GaveUp(number) => self.gave_up(number),
            Event::Answer(number, Outcome::Shed) => self.turned_away(number),
            Event::Answer(number, Outcome::Error) => self.answer(number, Mark::Gateway),
            Event::Answer(number, Outcome::Broken) | Event::TimeOut(number) => self.answer(number, Mark::Local),
            Event::Close => {
                let now = self.time();
                self.account.breakers_open = self.callers.iter().filter(|one| one.stands() != State::Closed).count();
                self.account.endpoints_out = self.callers.iter().map(|caller| caller.out(now)).sum();
            }
        }
    }

    fn after(&mut self, wait: Micros, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((self.now + wait, self.scheduled, event)));
    }

    fn time(&self) -> Duration {
        self.epoch + Duration::from_micros(self.now)
    }

    // === requests ===

    fn come(&mut self, number: usize) {
        let gap = match self.plan.fault {
            Fault::Flood(times) if (FROM..TO).contains(&self.now) => self.plan.gap / times,
            _ => self.plan.gap,
        };
        let gap = (-self.random.f64().max(1e-9).ln() * gap as f64) as Micros;
        if self.now + gap < END {
            self.after(gap, Event::Come(number));
        }
        let priority = priority(&mut self.random);
        self.account.offer(self.now, number, priority);
        let caller = &self.callers[number];
        let Some(let_go) = caller.let_go(priority, self.time(), self.random.u64(..)) else { return };
        let passed = match caller.pass(self.time()) {
            Pass::Free => None,
            Pass::Passed(passed) => Some(passed),
            Pass::Refused => return,
        };
        let request = self.requests.len();
        self.requests.push(Request {
            caller: number,
            priority,
            came: self.now,
            retries: 0,
            tried: Vec::new(),
            is_probe: caller.stands() != State::Closed,
            passed,
            let_go,
            waiting: None,
            entered: None,
            retrying: None,
        });
        self.enter(request);
    }

    /// Within the limit of requests, where there is one.
    fn enter(&mut self, request: usize) {
        let (limits, caller) = (&self.plan.limits, &self.callers[self.requests[request].caller]);
        if limits.requests.is_some() {
            let entered = match limits.queue {
                Some(_) => caller.requests.try_enter(),
                None => caller.requests.enter_or_refuse(),
            };
            let waiting = match (&entered, limits.queue) {
                (None, Some(queue)) => caller.requests.wait().ok().map(|waiting| (waiting, queue.timeout)),
                _ => None,
            };
            if let Some((waiting, timeout)) = waiting {
                self.queues[self.requests[request].caller].push_back(request);
                self.requests[request].waiting = Some(waiting);
                self.after(timeout.as_micros() as Micros, Event::Late(request));
                return;
            }
            if entered.is_none() {
                self.requests[request].passed = None;
                return;
            }
            self.requests[request].entered = entered;
        }
        self.ask(request);
    }

    fn late(&mut self, request: usize) {
        if self.requests[request].waiting.take().is_some() {
            self.requests[request].passed = None;
            self.callers[self.requests[request].caller].requests.count_late();
        }
    }

    /// Those who wait and may enter now.
    fn let_in(&mut self, caller: usize) {
        while let Some(request) = self.queues[caller].front().copied() {
            if let Some(waiting) = &mut self.requests[request].waiting {
                match Pin::new(waiting).poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(entered) => {
                        self.requests[request].waiting = None;
                        self.requests[request].entered = Some(entered);
                        self.queues[caller].pop_front();
                        self.ask(request);
                    }
                    Poll::Pending => return,
                }
            } else {
                self.queues[caller].pop_front();
            }
        }
    }

    fn ask(&mut self, request: usize) {
        let (number, is_probe) = (self.requests[request].caller, self.requests[request].is_probe);
        self.callers[number].admit(self.time());
        if is_probe && matches!(self.plan.fault, Fault::All(_)) && (FROM..TO).contains(&self.now) {
            let through = &mut self.account.through_open[number];
            through.0.get_or_insert(self.now);
            through.1 += 1;
        }
        self.attempt(request);
    }

    fn end(&mut self, request: usize, mark: Mark) {
        let now = self.time();
        let request = &mut self.requests[request];
        let number = request.caller;
        if let Some(passed) = request.passed.take() {
            passed.settle(now, mark, Duration::from_micros(self.now - request.came));
        }
        if let Some(let_go) = request.let_go.take() {
            let_go.settle(now, mark == Mark::Good);
        }
        (request.entered, request.retrying) = (None, None);
        if mark == Mark::Good {
            self.account.answer(request.came, number, request.priority);
        }
        self.let_in(number);
    }

    // === tries ===

    fn attempt(&mut self, request: usize) {
        let now = self.time();
        let (number, retries) = (self.requests[request].caller, self.requests[request].retries);
        let picked = self.callers[number].pick(now, &mut self.random, &self.requests[request].tried);
        let Some((instance, open)) = picked else {
            return self.end(request, Mark::Local);
        };
        self.account.attempt(self.now, instance, retries > 0);
        let a_try = self.tries.len();
        let began = self.now;
        self.tries.push(Try { request, instance, began, open: Some(open), waiting: None, inside: None, worked: 0 });
        let way = WAY + self.random.u64(..WAY);
        self.after(way, Event::Arrive(a_try));
        self.after(self.plan.try_timeout, Event::TimeOut(a_try));
    }

    fn arrive(&mut self, number: usize) {
        if self.tries[number].open.is_none() {
            return;
        }
        let Some(gate) = self.gates.get(self.tries[number].instance) else { return self.work(number) };
        let (now, priority) = (self.time(), self.priority(number));
        match gate.enter(priority, now) {
            Ok(Some(inside)) => {
                self.tries[number].inside = Some((inside, self.now));
                self.work(number);
            }
            Ok(None) => match gate.wait(priority, now) {
                Ok((waiting, most)) => {
                    self.tries[number].waiting = Some(waiting);
                    self.lobbies[self.tries[number].instance].push(number);
                    self.after(most.as_micros() as Micros, Event::GaveUp(number));
                }
                Err(Shed) => self.shed(number),
            },
            Err(Shed) => self.shed(number),
        }
    }

    /// How much it matters, as the gate sees it.
    fn priority(&self, number: usize) -> Priority {
        match self.plan.bug {
            Some(Bug::PriorityIgnored) => Priority::default(),
            _ => self.requests[self.tries[number].request].priority,
        }
    }

    fn shed(&mut self, number: usize) {
        self.account.shed += 1;
        self.after(WAY, Event::Answer(number, Outcome::Shed));
    }

    fn gave_up(&mut self, number: usize) {
        if self.tries[number].waiting.take().is_some() {
            let (now, priority) = (self.time(), self.priority(number));
            let Shed = self.gates[self.tries[number].instance].gave_up(priority, now);
            self.shed(number);
        }
    }

    /// Those who wait before an instance and are in now.
    fn let_inside(&mut self, instance: usize) {
        let lobby = std::mem::take(&mut self.lobbies[instance]);
        for number in lobby {
            let Some(waiting) = &mut self.tries[number].waiting else { continue };
            match Pin::new(waiting).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(entered) => {
                    self.tries[number].waiting = None;
                    self.tries[number].inside = Some((self.gates[instance].admitted(entered), self.now));
                    self.work(number);
                }
                Poll::Pending => self.lobbies[instance].push(number),
            }
        }
    }

    fn work(&mut self, number: usize) {
        self.tries[number].worked = self.now;
        let instance = &mut self.instances[self.tries[number].instance];
        match instance.take(number as u64, &mut self.random) {
            Taken::Working(time) => self.after(time, Event::Done(number)),
            Taken::Waiting | Taken::Swallowed => {}
            Taken::Failed => self.after(WAY, Event::Answer(number, Outcome::Error)),
            Taken::Broken => self.after(WAY, Event::Answer(number, Outcome::Broken)),
        }
    }

    fn done(&mut self, number: usize) {
        let instance = &mut self.instances[self.tries[number].instance];
        if !instance.busy.contains(&(number as u64)) {
            // It died in between.
            return;
        }
        let report = instance.report(self.now, self.now - self.tries[number].worked);
        if let Some((next, time)) = instance.done(number as u64, &mut self.random) {
            self.tries[next as usize].worked = self.now;
            self.after(time, Event::Done(next as usize));
        }
        let now = self.time();
        if let Some((inside, since)) = &self.tries[number].inside {
            inside.gate().answered(now, Duration::from_micros(self.now - since));
        }
        self.answer_with(number, Mark::Good, Some(report));
    }

    /// An instance has too much to do, which is no fault of it, and no reason to ask once more.
    fn turned_away(&mut self, number: usize) {
        let now = self.time();
        let a_try = &mut self.tries[number];
        let Some(open) = a_try.open.take() else { return };
        open.finish(now, Duration::from_micros(self.now - a_try.began), load::Outcome::Failed);
        let request = a_try.request;
        let ending = &mut self.requests[request];
        if ending.passed.take().is_some() && ending.is_probe {
            // It says nothing, so that another one may try.
            let (_, through) = &mut self.account.through_open[ending.caller];
            *through = through.saturating_sub(1);
        }
        if let Some(let_go) = ending.let_go.take() {
            let_go.settle(now, false);
        }
        self.end(request, Mark::Gateway);
    }

    fn answer(&mut self, number: usize, mark: Mark) {
        self.answer_with(number, mark, None);
    }

    /// A try is over for its caller, and with that before the instance.
    fn answer_with(&mut self, number: usize, mark: Mark, report: Option<Report>) {
        let now = self.time();
        let a_try = &mut self.tries[number];
        let Some(open) = a_try.open.take() else { return };
        let was_there = a_try.waiting.take().is_some() | a_try.inside.take().is_some();
        let (number, instance, took) = (a_try.request, a_try.instance, Duration::from_micros(self.now - a_try.began));
        let request = &mut self.requests[number];
        let caller = &self.callers[request.caller];
        if caller.observe(now, instance, open, (mark, took), report) {
            self.account.ejected.push((self.now, request.caller, instance));
        }
        if was_there {
            self.let_inside(instance);
        }
        let request = &mut self.requests[number];
        let caller = &self.callers[request.caller];
        if mark == Mark::Good {
            return self.end(number, mark);
        }
        let wait = caller.retry(now, request.retries, &mut self.random, &mut request.retrying);
        match wait.map(|wait| wait.as_micros() as Micros) {
            Some(wait) if self.now + wait < request.came + self.plan.deadline => {
                request.retries += 1;
                request.tried.push(instance);
                self.after(wait, Event::Again(number));
            }
            _ => self.end(number, mark),
        }
    }

    // === faults ===

    fn break_down(&mut self) {
        for number in 0..self.instances.len() {
            if !self.plan.breaks(number) {
                continue;
            }
            let instance = &mut self.instances[number];
            if let Fault::Slow(slowness) = self.plan.fault {
                instance.slowness = slowness;
            }
            instance.how = self.plan.how();
            if matches!(instance.how, Some(How::Refuses | How::Hangs)) {
                let lost: Vec<u64> = instance.busy.drain(..).chain(instance.queue.drain(..)).collect();
                if instance.how == Some(How::Refuses) {
                    lost.into_iter().for_each(|a_try| self.after(0, Event::Answer(a_try as usize, Outcome::Broken)));
                }
            }
        }
    }

    fn mend(&mut self) {
        for instance in &mut self.instances {
            (instance.how, instance.slowness) = (None, 1);
        }
        debug_assert!(self.now < END && END < 60 * SECOND);
    }
}

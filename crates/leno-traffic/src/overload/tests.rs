//! A gate before a service of so many places, each busy with a request for a time, in virtual time.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use leno_model::snapshot::Priority::{Critical, CriticalPlus, Sheddable};

use super::*;

const TERMS: Shedding = Shedding { min: 4, max: 1000, tolerance: 25, wait: Duration::from_millis(5) };
const MS: Duration = Duration::from_millis(1);

/// What is offered of each priority in a second, to how many places, each busy for so long with a request.
struct World {
    gate: Arc<Gate>,
    now: Duration,
    random: fastrand::Rng,
    places: usize,
    takes: Duration,
    /// Those that are served, until when, and those that wait inside, all with the time at which they were let in.
    served: Vec<(Duration, Duration, Priority, In)>,
    inside: VecDeque<(Duration, Priority, In)>,
    waiting: Vec<(Priority, Duration, Waiting<'static>)>,
}

#[derive(Debug, Default)]
struct Account {
    offered: [u32; PRIORITIES],
    done: [u32; PRIORITIES],
    shed: [u32; PRIORITIES],
    limit_max: u32,
    limit_min: u32,
}

impl World {
    fn new(places: usize, seed: u64) -> Self {
        // Waiting ones borrow it for as long as the test lasts.
        let gate = Arc::new(Gate::new(TERMS, seed));
        let random = fastrand::Rng::with_seed(seed);
        let takes = Duration::from_millis(50);
        let (served, inside, waiting) = Default::default();
        Self { gate, now: Duration::ZERO, random, places, takes, served, inside, waiting }
    }

    /// So many of each priority a second, for so long.
    fn run(&mut self, per_second: [u32; PRIORITIES], lasts: Duration) -> Account {
        let mut account = Account { limit_min: u32::MAX, ..Account::default() };
        let until = self.now + lasts;
        // A test may leak what it looks at.
        let gate: &'static Arc<Gate> = Box::leak(Box::new(self.gate.clone()));
        while self.now < until {
            self.now += MS;
            for (_, came_in, priority, held) in self.served.extract_if(.., |(until, ..)| *until <= self.now) {
                gate.answered(self.now, self.now - came_in);
                account.done[priority as usize] += 1;
                drop(held);
            }
            let mut waiting = std::mem::take(&mut self.waiting);
            waiting.retain_mut(|(priority, since, waiting)| {
                let (room, limit) = (Pin::new(waiting), if *priority == CriticalPlus { PATIENCE } else { TERMS.wait });
                if let Poll::Ready(entered) = room.poll(&mut Context::from_waker(Waker::noop())) {
                    self.inside.push_back((self.now, *priority, gate.admitted(entered)));
                    return false;
                }
                if self.now - *since < limit {
                    return true;
                }
                gate.gave_up(*priority, self.now);
                account.shed[*priority as usize] += 1;
                false
            });
            for priority in Priority::ALL {
                let offered = self.random.u32(..1000) < per_second[priority as usize] % 1000;
                for _ in 0..per_second[priority as usize] / 1000 + u32::from(offered) {
                    account.offered[priority as usize] += 1;
                    match gate.enter(priority, self.now) {
                        Ok(Some(held)) => self.inside.push_back((self.now, priority, held)),
                        Ok(None) => waiting.push((priority, self.now, gate.wait(priority, self.now).unwrap().0)),
                        Err(Shed) => account.shed[priority as usize] += 1,
                    }
                }
            }
            self.waiting = waiting;
            while self.served.len() < self.places
                && let Some((came_in, priority, held)) = self.inside.pop_front()
            {
                self.served.push((self.now + self.takes, came_in, priority, held));
            }
            let limit = gate.seen().fill.max;
            account.limit_max = account.limit_max.max(limit);
            account.limit_min = account.limit_min.min(limit);
        }
        account
    }
}

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

#[test]
fn at_five_times_what_can_be_done_as_much_is_done_and_the_highest_priority_loses_nothing() {
    for seed in 0..20 {
        let mut world = World::new(25, seed);
        world.run([400, 0, 0, 200], SECONDS(2));
        let account = world.run([400, 600, 0, 1500], SECONDS(20));
        let done: u32 = account.done.iter().sum();
        assert!(done > 20 * 500 * 85 / 100, "seed {seed}: {account:?}");
        assert_eq!(account.shed[CriticalPlus as usize], 0, "seed {seed}: {account:?}");
        let (critical, sheddable) = (account.done[Critical as usize], account.done[Sheddable as usize]);
        assert!(critical > 20 * sheddable, "seed {seed}: {account:?}");
    }
}

#[test]
fn what_is_full_from_the_start_is_found_out() {
    for seed in 0..20 {
        let mut world = World::new(5, seed);
        world.run([0, 1000, 0, 0], SECONDS(5));
        let account = world.run([0, 1000, 0, 0], SECONDS(10));
        // Five are served, and one or two hundred milliseconds are not waited in line.
        assert!(account.limit_max <= 20 && account.limit_min >= 4, "seed {seed}: {account:?}");
        assert!(account.done[Critical as usize] > 900, "seed {seed}: {account:?}");
    }
}

#[test]
fn a_service_that_becomes_slower_is_used_whole_again() {
    let mut world = World::new(25, 1);
    world.run([0, 1500, 0, 0], SECONDS(5));
    world.takes = Duration::from_millis(100);
    world.run([0, 1500, 0, 0], SECONDS(75));
    let account = world.run([0, 1500, 0, 0], SECONDS(20));
    assert!(account.done[Critical as usize] > 20 * 250 * 85 / 100, "{account:?}");
}

#[test]
fn nothing_is_shed_of_what_fits() {
    for seed in 0..20 {
        let mut world = World::new(25, seed);
        // It begins with less room than there is.
        world.run([0, 400, 0, 0], SECONDS(5));
        let account = world.run([0, 300, 0, 0], SECONDS(20));
        assert_eq!(account.shed, [0; PRIORITIES], "seed {seed}: {account:?}");
    }
}

#[test]
fn the_median_is_within_a_ninth() {
    let times = Times { counts: [const { AtomicU32::new(0) }; STEPS] };
    for ms in [1, 7, 50, 333, 9_999] {
        (0..3).for_each(|_| times.count(Duration::from_millis(ms)));
        times.count(Duration::ZERO);
        times.count(SECONDS(1000));
        let median = times.take().unwrap().as_secs_f64() * 1000.0;
        assert!((median / ms as f64 - 1.0).abs() < 0.12, "{ms} ms: {median}");
    }
    assert_eq!(times.take(), None);
}

//! The server and hundreds of proxies in a simulation with a seed: late and lost messages, proxies that come and go, a server
//! that ends and begins anew. After each step what the server has allotted is not more than the limit, and in no second
//! do more requests pass than stated.

use leno_model::snapshot::{Rate, RateFallback, RateForm, RateLimit, RateShared, RateTell};

use super::*;
use crate::Limiter;
use crate::rate::Standing;

const STEP: Duration = Duration::from_millis(2);
const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_millis(500);

fn limit(requests: u32, fallback: RateFallback) -> RateLimit {
    let rate = Rate { requests, per: SECOND };
    RateLimit {
        name: "all".into(),
        when: Vec::new(),
        key: Vec::new(),
        keys: 0,
        form: RateForm::Bucket { rate, burst: (requests / 20).max(1), warm_up: None },
        shared: Some(RateShared { per_proxy: false, fallback }),
        tell: RateTell::Nothing,
    }
}

struct Proxy {
    name: String,
    limiter: Limiter,
    holding: Holding,
    /// Requests a second that come.
    demand: f64,
    passed: u64,
    refused: u64,
    /// When the question on its way was asked, what it is, when it arrives, and its answer with when that arrives.
    asked: Option<(Duration, Ask, Duration)>,
    answer: Option<(Allotment, Duration)>,
}

/// Proxies, a server that may be away, and a network between them.
struct World {
    limit: RateLimit,
    now: Duration,
    random: fastrand::Rng,
    ledger: Option<Ledger<&'static str>>,
    proxies: Vec<Proxy>,
    named: usize,
    /// Share of messages that are lost, and how long one takes at most.
    lost: f64,
    delay: Duration,
    /// Of each step: what passed, and what proxies without a server may let through in a second.
    history: Vec<(u64, f64)>,
}

// === impl World ===

impl World {
    fn new(seed: u64, requests: u32) -> Self {
        let now = Duration::from_secs(100);
        Self {
            limit: limit(requests, RateFallback::Share),
            now,
            random: fastrand::Rng::with_seed(seed),
            // It has been there for a while.
            ledger: Some(Ledger::new(Duration::ZERO)),
            proxies: Vec::new(),
            named: 0,
            lost: 0.0,
            delay: Duration::from_millis(3),
            history: Vec::new(),
        }
    }

    fn whole(&self) -> Whole {
        Whole::of(&self.limit).unwrap()
    }

    fn join(&mut self, demand: f64) {
        let limiter = Limiter::new(&self.limit, 1);
        let holding = Holding::new(self.now, self.whole(), &limiter);
        self.named += 1;
        self.proxies.push(Proxy {
            name: format!("proxy-{}", self.named),
            limiter,
            holding,
            demand,
            passed: 0,
            refused: 0,
            asked: None,
            answer: None,
        });
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        let (now, terms) = (self.now, self.whole().terms);
        let every = self.ledger.as_ref().map_or(EVERY, Ledger::every);
        let mut passed = 0;
        for proxy in &mut self.proxies {
            passed += proxy.serve(now, &mut self.random);
            let lost = |random: &mut fastrand::Rng| random.f64() < self.lost;
            let late = |random: &mut fastrand::Rng| self.delay.mul_f64(random.f64());
            if let Some((asked, ask, arrives)) = proxy.asked {
                if now >= asked + TIMEOUT {
                    (proxy.asked, proxy.answer) = (None, None);
                    proxy.holding.unanswered(now, Duration::ZERO);
                } else if let Some(ledger) = self.ledger.as_mut().filter(|_| arrives <= now) {
                    proxy.asked = Some((asked, ask, Duration::MAX));
                    let answer = ledger.ask(now, &"all", terms, &proxy.name, ask).unwrap();
                    proxy.answer = (!lost(&mut self.random)).then(|| (answer, now + late(&mut self.random)));
                }
            }
            if let Some((answer, _)) = proxy.answer.filter(|(_, arrives)| *arrives <= now) {
                let asked = proxy.asked.take().map(|(asked, ..)| asked).unwrap();
                proxy.answer = None;
                proxy.holding.answered(now, asked, &answer, every, &proxy.limiter);
            }
            proxy.holding.look(now, &proxy.limiter);
            if proxy.asked.is_none() && proxy.holding.due(&proxy.limiter) <= Due(now) {
                let ask = proxy.holding.ask(now, &proxy.limiter);
                let arrives = if lost(&mut self.random) { Duration::MAX } else { now + late(&mut self.random) };
                proxy.asked = Some((now, ask, arrives));
            }
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.sweep(now);
        }
        let rates = |standing| {
            let parts = self.proxies.iter().map(|proxy| proxy.limiter.part().unwrap());
            parts.filter(|part| part.standing == standing).map(|part| part.rate_at(now)).sum::<f64>()
        };
        let times = if terms.per_proxy { self.proxies.len() as f64 } else { 1.0 };
        assert!(
            rates(Standing::Allotted) <= terms.rate * times * 1.000_001,
            "at {now:?}: {}",
            rates(Standing::Allotted)
        );
        self.history.push((passed, rates(Standing::Away)));
    }

    /// No second has more than the limit, the burst and one for each proxy, but what those add that have no server.
    fn holds_in_every_second(&self, since: usize, with_away: bool) {
        let (length, Terms { rate, burst, .. }) =
            ((SECOND.as_millis() / STEP.as_millis()) as usize, self.whole().terms);
        for (at, second) in self.history[since..].windows(length).enumerate() {
            let passed: u64 = second.iter().map(|(passed, _)| passed).sum();
            let away: f64 = second.iter().map(|(_, away)| away * STEP.as_secs_f64()).sum();
            let most = rate + burst + self.proxies.len() as f64 + if with_away { away } else { 0.0 };
            assert!(passed as f64 <= most + 1.0, "{passed} of {most} in the second from step {at} on");
        }
    }

    /// Requests a second that passed in the last time.
    fn passed_in(&self, time: Duration) -> f64 {
        let steps = (time.as_millis() / STEP.as_millis()) as usize;
        let passed: u64 = self.history[self.history.len() - steps..].iter().map(|(passed, _)| passed).sum();
        passed as f64 / time.as_secs_f64()
    }
}

// === impl Proxy ===

impl Proxy {
    fn serve(&mut self, now: Duration, random: &mut fastrand::Rng) -> u64 {
        let came = (self.demand * STEP.as_secs_f64() + random.f64()) as u64;
        let passed = (0..came).filter(|_| self.limiter.take(0, now, None).is_ok()).count() as u64;
        (self.passed, self.refused) = (self.passed + passed, self.refused + came - passed);
        passed
    }
}

#[test]
fn proxies_that_want_more_than_there_is_get_all_of_it_and_no_more() {
    for seed in 0..4 {
        let mut world = World::new(seed, 300);
        (0..3).for_each(|_| world.join(400.0));
        world.run(SECOND * 4);
        world.holds_in_every_second(0, true);
        let passed = world.passed_in(SECOND * 3);
        assert!((290.0..=301.0).contains(&passed), "seed {seed}: {passed}");
        let each = world.proxies.iter().map(|proxy| proxy.passed as f64 / 4.0);
        assert!(each.clone().all(|each| (80.0..=112.0).contains(&each)), "{:?}", each.collect::<Vec<_>>());
    }
}

#[test]
fn one_proxy_gets_all_while_the_others_are_idle_and_gives_it_back_within_half_a_second() {
    for seed in 0..4 {
        let mut world = World::new(seed, 300);
        [400.0, 0.0, 0.0, 0.0].into_iter().for_each(|demand| world.join(demand));
        world.run(SECOND * 3);
        let alone = world.passed_in(SECOND * 2);
        assert!((290.0..=301.0).contains(&alone), "seed {seed}: {alone}");
        // The whole demand moves elsewhere.
        (world.proxies[0].demand, world.proxies[1].demand) = (0.0, 400.0);
        let before = world.proxies[1].passed;
        world.run(SECOND);
        let first = world.proxies[1].passed - before;
        assert!(first >= 150, "seed {seed}: {first} of 300 in the first second elsewhere");
        world.run(SECOND * 4);
        let moved = world.passed_in(SECOND);
        assert!((290.0..=301.0).contains(&moved), "seed {seed}: {moved}");
        world.holds_in_every_second(0, true);
    }
}

#[test]
fn who_wants_less_than_its_part_gets_that_whatever_others_want() {
    let mut world = World::new(7, 300);
    [50.0, 20.0, 5_000.0, 5_000.0].into_iter().for_each(|demand| world.join(demand));
    world.run(SECOND);
    let before: Vec<u64> = world.proxies.iter().map(|proxy| proxy.refused).collect();
    world.run(SECOND * 3);
    let refused: Vec<u64> = world.proxies.iter().zip(before).map(|(proxy, before)| proxy.refused - before).collect();
    // Of 150 and of 60 that come, at random, in three seconds.
    assert!(refused[0] <= 15 && refused[1] <= 9, "{refused:?}");
    assert!(world.passed_in(SECOND * 2) >= 260.0, "{}", world.passed_in(SECOND * 2));
}

#[test]
fn hundreds_of_proxies_that_come_go_and_change_their_minds_over_a_bad_network_stay_within_the_limit() {
    for seed in 0..10 {
        let mut world = World::new(seed, 3_000);
        (world.lost, world.delay) = (0.03, Duration::from_millis(40));
        let count = world.random.usize(50..250);
        for _ in 0..count {
            let demand = if world.random.bool() { 0.0 } else { world.random.f64() * 60.0 };
            world.join(demand);
        }
        for _ in 0..20 {
            world.run(Duration::from_millis(200));
            let at = world.random.usize(0..world.proxies.len());
            match world.random.u32(0..4) {
                0 => drop(world.proxies.swap_remove(at)),
                1 => {
                    let demand = world.random.f64() * 100.0;
                    world.join(demand);
                }
                2 => world.proxies[at].demand = 0.0,
                _ => world.proxies[at].demand = world.random.f64() * 500.0,
            }
        }
        world.holds_in_every_second(0, true);
    }
}

#[test]
fn without_a_server_each_holds_its_part_and_with_one_again_they_count_together() {
    for seed in 0..6 {
        let mut world = World::new(seed, 300);
        [200.0, 350.0, 10.0].into_iter().for_each(|demand| world.join(demand));
        world.run(SECOND * 3);
        world.ledger = None;
        let (before, began) = (world.proxies[2].refused, world.history.len());
        world.run(SECOND * 3);
        // A hundred each, of which one uses ten.
        let away = world.passed_in(SECOND);
        assert!((200.0..=216.0).contains(&away), "seed {seed}: {away}");
        assert_eq!(world.proxies[2].limiter.part().unwrap().standing, Standing::Away);
        assert!(world.proxies[2].refused - before <= 12, "{}", world.proxies[2].refused - before);
        world.ledger = Some(Ledger::new(world.now));
        world.run(SECOND * 3);
        let again = world.passed_in(SECOND);
        assert!((275.0..=301.0).contains(&again), "seed {seed}: {again}");
        // From its end to what comes after its new beginning.
        world.holds_in_every_second(began, false);
    }
}

#[test]
fn a_server_that_begins_anew_at_once_gives_nobody_what_others_still_have() {
    for seed in 0..10 {
        let mut world = World::new(seed, 300);
        [400.0, 0.0, 0.0].into_iter().for_each(|demand| world.join(demand));
        world.run(SECOND * 2);
        let pause = Duration::from_millis(world.random.u64(0..900));
        world.ledger = None;
        world.run(pause);
        world.ledger = Some(Ledger::new(world.now));
        (world.proxies[1].demand, world.proxies[2].demand) = (400.0, 400.0);
        world.run(SECOND * 3);
        world.holds_in_every_second(0, false);
        assert!(world.passed_in(SECOND) >= 290.0, "seed {seed}: {}", world.passed_in(SECOND));
    }
}

#[test]
fn without_a_server_a_limit_does_what_it_says() {
    let each = |fallback| {
        let mut world = World::new(1, 300);
        world.limit = limit(300, fallback);
        (0..2).for_each(|_| world.join(1_000.0));
        world.run(SECOND * 2);
        world.ledger = None;
        world.run(SECOND * 3);
        world.passed_in(SECOND)
    };
    assert!((290.0..=301.0).contains(&each(RateFallback::Share)));
    assert!((590.0..=602.0).contains(&each(RateFallback::Local)));
    assert!((1_900.0..=2_100.0).contains(&each(RateFallback::Allow)));
    assert_eq!(each(RateFallback::Deny), 0.0);
}

#[test]
fn a_limit_of_each_proxy_grows_with_them_and_goes_where_it_is_wanted() {
    let mut world = World::new(1, 100);
    world.limit.shared = Some(RateShared { per_proxy: true, fallback: RateFallback::Share });
    [1_000.0, 0.0, 0.0].into_iter().for_each(|demand| world.join(demand));
    world.run(SECOND * 3);
    assert!((290.0..=301.0).contains(&world.passed_in(SECOND)), "{}", world.passed_in(SECOND));
    world.ledger = None;
    world.run(SECOND * 3);
    assert!((95.0..=101.0).contains(&world.passed_in(SECOND)), "{}", world.passed_in(SECOND));
}

#[test]
fn who_lies_about_its_need_gets_an_equal_part_and_who_lies_about_what_it_has_gets_no_more() {
    let terms = Terms { rate: 300.0, burst: 15.0, per_proxy: false };
    let mut ledger = Ledger::new(Duration::ZERO);
    let mut now = SECOND * 10;
    let mut given = [0.0; 3];
    // It has all, and says for ever that it still does.
    ledger.ask(now, &"all", terms, "liar", Ask { wanted: f64::MAX, holding: 0.0 }).unwrap();
    for round in 0..30 {
        now += EVERY;
        for (at, name) in ["liar", "a", "b"].into_iter().enumerate() {
            let (wanted, holding) = if name == "liar" { (f64::MAX, f64::MAX) } else { (200.0, given[at]) };
            given[at] = ledger.ask(now, &"all", terms, name, Ask { wanted, holding }).unwrap().rate;
        }
        assert!(round < 10 || given.iter().sum::<f64>() <= 300.001, "{given:?}");
    }
    assert!(given.iter().all(|rate| (99.0..=101.0).contains(rate)), "{given:?}");
}

#[test]
fn what_a_server_keeps_is_bounded_and_forgotten() {
    let terms = Terms { rate: 300.0, burst: 15.0, per_proxy: false };
    let mut ledger = Ledger::new(Duration::ZERO);
    let ask = Ask { wanted: 1.0, holding: 0.0 };
    for limit in 0..HOLDERS_MAX / 100 {
        for proxy in 0..100 {
            ledger.ask(SECOND, &limit, terms, &format!("proxy-{proxy}"), ask).unwrap();
        }
    }
    assert_eq!(ledger.counts(), (HOLDERS_MAX / 100, HOLDERS_MAX));
    assert_eq!(ledger.ask(SECOND, &0, terms, "one more", ask), Err(Full));
    assert!(ledger.ask(SECOND, &0, terms, "proxy-1", ask).is_ok(), "who is known is answered");
    assert!(ledger.every() >= SECOND * 10, "so many ask less often: {:?}", ledger.every());
    ledger.sweep(SECOND * 2 + ledger.every() * 8);
    assert_eq!(ledger.counts(), (0, 0));
}

use leno_model::snapshot::{KeySource, Rate, RateTell, WarmUp};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn limiter(form: RateForm) -> Limiter {
    Limiter::new(&terms(form, 0), 7)
}

fn terms(form: RateForm, keys: u32) -> RateLimit {
    let key = if keys > 0 { vec![KeySource::Path] } else { Vec::new() };
    RateLimit { name: "test".into(), when: Vec::new(), key, keys, form, shared: None, tell: RateTell::Nothing }
}

fn bucket(requests: u32, per: Duration, burst: u32) -> RateForm {
    RateForm::Bucket { rate: Rate { requests, per }, burst, warm_up: None }
}

fn queue(requests: u32, timeout: Duration) -> RateForm {
    RateForm::Queue { rate: Rate { requests, per: SECOND }, timeout, warm_up: None }
}

fn passes(limiter: &Limiter, now: Duration) -> bool {
    limiter.take(0, now, None).is_ok()
}

/// Moments that come in crowds and with pauses, and how long all of them take.
fn arrivals(random: &mut fastrand::Rng, count: usize, mean: Duration) -> Vec<Duration> {
    let mut now = Duration::from_nanos(random.u64(0..10_000_000_000));
    let next = |_| {
        now += match random.u32(0..10) {
            0..6 => Duration::ZERO,
            6..9 => mean.mul_f64(random.f64() * 2.0),
            _ => mean.mul_f64(random.f64() * 40.0),
        };
        now
    };
    (0..count).map(next).collect()
}

/// The most that lie in any stretch of time of this length.
fn densest(times: &[Duration], length: Duration) -> usize {
    let mut first = 0;
    let count = |(at, time): (usize, &Duration)| {
        while *time - times[first] >= length {
            first += 1;
        }
        at + 1 - first
    };
    times.iter().enumerate().map(count).max().unwrap_or(0)
}

#[test]
fn a_bucket_lets_its_burst_through_at_once_and_its_rate_after_it() {
    let limiter = limiter(bucket(10, SECOND, 3));
    assert_eq!((0..10).filter(|_| passes(&limiter, SECOND)).count(), 3);
    let refused = limiter.take(0, SECOND, None).unwrap_err();
    assert_eq!(refused.after, ms(100));
    assert!(!passes(&limiter, ms(1_099)) && passes(&limiter, ms(1_100)) && !passes(&limiter, ms(1_100)));
    assert_eq!((0..10).filter(|_| passes(&limiter, 60 * SECOND)).count(), 3, "what it saves up has an end");
}

#[test]
fn no_stretch_of_time_has_more_than_burst_and_rate() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (requests, burst) = (random.u32(1..2_000), random.u32(1..50));
        let per = Duration::from_nanos(random.u64(1_000_000..100_000_000_000));
        let limiter = limiter(bucket(requests, per, burst));
        let coming = arrivals(&mut random, 3_000, per / requests);
        let through: Vec<Duration> = coming.into_iter().filter(|now| passes(&limiter, *now)).collect();
        for share in [1, 3, 10, 77, 1_000] {
            let length = per * share / requests;
            let most = burst + (requests * share).div_ceil(requests);
            let densest = densest(&through, length);
            assert!(
                densest <= most as usize,
                "seed {seed}: {densest} in {length:?}, {requests} per {per:?}, burst {burst}"
            );
        }
    }
}

#[test]
fn rates_that_divide_nothing_do_not_drift() {
    for (requests, per) in [(7, SECOND), (1_000_000, SECOND), (999_983, SECOND), (3, Duration::from_secs(86_400))] {
        let limiter = limiter(bucket(requests, per, 2));
        // Asked all the time, in effect: each one as soon as the one before says it may.
        let (mut now, mut through) = (Duration::ZERO, 0_u64);
        while now < per {
            match limiter.take(0, now, None) {
                Ok(_) => through += 1,
                Err(refused) => now += refused.after,
            }
        }
        assert!(through.abs_diff(u64::from(requests)) <= 2, "{through} of {requests} per {per:?}");
    }
    // After ten years too.
    let limiter = limiter(bucket(7, SECOND, 7));
    let late = Duration::from_secs(10 * 365 * 86_400);
    assert_eq!((0..10).filter(|_| passes(&limiter, late)).count(), 7);
    assert_eq!((0..10).filter(|_| passes(&limiter, late + SECOND)).count(), 7);
}

#[test]
fn a_bucket_tells_what_is_left_and_when_all_is_back() {
    let limiter = limiter(bucket(10, SECOND, 5));
    let taken = limiter.take(0, SECOND, None);
    assert_eq!(limiter.left(&taken, SECOND), Left { now: 4, reset: ms(100) });
    let fill = limiter.fill(SECOND);
    assert_eq!((fill.most, fill.used, fill.passed, fill.refused, fill.keys), (5, 1, 1, 0, None));
    assert_eq!(limiter.fill(2 * SECOND).used, 0);
}

#[test]
fn threads_share_one_bucket_and_one_window() {
    for form in [bucket(1, SECOND, 1_000), RateForm::Window(Rate { requests: 1_000, per: SECOND })] {
        let limiter = limiter(form);
        let through: usize = std::thread::scope(|scope| {
            let asking = || (0..2_000).filter(|_| passes(&limiter, ms(5))).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(asking)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(through, 1_000);
        assert_eq!((limiter.fill(ms(5)).passed, limiter.fill(ms(5)).refused), (1_000, 7_000));
    }
}

#[test]
fn a_queue_sends_at_equal_distances_and_lets_nobody_wait_too_long() {
    let limiter = limiter(queue(10, ms(350)));
    let waits: Vec<_> = (0..6).map(|_| limiter.take(0, SECOND, None).map(|granted| granted.wait).ok()).collect();
    assert_eq!(waits, [Some(ms(0)), Some(ms(100)), Some(ms(200)), Some(ms(300)), None, None]);
    assert_eq!(limiter.take(0, SECOND, None).unwrap_err().after, ms(50), "then it would wait for 350 ms");
    assert_eq!(limiter.take(0, SECOND, Some(ms(100))).unwrap_err().after, ms(300), "it has no more time than that");
    assert_eq!((limiter.fill(SECOND).passed, limiter.fill(SECOND).waited), (4, 3));
}

#[test]
fn what_leaves_a_queue_has_its_distance_whatever_comes() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (requests, timeout) = (random.u32(1..500), ms(random.u64(1..3_000)));
        let limiter = limiter(queue(requests, timeout));
        let coming = arrivals(&mut random, 2_000, SECOND / requests);
        let leaves = |now: Duration| {
            let granted = limiter.take(0, now, None).ok()?;
            assert!(granted.wait <= timeout);
            Some(now + granted.wait)
        };
        let left: Vec<Duration> = coming.into_iter().filter_map(leaves).collect();
        let distance = SECOND / requests - Duration::from_nanos(100);
        assert!(left.windows(2).all(|pair| pair[1] - pair[0] >= distance), "seed {seed}");
    }
}

#[test]
fn a_window_is_what_a_list_of_all_times_would_be() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (requests, per) = (random.u32(1..60), ms(random.u64(1..5_000)));
        let limiter = limiter(RateForm::Window(Rate { requests, per }));
        let mut through: Vec<Duration> = Vec::new();
        for now in arrivals(&mut random, 3_000, per / requests / 2) {
            let of_it = through.iter().rev().take_while(|time| now - **time < per).count();
            let taken = limiter.take(0, now, None);
            assert_eq!(taken.is_ok(), of_it < requests as usize, "seed {seed} at {now:?}");
            if taken.is_ok() {
                through.push(now);
            }
            let left = requests as usize - of_it - usize::from(taken.is_ok());
            assert_eq!(limiter.left(&taken, now).now as usize, left, "seed {seed} at {now:?}");
            if let Err(refused) = taken {
                let oldest = through[through.len() - requests as usize];
                assert_eq!(now + refused.after, oldest + per);
            }
        }
    }
}

/// Guava's own test of its `SmoothWarmingUp` (`RateLimiterTest.testWarmUp`).
#[test]
fn warming_up_waits_as_guava_does() {
    let warm_up = Some(WarmUp { period: 4 * SECOND, cold_factor: 3 });
    let form = RateForm::Queue { rate: Rate { requests: 2, per: SECOND }, timeout: 60 * SECOND, warm_up };
    let limiter = limiter(form);
    let mut now = Duration::from_secs(100);
    let eight = |now: &mut Duration| {
        let wait = |_| {
            let wait = limiter.take(0, *now, None).unwrap().wait;
            *now += wait;
            (wait.as_secs_f64() * 100.0).floor() as u32
        };
        (0..8).map(wait).collect::<Vec<u32>>()
    };
    assert_eq!(eight(&mut now), [0, 137, 112, 87, 62, 50, 50, 50]);
    now += ms(500);
    now += ms(4_000);
    assert_eq!(eight(&mut now), [0, 137, 112, 87, 62, 50, 50, 50], "cold again");
    now += ms(500);
    now += ms(2_000);
    assert_eq!(eight(&mut now), [0, 50, 50, 50, 50, 50, 50, 50], "not quite");
}

#[test]
fn what_is_cold_takes_a_third_and_warms_up_in_its_period() {
    let warm_up = Some(WarmUp { period: 10 * SECOND, cold_factor: 3 });
    let form = RateForm::Bucket { rate: Rate { requests: 100, per: SECOND }, burst: 10, warm_up };
    let limiter = limiter(form);
    // Offered twice the limit for 30 s.
    let mut each_second = [0; 30];
    (0..6_000).for_each(|n| each_second[n / 200] += usize::from(passes(&limiter, ms(1_000_000 + 5 * n as u64))));
    assert!((33..=45).contains(&each_second[0]), "{each_second:?}");
    assert!(each_second[1..].windows(2).all(|pair| pair[0] <= pair[1]), "it rises: {each_second:?}");
    assert!((90..=101).contains(&each_second[10]) && each_second[9] < 100, "{each_second:?}");
    assert!(each_second[11..].iter().all(|count| (99..=101).contains(count)), "{each_second:?}");
}

#[test]
fn open_requests_make_room_when_they_are_over() {
    let limiter = limiter(RateForm::Concurrency(2));
    let granted = limiter.take(0, SECOND, None).unwrap();
    assert!(granted.holds && passes(&limiter, SECOND) && !passes(&limiter, SECOND));
    limiter.leave();
    assert!(passes(&limiter, SECOND));
    assert_eq!(limiter.fill(SECOND).used, 2);
}

#[test]
fn few_keys_have_a_bucket_each() {
    let keyed = Limiter::new(&terms(bucket(5, SECOND, 3), 64), 1);
    let own: Vec<Limiter> = (0..16).map(|_| limiter(bucket(5, SECOND, 3))).collect();
    let mut random = fastrand::Rng::with_seed(3);
    for now in arrivals(&mut random, 20_000, ms(20)) {
        let key = random.usize(0..own.len());
        assert_eq!(keyed.take(key as u64, now, None).is_ok(), own[key].take(0, now, None).is_ok());
    }
    assert_eq!(keyed.fill(Duration::ZERO).keys.unwrap().1, 64);
}

#[test]
fn a_hundred_thousand_keys_take_the_memory_that_was_stated_and_no_key_gets_more_than_its_limit() {
    let keyed = Limiter::new(&terms(bucket(2, SECOND, 5), 16_384), 99);
    let stated = keyed.fill(Duration::ZERO).bytes;
    assert!(stated <= 16_384 * 16 + 256, "{stated}");
    let mut random = fastrand::Rng::with_seed(5);
    let (mut now, mut through, mut refused_later) = (SECOND, vec![0_u32; 100_000], 0);
    // Ten heavy keys among all the others: first as fast as they push each other out, then slower.
    for n in 0..400_000_u32 {
        now += Duration::from_micros(if n < 200_000 { 10 } else { 100 });
        let key = if n % 4 == 0 { random.usize(0..10) } else { n as usize * 7 % 100_000 };
        let taken = keyed.take(key as u64, now, None).is_ok();
        through[key] += u32::from(taken);
        refused_later += u32::from(n >= 210_000 && key >= 10 && !taken);
    }
    let most = 6 + 2 * (now - SECOND).as_secs() as u32;
    assert!(through.iter().all(|count| *count <= most), "{:?} of {most}", &through[..10]);
    assert!(through[..10].iter().all(|count| *count >= most / 3), "{:?} of {most}", &through[..10]);
    let fill = keyed.fill(now);
    assert!(fill.crowded > 0 && fill.refused > 0 && fill.bytes == stated, "{fill:?}");
    assert_eq!(refused_later, 0, "there is room again: {fill:?}");
}

#[test]
fn nobody_gets_a_new_bucket_by_sending_other_keys_between() {
    // As few places as there can be, and a thousand times as many keys.
    let keyed = Limiter::new(&terms(bucket(1, 3_600 * SECOND, 3), 64), 12);
    let through = |key: u64| usize::from(keyed.take(key, SECOND, None).is_ok());
    let mut of_attacker = 0;
    for round in 0..1_000_u64 {
        of_attacker += through(1);
        (0..64).for_each(|n| {
            through(1_000 + round * 64 + n);
        });
    }
    assert_eq!(of_attacker, 3);
}

#[test]
fn keys_of_which_each_waits_have_queues_of_their_own() {
    let form = RateForm::Queue { rate: Rate { requests: 10, per: SECOND }, timeout: ms(100), warm_up: None };
    let keyed = Limiter::new(&terms(form, 64), 1);
    let wait = |key| keyed.take(key, SECOND, None).map(|granted| granted.wait).ok();
    assert_eq!([wait(1), wait(1), wait(1)], [Some(ms(0)), Some(ms(100)), None]);
    assert_eq!([wait(2), wait(2), wait(2)], [Some(ms(0)), Some(ms(100)), None]);
}

#[test]
fn nobody_finds_keys_of_several_parts_that_are_the_same() {
    let keyed = Limiter::new(&terms(bucket(1, 3_600 * SECOND, 1), 1_024), 12);
    let key = |a: u64, b: u64| keyed.key([a, b].into_iter());
    let through = |key: u64| keyed.take(key, SECOND, None).is_ok();
    assert!(through(key(5, 7)) && !through(key(5, 7)));
    // What would be the same where parts were put together before anything secret is.
    let same = (5..30).map(|a: u64| (a + 1, 7 ^ 5_u64.rotate_left(1) ^ (a + 1).rotate_left(1)));
    assert!(same.into_iter().all(|(a, b)| through(key(a, b))));
    assert!(through(key(7, 5)), "the order counts");
}

#[test]
fn the_deepest_bucket_of_the_slowest_rate_has_room() {
    let deep = limiter(bucket(1, 86_400 * SECOND, u32::MAX));
    assert!((0..1_000).all(|n| deep.take(0, n * SECOND, None).is_ok()));
}

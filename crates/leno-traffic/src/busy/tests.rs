use super::*;

const LATE: Bounds = Bounds { late: Some(Duration::from_millis(100)), cpu: None };

fn late(milliseconds: u64) -> Busy {
    Busy { late: Duration::from_millis(milliseconds), cpu: None }
}

#[test]
fn what_matters_least_is_left_out_first_and_of_the_highest_never_all() {
    let mut cutting = Cutting::new(LATE);
    let mut before = Cut::default();
    for _ in 0..100 {
        let cut = cutting.step(late(1000));
        assert!(cut.word() >= before.word());
        for (lower, higher) in Priority::ALL.iter().rev().zip(Priority::ALL.iter().rev().skip(1)) {
            assert!(cut.of(*higher) == 0 || cut.of(*lower) == WHOLE, "{cut:?}");
        }
        before = cut;
    }
    let left_out = Priority::ALL.map(|priority| before.of(priority));
    assert_eq!(left_out, [950, 1000, 1000, 1000]);
}

#[test]
fn between_room_and_bound_nothing_moves_and_below_it_all_comes_back() {
    let mut cutting = Cutting::new(LATE);
    let cut = (0..8).map(|_| cutting.step(late(300))).last().unwrap();
    // What falls is given time to do so, and near the bound nothing moves.
    assert!([250, 200, 150].into_iter().all(|falls| cutting.step(late(falls)) == cut));
    assert!(!cut.is_none() && (0..20).all(|_| cutting.step(late(90)) == cut));
    let came_back = (0..200).position(|_| cutting.step(late(10)).is_none());
    assert!(came_back.is_some(), "{cutting:?}");
}

#[test]
fn a_processor_without_room_cuts_and_what_nobody_says_does_not() {
    let bounds = Bounds { late: None, cpu: Some(900) };
    let mut cutting = Cutting::new(bounds);
    assert!((0..20).all(|_| cutting.step(Busy { late: Duration::from_secs(9), cpu: None }).is_none()));
    assert!((0..20).all(|_| cutting.step(Busy { cpu: Some(890), ..Busy::default() }).is_none()));
    let cut = (0..20).map(|_| cutting.step(Busy { cpu: Some(990), ..Busy::default() })).last();
    assert!(cut.is_some_and(|cut| cut.of(Priority::Sheddable) == WHOLE), "{cut:?}");
}

/// What came of a process that can do a thousand requests a second, in the second half of a minute.
#[derive(Default)]
struct Came {
    done: f64,
    highest_left_out: f64,
    lateness: f64,
    turns: usize,
}

/// Offers so much of each priority, the highest first, as a multiple of what can be done; what is left out costs a
/// twentieth.
fn offer(seed: u64, offered: [f64; 4]) -> Came {
    const TICK: f64 = 0.25;
    const COSTS: f64 = 0.05;
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut cutting, mut came) = (Cutting::new(LATE), Came::default());
    let (mut queue, mut cut, mut rising) = (0.0_f64, Cut::default(), false);
    for tick in 0..240 {
        let noise = 0.8 + 0.4 * random.f64();
        let (mut enters, mut left_out) = (0.0, [0.0; 4]);
        for (at, priority) in Priority::ALL.into_iter().enumerate() {
            let share = f64::from(cut.of(priority)) / f64::from(WHOLE);
            enters += offered[at] * noise * (1.0 - share + COSTS * share) * TICK;
            left_out[at] = share;
        }
        let done = (queue + enters).min(TICK);
        queue = (queue + enters - done).max(0.0);
        let next = cutting.step(Busy { late: Duration::from_secs_f64(queue), cpu: None });
        if tick >= 120 {
            came.done += done / TICK / 120.0;
            came.highest_left_out += left_out[0] / 120.0;
            came.lateness += queue / 120.0;
            came.turns += usize::from((next.word() > cut.word()) != rising && next != cut);
        }
        if next != cut {
            rising = next.word() > cut.word();
        }
        cut = next;
    }
    came
}

#[test]
fn whatever_is_offered_as_much_is_done_as_can_be_and_the_cut_comes_to_rest() {
    for seed in 0..200 {
        for offered in [[0.5, 1.0, 1.0, 2.5], [0.0, 5.0, 0.0, 0.0], [0.6, 0.0, 0.0, 4.0], [0.2, 0.4, 1.0, 1.0]] {
            let came = offer(seed, offered);
            assert!(came.done >= 0.8, "seed {seed}, {offered:?}: {} done", came.done);
            assert!(
                offered[0] == 0.0 || came.highest_left_out <= 0.01,
                "seed {seed}, {offered:?}: {}",
                came.highest_left_out
            );
            assert!(came.lateness <= 0.1, "seed {seed}, {offered:?}: {} late", came.lateness);
            // In thirty seconds; noise alone turns it some times.
            assert!(came.turns <= 40, "seed {seed}, {offered:?}: {} turns", came.turns);
        }
        let calm = offer(seed, [0.2, 0.2, 0.1, 0.1]);
        assert!(calm.highest_left_out == 0.0 && calm.turns == 0, "seed {seed}");
    }
}

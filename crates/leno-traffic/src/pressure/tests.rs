use super::*;

fn names(pressure: Pressure) -> Vec<&'static str> {
    pressure.reactions().map(Reaction::text).collect()
}

#[test]
fn what_is_milder_comes_first_and_accepting_ends_last() {
    let mut reactions = Reactions::new(Thresholds::default());
    let at = [749, 750, 800, 820, 850, 880, 910, 940, 970].map(|fill| names(reactions.step(fill)).len());
    assert_eq!(at, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let all: Vec<_> = Reaction::ALL.into_iter().map(Reaction::text).collect();
    assert_eq!(names(reactions.step(2000)), all);
}

#[test]
fn a_reaction_ends_below_where_it_began() {
    let mut reactions = Reactions::new(Thresholds::default());
    for (fill, expected) in [(749, false), (750, true), (701, true), (700, true), (699, false), (749, false)] {
        assert_eq!(reactions.step(fill).is(Reaction::CloseIdle), expected, "{fill}");
    }
}

#[test]
fn each_priority_has_a_reaction_of_its_own_and_what_matters_least_goes_first() {
    let mut reactions = Reactions::new(Thresholds::default());
    for (fill, refused) in [(849, 0), (850, 1), (880, 2), (910, 3), (940, 4)] {
        let pressure = reactions.step(fill);
        let refuses: Vec<_> =
            Priority::ALL.into_iter().filter(|priority| pressure.is(Reaction::from(*priority))).collect();
        assert_eq!(refuses, Priority::ALL[4 - refused..], "{fill}");
        assert_eq!(pressure.refuses_some(), refused > 0);
    }
    let only_accepting = Pressure(Reaction::StopAccepting.bit());
    assert!(!only_accepting.refuses_some() && !Pressure(Reaction::ResetSlow.bit()).refuses_some());
}

#[test]
fn the_fuller_the_more_of_those_who_read_slowly_are_given_up() {
    let mut reactions = Reactions::new(Thresholds::default());
    let shares = [799, 800, 810, 900, 1000, 1500].map(|fill| reactions.step(fill).share());
    assert_eq!(shares, [0, 50, 50, 500, 1000, 1000]);
    let mut thresholds = Thresholds::default();
    thresholds.set(Reaction::ResetSlow, Some(100));
    assert_eq!(Reactions::new(thresholds).step(1000).share(), 50);
}

#[test]
fn what_is_off_is_never_done_and_a_word_is_the_pressure_that_it_was() {
    let mut thresholds = Thresholds::default();
    Reaction::ALL.into_iter().for_each(|reaction| thresholds.set(reaction, None));
    assert!(Reactions::new(thresholds).step(1000).is_calm());
    thresholds.set(Reaction::RefuseCritical, Some(90));
    let pressure = Reactions::new(thresholds).step(900);
    assert_eq!(names(pressure), ["refuse-critical"]);
    assert_eq!(Pressure::of_word(pressure.word()), pressure);
}

/// Memory that readers take and never give back, until they are given up: those who come are let in unless they are refused.
#[test]
fn whoever_comes_memory_stays_within_its_bounds_and_no_reaction_flickers() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut reactions = Reactions::new(Thresholds::default());
        let (mut held, mut changes, mut fullest) = (100_u32, 0, 0);
        let rate = random.u32(1..30);
        let mut before = Pressure::default();
        for tick in 0..2000 {
            let pressure = reactions.step(held as u16);
            changes += (pressure.is(Reaction::RefuseCritical) != before.is(Reaction::RefuseCritical)) as u32;
            before = pressure;
            let comes = if tick < 1500 { random.u32(0..=rate) } else { 0 };
            if !pressure.is(Reaction::RefuseCritical) {
                held += comes;
            }
            if tick % 10 == 0 {
                held -= (held - 100) * u32::from(pressure.share()) / 1000;
            }
            if tick >= 1500 {
                // They leave.
                held = 100 + (held - 100) * 9 / 10;
            }
            fullest = fullest.max(held);
        }
        assert!(fullest < 1000, "seed {seed}: {fullest}");
        // Ten looks pass between two times that readers are given up, so that is how often it may turn.
        assert!(changes <= 1500 / 5, "seed {seed}: {changes}");
        assert!(reactions.step(held as u16).is_calm(), "seed {seed}: {held}");
    }
}

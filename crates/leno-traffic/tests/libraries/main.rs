//! leno's breaker beside those of Hystrix 1.5.18, Sentinel 1.8.9 and Resilience4j 2.3.0, and its ejection beside the servers
//! of Ribbon 2.7.18 that trip, and its limits beside Sentinel's flow rules, from which `leno convert` makes them: the same seeded sequences of calls, with the same clock, and where each of them stands after
//! every step.
//!
//! The libraries are the jars as Maven brings them (`interop/programs/libraries`), in one process of Java that reads steps and
//! answers each with a line. Steps are chosen as they are taken, so that they lie where something may happen: at the edges of
//! windows, at the end of the time for which a breaker is open, a millisecond before and after.
//!
//! Where leno differs by choice (`docs/resilience.md`), [`Choice`] says when and how, and it is checked that it is so; then
//! both begin anew, and the sequence goes on. A difference without such a reason fails, with its seed and its steps.
//!
//! `LENO_LIBRARIES_SEQUENCES` asks for more sequences, `LENO_LIBRARIES_SEED` for others.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod cases;
mod converted;
mod flow;
mod jvm;
mod pair;
mod ribbon;

use std::collections::BTreeMap;
use std::io::Write;

use cases::{CASES, Library};
use jvm::Jvm;
use pair::{Choice, Pair};

/// Sequences of each library, and steps of each.
const SEQUENCES: u64 = 50;
const STEPS: usize = 80;
/// A sequence compares at least so many states, however often both begin anew.
const COMPARED_MIN: usize = 50;

/// How many sequences there are of each library, and which.
fn asked_for() -> (u64, u64) {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    (number("LENO_LIBRARIES_SEQUENCES", SEQUENCES), number("LENO_LIBRARIES_SEED", 1))
}

#[test]
fn breakers_stand_where_those_of_the_libraries_stand() {
    let Some(mut jvm) = Jvm::start("breakers_stand_where_those_of_the_libraries_stand") else { return };
    let (sequences, seed) = asked_for();
    for library in [Library::Hystrix, Library::Sentinel, Library::Resilience4j] {
        let cases: Vec<_> = CASES.iter().filter(|case| case.library == library).collect();
        let (mut compared, mut opened, mut choices) = (0, 0, BTreeMap::<Choice, usize>::new());
        for sequence in 0..sequences {
            let case = cases[sequence as usize % cases.len()];
            let of = format!("{library:?}, LENO_LIBRARIES_SEED={seed}, sequence {sequence}");
            let mut pair = Pair::new(&mut jvm, case, seed << 32 | sequence, of);
            let ran = pair.run(STEPS);
            assert!(ran.compared >= COMPARED_MIN, "sequence {sequence} compared {} states", ran.compared);
            compared += ran.compared;
            opened += ran.opened;
            ran.choices.into_iter().for_each(|choice| *choices.entry(choice).or_default() += 1);
        }
        // Past what collects the output of tests that pass.
        let _ = writeln!(
            std::io::stdout(),
            "breakers: {library:?}: {sequences} sequences, {compared} states compared, {opened} times open; by choice: {choices:?}"
        );
        // Sequences in which nothing happens show nothing.
        assert!(opened > sequences as usize, "{library:?} opened {opened} times");
        assert!(compared > 8 * choices.values().sum::<usize>(), "{library:?} differs by choice too often: {choices:?}");
    }
}

#[test]
fn servers_trip_and_are_chosen_as_ribbon_has_it() {
    let Some(mut jvm) = Jvm::start("servers_trip_and_are_chosen_as_ribbon_has_it") else { return };
    let (mut compared, mut trips, mut choices) = (0, 0, BTreeMap::<ribbon::Choice, usize>::new());
    for sequence in 0..SEQUENCES {
        let ran = ribbon::run(&mut jvm, 7 << 32 | sequence, STEPS);
        ribbon::run_best_available(&mut jvm, 8 << 32 | sequence, STEPS);
        ribbon::run_weighted_response_time(&mut jvm, 9 << 32 | sequence, STEPS);
        (compared, trips) = (compared + ran.compared + 2 * STEPS, trips + ran.trips);
        ran.choices.into_iter().for_each(|(choice, times)| *choices.entry(choice).or_default() += times);
    }
    let _ = writeln!(
        std::io::stdout(),
        "servers: Ribbon: 3 × {SEQUENCES} sequences, {compared} calls compared, {trips} trips; by choice: {choices:?}"
    );
    assert!(trips > SEQUENCES as usize, "{trips} trips");
}

#[test]
fn settings_that_are_converted_have_the_terms_that_are_compared() {
    CASES.iter().for_each(converted::has_its_terms);
}

#[test]
fn flow_rules_that_were_converted_let_through_what_sentinel_does() {
    let Some(mut jvm) = Jvm::start("flow_rules_that_were_converted_let_through_what_sentinel_does") else { return };
    let ((sequences, seed), mut all) = (asked_for(), flow::Ran::default());
    for sequence in 0..sequences {
        flow::run(&mut jvm, (8 + seed) << 32 | sequence, STEPS, &mut all);
    }
    let _ = writeln!(
        std::io::stdout(),
        "flow rules: Sentinel: {sequences} sequences, {} requests compared, {} refused, {} waited; by choice: {} at the edge of a window",
        all.compared,
        all.refused,
        all.waited,
        all.edges
    );
    assert!(all.refused > 500 && all.waited > 200 && all.compared > 8 * all.edges, "{all:?}");
}

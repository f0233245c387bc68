//! Hundreds of callers and instances with faults, in a virtual time: the parts of this crate as a proxy puts them together,
//! each caller with its own.
//!
//! ```text
//! seed ─► plan ─► world: callers (admission, breaker, limits, balancer, ejection, retries, budget) ⇄ gate, instances ─► account
//!                                                                                                            └──► judge
//! ```
//!
//! A seed says everything: who calls whom, with which policies, what breaks when. Every judgement holds for every seed. A
//! failure prints the command that runs its seed alone. What the judgements are worth is shown by [`Bug`]s that are put in on
//! purpose: each is found.
//!
//! `LENO_SIMULATION_SEEDS` asks for more seeds than 200, `LENO_SIMULATION_SEED` for one alone, with what it came to.

// Helpers of tests are tests.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod account;
mod caller;
mod instance;
mod judge;
mod plan;
mod world;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use judge::{Finding, judge};
use plan::{Bug, Plan};

const SEEDS: u64 = 200;
/// Those in which a bug is looked for.
const SEEDS_OF_A_BUG: u64 = 24;
const THREADS: usize = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// What a seed comes to.
fn simulate(seed: u64, bug: Option<Bug>) -> (account::Account, Vec<Finding>) {
    let plan = Plan::draw(seed, bug);
    let account = world::run(&plan);
    let findings = judge(&plan, &account);
    (account, findings)
}

#[test]
fn no_seed_has_a_storm_a_herd_an_unfair_share_or_an_oscillation() {
    if let Some(seed) = number("LENO_SIMULATION_SEED") {
        let (account, findings) = simulate(seed, None);
        // Past what collects the output of tests that pass.
        let _ = writeln!(std::io::stdout(), "{:#?}\n{account}", Plan::draw(seed, None));
        assert!(findings.is_empty(), "seed {seed}: {findings:#?}");
        return;
    }
    let seeds = number("LENO_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let work = || {
        let (mut requests, mut found) = (0, Vec::new());
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds {
                return (requests, found);
            }
            let (account, findings) = simulate(seed, None);
            requests += account.requests();
            found.extend(findings.into_iter().map(|finding| (seed, finding)));
        }
    };
    let results: Vec<(u64, Vec<(u64, Finding)>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let requests: u64 = results.iter().map(|(requests, _)| requests).sum();
    let mut found: Vec<_> = results.into_iter().flat_map(|(_, found)| found).collect();
    found.sort_by_key(|(seed, _)| *seed);
    let _ = writeln!(std::io::stdout(), "simulation: {seeds} seeds, {requests} requests, {} findings", found.len());
    let said: Vec<String> = found
        .iter()
        .map(|(seed, finding)| {
            format!("{finding}\n  LENO_SIMULATION_SEED={seed} cargo test -p leno-traffic --test interplay no_seed")
        })
        .collect();
    assert!(found.is_empty(), "{} findings:\n{}", said.len(), said.join("\n"));
}

#[test]
fn a_seed_comes_to_the_same_each_time() {
    let (first, second) = (simulate(7, None).0, simulate(7, None).0);
    assert_eq!(first.to_string(), second.to_string());
    assert_eq!(first, second);
}

#[test]
fn bugs_that_are_put_in_on_purpose_are_found() {
    for bug in Bug::ALL {
        let mut by: BTreeMap<judge::Rule, usize> = BTreeMap::new();
        for seed in 0..SEEDS_OF_A_BUG {
            let (_, findings) = simulate(seed, Some(bug));
            let rules: std::collections::BTreeSet<judge::Rule> = findings.iter().map(|finding| finding.rule).collect();
            rules.into_iter().for_each(|rule| *by.entry(rule).or_default() += 1);
        }
        let _ = writeln!(std::io::stdout(), "simulation: {bug:?} in {SEEDS_OF_A_BUG} seeds is found by {by:?}");
        assert!(by.contains_key(&bug.found_by()), "{bug:?} is not found by {:?}: {by:?}", bug.found_by());
    }
}

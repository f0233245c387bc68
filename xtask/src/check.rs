//! `cargo xtask check`: what must hold before a push, in under ten minutes.
//!
//! The steps are shared with `test`, which runs them as one stage and the unit tests as the next.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process::{cargo, run as run_command, which};
use crate::{deps, features, size, test};

/// A cold build of everything for the linter, on two cores.
const LINT_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Lint, deps, size and the unit tests.
pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    lint()?;
    let counts = test::units()?;
    println!("check took {:.0} s; {counts}", started.elapsed().as_secs_f32());
    counts.into_result()
}

/// Everything that reads the code and runs none of it.
pub(crate) fn lint() -> Result<()> {
    run_command(&mut cargo(["fmt", "--all", "--check"]), LINT_DEADLINE)?;
    test::targets_differ()?;
    deps::run()?;
    features::run()?;
    size::run()?;
    run_command(&mut cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]), LINT_DEADLINE)?;
    match which("cargo-deny") {
        Some(_) => run_command(&mut cargo(["deny", "check", "--hide-inclusion-graph"]), LINT_DEADLINE),
        None => {
            println!(
                "cargo-deny is not installed: advisories were not asked for (bans, licences and sources were, by `deps`)"
            );
            Ok(())
        }
    }
}

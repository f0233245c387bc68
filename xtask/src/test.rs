//! `cargo xtask test`: everything, in stages, with times and one closing line.
//!
//! Each stage counts what passed and failed; a stage that breaks counts as one failure and the next ones run all the same, so that one run shows everything.
//! What is skipped is said aloud with its reason, and under `--ci` a skip is a failure. After each stage, processes that it left behind are named, ended and
//! counted as a failure.
//!
//! A test of the whole binary that fails runs once more, alone: it shares two cores with what it starts and judges times. One that holds then is said aloud as
//! unsteady; more than a few of them are no bad luck, and fail.
//!
//! Tests that cannot run where they are (no namespaces, say) append one line `name: why` to the file that `LENO_SKIPS` names; tests of the whole binary that put
//! it under load start the one that `LENO_BINARY` names instead of the slow one that cargo built for them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::metadata::Metadata;
use crate::process::{cargo, root, run as run_command, run_seeing, sweep};
use crate::{browser, check, install, interop};

/// Tests of the binary that are so many clients themselves that only a fast build of them measures the binary.
const FAST_TESTS: &[&str] = &["overload", "scale"];
/// So many tests may need a second attempt in one run of them.
const UNSTEADY: usize = 2;
/// One stage's limit; all of them together stay below thirty minutes on two cores.
const STAGE_DEADLINE: Duration = Duration::from_secs(20 * 60);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// As the gate runs it: a skip is a failure.
    #[arg(long)]
    ci: bool,
    /// Only these stages.
    #[arg(long = "only", value_enum, value_name = "STAGE")]
    only: Vec<Stage>,
}

/// The stages in the order in which they run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Declared tools, from apt, PyPI, Maven and Go's module proxy.
    Install,
    /// Format, arrows, sizes, lints.
    Check,
    /// Unit and simulation tests, and those of one crate's behaviour.
    Units,
    /// Tests that start the leno binary.
    Binary,
    /// The dashboard of the demo in a real browser.
    Browser,
    /// Real programs talking to each other.
    Interop,
}

impl Stage {
    fn run(self) -> Result<Counts> {
        match self {
            Stage::Install => install::run(install::Use::GATE, false).map(|()| Counts::passed("install")),
            Stage::Check => check::lint().map(|()| Counts::passed("check")),
            Stage::Units => units(),
            Stage::Binary => binary(),
            Stage::Browser => browser::run(),
            Stage::Interop => interop::through_leno(&[], None),
        }
    }
}

/// What tests came to.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// What did not run, each with its reason.
    pub(crate) skipped: Vec<String>,
    /// What failed at first and held when it ran alone.
    unsteady: Vec<String>,
    failures: Vec<String>,
}

/// Runs the stages and prints the closing line.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let mut total = Counts::default();
    let mut times = Vec::new();
    for stage in Stage::value_variants().iter().filter(|stage| options.only.is_empty() || options.only.contains(stage))
    {
        let name = stage.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let stage_started = Instant::now();
        println!("\n== {name}");
        let mut counts = stage.run().unwrap_or_else(|error| Counts::failed(format!("{name}: {error:#}")));
        for left in sweep() {
            counts.fail(format!("{name} left a process behind: {left}"));
        }
        println!("== {name}: {counts} in {:.0} s", stage_started.elapsed().as_secs_f32());
        times.push(format!("{name} {:.0} s", stage_started.elapsed().as_secs_f32()));
        total.add(counts);
    }
    println!("\n{}, together {:.0} s", times.join(", "), started.elapsed().as_secs_f32());
    for skip in &total.skipped {
        println!("skipped: {skip}");
    }
    for name in &total.unsteady {
        println!("unsteady: {name} failed, and held when it ran once more, alone");
    }
    if options.ci && !total.skipped.is_empty() {
        total.fail(format!("{} skipped under --ci, where nothing may be", total.skipped.len()));
    }
    for failure in &total.failures {
        println!("failed: {failure}");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    total.into_result()
}

/// Unit, simulation and documentation tests of every crate, and the `tests/` of all but the binary's.
pub(crate) fn units() -> Result<Counts> {
    let metadata = Metadata::load()?;
    let mut arguments = ["test", "--workspace", "--no-fail-fast", "--lib", "--bins"].map(str::to_owned).to_vec();
    for name in test_targets(&metadata, |package| package != "leno")? {
        arguments.extend(["--test".to_owned(), name]);
    }
    let mut counts = cargo_test(&arguments, &[])?;
    counts.add(cargo_test(&["test", "--workspace", "--no-fail-fast", "--doc"].map(str::to_owned), &[])?);
    Ok(counts)
}

/// The `tests/` of the binary.
fn binary() -> Result<Counts> {
    let metadata = Metadata::load()?;
    let names = test_targets(&metadata, |package| package == "leno")?;
    if names.is_empty() {
        return Ok(Counts::skipped("whole-binary tests: crates/leno has no tests/ yet"));
    }
    let leno = quick_release()?;
    // The whole workspace is named as it was for the units, so that cargo finds every dependency built with the same features.
    let mut arguments = ["test", "--workspace", "--no-fail-fast"].map(str::to_owned).to_vec();
    let mut fast = ["test", "--profile", "quick-release", "-p", "leno", "--no-fail-fast"].map(str::to_owned).to_vec();
    for name in names {
        let arguments = if FAST_TESTS.contains(&name.as_str()) { &mut fast } else { &mut arguments };
        arguments.extend(["--test".to_owned(), name]);
    }
    let variables = [("LENO_BINARY", leno)];
    let mut counts = cargo_test_twice(&arguments, &variables)?;
    // One after the other, for what one measures is not to be the load of the other.
    fast.extend(["--", "--test-threads", "1"].map(str::to_owned));
    counts.add(cargo_test(&fast, &variables)?);
    Ok(counts)
}

/// leno as it is measured and put under load: most of release's speed at a third of its build time.
pub(crate) fn quick_release() -> Result<PathBuf> {
    run_command(&mut cargo(["build", "--profile", "quick-release", "-p", "leno"]), STAGE_DEADLINE)?;
    Ok(root().join("target/quick-release/leno"))
}

/// Whether every test target has a name of its own.
pub(crate) fn targets_differ() -> Result<()> {
    test_targets(&Metadata::load()?, |_| false).map(drop)
}

/// Names of the test targets of some packages; cargo takes them by name over the whole workspace, so they have to be unique.
fn test_targets(metadata: &Metadata, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let (mut seen, mut names) = (BTreeSet::new(), Vec::new());
    for package in metadata.own() {
        for target in &package.test_targets {
            if !seen.insert(target.as_str()) {
                bail!(
                    "two crates have a tests/{target}.rs: give {}'s another name, cargo picks test targets by name",
                    package.name
                );
            }
            if wanted(&package.name) {
                names.push(target.clone());
            }
        }
    }
    Ok(names)
}

/// Runs one `cargo test`, and then once more what failed, alone.
fn cargo_test_twice(arguments: &[String], variables: &[(&str, PathBuf)]) -> Result<Counts> {
    let mut counts = cargo_test(arguments, variables)?;
    // What failed without a name is no test.
    if (1..=UNSTEADY).contains(&counts.failed) && counts.failures.len() == counts.failed {
        println!("once more, alone: {}", counts.failures.join(", "));
        let mut again = arguments.to_vec();
        again.extend(["--", "--test-threads", "1", "--exact"].map(str::to_owned));
        again.extend(counts.failures.iter().cloned());
        counts.forgive(cargo_test(&again, variables)?);
    }
    Ok(counts)
}

/// Runs one `cargo test` and reads its result lines.
fn cargo_test(arguments: &[String], variables: &[(&str, PathBuf)]) -> Result<Counts> {
    let skips = tempfile::NamedTempFile::new()?;
    let mut counts = Counts::default();
    let mut command = cargo(arguments);
    command.env("LENO_SKIPS", skips.path()).envs(variables.iter().map(|(name, value)| (name, value)));
    let ended_well = run_seeing(&mut command, STAGE_DEADLINE, |line| counts.read_line(line))?;
    if !ended_well && counts.failed == 0 {
        counts.fail(format!("`cargo {}` did not build or a test program broke", arguments.join(" ")));
    }
    let said: BTreeSet<String> = fs::read_to_string(skips.path())?.lines().map(str::to_owned).collect();
    counts.skipped.extend(said);
    Ok(counts)
}

// === impl Counts ===

impl Counts {
    pub(crate) fn passed(what: &str) -> Self {
        println!("{what}: passed");
        Counts { passed: 1, ..Counts::default() }
    }

    pub(crate) fn failed(why: String) -> Self {
        let mut counts = Counts::default();
        counts.fail(why);
        counts
    }

    fn skipped(why: &str) -> Self {
        Counts { skipped: vec![why.to_owned()], ..Counts::default() }
    }

    pub(crate) fn fail(&mut self, why: String) {
        eprintln!("failed: {why}");
        self.failed += 1;
        self.failures.push(why);
    }

    pub(crate) fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
        self.unsteady.extend(other.unsteady);
        self.failures.extend(other.failures);
    }

    /// Takes a second attempt of what failed in place of the first one.
    fn forgive(&mut self, again: Counts) {
        let first = std::mem::take(&mut self.failures);
        if again.failed == 0 && again.passed < first.len() {
            // It did not run.
            self.failures = first;
            return;
        }
        self.unsteady.extend(first.into_iter().filter(|name| !again.failures.contains(name)));
        self.passed += again.passed;
        self.failed = again.failed;
        self.failures = again.failures;
    }

    /// An error when something failed.
    pub(crate) fn into_result(self) -> Result<()> {
        if self.failed > 0 {
            bail!("{} failed", self.failed);
        }
        Ok(())
    }

    /// Reads a line that `Display` wrote in another process.
    pub(crate) fn read_summary(&mut self, line: &str) {
        self.passed += number_before(line, " passed");
        self.failed += number_before(line, " failed");
    }

    /// Reads a line of libtest's output: a result, a failed test or an ignored one.
    fn read_line(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number_before(result, " passed");
            self.failed += number_before(result, " failed");
        } else if let Some((name, verdict)) = line.strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... ")) {
            if verdict.starts_with("ignored") {
                self.skipped.push(format!("{name} {verdict}"));
            } else if verdict == "FAILED" {
                self.failures.push(name.to_owned());
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped.len())
    }
}

/// The number that stands right before `word`.
fn number_before(text: &str, word: &str) -> usize {
    let before = text.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Where what tests and tools download or build is kept, outside `target` so that `cargo clean` leaves it.
pub(crate) fn cache() -> PathBuf {
    root().join(".cache")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_once_and_then_holds_is_told_and_what_fails_twice_fails() {
        let failed = |names: &[&str]| Counts {
            passed: 5,
            failed: names.len(),
            failures: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Counts::default()
        };
        let mut counts = failed(&["a", "b"]);
        counts.forgive(Counts { passed: 1, failed: 1, failures: vec!["b".to_owned()], ..Counts::default() });
        assert_eq!((counts.passed, counts.failed), (6, 1));
        assert_eq!((counts.unsteady, counts.failures), (vec!["a".to_owned()], vec!["b".to_owned()]));
        let mut counts = failed(&["a"]);
        counts.forgive(Counts::default());
        assert_eq!(
            (counts.failed, counts.failures, counts.unsteady.len()),
            (1, vec!["a".to_owned()], 0),
            "nothing ran"
        );
    }

    #[test]
    fn result_lines_are_summed() {
        let mut counts = Counts::default();
        counts.read_line("test a::b ... ok");
        counts.read_line("test a::c ... FAILED");
        counts.read_line("test a::d ... ignored, takes an hour");
        counts.read_line(
            "test result: FAILED. 12 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        counts
            .read_line("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        assert_eq!((counts.passed, counts.failed), (15, 1));
        assert_eq!(counts.skipped, ["a::d ignored, takes an hour"]);
        assert_eq!(counts.failures, ["a::c"]);
    }
}

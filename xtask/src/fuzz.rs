//! `cargo xtask fuzz`: a campaign of libFuzzer over the targets of `fuzz/`.
//!
//! The gate replays the corpora on the stable compiler (`fuzz/tests/corpora.rs`); this looks for new inputs, for as long as it is told, one target after
//! another on one core. It needs a nightly compiler and cargo-fuzz and says how to get them. What it finds stays below `target/fuzz`: a finding goes into the
//! corpus of its target by hand, with a test in the crate that it is of.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{output, root, run_seeing, which};

const BUILD_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// After its time a target may finish what it is at.
const GRACE: Duration = Duration::from_secs(60);
/// What an input may cost.
const INPUT_SECONDS_MAX: u32 = 5;
const MEMORY_MB_MAX: u32 = 512;
const INPUT_BYTES_MAX: u32 = 4096;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these targets, as `fuzz/src/lib.rs` names them.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each target runs: `90s`, `10m`, `2h`.
    #[arg(long = "for", value_name = "TIME", default_value = "1m", value_parser = duration)]
    time: Duration,
}

/// Builds the targets and runs each for its time; findings are named, and an error.
pub(crate) fn run(options: &Options) -> Result<()> {
    tools()?;
    let known = targets()?;
    if let Some(unknown) = options.targets.iter().find(|target| !known.contains(target)) {
        bail!("no target is named {unknown:?}; there are {}", known.join(", "));
    }
    let targets = if options.targets.is_empty() { &known } else { &options.targets };
    // The versions of the tree, not the newest ones.
    fs::copy(root().join("Cargo.lock"), campaign().join("Cargo.lock"))?;
    let mut build = cargo_fuzz("build");
    if let [target] = &targets[..] {
        build.arg(target);
    }
    if !run_seeing(&mut build, BUILD_DEADLINE, |_| ())? {
        bail!("the targets do not build");
    }
    let mut found = Vec::new();
    for target in targets {
        if !run_target(target, options.time)? {
            found.push(target.as_str());
        }
    }
    match found.is_empty() {
        true => Ok(()),
        false => bail!("findings of {}: the inputs are in {}", found.join(", "), below("artifacts", "").display()),
    }
}

/// Whether nothing was found.
fn run_target(target: &str, time: Duration) -> Result<bool> {
    let (grown, artifacts) = (below("corpus", target), below("artifacts", target));
    fs::create_dir_all(&grown)?;
    fs::create_dir_all(&artifacts)?;
    let mut command = cargo_fuzz("run");
    // New inputs go into the first folder; the second is the one that is kept in the tree.
    command.arg(target).arg(&grown).arg(root().join("fuzz/corpus").join(target)).arg("--");
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.arg(format!("-max_total_time={}", time.as_secs())).arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MB_MAX}")).arg(format!("-max_len={INPUT_BYTES_MAX}"));
    command.arg("-print_final_stats=1");
    run_seeing(&mut command, time + GRACE + BUILD_DEADLINE, |_| ())
}

/// Says what is missing and how to get it.
fn tools() -> Result<()> {
    let toolchains = output(Command::new("rustup").args(["toolchain", "list"]));
    if !toolchains.is_ok_and(|toolchains| toolchains.contains("nightly")) {
        bail!(
            "libFuzzer needs a nightly compiler, for its counters: `rustup toolchain install nightly --profile minimal`"
        );
    }
    if which("cargo-fuzz").is_none() {
        bail!("cargo-fuzz is not installed: `cargo install cargo-fuzz --version 0.13.2 --locked`");
    }
    Ok(())
}

/// The names of the targets, which are those of the programs of the campaign.
fn targets() -> Result<Vec<String>> {
    let folder = campaign().join("targets");
    let files = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let files = files.collect::<std::io::Result<Vec<_>>>()?;
    let mut names: Vec<String> =
        files.iter().filter_map(|file| file.path().file_stem()?.to_str().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}

/// Without the address sanitizer: what it looks for cannot be in code without `unsafe`, and it halves the speed.
fn cargo_fuzz(verb: &str) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(root()).args(["+nightly", "fuzz", verb, "--fuzz-dir"]).arg(campaign());
    // The cargo that runs us is the stable one, and its variables would be heard.
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command.args(["--sanitizer", "none", "--target-dir"]).arg(below("build", ""));
    command
}

fn campaign() -> PathBuf {
    root().join("fuzz/campaign")
}

fn below(what: &str, target: &str) -> PathBuf {
    root().join("target/fuzz").join(what).join(target)
}

fn duration(text: &str) -> Result<Duration, String> {
    let unit = [("s", 1), ("m", 60), ("h", 3600)].into_iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        (1..=86_400).contains(&(number * seconds)).then_some(number * seconds)
    });
    unit.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is no time from 1s to 24h, such as 90s or 10m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_an_end() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        for wrong in ["", "10", "0s", "25h", "-1m", "99999999999999999999h"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}

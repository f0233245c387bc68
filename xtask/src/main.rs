//! leno's own tools, run as `cargo xtask <verb>`.
//!
//! What a developer and the gate do to the tree, in one program, so that both do the same: no make, no shell scripts, nothing to install first.
//! Verbs print what they do and how long it took; exit 0 means that everything asked for held.
//!
//! The modules in reading order: `check` and `test` are the two that people call, `deps`, `features` and `size` read the tree, `generate` writes its reference, `install` declares every tool that is not
//! cargo or cc, `browser` looks at the dashboard, `interop` and `bench` run leno beside real programs, `fuzz` runs campaigns.

// A tool that times things with the real clock: there is no simulated time here for the seam to serve.
#![allow(clippy::disallowed_methods)]

mod bench;
mod browser;
mod check;
mod deps;
mod features;
mod fuzz;
mod generate;
mod http;
mod install;
mod interop;
mod metadata;
mod process;
mod scan;
mod size;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about = "leno's own tools", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Format, lint, deps, size, unit and simulation tests; before every push.
    Check,
    /// Everything: install, check, units, whole-binary tests, the dashboard in a browser, interop.
    Test(test::Options),
    /// The arrows between crates, walled libraries, licences, sources, duplicates.
    Deps,
    /// Whether docs/features.md names fields and tests that exist.
    Features,
    /// Smells of size in files, functions and crates; printed, never an error.
    Size,
    /// Writes what is made from the code and committed: docs/reference/.
    Gen,
    /// New inputs for the parsers of hostile bytes, by libFuzzer; needs nightly.
    Fuzz(fuzz::Options),
    /// leno beside HAProxy, nginx and Envoy.
    Bench(bench::Options),
    /// Real programs talking to each other.
    Interop(interop::Options),
    /// Declared tools: installs what is missing.
    Install {
        /// Say what is missing, install nothing.
        #[arg(long)]
        dry_run: bool,
        /// Tools for this use only; all when absent.
        #[arg(long = "for", value_enum)]
        uses: Vec<install::Use>,
    },
}

fn main() -> ExitCode {
    process::adopt_orphans();
    let result = match Arguments::parse().verb {
        Verb::Check => check::run(),
        Verb::Test(options) => test::run(&options),
        Verb::Deps => deps::run(),
        Verb::Features => features::run(),
        Verb::Size => size::run(),
        Verb::Gen => generate::run(),
        Verb::Fuzz(options) => fuzz::run(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::Interop(options) => interop::run(&options),
        Verb::Install { dry_run, uses } => install::run(&uses, dry_run),
    };
    process::sweep();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

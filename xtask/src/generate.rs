//! `cargo xtask gen`: writes what is made from the code and committed: the reference in `docs/reference/`.
//!
//! The pages are made by tests of the binary (`crates/leno/src/reference.rs`), which see every definition and run with the unit tests; so `cargo xtask check` fails
//! when a page is stale. Here they are only told to write.

use std::time::Duration;

use anyhow::Result;

use crate::process::{cargo, run as run_command};

/// A cold build of everything on two cores.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Writes every page and shows what changed.
pub(crate) fn run() -> Result<()> {
    // The whole workspace is named as it is for the units, so that cargo finds every dependency built with the same features.
    let mut write = cargo(["test", "--quiet", "--workspace", "--bin", "leno", "reference::"]);
    run_command(write.env("LENO_GEN", "1"), DEADLINE)?;
    let mut status = std::process::Command::new("git");
    run_command(status.args(["status", "--short", "docs/reference"]).current_dir(crate::process::root()), DEADLINE)
}

//! The reference in `docs/reference/`, made from the code: a test for each page, which fails when what is committed is not what the code says.
//!
//! `cargo xtask gen` runs these tests with `LENO_GEN` set, and then they write the pages instead. So nobody needs a tool or a dependency to build leno, pages
//! cannot grow stale unnoticed, and nothing of this is in the binary. What a page says stands where the thing is defined: help texts of flags, doc comments of
//! fields, help texts of metrics.

use std::fs;
use std::path::{Path, PathBuf};

mod cli;
mod flags;
mod metrics;
mod proxies;
mod resources;

/// The line under every title.
const MADE: &str = "<!-- Made from the code by `cargo xtask gen`; do not edit. -->";

/// Compares a page with what is committed, or writes it when asked to.
fn page(name: &str, text: &str) {
    let path = folder().join(name);
    if std::env::var_os("LENO_GEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        return;
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(text.lines()).position(|(is, should)| is != should);
    let line = differs.unwrap_or(committed.lines().count().min(text.lines().count())) + 1;
    assert!(
        committed == text,
        "docs/reference/{name} is stale from line {line} on: run `cargo xtask gen` and commit it"
    );
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference")
}

/// Text as it may stand in a cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

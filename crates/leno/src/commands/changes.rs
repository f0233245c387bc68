//! What a change did or would do, as `apply`, `delete`, `rollback` and `diff` print it.

use std::fmt::Write as _;

use serde_json::Value;

use super::failure::Failure;
use crate::args::Output;
use crate::output::{clean, coloured_diff, count, list_at, put, structured, text_at};

/// Whether something was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is in force.
    Done,
    /// `--dry-run`
    Planned,
}

/// Prints an answer of the server about a change.
pub fn print(output: Output, applied: &Value, mode: Mode) -> Result<(), Failure> {
    if let Some(text) = structured(output, applied) {
        return put(text);
    }
    let changes = list_at(applied, "/changes");
    let mut text = String::new();
    for change in changes {
        let resource = text_at(change, "/resource");
        let _ = match output {
            Output::Name => writeln!(text, "{}", clean(&resource)),
            _ => writeln!(text, "{} {}", clean(&resource), action(change, mode)),
        };
    }
    if output == Output::Table {
        let (changed, revision) = (applied["changed"].as_u64().unwrap_or(0), text_at(applied, "/revision"));
        let _ = match (changed, mode) {
            (0, _) => writeln!(text, "nothing to change, revision {revision} stays in force"),
            (_, Mode::Planned) => writeln!(text, "{} would change", count(changed as usize, "resource")),
            (_, Mode::Done) => writeln!(text, "revision {revision}"),
        };
    }
    put(text)
}

/// The differences of a change, one after the other.
pub fn diffs(applied: &Value) -> String {
    list_at(applied, "/changes").iter().filter_map(|change| change["diff"].as_str()).map(coloured_diff).collect()
}

fn action(change: &Value, mode: Mode) -> String {
    let action = text_at(change, "/action");
    match mode {
        Mode::Planned if action != "unchanged" => format!("would be {action}"),
        _ => action,
    }
}

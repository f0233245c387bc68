//! `docs/features.md` says the truth: every field that it names is one of the schemas, every test stands in the tree.
//!
//! A row has three cells: what another product calls it; the field that does it here (`TrafficPolicy.breaker.preset: hystrix`, several with commas, or words where
//! it needs none); the tests that show it. Where the second cell is `–` the third is the reason, and where the third is `not yet` it is not done: counted
//! and printed, never an error.

use std::collections::HashSet;
use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::root;
use crate::scan;

const TABLE: &str = "docs/features.md";
const ABSENT: &str = "–";
const NOT_YET: &str = "not yet";

/// What a table comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    shown: usize,
    absent: usize,
    missing: Vec<String>,
    faults: Vec<String>,
}

pub(crate) fn run() -> Result<()> {
    let text = fs::read_to_string(root().join(TABLE)).with_context(|| TABLE.to_owned())?;
    let found = read(&text, &is_field, &tests());
    println!(
        "features: {} shown, {} absent with their reasons, {} not yet",
        found.shown,
        found.absent,
        found.missing.len()
    );
    for row in &found.missing {
        println!("  not yet: {row}");
    }
    if !found.faults.is_empty() {
        bail!("{TABLE}:\n  {}", found.faults.join("\n  "));
    }
    Ok(())
}

fn read(text: &str, is_field: &impl Fn(&str) -> Result<(), String>, tests: &HashSet<String>) -> Found {
    let mut found = Found::default();
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        let Some(row) = line.trim().strip_prefix('|') else { continue };
        let Some(row) = row.strip_suffix('|') else {
            found.faults.push(format!("line {number}: a row ends with `|`"));
            continue;
        };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if cells.iter().all(|cell| cell.starts_with("---")) || cells.get(1) == Some(&"leno") {
            continue;
        }
        let [feature, field, shown] = cells[..] else {
            found.faults.push(format!("line {number}: three cells are a row, and here are {}", cells.len()));
            continue;
        };
        match (field, shown) {
            (ABSENT, reason) if reason.len() > 10 && reason != NOT_YET => found.absent += 1,
            (ABSENT, NOT_YET) => found.missing.push(feature.to_owned()),
            (ABSENT, _) => found.faults.push(format!("line {number}: {feature}: absent without a reason")),
            _ => {
                found.shown += 1;
                if let Some(name) = bare_field(field) {
                    found.faults.push(format!("line {number}: a field stands between backticks, and {name} does not"));
                }
                for field in quoted(field) {
                    if let Err(why) = is_field(field) {
                        found.faults.push(format!("line {number}: `{field}`: {why}"));
                    }
                }
                let named = quoted(shown);
                if named.is_empty() {
                    found.faults.push(format!("line {number}: {feature}: no test is named"));
                }
                for test in named.into_iter().filter(|test| !tests.contains(*test)) {
                    found.faults.push(format!("line {number}: no test is named `{test}`"));
                }
            }
        }
    }
    found
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// What looks like a field outside of backticks, where nobody would look whether it exists.
fn bare_field(cell: &str) -> Option<&str> {
    let words = cell.split('`').step_by(2).flat_map(str::split_whitespace);
    words.into_iter().find(|word| ["Policy.", "Route."].iter().any(|kind| word.contains(kind) && !word.ends_with(kind)))
}

/// The names of all functions that are marked as tests.
fn tests() -> HashSet<String> {
    let mut names = HashSet::new();
    for path in ["crates", "xtask", "fuzz", "interop"].iter().flat_map(|folder| scan::rust_files(&root().join(folder)))
    {
        let source = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = source.lines().map(str::trim).peekable();
        while let Some(line) = lines.next() {
            if !(line.starts_with("#[test]") || line.starts_with("#[tokio::test")) {
                continue;
            }
            while let Some(line) = lines.next_if(|line| line.starts_with("#[") || line.contains("fn ")) {
                if let Some(name) = line.split("fn ").nth(1).and_then(|rest| rest.split('(').next()) {
                    names.insert(name.to_owned());
                    break;
                }
            }
        }
    }
    names
}

/// Whether `Kind.a.b` or `Kind.a.b: value` stands in the schema of the kind.
fn is_field(field: &str) -> Result<(), String> {
    let (path, value) = field.split_once(": ").map_or((field, None), |(path, value)| (path, Some(value)));
    let (kind, path) = path.split_once('.').unwrap_or((path, ""));
    let file = root().join("docs/reference/schemas").join(format!("{}.json", kind.to_ascii_lowercase()));
    let text = fs::read_to_string(&file).map_err(|_| format!("there is no kind {kind}"))?;
    let schema: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let mut here = vec![&schema["properties"]["spec"]];
    for name in path.split('.').filter(|name| !name.is_empty()) {
        here = here
            .into_iter()
            .flat_map(|place| spread(&schema, place))
            .filter_map(|place| place["properties"].get(name))
            .collect();
        if here.is_empty() {
            return Err(format!("no field {name} there"));
        }
    }
    let Some(value) = value else { return Ok(()) };
    let is_value = |place: &Value| {
        place["const"] == value || place["enum"].as_array().is_some_and(|all| all.iter().any(|one| one == value))
    };
    match here.into_iter().flat_map(|place| spread(&schema, place)).any(is_value) {
        true => Ok(()),
        false => Err(format!("it takes no value {value}")),
    }
}

/// A place in a schema with everything that it refers to, offers or lists.
fn spread<'s>(schema: &'s Value, place: &'s Value) -> Vec<&'s Value> {
    let mut found = vec![place];
    if let Some(name) = place["$ref"].as_str().and_then(|to| to.strip_prefix("#/$defs/")) {
        found.extend(spread(schema, &schema["$defs"][name]));
    }
    for of in ["anyOf", "oneOf", "allOf"] {
        found.extend(place[of].as_array().into_iter().flatten().flat_map(|choice| spread(schema, choice)));
    }
    if let Some(items) = place.get("items") {
        found.extend(spread(schema, items));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(row: &str) -> Vec<String> {
        let tests = HashSet::from(["it_does".to_owned()]);
        let known = |field: &str| if field == "Kind.a" { Ok(()) } else { Err("no such field".to_owned()) };
        read(row, &known, &tests).faults
    }

    #[test]
    fn a_row_that_names_what_is_not_there_is_a_fault() {
        assert_eq!(faults("| a | `Kind.a` | `it_does` |"), Vec::<String>::new());
        assert_eq!(faults("| a | `Kind.b` | `it_does` |").len(), 1);
        assert_eq!(faults("| a | `Kind.a` | `it_does_not` |").len(), 1);
        assert_eq!(faults("| a | `Kind.a` | somewhere |").len(), 1);
        assert_eq!(faults("| a | – | because |").len(), 1);
        assert_eq!(faults("| a | – | because there is nobody who asks for it |"), Vec::<String>::new());
        assert_eq!(faults("| a | `Kind.a` |").len(), 1);
    }

    #[test]
    fn a_row_that_is_not_written_as_one_is_a_fault_and_not_passed_over() {
        assert_eq!(faults("|a|`Kind.a`|`it_does`|"), Vec::<String>::new());
        assert_eq!(faults("  | a | `Kind.a` | `it_does` |  "), Vec::<String>::new());
        assert_eq!(faults("| a | `Kind.a` | `it_does`").len(), 1);
        assert_eq!(faults("|a|`Kind.b`|`it_does`|").len(), 1);
        assert_eq!(faults("| a | b | `Kind.a` | `it_does` |").len(), 1);
        assert_eq!(faults("| a | TrafficPolicy.limits, `Kind.a` | `it_does` |").len(), 1);
        assert_eq!(faults("| a | as the HTTPRoute. | `it_does` |"), Vec::<String>::new());
        assert_eq!(faults("| a | leno | b |\n| --- | --- | --- |"), Vec::<String>::new());
    }

    #[test]
    fn fields_and_values_are_found_in_the_schemas_and_others_are_not() {
        for good in [
            "TrafficPolicy.breaker.preset: hystrix",
            "TrafficPolicy.limits.queue.size",
            "HTTPRoute.rules.timeouts.request",
        ] {
            assert_eq!(is_field(good), Ok(()), "{good}");
        }
        for bad in [
            "TrafficPolicy.breaker.preset: eureka",
            "TrafficPolicy.brake",
            "Policy.breaker",
            "TrafficPolicy.limits.size",
        ] {
            assert!(is_field(bad).is_err(), "{bad}");
        }
    }
}

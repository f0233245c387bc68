//! `leno apply` and `leno diff`: a set of resources put in force, or what that would change.

use std::time::Duration;

use leno_model::fault::{self, Fault};
use owo_colors::OwoColorize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::changes::{self, Mode};
use super::failure::{Exit, Failure, Outcome};
use super::files::{Files, tally};
use crate::args::{ApplyArgs, DiffArgs, FilesArgs, Output};
use crate::client::{Client, with_query};
use crate::output::{self, count, list_at, put, say};

/// How long one question for progress waits.
const WAIT_SLICE: Duration = Duration::from_secs(30);

/// Puts the resources in force.
pub fn run(args: &ApplyArgs) -> Outcome {
    let files = read(&args.files)?;
    let client = Client::new(&args.files.client)?;
    let parameters = [
        ("dryRun", args.dry_run.then(|| "true".to_owned())),
        ("expectedRevision", args.expect.map(|revision| revision.to_string())),
        ("summary", args.message.clone()),
    ];
    let path = with_query("/api/v1/resources", &[of_set(&args.files).as_slice(), &parameters].concat());
    let started = Instant::now();
    let Some(mut applied) = send(&client, &path, &files)? else { return Ok(Exit::Usage) };
    warn(&files, &applied);
    let progress = match args.wait.filter(|_| !args.dry_run) {
        Some(timeout) => Some(wait(&client, &applied, timeout)?),
        None => None,
    };
    let mode = if args.dry_run { Mode::Planned } else { Mode::Done };
    match progress {
        None => {
            changes::print(args.files.client.output, &applied, mode)?;
            Ok(Exit::Done)
        }
        Some(progress) => {
            let (elapsed, exit) = (started.elapsed(), exit_of(&progress));
            applied["progress"] = progress.clone();
            changes::print(args.files.client.output, &applied, mode)?;
            report(args.files.client.output, &progress, elapsed)?;
            Ok(exit)
        }
    }
}

/// Shows what `apply` would change.
pub fn diff(args: &DiffArgs) -> Outcome {
    let files = read(&args.files)?;
    let client = Client::new(&args.files.client)?;
    let path = with_query("/api/v1/diff", &of_set(&args.files));
    let Some(planned) = send(&client, &path, &files)? else { return Ok(Exit::Usage) };
    warn(&files, &planned);
    match output::structured(args.files.client.output, &planned) {
        Some(text) => put(text)?,
        None => put(changes::diffs(&planned))?,
    }
    match planned["changed"].as_u64() {
        Some(0) => Ok(Exit::Done),
        _ => Ok(Exit::No),
    }
}

/// The files, which hold at least one resource or fault.
fn read(args: &FilesArgs) -> Result<Files, Failure> {
    let files = Files::read(&args.files)?;
    files.parse()?;
    Ok(files)
}

fn of_set(args: &FilesArgs) -> [(&'static str, Option<String>); 2] {
    [("set", args.set.clone()), ("prune", args.prune.then(|| "true".to_owned()))]
}

/// What the server makes of the files; none when it refused them for faults, which are then printed.
fn send(client: &Client, path: &str, files: &Files) -> Result<Option<Value>, Failure> {
    let refused = match client.post(path, &files.body()) {
        Err(failure) if !failure.faults.is_empty() => failure,
        done => return done.map(Some),
    };
    let faults = &refused.faults;
    explain(files, faults);
    let what = match refused.exit {
        Exit::Conflict => {
            return Err(Failure::new(Exit::Conflict, format!("{}: nothing was changed", tally(faults)), ""));
        }
        _ => tally(faults),
    };
    say(format_args!("{what} in {}: nothing was changed", count(files.len(), "file")));
    Ok(None)
}

fn warn(files: &Files, applied: &Value) {
    let warnings: Vec<Fault> = serde_json::from_value(applied["warnings"].clone()).unwrap_or_default();
    explain(files, &warnings);
}

/// Prints faults in the order of reading.
pub(super) fn explain(files: &Files, faults: &[Fault]) {
    let mut faults = faults.to_vec();
    fault::sort(&mut faults);
    for fault in &faults {
        say(files.explain(fault));
    }
}

/// Asks until every proxy has answered or the time is over, and answers how far it has come.
pub(super) fn wait(client: &Client, applied: &Value, timeout: Duration) -> Result<Value, Failure> {
    let ends = Instant::now() + timeout;
    let revision = applied["snapshot"].as_u64().unwrap_or(0);
    loop {
        let left = ends.saturating_duration_since(Instant::now());
        let slice = left.min(WAIT_SLICE);
        let parameters =
            [("revision", Some(revision.to_string())), ("timeout", Some(format!("{}ms", slice.as_millis())))];
        let progress = client.get_slow(&with_query("/api/v1/status/wait", &parameters), slice)?;
        if progress["done"] == json!(true) || slice == left {
            return Ok(progress);
        }
    }
}

pub(super) fn exit_of(progress: &Value) -> Exit {
    match (list_at(progress, "/refused").is_empty(), list_at(progress, "/pending").is_empty()) {
        (false, _) => Exit::No,
        (true, false) => Exit::Unreachable,
        (true, true) => Exit::Done,
    }
}

pub(super) fn report(output: Output, progress: &Value, elapsed: Duration) -> Result<(), Failure> {
    for refused in list_at(progress, "/refused") {
        let (id, detail) = (output::text_at(refused, "/id"), output::text_at(refused, "/detail"));
        say(format_args!("{} {} refused it: {}", "error:".red().bold(), output::clean(&id), output::clean(&detail)));
    }
    let pending = list_at(progress, "/pending");
    if !pending.is_empty() {
        let names: Vec<&str> = pending.iter().filter_map(Value::as_str).take(5).collect();
        let more = if pending.len() > names.len() { ", …" } else { "" };
        let (label, names) = ("error:".red().bold().to_string(), names.join(", "));
        say(format_args!("{label} no answer in time from {} of them: {}{more}", pending.len(), output::clean(&names)));
    }
    if output != Output::Table {
        return Ok(());
    }
    let number = |name: &str| progress[name].as_u64().unwrap_or(0);
    let seconds = elapsed.as_secs_f64();
    match number("subscribed") {
        0 if pending.is_empty() => put(format_args!("in effect after {seconds:.1} s: no proxy uses it yet\n")),
        subscribed => {
            put(format_args!("in effect on {} of {subscribed} proxies after {seconds:.1} s\n", number("inEffect")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_no_when_refused_and_with_timeout_when_pending() {
        assert_eq!(exit_of(&json!({"refused": [], "pending": []})), Exit::Done);
        assert_eq!(exit_of(&json!({"refused": [], "pending": ["a"]})), Exit::Unreachable);
        assert_eq!(exit_of(&json!({"refused": [{"id": "a"}], "pending": ["b"]})), Exit::No);
    }
}

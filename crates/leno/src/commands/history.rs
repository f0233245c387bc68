//! `leno history`, `leno rollback` and `leno delete`: what was changed, and changing it back or away.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::changes::{self, Mode};
use super::failure::{Exit, Outcome};
use super::kinds;
use crate::args::{DeleteArgs, HistoryArgs, Output, RollbackArgs};
use crate::client::{Client, with_query};
use crate::output::{self, Table, count, list_at, put, say, seconds, text_at};

/// Lists revisions, or shows one with its differences.
pub fn run(args: &HistoryArgs) -> Outcome {
    let what = args.what.as_deref();
    if let Some(revision) = what.and_then(|what| what.parse::<u64>().ok()) {
        return show(args, revision);
    }
    let resource = what.map(|what| kinds::one(what, None, args.namespace.as_deref())).transpose()?;
    let parameters =
        [("resource", resource.map(|key| key.to_string())), ("limit", args.limit.map(|limit| limit.to_string()))];
    let answer = Client::new(&args.client)?.get(&with_query("/api/v1/history", &parameters))?;
    let items = list_at(&answer, "/items");
    match args.client.output {
        Output::Name => put(items.iter().map(|item| format!("{}\n", text_at(item, "/number"))).collect::<String>())?,
        Output::Table if items.is_empty() => say("no revisions"),
        Output::Table => put(table(items))?,
        other => put(output::structured(other, &answer).unwrap_or_default())?,
    }
    Ok(Exit::Done)
}

/// Restores an earlier state as a new revision.
pub fn rollback(args: &RollbackArgs) -> Outcome {
    let only = args.resource.as_deref().map(|what| kinds::one(what, None, None)).transpose()?;
    let mut body = json!({ "revision": args.revision, "dryRun": args.dry_run });
    if let Some(key) = only {
        body["resource"] = json!(key);
    }
    if let Some(set) = &args.set {
        body["set"] = json!(set);
    }
    if let Some(message) = &args.message {
        body["summary"] = json!(message);
    }
    let applied = Client::new(&args.client)?.post("/api/v1/rollback", &body)?;
    let output = args.client.output;
    if args.dry_run && output == Output::Table {
        // Both sides: what is in force now, and what would be again.
        put(changes::diffs(&applied))?;
    }
    changes::print(output, &applied, mode(args.dry_run))?;
    Ok(Exit::Done)
}

/// Deletes a resource.
pub fn delete(args: &DeleteArgs) -> Outcome {
    let key = kinds::one(&args.kind, args.name.as_deref(), args.namespace.as_deref())?;
    let parameters = [
        ("dryRun", args.dry_run.then(|| "true".to_owned())),
        ("set", args.set.clone()),
        ("expectedRevision", args.expect.map(|revision| revision.to_string())),
        ("summary", args.message.clone()),
    ];
    let applied = Client::new(&args.client)?.delete(&with_query(&kinds::path(&key), &parameters))?;
    changes::print(args.client.output, &applied, mode(args.dry_run))?;
    Ok(Exit::Done)
}

fn mode(dry_run: bool) -> Mode {
    if dry_run { Mode::Planned } else { Mode::Done }
}

fn show(args: &HistoryArgs, revision: u64) -> Outcome {
    let answer = Client::new(&args.client)?.get(&format!("/api/v1/history/{revision}"))?;
    match args.client.output {
        Output::Table => put(revision_text(&answer))?,
        Output::Name => {
            let names = list_at(&answer, "/changes").iter().map(|change| format!("{}\n", text_at(change, "/resource")));
            put(names.collect::<String>())?;
        }
        other => put(output::structured(other, &answer).unwrap_or_default())?,
    }
    Ok(Exit::Done)
}

fn revision_text(answer: &Value) -> String {
    let of = |pointer: &str| text_at(answer, &format!("/revision/{pointer}"));
    let mut text =
        format!("revision {} by {} at {}, set {}\n", of("number"), of("author"), time(&answer["revision"]), of("set"));
    let _ = writeln!(text, "{}\n", of("summary"));
    output::clean(&text).into_owned() + &changes::diffs(answer)
}

fn table(items: &[Value]) -> Table {
    let mut table = Table::new(&["REVISION", "TIME", "AUTHOR", "SET", "CHANGES", "SUMMARY"]);
    for item in items {
        table.row([
            text_at(item, "/number"),
            time(item),
            text_at(item, "/author"),
            text_at(item, "/set"),
            count(list_at(item, "/changes").len(), "resource"),
            text_at(item, "/summary"),
        ]);
    }
    table
}

/// The time of a revision, which the API gives as RFC 3339 or in milliseconds.
fn time(revision: &Value) -> String {
    match revision["time"].as_u64() {
        Some(milliseconds) => seconds(&leno_model::seam::Timestamp(milliseconds).rfc3339()),
        None => seconds(&text_at(revision, "/time")),
    }
}

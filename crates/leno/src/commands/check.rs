//! `leno check`: resource files without a server, or a server and what it has.
//!
//! Each line of the live check is one question with its answer, and a line that fails says what to do. The questions go
//! on after a failure as far as they still make sense.

mod honour;

use owo_colors::OwoColorize;
use serde_json::{Value, json};

use leno_model::fault;
use leno_model::validate::{Nothing, validate};

use super::apply::explain;
use super::failure::{Exit, Outcome};
use super::files::{Files, tally};
use super::get::problem;
use crate::args::{CheckArgs, Output};
use crate::client::Client;
use crate::output::{clean, count, list_at, put, structured, text_at};

/// One question of the live check and its answer.
struct Line {
    name: &'static str,
    said: String,
    /// What to do; none where all is well.
    fix: Option<String>,
    /// What is so, and may be meant to be so.
    notes: Vec<String>,
}

/// Checks files where some are named, else the server.
pub fn run(args: &CheckArgs) -> Outcome {
    if args.files.is_empty() { live(args) } else { offline(args) }
}

fn offline(args: &CheckArgs) -> Outcome {
    let files = Files::read(&args.files)?;
    let parsed = files.parse()?;
    let mut faults = parsed.faults;
    faults.extend(validate(&parsed.resources, &Nothing));
    if !fault::refuses(&faults) {
        faults.extend(
            args.proxies.iter().flat_map(|proxy| parsed.resources.iter().flat_map(|of| honour::of_file(of, *proxy))),
        );
    }
    fault::sort(&mut faults);
    let refused = fault::refuses(&faults);
    let answer = json!({ "ok": !refused, "resources": parsed.resources.len(), "files": files.len(), "faults": faults });
    match structured(args.client.output, &answer) {
        Some(text) => put(text)?,
        None => {
            explain(&files, &faults);
            let (resources, in_files) = (count(parsed.resources.len(), "resource"), count(files.len(), "file"));
            // A resource with a fault of form was not read, so that only a good set can be counted.
            match refused {
                true => put(format_args!("{} in {in_files}\n", tally(&faults)))?,
                false => put(format_args!("{resources} in {in_files}, {}\n", tally(&faults)))?,
            }
        }
    }
    Ok(if refused { Exit::No } else { Exit::Done })
}

fn live(args: &CheckArgs) -> Outcome {
    let lines = ask(&Client::new(&args.client)?);
    let failed = lines.iter().filter(|line| line.fix.is_some()).count();
    let checks: Vec<Value> = lines.iter().map(Line::json).collect();
    match structured(args.client.output, &json!({ "ok": failed == 0, "checks": checks })) {
        Some(text) => put(text)?,
        None if args.client.output == Output::Name => {
            let names = lines.iter().filter(|line| line.fix.is_some()).map(|line| format!("{}\n", line.name));
            put(names.collect::<String>())?;
        }
        None => {
            let summary =
                if failed == 0 { "all is well".to_owned() } else { format!("{} of {} failed", failed, lines.len()) };
            put(lines.iter().map(Line::text).collect::<String>() + &summary + "\n")?;
        }
    }
    Ok(if failed == 0 { Exit::Done } else { Exit::No })
}

fn ask(client: &Client) -> Vec<Line> {
    let status = match client.get("/api/v1/status") {
        Ok(status) => status,
        Err(failure) if failure.exit == Exit::Unreachable => {
            return vec![Line::bad("server", failure.message, failure.fix)];
        }
        Err(failure) => {
            let server = Line::good("server", format!("{} answers", client.url()));
            return vec![server, Line::bad("token", failure.message, failure.fix)];
        }
    };
    let server = Line::good("server", format!("{} answers, revision {}", client.url(), text_at(&status, "/revision")));
    let token = Line::good("token", "is accepted".to_owned());
    let honoured = honour::line(&status, |kind| client.get(&format!("/api/v1/resources?kind={kind}")));
    let (proxies, updates) = (proxies(&status), updates(&status));
    vec![server, token, store(client), sources(&status), resources(&status), proxies, updates, honoured]
}

/// The history is read from the store and not from memory.
fn store(client: &Client) -> Line {
    match client.get("/api/v1/history?limit=1") {
        Ok(_) => Line::good("store", "can be read".to_owned()),
        Err(failure) => Line::bad("store", failure.message, failure.fix),
    }
}

fn sources(status: &Value) -> Line {
    let sources = list_at(status, "/sources");
    for source in sources {
        let name = text_at(source, "/name");
        if let Some(error) = source["error"].as_str() {
            return Line::bad(
                "sources",
                format!("{name}: {error}"),
                "mend the directory; it is read again within 30 s",
            );
        }
        let faults = list_at(source, "/faults");
        if let Some(fault) = faults.iter().find(|fault| fault["severity"] == "error") {
            let place =
                format!("{}:{}:{}", text_at(fault, "/file"), text_at(fault, "/line"), text_at(fault, "/column"));
            let message =
                format!("{name}: {place}: {} ({} in all)", text_at(fault, "/message"), count(faults.len(), "fault"));
            return Line::bad("sources", message, text_at(fault, "/fix"));
        }
    }
    match sources.len() {
        0 => Line::good("sources", "no watched directory".to_owned()),
        _ => Line::good("sources", format!("{} as last read", count(sources.len(), "directory").replace("ys", "ies"))),
    }
}

fn resources(status: &Value) -> Line {
    let (total, bad) = (status["resources"]["total"].as_u64().unwrap_or(0), list_at(status, "/resources/bad"));
    let Some(first) = bad.first() else { return Line::good("resources", format!("{total}, each does what it says")) };
    let (resource, condition) = (text_at(first, "/resource"), problem(first));
    let why =
        condition.map(|condition| format!("{}: {}", text_at(condition, "/reason"), text_at(condition, "/message")));
    let message = format!("{} of {total} not: {resource}: {}", bad.len(), why.unwrap_or_default());
    Line::bad("resources", message, "`leno status` lists them; declare or register what they refer to, or change them")
}

fn proxies(status: &Value) -> Line {
    let proxies = list_at(status, "/proxies");
    let behind: Vec<String> =
        proxies.iter().filter(|proxy| is_behind(proxy)).map(|proxy| text_at(proxy, "/id")).collect();
    match behind.first() {
        None => Line::good("proxies", format!("{} connected, all synced", proxies.len())),
        Some(first) => {
            let message = format!("{} of {} behind, as {first}", behind.len(), proxies.len());
            Line::bad(
                "proxies",
                message,
                "ask again in a moment; a proxy that stays behind does not answer: see its log",
            )
        }
    }
}

fn updates(status: &Value) -> Line {
    let refusal = list_at(status, "/proxies").iter().find_map(|proxy| Some((text_at(proxy, "/id"), rejection(proxy)?)));
    match refusal {
        None => Line::good("updates", "none was refused".to_owned()),
        Some((id, why)) => {
            let fix = "change the resource that it names, or roll back with `leno rollback`; the last good state stays in use";
            Line::bad("updates", format!("{id} refused one: {why}"), fix)
        }
    }
}

/// Neither in sync nor refusing: answers are due.
pub(super) fn is_behind(proxy: &Value) -> bool {
    proxy["inEffect"] != json!(true) && rejection(proxy).is_none()
}

/// What a proxy refused, in its own words.
pub(super) fn rejection(proxy: &Value) -> Option<String> {
    let kinds = proxy["kinds"].as_object()?;
    kinds.iter().find_map(|(kind, status)| {
        let rejection = status.get("rejection").filter(|rejection| !rejection.is_null())?;
        let names: Vec<&str> = list_at(rejection, "/resources").iter().filter_map(Value::as_str).take(3).collect();
        Some(format!("{kind} {}: {}", names.join(", "), text_at(rejection, "/detail")))
    })
}

// === impl Line ===

impl Line {
    fn good(name: &'static str, said: String) -> Self {
        Self { name, said, fix: None, notes: Vec::new() }
    }

    fn bad(name: &'static str, said: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, said: said.into(), fix: Some(fix.into()), notes: Vec::new() }
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "ok": self.fix.is_none(), "message": self.said, "fix": self.fix, "notes": self.notes })
    }

    fn text(&self) -> String {
        let said = clean(&self.said);
        match &self.fix {
            None => {
                let notes = self.notes.iter().map(|note| format!("      {} {}\n", "note:".yellow(), clean(note)));
                format!("{}    {:<10} {said}\n", "ok".green(), self.name) + &notes.collect::<String>()
            }
            Some(fix) => {
                format!("{}  {:<10} {said}\n      {} {}\n", "FAIL".red().bold(), self.name, "fix:".green(), clean(fix))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_refused_is_not_merely_behind() {
        let synced = json!({"id": "a", "inEffect": true, "kinds": {}});
        let behind = json!({"id": "b", "inEffect": false, "kinds": {"route": {"rejection": null}}});
        let refused = json!({"id": "c", "inEffect": false, "kinds": {"route": {"rejection": {"resources": ["r"], "detail": "bad regex"}}}});
        assert_eq!([&synced, &behind, &refused].map(is_behind), [false, true, false]);
        assert_eq!(rejection(&refused).unwrap(), "route r: bad regex");
        assert!(proxies(&json!({"proxies": [synced, behind]})).fix.is_some());
    }

    #[test]
    fn each_failing_question_has_a_fix() {
        let status = json!({
            "resources": {"total": 2, "bad": [{"resource": "httproute/shop/cart", "conditions": [{"type": "Accepted", "status": false, "reason": "NoMatchingParent", "message": "m"}]}]},
            "sources": [{"name": "file:/etc", "error": null, "faults": [{"severity": "error", "file": "a.yaml", "line": 1, "column": 2, "message": "m", "fix": "mend it"}]}],
        });
        assert_eq!(sources(&status).fix.as_deref(), Some("mend it"));
        let line = resources(&status);
        assert!(
            line.said.contains("1 of 2 not: httproute/shop/cart: NoMatchingParent: m") && line.fix.is_some(),
            "{}",
            line.said
        );
    }
}

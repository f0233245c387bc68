//! `leno switch`: switches listed, and turned. Whether one is on is a SwitchState of the set `switches`.

use std::time::Duration;

use leno_model::fault::closest;
use leno_model::name::DEFAULT_NAMESPACE;
use leno_model::resource::kind::{Kind, ResourceKey};
use leno_model::resource::moment::Moment;
use leno_model::seam::{Clock, Timestamp};
use leno_runtime::SystemClock;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::apply;
use super::failure::{Exit, Failure, Outcome};
use super::kinds;
use crate::args::{Output, SwitchArgs, Turn};
use crate::client::{Client, with_query};
use crate::output::{Table, clean, count, list_at, put, say, structured, text_at};

/// The set that states belong to, so that no set of files takes them back.
const SET: &str = "switches";

/// Lists, shows or turns.
pub fn run(args: &SwitchArgs) -> Outcome {
    let client = Client::new(&args.client)?;
    let namespace = args.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
    match (&args.name, args.turn) {
        (None, _) => show(args.client.output, &all(&client, args.namespace.as_deref())?),
        (Some(name), None) => show(args.client.output, &json!({ "items": [find(&client, namespace, name)?] })),
        (Some(name), Some(to)) => turn(&client, args, namespace, name, to),
    }
}

fn all(client: &Client, namespace: Option<&str>) -> Result<Value, Failure> {
    let kind = Some(Kind::Switch.lower().to_owned());
    client.get(&with_query("/api/v1/resources", &[("kind", kind), ("namespace", namespace.map(str::to_owned))]))
}

/// The switch of a name, or a failure that names one like it.
fn find(client: &Client, namespace: &str, name: &str) -> Result<Value, Failure> {
    let switches = all(client, Some(namespace))?;
    let items = list_at(&switches, "/items");
    let name_of = |item: &Value| text_at(item, "/resource/metadata/name");
    if let Some(found) = items.iter().find(|item| name_of(item) == name) {
        return Ok(found.clone());
    }
    let names: Vec<String> = items.iter().map(name_of).collect();
    let fix = match closest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "apply a resource of kind Switch, or name its namespace with `-n`".to_owned(),
        None => format!("use one of {}, or name another namespace with `-n`", names.join(", ")),
    };
    Err(Failure::new(Exit::No, format!("there is no switch {name} in namespace {namespace}"), fix))
}

fn show(output: Output, answer: &Value) -> Outcome {
    let items = list_at(answer, "/items");
    match output {
        Output::Name => put(items.iter().map(|item| format!("{}\n", text_at(item, "/key"))).collect::<String>())?,
        Output::Table if items.is_empty() => say("no switches; apply a resource of kind Switch to have one"),
        Output::Table => put(table(items))?,
        other => put(structured(other, answer).unwrap_or_default())?,
    }
    Ok(Exit::Done)
}

fn table(items: &[Value]) -> Table {
    let mut table = Table::new(&["NAMESPACE", "NAME", "STATE", "TARGETS", "TURNED"]);
    for item in items {
        let mut cells: Vec<String> = text_at(item, "/key").split('/').skip(1).map(str::to_owned).collect();
        let (state, turned) = state_of(item);
        let targets = list_at(item, "/resource/spec/targetRefs").len();
        cells.extend([state.to_owned(), targets.to_string(), turned]);
        table.row(cells);
    }
    table
}

fn turn(client: &Client, args: &SwitchArgs, namespace: &str, name: &str, to: Turn) -> Outcome {
    let switch = find(client, namespace, name)?;
    let now = Moment(SystemClock.wall());
    let begins = args.from.unwrap_or(now);
    let until = args.until.or(args.lasting.map(|lasting| later(begins, lasting)));
    if let Some(until) = until.filter(|until| *until <= begins.max(now)) {
        let message = format!("{until} is not after {}", begins.max(now));
        return Err(Failure::usage(message, "write a moment that is to come, and later than `--from`"));
    }
    let state = state(namespace, name, to, args.from, until);
    let summary = args.message.clone().unwrap_or_else(|| format!("switch {name} {}", word(to)));
    let path = with_query("/api/v1/resources", &[("set", Some(SET.to_owned())), ("summary", Some(summary))]);
    let started = Instant::now();
    let mut applied = client.post(&path, &state)?;
    let progress = args.wait.map(|timeout| apply::wait(client, &applied, timeout)).transpose()?;
    if let Some(progress) = &progress {
        applied["progress"] = progress.clone();
    }
    match structured(args.client.output, &applied) {
        Some(text) => put(text)?,
        None if args.client.output == Output::Name => put(format_args!("{}\n", text_at(&switch, "/key")))?,
        None => put(said(client, namespace, name)?)?,
    }
    let Some(progress) = progress else { return Ok(Exit::Done) };
    apply::report(args.client.output, &progress, started.elapsed())?;
    Ok(apply::exit_of(&progress))
}

/// How it stands now, in a line: what was asked for may begin later.
fn said(client: &Client, namespace: &str, name: &str) -> Result<String, Failure> {
    let answer = client.get(&kinds::path(&ResourceKey::new(Kind::Switch, namespace, name)))?;
    let (state, turned) = state_of(&answer);
    let targets = count(list_at(&answer, "/resource/spec/targetRefs").len(), "target");
    Ok(format!("switch {namespace}/{name} is {state}: {targets} ({})\n", clean(&turned)))
}

/// Whether it is on, and who turned it.
fn state_of(switch: &Value) -> (&'static str, String) {
    let on = list_at(switch, "/status/conditions").iter().find(|condition| condition["type"] == "On");
    let state = if on.is_some_and(|on| on["status"] == true) { "on" } else { "off" };
    (state, on.map(|on| text_at(on, "/message")).unwrap_or_default())
}

fn later(from: Moment, lasting: Duration) -> Moment {
    Moment(Timestamp(from.0.0.saturating_add(lasting.as_millis() as u64)))
}

fn state(namespace: &str, name: &str, to: Turn, from: Option<Moment>, until: Option<Moment>) -> Value {
    let mut spec = json!({ "on": to == Turn::On });
    for (field, moment) in [("from", from), ("until", until)] {
        if let Some(moment) = moment {
            spec[field] = json!(moment.to_string());
        }
    }
    json!({
        "apiVersion": Kind::SwitchState.api_version(),
        "kind": Kind::SwitchState.as_str(),
        "metadata": { "name": name, "namespace": namespace },
        "spec": spec,
    })
}

fn word(to: Turn) -> &'static str {
    match to {
        Turn::On => "on",
        Turn::Off => "off",
    }
}

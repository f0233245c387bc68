//! `leno status`: the server, its sources, resources that do not do what they say, and what each proxy has in effect.

use std::fmt::Write as _;

use serde_json::Value;

use super::check::{is_behind, rejection};
use super::failure::{Exit, Outcome};
use super::get::problem;
use crate::args::{Output, StatusArgs};
use crate::client::Client;
use crate::output::{Table, clean, count, list_at, put, seconds, structured, text_at};

/// Shows how the server and its proxies stand.
pub fn run(args: &StatusArgs) -> Outcome {
    let client = Client::new(&args.client)?;
    if args.settings {
        return settings(&client, args.client.output);
    }
    let status = client.get("/api/v1/status")?;
    match structured(args.client.output, &status) {
        Some(text) => put(text)?,
        None if args.client.output == Output::Name => {
            let names = list_at(&status, "/proxies").iter().map(|proxy| format!("{}\n", clean(&text_at(proxy, "/id"))));
            put(names.collect::<String>())?;
        }
        None => put(page(&client.url(), &status))?,
    }
    Ok(Exit::Done)
}

fn settings(client: &Client, output: Output) -> Outcome {
    let answer = client.get("/api/v1/settings")?;
    let settings = list_at(&answer, "/settings");
    match output {
        Output::Table => put(settings_table(settings))?,
        Output::Name => put(settings.iter().map(|one| format!("{}\n", text_at(one, "/name"))).collect::<String>())?,
        other => put(structured(other, &answer).unwrap_or_default())?,
    }
    Ok(Exit::Done)
}

fn settings_table(settings: &[Value]) -> Table {
    let mut table = Table::new(&["SETTING", "VALUE", "FROM"]);
    for setting in settings {
        table.row(["/name", "/value", "/source"].map(|pointer| text_at(setting, pointer)));
    }
    table
}

fn page(url: &str, status: &Value) -> String {
    let bad = list_at(status, "/resources/bad");
    let mut text = format!("server     {url}, revision {}\n", text_at(status, "/revision"));
    let total = status["resources"]["total"].as_u64().unwrap_or(0);
    let _ = write!(text, "resources  {total}");
    let _ = match bad.len() {
        0 => writeln!(text),
        bad => writeln!(text, ", {bad} not doing all they say"),
    };
    for source in list_at(status, "/sources") {
        let _ = writeln!(text, "source     {}", clean(&source_text(source)));
    }
    let proxies = list_at(status, "/proxies");
    let _ = writeln!(text, "proxies    {}", proxies_text(proxies));
    if !bad.is_empty() {
        let _ = write!(text, "\n{}", bad_table(bad));
    }
    if !proxies.is_empty() {
        let _ = write!(text, "\n{}", proxies_table(proxies));
    }
    text
}

fn source_text(source: &Value) -> String {
    let name = text_at(source, "/name");
    match (source["error"].as_str(), list_at(source, "/faults").len()) {
        (Some(error), _) => format!("{name}: {error}"),
        (None, 0) => {
            format!("{name}: {} resources, revision {}", text_at(source, "/resources"), text_at(source, "/revision"))
        }
        (None, faults) => format!("{name}: {}: `leno check` names the first", count(faults, "fault or warning")),
    }
}

fn proxies_text(proxies: &[Value]) -> String {
    let (mut behind, mut rejected) = (0, 0);
    for proxy in proxies {
        behind += usize::from(is_behind(proxy));
        rejected += usize::from(rejection(proxy).is_some());
    }
    let synced = proxies.len() - behind - rejected;
    match proxies.len() {
        0 => "none connected".to_owned(),
        all => format!("{all} connected: {synced} synced, {behind} behind, {rejected} rejecting"),
    }
}

fn bad_table(bad: &[Value]) -> Table {
    let mut table = Table::new(&["RESOURCE", "CONDITION", "REASON", "MESSAGE"]);
    for status in bad {
        let condition = problem(status).unwrap_or(&Value::Null);
        let [kind, reason, message] = ["/type", "/reason", "/message"].map(|pointer| text_at(condition, pointer));
        table.row([text_at(status, "/resource"), kind, reason, message]);
    }
    table
}

fn proxies_table(proxies: &[Value]) -> Table {
    let mut table = Table::new(&["PROXY", "KIND", "ROLE", "SINCE", "STATE", "REASON"]);
    for proxy in proxies {
        let (state, reason) = match rejection(proxy) {
            Some(why) => ("rejected", why),
            None if is_behind(proxy) => ("behind", waiting(proxy)),
            None => ("synced", String::new()),
        };
        let since = seconds(&text_at(proxy, "/connectedSince"));
        table.row([
            text_at(proxy, "/id"),
            text_at(proxy, "/kind"),
            role(proxy).to_owned(),
            since,
            state.to_owned(),
            reason,
        ]);
    }
    table
}

fn role(proxy: &Value) -> &'static str {
    match (proxy["kind"].as_str(), proxy["gateway"].is_string()) {
        (_, true) => "gateway",
        (Some("leno"), false) => "sidecar",
        _ => "-",
    }
}

/// Which kinds were sent and not answered.
fn waiting(proxy: &Value) -> String {
    let Some(kinds) = proxy["kinds"].as_object() else { return String::new() };
    let due = kinds.iter().filter(|(_, status)| status["inEffect"] == false);
    let text =
        |(kind, status): (&String, &Value)| format!("{kind} {} sent, {} answered", status["sent"], status["acked"]);
    due.map(text).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn proxy(id: &str, in_effect: bool, rejection: Value) -> Value {
        let kinds = json!({"route": {"inEffect": in_effect, "sent": 7, "acked": 5, "rejection": rejection}});
        json!({"id": id, "kind": "leno", "gateway": null, "connectedSince": "2026-11-21T01:40:11.000Z", "inEffect": in_effect, "kinds": kinds})
    }

    #[test]
    fn each_proxy_is_synced_behind_or_rejecting_and_says_why() {
        let refusal = json!({"resources": ["cart"], "detail": "bad regex"});
        let proxies = [proxy("a", true, Value::Null), proxy("b", false, Value::Null), proxy("c", false, refusal)];
        let page = page(
            "http://127.0.0.1:7070",
            &json!({"revision": 3, "resources": {"total": 0, "bad": []}, "proxies": proxies}),
        );
        assert!(page.contains("3 connected: 1 synced, 1 behind, 1 rejecting"), "{page}");
        assert!(
            page.contains("b      leno  sidecar  2026-11-21T01:40:11Z  behind    route 7 sent, 5 answered"),
            "{page}"
        );
        assert!(page.contains("rejected  route cart: bad regex"), "{page}");
    }
}

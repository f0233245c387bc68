//! `leno get`: resources in force, as a table with the columns of their kind, or as they were written.

use leno_model::document::to_yaml;
use leno_model::resource::kind::Kind;
use serde_json::Value;

use super::failure::{Exit, Failure, Outcome};
use super::kinds::{self, Wanted};
use crate::args::{GetArgs, Output};
use crate::client::{Client, with_query};
use crate::output::{self, Table, list_at, put, say, seconds, text_at};

/// Lists resources or shows one.
pub fn run(args: &GetArgs) -> Outcome {
    let wanted = kinds::wanted(args.kind.as_deref(), args.name.as_deref(), args.namespace.as_deref())?;
    let client = Client::new(&args.client)?;
    let (kind, answer) = match &wanted {
        Wanted::One(key) => (Some(key.kind), client.get(&kinds::path(key))?),
        Wanted::Many(kind) => {
            let kind_text = kind.map(|kind| kind.lower().to_owned());
            let parameters = [("kind", kind_text), ("namespace", args.namespace.clone())];
            (*kind, client.get(&with_query("/api/v1/resources", &parameters))?)
        }
    };
    let items = match &wanted {
        Wanted::One(_) => std::slice::from_ref(&answer),
        Wanted::Many(_) => list_at(&answer, "/items"),
    };
    print(args.client.output, kind, &answer, items)?;
    Ok(Exit::Done)
}

fn print(output: Output, kind: Option<Kind>, answer: &Value, items: &[Value]) -> Result<(), Failure> {
    match output {
        Output::Json => put(format_args!("{answer:#}\n")),
        Output::Yaml => put(documents(items)),
        Output::Name => put(items.iter().map(|item| format!("{}\n", text_at(item, "/key"))).collect::<String>()),
        Output::Table if items.is_empty() => {
            say("no resources");
            Ok(())
        }
        Output::Table => put(table(kind, items)),
    }
}

/// The resources as they were written, ready for `apply`.
fn documents(items: &[Value]) -> String {
    items.iter().map(|item| to_yaml(&item["resource"])).collect::<Vec<_>>().join("---\n")
}

fn table(kind: Option<Kind>, items: &[Value]) -> Table {
    let own = own_columns(kind);
    let mut head = if kind.is_some() { vec!["NAMESPACE", "NAME"] } else { vec!["KIND", "NAMESPACE", "NAME"] };
    head.extend(own.iter().map(|(name, _)| *name));
    head.extend(["STATUS", "REVISION", "UPDATED", "OWNER"]);
    let mut table = Table::new(&head);
    for item in items {
        let key = text_at(item, "/key");
        let mut cells: Vec<String> = key.split('/').skip(usize::from(kind.is_some())).map(str::to_owned).collect();
        cells.extend(own.iter().map(|(_, cell)| cell(&item["resource"])));
        cells.extend([status(item), text_at(item, "/revision"), seconds(&text_at(item, "/updated")), owner(item)]);
        table.row(cells);
    }
    table
}

type Column = (&'static str, fn(&Value) -> String);

/// What a kind shows beside what all have.
fn own_columns(kind: Option<Kind>) -> &'static [Column] {
    match kind {
        Some(Kind::Gateway) => &[("LISTENERS", listeners)],
        Some(Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute) => {
            &[("PARENTS", parents), ("HOSTNAMES", hostnames), ("BACKENDS", backends)]
        }
        Some(Kind::TcpRoute | Kind::UdpRoute) => &[("PARENTS", parents), ("BACKENDS", backends)],
        Some(Kind::ReferenceGrant) => &[("FROM", granted_from), ("TO", granted_to)],
        Some(Kind::Service) => &[("PORTS", ports)],
        Some(Kind::BackendTlsPolicy) => &[("TARGETS", targets), ("HOSTNAME", asked_hostname)],
        Some(Kind::TrafficPolicy | Kind::FaultPolicy | Kind::Switch) => &[("TARGETS", targets)],
        Some(Kind::Lane) => &[("TAG", tag), ("VERSIONS", versions)],
        Some(Kind::SwitchState) => &[("ON", is_on), ("FROM", from), ("UNTIL", until)],
        None => &[],
    }
}

fn asked_hostname(resource: &Value) -> String {
    text_at(resource, "/spec/validation/hostname")
}

fn listeners(resource: &Value) -> String {
    let listener = |listener: &Value| {
        let [name, port, protocol] = ["/name", "/port", "/protocol"].map(|pointer| text_at(listener, pointer));
        format!("{name}:{port}/{protocol}")
    };
    joined(resource, "/spec/listeners", listener)
}

fn parents(resource: &Value) -> String {
    let parent = |parent: &Value| {
        let kind = parent["kind"].as_str().unwrap_or("Gateway").to_lowercase();
        format!("{kind}/{}", text_at(parent, "/name"))
    };
    joined(resource, "/spec/parentRefs", parent)
}

/// Whose routes are let in: `httproute/shop`.
fn granted_from(resource: &Value) -> String {
    let from = |from: &Value| format!("{}/{}", text_at(from, "/kind").to_lowercase(), text_at(from, "/namespace"));
    joined(resource, "/spec/from", from)
}

/// To what: `service/reviews`, `service/*`.
fn granted_to(resource: &Value) -> String {
    let to = |to: &Value| format!("{}/{}", text_at(to, "/kind").to_lowercase(), to["name"].as_str().unwrap_or("*"));
    joined(resource, "/spec/to", to)
}

fn hostnames(resource: &Value) -> String {
    joined(resource, "/spec/hostnames", |name| name.as_str().unwrap_or_default().to_owned())
}

fn ports(resource: &Value) -> String {
    joined(resource, "/spec/ports", |port| match (text_at(port, "/port"), port["protocol"].as_str()) {
        (number, Some(protocol)) => format!("{number}/{protocol}"),
        (number, None) => number,
    })
}

fn targets(resource: &Value) -> String {
    joined(resource, "/spec/targetRefs", |target| text_at(target, "/name"))
}

/// What a request of a lane has: `x-lane=blue`, `baggage lane=blue`.
fn tag(resource: &Value) -> String {
    let text = |name: &str| text_at(resource, &format!("/spec/tag/{name}"));
    match resource["spec"]["tag"].get("header") {
        Some(_) => format!("{}={}", text("header"), text("value")),
        None => format!("baggage {}={}", text("baggage"), text("value")),
    }
}

fn versions(resource: &Value) -> String {
    joined(resource, "/spec/versions", |one| format!("{}@{}", text_at(one, "/name"), text_at(one, "/version")))
}

fn is_on(resource: &Value) -> String {
    text_at(resource, "/spec/on")
}

fn from(resource: &Value) -> String {
    text_at(resource, "/spec/from")
}

fn until(resource: &Value) -> String {
    text_at(resource, "/spec/until")
}

/// Where a route leads, with shares where there are several: `reviews@v1:95,reviews@v2:5`.
fn backends(resource: &Value) -> String {
    let mut found: Vec<String> = Vec::new();
    for rule in list_at(resource, "/spec/rules") {
        for backend in list_at(rule, "/backendRefs") {
            let text = match backend["weight"].as_u64() {
                Some(weight) => format!("{}:{weight}", text_at(backend, "/name")),
                None => text_at(backend, "/name"),
            };
            if !found.contains(&text) {
                found.push(text);
            }
        }
    }
    found.join(",")
}

fn joined(resource: &Value, pointer: &str, text: impl Fn(&Value) -> String) -> String {
    list_at(resource, pointer).iter().map(text).collect::<Vec<_>>().join(",")
}

/// `ok`, or the reason of the first condition that does not hold.
fn status(item: &Value) -> String {
    match problem(&item["status"]) {
        Some(condition) => text_at(condition, "/reason"),
        None => "ok".to_owned(),
    }
}

/// The first condition that does not hold as it should.
pub(super) fn problem(status: &Value) -> Option<&Value> {
    // Whether a switch is on is neither good nor bad.
    let is_bad = |condition: &&Value| {
        condition["type"] != "On" && condition["status"].as_bool() == Some(condition["type"] == "Conflicted")
    };
    list_at(status, "/conditions").iter().find(is_bad)
}

fn owner(item: &Value) -> String {
    let (set, file) = (text_at(item, "/owner/set"), text_at(item, "/owner/file"));
    match set.strip_prefix("file:") {
        Some(directory) => output::clean(&format!("{directory}/{file}:{}", text_at(item, "/owner/line"))).into_owned(),
        None => set,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_route_shows_its_parents_and_the_shares_of_its_backends() {
        let resource = json!({"spec": {
            "parentRefs": [{"kind": "Service", "name": "reviews"}, {"name": "edge"}],
            "rules": [{"backendRefs": [{"name": "reviews@v1", "weight": 95}, {"name": "reviews@v2", "weight": 5}]}],
        }});
        assert_eq!(parents(&resource), "service/reviews,gateway/edge");
        assert_eq!(backends(&resource), "reviews@v1:95,reviews@v2:5");
    }

    #[test]
    fn a_status_names_the_first_condition_that_does_not_hold() {
        let item = |r#type: &str, status: bool| json!({"status": {"conditions": [{"type": "Accepted", "status": true}, {"type": r#type, "status": status, "reason": "Why"}]}});
        assert_eq!(status(&item("ResolvedRefs", true)), "ok");
        assert_eq!(status(&item("ResolvedRefs", false)), "Why");
        assert_eq!(status(&item("Conflicted", true)), "Why");
        assert_eq!(status(&item("Conflicted", false)), "ok");
    }
}

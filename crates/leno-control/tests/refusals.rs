//! Every class of fault, in every kind that it fits, as the API refuses it: with file, line, column, path and fix, and
//! with nothing of the set applied.

#![allow(clippy::unwrap_used, reason = "a test may; clippy's own exemption covers only functions marked #[test]")]

#[path = "../../leno-model/tests/cases/mod.rs"]
mod cases;
mod mesh;

use std::collections::BTreeSet;

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use leno_control::Control;
use leno_control::api::routes;
use leno_model::identity::{Principal, Role};
use serde_json::{Value, json};
use tower_service::Service;

use cases::{Case, all, edge, unmark};
use mesh::Mesh;

/// What the cases name.
fn world() -> String {
    let service = |name: &str, ports: &str| {
        format!(
            "apiVersion: leno.mesh/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{ports: [{ports}]}}\n---\n"
        )
    };
    let cart = service("cart", "{port: 80, name: http}, {port: 90, name: grpc}");
    cart + &service("one", "{port: 80, name: http}") + &edge("default") + "---\n" + &edge("other")
}

/// A resource without a fault, in a file of its own beside the faulty one.
const BESIDE: &str = "apiVersion: leno.mesh/v1\nkind: Service\nmetadata: {name: beside}\nspec: {ports: [{port: 80}]}\n";

async fn apply(router: &Router, text: &str) -> (u16, Value) {
    let files = json!({ "files": [{ "name": "beside.yaml", "text": BESIDE }, { "name": "t.yaml", "text": text }] });
    let request = Request::post("/api/v1/resources").header("content-type", "application/json");
    let request = request.extension(Principal { name: "ann".to_owned(), role: Role::Operator });
    let response = router.clone().call(request.body(Body::from(files.to_string())).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap())
}

/// Everything in force, with the number of the newest revision.
fn in_force(control: &Control) -> (u64, Vec<String>) {
    let (revision, entries) = control.resources();
    (revision, entries.iter().map(|entry| entry.resource.key.to_string()).collect())
}

/// Whether a case was refused; a warning applies, and is rolled back by whoever asks for the next.
async fn examine(router: &Router, case: &Case) -> Result<bool, String> {
    let (text, line, column) = unmark(&case.text);
    let (status, answer) = apply(router, &text).await;
    let refused = status == 422;
    let faults = if refused { &answer["error"]["faults"] } else { &answer["warnings"] };
    let is_it = |fault: &&Value| fault["class"] == case.class.to_string() && fault["path"] == case.path;
    let fault = faults.as_array().and_then(|faults| faults.iter().find(is_it)).ok_or(format!("{status} {answer}"))?;
    let place = json!([fault["file"], fault["line"], fault["column"], fault["severity"]]);
    let severity = if refused { "error" } else { "warning" };
    if place != json!(["t.yaml", line, column, severity]) {
        return Err(format!("expected {line}:{column}, {severity}: {fault}"));
    }
    let fix = fault["fix"].as_str().unwrap_or_default();
    if case.fix.split('|').any(|part| fix.contains(part)) { Ok(refused) } else { Err(format!("the fix is {fix:?}")) }
}

#[tokio::test]
async fn every_class_of_fault_is_refused_whole_with_its_place_and_its_fix() {
    let cases = all();
    let (mut failed, mut classes, mut refused) = (Vec::new(), BTreeSet::new(), 0);
    let fresh = async || {
        let mesh = Mesh::new().await;
        mesh.apply(&world()).await.unwrap();
        (routes(mesh.control.clone()).into_router(None), mesh)
    };
    let (mut router, mut mesh) = fresh().await;
    for case in &cases {
        let before = in_force(&mesh.control);
        match examine(&router, case).await {
            Ok(true) if in_force(&mesh.control) == before => {
                classes.insert(case.class);
                refused += 1;
            }
            Ok(true) => failed.push(format!("{} at {}: half applied", case.class, case.path)),
            Ok(false) => (router, mesh) = fresh().await,
            Err(why) => failed.push(format!("{} at {}: {why}\n{}", case.class, case.path, head(&case.text))),
        }
    }
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), cases.len(), failed.join("\n\n"));
    println!(
        "{} classes of fault refused whole in {refused} of {} cases, the others are warnings",
        classes.len(),
        cases.len()
    );
    assert!(classes.len() >= 40 && refused >= 400, "{} classes in {refused} cases", classes.len());
}

fn head(text: &str) -> String {
    text.chars().take(600).collect()
}

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use axum::Router;
use http_body_util::BodyExt;
use leno_model::identity::Principal;
use leno_store::MemoryStore;
use leno_store::suite::TurnedClock;
use serde_json::{Value, json};
use tower_service::Service;

use super::*;
use crate::Options;

struct Api {
    router: Router,
    role: Option<Role>,
}

async fn api(role: Option<Role>) -> (Api, Registry) {
    let clock = Arc::new(TurnedClock::default());
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let (registry, _driver) = Registry::open(store, clock, Options::default()).await.unwrap();
    (Api { router: routes(registry.clone()).into_router(None), role }, registry)
}

impl Api {
    async fn ask(&mut self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("content-type", "application/json; charset=utf-8")
            .body(axum::body::Body::from(body.to_string()))
            .unwrap();
        if let Some(role) = self.role {
            request.extensions_mut().insert(Principal { name: "ada".to_owned(), role });
        }
        request.extensions_mut().insert(PeerAddress([127, 0, 0, 1].into()));
        let response = self.router.call(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }
}

fn cart() -> Value {
    json!({ "id": "a", "address": "10.0.3.7", "ports": [{ "number": 8080 }], "lease": 30000 })
}

#[tokio::test]
async fn an_instance_is_registered_shown_changed_and_removed() {
    let (mut api, registry) = api(Some(Role::Operator)).await;
    let (status, shown) = api.ask("POST", "/services/shop/cart/instances", cart()).await;
    assert_eq!((status, &shown["routable"], &shown["source"]), (200, &json!("yes"), &json!("api")));
    let service = ServiceName::new("shop", "cart").unwrap();
    assert_eq!(registry.instances(&service)[0].origin, Origin::Local);
    assert_eq!(api.ask("PUT", "/services/shop/cart/instances/a/renew", Value::Null).await.0, 204);
    let drain = json!({ "status": "draining", "weight": 7 });
    let (status, shown) = api.ask("PATCH", "/services/shop/cart/instances/a", drain).await;
    assert_eq!((status, &shown["routable"], &shown["weight"]), (200, &json!("draining"), &json!(7)));
    let (_, list) = api.ask("GET", "/services", Value::Null).await;
    assert_eq!(list["services"][0]["name"], "cart");
    assert_eq!((&list["services"][0]["instances"], &list["services"][0]["routable"]), (&json!(1), &json!(0)));
    let (_, shown) = api.ask("GET", "/services/shop/cart", Value::Null).await;
    assert_eq!(shown["instances"][0]["leaseState"], "valid");
    assert_eq!(api.ask("DELETE", "/services/shop/cart/instances/a", Value::Null).await.0, 204);
    assert_eq!(api.ask("GET", "/services/shop/cart", Value::Null).await.0, 404);
}

#[tokio::test]
async fn without_a_principal_everything_is_401() {
    let (mut api, _) = api(None).await;
    for (method, path) in [
        ("GET", "/services"),
        ("GET", "/services/shop/cart"),
        ("POST", "/services/shop/cart/instances"),
        ("PUT", "/services/shop/cart/instances/a/renew"),
        ("PATCH", "/services/shop/cart/instances/a"),
        ("DELETE", "/services/shop/cart/instances/a"),
    ] {
        let (status, answer) = api.ask(method, path, cart()).await;
        assert_eq!((status, &answer["error"]["code"]), (401, &json!("no_credential")), "{method} {path}");
    }
}

#[tokio::test]
async fn a_viewer_reads_and_does_not_write() {
    let (mut api, registry) = api(Some(Role::Viewer)).await;
    assert_eq!(api.ask("GET", "/services", Value::Null).await.0, 200);
    for (method, path) in [
        ("POST", "/services/shop/cart/instances"),
        ("PUT", "/services/shop/cart/instances/a/renew"),
        ("PATCH", "/services/shop/cart/instances/a"),
        ("DELETE", "/services/shop/cart/instances/a"),
    ] {
        let (status, answer) = api.ask(method, path, cart()).await;
        assert_eq!((status, &answer["error"]["code"]), (403, &json!("role")), "{method} {path}");
    }
    assert_eq!(registry.counts(), (0, 0));
}

#[tokio::test]
async fn refusals_name_the_field_and_the_fix() {
    let (mut api, _) = api(Some(Role::Operator)).await;
    let with = |field: &str, value: Value| {
        let mut body = cart();
        body[field] = value;
        body
    };
    let cases = [
        (with("address", json!("169.254.169.254")), 400, "link-local"),
        (with("address", json!("cart.example")), 400, "address"),
        (with("ports", json!([{ "number": 0 }])), 400, "ports[0].number"),
        (with("ports", json!([{ "number": 70000 }])), 400, "ports[0].number"),
        (with("colour", json!("red")), 400, "colour"),
        (with("service", json!("pay.shop")), 400, "not the cart.shop"),
        (with("lease", json!(1)), 400, "lease"),
        (json!([]), 400, "expected a map"),
    ];
    for (body, status, word) in cases {
        let (got, answer) = api.ask("POST", "/services/shop/cart/instances", body).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(got == status && message.contains(word), "{got} {message}");
        assert!(!answer["error"]["fix"].as_str().unwrap().is_empty());
    }
    assert_eq!(api.ask("POST", "/services/Shop/cart/instances", cart()).await.0, 400);
    assert_eq!(api.ask("PATCH", "/services/shop/cart/instances/a", json!({})).await.0, 400);
    assert_eq!(api.ask("PATCH", "/services/shop/cart/instances/a", json!({ "weight": 5 })).await.0, 404);
    assert_eq!(api.ask("DELETE", "/services/shop/cart/instances/a%2Fb", Value::Null).await.0, 400);
    let big = with("metadata", json!({ "k": "v".repeat(BODY_MAX) }));
    assert_eq!(api.ask("POST", "/services/shop/cart/instances", big).await.0, 413);
}

#[tokio::test]
async fn a_health_check_is_read_from_json() {
    let (mut api, _) = api(Some(Role::Operator)).await;
    let mut body = cart();
    body["healthCheck"] = json!({ "type": "http", "path": "/healthz", "interval": 5000 });
    let (status, shown) = api.ask("POST", "/services/shop/cart/instances", body).await;
    assert_eq!((status, &shown["healthCheck"]["path"]), (200, &json!("/healthz")), "{shown}");
}

#[tokio::test]
async fn what_is_not_json_is_refused() {
    let (mut api, _) = api(Some(Role::Operator)).await;
    let mut request = http::Request::post("/api/v1/services/shop/cart/instances")
        .header("content-type", "text/plain")
        .body(axum::body::Body::from(cart().to_string()))
        .unwrap();
    request.extensions_mut().insert(Principal { name: "ada".to_owned(), role: Role::Operator });
    assert_eq!(api.router.call(request).await.unwrap().status(), 415);
}

#[tokio::test]
async fn a_long_list_comes_in_pages() {
    let (mut api, _) = api(Some(Role::Operator)).await;
    for name in ["a", "b", "c", "d", "e"] {
        api.ask("POST", &format!("/services/shop/{name}/instances"), cart()).await;
    }
    let (mut path, mut names) = ("/services?namespace=shop&limit=2".to_owned(), Vec::new());
    loop {
        let (_, page) = api.ask("GET", &path, Value::Null).await;
        names.extend(page["services"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/services?namespace=shop&limit=2&after={next}");
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert_eq!(api.ask("GET", "/services?colour=red", Value::Null).await.0, 400);
}

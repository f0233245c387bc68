//! The API of resources over HTTP requests, without a socket.

#![allow(clippy::unwrap_used, reason = "a test may; clippy's own exemption covers only functions marked #[test]")]

mod mesh;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use leno_control::api::routes;
use leno_model::identity::{Principal, Role};
use leno_model::resource::kind::Kind;
use serde_json::{Value, json};
use tower_service::Service;

use mesh::Mesh;

const CART: &str =
    "apiVersion: leno.mesh/v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{port: 80}]}\n";

struct Api {
    router: Router,
    role: Option<Role>,
}

impl Api {
    async fn new() -> Self {
        let control = Mesh::new().await.control;
        let hook = control.audit().hook();
        Self { router: routes(control).into_router(Some(hook)), role: Some(Role::Operator) }
    }

    fn role(&self, role: Option<Role>) -> Self {
        Self { router: self.router.clone(), role }
    }

    async fn ask(&self, method: &str, path: &str, media_type: &str, body: &str) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        request = request.header("content-type", media_type);
        if let Some(role) = self.role {
            request = request.extension(Principal { name: "ann".to_owned(), role });
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().call(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        self.ask("GET", path, "", "").await
    }

    async fn post(&self, path: &str, yaml: &str) -> (StatusCode, Value) {
        self.ask("POST", path, "application/yaml", yaml).await
    }
}

#[tokio::test]
async fn what_is_applied_is_listed_with_owner_and_status() {
    let api = Api::new().await;
    let (status, applied) = api.post("/resources?file=cart.yaml", CART).await;
    assert_eq!((status, &applied["revision"], &applied["changed"]), (StatusCode::OK, &json!(1), &json!(1)));
    let (_, list) = api.get("/resources?kind=services&namespace=shop").await;
    assert_eq!(list["items"][0]["owner"], json!({"set": "api", "file": "cart.yaml", "line": 1}));
    let (_, one) = api.get("/resources/service/shop/cart").await;
    assert_eq!(one["resource"]["spec"], json!({"ports": [{"port": 80}]}));
    assert_eq!(one["status"]["conditions"][0]["status"], true);
    assert_eq!(api.get("/resources?kind=gateways").await.1["items"], json!([]));
}

#[tokio::test]
async fn a_refused_set_lists_its_faults() {
    let api = Api::new().await;
    let text = CART.replace("port: 80", "port: 0").replace("cart, ", "cart, nmae: x, ");
    let (status, refused) = api.post("/resources?file=cart.yaml", &text).await;
    assert_eq!((status, &refused["error"]["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("invalid")));
    let faults = refused["error"]["faults"].as_array().unwrap();
    let told: Vec<(&str, u64, u64, &str)> = faults
        .iter()
        .map(|f| {
            (
                f["path"].as_str().unwrap(),
                f["line"].as_u64().unwrap(),
                f["column"].as_u64().unwrap(),
                f["class"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(told, [("metadata.nmae", 3, 24, "unknown-field"), ("spec.ports[0].port", 4, 23, "out-of-range")]);
}

#[tokio::test]
async fn several_files_come_in_one_request_with_their_names() {
    let api = Api::new().await;
    let files =
        json!({"files": [{"name": "a.yaml", "text": CART}, {"name": "b.yaml", "text": CART.replace("cart", "Bad")}]});
    let (status, refused) = api.ask("POST", "/resources", "application/json", &files.to_string()).await;
    assert_eq!((status, &refused["error"]["faults"][0]["file"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("b.yaml")));
    let (status, checked) = api.ask("POST", "/check", "application/json", &files.to_string()).await;
    assert_eq!((status, &checked["ok"], &checked["resources"]), (StatusCode::OK, &json!(false), &json!(2)));
}

#[tokio::test]
async fn a_resource_is_json_as_well() {
    let api = Api::new().await;
    let body =
        r#"{"apiVersion":"leno.mesh/v1","kind":"Service","metadata":{"name":"cart"},"spec":{"ports":[{"port":80}]}}"#;
    let (status, applied) = api.ask("POST", "/resources", "application/json", body).await;
    assert_eq!((status, &applied["changes"][0]["resource"]), (StatusCode::OK, &json!("service/default/cart")));
}

#[tokio::test]
async fn history_shows_differences_and_rollback_makes_a_new_revision() {
    let api = Api::new().await;
    api.post("/resources", CART).await;
    api.post("/resources?summary=raise+the+port", &CART.replace("80", "81")).await;
    let (_, history) = api.get("/history?resource=service/shop/cart").await;
    assert_eq!(history["items"][0]["summary"], "raise the port");
    let (_, revision) = api.get("/history/2").await;
    assert!(revision["changes"][0]["diff"].as_str().unwrap().contains("+  - port: 81"));
    let (status, undone) = api.ask("POST", "/rollback", "application/json", r#"{"revision": 1}"#).await;
    assert_eq!((status, &undone["revision"]), (StatusCode::OK, &json!(3)));
    assert_eq!(api.get("/resources/service/shop/cart").await.1["resource"]["spec"]["ports"][0]["port"], 80);
}

#[tokio::test]
async fn a_dry_run_and_a_diff_change_nothing() {
    let api = Api::new().await;
    for path in ["/resources?dryRun=true", "/diff"] {
        let (status, planned) = api.post(path, CART).await;
        assert_eq!((status, &planned["changes"][0]["action"]), (StatusCode::OK, &json!("created")), "{path}");
    }
    assert_eq!(api.get("/resources/service/shop/cart").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_stale_change_is_a_conflict() {
    let api = Api::new().await;
    api.post("/resources", CART).await;
    api.post("/resources", &CART.replace("80", "81")).await;
    let (status, refused) = api.post("/resources?expectedRevision=1", &CART.replace("80", "82")).await;
    assert_eq!((status, &refused["error"]["code"]), (StatusCode::CONFLICT, &json!("conflict")));
    let (status, _) = api.ask("DELETE", "/resources/service/shop/cart?expectedRevision=2", "", "").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn nothing_is_answered_without_a_principal() {
    let nobody = Api::new().await.role(None);
    let paths =
        ["/resources", "/resources/service/shop/cart", "/history", "/history/1", "/status", "/schemas", "/audit"];
    for path in paths {
        let (status, refused) = nobody.get(path).await;
        assert_eq!((status, &refused["error"]["code"]), (StatusCode::UNAUTHORIZED, &json!("no_credential")), "{path}");
    }
    for path in ["/resources", "/check", "/diff", "/rollback"] {
        assert_eq!(nobody.post(path, CART).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn a_viewer_changes_nothing_and_the_attempt_is_written_down() {
    let api = Api::new().await;
    let viewer = api.role(Some(Role::Viewer));
    assert_eq!(viewer.post("/resources", CART).await.0, StatusCode::FORBIDDEN);
    assert_eq!(viewer.ask("DELETE", "/resources/service/shop/cart", "", "").await.0, StatusCode::FORBIDDEN);
    assert_eq!(viewer.get("/audit").await.0, StatusCode::FORBIDDEN);
    assert_eq!(viewer.post("/diff", CART).await.0, StatusCode::OK);
    let (_, audit) = api.role(Some(Role::Admin)).get("/audit").await;
    assert_eq!(audit["items"][1]["outcome"], "refused: role");
}

#[tokio::test]
async fn bodies_that_a_web_page_can_send_are_refused() {
    let api = Api::new().await;
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
        let (status, _) = api.ask("POST", "/resources", media_type, CART).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{media_type}");
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_say_what_is_wrong() {
    let api = Api::new().await;
    for (path, word) in [
        ("/resources?knd=service", "unknown field `knd`"),
        ("/resources?kind=virtualservice", "no kind of resource"),
        ("/history/abc", "a revision is a number"),
        ("/history?resource=cart", "write kind/namespace/name"),
        ("/status/wait?revision=1&timeout=soon", "is not a duration"),
    ] {
        let (status, refused) = api.get(path).await;
        let message = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(status == StatusCode::BAD_REQUEST && message.contains(word), "{path}: {status} {message}");
    }
    for (path, word) in
        [("/resources?set=file:/x", "watched directories"), ("/resources?prune=true", "a set of its own")]
    {
        let (status, refused) = api.post(path, CART).await;
        let message = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(status == StatusCode::BAD_REQUEST && message.contains(word), "{path}: {status} {message}");
    }
    // What files say is changed by nobody but them: it would stay changed until they are.
    let rollback = json!({"revision": 1, "set": "file:/x"}).to_string();
    for (method, path, body) in
        [("DELETE", "/resources/service/shop/cart?set=file:/x", ""), ("POST", "/rollback", rollback.as_str())]
    {
        let (status, refused) = api.ask(method, path, "application/json", body).await;
        let message = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(status == StatusCode::BAD_REQUEST && message.contains("watched directories"), "{path}: {message}");
    }
}

#[tokio::test]
async fn schemas_and_status_are_there() {
    let api = Api::new().await;
    let (_, schemas) = api.get("/schemas").await;
    assert_eq!(schemas.as_object().unwrap().len(), Kind::ALL.len());
    assert_eq!(api.get("/schemas/httproutes").await.1["title"], "HTTPRoute");
    api.post("/resources", CART).await;
    let (_, status) = api.get("/status").await;
    assert_eq!(
        (&status["revision"], &status["resources"]["total"], &status["proxies"]),
        (&json!(1), &json!(1), &json!([]))
    );
    let (_, waited) = api.get("/status/wait?revision=1&timeout=1s").await;
    assert_eq!((&waited["done"], &waited["subscribed"]), (&json!(true), &json!(0)));
}

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leno_model::seam::Timestamp;
use tower_service::Service;

use super::*;

#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }

    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }
}

struct Kit {
    guard: Arc<Guard>,
    clock: Arc<Hand>,
    token: String,
    log: Arc<Mutex<Vec<String>>>,
}

fn kit() -> Kit {
    let (clock, log, mut tokens) = (Arc::<Hand>::default(), Arc::<Mutex<Vec<String>>>::default(), TokenSet::new());
    let token = tokens.create(ada()).unwrap();
    let lines = log.clone();
    let guard = Guard::new(GuardOptions {
        tokens: Some(tokens),
        hosts: Hosts::loopback(),
        public: ["/", "/assets/", "/api/v1/health"].map(str::to_owned).to_vec(),
        audit: Some(Arc::new(move |audited: Audited| {
            let name = audited.principal.map_or("-".to_owned(), |principal| principal.name);
            let Audited { action, object, outcome, .. } = audited;
            lines.lock().unwrap().push(format!("{name} {action} {object} {outcome}"));
            Box::pin(std::future::ready(()))
        })),
        clock: clock.clone(),
    });
    Kit { guard: Arc::new(guard), clock, token: format!("Bearer {token}"), log }
}

fn ada() -> Principal {
    Principal { name: "ada".to_owned(), role: Role::Operator }
}

fn get(path: &str) -> Asking<'_> {
    Asking { method: "GET", path, host: Some("localhost:7070"), ..Asking::default() }
}

fn code<T: fmt::Debug>(result: Result<T, Refusal>) -> &'static str {
    result.unwrap_err().code
}

#[test]
fn a_known_token_lets_its_owner_in() {
    let kit = kit();
    let asking = Asking { authorization: Some(&kit.token), ..get("/api/v1/resources") };
    assert_eq!(kit.guard.admit(&asking), Ok(Admitted::As(ada())));
}

#[test]
fn without_a_credential_only_public_paths_are_reached() {
    let guard = kit().guard;
    for path in ["/", "/assets/app.js", "/api/v1/health"] {
        assert_eq!(guard.admit(&get(path)), Ok(Admitted::Public), "{path}");
    }
    for path in
        ["/api/v1/resources", "/api/v1/health/x", "/assets", "/assets/../api/v1/resources", "/assets/%2e%2e/api"]
    {
        assert_eq!(code(guard.admit(&get(path))), "no_credential", "{path}");
    }
}

#[test]
fn a_wrong_token_or_another_scheme_is_refused_even_where_a_session_would_do() {
    let guard = kit().guard;
    let with = |authorization| Asking { authorization: Some(authorization), ..get("/api/v1/resources") };
    assert_eq!(code(guard.admit(&with("Bearer leno_0000"))), "unknown_token");
    assert_eq!(code(guard.admit(&with("Basic YTpi"))), "not_bearer");
}

#[test]
fn a_page_that_rebinds_dns_is_refused_with_or_without_a_token() {
    let kit = kit();
    let asking =
        Asking { host: Some("evil.example:7070"), authorization: Some(&kit.token), ..get("/api/v1/resources") };
    assert_eq!(code(kit.guard.admit(&asking)), "host_not_allowed");
    assert_eq!(code(kit.guard.admit(&Asking { host: Some("evil.example"), ..get("/") })), "host_not_allowed");
}

#[test]
fn a_page_of_another_site_is_refused_with_or_without_a_token() {
    let kit = kit();
    let asking = Asking { authorization: Some(&kit.token), ..get("/api/v1/resources") };
    for origin in ["http://evil.example", "null", "http://localhost:9999", "https://localhost:7070.evil.example"] {
        assert_eq!(code(kit.guard.admit(&Asking { origin: Some(origin), ..asking })), "cross_site", "{origin}");
    }
    for site in ["cross-site", "same-site"] {
        assert_eq!(code(kit.guard.admit(&Asking { fetch_site: Some(site), ..asking })), "cross_site", "{site}");
    }
    let own = Asking { origin: Some("http://localhost:7070"), fetch_site: Some("same-origin"), ..asking };
    assert!(kit.guard.admit(&own).is_ok());
}

#[test]
fn a_link_on_another_site_may_lead_to_a_public_page_but_to_nothing_else() {
    let guard = kit().guard;
    let link = |path| Asking { fetch_site: Some("cross-site"), fetch_mode: Some("navigate"), ..get(path) };
    assert_eq!(guard.admit(&link("/")), Ok(Admitted::Public));
    assert_eq!(code(guard.admit(&link("/api/v1/resources"))), "cross_site");
    assert_eq!(code(guard.admit(&Asking { method: "POST", ..link("/") })), "cross_site");
}

#[test]
fn a_body_that_a_form_could_send_is_refused() {
    let kit = kit();
    let post = Asking { method: "POST", authorization: Some(&kit.token), has_body: true, ..get("/api/v1/resources") };
    for form in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("multipart/form-data; boundary=x")]
    {
        assert_eq!(code(kit.guard.admit(&Asking { content_type: form, ..post })), "content_type", "{form:?}");
    }
    // No page sends these without asking first.
    for method in ["PUT", "PATCH", "DELETE"] {
        let asking = Asking { method, content_type: Some("application/x-www-form-urlencoded"), ..post };
        assert!(kit.guard.admit(&asking).is_ok(), "{method}");
        let foreign = Asking { origin: Some("http://evil.example"), ..asking };
        assert_eq!(code(kit.guard.admit(&foreign)), "cross_site", "{method}");
    }
    for taken in ["application/json", "Application/JSON; charset=utf-8", "text/yaml"] {
        assert!(kit.guard.admit(&Asking { content_type: Some(taken), ..post }).is_ok(), "{taken}");
    }
}

/// Exchanges a fresh code for a cookie, as a browser would send it back.
fn log_in(kit: &Kit) -> String {
    let query = format!("code={}", kit.guard.login_code(ada()).unwrap());
    let Ok(Admitted::LoggedIn { cookie, .. }) = kit.guard.admit(&Asking { query: Some(&query), ..get("/login") })
    else {
        panic!("not logged in")
    };
    assert!(cookie.starts_with("leno_session_7070=") && cookie.contains("; HttpOnly; SameSite=Strict"));
    assert_eq!(code(kit.guard.admit(&Asking { query: Some(&query), ..get("/login") })), "login_code");
    format!("theme=dark; {}", cookie.split(';').next().unwrap())
}

#[test]
fn a_login_link_works_once_and_its_session_until_it_is_over() {
    let kit = kit();
    let cookie = log_in(&kit);
    let asking = Asking { cookie: Some(&cookie), ..get("/api/v1/resources") };
    assert_eq!(kit.guard.admit(&asking), Ok(Admitted::As(ada())));
    kit.clock.0.store(SESSION_LIFE.as_secs(), Ordering::Relaxed);
    assert_eq!(code(kit.guard.admit(&asking)), "session_over");
}

#[test]
fn a_login_link_does_not_work_late() {
    let kit = kit();
    let query = format!("code={}", kit.guard.login_code(ada()).unwrap());
    kit.clock.0.store(LOGIN_CODE_LIFE.as_secs(), Ordering::Relaxed);
    assert_eq!(code(kit.guard.admit(&Asking { query: Some(&query), ..get("/login") })), "login_code");
}

#[test]
fn a_session_ends_by_logging_out_and_with_the_token_of_its_owner() {
    let kit = kit();
    let (first, second) = (log_in(&kit), log_in(&kit));
    let logout = Asking { method: "POST", cookie: Some(&first), ..get("/logout") };
    assert!(matches!(kit.guard.admit(&logout), Ok(Admitted::LoggedOut { principal: Some(_), .. })));
    assert_eq!(code(kit.guard.admit(&Asking { cookie: Some(&first), ..get("/x") })), "session_over");
    assert!(kit.guard.admit(&Asking { cookie: Some(&second), ..get("/x") }).is_ok());
    kit.guard.change_tokens(|tokens| tokens.remove("ada"));
    assert_eq!(code(kit.guard.admit(&Asking { cookie: Some(&second), ..get("/x") })), "session_over");
}

#[test]
fn a_role_reaches_what_it_may_and_no_more() {
    assert_eq!(require(&ada(), Role::Viewer), Ok(()));
    assert_eq!(code(require(&ada(), Role::Admin)), "role");
}

#[tokio::test]
async fn routes_behind_the_guard_learn_who_asks_and_the_audit_log_what_was_done() {
    use axum::body::Body;
    use axum::response::IntoResponse as _;
    let kit = kit();
    let whoami = |axum::Extension(principal): axum::Extension<Principal>| async move { principal.name };
    let change = async || axum::Extension(Concerns("me".to_owned())).into_response();
    let written = async || axum::Extension(Recorded).into_response();
    let routes = Routes::new().read("/api/v1/me", Role::Viewer, whoami);
    let routes = routes.record(http::Method::PUT, "/api/v1/me", Role::Operator, "change", change);
    let routes = routes.record(http::Method::PATCH, "/api/v1/me", Role::Operator, "patch", written);
    let routes = routes.record(http::Method::DELETE, "/api/v1/me", Role::Admin, "delete", whoami);
    let routes = routes.read("/api/v1/all", Role::Admin, whoami);
    let breaks = async || -> axum::response::Response { panic!("half way") };
    let routes = routes.record(http::Method::PUT, "/api/v1/all", Role::Operator, "replace", breaks);
    let mut guarded = Guarded::new(kit.guard.clone(), routes.into_router(kit.guard.audit.clone()));
    let mut ask = |method: &str, path: &str, token: Option<&str>| {
        let mut request = http::Request::builder().method(method).uri(path).header("host", "localhost:7070");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        // What a caller claims to be is nothing.
        let forged = Principal { name: "mallory".to_owned(), role: Role::Admin };
        guarded.call(request.extension(forged).body(Body::empty()).unwrap())
    };
    let mut statuses = Vec::new();
    let with = Some(kit.token.as_str());
    let (me, all) = ("/api/v1/me", "/api/v1/all");
    for (method, path, token) in [
        ("GET", me, None),
        ("GET", me, with),
        ("PUT", me, with),
        ("PATCH", me, with),
        ("DELETE", me, with),
        ("POST", me, with),
        ("GET", all, with),
        ("PUT", all, with),
        // Nobody is logged out, so nothing was done.
        ("POST", "/logout", None),
    ] {
        let response: http::Response<Body> = ask(method, path, token).await.unwrap();
        statuses.push(response.status().as_u16());
    }
    assert_eq!(statuses, [401, 200, 200, 200, 403, 405, 403, 500, 204]);
    let told = [
        "- get /api/v1/me refused: no_credential",
        "ada change me done",
        "ada delete /api/v1/me refused: role",
        // Who may not read leaves a trace, and so does what was begun and broke.
        "ada get /api/v1/all refused: role",
        "ada replace /api/v1/all refused: 500 Internal Server Error",
    ];
    assert_eq!(*kit.log.lock().unwrap(), told);
}

#[tokio::test]
async fn routes_are_listed_with_who_may_take_them() {
    use http_body::Body as _;
    let nothing = async || ();
    let routes =
        Routes::new().public("/live", nothing).record(http::Method::POST, "/a", Role::Operator, "add", nothing);
    let mut router = routes.listed_at("/routes", Role::Viewer).into_router(None);
    let asked = http::Request::get("/routes").extension(ada()).body(axum::body::Body::empty()).unwrap();
    let mut body = router.call(asked).await.unwrap().into_body();
    let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await.unwrap().unwrap();
    let list: serde_json::Value = serde_json::from_slice(frame.data_ref().unwrap()).unwrap();
    let listed = serde_json::json!([
        {"method": "GET", "path": "/live", "needs": null, "records": null},
        {"method": "POST", "path": "/a", "needs": "operator", "records": "add"},
        {"method": "GET", "path": "/routes", "needs": "viewer", "records": null},
    ]);
    assert_eq!(list["routes"], listed);
}

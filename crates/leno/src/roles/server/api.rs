//! The rest of the server's HTTP API: its life, its settings, its log level, backups, login links.
//!
//! | method and path | does | role |
//! | --- | --- | --- |
//! | `GET /live`, `/ready`, `/api/v1/health` | whether it is there | anyone |
//! | `GET /metrics` | Prometheus | viewer |
//! | `GET /api/v1/settings` | each setting with its source | admin |
//! | `GET`, `PUT /api/v1/log-level` | the log filter | admin |
//! | `GET /api/v1/backup` | a consistent copy of the state | admin |
//! | `POST /api/v1/login-link` | a link that opens the dashboard, once | viewer |
//! | `GET /api/v1/routes` | every route with the role that it needs | viewer |

use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Json};
use leno_model::identity::{Principal, Role};
use leno_runtime::guard::{Concerns, Guard, LOGIN_PATH, Refusal, Routes};
use serde_json::json;
use tokio::sync::Semaphore;

use super::Parts;

struct Api {
    parts: Arc<Parts>,
    links: Links,
}

/// The guard, which makes login links; set once the routes that it guards are known.
pub(super) type Links = Arc<OnceLock<Arc<Guard>>>;

type Shared = State<Arc<Api>>;

/// The routes, to be merged into the server's.
pub(super) fn routes(parts: Arc<Parts>, links: Links) -> Routes {
    use Role::{Admin, Viewer};
    Routes::new()
        .read("/", Viewer, async || Redirect::to("/dashboard/"))
        .public("/live", async || "alive\n")
        .public("/ready", async || "ready\n")
        .public("/api/v1/health", async || Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")})))
        .read("/metrics", Viewer, metrics)
        .read("/api/v1/settings", Admin, settings)
        .read("/api/v1/log-level", Admin, log_level)
        .record(Method::PUT, "/api/v1/log-level", Admin, "log-level", set_log_level)
        .record(Method::GET, "/api/v1/backup", Admin, "backup", backup)
        .record(Method::POST, "/api/v1/login-link", Viewer, "login-link", login_link)
        .with_state(Arc::new(Api { parts, links }))
}

async fn metrics(State(api): Shared) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, api.parts.metrics.render()).into_response()
}

async fn settings(State(api): Shared) -> Response {
    Json(json!({"settings": api.parts.settings})).into_response()
}

async fn log_level(State(api): Shared) -> Response {
    Json(json!({"filter": api.parts.log_level.get()})).into_response()
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    filter: String,
}

async fn set_log_level(State(api): Shared, Json(wanted): Json<Filter>) -> Response {
    let concerns = Extension(Concerns(wanted.filter.clone()));
    match api.parts.log_level.set(&wanted.filter) {
        Ok(()) => (concerns, Json(json!({"filter": api.parts.log_level.get()}))).into_response(),
        Err(error) => {
            let refusal = Refusal::new(400, "invalid", error.to_string(), "write `info` or `info,leno_xds=debug`");
            (concerns, refuse(&refusal)).into_response()
        }
    }
}

async fn backup(State(api): Shared) -> Response {
    let Some(store) = &api.parts.sqlite else {
        let fix = "start the server with --data-dir to have something to back up";
        return refuse(&Refusal::new(409, "in_memory", "this server keeps its state in memory", fix));
    };
    // What is registered but not written yet belongs into the copy.
    let saved = api.parts.registry.save().await.map_err(|error| error.to_string());
    let copied = match saved {
        Ok(()) => copy(store).await,
        Err(error) => Err(error),
    };
    match copied {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/vnd.sqlite3")], bytes).into_response(),
        Err(error) => {
            refuse(&Refusal::new(500, "backup", error, "look at the server's log and the free space of its disk"))
        }
    }
}

async fn copy(store: &leno_store::sqlite::SqliteStore) -> Result<Vec<u8>, String> {
    /// All copies have one name; the next waits for the one before.
    static COPYING: Semaphore = Semaphore::const_new(1);
    let _alone = COPYING.acquire().await.map_err(|error| error.to_string())?;
    let beside = store.path().with_extension("backup");
    // One that an interrupted backup left behind is nobody's.
    let _ = tokio::fs::remove_file(&beside).await;
    let copied = async {
        store.backup(&beside).await.map_err(|error| error.to_string())?;
        tokio::fs::read(&beside).await.map_err(|error| error.to_string())
    };
    let bytes = copied.await;
    let _ = tokio::fs::remove_file(&beside).await;
    bytes
}

async fn login_link(State(api): Shared, Extension(asker): Extension<Principal>, headers: HeaderMap) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:7070");
    let code = api.links.get().ok_or_else(|| "the server is starting".to_owned());
    match code.and_then(|guard| guard.login_code(asker).map_err(|error| error.to_string())) {
        Ok(code) => Json(json!({"url": format!("http://{host}{LOGIN_PATH}?code={code}")})).into_response(),
        Err(error) => refuse(&Refusal::new(503, "random", error, "try again")),
    }
}

fn refuse(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], refusal.json()).into_response()
}

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

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use leno_model::identity::{Principal, Role};
use leno_runtime::guard::{self, Guard, LOGIN_PATH, Refusal};
use serde_json::json;

use super::Parts;

struct Api {
    parts: Arc<Parts>,
    guard: Arc<Guard>,
}

type Shared = State<Arc<Api>>;
type Asker = Extension<Principal>;

/// The routes, to be merged into the server's.
pub(super) fn router(parts: Arc<Parts>, guard: Arc<Guard>) -> Router {
    Router::new()
        .route("/", get(async || Redirect::to("/dashboard/")))
        .route("/live", get(async || "alive\n"))
        .route("/ready", get(async || "ready\n"))
        .route("/api/v1/health", get(async || Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))))
        .route("/metrics", get(metrics))
        .route("/api/v1/settings", get(settings))
        .route("/api/v1/log-level", get(log_level).put(set_log_level))
        .route("/api/v1/backup", get(backup))
        .route("/api/v1/login-link", post(login_link))
        .with_state(Arc::new(Api { parts, guard }))
}

async fn metrics(State(api): Shared) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (content_type, api.parts.metrics.render()).into_response()
}

async fn settings(State(api): Shared, Extension(asker): Asker) -> Response {
    admin_only(&asker, || Json(json!({"settings": api.parts.settings})).into_response())
}

async fn log_level(State(api): Shared, Extension(asker): Asker) -> Response {
    admin_only(&asker, || Json(json!({"filter": api.parts.log_level.get()})).into_response())
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    filter: String,
}

async fn set_log_level(State(api): Shared, Extension(asker): Asker, Json(wanted): Json<Filter>) -> Response {
    admin_only(&asker, || match api.parts.log_level.set(&wanted.filter) {
        Ok(()) => Json(json!({"filter": api.parts.log_level.get()})).into_response(),
        Err(error) => refuse(&Refusal::new(400, "invalid", error.to_string(), "write `info` or `info,leno_xds=debug`")),
    })
}

async fn backup(State(api): Shared, Extension(asker): Asker) -> Response {
    if let Err(refusal) = guard::require(&asker, Role::Admin) {
        return refuse(&refusal);
    }
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

async fn login_link(State(api): Shared, Extension(asker): Asker, headers: HeaderMap) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:7070");
    match api.guard.login_code(asker) {
        Ok(code) => Json(json!({"url": format!("http://{host}{LOGIN_PATH}?code={code}")})).into_response(),
        Err(error) => refuse(&Refusal::new(503, "random", error.to_string(), "try again")),
    }
}

fn admin_only(asker: &Principal, answer: impl FnOnce() -> Response) -> Response {
    match guard::require(asker, Role::Admin) {
        Ok(()) => answer(),
        Err(refusal) => refuse(&refusal),
    }
}

fn refuse(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, "application/json")], refusal.json()).into_response()
}

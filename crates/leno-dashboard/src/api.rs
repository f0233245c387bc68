//! The routes: pages, the live stream, and what is asked for once.
//!
//! | path | what | parameters |
//! | --- | --- | --- |
//! | `GET /api/v1/live` | server-sent events: the mesh, once a second | `window` in seconds; `service`, with which an event `policies` follows each |
//! | `GET /api/v1/dashboard/services/{service}` | the curves of a service | `window` |
//! | `GET /api/v1/dashboard/services/{service}/policies` | how its policies stand, as in the event `policies` | |
//! | `GET /api/v1/dashboard/changes` | revisions, the newest first | `before`, `limit` |
//! | `GET /api/v1/dashboard/changes/{revision}` | one of them, with its difference | |
//!
//! All of it is reading, by a viewer whom the server's guard has authenticated (with its cookie for browsers). A
//! cross-site page cannot read any of it: no CORS field is ever sent.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::{self, HeaderValue};
use leno_model::identity::Role::Viewer;
use leno_model::name::ServiceName;
use leno_runtime::guard::Routes;
use serde::Deserialize;

use crate::asset;
use crate::live::{self, Shared};
use crate::view::{View, ViewError};

/// Changes in one answer.
const CHANGES_MAX: usize = 100;

/// The dashboard's routes: `/dashboard/…`, `/api/v1/live` and `/api/v1/dashboard/…`.
pub fn routes(view: Arc<dyn View>) -> Routes {
    Routes::new()
        .read("/dashboard", Viewer, asset::add_slash)
        .read("/dashboard/", Viewer, asset::index)
        .read("/dashboard/{*path}", Viewer, asset::file)
        .read("/api/v1/live", Viewer, live)
        .read("/api/v1/dashboard/services/{service}", Viewer, service)
        .read("/api/v1/dashboard/services/{service}/policies", Viewer, policies)
        .read("/api/v1/dashboard/changes", Viewer, changes)
        .read("/api/v1/dashboard/changes/{revision}", Viewer, change)
        .layered(|router| router.layer(middleware::from_fn(secured)))
        .with_state(Arc::new(Shared::new(view)))
}

#[derive(Deserialize)]
struct WindowQuery {
    window: Option<u64>,
}

#[derive(Deserialize)]
struct LiveQuery {
    window: Option<u64>,
    service: Option<String>,
}

#[derive(Deserialize)]
struct ChangesQuery {
    before: Option<u64>,
    limit: Option<usize>,
}

async fn secured(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    asset::secure(response.headers_mut());
    response
}

async fn live(State(shared): State<Arc<Shared>>, Query(query): Query<LiveQuery>) -> Response {
    let service = match query.service.map(|service| service.parse::<ServiceName>()).transpose() {
        Ok(service) => service,
        Err(_) => return no_service_name(),
    };
    let Some(seat) = shared.seat() else {
        return problem(StatusCode::SERVICE_UNAVAILABLE, format!("{} browsers watch already", live::WATCHERS_MAX));
    };
    let events = live::events(seat, live::window(query.window), service);
    let mut response = Response::new(Body::from_stream(events));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

async fn service(
    State(shared): State<Arc<Shared>>,
    Path(service): Path<String>,
    Query(query): Query<WindowQuery>,
) -> Response {
    let Ok(name) = service.parse::<ServiceName>() else { return no_service_name() };
    let window = live::window(query.window);
    // About sixty points, whatever the window.
    let step = (window / 60).max(5);
    Json(shared.view.series(&name, Duration::from_secs(window), Duration::from_secs(step))).into_response()
}

async fn policies(State(shared): State<Arc<Shared>>, Path(service): Path<String>) -> Response {
    match service.parse::<ServiceName>() {
        Ok(service) => Json(shared.view.policies(&service)).into_response(),
        Err(_) => no_service_name(),
    }
}

async fn changes(State(shared): State<Arc<Shared>>, Query(query): Query<ChangesQuery>) -> Response {
    let limit = query.limit.unwrap_or(50).clamp(1, CHANGES_MAX);
    match shared.view.changes(query.before, limit).await {
        Ok(rows) => Json(rows).into_response(),
        Err(error) => unavailable(error),
    }
}

async fn change(State(shared): State<Arc<Shared>>, Path(revision): Path<u64>) -> Response {
    match shared.view.change(revision).await {
        Ok(Some(change)) => Json(change).into_response(),
        Ok(None) => problem(StatusCode::NOT_FOUND, format!("there is no revision {revision}")),
        Err(error) => unavailable(error),
    }
}

fn no_service_name() -> Response {
    problem(StatusCode::BAD_REQUEST, "not a service name: write cart.shop".to_owned())
}

fn unavailable(error: ViewError) -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, error.message)
}

fn problem(status: StatusCode, message: String) -> Response {
    (status, Json(serde_json::json!({ "error": message }))).into_response()
}

#[cfg(test)]
mod tests;

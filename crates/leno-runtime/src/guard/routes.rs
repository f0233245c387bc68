//! The routes of an API, each with who may take it and how it stands in the audit log.
//!
//! A router by itself says neither, and a handler that forgets to ask is a hole that nobody sees. Here both are written
//! where the route is: what is not `public` is refused to whoever has not the role, and what `records` is in the audit
//! log before its answer goes out, refused or done. The list can be asked for, so that a test takes every route there is.

use std::panic::AssertUnwindSafe;

use axum::Extension;
use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use futures_util::FutureExt;
use http::{Method, StatusCode};
use leno_model::identity::{Principal, Role};
use serde_json::{Value, json};

use super::service::refuse;
use super::{AuditFuture, AuditHook, Audited, PeerAddress, Refusal, require};

/// The routes of an API, or of a part of one.
#[derive(Debug)]
pub struct Routes<S = ()> {
    router: Router<S>,
    list: Vec<Route>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// How it is asked; GET stands for HEAD too.
    pub method: Method,
    /// Where: `/api/v1/history/{revision}`.
    pub path: &'static str,
    /// Who may; none for everyone, without a credential.
    pub needs: Option<Role>,
    /// The word under which it stands in the audit log; none for what changes nothing.
    pub records: Option<&'static str>,
}

/// In the extensions of an answer: the audit log has it already, or it is none of its concern (a dry run).
#[derive(Debug, Clone, Copy)]
pub struct Recorded;

/// In the extensions of an answer: what it was about, for the audit log.
#[derive(Debug, Clone)]
pub struct Concerns(pub String);

// === impl Routes ===

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// None yet.
    pub fn new() -> Self {
        Self { router: Router::new(), list: Vec::new() }
    }

    /// Something that everyone may read, without a credential.
    pub fn public<H: Handler<T, S>, T: 'static>(self, path: &'static str, handler: H) -> Self {
        self.route(Route { method: Method::GET, path, needs: None, records: None }, handler)
    }

    /// Something to read.
    pub fn read<H: Handler<T, S>, T: 'static>(self, path: &'static str, needs: Role, handler: H) -> Self {
        self.ask(Method::GET, path, needs, handler)
    }

    /// Something that changes nothing, though it may have a body.
    pub fn ask<H: Handler<T, S>, T: 'static>(
        self,
        method: Method,
        path: &'static str,
        needs: Role,
        handler: H,
    ) -> Self {
        self.route(Route { method, path, needs: Some(needs), records: None }, handler)
    }

    /// Something that stands in the audit log under `word`, whether it is done or refused.
    pub fn record<H: Handler<T, S>, T: 'static>(
        self,
        method: Method,
        path: &'static str,
        needs: Role,
        word: &'static str,
        handler: H,
    ) -> Self {
        self.route(Route { method, path, needs: Some(needs), records: Some(word) }, handler)
    }

    /// With layers of axum around all so far.
    #[must_use]
    pub fn layered(self, layers: impl FnOnce(Router<S>) -> Router<S>) -> Self {
        Self { router: layers(self.router), list: self.list }
    }

    /// With what the handlers share.
    pub fn with_state(self, state: S) -> Routes {
        Routes { router: self.router.with_state(state), list: self.list }
    }

    fn route<H: Handler<T, S>, T: 'static>(mut self, route: Route, handler: H) -> Self {
        let filter = MethodFilter::try_from(route.method.clone()).expect("axum knows every method of an API");
        let path = route.path;
        let handler = on(filter, handler).route_layer(middleware::from_fn_with_state(route.clone(), take));
        self.list.push(route);
        Self { router: self.router.route(path, handler), list: self.list }
    }
}

impl Routes {
    /// These and others.
    #[must_use]
    pub fn and(mut self, others: Routes) -> Self {
        self.list.extend(others.list);
        Self { router: self.router.merge(others.router), list: self.list }
    }

    /// With the list of all of them, itself included, at `path`.
    #[must_use]
    pub fn listed_at(self, path: &'static str, needs: Role) -> Self {
        let own = Route { method: Method::GET, path, needs: Some(needs), records: None };
        let list: Vec<Value> = self.list.iter().chain([&own]).map(Route::json).collect();
        let body = json!({ "routes": list });
        self.route(own, async move || axum::Json(body))
    }

    /// All of them.
    pub fn list(&self) -> &[Route] {
        &self.list
    }

    /// The paths that need no credential, for the options of the guard.
    pub fn public_paths(&self) -> Vec<String> {
        self.list.iter().filter(|route| route.needs.is_none()).map(|route| route.path.to_owned()).collect()
    }

    /// The router, which tells `audit` of what the routes record.
    pub fn into_router(self, audit: Option<AuditHook>) -> Router {
        self.router.layer(Extension(Recorder(audit)))
    }
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Route ===

impl Route {
    fn json(&self) -> Value {
        json!({ "method": self.method.as_str(), "path": self.path, "needs": self.needs, "records": self.records })
    }
}

#[derive(Clone)]
struct Recorder(Option<AuditHook>);

/// Takes a route: refuses, or asks the handler, and records.
async fn take(State(route): State<Route>, request: Request, next: Next) -> Response {
    let principal = request.extensions().get::<Principal>().cloned();
    if let Some(refusal) = route.needs.and_then(|needed| refusal(principal.as_ref(), needed)) {
        let response: Response = refuse(&refusal);
        record(&route, &Asked::of(&request, principal), &response, Some(&refusal)).await;
        return response;
    }
    if route.records.is_none() {
        return next.run(request).await;
    }
    let asked = Asked::of(&request, principal);
    let done = async move {
        // What a handler that panics had done by then is done, and stands in the log.
        let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let response = answered.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response());
        record(&route, &asked, &response, None).await;
        response
    };
    // A caller who goes away stops nothing half way: what is done is recorded.
    #[allow(clippy::disallowed_methods, reason = "this future crosses threads where a test's runtime has several")]
    let done = tokio::spawn(done).await;
    done.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

fn refusal(principal: Option<&Principal>, needed: Role) -> Option<Refusal> {
    match principal {
        Some(principal) => require(principal, needed).err(),
        None => Some(Refusal::no_credential()),
    }
}

/// What is recorded of a request.
struct Asked {
    principal: Option<Principal>,
    peer: Option<PeerAddress>,
    path: String,
    recorder: Option<AuditHook>,
}

impl Asked {
    fn of(request: &Request, principal: Option<Principal>) -> Self {
        let extensions = request.extensions();
        Self {
            principal,
            peer: extensions.get().copied(),
            path: request.uri().path().to_owned(),
            recorder: extensions.get::<Recorder>().and_then(|recorder| recorder.0.clone()),
        }
    }
}

/// The writing of what came of a request; nothing to wait for where nothing is recorded.
fn record(route: &Route, asked: &Asked, response: &Response, refusal: Option<&Refusal>) -> AuditFuture {
    let extensions = response.extensions();
    let (Some(recorder), None) = (&asked.recorder, extensions.get::<Recorded>()) else {
        return Box::pin(std::future::ready(()));
    };
    // Who reads leaves no trace; who may not read does.
    let method = route.method.as_str().to_ascii_lowercase();
    let word = match (route.records, refusal) {
        (Some(word), _) => word,
        (None, Some(_)) => &method,
        (None, None) => return Box::pin(std::future::ready(())),
    };
    let object = extensions.get().map_or(asked.path.as_str(), |Concerns(what)| what);
    let mut audited = match refusal {
        Some(refusal) => Audited::refused(asked.principal.clone(), word, object, refusal),
        None => Audited::done(asked.principal.clone(), word, object),
    };
    if refusal.is_none() && !response.status().is_success() {
        audited.outcome = format!("refused: {}", response.status());
    }
    recorder(audited.from(asked.peer))
}

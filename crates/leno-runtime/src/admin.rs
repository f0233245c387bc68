//! The admin listener of a role: is it alive, is it ready, what does it measure, and what the role adds.
//!
//! ```text
//! GET /          what there is          GET /live     the control thread turns
//! GET /metrics   if the role measures   GET /ready    200, or 503 with the gates that are closed
//! ```
//!
//! A handful of small handlers in a table; a router would be more than there is to route. Behind a [`Guard`] like every
//! control API. Answers are made whole: nothing here streams.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use leno_http::{Body, BodyLength, Handler, Method, Reply, RequestHead, ResponseHead};
use leno_model::identity::Principal;
use tokio::net::TcpListener;

use crate::drain::DrainWatch;
use crate::guard::{Admitted, Asking, Audited, Guard, Refusal};
use crate::ready::Ready;
use crate::serve::Serve;

/// The largest body of a request.
pub const BODY_MAX: usize = 64 * 1024;
/// Connections at a time. They are of the descriptors that are kept back from all others, so that whoever looks after a
/// role reaches it while a cap strikes.
const CONNECTIONS_MAX: usize = 128;

/// Paths that need no credential, for the options of the guard.
pub const PUBLIC_PATHS: [&str; 3] = ["/live", "/ready", "/metrics"];

/// The admin listener.
pub struct Admin {
    routes: Vec<Route>,
    guard: Arc<Guard>,
}

/// A request to a handler.
#[derive(Debug, Clone)]
pub struct AdminRequest {
    /// Who asks; `None` on a public path.
    pub principal: Option<Principal>,
    /// The body, empty where there was none.
    pub body: Bytes,
    query: Option<String>,
}

/// What a handler answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

struct Route {
    method: Method,
    path: &'static str,
    what: &'static str,
    handle: Rc<dyn Fn(AdminRequest) -> Answering>,
}

type Answering = Pin<Box<dyn Future<Output = Answer>>>;

// === impl Admin ===

impl Admin {
    /// With `/live` and `/ready`.
    pub fn new(guard: Arc<Guard>, ready: Ready) -> Self {
        let admin = Admin { routes: Vec::new(), guard };
        admin.get("/live", "200 while the control thread turns", |_| async { Answer::text("alive\n") }).get(
            "/ready",
            "200 when ready, else 503 with what is missing",
            move |_| {
                let answer = readiness(&ready);
                async { answer }
            },
        )
    }

    /// Adds `/metrics` in Prometheus' text format.
    pub fn metrics(self, render: impl Fn() -> String + 'static) -> Self {
        self.get("/metrics", "measurements in Prometheus' text format", move |_| {
            let body = render();
            async { Answer { content_type: "text/plain; version=0.0.4; charset=utf-8", ..Answer::text(body) } }
        })
    }

    /// Adds something to read. `what` says in a few words what it is.
    pub fn get<F: Future<Output = Answer> + 'static>(
        self,
        path: &'static str,
        what: &'static str,
        handle: impl Fn(AdminRequest) -> F + 'static,
    ) -> Self {
        self.route(Method::Get, path, what, handle)
    }

    /// Adds something to set. PUT, because a web page cannot send one without asking: so the body may be of any type, as
    /// `curl -X PUT -d` sends it.
    pub fn put<F: Future<Output = Answer> + 'static>(
        self,
        path: &'static str,
        what: &'static str,
        handle: impl Fn(AdminRequest) -> F + 'static,
    ) -> Self {
        self.route(Method::Put, path, what, handle)
    }

    /// Serves it until the drain starts.
    pub async fn serve(self, listener: TcpListener, drain: DrainWatch) {
        let admin = Rc::new(self);
        let serve = Serve { connections_max: CONNECTIONS_MAX, ..Serve::named("admin-connection") };
        serve.run(listener, drain, |_| admin.clone()).await;
    }

    fn route<F: Future<Output = Answer> + 'static>(
        mut self,
        method: Method,
        path: &'static str,
        what: &'static str,
        handle: impl Fn(AdminRequest) -> F + 'static,
    ) -> Self {
        let handle = Rc::new(move |request| Box::pin(handle(request)) as Answering);
        self.routes.push(Route { method, path, what, handle });
        self
    }

    async fn answer(&self, head: &RequestHead, body: Body) -> (Answer, Vec<(&'static str, String)>) {
        let asking = Asking::of_head(head, body.length() != BodyLength::Empty);
        let (method, path) = (head.method.as_str(), head.path_only());
        let word = method.to_ascii_lowercase();
        let is_reading = matches!(method, "GET" | "HEAD");
        let (result, audited, fields) = match self.guard.admit(&asking) {
            Ok(Admitted::As(principal)) => {
                let audited = (!is_reading).then(|| Audited::done(Some(principal.clone()), word.clone(), path));
                (self.dispatch(head, body, Some(principal)).await, audited, vec![])
            }
            Ok(Admitted::Public) => (self.dispatch(head, body, None).await, None, vec![]),
            Ok(Admitted::LoggedIn { cookie, principal }) => {
                let fields = vec![("set-cookie", cookie), ("location", "/".to_owned())];
                let audited = Audited::done(Some(principal), "login", path);
                (Ok(Answer { status: 303, ..Answer::text("") }), Some(audited), fields)
            }
            Ok(Admitted::LoggedOut { cookie, principal }) => {
                let audited = Audited::done(principal, "logout", path);
                (Ok(Answer { status: 204, ..Answer::text("") }), Some(audited), vec![("set-cookie", cookie)])
            }
            Err(refusal) => (Err(refusal), None, vec![]),
        };
        let refused = |refusal: &Refusal| Audited::refused(None, word, path, refusal);
        if let Some(audited) = result.as_ref().err().map(refused).or(audited) {
            self.guard.audit(audited).await;
        }
        let answer = result.unwrap_or_else(|refusal| Answer::refusal(&self.with_command(refusal, head)));
        (answer, fields)
    }

    async fn dispatch(&self, head: &RequestHead, body: Body, principal: Option<Principal>) -> Result<Answer, Refusal> {
        let method = if head.method == Method::Head { &Method::Get } else { &head.method };
        let path = head.path_only();
        if path == "/" && *method == Method::Get {
            return Ok(Answer::text(self.contents()));
        }
        let mut known = self.routes.iter().filter(|route| route.path == path).peekable();
        if known.peek().is_none() {
            return Err(Refusal::new(
                404,
                "not_found",
                format!("there is nothing at {path}"),
                "GET / lists what there is",
            ));
        }
        let Some(route) = known.find(|route| route.method == *method) else {
            let message = format!("{path} does not take {}", head.method.as_str());
            return Err(Refusal::new(405, "method", message, "GET / lists what there is"));
        };
        let body = body.collect(BODY_MAX).await.map_err(|error| {
            let fix = format!("send at most {BODY_MAX} bytes");
            Refusal::new(413, "body", format!("the body could not be read: {error}"), fix)
        })?;
        Ok((route.handle)(AdminRequest { principal, body, query: head.query().map(str::to_owned) }).await)
    }

    /// What is refused for how it was sent comes with the command that works, where one does.
    fn with_command(&self, refusal: Refusal, head: &RequestHead) -> Refusal {
        let path = head.path_only();
        let is_set = self.routes.iter().any(|route| route.path == path && route.method == Method::Put);
        match head.authority.as_ref().filter(|_| is_set && matches!(refusal.code, "content_type" | "method")) {
            Some(host) => Refusal { fix: format!("curl -X PUT -d VALUE http://{host}{path}"), ..refusal },
            None => refusal,
        }
    }

    fn contents(&self) -> String {
        let line = |route: &Route| format!("{:<4} {:<16} {}\n", route.method.as_str(), route.path, route.what);
        self.routes.iter().map(line).collect()
    }
}

impl Handler for Admin {
    async fn handle(&self, head: RequestHead, body: Body, reply: Reply) {
        let (answer, fields) = self.answer(&head, body).await;
        let mut response = ResponseHead::new(answer.status).with("cache-control", "no-store");
        if answer.status != 204 {
            response = response.with("content-type", answer.content_type);
        }
        if answer.status == 401 {
            response = response.with("www-authenticate", "Bearer realm=\"leno\"");
        }
        for (name, value) in fields {
            response = response.with(name, value);
        }
        // An asker who went away is no news.
        let _ = reply.respond(response, answer.body).await;
    }
}

fn readiness(ready: &Ready) -> Answer {
    let missing: Vec<_> =
        ready.missing().into_iter().map(|m| serde_json::json!({"gate": m.gate, "why": m.why})).collect();
    let status = if missing.is_empty() { 200 } else { 503 };
    Answer { status, ..Answer::json(&serde_json::json!({ "ready": missing.is_empty(), "missing": missing })) }
}

// === impl AdminRequest ===

impl AdminRequest {
    /// A parameter of the query, decoded.
    pub fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut pairs = self.query.as_deref()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|(known, _)| *known == name).map(|(_, value)| decode(value))
    }
}

/// Undoes `%2F` and `+`; what is no such sequence stays.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match (byte, code.and_then(|code| u8::from_str_radix(code, 16).ok())) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            (byte, _) => {
                bytes.push(if *byte == b'+' { b' ' } else { *byte });
                rest = after;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

// === impl Answer ===

impl Answer {
    /// 200 and a text.
    pub fn text(body: impl Into<Bytes>) -> Self {
        Answer { status: 200, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// 200 and a JSON value.
    pub fn json(value: &serde_json::Value) -> Self {
        Answer { content_type: "application/json", ..Answer::text(format!("{value}\n")) }
    }

    /// A refusal as every control API words it.
    pub fn refusal(refusal: &Refusal) -> Self {
        Answer { status: refusal.status, content_type: "application/json", body: refusal.json().into() }
    }
}

#[cfg(test)]
#[path = "admin/tests.rs"]
mod tests;

//! The guard in front of a router: a service that admits, puts the [`Principal`](leno_model::identity::Principal) into
//! the request's extensions, and tells the audit log of what it answers itself.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body::Body;
use leno_model::identity::Principal;
use tower_service::Service;

use super::{Admitted, Asking, Audited, Guard, PeerAddress, Refusal};

/// A service behind a guard.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    guard: Arc<Guard>,
    inner: S,
}

/// What [`Guarded`] returns.
pub type GuardedFuture<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>>>>;

// === impl Guarded ===

impl<S> Guarded<S> {
    /// `inner`, reached only by what `guard` admits.
    pub fn new(guard: Arc<Guard>, inner: S) -> Self {
        Guarded { guard, inner }
    }
}

impl<S, Incoming, Outgoing> Service<Request<Incoming>> for Guarded<S>
where
    S: Service<Request<Incoming>, Response = Response<Outgoing>, Error = Infallible>,
    S::Future: 'static,
    Incoming: Body,
    Outgoing: From<Bytes> + 'static,
{
    type Response = Response<Outgoing>;
    type Error = Infallible;
    type Future = GuardedFuture<Outgoing>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        // Nobody but the guard says who asks.
        parts.extensions.remove::<Principal>();
        let admitted = self.guard.admit(&Asking::of_parts(&parts, !body.is_end_stream()));
        let (path, peer) = (parts.uri.path().to_owned(), parts.extensions.get::<PeerAddress>().copied());
        let (status, cookie, audited) = match admitted {
            Ok(Admitted::As(principal)) => {
                parts.extensions.insert(principal);
                return Box::pin(self.inner.call(Request::from_parts(parts, body)));
            }
            Ok(Admitted::Public) => return Box::pin(self.inner.call(Request::from_parts(parts, body))),
            Ok(Admitted::LoggedIn { cookie, principal }) => {
                (303, cookie, Audited::done(Some(principal), "login", &path))
            }
            Ok(Admitted::LoggedOut { cookie, principal: None }) => {
                // Nobody had a session: nothing was done, and whoever asks again and again pushes nothing out of the log.
                let response = Response::builder().status(204).header(header::SET_COOKIE, cookie);
                return Box::pin(std::future::ready(Ok(finish(response, Bytes::new()))));
            }
            Ok(Admitted::LoggedOut { cookie, principal }) => (204, cookie, Audited::done(principal, "logout", &path)),
            Err(refusal) => {
                let action = parts.method.as_str().to_ascii_lowercase();
                let audited = Audited::refused(None, action, &path, &refusal).from(peer);
                return self.answer(audited, refuse(&refusal));
            }
        };
        let mut response = Response::builder().status(status).header(header::SET_COOKIE, cookie);
        if status == 303 {
            response = response.header(header::LOCATION, "/");
        }
        self.answer(audited.from(peer), finish(response, Bytes::new()))
    }
}

impl<S> Guarded<S> {
    /// Answers when the audit log has it.
    fn answer<B: 'static>(&self, audited: Audited, response: Response<B>) -> GuardedFuture<B> {
        let guard = self.guard.clone();
        Box::pin(async move {
            guard.audit(audited).await;
            Ok(response)
        })
    }
}

pub(super) fn refuse<B: From<Bytes>>(refusal: &Refusal) -> Response<B> {
    let mut response = Response::builder().status(refusal.status).header(header::CONTENT_TYPE, "application/json");
    if refusal.status == 401 {
        response = response.header(header::WWW_AUTHENTICATE, "Bearer realm=\"leno\"");
    }
    finish(response, Bytes::from(refusal.json()))
}

fn finish<B: From<Bytes>>(response: http::response::Builder, body: Bytes) -> Response<B> {
    let response = response.header(header::CACHE_CONTROL, "no-store").body(B::from(body));
    response.expect("the names are constants and the values are ASCII of our own")
}

//! The guard in front of a router: a service that admits, puts the [`Principal`](leno_model::identity::Principal) into
//! the request's extensions, and tells the audit log.

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

use super::{Admitted, Asking, Audited, Guard, Refusal};

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
        let (guard, method, path) = (self.guard.clone(), parts.method.clone(), parts.uri.path().to_owned());
        let tell = move |principal: Option<&Principal>, status, refused| {
            guard.audit(&Audited { principal, method: method.as_str(), path: &path, status, refused });
        };
        let principal = match admitted {
            Ok(Admitted::As(principal)) => Some(principal),
            Ok(Admitted::Public) => None,
            Ok(Admitted::LoggedIn(cookie)) => {
                tell(None, 303, None);
                return answer(
                    Response::builder().status(303).header(header::LOCATION, "/"),
                    Some(cookie),
                    Bytes::new(),
                );
            }
            Ok(Admitted::LoggedOut(cookie)) => {
                tell(None, 204, None);
                return answer(Response::builder().status(204), Some(cookie), Bytes::new());
            }
            Err(refusal) => {
                tell(None, refusal.status, Some(refusal.code));
                return refuse(&refusal);
            }
        };
        if let Some(principal) = &principal {
            parts.extensions.insert(principal.clone());
        }
        let calling = self.inner.call(Request::from_parts(parts, body));
        Box::pin(async move {
            let response = calling.await?;
            tell(principal.as_ref(), response.status().as_u16(), None);
            Ok(response)
        })
    }
}

fn refuse<B: From<Bytes> + 'static>(refusal: &Refusal) -> GuardedFuture<B> {
    let mut response = Response::builder().status(refusal.status).header(header::CONTENT_TYPE, "application/json");
    if refusal.status == 401 {
        response = response.header(header::WWW_AUTHENTICATE, "Bearer realm=\"leno\"");
    }
    answer(response, None, Bytes::from(refusal.json()))
}

fn answer<B: From<Bytes> + 'static>(
    mut response: http::response::Builder,
    cookie: Option<String>,
    body: Bytes,
) -> GuardedFuture<B> {
    response = response.header(header::CACHE_CONTROL, "no-store");
    if let Some(cookie) = cookie {
        response = response.header(header::SET_COOKIE, cookie);
    }
    let response = response.body(B::from(body)).expect("the names are constants and the values are ASCII of our own");
    Box::pin(std::future::ready(Ok(response)))
}

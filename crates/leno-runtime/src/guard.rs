//! The guard of every control API: who asks, and whether a web page is behind it.
//!
//! ```text
//! request ─► host (allow-list) ─► cross-site? ─► kind of body ─► public path? ─► credential ─► route's role ─► handler
//!                  403                 403            415            (go on)          401           403        audit
//! ```
//!
//! Closed by default, on loopback too: a web page that a browser on this machine shows can reach loopback ports. Three
//! walls stand against it, and each alone suffices: the Host allow-list (DNS rebinding arrives under the page's name),
//! `Origin` and `Sec-Fetch-Site` (the browser says who asks), and requests that a page cannot send without a preflight,
//! which is never granted: another method than GET, HEAD and POST, or a body of a type that no form has. A caller has a
//! bearer token; a browser has a session, got with a link that works once. There is no default secret and no CORS.
//!
//! [`Routes`] is the one place where an API's routes stand, each with the role that it needs and the word under which it
//! is in the audit log.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use leno_model::identity::{Principal, Role};
use leno_model::seam::Clock;

mod asking;
mod host;
mod login;
mod refusal;
mod routes;
mod service;
mod token;

pub use asking::Asking;
pub use host::Hosts;
pub use login::{LOGIN_CODE_LIFE, SESSION_LIFE};
pub use refusal::Refusal;
pub use routes::{Concerns, Recorded, Route, Routes};
pub use service::{Guarded, GuardedFuture};
pub use token::{ADMIN_TOKEN_FILE, TokenError, TokenSet, admin_token, make_token, read_admin_token};

use login::Logins;

/// Where a browser exchanges the code of a login link for a session: `GET /login?code=…`.
pub const LOGIN_PATH: &str = "/login";

/// Where a browser ends its session.
pub const LOGOUT_PATH: &str = "/logout";

/// What a guard is made of.
pub struct GuardOptions {
    /// Who has a credential; `None` lets everyone in who gets past the walls against web pages, as a viewer (the admin
    /// listener of a proxy).
    pub tokens: Option<TokenSet>,
    /// The names under which this listener may be addressed.
    pub hosts: Hosts,
    /// Paths that need no credential; one that ends with `/` (and is longer) stands for all below it.
    pub public: Vec<String>,
    /// Told of every refusal, of logging in and out, and of what the routes record.
    pub audit: Option<AuditHook>,
    /// For how long codes and sessions live.
    pub clock: Arc<dyn Clock>,
}

/// Writes an event into the audit log; the answer waits for it.
pub type AuditHook = Arc<dyn Fn(Audited) -> AuditFuture + Send + Sync>;

/// What an [`AuditHook`] returns.
pub type AuditFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a request came from, as whoever accepted its connection says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub IpAddr);

/// Guards an API. Shared by its connections and by the handlers that make login links and tokens.
pub struct Guard {
    tokens: Option<Mutex<TokenSet>>,
    logins: Mutex<Logins>,
    hosts: Hosts,
    public: Vec<String>,
    audit: Option<AuditHook>,
    clock: Arc<dyn Clock>,
}

/// What becomes of a request that was not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// It goes on, as this caller's.
    As(Principal),
    /// It goes on to what everyone may see.
    Public,
    /// A browser has exchanged its code, and `/` is next.
    LoggedIn {
        /// The value for `Set-Cookie`.
        cookie: String,
        /// Whose session it is.
        principal: Principal,
    },
    /// A browser has ended its session.
    LoggedOut {
        /// The value for `Set-Cookie`.
        cookie: String,
        /// Whose session it was; none where there was none.
        principal: Option<Principal>,
    },
}

/// A request as the audit log sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// Who asked, where that is known.
    pub principal: Option<Principal>,
    /// From where, where that is known.
    pub from: Option<IpAddr>,
    /// What was to be done: the word of the route, or the method.
    pub action: String,
    /// On what: what the handler says, or the path without the query.
    pub object: String,
    /// `done`, or `refused: ` and a code or status.
    pub outcome: String,
}

// === impl Guard ===

impl Guard {
    /// Guards with `options`.
    pub fn new(options: GuardOptions) -> Self {
        Guard {
            tokens: options.tokens.map(Mutex::new),
            logins: Mutex::default(),
            hosts: options.hosts,
            public: options.public,
            audit: options.audit,
            clock: options.clock,
        }
    }

    /// Lets a request in, or says why not.
    pub fn admit(&self, asking: &Asking<'_>) -> Result<Admitted, Refusal> {
        self.hosts.check(asking.host)?;
        let public = self.is_public(asking.path);
        asking.refuse_cross_site(public)?;
        asking.refuse_other_bodies()?;
        match (asking.method, asking.path) {
            ("GET", LOGIN_PATH) => return self.log_in(asking),
            ("POST", LOGOUT_PATH) => return Ok(self.log_out(asking)),
            _ if public => return Ok(Admitted::Public),
            _ => {}
        }
        self.authenticate(asking).map(Admitted::As)
    }

    /// Makes the code of a login link for `principal`: it works once, within [`LOGIN_CODE_LIFE`].
    pub fn login_code(&self, principal: Principal) -> std::io::Result<String> {
        lock(&self.logins).make_code(principal, self.clock.monotonic())
    }

    /// Changes the tokens; returns what `change` returns. Sessions of whoever lost their token end.
    pub fn change_tokens<T>(&self, change: impl FnOnce(&mut TokenSet) -> T) -> Option<T> {
        let mut tokens = lock(self.tokens.as_ref()?);
        let result = change(&mut tokens);
        lock(&self.logins).retain(|principal| tokens.principals().any(|known| known == principal));
        Some(result)
    }

    /// Tells the audit log; returns when it has written.
    pub async fn audit(&self, audited: Audited) {
        if let Some(audit) = &self.audit {
            audit(audited).await;
        }
    }

    fn authenticate(&self, asking: &Asking<'_>) -> Result<Principal, Refusal> {
        let Some(tokens) = &self.tokens else {
            return Ok(Principal { name: "anyone".to_owned(), role: Role::Viewer });
        };
        if let Some(authorization) = asking.authorization {
            let token = bearer(authorization).ok_or_else(Refusal::no_bearer)?;
            return lock(tokens).find(token).cloned().ok_or_else(Refusal::unknown_token);
        }
        let session = asking.cookie_value(&asking.session_cookie()).ok_or_else(Refusal::no_credential)?;
        lock(&self.logins).find_session(session, self.clock.monotonic()).ok_or_else(Refusal::session_over)
    }

    fn log_in(&self, asking: &Asking<'_>) -> Result<Admitted, Refusal> {
        let code = asking.query.and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("code=")));
        let redeemed = lock(&self.logins).redeem(code.unwrap_or_default(), self.clock.monotonic());
        let (session, principal) = redeemed.ok_or_else(Refusal::code_used)?;
        let (name, seconds) = (asking.session_cookie(), SESSION_LIFE.as_secs());
        let cookie = format!("{name}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}");
        Ok(Admitted::LoggedIn { cookie, principal })
    }

    fn log_out(&self, asking: &Asking<'_>) -> Admitted {
        let name = asking.session_cookie();
        let mut logins = lock(&self.logins);
        let principal = asking.cookie_value(&name).and_then(|session| {
            let owner = logins.find_session(session, self.clock.monotonic());
            logins.end_session(session);
            owner
        });
        Admitted::LoggedOut { cookie: format!("{name}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"), principal }
    }

    /// A path that a router might read differently is never public.
    fn is_public(&self, path: &str) -> bool {
        let is_plain = !path.contains("//") && !path.contains("/.") && !path.contains(['%', '\\']);
        is_plain
            && self.public.iter().any(|public| match public.ends_with('/') && public.len() > 1 {
                true => path.starts_with(public.as_str()),
                false => path == public,
            })
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("hosts", &self.hosts).field("public", &self.public).finish_non_exhaustive()
    }
}

// === impl Audited ===

impl Audited {
    /// An event that a refusal ended.
    pub fn refused(principal: Option<Principal>, action: impl Into<String>, object: &str, refusal: &Refusal) -> Self {
        let outcome = format!("refused: {}", refusal.code);
        Audited { principal, from: None, action: action.into(), object: object.to_owned(), outcome }
    }

    /// An event that came to what it should.
    pub fn done(principal: Option<Principal>, action: impl Into<String>, object: &str) -> Self {
        let outcome = "done".to_owned();
        Audited { principal, from: None, action: action.into(), object: object.to_owned(), outcome }
    }

    /// The same, from there.
    pub fn from(self, peer: Option<PeerAddress>) -> Self {
        Audited { from: peer.map(|peer| peer.0), ..self }
    }
}

/// Refuses a principal whose role does not reach `needed`.
pub fn require(principal: &Principal, needed: Role) -> Result<(), Refusal> {
    if principal.role >= needed { Ok(()) } else { Err(Refusal::role(principal, needed)) }
}

/// The tokens of a server: those of the file, and the admin's, which is made on the first start.
pub fn server_tokens(data_dir: &Path) -> Result<TokenSet, TokenError> {
    let mut tokens = TokenSet::load(data_dir)?;
    tokens.insert_admin(&admin_token(&data_dir.join(ADMIN_TOKEN_FILE))?);
    Ok(tokens)
}

/// `Bearer TOKEN`, the scheme in whatever case.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// Nothing that is done under these locks can panic half way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "guard/tests.rs"]
mod tests;

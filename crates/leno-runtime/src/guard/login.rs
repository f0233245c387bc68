//! Logging a browser in: a code that works once and soon, exchanged for a session. Both are kept as hashes, in memory,
//! and a restart ends them.

use std::io;
use std::time::Duration;

use leno_model::identity::Principal;
use subtle::ConstantTimeEq;

use super::token::{hash, make_secret};

/// How long the code of a login link works.
pub const LOGIN_CODE_LIFE: Duration = Duration::from_secs(5 * 60);

/// How long a session lasts.
pub const SESSION_LIFE: Duration = Duration::from_secs(12 * 3600);

/// Codes and sessions at a time; the oldest make room.
const CODES_MAX: usize = 64;
const SESSIONS_MAX: usize = 1024;

/// The codes and sessions of one listener.
#[derive(Debug, Default)]
pub(super) struct Logins {
    codes: Vec<Secret>,
    sessions: Vec<Secret>,
}

#[derive(Debug)]
struct Secret {
    hash: [u8; 32],
    principal: Principal,
    ends: Duration,
}

// === impl Logins ===

impl Logins {
    pub(super) fn make_code(&mut self, principal: Principal, now: Duration) -> io::Result<String> {
        let code = make_secret()?;
        insert(&mut self.codes, CODES_MAX, Secret { hash: hash(&code), principal, ends: now + LOGIN_CODE_LIFE });
        Ok(code)
    }

    /// Exchanges a code for a session. Whatever comes of it, the code is spent.
    pub(super) fn redeem(&mut self, code: &str, now: Duration) -> Option<(String, Principal)> {
        let code = self.codes.swap_remove(position(&self.codes, code)?);
        let session = make_secret().ok()?;
        if code.ends <= now {
            return None;
        }
        let principal = code.principal;
        let secret = Secret { hash: hash(&session), principal: principal.clone(), ends: now + SESSION_LIFE };
        insert(&mut self.sessions, SESSIONS_MAX, secret);
        Some((session, principal))
    }

    pub(super) fn find_session(&mut self, session: &str, now: Duration) -> Option<Principal> {
        self.sessions.retain(|session| session.ends > now);
        position(&self.sessions, session).map(|at| self.sessions[at].principal.clone())
    }

    pub(super) fn end_session(&mut self, session: &str) {
        if let Some(at) = position(&self.sessions, session) {
            self.sessions.swap_remove(at);
        }
    }

    /// Ends what belongs to others than those whom `keep` keeps.
    pub(super) fn retain(&mut self, keep: impl Fn(&Principal) -> bool) {
        self.codes.retain(|code| keep(&code.principal));
        self.sessions.retain(|session| keep(&session.principal));
    }
}

fn insert(secrets: &mut Vec<Secret>, max: usize, secret: Secret) {
    if secrets.len() >= max
        && let Some(oldest) = (0..secrets.len()).min_by_key(|at| secrets[*at].ends)
    {
        secrets.swap_remove(oldest);
    }
    secrets.push(secret);
}

fn position(secrets: &[Secret], asked: &str) -> Option<usize> {
    let asked = hash(asked);
    let mut found = None;
    for (at, secret) in secrets.iter().enumerate() {
        if bool::from(secret.hash.ct_eq(&asked)) {
            found = Some(at);
        }
    }
    found
}

//! Why a request was refused, as its caller reads it: `{"error":{"code","message","fix"}}`.

use leno_model::identity::{Principal, Role};

/// An answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// For programs: never changes.
    pub code: &'static str,
    /// For people: what is wrong.
    pub message: String,
    /// For people: what to do.
    pub fix: String,
}

// === impl Refusal ===

impl Refusal {
    /// A refusal.
    pub fn new(status: u16, code: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Refusal { status, code, message: message.into(), fix: fix.into() }
    }

    /// The body.
    pub fn json(&self) -> String {
        serde_json::json!({ "error": { "code": self.code, "message": self.message, "fix": self.fix } }).to_string()
    }

    pub(super) fn host(host: &str, known: &[String], flag: Option<&str>) -> Self {
        let message = format!("host {host:?} is not one of this listener's names");
        let more = flag.map_or_else(String::new, |flag| format!(", or start it with {flag} NAME"));
        let fix = format!("address it as {}{more}", known.join(", "));
        Refusal::new(403, "host_not_allowed", message, fix)
    }

    pub(super) fn cross_site(said: &str) -> Self {
        let message = format!("a page of another site asked ({said})");
        Refusal::new(403, "cross_site", message, "open the dashboard itself, or use a client that is no web page")
    }

    pub(super) fn content_type(found: Option<&str>) -> Self {
        let message = match found {
            Some(found) => format!("a body of type {found:?} is not taken"),
            None => "the body has no content type".to_owned(),
        };
        Refusal::new(
            415,
            "content_type",
            message,
            "send content-type: application/json (or text/yaml to apply); with PUT, where that is taken, any type does",
        )
    }

    pub(super) fn no_credential() -> Self {
        Self::unauthorized("no_credential", "this needs a credential")
    }

    pub(super) fn no_bearer() -> Self {
        Self::unauthorized("not_bearer", "the authorization field holds no bearer token")
    }

    pub(super) fn unknown_token() -> Self {
        Self::unauthorized("unknown_token", "the token is not known here")
    }

    pub(super) fn session_over() -> Self {
        let fix = "get a new login link from the command line; each works once";
        Refusal::new(401, "session_over", "the session is over, or the server was restarted", fix)
    }

    pub(super) fn code_used() -> Self {
        let fix = "get a new login link from the command line; each works once";
        Refusal::new(401, "login_code", "the login link was used already, or is older than five minutes", fix)
    }

    pub(super) fn role(principal: &Principal, needed: Role) -> Self {
        let message = format!("{} is {}, and this needs {needed}", principal.name, principal.role);
        Refusal::new(403, "role", message, format!("ask for a token with the role {needed}"))
    }

    fn unauthorized(code: &'static str, message: &str) -> Self {
        let fix = "send authorization: Bearer TOKEN; the server's own is in admin.token in its data directory";
        Refusal::new(401, code, message, fix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays_a_string_in_the_body() {
        let refusal = Refusal::host("\"},<script>", &["localhost".to_owned()], None);
        let body: serde_json::Value = serde_json::from_str(&refusal.json()).unwrap();
        assert_eq!(body["error"]["code"], "host_not_allowed");
        assert!(body["error"]["fix"].as_str().unwrap().contains("localhost"));
    }
}

//! `envoy.extensions.filters.http.stateful_session.v3` and the places where sessions are named.

use super::core::TypedExtensionConfig;
use super::wkt::Duration;

/// Sessions.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatefulSession {
    #[prost(message, optional, tag = "1")]
    pub session_state: Option<TypedExtensionConfig>,
    #[prost(bool, tag = "2")]
    pub strict: bool,
}

/// Sessions of a route.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatefulSessionPerRoute {
    #[prost(oneof = "SessionOverride", tags = "1, 2")]
    pub r#override: Option<SessionOverride>,
}

/// What a route says of sessions.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum SessionOverride {
    #[prost(bool, tag = "1")]
    Disabled(bool),
    #[prost(message, tag = "2")]
    StatefulSession(StatefulSession),
}

/// `envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CookieBasedSessionState {
    #[prost(message, optional, tag = "1")]
    pub cookie: Option<SessionCookie>,
}

/// `envoy.type.http.v3.Cookie`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionCookie {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub ttl: Option<Duration>,
    #[prost(string, tag = "3")]
    pub path: String,
}

/// `envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeaderBasedSessionState {
    #[prost(string, tag = "1")]
    pub name: String,
}

//! State-of-the-world ADS, the server's side: each request lists all names, and answers about listeners and clusters
//! list all resources, so that what is not listed is gone. gRPC libraries speak it, and Envoys that are told to.
//!
//! The version is that of the whole set and made of its content: a client that reconnects with the version of what it
//! would be sent is sent nothing. A request with an old nonce says nothing about names (its sender has not seen the
//! newest message, and will say more); its answer to the old message counts.

use std::collections::BTreeSet;

use crate::kind::Kind;
use crate::messages::discovery::{DiscoveryRequest, DiscoveryResponse};
use crate::messages::wkt::Any;
use crate::node::NodeInfo;
use crate::provide::Provide;
use crate::session::{Bounds, Now, Protocol, Push, Session};

/// The name that means all names.
const ALL: &str = "*";

/// A stream of state-of-the-world ADS, without the stream.
pub struct SotwSession {
    session: Session,
    /// Kinds of which the client has once named resources: from then on, no names mean none.
    has_named: [bool; 4],
}

// === impl SotwSession ===

impl SotwSession {
    /// A stream that has just been opened by `node`.
    pub fn new(node: NodeInfo, bounds: Bounds) -> Self {
        Self { session: Session::new(node, bounds, true), has_named: [false; 4] }
    }

    /// Takes a request, or only the time and the provider's changes, and gives what is to be sent.
    pub fn step(
        &mut self,
        now: Now,
        request: Option<DiscoveryRequest>,
        provide: &dyn Provide,
    ) -> Vec<DiscoveryResponse> {
        if let Some(request) = request {
            self.read(now, request, provide);
        }
        self.session.look(provide);
        self.session.flush(now, provide).into_iter().map(response).collect()
    }

    /// When to call `step` without a request and without a change.
    pub fn wake_at(&self) -> Option<std::time::Duration> {
        self.session.wake_at()
    }

    fn read(&mut self, now: Now, request: DiscoveryRequest, provide: &dyn Provide) {
        // Other kinds, such as secrets, are not served: leno's resources refer to none.
        let Some(kind) = Kind::from_type_url(&request.type_url) else { return };
        let first = self.session.open(kind, now, provide);
        if !first && !request.response_nonce.is_empty() {
            let error = request.error_detail.as_ref();
            if !self.session.answered(kind, &request.response_nonce, error, now) {
                return;
            }
        }
        self.take_names(kind, &request.resource_names, first, now, provide);
        if first && !request.version_info.is_empty() {
            self.session.has_set(kind, &request.version_info, provide);
        }
    }

    fn take_names(&mut self, kind: Kind, names: &[String], first: bool, now: Now, provide: &dyn Provide) {
        let session = &mut self.session;
        let has_named = &mut self.has_named[kind.index()];
        *has_named |= !names.is_empty();
        let all = kind.has_wildcard() && (names.iter().any(|name| name == ALL) || !*has_named);
        if all && !session.takes_all(kind) {
            session.subscribe_all(kind, provide);
        } else if !all && session.takes_all(kind) {
            session.unsubscribe_all(kind);
        }
        let names: BTreeSet<&str> = names.iter().map(String::as_str).filter(|name| *name != ALL).collect();
        let gone: Vec<_> = session.names(kind).iter().filter(|name| !names.contains(&***name)).cloned().collect();
        gone.iter().for_each(|name| session.unsubscribe(kind, name));
        if kind == Kind::Listener {
            session.keep_delayed(|name| names.contains(name));
        }
        for name in names {
            if !session.names(kind).contains(name) {
                session.subscribe(kind, name, now, !first);
            }
        }
    }
}

impl Protocol for SotwSession {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn step(&mut self, now: Now, request: Option<Self::Request>, provide: &dyn Provide) -> Vec<Self::Response> {
        Self::step(self, now, request, provide)
    }

    fn session(&self) -> &Session {
        &self.session
    }
}

fn response(push: Push) -> DiscoveryResponse {
    let type_url = push.kind.type_url();
    let resources = push.resources.into_iter();
    DiscoveryResponse {
        version_info: push.set.to_string(),
        resources: resources.map(|r| Any { type_url: type_url.to_owned(), value: r.body }).collect(),
        type_url: type_url.to_owned(),
        nonce: push.nonce.to_string(),
        control_plane: None,
    }
}

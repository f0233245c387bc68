//! Delta ADS, the server's side: names come and go one by one, and only what changed is sent.
//!
//! What is asked for and does not exist is answered as removed, so that nobody waits for it. A name that is asked for
//! again is sent again, as the protocol demands of a server that thinks the client has it. A refused version is not
//! sent again; the next content is.

use crate::kind::Kind;
use crate::messages::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource as Sent};
use crate::messages::wkt::Any;
use crate::node::NodeInfo;
use crate::provide::Provide;
use crate::session::{Bounds, Now, Protocol, Push, Session};

/// The name that means all names.
const ALL: &str = "*";

/// A stream of delta ADS, without the stream.
pub struct DeltaSession {
    session: Session,
}

// === impl DeltaSession ===

impl DeltaSession {
    /// A stream that has just been opened by `node`.
    pub fn new(node: NodeInfo, bounds: Bounds) -> Self {
        Self { session: Session::new(node, bounds, false) }
    }

    /// Takes a request, or only the time and the provider's changes, and gives what is to be sent.
    pub fn step(
        &mut self,
        now: Now,
        request: Option<DeltaDiscoveryRequest>,
        provide: &dyn Provide,
    ) -> Vec<DeltaDiscoveryResponse> {
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

    fn read(&mut self, now: Now, request: DeltaDiscoveryRequest, provide: &dyn Provide) {
        // Other kinds, such as secrets, are not served: leno's resources refer to none.
        let Some(kind) = Kind::from_type_url(&request.type_url) else { return };
        let session = &mut self.session;
        let first = session.open(kind, now, provide);
        if !request.response_nonce.is_empty() {
            session.answered(kind, &request.response_nonce, request.error_detail.as_ref(), now);
        }
        if first {
            for (name, version) in &request.initial_resource_versions {
                session.has(kind, name, version);
            }
        }
        for name in &request.resource_names_unsubscribe {
            if name == ALL {
                session.unsubscribe_all(kind);
            } else {
                session.unsubscribe(kind, name);
            }
        }
        // A first request that names nothing means all: the way before there was a `*`.
        if first && kind.has_wildcard() && request.resource_names_subscribe.is_empty() {
            session.subscribe_all(kind, provide);
        }
        for name in &request.resource_names_subscribe {
            if name == ALL && kind.has_wildcard() {
                session.subscribe_all(kind, provide);
            } else {
                session.subscribe(kind, name, now, !first);
            }
        }
        if first {
            session.drop_unwanted(kind);
        }
    }
}

impl Protocol for DeltaSession {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn step(&mut self, now: Now, request: Option<Self::Request>, provide: &dyn Provide) -> Vec<Self::Response> {
        Self::step(self, now, request, provide)
    }

    fn session(&self) -> &Session {
        &self.session
    }
}

fn response(push: Push) -> DeltaDiscoveryResponse {
    let resources = push.resources.into_iter().map(|resource| Sent {
        name: resource.name.to_string(),
        version: resource.version.to_string(),
        resource: Some(Any { type_url: push.kind.type_url().to_owned(), value: resource.body }),
    });
    DeltaDiscoveryResponse {
        system_version_info: push.revision.to_string(),
        resources: resources.collect(),
        type_url: push.kind.type_url().to_owned(),
        nonce: push.nonce.to_string(),
        removed_resources: push.removed.iter().map(|name| name.to_string()).collect(),
        control_plane: None,
    }
}

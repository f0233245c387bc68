//! The client without its connection: what is wanted, what is held, and what is to be said next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use leno_model::snapshot::Name;

use super::{Received, Refusal};
use crate::kind::Kind;
use crate::messages::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use crate::messages::wkt::Status;
use crate::node::NodeInfo;
use crate::translate::{self, TranslateError, cluster, endpoints, listener, route};
use crate::version::Version;
use leno_model::snapshot::{Cluster, Endpoints, Listener, RouteConfig};

/// `google.rpc.Code.INVALID_ARGUMENT`, the code of a refusal.
const INVALID_ARGUMENT: i32 = 3;
/// Bytes of words in a refusal; a server keeps no more.
const WORDS_MAX: usize = 2048;

/// The name that stands for everything of a kind.
const ALL: &str = "*";

/// What a message brought.
#[derive(Debug, Default)]
pub(super) struct Brought {
    pub(super) listeners: Vec<Received<Listener>>,
    pub(super) routes: Vec<Received<RouteConfig>>,
    pub(super) clusters: Vec<Received<Cluster>>,
    pub(super) endpoints: Vec<Received<Endpoints>>,
    pub(super) removed: Vec<(Kind, Name)>,
    /// To be given to [`Core::answer`].
    pub(super) receipt: Receipt,
}

/// What an answer will be about.
#[derive(Debug, Default)]
pub(super) struct Receipt {
    /// Which stream the message came on.
    stream: u64,
    kind: Option<Kind>,
    nonce: String,
    versions: Vec<(Name, Version)>,
    /// What did not decode.
    refusals: Vec<Refusal>,
}

/// The client's state.
pub(super) struct Core {
    node: NodeInfo,
    /// Counts streams, so that an answer to a message of an old one is not sent on a new one.
    stream: u64,
    has_introduced_itself: bool,
    kinds: [Kept; 4],
}

#[derive(Default)]
struct Kept {
    /// What this stream is subscribed to.
    asked: BTreeSet<Name>,
    /// Whether this stream has said anything of this kind.
    opened: bool,
    /// The versions in use.
    held: BTreeMap<Name, Version>,
}

// === impl Core ===

impl Core {
    pub(super) fn new(node: NodeInfo, held: Vec<(Kind, Name, Version)>) -> Self {
        let mut kinds: [Kept; 4] = Default::default();
        for (kind, name, version) in held {
            kinds[kind.index()].held.insert(name, version);
        }
        Self { node, stream: 0, has_introduced_itself: false, kinds }
    }

    /// A stream has been opened; `ask` says the rest.
    pub(super) fn connected(&mut self) {
        self.stream += 1;
        self.has_introduced_itself = false;
        for kept in &mut self.kinds {
            kept.asked.clear();
            kept.opened = false;
        }
    }

    /// What is to be said so that the stream is subscribed to what is wanted. What the consumer dropped meanwhile it
    /// does not have any more, and is asked for again if it is wanted again.
    pub(super) fn ask(
        &mut self,
        wanted: &BTreeSet<(Kind, Name)>,
        dropped: &BTreeSet<(Kind, Name)>,
    ) -> Vec<DeltaDiscoveryRequest> {
        for (kind, name) in dropped {
            self.kinds[kind.index()].held.remove(name);
        }
        let mut requests = Vec::new();
        for kind in Kind::ALL {
            let kept = &mut self.kinds[kind.index()];
            let names: BTreeSet<Name> = wanted.iter().filter(|(k, _)| *k == kind).map(|(_, n)| n.clone()).collect();
            let is_new = |name: &&Name| !kept.asked.contains(*name) || dropped.contains(&(kind, (*name).clone()));
            let new: Vec<Name> = names.iter().filter(is_new).cloned().collect();
            let gone: Vec<Name> = kept.asked.difference(&names).cloned().collect();
            kept.held.retain(|name, _| is_among(name, &names));
            if new.is_empty() && gone.is_empty() {
                continue;
            }
            let mut request = DeltaDiscoveryRequest {
                type_url: kind.type_url().to_owned(),
                resource_names_subscribe: new.iter().map(|name| name.to_string()).collect(),
                resource_names_unsubscribe: gone.iter().map(|name| name.to_string()).collect(),
                ..DeltaDiscoveryRequest::default()
            };
            if !kept.opened {
                let held = kept.held.iter().map(|(name, version)| (name.to_string(), version.to_string()));
                request.initial_resource_versions = held.collect();
            }
            kept.opened = true;
            kept.asked = names;
            requests.push(self.introduced(request));
        }
        if !self.has_introduced_itself {
            requests.push(self.introduction());
        }
        requests
    }

    /// Whoever wants nothing yet says who it is all the same: a stream on which nothing is said is closed. The kind is one
    /// of which an empty subscription means nothing, not everything.
    fn introduction(&mut self) -> DeltaDiscoveryRequest {
        self.kinds[Kind::Endpoints.index()].opened = true;
        let type_url = Kind::Endpoints.type_url().to_owned();
        self.introduced(DeltaDiscoveryRequest { type_url, ..DeltaDiscoveryRequest::default() })
    }

    /// Reads a message. Nothing of it counts until it is answered.
    pub(super) fn read(&mut self, message: DeltaDiscoveryResponse) -> Brought {
        let mut brought = Brought::default();
        brought.receipt.stream = self.stream;
        brought.receipt.nonce = message.nonce;
        let Some(kind) = Kind::from_type_url(&message.type_url) else { return brought };
        brought.receipt.kind = Some(kind);
        let asked = &self.kinds[kind.index()].asked;
        // What was unsubscribed meanwhile is of no interest.
        for resource in message.resources.into_iter().filter(|resource| is_among(&resource.name, asked)) {
            brought.take(kind, resource);
        }
        let removed = message.removed_resources.iter().filter(|name| is_among(name, asked));
        brought.removed = removed.map(|name| (kind, Name::from(name.as_str()))).collect();
        brought
    }

    /// Answers a message: `refusals` are the consumer's, what did not decode is added. None if the stream has gone.
    pub(super) fn answer(&mut self, receipt: Receipt, refusals: Vec<Refusal>) -> Option<DeltaDiscoveryRequest> {
        let kind = receipt.kind?;
        let kept = &mut self.kinds[kind.index()];
        let is_refused = |name: &Name| refusals.iter().any(|refusal| refusal.kind == kind && refusal.name == *name);
        for (name, version) in receipt.versions {
            if !is_refused(&name) && is_among(&name, &kept.asked) {
                kept.held.insert(name, version);
            }
        }
        if receipt.stream != self.stream {
            return None;
        }
        let words: Vec<String> = receipt.refusals.iter().chain(&refusals).map(ToString::to_string).collect();
        let request = DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            response_nonce: receipt.nonce,
            error_detail: (!words.is_empty()).then(|| refusal_status(&words)),
            ..DeltaDiscoveryRequest::default()
        };
        Some(self.introduced(request))
    }

    /// What a removal means for what is held; called when its message is accepted.
    pub(super) fn forget(&mut self, removed: &[(Kind, Name)]) {
        for (kind, name) in removed {
            self.kinds[kind.index()].held.remove(name);
        }
    }

    /// The first message of a stream says who asks.
    fn introduced(&mut self, mut request: DeltaDiscoveryRequest) -> DeltaDiscoveryRequest {
        if !std::mem::replace(&mut self.has_introduced_itself, true) {
            request.node = Some(self.node.to_message());
        }
        request
    }
}

/// Whether a resource is subscribed to, by its name or with all others.
fn is_among(name: &str, asked: &BTreeSet<Name>) -> bool {
    asked.contains(name) || asked.contains(ALL)
}

// === impl Receipt ===

impl Receipt {
    /// Refuses everything that decoded.
    pub(super) fn refuse_all(&self, detail: &str) -> Vec<Refusal> {
        let Some(kind) = self.kind else { return Vec::new() };
        let names = self.versions.iter().map(|(name, _)| name.clone());
        names.map(|name| Refusal { kind, name, detail: detail.to_owned() }).collect()
    }
}

// === impl Brought ===

impl Brought {
    /// Whether there is nothing in it that a consumer could use.
    pub(super) fn is_empty(&self) -> bool {
        self.receipt.versions.is_empty() && self.removed.is_empty()
    }

    fn take(&mut self, kind: Kind, resource: Resource) {
        let name = Name::from(resource.name);
        let version = Version::from(resource.version);
        let any = resource.resource.unwrap_or_default();
        let taken = translate::body_of(kind, &any).and_then(|body| self.decode(kind, &name, &version, &body));
        match taken {
            Ok(()) => self.receipt.versions.push((name, version)),
            Err(error) => self.receipt.refusals.push(Refusal { kind, name, detail: error.to_string() }),
        }
    }

    fn decode(&mut self, kind: Kind, name: &Name, version: &Version, body: &Bytes) -> Result<(), TranslateError> {
        match kind {
            Kind::Listener => {
                let resource = named(name, listener::decode(body)?, |listener| &listener.name)?;
                self.listeners.push(received(version, resource));
            }
            Kind::Route => {
                let resource = named(name, route::decode(body)?, |config| &config.name)?;
                self.routes.push(received(version, resource));
            }
            Kind::Cluster => {
                let resource = named(name, cluster::decode(body)?, |cluster| &cluster.name)?;
                self.clusters.push(received(version, resource));
            }
            Kind::Endpoints => {
                let resource = named(name, endpoints::decode(body)?, |endpoints| &endpoints.cluster)?;
                self.endpoints.push(received(version, resource));
            }
        }
        Ok(())
    }
}

fn named<T>(name: &Name, resource: T, own: fn(&T) -> &Name) -> Result<T, TranslateError> {
    if own(&resource) == name {
        Ok(resource)
    } else {
        let what = format!("the message says {:?} and was sent as {name:?}", own(&resource));
        Err(TranslateError::Unusable { path: "name".to_owned(), what })
    }
}

fn received<T>(version: &Version, resource: T) -> Received<T> {
    Received { version: version.clone(), resource: Arc::new(resource) }
}

fn refusal_status(words: &[String]) -> Status {
    let mut message = words.join("; ");
    let end = (0..=message.len().min(WORDS_MAX)).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    message.truncate(end);
    Status { code: INVALID_ARGUMENT, message, details: Vec::new() }
}

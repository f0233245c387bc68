//! What proxies are served: built when it is asked for, kept until something it was made of changes.
//!
//! Each answer is kept with the topics (services, gateways) that it read. When one of them changes, only the answers that
//! read it are built again, and only those that came out different are told to subscribers, so that a changed endpoint
//! touches one resource. A change of instances that leaves ports, protocol and visibility as they were concerns endpoints
//! only. Names are part of the key as they were asked for; names that lead nowhere are kept too, because they may
//! appear, but only so many.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use leno_model::name::ServiceName;
use leno_model::snapshot::Name;
use leno_xds::kind::Kind;
use leno_xds::node::{NodeInfo, ProxyKind, ProxyRole};
use leno_xds::provide::{Dirty, Resource};
use leno_xds::translate::{self, Dialect};

use crate::Directory;
use crate::merge::{Merged, Topic};
use crate::snapshot::{Arranged, Caller, Standpoint, View, name};

/// How many batches of changes are remembered for subscribers that are behind.
const LOG_MAX: usize = 1024;

/// How many names that lead nowhere are kept; beyond, all of them are forgotten and everybody asks anew.
const ABSENT_MAX: usize = 100_000;

/// How many answers are kept that hold for callers of one place alone; beyond, they are made anew each time.
const ARRANGED_MAX: usize = 10_000;

/// Answers, and what changed in them.
pub(crate) struct Served {
    revision: u64,
    answers: HashMap<Asked, Answer>,
    lists: HashMap<AskedList, List>,
    readers: HashMap<Topic, HashSet<Asked>>,
    list_readers: HashMap<Topic, HashSet<AskedList>>,
    /// What instances make of a service beside its endpoints, as a hash.
    shapes: HashMap<ServiceName, u64>,
    absent: usize,
    /// Answers that hold for callers of one place alone.
    arranged: usize,
    log: VecDeque<(u64, BTreeSet<(Kind, Name)>)>,
    /// What changed up to this revision is no longer known.
    forgotten: u64,
}

/// One question for which there is one answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    kind: Kind,
    name: Name,
    dialect: Dialect,
    /// For listeners, whose name is looked up for somebody.
    caller: Option<Caller>,
    /// For endpoints, where that matters: where somebody is.
    own: Option<Standpoint>,
}

struct Answer {
    resource: Option<Resource>,
    /// Of endpoints: what they are arranged by for callers, if it matters where those are. Then this is the answer for nobody.
    arranged: Option<Arranged>,
    read: BTreeSet<Topic>,
}

/// A question for everything of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct AskedList {
    kind: Kind,
    caller: Caller,
    /// Whether the proxy takes part in the mesh without asking by name.
    everything: bool,
    gateway: Option<(Name, Name)>,
}

struct List {
    names: BTreeSet<Name>,
    read: BTreeSet<Topic>,
}

// === impl Served ===

impl Served {
    pub(crate) fn new() -> Self {
        Self {
            revision: 1,
            answers: HashMap::new(),
            lists: HashMap::new(),
            readers: HashMap::new(),
            list_readers: HashMap::new(),
            shapes: HashMap::new(),
            absent: 0,
            arranged: 0,
            log: VecDeque::new(),
            forgotten: 0,
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn resource(
        &mut self,
        merged: &Merged,
        directory: &dyn Directory,
        node: &NodeInfo,
        kind: Kind,
        name: &str,
    ) -> Option<Resource> {
        let caller = (kind == Kind::Listener).then(|| caller(node));
        let asked = Asked { kind, name: name.into(), dialect: node.dialect(), caller, own: None };
        if !self.answers.contains_key(&asked) {
            let answer = build(merged, directory, &asked);
            self.keep(asked.clone(), answer);
        }
        let answer = self.answers.get(&asked)?;
        let Some(arranged) = &answer.arranged else { return answer.resource.clone() };
        let own = Some(Standpoint::of(node, &arranged.policy));
        let asked = Asked { own, ..asked };
        if let Some(answer) = self.answers.get(&asked) {
            return answer.resource.clone();
        }
        let answer = build(merged, directory, &asked);
        let resource = answer.resource.clone();
        // Whoever is told that endpoints changed is told so by the answer for nobody, which changes with the same.
        if self.arranged < ARRANGED_MAX {
            self.keep(asked, answer);
        }
        resource
    }

    pub(crate) fn names(
        &mut self,
        merged: &Merged,
        directory: &dyn Directory,
        node: &NodeInfo,
        kind: Kind,
    ) -> Vec<Name> {
        let gateway = node.gateway.as_deref().and_then(|gateway| gateway.split_once('/'));
        let gateway = gateway.map(|(namespace, name)| (namespace.into(), name.into()));
        let everything = node.proxy == ProxyKind::Envoy;
        let asked = AskedList { kind, caller: caller(node), everything, gateway };
        if let Some(list) = self.lists.get(&asked) {
            return list.names.iter().cloned().collect();
        }
        let list = build_list(merged, directory, &asked);
        let names = list.names.iter().cloned().collect();
        self.keep_list(asked, list);
        names
    }

    pub(crate) fn dirty_since(&self, revision: u64) -> Dirty {
        if revision < self.forgotten {
            return Dirty::All;
        }
        let newer = self.log.iter().filter(|(at, _)| *at > revision);
        Dirty::Names(newer.flat_map(|(_, names)| names.iter().cloned()).collect())
    }

    /// Resources changed: builds what read any of `topics` anew. A new revision even where nothing came out different,
    /// so that whoever made the change can wait for it.
    pub(crate) fn resources_changed(&mut self, merged: &Merged, directory: &dyn Directory, topics: &BTreeSet<Topic>) {
        let dirty = self.rebuild(merged, directory, topics, &BTreeSet::new());
        self.commit(dirty);
    }

    /// Instances of services changed. Answers whether anything came out different.
    pub(crate) fn instances_changed(
        &mut self,
        merged: &Merged,
        directory: &dyn Directory,
        services: &BTreeSet<ServiceName>,
    ) -> bool {
        let (mut reshaped, mut same_shape) = (BTreeSet::new(), BTreeSet::new());
        for service in services {
            let topic = Topic::Service(service.clone());
            let shape = shape(merged, directory, service);
            let before =
                if shape == 0 { self.shapes.remove(service) } else { self.shapes.insert(service.clone(), shape) };
            if before == Some(shape) {
                same_shape.insert(topic)
            } else {
                reshaped.insert(topic)
            };
        }
        if !reshaped.is_empty() {
            reshaped.insert(Topic::Everything);
        }
        let dirty = self.rebuild(merged, directory, &reshaped, &same_shape);
        let changed = !dirty.is_empty();
        if changed {
            self.commit(dirty);
        }
        changed
    }

    /// Anything may have changed: builds all answers anew.
    pub(crate) fn everything_changed(&mut self, merged: &Merged, directory: &dyn Directory) {
        let topics: BTreeSet<Topic> = self.readers.keys().chain(self.list_readers.keys()).cloned().collect();
        self.shapes.clear();
        self.resources_changed(merged, directory, &topics);
    }

    /// Builds anew, once each, what read any of `topics`, and the endpoints that read any of `instances`. Answers what
    /// came out different.
    fn rebuild(
        &mut self,
        merged: &Merged,
        directory: &dyn Directory,
        topics: &BTreeSet<Topic>,
        instances: &BTreeSet<Topic>,
    ) -> BTreeSet<(Kind, Name)> {
        let mut dirty = BTreeSet::new();
        let all = topics.iter().filter_map(|topic| self.readers.get(topic)).flatten();
        let endpoints = instances.iter().filter_map(|topic| self.readers.get(topic)).flatten();
        let affected: HashSet<Asked> =
            all.chain(endpoints.filter(|asked| asked.kind == Kind::Endpoints)).cloned().collect();
        for asked in affected {
            let answer = build(merged, directory, &asked);
            let before = self.forget(&asked);
            let is_same = |before: Answer| before.resource == answer.resource && before.arranged == answer.arranged;
            if !before.is_some_and(is_same) {
                dirty.insert((asked.kind, asked.name.clone()));
            }
            if asked.own.is_none() || answer.arranged.is_some() {
                self.keep(asked, answer);
            }
        }
        let lists = topics.iter().filter_map(|topic| self.list_readers.get(topic)).flatten();
        let lists: HashSet<AskedList> = lists.cloned().collect();
        for asked in lists {
            let list = build_list(merged, directory, &asked);
            let before = self.forget_list(&asked).map(|list| list.names).unwrap_or_default();
            dirty.extend(before.symmetric_difference(&list.names).map(|name| (asked.kind, name.clone())));
            self.keep_list(asked, list);
        }
        dirty
    }

    fn keep(&mut self, asked: Asked, answer: Answer) {
        if answer.resource.is_none() {
            if self.absent >= ABSENT_MAX {
                self.forget_absent();
            }
            self.absent += 1;
        }
        self.arranged += usize::from(asked.own.is_some());
        for topic in &answer.read {
            self.readers.entry(topic.clone()).or_default().insert(asked.clone());
        }
        self.answers.insert(asked, answer);
    }

    fn keep_list(&mut self, asked: AskedList, list: List) {
        for topic in &list.read {
            self.list_readers.entry(topic.clone()).or_default().insert(asked.clone());
        }
        self.lists.insert(asked, list);
    }

    fn forget(&mut self, asked: &Asked) -> Option<Answer> {
        let answer = self.answers.remove(asked)?;
        self.absent -= usize::from(answer.resource.is_none());
        self.arranged -= usize::from(asked.own.is_some());
        for topic in &answer.read {
            if let Some(readers) = self.readers.get_mut(topic) {
                readers.remove(asked);
                if readers.is_empty() {
                    self.readers.remove(topic);
                }
            }
        }
        Some(answer)
    }

    fn forget_list(&mut self, asked: &AskedList) -> Option<List> {
        let list = self.lists.remove(asked)?;
        for topic in &list.read {
            if let Some(readers) = self.list_readers.get_mut(topic) {
                readers.remove(asked);
                if readers.is_empty() {
                    self.list_readers.remove(topic);
                }
            }
        }
        Some(list)
    }

    /// Forgets every name that led nowhere. Those who still want one must ask again, so everybody is told that anything
    /// may have changed.
    fn forget_absent(&mut self) {
        let absent: Vec<Asked> = self
            .answers
            .iter()
            .filter(|(_, answer)| answer.resource.is_none())
            .map(|(asked, _)| asked.clone())
            .collect();
        for asked in absent {
            self.forget(&asked);
        }
        self.revision += 1;
        self.forgotten = self.revision;
        self.log.clear();
    }

    fn commit(&mut self, dirty: BTreeSet<(Kind, Name)>) {
        self.revision += 1;
        self.log.push_back((self.revision, dirty));
        if self.log.len() > LOG_MAX
            && let Some((oldest, _)) = self.log.pop_front()
        {
            self.forgotten = oldest;
        }
    }
}

fn build(merged: &Merged, directory: &dyn Directory, asked: &Asked) -> Answer {
    let view = View::new(merged, directory);
    let nobody = Caller { namespace: "".into(), is_gateway: false };
    let caller = asked.caller.as_ref().unwrap_or(&nobody);
    let resource = match asked.kind {
        Kind::Listener => view
            .listener(&asked.name, caller)
            .and_then(|listener| translate::listener::encode(&listener, asked.dialect)),
        Kind::Route => view.route_config(&asked.name).map(|config| translate::route::encode(&config, asked.dialect)),
        Kind::Cluster => view.cluster(&asked.name).map(|cluster| translate::cluster::encode(&cluster, asked.dialect)),
        Kind::Endpoints => {
            let endpoints = view.endpoints(&asked.name, asked.own.as_ref());
            endpoints.map(|endpoints| translate::endpoints::encode(&endpoints, asked.dialect))
        }
    };
    let arranged = (asked.kind == Kind::Endpoints).then(|| view.arranged(&asked.name)).flatten();
    Answer { resource, arranged, read: view.into_read() }
}

fn build_list(merged: &Merged, directory: &dyn Directory, asked: &AskedList) -> List {
    let view = View::new(merged, directory);
    let mut names: BTreeSet<Name> = BTreeSet::new();
    match asked.kind {
        Kind::Listener => {
            names.extend(asked.everything.then(|| name::OUTBOUND.into()));
            if let Some((namespace, gateway)) = &asked.gateway {
                names.extend(view.gateway_listeners(namespace, gateway));
            }
        }
        Kind::Cluster => {
            if asked.everything {
                names.extend(view.all_clusters(&asked.caller));
            }
            if let Some((namespace, gateway)) = &asked.gateway {
                names.extend(view.gateway_clusters(namespace, gateway));
            }
        }
        Kind::Route | Kind::Endpoints => {}
    }
    List { names, read: view.into_read() }
}

/// What the instances of a service make of it beside its endpoints; 0 for a service that does not exist.
fn shape(merged: &Merged, directory: &dyn Directory, service: &ServiceName) -> u64 {
    let view = View::new(merged, directory);
    let found = view.service(service);
    if !found.exists() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    let instances = found.instances.iter().map(|registered| &registered.instance);
    let mut facts: BTreeMap<u64, ()> = BTreeMap::new();
    for instance in instances {
        let mut one = DefaultHasher::new();
        instance.visibility.hash(&mut one);
        for port in &instance.ports {
            (port.number, &port.name, port.protocol).hash(&mut one);
        }
        facts.insert(one.finish(), ());
    }
    facts.hash(&mut hasher);
    // Requests of a lane go to the others of a service where its version has nobody.
    for (lane, spec) in merged.lanes_of(service) {
        let of_lane = spec.versions.iter().filter(|version| *version.name == *service.name);
        for version in of_lane {
            for port in found.ports() {
                let takes = found.takes_requests(&version.version, &port);
                (&lane.resource.key, &version.version, port.number, takes).hash(&mut hasher);
            }
        }
    }
    hasher.finish() | 1
}

fn caller(node: &NodeInfo) -> Caller {
    Caller { namespace: node.namespace.as_str().into(), is_gateway: node.role == ProxyRole::Gateway }
}

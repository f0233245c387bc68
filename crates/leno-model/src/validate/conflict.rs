//! What is wrong between resources of one set: the same one twice, routes that match the same requests of one parent, two
//! policies of one kind for one service. Across sets the Gateway API's precedence decides instead; that is control's work.

use std::collections::BTreeMap;

use crate::document::Written;
use crate::fault::{Fault, FaultClass};
use crate::resource::Spec;
use crate::resource::grpc_route::GrpcMatch;
use crate::resource::http_route::{HeaderMatch, HttpMatch, PathMatchType};
use crate::resource::kind::{Kind, ResourceKey};
use crate::resource::reference::ParentRef;

pub(super) fn check(set: &[Written], faults: &mut Vec<Fault>) {
    let (mut resources, mut matches, mut policies) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for written in set {
        if duplicate_resource(written, &mut resources, faults) {
            continue;
        }
        duplicate_matches(written, &mut matches, faults);
        policy_conflict(written, &mut policies, faults);
    }
}

type Resources<'a> = BTreeMap<&'a ResourceKey, &'a Written>;
type Matches<'a> = BTreeMap<(String, String, String), (&'a Written, String)>;
type Policies<'a> = BTreeMap<(Kind, String, String), &'a Written>;

fn duplicate_resource<'a>(written: &'a Written, seen: &mut Resources<'a>, faults: &mut Vec<Fault>) -> bool {
    let Some(first) = seen.get(&written.resource.key) else {
        seen.insert(&written.resource.key, written);
        return false;
    };
    let message = format!("{} stands already in {}", written.resource.key, where_is(first, ""));
    let fix = "remove one of the two, or give it another name";
    faults.push(written.fault(FaultClass::DuplicateResource, "metadata.name", message, fix));
    true
}

fn duplicate_matches<'a>(written: &'a Written, seen: &mut Matches<'a>, faults: &mut Vec<Fault>) {
    let found: Vec<(String, String)> = match &written.resource.spec {
        Spec::HttpRoute(route) => rules(route.rules.iter().map(|rule| rule.matches.iter().map(http_words).collect())),
        Spec::GrpcRoute(route) => rules(route.rules.iter().map(|rule| rule.matches.iter().map(grpc_words).collect())),
        Spec::TcpRoute(_) | Spec::TlsRoute(_) | Spec::UdpRoute(_) => vec![("spec.rules[0]".to_owned(), String::new())],
        _ => return,
    };
    // One fault for a match is enough, whatever the number of parents and hosts that it has.
    let mut reported: Vec<&str> = Vec::new();
    let mut parents: Vec<String> = Vec::new();
    for parent in written.resource.spec.parents() {
        let parent_words = parent_words(written, parent);
        // A parent named twice is a fault of its own.
        if parents.contains(&parent_words) {
            continue;
        }
        parents.push(parent_words.clone());
        let hostnames = match written.resource.spec.hostnames() {
            [] => vec![String::new()],
            // Host names mean nothing for a parent that is a service, except those of TLS, by which it routes.
            _ if parent.is_service() && written.resource.key.kind != Kind::TlsRoute => vec![String::new()],
            hostnames => hostnames.to_vec(),
        };
        for (path, words) in &found {
            for host in &hostnames {
                let key = (parent_words.clone(), host.clone(), words.clone());
                let Some((first, first_path)) = seen.get(&key) else {
                    seen.insert(key, (written, path.clone()));
                    continue;
                };
                if reported.contains(&path.as_str()) {
                    continue;
                }
                reported.push(path);
                if first.resource.key == written.resource.key {
                    // The Gateway API lets a route say the same twice: the first of its rules wins.
                    let message = format!("matches the same requests as {first_path}, which stands before it");
                    let fix = "remove it: it is never taken";
                    faults.push(written.warning(FaultClass::DuplicateMatch, path, message, fix));
                    continue;
                }
                let where_first = where_is(first, first_path);
                let message = format!(
                    "matches the same requests of {} {} as {} in {where_first}",
                    parent.kind, parent.name, first.resource.key
                );
                let fix = "remove one of the two, or make the match more specific";
                faults.push(written.fault(FaultClass::DuplicateMatch, path, message, fix));
            }
        }
    }
}

/// Each match of each rule with its path; a rule without matches takes every request.
fn rules(rules: impl Iterator<Item = Vec<String>>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (i, matches) in rules.enumerate() {
        if matches.is_empty() {
            found.push((format!("spec.rules[{i}]"), http_words(&HttpMatch::default())));
        }
        found
            .extend(matches.into_iter().enumerate().map(|(m, words)| (format!("spec.rules[{i}].matches[{m}]"), words)));
    }
    found
}

/// A parent as text that is equal for equal parents. A consumer route concerns only callers of its own namespace.
fn parent_words(written: &Written, parent: &ParentRef) -> String {
    let own = &*written.resource.key.namespace;
    let namespace = parent.namespace.as_deref().unwrap_or(own);
    let consumer = if parent.is_service() && namespace != own { own } else { "" };
    // HTTP and gRPC routes share a parent's requests; the others have their own.
    let family = match written.resource.key.kind {
        Kind::TcpRoute => "tcp",
        Kind::TlsRoute => "tls",
        Kind::UdpRoute => "udp",
        _ => "http",
    };
    format!(
        "{family} {} {namespace}/{} {:?} {:?} {consumer}",
        parent.kind, parent.name, parent.section_name, parent.port
    )
}

fn http_words(matches: &HttpMatch) -> String {
    let path = match &matches.path {
        None => "prefix /".to_owned(),
        Some(path) => match path.r#type {
            PathMatchType::Exact => format!("exact {}", path.value),
            PathMatchType::PathPrefix if path.value == "/" => "prefix /".to_owned(),
            PathMatchType::PathPrefix => format!("prefix {}", path.value.trim_end_matches('/')),
            PathMatchType::RegularExpression => format!("regex {}", path.value),
        },
    };
    let mut query: Vec<String> =
        matches.query_params.iter().map(|q| format!("{:?} {} {}", q.r#type, q.name, q.value)).collect();
    query.sort();
    format!("{path} | {:?} | {:?} | {query:?}", matches.method, header_words(&matches.headers))
}

fn grpc_words(matches: &GrpcMatch) -> String {
    match &matches.method {
        None => format!("prefix / | None | {:?} | []", header_words(&matches.headers)),
        Some(method) => {
            format!(
                "grpc {:?} {:?} {:?} | {:?}",
                method.r#type,
                method.service,
                method.method,
                header_words(&matches.headers)
            )
        }
    }
}

fn header_words(headers: &[HeaderMatch]) -> Vec<String> {
    let word = |h: &HeaderMatch| format!("{:?} {} {}", h.r#type, h.name.to_ascii_lowercase(), h.value);
    let mut words: Vec<String> = headers.iter().map(word).collect();
    words.sort();
    words
}

fn policy_conflict<'a>(written: &'a Written, seen: &mut Policies<'a>, faults: &mut Vec<Fault>) {
    let targets = match &written.resource.spec {
        Spec::TrafficPolicy(policy) => &policy.target_refs,
        Spec::FaultPolicy(policy) => &policy.target_refs,
        _ => return,
    };
    let (kind, namespace) = (written.resource.key.kind, &written.resource.key.namespace);
    for (i, target) in targets.iter().enumerate() {
        let key = (kind, namespace.to_string(), target.name.clone());
        match seen.get(&key) {
            Some(first) if first.resource.key != written.resource.key => {
                let path = format!("spec.targetRefs[{i}].name");
                let message = format!(
                    "{} is for service {} already, in {}",
                    first.resource.key,
                    target.name,
                    where_is(first, "")
                );
                faults.push(written.fault(FaultClass::PolicyConflict, &path, message, "put both into one policy"));
            }
            Some(_) => {}
            None => drop(seen.insert(key, written)),
        }
    }
}

fn where_is(written: &Written, path: &str) -> String {
    format!("{}:{}", written.file, written.spans.value(path).line)
}

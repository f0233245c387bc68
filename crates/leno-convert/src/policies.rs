//! The TrafficPolicies that come of it: one for each service, which gets its parts one by one, and is validated in the end.
//!
//! A part that another one stands in the place of, or that leno would refuse, is not carried over, and that is said with the
//! words of who refuses it. So what is written is valid, whatever was read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use leno_model::document;
use leno_model::fault::{Fault, Severity};
use leno_model::name::ServiceName;
use leno_model::validate::{Nothing, validate};
use serde_json::{Map, Value, json};

use crate::Converted;
use crate::node::Node;
use crate::resource::Target;

/// The most limits of one policy.
const RATE_LIMITS_MAX: usize = 16;
/// A DNS label.
const LABEL_MAX: usize = 63;
/// How much of a foreign name stands in a comment.
const COMMENT_MAX: usize = 400;

#[derive(Debug, Default)]
pub(crate) struct Policies {
    of: BTreeMap<ServiceName, Policy>,
    lost: Vec<Fault>,
}

/// One policy that is made.
#[derive(Debug, Default)]
struct Policy {
    parts: BTreeMap<&'static str, Part>,
    /// Parts that hold where nothing else is said.
    defaults: BTreeMap<&'static str, Part>,
    rate_limits: Vec<Part>,
    comments: Vec<String>,
    lost: Vec<Fault>,
}

/// A part with where it comes from.
#[derive(Debug)]
struct Part {
    value: Value,
    from: Node,
}

// === impl Policies ===

impl Policies {
    /// Something that belongs to no service was not carried over.
    pub(crate) fn lose(&mut self, fault: Fault) {
        self.lost.push(fault);
    }

    /// Something of a service was not carried over.
    pub(crate) fn lose_of(&mut self, service: &ServiceName, fault: Fault) {
        self.policy(service).lost.push(fault);
    }

    /// Has a comment stand at the policy of a service.
    pub(crate) fn say(&mut self, service: &ServiceName, comment: impl Into<String>) {
        self.policy(service).comments.push(comment.into());
    }

    /// Has the policy of a service have this part, beside what another product said of other fields of it.
    pub(crate) fn part(&mut self, service: &ServiceName, field: &'static str, value: Value, from: &Node) {
        let policy = self.policy(service);
        let Some(own) = policy.parts.get_mut(field) else {
            policy.parts.insert(field, Part { value, from: bare(from) });
            return;
        };
        if own.value == value || own.take_in(&value) {
            return;
        }
        let (line, file) = (own.from.place.line, &own.from.file);
        let why = format!("the service has another `{field}` already, from line {line} of {file}");
        policy.lost.push(from.lost(why, format!("one service has one `{field}`: choose between the two")));
    }

    /// Has the policy of a service have this part where nobody says anything else.
    pub(crate) fn default_part(&mut self, service: &ServiceName, field: &'static str, value: Value, from: &Node) {
        self.policy(service).defaults.entry(field).or_insert_with(|| Part { value, from: bare(from) });
    }

    /// Has the policy of a service have this limit on requests.
    pub(crate) fn rate_limit(&mut self, target: &Target, name: &str, mut limit: Value, from: &Node) {
        let policy = self.policy(&target.service);
        if policy.rate_limits.len() >= RATE_LIMITS_MAX {
            let why = format!("a service has {RATE_LIMITS_MAX} limits at most");
            policy.lost.push(from.lost(why, "put some of them together, by a prefix of the path or by `key`"));
            return;
        }
        let taken: BTreeSet<&str> =
            policy.rate_limits.iter().filter_map(|limit| limit.value["name"].as_str()).collect();
        let label = label(name);
        let numbered = (2..).map(|number| format!("{label}-{number}"));
        let name = std::iter::once(label.clone())
            .chain(numbered)
            .find(|name| !taken.contains(name.as_str()))
            .unwrap_or_default();
        policy.comments.push(format!("rate limit {name}: line {} of {}, {}", from.place.line, from.file, shown(from)));
        limit["name"] = json!(name);
        if target.at_caller {
            limit["at"] = json!("caller");
        }
        if let Some(matches) = &target.matches {
            limit["matches"] = json!([matches]);
        }
        policy.rate_limits.push(Part { value: limit, from: bare(from) });
    }

    /// The resources that come of it. What belongs to none of them stands before the first.
    pub(crate) fn finish(self) -> Converted {
        let (mut of_none, mut lost, mut documents) = (self.lost, Vec::new(), Vec::new());
        for (service, mut policy) in self.of {
            for (field, part) in std::mem::take(&mut policy.defaults) {
                match policy.parts.get_mut(field) {
                    // What it has of its own stands.
                    Some(own) => drop(own.take_in(&part.value)),
                    None => drop(policy.parts.insert(field, part)),
                }
            }
            policy.settle(&service);
            if policy.is_empty() {
                of_none.append(&mut policy.lost);
                continue;
            }
            let mut text = String::new();
            policy.comments.iter().for_each(|line| comment(&mut text, line));
            policy.lost.iter().for_each(|fault| comment_lost(&mut text, fault));
            text.push_str(&document::to_yaml(&policy.resource(&service)));
            documents.push(text);
            lost.append(&mut policy.lost);
        }
        let mut text = String::new();
        if !documents.is_empty() {
            of_none.iter().for_each(|fault| comment_lost(&mut text, fault));
        }
        text.push_str(&documents.join("---\n"));
        lost.append(&mut of_none);
        leno_model::fault::sort(&mut lost);
        Converted { text, resources: documents.len(), lost, faults: Vec::new() }
    }

    fn policy(&mut self, service: &ServiceName) -> &mut Policy {
        self.of.entry(service.clone()).or_default()
    }
}

// === impl Part ===

impl Part {
    /// Takes in fields of which it has none, as `connections` beside `requests`; false where it has one of them.
    fn take_in(&mut self, more: &Value) -> bool {
        let (Some(own), Some(more)) = (self.value.as_object_mut(), more.as_object()) else { return false };
        let is_apart = more.keys().all(|field| !own.contains_key(field));
        if is_apart {
            own.extend(more.clone());
        }
        is_apart
    }
}

// === impl Policy ===

impl Policy {
    fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.rate_limits.is_empty()
    }

    fn resource(&self, service: &ServiceName) -> Value {
        let mut spec = Map::from_iter([("targetRefs".to_owned(), json!([{ "name": &*service.name }]))]);
        spec.extend(self.parts.iter().map(|(field, part)| ((*field).to_owned(), part.value.clone())));
        if !self.rate_limits.is_empty() {
            spec.insert("rateLimits".to_owned(), self.rate_limits.iter().map(|part| part.value.clone()).collect());
        }
        json!({
            "apiVersion": "leno.mesh/v1",
            "kind": "TrafficPolicy",
            "metadata": { "name": &*service.name, "namespace": &*service.namespace },
            "spec": spec,
        })
    }

    /// Takes out what leno would refuse, until it refuses nothing.
    fn settle(&mut self, service: &ServiceName) {
        while !self.is_empty() {
            let parsed = document::parse("policy", &document::to_yaml(&self.resource(service)));
            let mut faults = parsed.faults;
            faults.extend(validate(&parsed.resources, &Nothing));
            faults.retain(|fault| fault.severity == Severity::Error);
            let Some(fault) = faults.into_iter().next() else { return };
            let removed = self.remove(&fault.path);
            for part in removed {
                let field = fault.path.strip_prefix("spec.").unwrap_or(&fault.path);
                let why = format!("`{field}`: {}", fault.message);
                self.lost.push(part.from.lost(why, fault.fix.clone()));
            }
        }
    }

    /// The part that a path of a fault is in; all of them where it is in none.
    fn remove(&mut self, path: &str) -> Vec<Part> {
        let path = path.strip_prefix("spec.").unwrap_or(path);
        let field = path.split(['.', '[']).next().unwrap_or(path);
        let index = path.strip_prefix("rateLimits[").and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
        if let Some(index) = index.filter(|index| *index < self.rate_limits.len()) {
            return vec![self.rate_limits.remove(index)];
        }
        if let Some(part) = self.parts.remove(field) {
            return vec![part];
        }
        let all = std::mem::take(&mut self.parts).into_values().chain(std::mem::take(&mut self.rate_limits));
        all.collect()
    }
}

/// Where something stands, without what is below.
fn bare(node: &Node) -> Node {
    Node { value: node.value.clone(), ..Node::empty(&node.file, node.place, &node.path) }
}

/// A DNS label from any name.
fn label(name: &str) -> String {
    let mut label = String::new();
    for c in name.chars() {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => label.push(c),
            _ if !label.ends_with('-') && !label.is_empty() => label.push('-'),
            _ => {}
        }
        // Room for a number behind it.
        if label.len() >= LABEL_MAX - 8 {
            break;
        }
    }
    let label = label.trim_end_matches('-');
    if label.is_empty() { "limit".to_owned() } else { label.to_owned() }
}

fn shown(node: &Node) -> String {
    let name = node.kid("resource").map(Node::text).unwrap_or_default();
    if name.is_empty() { node.path.clone() } else { name }
}

fn comment_lost(out: &mut String, fault: &Fault) {
    comment(
        out,
        &format!("not carried over: line {} of {}, {}: {}", fault.line, fault.file, fault.path, fault.message),
    );
    comment(out, &format!("  fix: {}", fault.fix));
}

/// A comment is one line, whatever a foreign name has in it.
fn comment(out: &mut String, text: &str) {
    let safe = |c: char| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') { ' ' } else { c };
    let line: String = text.chars().take(COMMENT_MAX).map(safe).collect();
    let _ = writeln!(out, "# {}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_becomes_a_label() {
        for (name, expected) in [
            ("GET:/orders/{id}", "get-orders-id"),
            ("Cart#add(String)", "cart-add-string"),
            ("订单", "limit"),
            ("--a--", "a"),
        ] {
            assert_eq!(label(name), expected);
        }
        assert!(label(&"a-".repeat(100)).len() <= LABEL_MAX);
    }

    #[test]
    fn a_comment_is_one_line_whatever_stands_in_it() {
        let mut out = String::new();
        comment(&mut out, "a\nspec: {}\r\u{2028}b\u{85}c");
        assert_eq!(out.lines().count(), 1);
        assert!(out.starts_with("# a spec"));
    }

    #[test]
    fn what_would_be_refused_is_taken_out_and_said() {
        let mut policies = Policies::default();
        let (service, from) = ("cart.shop".parse().unwrap(), Node::empty(&"f".into(), Default::default(), "x"));
        policies.part(&service, "connectTimeout", json!("1s"), &from);
        policies.part(&service, "connectTimeout", json!("2s"), &from);
        policies.part(&service, "breaker", json!({ "window": "99h" }), &from);
        let target = Target { service, matches: None, at_caller: true };
        policies.rate_limit(&target, "a", json!({ "window": { "requests": 0, "per": "1s" } }), &from);
        policies.rate_limit(&target, "a", json!({ "window": { "requests": 1, "per": "1s" } }), &from);
        let converted = policies.finish();
        assert_eq!((converted.resources, converted.lost.len()), (1, 3), "{converted:?}");
        assert!(
            converted.text.contains("connectTimeout: \"1s\"")
                && converted.text.contains("name: a-2")
                && !converted.text.contains("\n  breaker:"),
            "{}",
            converted.text
        );
        assert!(converted.lost.iter().all(|fault| !fault.fix.is_empty()));
    }
}

//! Sentinel's rules: arrays of JSON objects, as its dashboard, Nacos, Apollo and the like hold them.
//!
//! Of which kind a rule is, its file's name says where that is one of the dashboard's (`APP-flow-rules`), else its fields. What
//! counts per path or caller here becomes a limit on requests of the service; what breaks a circuit becomes its breaker, which
//! a service has one of. Defaults are those of `FlowRule`, `DegradeRule`, `ParamFlowRule` and `SystemRule` (1.8.9).

use leno_model::fault::Fault;
use leno_model::name::ServiceName;
use serde_json::{Value, json};

use crate::node::{self, Node, Source};
use crate::policies::Policies;
use crate::resource::{Options, Target, matching_expression};

mod degrade;
mod flow;
mod param;
mod system;

/// What the dashboard and sources of rules add to a rule, and what is read here for all kinds.
const BESIDE: &[&str] = &[
    "id",
    "app",
    "ip",
    "port",
    "gmtCreate",
    "gmtModified",
    "resource",
    "limitApp",
    "regex",
    "clusterMode",
    "clusterConfig",
    "description",
    "ruleName",
];

/// The kinds of rules, by how the dashboard names their files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flow,
    Degrade,
    Param,
    System,
    Authority,
    Gateway,
}

const FILES: &[(&str, Kind)] = &[
    ("-param-flow-rules", Kind::Param),
    ("-param-rules", Kind::Param),
    ("-gw-flow-rules", Kind::Gateway),
    ("-gateway-flow-rules", Kind::Gateway),
    ("-gw-flow", Kind::Gateway),
    ("-flow-rules", Kind::Flow),
    ("-degrade-rules", Kind::Degrade),
    ("-system-rules", Kind::System),
    ("-authority-rules", Kind::Authority),
];

/// A rule with whose it is.
struct Rule<'n> {
    node: &'n Node,
    resource: String,
    application: String,
}

/// The array of rules that a document is, if it is one.
pub(crate) fn rules(root: &Node) -> Option<&Node> {
    let array = if root.is_list { Some(root) } else { root.kid("data").filter(|data| data.is_list) };
    array.filter(|array| array.kids.iter().all(|(_, rule)| !rule.kids.is_empty()))
}

/// Converts the rules of a document.
pub(crate) fn convert(source: &Source, rules: &Node, options: &Options, policies: &mut Policies) {
    let file = source.file.rsplit('/').next().unwrap_or(&source.file);
    let stem = [".json", ".yaml", ".yml", ".txt"].iter().find_map(|end| file.strip_suffix(end)).unwrap_or(file);
    let by_name = FILES.iter().find_map(|(end, kind)| Some((stem.strip_suffix(end)?, *kind)));
    convert_all(rules, by_name.map(|(_, kind)| kind), by_name.map_or("", |(app, _)| app), options, policies);
}

/// Rules that are the text of a property, as Apollo holds them; whether there are any.
pub(crate) fn embedded(source: &Source, options: &Options, policies: &mut Policies) -> bool {
    let mut found = false;
    for (name, leaf) in &source.root.kids {
        let text = leaf.text();
        if !leaf.is_leaf() || !text.starts_with('[') {
            continue;
        }
        let kinds = [
            ("flow", Kind::Flow),
            ("degrade", Kind::Degrade),
            ("system", Kind::System),
            ("authority", Kind::Authority),
            ("param", Kind::Param),
            ("gateway", Kind::Gateway),
            ("gw", Kind::Gateway),
        ];
        let lower = name.to_ascii_lowercase();
        // `paramFlowRules` and `gatewayFlowRules` are no flow rules.
        let kind = kinds.iter().rev().find(|(word, _)| lower.contains(word)).map(|(_, kind)| *kind);
        let mut faults = Vec::new();
        let Some(mut inner) = node::read("rules.json", text.as_bytes(), &mut faults).into_iter().next() else {
            if let (Some(_), Some(fault)) = (kind, faults.first()) {
                policies.lose(leaf.lost(format!("rules that cannot be read: {}", fault.message), fault.fix.clone()));
                found = true;
            }
            continue;
        };
        inner.root.move_to(leaf);
        if let Some(array) = rules(&inner.root) {
            convert_all(array, kind, "", options, policies);
            found = true;
        }
    }
    found
}

fn convert_all(array: &Node, kind: Option<Kind>, application: &str, options: &Options, policies: &mut Policies) {
    let mut breakers = degrade::Breakers::default();
    for (_, entry) in &array.kids {
        // The dashboard wraps rules of parameters and callers.
        let node = entry.kid("rule").filter(|rule| !rule.kids.is_empty()).unwrap_or(entry);
        let text = |node: &Node, name: &str| node.kid(name).map(Node::text).unwrap_or_default();
        let app =
            [text(entry, "app"), application.to_owned()].into_iter().find(|app| !app.is_empty()).unwrap_or_default();
        let rule = Rule { node, resource: text(node, "resource"), application: app };
        let done = match kind.unwrap_or_else(|| kind_of(node)) {
            Kind::Flow => flow::convert(&rule, options, policies),
            Kind::Degrade => degrade::collect(&rule, options, policies, &mut breakers),
            Kind::Param => param::convert(&rule, options, policies),
            Kind::System => system::convert(&rule, options, policies),
            Kind::Authority => Err(rule
                .lost("an authority rule: leno has no rules on who may call yet", "keep the check in the application")),
            Kind::Gateway => Err(rule.lost(
                "a rule of Sentinel's gateway adapter: its routes and groups of APIs are not leno's",
                "write `rateLimits` with the paths in `matches`, and `at: caller` for the gateway to hold it",
            )),
        };
        if let Err(fault) = done {
            policies.lose(fault);
        }
    }
    breakers.finish(policies);
}

/// The kind of a rule by its fields: each has one that the others have not.
fn kind_of(rule: &Node) -> Kind {
    let says = |name: &&str| rule.kid(name).is_some_and(|kid| !kid.is_nothing());
    let has = |names: &[&str]| names.iter().any(says);
    match () {
        () if has(&["paramIdx"]) => Kind::Param,
        () if has(&["intervalSec", "resourceMode", "paramItem"]) => Kind::Gateway,
        () if has(&["highestSystemLoad", "highestCpuUsage", "avgRt", "maxThread"])
            || (has(&["qps"]) && !has(&["count"])) =>
        {
            Kind::System
        }
        () if has(&["timeWindow"]) => Kind::Degrade,
        () if has(&["count", "grade", "controlBehavior"]) => Kind::Flow,
        () => Kind::Authority,
    }
}

// === impl Rule ===

impl Rule<'_> {
    fn decimal(&self, name: &str, default: f64) -> Result<f64, Fault> {
        self.field(name).map_or(Ok(default), Node::decimal)
    }

    fn whole(&self, name: &str, default: i64) -> Result<i64, Fault> {
        self.field(name).map_or(Ok(default), Node::whole)
    }

    /// A field that says something.
    fn field(&self, name: &str) -> Option<&Node> {
        self.node.kid(name).filter(|node| !node.is_nothing())
    }

    fn lost(&self, why: impl Into<String>, fix: impl Into<String>) -> Fault {
        let of = if self.resource.is_empty() { String::new() } else { format!("{}: ", self.resource) };
        self.node.lost(format!("{of}{}", why.into()), fix)
    }

    /// What of a field is not carried over.
    fn lost_field(&self, name: &str, why: impl Into<String>, fix: impl Into<String>) -> Fault {
        let fault = self.lost(why, fix);
        match self.node.kid(name) {
            Some(node) => Fault { message: fault.message, ..node.lost("", fault.fix) },
            None => fault,
        }
    }

    /// The requests that the rule is for.
    fn target(&self, options: &Options) -> Result<Target, Fault> {
        if self.resource.is_empty() {
            return Err(self.lost("a rule without `resource`", "name the resource, or remove the rule"));
        }
        if self.field("regex").map_or(Ok(false), Node::flag)? {
            let matches = matching_expression(&self.resource);
            let service = options.application(&self.application).filter(|_| matches.is_some()).ok_or_else(|| {
                self.lost_field(
                    "regex",
                    "an expression for names in the code of an application",
                    "write a rule for each name that it is for",
                )
            })?;
            return Ok(Target { service, matches, at_caller: false });
        }
        options.target(&self.resource, &self.application, self.node)
    }

    /// Whether the machines of a cluster count it together.
    fn is_of_a_cluster(&self) -> Result<bool, Fault> {
        self.field("clusterMode").map_or(Ok(false), Node::flag)
    }

    /// Refuses what this rule cannot have: a share of a cluster.
    fn not_of_a_cluster(&self, what: &str) -> Result<(), Fault> {
        match self.is_of_a_cluster()? {
            false => Ok(()),
            true => Err(self.lost_field(
                "clusterMode",
                format!("cluster mode: {what} each proxy counts for itself"),
                "divide `count` by the number of instances, set `clusterMode` to false, and convert again",
            )),
        }
    }

    /// Says which fields nothing has looked at.
    fn say_unknown(&self, service: &ServiceName, known: &[&str], policies: &mut Policies) {
        let is_known = |name: &str| BESIDE.iter().chain(known).any(|own| node::is_same(own, name));
        for (name, field) in self.node.kids.iter().filter(|(name, kid)| !(is_known(name) || kid.is_nothing())) {
            let why = format!("{}: `{name}` is no field of Sentinel 1.8.9 that leno knows", self.resource);
            policies.lose_of(service, field.lost(why, "see whether the rule means the same without it"));
        }
    }
}

/// `requests` in each `per`, for a number in a second that may have a fraction.
fn rate(count: f64) -> Option<(i64, Value)> {
    const TIMES: [i64; 11] = [1, 2, 4, 5, 8, 10, 20, 25, 50, 60, 100];
    TIMES.into_iter().find_map(|times| {
        let requests = (count * times as f64).round();
        let is_whole = (count * times as f64 - requests).abs() < 1e-6 && requests >= 1.0;
        is_whole.then(|| (requests as i64, json!(format!("{times}s"))))
    })
}

//! The compiled routes of one destination or gateway port.
//!
//! The most specific host is taken and its rules are tried in their order; the first that matches decides. With few
//! rules that is a loop. From [`INDEX_MIN`] rules on, a host also has an index: for each exact path, and for each
//! prefix, the ascending list of its rules; a request then tries the lists of its path, of the beginnings of its path
//! and of the regular expressions, and the smallest number that matches wins, which is what the loop would have found.
//!
//! Hot path: no locks held, no allocations (but for values over 256 bytes that must be decoded or joined, and for paths
//! with parameters).

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, DefaultHasher};

use leno_model::path::{literal_len, without_parameters};
use leno_model::snapshot::{Match, Name, Origin, RouteConfig};

use crate::host::HostMap;
use crate::key::KeyCondition;
use crate::path::PathCondition;
use crate::pattern::PatternError;

/// The most rules of one route configuration.
pub const RULES_MAX: usize = 100_000;

/// From how many rules on a host has an index. Measured: the loop takes 7 ns a rule, the index 310 ns for any number.
const INDEX_MIN: usize = 32;

/// What is asked about a request.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    /// The host of its authority; case, port and a final dot do not matter.
    pub host: &'a str,
    /// The method as sent.
    pub method: &'a str,
    /// The path without query, in its canonical spelling (`leno_model::path`).
    pub path: &'a str,
    /// What follows the `?`; empty if nothing does.
    pub query: &'a str,
    /// Its fields.
    pub fields: &'a dyn FieldLookup,
}

/// Fields that can be looked up.
pub trait FieldLookup {
    /// Calls `visit` with each value of the field `name` (given in lower case, compared without case) in the order sent.
    fn each_value<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8]));
}

/// A rule by its number: rules are counted over all hosts in the order of the [`RouteConfig`], from 0 without gaps, so
/// that whatever belongs to a rule can stand in a parallel array of [`Router::rule_count`] elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleIndex(u32);

/// The rule that a request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    /// Which.
    pub rule: RuleIndex,
    /// How many bytes of the path its prefix matched (without a final slash and parameters); the whole path for other
    /// conditions.
    pub prefix_len: usize,
}

/// Why routes cannot be compiled. Control checks before it sends, so that a proxy meets this only with foreign servers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A regular expression was refused.
    #[error("route configuration {config}, {resource} rule {rule}, {place}: {cause}")]
    Pattern {
        /// The route configuration.
        config: Name,
        /// The resource that holds the rule.
        resource: Name,
        /// The rule in its resource.
        rule: u32,
        /// Which of the rule's conditions.
        place: String,
        /// Why.
        #[source]
        cause: PatternError,
    },
    /// More rules than one configuration may have.
    #[error("route configuration {config} has {count} rules, at most {RULES_MAX} are allowed")]
    TooManyRules {
        /// The route configuration.
        config: Name,
        /// How many it has.
        count: usize,
    },
}

/// Compiled routes. Immutable, shared by all workers.
#[derive(Debug)]
pub struct Router {
    /// To places in `groups`.
    pub(crate) hosts: HostMap<u32>,
    pub(crate) groups: Vec<Group>,
    pub(crate) rules: Vec<CompiledRule>,
}

/// The rules of one virtual host, as a range of [`Router::rules`].
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) written: Vec<leno_model::snapshot::HostPattern>,
    pub(crate) start: u32,
    pub(crate) end: u32,
    index: Option<PathIndex>,
}

/// A [`leno_model::snapshot::Rule`] without what is not about matching.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) origin: Origin,
    pub(crate) path: PathCondition,
    /// Its path has parameters, so that those of requests count.
    pub(crate) literal: bool,
    pub(crate) method: Option<Name>,
    pub(crate) headers: Box<[KeyCondition]>,
    pub(crate) query: Box<[KeyCondition]>,
}

type Lists = HashMap<Box<str>, Vec<u32>, BuildHasherDefault<DefaultHasher>>;

/// The rules of a group by their paths, each list ascending.
#[derive(Debug, Default)]
struct PathIndex {
    exact: Lists,
    prefix: Lists,
    patterns: Vec<u32>,
    /// The most slashes in any prefix: bounds the look-ups for a path, however many segments it has.
    depth: usize,
}

// === impl Router ===

impl Router {
    /// Compiles all expressions and builds the indexes.
    pub fn compile(config: &RouteConfig) -> Result<Self, CompileError> {
        let count = config.hosts.iter().map(|host| host.rules.len()).sum();
        if count > RULES_MAX {
            return Err(CompileError::TooManyRules { config: config.name.clone(), count });
        }
        let mut router = Self {
            hosts: HostMap::new(),
            groups: Vec::with_capacity(config.hosts.len()),
            rules: Vec::with_capacity(count),
        };
        for host in &config.hosts {
            for pattern in &host.hostnames {
                router.hosts.insert(pattern, router.groups.len() as u32);
            }
            let start = router.rules.len() as u32;
            for rule in &host.rules {
                router.rules.push(CompiledRule::compile(&config.name, &rule.origin, &rule.when)?);
            }
            let end = router.rules.len() as u32;
            let index = PathIndex::build(&router.rules, start..end);
            router.groups.push(Group { written: host.hostnames.clone(), start, end, index });
        }
        Ok(router)
    }

    /// The rule that the request takes; none when no host or no rule matches (404).
    pub fn route(&self, request: &RequestView<'_>) -> Option<Matched> {
        let group = &self.groups[*self.hosts.get(request.host)? as usize];
        let Some(bare) = without_parameters(request.path) else { return self.find(group, request, request.path) };
        let found = self.find(group, &RequestView { path: &bare, ..*request }, request.path)?;
        let literal = self.rules[found.rule.index()].literal;
        let prefix_len = if literal { found.prefix_len } else { literal_len(request.path, found.prefix_len) };
        Some(Matched { prefix_len, ..found })
    }

    /// The rule for a request whose path has no parameters; with them it is `literal`.
    fn find(&self, group: &Group, request: &RequestView<'_>, literal: &str) -> Option<Matched> {
        match &group.index {
            None => self.first_of(group.start..group.end, request, literal),
            Some(index) => index.first(self, request, literal),
        }
    }

    /// How many rules there are: [`RuleIndex`]es are below this.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// Where a rule was written.
    pub fn origin(&self, rule: RuleIndex) -> &Origin {
        &self.rules[rule.index()].origin
    }

    /// The first rule of an ascending list that matches.
    fn first_of(
        &self,
        list: impl IntoIterator<Item = u32>,
        request: &RequestView<'_>,
        literal: &str,
    ) -> Option<Matched> {
        list.into_iter().find_map(|rule| {
            let prefix_len = self.rules[rule as usize].matches(request, literal)?;
            Some(Matched { rule: RuleIndex(rule), prefix_len })
        })
    }
}

// === impl RuleIndex ===

impl RuleIndex {
    /// As an index into an array.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn new(index: usize) -> Self {
        Self(index as u32)
    }
}

// === impl CompiledRule ===

impl CompiledRule {
    fn compile(config: &Name, origin: &Origin, when: &Match) -> Result<Self, CompileError> {
        let refuse = |place: String, cause| CompileError::Pattern {
            config: config.clone(),
            resource: origin.resource.clone(),
            rule: origin.rule,
            place,
            cause,
        };
        let keys = |written: &[leno_model::snapshot::KeyMatch], kind: &str| {
            written
                .iter()
                .map(|key| KeyCondition::compile(key).map_err(|cause| refuse(format!("{kind} {}", key.name), cause)))
                .collect::<Result<Box<[_]>, _>>()
        };
        let path = PathCondition::compile(&when.path).map_err(|cause| refuse("path".to_owned(), cause))?;
        Ok(Self {
            origin: origin.clone(),
            literal: path.has_parameters(),
            path,
            method: when.method.clone(),
            headers: keys(&when.headers, "header")?,
            query: keys(&when.query, "query parameter")?,
        })
    }

    /// The length of the matched prefix, when all conditions hold.
    fn matches(&self, request: &RequestView<'_>, literal: &str) -> Option<usize> {
        let prefix_len = self.path.matches(if self.literal { literal } else { request.path })?;
        let holds = self.method.as_deref().is_none_or(|method| method == request.method)
            && self.headers.iter().all(|header| header.matches_field(request.fields))
            && self.query.iter().all(|parameter| parameter.matches_query(request.query));
        holds.then_some(prefix_len)
    }
}

// === impl PathIndex ===

impl PathIndex {
    fn build(rules: &[CompiledRule], range: std::ops::Range<u32>) -> Option<Self> {
        if range.len() < INDEX_MIN {
            return None;
        }
        let mut index = Self::default();
        for rule in range {
            match &rules[rule as usize].path {
                // Its list is the one that is tried for every path.
                _ if rules[rule as usize].literal => index.patterns.push(rule),
                PathCondition::Exact(path) => index.exact.entry((**path).into()).or_default().push(rule),
                PathCondition::Prefix(prefix) => {
                    index.depth = index.depth.max(prefix.matches('/').count());
                    index.prefix.entry(prefix.clone()).or_default().push(rule);
                }
                PathCondition::Pattern(_) => index.patterns.push(rule),
            }
        }
        Some(index)
    }

    fn first(&self, router: &Router, request: &RequestView<'_>, literal: &str) -> Option<Matched> {
        let path = request.path;
        // A prefix of d slashes ends before the slash number d + 1 of the path, or with the path.
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).take(self.depth + 1);
        let prefixes = ends.filter_map(|end| self.prefix.get(&path[..end]));
        // "" is before the first slash already; but a path without one, as `*`, is below it as well.
        let root = (!path.starts_with('/') && !path.is_empty()).then(|| self.prefix.get("")).flatten();
        let lists = self.exact.get(path).into_iter().chain(prefixes).chain(root).chain([&self.patterns]);
        lists.fold(None, |best: Option<Matched>, list| {
            let limit = best.map_or(u32::MAX, |best| best.rule.0);
            let better = list.iter().copied().take_while(|rule| *rule < limit);
            router.first_of(better, request, literal).or(best)
        })
    }
}

impl fmt::Debug for RequestView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}?{}", self.method, self.host, self.path, self.query)
    }
}

#[cfg(test)]
pub(crate) mod tests;

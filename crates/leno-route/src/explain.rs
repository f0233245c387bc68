//! Why a request takes its rule, and why it takes no other: for `leno explain` and the proxy's admin page.

use std::fmt;

use leno_model::path::without_parameters;
use leno_model::snapshot::{HostPattern, Name, Origin};

use crate::host::{self, FoundBy};
use crate::key::{KeyCondition, ValueCondition, with_field, with_parameter};
use crate::path::PathCondition;
use crate::router::{CompiledRule, Group, Matched, RequestView, Router, RuleIndex};

/// What happened to every rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The host pattern that was taken, as written; none when the host is unknown.
    pub host: Option<String>,
    /// The rule that is taken.
    pub matched: Option<Matched>,
    /// Every rule, in the order of the configuration.
    pub rules: Vec<Finding>,
}

/// What happened to one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: RuleIndex,
    /// Where it was written.
    pub origin: Origin,
    /// How it ended.
    pub verdict: Verdict,
}

/// How it ended for one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken.
    Taken,
    /// It matches as well; an earlier one was taken.
    Later,
    /// It does not match, for all of these reasons.
    Missed(Vec<Miss>),
}

/// A condition that does not hold. Prints as a clause: `the method is POST, not GET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// The rule is for other hosts.
    Host {
        /// The patterns of the rule.
        patterns: Vec<HostPattern>,
        /// The request's host.
        host: String,
        /// A pattern of the rule matches, and this more specific one was taken.
        beaten_by: Option<String>,
    },
    /// The path.
    Path {
        /// The condition in words: `below /cart`.
        wanted: String,
        /// The request's path.
        path: String,
    },
    /// The method.
    Method {
        /// The rule's.
        wanted: Name,
        /// The request's.
        method: String,
    },
    /// A field.
    Header {
        /// Its name.
        name: Name,
        /// The condition in words.
        wanted: String,
        /// The request's value, joined; none when the field is absent.
        value: Option<String>,
    },
    /// A query parameter.
    Query {
        /// Its name.
        name: Name,
        /// The condition in words.
        wanted: String,
        /// The request's first value, decoded; none when the parameter is absent.
        value: Option<String>,
    },
}

// === impl Router ===

impl Router {
    /// What happens to every rule with this request. Not for the hot path.
    pub fn explain(&self, request: &RequestView<'_>) -> Explanation {
        let matched = self.route(request);
        let found = self.hosts.find(request.host);
        let taken_host = found.map(|found| found.by.to_string());
        let taken_group = found.map(|found| *found.value as usize);
        let mut rules = Vec::with_capacity(self.rules.len());
        for (number, group) in self.groups.iter().enumerate() {
            let host_miss = (taken_group != Some(number)).then(|| group.miss(request, taken_host.as_deref()));
            for index in group.start as usize..group.end as usize {
                let rule = &self.rules[index];
                let misses: Vec<Miss> = host_miss.iter().cloned().chain(rule.misses(request)).collect();
                let verdict = match matched {
                    _ if !misses.is_empty() => Verdict::Missed(misses),
                    Some(matched) if matched.rule.index() == index => Verdict::Taken,
                    _ => Verdict::Later,
                };
                rules.push(Finding { rule: RuleIndex::new(index), origin: rule.origin.clone(), verdict });
            }
        }
        Explanation { host: taken_host, matched, rules }
    }
}

// === impl Group ===

impl Group {
    fn miss(&self, request: &RequestView<'_>, taken: Option<&str>) -> Miss {
        let would_match = self.written.iter().any(|pattern| host::matches(pattern, request.host));
        Miss::Host {
            patterns: self.written.clone(),
            host: request.host.to_owned(),
            beaten_by: taken.filter(|_| would_match).map(str::to_owned),
        }
    }
}

// === impl CompiledRule ===

impl CompiledRule {
    fn misses(&self, request: &RequestView<'_>) -> Vec<Miss> {
        let bare = without_parameters(request.path).filter(|_| !self.literal);
        let path = self
            .path
            .matches(bare.as_deref().unwrap_or(request.path))
            .is_none()
            .then(|| Miss::Path { wanted: self.path.to_string(), path: request.path.to_owned() });
        let method = self
            .method
            .iter()
            .filter(|wanted| ***wanted != *request.method)
            .map(|wanted| Miss::Method { wanted: wanted.clone(), method: request.method.to_owned() });
        let headers = self.headers.iter().filter(|header| !header.matches_field(request.fields)).map(|header| {
            let value = with_field(request.fields, &header.name, |value| value.map(readable));
            Miss::Header { name: header.name.clone(), wanted: header.value.to_string(), value }
        });
        let missed = |parameter: &&KeyCondition| !parameter.matches_query(request.query);
        let query = self.query.iter().filter(missed).map(|parameter| {
            let value = with_parameter(request.query, &parameter.name, |value| value.map(readable));
            Miss::Query { name: parameter.name.clone(), wanted: parameter.value.to_string(), value }
        });
        path.into_iter().chain(method).chain(headers).chain(query).collect()
    }
}

fn readable(value: &[u8]) -> String {
    String::from_utf8_lossy(value).into_owned()
}

// === words ===

impl fmt::Display for FoundBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Suffix(name) => write!(f, "*.{name}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl fmt::Display for PathCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "exactly {path}"),
            Self::Prefix(prefix) if prefix.is_empty() => f.write_str("any"),
            Self::Prefix(prefix) => write!(f, "{prefix} or below"),
            Self::Pattern(pattern) => write!(f, "like {}", pattern.text()),
        }
    }
}

impl fmt::Display for ValueCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(value) => write!(f, "{value:?}"),
            Self::Pattern(pattern) => write!(f, "like {}", pattern.text()),
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { beaten_by: Some(better), host, .. } => {
                write!(f, "the host {host} belongs to the more specific pattern {better}")
            }
            Self::Host { patterns, host, .. } => {
                write!(f, "the host is {host}, not ")?;
                for (index, pattern) in patterns.iter().enumerate() {
                    let separator = if index == 0 { "" } else { " or " };
                    match pattern {
                        HostPattern::Any => write!(f, "{separator}*")?,
                        HostPattern::Exact(name) => write!(f, "{separator}{name}")?,
                        HostPattern::Suffix(name) => write!(f, "{separator}*.{name}")?,
                    }
                }
                Ok(())
            }
            Self::Path { wanted, path } => write!(f, "the path is {path}, not {wanted}"),
            Self::Method { wanted, method } => write!(f, "the method is {method}, not {wanted}"),
            Self::Header { name, wanted, value: Some(value) } => {
                write!(f, "the header {name} is {value:?}, not {wanted}")
            }
            Self::Header { name, wanted, value: None } => write!(f, "the header {name} is absent, wanted is {wanted}"),
            Self::Query { name, wanted, value: Some(value) } => {
                write!(f, "the query parameter {name} is {value:?}, not {wanted}")
            }
            Self::Query { name, wanted, value: None } => {
                write!(f, "the query parameter {name} is absent, wanted is {wanted}")
            }
        }
    }
}

#[cfg(test)]
mod tests;

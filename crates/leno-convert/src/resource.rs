//! Which service a name of another product means, and which of its requests.
//!
//! Sentinel's resources are `GET:/orders/{id}` (what an application serves), `GET:http://cart/items` (what it calls), or any
//! name that somebody put into the code. Instances of Resilience4j, commands of Hystrix and clients of Ribbon are names too.

use std::str::FromStr;

use leno_model::fault::{Fault, Severity};
use leno_model::name::ServiceName;
use serde_json::{Value, json};

use crate::node::{Node, Source};

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];

/// What only the person who converts can say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The service whose application the rules for paths are of.
    pub service: Option<ServiceName>,
    /// The namespace of services that are named without one; empty is `default`.
    pub namespace: String,
    /// What names mean.
    pub mapped: Vec<Mapped>,
    /// What parameters of hot-parameter rules are.
    pub parameters: Vec<Parameter>,
}

/// `RESOURCE=SERVICE` or `RESOURCE=SERVICE/PATH`: what a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    resource: String,
    service: String,
    path: Option<String>,
}

/// `RESOURCE#INDEX=header:NAME`, or `cookie:NAME`, `query:NAME`, `path`: what a parameter of a resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    resource: String,
    index: i64,
    key: (&'static str, String),
}

/// What a resource means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Target {
    pub(crate) service: ServiceName,
    /// Which requests; none is all of them.
    pub(crate) matches: Option<Value>,
    /// Whether callers made them, so that it is callers who count.
    pub(crate) at_caller: bool,
}

// === impl Options ===

impl Options {
    fn namespace(&self) -> &str {
        if self.namespace.is_empty() { leno_model::name::DEFAULT_NAMESPACE } else { &self.namespace }
    }

    /// A service as a host name spells it, or as Eureka does, in capitals; `payOrder` is a name in code.
    fn service_of(&self, host: &str) -> Option<ServiceName> {
        let has = |is: fn(&char) -> bool| host.chars().any(|c| is(&c));
        let is_of_code = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase);
        ServiceName::from_host(host, self.namespace()).filter(|_| !is_of_code)
    }

    /// The service of an application that calls itself so.
    pub(crate) fn application(&self, name: &str) -> Option<ServiceName> {
        self.service.clone().or_else(|| self.service_of(name))
    }

    /// The service that a name of an instance, a command or a client stands for.
    pub(crate) fn named(&self, name: &str, node: &Node) -> Result<ServiceName, Fault> {
        let mapped = self.mapped(name);
        if let Some(path) = mapped.and_then(|mapped| mapped.path.as_deref()) {
            let why = format!("`--map` says the path {path:?}, and what {name:?} says is for a whole service");
            return Err(node.lost(why, format!("write `--map '{name}=SERVICE'`")));
        }
        self.service_called(mapped.map_or(name, |mapped| &mapped.service), name, node)
    }

    fn service_called(&self, host: &str, name: &str, node: &Node) -> Result<ServiceName, Fault> {
        self.service_of(host).ok_or_else(|| {
            let why = format!("{host:?} is no name of a service");
            node.lost(why, format!("say which service it is: `--map '{name}=SERVICE'`"))
        })
    }

    /// What a resource of Sentinel means; `application` is whose rules they are.
    pub(crate) fn target(&self, resource: &str, application: &str, node: &Node) -> Result<Target, Fault> {
        let (method, name) = split_method(resource);
        if let Some(mapped) = self.mapped(resource) {
            let service = self.service_called(&mapped.service, resource, node)?;
            let matches = mapped.path.as_deref().map(|path| matching(path, method));
            // What is called is limited where it is called from.
            return Ok(Target { service, matches, at_caller: name.contains("://") });
        }
        if let Some((_, rest)) = name.split_once("://") {
            let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
            let service = self.service_of(host).ok_or_else(|| {
                let why = format!("{host:?} is no service of the mesh");
                node.lost(why, format!("say which service it is: `--map '{resource}=SERVICE{path}'`"))
            })?;
            let is_all = matches!(path, "" | "/" | "/**") && method.is_none();
            let matches = (!is_all).then(|| matching(if path.is_empty() { "/**" } else { path }, method));
            return Ok(Target { service, matches, at_caller: true });
        }
        // The adapter of gRPC calls a method `shop.Cart/Add`.
        let is_grpc =
            name.split_once('/').is_some_and(|(service, method)| !service.is_empty() && !method.contains('/'));
        if name.starts_with('/') || is_grpc {
            let service = self.application(application).ok_or_else(|| {
                let fix = "say whose paths they are: `--service NAME`";
                node.lost(format!("the path {name:?}, and nothing says of which service"), fix)
            })?;
            let path = if is_grpc && !name.starts_with('/') { format!("/{name}") } else { name.to_owned() };
            return Ok(Target { service, matches: Some(matching(&path, method)), at_caller: false });
        }
        match self.service_of(name).filter(|_| method.is_none()) {
            Some(service) => Ok(Target { service, matches: None, at_caller: false }),
            None => {
                let why = format!("{resource:?} is a name in the code of an application");
                let fix = format!(
                    "say which requests it is for: `--map '{resource}=SERVICE/PATH'`, or `--map '{resource}=SERVICE'` for all of a service"
                );
                Err(node.lost(why, fix))
            }
        }
    }

    fn mapped(&self, name: &str) -> Option<&Mapped> {
        self.mapped.iter().find(|mapped| mapped.resource == name)
    }

    /// Names that `--map` and `--parameter` speak of and nothing has.
    pub(crate) fn unused(&self, sources: &[Source]) -> Vec<Fault> {
        let is_there = |name: &str| sources.iter().any(|source| source.root.mentions(name));
        let mapped = self.mapped.iter().map(|mapped| ("--map", &mapped.resource));
        let parameters = self.parameters.iter().map(|parameter| ("--parameter", &parameter.resource));
        let unused = mapped.chain(parameters).filter(|(_, name)| !is_there(name));
        let say = |(flag, name): (&str, &String)| {
            let nowhere = Node::empty(&flag.into(), Default::default(), "");
            let why = format!("nothing is named {name:?} in these files");
            Fault {
                severity: Severity::Error,
                ..nowhere.lost(why, "write the name as it stands in them, or remove the flag")
            }
        };
        unused.map(say).collect()
    }

    /// What a parameter of a resource is, as part of a limit's key.
    pub(crate) fn parameter(&self, resource: &str, index: i64) -> Option<Value> {
        let found = self.parameters.iter().find(|own| own.resource == resource && own.index == index)?;
        Some(match found.key {
            ("path", _) => json!({ "path": true }),
            (kind, ref name) => json!({ kind: name }),
        })
    }
}

/// `GET:/a` in its parts.
fn split_method(resource: &str) -> (Option<&str>, &str) {
    match resource.split_once(':') {
        Some((method, rest)) if METHODS.contains(&method) => (Some(method), rest),
        _ => (None, resource),
    }
}

/// A match of a route for a path as Spring writes patterns.
pub(crate) fn matching(pattern: &str, method: Option<&str>) -> Value {
    let mut matched = json!({});
    let plain = |text: &str| !text.contains(['{', '}', '*', '?']);
    match pattern.strip_suffix("/**").filter(|before| plain(before)) {
        Some("") => {}
        Some(before) => matched["path"] = json!({ "type": "PathPrefix", "value": before }),
        None if plain(pattern) => matched["path"] = json!({ "type": "Exact", "value": pattern }),
        None => matched["path"] = json!({ "type": "RegularExpression", "value": expression(pattern) }),
    }
    if let Some(method) = method {
        matched["method"] = json!(method);
    }
    matched
}

/// A match of a route for a regular expression of paths.
pub(crate) fn matching_expression(resource: &str) -> Option<Value> {
    let (method, path) = split_method(resource);
    let mut matched = json!({ "path": { "type": "RegularExpression", "value": path } });
    if let Some(method) = method {
        matched["method"] = json!(method);
    }
    path.starts_with('/').then_some(matched)
}

fn expression(pattern: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let (text, length) = match c {
            // At the end these stand for any number of parts, and for none.
            '/' if rest == "/**" || rest.starts_with("/{*") && rest.find('}') == Some(rest.len() - 1) => {
                ("(/.*)?".to_owned(), rest.len())
            }
            '{' => match rest.find('}') {
                // `{id:[0-9]+}` says what it is.
                Some(end) => match rest[1..end].split_once(':') {
                    Some((_, own)) => (format!("({own})"), end + 1),
                    None => ("[^/]+".to_owned(), end + 1),
                },
                None => ("\\{".to_owned(), 1),
            },
            '*' if rest.starts_with("**") => (".*".to_owned(), 2),
            '*' => ("[^/]*".to_owned(), 1),
            '?' => ("[^/]".to_owned(), 1),
            c if ".+()[]^$|\\{}".contains(c) => (format!("\\{c}"), 1),
            c => (c.to_string(), c.len_utf8()),
        };
        out.push_str(&text);
        rest = &rest[length..];
    }
    out
}

// === impl Mapped ===

impl FromStr for Mapped {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (resource, means) = text
            .rsplit_once('=')
            .filter(|(resource, _)| !resource.is_empty())
            .ok_or("write RESOURCE=SERVICE or RESOURCE=SERVICE/PATH")?;
        let (service, path) = means.find('/').map_or((means, None), |at| (&means[..at], Some(means[at..].to_owned())));
        ServiceName::from_str(service).map_err(|error| error.to_string())?;
        Ok(Self { resource: resource.to_owned(), service: service.to_owned(), path })
    }
}

// === impl Parameter ===

impl FromStr for Parameter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || "write RESOURCE#INDEX=header:NAME, or cookie:NAME, query:NAME or path".to_owned();
        let (left, right) = text.rsplit_once('=').ok_or_else(usage)?;
        let (resource, index) = left.rsplit_once('#').ok_or_else(usage)?;
        let (kind, name) = right.split_once(':').unwrap_or((right, ""));
        let kinds = ["header", "cookie", "query", "path"];
        let kind = kinds.into_iter().find(|own| *own == kind).ok_or_else(usage)?;
        if resource.is_empty() || (kind == "path") != name.is_empty() {
            return Err(usage());
        }
        let index = index.parse().map_err(|_| usage())?;
        Ok(Self { resource: resource.to_owned(), index, key: (kind, name.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(resource: &str, options: &Options) -> Result<(String, Option<Value>, bool), String> {
        let node = Node::empty(&"t".into(), Default::default(), "");
        let target = options.target(resource, "", &node).map_err(|fault| fault.fix)?;
        Ok((target.service.to_string(), target.matches, target.at_caller))
    }

    #[test]
    fn a_resource_of_sentinel_is_requests_of_a_service() {
        let options = Options {
            service: Some("orders.shop".parse().unwrap()),
            namespace: "shop".to_owned(),
            ..Options::default()
        };
        let path = |kind: &str, value: &str| json!({ "path": { "type": kind, "value": value } });
        let with_method = |mut matched: Value| {
            matched["method"] = json!("GET");
            matched
        };
        let served = [
            ("/orders", path("Exact", "/orders")),
            ("GET:/orders/{id}", with_method(path("RegularExpression", "/orders/[^/]+"))),
            ("/orders/**", path("PathPrefix", "/orders")),
            ("/v1.0/*/x", path("RegularExpression", "/v1\\.0/[^/]*/x")),
            ("/a/{id:[0-9]+}", path("RegularExpression", "/a/([0-9]+)")),
            ("/files/{*path}", path("RegularExpression", "/files(/.*)?")),
            ("/orders/{id}/**", path("RegularExpression", "/orders/[^/]+(/.*)?")),
            ("shop.Cart/Add", path("Exact", "/shop.Cart/Add")),
        ];
        for (resource, expected) in served {
            assert_eq!(target(resource, &options), Ok(("orders.shop".to_owned(), Some(expected), false)), "{resource}");
        }
        let called = with_method(path("Exact", "/items"));
        assert_eq!(target("GET:http://cart:8080/items", &options), Ok(("cart.shop".to_owned(), Some(called), true)));
        assert_eq!(target("http://cart", &options), Ok(("cart.shop".to_owned(), None, true)));
        assert_eq!(target("cart", &options), Ok(("cart.shop".to_owned(), None, false)));
    }

    #[test]
    fn what_nobody_can_know_is_asked_for_and_never_guessed() {
        let options = Options { mapped: vec!["createOrder=orders/orders".parse().unwrap()], ..Options::default() };
        assert!(target("/orders", &options).unwrap_err().contains("--service"));
        assert!(target("payOrder", &options).unwrap_err().contains("--map 'payOrder="));
        assert!(target("http://api.example.com/x", &options).unwrap_err().contains("--map"));
        let mapped = target("createOrder", &options).unwrap();
        assert_eq!(mapped.1, Some(json!({ "path": { "type": "Exact", "value": "/orders" } })));
    }

    #[test]
    fn what_a_flag_says_has_its_form() {
        assert!("a=B!".parse::<Mapped>().is_err() && "=cart".parse::<Mapped>().is_err());
        assert_eq!("f(a=b)=cart".parse::<Mapped>().unwrap().resource, "f(a=b)");
        assert!("GET:/a#0=header:x-user".parse::<Parameter>().is_ok() && "a#1=path".parse::<Parameter>().is_ok());
        for bad in ["a=header:x", "a#x=header:x", "a#0=body:x", "a#0=header", "a#0=path:x", "#0=path"] {
            assert!(bad.parse::<Parameter>().is_err(), "{bad}");
        }
    }
}

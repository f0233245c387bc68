//! The Gateway API's conformance cases (`interop/gateway-api/cases`) on the pure matcher: which rule a request takes
//! and what the rule makes of request and answer. Time, retries and connections belong to the tests on live proxies.

#![allow(clippy::unwrap_used, reason = "a test may; clippy's own exemption covers only functions marked #[test]")]

mod routes;
mod yaml;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use leno_model::document;
use leno_model::resource::Resource;
use leno_model::snapshot::*;
use leno_route::cors::{self, CorsRequest, CorsVerdict};
use leno_route::{
    FieldLookup, FieldsMut, Redirected, RequestView, Router, change, host, precedence, redirect_location, rewrite_path,
    weighted,
};
use serde_json::Value;

use routes::Ports;

const GRPC_SERVICE: &str = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho";

/// Fields as a list of name (lower case) and value.
#[derive(Debug, Clone, Default)]
struct Headers(Vec<(String, String)>);

/// What happened to a request.
#[derive(Debug, Default)]
struct Outcome {
    status: u16,
    /// Who may answer, with its share, and what it sees.
    backends: Vec<(String, u32, Seen)>,
    answer: Headers,
    location: Option<String>,
    mirrors: Vec<(String, f64)>,
}

#[derive(Debug, Default)]
struct Seen {
    host: String,
    path: String,
    headers: Headers,
}

struct World {
    ports: Ports,
    /// Who answers for a service: itself, or the one whose instances it has.
    services: BTreeMap<String, String>,
    case: Value,
}

#[test]
fn every_case_of_the_gateway_api_holds_on_the_matcher() {
    let services = services();
    let (mut cases, mut requests, mut failures) = (0, 0, Vec::new());
    let mut files: Vec<PathBuf> = fs::read_dir(folder().join("cases")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let (head, resources) = text.split_once("\n---\n").unwrap_or((&text, ""));
        let case = yaml::read(head);
        let parsed = document::parse(&file.to_string_lossy(), resources);
        assert!(parsed.faults.is_empty(), "{}: {:?}", file.display(), parsed.faults);
        let later = case["later"].as_u64().unwrap_or(0) as usize;
        let older = parsed.resources.len() - later;
        let resources: Vec<(u64, &Resource)> = parsed
            .resources
            .iter()
            .enumerate()
            .map(|(n, written)| (u64::from(n >= older), &written.resource))
            .collect();
        let world = World { ports: Ports::new(&resources, &services), services: services.clone(), case };
        cases += 1;
        requests += world.check(&mut failures);
    }
    println!("{cases} cases, {requests} requests on the matcher");
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(cases >= 134, "only {cases} cases were found");
}

#[test]
fn every_case_of_the_suite_is_here_or_absent_with_a_reason() {
    let absent = yaml::read(&fs::read_to_string(folder().join("absent.yaml")).unwrap());
    let mut names: Vec<String> =
        list(&absent["absent"]).iter().flat_map(|group| list(&group["cases"])).map(text).collect();
    for file in fs::read_dir(folder().join("cases")).unwrap() {
        let head = fs::read_to_string(file.unwrap().path()).unwrap();
        names.push(head.lines().next().unwrap().strip_prefix("case: ").unwrap().to_owned());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 170);
}

// === impl World ===

impl World {
    /// Checks the case; gives the number of requests that the matcher can say something about.
    fn check(&self, failures: &mut Vec<String>) -> usize {
        let name = text(&self.case["case"]);
        for route in list(&self.case["notAccepted"]) {
            if self.ports.accepted.contains(&text(route)) {
                failures.push(format!("{name}: {route} is in effect"));
            }
        }
        let mut checked = 0;
        for request in list(&self.case["requests"]) {
            let dials_an_instance = request["connect"].as_str().is_some_and(|to| to.starts_with("instance of"));
            if dials_an_instance || request["byTls"] == true || request["handshake"].is_string() {
                continue;
            }
            checked += 1;
            let is_bytes = |request: &Value| ["tcp", "tls", "udp"].iter().any(|kind| !request[kind].is_null());
            let outcome = if is_bytes(request) { self.stream(request) } else { self.request(request) };
            for fault in outcome.faults(request, self.namespace()) {
                failures.push(format!("{name}: {request}: {fault}\n  {outcome:?}"));
            }
        }
        checked
    }

    fn namespace(&self) -> &str {
        if self.case["from"].is_string() { "conformance" } else { "infra" }
    }

    fn request(&self, asked: &Value) -> Outcome {
        let path = asked["grpc"].as_str().map(|call| format!("/{GRPC_SERVICE}/{call}"));
        let target = path.unwrap_or_else(|| asked["path"].as_str().unwrap_or("/").to_owned());
        let default_method = if asked["grpc"].is_string() { "POST" } else { "GET" };
        let method = asked["method"].as_str().unwrap_or(default_method).to_owned();
        let authority = asked["host"].as_str().unwrap_or("10.0.0.1").to_owned();
        let headers = Headers::from(&asked["headers"]);
        let (arranged, port) = self.rules(asked, &authority);
        let hosts =
            arranged.into_iter().map(|(pattern, rules)| VirtualHost { hostnames: vec![pattern], rules }).collect();
        let config = RouteConfig { name: "case".into(), hosts };
        let router = Router::compile(&config).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let request = RequestView { host: &authority, method: &method, path, query, fields: &headers };
        let Some(matched) = router.route(&request) else { return Outcome { status: 404, ..Outcome::default() } };
        let rule = config.hosts.iter().flat_map(|host| &host.rules).nth(matched.rule.index()).unwrap();
        let seen = Seen { host: authority.clone(), path: target.clone(), headers };
        let redirected =
            Redirected { scheme: "http", authority: &authority, port, target: &target, prefix_len: matched.prefix_len };
        outcome(rule, seen, &redirected, &method, &asked["acts"])
    }

    /// The rules for a request by host, and the port that it came on.
    fn rules(&self, asked: &Value, authority: &str) -> (Vec<(HostPattern, Vec<Rule>)>, u16) {
        if let Some(from) = asked["from"].as_str().or(self.case["from"].as_str()) {
            return self.mesh_rules(asked, authority, from.split('/').next().unwrap());
        }
        let gateway = asked["gateway"].as_str().or(self.case["gateway"].as_str()).expect("a case has a gateway");
        let port = asked["port"].as_u64().map_or(self.ports.first_port[gateway], |port| port as u16);
        let listeners = self.ports.gateways[&(gateway.to_owned(), port)].clone().into_iter().collect();
        (precedence::arrange_listeners(listeners), port)
    }

    fn mesh_rules(&self, asked: &Value, authority: &str, caller: &str) -> (Vec<(HostPattern, Vec<Rule>)>, u16) {
        let dialled = asked["connect"].as_str().unwrap_or(authority);
        let port = dialled.split_once(':').map_or(80, |(_, port)| port.parse().unwrap());
        let mut labels = host::bare_host(dialled).split('.');
        let (name, namespace) = (labels.next().unwrap(), labels.next().unwrap_or("conformance"));
        let service = format!("{namespace}/{name}");
        assert!(self.services.contains_key(&service), "{service}");
        let routes = self.ports.services.get(&service).cloned().unwrap_or_default();
        let on_port = routes.into_iter().filter(|(_, only, _)| only.is_none_or(|only| only == port));
        let (consumer, producer): (Vec<_>, Vec<_>) = on_port
            .filter(|(of, ..)| of == namespace || of == caller)
            .partition(|(of, ..)| of == caller && of != namespace);
        let taken = if consumer.is_empty() { producer } else { consumer };
        if taken.is_empty() {
            let itself = WeightedCluster {
                cluster: Some(service.into()),
                weight: 1,
                filters: vec![],
                affinity: Default::default(),
                rate_limits: Default::default(),
                injections: Default::default(),
            };
            let origin = Origin { resource: "default".into(), rule: 0, name: None };
            let rule = Rule {
                origin,
                when: Match::default(),
                filters: vec![],
                action: Action::Forward(vec![itself]),
                request_timeout: None,
                try_timeout: None,
                retry: None,
            };
            return (vec![(HostPattern::Any, vec![rule])], port);
        }
        (precedence::arrange(taken.into_iter().map(|(.., placed)| placed).collect()), port)
    }

    fn stream(&self, asked: &Value) -> Outcome {
        let gateway = asked["gateway"].as_str().or(self.case["gateway"].as_str()).unwrap();
        let port = ["port", "tcp", "udp"].iter().find_map(|kind| asked[kind].as_u64()).unwrap_or(443) as u16;
        // A port of HTTP, or none at all, is nobody's here.
        let listeners = self.ports.streams.get(&(gateway.to_owned(), port)).cloned().unwrap_or_default();
        let listeners = listeners.into_iter().collect();
        let mut map = host::HostMap::new();
        for (pattern, shares) in precedence::arrange_listeners(listeners) {
            map.insert(&pattern, shares);
        }
        let found = map.get(asked["tls"].as_str().unwrap_or("")).cloned().unwrap_or_default();
        let mut backends: Vec<(String, u32, Seen)> = found
            .iter()
            .filter_map(|share| share.split_once('='))
            .filter(|(name, _)| !name.is_empty())
            .map(|(name, weight)| (name.to_owned(), weight.parse().unwrap(), Seen::default()))
            .collect();
        // The first route decides; only one that was written with weights has more than one backend.
        if asked["shares"].is_null() {
            backends.truncate(1);
        }
        Outcome { status: 200, backends, ..Outcome::default() }
    }
}

/// What a rule makes of a request.
fn outcome(rule: &Rule, mut seen: Seen, asked: &Redirected<'_>, method: &str, acts: &Value) -> Outcome {
    let mut out = Outcome { status: 200, answer: Headers::from(&acts["headers"]), ..Outcome::default() };
    for filter in &rule.filters {
        if let RouteFilter::Cors(cors) = filter {
            let field = |name: &str| seen.headers.get(name);
            let (origin, wanted, headers) =
                (field("origin"), field("access-control-request-method"), field("access-control-request-headers"));
            let request = CorsRequest {
                method,
                origin: origin.as_deref(),
                request_method: wanted.as_deref(),
                request_headers: headers.as_deref(),
            };
            match cors::decide(cors, &request) {
                CorsVerdict::Forward => {}
                CorsVerdict::Decorate(fields) => fields.apply(&mut out.answer),
                CorsVerdict::Answer(fields) => {
                    let mut answer = Headers::default();
                    fields.apply(&mut answer);
                    return Outcome { status: 204, answer, ..Outcome::default() };
                }
            }
        }
    }
    match &rule.action {
        Action::Redirect(redirect) => {
            out.location = Some(redirect_location(redirect, asked));
            out.status = redirect.status;
        }
        Action::Reply(DirectReply { status, .. }) | Action::Refuse { status, .. } => out.status = *status,
        Action::Forward(clusters) => {
            rule.filters.iter().for_each(|filter| seen.apply(filter, asked, &mut out));
            for cluster in clusters {
                let mut own = Seen { host: seen.host.clone(), path: seen.path.clone(), headers: seen.headers.clone() };
                cluster.filters.iter().for_each(|filter| own.apply(filter, asked, &mut out));
                match &cluster.cluster {
                    Some(name) => out.backends.push((name.to_string(), cluster.weight, own)),
                    None if cluster.weight > 0 => out.status = 500,
                    None => {}
                }
            }
        }
    }
    out
}

// === impl Seen ===

impl Seen {
    fn apply(&mut self, filter: &RouteFilter, asked: &Redirected<'_>, out: &mut Outcome) {
        match filter {
            RouteFilter::RequestHeaders(changes) => change::apply(changes, &mut self.headers),
            RouteFilter::ResponseHeaders(changes) => change::apply(changes, &mut out.answer),
            RouteFilter::Rewrite(rewrite) => {
                if let Some(hostname) = &rewrite.hostname {
                    self.host = hostname.to_string();
                }
                if let Some(path) = &rewrite.path {
                    self.path = rewrite_path(path, asked.target, asked.prefix_len);
                }
            }
            RouteFilter::Mirror(mirror) => {
                let share = f64::from(mirror.numerator) / f64::from(mirror.denominator);
                out.mirrors.push((mirror.cluster.to_string(), share));
            }
            RouteFilter::Cors(_) => {}
        }
    }

    fn faults(&self, wanted: &Value, asked: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        let path = wanted["path"].as_str().or(asked["path"].as_str().filter(|_| asked["grpc"].is_null()));
        if path.is_some_and(|path| path != self.path) {
            faults.push(format!("the backend sees the path {}, not {path:?}", self.path));
        }
        let host = if wanted.is_null() { &asked["host"] } else { &wanted["host"] };
        if host.as_str().is_some_and(|host| host != self.host) {
            faults.push(format!("the backend sees the host {}, not {host}", self.host));
        }
        faults.extend(self.headers.faults(&wanted["headers"], &Value::Null, &wanted["absent"]));
        faults
    }
}

// === impl Outcome ===

impl Outcome {
    fn faults(&self, asked: &Value, namespace: &str) -> Vec<String> {
        let mut faults = Vec::new();
        // What a service does with its tries and its time is not for the matcher.
        let acts = asked["acts"]["status"].is_u64() || asked["acts"]["delay"].is_string();
        let code = asked["code"].as_u64().map(|code| if code == 12 { 404 } else { 0 });
        let statuses: Vec<u64> = match &asked["status"] {
            Value::Array(list) => list.iter().filter_map(Value::as_u64).collect(),
            status => vec![status.as_u64().or(code).unwrap_or(200)],
        };
        if !acts && !asked["tls"].is_string() && !statuses.contains(&u64::from(self.status)) {
            faults.push(format!("the status is {}, not {statuses:?}", self.status));
        }
        match asked["to"].as_str() {
            Some("nobody") if self.backends.is_empty() => {}
            Some(to) => {
                let to = full_name(to, namespace);
                if self.backends.iter().all(|(name, ..)| *name != to) || self.backends.len() != 1 {
                    faults.push(format!("the request goes to {:?}, not {to}", self.backends));
                }
            }
            None => {}
        }
        for (name, _, seen) in &self.backends {
            let short = name.split('/').nth(1).unwrap();
            let wanted = if asked["seenBy"].is_null() { &asked["seen"] } else { &asked["seenBy"][short] };
            if asked["tcp"].is_null() && asked["tls"].is_null() && asked["udp"].is_null() {
                faults.extend(seen.faults(wanted, asked));
            }
        }
        let answer = &asked["answer"];
        faults.extend(self.answer.faults(&answer["headers"], &answer["oneOf"], &answer["absent"]));
        faults.extend(self.location_faults(&asked["location"], asked));
        faults.extend(self.mirror_faults(&asked["mirrors"], namespace));
        faults.extend(self.share_faults(&asked["shares"], asked["within"].as_f64().unwrap_or(0.0), namespace));
        faults
    }

    fn location_faults(&self, wanted: &Value, asked: &Value) -> Option<String> {
        wanted.as_object()?;
        let Some(location) = &self.location else { return Some("there is no redirect".to_owned()) };
        let scheme = wanted["scheme"].as_str().unwrap_or("http");
        let host = wanted["host"].as_str().or(asked["host"].as_str().map(host::bare_host)).unwrap_or("10.0.0.1");
        let port = wanted["port"].as_u64().map_or_else(String::new, |port| format!(":{port}"));
        let path = wanted["path"].as_str().or(asked["path"].as_str()).unwrap_or("/");
        let wanted = format!("{scheme}://{host}{port}{path}");
        (*location != wanted).then(|| format!("the location is {location}, not {wanted}"))
    }

    fn mirror_faults(&self, wanted: &Value, namespace: &str) -> Option<String> {
        let wanted: Vec<(String, f64)> = list(wanted)
            .iter()
            .map(|mirror| match mirror.as_str() {
                Some(to) => (full_name(to, namespace), 1.0),
                None => (full_name(&text(&mirror["to"]), namespace), mirror["percent"].as_f64().unwrap() / 100.0),
            })
            .collect();
        (wanted != self.mirrors).then(|| format!("copies go to {:?}, not {wanted:?}", self.mirrors))
    }

    fn share_faults(&self, wanted: &Value, within: f64, namespace: &str) -> Option<String> {
        let wanted = wanted.as_object()?;
        let weights: Vec<u32> = self.backends.iter().map(|(_, weight, _)| *weight).collect();
        let (mut rng, mut taken) = (fastrand::Rng::with_seed(1), BTreeMap::new());
        for _ in 0..5000 {
            let index = weighted::pick(&weights, rng.u64(..)).expect("some weight is above 0");
            *taken.entry(self.backends[index].0.clone()).or_insert(0.0) += 1.0 / 5000.0;
        }
        let wrong = |(name, share): (&String, &Value)| {
            let got = taken.get(&full_name(name, namespace)).copied().unwrap_or(0.0);
            (got - share.as_f64().unwrap()).abs() > within
        };
        wanted.iter().any(wrong).then(|| format!("the shares are {taken:?}"))
    }
}

// === impl Headers ===

impl Headers {
    fn from(written: &Value) -> Self {
        let pairs = written.as_object().into_iter().flatten();
        Self(pairs.map(|(name, value)| (name.to_lowercase(), text(value))).collect())
    }

    /// The values of a name, joined.
    fn get(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.0.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    fn faults(&self, wanted: &Value, one_of: &Value, absent: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        let bare = |text: &str| text.replace(' ', "");
        for (name, value) in wanted.as_object().into_iter().flatten() {
            if self.get(name) != Some(text(value)) {
                faults.push(format!("{name} is {:?}, not {value}", self.get(name)));
            }
        }
        for (name, values) in one_of.as_object().into_iter().flatten() {
            let got = self.get(name).map(|got| bare(&got));
            if !list(values).iter().any(|value| Some(bare(&text(value))) == got) {
                faults.push(format!("{name} is {got:?}, not one of {values}"));
            }
        }
        for name in list(absent) {
            if self.get(&text(name)).is_some() {
                faults.push(format!("{name} is there"));
            }
        }
        faults
    }
}

impl FieldLookup for Headers {
    fn each_value<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.0.iter().filter(|(n, _)| n == name).for_each(|(_, value)| visit(value.as_bytes()));
    }
}

impl FieldsMut for Headers {
    fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.append(name, value);
    }

    fn append(&mut self, name: &str, value: &str) {
        self.0.push((name.to_lowercase(), value.to_owned()));
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }
}

// === reading ===

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../interop/gateway-api")
}

fn services() -> BTreeMap<String, String> {
    let written = yaml::read(&fs::read_to_string(folder().join("services.yaml")).unwrap());
    let services = written["services"].as_object().unwrap().iter();
    let answers = |(name, service): (&String, &Value)| match list(&service["sameInstancesAs"]) {
        [one] => full_name(&text(one), name.split('/').next().unwrap()),
        _ => name.clone(),
    };
    services.map(|service| (service.0.clone(), answers(service))).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("{namespace}/{name}") }
}

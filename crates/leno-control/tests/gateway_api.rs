//! The Gateway API's conformance cases (`interop/gateway-api/cases`) from the text of the resources through validation,
//! merge and snapshot to the matcher: which destination a request gets, and what becomes of its path and host. What
//! filters do to fields is tested with the matcher in leno-route; time, retries and connections on live proxies.

#![allow(clippy::unwrap_used, reason = "a test may; clippy's own exemption covers only functions marked #[test]")]

mod mesh;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use leno_control::Error;
use leno_model::document::{self, Parsed};
use leno_model::instance::{InstancePort, ProbeResult, Protocol};
use leno_model::resource::kind::ResourceKey;
use leno_model::snapshot::*;
use leno_route::{FieldLookup, Redirected, RequestView, Router, host, redirect_location, rewrite_path};
use serde_json::Value;

use mesh::{Mesh, apply, gateway, instance, node};

const GRPC_SERVICE: &str = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho";

struct Fields(Vec<(String, String)>);

/// What happens to a request.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    status: u16,
    /// The services that may get it with their shares, and the paths and hosts that they see.
    shares: BTreeMap<String, u32>,
    seen: Vec<(String, String)>,
    location: Option<String>,
    mirrors: Vec<(String, u32, u32)>,
}

struct Case {
    name: String,
    value: Value,
    mesh: Mesh,
    parsed: Parsed,
    /// Whether validation refused some: they are not in effect.
    refused: bool,
}

#[tokio::test]
async fn every_case_of_the_gateway_api_holds_from_text_to_matcher() {
    let mut files: Vec<PathBuf> = fs::read_dir(folder().join("cases")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let (mut requests, mut failures) = (0, Vec::new());
    for file in &files {
        let case = Case::read(file).await;
        failures.extend(case.acceptance_faults());
        if case.refused && case.value["mayRefuse"] == true {
            continue;
        }
        requests += case.hold(&case.value, &mut failures);
        let deleted = &case.value["deleted"];
        if deleted.is_object() {
            case.delete(list(&deleted["resources"])).await;
            requests += case.hold(deleted, &mut failures);
        }
        for step in list(&case.value["changed"]) {
            case.change(list(&step["resources"])).await;
            requests += case.hold(step, &mut failures);
        }
    }
    println!("{} cases of the Gateway API, {requests} requests, from text to matcher", files.len());
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    assert!(files.len() >= 134, "only {} cases were found", files.len());
}

// === impl Case ===

impl Case {
    async fn read(file: &PathBuf) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let (head, resources) = text.split_once("\n---\n").unwrap_or((&text, ""));
        let value = document::values("case", head).0.remove(0);
        let name = value["case"].as_str().unwrap().to_owned();
        let parsed = document::parse(&name, resources);
        let mesh = Mesh::new().await;
        mesh.apply(&declare(&mesh)).await.unwrap();
        let refused = install(&mesh, &value, &parsed).await;
        Self { name, value, mesh, parsed, refused }
    }

    fn namespace(&self) -> &str {
        if self.value["from"].is_string() { "conformance" } else { "infra" }
    }

    /// Asks what is to be asked, and looks for the references that are not to be resolved; how many requests there were.
    fn hold(&self, told: &Value, failures: &mut Vec<String>) -> usize {
        for (route, reason) in told["unresolved"].as_object().into_iter().flatten() {
            let key: ResourceKey = route.parse().unwrap();
            let statuses = self.mesh.control.statuses();
            let said = statuses.iter().filter(|status| status.resource == key).flat_map(|status| &status.conditions);
            let is_it =
                |c: &leno_control::status::Condition| c.r#type == "ResolvedRefs" && !c.status && *reason == *c.reason;
            if !said.clone().any(is_it) {
                failures.push(format!("{}: {route} is not {reason}: {:?}", self.name, said.collect::<Vec<_>>()));
            }
        }
        failures.extend(self.status_faults(told));
        let by_tls = |request: &&Value| request["byTls"] == true || request["handshake"].is_string();
        let requests: Vec<&Value> = list(&told["requests"]).iter().filter(|request| !by_tls(request)).collect();
        for request in &requests {
            let outcome = self.ask(request);
            let faults = outcome.faults(request, self.namespace());
            failures
                .extend(faults.into_iter().map(|fault| format!("{}: {request}: {fault}\n  {outcome:?}", self.name)));
        }
        requests.len()
    }

    /// Resources that are not as good as they must be, or not in the conflict that they must be in.
    fn status_faults(&self, told: &Value) -> Vec<String> {
        let statuses = self.mesh.control.statuses();
        let of = |resource: &Value| {
            let key: ResourceKey = resource.as_str().unwrap().parse().unwrap();
            statuses.iter().find(|status| status.resource == key)
        };
        let is_bad = |resource: &&Value| !of(resource).is_some_and(leno_control::status::ResourceStatus::is_good);
        let bad = list(&told["accepted"]).iter().filter(is_bad);
        let bad = bad.map(|resource| format!("{}: {resource} is not accepted: {:?}", self.name, of(resource)));
        let conflict = |c: &leno_control::status::Condition| c.r#type == "Conflicted" && c.status;
        let is_alone = |resource: &&Value| !of(resource).is_some_and(|status| status.conditions.iter().any(conflict));
        let alone = list(&told["conflicted"]).iter().filter(is_alone);
        let alone = alone.map(|resource| format!("{}: {resource} is not in conflict", self.name));
        let mut faults: Vec<String> = bad.chain(alone).collect();
        for (resource, condition) in told["says"].as_object().into_iter().flatten() {
            let said = of(&Value::from(resource.as_str())).map(|status| &status.conditions);
            let says = |c: &leno_control::status::Condition| *condition == *c.r#type && c.status;
            if !said.is_some_and(|said| said.iter().any(says)) {
                faults.push(format!("{}: {resource} does not say {condition}: {said:?}", self.name));
            }
        }
        faults
    }

    /// Puts these in the place of those of their names.
    async fn change(&self, new: &[Value]) {
        let texts: Vec<String> = new.iter().map(Value::to_string).collect();
        let new = document::parse(&self.name, &texts.join("\n---\n"));
        let mut parsed = self.parsed.clone();
        parsed.resources.retain(|old| new.resources.iter().all(|new| new.resource.key != old.resource.key));
        parsed.resources.extend(new.resources);
        self.mesh.control.apply(leno_control::Apply { parsed, ..apply("older", "") }).await.unwrap();
    }

    async fn delete(&self, resources: &[Value]) {
        let resources = resources.iter().map(|key| key.as_str().unwrap().parse().unwrap()).collect();
        let delete = leno_control::Delete {
            principal: mesh::principal("ann"),
            from: None,
            set: "older".into(),
            resources,
            dry_run: false,
            expected: None,
            summary: None,
        };
        self.mesh.control.delete(delete).await.unwrap();
    }

    /// Routes that must not be in effect and are.
    fn acceptance_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let may_refuse = self.value["mayRefuse"] == true || !list(&self.value["notAccepted"]).is_empty();
        if self.refused && !may_refuse {
            faults.push(format!("{}: the set is refused: {:?}", self.name, self.mesh.control.check(&self.parsed)));
        }
        for route in list(&self.value["notAccepted"]).iter().filter_map(Value::as_str) {
            let key: ResourceKey = route.parse().unwrap();
            let in_force = self.mesh.control.statuses().into_iter().find(|status| status.resource == key);
            let accepted =
                in_force.filter(|status| status.conditions.iter().all(|c| c.r#type != "Accepted" || c.status));
            faults.extend(accepted.map(|_| format!("{}: {route} is accepted", self.name)));
        }
        faults
    }

    fn ask(&self, asked: &Value) -> Outcome {
        let from = asked["from"].as_str().or(self.value["from"].as_str());
        let (listener, node) = match from {
            Some(from) => {
                let node = node(from.split('/').next().unwrap());
                let dialled = asked["connect"].as_str().or(asked["host"].as_str()).unwrap();
                let dialled = match (asked["connect"].as_str(), asked["port"].as_u64()) {
                    (Some(connect), Some(port)) if !connect.contains(':') => format!("{connect}:{port}"),
                    _ => dialled.to_owned(),
                };
                (self.mesh.listener(&node, dialled.trim_start_matches("instance of ")), node)
            }
            None => {
                let name = asked["gateway"].as_str().or(self.value["gateway"].as_str()).unwrap();
                let node = gateway("infra", name);
                let port = ["port", "tcp", "udp"].iter().find_map(|kind| asked[kind].as_u64());
                let port = port.or(asked["tls"].is_string().then_some(443));
                let names =
                    leno_xds::provide::Provide::names(&self.mesh.control, &node, leno_xds::kind::Kind::Listener);
                let udp = if asked["udp"].is_u64() { "/udp" } else { "" };
                let named = names.iter().find(|n| port.is_none_or(|port| n.ends_with(&format!(":{port}{udp}"))));
                let first = self.first_port(name);
                let name = match port {
                    Some(_) => named.cloned(),
                    None => names.iter().find(|n| n.ends_with(&format!(":{first}"))).cloned(),
                };
                (name.and_then(|name| self.mesh.listener(&node, &name)), node)
            }
        };
        let Some(listener) = listener else { return Outcome::default() };
        if asked["tcp"].is_u64() || asked["udp"].is_u64() {
            return forward(&listener.tcp, 200);
        }
        if let Some(name) = asked["tls"].as_str() {
            let takes = |rule: &&TlsRule| rule.hostnames.is_empty() || rule.hostnames.iter().any(|h| covers(h, name));
            let rule = listener.tls.iter().find(takes);
            return rule.map_or_else(Outcome::default, |rule| forward(&rule.clusters, 200));
        }
        let config = self.mesh.routes(&node, listener.http.as_ref().unwrap()).unwrap();
        request(&config, asked, listener.port)
    }

    fn first_port(&self, gateway: &str) -> u64 {
        let is_it = |w: &&document::Written| w.value["kind"] == "Gateway" && w.value["metadata"]["name"] == gateway;
        let written = self.parsed.resources.iter().find(is_it).unwrap();
        written.value["spec"]["listeners"][0]["port"].as_u64().unwrap()
    }
}

/// Applies the resources; where the set is refused, those without faults, as if the others did not exist.
async fn install(mesh: &Mesh, case: &Value, parsed: &Parsed) -> bool {
    let older = parsed.resources.len() - case["later"].as_u64().unwrap_or(0) as usize;
    let part = |range: std::ops::Range<usize>| Parsed {
        resources: parsed.resources[range].to_vec(),
        faults: parsed.faults.clone(),
    };
    let mut refused = false;
    for (set, parsed) in [("older", part(0..older)), ("later", part(older..parsed.resources.len()))] {
        match mesh.control.apply(leno_control::Apply { parsed: parsed.clone(), ..apply(set, "") }).await {
            Ok(_) => {}
            Err(Error::Faults(faults)) => {
                refused = true;
                let bad = |written: &document::Written| {
                    let alone = Parsed { resources: vec![written.clone()], faults: Vec::new() };
                    let own =
                        mesh.control.check(&alone).iter().any(|f| f.severity == leno_model::fault::Severity::Error);
                    own || faults.iter().any(|f| f.path.is_empty())
                };
                let resources = parsed.resources.iter().filter(|w| !bad(w)).cloned().collect();
                let rest = Parsed { resources, faults: Vec::new() };
                let _ = mesh.control.apply(leno_control::Apply { parsed: rest, ..apply(set, "") }).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    refused
}

/// Registers the instances that the cases speak of, and declares their services.
fn declare(mesh: &Mesh) -> String {
    let text = fs::read_to_string(folder().join("services.yaml")).unwrap();
    let services = document::values("services", &text).0.remove(0);
    let mut resources = String::new();
    for (number, (name, service)) in services["services"].as_object().unwrap().iter().enumerate() {
        let (namespace, name) = name.split_once('/').unwrap();
        let ports: Vec<(u16, &Value)> =
            service["ports"].as_object().unwrap().iter().map(|(port, said)| (port.parse().unwrap(), said)).collect();
        if ports.is_empty() {
            continue;
        }
        let written: Vec<String> = ports.iter().map(|(number, said)| port(*number, said)).collect();
        resources += &format!(
            "---\napiVersion: leno.mesh/v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  ports: [{}]\n",
            written.join(", ")
        );
        let ports = ports.iter().map(|(number, _)| InstancePort {
            number: *number,
            name: None,
            protocol: Protocol::Detect,
            proxy_port: None,
        });
        let mut one = instance(&format!("{name}.{namespace}"), "one", number as u8, &[]);
        one.ports = ports.collect();
        mesh.instances.put(one, ProbeResult::Unknown);
    }
    resources
}

/// A port as a service declares it.
fn port(number: u16, said: &Value) -> String {
    let protocol = match said.as_str().or(said["speaks"].as_str()).unwrap() {
        "udp" => String::new(),
        "https" => ", protocol: http".to_owned(),
        "grpcs" => ", protocol: grpc".to_owned(),
        speaks => format!(", protocol: {speaks}"),
    };
    let name = said["name"].as_str().map(|name| format!(", name: {name}")).unwrap_or_default();
    format!("{{port: {number}{protocol}{name}}}")
}

fn request(config: &RouteConfig, asked: &Value, port: u16) -> Outcome {
    let call = asked["grpc"].as_str().map(|call| format!("/{GRPC_SERVICE}/{call}"));
    let target = call.unwrap_or_else(|| asked["path"].as_str().unwrap_or("/").to_owned());
    let method = asked["method"].as_str().unwrap_or(if asked["grpc"].is_string() { "POST" } else { "GET" });
    let authority = asked["host"].as_str().unwrap_or("10.0.0.1");
    let fields = asked["headers"].as_object().into_iter().flatten();
    let fields = Fields(fields.map(|(name, value)| (name.to_lowercase(), words(value))).collect());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let router = Router::compile(config).unwrap();
    let view = RequestView { host: authority, method, path, query, fields: &fields };
    let Some(matched) = router.route(&view) else { return Outcome { status: 404, ..Outcome::default() } };
    let rule = config.hosts.iter().flat_map(|host| &host.rules).nth(matched.rule.index()).unwrap();
    let redirected = Redirected { scheme: "http", authority, port, target: &target, prefix_len: matched.prefix_len };
    match &rule.action {
        Action::Redirect(redirect) => {
            let location = Some(redirect_location(redirect, &redirected));
            Outcome { status: redirect.status, location, ..Outcome::default() }
        }
        Action::Reply(DirectReply { status, .. }) | Action::Refuse { status, .. } => {
            Outcome { status: *status, ..Outcome::default() }
        }
        Action::Forward(clusters) => {
            let answers = rule.filters.iter().any(|f| matches!(f, RouteFilter::Cors(_))) && method == "OPTIONS";
            let mut outcome = forward(clusters, if answers { 204 } else { 200 });
            for cluster in clusters {
                outcome.follow(rule.filters.iter().chain(&cluster.filters), &redirected);
            }
            outcome.mirrors.dedup();
            outcome
        }
    }
}

fn forward(clusters: &[WeightedCluster], status: u16) -> Outcome {
    let mut outcome = Outcome { status, ..Outcome::default() };
    for weighted in clusters.iter().filter(|weighted| weighted.weight > 0) {
        match &weighted.cluster {
            Some(cluster) => *outcome.shares.entry(service_of(cluster)).or_default() += weighted.weight,
            None => outcome.status = 500,
        }
    }
    outcome
}

/// `echo-v1.conformance.mesh:80` as `conformance/echo-v1`, or the service whose instances it has.
fn service_of(cluster: &str) -> String {
    static SERVICES: LazyLock<Value> = LazyLock::new(|| {
        let text = fs::read_to_string(folder().join("services.yaml")).unwrap();
        document::values("services", &text).0.remove(0)
    });
    let mut labels = cluster.split('.');
    let (name, namespace) = (labels.next().unwrap(), labels.next().unwrap());
    match list(&SERVICES["services"][format!("{namespace}/{name}")]["sameInstancesAs"]) {
        [one] => format!("{namespace}/{}", one.as_str().unwrap()),
        _ => format!("{namespace}/{name}"),
    }
}

fn covers(pattern: &HostPattern, name: &str) -> bool {
    host::covers(pattern, &HostPattern::Exact(name.into()))
}

// === impl Outcome ===

impl Outcome {
    fn follow<'a>(&mut self, filters: impl Iterator<Item = &'a RouteFilter>, asked: &Redirected<'_>) {
        let (mut path, mut host) = (asked.target.to_owned(), asked.authority.to_owned());
        for filter in filters {
            match filter {
                RouteFilter::Rewrite(rewrite) => {
                    host = rewrite.hostname.as_ref().map_or(host, |name| name.to_string());
                    path = rewrite.path.as_ref().map_or(path, |to| rewrite_path(to, asked.target, asked.prefix_len));
                }
                RouteFilter::Mirror(mirror) => {
                    self.mirrors.push((service_of(&mirror.cluster), mirror.numerator, mirror.denominator));
                }
                _ => {}
            }
        }
        self.seen.push((path, host));
    }

    fn faults(&self, asked: &Value, namespace: &str) -> Vec<String> {
        let mut faults = Vec::new();
        // What a service does with its tries and its time is not for the matcher.
        let acts = asked["acts"]["status"].is_u64() || asked["acts"]["delay"].is_string();
        let stream = ["tls", "tcp", "udp"].iter().any(|kind| !asked[kind].is_null());
        let code = asked["code"].as_u64().map(|code| if code == 12 { 404 } else { 200 });
        let statuses: Vec<u64> = match &asked["status"] {
            Value::Array(all) => all.iter().filter_map(Value::as_u64).collect(),
            status => vec![status.as_u64().or(code).unwrap_or(200)],
        };
        if !acts && !stream && !statuses.contains(&u64::from(self.status)) {
            faults.push(format!("the status is {}, not {statuses:?}", self.status));
        }
        let full = |name: &str| if name.contains('/') { name.to_owned() } else { format!("{namespace}/{name}") };
        match asked["to"].as_str() {
            Some("nobody") if self.shares.is_empty() || self.status == 204 => {}
            Some(to) if self.shares.keys().ne([&full(to)]) => {
                faults.push(format!("it goes to {:?}, not {to}", self.shares));
            }
            _ => {}
        }
        if let Some(shares) = asked["shares"].as_object() {
            let sum = f64::from(self.shares.values().sum::<u32>());
            let share = |name: &str| f64::from(self.shares.get(&full(name)).copied().unwrap_or(0)) / sum;
            let off = |(name, wanted): (&String, &Value)| (share(name) - wanted.as_f64().unwrap()).abs() > 0.001;
            faults.extend(shares.iter().any(off).then(|| format!("the shares are {:?}", self.shares)));
        }
        let mirrored: Vec<String> = self.mirrors.iter().map(|(to, ..)| to.clone()).collect();
        let wanted = |mirror: &Value| full(mirror.as_str().or(mirror["to"].as_str()).unwrap());
        let wanted: Vec<String> = list(&asked["mirrors"]).iter().map(wanted).collect();
        faults.extend((mirrored != wanted).then(|| format!("copies go to {mirrored:?}, not {wanted:?}")));
        faults.extend(self.seen_faults(asked));
        faults.extend(self.location_faults(asked));
        faults
    }

    fn seen_faults(&self, asked: &Value) -> Vec<String> {
        if asked["seen"].is_null() || asked["grpc"].is_string() {
            return Vec::new();
        }
        let path = asked["seen"]["path"].as_str().or(asked["path"].as_str()).unwrap_or("/");
        let host = asked["seen"]["host"].as_str();
        let off = |(p, h): &&(String, String)| p != path || host.is_some_and(|host| host != h);
        self.seen.iter().filter(off).map(|(p, h)| format!("the service sees {h}{p}")).collect()
    }

    fn location_faults(&self, asked: &Value) -> Option<String> {
        let wanted = &asked["location"];
        wanted.as_object()?;
        let scheme = wanted["scheme"].as_str().unwrap_or("http");
        let host = wanted["host"].as_str().or(asked["host"].as_str().map(host::bare_host)).unwrap_or("10.0.0.1");
        let port = wanted["port"].as_u64().map_or_else(String::new, |port| format!(":{port}"));
        let path = wanted["path"].as_str().or(asked["path"].as_str()).unwrap_or("/");
        let wanted = format!("{scheme}://{host}{port}{path}");
        (self.location.as_ref() != Some(&wanted)).then(|| format!("the location is {:?}, not {wanted}", self.location))
    }
}

impl FieldLookup for Fields {
    fn each_value<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        self.0.iter().filter(|(n, _)| n == name).for_each(|(_, value)| visit(value.as_bytes()));
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../interop/gateway-api")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

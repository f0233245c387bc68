//! The Gateway API's conformance cases (`interop/gateway-api/cases`) on live proxies: `leno apply` to a `leno server`,
//! gateways and sidecars of the built binary, services with real sockets, each request over HTTP/1 and HTTP/2.
//!
//! Everything runs in a network namespace of its own, so that gateways have the ports that their cases name (80, 443).
//! A call is HTTP/2 by nature and an upgrade HTTP/1; bytes and datagrams are asked once.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod ask;
mod echo;
mod expect;
#[path = "../kit/mod.rs"]
mod kit;
mod tls;
mod way;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use leno_model::document;
use serde_json::Value;

use ask::Client;
use echo::Services;
use expect::{Sent, list};
use kit::mesh::{Mesh, Process};
use tls::{Asked, Tls};
use way::{Way, Ways};

const TEST: &str = "every_case_of_the_gateway_api_holds_on_live_proxies";
/// Says that the test is inside its namespace.
const INSIDE: &str = "LENO_TEST_INSIDE";
const ENTER: [&str; 4] = ["--user", "--map-root-user", "--net", "--"];
/// The cases of the suite.
const SUITE: usize = 170;
/// Shares are of so many times what the case asks, so that they are off by chance in one run of a million.
const SHARE_TIMES: u64 = 5;
/// Retries are held to a fifth of the requests of ten seconds: so many requests that succeed come before one that is to
/// be sent again.
const BEFORE_RETRY: usize = 50;
/// How long copies may take to arrive.
const COPY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long what is to hold soon may take.
const SOON: Duration = Duration::from_secs(10);
/// What is in force between two cases, so that nothing keeps its age.
const NOTHING: &str =
    "apiVersion: leno.mesh/v1\nkind: Service\nmetadata: {name: nothing}\nspec: {ports: [{port: 1}]}\n";
const NOTHING_LATER: &str =
    "apiVersion: leno.mesh/v1\nkind: Service\nmetadata: {name: nothing-later}\nspec: {ports: [{port: 1}]}\n";

#[test]
fn every_case_of_the_gateway_api_holds_on_live_proxies() {
    if std::env::var_os(INSIDE).is_some() {
        return run_cases();
    }
    if let Some(program) = kit::missing(&["unshare", "ip"]) {
        return kit::skip(TEST, &format!("{program} is not installed"));
    }
    let probe = Command::new("unshare").args(ENTER).args(["ip", "link", "set", "lo", "up"]).output().unwrap();
    if !probe.status.success() {
        let why = String::from_utf8_lossy(&probe.stderr).trim().to_owned();
        return kit::skip(TEST, &format!("no network namespace: {why}"));
    }
    let script = "ip link set lo up && exec \"$@\"";
    let itself = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(ENTER).args(["sh", "-c", script, "sh"]).arg(itself).args(["--exact", TEST, "--nocapture"]);
    let ran = command.env(INSIDE, "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}\n{err}");
    let line = out.lines().find_map(|line| line.find("gateway api").map(|at| &line[at..]));
    kit::figures(format_args!("{}", line.expect("it says what it did")));
}

/// A case, and what may be asked in it.
struct Case<'a> {
    value: Value,
    mesh: &'a Mesh,
    services: &'a Services,
    tls: &'a Tls,
    /// The resources as text, one each.
    resources: Vec<(Value, String)>,
    /// The proxy that is asked at the moment, by name: gateways have the same ports.
    proxy: Option<(String, Process, Ways)>,
    counts: &'a mut Counts,
    faults: Vec<String>,
}

#[derive(Default)]
struct Counts {
    /// Over HTTP/1, over HTTP/2.
    requests: [u64; 2],
    /// Of the requests, those over TLS.
    over_tls: u64,
    streams: u64,
    datagrams: u64,
    refused: u64,
}

fn run_cases() {
    let started = Instant::now();
    let mesh = Mesh::new();
    let tls = Arc::new(Tls::new(&mesh.leno.path(way::CERTIFICATES)));
    let services = echo::start(&fs::read_to_string(folder().join("services.yaml")).unwrap(), &tls);
    let _server = mesh.server();
    put(&mesh, "services", &services.resources).unwrap();
    let mut files: Vec<PathBuf> = fs::read_dir(folder().join("cases")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    let only = std::env::var("LENO_TEST_CASE").ok();
    files.retain(|file| only.as_ref().is_none_or(|only| file.to_string_lossy().contains(only)));
    let (mut counts, mut failures) = (Counts::default(), Vec::new());
    for file in &files {
        let mut case = Case::read(file, &mesh, &services, &tls, &mut counts);
        case.run();
        failures.append(&mut case.faults);
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
    let [http1, http2] = counts.requests;
    kit::figures(format_args!(
        "gateway api 1.7.0: {} of {SUITE} cases, {http1} requests over HTTP/1, {http2} over HTTP/2, {} of them over TLS, {} connections of bytes, {} datagrams, {} sets refused as they may be, {} absent (reasons in interop/gateway-api/absent.yaml), {:.1} s",
        files.len(),
        counts.over_tls,
        counts.streams,
        counts.datagrams,
        counts.refused,
        absent(),
        started.elapsed().as_secs_f64()
    ));
    assert!(only.is_some() || files.len() + absent() == SUITE, "{} cases and {} absent", files.len(), absent());
}

/// Puts a set in force as it is; what `leno apply` said when it refused it.
fn put(mesh: &Mesh, set: &str, resources: &str) -> Result<(), String> {
    put_with(mesh, set, resources, &[])
}

fn put_with(mesh: &Mesh, set: &str, resources: &str, more: &[&str]) -> Result<(), String> {
    let file = format!("{set}.yaml");
    fs::write(mesh.leno.path(&file), resources).unwrap();
    let api = format!("http://{}", mesh.http);
    let arguments = ["apply", "-f", &file, "--set", set, "--prune", "--api", &api, "--data-dir", "state"];
    let ran = mesh.leno.command_under_load(&[&arguments, more].concat()).output().unwrap();
    if ran.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ran.stderr).into_owned()) }
}

fn absent() -> usize {
    let text = fs::read_to_string(folder().join("absent.yaml")).unwrap();
    let value = document::values("absent", &text).0.remove(0);
    list(&value["absent"]).iter().map(|group| list(&group["cases"]).len()).sum()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../interop/gateway-api")
}

// === impl Case ===

impl<'a> Case<'a> {
    fn read(file: &Path, mesh: &'a Mesh, services: &'a Services, tls: &'a Tls, counts: &'a mut Counts) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let mut documents = text.split("\n---\n");
        let value = document::values("case", documents.next().unwrap()).0.remove(0);
        let resources = documents.map(|text| (document::values("case", text).0.remove(0), text.to_owned())).collect();
        Self { value, mesh, services, tls, resources, proxy: None, counts, faults: Vec::new() }
    }

    fn run(&mut self) {
        if !self.install() {
            return;
        }
        self.hold(&self.value.clone());
        let deleted = self.value["deleted"].clone();
        if deleted.is_object() {
            let gone = list(&deleted["resources"]).to_vec();
            self.resources.retain(|(value, _)| !gone.contains(&Value::from(key(value))));
            self.put_again();
            self.hold(&deleted);
        }
        for step in list(&self.value["changed"]).to_vec() {
            for new in list(&step["resources"]) {
                self.resources.retain(|(value, _)| key(value) != key(new));
                // JSON is YAML.
                self.resources.push((new.clone(), new.to_string()));
            }
            self.put_again();
            self.hold(&step);
        }
    }

    /// Puts the resources in force as they are now. The gateway runs on; it has them when the command says so.
    fn put_again(&mut self) {
        let texts: Vec<&str> = self.resources.iter().map(|(_, text)| text.as_str()).collect();
        put_with(self.mesh, "case", &texts.join("\n---\n"), &["--wait=20s"]).unwrap();
    }

    /// Looks into the status, and asks what is to be asked.
    fn hold(&mut self, told: &Value) {
        self.check_status(told);
        for asked in list(&told["requests"]).to_vec() {
            let way = self.way(&asked);
            leno_runtime::threads::control(self.ask(&asked, &way)).unwrap();
        }
    }

    /// References that are not to be resolved, resources that are good, and those before which another comes.
    fn check_status(&mut self, told: &Value) {
        for (route, reason) in told["unresolved"].as_object().into_iter().flatten() {
            let (_, status) = self.mesh.api().call("GET", "/api/v1/status", "").unwrap();
            let bad = list(&status["resources"]["bad"]).iter();
            let of_route = bad.filter(|status| status["resource"] == route.to_lowercase());
            let said: Vec<&Value> = of_route.flat_map(|status| list(&status["conditions"])).collect();
            if !said.iter().any(|c| c["type"] == "ResolvedRefs" && c["status"] == false && c["reason"] == *reason) {
                self.fail(&format!("{route} is not {reason}: {said:?}"));
            }
        }
        for (resource, condition) in told["says"].as_object().into_iter().flatten() {
            let (_, one) = self.mesh.api().call("GET", &format!("/api/v1/resources/{resource}"), "").unwrap();
            let says = |c: &Value| c["type"] == *condition && c["status"] == true;
            if !list(&one["status"]["conditions"]).iter().any(says) {
                self.fail(&format!("{resource} does not say {condition}: {}", one["status"]));
            }
        }
        let (good, other) = (list(&told["accepted"]), list(&told["conflicted"]));
        if good.is_empty() && other.is_empty() {
            return;
        }
        let (_, status) = self.mesh.api().call("GET", "/api/v1/status", "").unwrap();
        let bad = list(&status["resources"]["bad"]);
        let said_of = |resource: &Value| {
            let resource = resource.as_str().unwrap().to_lowercase();
            bad.iter().find(|status| status["resource"] == resource)
        };
        for resource in good {
            if let Some(said) = said_of(resource) {
                self.fail(&format!("{resource} is not accepted: {said}"));
            }
        }
        let is_conflict = |c: &Value| c["type"] == "Conflicted" && c["status"] == true;
        for resource in other {
            let said = said_of(resource);
            if !said.is_some_and(|said| list(&said["conditions"]).iter().any(is_conflict)) {
                self.fail(&format!("{resource} is not in conflict: {said:?}"));
            }
        }
    }

    fn fail(&mut self, fault: &str) {
        self.faults.push(format!("{}: {fault}", self.value["case"].as_str().unwrap()));
    }

    /// Puts the resources in force; whether there is something to be asked.
    fn install(&mut self) -> bool {
        put(self.mesh, "later", NOTHING_LATER).unwrap();
        put(self.mesh, "case", NOTHING).unwrap();
        let older = self.resources.len() - self.value["later"].as_u64().unwrap_or(0) as usize;
        match put(self.mesh, "case", &self.text(0..older, false)) {
            Ok(()) => self.check_acceptance(),
            Err(_) if self.value["mayRefuse"] == true => {
                self.counts.refused += 1;
                return false;
            }
            Err(_) if !list(&self.value["notAccepted"]).is_empty() => {
                self.counts.refused += 1;
                let rest = put(self.mesh, "case", &self.text(0..older, true));
                let refused = rest.map_err(|said| format!("refused without the routes that must be refused: {said}"));
                refused.unwrap_or_else(|said| self.fail(&said));
            }
            Err(said) => {
                self.fail(&format!("the set is refused: {said}"));
                return false;
            }
        }
        if older < self.resources.len()
            && let Err(said) = put(self.mesh, "later", &self.text(older..self.resources.len(), false))
        {
            self.fail(&format!("the later set is refused: {said}"));
        }
        true
    }

    /// These resources, or those of them that must be accepted.
    fn text(&self, of: std::ops::Range<usize>, accepted_only: bool) -> String {
        let refused = list(&self.value["notAccepted"]);
        let wanted = |(value, _): &&(Value, String)| !accepted_only || !refused.contains(&Value::from(key(value)));
        let texts: Vec<&str> = self.resources[of].iter().filter(wanted).map(|(_, text)| text.as_str()).collect();
        if texts.is_empty() { NOTHING.to_owned() } else { texts.join("\n---\n") }
    }

    /// Routes that must not be in effect stand in the status as such.
    fn check_acceptance(&mut self) {
        let routes: Vec<String> =
            list(&self.value["notAccepted"]).iter().map(|route| route.as_str().unwrap().to_owned()).collect();
        if routes.is_empty() {
            return;
        }
        let (_, status) = self.mesh.api().call("GET", "/api/v1/status", "").unwrap();
        let bad = status["resources"]["bad"].to_string().to_lowercase();
        for route in routes.iter().filter(|route| !bad.contains(&route.to_lowercase())) {
            self.fail(&format!("{route} is accepted; the status has {bad}"));
        }
    }

    async fn ask(&mut self, asked: &Value, way: &Way) {
        if asked["tcp"].is_u64() || asked["tls"].is_string() || asked["udp"].is_u64() {
            return self.ask_bytes(asked, way).await;
        }
        if asked["handshake"] == "fails" {
            let over = over(asked, false).expect("what fails is over TLS");
            let fault = ask::refused(way.to, self.tls, &over).await;
            return fault.into_iter().for_each(|fault| self.fail(&format!("{asked}: {fault}")));
        }
        for http2 in [false, true] {
            let only2 = asked["grpc"].is_string() || asked["version"] == 2;
            let only1 = asked["websocket"].is_array();
            if (only2 && !http2) || (only1 && http2) {
                continue;
            }
            let faults = self.ask_http(asked, way, http2).await;
            for fault in faults {
                self.fail(&format!("HTTP/{}: {asked}: {fault}", 1 + u8::from(http2)));
            }
        }
    }

    async fn ask_http(&mut self, asked: &Value, way: &Way, http2: bool) -> Vec<String> {
        let number: u64 = self.counts.requests.iter().sum();
        let id = number.to_string();
        // What came before matters no more, and would be looked through for each arrival.
        self.services.log.take();
        let head = ask::head(asked, &way.authority, &id);
        let shares = if asked["shares"].is_object() { SHARE_TIMES } else { 1 };
        let times = asked["times"].as_u64().unwrap_or(1) * shares;
        self.counts.requests[usize::from(http2)] += times;
        let over = over(asked, http2).map(|over| (self.tls, over));
        self.counts.over_tls += if over.is_some() { times } else { 0 };
        let sent = Sent { asked, times, authority: &way.authority, namespace: self.namespace() };
        if let Some(messages) = asked["websocket"].as_array() {
            let went = ask::websocket(way.to, &head, messages).await;
            return went.err().into_iter().chain(sent.arrival_faults(&self.services.log.of(&id))).collect();
        }
        let mut client = Client::new(way.to, http2, over);
        if asked["acts"]["status"].is_u64() {
            let plain = serde_json::json!({ "path": asked["path"], "headers": asked["headers"] });
            let plain = ask::head(&plain, &way.authority, "before");
            for _ in 0..BEFORE_RETRY {
                if let Err(error) = client.ask(&plain).await {
                    return vec![error];
                }
            }
        }
        for _ in 0..times {
            let faults = match client.ask(&head).await {
                Ok(answer) => sent.answer_faults(&answer),
                Err(error) => vec![error],
            };
            if !faults.is_empty() {
                return faults;
            }
        }
        let until = Instant::now() + COPY_TIMEOUT;
        while !sent.copy_faults(&self.services.log.of(&id)).is_empty() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let arrivals = self.services.log.of(&id);
        let mut faults = sent.arrival_faults(&arrivals);
        faults.extend(sent.copy_faults(&arrivals));
        faults
    }

    async fn ask_bytes(&mut self, asked: &Value, way: &Way) {
        const TEXT: &[u8] = b"who is there\n";
        let shares = if asked["shares"].is_object() { SHARE_TIMES } else { 1 };
        let times = asked["times"].as_u64().unwrap_or(1) * shares;
        let sent = Sent { asked, times, authority: "", namespace: "infra" };
        self.services.log.take();
        let is_udp = asked["udp"].is_u64();
        *(if is_udp { &mut self.counts.datagrams } else { &mut self.counts.streams }) += times;
        let over = asked["tls"].as_str().map(|name| (self.tls, Asked { name, certificate: None, protocol: None }));
        for _ in 0..times {
            let wanted = asked["to"].as_str().map(|to| sent.line(to, TEXT.len()));
            let until = Instant::now() + if asked["soon"] == true { SOON } else { Duration::ZERO };
            let said = loop {
                let said =
                    if is_udp { ask::datagram(way.to, TEXT).await } else { ask::bytes(way.to, over, TEXT).await };
                if wanted.as_ref().is_none_or(|wanted| said == *wanted) || Instant::now() >= until {
                    break said;
                }
            };
            if let Some(wanted) = wanted.filter(|wanted| said != *wanted) {
                return self.fail(&format!("{asked}: {said:?} comes back, not {wanted:?}"));
            }
        }
        if asked["shares"].is_object() {
            for fault in sent.arrival_faults(&self.services.log.take()) {
                self.fail(&format!("{asked}: {fault}"));
            }
        }
    }

    fn namespace(&self) -> &'static str {
        if self.value["from"].is_string() { "conformance" } else { "infra" }
    }
}

/// The TLS of a request, where it is over TLS.
fn over(asked: &Value, http2: bool) -> Option<Asked<'_>> {
    let protocol: &[u8] = if http2 { b"h2" } else { b"http/1.1" };
    let certificate = asked["certificate"].as_str();
    asked["https"].as_str().map(|name| Asked { name, certificate, protocol: Some(protocol) })
}

/// Kind, namespace and name.
fn key(value: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let metadata = &value["metadata"];
    [text(&value["kind"]), text(&metadata["namespace"]), text(&metadata["name"])].join("/")
}

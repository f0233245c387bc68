//! Envoy and what it makes of changes: which versions it holds, what it refused, and where its traffic goes.
//!
//! `twin` drives it by files, fifty changes of weights, endpoints and routes and one resource that it must refuse; the same questions are asked of it when a
//! control plane drives it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::http::{Client, Origin};
use crate::install::envoy;
use crate::process::{free_port, root, scratch};
use crate::test::Counts;

/// Changes of one run.
const CHANGES: usize = 50;
/// Requests after each change, over so many connections.
const REQUESTS: usize = 5_000;
const CONNECTIONS: usize = 4;
/// How far a share may be from its weight: more than four standard deviations at that number of requests.
const SHARE_TOLERANCE: f64 = 0.03;
/// Longest wait for Envoy to take a change, or to start.
const TAKE_DEADLINE: Duration = Duration::from_secs(10);

/// An Envoy process; ended when dropped.
pub(crate) struct Envoy {
    process: Child,
    admin: u16,
}

/// What an Envoy holds: versions by kind of resource, and the ports of each cluster's endpoints (for which it shows no version).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) versions: BTreeMap<String, BTreeSet<String>>,
    pub(crate) endpoints: BTreeMap<String, BTreeSet<u16>>,
}

/// The port of each origin.
type Origins = BTreeMap<&'static str, u16>;

/// What the twin's resources say.
struct State {
    version: usize,
    /// Share of `two` in a hundred; the rest is `one`'s.
    weight_two: usize,
    /// Names of the origins behind `one`.
    behind_one: Vec<&'static str>,
    /// Requests below this path go to `two`.
    prefix: String,
}

/// The scenario by files.
pub(crate) fn twin() -> Result<Counts> {
    let folder = scratch("envoy")?;
    let origins = ["a", "b", "c"].map(|name| Origin::start(name).map(|origin| (name, origin.port)));
    let origins = origins.into_iter().collect::<Result<Origins>>()?;
    let listen = free_port()?;
    State::after(0).write(folder.path(), listen, &origins)?;
    let envoy = Envoy::start(folder.path(), "interop/envoy/files.yaml")?;
    let mut counts = Counts::default();
    for change in 1..=CHANGES {
        let state = State::after(change);
        state.write(folder.path(), listen, &origins)?;
        match judge(&envoy, &state, listen, &origins) {
            Ok(()) => counts.passed += 1,
            Err(error) => counts.fail(format!("envoy: change {change}: {error:#}")),
        }
    }
    match refuses(&envoy, folder.path(), listen) {
        Ok(()) => counts.passed += 1,
        Err(error) => counts.fail(format!("envoy: a bad listener: {error:#}")),
    }
    println!("envoy        {} of {} good", counts.passed, CHANGES + 1);
    Ok(counts)
}

/// Whether a change is taken and its traffic goes where it says.
fn judge(envoy: &Envoy, state: &State, listen: u16, origins: &Origins) -> Result<()> {
    envoy.wait_for(|held| held.versions == state.versions() && held.endpoints == state.endpoints(origins))?;
    if envoy.rejected()? != 0 {
        bail!("it refused something");
    }
    let seen = shares(listen, "/x", REQUESTS)?;
    for (name, wanted) in state.shares() {
        let seen = seen.get(name).copied().unwrap_or_default();
        if (seen - wanted).abs() > SHARE_TOLERANCE {
            bail!("{name} got {:.1} % of the requests instead of {:.1} %", seen * 100.0, wanted * 100.0);
        }
    }
    match shares(listen, &state.prefix, 50)?.get("c") {
        Some(share) if *share >= 1.0 => Ok(()),
        _ => bail!("{} went elsewhere", state.prefix),
    }
}

/// Whether a listener that cannot be is refused, counted, and changes nothing.
fn refuses(envoy: &Envoy, folder: &Path, listen: u16) -> Result<()> {
    let before = envoy.held()?;
    let mut bad = listener("bad", listen);
    bad["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]["stat_prefix"] = json!("");
    replace(folder, "lds.json", &bad)?;
    let until = Instant::now() + TAKE_DEADLINE;
    while envoy.rejected()? == 0 {
        if Instant::now() > until {
            bail!("it was not refused");
        }
        thread::sleep(Duration::from_millis(20));
    }
    if envoy.held()? != before {
        bail!("it took something of it");
    }
    shares(listen, "/x", 100).map(|_| ())
}

/// Who answered, as shares of all requests.
pub(crate) fn shares(port: u16, path: &str, requests: usize) -> Result<BTreeMap<String, f64>> {
    let ask = |count: usize| -> Result<BTreeMap<String, usize>> {
        let (mut client, mut seen) = (Client::connect(port, "cart")?, BTreeMap::new());
        for _ in 0..count {
            let answer = client.get(path)?;
            if answer.status != 200 {
                bail!("{path} was answered {}: {}", answer.status, answer.text());
            }
            *seen.entry(answer.text()).or_default() += 1;
        }
        Ok(seen)
    };
    let mut all: BTreeMap<String, f64> = BTreeMap::new();
    thread::scope(|scope| {
        let askers: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(|| ask(requests.div_ceil(CONNECTIONS)))).collect();
        for asker in askers {
            let seen = asker.join().map_err(|_| anyhow!("a client panicked"))??;
            for (name, count) in seen {
                *all.entry(name).or_default() += count as f64;
            }
        }
        Ok::<(), anyhow::Error>(())
    })?;
    let total: f64 = all.values().sum();
    Ok(all.into_iter().map(|(name, count)| (name, count / total)).collect())
}

// === impl Envoy ===

impl Envoy {
    /// Starts it with a bootstrap template (`@ADMIN@`, `@FOLDER@`) and waits until it is live.
    pub(crate) fn start(folder: &Path, template: &str) -> Result<Self> {
        let admin = free_port()?;
        let text = fs::read_to_string(root().join(template))?;
        let text = text.replace("@ADMIN@", &admin.to_string()).replace("@FOLDER@", &folder.display().to_string());
        let bootstrap = folder.join("bootstrap.yaml");
        fs::write(&bootstrap, text)?;
        let mut command = Command::new(envoy()?);
        command.arg("-c").arg(bootstrap).args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]);
        let log = fs::File::create(folder.join("envoy.log"))?;
        let process =
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("start envoy")?;
        let mut envoy = Envoy { process, admin };
        let until = Instant::now() + TAKE_DEADLINE;
        while envoy.ask("/ready").is_err() {
            if envoy.process.try_wait()?.is_some() || Instant::now() > until {
                bail!("envoy does not become ready: {}", fs::read_to_string(folder.join("envoy.log"))?);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(envoy)
    }

    /// What is in force.
    pub(crate) fn held(&self) -> Result<Held> {
        let dump: Value = serde_json::from_str(&self.ask("/config_dump")?)?;
        let mut versions = BTreeMap::new();
        for config in dump["configs"].as_array().context("a config dump without configs")? {
            let kind = config["@type"].as_str().unwrap_or_default().rsplit('.').next().unwrap_or_default();
            let lists = ["dynamic_listeners", "dynamic_active_clusters", "dynamic_route_configs"].iter();
            let resources = lists.flat_map(|list| config[list].as_array().into_iter().flatten());
            let version = |resource: &Value| {
                let version = resource["active_state"]["version_info"].as_str().or(resource["version_info"].as_str());
                version.map(str::to_owned)
            };
            let found: BTreeSet<String> = resources.filter_map(version).collect();
            if !found.is_empty() {
                versions.insert(kind.trim_end_matches("ConfigDump").to_owned(), found);
            }
        }
        let clusters: Value = serde_json::from_str(&self.ask("/clusters?format=json")?)?;
        let mut endpoints = BTreeMap::new();
        for cluster in clusters["cluster_statuses"].as_array().into_iter().flatten() {
            let hosts = cluster["host_statuses"].as_array().into_iter().flatten();
            let ports =
                hosts.filter_map(|host| u16::try_from(host["address"]["socket_address"]["port_value"].as_u64()?).ok());
            endpoints.insert(cluster["name"].as_str().unwrap_or_default().to_owned(), ports.collect());
        }
        Ok(Held { versions, endpoints })
    }

    /// How many updates it has refused since it started.
    pub(crate) fn rejected(&self) -> Result<u64> {
        let stats = self.ask("/stats?filter=update_rejected")?;
        Ok(stats.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Waits until it holds what is wanted.
    pub(crate) fn wait_for(&self, wanted: impl Fn(&Held) -> bool) -> Result<()> {
        let until = Instant::now() + TAKE_DEADLINE;
        loop {
            let held = self.held()?;
            if wanted(&held) {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("after {} s it holds {held:?}", TAKE_DEADLINE.as_secs());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&self, path: &str) -> Result<String> {
        let answer = Client::connect(self.admin, "admin")?.get(path)?;
        match answer.status {
            200 => Ok(answer.text()),
            status => bail!("{path} was answered {status}"),
        }
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _gone_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}

// === impl State ===

impl State {
    /// What holds after so many changes; each changes one thing: weights, endpoints, routes in turn.
    fn after(changes: usize) -> Self {
        let (weights, endpoints, routes) = (changes.div_ceil(3), (changes + 1) / 3, changes / 3);
        State {
            version: changes,
            weight_two: (weights * 30) % 101,
            behind_one: if endpoints % 2 == 0 { vec!["a", "b"] } else { vec!["a"] },
            prefix: format!("/two/{routes}"),
        }
    }

    /// Envoy keeps the version in which a resource last changed: listener and clusters never do, routes do not when endpoints do.
    fn versions(&self) -> BTreeMap<String, BTreeSet<String>> {
        let routes = if self.version % 3 == 2 { self.version - 1 } else { self.version };
        let kinds = [("Listeners", 0), ("Clusters", 0), ("Routes", routes)];
        kinds.into_iter().map(|(kind, version)| (kind.to_owned(), BTreeSet::from([version.to_string()]))).collect()
    }

    fn endpoints(&self, origins: &Origins) -> BTreeMap<String, BTreeSet<u16>> {
        let ports = |names: &[&'static str]| names.iter().filter_map(|name| origins.get(name).copied()).collect();
        BTreeMap::from([("one".to_owned(), ports(&self.behind_one)), ("two".to_owned(), ports(&["c"]))])
    }

    fn shares(&self) -> Vec<(&'static str, f64)> {
        let two = self.weight_two as f64 / 100.0;
        let each = (1.0 - two) / self.behind_one.len() as f64;
        let one = ["a", "b"].map(|name| (name, if self.behind_one.contains(&name) { each } else { 0.0 }));
        one.into_iter().chain([("c", two)]).collect()
    }

    /// Writes the files; each is replaced whole.
    fn write(&self, folder: &Path, listen: u16, origins: &Origins) -> Result<()> {
        let version = self.version.to_string();
        let file = |name: &str| json!({"resource_api_version": "V3", "path_config_source": {"path": folder.join(name), "watched_directory": {"path": folder}}});
        let assignment = |cluster: &str, names: &[&'static str]| {
            let endpoint = |name: &&'static str| json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": origins.get(*name)}}}});
            let endpoints: Vec<Value> = names.iter().map(endpoint).collect();
            json!({"@type": typed("endpoint.v3.ClusterLoadAssignment"), "cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}]})
        };
        let cluster = |name: &str| json!({"@type": typed("cluster.v3.Cluster"), "name": name, "type": "EDS", "eds_cluster_config": {"eds_config": file(&format!("{name}.json"))}});
        let weighted =
            json!([{"name": "one", "weight": 100 - self.weight_two}, {"name": "two", "weight": self.weight_two}]);
        let routes = json!([
            {"match": {"prefix": self.prefix}, "route": {"cluster": "two"}},
            {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": weighted}}},
        ]);
        let route = json!({"@type": typed("route.v3.RouteConfiguration"), "name": "mesh", "virtual_hosts": [{"name": "cart", "domains": ["*"], "routes": routes}]});
        let mut listener = listener(&version, listen);
        listener["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]["rds"]["config_source"] =
            file("rds.json");
        // In a file there is one cluster's set of endpoints, not several.
        for (cluster, names) in [("one", self.behind_one.as_slice()), ("two", &["c"])] {
            let set = json!({"version_info": version, "resources": [assignment(cluster, names)]});
            replace(folder, &format!("{cluster}.json"), &set)?;
        }
        replace(folder, "cds.json", &json!({"version_info": version, "resources": [cluster("one"), cluster("two")]}))?;
        replace(folder, "rds.json", &json!({"version_info": version, "resources": [route]}))?;
        replace(folder, "lds.json", &listener)
    }
}

fn listener(version: &str, port: u16) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "mesh",
        "rds": {"route_config_name": "mesh"},
        "http_filters": [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    });
    json!({"version_info": version, "resources": [{
        "@type": typed("listener.v3.Listener"),
        "name": "mesh",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }]})
}

fn typed(name: &str) -> String {
    format!("type.googleapis.com/envoy.config.{name}")
}

/// Envoy reads a file when one is moved over it.
fn replace(folder: &Path, name: &str, value: &Value) -> Result<()> {
    let new = folder.join(format!("{name}.new"));
    fs::write(&new, value.to_string())?;
    Ok(fs::rename(new, folder.join(name))?)
}

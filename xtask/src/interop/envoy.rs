//! Envoy and what it makes of changes: which versions it holds, what it refused, and where its traffic goes.
//!
//! One scenario, two drivers: `files` is the twin without leno, `control_plane` is `leno server`. Balancing by key and by place come first, then
//! retries, deadlines and hedges, then a limit on requests, a switch and what goes wrong on purpose, where the driver can say them. Then
//! fifty changes of weights, endpoints and routes; after each Envoy holds what it was given, has refused nothing, and its traffic is where the weights say. Then
//! one resource that it must refuse, which changes nothing.

mod control_plane;
mod faults;
mod files;
mod limits;
mod retries;
mod switches;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use super::mesh::Mesh;
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
/// Keys whose origins are looked at.
const KEYS: usize = 24;
/// Longest wait for Envoy to take a change, or to start.
const TAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is asked meanwhile.
const ASK_PERIOD: Duration = Duration::from_millis(20);

/// Who tells Envoy what holds.
trait Driver {
    /// Where Envoy listens.
    fn listen(&self) -> SocketAddr;
    /// The bootstrap template, with everything filled in but the admin port.
    fn bootstrap(&self) -> Result<String>;
    /// Puts a state in force.
    fn apply(&self, state: &State, origins: &Origins) -> Result<()>;
    /// Whether Envoy, which held `before`, holds that state now.
    fn is_taken(&self, state: &State, origins: &Origins, before: &Held, now: &Held) -> Result<bool>;
    /// Sends all traffic to the origins `a` and `b`, by the parameter `user` of the query; false where it cannot say that.
    fn apply_keys(&self, origins: &Origins) -> Result<bool>;
    /// Sends all traffic to these ports, in turn and under a policy whose `spec` this is; false where it cannot say that.
    fn apply_policy(&self, ports: &[u16], spec: Value) -> Result<bool>;
    /// Sends all traffic to the origins `a`, which is where Envoy is, and `b` in another region: this much of a hundred to `b`,
    /// or without a share what is nearest. False where it cannot say that.
    fn apply_places(&self, origins: &Origins, share_b: Option<usize>) -> Result<bool>;
    /// Turns a switch for all traffic, which is answered so while it is on.
    fn apply_switch(&self, on: bool, reply: Value) -> Result<()>;
    /// Puts a resource in force that Envoy must refuse.
    fn apply_bad(&self) -> Result<()>;
    /// Whether the refusal has reached the driver; an error says what it knows instead.
    fn knows_of_refusal(&self) -> Result<()>;
}

/// An Envoy process; ended when dropped.
struct Envoy {
    process: Child,
    admin: u16,
}

/// What an Envoy holds: versions by kind of resource, and the ports of each cluster's endpoints (for which it shows no version).
#[derive(Debug, PartialEq, Eq)]
struct Held {
    versions: BTreeMap<String, BTreeSet<String>>,
    endpoints: BTreeMap<String, BTreeSet<u16>>,
}

/// The port of each origin.
type Origins = BTreeMap<&'static str, u16>;

/// What resources say.
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
    run(folder.path(), &files::Files::new(folder.path().to_path_buf())?)
}

/// The scenario with leno's control plane.
pub(crate) fn through_leno(mesh: &Mesh<'_>) -> Result<Counts> {
    let folder = scratch("envoy")?;
    run(folder.path(), &control_plane::ControlPlane::new(mesh))
}

fn run(folder: &Path, driver: &dyn Driver) -> Result<Counts> {
    let origins = ["a", "b", "c"].map(|name| Origin::start(name).map(|origin| (name, origin.port)));
    let origins = origins.into_iter().collect::<Result<Origins>>()?;
    driver.apply(&State::after(0), &origins)?;
    let envoy = Envoy::start(folder, &driver.bootstrap()?)?;
    let mut counts = Counts::default();
    let mut wanted = CHANGES + 1;
    if driver.apply_keys(&origins)? {
        wanted += 1;
        match keeps_keys(&envoy, driver) {
            Ok(()) => counts.passed += 1,
            Err(error) => counts.fail(format!("envoy: balancing by key: {error:#}")),
        }
    }
    for share_b in [None, Some(30)] {
        if driver.apply_places(&origins, share_b)? {
            wanted += 1;
            match keeps_places(&envoy, driver, share_b) {
                Ok(()) => counts.passed += 1,
                Err(error) => counts.fail(format!("envoy: places, {share_b:?} of 100 elsewhere: {error:#}")),
            }
        }
    }
    match retries::judge(&envoy, driver) {
        Ok(false) => {}
        Ok(true) => (counts.passed, wanted) = (counts.passed + 1, wanted + 1),
        Err(error) => {
            wanted += 1;
            counts.fail(format!("envoy: retries, deadlines and hedges: {error:#}"));
        }
    }
    match limits::judge(&envoy, driver, &origins) {
        Ok(false) => {}
        Ok(true) => (counts.passed, wanted) = (counts.passed + 1, wanted + 1),
        Err(error) => {
            wanted += 1;
            counts.fail(format!("envoy: a limit on requests: {error:#}"));
        }
    }
    match switches::judge(&envoy, driver, &origins) {
        Ok(false) => {}
        Ok(true) => (counts.passed, wanted) = (counts.passed + 1, wanted + 1),
        Err(error) => {
            wanted += 1;
            counts.fail(format!("envoy: a switch: {error:#}"));
        }
    }
    match faults::judge(&envoy, driver, &origins) {
        Ok(false) => {}
        Ok(true) => (counts.passed, wanted) = (counts.passed + 1, wanted + 1),
        Err(error) => {
            wanted += 1;
            counts.fail(format!("envoy: what goes wrong on purpose: {error:#}"));
        }
    }
    for change in 1..=CHANGES {
        match judge(&envoy, driver, &State::after(change), &origins) {
            Ok(()) => counts.passed += 1,
            Err(error) => counts.fail(format!("envoy: change {change}: {error:#}")),
        }
    }
    match refuses(&envoy, driver) {
        Ok(()) => counts.passed += 1,
        Err(error) => counts.fail(format!("envoy: a bad resource: {error:#}")),
    }
    println!("envoy        {} of {} good", counts.passed, wanted);
    Ok(counts)
}

/// Whether a change is taken and its traffic goes where it says.
fn judge(envoy: &Envoy, driver: &dyn Driver, state: &State, origins: &Origins) -> Result<()> {
    let before = envoy.held()?;
    driver.apply(state, origins)?;
    envoy.wait_for(|held| driver.is_taken(state, origins, &before, held))?;
    if envoy.rejected()? != 0 {
        bail!("it refused something");
    }
    let seen = shares(driver.listen(), "/x", REQUESTS)?;
    for (name, wanted) in state.shares() {
        let seen = seen.get(name).copied().unwrap_or_default();
        if (seen - wanted).abs() > SHARE_TOLERANCE {
            bail!("{name} got {:.1} % of the requests instead of {:.1} %", seen * 100.0, wanted * 100.0);
        }
    }
    match shares(driver.listen(), &state.prefix, 50)?.get("c") {
        Some(share) if *share >= 1.0 => Ok(()),
        _ => bail!("{} went elsewhere", state.prefix),
    }
}

/// Whether requests of one key meet one origin, over whichever connection, and keys are spread over the two.
fn keeps_keys(envoy: &Envoy, driver: &dyn Driver) -> Result<()> {
    let until = Instant::now() + TAKE_DEADLINE;
    loop {
        let met = (0..KEYS).map(|key| shares(driver.listen(), &format!("/x?a=b&user={key}"), 2 * CONNECTIONS));
        let met = met.collect::<Result<Vec<_>>>()?;
        let origins: BTreeSet<&String> = met.iter().flat_map(BTreeMap::keys).collect();
        if envoy.rejected()? != 0 {
            bail!("it refused something");
        }
        if met.iter().all(|met| met.len() == 1) && origins.into_iter().eq(["a", "b"]) {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("after {} s keys meet {met:?}", TAKE_DEADLINE.as_secs());
        }
        thread::sleep(ASK_PERIOD);
    }
}

/// Whether requests stay where Envoy is, or are shared as they are to be.
fn keeps_places(envoy: &Envoy, driver: &dyn Driver, share_b: Option<usize>) -> Result<()> {
    let wanted = share_b.unwrap_or_default() as f64 / 100.0;
    let until = Instant::now() + TAKE_DEADLINE;
    loop {
        let seen = shares(driver.listen(), "/x", REQUESTS)?;
        let share = seen.get("b").copied().unwrap_or_default();
        if envoy.rejected()? != 0 {
            bail!("it refused something");
        }
        // Without a share it is none at all.
        if (share - wanted).abs() <= if share_b.is_some() { SHARE_TOLERANCE } else { 0.0 } {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("after {} s traffic goes {seen:?}", TAKE_DEADLINE.as_secs());
        }
    }
}

/// Whether a resource that cannot be is refused, counted and reported, and changes nothing.
fn refuses(envoy: &Envoy, driver: &dyn Driver) -> Result<()> {
    let before = shares(driver.listen(), "/x", REQUESTS)?;
    driver.apply_bad()?;
    let until = Instant::now() + TAKE_DEADLINE;
    while envoy.rejected()? == 0 {
        if Instant::now() > until {
            bail!("it was not refused");
        }
        thread::sleep(ASK_PERIOD);
    }
    while let Err(error) = driver.knows_of_refusal() {
        if Instant::now() > until {
            return Err(error);
        }
        thread::sleep(ASK_PERIOD);
    }
    let after = shares(driver.listen(), "/x", REQUESTS)?;
    let moved = before
        .iter()
        .any(|(name, share)| (share - after.get(name).copied().unwrap_or_default()).abs() > 2.0 * SHARE_TOLERANCE);
    if moved {
        bail!("traffic went as {before:?} before and goes as {after:?} now");
    }
    Ok(())
}

/// Who answered, as shares of all requests.
fn shares(listen: SocketAddr, path: &str, requests: usize) -> Result<BTreeMap<String, f64>> {
    let ask = |count: usize| -> Result<BTreeMap<String, usize>> {
        let (mut client, mut seen) = (Client::connect_to(listen, "cart")?, BTreeMap::new());
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
    /// Starts it with a bootstrap in which `@ADMIN@` is left to fill in, and waits until it is live.
    fn start(folder: &Path, bootstrap: &str) -> Result<Self> {
        let admin = free_port()?;
        let file = folder.join("bootstrap.yaml");
        fs::write(&file, bootstrap.replace("@ADMIN@", &admin.to_string()))?;
        let mut command = Command::new(envoy()?);
        command.arg("-c").arg(file).args(["--concurrency", "1", "--disable-hot-restart", "-l", "warning"]);
        let log = fs::File::create(folder.join("envoy.log"))?;
        let process =
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("start envoy")?;
        let mut envoy = Envoy { process, admin };
        let until = Instant::now() + TAKE_DEADLINE;
        while envoy.ask("/ready").is_err() {
            if envoy.process.try_wait()?.is_some() || Instant::now() > until {
                bail!("envoy does not become ready: {}", fs::read_to_string(folder.join("envoy.log"))?);
            }
            thread::sleep(ASK_PERIOD);
        }
        Ok(envoy)
    }

    /// What is in force.
    fn held(&self) -> Result<Held> {
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
    fn rejected(&self) -> Result<u64> {
        let stats = self.ask("/stats?filter=update_rejected")?;
        Ok(stats.lines().filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Waits until it holds what is wanted.
    fn wait_for(&self, wanted: impl Fn(&Held) -> Result<bool>) -> Result<()> {
        let until = Instant::now() + TAKE_DEADLINE;
        loop {
            let held = self.held()?;
            if wanted(&held)? {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("after {} s it holds {held:?}", TAKE_DEADLINE.as_secs());
            }
            thread::sleep(ASK_PERIOD);
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

    /// Whether this state's routes are those of the one before.
    fn keeps_routes(&self) -> bool {
        self.version % 3 == 2
    }

    fn endpoints(&self, origins: &Origins) -> BTreeMap<&'static str, BTreeSet<u16>> {
        let ports = |names: &[&'static str]| names.iter().filter_map(|name| origins.get(name).copied()).collect();
        BTreeMap::from([("one", ports(&self.behind_one)), ("two", ports(&["c"]))])
    }

    fn shares(&self) -> Vec<(&'static str, f64)> {
        let two = self.weight_two as f64 / 100.0;
        let each = (1.0 - two) / self.behind_one.len() as f64;
        let one = ["a", "b"].map(|name| (name, if self.behind_one.contains(&name) { each } else { 0.0 }));
        one.into_iter().chain([("c", two)]).collect()
    }
}

/// A template of `interop/envoy/`.
fn template(name: &str) -> Result<String> {
    let path = root().join("interop/envoy").join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

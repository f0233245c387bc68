//! Envoy driven by `leno server`: resources are applied as anybody would, and the server is asked what Envoy has.
//!
//! A declared service `cart` has no endpoints of its own; a route on it shares its requests between `one` and `two`, whose endpoints are declared too.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Driver, Held, Origins, State, template};
use crate::interop::mesh::Mesh;

/// Where the server's listener for Envoys is: the outbound port, on the address that the bootstrap asks for.
const LISTEN: ([u8; 4], u16) = ([127, 0, 0, 2], 15001);
/// The node in the bootstrap.
const NODE: &str = "interop";
/// Valid as far as leno can say; more repetitions than Envoy's expressions may have.
const BAD_PATH: &str = "/bad/a{1001}";

pub(super) struct ControlPlane<'a> {
    mesh: &'a Mesh<'a>,
}

impl<'a> ControlPlane<'a> {
    pub(super) fn new(mesh: &'a Mesh<'a>) -> Self {
        ControlPlane { mesh }
    }

    /// Applies a set of resources and waits until those whom it concerns have it.
    fn apply(&self, name: &str, resources: &[Value], wait: &[&str]) -> Result<()> {
        let file = self.mesh.place().folder().join(format!("{name}.yaml"));
        // A document of JSON is one of YAML.
        let text: Vec<String> = resources.iter().map(Value::to_string).collect();
        fs::write(&file, text.join("\n---\n"))?;
        let file = file.display().to_string();
        self.mesh.ask(&[&["apply", "-f", &file], wait].concat()).map(|_| ())
    }

    /// What the server says of this Envoy.
    fn status(&self) -> Result<Value> {
        let status: Value = serde_json::from_str(&self.mesh.ask(&["status", "-o", "json"])?)?;
        let lists = status.as_object().into_iter().flat_map(|fields| fields.values()).filter_map(Value::as_array);
        let mut entries = lists.flatten().filter(|entry| entry["id"] == NODE);
        entries.next().cloned().with_context(|| format!("`leno status` knows no proxy {NODE}: {status}"))
    }
}

impl Driver for ControlPlane<'_> {
    fn listen(&self) -> SocketAddr {
        SocketAddr::from(LISTEN)
    }

    fn bootstrap(&self) -> Result<String> {
        Ok(template("leno.yaml")?.replace("@SERVER@", &self.mesh.grpc().to_string()))
    }

    fn apply(&self, state: &State, origins: &Origins) -> Result<()> {
        let endpoints = |names: &[&'static str]| -> Vec<Value> {
            names.iter().map(|name| json!({"address": "127.0.0.1", "port": origins.get(*name)})).collect()
        };
        let backend = |name: &str, weight: usize| json!({"group": "leno.mesh", "kind": "Service", "name": name, "port": 80, "weight": weight});
        let rules = json!([
            {"matches": [{"path": {"type": "PathPrefix", "value": state.prefix}}], "backendRefs": [backend("two", 1)]},
            {"backendRefs": [backend("one", 100 - state.weight_two), backend("two", state.weight_two)]},
        ]);
        let resources = [
            service("cart", &[]),
            service("one", &endpoints(&state.behind_one)),
            service("two", &endpoints(&["c"])),
            route("cart", rules),
            balanced("one", json!({"policy": "roundRobin"})),
        ];
        self.apply("envoy", &resources, &["--wait=10s"])
    }

    /// The server says that it is in effect, Envoy's routes have another version if and only if they changed, and the endpoints are there.
    fn is_taken(&self, state: &State, origins: &Origins, before: &Held, now: &Held) -> Result<bool> {
        let status = self.status()?;
        let kinds = status["kinds"].as_object().context("a status without kinds")?;
        let accepted = kinds.values().all(|kind| kind["inEffect"] == true && kind["sent"] == kind["acked"]);
        let same_routes = before.versions.get("Routes") == now.versions.get("Routes");
        let sets: BTreeSet<_> = now.endpoints.values().collect();
        let wanted = state.endpoints(origins);
        Ok(accepted && same_routes == state.keeps_routes() && wanted.values().all(|ports| sets.contains(ports)))
    }

    fn apply_keys(&self, origins: &Origins) -> Result<bool> {
        let endpoints = ["a", "b"].map(|name| json!({"address": "127.0.0.1", "port": origins.get(name)}));
        let to_one = json!([{"backendRefs": [{"group": "leno.mesh", "kind": "Service", "name": "one", "port": 80}]}]);
        let keys = json!([{"query": "user", "terminal": true}, {"cookie": {"name": "session", "ttl": "1h"}}]);
        let by_key = json!({"policy": "ringHash", "hash": keys});
        let resources =
            [service("cart", &[]), service("one", &endpoints), route("cart", to_one), balanced("one", by_key)];
        self.apply("envoy", &resources, &["--wait=10s"])?;
        Ok(true)
    }

    fn apply_policy(&self, ports: &[u16], mut spec: Value) -> Result<bool> {
        let endpoints: Vec<Value> = ports.iter().map(|port| json!({"address": "127.0.0.1", "port": port})).collect();
        let to_one = json!([{"backendRefs": [{"group": "leno.mesh", "kind": "Service", "name": "one", "port": 80}]}]);
        // What goes wrong on purpose is a resource of its own.
        let faults = spec.as_object_mut().and_then(|spec| spec.remove("faults"));
        let faults = faults.map(|faults| resource("FaultPolicy", "one", json!({"faults": faults})));
        spec["loadBalancer"] = json!({"policy": "roundRobin"});
        // What is said of requests is the asked service's, what is said of instances the other's.
        let policies = [policy("cart", spec.clone()), policy("one", spec)];
        let resources = [service("cart", &[]), service("one", &endpoints), route("cart", to_one)];
        let resources: Vec<Value> = resources.into_iter().chain(policies).chain(faults).collect();
        self.apply("envoy", &resources, &["--wait=10s"])?;
        Ok(true)
    }

    fn apply_switch(&self, on: bool, reply: Value) -> Result<()> {
        let resource = |kind: &str, spec: Value| json!({"apiVersion": "leno.mesh/v1", "kind": kind, "metadata": {"name": "off"}, "spec": spec});
        let switch = json!({"targetRefs": [{"kind": "Service", "name": "cart"}], "reply": reply});
        let resources = [resource("Switch", switch), resource("SwitchState", json!({"on": on}))];
        self.apply("envoy-switch", &resources, &["--wait=10s"])
    }

    fn apply_places(&self, origins: &Origins, share_b: Option<usize>) -> Result<bool> {
        let at =
            |name: &str, region: &str| json!({"address": "127.0.0.1", "port": origins.get(name), "region": region});
        let to_one = json!([{"backendRefs": [{"group": "leno.mesh", "kind": "Service", "name": "one", "port": 80}]}]);
        let to = |b: usize| json!([{"place": "eu", "share": 100 - b}, {"place": "us", "share": b}]);
        let locality = match share_b {
            Some(b) => json!({"distribute": [{"from": "eu/a", "to": to(b)}]}),
            None => json!({}),
        };
        // The default too, which is a list of policies to Envoy: there what is of localities stands elsewhere.
        let policy = if share_b.is_some() { "peakEwma" } else { "roundRobin" };
        let by_place =
            json!({"policy": policy, "locality": locality, "panicThreshold": 50, "slowStart": {"window": "1s"}});
        let one = service("one", &[at("a", "eu"), at("b", "us")]);
        self.apply(
            "envoy",
            &[service("cart", &[]), one, route("cart", to_one), balanced("one", by_place)],
            &["--wait=10s"],
        )?;
        Ok(true)
    }

    fn apply_bad(&self) -> Result<()> {
        let rules = json!([{
            "matches": [{"path": {"type": "RegularExpression", "value": BAD_PATH}}],
            "backendRefs": [{"group": "leno.mesh", "kind": "Service", "name": "one", "port": 80}],
        }]);
        self.apply("envoy-bad", &[route("bad", rules)], &[])
    }

    fn knows_of_refusal(&self) -> Result<()> {
        let status = self.status()?;
        let kinds = status["kinds"].as_object().context("a status without kinds")?;
        match kinds.values().any(|kind| !kind["rejection"].is_null()) {
            true => Ok(()),
            false => bail!("`leno status` tells of no refusal: {status}"),
        }
    }
}

fn service(name: &str, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "leno.mesh/v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"port": 80, "protocol": "http"}], "endpoints": endpoints},
    })
}

/// The default follows load, not weights alone; here shares are counted, or keys.
fn balanced(service: &str, balancer: Value) -> Value {
    policy(service, json!({"loadBalancer": balancer}))
}

fn policy(service: &str, spec: Value) -> Value {
    resource("TrafficPolicy", service, spec)
}

/// A policy of a kind for a service.
fn resource(kind: &str, service: &str, mut spec: Value) -> Value {
    spec["targetRefs"] = json!([{"group": "leno.mesh", "kind": "Service", "name": service}]);
    json!({"apiVersion": "leno.mesh/v1", "kind": kind, "metadata": {"name": service}, "spec": spec})
}

fn route(name: &str, rules: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": name},
        "spec": {"parentRefs": [{"group": "leno.mesh", "kind": "Service", "name": "cart"}], "rules": rules},
    })
}

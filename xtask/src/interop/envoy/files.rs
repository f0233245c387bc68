//! Envoy driven by files: the twin of the scenario with leno.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{Driver, Held, Origins, State, template};
use crate::process::free_port;

pub(super) struct Files {
    folder: PathBuf,
    listen: SocketAddr,
}

impl Files {
    pub(super) fn new(folder: PathBuf) -> Result<Self> {
        Ok(Files { folder, listen: SocketAddr::from(([127, 0, 0, 1], free_port()?)) })
    }
}

impl Driver for Files {
    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn bootstrap(&self) -> Result<String> {
        Ok(template("files.yaml")?.replace("@FOLDER@", &self.folder.display().to_string()))
    }

    fn apply(&self, state: &State, origins: &Origins) -> Result<()> {
        write(&self.folder, self.listen.port(), state, origins)
    }

    /// Envoy keeps the version in which a resource last changed: listener and clusters never do, routes do not when endpoints do.
    fn is_taken(&self, state: &State, origins: &Origins, before: &Held, now: &Held) -> Result<bool> {
        let of = |version: &str| BTreeSet::from([version.to_owned()]);
        let routes = if state.keeps_routes() {
            before.versions.get("Routes").cloned().unwrap_or_default()
        } else {
            of(&state.version.to_string())
        };
        let versions = BTreeMap::from([
            ("Listeners".to_owned(), of("0")),
            ("Clusters".to_owned(), of("0")),
            ("Routes".to_owned(), routes),
        ]);
        let mut endpoints = state.endpoints(origins).into_iter();
        Ok(now.versions == versions && endpoints.all(|(name, ports)| now.endpoints.get(name) == Some(&ports)))
    }

    fn apply_keys(&self, _: &Origins) -> Result<bool> {
        Ok(false)
    }

    fn apply_policy(&self, _: &[u16], _: Value) -> Result<bool> {
        Ok(false)
    }

    fn apply_switch(&self, _: bool, _: Value) -> Result<()> {
        bail!("files have no switches")
    }

    fn apply_places(&self, _: &Origins, _: Option<usize>) -> Result<bool> {
        Ok(false)
    }

    fn apply_bad(&self) -> Result<()> {
        let mut bad = listener("bad", self.listen.port());
        bad["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]["stat_prefix"] = json!("");
        replace(&self.folder, "lds.json", &bad)
    }

    /// Nobody listens to what Envoy says of files.
    fn knows_of_refusal(&self) -> Result<()> {
        Ok(())
    }
}

/// Writes the files; each is replaced whole.
fn write(folder: &Path, listen: u16, state: &State, origins: &Origins) -> Result<()> {
    let version = state.version.to_string();
    let file = |name: &str| json!({"resource_api_version": "V3", "path_config_source": {"path": folder.join(name), "watched_directory": {"path": folder}}});
    let assignment = |cluster: &str, names: &[&'static str]| {
        let endpoint = |name: &&'static str| json!({"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": origins.get(*name)}}}});
        let endpoints: Vec<Value> = names.iter().map(endpoint).collect();
        json!({"@type": typed("endpoint.v3.ClusterLoadAssignment"), "cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}]})
    };
    let cluster = |name: &str| json!({"@type": typed("cluster.v3.Cluster"), "name": name, "type": "EDS", "eds_cluster_config": {"eds_config": file(&format!("{name}.json"))}});
    let weighted =
        json!([{"name": "one", "weight": 100 - state.weight_two}, {"name": "two", "weight": state.weight_two}]);
    let routes = json!([
        {"match": {"prefix": state.prefix}, "route": {"cluster": "two"}},
        {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": weighted}}},
    ]);
    let route = json!({"@type": typed("route.v3.RouteConfiguration"), "name": "mesh", "virtual_hosts": [{"name": "cart", "domains": ["*"], "routes": routes}]});
    let mut listener = listener(&version, listen);
    listener["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]["rds"]["config_source"] =
        file("rds.json");
    // In a file there is one cluster's set of endpoints, not several.
    for (cluster, names) in [("one", state.behind_one.as_slice()), ("two", &["c"])] {
        let set = json!({"version_info": version, "resources": [assignment(cluster, names)]});
        replace(folder, &format!("{cluster}.json"), &set)?;
    }
    replace(folder, "cds.json", &json!({"version_info": version, "resources": [cluster("one"), cluster("two")]}))?;
    replace(folder, "rds.json", &json!({"version_info": version, "resources": [route]}))?;
    replace(folder, "lds.json", &listener)
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

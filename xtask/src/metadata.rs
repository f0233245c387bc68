//! What `cargo metadata` says, reduced to what our rules ask about.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::process::{cargo, output};

/// All packages that a build for this machine may use.
pub(crate) struct Metadata {
    pub(crate) packages: BTreeMap<String, Package>,
    /// Ids of the workspace's own packages.
    pub(crate) members: BTreeSet<String>,
}

/// One package of the graph.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) folder: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    /// Names of the targets under `tests/`.
    pub(crate) test_targets: Vec<String>,
}

/// An edge of the graph.
pub(crate) struct Dependency {
    pub(crate) id: String,
    /// Used by tests and examples only.
    pub(crate) only_dev: bool,
}

impl Metadata {
    /// Asks cargo, with dependencies resolved for the platform that leno is released on.
    pub(crate) fn load() -> Result<Self> {
        let filter = "--filter-platform=x86_64-unknown-linux-gnu";
        let text = output(&mut cargo(["metadata", "--format-version=1", "--locked", filter]))?;
        Self::parse(&serde_json::from_str(&text).context("cargo metadata")?).context("cargo metadata has another shape")
    }

    fn parse(value: &Value) -> Option<Self> {
        let mut packages: BTreeMap<String, Package> = BTreeMap::new();
        for package in value["packages"].as_array()? {
            packages.insert(package["id"].as_str()?.to_owned(), Package::parse(package)?);
        }
        for node in value["resolve"]["nodes"].as_array()? {
            let package = packages.get_mut(node["id"].as_str()?)?;
            for dependency in node["deps"].as_array()? {
                let kinds = dependency["dep_kinds"].as_array()?;
                let only_dev = kinds.iter().all(|kind| kind["kind"] == "dev");
                package.dependencies.push(Dependency { id: dependency["pkg"].as_str()?.to_owned(), only_dev });
            }
        }
        let ids = value["workspace_members"].as_array()?.iter();
        let members = ids.filter_map(|id| id.as_str().map(str::to_owned)).collect();
        Some(Metadata { packages, members })
    }

    /// The workspace's own packages, by name.
    pub(crate) fn own(&self) -> impl Iterator<Item = &Package> {
        self.members.iter().filter_map(|id| self.packages.get(id))
    }

    /// Names of what a package depends on directly; development dependencies only when asked for.
    pub(crate) fn direct<'a>(&'a self, package: &'a Package, dev: bool) -> impl Iterator<Item = &'a Package> {
        let wanted = package.dependencies.iter().filter(move |dependency| dev || !dependency.only_dev);
        wanted.filter_map(|dependency| self.packages.get(&dependency.id))
    }
}

impl Package {
    fn parse(value: &Value) -> Option<Self> {
        let targets = value["targets"].as_array()?.iter();
        let tests = targets.filter(|target| target["kind"][0] == "test").filter_map(|target| target["name"].as_str());
        Some(Package {
            name: value["name"].as_str()?.to_owned(),
            version: value["version"].as_str()?.to_owned(),
            license: value["license"].as_str().map(str::to_owned),
            source: value["source"].as_str().map(str::to_owned),
            folder: PathBuf::from(value["manifest_path"].as_str()?).parent()?.to_path_buf(),
            dependencies: Vec::new(),
            test_targets: tests.map(str::to_owned).collect(),
        })
    }
}

/// Name and version of everything that a build of the workspace compiles, tests left out.
///
/// `cargo metadata` also names what is only in the lock file (an optional dependency behind a weak feature); `cargo tree` knows what is really built.
pub(crate) fn compiled() -> Result<BTreeSet<(String, String)>> {
    let text = output(&mut cargo(
        "tree --workspace --locked --edges normal,build --target x86_64-unknown-linux-gnu --prefix none --format {p}"
            .split(' '),
    ))?;
    let words = text.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
    Ok(words
        .filter_map(|words| match words[..] {
            [name, version] => Some((name.to_owned(), version.trim_start_matches('v').to_owned())),
            _ => None,
        })
        .collect())
}

//! `cargo xtask deps`: which crate may know what.
//!
//! The tables below are the rules; everything else reads `cargo metadata`, `deny.toml` and the sources and compares. Development dependencies may point at any
//! inner or equal ring and at the test kit; walls hold for what is linked.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Result, bail};

use crate::metadata::{Metadata, Package, compiled};
use crate::process::root;
use crate::scan;

/// Each crate and its ring: 0 words, 1 mechanisms, 2 parts, 3 surfaces, 4 the binary.
const RINGS: &[(&str, u8)] = &[
    ("leno-model", 0),
    ("leno-net", 1),
    ("leno-tls", 1),
    ("leno-http", 1),
    ("leno-dns", 1),
    ("leno-route", 1),
    ("leno-convert", 1),
    ("leno-traffic", 1),
    ("leno-xds", 1),
    ("leno-store", 1),
    ("leno-telemetry", 1),
    ("leno-runtime", 1),
    ("leno-proxy", 2),
    ("leno-control", 2),
    ("leno-registry", 2),
    ("leno-config-center", 2),
    ("leno-ca", 2),
    ("leno-collector", 2),
    ("leno-doors", 3),
    ("leno-dashboard", 3),
    ("leno", 4),
];

/// The arrows inside a ring; `*` is any crate of ring 1.
const SIDEWAYS: &[(&str, &[&str])] = &[
    ("*", &["leno-telemetry"]),
    ("leno-tls", &["leno-net"]),
    ("leno-dns", &["leno-net"]),
    ("leno-http", &["leno-tls", "leno-net"]),
    // The dialer, and the sockets of control listeners, are leno-net's: docs/decisions, "runtime and xDS use leno-net".
    ("leno-xds", &["leno-http", "leno-net"]),
    ("leno-store", &["leno-http"]),
    ("leno-runtime", &["leno-http", "leno-net"]),
    ("leno-control", &["leno-registry", "leno-config-center"]),
];

/// Crates beside the rings, and what of ours each may use: `None` is everything but the binary.
const BESIDE: &[(&str, Option<&[&str]>)] =
    &[("leno-test", None), ("leno-fuzz", None), ("xtask", Some(&["leno-model"]))];

/// Who may use a library that the design walls in, and why it is walled in.
const WALLS: &[(&[&str], &[&str], &str)] = &[
    (&["rustls", "tokio-rustls", "aws-lc-rs", "rcgen"], &["leno-tls", "leno-ca"], "TLS is leno-tls's"),
    (&["h2", "hyper", "hyper-util", "httparse"], &["leno-http"], "the HTTP engine is leno-http's"),
    (&["envoy-types", "xds-api"], &["leno-xds"], "Envoy's messages stop at leno-xds"),
    (&["rusqlite", "libsqlite3-sys", "etcd-client"], &["leno-store"], "databases are behind the store trait"),
    (
        &["axum", "tower"],
        &["leno-http", "leno-runtime", "leno-registry", "leno-control", "leno-collector", "leno-dashboard", "leno"],
        "axum routes our own APIs and stays off the request path",
    ),
    (&["tonic"], &[], "gRPC is leno-http's `grpc`"),
];

/// The one crate with `unsafe`.
const UNSAFE_IN: &str = "leno-net";

/// Checks every rule and lists all breaches at once.
pub(crate) fn run() -> Result<()> {
    let metadata = Metadata::load()?;
    let compiled = compiled()?;
    let deny = fs::read_to_string(root().join("deny.toml"))?;
    let mut breaches = Vec::new();
    for package in metadata.own() {
        arrows(&metadata, package, &mut breaches);
        walls(&metadata, package, &mut breaches);
        words(package, &mut breaches);
    }
    bans(&compiled, &list(&deny, "deny"), &mut breaches);
    duplicates(&compiled, &list(&deny, "skip"), &mut breaches);
    licences(&metadata, &list(&deny, "allow"), &mut breaches);
    sources(&metadata, &mut breaches);
    if breaches.is_empty() {
        println!(
            "deps: {} crates of ours, {} compiled, every arrow points inward",
            metadata.members.len(),
            compiled.len()
        );
        return Ok(());
    }
    for breach in &breaches {
        eprintln!("deps: {breach}");
    }
    bail!("{} breaches of the rules in xtask/src/deps.rs and deny.toml", breaches.len())
}

/// Every dependency on a crate of ours points inward or is listed.
fn arrows(metadata: &Metadata, package: &Package, breaches: &mut Vec<String>) {
    let own: BTreeSet<&str> = metadata.own().map(|package| package.name.as_str()).collect();
    for dependency in &package.dependencies {
        let Some(target) = metadata.packages.get(&dependency.id).filter(|target| own.contains(target.name.as_str()))
        else {
            continue;
        };
        if let Err(why) = arrow(&package.name, &target.name, dependency.only_dev) {
            breaches.push(format!("{} may not depend on {}: {why}", package.name, target.name));
        }
    }
}

fn arrow(from: &str, to: &str, only_dev: bool) -> Result<(), String> {
    if let Some((_, allowed)) = BESIDE.iter().find(|(name, _)| *name == from) {
        let fits = allowed.map_or(to != "leno", |allowed| allowed.contains(&to));
        return if fits { Ok(()) } else { Err("it stands beside the rings".to_owned()) };
    }
    if only_dev && to == "leno-test" {
        return Ok(());
    }
    let (Some(from_ring), Some(to_ring)) = (ring(from), ring(to)) else {
        return Err("one of them has no ring: add it to RINGS".to_owned());
    };
    let listed = |(name, to_names): &&(&str, &[&str])| {
        (*name == from || (*name == "*" && from_ring == 1)) && to_names.contains(&to)
    };
    match from_ring.cmp(&to_ring) {
        std::cmp::Ordering::Greater => Ok(()),
        std::cmp::Ordering::Equal if only_dev || SIDEWAYS.iter().any(|row| listed(&row)) => Ok(()),
        std::cmp::Ordering::Equal => Err(format!("both are in ring {to_ring} and SIDEWAYS has no such arrow")),
        std::cmp::Ordering::Less => {
            Err(format!("arrows point inward, and this goes from ring {from_ring} to ring {to_ring}"))
        }
    }
}

fn ring(name: &str) -> Option<u8> {
    RINGS.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, ring)| *ring)
}

/// Walled libraries are used by those who may.
fn walls(metadata: &Metadata, package: &Package, breaches: &mut Vec<String>) {
    for target in metadata.direct(package, false) {
        for (libraries, users, why) in WALLS {
            if libraries.contains(&target.name.as_str()) && !users.contains(&package.name.as_str()) {
                breaches.push(format!("{} may not use {}: {why}", package.name, target.name));
            }
        }
    }
}

/// What a crate's sources may not say.
fn words(package: &Package, breaches: &mut Vec<String>) {
    for path in scan::rust_files(&package.folder) {
        let Ok(source) = fs::read_to_string(&path) else { continue };
        let shown = path.strip_prefix(root()).unwrap_or(&path).display();
        let text = scan::blank(&source);
        let mut refuse = |word: &str, why: &str| {
            if let Some(at) = scan::find_word(&text, word, 0) {
                breaches.push(format!("{shown}:{}: `{word}`: {why}", scan::line_of(&text, at)));
            }
        };
        if package.name != UNSAFE_IN {
            refuse("unsafe", "only leno-net has unsafe code");
            refuse("allow(unsafe_code", "only leno-net has unsafe code");
        }
        if package.name != "leno-xds" && package.name != "xtask" {
            refuse("leno_xds::messages", "Envoy's messages stop at leno-xds");
        }
    }
}

/// Nothing that deny.toml bans is compiled.
fn bans(compiled: &BTreeSet<(String, String)>, banned: &[String], breaches: &mut Vec<String>) {
    for (name, version) in compiled.iter().filter(|(name, _)| banned.contains(name)) {
        breaches
            .push(format!("{name} {version} is compiled, which deny.toml bans: `cargo tree -i {name}` says who asked"));
    }
}

/// One version of each crate, but for those that deny.toml skips; a skip that nothing needs is a breach too.
fn duplicates(compiled: &BTreeSet<(String, String)>, skipped: &[String], breaches: &mut Vec<String>) {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, version) in compiled {
        versions.entry(name).or_default().push(version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    for (name, versions) in versions.iter().filter(|(name, _)| !skipped.iter().any(|skip| skip == *name)) {
        breaches.push(format!(
            "{name} is compiled {} times ({}): align them, or skip one in deny.toml with the reason",
            versions.len(),
            versions.join(", ")
        ));
    }
    for skip in skipped.iter().filter(|skip| !versions.contains_key(skip.as_str())) {
        breaches.push(format!("deny.toml skips {skip}, of which there is one version now"));
    }
}

fn licences(metadata: &Metadata, allowed: &[String], breaches: &mut Vec<String>) {
    for package in metadata.packages.values().filter(|package| package.source.is_some()) {
        let expression = package.license.as_deref().unwrap_or("none");
        if !licence_fits(expression, allowed) {
            breaches.push(format!(
                "{} {} is under {expression}, which deny.toml does not allow",
                package.name, package.version
            ));
        }
    }
}

fn sources(metadata: &Metadata, breaches: &mut Vec<String>) {
    for package in metadata.packages.values() {
        let source = package.source.as_deref().unwrap_or("registry+");
        if !source.starts_with("registry+") {
            breaches.push(format!("{} comes from {source}: only the registry is a known source", package.name));
        }
    }
}

/// Evaluates an SPDX expression: `OR` (and the old `/`) binds least, then `AND`, then parentheses.
fn licence_fits(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (fits, rest) = any_of(&words, allowed);
    fits && rest.is_empty()
}

fn any_of<'a, 'b>(words: &'b [&'a str], allowed: &[String]) -> (bool, &'b [&'a str]) {
    let (mut fits, mut rest) = all_of(words, allowed);
    while let Some(("OR", more)) = rest.split_first().map(|(word, more)| (*word, more)) {
        let (other, more) = all_of(more, allowed);
        (fits, rest) = (fits || other, more);
    }
    (fits, rest)
}

fn all_of<'a, 'b>(words: &'b [&'a str], allowed: &[String]) -> (bool, &'b [&'a str]) {
    let (mut fits, mut rest) = one_licence(words, allowed);
    while let Some(("AND", more)) = rest.split_first().map(|(word, more)| (*word, more)) {
        let (other, more) = one_licence(more, allowed);
        (fits, rest) = (fits && other, more);
    }
    (fits, rest)
}

fn one_licence<'a, 'b>(words: &'b [&'a str], allowed: &[String]) -> (bool, &'b [&'a str]) {
    match words {
        ["(", rest @ ..] => {
            let (fits, rest) = any_of(rest, allowed);
            (fits, rest.get(1..).unwrap_or_default())
        }
        // An exception only ever gives more rights, but it has to be listed as it is written.
        [name, "WITH", exception, rest @ ..] => (allowed.contains(&format!("{name} WITH {exception}")), rest),
        [name, rest @ ..] => (allowed.iter().any(|licence| licence == name), rest),
        [] => (false, words),
    }
}

/// The names in an array of deny.toml: plain strings, or the `name` or `crate` of inline tables.
fn list(toml: &str, key: &str) -> Vec<String> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in toml.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let starts = line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with("= ["));
        inside |= starts;
        if inside {
            let after_bracket = if starts { line.split_once('[').map_or("", |(_, rest)| rest) } else { line };
            let first = after_bracket.split('"').nth(1).map(|name| name.split('@').next().unwrap_or(name));
            names.extend(first.map(str::to_owned));
            inside = !after_bracket.trim_end().ends_with(']');
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_point_inward_and_sideways_only_where_listed() {
        assert!(arrow("leno-proxy", "leno-http", false).is_ok());
        assert!(arrow("leno-http", "leno-net", false).is_ok());
        assert!(arrow("leno-net", "leno-telemetry", false).is_ok());
        assert!(arrow("leno-net", "leno-http", false).is_err());
        assert!(arrow("leno-model", "leno-net", false).is_err());
        assert!(arrow("leno-registry", "leno-control", false).is_err());
        assert!(arrow("leno-registry", "leno-test", true).is_ok());
        assert!(arrow("leno-registry", "leno-test", false).is_err());
        assert!(arrow("leno-new", "leno-model", false).is_err());
    }

    #[test]
    fn licence_expressions_are_evaluated() {
        let allowed = ["MIT", "Apache-2.0", "Unicode-3.0"].map(str::to_owned);
        assert!(licence_fits("MIT/GPL-3.0", &allowed));
        assert!(licence_fits("(MIT OR Apache-2.0) AND Unicode-3.0", &allowed));
        assert!(!licence_fits("MIT AND GPL-3.0", &allowed));
        assert!(!licence_fits("Apache-2.0 WITH LLVM-exception", &allowed));
        assert!(licence_fits("Apache-2.0 WITH LLVM-exception OR MIT", &allowed));
    }

    #[test]
    fn lists_are_read_from_deny_toml() {
        let toml = "allow = [\n    \"MIT\",\n    # no\n    \"ISC\",\n]\nskip = []\ndeny = [\n    { name = \"ring\", reason = \"x\" },\n]\n";
        assert_eq!(list(toml, "allow"), ["MIT", "ISC"]);
        assert_eq!(list(toml, "deny"), ["ring"]);
        assert!(list(toml, "skip").is_empty());
    }
}

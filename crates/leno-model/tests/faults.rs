//! Every class of fault, in every kind that it fits: file, line, column, path and fix.

mod cases;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leno_model::document;
use leno_model::fault::{Fault, FaultClass, Severity};
use leno_model::name::ServiceName;
use leno_model::resource::gateway::GatewaySpec;
use leno_model::resource::kind::{Kind, ResourceKey};
use leno_model::resource::reference_grant::ReferenceGrantSpec;
use leno_model::resource::traffic_policy::TrafficPolicySpec;
use leno_model::resource::{Resource, Spec};
use leno_model::validate::{Known, KnownPort, KnownService, validate};

use FaultClass::*;
use cases::{Case, all, edge, unmark, valid};

/// What exists beside the sets of this test: service `cart` with ports 80 (`http`) and 90 (`grpc`), service `one` with
/// port 80, service `seen` that is only registered, and gateway `edge`.
struct World;

impl Known for World {
    fn service(&self, name: &ServiceName) -> Option<KnownService> {
        let port = |number, name: &str| KnownPort { number, name: Some(name.into()) };
        let declared = match (&*name.namespace, &*name.name) {
            ("default", "cart") => Some(vec![port(80, "http"), port(90, "grpc")]),
            ("default", "one") => Some(vec![port(80, "http")]),
            ("default", "seen") => None,
            _ => return None,
        };
        Some(KnownService { declared })
    }

    fn gateway(&self, namespace: &str, name: &str) -> Option<GatewaySpec> {
        let spec = document::parse("edge.yaml", &edge(namespace)).resources.remove(0).resource.spec;
        match spec {
            Spec::Gateway(spec) if ["default", "other"].contains(&namespace) && name == "edge" => Some(spec),
            _ => None,
        }
    }

    fn resource(&self, _: &ResourceKey) -> Option<Resource> {
        None
    }

    fn switches_of(&self, _: &ResourceKey) -> Vec<ResourceKey> {
        Vec::new()
    }

    fn policies_of(&self, _: &ServiceName) -> Vec<(ResourceKey, TrafficPolicySpec)> {
        Vec::new()
    }

    fn grants(&self, namespace: &str) -> Vec<(Arc<str>, ReferenceGrantSpec)> {
        let grant = valid(Kind::ReferenceGrant).replace("namespace: shop", "namespace: default");
        let spec = document::parse("grant.yaml", &grant).resources.remove(0).resource.spec;
        match spec {
            Spec::ReferenceGrant(spec) if namespace == "open" => vec![("r".into(), spec)],
            _ => Vec::new(),
        }
    }
}

fn faults_of(text: &str) -> Vec<Fault> {
    let parsed = document::parse("t.yaml", text);
    let mut faults = parsed.faults;
    faults.extend(validate(&parsed.resources, &World));
    faults
}

fn examine(case: &Case) -> Result<(), String> {
    let (text, line, column) = unmark(&case.text);
    let faults = faults_of(&text);
    let shown: Vec<String> = faults.iter().map(|f| format!("{} [{}]", f, f.class)).collect();
    let Some(fault) = faults.iter().find(|f| f.class == case.class && f.path == case.path) else {
        return Err(format!("no such fault; found {shown:#?}"));
    };
    if (fault.line, fault.column, &*fault.file) != (line, column, "t.yaml") {
        return Err(format!("expected {line}:{column}; found {shown:#?}"));
    }
    if !case.fix.split('|').any(|part| fault.fix.contains(part)) {
        return Err(format!("fix is {:?}", fault.fix));
    }
    let others = faults.iter().filter(|f| f.severity == Severity::Error && f.class != case.class).count();
    if others > 0 { Err(format!("further faults: {shown:#?}")) } else { Ok(()) }
}

#[test]
fn every_class_of_fault_names_its_place_and_its_fix() {
    let cases = all();
    let mut failed = Vec::new();
    let mut classes: BTreeMap<FaultClass, usize> = BTreeMap::new();
    for case in &cases {
        *classes.entry(case.class).or_default() += 1;
        if let Err(why) = examine(case) {
            failed.push(format!(
                "{} at {}: {why}\n{}",
                case.class,
                case.path,
                case.text.chars().take(600).collect::<String>()
            ));
        }
    }
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), cases.len(), failed.join("\n\n"));
    println!("{} classes of fault in {} cases", classes.len(), cases.len());
    // Those of a file as a whole are tested below; whose a resource is and who was faster, where sets meet; what proxies honour, by `leno check`.
    let elsewhere: BTreeSet<FaultClass> = [Encoding, TooLarge, Owned, Conflict, NotHonoured].into();
    let missing: Vec<_> =
        FaultClass::ALL.iter().filter(|c| !classes.contains_key(c) && !elsewhere.contains(c)).collect();
    assert!(missing.is_empty() && classes.len() >= 40, "{} classes, without {missing:?}", classes.len());
}

#[test]
fn a_text_that_is_no_text_or_too_long_is_refused_as_a_whole() {
    let not_text = document::parse_bytes("t.yaml", b"kind: a\nname: \xff");
    assert_eq!(not_text.faults[0].to_string(), "t.yaml:2:7: byte 14 is not UTF-8 (save the file as UTF-8 text)");
    let long = document::parse("t.yaml", &"a".repeat(document::TEXT_BYTES_MAX + 1));
    assert_eq!((long.faults[0].class, long.faults[0].line), (TooLarge, 0));
}

#[test]
fn a_valid_resource_of_every_kind_has_no_error_under_each_of_its_versions() {
    for kind in Kind::ALL {
        for version in kind.versions() {
            let text = valid(kind).replace(&kind.api_version(), &format!("{}/{version}", kind.group()));
            let errors: Vec<Fault> = faults_of(&text).into_iter().filter(|f| f.severity == Severity::Error).collect();
            assert_eq!(errors, vec![], "{kind} {version}");
        }
    }
}

#[test]
fn a_reference_to_another_namespace_is_a_warning_until_a_grant_of_its_kind_permits_it() {
    let route = |kind, namespace: &str| {
        valid(kind).replace("{name: cart, port: 80}", &format!("{{name: cart, namespace: {namespace}, port: 80}}"))
    };
    let warned = |text: &str| faults_of(text).iter().filter(|fault| fault.class == CrossNamespace).count();
    assert_eq!(warned(&route(Kind::HttpRoute, "open")), 0, "granted beside the set");
    assert_eq!(warned(&route(Kind::GrpcRoute, "open")), 1, "granted to another kind");
    assert_eq!(warned(&route(Kind::HttpRoute, "closed")), 1, "not granted");
    let grant = valid(Kind::ReferenceGrant)
        .replace("namespace: shop", "namespace: default")
        .replace("{name: r}", "{name: r, namespace: closed}");
    assert_eq!(warned(&format!("{}---\n{grant}", route(Kind::HttpRoute, "closed"))), 0, "granted in the set");
    let narrower =
        grant.replace("namespace: closed", "namespace: open").replace("kind: Service}", "kind: Service, name: one}");
    assert_eq!(
        warned(&format!("{}---\n{narrower}", route(Kind::HttpRoute, "open"))),
        1,
        "the set takes the grant back"
    );
    assert!(faults_of(&route(Kind::HttpRoute, "closed")).iter().all(|fault| fault.severity == Severity::Warning));
}

#[test]
fn all_faults_of_a_set_are_reported_together() {
    let text = "apiVersion: leno.mesh/v1\nkind: Service\nmetadata: {name: A, nmae: b}\nspec: {prots: [], protocol: x}\n---\n\
                apiVersion: leno.mesh/v1\nkind: Service\nmetadata: {name: B}\nspec: {ports: []}\n";
    let classes: Vec<FaultClass> = faults_of(text).iter().map(|fault| fault.class).collect();
    assert_eq!(classes, [UnknownField, UnknownValue, UnknownField, InvalidName, Empty]);
}

#[test]
fn what_was_written_is_kept_without_defaults() {
    let text = "apiVersion: leno.mesh/v1\nkind: Service\nmetadata:\n  name: cart\nspec:\n  ports:\n  - port: 80\n";
    let written = document::parse("t.yaml", text).resources.remove(0);
    assert_eq!(document::to_yaml(&written.value), text);
    let again: Resource = document::resource_from_value("store", written.value).unwrap();
    assert_eq!(again, written.resource);
}

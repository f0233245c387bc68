//! Whatever is outside a protected prefix by leno's canonical path, none of the servers behind it reads as inside.
//!
//! 100,000 generated targets go through `leno_model::path` and a router with a rule for the prefix; what the router lets
//! by is read as eight servers read it (`models.rs`). The generator knows the spellings by which rules are evaded.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

mod generate;
mod models;

use std::collections::BTreeMap;
use std::io::Write;

use leno_model::path::{EscapedSlashes, canonical};
use leno_model::snapshot::{Action, HostPattern, Match, Origin, PathMatch, RouteConfig, Rule, VirtualHost};
use leno_route::{FieldLookup, RequestView, Router};

use generate::Generator;
use models::{MODELS, is_inside};

const PATHS: usize = 100_000;
const PREFIXES: [&str; 3] = ["/admin", "/a/admin", "/pub/a/admin"];

#[test]
fn what_leno_lets_past_a_prefix_no_server_reads_as_inside() {
    let (mut refused, mut inside, mut outside, mut evading) = (0, 0, 0, 0);
    let mut read: BTreeMap<&str, usize> = BTreeMap::new();
    let mut generator = Generator::new(20_261_121);
    for number in 0..PATHS {
        let (target, prefix) = (generator.target(), PREFIXES[number % PREFIXES.len()]);
        let naive = path_of(&target).starts_with(&format!("{prefix}/")) || path_of(&target) == prefix;
        let evades = MODELS.iter().any(|(_, model)| !naive && is_inside(model(target.as_bytes()), prefix));
        evading += usize::from(evades);
        let canonical = match canonical(target.as_bytes(), EscapedSlashes::Refuse) {
            Err(_) => {
                refused += 1;
                continue;
            }
            Ok(canonical) => canonical.unwrap_or_else(|| target.clone()),
        };
        if is_routed_inside(prefix, path_of(&canonical)) {
            inside += 1;
            continue;
        }
        outside += 1;
        for (name, model) in MODELS {
            let reading = model(canonical.as_bytes());
            *read.entry(name).or_default() += usize::from(reading.is_some());
            assert!(
                !is_inside(reading.clone(), prefix),
                "{name} reads {target:?}, forwarded as {canonical:?}, as {:?}, inside {prefix}",
                String::from_utf8_lossy(&reading.unwrap_or_default())
            );
        }
    }
    // Past what collects the output of tests that pass.
    let _ = writeln!(
        std::io::stdout(),
        "paths: {PATHS} generated, {refused} refused, {inside} inside, {outside} outside and read as inside by none of {} servers; {evading} would evade a rule that compares what was sent",
        MODELS.len()
    );
    // A generator that finds nothing shows nothing.
    assert!(evading > PATHS / 50 && inside > PATHS / 100 && outside > PATHS / 5, "{evading} {inside} {outside}");
    assert!(read.values().all(|read| *read > outside / 2), "{read:?} of {outside}");
}

#[test]
fn each_server_is_modelled_as_it_is_known_to_read() {
    for (name, target, wanted) in models::KNOWN {
        let (_, model) = MODELS.iter().find(|(known, _)| known == name).unwrap();
        let reading = model(target.as_bytes()).map(|path| String::from_utf8_lossy(&path).into_owned());
        assert_eq!(reading.as_deref(), *wanted, "{name}, {target}");
    }
}

/// Whether a rule for the prefix takes it.
fn is_routed_inside(prefix: &str, path: &str) -> bool {
    struct None;
    impl FieldLookup for None {
        fn each_value<'a>(&'a self, _: &str, _: &mut dyn FnMut(&'a [u8])) {}
    }
    thread_local! {
        static ROUTERS: Vec<(&'static str, Router)> = PREFIXES.iter().map(|prefix| (*prefix, router(prefix))).collect();
    }
    ROUTERS.with(|routers| {
        let (_, router) = routers.iter().find(|(known, _)| *known == prefix).unwrap();
        router.route(&RequestView { host: "t", method: "GET", path, query: "", fields: &None }).is_some()
    })
}

fn router(prefix: &str) -> Router {
    let when = Match { path: PathMatch::Prefix(prefix.into()), ..Match::default() };
    let rule = Rule {
        origin: Origin { resource: "default".into(), rule: 0, name: None },
        when,
        filters: Vec::new(),
        action: Action::Forward(Vec::new()),
        request_timeout: None,
        try_timeout: None,
        retry: None,
    };
    let hosts = vec![VirtualHost { hostnames: vec![HostPattern::Any], rules: vec![rule] }];
    Router::compile(&RouteConfig { name: "t".into(), hosts }).unwrap()
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap()
}

//! Whatever is outside a protected prefix by leno's canonical path, none of the servers behind it reads as inside.
//!
//! 100,000 generated targets go through `leno_model::path` and a router with a rule for the prefix; what the router lets
//! by is read as eight servers read it (`models.rs`). The generator knows the spellings by which rules are evaded. The
//! servers themselves read 2,000 targets, so that it is known what the models are worth (`servers.rs`).

// Helpers of tests are tests; real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod generate;
mod models;
mod servers;

use std::collections::BTreeMap;
use std::io::Write;

use leno_model::path::{EscapedSlashes, canonical};
use leno_model::snapshot::{Action, HostPattern, Match, Origin, PathMatch, RouteConfig, Rule, VirtualHost};
use leno_route::{FieldLookup, RequestView, Router};

use generate::Generator;
use models::{MODELS, Model, is_inside};
use servers::{Kind, SERVERS};

/// Targets that are generated; `LENO_READINGS_PATHS` asks for more.
const PATHS: usize = 100_000;
/// Targets that each real server reads: as they are, and as leno forwards them.
const REAL_PATHS: usize = 2_000;
const PREFIXES: [&str; 3] = ["/admin", "/a/admin", "/pub/a/admin"];

#[test]
fn what_leno_lets_past_a_prefix_no_server_reads_as_inside() {
    let (mut refused, mut inside, mut outside, mut evading) = (0, 0, 0, 0);
    let mut read: BTreeMap<&str, usize> = BTreeMap::new();
    let mut generator = Generator::new(20_261_121);
    let paths = std::env::var("LENO_READINGS_PATHS").map_or(PATHS, |paths| paths.parse().unwrap());
    for number in 0..paths {
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
        "paths: {paths} generated, {refused} refused, {inside} inside, {outside} outside and read as inside by none of {} servers; {evading} would evade a rule that compares what was sent",
        MODELS.len()
    );
    // A generator that finds nothing shows nothing.
    assert!(evading > paths / 50 && inside > paths / 100 && outside > paths / 5, "{evading} {inside} {outside}");
    assert!(read.values().all(|read| *read > outside / 2), "{read:?} of {outside}");
}

#[test]
fn no_real_server_reads_as_inside_what_its_model_reads_as_outside() {
    std::thread::scope(|scope| {
        let compared: Vec<_> = SERVERS.iter().map(|kind| scope.spawn(|| compare(kind))).collect();
        let lines: Vec<String> = compared.into_iter().map(|line| line.join().unwrap()).collect();
        let _ = writeln!(std::io::stdout(), "{}", lines.join("\n"));
    });
}

/// Has a server read what its model reads; what came of it, in a line.
fn compare(kind: &Kind) -> String {
    if let Some(need) = kind.missing() {
        return skip(kind.name, need);
    }
    let (server, mut generator) = (kind.start(), Generator::new(2_000));
    let models: Vec<Model> = MODELS.iter().filter(|(name, _)| name.starts_with(kind.name)).map(|m| m.1).collect();
    let (mut targets, mut same, mut refused, mut inside) = (0, 0, 0, 0);
    while targets < REAL_PATHS {
        let target = generator.target();
        let forwarded = canonical(target.as_bytes(), EscapedSlashes::Refuse).ok();
        let forwarded = forwarded.map(|forwarded| forwarded.unwrap_or_else(|| target.clone()));
        for sent in [Some(&target), forwarded.as_ref()].into_iter().flatten() {
            targets += 1;
            let real = server.read(sent);
            refused += usize::from(real.is_none());
            same += usize::from(models.iter().any(|model| model(sent.as_bytes()) == real));
            for prefix in PREFIXES {
                let is_read_inside = is_inside(real.clone(), prefix);
                inside += usize::from(is_read_inside);
                let modelled = models.iter().any(|model| is_inside(model(sent.as_bytes()), prefix));
                assert!(
                    !is_read_inside || modelled,
                    "{} reads {sent:?} inside {prefix}, its model does not",
                    kind.name
                );
                let by_leno = forwarded.as_ref() == Some(sent) && !is_routed_inside(prefix, path_of(sent));
                assert!(
                    !is_read_inside || !by_leno,
                    "{} reads {sent:?}, which leno forwards, inside {prefix}",
                    kind.name
                );
            }
        }
    }
    format!(
        "paths: {} read {targets}, {same} to the letter as its model, {refused} refused, {inside} inside",
        kind.name
    )
}

/// Says aloud, and to who counts skips, what did not run.
fn skip(server: &str, need: &str) -> String {
    if let Some(file) = std::env::var_os("LENO_SKIPS") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        writeln!(file, "no_real_server_reads_as_inside_what_its_model_reads_as_outside: {need} is not there").unwrap();
    }
    format!("SKIPPED: {server}: {need} is not there")
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

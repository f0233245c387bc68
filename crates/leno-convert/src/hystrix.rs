//! Hystrix's properties: `hystrix.command.KEY.*` and `hystrix.threadpool.KEY.*`, over `default`.
//!
//! A command has all of Hystrix's defaults in force (a second of time, ten at once, a breaker), so that they are written out: without
//! a policy leno has none of them. A key is a service by its name, or by `--map`; the `Class#method()` of a Feign client is no name.

use std::collections::BTreeSet;

use leno_model::fault::Fault;
use leno_model::name::ServiceName;
use serde_json::{Map, Value, json};

use crate::node::{self, Node};
use crate::policies::Policies;
use crate::resource::Options;

const DEFAULT: &str = "default";

/// What is read of a command.
const COMMAND: &[&[&str]] = &[
    &["execution", "isolation", "strategy"],
    &["execution", "isolation", "thread", "timeoutInMilliseconds"],
    &["execution", "isolation", "thread", "interruptOnTimeout"],
    &["execution", "isolation", "thread", "interruptOnCancel"],
    &["execution", "isolation", "semaphore", "maxConcurrentRequests"],
    &["execution", "timeout", "enabled"],
    &["circuitBreaker", "enabled"],
    &["circuitBreaker", "requestVolumeThreshold"],
    &["circuitBreaker", "errorThresholdPercentage"],
    &["circuitBreaker", "sleepWindowInMilliseconds"],
    &["circuitBreaker", "forceOpen"],
    &["circuitBreaker", "forceClosed"],
    &["metrics"],
    &["fallback"],
    &["requestCache"],
    &["requestLog"],
    &["threadPoolKeyOverride"],
];

/// What is read of a pool.
const POOL: &[&[&str]] = &[
    &["coreSize"],
    &["maximumSize"],
    &["allowMaximumSizeToDivergeFromCoreSize"],
    &["maxQueueSize"],
    &["queueSizeRejectionThreshold"],
    &["keepAliveTimeMinutes"],
    &["metrics"],
];

/// A command or pool over the default.
struct Settings<'n> {
    layers: Vec<&'n Node>,
    /// Whether something is said of it by name.
    is_named: bool,
}

/// Converts all commands.
pub(crate) fn convert(root: &Node, options: &Options, policies: &mut Policies) {
    let (commands, pools) = (root.kid("command"), root.kid("threadpool"));
    if let Some(collapsers) = root.kid("collapser") {
        policies.lose(collapsers.lost(
            "requests that differ are not made into one",
            "leave the collapsers in the application; `collapse` has those share one that are the same",
        ));
    }
    let groups = [commands, pools].into_iter().flatten().flat_map(|group| &group.kids);
    let mut keys: BTreeSet<&str> = groups.map(|(key, _)| key.as_str()).collect();
    let is_default_alone = keys.len() == 1 && keys.contains(DEFAULT) && options.service.is_some();
    if !is_default_alone && keys.remove(DEFAULT) && keys.is_empty() {
        policies.lose(root.lost("a default that no command here has", "say for which service it is: `--service NAME`"));
    }
    // A pool that commands name is theirs, and no command of its own.
    let is_command = |key: &str| commands.is_some_and(|commands| commands.kids.iter().any(|(own, _)| own == key));
    let overrides =
        commands.into_iter().flat_map(|commands| &commands.kids).filter_map(|(_, command)| pool_of(command));
    let named: BTreeSet<String> = overrides.collect();
    keys.retain(|key| is_command(key) || !named.contains(*key));
    for key in keys {
        let command = layers(commands, key);
        let pool_key = command.layers.first().and_then(|command| pool_of(command));
        let pool = layers(pools, pool_key.as_deref().unwrap_or(key));
        let Some(node) = command.layers.first().or(pool.layers.first()).copied() else { continue };
        let service = match options.service.clone().filter(|_| is_default_alone) {
            Some(service) => Ok(service),
            None => options.named(key, node),
        };
        let done = service.and_then(|service| {
            policies.say(&service, format!("command {key}: line {} of {}", node.place.line, node.file));
            for (settings, known) in [(&command, COMMAND), (&pool, POOL)] {
                settings.layers.iter().for_each(|layer| say_unknown(layer, known, &service, policies));
            }
            convert_one(&command, &pool, node, &service, policies)
        });
        if let Err(fault) = done {
            policies.lose(fault);
        }
    }
}

fn layers<'n>(group: Option<&'n Node>, key: &str) -> Settings<'n> {
    let kids = group.map(|group| group.kids.as_slice()).unwrap_or_default();
    let named = |name: &str| kids.iter().find(|(own, _)| own == name).map(|(_, node)| node);
    let default = named(DEFAULT).filter(|_| key != DEFAULT);
    Settings { layers: named(key).into_iter().chain(default).collect(), is_named: named(key).is_some() }
}

/// The pool that a command names.
fn pool_of(command: &Node) -> Option<String> {
    command.kid("threadPoolKeyOverride").map(Node::text).filter(|key| !key.is_empty())
}

fn convert_one(
    command: &Settings<'_>,
    pool: &Settings<'_>,
    node: &Node,
    service: &ServiceName,
    policies: &mut Policies,
) -> Result<(), Fault> {
    let thread = ["execution", "isolation", "thread"];
    if command.flag(&["execution", "timeout", "enabled"], true)? {
        let ms = command.whole(&[&thread[..], &["timeoutInMilliseconds"]].concat(), 1000)?;
        put(policies, command.is_named, service, "requestTimeout", json!(format!("{ms}ms")), node);
    }
    let strategy = command.get(&["execution", "isolation", "strategy"]).map(Node::text).unwrap_or_default();
    if strategy.eq_ignore_ascii_case("SEMAPHORE") {
        let requests = command.whole(&["execution", "isolation", "semaphore", "maxConcurrentRequests"], 10)?;
        put(policies, command.is_named, service, "limits", json!({ "requests": requests }), node);
    } else {
        let core = pool.whole(&["coreSize"], 10)?;
        let diverges = pool.flag(&["allowMaximumSizeToDivergeFromCoreSize"], false)?;
        let requests = if diverges { core.max(pool.whole(&["maximumSize"], 10)?) } else { core };
        let queue = pool.whole(&["maxQueueSize"], -1)?.min(pool.whole(&["queueSizeRejectionThreshold"], 5)?);
        let mut limits = json!({ "requests": requests });
        if queue > 0 {
            limits["queue"] = json!({ "size": queue });
        }
        put(policies, pool.is_named, service, "limits", limits, node);
    }
    breaker(command, node, service, policies)?;
    for (path, why, fix) in [
        (
            &["fallback"][..],
            "what it answers stands in code",
            "write it as `fallback` of the TrafficPolicy, a `reply` or another `service`",
        ),
        (
            &["requestCache"],
            "it is kept within one request of the application",
            "leave it there, or have `cache` keep what answers say may be kept",
        ),
    ] {
        let node = command.get(path).filter(|node| node.kid("enabled").is_none_or(|enabled| enabled.text() != "false"));
        if let Some(node) = node {
            policies.lose_of(service, node.lost(why, fix));
        }
    }
    Ok(())
}

fn breaker(command: &Settings<'_>, node: &Node, service: &ServiceName, policies: &mut Policies) -> Result<(), Fault> {
    if !command.flag(&["circuitBreaker", "enabled"], true)? {
        return Ok(());
    }
    let mut breaker = Map::from_iter([("preset".to_owned(), json!("hystrix"))]);
    // What holds it open is asked first there.
    for (name, state) in [("forceClosed", "closed"), ("forceOpen", "open")] {
        if command.flag(&["circuitBreaker", name], false)? {
            breaker.insert("forced".to_owned(), json!(state));
        }
    }
    for (path, field, unit) in [
        (&["circuitBreaker", "requestVolumeThreshold"][..], "minRequests", ""),
        (&["circuitBreaker", "errorThresholdPercentage"], "failureRatio", ""),
        (&["circuitBreaker", "sleepWindowInMilliseconds"], "openTime", "ms"),
        (&["metrics", "rollingStats", "timeInMilliseconds"], "window", "ms"),
    ] {
        let Some(node) = command.get(path) else { continue };
        let value = node.whole()?;
        breaker.insert(field.to_owned(), if unit.is_empty() { json!(value) } else { json!(format!("{value}{unit}")) });
    }
    put(policies, command.is_named, service, "breaker", json!(breaker), node);
    Ok(())
}

/// What is said by name comes before what is a default: a service may stand as a command under one name and as a pool under
/// another.
fn put(policies: &mut Policies, is_named: bool, service: &ServiceName, field: &'static str, value: Value, node: &Node) {
    if is_named {
        policies.part(service, field, value, node);
    } else {
        policies.default_part(service, field, value, node);
    }
}

/// Says what of a command nothing looks at.
fn say_unknown(layer: &Node, known: &[&[&str]], service: &ServiceName, policies: &mut Policies) {
    for (name, kid) in &layer.kids {
        let rest: Vec<&[&str]> =
            known.iter().filter(|path| node::is_same(path[0], name)).map(|path| &path[1..]).collect();
        if rest.is_empty() {
            policies.lose_of(
                service,
                kid.lost(
                    format!("leno knows no `{name}` of Hystrix 1.5.18"),
                    "see what it does, and whether it is needed",
                ),
            );
        } else if rest.iter().all(|path| !path.is_empty()) {
            say_unknown(kid, &rest, service, policies);
        }
    }
}

// === impl Settings ===

impl<'n> Settings<'n> {
    fn get(&self, path: &[&str]) -> Option<&'n Node> {
        self.layers.iter().find_map(|layer| path.iter().try_fold(*layer, |node, name| node.kid(name)))
    }

    fn whole(&self, path: &[&str], default: i64) -> Result<i64, Fault> {
        self.get(path).map_or(Ok(default), Node::whole)
    }

    fn flag(&self, path: &[&str], default: bool) -> Result<bool, Fault> {
        self.get(path).map_or(Ok(default), Node::flag)
    }
}

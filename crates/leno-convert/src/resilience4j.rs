//! Resilience4j's settings as Spring has them: `resilience4j.KIND.instances.NAME`, over what they are based on.
//!
//! An instance has what stands in it, then in the configuration that its `base-config` names, else in the one of its own name
//! (circuit breakers alone) or in `default`. An instance is a service by its name, or by `--map`. What is only for Spring's own
//! health pages and events needs nothing here.

use std::time::Duration;

use leno_model::fault::Fault;
use leno_model::name::ServiceName;
use leno_model::resource::duration::GatewayDuration;
use serde_json::{Map, Value, json};

use crate::node::{self, Node};
use crate::policies::Policies;
use crate::resource::{Options, Target};

mod breaker;

/// The longest chain of `base-config`.
const BASES_MAX: usize = 8;
/// The most tries after the first.
const ATTEMPTS_MAX: i64 = 10;
/// How many times longer each wait is, where nothing is said (`IntervalFunction`).
const FACTOR: f64 = 1.5;
/// The most that may wait, where there is no bound there.
const QUEUE_MAX: u32 = 10_000;

/// What every kind has and nothing here needs.
const ASIDE: &[&str] = &[
    "baseConfig",
    "registerHealthIndicator",
    "allowHealthIndicatorToFail",
    "eventConsumerBufferSize",
    "subscribeForEvents",
    "writableStackTraceEnabled",
    "timestampFunction",
    "ignoreClassBindingExceptions",
];

type Convert = fn(&Settings<'_>, &ServiceName, &mut Policies) -> Result<(), Fault>;

/// Each kind with the settings that are looked at.
const KINDS: &[(&str, Convert, &[&str])] = &[
    ("circuitbreaker", breaker::convert, breaker::KNOWN),
    ("bulkhead", bulkhead, &["maxConcurrentCalls", "maxConcurrentCall", "maxWaitDuration"]),
    (
        "thread-pool-bulkhead",
        thread_pool,
        &["maxThreadPoolSize", "coreThreadPoolSize", "queueCapacity", "keepAliveDuration"],
    ),
    ("ratelimiter", rate_limiter, &["limitForPeriod", "limitRefreshPeriod", "timeoutDuration"]),
    (
        "retry",
        retry,
        &[
            "maxAttempts",
            "maxRetryAttempts",
            "waitDuration",
            "enableExponentialBackoff",
            "exponentialBackoffMultiplier",
            "exponentialMaxWaitDuration",
            "enableRandomizedWait",
            "randomizedWaitFactor",
            "retryExceptions",
            "ignoreExceptions",
            "failAfterMaxAttempts",
            "intervalFunction",
            "intervalBiFunction",
            "retryExceptionPredicate",
            "resultPredicate",
        ],
    ),
    ("timelimiter", time_limiter, &["timeoutDuration", "cancelRunningFuture"]),
];

/// The settings of one instance.
struct Settings<'n> {
    name: String,
    node: &'n Node,
    /// What counts first stands first.
    layers: Vec<&'n Node>,
}

/// Converts all kinds.
pub(crate) fn convert(root: &Node, options: &Options, policies: &mut Policies) {
    for (name, kind) in &root.kids {
        let Some((own, convert, known)) = KINDS.iter().find(|(own, ..)| node::is_same(own, name)) else {
            if !kind.is_leaf() && !node::is_same(name, "timer") {
                policies.lose(kind.lost(
                    format!("leno knows no `{name}` of Resilience4j"),
                    "see what it does, and whether it is needed",
                ));
            }
            continue;
        };
        instances(kind, own, options, policies, |settings, service, policies| {
            say_unknown(settings, service, known, policies);
            if let Err(fault) = convert(settings, service, policies) {
                policies.lose_of(service, fault);
            }
        });
    }
}

fn instances(
    kind: &Node,
    name: &str,
    options: &Options,
    policies: &mut Policies,
    mut each: impl FnMut(&Settings<'_>, &ServiceName, &mut Policies),
) {
    let configs = kind.kid("configs");
    let named = |name: &str| {
        configs.and_then(|configs| configs.kids.iter().find(|(own, _)| own == name)).map(|(_, config)| config)
    };
    let all = ["instances", "backends"].into_iter().filter_map(|word| kind.kid(word)).flat_map(|group| &group.kids);
    let mut any = false;
    for (instance, node) in all {
        any = true;
        let mut settings = Settings { name: instance.clone(), node, layers: vec![node] };
        let mut last = node;
        while let Some(base) = last.kid("baseConfig").filter(|_| settings.layers.len() <= BASES_MAX) {
            let Some(config) = named(&base.text()) else {
                policies.lose(
                    base.lost(
                        format!("there is no configuration {:?}", base.text()),
                        "name one that stands in `configs`",
                    ),
                );
                break;
            };
            settings.layers.push(config);
            last = config;
        }
        if settings.layers.len() == 1 {
            let own = named(instance).filter(|_| name == "circuitbreaker");
            settings.layers.extend(own.or_else(|| named("default")));
        }
        match options.named(instance, node) {
            Ok(service) => {
                policies.say(&service, format!("{name} {instance}: line {} of {}", node.place.line, node.file));
                each(&settings, &service, policies);
            }
            Err(fault) => policies.lose(fault),
        }
    }
    let Some(default) = named("default").filter(|_| !any) else { return };
    match &options.service {
        Some(service) => {
            each(&Settings { name: "default".to_owned(), node: default, layers: vec![default] }, service, policies)
        }
        None => policies.lose(
            default.lost("a configuration that no instance here has", "say for which service it is: `--service NAME`"),
        ),
    }
}

fn say_unknown(settings: &Settings<'_>, service: &ServiceName, known: &[&str], policies: &mut Policies) {
    for (name, field) in settings.layers.iter().flat_map(|layer| &layer.kids) {
        if !ASIDE.iter().chain(known).any(|own| node::is_same(own, name)) {
            policies.lose_of(
                service,
                field.lost(
                    format!("leno knows no `{name}` of Resilience4j"),
                    "see what it does, and whether it is needed",
                ),
            );
        }
    }
}

fn bulkhead(settings: &Settings<'_>, service: &ServiceName, policies: &mut Policies) -> Result<(), Fault> {
    let calls = settings.first(&["maxConcurrentCalls", "maxConcurrentCall"]).map_or(Ok(25), Node::whole)?;
    let wait = settings.duration("maxWaitDuration", Duration::ZERO)?;
    let mut limits = json!({ "requests": calls });
    if !wait.is_zero() {
        policies.say(service, format!("limits.queue: as many as like wait there, and {QUEUE_MAX} at most here"));
        limits["queue"] = json!({ "size": QUEUE_MAX, "timeout": text(wait) });
    }
    policies.part(service, "limits", limits, settings.node);
    Ok(())
}

fn thread_pool(settings: &Settings<'_>, service: &ServiceName, policies: &mut Policies) -> Result<(), Fault> {
    let threads = settings.get("maxThreadPoolSize").ok_or_else(|| {
        settings.node.lost(
            "as many threads as the machine has cores",
            "write `maxThreadPoolSize`, which is how many requests are open at once",
        )
    })?;
    let (threads, capacity) = (threads.whole()?, settings.get("queueCapacity").map_or(Ok(100), Node::whole)?);
    let mut limits = json!({ "requests": threads });
    if capacity > 0 {
        policies.say(
            service,
            "limits.queue: who is in it waits as long as its request may take there, and a minute at most here",
        );
        limits["queue"] = json!({ "size": capacity, "timeout": "1m" });
    }
    policies.part(service, "limits", limits, settings.node);
    Ok(())
}

fn rate_limiter(settings: &Settings<'_>, service: &ServiceName, policies: &mut Policies) -> Result<(), Fault> {
    let requests = settings.get("limitForPeriod").map_or(Ok(50), Node::whole)?;
    let per = settings.duration("limitRefreshPeriod", Duration::from_nanos(500))?;
    let timeout = settings.duration("timeoutDuration", Duration::from_secs(5))?;
    if per < Duration::from_millis(1) {
        let why = format!("{requests} in {per:?} is no limit: a period here is a millisecond or longer");
        return Err(settings.of("limitRefreshPeriod").lost(why, "write `limitRefreshPeriod`, as 1s"));
    }
    let distance = per.checked_div(u32::try_from(requests).unwrap_or(1).max(1)).unwrap_or(per);
    let limit = if timeout < distance {
        json!({ "window": { "requests": requests, "per": text(per) } })
    } else {
        policies.say(
            service,
            "rateLimits.queue: one after the other, where Resilience4j lets a period's calls through at once",
        );
        json!({ "queue": { "requests": requests, "per": text(per), "timeout": text(timeout) } })
    };
    let target = Target { service: service.clone(), matches: None, at_caller: true };
    policies.rate_limit(&target, &settings.name, limit, settings.node);
    Ok(())
}

fn retry(settings: &Settings<'_>, service: &ServiceName, policies: &mut Policies) -> Result<(), Fault> {
    let all = settings.first(&["maxAttempts", "maxRetryAttempts"]).map_or(Ok(3), Node::whole)?;
    let mut attempts = all - 1;
    if attempts > ATTEMPTS_MAX {
        let why = format!("{all} tries became {}: there are {ATTEMPTS_MAX} after the first at most", ATTEMPTS_MAX + 1);
        policies.lose_of(
            service,
            settings.of("maxAttempts").lost(why, "see whether so many are of any use: a budget bounds them too"),
        );
        attempts = ATTEMPTS_MAX;
    }
    let wait = settings.duration("waitDuration", Duration::from_millis(500))?;
    let mut longest = wait;
    if settings.get("enableExponentialBackoff").map_or(Ok(false), Node::flag)? {
        let most = settings.get("exponentialMaxWaitDuration").map(Node::duration).transpose()?;
        // What has no bound there has as many doublings as there are tries.
        longest = most
            .unwrap_or_else(|| wait.saturating_mul(1 << attempts.clamp(0, ATTEMPTS_MAX)))
            .clamp(wait, Duration::from_secs(60).max(wait));
        let written = settings.get("exponentialBackoffMultiplier");
        let factor = written.map_or(Ok(FACTOR), Node::decimal)?;
        if let Some(said) = written.or(settings.get("enableExponentialBackoff")).filter(|_| factor != 2.0) {
            policies.lose_of(
                service,
                said.lost(
                    format!("waits double with each try here, and grow {factor} times there"),
                    "see whether that will do",
                ),
            );
        }
    }
    for name in ["retryExceptions", "ignoreExceptions"] {
        say_exceptions(settings, name, "retry.on", service, policies);
    }
    for name in ["intervalFunction", "intervalBiFunction", "retryExceptionPredicate", "resultPredicate"] {
        if let Some(field) = settings.get(name) {
            policies.lose_of(
                service,
                field.lost(
                    format!("`{name}` is code of the application"),
                    "say in `retry.on` and `retry.codes` after what is tried again",
                ),
            );
        }
    }
    if attempts > 0 {
        policies.say(
            service,
            "retry: without `methods` no POST is tried again, where Resilience4j repeats whatever it was",
        );
        let retry = json!({ "on": ["5xx", "reset", "unavailable"], "attempts": attempts, "backoff": text(wait), "maxBackoff": text(longest) });
        policies.part(service, "retry", retry, settings.node);
    }
    Ok(())
}

fn time_limiter(settings: &Settings<'_>, service: &ServiceName, policies: &mut Policies) -> Result<(), Fault> {
    let timeout = settings.duration("timeoutDuration", Duration::from_secs(1))?;
    if let Some(cancel) = settings.get("cancelRunningFuture").filter(|cancel| cancel.flag().is_ok_and(|is_so| !is_so)) {
        policies.lose_of(
            service,
            cancel
                .lost("what is late is always cancelled here", "nothing, unless somebody relies on the call going on"),
        );
    }
    policies.part(service, "requestTimeout", json!(text(timeout)), settings.node);
    Ok(())
}

/// Classes of exceptions count for nothing here, but those that are a bad answer or none are what counts anyway.
fn say_exceptions(settings: &Settings<'_>, name: &str, field: &str, service: &ServiceName, policies: &mut Policies) {
    const COUNTED: &[&str] = &[
        "java.lang.Exception",
        "java.lang.Throwable",
        "java.lang.RuntimeException",
        "java.io.IOException",
        "java.io.UncheckedIOException",
        "java.net.ConnectException",
        "java.net.SocketTimeoutException",
        "java.util.concurrent.TimeoutException",
        "feign.RetryableException",
        "feign.FeignException.FeignServerException",
        "org.springframework.web.client.HttpServerErrorException",
        "org.springframework.web.client.ResourceAccessException",
        "org.springframework.web.client.RestClientException",
    ];
    let Some(node) = settings.get(name) else { return };
    let is_record = !name.starts_with("ignore");
    let others: Vec<String> = node
        .list()
        .into_iter()
        .filter(|class| !is_record || !COUNTED.contains(&class.replace('$', ".").as_str()))
        .collect();
    if !others.is_empty() {
        let why = format!("`{name}` {}: leno sees answers and not exceptions", others.join(", "));
        policies.lose_of(
            service,
            node.lost(why, format!("5xx and no answer are what counts; see whether `{field}` does what they were for")),
        );
    }
}

/// A time as resources write it; what is less than a millisecond is one.
fn text(time: Duration) -> String {
    GatewayDuration(if time.is_zero() { time } else { time.max(Duration::from_millis(1)) }).to_string()
}

// === impl Settings ===

impl<'n> Settings<'n> {
    /// What counts of a setting.
    fn get(&self, name: &str) -> Option<&'n Node> {
        self.layers.iter().find_map(|layer| layer.kid(name))
    }

    fn first(&self, names: &[&str]) -> Option<&'n Node> {
        names.iter().find_map(|name| self.get(name))
    }

    /// Where a setting stands, or would.
    fn of(&self, name: &str) -> &'n Node {
        self.get(name).unwrap_or(self.node)
    }

    fn duration(&self, name: &str, default: Duration) -> Result<Duration, Fault> {
        self.get(name).map_or(Ok(default), Node::duration)
    }

    /// Puts a setting into what is made, where it is written.
    fn put(
        &self,
        name: &str,
        made: &mut Map<String, Value>,
        field: &str,
        value: impl Fn(&Node) -> Result<Value, Fault>,
    ) -> Result<(), Fault> {
        if let Some(node) = self.get(name) {
            made.insert(field.to_owned(), value(node)?);
        }
        Ok(())
    }
}

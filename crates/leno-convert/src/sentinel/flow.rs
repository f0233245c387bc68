//! Flow rules: so many requests a second, or at once.

use leno_model::fault::Fault;
use serde_json::{Value, json};

use super::{Rule, rate};
use crate::node::Node;
use crate::policies::Policies;
use crate::resource::Options;

/// The most of a window, which keeps a time for each.
const WINDOW_MAX: f64 = 100_000.0;

const KNOWN: &[&str] =
    &["grade", "count", "strategy", "refResource", "controlBehavior", "warmUpPeriodSec", "maxQueueingTimeMs"];

pub(super) fn convert(rule: &Rule<'_>, options: &Options, policies: &mut Policies) -> Result<(), Fault> {
    let target = rule.target(options)?;
    let done = refuse(rule).and_then(|()| limit(rule));
    rule.say_unknown(&target.service, KNOWN, policies);
    match done {
        Ok(limit) => policies.rate_limit(&target, &rule.resource, limit, rule.node),
        Err(fault) => policies.lose_of(&target.service, fault),
    }
    Ok(())
}

/// What has no place in a limit.
fn refuse(rule: &Rule<'_>) -> Result<(), Fault> {
    let with = || rule.node.kid("refResource").map(Node::text).unwrap_or_default();
    match rule.whole("strategy", 0)? {
        0 => {}
        1 => {
            let why = format!("strategy RELATE: a limit here counts its own requests, and not those of {:?}", with());
            return Err(rule.lost_field("strategy", why, "limit the related resource itself, or both together"));
        }
        2 => {
            let why = format!("strategy CHAIN: a limit here does not know by which way ({:?}) a request came", with());
            return Err(rule.lost_field("strategy", why, "limit the entrance instead, which is a path of its own"));
        }
        other => return Err(rule.lost_field("strategy", format!("no strategy of Sentinel is {other}"), "write 0")),
    }
    let caller = rule.node.kid("limitApp").map(Node::text).unwrap_or_default();
    if !matches!(caller.as_str(), "" | "default") {
        let fix = "write the limit with `key: [{caller: true}]`, which gives each calling service as many";
        let why =
            format!("`limitApp` {caller:?}: a limit is for all callers, or for each the same, and not for one of them");
        return Err(rule.lost_field("limitApp", why, fix));
    }
    Ok(())
}

fn limit(rule: &Rule<'_>) -> Result<Value, Fault> {
    let count = rule.decimal("count", 0.0)?;
    let whole = count.floor();
    let nothing = || {
        let fix = "answer such requests by a route without backends, or in the application";
        rule.lost_field("count", "it lets nothing through, and a limit here is of 1 or more", fix)
    };
    if rule.whole("grade", 1)? == 0 {
        rule.not_of_a_cluster("open requests")?;
    } else if rule.is_of_a_cluster()? {
        return together(rule, count);
    }
    match rule.whole("grade", 1)? {
        0 if whole < 1.0 => return Err(nothing()),
        0 => return Ok(json!({ "concurrency": { "requests": whole } }).integers()),
        1 => {}
        other => return Err(rule.lost_field("grade", format!("no grade of a flow rule is {other}"), "write 0 or 1")),
    }
    if count <= 0.0 {
        return Err(nothing());
    }
    let exactly = || {
        rate(count).ok_or_else(|| {
            rule.lost_field(
                "count",
                format!("{count} is no whole number in up to 100 s"),
                "write a number with fewer digits",
            )
        })
    };
    let warm_up = || Ok(json!({ "period": format!("{}s", rule.whole("warmUpPeriodSec", 10)?) }));
    let queue = |timeout: i64| {
        let (requests, per) = exactly()?;
        Ok::<_, Fault>(json!({ "requests": requests, "per": per, "timeout": format!("{timeout}ms") }))
    };
    match rule.whole("controlBehavior", 0)? {
        // What counts whole requests in a second lets through the whole part.
        0 if whole < 1.0 => Err(nothing()),
        0 if whole > WINDOW_MAX => Ok(json!({ "limit": { "requests": whole, "per": "1s" } }).integers()),
        0 => Ok(json!({ "window": { "requests": whole, "per": "1s" } }).integers()),
        1 => {
            let (requests, per) = exactly()?;
            Ok(json!({ "limit": { "requests": requests, "per": per, "warmUp": warm_up()? } }))
        }
        behaviour @ (2 | 3) => match (behaviour, rule.whole("maxQueueingTimeMs", 500)?) {
            // One after the other, and none waits.
            (2, 0) => {
                let (requests, per) = exactly()?;
                Ok(json!({ "limit": { "requests": requests, "per": per, "burst": 1 } }))
            }
            (2, timeout) => Ok(json!({ "queue": queue(timeout)? })),
            (_, timeout) => {
                let mut queue = queue(timeout)?;
                queue["warmUp"] = warm_up()?;
                Ok(json!({ "queue": queue }))
            }
        },
        other => {
            Err(rule.lost_field("controlBehavior", format!("no behaviour of Sentinel is {other}"), "write 0 to 3"))
        }
    }
}

/// What the machines of a cluster count together: so many a second, however the rule controls what is over it.
fn together(rule: &Rule<'_>, count: f64) -> Result<Value, Fault> {
    let config = |name: &str| rule.field("clusterConfig").and_then(|config| config.kid(name));
    let of_one = match config("thresholdType").map_or(Ok(0), Node::whole)? {
        0 => true,
        1 => false,
        other => {
            let why = format!("no threshold of a cluster is {other}");
            return Err(rule.lost_field("clusterConfig", why, "write 0, for each client, or 1, for all"));
        }
    };
    let (requests, per) = rate(count).filter(|_| count >= 1.0).ok_or_else(|| {
        let why = format!("{count} a second cannot be divided among proxies");
        rule.lost_field("count", why, "write a number of 1 or more with few digits")
    })?;
    let falls_back = config("fallbackToLocalWhenFail").map_or(Ok(true), Node::flag)?;
    Ok(json!({
        "limit": { "requests": requests, "per": per },
        "shared": {
            "threshold": if of_one { "perProxy" } else { "global" },
            "fallback": if falls_back { "local" } else { "allow" },
        },
    }))
}

/// Numbers without a fraction as JSON writes them.
trait Integers {
    fn integers(self) -> Value;
}

impl Integers for Value {
    fn integers(mut self) -> Value {
        let numbers = self.as_object_mut().into_iter().flat_map(|limits| limits.values_mut());
        for requests in numbers.filter_map(|limit| limit.get_mut("requests")) {
            *requests = json!(requests.as_f64().unwrap_or(0.0) as i64);
        }
        self
    }
}

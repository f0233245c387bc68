//! Hot-parameter rules: so many requests for each value of a parameter.

use leno_model::fault::Fault;
use serde_json::{Value, json};

use super::Rule;
use crate::policies::Policies;
use crate::resource::Options;

const KNOWN: &[&str] = &[
    "grade",
    "paramIdx",
    "count",
    "controlBehavior",
    "maxQueueingTimeMs",
    "burstCount",
    "durationInSec",
    "paramFlowItemList",
];

pub(super) fn convert(rule: &Rule<'_>, options: &Options, policies: &mut Policies) -> Result<(), Fault> {
    let target = rule.target(options)?;
    rule.say_unknown(&target.service, KNOWN, policies);
    match limit(rule, options) {
        Ok(limit) => policies.rate_limit(&target, &format!("{}-parameter", rule.resource), limit, rule.node),
        Err(fault) => policies.lose_of(&target.service, fault),
    }
    for (_, item) in rule.field("paramFlowItemList").map(|items| items.kids.as_slice()).unwrap_or_default() {
        let text = |name| item.kid(name).map(crate::node::Node::text).unwrap_or_default();
        let why = format!(
            "{}: the value {:?} has a limit of its own, {}: leno has no exceptions for values yet",
            rule.resource,
            text("object"),
            text("count")
        );
        let fix = "write a limit of its own with the value in `matches`, which must let it through beside the others";
        policies.lose_of(&target.service, item.lost(why, fix));
    }
    Ok(())
}

fn limit(rule: &Rule<'_>, options: &Options) -> Result<Value, Fault> {
    rule.not_of_a_cluster("values of a parameter")?;
    let index = rule.whole("paramIdx", 0)?;
    let key = options.parameter(&rule.resource, index).ok_or_else(|| {
        let fix = format!(
            "say what it is: `--parameter '{}#{index}=query:NAME'`, or header:NAME, cookie:NAME, path",
            rule.resource
        );
        rule.lost_field("paramIdx", format!("parameter {index} is one of a method in the code"), fix)
    })?;
    if rule.whole("grade", 1)? != 1 {
        let why = "threads by value: open requests are counted for all together here";
        return Err(rule.lost_field("grade", why, "write `concurrency` without a key, or a rate by value"));
    }
    // Sentinel counts whole ones here.
    let (count, seconds) = (rule.decimal("count", 0.0)?.floor(), rule.whole("durationInSec", 1)?);
    if count < 1.0 {
        return Err(rule.lost_field(
            "count",
            "it lets nothing through, and a limit here is of 1 or more",
            "answer such requests by a route without backends",
        ));
    }
    let (requests, per) = (count as i64, format!("{seconds}s"));
    let (burst, timeout) = (rule.whole("burstCount", 0)?.max(0), rule.whole("maxQueueingTimeMs", 0)?);
    let limit = match rule.whole("controlBehavior", 0)? {
        2 if timeout > 0 => {
            json!({ "queue": { "requests": requests, "per": per, "timeout": format!("{timeout}ms") } })
        }
        2 => json!({ "limit": { "requests": requests, "per": per, "burst": 1 } }),
        0 => {
            json!({ "limit": { "requests": requests, "per": per, "burst": requests.saturating_add(burst) } })
        }
        other => {
            return Err(rule.lost_field(
                "controlBehavior",
                format!("a parameter has no behaviour {other}"),
                "write 0 or 2",
            ));
        }
    };
    let mut limit = limit;
    limit["key"] = json!([key]);
    Ok(limit)
}

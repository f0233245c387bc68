//! System rules: what an application takes in all. Rates and threads are limits of its service; how busy processors may be
//! is a setting of the proxy; load and response time have no counterpart: `overload` finds out by itself what an instance can
//! do.

use leno_model::fault::Fault;
use serde_json::json;

use super::Rule;
use crate::policies::Policies;
use crate::resource::{Options, Target};

const KNOWN: &[&str] = &["highestSystemLoad", "highestCpuUsage", "qps", "avgRt", "maxThread"];

pub(super) fn convert(rule: &Rule<'_>, options: &Options, policies: &mut Policies) -> Result<(), Fault> {
    let service = options.application(&rule.application).ok_or_else(|| {
        rule.lost("a system rule, and nothing says of which service", "say whose it is: `--service NAME`")
    })?;
    let target = Target { service, matches: None, at_caller: false };
    rule.say_unknown(&target.service, KNOWN, policies);
    for name in KNOWN {
        let Some(field) = rule.field(name) else { continue };
        let value = field.decimal()?;
        // Less than nothing is off.
        if value < 0.0 {
            continue;
        }
        let limit = match *name {
            "qps" if value >= 1.0 => json!({ "window": { "requests": value.floor() as i64, "per": "1s" } }),
            "maxThread" if value >= 1.0 => json!({ "concurrency": { "requests": value.floor() as i64 } }),
            "highestCpuUsage" => {
                let why = "a system rule by `highestCpuUsage`: how busy processors may be is a setting of each proxy";
                let percent = (value * 100.0).round().clamp(1.0, 99.0) as u8;
                let fix = format!("start the proxies beside the service with `--cpu-max {percent}`");
                policies.lose_of(&target.service, field.lost(why, fix));
                continue;
            }
            _ => {
                let why = format!("a system rule by `{name}`: leno sheds by how long answers take");
                let fix = "write `overload: {}`, which finds out what an instance can do";
                policies.lose_of(&target.service, field.lost(why, fix));
                continue;
            }
        };
        policies.rate_limit(&target, &format!("system-{name}"), limit, field);
    }
    Ok(())
}

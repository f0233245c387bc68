//! Degrade rules: when a service is not asked for a while. Several of one resource become one breaker, where their times agree.

use std::collections::BTreeMap;

use leno_model::fault::Fault;
use leno_model::name::ServiceName;
use serde_json::{Map, Value, json};

use super::Rule;
use crate::node::Node;
use crate::policies::Policies;
use crate::resource::Options;

const KNOWN: &[&str] = &[
    "grade",
    "count",
    "timeWindow",
    "minRequestAmount",
    "statIntervalMs",
    "slowRatioThreshold",
    "strategy",
    "passCount",
    "cut",
];

/// The breakers of services that are collected.
#[derive(Default)]
pub(super) struct Breakers {
    of: BTreeMap<ServiceName, (Map<String, Value>, Node)>,
}

pub(super) fn collect(
    rule: &Rule<'_>,
    options: &Options,
    policies: &mut Policies,
    breakers: &mut Breakers,
) -> Result<(), Fault> {
    let target = rule.target(options)?;
    if target.matches.is_some() {
        let why = "a degrade rule for some requests of a service: leno's breaker is for all of them";
        let fix = format!("have it for all of {0}: `--map '{1}={0}'`; or leave it out", target.service, rule.resource);
        policies.lose_of(&target.service, rule.lost(why, fix));
        return Ok(());
    }
    rule.say_unknown(&target.service, KNOWN, policies);
    let lost = match opens(rule, &target.service, policies) {
        Ok(breaker) => breakers.add(&target.service, breaker, rule),
        Err(fault) => Some(fault),
    };
    if let Some(fault) = lost {
        policies.lose_of(&target.service, fault);
    }
    Ok(())
}

/// The breaker that one rule is.
fn opens(rule: &Rule<'_>, service: &ServiceName, policies: &mut Policies) -> Result<Map<String, Value>, Fault> {
    let count = rule.decimal("count", 0.0)?;
    let mut breaker = Map::from_iter([("preset".to_owned(), json!("sentinel"))]);
    match rule.whole("grade", 0)? {
        0 => {
            breaker.insert(
                "slowRatio".to_owned(),
                percent(rule, "slowRatioThreshold", rule.decimal("slowRatioThreshold", 1.0)?, service, policies)?,
            );
            breaker.insert("slowAfter".to_owned(), json!(format!("{}ms", count.max(0.0).floor())));
        }
        1 => {
            breaker.insert("failureRatio".to_owned(), percent(rule, "count", count, service, policies)?);
        }
        2 if count >= 1.0 => {
            breaker.insert("failures".to_owned(), json!(count.floor() as i64));
        }
        2 => {
            let fix = "write `consecutiveErrors: 1` in the breaker, which opens it with the first failure";
            return Err(rule.lost_field(
                "count",
                "it opens with the first exception, and a number of failures here is of 1 or more",
                fix,
            ));
        }
        other => {
            return Err(rule.lost_field("grade", format!("no grade of a degrade rule is {other}"), "write 0, 1 or 2"));
        }
    }
    breaker.insert("openTime".to_owned(), json!(format!("{}s", rule.whole("timeWindow", 0)?)));
    breaker.insert("window".to_owned(), json!(format!("{}ms", rule.whole("statIntervalMs", 1000)?)));
    breaker.insert("minRequests".to_owned(), json!(rule.whole("minRequestAmount", 5)?));
    Ok(breaker)
}

/// A share in percent, which is whole here.
fn percent(
    rule: &Rule<'_>,
    field: &str,
    share: f64,
    service: &ServiceName,
    policies: &mut Policies,
) -> Result<Value, Fault> {
    let exact = share * 100.0;
    let whole = exact.round().max(1.0);
    if !(0.0..=100.0).contains(&exact) {
        return Err(rule.lost_field(field, format!("{share} is no share from 0 to 1"), "write 0.5 for one half"));
    }
    if (whole - exact).abs() > 1e-6 {
        let why = format!("a share of {share} became {whole} %: shares are whole percent here");
        policies.lose_of(service, rule.lost_field(field, why, "see whether that will do"));
    }
    Ok(json!(whole as i64))
}

// === impl Breakers ===

impl Breakers {
    /// Adds one more rule to the breaker of a service; what is lost where the two do not go together.
    fn add(&mut self, service: &ServiceName, breaker: Map<String, Value>, rule: &Rule<'_>) -> Option<Fault> {
        let Some((own, _)) = self.of.get_mut(service) else {
            self.of.insert(service.clone(), (breaker, rule.node.clone()));
            return None;
        };
        let times = ["openTime", "window", "minRequests"];
        let differs = times.into_iter().find(|name| own.get(*name) != breaker.get(*name));
        let twice = breaker.keys().find(|name| own.get(*name).is_some_and(|own| *own != breaker[*name]));
        let field = match (differs, twice) {
            (Some(field), _) => field,
            (None, Some(field)) => field,
            (None, None) => {
                own.extend(breaker);
                return None;
            }
        };
        let why = format!("a second degrade rule with another `{field}`: the service has one breaker");
        Some(rule.lost(
            why,
            "choose between the two, or have them agree in `timeWindow`, `statIntervalMs` and `minRequestAmount`",
        ))
    }

    /// Has the policies have them.
    pub(super) fn finish(self, policies: &mut Policies) {
        for (service, (breaker, from)) in self.of {
            policies.say(&service, format!("breaker: line {} of {}", from.place.line, from.file));
            policies.part(&service, "breaker", Value::Object(breaker), &from);
        }
    }
}

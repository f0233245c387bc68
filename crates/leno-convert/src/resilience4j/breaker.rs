//! Circuit breakers. leno's window is always one of time; a window of calls says at least how many calls decide.

use std::time::Duration;

use leno_model::fault::Fault;
use leno_model::name::ServiceName;
use serde_json::{Map, Value, json};

use super::{Settings, say_exceptions, text};
use crate::node::Node;
use crate::policies::Policies;

pub(super) const KNOWN: &[&str] = &[
    "failureRateThreshold",
    "slowCallRateThreshold",
    "slowCallDurationThreshold",
    "slidingWindowType",
    "slidingWindowSize",
    "minimumNumberOfCalls",
    "waitDurationInOpenState",
    "permittedNumberOfCallsInHalfOpenState",
    "maxWaitDurationInHalfOpenState",
    "automaticTransitionFromOpenToHalfOpenEnabled",
    "recordExceptions",
    "ignoreExceptions",
    "recordFailurePredicate",
    "recordResultPredicate",
    "ignoreExceptionPredicate",
    "enableExponentialBackoff",
    "exponentialBackoffMultiplier",
    "exponentialMaxWaitDurationInOpenState",
    "enableRandomizedWait",
    "randomizedWaitFactor",
    "initialState",
];

pub(super) fn convert(settings: &Settings<'_>, service: &ServiceName, policies: &mut Policies) -> Result<(), Fault> {
    let mut breaker = Map::from_iter([("preset".to_owned(), json!("resilience4j"))]);
    let mut put_percent = |name: &str, field: &str, breaker: &mut Map<String, Value>| {
        let Some(node) = settings.get(name) else { return Ok(()) };
        let (percent, rounded) = percent(node)?;
        breaker.insert(field.to_owned(), json!(percent));
        rounded.into_iter().for_each(|fault| policies.lose_of(service, fault));
        Ok::<_, Fault>(())
    };
    put_percent("failureRateThreshold", "failureRatio", &mut breaker)?;
    if settings.first(&["slowCallRateThreshold", "slowCallDurationThreshold"]).is_some() {
        breaker.entry("failureRatio").or_insert(json!(50));
        breaker.insert("slowRatio".to_owned(), json!(100));
        put_percent("slowCallRateThreshold", "slowRatio", &mut breaker)?;
        breaker.insert(
            "slowAfter".to_owned(),
            json!(text(settings.duration("slowCallDurationThreshold", Duration::from_secs(60))?)),
        );
    }
    window(settings, service, &mut breaker, policies)?;
    settings.put("waitDurationInOpenState", &mut breaker, "openTime", |node| Ok(json!(text(node.duration()?))))?;
    settings.put("permittedNumberOfCallsInHalfOpenState", &mut breaker, "probes", |node| Ok(json!(node.whole()?)))?;
    say_what_is_not(settings, service, policies)?;
    policies.part(service, "breaker", Value::Object(breaker), settings.node);
    Ok(())
}

fn window(
    settings: &Settings<'_>,
    service: &ServiceName,
    breaker: &mut Map<String, Value>,
    policies: &mut Policies,
) -> Result<(), Fault> {
    let kind = settings.get("slidingWindowType").map(Node::text).unwrap_or_default();
    let size = settings.get("slidingWindowSize");
    let mut least = settings.get("minimumNumberOfCalls").map(Node::whole).transpose()?;
    if kind.eq_ignore_ascii_case("TIME_BASED") {
        breaker.insert("window".to_owned(), json!(format!("{}s", size.map_or(Ok(100), Node::whole)?)));
    } else if let Some(size) = size {
        let calls = size.whole()?;
        let why = format!("a window of {calls} calls became one of 100s: leno's windows are of time");
        policies.lose_of(
            service,
            size.lost(why, "write `slidingWindowType: TIME_BASED` and a size in seconds, or leave it at that"),
        );
        // Resilience4j needs no more calls than its window holds.
        least = Some(least.unwrap_or(100).min(calls));
    }
    if let Some(least) = least {
        breaker.insert("minRequests".to_owned(), json!(least));
    }
    Ok(())
}

fn say_what_is_not(settings: &Settings<'_>, service: &ServiceName, policies: &mut Policies) -> Result<(), Fault> {
    say_exceptions(settings, "recordExceptions", "breaker", service, policies);
    say_exceptions(settings, "ignoreExceptions", "breaker", service, policies);
    for name in ["recordFailurePredicate", "recordResultPredicate", "ignoreExceptionPredicate"] {
        if let Some(field) = settings.get(name) {
            policies.lose_of(
                service,
                field.lost(
                    format!("`{name}` is code of the application"),
                    "5xx and no answer are failures here; answer so",
                ),
            );
        }
    }
    for (name, why) in [
        ("automaticTransitionFromOpenToHalfOpenEnabled", "a request makes the transition from open to half open here"),
        ("enableExponentialBackoff", "a breaker is open for the same time each time here"),
        ("enableRandomizedWait", "a breaker is open for the same time each time here"),
    ] {
        if let Some(field) = settings.get(name)
            && field.flag()?
        {
            policies.lose_of(service, field.lost(why, "see whether that will do"));
        }
    }
    if let Some(longest) = settings.get("maxWaitDurationInHalfOpenState")
        && !longest.duration()?.is_zero()
    {
        let why =
            "a half-open breaker waits for its probes here, and each that does not end makes room after `openTime`";
        policies.lose_of(service, longest.lost(why, "see whether that will do"));
    }
    if let Some(state) = settings.get("initialState").filter(|state| !state.text().eq_ignore_ascii_case("CLOSED")) {
        policies.lose_of(service, state.lost("every breaker begins closed here", "see whether that will do"));
    }
    Ok(())
}

/// A threshold in percent, which is whole here.
fn percent(node: &Node) -> Result<(i64, Option<Fault>), Fault> {
    let exact = node.decimal()?;
    let whole = exact.round().max(1.0);
    if !(exact > 0.0 && exact <= 100.0) {
        return Err(node.lost(format!("{exact} is no percentage"), "write a number above 0, up to 100"));
    }
    let rounded = ((whole - exact).abs() > 1e-6).then(|| {
        node.lost(format!("{exact} % became {whole} %: shares are whole percent here"), "see whether that will do")
    });
    Ok((whole as i64, rounded))
}

//! Settings of the libraries as their users write them, and that `leno convert` makes the terms of them that are compared.

use std::time::Duration;

use leno_convert::Options;
use leno_model::document;
use leno_model::resource::Spec;
use leno_model::resource::rate_limit::RateLimit;
use leno_model::resource::resilience::Breaker;
use leno_model::resource::traffic_policy::TrafficPolicySpec;

use crate::cases::{Case, Library};

/// By how much terms are longer that are compared, for libraries that wait until a time is more than over.
const LATER: Duration = Duration::from_millis(2);

/// The policy of `cart` that a file becomes, of which nothing is lost.
fn policy(file: &str, text: &str) -> TrafficPolicySpec {
    let options = Options { service: "cart".parse().ok(), ..Options::default() };
    let converted = leno_convert::convert([(file, text.as_bytes())], &options);
    assert!(converted.lost.is_empty() && converted.faults.is_empty(), "{text}: {converted:?}");
    let parsed = document::parse("policy.yaml", &converted.text);
    match &parsed.resources[0].resource.spec {
        Spec::TrafficPolicy(policy) => TrafficPolicySpec::clone(policy),
        other => panic!("{other:?}"),
    }
}

/// The limit that a flow rule becomes.
pub(crate) fn limit(rule: &str) -> RateLimit {
    policy("rules.json", rule).rate_limits.remove(0)
}

/// Whether the settings of a case become its terms.
pub(crate) fn has_its_terms(case: &Case) {
    let (file, text) = settings(case);
    let written = policy(file, &text).breaker.unwrap();
    let (ours, numbers) = (&case.ours, numbers(&written));
    let expected = [ours.failure_ratio, ours.slow_ratio, ours.failures, Some(ours.requests_min)];
    assert_eq!(numbers, expected, "{text}");
    let times = [(written.window, ours.window), (written.open_time, ours.open), (written.slow_after, ours.slow_after)];
    for (time, compared) in times.into_iter().filter_map(|(time, compared)| Some((time?.0, compared))) {
        assert!(compared >= time && compared - time <= LATER, "{time:?}, compared {compared:?}: {text}");
    }
    let probes = written.probes.map_or(1, |probes| probes.get());
    let are_there = [written.window, written.open_time, written.slow_after].map(|time| time.is_some());
    assert_eq!((probes, are_there), (ours.probes, [true, true, ours.slow_ratio.is_some()]), "{text}");
}

fn numbers(breaker: &Breaker) -> [Option<u32>; 4] {
    let share = |share: Option<leno_model::resource::number::Share>| share.map(|share| share.get());
    let volume = |volume: Option<leno_model::resource::number::Volume>| volume.map(|volume| volume.get());
    [share(breaker.failure_ratio), share(breaker.slow_ratio), volume(breaker.failures), volume(breaker.min_requests)]
}

/// What a user of the library writes, from the words that its driver takes.
fn settings(case: &Case) -> (&'static str, String) {
    let words: Vec<&str> = case.theirs.split(' ').collect();
    let six: Result<[&str; 6], _> = words[..].try_into();
    match (case.library, six) {
        (Library::Hystrix, _) => {
            let of = |name: &str, word: usize| format!("hystrix.command.cart.{name}={}\n", words[word]);
            let names = [
                ("metrics.rollingStats.timeInMilliseconds", 0),
                ("circuitBreaker.requestVolumeThreshold", 2),
                ("circuitBreaker.errorThresholdPercentage", 3),
                ("circuitBreaker.sleepWindowInMilliseconds", 4),
            ];
            ("application.properties", names.map(|(name, word)| of(name, word)).concat())
        }
        (Library::Sentinel, Ok([kind, threshold, longest, window, volume, open])) => {
            let (grade, count) = match kind {
                "slow" => (0, longest),
                "ratio" => (1, threshold),
                _ => (2, threshold),
            };
            let slow = if grade == 0 { format!(", \"slowRatioThreshold\": {threshold}") } else { String::new() };
            let rule = format!(
                r#"[{{"resource": "cart", "grade": {grade}, "count": {count}, "timeWindow": {open}, "minRequestAmount": {volume}, "statIntervalMs": {window}{slow}}}]"#
            );
            ("cart-degrade-rules.json", rule)
        }
        (Library::Sentinel, _) => panic!("{words:?}"),
        (Library::Resilience4j, _) => {
            let names = [
                "slidingWindowSize",
                "failureRateThreshold",
                "slowCallRateThreshold",
                "slowCallDurationThreshold",
                "minimumNumberOfCalls",
                "waitDurationInOpenState",
                "permittedNumberOfCallsInHalfOpenState",
            ];
            let lines = names.iter().zip(&words).map(|(name, word)| format!("        {name}: {word}\n"));
            let begin =
                "resilience4j.circuitbreaker:\n  instances:\n    cart:\n        slidingWindowType: TIME_BASED\n";
            ("application.yml", begin.to_owned() + &lines.collect::<String>())
        }
    }
}

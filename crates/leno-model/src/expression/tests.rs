use super::*;

fn facts(zone: &str, labels: &[(&str, &str)]) -> Facts {
    let own = |text: &&str| !text.is_empty();
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Facts { zone: Some(zone).filter(own).map(str::to_owned), labels, ..Facts::default() }
}

const NOW: Now = Now {
    open_requests: 3.0,
    occupancy: 4.0,
    latency_ms: 20.0,
    reported: Some(Reported { utilization: 0.5, requests_per_second: 100.0, errors_per_second: 2.0 }),
};

fn program(text: &str) -> Program {
    let endpoint = facts("a", &[("tier", "gpu"), ("my-rack", "7")]);
    let read = Expression::read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    read.resolve(200, &endpoint, &facts("b", &[("tier", "cpu")]))
}

fn gives(text: &str) -> f64 {
    program(text).run(&NOW)
}

fn refused(text: &str) -> (usize, String) {
    let error = Expression::read(text).map(|_| ()).expect_err(text);
    (error.column, format!("{}; {}", error.message, error.fix))
}

#[test]
fn arithmetic_is_as_in_cel() {
    let of = [
        ("1 + 2 * 3", 7.0),
        ("(1 + 2) * 3", 9.0),
        ("10 - 4 - 3", 3.0),
        ("8.0 / 2.0 / 2.0", 2.0),
        ("-2 * -3", 6.0),
        ("--2", 2.0),
        (".5 + 1e1 + 2.5E-1", 10.75),
        ("latencyMs * (openRequests + 1)", 80.0),
        ("latencyMs * occupancy", 80.0),
        ("weight / 2.0", 100.0),
        ("math.least(3, 1.5, 2) + math.greatest(1, 4)", 5.5),
        ("math.abs(-3) + math.sqrt(16.0) + double(2)", 9.0),
        ("reported.requestsPerSecond / reported.utilization - reported.errorsPerSecond", 198.0),
        ("1 // what follows is said to people", 1.0),
    ];
    of.iter().for_each(|(text, wanted)| assert_eq!(gives(text), *wanted, "{text}"));
}

#[test]
fn conditions_choose_between_numbers() {
    let of = [
        ("latencyMs > 10.0 ? 1 : 2", 1.0),
        ("latencyMs >= 20 && openRequests < 3 ? 1 : 2", 2.0),
        ("latencyMs <= 20 || openRequests != 3 ? 1 : 2", 1.0),
        ("!(latencyMs == 20.0) ? 1 : 2", 2.0),
        ("zone == 'a' ? 1 : zone == 'b' ? 2 : 3", 1.0),
        ("zone == caller.zone ? 1 : 2", 2.0),
        ("zone in ['c', \"a\"] ? 1 : 2", 1.0),
        ("labels.tier == 'gpu' && caller.labels.tier == 'cpu' ? 1 : 2", 1.0),
        ("labels['my-rack'] != '7' ? 1 : 2", 2.0),
        ("labels.tier.startsWith('g') && labels.tier.endsWith('u') && labels.tier.contains('p') ? 1 : 2", 1.0),
        ("'tier' in labels && has(labels.tier) && !has(labels.other) && !('other' in caller.labels) ? 1 : 2", 1.0),
        ("labels.other == '' && version == '' ? 1 : 2", 1.0),
        ("has(reported.utilization) == true ? 1 : 2", 1.0),
        ("'it\\'s' == \"it's\" ? 1 : 2", 1.0),
    ];
    of.iter().for_each(|(text, wanted)| assert_eq!(gives(text), *wanted, "{text}"));
}

#[test]
fn what_is_fixed_of_an_endpoint_costs_nothing_when_requests_come() {
    assert_eq!(program("labels.tier == 'gpu' ? weight * 2 : 1").steps(), 1);
    assert_eq!(program("latencyMs * (zone == caller.zone ? 1 : 2)").steps(), 3);
    assert_eq!(program("zone == caller.zone ? latencyMs : latencyMs * 2").steps(), 3);
    assert_eq!(
        Expression::read("labels.a == labels.b || has(labels.a) || caller.labels.c == '' ? 1 : 0").unwrap().labels(),
        ["a", "b"]
    );
}

#[test]
fn what_is_divided_by_nothing_is_as_in_cel_infinite_or_no_number() {
    assert_eq!(gives("1.0 / (openRequests - 3)"), f64::INFINITY);
    assert_eq!(gives("-1.0 / (openRequests - 3)"), f64::NEG_INFINITY);
    assert!(gives("0 / (openRequests - 3)").is_nan());
    assert!(gives("math.sqrt(0 - latencyMs)").is_nan());
    assert_eq!(gives("0 / (openRequests - 3) < 1 ? 1 : 2"), 2.0, "nothing compares with what is no number");
}

#[test]
fn a_mistake_is_named_with_its_column_and_the_fix() {
    let of = [
        ("", 1, "nothing is written"),
        ("latency * 2", 1, "`latency` is not known here; use one of `weight`, `openRequests`"),
        ("2 * latencyMS", 5, "`latencyMS` is not known"),
        ("zone == caller.zone", 1, "gives true or false, not a number; write `… ? 1.0 : 2.0`"),
        ("zone", 1, "gives a text"),
        ("latencyMs * zone", 13, "beside `*` belongs what is a number, and this is a text; compare the text"),
        ("zone < 'b' ? 1 : 2", 6, "`<` does not compare a text and a text"),
        ("zone == 1 ? 1 : 2", 6, "does not compare a text and a number"),
        ("latencyMs ? 1 : 2", 1, "before `?` belongs what is true or false"),
        ("true ? 1 : 'a'", 12, "one of the choices is a text"),
        ("true ? 'a' : 'b'", 8, "a text cannot be chosen"),
        ("1 / 2", 3, "loses its fraction"),
        ("5 % 2", 3, "`%` is for whole numbers"),
        ("(1 + 2", 7, "`)` is missing"),
        ("1 2", 3, "is over before this"),
        ("1 +", 4, "ends where a value belongs"),
        ("zone = 'a' ? 1 : 2", 6, "write `==`"),
        ("zone == 'a ? 1 : 2", 9, "the text has no end"),
        ("labels.exists(l, l == 'a') ? 1 : 2", 8, "what it costs would not be known ahead"),
        ("size(zone)", 1, "`size` is no function that is known here; use `math.least`"),
        ("caller.weight", 8, "the whole caller has no `weight`"),
        ("reported * 2", 1, "name a part of it, as `reported.utilization`"),
        ("has(weight) ? 1 : 2", 5, "asks for something that may be missing"),
        ("zone in 'abc' ? 1 : 2", 9, "nothing is in a text"),
        ("math.abs(1, 2)", 6, "takes one number, here it has 2"),
        ("1e999", 1, "does not begin a number"),
        ("12abc", 1, "does not begin a number"),
        ("latencyMs # 2", 11, "`#` means nothing here"),
        ("'\\x41' == zone ? 1 : 2", 2, "an escape that is not read"),
    ];
    for (text, column, says) in of {
        let (at, message) = refused(text);
        assert!(at == column && message.contains(says), "{text}: {at}: {message}");
    }
}

#[test]
fn what_it_costs_is_known_and_bounded_before_it_is_used() {
    let sum = |terms: usize| format!("1{}", " + latencyMs".repeat(terms));
    assert!(
        Expression::read(&sum(OPERATIONS_MAX)).is_err() && Expression::read(&sum(84)).is_ok(),
        "by operations and by length"
    );
    assert!(refused(&format!("1{}", "+1".repeat(OPERATIONS_MAX + 1))).1.contains("more than 100 operations"));
    assert!(refused(&format!("{}1", "-".repeat(500))).1.contains("operations"));
    assert!(refused(&"(".repeat(1000)).1.contains("within each other"));
    assert!(refused(&format!("{}1{}", "true?1:(".repeat(60), ")".repeat(60))).1.contains("within each other"));
    assert!(refused(&"1".repeat(2000)).1.contains("at most 1024"));
    let deep = format!("{}1{}", "openRequests < 1 || 2 < 3 + 4 * (".repeat(20), ")".repeat(20));
    assert!(Expression::read(&deep).is_err());
}

#[test]
fn whatever_is_written_is_read_or_refused() {
    let pieces = [
        "(",
        ")",
        "[",
        "]",
        "?",
        ":",
        "!",
        "-",
        "latencyMs",
        "labels",
        ".",
        "'a'",
        "in",
        "1",
        "==",
        "&&",
        "has",
        "math",
        ",",
        "é",
        "{",
        "least",
        "\\",
    ];
    let mut random = 7_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    for _ in 0..20_000 {
        let text: String = (0..next(14)).map(|_| pieces[next(pieces.len())]).collect();
        if let Ok(expression) = Expression::read(&text) {
            expression.resolve(1, &Facts::default(), &Facts::default()).run(&NOW);
        }
    }
}

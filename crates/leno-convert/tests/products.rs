//! Rules and settings as the products' documentation shows them, and what they become; and that whatever bytes come, what is
//! written is valid.

#![allow(clippy::unwrap_used)]

use leno_convert::{Converted, Mapped, Options, Parameter, convert};
use leno_model::document;
use leno_model::fault::Severity;
use leno_model::validate::{Nothing, validate};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Who converts: in the namespace `shop`, for the application `orders`.
fn options() -> Options {
    Options { service: Some("orders.shop".parse().unwrap()), namespace: "shop".to_owned(), ..Options::default() }
}

/// The spec of the only resource that comes of it, without its target, and why something was lost.
fn one(file: &str, text: &str, options: &Options) -> (Value, Vec<String>) {
    let converted = convert([(file, text.as_bytes())], options);
    assert_eq!((converted.resources, &converted.faults), (1, &vec![]), "{converted:?}");
    let mut parsed = document::parse("out.yaml", &converted.text);
    assert!(parsed.faults.is_empty(), "{}{:?}", converted.text, parsed.faults);
    let mut spec = parsed.resources.remove(0).value["spec"].take();
    spec.as_object_mut().unwrap().remove("targetRefs");
    (spec, converted.lost.iter().map(|fault| fault.message.clone()).collect())
}

/// The limits that rules of Sentinel become.
fn limits(rules: &str) -> Value {
    let (spec, lost) = one("rules.json", rules, &options());
    assert_eq!(lost, [""; 0]);
    spec["rateLimits"].clone()
}

/// Why nothing comes of it, and what to do.
fn refused(file: &str, text: &str, options: &Options) -> (String, String) {
    let converted = convert([(file, text.as_bytes())], options);
    assert_eq!((converted.resources, converted.lost.len()), (0, 1), "{converted:?}");
    let fault = &converted.lost[0];
    assert!(fault.line > 0, "{fault}");
    (fault.message.clone(), fault.fix.clone())
}

#[test]
fn what_is_written_nested_and_with_dots_is_put_together() {
    let text = "resilience4j: {retry: {instances: {cart: {maxAttempts: 2}}}}\n\
                resilience4j.retry: {instances: {orders: {maxAttempts: 3}}}\n";
    assert_eq!(convert([("a.yml", text.as_bytes())], &options()).resources, 2);
}

#[test]
fn a_document_about_something_else_is_passed_over() {
    let text = "server: {port: 80}\n---\nresilience4j.retry.instances.cart.maxAttempts: 2\n";
    assert_eq!(one("a.yml", text, &options()).0["retry"]["attempts"], 1);
    let faults = convert([("a.yml", &b"server: {port: 80}\n"[..])], &options()).faults;
    assert_eq!(faults.len(), 1, "{faults:?}");
}

#[test]
fn limits_of_ribbon_and_of_hystrix_stand_beside_each_other() {
    let text = "hystrix.command.cart.circuitBreaker.requestVolumeThreshold=10\ncart.ribbon.MaxTotalConnections=200\n";
    let (spec, lost) = one("a.properties", text, &options());
    assert_eq!((&spec["limits"], lost), (&json!({"requests": 10, "connections": 200}), vec![]));
}

#[test]
fn flow_rules_become_limits_by_how_they_count_and_control() {
    let rule = |fields: &str| format!(r#"[{{"resource": "/orders", "limitApp": "default", {fields}}}]"#);
    let of = |fields: &str| {
        let mut limit = limits(&rule(fields))[0].take();
        assert_eq!(limit["matches"], json!([{"path": {"type": "Exact", "value": "/orders"}}]));
        let made = limit.as_object_mut().unwrap();
        made.remove("matches");
        made.remove("name");
        limit
    };
    assert_eq!(of(r#""grade": 1, "count": 20, "strategy": 0"#), json!({"window": {"requests": 20, "per": "1s"}}));
    assert_eq!(of(r#""grade": 0, "count": 8"#), json!({"concurrency": {"requests": 8}}));
    let cold = json!({"limit": {"requests": 10, "per": "1s", "warmUp": {"period": "10s"}}});
    assert_eq!(of(r#""grade": 1, "count": 10, "controlBehavior": 1, "warmUpPeriodSec": 10"#), cold);
    let queue = json!({"queue": {"requests": 5, "per": "1s", "timeout": "20000ms"}});
    assert_eq!(of(r#""grade": 1, "count": 5, "controlBehavior": 2, "maxQueueingTimeMs": 20000"#), queue);
    let both = json!({"queue": {"requests": 5, "per": "1s", "timeout": "500ms", "warmUp": {"period": "5s"}}});
    assert_eq!(of(r#""count": 5, "controlBehavior": 3, "warmUpPeriodSec": 5"#), both);
    assert_eq!(of(r#""count": 0.5, "controlBehavior": 2, "maxQueueingTimeMs": 2000"#)["queue"]["per"], "2s");
    assert_eq!(
        of(r#""count": 2.5"#),
        json!({"window": {"requests": 2, "per": "1s"}}),
        "what counts wholes lets two through"
    );
    let none_waits = json!({"limit": {"requests": 1, "per": "1s", "burst": 1}});
    assert_eq!(of(r#""count": 1, "controlBehavior": 2, "maxQueueingTimeMs": 0"#), none_waits);
}

#[test]
fn flow_rules_of_a_cluster_become_limits_that_proxies_count_together() {
    let of = |config: &str| {
        let rule = format!(
            r#"[{{"resource": "GET:/orders", "grade": 1, "count": 20, "clusterMode": true, "clusterConfig": {{{config}}}}}]"#
        );
        let (spec, lost) = one("x.json", &rule, &options());
        assert_eq!(lost, Vec::<String>::new());
        (spec["rateLimits"][0]["limit"].clone(), spec["rateLimits"][0]["shared"].clone())
    };
    let limit = json!({"requests": 20, "per": "1s"});
    assert_eq!(of(r#""flowId": 7"#), (limit.clone(), json!({"threshold": "perProxy", "fallback": "local"})));
    let global = r#""flowId": 7, "thresholdType": 1, "fallbackToLocalWhenFail": false, "sampleCount": 10"#;
    assert_eq!(of(global), (limit, json!({"threshold": "global", "fallback": "allow"})));
}

#[test]
fn what_an_application_calls_is_limited_beside_it() {
    let rules = r#"[{"resource": "GET:http://cart/items/{id}", "grade": 1, "count": 7, "limitApp": "default"}]"#;
    let converted = convert([("x.json", rules.as_bytes())], &options());
    assert!(converted.text.contains("name: cart\n  namespace: shop"), "{}", converted.text);
    let (spec, _) = one("x.json", rules, &options());
    let limit = json!([{
        "name": "get-http-cart-items-id", "at": "caller", "window": {"requests": 7, "per": "1s"},
        "matches": [{"method": "GET", "path": {"type": "RegularExpression", "value": "/items/[^/]+"}}],
    }]);
    assert_eq!(spec["rateLimits"], limit);
}

#[test]
fn degrade_rules_of_a_service_become_one_breaker() {
    let slow = r#"{"resource": "cart", "grade": 0, "count": 200, "timeWindow": 10, "minRequestAmount": 5, "statIntervalMs": 1000, "slowRatioThreshold": 0.6}"#;
    let failing = r#"{"resource": "cart", "grade": 1, "count": 0.5, "timeWindow": 10}"#;
    let (spec, lost) = one("d.json", &format!("[{slow},\n {failing}]"), &options());
    let times = json!({"preset": "sentinel", "slowRatio": 60, "slowAfter": "200ms", "failureRatio": 50, "openTime": "10s", "window": "1000ms", "minRequests": 5});
    assert_eq!((spec["breaker"].clone(), lost), (times, vec![]));
    let other = r#"{"resource": "cart", "grade": 2, "count": 10, "timeWindow": 20}"#;
    let (spec, lost) = one("d.json", &format!("[{slow}, {other}]"), &options());
    assert!(spec["breaker"]["failures"].is_null() && lost[0].contains("another `openTime`"), "{lost:?}");
    let (spec, _) = one("d.json", &format!("[{other}]"), &options());
    assert_eq!(spec["breaker"]["failures"], 10);
}

#[test]
fn a_degrade_rule_for_a_path_is_a_breaker_of_its_service_only_where_somebody_says_so() {
    let rule = r#"[{"resource": "GET:/orders", "grade": 2, "count": 3, "timeWindow": 5}]"#;
    let (why, fix) = refused("orders-degrade-rules.json", rule, &options());
    assert!(
        why.contains("leno's breaker is for all of them") && fix.contains("--map 'GET:/orders=orders.shop'"),
        "{why}: {fix}"
    );
    let mapped: Mapped = "GET:/orders=orders.shop".parse().unwrap();
    let (spec, lost) = one("x.json", rule, &Options { mapped: vec![mapped], ..options() });
    assert_eq!((spec["breaker"]["failures"].clone(), lost), (json!(3), vec![]));
}

#[test]
fn hot_parameters_are_keys_once_it_is_known_what_they_are() {
    let rule = r#"[{"resource": "GET:/orders", "paramIdx": 0, "grade": 1, "count": 5, "durationInSec": 2, "burstCount": 3,
        "paramFlowItemList": [{"object": "vip", "count": 100, "classType": "java.lang.String"}]}]"#;
    let unknown = convert([("x.json", rule.as_bytes())], &options());
    assert!(unknown.lost[0].fix.contains("--parameter 'GET:/orders#0=query:NAME'"), "{:?}", unknown.lost);
    let parameter: Parameter = "GET:/orders#0=query:user".parse().unwrap();
    let (spec, lost) = one("x.json", rule, &Options { parameters: vec![parameter], ..options() });
    assert_eq!(spec["rateLimits"][0]["key"], json!([{"query": "user"}]));
    assert_eq!(spec["rateLimits"][0]["limit"], json!({"requests": 5, "per": "2s", "burst": 8}));
    assert!(lost.len() == 1 && lost[0].contains("\"vip\""), "{lost:?}");
}

#[test]
fn what_sentinel_has_and_leno_has_not_is_named_with_its_line_and_what_to_do() {
    let rule = |fields: &str| format!("[\n  {{\"resource\": \"/orders\", {fields}}}]");
    for (fields, expected) in [
        (r#""count": 1, "strategy": 1, "refResource": "/pay""#, "RELATE"),
        (r#""count": 1, "strategy": 2, "refResource": "entrance""#, "CHAIN"),
        (r#""count": 1, "grade": 0, "clusterMode": true, "clusterConfig": {"flowId": 1}"#, "cluster mode"),
        (r#""count": 0.5, "clusterMode": true"#, "cannot be divided"),
        (r#""count": 5, "clusterMode": true, "clusterConfig": {"thresholdType": 2}"#, "no threshold"),
        (r#""count": 1, "limitApp": "web""#, "`limitApp` \"web\""),
        (r#""count": 0, "grade": 1"#, "lets nothing through"),
        (r#""limitApp": "a,b", "strategy": 0"#, "authority rule"),
        (r#""count": "many", "grade": 1"#, "is not a number"),
        (r#""count": 10, "intervalSec": 1, "resourceMode": 0"#, "gateway adapter"),
        (r#""count": 1, "controlBehavior": 2, "maxQueueingTimeMs": 99999999"#, "queue.timeout"),
    ] {
        let (why, fix) = refused("rules.json", &rule(fields), &options());
        assert!(why.contains(expected) && !fix.is_empty(), "{expected}: {why}");
    }
    let (spec, lost) = one("x.json", &rule(r#""count": 1, "newField": 3"#), &options());
    assert!(spec["rateLimits"].is_array() && lost[0].contains("`newField`"), "{lost:?}");
}

#[test]
fn system_rules_are_limits_of_the_service_as_far_as_they_count_requests() {
    let rule = r#"[{"highestSystemLoad": -1.0, "highestCpuUsage": 0.8, "qps": 100.0, "avgRt": -1, "maxThread": 20}]"#;
    let (spec, lost) = one("orders-system-rules.json", rule, &Options::default());
    let limits = [
        json!({"name": "system-qps", "window": {"requests": 100, "per": "1s"}}),
        json!({"name": "system-maxthread", "concurrency": {"requests": 20}}),
    ];
    assert_eq!(spec["rateLimits"], Value::from(limits.to_vec()));
    assert!(lost.len() == 1 && lost[0].contains("highestCpuUsage"), "{lost:?}");
}

#[test]
fn rules_are_read_as_files_of_the_dashboard_and_as_properties_of_apollo() {
    let wrapped = r#"{"success": true, "code": 0, "msg": "success", "data": [
        {"id": 1, "app": "pay", "ip": "10.0.0.1", "port": 8719, "gmtCreate": null, "rule": {"resource": "/pay", "limitApp": "default", "grade": 1, "count": 2, "paramIdx": null}}]}"#;
    let converted = convert([("x.json", wrapped.as_bytes())], &Options::default());
    assert!(converted.text.contains("name: pay\n"), "{converted:?}");
    let rule = r#"[{"resource": "/orders", "count": 3}]"#;
    let named = convert([("pay-flow-rules.json", rule.as_bytes())], &Options::default());
    assert!(named.text.contains("name: pay\n"), "{named:?}");
    let (spec, _) = one("application.properties", &format!("flowRules = {rule}\n"), &options());
    assert_eq!(spec["rateLimits"][0]["window"]["requests"], 3);
}

const RESILIENCE4J: &str = "
resilience4j:
  circuitbreaker:
    configs:
      default:
        registerHealthIndicator: true
        slidingWindowType: TIME_BASED
        slidingWindowSize: 10
        minimumNumberOfCalls: 5
        permittedNumberOfCallsInHalfOpenState: 3
        waitDurationInOpenState: 5s
        failureRateThreshold: 50
        eventConsumerBufferSize: 10
        recordExceptions:
        - org.springframework.web.client.HttpServerErrorException
        - java.util.concurrent.TimeoutException
        - java.io.IOException
    instances:
      cart:
        baseConfig: default
        slow-call-duration-threshold: PT2S
  retry:
    instances:
      cart: {maxAttempts: 3, waitDuration: 10s}
  bulkhead:
    instances:
      cart: {maxConcurrentCalls: 10}
  timelimiter:
    instances:
      cart: {timeoutDuration: 20s, cancelRunningFuture: true}
  ratelimiter:
    instances:
      cart: {limitForPeriod: 10, limitRefreshPeriod: 1s, timeoutDuration: 0}
";

#[test]
fn instances_of_resilience4j_become_parts_of_one_policy() {
    let (spec, lost) = one("application.yml", RESILIENCE4J, &options());
    assert_eq!(lost, [""; 0]);
    let expected = json!({
        "breaker": {"preset": "resilience4j", "failureRatio": 50, "slowRatio": 100, "slowAfter": "2s", "window": "10s", "minRequests": 5, "openTime": "5s", "probes": 3},
        "retry": {"on": ["5xx", "reset", "unavailable"], "attempts": 2, "backoff": "10s", "maxBackoff": "10s"},
        "limits": {"requests": 10},
        "requestTimeout": "20s",
        "rateLimits": [{"name": "cart", "at": "caller", "window": {"requests": 10, "per": "1s"}}],
    });
    assert_eq!(spec, expected);
}

#[test]
fn properties_say_the_same_as_yaml() {
    let text = "resilience4j.circuitbreaker.configs.shared.failure-rate-threshold=40\n\
                resilience4j.circuitbreaker.instances.cart.base-config=shared\n\
                resilience4j.circuitbreaker.instances.cart.wait-duration-in-open-state=10000\n\
                resilience4j.thread-pool-bulkhead.instances.cart.max-thread-pool-size=4\n\
                resilience4j.thread-pool-bulkhead.instances.cart.queue-capacity=2\n";
    let (spec, lost) = one("application.properties", text, &options());
    assert_eq!(spec["breaker"], json!({"preset": "resilience4j", "failureRatio": 40, "openTime": "10s"}));
    assert_eq!((spec["limits"].clone(), lost), (json!({"requests": 4, "queue": {"size": 2, "timeout": "1m"}}), vec![]));
}

#[test]
fn what_of_resilience4j_means_something_else_here_is_said() {
    let of = |kind: &str, instance: &str| {
        one("a.yml", &format!("resilience4j.{kind}.instances.cart: {{{instance}}}"), &options())
    };
    let (spec, lost) = of("circuitbreaker", "slidingWindowSize: 10, ignoreExceptions: [com.shop.Sold]");
    assert_eq!(spec["breaker"]["minRequests"], 10, "no more than the window holds");
    assert!(
        lost.iter().any(|why| why.contains("window of 10 calls"))
            && lost.iter().any(|why| why.contains("com.shop.Sold")),
        "{lost:?}"
    );
    let (spec, lost) = of("retry", "maxAttempts: 20, enableExponentialBackoff: true, exponentialBackoffMultiplier: 3");
    assert!(spec["retry"]["attempts"] == 10 && lost.len() == 2, "{spec} {lost:?}");
    let (why, _) = refused("a.yml", "resilience4j.retry.instances.backendA: {maxAttempts: 2}", &options());
    assert!(why.contains("\"backendA\" is no name of a service"), "{why}");
    let (why, fix) =
        refused("a.yml", "resilience4j.timelimiter.instances.cart: {timeoutDuration: '${TIMEOUT:5s}'}", &options());
    assert!(why.contains("is not a duration") && fix.contains("placeholder"), "{why}: {fix}");
}

#[test]
fn a_command_and_a_pool_of_hystrix_under_two_names_are_one_service() {
    let mapped: Vec<Mapped> = vec!["CartClient#items(String)=cart".parse().unwrap()];
    let options = Options { mapped, ..options() };
    let text = "hystrix.command.CartClient#items(String).execution.isolation.thread.timeoutInMilliseconds=3000\n\
                hystrix.threadpool.cart.coreSize=5\n";
    let (spec, lost) = one("h.properties", text, &options);
    assert_eq!((spec["requestTimeout"].clone(), spec["limits"].clone()), (json!("3000ms"), json!({"requests": 5})));
    assert_eq!(lost, [""; 0]);
    let text = "hystrix.command.cart.threadPoolKeyOverride=shared\nhystrix.threadpool.shared.coreSize=7\n";
    let (spec, lost) = one("h.properties", text, &self::options());
    assert_eq!((spec["limits"].clone(), lost), (json!({"requests": 7}), vec![]));
}

#[test]
fn a_command_of_hystrix_has_hystrixs_defaults_written_out() {
    let (spec, lost) =
        one("h.properties", "hystrix.command.cart.circuitBreaker.requestVolumeThreshold=10\n", &options());
    let expected = json!({"requestTimeout": "1000ms", "limits": {"requests": 10}, "breaker": {"preset": "hystrix", "minRequests": 10}});
    assert_eq!((spec, lost), (expected, vec![]));
    let text = "hystrix.command.default.execution.isolation.thread.timeoutInMilliseconds=3000\n\
                hystrix.command.cart.execution.isolation.strategy=SEMAPHORE\n\
                hystrix.command.cart.execution.isolation.semaphore.maxConcurrentRequests=20\n\
                hystrix.command.cart.circuitBreaker.forceOpen=true\nhystrix.command.cart.fallback.enabled=true\n";
    let (spec, lost) = one("h.properties", text, &options());
    assert_eq!((&spec["requestTimeout"], &spec["limits"]), (&json!("3000ms"), &json!({"requests": 20})));
    assert!(lost.len() == 1 && spec["breaker"]["forced"] == "open", "{spec} {lost:?}");
    let pool = "hystrix.threadpool.cart: {coreSize: 5, maxQueueSize: 100}";
    assert_eq!(one("h.yml", pool, &options()).0["limits"], json!({"requests": 5, "queue": {"size": 5}}));
}

#[test]
fn a_client_of_ribbon_keeps_its_times_its_rule_and_its_retries() {
    let text = "ribbon.ReadTimeout=2000\ncart.ribbon.ConnectTimeout=500\ncart.ribbon.MaxAutoRetriesNextServer=2\n\
                cart.ribbon.NFLoadBalancerRuleClassName=com.netflix.loadbalancer.BestAvailableRule\n";
    let (spec, lost) = one("r.properties", text, &options());
    let expected = json!({
        "connectTimeout": "500ms", "loadBalancer": {"policy": "bestAvailable"},
        "retry": {"on": ["connect-failure", "reset"], "methods": ["GET"], "attempts": 2, "tryTimeout": "2000ms"},
    });
    assert_eq!((spec, lost), (expected, vec![]));
    let (_, lost) =
        one("r.yml", "cart: {ribbon: {ConnectTimeout: 1, MaxAutoRetries: 1, listOfServers: 'a:1,b:2'}}", &options());
    assert_eq!(lost.len(), 2, "{lost:?}");
}

#[test]
fn each_rule_of_ribbon_is_carried_over_by_its_name() {
    for (rule, policy, ejects) in [
        ("RoundRobinRule", "roundRobin", false),
        ("RandomRule", "random", false),
        ("RetryRule", "roundRobin", false),
        ("BestAvailableRule", "bestAvailable", false),
        ("WeightedResponseTimeRule", "weightedResponseTime", false),
        ("AvailabilityFilteringRule", "roundRobin", true),
        ("ZoneAvoidanceRule", "roundRobin", true),
    ] {
        let text = format!("cart.ribbon.NFLoadBalancerRuleClassName=com.netflix.loadbalancer.{rule}\n");
        let (spec, lost) = one("r.properties", &text, &options());
        assert_eq!((&spec["loadBalancer"]["policy"], spec["ejection"].is_object()), (&json!(policy), ejects), "{rule}");
        assert!(lost.is_empty(), "{rule}: {lost:?}");
    }
    let (_, lost) = one(
        "r.properties",
        "cart.ribbon.ConnectTimeout=500\ncart.ribbon.NFLoadBalancerRuleClassName=shop.OwnRule\n",
        &options(),
    );
    assert!(lost.len() == 1 && lost[0].contains("OwnRule"), "{lost:?}");
}

#[test]
fn a_file_in_which_there_is_nothing_or_that_cannot_be_read_is_an_error_with_its_place() {
    for (file, text) in [
        ("a.yml", "spring: {application: {name: x}}"),
        ("a.json", "[{\"resource\": \"/x\",}"),
        ("a.json", "{\"a\": 1, \"a\": 2}"),
        ("a.yml", "a: &x 1\nb: *x"),
    ] {
        let converted = convert([(file, text.as_bytes())], &options());
        assert!(!converted.faults.is_empty() && converted.text.is_empty(), "{text}: {converted:?}");
    }
    let large = vec![b' '; 2 << 20];
    assert!(!convert([("a.properties", &large[..])], &options()).faults.is_empty());
    assert!(!convert([("a.json", &b"\xff\xfe"[..])], &options()).faults.is_empty());
}

#[test]
fn a_flag_that_speaks_of_what_is_not_there_or_cannot_be_is_named() {
    let rules = r#"[{"resource": "createOrder", "count": 1}]"#;
    let with = |map: &str| Options { mapped: vec![map.parse().unwrap()], ..options() };
    let unused = convert([("x.json", rules.as_bytes())], &with("createOrders=orders"));
    assert!(
        unused.text.is_empty() && unused.faults[0].to_string().contains("nothing is named \"createOrders\""),
        "{unused:?}"
    );
    assert!(convert([("x.json", rules.as_bytes())], &with("createOrder=orders")).faults.is_empty());
    let retry = "resilience4j.retry.instances.cart.maxAttempts=2";
    let (why, _) = refused("x.properties", retry, &with("cart=cart/items"));
    assert!(why.contains("for a whole service"), "{why}");
}

#[test]
fn a_document_for_one_profile_is_left_aside_and_named() {
    let text = format!(
        "{RESILIENCE4J}---\nspring.config.activate.on-profile: test\nresilience4j.retry.instances.cart.maxAttempts: 9\n"
    );
    let (spec, lost) = one("application.yml", &text, &options());
    assert!(spec["retry"]["attempts"] == 2 && lost == ["a document for one profile"], "{lost:?}");
}

/// What holds of any file: what is written is read as it is, without faults, and each thing that is lost has a fix.
fn holds(file: &str, bytes: &[u8]) -> Converted {
    let converted = convert([(file, bytes)], &options());
    for fault in converted.lost.iter().chain(&converted.faults) {
        assert!(!fault.fix.is_empty() && !fault.message.is_empty(), "{fault}");
    }
    if !converted.text.is_empty() {
        let parsed = document::parse("out.yaml", &converted.text);
        let mut faults = parsed.faults;
        faults.extend(validate(&parsed.resources, &Nothing));
        assert!(faults.iter().all(|fault| fault.severity != Severity::Error), "{}{faults:?}", converted.text);
        assert_eq!(parsed.resources.len(), converted.resources, "{}", converted.text);
    }
    converted
}

const FIELDS: &[&str] = &[
    "resource",
    "limitApp",
    "grade",
    "count",
    "strategy",
    "controlBehavior",
    "warmUpPeriodSec",
    "maxQueueingTimeMs",
    "timeWindow",
    "minRequestAmount",
    "statIntervalMs",
    "slowRatioThreshold",
    "paramIdx",
    "durationInSec",
    "burstCount",
    "qps",
    "maxThread",
    "clusterMode",
    "regex",
    "rule",
    "app",
];

const SETTINGS: &[&str] = &[
    "resilience4j.circuitbreaker.instances.cart.failureRateThreshold",
    "resilience4j.circuitbreaker.instances.cart.slidingWindowSize",
    "resilience4j.circuitbreaker.instances.cart.slowCallDurationThreshold",
    "resilience4j.circuitbreaker.instances.cart.base-config",
    "resilience4j.circuitbreaker.configs.a.base-config",
    "resilience4j.circuitbreaker.configs.a.minimumNumberOfCalls",
    "resilience4j.retry.instances.cart.maxAttempts",
    "resilience4j.retry.instances.cart.waitDuration",
    "resilience4j.retry.instances.cart.enableExponentialBackoff",
    "resilience4j.ratelimiter.instances.cart.limitForPeriod",
    "resilience4j.ratelimiter.instances.cart.limitRefreshPeriod",
    "resilience4j.bulkhead.instances.cart.maxWaitDuration",
    "resilience4j.timelimiter.instances.cart.timeoutDuration",
    "hystrix.command.cart.metrics.rollingStats.timeInMilliseconds",
    "hystrix.threadpool.cart.coreSize",
    "hystrix.threadpool.cart.maxQueueSize",
    "cart.ribbon.ReadTimeout",
    "cart.ribbon.ConnectTimeout",
    "cart.ribbon.retryableStatusCodes",
    "flowRules",
];

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-3_i64..12).prop_map(Value::from),
        (0.0..2.0_f64).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        "[ -~]{0,12}".prop_map(Value::from),
        "(GET:)?/[a-z{}*?.:\\[(]{0,9}".prop_map(Value::from),
        prop_oneof![
            Just("cart"),
            Just("a"),
            Just("10s"),
            Just("PT1M"),
            Just("http://cart/x"),
            Just("SEMAPHORE"),
            Just("TIME_BASED")
        ]
        .prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_bytes_come_nothing_breaks(bytes in proptest::collection::vec(any::<u8>(), 0..300), file in "[a-z]{1,4}(\\.json|\\.yml|\\.properties)?") {
        holds(&file, &bytes);
    }

    #[test]
    fn whatever_text_comes_nothing_breaks(text in "(resilience4j|hystrix|a\\.ribbon|\\[\\{|[ -~\n]){0,60}") {
        for file in ["a.json", "a.yml", "a.properties", "a"] {
            holds(file, text.as_bytes());
        }
    }

    #[test]
    fn whatever_a_rule_says_what_is_written_is_valid(
        rules in proptest::collection::vec(proptest::collection::hash_map(proptest::sample::select(FIELDS), value(), 1..9), 1..20),
    ) {
        let rules: Vec<Value> = rules.into_iter().map(|rule| rule.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()).collect();
        holds("x.json", Value::from(rules).to_string().as_bytes());
    }

    #[test]
    fn whatever_a_setting_says_what_is_written_is_valid(
        settings in proptest::collection::hash_map(proptest::sample::select(SETTINGS), value(), 1..12),
    ) {
        let text: String = settings.iter().map(|(name, value)| format!("{name}={}\n", value.as_str().map_or_else(|| value.to_string(), str::to_owned))).collect();
        holds("x.properties", text.as_bytes());
        let yaml: serde_json::Map<String, Value> = settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        holds("x.yml", Value::from(yaml).to_string().as_bytes());
    }
}

//! The command line where no server is: faults, exit statuses, help, completion, settings.
//!
//! Every test runs the built binary as a user would, in an empty directory and without variables of leno.

#![allow(clippy::unwrap_used)]

mod kit;

use kit::{Ran, leno};

const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: '', kind: Service, name: cart}]
  rules:
  - backendRefs:
    - {group: '', kind: Service, name: cart, port: 80, weigth: 5}
";

const SERVICE: &str = "\
apiVersion: leno.mesh/v1
kind: Service
metadata: {name: cart, namespace: shop}
spec:
  ports: [{port: 80, protocol: http}]
";

#[test]
fn faults_are_shown_with_their_place_their_line_and_the_fix() {
    let leno = leno().file("cart.yaml", ROUTE);
    let Ran { status, out, err } = leno.run(&["check", "-f", "cart.yaml"]);
    assert_eq!(status, 1, "{err}");
    assert_eq!(out, "1 fault in 1 file\n");
    let lines: Vec<&str> = err.lines().collect();
    let place = "cart.yaml:8:56: error: spec.rules[0].backendRefs[0].weigth: unknown field `weigth`";
    assert!(lines[0].starts_with(place), "{err}");
    assert_eq!(lines[1], " 8 |     - {group: '', kind: Service, name: cart, port: 80, weigth: 5}");
    assert_eq!(lines[2].chars().position(|c| c == '^'), Some(" 8 | ".len() + 55), "{err}");
    assert!(lines[3].contains("fix: did you mean `weight`?"), "{err}");
}

#[test]
fn a_directory_without_faults_is_counted() {
    let route = ROUTE.replace("weigth", "weight");
    let leno = leno().file("mesh/cart.yaml", &route).file("mesh/service.yml", SERVICE).file("mesh/notes.txt", "x");
    let Ran { status, out, err } = leno.run(&["check", "-f", "mesh"]);
    assert_eq!((status, out.as_str(), err.as_str()), (0, "2 resources in 2 files, no faults\n", ""));
}

#[test]
fn standard_input_is_a_file_named_dash() {
    let ran = leno().input(ROUTE).run(&["check", "-f", "-"]);
    assert!(ran.status == 1 && ran.err.starts_with("-:8:56: error:"), "{}", ran.err);
}

#[test]
fn rules_of_sentinel_become_resources_that_hold() {
    let rules = r#"[{"resource": "GET:/orders", "grade": 1, "count": 20}, {"resource": "GET:/orders", "count": 1, "strategy": 1}]"#;
    let leno = leno().file("orders-flow-rules.json", rules);
    let ran = leno.run(&["convert", "-f", "orders-flow-rules.json", "-n", "shop", "--output", "orders.yaml"]);
    assert_eq!((ran.status, ran.out.as_str()), (1, ""), "{}", ran.err);
    assert!(
        ran.err.starts_with("orders-flow-rules.json:1:96: warning: [1].strategy: GET:/orders: strategy RELATE"),
        "{}",
        ran.err
    );
    assert!(ran.err.ends_with("1 resource, 1 warning: not everything was carried over\n"), "{}", ran.err);
    let checked = leno.run(&["check", "-f", "orders.yaml"]);
    assert_eq!(checked.status, 0, "{}", checked.err);
    let text = std::fs::read_to_string(leno.path("orders.yaml")).unwrap();
    assert!(
        text.contains("# not carried over: line 1 of orders-flow-rules.json") && text.contains("namespace: shop"),
        "{text}"
    );
    let ran = leno.run(&["convert", "-f", "orders.yaml"]);
    assert!(ran.status == 2 && ran.err.contains("nothing of Sentinel"), "{}", ran.err);
    let ran = leno.run(&["convert", "-f", "orders-flow-rules.json", "--map", "x"]);
    assert!(ran.status == 2 && ran.err.contains("RESOURCE=SERVICE"), "{}", ran.err);
}

#[test]
fn a_check_is_one_json_object_when_asked() {
    let ran = leno().file("cart.yaml", ROUTE).run(&["check", "-f", "cart.yaml", "-o", "json"]);
    let answer: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((answer["ok"].as_bool(), answer["faults"][0]["class"].as_str()), (Some(false), Some("unknown-field")));
    assert_eq!(ran.err, "");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let ran = leno().run(&["check", "-f", "nowhere.yaml"]);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("nowhere.yaml: No such file") && ran.err.contains("fix:"), "{}", ran.err);
}

#[test]
fn a_file_without_a_resource_is_no_success() {
    let ran = leno().file("empty.yaml", "# nothing\n").run(&["check", "-f", "empty.yaml"]);
    assert!(ran.status == 2 && ran.err.contains("no resource in 1 file"), "{}", ran.err);
}

#[test]
fn a_verb_that_does_not_exist_is_refused_with_the_near_one() {
    let ran = leno().run(&["aply"]);
    assert!(ran.status == 2 && ran.err.contains("apply"), "{}", ran.err);
}

#[test]
fn a_kind_that_does_not_exist_is_refused_with_the_near_one() {
    let ran = leno().run(&["get", "httprout"]);
    assert!(ran.status == 2 && ran.err.contains("did you mean `httproute`?"), "{}", ran.err);
}

#[test]
fn every_verb_has_a_help_and_what_talks_to_a_server_has_an_example() {
    let verbs: [&[&str]; 16] = [
        &["apply"],
        &["diff"],
        &["get"],
        &["delete"],
        &["history"],
        &["rollback"],
        &["check"],
        &["status"],
        &["service", "list"],
        &["service", "register"],
        &["service", "deregister"],
        &["service", "drain"],
        &["log-level"],
        &["system", "backup"],
        &["system", "restore"],
        &["completion"],
    ];
    for verb in verbs {
        let ran = leno().run(&[verb, &["--help"]].concat());
        assert!(ran.status == 0 && ran.out.contains("Example"), "{verb:?}: {}", ran.out);
    }
}

#[test]
fn completion_knows_verbs_and_flags_and_not_what_is_internal() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = leno().run(&["completion", shell]);
        assert_eq!(ran.status, 0, "{}", ran.err);
        for word in ["rollback", "dry-run", "deregister", "token-file"] {
            assert!(ran.out.contains(word), "{shell}: {word}");
        }
        assert!(!ran.out.contains("__inside") && !ran.out.contains("__shop"), "{shell}");
    }
    assert_eq!(leno().run(&["completion", "powershell"]).status, 2);
}

#[test]
fn a_server_that_is_not_there_is_status_3_with_the_fix() {
    let api = format!("http://{}", kit::free_address());
    let leno = leno().file("cart.yaml", SERVICE);
    let verbs: [&[&str]; 9] = [
        &["apply", "-f", "cart.yaml"],
        &["diff", "-f", "cart.yaml"],
        &["get"],
        &["delete", "hr/cart"],
        &["history"],
        &["rollback", "1"],
        &["status"],
        &["service", "list"],
        &["log-level"],
    ];
    for verb in verbs {
        let ran = leno.run(&[verb, &["--api", &api]].concat());
        assert_eq!(ran.status, 3, "{verb:?}: {}", ran.err);
        assert!(ran.err.contains(&format!("no server at {api}")), "{}", ran.err);
        assert!(ran.err.contains("start one with `leno server`"), "{}", ran.err);
    }
}

#[test]
fn a_live_check_without_a_server_fails_and_says_what_to_do() {
    let api = format!("http://{}", kit::free_address());
    let ran = leno().run(&["check", "--api", &api]);
    assert!(ran.status == 1 && ran.out.contains("FAIL  server"), "{}", ran.out);
    assert!(ran.out.contains("fix: start one with `leno server`"), "{}", ran.out);
}

#[test]
fn an_address_that_is_none_is_refused_before_anything_is_sent() {
    for api in ["https://127.0.0.1:7070", "http://", "http://a/b"] {
        let ran = leno().run(&["status", "--api", api]);
        assert!(ran.status == 2 && ran.err.contains("write http://HOST:PORT"), "{api}: {}", ran.err);
    }
}

#[test]
fn a_flag_wins_over_a_variable_and_a_variable_over_the_settings_file() {
    let [file, variable, flag] = [(); 3].map(|()| format!("http://{}", kit::free_address()));
    let leno = leno().file("leno.yaml", &format!("api: {file}\n"));
    let named = |ran: Ran| ran.err;
    assert!(named(leno.run(&["service", "list"])).contains(&file));
    let leno = leno.variable("LENO_API", &variable);
    assert!(named(leno.run(&["service", "list"])).contains(&variable));
    assert!(named(leno.run(&["service", "list", "--api", &flag])).contains(&flag));
}

#[test]
fn a_settings_file_with_an_unknown_name_is_refused() {
    let ran = leno().file("leno.yaml", "htpp-listen: 1\n").run(&["status"]);
    assert!(ran.status == 2 && ran.err.contains("leno.yaml: htpp-listen: no verb has a flag"), "{}", ran.err);
}

#[test]
fn colours_appear_only_when_they_are_wanted() {
    let plain = leno().file("cart.yaml", ROUTE);
    assert!(!plain.run(&["check", "-f", "cart.yaml"]).err.contains('\u{1b}'));
    let forced = plain.variable("CLICOLOR_FORCE", "1");
    assert!(forced.run(&["check", "-f", "cart.yaml"]).err.contains("\u{1b}[31"));
    let refused = forced.variable("NO_COLOR", "1");
    assert!(!refused.run(&["check", "-f", "cart.yaml"]).err.contains('\u{1b}'));
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    assert_eq!(leno().run_unread(&["completion", "bash"]).status, 0);
}

#[test]
fn a_backup_does_not_overwrite_and_a_restore_needs_a_backup() {
    let leno = leno().file("there.db", "x");
    let api = format!("http://{}", kit::free_address());
    let ran = leno.run(&["system", "backup", "there.db", "--api", &api]);
    assert!(ran.status == 2 && ran.err.contains("there.db exists"), "{}", ran.err);
    let ran = leno.run(&["system", "backup", "new.db", "--api", &api]);
    assert!(ran.status == 3 && !leno.path("new.db").exists(), "{}", ran.err);
    let ran = leno.run(&["system", "restore", "there.db", "--data-dir", "state"]);
    assert!(ran.status == 2 && !leno.path("state/state.db").exists(), "{}", ran.err);
}

#[test]
fn check_says_of_files_what_proxies_of_others_do_not_honour_and_where() {
    const POLICY: &str = "apiVersion: leno.mesh/v1\nkind: Service\nmetadata: {name: cart}\nspec: {ports: [{port: 80}]}\n---\n\
         apiVersion: leno.mesh/v1\nkind: TrafficPolicy\nmetadata: {name: cart}\n\
         spec:\n  targetRefs: [{name: cart}]\n  idleTimeout: 1m\n  breaker: {preset: hystrix}\n";
    let leno = leno().file("cart.yaml", POLICY);
    let Ran { status, err, .. } = leno.run(&["check", "-f", "cart.yaml"]);
    assert!(status == 0 && !err.contains("Envoy"), "{err}");
    let Ran { status, out, err } = leno.run(&["check", "-f", "cart.yaml", "--for", "envoy"]);
    assert_eq!((status, out.as_str()), (0, "2 resources in 1 file, no faults, 1 warning\n"), "{err}");
    assert!(err.contains("cart.yaml:12:12") && err.contains("spec.breaker"), "{err}");
    assert!(err.contains("Envoy does not do what is written: it opens no breaker"), "{err}");
    let both = leno.run(&["check", "-f", "cart.yaml", "--for", "envoy", "--for", "grpc"]);
    assert_eq!(both.out, "2 resources in 1 file, no faults, 3 warnings\n", "{}", both.err);
}

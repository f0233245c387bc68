//! The verbs against a real server: what they change, what they print, and how they end.

#![allow(clippy::unwrap_used)]

mod kit;

use std::os::unix::fs::PermissionsExt;

use kit::{Server, leno};

fn service(name: &str) -> String {
    format!(
        "apiVersion: leno.mesh/v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{ports: [{{port: 80}}]}}\n"
    )
}

/// A split of `reviews` with `share` percent for v2.
fn split(share: u32) -> String {
    let rest = 100 - share;
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: reviews, namespace: shop}}\nspec:\n  \
         parentRefs: [{{group: '', kind: Service, name: reviews}}]\n  rules:\n  - backendRefs:\n    \
         - {{group: leno.mesh, kind: ServiceVersion, name: reviews@v1, port: 80, weight: {rest}}}\n    \
         - {{group: leno.mesh, kind: ServiceVersion, name: reviews@v2, port: 80, weight: {share}}}\n"
    )
}

/// A server with the service and its split at 5 percent in force, as revision 1, and files for 50 percent.
fn shop() -> Server {
    let leno = leno().file("mesh/service.yaml", &service("reviews")).file("mesh/split.yaml", &split(5));
    let server = Server::start(leno.file("half.yaml", &split(50)));
    let said = server.done(&["apply", "-f", "mesh", "--wait", "-m", "begin"]);
    assert!(
        said.contains("httproute/shop/reviews created\nservice/shop/reviews created\nrevision 1\nin effect"),
        "{said}"
    );
    server
}

#[test]
fn what_is_applied_twice_changes_nothing() {
    let server = shop();
    let again = server.done(&["apply", "-f", "mesh"]);
    assert!(again.ends_with("nothing to change, revision 1 stays in force\n"), "{again}");
    assert_eq!(server.done(&["diff", "-f", "mesh"]), "");
}

#[test]
fn a_difference_is_status_1_and_changes_nothing() {
    let server = shop();
    let ran = server.run(&["diff", "-f", "half.yaml"]);
    assert_eq!(ran.status, 1, "{}", ran.err);
    assert!(ran.out.contains("-      weight: 5\n+      weight: 50\n"), "{}", ran.out);
    let dry = server.done(&["apply", "-f", "half.yaml", "--dry-run"]);
    assert!(dry.contains("would be updated"), "{dry}");
    assert!(server.done(&["history", "-o", "name"]) == "1\n");
}

#[test]
fn a_rollback_restores_the_earlier_state_as_a_new_revision() {
    let server = shop();
    server.done(&["apply", "-f", "half.yaml"]);
    let planned = server.done(&["rollback", "1", "--dry-run"]);
    assert!(planned.contains("-      weight: 50\n+      weight: 5\n"), "{planned}");
    assert!(server.done(&["rollback", "1", "-m", "too early"]).ends_with("revision 3\n"));
    assert!(server.done(&["get", "hr", "reviews", "-n", "shop"]).contains("reviews@v1:95,reviews@v2:5"));
    assert_eq!(server.done(&["history", "hr/shop/reviews", "-o", "name"]), "3\n2\n1\n");
    let shown = server.done(&["history", "1"]);
    assert!(
        shown.contains("by admin") && shown.contains("begin") && shown.contains("+++ b/service/shop/reviews"),
        "{shown}"
    );
    server.done(&["delete", "hr/shop/reviews", "-m", "not needed"]);
    let history: serde_json::Value = serde_json::from_str(&server.done(&["history", "-o", "json"])).unwrap();
    let told = |at: usize| ["action", "summary"].map(|name| history["items"][at][name].as_str().unwrap());
    assert_eq!((told(0), told(1)), (["delete", "not needed"], ["rollback", "too early"]));
    assert_eq!(server.run(&["rollback", "99"]).status, 1);
}

#[test]
fn a_faulty_set_is_refused_whole_with_the_line_and_the_fix() {
    let server = shop();
    std::fs::write(server.leno.path("mesh/split.yaml"), split(50).replace("weight: 50", "weigth: 50")).unwrap();
    let ran = server.run(&["apply", "-f", "mesh"]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.err.contains("mesh/split.yaml:8:") && ran.err.contains("fix: did you mean `weight`?"), "{}", ran.err);
    assert!(ran.err.ends_with("2 faults in 2 files: nothing was changed\n"), "{}", ran.err);
    assert_eq!(server.done(&["history", "-o", "name"]), "1\n");
}

#[test]
fn what_get_prints_as_yaml_can_be_applied() {
    let server = shop();
    let yaml = server.done(&["get", "-o", "yaml"]);
    assert_eq!(server.done(&["get", "-o", "name"]), "httproute/shop/reviews\nservice/shop/reviews\n");
    std::fs::write(server.leno.path("all.yaml"), yaml).unwrap();
    assert_eq!(server.run(&["diff", "-f", "all.yaml"]).status, 0);
    assert_eq!(server.run(&["get", "hr/nowhere"]).status, 1);
}

#[test]
fn what_somebody_else_owns_or_changed_is_status_4() {
    let server = shop();
    server.done(&["apply", "-f", "half.yaml"]);
    for conflict in [
        &["apply", "-f", "mesh", "--expect", "1"][..],
        &["apply", "-f", "mesh", "--set", "other"],
        &["delete", "hr/shop/reviews", "--set", "other"],
        &["delete", "hr/shop/reviews", "--expect", "1"],
    ] {
        let ran = server.run(conflict);
        assert!(ran.status == 4 && ran.err.contains("fix:"), "{conflict:?}: {ran:?}");
    }
    let foreign = server.run(&["delete", "hr/shop/reviews", "--set", "other"]).err;
    assert!(
        foreign.contains("is owned by the set api") && foreign.contains("fix: change it with --set api"),
        "{foreign}"
    );
    assert!(server.done(&["delete", "hr/shop/reviews"]).starts_with("httproute/shop/reviews deleted\n"));
    assert_eq!(server.run(&["delete", "hr/shop/reviews"]).status, 1);
}

#[test]
fn a_wait_counts_the_proxies_that_have_it_in_effect_and_gives_up_in_time() {
    let server = shop();
    let proxies = [server.proxy("reviews.shop"), server.proxy("reviews.shop")];
    let said = server.done(&["apply", "-f", "half.yaml", "--wait"]);
    assert!(said.contains("in effect on 2 of 2 proxies after "), "{said}");
    assert!(server.done(&["check"]).contains("2 connected, all synced"));
    proxies[1].freeze();
    let ran = server.run(&["apply", "-f", "mesh", "--wait=300ms"]);
    assert!(ran.status == 3 && ran.out.contains("in effect on 1 of 2 proxies"), "{ran:?}");
    assert!(ran.err.contains("no answer in time from 1 of them: proxy/"), "{ran:?}");
    assert!(server.done(&["status"]).contains("1 synced, 1 behind"));
}

#[test]
fn a_set_of_its_own_is_pruned_to_its_files() {
    let server = Server::start(leno().file("a.yaml", &service("a")).file("b.yaml", &service("b")));
    server.done(&["apply", "-f", "a.yaml", "-f", "b.yaml", "--set", "team"]);
    let said = server.done(&["apply", "-f", "a.yaml", "--set", "team", "--prune"]);
    assert!(said.contains("service/shop/b deleted"), "{said}");
    assert_eq!(server.run(&["apply", "-f", "a.yaml", "--prune"]).status, 2);
}

#[test]
fn a_token_that_is_wrong_or_missing_is_named_with_the_fix() {
    let server = shop();
    std::fs::write(server.leno.path("wrong.token"), "leno_0\n").unwrap();
    let wrong = server.run(&["status", "--token-file", "wrong.token"]);
    assert!(wrong.status == 2 && wrong.err.contains("refused the token in wrong.token"), "{wrong:?}");
    let missing = server.run(&["status", "--token-file", "nowhere"]);
    assert!(missing.status == 2 && missing.err.contains("asks for a token, and nowhere cannot be read"), "{missing:?}");
    assert!(server.run(&["check", "--token-file", "nowhere"]).out.contains("FAIL  token"));
}

#[test]
fn an_instance_is_registered_drained_and_taken_out() {
    let server = shop();
    let id = server.done(&["service", "register", "cart.shop", "127.0.0.1:9001=http", "--version", "v2"]);
    assert_eq!(id, "127.0.0.1:9001\n");
    assert!(server.done(&["service", "list"]).contains("shop       cart     1          1\n"));
    assert!(server.done(&["service", "list", "cart.shop"]).contains("9001/http  v2"));
    server.done(&["service", "drain", "cart.shop", id.trim()]);
    assert!(server.done(&["service", "list", "cart.shop"]).contains("draining"));
    server.done(&["service", "drain", "cart.shop", id.trim(), "--undo"]);
    server.done(&["service", "deregister", "cart.shop", id.trim()]);
    assert_eq!(server.run(&["service", "list", "cart.shop"]).status, 1);
}

#[test]
fn status_and_check_tell_how_the_server_stands() {
    let server = shop();
    let status = server.done(&["status"]);
    assert!(status.contains(&server.api) && status.contains("proxies    none connected"), "{status}");
    let check = server.done(&["check"]);
    assert!(check.ends_with("all is well\n") && check.contains("ok    store"), "{check}");
    let settings = server.done(&["status", "--settings"]);
    let row = settings.lines().find(|line| line.starts_with("http-listen")).unwrap();
    assert!(row.ends_with("flag"), "{settings}");
    let lost = Server::start(leno().file("split.yaml", &split(5)));
    assert!(lost.run(&["apply", "-f", "split.yaml"]).err.contains("warning:"));
    let check = lost.run(&["check"]);
    assert!(check.status == 1 && check.out.contains("FAIL  resources") && check.out.contains("fix:"), "{check:?}");
}

#[test]
fn the_log_level_of_a_running_server_is_shown_and_changed() {
    let server = shop();
    assert_eq!(server.done(&["log-level"]), "info\n");
    let said = server.done(&["log-level", "info,leno_control=debug"]);
    assert!(said.contains("leno_control=debug") && said == server.done(&["log-level"]), "{said}");
    let wrong = server.run(&["log-level", "loud"]);
    assert!(wrong.status == 2 && wrong.err.contains("loud"), "{wrong:?}");
}

#[test]
fn a_backup_brings_the_state_back_and_not_while_a_server_runs() {
    let server = shop();
    server.done(&["system", "backup", "copy.db"]);
    let mode = std::fs::metadata(server.leno.path("copy.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    server.done(&["apply", "-f", "half.yaml"]);
    let restore = ["system", "restore", "copy.db", "--data-dir", "state", "--force"];
    let refused = server.leno.run(&restore);
    assert!(refused.status == 4 && refused.err.contains("in use by another leno"), "{refused:?}");
    let leno = server.stop();
    assert_eq!(leno.run(&restore[..5]).status, 4, "a state is there and nobody said --force");
    assert_eq!(leno.run(&restore).status, 0);
    let server = Server::start(leno);
    assert!(server.done(&["get", "hr", "-n", "shop"]).contains("reviews@v1:95,reviews@v2:5"));
}

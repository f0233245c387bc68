//! Who gets through the guards of the API and of a proxy's admin listener, and what of it stands in the audit log.
//!
//! The routes are those that the server lists; it serves no others, so that a new one is walked here without a word.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::DirBuilderExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use kit::{Leno, Server, figures, leno};
use leno_model::identity::{Principal, Role};
use leno_runtime::guard::TokenSet;
use serde_json::{Value, json};

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];
const FORMS: [&str; 3] = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"];

/// A server with the tokens of an admin, an operator and a viewer.
struct Guarded {
    server: Server,
    admin: String,
    operator: String,
    viewer: String,
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    text: String,
    /// The text as JSON, where it is that.
    body: Value,
}

impl Guarded {
    fn start() -> Self {
        let leno = leno();
        std::fs::DirBuilder::new().mode(0o700).create(leno.path("state")).unwrap();
        let mut tokens = TokenSet::new();
        let mut token = |name: &str, role| tokens.create(Principal { name: name.to_owned(), role }).unwrap();
        let (operator, viewer) = (token("olga", Role::Operator), token("vera", Role::Viewer));
        tokens.save(&leno.path("state")).unwrap();
        Self::over(leno, operator, viewer)
    }

    /// The same again after its server was killed.
    fn killed(self) -> Self {
        Self::over(self.server.stop(), self.operator, self.viewer)
    }

    fn over(leno: Leno, operator: String, viewer: String) -> Self {
        let server = Server::start(leno);
        let admin = std::fs::read_to_string(server.leno.path("state/admin.token")).unwrap().trim().to_owned();
        Self { server, admin, operator, viewer }
    }

    fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        ask(self.server.api.strip_prefix("http://").unwrap(), method, path, fields, body)
    }

    /// Asks with a token.
    fn ask_as(&self, token: &str, method: &str, path: &str, body: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        let kind = if body.starts_with('{') { "application/json" } else { "application/yaml" };
        let fields: &[_] = &[("authorization", &*bearer), ("content-type", kind)];
        self.ask(method, path, &fields[..if body.is_empty() { 1 } else { 2 }], body)
    }

    /// Every route of the server, with examples for what is in braces.
    fn routes(&self) -> Vec<(String, String, Option<String>)> {
        let listed = self.ask_as(&self.viewer, "GET", "/api/v1/routes", "").body;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let route = |route: &Value| {
            let path = route["path"].as_str().unwrap().split('/').map(example).collect::<Vec<_>>().join("/");
            (text(&route["method"]).unwrap(), path, text(&route["needs"]))
        };
        listed["routes"].as_array().unwrap().iter().map(route).collect()
    }

    /// The audit log, the oldest first, as `who action object revision outcome`.
    fn audit(&self) -> Vec<String> {
        let answer = self.ask_as(&self.admin, "GET", "/api/v1/audit?limit=10000", "");
        let mut events = answer.body["items"].as_array().unwrap().clone();
        events.reverse();
        assert!(events.is_sorted_by_key(|event| event["time"].as_u64()), "{events:#?}");
        let line = |event: &Value| {
            let text = |name: &str| event[name].as_str().unwrap_or("-").to_owned();
            assert!(text("from") == "127.0.0.1" || text("action") == "restore", "{event}");
            let revision = event["revision"].as_u64().map_or("-".to_owned(), |revision| revision.to_string());
            let outcome = text("outcome").chars().take(39).collect::<String>();
            [text("principal"), text("action"), text("object"), revision, outcome].join(" | ")
        };
        events.iter().map(line).collect()
    }
}

/// What may stand for a step of a path.
fn example(step: &str) -> &str {
    match step {
        "{kind}" => "service",
        "{namespace}" => "shop",
        "{revision}" => "1",
        "{*path}" => "app.js",
        "{service}" => "cart.shop",
        step if step.starts_with('{') => "cart",
        step => step,
    }
}

/// One request on a connection of its own, and its answer; of a stream of events, the head.
fn ask(address: &str, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
    let mut text = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !fields.iter().any(|(name, _)| *name == "host") {
        text += &format!("host: {address}\r\n");
    }
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        text += &format!("content-length: {}\r\n", body.len());
    }
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
    let (mut reader, mut head) = (BufReader::new(stream), String::new());
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{method} {path}: no answer after {head:?}");
    }
    let status = head[9..12].parse().unwrap();
    let (mut bytes, head) = (Vec::new(), head.to_lowercase());
    if !head.contains("text/event-stream") {
        reader.read_to_end(&mut bytes).unwrap();
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Answer { status, head, body: serde_json::from_str(&text).unwrap_or_default(), text }
}

impl Answer {
    /// The code of a refusal.
    fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or("-")
    }
}

#[test]
fn no_route_is_open_without_a_token_but_life_and_health() {
    let guarded = Guarded::start();
    let routes = guarded.routes();
    let paths: BTreeSet<&String> = routes.iter().map(|(_, path, _)| path).collect();
    let open = ["/live", "/ready", "/api/v1/health"];
    let unknown = [
        "/api/v1",
        "/api/v1/",
        "/api/v1/nowhere",
        "/api/v1/health/",
        "/api/v1/health/x",
        "/api/v1//health",
        "/api/v1/%68ealth",
        "/api/v1/resources/../health",
        "/API/v1/health",
        "/nowhere",
        "/dashboard/nowhere",
    ];
    let wrong: [&[(&str, &str)]; 4] = [
        &[],
        &[("authorization", "Bearer leno_0000000000000000000000000000000000000000000000000000000000000000")],
        &[("authorization", "Basic YWRtaW46YWRtaW4=")],
        &[("cookie", "leno_session=0")],
    ];
    let mut asked = 0;
    for path in paths.iter().map(|path| path.as_str()).chain(unknown) {
        for (method, fields) in METHODS.iter().flat_map(|method| wrong.iter().map(move |fields| (method, fields))) {
            let answer = guarded.ask(method, path, fields, "");
            let expected: &[u16] = if open.contains(&path) { &[200, 405] } else { &[401] };
            assert!(expected.contains(&answer.status), "{method} {path} {fields:?}: {answer:?}");
            assert!(!answer.head.contains("access-control"), "{method} {path}: {answer:?}");
            asked += 1;
        }
    }
    let public: Vec<&String> = routes.iter().filter(|(_, _, needs)| needs.is_none()).map(|(_, path, _)| path).collect();
    assert_eq!(public, open);
    assert!(paths.len() >= 25 && paths.iter().any(|path| path.ends_with("/renew")), "{paths:?}");
    figures(format_args!("guard: {} routes on {} paths, {asked} requests without a token", routes.len(), paths.len()));
}

#[test]
fn every_route_refuses_roles_that_do_not_reach_and_web_pages_of_other_sites() {
    let guarded = Guarded::start();
    let admin = format!("Bearer {}", guarded.admin);
    let (mut roles, mut pages) = (0, 0);
    for (method, path, needs) in guarded.routes() {
        let at = format!("{method} {path}");
        for (role, token) in [("viewer", &guarded.viewer), ("operator", &guarded.operator)] {
            let reaches = match needs.as_deref() {
                None | Some("viewer") => true,
                Some(needs) => needs == role,
            };
            // What a role reaches is asked for where it only reads; what a change does is another test's.
            if !reaches {
                let answer = guarded.ask_as(token, &method, &path, "");
                assert_eq!((answer.status, answer.code()), (403, "role"), "{role} {at}: {answer:?}");
                roles += 1;
            } else if method == "GET" && needs.is_some() {
                assert!(![401, 403].contains(&guarded.ask_as(token, &method, &path, "").status), "{role} {at}");
                roles += 1;
            }
        }
        for (name, value, code) in [
            ("host", "evil.example", "host_not_allowed"),
            ("host", "127.0.0.1.evil.example:80", "host_not_allowed"),
            ("origin", "http://evil.example", "cross_site"),
            ("origin", "null", "cross_site"),
            ("origin", "http://127.0.0.1:1", "cross_site"),
            ("sec-fetch-site", "cross-site", "cross_site"),
            ("sec-fetch-site", "same-site", "cross_site"),
        ] {
            for asks in [method.as_str(), "OPTIONS"] {
                let fields = [("authorization", &*admin), (name, value)];
                let answer = guarded.ask(asks, &path, &fields, "");
                assert_eq!((answer.status, answer.code()), (403, code), "{at} with {name}: {value}: {answer:?}");
                assert!(!answer.head.contains("access-control"), "{answer:?}");
                pages += 1;
            }
        }
        for form in FORMS {
            let fields = [("authorization", &*admin), ("content-type", form)];
            let answer = guarded.ask("POST", &path, &fields, "{}");
            assert_eq!((answer.status, answer.code()), (415, "content_type"), "{at} {form}: {answer:?}");
            pages += 1;
        }
    }
    // Nothing of it changed anything.
    assert_eq!(guarded.ask_as(&guarded.viewer, "GET", "/api/v1/history", "").body["items"], json!([]));
    assert_eq!(guarded.ask_as(&guarded.viewer, "GET", "/api/v1/services", "").body["services"], json!([]));
    figures(format_args!("guard: {roles} requests of roles, {pages} as web pages send them"));
}

/// A proxy whose admin and metrics listeners are on.
fn proxy(guarded: &Guarded) -> (Child, String, String) {
    let leno = &guarded.server.leno;
    let mut arguments = vec!["proxy", "--server", &guarded.server.grpc, "--to", "cart.shop=127.0.0.1:0"];
    arguments.extend(["--outbound-listen=off", "--inbound-listen=off", "--log-format=json"]);
    arguments.extend(["--admin-listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0"]);
    let mut child = leno.command(&arguments).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut address = |listener: &str| loop {
        let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap_or_default();
        if event["listener"] == listener {
            break event["address"].as_str().unwrap().to_owned();
        }
    };
    let (metrics, admin) = (address("metrics"), address("admin"));
    std::thread::spawn(move || lines.for_each(drop));
    (child, admin, metrics)
}

/// The admin listener of a proxy asks for no token on purpose: it is on loopback, changes nothing but the log filter, and
/// has to answer when no server does. The metrics listener answers to every name on purpose: scrapers address it by one
/// that nobody can list, and it says nothing but counters.
#[test]
fn a_proxys_admin_listener_is_open_to_its_machine_and_closed_to_web_pages() {
    let guarded = Guarded::start();
    let (mut child, admin, metrics) = proxy(&guarded);
    let foreign: [&[(&str, &str)]; 4] = [
        &[("host", "evil.example")],
        &[("origin", "http://evil.example")],
        &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors")],
        &[("origin", "null"), ("access-control-request-method", "PUT")],
    ];
    for path in ["/", "/live", "/ready", "/metrics", "/table", "/endpoints", "/settings", "/log-level", "/nowhere"] {
        for (method, fields) in METHODS.iter().flat_map(|method| foreign.iter().map(move |fields| (method, fields))) {
            let answer = ask(&admin, method, path, fields, "");
            assert_eq!(answer.status, 403, "{method} {path} {fields:?}: {answer:?}");
        }
        let expected = if path == "/nowhere" { 404 } else { 200 };
        assert_eq!(ask(&admin, "GET", path, &[], "").status, expected, "{path}");
    }
    // As `curl -X PUT -d debug` sends it.
    let form = ("content-type", "application/x-www-form-urlencoded");
    assert_eq!(ask(&admin, "PUT", "/log-level", &[form], "info,leno_xds=debug").status, 200);
    assert_eq!(ask(&admin, "PUT", "/log-level", &[form, foreign[1][0]], "debug").status, 403);
    // As `curl -d debug` sends it, and any page.
    let posted = ask(&admin, "POST", "/log-level", &[form], "debug");
    let command = format!("curl -X PUT -d VALUE http://{admin}/log-level");
    assert_eq!((posted.status, posted.body["error"]["fix"].as_str()), (415, Some(&*command)));
    let other = ask(&admin, "GET", "/", &[("host", "evil.example")], "");
    assert_eq!(other.body["error"]["fix"], "address it as localhost, 127.0.0.1, ::1");
    let address = admin.clone();
    let shown = guarded.server.leno.run(&["log-level", "--admin", &address]);
    assert!(shown.out.contains("leno_xds=debug"), "{shown:?}");
    let set = guarded.server.leno.run(&["log-level", "info", "--admin", &address]);
    assert_eq!((set.status, &*set.out), (0, "info\n"), "{set:?}");
    assert_eq!(ask(&metrics, "GET", "/metrics", &[("host", "node-7.example")], "").status, 200);
    assert_eq!(ask(&metrics, "GET", "/metrics", &[("origin", "http://evil.example")], "").status, 403);
    assert_eq!(ask(&metrics, "GET", "/settings", &[], "").status, 404);
    child.kill().unwrap();
    child.wait().unwrap();
}

fn service(name: &str, port: u16) -> String {
    let head = "apiVersion: leno.mesh/v1\nkind: Service\n";
    format!("{head}metadata: {{name: {name}, namespace: shop}}\nspec: {{ports: [{{port: {port}}}]}}\n")
}

/// Makes every kind of change, some of them refused, and answers what the audit log must say.
fn make_changes(guarded: &Guarded) -> Vec<&'static str> {
    let Guarded { server, operator, viewer, .. } = guarded;
    let post = |token: &str, path: &str, body: &str| guarded.ask_as(token, "POST", path, body).status;
    let resources = "/api/v1/resources";
    let both = service("cart", 80) + "---\n" + &service("pay", 80);
    std::fs::write(server.leno.path("both.yaml"), both).unwrap();
    std::fs::write(server.leno.path("bad.yaml"), service("Cart", 80)).unwrap();
    let refused = |arguments: &[&str]| assert_ne!(server.run(arguments).status, 0, "{arguments:?}");

    server.done(&["apply", "-f", "both.yaml", "-m", "begin"]);
    assert_eq!(post(operator, resources, &service("cart", 81)), 200);
    refused(&["apply", "-f", "bad.yaml"]);
    assert_eq!(post(viewer, resources, &service("cart", 82)), 403);
    assert_eq!(post(operator, "/api/v1/resources?colour=red", &service("cart", 82)), 400);
    refused(&["apply", "-f", "both.yaml", "--set", "team"]);
    server.done(&["delete", "service/shop/pay", "-m", "nobody pays"]);
    refused(&["delete", "service/shop/pay"]);
    server.done(&["rollback", "1", "-m", "they pay again"]);
    refused(&["rollback", "99"]);
    assert_eq!(post(viewer, "/api/v1/rollback", r#"{"revision": 1}"#), 403);
    server.done(&["service", "register", "web.shop", "127.0.0.1:9001=http"]);
    server.done(&["service", "drain", "web.shop", "127.0.0.1:9001"]);
    let instance = "/api/v1/services/shop/web/instances/127.0.0.1:9001";
    assert_eq!(guarded.ask_as(operator, "PATCH", instance, r#"{"weight": 7}"#).status, 200);
    assert_eq!(guarded.ask_as(viewer, "DELETE", instance, "").status, 403);
    server.done(&["service", "deregister", "web.shop", "127.0.0.1:9001"]);
    refused(&["service", "deregister", "web.shop", "127.0.0.1:9001"]);
    server.done(&["log-level", "info,leno_xds=debug"]);
    refused(&["log-level", "loud"]);
    assert_eq!(guarded.ask_as(operator, "PUT", "/api/v1/log-level", r#"{"filter": "debug"}"#).status, 403);
    let link = guarded.ask_as(viewer, "POST", "/api/v1/login-link", "").body["url"].as_str().unwrap().to_owned();
    let opened = guarded.ask("GET", &link[link.find("/login").unwrap()..], &[], "");
    let cookie = opened.head.split("set-cookie: ").nth(1).unwrap().split(';').next().unwrap();
    assert_eq!(guarded.ask("GET", "/api/v1/status", &[("cookie", cookie)], "").status, 200);
    assert_eq!(guarded.ask("POST", "/logout", &[("cookie", cookie)], "").status, 204);
    server.done(&["system", "backup", "copy.db"]);
    assert_eq!(guarded.ask_as(operator, "GET", "/api/v1/backup", "").status, 403);

    // These change nothing, and nothing of them is written.
    server.done(&["apply", "-f", "both.yaml"]);
    server.done(&["apply", "-f", "both.yaml", "--dry-run"]);
    server.done(&["rollback", "2", "--dry-run"]);
    refused(&["diff", "-f", "bad.yaml"]);
    for path in ["/api/v1/status", "/api/v1/history", "/api/v1/services", "/metrics"] {
        assert_eq!(guarded.ask_as(viewer, "GET", path, "").status, 200);
    }
    vec![
        "admin | apply | 2 resources of api | 1 | done",
        "olga | apply | service/shop/cart | 2 | done",
        "admin | apply | service/shop/Cart | - | refused: bad.yaml:3:18: metadata.name: ",
        "vera | apply | /api/v1/resources | - | refused: role",
        "olga | apply | /api/v1/resources | - | refused: 400 Bad Request",
        "admin | apply | 2 resources of team | - | refused: both.yaml:3:18: metadata.name:",
        "admin | delete | service/shop/pay | 3 | done",
        "admin | delete | service/shop/pay | - | refused: there is no service/shop/pay",
        "admin | rollback | api to revision 1 | 4 | done",
        "admin | rollback | api to revision 99 | - | refused: revision 99 is not kept: the o",
        "vera | rollback | /api/v1/rollback | - | refused: role",
        "admin | register | web.shop 127.0.0.1:9001 | - | done",
        "admin | change | web.shop 127.0.0.1:9001 draining | - | done",
        "olga | change | web.shop 127.0.0.1:9001 weight 7 | - | done",
        "vera | deregister | /api/v1/services/shop/web/instances/127.0.0.1:9001 | - | refused: role",
        "admin | deregister | web.shop 127.0.0.1:9001 | - | done",
        "admin | deregister | /api/v1/services/shop/web/instances/127.0.0.1%3A9001 | - | refused: 404 Not Found",
        "admin | log-level | info,leno_xds=debug | - | done",
        "admin | log-level | loud | - | refused: 400 Bad Request",
        "olga | log-level | /api/v1/log-level | - | refused: role",
        "vera | login-link | /api/v1/login-link | - | done",
        "vera | login | /login | - | done",
        "vera | logout | /logout | - | done",
        "admin | backup | /api/v1/backup | - | done",
        "olga | backup | /api/v1/backup | - | refused: role",
    ]
}

#[test]
fn what_the_listeners_of_a_server_refuse_is_counted_by_reason() {
    let guarded = Guarded::start();
    let http = guarded.server.api.strip_prefix("http://").unwrap();
    for address in [http, &guarded.server.grpc] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n").unwrap();
        stream.read_to_string(&mut String::new()).unwrap();
    }
    let bearer = format!("Bearer {}", guarded.viewer);
    let metrics = guarded.ask("GET", "/metrics", &[("authorization", &*bearer)], "").text;
    let counted = metrics.lines().find(|line| line.starts_with("leno_http_refused_total{reason=\"host-twice\"}"));
    assert_eq!(counted, Some("leno_http_refused_total{reason=\"host-twice\"} 2"));
}

#[test]
fn every_change_and_every_refused_one_stands_in_the_audit_log_once() {
    let guarded = Guarded::start();
    let mut expected: Vec<String> = make_changes(&guarded).into_iter().map(str::to_owned).collect();
    assert_eq!(guarded.audit(), expected);
    // An answer is the promise that it is written, whatever becomes of the server then.
    let mut guarded = guarded;
    for port in 90..93 {
        let answer = guarded.ask_as(&guarded.operator, "POST", "/api/v1/resources", &service("cart", port));
        guarded = guarded.killed();
        let revision = answer.body["revision"].as_u64().unwrap();
        expected.push(format!("olga | apply | service/shop/cart | {revision} | done"));
        let path = format!("/api/v1/services/shop/w{port}/instances");
        let instance = r#"{"id": "a", "address": "10.0.3.7", "ports": [{"number": 8080}]}"#;
        assert_eq!(guarded.ask_as(&guarded.operator, "POST", &path, instance).status, 200);
        guarded = guarded.killed();
        expected.push(format!("olga | register | w{port}.shop a | - | done"));
    }
    assert_eq!(guarded.audit(), expected);
    // Whoever has no credential waits for no disk; what was tried is there soon.
    assert_eq!(guarded.ask("POST", "/api/v1/resources", &[], "").status, 401);
    expected.push("anonymous | post | /api/v1/resources | - | refused: no_credential".to_owned());
    let started = Instant::now();
    while guarded.audit() != expected && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(guarded.audit(), expected);
    figures(format_args!("audit: {} events, none missing, none twice, 6 times across a kill", expected.len()));
}

#[test]
fn a_restore_stands_in_the_audit_log_of_what_it_restored() {
    let guarded = Guarded::start();
    let before = make_changes(&guarded);
    let upto = before.iter().position(|line| line.contains("| backup |")).unwrap();
    let (operator, viewer) = (guarded.operator.clone(), guarded.viewer.clone());
    let leno = guarded.server.stop();
    let ran = leno.run(&["system", "restore", "copy.db", "--data-dir", "state", "--force"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let restored = format!("uid {} | restore | copy.db | - | done", rustix::process::getuid().as_raw());
    let told = Guarded::over(leno, operator, viewer).audit();
    assert_eq!(told, [&before[..upto], &[restored.as_str()]].concat());
}

#[test]
fn a_restore_that_is_missing_in_the_audit_log_says_so() {
    if let Some(program) = kit::missing(&["python3"]) {
        let why = format!("{program} is not installed");
        return kit::skip("a_restore_that_is_missing_in_the_audit_log_says_so", &why);
    }
    let server = Server::start(leno());
    server.done(&["system", "backup", "copy.db"]);
    let leno = server.stop();
    let taking_no_event = "import sqlite3; copy = sqlite3.connect('copy.db')\n\
        copy.execute(\"CREATE TRIGGER full BEFORE INSERT ON versions WHEN NEW.key LIKE 'audit/%' \
        BEGIN SELECT RAISE(FAIL, 'no room'); END\"); copy.commit(); copy.close()";
    let changed = Command::new("python3").args(["-c", taking_no_event]).current_dir(leno.path(".")).status().unwrap();
    assert!(changed.success());
    let ran = leno.run(&["system", "restore", "copy.db", "--data-dir", "state", "--force"]);
    assert!(ran.status == 1 && ran.err.contains("the audit log does not have it: ") && ran.err.contains("no room"));
    assert!(ran.err.contains("the state is restored; see whether the disk is full"), "{ran:?}");
}

#[test]
fn a_server_in_memory_writes_its_token_only_where_it_is_told_to() {
    let leno = leno();
    let listen = ["--http-listen=127.0.0.1:0", "--grpc-listen=127.0.0.1:0", "--log-format=json"];
    let ran = leno.run(&[&["server", "--in-memory"], &listen[..]].concat());
    assert!(ran.status != 0 && ran.err.contains("name a file for it with --admin-token-file"), "{ran:?}");
    let there =
        || std::fs::read_dir(leno.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(there(), Vec::<std::ffi::OsString>::new());
    let arguments = ["server", "--in-memory", "--admin-token-file", "its.token"];
    let mut child = leno.command(&[&arguments[..], &listen].concat()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (mut said, address) = (
        String::new(),
        loop {
            let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            if event["message"] == "server ready" {
                break event["http"].as_str().unwrap().to_owned();
            }
        },
    );
    let ran = leno.run(&["status", "--api", &address, "--token-file", "its.token"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(there(), ["its.token"]);
    child.kill().unwrap();
    child.wait().unwrap();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

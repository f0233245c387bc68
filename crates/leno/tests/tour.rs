//! What documents show: every command of the tours of README and edge, in its order, in one shell, with the built binary; and
//! every resource.

#![allow(clippy::unwrap_used)]

mod kit;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use kit::{free_address, leno};

/// A debug build on a busy machine takes a fifth of it.
const DEADLINE: Duration = Duration::from_secs(150);

#[test]
fn every_command_of_the_tour_succeeds() {
    if kit::cannot_capture("every_command_of_the_tour_succeeds", &["bash", "curl", "python3"]) {
        return;
    }
    let (api, grpc, place) = (free_address().to_string(), free_address().to_string(), leno());
    let script = commands(README).replace("127.0.0.1:7070", &api);
    let ran = run_in_shell(&script, &place.path(""), &variables(&api, &grpc));
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{}\n--- output\n{out}\n--- errors\n{err}", ran.status);
    for said in [
        "cart v1",
        "cart v2",
        "cart     2          2",
        "in effect on 1 of 1",
        "3 synced, 0 behind",
        "refused with status 2",
        "revision 3",
        "/login?code=",
    ] {
        assert!(out.contains(said), "{said:?} is not in\n{out}\n--- errors\n{err}");
    }
    assert!(err.contains("did you mean `weight`?"), "{err}");
    assert!(!place.path("leno-tour").exists(), "the tour leaves its directory behind");
}

#[test]
fn every_command_at_the_edge_succeeds() {
    if let Some(program) = kit::missing(&["bash", "curl", "openssl", "python3"]) {
        return kit::skip("every_command_at_the_edge_succeeds", &format!("{program} is not installed"));
    }
    let ([web, application, admin], place) = ([(); 3].map(|()| free_address()), leno());
    let ports = [(":8443", web), ("port: 8443", web), (":15000", admin)];
    let mut script = ports.iter().fold(commands(EDGE), |script, (port, free)| {
        script.replace(port, &format!("{}{}", port.trim_end_matches(char::is_numeric), free.port()))
    });
    script = script.replace("8000", &application.port().to_string());
    let mut variables = variables("127.0.0.1:0", "127.0.0.1:0");
    variables.retain(|(name, _)| *name != "LENO_ADMIN_LISTEN");
    variables.push(("LENO_ADMIN_LISTEN", admin.to_string()));
    let ran = run_in_shell(&script, &place.path(""), &variables);
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{}\n--- output\n{out}\n--- errors\n{err}", ran.status);
    for said in ["no faults", "is not one number", "{reason=\"content-length\"} 1", "body-grace", "refused without"] {
        assert!(out.contains(said), "{said:?} is not in\n{out}\n--- errors\n{err}");
    }
    assert_eq!(out.matches("HTTP/2 200").count(), 3, "{out}");
    assert!(!place.path("leno-edge").exists(), "the tour leaves its directory behind");
}

#[test]
fn every_resource_of_the_documents_has_no_faults() {
    let (place, mut checked) = (leno(), 0);
    for (name, text) in documents() {
        for (number, block) in text.split("```yaml\n").skip(1).enumerate() {
            let block = block.split_once("```").expect("a block ends").0;
            let file = place.path(&format!("{name}-{number}.yaml"));
            std::fs::write(&file, whole(block)).unwrap();
            let ran = place.run(&["check", "-f", file.to_str().unwrap()]);
            assert_eq!(ran.status, 0, "{name}.md, block {number}: {}", ran.err);
            checked += 1;
        }
    }
    assert!(checked >= 8, "{checked} blocks");
}

#[test]
fn a_tour_is_shell_blocks_alone() {
    let script = commands(README);
    assert!(script.contains("leno server") && script.contains("leno rollback 1"), "{script}");
    assert!(!script.contains("```") && !script.contains("Ten minutes"), "{script}");
}

/// The documents that users read, by name.
fn documents() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let pages = files.filter(|file| file.extension().is_some_and(|extension| extension == "md"));
    let name = |file: &Path| file.file_stem().unwrap().to_string_lossy().into_owned();
    pages.map(|file| (name(&file), std::fs::read_to_string(&file).unwrap())).collect()
}

/// A block with what a document leaves out because the one before it said so: all above the fields of a policy.
fn whole(block: &str) -> String {
    let header = "apiVersion: leno.mesh/v1\nkind: TrafficPolicy\nmetadata: {name: cart, namespace: shop}\n";
    match block.split_whitespace().next() {
        Some("apiVersion:") => block.to_owned(),
        Some("spec:") => format!("{header}{block}"),
        _ => format!("{header}spec:\n  targetRefs: [{{name: cart}}]\n{block}"),
    }
}

const README: &str = include_str!("../../../README.md");
const EDGE: &str = include_str!("../../../docs/edge.md");

/// The ```sh blocks between the markers, one after another.
fn commands(readme: &str) -> String {
    let (_, tour) = readme.split_once("<!-- tour -->").expect("the tour's beginning is marked");
    let (tour, _) = tour.split_once("<!-- /tour -->").expect("the tour's end is marked");
    let blocks = tour.split("```sh\n").skip(1);
    blocks.map(|block| block.split_once("```").expect("a block ends").0).collect()
}

/// The shell stops at the first command that does not succeed, and says which.
fn run_in_shell(script: &str, directory: &Path, variables: &[(&str, String)]) -> Output {
    let mut shell = Command::new("bash");
    // A group of its own, so that what a failure left running can be ended.
    shell.args(["-e", "-o", "pipefail", "-s"]).current_dir(directory).process_group(0);
    shell.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
    let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let group = rustix::process::Pid::from_child(&shell);
    let mut input = shell.stdin.take().unwrap();
    input.write_all(b"trap 'echo \"line $LINENO: $BASH_COMMAND\" >&2' ERR\n").unwrap();
    // What leno says of itself is in files; they are shown when something goes wrong.
    input.write_all(b"trap 'if test $? -ne 0; then tail -n 20 *.log >&2; fi' EXIT\n{\n").unwrap();
    input.write_all(script.as_bytes()).unwrap();
    input.write_all(b"}\n").unwrap();
    drop(input);
    let (ended, wait) = mpsc::sync_channel(1);
    std::thread::spawn(move || ended.send(shell.wait_with_output()));
    let in_time = wait.recv_timeout(DEADLINE);
    let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    in_time.unwrap_or_else(|_| wait.recv_timeout(Duration::from_secs(10)).expect("a killed shell ends")).unwrap()
}

/// The tour names no port but that of the API; all others are moved by variables.
fn variables(api: &str, grpc: &str) -> Vec<(&'static str, String)> {
    let built = std::env::var("LENO_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_leno").to_owned());
    let beside = Path::new(&built).parent().unwrap().display().to_string();
    let path = format!("{beside}:{}", std::env::var("PATH").unwrap());
    let mut variables = vec![
        ("PATH", path),
        ("LENO_API", format!("http://{api}")),
        ("LENO_HTTP_LISTEN", api.to_owned()),
        ("LENO_GRPC_LISTEN", grpc.to_owned()),
        ("LENO_SERVER", grpc.to_owned()),
    ];
    let moved = ["LENO_OUTBOUND_LISTEN", "LENO_INBOUND_LISTEN", "LENO_ADMIN_LISTEN", "LENO_METRICS_LISTEN"];
    variables.extend(moved.map(|name| (name, "127.0.0.1:0".to_owned())));
    variables
}

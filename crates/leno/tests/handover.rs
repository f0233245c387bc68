//! Hand-over: new processes of a proxy take over under load, with as many workers and with more and fewer, and no request
//! fails; one that cannot start leaves the old one serving.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kit::load::{Kind, Load};
use kit::mesh::{Api, Mesh, Process, get, get_path, proxy_of, wait_until};
use kit::{application, figures, free_address};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECOND: Duration = Duration::from_secs(1);
/// How long a process that has handed over waits for connections on which nothing is asked.
const DRAIN: &str = "3s";
const RATE: u32 = 400;
/// Hand-overs of the proxy that asks; `LENO_TEST_HAND_OVERS` asks for more: twenty are recorded once.
const HAND_OVERS: usize = 3;
/// Workers of the processes that take over after the first, in turn: of as many, and of more and fewer.
const WORKERS: [&str; 4] = ["3", "1", "1", "2"];

// === under load ===

#[test]
fn three_hand_overs_under_load_fail_no_request_and_the_instance_stays_registered() {
    let mesh = Mesh::new();
    let _server = mesh.server();
    let application = application::within("cart", Duration::from_millis(1));
    let mut cart = mesh.sidecar_with("cart.shop", application, &["--workers", "2", "--drain-timeout", DRAIN]);
    let (outbound, admin) = (free_address(), free_address());
    let admin_text = admin.to_string();
    let front = |more: &[&str]| {
        let common = ["--workers", "2", "--drain-timeout", DRAIN, "--admin-listen", &admin_text];
        mesh.caller_with(outbound, "front", &[&common[..], more].concat())
    };
    let mut first = front(&[]);
    let load = Load::start(outbound, "cart", &Kind::ALL, RATE);
    let (kept, registered) = (Kept::start(outbound, "cart"), Registered::watch(mesh.api()));
    load.go_on_for(400);

    let (mut times, mut counts) = (Vec::new(), vec!["2", "2"]);
    let started = Instant::now();
    kill(Pid::from_child(&first.child), Signal::USR2);
    let second = Orphan::of(&first);
    first.wait_for("handed over");
    times.push(started.elapsed());
    load.go_on_for(400);
    assert!(first.child.wait().unwrap().success());

    let hand_overs = std::env::var("LENO_TEST_HAND_OVERS").map_or(HAND_OVERS, |count| count.parse().unwrap());
    let mut last: Option<Process> = None;
    for workers in WORKERS.iter().copied().cycle().take(hand_overs - 1) {
        let started = Instant::now();
        let next = mesh.proxy(&front_arguments(&outbound.to_string(), &admin_text, workers));
        next.wait_for("ready");
        times.push(started.elapsed());
        counts.push(workers);
        load.go_on_for(400);
        match last.replace(next) {
            None => assert!(second.is_gone_within(10 * SECOND), "the process of two workers goes on"),
            Some(mut before) => assert!(before.child.wait().unwrap().success()),
        }
    }

    // The other side of the mesh: an instance with a registration.
    kill(Pid::from_child(&cart.child), Signal::USR2);
    let _next_cart = Orphan::of(&cart);
    cart.wait_for("handed over");
    load.go_on_for(400);
    assert!(cart.child.wait().unwrap().success());
    assert_eq!(get_path(admin, "localhost", "/ready").map(|(status, _)| status), Some(200));
    load.go_on_for(200);

    let tally = load.end();
    let failed: Vec<&String> = tally.asked.iter().filter_map(|asked| asked.came.as_ref().err()).collect();
    let (looks, kept) = (registered.end(), kept.end());
    figures(format_args!(
        "hand-over: {} workers in {times:.0?}, and of the other side; {} requests at {RATE}/s over HTTP/1 and HTTP/2, \
         {} failed; {} more on {KEPT} kept connections, which were told {} times that an answer is the last, {} failed; \
         registered at each of {looks} looks",
        counts.join(" → "),
        tally.asked.len(),
        failed.len(),
        kept.answered,
        kept.lasts,
        kept.failed.len()
    ));
    assert!(failed.is_empty(), "{failed:?}");
    assert!(kept.failed.is_empty(), "{:?}", kept.failed);
    assert!(kept.lasts >= hand_overs * KEPT, "each connection was told at each hand-over");
    drop(last);
}

/// The arguments of a process that takes over from the one before, with another number of workers.
fn front_arguments<'a>(outbound: &'a str, admin: &'a str, workers: &'a str) -> Vec<&'a str> {
    let front = ["--service", "front.shop", "--outbound-listen", outbound, "--data-dir", "front", "--take-over"];
    [&front[..], &["--workers", workers, "--drain-timeout", DRAIN, "--admin-listen", admin]].concat()
}

// === what goes wrong ===

#[test]
fn a_new_process_that_cannot_start_leaves_the_old_one_serving_and_one_that_can_needs_no_server() {
    let mesh = Mesh::new();
    let mut server = mesh.server();
    let _cart = mesh.sidecar("cart.shop", application::within("cart", Duration::ZERO));
    let outbound = free_address();
    let outbound_text = outbound.to_string();
    let program = mesh.leno.path("leno");
    let built = mesh.leno.command_under_load(&[]).get_program().to_owned();
    link(Path::new(&built), &program);
    let arguments = ["proxy", "--server", &mesh.grpc, "--service", "front.shop", "--outbound-listen", &outbound_text];
    let rest = ["--admin-listen", "off", "--metrics-listen", "off", "--drain-timeout", DRAIN];
    let mut command = Command::new(&program);
    command.args(["--log-format", "json"]).args(arguments).args(rest).current_dir(mesh.leno.path("."));
    command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
    let mut front = Process::of(command);
    front.wait_for("ready");
    let load = Load::start(outbound, "cart", &Kind::ALL, RATE);
    load.go_on_for(200);

    // The program on disk is no good: as after an upgrade that went wrong.
    let broken = mesh.leno.path("broken");
    std::fs::write(&broken, "#!/bin/sh\nexit 3\n").unwrap();
    std::fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    link(&broken, &program);
    kill(Pid::from_child(&front.child), Signal::USR2);
    let said = front.wait_for("no hand-over: this process goes on");
    assert!(said["error"].as_str().unwrap().contains("exit status: 3"), "{said}");
    load.go_on_for(200);

    // The server is gone, and nothing is kept on disk: the new process has what the old one had.
    server.kill();
    link(Path::new(&built), &program);
    kill(Pid::from_child(&front.child), Signal::USR2);
    let _next = Orphan::of(&front);
    front.wait_for("handed over");
    load.go_on_for(400);
    assert!(front.child.wait().unwrap().success());
    assert_eq!(get(outbound, "cart").map(|(status, _)| status), Some(200));
    load.go_on_for(200);

    let tally = load.end();
    let failed: Vec<&String> = tally.asked.iter().filter_map(|asked| asked.came.as_ref().err()).collect();
    figures(format_args!(
        "hand-over: one that cannot start, one without a server; {} requests, {} failed",
        tally.asked.len(),
        failed.len()
    ));
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn a_gateway_hands_over_every_listener_without_a_server() {
    let [web, shop, upstream] = [free_address(), free_address(), application::within("cart", Duration::ZERO)];
    let resources = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: shop}}\n\
         spec:\n  gatewayClassName: leno\n  listeners:\n  - {{name: web, port: {}, protocol: HTTP}}\n  - {{name: shop, port: {}, protocol: HTTP}}\n\
         ---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: cart, namespace: shop}}\n\
         spec:\n  parentRefs: [{{name: edge}}]\n  rules:\n  - backendRefs: [{{group: leno.mesh, kind: Service, name: cart, port: 80}}]\n\
         ---\napiVersion: leno.mesh/v1\nkind: Service\nmetadata: {{name: cart, namespace: shop}}\n\
         spec:\n  ports: [{{port: 80, protocol: http}}]\n  endpoints: [{{address: 127.0.0.1, port: {}}}]\n",
        web.port(),
        shop.port(),
        upstream.port()
    );
    let mesh = Mesh::new();
    std::fs::write(mesh.leno.path("edge.yaml"), resources).unwrap();
    let front = ["proxy", "--role", "gateway", "--gateway", "edge.shop", "--resources", "edge.yaml"];
    let rest =
        ["--outbound-listen", "off", "--admin-listen", "off", "--metrics-listen", "off", "--drain-timeout", DRAIN];
    let workers = |number: &'static str| {
        let gateway = Process::start(
            &mesh.leno,
            &[&front[..], &rest, &["--take-over-socket", "edge", "--workers", number]].concat(),
        );
        gateway.wait_for("ready");
        gateway
    };
    let mut first = workers("3");
    let loads = [web, shop].map(|to| Load::start(to, "anybody", &Kind::ALL, RATE / 2));
    loads.iter().for_each(|load| load.go_on_for(200));
    let take_over = [&front[..], &rest, &["--take-over-socket", "edge", "--workers", "1", "--take-over"]].concat();
    let second = Process::start(&mesh.leno, &take_over);
    second.wait_for("ready");
    loads.iter().for_each(|load| load.go_on_for(200));
    assert!(first.child.wait().unwrap().success());
    loads.iter().for_each(|load| load.go_on_for(100));
    let tallies = loads.map(Load::end);
    let failed: Vec<&String> =
        tallies.iter().flat_map(|tally| &tally.asked).filter_map(|asked| asked.came.as_ref().err()).collect();
    let asked: usize = tallies.iter().map(|tally| tally.asked.len()).sum();
    figures(format_args!(
        "hand-over of a gateway: 2 listeners, 3 → 1 workers, {asked} requests, {} failed",
        failed.len()
    ));
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn whoever_finds_no_proxy_to_take_over_from_says_so() {
    let mesh = Mesh::new();
    let ran = mesh.leno.run(&["proxy", "--take-over", "--data-dir", "nowhere"]);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("no proxy answers at nowhere/take-over.sock; start without it"), "{}", ran.err);
}

#[test]
fn under_run_there_is_no_hand_over_and_nothing_ends_by_asking_for_one() {
    if kit::cannot_capture("under_run_there_is_no_hand_over_and_nothing_ends_by_asking_for_one", &[]) {
        return;
    }
    let mesh = Mesh::new();
    let mut command = mesh.leno.command_under_load(&["run", "--server", &mesh.grpc, "--", "sleep", "60"]);
    command.env("PATH", std::env::var("PATH").unwrap()).stdin(std::process::Stdio::null());
    let mut run = Process::of(command);
    let proxy = proxy_of(run.child.id());
    kill(Pid::from_child(&run.child), Signal::USR2);
    run.wait_for("SIGUSR2 is not for `leno run`");
    kill(proxy, Signal::USR2);
    run.wait_for("the supervisor of `leno run` replaces this proxy");
    assert!(run.child.try_wait().unwrap().is_none() && test_kill_process(proxy).is_ok());
    kill(Pid::from_child(&run.child), Signal::TERM);
    run.child.wait().unwrap();
}

#[test]
fn a_proxy_that_is_not_ready_yet_ends_when_it_is_told() {
    let mesh = Mesh::new();
    let mut front = mesh.proxy(&["--service", "front.shop", "--outbound-listen", "127.0.0.1:0"]);
    front.wait_for("outbound");
    kill(Pid::from_child(&front.child), Signal::TERM);
    assert!(front.child.wait().unwrap().success());
}

// === processes ===

fn kill(pid: Pid, signal: Signal) {
    kill_process(pid, signal).unwrap();
}

/// Puts a program under a name, in place of what has it.
fn link(program: &Path, name: &PathBuf) {
    let beside = name.with_extension("new");
    std::os::unix::fs::symlink(program, &beside).unwrap();
    std::fs::rename(&beside, name).unwrap();
}

/// A process that a proxy has started in its place; killed when it is dropped.
struct Orphan(Pid);

impl Orphan {
    fn of(proxy: &Process) -> Self {
        Self(proxy_of(proxy.child.id()))
    }

    fn is_gone_within(&self, time: Duration) -> bool {
        // Whoever inherits it may not have looked at how it ended.
        let is_gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.as_raw_nonzero())).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
        };
        wait_until(time, is_gone).is_some()
    }
}

impl Drop for Orphan {
    fn drop(&mut self) {
        if test_kill_process(self.0).is_ok() {
            let _ = kill_process(self.0, Signal::KILL);
        }
    }
}

/// Connections of clients that do not look whether theirs is still open: they believe what an answer says.
struct Kept {
    stop: Arc<AtomicBool>,
    asking: std::thread::JoinHandle<Asked>,
}

#[derive(Default)]
struct Asked {
    answered: usize,
    /// Answers that were the last of their connection, as they said.
    lasts: usize,
    failed: Vec<String>,
}

const KEPT: usize = 30;
/// How long such a client thinks between two requests.
const THINK: Duration = Duration::from_millis(20);

// === impl Kept ===

impl Kept {
    fn start(to: SocketAddr, host: &str) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (stopped, request) = (stop.clone(), format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let asking = std::thread::spawn(move || {
            let asked = Rc::<RefCell<Asked>>::default();
            let ask = |_| tokio::task::spawn_local(ask_on(to, request.clone(), stopped.clone(), asked.clone()));
            let all = async {
                for one in (0..KEPT).map(ask).collect::<Vec<_>>() {
                    one.await.unwrap();
                }
            };
            leno_runtime::threads::control(all).unwrap();
            asked.take()
        });
        Self { stop, asking }
    }

    fn end(self) -> Asked {
        self.stop.store(true, Ordering::Relaxed);
        self.asking.join().unwrap()
    }
}

async fn ask_on(to: SocketAddr, request: String, stop: Arc<AtomicBool>, asked: Rc<RefCell<Asked>>) {
    let mut stream = None;
    while !stop.load(Ordering::Relaxed) {
        let mut open = match stream.take() {
            Some(open) => open,
            None => tokio::net::TcpStream::connect(to).await.unwrap(),
        };
        match exchange(&mut open, &request).await {
            Ok(is_last) => {
                let mut asked = asked.borrow_mut();
                asked.answered += 1;
                asked.lasts += usize::from(is_last);
                stream = (!is_last).then_some(open);
            }
            Err(error) => asked.borrow_mut().failed.push(error.to_string()),
        }
        tokio::time::sleep(THINK).await;
    }
}

/// Whether the answer says that it is the last.
async fn exchange(stream: &mut tokio::net::TcpStream, request: &str) -> std::io::Result<bool> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if body.len() >= length.unwrap_or(usize::MAX) {
            return match head.starts_with("http/1.1 200 ") {
                true => Ok(head.contains("\r\nconnection: close")),
                false => Err(std::io::Error::other(head.to_owned())),
            };
        }
    }
}

/// Looks all the time whether the one instance of cart is registered and takes traffic.
struct Registered {
    stop: Arc<AtomicBool>,
    looking: std::thread::JoinHandle<u32>,
}

impl Registered {
    fn watch(api: Api) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = stop.clone();
        let looking = std::thread::spawn(move || {
            let mut looks = 0;
            while !stopped.load(Ordering::Relaxed) {
                let (status, answer) = api.call("GET", "/api/v1/services/shop/cart", "").unwrap();
                let instances = answer["instances"].as_array().unwrap();
                assert_eq!((status, instances.len()), (200, 1), "{answer}");
                assert_eq!(instances[0]["status"], "up", "{answer}");
                looks += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            looks
        });
        Self { stop, looking }
    }

    /// How often it looked; it always was.
    fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.join().unwrap()
    }
}

//! Programs that run captured, as root where the test is root, and always as an unprivileged user.
//!
//! One executable plays all the parts: the test, the process inside (`__inside`) and the captured program (`__program`).

#![allow(clippy::unwrap_used)] // the whole file is a test

mod terminal;

use std::ffi::OsString;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command as Process, ExitCode};
use std::time::Duration;

use leno_net::dial::{Dial, NamespaceDial};
use leno_net::listen::{accept, attach};
use leno_net::namespace::{
    Capture, CaptureError, Captured, Command, Ended, Why, check, forward_host_port, inside, start,
};
use leno_net::{Stream, sockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Addresses from the ranges for documentation: nobody answers there.
const FAR_V4: &str = "198.51.100.7:8080";
const FAR_V6: &str = "[2001:db8::7]:8080";
const DEADLINE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|word| word.to_str()) {
        Some("__inside") => ExitCode::from(inside(arguments.into_iter().skip(1)) as u8),
        Some("__program") => {
            program(&arguments[1..].iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>());
            ExitCode::SUCCESS
        }
        Some("__supervise") => ExitCode::from(supervise(&arguments[1..]) as u8),
        _ => run_everything(arguments.iter().any(|word| word == "__unprivileged")),
    }
}

/// The status of a run without root that could not run.
const SKIPPED: u8 = 77;

fn run_everything(already_unprivileged: bool) -> ExitCode {
    match check() {
        Ok(()) => {}
        Err(why @ (Why::NftMissing | Why::NamespacesForbidden { .. })) => {
            skip("capture", &why.to_string());
            return if already_unprivileged { ExitCode::from(SKIPPED) } else { ExitCode::SUCCESS };
        }
        Err(why) => panic!("{why}"),
    }
    let user = rustix::process::geteuid().as_raw();
    case(user, "tcp_over_ipv4_arrives_with_its_original_destination", tcp_arrives(FAR_V4));
    case(user, "tcp_over_ipv6_arrives_with_its_original_destination", tcp_arrives(FAR_V6));
    case(user, "dns_is_answered_from_the_address_that_was_asked", dns_is_answered("198.51.100.53:53"));
    case(user, "dns_is_taken_from_a_resolver_on_loopback", dns_is_answered("127.0.0.53:53"));
    case(user, "dns_over_ipv6_is_answered", dns_is_answered("[2001:db8::53]:53"));
    case(user, "the_hosts_address_is_the_programs_too_and_is_captured_as_a_destination", host_address_is_captured());
    case(user, "loopback_stays_inside", loopback_stays_inside());
    case(user, "a_host_port_leads_to_the_host", host_port_leads_to_the_host());
    case(user, "the_program_is_found_and_dialled_inside", program_is_dialled());
    case(user, "the_user_stays_the_same_without_power", user_stays_the_same(user));
    case(user, "an_exit_status_comes_back", exit_status_comes_back());
    case(user, "a_signal_reaches_what_the_program_started", signal_reaches_the_group());
    case(user, "a_program_that_does_not_exist_is_127", missing_program_is_127());
    case(user, "when_the_supervisor_goes_the_program_goes", program_goes_with_the_supervisor());
    case(user, "curl_is_captured_unchanged", curl_is_captured());
    for (name, test) in [
        ("on_a_terminal_the_program_has_it", terminal::program_has_the_terminal as fn()),
        ("an_interactive_shell_stops_it_and_continues_it", terminal::shell_stops_and_continues_it),
        ("in_a_pipeline_it_shares_the_terminal", terminal::pipeline_shares_the_terminal),
    ] {
        test();
        println!("test {name} as {user} ... ok");
    }
    if user == 0 && !already_unprivileged { run_as_nobody() } else { ExitCode::SUCCESS }
}

fn case(user: u32, name: &str, future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::LocalRuntime::new().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{name}: too late"))
    });
    println!("test {name} as {user} ... ok");
}

/// The same again as a user who may do nothing, from a copy that this user can execute.
fn run_as_nobody() -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("capture");
    std::fs::copy("/proc/self/exe", &copy).unwrap();
    let mut setpriv = Process::new("setpriv");
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", "--"]);
    let status = setpriv.arg(&copy).arg("__unprivileged").current_dir(folder.path()).status().expect("setpriv");
    if status.code() == Some(SKIPPED.into()) {
        // Nobody may not write to what counts skips.
        skip("capture_without_root", "an unprivileged user may not capture here, as said above");
        return ExitCode::SUCCESS;
    }
    assert!(status.success(), "as nobody: {status}");
    ExitCode::SUCCESS
}

/// Says aloud, and to who counts skips, that something did not run.
fn skip(what: &str, why: &str) {
    println!("SKIPPED: {what}: {why}");
    let Some(file) = std::env::var_os("LENO_SKIPS") else { return };
    if let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(file) {
        writeln!(file, "{what}: {why}").unwrap();
    }
}

// === the cases ===

async fn tcp_arrives(far: &'static str) {
    let mut captured = this_program(&["connect", far], Capture::default()).await;
    captured.program.go().await.unwrap();
    let listener = if far.starts_with('[') { captured.outbound.pop() } else { captured.outbound.drain(..).next() };
    let mut stream = accept(&attach(listener.unwrap()).unwrap()).await.stream;
    assert_eq!(stream.original_destination(), Some(far.parse().unwrap()));
    answer_hello(&mut stream).await;
    assert_eq!(captured.program.wait().await, Ended::Exited(0));
}

async fn dns_is_answered(resolver: &'static str) {
    let mut captured = this_program(&["query", resolver], Capture::default()).await;
    captured.program.go().await.unwrap();
    let socket = if resolver.starts_with('[') { captured.dns_udp.pop() } else { captured.dns_udp.drain(..).next() };
    let socket = tokio::net::UdpSocket::from_std(socket.unwrap()).unwrap();
    let mut query = [0; 16];
    let (length, peer) = socket.recv_from(&mut query).await.unwrap();
    socket.send_to(b"answer", peer).await.unwrap();
    assert_eq!(&query[..length], b"query");
    assert_eq!(captured.program.wait().await, Ended::Exited(0));
}

async fn host_address_is_captured() {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    if socket.connect("192.0.2.1:9").is_err() {
        return skip("the_hosts_address_is_the_programs_too", "this host has no route and so no address of its own");
    }
    let own = socket.local_addr().unwrap().ip().to_string();
    let mut captured = this_program(&["own", &own], Capture::default()).await;
    captured.program.go().await.unwrap();
    let mut stream = accept(&attach(captured.outbound.remove(0)).unwrap()).await.stream;
    assert_eq!(stream.original_destination(), Some(format!("{own}:8080").parse().unwrap()));
    answer_hello(&mut stream).await;
    assert_eq!(captured.program.wait().await, Ended::Exited(0));
}

async fn loopback_stays_inside() {
    assert_eq!(run(&["loopback"]).await, Ended::Exited(0));
}

async fn host_port_leads_to_the_host() {
    let on_host = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = on_host.local_addr().unwrap();
    let capture = Capture { host_ports: vec![address.port()], ..Capture::default() };
    let mut captured = this_program(&["connect", &address.to_string()], capture).await;
    for host_port in captured.host_ports.drain(..) {
        for listener in host_port.listeners {
            let spawn = |task| drop(tokio::task::spawn_local(task));
            tokio::task::spawn_local(forward_host_port(listener, host_port.port, spawn));
        }
    }
    captured.program.go().await.unwrap();
    let mut stream = accept(&attach(on_host).unwrap()).await.stream;
    answer_hello(&mut stream).await;
    drop(stream);
    assert_eq!(captured.program.wait().await, Ended::Exited(0));
}

async fn program_is_dialled() {
    let mut captured = this_program(&["listen"], Capture::default()).await;
    let other_channel = NamespaceDial::open_channel(&captured.sockets.try_clone().unwrap());
    let pid = captured.program.go().await.unwrap();
    let address = loop {
        let found = sockets::listening_ports(pid).unwrap();
        if let Some(address) = found.into_iter().find(|address| ![15001, 15053].contains(&address.port())) {
            break address;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    drop(other_channel);
    let dial = NamespaceDial::new(captured.sockets).unwrap();
    for _ in 0..20 {
        let mut stream = dial.connect(&address.into(), DEADLINE).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "from inside");
    }
    captured.program.signal(libc::SIGTERM).await.unwrap();
    assert_eq!(captured.program.wait().await, Ended::Killed(libc::SIGTERM));
}

async fn user_stays_the_same(user: u32) {
    assert_eq!(run(&["whoami", &user.to_string()]).await, Ended::Exited(0));
}

async fn exit_status_comes_back() {
    assert_eq!(run_command("sh", &["-c", "exit 7"]).await, Ended::Exited(7));
}

async fn signal_reaches_the_group() {
    let mut captured = capture("sh", &["-c", "sleep 1000 & echo started > /dev/null; wait"], Capture::default()).await;
    let pid = captured.program.go().await.unwrap();
    captured.program.signal(libc::SIGTERM).await.unwrap();
    assert_eq!(captured.program.wait().await, Ended::Killed(libc::SIGTERM));
    while group_exists(pid) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn missing_program_is_127() {
    let mut captured = capture("/does/not/exist", &[], Capture::default()).await;
    let error = captured.program.go().await.unwrap_err();
    assert_eq!(error.status(), 127);
    assert_eq!(error.to_string(), "execute /does/not/exist: No such file or directory (os error 2)");
    assert!(matches!(error, CaptureError::Execute { .. }));
}

async fn program_goes_with_the_supervisor() {
    let mut captured = capture("sleep", &["1000"], Capture::default()).await;
    let pid = captured.program.go().await.unwrap();
    drop(captured);
    while group_exists(pid) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn curl_is_captured() {
    if Process::new("curl").arg("--version").output().is_err() {
        return skip("curl_is_captured_unchanged", "curl is not installed");
    }
    let url = format!("http://{FAR_V4}/path");
    let arguments = ["-s", "-o", "/dev/null", "--fail", url.as_str()];
    let mut captured = capture("curl", &arguments, Capture::default()).await;
    captured.program.go().await.unwrap();
    let mut stream = accept(&attach(captured.outbound.remove(0)).unwrap()).await.stream;
    let mut head = [0; 13];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"GET /path HTT");
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
    assert_eq!(captured.program.wait().await, Ended::Exited(0));
}

// === a supervisor in short ===

/// Runs a program captured, passes signals on, and returns its status.
fn supervise(command: &[OsString]) -> i32 {
    use tokio::signal::unix::{SignalKind, signal};
    let command = Command { program: command[0].clone(), arguments: command[1..].to_vec() };
    let run = async {
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        let mut interrupt = signal(SignalKind::interrupt()).unwrap();
        let mut captured = start(&command, &Capture::default(), &["__inside".into()]).await.unwrap();
        captured.program.go().await.unwrap();
        loop {
            let number = tokio::select! {
                ended = captured.program.wait() => return ended.status(),
                _ = terminate.recv() => libc::SIGTERM,
                _ = interrupt.recv() => libc::SIGINT,
            };
            captured.program.signal(number).await.unwrap();
        }
    };
    tokio::runtime::LocalRuntime::new().unwrap().block_on(run)
}

// === the captured program ===

fn program(arguments: &[&str]) {
    match arguments {
        ["connect", address] => say_hello(TcpStream::connect(address).unwrap()),
        ["query", resolver] => query(resolver.parse().unwrap()),
        ["own", address] => {
            TcpListener::bind((*address, 0)).unwrap();
            let stream = TcpStream::connect((*address, 8080)).unwrap();
            assert_eq!(stream.local_addr().unwrap().ip().to_string(), *address);
            say_hello(stream);
        }
        ["loopback"] => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            listener.accept().unwrap().0.write_all(b"hello").unwrap();
            there.read_exact(&mut [0; 5]).unwrap();
        }
        ["lines"] => std::io::stdin().lines().for_each(|line| println!("line:{}", line.unwrap())),
        ["listen"] => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            loop {
                listener.accept().unwrap().0.write_all(b"from inside").unwrap();
            }
        }
        ["whoami", user] => {
            assert_eq!(rustix::process::geteuid().as_raw().to_string(), *user);
            let capabilities = rustix::thread::capabilities(None).unwrap();
            assert_eq!(capabilities.effective.is_empty(), *user != "0");
        }
        other => panic!("unknown part {other:?}"),
    }
}

fn say_hello(mut stream: TcpStream) {
    stream.write_all(b"hello").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "and to you");
}

fn query(resolver: SocketAddr) {
    let any = if resolver.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.send_to(b"query", resolver).unwrap();
    let mut answer = [0; 16];
    let (length, from) = socket.recv_from(&mut answer).unwrap();
    assert_eq!((&answer[..length], from), (&b"answer"[..], resolver));
}

// === helps ===

async fn answer_hello(stream: &mut Stream) {
    let mut text = [0; 5];
    stream.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"hello");
    stream.write_all(b"and to you").await.unwrap();
    stream.shutdown_write().unwrap();
}

async fn this_program(part: &[&str], options: Capture) -> Captured {
    let arguments: Vec<&str> = std::iter::once("__program").chain(part.iter().copied()).collect();
    capture("/proc/self/exe", &arguments, options).await
}

async fn capture(program: &str, arguments: &[&str], options: Capture) -> Captured {
    let command = Command { program: program.into(), arguments: arguments.iter().map(OsString::from).collect() };
    start(&command, &options, &["__inside".into()]).await.unwrap()
}

async fn run(part: &[&str]) -> Ended {
    let mut captured = this_program(part, Capture::default()).await;
    captured.program.go().await.unwrap();
    captured.program.wait().await
}

async fn run_command(program: &str, arguments: &[&str]) -> Ended {
    let mut captured = capture(program, arguments, Capture::default()).await;
    captured.program.go().await.unwrap();
    captured.program.wait().await
}

/// Whether any process but a zombie is in the group.
fn group_exists(group: u32) -> bool {
    std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let mut words = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        let (state, _parent, of) = (words.next(), words.next(), words.next());
        state.is_some_and(|state| state != "Z") && of == Some(group.to_string().as_str())
    })
}

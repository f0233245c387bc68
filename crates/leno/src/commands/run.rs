//! `leno run -- CMD`: a program with a proxy of its own, captured without root.
//!
//! ```text
//! supervisor ─► namespace, listeners in it ─► proxy (a child, replaced when it dies) ─► CMD ─► it listens ─► registered
//! stop:         proxy drains ─► SIGTERM to CMD's process group ─► its status is ours
//! ```
//!
//! The supervisor does nothing but this, so that it lives as long as the program. leno's own failures exit with 125, 126
//! (CMD cannot be executed) and 127 (it is not found). Standard streams and the terminal belong to the program.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use leno_model::instance::Protocol;
use leno_net::namespace::{self, Capture, CaptureError, Captured, Ended, Program};
use leno_net::sockets;
use leno_runtime::signal::{Shutdown, Signals, Told};
use leno_runtime::task;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::args::{AccessLogFormat, RunArgs};
use crate::line::Line;
use crate::roles::proxy::own_id;
use crate::supervised::{Handed, Message, ProgramPort};

/// The status of leno's own failures.
const OWN_FAILURE: i32 = 125;
/// How often the program's ports are looked at until it listens.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How long a proxy may take to start.
const PROXY_START: Duration = Duration::from_secs(10);
/// A proxy that ran for so long was well started: when it dies, another one is started at once.
const STEADY: Duration = Duration::from_secs(10);
/// The wait before the second proxy that follows one that died young, doubled for each further one.
const RESTART_MIN: Duration = Duration::from_millis(100);
/// The longest wait before another proxy.
const RESTART_MAX: Duration = Duration::from_secs(5);
/// How long a program may take after SIGTERM.
const PROGRAM_END: Duration = Duration::from_secs(30);

const SIGKILL: i32 = 9;

/// Runs the program; its status.
pub fn run(args: RunArgs, log_level: &str) -> ExitCode {
    let status = match leno_runtime::threads::control(supervise(args, log_level.to_owned())) {
        Ok(Ok(status)) => status,
        Ok(Err(failure)) => {
            eprintln!("leno run: {failure}");
            failure.status()
        }
        Err(error) => {
            eprintln!("leno run: {error}");
            OWN_FAILURE
        }
    };
    ExitCode::from(u8::try_from(status).unwrap_or(OWN_FAILURE as u8))
}

/// Why a program was not run, or was ended.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Capture(#[from] CaptureError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("the proxy did not start within {} s; its log is above", PROXY_START.as_secs())]
    Proxy,
    #[error("{0}")]
    NotReady(String),
}

// === impl Failure ===

impl Failure {
    fn status(&self) -> i32 {
        match self {
            Self::Capture(error) => error.status(),
            _ => OWN_FAILURE,
        }
    }
}

/// A proxy and what it was given, to be given again to its successor.
struct Proxy {
    arguments: Vec<OsString>,
    handed: Vec<(Handed, OwnedFd)>,
    ports: Vec<(ProgramPort, TcpListener)>,
    child: Child,
    line: Line<Message>,
    stage: Stage,
    /// How many have ended one after another without having run for long.
    short: u32,
}

/// Where a proxy's life is.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// It was handed everything and has not said yet that it started; it is given up at this time.
    Starting(Instant),
    /// It runs, since then.
    Up(Instant),
    /// It is gone, and another is started at this time.
    Down(Instant),
}

/// What comes of watching a proxy.
enum Event {
    Said(Message),
    Gone,
    /// It is time for another one.
    Due,
}

async fn supervise(args: RunArgs, log_level: String) -> Result<i32, Failure> {
    let mut signals = Signals::catch()?;
    let command = namespace::Command { program: args.command[0].clone(), arguments: args.command[1..].to_vec() };
    let capture = Capture { host_ports: args.host_ports.clone(), ..Capture::default() };
    namespace::check().map_err(CaptureError::Impossible)?;
    let captured = namespace::start(&command, &capture, &["__inside".into()]).await?;
    let Captured { outbound, dns_udp, dns_tcp, host_ports, sockets, mut program, .. } = captured;
    for host_port in host_ports {
        for listener in host_port.listeners {
            let forward =
                namespace::forward_host_port(listener, host_port.port, |future| drop(task::spawn("host-port", future)));
            drop(task::spawn("host-ports", async move {
                if let Err(error) = forward.await {
                    eprintln!("leno run: host port: {error}");
                }
            }));
        }
    }
    let mut handed: Vec<(Handed, OwnedFd)> = Vec::new();
    handed.extend(outbound.into_iter().map(|socket| (Handed::Outbound, socket.into())));
    handed.extend(dns_udp.into_iter().map(|socket| (Handed::DnsUdp, socket.into())));
    handed.extend(dns_tcp.into_iter().map(|socket| (Handed::DnsTcp, socket.into())));
    handed.push((Handed::Sockets, sockets.into()));
    let mut proxy = Proxy::start(proxy_arguments(&args, &log_level), handed).await?;

    program.go().await?;
    let mut looking = Looking::new(&args, &program);
    let (mut stopping, mut drained) = (false, false);
    // A signal that cannot be sent is for a program that has ended, which `wait` says.
    let ended = loop {
        tokio::select! {
            biased;
            ended = program.wait() => break ended,
            found = looking.next(), if !stopping => if let Some(ports) = found? {
                proxy.serve(ports).await?;
            },
            event = proxy.next(), if !stopping => proxy.on(event).await,
            told = signals.told() => {
                let Told::End(asked) = told else {
                    eprintln!("leno run: SIGUSR2 is not for `leno run`: its proxy is replaced when it ends, and the program keeps this one");
                    continue;
                };
                if stopping || asked.shutdown == Shutdown::Now {
                    let _ = program.signal(SIGKILL).await;
                } else {
                    stopping = true;
                    // A second signal: at once.
                    tokio::select! {
                        // The drain is then `end`'s.
                        ended = program.wait() => break ended,
                        () = proxy.drain(args.drain_timeout) => {}
                        _ = signals.next() => {}
                    }
                    drained = true;
                    let _ = program.signal(asked.signal).await;
                    tokio::select! {
                        ended = program.wait() => break ended,
                        () = tokio::time::sleep(PROGRAM_END) => {}
                        _ = signals.next() => {}
                    }
                    let _ = program.signal(SIGKILL).await;
                }
            }
        }
    };
    proxy.end(args.drain_timeout, drained).await;
    if ended == Ended::Lost {
        eprintln!("leno run: the process that watched the program is gone");
    }
    Ok(ended.status())
}

fn proxy_arguments(args: &RunArgs, log_level: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        vec!["--log-level".into(), log_level.into(), "proxy".into(), "--supervised".into()];
    let mut add = |name: &str, value: String| {
        arguments.push(name.into());
        arguments.push(value.into());
    };
    for server in &args.enrol.servers {
        add("--server", server.clone());
    }
    args.service.iter().for_each(|service| add("--service", service.to_string()));
    // One name for all proxies that there will be, so that the registry knows the instance again.
    add("--instance", args.enrol.instance.clone().unwrap_or_else(own_id));
    args.enrol.version.iter().for_each(|version| add("--version", version.clone()));
    args.enrol.zone.iter().for_each(|zone| add("--zone", zone.clone()));
    args.enrol.region.iter().for_each(|region| add("--region", region.clone()));
    args.enrol.labels.iter().for_each(|(name, value)| add("--label", format!("{name}={value}")));
    args.data_dir.iter().for_each(|directory| add("--data-dir", directory.display().to_string()));
    args.access_log_file.iter().for_each(|file| add("--access-log-file", file.display().to_string()));
    let access_log = match args.access_log {
        AccessLogFormat::Off => "off",
        AccessLogFormat::Text => "text",
        AccessLogFormat::Json => "json",
    };
    add("--access-log", access_log.to_owned());
    let spelt = |value: Option<PossibleValue>| value.map_or_else(String::new, |value| value.get_name().to_owned());
    add("--escaped-slashes", spelt(args.reading.escaped_slashes.to_possible_value()));
    add("--underscored-names", spelt(args.reading.underscored_names.to_possible_value()));
    add("--bare-lf", spelt(args.reading.bare_lf.to_possible_value()));
    args.reading.limits.iter().for_each(|limit| add("--limit", limit.to_string()));
    args.pressure.memory_max.iter().for_each(|bytes| add("--memory-max", bytes.to_string()));
    args.pressure.late_max.iter().for_each(|most| add("--late-max", format!("{}ms", most.as_millis())));
    args.pressure.cpu_max.iter().for_each(|most| add("--cpu-max", most.to_string()));
    args.pressure.reactions.iter().for_each(|reaction| add("--memory-reaction", reaction.to_string()));
    add("--weight", args.enrol.weight.to_string());
    add("--admin-listen", args.admin_listen.to_string());
    for listen in ["--metrics-listen", "--outbound-listen", "--inbound-listen"] {
        add(listen, "off".to_owned());
    }
    add("--drain-timeout", format!("{}ms", args.drain_timeout.as_millis()));
    arguments
}

// === impl Proxy ===

impl Proxy {
    /// Starts the first one, without which the program is not started.
    async fn start(arguments: Vec<OsString>, handed: Vec<(Handed, OwnedFd)>) -> Result<Self, Failure> {
        let (child, line) = spawn(&arguments)?;
        let stage = Stage::Starting(Instant::now() + PROXY_START);
        let mut proxy = Self { arguments, handed, ports: Vec::new(), child, line, stage, short: 0 };
        proxy.hand_over().await?;
        while let Stage::Starting(_) = proxy.stage {
            match proxy.next().await {
                Event::Said(message) => proxy.on(Event::Said(message)).await,
                Event::Gone | Event::Due => return Err(Failure::Proxy),
            }
        }
        Ok(proxy)
    }

    /// The next thing to be done about it. May be cancelled.
    async fn next(&mut self) -> Event {
        let heard = match self.stage {
            Stage::Starting(until) => tokio::time::timeout_at(until, self.line.next()).await.ok(),
            Stage::Up(_) => Some(self.line.next().await),
            Stage::Down(until) => {
                tokio::time::sleep_until(until).await;
                return Event::Due;
            }
        };
        match heard {
            Some(Ok(Some((message, _)))) => Event::Said(message),
            _ => Event::Gone,
        }
    }

    /// Does it. Whatever becomes of proxies, the program goes on.
    async fn on(&mut self, event: Event) {
        match event {
            Event::Said(Message::Waiting(why)) => eprintln!("leno run: not registered yet: {why}"),
            Event::Said(Message::Started) => {
                self.stage = Stage::Up(Instant::now());
                // If it is gone again, that is heard next.
                let _ = self.tell_ports().await;
            }
            Event::Said(_) => {}
            Event::Gone => self.bury().await,
            Event::Due => self.replace().await,
        }
    }

    /// Sees it to its end, and decides when another one is started: at once, unless that was of no use before.
    async fn bury(&mut self) {
        // One that lives and has hung up, or never started, is of no use to anybody.
        let _ = self.child.start_kill();
        let how = self.child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        let was_steady = matches!(self.stage, Stage::Up(since) if since.elapsed() >= STEADY);
        self.short = if was_steady { 0 } else { self.short.saturating_add(1) };
        let wait = match self.short {
            0 | 1 => Duration::ZERO,
            more => (RESTART_MIN * 2_u32.saturating_pow(more - 2)).min(RESTART_MAX),
        };
        let when = if wait.is_zero() { "now".to_owned() } else { format!("in {wait:?}") };
        eprintln!("leno run: the proxy ended ({how}), starting another {when}");
        self.stage = Stage::Down(Instant::now() + wait);
    }

    /// Starts a successor with the same sockets; what was queued on them waits there.
    async fn replace(&mut self) {
        match spawn(&self.arguments) {
            Ok((child, line)) => {
                (self.child, self.line) = (child, line);
                self.stage = Stage::Starting(Instant::now() + PROXY_START);
                // If it is gone already, that is heard next.
                let _ = self.hand_over().await;
            }
            Err(failure) => {
                eprintln!("leno run: start a proxy: {failure}, trying again in {RESTART_MAX:?}");
                self.stage = Stage::Down(Instant::now() + RESTART_MAX);
            }
        }
    }

    /// Gives a new proxy everything that there is.
    async fn hand_over(&mut self) -> Result<(), Failure> {
        let names: Vec<Handed> = self.handed.iter().map(|(name, _)| *name).collect();
        let fds: Vec<BorrowedFd<'_>> = self.handed.iter().map(|(_, fd)| fd.as_fd()).collect();
        Ok(self.line.send(&Message::Take(names), &fds).await?)
    }

    /// Accepts for these ports of the program.
    async fn serve(&mut self, ports: Vec<ProgramPort>) -> Result<(), Failure> {
        for port in ports {
            self.ports.push((port, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?));
        }
        if let Stage::Up(_) = self.stage {
            // One that is gone is heard of next, and its successor is told.
            let _ = self.tell_ports().await;
        }
        Ok(())
    }

    async fn tell_ports(&self) -> Result<(), Failure> {
        if self.ports.is_empty() {
            return Ok(());
        }
        let ports = self.ports.iter().map(|(port, _)| port.clone()).collect();
        let fds: Vec<BorrowedFd<'_>> = self.ports.iter().map(|(_, listener)| listener.as_fd()).collect();
        Ok(self.line.send(&Message::Ports(ports), &fds).await?)
    }

    /// Has the proxy finish what is open.
    async fn drain(&mut self, timeout: Duration) {
        if let Stage::Down(_) = self.stage {
            return;
        }
        let drained = async {
            if self.line.send(&Message::Drain, &[]).await.is_err() {
                return;
            }
            while let Ok(Some((message, _))) = self.line.next().await {
                if message == Message::Drained {
                    return;
                }
            }
        };
        // Its own deadline is the drain's; a little later it is given up.
        let _ = tokio::time::timeout(timeout + Duration::from_secs(10), drained).await;
    }

    /// Ends the proxy; it takes the instance out of the registry.
    async fn end(mut self, timeout: Duration, drained: bool) {
        if !drained {
            self.drain(timeout).await;
        }
        drop(self.line);
        if tokio::time::timeout(Duration::from_secs(10), self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// A proxy with one end of a line as its standard input, in a process group of its own: Ctrl-C is for the program.
fn spawn(arguments: &[OsString]) -> Result<(Child, Line<Message>), Failure> {
    let (line, theirs) = Line::pair()?;
    let child = Command::new("/proc/self/exe")
        .arg0("leno")
        .args(arguments)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, line))
}

// === what the program listens on ===

/// Watches until the program listens where it was said to, or anywhere.
struct Looking {
    inside: u32,
    wanted: Vec<crate::settings::ApplicationPort>,
    service: Option<String>,
    until: Instant,
    timeout: Duration,
    done: bool,
}

// === impl Looking ===

impl Looking {
    fn new(args: &RunArgs, program: &Program) -> Self {
        Self {
            inside: program.inside_pid(),
            wanted: args.ports.clone(),
            service: args.service.as_ref().map(ToString::to_string),
            until: Instant::now() + args.ready_timeout,
            timeout: args.ready_timeout,
            // A program that is no service is not waited for.
            done: args.service.is_none(),
        }
    }

    /// The program's ports, once.
    async fn next(&mut self) -> Result<Option<Vec<ProgramPort>>, Failure> {
        if self.done {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
        let listening = match sockets::listening_ports(self.inside) {
            // It has just ended, which is heard from it.
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            listening => listening?,
        };
        let listening: Vec<SocketAddr> = listening.into_iter().filter(|address| !is_own(address)).collect();
        let found = self.found(&listening);
        if found.is_some() {
            self.done = true;
        } else if Instant::now() >= self.until {
            return Err(Failure::NotReady(self.explain(&listening)));
        }
        Ok(found)
    }

    fn found(&self, listening: &[SocketAddr]) -> Option<Vec<ProgramPort>> {
        let at = |port: u16| listening.iter().find(|address| address.port() == port).map(reachable);
        if self.wanted.is_empty() {
            let first = listening.first()?;
            return Some(vec![ProgramPort {
                port: first.port(),
                protocol: Protocol::Detect,
                address: reachable(first),
            }]);
        }
        let port = |wanted: &crate::settings::ApplicationPort| {
            Some(ProgramPort { port: wanted.port, protocol: wanted.protocol, address: at(wanted.port)? })
        };
        self.wanted.iter().map(port).collect()
    }

    fn explain(&self, listening: &[SocketAddr]) -> String {
        let listening: Vec<String> = listening.iter().map(ToString::to_string).collect();
        let found = if listening.is_empty() { "nothing".to_owned() } else { listening.join(", ") };
        let wanted: Vec<String> = self.wanted.iter().map(|port| port.port.to_string()).collect();
        let wanted = if wanted.is_empty() { "any port".to_owned() } else { format!("port {}", wanted.join(", ")) };
        let service = self.service.as_deref().unwrap_or("the program");
        format!(
            "{service} did not listen on {wanted} within {:?}: it listens on {found} (say which with --port, or wait longer with --ready-timeout)",
            self.timeout
        )
    }
}

/// Listeners that leno made inside.
fn is_own(address: &SocketAddr) -> bool {
    let capture = Capture::default();
    address.port() == capture.outbound_port || address.port() == capture.dns_port
}

/// The address by which what listens is reached from beside it.
fn reachable(address: &SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        // A socket on [::] takes IPv4 as well, unless it was told not to.
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The part inside the namespace.
pub fn inside(rest: Vec<OsString>) -> ExitCode {
    ExitCode::from(u8::try_from(namespace::inside(rest)).unwrap_or(OWN_FAILURE as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_is_gone_listens_on_nothing() {
        let timeout = Duration::from_secs(60);
        let until = Instant::now() + timeout;
        // No process has this id.
        let mut looking = Looking { inside: u32::MAX, wanted: Vec::new(), service: None, until, timeout, done: false };
        assert!(looking.next().await.unwrap().is_none());
    }
}

//! The supervisor's side: starts the process inside, receives its listeners, and speaks with it about the program.

#![allow(unsafe_code)]

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::wire::{self, Frame, Kind};
use super::{Capture, CaptureError, Command, Ended, HOST_PORTS_MAX};
use crate::address::Address;
use crate::dial::{Dial, HostDial};
use crate::limits;
use crate::listen::{self, Accepted};
use crate::relay::relay;

/// A namespace that is set up, and the program that is about to run in it.
#[derive(Debug)]
pub struct Captured {
    /// Where redirected TCP connections arrive: 127.0.0.1 inside and, where there is IPv6, ::1.
    pub outbound: Vec<TcpListener>,
    /// Where DNS queries over UDP arrive, likewise.
    pub dns_udp: Vec<UdpSocket>,
    /// Where DNS queries over TCP arrive, likewise.
    pub dns_tcp: Vec<TcpListener>,
    /// The host ports that were asked for: see [`forward_host_port`].
    pub host_ports: Vec<HostPort>,
    /// The channel for [`crate::dial::NamespaceDial`].
    pub sockets: StdUnixStream,
    /// The program.
    pub program: Program,
}

/// A port of the host's loopback that the program reaches at its own.
#[derive(Debug)]
pub struct HostPort {
    /// The port, inside as outside.
    pub port: u16,
    /// Where connections to it arrive inside.
    pub listeners: Vec<TcpListener>,
}

/// A captured program. Dropping it ends the program (SIGTERM, after 10 s SIGKILL).
#[derive(Debug)]
pub struct Program {
    control: UnixStream,
    name: String,
    inside: process::Child,
    pid: Option<u32>,
    ended: Option<Ended>,
}

/// What the process inside is told at its start, as arguments: descriptor, ports, `--`, the program.
pub(super) struct Arguments {
    pub(super) control: StdUnixStream,
    pub(super) capture: Capture,
    pub(super) command: Command,
}

/// How long setting up may take; it takes some 20 ms.
const SETUP_SECONDS: u64 = 10;

/// How long a connection to the host's loopback may take, and then be idle.
const HOST_PORT_CONNECT: Duration = Duration::from_secs(5);
/// Connections to one host port at a time; further ones wait.
const HOST_PORT_CONNECTIONS_MAX: usize = 1024;
const HOST_PORT_IDLE: Duration = Duration::from_secs(24 * 3600);

/// Makes a namespace for `command`. Executes this program again with `reexecute` and further arguments, with which that
/// process is to call [`super::inside()`]. The program itself starts with [`Program::go`].
pub async fn start(command: &Command, capture: &Capture, reexecute: &[OsString]) -> Result<Captured, CaptureError> {
    validate(capture)?;
    let step = |step: &'static str| move |error: io::Error| CaptureError::step(step, error);
    let (here, there) = StdUnixStream::pair().map_err(step("make the control socket"))?;
    let inside = execute_inside(command, capture, reexecute, &there).map_err(step("execute leno again"))?;
    drop(there);
    here.set_nonblocking(true).map_err(step("set the control socket up"))?;
    let control = UnixStream::from_std(here).map_err(step("set the control socket up"))?;
    let name = command.program.to_string_lossy().into_owned();
    let program = Program { control, name, inside, pid: None, ended: None };

    let doing = "setting up the namespace";
    let ready = tokio::time::timeout(Duration::from_secs(SETUP_SECONDS), wire::receive(&program.control));
    let ready = ready.await.map_err(|_| CaptureError::Silent(SETUP_SECONDS, doing))?;
    match ready.map_err(step("receive the listeners"))? {
        Some((Frame { kind: Kind::Ready, count, .. }, _, descriptors)) => {
            take_apart(usize::from(count), descriptors, capture, program).ok_or(CaptureError::Gone(doing))
        }
        Some((frame, text, _)) => Err(CaptureError::from_failure(frame, text)),
        None => Err(CaptureError::Gone(doing)),
    }
}

/// Leads connections to a host port inside to the host's own 127.0.0.1, until cancelled. `spawn` runs each of them.
pub async fn forward_host_port(listener: TcpListener, port: u16, spawn: impl Fn(LocalFuture)) -> io::Result<()> {
    let listener = listen::attach(listener)?;
    let target = Address::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    let places = Arc::new(Semaphore::new(HOST_PORT_CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let place = places.clone().acquire_owned().await.ok();
        let Accepted { stream, .. } = listen::accept(&listener).await;
        let target = target.clone();
        spawn(Box::pin(async move {
            let _place = place;
            match HostDial.connect(&target, HOST_PORT_CONNECT).await {
                Ok(host) => drop(relay(stream, host, Bytes::new(), HOST_PORT_IDLE).await),
                Err(error) => {
                    tracing::debug!(error = %error, "host port not reached");
                    // As the host would have answered.
                    stream.reset_on_close();
                }
            }
        }));
    }
}

/// A task of one thread.
pub type LocalFuture = std::pin::Pin<Box<dyn Future<Output = ()>>>;

fn validate(capture: &Capture) -> Result<(), CaptureError> {
    let mut ports = capture.host_ports.clone();
    ports.extend([capture.outbound_port, capture.dns_port]);
    let count = ports.len();
    ports.sort_unstable();
    ports.dedup();
    if ports.len() != count || ports[0] == 0 || capture.host_ports.len() > HOST_PORTS_MAX {
        let what = format!("ports inside must be distinct, not 0, and at most {HOST_PORTS_MAX} of the host's");
        return Err(CaptureError::step("choose ports", io::Error::new(io::ErrorKind::InvalidInput, what)));
    }
    Ok(())
}

fn execute_inside(
    command: &Command,
    capture: &Capture,
    reexecute: &[OsString],
    control: &StdUnixStream,
) -> io::Result<process::Child> {
    let fd = control.as_raw_fd();
    let descriptors = limits::original_descriptors();
    let mut starting = process::Command::new("/proc/self/exe");
    starting.arg0("leno").args(reexecute).args(Arguments::text(fd, capture)).arg("--");
    starting.arg(&command.program).args(&command.arguments);
    // SAFETY: only system calls between fork and exec; the descriptor is open in this process until `spawn` returns.
    unsafe {
        starting.pre_exec(move || {
            let control = std::os::fd::BorrowedFd::borrow_raw(fd);
            rustix::io::fcntl_setfd(control, rustix::io::FdFlags::empty())?;
            limits::set_descriptors(descriptors)
        });
    }
    starting.spawn()
}

/// In the order in which the process inside passes them.
fn take_apart(families: usize, descriptors: Vec<OwnedFd>, capture: &Capture, program: Program) -> Option<Captured> {
    let expected = families * (3 + capture.host_ports.len()) + 1;
    if descriptors.len() != expected {
        return None;
    }
    let mut rest = descriptors.into_iter();
    let mut take = |count| rest.by_ref().take(count).collect::<Vec<_>>();
    Some(Captured {
        outbound: take(families).into_iter().map(TcpListener::from).collect(),
        dns_udp: take(families).into_iter().map(UdpSocket::from).collect(),
        dns_tcp: take(families).into_iter().map(TcpListener::from).collect(),
        host_ports: capture
            .host_ports
            .iter()
            .map(|port| HostPort {
                port: *port,
                listeners: take(families).into_iter().map(TcpListener::from).collect(),
            })
            .collect(),
        sockets: take(1).pop().map(StdUnixStream::from)?,
        program,
    })
}

// === impl Program ===

impl Program {
    /// Starts the program and returns its process id.
    pub async fn go(&mut self) -> Result<u32, CaptureError> {
        let doing = "starting the program";
        wire::send(&self.control, Frame::new(Kind::Go, 0)).await.map_err(|_| CaptureError::Gone(doing))?;
        let answer = tokio::time::timeout(Duration::from_secs(SETUP_SECONDS), wire::receive(&self.control));
        match answer.await.map_err(|_| CaptureError::Silent(SETUP_SECONDS, doing))? {
            Ok(Some((Frame { kind: Kind::Started, value, .. }, ..))) => {
                self.pid = Some(value as u32);
                Ok(value as u32)
            }
            Ok(Some((Frame { kind: Kind::NotExecuted, value, .. }, ..))) => {
                Err(CaptureError::Execute { program: self.name.clone(), source: io::Error::from_raw_os_error(value) })
            }
            Ok(Some((frame, text, _))) => Err(CaptureError::from_failure(frame, text)),
            Ok(None) | Err(_) => Err(CaptureError::Gone(doing)),
        }
    }

    /// The process id of the program, once it runs.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// The process id of the one inside, whose network namespace is the program's: for
    /// [`crate::sockets::listening_ports`].
    pub fn inside_pid(&self) -> u32 {
        self.inside.id()
    }

    /// Sends a signal to the program and what it started (its process group).
    pub async fn signal(&self, signal: i32) -> io::Result<()> {
        wire::send(&self.control, Frame::new(Kind::Signal, signal)).await
    }

    /// Waits until the program has ended. May be cancelled and called again.
    pub async fn wait(&mut self) -> Ended {
        loop {
            if let Some(ended) = self.ended {
                return ended;
            }
            self.ended = match wire::receive(&self.control).await {
                Ok(Some((Frame { kind: Kind::Exited, value, .. }, ..))) => Some(Ended::Exited(value)),
                Ok(Some((Frame { kind: Kind::Killed, value, .. }, ..))) => Some(Ended::Killed(value)),
                Ok(Some(_)) => None,
                Ok(None) | Err(_) => Some(Ended::Lost),
            };
            // It exits right after these words; the wait leaves no zombie.
            if self.ended.is_some() {
                let _ = self.inside.wait();
            }
        }
    }
}

// === impl Arguments ===

impl Arguments {
    fn text(control: i32, capture: &Capture) -> [String; 4] {
        let host_ports: Vec<String> = capture.host_ports.iter().map(u16::to_string).collect();
        [control.to_string(), capture.outbound_port.to_string(), capture.dns_port.to_string(), host_ports.join(",")]
    }

    /// What [`execute_inside`] wrote.
    pub(super) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Option<Self> {
        let mut arguments = arguments.into_iter();
        let mut text = || arguments.next()?.into_string().ok();
        let control: i32 = text()?.parse().ok().filter(|fd| *fd > 2)?;
        let outbound_port = text()?.parse().ok()?;
        let dns_port = text()?.parse().ok()?;
        let host_ports = text()?;
        let host_ports = host_ports.split(',').filter(|port| !port.is_empty());
        let host_ports = host_ports.map(|port| port.parse().ok()).collect::<Option<_>>()?;
        (text()? == "--").then_some(())?;
        let program = arguments.next()?;
        // SAFETY: the supervisor left this descriptor open for this process, and nothing else here knows of it.
        let control = unsafe { OwnedFd::from_raw_fd(control) };
        rustix::io::fcntl_setfd(&control, rustix::io::FdFlags::CLOEXEC).ok()?;
        Some(Arguments {
            control: control.into(),
            capture: Capture { outbound_port, dns_port, host_ports },
            command: Command { program, arguments: arguments.collect() },
        })
    }
}

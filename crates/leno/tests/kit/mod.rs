//! Runs the built binary in a directory of its own, without variables of leno, and says what came of it.

// Each file of tests is a crate of its own and uses its part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod application;
pub mod http2;
pub mod load;
pub mod mesh;
pub mod scripted;
pub mod steered;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// A place to run leno in.
pub struct Leno {
    directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
    input: String,
}

/// What came of a run.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub out: String,
    pub err: String,
}

/// An empty place.
pub fn leno() -> Leno {
    Leno { directory: tempfile::tempdir().unwrap(), variables: Vec::new(), input: String::new() }
}

/// What the tests that run at the moment share, started by the first of them; with the last of them it goes.
pub fn shared<T>(slot: &Mutex<Weak<T>>, start: impl FnOnce() -> T) -> Arc<T> {
    let mut running = slot.lock().unwrap();
    running.upgrade().unwrap_or_else(|| {
        let started = Arc::new(start());
        *running = Arc::downgrade(&started);
        started
    })
}

/// An address at which nothing listens: a port that was free a moment ago, and is below those that the kernel gives to
/// whoever asks for any, so that nobody is given it meanwhile.
pub fn free_address() -> SocketAddr {
    const PORTS: std::ops::Range<u16> = 17_000..32_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        // Processes that run beside this one begin elsewhere.
        let at = std::process::id().wrapping_mul(211).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + (at % PORTS.len() as u32) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return SocketAddr::from(([127, 0, 0, 1], port));
        }
    }
}

impl Leno {
    /// With a file.
    pub fn file(self, name: &str, text: &str) -> Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// With a variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With text on standard input.
    pub fn input(mut self, text: &str) -> Self {
        self.input = text.to_owned();
        self
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The command, ready to be started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(env!("CARGO_BIN_EXE_leno"), arguments)
    }

    /// The command of the binary that is put under load, ready to be started: a debug build has not the speed.
    pub fn command_under_load(&self, arguments: &[&str]) -> Command {
        let built = std::env::var("LENO_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_leno").to_owned());
        self.command_of(&built, arguments)
    }

    fn command_of(&self, built: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(built);
        command.args(arguments).current_dir(self.directory.path()).env_clear().env("HOME", self.directory.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let mut child = self.command(arguments).spawn().unwrap();
        // Whoever does not read it closes the pipe.
        let _ = child.stdin.take().unwrap().write_all(self.input.as_bytes());
        child.wait_with_output().unwrap().into()
    }

    /// Runs to the end with nobody reading what it writes.
    pub fn run_unread(&self, arguments: &[&str]) -> Ran {
        let mut child = self.command(arguments).spawn().unwrap();
        drop(child.stdout.take());
        child.wait_with_output().unwrap().into()
    }
}

/// Says aloud, and to who counts skips, that a test did not run.
pub fn skip(test: &str, why: &str) {
    eprintln!("SKIPPED: {why}");
    let Some(file) = std::env::var_os("LENO_SKIPS") else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
    writeln!(file, "{test}: {why}").unwrap();
}

/// The first of these programs that is not installed.
pub fn missing<'p>(programs: &[&'p str]) -> Option<&'p str> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let is_there = |program: &str| path.split(':').any(|directory| PathBuf::from(directory).join(program).exists());
    programs.iter().copied().find(|program| !is_there(program))
}

/// Whether a test in which `leno run` captures a program, and which needs these programs too, cannot run here. That is
/// said aloud then: what is missing, as `leno run` would say it.
pub fn cannot_capture(test: &str, programs: &[&str]) -> bool {
    let why = match missing(programs) {
        Some(program) => Some(format!("{program} is not installed")),
        None => leno_net::namespace::check().err().map(|why| why.to_string()),
    };
    why.inspect(|why| skip(test, why)).is_some()
}

/// Prints a line of figures, past what collects the output of tests that pass.
pub fn figures(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// A running `leno server` and the place from which verbs reach it. Dropped, it is killed.
pub struct Server {
    pub leno: Leno,
    /// Where its API is.
    pub api: String,
    /// Where proxies reach it.
    pub grpc: String,
    child: Child,
}

impl Server {
    /// Starts a server that keeps its state in `state`, and waits until it is ready.
    pub fn start(leno: Leno) -> Self {
        let listen = ["--http-listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0", "--log-format", "json"];
        let mut child = leno.command(&[&["server", "--data-dir", "state"], &listen[..]].concat()).spawn().unwrap();
        let ready = event(&mut child, "server ready");
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self { leno, api: format!("http://{}", text("http")), grpc: text("grpc"), child }
    }

    /// Starts a proxy of this server that uses `service`, and waits until it is ready.
    pub fn proxy(&self, service: &str) -> Proxy {
        let to = format!("{service}=127.0.0.1:0");
        let off = ["outbound", "inbound", "metrics", "admin"].map(|name| format!("--{name}-listen=off"));
        let mut arguments = vec!["proxy", "--server", &self.grpc, "--to", &to, "--log-format", "json"];
        arguments.extend(off.iter().map(String::as_str));
        let mut child = self.leno.command(&arguments).spawn().unwrap();
        event(&mut child, "ready");
        Proxy { child }
    }

    /// Runs a verb against it.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.leno.run(&[arguments, &["--api", &self.api, "--data-dir", "state"]].concat())
    }

    /// Runs a verb that must succeed, and gives what it printed.
    pub fn done(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.status, 0, "{arguments:?}: {ran:?}");
        ran.out
    }

    /// Kills it and gives its place back.
    pub fn stop(mut self) -> Leno {
        std::mem::replace(&mut self.leno, leno())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running `leno proxy`. Dropped, it is killed.
pub struct Proxy {
    child: Child,
}

impl Proxy {
    /// Stops it in its tracks: it stays connected and answers nothing.
    pub fn freeze(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first event of a role's log with this message.
fn event(child: &mut Child, message: &str) -> serde_json::Value {
    let (mut said, mut lines) = (String::new(), BufReader::new(child.stderr.take().unwrap()).lines());
    let found = loop {
        let Some(Ok(line)) = lines.next() else { panic!("it ended without {message:?}:\n{said}") };
        let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if event["message"] == message {
            break event;
        }
        said += &line;
        said.push('\n');
    };
    // Nobody reads what else it says, and its pipe must not fill.
    std::thread::spawn(move || lines.for_each(drop));
    found
}

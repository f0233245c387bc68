//! The way through leno: one `leno server`, and `leno run --` in front of every program, all as the unprivileged user.
//!
//! A server's port is found by watching what it listens on. A conversation counts only when both proxies' access logs tell of it, and no proxy may hold more
//! memory than a few buffers, whatever it streams.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::converse::Way;
use super::place::{Place, unprivileged};
use super::programs::{self, Server, Talk};
use crate::http::Client;
use crate::process::{below, descendants, free_port, output, show, signal};

const START_DEADLINE: Duration = Duration::from_secs(20);
/// Access lines may be written a little after the exchange has ended.
const LOG_DEADLINE: Duration = Duration::from_secs(3);
/// What a proxy may hold at most while it streams bodies of 100 MB.
const PROXY_MB_MAX: f64 = 30.0;

/// A running control plane and the words that join programs to it.
pub(crate) struct Mesh<'a> {
    place: &'a Place,
    server: Child,
    http: u16,
    grpc: u16,
    /// The admin port of each server's proxy.
    admin: BTreeMap<&'static str, u16>,
    /// Words that give up root's rights.
    unprivileged: Vec<String>,
    /// Length of each access log when it was looked at last.
    told: RefCell<BTreeMap<String, u64>>,
    /// The most that one process of leno has held.
    peak_mb: Cell<f64>,
}

impl<'a> Mesh<'a> {
    /// Copies the binary into the place and starts the control plane.
    pub(crate) fn start(place: &'a Place, binary: &Path) -> Result<Self> {
        let leno = place.folder().join("leno");
        fs::copy(binary, &leno).with_context(|| binary.display().to_string())?;
        fs::set_permissions(&leno, fs::Permissions::from_mode(0o755))?;
        let (http, grpc) = (free_port()?, free_port()?);
        let unprivileged = unprivileged()?;
        let own = [
            "server",
            "--data-dir",
            &place.file("data/leno"),
            "--http-listen",
            &format!("127.0.0.1:{http}"),
            "--grpc-listen",
            &format!("127.0.0.1:{grpc}"),
        ];
        let own = own.map(str::to_owned).to_vec();
        let mut command =
            place.command("leno-server", &[unprivileged.clone(), vec![place.file("leno")], own].concat())?;
        let log = fs::File::create(place.log("leno-server"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let server = command.spawn().with_context(|| show(&command))?;
        let mut admin = BTreeMap::new();
        for server in programs::servers(place) {
            admin.insert(server.name, free_port()?);
        }
        let mut mesh =
            Mesh { place, server, http, grpc, admin, unprivileged, told: RefCell::default(), peak_mb: Cell::new(0.0) };
        let until = Instant::now() + START_DEADLINE;
        while TcpStream::connect(("127.0.0.1", grpc)).is_err() || TcpStream::connect(("127.0.0.1", http)).is_err() {
            if mesh.server.try_wait()?.is_some() || Instant::now() > until {
                bail!("leno server does not listen: {}", fs::read_to_string(place.log("leno-server"))?.trim());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(mesh)
    }

    pub(crate) fn place(&self) -> &Place {
        self.place
    }

    /// The port on which proxies are served.
    pub(crate) fn grpc(&self) -> u16 {
        self.grpc
    }

    /// Asks the server by one of leno's verbs, as the user that it runs as; what the verb prints.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<String> {
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        let api = ["--api".to_owned(), format!("http://127.0.0.1:{}", self.http)];
        let token = ["--token-file".to_owned(), self.place.file("data/leno/admin.token")];
        let all =
            [self.unprivileged.clone(), vec![self.place.file("leno")], words, api.to_vec(), token.to_vec()].concat();
        output(&mut self.place.command("leno-cli", &all)?)
    }

    /// `leno run` with what every program gets; `--` and the program follow.
    fn run_words(&self, log: &str, more: &[String]) -> Vec<String> {
        let words = [
            "run",
            "--server",
            &format!("127.0.0.1:{}", self.grpc),
            "--access-log",
            "json",
            "--access-log-file",
            &self.access_log(log),
        ]
        .map(str::to_owned);
        [self.unprivileged.clone(), vec![self.place.file("leno")], words.to_vec(), more.to_vec(), vec!["--".to_owned()]]
            .concat()
    }

    /// A program that calls and one that serves may have the same name, and each has a proxy of its own.
    fn access_log(&self, log: &str) -> String {
        self.place.file(&format!("work/{log}.log"))
    }

    /// Whether a log has grown since it was asked about last; waits a little, for lines are written late.
    fn has_grown(&self, name: &str) -> bool {
        let length = || fs::metadata(self.access_log(name)).map(|metadata| metadata.len()).unwrap_or_default();
        let before = self.told.borrow().get(name).copied().unwrap_or_default();
        let until = Instant::now() + LOG_DEADLINE;
        while length() <= before && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        self.told.borrow_mut().insert(name.to_owned(), length());
        length() > before
    }
}

impl Way for Mesh<'_> {
    fn name(&self) -> &'static str {
        "through leno"
    }

    fn before_preparation(&self) -> Vec<String> {
        self.unprivileged.clone()
    }

    fn before_server(&self, server: &Server) -> Vec<String> {
        let admin = self.admin.get(server.name).copied().unwrap_or_default();
        self.run_words(
            &serving(server.name),
            &["--service", server.name, "--admin-listen", &format!("127.0.0.1:{admin}")].map(str::to_owned),
        )
    }

    fn before_talk(&self, talk: &Talk) -> Vec<String> {
        self.run_words(&calling(talk.name), &[])
    }

    fn is_ready(&self, server: &Server) -> bool {
        let port = self.admin.get(server.name).copied().unwrap_or_default();
        let answer = Client::connect(port, "127.0.0.1").and_then(|mut client| client.get("/ready"));
        answer.is_ok_and(|answer| answer.status == 200)
    }

    fn look(&self, _: i32) {
        // Clients' proxies live as long as their programs, so each look takes all processes of leno there are.
        let ours = self.place.folder().join("leno");
        for pid in descendants() {
            if fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == ours)
                && pid != self.server.id().cast_signed()
            {
                self.peak_mb.set(self.peak_mb.get().max(peak_mb(pid)));
            }
        }
    }

    fn judge(&self, talk: &Talk) -> Vec<String> {
        // One that calls nobody has nothing to tell.
        let mut logs: Vec<String> = talk.needs.iter().map(|name| serving(name)).collect();
        if !talk.needs.is_empty() {
            logs.push(calling(talk.name));
        }
        let silent = logs.iter().filter(|log| !self.has_grown(log));
        let mut complaints: Vec<String> =
            silent.map(|log| format!("the access log {log} tells nothing of it")).collect();
        let peak = self.peak_mb.replace(0.0);
        if peak == 0.0 {
            complaints.push("no process of leno was seen while it ran".to_owned());
        }
        println!("{:<12} the largest proxy held {peak:.1} MB", "");
        if peak > PROXY_MB_MAX {
            complaints.push(format!("a proxy held {peak:.1} MB, more than {PROXY_MB_MAX:.0}"));
        }
        complaints
    }
}

/// The access log of a server's proxy.
fn serving(name: &str) -> String {
    format!("{name}-serving")
}

/// The access log of a caller's proxy.
fn calling(name: &str) -> String {
    format!("{name}-calling")
}

impl Drop for Mesh<'_> {
    fn drop(&mut self) {
        for pid in below(self.server.id().cast_signed()) {
            signal(pid, Signal::KILL);
        }
        let _gone_already = self.server.kill();
        let _reaped = self.server.wait();
    }
}

/// The most memory that a process has held so far.
fn peak_mb(pid: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or_default() / 1024.0
}

//! A child process of the demo: another role or a service of the shop, from this same executable.
//!
//! It is in a process group of its own, so that Ctrl-C in a terminal reaches the demo alone; it is killed by the kernel
//! when the demo dies; it inherits no setting; what it logs is kept in a file, to be shown when it does not start.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::commands::{Exit, Failure};
use crate::shop::call::Ways;
use crate::shop::{self, Order, Service};

/// A settings file that sets nothing, in place of one that lies about.
pub const SETTINGS_FILE: &str = "settings.yaml";

/// How long a process may take for one thing: to listen, to follow an order.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// Lines of its log that are shown when a process does not start.
const LOG_LINES: usize = 5;

/// A running child.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    speaking: Option<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
}

// === impl Process ===

impl Process {
    /// Starts a verb of leno: `server …`, `proxy …`.
    pub fn leno(directory: &Path, name: &str, arguments: &[String]) -> Result<Self, Failure> {
        let settings = directory.join(SETTINGS_FILE).display().to_string();
        let own = ["__shop", shop::TIED, "--settings-file", &settings, "--log-level", "warn"];
        let arguments: Vec<&str> = own.into_iter().chain(arguments.iter().map(String::as_str)).collect();
        Self::start(directory, name, &arguments, Stdio::null)
    }

    /// Starts a service of the shop.
    pub fn shop(directory: &Path, name: &str, service: Service, version: &str) -> Result<Self, Failure> {
        let mut process = Self::start(directory, name, &["__shop", service.name(), version], Stdio::piped)?;
        let (stdin, stdout) = (process.child.stdin.take(), process.child.stdout.take());
        process.speaking = stdin.zip(stdout).map(|(stdin, stdout)| (stdin, BufReader::new(stdout).lines()));
        Ok(process)
    }

    fn start(directory: &Path, name: &str, arguments: &[&str], standard: fn() -> Stdio) -> Result<Self, Failure> {
        let log = directory.join(format!("{name}.log"));
        let unable = |what: &str, error: io::Error| Failure::new(Exit::No, format!("{what} {name}: {error}"), "");
        // Appended to: a server that is started again tells both lives.
        let out = File::options().create(true).append(true).open(&log).map_err(|error| unable("the log of", error))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("leno").args(arguments).current_dir(directory).process_group(0).kill_on_drop(true);
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"LENO_") {
                command.env_remove(variable);
            }
        }
        command.stdin(standard()).stdout(standard()).stderr(out);
        let child = command.spawn().map_err(|error| unable("start", error))?;
        Ok(Self { name: name.to_owned(), child, log, speaking: None })
    }

    /// Where a service of the shop listens.
    pub async fn listening(&mut self) -> Result<SocketAddr, Failure> {
        let line = self.line().await?;
        let address = line.strip_prefix(shop::LISTENING).and_then(|address| address.parse().ok());
        address.ok_or_else(|| self.failed(&format!("said {line:?} instead of where it listens")))
    }

    /// Has a service of the shop follow an order; how often it has answered 503 so far.
    pub async fn order(&mut self, order: Order) -> Result<u64, Failure> {
        if let Some((stdin, _)) = &mut self.speaking {
            let line = format!("{order}\n");
            // What it says then, or does not, tells whether it heard.
            let _ = stdin.write_all(line.as_bytes()).await;
        }
        let line = self.line().await?;
        let refused = line.strip_prefix(shop::DONE).and_then(|number| number.parse().ok());
        refused.ok_or_else(|| self.failed(&format!("said {line:?} to the order {order}")))
    }

    /// Waits until a role is ready, by its own word at this address.
    pub async fn ready(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let until = Instant::now() + PATIENCE;
        let mut last = String::new();
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(&format!("ended with {status}")));
            }
            // A way of its own each time: nobody may be there yet.
            let ways = Ways::by(address);
            let asked = async { ways.out()?.get(&address.to_string(), "/ready", false).await };
            match asked.await {
                Ok(_) => return Ok(()),
                Err(error) => last = error.to_string(),
            }
            sleep(LOOK_EVERY).await;
        }
        Err(self.failed(&format!("is not ready after {} s: {last}", PATIENCE.as_secs())))
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it, as with `kill -9`, and waits until it is gone.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Kills it without waiting.
    pub fn kill_soon(&mut self) {
        // An error says that it is dead already.
        let _ = self.child.start_kill();
    }

    /// Whether it is dead and reaped.
    pub fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    async fn line(&mut self) -> Result<String, Failure> {
        let Some((_, lines)) = &mut self.speaking else { return Err(self.failed("does not speak")) };
        match timeout(PATIENCE, lines.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(_) => Err(self.failed("ended")),
            Err(_) => Err(self.failed(&format!("said nothing for {} s", PATIENCE.as_secs()))),
        }
    }

    /// A failure of this process, with the end of its log.
    fn failed(&self, what: &str) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        let end = if end.is_empty() { String::new() } else { format!("; it logged:\n  {end}") };
        Failure::new(Exit::No, format!("{} {what}{end}", self.name), "")
    }
}

//! Commands, their deadlines, and the promise that none outlives us.
//!
//! This process is made the subreaper of everything below it, so a daemon that a test forked away from its parent still hangs off us and is found by walking
//! `/proc`. `sweep` ends what is left; it runs after every stage, at the end, and on SIGINT, SIGTERM and SIGHUP. Rejected: process groups, because the programs
//! under test make groups and sessions of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

/// How long an ended process may take to go before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Scratch folders of this run, for the signal that ends it.
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let xtask = manifest.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        xtask.parent().map(Path::to_path_buf).unwrap_or(xtask)
    })
}

/// Whether we may install packages and must drop rights for programs under test.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A cargo invocation in the workspace, by the cargo that runs us.
pub(crate) fn cargo<I: IntoIterator<Item = S>, S: AsRef<str>>(arguments: I) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for argument in arguments {
        command.arg(argument.as_ref());
    }
    command
}

/// Makes this process the parent of every orphan below it and ends them all when a signal ends us.
pub(crate) fn adopt_orphans() {
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        eprintln!("warning: processes that tests leave behind will not be found: {error}");
    }
    let signals = [Signal::INT.as_raw(), Signal::TERM.as_raw(), Signal::HUP.as_raw()];
    let mut signals = match signal_hook::iterator::Signals::new(signals) {
        Ok(signals) => signals,
        Err(error) => return eprintln!("warning: interrupting will leave processes behind: {error}"),
    };
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            sweep();
            for folder in FOLDERS.lock().iter().flat_map(|folders| folders.iter()) {
                let _gone_already = fs::remove_dir_all(folder);
            }
            std::process::exit(128 + signal);
        }
    });
}

/// Prints the command, runs it with our standard streams, and gives an error unless it ends well within the deadline.
pub(crate) fn run(command: &mut Command, deadline: Duration) -> Result<()> {
    let shown = show(command);
    println!("$ {shown}");
    let mut child = command.stdin(Stdio::null()).spawn().with_context(|| format!("start `{shown}`"))?;
    let watch = Watch::start(&child, deadline);
    let status = child.wait()?;
    if watch.stop() {
        bail!("`{shown}` was ended after {} s without a result", deadline.as_secs());
    }
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Like `run`, and shows each line of standard output to `see` as well; returns whether the command ended well.
pub(crate) fn run_seeing(command: &mut Command, deadline: Duration, mut see: impl FnMut(&str)) -> Result<bool> {
    let shown = show(command);
    println!("$ {shown}");
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().with_context(|| format!("start `{shown}`"))?;
    let watch = Watch::start(&child, deadline);
    let stdout = child.stdout.take().context("standard output was asked for")?;
    for line in BufReader::new(stdout).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        see(&line);
    }
    let status = child.wait()?;
    if watch.stop() {
        bail!("`{shown}` was ended after {} s without a result", deadline.as_secs());
    }
    Ok(status.success())
}

/// The command's standard output, or an error with its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The path of a program, when PATH has it.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.into_iter().map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// A scratch folder that goes when it is dropped, or when a signal ends us.
pub(crate) fn scratch(what: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix(&format!("leno-{what}-")).tempdir()?;
    if let Ok(mut folders) = FOLDERS.lock() {
        folders.push(folder.path().to_path_buf());
    }
    Ok(folder)
}

/// A port of loopback that nobody has now; what takes it a moment later fails loudly.
pub(crate) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Ends every process below us and names them; empty when all had gone by themselves.
pub(crate) fn sweep() -> Vec<String> {
    let left = descendants();
    if left.is_empty() {
        return Vec::new();
    }
    let named = left.iter().map(|pid| format!("{} ({})", pid, command_line(*pid))).collect();
    signal_all(&left, Signal::TERM);
    let until = Instant::now() + GRACE;
    while Instant::now() < until && !descendants().is_empty() {
        thread::sleep(Duration::from_millis(20));
    }
    // Killing a parent may hand us children that were hidden below it, so look again until none is left.
    for _ in 0..50 {
        let left = descendants();
        if left.is_empty() {
            break;
        }
        signal_all(&left, Signal::KILL);
        thread::sleep(Duration::from_millis(20));
    }
    named
}

/// Every live process below this one.
pub(crate) fn descendants() -> Vec<i32> {
    below(rustix::process::getpid().as_raw_nonzero().get())
}

/// Every live process below `ancestor`, itself left out.
pub(crate) fn below(ancestor: i32) -> Vec<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold anything, so fields are counted from its end.
        let Some((_, fields)) = stat.rsplit_once(')') else { continue };
        let mut fields = fields.split_whitespace();
        let state = fields.next().unwrap_or_default();
        let Some(parent) = fields.next().and_then(|parent| parent.parse().ok()) else { continue };
        if state != "Z" {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut open = vec![ancestor];
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            if found.insert(*child) {
                open.push(*child);
            }
        }
    }
    found.into_iter().collect()
}

/// Sends a signal to one process; one that has gone already is no error.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _gone_already = rustix::process::kill_process(pid, signal);
    }
}

/// The command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let arguments = command.get_args().map(|argument| argument.to_string_lossy().into_owned());
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn signal_all(pids: &[i32], which: Signal) {
    for pid in pids {
        signal(*pid, which);
    }
}

fn command_line(pid: i32) -> String {
    let text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).replace('\0', " ");
    text.trim().chars().take(120).collect()
}

/// Ends a child and all below it when its time is up.
struct Watch {
    done: std::sync::mpsc::SyncSender<()>,
    fired: std::sync::Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Watch {
    fn start(child: &Child, deadline: Duration) -> Self {
        let (done, over) = sync_channel(1);
        let fired = std::sync::Arc::new(AtomicBool::new(false));
        let (pid, seen) = (i32::try_from(child.id()).unwrap_or_default(), fired.clone());
        let thread = thread::spawn(move || {
            if over.recv_timeout(deadline) == Err(RecvTimeoutError::Timeout) {
                seen.store(true, Ordering::Relaxed);
                let mut all = below(pid);
                all.push(pid);
                signal_all(&all, Signal::KILL);
            }
        });
        Watch { done, fired, thread }
    }

    /// Whether the deadline passed first.
    fn stop(self) -> bool {
        let _the_thread_may_be_gone = self.done.try_send(());
        let _a_panic_there_is_impossible = self.thread.join();
        self.fired.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_past_its_deadline_is_ended_with_its_children() {
        let started = Instant::now();
        let error = run(Command::new("sh").args(["-c", "sleep 60 & wait"]), Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("was ended"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn descendants_include_grandchildren() {
        let mut child =
            Command::new("sh").args(["-c", "sleep 60 & echo; wait"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let grandchildren = below(pid);
        assert_eq!(grandchildren.len(), 1);
        signal_all(&grandchildren, Signal::KILL);
        child.wait().unwrap();
    }
}

//! The stage `browser`: `leno demo` as a user starts it, and its dashboard in Debian's Chromium.
//!
//! ```text
//! browser.py ─ ready ─►  here ─ start ─►  leno demo
//!            ◄─ link ──       ◄─ link ──
//!            ─ moving ─► within five seconds of the demo's start; then every screen, light and dark
//!            ─ signed out ─► the story has killed the server and started it again
//!            ◄─ link ──       ◄─ link ──
//! ```
//!
//! Beside it `policies.py` has a mesh of its own, in which a breaker opens and closes while its page is looked at.
//!
//! What is looked at and asserted on the pages stands in `crates/leno-dashboard/tests/browser.py` and `policies.py`. The browser is up before the demo starts, as a person's is, and
//! the demo's start is the zero of time. Afterwards the demo gets what Ctrl-C sends, and nothing of it may be left: no process, no file. Screenshots stay in
//! `target/screenshots/`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::install::browser_python;
use crate::process::{below, root, scratch, show, signal};
use crate::test::{Counts, quick_release};

/// From the start of the demo to numbers that move on the map.
const MOVING_MAX: Duration = Duration::from_secs(5);
/// For anything that is waited for: the browser's start, the whole visit, the demo's end.
const PATIENCE: Duration = Duration::from_secs(120);
/// Lines of a program that are kept while nobody reads them; the demo prints one each few seconds.
const LINES_MAX: usize = 10_000;

/// Starts the demo, visits its dashboard, ends it.
pub(crate) fn run() -> Result<Counts> {
    let leno = quick_release()?;
    let screenshots = root().join("target/screenshots");
    let temporary = scratch("browser")?;
    let mut visit = Command::new(browser_python()?);
    visit.arg(root().join("crates/leno-dashboard/tests/browser.py")).arg("-").arg(&screenshots).arg("--until-killed");
    let mut visit = Program::start(&mut visit)?;
    visit.until("ready")?;

    let mut demo = Command::new(&leno);
    demo.args(["demo", "--http-listen", "127.0.0.1:0"]).env("TMPDIR", temporary.path());
    let mut demo = Program::start(&mut demo)?;
    let link = demo.until("/login?code=")?;
    visit.say(link.trim())?;
    let moving = visit.until("moving: ")?;
    let after = demo.started.elapsed();
    println!(
        "the map moves {:.1} s after the demo's start; screenshots in {}",
        after.as_secs_f32(),
        screenshots.display()
    );

    let mut counts = Counts::default();
    counts.add(match after <= MOVING_MAX {
        true => Counts::passed("the map moves"),
        false => Counts::failed(format!("{moving} only after {:.1} s", after.as_secs_f32())),
    });
    // The story kills the server, which ends the session, and tells a new link when it is back.
    visit.until("signed out")?;
    visit.say(demo.until("/login?code=")?.trim())?;
    counts.add(match visit.end(None)? {
        true => Counts::passed("every screen, and the map again when the server is back"),
        false => Counts::failed("the dashboard is not as it should be: see above".to_owned()),
    });
    counts.add(match end_demo(demo, temporary.path())? {
        None => Counts::passed("nothing of the demo is left"),
        Some(left) => Counts::failed(left),
    });
    let mut policies = Command::new(browser_python()?);
    policies.arg(root().join("crates/leno-dashboard/tests/policies.py")).arg(&leno).arg(&screenshots);
    counts.add(match Program::start(policies.env("TMPDIR", temporary.path()))?.end(None)? {
        true => Counts::passed("the policies of a service, while they are at work"),
        false => Counts::failed("the page of a service does not show its policies: see above".to_owned()),
    });
    Ok(counts)
}

/// Interrupts the demo as Ctrl-C does; what was wrong about its end.
fn end_demo(demo: Program, temporary: &Path) -> Result<Option<String>> {
    let mut children = below(demo.pid());
    let lines = demo.end_with_lines(Some(Signal::INT))?;
    children.retain(|pid| Path::new(&format!("/proc/{pid}")).exists());
    let files: Vec<_> = fs::read_dir(temporary)?.flatten().map(|entry| entry.file_name()).collect();
    // The demo is asked in the middle of its story or after it, which decides its status; what it claimed held either way.
    let summary = lines.iter().rev().find(|line| line.contains(" claims held")).cloned().unwrap_or_default();
    let mut words = summary.split_whitespace();
    let all_held = words.next().is_some_and(|held| words.nth(1) == Some(held));
    Ok(match (children.is_empty(), files.is_empty(), all_held) {
        (true, true, true) => None,
        (false, ..) => Some(format!("the demo left processes {children:?}")),
        (_, false, _) => Some(format!("the demo left {files:?} in its temporary directory")),
        (.., false) => Some(format!("the demo's summary is {summary:?}")),
    })
}

/// A program whose lines are read; it is killed with all below it if it is dropped before its end.
struct Program {
    shown: String,
    started: Instant,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Program {
    fn start(command: &mut Command) -> Result<Self> {
        let shown = show(command);
        println!("$ {shown}");
        let started = Instant::now();
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("start `{shown}`"))?;
        let stdout = child.stdout.take().context("standard output was asked for")?;
        let stdin = child.stdin.take();
        let (tell, lines) = sync_channel(LINES_MAX);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Program { shown, started, child, stdin, lines })
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or_default()
    }

    /// The next line that has this in it; those before are printed.
    fn until(&mut self, wanted: &str) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).with_context(|| format!("`{}` said no `{wanted}`", self.shown))?;
            println!("{line}");
            if line.contains(wanted) {
                return Ok(line);
            }
        }
    }

    fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("standard input was asked for")?;
        writeln!(stdin, "{line}").with_context(|| format!("`{}` does not listen", self.shown))
    }

    /// Whether it ended well, by itself or by a signal, within the time that there is.
    fn end(mut self, by: Option<Signal>) -> Result<bool> {
        self.finish(by).map(|(ended_well, _)| ended_well)
    }

    /// What it printed until its end.
    fn end_with_lines(mut self, by: Option<Signal>) -> Result<Vec<String>> {
        self.finish(by).map(|(_, lines)| lines)
    }

    fn finish(&mut self, by: Option<Signal>) -> Result<(bool, Vec<String>)> {
        if let Some(by) = by {
            signal(self.pid(), by);
        }
        let end = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        // Standard output ends with the program.
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            println!("{line}");
            lines.push(line);
        }
        if Instant::now() >= end {
            bail!("`{}` did not end within {} s", self.shown, PATIENCE.as_secs());
        }
        Ok((self.child.wait()?.success(), lines))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let mut all = below(self.pid());
            all.push(self.pid());
            all.into_iter().for_each(|pid| signal(pid, Signal::KILL));
            let _gone = self.child.wait();
        }
    }
}

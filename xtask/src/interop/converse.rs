//! Starts the servers, runs the conversations one after the other, and judges them; how they are joined is the way's business.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::place::Place;
use super::programs::{self, Expect, Server, Talk};
use crate::process::{below, output, show, signal};
use crate::test::Counts;

/// From a server's start until it can be called: the slowest is a JVM or a database on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// The longest conversation.
const TALK_DEADLINE: Duration = Duration::from_secs(120);
/// From SIGTERM to the end of a server that nobody calls any more.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// How often a running conversation is looked at.
const LOOK_PERIOD: Duration = Duration::from_millis(25);

/// How programs are joined: directly in one room, or through leno.
pub(crate) trait Way {
    /// As it stands in the closing line.
    fn name(&self) -> &'static str;
    /// Words in front of every command that only prepares.
    fn before_preparation(&self) -> Vec<String>;
    /// Words in front of a server's own.
    fn before_server(&self, server: &Server) -> Vec<String>;
    /// Words in front of a client's own.
    fn before_talk(&self, talk: &Talk) -> Vec<String>;
    /// Whether a started server can be called.
    fn is_ready(&self, server: &Server) -> bool;
    /// Called again and again while a conversation of this process runs.
    fn look(&self, pid: i32);
    /// What was wrong with a conversation beyond what its program said.
    fn judge(&self, talk: &Talk) -> Vec<String>;
}

/// What conversations came to.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    /// Every line of JSON that clients printed.
    pub(crate) verdicts: Vec<String>,
}

/// Servers that can be called; ended when this is dropped.
struct Running<'a> {
    servers: Vec<(&'a Server, Child)>,
}

/// All conversations, or those that are named.
pub(crate) fn converse(place: &Place, way: &dyn Way, only: &[String]) -> Result<Outcome> {
    let mut talks = programs::talks(place);
    talks.retain(|talk| only.is_empty() || only.iter().any(|name| *name == talk.name));
    let mut servers = programs::servers(place);
    servers.retain(|server| talks.iter().any(|talk| talk.needs.contains(&server.name)));
    let mut running = start(place, way, &servers)?;
    let mut outcome = Outcome::default();
    for changed in running.changed(place) {
        outcome.counts.fail(changed);
    }
    for talk in &talks {
        judge(place, way, talk, &mut outcome)?;
    }
    for left in running.stop()? {
        outcome.counts.fail(left);
    }
    println!("{}{}", summary(way.name()), outcome.counts);
    Ok(outcome)
}

/// How the closing line of a way begins.
pub(crate) fn summary(way: &str) -> String {
    format!("interop {way}: ")
}

/// Runs one conversation and adds it to the outcome.
fn judge(place: &Place, way: &dyn Way, talk: &Talk, outcome: &mut Outcome) -> Result<()> {
    let started = Instant::now();
    let (text, ended_well) = run(place, way, talk)?;
    let (good, wanted) = (talk.expect.count(&text), talk.expect.wanted());
    println!("{:<12} {good} of {wanted} good in {:.1} s", talk.name, started.elapsed().as_secs_f32());
    outcome.counts.passed += good;
    if !ended_well || good != wanted {
        outcome.counts.fail(format!("{}: {}", talk.name, text.trim()));
    }
    if let Expect::Verdicts(_) = talk.expect {
        let verdicts = text.lines().filter(|line| line.starts_with('{')).map(str::to_owned);
        outcome.verdicts.extend(verdicts.inspect(|verdict| println!("{verdict}")));
    }
    for complaint in way.judge(talk) {
        outcome.counts.fail(format!("{}: {complaint}", talk.name));
    }
    Ok(())
}

/// Prepares and starts the servers side by side, and waits until each can be called.
fn start<'a>(place: &Place, way: &dyn Way, servers: &'a [Server]) -> Result<Running<'a>> {
    let mut running = Running { servers: Vec::new() };
    for server in servers {
        if !server.prepare.is_empty() {
            let words = [way.before_preparation(), server.prepare.clone()].concat();
            output(&mut place.command(server.name, &words)?)?;
        }
        let mut command = place.command(server.name, &[way.before_server(server), server.command.clone()].concat())?;
        let log = fs::File::create(place.log(server.name))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        running.servers.push((server, command.spawn().with_context(|| show(&command))?));
    }
    let until = Instant::now() + START_DEADLINE;
    for (server, child) in &mut running.servers {
        while !way.is_ready(server) {
            if child.try_wait()?.is_some() || Instant::now() > until {
                let log = fs::read_to_string(place.log(server.name))?;
                bail!("{} cannot be called on port {}: {}", server.name, server.port, log.trim());
            }
            thread::sleep(LOOK_PERIOD);
        }
    }
    Ok(running)
}

/// Runs a client to its end; its standard output, with its standard error when it ended badly, and whether it ended well.
fn run(place: &Place, way: &dyn Way, talk: &Talk) -> Result<(String, bool)> {
    let mut command = place.command(talk.name, &[way.before_talk(talk), talk.command.clone()].concat())?;
    let [out, err] = ["out", "err"].map(|what| place.log(&format!("{}.{what}", talk.name)));
    command.stdin(Stdio::null()).stdout(fs::File::create(&out)?).stderr(fs::File::create(&err)?);
    let mut child = command.spawn().with_context(|| show(&command))?;
    let until = Instant::now() + TALK_DEADLINE;
    let status = loop {
        way.look(pid_of(&child));
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() > until {
            end(&mut child);
            break None;
        }
        thread::sleep(LOOK_PERIOD);
    };
    let mut text = String::from_utf8_lossy(&fs::read(out)?).into_owned();
    let ended_well = status.is_some_and(|status| status.success());
    if !ended_well {
        text.push_str(&String::from_utf8_lossy(&fs::read(err)?));
        text.push_str(
            &status.map_or_else(|| format!("no end after {} s", TALK_DEADLINE.as_secs()), |status| status.to_string()),
        );
    }
    Ok((text, ended_well))
}

fn pid_of(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap_or_default()
}

/// Ends a child and all below it at once.
fn end(child: &mut Child) {
    let below = below(pid_of(child));
    let _gone_already = child.kill();
    for pid in below {
        signal(pid, Signal::KILL);
    }
    let _reaped = child.wait();
}

// === impl Running ===

impl Running<'_> {
    /// Servers whose words or variables are not those that were written down.
    fn changed(&self, place: &Place) -> Vec<String> {
        let mut changed = Vec::new();
        for (server, child) in &self.servers {
            let pids = std::iter::once(pid_of(child)).chain(below(pid_of(child)));
            let list = |pid: i32, what: &str| -> Vec<String> {
                let text = fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
                text.split(|byte| *byte == 0)
                    .filter(|word| !word.is_empty())
                    .map(|word| String::from_utf8_lossy(word).into_owned())
                    .collect()
            };
            let same = pids.clone().find(|pid| list(*pid, "cmdline") == server.command);
            let wanted: BTreeSet<String> =
                place.variables(server.name).map(|(name, value)| format!("{name}={value}")).into();
            match same {
                Some(pid) if list(pid, "environ").into_iter().collect::<BTreeSet<_>>() != wanted => {
                    changed.push(format!("{} has other variables: {:?}", server.name, list(pid, "environ")));
                }
                Some(_) => {}
                // It shows a title of its own, over its words and variables.
                None if server.retitles => {}
                None => changed.push(format!("{} does not run with its own words", server.name)),
            }
        }
        changed
    }

    /// Asks every server to end and names those that do not.
    fn stop(&mut self) -> Result<Vec<String>> {
        for (_, child) in &self.servers {
            signal(pid_of(child), Signal::TERM);
        }
        let until = Instant::now() + STOP_DEADLINE;
        let mut left = Vec::new();
        for (server, child) in &mut self.servers {
            while child.try_wait()?.is_none() && Instant::now() < until {
                thread::sleep(LOOK_PERIOD);
            }
            if child.try_wait()?.is_none() {
                left.push(format!("{} did not end within {} s of SIGTERM", server.name, STOP_DEADLINE.as_secs()));
            }
        }
        Ok(left)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        for (_, child) in &mut self.servers {
            end(child);
        }
    }
}

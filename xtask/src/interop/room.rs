//! The way without leno: a network namespace of the unprivileged user's own, in which each service's name means loopback.
//!
//! Names are given by an `/etc/hosts` that only this room sees; the resolver's file there names loopback, where nobody answers, so that nothing asks the world.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::place::{Place, unprivileged};
use super::programs::{self, Server, Talk};
use crate::process::{below, output, run_seeing, show, signal};
use crate::test::Counts;

/// Everything in the room, from entering to leaving.
const ROOM_DEADLINE: Duration = Duration::from_secs(10 * 60);
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How the last line inside the room begins.
pub(crate) const SUMMARY: &str = "interop without leno: ";

/// What makes the room: loopback up, the two files, and no capability left for the programs.
const FURNISH: &str = "ip link set lo up && mount --bind \"$1/hosts\" /etc/hosts && mount --bind \"$1/resolv.conf\" /etc/resolv.conf && shift && exec setpriv --inh-caps=-all \
--ambient-caps=-all -- \"$@\"";

/// Servers that are listening; ended when this is dropped.
pub(crate) struct Running<'a> {
    servers: Vec<(&'a Server, Child)>,
}

/// Runs this tool again, inside the room.
pub(crate) fn enter(place: &Place, only: &[String]) -> Result<Counts> {
    let names: Vec<&str> = programs::servers(place).iter().map(|server| server.name).collect();
    fs::write(place.folder().join("hosts"), format!("127.0.0.1 localhost {}\n", names.join(" ")))?;
    fs::write(place.folder().join("resolv.conf"), "nameserver 127.0.0.1\n")?;
    let mut words = unprivileged()?;
    words.extend("unshare --user --map-current-user --keep-caps --net --mount sh -c".split(' ').map(str::to_owned));
    words.extend([FURNISH.to_owned(), "sh".to_owned(), place.file(""), place.file("xtask")]);
    words.extend(["interop".to_owned(), "--direct".to_owned(), "--inside".to_owned(), place.file("")]);
    if !only.is_empty() {
        words.extend(["--only".to_owned(), only.join(",")]);
    }
    let mut command = place.command("room", &words)?;
    let mut counts = Counts::default();
    let ended_well = run_seeing(command.current_dir("/"), ROOM_DEADLINE, |line| {
        if let Some(summary) = line.strip_prefix(SUMMARY) {
            counts.read_summary(summary);
        }
    })?;
    if !ended_well && counts.failed == 0 {
        counts.fail("the room without leno broke".to_owned());
    }
    Ok(counts)
}

/// Prepares and starts the servers, and waits until each accepts.
pub(crate) fn start<'a>(place: &Place, servers: &'a [Server]) -> Result<Running<'a>> {
    let mut running = Running { servers: Vec::new() };
    for server in servers {
        if !server.prepare.is_empty() {
            output(&mut place.command(server.name, &server.prepare)?)?;
        }
        let mut command = place.command(server.name, &server.command)?;
        let log = fs::File::create(place.folder().join("work").join(format!("{}.log", server.name)))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        running.servers.push((server, command.spawn().with_context(|| show(&command))?));
    }
    let until = Instant::now() + START_DEADLINE;
    for (server, child) in &mut running.servers {
        while TcpStream::connect(("127.0.0.1", server.port)).is_err() {
            if child.try_wait()?.is_some() || Instant::now() > until {
                let log = place.folder().join("work").join(format!("{}.log", server.name));
                bail!("{} does not listen on {}: {}", server.name, server.port, fs::read_to_string(log)?.trim());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(running)
}

/// Runs a conversation to its end; its standard output and whether it ended well.
pub(crate) fn run(place: &Place, talk: &Talk) -> Result<(String, bool)> {
    let mut command = place.command(talk.name, &talk.command)?;
    let output = command.stdin(Stdio::null()).output().with_context(|| show(&command))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        text.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    Ok((text, output.status.success()))
}

// === impl Running ===

impl Running<'_> {
    /// Servers whose command line or environment is another than the one that was written down.
    pub(crate) fn changed(&self) -> Result<Vec<String>> {
        let mut changed = Vec::new();
        for (server, child) in &self.servers {
            let words = fs::read(format!("/proc/{}/cmdline", child.id()))?;
            let words: Vec<String> =
                words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            // Some programs show a title of their own instead of their words.
            if words.first() == server.command.first() && words[..words.len() - 1] != server.command[..] {
                changed.push(format!("{} runs as {words:?}", server.name));
            }
        }
        Ok(changed)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        for (_, child) in &mut self.servers {
            let pid = i32::try_from(child.id()).unwrap_or_default();
            let mut all = below(pid);
            all.push(pid);
            for pid in all {
                signal(pid, Signal::KILL);
            }
            let _reaped = child.wait();
        }
    }
}

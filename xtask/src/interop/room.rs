//! The way without leno: a network namespace of the unprivileged user's own, in which each service's name means loopback.
//!
//! Names are given by an `/etc/hosts` that only this room sees; the resolver's file there names loopback, where nobody answers, so that nothing asks the world.

use std::fs;
use std::net::TcpStream;
use std::time::Duration;

use anyhow::Result;

use super::converse::{Outcome, Way, summary};
use super::place::{Place, unprivileged};
use super::programs::{self, Server, Talk};
use crate::process::run_seeing;

/// Everything in the room, from entering to leaving.
const ROOM_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// What makes the room: loopback up, the two files, and no capability left for the programs.
const FURNISH: &str = "ip link set lo up && mount --bind \"$1/hosts\" /etc/hosts && mount --bind \"$1/resolv.conf\" /etc/resolv.conf && shift && exec setpriv --inh-caps=-all \
--ambient-caps=-all -- \"$@\"";

/// The room, seen from inside.
pub(crate) struct Room;

/// Runs this tool again, inside the room.
pub(crate) fn enter(place: &Place, only: &[String]) -> Result<Outcome> {
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
    let mut outcome = Outcome::default();
    let closing = summary(Room.name());
    let ended_well = run_seeing(command.current_dir("/"), ROOM_DEADLINE, |line| {
        if let Some(numbers) = line.strip_prefix(&closing) {
            outcome.counts.read_summary(numbers);
        } else if line.starts_with('{') {
            outcome.verdicts.push(line.to_owned());
        }
    })?;
    if !ended_well && outcome.counts.failed == 0 {
        outcome.counts.fail("the room without leno broke".to_owned());
    }
    place.empty_data()?;
    Ok(outcome)
}

// === impl Room ===

impl Way for Room {
    fn name(&self) -> &'static str {
        "without leno"
    }

    fn before_preparation(&self) -> Vec<String> {
        Vec::new()
    }

    fn before_server(&self, _: &Server) -> Vec<String> {
        Vec::new()
    }

    fn before_talk(&self, _: &Talk) -> Vec<String> {
        Vec::new()
    }

    fn is_ready(&self, server: &Server) -> bool {
        TcpStream::connect(("127.0.0.1", server.port)).is_ok()
    }

    fn look(&self, _: i32) {}

    fn judge(&self, _: &Talk) -> Vec<String> {
        Vec::new()
    }
}

//! How much of the memory that it may have a process holds.
//!
//! ```text
//! /proc/self/cgroup, mountinfo ─► groups (own one and all above it) ─► limit, use ─┐
//! /proc/self/status, /proc/meminfo ─► own use, what the machine has left ──────────┴─► the fullest of them
//! ```
//!
//! What may be held ends where the first of them ends: the own control group (version 1 or 2), any one above it, the
//! machine, or what a setting says. Of each it is asked which part of *its own and what is left* the process holds, not how
//! full the group is: a program beside the proxy that fills their common group by nine tenths, as virtual machines do, is no
//! pressure as long as the proxy finds room. What the kernel would drop for the asking (files in its cache, but not those that are
//! mapped) is not counted as used. (Rejected: resident memory alone, which has no bound to be compared with; the kernel's pressure stall information,
//! which speaks up when it is late, and which version 1 does not have.)
//!
//! Files come in through [`Files`], whatever is in them: a line that is no line is left out, a number that is none is none.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::groups::{self, Group, Use};

/// So much of a file is read; no file of these that is of use is larger.
const READ_MAX: u64 = 1024 * 1024;
const WHOLE: u64 = 1000;

/// Where the files of the kernel come from.
pub trait Files {
    /// The text of a file.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// The files of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostFiles;

/// What bounds the memory of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// A control group, by its directory.
    Group(PathBuf),
    /// The machine.
    Machine,
    /// A setting.
    Setting,
}

/// What a look has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What the process holds, in bytes.
    pub held: u64,
    /// What it may hold at most, as long as nobody else takes more or less.
    pub most: u64,
    /// What bounds it.
    pub bound: Bound,
}

/// Looks at the memory of this process.
#[derive(Debug)]
pub struct Memory<F> {
    files: F,
    most: Option<u64>,
    /// The groups, and the text by which they were found.
    groups: (String, Vec<Group>),
}

// === impl Files ===

impl Files for HostFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(READ_MAX).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

// === impl Bound ===

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Group(path) => write!(f, "{}", path.display()),
            Self::Machine => f.write_str("machine"),
            Self::Setting => f.write_str("setting"),
        }
    }
}

// === impl Seen ===

impl Seen {
    /// How full it is, in permille.
    pub fn fill(&self) -> u16 {
        let (held, most) = (u128::from(self.held), u128::from(self.most.max(1)));
        u16::try_from(held * u128::from(WHOLE) / most).unwrap_or(u16::MAX).min(WHOLE as u16)
    }

    fn of(held: u64, left: u64, bound: Bound) -> Self {
        Self { held, most: held.saturating_add(left), bound }
    }
}

// === impl Memory ===

impl<F: Files> Memory<F> {
    /// Of this process, whose memory a setting may bound besides.
    pub fn new(files: F, most: Option<u64>) -> Self {
        Self { files, most, groups: (String::new(), Vec::new()) }
    }

    /// What is the fullest now; nothing where the kernel says nothing.
    pub fn look(&mut self) -> Option<Seen> {
        self.find_groups();
        let own = own_use(&self.files.read(Path::new("/proc/self/status")).ok()?)?;
        let uses: Vec<(&Group, Use)> =
            self.groups.1.iter().filter_map(|group| Some((group, group.look(&self.files)?))).collect();
        // Alone in its group, everything there is its own: what the kernel holds for its sockets too.
        let held = match uses.first() {
            Some((group, first)) if self.groups.1.first() == Some(*group) && group.is_of_one(&self.files) => {
                first.used.max(own)
            }
            _ => own,
        };
        let of_groups = uses.iter().map(|(group, of)| {
            Seen::of(held, of.limit.saturating_sub(of.used), Bound::Group(group.directory().to_owned()))
        });
        let of_machine = self.files.read(Path::new("/proc/meminfo")).ok().and_then(|text| left_on_machine(&text));
        let of_machine = of_machine.map(|left| Seen::of(held, left, Bound::Machine));
        let of_setting = self.most.map(|most| Seen { held: own, most, bound: Bound::Setting });
        of_groups.chain(of_machine).chain(of_setting).max_by_key(Seen::fill)
    }

    /// Finds the groups anew when the process was put into others.
    fn find_groups(&mut self) {
        let text = self.files.read(Path::new("/proc/self/cgroup")).unwrap_or_default();
        if text != self.groups.0 {
            let mounts = self.files.read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
            let found = groups::find("memory", &text, &mounts);
            self.groups = (text, found);
        }
    }
}

/// What a process has of its own, and not of files, in bytes, by its `status`.
fn own_use(status: &str) -> Option<u64> {
    let anonymous = kilobytes(status, "RssAnon:").or_else(|| kilobytes(status, "VmRSS:"))?;
    Some(anonymous.saturating_add(kilobytes(status, "RssShmem:").unwrap_or(0)))
}

/// What can be had without swapping, in bytes, by `meminfo`.
fn left_on_machine(meminfo: &str) -> Option<u64> {
    kilobytes(meminfo, "MemAvailable:")
}

/// The bytes in a line `name  123 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests;

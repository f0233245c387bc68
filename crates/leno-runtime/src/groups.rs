//! Control groups: which ones a process is in, and how much memory and time of processors each may have and has.
//!
//! Pure but for the questions to a [`Group`]: text in, what it says out. `/proc/self/cgroup` names a group of each hierarchy, and
//! `mountinfo` where hierarchies are mounted and from which group on (cgroups(7), proc(5)). A controller is of
//! version 1 where a line names it, else of version 2.

use std::path::{Component, Path, PathBuf};

use crate::memory::Files;

/// Deeper ones are not looked at.
const GROUPS_MAX: usize = 32;
/// From so many bytes on a limit is none: version 1 writes the largest number that it has.
const NO_LIMIT: u64 = 1 << 60;

/// A group that may have a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    version: Version,
    directory: PathBuf,
}

/// How much a group may have and has, without what can be had back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) limit: u64,
    pub(crate) used: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where a hierarchy is mounted.
struct Mount {
    /// The group that is its root there.
    root: PathBuf,
    at: PathBuf,
}

/// The groups of a process for a controller, its own one first, then each one above it that can be seen.
pub(crate) fn find(controller: &str, cgroup: &str, mountinfo: &str) -> Vec<Group> {
    let Some((version, group)) = of_controller(controller, cgroup) else { return Vec::new() };
    let Some(mount) = mountinfo.lines().find_map(|line| mount_of(line, version, controller)) else { return Vec::new() };
    let is_plain = group.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // A group outside what is mounted (`/../x`, or another root) has no directory here: what is seen of it is the root.
    let below = group.strip_prefix(&mount.root).ok().filter(|_| is_plain).unwrap_or(Path::new(""));
    let own = mount.at.join(below);
    let directories = own.ancestors().take_while(|directory| directory.starts_with(&mount.at)).take(GROUPS_MAX);
    directories.map(|directory| Group { version, directory: directory.to_owned() }).collect()
}

/// The hierarchy that has a controller, and the group in it.
fn of_controller(controller: &str, cgroup: &str) -> Option<(Version, PathBuf)> {
    let lines = || {
        cgroup.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            Some((parts.next()?, parts.next()?, parts.next()?))
        })
    };
    let absolute = |path: &str| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let one = lines().find(|(_, controllers, _)| controllers.split(',').any(|named| named == controller));
    if let Some((_, _, path)) = one {
        return Some((Version::One, absolute(path)?));
    }
    let (_, _, path) = lines().find(|(id, controllers, _)| *id == "0" && controllers.is_empty())?;
    Some((Version::Two, absolute(path)?))
}

/// The mount that a line of `mountinfo` tells of, if it is of the hierarchy.
fn mount_of(line: &str, version: Version, controller: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let (mut before, mut after) = (before.split(' '), after.split(' '));
    let (root, at) = (before.nth(3)?, before.next()?);
    let (kind, options) = (after.next()?, after.nth(1)?);
    let fits = match version {
        Version::One => kind == "cgroup" && options.split(',').any(|option| option == controller),
        Version::Two => kind == "cgroup2",
    };
    let mount = Mount { root: unescaped(root), at: unescaped(at) };
    (fits && mount.at.is_absolute()).then_some(mount)
}

/// A path of `mountinfo`, in which what would end it is written in octal (`\040`).
fn unescaped(path: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;

    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'\\').then(|| after.get(..3)).flatten().and_then(octal);
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn octal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()))?;
    u8::from_str_radix(text, 8).ok()
}

// === impl Group ===

impl Group {
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it may have and has; none where it has no limit.
    pub(crate) fn look(&self, files: &impl Files) -> Option<Use> {
        let number = |name: &str| number(&files.read(&self.directory.join(name)).ok()?);
        let (limit, used, [inactive, active, mapped]) = match self.version {
            Version::One => {
                let limit = number("memory.limit_in_bytes");
                (limit, "memory.usage_in_bytes", ["total_inactive_file", "total_active_file", "total_mapped_file"])
            }
            Version::Two => {
                // Above `high` a group is slowed down until it stands still.
                let limit = [number("memory.max"), number("memory.high")].into_iter().flatten().min();
                (limit, "memory.current", ["inactive_file", "active_file", "file_mapped"])
            }
        };
        let limit = limit.filter(|limit| *limit < NO_LIMIT)?;
        let used = number(used)?;
        let stat = files.read(&self.directory.join("memory.stat")).unwrap_or_default();
        let value = |name| value_of(&stat, name).unwrap_or(0);
        // Files are dropped for the asking, but those that are mapped: programs, who come to a standstill without their code.
        let files = value(inactive).saturating_add(value(active)).saturating_sub(value(mapped));
        Some(Use { limit, used: used.saturating_sub(files) })
    }

    /// How many processors it may use, if there is a quota.
    pub(crate) fn processor_quota(&self, files: &impl Files) -> Option<f64> {
        let text = |name: &str| files.read(&self.directory.join(name)).ok();
        let (quota, period) = match self.version {
            Version::One => (number(&text("cpu.cfs_quota_us")?)?, number(&text("cpu.cfs_period_us")?)?),
            Version::Two => {
                let text = text("cpu.max")?;
                let (quota, period) = text.trim().split_once(' ')?;
                (number(quota)?, number(period)?)
            }
        };
        (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
    }

    /// How much time of processors it has used, in nanoseconds.
    pub(crate) fn processor_used(&self, files: &impl Files) -> Option<u64> {
        let text = |name: &str| files.read(&self.directory.join(name)).ok();
        match self.version {
            Version::One => number(&text("cpuacct.usage")?),
            Version::Two => value_of(&text("cpu.stat")?, "usage_usec")?.checked_mul(1000),
        }
    }

    /// Whether a single process is in it, which then is who asks.
    pub(crate) fn is_of_one(&self, files: &impl Files) -> bool {
        let processes = files.read(&self.directory.join("cgroup.procs"));
        processes.is_ok_and(|text| text.lines().filter(|line| !line.is_empty()).count() == 1)
    }
}

/// The number of a file that holds one; `max` is none.
fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number behind a name, in lines `name number`.
fn value_of(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    number(rest)
}

//! How much of the processors that it may use a process uses.
//!
//! What may be used ends where the first of them ends: a quota of the own control group (version 1 or 2) or of any one above
//! it, or the processors of the machine. Of a group it is asked how much of its quota all in it use, of the machine how much
//! of it is in use by anybody: whoever has none left answers nobody, whoever uses it up. (Rejected: the machine's load
//! average, which counts who waits for disks, and knows of a storm when it is over.)

use std::path::Path;
use std::time::Duration;

use crate::groups::{self, Group};
use crate::memory::Files;

/// Looks nearer together than this say nothing.
const APART: Duration = Duration::from_millis(50);
const WHOLE: u64 = 1000;

/// Looks at the processors of this process.
#[derive(Debug)]
pub struct Processors<F> {
    files: F,
    /// The groups that may have a quota, with those that count what is used, and the text by which they were found.
    groups: (String, Vec<(Group, Group)>),
    before: Option<Look>,
}

#[derive(Debug, Clone, Default)]
struct Look {
    at: Duration,
    /// What each group had used, in nanoseconds.
    used: Vec<Option<u64>>,
    machine: Option<Ticks>,
}

/// Time of a machine's processors since its start, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

// === impl Processors ===

impl<F: Files> Processors<F> {
    /// Of this process.
    pub fn new(files: F) -> Self {
        Self { files, groups: (String::new(), Vec::new()), before: None }
    }

    /// How much was used since the look before, in permille of what may be, by the one of which most is; nothing at the
    /// first look, and where the kernel says nothing.
    pub fn look(&mut self, now: Duration) -> Option<u16> {
        if self.before.as_ref().is_some_and(|before| now.saturating_sub(before.at) < APART) {
            return None;
        }
        self.find_groups();
        let used = self.groups.1.iter().map(|(_, counts)| counts.processor_used(&self.files)).collect();
        let machine = self.files.read(Path::new("/proc/stat")).ok().and_then(|text| ticks(&text));
        let look = Look { at: now, used, machine };
        let before = self.before.replace(look.clone())?;
        let of_groups = self.groups.1.iter().zip(before.used.iter().zip(&look.used)).filter_map(|((has, _), used)| {
            let processors = has.processor_quota(&self.files)?;
            let used = (*used.1)?.checked_sub((*used.0)?)?;
            let may = (now - before.at).as_nanos() as f64 * processors;
            Some((used as f64 * WHOLE as f64 / may.max(1.0)) as u64)
        });
        let of_machine = before.machine.zip(look.machine).and_then(|(before, now)| {
            let (busy, all) = (now.busy.checked_sub(before.busy)?, now.all.checked_sub(before.all)?);
            u128::from(busy)
                .checked_mul(u128::from(WHOLE))?
                .checked_div(u128::from(all))
                .map(|permille| permille as u64)
        });
        of_groups.chain(of_machine).max().map(|permille| permille.min(WHOLE) as u16)
    }

    /// Finds the groups anew when the process was put into others.
    fn find_groups(&mut self) {
        let text = self.files.read(Path::new("/proc/self/cgroup")).unwrap_or_default();
        if text == self.groups.0 {
            return;
        }
        let mounts = self.files.read(Path::new("/proc/self/mountinfo")).unwrap_or_default();
        let has = groups::find("cpu", &text, &mounts);
        let counts = groups::find("cpuacct", &text, &mounts);
        self.groups = (text, has.into_iter().zip(counts).collect());
        self.before = None;
    }
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, and more of what is busy.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // Time of guests is in that of users already.
    let times: Vec<u64> = line.split_ascii_whitespace().take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let all = times.iter().try_fold(0_u64, |sum, time| sum.checked_add(*time))?;
    let idle = times.get(3)?.checked_add(times.get(4).copied().unwrap_or(0))?;
    Some(Ticks { busy: all.checked_sub(idle)?, all })
}

#[cfg(test)]
mod tests;

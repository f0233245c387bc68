use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Files that a test writes, and writes anew.
#[derive(Default)]
struct Written(RefCell<BTreeMap<PathBuf, String>>);

impl Files for &Written {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.borrow().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Written {
    fn write(&self, path: &str, text: impl ToString) {
        self.0.borrow_mut().insert(path.into(), text.to_string());
    }
}

#[test]
fn of_a_quota_of_version_2_that_part_is_seen_that_is_used() {
    let files = Written::default();
    files.write("/proc/self/cgroup", "0::/a\n");
    files.write("/proc/self/mountinfo", "30 24 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
    files.write("/cg/a/cpu.max", "max 100000\n");
    files.write("/cg/cpu.max", "50000 100000\n");
    files.write("/cg/a/cpu.stat", "usage_usec 7\n");
    files.write("/cg/cpu.stat", "nr_periods 1\nusage_usec 1000000\n");
    let mut processors = Processors::new(&files);
    assert_eq!(processors.look(SECOND), None);
    files.write("/cg/cpu.stat", "usage_usec 1400000\n");
    assert_eq!(processors.look(2 * SECOND), Some(800));
    files.write("/cg/cpu.stat", "usage_usec 9900000\n");
    assert_eq!(processors.look(3 * SECOND), Some(1000));
}

#[test]
fn of_a_quota_of_version_1_too_whose_counts_stand_elsewhere() {
    let files = Written::default();
    files.write("/proc/self/cgroup", "2:cpuacct:/x\n1:cpu:/x\n0::/\n");
    let mounts = "31 24 0:1 / /cpu rw - cgroup cgroup rw,cpu\n32 24 0:2 / /acct rw - cgroup cgroup rw,cpuacct\n";
    files.write("/proc/self/mountinfo", mounts);
    for (name, text) in [("cpu.cfs_quota_us", "200000"), ("cpu.cfs_period_us", "100000")] {
        files.write(&format!("/cpu/x/{name}"), text);
    }
    files.write("/cpu/cpu.cfs_quota_us", "-1");
    files.write("/cpu/cpu.cfs_period_us", "100000");
    files.write("/acct/x/cpuacct.usage", "5");
    let mut processors = Processors::new(&files);
    assert_eq!(processors.look(SECOND), None);
    files.write("/acct/x/cpuacct.usage", "500000005");
    assert_eq!(processors.look(2 * SECOND), Some(250));
}

#[test]
fn without_a_quota_the_machine_is_looked_at() {
    let files = Written::default();
    files.write("/proc/stat", "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3\n");
    let mut processors = Processors::new(&files);
    assert_eq!(processors.look(SECOND), None);
    files.write("/proc/stat", "cpu  160 0 130 705 105 0 0 0 0 0\n");
    assert_eq!(processors.look(SECOND + APART / 2), None);
    assert_eq!(processors.look(2 * SECOND), Some(900));
}

#[test]
fn whatever_the_files_hold_nothing_breaks() {
    let hostile = [
        "",
        "cpu ",
        "cpu x",
        "cpu 1 2",
        "cpu 18446744073709551615 1 1 1 1",
        "0 0",
        "max",
        "-1 0",
        "1 0",
        "1",
        "usage_usec x",
    ];
    for first in hostile {
        for second in hostile {
            let files = Written::default();
            files.write("/proc/self/cgroup", "0::/\n");
            files.write("/proc/self/mountinfo", "30 24 0:26 / /cg rw - cgroup2 cgroup2 rw\n");
            let mut processors = Processors::new(&files);
            for (at, text) in [first, second, first].into_iter().enumerate() {
                ["/cg/cpu.max", "/cg/cpu.stat", "/proc/stat"].iter().for_each(|path| files.write(path, text));
                assert!(processors.look(SECOND * (at as u32 + 1)).is_none_or(|permille| permille <= 1000));
            }
        }
    }
}

#[test]
fn this_machine_is_seen() {
    let mut processors = Processors::new(crate::memory::HostFiles);
    assert_eq!(processors.look(SECOND), None);
    // Its clock ticks a hundred times a second.
    let seen = (2..1_000_000).find_map(|at| processors.look(SECOND * at));
    assert!(seen.is_some_and(|permille| permille <= 1000), "{seen:?}");
}

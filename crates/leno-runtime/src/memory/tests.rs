use std::collections::BTreeMap;

use super::*;

const MIB: u64 = 1024 * 1024;

/// Files that a test has written.
#[derive(Default)]
struct Written(BTreeMap<PathBuf, String>);

impl Written {
    fn with(mut self, path: &str, text: impl ToString) -> Self {
        self.0.insert(path.into(), text.to_string());
        self
    }

    /// A machine with 1,000 MiB left, and a process with 10 MiB of its own.
    fn machine() -> Self {
        Self::default()
            .with(
                "/proc/self/status",
                "Name:\tleno\nVmRSS:\t   40960 kB\nRssAnon:\t    9216 kB\nRssShmem:\t    1024 kB\n",
            )
            .with("/proc/meminfo", "MemTotal:  8192000 kB\nMemAvailable:   1024000 kB\n")
    }

    /// It is in a group of version 2, in a container that sees its own group as the root.
    fn in_two(self, most: &str, used: u64, processes: &str) -> Self {
        let stat = format!("anon 1\nfile_mapped {MIB}\ninactive_file {}\nactive_file {}\n", MIB, 3 * MIB);
        self.with("/proc/self/cgroup", "0::/\n")
            .with("/proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw,nsdelegate\n")
            .with("/sys/fs/cgroup/memory.max", most)
            .with("/sys/fs/cgroup/memory.current", used + 3 * MIB)
            .with("/sys/fs/cgroup/memory.stat", stat)
            .with("/sys/fs/cgroup/cgroup.procs", processes)
    }

    fn seen(self) -> Option<Seen> {
        Memory::new(self, None).look()
    }
}

impl Files for Written {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[test]
fn without_a_group_the_machine_is_the_bound() {
    let seen = Written::machine().seen().unwrap();
    assert_eq!(seen, Seen { held: 10 * MIB, most: 1010 * MIB, bound: Bound::Machine });
    assert_eq!(seen.fill(), 9);
}

#[test]
fn alone_in_its_group_a_process_holds_all_that_is_used_there_but_files() {
    let seen = Written::machine().in_two(&(64 * MIB).to_string(), 48 * MIB, "1\n").seen().unwrap();
    assert_eq!(seen, Seen { held: 48 * MIB, most: 64 * MIB, bound: Bound::Group("/sys/fs/cgroup".into()) });
    assert_eq!(seen.fill(), 750);
}

#[test]
fn a_program_that_fills_the_common_group_is_no_pressure_while_there_is_room() {
    let seen = Written::machine().in_two(&(1000 * MIB).to_string(), 950 * MIB, "1\n7\n").seen().unwrap();
    assert_eq!((seen.held, seen.most, seen.fill()), (10 * MIB, 60 * MIB, 166));
    let full = Written::machine().in_two(&(1000 * MIB).to_string(), 999 * MIB, "1\n7\n").seen().unwrap();
    assert_eq!(full.fill(), 909);
}

#[test]
fn any_group_above_may_be_the_bound_and_in_version_2_what_slows_down_counts_as_one() {
    let files = Written::machine()
        .with("/proc/self/cgroup", "0::/kube.slice/pod.slice/leno.scope\n")
        .with("/proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
        .with("/sys/fs/cgroup/kube.slice/pod.slice/leno.scope/memory.max", "max")
        .with("/sys/fs/cgroup/kube.slice/pod.slice/memory.max", 900 * MIB)
        .with("/sys/fs/cgroup/kube.slice/pod.slice/memory.high", 100 * MIB)
        .with("/sys/fs/cgroup/kube.slice/pod.slice/memory.current", 70 * MIB);
    let seen = files.seen().unwrap();
    assert_eq!(seen.bound, Bound::Group("/sys/fs/cgroup/kube.slice/pod.slice".into()));
    assert_eq!((seen.held, seen.most), (10 * MIB, 40 * MIB));
}

#[test]
fn a_group_of_version_1_is_found_below_the_root_of_its_mount() {
    let files = Written::machine()
        .with("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/docker/ab:cd/leno\n0::/x\n")
        .with(
            "/proc/self/mountinfo",
            "31 24 0:27 /docker/ab:cd /sys/fs/cgroup/my\\040memory rw shared:9 - cgroup cgroup rw,memory\n",
        )
        .with("/sys/fs/cgroup/my memory/memory.limit_in_bytes", 9223372036854771712_u64)
        .with("/sys/fs/cgroup/my memory/leno/memory.limit_in_bytes", 64 * MIB)
        .with("/sys/fs/cgroup/my memory/leno/memory.usage_in_bytes", 60 * MIB)
        .with(
            "/sys/fs/cgroup/my memory/leno/memory.stat",
            format!("total_active_file {}\ntotal_mapped_file {MIB}\n", 29 * MIB),
        )
        .with("/sys/fs/cgroup/my memory/leno/cgroup.procs", "4242\n");
    let seen = files.seen().unwrap();
    assert_eq!(seen.bound, Bound::Group("/sys/fs/cgroup/my memory/leno".into()));
    assert_eq!((seen.held, seen.most), (32 * MIB, 64 * MIB));
}

#[test]
fn a_setting_bounds_what_is_its_own() {
    let seen = Memory::new(Written::machine(), Some(16 * MIB)).look().unwrap();
    assert_eq!(seen, Seen { held: 10 * MIB, most: 16 * MIB, bound: Bound::Setting });
    assert_eq!(Memory::new(Written::machine(), Some(MIB)).look().unwrap().fill(), 1000);
}

#[test]
fn a_process_that_is_put_into_another_group_is_found_there() {
    let mut memory = Memory::new(Written::machine(), None);
    assert_eq!(memory.look().unwrap().bound, Bound::Machine);
    memory.files = Written::machine().in_two(&(64 * MIB).to_string(), MIB, "1\n");
    assert!(matches!(memory.look().unwrap().bound, Bound::Group(_)));
}

#[test]
fn whatever_the_files_hold_nothing_breaks_and_nothing_is_made_up() {
    let hostile = [
        "",
        "\n",
        "max",
        "-1",
        "18446744073709551615",
        "18446744073709551616",
        "1e9",
        "NaN",
        "\u{0}\u{0}",
        ":::",
        "0::",
        "0::relative",
        "0::/../../etc",
        "4:memory:",
        "4:memory:/..",
        "4:memory:/a/../../b",
        " - ",
        "a b c d e - cgroup2 x",
        "1 2 3 / /sys/fs/cgroup rw - cgroup2 c rw",
        "1 2 3 \\999\\04\\ /sys\\ rw - cgroup x memory",
        "RssAnon:",
        "RssAnon: 18446744073709551615 kB",
        "MemAvailable: x kB",
        "inactive_file 99999999999999999999",
        "inactive_file 18446744073709551615\nactive_file 18446744073709551615",
    ];
    let deep = format!("0::{}\n", "/x".repeat(100_000));
    for first in hostile.into_iter().chain([deep.as_str()]) {
        for second in hostile {
            let names = ["memory.max", "memory.high", "memory.current", "memory.stat", "cgroup.procs"];
            let of_groups = |files: Written, text: &str| {
                names.iter().fold(files, |files, name| files.with(&format!("/sys/fs/cgroup/{name}"), text))
            };
            let proc = |files: Written| files.with("/proc/self/cgroup", first).with("/proc/self/mountinfo", second);
            drop(of_groups(proc(Written::machine()), first).seen());
            drop(of_groups(Written::machine().in_two("1", 1, "1"), second).with("/proc/self/status", first).seen());
            let nothing = Written::default().with("/proc/self/status", first).with("/proc/meminfo", second).seen();
            assert!(nothing.is_none_or(|seen| seen.bound == Bound::Machine), "{first:?} {second:?}");
        }
    }
    // A path that leads out of what is mounted is not followed.
    let seen = Written::machine().in_two(&(64 * MIB).to_string(), MIB, "1").with("/proc/self/cgroup", "0::/../../etc");
    assert_eq!(seen.seen().unwrap().bound, Bound::Group("/sys/fs/cgroup".into()));
    let deep = Written::machine().in_two("1", 1, "1").with("/proc/self/cgroup", deep);
    let mut memory = Memory::new(deep, None);
    assert_eq!(memory.look().unwrap().bound, Bound::Machine);
    assert_eq!(memory.groups.1.len(), 32);
}

#[test]
fn this_process_is_seen() {
    let seen = Memory::new(HostFiles, None).look().unwrap();
    assert!(seen.held > 100_000 && seen.most > seen.held, "{seen:?}");
}

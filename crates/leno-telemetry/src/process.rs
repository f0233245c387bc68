//! What the process costs: memory, processor time, descriptors, threads, from `/proc/self`.
//!
//! The names of the metrics are those of Prometheus' own client libraries, so that existing boards show them.

use std::time::Duration;

use leno_model::seam::Timestamp;

use crate::metric::{Kind, Registry};

/// A sample. What cannot be read is 0: a report is no place to fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessStats {
    /// Resident memory.
    pub rss_bytes: u64,
    /// Processor time of all threads since the start.
    pub cpu: Duration,
    /// Open descriptors.
    pub fds: u64,
    /// Descriptors that may be open.
    pub fds_max: u64,
    /// Threads.
    pub threads: u64,
}

/// Adds the process's metrics and `leno_build_info{version}` to a registry; read when they are scraped.
pub fn register(registry: &Registry, version: &str, started: Timestamp) {
    registry.gauge("leno_build_info", "1, with the version as a label.", &[("version", version)]).set(1);
    registry.collector(move |out| {
        let stats = ProcessStats::sample();
        for (name, help, kind, value) in [
            ("process_cpu_seconds_total", "Processor time in seconds.", Kind::Counter, stats.cpu.as_secs_f64()),
            ("process_resident_memory_bytes", "Resident memory.", Kind::Gauge, stats.rss_bytes as f64),
            ("process_open_fds", "Open descriptors.", Kind::Gauge, stats.fds as f64),
            ("process_max_fds", "Descriptors that may be open.", Kind::Gauge, stats.fds_max as f64),
            ("process_threads", "Threads.", Kind::Gauge, stats.threads as f64),
            ("process_start_time_seconds", "Start, seconds since 1970.", Kind::Gauge, started.0 as f64 / 1e3),
        ] {
            out.family(name, help, kind);
            out.sample(name, &[], value);
        }
    });
}

// === impl ProcessStats ===

impl ProcessStats {
    /// Reads the values of this process.
    pub fn sample() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            rss_bytes: field(&status, "VmRSS:") * 1024,
            cpu: Duration::try_from(cpu).unwrap_or_default(),
            fds: open_descriptors(),
            fds_max: limit.current.unwrap_or(u64::MAX),
            threads: field(&status, "Threads:"),
        }
    }
}

/// The number behind `name` in `/proc/self/status`.
fn field(status: &str, name: &str) -> u64 {
    let rest = status.lines().find_map(|line| line.strip_prefix(name));
    rest.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Since Linux 6.2 the size of the folder is the count; before, it is 0 and the entries are counted.
fn open_descriptors() -> u64 {
    match std::fs::metadata("/proc/self/fd") {
        Ok(folder) if folder.len() > 0 => folder.len(),
        _ => std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1) as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Limits;

    #[test]
    fn a_sample_sees_this_process() {
        let stats = ProcessStats::sample();
        assert!(stats.rss_bytes > 100_000 && stats.fds >= 3 && stats.threads >= 1, "{stats:?}");
        assert!(stats.fds <= stats.fds_max && stats.cpu > Duration::ZERO, "{stats:?}");
    }

    #[test]
    fn a_scrape_says_what_the_process_costs() {
        let registry = Registry::new(0, Limits::default());
        register(&registry, "0.1.0", Timestamp(1500));
        let text = registry.render();
        assert!(text.contains("leno_build_info{version=\"0.1.0\"} 1\n"), "{text}");
        assert!(text.contains("process_start_time_seconds 1.5\n"), "{text}");
    }
}

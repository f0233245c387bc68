//! Figures of a case: medians and ranges, ratios within a round, `bench/RESULTS.md` and the line of JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::{Case, goals};
use crate::install;
use crate::process::{output, root, which};

/// What one measurement gave, by name; the unit is the name's last word.
pub(crate) type Sample = BTreeMap<&'static str, f64>;

/// Everything that a case's rounds gave.
pub(crate) struct Figures {
    pub(crate) case: Case,
    /// In the order of the contestants; samples in the order of the rounds.
    samples: Vec<(&'static str, Vec<Sample>)>,
}

/// Order and heading of the columns.
pub(crate) const COLUMNS: &[(&str, &str)] = &[
    ("cpu_us_per_request", "CPU µs/request"),
    ("cpu_us_per_megabyte", "CPU µs/MB"),
    ("cpu_us_per_handshake", "CPU µs/handshake"),
    ("handshakes_per_cpu_second", "handshakes/CPU second"),
    ("instructions_per_request", "instructions/request"),
    ("cpu_growth", "CPU growth"),
    ("rps", "requests/s"),
    ("mb_per_second", "MB/s"),
    ("p50_ms", "p50 ms"),
    ("p99_ms", "p99 ms"),
    ("added_p99_ms", "added p99 ms"),
    ("p99_growth", "p99 growth"),
    ("start_ms", "start ms"),
    ("bytes_per_connection", "bytes/idle connection"),
    ("rss_mb", "RSS MB"),
];

/// One measurement for the eye.
pub(crate) fn line(sample: &Sample) -> String {
    let known =
        COLUMNS.iter().filter_map(|(key, title)| sample.get(key).map(|value| format!("{title} {}", short(*value))));
    known.collect::<Vec<_>>().join(", ")
}

// === impl Figures ===

impl Figures {
    pub(crate) fn new(case: Case, names: impl Iterator<Item = &'static str>) -> Self {
        Figures { case, samples: names.map(|name| (name, Vec::new())).collect() }
    }

    pub(crate) fn add(&mut self, name: &str, mut sample: Sample) {
        // What two proxies add is what is left after the way without them, in the same round where that has been measured.
        let direct = self.of("direct").and_then(|samples| samples.last()).and_then(|sample| sample.get("p99_ms"));
        if let (true, Some(direct), Some(p99)) = (name != "direct", direct, sample.get("p99_ms")) {
            sample.insert("added_p99_ms", p99 - direct);
        }
        if let Some((_, samples)) = self.samples.iter_mut().find(|(one, _)| *one == name) {
            samples.push(sample);
        }
    }

    /// A Markdown table: median and range of each figure, and leno's ratio to each contestant; then what became of the goals.
    pub(crate) fn table(&self) -> String {
        let columns: Vec<_> = COLUMNS
            .iter()
            .filter(|(key, _)| self.samples.iter().any(|(_, samples)| samples.iter().any(|one| one.contains_key(key))))
            .collect();
        let mut text = format!(
            "| | {} | leno's ratio |\n|---|{}\n",
            columns.iter().map(|(_, title)| *title).collect::<Vec<_>>().join(" | "),
            "---:|".repeat(columns.len() + 1)
        );
        for (name, samples) in &self.samples {
            let cells = columns
                .iter()
                .map(|(key, _)| Spread::over(samples, key).map_or_else(|| "–".to_owned(), |spread| spread.show()));
            let ratio = self.ratio(name).map_or_else(|| "–".to_owned(), |ratio| ratio.show());
            let _infallible = writeln!(text, "| {name} | {} | {ratio} |", cells.collect::<Vec<_>>().join(" | "));
        }
        text + &goals::judge(self)
    }

    /// The closing line of `--json`.
    pub(crate) fn json(&self) -> Value {
        let results = self.samples.iter().map(|(name, samples)| {
            let mut result = Map::from_iter([("name".to_owned(), json!(name))]);
            for (key, _) in COLUMNS {
                if let Some(spread) = Spread::over(samples, key) {
                    result.insert((*key).to_owned(), json!(round(spread.median)));
                }
            }
            Value::Object(result)
        });
        let ratios = self
            .samples
            .iter()
            .filter_map(|(name, _)| Some(((*name).to_owned(), json!(round(self.ratio(name)?.median)))));
        json!({"case": self.case_name(), "results": results.collect::<Vec<_>>(), "ratios": Map::from_iter(ratios)})
    }

    /// Replaces this case's section of `bench/RESULTS.md`.
    pub(crate) fn record(&self, profile: &str) -> Result<()> {
        let path = root().join("bench/RESULTS.md");
        let old = fs::read_to_string(&path).unwrap_or_else(|_| PREAMBLE.to_owned());
        let section = format!("## {}\n\n{}\n{}", self.case_name(), provenance(profile)?, self.table());
        fs::write(&path, replace_section(&old, &self.case_name(), &section))?;
        println!("written to bench/RESULTS.md");
        Ok(())
    }

    fn case_name(&self) -> String {
        self.case.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn of(&self, name: &str) -> Option<&Vec<Sample>> {
        self.samples.iter().find(|(one, _)| *one == name).map(|(_, samples)| samples)
    }

    /// A contestant's figure over all rounds.
    pub(crate) fn spread(&self, name: &str, key: &str) -> Option<Spread> {
        Spread::over(self.of(name)?, key)
    }

    /// leno's main figure over the contestant's, round by round.
    pub(crate) fn ratio(&self, name: &str) -> Option<Spread> {
        let key = match self.case {
            Case::Idle | Case::IdleTls | Case::IdleHttp2 => "bytes_per_connection",
            Case::Start => "start_ms",
            Case::Large | Case::TlsLarge => "cpu_us_per_megabyte",
            Case::Tls | Case::TlsResumed => "cpu_us_per_handshake",
            Case::Fair => "p99_ms",
            Case::Policy => "instructions_per_request",
            Case::Tcp | Case::Http1 | Case::Http2 | Case::Mesh | Case::Connections => "cpu_us_per_request",
        };
        let pairs = self.of("leno")?.iter().zip(self.of(name).filter(|_| name != "leno" && name != "direct")?);
        Spread::of(
            pairs.filter_map(|(ours, theirs)| Some(ours.get(key)? / theirs.get(key).filter(|value| **value > 0.0)?)),
        )
    }
}

/// Median and range.
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => (values.get(middle)? + values.get(middle.checked_sub(1)?)?) / 2.0,
        };
        Some(Spread { median, least: *values.first()?, most: *values.last()? })
    }

    fn over(samples: &[Sample], key: &str) -> Option<Self> {
        Self::of(samples.iter().filter_map(|sample| sample.get(key).copied()))
    }

    fn show(&self) -> String {
        format!("{} ({}–{})", short(self.median), short(self.least), short(self.most))
    }
}

const PREAMBLE: &str = "# Measurements\n\nWritten by `cargo xtask bench CASE`, one section a case; median (range) of interleaved rounds. `leno's ratio` is leno's main figure (CPU per request, bytes per connection, \
and so on) over that contestant's, taken round by round. What is compared, and how, stands in `bench/README.md`.\n";

/// When, where and of what the figures are.
fn provenance(profile: &str) -> Result<String> {
    let ask = |program: &str, arguments: &[&str]| {
        output(Command::new(program).args(arguments).current_dir(root())).unwrap_or_default().trim().to_owned()
    };
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    // Of the machine: this thread is pinned to one of them.
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let cpu = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |line| line.trim_start_matches([' ', '\t', ':']));
    let changed = if ask("git", &["status", "--porcelain", "--", "crates", "Cargo.toml", "Cargo.lock"]).is_empty() {
        ""
    } else {
        ", with uncommitted changes"
    };
    Ok(format!(
        "{}, leno {}{changed} ({profile}), {}, Linux {}, {cpu}, {cores} cores.\n",
        ask("date", &["-u", "+%F"]),
        ask("git", &["rev-parse", "--short", "HEAD"]),
        peers().join(", "),
        ask("uname", &["-r"]),
    ))
}

fn peers() -> Vec<String> {
    let first_number = |name: &str, text: String| {
        let number = text
            .split([' ', '/', '\n', ','])
            .find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()) && word.contains('.'));
        format!("{name} {}", number.unwrap_or("of unknown version"))
    };
    let debian = |package: &str| {
        output(Command::new("dpkg-query").args(["-W", "-f", "${Version}", package])).unwrap_or_default()
    };
    let mut all: Vec<String> = ["haproxy", "nginx", "wrk", "nghttp2-client"]
        .iter()
        .filter(|_| which("dpkg-query").is_some())
        .map(|name| first_number(name, debian(name)))
        .collect();
    let envoy = install::envoy().and_then(|path| output(Command::new(path).arg("--version"))).unwrap_or_default();
    // `PATH version: COMMIT/1.40.0/Clean/…`
    let version = envoy.split_once("version: ").and_then(|(_, version)| version.split('/').nth(1));
    all.push(format!("envoy {}", version.unwrap_or("of unknown version")));
    all
}

/// The text with one `## name` section replaced, or added at its end.
fn replace_section(text: &str, name: &str, section: &str) -> String {
    let heading = format!("## {name}\n");
    let mut parts: Vec<String> = Vec::new();
    for line in text.split_inclusive('\n') {
        if line.starts_with("## ") || parts.is_empty() {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push_str(line);
        }
    }
    match parts.iter_mut().find(|part| part.starts_with(&heading)) {
        Some(part) => section.clone_into(part),
        None => parts.push(section.to_owned()),
    }
    let parts: Vec<&str> = parts.iter().map(|part| part.trim_end()).collect();
    parts.join("\n\n") + "\n"
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Three significant digits or so.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ranges_are_taken() {
        let odd = Spread::of([3.0, 1.0, 2.0].into_iter()).unwrap();
        assert_eq!((odd.median, odd.least, odd.most), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of([1.0, 2.0].into_iter()).unwrap().median, 1.5);
        assert!(Spread::of([].into_iter()).is_none());
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut figures = Figures::new(Case::Http1, ["leno", "haproxy"].into_iter());
        for (ours, theirs) in [(10.0, 20.0), (30.0, 40.0), (8.0, 10.0)] {
            figures.add("leno", Sample::from([("cpu_us_per_request", ours)]));
            figures.add("haproxy", Sample::from([("cpu_us_per_request", theirs)]));
        }
        assert_eq!(figures.json()["ratios"], json!({"haproxy": 0.75}));
    }

    #[test]
    fn a_section_is_replaced_and_the_others_are_kept() {
        let text = "# Title\n\nwords\n\n## tcp\n\nold\n\n## http1\n\nkept\n";
        assert_eq!(
            replace_section(text, "tcp", "## tcp\n\nnew\n"),
            "# Title\n\nwords\n\n## tcp\n\nnew\n\n## http1\n\nkept\n"
        );
        assert_eq!(replace_section("# Title\n", "tcp", "## tcp\n"), "# Title\n\n## tcp\n");
    }
}

//! What the figures have to be: ratios to a contestant, and sizes that mean the same on every machine.

use super::Case;
use super::report::{COLUMNS, Figures, short};

enum Goal {
    /// leno's main figure over the contestant's.
    Ratio(Case, &'static str, f64),
    /// A figure of leno, or of leno as a gateway.
    Size(Case, &'static str, &'static str, f64),
}

const GOALS: &[Goal] = &[
    Goal::Ratio(Case::Http1, "haproxy", 0.95),
    Goal::Ratio(Case::Http1, "envoy", 0.33),
    Goal::Ratio(Case::Http1, "tcp-copy", 1.25),
    Goal::Ratio(Case::Http2, "haproxy", 1.3),
    Goal::Ratio(Case::Http2, "envoy", 0.3),
    Goal::Ratio(Case::Large, "haproxy", 1.1),
    Goal::Ratio(Case::Tls, "haproxy", 1.0),
    Goal::Size(Case::Idle, "leno", "bytes_per_connection", 1_500.0),
    Goal::Size(Case::Idle, "gateway", "bytes_per_connection", 1_500.0),
    Goal::Size(Case::Idle, "leno", "rss_mb", 12.0),
    Goal::Size(Case::Idle, "gateway", "rss_mb", 12.0),
    Goal::Size(Case::IdleTls, "leno", "bytes_per_connection", 16_000.0),
    Goal::Size(Case::IdleHttp2, "leno", "bytes_per_connection", 20_000.0),
    Goal::Ratio(Case::Policy, "plain", 1.05),
    Goal::Size(Case::Connections, "leno", "p99_growth", 2.0),
];

/// A sentence on the goals of the case, empty when it has none or nobody to compare took part.
pub(crate) fn judge(figures: &Figures) -> String {
    let judged: Vec<String> = GOALS.iter().filter_map(|goal| goal.judge(figures)).collect();
    if judged.is_empty() { String::new() } else { format!("\nGoals: {}.\n", judged.join("; ")) }
}

// === impl Goal ===

impl Goal {
    fn judge(&self, figures: &Figures) -> Option<String> {
        let (words, is, at_most) = match self {
            Goal::Ratio(case, name, at_most) if *case == figures.case => {
                (format!("{at_most} × {name}"), figures.ratio(name)?.median, *at_most)
            }
            Goal::Size(case, name, key, at_most) if *case == figures.case => {
                let (_, title) = COLUMNS.iter().find(|(column, _)| column == key)?;
                (format!("{at_most} {title} of {name}"), figures.spread(name, key)?.median, *at_most)
            }
            _ => return None,
        };
        Some(format!("at most {words}: {} ({})", if is <= at_most { "held" } else { "missed" }, short(is)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::Sample;

    #[test]
    fn a_goal_is_held_or_missed_by_the_median() {
        let mut figures = Figures::new(Case::Tls, ["leno", "haproxy"].into_iter());
        assert_eq!(judge(&figures), "");
        for (ours, theirs) in [(10.0, 20.0), (30.0, 20.0), (9.0, 10.0)] {
            figures.add("leno", Sample::from([("cpu_us_per_handshake", ours)]));
            figures.add("haproxy", Sample::from([("cpu_us_per_handshake", theirs)]));
        }
        assert_eq!(judge(&figures), "\nGoals: at most 1 × haproxy: held (0.90).\n");
        for _ in 0..4 {
            figures.add("leno", Sample::from([("cpu_us_per_handshake", 21.0)]));
            figures.add("haproxy", Sample::from([("cpu_us_per_handshake", 20.0)]));
        }
        assert_eq!(judge(&figures), "\nGoals: at most 1 × haproxy: missed (1.05).\n");
    }
}

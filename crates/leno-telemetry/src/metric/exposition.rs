//! The Prometheus text format, version 0.0.4: what `/metrics` answers.
//!
//! Samples of a family stand together behind its `# HELP` and `# TYPE`. Help texts and label values are escaped as the
//! format says, other control characters are replaced, so that a value from outside stays inside its quotes.

use std::fmt::Write as _;

use super::histogram::{HistogramSnapshot, Unit};

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

/// Labels as text, for series that share them.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LabelText(String);

/// Text under way.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

// === impl Exposition ===

impl Exposition {
    /// The content type of the text.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins a family.
    pub fn family(&mut self, name: &str, help: &str, kind: Kind) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.text.push_str("# HELP ");
        self.text.push_str(name);
        self.text.push(' ');
        for c in help.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                c if c.is_control() => self.text.push(' '),
                c => self.text.push(c),
            }
        }
        let _ = write!(self.text, "\n# TYPE {name} {kind}\n");
    }

    /// One sample.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.line(name, "", &LabelText::default(), labels, value);
    }

    /// The samples of one histogram.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], snapshot: &HistogramSnapshot, unit: Unit) {
        self.histogram_of(name, &LabelText::new(labels), snapshot, unit);
    }

    /// As [`Exposition::sample`], with labels that were made text before and some more.
    pub(crate) fn sample_of(&mut self, name: &str, labels: &LabelText, more: &[(&str, &str)], value: f64) {
        self.line(name, "", labels, more, value);
    }

    pub(crate) fn histogram_of(&mut self, name: &str, labels: &LabelText, snapshot: &HistogramSnapshot, unit: Unit) {
        for (bound, text) in unit.bounds().iter().zip(unit.bound_texts()) {
            let up_to = snapshot.count_up_to(bound * unit.microseconds());
            self.line(name, "_bucket", labels, &[("le", text)], up_to as f64);
        }
        self.summed_of(name, labels, snapshot.sum_us as f64 / unit.microseconds(), snapshot.count());
    }

    /// A histogram of which only sum and count were kept.
    pub(crate) fn summed_of(&mut self, name: &str, labels: &LabelText, sum: f64, count: u64) {
        self.line(name, "_bucket", labels, &[("le", "+Inf")], count as f64);
        self.line(name, "_sum", labels, &[], sum);
        self.line(name, "_count", labels, &[], count as f64);
    }

    /// The text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn line(&mut self, name: &str, suffix: &str, labels: &LabelText, more: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        self.text.push_str(suffix);
        if !labels.0.is_empty() || !more.is_empty() {
            self.text.push('{');
            self.text.push_str(&labels.0);
            if !labels.0.is_empty() && !more.is_empty() {
                self.text.push(',');
            }
            write_labels(more, &mut self.text);
            self.text.push('}');
        }
        self.value(value);
    }

    fn value(&mut self, value: f64) {
        self.text.push(' ');
        if value == f64::INFINITY {
            self.text.push_str("+Inf");
        } else if value == f64::NEG_INFINITY {
            self.text.push_str("-Inf");
        } else if value.fract() == 0.0 && value.abs() < 9e15 {
            self.text.push_str(itoa::Buffer::new().format(value as i64));
        } else {
            let _ = write!(self.text, "{value}");
        }
        self.text.push('\n');
    }
}

// === impl LabelText ===

impl LabelText {
    pub(crate) fn new(labels: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        write_labels(labels, &mut text);
        Self(text)
    }
}

fn write_labels(labels: &[(&str, &str)], out: &mut String) {
    for (n, (name, value)) in labels.iter().enumerate() {
        debug_assert!(is_name(name), "{name:?} is not a label name");
        if n > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        escape_label(value, out);
        out.push('"');
    }
}

/// Whether `name` is a name of metrics and labels: `[a-zA-Z_][a-zA-Z0-9_]*`.
pub(super) fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(inner)
}

/// As the format says for label values; what else is a control character becomes U+FFFD.
fn escape_label(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

//! What the demo says: lines for people, or one JSON object a line.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use owo_colors::OwoColorize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::commands::{Exit, Failure};
use crate::output::clean;

/// Something that the demo says is so, and what was measured.
#[derive(Debug, Clone)]
pub struct Claim {
    /// A short name: `canary-50`.
    pub id: &'static str,
    /// The claim.
    pub text: String,
    /// Whether the measurement bears it out.
    pub held: bool,
    /// The measurement.
    pub measured: String,
}

/// Says things on standard output.
pub struct Tell {
    json: bool,
    started: Instant,
}

// === impl Tell ===

impl Tell {
    /// For people, or for machines.
    pub fn new(json: bool, started: Instant) -> Self {
        Self { json, started }
    }

    /// A step of the story begins.
    pub fn step(&self, number: usize, title: &str) -> Result<(), Failure> {
        if self.json {
            return self.object("step", json!({"step": number, "title": title}));
        }
        put(&format!("\n{} {} {}\n", self.time(), format_args!("{number}.").cyan().bold(), title.bold()))
    }

    /// Something that happened; `data` is for machines.
    pub fn note(&self, text: &str, data: Value) -> Result<(), Failure> {
        if self.json {
            let mut object = json!({"text": text});
            if let (Value::Object(object), Value::Object(data)) = (&mut object, data) {
                object.extend(data);
            }
            return self.object("note", object);
        }
        let mut lines = String::new();
        for (index, line) in clean(text).lines().enumerate() {
            let time = if index == 0 { self.time() } else { " ".repeat(TIME_WIDTH) };
            let _ = writeln!(lines, "{time}    {line}");
        }
        put(&lines)
    }

    /// A claim and whether it held.
    pub fn claim(&self, claim: &Claim) -> Result<(), Failure> {
        if self.json {
            return self.object("claim", object_of(claim));
        }
        put(&format!("{}    {}\n", self.time(), words(claim, TIME_WIDTH + 4)))
    }

    /// The end.
    pub fn summary(&self, claims: &[Claim], held: bool, totals: &Value) -> Result<(), Failure> {
        if self.json {
            let mut object = json!({"held": held, "claims": claims.iter().map(object_of).collect::<Vec<_>>()});
            if let (Value::Object(object), Value::Object(totals)) = (&mut object, totals) {
                object.extend(totals.clone());
            }
            return self.object("summary", object);
        }
        let mut text = format!("\n{}\n", "Summary".bold());
        for claim in claims {
            let _ = writeln!(text, "  {}", words(claim, 2));
        }
        for cause in totals["causes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let _ = writeln!(text, "  a failure: {}", clean(cause));
        }
        let held_count = claims.iter().filter(|claim| claim.held).count();
        let cut = if totals["complete"] == json!(true) { "" } else { ", and the story was not told to its end" };
        let _ = writeln!(text, "{held_count} of {} claims held{cut}", claims.len());
        put(&text)
    }

    fn object(&self, event: &str, mut object: Value) -> Result<(), Failure> {
        object["event"] = json!(event);
        object["seconds"] = json!((self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0);
        put(&format!("{object}\n"))
    }

    fn time(&self) -> String {
        format!("{:>width$.1} s", self.started.elapsed().as_secs_f64(), width = TIME_WIDTH - 2)
    }
}

/// How wide the time is that lines begin with.
const TIME_WIDTH: usize = 8;
/// How wide the mark of a claim is.
const MARK_WIDTH: usize = 8;

/// The claim, and under it the measurement.
fn words(claim: &Claim, indent: usize) -> String {
    let mark = if claim.held { "held    ".green().to_string() } else { "NOT HELD".red().bold().to_string() };
    let indent = " ".repeat(indent + MARK_WIDTH + 1);
    format!("{mark} {}\n{indent}{}", claim.text, clean(&claim.measured).dimmed())
}

fn object_of(claim: &Claim) -> Value {
    json!({"claim": claim.id, "text": claim.text, "held": claim.held, "measured": claim.measured})
}

/// Writes to standard output. Nobody reads any more: the demo is over.
fn put(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written
        .map_err(|error: io::Error| Failure::new(Exit::No, format!("standard output: {error}"), "read it to its end"))
}

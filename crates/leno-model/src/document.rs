//! Text to resources: YAML (one or more documents) or JSON, with the place of every value kept, so that each fault
//! names file, line, column and path.
//!
//! ```text
//! text ─ tree ─► JSON value + spans ─ decode ─► Written { resource, value, spans }      value ─ emit ─► YAML text
//!            └────────── faults ──────────┘
//! ```
//!
//! The events of the YAML parser are read by an own builder rather than by a serde front end, because the limits
//! (1 MiB, 64 levels, 10,000 values a document), the refusal of anchors, tags and double keys, and the places belong to
//! the tree and not to a type. JSON goes the same way, being a part of YAML 1.2. Anchors and aliases are refused and
//! never expanded, so that text cannot grow. All faults of a text are collected.

mod decode;
mod emit;
mod tree;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

pub use self::decode::resource_from_value;
pub use self::emit::to_yaml;

use crate::fault::{Fault, FaultClass, Severity};
use crate::resource::Resource;

/// The longest text of resources, 1 MiB.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// The deepest nesting of mappings and lists.
pub const DEPTH_MAX: usize = 64;

/// The most values in one document.
pub const NODES_MAX: usize = 10_000;

/// The most faults reported for one text; what follows the first hundred helps nobody.
pub const FAULTS_MAX: usize = 100;

/// A resource with the text it was written as.
#[derive(Debug, Clone)]
pub struct Written {
    /// What it says.
    pub resource: Resource,
    /// The same as it was written, without defaults.
    pub value: Value,
    /// The file it stands in.
    pub file: Arc<str>,
    /// Where its values stand.
    pub spans: Spans,
}

/// What was read from one or more texts.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// The resources that could be read.
    pub resources: Vec<Written>,
    /// What is wrong with the others, and warnings.
    pub faults: Vec<Fault>,
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// The places of the values of one document.
#[derive(Debug, Clone, Default)]
pub struct Spans {
    places: BTreeMap<String, Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    key: Place,
    value: Place,
}

/// Reads the resources of a text. `file` is how faults call it.
pub fn parse(file: &str, text: &str) -> Parsed {
    let file: Arc<str> = file.into();
    let mut parsed = Parsed::default();
    for document in tree::read(&file, text, &mut parsed.faults) {
        decode::decode(&file, document, &mut parsed);
        if parsed.faults.len() >= FAULTS_MAX {
            break;
        }
    }
    parsed.faults.truncate(FAULTS_MAX);
    parsed
}

/// As [`parse`], for bytes that may not be text.
pub fn parse_bytes(file: &str, bytes: &[u8]) -> Parsed {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(file, text),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|b| **b == b'\n').count() as u32;
            let column = 1 + before.iter().rev().take_while(|b| **b != b'\n').count() as u32;
            let message = format!("byte {} is not UTF-8", error.valid_up_to());
            let fix = "save the file as UTF-8 text";
            let place = Place { line, column };
            Parsed {
                resources: Vec::new(),
                faults: vec![fault(&file.into(), place, FaultClass::Encoding, "", message, fix)],
            }
        }
    }
}

/// Reads a text that is one value and no resource, such as a settings file. An empty text is an empty object.
pub fn parse_value(file: &str, text: &str) -> Result<serde_json::Value, Fault> {
    let mut faults = Vec::new();
    let documents = tree::read(&file.into(), text, &mut faults);
    match faults.into_iter().next() {
        Some(fault) => Err(fault),
        None => Ok(documents.into_iter().next().map_or_else(|| serde_json::json!({}), |document| document.value)),
    }
}

/// Reads the documents of a text as plain values, under the same limits: for files that hold no resources.
pub fn values(file: &str, text: &str) -> (Vec<Value>, Vec<Fault>) {
    let mut faults = Vec::new();
    let documents = tree::read(&file.into(), text, &mut faults);
    (documents.into_iter().map(|document| document.value).collect(), faults)
}

/// As [`values`], with the places of the values of each document.
pub fn placed_values(file: &str, text: &str) -> (Vec<(Value, Spans)>, Vec<Fault>) {
    let mut faults = Vec::new();
    let documents = tree::read(&file.into(), text, &mut faults);
    (documents.into_iter().map(|document| (document.value, document.spans)).collect(), faults)
}

/// Reads several texts as one set.
pub fn parse_set<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Parsed {
    let mut set = Parsed::default();
    for (file, bytes) in files {
        let Parsed { resources, faults } = parse_bytes(file, bytes);
        set.resources.extend(resources);
        set.faults.extend(faults);
    }
    set
}

fn fault(
    file: &Arc<str>,
    place: Place,
    class: FaultClass,
    path: &str,
    message: impl Into<String>,
    fix: impl Into<String>,
) -> Fault {
    Fault {
        severity: Severity::Error,
        class,
        file: file.clone(),
        line: place.line,
        column: place.column,
        path: path.to_owned(),
        message: message.into(),
        fix: fix.into(),
    }
}

/// `path` and one more key: `spec` and `rules` give `spec.rules`; a key that is no plain word is put in brackets.
pub fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match (path.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => format!("{path}[{key:?}]"),
    }
}

// === impl Spans ===

impl Spans {
    /// Where the value at `path` stands; that of the nearest value around it where it was not written.
    pub fn value(&self, path: &str) -> Place {
        self.find(path).map(|(span, _)| span.value).unwrap_or_default()
    }

    /// Where the key at `path` stands.
    pub fn key(&self, path: &str) -> Place {
        self.find(path).map(|(span, exact)| if exact { span.key } else { span.value }).unwrap_or_default()
    }

    /// Whether a value stands at `path`.
    pub fn contains(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    fn find(&self, path: &str) -> Option<(Span, bool)> {
        let (mut at, mut exact) = (path, true);
        loop {
            if let Some(span) = self.places.get(at) {
                return Some((*span, exact));
            }
            if at.is_empty() {
                return None;
            }
            exact = false;
            at = &at[..at.rfind(['.', '[']).unwrap_or(0)];
        }
    }

    fn insert(&mut self, path: String, key: Place, value: Place) {
        self.places.insert(path, Span { key, value });
    }
}

// === impl Written ===

impl Written {
    /// Where the resource begins.
    pub fn place(&self) -> Place {
        self.spans.value("")
    }

    /// A fault at the value of `path`.
    pub fn fault(&self, class: FaultClass, path: &str, message: impl Into<String>, fix: impl Into<String>) -> Fault {
        fault(&self.file, self.spans.value(path), class, path, message, fix)
    }

    /// A warning at the value of `path`.
    pub fn warning(&self, class: FaultClass, path: &str, message: impl Into<String>, fix: impl Into<String>) -> Fault {
        Fault { severity: Severity::Warning, ..self.fault(class, path, message, fix) }
    }
}

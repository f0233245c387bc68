//! YAML events to JSON values with the place of each, under limits.

use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

use super::{DEPTH_MAX, NODES_MAX, Place, Spans, TEXT_BYTES_MAX, fault, join};
use crate::fault::{Fault, FaultClass};

/// One document of a text.
pub(super) struct Document {
    pub(super) value: Value,
    pub(super) spans: Spans,
}

/// A mapping or list that is not complete yet.
struct Open {
    path: String,
    key: Place,
    begin: Place,
    content: Content,
}

enum Content {
    List(Vec<Value>),
    Mapping { entries: Map<String, Value>, key: Option<(String, Place)> },
}

struct Builder<'a> {
    file: &'a Arc<str>,
    faults: &'a mut Vec<Fault>,
    open: Vec<Open>,
    spans: Spans,
    root: Option<Value>,
    nodes: usize,
    /// Set by a fault that makes the rest of the document unreadable.
    spoiled: bool,
}

/// The documents of `text`; those that are empty or spoiled are left out, and the rest of a text after a syntax error.
pub(super) fn read(file: &Arc<str>, text: &str, faults: &mut Vec<Fault>) -> Vec<Document> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("{} bytes of text, at most {TEXT_BYTES_MAX} are read", text.len());
        faults.push(fault(file, Place::default(), FaultClass::TooLarge, "", message, "split it into several files"));
        return Vec::new();
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut documents = Vec::new();
    let mut builder =
        Builder { file, faults, open: Vec::new(), spans: Spans::default(), root: None, nodes: 0, spoiled: false };
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                builder.syntax(error.info(), place(error.marker()));
                return documents;
            }
        };
        let at = place(&span.start);
        match event {
            Event::DocumentStart(_) => builder.restart(),
            Event::DocumentEnd => {
                if let Some(document) = builder.finish() {
                    documents.push(document);
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                builder.refuse_extras(anchor, tag.as_deref(), at);
                let text_tag = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
                builder.scalar(&text, style, text_tag, at);
            }
            Event::SequenceStart(anchor, tag) => {
                builder.refuse_extras(anchor, tag.as_deref(), at);
                builder.begin(Content::List(Vec::new()), at);
            }
            Event::MappingStart(anchor, tag) => {
                builder.refuse_extras(anchor, tag.as_deref(), at);
                builder.begin(Content::Mapping { entries: Map::new(), key: None }, at);
            }
            Event::SequenceEnd | Event::MappingEnd => builder.end(),
            Event::Alias(_) => {
                builder.spoil(
                    FaultClass::Anchor,
                    at,
                    "an alias",
                    "write the value out: anchors and aliases are not read",
                );
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
        }
    }
    documents
}

fn place(mark: &Marker) -> Place {
    Place { line: mark.line() as u32, column: mark.col() as u32 + 1 }
}

/// A plain scalar by the core schema of YAML 1.2: `yes`, `no`, `on` and `off` are text.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    if !numeric {
        return Value::String(text.to_owned());
    }
    let digits = text.strip_prefix('+').unwrap_or(text);
    let whole = if let Some(octal) = digits.strip_prefix("0o") {
        i64::from_str_radix(octal, 8).ok().map(Number::from)
    } else if let Some(hexadecimal) = digits.strip_prefix("0x") {
        i64::from_str_radix(hexadecimal, 16).ok().map(Number::from)
    } else {
        digits.parse::<i64>().map(Number::from).or_else(|_| digits.parse::<u64>().map(Number::from)).ok()
    };
    if let Some(number) = whole {
        return Value::Number(number);
    }
    let float_like = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
        && digits.bytes().any(|b| b.is_ascii_digit());
    let float = float_like.then(|| digits.parse::<f64>().ok()).flatten().and_then(Number::from_f64);
    float.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

// === impl Builder ===

impl Builder<'_> {
    fn restart(&mut self) {
        self.open.clear();
        self.spans = Spans::default();
        self.root = None;
        self.nodes = 0;
        self.spoiled = false;
    }

    fn finish(&mut self) -> Option<Document> {
        let value = self.root.take().filter(|value| !self.spoiled && !value.is_null())?;
        Some(Document { value, spans: std::mem::take(&mut self.spans) })
    }

    /// The path of the value that comes next, and the place of its key.
    fn next(&self, at: Place) -> (String, Place) {
        match self.open.last() {
            None => (String::new(), at),
            Some(Open { path, content: Content::List(items), .. }) => (format!("{path}[{}]", items.len()), at),
            Some(Open { path, content: Content::Mapping { key, .. }, .. }) => match key {
                Some((key, place)) => (join(path, key), *place),
                None => (path.clone(), at),
            },
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { content: Content::Mapping { key: None, .. }, .. }))
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, text_tag: bool, at: Place) {
        if self.spoiled {
            return;
        }
        let value = match style {
            ScalarStyle::Plain if !text_tag => resolve(text),
            _ => Value::String(text.to_owned()),
        };
        if self.expects_key() {
            // A number or `true` as a key is taken as its text, as JSON would have it.
            let key = if value.is_null() && text.is_empty() { None } else { Some(text.to_owned()) };
            self.key(key, at);
        } else {
            let (path, key) = self.next(at);
            self.value(value, path, key, at);
        }
    }

    fn key(&mut self, text: Option<String>, at: Place) {
        let Some(text) = text else {
            return self.spoil(FaultClass::KeyNotText, at, "an empty key", "write `key: value`");
        };
        if text == "<<" {
            return self.spoil(
                FaultClass::Anchor,
                at,
                "a merge key",
                "write the values out: anchors and aliases are not read",
            );
        }
        let Some(Open { path, content: Content::Mapping { entries, key }, .. }) = self.open.last_mut() else { return };
        if entries.contains_key(&text) {
            let path = join(path, &text);
            let first = self.spans.key(&path);
            let message = format!("`{text}` stands twice, first in line {}", first.line);
            self.faults.push(fault(self.file, at, FaultClass::DuplicateKey, &path, message, "keep one of the two"));
            self.spoiled = true;
            return;
        }
        *key = Some((text, at));
    }

    fn value(&mut self, value: Value, path: String, key_place: Place, at: Place) {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let message = format!("a document of more than {NODES_MAX} values");
            return self.spoil(FaultClass::TooManyNodes, at, &message, "split it into several resources");
        }
        self.spans.insert(path, key_place, at);
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(value),
            Some(Content::List(items)) => items.push(value),
            Some(Content::Mapping { entries, key }) => {
                if let Some((key, _)) = key.take() {
                    entries.insert(key, value);
                }
            }
        }
    }

    fn begin(&mut self, content: Content, at: Place) {
        if self.spoiled {
            return;
        }
        if self.expects_key() {
            return self.spoil(
                FaultClass::KeyNotText,
                at,
                "a key that is a mapping or a list",
                "write a plain word as the key",
            );
        }
        if self.open.len() >= DEPTH_MAX {
            let message = format!("more than {DEPTH_MAX} levels of nesting");
            return self.spoil(
                FaultClass::TooDeep,
                at,
                &message,
                "no resource is nested so deeply: check the indentation",
            );
        }
        let (path, key) = self.next(at);
        // The place of a mapping or list stands before its content's, so that a fault inside finds the nearest one.
        self.spans.insert(path.clone(), key, at);
        self.open.push(Open { path, key, begin: at, content });
    }

    fn end(&mut self) {
        if self.spoiled {
            return;
        }
        if let Some(Open { path, key, begin, content }) = self.open.pop() {
            let value = match content {
                Content::List(items) => Value::Array(items),
                Content::Mapping { entries, .. } => Value::Object(entries),
            };
            self.value(value, path, key, begin);
        }
    }

    fn refuse_extras(&mut self, anchor: usize, tag: Option<&saphyr_parser::Tag>, at: Place) {
        if anchor != 0 {
            self.spoil(FaultClass::Anchor, at, "an anchor", "write the value out: anchors and aliases are not read");
        }
        if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && tag.suffix == "str")) {
            let message = format!("the tag `{tag}`");
            self.spoil(FaultClass::Tag, at, &message, "remove it: values have the type of their field");
        }
    }

    /// Reports what makes the rest of the document unreadable, once.
    fn spoil(&mut self, class: FaultClass, at: Place, message: &str, fix: &str) {
        if !self.spoiled {
            let (path, _) = self.next(at);
            self.faults.push(fault(self.file, at, class, &path, message, fix));
            self.spoiled = true;
        }
    }

    fn syntax(&mut self, info: &str, at: Place) {
        let message = format!("not YAML or JSON: {info}");
        let fix = match info {
            info if info.contains("tab") => "indent with spaces, tabs are not allowed there",
            info if info.contains("anchor") => "write the value out: anchors and aliases are not read",
            info if info.contains("mapping values are not allowed") => {
                "put text that contains `: ` in quotes, or check the indentation"
            }
            _ => "check the indentation, quotes and brackets here and in the line before",
        };
        let class = if info.contains("anchor") { FaultClass::Anchor } else { FaultClass::Syntax };
        self.faults.push(fault(self.file, at, class, "", message, fix));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(text: &str) -> (Vec<Value>, Vec<FaultClass>) {
        let mut faults = Vec::new();
        let documents = read(&"t.yaml".into(), text, &mut faults);
        (documents.into_iter().map(|d| d.value).collect(), faults.into_iter().map(|f| f.class).collect())
    }

    #[test]
    fn plain_scalars_have_the_types_of_yaml_1_2() {
        let (read, faults) =
            values("[1, -2, 1.5, 1e3, 0x10, 0o17, yes, on, true, ~, null, '1', 1.2.3.4, 10.0.0.1, 2s, .5, 010]");
        let expected = serde_json::json!([[
            1, -2, 1.5, 1000.0, 16, 15, "yes", "on", true, null, null, "1", "1.2.3.4", "10.0.0.1", "2s", 0.5, 10
        ]]);
        assert_eq!((Value::Array(read), faults), (expected, vec![]));
    }

    #[test]
    fn json_is_read_as_it_is() {
        let (read, faults) = values("{\n\t\"a\": [1, {\"b\": \"x\\n\\u00e4\"}],\n\t\"c\": null\n}");
        assert_eq!((read, faults), (vec![serde_json::json!({"a": [1, {"b": "x\nä"}], "c": null})], vec![]));
    }

    #[test]
    fn nesting_without_end_is_refused_without_recursion() {
        let (read, faults) = values(&"[".repeat(200));
        assert_eq!((read.len(), faults.first()), (0, Some(&FaultClass::TooDeep)));
        for opening in ["[", "{a: ", "- ", "? ", "- [", "!a "] {
            let (read, faults) = values(&opening.repeat(20_000));
            assert!(read.is_empty() && !faults.is_empty(), "{opening}");
        }
    }

    #[test]
    fn places_count_lines_and_columns_from_one() {
        let mut faults = Vec::new();
        let documents = read(&"t.yaml".into(), "a:\n  - b: ä\n    c: {d: 1}\n", &mut faults);
        let spans = &documents[0].spans;
        assert_eq!(spans.value("a[0].c.d"), Place { line: 3, column: 12 });
        assert_eq!(spans.key("a[0].c"), Place { line: 3, column: 5 });
        assert_eq!(spans.value("a[0].c.e"), Place { line: 3, column: 8 });
    }
}

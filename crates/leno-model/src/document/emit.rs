//! Values to YAML text, as `get` prints them and as differences are shown. Written by hand because it needs no more than
//! JSON's values, and because the order of fields is part of what people read.

use std::fmt::Write;

use serde_json::{Map, Value};

/// Fields that come first, in this order; the others follow by name.
const FIRST: [&str; 8] = ["apiVersion", "kind", "metadata", "spec", "name", "namespace", "type", "matches"];

/// A value as a YAML document that [`super::parse`] reads back to the same value.
pub fn to_yaml(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(object) if !object.is_empty() => mapping(object, 0, &mut out),
        Value::Array(items) if !items.is_empty() => list(items, 0, &mut out),
        other => {
            scalar(other, &mut out);
            out.push('\n');
        }
    }
    out
}

fn mapping(object: &Map<String, Value>, indent: usize, out: &mut String) {
    let mut fields: Vec<(&String, &Value)> = object.iter().collect();
    fields.sort_by_key(|(name, _)| FIRST.iter().position(|first| first == name).unwrap_or(FIRST.len()));
    for (index, (name, value)) in fields.into_iter().enumerate() {
        if index > 0 {
            pad(indent, out);
        }
        text(name, out);
        out.push(':');
        match value {
            Value::Object(object) if !object.is_empty() => {
                out.push('\n');
                pad(indent + 2, out);
                mapping(object, indent + 2, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                pad(indent, out);
                list(items, indent, out);
            }
            other => {
                out.push(' ');
                scalar(other, out);
                out.push('\n');
            }
        }
    }
}

fn list(items: &[Value], indent: usize, out: &mut String) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            pad(indent, out);
        }
        out.push_str("- ");
        match item {
            Value::Object(object) if !object.is_empty() => mapping(object, indent + 2, out),
            Value::Array(items) if !items.is_empty() => list(items, indent + 2, out),
            other => {
                scalar(other, out);
                out.push('\n');
            }
        }
    }
}

fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(value: &Value, out: &mut String) {
    match value {
        Value::String(string) => text(string, out),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

/// Text without quotes where no reader, of YAML 1.1 or 1.2, could take it for anything else.
fn text(string: &str, out: &mut String) {
    let plain = string.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && !string.ends_with(' ')
        && string.chars().all(|c| c.is_ascii_alphanumeric() || " -_./@+=*".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&string.to_ascii_lowercase().as_str());
    if plain {
        out.push_str(string);
    } else {
        // A JSON string is a double-quoted YAML scalar.
        let _ = write!(out, "{}", Value::String(string.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let value = serde_json::json!({
            "apiVersion": "a/v1", "kind": "K",
            "metadata": {"name": "x", "labels": {"a.b/c": "1", "empty": ""}},
            "spec": {"rules": [{"b": [], "a": {}, "n": 5, "f": 1.5, "t": true, "nothing": null}, ["x", ["y"]], "2s"],
                     "text": "a: b # c\n\"q\" ä", "yes": "yes", "colon": "a:b", "star": "*", "dash": "- a", "number": "12"}
        });
        let yaml = to_yaml(&value);
        let mut faults = Vec::new();
        let documents = super::super::tree::read(&"t".into(), &yaml, &mut faults);
        assert_eq!((documents.into_iter().map(|d| d.value).next(), faults), (Some(value), vec![]), "{yaml}");
    }
}

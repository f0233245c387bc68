//! What a file says, as a tree of names with the place of each: the same for YAML, JSON and Java's properties.
//!
//! Spring reads `a.b: 1`, `a: {b: 1}` and `a.b=1` as one, and `base-config`, `baseConfig` and `BASE_CONFIG` too. So keys are cut at
//! their dots, but not within brackets, and are compared without hyphens, underscores and case. Sentinel's rules have no dots
//! in their keys. Limits are those of resources (`leno_model::document`).

use std::sync::Arc;
use std::time::Duration;

use leno_model::document::{self, DEPTH_MAX, Place, Spans, TEXT_BYTES_MAX};
use leno_model::fault::{Fault, FaultClass, Severity};
use serde_json::Value;

use crate::properties;

/// One document.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) file: Arc<str>,
    pub(crate) root: Node,
}

/// A value, or what stands below a name.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) file: Arc<str>,
    pub(crate) place: Place,
    pub(crate) path: String,
    /// Of a leaf.
    pub(crate) value: Value,
    pub(crate) is_list: bool,
    pub(crate) kids: Vec<(String, Node)>,
}

/// Reads the documents of a file.
pub(crate) fn read(file: &str, bytes: &[u8], faults: &mut Vec<Fault>) -> Vec<Source> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        // It finds the byte, and says so.
        faults.extend(document::parse_bytes(file, bytes).faults);
        return Vec::new();
    };
    let file: Arc<str> = file.into();
    if is_properties(&file, text) {
        if text.len() > TEXT_BYTES_MAX {
            let whole = Node::empty(&file, Place::default(), "");
            let why = format!("{} bytes of text, at most {TEXT_BYTES_MAX} are read", text.len());
            faults.push(whole.wrong(FaultClass::TooLarge, why, "split it into several files"));
            return Vec::new();
        }
        return properties::read(&file, text, faults)
            .into_iter()
            .map(|root| Source { file: file.clone(), root })
            .collect();
    }
    let (documents, found) = document::placed_values(&file, text);
    faults.extend(found);
    let as_source =
        |(value, spans): (Value, Spans)| Source { file: file.clone(), root: Node::of(&file, &value, &spans, "") };
    documents.into_iter().map(as_source).collect()
}

/// The value by which a document of Spring's is for one profile alone.
pub(crate) fn profile(root: &Node) -> Option<&Node> {
    let spring = root.kid("spring")?;
    let of = |path: &[&str]| path.iter().try_fold(spring, |node, name| node.kid(name));
    of(&["config", "activate", "on-profile"]).or_else(|| of(&["profiles"]).filter(|profiles| !profiles.value.is_null()))
}

fn is_properties(file: &str, text: &str) -> bool {
    let ends = |end: &str| file.to_ascii_lowercase().ends_with(end);
    if ends(".properties") || [".yaml", ".yml", ".json"].into_iter().any(ends) {
        return ends(".properties");
    }
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    first.is_some_and(|line| {
        !line.starts_with(['[', '{', '-'])
            && line.find('=') < line.find(": ").or(Some(usize::MAX))
            && line.contains('=')
    })
}

/// A key in its parts: `a.b`, `a[b.c].d`.
pub(crate) fn parts(key: &str) -> Vec<String> {
    let (mut parts, mut part, mut depth) = (Vec::new(), String::new(), 0_usize);
    for c in key.chars() {
        match c {
            '[' if depth == 0 => {
                depth = 1;
                parts.extend((!part.is_empty()).then(|| std::mem::take(&mut part)));
            }
            '[' | '(' => {
                depth += 1;
                part.push(c);
            }
            ']' if depth == 1 => {
                depth = 0;
                parts.push(std::mem::take(&mut part));
            }
            ']' | ')' => {
                depth = depth.saturating_sub(1);
                part.push(c);
            }
            '.' if depth == 0 => parts.extend((!part.is_empty()).then(|| std::mem::take(&mut part))),
            c => part.push(c),
        }
    }
    parts.extend((!part.is_empty()).then_some(part));
    parts
}

/// How a name is compared.
fn folded(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase())
}

/// Whether two names are one to Spring.
pub(crate) fn is_same(a: &str, b: &str) -> bool {
    folded(a).eq(folded(b))
}

// === impl Node ===

impl Node {
    pub(crate) fn empty(file: &Arc<str>, place: Place, path: &str) -> Self {
        Self { file: file.clone(), place, path: path.to_owned(), value: Value::Null, is_list: false, kids: Vec::new() }
    }

    /// The depth is what the reader of documents allows.
    fn of(file: &Arc<str>, value: &Value, spans: &Spans, path: &str) -> Self {
        let mut node = Self::empty(file, spans.value(path), path);
        match value {
            Value::Array(items) => {
                node.is_list = true;
                let at = |index: usize| format!("{path}[{index}]");
                let kids =
                    items.iter().enumerate().map(|(i, item)| (i.to_string(), Self::of(file, item, spans, &at(i))));
                node.kids = kids.collect();
            }
            Value::Object(entries) => {
                for (key, value) in entries {
                    let path = document::join(path, key);
                    let mut kid = Self::of(file, value, spans, &path);
                    kid.place = spans.key(&path);
                    // Nobody names a setting so; below it nothing is found.
                    let names = Some(parts(key)).filter(|names| (1..=DEPTH_MAX).contains(&names.len()));
                    node.put(&names.unwrap_or_else(|| vec![key.clone()]), kid);
                }
            }
            leaf => node.value = leaf.clone(),
        }
        node
    }

    /// Puts what stands there below the names of its key.
    pub(crate) fn put(&mut self, key: &[String], kid: Node) {
        let Some((name, rest)) = key.split_first() else { return };
        let at = self.kids.iter().position(|(own, _)| own == name);
        if rest.is_empty() {
            match at {
                // `a.b: 1` beside `a: {c: 2}`; what both have is put together too.
                Some(at) if kid.value.is_null() => {
                    for (name, below) in kid.kids {
                        self.kids[at].1.put(&[name], below);
                    }
                }
                Some(at) => self.kids[at].1.value = kid.value,
                None => self.kids.push((name.clone(), kid)),
            }
            return;
        }
        let at = at.unwrap_or_else(|| {
            self.kids.push((name.clone(), Self::empty(&kid.file, kid.place, &kid.path)));
            self.kids.len() - 1
        });
        self.kids[at].1.put(rest, kid);
    }

    /// Whether anything below is named so, or says so.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        let says = |kid: &Node| {
            kid.value.as_str().is_some_and(|text| text.trim() == name || text.contains(&format!("\"{name}\"")))
        };
        self.kids.iter().any(|(own, kid)| own == name || says(kid) || kid.mentions(name))
    }

    /// What stands below this name.
    pub(crate) fn kid(&self, name: &str) -> Option<&Node> {
        self.kids.iter().find(|(own, _)| is_same(own, name)).map(|(_, kid)| kid)
    }

    /// Has it, and what is below, stand where another node does.
    pub(crate) fn move_to(&mut self, other: &Node) {
        self.file = other.file.clone();
        self.place = other.place;
        self.path = format!("{}{}", other.path, self.path);
        self.kids.iter_mut().for_each(|(_, kid)| kid.move_to(other));
    }

    pub(crate) fn is_leaf(&self) -> bool {
        self.kids.is_empty() && !self.is_list
    }

    /// Whether it is written and says nothing, as `null`.
    pub(crate) fn is_nothing(&self) -> bool {
        self.is_leaf() && self.value.is_null()
    }

    /// What it says, as text; empty where it says nothing.
    pub(crate) fn text(&self) -> String {
        match &self.value {
            Value::String(text) => text.trim().to_owned(),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    /// The entries of a list, or of text with commas.
    pub(crate) fn list(&self) -> Vec<String> {
        match self.kids.is_empty() {
            false => self.kids.iter().map(|(_, kid)| kid.text()).collect(),
            true => self.text().split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect(),
        }
    }

    pub(crate) fn decimal(&self) -> Result<f64, Fault> {
        let number = self.text().parse::<f64>().ok().filter(|number| number.is_finite());
        number.ok_or_else(|| self.unread("a number"))
    }

    pub(crate) fn whole(&self) -> Result<i64, Fault> {
        let number = self.decimal()?;
        let is_whole = number.fract() == 0.0 && number.abs() < 9e15;
        if is_whole { Ok(number as i64) } else { Err(self.unread("a whole number")) }
    }

    pub(crate) fn flag(&self) -> Result<bool, Fault> {
        match self.text().to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Ok(true),
            "false" | "off" | "no" | "0" | "" => Ok(false),
            _ => Err(self.unread("true or false")),
        }
    }

    /// A duration as Spring reads it: `500ms`, `10s`, `PT1M30S`, or milliseconds.
    pub(crate) fn duration(&self) -> Result<Duration, Fault> {
        let text = self.text();
        spring_duration(&text).ok_or_else(|| self.unread("a duration"))
    }

    /// A name that has only what it says: not carried over, for this reason, and what to do.
    pub(crate) fn lost(&self, why: impl Into<String>, fix: impl Into<String>) -> Fault {
        Fault { severity: Severity::Warning, ..self.wrong(FaultClass::UnknownField, why, fix) }
    }

    fn wrong(&self, class: FaultClass, why: impl Into<String>, fix: impl Into<String>) -> Fault {
        Fault {
            severity: Severity::Error,
            class,
            file: self.file.clone(),
            line: self.place.line,
            column: self.place.column,
            path: self.path.clone(),
            message: why.into(),
            fix: fix.into(),
        }
    }

    fn unread(&self, what: &str) -> Fault {
        let text: String = self.text().chars().take(60).collect();
        let fix = if text.contains("${") {
            "write the value in place of the placeholder, and convert again".to_owned()
        } else {
            format!("write {what}, and convert again")
        };
        self.lost(format!("{text:?} is not {what}"), fix)
    }
}

fn spring_duration(text: &str) -> Option<Duration> {
    const YEAR: f64 = 366.0 * 86_400.0;
    let lower = text.to_ascii_lowercase();
    let seconds = match lower.strip_prefix('p') {
        Some(rest) => iso_seconds(rest)?,
        None => {
            let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == 'µ');
            let number: f64 = digits.trim().parse().ok()?;
            let unit = match &lower[digits.len()..] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "" | "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                "d" => 86_400.0,
                _ => return None,
            };
            number * unit
        }
    };
    (0.0..=YEAR).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// What follows the `P` of ISO 8601, as Java's `Duration` reads it.
fn iso_seconds(text: &str) -> Option<f64> {
    let (days, time) = text.split_once('t').unwrap_or((text, ""));
    let mut seconds = 0.0;
    if let Some(days) = days.strip_suffix('d') {
        seconds += days.parse::<f64>().ok()? * 86_400.0;
    } else if !days.is_empty() {
        return None;
    }
    let mut rest = time;
    for (unit, factor) in [('h', 3600.0), ('m', 60.0), ('s', 1.0)] {
        if let Some((number, after)) = rest.split_once(unit) {
            seconds += number.parse::<f64>().ok()? * factor;
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_spring_reads_them() {
        let ms = |text| spring_duration(text).map(|duration| duration.as_millis());
        for (text, expected) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("2m", 120_000),
            ("1500", 1500),
            ("PT1M30S", 90_000),
            ("P1DT1S", 86_401_000),
            ("PT0.5S", 500),
        ] {
            assert_eq!(ms(text), Some(expected), "{text}");
        }
        for text in ["", "-5s", "soon", "P", "PTS", "1w", "1e300h", "${wait:5s}", "NaN"] {
            assert_eq!(ms(text), None, "{text}");
        }
    }

    #[test]
    fn a_key_is_cut_at_its_dots_and_not_within_brackets() {
        assert_eq!(parts("a.b-c.D"), ["a", "b-c", "D"]);
        assert_eq!(parts("a[b.c].d[0]"), ["a", "b.c", "d", "0"]);
        assert_eq!(
            parts("hystrix.command.Cart#add(java.lang.String).x"),
            ["hystrix", "command", "Cart#add(java.lang.String)", "x"]
        );
        assert!(is_same("base-config", "baseConfig") && is_same("BASE_CONFIG", "baseConfig"));
    }

    #[test]
    fn yaml_and_properties_of_one_content_are_one_tree() {
        let flat = |file: &str, text: &str| {
            let mut faults = Vec::new();
            let source = read(file, text.as_bytes(), &mut faults).remove(0);
            assert!(faults.is_empty(), "{faults:?}");
            let cart = source.root.kid("a").and_then(|a| a.kid("cart")).cloned();
            let told = |(name, kid): &(String, Node)| (name.clone(), kid.text(), kid.place.line);
            let mut kids: Vec<_> = cart.unwrap().kids.iter().map(told).collect();
            kids.sort();
            kids
        };
        let expected = vec![("x".to_owned(), "1".to_owned(), 1), ("y-z".to_owned(), "two words".to_owned(), 2)];
        assert_eq!(flat("t.yaml", "a.cart.x: 1\na.cart: {y-z: two words}"), expected);
        assert_eq!(flat("t.properties", "a.cart.x=1\na.cart.y-z = two words"), expected);
    }
}

//! `resources.md` and `schemas/`: every kind of resource with every field, from the JSON Schemas that the types of `leno-model` give.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use leno_model::resource::kind::Kind;
use leno_model::resource::schema;
use serde_json::{Map, Value, json};

use super::{MADE, cell, page};

#[test]
fn the_page_of_resources_is_what_the_code_says() {
    let schemas: Vec<(Kind, Value)> = Kind::ALL.into_iter().map(|kind| (kind, schema(kind))).collect();
    let mut out = format!(
        "# Resources\n\n{MADE}\n\nA resource has `apiVersion`, `kind`, `metadata` and `spec`; a file may hold several, in YAML with `---` between them, or in JSON. \
         An unknown field is refused. Fields in **bold** must be there. [schemas/](schemas/) has a JSON Schema for each kind, and `leno.json` for a file of any of \
         them; an editor with YAML support reads it from the first line of a file:\n\n```yaml\n# yaml-language-server: $schema=docs/reference/schemas/leno.json\n```\n\n"
    );
    for (kind, _) in &schemas {
        let _ = writeln!(out, "- [{kind}](#{})", kind.lower());
    }
    let _ = write!(out, "\n## metadata\n\n");
    object(&mut out, &schemas[0].1["properties"]["metadata"]);
    let mut parts = BTreeMap::new();
    for (kind, schema) in &schemas {
        let versions: Vec<String> =
            kind.versions().iter().map(|version| format!("`{}/{version}`", kind.group())).collect();
        let _ = write!(out, "## {kind}\n\n`apiVersion`: {}\n\n", versions.join(", "));
        object(&mut out, &schema["properties"]["spec"]);
        for (name, part) in definitions(schema) {
            let before = parts.insert(name, part);
            assert!(before.is_none_or(|before| before == part), "two kinds have different parts called {name}");
        }
    }
    out.push_str(
        "## Parts\n\n`duration`: up to four whole numbers with `h`, `m`, `s` or `ms`, as `1m30s` or `500ms`.\n\n",
    );
    for (name, part) in parts {
        let _ = write!(out, "### {name}\n\n");
        if part.get("properties").is_some() { object(&mut out, part) } else { choices(&mut out, part) }
    }
    page("resources.md", &out);
}

#[test]
fn the_schemas_are_what_the_code_says() {
    let mut any = Vec::new();
    for kind in Kind::ALL {
        let name = format!("{}.json", kind.lower());
        page(&format!("schemas/{name}"), &pretty(&schema(kind)));
        let is_kind = json!({ "properties": { "kind": { "const": kind.as_str() } }, "required": ["kind"] });
        any.push(json!({ "if": is_kind, "then": { "$ref": name } }));
    }
    let kinds: Vec<&str> = Kind::ALL.into_iter().map(Kind::as_str).collect();
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A resource of leno",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": { "kind": { "enum": kinds } },
        "allOf": any,
    });
    page("schemas/leno.json", &pretty(&schema));
}

fn pretty(schema: &Value) -> String {
    serde_json::to_string_pretty(schema).unwrap() + "\n"
}

fn definitions(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["$defs"].as_object().into_iter().flat_map(Map::iter)
}

/// What it is for, and a table of its fields.
fn object(out: &mut String, object: &Value) {
    let _ = write!(out, "{}\n\n| field | type | |\n| --- | --- | --- |\n", text(object));
    let required: Vec<&str> = object["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in object["properties"].as_object().into_iter().flat_map(Map::iter) {
        let shown = if required.contains(&name.as_str()) { format!("**`{name}`**") } else { format!("`{name}`") };
        let meaning = text(field);
        assert!(!meaning.is_empty(), "{name} has no doc comment");
        let _ = writeln!(out, "| {shown} | {} | {meaning} |", type_of(field));
    }
    out.push('\n');
}

/// What it is for, and a list of what it may be.
fn choices(out: &mut String, part: &Value) {
    let _ = write!(out, "{}\n\n", text(part));
    for choice in variants(part) {
        let _ = writeln!(out, "- {}: {}", type_of(choice), text(choice));
    }
    out.push('\n');
}

fn variants(value: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf"].into_iter().filter_map(|key| value[key].as_array()).flatten().filter(|one| one["type"] != "null")
}

fn text(value: &Value) -> String {
    cell(value["description"].as_str().unwrap_or_default())
}

/// A type in words, with its range.
fn type_of(value: &Value) -> String {
    if let Some(name) = value["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        return format!("[{name}](#{})", name.to_ascii_lowercase());
    }
    if let Some(constant) = value["const"].as_str() {
        return format!("`{constant}`");
    }
    let several: Vec<String> = variants(value).map(type_of).collect();
    if !several.is_empty() {
        return several.join(" or ");
    }
    // `null` stands for a field that is not there, which no bold name says already.
    let name = value["type"]
        .as_str()
        .or_else(|| value["type"].as_array()?.iter().find_map(|one| one.as_str().filter(|one| *one != "null")));
    match name {
        Some("array") => format!("list of {}", type_of(&value["items"])),
        Some("object") if value.get("properties").is_some() => {
            let fields = value["properties"].as_object().into_iter().flat_map(Map::iter);
            let fields: Vec<String> = fields.map(|(name, field)| format!("`{name}`: {}", type_of(field))).collect();
            format!("object of {}", fields.join(", "))
        }
        Some("object") => format!("map to {}", type_of(&value["additionalProperties"])),
        Some("integer") => match (value["minimum"].as_i64(), value["maximum"].as_i64()) {
            (Some(least), Some(most)) => format!("{} to {}", grouped(least), grouped(most)),
            (Some(least), None) => format!("at least {}", grouped(least)),
            _ => "integer".to_owned(),
        },
        Some("string") if value["pattern"].as_str().is_some_and(|pattern| pattern.contains("h|m|s|ms")) => {
            "duration".to_owned()
        }
        Some("string") if value["format"] == "ip" => "IP address".to_owned(),
        Some(name) => name.to_owned(),
        None => panic!("no type in {value}"),
    }
}

/// Thousands apart: `1,000,000`.
fn grouped(number: i64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

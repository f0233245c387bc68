//! JSON values to typed resources. What serde says is turned into faults with a place and a fix, and the offending
//! field is set aside so that the next one is found as well.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::tree::Document;
use super::{Parsed, Place, Spans, Written, fault, join};
use crate::fault::{Fault, FaultClass, Severity, closest};
use crate::resource::kind::{Kind, ResourceKey};
use crate::resource::metadata::Metadata;
use crate::resource::{Resource, Spec};

/// The most faults of structure found in one resource.
const ROUNDS_MAX: usize = 20;

/// Fields that Kubernetes writes by itself; what `kubectl get -o yaml` prints can be given to leno.
const FOREIGN_METADATA: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];

/// Kinds of other products, with what does their work here.
const FOREIGN_KINDS: [(&str, &str); 10] = [
    ("VirtualService", "write an HTTPRoute"),
    ("DestinationRule", "write a TrafficPolicy"),
    ("ServiceEntry", "write a leno.mesh/v1 Service with endpoints"),
    ("Ingress", "write a Gateway and an HTTPRoute"),
    ("ServiceRouter", "write an HTTPRoute"),
    ("ServiceSplitter", "write an HTTPRoute with weights"),
    ("ServiceResolver", "write a TrafficPolicy"),
    ("Deployment", "start the program with `leno run -- CMD`"),
    ("Pod", "start the program with `leno run -- CMD`"),
    ("List", "write the items as documents of their own, with --- between them"),
];

/// Reads one document into a resource, or says what is wrong.
pub(super) fn decode(file: &Arc<str>, document: Document, parsed: &mut Parsed) {
    let Document { mut value, spans } = document;
    let mut decoder = Decoder { file, spans: &spans, faults: Vec::new() };
    let resource = decoder.resource(&mut value);
    let refused = decoder.faults.iter().any(|fault| fault.severity == Severity::Error);
    parsed.faults.append(&mut decoder.faults);
    if let Some(resource) = resource.filter(|_| !refused) {
        parsed.resources.push(Written { resource, value, file: file.clone(), spans });
    }
}

/// Reads a resource from its JSON form, as the store keeps it. `file` is how faults call it.
pub fn resource_from_value(file: &str, value: Value) -> Result<Resource, Vec<Fault>> {
    let mut parsed = Parsed::default();
    decode(&file.into(), Document { value, spans: Spans::default() }, &mut parsed);
    match parsed.resources.pop() {
        Some(written) => Ok(written.resource),
        None => Err(parsed.faults),
    }
}

struct Decoder<'a> {
    file: &'a Arc<str>,
    spans: &'a Spans,
    faults: Vec<Fault>,
}

// === impl Decoder ===

impl Decoder<'_> {
    /// The contents: kind, then what stands around the spec, then the spec.
    fn resource(&mut self, value: &mut Value) -> Option<Resource> {
        let Some(object) = value.as_object_mut() else {
            let fix = "write apiVersion, kind, metadata and spec";
            self.push(FaultClass::NotAResource, "", self.spans.value(""), "a resource is a mapping", fix);
            return None;
        };
        let (kind, api_version) = self.kind(object)?;
        self.top_level(object);
        let metadata: Option<Metadata> = self.section(object, "metadata");
        let spec = self.spec(kind, object);
        let (metadata, spec) = (metadata?, spec?);
        let key = ResourceKey::new(kind, &metadata.namespace, &metadata.name);
        Some(Resource { key, api_version, metadata, spec })
    }

    fn kind(&mut self, object: &serde_json::Map<String, Value>) -> Option<(Kind, String)> {
        let api_version = self.text(object, "apiVersion", "gateway.networking.k8s.io/v1 or leno.mesh/v1");
        let kind = self.text(object, "kind", "HTTPRoute");
        let (api_version, kind) = (api_version?, kind?);
        let place = self.spans.value("kind");
        let Some(known) = Kind::written(&kind) else {
            let names = Kind::ALL.map(Kind::as_str);
            let fix = match FOREIGN_KINDS.iter().find(|(name, _)| *name == kind) {
                Some((_, fix)) => (*fix).to_owned(),
                None => match closest(&kind, names) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("use one of {}", names.join(", ")),
                },
            };
            self.push(FaultClass::UnknownKind, "kind", place, format!("unknown kind `{kind}`"), fix);
            return None;
        };
        if !known.accepts(&api_version) {
            let place = self.spans.value("apiVersion");
            let message = format!("{known} is not part of `{api_version}`");
            let fix = format!("write `{}`", known.api_version());
            self.push(FaultClass::WrongApiVersion, "apiVersion", place, message, fix);
            return None;
        }
        Some((known, api_version))
    }

    fn text(&mut self, object: &serde_json::Map<String, Value>, field: &str, example: &str) -> Option<String> {
        match object.get(field) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                let place = self.spans.value(field);
                self.push(
                    FaultClass::WrongType,
                    field,
                    place,
                    format!("`{field}` is text"),
                    format!("write {example}"),
                );
                None
            }
            None => {
                let place = self.spans.value("");
                let fix = format!("add `{field}: {example}`");
                let fix = if field == "apiVersion" { format!("add `{field}`: {example}") } else { fix };
                self.push(FaultClass::MissingField, field, place, format!("missing field `{field}`"), fix);
                None
            }
        }
    }

    fn top_level(&mut self, object: &mut serde_json::Map<String, Value>) {
        const FIELDS: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];
        let others: Vec<String> = object.keys().filter(|key| !FIELDS.contains(&key.as_str())).cloned().collect();
        for key in others {
            object.remove(&key);
            if key == "status" {
                self.foreign("status");
            } else {
                self.unknown_field(&key, &key, &FIELDS);
            }
        }
        if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
            for field in FOREIGN_METADATA {
                if metadata.remove(field).is_some() {
                    self.foreign(&format!("metadata.{field}"));
                }
            }
        }
    }

    fn spec(&mut self, kind: Kind, object: &serde_json::Map<String, Value>) -> Option<Spec> {
        match kind {
            Kind::Gateway => self.section(object, "spec").map(Spec::Gateway),
            Kind::HttpRoute => self.section(object, "spec").map(Spec::HttpRoute),
            Kind::GrpcRoute => self.section(object, "spec").map(Spec::GrpcRoute),
            Kind::TcpRoute => self.section(object, "spec").map(Spec::TcpRoute),
            Kind::TlsRoute => self.section(object, "spec").map(Spec::TlsRoute),
            Kind::UdpRoute => self.section(object, "spec").map(Spec::UdpRoute),
            Kind::ReferenceGrant => self.section(object, "spec").map(Spec::ReferenceGrant),
            Kind::BackendTlsPolicy => self.section(object, "spec").map(Spec::BackendTlsPolicy),
            Kind::Service => self.section(object, "spec").map(Spec::Service),
            Kind::TrafficPolicy => self.section(object, "spec").map(|spec| Spec::TrafficPolicy(Box::new(spec))),
            Kind::Switch => self.section(object, "spec").map(Spec::Switch),
            Kind::SwitchState => self.section(object, "spec").map(Spec::SwitchState),
            Kind::FaultPolicy => self.section(object, "spec").map(Spec::FaultPolicy),
            Kind::Lane => self.section(object, "spec").map(Spec::Lane),
        }
    }

    /// Reads `metadata` or `spec`. A field that cannot be read is reported and left out of the next try.
    fn section<T: DeserializeOwned>(&mut self, object: &serde_json::Map<String, Value>, name: &str) -> Option<T> {
        let Some(value) = object.get(name) else {
            let place = self.spans.value("");
            self.push(
                FaultClass::MissingField,
                name,
                place,
                format!("missing field `{name}`"),
                format!("add `{name}:`"),
            );
            return None;
        };
        let mut value = value.clone();
        let mut set_aside: Option<String> = None;
        let mut whole = true;
        for _ in 0..ROUNDS_MAX {
            let error = match serde_path_to_error::deserialize::<_, T>(&value) {
                Ok(section) => return whole.then_some(section),
                Err(error) => error,
            };
            whole = false;
            let path = render(name, error.path());
            let message = error.inner().to_string();
            if let Some(field) = quoted(&message, "missing field ")
                && set_aside.as_deref() == Some(join(&path, field).as_str())
            {
                return None;
            }
            self.explain(&path, &message);
            if !remove(&mut value, error.path()) {
                return None;
            }
            set_aside = Some(path);
        }
        None
    }

    /// Turns what serde says into a fault.
    fn explain(&mut self, path: &str, message: &str) {
        let place = self.spans.value(path);
        if quoted(message, "unknown field ").is_some() {
            let field = path.rsplit_once('.').map_or(path, |(_, field)| field);
            let expected = alternatives(message);
            return self.unknown_field(path, field, &expected);
        }
        if let Some(field) = quoted(message, "missing field ") {
            let path = join(path, field);
            let fix = format!("add `{field}:`");
            return self.push(FaultClass::MissingField, &path, place, format!("missing field `{field}`"), fix);
        }
        if let Some(variant) = quoted(message, "unknown variant ") {
            let expected = alternatives(message);
            let class = match variant {
                "ExtensionRef" | "ExternalAuth" => FaultClass::UnsupportedFilter,
                _ => FaultClass::UnknownValue,
            };
            let all = format!("use one of {}", expected.join(", "));
            let fix = match closest(variant, expected.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => all,
            };
            return self.push(class, path, place, format!("unknown value `{variant}`"), fix);
        }
        if let Some((what, expected)) =
            message.strip_prefix("invalid type: ").and_then(|m| m.rsplit_once(", expected "))
        {
            let fix = match (expected, what.split_once(' ').map_or(what, |(kind, _)| kind)) {
                ("a string", "integer" | "floating" | "boolean") => "put it in quotes".to_owned(),
                (_, "null") => format!("write {} or remove the field", in_words(expected)),
                _ => format!("write {}", in_words(expected)),
            };
            let message = format!("expected {}, found {}", in_words(expected), found(what));
            return self.push(FaultClass::WrongType, path, place, message, fix);
        }
        if let Some((what, expected)) =
            message.strip_prefix("invalid value: ").and_then(|m| m.rsplit_once(", expected "))
        {
            let message = format!("out of range: {}", what.replace("integer ", "").replace('`', ""));
            return self.push(FaultClass::OutOfRange, path, place, message, format!("write {}", in_words(expected)));
        }
        let (message, fix) = match message.strip_suffix(')').and_then(|m| m.rsplit_once(" (")) {
            Some((message, fix)) => (message, fix.to_owned()),
            None if message == "invalid IP address syntax" => {
                ("not an IP address", "write an IPv4 or IPv6 address such as 10.0.3.7".to_owned())
            }
            None => (message, "write it as the reference says".to_owned()),
        };
        let class = if message.starts_with("out of range") {
            FaultClass::OutOfRange
        } else if message.ends_with("is not a duration") {
            FaultClass::InvalidDuration
        } else if message.ends_with("is not a moment") {
            FaultClass::InvalidMoment
        } else if message == "not an IP address" {
            FaultClass::InvalidAddress
        } else {
            FaultClass::UnknownValue
        };
        self.push(class, path, place, message, fix);
    }

    fn unknown_field(&mut self, path: &str, field: &str, expected: &[&str]) {
        let fix = match closest(field, expected.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if expected.is_empty() => "remove it".to_owned(),
            None => format!("remove it; the fields here are {}", expected.join(", ")),
        };
        let place = self.spans.key(path);
        self.push(FaultClass::UnknownField, path, place, format!("unknown field `{field}`"), fix);
    }

    fn foreign(&mut self, path: &str) {
        let place = self.spans.key(path);
        let (message, fix) = ("is left aside: it is Kubernetes' own book-keeping", "remove it; leno keeps its own");
        self.push(FaultClass::ForeignField, path, place, message, fix);
        if let Some(fault) = self.faults.last_mut() {
            fault.severity = Severity::Warning;
        }
    }

    fn push(
        &mut self,
        class: FaultClass,
        path: &str,
        place: Place,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.faults.push(fault(self.file, place, class, path, message, fix));
    }
}

/// The text in backquotes after `prefix`.
fn quoted<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.strip_prefix('`')?.split('`').next()
}

/// What serde says was expected: all texts in backquotes after `expected`.
fn alternatives(message: &str) -> Vec<&str> {
    let expected = message.rsplit_once(", expected ").map_or("", |(_, expected)| expected);
    expected.split('`').skip(1).step_by(2).collect()
}

fn in_words(expected: &str) -> &str {
    match expected {
        "a sequence" => "a list",
        "a map" => "a mapping",
        "a string" => "text",
        "a boolean" => "true or false",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number from 0",
        "i32" | "i64" => "a whole number",
        other if other.starts_with("struct ") => "a mapping",
        other if other.starts_with("string or map") => "one of its values",
        other => other,
    }
}

fn found(what: &str) -> String {
    match what {
        "sequence" => "a list".to_owned(),
        "map" => "a mapping".to_owned(),
        "null" => "nothing".to_owned(),
        other => other.replacen("string ", "text ", 1).replacen("integer ", "", 1).replacen("boolean ", "", 1),
    }
}

fn render(base: &str, path: &Path) -> String {
    path.iter().fold(base.to_owned(), |at, segment| match segment {
        Segment::Seq { index } => format!("{at}[{index}]"),
        Segment::Map { key } => join(&at, key),
        Segment::Enum { variant } => join(&at, variant),
        Segment::Unknown => at,
    })
}

/// Takes the value at `path` out of the mapping it stands in; false where it stands in a list, whose other members
/// would then move.
fn remove(value: &mut Value, path: &Path) -> bool {
    let segments: Vec<&Segment> = path.iter().collect();
    let Some((last, before)) = segments.split_last() else { return false };
    let mut at = value;
    for segment in before {
        let next = match segment {
            Segment::Seq { index } => at.get_mut(*index),
            Segment::Map { key } => at.get_mut(key.as_str()),
            Segment::Enum { variant } => at.get_mut(variant.as_str()),
            Segment::Unknown => None,
        };
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    match (last, at) {
        (Segment::Map { key }, Value::Object(object)) => object.remove(key.as_str()).is_some(),
        _ => false,
    }
}

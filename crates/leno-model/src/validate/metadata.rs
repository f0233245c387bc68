//! Names, namespaces, labels and annotations of every kind.

use super::{Check, text};
use crate::document::join;
use crate::fault::FaultClass;
use crate::resource::kind::Kind;

const LABELS_MAX: usize = 64;
const ANNOTATION_BYTES_MAX: usize = 256 * 1024;

pub(super) fn check(check: &mut Check<'_, '_>) {
    let resource = &check.written.resource;
    let metadata = &resource.metadata;
    if resource.key.kind == Kind::Service {
        text::label(check, FaultClass::InvalidName, "metadata.name", &metadata.name);
    } else {
        text::subdomain(check, "metadata.name", &metadata.name);
    }
    text::label(check, FaultClass::InvalidNamespace, "metadata.namespace", &metadata.namespace);
    check.count("metadata.labels", "labels", metadata.labels.len(), 0, LABELS_MAX);
    for (name, value) in &metadata.labels {
        let path = join("metadata.labels", name);
        if !is_qualified(name) {
            let fix = "write `name` or `example.com/name` of letters, digits, `-`, `_` and `.`, at most 63";
            check.error(FaultClass::InvalidLabel, &path, format!("{name:?} is not the name of a label"), fix);
        } else if !value.is_empty() && !is_word(value) {
            let fix = "use at most 63 letters, digits, `-`, `_` and `.`, or an annotation";
            check.error(FaultClass::InvalidLabel, &path, format!("{value:?} is not the value of a label"), fix);
        }
    }
    for name in metadata.annotations.keys().filter(|name| !is_qualified(name)) {
        let path = join("metadata.annotations", name);
        let fix = "write `name` or `example.com/name` of letters, digits, `-`, `_` and `.`, at most 63";
        check.error(FaultClass::InvalidLabel, &path, format!("{name:?} is not the name of an annotation"), fix);
    }
    let bytes: usize = metadata.annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > ANNOTATION_BYTES_MAX {
        let message = format!("{bytes} bytes of annotations, at most {ANNOTATION_BYTES_MAX} are allowed");
        check.error(FaultClass::TooMany, "metadata.annotations", message, "keep large texts elsewhere");
    }
}

fn is_qualified(name: &str) -> bool {
    match name.split_once('/') {
        Some((prefix, word)) => {
            prefix.len() <= 253 && prefix.split('.').all(|l| crate::name::check_label(l).is_ok()) && is_word(word)
        }
        None => is_word(name),
    }
}

pub(super) fn is_word(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

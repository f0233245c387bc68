//! Lanes: their tag, and the versions that are in them.

use super::metadata::is_word;
use super::{Check, filter, reference, text};
use crate::fault::FaultClass;
use crate::name;
use crate::resource::lane::{LaneSpec, LaneTag};

const VERSIONS_MAX: usize = 64;

pub(super) fn check(check: &mut Check<'_, '_>, spec: &LaneSpec) {
    tag(check, &spec.tag);
    check.count("spec.versions", "versions", spec.versions.len(), 1, VERSIONS_MAX);
    for (i, version) in spec.versions.iter().enumerate() {
        let path = format!("spec.versions[{i}]");
        if name::check_label(&version.name).is_err() {
            text::label(check, FaultClass::InvalidName, &format!("{path}.name"), &version.name);
            continue;
        }
        text::label(check, FaultClass::InvalidVersion, &format!("{path}.version"), &version.version);
        if spec.versions[..i].iter().any(|other| other.name == version.name) {
            let message = format!("a version of {} stands in the lane already", version.name);
            check.error(FaultClass::DuplicateReference, &path, message, "keep one version of each service");
        }
        if check.index.service(check.namespace(), &version.name).is_none() {
            let namespace = check.namespace().to_owned();
            reference::unknown_service(check, &format!("{path}.name"), &namespace, &version.name);
        }
    }
}

fn tag(check: &mut Check<'_, '_>, tag: &LaneTag) {
    match (&tag.header, &tag.baggage) {
        (None, None) => {
            let fix = "add `header: x-lane`, or `baggage: lane`";
            check.error(FaultClass::MissingField, "spec.tag", "names neither a field nor an entry of the baggage", fix);
        }
        (Some(_), Some(_)) => {
            let message = "names a field and an entry of the baggage";
            check.error(FaultClass::TooMany, "spec.tag", message, "keep `header` or `baggage`");
        }
        (Some(header), None) => {
            text::header_name(check, "spec.tag.header", header);
            filter::reserved(check, "spec.tag.header", &header.to_ascii_lowercase());
        }
        (None, Some(key)) if !text::is_token(key) => {
            let message = format!("{key:?} is no key of baggage");
            check.error(FaultClass::InvalidHeaderName, "spec.tag.baggage", message, "write a token, as `lane`");
        }
        (None, Some(_)) => {}
    }
    if !is_word(&tag.value) {
        let message = format!("{:?} is not the value of a tag", tag.value);
        let fix = "use 1 to 63 letters, digits, `-`, `_` and `.`";
        check.error(FaultClass::InvalidHeaderValue, "spec.tag.value", message, fix);
    }
}

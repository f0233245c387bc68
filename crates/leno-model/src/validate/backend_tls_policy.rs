//! Policies of TLS towards instances: targets, and who is to be believed.

use super::{Check, gateway, reference, text};
use crate::fault::FaultClass;
use crate::resource::backend_tls_policy::{BackendTlsPolicySpec, SubjectAltName, SubjectAltNameType};
use crate::resource::reference::TargetRef;

const BUNDLES_MAX: usize = 8;
const NAMES_MAX: usize = 5;
const URI_MAX: usize = 253;
const TARGETS_MAX: usize = 16;

pub(super) fn check(check: &mut Check<'_, '_>, spec: &BackendTlsPolicySpec) {
    check.count("spec.targetRefs", "targets", spec.target_refs.len(), 1, TARGETS_MAX);
    for (i, target) in spec.target_refs.iter().enumerate() {
        let path = format!("spec.targetRefs[{i}]");
        if spec.target_refs[..i].contains(target) {
            check.error(FaultClass::DuplicateReference, &path, "the same target twice", "remove one of the two");
        } else {
            let (group, kind, name) = (target.group.clone(), target.kind.clone(), target.name.clone());
            reference::target(check, &path, &TargetRef { group, kind, name });
        }
    }
    let validation = &spec.validation;
    text::hostname(check, "spec.validation.hostname", &validation.hostname, false);
    let at = "spec.validation.caCertificateRefs";
    let refs = &validation.ca_certificate_refs;
    match validation.well_known_ca_certificates {
        None => check.count(at, "bundles of roots", refs.len(), 1, BUNDLES_MAX),
        Some(_) if !refs.is_empty() => {
            let message = "`caCertificateRefs` beside `wellKnownCACertificates`";
            check.error(FaultClass::FilterMismatch, at, message, "keep one of the two");
        }
        Some(_) => {}
    }
    for (i, one) in refs.iter().enumerate() {
        gateway::certificate(check, &format!("{at}[{i}]"), one, &["ConfigMap", "Secret"]);
    }
    let at = "spec.validation.subjectAltNames";
    check.count(at, "names", validation.subject_alt_names.len(), 0, NAMES_MAX);
    for (i, name) in validation.subject_alt_names.iter().enumerate() {
        subject_alt_name(check, &format!("{at}[{i}]"), name);
    }
}

fn subject_alt_name(check: &mut Check<'_, '_>, at: &str, name: &SubjectAltName) {
    let (own, other) = match name.r#type {
        SubjectAltNameType::Hostname => ("hostname", ("uri", &name.uri)),
        SubjectAltNameType::Uri => ("uri", ("hostname", &name.hostname)),
    };
    if let (field, Some(_)) = other {
        let (message, fix) = (format!("`{field}` beside another `type`"), format!("remove it, or use `{own}`"));
        check.error(FaultClass::FilterMismatch, &format!("{at}.{field}"), message, fix);
    }
    let Some(value) = name.value() else {
        let message = format!("a name without `{own}`");
        return check.error(FaultClass::MissingField, at, message, format!("add `{own}`, as its `type` asks"));
    };
    let path = format!("{at}.{own}");
    if name.r#type == SubjectAltNameType::Hostname {
        return text::hostname(check, &path, value, false);
    }
    let has_scheme = |(scheme, rest): (&str, &str)| {
        let mut letters = scheme.bytes();
        letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|letter| letter.is_ascii_alphanumeric() || b"+-.".contains(&letter))
            && !rest.is_empty()
    };
    let is_plain = value.len() <= URI_MAX && value.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_plain || !value.split_once("://").is_some_and(has_scheme) {
        let message = format!("{value:?} is not a URI with a scheme and an authority");
        check.error(FaultClass::InvalidHostname, &path, message, "write it whole: `spiffe://example.org/cart`");
    }
}

//! Policies of TLS towards instances: targets, and who is to be believed.

use super::{Check, gateway, reference, text};
use crate::fault::FaultClass;
use crate::resource::backend_tls_policy::BackendTlsPolicySpec;
use crate::resource::reference::TargetRef;

const BUNDLES_MAX: usize = 8;
const NAMES_MAX: usize = 5;
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
        text::hostname(check, &format!("{at}[{i}].hostname"), &name.hostname, true);
    }
}

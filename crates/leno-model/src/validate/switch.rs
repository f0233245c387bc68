//! Switches: what they degrade, what is answered meanwhile, when they are on; and what may never be degraded.

use super::{Check, reference, reply, text};
use crate::document::join;
use crate::fault::FaultClass;
use crate::name::{self, ServiceName};
use crate::resource::Resource;
use crate::resource::kind::{Kind, ResourceKey};
use crate::resource::metadata::Metadata;
use crate::resource::switch::{SwitchSpec, SwitchStateSpec, SwitchTarget, SwitchTargetKind};

const TARGETS_MAX: usize = 64;

pub(super) fn check(check: &mut Check<'_, '_>, spec: &SwitchSpec) {
    check.count("spec.targetRefs", "targets", spec.target_refs.len(), 1, TARGETS_MAX);
    let own = check.namespace().to_owned();
    for (i, target) in spec.target_refs.iter().enumerate() {
        let path = format!("spec.targetRefs[{i}]");
        let same = |other: &SwitchTarget| other.key(&own) == target.key(&own) && overlap(other, target);
        if spec.target_refs[..i].iter().any(same) {
            check.error(FaultClass::DuplicateReference, &path, "the same target twice", "remove one of the two");
        } else {
            self::target(check, &path, target);
        }
    }
    if let Some(written) = &spec.reply {
        reply::check(check, "spec.reply", written);
    }
}

pub(super) fn state(check: &mut Check<'_, '_>, spec: &SwitchStateSpec) {
    if let (Some(from), Some(until)) = (spec.from, spec.until)
        && until <= from
    {
        let fix = format!("write a moment after {from}");
        check.error(FaultClass::OutOfRange, "spec.until", format!("{until} is not after `from`"), fix);
    }
    let key = &check.written.resource.key;
    let switch = ResourceKey::new(Kind::Switch, &key.namespace, &key.name);
    if check.index.resource(&switch).is_none() {
        let fix = "it has an effect when there is one; check the name and namespace";
        check.warn(FaultClass::UnknownSwitch, "metadata.name", format!("there is no {switch}"), fix);
    }
}

/// Refuses the label on what a switch names: taking a switch away is for those whose it is.
pub(super) fn protection(check: &mut Check<'_, '_>) {
    let resource = &check.written.resource;
    if !resource.metadata.is_protected() {
        return;
    }
    if let Some(switch) = check.index.switches_of(&resource.key).first() {
        let path = join("metadata.labels", Metadata::PROTECTED);
        let fix = format!("take it out of the `targetRefs` of {switch} first");
        check.error(FaultClass::Protected, &path, format!("{switch} can degrade it"), fix);
    }
}

/// Whether two references to one resource mean some of the same rules.
fn overlap(a: &SwitchTarget, b: &SwitchTarget) -> bool {
    a.section_name.is_none() || b.section_name.is_none() || a.section_name == b.section_name
}

fn target(check: &mut Check<'_, '_>, path: &str, target: &SwitchTarget) {
    let name_path = format!("{path}.name");
    let is_service = target.kind == SwitchTargetKind::Service;
    if let Some(namespace) = &target.namespace
        && !text::label(check, FaultClass::InvalidNamespace, &format!("{path}.namespace"), namespace)
    {
        return;
    }
    if is_service && name::check_label(&target.name).is_err() {
        text::label(check, FaultClass::InvalidName, &name_path, &target.name);
        return;
    }
    if is_service && target.section_name.is_some() {
        let fix = "remove it, or name a route and one of its rules";
        let path = format!("{path}.sectionName");
        check.error(FaultClass::UnusedField, &path, "a service has no rules", fix);
        return;
    }
    let key = target.key(check.namespace());
    match check.index.resource(&key) {
        Some(found) if found.metadata.is_protected() => {
            let message = format!("{key} is labelled `{}: \"true\"`, which no switch may degrade", Metadata::PROTECTED);
            check.error(FaultClass::Protected, &name_path, message, "remove it from `targetRefs`");
        }
        Some(found) => section(check, path, target, &found),
        None if !is_service => {
            let fix = "it is degraded when it appears; check the name and namespace";
            check.warn(FaultClass::UnknownRoute, &name_path, format!("there is no {key}"), fix);
        }
        None => {
            let service = ServiceName { namespace: key.namespace, name: key.name };
            if check.index.service(&service.namespace, &service.name).is_none() {
                reference::unknown_service(check, &name_path, &service.namespace, &service.name);
            }
        }
    }
}

fn section(check: &mut Check<'_, '_>, path: &str, target: &SwitchTarget, found: &Resource) {
    let Some(section) = &target.section_name else { return };
    let names = found.spec.rule_names();
    if !names.contains(&section.as_str()) {
        let fix = match names.is_empty() {
            true => "give the rule a `name`, or remove this for all rules".to_owned(),
            false => format!("use one of {}", names.join(", ")),
        };
        let path = format!("{path}.sectionName");
        check.error(FaultClass::UnknownSection, &path, format!("{} has no rule {section:?}", found.key), fix);
    }
}

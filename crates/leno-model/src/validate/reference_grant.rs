//! Grants: who is let in, and to what.
//!
//! A grant for kinds that leno does not follow across namespaces harms nobody: it is a warning, so that resources which
//! are written for other gateways too apply as they are.

use super::{Check, text};
use crate::fault::{FaultClass, closest};
use crate::resource::kind::{GATEWAY_GROUP, Kind, LENO_GROUP};
use crate::resource::reference_grant::{GrantFrom, GrantTo, ReferenceGrantSpec};

const ENTRIES_MAX: usize = 16;

pub(super) fn check(check: &mut Check<'_, '_>, spec: &ReferenceGrantSpec) {
    check.count("spec.from", "routes", spec.from.len(), 1, ENTRIES_MAX);
    check.count("spec.to", "services", spec.to.len(), 1, ENTRIES_MAX);
    for (i, from) in spec.from.iter().enumerate() {
        from_of(check, &format!("spec.from[{i}]"), from);
    }
    for (i, to) in spec.to.iter().enumerate() {
        to_of(check, &format!("spec.to[{i}]"), to);
    }
}

fn from_of(check: &mut Check<'_, '_>, at: &str, from: &GrantFrom) {
    if text::label(check, FaultClass::InvalidNamespace, &format!("{at}.namespace"), &from.namespace)
        && from.namespace == check.namespace()
    {
        let message = "routes of the grant's own namespace need none";
        check.warn(
            FaultClass::CrossNamespace,
            &format!("{at}.namespace"),
            message,
            "name another namespace, or remove it",
        );
    }
    if from.route().is_none() {
        let routes: Vec<&str> = Kind::ALL.into_iter().filter(|kind| kind.is_route()).map(Kind::as_str).collect();
        let message = format!("leno asks for no grant to {} of group {:?}: this has no effect", from.kind, from.group);
        let fix = match closest(&from.kind, routes.iter().copied()) {
            Some(kind) => format!("write `group: {GATEWAY_GROUP}` and `kind: {kind}`"),
            None => format!("use one of {}, of group {GATEWAY_GROUP}", routes.join(", ")),
        };
        check.warn(FaultClass::UnsupportedReference, &format!("{at}.kind"), message, fix);
    }
}

fn to_of(check: &mut Check<'_, '_>, at: &str, to: &GrantTo) {
    let name_path = format!("{at}.name");
    if !to.is_service() {
        let message = format!("leno asks for no grant of {} of group {:?}: this has no effect", to.kind, to.group);
        let fix = format!("use `group: \"\"` and `kind: Service`, or `group: {LENO_GROUP}` and `kind: ServiceVersion`");
        return check.warn(FaultClass::UnsupportedReference, &format!("{at}.kind"), message, fix);
    }
    match (to.name.as_deref(), to.kind.as_str()) {
        (None, _) => {}
        (Some(name), "Service") => drop(text::label(check, FaultClass::InvalidName, &name_path, name)),
        (Some(name), _) => {
            let parts = name.split_once('@');
            let is_label = |text: &str| crate::name::check_label(text).is_ok();
            if !parts.is_some_and(|(service, version)| is_label(service) && is_label(version)) {
                let message = format!("{name:?} does not say which version of which service");
                check.error(FaultClass::InvalidVersion, &name_path, message, "write `name@version`, as `reviews@v2`");
            }
        }
    }
}

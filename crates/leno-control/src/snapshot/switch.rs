//! Switches that are on: what a rule is answered with instead of what it says.

use leno_model::name::ServiceName;
use leno_model::resource::kind::{Kind, ResourceKey};
use leno_model::resource::switch::SwitchSpec;
use leno_model::snapshot::{Action, Name, Origin, Rule};

use super::{View, reply};
use crate::merge::Entry;

/// Has a rule answered by the oldest switch that is on for its route, or for the service that it is for.
pub(super) fn degrade(view: &View<'_>, rule: &mut Rule, route: Option<&Entry>, service: Option<&ServiceName>) {
    if route.is_some_and(|route| route.resource.metadata.is_protected()) {
        return;
    }
    let of_route = route.and_then(|route| on(view, &route.resource.key, rule.origin.name.as_deref()));
    let of_service = || {
        let key = service.map(|service| ResourceKey::new(Kind::Service, &service.namespace, &service.name))?;
        let declared = view.merged.get(&key);
        match declared.is_some_and(|entry| entry.resource.metadata.is_protected()) {
            true => None,
            false => on(view, &key, None),
        }
    };
    if let Some((switch, spec)) = of_route.or_else(of_service) {
        let resource: Name = switch.resource.key.to_string().into();
        let says = format!("switched off by {resource}\n");
        rule.action = Action::Reply(reply::of(spec.reply.as_ref(), &says));
        rule.origin = Origin { resource, ..rule.origin.clone() };
    }
}

/// The oldest switch that is on for a target, or for one of its rules.
fn on<'a>(view: &View<'a>, target: &ResourceKey, rule: Option<&str>) -> Option<(&'a Entry, &'a SwitchSpec)> {
    let merged = view.merged;
    let means = |switch: &Entry, spec: &SwitchSpec| {
        spec.target_refs.iter().any(|reference| {
            let section = reference.section_name.as_deref();
            reference.key(&switch.resource.key.namespace) == *target && (section.is_none() || section == rule)
        })
    };
    let is_on = |switch: &Entry| merged.switch_state(&switch.resource.key).is_some_and(|(_, _, on)| on);
    let found = merged.switches_of(target).into_iter().find(|(switch, spec)| means(switch, spec) && is_on(switch));
    found.map(|(switch, spec)| (&**switch, spec))
}

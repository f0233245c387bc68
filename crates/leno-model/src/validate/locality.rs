//! Localities: places that can be told apart, and shares that are a whole.

use super::Check;
use crate::fault::FaultClass;
use crate::resource::locality::{Distribution, LocalitySpec, PlacePattern};

const PRIORITIES_MAX: usize = 5;
const FAILOVER_MAX: usize = 16;
const DISTRIBUTE_MAX: usize = 64;
const PLACES_MAX: usize = 16;
const NAME_MAX: usize = 128;

pub(super) fn check(check: &mut Check<'_, '_>, at: &str, locality: &LocalitySpec) {
    let path = format!("{at}.failoverPriority");
    check.count(&path, "entries", locality.failover_priority.len(), 0, PRIORITIES_MAX);
    for (i, name) in locality.failover_priority.iter().enumerate() {
        let at = format!("{path}[{i}]");
        if !is_name(name) {
            let fix = format!("write `region`, `zone` or the name of a label, 1 to {NAME_MAX} characters");
            check.error(FaultClass::InvalidName, &at, format!("{name:?} is not the name of a label"), fix);
        }
        if locality.failover_priority[..i].contains(name) {
            check.error(FaultClass::DuplicateName, &at, "the same entry stands twice", "remove one of the two");
        }
    }
    failover(check, &format!("{at}.failover"), locality);
    let path = format!("{at}.distribute");
    check.count(&path, "entries", locality.distribute.len(), 0, DISTRIBUTE_MAX);
    for (i, distribution) in locality.distribute.iter().enumerate() {
        distribute(check, &format!("{path}[{i}]"), distribution);
        covered(check, &format!("{path}[{i}].from"), &distribution.from, &locality.distribute[..i]);
    }
}

/// The first entry that is for a caller counts: another one behind it is never looked at.
fn covered(check: &mut Check<'_, '_>, at: &str, from: &str, before: &[Distribution]) {
    let Some(pattern) = PlacePattern::parse(from) else { return };
    let covers = |other: &&Distribution| PlacePattern::parse(&other.from).is_some_and(|other| other.covers(&pattern));
    let Some(other) = before.iter().find(covers) else { return };
    if PlacePattern::parse(&other.from) == Some(pattern) {
        let message = "an entry before this one is for the same callers";
        check.error(FaultClass::DuplicateName, at, message, "make one of the two");
    } else {
        let message = format!("no caller comes as far as this entry: `{}` before it is for all of them", other.from);
        check.error(FaultClass::UnusedField, at, message, "write this entry before that one, or remove it");
    }
}

fn failover(check: &mut Check<'_, '_>, path: &str, locality: &LocalitySpec) {
    check.count(path, "entries", locality.failover.len(), 0, FAILOVER_MAX);
    for (i, failover) in locality.failover.iter().enumerate() {
        for (field, name) in [("from", &failover.from), ("to", &failover.to)] {
            if !is_name(name) {
                let message = format!("{name:?} is not the name of a region");
                check.error(
                    FaultClass::InvalidName,
                    &format!("{path}[{i}].{field}"),
                    message,
                    "write the region's name",
                );
            }
        }
        if failover.from == failover.to {
            let message = "a region that stands in for itself";
            check.error(FaultClass::UnknownValue, &format!("{path}[{i}].to"), message, "name another region");
        }
        if locality.failover[..i].iter().any(|other| other.from == failover.from) {
            let message = "an entry before this one is for the same region";
            check.error(FaultClass::DuplicateName, &format!("{path}[{i}].from"), message, "remove one of the two");
        }
    }
}

fn distribute(check: &mut Check<'_, '_>, at: &str, distribution: &Distribution) {
    place(check, &format!("{at}.from"), &distribution.from);
    let path = format!("{at}.to");
    check.count(&path, "places", distribution.to.len(), 1, PLACES_MAX);
    for (i, to) in distribution.to.iter().enumerate() {
        place(check, &format!("{path}[{i}].place"), &to.place);
        if distribution.to[..i].iter().any(|other| other.place == to.place) {
            let path = format!("{path}[{i}].place");
            check.error(FaultClass::DuplicateName, &path, "the same place stands twice", "keep one with both shares");
        }
    }
    let sum: u32 = distribution.to.iter().map(|to| to.share.get()).sum();
    if sum != 100 && !distribution.to.is_empty() {
        let message = format!("the shares are {sum} together");
        check.error(FaultClass::OutOfRange, &path, message, "make them 100");
    }
}

fn place(check: &mut Check<'_, '_>, at: &str, text: &str) {
    if PlacePattern::parse(text).is_none() || text.len() > 2 * NAME_MAX {
        let fix = "write `REGION/ZONE` or `REGION`, with `*` for any, as `eu-west/a` or `eu-west/*`";
        check.error(FaultClass::UnknownValue, at, format!("{text:?} is not a place"), fix);
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_MAX && text.bytes().all(|b| b.is_ascii_graphic())
}

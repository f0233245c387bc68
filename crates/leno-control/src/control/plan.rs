//! What a change comes to on one state of the resources: pure, so that it can be planned again when another server was
//! faster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leno_model::document::Written;
use leno_model::fault::{self, Fault, FaultClass};
use leno_model::resource::kind::ResourceKey;
use leno_model::validate::validate;

use super::{Apply, Delete, Rollback};
use crate::merge::{Entry, KnownWorld, Merged};
use crate::revision::{Action, Change, Stored};
use crate::{Directory, Error};

/// What a commit is to do.
pub(super) struct Plan {
    pub(super) set: Arc<str>,
    pub(super) summary: String,
    pub(super) changes: Vec<Change>,
    pub(super) warnings: Vec<Fault>,
}

/// Every resource of the set as it will stand, and with `prune` the deletion of the others of the set.
pub(super) fn apply(merged: &Merged, directory: &dyn Directory, apply: &Apply) -> Result<Plan, Error> {
    let known = KnownWorld { merged, directory, pruned: apply.prune.then_some(&apply.set) };
    let mut faults = apply.parsed.faults.clone();
    faults.extend(validate(&apply.parsed.resources, &known));
    let mut changes = Vec::new();
    for written in &apply.parsed.resources {
        let key = &written.resource.key;
        let before = merged.get(key);
        if let Some(entry) = before.filter(|entry| entry.set != apply.set) {
            let owned = owned(key, entry);
            faults.push(written.fault(FaultClass::Owned, "metadata.name", owned.to_string(), owned.fix()));
        }
        expect(key, before, apply.expected)?;
        changes.push(Change {
            resource: key.clone(),
            before: before.map(|e| Stored::from(&**e)),
            after: Some(after(written, before, &apply.set)),
        });
    }
    fault::sort(&mut faults);
    if fault::refuses(&faults) {
        return Err(Error::Faults(faults));
    }
    if apply.prune {
        let kept: BTreeSet<&ResourceKey> = apply.parsed.resources.iter().map(|written| &written.resource.key).collect();
        let gone = |entry: &&Arc<Entry>| entry.set == apply.set && !kept.contains(&entry.resource.key);
        changes.extend(merged.iter().filter(gone).map(deletion));
    }
    let summary = apply.summary.clone().unwrap_or_else(|| summarise("apply", &changes));
    Ok(Plan { set: apply.set.clone(), summary, changes, warnings: faults })
}

/// The deletion of all of them, or a refusal.
pub(super) fn delete(merged: &Merged, delete: &Delete) -> Result<Plan, Error> {
    let mut changes = Vec::new();
    for key in &delete.resources {
        let Some(entry) = merged.get(key) else { return Err(Error::NotFound(key.clone())) };
        if entry.set != delete.set {
            return Err(owned(key, entry));
        }
        expect(key, Some(entry), delete.expected)?;
        changes.push(deletion(entry));
    }
    let summary = delete.summary.clone().unwrap_or_else(|| summarise("delete", &changes));
    Ok(Plan { set: delete.set.clone(), summary, changes, warnings: Vec::new() })
}

/// Undoes `undo`, the newest first, for resources of the set. What belongs to another set by now stays.
pub(super) fn rollback(merged: &Merged, rollback: &Rollback, undo: &[Change]) -> Result<Plan, Error> {
    let mut wanted: BTreeMap<&ResourceKey, Option<&Stored>> = BTreeMap::new();
    for change in undo {
        if rollback.resource.as_ref().is_none_or(|only| *only == change.resource) {
            wanted.insert(&change.resource, change.before.as_ref());
        }
    }
    let mut changes = Vec::new();
    for (key, stored) in wanted {
        let now = merged.get(key);
        let foreign = now.filter(|entry| entry.set != rollback.set);
        if let Some(entry) = foreign {
            if rollback.resource.is_some() {
                return Err(owned(key, entry));
            }
            continue;
        }
        let after = stored.filter(|stored| stored.set == rollback.set).cloned();
        if now.is_none() && after.is_none() {
            continue;
        }
        changes.push(Change { resource: key.clone(), before: now.map(|entry| Stored::from(&**entry)), after });
    }
    let summary = rollback.summary.clone().unwrap_or_else(|| format!("roll back to revision {}", rollback.revision));
    Ok(Plan { set: rollback.set.clone(), summary, changes, warnings: Vec::new() })
}

/// Refuses a change to what was changed since the caller read it.
fn expect(key: &ResourceKey, entry: Option<&Arc<Entry>>, expected: Option<u64>) -> Result<(), Error> {
    let found = entry.map_or(0, |entry| entry.revision);
    match expected {
        // Later is what the caller cannot have seen; a set may hold resources of several earlier revisions.
        Some(expected) if found > expected || (expected > 0 && found == 0) => Err(Error::Conflict {
            resource: key.clone(),
            expected,
            found,
            author: entry.map(|entry| entry.author.clone()).unwrap_or_default(),
        }),
        _ => Ok(()),
    }
}

/// A written resource as it will be kept. The commit fills in revision, author and time.
fn after(written: &Written, before: Option<&Arc<Entry>>, set: &Arc<str>) -> Stored {
    let unchanged = before.filter(|entry| entry.value == written.value);
    Stored {
        value: written.value.clone(),
        set: set.clone(),
        file: written.file.clone(),
        line: written.place().line,
        created: before.map_or(0, |entry| entry.created),
        revision: unchanged.map_or(0, |entry| entry.revision),
        author: unchanged.map(|entry| entry.author.clone()).unwrap_or_default(),
        updated: unchanged.map(|entry| entry.updated).unwrap_or_default(),
    }
}

fn deletion(entry: &Arc<Entry>) -> Change {
    Change { resource: entry.resource.key.clone(), before: Some(Stored::from(&**entry)), after: None }
}

fn owned(key: &ResourceKey, entry: &Entry) -> Error {
    let place = format!("{}:{}", entry.file, entry.line);
    Error::Owned { resource: key.clone(), set: entry.set.clone(), place }
}

fn summarise(verb: &str, changes: &[Change]) -> String {
    let changed: Vec<&Change> = changes.iter().filter(|c| c.action() != Action::Unchanged).collect();
    match changed[..] {
        [only] => format!("{verb} {}", only.resource),
        ref several => format!("{verb} {} resources", several.len()),
    }
}
